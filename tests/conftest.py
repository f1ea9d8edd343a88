"""Fixtures: a virtual clock, a fake driver that judges, pools over both; and real servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import servers

from dbapi_pool import Pool
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


NEEDS_SERVER = {"postgresql", "mariadb_server", "own_postgresql", "own_mariadb"}
# In these, a test may ask for its server by the fixture's name alone.
FILES_WITH_SERVERS = (
    "test_servers",
    "test_round_trips",
    "test_contract_",
    "test_mysql_",
    "test_postgresql_",
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
