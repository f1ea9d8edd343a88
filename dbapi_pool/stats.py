"""`PoolStats`: a frozen picture of a pool at one moment; `Histogram`: how times are spread in it.

A leaf. Sizes are derived from the ledger's places; only events that leave no trace there are
counted (`Counters`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from .tally import BOUNDS, Tally


@dataclass(frozen=True)
class Histogram:
    """How many durations fell into each bucket, and their sum in seconds.

    `bounds`: the upper bounds of the buckets, included: 10, 20, 50 us, and so on to 100 s; what took
    longer is in one more.
    """

    bounds: ClassVar[tuple[float, ...]] = BOUNDS

    counts: tuple[int, ...] = (0,) * (len(BOUNDS) + 1)
    total: float = 0.0

    @classmethod
    def of(cls, tallies: Iterable[Tally]) -> Histogram:
        """What several have counted until now."""
        sum_ = Tally()
        for tally in tallies:
            sum_.add_all(tally)
        return cls(tuple(sum_.counts), sum_.total)

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(self.counts)

    @property
    def mean(self) -> float | None:
        """Seconds; None if there were none."""
        return self.total / self.count if self.count else None

    def quantile(self, share: float) -> float | None:
        """Seconds that a `share` (0 to 1) of them did not exceed: the upper bound of the bucket
        in which that falls, so up to 2.5 times the truth; infinite beyond 100 s. None if there were
        none. Raises `ValueError` for another share."""
        if not 0 <= share <= 1:
            raise ValueError(f"share={share!r}: must be from 0 to 1")
        wanted = share * self.count
        reached = 0
        for bound, count in zip((*BOUNDS, float("inf")), self.counts, strict=True):
            reached += count
            if count and reached >= wanted:
                return bound
        return None

    def __sub__(self, earlier: Histogram) -> Histogram:
        """What was counted since `earlier`, a histogram of the same pool."""
        counts = tuple(
            max(now - then, 0) for now, then in zip(self.counts, earlier.counts, strict=True)
        )
        return Histogram(counts, max(self.total - earlier.total, 0.0))

    def as_dict(self) -> dict[str, Any]:
        """`count`, `total`, and `buckets`: the counts that are not 0, by upper bound ("inf" for the
        last). Plain values, ready for JSON."""
        names = [*(f"{bound:g}" for bound in BOUNDS), "inf"]
        buckets = {name: count for name, count in zip(names, self.counts, strict=True) if count}
        return {"count": self.count, "total": self.total, "buckets": buckets}


@dataclass(frozen=True, kw_only=True)
class PoolStats:
    """Sizes now, and totals since the pool was made. Times are seconds.

    One moment's view: a connection is in exactly one of idle, in_use, opening, checking, cleaning and
    closing, so these never add up to more than the `max_size` of that moment (after a `resize` to
    less, until the surplus is closed). Totals never go back.
    """

    name: str
    min_size: int
    max_size: int
    size: int
    """Driver connections open: idle + in use + being checked or cleaned."""
    idle: int
    in_use: int
    opening: int
    checking: int
    """Being pinged before they are handed out."""
    cleaning: int
    """Being cleaned after they came back."""
    closing: int
    waiting: int
    """Callers in line."""
    checkouts: int
    """Connections lent."""
    waits: int
    """Checkouts that found nothing idle."""
    wait_time: float
    """What those waited, together."""
    timeouts: int
    opened: int
    closed: Mapping[str, int] = field(default_factory=dict)
    """Connections closed, by reason."""
    connect_errors: int = 0
    waits_in_vain: int = 0
    """Of the `waits`, those that ended without a connection."""
    refused: Mapping[str, int] = field(default_factory=dict)
    """Checkouts that ended without a connection, by the name of the error: PoolTimeout, PoolFull,
    PoolDeadlock, PoolUnavailable, PoolClosed, PoolSettingError (as the first connection tells which
    driver it is), PoolError (connecting was cut short), Error (the driver's own), Interrupted."""
    leaked: int = 0
    """Connections lent longer than `leak_after` at some time."""
    wait: Histogram = field(default_factory=Histogram)
    """What each of the `waits` took, also in vain."""
    connect: Histogram = field(default_factory=Histogram)
    """What opening took, with `setup`; of those that succeeded."""
    hold: Histogram = field(default_factory=Histogram)
    """How long connections were lent that the borrower did something with, and has returned."""
    state: str = "open"
    """"open", "suspended" or "closed"."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        for name, value in values.items():
            if isinstance(value, Histogram):
                values[name] = value.as_dict()
            elif isinstance(value, Mapping):
                values[name] = dict(value)
        return values
