"""In any order of the threads the promises hold: bound, exclusive, fair, nothing is lost.

Every scenario of `orders` is run on the machine of `interleave`, in every order within a bound and
then in random ones; each bug of `planted` must be found by the same search.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import bugs_of_order
import interleave
import orders
import points
import pytest
from builds import FREE
from evidence import DEEP, depth, record
from interleave import Wrong

from dbapi_pool import (
    cleaning,
    crew,
    cursors,
    duties,
    handles,
    keeper,
    ledger,
    member,
    outage,
    pool,
    source,
)  # fmt: skip

pytestmark = pytest.mark.skipif(
    FREE, reason="what one thread drops may die in another, when the machine does not choose it"
)

PREEMPTIONS = depth(1, 2)
MOST = depth(25, 1_500)  # systematic runs for one scenario
MOST_FOR_THE_CORE = depth(8_000, 20_000)
RANDOM = depth(10, 500)
MOST_FOR_A_BUG = 4_000

THE_CORE = {  # what all else is built of, and short enough to come to an end
    "a borrower stands in line while a connection comes back",
    "a connection comes back at the instant of the timeout",
    "one handle is closed by two threads, two in line",
    "two come back to a line of one",
}

CASES = [
    pytest.param(scenario, place, id=f"{scenario.name}, {place}")
    for scenario in orders.SCENARIOS
    for place in scenario.places
]


@pytest.fixture(scope="module", autouse=True)
def _explored() -> Iterator[None]:
    """The core may be preempted; nothing is logged, which is not what is explored."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    others = [cleaning, cursors, member, source]
    with points.tracing(
        [crew, duties, handles, keeper, ledger, outage, pool], also_written_by=others
    ):
        yield
    logging.disable(disabled)


@pytest.mark.parametrize(("scenario", "place"), CASES)
def test_in_every_order_the_promises_hold(scenario: orders.Scenario, place: str) -> None:
    core = scenario.name in THE_CORE and place == orders.LOCAL
    most = MOST_FOR_THE_CORE if core else MOST
    found = interleave.explore(
        scenario.body(place), PREEMPTIONS, scenario.early, most=most, random_runs=RANDOM
    )

    if found.wrong is not None:
        raise found.wrong
    assert found.exhausted or DEEP or not core
    record(
        "interleavings",
        f"{scenario.name} ({place})",
        promise=scenario.promise,
        orders=found.runs,
        **{
            # How many deviations from the plain order it had come to: all with fewer were run.
            "to one deviation": int(found.exhausted or found.deviations > 1),
            "to the end": int(found.exhausted),
        },
    )


@pytest.mark.parametrize("bug", bugs_of_order.BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_found(bug: bugs_of_order.Bug) -> None:
    scenario = orders.scenario(bug.scenario)
    body = scenario.body(bug.place)
    with bugs_of_order.planted(bug, points.watch):
        found = interleave.explore(body, 1, scenario.early, most=MOST_FOR_A_BUG)

        assert found.wrong is not None, f"not found in {found.runs} orders"
        assert bug.shows in str(found.wrong)
        with pytest.raises(Wrong) as again:
            interleave.run(body, found.schedule, scenario.early)
    assert str(again.value) == str(found.wrong)

    record("planted bugs", bug.name, orders=found.runs)
