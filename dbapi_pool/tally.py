"""`Tally`: durations counted in buckets, which are the same everywhere and for ever: so tallies can be
added, subtracted and compared between pools, processes and days.

A leaf, and cheap to import: `stats.Histogram` is what users see of it.
"""

from __future__ import annotations

from _bisect import bisect_left

BOUNDS = tuple(
    float(f"{step}e{power}") for power in range(-5, 2) for step in (1, 2, 5)
) + (100.0,)  # fmt: skip
"""Upper bounds of the buckets in seconds, bounds included: 10, 20, 50 us, and so on to 100 s. What took
longer is in one more bucket."""


class Tally:
    """Counts durations. No lock: whoever adds must be the only one to add."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds

    def add_all(self, other: Tally) -> None:
        """Count all that another has counted."""
        self.counts = [
            mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)
        ]
        self.total += other.total
