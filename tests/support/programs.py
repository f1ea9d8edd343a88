"""Runs the programs of `tests/programs`, each in a process of its own.

For what would harm the test runner: its end, forks, patched threads. Must never know what they do.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "programs"
PATIENCE = 60.0
"""Seconds after which a program hangs, and is killed."""

Done = subprocess.CompletedProcess


def command(program: str, *args: object, strict: bool = True) -> list[str]:
    """How to run it: `strict` makes every warning an error."""
    options = ["-W", "error"] if strict else []
    return [sys.executable, *options, str(FOLDER / program), *map(str, args)]


def run(
    program: str,
    *args: object,
    timeout: float = PATIENCE,
    strict: bool = True,
) -> Done[str]:
    """Run it to its end. Raises `subprocess.TimeoutExpired` if it hangs."""
    return subprocess.run(
        command(program, *args, strict=strict),
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def run_well(program: str, *args: object, timeout: float = PATIENCE) -> str:
    """As `run`; it must end with 0 and say nothing on stderr. What it said on stdout."""
    done = run(program, *args, timeout=timeout)
    assert (done.returncode, done.stderr) == (0, ""), f"{done.stdout}\n{done.stderr}"
    return done.stdout
