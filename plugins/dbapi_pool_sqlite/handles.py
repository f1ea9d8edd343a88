"""What a borrowed connection needs to do as sqlite3's own, for programs that know of no pool.

Knows the pool only by its driver.
"""

from __future__ import annotations

from typing import Any

from dbapi_pool.handles import FencedCall, PooledConnection

from . import session


class BareSQLiteHandle(PooledConnection):
    """A borrowed connection that does as sqlite3's own."""

    __slots__ = ()

    _note: Any

    def _first_note(self) -> Any:
        return self._lease.member.conn.total_changes

    def _may_be_kept(self) -> bool:
        """Not in WAL mode: who closes the last connection finds the log merged into the file, and may
        copy that (https://www.sqlite.org/wal.html, "The WAL File")."""
        member = self._lease.member
        if member.work is None:  # it has not even looked at the file
            return True
        try:
            if session.is_manual(member.conn) and member.conn.in_transaction:
                session.run(member.conn, "ROLLBACK")  # as sqlite3's own does, for all to see
            session.silence(member.conn)  # what is done from here on, its borrower has not done
            return session.rows(member.conn, "PRAGMA journal_mode") != [("wal",)]
        except Exception:
            return False

    @property
    def total_changes(self) -> int:
        """As the driver's: what was changed since it was lent."""
        return int(self._lease.member.conn.total_changes - self._note)

    def backup(self, target: Any, *args: Any, **kwargs: Any) -> Any:
        """As the driver's; the target may be a borrowed connection too."""
        if isinstance(target, PooledConnection):
            target = target.driver_connection
        return FencedCall(self, "backup", True)(target, *args, **kwargs)
