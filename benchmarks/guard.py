"""The guard: `python -m benchmarks.guard` fails when the core's common path has become longer.

It counts the bytecodes that one cycle executes, which time cannot tell: the same program on the same
Python executes the same number on every machine, loaded or not. Functions written in C count as one,
whatever they do, so this does not replace the measures. It must never measure time.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import itertools
import json
import platform
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from dbapi_pool import Pool
from dbapi_pool.system import Signal, System

from .drivers import Fake

HERE = str(Path(__file__).parent)
STORED = Path(__file__).with_name("guard.json")
TOLERANCE = 0.10
SIZE = 8
"""Connections of the pool in which everything is lent."""
WARM = 20
"""Cycles before the one that counts: caches are filled then."""


def python() -> str:
    """The interpreter, as far as bytecodes depend on it: `3.13`, `3.13t`."""
    version = ".".join(platform.python_version_tuple()[:2])
    return version + ("t" if "t" in getattr(sys, "abiflags", "") else "")


def bytecodes(act: Callable[[], object]) -> int:
    """Bytecodes that the call executes in this thread, those of this package not counted."""
    with _no_collector():
        return _monitored(act) if hasattr(sys, "monitoring") else _traced(act)


def _monitored(act: Callable[[], object]) -> int:
    # Python 3.12 and later, where tracing misses opcodes of frames that were not traced before.
    monitoring: Any = sys.monitoring  # type: ignore[attr-defined,unused-ignore]
    tool, thread, executed = monitoring.PROFILER_ID, threading.get_ident(), 0

    def on_instruction(code: CodeType, offset: int) -> None:
        nonlocal executed
        executed += threading.get_ident() == thread and not code.co_filename.startswith(HERE)

    monitoring.use_tool_id(tool, "dbapi_pool guard")
    monitoring.register_callback(tool, monitoring.events.INSTRUCTION, on_instruction)
    try:
        monitoring.set_events(tool, monitoring.events.INSTRUCTION)
        act()
    finally:
        monitoring.set_events(tool, monitoring.events.NO_EVENTS)
        monitoring.register_callback(tool, monitoring.events.INSTRUCTION, None)
        monitoring.free_tool_id(tool)
    return executed


def _traced(act: Callable[[], object]) -> int:
    executed = 0

    def in_frame(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal executed
        executed += event == "opcode"
        return in_frame

    def on_call(frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename.startswith(HERE):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return in_frame

    before = sys.gettrace()
    sys.settrace(on_call)
    try:
        act()
    finally:
        sys.settrace(before)
    return executed


@contextlib.contextmanager
def _no_collector() -> Iterator[None]:
    # It would run finalizers of whoever left garbage.
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


# -- what is counted -------------------------------------------------------------------------------


def _idle(pool: Pool) -> None:
    conn = pool.connection()
    conn.close()


def _statement(pool: Pool) -> None:
    conn = pool.connection()
    cursor = conn.cursor()
    cursor.execute("SELECT 1")
    cursor.fetchone()
    cursor.close()
    conn.close()


def _with_block(pool: Pool) -> None:
    with pool.connection() as conn:
        cursor = conn.cursor()
        cursor.execute("SELECT 1")
        cursor.fetchone()


class _Bell(Signal):
    """Before its owner falls asleep, what wakes it is done, in the same thread."""

    __slots__ = ("_before",)

    def __init__(self, before: list[Callable[[], object]]) -> None:
        super().__init__()
        self._before = before

    def wait(self, timeout: float | None = None) -> bool:
        while self._before:
            self._before.pop()()
        return super().wait(timeout)


class _OneAfterTheOther(System):
    """A machine on which one thread plays many: each that asks for its number gets another."""

    def __init__(self) -> None:
        self.before_the_next_sleep: list[Callable[[], object]] = []
        self._numbers = itertools.count(1)

    @property
    def get_ident(self) -> Callable[[], int]:
        return self._numbers.__next__

    def holds_lock(self) -> bool:
        return False  # each pool of the process is asked, and how many there are is not the point

    def signal(self) -> Signal:
        return _Bell(self.before_the_next_sleep)


class _Crowded(Pool):
    """Everything is lent."""

    def __init__(self) -> None:
        self.machine = _OneAfterTheOther()
        # With this the housekeeper looks every second, as it does where somebody always waits.
        super().__init__(Fake(), max_size=SIZE, clock=self.machine, leak_after=4.0)
        self.lent = [self.connection() for _ in range(SIZE)]
        while not self._keeper.looks_soon(self.machine.monotonic()):  # no public name tells
            self.machine.sleep(0.001)

    def close(self, timeout: float = 0.0) -> bool:
        for conn in self.lent:
            conn.close()
        return super().close(timeout)


def _in_line(pool: Any) -> None:
    """One waits in line, and another gives a connection back, which the first one gets."""
    pool.machine.before_the_next_sleep.append(pool.lent.pop().close)
    pool.lent.append(pool.connection())


def _fake_pool() -> Pool:
    return Pool(Fake(), max_size=2)


def _sqlite_pool() -> Pool:
    from dbapi_pool_sqlite.driver import SQLiteDriver

    return Pool(sqlite3, ":memory:", max_size=1, driver=SQLiteDriver())


CYCLES: dict[str, tuple[Callable[[], Pool], Callable[[Any], None]]] = {
    "idle": (_fake_pool, _idle),
    "in line": (_Crowded, _in_line),
    "one statement": (_fake_pool, _statement),
    "with block": (_fake_pool, _with_block),
    "one statement, sqlite3": (_sqlite_pool, _statement),
    "with block, sqlite3": (_sqlite_pool, _with_block),
}


def count() -> dict[str, int]:
    """Bytecodes of each cycle."""
    counts = {}
    for name, (make, cycle) in CYCLES.items():
        with make() as pool:
            for _ in range(WARM):
                cycle(pool)
            counts[name] = bytecodes(lambda pool=pool, cycle=cycle: cycle(pool))  # type: ignore[misc]
    return counts


# -- against what is stored ------------------------------------------------------------------------


def stored() -> dict[str, dict[str, int]]:
    """By Python, then by cycle."""
    known: dict[str, dict[str, int]] = json.loads(STORED.read_text("utf-8"))
    return known


def store(counts: Mapping[str, int]) -> None:
    """Keep these as the figures for this Python."""
    known = stored() if STORED.exists() else {}
    known[python()] = dict(counts)
    ordered = {version: known[version] for version in sorted(known, key=_number)}
    STORED.write_text(json.dumps(ordered, indent=2) + "\n", "utf-8")


def _number(version: str) -> tuple[int, int, bool]:
    major, minor = version.rstrip("t").split(".")
    return int(major), int(minor), version.endswith("t")


def judge(counts: Mapping[str, int], known: Mapping[str, int]) -> tuple[list[str], bool]:
    """A line for each cycle, and whether none has grown too much."""
    lines, good = [], True
    for name, now in counts.items():
        was = known.get(name)
        if was is None:
            lines.append(f"{name}: nothing stored, now {now}")
            good = False
            continue
        change = now / was - 1
        grown = change > TOLERANCE
        good = good and not grown
        verdict = f"  MORE THAN {TOLERANCE:+.0%}" if grown else ""
        lines.append(f"{name}: stored {was}, now {now} ({change:+.1%}){verdict}")
        if change < -TOLERANCE:
            lines[-1] += "  less: store it, so that it stays so"
    return lines, good


def main(arguments: Sequence[str] | None = None) -> int:
    """Count, and compare or store."""
    description = "Fail when a cycle of the core executes more bytecodes than is stored."
    parser = argparse.ArgumentParser("python -m benchmarks.guard", description=description)
    parser.add_argument("--store", action="store_true", help="keep the figures for this Python")
    chosen = parser.parse_args(arguments)
    counts = count()
    if chosen.store:
        store(counts)
        print(f"stored for Python {python()}: {counts}")
        return 0
    known = stored().get(python())
    if known is None:
        print(
            f"nothing is stored for Python {python()}; `python -m benchmarks.guard --store` does it"
        )
        return 1
    lines, good = judge(counts, known)
    print(f"bytecodes per cycle, Python {python()}", *lines, sep="\n")
    if not good:
        print(
            "If that is worth it: `python -m benchmarks.guard --store`, and say why in the change."
        )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
