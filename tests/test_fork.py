"""P9: after a fork the child starts with an empty pool, and the parent notices nothing.

This file is also a program: each test runs one of its scenarios in a process of its own, since a test
runner that forks itself would have two of everything in the end. On a real SQLite file, which is the
most easily hurt: a child that closes, or only forgets, an inherited connection breaks the parent's
COMMIT.
"""

from __future__ import annotations

import gc
import os
import signal
import sqlite3
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from dbapi_pool import Pool, PoolClosed
from dbapi_pool.testing import FakeDriver

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no os.fork")

PATIENCE = 60  # seconds until a process that hangs is ended


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "forked.db"
    with closing(sqlite3.connect(file)) as conn:
        conn.execute("CREATE TABLE note (text)")
    return file


def run(scenario: Callable[..., None], *args: object) -> None:
    """Run it in a new process; nothing may be written to stderr."""
    # Python 3.12 warns of every fork beside threads; the pool's own is such a thread.
    strict = ["-W", "error", "-W", "ignore:This process:DeprecationWarning"]
    command = [sys.executable, *strict, __file__, scenario.__name__, *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * PATIENCE)
    assert done.stderr == ""
    assert done.returncode == 0


def in_child(act: Callable[[], Any]) -> None:
    """Fork, `act()` in the child, let it end as programs do, and wait for that."""
    child = os.fork()
    if child == 0:
        signal.alarm(PATIENCE)
        act()
        sys.exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0, f"the child failed with status {status}"


def notes(conn: Any) -> list[str]:
    """What the table holds."""
    return [text for (text,) in conn.execute("SELECT text FROM note ORDER BY text")]


def insert(conn: Any, text: str) -> None:
    """One row; not committed yet."""
    conn.execute("INSERT INTO note VALUES (?)", (text,))


# -- an empty pool --------------------------------------------------------------------------------


def an_empty_pool(path: str) -> None:
    with Pool(sqlite3, path, max_size=2) as pool:
        held = pool.connection()
        pool.connection().close()
        before = id(held.driver_connection)

        def child() -> None:
            stats = pool.stats()
            assert (stats.size, stats.in_use, stats.opened, stats.checkouts) == (0, 0, 0, 0)
            with pool.connection(timeout=5) as one, pool.connection(timeout=5) as two:
                assert before not in (id(one.driver_connection), id(two.driver_connection))
                insert(one, "child")
            assert pool.stats().opened == 2
            assert pool.close()

        in_child(child)
        assert (pool.stats().size, pool.stats().in_use, pool.stats().opened) == (2, 1, 2)
        assert notes(held) == ["child"]
        with pool.connection() as conn:
            insert(conn, "parent")
        held.close()
        assert pool.stats().closed.keys() <= {"session changed"}


def test_a_child_starts_with_an_empty_pool_and_can_use_it(path: Path) -> None:
    run(an_empty_pool, path)
    with closing(sqlite3.connect(path)) as conn:
        assert notes(conn) == ["child", "parent"]


def a_grandchild(path: str) -> None:
    with Pool(sqlite3, path, max_size=1) as pool:
        held = pool.connection()

        def grandchild() -> None:
            with pool.connection(timeout=5) as conn:
                insert(conn, "grandchild")

        def child() -> None:
            with pool.connection(timeout=5) as conn:
                insert(conn, "child")
                conn.commit()
                in_child(grandchild)
                assert len(notes(conn)) == 2

        in_child(child)
        assert notes(held) == ["child", "grandchild"]
        held.close()


def test_a_child_of_a_child_starts_anew_too(path: Path) -> None:
    run(a_grandchild, path)


def a_closed_pool(path: str) -> None:
    pool = Pool(sqlite3, path)
    pool.close()

    def child() -> None:
        assert pool.closed
        with pytest.raises(PoolClosed):
            pool.connection()

    in_child(child)


def test_a_pool_that_was_closed_is_closed_in_the_child(path: Path) -> None:
    run(a_closed_pool, path)


# -- handles of the parent ------------------------------------------------------------------------


def a_lent_handle(path: str) -> None:
    with Pool(sqlite3, path, max_size=2) as pool:
        handle = pool.connection()
        insert(handle, "parent")
        cursor = handle.execute("SELECT 1")
        calls: list[Callable[[], Any]] = [
            lambda: handle.execute("DELETE FROM note"),
            lambda: setattr(handle, "row_factory", None),
            lambda: handle.in_transaction,
            lambda: handle.driver_connection,
            lambda: cursor.execute("DELETE FROM note"),
            handle.commit,
            handle.rollback,
            handle.create_function,
            handle.cursor,
            handle.detach,
        ]

        def child() -> None:
            for call in calls:
                with pytest.raises(sqlite3.InterfaceError, match="parent|returned"):
                    call()
            with pytest.raises(sqlite3.Error):
                cursor.fetchone()
            cursor.close()
            handle.close()
            handle.close()
            handle.invalidate()
            repr(handle)
            assert pool.stats().in_use == 0

        in_child(child)
        handle.commit()
        assert notes(handle) == ["parent"]
        handle.close()
        assert pool.stats().idle == 1


def test_a_handle_lent_before_the_fork_is_dead_in_the_child_and_alive_in_the_parent(
    path: Path,
) -> None:
    run(a_lent_handle, path)


def a_with_block(path: str) -> None:
    with Pool(sqlite3, path, max_size=1) as pool:
        with pool.connection() as conn:
            insert(conn, "parent")
            child = os.fork()
            if child == 0:
                signal.alarm(PATIENCE)
                sys.exit(0)  # leaves both blocks
            assert os.waitpid(child, 0)[1] == 0
        with pool.connection() as conn:
            assert notes(conn) == ["parent"]


def test_a_child_may_leave_the_with_block_that_it_was_forked_in(path: Path) -> None:
    run(a_with_block, path)


# -- the parent's transaction ---------------------------------------------------------------------

ENDS: dict[str, Callable[[Pool, list[Any]], object]] = {
    "exits": lambda pool, handles: None,
    "exits at once": lambda pool, handles: os._exit(0),
    "returns the handle": lambda pool, handles: handles[0].close(),
    "throws the handle away": lambda pool, handles: handles[0].invalidate(),
    "forgets the handle": lambda pool, handles: (handles.clear(), gc.collect()),
    "closes the pool": lambda pool, handles: pool.close(),
    "drains the pool": lambda pool, handles: pool.drain(),
    "reads": lambda pool, handles: pool.run(notes),
}


def a_transaction_in_flight(path: str, end: str) -> None:
    with Pool(sqlite3, path, max_size=2) as pool:
        handles = [pool.connection()]
        insert(handles[0], "parent")
        in_child(lambda: ENDS[end](pool, handles))
        assert handles[0].in_transaction
        handles[0].commit()
        assert notes(handles[0]) == ["parent"]
        handles[0].close()


@pytest.mark.parametrize("end", ENDS)
def test_the_parents_transaction_in_flight_survives_a_child_that(path: Path, end: str) -> None:
    run(a_transaction_in_flight, path, end)
    with closing(sqlite3.connect(path)) as conn:
        assert notes(conn) == ["parent"]
        assert conn.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


# -- locks ----------------------------------------------------------------------------------------


def busy_threads(path: str) -> None:
    """Other threads are anywhere in the pool's code when the fork happens."""
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            with pool.connection() as conn:
                conn.execute("SELECT 1").fetchone()
            pool.stats()

    def child() -> None:
        with pool.connection(timeout=20) as one, pool.connection(timeout=20) as two:
            assert notes(one) == notes(two) == []
        assert pool.stats().idle == 2

    with Pool(sqlite3, path, max_size=2) as pool:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(10):
                in_child(child)
        finally:
            done.set()
        for thread in threads:
            thread.join()
        assert pool.stats().in_use == 0


@pytest.mark.skipif(
    bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    reason="free-threaded CPython hangs in a child that was forked while threads run, pool or not",
)
def test_a_fork_while_other_threads_use_the_pool_leaves_no_lock_behind(path: Path) -> None:
    run(busy_threads, path)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])


# -- uWSGI, which forks without telling Python ------------------------------------------------------


@pytest.mark.parametrize("decorators", [True, False])
def test_uwsgis_hook_makes_a_worker_begin_anew(
    monkeypatch: pytest.MonkeyPatch,
    make_pool: Callable[..., Pool],
    fake: FakeDriver,
    decorators: bool,
) -> None:
    """What was there before is called too, and no pool is looked after twice."""
    calls: list[str] = []
    uwsgi: Any = ModuleType("uwsgi")
    uwsgi.post_fork_hook = lambda: calls.append("theirs")
    monkeypatch.setitem(sys.modules, "uwsgi", uwsgi)
    theirs: Any = ModuleType("uwsgidecorators")
    theirs.postfork_chain = [uwsgi.post_fork_hook]
    monkeypatch.setitem(sys.modules, "uwsgidecorators", theirs if decorators else None)

    pools = [make_pool(), make_pool()]
    for pool in pools:
        pool.connection().close()
    hooks = theirs.postfork_chain if decorators else [uwsgi.post_fork_hook]
    assert len(hooks) == 1 + decorators
    assert fake.open == 2
    for hook in hooks:
        hook()

    assert calls == ["theirs"]
    assert [pool.stats().size for pool in pools] == [0, 0]
    for conn in fake.connections:  # the parent's, which a child never touches
        conn.close()
