"""`Member`: the pool's record of one driver connection; `Work`: what one borrower did with it.

A leaf: plain records. They must never call a driver, nor know a lock or a clock.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Set
from types import CodeType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn, TypeVar

    T = TypeVar("T")

Site = tuple[CodeType, int]
"""Where a connection was borrowed: code object and offset. Cheap to take, turned into text later."""

NEVER = float("inf")
AT_ONCE = float("-inf")

CALL = (None,)
"""What each call adds to `Work.inside`."""

_MANY_CURSORS = 64


class Member:
    """One driver connection. Times are seconds on the pool's monotonic clock."""

    __slots__ = (
        "alive",
        "born",
        "code",
        "conn",
        "doom",
        "driver",
        "due",
        "expires",
        "handle_class",
        "lasti",
        "pinged",
        "reported",
        "returned",
        "since",
        "snapshot",
        "thread",
        "uses",
        "work",
    )

    def __init__(
        self, conn: Any, handle_class: type, snapshot: Any, now: float, driver: Any = None
    ) -> None:
        self.conn = conn
        self.driver = driver  # what the pool knows about it, for the handle
        self.handle_class = handle_class
        self.alive: Callable[[Any], bool] | None = None  # the driver's `is_alive`, if it has one
        self.snapshot = snapshot
        self.born = now
        self.expires = NEVER
        self.due = NEVER  # from then on a checkout looks closer: expired, doomed or to be pinged
        self.returned = now  # idle since
        self.pinged = now
        self.uses = 0
        self.doom: str | None = None  # why it will be retired when it comes back
        self.work: Work | None = None  # None: the borrower has not touched it yet
        # The present or last borrowing:
        self.since = now
        self.thread = 0
        self.code: CodeType | None = None
        self.lasti = 0
        self.reported = 0  # the value of `uses` for which a leak was reported

    @property
    def in_call(self) -> bool:
        """Whether some thread is inside a call on the driver's connection."""
        work = self.work
        return work is not None and bool(work.inside)


class Work:
    """What must be cleaned when the borrower gives the connection back."""

    __slots__ = (
        "attributes", "broken", "broom", "cursors", "harmless", "inside", "kept", "lost", "many",
        "note", "one", "pending", "session",
    )  # fmt: skip

    def __init__(
        self, may_change_session: Callable[[Any], bool], harmless: Set[str] = frozenset()
    ) -> None:
        """`harmless`: texts that need not be asked about."""
        self.pending = False  # statements since the last commit or rollback
        self.session = False  # a statement or call that may have changed the session
        self.attributes = False  # attributes of the driver's connection that may differ
        self.broken = False  # in doubt for good: close it
        # An entry for each call on the driver's connection that has not come back. Not a number:
        # threads may share a handle, and without the GIL two of them may count as one. Changed by
        # `+= CALL` and `del inside[-1]`: atomic, and no calls, after which an exception may strike.
        self.inside: list[None] = []
        self.kept: list[Any] = []  # to be closed on return, and kept alive until then
        self.note = may_change_session
        self.harmless = harmless
        self.one = False  # the lease is one transaction: what follows its end must not be another
        self.lost: Lost | None = None
        self.cursors: list[weakref.ref[Any]] = []
        self.many = _MANY_CURSORS
        self.broom: list[None] = [None]  # who takes it, sweeps

    def unseen(self) -> None:
        """The pool could not see what is done from now on: assume everything."""
        self.check()
        self.pending = self.session = self.attributes = True

    def lose(self, exc: BaseException) -> None:
        """The server has ended the transaction with `exc`: let nothing follow it."""
        if self.lost is None:
            self.lost = Lost(exc, self.note, self.harmless)
            self.note = self.lost.refuse
            self.harmless = frozenset()

    def check(self) -> None:
        """Raise if the transaction is lost."""
        if self.lost is not None:
            self.lost.refuse()

    def begin_anew(self) -> None:
        """The transaction was rolled back, so nothing of it is left to be lost."""
        if self.lost is not None:
            self.note, self.harmless = self.lost.note, self.lost.harmless
            self.lost = None

    def track(self, cursor: Any) -> None:
        """Remember a cursor, or whatever else has to be closed on return, without keeping it."""
        self.cursors.append(weakref.ref(cursor))
        if len(self.cursors) > self.many:
            self._sweep()

    def _sweep(self) -> None:
        """Forget those that are gone. Others may append meanwhile."""
        try:
            self.broom.pop()
        except IndexError:  # another thread is at it
            return
        cursors = self.cursors
        looked_at = cursors[:]
        living = [ref for ref in looked_at if ref() is not None]
        cursors[: len(looked_at)] = living
        self.many = 2 * len(living) + _MANY_CURSORS
        self.broom.append(None)

    def keep(self, thing: T) -> T:
        """As `track`, but keep it alive: what it does when it is collected must be done before."""
        self.kept.append(thing)
        return thing

    def open_cursors(self) -> list[Any]:
        """What must be closed."""
        return [*self.kept, *(cursor for ref in self.cursors if (cursor := ref()) is not None)]


class Lost:
    """An error that has ended a transaction, to be raised again. Not the error itself, whose traceback
    would keep the borrower's handle alive."""

    __slots__ = ("_args", "_kind", "_state", "harmless", "note")

    def __init__(self, exc: BaseException, note: Callable[[Any], bool], harmless: Set[str]) -> None:
        self._kind, self._args, self._state = type(exc), exc.args, dict(vars(exc))
        self.note = note
        self.harmless = harmless

    def refuse(self, sql: Any = None) -> NoReturn:
        """Raise one like it."""
        # Past its `__init__`, which need not take what it leaves in `args`.
        again = self._kind.__new__(self._kind, *self._args)
        again.__dict__.update(self._state)
        raise again


def line_of(code: CodeType | None, lasti: int) -> str:
    """`file:line` of a site."""
    if code is None:
        return "?"
    for start, end, line in code.co_lines():
        if start <= lasti < end and line is not None:
            return f"{code.co_filename}:{line}"
    return f"{code.co_filename}:{code.co_firstlineno}"
