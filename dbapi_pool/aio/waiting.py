"""Standing in a pool's line without a thread: a signal that wakes a coroutine, and a checkout by it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import CodeType

from ..handles import PooledConnection
from ..pool import Pool
from ..stepwise import Checkout
from .jobs import Job

Start = Callable[[Callable[[], PooledConnection | None]], Job[PooledConnection | None]]


class LoopSignal:
    """As `system.Signal`, for one coroutine: anybody sets it, from any thread or finalizer."""

    __slots__ = ("_event", "_loop")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    def set(self) -> None:
        """Wake the coroutine, or let its next pause end at once."""
        try:
            self._loop.call_soon_threadsafe(self._event.set)
        except RuntimeError:  # the loop is closed: nobody waits any more
            pass

    def wait(self, timeout: float | None = None) -> bool:
        """A thread does not wait for this."""
        raise NotImplementedError

    async def pause(self, seconds: float) -> None:
        """Until it is set, at most so long."""
        timer = None
        if seconds != float("inf"):
            timer = self._loop.call_later(seconds, self._event.set)
        try:
            await self._event.wait()
        finally:
            if timer is not None:
                timer.cancel()
        self._event.clear()


async def check_out(
    pool: Pool, where: tuple[CodeType, int], timeout: float | None, start: Start
) -> PooledConnection:
    """Borrow a connection. `start` has done by a thread what may call the driver."""
    signal = LoopSignal()
    checkout = Checkout(pool, signal, -id(signal), where, timeout)
    job = None
    try:
        checkout.begin()
        handle = None
        while handle is None:
            while (pause := checkout.pause()) > 0:
                await signal.pause(pause)
            if checkout.in_doubt:
                job = start(checkout.inspect)
                handle = await job.wait()
                job = None
            else:
                handle = checkout.take()
    except BaseException as exc:
        if job is None:
            checkout.leave()
        else:  # what was given is with the thread, as long as it is at it
            job.forget(_give_back)
            job.afterwards(checkout.leave)
        checkout.end(exc)
        raise
    checkout.end()
    return handle


def _give_back(handle: PooledConnection | None) -> None:
    if handle is not None:
        handle.close()
