"""The return path: make a connection as good as new, or say why it must go.

Works on one connection that nobody else has. It must never know the pool, a lock or a place.
"""

from __future__ import annotations

from .cursors import bury
from .member import Member, Work

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .drivers.base import Driver
    from .options import Reset, Setup

BROKEN = "broken"
BUSY = "busy"
UNCLEAN = "failed reset"
SESSION = "session changed"


def run_setup(driver: Driver, conn: Any, setup: Setup) -> None:
    """Run the user's `setup` on a driver connection, and commit it."""
    if setup is None:
        return
    if callable(setup):
        setup(conn)
        driver.commit(conn)
    else:
        driver.run_setup(conn, [setup] if isinstance(setup, str) else setup)


class Cleaner:
    """How the connections of one pool are cleaned."""

    def __init__(self, driver: Driver, reset: Reset, setup: Setup) -> None:
        self.driver = driver
        self._reset = reset
        self._setup = setup

    def clean(self, member: Member, work: Work) -> str | None:
        """Clean what the borrower left; a reason if the connection must be closed instead.

        An `Exception` of the driver is such a reason, and nobody else hears of it. Anything else
        (`KeyboardInterrupt`) passes through: the connection is in doubt.
        """
        try:
            if work.inside:  # another thread is still in the driver
                return BUSY
            self._close_cursors(work)
            if work.broken:
                return BROKEN
            return None if self._reset == "none" else self._restore(member, work)
        except Exception as exc:
            return BROKEN if self.driver.is_disconnect(exc, member.conn) else UNCLEAN

    @staticmethod
    def _close_cursors(work: Work) -> None:
        cursors = work.open_cursors()
        work.cursors, work.kept = [], []
        for cursor in cursors:
            try:
                bury(cursor)
            except Exception:
                work.broken = True

    def _restore(self, member: Member, work: Work) -> str | None:
        driver = self.driver
        conn = member.conn
        heard = self._needs_rollback(conn, work)
        if heard:
            driver.rollback(conn)
        if self._reset != "transaction" and (work.session or self._reset == "always"):
            if not driver.reset_session(conn, member.snapshot):
                return SESSION
            run_setup(driver, conn, self._setup)
            work.attributes = True
        if work.attributes:
            if not driver._overrides("restore"):
                return SESSION
            driver.restore(conn, member.snapshot)
        # Who has just answered is alive.
        return None if heard or driver.is_alive(conn) else BROKEN

    def _needs_rollback(self, conn: Any, work: Work) -> bool:
        open_ = self.driver.in_transaction(conn)
        if open_ is None or work.session:
            return work.pending or bool(open_)
        return open_
