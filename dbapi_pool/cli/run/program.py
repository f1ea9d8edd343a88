"""Running a program as `python` does: its `__main__`, `sys.argv`, `sys.path`, exit and tracebacks.

See https://docs.python.org/3/using/cmdline.html#interface-options. Must never know what a driver is.
"""

from __future__ import annotations

import builtins
import io
import os
import runpy
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.machinery import BuiltinImporter, SourceFileLoader
from types import CodeType, ModuleType
from typing import Any

from . import tracebacks

_before: list[ModuleType] = []  # the `__main__` of this command, whose code is still running
_CANNOT_OPEN = 2


@dataclass(frozen=True)
class Program:
    """Something to run, and how it sees itself."""

    argv: list[str]
    first_path: str
    start: Callable[[], None]

    @classmethod
    def module(cls, name: str, arguments: Sequence[str]) -> Program:
        """As `python -m name`."""
        return cls(["-m", *arguments], os.getcwd(), lambda: _run_module(name, alter_argv=True))

    @classmethod
    def path(cls, path: str, arguments: Sequence[str]) -> Program:
        """As `python path`: a file, a folder or archive with a `__main__.py`, `-` for stdin."""
        argv = [path, *arguments]
        if path == "-":
            return cls(argv, "", _run_stdin)
        if os.path.isdir(path) or _is_archive(path):
            return cls(argv, path, lambda: _run_module("__main__", alter_argv=False))
        folder = os.path.dirname(os.path.realpath(path))
        return cls(argv, folder, lambda: _run_file(_absolute(path)))

    def run(self) -> None:
        """Run it to its end. Raises what it raises."""
        sys.argv = self.argv
        if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
            sys.path[0] = self.first_path
        tracebacks.hide()
        tracebacks.outermost(self.start)


def _is_archive(path: str) -> bool:
    if path.endswith((".py", ".pyw")):
        return False
    import zipfile  # takes long

    return zipfile.is_zipfile(path)


def _run_module(name: str, alter_argv: bool) -> None:
    _new_main()
    # Private, but it is what `python -m` itself calls (Modules/main.c), in every version so far.
    run: Any = runpy._run_module_as_main  # type: ignore[attr-defined]
    run(name, alter_argv)


def _absolute(path: str) -> str:
    """As Python makes it; `os.path.abspath` would resolve `..`, which a link may lead elsewhere."""
    return os.path.join(os.getcwd(), path)


def _run_stdin() -> None:
    code = compile(sys.stdin.buffer.read(), "<stdin>", "exec", dont_inherit=True)
    _run(code, _new_main(__file__="<stdin>", __cached__=None, __loader__=BuiltinImporter))


def _run_file(path: str) -> None:
    try:
        with io.open_code(path) as file:
            source = file.read()
    except OSError as exc:
        reason = f"[Errno {exc.errno}] {exc.strerror}"
        print(f"{sys.executable}: can't open file {path!r}: {reason}", file=sys.stderr)
        sys.exit(_CANNOT_OPEN)
    main = _new_main(__file__=path, __cached__=None, __loader__=SourceFileLoader("__main__", path))
    _run(compile(source, path, "exec", dont_inherit=True), main)


def _run(code: CodeType, main: ModuleType) -> None:
    exec(code, vars(main))


def _new_main(**names: Any) -> ModuleType:
    """A `__main__` as it is before a program's first line."""
    main = ModuleType("__main__")
    # Some versions of Python give it names that others do not: as they did with this command's own.
    before = vars(sys.modules["__main__"])
    names = {"__annotations__": {}, "__builtins__": builtins, **names}
    vars(main).update({name: names[name] for name in names if name in before})
    _before.append(sys.modules["__main__"])
    sys.modules["__main__"] = main
    return main
