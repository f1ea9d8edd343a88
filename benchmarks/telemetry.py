"""What it costs a borrower that somebody watches: `python -m benchmarks.telemetry`.

One thread, by turns within one run, as `measuring` has it. Needs `opentelemetry-sdk` and
`prometheus-client`.
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry, generate_latest

from dbapi_pool import Pool
from dbapi_pool.telemetry import otel, prometheus

from . import report
from .drivers import Fake
from .measuring import Loop, Row, cpu_ns, median, no_collector

SELECT = "SELECT 1"
NOBODY = "nobody listens"


class Watch(NamedTuple):
    """One way to watch: switched on, off, and what a look takes."""

    on: Callable[[], object]
    off: Callable[[], object]
    look: Callable[[], object] | None = None


def watches() -> dict[str, Watch]:
    """All ways, with fresh providers and registries."""
    reader, registry = InMemoryMetricReader(), CollectorRegistry()
    meters, tracers = MeterProvider([reader]), TracerProvider()
    collector = prometheus.PoolCollector()
    return {
        NOBODY: Watch(lambda: None, lambda: None),
        "Prometheus": Watch(
            lambda: registry.register(collector),
            lambda: registry.unregister(collector),
            lambda: generate_latest(registry),
        ),
        "OpenTelemetry": Watch(
            lambda: otel.instrument(meters), otel.uninstrument, reader.get_metrics_data
        ),
        "OpenTelemetry, with spans": Watch(
            lambda: otel.instrument(meters, tracers, spans=True), otel.uninstrument
        ),
    }


@contextmanager
def loops() -> Iterator[dict[str, Loop]]:
    """A cycle on a driver whose calls do nothing, one with a statement, and one on sqlite3."""
    fake = Pool(Fake().connect, max_size=1, name="fake")
    real = Pool(sqlite3, ":memory:", max_size=1, name="sqlite3")

    def cycles(n: int) -> None:
        for _ in range(n):
            fake.connection().close()

    def statements(pool: Pool) -> Loop:
        def loop(n: int) -> None:
            for _ in range(n):
                conn: Any = pool.connection()
                cursor = conn.cursor()
                cursor.execute(SELECT)
                cursor.fetchone()
                conn.close()

        return loop

    with fake, real:
        yield {
            "idle, fake driver": cycles,
            "one statement, fake driver": statements(fake),
            "one statement, sqlite3": statements(real),
        }


def measured(rounds: int, steps: int) -> list[Row]:
    """Nanoseconds, and how many times what it is while nobody listens."""
    ways = watches()
    with loops() as kinds:
        times = {(way, kind): list[float]() for way in ways for kind in kinds}
        looks = {way: list[float]() for way in ways}
        with no_collector():
            for _ in range(rounds):
                for way, watch in ways.items():
                    watch.on()
                    for kind, loop in kinds.items():
                        loop(steps // 10)
                        times[way, kind].append(cpu_ns(loop, steps))
                    if watch.look is not None:
                        looks[way].append(cpu_ns(_repeated(watch.look), 20))
                    watch.off()
        return [_row(way, list(kinds), times, looks[way]) for way in ways]


def _repeated(act: Callable[[], object]) -> Loop:
    def loop(n: int) -> None:
        for _ in range(n):
            act()

    return loop


def _row(
    way: str, kinds: list[str], times: dict[tuple[str, str], list[float]], looks: list[float]
) -> Row:
    row: Row = {"": way}
    for kind in kinds:
        own, none = times[way, kind], times[NOBODY, kind]
        ratio = statistics.median(a / b for a, b in zip(own, none, strict=True))
        row[kind] = f"{median(own):,.0f} ns ({ratio:.2f}x)"
    row["a look at both pools"] = f"{median(looks) / 1e6:.2f} ms" if looks else None
    return row


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and show or write what was found."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.telemetry", description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--steps", type=int, default=4_000, help="cycles in each round")
    parser.add_argument(
        "--write", metavar="FILE", type=Path, help="renew the table of this document"
    )
    chosen = parser.parse_args(arguments)
    table = report.table(measured(chosen.rounds, chosen.steps))
    print(table)
    if chosen.write:
        text = chosen.write.read_text("utf-8")
        chosen.write.write_text(report.written(text, {"cost": table}), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
