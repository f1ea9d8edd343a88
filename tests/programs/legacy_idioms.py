"""A program that knows of no pool: what DB-API scripts do with connections, and what they see of it.

`legacy_idioms.py MODULE`, with the arguments of `connect` as JSON in the variable ARGUMENTS. It prints
what it sees, the same each time it is run.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys

db = importlib.import_module(sys.argv[1])
ARGUMENTS = json.loads(os.environ["ARGUMENTS"])
MARK = "?" if db.paramstyle == "qmark" else "%s"


def connect(**more):
    return db.connect(**ARGUMENTS, **more)


def see(label, act):
    try:
        value = act()
    except Exception as exc:
        value = f"{type(exc).__module__}.{type(exc).__name__}: {tell(exc)}"
        value += f" (Error: {isinstance(exc, db.Error)})"
    print(f"  {label}: {value!r}")


def tell(exc):
    # Where a server was, and which session that was, is another each time.
    words = str(exc).replace(str(ARGUMENTS.get("port")), "PORT").split("\n")[0]
    return words.replace(str(ARGUMENTS.get("host")), "HOST")


def execute(conn, sql, *params):
    cur = conn.cursor()
    cur.execute(sql, *params)
    return cur


def rows(sql="SELECT n FROM idiom ORDER BY n"):
    """By a connection of its own, which nobody closes."""
    conn = connect()
    return [row[0] for row in execute(conn, sql).fetchall()]


def insert(conn, number):
    execute(conn, f"INSERT INTO idiom VALUES ({MARK})", (number,))


def title(text):
    gc.collect()
    print(text, rows())


setup = connect()
execute(setup, "DROP TABLE IF EXISTS idiom")
execute(setup, "CREATE TABLE idiom (n INTEGER)")
setup.commit()
setup.close()

title("commit, close")
conn = connect()
insert(conn, 1)
conn.commit()
conn.close()

title("close without commit")
conn = connect()
insert(conn, 2)
conn.close()

title("dropped without commit, and without close")
conn = connect()
insert(conn, 3)
del conn

title("rollback, then commit")
conn = connect()
insert(conn, 4)
conn.rollback()
insert(conn, 5)
conn.commit()
conn.close()

title("with: what it gives, and what is left of it")
conn = connect()
with conn as entered:
    print("  the same:", entered is conn)
    insert(entered, 6)
see("after it", lambda: execute(conn, "SELECT 1").fetchone()[0])

title("with, twice")
see("again", lambda: conn.__enter__() is conn)
see("work", lambda: insert(conn, 7))
see("leave", lambda: conn.__exit__(None, None, None))
conn = None

title("with, and an exception")
conn = connect()
try:
    with conn:
        insert(conn, 8)
        raise KeyError("mine")
except KeyError as exc:
    print("  got", exc)
see("after it", lambda: execute(conn, "SELECT 1").fetchone()[0])
conn = None

title("used after close")
conn = connect()
cur = execute(conn, "SELECT 41 UNION SELECT 42 UNION SELECT 43")
print("  first", cur.fetchone()[0])
CONNECTOR = sys.argv[1] == "mysql.connector"  # tells of it in words that have the session's address
if CONNECTOR:
    cur.fetchall()
conn.close()
see("close", conn.close)
for name in ("closed", "open"):
    if name in dir(conn.__class__) and sys.argv[1] != "mariadb":
        see(name, lambda name=name: getattr(conn, name))
if sys.argv[1] in ("pymysql", "MySQLdb", "psycopg", "mariadb"):  # who keep rows on the client
    see("rows", lambda: [row[0] for row in cur.fetchmany(1)] + [row[0] for row in cur])
    see("rowcount", lambda: cur.rowcount)
    see("no more", cur.fetchone)
elif not CONNECTOR:
    see("rows", cur.fetchone)
if CONNECTOR:
    see("is_connected", conn.is_connected)
    see("cursor", conn.cursor)
    see("reconnect", conn.reconnect)
    see("is_connected", conn.is_connected)
    see("execute", lambda: execute(conn, "SELECT 44").fetchone())
else:
    see("commit", conn.commit)
    see("execute", lambda: execute(conn, "SELECT 1"))
    see("cursor", lambda: cur.execute("SELECT 1"))
if sys.argv[1] == "pymysql":
    see("ping", conn.ping)
    see("connect", conn.connect)
    see("execute", lambda: execute(conn, "SELECT 44").fetchone())
    see("open", lambda: conn.open)

title("an error in a transaction")
conn = connect()
insert(conn, 9)
see("error", lambda: execute(conn, "SELECT nothing FROM nowhere"))
see("commit", conn.commit)
conn.close()

title("many at once, never closed")
conns = [connect() for _ in range(30)]
print("  different:", len({id(conn) for conn in conns}))
print("  sum:", sum(execute(conn, "SELECT 2").fetchone()[0] for conn in conns))
del conns

title("a function that returns a cursor")
if not CONNECTOR:  # whose cursors do not keep their connections
    print(" ", [row[0] for row in (lambda: execute(connect(), "SELECT 1 UNION SELECT 2"))()])

title("autocommit")
conn = connect()
if sys.argv[1] == "sqlite3":
    conn.isolation_level = None
elif callable(getattr(type(conn), "autocommit", None)) or sys.argv[1] in ("pymysql", "MySQLdb"):
    conn.autocommit(True)
else:
    conn.autocommit = True
insert(conn, 10)
conn.close()

title("and not any more")
conn = connect()
insert(conn, 11)
conn.close()

title("types")
conn = connect()
print("  ", isinstance(conn, type(conn)), conn.__class__.__name__, conn.__class__.__module__)
conn.close()

title("a wrong statement")
try:
    execute(connect(), "NOT SQL")
except db.Error as exc:
    print("  ", type(exc).__name__, type(exc).__module__)

title("the end")
kept = connect()  # until the interpreter ends
insert(kept, 12)
