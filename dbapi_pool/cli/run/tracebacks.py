"""Tracebacks that show the program and its driver, and nothing that stands between or before them.

Must never hide a frame of anybody else's.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

__all__ = ["hide", "outermost"]

Trace = TracebackType | None


def outermost(program: Callable[[], None]) -> None:
    """Call it. What led here is hidden too."""
    program()


def hide() -> None:
    """From now on tracebacks are shown without this package's frames: of what ends the program or a
    thread, and of what the program shows by `traceback` or `logging`."""
    sys.excepthook = _excepthook
    threading.excepthook = _thread_excepthook
    _hide_from_traceback_module()


def _excepthook(kind: type[BaseException], exc: BaseException, trace: Trace) -> None:
    _clean(exc, set())
    sys.__excepthook__(kind, exc, visible(trace))


def _thread_excepthook(args: Any) -> None:
    if args.exc_value is not None:
        _clean(args.exc_value, set())
    shown = (args.exc_type, args.exc_value, visible(args.exc_traceback), args.thread)
    threading.__excepthook__(threading.ExceptHookArgs(shown))


def _clean(exc: BaseException, seen: set[int]) -> None:
    """An exception, and those that led to it. For when nobody else will look at it."""
    seen.add(id(exc))
    exc.__traceback__ = visible(exc.__traceback__)
    for other in (exc.__cause__, exc.__context__, *getattr(exc, "exceptions", ())):
        if isinstance(other, BaseException) and id(other) not in seen:
            _clean(other, seen)


def _hide_from_traceback_module() -> None:
    # Whatever that module shows goes through this, causes and contexts too.
    original = traceback.TracebackException.__init__

    def init(
        self: Any, exc_type: Any, exc_value: Any, exc_traceback: Any, *args: Any, **kwargs: Any
    ) -> None:
        original(self, exc_type, exc_value, visible(exc_traceback), *args, **kwargs)

    traceback.TracebackException.__init__ = init  # type: ignore[method-assign]


def visible(trace: Trace) -> Trace:
    """The same without our frames, and what led to the program's first one."""
    entries: list[TracebackType] = []
    while trace is not None:
        if trace.tb_frame.f_code is outermost.__code__:
            entries.clear()
        elif not _is_ours(trace.tb_frame):
            entries.append(trace)
        trace = trace.tb_next
    shown: Trace = None
    for entry in reversed(entries):
        shown = TracebackType(shown, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return shown


def _is_ours(frame: FrameType) -> bool:
    root = str(frame.f_globals.get("__name__", "")).partition(".")[0]
    return root == "dbapi_pool" or root.startswith("dbapi_pool_")
