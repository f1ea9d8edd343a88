"""Sub-interpreters: a pool works in one or is refused, and the process survives its end.

Python aborts the whole process if a thread, also a daemon thread, is left in a sub-interpreter that
ends (`Py_EndInterpreter: not the last thread`). Real ones, in three kinds: see
`programs/in_interpreter.py`.
"""

from __future__ import annotations

import functools
import importlib.util
import subprocess
import sys
from pathlib import Path

import evidence
import pytest
from programs import run, run_well

PROGRAM = "in_interpreter.py"
OLD = sys.version_info < (3, 12)
MODULE = {"embedded": "_testcapi"}
PYTHONS_OWN = "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"


@pytest.fixture(params=["embedded", "shared", "isolated"])
def how(request: pytest.FixtureRequest) -> str:
    """The kind of sub-interpreter."""
    kind = str(request.param)
    module = MODULE.get(kind, PYTHONS_OWN)
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"this Python was built without {module}, which makes sub-interpreters")
    if OLD and kind == "shared":
        pytest.skip(
            "before Python 3.12, it cannot itself end an interpreter in which a thread runs"
        )
    return kind


@functools.cache
def why_not_sqlite(how: str, path: Path) -> str | None:
    """What happens to sqlite3 in such an interpreter without any pool."""
    try:
        done = run(PROGRAM, how, "bare sqlite", path, timeout=5.0)
    except subprocess.TimeoutExpired:
        return "hangs"
    return f"ends with {done.returncode}: {done.stderr.strip()}" if done.returncode else None


SCENARIOS = ["lent", "threads", "at exit", "idle", "closed", "dropped", "slow", "local"]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_sub_interpreter_with_a_pool_ends_and_the_process_goes_on(
    how: str, scenario: str
) -> None:
    if OLD and how == "isolated":
        pytest.skip("no threads there: see the next test")
    if how == "isolated" and scenario in SCENARIOS[3:] and not evidence.DEEP:
        pytest.skip("only in the deep run: the other kinds do it too")
    served, ended, goes_on = run_well(PROGRAM, how, scenario).splitlines()

    assert served.startswith("served")
    assert (ended, goes_on) == ("ended", "the main interpreter goes on")
    evidence.record("garbage and threads", f"sub-interpreters: {how}, {scenario}")


@pytest.mark.skipif(not OLD, reason="isolated sub-interpreters have threads since Python 3.12")
def test_where_python_allows_no_threads_a_borrower_is_told_so() -> None:
    if importlib.util.find_spec(PYTHONS_OWN) is None:
        pytest.skip(f"this Python was built without {PYTHONS_OWN}, which makes sub-interpreters")
    done = run(PROGRAM, "isolated", "idle")

    assert "thread is not supported for isolated subinterpreters" in done.stdout
    assert done.stdout.endswith("the main interpreter goes on\n")
    assert done.returncode == 0


@pytest.mark.parametrize("scenario", ["sqlite", "sqlite in threads"])
def test_a_pool_of_sqlite_connections_works_in_a_sub_interpreter(
    how: str, scenario: str, tmp_path: Path
) -> None:
    if OLD and how == "isolated":
        pytest.skip("no threads there")
    reason = why_not_sqlite(how, tmp_path / "bare.db")
    if reason is not None:
        pytest.skip(f"there sqlite3 itself {reason} (create_function, without any pool)")
    lines = run_well(PROGRAM, how, scenario, tmp_path / "a.db").splitlines()

    assert lines[0] in ("served 7", "served 301")
    assert lines[1:] == ["ended", "the main interpreter goes on"]


def test_without_the_hook_the_process_is_aborted(how: str) -> None:
    """The planted bug: what all of this is for."""
    if OLD and how == "isolated":
        pytest.skip("no threads there")
    done = run(PROGRAM, how, "unhooked")

    assert "not the last thread" in done.stderr
    assert "goes on" not in done.stdout
    assert done.returncode != 0
