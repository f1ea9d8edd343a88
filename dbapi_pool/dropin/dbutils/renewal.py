"""`Renewal`: one borrowing of a `Pool` that is renewed, but never in the middle of a transaction.

Here is what is known of the connection and of the transaction on it, and so whether another may be
put in its place. It is used by one thread at a time. It must never reach behind `Pool`, nor send a
statement of its own but for pings.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn, TypeVar

from ...errors import ConnectionReturned, for_driver, replica
from ...handles import PooledConnection
from .backing import Backed
from .errors import LostTransactionError

T = TypeVar("T")

REQUESTED, CURSOR, STATEMENT = 1, 2, 4
"""The occasions on which `ping` asks for a check, as DBUtils numbers them."""

NOTHING, READ, WROTE = range(3)  # what was done since the last commit or rollback
SOUND, DOUBTFUL, BROKEN = range(3)  # what is known of the connection

_GOOD_FOR = 30.0  # seconds without a ping, where the driver knows most of what a ping would tell
_PING_TIMEOUT = 5.0  # seconds, as `Pool` has it
_TEXTS = 2_000  # statements whose kind is remembered

_READS = re.compile(r"\s*SELECT\b(?!.*\b(?:FOR|LOCK|INTO)\b)", re.IGNORECASE | re.DOTALL).match
# What begins no transaction in autocommit mode. Of others that is not known, where no driver tells.
_BEGINS_NONE = re.compile(
    r"\s*(?:SELECT|INSERT|UPDATE|DELETE|REPLACE|VALUES|WITH|SHOW|CREATE|DROP|ALTER|TRUNCATE)\b",
    re.IGNORECASE,
).match
_ENDS = re.compile(r"\s*(?:COMMIT|ROLLBACK)(?:\s+WORK)?[\s;]*\Z", re.IGNORECASE).match


class Renewal:
    """A connection that is borrowed again when it was lost.

    `maxusage`: statements after which it is replaced, when no transaction is open; 0: never.
    """

    def __init__(self, source: Backed, maxusage: int | None) -> None:
        """Raises what the driver raises if it cannot connect."""
        self.source = source
        self.legacy = source._legacy
        self.handle: PooledConnection | None = None  # None: closed
        self.raw: Any = None  # the driver's connection, also after it was closed
        self.driver: Any = None
        self.health = SOUND
        self.bypassed = False  # somebody has the driver's own connection
        self.usage = 0
        self.maxusage = maxusage or 0
        self.attributes: dict[str, Any] = {}  # set by the user, and to be set on every further one
        self.begun = False  # by `begin()`
        self.by_hand = False  # perhaps, by a statement
        self.work = NOTHING
        self.at_stake = False  # whether a loss now would undo what was told to have worked
        self.lost: BaseException | None = None  # what undid it, until the transaction is ended
        clock = source._settings.get("clock")
        self.now: Callable[[], float] = time.monotonic if clock is None else clock.monotonic
        self.seen = 0.0
        self._kinds: dict[str, tuple[int, bool | None]] = {}
        self.open()
        _all.add(self)

    # -- the connection ---------------------------------------------------------------------------

    def open(self) -> PooledConnection:
        """Borrow another one. Raises what the driver raises if it cannot connect."""
        handle: PooledConnection = self.source._lend(_caller())
        try:
            for name, value in self.attributes.items():
                setattr(handle, name, value)
            self.raw = handle.driver_connection
            self.driver = handle._lease.pool.driver
        except BaseException:
            handle.invalidate()
            raise
        self.handle = handle
        self.health = SOUND
        self.bypassed = False  # nobody but this has it
        self.usage = 0
        self.seen = self.now()
        return handle

    def drop(self) -> None:
        """Close it; what was not committed is rolled back by that."""
        handle, self.handle = self.handle, None
        self.end()
        if handle is not None:
            handle.invalidate()

    def _leave_to_parent(self) -> None:
        """In a forked child: the connection, and a transaction that is open, are the parent's."""
        inside = self.handle is not None and self._is_inside()
        self.handle = None
        self.end()
        if inside:
            self.lost = ConnectionReturned("the transaction belongs to the parent process")

    # -- may it be replaced, and must it? ---------------------------------------------------------

    def ready(self, occasion: int = 0) -> PooledConnection:
        """The connection to use now: another one if this is dead and no transaction is open.

        Raises `LostTransactionError` if one was lost and not ended.
        """
        if self.lost is not None:
            self.refuse()
        handle = self.handle
        inside = handle is not None and self._is_inside()
        self.at_stake = self.begun or (inside and self.work == WROTE)
        if handle is not None and (inside or self._is_good(occasion)):
            return handle
        self.drop()
        return self.open()

    def requested(self) -> None:
        """Somebody asks for it. A lost transaction was told to whoever asked before."""
        if self.lost is not None:
            self.drop()
        if not self.begun:
            self.ready(REQUESTED)

    def refuse(self) -> NoReturn:
        """Raise that the transaction was lost."""
        raise for_driver(LostTransactionError, self.driver.module)(
            "the connection was lost in the middle of a transaction, and what it did with it; call"
            " rollback() to begin another"
        ) from self.lost

    def _is_inside(self) -> bool:
        """Whether a transaction is open. When in doubt, True."""
        if self.begun:
            return True
        if self.work == NOTHING:
            return False
        try:
            known = self.driver.in_transaction(self.raw)
            if known is None:
                known = self.by_hand or not _autocommits(self.raw)
        except Exception:
            return True
        return bool(known)

    def _is_good(self, occasion: int) -> bool:
        """Whether it can be used, as far as is known; asked between transactions only."""
        if self.health == BROKEN or 0 < self.maxusage <= self.usage:
            return False
        # What somebody else did with it may have left something unread, which is not for us to see.
        if not self.bypassed:
            try:
                if not self.driver.is_alive(self.raw):
                    return False
            except Exception:
                return False
        if self.health == DOUBTFUL or (occasion & self.legacy.when and self._must_ping(occasion)):
            return self._answers()
        return True

    def _must_ping(self, occasion: int) -> bool:
        if occasion != REQUESTED or self.legacy.check or not self.driver.knows("is_alive"):
            return True
        return self.now() - self.seen > _GOOD_FOR

    def _answers(self) -> bool:
        """Ping it, in this thread; what hangs is cut off."""
        driver, raw = self.driver, self.raw
        timer = None
        if driver.remote:
            seconds = self.source._settings.get("ping_timeout", _PING_TIMEOUT)
            timer = threading.Timer(seconds, driver.interrupt, (raw,))
            timer.daemon = True
            timer.start()
        try:
            driver.ping(raw)
        except Exception:
            return False
        finally:
            if timer is not None:
                timer.cancel()
        self.health = SOUND
        self.seen = self.now()
        return True

    def check(self, occasion: int, reconnect: bool) -> bool | None:
        """Whether it is alive; None if the parameter `ping` does not ask for that. Not in a
        transaction, a dead one is replaced, if `reconnect`, and True returned, unless that fails."""
        if not occasion & self.legacy.when:
            return None
        if self.handle is not None and self.health != BROKEN and self._answers():
            return True
        self.health = BROKEN
        if self._is_inside() or not reconnect:
            return False
        try:
            self.drop()
            self.open()
        except Exception:
            return False
        return True

    # -- what happens on it -----------------------------------------------------------------------

    def note(self, sql: object) -> None:
        """A statement is to be sent; None: what is sent is not known."""
        kind = self._kinds.get(sql) if type(sql) is str else None
        if kind is None:
            kind = self._kind(sql)
        level, begins = kind
        if level > self.work:
            self.work = level
        if begins is not None:
            self.by_hand = begins

    def _kind(self, sql: object) -> tuple[int, bool | None]:
        if type(sql) is not str:
            return WROTE, True
        reads = _READS(sql) is not None and not self.driver.may_change_session(sql)
        kind = (READ if reads else WROTE, None if _BEGINS_NONE(sql) else not _ENDS(sql))
        if len(self._kinds) >= _TEXTS:
            self._kinds.clear()
        self._kinds[sql] = kind
        return kind

    def bypass(self) -> None:
        """Nobody here sees what is done from now on."""
        self.bypassed = True
        self.note(None)

    def succeeded(self) -> None:
        """A statement was run."""
        self.usage += 1
        self.seen = self.now()

    def failed(self, exc: BaseException) -> None:
        """A call on it raised. Raises nothing itself."""
        if not self._is_lost(exc):
            errors = self.driver.module or self.raw
            if isinstance(exc, Exception) and self.legacy.is_failure(exc, errors):
                self._doubt()
            return
        at_stake = self.at_stake
        self.end()
        self.health = BROKEN
        if at_stake:
            self.lost = replica(exc)

    def _doubt(self) -> None:
        """It may be dead. It is pinged before it is used again, but not in a transaction."""
        self.health = max(self.health, DOUBTFUL)
        if not (self.at_stake or self.driver.knows("is_disconnect")):
            # There will be no better news of it; and what has failed, or only read, can be forgotten.
            self.work = NOTHING

    def _is_lost(self, exc: BaseException) -> bool:
        if isinstance(exc, ConnectionReturned):  # somebody has closed it behind our back
            return True
        if not isinstance(exc, Exception):
            # Cut in the middle of a conversation with a server, it cannot be resumed.
            return bool(self.driver.remote)
        return bool(self.driver.is_disconnect(exc, self.raw))

    def safely(self, act: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Do it, and hear of it if it fails."""
        try:
            return act(*args, **kwargs)
        except BaseException as exc:
            self.failed(exc)
            raise

    def make_cursor(self, args: Any, kwargs: Any) -> tuple[PooledConnection, Any]:
        """A cursor, and the connection that it is of."""
        handle = self.ready(CURSOR)
        try:
            return handle, self.safely(handle.cursor, *args, **kwargs)
        except Exception:
            # Nothing was sent yet, so another connection may be asked.
            if self.lost is not None or (another := self.ready()) is handle:
                raise
        return another, self.safely(another.cursor, *args, **kwargs)

    # -- transactions -----------------------------------------------------------------------------

    def end(self) -> None:
        """No transaction is open from now on."""
        self.begun = self.by_hand = self.at_stake = False
        self.work = NOTHING
        self.lost = None

    def begin(self, *args: Any, **kwargs: Any) -> None:
        """Begin one with the driver's `begin`, if it has one. Another that was lost is forgotten."""
        if self.lost is not None:
            self.drop()
        handle: Any = self.ready()
        self.begun = self.at_stake = True
        self.safely(handle.begin, *args, **kwargs)

    def commit(self) -> None:
        """Raises `LostTransactionError` if it was lost, and forgets it then."""
        if self.lost is not None:
            try:
                self.refuse()
            finally:
                self.drop()
        handle = self.handle
        if handle is None or not (self.begun or self.work or self.health == SOUND):
            return  # nothing to commit, and nothing to commit it on
        # What `begin()` began has ended, whatever happens now, and a loss is told here and only here.
        self.begun = self.at_stake = False
        self.safely(handle.commit)
        self.end()

    def rollback(self) -> None:
        """Does nothing if it was lost. Raises if that turns out now and it did more than read."""
        handle = self.handle
        if self.lost is not None or self.health == BROKEN or handle is None:
            self.drop()
            return
        at_stake, self.at_stake = self.begun or self.work == WROTE, False
        try:
            self.safely(handle.rollback)
        except BaseException as exc:
            self.end()
            self.health = BROKEN
            if at_stake or not isinstance(exc, Exception):
                raise
        self.end()


_all: weakref.WeakSet[Renewal] = weakref.WeakSet()


def _in_child() -> None:
    for renewal in tuple(_all):
        renewal._leave_to_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


def _autocommits(conn: Any) -> bool:
    """Whether it says that it commits by itself; PEP 249 has the attribute as an optional extension."""
    value = getattr(conn, "autocommit", None)
    if callable(value):  # drivers for MySQL have a method that sets it
        value = conn.get_autocommit()
    return bool(value is True or value == 1)


def _caller() -> FrameType:
    """The line that a report about this borrowing shall name: the nearest one that is not of here."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__package__") == __package__:
        frame = frame.f_back
    return frame
