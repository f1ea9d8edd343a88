"""`AsyncPool`: a `Pool` whose borrowers are coroutines.

The pool is the same one, and so are its settings and its promises. Waiting for a connection takes no
thread; the driver is called by threads, as many as there are connections.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import sys
from collections.abc import Awaitable, Callable, Coroutine
from types import CodeType, TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from .. import transactions
from ..checks import check_count
from ..errors import PoolError, PoolSettingError
from ..handles import PooledConnection
from ..pool import Pool
from ..transactions import Again, Terms
from .connections import AsyncConnection
from .cursors import Opening
from .jobs import Brakes, Job, Threads, aside
from .waiting import check_out

if TYPE_CHECKING:
    from ..health import Health
    from ..holders import Holder
    from ..stats import PoolStats

T = TypeVar("T")
Where = tuple[CodeType, int]


class AsyncPool:
    """A pool for coroutines, of any DB-API driver's connections.

    Arguments and settings are those of `Pool`, but for `native`, which it refuses (`PoolSettingError`).
    `min_size` connections are opened in the background; `await pool.open()`, or entering it with
    `async with`, waits for them, and raises the driver's own error if that is in vain. May be used from
    several event loops, and beside them from threads, by way of `pool.pool`.
    """

    def __init__(self, creator: Any, *args: Any, min_size: int = 0, **settings: Any) -> None:
        if settings.get("native"):
            raise PoolSettingError(
                "native=True: an AsyncPool lends connections of its own kind; use a Pool"
            )
        self._pool = Pool(creator, *args, **settings)
        self._threads = Threads(self._pool.max_size, self._pool.name)
        self._stopping: set[Job[Any]] = set()
        if min_size:
            try:
                self._pool.resize(min_size=min_size)
            except BaseException:
                self._pool.close(timeout=0)
                raise

    # -- borrowing --------------------------------------------------------------------------------

    def connection(self, timeout: float | None = None) -> Opening[AsyncConnection]:
        """Borrow a connection: `async with pool.connection() as conn:`, or awaited, and then given back
        with `await conn.close()`. `timeout`, and what is raised, as `Pool.connection`."""
        return Opening(self._connection(_caller(), timeout))

    async def _connection(self, where: Where, timeout: float | None) -> AsyncConnection:
        return AsyncConnection(self, await check_out(self._pool, where, timeout, self.start))

    def transaction(
        self,
        isolation: str | None = None,
        readonly: bool | None = None,
        timeout: float | None = None,
        **options: Any,
    ) -> Opening[AsyncConnection]:
        """Borrow a connection for one transaction, as `Pool.transaction`: `async with` commits it, or
        rolls it back on an exception, and returns the connection."""
        terms = Terms(isolation, readonly, timeout, options)
        return Opening(self._transaction(_caller(), terms))

    async def _transaction(self, where: Where, terms: Terms) -> AsyncConnection:
        handle = await check_out(self._pool, where, terms.timeout, self.start)
        conn = AsyncConnection(self, handle)
        try:
            await conn.call(functools.partial(transactions.begin_on, self._pool, handle, terms))
        except (Exception, asyncio.CancelledError):
            await conn.close()
            raise
        return conn

    def run(
        self,
        fn: Callable[[Any], Awaitable[T] | T],
        retries: int = 3,
        isolation: str | None = None,
        readonly: bool | None = None,
        timeout: float | None = None,
        **options: Any,
    ) -> Coroutine[Any, Any, T]:
        """Call `fn(conn)` in a transaction, commit, and return its result; again where that may help,
        as `Pool.run`. A coroutine function gets an `AsyncConnection`. Any other is called by a thread,
        and gets the pooled connection that it can use as any DB-API connection: then the whole
        transaction is one call."""
        check_count("retries", retries)
        return self._run(_caller(), fn, retries, Terms(isolation, readonly, timeout, options))

    async def _run(
        self, where: Where, fn: Callable[[Any], Awaitable[T] | T], retries: int, terms: Terms
    ) -> T:
        once: Callable[..., Coroutine[Any, Any, T]] = self._run_by_thread
        if inspect.iscoroutinefunction(fn):
            once = self._run_awaited
        for attempt in range(retries):
            try:
                return await once(fn, where, terms)
            except Again:
                pause = transactions.backoff(attempt, self._pool._chance())
            await asyncio.sleep(pause)
        try:
            return await once(fn, where, terms)
        except Again as again:
            last = again.error
        try:
            raise last
        finally:
            del last  # or it and this frame would keep each other alive

    async def _run_by_thread(self, fn: Callable[[Any], Any], where: Where, terms: Terms) -> Any:
        async with await self._connection(where, terms.timeout) as conn:
            return await conn.run_sync(functools.partial(_run_once, self._pool, fn, terms))

    async def _run_awaited(
        self, fn: Callable[[Any], Awaitable[Any]], where: Where, terms: Terms
    ) -> Any:
        async with await self._connection(where, terms.timeout) as conn:
            raw = conn.sync_connection._lease.member.conn
            await conn.run_sync(functools.partial(_begin_once, self._pool, terms))
            try:
                result = await fn(conn)
            except Exception as exc:
                transactions.judge(self._pool, exc, raw)
                raise
            commit = functools.partial(
                transactions.commit_once, self._pool, conn.sync_connection, raw
            )
            await conn.call(commit, gently=True)
            return result

    # -- life cycle -------------------------------------------------------------------------------

    async def open(self, timeout: float | None = None) -> None:
        """Wait until `min_size` connections are open; see `warm_up`."""
        if self._pool.min_size:
            await self.warm_up(self._pool.min_size, timeout)

    async def warm_up(self, count: int | None = None, timeout: float | None = None) -> None:
        """Have `count` (None: `max_size`) connections open. As `Pool.warm_up`."""
        await self._aside(functools.partial(self._pool.warm_up, count, timeout))

    async def drain(self) -> None:
        """Replace every connection. As `Pool.drain`."""
        await self._aside(self._pool.drain)

    async def resize(self, max_size: int | None = None, min_size: int | None = None) -> None:
        """Change the sizes. As `Pool.resize`."""
        await self._aside(functools.partial(self._pool.resize, max_size, min_size))
        self._threads.allow(self._pool.max_size)

    def suspend(self) -> None:
        """Lend nothing until `resume()`: borrowers wait, on their own timeouts."""
        self._pool.suspend()

    def resume(self) -> None:
        """Lend again."""
        self._pool.resume()

    async def close(self, timeout: float = 5.0) -> bool:
        """Close the pool, and wait up to `timeout` seconds until all connections are closed; whether
        they are. Waiters get `PoolClosed`. As `Pool.close`."""
        for job in tuple(self._stopping):
            await job.is_over(self._pool.options.ping_timeout)
        closed = await self._aside(functools.partial(self._pool.close, timeout))
        self._threads.end()
        return closed

    async def __aenter__(self) -> AsyncPool:
        try:
            await self.open()
        except BaseException:
            await self.close(timeout=0)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _aside(self, act: Callable[[], T]) -> T:
        return await Job(aside(self._pool._system, act, f"{self.name} aside")).wait()

    # -- what can be seen -------------------------------------------------------------------------

    @property
    def pool(self) -> Pool:
        """The pool behind it, to be used from threads."""
        return self._pool

    @property
    def name(self) -> str:
        """As `Pool.name`."""
        return self._pool.name

    @property
    def closed(self) -> bool:
        """Whether `close()` was called."""
        return self._pool.closed

    def stats(self) -> PoolStats:
        """Sizes at this moment and totals so far, frozen."""
        return self._pool.stats()

    def holders(self) -> list[Holder]:
        """Who has borrowed a connection, since when and at which line; the longest first."""
        return self._pool.holders()

    def health(self) -> Health:
        """How the pool is doing, and why, in words. As `Pool.health`."""
        return self._pool.health()

    def __repr__(self) -> str:
        return f"<Async{repr(self._pool).lstrip('<')}"

    # -- what its connections ask of it -----------------------------------------------------------

    def start(self, act: Callable[[], T]) -> Job[T]:
        """Have it done by a thread of the pool, in the caller's context, where spans are."""
        return Job(self._threads.submit(functools.partial(contextvars.copy_context().run, act)))

    def brakes(self, handle: PooledConnection) -> Brakes:
        """How to stop what that connection does."""
        pool = self._pool
        conn = handle._lease.member.conn
        return Brakes(pool.driver, conn, pool._system, pool.options.ping_timeout)

    def leaves_nothing(self, handle: PooledConnection) -> bool:
        """Whether to clean it takes no statement, so that it may come back without a thread."""
        member = handle._lease.member
        work = member.work
        if work is None:
            return True
        if work.session or work.attributes or work.broken or work.lost or work.inside:
            return False
        driver = member.driver
        if self._pool.options.reset == "always" or not (driver.local or not work.open_cursors()):
            return False
        try:
            return driver.in_transaction(member.conn) is False
        except Exception:  # it is not what it should be, so it is cleaned by a thread
            return False

    def stop_there(self, sql: str) -> None:
        """Run what stops a statement on the server, in the background."""
        act = functools.partial(_execute_quietly, self._pool, sql)
        job = Job(aside(self._pool._system, act, f"{self.name} stop"))
        self._stopping.add(job)
        job.afterwards(functools.partial(self._stopping.discard, job))


def _caller() -> Where:
    """The line of who called a method of the pool."""
    frame = sys._getframe(2)
    return frame.f_code, frame.f_lasti


def _begin_once(pool: Pool, terms: Terms, handle: PooledConnection) -> None:
    try:
        transactions.begin_on(pool, handle, terms)
    except PoolError:
        raise
    except Exception as exc:
        transactions.judge_beginning(pool, exc)
        raise


def _run_once(pool: Pool, fn: Callable[[Any], T], terms: Terms, handle: PooledConnection) -> T:
    """The whole of one try, on a thread; who called gives the connection back."""
    _begin_once(pool, terms, handle)
    return transactions.run_once(pool, fn, handle)


def _execute_quietly(pool: Pool, sql: str) -> None:
    """It may have ended by itself, and then the server says that it knows no such session."""
    try:
        with pool.connection() as conn:
            conn.cursor().execute(sql)
    except Exception:
        pass
