"""Which calls of `connect` may share a pool: those with equal arguments, in the same surroundings.

A key tells nothing: whatever is text in the arguments, the password among it, is only in a digest that
cannot be made again outside of this process. This module must never know a pool.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

__all__ = ["Key", "NoKey", "key_of"]

Key = tuple[bytes, tuple[Hashable, ...]]

_SECRET = os.urandom(32)
_DEPTH = 20  # of arguments within arguments


class NoKey(Exception):
    """It cannot be told whether two such calls mean the same."""


def key_of(args: Sequence[Any], kwargs: Mapping[str, Any], environment: Sequence[str]) -> Key:
    """What calls with these arguments have in common.

    `environment`: the variables that the driver reads. A relative path depends on the working
    directory, and any argument may be one. Raises `NoKey` for an argument that can change in place,
    unless it is a list, a dictionary or a set.
    """
    parts = _Parts()
    parts.add([_directory(), [os.environ.get(name) for name in environment]])
    parts.add(args)
    parts.add(kwargs)
    digest = hashlib.blake2b("".join(parts.texts).encode("utf-8", "surrogatepass"), key=_SECRET)
    return digest.digest(), tuple(parts.objects)


def _directory() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return None


class _Parts:
    """The arguments, taken apart: text, and what goes into a key as it is (classes, functions)."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.objects: list[Hashable] = []

    def add(self, value: Any, depth: int = 0) -> None:
        """Note a value, so that no two that differ make the same notes."""
        if depth > _DEPTH:
            raise NoKey("arguments within arguments, without end")
        kind = type(value)
        if kind in _PLAIN:
            text = repr(value)
            self.texts.append(f"{kind.__name__} {len(text)} {text};")
        elif kind in _CONTAINERS:
            self.texts.append(f"{kind.__name__} {len(value)}:")
            for item in _CONTAINERS[kind](value):
                self.add(item, depth + 1)
        else:
            self._add_object(value)

    def _add_object(self, value: Any) -> None:
        try:
            hash(value)
        except Exception as exc:
            raise NoKey(f"an argument of type {type(value).__name__} can change") from exc
        self.texts.append(f"object {len(self.objects)};")
        self.objects.append(value)


_PLAIN = frozenset({str, bytes, int, float, complex, bool, type(None)})


def _in_order(value: Any) -> Any:
    """What has no order of its own, in one that equal ones share."""
    return sorted(value, key=repr)


_CONTAINERS: dict[type, Callable[[Any], Any]] = {
    list: iter,
    tuple: iter,
    dict: lambda value: _in_order(value.items()),
    set: _in_order,
    frozenset: _in_order,
}
