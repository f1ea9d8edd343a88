"""`Driver`: what the pool asks of a DB-API driver, with an answer for every driver there is.

A plugin subclasses it and overrides what its driver can do better. Every method takes the driver's
own connection, never a pooled one. One instance serves one pool, and must be safe to call from any
thread. This module must never know the pool, nor import a driver.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence, Set
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .bare import Bare
from .facts import Server
from .portable import PORTABLE
from .sql import Classifier, Dialect

if TYPE_CHECKING:
    from ..handles import PooledConnection

Connect = Callable[..., Any]
Arguments = tuple[tuple[Any, ...], dict[str, Any]]
Target = tuple[Connect, tuple[Any, ...], dict[str, Any]]


class Driver:
    """The portable PEP 249 defaults. See https://peps.python.org/pep-0249/.

    Unless a method says otherwise it may do I/O and may raise whatever the driver raises: the pool
    then throws the connection away.
    """

    name = "dbapi"
    """Shown to people: in `repr`, in `dbapi-pool plugins`, in errors."""

    system: str | None = None
    """What OpenTelemetry calls the database, in `db.system.name`
    (https://opentelemetry.io/docs/specs/semconv/registry/attributes/db/), or a name of your own. None:
    not known."""

    local = False
    """True if connecting, pinging and closing are quick and touch no network. The pool then does
    them in the caller's thread instead of one of its own."""

    expendable = True
    """False if closing a healthy connection loses data (a private in-memory database). The pool
    then never retires one for its age, its idle time or its uses."""

    dialect: Dialect = PORTABLE
    """How its SQL is read by `may_change_session`."""

    statement_methods: tuple[str, ...] = ()
    """Methods of the driver's connection that make a cursor, run its method of the same name and
    return the cursor (sqlite3's `execute`)."""

    handle_base: type[PooledConnection] | None = None
    """The class that borrowed connections derive from: a subclass of `PooledConnection`, with empty
    `__slots__`, that adds methods. They reach this driver as `self._lease.pool.driver`. A class
    attribute `_gone`, derived from `ConnectionReturned`, is raised after the return. None:
    `PooledConnection`."""

    harmless: frozenset[str] = frozenset({
        "Warning", "Error", "InterfaceError", "DatabaseError", "DataError", "OperationalError",
        "IntegrityError", "InternalError", "ProgrammingError", "NotSupportedError",
    })  # fmt: skip
    """Names on the driver's connection whose use leaves no trace in it. Using any other makes the
    pool restore attributes and reset the session when the connection comes back."""

    known_harmless: Set[str] = frozenset()
    """Texts of which `may_change_session` is known to say False. The pool looks here first, and then
    does not ask. A driver that overrides `may_change_session`, and never says True of a text that
    `classifier` called harmless, may set it to `self.classifier.harmless`.
    See `rollback_soon` too."""

    known_inert: Set[str] = frozenset()
    """Texts of which that is known too, and besides that they begin no transaction and hold nothing,
    in no mode of the connection: after these alone there is nothing to roll back. None of them may be
    in `known_harmless`."""

    bare: Bare = Bare()
    """How the driver's own connections do what borrowed ones do otherwise."""

    faithful: bool = False
    """True, set before anything is asked, where programs that know of no pool use its connections
    (`dbapi_pool.manage`): they are then made, and found to be of use, so that nobody could tell them
    from new ones of the driver's own, and opened in the thread that asks for one."""

    @property
    def inline(self) -> bool:
        """Whether connections are opened in the thread that asks for one."""
        return self.local or self.faithful

    def __init__(self, module: ModuleType | type | None = None) -> None:
        """`module`: what carries the PEP 249 errors: the DB-API module, or the connection class."""
        self.module = module
        self.classifier = Classifier(self.dialect)
        if not self._overrides("may_change_session"):
            self.known_harmless = self.classifier.harmless

    def _overrides(self, method: str) -> bool:
        """Whether it has an answer of its own to that."""
        return getattr(type(self), method) is not getattr(Driver, method)

    # -- what the user gave: arguments, URL, settings ---------------------------------------------

    def parse_url(self, url: str) -> Target:
        """`(connect, args, kwargs)` for a database URL that this driver was chosen for.

        Raises `ValueError` for a URL that it does not understand; never puts a password in the text.
        """
        raise ValueError(f"driver {self.name!r} has no URLs")

    def connect_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        """The creator's arguments with those added that a pool needs. No I/O."""
        return args, kwargs

    native_advice = (
        "have it opened by the pool: give the driver's module, and the arguments of its connect()"
    )
    """What to do where the driver's connections cannot be lent themselves (`native=True`), since the
    creator makes them of a class that is not the pool's to choose."""

    def native_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        """As `connect_arguments`, and after it, with `native=True`: those with which the driver makes
        connections of a class that is written in Python, if by itself it does not."""
        return args, kwargs

    def endpoint(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[str, int | None] | None:
        """Host and port that these connect arguments lead to, for metrics; None: not known, there are
        several, or there is none. No I/O, and raises nothing; never anything of a password."""
        host, port = kwargs.get("host"), kwargs.get("port")
        if not isinstance(host, str) or not host:
            return None
        return host, port if type(port) is int else None

    def check_settings(
        self, settings: Mapping[str, Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        """Refuse settings that cannot work with these connect arguments. No I/O.

        `settings` holds the pool's settings by name. Raises `ValueError` with the setting's name,
        its value and the way out.
        """

    # -- a connection's beginning and end ---------------------------------------------------------

    def connected(self, conn: Any) -> None:
        """Prepare a new connection, before the user's `setup`. Raises to refuse it."""

    def run_setup(self, conn: Any, statements: Sequence[str]) -> None:
        """Run the user's `setup` statements so that they last: outside a transaction where that
        matters, committed where it does not."""
        cursor = conn.cursor()
        try:
            for sql in statements:
                cursor.execute(sql)
        finally:
            cursor.close()
        self.commit(conn)

    def close(self, conn: Any) -> None:
        """Close it; whatever it holds open in this process is released."""
        conn.close()

    def is_alive(self, conn: Any) -> bool:
        """False if it is known to be dead, without a round trip and without blocking.

        Asked at every checkout, so it must be quick. True means "nothing bad is known".
        """
        return True

    def ping(self, conn: Any) -> None:
        """One round trip that proves it alive; it leaves no transaction open and never reconnects.

        Portable default: `SELECT 1` (the next best thing to a standard: PEP 249 has no ping), then
        a rollback.
        """
        cursor = conn.cursor()
        try:
            cursor.execute("SELECT 1")
            cursor.fetchall()
        finally:
            cursor.close()
        conn.rollback()

    def interrupt(self, conn: Any) -> bool:
        """Make a call that blocks on it in another thread fail soon; True if that was possible.

        Must not block, and must be safe while another thread is inside the driver.
        """
        return False

    def session_id(self, conn: Any) -> Any:
        """What names the session of `conn` on the server, for `cancel`. Nobody is inside `conn`. No
        round trip, and raises nothing."""
        return None

    def cancel(self, conn: Any, session_id: Any) -> str | None:
        """Have the server stop the statement in which another thread is inside `conn`, which is not
        used again after that. `session_id`: what `session_id(conn)` gave.

        May block, and may open a connection that is no session. Returns SQL if the only way is to run
        it in another session of the same user; that is done after `interrupt`. Portable default:
        nothing, so that a server stops when it notices that its client is gone.
        """
        return None

    def abandon_after_fork(self, conn: Any) -> None:
        """In a child process: make sure that nothing done to `conn` here reaches the parent's session.

        The pool keeps a reference for ever, so that no finalizer runs. Portable default: where the
        driver offers a file descriptor, it now leads to the null device.
        """
        fileno = getattr(conn, "fileno", None)
        if not callable(fileno):
            return
        try:
            fd = int(fileno())
        except Exception:
            return
        null = os.open(os.devnull, os.O_RDWR)
        try:
            os.dup2(null, fd)
        finally:
            os.close(null)

    # -- transactions -----------------------------------------------------------------------------

    def in_transaction(self, conn: Any) -> bool | None:
        """Whether a transaction is open, without a round trip; None: cannot say.

        None makes the pool go by what it saw: work since the last commit or rollback. False need
        hold only while no statement ran that `may_change_session`: after one the pool rolls back
        whatever this says, unless the borrower has ended the transaction.
        """
        return None

    def commit(self, conn: Any) -> None:
        """Commit a transaction however it was begun, also one begun by hand in autocommit mode.

        This is what a borrower's `commit()` does.
        """
        conn.commit()

    def rollback(self, conn: Any) -> None:
        """End a transaction however it was begun, also one begun by hand in autocommit mode.

        This is what a borrower's `rollback()` does too. It must do nothing where there is none.
        """
        conn.rollback()

    def rollback_soon(self, conn: Any) -> bool:
        """Send a rollback and do not wait for the answer; False if nothing was sent.

        Asked instead of `rollback` where the borrower did nothing but run texts of `known_harmless`.
        So who overrides it may have only those there that read, and hold no lock that another
        session could miss a moment later. Whoever uses the connection next must read the answer first;
        `is_alive` reads it if it has come, says False if it is anything but a success, or if it has
        not come for longer than a healthy server takes.
        """
        return False

    def begin(
        self, conn: Any, isolation: str | None, readonly: bool | None, options: Mapping[str, Any]
    ) -> None:
        """Begin a transaction on a clean connection. `options`: whatever else the caller named.

        It must be one that `commit` and `rollback` end; `restore` is called when the connection comes
        back. Portable default: PEP 249's implicit one; refuses what it cannot give with `ValueError`.
        """
        asked = {"isolation": isolation, "readonly": readonly, **options}
        for name, value in asked.items():
            if value is not None:
                raise ValueError(
                    f"transaction({name}={value!r}): driver {self.name!r} has no portable way to"
                    " do that; leave it out, or install a plugin for this driver"
                )

    # -- a clean session --------------------------------------------------------------------------

    def snapshot(self, conn: Any) -> Any:
        """The client-side attributes worth restoring, taken once after `setup`. No round trip."""
        return None

    def restore(self, conn: Any, snapshot: Any) -> None:
        """Put back the attributes that differ from `snapshot`. Called after the rollback.

        Portable default: none known, so the pool closes a connection whose attributes were changed.
        """

    def reset_session(self, conn: Any, snapshot: Any) -> bool:
        """Bring the session on the server back to what it was when connected.

        Called after the rollback and before `restore`, with what `snapshot` gave. True: done, and
        the pool replays `setup`. False: this driver cannot, so the pool closes the connection and
        opens another when needed.
        """
        return False

    def may_change_session(self, sql: Any) -> bool:
        """Whether this statement may change more than rows: when in doubt, True. No I/O.

        Asked for every statement, so it should remember its answers. `sql` is whatever the borrower
        passed to the driver, not always a `str`. Portable default: what changes no session in any
        database is harmless (`drivers/portable.py`).
        """
        return self.classifier(sql)

    # -- what an error means ----------------------------------------------------------------------

    def is_disconnect(self, exc: BaseException, conn: Any) -> bool:
        """Whether `exc`, raised by a call on `conn`, says that the connection is gone. No I/O.

        Portable default: PEP 249 has no word for it, so this goes by what the connection itself
        says (`closed`, as many drivers have it) and by Python's own connection errors.
        """
        if isinstance(exc, (ConnectionError, EOFError)):
            return True
        closed = getattr(conn, "closed", False)
        return isinstance(closed, (bool, int)) and bool(closed)

    def is_failover(self, exc: BaseException, conn: Any) -> bool:
        """Whether `exc` says that this server is no longer the one to write to: it has become
        read-only, which the borrower did not ask for. The pool then replaces every connection. No
        I/O."""
        return False

    def is_server_wide(self, exc: BaseException) -> bool:
        """Whether `exc` is a sign that the server ends, or has ended, all its sessions. The pool then
        pings the idle connections before it lends them. No I/O.

        Not needed for errors for which `is_disconnect` says True: after those it does so anyway.
        """
        return False

    def is_transient(self, exc: BaseException) -> bool:
        """Whether a failed connect is worth another try. If not, the caller gets it at once."""
        return isinstance(exc, (ConnectionError, TimeoutError))

    def is_server_full(self, exc: BaseException) -> bool:
        """Whether connecting failed since the server, or this user there, has too many connections
        already; for `Pool(sizing=...)`. No I/O."""
        return False

    def is_retryable(self, exc: BaseException) -> bool:
        """Whether the transaction was rolled back for a reason that a second try may not meet:
        serialization failure, deadlock, busy."""
        return False

    def ends_transaction(self, exc: BaseException, conn: Any) -> bool:
        """Whether the server has rolled back the whole transaction with `exc`, and would take what
        follows for a new one. No I/O.

        In `transaction()` and `run()` such an error is then raised again by every further statement
        and by `commit()`, until `rollback()`.
        """
        return False

    # -- for people -------------------------------------------------------------------------------

    def server(self, conn: Any) -> Server:
        """What the server behind `conn` says about itself, for `dbapi-pool doctor`.

        Reads only; round trips are fine. Portable default: nothing is known.
        """
        return Server()

    def pooling(self, conn: Any, other: Any) -> str | None:
        """How a pooler that stands between gives away its sessions on the server, as far as two clients
        can see: `"session"`: for as long as a client is connected, `"transaction"` or `"statement"`:
        for one at a time. None: there is no pooler, or it cannot be told. For `dbapi-pool doctor`.

        `conn` and `other` have the same arguments, are clean, and may be closed by this. Reads only.
        """
        return None

    # -- handles ----------------------------------------------------------------------------------

    def open_cursor(
        self,
        conn: Any,
        pooled: Callable[[type], type],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """A cursor of the class `pooled(cls)`, for `cls` the class the borrower asked for.

        `pooled` derives (and caches) a subclass that notes statements and is dead after return.
        Portable default: None, since PEP 249 has no way to ask for a cursor class; the pool then
        wraps what `conn.cursor(*args, **kwargs)` gives.
        """
        return None

    def keeps_rows(self, cursor: Any) -> bool:
        """Whether the bare driver lets what `cursor` has not fetched yet be fetched after the
        connection's `close()`, since it is on the client already. No I/O."""
        return False

    def another_cursor(self, conn: Any, kind: type) -> Callable[[], Any] | None:
        """What makes another cursor of the class `kind`, which `open_cursor` has made for
        `conn.cursor()`.

        Asked once per connection, and then called instead of `open_cursor`, until a borrower sets an
        attribute of the connection or does what the pool cannot see. Portable default: None, so that
        `open_cursor` is asked each time.
        """
        return None


def plain_class(kind: type) -> Any:
    """The driver's own class, or the user's, of a connection that a pool lends itself (`native=True`);
    any other class is that already."""
    return getattr(kind, "_dbapi_pool_plain", kind)
