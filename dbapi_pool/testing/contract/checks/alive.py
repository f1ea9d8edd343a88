"""Alive, heals, no lies: dead connections are not lent, and errors mean what they are said to."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ..check import promise, raises, require, same
from ..trial import PATIENCE, Trial, Watched, run

LOOKS = 200
NEWS_TAKES = 2.0
"""Seconds until this machine's kernel must have heard that the server closed a connection."""


def becomes(condition: Callable[[], bool], seconds: float = NEWS_TAKES) -> bool:
    """Whether the condition holds before so many seconds are over."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def kill(trial: Trial, pool: Watched) -> None:
    """End the session of the pool's last connection, from outside."""
    trial.kill(trial.session_of(pool.raw))


@promise("alive", read_only=True, needs=("alive",))
def a_closed_connection_is_not_lent(trial: Trial) -> None:
    """A driver connection that was closed while idle is known to be dead, and not lent."""
    pool = trial.pool()
    with pool.borrow() as conn:
        run(conn, trial.know.one)
    pool.raw.close()
    require(not pool.driver.is_alive(pool.raw), "is_alive says True of a closed connection")
    with pool.borrow() as conn:
        same(run(conn, trial.know.one)[0][0], 1, "what the next borrower reads")


@promise("alive", needs=("alive",))
def a_connection_killed_while_idle_is_not_lent(trial: Trial) -> None:
    """A session that the server ended while idle is seen without a ping; no borrower has an error."""
    pool = trial.pool(ping_after=None)
    for _ in range(5):
        with pool.borrow() as conn:
            run(conn, trial.know.one)
        killed = pool.raw
        kill(trial, pool)
        known = becomes(lambda killed=killed: not pool.driver.is_alive(killed))  # type: ignore[misc]
        require(known, f"after {NEWS_TAKES:g} s is_alive still says True of a killed session")
        with pool.borrow() as conn:
            same(run(conn, trial.know.one)[0][0], 1, "what the next borrower reads")
        require(pool.raw is not killed, "the killed connection is still used")


@promise("alive", read_only=True)
def there_is_no_false_alarm(trial: Trial) -> None:
    """`is_alive` says True of a living connection, in 200 looks after work and after pings."""
    conn = trial.connect()
    for number in range(LOOKS):
        if number % 10 == 0:
            run(conn, trial.know.one)
            trial.driver.rollback(conn)
        if number % 50 == 0:
            trial.driver.ping(conn)
        require(trial.driver.is_alive(conn), f"look {number} says False of a living connection")


@promise("alive", read_only=True)
def an_answer_that_nobody_waited_for_is_no_alarm(trial: Trial) -> None:
    """After `rollback_soon` a living connection counts as alive, and what is read next is right."""
    conn = trial.connect()
    driver = trial.driver
    for number in range(LOOKS):
        found = run(conn, trial.know.one)[0][0]
        same(found, 1, "what is read after a rollback that nobody waited for")
        if not driver.rollback_soon(conn):
            driver.rollback(conn)
        alive = number % 2 or driver.is_alive(conn)
        require(bool(alive), f"look {number} says False of a living connection")


@promise("alive", read_only=True)
def a_ping_leaves_no_transaction(trial: Trial) -> None:
    """A ping opens no transaction, and a new one can begin after it."""
    conn = trial.connect()
    driver = trial.driver
    before = driver.in_transaction(conn)
    for _ in range(3):
        driver.ping(conn)
        same(driver.in_transaction(conn), before, "in_transaction after a ping")
    driver.begin(conn, None, None, {})
    same(run(conn, trial.know.one)[0][0], 1, "what is read after the pings")
    driver.rollback(conn)


@promise("alive")
def the_server_sees_no_transaction_after_a_ping(trial: Trial) -> None:
    """Nor does the server know of a transaction after a ping, or on an idle connection."""
    sql = trial.given("in_transaction")
    pool = trial.pool()
    with pool.borrow() as conn:
        run(conn, trial.know.one)
    session = trial.session_of(pool.raw)
    look = sql.format(session=session)
    same([bool(row[0]) for row in trial.outside(look)], [False], "in a transaction when returned")
    pool.driver.ping(pool.raw)
    same([bool(row[0]) for row in trial.outside(look)], [False], "in a transaction after a ping")


@promise("no_lies", read_only=True)
def a_ping_of_a_closed_connection_fails(trial: Trial) -> None:
    """A ping of a closed connection raises, and does not connect again."""
    conn = trial.connect()
    trial.driver.ping(conn)
    conn.close()
    raises(Exception, lambda: trial.driver.ping(conn), "ping of a closed connection")


@promise("no_lies")
def a_ping_does_not_connect_again(trial: Trial) -> None:
    """A ping keeps the session; of a killed one it raises, and leaves it dead."""
    conn = trial.connect()
    session = trial.session_of(conn)
    trial.driver.ping(conn)
    same(trial.session_of(conn), session, "the session after a ping")
    trial.kill(session)
    raises(Exception, lambda: trial.driver.ping(conn), "ping of a killed session")
    raises(Exception, lambda: run(conn, trial.know.one), "a statement after that")


@promise("no_lies")
def a_lost_transaction_raises(trial: Trial) -> None:
    """A session lost in a transaction raises at the next statement or commit; nothing is repeated."""
    pool = trial.pool()
    table = trial.table()
    conn = pool.borrow()
    run(conn, trial.know.one)
    session = run(conn, trial.given("session"))[0][0]
    table.insert(conn, 1)
    trial.kill(session)
    raises(Exception, conn.commit, "commit on a killed session")
    raises(Exception, lambda: table.insert(conn, 2), "a statement on a killed session")
    conn.close()
    same(table.seen(), [], "rows in the end")


@promise("heals", needs=("disconnect",))
def a_connection_killed_in_use_is_replaced(trial: Trial) -> None:
    """A session killed in use raises an error that is known to mean that, and is replaced."""
    pool = trial.pool()
    conn = pool.borrow()
    killed = pool.raw
    kill(trial, pool)
    exc = raises(Exception, lambda: run(conn, trial.know.one), "a statement on a killed session")
    require(pool.driver.is_disconnect(exc, killed), f"is_disconnect says False of {exc!r}")
    conn.close()
    _has_a_new_one(trial, pool, killed)
    require("broken" in pool.pool.stats().closed, f"closed for {pool.pool.stats().closed}")


def _has_a_new_one(trial: Trial, pool: Watched, old: Any) -> None:
    with pool.borrow() as conn:
        same(run(conn, trial.know.one)[0][0], 1, "what the next borrower reads")
    require(pool.raw is not old, "the lost connection is still used")


@promise("heals", needs=("disconnect", "alive"))
def idle_ones_are_replaced_when_all_were_killed(trial: Trial) -> None:
    """When all sessions are killed, at most the borrowers at that moment see an error."""
    pool = trial.pool(max_size=4)
    held = [pool.borrow() for _ in range(4)]
    sessions = [trial.session_of(raw) for raw in pool.connections]
    for conn in held[1:]:
        conn.close()
    for session in sessions:
        trial.kill(session)
    raises(Exception, lambda: run(held[0], trial.know.one), "a statement on a killed session")
    held[0].close()
    for _ in range(8):
        with pool.borrow() as conn:
            same(run(conn, trial.know.one)[0][0], 1, "what a later borrower reads")


@promise("heals", read_only=True, needs=("disconnect",))
def a_closed_connection_counts_as_lost(trial: Trial) -> None:
    """An error on a connection that was closed under its borrower is known to mean that."""
    pool = trial.pool()
    conn = pool.borrow()
    closed = pool.raw
    closed.close()
    exc = raises(Exception, lambda: run(conn, trial.know.one), "a statement on a closed one")
    require(pool.driver.is_disconnect(exc, closed), f"is_disconnect says False of {exc!r}")
    conn.close()
    _has_a_new_one(trial, pool, closed)


@promise("heals", read_only=True)
def a_wrong_statement_loses_no_connection(trial: Trial) -> None:
    """A statement that the server refuses is no disconnect, no failover, and not worth repeating."""
    pool = trial.pool()
    conn = pool.borrow()
    for _ in range(2):  # the second time in a failed transaction, where there is such a thing
        exc = raises(trial.error("Error"), lambda: run(conn, trial.know.wrong), "a wrong statement")
        means_nothing_more(pool, exc)
    conn.rollback()
    same(run(conn, trial.know.one)[0][0], 1, "what is read after the rollback")
    conn.rollback()
    conn.close()
    with pool.borrow():
        pass
    same(pool.pool.stats().closed.get("broken", 0), 0, "connections closed as broken")


@promise("heals")
def a_broken_constraint_loses_no_connection(trial: Trial) -> None:
    """A constraint violation is no disconnect, no failover, and not worth repeating."""
    pool = trial.pool()
    table = trial.table()
    table.fill(1)
    conn = pool.borrow()
    exc = raises(trial.error("IntegrityError"), lambda: table.insert(conn, 0), "a duplicate key")
    means_nothing_more(pool, exc)
    with suppress(trial.error("Error")):  # some servers now refuse everything until a rollback
        table.insert(conn, 1)
    conn.rollback()
    table.insert(conn, 2)
    conn.commit()
    conn.close()
    with pool.borrow() as conn:
        same(table.ids(conn), [0, 2], "rows in the end")
    pool.stays()


def means_nothing_more(pool: Watched, exc: Exception) -> None:
    """`Broken` if the driver reads more into an ordinary error than it says."""
    driver = pool.driver
    require(not driver.is_disconnect(exc, pool.raw), f"is_disconnect says True of {exc!r}")
    require(not driver.is_failover(exc, pool.raw), f"is_failover says True of {exc!r}")
    require(not driver.is_server_wide(exc), f"is_server_wide says True of {exc!r}")
    require(not driver.is_retryable(exc), f"is_retryable says True of {exc!r}")
    require(not driver.is_transient(exc), f"is_transient says True of {exc!r}")


@promise("heals", read_only=True)
def pings_are_answered(trial: Trial) -> None:
    """With a ping at every checkout, living connections stay."""
    pool = trial.pool(ping_after=0, checkout_timeout=PATIENCE)
    for _ in range(5):
        with pool.borrow() as conn:
            same(run(conn, trial.know.one)[0][0], 1, "what a borrower reads")
    pool.stays()
