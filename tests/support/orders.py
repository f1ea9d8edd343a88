"""What borrowers, keepers and owners of a pool do at the same time, and what must hold in any order.

A `Scenario` is set up, then its workers run together on a `Machine`, then it is judged. It must never
know in which order they run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dbapi_pool import Pool, PoolClosed, PoolError, PoolFull, PoolTimeout
from dbapi_pool.testing import FakeDriver
from dbapi_pool.testing import fake as fake_module

LOCAL, REMOTE = "local", "remote"
Act = Callable[["World"], object]


class World:
    """One pool, and what happened to it."""

    def __init__(self, machine: Any, place: str, settings: dict[str, Any]) -> None:
        self.machine = machine
        self.place = place
        self.fake = FakeDriver(machine)
        driver = self.fake.driver(local=place == LOCAL)
        driver.module = fake_module  # one for all worlds, since handles' classes are kept by it
        self.pool = Pool(self.fake, clock=machine, driver=driver, **settings)
        self.bound = self.pool.max_size  # the highest it ever was
        self.held: list[Any] = []  # handles that are lent
        self.users: dict[int, str] = {}  # connection's number: who has it
        self.ends: dict[str, str] = {}  # what became of each who asked
        self.order: list[str] = []  # who was served, in turn
        self.wrong: list[str] = []
        self.facts: dict[str, Any] = {}
        # Others may come in while the driver connects or closes.
        self.fake.on("connect", call=machine.point)
        self.fake.on("close", call=machine.point)

    def borrow(self, count: int = 1) -> None:
        """Lend connections, to be given back by somebody."""
        self.held += [self.pool.connection() for _ in range(count)]

    def warm(self, count: int) -> None:
        """Have that many idle."""
        self.borrow(count)
        while self.held:
            self.held.pop().close()

    def give(self, index: int = 0) -> None:
        """Give a lent connection back."""
        self.held[index].close()

    def use(self, who: str, timeout: float | None = None) -> None:
        """Borrow, be in it alone, give back."""
        try:
            handle = self.pool.connection(timeout)
        except (PoolError, self.fake.Error) as exc:
            self.ends[who] = kind_of(exc)
            return
        self.order.append(who)
        self.ends[who] = "served"
        number = handle._lease.member.conn.number
        if number in self.users:
            self.wrong.append(f"{who} got connection {number}, which {self.users[number]} has")
        self.users[number] = who
        self.facts[who] = number
        self.machine.point()
        self.users.pop(number, None)
        handle.close()

    def close(self) -> None:
        """Close the pool."""
        self.facts["closed"] = self.pool.close()


def kind_of(exc: BaseException) -> str:
    """The name of what the pool raised, without the driver's part."""
    for kind in (PoolClosed, PoolFull, PoolTimeout):
        if isinstance(exc, kind):
            return kind.__name__
    return type(exc).__name__


@dataclass(frozen=True)
class Scenario:
    """What happens at the same time, and what must hold afterwards whatever the order."""

    name: str
    promise: str  # several with "; " between them, each maybe with ": " and more words
    workers: dict[str, Act]
    setup: Act = lambda world: None
    queue: tuple[str, ...] = ()  # who stands in line before, in that order
    queue_timeout: float | None = None
    judge: Act = lambda world: None
    settings: dict[str, Any] = field(default_factory=dict)
    places: tuple[str, ...] = (LOCAL, REMOTE)
    early: frozenset[str] = frozenset()  # whose deadlines may come at any moment
    late: frozenset[str] = frozenset()  # whose deadlines may come when nobody else can go on

    def begin(self, machine: Any, place: str) -> World:
        """The world as it is when the workers begin."""
        world = World(machine, place, {"max_size": 1, **self.settings})
        self.setup(world)
        for who in self.queue:
            machine.start(who, lambda who=who: world.use(who, self.queue_timeout))
        return world

    def end(self, world: World) -> None:
        """Raise `AssertionError` if a promise was broken."""
        check_at_rest(world, self.early | self.late)
        self.judge(world)
        check_whole(world)

    def body(self, place: str) -> Callable[[Any], None]:
        """It all, for `interleave.explore`."""

        def run(machine: Any) -> None:
            world = self.begin(machine, place)
            machine.saved.clear()
            acts = {
                who: (lambda act=act: act(world))  # type: ignore[misc]
                for who, act in self.workers.items()
            }
            machine.together(acts)
            self.end(world)

        return run


def check_at_rest(world: World, may_have_waited: frozenset[str]) -> None:
    """What holds whenever nothing moves."""
    assert not world.wrong, world.wrong
    late = [name for name in world.machine.saved if name not in may_have_waited]
    assert not late, f"only the clock woke {late}: a wakeup was lost"
    world.fake.check()
    assert world.fake.peak <= world.bound, f"{world.fake.peak} open at once"
    ledger = world.pool._ledger
    assert not ledger.waiters, "somebody is left in line"
    check_places(ledger)
    census = ledger.census()
    tasks = {name: len(places) for name, places in census.tasks.items() if places}
    assert not tasks, f"nothing moves, but {tasks}"
    assert not census.orphaned, "a connection was lost"
    lost = world.pool.stats().closed.get("leaked", 0)
    assert lost == world.facts.get("dropped", 0), "a connection was lost, and found again"
    if census.occupied:
        assert "housekeeper" in world.machine.alive, "nobody keeps house"
    assert census.occupied <= ledger.max_size, f"{census.occupied} open, {ledger.max_size} allowed"
    assert world.fake.open == census.occupied + world.facts.get("detached", 0)


def check_places(ledger: Any) -> None:
    """Each place is in one category, each idle lease owns its place, no member is in two."""
    census = ledger.census()
    groups = (census.idle, census.lent, census.orphaned, *census.tasks.values())
    placed = [id(place) for group in groups for place in group]
    assert len(placed) == len(set(placed)), "a place in two categories"
    idle = list(ledger.idle)
    assert len({id(lease) for lease in idle}) == len(idle), "a lease is idle twice"
    for lease in idle:
        assert lease.place.ref() is lease, "an idle lease does not own its place"
        assert lease.member is not None
        assert lease.member is lease.place.member
        assert lease.pool is None, "an idle lease keeps the pool"
    members = [place.member for place in ledger.places if place.member is not None]
    assert len({id(member.conn) for member in members}) == len(members), "a member twice"


def check_whole(world: World) -> None:
    """The whole capacity can be borrowed at once; and closed, nothing is left."""
    pool, machine = world.pool, world.machine
    for operation in ("connect", "close", "ping"):
        world.fake.off(operation)
    for handle in world.held:
        handle.close()
    if not pool.closed:
        pool.resume()
        before = machine.monotonic()
        handles = [pool.connection(timeout=30.0) for _ in range(pool.max_size)]
        assert machine.monotonic() == before, "capacity came back only with time"
        assert len({handle._lease.member.conn for handle in handles}) == pool.max_size
        for handle in handles:
            handle.close()
    assert pool.close(), "not everything was closed"
    machine.rest()
    for conn in world.facts.pop("outside", ()):
        conn.close()
    world.fake.assert_no_leak()
    assert not machine.alive, f"threads that go on: {machine.alive}"


# -- judges ----------------------------------------------------------------------------------------


def all_served(world: World) -> None:
    """Nobody who asked got an error."""
    assert set(world.ends.values()) <= {"served"}, world.ends


def ends_among(*kinds: str) -> Act:
    def judge(world: World) -> None:
        assert set(world.ends.values()) <= set(kinds), world.ends

    return judge


def in_turn(*names: str) -> Act:
    """Served in that order."""

    def judge(world: World) -> None:
        all_served(world)
        assert world.order == list(names), world.order

    return judge


def nothing_open(world: World) -> None:
    """After close, whatever was in flight is closed too."""
    assert set(world.ends.values()) <= {"served", "PoolClosed"}, world.ends
    assert world.fake.open == 0, f"{world.fake.open} open after close"
    assert world.facts["closed"], "close() says that something is still open"


def fits(world: World) -> None:
    all_served(world)
    assert world.fake.open <= world.pool.max_size


def first_connection_is_gone(world: World) -> None:
    """What was drained is closed, or will not be lent again."""
    all_served(world)
    for handle in world.held:
        handle.close()
    world.use("later")
    assert world.facts["later"] > world.facts["old"], "an outdated connection was lent"


# -- acts ------------------------------------------------------------------------------------------


def uses(who: str, timeout: float | None = None) -> Act:
    return lambda world: world.use(who, timeout)


def held(count: int = 1) -> Act:
    return lambda world: world.borrow(count)


def idle(count: int = 1) -> Act:
    return lambda world: world.warm(count)


def give(index: int = 0) -> Act:
    return lambda world: world.give(index)


def close(world: World) -> None:
    world.close()


def resize(size: int) -> Act:
    def act(world: World) -> None:
        world.bound = max(world.bound, size)
        world.pool.resize(max_size=size)

    return act


def invalidate(world: World) -> None:
    world.held[0].invalidate()


def look(world: World) -> None:
    stats = world.pool.stats()
    assert stats.size + stats.opening + stats.closing <= world.bound


def wake_housekeeper(world: World) -> None:
    world.pool._keeper.end()


def detach(world: World) -> None:
    try:
        conn = world.held[0].detach()
    except world.fake.InterfaceError:  # it was returned already
        return
    world.facts["detached"] = 1
    world.facts["outside"] = [conn]
    world.bound += 1


def drop(world: World) -> None:
    """As a borrower does who forgets to close."""
    world.facts["dropped"] = 1
    world.held.pop()


def drain(world: World) -> None:
    # Those that exist now must not be lent any more.
    world.facts["old"] = world.fake.opened
    world.pool.drain()


def suspend_and_resume(world: World) -> None:
    world.pool.suspend()
    world.machine.point()
    world.pool.resume()


def suspend(world: World) -> None:
    world.pool.suspend()
    world.facts["suspended"] = True


def use_unless_suspended(world: World) -> None:
    """Nothing is lent to who comes after `suspend()` has returned."""
    suspended = world.facts.get("suspended", False)
    world.use("A", 5.0)
    assert not (suspended and world.ends["A"] == "served"), "lent while suspended"


def connecting_fails(transient: bool, times: int = 1) -> Act:
    def setup(world: World) -> None:
        def refuse(_: object) -> None:
            world.machine.point()
            error = world.fake.OperationalError("refused")
            raise error from ConnectionRefusedError() if transient else None

        world.fake.on("connect", call=refuse, times=times)

    return setup


def a_ping_is_due(fails: bool) -> Act:
    def setup(world: World) -> None:
        world.warm(1)
        world.pool._ledger.idle_members()[0].due = float("-inf")

        def ping(_: object) -> None:
            world.machine.point()
            if fails:
                raise world.fake.OperationalError("gone")

        world.fake.on("ping", call=ping)

    return setup


def dirty(world: World) -> None:
    """Lent, with something to clean."""
    world.borrow()
    world.held[0].execute("SET x = 1")


def dirty_for_long(world: World) -> None:
    """Lent, and to clean it takes time."""
    dirty(world)
    world.fake.on("reset", delay=1.0)


def dirty_for_good(world: World) -> None:
    """Lent, and it cannot be cleaned."""
    dirty(world)
    world.fake.on("reset", error=world.fake.OperationalError, times=1)


def warm_up(world: World) -> None:
    world.pool.warm_up()


def two_are_open(world: World) -> None:
    all_served(world)
    assert world.fake.open == 2, world.fake.open


def one_is_idle_at_the_next_look(world: World) -> None:
    """Two that come back at once may both find room for one; the housekeeper sees to it."""
    world.pool._keeper.tick()
    world.machine.rest()
    assert world.fake.open == 1, world.fake.open


def both(*acts: Act) -> Act:
    def act(world: World) -> None:
        for one in acts:
            one(world)

    return act


HOUSEKEEPER = frozenset({"housekeeper"})
TWO = {"max_size": 2}

SCENARIOS = [
    Scenario(
        "two borrow, nothing open, room for one",
        "bound; exclusive; no lost wakeup",
        {"A": uses("A"), "B": uses("B")},
        judge=all_served,
    ),
    Scenario(
        "two borrow, one idle",
        "exclusive; no lost wakeup",
        {"A": uses("A"), "B": uses("B")},
        setup=idle(),
        judge=all_served,
    ),
    Scenario(
        "three borrow, room for two",
        "bound; exclusive; no lost wakeup",
        {"A": uses("A"), "B": uses("B"), "C": uses("C")},
        settings=TWO,
        judge=all_served,
    ),
    Scenario(
        "a borrower stands in line while a connection comes back",
        "no lost wakeup",
        {"A": uses("A"), "R": give()},
        setup=held(),
        judge=all_served,
    ),
    Scenario(
        "two in line, one comes back, a third borrows",
        "first come, first served: nobody barges",
        {"R": give(), "C": uses("C")},
        setup=held(),
        queue=("A", "B"),
        judge=in_turn("A", "B", "C"),
    ),
    Scenario(
        "two in line, two come back",
        "no lost wakeup; first come, first served",
        {"R": give(0), "S": give(1)},
        setup=held(2),
        settings=TWO,
        queue=("A", "B"),
        judge=all_served,
    ),
    Scenario(
        "two come back to a line of one",
        "no lost member",
        {"R": give(0), "S": give(1)},
        setup=held(2),
        settings=TWO,
        queue=("A",),
        judge=all_served,
    ),
    Scenario(
        "a connection comes back at the instant of the timeout",
        "hand-off against timeout: served, or passed on",
        {"R": give()},
        setup=held(),
        queue=("A",),
        queue_timeout=5.0,
        early=frozenset({"A"}),
        judge=ends_among("served", "PoolTimeout"),
    ),
    Scenario(
        "the first in line times out while a connection comes back, a second waits",
        "hand-off against timeout: passed on to the next",
        {"B": uses("B"), "R": give()},
        setup=held(),
        queue=("A",),
        queue_timeout=5.0,
        early=frozenset({"A"}),
        judge=lambda world: _served(world, "B"),
    ),
    Scenario(
        "connecting fails for a while, one waits",
        "failed open with waiters: it is tried again",
        {"A": uses("A")},
        setup=connecting_fails(transient=True),
        places=(REMOTE,),
        late=HOUSEKEEPER,
        judge=all_served,
    ),
    Scenario(
        "connecting fails for a while, two wait",
        "failed open with waiters: it is tried again",
        {"A": uses("A"), "B": uses("B")},
        setup=connecting_fails(transient=True),
        places=(REMOTE,),
        late=HOUSEKEEPER,
        judge=all_served,
    ),
    Scenario(
        "connecting fails for good, one waits",
        # Served by a second opener that was on its way already.
        "failed open with waiters: told at once, or served",
        {"A": uses("A")},
        setup=connecting_fails(transient=False),
        judge=ends_among("OperationalError", "served"),
    ),
    Scenario(
        "connecting fails for good, two wait",
        "failed open with waiters: told at once, or served",
        {"A": uses("A"), "B": uses("B")},
        setup=connecting_fails(transient=False),
        judge=ends_among("OperationalError", "served"),
    ),
    Scenario(
        "connecting fails for good beside a lent connection, which comes back",
        "failed open with waiters; no lost wakeup",
        {"A": uses("A"), "R": give()},
        setup=both(held(), connecting_fails(transient=False)),
        settings=TWO,
        judge=ends_among("OperationalError", "served"),
    ),
    Scenario(
        "close against a borrower, nothing open",
        "nothing open after close; nobody left in line",
        {"A": uses("A"), "X": close},
        judge=nothing_open,
    ),
    Scenario(
        "close against a borrower, one idle",
        "nothing open after close; nobody left in line",
        {"A": uses("A"), "X": close},
        setup=idle(),
        judge=nothing_open,
    ),
    Scenario(
        "close against a connection that comes back",
        "nothing open after close",
        {"R": give(), "X": close},
        setup=held(),
        judge=nothing_open,
    ),
    Scenario(
        "close against one in line and a connection that comes back",
        "nothing open after close; nobody left in line",
        {"R": give(), "X": close},
        setup=held(),
        queue=("A",),
        judge=nothing_open,
    ),
    Scenario(
        "close from two threads at once",
        "nothing open after close",
        {"X": close, "Y": close},
        setup=idle(2),
        settings=TWO,
        judge=nothing_open,
    ),
    Scenario(
        "two come back where one may stay idle",
        "max_idle, at the housekeeper's next look at the latest",
        {"R": give(0), "S": give(1)},
        setup=held(2),
        settings={"max_size": 2, "max_idle": 1},
        judge=one_is_idle_at_the_next_look,
    ),
    Scenario(
        "resize down while two come back",
        "return against resize: the new bound holds when all is at rest",
        {"R": give(0), "S": give(1), "Z": resize(1)},
        setup=held(2),
        settings=TWO,
        judge=lambda world: None,
    ),
    Scenario(
        "resize down against a borrower, two idle",
        "resize against checkout",
        {"A": uses("A"), "Z": resize(1)},
        setup=idle(2),
        settings=TWO,
        judge=fits,
    ),
    Scenario(
        "resize up against a borrower who finds nothing",
        "no lost wakeup",
        {"A": uses("A"), "Z": resize(2)},
        setup=held(),
        judge=all_served,
    ),
    Scenario(
        "resize up with one in line",
        "no lost wakeup",
        {"Z": resize(2)},
        setup=held(),
        queue=("A",),
        judge=all_served,
    ),
    Scenario(
        "the pool is looked at while one is opened",
        "a picture has each place once",
        {"A": uses("A"), "S": look},
        judge=all_served,
    ),
    Scenario(
        "the pool is looked at while one is cleaned",
        "a picture has each place once",
        {"R": give(), "S": look},
        setup=dirty_for_long,
        early=frozenset({"R"}),
        late=HOUSEKEEPER,
    ),
    Scenario(
        "one handle is closed by two threads, two in line",
        "exclusive: returned once",
        {"R": give(), "S": give()},
        setup=held(),
        queue=("A", "B"),
        judge=in_turn("A", "B"),
    ),
    Scenario(
        "a handle is closed and thrown away at once",
        "exclusive: one of them wins; no lost member",
        {"R": give(), "S": invalidate, "A": uses("A")},
        setup=held(),
        judge=all_served,
    ),
    Scenario(
        "a handle is closed and detached at once",
        "exclusive: one of them wins; no lost member",
        {"R": give(), "S": detach, "A": uses("A")},
        setup=held(),
        judge=all_served,
    ),
    Scenario(
        "drain while a connection comes back",
        "an outdated connection is not lent again",
        {"R": give(), "D": drain},
        setup=held(),
        judge=first_connection_is_gone,
    ),
    Scenario(
        "drain against a borrower, one idle",
        "an outdated connection is not lent again",
        {"A": uses("A"), "D": drain},
        setup=idle(),
        judge=first_connection_is_gone,
    ),
    Scenario(
        "drain against a borrower, nothing open",
        "an outdated connection is not lent again",
        {"A": uses("A"), "D": drain},
        judge=first_connection_is_gone,
    ),
    Scenario(
        "suspend and resume against a borrower, one idle",
        "no lost wakeup",
        {"A": uses("A"), "S": suspend_and_resume},
        setup=idle(),
        judge=all_served,
    ),
    Scenario(
        "suspend and resume while a connection comes back to one in line",
        "no lost wakeup",
        {"R": give(), "S": suspend_and_resume},
        setup=held(),
        queue=("A",),
        judge=all_served,
    ),
    Scenario(
        "suspend against a borrower, one idle",
        "nothing is lent after suspend() has returned",
        {"A": use_unless_suspended, "S": suspend},
        setup=idle(),
        late=frozenset({"A", "housekeeper"}),
        judge=ends_among("served", "PoolTimeout"),
    ),
    Scenario(
        "a handle is dropped while a borrower gets in line",
        "no lost member; no lost wakeup",
        {"A": uses("A"), "D": drop},
        setup=held(),
        judge=all_served,
    ),
    Scenario(
        "a handle is dropped while another is closed, two in line",
        "no lost member; no lost wakeup",
        {"D": drop, "R": give()},
        setup=held(2),
        settings=TWO,
        queue=("A", "B"),
        judge=all_served,
    ),
    Scenario(
        "the housekeeper retires what is idle while one borrows",
        "no lost member; exclusive",
        {"A": uses("A")},
        setup=idle(),
        settings={"idle_timeout": 8.0},
        early=HOUSEKEEPER,
        judge=all_served,
    ),
    Scenario(
        "a connection is thrown away while one borrows",
        "bound; no lost wakeup",
        {"R": invalidate, "A": uses("A")},
        setup=held(),
        judge=all_served,
    ),
    Scenario(
        "a handle is detached, one in line",
        "an empty place goes to who waits",
        {"S": detach},
        setup=held(),
        queue=("A",),
        judge=all_served,
    ),
    Scenario(
        "a connection that must be cleaned comes back while one borrows",
        "no lost wakeup",
        {"R": give(), "A": uses("A")},
        setup=dirty,
        judge=all_served,
    ),
    Scenario(
        "a connection that cannot be cleaned comes back, two in line",
        "no lost wakeup; no lost member",
        {"R": give()},
        setup=dirty_for_good,
        queue=("A", "B"),
        judge=in_turn("A", "B"),
    ),
    Scenario(
        "who does not wait borrows while a connection comes back",
        "told at once, or served",
        {"A": uses("A", 0), "R": give()},
        setup=held(),
        judge=ends_among("served", "PoolTimeout"),
    ),
    Scenario(
        "two borrow where one may wait, a connection comes back",
        "told at once, or served",
        {"A": uses("A"), "B": uses("B"), "R": give()},
        setup=held(),
        settings={"max_waiting": 1},
        judge=ends_among("served", "PoolFull"),
    ),
    Scenario(
        "the pool is warmed up while one borrows",
        "bound; no lost wakeup",
        {"W": warm_up, "A": uses("A")},
        settings=TWO,
        judge=two_are_open,
    ),
    Scenario(
        "one of two to be kept open is thrown away while one borrows",
        "what min_size asks for is opened",
        {"R": invalidate, "A": uses("A")},
        setup=held(),
        settings={"max_size": 2, "min_size": 2},
        judge=two_are_open,
    ),
    Scenario(
        "the housekeeper pings what is idle while one borrows",
        "no lost member; exclusive",
        {"A": uses("A")},
        setup=idle(),
        settings={"keepalive": 5.0},
        early=HOUSEKEEPER,
        judge=all_served,
    ),
    Scenario(
        "a handle is dropped while the pool is closed",
        "nothing open after close",
        {"D": drop, "X": close},
        setup=held(),
        judge=nothing_open,
    ),
    Scenario(
        "the housekeeper goes while one borrows",
        "somebody keeps house as long as there is anything to look after",
        {"W": wake_housekeeper, "A": uses("A")},
        setup=both(held(), invalidate),
        judge=all_served,
    ),
    Scenario(
        "an idle connection must be pinged, two borrow",
        "first come, first served; no lost member",
        {"A": uses("A"), "B": uses("B")},
        setup=a_ping_is_due(fails=False),
        judge=all_served,
    ),
    Scenario(
        "what comes back must be pinged, two in line",
        "first come, first served: who was given it goes first again",
        {"R": give()},
        setup=held(),
        settings={"ping_after": 0},
        queue=("A", "B"),
        judge=in_turn("A", "B"),
    ),
    Scenario(
        "an idle connection fails its ping, two borrow",
        "no lost wakeup; bound",
        {"A": uses("A"), "B": uses("B")},
        setup=a_ping_is_due(fails=True),
        judge=all_served,
    ),
]


def _served(world: World, who: str) -> None:
    assert world.ends[who] == "served", world.ends


def scenario(name: str) -> Scenario:
    """The one of that name."""
    return next(one for one in SCENARIOS if one.name == name)
