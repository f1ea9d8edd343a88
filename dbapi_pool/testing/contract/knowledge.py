"""`Knowledge`: what only the author of a driver's plugin can know, with defaults for the rest.

Plain attributes and methods to be overridden; SQL goes through `str.format`. It must never know a
test runner, and needs no database until a method is called.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ...drivers.base import Driver
from .dirt import Dirt

__all__ = ["Knowledge", "as_written"]


class Knowledge:
    """What the kit cannot find out by itself. Override what does not fit; `""` or empty: there is no
    such thing, and the checks that need it are skipped, saying so."""

    def driver(self) -> Driver | None:
        """A new `Driver` for each pool. None: the one that the installed plugins give."""
        return None

    settings: Mapping[str, Any] = {}
    """Settings of every pool that is examined, where a check says nothing else (`native=True`)."""

    lacks: Collection[str] = ()
    """Abilities (`dbapi_pool.testing.contract.ABILITIES`) or names of checks that this driver cannot
    keep. A mapping also gives the reasons. These are skipped, visibly."""

    # -- SQL: {table}, {binary}, and {0}, {1}, ... for parameters ---------------------------------

    paramstyle: str | None = None
    """As PEP 249 has it; None: the module's."""

    binary = "BLOB"
    """The type of a column of bytes."""

    create = (
        "CREATE TABLE {table}"
        " (id INTEGER NOT NULL PRIMARY KEY, note VARCHAR(200), data {binary}, n INTEGER)"
    )
    """A table with transactions. `id` must be unique."""
    drop = "DROP TABLE {table}"
    insert = "INSERT INTO {table} (id, note, data, n) VALUES ({0}, {1}, {2}, 0)"
    add = "UPDATE {table} SET n = n + 1 WHERE id = {0}"
    delete = "DELETE FROM {table} WHERE id = {0}"
    select = "SELECT id, note, data FROM {table} WHERE id = {0}"
    ids = "SELECT id FROM {table} ORDER BY id"
    numbers = "SELECT n FROM {table} ORDER BY id"

    one = "SELECT 1"
    """Gives one row with the number 1, and needs no table."""
    wrong = "SELECT FROM WHERE"
    """What the server refuses to understand."""
    begin = "BEGIN"
    """Begins a transaction by hand."""
    commit = "COMMIT"
    """Ends it."""

    # -- sessions on a server ---------------------------------------------------------------------

    session = ""
    """Gives the number or name of the session that asks, as one row with one column."""
    kill = ""
    """Ends the session `{session}`; run on another."""
    in_transaction = ""
    """Says as true or false, in one row, whether session `{session}` has a transaction open. Run on
    another session, and never in a check that is read-only."""
    slow = ""
    """Takes 4 to 30 seconds, and then ends by itself."""

    # -- settings of a session --------------------------------------------------------------------

    setup = ""
    """A statement for the pool's `setup`, and ..."""
    setup_seen = ""
    """... a query that gives another row after it than before."""

    # -- arguments --------------------------------------------------------------------------------

    refused: Sequence[Mapping[str, Any]] = ()
    """Keyword arguments, added to the working ones, with which connecting fails for good: a wrong
    password, an unknown database."""
    unreachable: Sequence[Mapping[str, Any]] = ()
    """The same, but worth another try: nobody listens there. Must fail within a second."""

    # -- what a borrower may do -------------------------------------------------------------------

    dirt: Sequence[Dirt] = ()
    """What a borrower may leave behind. Each becomes a test."""

    attributes: Mapping[str, Any] = {}
    """Attributes of the connection and a value for each that is not the usual one."""

    def set_autocommit(self, conn: Any, on: bool) -> None:
        """Switch autocommit. Default: `conn.autocommit = on` or, if that is a method, calls it.

        Raises `NotImplementedError` if there is no such thing.
        """
        present = getattr(conn, "autocommit", None)
        if present is None:
            raise NotImplementedError("the connection has no `autocommit`")
        if callable(present):
            present(on)
        else:
            conn.autocommit = on


def as_written(kind: type, name: str) -> Any:
    """A class attribute as it was written, None if there is none: a plain function that connects is
    not to become a method."""
    value = next((vars(base)[name] for base in kind.__mro__ if name in vars(base)), None)
    return value.__func__ if isinstance(value, staticmethod) else value
