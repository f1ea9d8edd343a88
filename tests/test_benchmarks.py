"""The benchmark program works, and its guard can fail. What it measures is not looked at here."""

from __future__ import annotations

from contextlib import nullcontext

import documents
import pytest
from beside import ROOT, load

from dbapi_pool import Pool, PooledConnection

SERVERS = {"postgresql", "mariadb"}


load("benchmarks.measures")
adapters = load("benchmarks.adapters")
drivers = load("benchmarks.drivers")
guard = load("benchmarks.guard")
measuring = load("benchmarks.measuring")
program = load("benchmarks.__main__")
losses = load("benchmarks.losses")
plot = load("benchmarks.plot")
report = load("benchmarks.report")
targets = load("benchmarks.targets")
telemetry = load("benchmarks.telemetry")
asynchronous = load("benchmarks.asynchronous")
adaptive = load("benchmarks.adaptive")
fleet = load("benchmarks.fleet")
waiting = load("benchmarks.measures.waiting")
cycle = load("benchmarks.measures.cycle")
promises = load("benchmarks.measures.promises")

DOCUMENT = (ROOT / "docs/performance.md").read_text("utf-8")
OURS = "dbapi_pool Pool"


def measured(name):
    return measuring.MEASURES[name].run(measuring.Run("tiny"))


def marked(name):
    return pytest.param(name, marks=pytest.mark.servers) if name in SERVERS else name


# -- the measures -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [marked(name) for name in measuring.MEASURES])
def test_every_measure_works_says_what_it_is_and_has_a_place_in_the_document(name):
    result = measured(name)
    if not result.rows:
        pytest.skip(f"nothing to measure: {result.skipped}")

    assert any(OURS in str(row) or "import" in str(row) for row in result.rows)
    assert "Ideal:" in result.text
    anew = report.written(DOCUMENT, {name: report.section(result)})
    assert report.section(result) in anew


def test_a_promise_that_is_left_out_is_not_kept_and_the_others_are():
    for name, parts in promises.FENCE.items():
        pool, conn = promises._fenced(parts)
        work = conn._lease.member.work
        assert work is None
        cursor = conn.cursor()
        cursor.execute("SELECT 1")
        work = conn._lease.member.work
        work.pending = False
        cursor.execute("SELECT 1")  # which is known by now
        assert work.pending is ("there was work" not in name)
        cursor.execute("PRAGMA foreign_keys = ON")
        assert work.session is ("text" not in name)
        conn.close()
        remembered = "remembered" not in name
        with pytest.raises(pool.driver.module.InterfaceError) if remembered else nullcontext():
            cursor.fetchone()
        pool.close()


def test_a_part_that_is_not_found_any_more_fails_the_run():
    with pytest.raises(LookupError, match="not once in Pool.connection"):
        promises.without((("connection", "no such line", "pass"),))


def test_a_peer_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(adapters.SQLAlchemy, "needs", ("no_such_module",))

    result = measured("cycle")

    assert result.skipped["SQLAlchemy QueuePool"] == "not installed: no_such_module"
    assert "SQLAlchemy QueuePool (not installed: no_such_module)" in report.section(result)


def test_only_the_chosen_pools_are_measured():
    result = measuring.MEASURES["cycle"].run(measuring.Run("tiny", ["lifoqueue", "deque"]))

    assert [row["pool"] for row in result.rows] == ["LifoQueue recipe", "bare deque"]


def test_the_work_of_a_pool_is_what_the_driver_saw():
    assert cycle.work_of(adapters.LifoQueueRecipe, "cycles") == "1 rollback"
    assert cycle.work_of(adapters.OurPool, "cycles") == "nothing"
    assert cycle.work_of(adapters.OurPool, "statements") == "1 rollback"
    assert " statement, " in cycle.work_of(adapters.OurPoolPinging, "cycles")


def test_threads_that_get_nothing_are_starved():
    seen = waiting.Seen([100, 100, 0, 0], [[], [], [], []])

    assert (seen.jain, seen.starved) == (0.5, 2)


def test_rounds_go_by_turns():
    turns = []

    measuring.by_turns({"a": lambda n: turns.append("a"), "b": lambda n: turns.append("b")}, 3)

    assert turns[-6:] == ["a", "b"] * 3


def test_an_exception_in_a_thread_is_raised():
    def work(number):
        raise KeyError(number)

    with pytest.raises(KeyError):
        measuring.at_once(2, work)


# -- what becomes of it ------------------------------------------------------------------------------


def result_of(name, rows):
    return measuring.Result(name, name, "What it is. Ideal: 1.", rows, {}, 0.0)


def test_a_target_that_is_not_met_says_so_with_its_figure():
    rows = [{"pool": OURS, "idle ns": 500}, {"pool": "DBUtils", "idle ns": 1000}]

    [row] = targets.table({"cycle": result_of("cycle", rows)})

    assert (row["seen"], row["met"]) == ("0.50 (500 to 1,000 ns)", "**no**")


def test_a_target_that_is_met_says_so_and_the_best_peer_is_the_one_compared_with():
    column = "select 1/s, 16 thr."
    rows = [
        {"driver": "psycopg2", "pool": "no pool: private connections", column: 9000},
        {"driver": "psycopg2", "pool": OURS, column: 3000},
        {"driver": "psycopg2", "pool": "dbapi_pool PooledDB", column: 9000},
        {"driver": "psycopg2", "pool": "slow", column: 1000},
        {"driver": "psycopg2", "pool": "quick", column: 2000},
        {"driver": "psycopg", "pool": "other driver", column: 9000},
    ]

    [row] = targets.table({"postgresql": result_of("postgresql", rows)})

    assert (row["seen"], row["met"]) == ("1.50 (3,000 to 2,000 of quick)", "yes")


def test_a_pool_that_is_better_is_named_and_one_that_is_about_as_good_is_not():
    rows = [
        {"pool": OURS, "idle ns": 1000},
        {"pool": "bare deque", "idle ns": 50},
        {"pool": "LifoQueue recipe", "idle ns": 700},
        {"pool": "psycopg2.pool + semaphore", "idle ns": 900},
        {"pool": "DBUtils", "idle ns": 990},
        {"pool": "dbapi_pool PooledDB", "idle ns": 1},
    ]

    [row] = losses.table({"cycle": result_of("cycle", rows)})

    assert row["better"] == "LifoQueue recipe 700, psycopg2.pool + semaphore 900"


def test_nothing_is_lost_where_more_is_better_and_ours_is_most():
    rows = [{"pool": OURS, "of ideal": 1.0}, {"pool": "DBUtils", "of ideal": 0.12}]

    assert losses.table({"round trips at once": result_of("round trips at once", rows)}) == []


def test_figures_survive_json_and_are_written_between_the_marks(tmp_path):
    figures, document = tmp_path / "figures.json", tmp_path / "performance.md"
    document.write_text(DOCUMENT, "utf-8")

    program.main(["--tiny", "--only", "sizes", "--pools", "deque", "--json", str(figures)])
    program.main(["--from", str(figures), "--write", str(document)])

    begin, end = "<!-- generated: sizes -->", "<!-- end of sizes -->"
    before, _, after = document.read_text("utf-8").partition(begin)
    part, _, after = after.partition(end)
    assert "| bare deque |" in part
    untouched = DOCUMENT.partition(end)[2]
    assert after == untouched


def test_a_measure_that_does_not_exist_is_refused(capsys):
    with pytest.raises(SystemExit):
        program.main(["--only", "no such"])

    assert "no such measure: no such" in capsys.readouterr().err


def test_the_picture_is_the_same_for_the_same_results(tmp_path):
    pytest.importorskip("matplotlib", reason="only the picture needs it")
    rows = [{"pool": OURS, "idle ns": 1000}, {"pool": "DBUtils", "idle ns": 2000}]
    results = {"cycle": result_of("cycle", rows)}

    for name in ("one.svg", "other.svg"):
        plot.draw(results, tmp_path / name)

    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "other.svg").read_bytes()
    assert "2,000" in (tmp_path / "one.svg").read_text("utf-8")


def test_the_document_has_every_generated_part():
    result = result_of("any", [])
    names = ["conditions", "targets", "losses", *measuring.MEASURES]

    assert report.written(DOCUMENT, dict.fromkeys(names, report.section(result)))


def test_what_watching_costs_is_measured_and_written(tmp_path, capsys):
    document = tmp_path / "telemetry.md"
    document.write_text((ROOT / "docs/telemetry.md").read_text("utf-8"), "utf-8")

    assert telemetry.main(["--rounds", "1", "--steps", "20", "--write", str(document)]) == 0

    table = capsys.readouterr().out
    assert [line.split(" | ")[0] for line in table.splitlines()[2:6]] == [
        "| nobody listens",
        "| Prometheus",
        "| OpenTelemetry",
        "| OpenTelemetry, with spans",
    ]
    assert table.splitlines()[2].count("(1.00x)") == 3
    assert table.strip() in document.read_text("utf-8")


# -- the guard --------------------------------------------------------------------------------------


def test_the_common_path_has_not_become_longer():
    known = guard.stored().get(guard.python())
    if known is None:
        pytest.skip(f"no bytecodes are stored for Python {guard.python()}")

    lines, good = guard.judge(guard.count(), known)

    assert good, "\n".join([*lines, "justified? python -m benchmarks.guard --store"])


def test_the_guard_counts_the_same_each_time():
    assert guard.count() == guard.count()


def test_a_slower_checkout_is_caught(monkeypatch):
    before = guard.count()
    original = Pool.connection

    def slower(self):
        for _ in range(20):
            pass
        return original(self)

    monkeypatch.setattr(Pool, "connection", slower)
    lines, good = guard.judge(guard.count(), before)

    assert not good
    assert "idle: stored" in lines[0]
    assert "MORE THAN +10%" in lines[0]


def test_a_longer_return_is_caught(monkeypatch):
    before = guard.count()
    original = PooledConnection.close

    def slower(self):
        assert all(number >= 0 for number in range(5))
        original(self)

    monkeypatch.setattr(PooledConnection, "close", slower)

    assert not guard.judge(guard.count(), before)[1]


def test_a_growth_within_the_tolerance_passes_and_a_gain_is_mentioned():
    lines, good = guard.judge({"idle": 109, "with block": 50}, {"idle": 100, "with block": 100})

    assert good
    assert lines[0] == "idle: stored 100, now 109 (+9.0%)"
    assert lines[1].startswith("with block: stored 100, now 50 (-50.0%)  less")


def test_a_cycle_of_which_nothing_is_stored_fails():
    assert guard.judge({"idle": 100}, {}) == (["idle: nothing stored, now 100"], False)


def test_the_guard_stores_by_python(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(guard, "STORED", tmp_path / "guard.json")

    assert guard.main(["--store"]) == 0
    assert guard.main([]) == 0

    assert list(guard.stored()) == [guard.python()]
    assert "(+0.0%)" in capsys.readouterr().out


@pytest.mark.parametrize("database", ["SQLite", "PostgreSQL", "MariaDB"])
def test_pools_for_coroutines_are_compared(database, tmp_path, capsys):
    drivers_too = ("MySQLdb",) if database == "MariaDB" else ()
    for module in ("aiosqlite", "aiomysql", "asyncpg", "psycopg_pool", *drivers_too):
        documents.require(module)
    document = tmp_path / "asyncio.md"
    document.write_text((ROOT / "docs/asyncio.md").read_text("utf-8"), "utf-8")
    little = ["--seconds", "0.1", "--rounds", "1", "--times", "2"]

    assert asynchronous.main(["--only", database, *little, "--write", str(document)]) == 0

    table = capsys.readouterr().out
    rows = [line.split(" | ") for line in table.splitlines()[2:] if line.startswith("|")]
    assert [row[0].strip("| ") for row in rows] == [
        kind.name for kind in asynchronous.KINDS if kind.database == database
    ]
    assert [row[3:6] for row in rows if "AsyncPool" in row[0]] == [["0"] * 3] * (
        2 if database == "MariaDB" else 1
    )
    assert table.strip() in document.read_text("utf-8")


def test_a_fleet_is_simulated_and_the_same_seed_says_the_same(tmp_path, capsys):
    document = tmp_path / "fleet.md"
    document.write_text((ROOT / "docs/fleet.md").read_text("utf-8"), "utf-8")
    few = ["--processes", "8", "--down-for", "3", "--write", str(document)]

    assert fleet.main(few) == 0
    table = capsys.readouterr().out
    assert fleet.main(few) == 0

    assert capsys.readouterr().out == table
    rows = [line.split(" | ") for line in table.splitlines()[2:] if line.startswith("|")]
    assert [row[0].strip("| ") for row in rows] == [way.name for way in fleet.WAYS]
    attempts = [float(row[1].replace(",", "")) for row in rows]
    assert attempts[2] < attempts[0] < attempts[1]  # with the backoff it is the fewest
    assert table.strip() in document.read_text("utf-8")


def test_sizes_are_simulated_and_written(tmp_path, capsys):
    document = tmp_path / "adaptive.md"
    document.write_text((ROOT / "docs/adaptive.md").read_text("utf-8"), "utf-8")

    assert adaptive.main(["--part", "0.02", "--write", str(document)]) == 0

    table = capsys.readouterr().out
    rows = [line for line in table.splitlines()[2:] if line.startswith("|")]
    assert len(rows) == len(adaptive.LOADS) * (len(adaptive.SIZES) + 1)
    assert table.strip() in document.read_text("utf-8")
