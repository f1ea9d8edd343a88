"""What each promise costs in an idle cycle: our pool, without it.

A change to a copy of one function at a time. A part that is not found any more fails the run.
"""

from __future__ import annotations

import inspect
import textwrap
from typing import Any

import dbapi_pool.pool as core
from dbapi_pool import Pool

from ..adapters import OurPool
from ..drivers import Fake
from ..measuring import Row, Run, by_turns, measure, median

SIZE = 8

Parts = tuple[tuple[str, str, str], ...]
"""Function, what stands there, what stands there instead."""

WITHOUT: dict[str, Parts] = {
    "who has borrowed it, at which line (timeouts, deadlocks and leaks name it)": (
        ("connection", "frame = _getframe(1)", "pass"),
        ("connection", "frame.f_code, frame.f_lasti", "None, 0"),
        ("_borrow", "member.code = code", "pass"),
        ("_borrow", "member.lasti = lasti", "pass"),
    ),
    "which thread holds it (a deadlock is told at once)": (
        ("_borrow", "member.thread = ident()", "pass"),
        ("check_in", "member.thread = 0", "pass"),
    ),
    "since when it is lent (leak_after, the longest holder)": (
        ("_borrow", "member.since = now", "pass"),
        ("_borrow", "now = clock()\\n    lease = None", "now = 0.0\\n    lease = None"),
    ),
    "since when it is idle (ping_after, idle_timeout, max_lifetime)": (
        ("check_in", "member.returned = now = clock()", "now = member.since"),
    ),
    "that it was not lost, and then found (no finalizer, and yet nothing leaks)": (
        ("check_in", "if ref() is not lease:", "if False:"),
    ),
    "how often it was lent (max_uses, stats)": (("_borrow", "member.uses += 1", "pass"),),
    "whether somebody waits (first come, first served)": (
        ("_borrow", "if not ledger.waiters and ledger.gate is OPEN:", "if True:"),
        ("check_in", "if ledger.waiters or ledger.gate is not OPEN:", "if False:"),
    ),
}


def without(parts: Parts) -> type[Pool]:
    """`Pool` with these parts of its functions changed."""
    changed: dict[str, Any] = {}
    for function in dict.fromkeys(name for name, _, _ in parts):
        source = textwrap.dedent(inspect.getsource(getattr(Pool, function)))
        for _, old, new in (part for part in parts if part[0] == function):
            old, new = old.replace("\\n", "\n"), new.replace("\\n", "\n")
            if source.count(old) != 1:
                raise LookupError(f"not once in Pool.{function}: {old!r}")
            source = source.replace(old, new)
        found: dict[str, Any] = {}
        exec(compile(f"from __future__ import annotations\n{source}", "<part>", "exec"),
             vars(core), found)  # fmt: skip
        changed[function] = found[function]
    return type("Pool", (Pool,), changed)


class _Changed(OurPool):
    def __init__(self, driver: Any, size: int, kind: type[Pool]) -> None:
        self.pool = kind(driver.creator, max_size=size, **driver.kwargs)
        self.borrow = self.pool.connection


def _without_any() -> Parts:
    return tuple(part for parts in WITHOUT.values() for part in parts)


@measure("promises", "What each promise costs")
def promises(run: Run) -> list[Row]:
    """CPU time (ns) of an idle cycle of `Pool`, as above, with one thing left out that it does, and
    what that saves (median of the differences in each round). What is left when all of these are
    gone: finding an idle connection, and a handle that is dead once it was given back. Ideal: that
    nothing would be saved.
    """
    kinds = {"nothing, it is dbapi_pool Pool": Pool}
    kinds |= {name: without(parts) for name, parts in WITHOUT.items()}
    kinds["all of these"] = without(_without_any())
    pools = {}
    for name, kind in kinds.items():
        pools[name] = _Changed(Fake(), SIZE, kind)
        pools[name].warm(SIZE)
    loops = {name: pool.cycles for name, pool in pools.items()}
    times = by_turns(loops, run.scale(15, 7, 1), run.scale(1e7, 4e6, 1e5))
    for pool in pools.values():
        pool.close()
    whole = times["nothing, it is dbapi_pool Pool"]
    return [
        {
            "left out": name,
            "idle ns": round(median(took)),
            "saves ns": round(median([a - b for a, b in zip(whole, took, strict=True)])),
        }
        for name, took in times.items()
    ]
