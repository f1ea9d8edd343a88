"""asyncio in front of the same pool, for any DB-API driver: `AsyncPool`. See docs/asyncio.md."""

from __future__ import annotations

from .connections import AsyncConnection
from .cursors import AsyncCursor
from .pool import AsyncPool

__all__ = ["AsyncConnection", "AsyncCursor", "AsyncPool"]
