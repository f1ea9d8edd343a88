"""gevent and eventlet: green threads share a pool in a patched process (`programs/green.py`).

Patched before the pool is imported, and also after: its locks and threads are looked up when they are
made. Nobody may block the hub: a ticker ticks on while others wait.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import evidence
import pytest
from programs import command, run

SCENARIOS = ["served", "patient_ticker", "cut_short", "killed", "dropped", "storm", "leaked"]
KINDS = ["remote", "local", "sqlite"]


@pytest.fixture(params=["gevent", "eventlet"])
def library(request: pytest.FixtureRequest) -> str:
    """What makes the threads green."""
    name = str(request.param)
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    return name


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_green_threads_share_a_pool(
    library: str, scenario: str, kind: str, when: str, tmp_path: Path
) -> None:
    turn = SCENARIOS.index(scenario) + KINDS.index(kind) + (when == "after") + (library == "gevent")
    always = (scenario, kind, when) == ("leaked", "remote", "before")
    if turn % 6 and not always and not evidence.DEEP:
        pytest.skip("only in the deep run: the default run takes about one combination in six")
    # The libraries' own warnings are not ours: only what is left on stderr.
    done = run("green.py", library, when, kind, scenario, tmp_path / "a.db", strict=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr or library == "eventlet"  # it reports what it kills
    figures = json.loads(done.stdout.splitlines()[-1])
    check(scenario, figures)
    what = f"{library}, patched {when}, {kind}: {scenario.replace('_', ' ')}"
    evidence.record("garbage and threads", f"green threads: {what}")


def check(scenario: str, figures: dict[str, int]) -> None:
    if scenario == "served":
        assert figures == {"served": 200, "in order": True}
    elif scenario == "patient_ticker":
        assert figures["ticks while others waited"] >= 50
    elif scenario == "cut_short":
        assert figures["served"] + figures["timed out"] == 200
        assert figures["timed out"] > 5
    elif scenario == "killed":
        assert figures["killed"] == 100
    elif scenario == "dropped":
        assert figures == {"died holding": 8}
    elif scenario == "leaked":  # a deadlock that is none would have ended the program
        assert figures == {"leaked while each waits for another": 5}
    else:
        assert max(figures.values()) >= 20


def test_a_pool_that_blocks_the_hub_is_found(library: str, tmp_path: Path) -> None:
    """Planted: a signal on a lock of the real kind, taken before patching."""
    program = command("green.py")[-1]
    plant = (
        "import sys, _thread; real = _thread.allocate_lock\n"
        "from dbapi_pool import system\n"
        "def init(self): self._lock = real(); self._lock.acquire()\n"
        "system.Signal.__init__ = init\n"
        f"exec(compile(open({program!r}).read(), {program!r}, 'exec'))"
    )
    arguments = [library, "after", "local", "patient_ticker"]
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run([sys.executable, "-c", plant, *arguments], timeout=8.0, capture_output=True)
