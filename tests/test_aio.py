"""`AsyncPool`: coroutines that borrow; what waits, what is cancelled, what is left."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from cancelling import Cancel, struck
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dbapi_pool import (
    ConnectionReturned,
    PoolClosed,
    PoolFull,
    PoolSettingError,
    PoolTimeout,
    PoolUnavailable,
)
from dbapi_pool.aio import AsyncConnection, AsyncPool
from dbapi_pool.testing import FakeDriver, SerializationError

PATIENCE = 20  # seconds: a test that waits so long has failed
FOREVER = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"


def run(scenario: Callable[[], Awaitable[Any]]) -> Any:
    async def bounded() -> Any:
        return await asyncio.wait_for(scenario(), PATIENCE)

    return asyncio.run(bounded())


def of(fake: FakeDriver, local: bool = False, **settings: Any) -> AsyncPool:
    return AsyncPool(fake, driver=fake.driver(local=local), **{"max_size": 2, **settings})


@contextlib.asynccontextmanager
async def judged(fake: FakeDriver, local: bool = False, **settings: Any) -> Any:
    """A pool of which, in the end, everything has come back, and nothing was done wrong."""
    pool = of(fake, local, **settings)
    try:
        yield pool
    finally:
        fake.calm()
        assert await pool.close(), f"not everything was returned: {pool!r}"
    fake.assert_no_leak()


async def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.001)


def threads_of(pool: AsyncPool) -> int:
    """How many there are to call the driver."""
    return sum(one.name.startswith(f"{pool.name} calls") for one in threading.enumerate())


async def serves_all(pool: AsyncPool) -> None:
    """As many borrowers at once as it has places."""
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(pool.pool.max_size):
            conn = await stack.enter_async_context(pool.connection(timeout=PATIENCE))
            await conn.execute("SELECT 1")


@pytest.fixture
def fake() -> FakeDriver:
    return FakeDriver()


@pytest.fixture(params=[False, True], ids=["remote", "local"])
def local(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def database(tmp_path: Path) -> str:
    name = str(tmp_path / "shop.db")
    with contextlib.closing(sqlite3.connect(name)) as conn:
        conn.execute("CREATE TABLE t (i INTEGER)")
        conn.executemany("INSERT INTO t VALUES (?)", [(i,) for i in range(250)])
        conn.commit()
    return name


# -- borrowing ------------------------------------------------------------------------------------


def test_a_block_commits_and_gives_back(fake: FakeDriver, local: bool) -> None:
    async def scenario() -> None:
        async with judged(fake, local) as pool:
            async with pool.connection() as conn:
                await conn.execute("INSERT x")
                assert pool.stats().in_use == 1
            assert (fake.commits, pool.stats().in_use, pool.stats().idle) == (1, 0, 1)

    run(scenario)


async def fails(pool: AsyncPool) -> None:
    async with pool.connection() as conn:
        await conn.execute("INSERT x")
        raise KeyError


def test_an_exception_rolls_back_and_gives_back(fake: FakeDriver, local: bool) -> None:
    async def scenario() -> None:
        async with judged(fake, local) as pool:
            with pytest.raises(KeyError):
                await fails(pool)
            assert (fake.commits, fake.rollbacks, pool.stats().idle) == (0, 1, 1)

    run(scenario)


def test_awaited_it_is_given_back_by_close(fake: FakeDriver, local: bool) -> None:
    async def scenario() -> None:
        async with judged(fake, local) as pool:
            conn = await pool.connection()
            cursor = await conn.execute("SELECT 1")
            await conn.close()
            await conn.close()
            await cursor.close()
            for use in (conn.commit, cursor.fetchone, functools.partial(conn.fetchall, "SELECT 1")):
                with pytest.raises(ConnectionReturned):
                    await use()
            with pytest.raises(fake.InterfaceError):
                async with conn:
                    pass

    run(scenario)


@pytest.mark.parametrize("what", ["commit", "rollback"])
def test_two_tasks_that_give_it_back_at_once_return_it_once(fake: FakeDriver, what: str) -> None:
    async def scenario() -> None:
        async with judged(fake, max_size=1) as pool:
            conn = await pool.connection()
            await conn.execute("INSERT x")
            fake.on(what, hang=True, times=1)
            first = conn.__aexit__(None, None, None) if what == "commit" else conn.close()
            giving = [asyncio.create_task(first), asyncio.create_task(conn.close())]
            await until(lambda: fake.waiting(what) == 1)
            giving.append(asyncio.create_task(conn.close()))
            await asyncio.sleep(0)
            fake.release(what)
            await asyncio.gather(*giving)
            assert (fake.commits, pool.stats().idle) == (int(what == "commit"), 1)

    run(scenario)


def test_what_nobody_used_is_given_back_without_a_thread(fake: FakeDriver) -> None:
    async def scenario() -> None:
        async with judged(fake, min_size=1) as pool:
            await pool.open()
            async with pool.connection():
                pass
            assert threads_of(pool) == 0

    run(scenario)


def test_a_connection_that_says_nothing_of_itself_is_cleaned_by_a_thread(fake: FakeDriver) -> None:
    driver: Any = fake.driver()

    def in_transaction(conn: Any) -> bool:
        raise fake.OperationalError("a result was left unread")

    driver.in_transaction = in_transaction

    async def scenario() -> None:
        async with AsyncPool(fake, driver=driver, max_size=1) as pool:
            async with pool.connection() as conn:
                await conn.execute("SELECT 1")
            await until(lambda: pool.stats().closed["failed reset"] == 1)

    run(scenario)


def test_one_that_was_thrown_away_is_closed(fake: FakeDriver, local: bool) -> None:
    async def scenario() -> None:
        async with judged(fake, local) as pool:
            conn = await pool.connection()
            await conn.execute("SELECT 1")
            await conn.invalidate()
            await until(lambda: fake.open == 0)
            await serves_all(pool)

    run(scenario)


def test_hundreds_wait_and_no_thread_does(fake: FakeDriver, local: bool) -> None:
    """In the order in which they came."""

    async def scenario() -> None:
        async with judged(fake, local, max_size=1) as pool:
            served: list[int] = []

            async def borrow(number: int) -> None:
                async with pool.connection() as conn:
                    await conn.execute("SELECT 1")
                    served.append(number)

            holder = await pool.connection()
            await holder.execute("SELECT 1")
            before = threading.active_count()
            tasks = [asyncio.create_task(borrow(number)) for number in range(300)]
            await until(lambda: pool.stats().waiting == 300)
            assert threading.active_count() == before
            await holder.close()
            await asyncio.gather(*tasks)
            assert served == list(range(300))
            assert pool.stats().waits >= 300

    run(scenario)


def test_no_more_threads_than_connections(fake: FakeDriver, local: bool) -> None:
    async def scenario() -> None:
        async with judged(fake, local, max_size=3) as pool:

            async def borrow() -> None:
                async with pool.connection() as conn:
                    await conn.fetchall("SELECT 1")

            await asyncio.gather(*(borrow() for _ in range(100)))
            assert 1 <= threads_of(pool) <= 3
            assert fake.peak <= 3

    run(scenario)


def test_it_waits_as_long_as_it_is_told(fake: FakeDriver, local: bool) -> None:
    async def scenario() -> None:
        async with judged(fake, local, max_size=1, checkout_timeout=0.05) as pool:
            async with pool.connection():
                with pytest.raises(PoolTimeout, match="test_aio.py:"):
                    await pool.connection()
                with pytest.raises(PoolTimeout):
                    await pool.connection(timeout=0)
            assert pool.stats().timeouts == 2

    run(scenario)


def test_too_many_in_line_are_refused(fake: FakeDriver) -> None:
    async def scenario() -> None:
        async with judged(fake, max_size=1, max_waiting=1) as pool:
            async with pool.connection():
                waiting = asyncio.create_task(pool.connection().__aenter__())
                await until(lambda: pool.stats().waiting == 1)
                with pytest.raises(PoolFull):
                    await pool.connection()
            await (await waiting).close()

    run(scenario)


def test_who_waits_when_it_is_closed_is_told(fake: FakeDriver, local: bool) -> None:
    async def scenario() -> None:
        pool = of(fake, local, max_size=1)
        conn = await pool.connection()
        waiting = asyncio.create_task(pool.connection().__aenter__())
        await until(lambda: pool.stats().waiting == 1)
        closing = asyncio.create_task(pool.close())
        with pytest.raises(PoolClosed):
            await waiting
        await conn.close()
        assert await closing
        with pytest.raises(PoolClosed):
            await pool.connection()
        fake.assert_no_leak()

    run(scenario)


def test_a_server_that_is_away_is_told_at_once_if_asked_for(fake: FakeDriver) -> None:
    async def scenario() -> None:
        fake.down = True
        async with judged(fake, fail_fast_after=0) as pool:
            with pytest.raises(PoolUnavailable):
                await pool.connection()

    run(scenario)


def test_an_error_of_connecting_is_the_driver_s_own(fake: FakeDriver, local: bool) -> None:
    async def scenario() -> None:
        fake.on("connect", error=fake.ProgrammingError("no such database"))
        async with judged(fake, local) as pool:
            with pytest.raises(fake.ProgrammingError, match="no such database"):
                await pool.connection()

    run(scenario)


def test_opening_waits_for_min_size(fake: FakeDriver, local: bool) -> None:
    async def scenario() -> None:
        async with of(fake, local, min_size=2) as pool:
            assert fake.open == pool.stats().idle == 2
        assert fake.open == 0

    run(scenario)


def test_opening_in_vain_is_told_and_closed(fake: FakeDriver, local: bool) -> None:
    async def scenario() -> None:
        fake.on("connect", error=fake.ProgrammingError("no such database"))
        pool = of(fake, local, min_size=1)
        with pytest.raises(fake.ProgrammingError):
            async with pool:
                pass
        assert pool.closed

    run(scenario)


@pytest.mark.parametrize(
    ("given", "what"),
    [({"native": True}, "native"), ({"min_size": 3}, "min_size"), ({"max_size": 0}, "max_size")],
)
def test_settings_that_cannot_be_are_refused(
    fake: FakeDriver, given: dict[str, Any], what: str
) -> None:
    with pytest.raises(PoolSettingError, match=what):
        of(fake, **given)


def test_one_that_is_dead_or_idle_for_long_is_replaced(fake: FakeDriver, local: bool) -> None:
    async def scenario() -> None:
        async with judged(fake, local, max_size=1, ping_after=0.0) as pool:
            await serves_all(pool)
            fake.kill_all()
            await serves_all(pool)
            fake.lie_alive = True
            fake.kill_all()
            await serves_all(pool)
            assert fake.opened == 3

    run(scenario)


def test_a_resized_pool_has_threads_for_all(fake: FakeDriver) -> None:
    async def scenario() -> None:
        async with judged(fake, max_size=1) as pool:
            await serves_all(pool)
            await pool.resize(max_size=3)
            fake.on("execute", hang=True)
            held = [await pool.connection() for _ in range(3)]
            tasks = [asyncio.create_task(conn.fetchall("SELECT 1")) for conn in held]
            await until(lambda: fake.waiting("execute") == 3)
            fake.calm()
            assert await asyncio.gather(*tasks) == [[(1,)]] * 3
            for conn in held:
                await conn.close()
            pool.suspend()
            pool.resume()
            await pool.drain()
            await pool.warm_up(2)
            assert pool.health().level == "ok"

    run(scenario)


def test_holders_and_reports_name_the_line(fake: FakeDriver) -> None:
    async def scenario() -> None:
        async with judged(fake) as pool:
            async with pool.connection():
                [holder] = pool.holders()
                assert "test_aio.py" in holder.site
            async with pool.transaction():
                [holder] = pool.holders()
                assert "test_aio.py" in holder.site

            async def look(conn: AsyncConnection) -> str:
                return pool.holders()[0].site

            assert "test_aio.py" in await pool.run(look)

    run(scenario)


def test_one_that_is_dropped_is_found_again(fake: FakeDriver) -> None:
    async def scenario() -> None:
        async with judged(fake, max_size=1) as pool:
            conn = await pool.connection()
            await conn.execute("SELECT 1")
            del conn
            with pytest.warns(ResourceWarning, match="dropped without close"):
                await serves_all(pool)

    run(scenario)


def test_two_loops_and_threads_share_one_pool(fake: FakeDriver) -> None:
    pool = of(fake, max_size=2)

    async def borrow() -> None:
        for _ in range(50):
            async with pool.connection() as conn:
                await conn.execute("SELECT 1")

    def borrow_by_thread() -> None:
        for _ in range(50):
            with pool.pool.connection() as conn:
                conn.execute("SELECT 1")

    threads = [threading.Thread(target=asyncio.run, args=(borrow(),)) for _ in range(2)]
    threads += [threading.Thread(target=borrow_by_thread) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert asyncio.run(pool.close())
    assert fake.peak <= 2
    fake.assert_no_leak()


def test_tasks_that_share_a_connection_take_turns(fake: FakeDriver, local: bool) -> None:
    async def scenario() -> None:
        async with judged(fake, local) as pool, pool.connection() as conn:
            await asyncio.gather(*(conn.fetchall("SELECT 1") for _ in range(50)))

    run(scenario)
    fake.check()


# -- the driver's own face ------------------------------------------------------------------------


def test_cursors_of_sqlite3(database: str) -> None:
    async def scenario() -> None:
        async with AsyncPool(sqlite3, database) as pool, pool.connection() as conn:
            async with conn.execute("SELECT i FROM t ORDER BY i") as cursor:
                assert cursor.description[0][0] == "i"
                assert cursor.connection is conn
                assert await cursor.fetchone() == (0,)
                assert await cursor.fetchmany(2) == [(1,), (2,)]
                rest = [row async for row in cursor]
                assert rest == [(i,) for i in range(3, 250)]
                assert await cursor.fetchone() is None
            cursor = await conn.cursor()
            assert await cursor.execute("SELECT i FROM t ORDER BY i LIMIT 5") is cursor
            async for row in cursor:
                assert row == (0,)
                break
            assert await cursor.fetchone() == (1,)
            assert await cursor.fetchmany(1) == [(2,)]
            assert await cursor.fetchall() == [(3,), (4,)]
            cursor.arraysize = 7
            assert len(await (await cursor.execute("SELECT i FROM t")).fetchmany()) == 7
            await cursor.executemany("INSERT INTO t VALUES (?)", [(900,), (901,)])
            assert cursor.rowcount == 2
            await conn.executemany("DELETE FROM t WHERE i = ?", [(900,), (901,)])
            assert await conn.fetchall("SELECT i FROM t WHERE i < ?", (2,)) == [(0,), (1,)]
            assert await conn.fetchone("SELECT max(i) FROM t") == (249,)

    run(scenario)


def test_everything_else_of_the_driver_is_awaited_or_read(database: str) -> None:
    async def scenario() -> None:
        async with AsyncPool(sqlite3, database) as pool, pool.connection() as conn:
            assert conn.in_transaction is False
            assert conn.IntegrityError is sqlite3.IntegrityError
            await conn.create_function("twice", 1, lambda x: 2 * x)
            assert await conn.fetchone("SELECT twice(21)") == (42,)
            script = await conn.executescript("CREATE TABLE u (i); INSERT INTO u VALUES (1)")
            assert await script.fetchall() == []
            await conn.run_sync(setattr, "row_factory", sqlite3.Row)
            assert (await conn.fetchone("SELECT i FROM u"))["i"] == 1
            with pytest.raises(AttributeError, match=r"run_sync\(setattr, 'row_factory', value\)"):
                conn.row_factory = None
            assert conn.sync_connection.total_changes > 0
            assert await conn.run_sync(lambda c: isinstance(c, sqlite3.Connection))
            await conn.rollback()

    run(scenario)


def test_a_transaction_is_one_and_run_tries_again(database: str, fake: FakeDriver) -> None:
    async def scenario() -> None:
        async with AsyncPool(sqlite3, database) as pool:
            async with pool.transaction(mode="IMMEDIATE") as conn:
                assert conn.in_transaction
                await conn.execute("DELETE FROM t")
            with pytest.raises(PoolSettingError, match="isolation"):
                async with pool.transaction(isolation="SNAPSHOT"):
                    pass
            assert pool.stats().in_use == 0

            async def count(conn: AsyncConnection) -> int:
                return (await conn.fetchone("SELECT count(*) FROM t"))[0]  # type: ignore[no-any-return]

            assert await pool.run(count) == 0
            assert await pool.run(lambda c: c.execute("SELECT count(*) FROM t").fetchone()) == (0,)

    run(scenario)


@pytest.mark.parametrize("awaited", [True, False])
@pytest.mark.parametrize("where", ["execute", "commit", "begin"])
def test_a_serialization_failure_is_tried_again(
    fake: FakeDriver, where: str, awaited: bool
) -> None:
    calls: list[int] = []

    async def by_await(conn: AsyncConnection) -> int:
        calls.append(1)
        await conn.execute("INSERT x")
        return 7

    def by_thread(conn: Any) -> int:
        calls.append(1)
        conn.execute("INSERT x")
        return 7

    async def scenario() -> None:
        async with judged(fake) as pool:
            fn = by_await if awaited else by_thread
            fake.on(where, error=SerializationError("again"), times=2)
            assert await pool.run(fn) == 7
            assert len(calls) == (1 if where == "begin" else 3)
            assert fake.commits == 1
            fake.on(where, error=SerializationError("again"), times=2)
            with pytest.raises(SerializationError):
                await pool.run(fn, retries=1)
            fake.off(where)
            await serves_all(pool)

    run(scenario)


def test_threads_work_in_the_context_of_the_task(fake: FakeDriver) -> None:
    who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")

    async def ask(pool: AsyncPool, name: str) -> None:
        who.set(name)
        async with pool.connection() as conn:
            assert await conn.run_sync(lambda conn: who.get()) == name

    async def scenario() -> None:
        async with judged(fake) as pool:
            await asyncio.gather(*(ask(pool, str(number)) for number in range(10)))

    run(scenario)


def test_it_says_what_it_is(fake: FakeDriver) -> None:
    async def scenario() -> None:
        async with judged(fake, name="shop") as pool, pool.connection() as conn:
            cursor = await conn.execute("SELECT 1")
            assert repr(pool).startswith("<AsyncPool 'shop' open")
            assert "pooled" in repr(conn)
            assert "async" in repr(cursor)

    run(scenario)


# -- cancelling -----------------------------------------------------------------------------------


async def borrows(pool: AsyncPool) -> None:
    async with pool.connection() as conn:
        await conn.execute("INSERT x")
        async with conn.execute("SELECT 1") as cursor:
            assert [row async for row in cursor] == [(1,)]


async def transacts(pool: AsyncPool) -> None:
    async with pool.transaction() as conn:
        await conn.execute("INSERT x")


async def runs(pool: AsyncPool) -> None:
    async def insert(conn: AsyncConnection) -> None:
        await conn.execute("INSERT x")

    await pool.run(insert)


async def runs_by_thread(pool: AsyncPool) -> None:
    await pool.run(lambda conn: conn.execute("INSERT x"))


async def gives_back_by_hand(pool: AsyncPool) -> None:
    conn = await pool.connection()
    try:
        await conn.execute("INSERT x")
        await conn.commit()
    finally:
        await conn.close()


SCENARIOS = [borrows, transacts, runs, runs_by_thread, gives_back_by_hand]


@pytest.mark.parametrize("late", [False, True], ids=["before", "at_its_end"])
@pytest.mark.parametrize("fresh", [True, False], ids=["opened", "idle"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_cancel_at_every_await_costs_nothing(
    fake: FakeDriver, local: bool, scenario: Any, fresh: bool, late: bool
) -> None:
    async def strike_at(point: int) -> bool:
        async with judged(fake, local) as pool:
            if not fresh:
                await serves_all(pool)
            hit = await struck(functools.partial(scenario, pool), Cancel(point, late))
            await serves_all(pool)
            assert pool.stats().in_use == 0
            assert "leaked" not in pool.stats().closed
        return hit

    async def all_points() -> int:
        point = 0
        while await strike_at(point):
            point += 1
        return point

    assert asyncio.run(all_points()) >= 2


@pytest.mark.parametrize("late", [False, True], ids=["before", "at_its_end"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_cancel_in_line_passes_on_what_was_given(
    fake: FakeDriver, local: bool, scenario: Any, late: bool
) -> None:
    """Cancelled while it waits, or at the very instant at which it is served."""

    async def strike_at(point: int) -> bool:
        async with judged(fake, local, max_size=1) as pool:
            holder = await pool.connection()
            first = asyncio.create_task(
                struck(functools.partial(scenario, pool), Cancel(point, late))
            )
            await until(lambda: first.done() or pool.stats().waiting == 1)
            second = asyncio.create_task(borrows(pool))
            await until(lambda: pool.stats().waiting == (1 if first.done() else 2))
            await holder.close()
            hit = await first
            await second
            assert "leaked" not in pool.stats().closed
        return hit

    async def all_points() -> int:
        point = 0
        while await strike_at(point):
            point += 1
        return point

    assert asyncio.run(all_points()) >= 2


def test_a_cancelled_statement_is_stopped_and_its_connection_is_thrown_away(
    fake: FakeDriver,
) -> None:
    async def scenario() -> None:
        async with judged(fake) as pool:
            fake.on("execute", hang=True, times=1)
            conn = await pool.connection()
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(conn.execute("SELECT 1"), 0.05)
            await serves_all(pool)
            assert pool.stats().closed["invalidated"] == 1

    run(scenario)


def test_a_cancelled_statement_of_sqlite3_leaves_its_connection_of_use(database: str) -> None:
    async def scenario() -> None:
        async with AsyncPool(sqlite3, database, max_size=1) as pool:
            async with pool.connection() as conn:
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(conn.fetchall(FOREVER), 0.05)
                assert await conn.fetchone("SELECT 1") == (1,)
            assert pool.stats().opened == 1

    run(scenario)


def test_what_cannot_be_stopped_is_left_to_itself(fake: FakeDriver) -> None:
    """Its place is taken until it ends, and nobody else is inside the connection meanwhile."""

    async def scenario() -> None:
        fake.interruptible = False
        async with judged(fake, max_size=1, ping_timeout=0.1) as pool:
            fake.on("execute", hang=True, times=1)
            conn = await pool.connection()
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(conn.execute("SELECT 1"), 0.05)
            with pytest.raises(ConnectionReturned):
                await conn.execute("SELECT 1")
            await conn.close()
            with pytest.raises(PoolTimeout):
                await pool.connection(timeout=0.05)
            fake.release("execute")
            await serves_all(pool)

    run(scenario)


@pytest.mark.parametrize("what", ["commit", "rollback"])
def test_a_cancelled_end_of_a_transaction_is_waited_for(fake: FakeDriver, what: str) -> None:
    async def scenario() -> None:
        async with judged(fake) as pool:
            conn = await pool.connection()
            await conn.execute("INSERT x")
            fake.on(what, hang=True, times=1)
            ending = asyncio.create_task(getattr(conn, what)())
            await until(lambda: fake.waiting(what) == 1)
            ending.cancel()
            await asyncio.sleep(0)
            ending.cancel()
            await asyncio.sleep(0.01)
            assert not ending.done()
            fake.release(what)
            with pytest.raises(asyncio.CancelledError):
                await ending
            assert await conn.fetchall("SELECT 1") == [(1,)]
            await conn.close()
            assert pool.stats().opened == 1

    run(scenario)


def test_a_commit_that_hangs_is_cut_when_it_was_cancelled(fake: FakeDriver) -> None:
    async def scenario() -> None:
        async with judged(fake, ping_timeout=0.1) as pool:
            fake.on("commit", hang=True, times=1)
            conn = await pool.connection()
            await conn.execute("INSERT x")
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(conn.commit(), 0.05)
            await serves_all(pool)

    run(scenario)


def test_who_leaves_for_good_takes_a_task_that_is_inside_along(fake: FakeDriver) -> None:
    async def scenario() -> None:
        async with judged(fake, max_size=1) as pool:
            fake.on("execute", hang=True, times=1)
            conn = await pool.connection()
            inside = asyncio.create_task(conn.fetchall("SELECT 1"))
            await until(lambda: fake.waiting("execute"))
            leaving = asyncio.create_task(conn.close())
            await asyncio.sleep(0.01)
            leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving
            with pytest.raises(fake.OperationalError):
                await inside
            await serves_all(pool)

    run(scenario)


def test_a_function_that_goes_on_is_stopped_at_its_next_statement(database: str) -> None:
    started = threading.Event()
    goes_on = threading.Event()

    def many(conn: Any) -> None:
        started.set()
        goes_on.wait(PATIENCE)
        for _ in range(1000):
            conn.execute(FOREVER).fetchall()

    async def scenario() -> None:
        async with AsyncPool(sqlite3, database) as pool:
            task = asyncio.create_task(pool.run(many))
            await until(started.is_set)
            task.cancel()
            await asyncio.sleep(0)
            goes_on.set()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert pool.stats().in_use == 0

    run(scenario)


class Asked(Exception):
    """The server was asked to stop a statement."""


@pytest.mark.parametrize("how", ["by itself", "by SQL", "raises"])
def test_a_driver_that_can_asks_the_server(fake: FakeDriver, how: str) -> None:
    driver: Any = fake.driver()
    asked: list[Any] = []

    class Plugin(type(driver)):  # type: ignore[misc]
        def session_id(self, conn: Any) -> Any:
            return conn.number

        def cancel(self, conn: Any, session_id: Any) -> str | None:
            asked.append(session_id)
            if how == "raises":
                raise OSError("no route")
            if how == "by SQL":
                return f"KILL {session_id}"
            fake.kill(conn)
            return None

    driver.__class__ = Plugin

    async def scenario() -> None:
        async with AsyncPool(fake, driver=driver, max_size=1) as pool:
            fake.on("execute", hang=True, times=1)
            conn = await pool.connection()
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(conn.execute("SELECT 1"), 0.05)
            await conn.close()
        assert asked == [1]
        killed = [sql for _, sql in fake.executed if sql.startswith("KILL")]
        assert killed == (["KILL 1"] if how == "by SQL" else [])
        fake.assert_no_leak()

    run(scenario)


def test_a_loop_that_ends_leaves_nothing_lent(fake: FakeDriver) -> None:
    """Whoever ran it did not wait for its tasks."""
    pool = of(fake, max_size=1)
    fake.on("execute", hang=True, times=1)

    async def borrow() -> None:
        async with pool.connection() as conn:
            await conn.execute("SELECT 1")

    loop = asyncio.new_event_loop()
    holder, waiter = loop.create_task(borrow()), loop.create_task(borrow())
    while not fake.waiting("execute") or not pool.stats().waiting:
        loop.run_until_complete(asyncio.sleep(0.001))
    for task in (holder, waiter):
        task.get_coro().close()
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    del holder, waiter, task
    loop.close()
    asyncio.run(serves_all(pool))
    assert asyncio.run(pool.close())
    fake.assert_no_leak()


# -- any program ----------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.sampled_from(SCENARIOS),
        st.one_of(st.none(), st.tuples(st.integers(0, 8), st.booleans())),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=12,
)


@pytest.mark.parametrize("place", [False, True], ids=["remote", "local"])
@given(steps=STEPS, size=st.integers(1, 3), warm=st.booleans())
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_any_program_of_tasks_and_cancels_keeps_the_promises(
    place: bool, steps: Any, size: int, warm: bool
) -> None:
    """The bound, one borrower at a time, clean connections, and nothing lost."""
    fake = FakeDriver()

    async def task(pool: AsyncPool, scenario: Any, cancel: Any, pauses: int) -> None:
        for _ in range(pauses):
            await asyncio.sleep(0)
        act = functools.partial(scenario, pool)
        if cancel is None:
            await act()
        else:
            await struck(act, Cancel(*cancel))

    async def program() -> None:
        async with judged(fake, place, max_size=size, checkout_timeout=PATIENCE) as pool:
            if warm:
                await serves_all(pool)
            await asyncio.gather(*(task(pool, *step) for step in steps))
            await serves_all(pool)
            stats = pool.stats()
            assert (stats.in_use, stats.waiting, stats.timeouts) == (0, 0, 0)
            assert "leaked" not in stats.closed
        assert fake.peak <= size

    run(program)
