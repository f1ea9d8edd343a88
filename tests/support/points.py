"""Where a thread may be preempted: at each instruction that touches what threads share.

That is one that reads or writes an attribute which is ever changed, looks into a container, drops a
local name, or calls what has no such points of its own. This module must never know who listens, nor
what a pool is.
"""

from __future__ import annotations

import ast
import dis
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType, ModuleType
from typing import Any

listener: Callable[[], object] | None = None
"""Called in front of each such instruction, in the thread that comes to it."""

_FOR_REPORTS = frozenset(
    {"code", "holds", "lasti", "number", "stack", "uses"}
)  # nothing is decided by them
_AT_BIRTH = frozenset({"__init__", "_start"})
_LOOKS_INTO = ("BINARY_SUBSCR", "STORE_SUBSCR", "DELETE_SUBSCR", "CONTAINS_OP", "FOR_ITER")
_NAMED = ("LOAD_ATTR", "LOAD_METHOD", "STORE_ATTR", "DELETE_ATTR")
_TESTS = ("POP_JUMP", "JUMP_IF", "TO_BOOL", "UNARY_NOT")

# What has no part in what threads share; the functions of traced modules have points of their own.
_INNOCENT = frozenset({"_ident", "_now", "isinstance", "max", "min", "monotonic", "partial"})

_points: dict[CodeType, frozenset[int]] = {}
_changed: set[str] = set()


@contextmanager
def tracing(
    modules: Iterable[ModuleType], also_written_by: Iterable[ModuleType] = ()
) -> Iterator[None]:
    """Within, threads of a machine may be preempted in these modules."""
    modules = list(modules)
    for module in [*modules, *also_written_by]:
        for code in _codes_of(module):
            if code.co_name not in _AT_BIRTH:
                _changed.update(_written_in(code))
    _changed.update(("_lease", "_tether"))  # by the list's own methods
    _changed.difference_update(_FOR_REPORTS)
    trees = [ast.parse(inspect.getsource(module)) for module in modules]
    known = _INNOCENT.union(*(_defined_in(tree) for tree in trees))
    for module, tree in zip(modules, trees, strict=True):
        innocent = _lines_that_call_only(known, tree)
        for code in _codes_of(module):
            watch(code, innocent)
    try:
        yield
    finally:
        _forget()


def _written_in(code: CodeType) -> Iterator[str]:
    for ins in dis.get_instructions(code):
        if ins.opname in ("STORE_ATTR", "DELETE_ATTR"):
            yield ins.argval


def watch(code: CodeType, innocent: frozenset[int] = frozenset()) -> None:
    """Let threads be preempted in this code; not before the calls in `innocent` lines."""
    _points[code] = frozenset(_points_of(code, innocent))
    if sys.version_info >= (3, 12):
        _monitor(code)


def _defined_in(tree: ast.Module) -> set[str]:
    kinds = (ast.FunctionDef, ast.ClassDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, kinds)}


def _lines_that_call_only(known: frozenset[str], tree: ast.Module) -> frozenset[int]:
    calls: dict[int, bool] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            for line in range(node.lineno, (node.end_lineno or node.lineno) + 1):
                calls[line] = calls.get(line, True) and name in known
    return frozenset(line for line, innocent in calls.items() if innocent)


def _points_of(code: CodeType, innocent: frozenset[int]) -> Iterator[int]:
    lines = [(start, end, line) for start, end, line in code.co_lines() if line is not None]
    before = extended = None
    for ins in dis.get_instructions(code):
        if ins.opname == "EXTENDED_ARG":
            extended = ins.offset
            continue
        at = ins.offset
        if ins.opname.startswith("CALL") and not ins.opname.startswith("CALL_INTRINSIC"):
            touches = not any(start <= at < end and line in innocent for start, end, line in lines)
        else:
            touches = _touches(ins, before)
        if touches:
            yield at if extended is None else extended
        before, extended = ins.opname, None


def _touches(ins: dis.Instruction, before: str | None) -> bool:
    name = ins.opname
    if name in _NAMED:
        return ins.argval in _changed
    if name.startswith(_TESTS):  # of a container: is it empty
        return before == "LOAD_ATTR"
    return name.startswith(_LOOKS_INTO) or name == "DELETE_FAST"


def _codes_of(module: ModuleType) -> Iterator[CodeType]:
    for value in vars(module).values():
        if getattr(value, "__module__", None) == module.__name__:
            yield from _codes_in(value)


def _codes_in(value: Any) -> Iterator[CodeType]:
    if isinstance(value, type):
        for part in vars(value).values():
            yield from _codes_in(part)
    elif isinstance(value, property):
        yield from _codes_in(value.fget)
    else:
        code = getattr(getattr(value, "__func__", value), "__code__", None)
        if isinstance(code, CodeType):
            yield from _with_nested(code)


def _with_nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from _with_nested(const)


if sys.version_info >= (3, 12):
    _TOOL = 4
    _EVENTS = sys.monitoring.events

    def _on_instruction(code: CodeType, offset: int) -> object:
        if offset not in _points[code]:
            return sys.monitoring.DISABLE
        if listener is not None:
            listener()
        return None

    def _monitor(code: CodeType) -> None:
        if sys.monitoring.get_tool(_TOOL) is None:
            sys.monitoring.use_tool_id(_TOOL, __name__)
            sys.monitoring.register_callback(_TOOL, _EVENTS.INSTRUCTION, _on_instruction)
        sys.monitoring.set_local_events(_TOOL, code, _EVENTS.INSTRUCTION)

    def _forget() -> None:
        for code in _points:
            sys.monitoring.set_local_events(_TOOL, code, 0)
        sys.monitoring.free_tool_id(_TOOL)
        _points.clear()

    @contextmanager
    def traced() -> Iterator[None]:
        """The calling thread may be preempted."""
        yield

else:

    def _forget() -> None:
        _points.clear()

    def _on_call(frame: FrameType, event: str, arg: object) -> Any:
        if frame.f_code not in _points:
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return _on_opcode

    def _on_opcode(frame: FrameType, event: str, arg: object) -> Any:
        if event == "opcode" and frame.f_lasti in _points[frame.f_code]:
            if listener is not None:
                listener()
        return _on_opcode

    @contextmanager
    def traced() -> Iterator[None]:
        """The calling thread may be preempted."""
        sys.settrace(_on_call)
        try:
            yield
        finally:
            sys.settrace(None)
