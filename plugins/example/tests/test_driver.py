"""What the contract does not ask: DuckDB's own ways, and the choices of this plugin."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from dbapi_pool_duckdb import DuckDBDriver, dbapi_pool_driver

from dbapi_pool import ConnectionReturned, Pool, PoolSettingError


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "app.db")


@pytest.fixture
def pool(path: str) -> Iterator[Pool]:
    with Pool(duckdb, path, max_size=2) as pool:
        with pool.connection() as conn:
            conn.execute("CREATE TABLE t (x INTEGER)")
        yield pool


def rows(pool: Pool) -> list[Any]:
    with pool.connection() as conn:
        return [row[0] for row in conn.execute("SELECT x FROM t ORDER BY x")]


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


# -- which database -------------------------------------------------------------------------------


def test_importing_the_plugin_imports_no_duckdb() -> None:
    assert python("import sys, dbapi_pool_duckdb; print('duckdb' in sys.modules)") == "False\n"


def test_it_leaves_other_drivers_alone() -> None:
    assert dbapi_pool_driver(creator="sqlite://", root="sqlite") is None


@pytest.mark.parametrize("arguments", [(), (":memory:",), ("",)])
@pytest.mark.parametrize("creator", [duckdb, duckdb.connect])
def test_a_database_of_one_connection_alone_is_refused(creator: Any, arguments: Any) -> None:
    with pytest.raises(PoolSettingError, match="give it a name to share it: ':memory:app'"):
        Pool(creator, *arguments)


def test_the_session_that_everybody_has_is_refused() -> None:
    with pytest.raises(PoolSettingError, match=":default:"):
        Pool(duckdb, ":default:")


def test_a_database_in_memory_lives_as_long_as_its_pool() -> None:
    with Pool(duckdb, ":memory:lives", max_size=1) as pool:
        with pool.connection() as conn:
            conn.execute("CREATE TABLE t AS SELECT 7 AS x")
            conn.execute("SET VARIABLE changed = 1")  # so that the session is replaced
        assert rows(pool) == [7]
        assert pool.stats().closed["session changed"] >= 1


def test_a_root_connection_of_ones_own_serves_as_creator() -> None:
    with duckdb.connect() as root, Pool(root.cursor, max_size=2) as pool:
        with pool.connection() as conn:
            conn.execute("CREATE TABLE t AS SELECT 7 AS x")
        with pool.connection() as one, pool.connection() as two:
            assert one.execute("SELECT x FROM t").fetchall() == [(7,)]
            assert two.execute("SELECT x FROM t").fetchall() == [(7,)]
        assert isinstance(pool.driver, DuckDBDriver)


def test_urls(path: str) -> None:
    connect, args, kwargs = DuckDBDriver().parse_url("duckdb:///app.db?read_only=yes&threads=2")
    assert (connect, args) == (duckdb.connect, ("app.db",))
    assert kwargs == {"read_only": True, "config": {"threads": 2}}
    with Pool(f"duckdb:///{path}") as pool, pool.connection() as conn:
        conn.execute("CREATE TABLE t (x INTEGER)")
    with pytest.raises(PoolSettingError, match="no host"):
        Pool("duckdb://host/app.db")


def test_another_process_that_has_the_file_is_waited_for(path: str, pool: Pool) -> None:
    told = python(
        "import duckdb, dbapi_pool_duckdb as plugin\n"
        f"try: duckdb.connect({path!r})\n"
        "except duckdb.Error as exc: print(plugin.DuckDBDriver().is_transient(exc))"
    )
    assert told == "True\n"


def test_the_file_is_free_once_the_pool_is_gone(path: str) -> None:
    pool = Pool(duckdb, path)
    pool.connection().close()
    pool.close()
    del pool
    gc.collect()

    assert python(f"import duckdb; duckdb.connect({path!r}); print('opened')") == "opened\n"


def test_server_tells_version_and_file(path: str) -> None:
    driver, conn = DuckDBDriver(), duckdb.connect(path)
    driver.connected(conn)
    server = driver.server(conn)
    conn.close()

    assert (server.product, server.address, server.read_only) == ("DuckDB", path, False)
    assert server.version == f"v{duckdb.__version__}"


# -- transactions ---------------------------------------------------------------------------------


def test_every_way_to_run_a_statement_is_in_one_transaction(pool: Pool) -> None:
    with pool.connection() as conn:
        conn.cursor().execute("INSERT INTO t VALUES (1)")
        conn.execute("INSERT INTO t VALUES (2)")
        conn.sql("INSERT INTO t VALUES (3)")
        conn.rollback()
        conn.sql("INSERT INTO t VALUES (4)")
        conn.rollback()
    assert rows(pool) == []


def test_with_autocommit_statements_are_committed_until_begin(pool: Pool, path: str) -> None:
    with Pool(duckdb, path, driver=DuckDBDriver(autocommit=True)) as own:
        conn = own.connection()
        conn.execute("INSERT INTO t VALUES (1)")
        conn.begin()
        conn.execute("INSERT INTO t VALUES (2)")
        conn.close()
        with own.transaction() as conn:
            conn.execute("INSERT INTO t VALUES (3)")
        assert rows(own) == [1, 3]


def test_a_second_transaction_within_one_is_duckdb_s_own_error(pool: Pool) -> None:
    conn = pool.connection()
    with pytest.raises(duckdb.TransactionException, match="within a transaction"):
        conn.begin()
    conn.close()
    assert rows(pool) == []


def test_what_a_transaction_cannot_be_is_refused(pool: Pool) -> None:
    with pytest.raises(PoolSettingError, match="isolation='SERIALIZABLE'"):
        pool.transaction(isolation="SERIALIZABLE").__enter__()


def test_only_conflicts_are_retryable(path: str) -> None:
    driver, error = DuckDBDriver(), duckdb.TransactionException
    assert driver.is_retryable(error("TransactionContext Error: Conflict on update!"))
    assert driver.is_retryable(error("Catalog write-write conflict on create"))
    assert not driver.is_retryable(error("Current transaction is aborted (please ROLLBACK)"))
    assert not driver.is_retryable(duckdb.ConstraintException("conflict"))


def test_a_rollback_that_fails_is_no_clean_session() -> None:
    class Failing:
        def rollback(self) -> None:
            raise duckdb.TransactionException("something else")

    with pytest.raises(duckdb.TransactionException):
        DuckDBDriver().rollback(Failing())


# -- cursors --------------------------------------------------------------------------------------


def test_a_cursor_keeps_its_rows_when_another_one_executes(pool: Pool) -> None:
    with pool.connection() as conn:
        one, two = conn.cursor(), conn.cursor()
        one.execute("SELECT * FROM range(5)")
        assert one.fetchone() == (0,)
        two.execute("SELECT * FROM range(2)")
        assert one.fetchmany(2) == [(1,), (2,)]
        assert two.fetchall() == [(0,), (1,)]
        assert one.fetchall() == [(3,), (4,)]
        assert one.fetchone() is None


def test_a_cursor_keeps_its_rows_over_a_commit(pool: Pool) -> None:
    with pool.connection() as conn:
        cursor = conn.execute("INSERT INTO t VALUES (1), (2) RETURNING x")
        conn.commit()
        assert list(cursor) == [(1,), (2,)]


def test_a_cursor_without_a_result_says_so(pool: Pool) -> None:
    with pool.connection() as conn:
        conn.execute("SELECT 1")
        cursor = conn.cursor()
        with pytest.raises(conn.InterfaceError, match="nothing was executed"):
            cursor.fetchone()
        with pytest.raises(duckdb.Error):
            cursor.execute("SELECT nothing")
        with pytest.raises(conn.InterfaceError, match="or it failed"):
            cursor.fetchall()
        assert not hasattr(cursor, "df")


def test_duckdb_s_own_ways_to_read_a_result_work(pool: Pool) -> None:
    with pool.connection() as conn:
        cursor = conn.execute("SELECT 1")
        assert all(hasattr(cursor, name) for name in ("df", "fetchnumpy", "to_arrow_table"))
        assert conn.fetchone() == (1,)
        assert pool.stats().closed.get("session changed", 0) == 1  # of the fixture's CREATE


def test_another_session_ends_with_the_lease(pool: Pool) -> None:
    conn = pool.connection()
    other = conn.duplicate()
    assert other.execute("SELECT 1").fetchall() == [(1,)]
    conn.close()
    with pytest.raises(ConnectionReturned):
        other.execute("SELECT 1")


def test_except_duckdb_error_catches_what_the_pool_raises(pool: Pool) -> None:
    conn = pool.connection()
    conn.close()
    with pytest.raises(duckdb.Error, match="returned to the pool"):
        conn.cursor()


# -- forks ----------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no os.fork")
def test_a_child_is_told_that_it_cannot_use_the_parent_s_database(path: str) -> None:
    told = python(
        "import os, sys, duckdb\n"
        "from dbapi_pool import Pool\n"
        f"pool = Pool(duckdb, {path!r})\n"
        "pool.connection().close()\n"
        "if os.fork() == 0:\n"
        "    try: pool.connection()\n"
        "    except duckdb.NotSupportedError as exc: print(exc)\n"
        "    sys.exit(0)\n"
        "print(os.wait()[1], pool.connection().execute('SELECT 1').fetchall())\n"
    )
    assert "connect after the fork" in told
    assert "0 [(1,)]\n" in told
