"""`Dirt`: one thing that a borrower leaves behind, and how the next one would see it.

A leaf: a plain record. It must never know a driver or a pool.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Dirt"]


@dataclass(frozen=True)
class Dirt:
    """One kind of dirt.

    Both functions get the pooled handle, as any borrower has it.
    """

    name: str
    """A few words: shown in test ids and reports."""
    act: Callable[[Any], object]
    """What the first borrower does. It may leave the connection in any state."""
    look: Callable[[Any], object]
    """What can be seen of it: a value to compare with `==`. Before the act and after a return it
    must be the same; between the two it must differ, or the kit says that this dirt shows nothing."""
    replaced: bool = False
    """Whether it is right that the next borrower gets another driver connection."""

    def __str__(self) -> str:
        return self.name
