"""Threads of every make: executors, timers, asyncio, daemons that die, exceptions sent from outside.

Real threads on a fake driver, each with a limit. Whatever they do, in the end the pool is whole.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import evidence
import pytest

from dbapi_pool import Pool
from dbapi_pool.ledger import Ledger
from dbapi_pool.testing import FakeDriver

SIZE = 5
LIMIT = 50.0  # seconds: whoever takes longer hangs


class Struck(BaseException):
    """Sent into a thread from outside."""


def whole(pool: Pool, timeout: float = 20.0) -> bool:
    """Whether `max_size` connections can be borrowed at the same time."""
    gc.collect()
    with ExitStack() as stack:
        handles = [stack.enter_context(pool.connection(timeout)) for _ in range(pool.max_size)]
        return len({id(handle.driver_connection) for handle in handles}) == pool.max_size


@pytest.fixture
def pool(place: str) -> Iterator[Pool]:
    fake = FakeDriver()
    driver = fake.driver(local=place == "local")
    pool = Pool(fake, driver=driver, max_size=SIZE, checkout_timeout=LIMIT)
    yield pool
    assert whole(pool)
    assert (pool.stats().in_use, pool.stats().waiting) == (0, 0)
    assert pool.close()
    assert fake.peak <= SIZE
    fake.assert_no_leak()


def use(pool: Pool) -> int:
    with pool.connection() as conn:
        return int(conn.execute("SELECT 1").fetchone()[0])


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread is about to do."""
    for _ in range(int(LIMIT * 1000)):
        if condition():
            return
        threading.Event().wait(0.001)
    raise AssertionError("it never came")


def start(act: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    return thread


def join(*threads: threading.Thread) -> None:
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive(), "it hangs"


def test_a_job_that_holds_may_wait_for_jobs_that_borrow_if_there_is_room(pool: Pool) -> None:
    with ThreadPoolExecutor(SIZE) as executor:

        def outer() -> int:
            with pool.connection() as conn:
                inner = executor.submit(use, pool).result(LIMIT)
                return inner + int(conn.execute("SELECT 1").fetchone()[0])

        jobs = [executor.submit(outer) for _ in range(2)]
        assert [job.result(LIMIT) for job in jobs] == [2, 2]


def test_an_executor_is_shut_down_while_its_jobs_wait(pool: Pool) -> None:
    held = [pool.connection() for _ in range(SIZE)]
    executor = ThreadPoolExecutor(4)
    jobs = [executor.submit(use, pool) for _ in range(20)]
    until(lambda: pool.stats().waiting == 4)
    executor.shutdown(wait=False, cancel_futures=True)
    for conn in held:
        conn.close()

    assert [job.result(LIMIT) for job in jobs if not job.cancelled()] == [1] * 4
    with pytest.raises(CancelledError):
        jobs[-1].result()


def test_fifty_threads_share_five(pool: Pool) -> None:
    rounds = evidence.depth(40, 2_000)
    served = [0] * 50

    def work(number: int) -> None:
        for _ in range(rounds):
            served[number] += use(pool)

    join(*[start(lambda number=number: work(number)) for number in range(50)])  # type: ignore[misc]
    assert served == [rounds] * 50
    assert pool.stats().checkouts == 50 * rounds
    evidence.record("garbage and threads", "50 threads on 5 connections", checkouts=50 * rounds)


def test_timers_borrow_and_return_what_others_borrowed(pool: Pool) -> None:
    held = [pool.connection() for _ in range(SIZE)]
    timers = [threading.Timer(0.01, conn.close) for conn in held]
    timers += [threading.Timer(0.0, use, [pool]) for _ in range(20)]
    for timer in timers:
        timer.start()
    join(*timers)
    assert pool.stats().checkouts == SIZE + 20


def test_awaits_that_are_cancelled_leave_their_threads_to_return(pool: Pool) -> None:
    """Cancelling `to_thread` does not stop the thread: it is served, and returns what it got."""
    held = [pool.connection() for _ in range(SIZE)]

    async def main() -> int:
        waits = [asyncio.create_task(asyncio.to_thread(use, pool)) for _ in range(4)]
        while pool.stats().waiting < 4:
            await asyncio.sleep(0.001)
        for wait in waits[:2]:
            wait.cancel()
        ends = asyncio.gather(*waits, return_exceptions=True)
        await asyncio.sleep(0)
        for conn in held:
            conn.close()
        return sum(isinstance(end, asyncio.CancelledError) for end in await ends)

    assert asyncio.run(asyncio.wait_for(main(), LIMIT)) == 2
    assert pool.stats().checkouts == SIZE + 4


def test_threads_that_die_holding_leave_it_to_those_who_wait(pool: Pool) -> None:
    gate = threading.Event()
    served: list[int] = []

    def die() -> None:
        conn = pool.connection()
        box: list[Any] = [conn, conn.cursor()]  # in no cycle: it is freed as the thread ends
        gate.wait(LIMIT)
        assert box

    dying = [start(die) for _ in range(SIZE)]
    until(lambda: pool.stats().in_use == SIZE)
    waiting = [start(lambda: served.append(use(pool))) for _ in range(10)]
    until(lambda: pool.stats().waiting == 10)
    gate.set()
    join(*dying, *waiting)
    assert served == [1] * 10
    evidence.record("garbage and threads", "threads that die holding", served=len(served))


def strike(thread: threading.Thread) -> None:
    ident = ctypes.c_ulong(thread.ident or 0)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(Struck))


def test_exceptions_sent_into_threads_that_wait_and_hold_lose_nothing(pool: Pool) -> None:
    """Struck at any moment: in line, in the checkout, in use, in the return."""
    ends = {"struck": 0, "served": 0}
    going = threading.Event()
    lock = threading.Lock()

    def work() -> None:
        end = "served"
        try:
            while not going.is_set():
                use(pool)
        except Struck:
            end = "struck"
        with lock:
            ends[end] += 1

    for _ in range(evidence.depth(10, 300)):
        threads = [start(work) for _ in range(2 * SIZE)]
        before = pool.stats().checkouts
        until(lambda before=before: pool.stats().checkouts > before + 20)  # type: ignore[misc]
        for thread in threads[::2]:
            strike(thread)
        join(*threads[::2])
        going.set()
        join(*threads)
        going.clear()
        assert whole(pool)
    assert ends["struck"] == ends["served"] > 0
    evidence.record("garbage and threads", "threads struck by an exception", **ends)


def test_a_lost_place_is_found_by_these_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: a ledger that does not look for places whose lease is lost."""
    fake = FakeDriver()
    pool = Pool(fake, driver=fake.driver(), max_size=SIZE, ping_timeout=0.2)
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "adopt", lambda self: [])
        join(start(lambda: pool.connection() and None))
        with pytest.raises(Exception, match="no connection after"):
            whole(pool, timeout=0.2)
    assert whole(pool)
    assert pool.close()
