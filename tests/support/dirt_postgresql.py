"""What a borrower of a PostgreSQL connection may leave behind, as data: `DIRT`, by DB-API module.

Each `Dirt` stands by itself: it makes the tables that it needs. Must never know the pool.
"""

from __future__ import annotations

import functools
import importlib
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from dbapi_pool.testing.contract import Dirt

Act = Callable[[Any], object]


# -- small steps -----------------------------------------------------------------------------------


def run(conn: Any, sql: str) -> list[Any]:
    """Run a statement; its rows, if any."""
    cursor = conn.cursor()
    try:
        cursor.execute(sql)
        return list(cursor.fetchall()) if cursor.description else []
    finally:
        cursor.close()


def value(conn: Any, sql: str) -> Any:
    """The one value that a query gives."""
    return run(conn, sql)[0][0]


def value_or_code(conn: Any, sql: str) -> Any:
    """The same, or the SQLSTATE of the error that it gives."""
    try:
        return value(conn, sql)
    except Exception as exc:
        conn.rollback()
        return getattr(exc, "sqlstate", None) or getattr(exc, "pgcode", None) or str(exc)


def running(*statements: str, commit: bool = True) -> Act:
    """An act: run these, and commit them."""

    def act(conn: Any) -> None:
        for sql in statements:
            run(conn, sql)
        if commit:
            conn.commit()

    return act


def failing(sql: str, *before: str) -> Act:
    """An act: run the statements before, then one that fails."""

    def act(conn: Any) -> None:
        running(*before, commit=False)(conn)
        with suppress(Exception):
            run(conn, sql)

    return act


def in_autocommit(act: Act) -> Act:
    """The same act in autocommit mode."""

    def acting(conn: Any) -> None:
        conn.autocommit = True
        act(conn)

    return acting


def seen(sql: str) -> Act:
    """A look: the one value that a query gives."""
    return functools.partial(value, sql=sql)


def shown(setting: str) -> Act:
    """A look: a setting of the session."""
    return seen(f"SHOW {setting}")


def setting(name: str, new: str) -> Dirt:
    """A setting that was changed."""
    return Dirt(f"SET {name}", running(f"SET {name} TO {new}"), shown(name))


def attribute(name: str, new: Any) -> Dirt:
    """An attribute of the connection that was set."""
    return Dirt(name, lambda conn: setattr(conn, name, new), lambda conn: getattr(conn, name))


# -- on the server: what both drivers can leave ----------------------------------------------------

TABLE = "CREATE TABLE IF NOT EXISTS dirt_rows (n integer)"
SEQUENCE = "CREATE SEQUENCE IF NOT EXISTS dirt_numbers CACHE 10"


def rows_left(conn: Any) -> int:
    """Rows that somebody wrote, also those of a transaction that is still open. Deletes them."""
    with suppress(Exception):
        run(conn, TABLE)
        conn.commit()
    number = len(run(conn, "DELETE FROM dirt_rows RETURNING n"))
    conn.commit()
    return number


def rollback_works(conn: Any) -> int:
    """Whether this borrower's transactions are transactions: rows left after a rollback."""
    with suppress(Exception):  # no such table yet
        run(conn, "INSERT INTO dirt_rows VALUES (1)")
    conn.rollback()
    return rows_left(conn)


def is_usable(conn: Any) -> Any:
    """1, unless the connection is in a failed transaction."""
    return value_or_code_kept(conn, "SELECT 1")


def value_or_code_kept(conn: Any, sql: str) -> Any:
    """As `value_or_code`, but it ends no transaction."""
    try:
        return value(conn, sql)
    except Exception as exc:
        return getattr(exc, "sqlstate", None) or getattr(exc, "pgcode", None) or str(exc)


def keep(name: str, act: Callable[[Any], Any]) -> Callable[[Any], None]:
    """An act whose result somebody keeps."""

    def acting(conn: Any) -> None:
        KEPT[name] = act(conn)

    return acting


KEPT: dict[str, Any] = {}
"""What borrowers kept, so that no finalizer cleans up for them."""

OPEN_CURSORS = "SELECT count(*) FROM pg_cursors WHERE name IN ('half_read', 'held')"
LISTENING = "SELECT count(*) FROM pg_listening_channels()"
LOCKS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
TABLE_LOCKS = (
    "SELECT count(*) FROM pg_locks WHERE relation = 'dirt_rows'::regclass"
    " AND mode = 'AccessExclusiveLock' AND pid = pg_backend_pid()"
)
PREPARED = "SELECT count(*) FROM pg_prepared_statements WHERE name = 'dirty'"
TEMPORARY = "SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()"
TEMPORARY_FUNCTIONS = "SELECT count(*) FROM pg_proc WHERE pronamespace = pg_my_temp_schema()"
IN_TRANSACTION = "SELECT pg_current_xact_id_if_assigned() IS NOT NULL"
CUSTOM = "SELECT coalesce(current_setting('dirty.setting', true), '')"
NOTICE = "DO $$ BEGIN RAISE NOTICE 'dirt'; END $$"


def half_read(conn: Any) -> Any:
    cursor = conn.cursor("half_read")
    cursor.execute("SELECT generate_series(1, 100000)")
    cursor.fetchone()
    return cursor


def large_object(conn: Any) -> Any:
    """Opened with the server's own functions, so that both drivers can."""
    return value(conn, "SELECT lo_open(lo_create(0), 131072)")


def begin_two_phases(conn: Any) -> None:
    running(TABLE)(conn)
    conn.tpc_begin(conn.xid(1, "dirt", "begun"))
    run(conn, "INSERT INTO dirt_rows VALUES (1)")


def prepare_two_phases(conn: Any) -> None:
    conn.tpc_begin(conn.xid(1, "dirt", uuid.uuid4().hex))
    run(conn, "SELECT 1")
    conn.tpc_prepare()


def prepared_by_whom(conn: Any) -> Any:
    """Whether this connection is still in a two-phase transaction. Ends what others left prepared."""
    found = value_or_code_kept(conn, "SELECT 1")
    conn.rollback()
    conn.autocommit = True
    for (gid,) in run(
        conn, "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"
    ):
        run(conn, f"ROLLBACK PREPARED '{gid}'")
    conn.autocommit = False
    return found


SERVER_SIDE = (
    setting("search_path", "information_schema"),
    setting("statement_timeout", "12345"),
    setting("TimeZone", "'Asia/Tokyo'"),
    setting("DateStyle", "'German, DMY'"),
    setting("IntervalStyle", "sql_standard"),
    setting("client_encoding", "LATIN1"),
    setting("application_name", "'dirty'"),
    setting("ROLE", "pool_role"),
    setting("default_transaction_isolation", "serializable"),
    setting("default_transaction_read_only", "on"),
    Dirt("SET of a custom setting", running("SET dirty.setting TO 'x'"), seen(CUSTOM)),
    Dirt(
        "set_config()", running("SELECT set_config('work_mem', '123kB', false)"), shown("work_mem")
    ),
    Dirt(
        "SET in a DO block",
        running("DO $$ BEGIN PERFORM set_config('work_mem', '124kB', false); END $$"),
        shown("work_mem"),
    ),
    Dirt(
        "SESSION CHARACTERISTICS",
        running("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"),
        shown("default_transaction_read_only"),
    ),
    Dirt(
        "SET behind a comment in a second statement",
        running("SELECT 1 /* ; */ ; SET work_mem TO '125kB'"),
        shown("work_mem"),
    ),
    Dirt("temporary table", running("CREATE TEMP TABLE dirty (n integer)"), seen(TEMPORARY)),
    Dirt("SELECT INTO TEMP", running("SELECT 1 AS n INTO TEMP dirty"), seen(TEMPORARY)),
    Dirt("temporary view", running("CREATE TEMP VIEW dirty AS SELECT 1"), seen(TEMPORARY)),
    Dirt("temporary sequence", running("CREATE TEMP SEQUENCE dirty"), seen(TEMPORARY)),
    Dirt(
        "temporary function",
        running("CREATE FUNCTION pg_temp.dirty() RETURNS int LANGUAGE sql AS 'SELECT 1'"),
        seen(TEMPORARY_FUNCTIONS),
    ),
    Dirt("PREPARE", running("PREPARE dirty AS SELECT 1"), seen(PREPARED)),
    Dirt("advisory lock", running("SELECT pg_advisory_lock(4711)"), seen(LOCKS)),
    Dirt("LISTEN", running("LISTEN dirty"), seen(LISTENING)),
    Dirt(
        "cursor WITH HOLD",
        running("DECLARE held CURSOR WITH HOLD FOR SELECT generate_series(1, 100000)"),
        seen(OPEN_CURSORS),
    ),
    Dirt(
        "sequence's last value",
        running(SEQUENCE, "SELECT nextval('dirt_numbers')"),
        lambda conn: value_or_code(conn, "SELECT lastval() > 0"),
    ),
    Dirt("half-read server-side cursor", keep("half-read", half_read), seen(OPEN_CURSORS)),
    Dirt("open large object", large_object, seen(IN_TRANSACTION)),
    Dirt(
        "open transaction",
        running(TABLE, "INSERT INTO dirt_rows VALUES (1)", commit=False),
        rows_left,
    ),
    Dirt(
        "open transaction with SET LOCAL",
        running("SET LOCAL work_mem TO '126kB'", commit=False),
        shown("work_mem"),
    ),
    Dirt(
        "open transaction in a savepoint",
        running(TABLE, "SAVEPOINT dirty", "INSERT INTO dirt_rows VALUES (1)", commit=False),
        rows_left,
    ),
    Dirt(
        "table lock",
        running(TABLE, "LOCK TABLE dirt_rows", commit=False),
        lambda conn: value_or_code(conn, TABLE_LOCKS) not in (0, "42P01"),
    ),
    Dirt("failed transaction", failing("SELECT 1/0"), is_usable),
    Dirt(
        "BEGIN typed by hand in autocommit mode",
        in_autocommit(running(TABLE, "BEGIN", "INSERT INTO dirt_rows VALUES (1)", commit=False)),
        rows_left,
    ),
    Dirt(
        "failed transaction begun by hand in autocommit mode",
        in_autocommit(failing("SELECT 1/0", "BEGIN")),
        is_usable,
    ),
    Dirt("begun two-phase transaction", begin_two_phases, rows_left),
    Dirt("prepared two-phase transaction", prepare_two_phases, prepared_by_whom, replaced=True),
)
"""What both drivers can leave behind on the server."""


# -- psycopg2 --------------------------------------------------------------------------------------


def psycopg2_own() -> tuple[Dirt, ...]:
    """What a borrower can leave in psycopg2's connection."""
    extensions = importlib.import_module("psycopg2.extensions")
    extras = importlib.import_module("psycopg2.extras")
    dirty_type = extensions.new_type((23,), "DIRTY", lambda text, cursor: "dirty")

    def register(conn: Any) -> None:
        extensions.register_type(dirty_type, conn.driver_connection)

    def register_binary(conn: Any) -> None:
        conn.driver_connection.binary_types[17] = dirty_type

    def notify_itself(conn: Any) -> None:
        running("LISTEN dirty", "NOTIFY dirty, 'mine'")(conn)
        conn.poll()

    def hold_and_drop(conn: Any) -> None:
        conn.cursor("held", withhold=True).execute("SELECT 1")
        conn.commit()

    return (
        attribute("autocommit", True),
        attribute("isolation_level", extensions.ISOLATION_LEVEL_SERIALIZABLE),
        attribute("readonly", True),
        attribute("deferrable", True),
        attribute("cursor_factory", extras.RealDictCursor),
        Dirt(
            "another list of notices",
            lambda conn: setattr(conn, "notices", ["mine"]),
            lambda conn: list(conn.notices),
        ),
        Dirt(
            "another list of notifies",
            lambda conn: setattr(conn, "notifies", ["mine"]),
            lambda conn: list(conn.notifies),
        ),
        Dirt("COMMIT typed by hand", running(TABLE, "COMMIT", commit=False), rollback_works),
        Dirt(
            "readonly in autocommit mode",
            in_autocommit(lambda conn: setattr(conn, "readonly", True)),
            shown("default_transaction_read_only"),
        ),
        Dirt(
            "set_session()",
            lambda conn: conn.set_session("SERIALIZABLE", readonly=True, autocommit=True),
            lambda conn: (conn.isolation_level, conn.readonly, conn.autocommit),
        ),
        Dirt(
            "set_isolation_level()",
            lambda conn: conn.set_isolation_level(extensions.ISOLATION_LEVEL_AUTOCOMMIT),
            lambda conn: conn.autocommit,
        ),
        Dirt(
            "set_client_encoding()",
            lambda conn: conn.set_client_encoding("LATIN1"),
            lambda conn: (conn.encoding, value(conn, "SHOW client_encoding")),
        ),
        Dirt("register_type()", register, seen("SELECT 1")),
        Dirt("binary_types", register_binary, lambda conn: dict(conn.binary_types)),
        Dirt("notices", running(NOTICE), lambda conn: list(conn.notices)),
        Dirt("WITH HOLD cursor that was dropped", hold_and_drop, seen(OPEN_CURSORS)),
        Dirt("notifies", notify_itself, lambda conn: len(conn.notifies)),
        Dirt("lobject()", keep("lobject", lambda conn: conn.lobject(0, "w")), seen(IN_TRANSACTION)),
    )


# -- psycopg ---------------------------------------------------------------------------------------

HEARD: list[Any] = []
"""What handlers heard that a borrower registered."""


def heard(sql: str) -> Act:
    """A look: whether somebody's handler hears of this."""

    def look(conn: Any) -> int:
        HEARD.clear()
        for statement in sql.split(" | "):
            run(conn, statement)
            conn.commit()
        return len(HEARD)

    return look


def notify_itself(conn: Any) -> None:
    """The last round trip brings the notification."""
    running("LISTEN dirty", "NOTIFY dirty, 'mine'", "SELECT 1")(conn)


def entered(what: str) -> Act:
    """An act: enter a context manager of the connection's, and keep it."""

    def enter(conn: Any) -> Any:
        context = getattr(conn, what)()
        context.__enter__()
        return context

    return keep(what, enter)


def copy(conn: Any) -> Any:
    run(conn, "CREATE TEMP TABLE copied (n int)")
    context = conn.cursor().copy("COPY copied FROM STDIN")
    context.__enter__().write_row([1])
    return context


def copy_beside_the_pool(conn: Any) -> Any:
    context = conn.driver_connection.cursor().copy("COPY (SELECT 1) TO STDOUT")
    context.__enter__()
    return context


def stream(conn: Any) -> Any:
    iterator = conn.cursor().stream("SELECT generate_series(1, 100000)")
    next(iterator)
    return iterator


def transaction_status(conn: Any) -> Any:
    return conn.info.transaction_status


def pipeline_status(conn: Any) -> Any:
    return conn.info.pipeline_status


def psycopg_attributes() -> tuple[Dirt, ...]:
    """The attributes of psycopg's connection."""
    psycopg = importlib.import_module("psycopg")
    rows = importlib.import_module("psycopg.rows")
    level = psycopg.IsolationLevel.SERIALIZABLE
    return (
        attribute("autocommit", True),
        attribute("isolation_level", level),
        attribute("read_only", True),
        attribute("deferrable", True),
        attribute("prepare_threshold", 1),
        attribute("prepared_max", 7),
        Dirt(
            "row_factory",
            lambda conn: setattr(conn, "row_factory", rows.dict_row),
            lambda conn: run(conn, "SELECT 1 AS n"),
        ),
        attribute("cursor_factory", psycopg.ClientCursor),
        attribute("server_cursor_factory", type("Mine", (psycopg.ServerCursor,), {})),
        Dirt(
            "an attribute of its own",
            lambda conn: setattr(conn, "mine", 1),
            lambda conn: hasattr(conn, "mine"),
        ),
        Dirt(
            "set_isolation_level()",
            lambda conn: conn.set_isolation_level(level),
            lambda conn: conn.isolation_level,
        ),
        Dirt(
            "add_notice_handler()",
            lambda conn: conn.add_notice_handler(HEARD.append),
            heard(NOTICE),
        ),
        Dirt(
            "add_notify_handler()",
            lambda conn: conn.add_notify_handler(HEARD.append),
            heard("LISTEN dirty | NOTIFY dirty | SELECT 1"),
        ),
    )


def psycopg_adapters() -> tuple[Dirt, ...]:
    """What can be registered on psycopg's connection."""
    adapt = importlib.import_module("psycopg.adapt")
    types = importlib.import_module("psycopg.types")

    class Upper(adapt.Loader):  # type: ignore[name-defined,misc]
        def load(self, data: Any) -> str:
            return bytes(data).decode().upper()

    class Dumped(adapt.Dumper):  # type: ignore[name-defined,misc]
        def dump(self, obj: Any) -> bytes:
            return b"dirty"

    return (
        Dirt(
            "adapters.register_loader()",
            lambda conn: conn.adapters.register_loader("text", Upper),
            seen("SELECT 'clean'::text"),
        ),
        Dirt(
            "adapters.register_dumper()",
            lambda conn: conn.adapters.register_dumper(str, Dumped),
            lambda conn: conn.execute("SELECT %s::text", ["clean"]).fetchone()[0],
        ),
        Dirt(
            "adapters.types",
            lambda conn: conn.adapters.types.add(types.TypeInfo("dirty", 999999, 999998)),
            lambda conn: conn.adapters.types.get("dirty") is None,
        ),
    )


def psycopg_own() -> tuple[Dirt, ...]:
    """What a borrower can leave in psycopg's connection."""
    return (
        *psycopg_attributes(),
        *psycopg_adapters(),
        Dirt("notifies()", notify_itself, lambda conn: len(list(conn.notifies(timeout=0)))),
        Dirt("half-read stream()", keep("stream", stream), transaction_status),
        Dirt("transaction() not left", entered("transaction"), transaction_status, replaced=True),
        Dirt("pipeline() not left", entered("pipeline"), pipeline_status, replaced=True),
        Dirt("copy() not left", keep("copy", copy), transaction_status, replaced=True),
        Dirt(
            "copy() beside the pool",
            keep("raw", copy_beside_the_pool),
            transaction_status,
            replaced=True,
        ),
    )


OWN = {"psycopg2": psycopg2_own, "psycopg": psycopg_own}


def dirt_of(module: str) -> tuple[Dirt, ...]:
    """Everything that a borrower can leave with this driver. Imports it."""
    return (*SERVER_SIDE, *OWN[module]())
