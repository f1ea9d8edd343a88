"""`manage` and `patch`: which calls share a pool, and what programs see, on the fake driver and
SQLite."""

from __future__ import annotations

import gc
import logging
import os
import pickle
import sqlite3
import sqlite3.dbapi2
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dbapi_pool
from dbapi_pool import ConnectionReturned, Pool, PoolSettingError, PoolTimeout, manage, patch
from dbapi_pool.dropin.importing import when_imported
from dbapi_pool.dropin.keys import NoKey, key_of
from dbapi_pool.dropin.managed import ManagedStats
from dbapi_pool.testing import FakeDriver

Manage = Callable[..., Any]


@pytest.fixture
def managed(fake: FakeDriver, clock: Any) -> Iterator[Manage]:
    """Makes managed modules on the fake driver; in the end nothing may be open."""
    made: list[Any] = []

    def make(**settings: Any) -> Any:
        settings.setdefault("driver", fake.driver())
        made.append(manage(fake, clock=clock, **settings))  # type: ignore[arg-type]
        return made[-1]

    yield make
    gc.collect()
    for module in made:
        module.close()
    clock.run()
    fake.assert_no_leak()


@pytest.fixture
def file(tmp_path: Path) -> str:
    """A database with an empty table `t`."""
    path = str(tmp_path / "app.db")
    conn = sqlite3.connect(path)
    conn.execute("CREATE TABLE t (n INTEGER)")
    conn.close()
    return path


@pytest.fixture
def db() -> Iterator[Any]:
    module = manage(sqlite3)
    yield module
    gc.collect()
    module.close()


def rows(path: str) -> list[int]:
    conn = sqlite3.connect(path)
    try:
        return [n for (n,) in conn.execute("SELECT n FROM t ORDER BY n")]
    finally:
        conn.close()


# -- what it stands for ----------------------------------------------------------------------------


def test_everything_but_connect_is_the_drivers(db: Any) -> None:
    assert isinstance(db, ModuleType)
    assert db.__name__ == "sqlite3"
    assert db.Error is sqlite3.Error
    assert db.paramstyle == sqlite3.paramstyle
    assert db.dbapi2 is sqlite3.dbapi2
    assert set(dir(sqlite3)) <= set(dir(db))
    assert db.connect is not sqlite3.connect
    assert db.connect.__doc__ == sqlite3.connect.__doc__
    assert repr(db) == (
        "<'sqlite3', with its connects pooled by dbapi_pool: 0 pools, 0 connects, 0 opened>"
    )
    with pytest.raises(AttributeError, match="nothing_like_that"):
        db.nothing_like_that  # noqa: B018


def test_writing_an_attribute_reaches_the_driver(db: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(sqlite3, "of_a_test", 1, raising=False)

    db.of_a_test = 2
    assert sqlite3.of_a_test == 2  # type: ignore[attr-defined]
    del db.of_a_test
    assert not hasattr(sqlite3, "of_a_test")
    sqlite3.of_a_test = 1  # type: ignore[attr-defined]


def test_the_drivers_errors_are_caught_by_the_managed_name(db: Any, file: str) -> None:
    conn = db.connect(file)

    with pytest.raises(db.OperationalError):
        conn.execute("SELECT nothing")
    assert isinstance(conn, db.Connection)
    conn.close()


@pytest.mark.parametrize("module", ["sqlite3", sqlite3, manage("sqlite3")])
def test_a_module_is_given_by_itself_by_name_or_managed_already(module: Any) -> None:
    twice = manage(module)

    assert vars(twice)["_module"] is sqlite3
    assert twice.stats().module == "sqlite3"


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"max_size": 0}, "max_size=0"),
        ({"max_pools": 0}, "max_pools=0"),
        ({"reset": "perhaps"}, "reset='perhaps'"),
        ({"host": "db"}, "host='db': is no setting of a pool"),
        ({"driver": "sqlite"}, "driver='sqlite'"),
    ],
)
@pytest.mark.parametrize("door", [manage, patch])
def test_bad_settings_are_refused_at_the_door(door: Any, settings: Any, text: str) -> None:
    with pytest.raises(PoolSettingError, match=text.replace("(", r"\(")):
        door(sqlite3, **settings)


@pytest.mark.parametrize("door", [manage, patch])
def test_what_cannot_connect_is_refused(door: Any) -> None:
    with pytest.raises(PoolSettingError, match="math is no DB-API module"):
        door("math")
    with pytest.raises(ImportError):
        door("nothing_like_that")


# -- which calls share a pool ----------------------------------------------------------------------


def test_equal_arguments_share_a_pool_and_others_do_not(managed: Manage, fake: FakeDriver) -> None:
    module = managed()

    for arguments in ({"host": "a"}, {"host": "b"}, {"host": "a"}, {"host": "b"}):
        module.connect(**arguments).close()

    assert [pool.stats().checkouts for pool in module.pools()] == [2, 2]
    assert [conn.arguments for conn in fake.connections] == [
        ((), {"host": "a"}),
        ((), {"host": "b"}),
    ]


def test_arguments_named_like_settings_reach_the_driver(managed: Manage, fake: FakeDriver) -> None:
    given = {"name": "n", "driver": "d", "max_size": 3, "clock": 1, "setup": "s", "creator": "c"}
    conn = managed().connect(**given)

    assert conn.arguments == ((), given)
    conn.close()


def test_keys_tell_what_differs_and_nothing_else() -> None:
    def mine(*args: Any, **kwargs: Any) -> Any:
        return key_of(args, kwargs, ())

    assert mine(1) == mine(1)
    assert mine(a=1, b=2) == mine(b=2, a=1)
    assert mine(conv={1: str, 2: int}) == mine(conv={2: int, 1: str})
    assert mine({"a", "b"}) == mine({"b", "a"})
    different = [
        mine(), mine(1), mine(True), mine(1.0), mine("1"), mine(b"1"), mine([1]), mine((1,)),
        mine({1}), mine({1: 1}), mine(1, 1), mine([1, 1]), mine([1], 1), mine([[1], 1]), mine(None),
        mine(a=1), mine("a", 1), mine({"a": 1}), mine(str), mine(int), mine("ab", "c"),
        mine("a", "bc"), mine(Path("1")), mine(Path("2")),
    ]  # fmt: skip
    assert len(set(different)) == len(different)


def test_keys_show_no_password() -> None:
    key = key_of(
        ("postgresql://me:s3cret@db/x",), {"password": "s3cret", "ssl": {"p": b"s3cret"}}, ()
    )

    assert "s3cret" not in repr(key)


def test_keys_depend_on_the_working_directory_and_what_the_driver_reads(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("PGHOST", "here")
    here = key_of((), {}, ("PGHOST",)), key_of((), {}, ())
    monkeypatch.setenv("PGHOST", "there")
    assert key_of((), {}, ("PGHOST",)) != here[0]
    assert key_of((), {}, ()) == here[1]

    monkeypatch.chdir(tmp_path)
    assert key_of((), {}, ()) != here[1]


def test_a_working_directory_that_is_gone_is_one_too(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    tmp_path.rmdir()

    assert key_of((), {}, ()) == key_of((), {}, ())
    tmp_path.mkdir()


class Changing:
    __hash__ = None  # type: ignore[assignment]


def endless() -> list[Any]:
    again: list[Any] = []
    again.append(again)
    return again


@pytest.mark.parametrize("argument", [Changing(), [Changing()], bytearray(b"x"), endless()])
def test_arguments_that_can_change_have_no_key(argument: Any) -> None:
    with pytest.raises(NoKey):
        key_of((argument,), {}, ())


def test_a_call_without_a_key_gets_a_connection_of_its_own(
    managed: Manage, fake: FakeDriver, caplog: Any
) -> None:
    module = managed()
    with caplog.at_level(logging.DEBUG, "dbapi_pool.manage"):
        conns = [module.connect(Changing(), password="s3cret") for _ in range(2)]

    assert [type(conn).__name__ for conn in conns] == ["FakeConnection"] * 2
    for conn in conns:
        conn.close()
    stats = module.stats()
    assert (stats.connects, stats.unpooled, stats.opened, stats.saved) == (2, 2, 0, 0)
    assert "not pooled: an argument of type Changing can change" in caplog.text
    assert "s3cret" not in caplog.text


def test_a_relative_path_means_another_file_in_another_folder(
    db: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    found = []
    for name in ("a", "b", "a"):
        (tmp_path / name).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / name)
        conn = db.connect("app.db")
        conn.execute("CREATE TABLE IF NOT EXISTS t (n)")
        conn.execute("INSERT INTO t VALUES (1)")
        conn.commit()
        found.append(conn.execute("SELECT count(*) FROM t").fetchone()[0])
        conn.close()

    assert found == [1, 1, 2]


# -- what must not be shared -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        {"database": ":memory:"},
        {"database": ""},
        {"database": "file::memory:", "uri": True},
        {"database": "file:shared?mode=memory&cache=shared", "uri": True},
        {"database": "x.db", "check_same_thread": True},
    ],
)
@pytest.mark.parametrize("settings", [{}, {"max_size": 1}])
def test_what_must_not_be_shared_is_not_pooled(
    arguments: Any, settings: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    db = manage(sqlite3, **settings)
    for _ in range(3):
        conn = db.connect(**arguments)
        assert type(conn) is sqlite3.Connection
        if "check_same_thread" not in arguments:
            conn.execute("CREATE TABLE t (n)")  # each time there is none
        conn.close()

    assert db.pools() == ()
    assert db.stats().unpooled == 3


def test_a_file_that_was_deleted_is_not_met_again(db: Any, file: str) -> None:
    for _ in range(3):
        conn = db.connect(file)
        conn.execute("CREATE TABLE IF NOT EXISTS u (n)")
        assert conn.execute("SELECT count(*) FROM u").fetchone() == (0,)
        conn.execute("INSERT INTO u VALUES (1)")
        conn.commit()
        conn.close()
        os.remove(file)


def test_the_log_is_merged_into_the_file_when_the_last_connection_is_closed(
    db: Any, file: str
) -> None:
    conn = db.connect(file)
    conn.execute("PRAGMA journal_mode = WAL")
    conn.close()
    conn = db.connect(file)
    conn.execute("INSERT INTO t VALUES (1)")
    conn.commit()
    assert os.path.exists(file + "-wal")
    conn.close()

    assert not os.path.exists(file + "-wal")


def test_changes_are_counted_from_zero(db: Any, file: str) -> None:
    for _ in range(2):
        conn = db.connect(file)
        assert conn.total_changes == 0
        conn.execute("INSERT INTO t VALUES (1)")
        conn.commit()
        assert conn.total_changes == 1
        conn.close()
    assert db.stats().opened == 1


def test_one_database_is_copied_into_another(db: Any, file: str, tmp_path: Path) -> None:
    source, target = db.connect(file), db.connect(str(tmp_path / "copy.db"))
    source.execute("INSERT INTO t VALUES (7)")
    source.commit()

    source.backup(target)
    assert target.execute("SELECT n FROM t").fetchall() == [(7,)]
    source.close()
    target.close()


# -- how many --------------------------------------------------------------------------------------


def test_no_program_waits_that_would_not_without_a_pool(managed: Manage, fake: FakeDriver) -> None:
    module = managed()
    conns = [module.connect() for _ in range(100)]

    assert fake.open == 100
    for conn in conns:
        conn.close()


def test_max_size_is_a_hard_bound(managed: Manage, fake: FakeDriver) -> None:
    module = managed(max_size=2, checkout_timeout=0)
    conns = [module.connect() for _ in range(2)]

    with pytest.raises(fake.OperationalError) as caught:
        module.connect()
    assert isinstance(caught.value, (PoolTimeout, dbapi_pool.PoolDeadlock))
    for conn in conns:
        conn.close()


def test_the_pool_that_was_unused_for_longest_makes_room(managed: Manage, fake: FakeDriver) -> None:
    module = managed(max_pools=2)
    first = module.connect(1)
    module.connect(2).close()
    module.connect(3).close()  # the first is in use, so the second must go

    assert [pool.stats().checkouts for pool in module.pools()] == [1, 1]
    module.connect(1).close()
    assert module.stats().connects == 4  # those of the pool that is gone, too
    assert module.stats().opened == 4
    first.close()
    assert len(module.pools()) == 2


def test_while_all_pools_are_in_use_a_call_gets_its_own(managed: Manage, fake: FakeDriver) -> None:
    module = managed(max_pools=2)
    lent = [module.connect(number) for number in (1, 2)]
    own = module.connect(3)

    assert (len(module.pools()), module.stats().unpooled) == (2, 1)
    own.close()
    lent[0].close()
    module.connect(3).close()
    assert module.stats().unpooled == 1
    lent[1].close()


def test_a_pool_that_is_closed_at_that_moment_is_replaced(managed: Manage) -> None:
    module = managed()
    module.connect().close()
    module.pools()[0].close()

    module.connect().close()
    assert [pool.closed for pool in module.pools()] == [False]


def test_what_was_saved_is_estimated_by_those_that_were_opened_after_the_first() -> None:
    told: Any = {"module": "db", "connects": 110, "unpooled": 7, "waits": 0, "wait_time": 0.0}
    told["pools"] = ()

    one = ManagedStats(opened=1, connect_time=2.0, first_connect_time=2.0, **told)
    three = ManagedStats(opened=3, connect_time=3.0, first_connect_time=2.0, **told)
    none = ManagedStats(opened=0, connect_time=0.0, first_connect_time=0.0, **told)
    assert (one.saved, one.saved_time) == (102, 204.0)
    assert (three.saved, three.saved_time) == (100, 50.0)
    assert none.saved_time == 0.0


def test_threads_get_connections_from_one_pool(db: Any, file: str) -> None:
    barrier = threading.Barrier(8)
    problems: list[BaseException] = []

    def work(number: int) -> None:
        try:
            barrier.wait(30)
            for _ in range(25):
                conn = db.connect(file, timeout=30)
                conn.execute("INSERT INTO t VALUES (?)", (number,))
                conn.commit()
                conn.close()
        except BaseException as exc:
            problems.append(exc)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert problems == []
    assert len(rows(file)) == 200
    stats = db.stats()
    assert (stats.connects, stats.unpooled, len(stats.pools)) == (200, 0, 1)
    assert stats.opened <= 8


# -- connections do as the driver's own --------------------------------------------------------------


def test_with_commits_and_does_not_close_as_sqlite3s_own(db: Any, file: str) -> None:
    conn = db.connect(file)
    for number in (1, 2):
        with conn as entered:
            assert entered is conn
            conn.execute("INSERT INTO t VALUES (?)", (number,))
    with pytest.raises(sqlite3.OperationalError), conn:
        conn.executescript("BEGIN; INSERT INTO t VALUES (3); SELECT nothing")
    conn.close()

    assert rows(file) == [1, 2]


def test_with_that_was_closed_inside_leaves_nothing_to_the_next(db: Any, file: str) -> None:
    conn = db.connect(file)
    with pytest.raises(sqlite3.ProgrammingError), conn:
        conn.close()

    with db.connect(file) as other:
        other.execute("INSERT INTO t VALUES (1)")
    assert rows(file) == [1]


def test_what_was_not_committed_is_rolled_back_and_locks_nobody_out(db: Any, file: str) -> None:
    conn = db.connect(file)
    conn.execute("INSERT INTO t VALUES (1)")
    conn.close()
    dropped = db.connect(file)
    dropped.execute("INSERT INTO t VALUES (2)")
    del dropped

    other = sqlite3.connect(file, timeout=0)
    other.execute("INSERT INTO t VALUES (3)")
    other.commit()
    other.close()
    assert rows(file) == [3]
    assert db.stats().opened == 1


def test_a_connection_lives_as_long_as_its_cursors(db: Any, file: str) -> None:
    cursor = db.connect(file).execute("SELECT 1 UNION SELECT 2")
    gc.collect()

    assert cursor.fetchall() == [(1,), (2,)]
    assert db.pools()[0].stats().in_use == 1
    del cursor
    assert db.pools()[0].stats().in_use == 0


def test_used_after_close_raises_as_the_drivers_own(db: Any, file: str) -> None:
    conn, bare = db.connect(file), sqlite3.connect(file)
    cursors = conn.cursor(), bare.cursor()
    conn.close()
    bare.close()
    conn.close()

    told = []
    for use in (
        lambda one, cursor: one.execute("SELECT 1"),
        lambda one, cursor: one.commit(),
        lambda one, cursor: one.cursor(),
        lambda one, cursor: cursor.execute("SELECT 1"),
        lambda one, cursor: cursor.fetchone(),
        lambda one, cursor: one.total_changes,
    ):
        for one, cursor in ((conn, cursors[0]), (bare, cursors[1])):
            with pytest.raises(sqlite3.ProgrammingError) as caught:
                use(one, cursor)
            told.append((repr(caught.value), type(caught.value).__module__, caught.value.__cause__))
    assert told[::2] == told[1::2]
    assert isinstance(caught.value, sqlite3.ProgrammingError)
    with pytest.raises(ConnectionReturned) as mine:
        conn.commit()
    assert repr(pickle.loads(pickle.dumps(mine.value))) == repr(mine.value)


def test_an_error_of_connecting_is_told_at_once_and_again(
    managed: Manage, fake: FakeDriver
) -> None:
    module = managed()
    fake.down = True
    for _ in range(3):
        with pytest.raises(fake.OperationalError, match="connection refused"):
            module.connect()
    fake.down = False
    module.connect().close()


def test_connections_are_opened_in_the_thread_that_asks(db: Any, file: str) -> None:
    threads = []

    class Mine(sqlite3.Connection):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            threads.append(threading.get_ident())
            super().__init__(*args, **kwargs)

    db.connect(file, factory=Mine).close()
    assert threads == [threading.get_ident()]


class PlainConnection:
    """A driver's connection that is written in Python, and whose `with` closes."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def cursor(self) -> Any:
        raise NotImplementedError

    def commit(self) -> None:
        self.done.append("commit")

    def rollback(self) -> None:
        self.done.append("rollback")

    def close(self) -> None:
        self.done.append("close")

    def __enter__(self) -> Any:
        return self

    def __exit__(self, kind: Any, exc: Any, trace: Any) -> None:
        if kind is None:
            self.commit()
        self.close()


def test_a_with_that_closes_gives_back(fake: FakeDriver) -> None:
    conn = PlainConnection()
    plain: Any = ModuleType("plain")
    plain.connect = lambda: conn
    module = manage(plain)
    for _ in range(2):
        with module.connect() as lent:
            pass
        with pytest.raises(ConnectionReturned):
            lent.commit()

    assert conn.done[0] == "commit"
    assert "close" not in conn.done
    assert module.stats().opened == 1
    module.close()
    assert conn.done[-1] == "close"


# -- the end -----------------------------------------------------------------------------------------


def test_after_close_connections_are_the_drivers(db: Any, file: str) -> None:
    conn = db.connect(file)
    idle = db.connect(file)
    idle.close()
    db.close()

    own = db.connect(file)
    assert type(own) is sqlite3.Connection
    own.close()
    conn.execute("INSERT INTO t VALUES (1)")  # whoever has one keeps it
    conn.commit()
    conn.close()
    assert rows(file) == [1]
    assert db.pools() == ()
    assert repr(db).endswith("closed, 3 connects, 2 opened>")
    db.close()


def test_in_a_child_process_it_begins_anew(managed: Manage, db: Any, file: str) -> None:
    db.connect(file).close()
    before = db.stats().opened
    child = os.fork()
    if child == 0:
        conn = db.connect(file)
        conn.execute("INSERT INTO t VALUES (1)")
        conn.commit()
        os._exit(db.pools()[0].stats().opened)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert rows(file) == [1]
    assert db.stats().opened == before


def test_it_is_closed_when_the_interpreter_ends(file: str) -> None:
    program = f"""
import sqlite3, dbapi_pool
class Mine(sqlite3.Connection):
    def close(self):
        print("closed")
        super().close()
db = dbapi_pool.manage("sqlite3")
db.connect({file!r}, factory=Mine).close()
print("end")
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True
    )

    assert (done.stdout, done.stderr) == ("end\nclosed\n", "")


# -- patch -------------------------------------------------------------------------------------------


def test_a_patch_replaces_connect_and_puts_it_back(file: str) -> None:
    original = sqlite3.connect
    with patch("sqlite3") as module:
        for connect in (sqlite3.connect, sqlite3.dbapi2.connect):
            connect(file).close()
        assert (module.stats().connects, module.stats().opened) == (2, 1)
        pool = module.pools()[0]

    assert sqlite3.connect is original
    assert sqlite3.dbapi2.connect is original
    assert pool.closed


def test_a_patch_replaces_what_modules_have_imported(file: str, monkeypatch: Any) -> None:
    mine: Any = ModuleType("of_a_test")
    mine.connect = sqlite3.connect
    monkeypatch.setitem(sys.modules, "of_a_test", mine)
    monkeypatch.setitem(sys.modules, "odd", None)  # an import that is forbidden

    with patch(sqlite3) as module:
        mine.connect(file).close()
        assert module.stats().connects == 1
    assert mine.connect is sqlite3.connect


def test_patches_may_be_nested_and_end_in_any_order(file: str) -> None:
    original = sqlite3.connect
    outer, inner = patch(sqlite3), patch(sqlite3)
    first = outer.start()
    second = inner.start()
    sqlite3.connect(file).close()
    assert (first.stats().connects, second.stats().connects) == (0, 1)

    outer.stop()
    sqlite3.connect(file).close()
    assert second.stats().connects == 2
    inner.stop()
    assert sqlite3.connect is original

    with patch(sqlite3) as first:
        with patch(sqlite3):
            pass
        sqlite3.connect(file).close()
        assert first.stats().connects == 1
    assert sqlite3.connect is original


def test_a_patch_may_be_entered_again_and_started_anew(file: str) -> None:
    original = sqlite3.connect
    again = patch(sqlite3, max_size=3)
    with again as first:
        with again as second:
            assert second is first
        sqlite3.connect(file).close()
        assert first.pools()[0].max_size == 3
        assert repr(again) == "<patch of 'sqlite3', started>"
    assert sqlite3.connect is original
    again.stop()  # once too often does no harm

    with again as third:
        assert third is not first
        sqlite3.connect(file).close()
        assert third.stats().connects == 1
    assert repr(again) == "<patch of 'sqlite3', not started>"


def test_threads_may_patch_at_once(file: str) -> None:
    original = sqlite3.connect
    one = patch(sqlite3)
    barrier = threading.Barrier(4)

    def work() -> None:
        for _ in range(50):
            barrier.wait(30)
            with one, patch(sqlite3):
                sqlite3.connect(file).close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sqlite3.connect is original
    assert sqlite3.dbapi2.connect is original


def test_what_somebody_else_put_there_stays(file: str) -> None:
    original = sqlite3.connect
    mine = patch(sqlite3)
    mine.start()
    other = sqlite3.connect = lambda *args: None  # type: ignore[assignment,misc]
    mine.stop()

    assert sqlite3.connect is other
    sqlite3.connect = original


def test_a_pool_made_under_a_patch_has_the_drivers_own_connections(file: str) -> None:
    with patch("sqlite3") as module:
        for creator, args in [
            (sqlite3, (file,)),
            (sqlite3.connect, (file,)),
            (f"sqlite:///{file}", ()),
        ]:
            with Pool(creator, *args) as pool, pool.connection() as conn:
                assert type(conn.driver_connection) is sqlite3.Connection
        assert module.stats().connects == 0


def test_who_kept_the_stand_in_gets_the_drivers_own_afterwards(file: str) -> None:
    with patch(sqlite3):
        kept = sqlite3.connect
    conn = kept(file)

    assert type(conn) is sqlite3.Connection
    conn.close()


# -- drivers that are imported later -------------------------------------------------------------------


@pytest.fixture
def late(tmp_path: Path, monkeypatch: Any) -> Iterator[Path]:
    """A folder to import from; afterwards nothing of it is left."""
    before = list(sys.meta_path), set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.meta_path[:] = before[0]
    for name in set(sys.modules) - before[1]:
        # Not a driver that was imported meanwhile: there shall not be two of it.
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]


def test_what_is_imported_later_is_told_of_once_it_is_there(late: Path) -> None:
    (late / "latedb").mkdir()
    (late / "latedb" / "__init__.py").write_text("ready = True\n")
    (late / "latedb" / "connector.py").write_text("import latedb\ndef connect(): return latedb\n")
    told = []
    when_imported({"latedb", "latedb.connector"}, lambda module: told.append(vars(module).copy()))

    import latedb.connector  # type: ignore[import-not-found]

    assert [one["__name__"] for one in told] == ["latedb", "latedb.connector"]
    assert told[0]["ready"]
    assert callable(told[1]["connect"])
    for module in (latedb, latedb.connector):
        assert type(module.__loader__).__name__ == "SourceFileLoader"
        assert module.__spec__.loader is module.__loader__


def test_what_is_imported_already_is_told_of_at_once(late: Path) -> None:
    told: list[ModuleType] = []
    when_imported({"sqlite3"}, told.append)

    assert told == [sqlite3]


def test_a_driver_that_is_not_there_or_broken_fails_as_ever(late: Path) -> None:
    (late / "brokendb.py").write_text("raise ImportError('no library')\n")
    told: list[ModuleType] = []
    when_imported({"brokendb", "nosuchdb"}, told.append)

    with pytest.raises(ModuleNotFoundError, match="nosuchdb"):
        __import__("nosuchdb")
    for _ in range(2):
        with pytest.raises(ImportError, match="no library"):
            __import__("brokendb")
    assert told == []
    (late / "brokendb.py").write_text("repaired = True\n")
    __import__("importlib").invalidate_caches()
    __import__("brokendb")
    assert [module.__name__ for module in told] == ["brokendb"]


# -- the same as without, whatever a program does ------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.sampled_from([
            "connect", "connect", "insert", "insert", "select", "commit", "rollback", "with",
            "failing with", "close", "drop", "error", "autocommit", "row_factory", "cursor", "fetch",
        ]),
        st.integers(0, 2),
    ),
    max_size=40,
)  # fmt: skip


class Script:
    """What a script does with up to three connections at a time, and all that it sees."""

    def __init__(self, connect: Callable[..., Any], path: str) -> None:
        self.seen: list[Any] = []
        self._connect = connect
        self._path = path
        self._conns: dict[int, Any] = {}
        self._cursors: dict[int, Any] = {}
        self._number = 0

    def run(self, steps: list[tuple[str, int]]) -> list[Any]:
        for what, which in steps:
            try:
                self.seen.append((what, getattr(self, what.replace(" ", "_"))(which)))
            except Exception as exc:
                shown = type(exc).__name__, str(exc), type(exc).__module__
                self.seen.append((what, shown, isinstance(exc, sqlite3.Error)))
        self._conns.clear()
        self._cursors.clear()
        gc.collect()
        return self.seen

    def connect(self, which: int) -> None:
        self._cursors.pop(which, None)
        self._conns.pop(which, None)
        gc.collect()  # sqlite3's own connections are in a cycle
        self._conns[which] = self._connect(self._path, timeout=0)

    def insert(self, which: int) -> Any:
        self._number += 1
        return self._conns[which].execute("INSERT INTO t VALUES (?)", (self._number,)).rowcount

    def select(self, which: int) -> Any:
        conn = self._conns[which]
        found = [tuple(row) for row in conn.execute("SELECT n FROM t ORDER BY n").fetchall()]
        return found, conn.in_transaction, conn.total_changes, conn.isolation_level

    def commit(self, which: int) -> None:
        self._conns[which].commit()

    def rollback(self, which: int) -> None:
        self._conns[which].rollback()

    def with_(self, which: int) -> Any:
        conn = self._conns[which]
        with conn as entered:
            self.insert(which)
        return entered is conn

    def failing_with(self, which: int) -> None:
        with self._conns[which]:
            self.insert(which)
            raise KeyError("mine")

    def close(self, which: int) -> None:
        self._conns[which].close()

    def drop(self, which: int) -> None:
        self._cursors.pop(which, None)
        del self._conns[which]
        gc.collect()

    def error(self, which: int) -> None:
        self._conns[which].execute("SELECT nothing")

    def autocommit(self, which: int) -> None:
        self._conns[which].isolation_level = None

    def row_factory(self, which: int) -> Any:
        conn = self._conns[which]
        conn.in_transaction  # noqa: B018  (raises if it is closed)
        before = conn.row_factory
        conn.row_factory = sqlite3.Row
        return before

    def cursor(self, which: int) -> None:
        cursor = self._conns[which].cursor()
        self._cursors[which] = cursor
        cursor.execute("SELECT n FROM t ORDER BY n")

    def fetch(self, which: int) -> Any:
        row = self._cursors[which].fetchone()
        return row and tuple(row)


setattr(Script, "with", Script.with_)


def fresh(path: Path) -> str:
    for part in path.parent.glob(path.name + "*"):
        part.unlink()
    conn = sqlite3.connect(path)
    conn.execute("CREATE TABLE t (n INTEGER)")
    conn.close()
    return str(path)


# From Python 3.13 on sqlite3 warns of what is dropped.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@settings(max_examples=75, deadline=None)
@given(steps=STEPS)
def test_a_script_sees_the_same_as_without_a_pool(
    steps: list[tuple[str, int]], tmp_path_factory: Any
) -> None:
    folder = tmp_path_factory.getbasetemp()
    db = manage(sqlite3)

    bare = Script(sqlite3.connect, fresh(folder / "script.db")).run(steps)
    before = rows(str(folder / "script.db"))
    pooled = Script(db.connect, fresh(folder / "script.db")).run(steps)
    db.close()

    assert pooled == bare
    assert rows(str(folder / "script.db")) == before


# -- what public test suites have shown ------------------------------------------------------------


def test_a_method_of_a_closed_connection_can_be_named_and_raises_when_it_is_called(
    db: Any, file: str
) -> None:
    conn = db.connect(file)
    conn.close()

    method = conn.create_function

    assert method.__name__ == "create_function"
    with pytest.raises(sqlite3.ProgrammingError, match="closed database"):
        method("f", 0, int)
    with pytest.raises(sqlite3.ProgrammingError, match="closed database"):
        conn.total_changes  # noqa: B018


class NotConnected(sqlite3.Connection):
    """Forgets to call what it inherits."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass


def test_a_connection_that_is_not_connected_is_the_drivers_own(db: Any, file: str) -> None:
    for number in (1, 2):
        conn = db.connect(file, factory=NotConnected)

        assert type(conn) is NotConnected
        with pytest.raises(sqlite3.ProgrammingError, match="__init__ not called"):
            conn.cursor()
        assert (db.stats().connects, db.stats().unpooled) == (number, number)


def test_what_is_done_with_a_connection_after_its_close_is_not_traced(db: Any, file: str) -> None:
    traced: list[str] = []
    conn = db.connect(file)
    conn.set_trace_callback(traced.append)
    conn.execute("INSERT INTO t VALUES (1)")

    conn.close()

    assert traced == ["BEGIN ", "INSERT INTO t VALUES (1)"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="new in Python 3.12")
def test_closing_in_manual_mode_is_traced_as_the_drivers_own(db: Any, file: str) -> None:
    def traced_by(connect: Any) -> list[str]:
        traced: list[str] = []
        conn = connect(file, autocommit=False)
        conn.set_trace_callback(traced.append)
        conn.execute("INSERT INTO t VALUES (1)").close()
        conn.close()
        return traced

    assert traced_by(db.connect) == traced_by(sqlite3.connect)
