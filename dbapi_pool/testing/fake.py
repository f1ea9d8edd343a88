"""`FakeDriver`: a whole PEP 249 driver with its server, in memory, for testing pools.

It counts everything, can be told to misbehave, and notes what a pool must never do: use a
connection from two threads at once, close it twice, hand it on dirty.
This module must never know the pool, only `Driver` and `System`.
"""

from __future__ import annotations

import functools
import re
import threading
import weakref
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType, TracebackType
from typing import Any, TypeVar, cast

from ..drivers.base import Driver
from ..system import REAL, System
from .faults import NOTHING, Fault, Faults

_T = TypeVar("_T")
_C = TypeVar("_C", bound="FakeCursor")

Row = tuple[Any, ...]


class Warning(Exception):
    """PEP 249."""


class Error(Exception):
    """PEP 249."""


class InterfaceError(Error):
    """PEP 249. Here: a closed connection or cursor was used."""


class DatabaseError(Error):
    """PEP 249."""


class DataError(DatabaseError):
    """PEP 249."""


class OperationalError(DatabaseError):
    """PEP 249. Here: the server is down, or gone."""


class IntegrityError(DatabaseError):
    """PEP 249."""


class InternalError(DatabaseError):
    """PEP 249."""


class ProgrammingError(DatabaseError):
    """PEP 249. Here: no result to fetch, or SQL that the fake does not understand."""


class NotSupportedError(DatabaseError):
    """PEP 249."""


class SerializationError(OperationalError):
    """The transaction was rolled back by the server; a second try may succeed."""


class _Errors:
    """The PEP 249 names, for the module and for its connections."""

    Warning = Warning
    Error = Error
    InterfaceError = InterfaceError
    DatabaseError = DatabaseError
    DataError = DataError
    OperationalError = OperationalError
    IntegrityError = IntegrityError
    InternalError = InternalError
    ProgrammingError = ProgrammingError
    NotSupportedError = NotSupportedError


class _Session:
    """The server's side of one connection."""

    def __init__(self, fake: FakeDriver) -> None:
        self.fake = fake
        self.variables: dict[str, str] = {}
        self.in_transaction = False

    def execute(self, sql: str, autocommit: bool) -> list[Row] | None:
        """The rows, or None for a statement that has none."""
        words = sql.upper().rstrip(" ;\n").split()
        if not words:
            raise ProgrammingError("empty statement")
        if words[0] == "SELECT":
            return self._select(words)
        if words[0] in ("BEGIN", "START"):
            self.in_transaction = True
        elif words[0] in ("COMMIT", "ROLLBACK") and words[1:2] != ["TO"]:
            self.in_transaction = False
        else:
            self._change(words[0], sql)
            self.in_transaction |= not autocommit
        return None

    def _select(self, words: list[str]) -> list[Row]:
        if words[1:] == ["SESSION"]:
            return sorted(self.variables.items())
        values = "".join(words[1:]).split(",")
        if all(value.isdigit() for value in values):
            return [tuple(int(value) for value in values)]
        return list(self.fake.rows)

    def _change(self, verb: str, sql: str) -> None:
        if verb == "RESET":
            self.variables.clear()
        elif verb == "SET":
            found = re.fullmatch(r"\s*SET\s+(\w+)\s*(?:=|\sTO\s)\s*(.+?)[\s;]*", sql, re.I | re.S)
            if found is None:
                raise ProgrammingError(f"not of the form SET name = value: {sql!r}")
            self.variables[found[1]] = found[2]


class FakeCursor:
    """A PEP 249 cursor."""

    lastrowid: int | None = None

    def __init__(self, connection: FakeConnection) -> None:
        self._conn = connection
        self._closed = False
        self._rows: deque[Row] | None = None
        self.description: list[tuple[Any, ...]] | None = None
        """One 7-tuple for each column; None without a result."""
        self.rowcount = -1
        """Rows of the last result, or rows changed."""
        self.arraysize = 1
        """Rows that `fetchmany` takes, unless told."""
        connection._cursors.add(self)

    @property
    def connection(self) -> Any:
        """The connection that made it."""
        return self._conn

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    @property
    def half_read(self) -> bool:
        """Whether rows of its result were not fetched yet."""
        return bool(self._rows) and not self._closed

    def execute(self, sql: str, parameters: Any = ()) -> FakeCursor:
        """Run a statement; itself. The parameters are not looked at."""
        self._check()
        self._result(self._conn._operate("execute", lambda: self._conn._run(sql)))
        return self

    def executemany(self, sql: str, parameters: Sequence[Any]) -> FakeCursor:
        """Run it once, and say that it changed as many rows as there are sets of parameters."""
        self.execute(sql)
        if self._rows is None:
            self.rowcount = len(parameters)
        return self

    def callproc(self, name: str, parameters: Sequence[Any] = ()) -> Sequence[Any]:
        """Run `CALL name`; the parameters."""
        self.execute(f"CALL {name}")
        return parameters

    def fetchone(self) -> Row | None:
        """The next row, or None."""
        rows = self._fetch(1)
        return rows[0] if rows else None

    def fetchmany(self, size: int | None = None) -> list[Row]:
        """The next `size` rows, or fewer at the end."""
        return self._fetch(self.arraysize if size is None else size)

    def fetchall(self) -> list[Row]:
        """The rows that are left."""
        return self._fetch(None)

    def nextset(self) -> None:
        """None: there is one result at most. It drops the rest of this one."""
        self._check()
        self._rows = None

    def setinputsizes(self, sizes: Sequence[Any]) -> None:
        """Nothing, as PEP 249 allows."""
        self._check()

    def setoutputsize(self, size: int, column: int | None = None) -> None:
        """Nothing, as PEP 249 allows."""
        self._check()

    def close(self) -> None:
        """Forget the result. Closing twice is fine, as with most drivers."""
        self._closed = True
        self._rows = None

    def __iter__(self: _C) -> _C:
        return self

    def __next__(self) -> Row:
        row = self.fetchone()
        if row is None:
            raise StopIteration
        return row

    def __enter__(self: _C) -> _C:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _check(self) -> None:
        if self._closed:
            raise InterfaceError("the cursor is closed")

    def _result(self, rows: list[Row] | None) -> None:
        if rows is None:
            self._rows, self.description, self.rowcount = None, None, 1
            return
        self._rows, self.rowcount = deque(rows), len(rows)
        width = len(rows[0]) if rows else 1
        self.description = [(f"c{n}", *[None] * 6) for n in range(1, width + 1)]

    def _fetch(self, size: int | None) -> list[Row]:
        self._check()
        return self._conn._operate("fetch", lambda: self._take(size))

    def _take(self, size: int | None) -> list[Row]:
        rows = self._rows
        if rows is None:
            raise ProgrammingError("no result to fetch from")
        count = len(rows) if size is None else min(size, len(rows))
        return [rows.popleft() for _ in range(count)]


class FakeConnection(_Errors):
    """A PEP 249 connection. Made by `FakeDriver.connect`.

    Its public instance attributes are the borrower's to change and the pool's to restore:
    `autocommit`, `note`, and whatever else is put on it.
    """

    def __init__(
        self, fake: FakeDriver, number: int, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self.autocommit = False
        """False: any statement but SELECT opens a transaction."""
        self.note: Any = None
        """For nothing: an attribute that a borrower may change."""
        self._fake = fake
        self._number = number
        self._arguments = (args, kwargs)
        self._session = _Session(fake)
        self._cursors: weakref.WeakSet[FakeCursor] = weakref.WeakSet()
        self._executed: list[str] = []
        self._close_calls = 0
        self._closed = False
        self._gone: str | None = None
        self._users: list[int] = []  # threads inside
        self._clean = self._state()

    def __repr__(self) -> str:
        state = "closed" if self._closed else self._gone or "open"
        return f"<FakeConnection {self._number} {state}>"

    @property
    def number(self) -> int:
        """1 for the fake's first connection, and so on."""
        return self._number

    @property
    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What `connect` was called with."""
        return self._arguments

    @property
    def closed(self) -> bool:
        """Whether `close` has ended."""
        return self._closed

    @property
    def close_calls(self) -> int:
        """How often `close` was called."""
        return self._close_calls

    @property
    def killed(self) -> bool:
        """Whether the server ended the session, or a call on it was interrupted."""
        return self._gone is not None

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self._session.in_transaction

    @property
    def session(self) -> dict[str, str]:
        """The session's variables on the server: those that `SET name = value` has changed."""
        return self._session.variables

    @property
    def executed(self) -> list[str]:
        """The statements it ran, in order."""
        return self._executed

    @property
    def half_read(self) -> bool:
        """Whether a cursor of it still has rows to fetch."""
        return any(cursor.half_read for cursor in list(self._cursors))

    def cursor(self, factory: Callable[[FakeConnection], Any] = FakeCursor) -> Any:
        """A new cursor: `factory(self)`."""
        return self._operate("cursor", lambda: factory(self))

    def execute(self, sql: str, parameters: Any = ()) -> Any:
        """The shortcut that sqlite3 has: a new cursor that ran `sql`."""
        cursor = self.cursor()
        cursor.execute(sql, parameters)
        return cursor

    def commit(self) -> None:
        """End the transaction."""
        self._operate("commit", lambda: self._end_transaction("commit"))

    def rollback(self) -> None:
        """End the transaction, also one begun by hand."""
        self._operate("rollback", lambda: self._end_transaction("rollback"))

    def close(self) -> None:
        """Close it, however this ends. A second call is a violation, and an `InterfaceError`."""
        with self._fake._lock:
            self._close_calls += 1
            first = self._close_calls == 1
        if not first:
            self._fake._violate(f"connection {self._number} was closed twice")
            raise InterfaceError("the connection is closed")
        try:
            self._use(lambda: self._fake._faults.run("close", self, lambda: None))
        finally:
            self._fake._forget(self)

    def __enter__(self) -> FakeConnection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.commit()
        else:
            self.rollback()

    def _operate(self, operation: str, effect: Callable[[], _T]) -> _T:
        """`effect()`, as one call into the driver, with what it suffers."""
        self._check()

        def checked() -> _T:
            self._check()
            return effect()

        return self._use(lambda: self._fake._faults.run(operation, self, checked))

    def _use(self, action: Callable[[], _T]) -> _T:
        """`action()`, noting when another thread is inside already."""
        me = self._fake._system.get_ident()
        # It enters, and then looks who is there: of two that come at once, one sees the other.
        self._users += (me,)  # not by a call: an exception may strike after one
        try:
            self._look_round(me)
            return action()
        finally:
            self._users.remove(me)

    def _look_round(self, me: int) -> None:
        for other in self._users.copy():
            if other != me:
                self._fake._violate(
                    f"thread {me} used connection {self._number} while thread {other} was inside"
                )
                return

    def _check(self) -> None:
        if self._closed:
            raise InterfaceError("the connection is closed")
        if self._gone is not None:
            raise OperationalError(self._gone)

    def _run(self, sql: str) -> list[Row] | None:
        self._executed.append(sql)
        self._fake.executed.append((self._number, sql))
        return self._session.execute(sql, self.autocommit)

    def _end_transaction(self, how: str) -> None:
        self._session.in_transaction = False
        self._fake._count(how)

    def _attributes(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def _state(self) -> dict[str, Any]:
        return {**self._attributes(), "session": dict(self._session.variables)}

    def _dirt(self) -> list[str]:
        """What a next borrower could notice."""
        found = ["open transaction"] if self.in_transaction else []
        if self.half_read:
            found.append("half-read result")
        now = self._state()
        for name in sorted({*now, *self._clean}):
            was, is_ = self._clean.get(name, NOTHING), now.get(name, NOTHING)
            if was != is_:
                found.append(f"{name} is {is_!r}, was {was!r}")
        return found

    def _lose(self, reason: str) -> None:
        self._gone = self._gone or reason
        self._fake._faults.wake(self)


class FakeDriver(_Errors):
    """A PEP 249 module in memory: `Pool(fake)`, or `Pool(fake.connect)`.

    With its plugin, which knows it as well as a driver can be known: `Pool(fake,
    driver=fake.driver())`; without, it is any unknown driver.
    As a context manager it ends with `assert_no_leak`.
    """

    apilevel = "2.0"
    threadsafety = 1
    paramstyle = "qmark"
    SerializationError = SerializationError

    def __init__(self, clock: System | None = None, name: str = "fake") -> None:
        """`clock`: what delays and hangs wait on; None: the real one."""
        self.name = name
        self.__name__ = name
        self.down = False
        """While True, `connect` raises `OperationalError` from `ConnectionRefusedError`."""
        self.lie_alive = False
        """While True, the plugin's `is_alive` says True also of killed connections."""
        self.interruptible = True
        """While False, the plugin's `interrupt` does nothing and says so."""
        self.strict = True
        """Whether the plugin's `is_alive` notes a dirty connection as a violation: a pool asks it
        right before it hands one out, so that it must be clean. Turn it off for `reset="none"`."""
        self.rows: list[Row] = [(1,)]
        """What SELECT gives, but for `SELECT SESSION` and `SELECT 1, 2`."""
        self.executed: list[tuple[int, str]] = []
        """`(connection's number, statement)`, in order."""
        self.violations: list[str] = []
        """What the pool did that it must never do."""
        self._system = clock if clock is not None else REAL
        self._faults = Faults(self._system)
        # Guards the counts. Re-entrant, since a finalizer may close a connection inside it.
        self._lock = threading.RLock()
        self._done: Counter[str] = Counter()
        self._peak = 0
        self._opening: set[object] = set()
        self._live: dict[int, FakeConnection] = {}

    def __repr__(self) -> str:
        return f"<FakeDriver {self.name!r} open={self.open} opening={self.opening}>"

    # -- the driver -------------------------------------------------------------------------------

    def connect(self, *args: Any, **kwargs: Any) -> Any:
        """A new connection. Any arguments will do."""
        token = object()
        with self._lock:
            self._opening.add(token)
            self._peak = max(self._peak, len(self._live) + len(self._opening))
        try:
            return self._faults.run("connect", None, lambda: self._open(token, args, kwargs))
        finally:
            self._opening.discard(token)

    def driver(self, *, local: bool = False, expendable: bool = True) -> FakeDriverPlugin:
        """The plugin for it. `local` and `expendable` as in `Driver`."""
        return FakeDriverPlugin(self, local=local, expendable=expendable)

    def _open(self, token: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> FakeConnection:
        if self.down:
            raise OperationalError("connection refused") from ConnectionRefusedError("refused")
        with self._lock:
            self._done["open"] += 1
            conn = FakeConnection(self, self._done["open"], args, kwargs)
            self._live[conn.number] = conn
            self._opening.discard(token)
        return conn

    def _forget(self, conn: FakeConnection) -> None:
        with self._lock:
            conn._closed = True
            del self._live[conn.number]
            self._done["close"] += 1

    # -- counts -----------------------------------------------------------------------------------

    @property
    def connections(self) -> list[FakeConnection]:
        """Those that are open, oldest first."""
        return list(self._live.values())

    @property
    def open(self) -> int:
        """Connections open now: their `close` has not ended."""
        return len(self._live)

    @property
    def opening(self) -> int:
        """Calls of `connect` that have not ended."""
        return len(self._opening)

    @property
    def peak(self) -> int:
        """The most that were ever open or opening at once."""
        return self._peak

    @property
    def opened(self) -> int:
        """Connections ever opened."""
        return self._done["open"]

    @property
    def closed(self) -> int:
        """Connections ever closed."""
        return self._done["close"]

    @property
    def commits(self) -> int:
        """Calls of `commit` that came through."""
        return self._done["commit"]

    @property
    def rollbacks(self) -> int:
        """Calls of `rollback` that came through."""
        return self._done["rollback"]

    @property
    def pings(self) -> int:
        """Pings by the plugin that came through."""
        return self._done["ping"]

    @property
    def resets(self) -> int:
        """Sessions reset by the plugin."""
        return self._done["reset"]

    @property
    def calls(self) -> Counter[str]:
        """How often each operation was tried, also in vain."""
        return self._faults.calls

    def _count(self, what: str) -> None:
        with self._lock:
            self._done[what] += 1

    # -- misbehaviour -----------------------------------------------------------------------------

    def on(
        self,
        operation: str,
        *,
        error: BaseException | type[BaseException] | None = None,
        delay: float = 0.0,
        hang: bool = False,
        call: Callable[[Any], object] | None = None,
        returns: Any = NOTHING,
        after: bool = False,
        times: int | None = None,
    ) -> None:
        """From now on `operation` misbehaves: connect, close, cursor, execute, fetch, commit,
        rollback, and of the plugin: is_alive, ping, reset, begin. Others raise `ValueError`.

        In this order: it takes `delay` seconds longer, or hangs until `release`, or until the
        connection is killed or interrupted; does `call(conn)` (for connect: `call(None)`), which
        may raise; raises `error`; gives `returns` without doing its work. `after`: its work is
        done before `call` and `error`. `times`: so many calls, in the order of `on`; without, every
        call for which no counted one is left; a later `on` replaces it.
        """
        self._faults.add(operation, Fault(error, delay, hang, call, returns, after, times))

    def off(self, operation: str) -> None:
        """`operation` works again. What hangs in it goes on hanging."""
        self._faults.remove(operation)

    def calm(self) -> None:
        """All works again, and what hangs goes on. Killed connections stay dead."""
        self.down = self.lie_alive = False
        self._faults.clear()

    def release(self, operation: str) -> int:
        """What hangs in `operation` now goes on; how many calls that were."""
        return self._faults.release(operation)

    def waiting(self, operation: str) -> int:
        """How many calls of `operation` hang or are delayed now."""
        return self._faults.waiting(operation)

    def kill(self, conn: FakeConnection) -> None:
        """The server ends this session: all calls on it, also one that hangs, fail from now on."""
        conn._lose("server closed the connection")

    def kill_all(self) -> None:
        """The server ends all sessions."""
        for conn in self.connections:
            self.kill(conn)

    # -- judgement --------------------------------------------------------------------------------

    def check_clean(self, conn: FakeConnection) -> None:
        """Raise `AssertionError` if a next borrower could tell that there was a previous one.

        Clean is as it was when the plugin took its snapshot, that is after the pool's `setup`;
        without the plugin, as it was connected.
        """
        dirt = conn._dirt()
        if dirt:
            raise AssertionError(f"connection {conn.number} is dirty: " + "; ".join(dirt))

    def check(self) -> None:
        """Raise `AssertionError` if there are violations."""
        if self.violations:
            raise AssertionError("violations: " + "; ".join(self.violations))

    def assert_no_leak(self) -> None:
        """Raise `AssertionError` if anything is open or opening, or was violated."""
        self.check()
        if self._live or self._opening:
            raise AssertionError(f"{self.opening} opening, still open: {self.connections}")

    def __enter__(self) -> FakeDriver:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.assert_no_leak()

    def _violate(self, text: str) -> None:
        self.violations.append(text)


class FakeDriverPlugin(Driver):
    """What a good plugin would be for `FakeDriver`. Made by `FakeDriver.driver`."""

    statement_methods = ("execute",)

    harmless = Driver.harmless | {
        "arguments", "close_calls", "closed", "executed", "half_read", "in_transaction", "killed",
        "number",
    }  # fmt: skip

    def __init__(self, fake: FakeDriver, *, local: bool = False, expendable: bool = True) -> None:
        super().__init__(cast(ModuleType, fake))
        self.name = fake.name
        self.local = local
        self.expendable = expendable
        self._fake = fake

    def is_alive(self, conn: FakeConnection) -> bool:
        """Whether it was not killed. Notes a violation if it is dirty: see `FakeDriver.strict`."""
        faults = self._fake._faults
        alive = conn._use(lambda: faults.run("is_alive", conn, lambda: self._alive(conn)))
        dirt = conn._dirt() if alive and self._fake.strict and not conn.killed else []
        if dirt:
            self._fake._violate(f"connection {conn.number} is reused dirty: " + "; ".join(dirt))
        return alive

    def _alive(self, conn: FakeConnection) -> bool:
        return self._fake.lie_alive or not (conn.killed or conn.closed)

    def ping(self, conn: FakeConnection) -> None:
        """A round trip of its own, without a statement."""
        conn._operate("ping", lambda: self._fake._count("ping"))

    def interrupt(self, conn: FakeConnection) -> bool:
        """The call that hangs on it raises `OperationalError("interrupted")`, and it is dead."""
        if self._fake.interruptible:
            conn._lose("interrupted")
        return self._fake.interruptible

    def in_transaction(self, conn: FakeConnection) -> bool:
        """What the session says."""
        return conn.in_transaction

    def rollback(self, conn: FakeConnection) -> None:
        """End a transaction however it was begun."""
        conn.rollback()

    def begin(
        self,
        conn: FakeConnection,
        isolation: str | None,
        readonly: bool | None,
        options: Mapping[str, Any],
    ) -> None:
        """`BEGIN [isolation] [READ ONLY | READ WRITE]`. Raises `ValueError` for other options."""
        super().begin(conn, None, None, options)
        mode = {None: "", True: "READ ONLY", False: "READ WRITE"}[readonly]
        sql = " ".join(word for word in ("BEGIN", isolation, mode) if word)
        conn._operate("begin", lambda: conn._run(sql))

    def snapshot(self, conn: FakeConnection) -> dict[str, Any]:
        """Its public attributes. From now on this, and its session as it is, counts as clean."""
        conn._clean = conn._state()
        return conn._attributes()

    def restore(self, conn: FakeConnection, snapshot: Mapping[str, Any]) -> None:
        """Put back what differs, remove what was added."""
        for name in set(conn._attributes()).difference(snapshot):
            delattr(conn, name)
        for name, value in snapshot.items():
            if getattr(conn, name, NOTHING) != value:
                setattr(conn, name, value)

    def reset_session(self, conn: FakeConnection, snapshot: Mapping[str, Any]) -> bool:
        """Forget the session's variables, all of them: also those of the pool's `setup`."""
        return conn._operate("reset", lambda: self._reset(conn))

    def _reset(self, conn: FakeConnection) -> bool:
        conn.session.clear()
        self._fake._count("reset")
        return True

    def may_change_session(self, sql: str) -> bool:
        """True of anything but SELECT, INSERT, UPDATE, DELETE."""
        words = sql.split(None, 1)
        return not words or words[0].upper() not in _HARMLESS

    def is_disconnect(self, exc: BaseException, conn: FakeConnection) -> bool:
        """Whether it was killed."""
        return conn.killed or super().is_disconnect(exc, conn)

    def is_transient(self, exc: BaseException) -> bool:
        """True if the network was to blame; False of any other error of the driver."""
        return super().is_transient(exc) or isinstance(exc.__cause__, OSError)

    def is_retryable(self, exc: BaseException) -> bool:
        """True of `SerializationError`."""
        return isinstance(exc, SerializationError)

    def open_cursor(
        self,
        conn: FakeConnection,
        pooled: Callable[[type], type],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """A native cursor, of the class asked for."""
        return conn.cursor(pooled(_cursor_class(*args, **kwargs)))

    def another_cursor(self, conn: FakeConnection, kind: type) -> Callable[[], Any]:
        """The same again."""
        return functools.partial(conn.cursor, kind)


_HARMLESS = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE"})


def _cursor_class(factory: type = FakeCursor) -> type:
    return factory
