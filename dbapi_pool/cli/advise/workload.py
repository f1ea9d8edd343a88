"""What a fleet of processes does with its connections: plain numbers, checked.

A leaf beside `dbapi_pool.sizing`: it must never know a server.
"""

from __future__ import annotations

from dataclasses import dataclass

from ... import sizing

MOST_BUSY = 10_000
"""Connections busy on average in one process: more is a slip of a unit."""

VARIATIONS = {"constant": 0.0, "exponential": 1.0, "lognormal": 4.0}
"""How the times are spread, and the square of their coefficient of variation. For `lognormal`, the
usual shape of requests of many kinds, the standard deviation is twice the mean."""


class BadWorkload(ValueError):
    """Numbers that cannot be meant together; the text names them as options."""


@dataclass(frozen=True)
class Workload:
    """What each process does, and how many there are."""

    processes: int
    """On each host."""
    rate: float
    """Requests per second, in each process."""
    time: float
    """Seconds that a request holds its connection, on average."""
    wait: float
    """Seconds that one in a hundred requests may wait for longer."""
    hosts: int = 1
    threads: int | None = None
    """Threads of a process that borrow; None: not known."""
    per_task: int = 1
    """Connections that a request holds at the same time."""
    distribution: str = "exponential"
    """One of `VARIATIONS`."""

    def __post_init__(self) -> None:
        if self.per_task > 1 and self.threads is None:
            raise BadWorkload(
                f"--per-task {self.per_task}: how many are needed, lest all wait for each other,"
                " depends on how many threads borrow: give --threads too"
            )
        if self.load > MOST_BUSY:
            raise BadWorkload(
                f"--rate {self.rate:g} and --time {self.time:g}: {self.load:,.0f} connections would be"
                f" busy in one process ({MOST_BUSY:,} at most); --time is in seconds, --rate per second"
            )

    @property
    def fleet(self) -> int:
        """Processes in all."""
        return self.processes * self.hosts

    @property
    def checkouts(self) -> float:
        """Connections borrowed per second, in each process."""
        return self.rate * self.per_task

    @property
    def load(self) -> float:
        """Connections busy on average, in each process."""
        return sizing.busy(self.checkouts, self.time)

    @property
    def variation(self) -> float:
        """As in `dbapi_pool.sizing`."""
        return VARIATIONS[self.distribution]

    def longest_wait(self, size: int, processes: int = 1) -> float:
        """What one in a hundred waits for longer, if so many processes share `size` connections."""
        rate = self.checkouts * processes
        return sizing.wait_quantile(size, rate, self.time, variation=self.variation)

    def mean_wait(self, size: int) -> float:
        """What all wait on average with `size` connections in each process."""
        return sizing.mean_wait(size, self.checkouts, self.time, self.variation)

    def smallest_size(self, processes: int = 1) -> int:
        """Connections that so many processes must share to keep the wish."""
        rate = self.checkouts * processes
        return sizing.smallest_size(rate, self.time, self.wait, variation=self.variation)
