"""`dbapi-pool bench`: what it refuses, its rounds and its recommendation, and real databases."""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import servers
from click.testing import CliRunner, Result
from rich.console import Console

from dbapi_pool.cli.access import Access
from dbapi_pool.cli.app import app
from dbapi_pool.cli.bench import report, rounds
from dbapi_pool.cli.bench.comparison import Comparison, compare
from dbapi_pool.cli.bench.comparison import Result as Came
from dbapi_pool.cli.bench.rounds import Hung, Round, run_round
from dbapi_pool.cli.bench.statement import BadStatement, refuse_by_text, shown
from dbapi_pool.cli.bench.ways import Way
from dbapi_pool.cli.target import Target
from dbapi_pool.drivers import registry
from dbapi_pool.drivers.base import Driver

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/bench.md"
SECRET = "s3cret/w%rd"
QUICK = ("--threads", "4", "--seconds", "0.5", "--sizes", "1,4")


def invoke(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(app, ["bench", *arguments], env=environment)


def measured(*arguments: str, **environment: str) -> Any:
    """The JSON document."""
    result = invoke("--json", *arguments, **environment)
    assert result.exit_code in (0, 1), result.output
    return json.loads(result.stdout)


# -- what may be run ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "select 1",
        "SELECT * FROM t WHERE note = 'for update; into'",
        "  /* why */ select count(*) from t -- all",
        "select max(x) from t;",
        "select some_function(1)",
    ],
)
def test_a_select_may_be_run(sql: str) -> None:
    for scheme in ("sqlite", "postgresql", "mysql"):
        driver = registry.find(f"{scheme}://x/y")
        assert driver is not None
        refuse_by_text(driver, sql)


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("", "is no SELECT"),
        ("-- nothing", "is no SELECT"),
        ("insert into t values (1)", "is no SELECT"),
        ("/* select */ delete from t", "is no SELECT"),
        ("with x as (delete from t returning 1) select * from x", "is no SELECT"),
        ("explain analyze delete from t", "is no SELECT"),
        ("select 1; delete from t", "is not understood as one SELECT"),
        ("select 'unfinished", "is not understood"),
        ("select * into copy from t", "does more than read"),
        ("select * from t for update", "does more than read"),
        ("select * from t for no key update", "does more than read"),
        ("select * from t for share", "does more than read"),
        ("select * from t lock in share mode", "does more than read"),
    ],
)
def test_what_does_more_than_read_is_refused(sql: str, why: str) -> None:
    for driver in (Driver(), registry.find("postgresql://x/y"), registry.find("mysql://x/y")):
        assert driver is not None
        with pytest.raises(BadStatement, match=f"{why}.*--write"):
            refuse_by_text(driver, sql)


def test_a_statement_is_shown_in_one_line_that_is_not_too_long() -> None:
    assert shown("select\n  1") == "--sql 'select 1'"
    assert len(shown("select " + "x" * 1000)) < 80


# -- rounds ---------------------------------------------------------------------------------------


def test_a_round_counts_requests_of_all_threads_and_ends_in_time() -> None:
    seen: set[int] = set()

    def request() -> None:
        seen.add(threading.get_ident())
        time.sleep(0.01)

    start = time.monotonic()
    found = run_round(request, threads=4, seconds=0.4)

    assert time.monotonic() - start < 2
    assert len(seen) == 4
    assert 4 * 5 < len(found.taken) <= 4 * 41
    assert found.rate == pytest.approx(4 / found.quantile(0.5), rel=0.5)
    assert list(found.taken) == sorted(found.taken)
    assert found.taken[0] >= 0.009
    assert found.cpu < 0.01
    assert (found.errors, found.error) == (0, None)


def test_errors_are_counted_and_not_timed() -> None:
    turn = iter(range(1_000_000))

    def request() -> None:
        if next(turn) % 2:
            raise OSError("no more")

    found = run_round(request, threads=1, seconds=0.2)

    assert found.errors > 3
    assert str(found.error) == "no more"
    assert abs(len(found.taken) - found.errors) <= 1


def test_a_round_in_which_nothing_succeeds_raises_the_first_error() -> None:
    def request() -> None:
        raise OSError("refused")

    with pytest.raises(OSError, match="refused"):
        run_round(request, threads=2, seconds=0.1)


def test_requests_that_do_not_come_back_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "PATIENCE", 0.3)
    release = threading.Event()
    start = time.monotonic()
    try:
        with pytest.raises(Hung, match="2 requests take longer than"):
            run_round(release.wait, threads=2, seconds=0.1)  # type: ignore[arg-type]
        assert time.monotonic() - start < 5
    finally:
        release.set()


def test_an_interrupt_lets_the_requests_under_way_end_and_begins_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    under_way: list[int] = []
    lock = threading.Lock()
    most = [0]

    def request() -> None:
        with lock:
            under_way.append(1)
            most[0] += 1
        time.sleep(0.05)
        with lock:
            under_way.pop()

    honest, calls = rounds._join, iter(range(10))

    def join(workers: Any, patience: float) -> None:
        if next(calls) == 0:
            while not most[0]:
                time.sleep(0.001)
            raise KeyboardInterrupt
        honest(workers, patience)

    monkeypatch.setattr(rounds, "_join", join)
    with pytest.raises(KeyboardInterrupt):
        run_round(request, threads=3, seconds=60.0)

    assert under_way == []
    assert most[0] <= 3 * 3


# -- the recommendation ---------------------------------------------------------------------------


def came(size: int, rate: float, ratio: float = 2.0, errors: int = 0) -> Came:
    error = OSError("too many") if errors else None
    return Came(Way(size), [Round(rate, [0.001, 0.002], errors, error, 0.0001)], size, ratio)


def compared(*rates: tuple[int, float], ratio: float = 2.0, errors: int = 0) -> Comparison:
    return Comparison([came(0, 100, 1.0, errors), *(came(*one, ratio) for one in rates)])


@pytest.mark.parametrize(
    ("rates", "best", "recommended"),
    [
        ([(1, 500), (2, 960), (4, 1000), (8, 990)], 4, 2),
        ([(1, 500), (2, 940), (4, 1000), (8, 990)], 4, 4),
        ([(1, 500), (2, 900), (8, 1000)], 8, 8),
        ([(1, 1000), (2, 900), (8, 800)], 1, 1),
        ([(3, 10)], 3, 3),
    ],
)
def test_recommended_is_the_smallest_size_that_is_as_good_as_the_best(
    rates: list[tuple[int, float]], best: int, recommended: int
) -> None:
    found = compared(*rates)

    assert (found.best.way.size, found.recommended.way.size) == (best, recommended)


def said(found: Comparison, threads: int = 16) -> str:
    return " ".join(report.words(report.Report(Target(None), "x", "select 1", threads, 3.0, found)))


def test_the_recommendation_in_words() -> None:
    text = said(compared((1, 500), (2, 960), (4, 1000)))

    assert text == (
        "Take max_size=2 for 16 threads: 960 requests/s, 96% of the best (max_size=4, 1,000);"
        " 2 times as many as without a pool."
    )
    assert "try larger ones" in said(compared((1, 500), (2, 900)))
    assert "try larger ones" not in said(compared((1, 500), (2, 900)), threads=2)
    assert "no more than without a pool" in said(compared((1, 101), ratio=1.01))


@pytest.mark.parametrize(
    ("rates", "spread", "told"),
    [
        ([100, 100, 100, 100, 100], 0.0, False),
        ([10, 100, 101, 102, 900], 0.02, False),
        ([60, 80, 100, 120, 140], 0.4, True),
        ([90, 110], 0.2, True),
    ],
)
def test_differences_that_may_be_chance_are_told_of(
    rates: list[float], spread: float, told: bool
) -> None:
    rounds = [Round(rate, [0.1], 0, None, 0.1) for rate in rates]
    found = Comparison([came(0, 10), Came(Way(1), rounds, 1, 9.0)])

    assert found.spread == pytest.approx(spread, abs=0.01)
    assert ("may be chance" in said(found)) == told


def test_errors_are_told_without_a_password() -> None:
    target = Target(f"postgresql://me:{SECRET}@host/db")
    found = Comparison(
        [
            Came(Way(0), [Round(1.0, [1.0], 7, OSError(f"{SECRET} at host"), 0.1)], 1, 1.0),
            came(1, 5),
        ]
    )
    console = Console(width=80, force_terminal=False)
    with console.capture() as captured:
        report.show(report.Report(target, "x", "select 1", 1, 3.0, found), console)

    assert "ERRORS no pool: 7 requests failed; OSError: *** at host" in captured.get()
    assert SECRET not in captured.get()
    assert not found.ok


# -- the command ----------------------------------------------------------------------------------


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("CREATE TABLE t (x)")
        conn.execute("INSERT INTO t VALUES (1)")
        conn.commit()
    return path


def url_of(path: Path) -> str:
    return f"sqlite:///{quote(path.as_posix())}"


def test_a_sqlite_file_is_measured_and_not_a_byte_of_it_changes(database: Path) -> None:
    before = database.read_bytes()

    document = measured(url_of(database), *QUICK, "--sql", "select x from t")

    assert [way["size"] for way in document["ways"]] == [0, 1, 4]
    no_pool, one, four = document["ways"]
    assert no_pool["ratio"] == 1.0
    assert no_pool["connects"] == no_pool["requests"]
    assert (one["connects"], four["connects"]) == (5, 20)  # in five rounds
    for way in document["ways"]:
        assert way["errors"] == 0
        assert way["requests"] > 5
        assert 0 < way["p50"] <= way["p99"]
        assert 0 < way["cpu"] < 0.1
    rates = {way["size"]: way["requests_per_second"] for way in document["ways"][1:]}
    assert document["best"] == max(rates, key=lambda size: rates[size])
    assert rates[document["recommended"]] >= 0.949 * rates[document["best"]]
    assert document["ok"] is True
    assert database.read_bytes() == before
    assert os.listdir(database.parent) == ["app.db"]


def test_ways_take_turns_and_each_begins_once(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dbapi_pool.cli.bench import comparison

    order: list[int] = []
    now: list[Way] = []
    honest = Way.running

    def running(self: Way, access: Access, sql: str) -> Any:
        now[:] = [self]
        return honest(self, access, sql)

    def one_round(request: Any, threads: int, seconds: float) -> Round:
        request()
        order.append(now[0].size)
        return Round(1.0 + now[0].size, [0.1], 0, None, 0.1)

    monkeypatch.setattr(Way, "running", running)
    monkeypatch.setattr(comparison, "run_round", one_round)
    told: list[tuple[int, int]] = []

    found = compare(
        Access(Target(url_of(database)), 5.0), "select 1", [2, 1], 2, 1.0,
        lambda done, total: told.append((done, total)),
    )  # fmt: skip

    assert [order[start : start + 3] for start in range(0, 15, 3)] == [
        [0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2], [1, 2, 0],
    ]  # fmt: skip
    assert told == [(number, 15) for number in range(1, 16)]
    assert [one.ratio for one in found.results] == [1.0, 2.0, 3.0]


def test_writing_is_done_only_if_it_is_asked_for(database: Path) -> None:
    refused = invoke(url_of(database), *QUICK, "--sql", "insert into t values (2)")
    # A pool of one, as SQLite has one writer.
    done = invoke(
        url_of(database), "--threads", "1", "--seconds", "0.5", "--sizes", "1", "--write",
        "--json", "--sql", "insert into t values (3)",
    )  # fmt: skip

    assert refused.exit_code == 2
    assert "is no SELECT" in refused.stderr
    assert done.exit_code == 0, done.output
    requests = sum(way["requests"] for way in json.loads(done.stdout)["ways"])
    with closing(sqlite3.connect(database)) as conn:
        assert conn.execute("SELECT count(*) FROM t WHERE x = 2").fetchone() == (0,)
        assert conn.execute("SELECT count(*) FROM t WHERE x = 3").fetchone() == (requests,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--threads", "0"), "'--threads': 0 is not in the range"),
        (("--seconds", "0"), "'--seconds': 0.0 is not in the range"),
        (("--seconds", "soon"), "'--seconds': 'soon' is not a valid float"),
        (("--sizes", "0,1"), "'--sizes': 0 is not in the range 1<=x<=1000"),
        (("--sizes", "1;2"), "'--sizes': '1;2' is no list of sizes like 1,2,4"),
        (("--sizes", ""), "'--sizes': '' is no list of sizes"),
        (("--sizes", "4", "--threads", "2"), "--sizes 4: more than --threads 2 connections are"),
        (("--sizes", "1,17"), "--sizes 17: more than --threads 16 connections are never used"),
        (("--sql", "drop table t"), "--sql 'drop table t' is no SELECT; with --write it is run"),
        (("--sql", "select y from t"), "--sql 'select y from t' fails: OperationalError: no such"),
        (("--plot", "x.png"), "'--plot': 'x.png' does not end in .svg"),
        (("--timeout", "0"), "'--timeout': 0 is not in the range x>0"),
    ],
)
def test_bad_input_is_refused_before_anything_is_measured(
    arguments: tuple[str, ...], message: str, database: Path
) -> None:
    start = time.monotonic()
    result = invoke(url_of(database), *arguments)

    assert result.exit_code == 2, result.output
    assert message in " ".join(result.stderr.split())
    assert time.monotonic() - start < 3


def test_of_the_default_sizes_those_are_measured_that_the_threads_can_use(database: Path) -> None:
    document = measured(url_of(database), "--threads", "3", "--seconds", "0.2")

    assert [way["size"] for way in document["ways"]] == [0, 1, 2]


def test_seconds_that_are_no_number_are_refused(database: Path) -> None:
    assert invoke(url_of(database), "--seconds", "nan").exit_code == 2
    assert invoke(url_of(database), "--seconds", "inf").exit_code == 2


SLOW = (
    "select count(*) from (with recursive r(n) as (select 1 union all select n + 1 from r"
    " where n < 3000000) select n from r)"
)


def test_a_statement_that_is_too_slow_for_the_rounds_is_refused(database: Path) -> None:
    result = invoke(url_of(database), *QUICK, "--seconds", "0.1", "--sql", SLOW)

    assert result.exit_code == 2, result.output
    assert "and a round is --seconds 0.1 / 5: too short" in result.stderr


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    result = invoke(url_of(tmp_path / "typo.db"))

    assert result.exit_code == 2
    assert result.stderr.startswith("Cannot connect: there is no file ")
    assert os.listdir(tmp_path) == []


def test_a_driver_without_a_plugin_may_only_run_what_is_harmless_everywhere(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plain_bench_driver.py").write_text(
        "import sqlite3\nfrom sqlite3 import *\n"
        "class Connection:\n"
        "    def __init__(self, *args): self._conn = sqlite3.connect(*args, check_same_thread=False)\n"
        "    def cursor(self): return self._conn.cursor()\n"
        "    def commit(self): self._conn.commit()\n"
        "    def rollback(self): self._conn.rollback()\n"
        "    def close(self): self._conn.close()\n"
        "def connect(*args): return Connection(*args)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    driver = ("--creator", "plain_bench_driver", "--arg", str(database))
    try:
        document = measured(*driver, *QUICK)
        refused = invoke(*driver, *QUICK, "--sql", "select random()")
    finally:
        sys.modules.pop("plain_bench_driver", None)

    assert document["ok"] is True
    assert refused.exit_code == 2
    assert "whether it only reads cannot be asked of this server" in refused.stderr


def test_the_report_for_people_fits_into_80_columns_and_has_no_colour_in_a_pipe(
    database: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dbapi_pool", "bench", url_of(database), *QUICK],
        capture_output=True,
        text=True,
        timeout=120,
        env={
            **{k: v for k, v in os.environ.items() if k != "COLUMNS"},
            "PYTHONIOENCODING": "ascii",
        },
    )

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    lines = done.stdout.splitlines()
    assert max(len(line) for line in lines if line.startswith(("|", "+", " "))) <= 80
    assert any(line.startswith("Take max_size=") for line in lines)
    assert sum(line.endswith("<- recommended") for line in lines) == 1


def test_the_throughput_is_drawn(database: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="only the picture needs it")
    file = tmp_path / "out.svg"

    result = invoke(url_of(database), *QUICK, "--plot", str(file))

    assert result.exit_code == 0, result.output
    text = file.read_text("utf-8")
    assert "no pool" in text
    assert "recommended: " in text


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to a single process there")
def test_an_interrupt_ends_it_with_130_and_a_word(database: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "dbapi_pool", "bench", url_of(database), "--seconds", "100"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background has it ignored.
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    threads = Path(f"/proc/{process.pid}/task")
    deadline = time.monotonic() + 30
    if threads.exists():
        while len(list(threads.iterdir())) < 10:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
    else:
        time.sleep(3)

    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)

    assert process.returncode == 130, err
    assert err == "Interrupted: stopped and cleaned up.\n"
    assert out == ""


def test_the_page_names_every_option_and_key(database: Path) -> None:
    text = PAGE.read_text("utf-8")
    options = [name for one in app.commands["bench"].params for name in one.opts]
    document = measured(url_of(database), *QUICK)

    assert [name for name in options if name.startswith("--") and f"`{name}" not in text] == []
    words = {*document, *document["ways"][0]}
    assert sorted(word for word in words if f"`{word}`" not in text) == []


def test_the_page_s_example_is_what_its_figures_print() -> None:
    """Its numbers were measured once; its lines, bars and words are made of them here."""
    text = PAGE.read_text("utf-8")
    [shown_there] = re.findall(r"```\n(psycopg2: .*?)```", text, re.S)
    rows = re.findall(
        r"^\| (no pool|pool of \d+) +\| +([\d,]+) \| +([\d.]+) \| +([\d.]+) (\w+) \| +([\d.]+) (\w+)"
        r" \| +([\d.]+) (\w+) \| +([\d,]+) \|$",
        shown_there,
        re.M,
    )
    unit = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
    results = []
    for name, rate, ratio, p50, u50, p99, u99, cpu, ucpu, connects in rows:
        taken = [float(p50) * unit[u50]] * 98 + [float(p99) * unit[u99]] * 2
        size = int(name.split()[-1]) if name != "no pool" else 0
        one = Round(float(rate.replace(",", "")), taken, 0, None, float(cpu) * unit[ucpu])
        results.append(Came(Way(size), [one], int(connects.replace(",", "")), float(ratio)))
    console = Console(width=80, force_terminal=False)
    with console.capture() as captured:
        report.show(
            report.Report(
                Target(None), "psycopg2", "select * from product where id = 42", 16, 3.0,
                Comparison(results),
            ),
            console,
        )  # fmt: skip

    assert captured.get() == shown_there


# -- real servers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])
def test_a_postgresql_server_is_measured(driver: str, postgresql: servers.Server) -> None:
    servers.driver_module(driver)

    document = measured(*QUICK, DATABASE_URL=postgresql.url(driver))

    no_pool, one, four = document["ways"]
    assert document["ok"] is True
    assert no_pool["requests"] == no_pool["connects"]
    # A connect is a process there. (With one connection the threads take turns: how much better that is
    # depends on how soon this machine wakes a thread up.)
    assert four["ratio"] > 1.5
    assert one["connects"] < one["requests"]
    servers.wait_for(lambda: postgresql.sessions() == 0, servers.START_PATIENCE)


@pytest.mark.parametrize(
    ("driver", "module"),
    [("pymysql", "pymysql"), ("mysqlclient", "MySQLdb"), ("mariadb", "mariadb")],
)
def test_a_mariadb_server_is_measured(
    driver: str, module: str, mariadb_server: servers.Server
) -> None:
    servers.driver_module(module)

    document = measured(
        "--threads", "2", "--seconds", "1", "--sizes", "1,2",
        DATABASE_URL=mariadb_server.url(driver),
    )  # fmt: skip

    assert document["ok"] is True
    assert document["ways"][2]["ratio"] > 1.0


@pytest.fixture
def sequence(postgresql: servers.Server) -> Iterator[str]:
    """What a SELECT can change."""
    import psycopg2

    name = "bench_sequence"
    with closing(psycopg2.connect(**postgresql.arguments("psycopg2"))) as conn:
        conn.cursor().execute(f"CREATE SEQUENCE {name}")
        conn.commit()
        yield name
        conn.cursor().execute(f"DROP SEQUENCE {name}")
        conn.commit()


def test_a_select_that_writes_is_refused_by_the_server_itself(
    sequence: str, postgresql: servers.Server
) -> None:
    result = invoke(
        *QUICK, "--sql", f"select nextval('{sequence}')", DATABASE_URL=postgresql.url("psycopg2")
    )

    assert result.exit_code == 2
    assert "cannot execute nextval() in a read-only transaction" in result.stderr
    assert "--write" in result.stderr


def test_more_connections_than_there_is_room_for_are_refused(postgresql: servers.Server) -> None:
    servers.driver_module("psycopg2")

    result = invoke("--threads", "60", DATABASE_URL=postgresql.url("psycopg2"))

    assert result.exit_code == 2
    assert (
        "--threads 60 may open 60 connections at the same time, and there is room for"
        in " ".join(result.stderr.split())
    )


def test_never_are_more_connections_open_than_threads(postgresql: servers.Server) -> None:
    """Of a user that is not allowed more, and one for before."""
    servers.driver_module("psycopg2")
    user = "bench_user"
    postgresql.query(f"CREATE ROLE {user} LOGIN PASSWORD '{SECRET}' CONNECTION LIMIT 5")
    rest = postgresql.url("psycopg2").rpartition("@")[2]
    url = f"postgresql+psycopg2://{user}:{quote(SECRET, safe='')}@{rest}"
    try:
        result = invoke("--json", *QUICK, DATABASE_URL=url)
        refused = invoke("--threads", "6", DATABASE_URL=url)
    finally:
        servers.wait_for(lambda: postgresql.sessions() == 0, servers.START_PATIENCE)
        postgresql.query(f"DROP ROLE {user}")

    ways = json.loads(result.stdout)["ways"]
    assert [way["errors"] for way in ways if way["size"]] == [0, 0]
    assert refused.exit_code == 2
    assert "there is room for 5" in " ".join(refused.stderr.split())
    assert SECRET not in result.output + refused.output


def test_a_wrong_password_is_told_in_one_line_and_not_shown(postgresql: servers.Server) -> None:
    servers.driver_module("psycopg2")
    rest = postgresql.url("psycopg2").rpartition("@")[2]
    url = f"postgresql+psycopg2://{postgresql.user}:{quote(SECRET, safe='')}@{rest}"

    result = invoke(url)

    assert result.exit_code == 2
    assert "password authentication failed" in result.stderr
    assert SECRET not in result.output
    assert quote(SECRET, safe="") not in result.output


def test_a_server_that_freezes_on_the_way_ends_it_with_2(own_postgresql: servers.Server) -> None:
    """Without a pool: connects that hang are given up, and so is the round."""
    servers.driver_module("psycopg2")
    process = subprocess.Popen(
        [sys.executable, "-c",
         "import dbapi_pool.cli.bench.rounds as rounds; rounds.PATIENCE = 1.0\n"
         "from dbapi_pool.cli import main; main()",
         "bench", "--threads", "2", "--sizes", "1", "--seconds", "10"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "DATABASE_URL": own_postgresql.url("psycopg2")},
    )  # fmt: skip
    # One came before the rounds; so two are in the first.
    servers.wait_for(lambda: own_postgresql.sessions() > 1, servers.START_PATIENCE)
    own_postgresql.pause()
    try:
        out, err = process.communicate(timeout=60)
    finally:
        own_postgresql.resume()
        process.kill()

    assert process.returncode == 2, (out, err)
    assert out == ""
    assert "the server hangs, or is locked" in err or "Error: " in err
