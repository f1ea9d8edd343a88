"""`Member`: the pool's record of one driver connection; `Work`: what one borrower did with it.

A leaf: plain records. They must never call a driver, nor know a lock or a clock.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Set
from types import CodeType

from .tally import Tally

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn, TypeVar

    T = TypeVar("T")

Site = tuple[CodeType, int]
"""Where a connection was borrowed: code object and offset. Cheap to take, turned into text later."""

NEVER = float("inf")
AT_ONCE = float("-inf")

NOBODY = 0  # no thread has this number

CALL = (None,)
"""What each call adds to `Work.inside`."""

_MANY_CURSORS = 64


class Member:
    """One driver connection. Times are seconds on the pool's monotonic clock."""

    __slots__ = (
        "alive",
        "another_cursor",
        "born",
        "code",
        "conn",
        "doom",
        "driver",
        "due",
        "expires",
        "handle_class",
        "lasti",
        "number",
        "pinged",
        "record",
        "returned",
        "since",
        "snapshot",
        "stack",
        "thread",
        "uses",
        "work",
    )

    def __init__(
        self,
        conn: Any,
        handle_class: type,
        snapshot: Any,
        now: float,
        driver: Any = None,
        number: int = 0,
    ) -> None:
        self.conn = conn
        self.number = number  # which one of its pool's connections, counted from 1
        self.driver = driver  # what the pool knows about it, for the handle
        self.handle_class = handle_class
        self.alive: Callable[[Any], bool] | None = None  # the driver's `is_alive`, if it has one
        # What makes the cursors that this connection makes when nobody has changed it, once known.
        self.another_cursor: Callable[[], Any] | None = None
        self.snapshot = snapshot
        self.born = now
        self.expires = NEVER
        self.due = NEVER  # from then on a checkout looks closer: expired, doomed or to be pinged
        self.returned = now  # idle since
        self.pinged = now
        self.uses = 0
        self.doom: str | None = None  # why it will be retired when it comes back
        self.work: Work | None = None  # None: the borrower has not touched it yet
        self.record: Work | None = None  # which `work` then is; made once, since that takes a lock
        # The present or last borrowing:
        self.since = now
        self.thread = 0
        self.code: CodeType | None = None
        self.lasti = 0
        self.stack: tuple[Site, ...] = ()  # who called that, if `leak_stack` is set

    def part(self) -> tuple[int, Tally | None]:
        """It leaves: how often it was lent, and for how long. From here on these are not found in it
        any more, lest they be counted twice."""
        uses, self.uses = self.uses, 0
        record = self.record
        if record is None:
            return uses, None
        holds, record.holds = record.holds, Tally()
        return uses, holds

    @property
    def in_call(self) -> bool:
        """Whether some thread is inside a call on the driver's connection."""
        work = self.work
        return work is not None and bool(work.inside)


class Work:
    """What must be cleaned when the borrower gives the connection back."""

    __slots__ = (
        "attributes", "broken", "broom", "cursors", "harmless", "holds", "inert", "inside", "lost",
        "many", "note", "one", "pending", "session", "strange", "wrote",
    )  # fmt: skip

    def __init__(
        self,
        may_change_session: Callable[[Any], bool],
        harmless: Set[str] = frozenset(),
        inert: Set[str] = frozenset(),
    ) -> None:
        """`harmless`: texts that need not be asked about. `inert`: others, that begin nothing."""
        self.pending = False  # statements since the last commit or rollback
        self.wrote = False  # of these, one that is not in `harmless`
        self.session = False  # a statement or call that may have changed the session
        self.attributes = False  # attributes of the driver's connection that may differ
        self.strange = False  # and the cursors that it makes too
        self.broken = False  # in doubt for good: close it
        # An entry for each call on the driver's connection that has not come back. Not a number:
        # threads may share a handle, and without the GIL two of them may count as one. Changed by
        # `+= CALL` and `del inside[-1]`: atomic, and no calls, after which an exception may strike.
        self.inside: list[None] = []
        self.holds = Tally()  # how long each borrower had it; not wiped
        self.note = may_change_session
        self.harmless = harmless
        self.inert = inert
        self.one = False  # the lease is one transaction: what follows its end must not be another
        self.lost: Lost | None = None
        # What must be closed on return: called, each gives it, or None if it is gone.
        self.cursors: list[Callable[[], Any]] = []
        self.many = _MANY_CURSORS
        self.broom: list[None] = [None]  # who takes it, sweeps

    def look(self, sql: Any) -> None:
        """A statement that is not in `harmless`; it may be, from now on."""
        plain = type(sql) is str
        if plain and sql in self.inert:
            return
        if self.note(sql):
            self.session = True
        if not plain or sql not in self.inert:
            self.pending = True
            self.wrote = self.wrote or not plain or sql not in self.harmless

    def unseen(self) -> None:
        """The pool could not see what is done from now on: assume everything."""
        self.check()
        self.pending = self.wrote = self.session = True
        self.estranged()

    def estranged(self) -> None:
        """Any attribute of the driver's connection may differ from now on."""
        self.attributes = self.strange = True

    def lose(self, exc: BaseException) -> None:
        """The server has ended the transaction with `exc`: let nothing follow it."""
        if self.lost is None:
            self.lost = Lost(exc, self)
            self.note = self.lost.refuse
            self.harmless = self.inert = frozenset()

    def check(self) -> None:
        """Raise if the transaction is lost."""
        if self.lost is not None:
            self.lost.refuse()

    def begin_anew(self) -> None:
        """The transaction was rolled back, so nothing of it is left to be lost."""
        if self.lost is not None:
            self.note = self.lost.note
            self.harmless, self.inert = self.lost.harmless, self.lost.inert
            self.lost = None

    def wipe(self) -> None:
        """All was cleaned: nothing is noted about the next borrower. Not `inside`: another thread that
        comes too late puts something in, and takes it out, at any time."""
        self.pending = self.wrote = self.session = self.attributes = self.strange = False
        self.one = False
        self.many = _MANY_CURSORS
        if not self.broom:  # who had it was struck
            self.broom = [None]
        if self.lost is not None:
            self.begin_anew()

    def track(self, cursor: Any) -> None:
        """Remember a cursor, or whatever else has to be closed on return, without keeping it."""
        self.cursors.append(weakref.ref(cursor))
        if len(self.cursors) > self.many:
            self._sweep()

    def _sweep(self) -> None:
        """Forget those that are gone. Others may append meanwhile."""
        broom = self.broom
        try:
            broom.pop()
        except IndexError:  # another thread is at it
            return
        cursors = self.cursors
        looked_at = cursors[:]
        living = [ref for ref in looked_at if ref() is not None]
        cursors[: len(looked_at)] = living
        self.many = 2 * len(living) + _MANY_CURSORS
        broom.append(None)

    def keep(self, thing: T) -> T:
        """As `track`, but keep it alive: what it does when it is collected must be done before."""
        self.cursors.append(lambda: thing)
        return thing

    def open_cursors(self) -> list[Any]:
        """What must be closed, the last one first: it may have been made by another."""
        # Of a copy: another thread may sweep.
        return [cursor for ref in self.cursors[::-1] if (cursor := ref()) is not None]


class Lost:
    """An error that has ended a transaction, to be raised again. Not the error itself, whose traceback
    would keep the borrower's handle alive."""

    __slots__ = ("_args", "_kind", "_state", "harmless", "inert", "note")

    def __init__(self, exc: BaseException, work: Work) -> None:
        self._kind, self._args, self._state = type(exc), exc.args, dict(vars(exc))
        self.note = work.note
        self.harmless, self.inert = work.harmless, work.inert

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
