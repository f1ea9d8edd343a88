"""A stranger's script, for mypy to check against the installed wheel. It is not run."""

from __future__ import annotations

import sqlite3
from typing import Any

from typing_extensions import assert_type

from dbapi_pool import Pool, PoolError, PoolTimeout, manage, patch


def count(conn: Any) -> int:
    cursor = conn.cursor()
    cursor.execute("SELECT COUNT(*) FROM word")
    return int(cursor.fetchone()[0])


def use(pool: Pool) -> int:
    with pool.connection(timeout=1.5) as conn:
        conn.cursor().execute("CREATE TABLE IF NOT EXISTS word (word TEXT)")
    with pool.transaction(mode="IMMEDIATE") as conn:
        conn.cursor().execute("INSERT INTO word VALUES (?)", ("pool",))
    with pool.transaction(isolation="serializable", readonly=True) as conn:
        conn.cursor().execute("SELECT 1")
    return assert_type(pool.run(count, retries=3), int)


def report(pool: Pool) -> str:
    stats = pool.stats()
    assert_type(stats.in_use, int)
    assert_type(stats.opened, int)
    assert_type(stats.closed["expired"], int)
    return f"{stats.idle} of {stats.size} idle, {stats.timeouts} timeouts"


def legacy() -> float:
    db = manage("sqlite3", max_pools=4, max_size=20)
    assert_type(db.connect("words.db").cursor(), Any)
    assert_type(db.paramstyle, Any)
    assert_type(db.pools(), tuple[Pool, ...])
    with patch(sqlite3, reset="always") as patched:
        assert_type(patched.stats().opened, int)
    started = patch("sqlite3")
    started.start().close()
    started.stop()
    return db.stats().saved_time


def main() -> None:
    with Pool(sqlite3, "words.db", max_size=4, checkout_timeout=5.0) as pool:
        assert_type(pool, Pool)
        try:
            print(use(pool), report(pool))
        except PoolTimeout as exc:
            error: PoolError = exc
            print(error)
    Pool("sqlite:///words.db", setup="PRAGMA foreign_keys = ON").close(timeout=1.0)
    Pool(sqlite3.connect, database="words.db", min_size="1")  # type: ignore[arg-type]


main()
