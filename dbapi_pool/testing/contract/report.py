"""Running checks without a test runner, and the report on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import checks
from .check import BROKEN, KEPT, NOT_APPLICABLE, Check, Outcome, all_checks
from .subject import Subject

__all__ = ["Report", "checks_for", "examine", "read_only_checks", "run_contract"]


@dataclass(frozen=True)
class Report:
    """What came of a number of checks."""

    outcomes: Mapping[Check, Outcome]
    """In the order in which they ran."""

    @property
    def kept(self) -> list[str]:
        """Names of the checks that were kept."""
        return self._names(KEPT)

    @property
    def broken(self) -> list[str]:
        """Names of those that were not."""
        return self._names(BROKEN)

    @property
    def not_applicable(self) -> list[str]:
        """Names of those that make no sense for this subject."""
        return self._names(NOT_APPLICABLE)

    def _names(self, state: str) -> list[str]:
        return [check.name for check, one in self.outcomes.items() if one.state == state]

    def __str__(self) -> str:
        """One line for each check."""
        return "\n".join(
            f"{one.state:14} {check.promise:13} {check.text}"
            + (f" [{check.name}: {one.detail}]" if one.detail else "")
            for check, one in self.outcomes.items()
        )


def checks_for(subject: Subject) -> Sequence[Check]:
    """Every check, and one for each `Dirt` that the author knows."""
    return [*all_checks(), *map(checks.dirt.dirt_check, subject.knowledge.dirt)]


def read_only_checks() -> Sequence[Check]:
    """Those that run on any database: they make no table and write nothing."""
    return [check for check in all_checks() if check.read_only]


def run_contract(subject: Subject, only: Iterable[Check] | None = None) -> Report:
    """Run `only` these checks (None: all) on the subject, one after the other."""
    chosen = checks_for(subject) if only is None else only
    return Report({check: check.run(subject) for check in chosen})


def examine(creator: Any, *args: Any, **kwargs: Any) -> Report:
    """Run the read-only checks on somebody's database. Arguments as for `Pool`, without settings."""
    return run_contract(Subject.of(creator, *args, **kwargs), read_only_checks())
