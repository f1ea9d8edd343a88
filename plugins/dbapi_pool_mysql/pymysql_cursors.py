"""Shortcuts for PyMySQL's cursors, which ask several times for each statement whether a result is
unread. Where none is, these say so at once; else, the methods that they stand for are called.

They stand for PyMySQL's own methods only, never for those of a user's class. Must never know a pool.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from .cursors import forget, is_over


@functools.cache
def shortcuts(home: Any) -> Callable[[Any, dict[str, Any]], None]:
    """For `cursors.prepared`. `home`: PyMySQL's module of cursors."""
    kinds = (home.Cursor, home.SSCursor)
    moves_on = [kind.nextset for kind in kinds]
    closes = [kind.close for kind in kinds]

    def add(cls: Any, body: dict[str, Any]) -> None:
        if cls._nextset is not home.Cursor._nextset or cls.nextset not in moves_on:
            return
        body["nextset"] = _nextset(body["nextset"])
        if cls.close in closes:
            body["close"] = _close(body["close"])

    return add


def _nextset(full: Callable[[Any], Any]) -> Callable[[Any], Any]:
    @functools.wraps(full)
    def nextset(self: Any) -> Any:
        result = self._result
        if (result is None or not result.has_next) and self._raw_connection is not None:
            return None
        return full(self)

    return nextset


def _close(full: Callable[[Any], Any]) -> Callable[[Any], Any]:
    @functools.wraps(full)
    def close(self: Any) -> Any:
        result = self._result
        if result is not None and (result.has_next or result.unbuffered_active):
            return full(self)
        self._raw_connection = None
        if is_over(self):
            forget(self)
        return None

    return close
