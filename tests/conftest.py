"""Fixtures of the fast suite: a virtual clock, a fake driver that judges, and pools over both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

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
