"""Coroutines: `AsyncPool` beside drivers written for asyncio: `python -m benchmarks.asynchronous`.

Requests per second by turns within one run, and what is left after tasks were cancelled at random.
Needs aiosqlite, aiomysql, asyncpg and psycopg_pool; starts private servers, as the tests do.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import random
import resource
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from dbapi_pool.aio import AsyncPool

from . import report
from .measures.real import _support
from .measuring import Row, median

SIZE = 8
TASKS = 16
Fetch = Callable[[str], Awaitable[Any]]
Borrow = Callable[[], AbstractAsyncContextManager[Fetch]]


class Kind(NamedTuple):
    """A pool: where it is used, what it is called, and how to open it."""

    database: str
    name: str
    opened: Callable[[dict[str, Any]], AbstractAsyncContextManager[Borrow]]


class Statements(NamedTuple):
    """What is asked of a kind of server. `short`, with a number that must come back; it takes a few
    milliseconds. `endless`; and what tells how many of those run, where a server can be asked."""

    short: str
    endless: str
    running: str | None


STATEMENTS = {
    "SQLite": Statements(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 20000)"
        " SELECT {0} + 0 * max(i) FROM n",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 200000000)"
        " SELECT max(i) FROM n",
        None,
    ),
    "PostgreSQL": Statements(
        "SELECT {0} FROM pg_sleep(0.003)",
        "SELECT 'endless' FROM pg_sleep(60)",
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%end' || 'less%'",
    ),
    "MariaDB": Statements(
        "SELECT {0} + sleep(0.003)",
        "SELECT count(*), 'endless' FROM information_schema.columns a,"
        " information_schema.columns b, information_schema.columns c",
        "SELECT count(*) FROM information_schema.processlist"
        " WHERE command = 'Query' AND info LIKE concat('%end', 'less%')",
    ),
}


# -- the pools --------------------------------------------------------------------------------------


def _ours(module: str) -> Callable[[dict[str, Any]], AbstractAsyncContextManager[Borrow]]:
    @asynccontextmanager
    async def opened(given: dict[str, Any]) -> AsyncIterator[Borrow]:
        driver = importlib.import_module(module)
        async with AsyncPool(driver, **given, max_size=SIZE, min_size=SIZE) as pool:

            @asynccontextmanager
            async def borrow() -> AsyncIterator[Fetch]:
                async with pool.connection() as conn:
                    yield conn.fetchall

            yield borrow

    return opened


@asynccontextmanager
async def _aiosqlite(given: dict[str, Any]) -> AsyncIterator[Borrow]:
    """It has no pool: a queue of connections, as its users write one."""
    import aiosqlite

    idle: asyncio.Queue[Any] = asyncio.Queue()
    conns = [await aiosqlite.connect(**given) for _ in range(SIZE)]
    for conn in conns:
        idle.put_nowait(conn)

    @asynccontextmanager
    async def borrow() -> AsyncIterator[Fetch]:
        conn = await idle.get()
        try:
            yield conn.execute_fetchall
            await conn.rollback()
        finally:
            idle.put_nowait(conn)

    try:
        yield borrow
    finally:
        for conn in conns:
            await conn.close()


@asynccontextmanager
async def _asyncpg(given: dict[str, Any]) -> AsyncIterator[Borrow]:
    import asyncpg

    renamed = {**given, "database": given["dbname"], "ssl": False}
    for name in ("dbname", "sslmode"):
        renamed.pop(name, None)
    async with asyncpg.create_pool(**renamed, min_size=SIZE, max_size=SIZE) as pool:

        @asynccontextmanager
        async def borrow() -> AsyncIterator[Fetch]:
            async with pool.acquire() as conn:
                yield conn.fetch

        yield borrow


@asynccontextmanager
async def _psycopg_pool(given: dict[str, Any]) -> AsyncIterator[Borrow]:
    import psycopg_pool

    made = psycopg_pool.AsyncConnectionPool(kwargs=given, min_size=SIZE, max_size=SIZE, open=False)
    async with made as pool:

        @asynccontextmanager
        async def borrow() -> AsyncIterator[Fetch]:
            async with pool.connection() as conn:

                async def fetch(sql: str) -> Any:
                    return await (await conn.execute(sql)).fetchall()

                yield fetch

        yield borrow


@asynccontextmanager
async def _aiomysql(given: dict[str, Any]) -> AsyncIterator[Borrow]:
    import aiomysql

    names = {"host": "host", "port": "port", "user": "user", "password": "password"}
    renamed = {new: given[old] for old, new in names.items()}
    renamed["db"] = given["database"]
    pool = await aiomysql.create_pool(**renamed, minsize=SIZE, maxsize=SIZE)

    @asynccontextmanager
    async def borrow() -> AsyncIterator[Fetch]:
        async with pool.acquire() as conn:

            async def fetch(sql: str) -> Any:
                async with conn.cursor() as cursor:
                    await cursor.execute(sql)
                    return await cursor.fetchall()

            yield fetch
            await conn.rollback()

    try:
        yield borrow
    finally:
        pool.terminate()
        await pool.wait_closed()


KINDS = [
    Kind("SQLite", "AsyncPool, sqlite3", _ours("sqlite3")),
    Kind("SQLite", "aiosqlite, a queue", _aiosqlite),
    Kind("PostgreSQL", "AsyncPool, psycopg2", _ours("psycopg2")),
    Kind("PostgreSQL", "asyncpg", _asyncpg),
    Kind("PostgreSQL", "psycopg_pool, async", _psycopg_pool),
    Kind("MariaDB", "AsyncPool, pymysql", _ours("pymysql")),
    Kind("MariaDB", "AsyncPool, MySQLdb", _ours("MySQLdb")),
    Kind("MariaDB", "aiomysql", _aiomysql),
]


# -- what is measured -------------------------------------------------------------------------------


async def rate(borrow: Borrow, seconds: float) -> tuple[float, float]:
    """Requests per second, a `SELECT 1` each, of `TASKS` tasks; CPU microseconds of each."""
    count = 0
    end = time.perf_counter() + seconds

    async def work() -> None:
        nonlocal count
        while time.perf_counter() < end:
            async with borrow() as fetch:
                await fetch("SELECT 1")
            count += 1

    begin, cpu = time.perf_counter(), _cpu()
    await asyncio.gather(*(work() for _ in range(TASKS)))
    return count / (time.perf_counter() - begin), (_cpu() - cpu) / count * 1e6


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def cancelled(borrow: Borrow, statements: Statements, times: int) -> tuple[int, int, int]:
    """Requests that are cancelled at random: answers that were another's, requests that failed though
    nobody cancelled them, and places that are lost afterwards."""
    chance = random.Random(1)
    wrong = failed = 0

    async def ask(number: int) -> None:
        nonlocal wrong
        async with borrow() as fetch:
            rows = await fetch(statements.short.format(number))
            wrong += int(rows[0][0]) != number

    async def client(first: int) -> None:
        nonlocal failed
        for number in range(first, first + times):
            task = asyncio.ensure_future(ask(number))
            if chance.random() < 0.7:
                await asyncio.wait((task,), timeout=chance.random() * 0.006)
                task.cancel()
            await asyncio.wait((task,), timeout=10.0)
            failed += not task.done() or (not task.cancelled() and task.exception() is not None)

    await asyncio.gather(*(client(1000 * n) for n in range(TASKS)))
    return wrong, failed, SIZE - await _places(borrow)


async def _places(borrow: Borrow) -> int:
    """How many can borrow at once."""
    found = 0
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(SIZE):
            with contextlib.suppress(Exception):
                fetch = await asyncio.wait_for(stack.enter_async_context(borrow()), 2.0)
                await asyncio.wait_for(fetch("SELECT 1"), 2.0)
                found += 1
    return found


async def stopped(
    borrow: Borrow, statements: Statements, ask: Callable[[str], int]
) -> float | None:
    """Seconds until a cancelled statement no longer runs on the server; None: it did after 5."""
    assert statements.running is not None

    async def endless() -> None:
        async with borrow() as fetch:
            await fetch(statements.endless)

    task = asyncio.ensure_future(endless())
    while ask(statements.running) == 0:
        await asyncio.sleep(0.01)
    begin = time.perf_counter()
    task.cancel()
    while time.perf_counter() - begin < 5.0:
        if ask(statements.running) == 0:
            await asyncio.wait((task,), timeout=5.0)
            return time.perf_counter() - begin
        await asyncio.sleep(0.01)
    await asyncio.wait((task,), timeout=1.0)
    return None


# -- one run ----------------------------------------------------------------------------------------


class Place(NamedTuple):
    """A database: what connects to it, by driver, and whom to ask what runs."""

    given: Callable[[str], dict[str, Any]]
    ask: Callable[[str], int] | None


@contextlib.contextmanager
def places(wanted: set[str]) -> Iterator[dict[str, Place]]:
    """The databases."""
    servers = _support("servers")
    modules = {"PostgreSQL": "psycopg2", "MariaDB": "pymysql"}
    with contextlib.ExitStack() as stack:
        found: dict[str, Place] = {}
        if "SQLite" in wanted:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            file = str(Path(folder) / "file.db")
            sqlite3.connect(file).close()
            found["SQLite"] = Place(lambda module: {"database": file}, None)
        for database in wanted - {"SQLite"}:
            server = stack.enter_context(servers.running(getattr(servers, database)))
            found[database] = _place(server, modules[database])
        yield found


def _place(server: Any, usual: str) -> Place:
    def given(name: str) -> dict[str, Any]:
        module = name.rpartition(", ")[2]
        return dict(server.arguments(module if module in ("MySQLdb",) else usual))

    return Place(given, lambda sql: int(server.query(sql)[0][0]))


async def _rates(kinds: list[Kind], found: dict[str, Place], seconds: float, rounds: int) -> Any:
    rates: dict[str, list[tuple[float, float]]] = {kind.name: [] for kind in kinds}
    for _ in range(rounds):
        for kind in kinds:
            async with kind.opened(found[kind.database].given(kind.name)) as borrow:
                await rate(borrow, seconds / 10)
                rates[kind.name].append(await rate(borrow, seconds))
    return rates


async def _row(kind: Kind, place: Place, rates: list[tuple[float, float]], times: int) -> Row:
    statements = STATEMENTS[kind.database]
    async with kind.opened(place.given(kind.name)) as borrow:
        wrong, failed, lost = await cancelled(borrow, statements, times)
        ends: float | None = None
        if place.ask is not None:
            ends = await stopped(borrow, statements, place.ask)
    return {
        "": kind.name,
        "requests/s": f"{median([one for one, _ in rates]):,.0f}",
        "CPU each": f"{median([cpu for _, cpu in rates]):,.0f} us",
        "wrong answers": wrong,
        "others failed": failed,
        f"places lost of {SIZE}": lost,
        "a cancelled statement ends": _words(place, ends),
    }


def _words(place: Place, ends: float | None) -> str | None:
    if place.ask is None:
        return None
    return "not within 5 s" if ends is None else f"{ends * 1000:,.0f} ms"


async def measured(names: set[str], seconds: float, rounds: int, times: int) -> list[Row]:
    """A row for each pool."""
    kinds = [kind for kind in KINDS if kind.database in names]
    with places(names) as found:
        rates = await _rates(kinds, found, seconds, rounds)
        return [await _row(kind, found[kind.database], rates[kind.name], times) for kind in kinds]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and show or write what was found."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.asynchronous", description=__doc__)
    parser.add_argument("--only", default="SQLite,PostgreSQL,MariaDB", metavar="A,B")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each pool in each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--times", type=int, default=60, help="requests of each task, cancelled")
    parser.add_argument("--write", metavar="FILE", type=Path, help="renew the table there")
    chosen = parser.parse_args(arguments)
    names = {name.strip() for name in chosen.only.split(",")}
    rows = asyncio.run(measured(names, chosen.seconds, chosen.rounds, chosen.times))
    table = report.table(rows)
    print(table)
    if chosen.write:
        text = chosen.write.read_text("utf-8")
        chosen.write.write_text(report.written(text, {"aio": table}), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
