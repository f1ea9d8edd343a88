"""Many threads at once, with and without the GIL: what the core takes for atomic is so.

The scenes are in `tests/programs/free_threads.py`. Where there is a GIL, threads are switched as often
as the interpreter can; where there is none, they truly run at once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from builds import FREE
from evidence import depth, record

PROGRAM = Path(__file__).parents[1] / "programs" / "free_threads.py"
# Rounds in the run that everybody makes, and in the long one.
ROUNDS = {
    "borrowers": (40, 3000),
    "quick": (500, 30_000),
    "closers": (80, 5000),
    "sharers": (2, 150),
    "cursors": (3, 100),
    "everything": (6, 600),
    "sqlite": (5, 500),
}


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROGRAM), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=depth(180, 1200),
        env={**os.environ, "PYTHON_GIL": "0"} if FREE else None,
    )


@pytest.mark.parametrize("where", ["remote", "local"])
@pytest.mark.parametrize("scene", [*ROUNDS])
def test_all_adds_up_after(scene: str, where: str) -> None:
    if scene == "sqlite" and where == "remote":
        pytest.skip("SQLite is opened in the borrower's thread, so there is one way only")
    done = run(scene, depth(*ROUNDS[scene]), where)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = json.loads(done.stdout)
    assert counts
    record("free-threading", f"{scene}: {where}", **dict(sorted(counts.items())))


@pytest.mark.parametrize(
    ("bug", "scene", "rounds", "where"),
    [
        ("returned_twice", "closers", 100, "remote"),
        ("check_then_act", "borrowers", 10, "remote"),
        ("one_look", "cursors", 200, "local"),
        ("not_found_again", "everything", 10, "remote"),
        ("many_steps", "quick", 3000, "remote"),
    ],
)
def test_a_known_bug_is_found(bug: str, scene: str, rounds: int, where: str) -> None:
    if bug == "many_steps" and not FREE:
        pytest.skip("with a GIL, walking through a deque is one step: nothing to be found")
    done = run(scene, rounds, where, bug)
    assert done.returncode == 1, f"{bug} was not found: {done.stdout}"
    assert "Traceback" in done.stderr
    record("free-threading", f"planted bugs, found: {bug}")


def test_this_build_has_no_gil() -> None:
    """That the runs above were what they are for is to be seen in the list of skipped tests."""
    if not FREE:
        pytest.skip(f"Python {sys.version.split()[0]} has a GIL: threads took turns, quickly")
    done = subprocess.run(
        [sys.executable, "-c", "import sys, dbapi_pool; print(sys._is_gil_enabled())"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHON_GIL": "0"},
    )
    assert done.stdout.strip() == "False", done.stdout + done.stderr
    assert not sys._is_gil_enabled(), "an extension has switched it on in this process"


def test_the_core_relies_on_nothing_that_only_a_gil_gives() -> None:
    """One question is allowed, since its answer only forbids: whether the build lets one thread look
    at another's variables."""
    core = Path(__file__).parents[2] / "dbapi_pool"
    asking = [
        (file.name, word)
        for file in core.rglob("*.py")
        for word in ("_is_gil_enabled", "GIL_DISABLED", "PYTHON_GIL", "abiflags")
        if word in file.read_text("utf-8")
    ]
    assert asking == [("system.py", "GIL_DISABLED")]
