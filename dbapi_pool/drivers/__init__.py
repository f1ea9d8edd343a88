"""What a plugin author needs: `Driver`, with a portable answer to everything, and `hookimpl`.

pluggy is imported when `hookimpl` is first asked for, not with the package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .base import Driver

if TYPE_CHECKING:
    from .hookspecs import hookimpl

__all__ = ["Driver", "hookimpl"]


def __getattr__(name: str) -> Any:
    if name == "hookimpl":
        from .hookspecs import hookimpl

        return hookimpl
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
