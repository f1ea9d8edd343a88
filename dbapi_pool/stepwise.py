"""`Checkout`: a checkout in steps, none of which waits, for who waits in a way of his own.

As `Pool.connection()`, by the same line and the same rules; but where that sleeps, this says for how
long, and the waiter's signal ends the pause. It must never know who waits, or how.
"""

from __future__ import annotations

import functools
from types import CodeType

from .handles import PooledConnection, lend
from .ledger import OPEN, Lease, Waiter
from .member import NEVER
from .pool import CONNECT_PATIENCE, Pool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .ledger import SignalLike


class Checkout:
    """One checkout. `begin`, then `take` until it gives a connection, or `pause` says how long to wait
    for the signal before the next `take`; where `in_doubt`, `inspect`, which may call the driver. After
    an error `leave`; `end` in any case."""

    def __init__(
        self,
        pool: Pool,
        signal: SignalLike,
        who: int,
        where: tuple[CodeType, int],
        timeout: float | None,
    ) -> None:
        """`signal`: what is set when there is something to take; its `wait` is not called. `who`: a
        number for the borrower that no thread has. `where`: the line that reports shall name."""
        timeout = pool._timeout(timeout)
        self._pool = pool
        self._where = where
        self._who = who
        self._waiter = Waiter(signal, who, pool._now(), where, timeout != 0)
        self._deadline = NEVER
        if timeout is not None:
            self._deadline = self._waiter.since + (timeout or CONNECT_PATIENCE)
        self._joined = self._settled = False

    def begin(self) -> None:
        """Take what is idle, or stand in line. Raises as `Pool.connection()` does where that would not
        wait."""
        pool, waiter = self._pool, self._waiter
        ledger = pool._ledger
        if not ledger.waiters and ledger.gate is OPEN:
            try:
                waiter.lease = ledger.idle.pop()
            except IndexError:
                pass
            else:
                return
        if pool._may_fail_fast and pool._keeper.is_vain(waiter.since):
            pool._keeper.go_on_trying()
            pool._fail_fast(waiter)
        self._settled = pool._join(waiter)
        self._joined = True

    def pause(self) -> float:
        """Seconds until the next look, if the signal is not set before; `inf`: no limit. 0: there is an
        answer to take. Raises `PoolTimeout`."""
        if self._waiter.answered:
            return 0.0
        settled, self._settled = self._settled, False
        return self._pool._pause(self._waiter, self._deadline, settled)

    @property
    def in_doubt(self) -> bool:
        """Whether what was given must be inspected first."""
        lease = self._waiter.lease
        if lease is None:
            return False
        return lease.member is None or not self._pool._is_good(lease.member)

    def take(self) -> PooledConnection:
        """What was given, which is not in doubt; or raises what was given instead."""
        return self._lend(self._pool._accept(self._waiter))

    def inspect(self) -> PooledConnection | None:
        """Have a closer look at what was given; it may be opened or pinged here. None: it was of no
        use, and the waiter stands in line again, before all others."""
        pool, waiter = self._pool, self._waiter
        rejoin = functools.partial(pool._rejoin, waiter)
        lease = pool._inspect(pool._accept(waiter), rejoin)
        if lease is not None:
            return self._lend(lease)
        self._joined = True  # also who was served at once, without standing in line
        return None

    def leave(self) -> None:
        """Leave the line, after an error; what was given, and not taken, goes to the next. Not while
        another thread is in `inspect`."""
        self._pool._quit(self._waiter)

    def end(self, exc: BaseException | None = None) -> None:
        """Count it: it is over, with a connection or with an error."""
        pool, waiter = self._pool, self._waiter
        if self._joined:
            pool._counters.waited(pool._now() - waiter.since)
        if exc is not None:
            pool._note_refusal(waiter, exc, self._joined)

    def _lend(self, lease: Lease) -> PooledConnection:
        pool, member = self._pool, lease.member
        member.since = now = pool._now()
        member.thread = self._who
        member.code, member.lasti = self._where
        member.uses += 1
        lease.pool = pool
        handle = lend(lease)
        if pool._heard_out:
            pool._hand_over(member, handle, now - self._waiter.since)
        return handle
