"""`Trial`: what one check works with, and everything that must be taken away after it.

Pools whose driver connections can be seen, connections of its own, tables. Uses the pool's public
face only, and must never know a test runner.
"""

from __future__ import annotations

import functools
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

from ... import Options, Pool
from ...drivers.base import Driver
from .check import NotApplicable, require

if TYPE_CHECKING:
    from .subject import Subject

__all__ = ["PATIENCE", "Table", "Trial", "Watched", "run"]

PATIENCE = 10.0
"""Seconds after which something that should have happened is given up."""

_parents: list[Any] = []  # never collected: a finalizer could end a session of the parent

_MARKERS: dict[str, Callable[[int], str]] = {
    "qmark": lambda n: "?",
    "numeric": lambda n: f":{n + 1}",
    "named": lambda n: f":a{n}",
    "format": lambda n: "%s",
    "pyformat": lambda n: f"%(a{n})s",
}


def run(conn: Any, sql: str, values: Any = None) -> list[Any]:
    """Execute on a cursor of its own; the rows, if there are any. Nothing is committed."""
    cursor = conn.cursor()
    try:
        cursor.execute(*((sql,) if values is None else (sql, values)))
        rows = list(cursor.fetchall()) if cursor.description else []
    except BaseException:
        with suppress(Exception):  # the first error is the one to tell
            cursor.close()
        raise
    cursor.close()
    return rows


class Trial:
    """One check's bench."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.know = subject.knowledge
        self.driver: Driver = subject.driver()
        """For work on connections of the check's own. A pool has another."""
        self._pools: list[Watched] = []
        self._own: list[Any] = []
        self._stack = ExitStack()

    def __enter__(self) -> Trial:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        closed = [
            watched.close() for watched in self._pools
        ]  # before the tables: they may be locked
        with suppress(Exception) if exc else ExitStack():
            self._stack.close()
        if exc is None:
            require(all(closed), "after the check, a pool could not close all its connections")

    def leave_to_the_parent(self) -> None:
        """In a forked child: nothing of this is the child's to close."""
        _parents.append((self._stack.pop_all(), self._own))
        for conn in self._own:
            self.driver.abandon_after_fork(conn)
        self._pools, self._own = [], []

    # -- pools and connections --------------------------------------------------------------------

    def pool(self, *, changed: Mapping[str, Any] | None = None, **settings: Any) -> Watched:
        """A pool with `settings`, by default of one connection. `changed`: connect arguments."""
        settings = {"max_size": 1, "checkout_timeout": PATIENCE, **settings}
        self._pools.append(Watched(self.subject, settings, changed))
        return self._pools[-1]

    def connect(self, changed: Mapping[str, Any] | None = None) -> Any:
        """A driver connection, prepared as a pool would."""
        driver = self.driver
        connect, args, kwargs = self.subject.target(driver, changed)
        args, kwargs = driver.connect_arguments(args, kwargs)
        driver.check_settings(Options(max_size=1).as_dict(), args, kwargs)
        conn = connect(*args, **kwargs)
        self._own.append(conn)
        self._stack.callback(self._close, conn)
        driver.connected(conn)
        return conn

    def _close(self, conn: Any) -> None:
        with suppress(Exception):
            self.driver.close(conn)

    @functools.cached_property
    def side(self) -> Any:
        """A connection beside the pool's, to look from outside."""
        return self.connect()

    def outside(self, sql: str, values: Any = None) -> list[Any]:
        """Run on the connection beside, in a transaction of its own."""
        rows = run(self.side, sql, values)
        self.driver.commit(self.side)
        return rows

    @property
    def errors(self) -> ModuleType | type:
        """What carries the driver's PEP 249 errors."""
        if self.driver.module is None:
            raise NotApplicable("nothing is known to carry the driver's PEP 249 errors")
        return self.driver.module

    def error(self, name: str) -> type[Exception]:
        """The driver's PEP 249 error of that name."""
        return getattr(self.errors, name)  # type: ignore[no-any-return]

    # -- what the author knows --------------------------------------------------------------------

    def given(self, name: str) -> Any:
        """What the author gave by that name; `NotApplicable` if that is empty."""
        value = getattr(self.know, name)
        if not value:
            raise NotApplicable(f"no `{name}` is given")
        return value

    def session_of(self, conn: Any) -> Any:
        """The server's name for the session of a driver connection. Leaves no transaction."""
        [[session]] = run(conn, self.given("session"))
        self.driver.rollback(conn)
        return session

    def kill(self, session: Any) -> None:
        """End a session from outside."""
        sql = self.given("kill").format(session=session)
        conn = self.connect()
        run(conn, sql)
        self.driver.commit(conn)
        self._close(conn)

    def table(self) -> Table:
        """A new, empty table."""
        table = Table(self)
        self.outside(table.sql(self.know.create))
        self._stack.callback(self._drop, table)
        return table

    def _drop(self, table: Table) -> None:
        self.driver.rollback(self.side)
        self.outside(table.sql(self.know.drop))

    def marker(self, number: int) -> str:
        """How the parameter with this number is written in SQL."""
        return _MARKERS[self._paramstyle](number)

    def values(self, *values: Any) -> Any:
        """Parameters as the driver's paramstyle wants them."""
        if self._paramstyle in ("named", "pyformat"):
            return {f"a{n}": value for n, value in enumerate(values)}
        return values

    @property
    def _paramstyle(self) -> str:
        style = self.know.paramstyle or getattr(self.driver.module, "paramstyle", None)
        if style not in _MARKERS:
            raise NotApplicable(f"paramstyle {style!r} is none of PEP 249's; give `paramstyle`")
        return style


class Watched:
    """A pool whose driver connections can be seen."""

    def __init__(
        self, subject: Subject, settings: Mapping[str, Any], changed: Mapping[str, Any] | None
    ) -> None:
        self.connections: list[Any] = []
        """Every driver connection that was opened, oldest first."""
        self.open = 0
        """Connections open or opening."""
        self.peak = 0
        """The most there ever were of these at once."""
        self.resets = 0
        """Sessions reset by `Driver.reset_session`, without closing the connection."""
        self._lock = threading.Lock()  # guards the numbers
        driver = subject.driver()
        connect, args, kwargs = subject.target(driver, changed)
        self._watch(driver)
        self.driver = driver
        settings = {**subject.knowledge.settings, **settings}
        self.pool = Pool(self._opening(connect), *args, driver=driver, **settings, **kwargs)

    def _watch(self, driver: Driver) -> None:
        close, reset_session = driver.close, driver.reset_session

        def counted_close(conn: Any) -> None:
            try:
                close(conn)
            finally:
                self._count(-1)

        def counted_reset(conn: Any, snapshot: Any) -> bool:
            done = reset_session(conn, snapshot)
            self.resets += done
            return done

        setattr(driver, "close", counted_close)  # noqa: B010  (a method of this one object)
        setattr(driver, "reset_session", counted_reset)  # noqa: B010

    def _opening(self, connect: Callable[..., Any]) -> Callable[..., Any]:
        # Not its attributes: a class that connects may have a method `connect`.
        @functools.wraps(connect, updated=())
        def opening(*args: Any, **kwargs: Any) -> Any:
            self._count(+1)
            try:
                conn = connect(*args, **kwargs)
            except BaseException:
                self._count(-1)
                raise
            self.connections.append(conn)
            return conn

        return opening

    def _count(self, change: int) -> None:
        with self._lock:
            self.open += change
            self.peak = max(self.peak, self.open)

    @property
    def raw(self) -> Any:
        """The driver connection that was opened last."""
        return self.connections[-1]

    def borrow(self) -> Any:
        """`pool.connection()`."""
        return self.pool.connection()

    def stays(self) -> None:
        """`Broken` unless there was one driver connection all the time."""
        closed = self.pool.stats().closed
        require(len(self.connections) == 1, f"the driver connection was replaced: {closed}")

    def close(self) -> bool:
        """Close the pool, and whatever a broken driver or check has left open."""
        closed = self.pool.close(timeout=PATIENCE)
        for conn in self.connections:
            with suppress(Exception):
                conn.close()
        return closed


class Table:
    """A table of the check's own."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self._know = trial.know
        self.name = f"contract_{uuid.uuid4().hex[:16]}"

    def sql(self, template: str) -> str:
        """One of the author's statements, for this table."""
        markers = [self._trial.marker(number) for number in range(template.count("{"))]
        return template.format(*markers, table=self.name, binary=self._know.binary)

    def insert(self, conn: Any, id: int, note: str | None = None, data: Any = None) -> None:
        """Insert a row; not committed."""
        run(conn, self.sql(self._know.insert), self._trial.values(id, note, data))

    def fill(self, count: int) -> None:
        """Insert rows with the ids from 0, and commit."""
        cursor = self._trial.side.cursor()
        rows = [self._trial.values(id, "n" * 100, None) for id in range(count)]
        cursor.executemany(self.sql(self._know.insert), rows)
        cursor.close()
        self._trial.driver.commit(self._trial.side)

    def add(self, conn: Any, id: int) -> None:
        """Add 1 to the row's number; not committed."""
        run(conn, self.sql(self._know.add), self._trial.values(id))

    def delete(self, conn: Any, id: int) -> None:
        """Delete a row; not committed."""
        run(conn, self.sql(self._know.delete), self._trial.values(id))

    def row(self, conn: Any, id: int) -> Sequence[Any]:
        """id, note and data of a row."""
        [row] = run(conn, self.sql(self._know.select), self._trial.values(id))
        return row  # type: ignore[no-any-return]

    def ids(self, conn: Any) -> list[int]:
        """The ids that this connection sees."""
        return [row[0] for row in run(conn, self.sql(self._know.ids))]

    def seen(self) -> list[int]:
        """The ids that were committed."""
        return [row[0] for row in self._trial.outside(self.sql(self._know.ids))]

    def numbers(self) -> list[int]:
        """The numbers that were committed, by id."""
        return [row[0] for row in self._trial.outside(self.sql(self._know.numbers))]
