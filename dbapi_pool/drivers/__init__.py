"""What a plugin author needs: `Driver`, with a portable answer to everything, and `hookimpl`.

pluggy is imported when `hookimpl` is first asked for, not with the package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..process import watched
from . import registry
from .base import Driver

if TYPE_CHECKING:
    from .hookspecs import hookimpl

__all__ = ["Driver", "hookimpl", "listen", "unlisten"]


def listen(listener: object) -> None:
    """Let an object with event hooks, marked with `hookimpl`, listen to every pool of this process,
    also to those that there are already.

    Raises `ValueError` for an object without an event hook, with one that there is not, or that listens
    already. `Pool.register` is for one pool.
    """
    registry.listening([listener])  # refuses what is none
    registry.plugin_manager().register(listener)
    _tell_pools()


def unlisten(listener: object) -> None:
    """Let it listen no more. Raises `ValueError` if it does not."""
    manager = registry.plugin_manager()
    if not manager.is_registered(listener):
        raise ValueError(f"an object of type {type(listener).__name__} does not listen")
    manager.unregister(listener)
    _tell_pools()


def _tell_pools() -> None:
    for pool in watched():
        pool.note_listeners()


def __getattr__(name: str) -> Any:
    if name == "hookimpl":
        from .hookspecs import hookimpl

        return hookimpl
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
