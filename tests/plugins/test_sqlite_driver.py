"""`SQLiteDriver` on real databases, without a pool. SQL classification is in `test_sql.py`."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import dbapi_pool_sqlite as plugin
from dbapi_pool_sqlite import ManyThreads, SQLiteDriver, many_threads
from dbapi_pool_sqlite.driver import FILE_CHECK_EVERY, Attributes

LEGACY = -1  # sqlite3.LEGACY_TRANSACTION_CONTROL, new in Python 3.12

before_311 = pytest.mark.skipif(sys.version_info >= (3, 11), reason="for Python 3.10")
from_311 = pytest.mark.skipif(sys.version_info < (3, 11), reason="new in Python 3.11")
from_312 = pytest.mark.skipif(sys.version_info < (3, 12), reason="new in Python 3.12")

# Every way in which sqlite3 can control transactions, as arguments of connect().
CONTROLS = [{"isolation_level": ""}, {"isolation_level": "IMMEDIATE"}, {"isolation_level": None}]
if sys.version_info >= (3, 12):
    CONTROLS += [{"autocommit": False}, {"autocommit": True}]
controls = pytest.mark.parametrize("control", CONTROLS, ids=str)


class Opener:
    """Opens connections as a pool does, and closes them after the test."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open: list[tuple[SQLiteDriver, Any]] = []

    def driver(self, *args: Any, max_size: int = 1, **kwargs: Any) -> tuple[SQLiteDriver, Any]:
        driver = SQLiteDriver(creator=sqlite3)
        args = args or (self.path,)
        args, kwargs = driver.connect_arguments(args, kwargs)
        driver.check_settings({"max_size": max_size}, args, kwargs)
        return driver, self.connect(driver, *args, **kwargs)

    def connect(self, driver: SQLiteDriver, *args: Any, **kwargs: Any) -> Any:
        conn = sqlite3.connect(*args, **{"check_same_thread": False, **kwargs})
        self._open.append((driver, conn))
        driver.connected(conn)
        return conn

    def other(self, **kwargs: Any) -> sqlite3.Connection:
        """A connection that is none of the pool's, and does not wait for locks."""
        conn = sqlite3.connect(self.path, timeout=0, **kwargs)
        self._open.append((SQLiteDriver(), conn))
        return conn

    def close(self) -> None:
        for driver, conn in reversed(self._open):
            driver.close(conn)


@pytest.fixture
def opener(tmp_path: Path) -> Iterator[Opener]:
    opener = Opener(tmp_path / "app.db")
    conn = sqlite3.connect(opener.path)
    conn.execute("CREATE TABLE t(x)")
    conn.executemany("INSERT INTO t VALUES (?)", [(i,) for i in range(3000)])
    conn.commit()
    conn.close()
    yield opener
    opener.close()


def count(conn: Any, table: str = "t") -> int:
    cursor = sqlite3.Cursor(conn)
    try:
        return int(cursor.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
    finally:
        cursor.close()


def value(conn: Any, sql: str) -> Any:
    cursor = sqlite3.Cursor(conn)
    try:
        row = cursor.execute(sql).fetchone()
        return row[0] if row else None
    finally:
        cursor.close()


def test_sqlite3_is_not_imported_with_the_plugin() -> None:
    code = "import sys, dbapi_pool_sqlite; sys.exit('sqlite3' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# -- finding the driver ---------------------------------------------------------------------------


class OwnConnection(sqlite3.Connection):
    """A class that takes what sqlite3.connect takes."""


class OwnArguments(sqlite3.Connection):
    def __init__(self, directory: str) -> None:
        super().__init__(os.path.join(directory, "app.db"))


class Forwarding(sqlite3.Connection):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)


@pytest.mark.parametrize("root", ["sqlite3", "_sqlite3", "sqlite", "sqlite+pysqlite"])
def test_the_plugin_knows_its_modules_and_schemes(root: str) -> None:
    assert isinstance(plugin.dbapi_pool_driver(creator=object(), root=root), SQLiteDriver)


def test_the_plugin_knows_classes_derived_from_sqlite3s_connection() -> None:
    driver = plugin.dbapi_pool_driver(creator=OwnConnection, root="tests")

    assert isinstance(driver, SQLiteDriver)
    assert driver.module is sqlite3


@pytest.mark.parametrize(
    ("creator", "root"), [(object(), "psycopg2"), (dict, "builtins"), ("mysql://h", "mysql")]
)
def test_the_plugin_leaves_others_alone(creator: object, root: str) -> None:
    assert plugin.dbapi_pool_driver(creator=creator, root=root) is None


# -- arguments and settings -----------------------------------------------------------------------


def test_check_same_thread_is_switched_off() -> None:
    args, kwargs = SQLiteDriver().connect_arguments(("app.db",), {"timeout": 1.0})

    assert args == ("app.db",)
    assert kwargs == {"timeout": 1.0, "check_same_thread": False}


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [(("app.db",), {"check_same_thread": False}), (("app.db", 5.0, 0, None, False), {})],
)
def test_check_same_thread_given_by_the_caller_stays(args: Any, kwargs: Any) -> None:
    assert SQLiteDriver().connect_arguments(args, kwargs) == (args, kwargs)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [(("app.db",), {"check_same_thread": True}), (("app.db", 5.0, 0, None, True), {})],
)
def test_check_same_thread_true_is_refused(args: Any, kwargs: Any) -> None:
    driver = SQLiteDriver()
    args, kwargs = driver.connect_arguments(args, kwargs)

    with pytest.raises(ValueError, match="check_same_thread=True: .*leave it out"):
        driver.check_settings({"max_size": 10}, args, kwargs)


def test_a_class_with_arguments_of_its_own_gets_none_added() -> None:
    driver = SQLiteDriver(creator=OwnArguments)

    assert driver.connect_arguments(("/data",), {}) == (("/data",), {})
    driver.check_settings({"max_size": 10}, ("",), {})
    assert driver.expendable


@pytest.mark.parametrize("creator", [OwnConnection, Forwarding, sqlite3.connect, sqlite3])
def test_creators_that_take_what_connect_takes_are_looked_through(creator: object) -> None:
    driver = SQLiteDriver(creator=creator)

    assert driver.connect_arguments((":memory:",), {})[1] == {"check_same_thread": False}
    with pytest.raises(ValueError, match="max_size=2"):
        driver.check_settings({"max_size": 2}, (":memory:",), {})


PRIVATE = [
    (":memory:", {}),
    ("", {}),
    (b":memory:", {}),
    ("file::memory:", {"uri": True}),
    ("file:x?mode=memory", {"uri": True}),
    ("file:x?mode=memory&cache=private", {"uri": True}),
    ("file:", {"uri": True}),
    ("file:x?vfs=memdb", {"uri": True}),
]
SHARED = [
    ("file::memory:?cache=shared", {"uri": True}),
    ("file:x?mode=memory&cache=shared", {"uri": True}),
    ("file:/x?vfs=memdb", {"uri": True}),
]
FILES = [
    ("app.db", {}),
    (Path("app.db"), {}),
    ("file:x?mode=memory", {}),
    ("file:app.db?mode=ro", {"uri": True}),
    ("file:app.db?cache=shared", {"uri": True}),
]


@pytest.mark.parametrize(("database", "kwargs"), PRIVATE)
def test_a_private_database_is_refused_for_several_connections(database: Any, kwargs: Any) -> None:
    with pytest.raises(ValueError, match="max_size=7 with the private database") as caught:
        SQLiteDriver().check_settings({"max_size": 7}, (database,), kwargs)

    assert "set max_size=1" in str(caught.value)
    assert "mode=memory&cache=shared" in str(caught.value)


@pytest.mark.parametrize(("database", "kwargs"), PRIVATE + SHARED)
def test_a_database_in_memory_is_not_expendable(database: Any, kwargs: Any) -> None:
    driver = SQLiteDriver()

    driver.check_settings({"max_size": 1}, (), {"database": database, **kwargs})

    assert not driver.expendable


@pytest.mark.parametrize(("database", "kwargs"), SHARED + FILES)
def test_shared_databases_and_files_take_several_connections(database: Any, kwargs: Any) -> None:
    SQLiteDriver().check_settings({"max_size": 10}, (database,), kwargs)


@pytest.mark.parametrize(("database", "kwargs"), FILES)
def test_files_are_expendable(database: Any, kwargs: Any) -> None:
    driver = SQLiteDriver()

    driver.check_settings({"max_size": 10}, (database,), kwargs)

    assert driver.expendable


# -- URLs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "database", "kwargs"),
    [
        ("sqlite:///rel.db", "rel.db", {}),
        ("sqlite:////var/abs%20x.db", "/var/abs x.db", {}),
        ("sqlite://", ":memory:", {}),
        ("sqlite:///", ":memory:", {}),
        ("sqlite:///:memory:", ":memory:", {}),
        ("sqlite+pysqlite:///rel.db", "rel.db", {}),
        (
            "sqlite:///a.db?timeout=1.5&isolation_level=immediate&detect_types=3",
            "a.db",
            {"timeout": 1.5, "isolation_level": "IMMEDIATE", "detect_types": 3},
        ),
        ("sqlite:///a.db?isolation_level=none", "a.db", {"isolation_level": None}),
        ("sqlite:///a.db?mode=ro", "file:a.db?mode=ro", {"uri": True}),
        ("sqlite:////x/a%3F.db?mode=ro", "file:///x/a%3F.db?mode=ro", {"uri": True}),
        (
            "sqlite:///name?mode=memory&cache=shared&uri=true",
            "file:name?mode=memory&cache=shared",
            {"uri": True},
        ),
        ("sqlite:///file:a.db?mode=ro&uri=true", "file:a.db?mode=ro", {"uri": True}),
        ("sqlite:///a.db?uri=1&cached_statements=5", "file:a.db", None),
    ],
)
def test_urls_become_arguments_of_connect(url: str, database: str, kwargs: Any) -> None:
    connect, args, named = SQLiteDriver().parse_url(url)

    assert connect is sqlite3.connect
    assert args == (database,)
    assert named == ({"uri": True, "cached_statements": 5} if kwargs is None else kwargs)


@from_312
@pytest.mark.parametrize(("text", "mode"), [("true", True), ("false", False), ("legacy", LEGACY)])
def test_a_url_may_set_autocommit(text: str, mode: Any) -> None:
    named = SQLiteDriver().parse_url(f"sqlite:///a.db?autocommit={text}")[2]

    assert named == {"autocommit": mode}


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite://rel.db", "three slashes"),
        ("sqlite://joe@/rel.db", "no user"),
        ("sqlite:///a.db?busy=1", "unknown key 'busy'"),
        ("sqlite:///a.db?timeout=soon", "'timeout'"),
        ("sqlite:///a.db?isolation_level=serializable", "'isolation_level'"),
        ("sqlite:///a.db?mode=ro&uri=false", "uri=false does not go with mode"),
    ],
)
def test_a_bad_url_is_refused_by_name(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SQLiteDriver().parse_url(url)


def test_a_read_only_url_opens_read_only(opener: Opener) -> None:
    driver = SQLiteDriver()
    _, args, kwargs = driver.parse_url(f"sqlite:///{opener.path}?mode=ro&timeout=0")

    conn = opener.connect(driver, *args, **kwargs)

    assert count(conn) == 3000
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        conn.execute("DELETE FROM t")


# -- a new connection -----------------------------------------------------------------------------


def test_a_connection_for_one_thread_only_is_refused(opener: Opener) -> None:
    with pytest.raises(ValueError, match="check_same_thread=False") as caught:
        opener.connect(SQLiteDriver(), opener.path, check_same_thread=True)

    assert isinstance(caught.value.__cause__, sqlite3.ProgrammingError)


def test_whether_other_threads_may_use_it_is_tried_once(opener: Opener) -> None:
    driver, _ = opener.driver()

    with mock.patch.object(threading, "Thread", side_effect=AssertionError):
        opener.connect(driver, opener.path)


def test_an_opaque_creator_of_databases_in_memory_is_noticed(
    opener: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    driver = SQLiteDriver(creator=OwnArguments)
    driver.check_settings({"max_size": 3}, (), {})

    opener.connect(driver, ":memory:")
    opener.connect(driver, ":memory:")

    assert not driver.expendable
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    assert "max_size=3" in caplog.text


@pytest.mark.parametrize("factory", [bytes, lambda raw: ("mine", raw)])
def test_connecting_leaves_the_attributes_alone(opener: Opener, factory: Any) -> None:
    conn = sqlite3.connect(opener.path, check_same_thread=False)
    conn.text_factory, conn.row_factory = factory, sqlite3.Row
    driver = SQLiteDriver()

    driver.connected(conn)

    assert conn.text_factory is factory
    assert conn.row_factory is sqlite3.Row
    assert driver.is_alive(conn)
    driver.close(conn)


# -- alive ----------------------------------------------------------------------------------------


def test_an_open_connection_is_alive(opener: Opener) -> None:
    driver, conn = opener.driver()

    assert driver.is_alive(conn)
    driver.ping(conn)


def test_a_closed_connection_is_dead(opener: Opener) -> None:
    driver, conn = opener.driver()
    conn.close()

    assert not driver.is_alive(conn)
    with pytest.raises(sqlite3.ProgrammingError):
        driver.ping(conn)


def replace(path: Path) -> None:
    other = path.with_suffix(".new")
    sqlite3.connect(other).close()
    other.replace(path)


@pytest.mark.parametrize("loss", [os.unlink, replace], ids=["deleted", "replaced"])
def test_a_lost_file_is_noticed_at_the_next_ping_and_within_a_second(
    opener: Opener, loss: Callable[[Path], None]
) -> None:
    driver, conn = opener.driver()
    now = 100.0
    driver._clock = lambda: now
    assert driver.is_alive(conn)

    loss(opener.path)

    assert driver.is_alive(conn)  # looked at just before
    now += FILE_CHECK_EVERY
    assert not driver.is_alive(conn)
    assert not driver.is_alive(conn)
    with pytest.raises(sqlite3.OperationalError, match="deleted or replaced"):
        driver.ping(conn)


def test_a_moved_working_directory_changes_nothing(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(opener.path.parent)
    driver, conn = opener.driver("app.db")
    monkeypatch.chdir("/")

    driver.ping(conn)
    assert driver.is_alive(conn)


def test_a_file_named_like_a_database_in_memory_means_nothing(
    opener: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    driver, conn = opener.driver("file:app.db?vfs=memdb", uri=True)

    opener.path.unlink()

    driver.ping(conn)
    assert driver.is_alive(conn)


def test_a_ping_succeeds_while_the_file_is_locked_and_leaves_no_transaction(opener: Opener) -> None:
    driver, conn = opener.driver(timeout=0)
    opener.other().execute("BEGIN EXCLUSIVE")

    driver.ping(conn)

    assert not conn.in_transaction


def test_a_statement_can_be_interrupted_from_another_thread(opener: Opener) -> None:
    driver, conn = opener.driver()
    running = threading.Event()
    conn.create_function("started", 0, running.set)
    forever = (
        "WITH RECURSIVE c(x) AS (SELECT started() UNION ALL SELECT 1 FROM c) SELECT count(*) FROM c"
    )
    errors: list[Exception] = []

    def work() -> None:
        try:
            conn.execute(forever).fetchall()
        except sqlite3.OperationalError as exc:
            errors.append(exc)

    thread = threading.Thread(target=work)
    thread.start()
    assert running.wait(10)
    assert driver.interrupt(conn)
    thread.join(10)

    assert [str(exc) for exc in errors] == ["interrupted"]
    assert not driver.is_disconnect(errors[0], conn)


def test_interrupting_a_closed_connection_says_no(opener: Opener) -> None:
    driver, conn = opener.driver()
    conn.close()

    assert not driver.interrupt(conn)


FORK = """
import os, sqlite3, sys
from dbapi_pool_sqlite import SQLiteDriver
conn = sqlite3.connect(sys.argv[1], check_same_thread=False)
driver = SQLiteDriver()
driver.connected(conn)
conn.execute("PRAGMA cache_size = 5")
conn.executemany("INSERT INTO t VALUES (?)", [("x" * 500,)] * 5000)  # spills to the file
child = os.fork()
if not child:
    if sys.argv[2] == "abandon":
        driver.abandon_after_fork(conn)
    sys.exit(0)
os.waitpid(child, 0)
conn.commit()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("way", ["abandon", "collect"])
def test_a_child_that_ends_does_not_break_the_parents_transaction(opener: Opener, way: str) -> None:
    command = [sys.executable, "-c", FORK, str(opener.path), way]

    parent = subprocess.run(command, capture_output=True, text=True, check=False)

    if way == "abandon":
        assert parent.returncode == 0, parent.stderr
        assert count(opener.other()) == 8000
    else:  # what it protects from
        assert "disk I/O error" in parent.stderr


# -- transactions ---------------------------------------------------------------------------------


@controls
def test_rollback_undoes_work_in_every_mode(opener: Opener, control: Any) -> None:
    driver, conn = opener.driver(**control)
    if not conn.in_transaction:
        conn.execute("BEGIN")
    conn.execute("DELETE FROM t")
    assert driver.in_transaction(conn)

    driver.rollback(conn)

    assert count(conn) == 3000
    assert conn.in_transaction == driver.in_transaction(conn) == (control == {"autocommit": False})


@controls
def test_rollback_without_a_transaction_is_nothing(opener: Opener, control: Any) -> None:
    driver, conn = opener.driver(**control)

    driver.rollback(conn)
    driver.rollback(conn)

    assert conn.in_transaction == (control == {"autocommit": False})


@from_312
def test_a_commit_typed_by_hand_is_repaired_by_rollback(opener: Opener) -> None:
    """Else the next borrower's statements would be committed one by one."""
    driver, conn = opener.driver(autocommit=False)
    conn.execute("COMMIT")
    assert not conn.in_transaction
    assert driver.in_transaction(conn)

    driver.rollback(conn)

    assert conn.in_transaction


def end(driver: SQLiteDriver, conn: Any, before: Attributes) -> None:
    """What the pool does when a connection comes back on which a transaction was begun."""
    if driver.in_transaction(conn):
        driver.rollback(conn)
    driver.restore(conn, before)


@controls
def test_a_transaction_commits_with_the_connections_own_commit(
    opener: Opener, control: Any
) -> None:
    driver, conn = opener.driver(**control)
    before = driver.snapshot(conn)

    driver.begin(conn, None, None, {})
    conn.execute("DELETE FROM t")
    assert count(opener.other()) == 3000
    conn.commit()
    end(driver, conn, before)

    assert count(opener.other()) == 0
    assert driver.snapshot(conn) == before


@controls
def test_a_transaction_that_is_not_committed_leaves_nothing(opener: Opener, control: Any) -> None:
    driver, conn = opener.driver(**control)
    before = driver.snapshot(conn)

    driver.begin(conn, "serializable", False, {"mode": None})
    conn.execute("DELETE FROM t")
    end(driver, conn, before)

    assert count(conn) == 3000
    assert driver.snapshot(conn) == before


@controls
@pytest.mark.parametrize("mode", ["DEFERRED", "immediate", "Exclusive"])
def test_the_mode_says_when_the_transaction_locks(opener: Opener, control: Any, mode: str) -> None:
    driver, conn = opener.driver(**control)
    before = driver.snapshot(conn)
    other = opener.other(isolation_level=None)

    driver.begin(conn, None, None, {"mode": mode})

    def can(sql: str) -> bool:
        try:
            other.execute(sql).fetchall()
        except sqlite3.OperationalError:
            return False
        finally:
            other.rollback()
        return True

    assert can("BEGIN IMMEDIATE") == (mode == "DEFERRED")
    assert can("SELECT * FROM t") == (mode != "Exclusive")
    end(driver, conn, before)
    assert can("BEGIN EXCLUSIVE")


def test_without_a_mode_the_isolation_level_decides(opener: Opener) -> None:
    driver, conn = opener.driver(isolation_level="IMMEDIATE")

    driver.begin(conn, None, None, {})

    with pytest.raises(sqlite3.OperationalError, match="locked"):
        opener.other().execute("BEGIN IMMEDIATE")


@controls
def test_a_read_only_transaction_refuses_writing_until_it_comes_back(
    opener: Opener, control: Any
) -> None:
    driver, conn = opener.driver(**control)
    before = driver.snapshot(conn)

    driver.begin(conn, None, True, {})
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        conn.execute("DELETE FROM t")
    assert count(conn) == 3000
    conn.commit()
    end(driver, conn, before)

    assert not value(conn, "PRAGMA query_only")
    assert driver.snapshot(conn) == before
    conn.execute("DELETE FROM t")


def test_a_read_only_transaction_is_undone_by_restoring_alone(opener: Opener) -> None:
    driver, conn = opener.driver()
    before = driver.snapshot(conn)

    driver.begin(conn, None, True, {})
    conn.commit()
    driver.restore(conn, before)

    assert not value(conn, "PRAGMA query_only")
    assert not driver.in_transaction(conn)


def test_a_connection_that_was_read_only_before_stays_so(opener: Opener) -> None:
    driver, conn = opener.driver()
    conn.execute("PRAGMA query_only = 1")
    before = driver.snapshot(conn)

    driver.begin(conn, None, True, {})
    end(driver, conn, before)

    assert value(conn, "PRAGMA query_only") == 1


@controls
def test_a_begin_that_meets_a_lock_leaves_nothing(opener: Opener, control: Any) -> None:
    driver, conn = opener.driver(timeout=0, **control)
    before = driver.snapshot(conn)
    other = opener.other()
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(sqlite3.OperationalError) as caught:
        driver.begin(conn, None, None, {"mode": "IMMEDIATE"})
    end(driver, conn, before)

    assert driver.is_retryable(caught.value)
    assert driver.snapshot(conn) == before
    assert conn.in_transaction == (control == {"autocommit": False})


@pytest.mark.parametrize(
    ("isolation", "readonly", "options", "message"),
    [
        ("READ COMMITTED", None, {}, "isolation='READ COMMITTED'.*SERIALIZABLE"),
        (None, None, {"mode": "LATER"}, "mode='LATER'.*DEFERRED, IMMEDIATE, EXCLUSIVE"),
        (None, None, {"mode": 1}, "mode=1"),
        (None, None, {"deferrable": True}, "deferrable=.*'mode'"),
        (None, True, {"mode": "IMMEDIATE"}, "readonly=True.*only DEFERRED"),
    ],
)
def test_what_sqlite_cannot_give_is_refused(
    opener: Opener, isolation: Any, readonly: Any, options: Any, message: str
) -> None:
    driver, conn = opener.driver()

    with pytest.raises(ValueError, match=message):
        driver.begin(conn, isolation, readonly, options)

    assert not driver.in_transaction(conn)


# -- attributes -----------------------------------------------------------------------------------


def modes() -> list[Any]:
    return [LEGACY, True, False] if sys.version_info >= (3, 12) else [None]


@controls
@pytest.mark.parametrize("autocommit", modes())
@pytest.mark.parametrize("isolation_level", ["DEFERRED", "EXCLUSIVE", None])
@pytest.mark.parametrize("work", ["DELETE FROM t", "COMMIT", "SELECT 1"])
def test_changed_attributes_are_restored_and_nothing_is_committed(
    opener: Opener, control: Any, autocommit: Any, isolation_level: Any, work: str
) -> None:
    driver, conn = opener.driver(**control)
    before = driver.snapshot(conn)

    conn.row_factory = sqlite3.Row
    conn.text_factory = bytes
    if autocommit is not None:
        conn.autocommit = autocommit
    conn.isolation_level = isolation_level
    if not conn.in_transaction:
        conn.execute("BEGIN")
    conn.execute(work)
    end(driver, conn, before)

    assert driver.snapshot(conn) == before
    assert conn.in_transaction == (control == {"autocommit": False})
    assert count(opener.other()) == 3000


def test_attributes_that_are_the_same_are_not_set(opener: Opener) -> None:
    driver, conn = opener.driver()
    conn.execute("DELETE FROM t")

    driver.restore(conn, driver.snapshot(conn))

    assert conn.in_transaction  # setting isolation_level might have committed


# -- a clean session ------------------------------------------------------------------------------


def test_a_files_session_is_reset_by_closing(opener: Opener) -> None:
    driver, conn = opener.driver()

    assert not driver.reset_session(conn, driver.snapshot(conn))


MEMORY = [(":memory:", {}), ("file:dbapi_pool?mode=memory&cache=shared", {"uri": True}), ("", {})]


@pytest.fixture(params=MEMORY, ids=lambda param: param[0])
def memory(request: pytest.FixtureRequest, opener: Opener) -> tuple[SQLiteDriver, Any]:
    database, kwargs = request.param
    driver, conn = opener.driver(database, **kwargs)
    conn.execute("CREATE TABLE t(x)")
    conn.execute("INSERT INTO t VALUES (1)")
    conn.commit()
    return driver, conn


class Total:
    def step(self, value: Any) -> None: ...

    def finalize(self) -> int:
        return 7


def dirty_pragma(name: str, setting: Any) -> Any:
    return pytest.param(lambda conn: conn.execute(f"PRAGMA {name} = {setting}"), id=name)


DIRT = [
    pytest.param(lambda c: c.execute('ATTACH \':memory:\' AS "o""dd"'), id="attached"),
    pytest.param(lambda c: c.execute("CREATE TEMP TABLE x(a)"), id="temporary table"),
    pytest.param(lambda c: c.execute("CREATE TEMP VIEW x AS SELECT 1"), id="temporary view"),
    pytest.param(
        lambda c: c.execute("CREATE TEMP TRIGGER x AFTER INSERT ON t BEGIN SELECT 1; END"),
        id="temporary trigger",
    ),
    pytest.param(lambda c: c.execute("DELETE FROM t"), id="transaction"),
    pytest.param(lambda c: c.executescript("BEGIN; DELETE FROM t"), id="transaction by hand"),
    dirty_pragma("foreign_keys", "1"),
    dirty_pragma("query_only", "1"),
    dirty_pragma("cache_size", "-77"),
    dirty_pragma("busy_timeout", "77"),
    dirty_pragma("recursive_triggers", "1"),
    dirty_pragma("case_sensitive_like", "1"),
    dirty_pragma("reverse_unordered_selects", "1"),
    dirty_pragma("synchronous", "0"),
    dirty_pragma("temp_store", "1"),
    dirty_pragma("journal_mode", "off"),
    dirty_pragma("locking_mode", "exclusive"),
]


def state(conn: Any) -> dict[str, Any]:
    """What the next borrower could tell of a session in memory."""
    names = [row[0] for row in conn.execute("PRAGMA pragma_list")]
    # Of the file, or doing something; and a collation that was removed is listed for ever.
    skipped = {
        "collation_list", "data_version", "foreign_key_check", "function_list", "incremental_vacuum",
        "integrity_check", "module_list", "optimize", "pragma_list", "quick_check", "shrink_memory",
        "wal_checkpoint",
    }  # fmt: skip
    seen: dict[str, Any] = {
        name: conn.execute(f"PRAGMA {name}").fetchall() for name in names if name not in skipped
    }
    seen["database_list"] = [row[1] for row in seen["database_list"] if row[1] != "temp"]
    seen["table_list"] = [row for row in seen["table_list"] if row[0] != "temp"]
    seen["temporary"] = conn.execute("SELECT * FROM sqlite_temp_master").fetchall()
    seen["like"] = conn.execute("SELECT 'a' LIKE 'A'").fetchall()
    seen["rows"] = conn.execute("SELECT * FROM t").fetchall()
    return seen


@pytest.mark.parametrize("dirty", DIRT)
def test_a_session_in_memory_is_cleaned_in_place(
    memory: tuple[SQLiteDriver, Any], dirty: Callable[[Any], Any], caplog: pytest.LogCaptureFixture
) -> None:
    driver, conn = memory
    before = state(conn)
    dirty(conn)
    assert state(conn) != before

    assert driver.reset_session(conn, driver.snapshot(conn))

    assert state(conn) == before
    assert caplog.records == []


def test_collations_of_a_session_in_memory_are_removed(memory: tuple[SQLiteDriver, Any]) -> None:
    driver, conn = memory
    conn.create_collation("mine", lambda a, b: 0)

    assert driver.reset_session(conn, driver.snapshot(conn))
    assert driver.reset_session(conn, driver.snapshot(conn))

    with pytest.raises(sqlite3.OperationalError, match="no such collation"):
        conn.execute("SELECT * FROM t ORDER BY x COLLATE mine")


def test_callbacks_of_a_session_in_memory_are_removed(memory: tuple[SQLiteDriver, Any]) -> None:
    driver, conn = memory
    called: list[str] = []
    conn.set_trace_callback(called.append)
    conn.set_progress_handler(lambda: called.append("progress"), 1)
    conn.set_authorizer(lambda *action: sqlite3.SQLITE_DENY)

    assert driver.reset_session(conn, driver.snapshot(conn))
    called.clear()

    assert count(conn) == 1
    assert called == []


@from_311
def test_functions_of_a_session_in_memory_are_removed(
    memory: tuple[SQLiteDriver, Any], caplog: pytest.LogCaptureFixture
) -> None:
    driver, conn = memory
    functions = "SELECT DISTINCT name, narg FROM pragma_function_list ORDER BY 1, 2"
    before = conn.execute(functions).fetchall()
    conn.create_function("mine", 1, lambda x: x)
    conn.create_function("mine", -1, lambda *x: x)
    conn.create_aggregate("total_of", 1, Total)

    assert driver.reset_session(conn, driver.snapshot(conn))

    assert conn.execute(functions).fetchall() == before
    assert caplog.records == []


@before_311
def test_functions_that_cannot_be_removed_are_logged(
    memory: tuple[SQLiteDriver, Any], caplog: pytest.LogCaptureFixture
) -> None:
    driver, conn = memory
    conn.create_function("mine", 1, lambda x: x)

    assert driver.reset_session(conn, driver.snapshot(conn))

    assert "function mine/1 stays" in caplog.text


def test_a_built_in_function_that_was_replaced_is_logged(
    memory: tuple[SQLiteDriver, Any], caplog: pytest.LogCaptureFixture
) -> None:
    driver, conn = memory
    conn.create_function("lower", 1, lambda x: "mine")

    assert driver.reset_session(conn, driver.snapshot(conn))

    assert "function lower/1 stays" in caplog.text


@from_311
def test_limits_of_a_session_in_memory_are_restored(memory: tuple[SQLiteDriver, Any]) -> None:
    driver, conn = memory
    before = conn.getlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH)
    conn.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, 100)

    assert driver.reset_session(conn, driver.snapshot(conn))

    assert conn.getlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH) == before


@from_312
def test_switches_of_a_session_in_memory_are_restored(memory: tuple[SQLiteDriver, Any]) -> None:
    driver, conn = memory
    conn.setconfig(sqlite3.SQLITE_DBCONFIG_DEFENSIVE, True)

    assert driver.reset_session(conn, driver.snapshot(conn))

    assert not conn.getconfig(sqlite3.SQLITE_DBCONFIG_DEFENSIVE)


@from_312
def test_a_session_in_memory_without_autocommit_is_cleaned_too(opener: Opener) -> None:
    driver, conn = opener.driver(":memory:", autocommit=False)
    conn.execute("ROLLBACK")
    conn.executescript("ATTACH ':memory:' AS aux; CREATE TEMP TABLE x(a); PRAGMA foreign_keys=1;")
    driver.rollback(conn)

    assert driver.reset_session(conn, driver.snapshot(conn))

    assert conn.in_transaction
    assert value(conn, "SELECT count(*) FROM pragma_database_list WHERE name = 'aux'") == 0
    assert value(conn, "SELECT count(*) FROM sqlite_temp_master") == 0
    assert value(conn, "PRAGMA foreign_keys") == 0


@pytest.mark.parametrize("attribute", ["row_factory", "text_factory"])
def test_cleaning_works_with_any_factory(memory: tuple[SQLiteDriver, Any], attribute: str) -> None:
    driver, conn = memory
    conn.execute("ATTACH ':memory:' AS aux")

    def broken(*args: object) -> None:
        raise RuntimeError

    setattr(conn, attribute, broken)

    assert driver.reset_session(conn, driver.snapshot(conn))

    assert getattr(conn, attribute) is broken  # restore() is for that
    setattr(conn, attribute, None if attribute == "row_factory" else str)
    assert value(conn, "SELECT count(*) FROM pragma_database_list WHERE name = 'aux'") == 0


def test_a_half_read_cursor_in_memory_is_logged_and_the_data_kept(
    memory: tuple[SQLiteDriver, Any], caplog: pytest.LogCaptureFixture
) -> None:
    driver, conn = memory
    cursor = conn.execute("SELECT 1 UNION ALL SELECT 2")
    cursor.fetchone()

    assert driver.reset_session(conn, driver.snapshot(conn))

    assert "half-read" in caplog.text
    assert count(conn) == 1


# -- half-read cursors and closing ----------------------------------------------------------------


def test_a_half_read_cursor_is_seen_whoever_made_it(opener: Opener) -> None:
    driver, conn = opener.driver()
    assert not driver.has_active_statement(conn)

    cursor = conn.execute("SELECT * FROM t")
    cursor.fetchone()
    driver.rollback(conn)

    assert driver.has_active_statement(conn) or sys.version_info < (3, 11)
    cursor.close()
    assert not driver.has_active_statement(conn)


@controls
def test_closing_releases_the_write_lock_of_an_open_transaction(
    opener: Opener, control: Any
) -> None:
    driver, conn = opener.driver(**control)
    if not conn.in_transaction:
        conn.execute("BEGIN")
    kept = conn.execute("DELETE FROM t WHERE x = 1 RETURNING x")

    driver.close(conn)
    del kept

    opener.other().execute("BEGIN EXCLUSIVE")
    assert not driver.is_alive(conn)


@from_311
def test_closing_with_a_half_read_cursor_is_logged(
    opener: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    driver, conn = opener.driver()
    cursor = conn.execute("SELECT * FROM t")
    cursor.fetchone()

    driver.close(conn)

    assert "stays locked until that cursor is garbage" in caplog.text
    other = opener.other()
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("BEGIN EXCLUSIVE")
    del cursor
    other.execute("BEGIN EXCLUSIVE")


def test_closing_without_one_logs_nothing(opener: Opener, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    driver, conn = opener.driver()
    conn.execute("DELETE FROM t")

    driver.close(conn)

    assert caplog.records == []


def test_closing_twice_is_nothing(opener: Opener, caplog: pytest.LogCaptureFixture) -> None:
    driver, conn = opener.driver()

    driver.close(conn)
    driver.close(conn)

    assert caplog.records == []


def test_closing_rolls_back_past_an_authorizer_that_denies_it(opener: Opener) -> None:
    driver, conn = opener.driver()
    conn.execute("DELETE FROM t")
    cursor = conn.execute("SELECT * FROM t")  # keeps the connection from going at once
    conn.set_authorizer(lambda *action: sqlite3.SQLITE_DENY)
    conn.set_progress_handler(lambda: 1, 1)

    driver.close(conn)
    del cursor

    assert count(opener.other()) == 3000


def test_a_rollback_that_fails_does_not_keep_it_open(
    opener: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    driver, conn = opener.driver()
    failure = sqlite3.OperationalError("disk I/O error")

    with mock.patch("dbapi_pool_sqlite.session.silence", side_effect=failure):
        driver.close(conn)

    assert not driver.is_alive(conn)
    assert "disk I/O error" in caplog.text


def test_nothing_is_kept_about_a_closed_connection(opener: Opener) -> None:
    driver, conn = opener.driver(":memory:")
    driver.begin(conn, None, True, {})

    driver.close(conn)

    assert driver._files == driver._baselines == driver._undo == {}


# -- errors ---------------------------------------------------------------------------------------


def failure(call: Callable[[], object]) -> BaseException:
    try:
        call()
    except Exception as exc:
        return exc
    raise AssertionError("did not fail")


def test_a_closed_connection_is_a_disconnect(opener: Opener) -> None:
    driver, conn = opener.driver(":memory:")
    conn.close()

    assert driver.is_disconnect(failure(lambda: conn.execute("SELECT 1")), conn)


def test_a_damaged_file_is_a_disconnect(opener: Opener) -> None:
    opener.path.write_bytes(b"this is no database " * 500)
    driver, conn = opener.driver()

    exc = failure(lambda: conn.execute("SELECT * FROM t"))

    assert driver.is_disconnect(exc, conn)
    assert not driver.is_retryable(exc)


def test_writing_to_a_deleted_file_is_a_disconnect(opener: Opener) -> None:
    driver, conn = opener.driver()
    opener.path.unlink()

    exc = failure(lambda: conn.execute("DELETE FROM t"))

    assert driver.is_disconnect(exc, conn)


def test_a_journal_that_cannot_be_opened_is_a_disconnect(opener: Opener) -> None:
    driver, conn = opener.driver()
    opener.path.with_name("app.db-journal").mkdir()

    exc = failure(lambda: conn.execute("DELETE FROM t"))

    assert re.match("disk I/O error|unable to open database file", str(exc))
    assert driver.is_disconnect(exc, conn)


def test_an_attach_that_fails_is_no_disconnect(opener: Opener) -> None:
    driver, conn = opener.driver()

    exc = failure(lambda: conn.execute(f"ATTACH '{opener.path}/nowhere.db' AS aux"))

    assert not driver.is_disconnect(exc, conn)


def test_a_database_in_memory_is_not_given_up_for_a_damaged_file(opener: Opener) -> None:
    opener.path.write_bytes(b"this is no database " * 500)
    driver, conn = opener.driver(":memory:")

    exc = failure(lambda: conn.execute(f"ATTACH '{opener.path}' AS aux"))

    assert "not a database" in str(exc)
    assert not driver.is_disconnect(exc, conn)


@pytest.mark.parametrize(
    "sql", ["SELECT nonsense", "SELECT * FROM nowhere", "INSERT INTO t VALUES (1, 2)", "hello"]
)
def test_ordinary_errors_are_neither(opener: Opener, sql: str) -> None:
    driver, conn = opener.driver()

    exc = failure(lambda: conn.execute(sql))

    assert not driver.is_disconnect(exc, conn)
    assert not driver.is_transient(exc)
    assert not driver.is_retryable(exc)


def test_writing_to_a_read_only_database_is_no_disconnect(opener: Opener) -> None:
    driver, conn = opener.driver()
    conn.execute("PRAGMA query_only = 1")

    assert not driver.is_disconnect(failure(lambda: conn.execute("DELETE FROM t")), conn)


def test_other_exceptions_are_neither(opener: Opener) -> None:
    driver, conn = opener.driver()

    assert not driver.is_disconnect(ValueError("database is locked"), conn)
    assert not driver.is_retryable(ValueError("database is locked"))


def test_a_locked_database_is_worth_another_try(opener: Opener) -> None:
    driver, conn = opener.driver(timeout=0)
    opener.other().execute("BEGIN IMMEDIATE")

    exc = failure(lambda: conn.execute("DELETE FROM t"))

    assert driver.is_retryable(exc)
    assert driver.is_transient(exc)
    assert not driver.is_disconnect(exc, conn)


def test_a_table_locked_by_another_connection_of_the_cache_is_worth_another_try(
    opener: Opener,
) -> None:
    database = f"file:{opener.path}?cache=shared"
    driver, writer = opener.driver(database, uri=True)
    reader = opener.connect(driver, database, uri=True)
    writer.execute("DELETE FROM t")

    exc = failure(lambda: reader.execute("SELECT * FROM t").fetchall())

    assert "table is locked" in str(exc)
    assert driver.is_retryable(exc)


# -- cursors --------------------------------------------------------------------------------------


class Marked(sqlite3.Cursor):
    """A borrower's own cursor class."""


def pooled(cls: type) -> type:
    return type("Pooled", (cls,), {})


@pytest.mark.parametrize(
    ("args", "kwargs", "base"),
    [((), {}, sqlite3.Cursor), ((Marked,), {}, Marked), ((), {"factory": Marked}, Marked)],
)
def test_cursors_are_of_a_class_derived_from_the_one_asked_for(
    opener: Opener, args: Any, kwargs: Any, base: type
) -> None:
    driver, conn = opener.driver()
    conn.row_factory = sqlite3.Row

    cursor = driver.open_cursor(conn, pooled, args, kwargs)

    assert type(cursor).__name__ == "Pooled"
    assert isinstance(cursor, base)
    assert cursor.row_factory is sqlite3.Row


@pytest.mark.parametrize(
    ("args", "kwargs"), [((lambda conn: Marked(conn),), {}), ((Marked, 1), {}), ((), {"size": 1})]
)
def test_what_is_no_cursor_class_is_left_to_the_pools_proxy(
    opener: Opener, args: Any, kwargs: Any
) -> None:
    driver, conn = opener.driver()

    assert driver.open_cursor(conn, pooled, args, kwargs) is None


def test_a_connection_class_with_a_cursor_method_of_its_own_keeps_it(opener: Opener) -> None:
    class Choosy(sqlite3.Connection):
        def cursor(self, factory: Any = Marked) -> Any:
            return super().cursor(factory)

    driver, conn = opener.driver(opener.path, factory=Choosy)

    assert driver.open_cursor(conn, pooled, (), {}) is None
    assert isinstance(driver.open_cursor(conn, pooled, (Marked,), {}), Marked)


def test_harmless_names_exist_on_a_connection(opener: Opener) -> None:
    _, conn = opener.driver()
    newer = {"autocommit", "getconfig", "getlimit", "serialize"}

    assert {name for name in SQLiteDriver.harmless if not hasattr(conn, name)} <= newer
    assert not SQLiteDriver.harmless & {"executescript", "iterdump", "create_function", "__call__"}


def test_statements_are_classified_by_sqlites_rules(opener: Opener) -> None:
    driver, _ = opener.driver()

    assert driver.may_change_session("PRAGMA foreign_keys = 1")
    assert not driver.may_change_session("SELECT 1")
    assert driver.classifier.harmless == {"SELECT 1"}


# -- many threads on one file ---------------------------------------------------------------------


@controls
def test_the_profile_sets_up_a_connection_for_many_threads(opener: Opener, control: Any) -> None:
    _, conn = opener.driver(**control)
    conn.row_factory = sqlite3.Row
    conn.text_factory = bytes

    ManyThreads(busy_timeout=1.5, synchronous="full")(conn)
    conn.commit()

    assert value(conn, "PRAGMA journal_mode") == b"wal"
    assert value(conn, "PRAGMA busy_timeout") == 1500
    assert value(conn, "PRAGMA synchronous") == 2
    assert value(conn, "PRAGMA foreign_keys") == 1
    assert conn.in_transaction == (control == {"autocommit": False})


def test_the_profile_has_defaults_and_is_harmless_in_memory(opener: Opener) -> None:
    _, conn = opener.driver(":memory:")

    many_threads(conn)

    assert value(conn, "PRAGMA busy_timeout") == 5000
    assert value(conn, "PRAGMA synchronous") == 1


@pytest.mark.parametrize("setting", [{"busy_timeout": -1}, {"synchronous": "SOMETIMES"}])
def test_the_profile_refuses_what_cannot_be(setting: Any) -> None:
    with pytest.raises(ValueError, match=next(iter(setting))):
        ManyThreads(**setting)


def test_many_first_connections_at_once_switch_to_wal(tmp_path: Path) -> None:
    start = threading.Barrier(12)
    errors: list[Exception] = []

    def work(path: Path) -> None:
        start.wait(10)
        try:
            conn = sqlite3.connect(path)
            try:
                many_threads(conn)
            finally:
                conn.close()
        except Exception as exc:
            errors.append(exc)

    for number in range(10):
        path = tmp_path / f"{number}.db"
        threads = [threading.Thread(target=work, args=(path,)) for _ in range(start.parties)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert errors == []


def test_the_profile_gives_up_when_the_time_is_over(opener: Opener) -> None:
    _, conn = opener.driver()
    opener.other().execute("BEGIN IMMEDIATE")

    with pytest.raises(sqlite3.OperationalError, match="locked"):
        ManyThreads(busy_timeout=0.05)(conn)


def test_readers_and_a_writer_do_not_block_each_other_with_the_profile(opener: Opener) -> None:
    driver, writer = opener.driver()
    reader = opener.connect(driver, opener.path)
    for conn in (writer, reader):
        many_threads(conn)

    driver.begin(reader, None, True, {})
    assert count(reader) == 3000
    driver.begin(writer, None, None, {"mode": "IMMEDIATE"})
    writer.execute("DELETE FROM t")
    writer.commit()

    assert count(reader) == 3000
    driver.rollback(reader)
    assert count(reader) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a file's name must be UTF-8")
def test_the_files_name_may_be_anything_that_the_system_allows(tmp_path, opener):
    path = tmp_path / os.fsdecode(b"caf\xe9.db")

    driver, conn = opener.driver(path)
    alive = driver.is_alive(conn)
    server = driver.server(conn)
    path.unlink()

    assert (alive, server.address) == (True, str(path))
    with pytest.raises(sqlite3.OperationalError, match="deleted or replaced"):
        driver.ping(conn)


def test_a_connection_of_a_class_that_has_not_called_sqlites_init_is_refused(opener):
    class NotConnected(sqlite3.Connection):
        def __init__(self, *args, **kwargs):
            pass

    driver = SQLiteDriver(creator=sqlite3)

    with pytest.raises(ValueError, match="not connected"):
        driver.connected(NotConnected(":memory:"))


def test_no_pragma_is_read_as_a_table(opener):
    # SQLite makes such a table once, and after `deserialize` follows its pointer to what was freed.
    driver, conn = opener.driver(":memory:")

    driver.reset_session(conn, driver.snapshot(conn))
    many_threads(conn)

    tables = [name for (name,) in conn.execute("PRAGMA module_list") if name.startswith("pragma_")]
    assert tables == []


@from_311
def test_a_database_that_was_deserialized_is_cleaned_too(opener):
    driver, conn = opener.driver(":memory:")
    conn.execute("CREATE TABLE t (x)")
    conn.commit()

    conn.deserialize(conn.serialize())

    assert driver.reset_session(conn, driver.snapshot(conn))
    assert conn.execute("SELECT * FROM t").fetchall() == []
