"""`AsyncPool` over real servers: what is cancelled stops there, too, and nothing is lost."""

from __future__ import annotations

import asyncio
import functools
import random
import time
from typing import Any

import pytest
import servers
from cancelling import Cancel, struck

from dbapi_pool.aio import AsyncConnection, AsyncPool

MODULES = sorted(servers.FIXTURE_OF)
LONG = {
    "postgresql": "SELECT pg_sleep(600), 'to be stopped'",
    "mysql": (
        "SELECT count(*), 'to be stopped' FROM information_schema.columns a,"
        " information_schema.columns b, information_schema.columns c"
    ),
}
RUNNING = {
    "postgresql": (
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"
        " AND query LIKE '%to be st' || 'opped%'"
    ),
    "mysql": (
        "SELECT count(*) FROM information_schema.processlist WHERE command = 'Query'"
        " AND info LIKE concat('%to be st', 'opped%')"
    ),
}
CREATE = "CREATE TABLE aio_ledger (id INTEGER PRIMARY KEY)"


@pytest.fixture(params=MODULES)
def module(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(request: pytest.FixtureRequest, module: str) -> servers.Server:
    servers.driver_module(module)
    found: servers.Server = request.getfixturevalue(servers.FIXTURE_OF[module])
    return found


def pool_on(server: servers.Server, module: str, **settings: Any) -> AsyncPool:
    return AsyncPool(servers.driver_module(module), **server.arguments(module), **settings)


async def running(server: servers.Server, module: str) -> int:
    return int(server.query(RUNNING[servers.PLUGIN_OF[module]])[0][0])


async def until_running(server: servers.Server, module: str, count: int) -> None:
    end = time.monotonic() + servers.START_PATIENCE
    while await running(server, module) != count:
        assert time.monotonic() < end, f"not {count} statements run on the server"
        await asyncio.sleep(0.01)


def test_a_cancelled_statement_ends_on_the_server(server: servers.Server, module: str) -> None:
    """Within two seconds, though the statement would take minutes; and the pool is whole."""

    async def scenario() -> None:
        async with pool_on(server, module, max_size=2) as pool:
            conn = await pool.connection()
            task = asyncio.create_task(conn.fetchall(LONG[servers.PLUGIN_OF[module]]))
            await until_running(server, module, 1)
            begin = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await conn.close()
            await until_running(server, module, 0)
            assert time.monotonic() - begin < 2.0
            async with pool.connection() as one, pool.connection() as other:
                assert await one.fetchone("SELECT 1") == await other.fetchone("SELECT 1") == (1,)

    asyncio.run(scenario())
    servers.wait_for(lambda: server.sessions() == 0, servers.START_PATIENCE)


@pytest.mark.parametrize("late", [False, True], ids=["before", "at_its_end"])
def test_a_cancel_at_every_await_loses_no_place_and_no_commit_twice(
    server: servers.Server, module: str, late: bool
) -> None:
    """Of what was not cancelled every row is there; of what was, at most one."""
    sure: list[int] = []

    async def insert(pool: AsyncPool, number: int) -> None:
        async with pool.transaction() as conn:
            await conn.execute(f"INSERT INTO aio_ledger VALUES ({number})")
            async with conn.execute("SELECT id FROM aio_ledger") as cursor:
                assert number in [row[0] async for row in cursor]
        sure.append(number)

    async def scenario() -> None:
        async with pool_on(server, module, max_size=2) as pool:
            async with pool.connection() as conn:
                await conn.execute(CREATE)
            try:
                point = 0
                while await struck(functools.partial(insert, pool, point), Cancel(point, late)):
                    async with pool.connection() as one, pool.connection() as other:
                        await asyncio.gather(one.fetchone("SELECT 1"), other.fetchone("SELECT 1"))
                    point += 1
                assert point > 4
                assert "leaked" not in pool.stats().closed
                async with pool.connection() as conn:
                    found = {row[0] for row in await conn.fetchall("SELECT id FROM aio_ledger")}
                assert set(sure) <= found
                assert point in sure
            finally:
                async with pool.connection() as conn:
                    await conn.execute("DROP TABLE aio_ledger")

    asyncio.run(scenario())
    servers.wait_for(lambda: server.sessions() == 0, servers.START_PATIENCE)


def test_many_tasks_and_random_cancels_keep_the_bound(server: servers.Server, module: str) -> None:
    """The bound is asked of the server; money is neither made nor lost."""
    chance = random.Random(7)
    most = 0

    async def move(conn: AsyncConnection) -> None:
        one, other = sorted(chance.sample(range(5), 2))
        await conn.execute(f"UPDATE aio_money SET amount = amount - 1 WHERE id = {one}")
        await conn.execute(f"UPDATE aio_money SET amount = amount + 1 WHERE id = {other}")

    async def work(pool: AsyncPool) -> None:
        for _ in range(8):
            task = asyncio.create_task(pool.run(move, retries=20))
            if chance.random() < 0.4:
                await asyncio.sleep(chance.random() * 0.005)
                task.cancel()
            await asyncio.wait((task,))
            if not task.cancelled():
                task.result()

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, await asyncio.to_thread(server.sessions))
            await asyncio.sleep(0.005)

    async def scenario() -> None:
        async with pool_on(server, module, max_size=3) as pool:
            async with pool.connection() as conn:
                await conn.execute(
                    "CREATE TABLE aio_money (id INTEGER PRIMARY KEY, amount INTEGER)"
                )
                await conn.execute(
                    "INSERT INTO aio_money VALUES (0, 9), (1, 9), (2, 9), (3, 9), (4, 9)"
                )
            watching = asyncio.create_task(watch())
            try:
                await asyncio.gather(*(work(pool) for _ in range(10)))
                async with pool.connection() as conn:
                    total = await conn.fetchone("SELECT sum(amount), count(*) FROM aio_money")
                assert (int(total[0]), total[1]) == (45, 5)
                assert "leaked" not in pool.stats().closed
            finally:
                watching.cancel()
                async with pool.connection() as conn:
                    await conn.execute("DROP TABLE aio_money")

    asyncio.run(scenario())
    assert 1 <= most <= 3
    servers.wait_for(lambda: server.sessions() == 0, servers.START_PATIENCE)


@pytest.mark.parametrize("module", ["pymysql", "MySQLdb"])
def test_rows_that_nobody_read_are_no_trouble(server: servers.Server, module: str) -> None:
    """Of a cursor that reads from the wire as it goes."""
    from importlib import import_module

    streaming = import_module(f"{module}.cursors").SSCursor
    many = "SELECT 1 FROM information_schema.columns a, information_schema.columns b LIMIT 100000"

    async def scenario() -> None:
        async with pool_on(server, module, max_size=1) as pool:
            for _ in range(3):
                conn = await pool.connection()
                cursor = await conn.cursor(streaming)
                await cursor.execute(many)
                assert (await cursor.fetchone())[0] == 1
                await conn.close()
            async with pool.connection() as conn:
                assert await conn.fetchone("SELECT 2") == (2,)

    asyncio.run(scenario())


@pytest.mark.parametrize("module", ["psycopg", "psycopg2"])
def test_through_pgbouncer_a_cancel_reaches_the_server(
    postgresql: servers.Server, pgbouncer_by_transaction: servers.Server, module: str
) -> None:
    async def scenario() -> None:
        async with pool_on(pgbouncer_by_transaction, module, max_size=1) as pool:
            conn = await pool.connection()
            task = asyncio.create_task(conn.fetchall(LONG["postgresql"]))
            await until_running(postgresql, module, 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await conn.close()
            await until_running(postgresql, module, 0)
            async with pool.connection() as conn:
                assert await conn.fetchone("SELECT 1") == (1,)

    asyncio.run(scenario())
