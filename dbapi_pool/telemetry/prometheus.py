"""Prometheus: a collector for a registry of `prometheus_client`.

    from dbapi_pool.telemetry import prometheus

    prometheus.register()

It looks at the pools when it is scraped, and costs nothing otherwise; it opens no port. Needs
`prometheus-client` (the extra `prometheus`). It must never know more of a pool than what is documented.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate
from typing import NamedTuple
from weakref import WeakKeyDictionary

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from dbapi_pool import Histogram, Pool, PoolStats, pools

from .names import label

__all__ = ["PoolCollector", "register"]

Family = CounterMetricFamily | GaugeMetricFamily
Values = Mapping[str, float]  # by the value of the one label besides `pool`; "" where there is none

# Every reason and every error that there is: a counter that is born with its first event hides it, as
# nobody saw it at 0.
REASONS = (
    "broken", "busy", "closed", "dead", "detached", "drained", "failed ping", "failed reset",
    "failover", "idle", "interrupted", "invalidated", "leaked", "lifetime", "resized",
    "session changed", "surplus", "uses",
)  # fmt: skip
ERRORS = (
    "Error", "Interrupted", "PoolClosed", "PoolDeadlock", "PoolError", "PoolFull",
    "PoolSettingError", "PoolTimeout", "PoolUnavailable",
)  # fmt: skip
_HEALTH = {"ok": 0, "warning": 1, "critical": 2}


class _Figure(NamedTuple):
    """A gauge or a counter: `read` gives its values by `label`."""

    kind: type[GaugeMetricFamily] | type[CounterMetricFamily]
    name: str
    help: str
    read: Callable[[Pool, PoolStats], Values]
    label: str = ""


def _gauge(
    name: str, text: str, read: Callable[[Pool, PoolStats], Values], label: str = ""
) -> _Figure:
    return _Figure(GaugeMetricFamily, f"dbapi_pool_{name}", text, read, label)


def _counter(
    name: str, text: str, read: Callable[[Pool, PoolStats], Values], label: str = ""
) -> _Figure:
    return _Figure(CounterMetricFamily, f"dbapi_pool_{name}", text, read, label)


def _states(pool: Pool, stats: PoolStats) -> Values:
    states = ("idle", "in_use", "opening", "checking", "cleaning", "closing")
    return {state: getattr(stats, state) for state in states}


def _max_idle(pool: Pool, stats: PoolStats) -> Values:
    most = pool.options.max_idle
    return {"": stats.max_size if most is None else most}


_FIGURES = (
    _gauge("connections", "Connections now, by state.", _states, "state"),
    _gauge("open_connections", "Connections open now: idle, lent, being checked or cleaned.",
        lambda pool, stats: {"": stats.size}),
    _gauge("min_connections", "Connections kept open: min_size.",
        lambda pool, stats: {"": stats.min_size}),
    _gauge("max_connections", "Connections open or opening at most: max_size.",
        lambda pool, stats: {"": stats.max_size}),
    _gauge("max_idle_connections", "Idle connections kept at most: max_idle.", _max_idle),
    _gauge("waiting_requests", "Callers that wait for a connection now.",
        lambda pool, stats: {"": stats.waiting}),
    _gauge("suspended", "1 while the pool is suspended, else 0.",
        lambda pool, stats: {"": stats.state == "suspended"}),
    _gauge("health", "The pool's health: 0 is ok, 1 is a warning, 2 is critical.",
        lambda pool, stats: {"": _HEALTH[pool.health().level]}),
    _counter("checkouts", "Connections lent.", lambda pool, stats: {"": stats.checkouts}),
    _counter("waits", "Checkouts that found nothing idle.", lambda pool, stats: {"": stats.waits}),
    _counter("waits_in_vain", "Of the waits, those that ended without a connection.",
        lambda pool, stats: {"": stats.waits_in_vain}),
    _counter("timeouts", "Checkouts that timed out.", lambda pool, stats: {"": stats.timeouts}),
    _counter("refused", "Checkouts that ended without a connection, by error.",
        lambda pool, stats: {**dict.fromkeys(ERRORS, 0), **stats.refused}, "error"),
    _counter("opened", "Connections opened.", lambda pool, stats: {"": stats.opened}),
    _counter("connect_errors", "Connects that failed.",
        lambda pool, stats: {"": stats.connect_errors}),
    _counter("closed", "Connections closed, by reason.",
        lambda pool, stats: {**dict.fromkeys(REASONS, 0), **stats.closed}, "reason"),
    _counter("leaked", "Connections lent for longer than leak_after.",
        lambda pool, stats: {"": stats.leaked}),
)  # fmt: skip

_TIMES = (
    (
        "dbapi_pool_wait_seconds",
        "Time to get a connection, or none; those who found one idle are in the first bucket.",
    ),
    ("dbapi_pool_connect_seconds", "Time to open a connection and set it up."),
    ("dbapi_pool_hold_seconds", "Time for which connections were lent that were used."),
)


class PoolCollector(Collector):
    """Every pool of this process that is not closed.

    The label `pool` is its name, and a number after it if an older pool has the same. The other labels
    (`state`, `reason`, `error`) have few values, known beforehand.
    """

    def __init__(self) -> None:
        # Of each pool the highest count of checkouts, and of those that found one idle: the latter is
        # the difference of two numbers that are not counted at the same instant.
        self._at_once: WeakKeyDictionary[Pool, tuple[int, int]] = WeakKeyDictionary()

    def describe(self) -> Iterable[Metric]:
        """All metrics, without a value: so that a registry refuses a second one of the same."""
        return [*_families(), *_histograms()]

    def collect(self) -> Iterable[Metric]:
        """All metrics, as of now."""
        families, histograms = _families(), _histograms()
        for pool in pools():
            name, stats = label(pool), pool.stats()
            for figure, family in zip(_FIGURES, families, strict=True):
                for value, number in figure.read(pool, stats).items():
                    family.add_metric([name, value] if figure.label else [name], number)
            found_idle = self._found_idle(pool, stats)
            times = ((stats.wait, found_idle), (stats.connect, 0), (stats.hold, 0))
            for histogram, (seen, at_once) in zip(histograms, times, strict=True):
                histogram.add_metric([name], _buckets(seen, at_once), seen.total)
        return [*families, *histograms]

    def _found_idle(self, pool: Pool, stats: PoolStats) -> int:
        """Checkouts that found a connection idle: no histogram has them, as none of them waited."""
        found = stats.checkouts - (stats.waits - stats.waits_in_vain)
        checkouts, highest = self._at_once.get(pool, (0, 0))
        if stats.checkouts < checkouts:  # after a fork, which begins anew
            highest = 0
        found = max(found, highest)
        self._at_once[pool] = stats.checkouts, found
        return found


def _families() -> list[Family]:
    return [
        metric.kind(
            metric.name, metric.help, labels=["pool", metric.label][: 1 + bool(metric.label)]
        )
        for metric in _FIGURES
    ]


def _histograms() -> list[HistogramMetricFamily]:
    return [HistogramMetricFamily(name, text, labels=["pool"]) for name, text in _TIMES]


def _buckets(histogram: Histogram, at_once: int) -> list[tuple[str, float]]:
    bounds = [*map(str, histogram.bounds), "+Inf"]
    counts = [histogram.counts[0] + at_once, *histogram.counts[1:]]
    return list(zip(bounds, accumulate(counts), strict=True))


def register(registry: CollectorRegistry = REGISTRY) -> PoolCollector:
    """A new collector, in that registry. Raises `ValueError` if there is one already; to take it out:
    `registry.unregister(collector)`."""
    collector = PoolCollector()
    registry.register(collector)
    return collector
