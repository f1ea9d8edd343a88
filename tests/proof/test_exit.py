"""The interpreter's exit: at once, silent, with the right code, whatever the pool is doing.

Each scenario is a program (`programs/ending.py`) that reaches its end in the middle of something that
would last ten minutes; its exit is measured from its last line to its end.
"""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import evidence
import pytest
from builds import FREE
from programs import PATIENCE, command

SOON = 4.5  # seconds that an exit may take on a busy machine; alone it is less than a tenth

GOING_ON = [
    "connections_out",
    "connections_idle",
    "a_cycle",
    "a_pool_of_its_own",
    "waiters",
    "busy_threads",
    "keepers",
    "an_executor",
    "a_thread_that_is_no_daemon",
    "sys_exit_in_a_thread",
]
HUNG = ["a_hung_connect", "a_hung_close", "a_hung_ping"]
LAST_ACTS = {  # and what they say
    "at_exit_close": {"closed: True"},
    "at_exit_use": {"served"},
    "at_last_use": {"finalizer: served"},
    "at_last_use_of_what_threads_hold": {"finalizer: PoolTimeout"},
    "at_last_close": {"finalizer: False"},
    "at_last_give_back": {"finalizer: None"},
}
# Where a connection would have to be opened, and Python has no thread to give any more.
NO_THREAD = {
    "at_exit_first_use": {"served"},
    "at_last_first_use": {
        "finalizer: served",
        "finalizer: PoolTimeout",
        "finalizer: RuntimeError",
        "finalizer: PythonFinalizationError",
    },
    "at_last_warm_up": {
        "finalizer: PoolTimeout",
        "finalizer: RuntimeError",
        "finalizer: PythonFinalizationError",
    },
}
# Without the GIL, once there was a second thread, CPython 3.13 empties all modules, this package's
# among them, before it lets go of what the main program holds. (It needs no pool to see that.)
EMPTIED = {"finalizer: TypeError"}
# Return code, and the last line on stderr.
CODES = {
    "sys_exit": (3, ""),
    "os_exit": (4, ""),
    "an_error": (1, "ValueError: of the program's own"),
    "sigterm": (-signal.SIGTERM, ""),
    "ctrl_c": (-signal.SIGINT, "KeyboardInterrupt"),
}


class End(NamedTuple):
    """How a program ended."""

    code: int
    said: list[str]
    stderr: str
    seconds: float  # from its last line on


def end(kind: str, scenario: str, path: Path) -> End:
    errors = path.with_suffix(".err")
    with errors.open("w") as stderr:
        process = subprocess.Popen(
            command("ending.py", kind, scenario, path),
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    watchdog = threading.Timer(PATIENCE, process.kill)
    watchdog.start()
    with process:
        assert process.stdout is not None
        first = process.stdout.readline()
        start = time.monotonic()
        said = process.stdout.read().splitlines()
        process.wait()
        seconds = time.monotonic() - start
    watchdog.cancel()
    said_of_errors = errors.read_text()
    assert first == "at the end\n", said_of_errors
    return End(process.returncode, said, said_of_errors, seconds)


@pytest.fixture(params=["remote", "sqlite"])
def kind(request: pytest.FixtureRequest) -> str:
    """A driver that is opened on threads of the pool, or in the borrower's."""
    return str(request.param)


def only_if_deep(kind: str, scenarios: Iterable[str], scenario: str) -> None:
    """Each scenario runs with one kind of driver in the default run, with both in the deep one."""
    if not evidence.DEEP and (kind == "sqlite") != list(scenarios).index(scenario) % 2:
        pytest.skip("only in the deep run: the default run does it with the other kind of driver")


@pytest.mark.parametrize("scenario", GOING_ON)
def test_a_program_ends_at_once_and_in_silence(kind: str, scenario: str, tmp_path: Path) -> None:
    only_if_deep(kind, GOING_ON, scenario)
    check_end(kind, scenario, tmp_path, 0, "")


@pytest.mark.parametrize("scenario", HUNG)
def test_a_program_ends_while_a_server_hangs(scenario: str, tmp_path: Path) -> None:
    check_end("remote", scenario, tmp_path, 0, "")


@pytest.mark.parametrize("scenario", LAST_ACTS)
def test_what_is_done_with_a_pool_at_the_very_end_ends_too(
    kind: str, scenario: str, tmp_path: Path
) -> None:
    only_if_deep(kind, LAST_ACTS, scenario)
    ended = check_end(kind, scenario, tmp_path, 0, "")
    assert set(ended.said) == LAST_ACTS[scenario] or is_emptied(scenario, ended)


@pytest.mark.parametrize("scenario", NO_THREAD)
def test_a_first_use_at_the_very_end_works_or_is_refused_at_once(
    kind: str, scenario: str, tmp_path: Path
) -> None:
    ended = check_end(kind, scenario, tmp_path, 0, "")
    assert set(ended.said) <= NO_THREAD[scenario] or is_emptied(scenario, ended)
    assert len(ended.said) == 1
    if kind == "sqlite" and scenario != "at_last_warm_up":
        assert "Error" not in ended.said[0]


def is_emptied(scenario: str, ended: End) -> bool:
    return FREE and scenario.startswith("at_last") and set(ended.said) == EMPTIED


@pytest.mark.parametrize("scenario", CODES)
def test_the_exit_code_is_the_programs_own(kind: str, scenario: str, tmp_path: Path) -> None:
    only_if_deep(kind, CODES, scenario)
    check_end(kind, scenario, tmp_path, *CODES[scenario])


def check_end(kind: str, scenario: str, folder: Path, code: int, last_line: str) -> End:
    path = folder / "a.db"
    ended = end(kind, scenario, path)
    assert ended.code == code, ended.stderr
    assert (ended.stderr.splitlines() or [""])[-1] == last_line
    assert ended.stderr.count("Traceback") == bool(last_line), ended.stderr
    assert ended.seconds < SOON, f"the exit took {ended.seconds:.1f} s"
    if kind == "sqlite":
        check_file(path)
    what = scenario.replace("_", " ")
    evidence.record(
        "garbage and threads", f"ends of programs: {kind}, {what}", ms=round(ended.seconds * 1000)
    )
    return ended


def check_file(path: Path) -> None:
    """Nobody holds a lock on it any more, nothing unfinished is in it, and it is whole."""
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as conn:
        conn.execute("BEGIN EXCLUSIVE")
        assert conn.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        conn.execute("ROLLBACK")


# -- planted: what these checks are for -----------------------------------------------------------

PLANTED = """
import sys
from dbapi_pool import system, pool
{plant}
sys.argv[0] = {program!r}
exec(compile(open({program!r}).read(), {program!r}, "exec"), {{"__name__": "__main__"}})
"""
PLANTS = {
    "threads that the exit waits for": (
        "import threading, functools\n"
        "def spawn(self, target, name): threading.Thread(target=target, daemon=False).start()\n"
        "system.System.spawn = spawn",
        "a_hung_connect",
    ),
    "a finalizer that waits for threads that are no more": (
        "system.System.is_over = lambda self: False",
        "at_last_use_of_what_threads_hold",
    ),
    "a close at exit": (
        "import atexit; start = pool.Pool._start\n"
        "def _start(self): atexit.register(lambda: self.close(timeout=600)); start(self)\n"
        "pool.Pool._start = _start",
        "waiters",
    ),
}


@pytest.mark.parametrize("plant", PLANTS)
def test_a_pool_that_delays_the_exit_is_found(plant: str, tmp_path: Path) -> None:
    code, scenario = PLANTS[plant]
    if FREE and scenario.startswith("at_last"):
        pytest.skip("the pool's modules are emptied before that finalizer")
    program = command("ending.py")[-1]
    text = PLANTED.format(plant=code, program=program)
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(
            [sys.executable, "-c", text, "remote", scenario, str(tmp_path / "a.db")],
            timeout=SOON,
            capture_output=True,
        )
