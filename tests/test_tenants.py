"""Many pools under one budget: never more than the total, nobody starves, nothing leaks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbapi_pool import (
    Pool,
    PoolClosed,
    PoolDeadlock,
    PoolFull,
    PoolSettingError,
    PoolTimeout,
    PoolUnavailable,
)
from dbapi_pool.drivers import hookimpl
from dbapi_pool.tenants import Tenants, Tier
from dbapi_pool.testing import FakeDriver, VirtualClock

MakeTenants = Callable[..., Tenants]


class World:
    """Databases of tenants, and what each has open at most at any time."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.databases: dict[Any, FakeDriver] = {}
        self.open: Counter[Any] = Counter()
        self.most = 0
        self.most_of: Counter[Any] = Counter()

    def database(self, key: Any) -> FakeDriver:
        return self.databases.setdefault(key, FakeDriver(self.clock, name=f"db-{key}"))

    def factory(self, key: Any, **settings: Any) -> Pool:
        fake = self.database(key)
        pool = Pool(fake, driver=fake.driver(), **settings)
        pool.register(self)
        return pool

    @hookimpl
    def dbapi_pool_connected(self) -> None:
        self.look()

    def look(self) -> None:
        open_now = {key: len(fake.connections) for key, fake in self.databases.items()}
        self.most = max(self.most, sum(open_now.values()))
        for key, count in open_now.items():
            self.most_of[key] = max(self.most_of[key], count)


@pytest.fixture
def world(clock: VirtualClock) -> World:
    return World(clock)


@pytest.fixture
def make(world: World, clock: VirtualClock) -> Iterator[MakeTenants]:
    made: list[Tenants] = []

    def make(total: int, **options: Any) -> Tenants:
        made.append(Tenants(world.factory, total, clock=clock, **options))
        return made[-1]

    yield make
    for tenants in made:
        assert tenants.close(), f"not everything was returned: {tenants!r}"
    clock.run()
    for fake in world.databases.values():
        fake.assert_no_leak()


def use(tenants: Tenants, key: Any, seconds: float = 0.0) -> None:
    with tenants.connection(key) as conn:
        conn.cursor().execute("SELECT 1")
        if seconds:
            tenants._system.sleep(seconds)


def test_pools_are_made_on_demand_and_each_tenant_has_its_own(
    make: MakeTenants, world: World
) -> None:
    tenants = make(4)
    assert list(tenants) == []
    for key in ("a", "b", "a"):
        use(tenants, key)

    assert list(tenants) == ["a", "b"]
    assert [len(fake.connections) for fake in world.databases.values()] == [1, 1]
    assert tenants.pool("a").stats().checkouts == 2
    assert tenants.pool("a").name == "tenants: a"


def test_the_total_holds_and_an_idle_connection_is_taken_for_who_needs_it(
    make: MakeTenants, world: World, clock: VirtualClock
) -> None:
    tenants = make(2)
    for key in ("a", "b", "c", "a"):
        use(tenants, key)
        clock.advance(1.0)
        assert tenants.occupied <= 2
    assert world.most <= 2
    assert tenants.pool("b").stats().closed == {"resized": 1}  # used longest ago when c came


def test_who_has_more_than_its_share_gives_what_comes_back(
    make: MakeTenants, world: World, clock: VirtualClock
) -> None:
    tenants = make(4)
    held = [tenants.connection("big") for _ in range(4)]
    more = clock.start(use, tenants, "big", 5.0)
    small = [clock.start(use, tenants, "small", 1.0) for _ in range(2)]
    clock.advance(0.1)
    held.pop().close()
    held.pop().close()
    clock.advance(2.0)

    for task in small:
        task.result()
    for conn in held:
        conn.close()
    more.result()
    assert world.most <= 4


def test_nobody_starves_while_one_asks_all_the_time(
    make: MakeTenants, world: World, clock: VirtualClock
) -> None:
    tenants = make(3, tier=Tier(max_size=3))
    over = []

    def greedy() -> None:
        while not over:
            use(tenants, "greedy", 0.1)

    tasks = [clock.start(greedy) for _ in range(10)]
    clock.advance(1.0)
    begin = clock.monotonic()
    for n in range(5):
        use(tenants, f"modest {n}", 0.05)
    waited = clock.monotonic() - begin
    over.append(True)
    for task in tasks:
        task.result()

    assert waited < 5 * 0.5
    assert world.most <= 3


def test_more_tenants_than_connections_are_all_served(
    make: MakeTenants, world: World, clock: VirtualClock
) -> None:
    tenants = make(2)
    done: Counter[int] = Counter()

    def work(key: int) -> None:
        for _ in range(5):
            use(tenants, key, 0.05)
            done[key] += 1

    tasks = [clock.start(work, key) for key in range(10)]
    for task in tasks:
        task.result()

    assert done == dict.fromkeys(range(10), 5)
    assert world.most <= 2


def test_a_tier_bounds_a_tenant_and_keeps_what_it_is_promised(
    make: MakeTenants, world: World, clock: VirtualClock
) -> None:
    tiers = {"gold": Tier(min_size=2, max_size=4), "free": Tier(max_size=1)}
    tenants = make(4, tier=lambda key: tiers[key])
    tenants.pool("gold")
    clock.run()
    assert tenants.pool("gold").stats().size == 2
    first = tenants.connection("free")
    with pytest.raises(PoolTimeout, match="of tenants: 3 of total=4 occupied"):
        clock.start(tenants.connection, "free", 0.1).result()
    with pytest.raises(PoolDeadlock):
        tenants.connection("free")
    first.close()

    for task in [clock.start(use, tenants, "free", 0.1) for _ in range(5)]:
        task.result()
    assert world.most_of["free"] == 1
    assert tenants.pool("gold").stats().size == 2


def test_a_thread_that_borrows_twice_waits_for_what_others_return(
    make: MakeTenants, clock: VirtualClock
) -> None:
    tenants = make(2)
    clock.start(use, tenants, "b", 5.0)
    with tenants.connection("a"):
        use(tenants, "a")


def test_weights_decide_about_the_shares(
    make: MakeTenants, world: World, clock: VirtualClock
) -> None:
    tiers = {"heavy": Tier(weight=3.0), "light": Tier(weight=1.0)}
    tenants = make(8, tier=lambda key: tiers[key])
    over: list[bool] = []

    def work(key: str) -> None:
        while not over:
            use(tenants, key, 0.1)

    tasks = [clock.start(work, key) for key in ("light", "heavy") for _ in range(20)]
    clock.advance(5.0)
    sizes = {key: tenants.pool(key).max_size for key in tiers}
    over.append(True)
    for task in tasks:
        task.result()

    assert sizes == {"heavy": 6, "light": 2}


def test_one_database_that_is_down_does_not_slow_the_others(
    make: MakeTenants, world: World, clock: VirtualClock
) -> None:
    tenants = make(4, fail_fast_after=2.0, checkout_timeout=30.0)
    world.database("dead").on("connect", delay=1.0, error=ConnectionRefusedError())
    dead = [clock.start(tenants.connection, "dead") for _ in range(20)]
    clock.advance(0.5)
    begin = clock.monotonic()
    for _ in range(10):
        use(tenants, "well", 0.1)
    assert clock.monotonic() - begin < 2.5

    clock.advance(10.0)
    for task in dead:
        with pytest.raises(PoolUnavailable):
            task.result()
    begin = clock.monotonic()
    with pytest.raises(PoolUnavailable):
        tenants.connection("dead")
    assert clock.monotonic() == begin
    assert "dead" in tenants.health().reasons[0]
    world.databases["dead"].calm()


def test_pools_that_are_used_least_recently_make_room(
    make: MakeTenants, clock: VirtualClock
) -> None:
    tenants = make(10, max_pools=2)
    for key in ("a", "b", "a"):
        use(tenants, key)
        clock.advance(1.0)
    held = tenants.connection("a")
    use(tenants, "c")
    assert list(tenants) == ["a", "c"]
    also_held = tenants.connection("c")
    with pytest.raises(PoolFull, match="all of max_pools=2 are in use"):
        tenants.connection("d")
    held.close()
    use(tenants, "d")
    assert list(tenants) == ["c", "d"]
    also_held.close()


def test_a_pool_that_is_evicted_while_one_borrows_is_made_anew(
    make: MakeTenants, clock: VirtualClock, world: World
) -> None:
    tenants = make(2)
    held = tenants.connection("a")
    tenants.evict("a")
    use(tenants, "a")
    assert tenants.occupied == 2
    held.close()
    clock.run()
    assert tenants.occupied == 1
    assert world.most <= 2


def test_transactions_and_run_name_the_line_of_the_caller(
    make: MakeTenants, clock: VirtualClock
) -> None:
    tenants = make(1)
    with tenants.transaction("a") as conn:
        conn.cursor().execute("INSERT 1")
        with pytest.raises(PoolTimeout, match=r"borrowed at .*test_tenants\.py"):
            clock.start(tenants.connection, "a", 0.5).result()
    assert tenants.run("a", lambda conn: conn.cursor().execute("SELECT 1").fetchall()) is not None
    assert tenants.pool("a").stats().checkouts == 2


def test_warm_up_opens_what_there_is_room_for(make: MakeTenants) -> None:
    tenants = make(3)
    tenants.warm_up("a", 2)
    tenants.warm_up("b", 2)
    assert (tenants.pool("a").stats().size, tenants.pool("b").stats().size) == (2, 1)
    with pytest.raises(PoolSettingError, match="count=11"):
        tenants.warm_up("a", 11)


def test_what_is_told_of_hundreds_is_bounded(make: MakeTenants) -> None:
    tenants = make(50, max_pools=5000)
    for key in range(100):
        use(tenants, key)
    use(tenants, 7)
    stats = tenants.stats(most=3)

    assert len(stats.by_tenant) == 3
    assert stats.by_tenant["7"].checkouts == 2
    assert stats.others["pools"] == 97
    assert stats.others["checkouts"] == 97
    assert stats.occupied <= stats.total == 50
    assert stats.as_dict()["others"]["timeouts"] == 0


def test_tenants_without_open_connections_cost_no_thread(
    make: MakeTenants, clock: VirtualClock
) -> None:
    tenants = make(50, idle_timeout=10.0)
    for key in range(100):
        use(tenants, key)
    clock.advance(60.0)

    assert tenants.occupied == 0
    assert [task.name for task in clock.tasks if "housekeeper" in task.name] == []


def test_after_close_nothing_is_lent(make: MakeTenants) -> None:
    tenants = make(2)
    use(tenants, "a")
    assert tenants.close()
    with pytest.raises(PoolClosed):
        tenants.connection("a")


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"total": 0}, "total=0"),
        ({"total": 1, "max_pools": 0}, "max_pools=0"),
        ({"total": True}, "total=True"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    make: MakeTenants, wrong: dict[str, Any], why: str
) -> None:
    with pytest.raises(PoolSettingError, match=why):
        make(**wrong)


def test_tiers_and_factories_that_cannot_work_are_refused(
    clock: VirtualClock, world: World
) -> None:
    for wrong in ({"min_size": 3, "max_size": 2}, {"max_size": 0}, {"weight": 0}, {"weight": "a"}):
        with pytest.raises(PoolSettingError):
            Tier(**wrong)  # type: ignore[arg-type]
    with pytest.raises(PoolSettingError, match="must be a Pool"):
        Tenants(lambda key, **_: object(), 1, clock=clock).connection("a")  # type: ignore[arg-type, return-value]
    fake = world.database("x")
    with pytest.raises(PoolSettingError, match="max_size=7"):
        Tenants(lambda key, **_: Pool(fake, max_size=7, clock=clock), 1).connection("a")


# -- at random ------------------------------------------------------------------------------------

steps = st.tuples(
    st.sampled_from("abcdefg"),
    st.sampled_from((0.0, 0.01, 0.1, 0.5)),
    st.sampled_from(("use", "use", "use", "hold two", "drop", "raise", "impatient", "evict")),
)
programs = st.lists(st.lists(steps, min_size=1, max_size=6), min_size=1, max_size=8)


def go(tenants: Tenants, clock: VirtualClock, program: Any) -> None:
    for key, seconds, how in program:
        if how == "evict":
            tenants.evict(key)
            continue
        with suppress(PoolTimeout, PoolFull, ZeroDivisionError):
            conn = tenants.connection(key, 0.2 if how == "impatient" else 1000.0)
            clock.sleep(seconds)
            if how == "drop":
                del conn
            elif how == "raise":
                with conn:
                    raise ZeroDivisionError
            else:
                conn.close()


@settings(max_examples=150, deadline=None)
@given(
    programs=programs,
    total=st.integers(1, 5),
    most=st.integers(1, 4),
    max_pools=st.sampled_from((3, 100)),
    connect=st.sampled_from((0.0, 0.05)),
    close=st.sampled_from((0.0, 0.05)),
)
def test_whatever_tenants_do_the_bounds_hold_and_all_are_served(
    programs: Any, total: int, most: int, max_pools: int, connect: float, close: float
) -> None:
    with VirtualClock() as clock:
        world = World(clock)
        for key in "abcdefg":
            world.database(key).on("connect", delay=connect)
            world.database(key).on("close", delay=close)
        tier = Tier(max_size=most)
        tenants = Tenants(world.factory, total, tier=tier, max_pools=max_pools, clock=clock)
        tasks = [clock.start(go, tenants, clock, program) for program in programs]
        for task in tasks:
            task.result()
        clock.advance(100.0)

        peaks = sum(fake.peak for fake in world.databases.values())
        assert world.most <= total
        assert max(fake.peak for fake in world.databases.values()) <= min(most, total)
        assert peaks >= 1 or not any(how != "evict" for p in programs for _, _, how in p)
        assert tenants.close(100.0)
        clock.run()
        for fake in world.databases.values():
            fake.assert_no_leak()
