"""`AsyncConnection`: a borrowed connection whose methods are awaited, and stopped when cancelled.

One thread at a time is inside it. It must never know the pool: what it needs of it, its `Desk` has.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar

from ..handles import PooledConnection, is_returned
from .cursors import AsyncCursor, Opening, awaited
from .jobs import Brakes, Job, Stopped

if TYPE_CHECKING:
    T = TypeVar("T")


class Desk(Protocol):
    """What a connection asks of the pool that lent it."""

    def start(self, act: Callable[[], T]) -> Job[T]: ...
    def brakes(self, handle: PooledConnection) -> Brakes: ...
    def leaves_nothing(self, handle: PooledConnection) -> bool: ...
    def stop_there(self, sql: str) -> None: ...


class AsyncConnection:
    """A borrowed connection.

    Every method of the driver's connection is there, to be awaited: `await conn.commit()`; what is no
    method is read as it is. To write an attribute, or to do several things in one go:
    `await conn.run_sync(function, *args)`. As `async with` it commits on success, rolls back on an
    exception, and always returns. Of several tasks that use one, each waits for its turn.

    A call that is cancelled is stopped, also on the server: a connection of a driver that is `local`
    is of use afterwards, any other is thrown away. `commit` and `rollback` are let end before that,
    for up to `ping_timeout`.
    """

    __slots__ = ("_brakes", "_desk", "_handle", "_job", "_lost", "_turn")

    _brakes: Brakes
    _desk: Desk
    _handle: PooledConnection
    _job: Job[Any] | None  # the last one
    _lost: bool
    _turn: asyncio.Lock

    def __init__(self, desk: Desk, handle: PooledConnection) -> None:
        _set_desk(self, desk)
        _set_handle(self, handle)
        _set_brakes(self, desk.brakes(handle))
        _set_turn(self, asyncio.Lock())
        _set_lost(self, False)
        _set_job(self, None)

    # -- statements -------------------------------------------------------------------------------

    def cursor(self, *args: Any, **kwargs: Any) -> Opening[AsyncCursor]:
        """A cursor: awaited, or entered with `async with`. Arguments as the driver's."""
        return Opening(self._cursor(args, kwargs))

    async def _cursor(self, args: Any, kwargs: Any) -> AsyncCursor:
        return AsyncCursor(
            self, await self.call(functools.partial(self._handle.cursor, *args, **kwargs))
        )

    def execute(self, sql: Any, *args: Any) -> Opening[AsyncCursor]:
        """Run a statement on a new cursor; that is what is awaited, or entered with `async with`."""
        return Opening(self._execute(_execute, sql, args))

    def executemany(self, sql: Any, *args: Any) -> Opening[AsyncCursor]:
        """As `execute`, once for each set of parameters."""
        return Opening(self._execute(_executemany, sql, args))

    async def _execute(self, how: Callable[..., Any], sql: Any, args: Any) -> AsyncCursor:
        return AsyncCursor(self, await self.call(functools.partial(how, self._handle, sql, args)))

    async def fetchall(self, sql: Any, *args: Any) -> Any:
        """All rows of a statement, by one thread in one go."""
        return await self.call(functools.partial(_fetchall, self._handle, sql, args))

    async def fetchone(self, sql: Any, *args: Any) -> Any:
        """The first row of a statement, by one thread in one go; None: there is none."""
        return await self.call(functools.partial(_fetchone, self._handle, sql, args))

    async def run_sync(self, act: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call `act(conn, *args, **kwargs)` on a thread, with the pooled connection that this one
        stands for. What it starts must be over when it returns."""
        return await self.call(functools.partial(act, self._handle, *args, **kwargs))

    async def commit(self) -> None:
        """Commit the transaction."""
        await self.call(self._handle.commit, gently=True)

    async def rollback(self) -> None:
        """Roll the transaction back."""
        await self.call(self._handle.rollback, gently=True)

    # -- giving back ------------------------------------------------------------------------------

    async def close(self) -> None:
        """Give the connection back; does nothing the second time. See `PooledConnection.close`."""
        await self._leave(self._handle.close)

    async def invalidate(self) -> None:
        """Throw the connection away instead of giving it back."""
        await self._leave(self._handle.invalidate)

    async def __aenter__(self) -> AsyncConnection:
        self.check()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._leave(functools.partial(self._handle.__exit__, kind, None, None))

    async def _leave(self, how: Callable[[], object]) -> None:
        if self.is_over:
            return
        # While it is nobody's turn no thread is inside, nor gives it back at this moment.
        if not self._turn.locked() and self._desk.leaves_nothing(self._handle):
            how()  # no statement comes of it then
            return
        try:
            await self._turn.acquire()
        except BaseException:  # another task is inside, and is not to go on
            self._give_up()
            raise
        try:
            await self._do(how, gently=True, surely=True)
        finally:
            self._turn.release()

    @property
    def is_over(self) -> bool:
        """Whether it was given back, or thrown away."""
        return self._lost or is_returned(self._handle)

    def check(self) -> None:
        """Raises the driver's `InterfaceError` if it was given back."""
        if self.is_over:
            raise type(self._handle)._refusal()

    # -- calling ----------------------------------------------------------------------------------

    async def call(self, act: Callable[[], T], gently: bool = False) -> T:
        """Have it done by a thread, when it is its turn. See the class about who is cancelled."""
        async with self._turn:
            return await self._do(act, gently)

    async def _do(self, act: Callable[[], T], gently: bool, surely: bool = False) -> T:
        """`surely`: also if that is cancelled before a thread could begin."""
        if self._lost:
            self.check()
        job = self._desk.start(act)
        _set_job(self, job)
        try:
            return await job.wait()
        except asyncio.CancelledError:
            if surely or not job.withdraw():
                await self._stop(job, gently)
            raise
        except BaseException:
            if not job.done and (surely or not job.withdraw()):  # the loop ends
                self._give_up()
            raise

    async def _stop(self, job: Job[Any], gently: bool) -> None:
        stopped = Stopped(False, True)
        try:
            stopped = await self._brakes.stop(job, gently)
        finally:
            if not stopped.over:
                self._give_up()
            elif stopped.spoiled:
                self._handle.invalidate()
        if stopped.rest is not None:
            self._desk.stop_there(stopped.rest)

    def _give_up(self) -> None:
        """Nobody is to use it any more; it is thrown away when the thread comes out of it."""
        _set_lost(self, True)
        self._brakes.cut()
        if self._job is not None:
            self._job.afterwards(self._handle.invalidate)

    # -- everything else is the driver's ----------------------------------------------------------

    @property
    def sync_connection(self) -> PooledConnection:
        """The pooled connection that it stands for. To be used on a thread: see `run_sync`."""
        return self._handle

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._handle, name)
        if not callable(value) or isinstance(value, type):
            return value
        return awaited(self._run, value, self._own)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(
            f"{name!r} is set by a thread: await conn.run_sync(setattr, {name!r}, value)"
        )

    async def _run(self, act: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        return await self.call(functools.partial(act, *args, **kwargs))

    def _own(self, result: Any) -> Any:
        if result is self._handle:
            return self
        if hasattr(result, "execute") and hasattr(result, "fetchone"):
            return AsyncCursor(self, result)
        return result

    def __repr__(self) -> str:
        return f"<async {self._handle!r}>"


# Past `__setattr__`, which refuses.
_slot = vars(AsyncConnection)
_set_desk: Callable[..., None] = _slot["_desk"].__set__
_set_handle: Callable[..., None] = _slot["_handle"].__set__
_set_brakes: Callable[..., None] = _slot["_brakes"].__set__
_set_turn: Callable[..., None] = _slot["_turn"].__set__
_set_lost: Callable[..., None] = _slot["_lost"].__set__
_set_job: Callable[..., None] = _slot["_job"].__set__


def _execute(handle: PooledConnection, sql: Any, args: Any) -> Any:
    cursor = handle.cursor()
    cursor.execute(sql, *args)
    return cursor


def _executemany(handle: PooledConnection, sql: Any, args: Any) -> Any:
    cursor = handle.cursor()
    cursor.executemany(sql, *args)
    return cursor


def _fetchall(handle: PooledConnection, sql: Any, args: Any) -> Any:
    cursor = _execute(handle, sql, args)
    try:
        return cursor.fetchall()
    finally:
        cursor.close()


def _fetchone(handle: PooledConnection, sql: Any, args: Any) -> Any:
    cursor = _execute(handle, sql, args)
    try:
        return cursor.fetchone()
    finally:
        cursor.close()
