"""`DriverContract`: the checks as a class of tests for pytest, each a test of its own.

The only module of the kit that needs pytest. Imported when `DriverContract` is first used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .check import Check, NotApplicable, all_checks
from .checks.dirt import dirt_check
from .dirt import Dirt
from .knowledge import Knowledge, as_written
from .subject import Subject

__all__ = ["DriverContract"]


class DriverContract(Knowledge):
    """Subclass it, name the subclass `Test...`, and say what only you know: see `Knowledge`."""

    creator: Any = None
    """As for `Pool`: a DB-API module, a callable that connects, a URL."""

    arguments: Any = {}
    """Keyword arguments for the creator: a mapping, or a fixture of that name."""

    @pytest.fixture
    def subject(self, request: pytest.FixtureRequest) -> Subject:
        """What is examined. Override this fixture for what attributes cannot say."""
        arguments = type(self).arguments
        if not isinstance(arguments, dict):
            arguments = request.getfixturevalue("arguments")
        return Subject(as_written(type(self), "creator"), (), arguments, self)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """One test for each `Dirt`."""
        if "one_dirt" in metafunc.fixturenames:
            metafunc.parametrize("one_dirt", self.dirt, ids=str)

    def test_clean_dirt(self, subject: Subject, one_dirt: Dirt) -> None:
        """The next borrower sees nothing of it."""
        _try(dirt_check(one_dirt), subject)


def _try(check: Check, subject: Subject) -> None:
    """As pytest wants it: passed, failed or skipped."""
    try:
        check.try_on(subject)
    except NotApplicable as exc:
        pytest.skip(str(exc))


def _test(check: Check) -> Callable[[DriverContract, Subject], None]:
    def test(self: DriverContract, subject: Subject) -> None:
        _try(check, subject)

    test.__name__ = f"test_{check.promise}_{check.name}"
    test.__doc__ = check.text
    return test


for _check in all_checks():
    setattr(DriverContract, f"test_{_check.promise}_{_check.name}", _test(_check))
