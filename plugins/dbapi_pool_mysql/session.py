"""A session on the server: what it was when it was new, and the SQL that makes it so again.

COM_RESET_CONNECTION (https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_com_reset_connection.html,
https://mariadb.com/kb/en/com_reset_connection/) leaves the current database and the active role as they
are, and sets everything else to the server's defaults, not to what the connection asked for. This
module must never know a driver: it speaks through a function that runs a query.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .faults import code_of

Rows = Callable[[str], list[tuple[Any, ...]]]
Run = Callable[[str], object]

# ER_SP_DOES_NOT_EXIST, ER_NO_DB_ERROR: MySQL 5.7 has no roles, and takes the name for a function of
# the user's.
_NO_SUCH_FUNCTION = frozenset({1305, 1046})

_WHERE = "SELECT CURRENT_USER(), DATABASE(), @@character_set_database, @@collation_database"

LEVELS = ("READ UNCOMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
"""Isolation levels: https://dev.mysql.com/doc/refman/8.4/en/set-transaction.html"""


@dataclass(frozen=True)
class Baseline:
    """What a new session of one pool is like: the same for all its connections."""

    user: str
    place: tuple[str | None, ...]
    """Current database, and the character set and collation that come with it."""
    role: str | None
    """What `CURRENT_ROLE()` gives; always None where there are no roles."""
    has_roles: bool
    init_connect: bool
    """Whether the server runs statements of its own in new sessions (`init_connect`), which a reset
    undoes and does not repeat."""
    is_mariadb: bool

    @property
    def database(self) -> str | None:
        """The current database."""
        return self.place[0]

    @classmethod
    def of(cls, rows: Rows) -> Baseline:
        """That of a session in which nothing was done yet. One round trip."""
        try:
            found = rows(f"{_WHERE}, CURRENT_ROLE(), @@init_connect, VERSION()")[0]
            has_roles = True
        except Exception as exc:
            if code_of(exc) not in _NO_SUCH_FUNCTION:
                raise
            found = rows(f"{_WHERE}, NULL, @@init_connect, VERSION()")[0]
            has_roles = False
        user, *place, role, init_connect, version = map(_text, found)
        is_mariadb = "mariadb" in (version or "").lower()
        return cls(user or "", tuple(place), role, has_roles, bool(init_connect), is_mariadb)

    def restore(self, rows: Rows, run: Run) -> bool:
        """Go back to the database and the role. One round trip if nothing is to do. False if it
        cannot: it is another user's session, or there was no database and now there is one."""
        role = "CURRENT_ROLE()" if self.has_roles else "NULL"
        user, *place, active = map(_text, rows(f"{_WHERE}, {role}")[0])
        if user != self.user:
            return False
        if active != self.role:
            run(f"SET ROLE {self._named_role()}")
        if tuple(place) == self.place:
            return True
        if self.database is None:
            return False
        # Also if it is the same: a reset forgets the database's character set.
        run(f"USE {_identifier(self.database)}")
        return True

    def _named_role(self) -> str:
        if not self.role:
            return "NONE"
        # MySQL gives a list of quoted names, MariaDB one bare name.
        return _identifier(self.role) if self.is_mariadb else self.role


# They change by themselves. (All that begin with GTID_ too.)
_RESTLESS = frozenset({
    "error_count", "identity", "in_transaction", "insert_id", "last_gtid", "last_insert_id",
    "pseudo_thread_id", "rand_seed1", "rand_seed2", "timestamp", "warning_count",
})  # fmt: skip


def variables(rows: Rows) -> dict[str, Any]:
    """All variables of the session, to see whether two sessions are alike. One round trip, of a
    millisecond or more."""
    found = {str(_text(name)): value for name, value in rows("SHOW SESSION VARIABLES")}
    return {
        name: value
        for name, value in found.items()
        if name not in _RESTLESS and not name.startswith("gtid_")
    }


def settings(charset: str | None, collation: str | None, autocommit: bool | None,
             variables: Mapping[str, str | None]) -> str:  # fmt: skip
    """One SET statement; `""` if nothing is to be set."""
    assignments = []
    if charset:
        names = f"NAMES {_word(charset)}"
        assignments.append(names + (f" COLLATE {_word(collation)}" if collation else ""))
    if autocommit is not None:
        assignments.append(f"autocommit = {int(autocommit)}")
    for name, value in variables.items():
        if value is not None:
            assignments.append(f"{name} = {_literal(value)}")
    return f"SET {', '.join(assignments)}" if assignments else ""


def beginning(
    autocommit: bool,
    isolation: str | None,
    readonly: bool | None,
    options: Mapping[str, Any],
) -> list[str]:
    """The statements that begin a transaction, none if it begins by itself. Raises `ValueError`.

    SET TRANSACTION without SESSION is for the next transaction alone
    (https://dev.mysql.com/doc/refman/8.4/en/set-transaction.html).
    """
    unknown = sorted(set(options) - {"consistent_snapshot"})
    if unknown:
        raise ValueError(
            f"transaction({unknown[0]}={options[unknown[0]]!r}): MySQL knows only the option"
            " 'consistent_snapshot'"
        )
    modes = []
    if options.get("consistent_snapshot"):
        modes.append("WITH CONSISTENT SNAPSHOT")
    if readonly is not None:
        modes.append("READ ONLY" if readonly else "READ WRITE")
    statements = []
    if isolation is not None:
        statements.append(f"SET TRANSACTION ISOLATION LEVEL {_level(isolation)}")
    if modes or autocommit:
        statements.append(" ".join(["START TRANSACTION", ", ".join(modes)]).rstrip())
    return statements


def _level(isolation: str) -> str:
    level = " ".join(isolation.upper().replace("-", " ").replace("_", " ").split())
    if level not in LEVELS:
        raise ValueError(
            f"transaction(isolation={isolation!r}): must be one of {', '.join(map(repr, LEVELS))}"
        )
    return level


def _text(value: Any) -> str | None:
    """A driver may be told to give text as bytes."""
    return bytes(value).decode() if isinstance(value, (bytes, bytearray)) else value


def _identifier(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _literal(value: str) -> str:
    # Doubled backslashes would be wrong under NO_BACKSLASH_ESCAPES; no value of these has one.
    if "\\" in value:
        raise ValueError("a backslash in a session variable's value is not supported")
    return "'" + value.replace("'", "''") + "'"


def _word(name: str) -> str:
    if not name.replace("_", "").isalnum():
        raise ValueError(f"{name!r} is no name of a character set or collation")
    return name
