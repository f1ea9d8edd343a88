"""What values are refused at the door, whether they are settings or given to a call.

A leaf: knows nobody but `errors`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from .errors import PoolSettingError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

Check = Callable[[str, "Any"], None]
"""Called with the name of a setting and its value; raises `PoolSettingError`."""


def _refuse(name: str, value: Any, allowed: str) -> None:
    raise PoolSettingError(f"{name}={value!r}: must be {allowed}")


def whole(least: int, optional: bool = False) -> Check:
    """A whole number, so large at least."""
    allowed = f"a whole number, {least} or more" + (", or None" if optional else "")

    def check(name: str, value: Any) -> None:
        if value is None and optional:
            return
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            _refuse(name, value, allowed)

    return check


def seconds(above_zero: bool = False, optional: bool = False) -> Check:
    """A time that ends."""
    least = "more than 0" if above_zero else "0 or more"
    allowed = f"seconds, {least} and finite" + (", or None" if optional else "")

    def check(name: str, value: Any) -> None:
        if value is None and optional:
            return
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            _refuse(name, value, allowed)
        if not math.isfinite(value) or value < 0 or (above_zero and value == 0):
            _refuse(name, value, allowed)

    return check


def one_of(*choices: str) -> Check:
    """A text among these."""

    def check(name: str, value: Any) -> None:
        if not isinstance(value, str) or value not in choices:
            _refuse(name, value, "one of " + ", ".join(map(repr, choices)))

    return check


def is_flag(name: str, value: Any) -> None:
    """True or False."""
    if not isinstance(value, bool):
        _refuse(name, value, "True or False")


def instance_of(kind: type) -> Check:
    """An object of this class, or None."""

    def check(name: str, value: Any) -> None:
        if value is not None and not isinstance(value, kind):
            _refuse(name, value, f"an instance of {kind.__name__}, or None")

    return check


def is_setup(name: str, value: Any) -> None:
    """What may be run on new connections."""
    if value is None or isinstance(value, str) or callable(value):
        return
    if isinstance(value, Sequence) and all(isinstance(sql, str) for sql in value):
        return
    _refuse(name, value, "SQL text, a list of SQL texts, a callable, or None")


def check_timeout(value: Any) -> None:
    """Refuse a `timeout=` given to a call."""
    seconds()("timeout", value)


def check_count(name: str, value: Any) -> None:
    """Refuse a number given to a call that is not a whole one, 0 or more."""
    whole(0)(name, value)
