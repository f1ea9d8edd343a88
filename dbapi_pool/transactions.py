"""`transaction()` and `run()`: a lease that is one transaction, and one that may be tried again.

No statement is ever repeated by itself: only `run` starts over, with the whole function, and only
where nothing can have been committed. Uses the pool's public face and its driver's judgement.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from types import CodeType, FrameType, TracebackType

from .errors import CommitOutcomeUnknown, PoolError, PoolSettingError, for_driver
from .fences import failed
from .handles import PooledConnection, handle_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    from .pool import Pool

    T = TypeVar("T")

BACKOFF_FIRST = 0.01
BACKOFF_MOST = 1.0


class Terms:
    """How a transaction is to begin."""

    __slots__ = ("isolation", "options", "readonly", "timeout")

    def __init__(
        self,
        isolation: str | None,
        readonly: bool | None,
        timeout: float | None,
        options: Mapping[str, Any],
    ) -> None:
        self.isolation = isolation
        self.readonly = readonly
        self.timeout = timeout
        self.options = options


class Transaction:
    """The context manager behind `pool.transaction()`: commits on success, else rolls back."""

    __slots__ = ("_handle", "_pool", "_terms")

    def __init__(self, pool: Pool, terms: Terms) -> None:
        self._pool = pool
        self._terms = terms
        self._handle: PooledConnection | None = None

    def __enter__(self) -> PooledConnection:
        return self.enter_at(sys._getframe(1))

    def enter_at(self, frame: FrameType) -> PooledConnection:
        """As entering it, for code that stands between the pool and its users: see `Pool.lend`."""
        self._handle = begin(self._pool, self._terms, frame.f_code, frame.f_lasti)
        return self._handle

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.__exit__(kind, exc, trace)


def begin(pool: Pool, terms: Terms, code: CodeType, lasti: int) -> PooledConnection:
    """Borrow a connection and begin a transaction on it."""
    conn = pool._borrow(terms.timeout, code, lasti)
    begin_on(pool, conn, terms)
    return conn


def begin_on(pool: Pool, conn: PooledConnection, terms: Terms) -> None:
    """Begin a transaction on a connection that was just borrowed; on an error it is given back."""
    handle = handle_of(conn)
    try:
        lease = handle._lease
        work = pool.begin_work(lease.member)
        work.pending = work.wrote = work.one = True  # its isolation may make readers lock
        driver = pool.driver
        if driver._overrides("begin"):  # Driver's own changes nothing
            work.attributes = True
        driver.begin(lease.member.conn, terms.isolation, terms.readonly, terms.options)
    except ValueError as exc:
        handle.close()
        raise PoolSettingError(str(exc)) from exc
    except BaseException as exc:
        failed(handle, exc)
        handle.close()
        raise


def run(
    pool: Pool,
    fn: Callable[[PooledConnection], T],
    retries: int,
    terms: Terms,
    code: CodeType,
    lasti: int,
) -> T:
    """Run `fn` in a transaction, up to `retries` times more if that may help."""
    for attempt in range(retries):
        try:
            return _try(pool, fn, terms, code, lasti)
        except Again:
            pause = backoff(attempt, pool._chance())
        pool._sleep(pause)
    try:
        return _try(pool, fn, terms, code, lasti)
    except Again as again:
        last = again.error
    try:
        raise last
    finally:
        del last  # or it and this frame would keep each other alive


def _try(
    pool: Pool, fn: Callable[[PooledConnection], T], terms: Terms, code: CodeType, lasti: int
) -> T:
    with _begin_or_again(pool, terms, code, lasti) as conn:
        return run_once(pool, fn, conn)


def _begin_or_again(pool: Pool, terms: Terms, code: CodeType, lasti: int) -> PooledConnection:
    try:
        return begin(pool, terms, code, lasti)
    except PoolError:
        raise
    except Exception as exc:
        judge_beginning(pool, exc)
        raise


def judge_beginning(pool: Pool, exc: Exception) -> None:
    """Raise `Again` if a transaction that could not be begun may be begun again."""
    if pool.driver.is_retryable(exc):
        raise Again(exc) from exc


class Again(Exception):
    """Carries an error after which another try may succeed out of the transaction's `with`."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def run_once(pool: Pool, fn: Callable[[PooledConnection], T], conn: PooledConnection) -> T:
    """One try, commit included."""
    raw = handle_of(conn)._lease.member.conn
    try:
        result = fn(conn)
    except Exception as exc:
        judge(pool, exc, raw)
        raise
    commit_once(pool, conn, raw)
    return result


def judge(pool: Pool, exc: Exception, raw: Any) -> None:
    """Raise `Again` if the transaction in which `exc` was raised may be tried again."""
    if pool.driver.is_retryable(exc) or pool.driver.is_disconnect(exc, raw):
        raise Again(exc) from exc


def commit_once(pool: Pool, conn: PooledConnection, raw: Any) -> None:
    """Commit; raises `Again` or `CommitOutcomeUnknown` for an error of which that can be said."""
    try:
        conn.commit()
    except Exception as exc:
        if pool.driver.is_disconnect(exc, raw):
            unknown = for_driver(CommitOutcomeUnknown, pool.driver.module)
            raise unknown(
                "the connection was lost during COMMIT, so nobody here knows whether the"
                " transaction was committed; it was not tried again"
            ) from exc
        if pool.driver.is_retryable(exc):
            raise Again(exc) from exc
        raise


def backoff(attempt: int, chance: float) -> float:
    """Seconds before the next try: exponential, capped, with full jitter."""
    return min(BACKOFF_MOST, BACKOFF_FIRST * 2.0**attempt) * (0.1 + 0.9 * chance)
