"""OpenTelemetry: its conventions to the letter, and figures that are true."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    Histogram,
    HistogramDataPoint,
    InMemoryMetricReader,
    Metric,
    Sum,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import db_attributes
from opentelemetry.semconv._incubating.metrics import db_metrics
from opentelemetry.semconv.attributes import error_attributes, server_attributes
from opentelemetry.trace import SpanKind, StatusCode

from dbapi_pool import Pool, PoolFull, PoolTimeout
from dbapi_pool.drivers import Driver
from dbapi_pool.telemetry import otel
from dbapi_pool.testing import FakeDriver, VirtualClock

MakePool = Callable[..., Pool]
ROOT = Path(__file__).parents[1]
NAME = "db.client.connection.pool.name"
ITS = "db.client.connection."
OURS = "db.client.connection.dbapi_pool."

CONVENTIONS = {
    getattr(db_metrics, name): getattr(db_metrics, f"create_{name.lower()}")
    for name in vars(db_metrics)
    if name.startswith("DB_CLIENT_CONNECTION_")
}


class Seen:
    """What was collected, of the pools that a test made."""

    def __init__(self, reader: InMemoryMetricReader) -> None:
        self._reader = reader

    def metrics(self) -> dict[str, Metric]:
        data = self._reader.get_metrics_data()
        if data is None:
            return {}
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics]
        return {metric.name: metric for scope in scopes for metric in scope.metrics}

    def points(self, name: str, pool: str, **attributes: str) -> list[Any]:
        metric = self.metrics().get(name)
        points = [] if metric is None else metric.data.data_points
        wanted = {NAME: pool, **{key.replace("__", "."): it for key, it in attributes.items()}}
        return [p for p in points if wanted.items() <= dict(p.attributes).items()]

    def value(self, name: str, pool: str, **attributes: str) -> Any:
        [point] = self.points(name, pool, **attributes)
        return point.value

    def times(self, name: str, pool: str) -> HistogramDataPoint:
        [point] = self.points(name, pool)
        return point

    def names(self) -> set[str]:
        """Of the pools that were seen."""
        points = [point for one in self.metrics().values() for point in one.data.data_points]
        return {str(point.attributes[NAME]) for point in points}


@pytest.fixture
def provider() -> Iterator[MeterProvider]:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    provider.reader = reader  # type: ignore[attr-defined]
    yield provider
    otel.uninstrument()
    provider.shutdown()


@pytest.fixture
def seen(provider: MeterProvider) -> Seen:
    """With every pool instrumented."""
    otel.instrument(provider)
    return Seen(provider.reader)  # type: ignore[attr-defined]


@pytest.fixture
def spans(provider: MeterProvider) -> InMemorySpanExporter:
    """The same, with spans."""
    exporter, tracers = InMemorySpanExporter(), TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    exporter.provider = tracers  # type: ignore[attr-defined]
    otel.instrument(provider, tracers, spans=True)
    return exporter


def use(pool: Pool) -> None:
    with pool.connection() as conn:
        conn.cursor().execute("SELECT 1")


def test_names_units_descriptions_and_kinds_are_those_of_the_conventions(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock, seen: Seen
) -> None:
    reference = InMemoryMetricReader()
    meter = MeterProvider([reference]).get_meter("reference")
    for create in CONVENTIONS.values():
        instrument = create(meter)
        (instrument.record if hasattr(instrument, "record") else instrument.add)(1)
    pool = make_pool(max_size=1)
    use(pool)

    wanted, found = Seen(reference).metrics(), seen.metrics()
    assert len(wanted) == 9
    for name, theirs in wanted.items():
        ours = found[name]
        assert ours.unit == theirs.unit, name
        assert ours.description.rstrip(".") == theirs.description.rstrip("."), name
        assert type(ours.data) is type(theirs.data), name
        if isinstance(theirs.data, Sum) and isinstance(ours.data, Sum):
            assert ours.data.is_monotonic == theirs.data.is_monotonic, name
    assert {name for name in found if not name.startswith(OURS)} == wanted.keys()


def test_our_own_figures_are_under_a_name_of_our_own(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock, seen: Seen
) -> None:
    pool = make_pool(max_size=1, leak_after=1.0, max_waiting=0, name="mine")
    fake.on("connect", error=fake.ProgrammingError("no"), times=1)
    with suppress(fake.ProgrammingError):
        pool.connection()
    fake.on("rollback", delay=0.25)
    held = pool.connection()
    held.cursor().execute("INSERT 1")
    clock.advance(5.0)
    with suppress(PoolFull):
        pool.connection(timeout=1.0)
    held.close()
    pool.connection().invalidate()
    clock.run()

    found = {name: it for name, it in seen.metrics().items() if name.startswith(OURS)}
    assert {name.removeprefix(OURS): (it.unit, type(it.data)) for name, it in found.items()} == {
        "closed": ("{connection}", Sum),
        "connect_errors": ("{error}", Sum),
        "refused": ("{request}", Sum),
        "leaked": ("{connection}", Sum),
        "clean_time": ("s", Histogram),
    }
    assert all(it.data.is_monotonic for it in found.values() if isinstance(it.data, Sum))
    closed = {f"{OURS}reason": "invalidated"}
    assert seen.value(f"{OURS}closed", "mine", **closed) == 1
    assert seen.value(f"{OURS}connect_errors", "mine") == 1
    assert seen.value(f"{OURS}refused", "mine", error__type="Error") == 1
    assert seen.value(f"{OURS}refused", "mine", error__type="PoolFull") == 1
    assert seen.value(f"{OURS}leaked", "mine") == 1
    assert seen.times(f"{OURS}clean_time", "mine").sum == pytest.approx(0.25)


def test_states_sizes_and_callers_in_line_are_of_now(
    make_pool: MakePool, clock: VirtualClock, seen: Seen
) -> None:
    pool = make_pool(max_size=3, min_size=2, max_idle=2, name="now")
    held = [pool.connection() for _ in range(3)]
    waiting = clock.start(use, pool)
    clock.run()

    def now() -> tuple[Any, ...]:
        states = (seen.value(f"{ITS}count", "now", **{f"{ITS}state": s}) for s in ("idle", "used"))
        return (*states, seen.value(f"{ITS}pending_requests", "now"))

    assert now() == (0, 3, 1)
    for conn in held:
        conn.close()
    waiting.result()
    clock.run()
    assert now() == (2, 0, 0)
    limits = [seen.value(f"{ITS}{limit}", "now") for limit in ("idle.max", "idle.min", "max")]
    assert limits == [2, 2, 3]
    pool.resize(max_size=7)
    assert seen.value(f"{ITS}max", "now") == 7


def test_what_is_cleaned_or_checked_is_used_and_max_idle_defaults_to_max_size(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock, seen: Seen
) -> None:
    pool = make_pool(max_size=4, name="busy")
    conn = pool.connection()
    conn.cursor().execute("INSERT 1")
    fake.on("rollback", delay=5.0)
    returning = clock.start(conn.close)
    clock.advance(1.0)

    assert pool.stats().cleaning == 1
    assert seen.value(f"{ITS}count", "busy", **{f"{ITS}state": "used"}) == 1
    assert seen.value(f"{ITS}idle.max", "busy") == 4
    clock.advance(9.0)
    returning.result()


def test_times_are_in_seconds_with_the_buckets_of_the_conventions(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock, seen: Seen
) -> None:
    pool = make_pool(max_size=1, name="times")
    fake.on("connect", delay=0.3)
    conn = pool.connection()
    waiting = clock.start(use, pool)
    clock.advance(4.0)
    conn.close()
    waiting.result()
    with suppress(PoolTimeout):
        with pool.connection():
            pool.connection(timeout=0)

    create, wait, used = (
        seen.times(f"{ITS}{name}_time", "times") for name in ("create", "wait", "use")
    )
    assert (create.count, create.sum) == (1, pytest.approx(0.3))
    assert (wait.count, wait.sum) == (3, pytest.approx(4.3))  # not the one in vain
    assert (used.count, used.sum) == (3, pytest.approx(4.0))
    assert seen.value(f"{ITS}timeouts", "times") == 1
    for point in (create, wait, used):
        assert tuple(point.explicit_bounds) == (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)


def test_attributes_are_those_of_the_conventions_and_show_no_secret(
    clock: VirtualClock, fake: FakeDriver, seen: Seen
) -> None:
    class Known(type(fake.driver())):  # type: ignore[misc]
        system = db_attributes.DbSystemNameValues.POSTGRESQL.value

    secrets: dict[str, Any] = {"user": "joe", "password": "canary", "database": "shop"}
    with Pool(
        fake, driver=Known(fake), clock=clock, name="known", host="db.example.com", port=5433, **secrets
    ) as pool:  # fmt: skip
        use(pool)
        [point] = seen.points(f"{ITS}max", "known")
        assert dict(point.attributes) == {
            db_attributes.DB_CLIENT_CONNECTION_POOL_NAME: "known",
            db_attributes.DB_SYSTEM_NAME: "postgresql",
            server_attributes.SERVER_ADDRESS: "db.example.com",
            server_attributes.SERVER_PORT: 5433,
        }
        assert "canary" not in repr(seen.metrics())
        assert "joe" not in repr(seen.metrics())
    assert error_attributes.ERROR_TYPE == "error.type"


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, None),
        ({"host": "db", "port": 5}, ("db", 5)),
        ({"host": "db"}, ("db", None)),
        ({"host": "/var/run/db"}, ("/var/run/db", None)),
        ({"host": "::1", "port": "5"}, ("::1", None)),
        ({"host": "joe:canary@db"}, None),
        ({"host": "password=canary host=db"}, None),
        ({"host": ["a", "b"]}, None),
        ({"host": ""}, None),
    ],
)
def test_where_a_pool_leads_is_what_the_arguments_say_for_certain(
    make_pool: MakePool, given: dict[str, Any], found: object
) -> None:
    assert make_pool(**given).endpoint == found


@pytest.mark.parametrize(
    ("args", "kwargs", "found"),
    [
        (("host=db port=5433 password=canary",), {}, ("db", 5433)),
        (("host=db password=canary",), {"host": "other"}, ("other", None)),
        (("postgresql://joe:canary@db:5433/shop",), {}, ("db", 5433)),
        (("host=a,b port=1,2",), {}, None),
        (("service=shop",), {}, None),
        ((), {"host": "db", "port": "5433"}, ("db", 5433)),
    ],
)
@pytest.mark.parametrize("module", ["psycopg2", "psycopg"])
def test_where_a_connection_string_leads(
    module: str, args: tuple[Any, ...], kwargs: dict[str, Any], found: object
) -> None:
    pool = Pool(pytest.importorskip(module), *args, **kwargs)

    assert pool.endpoint == found
    assert pool.driver.system == "postgresql"
    pool.close()


def test_where_urls_lead() -> None:
    pytest.importorskip("pymysql")
    with Pool("mysql+pymysql://joe:canary@db:3307/shop") as pool:
        assert (pool.endpoint, pool.driver.system) == (("db", 3307), "mysql")
    with Pool(sqlite3, "shop.db") as pool:
        assert (pool.endpoint, pool.driver.system) == (None, "sqlite")
    assert Driver.system is None


def test_pools_of_one_name_are_told_apart(make_pool: MakePool, seen: Seen) -> None:
    first, second = make_pool(max_size=1, name="same"), make_pool(max_size=2, name="same")
    use(first)
    use(second)
    use(second)

    assert seen.value(f"{ITS}max", "same") == 1
    assert seen.value(f"{ITS}max", "same-2") == 2
    assert seen.times(f"{ITS}use_time", "same-2").count == 2
    first.close()
    assert "same" not in {point for point in seen.names() if seen.points(f"{ITS}max", point)}
    assert seen.value(f"{ITS}max", "same-2") == 2  # stays what it was
    third = make_pool(max_size=3, name="same")
    assert seen.value(f"{ITS}max", "same") == 3
    third.close()


def test_pools_from_before_and_from_after_are_seen(
    make_pool: MakePool, provider: MeterProvider
) -> None:
    before = make_pool(name="before")
    otel.instrument(provider)
    seen = Seen(provider.reader)  # type: ignore[attr-defined]
    after = make_pool(name="after")
    use(before)
    use(after)

    for name in ("before", "after"):
        assert seen.times(f"{ITS}use_time", name).count == 1
        assert seen.value(f"{ITS}max", name) == 10


def test_nothing_is_recorded_of_pools_that_are_gone(make_pool: MakePool, seen: Seen) -> None:
    pool = make_pool(name="gone")
    use(pool)
    pool.close()
    of_now = {name for name, it in seen.metrics().items() if isinstance(it.data, Sum)}

    assert [name for name in of_now if seen.points(name, "gone")] == []
    count = seen.times(f"{ITS}use_time", "gone").count
    use(make_pool(name="another"))
    assert seen.times(f"{ITS}use_time", "gone").count == count == 1


def test_switched_off_and_on_again_nothing_is_counted_twice(
    make_pool: MakePool, provider: MeterProvider, seen: Seen
) -> None:
    pool = make_pool(max_size=1, name="twice")
    use(pool)
    otel.instrument(provider)  # takes the place of the first
    use(pool)
    otel.uninstrument()
    otel.uninstrument()
    use(pool)
    assert seen.points(f"{ITS}max", "twice") == []
    assert seen.times(f"{ITS}use_time", "twice").count == 2
    otel.instrument(provider)
    use(pool)

    assert seen.times(f"{ITS}use_time", "twice").count == 3
    assert seen.value(f"{ITS}max", "twice") == 1
    assert seen.value(f"{ITS}count", "twice", **{f"{ITS}state": "idle"}) == 1
    with suppress(PoolTimeout):
        with pool.connection():
            pool.connection(timeout=0)
    assert seen.value(f"{ITS}timeouts", "twice") == 1


def test_of_two_providers_the_last_one_hears(make_pool: MakePool, provider: MeterProvider) -> None:
    pool = make_pool(name="whose")
    readers = [InMemoryMetricReader(), InMemoryMetricReader()]
    for reader in readers:
        otel.instrument(MeterProvider([reader]))
        use(pool)
    first, second = map(Seen, readers)

    assert first.points(f"{ITS}max", "whose") == []
    assert first.times(f"{ITS}use_time", "whose").count == 1
    assert second.times(f"{ITS}use_time", "whose").count == 1
    assert second.value(f"{ITS}max", "whose") == 10


GLOBAL = """
import sqlite3
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from dbapi_pool import Pool
from dbapi_pool.telemetry import otel

otel.instrument()  # before there is a provider
pool = Pool(sqlite3, "a.db", name="early")
with pool.connection() as conn: conn.execute("SELECT 1")
reader = InMemoryMetricReader()
provider = MeterProvider([reader])
metrics.set_meter_provider(provider)

def look():
    for scope in reader.get_metrics_data().resource_metrics[0].scope_metrics:
        for metric in scope.metrics:
            for point in metric.data.data_points:
                if metric.name.endswith(("connection.max", "use_time")):
                    yield metric.name[21:], getattr(point, "value", None) or point.count

with pool.connection() as conn: conn.execute("SELECT 1")
print(sorted(look()))
otel.uninstrument()
otel.instrument(provider)  # by name what was the global one
with pool.connection() as conn: conn.execute("SELECT 1")
print(sorted(look()))
"""


def test_the_global_provider_may_come_later(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", GLOBAL],
        capture_output=True, text=True, timeout=60, cwd=tmp_path,
    )  # fmt: skip

    assert ran.stderr == ""
    assert ran.stdout.splitlines() == [
        "[('max', 10), ('use_time', 1)]",
        "[('max', 10), ('use_time', 2)]",
    ]


def test_the_entry_point_is_an_instrumentor(make_pool: MakePool, provider: MeterProvider) -> None:
    points = metadata.entry_points(group="opentelemetry_instrumentor")
    [point] = [point for point in points if point.name == "dbapi-pool"]
    instrumentor = point.load()()
    instrumentor.instrument(meter_provider=provider, skip_dep_check=True)
    seen = Seen(provider.reader)  # type: ignore[attr-defined]
    use(make_pool(name="entered"))
    assert seen.times(f"{ITS}use_time", "entered").count == 1
    instrumentor.uninstrument()
    assert seen.points(f"{ITS}max", "entered") == []
    assert instrumentor.instrumentation_dependencies() == ("dbapi-pool",)


def test_with_many_threads_on_sqlite3_nothing_is_lost(tmp_path: Path, seen: Seen) -> None:
    threads, rounds = 6, 50
    with Pool(sqlite3, str(tmp_path / "a.db"), max_size=3, name="threads") as pool:

        def work() -> None:
            for _ in range(rounds):
                with pool.connection() as conn:
                    conn.execute("SELECT 1").fetchall()

        workers = [threading.Thread(target=work) for _ in range(threads)]
        for worker in workers:
            worker.start()
        while any(worker.is_alive() for worker in workers):
            states = [p.value for p in seen.points(f"{ITS}count", "threads")]
            assert sum(states) <= 3
        for worker in workers:
            worker.join()

        wait, used = (seen.times(f"{ITS}{name}_time", "threads") for name in ("wait", "use"))
        assert wait.count == used.count == threads * rounds == pool.stats().checkouts
        assert seen.times(f"{OURS}clean_time", "threads").count == threads * rounds
        assert seen.times(f"{ITS}create_time", "threads").count == pool.stats().opened


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_after_a_fork_the_child_counts_for_itself(tmp_path: Path, seen: Seen) -> None:
    with Pool(sqlite3, str(tmp_path / "a.db"), max_size=2, name="forked") as pool:
        with pool.connection(), pool.connection():
            pass
        use(pool)
        assert seen.value(f"{ITS}count", "forked", **{f"{ITS}state": "idle"}) == 2
        child = os.fork()
        if not child:
            code = 1
            try:
                idle = seen.value(f"{ITS}count", "forked", **{f"{ITS}state": "idle"})
                use(pool)
                after = seen.value(f"{ITS}count", "forked", **{f"{ITS}state": "idle"})
                another = Pool(sqlite3, str(tmp_path / "a.db"), name="childs")
                use(another)
                counted = seen.times(f"{ITS}use_time", "childs").count
                code = 0 if (idle, after, counted) == (0, 1, 1) else 1
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert seen.value(f"{ITS}count", "forked", **{f"{ITS}state": "idle"}) == 2


def test_the_document_has_every_metric_with_its_kind_and_unit(
    make_pool: MakePool, seen: Seen
) -> None:
    pool = make_pool(max_size=1)
    use(pool)
    with suppress(PoolTimeout):
        with pool.connection():
            pool.connection(timeout=0)
    pool.drain()
    text = (ROOT / "docs/telemetry.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `(db\.client\.\S+)` \| (.*? \| `\S+`) \|", text, re.MULTILINE))
    kinds = {True: "counter", False: "up-down counter"}

    assert rows == {
        name: f"{kinds.get(getattr(it.data, 'is_monotonic', None), 'histogram')} | `{it.unit}`"
        for name, it in seen.metrics().items()
    }


# -- spans ----------------------------------------------------------------------------------------


def test_without_being_asked_for_there_are_no_spans(make_pool: MakePool, seen: Seen) -> None:
    pool = make_pool(max_size=1)
    with pool.connection():
        with suppress(PoolTimeout):
            pool.connection(timeout=0)
    [times] = otel._current.listeners if otel._current else [None]
    assert not hasattr(times, "dbapi_pool_refused")


def test_who_waits_gets_a_span_in_the_own_trace_and_who_does_not_gets_none(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock, spans: InMemorySpanExporter
) -> None:
    tracer = spans.provider.get_tracer("test")  # type: ignore[attr-defined]
    pool = make_pool(max_size=1, name="traced")
    use(pool)
    assert [span.name for span in spans.get_finished_spans()] == ["dbapi_pool.connect"]
    spans.clear()
    use(pool)
    assert spans.get_finished_spans() == ()
    held = pool.connection()

    def ask() -> None:
        with tracer.start_as_current_span("request"):
            use(pool)

    waiting = clock.start(ask)
    clock.advance(2.0)
    held.close()
    waiting.result()

    wait, request = spans.get_finished_spans()
    assert (wait.name, request.name) == ("dbapi_pool.wait", "request")
    assert wait.parent is not None
    assert request.context is not None
    assert wait.parent.span_id == request.context.span_id
    assert wait.end_time is not None
    assert wait.start_time is not None
    assert (wait.end_time - wait.start_time) / 1e9 == pytest.approx(2.0)
    assert dict(wait.attributes or {}) == {NAME: "traced"}
    assert wait.kind is SpanKind.INTERNAL
    assert wait.status.status_code is StatusCode.UNSET


def test_in_vain_is_an_error_with_its_name(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock, spans: InMemorySpanExporter
) -> None:
    pool = make_pool(max_size=1, name="vain")
    fake.on("connect", delay=0.5, error=fake.ProgrammingError("canary"), times=1)
    with suppress(fake.ProgrammingError):
        pool.connection()
    connect, wait = spans.get_finished_spans()
    assert (connect.name, connect.kind) == ("dbapi_pool.connect", SpanKind.CLIENT)
    assert connect.parent is None  # an opener serves whoever comes first
    for span, error in ((connect, "ProgrammingError"), (wait, "Error")):
        assert span.status.status_code is StatusCode.ERROR
        assert (span.attributes or {})["error.type"] == error
        assert "canary" not in span.to_json()


def test_a_local_driver_connects_in_the_borrowers_trace(
    tmp_path: Path, spans: InMemorySpanExporter
) -> None:
    tracer = spans.provider.get_tracer("test")  # type: ignore[attr-defined]
    with Pool(sqlite3, str(tmp_path / "a.db")) as pool:
        with tracer.start_as_current_span("request") as request:
            assert trace.get_current_span() is request
            use(pool)
    connect = next(s for s in spans.get_finished_spans() if s.name == "dbapi_pool.connect")
    assert connect.parent is not None
    assert connect.parent.span_id == request.get_span_context().span_id
