"""Cancelling a coroutine at each point where it waits, one after the other.

It must never know a pool.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Awaitable, Callable, Generator
from typing import Any


class Cancel:
    """Cancels the task that awaits `inside(...)` at its `point`-th pause (0: the first): before that
    could end, or, if `late`, at the very instant at which it ends."""

    def __init__(self, point: int, late: bool) -> None:
        self.point = point
        self.late = late
        self.struck = False

    @types.coroutine
    def inside(self, awaitable: Awaitable[Any]) -> Generator[Any, Any, Any]:
        steps = awaitable.__await__()
        act: Callable[[], Any] = lambda: steps.send(None)  # noqa: E731
        pauses = 0
        while True:
            try:
                future = act()
            except StopIteration as end:
                return end.value
            if pauses == self.point:
                self._strike(future)
            pauses += 1
            try:
                sent = yield future
            except BaseException as exc:
                act = _throwing(steps, exc)
            else:
                act = _sending(steps, sent)

    def _strike(self, future: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.struck = True
        if not self.late or future is None:  # a bare yield
            task.cancel()
            return
        # Before the task's own callback, which is added when the future is passed on.
        blocking = future._asyncio_future_blocking
        future.add_done_callback(lambda _: task.cancel())
        future._asyncio_future_blocking = blocking


def _throwing(steps: Any, exc: BaseException) -> Callable[[], Any]:
    return lambda: steps.throw(exc)


def _sending(steps: Any, value: Any) -> Callable[[], Any]:
    return lambda: steps.send(value)


async def struck(scenario: Callable[[], Awaitable[Any]], cancel: Cancel) -> bool:
    """Run it in a task of its own, and cancel it there; whether there was such a point."""

    async def task() -> None:
        await cancel.inside(scenario())

    running = asyncio.ensure_future(task())
    await asyncio.wait((running,), timeout=30)
    assert running.done(), f"hangs after a cancel at point {cancel.point}"
    if cancel.struck:
        if not running.cancelled():
            point = f"a cancel at point {cancel.point} became something else"
            raise AssertionError(point) from running.exception()
    else:
        running.result()
    return cancel.struck
