"""`native=True`: the driver's own connections are lent, and keep the promises that they can keep."""

from __future__ import annotations

import gc
import sqlite3
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import servers

from dbapi_pool import ConnectionReturned, Pool, PoolSettingError, PoolTimeout, manage, patch
from dbapi_pool.dropin.dbutils import PooledDB
from dbapi_pool.testing import FakeDriver
from dbapi_pool_sqlite.driver import SQLiteDriver


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(tmp_path / "native.db")


@pytest.fixture
def pool(file: str) -> Iterator[Pool]:
    with Pool(sqlite3, file, max_size=2, native=True) as pool:
        conn = pool.connection()
        conn.execute("CREATE TABLE item (x)")
        conn.commit()
        conn.close()
        del conn  # it is what the next borrower gets, too
        yield pool


def count(file: str) -> int:
    conn = sqlite3.connect(file)
    try:
        return int(conn.execute("SELECT count(*) FROM item").fetchone()[0])
    finally:
        conn.close()


def test_c_code_takes_it(pool: Pool, file: str) -> None:
    source = sqlite3.connect(":memory:")
    with pool.connection() as conn:
        assert isinstance(conn, sqlite3.Connection)
        source.backup(conn)
        assert sqlite3.Cursor(conn).execute("SELECT 1").fetchone() == (1,)
        assert conn.cursor().connection is conn
        assert conn.driver_connection is conn
    source.close()
    with Pool(sqlite3, file) as fenced, fenced.connection() as conn, pytest.raises(TypeError):
        sqlite3.Cursor(conn)


def test_after_the_return_nothing_of_it_works(pool: Pool) -> None:
    conn = pool.connection()
    cursor = conn.execute("SELECT 1")
    conn.close()
    conn.close()

    for use in (
        lambda: conn.cursor(),
        lambda: conn.commit(),
        lambda: conn.rollback(),
        lambda: conn.execute("SELECT 1"),
        lambda: conn.backup,
        lambda: conn.in_transaction,
        lambda: setattr(conn, "row_factory", None),
        conn.__enter__,
        lambda: conn.detach(),
        cursor.fetchone,
    ):
        with pytest.raises(ConnectionReturned):
            use()
    with pytest.raises(conn.InterfaceError):
        conn.cursor()
    assert pool.stats().idle == 1


def test_it_commits_rolls_back_and_cleans(pool: Pool, file: str) -> None:
    with pool.connection() as conn:
        conn.execute("INSERT INTO item VALUES (1)")
        conn.row_factory = sqlite3.Row
    with pytest.raises(sqlite3.OperationalError), pool.connection() as conn:
        conn.execute("INSERT INTO item VALUES (2)").execute("SELECT missing FROM item")
    conn = pool.connection()
    assert conn.row_factory is None
    conn.execute("INSERT INTO item VALUES (3)")
    conn.close()
    with pool.transaction() as conn:
        conn.execute("INSERT INTO item VALUES (4)")
    assert pool.run(lambda c: c.execute("SELECT count(*) FROM item").fetchone()) == (2,)
    assert count(file) == 2
    assert pool.stats().opened == 1


def test_one_that_is_dropped_is_found(pool: Pool) -> None:
    conn = pool.connection()
    conn.execute("INSERT INTO item VALUES (1)").close()
    conn.cursor().close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del conn
        gc.collect()
        with pool.connection(), pool.connection():
            pass
    assert pool.stats().closed == {"leaked": 1}
    assert pool.stats().in_use == 0


def test_one_that_is_held_is_not_taken_for_dropped(pool: Pool) -> None:
    one, two = pool.connection(), pool.connection()
    gc.collect()
    with pytest.raises(PoolTimeout):
        pool.connection(timeout=0)
    assert one.execute("SELECT 1").fetchone() == two.execute("SELECT 1").fetchone() == (1,)
    one.close()
    two.close()
    assert pool.stats().closed == {}


def test_detached_it_is_the_callers_own(pool: Pool) -> None:
    conn = pool.connection()
    mine = conn.detach()
    assert mine is conn
    assert mine.execute("SELECT 1").fetchone() == (1,)
    mine.close()
    with pytest.raises(sqlite3.ProgrammingError):
        mine.execute("SELECT 1")
    assert pool.stats().size == 0


def test_invalidated_it_is_closed(pool: Pool) -> None:
    conn = pool.connection()
    conn.invalidate()
    with pytest.raises(ConnectionReturned):
        conn.execute("SELECT 1")
    assert pool.stats().closed == {"invalidated": 1}


def test_drivers_and_pools_may_be_tried_again(file: str) -> None:
    driver = SQLiteDriver(sqlite3)
    with pytest.raises(PoolSettingError, match="check_same_thread"):
        Pool(sqlite3, file, driver=driver, native=True, check_same_thread=True)
    with Pool(sqlite3, file, driver=driver, native=True) as pool, pool.connection() as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)


def test_it_cannot_be_copied(pool: Pool) -> None:
    with pool.connection() as conn, pytest.raises(TypeError, match="copied or pickled"):
        conn.__reduce_ex__(4)


def test_a_subclass_of_the_users_keeps_its_methods(file: str) -> None:
    class Mine(sqlite3.Connection):
        def one(self) -> Any:
            return self.execute("SELECT 1").fetchone()

    with Pool(sqlite3, file, factory=Mine, native=True) as pool, pool.connection() as conn:
        assert isinstance(conn, Mine)
        assert conn.one() == (1,)


def test_what_is_done_to_one_of_the_users_class_is_cleaned(file: str) -> None:
    """The class and the borrower are of one package, whose code is not the driver's for all that."""

    class Mine(sqlite3.Connection):
        def with_rows(self) -> None:
            self.row_factory = sqlite3.Row

    def one(x: int) -> int:
        return x

    for change in (
        lambda conn: setattr(conn, "row_factory", sqlite3.Row),
        lambda conn: setattr(conn, "isolation_level", "IMMEDIATE"),
        lambda conn: conn.create_function("one", 1, one),
        Mine.with_rows,
    ):
        with Pool(sqlite3, file, max_size=1, factory=Mine, native=True) as pool:
            with pool.connection() as conn:
                change(conn)
            del conn
            with pool.connection() as conn:
                assert (conn.row_factory, conn.isolation_level) == (None, "")
                with pytest.raises(sqlite3.OperationalError, match="no such function"):
                    conn.execute("SELECT one(1)")


def test_a_closure_that_connects_is_told_what_to_do(file: str) -> None:
    def connect() -> sqlite3.Connection:
        return sqlite3.connect(file, check_same_thread=False)

    with Pool(connect, native=True) as pool, pytest.raises(PoolSettingError, match="factory="):
        pool.connection()


def test_a_drop_in_refuses(file: str) -> None:
    class Native(PooledDB):
        pool_settings = {"native": True}

    told = "native=True: a drop-in"
    with pytest.raises(PoolSettingError, match=told):
        manage(sqlite3, native=True)
    with pytest.raises(PoolSettingError, match=told):
        patch(sqlite3, native=True)
    with pytest.raises(PoolSettingError, match=told):
        Native(sqlite3, 1, database=file)


def test_any_driver_in_python_will_do(fake: FakeDriver, make_pool: Any) -> None:
    pool = make_pool(max_size=1, native=True)
    with pool.connection() as conn:
        conn.cursor().execute("INSERT 1")
    with pytest.raises(ConnectionReturned):
        conn.cursor()
    with pool.connection() as again:
        assert again is conn


@pytest.mark.servers
def test_psycopg2s_c_code_takes_it(postgresql: servers.Server) -> None:
    psycopg2 = servers.driver_module("psycopg2")
    from psycopg2 import extensions, extras, sql

    with Pool(psycopg2, native=True, max_size=1, **postgresql.arguments("psycopg2")) as pool:
        with pool.connection() as conn:
            assert extensions.quote_ident('a"b', conn) == '"a""b"'
            assert sql.Identifier("a").as_string(conn) == '"a"'
            extras.register_uuid(conn_or_curs=conn)
            with conn.cursor() as cursor:
                extras.execute_values(cursor, "SELECT * FROM (VALUES %s) t", [(1,), (2,)])
                assert cursor.fetchall() == [(1,), (2,)]
        assert conn.closed
        assert pool.stats().idle == 1


@pytest.mark.servers
def test_what_is_done_to_one_of_the_users_class_of_psycopg2_is_cleaned(
    postgresql: servers.Server,
) -> None:
    psycopg2 = servers.driver_module("psycopg2")

    class Mine(psycopg2.extensions.connection):  # type: ignore[misc, name-defined]
        pass

    settings = {"native": True, "max_size": 1, "connection_factory": Mine}
    with Pool(psycopg2, **settings, **postgresql.arguments("psycopg2")) as pool:
        with pool.connection() as conn:
            assert isinstance(conn, Mine)
            conn.autocommit = True
        with pool.connection() as conn:
            assert not conn.autocommit
        assert pool.stats().opened == 1
