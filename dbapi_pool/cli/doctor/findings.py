"""What was found out about one database: plain records for rules and reports.

A leaf: it must never measure, decide or print.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...drivers.facts import Server
from ..places import host_of, is_name

YES = "yes"
NO = "no"
PARTLY = "partly"
BROKEN = "broken"

SERIOUS = "serious"
ADVICE = "advice"
NOTE = "note"


@dataclass(frozen=True)
class Ability:
    """Something that a driver can do beyond PEP 249, or cannot."""

    name: str
    """Stable: for programs."""
    text: str
    answer: str
    """`"yes"`, `"no"`, `"partly"`, or `"broken"`: it says that it can, and a check shows that not."""
    detail: str = ""


@dataclass(frozen=True)
class Costs:
    """Medians in seconds; None: not measured, since it failed, or there is no such thing."""

    connect: float | None = None
    round_trip: float | None = None
    """One statement within an open transaction."""
    ping: float | None = None
    transaction: float | None = None
    """One statement and a commit."""
    reset: float | None = None
    """A full reset of the session, in place."""
    checkout: float | None = None
    """Borrowing and returning, with nothing between."""
    lease: float | None = None
    """Borrowing, one statement, commit, returning."""

    def in_round_trips(self, name: str) -> float | None:
        """One of them as a multiple of `round_trip`."""
        seconds = getattr(self, name)
        if seconds is None or not self.round_trip:
            return None
        return float(seconds / self.round_trip)


@dataclass(frozen=True)
class Checked:
    """What came of one check of the contract kit."""

    name: str
    promise: str
    text: str
    state: str
    detail: str
    seconds: float


@dataclass(frozen=True)
class Plan:
    """What the user means to run."""

    max_size: int = 10
    processes: int = 1

    @property
    def sessions(self) -> int:
        """Sessions on the server at most."""
        return self.max_size * self.processes


@dataclass(frozen=True)
class Findings:
    """Everything that the rules go by."""

    driver: str
    """The `Driver`'s name."""
    module: str
    """The DB-API module and its version."""
    plugin: bool
    """Whether some plugin knows this driver."""
    local: bool
    server: Server = Server()
    abilities: tuple[Ability, ...] = ()
    costs: Costs = Costs()
    checks: tuple[Checked, ...] = ()
    plan: Plan = Plan()
    refusal: str = ""
    """Why a second connection beside the first was refused; then there are no checks."""

    @property
    def broken(self) -> tuple[Checked, ...]:
        """Promises that were not kept."""
        return tuple(one for one in self.checks if one.state == BROKEN)

    def can(self, name: str) -> bool:
        """Whether it has this ability."""
        return any(one.name == name and one.answer == YES for one in self.abilities)

    @property
    def host(self) -> str:
        """The host behind a network; "" for this machine, a socket file, a file, or if unknown."""
        return "" if self.local else host_of(self.server.address)

    @property
    def host_is_name(self) -> bool:
        """Whether `host` is a name, that can lead elsewhere tomorrow."""
        return is_name(self.host)


@dataclass(frozen=True)
class Advice:
    """One thing to set or to look at."""

    rule: str
    """Stable: for programs."""
    severity: str
    """`"serious"`: it will fail, or is unsafe; `"advice"`; `"note"`: good to know."""
    text: str
    reason: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of `Pool`."""
    code: str = ""
    """Anything else to paste."""
