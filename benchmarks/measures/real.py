"""Real servers: requests per second, and round trips as a relay on the wire counts them."""

from __future__ import annotations

import contextlib
import importlib
import operator
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ..adapters import Adapter, Private, Putting, _is_installed, waiting, waiting_name
from ..drivers import Real
from ..measuring import Row, Run, at_once, measure, median
from .waiting import jain

SUPPORT = Path(__file__).parents[2] / "tests" / "support"
SIZE = 8
CROWD = 16
COUNTED = 20


def _support(name: str) -> Any:
    """A module of the tests: private servers and the relay are made there once, for both."""
    if str(SUPPORT) not in sys.path:
        sys.path.append(str(SUPPORT))
    return importlib.import_module(name)


class PrivateOnes(Private):
    """Private connections whose users end their transactions, and no more."""

    ends_transactions = False

    def __init__(self, driver: Any, size: int, timeout: float = 30.0) -> None:
        super().__init__(driver, size, timeout)
        self.give_back = lambda conn: None


class ConnectEachTime(Putting):
    """No pool, and no connection kept: what pooling saves."""

    name = "no pool: connect each time"
    give_back = staticmethod(operator.methodcaller("close"))

    def __init__(self, driver: Any, size: int, timeout: float = 30.0) -> None:
        self.borrow = driver.connect

    def warm(self, count: int) -> None:
        """Nothing can be."""


def select_1(pool: Adapter, number: int) -> None:
    """The smallest request: the transaction that the driver began is the pool's to end."""
    _read(pool, "SELECT 1")


def read_a_row(pool: Adapter, number: int) -> None:
    """The same with a row of a table."""
    _read(pool, f"SELECT number FROM benchmark WHERE id = {number}")


def _read(pool: Adapter, sql: str) -> None:
    conn = pool.borrow()
    cursor = conn.cursor()
    cursor.execute(sql)
    cursor.fetchone()
    cursor.close()
    if not pool.ends_transactions:
        conn.rollback()
    pool.give_back(conn)


def transaction(pool: Adapter, number: int) -> None:
    """A small one: a row of the thread's own is read, changed and committed."""
    conn = pool.borrow()
    cursor = conn.cursor()
    if pool.autocommits:
        cursor.execute("BEGIN")
    cursor.execute("SELECT number FROM benchmark WHERE id = %s", (number,))
    cursor.fetchone()
    cursor.execute("UPDATE benchmark SET number = number + 1 WHERE id = %s", (number,))
    if pool.autocommits:
        cursor.execute("COMMIT")
    else:
        conn.commit()
    cursor.close()
    pool.give_back(conn)


REQUESTS: dict[str, Callable[[Adapter, int], None]] = {
    "select 1": select_1,
    "read": read_a_row,
    "transaction": transaction,
}


class Rate(NamedTuple):
    """What one turn has shown."""

    per_second: float
    cpu: float
    """Microseconds of this process's CPU time per request."""
    jain: float


def rate(
    pool: Adapter, request: Callable[[Adapter, int], None], threads: int, seconds: float
) -> Rate:
    """What so many threads get done in so many seconds of wall time.

    Each thread makes one request before, for what is only done once.
    """
    done = [0] * threads
    begun: list[tuple[float, float]] = []
    ready = threading.Barrier(threads, action=lambda: begun.append(_clocks()))

    def work(number: int) -> None:
        request(pool, number)
        ready.wait()
        end = begun[0][0] + seconds
        while time.perf_counter() < end:
            request(pool, number)
            done[number] += 1

    at_once(threads, work)
    wall, cpu = (now - before for now, before in zip(_clocks(), begun[0], strict=True))
    return Rate(sum(done) / wall, cpu / max(sum(done), 1) * 1e6, jain(done))


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


@contextlib.contextmanager
def _server(run: Run, kind: str) -> Iterator[Any]:
    """A private server with a table; None, and noted, if there is none."""
    import pytest  # the tests' servers skip by it

    with contextlib.ExitStack() as stack:
        try:
            servers = _support("servers")
            server = stack.enter_context(servers.running(getattr(servers, kind)))
            _make_table(server)
        except (ImportError, pytest.skip.Exception) as exc:
            run.skipped[kind] = str(exc)
            server = None
        yield server


def _make_table(server: Any) -> None:
    name = "psycopg2" if server.kind == "postgresql" else "pymysql"
    conn = Real(importlib.import_module(name), **server.arguments(name)).connect()
    cursor = conn.cursor()
    cursor.execute("DROP TABLE IF EXISTS benchmark")
    cursor.execute("CREATE TABLE benchmark (id INTEGER PRIMARY KEY, number INTEGER)")
    cursor.executemany("INSERT INTO benchmark VALUES (%s, 0)", [(n,) for n in range(CROWD)])
    conn.commit()
    conn.close()


def round_trips(server: Any, kind: type[Adapter], name: str, request: Any) -> float:
    """Per request, in the steady state."""
    relay_module = _support("relay")
    with relay_module.Relay(server.host, server.port) as relay:
        there = {**server.arguments(name), "host": relay.host, "port": relay.port}
        pool = waiting(kind, Real(importlib.import_module(name), **there), 1)
        for _ in range(3):
            request(pool, 0)
        before = relay.round_trips
        for _ in range(COUNTED):
            request(pool, 0)
        trips = relay.round_trips - before
        pool.close()
    return float(trips / COUNTED)


def _kinds(run: Run, name: str) -> list[type[Adapter]]:
    chosen = run.kinds(name, lambda kind: kind.lends_to_many())
    own = name in ("psycopg", "mysql.connector")  # there beside the pool that is for that driver
    if own:
        chosen = [kind for kind in chosen if kind.drivers or kind.name == "dbapi_pool Pool"]
    return [PrivateOnes, *([] if own else [ConnectEachTime]), *chosen]


def _measure_driver(run: Run, server: Any, name: str) -> list[Row]:
    kinds = _kinds(run, name)
    driver = Real(importlib.import_module(name), **server.arguments(name))
    rows: dict[str, Row] = {}
    for kind in kinds:
        row = rows[waiting_name(kind)] = {"driver": name, "pool": waiting_name(kind)}
        for what, request in REQUESTS.items():
            row[f"{what}, round trips"] = round_trips(server, kind, name, request)
    seconds, rounds = run.scale((0.2, 9), (0.2, 2), (0.02, 1))
    for what, request in REQUESTS.items():
        for threads in run.scale((1, CROWD), (1, CROWD), (2,)):
            rates = _rates(kinds, driver, request, threads, seconds, rounds)
            for pool, each in rates.items():
                row = rows[pool]
                row[f"{what}/s, {threads} thr."] = round(median(one.per_second for one in each))
                if threads == 1:
                    row[f"{what}, CPU us"] = round(median(one.cpu for one in each))
                else:
                    row[f"{what}, Jain"] = round(median(one.jain for one in each), 2)
    return list(rows.values())


def _rates(
    kinds: list[type[Adapter]],
    driver: Real,
    request: Any,
    threads: int,
    seconds: float,
    rounds: int,
) -> dict[str, list[Rate]]:
    rates: dict[str, list[Rate]] = {waiting_name(kind): [] for kind in kinds}
    for _ in range(rounds):
        for kind in kinds:
            # Made for each turn: all at once would be more connections than a server takes.
            pool = waiting(kind, driver, SIZE)
            pool.warm(min(threads, SIZE))
            # Without a pool nobody waits: as many threads as there would be connections.
            count = min(threads, SIZE) if kind is PrivateOnes else threads
            rates[waiting_name(kind)].append(rate(pool, request, count, seconds))
            pool.close()
    return rates


def _measure_server(run: Run, kind: str, drivers: tuple[str, ...]) -> list[Row]:
    rows: list[Row] = []
    with _server(run, kind) as server:
        for name in drivers if server is not None else ():
            if _is_installed(name):
                rows += _measure_driver(run, server, name)
            else:
                run.skipped[name] = f"not installed: {name}"
    return rows


@measure("postgresql", "PostgreSQL")
def postgresql(run: Run) -> list[Row]:
    """A private server over loopback. Each request borrows: `select 1` and *read* (a row by its
    key) leave their transaction to the pool, *transaction* reads and updates a row and commits.
    Round trips per request, counted by a relay between driver and server; requests per second of
    one thread and of 16 threads on 8 connections (the private connections: 8 threads), wall time,
    medians of 9 rounds by turns; for one thread also the CPU time (us) that a request takes in this
    process, which a busy machine disturbs less. Server, driver and pool share the machine, so these
    are ratios, not capacities. What a pool does besides (pings, resets) shows in the round trips.
    psycopg_pool is for psycopg 3 only, so it stands beside `Pool` on that driver. peewee's
    connections are in autocommit mode, as peewee makes them. Ideal: the private connections.
    """
    return _measure_server(run, "PostgreSQL", ("psycopg2", "psycopg"))


@measure("mariadb", "MariaDB")
def mariadb(run: Run) -> list[Row]:
    """As for PostgreSQL. `select 1` touches no table, so MariaDB begins no transaction for it and our
    pool, which knows that, sends no rollback; *read* is what is usual. mysql.connector's pool is for
    that driver only, so it stands beside `Pool` on it. Ideal: the private connections.
    """
    return _measure_server(run, "MariaDB", ("pymysql", "mysql.connector"))
