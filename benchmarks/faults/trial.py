"""One pool under one fault: what its borrowers did, and what they saw.

A trial never waits for a pool: whoever hangs is left in a daemon thread and noted as hanging.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..adapters import Adapter
from .wire import Wire

TIMEOUT = 1.0
"""Seconds that each pool is told to take for a checkout at most."""
SIZE = 8
IDLE = 4
CROWD = 6
HOLD = 0.1
"""Seconds for which a borrower keeps what works: long enough that each idle one is lent."""
PAUSE = 0.1
"""Seconds until a borrower who was refused asks again."""

SERVED, REFUSED, FAILED = "served", "refused", "failed"
"""How a borrowing ended: well, with an error of the checkout, with one of the first statement."""
HANGS_AT_CHECKOUT, HANGS_IN_USE = "hangs at checkout", "hangs in use"


@dataclass
class Seen:
    """What borrowers of one pool saw of one fault."""

    ends: Counter[str] = field(default_factory=Counter)
    """How borrowings ended."""
    errors: Counter[str] = field(default_factory=Counter)
    """Classes of errors at checkout, and of those in use, as `checkout: OperationalError`."""
    longest: float = 0.0
    """Seconds of the longest checkout; of one that hangs, those until we gave up."""
    machine_late: float = 0.0
    """By how many seconds, at worst, this machine meanwhile woke a thread later than it asked for."""
    first_told: float | None = None
    """Seconds until the first error at checkout."""
    healed: float | None = None
    """Seconds from the end of the fault to the first borrower who was served."""
    all_healed: float | None = None
    """The same until everybody was served."""
    connects_per_second: float | None = None
    """Calls of the driver's `connect` while the fault lasted."""
    held: str | None = None
    """How the work ended that was under way."""
    wrong: str | None = None
    """What the database shows that nobody was told."""


@dataclass
class Contender:
    """A pool, its driver and its way to the server."""

    module: str
    kind: type[Adapter]
    pool: Adapter
    wire: Wire | None
    server: Any
    tag: str
    where: Any
    """The port or file that it connects to, and nobody else."""
    statement: str
    rows: Callable[[str], list[Any]]
    """What the database answers to somebody new."""
    seen: Seen = field(default_factory=Seen)
    mended_at: float | None = None
    """When the fault was over."""

    @property
    def over(self) -> bool:
        """Whether the fault has ended."""
        return self.mended_at is not None


# -- small acts ------------------------------------------------------------------------------------


def query(conn: Any, sql: str) -> list[Any]:
    """Run one statement as anybody would."""
    cursor = conn.cursor()
    try:
        cursor.execute(sql)
        return list(cursor.fetchall()) if cursor.description else []
    finally:
        # After an error, closing may raise another.
        with contextlib.suppress(Exception):
            cursor.close()


def give_back(pool: Adapter, conn: Any) -> None:
    """As a `finally` clause would; what that raises is noted nowhere."""
    with contextlib.suppress(Exception):
        pool.give_back(conn)


class Deferred:
    """A call in a daemon thread."""

    def __init__(self, act: Callable[[], object]) -> None:
        self._act = act
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(Exception):
            self._act()

    def ended(self, seconds: float) -> bool:
        """Whether it comes to its end within so many seconds."""
        self._thread.join(max(seconds, 0))
        return not self._thread.is_alive()


# -- borrowers -------------------------------------------------------------------------------------


class Borrower:
    """Borrows, runs a statement, holds for a moment; again and again until the fault is over and it
    was served once more.
    """

    def __init__(self, contender: Contender, stop: threading.Event) -> None:
        self._contender = contender
        self._stop = stop
        self._stage = SERVED
        self._since = time.monotonic()
        self.served_at: float | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set() and self.served_at is None:
            end = self._borrow()
            if not self._stop.is_set():  # what we cut off ourselves is no news
                self._contender.seen.ends[end] += 1
            if end != SERVED:
                self._stop.wait(PAUSE)

    def _borrow(self) -> str:
        pool = self._contender.pool
        self._enter(HANGS_AT_CHECKOUT)
        try:
            conn = pool.borrow()
        except Exception as exc:
            self._refused(exc)
            return REFUSED
        took = time.monotonic() - self._since
        self._note_checkout(took)
        self._enter(HANGS_IN_USE)
        try:
            query(conn, self._contender.statement)
            self._serve()
            self._stop.wait(HOLD)
        except Exception as exc:
            self._note_error("in use", exc)
            return FAILED
        finally:
            give_back(pool, conn)
            self._enter(SERVED)
        return SERVED

    def _enter(self, stage: str) -> None:
        self._stage, self._since = stage, time.monotonic()

    def _serve(self) -> None:
        if self._contender.over:
            self.served_at = time.monotonic()

    def _refused(self, exc: Exception) -> None:
        took = time.monotonic() - self._since
        self._note_checkout(took)
        seen = self._contender.seen
        if seen.first_told is None:
            seen.first_told = took
        self._note_error("checkout", exc)
        self._enter(SERVED)

    def _note_checkout(self, took: float) -> None:
        if not self._stop.is_set():
            self._contender.seen.longest = max(self._contender.seen.longest, took)

    def _note_error(self, where: str, exc: Exception) -> None:
        if not self._stop.is_set():
            self._contender.seen.errors[f"{where}: {type(exc).__name__}"] += 1

    def look(self, now: float) -> None:
        """Note where it hangs, if it does for longer than any promise."""
        stuck = now - self._since
        if self._stage != SERVED and stuck > TIMEOUT + HOLD:
            self._contender.seen.ends[self._stage] += 1
            if self._stage == HANGS_AT_CHECKOUT:
                self._contender.seen.longest = max(self._contender.seen.longest, stuck)

    def ended(self, seconds: float) -> bool:
        """Whether its thread ends in time."""
        self._thread.join(max(seconds, 0))
        return not self._thread.is_alive()


class Crowd:
    """Several borrowers of one pool."""

    def __init__(self, contender: Contender, size: int = CROWD) -> None:
        self.contender = contender
        self.stop = threading.Event()
        self.borrowers = [Borrower(contender, self.stop) for _ in range(size)]

    @property
    def served(self) -> bool:
        """Whether everybody was, after the fault."""
        return all(one.served_at is not None for one in self.borrowers)

    def finish(self) -> None:
        """Note what is seen by now, and let them go."""
        now = time.monotonic()
        for one in self.borrowers:
            one.look(now)
        self.stop.set()
        seen, mended = self.contender.seen, self.contender.mended_at
        served = [one.served_at for one in self.borrowers if one.served_at is not None]
        if served and mended is not None:
            seen.healed = max(min(served) - mended, 0.0)
            if len(served) == len(self.borrowers):
                seen.all_healed = max(served) - mended


# -- who is in the middle of something -------------------------------------------------------------


class Holder:
    """Has a transaction with one row open when the fault strikes, adds a second row after it, and
    commits.
    """

    steps = (1, 2)

    def __init__(self, contender: Contender) -> None:
        self._contender = contender
        self._go = threading.Event()
        self._ready = threading.Event()
        self._call = Deferred(self._work)
        self._done = False

    def ready(self, seconds: float) -> bool:
        """Whether its first statement is done."""
        return self._ready.wait(seconds)

    def go_on(self) -> None:
        """Run the second."""
        self._go.set()

    def insert(self, conn: Any, step: int) -> None:
        """Add a row."""
        query(conn, f"INSERT INTO faults_seen VALUES ('{self._contender.tag}', {step})")

    def begin(self, conn: Any) -> None:
        """What is done before the fault."""
        self.insert(conn, 1)

    def end(self, conn: Any) -> None:
        """What is done after it."""
        self.insert(conn, 2)

    def _work(self) -> None:
        pool, seen = self._contender.pool, self._contender.seen
        conn = pool.borrow()
        try:
            self.begin(conn)
            self._ready.set()
            self._go.wait()
            where = "the next statement"
            self.end(conn)
            where = "commit"
            conn.commit()
            seen.held = "commit reported success"
        except Exception as exc:
            if not self._done:
                seen.held = f"{type(exc).__name__} at {where}"
        finally:
            give_back(pool, conn)

    def finish(self) -> None:
        """Note how it ended."""
        if not self._call.ended(0):
            self._done = True
            self._contender.seen.held = "hangs"

    def look_for_lies(self) -> None:
        """What the database shows, beside what its borrower was told."""
        rows = Counter(rows_of(self._contender))
        seen = self._contender.seen
        if twice := [step for step, count in rows.items() if count > 1]:
            seen.wrong = f"a row was written {rows[twice[0]]} times"
        elif seen.held == "commit reported success" and set(rows) != set(self.steps):
            seen.wrong = "the first row is lost, and commit reported success"
        elif seen.held and seen.held.endswith("next statement") and rows:
            seen.wrong = "an error was raised, and a part was committed"


class Writer(Holder):
    """Writes one row with a statement that commits itself; the answer to it is lost."""

    steps = (2,)

    def begin(self, conn: Any) -> None:
        if self._contender.server.kind == "mysql":
            query(conn, "SET autocommit = 1")

    def end(self, conn: Any) -> None:
        commit = "; COMMIT" if self._contender.server.kind == "postgresql" else ""
        tag = self._contender.tag
        query(conn, f"INSERT INTO faults_seen VALUES ('{tag}', 2){commit}")

    def look_for_lies(self) -> None:
        rows = rows_of(self._contender)
        if len(rows) > 1:
            self._contender.seen.wrong = f"the row was written {len(rows)} times"


def rows_of(contender: Contender) -> list[int]:
    """The steps of a contender that the database shows."""
    found = contender.rows(f"SELECT step FROM faults_seen WHERE tag = '{contender.tag}'")
    return [step for (step,) in found]
