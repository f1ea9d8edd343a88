"""`Holder`: who has borrowed a connection, since when, and at which line.

Reads the ledger, changes nothing, and keeps no connection alive. It must never know the pool.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from .ledger import Ledger
from .member import NOBODY, line_of


@dataclass(frozen=True)
class Holder:
    """One connection that is lent."""

    connection_id: int
    """Its number in the pool, as events and the log tell it."""
    thread: int
    """`threading.get_ident()` of who borrowed it; or who first used it, if it was passed on."""
    site: str
    """`file:line` at which it was borrowed; "?" if that is not known."""
    seconds: float
    """How long it has been lent."""
    uses: int
    """How often that connection was lent, this time included."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


def holders(ledger: Ledger, now: float) -> list[Holder]:
    """Every borrowing, the longest first; not what is on its way to a borrower at this moment."""
    members = [place.member for place in ledger.census().lent]
    found = [
        Holder(
            member.number,
            member.thread,
            line_of(member.code, member.lasti),
            max(now - member.since, 0.0),
            member.uses,
        )
        for member in members
        if member is not None and member.thread != NOBODY
    ]
    return sorted(found, key=lambda holder: -holder.seconds)
