"""What each promise costs in an idle cycle, per statement and per cursor: our pool, without it.

A change to a copy of one function at a time. A part that is not found any more fails the run.
"""

from __future__ import annotations

import functools
import inspect
import sqlite3
import textwrap
from collections.abc import Mapping
from typing import Any

import dbapi_pool.cursors as cursors
import dbapi_pool.handles as handles
import dbapi_pool.pool as core
from dbapi_pool import Pool, PooledConnection

from ..adapters import OurPool
from ..drivers import Fake
from ..measuring import Row, Run, added, by_turns, measure, median
from .overhead import RAW, lent_sqlite, over_cursors, over_statements

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
    names = dict.fromkeys(name for name, _, _ in parts)
    return type("Pool", (Pool,), {name: changed(Pool, name, parts, vars(core)) for name in names})


def changed(owner: Any, name: str, parts: Parts, names: Mapping[str, Any]) -> Any:
    """A copy of a function of a module or class with the parts that concern it changed; `names`: what
    its module knows."""
    source = textwrap.dedent(inspect.getsource(getattr(owner, name)))
    for _, old, new in (part for part in parts if part[0] == name):
        old, new = old.replace("\\n", "\n"), new.replace("\\n", "\n")
        if source.count(old) != 1:
            raise LookupError(f"not once in {owner.__name__}.{name}: {old!r}")
        source = source.replace(old, new)
    found: dict[str, Any] = {}
    exec(compile(f"from __future__ import annotations\n{source}", "<part>", "exec"),
         dict(names), found)  # fmt: skip
    return found[name]


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


# -- per statement and per cursor -----------------------------------------------------------------

FENCE: dict[str, Parts] = {
    "that the text is looked up (the session is reset if it may have changed it)": (
        ("_noting_two", "type(sql) is str and sql in work.harmless", "True"),
    ),
    "that there was work (a rollback where the driver cannot say)": (
        ("_noting_two", "work.pending = True", "pass"),
    ),
    "that a thread is inside the driver (who returns the connection then, does not pass it on)": (
        ("_noting_two", "inside += CALL", "pass"),
        ("_noting_two", "del inside[-1]", "pass"),
    ),
    "that cursors are remembered (they are closed on return)": (
        ("cursor", "work.track(cursor)", "pass"),
    ),
    "whether another thread has returned the connection meanwhile": (
        ("cursor", "return cursor if self._tether else _too_late(self, cursor)", "return cursor"),
    ),
}


def _fenced(parts: Parts) -> Any:
    """A borrowed connection, and its pool, with these parts of what it does changed."""
    pool = Pool(sqlite3, ":memory:", max_size=1)
    conn: Any = pool.connection()
    conn.cursor()
    member = conn._lease.member
    kind: Any = cursors.pooled_cursor_class(sqlite3.Cursor)
    noting = changed(cursors, "_noting_two", parts, vars(cursors))
    execute = {"__slots__": (), "execute": noting(sqlite3.Cursor.execute)}
    member.another_cursor = functools.partial(member.conn.cursor, type("Cursor", (kind,), execute))
    cursor = changed(PooledConnection, "cursor", parts, vars(handles))
    member.handle_class = type(
        "Handle", (member.handle_class,), {"__slots__": (), "cursor": cursor}
    )
    conn.close()
    return pool, pool.connection()


class _OnlyDerived(sqlite3.Cursor):
    """What a fence needs at least: a class of its own, with room for whose cursor it is."""

    __slots__ = ("_handle", "_work")


class _OnlyCalling(_OnlyDerived):
    __slots__ = ()

    def execute(self, sql: Any, params: Any = (), /) -> Any:
        return _EXECUTE(self, sql, params)


_EXECUTE = sqlite3.Cursor.execute


class _Handle:
    """Gives cursors of a class, and does nothing else."""

    def __init__(self, kind: type[sqlite3.Cursor]) -> None:
        self._conn = lent_sqlite()
        self._kind = kind

    def cursor(self) -> Any:
        return self._conn.cursor(self._kind)


_FLOORS = {
    "everything, but for a cursor class of its own": _OnlyDerived,
    "everything, but for that and an `execute` in Python that only calls the driver's": _OnlyCalling,
}


@measure("fences", "What each promise costs per statement and per cursor")
def fences(run: Run) -> list[Row]:
    """CPU time (ns) of a statement and of a whole cursor's life on sqlite3, as above, and what is
    added to the driver's own (median of the differences in each round), by `Pool`, by `Pool` with
    one thing left out that it does, and by the least that could know of a statement: a connection
    that does nothing but make cursors of another class, with and without a method written in Python
    that does nothing but call the driver's. No fence that notices statements adds less than that.
    Ideal: the last line.
    """
    all_parts = tuple(part for parts in FENCE.values() for part in parts)
    kinds: dict[str, Parts] = {"nothing, it is dbapi_pool Pool": (), **FENCE}
    kinds["all of these"] = all_parts
    lent = {name: _fenced(parts) for name, parts in kinds.items()}
    conns = {RAW: lent_sqlite(), **{name: conn for name, (_, conn) in lent.items()}}
    conns |= {name: _Handle(kind) for name, kind in _FLOORS.items()}
    figures = {}
    for what, make in (("statement", over_statements), ("cursor", over_cursors)):
        loops = {name: make(conn) for name, conn in conns.items()}
        figures[what] = by_turns(loops, run.scale(21, 9, 1), run.scale(1e7, 4e6, 1e5))
    for pool, conn in lent.values():
        conn.close()
        pool.close()
    rows: list[Row] = []
    for name in conns:
        row: Row = {"left out": name}
        for what, times in figures.items():
            row[f"{what} ns"] = round(median(times[name]))
            row[f"+{what} ns"] = round(added(times[name], times[RAW]))
        rows.append(row)
    return rows
