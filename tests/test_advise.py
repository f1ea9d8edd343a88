"""`dbapi-pool advise`: the plan without a server, the simulation, and the command on real databases."""

from __future__ import annotations

import configparser
import heapq
import importlib
import json
import os
import re
import shlex
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import bouncers
import pytest
import servers
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from dbapi_pool import Options, sizing
from dbapi_pool.cli.advise import report
from dbapi_pool.cli.advise.command import sizes_around
from dbapi_pool.cli.advise.plan import Bound, Place, Plan, Remark
from dbapi_pool.cli.advise.pooler import pooler_for
from dbapi_pool.cli.advise.simulation import Experiment, simulate
from dbapi_pool.cli.advise.workload import VARIATIONS, BadWorkload, Workload
from dbapi_pool.cli.app import app
from dbapi_pool.cli.bars import WIDTH, Bar, show_bars
from dbapi_pool.cli.database import Asked
from dbapi_pool.cli.limits import limits
from dbapi_pool.cli.picture import Line, Picture, draw
from dbapi_pool.cli.target import Target
from dbapi_pool.drivers.base import Driver
from dbapi_pool.drivers.facts import Server

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/advise.md"
SECRET = "s3cret/w%rd"

SERVER = Server(
    product="PostgreSQL",
    version="16.4",
    address="db.example.org:5432",
    max_connections=100,
    reserved_connections=3,
    user_connections=0,
    database_connections=0,
    connections=10,
    connections_of_others=9,
    others_in_database=2,
)
"""That of docs/advise.md: 97 sessions for programs, 9 of other users now."""

WORK = Workload(processes=8, rate=200.0, time=0.02, wait=0.02)


def planned(work: Workload = WORK, **changed: Any) -> Plan:
    place = {"server": SERVER, "reserve": 3, "cores": 16}
    facts = {name: changed.pop(name) for name in list(changed) if name not in ("reserve", "cores")}
    return Plan(work, Place(**{**place, **changed, "server": replace(SERVER, **facts)}))


def rules(plan: Plan) -> list[str]:
    return [remark.rule for remark in plan.remarks]


def invoke(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(app, ["advise", *arguments], env=environment)


def advised(*arguments: str, **environment: str) -> Any:
    """The JSON document."""
    result = invoke("--json", *arguments, **environment)
    assert result.exit_code in (0, 1), result.output
    return json.loads(result.stdout)


SMALL = ("--processes", "2", "--rate", "50", "--time", "0.02")

# -- limits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("server", "whose", "left"),
    [
        ({}, "all sessions", 88),
        ({"connections_of_others": None}, "all sessions", 97),
        ({"reserved_connections": None}, "all sessions", 91),
        ({"user_connections": 50}, "this user's sessions", 50),
        ({"database_connections": 30}, "sessions in this database", 28),
        ({"user_connections": 50, "database_connections": 60}, "this user's sessions", 50),
        ({"connections_of_others": 200}, "all sessions", 0),
        ({"user_connections": 500, "database_connections": 500}, "all sessions", 88),
    ],
)
def test_the_tightest_limit_is_what_a_user_may_have(
    server: dict[str, Any], whose: str, left: int
) -> None:
    tightest = limits(replace(SERVER, **server))[0]

    assert (tightest.whose, tightest.left) == (whose, left)


@pytest.mark.parametrize("server", [{"max_connections": None}, {"pooler": "PgBouncer"}])
def test_where_nothing_is_told_or_a_pooler_stands_between_there_is_no_limit(
    server: dict[str, Any],
) -> None:
    assert list(limits(replace(SERVER, **server))) == []
    assert planned(**server).budget is None


# -- the plan -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("work", "changed", "size", "decides"),
    [
        ({}, {}, 7, "wait"),
        ({"wait": 10.0}, {}, 5, "wait"),  # as many as are busy on average, and one
        ({"threads": 6}, {}, 6, "threads"),
        ({"threads": 9}, {}, 7, "wait"),
        ({"threads": 16, "per_task": 2, "rate": 10.0}, {"max_connections": 300}, 17, "deadlock"),
        ({"hosts": 2}, {}, 5, "server"),
        ({"hosts": 2}, {"reserve": 0}, 5, "server"),
        ({"hosts": 2}, {"reserve": 8}, 5, "server"),
        ({"hosts": 2}, {"reserve": 9}, 4, "server"),
        ({"hosts": 2}, {"max_connections": 300}, 7, "wait"),
        ({"hosts": 100}, {}, 0, "server"),
        ({}, {"user_connections": 20}, 2, "server"),
        ({}, {"max_connections": None}, 7, "wait"),
    ],
)
def test_one_bound_decides(
    work: dict[str, Any], changed: dict[str, Any], size: int, decides: str
) -> None:
    plan = planned(replace(WORK, **work), **changed)

    assert (plan.size, plan.decides.name) == (size, decides)


@settings(max_examples=200, deadline=None)
@given(
    processes=st.integers(1, 40),
    rate=st.floats(0.1, 2000),
    time=st.floats(0.0005, 1.0),
    wish=st.floats(0.1, 20.0),
    threads=st.none() | st.integers(1, 64),
    per_task=st.integers(1, 3),
    most=st.integers(5, 3000),
    others=st.integers(0, 50),
    reserve=st.integers(0, 20),
    distribution=st.sampled_from(sorted(VARIATIONS)),
)
def test_a_plan_keeps_every_bound_and_wastes_nothing(
    processes: int, rate: float, time: float, wish: float, threads: int | None, per_task: int,
    most: int, others: int, reserve: int, distribution: str,
) -> None:  # fmt: skip
    threads = threads or (8 if per_task > 1 else None)
    work = Workload(processes, rate, time, wish * time, 1, threads, per_task, distribution)
    plan = planned(work, max_connections=most, connections_of_others=others, reserve=reserve)
    room = max(0, max(0, max(0, most - 3) - others) - reserve)

    assert plan.size * processes <= room
    assert plan.decides in plan.bounds
    assert plan.size == min(plan.needed, room // processes)
    if threads is not None:
        assert plan.needed <= threads * per_task
        assert plan.needed >= sizing.deadlock_floor(threads, per_task)
    if plan.decides.name == "wait":
        assert work.longest_wait(plan.size) <= work.wait
        assert plan.size == 1 or work.longest_wait(plan.size - 1) > work.wait
    assert ("does_not_fit" in rules(plan)) == (plan.needed * processes > room)
    if plan.size:
        Options(**plan.settings)
    pooler = pooler_for(plan)
    if pooler is not None:
        assert not plan.fits
        assert work.load * work.fleet < pooler.sessions <= room
        Options(**pooler.settings)


def test_what_is_set_is_as_many_as_are_busy_kept_open_and_an_end_of_waiting() -> None:
    assert planned().settings == {"max_size": 7, "min_size": 4, "checkout_timeout": 1.0}
    assert planned(replace(WORK, rate=1.0)).settings == {"max_size": 1, "checkout_timeout": 1.0}
    assert planned(replace(WORK, wait=0.4)).settings["checkout_timeout"] == 8.0
    assert planned(replace(WORK, wait=9.0)).settings["checkout_timeout"] == 30.0


@pytest.mark.parametrize(
    ("work", "changed", "said"),
    [
        ({}, {}, []),
        ({"hosts": 2}, {"cores": 64}, ["does_not_fit"]),
        ({"hosts": 4}, {"cores": 64}, ["does_not_fit", "too_much"]),
        ({"threads": 4}, {}, ["too_few_threads"]),
        ({}, {"cores": 15}, ["too_few_cores"]),
        ({"rate": 100.0}, {"cores": 8}, ["more_than_cores"]),
        ({}, {"cores": None}, ["cores_unknown"]),
        ({}, {"pooler": "PgBouncer"}, ["pooler_between"]),
        ({}, {"max_connections": None}, ["limits_unknown"]),
        ({}, {"connections": 15}, ["sessions_of_this_user"]),
        ({}, {"product": "SQLite", "max_connections": None}, ["one_writer", "limits_unknown"]),
    ],
)
def test_what_there_is_to_say(
    work: dict[str, Any], changed: dict[str, Any], said: list[str]
) -> None:
    changed = {"cores": 28} | changed
    plan = planned(replace(WORK, **work), **changed)

    assert rules(plan) == said
    assert plan.ok == (not {"does_not_fit", "too_much", "too_few_threads"} & set(said))


@pytest.mark.parametrize(
    ("work", "changed", "text"),
    [
        ({"hosts": 2}, {}, "with 5 in each, one request in 100 waits longer than 80.3 ms"),
        ({"hosts": 2}, {"reserve": 20}, "with 4 in each, of which 4 would be busy on average"),
        ({"hosts": 100}, {}, "not even one for each process"),
        (
            {"rate": 10.0, "threads": 16, "per_task": 2},
            {},
            "with 10 in each, threads that hold some and want another wait for each other",
        ),
    ],
)
def test_what_is_there_is_told_of_where_it_is_too_little(
    work: dict[str, Any], changed: dict[str, Any], text: str
) -> None:
    [said] = [one for one in planned(replace(WORK, **work), **changed).remarks
              if one.rule == "does_not_fit"]  # fmt: skip

    assert text in said.reason


def test_the_sums_are_told() -> None:
    [bound] = [one for one in planned().bounds if one.name == "server"]

    assert bound.why == (
        "97 (max_connections 100, 3 of them reserved) - 9 of other users now - 3 in reserve = 85,"
        " over 8 processes"
    )
    assert bound.size == 10


def test_all_writers_of_sqlite_stand_in_one_line() -> None:
    plan = Plan(WORK, Place(Server("SQLite", "3.45"), local=True, cores=99))
    few = Plan(replace(WORK, rate=5.0), Place(Server("SQLite", "3.45"), local=True, cores=99))

    assert [(one.rule, one.severity) for one in plan.remarks] == [("one_writer", "advice")]
    assert (
        "32 are busy on average, of which 3% at most may be spent writing" in plan.remarks[0].text
    )
    assert [(one.rule, one.severity) for one in few.remarks] == [("one_writer", "note")]


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"per_task": 2}, "--per-task 2: how many are needed"),
        ({"rate": 1e6}, "--rate 1e+06 and --time 0.02: 20,000 connections would be busy"),
    ],
)
def test_numbers_that_cannot_be_meant_are_refused(changed: dict[str, Any], text: str) -> None:
    with pytest.raises(BadWorkload, match=re.escape(text)):
        replace(WORK, **changed)


# -- a pooler between -----------------------------------------------------------------------------


def ini_of(text: str) -> configparser.ConfigParser:
    parsed = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    parsed.read_string(text)
    return parsed


def test_pgbouncer_s_sums_are_right() -> None:
    plan = planned(replace(WORK, hosts=2))
    pooler = pooler_for(plan)

    assert pooler is not None
    ini = ini_of(pooler.configuration)["pgbouncer"]
    sessions = int(ini["default_pool_size"])
    assert 16 * 4 < sessions == int(ini["max_db_connections"]) <= 85
    assert plan.workload.longest_wait(sessions, 16) <= plan.workload.wait
    assert plan.workload.longest_wait(sessions - 1, 16) > plan.workload.wait
    assert int(ini["max_client_conn"]) == 16 * 7 + 10
    assert ini["pool_mode"] == "transaction"
    assert ini_of(pooler.configuration)["databases"]["*"] == "host=db.example.org port=5432"
    assert pooler.settings == {
        "max_size": 7, "min_size": 4, "checkout_timeout": 1.0, "reset": "transaction",
    }  # fmt: skip


def test_one_line_for_all_needs_fewer_than_a_line_for_each() -> None:
    pooler = pooler_for(planned(replace(WORK, hosts=2)))

    assert pooler is not None
    assert pooler.sessions < pooler.clients


@pytest.mark.parametrize(
    ("work", "changed"),
    [
        ({}, {}),  # it fits
        ({"hosts": 4}, {}),  # more are busy on average than there are
        ({"hosts": 2}, {"product": "Other"}),
        ({"hosts": 2}, {"product": "SQLite"}),
    ],
)
def test_no_pooler_is_advised_where_none_helps(
    work: dict[str, Any], changed: dict[str, Any]
) -> None:
    assert pooler_for(planned(replace(WORK, **work), **changed)) is None


def test_mysql_has_proxysql() -> None:
    work = replace(WORK, hosts=2)
    pooler = pooler_for(planned(work, product="MariaDB", address="db via TCP/IP"))

    assert pooler is not None
    assert pooler.name == "ProxySQL"
    assert "SET max_connections = 68 WHERE hostname = 'db';" in pooler.configuration
    assert "SET mysql-max_connections = 122;" in pooler.configuration
    assert "reset" not in pooler.settings


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("127.0.0.1:5432", "* = host=127.0.0.1 port=5432"),
        ("[::1]:5433", "* = host=::1 port=5433"),
        ("/run/postgresql", "* = host=/run/postgresql"),
        (None, "* = host=127.0.0.1"),
    ],
)
def test_pgbouncer_goes_where_the_driver_went(address: str | None, line: str) -> None:
    pooler = pooler_for(planned(replace(WORK, hosts=2), address=address))

    assert pooler is not None
    assert line in pooler.configuration.split("\n")


def test_requests_that_hold_two_may_deadlock_in_the_pooler_too() -> None:
    work = Workload(8, 10.0, 0.02, 0.02, hosts=2, threads=16, per_task=2)
    pooler = pooler_for(planned(work))

    assert pooler is not None
    assert pooler.sessions == 85
    assert "; fewer than 257: requests that hold some" in pooler.configuration


# -- the simulation -------------------------------------------------------------------------------


def by_recursion(experiment: Experiment, size: int) -> list[float]:
    """First come, first served: Kiefer and Wolfowitz."""
    free, waits = [0.0] * size, []
    for arrival, hold in zip(experiment.arrivals(), experiment.holds(), strict=True):
        start = max(arrival, free[0])
        heapq.heapreplace(free, start + hold)
        waits.append(start - arrival)
    return waits


@pytest.mark.parametrize("distribution", sorted(VARIATIONS))
@pytest.mark.parametrize("size", [1, 5, 12])
def test_the_pool_is_the_queue_that_the_formulas_are_about(size: int, distribution: str) -> None:
    """Request by request, if connecting takes no time."""
    work = Workload(1, 45.0 * size, 0.02, 0.02, distribution=distribution)
    experiment = Experiment(work, connect=0.0, requests=1500, seed=size)

    [found] = simulate(experiment, [size])

    assert found.waits == pytest.approx(by_recursion(experiment, size), abs=1e-9)
    assert found.opened == size


def test_the_simulated_waits_are_as_long_as_the_formula_s() -> None:
    """Within four standard errors over seeds, and as many are busy as Little's law says."""
    work = Workload(1, 150.0, 0.02, 0.02)
    found = [simulate(Experiment(work, 0.0, 3000, seed), [4])[0] for seed in range(12)]

    for name, expected in (
        ("mean", work.mean_wait(4)), ("waited", sizing.erlang_c(4, work.load)), ("busy", work.load),
    ):  # fmt: skip
        values = [getattr(one, name) for one in found]
        mean = sum(values) / len(values)
        error = (sum((one - mean) ** 2 for one in values) / (len(values) - 1) / len(values)) ** 0.5
        assert abs(mean - expected) < 4 * error
        assert error < 0.15 * expected


def test_the_same_seed_gives_the_same_figures_and_another_seed_others() -> None:
    first, again, other = (
        simulate(Experiment(WORK, 0.01, 400, seed), [5, 7]) for seed in (1, 1, 2)
    )

    assert first == again
    assert first != other


def test_a_slow_connect_is_waited_for_at_first() -> None:
    [quick], [slow] = (simulate(Experiment(WORK, connect, 400, 1), [7]) for connect in (1e-9, 0.5))

    assert slow.waits[0] == pytest.approx(0.5)
    assert slow.waits[0] > quick.waits[0]


def test_below_the_floor_requests_that_hold_two_deadlock_and_at_the_floor_they_do_not() -> None:
    work = Workload(1, 60.0, 0.05, 0.05, threads=6, per_task=2)
    experiment = Experiment(work, 0.001, 600, 1)

    below, at_floor = simulate(experiment, [2, sizing.deadlock_floor(6, 2)])

    assert below.deadlock
    assert below.p99 == float("inf")
    assert not at_floor.deadlock
    assert at_floor.p99 < float("inf")


@settings(deadline=None)
@given(
    rate=st.floats(0.5, 5000), processes=st.integers(1, 4), reserve=st.integers(0, 80),
    wish=st.floats(0.01, 30),
)  # fmt: skip
def test_the_sizes_that_are_simulated_are_few_and_have_the_recommended_one(
    rate: float, processes: int, reserve: int, wish: float
) -> None:
    plan = planned(Workload(processes, rate, 0.02, wish * 0.02), reserve=reserve)

    sizes = sizes_around(plan)

    assert sizes == sorted(set(sizes))
    assert 1 <= len(sizes) <= 12
    assert min(sizes) >= 1
    assert {plan.needed, plan.size or plan.needed} <= set(sizes)


# -- how it looks ---------------------------------------------------------------------------------


def shown(*bars: Bar, longest: float) -> list[str]:
    console = Console(width=80, force_terminal=False)
    with console.capture() as captured:
        show_bars(console, bars, longest)
    return captured.get().splitlines()


def test_bars_are_as_long_as_their_values() -> None:
    lines = shown(
        Bar("1", 30.0, "a"),
        Bar("10", 15.0, "b", inner=5.0),
        Bar("11", 0.0, "c"),
        Bar("12", 0.01, "d"),
        Bar("13", 40.0, "e"),
        Bar("14", float("inf"), "f", inner=float("inf")),
        longest=30.0,
    )

    assert lines == [
        " 1 " + "#" * WIDTH + " a",
        "10 " + ("#" * 5 + "=" * 10).ljust(WIDTH) + " b",
        "11 " + " " * WIDTH + " c",
        "12 " + "#".ljust(WIDTH) + " d",
        "13 " + "#" * (WIDTH - 1) + "> e",
        "14 " + "#" * (WIDTH - 1) + "> f",
    ]


def test_the_report_of_a_size_that_is_not_there_says_so() -> None:
    plan = planned(replace(WORK, hosts=100))
    console = Console(width=80, force_terminal=False)
    with console.capture() as captured:
        report.show(report.Report(Target(None), plan), console)

    assert "There is no session for each process" in captured.get()
    assert "Pool(" not in captured.get()
    assert captured.get().endswith("NOT OK see above\n")


def test_a_picture_is_the_same_for_the_same_numbers(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="only the picture needs it")
    picture = Picture(
        "title of it", "across", "up", [Line("a line", [(1, 0.5), (2, 0.0), (3, float("inf"))])],
        levels=[("a level", 0.1)], mark=("a mark", 2), logarithmic=True,
    )  # fmt: skip

    files = [tmp_path / "one.svg", tmp_path / "two.svg"]
    for file in files:
        draw(picture, file)

    text = files[0].read_text("utf-8")
    assert text == files[1].read_text("utf-8")
    for word in "title of it", "a line", "a level", "a mark", "across":
        assert word in text


# -- the command ----------------------------------------------------------------------------------


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("CREATE TABLE t (x)")
        conn.commit()
    return path


def url_of(path: Path) -> str:
    return f"sqlite:///{quote(path.as_posix())}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--processes", "0"), "'--processes': 0 is not in the range x>=1"),
        (("--rate", "0"), "'--rate': 0 is not in the range x>0"),
        (("--rate", "nan"), "'--rate': nan is not in the range x>0"),
        (("--rate", "many"), "'--rate': 'many' is not a number"),
        (("--time", "inf"), "'--time': inf is not in the range x>0"),
        (("--time", "-1"), "'--time': -1 is not in the range x>0"),
        (("--p99", "0"), "'--p99': 0 is not in the range x>0"),
        (("--reserve", "-1"), "'--reserve': -1 is not in the range x>=0"),
        (("--hosts", "0"), "'--hosts': 0 is not in the range x>=1"),
        (("--threads", "0"), "'--threads': 0 is not in the range x>=1"),
        (("--per-task", "2"), "--per-task 2: how many are needed"),
        (("--cores", "0"), "'--cores': 0 is not in the range x>=1"),
        (("--spindles", "-1"), "'--spindles': -1 is not in the range x>=0"),
        (("--timeout", "nan"), "'--timeout': nan is not in the range x>0"),
        (("--distribution", "normal"), "'--distribution': 'normal' is not one of"),
        (("--simulate", "--requests", "9"), "'--requests': 9 is not in the range"),
        (("--simulate", "--rate", "40000"), "--simulate: 808 connections are more than 500"),
        (("--seed", "3"), "--seed goes with --simulate"),
        (("--connect", "3"), "--connect goes with --simulate"),
        (("--simulate", "--plot", "x.png"), "'--plot': 'x.png' does not end in .svg"),
        (("--simulate", "--plot", "no/where/x.svg"), "'--plot': there is no folder 'no/where'"),
        (("--rate", "1e9"), "20,000,000 connections would be busy in one process"),
    ],
)
def test_bad_input_is_refused_with_its_name_and_value(
    arguments: tuple[str, ...], message: str, database: Path
) -> None:
    result = invoke(url_of(database), *SMALL, *arguments)

    assert result.exit_code == 2, result.output
    assert message in " ".join(result.stderr.replace("│", " ").split())


@pytest.mark.parametrize("missing", ["--processes", "--rate", "--time"])
def test_what_must_be_told_is_asked_for(missing: str, database: Path) -> None:
    given = [*SMALL]
    at = given.index(missing)
    del given[at : at + 2]

    result = invoke(url_of(database), *given)

    assert result.exit_code == 2
    assert f"Missing option '{missing}'" in result.stderr


def test_a_plot_without_matplotlib_is_refused_at_the_door(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    result = invoke(url_of(database), *SMALL, "--simulate", "--plot", str(tmp_path / "x.svg"))

    assert result.exit_code == 2
    assert "dbapi-pool[plot]" in result.stderr


def test_a_sqlite_file_is_advised_on_and_not_a_byte_of_it_changes(database: Path) -> None:
    before = database.read_bytes()

    document = advised(url_of(database), *SMALL)

    assert document["size"] == document["needed"] == 4
    assert document["budget"] is document["room"] is document["pooler"] is None
    assert [one["rule"] for one in document["remarks"]][0] == "one_writer"
    assert document["at_work"] == 2 * (os.cpu_count() or 0) + 1
    assert database.read_bytes() == before
    assert os.listdir(database.parent) == ["app.db"]


def test_the_wish_is_the_time_unless_it_is_told(database: Path) -> None:
    assert advised(url_of(database), *SMALL)["workload"]["wait"] == 0.02
    assert advised(url_of(database), *SMALL, "--p99", "0.5")["workload"]["wait"] == 0.5


def test_the_simulation_marks_the_size_that_is_recommended_and_draws_it(
    database: Path, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib", reason="only the picture needs it")
    file = tmp_path / "waits.svg"

    result = invoke(
        url_of(database), *SMALL, "--simulate", "--requests", "300", "--plot", str(file)
    )

    assert result.exit_code == 0, result.output
    [marked] = [line for line in result.stdout.splitlines() if line.endswith("<- recommended")]
    assert marked.split()[0] == "4"
    assert "recommended: 4" in file.read_text("utf-8")


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dbapi_pool", "advise", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**{k: v for k, v in os.environ.items() if k != "COLUMNS"}, **environment},
    )


def test_exit_codes_and_plain_text_where_there_is_no_terminal(database: Path) -> None:
    fine = run(
        url_of(database), *SMALL, "--simulate", "--requests", "200", PYTHONIOENCODING="ascii"
    )
    overloaded = run(url_of(database), *SMALL, "--threads", "1", "--rate", "100")
    nowhere = run(url_of(database.parent / "typo.db"), *SMALL)
    wrong = run("oracle://me:tiger@host/db", *SMALL)

    codes = [one.returncode for one in (fine, overloaded, nowhere, wrong)]
    assert codes == [0, 1, 2, 2]
    assert fine.stderr == ""
    assert "\x1b" not in fine.stdout
    tables = [line for line in fine.stdout.splitlines() if line.startswith(("|", "+"))]
    assert max(map(len, tables)) <= 80
    assert fine.stdout.endswith("OK it will work\n")
    assert overloaded.stdout.endswith("NOT OK see above\n")
    assert nowhere.stderr.startswith("Cannot connect: there is no file ")
    assert "tiger" not in wrong.stdout + wrong.stderr


def test_a_deadlock_is_shown_in_the_curve(database: Path) -> None:
    done = run(
        url_of(database), *SMALL, "--rate", "20", "--time", "0.05", "--threads", "6", "--per-task",
        "2", "--simulate", "--requests", "400",
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "Take max_size=7: the floor against deadlocks decides" in done.stdout
    curve = [line for line in done.stdout.splitlines() if re.match(r" *\d+ [#>]", line)]
    assert curve[0].endswith("deadlock: requests wait for each other")
    [marked] = [line for line in curve if line.endswith("<- recommended")]
    assert marked.split()[0] == "7"


def test_json_is_the_only_thing_on_standard_output_and_has_no_infinity(database: Path) -> None:
    done = run(
        url_of(database), *SMALL, "--json", "--simulate", "--requests", "200", "--rate", "100"
    )

    document = json.loads(done.stdout, parse_constant=lambda name: pytest.fail(name))
    assert done.stderr == ""
    assert [one["size"] for one in document["simulation"]["sizes"]] == [2, 3, 4, 5, 6, 7, 8]
    assert document["simulation"]["seed"] == 1


# -- the page -------------------------------------------------------------------------------------


def examples() -> list[tuple[str, str]]:
    """Each command of the page, and what it shows that it prints."""
    text = PAGE.read_text("utf-8")
    return re.findall(r"^    (dbapi-pool advise [^\n]+)\n\n```\n(.*?)```", text, re.M | re.S)


def test_the_page_has_examples() -> None:
    assert len(examples()) >= 2


@pytest.mark.parametrize("example", examples(), ids=lambda example: example[0][18:50])
def test_the_page_shows_what_is_printed(
    example: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Synthetic(Driver):
        def close(self, conn: Any) -> None:
            pass

    access = SimpleNamespace(driver=Synthetic(), connect=object, server=lambda conn: SERVER)
    monkeypatch.setattr(Asked, "access", lambda self: access)
    monkeypatch.setenv("DATABASE_URL", "postgresql://app:tiger@db.example.org/shop")
    monkeypatch.setenv("COLUMNS", "80")
    command, expected = example

    result = CliRunner().invoke(app, shlex.split(command)[1:])

    assert result.stdout == expected


def test_the_page_names_every_option_key_and_rule() -> None:
    text = PAGE.read_text("utf-8")
    options = [name for one in app.commands["advise"].params for name in one.opts]
    plan = planned(replace(WORK, hosts=2), cores=4)
    experiment = Experiment(WORK, 0.01, 100, 1)
    document = json.loads(
        report.as_json(
            report.Report(
                Target(None), plan, pooler_for(plan), experiment, simulate(experiment, [7])
            )
        )
    )
    words = {*document, *document["workload"], *document["pooler"], *document["simulation"]}
    words |= {*document["simulation"]["sizes"][0]}
    words |= {field.name for kind in (Bound, Remark) for field in fields(kind)}
    words |= {"wait", "average", "deadlock", "threads", "server"}
    words |= {rule for plan in every_remark() for rule in rules(plan)}

    assert [name for name in options if name.startswith("--") and f"`{name}" not in text] == []
    assert sorted(word for word in words if f"`{word}`" not in text) == []


def every_remark() -> Iterator[Plan]:
    yield planned(replace(WORK, hosts=4, threads=3), connections=30)
    yield planned(replace(WORK, rate=100.0), cores=8)
    yield planned(cores=None, pooler="PgBouncer")
    yield planned(cores=1, max_connections=None, product="SQLite")


def test_every_rule_is_in_the_page_s_test() -> None:
    from dbapi_pool.cli.advise import plan

    found = {rule for one in every_remark() for rule in rules(one)}
    assert found == {rule.__name__[1:] for rule in plan._RULES}


# -- real servers ---------------------------------------------------------------------------------

FLEET = ("--processes", "4", "--rate", "100", "--time", "0.02", "--reserve", "2")


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])
def test_a_postgresql_server_s_limits_are_read(driver: str, postgresql: servers.Server) -> None:
    servers.driver_module(driver)
    document = advised(*FLEET, DATABASE_URL=postgresql.url(driver))

    server = document["server"]
    assert server["max_connections"] == 60
    reserved = server["reserved_connections"]
    assert document["room"] == 60 - reserved - server["connections_of_others"] - 2
    assert document["budget"] == document["room"] // 4
    assert document["size"] == document["needed"] == 5
    assert document["at_work"] == 2 * (os.cpu_count() or 0) + 1
    assert SECRET not in json.dumps(document)


@pytest.fixture
def limited(postgresql: servers.Server) -> Iterator[str]:
    """A URL of a user with few sessions, in a database with fewer."""
    user = "advise_user"
    postgresql.query(f"CREATE ROLE {user} LOGIN PASSWORD '{SECRET}' CONNECTION LIMIT 14")
    postgresql.query(f"ALTER DATABASE {postgresql.other_database} CONNECTION LIMIT 9")
    rest = (
        postgresql.url("psycopg2")
        .rpartition("@")[2]
        .replace(f"/{postgresql.database}", f"/{postgresql.other_database}")
    )
    yield f"postgresql+psycopg2://{user}:{quote(SECRET, safe='')}@{rest}"
    postgresql.query(f"ALTER DATABASE {postgresql.other_database} CONNECTION LIMIT -1")
    postgresql.query(f"DROP ROLE {user}")


def test_the_limits_of_role_and_database_are_read(limited: str, postgresql: servers.Server) -> None:
    servers.driver_module("psycopg2")

    in_database = advised(*FLEET, DATABASE_URL=limited)
    of_role = advised(
        *FLEET, DATABASE_URL=limited.replace(postgresql.other_database, postgresql.database)
    )

    assert (in_database["room"], of_role["room"]) == (7, 12)
    assert in_database["ok"] is of_role["ok"] is False
    assert (in_database["size"], of_role["size"]) == (1, 3)


def test_a_fleet_that_does_not_fit_gets_a_pgbouncer_that_starts(
    postgresql: servers.Server,
) -> None:
    """With the settings that were printed, by a real PgBouncer."""
    servers.driver_module("psycopg2")
    fleet = ("--processes", "30", "--rate", "20", "--time", "0.02", "--reserve", "5")
    result = invoke(*fleet, DATABASE_URL=postgresql.url("psycopg2"))
    document = advised(*fleet, DATABASE_URL=postgresql.url("psycopg2"))

    assert result.exit_code == 1
    pooler = document["pooler"]
    assert pooler["configuration"] in result.stdout
    ini = ini_of(pooler["configuration"])
    assert ini["databases"]["*"] == f"host={postgresql.host} port={postgresql.port}"
    ours = ("listen_addr", "listen_port", "auth_file", "pool_mode")
    told = {name: value for name, value in ini["pgbouncer"].items() if name not in ours}
    with bouncers.bouncing(postgresql, ini["pgbouncer"]["pool_mode"], **told) as bouncer:
        running = {row["key"]: row["value"] for row in bouncer.shown("CONFIG")}
        assert running["default_pool_size"] == str(pooler["sessions"])
        assert running["max_client_conn"] == str(pooler["clients"] + 10)
        behind = advised(*fleet, DATABASE_URL=bouncer.url("psycopg2"))
    assert behind["room"] is None
    assert "pooler_between" in [one["rule"] for one in behind["remarks"]]


@pytest.mark.parametrize(("driver", "module"), [("pymysql", "pymysql"), ("mysqlclient", "MySQLdb")])
def test_a_mariadb_server_s_limits_are_read(
    driver: str, module: str, mariadb_server: servers.Server
) -> None:
    servers.driver_module(module)
    user = "advise_user"
    mariadb_server.query(
        f"CREATE USER {user}@'%' IDENTIFIED BY '{SECRET}' WITH MAX_USER_CONNECTIONS 8"
    )
    mariadb_server.query(f"GRANT SELECT ON {mariadb_server.database}.* TO {user}@'%'")
    rest = mariadb_server.url(driver).rpartition("@")[2]
    try:
        document = advised(*FLEET, DATABASE_URL=mariadb_server.url(driver))
        limited = advised(
            *FLEET, DATABASE_URL=f"mysql+{driver}://{user}:{quote(SECRET, safe='')}@{rest}"
        )
    finally:
        mariadb_server.query(f"DROP USER {user}@'%'")

    server = document["server"]
    assert server["max_connections"] == 120
    assert document["room"] == 120 - server["connections_of_others"] - 2
    assert document["ok"] is True
    # MariaDB counts those that it may use.
    usable = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 0))
    assert server["cores"] == len(usable(0))
    assert (limited["room"], limited["budget"], limited["size"]) == (6, 1, 1)
    assert limited["ok"] is False


def test_a_wrong_password_is_not_shown(postgresql: servers.Server) -> None:
    servers.driver_module("psycopg2")
    rest = postgresql.url("psycopg2").rpartition("@")[2]
    url = f"postgresql+psycopg2://{postgresql.user}:{quote(SECRET, safe='')}@{rest}"

    result = invoke(*FLEET, url)

    assert result.exit_code == 2
    assert "password authentication failed" in result.stderr
    assert SECRET not in result.output
    assert quote(SECRET, safe="") not in result.output


def test_a_password_in_the_url_is_not_shown(postgresql: servers.Server) -> None:
    servers.driver_module("psycopg2")

    result = invoke(*FLEET, postgresql.url("psycopg2"))

    assert result.exit_code == 0, result.output
    assert postgresql.password not in result.output
    assert quote(postgresql.password, safe="") not in result.output
    assert '    os.environ["DATABASE_URL"],' in result.stdout


def test_a_server_that_does_not_answer_is_given_up(own_postgresql: servers.Server) -> None:
    own_postgresql.pause()
    try:
        start = time.monotonic()
        result = invoke(*FLEET, "--timeout", "1", DATABASE_URL=own_postgresql.url("psycopg2"))
        took = time.monotonic() - start
    finally:
        own_postgresql.resume()

    assert result.exit_code == 2
    assert "no answer within 1 s" in result.stderr
    assert took < 3
