"""Transactions: `pool.transaction` and `pool.run` do what they say, or refuse to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from .... import CommitOutcomeUnknown, PoolSettingError
from ..check import NotApplicable, promise, raises, require, same
from ..threads import Doing, together
from ..trial import Table, Trial, Watched, run
from .attributes import attributes_of

LEVELS = ("READ UNCOMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
STABLE = ("REPEATABLE READ", "SERIALIZABLE")
RETRIES = 20
MEETING = 1.0
"""Seconds that one of two transactions waits for the other to come as far."""


@contextmanager
def transaction(pool: Watched, **terms: Any) -> Iterator[Any]:
    """`pool.transaction(**terms)`; `NotApplicable` if the driver refuses these."""
    begun = pool.pool.transaction(**terms)
    try:
        conn = begun.__enter__()
    except PoolSettingError as exc:
        raise NotApplicable(f"refused: {exc}") from exc
    try:
        yield conn
    except BaseException as exc:
        begun.__exit__(type(exc), exc, exc.__traceback__)
        raise
    begun.__exit__(None, None, None)


@promise("transactions")
def a_transaction_commits(trial: Trial) -> None:
    """Leaving `pool.transaction()` commits, and what was not committed before is not seen before."""
    pool = trial.pool()
    table = trial.table()
    with pool.pool.transaction() as conn:
        table.insert(conn, 1)
        same(table.seen(), [], "rows seen from outside before the end")
        table.insert(conn, 2)
    same(table.seen(), [1, 2], "rows after the end")
    same(pool.pool.stats().in_use, 0, "connections lent")


@promise("transactions")
def a_transaction_rolls_back_on_an_exception(trial: Trial) -> None:
    """An exception that leaves `pool.transaction()` rolls everything back."""
    pool = trial.pool()
    table = trial.table()
    table.fill(1)
    _fail(pool, lambda conn: table.insert(conn, 1))
    raises(trial.error("IntegrityError"), lambda: _fill_twice(pool, table), "a duplicate key")
    same(table.seen(), [0], "rows in the end")
    with pool.borrow() as conn:
        same(table.ids(conn), [0], "rows that the next borrower sees")


def _fail(pool: Watched, act: Callable[[Any], object], **terms: Any) -> None:
    with suppress(LookupError), pool.pool.transaction(**terms) as conn:
        act(conn)
        raise LookupError


def _fill_twice(pool: Watched, table: Table) -> None:
    with pool.pool.transaction() as conn:
        table.insert(conn, 2)
        table.insert(conn, 0)


@promise("transactions")
def what_was_committed_stays(trial: Trial) -> None:
    """After `conn.commit()` within it, only what came later is rolled back."""
    pool = trial.pool()
    table = trial.table()

    def act(conn: Any) -> None:
        table.insert(conn, 1)
        conn.commit()
        table.insert(conn, 2)

    _fail(pool, act)
    same(table.seen(), [1], "rows seen from outside")
    with pool.borrow() as conn:
        same(table.ids(conn), [1], "rows that the next borrower sees")


@promise("transactions", read_only=True)
def what_no_driver_knows_is_refused(trial: Trial) -> None:
    """An isolation level or an option that does not exist is refused, not ignored."""
    pool = trial.pool()
    for terms in ({"isolation": "NO SUCH LEVEL"}, {"no_such_option": 1}):
        what = f"transaction({terms})"
        raises(PoolSettingError, pool.pool.transaction(**terms).__enter__, what)
    with pool.borrow() as conn:
        same(run(conn, trial.know.one)[0][0], 1, "what the next borrower reads")


@promise("transactions", read_only=True)
def isolation_levels_are_given_or_refused(trial: Trial) -> str:
    """Each of the standard's isolation levels is either accepted or refused with an error."""
    pool = trial.pool()
    accepted = []
    for level in LEVELS:
        with suppress(NotApplicable), transaction(pool, isolation=level) as conn:
            same(run(conn, trial.know.one)[0][0], 1, f"what is read in {level}")
            accepted.append(level)
    same(pool.pool.stats().in_use, 0, "connections lent")
    return "accepted: " + (", ".join(accepted) or "none")


@promise("transactions")
def a_stable_isolation_level_reads_the_same_twice(trial: Trial) -> str:
    """In REPEATABLE READ and SERIALIZABLE, rows that others commit meanwhile do not appear."""
    pool = trial.pool()
    held = []
    for level in STABLE:
        with suppress(NotApplicable):
            _reads_the_same_twice(trial, pool, level)
            held.append(level)
    if not held:
        raise NotApplicable(f"refuses {' and '.join(STABLE)}")
    return "kept by " + ", ".join(held)


def _reads_the_same_twice(trial: Trial, pool: Watched, level: str) -> None:
    table = trial.table()
    other = trial.connect()

    def write() -> None:
        with suppress(trial.error("Error")):  # waiting for a lock in vain is a way to keep it
            table.insert(other, 1)
            trial.driver.commit(other)

    with transaction(pool, isolation=level) as conn:
        before = table.ids(conn)
        writing = Doing(write)
        writing.ends(MEETING)  # or it waits for the end of the transaction
        same(table.ids(conn), before, f"rows read again in {level}")
    writing.result()
    trial.driver.rollback(other)


@promise("transactions")
def read_committed_sees_what_others_commit(trial: Trial) -> None:
    """In READ COMMITTED, rows that others commit meanwhile appear."""
    pool = trial.pool(max_size=2)
    table = trial.table()
    with transaction(pool, isolation="READ COMMITTED") as conn:
        same(table.ids(conn), [], "rows read first")
        table.insert(trial.side, 1)
        trial.driver.commit(trial.side)
        same(table.ids(conn), [1], "rows read again")


@promise("transactions")
def a_read_only_transaction_refuses_to_write(trial: Trial) -> None:
    """With `readonly=True`, if accepted, writing fails; the next borrower may write again."""
    pool = trial.pool()
    table = trial.table()

    def write() -> None:
        with transaction(pool, readonly=True) as conn:
            table.ids(conn)
            table.insert(conn, 1)

    raises(trial.error("Error"), write, "writing in a read-only transaction")
    same(table.seen(), [], "rows after that")
    with pool.borrow() as conn:
        table.insert(conn, 2)
    with pool.pool.transaction() as conn:
        table.insert(conn, 3)
    same(table.seen(), [2, 3], "rows in the end")


@promise("transactions")
def a_read_only_error_is_no_failover(trial: Trial) -> None:
    """That a read-only transaction refuses to write does not mean that the server has changed."""
    pool = trial.pool(max_size=2)
    table = trial.table()
    with pool.borrow(), pool.borrow():
        pass
    with suppress(trial.error("Error")), transaction(pool, readonly=True) as conn:
        table.insert(conn, 1)
    with pool.borrow(), pool.borrow():
        pass
    same(pool.pool.stats().closed.get("failover", 0), 0, "connections closed for a failover")
    same(len(pool.connections), 2, "connections opened")


@promise("transactions", read_only=True)
def a_transaction_leaves_nothing_to_the_next(trial: Trial) -> None:
    """Isolation and read-only mode end with the transaction: attributes are what they were."""
    pool = trial.pool()
    with pool.borrow() as conn:
        run(conn, trial.know.one)
    before = attributes_of(trial, pool.raw)
    for terms in _accepted(pool):
        with pool.pool.transaction(**terms) as conn:
            run(conn, trial.know.one)
        with suppress(LookupError), pool.pool.transaction(**terms) as conn:
            raise LookupError
        same(attributes_of(trial, pool.raw), before, f"attributes after transaction({terms})")
    pool.stays()


def _accepted(pool: Watched) -> list[dict[str, Any]]:
    """Terms that the driver does not refuse."""
    terms: list[dict[str, Any]] = [{"isolation": level} for level in LEVELS]
    terms += [{"readonly": True}, {"readonly": False}]
    accepted: list[dict[str, Any]] = [{}]
    for one in terms:
        with suppress(NotApplicable), transaction(pool, **one):
            accepted.append(one)
    return accepted


@promise("transactions", needs=("retry",))
def run_tries_again_after_a_conflict(trial: Trial) -> str:
    """Two threads whose transactions are in each other's way both succeed with `pool.run`."""
    pool = trial.pool(max_size=2)
    table = trial.table()
    table.fill(2)
    meeting = threading.Barrier(2)
    tries: list[int] = []

    def work(number: int) -> None:
        def fn(conn: Any) -> None:
            tries.append(number)
            table.add(conn, number)
            with suppress(threading.BrokenBarrierError):
                meeting.wait(MEETING)
            table.add(conn, 1 - number)  # which the other one has locked

        pool.pool.run(fn, retries=RETRIES)

    together(2, work)
    same(table.numbers(), [2, 2], "what two transactions have added to two rows")
    if len(tries) == 2:
        raise NotApplicable("there was no conflict: both transactions came through at once")
    return f"{len(tries)} tries for two transactions"


@promise("transactions", read_only=True)
def run_does_not_try_again_after_other_errors(trial: Trial) -> None:
    """A statement that the server refuses is raised at once, and so is anybody's own exception."""
    pool = trial.pool()
    tries = []

    def fn(conn: Any) -> None:
        tries.append(1)
        run(conn, trial.know.wrong)

    raises(trial.error("Error"), lambda: pool.pool.run(fn, retries=3), "run")
    same(len(tries), 1, "tries")
    same(pool.pool.stats().in_use, 0, "connections lent")


@promise("transactions", needs=("disconnect",))
def run_tries_again_when_the_connection_is_lost(trial: Trial) -> None:
    """A session lost before COMMIT was sent: the function runs again, and its work is done once."""
    pool = trial.pool()
    table = trial.table()
    tries: list[int] = []

    def fn(conn: Any) -> None:
        tries.append(1)
        table.insert(conn, len(tries))
        if len(tries) == 1:
            trial.kill(run(conn, trial.given("session"))[0][0])
            table.ids(conn)

    pool.pool.run(fn, retries=2)
    same(table.seen(), [2], "rows in the end")


@promise("transactions", needs=("disconnect",))
def a_commit_that_is_lost_is_not_tried_again(trial: Trial) -> None:
    """A session lost during COMMIT raises `CommitOutcomeUnknown`, and nothing runs again."""
    pool = trial.pool()
    table = trial.table()
    tries: list[int] = []

    def fn(conn: Any) -> None:
        tries.append(1)
        table.insert(conn, 1)
        trial.kill(run(conn, trial.given("session"))[0][0])

    exc = raises(CommitOutcomeUnknown, lambda: pool.pool.run(fn, retries=3), "run")
    require(isinstance(exc, trial.error("OperationalError")), f"{type(exc).__mro__}")
    same(len(tries), 1, "tries")
    same(table.seen(), [], "rows in the end")
