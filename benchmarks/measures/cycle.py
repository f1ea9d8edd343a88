"""The cycle: what it costs to borrow a connection that is idle and to give it back."""

from __future__ import annotations

from ..adapters import Adapter
from ..drivers import Fake
from ..measuring import Row, Run, by_turns, measure, median

IDLE = 8
SIZES = (1, 10, 100, 1000)
COUNTED = 50


def work_of(kind: type[Adapter], loop: str) -> str:
    """What the driver saw of one cycle: `1 ping, 1 rollback`."""
    driver = Fake(observed=True)
    pool = kind(driver, IDLE)
    pool.warm(IDLE)
    before = driver.counts()
    getattr(pool, loop)(COUNTED)
    seen = driver.counts() - before
    pool.close()
    if loop == "statements":  # the borrower's own
        seen["statement"] -= COUNTED
    kinds = ("ping", "statement", "session reset", "commit", "rollback")
    numbers = [(what, seen[what] / COUNTED) for what in kinds if seen[what]]
    return ", ".join(f"{round(number, 1):g} {what}" for what, number in numbers) or "nothing"


def _cost(run: Run, size: int, loop: str, kinds: list[type[Adapter]]) -> dict[str, list[float]]:
    pools = {}
    for kind in kinds:
        pools[kind.name] = kind(Fake(), size)
        pools[kind.name].warm(size)
    loops = {name: getattr(pool, loop) for name, pool in pools.items()}
    times = by_turns(loops, run.scale(15, 7, 1), run.scale(1e7, 4e6, 1e5))
    for pool in pools.values():
        pool.close()
    return times


@measure("cycle", "Borrow and give back")
def cycle(run: Run) -> list[Row]:
    """CPU time of one thread (ns, median of rounds by turns; garbage collector off) for a cycle
    with each pool's defaults: 8 idle connections, a driver whose calls do nothing, nobody else.

    *Idle*: nothing is done with the connection. *Used*: one cursor, one statement, and a
    transaction that is left open; who hands out the driver's own connection has nothing to do there
    but the rollback. *Work* is what the driver saw of each: pools do not all do the same.
    psycopg_pool expects the borrower to end the transaction, so there the borrower does, also with
    the bare deque, which is no pool but the floor. Ideal: the floor.
    """
    kinds = run.kinds()
    idle, used = (_cost(run, IDLE, loop, kinds) for loop in ("cycles", "statements"))
    return [
        {
            "pool": kind.name,
            "idle ns": round(median(idle[kind.name])),
            "work, idle": work_of(kind, "cycles"),
            "used ns": round(median(used[kind.name])),
            "work, used": work_of(kind, "statements"),
        }
        for kind in kinds
    ]


@measure("sizes", "Borrow and give back, by the number of idle connections")
def sizes(run: Run) -> list[Row]:
    """CPU time (ns) of an idle cycle, as above, with 1 to 1000 idle connections. Ideal: the same
    for all. Empty: more than that pool takes.
    """
    rows: dict[str, Row] = {}
    for size in run.scale(SIZES, SIZES, SIZES[:2]):
        kinds = run.kinds()
        times = _cost(run, size, "cycles", [kind for kind in kinds if size <= kind.largest])
        for kind in kinds:
            row = rows.setdefault(kind.name, {"pool": kind.name})
            row[f"{size} idle"] = round(median(times[kind.name])) if kind.name in times else None
    return list(rows.values())
