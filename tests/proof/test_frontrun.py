"""frontrun, a tool of other hands, explores the ledger: the same promises, the same bugs.

Each exploration is a process of its own (`programs/frontrun_explores.py`). What frontrun does not see
and what it takes for a deadlock is shown, too, so that its word can be trusted for the rest.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from evidence import DEEP, record

import dbapi_pool

pytest.importorskip("frontrun")  # which has no wheels for free-threaded builds

TESTS = Path(__file__).parents[1]
SECONDS = 40.0  # for one exploration; the quick ones reach an end long before
PREEMPTIONS = 2 if DEEP else 1

QUICK = [
    "a borrower gets in line, a connection comes back",
    "a hand-over at the instant of the timeout",
    "close against a connection that comes back",
]
LONG = [
    "close against a borrower, one idle",
    "more room against a borrower",
    "two borrow, one idle",
    "two borrow, nothing open, room for one",
    "two borrow while one comes back",
]

# The first two are found soonest. Not "late arrivals are forgotten at close", which our own explorer
# finds: frontrun does not see that an append to a deque and a look through it may come in any order.
BUGS = {
    "no second look after standing in line": "a borrower gets in line, a connection comes back",
    "what somebody else was quicker to take is taken, too": "close against a borrower, one idle",
    "who returns looks at the line before, not after":
        "a borrower gets in line, a connection comes back",
}  # fmt: skip


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """With the core in a folder named as if it were installed: only of such can frontrun be told
    which modules to look into."""
    home = tmp_path_factory.mktemp("frontrun") / "site-packages"
    home.mkdir()
    (home / "dbapi_pool").symlink_to(Path(dbapi_pool.__file__).parent, target_is_directory=True)
    paths = [str(home), str(TESTS / "support")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "FRONTRUN_ACTIVE": "1"}


def run(environment: dict[str, str], program: str, *args: object) -> dict[str, Any]:
    """What the program says."""
    done = subprocess.run(
        [sys.executable, str(TESTS / "programs" / program), *map(str, args)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=8 * SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


@pytest.mark.parametrize("name", [*QUICK, *(LONG if DEEP else ())])
def test_frontrun_finds_nothing_wrong_with_the_ledger(
    environment: dict[str, str], name: str
) -> None:
    said = run(environment, "frontrun_explores.py", name, "", PREEMPTIONS, SECONDS)

    assert said["holds"] is True, said["why"]
    ended = said["seconds"] < SECONDS
    record(
        "frontrun",
        name,
        orders=said["runs"],
        **{"to the end": "yes" if ended else "no"},
    )


@pytest.mark.parametrize("bug", BUGS if DEEP else [*BUGS][:2])
def test_frontrun_finds_a_planted_bug(environment: dict[str, str], bug: str) -> None:
    said = run(environment, "frontrun_explores.py", BUGS[bug], bug, 2, SECONDS)

    assert said["holds"] is False, f"not found in {said['runs']} orders"
    record("frontrun", f"planted, found: {bug}", orders=said["runs"])


def test_frontrun_takes_a_lock_that_another_thread_releases_for_a_deadlock(
    environment: dict[str, str],
) -> None:
    """So what it says of such a signal means nothing, and it is given another kind here."""
    said = run(environment, "frontrun_on_signals.py", "lock")

    assert said["holds"] is False
    assert "thread 0 -> lock" in said["why"]
    assert said["why"].rstrip().endswith("-> thread 0")


def test_frontrun_does_not_see_the_lock_that_our_signal_is_made_of(
    environment: dict[str, str],
) -> None:
    said = run(environment, "frontrun_on_signals.py", "thread lock")

    assert said["holds"] is None
    assert "timed out" in said["why"]


def test_frontrun_understands_the_signal_that_it_is_given_here(
    environment: dict[str, str],
) -> None:
    assert run(environment, "frontrun_on_signals.py", "event")["holds"] is True
