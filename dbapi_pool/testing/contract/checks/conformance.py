"""Drop-in: a borrowed connection is as good as the driver's own. See PEP 249."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from ..check import promise, raises, require, same
from ..trial import Table, Trial, run

ERRORS = (
    "Warning", "Error", "InterfaceError", "DatabaseError", "DataError", "OperationalError",
    "IntegrityError", "InternalError", "ProgrammingError", "NotSupportedError",
)  # fmt: skip
NOTE = "naïve Grüße 漢字 😀 'quoted' \\ 100 % ?"
DATA = bytes(range(256))


@promise("drop_in", read_only=True)
def the_connection_is_of_the_drivers_class(trial: Trial) -> None:
    """`isinstance` holds for the borrowed connection, and its attributes are listed."""
    pool = trial.pool()
    with pool.borrow() as conn:
        require(isinstance(conn, type(pool.raw)), f"it is no {type(pool.raw)}")
        public = {name for name in dir(pool.raw) if not name.startswith("_")}
        same(sorted(public - set(dir(conn))), [], "attributes that dir() does not name")


@promise("drop_in", read_only=True)
def the_drivers_errors_are_attributes_of_the_connection(trial: Trial) -> None:
    """`conn.Error` and its kin are the driver's own classes."""
    with trial.pool().borrow() as conn:
        for name in ERRORS:
            # MySQLdb's connection has all but Warning of its own; what is there must be right.
            require(getattr(conn, name) is trial.error(name), f"conn.{name} is not the module's")


@promise("drop_in", read_only=True)
def errors_are_the_drivers_own(trial: Trial) -> None:
    """What a statement raises is exactly what the driver raises without a pool."""
    bare = trial.connect()
    alone = raises(trial.error("Error"), lambda: run(bare, trial.know.wrong), "a wrong statement")
    with trial.pool().borrow() as conn:
        pooled = raises(trial.error("Error"), lambda: run(conn, trial.know.wrong), "it, pooled")
        require(type(pooled) is type(alone), f"{type(pooled)}, without a pool {type(alone)}")
        conn.rollback()


@promise("drop_in")
def a_broken_constraint_is_an_integrity_error(trial: Trial) -> None:
    """A duplicate key raises the driver's IntegrityError."""
    table = trial.table()
    table.fill(1)
    with trial.pool().borrow() as conn:
        raises(trial.error("IntegrityError"), lambda: table.insert(conn, 0), "a duplicate key")
        conn.rollback()


@promise("drop_in", read_only=True)
def a_cursor_has_what_pep_249_says(trial: Trial) -> None:
    """description, rowcount, arraysize and the methods are there, as without a pool."""
    bare = trial.connect().cursor()
    bare.execute(trial.know.one)
    with trial.pool().borrow() as conn:
        cursor = conn.cursor()
        if hasattr(bare, "setinputsizes"):  # not every driver has what PEP 249 asks for
            cursor.setinputsizes([])
        if hasattr(bare, "setoutputsize"):
            cursor.setoutputsize(100)
        cursor.execute(trial.know.one)
        same([*map(tuple, cursor.description)], [*map(tuple, bare.description)], "description")
        for name in ("rowcount", "arraysize"):
            if hasattr(bare, name):
                same(getattr(cursor, name), getattr(bare, name), name)
        same(list(cursor.fetchone()), [1], "the row")
        same(cursor.fetchone(), None, "what fetchone gives at the end")
        cursor.close()
        raises(Exception, lambda: cursor.execute(trial.know.one), "execute on a closed cursor")
    bare.fetchall()
    bare.close()


@promise("drop_in")
def rows_come_in_every_way(trial: Trial) -> None:
    """fetchone, fetchmany, fetchall and iteration give the same rows in order."""
    table = trial.table()
    table.fill(10)
    with trial.pool().borrow() as conn:
        cursor = conn.cursor()
        for arraysize in (1, 4):
            cursor.execute(table.sql(trial.know.ids))
            cursor.arraysize = arraysize
            found = [
                cursor.fetchone(),
                *cursor.fetchmany(),
                *cursor.fetchmany(2),
                *cursor.fetchall(),
            ]
            same([row[0] for row in found], list(range(10)), "rows fetched")
            same(list(cursor.fetchall()), [], "rows after the end")
        if hasattr(cursor, "__iter__"):  # an optional extension of PEP 249
            cursor.execute(table.sql(trial.know.ids))
            same([row[0] for row in cursor], list(range(10)), "rows iterated over")
        cursor.close()


@promise("drop_in")
def many_rows_are_written_at_once(trial: Trial) -> None:
    """executemany writes every row, and rowcount tells how many a statement has written."""
    table = trial.table()
    with trial.pool().borrow() as conn:
        cursor = conn.cursor()
        rows = [trial.values(id, f"note {id}", None) for id in range(25)]
        cursor.executemany(table.sql(trial.know.insert), rows)
        cursor.execute(table.sql(trial.know.insert), trial.values(25, None, None))
        require(cursor.rowcount in (1, -1), f"rowcount is {cursor.rowcount}")
        cursor.close()
    same(table.seen(), list(range(26)), "rows in the end")


@promise("drop_in")
def values_come_back_as_they_went(trial: Trial) -> None:
    """NULL, text in any language and bytes survive the way there and back."""
    table = trial.table()
    pool = trial.pool()
    binary = getattr(trial.errors, "Binary", bytes)
    with pool.borrow() as conn:
        table.insert(conn, 1, NOTE, binary(DATA))
        table.insert(conn, 2, None, None)
        table.insert(conn, 3, "", binary(b""))
    with pool.borrow() as conn:
        _comes_back(table, conn, 1, NOTE, DATA)
        _comes_back(table, conn, 2, None, None)
        _comes_back(table, conn, 3, "", b"")


def _comes_back(table: Table, conn: Any, id: int, note: str | None, data: bytes | None) -> None:
    _, found_note, found_data = table.row(conn, id)
    same(found_note, note, "text")
    same(None if found_data is None else bytes(found_data), data, "bytes")


@promise("drop_in")
def commit_and_rollback_do_so(trial: Trial) -> None:
    """commit makes work durable, rollback undoes it, and both may be called with nothing to do."""
    table = trial.table()
    with trial.pool().borrow() as conn:
        conn.commit()
        conn.rollback()
        table.insert(conn, 1)
        conn.rollback()
        table.insert(conn, 2)
        conn.commit()
        same(table.seen(), [2], "rows seen from outside")
        conn.rollback()
    same(table.seen(), [2], "rows in the end")


@promise("drop_in")
def a_with_block_commits_or_rolls_back(trial: Trial) -> None:
    """`with conn:` commits on success, rolls back on an exception, and always returns."""
    table = trial.table()
    pool = trial.pool()
    with pool.borrow() as conn:
        table.insert(conn, 1)
    with suppress(LookupError), pool.borrow() as conn:
        table.insert(conn, 2)
        raise LookupError
    same(table.seen(), [1], "rows in the end")
    same(pool.pool.stats().in_use, 0, "connections lent")
    pool.stays()


@promise("drop_in", read_only=True)
def the_driver_connection_can_be_had(trial: Trial) -> None:
    """`driver_connection` is the driver's own, and `detach` takes it out of the pool for good."""
    pool = trial.pool()
    with pool.borrow() as conn:
        require(conn.driver_connection is pool.raw, "driver_connection is something else")
    conn = pool.borrow()
    raw = pool.raw
    require(conn.detach() is raw, "detach gives something else")
    try:
        same(run(raw, trial.know.one)[0][0], 1, "what is read on it")
        with pool.borrow() as other:
            same(run(other, trial.know.one)[0][0], 1, "what the next borrower reads")
        require(pool.raw is not raw, "the pool still uses it")
    finally:
        raw.close()
