"""Raises an exception at any chosen bytecode of chosen files, in a chosen thread.

A *point* is an instruction before which an exception is raised, or a call after which it is. Those
at which CPython itself can deliver an asynchronous exception (`KeyboardInterrupt` from a signal,
`PyThreadState_SetAsyncExc`) are *deliverable*:

* Python 3.10: on function entry, after a call, where a jump leads to, on entry of an exception
  handler; never before SETUP_FINALLY and SETUP_WITH;
* from 3.11 on: on function entry (RESUME), after a call, and on a backward jump: when it has jumped
  (3.11, 3.12), or when it is about to (3.13), which the compiler may have put outside of the loop's
  own `try` or `with`.

It calls more points deliverable than are: behind any call, also of a Python function, and where a
jump may have led to. It must never know what a pool is.
"""

from __future__ import annotations

import dis
import functools
import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import CodeType, FrameType, FunctionType
from typing import Any

BEFORE = "before"
AFTER = "after"  # the call at this instruction came back

MONITORING = sys.version_info >= (3, 12)
_LATE = sys.version_info >= (3, 13)  # asks before it jumps back, not when it has
_OLD = sys.version_info < (3, 11)  # blocks are pushed and popped, and there is no RESUME
_TOOL = 4
_SHY = frozenset({"SETUP_FINALLY", "SETUP_WITH", "SETUP_ASYNC_WITH", "BEFORE_ASYNC_WITH"})


@dataclass(frozen=True, eq=False)
class Point:
    """Where an exception is raised. There is one object for each."""

    code: CodeType
    offset: int
    when: str
    instruction: dis.Instruction
    """What is there."""
    deliverable: bool
    """Whether CPython may raise one here."""

    @property
    def function(self) -> str:
        """`file.py: function`."""
        return f"{os.path.basename(self.code.co_filename)}: {self.code.co_name}"

    @property
    def line(self) -> int:
        """The line in the file."""
        lines = [
            line for first, end, line in self.code.co_lines() if first <= self.offset < end and line
        ]
        return lines[0] if lines else self.code.co_firstlineno

    def __str__(self) -> str:
        name = os.path.basename(self.code.co_filename)
        opname = self.instruction.opname
        return f"{name}:{self.line} {self.code.co_name} {self.when} {opname} (@{self.offset})"


_Anatomy = dict[tuple[int, str], Point]
_anatomies: dict[int, tuple[CodeType, _Anatomy]] = {}  # by id: code objects are slow to hash


def points_of(code: CodeType) -> _Anatomy:
    """All points of a code object, by offset and `when`."""
    known = _anatomies.get(id(code))
    if known is None:
        known = _anatomies[id(code)] = (code, _dissect(code))
    return known[1]


def _dissect(code: CodeType) -> _Anatomy:
    listing = list(dis.get_instructions(code))
    before, after = (set(_old_points(listing)), set()) if _OLD else _new_points(code, listing)
    points: _Anatomy = {}
    for one in listing:
        points[one.offset, BEFORE] = Point(code, one.offset, BEFORE, one, one.offset in before)
        if one.offset in after:
            points[one.offset, AFTER] = Point(code, one.offset, AFTER, one, True)
    return points


def _new_points(code: CodeType, listing: list[dis.Instruction]) -> tuple[set[int], set[int]]:
    """Offsets: where CPython raises as if before this instruction; and calls after which it raises,
    but not as if before the next instruction, because another handler is in charge there."""
    handler = _handlers(code)
    found, calls = set[int](), set[int]()
    for one, following in zip(listing, listing[1:], strict=False):
        if one.opname == "RESUME" and (one.arg or 0) & 3 < 2:
            found.add(following.offset)
        elif _is_call(one):
            if handler(one.offset) == handler(following.offset):
                found.add(following.offset)
            else:
                calls.add(one.offset)
        elif _leads_back(one):
            found.add(one.offset if _LATE else one.argval)
    return found, calls


def _is_call(one: dis.Instruction) -> bool:
    return one.opname.startswith("CALL") and "INTRINSIC" not in one.opname


def _leads_back(one: dis.Instruction) -> bool:
    return "JUMP_BACKWARD" in one.opname and "NO_INTERRUPT" not in one.opname


def _old_points(listing: list[dis.Instruction]) -> Iterator[int]:
    """Of Python 3.10."""
    before = None
    found = {0}
    for one in listing:
        if before is not None and (before.opname.startswith("CALL") or "YIELD" in before.opname):
            found.add(one.offset)
        if one.opname in _SHY or one.opname == "JUMP_ABSOLUTE" or one.opname.startswith("POP_JUMP"):
            found.add(one.argval)
        before = one
    return (one.offset for one in listing if one.offset in found and one.opname not in _SHY)


def _handlers(code: CodeType) -> Callable[[int], int | None]:
    """Which handler is in charge of an instruction."""
    table = list(dis._parse_exception_table(code))  # type: ignore[attr-defined]

    def handler(offset: int) -> int | None:
        for entry in table:
            if entry.start <= offset < entry.end:
                target: int = entry.target
                return target
        return None

    return handler


class Injector:
    """Counts the points that are reached, or raises at one of them.

    `wanted`: by file name, whether points are in it.
    """

    def __init__(self, wanted: Callable[[str], bool]) -> None:
        self._wanted = functools.cache(wanted)
        self.points: list[Point] = []
        self.hit: Point | None = None
        self._at: int | None = None
        self._error: type[BaseException] = KeyboardInterrupt
        self._keeps: Callable[[Point], bool] = lambda point: True
        self._only: CodeType | None = None
        self._live = False
        self._threads: set[int] = set()
        self._all: list[CodeType] = []
        self._monitored: list[CodeType] = []
        if MONITORING:
            self._begin_monitoring()

    def watch(self, keeps: Callable[[Point], bool]) -> None:
        """Be about to note every point that `keeps` is true of. Before threads are begun."""
        self._keeps, self._at = keeps, None
        self._look_at(None)

    def aim(self, point: Point, time: int, error: type[BaseException]) -> None:
        """Be about to raise `error` when `point` is reached for the `time`-th time, from 0 on."""
        self._keeps, self._at, self._error = lambda one: one is point, time, error
        self._look_at(point.code)

    def arm(self) -> None:
        """From now on."""
        self.points = []
        self.hit = None
        self._live = True

    def disarm(self) -> None:
        """Until now."""
        self._live = False
        self._look_at(_NOWHERE)

    def _look_at(self, only: CodeType | None) -> None:
        """Look at one code object, since looking costs time; None: at all."""
        self._only = only
        if MONITORING:
            self._monitor(self._all if only is None else [] if only is _NOWHERE else [only])

    def enter(self) -> None:
        """The calling thread is one to be struck; what it calls from now on has points."""
        if MONITORING:
            self._threads.add(threading.get_ident())
        else:
            sys.setprofile(self._profile if not _OLD else None)
            sys.settrace(self._trace)

    def leave(self) -> None:
        """The calling thread is one no more."""
        if MONITORING:
            self._threads.discard(threading.get_ident())
        else:
            sys.settrace(None)
            sys.setprofile(None)

    @property
    def entered(self) -> bool:
        """Whether the calling thread is one to be struck."""
        return threading.get_ident() in self._threads if MONITORING else sys.gettrace() is not None

    def close(self) -> None:
        """Give the interpreter's tool back."""
        if MONITORING:
            monitoring: Any = sys.monitoring  # type: ignore[attr-defined,unused-ignore]
            self._monitor([])
            monitoring.free_tool_id(_TOOL)

    # -- reached ----------------------------------------------------------------------------------

    def _reach(self, code: CodeType, offset: int, when: str) -> None:
        point = points_of(code).get((offset, when))
        if point is None or not self._keeps(point):
            return
        self.points.append(point)
        if self._at is not None and len(self.points) > self._at:
            self._live = False
            self.hit = point
            raise self._error(f"struck at {point}")

    # -- up to Python 3.11 ------------------------------------------------------------------------

    def _trace(self, frame: FrameType, event: str, arg: Any) -> Any:
        code = frame.f_code
        if self._only is not code and (self._only or not self._wanted(code.co_filename)):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return self._trace_opcode

    def _trace_opcode(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "opcode" and self._live:
            self._reach(frame.f_code, frame.f_lasti, BEFORE)
        return self._trace_opcode

    def _profile(self, frame: FrameType, event: str, arg: Any) -> None:
        only = self._only or frame.f_code
        if event == "c_return" and self._live and only is frame.f_code:
            if not self._wanted(only.co_filename):
                return
            self._reach(frame.f_code, frame.f_lasti, AFTER)

    # -- Python 3.12 and later --------------------------------------------------------------------

    def _begin_monitoring(self) -> None:
        monitoring: Any = sys.monitoring  # type: ignore[attr-defined,unused-ignore]
        events = monitoring.events
        monitoring.use_tool_id(_TOOL, "injector")
        monitoring.register_callback(_TOOL, events.INSTRUCTION, self._on_instruction)
        monitoring.register_callback(_TOOL, events.C_RETURN, self._on_return)
        self._all = list(self._codes())

    def _monitor(self, codes: list[CodeType]) -> None:
        monitoring: Any = sys.monitoring  # type: ignore[attr-defined,unused-ignore]
        events = monitoring.events
        for code in self._monitored:
            monitoring.set_local_events(_TOOL, code, 0)
        self._monitored = codes
        for code in codes:
            # C_RETURN is sent only together with CALL.
            monitoring.set_local_events(_TOOL, code, events.INSTRUCTION | events.CALL)

    def _codes(self) -> Iterator[CodeType]:
        for thing in (*gc.get_objects(), *self._defined()):
            if type(thing) is FunctionType and self._wanted(thing.__code__.co_filename):
                yield from _nested(thing.__code__)

    def _defined(self) -> Iterator[object]:
        """What modules and their classes define. Free-threaded CPython 3.13 does not list functions
        among the collector's objects any more once there was a second thread."""
        for module in tuple(sys.modules.values()):
            if self._wanted(getattr(module, "__file__", None) or ""):
                things = tuple(vars(module).values())
                classes = [thing for thing in things if isinstance(thing, type)]
                for thing in (*things, *(one for cls in classes for one in vars(cls).values())):
                    yield getattr(thing, "__func__", None) or getattr(thing, "fget", None) or thing

    def _on_instruction(self, code: CodeType, offset: int) -> None:
        if self._live and threading.get_ident() in self._threads:
            self._reach(code, offset, BEFORE)

    def _on_return(self, code: CodeType, offset: int, function: object, first: object) -> None:
        if self._live and threading.get_ident() in self._threads:
            self._reach(code, offset, AFTER)


_NOWHERE = (lambda: None).__code__


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)
