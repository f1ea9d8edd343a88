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
        self._always = reset == "always"
        self._setup = setup

    def clean(self, member: Member, work: Work) -> str | None:
        """Clean what the borrower left; a reason if the connection must be closed instead.

        An `Exception` of the driver is such a reason, and nobody else hears of it. Anything else
        (`KeyboardInterrupt`) passes through: the connection is in doubt.
        """
        # Nobody asks whether it is alive: the next checkout does.
        try:
            if work.inside:  # another thread is still in the driver
                return BUSY
            if work.cursors:
                self._close_cursors(work)
            if work.broken:
                return BROKEN
            if work.strange:
                member.another_cursor = None
            if self._reset != "none":
                if self._needs_rollback(member.conn, work):
                    self._roll_back(member.conn, work)
                if (work.session or work.attributes or self._always) and not self._restore(
                    member, work
                ):
                    return SESSION
        except Exception as exc:
            return BROKEN if self.driver.is_disconnect(exc, member.conn) else UNCLEAN
        work.wipe()
        return None

    @staticmethod
    def _close_cursors(work: Work) -> None:
        for ref in work.cursors[::-1]:  # as `Work.open_cursors`, one by one
            cursor = ref()
            if cursor is not None:
                try:
                    bury(cursor)
                except Exception:
                    work.broken = True
        work.cursors = []

    def _needs_rollback(self, conn: Any, work: Work) -> bool:
        open_ = self.driver.in_transaction(conn)
        if open_ is None or work.session:
            return work.pending or bool(open_)
        return open_

    def _roll_back(self, conn: Any, work: Work) -> None:
        # What only read holds nothing that another session could miss a moment later.
        only_read = not (work.wrote or work.attributes or self._always)
        if not (only_read and self.driver.rollback_soon(conn)):
            self.driver.rollback(conn)

    def _restore(self, member: Member, work: Work) -> bool:
        driver = self.driver
        conn = member.conn
        if self._always or (work.session and self._reset == "auto"):
            if not driver.reset_session(conn, member.snapshot):
                return False
            run_setup(driver, conn, self._setup)
            work.attributes = True
        if work.attributes:
            if not driver._overrides("restore"):
                return False
            driver.restore(conn, member.snapshot)
        return True
