"""A password that must never be seen, and everything that could show it.

Must never know a pool.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from types import TracebackType
from typing import Any

CORE = "c4n" + "4ry"
"""What is looked for. In two parts, lest a traceback's line of source show it."""

PASSWORD = f"p@{CORE}/w%rd:1?#"
"""With what URLs have trouble with; its core is the same in any encoding."""


class Watch(logging.Handler):
    """A context manager that hears everything: logs of every level, errors of threads, errors that
    could not be raised. What else is to be looked at is given to `show`, `error` and `text`.
    """

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(name)s %(threadName)s %(message)s"))
        self.texts: list[str] = []

    # -- what is looked at -------------------------------------------------------------------------

    def text(self, *texts: str) -> None:
        """Any text."""
        self.texts.extend(texts)

    def show(self, *things: Any) -> None:
        """How things look."""
        for one in things:
            self.text(repr(one), str(one), f"{one}")

    def error(self, exc: BaseException) -> None:
        """An error, with its causes and the traceback; not the values of local variables, which only
        a debugger shows."""
        self.show(exc, exc.args, getattr(exc, "__notes__", ()))
        self.text("".join(traceback.format_exception(exc)))

    @property
    def seen(self) -> list[str]:
        """The texts in which the password is."""
        return [text for text in self.texts if CORE in text]

    # -- hearing -----------------------------------------------------------------------------------

    def emit(self, record: logging.LogRecord) -> None:
        """A log record."""
        self.text(self.format(record), repr(record.args))

    def __enter__(self) -> Watch:
        root = logging.getLogger()
        self._before = root.level, threading.excepthook, sys.unraisablehook
        root.addHandler(self)
        root.setLevel(logging.DEBUG)
        threading.excepthook = lambda args: self.error(args.exc_value or args.exc_type())
        sys.unraisablehook = lambda args: self.error(args.exc_value or args.exc_type())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        root = logging.getLogger()
        root.removeHandler(self)
        level, threading.excepthook, sys.unraisablehook = self._before
        root.setLevel(level)
