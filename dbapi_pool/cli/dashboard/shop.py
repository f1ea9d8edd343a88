"""Something to look at: threads of a small shop, that sell and count in an SQLite file until Ctrl-C.

There are more of them than connections, and one holds its connection too long. Must never know the
dashboard.
"""

from __future__ import annotations

import logging
import random
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from ... import Pool, PoolClosed, PoolTimeout

SELLERS = 8
MAX_SIZE = 4
_PACE = 0.02  # seconds, on average, that a sale takes
_STOCKTAKING = 4.0


def open_shop() -> None:
    """Comes back by `KeyboardInterrupt` only."""
    # The page tells of connections that are held too long; and here that is meant.
    logging.getLogger("dbapi_pool").addHandler(logging.NullHandler())
    with TemporaryDirectory(prefix="dbapi-pool-dashboard-", ignore_cleanup_errors=True) as folder:
        file = Path(folder, "shop.db")
        with (
            Pool(sqlite3, file, max_size=MAX_SIZE, name="shop", leak_after=2.0) as sales,
            Pool(sqlite3, file, max_size=2, name="reports") as reports,
        ):
            _stock(sales)
            _work(sales, reports)


def _stock(pool: Pool) -> None:
    with pool.connection() as conn:
        conn.execute("PRAGMA journal_mode = WAL")
        conn.execute("CREATE TABLE sale (product INTEGER, number INTEGER)")


def _work(sales: Pool, reports: Pool) -> None:
    closing = threading.Event()
    jobs: list[tuple[str, Callable[[], None]]] = [
        *((f"seller-{number}", lambda: _sell(sales, closing)) for number in range(SELLERS)),
        ("stocktaker", lambda: _take_stock(sales, closing)),
        ("reporter", lambda: _report(reports, closing)),
    ]
    threads = [
        threading.Thread(target=_until, args=(closing, job), name=name, daemon=True)
        for name, job in jobs
    ]
    for thread in threads:
        thread.start()
    try:
        closing.wait()
    finally:
        closing.set()
        for thread in threads:
            thread.join()


def _until(closing: threading.Event, job: Callable[[], None]) -> None:
    while not closing.is_set():
        try:
            job()
        except PoolTimeout:
            continue  # suspended for long, from the page: it says so there
        except PoolClosed:
            return


def _sell(pool: Pool, closing: threading.Event) -> None:
    with pool.transaction(mode="IMMEDIATE", timeout=1.0) as conn:
        conn.execute("INSERT INTO sale VALUES (?, 1)", (random.randrange(100),))
    with pool.connection(timeout=1.0) as conn:
        conn.execute("SELECT count(*) FROM sale WHERE product = 1").fetchone()
        closing.wait(random.expovariate(1 / _PACE))
    closing.wait(random.expovariate(1 / _PACE))


def _take_stock(pool: Pool, closing: threading.Event) -> None:
    with pool.connection(timeout=1.0) as conn:
        conn.execute("SELECT product, sum(number) FROM sale GROUP BY product").fetchall()
        closing.wait(_STOCKTAKING)
    closing.wait(_STOCKTAKING)


def _report(pool: Pool, closing: threading.Event) -> None:
    with pool.connection(timeout=1.0) as conn:
        conn.execute("SELECT count(*) FROM sale").fetchone()
    closing.wait(1.0)
