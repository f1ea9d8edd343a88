"""For testing pools, and code that uses one: a fake driver and a virtual clock.

    with VirtualClock() as clock, FakeDriver(clock) as fake:
        ...

Nothing here is imported by the package itself.
"""

from __future__ import annotations

from .clock import AllBlocked, Task, VirtualClock
from .fake import FakeConnection, FakeCursor, FakeDriver, FakeDriverPlugin, SerializationError

__all__ = [
    "AllBlocked",
    "FakeConnection",
    "FakeCursor",
    "FakeDriver",
    "FakeDriverPlugin",
    "SerializationError",
    "Task",
    "VirtualClock",
]
