"""The log of one pool: a logger of its own, and what is said again and again once a minute only.

A leaf. It must never know the pool.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from typing import Any

ROOT = "dbapi_pool"
EVERY = 60.0
"""Seconds within which the same is said once."""

_LEVELS = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)


def logger_of(name: str) -> logging.Logger:
    """The logger of the pool of that name: `dbapi_pool.<name>`, and an underscore in it for each dot,
    which would mean a logger below another."""
    logger = logging.getLogger(ROOT).getChild(str(name).replace(".", "_"))
    # Asked about a level for the first time, logging takes a lock of its own, before Python 3.13 in a
    # way in which an exception may leave it locked for ever; afterwards it remembers.
    for level in _LEVELS:
        logger.isEnabledFor(level)
    return logger


def whereabouts(exc: BaseException) -> str:
    """What a log says of an error: its class and the line that raised it. Not its text, in which a
    creator or a driver may have put a password."""
    trace = exc.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(exc).__name__
    return f"{type(exc).__name__} at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"


class Log:
    """What one pool says. Every line begins with its name, as not every handler shows a logger's.

    WARNING is for what somebody should look into, INFO for what the pool has put right by itself or
    was told to do, DEBUG for the life of each connection.
    """

    def __init__(self, name: str, now: Callable[[], float]) -> None:
        """`now`: tells the time in seconds."""
        self.name = name
        self._logger = logger_of(name)
        self._now = now
        # When that was last said, and how often it was not said since. Without a lock: two threads that
        # say the same at the same instant may both be heard.
        self._said: dict[Hashable, tuple[float, int]] = {}

    def __call__(self, level: int, text: str, *args: object, **extra: Any) -> None:
        """Say it; `args` and `extra` as for `Logger.log`."""
        self._logger.log(level, f"%s: {text}", self.name, *args, stacklevel=2, **extra)

    def seldom(self, level: int, what: Hashable, text: str, *args: object) -> bool:
        """Say it, but the same `what` only once in `EVERY` seconds; then, how often it was left out.
        Whether it was said."""
        now = self._now()
        last, left_out = self._said.get(what, (None, 0))
        if last is not None and now - last < EVERY:
            self._said[what] = last, left_out + 1
            return False
        self._said[what] = now, 0
        if last is not None and left_out:
            text = f"{text} (and %d times more in the last %.0f s)"
            args = (*args, left_out, now - last)
        self._logger.log(level, f"%s: {text}", self.name, *args, stacklevel=2)
        return True
