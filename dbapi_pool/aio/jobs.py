"""What coroutines have done by threads, and how one is stopped: jobs, and the patience for them.

It knows of a driver only how to stop what it does. It must never know the pool, or a handle.
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, NamedTuple, TypeVar

from ..drivers.base import Driver
from ..system import System

T = TypeVar("T")

_AGAIN = 0.05  # seconds between two cuts
_ASKED = 1.0  # seconds that a server has to stop a statement after it was asked to


class Threads:
    """At most `most` threads, which start on demand and stay."""

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._executor: ThreadPoolExecutor | None = None
        self._process = 0

    def submit(self, act: Callable[[], T]) -> Future[T]:
        """Have it done by one of them."""
        executor = self._executor
        if executor is None or self._process != os.getpid():  # a forked child inherits no threads
            self._process = os.getpid()
            executor = ThreadPoolExecutor(self._most, f"{self._name} calls")
            self._executor = executor
        return executor.submit(act)

    def allow(self, most: int) -> None:
        """Let there be more from now on. What is under way ends where it is."""
        if most > self._most:
            self._most = most
            self.end()

    def end(self) -> None:
        """They end when they have nothing more to do; the next job makes others."""
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False)


def aside(system: System, act: Callable[[], T], name: str) -> Future[T]:
    """Have what is rare, and may hang, done by a daemon thread of its own."""
    done: Future[T] = Future()
    system.spawn(functools.partial(_fulfil, done, act), name)
    return done


def _fulfil(done: Future[Any], act: Callable[[], Any]) -> None:
    done.set_running_or_notify_cancel()
    try:
        result = act()
    except BaseException as exc:  # this thread is ours alone
        done.set_exception(exc)
    else:
        done.set_result(result)


class Job(Generic[T]):
    """Something that a thread does for a coroutine."""

    __slots__ = ("_future",)

    def __init__(self, future: Future[T]) -> None:
        self._future = future

    async def wait(self) -> T:
        """Its result. Cancelled while it waits, it raises that, and the job goes on."""
        await self._end()
        return self._future.result()

    def _end(self) -> asyncio.Future[None]:
        """A future of the running loop that is done when the job is; nobody minds if it is cancelled.
        (`asyncio.wrap_future` takes twice as long, and would cancel the job.)"""
        loop = asyncio.get_running_loop()
        end = loop.create_future()
        self._future.add_done_callback(functools.partial(_wake, loop, end))
        return end

    async def is_over(self, patience: float) -> bool:
        """Wait for its end, at most `patience` seconds, whatever else happens; whether it came."""
        loop = asyncio.get_running_loop()
        until = loop.time() + patience
        while not self._future.done() and (left := until - loop.time()) > 0:
            try:
                await asyncio.wait((self._end(),), timeout=left)
            except asyncio.CancelledError:
                pass  # who waits is told when this is over: once is enough
        return self._future.done()

    def forget(self, undo: Callable[[T], object]) -> None:
        """Nobody will take the result: `undo` it, on whatever thread, once there is one."""
        if not self._future.cancel():
            self._future.add_done_callback(functools.partial(_undo, undo))

    def withdraw(self) -> bool:
        """Whether it was not begun yet, and never will be."""
        return self._future.cancel()

    @property
    def done(self) -> bool:
        """Whether it is over."""
        return self._future.done()

    @property
    def result(self) -> T:
        """Of one that is over: what it gave; raises what it raised."""
        return self._future.result()

    @property
    def failed(self) -> bool:
        """Of one that is over: whether it raised."""
        return self._future.exception() is not None

    def afterwards(self, act: Callable[[], object]) -> None:
        """Call `act` when it is over, on whatever thread."""
        self._future.add_done_callback(lambda _: act())


def _wake(loop: asyncio.AbstractEventLoop, end: asyncio.Future[None], _: Any) -> None:
    try:
        loop.call_soon_threadsafe(_end, end)
    except RuntimeError:  # the loop is closed: nobody waits any more
        pass


def _end(end: asyncio.Future[None]) -> None:
    if not end.done():
        end.set_result(None)


def _undo(undo: Callable[[Any], object], future: Future[Any]) -> None:
    if future.exception() is None:
        undo(future.result())


class Stopped(NamedTuple):
    """What came of stopping a job."""

    over: bool
    """Whether it ended."""
    spoiled: bool
    """Whether its connection is of no use any more."""
    rest: str | None = None
    """SQL that stops, in another session, what it may have left running on the server."""


class Brakes:
    """How what one connection runs is stopped."""

    def __init__(self, driver: Driver, conn: Any, system: System, patience: float) -> None:
        """To be made while no thread is inside `conn`. `patience`: seconds that a call may take to end
        after it was cut."""
        self._driver = driver
        self._conn = conn
        self._session = driver.session_id(conn)
        self._system = system
        self._patience = patience

    async def stop(self, job: Job[Any], gently: bool) -> Stopped:
        """Make a running job end. `gently`: let it end by itself first (a COMMIT)."""
        if gently and await job.is_over(self._patience):
            return Stopped(True, False)
        rest = await self._ask(job)
        return Stopped(await self._cut_until(job), not self._driver.local, rest)

    async def _cut_until(self, job: Job[Any]) -> bool:
        """Whether it ended. Cut again and again: what was between two statements begins another."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._patience
        while not job.done and loop.time() < end:
            self.cut()
            await job.is_over(_AGAIN)
        return job.done

    def cut(self) -> None:
        """Make what runs fail soon, without waiting for that."""
        self._driver.interrupt(self._conn)

    async def _ask(self, job: Job[Any]) -> str | None:
        """Ask the server, where the driver can do that."""
        if not self._driver._overrides("cancel"):
            return None
        act = functools.partial(self._driver.cancel, self._conn, self._session)
        asked = Job(aside(self._system, act, "cancel"))
        if not await asked.is_over(_ASKED) or asked.failed:
            return None
        rest = asked.result
        if rest is None:
            await job.is_over(_ASKED)
        return rest
