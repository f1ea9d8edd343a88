"""Borrowed PostgreSQL connections are as good as the driver's own, and dead once returned."""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import servers

from dbapi_pool import ConnectionReturned, Pool
from dbapi_pool.cursors import CursorProxy

MODULES = ("psycopg2", "psycopg")
modules = pytest.mark.parametrize("module", MODULES, indirect=True)


@pytest.fixture
def make_pool(postgresql: servers.Server) -> Iterator[Callable[..., Pool]]:
    pools: list[Pool] = []

    def make(module: str, connect: Any = None, **settings: Any) -> Pool:
        arguments = {**postgresql.arguments(module), **settings}
        creator = connect or servers.driver_module(module)
        pools.append(Pool(creator, **{"max_size": 1, **arguments}))
        return pools[-1]

    yield make
    for pool in pools:
        assert pool.close()


@pytest.fixture
def module(request: pytest.FixtureRequest) -> str:
    servers.driver_module(request.param)
    return str(request.param)


@pytest.fixture
def conn(module: str, make_pool: Callable[..., Pool]) -> Iterator[Any]:
    """A borrowed connection."""
    with make_pool(module).connection() as conn:
        yield conn


def run(conn: Any, sql: str, **how: Any) -> list[Any]:
    with conn.cursor(**how) as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


def extras_of_psycopg2() -> Any:
    servers.driver_module("psycopg2")
    return importlib.import_module("psycopg2.extras")


# -- any cursor -----------------------------------------------------------------------------------


@modules
def test_cursors_are_the_drivers_own(conn: Any, module: str) -> None:
    driver = servers.driver_module(module)
    cursor = conn.cursor()

    native = driver.extensions.cursor if module == "psycopg2" else driver.Cursor
    assert isinstance(cursor, native)
    assert cursor.connection is conn
    assert isinstance(
        conn, driver.extensions.connection if module == "psycopg2" else driver.Connection
    )


@modules
@pytest.mark.parametrize("name", ["", "named"])
def test_a_cursor_is_dead_after_the_return(
    make_pool: Callable[..., Pool], module: str, name: str
) -> None:
    driver = servers.driver_module(module)
    pool = make_pool(module)
    conn = pool.connection()
    cursor = conn.cursor(name) if name else conn.cursor()
    cursor.execute("SELECT generate_series(1, 1000)")
    cursor.fetchone()
    conn.close()

    for use in (
        lambda: cursor.execute("SELECT 1"),
        cursor.fetchone,
        cursor.fetchall,
        lambda: next(cursor),
        lambda: list(cursor),
        lambda: cursor.connection.cursor(),
    ):
        with pytest.raises(driver.InterfaceError) as caught:
            use()
        assert isinstance(caught.value, ConnectionReturned)
    cursor.close()
    with pool.connection() as other:
        assert run(other, "SELECT 1") == [(1,)]


@modules
def test_a_named_cursor_fetches_from_the_server(conn: Any, module: str) -> None:
    with conn.cursor("numbers") as cursor:
        cursor.itersize = 10
        cursor.execute("SELECT generate_series(1, 25)")
        assert run(conn, "SELECT name FROM pg_cursors") == [("numbers",)]
        assert cursor.fetchmany(3) == [(1,), (2,), (3,)]
        assert [row[0] for row in cursor] == list(range(4, 26))
        assert cursor.name == "numbers"
        assert cursor.connection is conn


@modules
def test_a_scrollable_cursor_that_outlives_its_transaction(conn: Any, module: str) -> None:
    with conn.cursor("held", scrollable=True, withhold=True) as cursor:
        cursor.execute("SELECT generate_series(1, 5)")
        conn.commit()
        cursor.scroll(3)
        assert cursor.fetchone() == (4,)
        cursor.scroll(0, mode="absolute")
        assert cursor.fetchone() == (1,)
        assert cursor.scrollable is True
        assert cursor.withhold is True


@modules
def test_a_cursor_on_a_lost_connection_is_refused_as_by_the_driver(
    make_pool: Callable[..., Pool], module: str
) -> None:
    driver = servers.driver_module(module)
    conn = make_pool(module).connection()
    conn.driver_connection.close()

    with pytest.raises((driver.InterfaceError, driver.OperationalError), match="closed"):
        conn.cursor()
    conn.close()


@modules
def test_a_lost_connection_is_told_as_by_the_driver(
    make_pool: Callable[..., Pool], postgresql: servers.Server, module: str
) -> None:
    driver = servers.driver_module(module)
    conn = make_pool(module).connection()
    raw = driver.connect(**postgresql.arguments(module))
    for each in (conn, raw):
        postgresql.kill_session(each.info.backend_pid)
        with pytest.raises(driver.OperationalError):
            each.cursor().execute("SELECT 1")

    assert error_of(conn.rollback) == error_of(raw.rollback)
    assert error_of(conn.commit) == error_of(raw.commit)
    conn.close()


def error_of(act: Callable[[], Any]) -> tuple[type, str]:
    with pytest.raises(Exception, match="connection") as caught:
        act()
    return caught.type, str(caught.value)


@modules
def test_wrong_arguments_of_cursor_are_refused(conn: Any, module: str) -> None:
    with pytest.raises(TypeError, match="colour"):
        conn.cursor(colour="red")


# -- psycopg2 -------------------------------------------------------------------------------------

ROWS = {"DictCursor": dict, "RealDictCursor": dict, "NamedTupleCursor": lambda row: row._asdict()}


@pytest.mark.parametrize("name", ["", "named"])
@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("module", ["psycopg2"], indirect=True)
def test_psycopg2s_other_cursor_classes(conn: Any, kind: str, name: str) -> None:
    factory = getattr(extras_of_psycopg2(), kind)
    arguments = (name,) if name else ()
    for cursor in (
        conn.cursor(*arguments, cursor_factory=factory),
        conn.cursor(name or None, factory),
    ):
        assert isinstance(cursor, factory)
        assert type(cursor).__name__ == kind
        cursor.execute("SELECT 1 AS a, 2 AS b UNION SELECT 3, 4 ORDER BY 1")
        rows = [ROWS[kind](row) for row in [cursor.fetchone(), *cursor]]
        assert rows == [{"a": 1, "b": 2}, {"a": 3, "b": 4}]
        assert cursor.connection is conn
        cursor.close()


CONNECTIONS = ["DictConnection", "RealDictConnection", "NamedTupleConnection"]


@pytest.mark.parametrize("kind", CONNECTIONS)
def test_psycopg2s_other_connection_classes(make_pool: Callable[..., Pool], kind: str) -> None:
    extras = extras_of_psycopg2()
    pool = make_pool("psycopg2", connection_factory=getattr(extras, kind))

    with pool.connection() as conn:
        cursor = conn.cursor()
        assert type(cursor).__name__ == kind.replace("Connection", "Cursor")
        assert not isinstance(cursor, CursorProxy)
        cursor.execute("SELECT 1 AS a")
        row = cursor.fetchone()
        assert (row.a if kind.startswith("Named") else row["a"]) == 1
        assert conn.cursor(cursor_factory=extras._cursor).connection is conn


def test_a_logging_connection_logs(make_pool: Callable[..., Pool]) -> None:
    extras = extras_of_psycopg2()
    log = io.StringIO()

    def initialise(conn: Any) -> None:
        conn.initialize(log)

    pool = make_pool("psycopg2", connection_factory=extras.LoggingConnection, setup=initialise)

    for _ in range(2):
        with pool.connection() as conn:
            run(conn, "SELECT 'logged'")
    assert log.getvalue().count("SELECT 'logged'") == 2
    assert pool.stats().closed == {}


@pytest.mark.parametrize("module", ["psycopg2"], indirect=True)
def test_a_factory_that_is_no_class_gets_a_wrapped_cursor(conn: Any) -> None:
    extensions = servers.driver_module("psycopg2").extensions

    def factory(*args: Any, **kwargs: Any) -> Any:
        return extensions.cursor(*args, **kwargs)

    cursor = conn.cursor(cursor_factory=factory)
    assert isinstance(cursor, CursorProxy)
    cursor.execute("SELECT 1")
    assert cursor.fetchone() == (1,)
    assert cursor.connection is conn


@pytest.mark.parametrize("module", ["psycopg2"], indirect=True)
def test_psycopg2s_helpers_take_a_borrowed_cursor(conn: Any) -> None:
    psycopg2 = servers.driver_module("psycopg2")
    from psycopg2 import extensions, extras, sql

    cursor = conn.cursor()
    cursor.execute("CREATE TEMP TABLE helped (n int, t text, u uuid)")
    query = sql.SQL("INSERT INTO {} (n, t) VALUES %s").format(sql.Identifier("helped"))
    extras.execute_values(cursor, query, [(1, "a"), (2, "b")])
    extras.execute_batch(cursor, "INSERT INTO helped (n) VALUES (%s)", [(3,), (4,)])
    cursor.execute("SELECT count(*) FROM helped")
    assert cursor.fetchone() == (4,)

    assert extensions.quote_ident('a"b', cursor) == '"a""b"'
    composed = sql.SQL("SELECT {}, {}").format(sql.Literal("it's"), sql.Literal(1))
    assert composed.as_string(cursor) == "SELECT 'it''s', 1"
    cursor.execute(composed)
    assert cursor.fetchone() == ("it's", 1)

    extras.register_uuid(conn_or_curs=cursor)
    upper = extensions.new_type((25,), "UPPER", lambda text, cursor: text and text.upper())
    extensions.register_type(upper, cursor)
    cursor.execute("SELECT 'a'::text")
    assert cursor.fetchone() == ("A",)
    cursor.execute("CREATE TYPE pg_temp.pair AS (a int, b int)")
    pair = extras.register_composite("pair", cursor)
    cursor.execute("SELECT (1, 2)::pg_temp.pair")
    assert cursor.fetchone() == (pair.type(1, 2),)
    assert cursor.mogrify("%s", ("x",)) == b"'x'"
    with pytest.raises(psycopg2.ProgrammingError):
        extras.register_hstore(cursor)  # not installed, which it found out by a query


@pytest.mark.parametrize("module", ["psycopg2"], indirect=True)
def test_psycopg2s_copy(conn: Any) -> None:
    cursor = conn.cursor()
    cursor.execute("CREATE TEMP TABLE copied (n int, t text)")
    cursor.copy_from(io.StringIO("1\ta\n"), "copied")
    cursor.copy_expert("COPY copied FROM STDIN", io.StringIO("2\tb\n"))
    out, expert = io.StringIO(), io.StringIO()
    cursor.copy_to(out, "copied")
    cursor.copy_expert("COPY copied TO STDOUT", expert)

    assert out.getvalue() == expert.getvalue() == "1\ta\n2\tb\n"


def test_a_large_object_ends_with_its_lease(make_pool: Callable[..., Pool]) -> None:
    psycopg2 = servers.driver_module("psycopg2")
    pool = make_pool("psycopg2")
    conn = pool.connection()
    made = conn.lobject(0, "wb")
    assert isinstance(made, psycopg2.extensions.lobject)
    made.write(b"large")
    made.seek(0)
    other = conn.lobject(made.oid, "rb")
    assert other.read() == b"large"
    conn.commit()
    conn.close()

    for use in (made.read, made.unlink, other.tell, lambda: made.export("/tmp/never")):
        with pytest.raises(psycopg2.InterfaceError):
            use()
    made.close()
    with pool.connection() as conn:
        assert conn.lobject(made.oid, "rb").read() == b"large"
        conn.lobject(made.oid, "n").unlink()
    assert pool.stats().closed == {}


@pytest.mark.parametrize("module", ["psycopg2"], indirect=True)
def test_psycopg2s_large_objects_may_be_of_a_class_of_the_borrowers(conn: Any) -> None:
    psycopg2 = servers.driver_module("psycopg2")
    kind = type("Mine", (psycopg2.extensions.lobject,), {"mine": True})

    made = conn.lobject(0, "wb", lobject_factory=kind)

    assert isinstance(made, kind)
    assert made.mine
    made.unlink()


# -- psycopg --------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["psycopg"], indirect=True)
def test_psycopgs_other_cursors_and_rows(conn: Any) -> None:
    psycopg = servers.driver_module("psycopg")
    rows = psycopg.rows

    assert run(conn, "SELECT 1 AS a", row_factory=rows.dict_row) == [{"a": 1}]
    assert run(conn, "SELECT 1 AS a", name="n", row_factory=rows.dict_row) == [{"a": 1}]
    assert run(conn, "SELECT 1::int4", binary=True) == [(1,)]
    with conn.cursor(binary=True) as cursor:
        assert cursor.format == psycopg.pq.Format.BINARY
    for kind in (psycopg.ClientCursor, psycopg.RawCursor):
        conn.cursor_factory = kind
        cursor = conn.cursor()
        assert isinstance(cursor, kind)
        assert cursor.connection is conn
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)
    assert psycopg.ClientCursor(conn.driver_connection).mogrify("%s", ["x"]) == "'x'"


@pytest.mark.parametrize("module", ["psycopg"], indirect=True)
def test_psycopgs_own_code_sees_its_own_connection(
    make_pool: Callable[..., Pool], module: str
) -> None:
    pool = make_pool(module)
    seen = []

    def row_factory(cursor: Any) -> Any:
        seen.append(cursor.connection)
        return tuple

    with pool.connection() as conn:
        before = conn._lease.member.work
        run(conn, "SELECT 1", row_factory=row_factory)
        assert conn._lease.member.work.session is False
        assert seen == [conn]
        assert before is None
        import psycopg.sql

        cursor = conn.cursor()
        assert psycopg.sql.Literal("it's").as_string(cursor) == "'it''s'"
        assert conn._lease.member.work.session is False
        assert psycopg.sql.Identifier("a").as_string(conn) == '"a"'


@pytest.mark.parametrize("module", ["psycopg"], indirect=True)
def test_execute_on_the_connection(conn: Any) -> None:
    cursor = conn.execute("SELECT %s::int", [1], prepare=False, binary=True)

    assert cursor.fetchone() == (1,)
    assert cursor.connection is conn


@pytest.mark.parametrize("module", ["psycopg"], indirect=True)
def test_the_raw_connection_cannot_be_reached_by_accident(conn: Any) -> None:
    raw = conn._lease.member.conn
    cursor = conn.cursor()
    with conn.transaction() as transaction, cursor.copy("COPY (SELECT 1) TO STDOUT") as copy:
        found = [cursor.connection, conn.connection, transaction.connection, copy.connection]
        assert copy.cursor is cursor
        list(copy)

    assert raw not in [each for each in found if each is not conn]
    assert all(each is conn for each in found)


def test_psycopgs_copy_works_and_is_fenced(make_pool: Callable[..., Pool]) -> None:
    psycopg = servers.driver_module("psycopg")
    pool = make_pool("psycopg")
    conn = pool.connection()
    cursor = conn.cursor()
    cursor.execute("CREATE TEMP TABLE copied (n int, t text)")
    with cursor.copy("COPY copied FROM STDIN") as copy:
        copy.write("1\ta\n")
        copy.write_row((2, "b"))
    assert cursor.rowcount == 2
    with cursor.copy("COPY copied TO STDOUT") as copy:
        copy.set_types(["int4", "text"])
        assert copy.read_row() == (1, "a")
        assert list(copy.rows()) == [(2, "b")]
    with cursor.copy("COPY copied TO STDOUT") as copy:
        assert b"".join(copy) == b"1\ta\n2\tb\n"
    with cursor.copy("COPY copied TO STDOUT") as copy:
        assert bytes(copy.read()) == b"1\ta\n"
        for _ in copy:
            pass
    with pytest.raises(ZeroDivisionError), cursor.copy("COPY copied FROM STDIN") as copy:
        raise ZeroDivisionError
    conn.rollback()
    write = copy.write
    conn.close()

    for use in (lambda: copy.write("3\tc\n"), lambda: write("3\tc\n"), lambda: list(copy)):
        with pytest.raises(psycopg.InterfaceError):
            use()
    assert pool.stats().closed == {}


def test_psycopgs_pipeline_works_and_is_fenced(make_pool: Callable[..., Pool]) -> None:
    psycopg = servers.driver_module("psycopg")
    pool = make_pool("psycopg")
    conn = pool.connection()
    with conn.pipeline() as pipeline:
        cursors = [conn.execute("SELECT %s::int", [n]) for n in range(3)]
        pipeline.sync()
        assert [cursor.fetchone() for cursor in cursors] == [(0,), (1,), (2,)]
    with conn.cursor() as cursor:
        cursor.executemany("SELECT %s::int", [[1], [2]], returning=True)
        assert cursor.fetchone() == (1,)
    conn.close()

    with pytest.raises(psycopg.InterfaceError):
        pipeline.sync()
    assert pool.stats().closed == {}


def test_psycopgs_pipeline_may_roll_back_and_commit(make_pool: Callable[..., Pool]) -> None:
    servers.driver_module("psycopg")
    pool = make_pool("psycopg")
    with pool.connection() as conn:
        conn.execute("CREATE TEMP TABLE piped (n int)")
        conn.commit()
        with conn.pipeline() as pipeline:
            conn.execute("INSERT INTO piped VALUES (1)")
            conn.rollback()
            conn.execute("INSERT INTO piped VALUES (2)")
            conn.commit()
            conn.execute("INSERT INTO piped VALUES (3)")
            pipeline.sync()
            conn.rollback()
        assert conn.execute("SELECT n FROM piped").fetchall() == [(2,)]
    assert pool.stats().closed == {}


@pytest.mark.parametrize("module", ["psycopg"], indirect=True)
def test_psycopgs_transaction_blocks(conn: Any) -> None:
    psycopg = servers.driver_module("psycopg")
    conn.execute("CREATE TEMP TABLE blocks (n int)")
    conn.commit()

    with conn.transaction() as outer:
        conn.execute("INSERT INTO blocks VALUES (1)")
        with conn.transaction("inner") as inner:
            conn.execute("INSERT INTO blocks VALUES (2)")
            assert inner.savepoint_name == "inner"
            raise psycopg.Rollback(inner)
        assert outer.status == "active"
    assert run(conn, "SELECT n FROM blocks") == [(1,)]
    conn.commit()

    with conn.transaction() as outer:
        with conn.transaction():
            conn.execute("INSERT INTO blocks VALUES (3)")
            raise psycopg.Rollback(outer)
        raise AssertionError("not reached")
    with pytest.raises(ZeroDivisionError), conn.transaction(force_rollback=True):
        raise ZeroDivisionError
    assert run(conn, "SELECT n FROM blocks") == [(1,)]


def test_psycopgs_generators_are_fenced(make_pool: Callable[..., Pool]) -> None:
    psycopg = servers.driver_module("psycopg")
    pool = make_pool("psycopg")
    conn = pool.connection()
    rows = conn.cursor().stream("SELECT generate_series(1, 100000)")
    assert next(rows) == (1,)
    conn.close()
    with pytest.raises(psycopg.InterfaceError):
        next(rows)

    conn = pool.connection()
    conn.autocommit = True
    conn.execute("LISTEN news")
    conn.execute("NOTIFY news, 'hello'")
    notifies = conn.notifies(timeout=5)
    assert next(notifies).payload == "hello"
    conn.close()
    with pytest.raises(psycopg.InterfaceError):
        next(notifies)
    assert pool.stats().closed == {}


@pytest.mark.parametrize("module", ["psycopg"], indirect=True)
def test_psycopgs_types_can_be_registered(conn: Any) -> None:
    from psycopg.types import TypeInfo
    from psycopg.types.composite import CompositeInfo, register_composite

    info = TypeInfo.fetch(conn, "uuid")
    assert info is not None
    info.register(conn)
    conn.execute("CREATE TYPE pg_temp.pair AS (a int, b int)")
    pair = CompositeInfo.fetch(conn, "pg_temp.pair")
    assert pair is not None
    register_composite(pair, conn)
    assert conn.execute("SELECT (1, 2)::pg_temp.pair").fetchone()[0] == pair.python_type(1, 2)


def test_what_info_tells_ends_with_the_lease(make_pool: Callable[..., Pool]) -> None:
    psycopg = servers.driver_module("psycopg")
    pool = make_pool("psycopg")
    conn = pool.connection()
    info = conn.info
    assert isinstance(info, psycopg.ConnectionInfo)
    assert info.backend_pid == info.pgconn.backend_pid
    assert info.parameter_status("server_encoding") == "UTF8"
    assert conn._lease.member.work.session is True  # pgconn can do anything
    conn.close()

    with pytest.raises(psycopg.InterfaceError):
        info.backend_pid  # noqa: B018
    with pytest.raises(psycopg.InterfaceError):
        conn.info  # noqa: B018


@modules
def test_a_connection_class_with_a_cursor_method_of_its_own(
    make_pool: Callable[..., Pool], module: str
) -> None:
    driver = servers.driver_module(module)
    opened = []

    class Mine(driver.extensions.connection if module == "psycopg2" else driver.Connection):  # type: ignore[misc]
        def cursor(self, *args: Any, **kwargs: Any) -> Any:
            cursor = super().cursor(*args, **kwargs)
            cursor.execute("SET application_name TO 'mine'")
            opened.append(cursor)
            return cursor

    own: dict[str, Any] = (
        {"connection_factory": Mine} if module == "psycopg2" else {"connect": Mine.connect}
    )
    with make_pool(module, **own).connection() as conn:
        assert run(conn, "SELECT 1") == [(1,)]
        cursor = conn.cursor()
        assert cursor.connection is conn
        cursor.execute("SHOW application_name")
        assert cursor.fetchone() == ("mine",)
        assert len(opened) == 2
        if module == "psycopg":
            assert conn.execute("SELECT 2").fetchone() == (2,)
