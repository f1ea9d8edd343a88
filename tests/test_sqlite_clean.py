"""SQLite through the pool, under default settings: what a borrower leaves behind is gone for the next.

Every pool here has one connection at most, so that the next borrower gets the same place, but where
a test says otherwise. What the driver plugin does by itself is tested in `plugins/`.
"""

from __future__ import annotations

import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dbapi_pool import Pool, PoolSettingError
from dbapi_pool.system import System

since_311 = pytest.mark.skipif(sys.version_info < (3, 11), reason="new in Python 3.11")
since_312 = pytest.mark.skipif(sys.version_info < (3, 12), reason="new in Python 3.12")

# How transactions begin: by the driver, by hand, and the two modes of Python 3.12.
IMPLICIT = [{}, pytest.param({"autocommit": False}, marks=since_312)]
CONTROLS = [
    *IMPLICIT,
    {"isolation_level": None},
    pytest.param({"autocommit": True}, marks=since_312),
]

Leave = Callable[[Callable[[Any], Any]], None]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("template") / "app.db"
    with closing(sqlite3.connect(file)) as conn:
        conn.execute("CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT UNIQUE, body BLOB)")
        rows = [(f"n{n}", b"body") for n in range(500)]
        conn.executemany("INSERT INTO note (text, body) VALUES (?, ?)", rows)
        conn.commit()
    return file


@pytest.fixture
def path(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(template, tmp_path))


@pytest.fixture
def control(request: pytest.FixtureRequest) -> dict[str, Any]:
    return getattr(request, "param", {})


@pytest.fixture
def pool(path: Path, control: dict[str, Any]) -> Iterator[Pool]:
    with Pool(sqlite3, path, max_size=1, **control) as pool:
        yield pool
        assert pool.stats().in_use == 0


@pytest.fixture(params=["by the handle", "by driver_connection"])
def leave(request: pytest.FixtureRequest, pool: Pool) -> Leave:
    """Lets a borrower do something, in one way or the other, and return the connection."""

    def leave(act: Callable[[Any], Any]) -> None:
        handle = pool.connection()
        kept = act(handle if request.param == "by the handle" else handle.driver_connection)
        handle.close()
        del kept

    return leave


def count(conn: Any) -> int:
    """How many notes there are."""
    cursor = conn.cursor()
    cursor.row_factory = None
    (number,) = cursor.execute("SELECT count(*) FROM note").fetchone()
    cursor.close()
    return int(number)


def can_write(path: Path) -> bool:
    """Whether another connection can write at once."""
    with closing(sqlite3.connect(path, timeout=0)) as other:
        try:
            other.execute("UPDATE note SET text = 'x' WHERE id = 1")
            other.commit()
        except sqlite3.OperationalError:
            return False
    return True


def value(conn: Any, sql: str) -> Any:
    """The first value that a query gives."""
    return conn.execute(sql).fetchone()[0]


# -- transactions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("control", IMPLICIT, indirect=True)
def test_a_transaction_left_open_is_rolled_back(pool: Pool, path: Path, leave: Leave) -> None:
    leave(lambda conn: conn.execute("INSERT INTO note (text) VALUES ('left')").close())

    with pool.connection() as conn:
        assert count(conn) == 500
    assert can_write(path)


@pytest.mark.parametrize("control", CONTROLS, indirect=True)
@pytest.mark.parametrize("begin", ["BEGIN", "BEGIN IMMEDIATE", "SAVEPOINT mine"])
def test_a_transaction_begun_by_hand_is_rolled_back(
    pool: Pool, path: Path, leave: Leave, begin: str
) -> None:
    def begin_by_hand(conn: Any) -> None:
        if conn.in_transaction:  # always so with autocommit=False
            conn.execute("ROLLBACK")
        conn.execute(begin)
        conn.execute("INSERT INTO note (text) VALUES ('left')")

    leave(begin_by_hand)

    assert can_write(path)
    with pool.connection() as conn:
        assert count(conn) == 500


@pytest.mark.parametrize("control", CONTROLS, indirect=True)
def test_the_next_one_can_begin_and_commit_as_if_it_were_the_first(
    pool: Pool, path: Path, leave: Leave
) -> None:
    leave(lambda conn: conn.execute("COMMIT" if conn.in_transaction else "BEGIN"))

    with pool.connection() as conn:
        conn.execute("INSERT INTO note (text) VALUES ('kept')")

    with closing(sqlite3.connect(path)) as other:
        assert count(other) == 501


def test_restoring_isolation_level_does_not_commit_what_was_left(pool: Pool, leave: Leave) -> None:
    def change(conn: Any) -> None:
        conn.isolation_level = "IMMEDIATE"
        conn.execute("INSERT INTO note (text) VALUES ('left')")

    leave(change)

    with pool.connection() as conn:
        assert conn.isolation_level == ""
        assert count(conn) == 500


# -- cursors --------------------------------------------------------------------------------------


def test_a_half_read_cursor_frees_its_lock_though_it_is_kept(pool: Pool, path: Path) -> None:
    conn = pool.connection()
    cursor = conn.cursor()
    cursor.execute("SELECT * FROM note")
    cursor.fetchone()
    assert not can_write(path)

    conn.close()

    assert can_write(path)
    with pytest.raises(sqlite3.InterfaceError):
        cursor.fetchone()


def test_a_half_read_result_of_conn_execute_frees_its_lock_though_it_is_kept(
    pool: Pool, path: Path
) -> None:
    conn = pool.connection()
    rows = iter(conn.execute("SELECT * FROM note"))
    next(rows)
    assert not can_write(path)

    conn.close()

    assert can_write(path)
    with pytest.raises(sqlite3.InterfaceError):
        next(rows)


def test_a_half_read_cursor_that_nobody_keeps_frees_its_lock(
    pool: Pool, path: Path, leave: Leave
) -> None:
    leave(lambda conn: conn.execute("SELECT * FROM note").fetchone())
    assert can_write(path)


def test_a_half_read_cursor_that_the_pool_cannot_see_is_not_on_the_next_ones_connection(
    pool: Pool,
) -> None:
    handle = pool.connection()
    cursor = handle.driver_connection.execute("SELECT * FROM note")
    cursor.fetchone()
    number = id(handle.driver_connection)
    handle.close()

    with pool.connection() as conn:
        assert pool.stats().opened == 2, f"connection {number:x} was lent again"
        assert count(conn) == 500
    del cursor


# -- attributes -----------------------------------------------------------------------------------


def test_row_factory_is_as_before(pool: Pool, leave: Leave) -> None:
    leave(lambda conn: setattr(conn, "row_factory", sqlite3.Row))

    with pool.connection() as conn:
        assert conn.row_factory is None
        assert type(conn.execute("SELECT 1").fetchone()) is tuple


def test_text_factory_is_as_before(pool: Pool, leave: Leave) -> None:
    leave(lambda conn: setattr(conn, "text_factory", bytes))

    with pool.connection() as conn:
        assert conn.text_factory is str
        assert value(conn, "SELECT 'text'") == "text"


@pytest.mark.parametrize("level", [None, "IMMEDIATE", "EXCLUSIVE"])
def test_isolation_level_is_as_before(pool: Pool, leave: Leave, level: str | None) -> None:
    leave(lambda conn: setattr(conn, "isolation_level", level))

    with pool.connection() as conn:
        assert conn.isolation_level == ""


@since_312
@pytest.mark.parametrize("mode", [True, False])
def test_autocommit_is_as_before(pool: Pool, leave: Leave, mode: bool) -> None:
    leave(lambda conn: setattr(conn, "autocommit", mode))

    with pool.connection() as conn:
        assert conn.autocommit == -1
        assert not conn.in_transaction


@pytest.mark.parametrize("control", CONTROLS[1:], indirect=True)
def test_the_settings_of_the_pools_own_connections_are_restored_not_the_defaults(
    pool: Pool, leave: Leave, control: dict[str, Any]
) -> None:
    ((name, expected),) = control.items()
    leave(lambda conn: setattr(conn, name, "EXCLUSIVE" if name == "isolation_level" else -1))

    with pool.connection() as conn:
        assert getattr(conn, name) == expected


# -- the session ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("foreign_keys", 1),
        ("cache_size", -77),
        ("query_only", 1),
        ("recursive_triggers", 1),
        ("busy_timeout", 7),
        ("synchronous", 0),
        ("temp_store", 2),
    ],
)
def test_a_pragma_is_as_before(pool: Pool, leave: Leave, name: str, changed: int) -> None:
    with pool.connection() as conn:
        before = value(conn, f"PRAGMA {name}")
    leave(lambda conn: conn.execute(f"PRAGMA {name} = {changed}"))

    with pool.connection() as conn:
        assert value(conn, f"PRAGMA {name}") == before != changed


def test_a_pragma_that_cannot_be_read_is_as_before(pool: Pool, leave: Leave) -> None:
    leave(lambda conn: conn.execute("PRAGMA case_sensitive_like = 1"))

    with pool.connection() as conn:
        assert value(conn, "SELECT 'a' LIKE 'A'") == 1


def test_an_attached_database_is_gone(pool: Pool, leave: Leave, tmp_path: Path) -> None:
    leave(lambda conn: conn.execute("ATTACH ? AS other", (str(tmp_path / "other.db"),)))

    with pool.connection() as conn:
        assert [row[1] for row in conn.execute("PRAGMA database_list")] == ["main"]


def test_a_temporary_table_is_gone(pool: Pool, leave: Leave) -> None:
    leave(lambda conn: conn.execute("CREATE TEMP TABLE mine (x)"))

    with pool.connection() as conn:
        assert value(conn, "SELECT count(*) FROM sqlite_temp_master") == 0


def test_a_temporary_view_that_hides_a_table_is_gone(pool: Pool, leave: Leave) -> None:
    leave(lambda conn: conn.executescript("CREATE TEMP VIEW note AS SELECT 1 AS id;"))

    with pool.connection() as conn:
        assert count(conn) == 500


def test_a_function_is_gone(pool: Pool, leave: Leave) -> None:
    leave(lambda conn: conn.create_function("mine", 0, lambda: 1))

    with pool.connection() as conn, pytest.raises(sqlite3.OperationalError, match="no such func"):
        conn.execute("SELECT mine()")


def test_a_function_that_replaced_a_built_in_one_is_gone(pool: Pool, leave: Leave) -> None:
    leave(lambda conn: conn.create_function("upper", 1, lambda text: "mine"))

    with pool.connection() as conn:
        assert value(conn, "SELECT upper('a')") == "A"


class Total:
    """An aggregate."""

    def step(self, number: int) -> None:
        """Takes one."""

    def finalize(self) -> int:
        """Gives all."""
        return 1

    value = finalize
    inverse = step


def test_an_aggregate_is_gone(pool: Pool, leave: Leave) -> None:
    leave(lambda conn: conn.create_aggregate("mine", 1, Total))

    with pool.connection() as conn, pytest.raises(sqlite3.OperationalError, match="no such func"):
        conn.execute("SELECT mine(id) FROM note")


@since_311
def test_a_window_function_is_gone(pool: Pool, leave: Leave) -> None:
    leave(lambda conn: conn.create_window_function("mine", 1, Total))

    with pool.connection() as conn, pytest.raises(sqlite3.OperationalError, match="no such func"):
        conn.execute("SELECT mine(id) OVER () FROM note")


def test_a_collation_is_gone(pool: Pool, leave: Leave) -> None:
    leave(lambda conn: conn.create_collation("mine", lambda a, b: 0))

    with pool.connection() as conn, pytest.raises(sqlite3.OperationalError, match="no such coll"):
        conn.execute("SELECT text FROM note ORDER BY text COLLATE mine")


def test_an_authorizer_is_gone(pool: Pool, leave: Leave) -> None:
    leave(lambda conn: conn.set_authorizer(lambda *action: sqlite3.SQLITE_DENY))

    with pool.connection() as conn:
        assert count(conn) == 500


def test_a_progress_handler_is_gone(pool: Pool, leave: Leave) -> None:
    leave(lambda conn: conn.set_progress_handler(lambda: 1, 1))

    with pool.connection() as conn:
        assert count(conn) == 500


def test_a_trace_callback_is_gone(pool: Pool, leave: Leave) -> None:
    seen: list[str] = []
    leave(lambda conn: conn.set_trace_callback(seen.append))
    seen.clear()

    with pool.connection() as conn:
        assert count(conn) == 500
    assert seen == []


@since_311
def test_a_limit_is_as_before(pool: Pool, leave: Leave) -> None:
    leave(lambda conn: conn.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, 20))

    with pool.connection() as conn:
        assert count(conn) == 500


def test_a_broken_transaction_and_a_changed_session_together_are_gone(
    pool: Pool, path: Path, leave: Leave
) -> None:
    def wreck(conn: Any) -> Any:
        conn.row_factory = sqlite3.Row
        conn.create_function("mine", 0, lambda: 1)
        conn.execute("BEGIN IMMEDIATE")
        conn.execute("CREATE TEMP TABLE mine (x)")
        conn.execute("PRAGMA query_only = 1")
        conn.set_authorizer(lambda *action: sqlite3.SQLITE_DENY)

    leave(wreck)

    assert can_write(path)
    with pool.connection() as conn:
        conn.execute("INSERT INTO note (text) VALUES ('kept')")
        assert count(conn) == 501


def test_plain_work_does_not_cost_a_new_connection(pool: Pool) -> None:
    for number in range(20):
        with pool.connection() as conn:
            conn.execute("INSERT INTO note (text) VALUES (?)", (f"new{number}",))
            conn.execute("UPDATE note SET text = text || 'x' WHERE id = ?", (number,))
            conn.executemany("DELETE FROM note WHERE id = ?", [(number,)])
            assert conn.execute("SELECT count(*), max(text) FROM note").fetchall()
            conn.row_factory = sqlite3.Row
            conn.execute("SELECT * FROM note").fetchone()

    assert pool.stats().opened == 1
    assert pool.stats().closed == {}


# -- what was kept is dead ------------------------------------------------------------------------

OF_A_CONNECTION: dict[str, tuple[Any, ...]] = {
    "execute": ("DELETE FROM note",),
    "executemany": ("DELETE FROM note WHERE id = ?", [(1,)]),
    "executescript": ("DELETE FROM note;",),
    "cursor": (),
    "commit": (),
    "rollback": (),
    "create_function": ("mine", 0, int),
    "set_authorizer": (None,),
    "iterdump": (),
    "interrupt": (),
}
OF_A_CURSOR: dict[str, tuple[Any, ...]] = {
    "execute": ("DELETE FROM note",),
    "executemany": ("DELETE FROM note WHERE id = ?", [(1,)]),
    "executescript": ("DELETE FROM note;",),
    "fetchone": (),
    "fetchmany": (2,),
    "fetchall": (),
    "__next__": (),
}


@pytest.mark.parametrize("name", OF_A_CONNECTION)
def test_a_kept_connection_refuses_everything(pool: Pool, name: str) -> None:
    kept = pool.connection()
    bound = getattr(kept, name)
    kept.close()

    with pool.connection() as conn:
        for call in (bound, lambda *args: getattr(kept, name)(*args)):
            with pytest.raises(sqlite3.InterfaceError, match="returned to the pool"):
                call(*OF_A_CONNECTION[name])
        assert count(conn) == 500


@pytest.mark.parametrize("name", ["row_factory", "isolation_level", "total_changes", "whatever"])
def test_a_kept_connection_has_no_attributes_to_read_or_write(pool: Pool, name: str) -> None:
    kept = pool.connection()
    kept.close()

    with pool.connection():
        with pytest.raises(sqlite3.InterfaceError):
            getattr(kept, name)
        with pytest.raises(sqlite3.InterfaceError):
            setattr(kept, name, None)
        with pytest.raises(sqlite3.InterfaceError), kept:
            pytest.fail("it was entered")


@pytest.mark.parametrize("name", OF_A_CURSOR)
def test_a_kept_cursor_refuses_everything(pool: Pool, name: str) -> None:
    conn = pool.connection()
    kept = conn.execute("SELECT * FROM note")
    conn.close()

    with pool.connection() as conn:
        with pytest.raises(sqlite3.InterfaceError, match="returned to the pool"):
            getattr(kept, name)(*OF_A_CURSOR[name])
        assert count(conn) == 500


@pytest.mark.parametrize("name", OF_A_CURSOR)
def test_a_cursors_bound_method_taken_before_the_return_refuses_too(pool: Pool, name: str) -> None:
    conn = pool.connection()
    bound = getattr(conn.execute("SELECT * FROM note"), name)
    conn.close()
    # Where the driver's C code is bound directly, the error is in the driver's own words.
    error = sqlite3.InterfaceError if name.startswith("execute") else sqlite3.Error

    with pool.connection() as conn:
        with pytest.raises(error):
            bound(*OF_A_CURSOR[name])
        assert count(conn) == 500


def test_a_kept_dump_refuses_to_go_on(pool: Pool, path: Path) -> None:
    conn = pool.connection()
    dump = conn.iterdump()
    next(dump)
    conn.close()

    with pytest.raises(sqlite3.InterfaceError):
        next(dump)
    del dump
    assert can_write(path)


@since_311
def test_a_kept_blob_refuses_everything(pool: Pool) -> None:
    conn = pool.connection()
    blob = conn.blobopen("note", "body", 1)
    assert blob.read(2) == b"bo"
    conn.close()

    with pool.connection() as conn:
        with pytest.raises(sqlite3.Error):
            blob.read(1)
        with pytest.raises(sqlite3.Error):
            blob.write(b"x")
        assert value(conn, "SELECT body FROM note WHERE id = 1") == b"body"


def test_what_was_kept_does_not_touch_the_next_ones_transaction(pool: Pool) -> None:
    kept = pool.connection()
    cursor = kept.cursor()
    kept.close()

    with pool.connection() as conn:
        conn.execute("INSERT INTO note (text) VALUES ('mine')")
        for use in (kept.commit, kept.rollback, lambda: cursor.execute("COMMIT")):
            with pytest.raises(sqlite3.InterfaceError):
                use()
        kept.close()
        kept.invalidate()
        cursor.close()
        assert conn.in_transaction
        conn.rollback()
        assert count(conn) == 500


# -- the handle is as good as the driver's own ----------------------------------------------------


def test_a_handle_is_a_connection_of_the_driver(pool: Pool) -> None:
    with pool.connection() as conn:
        assert isinstance(conn, sqlite3.Connection)
        assert type(conn.driver_connection) is sqlite3.Connection


def test_attribute_writes_reach_the_driver(pool: Pool) -> None:
    with pool.connection() as conn:
        conn.row_factory = sqlite3.Row
        conn.isolation_level = "IMMEDIATE"
        assert conn.execute("SELECT 1 AS one").fetchone()["one"] == 1
        assert conn.driver_connection.isolation_level == "IMMEDIATE"


def test_the_errors_of_pep_249_are_attributes(pool: Pool) -> None:
    with pool.connection() as conn:
        for name in ("Error", "OperationalError", "IntegrityError", "InterfaceError", "Warning"):
            assert getattr(conn, name) is getattr(sqlite3, name)
        with pytest.raises(conn.IntegrityError):
            conn.execute("INSERT INTO note (text) VALUES ('n1')")


def test_a_cursor_belongs_to_the_handle(pool: Pool) -> None:
    with pool.connection() as conn:
        assert conn.cursor().connection is conn
        assert conn.execute("SELECT 1").connection is conn
        assert isinstance(conn.cursor(), sqlite3.Cursor)


def test_a_cursor_class_of_ones_own_works(pool: Pool) -> None:
    class Mine(sqlite3.Cursor):
        def ones(self) -> list[Any]:
            return self.execute("SELECT 1").fetchall()

    with pool.connection() as conn:
        assert conn.cursor(Mine).ones() == [(1,)]
        assert conn.cursor(factory=Mine).ones() == [(1,)]


def test_a_cursor_class_may_execute_while_it_is_made(pool: Pool) -> None:
    class Eager(sqlite3.Cursor):
        def __init__(self, conn: Any, sql: str = "CREATE TEMP TABLE mine (x)") -> None:
            super().__init__(conn)
            self.execute(sql)

    class Wrong(Eager):
        def __init__(self, conn: Any) -> None:
            super().__init__(conn, "SELEKT")

    with pool.connection() as conn:
        conn.cursor(Eager)
        with pytest.raises(sqlite3.OperationalError, match="SELEKT"):
            conn.cursor(Wrong)
    with pool.connection() as conn:
        assert conn.execute("SELECT count(*) FROM temp.sqlite_master").fetchone() == (0,)


@pytest.mark.parametrize("control", CONTROLS, indirect=True)
def test_with_commits_on_success_and_returns(pool: Pool, path: Path) -> None:
    with pool.connection() as conn:
        conn.execute("INSERT INTO note (text) VALUES ('kept')")

    assert pool.stats().idle == 1
    with closing(sqlite3.connect(path)) as other:
        assert count(other) == 501


@pytest.mark.parametrize("control", IMPLICIT, indirect=True)
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_with_rolls_back_on_an_exception_and_returns(
    pool: Pool, path: Path, error: type[BaseException]
) -> None:
    def fail() -> None:
        with pool.connection() as conn:
            conn.execute("INSERT INTO note (text) VALUES ('left')")
            raise error

    with pytest.raises(error):
        fail()
    assert pool.stats().idle == 1
    with closing(sqlite3.connect(path)) as other:
        assert count(other) == 500


def test_an_invalidated_connection_is_closed_and_its_work_undone(pool: Pool, path: Path) -> None:
    conn = pool.connection()
    raw = conn.driver_connection
    conn.execute("INSERT INTO note (text) VALUES ('left')")
    conn.invalidate()

    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        raw.execute("SELECT 1")
    assert can_write(path)
    with pool.connection() as conn:
        assert count(conn) == 500
    assert (pool.stats().opened, pool.stats().closed) == (2, {"invalidated": 1})


def test_a_detached_connection_is_the_borrowers_own(pool: Pool) -> None:
    handle = pool.connection()
    with closing(handle.detach()) as own:
        with pytest.raises(sqlite3.InterfaceError):
            handle.execute("SELECT 1")
        handle.close()
        with pool.connection() as conn:
            assert conn.driver_connection is not own
            assert count(own) == count(conn) == 500
        assert pool.close()
        assert count(own) == 500


def test_the_driver_connection_is_for_code_that_needs_the_real_one(pool: Pool) -> None:
    with closing(sqlite3.connect(":memory:")) as target, pool.connection() as conn:
        conn.backup(target)
        assert count(target) == 500
        target.execute("DELETE FROM note")
        target.commit()
        target.backup(conn.driver_connection)
        assert count(conn) == 0


# -- transaction() and run() ----------------------------------------------------------------------


@pytest.mark.parametrize("control", CONTROLS, indirect=True)
def test_an_immediate_transaction_has_the_write_lock_from_its_beginning(
    pool: Pool, path: Path
) -> None:
    with pool.transaction(mode="IMMEDIATE") as conn:
        assert not can_write(path)
        conn.execute("INSERT INTO note (text) VALUES ('kept')")
    assert can_write(path)
    with pool.connection() as conn:
        assert count(conn) == 501


@pytest.mark.parametrize("control", CONTROLS, indirect=True)
def test_a_transaction_is_undone_by_an_exception(pool: Pool, path: Path) -> None:
    def fail() -> None:
        with pool.transaction() as conn:
            conn.execute("INSERT INTO note (text) VALUES ('left')")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert can_write(path)
    with pool.connection() as conn:
        assert count(conn) == 500


class Impatient(System):
    """A machine on which nobody sleeps: something happens instead."""

    def __init__(self, instead: Callable[[], object]) -> None:
        self._instead = instead
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        """Do the other thing."""
        self.slept.append(seconds)
        self._instead()


@pytest.fixture
def writer(path: Path) -> Iterator[sqlite3.Connection]:
    """Another connection that holds the write lock until it commits."""
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        yield writer


@pytest.mark.parametrize("options", [{}, {"mode": "IMMEDIATE"}])
def test_run_tries_again_when_another_writer_was_in_the_way(
    path: Path, writer: sqlite3.Connection, options: dict[str, Any]
) -> None:
    machine = Impatient(writer.commit)
    calls: list[int] = []

    def insert(conn: Any) -> int:
        calls.append(len(calls))
        conn.execute("INSERT INTO note (text) VALUES ('once')")
        return len(calls)

    with Pool(sqlite3, path, timeout=0, max_size=1, clock=machine) as pool:
        assert pool.run(insert, **options) == len(calls)
        assert len(machine.slept) == 1
        assert pool.stats().opened == 1
        with pool.connection() as conn:
            assert count(conn) == 501


def test_run_gives_up_after_its_retries_with_the_drivers_error(
    path: Path, writer: sqlite3.Connection
) -> None:
    machine = Impatient(lambda: None)
    with Pool(sqlite3, path, timeout=0, max_size=1, clock=machine) as pool:
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            pool.run(lambda conn: conn.execute("DELETE FROM note"), retries=2)
        assert len(machine.slept) == 2
        assert pool.stats().idle == 1


# -- databases in memory --------------------------------------------------------------------------


def test_a_private_database_in_memory_with_several_connections_is_refused() -> None:
    with pytest.raises(PoolSettingError, match="max_size=5.*:memory:") as caught:
        Pool(sqlite3, ":memory:", max_size=5)
    assert "set max_size=1" in str(caught.value)
    assert "cache=shared" in str(caught.value)


def test_a_database_in_memory_keeps_its_data_from_lease_to_lease() -> None:
    with Pool(sqlite3, ":memory:", max_size=1, max_uses=1, idle_timeout=0.001) as pool:
        with pool.connection() as conn:
            conn.execute("CREATE TABLE note (text)")
        with pool.connection() as conn:
            conn.execute("INSERT INTO note VALUES ('kept')")
            conn.execute("PRAGMA foreign_keys = 1")
            conn.create_collation("mine", lambda a, b: 0)
        with pool.connection() as conn:
            assert count(conn) == 1
            assert value(conn, "PRAGMA foreign_keys") == 0
            with pytest.raises(sqlite3.OperationalError, match="no such collation"):
                conn.execute("SELECT 1 ORDER BY 1 COLLATE mine")
        assert pool.stats().opened == 1


def test_several_connections_may_share_a_database_in_memory() -> None:
    uri = "file:shared_by_a_pool?mode=memory&cache=shared"
    with Pool(sqlite3, uri, uri=True, max_size=3) as pool:
        with pool.connection() as conn:
            conn.execute("CREATE TABLE note (text)")
        with pool.connection() as writer, pool.connection() as reader:
            writer.execute("INSERT INTO note VALUES ('kept')")
            writer.commit()
            assert count(reader) == 1
            reader.execute("PRAGMA read_uncommitted = 1")
        with pool.connection() as conn:
            assert count(conn) == 1
            assert value(conn, "PRAGMA read_uncommitted") == 0
        assert pool.stats().size == 2
