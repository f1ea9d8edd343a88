"""DBUtils' own tests, with ours in the place of its modules: what passes, and what does not and why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from dbutils_suite import LOOKS, Suite, fetch, listed

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    return Suite(fetch(Path(tmp_path_factory.mktemp("dbutils"))))


@pytest.mark.parametrize("probes", [False, True], ids=["as it is", "private attributes answered"])
def test_of_dbutils_own_tests_all_pass_but_those_that_are_listed(
    suite: Suite, probes: bool, record_property: Callable[[str, object], None]
) -> None:
    outcomes, surprises = suite.surprises(probes)

    passed = list(outcomes.values()).count("passed")
    print(f"{passed} of {len(outcomes)} pass")
    record_property("passed", f"{passed} of {len(outcomes)}")
    assert surprises == {}
    document = " ".join((ROOT / "docs" / "dbutils.md").read_text("utf-8").split())
    assert f"Of the {len(outcomes)} tests" in document
    assert (f"{passed} pass with ours" if probes else f"{passed} as they are") in document


def test_no_test_is_listed_twice() -> None:
    tests = [test for tests in listed().values() for test in tests]

    assert len(tests) == len(set(tests)) > 0


def test_the_list_knows_the_category_that_probes_answer() -> None:
    assert listed()[LOOKS]
