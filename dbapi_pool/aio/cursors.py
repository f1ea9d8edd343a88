"""`AsyncCursor`: a cursor of the driver's own kind whose methods are awaited.

It must never know the pool, nor a thread: it calls by way of its connection.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from .connections import AsyncConnection

T = TypeVar("T")

_AT_A_TIME = 100  # rows that iterating fetches at a time, where `arraysize` says nothing


class Opening(Generic[T]):
    """What is awaited, or entered with `async with`, which also leaves it."""

    __slots__ = ("_coroutine", "_opened")

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self._coroutine = coroutine
        self._opened: Any = None

    def __await__(self) -> Generator[Any, Any, T]:
        return self._coroutine.__await__()

    async def __aenter__(self) -> T:
        self._opened = await self._coroutine
        return await self._opened.__aenter__()  # type: ignore[no-any-return]

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        opened, self._opened = self._opened, None
        await opened.__aexit__(kind, exc, trace)


class AsyncCursor:
    """A cursor. Every method of the driver's is there, to be awaited; what is no method is read as it
    is. Iterating fetches `arraysize` rows at a time, or 100 if that is 1 (PEP 249's default)."""

    __slots__ = ("_connection", "_cursor", "_rows")

    def __init__(self, connection: AsyncConnection, cursor: Any) -> None:
        self._connection = connection
        self._cursor = cursor
        self._rows: deque[Any] = deque()  # fetched for an iteration, and not given out yet

    @property
    def connection(self) -> AsyncConnection:
        """The borrowed connection that it belongs to."""
        return self._connection

    @property
    def arraysize(self) -> int:
        """As PEP 249 has it; may be set."""
        return self._cursor.arraysize  # type: ignore[no-any-return]

    @arraysize.setter
    def arraysize(self, rows: int) -> None:
        self._cursor.arraysize = rows

    async def execute(self, sql: Any, *args: Any, **kwargs: Any) -> AsyncCursor:
        """Run a statement; arguments as the driver's. Returns itself."""
        self._rows.clear()
        await self._call(self._cursor.execute, sql, *args, **kwargs)
        return self

    async def executemany(self, sql: Any, *args: Any, **kwargs: Any) -> AsyncCursor:
        """Run a statement for each set of parameters; arguments as the driver's. Returns itself."""
        self._rows.clear()
        await self._call(self._cursor.executemany, sql, *args, **kwargs)
        return self

    async def fetchone(self) -> Any:
        """The next row; None: there is none."""
        if self._rows:
            return self._rows.popleft()
        return await self._call(self._cursor.fetchone)

    async def fetchmany(self, size: int | None = None) -> Any:
        """The next `size` rows (None: `arraysize`), or as many as are left."""
        wanted = self.arraysize if size is None else size
        rows = [self._rows.popleft() for _ in range(min(wanted, len(self._rows)))]
        if len(rows) < wanted:
            rows += await self._call(self._cursor.fetchmany, wanted - len(rows))
        return rows

    async def fetchall(self) -> Any:
        """All rows that are left."""
        rows, self._rows = self._rows, deque()
        return [*rows, *await self._call(self._cursor.fetchall)]

    async def close(self) -> None:
        """Close it; does nothing once the connection was returned."""
        self._rows.clear()
        if not self._connection.is_over:
            await self._call(self._cursor.close)

    def __aiter__(self) -> AsyncCursor:
        return self

    async def __anext__(self) -> Any:
        if not self._rows:
            size = self.arraysize
            self._rows.extend(
                await self._call(self._cursor.fetchmany, size if size > 1 else _AT_A_TIME)
            )
            if not self._rows:
                raise StopAsyncIteration
        self._connection.check()
        return self._rows.popleft()

    async def __aenter__(self) -> AsyncCursor:
        self._connection.check()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self.close()
        except Exception:  # a driver may object to rows that nobody read
            if kind is None:
                raise

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._cursor, name)
        if not callable(value) or isinstance(value, type):
            return value
        return awaited(self._call, value, lambda result: self._own(result))

    def _own(self, result: Any) -> Any:
        self._rows.clear()  # a `nextset`, perhaps
        return self if result is self._cursor else result

    async def _call(self, act: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        return await self._connection.call(functools.partial(act, *args, **kwargs))

    def __repr__(self) -> str:
        return f"<async {self._cursor!r}>"


def awaited(
    call: Callable[..., Coroutine[Any, Any, Any]], act: Any, own: Callable[[Any], Any]
) -> Callable[..., Coroutine[Any, Any, Any]]:
    """A method of the driver's as a coroutine function."""

    async def method(*args: Any, **kwargs: Any) -> Any:
        return own(await call(act, *args, **kwargs))

    method.__name__ = getattr(act, "__name__", "method")
    method.__doc__ = getattr(act, "__doc__", None)
    return method
