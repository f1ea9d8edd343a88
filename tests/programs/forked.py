"""A program that forks with idle and lent connections, and then works on both sides.

    python forked.py MODULE ARGUMENTS-AS-JSON SECONDS

Ends with 0 and prints "both sides worked" if neither noticed the other. It is a program of its own
since a test runner that forks itself would have two of everything. Must never use pytest.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import sys
import time
from typing import Any

from dbapi_pool import Pool
from dbapi_pool.errors import ConnectionReturned

MODULE, ARGUMENTS, SECONDS = sys.argv[1], json.loads(sys.argv[2]), float(sys.argv[3])
ON_POSTGRESQL = MODULE.startswith("psycopg")
ID = "SELECT pg_backend_pid()" if ON_POSTGRESQL else "SELECT CONNECTION_ID()"
PATIENCE = 60


def one(conn: Any, sql: str) -> Any:
    cursor = conn.cursor()
    try:
        cursor.execute(sql)
        return cursor.fetchone()[0]
    finally:
        cursor.close()


def session_ids(pool: Pool, count: int) -> set[int]:
    """The ids of `count` sessions, borrowed at the same time."""
    lent = [pool.connection() for _ in range(count)]
    ids = {one(conn, ID) for conn in lent}
    for conn in lent:
        conn.close()
    assert len(ids) == count
    return ids


def work(pool: Pool) -> int:
    """Queries for a while; how many leases."""
    end = time.monotonic() + SECONDS
    leases = 0
    while time.monotonic() < end:
        leases += 1
        with pool.connection() as conn:
            assert one(conn, f"SELECT {leases}") == leases
            assert one(conn, f"SELECT {os.getpid()}") == os.getpid()
    return leases


def child(pool: Pool, lent: Any, cursor: Any, parents: set[int]) -> None:
    """Its own sessions, and none of the parent's, however it ends."""
    for use in (lambda: one(lent, "SELECT 1"), lent.commit, lambda: cursor.execute("SELECT 1")):
        try:
            use()
        except ConnectionReturned:
            pass
        else:
            raise AssertionError("the parent's connection works in the child")
    assert pool.stats().size == 0
    assert work(pool) > 3
    assert not session_ids(pool, 3) & parents
    assert pool.close()


def main() -> None:
    pool = Pool(importlib.import_module(MODULE), max_size=3, **ARGUMENTS)
    everyone = session_ids(pool, 3)
    lent = pool.connection()
    mine = one(lent, ID)
    cursor = lent.cursor()
    cursor.execute("CREATE TEMPORARY TABLE forked (n int)")
    lent.commit()
    cursor.execute("INSERT INTO forked VALUES (7)")

    pid = os.fork()
    if pid == 0:
        signal.alarm(int(SECONDS) + PATIENCE)
        child(pool, lent, cursor, everyone)
        del pool, lent, cursor
        gc.collect()
        sys.exit(0)  # with finalizers, as programs end
    assert work(pool) > 3
    _, status = os.waitpid(pid, 0)
    assert status == 0, f"the child failed with status {status}"
    assert work(pool) > 3
    assert one(lent, "SELECT n FROM forked") == 7  # its transaction went on
    lent.commit()
    assert one(lent, ID) == mine
    lent.close()
    gc.collect()
    assert session_ids(pool, 3) >= everyone - {mine}
    assert pool.close()
    print("both sides worked")


main()
