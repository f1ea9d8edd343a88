"""Public test suites of drivers pass through a pooled `connect` as through the driver's own.

The part of them that every run includes; `tox -e suites` runs all, in every mode. Exactly the tests of
`suites/listed.toml` may fail, which docs/compatibility.md shows with the reasons.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import run as command
import servers
import suite_lists
import suite_page
import suite_runs
import suite_sources
from suite_catalogue import SUITES, Distribution, Suite

DBAPI20 = [name for name in SUITES if name.startswith("dbapi20-")]
RUNS = [
    *((name, mode) for name in DBAPI20 for mode in ("shared", "fork")),
    ("sqlite3", "shared"),
    ("sqlite3", "fresh"),
    ("pymysql", "shared"),
    ("psycopg2", "shared"),
]

FIXTURES = {"postgresql": "postgresql", "mysql": "mariadb_server"}

RunSuite = Callable[[str, str], suite_runs.Run]


class SharedServers(suite_runs.Servers):
    """Those that all tests share."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._request = request

    def get(self, kind: str) -> Any:
        server = self._request.getfixturevalue(FIXTURES[kind])
        if server.given:
            pytest.skip(f"the {kind} server was given by URL; suites make databases of their own")
        return server


@pytest.fixture(scope="module")
def run_suite(request: pytest.FixtureRequest) -> RunSuite:
    """Runs the part of a suite; once for each mode."""
    kept: dict[tuple[str, str], suite_runs.Run] = {}

    def run(name: str, mode: str) -> suite_runs.Run:
        if (name, mode) not in kept:
            try:
                kept[name, mode] = suite_runs.run(
                    SUITES[name], mode, command.CACHE, SharedServers(request), part=True
                )
            except suite_sources.Unavailable as exc:
                servers.missing("suites", str(exc))
        return kept[name, mode]

    return run


@pytest.mark.servers
@pytest.mark.parametrize(("name", "mode"), RUNS)
def test_exactly_the_listed_tests_of_a_public_suite_fail(name, mode, run_suite: RunSuite):
    suite = SUITES[name]
    bare = run_suite(name, suite_runs.BARE)
    pooled = run_suite(name, mode)

    told = list(suite_lists.deviations(suite, mode, bare.outcomes, pooled.outcomes, not suite.part))

    assert told == []
    assert len(bare.having("pass")) >= suite.least


# -- the list, and the page ------------------------------------------------------------------------


def test_the_page_shows_the_list_as_it_is():
    page = suite_page.PAGE.read_text("utf-8")

    assert suite_page.renewed(page, None) == page


def test_the_page_has_every_suite_and_what_passes_of_it():
    page = suite_page.PAGE.read_text("utf-8")

    for suite in SUITES.values():
        assert f"| {suite.title}" in page


LIST = """
[reason.one]
text = "A reason."
way_out = "None."
[suite]
tiny = [{ test = "a", reason = "one" }, { test = "b", reason = "one", modes = ["fork"] },
        { test = "c", reason = "one", varies = "by chance" },
        { test = "d", reason = "one", since = "4.0" }]
"""


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('"b", reason', '"a", reason', "a is listed twice"),
        ('"b", reason = "one"', '"b", reason = "two"', "no reason 'two'"),
        ('["fork"]', '["spoon"]', "no mode"),
        ("[suite]", '[reason.two]\ntext = ""\nway_out = ""\n[suite]', "reason 'two' is nobody's"),
    ],
)
def test_a_list_that_contradicts_itself_is_refused(before, after, said):
    suite_lists.read(LIST)

    with pytest.raises(ValueError, match=said):
        suite_lists.read(LIST.replace(before, after))


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`LIST` in the place of the real one."""
    file = tmp_path / "listed.toml"
    file.write_text(LIST, encoding="utf-8")
    monkeypatch.setattr(suite_lists, "FILE", file)


TINY = Suite("tiny", "sqlite3", "A tiny suite", Distribution("tiny", "1", "tiny"), patience=2.0)


@pytest.mark.parametrize(
    ("pooled", "told"),
    [
        ({"a": "fail", "b": "pass", "c": "fail"}, []),
        ({"a": "crash", "b": "pass", "c": "pass"}, []),
        ({"a": "pass", "b": "pass", "c": "fail"}, ["a: passes pooled, and is listed"]),
        ({"a": "fail", "b": "fail"}, ["b: passes bare, and not pooled (fail)"]),
        ({"a": "fail", "b": "skip"}, ["b: passes bare, and not pooled (skip)"]),
        ({"a": "fail", "b": "pass", "d": "fail"}, ["d: passes bare, and not pooled (fail)"]),
        ({"a": "fail"}, ["b: passes bare, and not pooled (not run)"]),
    ],
)
def test_whatever_is_not_as_listed_is_told(pooled, told, listed):
    bare = dict.fromkeys([*"abc", *pooled], "pass")

    assert list(suite_lists.deviations(TINY, "shared", bare, pooled)) == told


def test_a_listed_test_that_does_not_exist_is_told_but_not_where_only_a_part_was_run(listed):
    bare = dict.fromkeys("bc", "pass")

    told = suite_lists.deviations(TINY, "shared", bare, bare)
    told_of_part = suite_lists.deviations(TINY, "shared", bare, bare, whole=False)

    assert list(told) == ["a: is listed, and there is no such test"]
    assert list(told_of_part) == []


# -- a suite that does everything that a suite may do ----------------------------------------------

TESTS = """
import os, signal, sqlite3, sys, time, unittest

class Tests(unittest.TestCase):
    def test_1_passes(self): sqlite3.connect("file.db").close()
    def test_2_fails(self): self.fail("on purpose")
    def test_3_fails_in_part(self):
        with self.subTest("part"):
            raise ValueError
    def test_4_is_skipped(self): self.skipTest("for a reason")
    def test_5_kills(self): os.kill(os.getpid(), signal.SIGKILL)
    def test_6_exits(self): sys.exit(0)
    def test_7_hangs(self): time.sleep(1000)
    def test_8_passes(self): pass
    @unittest.expectedFailure
    def test_9_should_not(self): pass
"""
CONNECTS = """
import sqlite3, unittest

class Tests(unittest.TestCase):
    def test(self): sqlite3.connect("file.db").close()
"""
OUTCOMES = ["pass", "fail", "fail", "skip", "crash", "fail", "crash", "pass", "fail"]


@pytest.fixture
def run_tiny(tmp_path: Path) -> Callable[..., suite_runs.Run]:
    """Runs `TESTS`, or others, in a mode."""

    def run(mode: str, tests: str = TESTS) -> suite_runs.Run:
        (tmp_path / "tiny_suite.py").write_text(tests, encoding="utf-8")
        found = suite_runs.Run("tiny", mode)
        task = suite_runs.task_of(TINY, mode, [])
        own = {"modules": ["tiny_suite"], "path": [str(tmp_path)]}
        suite_runs.carry_out({**task, **own}, os.environ, tmp_path, found)
        return found

    return run


@pytest.mark.servers
@pytest.mark.parametrize("mode", ["bare", "fresh", "shared", "fork"])
def test_what_came_of_each_test_is_known_also_if_it_took_its_process_with_it(mode, run_tiny):
    found = run_tiny(mode)

    assert list(found.outcomes.values()) == OUTCOMES
    assert "on purpose" in found.stories["tiny_suite.Tests.test_2_fails"]


@pytest.mark.servers
def test_a_run_in_which_nothing_was_pooled_is_no_run(run_tiny):
    connects = run_tiny("shared", CONNECTS)
    connects_not = run_tiny("shared", CONNECTS.replace("file.db", ":memory:"))

    suite_runs.check_pooled(connects)
    assert connects.pooling == {"connects": 1, "unpooled": 0, "opened": 1}
    with pytest.raises(RuntimeError, match="nothing was pooled"):
        suite_runs.check_pooled(connects_not)


def test_what_cannot_be_downloaded_is_unavailable(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    suite = Suite("tiny", "sqlite3", "A tiny suite", Distribution("PyMySQL", "0.10.1", "none"))

    with pytest.raises(suite_sources.Unavailable, match="could not be downloaded"):
        suite_sources.unpacked(suite, tmp_path)

    assert list(tmp_path.iterdir()) == []
