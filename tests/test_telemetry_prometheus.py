"""Prometheus: what a scrape says, read by its own parsers; the dashboard, against what is exported."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_strictly
from prometheus_client.parser import text_string_to_metric_families as parse

from dbapi_pool import Pool, PoolFull, PoolStats, PoolTimeout
from dbapi_pool.telemetry import prometheus
from dbapi_pool.testing import FakeDriver, VirtualClock

MakePool = Callable[..., Pool]
ROOT = Path(__file__).parents[1]


class Scrape:
    """A registry with the collector, and what it shows."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.collector = prometheus.register(self.registry)

    def families(self) -> dict[str, Metric]:
        text = generate_latest(self.registry).decode()
        return {family.name: family for family in parse(text)}

    def samples(self, pool: str) -> dict[tuple[str, ...], float]:
        """By name and the values of the other labels."""
        found = {}
        for family in self.families().values():
            for name, labels, value, *_ in family.samples:
                if labels["pool"] == pool:
                    others = [it for key, it in sorted(labels.items()) if key != "pool"]
                    assert (name, *others) not in found
                    found[(name, *others)] = value
        return found

    def value(self, name: str, pool: str, *others: str) -> float:
        return self.samples(pool)[(f"dbapi_pool_{name}", *others)]


@pytest.fixture
def scrape() -> Scrape:
    return Scrape()


def use(pool: Pool) -> None:
    with pool.connection() as conn:
        conn.cursor().execute("SELECT 1")


def test_every_figure_of_the_picture_is_there_and_true(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock, scrape: Scrape
) -> None:
    pool = make_pool(max_size=2, min_size=1, max_idle=1, max_waiting=1, leak_after=3.0, name="all")
    fake.on("connect", delay=0.3)
    first, second = pool.connection(), pool.connection()
    first.cursor().execute("SELECT 1")
    waiting = clock.start(pool.connection, 60.0)
    clock.advance(5.0)
    with suppress(PoolFull):
        pool.connection(timeout=1.0)
    seen, stats = scrape.samples("all"), pool.stats()

    def value(name: str, *others: str) -> float:
        return seen[(f"dbapi_pool_{name}", *others)]

    for state in ("idle", "in_use", "opening", "checking", "cleaning", "closing"):
        assert value("connections", state) == getattr(stats, state)
    plain = {
        "open_connections": stats.size, "min_connections": 1, "max_connections": 2,
        "max_idle_connections": 1, "waiting_requests": 1, "suspended": 0,
        "checkouts_total": 2, "waits_total": stats.waits, "waits_in_vain_total": 0,
        "timeouts_total": 0, "opened_total": 2, "connect_errors_total": 0, "leaked_total": 2,
    }  # fmt: skip
    assert {name: value(name) for name in plain} == plain
    assert value("refused_total", "PoolFull") == 1
    assert value("refused_total", "PoolTimeout") == 0  # there from the beginning
    assert value("connect_seconds_count") == 2
    assert value("connect_seconds_sum") == pytest.approx(0.6, abs=0.31)
    assert value("health") == 2.0  # half of max_size are overdue
    first.close()
    second.close()
    waiting.result().close()
    clock.run()
    pool.suspend()
    assert scrape.value("suspended", "all") == 1
    assert scrape.value("hold_seconds_count", "all") == 1
    assert scrape.value("hold_seconds_sum", "all") == pytest.approx(5.3, abs=0.31)
    assert scrape.value("closed_total", "all", "surplus") == pool.stats().closed.get("surplus", 0)


def test_no_field_of_the_picture_is_forgotten(make_pool: MakePool, scrape: Scrape) -> None:
    make_pool(name="fields")
    names = {name for name, *_ in scrape.samples("fields")}
    where = {
        "name": "dbapi_pool_max_connections",  # as a label
        "state": "dbapi_pool_suspended",  # closed ones are not shown
        "min_size": "dbapi_pool_min_connections",
        "max_size": "dbapi_pool_max_connections",
        "size": "dbapi_pool_open_connections",
        "waiting": "dbapi_pool_waiting_requests",
        "wait_time": "dbapi_pool_wait_seconds_sum",
        "wait": "dbapi_pool_wait_seconds_bucket",
        "connect": "dbapi_pool_connect_seconds_bucket",
        "hold": "dbapi_pool_hold_seconds_bucket",
    }
    states = {"idle", "in_use", "opening", "checking", "cleaning", "closing"}
    for field in fields(PoolStats):
        if field.name in states:
            assert ("dbapi_pool_connections", field.name) in scrape.samples("fields")
        else:
            assert where.get(field.name, f"dbapi_pool_{field.name}_total") in names


def test_who_finds_one_idle_is_in_the_first_bucket_and_the_sum_is_what_the_others_waited(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock, scrape: Scrape
) -> None:
    pool = make_pool(max_size=1, name="fast")
    for _ in range(5):
        use(pool)
    held = pool.connection()
    waiting = clock.start(use, pool)
    with suppress(PoolTimeout):
        clock.start(pool.connection, 0.3).result()
    clock.advance(3.0)
    held.close()
    waiting.result()

    def upto(bound: str) -> float:
        return scrape.value("wait_seconds_bucket", "fast", bound)

    # Of 7 lent the first waited for a connect (that took no time), and the last for 3.3 s.
    assert (upto("1e-05"), upto("0.2"), upto("0.5"), upto("2.0"), upto("5.0")) == (6, 6, 7, 7, 8)
    assert upto("+Inf") == scrape.value("wait_seconds_count", "fast") == 8
    assert scrape.value("wait_seconds_sum", "fast") == pytest.approx(3.6)
    assert scrape.value("waits_in_vain_total", "fast") == 1


def test_counters_never_go_back_while_threads_borrow(tmp_path: Path, scrape: Scrape) -> None:
    """Or Prometheus would take it for a restart, and count everything again."""
    with Pool(sqlite3, str(tmp_path / "a.db"), max_size=2, max_uses=7, name="steady") as pool:

        def work() -> None:
            for _ in range(300):
                use(pool)

        workers = [threading.Thread(target=work) for _ in range(6)]
        for worker in workers:
            worker.start()
        last: dict[tuple[str, ...], float] = {}
        while any(worker.is_alive() for worker in workers):
            seen = scrape.samples("steady")
            rising = [
                key for key in seen if key[0].endswith(("_total", "_bucket", "_count", "_sum"))
            ]
            assert [key for key in rising if seen[key] < last.get(key, 0)] == []
            last = seen
        for worker in workers:
            worker.join()
        assert scrape.value("wait_seconds_count", "steady") == pool.stats().checkouts == 1800


def test_the_strict_parser_of_openmetrics_reads_it_too(make_pool: MakePool, scrape: Scrape) -> None:
    use(make_pool(name='odd "name"\nwith \\ everything'))
    text = openmetrics.generate_latest(scrape.registry).decode()
    families = list(parse_strictly(text))
    names = {s.labels["pool"] for family in families for s in family.samples}

    assert 'odd "name"\nwith \\ everything' in names
    assert {family.type for family in families} == {"gauge", "counter", "histogram"}


UNITS = ("seconds", "connections", "requests")
# What promlint, of Prometheus' own tools, complains of.
FORBIDDEN = re.compile(
    r"gauge|counter|histogram|summary|untyped|_info$|[A-Z]|:|__"
    r"|_(milliseconds|ms|minutes|hours|days|bits|kilobytes|percent|sec|secs)(_|$)"
)


def test_names_follow_the_rules(make_pool: MakePool, scrape: Scrape) -> None:
    """https://prometheus.io/docs/practices/naming/"""
    use(make_pool(name="rules"))
    families = scrape.families()
    assert families
    for name, family in families.items():
        assert re.fullmatch(r"dbapi_pool_[a-z_]+", name)
        assert not FORBIDDEN.search(name), name
        assert family.documentation.endswith(".")
        assert not name.endswith(("_total", "_count", "_sum", "_bucket"))
        if family.type == "counter":
            assert all(s.name == f"{name}_total" for s in family.samples)
        elif family.type == "histogram":
            assert name.endswith("_seconds")
        else:
            assert name.endswith(UNITS) or name in ("dbapi_pool_health", "dbapi_pool_suspended")


@pytest.fixture
def promtool() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Prometheus' own checks, where its tool is at hand."""
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("promtool, of Prometheus, is not on the PATH")

    def run(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [tool, *arguments], input=text, capture_output=True, text=True, timeout=60
        )

    return run


def test_promtool_has_nothing_to_say_of_the_metrics(
    make_pool: MakePool, scrape: Scrape, promtool: Callable[..., Any]
) -> None:
    use(make_pool(name="judged"))
    ran = promtool("check", "metrics", text=generate_latest(scrape.registry).decode())

    assert (ran.stdout, ran.stderr, ran.returncode) == ("", "", 0)


def test_promtool_understands_every_expression_of_the_dashboard(
    tmp_path: Path, promtool: Callable[..., Any]
) -> None:
    board = dashboard()
    found = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    rules = [
        {"record": f"rule:{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, expression in enumerate(found)
    ]
    file = tmp_path / "rules.json"  # which is YAML, too
    file.write_text(json.dumps({"groups": [{"name": "all", "rules": rules}]}), "utf-8")
    ran = promtool("check", "rules", str(file))

    assert ran.returncode == 0, ran.stderr
    assert f"SUCCESS: {len(found)} rules found" in ran.stdout


def test_labels_have_few_values_and_these_are_known(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock, scrape: Scrape
) -> None:
    pool = make_pool(max_size=1, name="few")
    before = scrape.samples("few").keys()
    for error in (fake.ProgrammingError("canary"), KeyboardInterrupt(), OSError("canary")):
        fake.on("connect", error=error, times=1)
        with suppress(BaseException):
            pool.connection(timeout=1.0)
    fake.calm()
    use(pool)
    pool.drain()
    with pool.connection() as conn:
        conn.invalidate()
    pool.connection().detach().close()

    assert scrape.samples("few").keys() == before
    assert len(before) < 140
    text = generate_latest(scrape.registry).decode()
    assert "canary" not in text


def test_all_reasons_and_errors_are_those_of_the_reference() -> None:
    text = (ROOT / "docs/reference.md").read_text("utf-8")
    table = text.partition("## Reasons")[2]
    rows = re.findall(r"^\| (`.*?`) \| .* \|$", table, re.MULTILINE)
    reasons = {reason for row in rows for reason in re.findall(r"`([a-z ]+)`", row)}

    assert set(prometheus.REASONS) == reasons
    source = (ROOT / "dbapi_pool/stats.py").read_text("utf-8")
    named = source.partition("by the name of the error:")[2].partition('"""')[0]
    assert set(prometheus.ERRORS) == set(re.findall(r"\b(Pool\w+|Error|Interrupted)\b", named))


def test_pools_of_one_name_are_told_apart_and_closed_ones_are_not_shown(
    make_pool: MakePool, scrape: Scrape
) -> None:
    first, second = make_pool(max_size=3, name="namesakes"), make_pool(max_size=4, name="namesakes")
    sizes = {scrape.value("max_connections", name) for name in ("namesakes", "namesakes-2")}
    assert sizes == {3, 4}
    first.close()
    second.close()
    assert scrape.samples("namesakes") == scrape.samples("namesakes-2") == {}


def test_a_second_collector_in_one_registry_is_refused(scrape: Scrape) -> None:
    with pytest.raises(ValueError, match="Duplicated"):
        prometheus.register(scrape.registry)
    scrape.registry.unregister(scrape.collector)
    assert scrape.families() == {}
    prometheus.register(scrape.registry)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_after_a_fork_the_child_counts_for_itself(tmp_path: Path, scrape: Scrape) -> None:
    with Pool(sqlite3, str(tmp_path / "a.db"), name="child") as pool:
        for _ in range(9):
            use(pool)
        assert scrape.value("wait_seconds_count", "child") == 9
        child = os.fork()
        if not child:
            code = 1
            try:
                use(pool)
                use(pool)
                counted = scrape.value("wait_seconds_count", "child")
                code = 0 if counted == scrape.value("checkouts_total", "child") == 2 else 1
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_document_has_every_metric_with_its_kind_and_label(
    make_pool: MakePool, scrape: Scrape
) -> None:
    make_pool(name="documented")
    text = (ROOT / "docs/telemetry.md").read_text("utf-8")
    rows = re.findall(r"^\| `(dbapi_pool_\w+)(\{\w+\})?` \| (\w+) \|", text, re.MULTILINE)
    exported = []
    for name, family in scrape.families().items():
        [*others] = set(family.samples[0].labels) - {"pool", "le"}
        label = f"{{{others[0]}}}" if others else ""
        exported.append((name + "_total" * (family.type == "counter"), label, family.type))

    assert sorted(rows) == sorted(exported)


# -- the dashboard --------------------------------------------------------------------------------


def dashboard() -> dict[str, Any]:
    file = resources.files("dbapi_pool.telemetry") / "grafana.json"
    found: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return found


def expressions() -> list[str]:
    """Of every panel, and of the variables."""
    board = dashboard()
    found = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    return [
        *found,
        *(one["definition"] for one in board["templating"]["list"] if "definition" in one),
    ]


FROM_PROMETHEUS = {"job", "instance"}  # added when it scrapes


def known(scrape: Scrape) -> dict[str, set[str]]:
    """The labels of every sample that is exported."""
    labels: dict[str, set[str]] = {}
    for family in scrape.families().values():
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
    return labels


def complaints(expression: str, exported: dict[str, set[str]]) -> list[str]:
    """Metrics and labels in it that are not exported."""
    wrong = []
    metrics = re.findall(r"\bdbapi_pool_\w+", expression)
    labels: set[str] = set()
    for metric in metrics:
        if metric not in exported:
            wrong.append(metric)
        labels |= exported.get(metric, set())
    used = set(re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"', expression))
    for group in re.findall(r"\b(?:by|without)\s*\(([^)]*)\)", expression):
        used |= {name.strip() for name in group.split(",")}
    for name in re.findall(r"label_values\(.*,\s*(\w+)\)$", expression):
        used.add(name)
    if not metrics:
        wrong.append("no metric")
    return [*wrong, *sorted(used - labels - FROM_PROMETHEUS)]


@pytest.mark.parametrize("expression", expressions())
def test_the_dashboard_names_only_what_is_exported(
    make_pool: MakePool, scrape: Scrape, expression: str
) -> None:
    use(make_pool(name="shown"))

    assert complaints(expression, known(scrape)) == []
    assert expression.count("(") == expression.count(")")
    assert expression.count("{") == expression.count("}")


@pytest.mark.parametrize(
    ("expression", "wrong"),
    [
        ("sum by (pool) (dbapi_pool_conections)", ["dbapi_pool_conections", "pool"]),
        ("sum by (pol) (dbapi_pool_health)", ["pol"]),
        ('dbapi_pool_health{reason="idle"}', ["reason"]),
        ("label_values(dbapi_pool_health, name)", ["name"]),
        ("rate(dbapi_pool_closed[5m])", ["dbapi_pool_closed"]),
        ("vector(1)", ["no metric"]),
    ],
)
def test_a_mistake_in_the_dashboard_would_be_found(
    make_pool: MakePool, scrape: Scrape, expression: str, wrong: list[str]
) -> None:
    make_pool(name="shown")

    assert complaints(expression, known(scrape)) == wrong


def test_the_dashboard_shows_every_metric_and_uses_rates_for_what_only_rises(
    make_pool: MakePool, scrape: Scrape
) -> None:
    make_pool(name="shown")
    everything = "\n".join(expressions())
    families = scrape.families()

    assert [name for name in families if name not in everything] == []
    for name in re.findall(r"(.{0,9})(dbapi_pool_\w+_(?:total|bucket|sum|count))\b", everything):
        assert name[0].endswith(("rate(", "increase(")), name


def test_the_dashboard_can_be_imported_anywhere() -> None:
    board = dashboard()
    panels = board["panels"]

    assert len({panel["id"] for panel in panels}) == len(panels)
    assert {"Health", "Connections by state", "Leaks"} <= {panel["title"] for panel in panels}
    for panel in panels:
        assert panel["datasource"]["uid"] == "${datasource}"
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
    variables = {one["name"] for one in board["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(panels)))
    assert used - {"__rate_interval"} <= variables
