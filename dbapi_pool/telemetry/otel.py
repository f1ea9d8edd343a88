"""OpenTelemetry: the metrics of its semantic conventions for connection pools, and spans if wanted.

    from dbapi_pool.telemetry import otel

    otel.instrument()

Names, units and attributes are those of
https://opentelemetry.io/docs/specs/semconv/db/database-metrics/#connection-pools; what those have no
name for is named `db.client.connection.dbapi_pool.*`. Needs `opentelemetry-api` (the extra `otel`). It
must never know more of a pool than what is documented.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from importlib import metadata
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from opentelemetry import metrics, trace
from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer, TracerProvider

from dbapi_pool import Pool, PoolStats, pools
from dbapi_pool.drivers import hookimpl, listen, unlisten

from .names import label

SCHEMA = "https://opentelemetry.io/schemas/1.39.0"
"""The version of the conventions that these names are taken from."""
SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
"""Bounds of the buckets that are advised, as for `db.client.operation.duration`."""
WORTH_A_SPAN = 0.001
"""Seconds that a checkout must take to get a span; one that finds an idle connection takes less."""

_ITS = "db.client.connection."
_OURS = "db.client.connection.dbapi_pool."
_STATE = "db.client.connection.state"
_REASON = "db.client.connection.dbapi_pool.reason"

Attributes = dict[str, str | int]
Reading = Iterable[tuple[int, Attributes]]


def attributes(pool: Pool) -> Attributes:
    """What all metrics and spans of this pool carry."""
    known = _attributes.get(pool)
    # An unknown creator's driver is known by its first connection.
    if known is None or ("db.system.name" not in known and pool.driver.system is not None):
        _attributes[pool] = known = _describe(pool)
    return known


_attributes: WeakKeyDictionary[Pool, Attributes] = WeakKeyDictionary()


def _describe(pool: Pool) -> Attributes:
    found: Attributes = {"db.client.connection.pool.name": label(pool)}
    if pool.driver.system is not None:
        found["db.system.name"] = pool.driver.system
    host, port = pool.endpoint or (None, None)
    if host is not None:
        found["server.address"] = host
    if port is not None:
        found["server.port"] = port
    return found


# -- what is looked at when metrics are collected -----------------------------------------------------


class _Figure(NamedTuple):
    """One observable instrument."""

    make: Callable[[Meter], Callable[..., Any]]
    name: str
    unit: str
    description: str
    read: Callable[[Pool, PoolStats], Reading]


def _up_down(meter: Meter) -> Callable[..., Any]:
    return meter.create_observable_up_down_counter


def _counter(meter: Meter) -> Callable[..., Any]:
    return meter.create_observable_counter


def _states(pool: Pool, stats: PoolStats) -> Reading:
    # Those that are being checked or cleaned cannot be had either.
    yield stats.idle, {_STATE: "idle"}
    yield stats.size - stats.idle, {_STATE: "used"}


def _most_idle(pool: Pool, stats: PoolStats) -> Reading:
    most = pool.options.max_idle
    yield stats.max_size if most is None else most, {}


_FIGURES = (
    _Figure(_up_down, f"{_ITS}count", "{connection}",
        "The number of connections that are currently in state described by the `state` attribute.",
        _states),
    _Figure(_up_down, f"{_ITS}idle.max", "{connection}",
        "The maximum number of idle open connections allowed.", _most_idle),
    _Figure(_up_down, f"{_ITS}idle.min", "{connection}",
        "The minimum number of idle open connections allowed.",
        lambda pool, stats: [(stats.min_size, {})]),
    _Figure(_up_down, f"{_ITS}max", "{connection}",
        "The maximum number of open connections allowed.",
        lambda pool, stats: [(stats.max_size, {})]),
    _Figure(_up_down, f"{_ITS}pending_requests", "{request}",
        "The number of current pending requests for an open connection.",
        lambda pool, stats: [(stats.waiting, {})]),
    _Figure(_counter, f"{_ITS}timeouts", "{timeout}",
        "The number of connection timeouts that have occurred trying to obtain a connection from the"
        " pool.", lambda pool, stats: [(stats.timeouts, {})]),
    _Figure(_counter, f"{_OURS}closed", "{connection}",
        "The number of connections that were closed, by reason.",
        lambda pool, stats: [(n, {_REASON: why}) for why, n in stats.closed.items()]),
    _Figure(_counter, f"{_OURS}connect_errors", "{error}",
        "The number of connections that could not be opened.",
        lambda pool, stats: [(stats.connect_errors, {})]),
    _Figure(_counter, f"{_OURS}refused", "{request}",
        "The number of requests that ended without a connection, by error.",
        lambda pool, stats: [(n, {"error.type": error}) for error, n in stats.refused.items()]),
    _Figure(_counter, f"{_OURS}leaked", "{connection}",
        "The number of connections that were lent for longer than leak_after.",
        lambda pool, stats: [(stats.leaked, {})]),
)  # fmt: skip


def _observer(
    figure: _Figure, provider: MeterProvider | None
) -> Callable[[CallbackOptions], Iterable[Observation]]:
    """Instruments cannot be taken back, so each asks whether it is its provider's turn."""

    def observe(options: CallbackOptions) -> Iterator[Observation]:
        if _current is None or _real(_current.provider) is not _real(provider):
            return
        for pool in pools():
            own = attributes(pool)
            for value, more in figure.read(pool, pool.stats()):
                yield Observation(value, {**own, **more})

    return observe


def _real(provider: MeterProvider | None) -> MeterProvider:
    """None: the global one, which may be set after `instrument` was called."""
    return metrics.get_meter_provider() if provider is None else provider


# -- what is told as it happens -----------------------------------------------------------------------


class _Times:
    """Listens to all pools, for the histograms."""

    def __init__(self, meter: Meter) -> None:
        def histogram(name: str, description: str) -> metrics.Histogram:
            return meter.create_histogram(
                name, "s", description, explicit_bucket_boundaries_advisory=SECONDS
            )

        self._create = histogram(
            f"{_ITS}create_time", "The time it took to create a new connection."
        )
        self._wait = histogram(
            f"{_ITS}wait_time", "The time it took to obtain an open connection from the pool."
        )
        self._use = histogram(
            f"{_ITS}use_time",
            "The time between borrowing a connection and returning it to the pool.",
        )
        self._clean = histogram(
            f"{_OURS}clean_time", "The time it took to clean a connection that came back."
        )

    @hookimpl
    def dbapi_pool_connected(self, pool: Pool | None, seconds: float) -> None:
        if pool is not None:
            self._create.record(seconds, attributes(pool))

    @hookimpl
    def dbapi_pool_checked_out(self, pool: Pool | None, waited: float) -> None:
        if pool is not None:
            self._wait.record(waited, attributes(pool))

    @hookimpl
    def dbapi_pool_checked_in(self, pool: Pool | None, seconds: float) -> None:
        if pool is not None:
            self._use.record(seconds, attributes(pool))

    @hookimpl
    def dbapi_pool_cleaned(self, pool: Pool | None, seconds: float) -> None:
        if pool is not None:
            self._clean.record(seconds, attributes(pool))


class _Spans:
    """Listens to all pools, for spans. They are made when they are over: what is told, is told then, by
    the thread that it concerns, so its current span is the parent."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    @hookimpl
    def dbapi_pool_checked_out(self, pool: Pool | None, waited: float) -> None:
        if waited >= WORTH_A_SPAN:
            self._span("dbapi_pool.wait", SpanKind.INTERNAL, pool, waited)

    @hookimpl
    def dbapi_pool_refused(self, pool: Pool | None, error: str, seconds: float) -> None:
        self._span("dbapi_pool.wait", SpanKind.INTERNAL, pool, seconds, error)

    @hookimpl
    def dbapi_pool_connected(self, pool: Pool | None, seconds: float) -> None:
        self._span("dbapi_pool.connect", SpanKind.CLIENT, pool, seconds)

    @hookimpl
    def dbapi_pool_connect_failed(self, pool: Pool | None, error: str, seconds: float) -> None:
        self._span("dbapi_pool.connect", SpanKind.CLIENT, pool, seconds, error)

    def _span(
        self, name: str, kind: SpanKind, pool: Pool | None, seconds: float, error: str | None = None
    ) -> None:
        if pool is None:
            return
        end = time.time_ns()
        own = attributes(pool)
        span = self._tracer.start_span(
            name, kind=kind, attributes=own, start_time=end - int(seconds * 1e9)
        )
        if error is not None:
            span.set_attribute("error.type", error)
            span.set_status(Status(StatusCode.ERROR))
        span.end(end)


# -- on and off ---------------------------------------------------------------------------------------


class _Instrumentation(NamedTuple):
    """What `instrument` has switched on."""

    provider: MeterProvider | None
    listeners: tuple[object, ...]


_current: _Instrumentation | None = None
# Guards `_current` and who listens. Re-entrant, since a finalizer that is run under it may come here.
_switching = threading.RLock()


def instrument(
    meter_provider: MeterProvider | None = None,
    tracer_provider: TracerProvider | None = None,
    spans: bool = False,
) -> None:
    """Metrics of every pool of this process, those that there are and those to come.

    None: the global provider, also one that is set later. `spans`: one too for each checkout that takes
    longer than a millisecond or gets no connection, in the borrower's trace, and for each connect. A
    second call takes the place of the first.
    """
    global _current
    scope, version = "dbapi_pool", metadata.version("dbapi-pool")
    meter = metrics.get_meter(scope, version, meter_provider, SCHEMA)
    listeners: list[object] = [_Times(meter)]
    if spans:
        listeners.append(_Spans(trace.get_tracer(scope, version, tracer_provider, SCHEMA)))
    for figure in _FIGURES:
        observer = _observer(figure, meter_provider)
        figure.make(meter)(figure.name, [observer], figure.unit, figure.description)
    with _switching:
        uninstrument()
        for listener in listeners:
            listen(listener)
        _current = _Instrumentation(meter_provider, tuple(listeners))


def uninstrument() -> None:
    """No more metrics, nor spans. Harmless where there were none."""
    global _current
    with _switching:
        before, _current = _current, None
        for listener in before.listeners if before is not None else ():
            unlisten(listener)


class Instrumentor:
    """For `opentelemetry-instrument`, which finds it by its entry point, and for those who want an
    object. All of them are one."""

    def instrument(self, **settings: Any) -> None:
        """As the function; of what else it is given it takes no notice."""
        known = ("meter_provider", "tracer_provider", "spans")
        instrument(**{name: settings[name] for name in known if name in settings})

    def uninstrument(self, **settings: Any) -> None:
        """As the function."""
        uninstrument()

    def instrumentation_dependencies(self) -> Collection[str]:
        """What must be installed: only ourselves."""
        return ("dbapi-pool",)


def _in_child() -> None:
    global _switching
    _switching = threading.RLock()  # another thread of the parent may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
