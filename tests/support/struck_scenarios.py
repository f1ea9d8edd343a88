"""What is done to a pool while it is struck: every operation, in every state that matters.

Each scenario brings a world to a state and then does one thing; only the latter is struck.
It must never know how.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from struck_worlds import CALLER, World

from dbapi_pool import PoolClosed, PoolTimeout

Act = Callable[[World], object]


@dataclass(frozen=True)
class Scenario:
    """One operation."""

    name: str
    act: Act
    prepare: Act
    victims: tuple[str, ...]
    places: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)


SCENARIOS: list[Scenario] = []


def scenario(
    name: str, *victims: str, prepare: Act = World.warm, only: str = "", **settings: Any
) -> Callable[[Act], Act]:
    """`victims`: who is struck, by the beginning of their tasks' names; nobody named: the caller.
    `prepare`: unstruck, before. `only`: "remote" or "local"."""

    def note(act: Act) -> Act:
        places = (only,) if only else ("remote", "local")
        SCENARIOS.append(Scenario(name, act, prepare, victims or (CALLER,), places, settings))
        return act

    return note


def nothing(world: World) -> None:
    """For a pool as it is made."""


def lent(world: World) -> None:
    """One is lent, one is idle."""
    world.warm()
    world.take()


def all_lent(world: World) -> None:
    world.take_all()


def lent_with_line(world: World) -> None:
    world.take_all()
    world.wait_in_line()


def old(world: World) -> None:
    """Idle for so long that a ping is due."""
    world.warm()
    world.clock.advance(31.0)


def dead(world: World) -> None:
    world.warm()
    world.fake.kill_all()


def dropped(world: World) -> None:
    lent(world)
    world.clock.run()
    world.held[-1].execute("INSERT")


# -- checkout -------------------------------------------------------------------------------------

HANDS = (CALLER, "hands")
OPENERS = (CALLER, "opener")
ALL = (CALLER, "opener", "hands", "housekeeper")


@scenario("checkout: idle")
@scenario("checkout: opening", *OPENERS, "housekeeper", prepare=nothing)
@scenario("checkout: ping first", *HANDS, prepare=old)
@scenario("checkout: dead idle member", *ALL, prepare=dead)
@scenario("checkout: max_uses", max_uses=2)
def take(world: World) -> None:
    world.take()
    world.clock.run()


@scenario("checkout: connect fails", *OPENERS, prepare=nothing)
def take_none(world: World) -> None:
    world.fake.on("connect", error=world.fake.OperationalError("no such user"), times=1)
    try:
        world.take()
    except world.fake.OperationalError:
        pass
    world.clock.run()


@scenario("checkout: ping fails", *HANDS, prepare=old)
def take_pinged(world: World) -> None:
    world.fake.on("ping", error=world.fake.OperationalError("gone"), times=1)
    world.take()
    world.clock.run()


@scenario("checkout: waited", CALLER, "returner", prepare=all_lent)
def wait(world: World) -> None:
    box = [world.held.pop()]
    world.later(lambda: box.pop().close(), "returner")
    world.take()


@scenario("checkout: timed out", prepare=all_lent)
@scenario("checkout: timed out behind others", prepare=lent_with_line)
def time_out(world: World) -> None:
    for timeout in (0, 0.5):
        try:
            world.pool.connection(timeout)
        except PoolTimeout:
            pass


@scenario("checkout: pool closed meanwhile", CALLER, "closer", prepare=all_lent)
def closed_meanwhile(world: World) -> None:
    world.later(world.pool.close, "closer")
    try:
        world.take()
    except (PoolClosed, PoolTimeout):  # the latter if it is struck before it closed anything
        pass


# -- checkin --------------------------------------------------------------------------------------


def back(world: World) -> None:
    world.back()
    world.clock.run()


def dirty(sql: str) -> Act:
    def prepare(world: World) -> None:
        world.warm()
        world.take()
        world.held[0].execute(sql)

    return prepare


def worse(operation: str, line: bool = False) -> Act:
    def prepare(world: World) -> None:
        world.take_all() if line else world.take()
        world.held[-1].execute("SET x = 1")
        world.held[-1].execute("INSERT")
        if line:
            world.wait_in_line()
        world.fake.on(operation, error=world.fake.OperationalError("no"), times=1)

    return prepare


def expired(world: World) -> None:
    lent(world)
    world.clock.advance(200.0)


def drained(world: World) -> None:
    lent(world)
    world.pool.drain()
    world.clock.run()


def resized(world: World) -> None:
    world.take_all()
    world.pool.resize(1)


def closed(world: World) -> None:
    lent(world)
    world.pool.close(0)


scenario("checkin: clean", prepare=lent)(back)
scenario("checkin: clean, to a waiter", prepare=lent_with_line)(back)
scenario("checkin: rollback", prepare=dirty("INSERT"))(back)
scenario("checkin: reset", prepare=dirty("SET x = 1"))(back)
scenario("checkin: rollback fails", *HANDS, prepare=worse("rollback"))(back)
scenario("checkin: reset fails", prepare=worse("reset"))(back)
scenario("checkin: reset fails, others wait", *ALL, prepare=worse("reset", line=True))(back)
scenario("checkin: close fails", *HANDS, prepare=worse("close"))(back)
scenario("checkin: surplus", *HANDS, prepare=all_lent, max_idle=1)(back)
scenario("checkin: expired", prepare=expired, max_lifetime=100.0)(back)
scenario("checkin: drained", prepare=drained)(back)
scenario("checkin: resized", prepare=resized)(back)
scenario("checkin: pool closed", *HANDS, prepare=closed)(back)


@scenario("close twice", prepare=lent)
def close_twice(world: World) -> None:
    world.held[0].close()
    world.held[0].close()


@scenario("invalidate", *HANDS, prepare=lent)
@scenario("invalidate, others wait", *ALL, prepare=lent_with_line)
def invalidate(world: World) -> None:
    world.held[-1].invalidate()
    world.clock.run()


@scenario("detach", prepare=lent)
def detach(world: World) -> None:
    world.raw.append(world.held[0].detach())


@scenario("handle dropped", CALLER, "housekeeper", "hands", prepare=dropped)
@scenario("handle dropped, others wait", *ALL, prepare=lent_with_line)
def drop(world: World) -> None:
    world.held.pop()
    world.clock.run()


# -- with blocks and cursors ----------------------------------------------------------------------


@scenario("with connection()")
def with_connection(world: World) -> None:
    with world.pool.connection() as conn:
        conn.execute("INSERT")


@scenario("with connection(), body raises")
def with_error(world: World) -> None:
    try:
        with world.pool.connection() as conn:
            conn.execute("INSERT")
            raise ValueError
    except ValueError:
        pass


@scenario("with transaction()")
def with_transaction(world: World) -> None:
    with world.pool.transaction() as conn:
        conn.execute("INSERT")


@scenario("with transaction(), body raises")
def with_transaction_error(world: World) -> None:
    try:
        with world.pool.transaction() as conn:
            conn.execute("INSERT")
            raise ValueError
    except ValueError:
        pass


@scenario("run()")
def run(world: World) -> None:
    world.pool.run(lambda conn: conn.execute("INSERT"))


@scenario("run(), tried twice")
def run_again(world: World) -> None:
    world.fake.on("commit", error=world.fake.SerializationError, times=1)
    world.pool.run(lambda conn: conn.execute("INSERT"))


@scenario("cursors", prepare=lent)
def cursors(world: World) -> None:
    with world.held[0].cursor() as cursor:
        cursor.execute("SELECT 1, 2")
        cursor.fetchone()
    cursor = world.held[0].cursor()
    cursor.executemany("INSERT", [()])
    cursor.close()


# -- the pool's life ------------------------------------------------------------------------------


@scenario("close()", *HANDS, prepare=lent)
@scenario("close(), others wait", *ALL, prepare=lent_with_line)
def close(world: World) -> None:
    world.tasks.clear()
    world.pool.close(1.0)


@scenario("resize() up", *OPENERS, prepare=lent_with_line)
def resize_up(world: World) -> None:
    world.bound = 4
    world.pool.resize(4)
    world.clock.run()


@scenario("resize() down", *HANDS)
def resize_down(world: World) -> None:
    world.pool.resize(1)
    world.clock.run()


@scenario("drain()", *HANDS)
@scenario("drain(), one lent", prepare=lent)
def drain(world: World) -> None:
    world.pool.drain()
    world.clock.run()


@scenario("suspend() and resume()", *OPENERS, prepare=lent)
def suspend(world: World) -> None:
    world.pool.suspend()
    world.wait_in_line()
    world.pool.resume()
    world.clock.run()


@scenario("warm_up()", *OPENERS, prepare=nothing)
def warm_up(world: World) -> None:
    world.pool.warm_up()


# -- the keeper -----------------------------------------------------------------------------------


@scenario("keeper: idle too long", "housekeeper", "hands")
def idle(world: World) -> None:
    world.clock.advance(300.0)


@scenario("keeper: keepalive", "housekeeper", "hands", keepalive=20.0)
def keepalive(world: World) -> None:
    world.clock.advance(25.0)


@scenario("keeper: min_size", *ALL, prepare=lent, min_size=2)
def fill(world: World) -> None:
    world.held.pop().invalidate()
    world.clock.run()


@scenario("keeper: a hung reset is cut", CALLER, "housekeeper", prepare=lent, only="remote")
def cut(world: World) -> None:
    world.fake.on("reset", hang=True, times=1)
    world.held[0].execute("SET x = 1")
    world.back()


@scenario("keeper: leak_after", "housekeeper", prepare=lent, leak_after=10.0)
def report(world: World) -> None:
    world.clock.advance(20.0)
