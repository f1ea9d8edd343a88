"""Two pools side by side: the same calls on another library's and on ours, and what came of each.

A `Pair` is a connection of theirs and the one of ours that the same call gave. What may differ is
named by each test, with the reason; anything else that differs fails. It must never know which
libraries these are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Pair:
    """A connection of theirs, and its like of ours."""

    def __init__(self, theirs: Any, ours: Any, key: Any = None) -> None:
        self.theirs = theirs
        self.ours = ours
        self.key = key
        self.closed = False  # by hand
        self.lost = False  # the server ended its session


class Outcome(NamedTuple):
    """What a call came to."""

    value: Any
    error: type[BaseException] | None

    def __repr__(self) -> str:
        return f"returned {self.value!r}" if self.error is None else f"raised {self.error.__name__}"


def outcome(call: Callable[[], Any]) -> Outcome:
    """Do it; an error is part of it."""
    try:
        return Outcome(call(), None)
    except Exception as exc:
        return Outcome(None, type(exc))


class Parity:
    """Compares outcomes, and counts what differed as it may."""

    def __init__(
        self, differences: Mapping[str, str], families: tuple[type[Exception], ...]
    ) -> None:
        """`families`: errors count as the same if they are of the same of these; the first one that
        fits. Others must be of the same class."""
        self.differences = differences
        self.families = families
        self.seen: Counter[str] = Counter()
        self.calls = 0

    def family(self, error: type[BaseException] | None) -> Any:
        """By which an error is compared."""
        if error is None:
            return None
        return next((one for one in self.families if issubclass(error, one)), error)

    def same(
        self, theirs: Outcome, ours: Outcome, what: str, difference: str | None = None
    ) -> None:
        """Both came to the same, but for a difference that is named here."""
        self.calls += 1
        alike = self.family(theirs.error) is self.family(ours.error)
        if alike and (theirs.error or theirs.value == ours.value):
            return
        if difference is None:
            raise AssertionError(f"{what}: theirs {theirs!r}, ours {ours!r}")
        self.note(difference)

    def note(self, difference: str) -> None:
        """Something differed, as it may."""
        assert difference in self.differences, f"{difference!r} has no reason"
        self.seen[difference] += 1
