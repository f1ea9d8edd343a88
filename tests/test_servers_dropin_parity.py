"""The drop-ins beside the classes that they stand in for: the same calls, at random, on real servers.

After each call outcomes are compared, and what the tables hold; `DIFFERENCES` are all that may differ.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import servers
from evidence import depth
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from machines import examples, run
from parity import Outcome, Pair, Parity, outcome

from dbapi_pool.dropin import mysql_connector_pooling, psycopg2_pool

EXAMPLES = examples(depth(40, 400))
STEPS = 30
PATIENCE = 30.0  # seconds; what is waited for comes at once
WHICH = st.integers(0, 7)


class Block(Exception):
    """Ends a `with` block."""


def insert(conn: Any, table: str, number: int) -> Any:
    cursor = conn.cursor()
    cursor.execute(f"INSERT INTO {table} VALUES (%s)", (number,))
    return cursor.rowcount


class Machine(RuleBasedStateMachine):
    """What both have in common: pairs of connections, and two tables that must stay alike."""

    server: servers.Server
    module: Any
    differences: dict[str, str]
    families: tuple[type[Exception], ...]
    totals: Counter[str]

    def __init__(self) -> None:
        super().__init__()
        self.parity = Parity(self.differences, self.families)
        self.lent: list[Pair] = []
        self.past: list[Pair] = []
        self.numbers = 0
        self.watcher = self.module.connect(**self.arguments())
        self.watcher.autocommit = True
        cursor = self.watcher.cursor()
        for table in ("theirs", "ours"):
            cursor.execute(f"DROP TABLE IF EXISTS {table}")
            cursor.execute(f"CREATE TABLE {table} (n INTEGER)")
        cursor.close()

    def arguments(self) -> dict[str, Any]:
        return self.server.arguments(self.module.__name__)

    def pick(self, which: int) -> Pair:
        return self.lent[which % len(self.lent)]

    def do(self, pair: Pair, acts: list[str]) -> None:
        """One after the other, as long as it is lent."""
        for act in acts:
            if pair in self.lent:
                getattr(self, act)(pair)

    def both(
        self, pair: Pair, act: Callable[[Any, str], Any], what: str, difference: str | None = None
    ) -> tuple[Outcome, Outcome]:
        """The same on a connection of each; `act` gets it, and the name of its table."""
        theirs = outcome(lambda: act(pair.theirs, "theirs"))
        ours = outcome(lambda: act(pair.ours, "ours"))
        self.parity.same(theirs, ours, what, difference)
        return theirs, ours

    def next_number(self) -> int:
        self.numbers += 1
        return self.numbers

    @invariant()
    def the_tables_are_alike(self) -> None:
        if not hasattr(self, "watcher"):
            return
        cursor = self.watcher.cursor()
        found = {}
        for table in ("theirs", "ours"):
            cursor.execute(f"SELECT n FROM {table} ORDER BY n")
            found[table] = cursor.fetchall()
        cursor.close()
        assert found["theirs"] == found["ours"]

    def teardown(self) -> None:
        self.end()
        self.watcher.close()
        self.totals["calls"] += self.parity.calls
        self.totals.update(self.parity.seen)

    def end(self) -> None:
        raise NotImplementedError


# -- psycopg2.pool --------------------------------------------------------------------------------


OF_PSYCOPG2 = {
    "commit of a failed transaction": "psycopg2 says nothing, and commits nothing; ours raises",
    "room": "a connection that was closed, and not put back, keeps its place in psycopg2.pool",
    "closed key": "psycopg2.pool gives the closed connection of a key again; ours gives a good one",
    "by key alone": "psycopg2.pool fails on None; ours puts back the connection of the key",
    "another key": "psycopg2.pool forgets the connection that has this key; ours raises",
    "late": "psycopg2.pool takes it from its next borrower; ours raises",
    "late use": "psycopg2.pool's is its next borrower's; ours raises InterfaceError",
    "session": "psycopg2.pool hands on what was set (autocommit); ours is as new",
    "surplus in its block": "psycopg2's block ends with an error if putconn closed the connection",
    "refill": "psycopg2.pool lets the idle become fewer than minconn; ours opens others",
}

KEYS = st.sampled_from((None, None, None, "a", "b", "", 0, ("x", 2)))
ACTS = st.lists(
    st.sampled_from((
        "insert", "insert", "insert", "commit", "rollback", "fail", "autocommit", "no_autocommit",
        "block", "block_that_fails", "block_that_puts_back", "close", "lose",
    )),
    min_size=1, max_size=5,
)  # fmt: skip
ODD = (
    "putconn_by_key", "putconn_under_another_key", "putconn_of_something_else", "putconn_again",
    "use_after_putconn", "closeall",
)  # fmt: skip


class Psycopg2Machine(Machine):
    """`psycopg2.pool.ThreadedConnectionPool`, and ours."""

    differences = OF_PSYCOPG2
    pool_module: Any

    @initialize(minconn=st.integers(0, 3), more=st.integers(0, 2))
    def open(self, minconn: int, more: int) -> None:
        sizes = minconn, max(1, minconn + more)
        self.minconn = minconn
        self.theirs = self.pool_module.ThreadedConnectionPool(*sizes, **self.arguments())
        self.ours = psycopg2_pool.ThreadedConnectionPool(*sizes, **self.arguments())
        for name in ("minconn", "maxconn"):
            assert getattr(self.theirs, name) == getattr(self.ours, name)

    def teardown(self) -> None:
        for pair in (*self.lent, *self.past):
            pair.theirs.close()
        super().teardown()

    def end(self) -> None:
        for name in ("theirs", "ours"):
            pool = getattr(self, name, None)
            if pool is not None and not pool.closed:
                pool.closeall()

    # -- the pool ---------------------------------------------------------------------------------

    @rule(key=KEYS)
    def getconn(self, key: Any) -> None:
        held = next((pair for pair in self.lent if key is not None and pair.key == key), None)
        if held is not None and held.closed and not self.theirs.closed:
            self.replace(held)
            return
        theirs, ours = (
            outcome(lambda: self.theirs.getconn(key)),
            outcome(lambda: self.ours.getconn(key)),
        )
        if theirs.error and not ours.error and any(pair.closed for pair in self.lent):
            self.parity.same(theirs, ours, "getconn", "room")
            self.ours.putconn(ours.value)
            return
        values = [
            Outcome(held is not None and one.value is getattr(held, side), one.error)
            for one, side in ((theirs, "theirs"), (ours, "ours"))
        ]
        self.parity.same(*values, f"getconn({key!r})")
        if not theirs.error and not values[0].value:
            theirs.value.autocommit = False
            self.lent.append(Pair(theirs.value, ours.value, key))

    @rule(key=KEYS, acts=ACTS, with_key=st.booleans(), close=st.booleans())
    def borrow_use_and_put_back(
        self, key: Any, acts: list[str], with_key: bool, close: bool
    ) -> None:
        before = len(self.lent)
        self.getconn(key)
        if len(self.lent) > before:
            self.do(self.lent[-1], acts)
        if len(self.lent) > before:
            self.putconn(-1, with_key, close)

    @precondition(lambda self: self.lent)
    @rule(which=WHICH, acts=ACTS)
    def use(self, which: int, acts: list[str]) -> None:
        self.do(self.pick(which), acts)

    @rule(act=st.sampled_from(ODD), which=WHICH)
    def something_odd(self, act: str, which: int) -> None:
        getattr(self, act)(which)

    def replace(self, held: Pair) -> None:
        """A key whose connection was closed: theirs gives that one, ours another."""
        assert self.theirs.getconn(held.key) is held.theirs
        again = outcome(lambda: self.ours.getconn(held.key))
        assert again.error is None or self.parity.family(again.error) is self.families[0]
        if not again.error:
            assert again.value is not held.ours
            self.ours.putconn(again.value, held.key)
        self.parity.note("closed key")

    @precondition(lambda self: self.lent)
    @rule(which=WHICH, with_key=st.booleans(), close=st.booleans())
    def putconn(self, which: int, with_key: bool, close: bool) -> None:
        pair = self.pick(which)
        key = pair.key if with_key else None
        theirs = outcome(lambda: self.theirs.putconn(pair.theirs, key, close))
        ours = outcome(lambda: self.ours.putconn(pair.ours, key, close))
        self.parity.same(theirs, ours, f"putconn(conn, {key!r}, {close})")
        if not theirs.error:
            self.retire(pair)

    def retire(self, pair: Pair) -> None:
        self.lent.remove(pair)
        self.past.append(pair)
        self.settle(pair)

    def settle(self, pair: Pair) -> None:
        """What theirs leaves set, is taken back here, so that both go on from the same."""
        if not pair.theirs.closed and pair.theirs.autocommit:
            pair.theirs.autocommit = False
            self.parity.note("session")

    def putconn_by_key(self, which: int) -> None:
        keyed = [pair for pair in self.lent if pair.key is not None and not pair.closed]
        if not keyed or self.ours.closed:
            return
        pair = keyed[which % len(keyed)]
        self.theirs.putconn(pair.theirs, pair.key)
        self.ours.putconn(key=pair.key)
        self.parity.note("by key alone")
        self.retire(pair)

    def putconn_under_another_key(self, which: int) -> None:
        if not self.lent:
            return
        pair = self.pick(which)
        done = outcome(lambda: self.ours.putconn(pair.ours, "not this one"))
        assert self.parity.family(done.error) is self.families[0]
        self.parity.note("another key")

    def putconn_of_something_else(self, which: int) -> None:
        thing = (None, object(), 7)[which % 3]
        self.parity.same(
            outcome(lambda: self.theirs.putconn(thing)),
            outcome(lambda: self.ours.putconn(thing)),
            f"putconn({thing!r})",
        )

    def putconn_again(self, which: int) -> None:
        if not self.past:
            return
        pair = self.past[which % len(self.past)]
        ours = outcome(lambda: self.ours.putconn(pair.ours))
        if any(other.theirs is pair.theirs for other in self.lent) and not self.theirs.closed:
            assert self.parity.family(ours.error) is self.families[0]
            self.parity.note("late")
        else:
            theirs = outcome(lambda: self.theirs.putconn(pair.theirs))
            self.parity.same(theirs, ours, "putconn again")

    def use_after_putconn(self, which: int) -> None:
        if not self.past:
            return
        pair = self.past[which % len(self.past)]
        done = outcome(lambda: insert(pair.ours, "ours", 0))
        assert issubclass(done.error or object, self.module.InterfaceError)
        self.parity.note("late use")

    def closeall(self, which: int) -> None:
        if which or self.numbers < 5:  # not often
            return
        self.parity.same(outcome(self.theirs.closeall), outcome(self.ours.closeall), "closeall()")
        assert self.theirs.closed == self.ours.closed is True
        for pair in self.lent:
            pair.closed = True

    # -- a connection -----------------------------------------------------------------------------

    def insert(self, pair: Pair) -> None:
        number = self.next_number()
        self.both(pair, lambda conn, table: insert(conn, table, number), "INSERT")

    def fail(self, pair: Pair) -> None:
        self.both(pair, lambda conn, table: conn.cursor().execute("SELECT nonsense"), "fail")

    def has_failed(self, pair: Pair) -> bool:
        return bool(not pair.theirs.closed and pair.theirs.info.transaction_status == 3)

    def commit(self, pair: Pair) -> None:
        why = "commit of a failed transaction" if self.has_failed(pair) else None
        self.both(pair, lambda conn, table: conn.commit(), "commit()", why)

    def rollback(self, pair: Pair) -> None:
        self.both(pair, lambda conn, table: conn.rollback(), "rollback()")

    def autocommit(self, pair: Pair) -> None:
        self.both(pair, lambda conn, table: setattr(conn, "autocommit", True), "autocommit")

    def no_autocommit(self, pair: Pair) -> None:
        self.both(pair, lambda conn, table: setattr(conn, "autocommit", False), "autocommit")

    def close(self, pair: Pair) -> None:
        self.both(pair, lambda conn, table: conn.close(), "close()")
        pair.closed = True

    def block(self, pair: Pair) -> None:
        self.run_block(pair, "well")

    def block_that_fails(self, pair: Pair) -> None:
        self.run_block(pair, "with an error")

    def block_that_puts_back(self, pair: Pair) -> None:
        self.run_block(pair, "put back")

    def run_block(self, pair: Pair, ends: str) -> None:
        number = self.next_number()
        failed = self.has_failed(pair)
        puts = ends == "put back" and not (pair.theirs.closed or failed or self.theirs.closed)

        def use(conn: Any, table: str) -> None:
            with conn:
                insert(conn, table, number)
                if ends == "with an error":
                    raise Block
                if puts:
                    conn.commit()
                    getattr(self, table).putconn(conn)

        surplus = puts and len(self.theirs._pool) >= self.minconn
        why = "surplus in its block" if surplus else None
        self.both(pair, use, f"a block that ends {ends}", why)
        if puts:
            self.retire(pair)

    def lose(self, pair: Pair) -> None:
        """The server ends its session; the next statement tells."""
        if pair.closed or pair.lost:
            return
        for conn in (pair.theirs, pair.ours):
            self.server.kill_session(conn.info.backend_pid)
        self.both(pair, lambda conn, table: conn.cursor().execute("SELECT 1"), "after its end")
        pair.lost = True

    @invariant()
    def they_are_in_the_same_state(self) -> None:
        for pair in self.lent:
            theirs, ours = pair.theirs, pair.ours
            assert bool(theirs.closed) == bool(ours.closed)
            if not theirs.closed:
                assert theirs.info.transaction_status == ours.info.transaction_status
                assert theirs.autocommit == ours.autocommit

    @invariant()
    def the_same_is_idle(self) -> None:
        if not hasattr(self, "ours") or self.ours.closed:
            return
        lent, idle = sum(not pair.closed for pair in self.lent), len(self.theirs._pool)
        # Until what is done in the background is done.
        servers.wait_for(lambda: self.are_alike(lent, idle), PATIENCE, lambda: f"{lent, idle}")

    def are_alike(self, lent: int, idle: int) -> bool:
        """Whether ours has that many lent and idle; more idle ones if minconn asks for them."""
        stats = self.ours.pool.stats()
        if stats.opening or stats.checking or stats.cleaning or stats.closing:
            return False
        if stats.in_use == lent and idle < stats.idle <= self.minconn:
            self.parity.note("refill")
            return True
        return bool((stats.in_use, stats.idle) == (lent, idle))


@pytest.fixture
def psycopg2(postgresql: servers.Server) -> Any:
    return servers.driver_module("psycopg2")


def test_ours_does_what_psycopg2_pool_does(postgresql: servers.Server, psycopg2: Any) -> None:
    theirs = pytest.importorskip("psycopg2.pool")
    totals: Counter[str] = Counter()

    class Configured(Psycopg2Machine):
        server, module, pool_module = postgresql, psycopg2, theirs
        families = (theirs.PoolError, psycopg2.InterfaceError, psycopg2.OperationalError)

    Configured.totals = totals
    run(Configured, EXAMPLES, STEPS)
    print(dict(totals))
    assert totals["calls"] > EXAMPLES * 5


# -- mysql.connector.pooling ----------------------------------------------------------------------


OF_MYSQL = {
    "close of a lost one": "mysql.connector raises from close(), and keeps it; ours replaces it",
    "lost": "mysql.connector pings for each cursor, so that tells; with ours the statement tells",
    "again": "mysql.connector's second close() raises, or adds a connection; ours does nothing",
    "late use": "mysql.connector's is a None by then: AttributeError; ours raises InterfaceError",
    "added beside lent ones": "mysql.connector counts only idle ones, and is full when they return",
    "wrapper": "mysql.connector's wrapper keeps what is set on it; ours reaches the connection",
}


ACTS_OF_MYSQL = st.lists(
    st.sampled_from((
        "insert", "insert", "insert", "commit", "rollback", "is_connected", "fail", "config",
        "its_pools_name", "set_an_attribute", "lose",
    )),
    min_size=1, max_size=5,
)  # fmt: skip
ENDS = st.sampled_from(("close", "block", "commit and close", "commit and block"))
ODD_OF_MYSQL = (
    "add_connection",
    "set_config",
    "the_server_ends_all_idle_sessions",
    "use_after_close",
)


class MySQLMachine(Machine):
    """`mysql.connector.pooling.MySQLConnectionPool`, and ours."""

    differences = OF_MYSQL
    pool_module: Any

    @initialize(size=st.integers(1, 3), reset=st.sampled_from((True, True, False)))
    def open(self, size: int, reset: bool) -> None:
        arguments = {"pool_size": size, "pool_name": "parity", "pool_reset_session": reset}
        self.reset = reset
        self.theirs = self.pool_module.MySQLConnectionPool(**arguments, **self.arguments())
        self.ours = mysql_connector_pooling.MySQLConnectionPool(**arguments, **self.arguments())
        for name in ("pool_size", "pool_name", "reset_session"):
            assert getattr(self.theirs, name) == getattr(self.ours, name)

    def end(self) -> None:
        for pair in self.lent:
            for conn in (pair.theirs, pair.ours):
                outcome(conn.rollback)
                outcome(conn.close)
        for name in ("theirs", "ours"):
            if hasattr(self, name):
                getattr(self, name)._remove_connections()

    # -- the pool ---------------------------------------------------------------------------------

    @rule()
    def get_connection(self) -> None:
        theirs, ours = outcome(self.theirs.get_connection), outcome(self.ours.get_connection)
        self.parity.same(*(Outcome(None, one.error) for one in (theirs, ours)), "get_connection()")
        if not theirs.error:
            self.lent.append(Pair(theirs.value, ours.value))

    @rule(acts=ACTS_OF_MYSQL, how=ENDS)
    def borrow_use_and_close(self, acts: list[str], how: str) -> None:
        before = len(self.lent)
        self.get_connection()
        if len(self.lent) > before:
            self.do(self.lent[-1], acts)
            self.close(-1, how)

    @precondition(lambda self: self.lent)
    @rule(which=WHICH, acts=ACTS_OF_MYSQL)
    def use(self, which: int, acts: list[str]) -> None:
        self.do(self.pick(which), acts)

    @rule(act=st.sampled_from(ODD_OF_MYSQL), which=WHICH)
    def something_odd(self, act: str, which: int) -> None:
        getattr(self, act)(which)

    def add_connection(self, which: int) -> None:
        if self.lent:
            done = outcome(self.ours.add_connection)
            assert self.parity.family(done.error) is self.families[0]
            self.parity.note("added beside lent ones")
        else:
            # Ours may be replacing some in the background.
            full = self.ours.pool_size
            servers.wait_for(lambda: self.ours.pool.stats().size == full, PATIENCE)
            self.parity.same(
                outcome(self.theirs.add_connection),
                outcome(self.ours.add_connection),
                "add_connection()",
            )

    def set_config(self, which: int) -> None:
        valid = bool(which % 2)
        if self.lent and valid:
            return
        config = {**self.arguments(), **({} if valid else {"colour": "blue"})}
        self.parity.same(
            outcome(lambda: self.theirs.set_config(**config)),
            outcome(lambda: self.ours.set_config(**config)),
            "set_config()",
        )

    def the_server_ends_all_idle_sessions(self, which: int) -> None:
        """Both pools notice, and nobody gets an error."""
        if not self.lent:
            self.watcher.close()
            self.server.kill_sessions()
            self.watcher = self.module.connect(**self.arguments(), autocommit=True)

    # -- a connection -----------------------------------------------------------------------------

    @precondition(lambda self: self.lent)
    @rule(which=WHICH, how=ENDS)
    def close(self, which: int, how: str) -> None:
        pair = self.pick(which)
        if how.startswith("commit") or not self.reset:  # theirs would hand its transaction on
            outcome(pair.theirs.commit)
            outcome(pair.ours.commit)

        def end(conn: Any, table: str) -> None:
            if how.endswith("block"):
                with conn:
                    pass
            else:
                conn.close()

        self.both(pair, end, "close()", "close of a lost one" if pair.lost else None)
        self.lent.remove(pair)
        self.past.append(pair)

    def use_after_close(self, which: int) -> None:
        if not self.past:
            return
        pair = self.past[which % len(self.past)]
        pair.ours.close()
        self.parity.note("again")
        done = outcome(pair.ours.cursor)
        assert issubclass(done.error or object, self.module.InterfaceError)
        self.parity.note("late use")

    def insert(self, pair: Pair) -> None:
        number = self.next_number()
        why = "lost" if pair.lost else None
        self.both(pair, lambda conn, table: insert(conn, table, number), "INSERT", why)

    def fail(self, pair: Pair) -> None:
        why = "lost" if pair.lost else None
        self.both(pair, lambda conn, table: conn.cursor().execute("SELECT nonsense"), "fail", why)

    def call(self, pair: Pair, what: str) -> None:
        why = "lost" if pair.lost else None
        self.both(pair, lambda conn, table: getattr(conn, what)(), what, why)

    def commit(self, pair: Pair) -> None:
        self.call(pair, "commit")

    def rollback(self, pair: Pair) -> None:
        self.call(pair, "rollback")

    def is_connected(self, pair: Pair) -> None:
        self.call(pair, "is_connected")

    def config(self, pair: Pair) -> None:
        self.both(pair, lambda conn, table: conn.config(user="x"), "config()")

    def its_pools_name(self, pair: Pair) -> None:
        self.both(pair, lambda conn, table: conn.pool_name, "pool_name")

    def set_an_attribute(self, pair: Pair) -> None:
        if not pair.lost:
            pair.theirs.get_warnings = pair.ours.get_warnings = True
            assert pair.ours.driver_connection.get_warnings
            assert not pair.theirs._cnx.get_warnings
            self.parity.note("wrapper")

    def lose(self, pair: Pair) -> None:
        """The server ends its session; the next statement tells."""
        if pair.lost:
            return
        for conn in (pair.theirs, pair.ours):
            self.server.kill_session(conn.connection_id)
        for one in self.both(pair, lambda conn, table: insert(conn, table, 0), "its end", "lost"):
            assert issubclass(one.error or object, self.module.Error)
        pair.lost = True

    @invariant()
    def the_same_is_lent(self) -> None:
        if hasattr(self, "ours"):
            stats = self.ours.pool.stats()
            assert stats.in_use <= len(self.lent) + stats.opening + 1
            assert stats.size <= self.ours.pool_size


def test_ours_does_what_mysql_connector_pooling_does(mariadb_server: servers.Server) -> None:
    connector = servers.driver_module("mysql.connector")
    theirs = pytest.importorskip("mysql.connector.pooling")
    totals: Counter[str] = Counter()

    class Configured(MySQLMachine):
        server, module, pool_module = mariadb_server, connector, theirs
        families = (
            connector.errors.PoolError,
            connector.InterfaceError,
            connector.OperationalError,
        )

    Configured.totals = totals
    run(Configured, EXAMPLES, STEPS)
    print(dict(totals))
    assert totals["calls"] > EXAMPLES * 5
