"""Exceptions wherever CPython can raise one, in every operation: no capacity is lost."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import bugs_of_strikes
import pytest
from bugs_of_strikes import BUGS, Bug
from campaign import Campaign, Result, Strange, deliverable, injector
from evidence import DEEP, depth, record
from injector import Injector
from struck_scenarios import SCENARIOS, Scenario

from dbapi_pool import Pool

HOT = {"checkout: idle", "checkin: clean", "with connection()"}
STEP = depth(11, 1)  # the default run strikes one point in so many, but on the common path all


@pytest.fixture(scope="module")
def striker() -> Iterator[Injector]:
    with injector(also=bugs_of_strikes.__file__) as found:
        yield found


def campaigns(striker: Injector, scenario: Scenario) -> list[Campaign]:
    return [
        Campaign(striker, scenario, place, victim)
        for place in scenario.places
        for victim in scenario.victims
    ]


def strike(striker: Injector, scenario: Scenario) -> Result:
    result = Result()
    step = 1 if scenario.name in HOT else STEP
    for number, campaign in enumerate(campaigns(striker, scenario)):
        for error in (KeyboardInterrupt, Strange) if DEEP else (KeyboardInterrupt,):
            result.add(campaign.run(deliverable, error, step, first=number))
    return result


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_an_exception_wherever_python_can_raise_one_costs_nothing(
    striker: Injector, scenario: Scenario
) -> None:
    result = strike(striker, scenario)

    assert result.points
    record(
        "exceptions",
        scenario.name,
        points=result.points,
        failing=len(result.failing),
        finalized=result.finalized,
    )
    assert not result.failing, "\n".join(result.failing)


# Of the rest of `native` much runs within the driver's own Python code: an exception there strikes
# that, and the fake driver, which is struck nowhere else, takes it for a second thread.
HANDING_OVER = {
    f"{file}: {function}"
    for file, function in (
        ("pool.py", "_hand_over"),
        ("native.py", "lent"),
        ("native.py", "let_go"),
        ("native.py", "_become"),
        ("native.py", "close"),
        ("native.py", "invalidate"),
        ("native.py", "<lambda>"),
        ("native.py", "_give_back"),
        ("native.py", "errand"),
    )
}


@pytest.mark.parametrize("place", ["local", "remote"])
@pytest.mark.parametrize("name", ["with connection()", "with transaction()", "run()", "invalidate"])
def test_an_exception_while_a_native_connection_changes_hands_costs_nothing(
    striker: Injector, name: str, place: str
) -> None:
    scenario = next(one for one in SCENARIOS if one.name == name)
    make = functools.partial(Pool, native=True)
    result = Campaign(striker, scenario, place, make=make).run(
        lambda point: deliverable(point) and point.function in HANDING_OVER, KeyboardInterrupt
    )

    assert result.points > 5
    # One that only its borrower kept is closed by the driver when it is dropped.
    lost = [
        one for one in result.failing if "1 connections were left to their finalizers" not in one
    ]
    assert not lost, "\n".join(lost)


@pytest.mark.parametrize("place", ["local", "remote"])
@pytest.mark.parametrize("how", ["signals", "threads"])
def test_a_hail_of_exceptions_costs_nothing(place: str, how: str) -> None:
    seconds = depth(2, 30)
    program = Path(__file__).parents[1] / "programs" / "struck_again_and_again.py"
    done = subprocess.run(
        [sys.executable, str(program), place, how, str(seconds)],
        capture_output=True, text=True, timeout=120 + seconds,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr[-3000:]
    strikes = int(done.stdout)
    assert strikes > 100
    record("signals", f"{how}, {place}", strikes=strikes, seconds=seconds)


def test_only_python_3_10_forgets_a_lock_when_struck_twice_in_a_row() -> None:
    # Why the hail strikes one by one there, and that it need not elsewhere. No pool is involved.
    program = Path(__file__).parents[1] / "programs" / "two_strikes.py"
    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, timeout=60, check=True
    )

    assert done.stdout.strip() == str(sys.version_info < (3, 11))


@pytest.mark.parametrize("bug", BUGS, ids=str)
def test_a_planted_bug_is_found(
    monkeypatch: pytest.MonkeyPatch, striker: Injector, bug: Bug
) -> None:
    if sys.version_info < bug.since:
        pytest.skip(f"this is no bug before Python {bug.since}")
    found = next(one for one in SCENARIOS if one.name == bug.where)
    for (owner, name), method in bug.methods.items():
        monkeypatch.setattr(owner, name, method)

    assert any(
        one.run(deliverable, KeyboardInterrupt, until_found=True).failing
        for one in campaigns(striker, found)
    )
