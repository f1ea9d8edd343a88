"""Numbers as people read them. A leaf."""

from __future__ import annotations

from math import isinf


def duration(seconds: float) -> str:
    """In the unit that suits it."""
    if isinf(seconds):
        return "for ever"
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1e3:.1f} ms" if seconds >= 0.001 else f"{seconds * 1e6:.1f} us"


def several(number: int, one: str, many: str = "") -> str:
    """`1 process`, `8 processes`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
