"""`PsycopgDriver`: what the pool needs to know about psycopg (3).

See https://www.psycopg.org/psycopg3/docs/api/connections.html. It must never know the pool. psycopg
keeps its attributes on the client: setting them costs no round trip. Some of its state has no public
name (two-phase transactions, statements it has prepared): should that move, connections are closed
instead of cleaned, and never handed out dirty.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import psycopg
from psycopg import pq
from psycopg.adapt import AdaptersMap
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import tuple_row
from psycopg.sql import SQL, Composable, Composed, Identifier, Placeholder

from dbapi_pool.drivers.bare import Bare
from dbapi_pool.drivers.base import plain_class
from dbapi_pool.fences import FencedContext, failed
from dbapi_pool.handles import PooledConnection
from dbapi_pool.member import Work

from . import facts
from .driver import ENVIRONMENT, PostgreSQLDriver
from .handles import attribute_method, cursor_body, is_returned, tpc_commit, work_of

log = logging.getLogger("dbapi_pool.postgresql")

IDLE = pq.TransactionStatus.IDLE
BUSY = pq.TransactionStatus.ACTIVE
FAILED = pq.TransactionStatus.INERROR

# Not attributes that a borrower sets: these are the connection, its lock and its course; and what is
# restored in another way.
_NOT_ATTRIBUTES = frozenset({
    "pgconn", "lock", "_closed", "_num_transactions", "_pipeline", "_prepared", "_tpc",
    "_adapters", "_begin_statement", "_notice_handlers", "_notifies_backlog", "_notify_handlers",
})  # fmt: skip

# Set on a connection (until it is restored) whose lease is one transaction.
_ONE_TRANSACTION = "_dbapi_pool_one_transaction"


class Adapters:
    """A copy of what is registered on a connection. Cheap: psycopg copies on write."""

    __slots__ = ("_map",)

    def __init__(self, adapters: AdaptersMap) -> None:
        self._map = AdaptersMap(adapters)

    def fresh(self) -> AdaptersMap:
        """A map to register in, which leaves this as it is."""
        return AdaptersMap(self._map)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Adapters) and self._content() == other._content()

    def _content(self) -> tuple[Any, ...]:
        adapters = self._map
        return adapters._dumpers, adapters._dumpers_by_oid, adapters._loaders, [*adapters.types]


class Attributes(NamedTuple):
    """The attributes of a connection that its borrower may change."""

    plain: dict[str, Any]
    adapters: Adapters
    notice_handlers: list[Any]
    notify_handlers: list[Any]
    prepare_threshold: int | None
    prepared_max: int | None


class FencedTransaction(FencedContext):
    """A block of `conn.transaction()`."""

    __slots__ = ("_rolls_back",)

    tells_lost = True
    """Whether leaving it raises where psycopg's COMMIT commits nothing."""

    def __init__(self, handle: Any, work: Work, block: Any, rolls_back: bool) -> None:
        """`rolls_back`: it was asked to do that in any case."""
        super().__init__(handle, work, block)
        self._rolls_back = rolls_back

    def __enter__(self) -> Any:
        """As the driver's; within `pool.transaction()` never the outermost, which commits by itself."""
        conn = self._handle._lease.member.conn
        # With reset="none" the mark stays; `begin` changes attributes, in this lease.
        one = _ONE_TRANSACTION in vars(conn) and self._work.attributes
        if one and conn.pgconn.transaction_status == IDLE:
            try:
                _run(conn, "SHOW transaction_isolation")  # has psycopg send its BEGIN
            except BaseException as exc:
                failed(self._handle, exc)
                raise
        return super().__enter__()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> Any:
        """As the driver's, but raises where a COMMIT commits nothing, as `conn.commit()` does.

        `raise Rollback(block)` names the block that was handed out; psycopg knows its own.
        """
        lease = self._handle._lease
        lost = lease.member.conn.pgconn.transaction_status == FAILED
        if isinstance(error, psycopg.Rollback):
            block: Any = error.transaction
            if isinstance(block, FencedContext):
                error.transaction = block._context
        result = super().__exit__(kind, error, trace)
        if lost and error is None and self.tells_lost and not self._rolls_back:
            raise lease.pool.driver.lost_transaction()
        return result


class Info:
    """A borrowed connection's `info`: the driver's, as long as the connection is lent."""

    __slots__ = ("_handle",)

    def __init__(self, handle: PooledConnection) -> None:
        self._handle = handle

    def __getattr__(self, name: str) -> Any:
        conn = self._handle._lease.member.conn
        if name == "pgconn":  # which can do anything
            work_of(self._handle).unseen()
        return getattr(conn.info, name)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return psycopg.ConnectionInfo


class BareTransaction(FencedTransaction):
    """As `FencedTransaction`, but it does as the driver's own."""

    __slots__ = ()

    tells_lost = False


class BarePsycopgConnection(PooledConnection):
    """A borrowed psycopg connection that does as the driver's own."""

    __slots__ = ()

    _transaction_class: type[FencedTransaction] = BareTransaction

    set_autocommit = attribute_method("set_autocommit")
    set_isolation_level = attribute_method("set_isolation_level")
    set_read_only = attribute_method("set_read_only")
    set_deferrable = attribute_method("set_deferrable")
    add_notice_handler = attribute_method("add_notice_handler")
    remove_notice_handler = attribute_method("remove_notice_handler")
    add_notify_handler = attribute_method("add_notify_handler")
    remove_notify_handler = attribute_method("remove_notify_handler")

    @property
    def info(self) -> Info:
        """As the driver's."""
        self._lease  # noqa: B018  (raises if it was returned)
        return Info(self)

    @property
    def adapters(self) -> AdaptersMap:
        """As the driver's; what is registered there is put back on return."""
        work_of(self).attributes = True
        adapters: AdaptersMap = self._lease.member.conn.adapters
        return adapters

    def transaction(
        self, savepoint_name: str | None = None, force_rollback: bool = False
    ) -> FencedTransaction:
        """As the driver's; a block that was not left when the connection comes back closes it."""
        work = work_of(self)
        work.pending = work.wrote = True
        block = self._lease.member.conn.transaction(savepoint_name, force_rollback)
        return work.keep(self._transaction_class(self, work, block, force_rollback))


class PsycopgConnection(BarePsycopgConnection):
    """A borrowed psycopg connection."""

    __slots__ = ()

    _transaction_class = FencedTransaction

    tpc_commit = tpc_commit


class PsycopgDriver(PostgreSQLDriver):
    """psycopg, from 3.1 on; its synchronous half."""

    name = "psycopg"
    handle_base = PsycopgConnection
    statement_methods = ("execute",)
    harmless = PostgreSQLDriver.harmless | {
        "cursor_factory", "fileno", "notifies", "pipeline", "row_factory", "server_cursor_factory",
        "xid",
    }  # fmt: skip
    bare = Bare(
        handle_base=BarePsycopgConnection,
        closed=("OperationalError", "the connection is closed"),
        environment=ENVIRONMENT,
    )

    def __init__(self, creator: Any = None) -> None:
        super().__init__(psycopg, creator)
        self.known_harmless = self.classifier.harmless
        self._prepares_as_asked = False

    def check_settings(
        self, settings: Mapping[str, Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        """Refuses `AsyncConnection`."""
        super().check_settings(settings, args, kwargs)
        self._prepares_as_asked = "prepare_threshold" in kwargs
        if inspect.iscoroutinefunction(getattr(self._creator, "connect", self._creator)):
            raise ValueError(
                "the creator makes psycopg.AsyncConnection, which this pool cannot wait for;"
                " pass psycopg.Connection.connect"
            )

    string_argument = "conninfo"

    def string_parser(self, text: str) -> Mapping[str, Any]:
        return conninfo_to_dict(text)

    # -- a connection's beginning and end ---------------------------------------------------------

    def connected(self, conn: Any) -> None:
        """Behind a pooler, psycopg prepares nothing by itself, unless `prepare_threshold` was given.

        Every client calls its first statement `_pg3_0`, and a pooler that gives their sessions away
        by turns has one run another's (before PgBouncer 1.21, or with `max_prepared_statements=0`).
        Costs a round trip if psycopg would prepare, and where there seems to be a pooler: that takes
        clients in also where it has no session for them, or the server is away.
        """
        if self._prepares_as_asked or conn.prepare_threshold is None:
            if facts.is_made_up(conn.pgconn.backend_pid):
                self.ping(conn)
            return
        # Of others that speak its language it is not known what their process ids mean.
        if conn.info.vendor == "PostgreSQL" and self.is_pooled(conn):
            log.info(
                "a pooler stands before PostgreSQL: psycopg prepares no statements by itself, unless"
                " prepare_threshold is given"
            )
            conn.prepare_threshold = None

    def run_setup(self, conn: Any, statements: Sequence[str]) -> None:
        """Outside a transaction, so that a later rollback does not undo them."""
        _outside(conn, lambda: [_run(conn, sql) for sql in statements])

    def is_alive(self, conn: Any) -> bool:
        """Open, in no transaction, and the kernel knows nothing bad. Forgets the notifications that a
        borrower got, or nobody."""
        try:
            pgconn = conn.pgconn
            if pgconn.status != pq.ConnStatus.OK or self.in_transaction(conn):
                return False
            alive = self.is_quiet(conn)
            backlog = conn.__dict__.get("_notifies_backlog")
            if backlog:
                backlog.clear()
        except Exception:
            return False
        return alive

    def takes_in_notifications(self, conn: Any) -> bool:
        notices: list[Any] = []
        pgconn = conn.pgconn
        handler, pgconn.notice_handler = pgconn.notice_handler, notices.append
        try:
            pgconn.consume_input()
            while pgconn.notifies() is not None:
                pass
        finally:
            pgconn.notice_handler = handler
        return not notices

    def ping(self, conn: Any) -> None:
        """`SELECT 1`, outside a transaction."""
        _outside(conn, lambda: _run(conn, "SELECT 1"))

    # -- transactions -----------------------------------------------------------------------------

    def in_transaction(self, conn: Any) -> bool:
        """Whether anything is begun: a transaction, one of two phases, a block of `transaction()`,
        a pipeline, or a call that is suspended with psycopg's lock."""
        pgconn, state = conn.pgconn, conn.__dict__
        return bool(
            pgconn.transaction_status != IDLE
            or pgconn.pipeline_status
            or state["_tpc"] is not None
            or state["_num_transactions"]
            or state["lock"].locked()
        )

    def has_failed(self, conn: Any) -> bool:
        """False within a block of `transaction()`, where psycopg refuses to commit."""
        return conn.pgconn.transaction_status == FAILED and not conn._num_transactions

    def rollback(self, conn: Any) -> None:
        """Also rolls back a two-phase transaction that is not prepared yet.

        Raises for one that is prepared (its name is logged), for a block of `transaction()` that was
        not left, and `InterfaceError` where `conn.rollback()` would wait for ever: within a COPY, a
        suspended call, a pipeline that psycopg does not know of.
        """
        pgconn = conn.pgconn
        busy = conn._pipeline is None and (
            pgconn.transaction_status == BUSY or pgconn.pipeline_status
        )
        if busy or conn.lock.locked():
            raise psycopg.InterfaceError("the connection is in the middle of something")
        if conn._tpc is None:
            conn.rollback()
            return
        xid, prepared = conn._tpc
        if prepared:
            log.warning(
                "a connection came back with the two-phase transaction %r prepared, neither committed"
                " nor rolled back: it stays so on the server (see pg_prepared_xacts)",
                str(xid),
            )
            raise psycopg.InterfaceError("a two-phase transaction was left prepared")
        conn.tpc_rollback()

    def begin_with(
        self, conn: Any, level: str | None, readonly: bool | None, deferrable: bool | None
    ) -> None:
        """psycopg says so in the BEGIN that it sends before the first statement."""
        vars(conn)[_ONE_TRANSACTION] = True
        if conn.autocommit:
            conn.autocommit = False
        if level is not None:
            conn.isolation_level = psycopg.IsolationLevel[level.replace(" ", "_")]
        if readonly is not None:
            conn.read_only = readonly
        if deferrable is not None:
            conn.deferrable = deferrable

    # -- a clean session --------------------------------------------------------------------------

    def snapshot(self, conn: Any) -> Attributes:
        """Everything that can be set on a connection, or registered on it."""
        state = vars(conn)
        return Attributes(
            plain={name: state[name] for name in state.keys() - _NOT_ATTRIBUTES},
            adapters=Adapters(conn.adapters),
            notice_handlers=list(conn._notice_handlers),
            notify_handlers=list(conn._notify_handlers),
            prepare_threshold=conn.prepare_threshold,
            prepared_max=conn.prepared_max,
        )

    def restore(self, conn: Any, snapshot: Attributes) -> None:
        """No round trip."""
        state = vars(conn)
        for name in state.keys() - _NOT_ATTRIBUTES - snapshot.plain.keys():
            del state[name]
        state.update(snapshot.plain)
        conn._begin_statement = b""  # made from the attributes when it is needed
        conn._adapters = snapshot.adapters.fresh()  # somebody may have kept the old one
        conn._notice_handlers[:] = snapshot.notice_handlers
        conn._notify_handlers[:] = snapshot.notify_handlers
        conn.prepare_threshold = snapshot.prepare_threshold
        conn.prepared_max = snapshot.prepared_max

    def reset_session(self, conn: Any, snapshot: Attributes) -> bool:
        """`DISCARD ALL` (https://www.postgresql.org/docs/current/sql-discard.html).

        It drops the prepared statements, so psycopg's list of them begins anew: psycopg would notice
        only sometimes, and then send a DEALLOCATE.
        """
        conn._prepared = type(conn._prepared)()
        conn.autocommit = True
        _run(conn, "DISCARD ALL")
        return True

    def may_change_session(self, sql: Any) -> bool:
        """Also reads what is composed with `psycopg.sql`, unless there is a `Literal` in it: what that
        becomes is up to a dumper."""
        if not isinstance(sql, Composable):
            return super().may_change_session(sql)
        text = _text_of(sql)
        return text is None or super().may_change_session(text)

    # -- what an error means, and for people ------------------------------------------------------

    def is_read_only_by_wish(self, conn: Any) -> bool:
        return bool(conn.read_only)

    def rows(self, conn: Any, sql: str) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = _outside(conn, lambda: _run(conn, sql))
        return found

    def is_encrypted(self, conn: Any) -> bool:
        return bool(conn.pgconn.ssl_in_use)

    # -- handles ----------------------------------------------------------------------------------

    def open_cursor(
        self,
        conn: Any,
        pooled: Callable[[type], type],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """What `conn.cursor(name, ...)` does, with a class derived from the connection's factory; None
        if that is no class, or the connection's class has a `cursor()` of its own."""
        if plain_class(type(conn)).cursor is not psycopg.Connection.cursor or conn.closed:
            return None
        wanted = _wanted(*args, **kwargs)
        factory: Any = conn.server_cursor_factory if wanted.name else conn.cursor_factory
        if not isinstance(factory, type) or not issubclass(factory, psycopg.Cursor):
            return None
        kind: Any = factory
        made: Any = pooled(_cursor_class(kind))
        cursor = made(
            conn, row_factory=wanted.row_factory or conn.row_factory, **wanted.server_side
        )
        if wanted.binary:
            cursor.format = pq.Format.BINARY
        return cursor

    def keeps_rows(self, cursor: Any) -> bool:
        """Not those of a server-side cursor, nor of a pipeline."""
        if isinstance(cursor, psycopg.ServerCursor):
            return False
        return bool(not cursor.closed and cursor.pgresult and cursor.pgresult.ntuples)

    def another_cursor(self, conn: Any, kind: type) -> Callable[[], Any]:
        def another() -> Any:
            if conn.closed:
                return conn.cursor()  # which raises
            return kind(conn, row_factory=conn.row_factory)

        return another


class _Wanted(NamedTuple):
    """The arguments of `Connection.cursor`."""

    name: str
    binary: bool
    row_factory: Any
    server_side: dict[str, Any]


def _wanted(
    name: str = "",
    *,
    binary: bool = False,
    row_factory: Any = None,
    scrollable: bool | None = None,
    withhold: bool = False,
) -> _Wanted:
    server_side = {"name": name, "scrollable": scrollable, "withhold": withhold} if name else {}
    return _Wanted(name, binary, row_factory, server_side)


# -- small acts on a connection, whatever its borrower did to it ----------------------------------


def _run(conn: Any, sql: str) -> list[tuple[Any, ...]]:
    # Not conn.execute(): its cursors may be anybody's. Never prepared: DISCARD ALL cannot be.
    cursor = psycopg.Cursor(conn, row_factory=tuple_row)
    try:
        cursor.execute(sql, prepare=False)
        return cursor.fetchall() if cursor.description else []
    finally:
        cursor.close()


def _outside(conn: Any, act: Callable[[], Any]) -> Any:
    """Act in no transaction; switching to autocommit mode costs no round trip."""
    autocommit = conn.autocommit
    conn.autocommit = True
    result = act()
    conn.autocommit = autocommit
    return result


def _text_of(composed: Any) -> str | None:
    """What is sent for it, if that is certain."""
    if isinstance(composed, Composed):
        parts = [_text_of(part) for part in composed]
        return None if None in parts else "".join(map(str, parts))
    if type(composed) not in (SQL, Identifier, Placeholder):
        return None
    try:
        return str(composed.as_string(None))
    except ValueError:  # before psycopg 3.2 an identifier needs a connection
        return None


# -- classes for borrowed cursors -----------------------------------------------------------------


@functools.lru_cache(maxsize=256)
def _cursor_class(cls: Any) -> type:
    native: Callable[[Any], Any] = psycopg.Cursor.connection.__get__
    body = cursor_body(cls, "psycopg", native)
    if hasattr(cls, "__del__"):

        def warn(self: Any) -> None:
            """Warns, as the driver's, of a cursor that was not closed; not once the lease ended it."""
            handle = getattr(self, "_handle", None)
            if handle is not None and not is_returned(handle):
                cls.__del__(self)

        body["__del__"] = warn
    return type(cls.__name__, (cls,), body)
