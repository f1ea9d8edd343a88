"""PyMySQL's ROLLBACK that nobody waits for: what becomes of the answer, and of whoever comes next.

First on a socket pair, where the test itself is the server; then on MariaDB, with a relay that holds
answers back.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import select
import socket
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import dirt_mysql
import pytest
import servers
from dirt_mysql import row, run
from relay import Relay

import dbapi_pool_mysql as plugin
from dbapi_pool import Pool
from dbapi_pool_mysql import sockets, unanswered
from dbapi_pool_mysql.unanswered import Unanswered

pytestmark = pytest.mark.skipif(not sockets.TELLS_ENDS, reason="no POLLRDHUP here")

ROLLBACK = b"\x09\0\0\0\x03ROLLBACK"
PING = b"\x01\0\0\0\x0e"
OK = b"\x07\0\0\x01\0\0\0\0\x40\0\0"  # its status has a bit by which it is known
ERROR = b"\x09\0\0\x01\xff\x1d\x04#08S01"
STATUS = 0x4000


class Far:
    """A connection of PyMySQL to the other end of a socket pair, and that end."""

    def __init__(self, **arguments: Any) -> None:
        pymysql = servers.driver_module("pymysql")
        self.driver = plugin.PyMySQLDriver(creator=pymysql)
        near, self.end = socket.socketpair()
        conn = self.driver.connection_class(defer_connect=True, ssl_disabled=True, **arguments)
        conn._sock, conn._rfile, conn._next_seq_id = near, near.makefile("rb"), 2
        conn.server_status = conn._current_timeout = 0
        near.settimeout(conn._read_timeout)
        conn._current_timeout = conn._read_timeout
        conn._closed = False
        self.conn = conn

    def heard(self) -> bytes:
        """What it was sent so far."""
        if not select.select([self.end], [], [], 0)[0]:
            return b""
        return self.end.recv(1 << 16)

    def close(self) -> None:
        self.end.close()
        self.conn._force_close()


@pytest.fixture
def far() -> Iterator[Far]:
    far = Far()
    yield far
    far.close()


def send(far: Far) -> None:
    assert far.driver.rollback_soon(far.conn)
    assert far.heard() == ROLLBACK


# -- the answer -----------------------------------------------------------------------------------


def test_it_is_sent_and_not_waited_for_and_read_when_it_is_there(far: Far) -> None:
    send(far)
    assert far.driver.is_alive(far.conn)  # nothing has come yet

    far.end.sendall(OK)
    assert far.driver.is_alive(far.conn)
    assert far.conn.server_status == STATUS
    assert far.conn._result is None
    assert far.driver.is_alive(far.conn)

    far.end.sendall(OK)  # belongs to nobody
    assert not far.driver.is_alive(far.conn)


@pytest.mark.parametrize("answer", [
    ERROR, OK + OK, OK + b"\0", OK[:-1], OK[:4], OK[:1], b"\x07\0\0\x02" + OK[4:],
    b"\x07\0\0\x01\0\0\0\x08\0\0\0",  # more results
    b"\x07\0\0\x01\0\x01\0\x00\0\0\0",  # of a statement that changed a row
    b"\x05\0\0\x01\xfe\0\0\0\0", b"HTTP/1.1 400 Bad Request\r\n",
])  # fmt: skip
def test_any_other_answer_is_death(far: Far, answer: bytes) -> None:
    send(far)
    far.end.sendall(answer)

    assert not far.driver.is_alive(far.conn)
    assert not far.driver.is_alive(far.conn)


def test_an_answer_with_a_message_is_one(far: Far) -> None:
    send(far)
    far.end.sendall(b"\x0d\0\0\x01\0\0\0\0\x40\0\0\x05hello")

    assert far.driver.is_alive(far.conn)
    assert far.conn.server_status == STATUS


@pytest.mark.parametrize("answer", [b"", OK], ids=["unanswered", "answered"])
def test_an_end_is_seen_behind_the_answer(far: Far, answer: bytes) -> None:
    send(far)
    far.end.sendall(answer)
    far.end.shutdown(socket.SHUT_WR)

    assert not far.driver.is_alive(far.conn)


def test_a_server_that_does_not_answer_for_long_is_dead(far: Far) -> None:
    send(far)
    far.conn._result.since -= 0.9 * unanswered.PATIENCE
    assert far.driver.is_alive(far.conn)

    far.conn._result.since -= 0.1 * unanswered.PATIENCE
    assert not far.driver.is_alive(far.conn)


def test_an_answer_that_took_long_is_one(far: Far) -> None:
    send(far)
    far.conn._result.since -= 60
    far.end.sendall(OK)

    assert far.driver.is_alive(far.conn)


COMMANDS: dict[str, Callable[[Any], object]] = {
    "ping": lambda conn: conn.ping(reconnect=False),
    "commit": lambda conn: conn.commit(),
    "rollback": lambda conn: conn.rollback(),
    "begin": lambda conn: conn.begin(),
    "query": lambda conn: conn.query("DO 1"),
    "cursor": lambda conn: conn.cursor().execute("DO 1"),
    "unbuffered": lambda conn: conn.query("DO 1", unbuffered=True),
    "select_db": lambda conn: conn.select_db("other"),
    "autocommit": lambda conn: conn.autocommit(True),
    "kill": lambda conn: conn.kill(1),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_whoever_comes_next_reads_it_first(far: Far, command: str) -> None:
    send(far)
    far.end.sendall(OK + b"\x07\0\0\x01\0\0\0\x02\0\0\0")

    COMMANDS[command](far.conn)

    assert far.heard()[:5].endswith((b"\x02", b"\x03", b"\x0c", b"\x0e"))  # one command
    assert far.conn.server_status == 2
    assert far.driver.is_alive(far.conn)


def test_what_comes_next_is_not_sent_before_the_answer_has_come(far: Far) -> None:
    send(far)
    thread = threading.Thread(target=far.conn.ping, kwargs={"reconnect": False})
    thread.start()
    servers.wait_for(lambda: _is_reading(thread), 5)
    assert far.heard() == b""

    far.end.sendall(OK)
    assert far.end.recv(100) == b"\x01\0\0\0\x0e"
    far.end.sendall(OK)
    thread.join()


def _is_reading(thread: threading.Thread) -> bool:
    frame = sys._current_frames().get(thread.ident or 0)
    return frame is not None and frame.f_code.co_name in ("_read_bytes", "readinto")


def test_an_error_is_told_to_who_comes_next(far: Far) -> None:
    send(far)
    far.end.sendall(ERROR)

    with pytest.raises(far.driver.module.OperationalError):  # type: ignore[union-attr]
        far.conn.ping(reconnect=False)


def test_the_time_limit_of_the_connection_holds_for_it() -> None:
    far = Far(read_timeout=0.01)
    send(far)

    with pytest.raises(far.driver.module.OperationalError):  # type: ignore[union-attr]
        far.conn.ping(reconnect=False)
    assert not far.driver.is_alive(far.conn)
    far.close()


def test_cleaning_does_not_wait_for_it(far: Far) -> None:
    send(far)
    assert far.driver.in_transaction(far.conn) is None  # and has not read anything


def test_it_looks_as_after_a_rollback_that_was_waited_for(far: Far) -> None:
    send(far)
    assert far.conn.insert_id() == 0
    assert far.conn.get_autocommit() is False
    assert far.conn.open


@pytest.mark.parametrize("answer", [b"", OK], ids=["unanswered", "answered"])
def test_closing_does_not_wait_and_leaves_nothing(far: Far, answer: bytes) -> None:
    send(far)
    far.end.sendall(answer)
    gc.disable()
    try:
        far.driver.close(far.conn)
        assert far.heard() == b"\x01\0\0\0\x01"
        gone = weakref.ref(far.conn)
        far.conn = mock.Mock()
        assert gone() is None
    finally:
        gc.enable()


def test_a_cut_ends_it(far: Far) -> None:
    send(far)
    assert far.driver.interrupt(far.conn)
    assert not far.driver.is_alive(far.conn)


# -- interrupts -----------------------------------------------------------------------------------


class Strike:
    """KeyboardInterrupt at the n-th line of this module of the plugin, or of PyMySQL."""

    def __init__(self, number: int) -> None:
        self.left = number

    def __call__(self, frame: types.FrameType, event: str, arg: object) -> Any:
        name = frame.f_globals.get("__name__")
        if name not in (unanswered.__name__, "pymysql.connections"):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            self.left -= 1
            if self.left == 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return self


@contextlib.contextmanager
def struck(number: int) -> Iterator[Strike]:
    strike = Strike(number)
    before = sys.gettrace()
    sys.settrace(strike)
    try:
        yield strike
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)


class Answering:
    """A server that says OK to every command."""

    def __init__(self, far: Far) -> None:
        self.heard = b""
        self._end = far.end
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._end.recv(1 << 16):
                self.heard += data
                while data:
                    data = data[4 + int.from_bytes(data[:3], "little") :]
                    self._end.sendall(OK)

    def join(self) -> None:
        self._thread.join()


@pytest.mark.parametrize("what", ["send", "look", "use"])
def test_interrupted_anywhere_it_is_right_or_dead(what: str) -> None:
    for number in itertools.count(1):
        far = Far()
        server = Answering(far)
        if what != "send":
            far.driver.rollback_soon(far.conn)
            select.select([far.conn._sock], [], [])
        with struck(number) as strike:
            if what == "send":
                unanswered.send(far.conn)
            elif what == "look":
                unanswered.is_alive(far.conn)
            else:
                far.conn.ping(reconnect=False)
        # Once the answer has been read, it is the driver's own ping that is interrupted.
        pings = what == "use" and type(far.conn._result) is not Unanswered
        if not pings and far.driver.is_alive(far.conn):
            # Struck while it reads, PyMySQL closes the connection at once or at the next command.
            with contextlib.suppress(far.conn.Error) if what == "use" else contextlib.nullcontext():
                far.conn.ping(reconnect=False)
            assert server.heard in (ROLLBACK, ROLLBACK + PING, PING)
            assert far.driver.is_alive(far.conn) or (what == "use" and not far.conn.open)
        far.conn._force_close()
        server.join()
        far.end.close()
        if strike.left > 0:
            return


# -- where it is not done ---------------------------------------------------------------------------


def test_it_is_waited_for_in_autocommit_mode(far: Far) -> None:
    far.conn.server_status = 2
    assert not far.driver.rollback_soon(far.conn)
    assert far.heard() == b""


@pytest.mark.parametrize(
    "name", ["_execute_command", "_read_ok_packet", "_write_bytes", "rollback"]
)
def test_a_class_with_ways_of_its_own_is_left_to_them(name: str) -> None:
    pymysql = servers.driver_module("pymysql")
    own = pymysql.connections.Connection
    mine = type("Mine", (own,), {name: lambda self: None})

    assert unanswered.can_defer(own, own)
    assert unanswered.can_defer(type("Mine", (own,), {}), own)
    assert not unanswered.can_defer(mine, own)


def test_a_pymysql_that_does_not_ask_is_left_alone() -> None:
    class Another:
        def _execute_command(self, command: int, sql: bytes) -> None:
            self._result = None

    assert not unanswered.can_defer(Another, Another)
    assert not unanswered.can_defer(object, object)


def test_without_poll_it_is_waited_for(far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "TELLS_ENDS", False)
    assert not far.driver.rollback_soon(far.conn)
    far.end.sendall(b"?")
    assert not far.driver.is_alive(far.conn)


# -- on a server ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(mariadb_server: servers.Server) -> servers.Server:
    dirt_mysql.prepare(mariadb_server)
    return mariadb_server


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def tls(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def relay(server: servers.Server) -> Iterator[Relay]:
    with Relay(server.host, server.port) as relay:
        yield relay


MakePool = Callable[..., Pool]


@pytest.fixture
def make_pool(server: servers.Server) -> Iterator[MakePool]:
    pools: list[Pool] = []

    def make(tls: bool = False, **settings: Any) -> Pool:
        arguments = {**server.arguments("pymysql", tls), "max_size": 1, **settings}
        if tls and "host" in settings:
            arguments["ssl_verify_identity"] = False
        pools.append(Pool(servers.driver_module("pymysql"), **arguments))
        return pools[-1]

    yield make
    for pool in pools:
        assert pool.close()


def read(pool: Pool, *statements: str) -> None:
    """A lease that only reads, and leaves its transaction open."""
    conn = pool.connection()
    run(conn, *(statements or ("SELECT * FROM t",)))
    conn.close()


def warm(pool: Pool) -> None:
    """Open a connection, with nothing outstanding."""
    with pool.connection() as conn:
        run(conn, "SELECT * FROM t")


def asks(text: bytes) -> Callable[[bytes], bool]:
    return lambda data: text in data


@contextlib.contextmanager
def sent_soon(pool: Pool) -> Iterator[list[bool]]:
    """Whether each rollback was sent without waiting."""
    kinds: list[bool] = []
    driver = pool.driver
    soon, waited = driver.rollback_soon, driver.rollback

    def rollback_soon(conn: Any) -> bool:
        done = soon(conn)
        if done:
            kinds.append(True)
        return done

    def rollback(conn: Any) -> None:
        kinds.append(False)
        waited(conn)

    with mock.patch.multiple(driver, rollback_soon=rollback_soon, rollback=rollback):
        yield kinds


def test_close_does_not_wait_and_the_next_borrower_does(make_pool: MakePool, relay: Relay) -> None:
    pool = make_pool(host=relay.host, port=relay.port)
    warm(pool)
    relay.hold_when = asks(b"ROLLBACK")
    read(pool)  # returns, though no answer comes

    found: list[Any] = []

    def use() -> None:
        with pool.connection() as conn:
            found.append(row(conn, "SELECT 7"))

    thread = threading.Thread(target=use)
    thread.start()
    servers.wait_for(lambda: _is_reading(thread), 5)
    assert not any(b"SELECT 7" in data for data in relay.sent)
    relay.release()
    thread.join()

    assert found == [(7,)]
    assert pool.stats().opened == 1


def test_a_lease_of_reads_waits_for_no_rollback(
    make_pool: MakePool, server: servers.Server, tls: bool
) -> None:
    pool = make_pool(tls)
    with sent_soon(pool) as soon:
        for number in range(50):
            server.query(f"UPDATE {server.database}.t SET v = {number} WHERE id = 2")
            conn = pool.connection()
            assert row(conn, "SELECT v FROM t WHERE id = 2") == (number,)
            conn.close()
    assert soon == [True] * 50
    assert pool.stats().opened == 1
    servers.wait_for(lambda: server.query(TRANSACTIONS)[0][0] == 0, 5)


TRANSACTIONS = "SELECT COUNT(*) FROM information_schema.innodb_trx"

WAITED = [
    ("UPDATE t SET v = v WHERE id = 1",),
    ("SELECT * FROM t", "UPDATE t SET v = v WHERE id = 1", "SELECT * FROM t"),
    ("SELECT * FROM t WHERE id = 1 FOR UPDATE",),
    ("SELECT * FROM t WHERE id = 1 LOCK IN SHARE MODE",),
    ("SELECT 1.FOR UPDATE",),
    ("INSERT INTO u VALUES (77)",),
    ("REPLACE INTO u VALUES (77)",),
    ("DELETE FROM u WHERE id = 77",),
    ("SELECT v INTO @v FROM t WHERE id = 1",),
    ("SELECT GET_LOCK('unanswered', 0)",),
    ("START TRANSACTION", "SELECT * FROM t"),
    ("SAVEPOINT s", "SELECT * FROM t"),
    ("SET @a = 1",),
]


@pytest.mark.parametrize("statements", WAITED, ids=" ".join)
def test_what_may_hold_a_lock_waits(make_pool: MakePool, statements: tuple[str, ...]) -> None:
    pool = make_pool()
    for _ in range(2):  # the second time its texts are known
        with sent_soon(pool) as soon:
            read(pool, *statements)
        assert soon == [False]


@pytest.mark.parametrize("statements", [
    ("SELECT * FROM t",), ("SELECT * FROM t", "SELECT * FROM u"), ("SELECT 1", "SELECT * FROM t"),
    ("(SELECT 1) UNION SELECT id FROM t",), ("WITH x AS (SELECT 1) SELECT * FROM x",),
    ("SELECT NOW(), `for`, 'for' FROM (SELECT 1 `for`) x",), ("SELECT (SELECT MAX(id) FROM t)",),
])  # fmt: skip
def test_what_only_reads_does_not(make_pool: MakePool, statements: tuple[str, ...]) -> None:
    pool = make_pool()
    for _ in range(3):
        with sent_soon(pool) as soon:
            read(pool, *statements)
    assert soon == [True]


# In none of these is a table opened. The last word on that has the server.
INERT = [
    "SELECT 1", " select 1 ", "(SELECT 1)", "SELECT 1 UNION SELECT 2", "SELECT 'from t'",
    "SELECT @@version",
    "SELECT `x` IN (1, 2), CAST(1 AS CHAR) AND (1 OR 0), IF(1, 2, 3) AS `from`",
    "SELECT COALESCE(NULL, 1), CONCAT('a', 'b'), CONNECTION_ID(), PI(), RAND(), SLEEP(0), UUID()",
    "SELECT CURDATE(), CURRENT_DATE(), CURRENT_TIME(), CURRENT_TIMESTAMP(), CURTIME(), NOW()",
    "SELECT CURRENT_ROLE(), CURRENT_USER(), SESSION_USER(), SYSTEM_USER(), USER(), VERSION()",
    "SELECT DATABASE(), SCHEMA(), FOUND_ROWS(), LAST_INSERT_ID(), ROW_COUNT(), UNIX_TIMESTAMP()",
    "SELECT LOCALTIME(), LOCALTIMESTAMP(), SYSDATE(), UTC_DATE(), UTC_TIME(), UTC_TIMESTAMP()",
]  # fmt: skip


@pytest.mark.parametrize("sql", INERT)
def test_where_no_table_is_opened_there_is_nothing_to_roll_back(
    make_pool: MakePool, sql: str
) -> None:
    sql = sql.replace("`x`", "1")
    pool = make_pool()
    for _ in range(2):
        with sent_soon(pool) as soon:
            conn = pool.connection()
            run(conn, sql)
            # Which it refuses while a transaction is open (error 1568).
            raw = pool._ledger.places[0].ref().member.conn
            raw.query("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
            raw.query("SELECT @@in_transaction")
            assert raw._result.rows == ((0,),)
            conn.close()
        assert soon == []
    raw.query("SELECT * FROM t")
    raw.query("SELECT @@in_transaction")
    assert raw._result.rows == ((1,),)  # else the above would say nothing
    raw.rollback()


@pytest.mark.parametrize("sql", [
    "SELECT * FROM t", "TABLE t", "SELECT (SELECT 1 FROM t)", "SELECT 1 FOR UPDATE", "SELECT f(1)",
    "SELECT LASTVAL(s)", "SELECT CONVERT_TZ(NOW(), 'UTC', 'MET')", "SELECT 1 INTO @a",
    "SELECT 1.FROM t",
    "SELECT NEXTVAL(s)", "SELECT PREVIOUS VALUE FOR s", "SELECT ST_SRID(1, 2)", "SELECT `f`(1)",
    "SELECT 1; SELECT 2", "DO 1", "SHOW TABLES", "VALUES (1)", "WITH x AS (SELECT 1) SELECT 1",
    "SELECT 1 /*! FROM t */", "EXPLAIN SELECT 1", "SELECT 1e1FROM t", "SELECT db.f(1)",
])  # fmt: skip
def test_in_doubt_there_is(sql: str) -> None:
    driver = plugin.PyMySQLDriver(creator=servers.driver_module("pymysql"))
    driver.may_change_session(sql)
    assert sql not in driver.known_inert


def test_a_transaction_that_is_open_stays_so(make_pool: MakePool) -> None:
    pool = make_pool()
    with sent_soon(pool) as soon:
        read(pool, "SELECT * FROM t", "SELECT 1")
        read(pool, "UPDATE t SET v = v WHERE id = 1", "SELECT 1")
    assert soon == [True, False]


def test_a_block_that_begins_nothing_commits_nothing(make_pool: MakePool, relay: Relay) -> None:
    pool = make_pool(host=relay.host, port=relay.port)
    for _ in range(2):
        before = relay.round_trips
        with pool.connection() as conn:
            run(conn, "SELECT 1")
    assert relay.round_trips - before == 1


OTHERS: dict[str, Callable[[Pool, Any], object]] = {
    "begin": lambda pool, conn: conn.begin(),
    "query": lambda pool, conn: conn.query("SELECT 1"),
    "driver_connection": lambda pool, conn: conn.driver_connection,
    "cursorclass": lambda pool, conn: setattr(conn, "cursorclass", _dict_cursor()),
    "bytes": lambda pool, conn: conn.cursor().execute(b"SELECT 1"),
    "executemany": lambda pool, conn: conn.cursor().executemany("SELECT %s", [(1,), (2,)]),
}


def _dict_cursor() -> Any:
    return servers.driver_module("pymysql").cursors.DictCursor


@pytest.mark.parametrize("other", sorted(OTHERS.keys() - {"executemany"}))
def test_what_the_pool_does_not_know_waits(make_pool: MakePool, other: str) -> None:
    pool = make_pool()
    with sent_soon(pool) as soon:
        conn = pool.connection()
        run(conn, "SELECT * FROM t")
        OTHERS[other](pool, conn)
        conn.close()
    assert soon == [False]


def test_after_a_commit_it_is_known_again(make_pool: MakePool) -> None:
    pool = make_pool()
    with sent_soon(pool) as soon:
        conn = pool.connection()
        run(conn, "UPDATE t SET v = v WHERE id = 1")
        conn.commit()
        run(conn, "SELECT * FROM t")
        conn.close()
    assert soon == [True]


def test_a_transaction_with_an_isolation_of_its_own_waits(make_pool: MakePool) -> None:
    pool = make_pool()
    with sent_soon(pool) as soon, contextlib.suppress(ZeroDivisionError):
        with pool.transaction(isolation="SERIALIZABLE") as conn:
            run(conn, "SELECT * FROM t")
            raise ZeroDivisionError
    assert True not in soon


@pytest.mark.parametrize("reset", ["always", "transaction", "none"])
def test_with_each_kind_of_reset(make_pool: MakePool, reset: Any) -> None:
    pool = make_pool(reset=reset)
    with sent_soon(pool) as soon:
        read(pool)
        read(pool)
    assert soon == {"always": [False] * 2, "transaction": [True] * 2, "none": []}[reset]
    assert pool.stats().opened == 1


@pytest.mark.parametrize("act", ["drain", "close"])
def test_the_pool_ends_with_an_answer_outstanding(
    make_pool: MakePool, server: servers.Server, relay: Relay, act: str
) -> None:
    before = server.sessions()
    pool = make_pool(host=relay.host, port=relay.port)
    warm(pool)
    relay.hold_when = asks(b"ROLLBACK")
    read(pool)
    if act == "drain":
        pool.drain()
    else:
        assert pool.close()
    servers.wait_for(lambda: server.sessions() == before, 5)


def test_a_ping_reads_the_answer_first(make_pool: MakePool, tls: bool) -> None:
    pool = make_pool(tls, ping_after=0)
    for _ in range(5):
        read(pool)
        pool._ledger.idle[-1].member.due = 0  # now
    assert pool.stats().opened == 1


def test_who_takes_the_drivers_own_connection_has_it_whole(
    make_pool: MakePool, relay: Relay
) -> None:
    pool = make_pool(host=relay.host, port=relay.port)
    warm(pool)
    relay.hold_when = asks(b"ROLLBACK")
    read(pool)
    conn = pool.connection()
    raw = conn.driver_connection
    relay.release()
    raw.query("SELECT 5")
    assert raw._result.rows == ((5,),)
    conn.close()
    conn = pool.connection()
    raw = conn.detach()
    assert row(raw, "SELECT 6") == (6,)
    raw.close()


def test_a_lease_that_does_nothing_leaves_the_answer_alone(
    make_pool: MakePool, relay: Relay
) -> None:
    pool = make_pool(host=relay.host, port=relay.port)
    warm(pool)
    relay.hold_when = asks(b"ROLLBACK")
    read(pool)
    for touch in (lambda conn: None, lambda conn: conn.cursor().close()):
        conn = pool.connection()
        touch(conn)
        conn.close()
    relay.release()
    read(pool)
    assert pool.stats().opened == 1


def test_sessions_killed_with_the_answer_outstanding_cost_nobody_an_error(
    make_pool: MakePool, server: servers.Server, tls: bool
) -> None:
    pool = make_pool(tls, ping_after=None)
    for number in range(30):
        read(pool)
        server.kill_sessions()
        assert pool.stats().closed.get("dead", 0) == number
    read(pool)
    assert pool.stats().closed == {"dead": 30}


def test_a_server_that_stopped_answering_is_not_lent(
    own_mariadb: servers.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    dirt_mysql.prepare(own_mariadb)
    pymysql = servers.driver_module("pymysql")
    with Pool(pymysql, **own_mariadb.arguments("pymysql"), max_size=1, ping_after=None) as pool:
        conn = pool.connection()
        run(conn, "SELECT * FROM t")
        own_mariadb.pause()
        conn.close()
        monkeypatch.setattr(unanswered, "PATIENCE", 0.0)
        with pytest.raises(pymysql.OperationalError):  # a new one cannot be had
            pool.connection(timeout=0.05)
        own_mariadb.resume()
        monkeypatch.undo()
        read(pool)
        assert pool.stats().closed == {"dead": 1}


def test_an_interrupt_behind_the_send_costs_the_connection(make_pool: MakePool) -> None:
    pool = make_pool()
    read(pool)
    conn = pool.connection()
    run(conn, "SELECT * FROM t")
    raw = pool._ledger.places[0].member.conn
    native = type(raw)._write_bytes

    def write(self: Any, data: bytes) -> None:
        native(self, data)
        raise KeyboardInterrupt

    with mock.patch.object(unanswered, "can_defer", return_value=True):
        with mock.patch.object(type(raw), "_write_bytes", write), pytest.raises(KeyboardInterrupt):
            conn.close()
    read(pool)
    assert pool.stats().closed == {"interrupted": 1}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_leaves_the_parents_answer_alone(make_pool: MakePool, relay: Relay) -> None:
    pool = make_pool(host=relay.host, port=relay.port)
    warm(pool)
    relay.hold_when = asks(b"ROLLBACK")
    read(pool)
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(BaseException):
            gc.collect()
            assert pool.stats().size == 0
            code = 0
        os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    relay.release()
    conn = pool.connection()
    assert row(conn, "SELECT 8") == (8,)
    conn.close()
    assert pool.stats().opened == 1
