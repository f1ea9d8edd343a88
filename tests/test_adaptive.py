"""`sizing=Adaptive(...)`: more connections when borrowers wait, fewer when nobody needs them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import servers
from hypothesis import given
from hypothesis import strategies as st

from dbapi_pool import Pool, PoolDeadlock, PoolSettingError, PoolTimeout
from dbapi_pool.adaptive import Adaptive, Governor, Sight
from dbapi_pool.testing import FakeDriver, VirtualClock

MakePool = Callable[..., Pool]
REST = Sight(
    now=0.0, least=1, most=10, open=1, used=(), waiting_for=0.0, waited=0.0, checkouts=0, refused=0,
    full=0,
)  # fmt: skip


def seen(governor: Governor, **facts: Any) -> int:
    return governor.look(dataclasses.replace(REST, **facts))


# -- the arithmetic -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "allowed"),
    [({"wait": 0}, "wait=0"), ({"calm": -1}, "calm=-1"), ({"hold": None}, "hold=None"),
     ({"start": 0}, "start=0"), ({"wait": "1"}, "wait='1'")],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(given: dict[str, Any], allowed: str) -> None:
    with pytest.raises(PoolSettingError, match=allowed):
        Adaptive(**given)


@pytest.mark.parametrize(
    ("start", "least", "limit"), [(None, 1, 1), (None, 4, 4), (3, 1, 3), (2, 5, 5), (99, 1, 10)]
)
def test_it_begins_where_it_is_told(start: int | None, least: int, limit: int) -> None:
    assert Governor(Adaptive(start=start), least, 10).limit == limit


def test_it_grows_by_a_quarter_while_somebody_waits_for_too_long() -> None:
    governor = Governor(Adaptive(start=8), 1, 100)
    facts = {"most": 100, "open": 8}
    assert seen(governor, **facts) == 8
    assert seen(governor, **facts, waiting_for=0.005) == 8
    assert seen(governor, **facts, waiting_for=0.02) == 10
    assert seen(governor, **facts, waiting_for=0.02) == 10  # what it has is not open yet
    assert seen(governor, **{**facts, "open": 10}, waiting_for=0.02) == 12


def test_many_short_waits_count_too_and_those_that_were_refused() -> None:
    governor = Governor(Adaptive(wait=0.01), 1, 10)
    assert seen(governor) == 1
    assert seen(governor, checkouts=100, waited=0.9) == 1
    assert seen(governor, checkouts=200, waited=2.9) == 2
    assert seen(governor, open=2, checkouts=200, waited=2.9, refused=1) == 3


def test_it_shrinks_to_what_was_used_after_a_calm_time() -> None:
    governor = Governor(Adaptive(start=10, calm=60.0), 1, 10)
    four = (30.0, 31.0, 29.0, 5.0, -1.0, 0.0)  # two others were last used before it was looked at
    seen(governor, open=10, used=four[4:])
    assert seen(governor, open=10, now=59.0, used=four) == 10
    assert seen(governor, open=10, now=60.0, used=four) == 6
    assert seen(governor, open=6, now=119.0, used=four) == 6
    assert seen(governor, open=6, now=120.0, used=four) == 1


def test_a_wait_puts_shrinking_off() -> None:
    governor = Governor(Adaptive(start=10, calm=60.0), 1, 20)
    facts = {"open": 10, "most": 20}
    seen(governor, **facts)
    seen(governor, **facts, now=59.0, waiting_for=1.0)
    assert seen(governor, **facts, now=61.0) == 12


def test_a_server_that_has_none_left_gets_a_quarter_back_and_is_left_alone() -> None:
    governor = Governor(Adaptive(start=10, hold=30.0), 1, 20)
    seen(governor, open=8, most=20)
    assert seen(governor, now=1.0, open=10, used=[1.0] * 8, most=20, full=1) == 6
    assert seen(governor, now=20.0, open=6, most=20, full=1, waiting_for=5.0) == 6
    assert seen(governor, now=31.0, open=6, most=20, full=1, waiting_for=5.0) == 7


SIGHTS = st.lists(
    st.tuples(
        st.floats(0.001, 100.0), st.integers(0, 30), st.integers(0, 30), st.floats(0, 1.0),
        st.booleans(), st.booleans(),
    ),
    max_size=40,
)  # fmt: skip


@given(least=st.integers(1, 5), more=st.integers(0, 20), sights=SIGHTS)
def test_whatever_it_sees_it_stays_between_its_bounds_and_does_not_flap(
    least: int, more: int, sights: Any
) -> None:
    """It never takes back sooner than after a calm time what it gave, unless the server asks for it."""
    settings = Adaptive(calm=60.0)
    governor = Governor(settings, least, least + more)
    now, grew, before, full, refused = 0.0, float("-inf"), governor.limit, 0, 0
    for step, open_, busy, waiting_for, is_full, is_refused in sights:
        now += step
        full += is_full
        refused += is_refused
        limit = seen(
            governor, now=now, least=least, most=least + more, open=open_, used=[now] * busy,
            waiting_for=waiting_for, refused=refused, full=full,
        )  # fmt: skip
        assert least <= limit <= least + more
        if limit < before and not is_full:
            assert now - grew >= settings.calm
        if limit > before:
            grew = now
        before = limit


# -- in a pool ------------------------------------------------------------------------------------


def hold(pool: Pool, clock: VirtualClock, seconds: float) -> None:
    with pool.connection() as conn:
        conn.execute("SELECT 1")
        clock.sleep(seconds)


def crowd(pool: Pool, clock: VirtualClock, count: int, seconds: float) -> None:
    tasks = [clock.start(hold, pool, clock, seconds) for _ in range(count)]
    for task in tasks:
        task.result()


def test_a_pool_begins_small_grows_with_the_wait_and_shrinks_again(
    make_pool: MakePool, clock: VirtualClock, fake: FakeDriver, place: str
) -> None:
    pool = make_pool(max_size=8, local=place == "local", sizing=Adaptive(wait=0.01, calm=60.0))
    hold(pool, clock, 1.0)
    hold(pool, clock, 1.0)
    assert (pool.max_size, fake.peak) == (1, 1)
    for _ in range(4):
        crowd(pool, clock, 8, 0.5)
    assert pool.max_size == 8
    begin = clock.monotonic()
    crowd(pool, clock, 8, 0.5)
    assert clock.monotonic() - begin == pytest.approx(0.5, abs=0.1)
    clock.advance(300.0)
    assert pool.max_size <= 2
    assert pool.stats().size <= 2
    assert pool.options.max_size == 8
    assert fake.peak == 8


def test_a_burst_is_served_soon_though_it_begins_with_one(
    make_pool: MakePool, clock: VirtualClock, fake: FakeDriver
) -> None:
    fake.on("connect", delay=0.01)
    pool = make_pool(max_size=16, sizing=Adaptive())
    begin = clock.monotonic()
    crowd(pool, clock, 16, 1.0)
    assert clock.monotonic() - begin < 1.5
    assert fake.peak <= 16


def test_who_waits_for_himself_waits_for_the_pool_to_grow(
    make_pool: MakePool, clock: VirtualClock, place: str
) -> None:
    """And is told that it is a deadlock when it cannot grow any more."""
    pool = make_pool(max_size=3, local=place == "local", sizing=Adaptive())
    held = [pool.connection() for _ in range(3)]
    with pytest.raises(PoolDeadlock):
        pool.connection()
    for conn in held:
        conn.close()


def test_who_does_not_wait_makes_it_grow_by_being_refused(
    make_pool: MakePool, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=3, sizing=Adaptive())
    held = [pool.connection()]
    with pytest.raises(PoolTimeout):
        pool.connection(timeout=0)
    clock.advance(10.0)
    held.append(pool.connection(timeout=0))
    for conn in held:
        conn.close()


def test_resizing_changes_its_bounds(make_pool: MakePool, clock: VirtualClock) -> None:
    pool = make_pool(max_size=8, sizing=Adaptive(start=6))
    assert pool.max_size == 6
    pool.resize(max_size=4)
    assert (pool.max_size, pool.options.max_size) == (4, 4)
    pool.resize(max_size=20, min_size=7)
    clock.advance(10.0)
    assert (pool.max_size, pool.options.max_size) == (7, 20)
    pool.resize(max_size=0, min_size=0)
    clock.advance(60.0)
    assert pool.max_size == 0


def test_what_is_no_sizing_is_refused(make_pool: MakePool) -> None:
    with pytest.raises(PoolSettingError, match="sizing='big': must be an instance of Adaptive"):
        make_pool(sizing="big")


class Full(FakeDriver):
    """Its server gives so many connections, and no more."""

    room = 3

    def connect(self, *args: Any, **kwargs: Any) -> Any:
        if self.open >= self.room:
            raise self.OperationalError("too many") from ConnectionRefusedError("too many")
        return super().connect(*args, **kwargs)


def test_a_pool_gives_way_to_others_when_the_server_is_full(clock: VirtualClock) -> None:
    fake = Full(clock)
    driver: Any = fake.driver()
    driver.is_server_full = lambda exc: "too many" in str(exc)
    driver.is_transient = lambda exc: True
    sizing = Adaptive(start=8, hold=1000.0)
    with Pool(fake, driver=driver, clock=clock, max_size=8, sizing=sizing) as pool:
        crowd(pool, clock, 8, 1.0)
        assert pool.max_size == 2
        crowd(pool, clock, 8, 1.0)
        clock.advance(10.0)
        assert fake.open <= 2
    clock.run()
    fake.assert_no_leak()


# -- on servers -----------------------------------------------------------------------------------

LIMITED = {
    "postgresql": ("ALTER ROLE {user} CONNECTION LIMIT 6", "ALTER ROLE {user} CONNECTION LIMIT -1"),
    "mysql": (
        "ALTER USER {user} WITH MAX_USER_CONNECTIONS 6",
        "ALTER USER {user} WITH MAX_USER_CONNECTIONS 0",
    ),
}


@pytest.mark.parametrize("module", sorted(servers.FIXTURE_OF))
def test_pools_that_want_more_than_the_server_has_share_it(
    request: pytest.FixtureRequest, module: str
) -> None:
    """Two with room for eight each, on a server that gives six: nobody is refused, both are served."""
    driver = servers.driver_module(module)
    server = request.getfixturevalue(servers.FIXTURE_OF[module])
    limit, no_limit = LIMITED[servers.PLUGIN_OF[module]]
    sizing = Adaptive(start=8, hold=600.0)
    server.query(limit.format(user=server.user))
    try:
        pools = [
            Pool(driver, **server.arguments(module), max_size=8, sizing=sizing, name=f"half {n}")
            for n in range(2)
        ]
        with pools[0], pools[1]:
            counts = [use_in_threads(pool) for pool in pools for _ in range(2)]
            assert counts == [200] * 4
            assert sum(pool.max_size for pool in pools) <= 8
            assert server.sessions() <= 6
    finally:
        server.query(no_limit.format(user=server.user))


def use_in_threads(pool: Pool) -> int:
    """Requests that 8 threads were served. What they get first they hold until there is no more."""
    from concurrent.futures import ThreadPoolExecutor

    def serve(_: int) -> int:
        done = 0
        with pool.connection(timeout=30.0):
            servers.wait_for(lambda: pool.stats().connect_errors, servers.START_PATIENCE)
        for _ in range(25):
            with pool.connection(timeout=30.0) as conn:
                conn.cursor().execute("SELECT 1")
                done += 1
        return done

    with ThreadPoolExecutor(8) as executor:
        return sum(executor.map(serve, range(8)))
