"""Clean: the next borrower cannot tell that there was a previous one."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from ..check import NotApplicable, promise, raises, require, same
from ..trial import Trial, run


@promise("clean")
def an_open_transaction_is_rolled_back(trial: Trial) -> None:
    """What was not committed is gone once the connection is returned, for everybody."""
    pool = trial.pool()
    table = trial.table()
    conn = pool.borrow()
    table.insert(conn, 1)
    same(table.ids(conn), [1], "rows that the borrower sees")
    conn.close()
    same(table.seen(), [], "rows seen from outside")
    with pool.borrow() as conn:
        same(table.ids(conn), [], "rows that the next borrower sees")
        table.insert(conn, 1)  # would wait for a transaction that is still open
    same(table.seen(), [1], "rows in the end")


@promise("clean")
def plain_work_keeps_the_connection_and_leaves_no_trace(trial: Trial) -> None:
    """Reading and writing rows costs neither a new connection nor a full reset."""
    pool = trial.pool()
    table = trial.table()
    for number in range(5):
        with pool.borrow() as conn:
            same(table.ids(conn), [], "rows that the next borrower sees")
            table.insert(conn, number, "note")
            table.add(conn, number)
            table.row(conn, number)
            table.delete(conn, number)
    pool.stays()
    same(pool.resets, 0, "full resets")


@promise("clean")
def a_failed_statement_leaves_nothing(trial: Trial) -> None:
    """After a constraint violation and a syntax error, the next borrower works as usual."""
    pool = trial.pool()
    table = trial.table()
    table.fill(1)
    conn = pool.borrow()
    table.insert(conn, 7)
    raises(trial.error("Error"), lambda: table.insert(conn, 0), "a duplicate key")
    with suppress(trial.error("Error")):
        run(conn, trial.know.wrong)
    conn.close()
    same(table.seen(), [0], "rows seen from outside")
    with pool.borrow() as conn:
        same(table.ids(conn), [0], "rows that the next borrower sees")
        table.insert(conn, 7)
    same(table.seen(), [0, 7], "rows in the end")


@promise("clean", read_only=True)
def a_refused_statement_leaves_nothing(trial: Trial) -> None:
    """After a statement that the server refuses, the next borrower works as usual."""
    pool = trial.pool()
    conn = pool.borrow()
    raises(trial.error("Error"), lambda: run(conn, trial.know.wrong), "a wrong statement")
    conn.close()
    with pool.borrow() as conn:
        same(run(conn, trial.know.one)[0][0], 1, "what the next borrower reads")


@promise("clean")
def a_half_read_result_is_closed(trial: Trial) -> None:
    """Rows that were not fetched bother nobody: the table can be read, changed and dropped."""
    pool = trial.pool()
    table = trial.table()
    table.fill(3000)
    conn = pool.borrow()
    cursor = conn.cursor()
    cursor.execute(table.sql(trial.know.ids))
    cursor.fetchone()
    conn.close()
    table.delete(trial.side, 0)  # while the cursor still exists
    trial.driver.commit(trial.side)
    with pool.borrow() as conn:
        same(table.ids(conn)[:2], [1, 2], "rows that the next borrower sees")
    del cursor


@promise("clean", read_only=True)
def open_cursors_are_closed(trial: Trial) -> None:
    """Cursors left open, read or not, cost the connection nothing."""
    pool = trial.pool()
    conn = pool.borrow()
    cursors = []
    for _ in range(3):
        cursor = conn.cursor()
        cursor.execute(trial.know.one)
        cursor.fetchall()
        cursors.append(cursor)
    cursors.append(conn.cursor())
    conn.close()
    with pool.borrow() as conn:
        same(run(conn, trial.know.one)[0][0], 1, "what the next borrower reads")
    pool.stays()


@promise("clean")
def autocommit_is_put_back(trial: Trial) -> None:
    """After a borrower that switched autocommit on, uncommitted work is rolled back as before."""
    pool = trial.pool()
    table = trial.table()
    with pool.borrow() as conn:
        switch_on(trial, conn)
        table.insert(conn, 1)
        same(table.seen(), [1], "rows seen from outside, in autocommit mode")
    conn = pool.borrow()
    table.insert(conn, 2)
    conn.close()
    same(table.seen(), [1], "rows seen after the next borrower committed nothing")


def switch_on(trial: Trial, conn: Any) -> None:
    """Autocommit on; `NotApplicable` if there is no such thing."""
    try:
        trial.know.set_autocommit(conn, True)
    except NotImplementedError as exc:
        raise NotApplicable(f"no autocommit: {exc}") from exc


@promise("clean")
def a_transaction_begun_by_hand_is_rolled_back(trial: Trial) -> None:
    """A BEGIN typed in autocommit mode is rolled back, though the driver may not know of it."""
    begin = trial.given("begin")
    pool = trial.pool()
    table = trial.table()
    conn = pool.borrow()
    switch_on(trial, conn)
    run(conn, begin)
    table.insert(conn, 1)
    conn.close()
    same(table.seen(), [], "rows seen from outside")
    with pool.borrow() as conn:
        same(table.ids(conn), [], "rows that the next borrower sees")
        table.insert(conn, 1)
    same(table.seen(), [1], "rows in the end")


@promise("clean")
def a_failed_transaction_begun_by_hand_is_rolled_back(trial: Trial) -> None:
    """So is one in which a statement failed."""
    begin = trial.given("begin")
    pool = trial.pool()
    table = trial.table()
    table.fill(1)
    conn = pool.borrow()
    switch_on(trial, conn)
    run(conn, begin)
    table.insert(conn, 1)
    raises(trial.error("Error"), lambda: table.insert(conn, 0), "a duplicate key")
    conn.close()
    with pool.borrow() as conn:
        same(table.ids(conn), [0], "rows that the next borrower sees")
        table.insert(conn, 1)
    same(table.seen(), [0, 1], "rows in the end")


@promise("clean")
def a_commit_typed_by_hand_confuses_nobody(trial: Trial) -> None:
    """After a COMMIT that was executed as SQL, the next borrower's work is a transaction again."""
    commit = trial.given("commit")
    pool = trial.pool()
    table = trial.table()
    conn = pool.borrow()
    table.insert(conn, 1)
    run(conn, commit)
    conn.close()
    same(table.seen(), [1], "rows after the COMMIT")
    conn = pool.borrow()
    table.insert(conn, 2)
    same(table.seen(), [1], "rows seen while the next borrower has committed nothing")
    conn.rollback()
    conn.close()
    same(table.seen(), [1], "rows after the next borrower has rolled back")


@promise("clean")
def a_read_view_is_given_up(trial: Trial) -> None:
    """A borrower that has only read leaves no view of the past to the next."""
    pool = trial.pool()
    table = trial.table()
    conn = pool.borrow()
    same(table.ids(conn), [], "rows that the first borrower sees")
    conn.close()
    table.fill(1)
    with pool.borrow() as conn:
        same(table.ids(conn), [0], "rows that the next borrower sees")


@promise("clean", read_only=True)
def setup_has_run_on_whatever_is_lent(trial: Trial) -> None:
    """`setup` runs on every new connection, and again after every full reset."""
    done: list[int] = []
    pool = trial.pool(reset="always", setup=lambda raw: done.append(id(raw)))
    for number in range(4):
        with pool.borrow() as conn:
            run(conn, trial.know.one)
            expected = len(pool.connections) + min(pool.resets, number)
            same(len(done), expected, "runs of setup, by connections opened and resets done")
            require(done[-1] == id(pool.raw), "setup did not run on the connection that is lent")
            conn.rollback()


@promise("clean")
def setup_is_in_force_for_every_borrower(trial: Trial) -> None:
    """What `setup` set is so for everybody, also after a borrower changed it and was cleaned up."""
    setup, seen = trial.given("setup"), trial.given("setup_seen")
    before = trial.outside(seen)
    pool = trial.pool(setup=setup, reset="always")
    found = []
    for _ in range(3):
        with pool.borrow() as conn:
            found.append(run(conn, seen))
            conn.driver_connection  # noqa: B018  (from now on the pool assumes everything)
    require(found[0] != before, f"setup has no effect: {before!r} before and after")
    same(found, [found[0]] * 3, "what each borrower sees")
