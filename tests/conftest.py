"""Fixtures: a virtual clock, a fake driver that judges, pools over both; and real servers."""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable, Iterator
from typing import Any

import bouncers
import pytest
import servers

from dbapi_pool import Pool, deadlock
from dbapi_pool.testing import FakeDriver, VirtualClock

MakePool = Callable[..., Pool]


@pytest.fixture
def clock() -> Iterator[VirtualClock]:
    with VirtualClock() as clock:
        yield clock


@pytest.fixture
def fake(clock: VirtualClock) -> FakeDriver:
    return FakeDriver(clock)


@pytest.fixture(params=["remote", "local"])
def place(request: pytest.FixtureRequest) -> str:
    """Whether connections are opened by openers, or in the caller's thread."""
    return str(request.param)


@pytest.fixture
def make_pool(clock: VirtualClock, fake: FakeDriver) -> Iterator[MakePool]:
    """Makes pools; in the end they are closed, and nothing may be open then."""
    pools: list[Pool] = []

    def make(creator: Any = fake, *args: Any, local: bool = False, **settings: Any) -> Pool:
        settings.setdefault("driver", fake.driver(local=local))
        pools.append(Pool(creator, *args, clock=clock, **settings))
        return pools[-1]

    yield make
    fake.calm()
    for pool in pools:
        assert pool.close(), f"not everything was returned: {pool!r}"
    clock.run()
    fake.assert_no_leak()


# -- real servers (tests/support/servers.py), started when first asked for -------------------------


@pytest.fixture(scope="session")
def postgresql() -> Iterator[servers.Server]:
    """A PostgreSQL server that all tests share: leave it running."""
    with servers.running(servers.PostgreSQL) as server:
        yield server


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[servers.Server]:
    """A MariaDB server that all tests share: leave it running."""
    with servers.running(servers.MariaDB) as server:
        yield server


@pytest.fixture
def own_postgresql() -> Iterator[servers.Server]:
    """A PostgreSQL server for one test, which may stop, kill or freeze it."""
    with servers.running(servers.PostgreSQL, own=True) as server:
        yield server


@pytest.fixture
def own_mariadb() -> Iterator[servers.Server]:
    """A MariaDB server for one test, which may stop, kill or freeze it."""
    with servers.running(servers.MariaDB, own=True) as server:
        yield server


@pytest.fixture(scope="session")
def pgbouncer_by_session(postgresql: servers.Server) -> Iterator[servers.Server]:
    """A PgBouncer in session mode, in front of `postgresql`: leave both running."""
    with bouncers.bouncing(postgresql, "session") as bouncer:
        yield bouncer


@pytest.fixture(scope="session")
def pgbouncer_by_transaction(postgresql: servers.Server) -> Iterator[servers.Server]:
    """A PgBouncer in transaction mode, in front of `postgresql`: leave both running."""
    with bouncers.bouncing(postgresql, "transaction") as bouncer:
        yield bouncer


_QUIT = [(signal.SIGQUIT, signal.SIG_DFL)] if hasattr(signal, "SIGQUIT") else []  # not on Windows


def pytest_sessionstart() -> None:
    """A shell that starts pytest in the background has it ignore these signals, and so would every
    program that a test starts and wants to end by one."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), *_QUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


def _look_no_more_at_what_stays() -> None:
    """Take all that there is off the collector's map. The pool sees that by a probe as old as itself,
    and calls no deadlock certain then. Nothing of before leads to what the next tests make, so a newer
    probe is as good."""
    gc.collect()
    gc.freeze()
    deadlock._PROBE = [object()]


def pytest_collection_finish() -> None:
    """Thousands of tests are objects that live to the end: no collection need look at them again, and
    many tests collect."""
    _look_no_more_at_what_stays()


@pytest.fixture(autouse=True, scope="module")
def _what_stays_is_not_looked_at_again() -> Iterator[None]:
    """The libraries that a module's tests import, and what is noted of each test."""
    yield
    _look_no_more_at_what_stays()


NEEDS_SERVER = {
    "postgresql", "mariadb_server", "own_postgresql", "own_mariadb", "pgbouncer_by_session",
    "pgbouncer_by_transaction",
}  # fmt: skip
# In these, a test may ask for its server by the fixture's name alone.
FILES_WITH_SERVERS = (
    "test_servers",
    "test_round_trips",
    "test_contract_",
    "test_mysql_",
    "test_postgresql_",
    "test_pgbouncer",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks servers and proofs: `pytest -m "not servers and not proof"` is the fast suite."""
    for item in items:
        if item.path.parent.name == "proof":
            item.add_marker("proof")
        fixtures = set(getattr(item, "fixturenames", ()))
        if fixtures & NEEDS_SERVER or _is_for_servers(item):
            item.add_marker("servers")


def _is_for_servers(item: pytest.Item) -> bool:
    name = item.path.name
    return name.startswith(FILES_WITH_SERVERS) and "sqlite" not in name and "statements" not in name
