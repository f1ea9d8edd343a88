"""Exclusive: whatever a borrower kept is dead once it is returned, and never reaches the next one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from .... import ConnectionReturned
from ..check import promise, raises, require, same
from ..threads import together
from ..trial import Table, Trial, run

ROUNDS = 50


def dead(trial: Trial, act: Callable[[], object], what: str) -> None:
    """`Broken` unless it is refused with the driver's own `InterfaceError`, which is ours too."""
    exc = raises(ConnectionReturned, act, what)
    if trial.driver.module is not None:
        kind = trial.error("InterfaceError")
        require(isinstance(exc, kind), f"{what}: {type(exc).__mro__} is no {kind.__name__}")


def is_refused(trial: Trial, act: Callable[[], object], what: str) -> None:
    """`Broken` unless it raises the driver's own `InterfaceError`, or `ProgrammingError`, as drivers
    do for what they closed themselves."""
    kinds = (trial.error("InterfaceError"), trial.error("ProgrammingError"))
    exc = raises(Exception, act, what)
    require(isinstance(exc, kinds), f"{what}: raised {type(exc).__name__}: {exc}")


@promise("exclusive", read_only=True)
def a_kept_connection_is_dead(trial: Trial) -> None:
    """A connection used after its return raises the driver's own InterfaceError."""
    pool = trial.pool()
    conn = pool.borrow()
    run(conn, trial.know.one)
    conn.close()
    with pool.borrow():  # the next borrower has the same driver connection
        dead(trial, conn.cursor, "conn.cursor()")
        dead(trial, conn.commit, "conn.commit()")
        dead(trial, conn.rollback, "conn.rollback()")
        dead(trial, conn.__enter__, "with conn:")
        dead(trial, lambda: setattr(conn, "autocommit", True), "conn.autocommit = True")
        dead(trial, lambda: conn.driver_connection, "conn.driver_connection")
        dead(trial, conn.detach, "conn.detach()")
    pool.stays()


@promise("exclusive", read_only=True)
def a_kept_cursor_is_dead(trial: Trial) -> None:
    """A cursor used after the return raises the driver's own InterfaceError, also with rows left."""
    pool = trial.pool()
    conn = pool.borrow()
    cursor = conn.cursor()
    cursor.execute(trial.know.one)
    conn.close()
    with pool.borrow():
        dead(trial, lambda: cursor.execute(trial.know.one), "cursor.execute()")
        dead(trial, lambda: cursor.executemany(trial.know.one, []), "cursor.executemany()")
        dead(trial, cursor.fetchone, "cursor.fetchone()")
        dead(trial, cursor.fetchmany, "cursor.fetchmany()")
        dead(trial, cursor.fetchall, "cursor.fetchall()")
        cursor.close()
    pool.stays()


@promise("exclusive", read_only=True)
def a_kept_bound_method_is_dead(trial: Trial) -> None:
    """Methods of the connection that were kept, and the cursor's `execute`, are as dead as these."""
    pool = trial.pool()
    conn = pool.borrow()
    cursor = conn.cursor()
    kept = [conn.cursor, conn.commit, conn.rollback, cursor.execute, cursor.executemany]
    kept[3](trial.know.one)
    cursor.fetchall()
    conn.close()
    with pool.borrow():
        for method in kept[:3]:
            dead(trial, method, f"the kept {method!r}")
        dead(trial, lambda: kept[3](trial.know.one), "the kept cursor.execute")
        dead(trial, lambda: kept[4](trial.know.one, []), "the kept cursor.executemany")


@promise("exclusive")
def a_kept_fetch_method_reads_nothing_of_the_next_borrower(trial: Trial) -> None:
    """Kept fetch methods give no row of the next borrower's, and take none away from it."""
    pool = trial.pool()
    mine, theirs = trial.table(), trial.table()
    mine.fill(3)
    theirs.fill(500)
    conn = pool.borrow()
    cursor = conn.cursor()
    cursor.execute(mine.sql(trial.know.ids))
    cursor.fetchone()
    kept = [cursor.fetchone, cursor.fetchmany, cursor.fetchall]
    conn.close()
    with pool.borrow() as other:
        reading = other.cursor()
        reading.execute(theirs.sql(trial.know.ids))
        reading.fetchmany(10)
        for fetch in kept * 3:
            found: Any = None
            with suppress(Exception):  # drivers differ in what a closed cursor says
                found = fetch()
            rows = [found] if isinstance(found, tuple) else list(found or ())
            # A driver may still have rows of the first result in memory.
            wrong = [row for row in rows if row[0] not in range(3)]
            same(wrong, [], "rows that a kept fetch method has of the next borrower's")
        same(reading.fetchall()[0][0], 10, "the row that the next borrower reads next")
        reading.close()


@promise("exclusive")
def a_kept_iterator_is_dead(trial: Trial) -> None:
    """An iterator over a half-read result gives no row after the return, and does not just end."""
    pool = trial.pool()
    table = trial.table()
    table.fill(500)
    conn = pool.borrow()
    cursor = conn.cursor()
    cursor.execute(table.sql(trial.know.ids))
    iterator: Iterator[Any] = iter(cursor)
    next(iterator)
    conn.close()
    with pool.borrow() as other:
        is_refused(trial, lambda: next(iterator, None), "next(iterator)")
        require(len(table.ids(other)) == 500, "the next borrower does not read what it asks for")


@promise("exclusive", read_only=True)
def a_kept_context_manager_is_dead(trial: Trial) -> None:
    """Leaving a `with` a second time, or entering a kept one, does nothing to the next borrower."""
    pool = trial.pool()
    conn = pool.borrow()
    cursor = conn.cursor()
    with conn:
        run(conn, trial.know.one)
    with pool.borrow() as other:
        dead(trial, conn.__enter__, "with conn:")
        conn.__exit__(None, None, None)
        conn.__exit__(ValueError, ValueError(), None)
        if hasattr(type(cursor), "__exit__"):
            with suppress(Exception):  # may be refused, may do nothing
                cursor.__exit__(None, None, None)
        same(run(other, trial.know.one)[0][0], 1, "what the next borrower reads")
    same(pool.pool.stats().checkouts, 2, "checkouts")


@promise("exclusive")
def nothing_kept_reaches_the_next_borrowers_session(trial: Trial) -> None:
    """Kept things write nothing, and neither commit nor roll back, in the next transaction."""
    pool = trial.pool()
    table = trial.table()
    conn = pool.borrow()
    cursor = conn.cursor()
    cursor.execute(trial.know.one)
    cursor.fetchall()
    conn.commit()
    kept = [conn.commit, conn.rollback, conn.close, cursor.close]
    conn.close()
    with pool.borrow() as other:
        table.insert(other, 1)
        for act in (*kept, *_writes(trial, table, conn, cursor)):
            with suppress(trial.error("Error"), ConnectionReturned, AttributeError):
                act()
        same(table.seen(), [], "rows committed while the next borrower is in its transaction")
        same(table.ids(other), [1], "rows in the next borrower's transaction")
    pool.stays()
    same(table.seen(), [1], "rows in the end")


def _writes(trial: Trial, table: Table, conn: Any, cursor: Any) -> list[Callable[[], object]]:
    sql, values = table.sql(trial.know.insert), trial.values(2, None, None)
    return [
        lambda: cursor.execute(sql, values),
        lambda: cursor.executemany(sql, [values]),
        lambda: conn.cursor().execute(sql, values),
        lambda: conn.execute(sql, values),
        lambda: cursor.connection.cursor().execute(sql, values),
        lambda: cursor.connection.commit(),
    ]


@promise("exclusive", read_only=True)
def the_cursors_connection_is_the_borrowed_one(trial: Trial) -> None:
    """`cursor.connection` is the borrowed connection, never the driver's own behind it."""
    pool = trial.pool()
    with pool.borrow() as conn:
        cursor = conn.cursor()
        if not hasattr(cursor, "connection"):  # an optional extension of PEP 249
            cursor.close()
            return
        require(cursor.connection is conn, f"it is {cursor.connection!r}")
        cursor.close()
    with suppress(ConnectionReturned):
        require(cursor.connection is not pool.raw, "after the return it is the driver's own")


@promise("exclusive", read_only=True)
def closing_twice_returns_once(trial: Trial) -> None:
    """Closing a connection again does not return it again."""
    pool = trial.pool(max_size=2)
    conn = pool.borrow()
    conn.close()
    conn.close()
    conn.invalidate()
    one = pool.borrow()
    conn.close()
    two = pool.borrow()
    conn.close()
    same(pool.pool.stats().in_use, 2, "connections lent")
    require(one.driver_connection is not two.driver_connection, "two borrowers have the same one")
    one.close()
    two.close()


@promise("exclusive", read_only=True)
def closing_from_two_threads_returns_once(trial: Trial) -> None:
    """Two threads that close the same connection at the same time return it once."""
    pool = trial.pool(max_size=2)
    for _ in range(ROUNDS):
        conn = pool.borrow()
        together(2, lambda number, conn=conn: conn.close())  # type: ignore[misc]
        stats = pool.pool.stats()
        same((stats.in_use, stats.idle), (0, 1), "connections lent and idle")
    pool.stays()
