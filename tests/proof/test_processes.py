"""Processes: fork, spawn and forkserver, by multiprocessing and by executors (`programs/processes.py`).

The common file says in the end whether each did its work. What a fork leaves alone is in
`tests/test_fork.py`.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import evidence
import pytest
from programs import command

METHODS = ["fork", "spawn", "forkserver"]
SCENARIOS = ["made_in_the_child", "by_initializer", "by_multiprocessing_pool", "as_an_argument"]


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> str:
    """How a process is made."""
    if request.param not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this platform has no {request.param}")
    return str(request.param)


def run(*args: object, plant: str = "", timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
    program = command("processes.py", strict=False)[-1]
    first = [program] if not plant else ["-c", f"{plant}\n{_EXECUTE.format(program=program)}"]
    # Python 3.12 warns of every fork beside threads.
    options = ["-W", "error", "-W", "ignore:This process:DeprecationWarning"]
    line = [sys.executable, *options, *first, *map(str, args)]
    # A group of its own, so that children that hang can be ended with it.
    with subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(line, process.returncode, stdout, stderr)


_EXECUTE = 'exec(compile(open({program!r}).read(), {program!r}, "exec"))'


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_processes_work_beside_each_other(method: str, scenario: str, tmp_path: Path) -> None:
    check(method, scenario, tmp_path)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork")
def test_a_pool_is_inherited_by_fork_whatever_its_threads_and_locks_do(tmp_path: Path) -> None:
    check("fork", "inherited_while_busy", tmp_path)


def check(method: str, scenario: str, folder: Path) -> None:
    done = run(method, scenario, folder / "a.db")
    assert (done.returncode, done.stderr) == (0, "")
    what = f"processes by {method}: {scenario.replace('_', ' ')}"
    evidence.record("garbage and threads", what)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork")
def test_a_pool_that_does_not_begin_anew_is_found(tmp_path: Path) -> None:
    """Planted: nothing is done after a fork."""
    plant = "from dbapi_pool.pool import Pool; Pool._after_fork = lambda self: None"
    try:
        done = run("fork", "inherited_while_busy", tmp_path / "a.db", plant=plant, timeout=10.0)
    except subprocess.TimeoutExpired:
        return
    assert done.returncode != 0
