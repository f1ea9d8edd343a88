"""In words: why a caller got no connection.

Reads the ledger, changes nothing, and never prints an error's text (it may hold a secret).
"""

from __future__ import annotations

from collections.abc import Sequence

from .errors import PoolClosed, PoolError, PoolFull, PoolUnavailable
from .ledger import OPENING, Census, Ledger, Stuck, Waiter
from .member import line_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .options import Options

INSIDE_A_LOCK = (
    "it did not wait, since the garbage collector ran the finalizer that borrows while its thread held"
    " a lock of a pool: who would return a connection may need that lock. Don't borrow in `__del__`"
)


def refusal(exc: BaseException) -> str:
    """What `PoolStats.refused` calls it."""
    if isinstance(exc, PoolError):
        named = (kind for kind in type(exc).__mro__ if kind.__module__ == PoolError.__module__)
        return next(named).__name__
    return "Error" if isinstance(exc, Exception) else "Interrupted"


def explain(
    kind: type[PoolError],
    ledger: Ledger,
    options: Options,
    last_error: BaseException | None,
    waiter: Waiter,
    now: float,
    vain_for: float,
) -> str:
    """Why this waiter got nothing, with numbers and the setting to change."""
    census = ledger.census()
    if kind is PoolClosed:
        return "the pool is closed"
    sizes = (
        f"{len(census.lent)} of max_size={ledger.max_size} lent, {len(census.idle)} idle,"
        f" {len(census.tasks[OPENING])} opening, {len(ledger.waiters)} waiting"
    )
    if kind is PoolFull:
        return f"{sizes}, and no more may wait than max_waiting={options.max_waiting}"
    if kind is PoolUnavailable:
        return (
            f"connecting has been in vain for {vain_for:.2f} s, so nobody waits until it succeeds"
            f" (fail_fast_after={options.fail_fast_after}); {sizes}; see the cause"
        )
    waited = f"no connection after {now - waiter.since:.2f} s"
    parts = [waited, sizes, *_holder(census, now), *_connect_error(last_error)]
    return "; ".join([*parts, _advice(census, ledger, last_error)])


def deadlock(stuck: Sequence[Stuck], wanted_at: tuple[Any, int], now: float) -> str:
    """Who holds what while all of them wait."""
    return (
        f"every one of the {len(stuck)} lent connections is held by a thread that itself waits for"
        f" one, so nobody will ever be served; {_borrowed_at(stuck, now)}, and this one is wanted"
        f" at {line_of(*wanted_at)}. Return a connection before borrowing the next, or raise max_size"
    )


def suspicion(stuck: Sequence[Stuck], now: float) -> str:
    """As `deadlock`, where it could not be proven."""
    return (
        "every connection was borrowed by a thread that itself waited for another one, a deadlock"
        f" unless they were passed on: {_borrowed_at(stuck, now)}"
    )


def _borrowed_at(stuck: Sequence[Stuck], now: float) -> str:
    sites = ", ".join(
        f"{line_of(one.member.code, one.member.lasti)} (thread {one.waiter.thread},"
        f" {now - one.member.since:.2f} s ago, waiting at {line_of(*one.waiter.where)})"
        for one in stuck
    )
    return f"they were borrowed at {sites}"


def _holder(census: Census, now: float) -> list[str]:
    """The longest holder."""
    lent = [place.member for place in census.lent if place.member is not None]
    if not lent:
        return []
    member = min(lent, key=lambda member: member.since)
    return [
        f"longest held for {now - member.since:.2f} s by thread {member.thread},"
        f" borrowed at {line_of(member.code, member.lasti)}"
    ]


def _connect_error(last_error: BaseException | None) -> list[str]:
    return [] if last_error is None else [f"connecting fails with {type(last_error).__name__}"]


def _advice(census: Census, ledger: Ledger, last_error: BaseException | None) -> str:
    if ledger.gate is not None:
        return "the pool is suspended: call resume()"
    if last_error is not None:
        return "see the cause; if the server needs longer to come back, raise checkout_timeout"
    if len(census.lent) >= ledger.max_size:
        return "hold connections for less time, or raise max_size (or checkout_timeout)"
    return "connecting takes long: raise checkout_timeout, or keep min_size connections open"
