"""`Bare`: what a program sees of a driver that has no pool in front of it, where a pool does otherwise.

A leaf: a plain record, filled by a plugin and read by `dbapi_pool.manage`. It must never know a driver.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..handles import PooledConnection

__all__ = ["Bare"]


@dataclass(frozen=True)
class Bare:
    """The ways of the bare driver. An error is written as its PEP 249 name, and its arguments."""

    handle_base: type[PooledConnection] | None = None
    """As `Driver.handle_base`, for connections that do in every way as the driver's own."""
    closed: tuple[object, ...] = ("InterfaceError", "the connection is closed")
    """What using a connection raises after its `close()`."""
    cursor_closed: str | None = None
    """The text of that, if it is one of its cursors that is used; None: the same."""
    closed_twice: tuple[object, ...] | None = None
    """What a second `close()` raises; None: nothing."""
    environment: tuple[str, ...] = ()
    """The environment variables that decide, besides the arguments, where `connect` leads, and how."""
    connects_later: bool = False
    """Whether the plugin has `connect` put off what takes long, and does that in `Driver.connected`."""
    unwrapping: tuple[str, ...] = ()
    """Functions (`"module:name"`), and methods in Python (`"module:class.name"`), that look in C
    whether they are given a connection of the driver."""
