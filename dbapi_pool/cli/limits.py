"""How many sessions a server has to give, by what it says of itself: to all, to a user, in a database.

A leaf. It must never ask a server, nor know who wants the sessions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..drivers.facts import Server


@dataclass(frozen=True)
class Limit:
    """One bound on the sessions of a user."""

    whose: str
    """For people: `"all sessions"`."""
    most: int
    """Sessions that it allows, without those that are reserved for administrators."""
    others: int
    """Of these, sessions that other users have now; 0 if that is not known."""
    told: str
    """How `most` comes about."""

    @property
    def left(self) -> int:
        """Sessions that this user may have."""
        return max(0, self.most - self.others)


def limits(server: Server) -> Sequence[Limit]:
    """Those that the server has told, the tightest first; none if a pooler stands between: the
    sessions are the pooler's then."""
    if server.pooler:
        return ()
    found = [_of_all(server), _of_user(server), _of_database(server)]
    return sorted((one for one in found if one is not None), key=lambda limit: limit.left)


def _of_all(server: Server) -> Limit | None:
    if not server.max_connections:
        return None
    reserved = server.reserved_connections or 0
    told = f"max_connections {server.max_connections}"
    told += f", {reserved} of them reserved" if reserved else ""
    most = max(0, server.max_connections - reserved)
    return Limit("all sessions", most, server.connections_of_others or 0, told)


def _of_user(server: Server) -> Limit | None:
    most = server.user_connections
    return Limit("this user's sessions", most, 0, "the user's limit") if most else None


def _of_database(server: Server) -> Limit | None:
    most, others = server.database_connections, server.others_in_database or 0
    return (
        Limit("sessions in this database", most, others, "the database's limit") if most else None
    )
