"""Running a hypothesis state machine: how many examples, and what came of them.

It must never know what the machine is about.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

_ASKED = os.environ.get("DBAPI_POOL_TEST_EXAMPLES")


def examples(otherwise: int) -> int:
    """How many examples: what `DBAPI_POOL_TEST_EXAMPLES` says, or `otherwise`."""
    return int(_ASKED or otherwise)


def run(machine: Callable[[], RuleBasedStateMachine], count: int, steps: int) -> None:
    """Run `count` examples, each of up to `steps` steps; shrink what fails."""
    _run(machine, count, steps, settings.get_profile("default").phases, print_blob=True)


def search(machine: Callable[[], RuleBasedStateMachine], most: int, steps: int) -> str | None:
    """What the first failing one of at most `most` examples complains about, as it stands."""
    try:
        _run(machine, most, steps, (Phase.generate,), report_multiple_bugs=False, database=None)
    except Exception as exc:
        return f"{type(exc).__name__}: {exc}"
    return None


def _run(
    machine: Callable[[], RuleBasedStateMachine],
    count: int,
    steps: int,
    phases: Any,
    **more: Any,
) -> None:
    run_state_machine_as_test(
        machine,  # type: ignore[arg-type]
        settings=settings(
            max_examples=count,
            # The default run is the same every time; the variable asks for other examples each time.
            derandomize=_ASKED is None,
            stateful_step_count=steps,
            deadline=None,
            phases=phases,
            suppress_health_check=list(HealthCheck),
            **more,
        ),
    )
