"""16 threads, 8 connections, 20,000 transactions with random failures on one SQLite file: it adds up.

Every transfer between accounts that was acknowledged is written down outside the database; in the end
the tables must say exactly that, neither a transfer less nor one more. A second process opens the
file in between. There are no sleeps, and real threads.
"""

from __future__ import annotations

import gc
import random
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from builds import FREE

from dbapi_pool import Pool
from dbapi_pool_sqlite import ManyThreads

THREADS = 16
CONNECTIONS = 8
TRANSACTIONS = 20_000
EACH = TRANSACTIONS // THREADS
ACCOUNTS = 20
START = 1000  # on each account
VISITS = 50  # transactions of the second process

SCHEMA = f"""
CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL CHECK (balance >= 0));
CREATE TABLE transfer (number INTEGER PRIMARY KEY, source INTEGER, target INTEGER, amount INTEGER);
CREATE TABLE visit (number INTEGER PRIMARY KEY);
WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < {ACCOUNTS})
INSERT INTO account SELECT id, {START} FROM n;
"""

# Without syncing to disk: this is about the pool, not about power failures.
prepare = ManyThreads(busy_timeout=60.0, synchronous="OFF")


class Cut(BaseException):
    """Raised in the middle, as KeyboardInterrupt is."""


class Mistake(Exception):
    """Raised by the application in the middle."""


class Transfer(NamedTuple):
    """One row of the ledger."""

    number: int
    source: int
    target: int
    amount: int


class Counted(sqlite3.Connection):
    """A connection that counts how many there are, in its own way."""

    lock = threading.Lock()
    open = 0
    peak = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        with Counted.lock:
            Counted.open += 1
            Counted.peak = max(Counted.peak, Counted.open)
        self._counted = True
        super().__init__(*args, **kwargs)

    def close(self) -> None:
        """Close it; it counts until that is done."""
        super().close()
        with Counted.lock:
            Counted.open -= self._counted
            self._counted = False


# -- one transfer, and what may come in between ---------------------------------------------------


def book(conn: Any, transfer: Transfer) -> None:
    """Write a transfer; not committed yet."""
    _, source, target, amount = transfer
    take = "UPDATE account SET balance = balance - ? WHERE id = ?"
    conn.execute(take, (amount, source))
    conn.execute(take, (-amount, target))
    conn.execute("INSERT INTO transfer VALUES (?, ?, ?, ?)", transfer)


def succeed(pool: Pool, transfer: Transfer) -> bool:
    pool.run(lambda conn: book(conn, transfer), mode="IMMEDIATE")
    return True


def succeed_in_a_with_block(pool: Pool, transfer: Transfer) -> bool:
    with pool.transaction(mode="IMMEDIATE") as conn:
        book(conn, transfer)
    return True


def make_a_mistake(pool: Pool, transfer: Transfer) -> bool:
    def fail(conn: Any) -> None:
        book(conn, transfer)
        raise Mistake

    with pytest.raises(Mistake):
        pool.run(fail, mode="IMMEDIATE")
    return False


def be_cut_short(pool: Pool, transfer: Transfer) -> bool:
    def fail() -> None:
        with pool.transaction(mode="IMMEDIATE") as conn:
            book(conn, transfer)
            raise Cut

    with pytest.raises(Cut):
        fail()
    return False


def overdraw(pool: Pool, transfer: Transfer) -> bool:
    too_much = transfer._replace(amount=START * ACCOUNTS + 1)
    with pytest.raises(sqlite3.IntegrityError):
        pool.run(lambda conn: book(conn, too_much), mode="IMMEDIATE")
    return False


def drop(pool: Pool, transfer: Transfer) -> bool:
    conn = pool.connection()
    conn.execute("BEGIN IMMEDIATE")
    book(conn, transfer)
    del conn  # neither committed nor closed
    if FREE:  # where another thread opened it, it may be noticed only now: see `ledger`
        gc.collect()
    return False


def invalidate(pool: Pool, transfer: Transfer) -> bool:
    conn = pool.connection()
    conn.execute("BEGIN IMMEDIATE")
    book(conn, transfer)
    conn.invalidate()
    return False


def return_without_commit(pool: Pool, transfer: Transfer) -> bool:
    conn = pool.connection()
    conn.execute("BEGIN IMMEDIATE")
    book(conn, transfer)
    kept = conn.cursor()
    conn.close()
    with pytest.raises(sqlite3.InterfaceError):
        kept.execute("COMMIT")
    return False


def dirty_the_session(pool: Pool, transfer: Transfer) -> bool:
    with pool.transaction(mode="IMMEDIATE") as conn:
        book(conn, transfer)
        conn.row_factory = sqlite3.Row
        conn.create_function("mine", 0, int)
    return True


FATES: dict[Callable[[Pool, Transfer], bool], int] = {
    succeed: 60,
    succeed_in_a_with_block: 15,
    make_a_mistake: 6,
    be_cut_short: 4,
    overdraw: 6,
    drop: 2,
    invalidate: 2,
    return_without_commit: 3,
    dirty_the_session: 2,
}


class Worker:
    """One thread's share of the work."""

    def __init__(self, number: int, pool: Pool, between: Callable[[], None]) -> None:
        self._first = number * EACH
        self._random = random.Random(number)
        self._pool = pool
        self._between = between
        self.acknowledged: list[Transfer] = []
        self.fates: Counter[str] = Counter()
        self.largest = 0  # size of the pool that was seen

    def work(self) -> Worker:
        for number in range(self._first, self._first + EACH):
            if number == self._first + EACH // 3:
                self._between()
            self._do(number)
        return self

    def _do(self, number: int) -> None:
        source, target = self._random.sample(range(1, ACCOUNTS + 1), 2)
        transfer = Transfer(number, source, target, self._random.randint(0, 3))
        (fate,) = self._random.choices(list(FATES), list(FATES.values()))
        try:
            if fate(self._pool, transfer):
                self.acknowledged.append(transfer)
        except sqlite3.IntegrityError:  # by chance the account was empty
            self.fates["empty account"] += 1
        self.fates[fate.__name__] += 1
        if number % 10 == 0:
            self.largest = max(self.largest, self._pool.stats().size)


# -- the second process ---------------------------------------------------------------------------

VISITOR = f"""
import sqlite3, sys
conn = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
for number in range({VISITS}):
    conn.execute("BEGIN IMMEDIATE")
    conn.execute("INSERT INTO visit VALUES (?)", (number,))
    print(*conn.execute("SELECT sum(balance), count(*) FROM account").fetchone())
    conn.execute("COMMIT")
"""


class Visit:
    """Another process that reads and writes the file while the threads do; once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._once = threading.Lock()
        self.seen: list[str] = []

    def __call__(self) -> None:
        if self._once.acquire(blocking=False):
            command = [sys.executable, "-c", VISITOR, str(self._path)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            self.seen = done.stdout.splitlines()


# -- the proof ------------------------------------------------------------------------------------


def make_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as conn:
        conn.executescript(SCHEMA)


def expected_balances(transfers: list[Transfer]) -> dict[int, int]:
    """What the accounts must hold after these transfers."""
    balances = dict.fromkeys(range(1, ACCOUNTS + 1), START)
    for _, source, target, amount in transfers:
        balances[source] -= amount
        balances[target] += amount
    return balances


def check_books(path: Path, transfers: list[Transfer]) -> None:
    """The database holds these transfers, and nothing else."""
    with closing(sqlite3.connect(path)) as conn:
        rows = conn.execute("SELECT * FROM transfer ORDER BY number").fetchall()
        assert rows == sorted(transfers)
        balances = dict(conn.execute("SELECT id, balance FROM account"))
        assert balances == expected_balances(transfers)
        assert sum(balances.values()) == ACCOUNTS * START
        assert conn.execute("SELECT count(*) FROM visit").fetchone() == (VISITS,)
        assert conn.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_20000_transactions_with_random_failures_add_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bank.db"
    make_database(path)
    visit = Visit(path)
    monkeypatch.setattr(Counted, "open", 0)
    monkeypatch.setattr(Counted, "peak", 0)

    with (
        Pool(
            sqlite3,
            path,
            max_size=CONNECTIONS,
            checkout_timeout=120.0,
            setup=prepare,
            factory=Counted,
        ) as pool,
        ThreadPoolExecutor(THREADS) as executor,
    ):
        jobs = [executor.submit(Worker(n, pool, visit).work) for n in range(THREADS)]
        workers = [job.result() for job in jobs]
        stats = pool.stats()
        assert pool.close(timeout=30.0)

    transfers = [transfer for worker in workers for transfer in worker.acknowledged]
    fates = sum((worker.fates for worker in workers), Counter())
    check_books(path, transfers)
    assert sum(fates[fate.__name__] for fate in FATES) == TRANSACTIONS
    assert all(fates[fate.__name__] for fate in FATES), "something never happened"
    assert visit.seen == [f"{ACCOUNTS * START} {ACCOUNTS}"] * VISITS
    assert (stats.in_use, stats.waiting) == (0, 0)
    assert max(worker.largest for worker in workers) <= CONNECTIONS
    assert 1 < Counted.peak <= CONNECTIONS
    assert Counted.open == 0
