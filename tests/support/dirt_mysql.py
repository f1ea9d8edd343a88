"""What borrowers leave behind on MySQL and MariaDB, as data: `dirt(module)` for each driver.

Every `act` is given the pooled connection, every `look` too, and sees what the next borrower would see.
Needs the tables and the procedure of `prepare`. Must never know how a pool cleans.
"""

from __future__ import annotations

import datetime
import importlib
import itertools
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import servers

from dbapi_pool.testing.contract import Dirt

Do = Callable[[Any], object]

# An earlier session may still hold its lock, or its XA transaction, while the server ends it.
_names = (f"dirt{number}" for number in itertools.count())

C_EXTENSION = "mysql.connector C"
DRIVERS = ("pymysql", "MySQLdb", "mysql.connector", C_EXTENSION, "mariadb")
"""DB-API modules, and the one with two implementations twice."""

ROWS = 5000  # in `many`: more than a pool reads on to save a connection


def prepare(server: servers.Server) -> None:
    """Make what the dirt needs, as an administrator."""
    database = server.database
    server.query(f"USE {database}")
    for sql in (
        # Anew: other tests have tables of these names, too.
        "CREATE OR REPLACE TABLE t (id INT PRIMARY KEY, v INT) ENGINE=InnoDB",
        "CREATE OR REPLACE TABLE u (id INT PRIMARY KEY) ENGINE=InnoDB",
        "CREATE OR REPLACE TABLE many (id INT PRIMARY KEY) ENGINE=InnoDB",
        "REPLACE INTO t VALUES (1, 10), (2, 20)",
        "REPLACE INTO u VALUES (1)",
        f"REPLACE INTO many SELECT seq FROM seq_1_to_{ROWS}",
        "CREATE OR REPLACE PROCEDURE sets_variable() SET @called = 1",
        "CREATE OR REPLACE PROCEDURE fails_in_transaction() BEGIN"
        " START TRANSACTION; UPDATE t SET v = v + 1 WHERE id = 1; INSERT INTO t VALUES (1, 1); END",
    ):
        server.query(sql)


def load(name: str) -> Any:
    """The module of one of `DRIVERS`; skips or fails if it is not there."""
    module = servers.driver_module(name.removesuffix(" C"))
    if name == C_EXTENSION and not module.HAVE_CEXT:
        pytest.skip("the C extension of mysql-connector cannot be loaded here")
    return module


def arguments(server: servers.Server, name: str, tls: bool = False) -> dict[str, Any]:
    """Keyword arguments for its `connect`."""
    found = server.arguments(name.removesuffix(" C"), tls)
    if name == C_EXTENSION:
        found["use_pure"] = False
    return found


# -- small steps ------------------------------------------------------------------------------------


def run(conn: Any, *statements: str) -> None:
    """Execute statements on one cursor, and read what they give."""
    cursor = conn.cursor()
    for sql in statements:
        cursor.execute(sql)
        if cursor.description:
            cursor.fetchall()
    cursor.close()


def row(conn: Any, sql: str) -> tuple[Any, ...]:
    """The first row, as a plain tuple whatever the connection's cursors give."""
    cursor = conn.cursor()
    cursor.execute(sql)
    found = cursor.fetchall()
    cursor.close()
    first = found[0]
    return tuple(first.values()) if isinstance(first, dict) else tuple(first)


def acts(*statements: str) -> Do:
    """An act of statements."""
    return lambda conn: run(conn, *statements)


def looks(expressions: str, source: str = "") -> Do:
    """A look at values."""
    return lambda conn: row(conn, f"SELECT {expressions} {source}")


def outcome(sql: str) -> Do:
    """A look at whether a statement fails, and how; what it does is rolled back."""

    def look(conn: Any) -> object:
        try:
            run(conn, sql)
        except Exception as exc:
            code = getattr(exc, "errno", None) or exc.args[0]
            return code
        finally:
            with suppress(Exception):
                conn.rollback()
        return "done"

    return look


def failing(*statements: str) -> Do:
    """An act whose last statement fails."""

    def act(conn: Any) -> None:
        run(conn, *statements[:-1])
        try:
            run(conn, statements[-1])
        except Exception:
            return
        raise AssertionError(f"{statements[-1]} did not fail")

    return act


def variable(name: str, value: str) -> Dirt:
    """A session variable."""
    return Dirt(f"SET {name}", acts(f"SET SESSION {name} = {value}"), looks(f"@@session.{name}"))


IN_TRANSACTION = looks("@@in_transaction, (SELECT v FROM t WHERE id = 1)")


# -- the session on the server: every driver ---------------------------------------------------------

_LOCK = "CONCAT('dirt', CONNECTION_ID())"

SERVER = (
    Dirt("user variable", acts("SET @x = 5"), looks("@x")),
    Dirt("user variable := in a SELECT", acts("SELECT @y := 5"), looks("@y")),
    Dirt("SELECT ... INTO @variable", acts("SELECT v INTO @z FROM t WHERE id = 1"), looks("@z")),
    variable("sql_mode", "'ANSI'"),
    variable("time_zone", "'+05:00'"),
    variable("lc_time_names", "'de_DE'"),
    variable("foreign_key_checks", "0"),
    variable("unique_checks", "0"),
    variable("sql_select_limit", "1"),
    variable("group_concat_max_len", "7"),
    variable("innodb_lock_wait_timeout", "1"),
    variable("wait_timeout", "1000"),
    variable("optimizer_switch", "'index_merge=off'"),
    variable("auto_increment_increment", "7"),
    Dirt("SET timestamp", acts("SET timestamp = 1"), looks("NOW() < '1980-01-01'")),
    Dirt(
        "isolation level of the session",
        acts("SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE"),
        looks("@@session.tx_isolation"),
    ),
    Dirt(
        "read-only session",
        acts("SET SESSION TRANSACTION READ ONLY"),
        outcome("UPDATE t SET v = v WHERE id = 1"),
    ),
    Dirt(
        "SET TRANSACTION for the next one",
        acts("SET TRANSACTION READ ONLY"),
        outcome("UPDATE t SET v = v WHERE id = 1"),
    ),
    Dirt("SET autocommit", acts("SET autocommit = 1"), looks("@@autocommit")),
    Dirt(
        "collation_connection",
        acts("SET collation_connection = utf8mb4_bin"),
        looks("@@collation_connection"),
    ),
    Dirt("USE", acts(f"USE {servers.MariaDB.other_database}"), looks("DATABASE()")),
    Dirt("SET ROLE", acts(f"SET ROLE {servers.MariaDB.role}"), looks("CURRENT_ROLE()")),
    Dirt("temporary table", acts("CREATE TEMPORARY TABLE mine (x INT)"),
         outcome("SELECT * FROM mine")),
    Dirt("temporary table over a real one", acts("CREATE TEMPORARY TABLE u (x INT)"),
         looks("COUNT(*)", "FROM u")),
    Dirt("LOCK TABLES", acts("LOCK TABLES t READ"), outcome("SELECT * FROM u")),
    Dirt("GET_LOCK", acts(f"SELECT GET_LOCK({_LOCK}, 0)"),
         looks(f"IS_USED_LOCK({_LOCK}) IS NULL")),
    Dirt("PREPARE", acts("PREPARE p FROM 'SELECT 1'"), outcome("EXECUTE p")),
    Dirt("HANDLER", acts("HANDLER t OPEN"), outcome("HANDLER t READ FIRST")),
    Dirt("CALL that sets a variable", acts("CALL sets_variable()"), looks("@called")),
    Dirt("open transaction with a change", acts("UPDATE t SET v = 99 WHERE id = 1"),
         IN_TRANSACTION),
    Dirt("rows locked by SELECT ... FOR UPDATE", acts("SELECT * FROM t FOR UPDATE"),
         looks("@@in_transaction")),
    Dirt("read view of a plain SELECT", acts("SELECT * FROM t"), looks("@@in_transaction")),
    Dirt("BEGIN by hand", acts("BEGIN"), looks("@@in_transaction")),
    Dirt("BEGIN by hand after autocommit = 1",
         acts("SET autocommit = 1", "BEGIN", "UPDATE t SET v = 98 WHERE id = 1"),
         looks("@@in_transaction, @@autocommit, (SELECT v FROM t WHERE id = 1)")),
    Dirt("failed first INSERT", failing("INSERT INTO t VALUES (1, 1)"), looks("@@in_transaction")),
    Dirt("CALL that fails in its transaction", failing("CALL fails_in_transaction()"),
         IN_TRANSACTION),
    Dirt("XA left active",
         lambda conn: run(conn, f"XA START '{next(_names)}'", "UPDATE t SET v = 97 WHERE id = 1"),
         looks("@@in_transaction, (SELECT v FROM t WHERE id = 1)"), replaced=True),
)  # fmt: skip


# -- the driver's side -------------------------------------------------------------------------------


def attribute(name: str, value: Any) -> Dirt:
    """An attribute that a borrower sets."""
    return Dirt(
        f"conn.{name} =",
        lambda conn: setattr(conn, name, value),
        lambda conn: repr(getattr(conn, name)),
    )


def entry(name: str, key: Any, value: Any) -> Dirt:
    """An entry that a borrower makes in a mapping."""
    return Dirt(
        f"conn.{name}[...] =",
        lambda conn: getattr(conn, name).update({key: value}),
        lambda conn: getattr(conn, name).get(key),
    )


def added() -> Dirt:
    """An attribute that the driver knows nothing of."""
    return Dirt(
        "conn.of_mine =",
        lambda conn: setattr(conn, "of_mine", 1),
        lambda conn: hasattr(conn, "of_mine"),
    )


def call(text: str, act: Do, look: Do, replaced: bool = False) -> Dirt:
    """A method of the driver."""
    return Dirt(text, act, look, replaced)


CHARSETS = looks(
    "@@character_set_client, @@character_set_connection, @@character_set_results,"
    " @@collation_connection, @@character_set_database"
)
CHARSET = looks("@@character_set_client, @@collation_connection")


def left_open(sql: str, fetch: bool, *args: Any, **kwargs: Any) -> Do:
    """An act that keeps an unbuffered cursor, read or not."""

    def act(conn: Any) -> None:
        cursor = conn.cursor(*args, **kwargs)
        cursor.execute(sql)
        if fetch:
            cursor.fetchone()
        KEPT.append(cursor)

    return act


KEPT: list[Any] = []
"""Cursors that borrowers did not close."""

CAN_ASK = outcome("SELECT 1")
FEW_ROWS = "SELECT id FROM many WHERE id < 20"
ALL_ROWS = "SELECT a.id FROM many a JOIN u"


def _set_charset(conn: Any) -> None:
    # PyMySQL before 1.1 has the old name alone.
    name = "set_character_set" if hasattr(conn, "set_character_set") else "set_charset"
    getattr(conn, name)("latin1")


def _pymysql() -> list[Dirt]:
    import pymysql

    return [
        attribute("cursorclass", pymysql.cursors.DictCursor),
        attribute("autocommit_mode", True),
        attribute("charset", "latin1"),
        attribute("encoding", "latin1"),
        attribute("use_unicode", False),
        attribute("_read_timeout", 5),
        attribute("_write_timeout", 5),
        attribute("max_allowed_packet", 1),
        attribute("sql_mode", "ANSI"),
        attribute("init_command", "SET @mine = 1"),
        attribute("db", b"mysql"),
        attribute("_local_infile", True),
        attribute("decoders", {}),
        entry("decoders", 3, str),
        entry("encoders", datetime.date, str),
        added(),
        call("conn.autocommit(True)", lambda c: c.autocommit(True), looks("@@autocommit")),
        call("conn.select_db()", lambda c: c.select_db("pool_other"), looks("DATABASE()")),
        call("conn.set_character_set()", _set_charset,
             lambda c: (c.charset, c.encoding, CHARSET(c))),
        call("conn.begin()", lambda c: c.begin(), looks("@@in_transaction")),
        call("conn.query()", lambda c: c.query("SET @q = 1"), looks("@q")),
        call("the driver's own connection", lambda c: run(c.driver_connection, "SET @d = 1"),
             looks("@d")),
    ]  # fmt: skip


def _mysqldb() -> list[Dirt]:
    from MySQLdb.cursors import DictCursor

    return [
        attribute("cursorclass", DictCursor),
        attribute("encoding", "latin1"),
        attribute("executemany_fallback", "multi"),
        attribute("encoders", {}),
        attribute("converter", {}),
        entry("encoders", datetime.date, str),
        entry("converter", 3, str),
        Dirt("conn.messages.append()", lambda c: c.messages.append(1), lambda c: list(c.messages)),
        added(),
        call("conn.autocommit(True)", lambda c: c.autocommit(True), looks("@@autocommit")),
        call("conn.select_db()", lambda c: c.select_db("pool_other"), looks("DATABASE()")),
        call("conn.set_character_set()", lambda c: c.set_character_set("latin1"),
             lambda c: (c.character_set_name(), c.encoding, CHARSET(c))),
        call("conn.set_sql_mode()", lambda c: c.set_sql_mode("ANSI"), looks("@@sql_mode")),
        call("conn.begin()", lambda c: c.begin(), looks("@@in_transaction")),
        call("conn.query()", lambda c: c.query("SET @q = 1"), looks("@q")),
        call("several statements at once", acts("SET @m = 1; SET @n = 2"), looks("@m, @n")),
        call("the driver's own connection", lambda c: run(c.driver_connection, "SET @d = 1"),
             looks("@d")),
    ]  # fmt: skip


def _connector() -> list[Dirt]:
    from mysql.connector.conversion import MySQLConverter

    class Mine(MySQLConverter):
        """Not the default."""

    return [
        attribute("autocommit", True),
        attribute("time_zone", "+05:00"),
        attribute("sql_mode", "ANSI"),
        attribute("database", "pool_other"),
        attribute("get_warnings", True),
        attribute("raise_on_warnings", True),
        attribute("can_consume_results", True),
        attribute("use_unicode", False),
        attribute("converter_class", Mine),
        attribute("read_timeout", 5),
        attribute("write_timeout", 5),
        attribute("_buffered", True),
        attribute("_raw", True),
        added(),
        call("conn.query_attrs_append()", lambda c: c.query_attrs_append(("a", 1)),
             lambda c: list(c.query_attrs)),
        call("conn.set_charset_collation()", lambda c: c.set_charset_collation("latin1"),
             lambda c: (c.charset, c.python_charset, CHARSET(c))),
        call("conn.cmd_init_db()", lambda c: c.cmd_init_db("pool_other"), looks("DATABASE()")),
        call("conn.start_transaction()", lambda c: c.start_transaction(), looks("@@in_transaction")),
        call("conn.start_transaction(isolation_level)",
             lambda c: c.start_transaction(isolation_level="SERIALIZABLE"),
             looks("@@in_transaction")),
        call("conn.cmd_query()", lambda c: c.cmd_query("SET @q = 1"), looks("@q")),
        call("the driver's own connection", lambda c: run(c.driver_connection, "SET @d = 1"),
             looks("@d")),
    ]  # fmt: skip


def _mariadb() -> list[Dirt]:
    return [
        attribute("autocommit", True),
        attribute("database", "pool_other"),
        attribute("auto_reconnect", True),
        attribute("tpc_state", 1),
        attribute("_xid", "x"),
        added(),
        call("conn.select_db()", lambda c: c.select_db("pool_other"), looks("DATABASE()")),
        call("conn.begin()", lambda c: c.begin(), looks("@@in_transaction")),
        call("the driver's own connection", lambda c: run(c.driver_connection, "SET @d = 1"),
             looks("@d")),
        call("conn.tpc_begin()", lambda c: c.tpc_begin(c.xid(0, next(_names), "b")),
             looks("@@in_transaction"), replaced=True),
    ]  # fmt: skip


CLIENT = {
    "pymysql": _pymysql,
    "MySQLdb": _mysqldb,
    "mysql.connector": _connector,
    C_EXTENSION: _connector,
    "mariadb": _mariadb,
}


def unbuffered(module: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments of `cursor()` for results that are read row by row."""
    if module in ("pymysql", "MySQLdb"):
        return (importlib.import_module(f"{module}.cursors").SSCursor,), {}
    return (), ({"buffered": False} if module == "mariadb" else {})


def dirt(module: str) -> list[Dirt]:
    """Everything for one driver; nothing, if it is not installed: then its tests are skipped."""
    try:
        own = CLIENT[module]()
    except ImportError:
        return []
    # mariadb speaks utf8mb4 alone, and fails when it hears of another character set.
    charset = "utf8mb4" if module == "mariadb" else "latin1"
    names = Dirt("SET NAMES", acts(f"SET NAMES {charset} COLLATE {charset}_bin"), CHARSETS)
    return [*SERVER, names, *own]
