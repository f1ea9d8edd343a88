"""The fork checks in a process of their own, and the way to get a subject there.

`act_out` starts a fresh interpreter and sends it what the subject is made of: the class that knows
things by its file and name, the arguments as they are. A class inside a function cannot be found
again, and is not applicable.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import io
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from ... import ConnectionReturned, PoolError
from .check import Broken, NotApplicable, raises, require, same
from .knowledge import Knowledge, as_written
from .subject import Subject
from .trial import Table, Trial, Watched, run

__all__ = ["act_out"]

PATIENCE = 60
"""Seconds until a process that hangs is ended."""
AT_ONCE = 0.5
"""Seconds for which parent and child work at the same time."""

# The arguments come by the standard input, since others can see a command line.
_PROGRAM = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer);"
    " from dbapi_pool.testing.contract.forked import main; main(sys.stdin.buffer)"
)


_loading: list[bool] = []
"""Not empty in the new process: a script without a guard would start itself for ever."""


def act_out(subject: Subject, scenario: str) -> None:
    """Run a scenario of this module in a new process. `Broken` with its words if it fails."""
    if _loading:
        raise Broken(
            "the module of the class that knows runs the kit when it is imported: put that under"
            ' `if __name__ == "__main__":`'
        )
    sent = pickle.dumps(sys.path) + Luggage.of(subject).packed() + pickle.dumps(scenario)
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # so that it can be ended with the children that it forked
    ) as process:
        try:
            _, words = process.communicate(sent, timeout=2 * PATIENCE)
        except BaseException as exc:
            os.killpg(process.pid, signal.SIGKILL)
            if isinstance(exc, subprocess.TimeoutExpired):
                raise Broken("parent or child hangs") from None
            raise
    text = words.decode(errors="replace").strip()
    require(process.returncode == 0, text or f"the process ended with {process.returncode}")


@dataclass(frozen=True)
class Luggage:
    """A subject, as it can be sent to another process."""

    module: str
    file: str | None
    name: str
    """Of the class that knows."""
    creator: tuple[str, Any]
    arguments: tuple[tuple[Any, ...], dict[str, Any]]

    @classmethod
    def of(cls, subject: Subject) -> Luggage:
        kind = type(subject.knowledge)
        if "<locals>" in kind.__qualname__:
            raise NotApplicable(f"{kind.__qualname__} cannot be found by another process")
        module = sys.modules[kind.__module__]
        return cls(
            module=kind.__module__,
            file=getattr(module, "__file__", None),
            name=kind.__qualname__,
            creator=_creator(subject),
            arguments=(subject.args, subject.kwargs),
        )

    def packed(self) -> bytes:
        """Where the class is, then the rest, which may need the class's module."""
        try:
            rest = pickle.dumps((self.creator, self.arguments))
        except Exception as exc:
            raise NotApplicable(f"the creator or its arguments cannot be sent: {exc}") from exc
        return pickle.dumps((self.module, self.file, self.name)) + rest

    @staticmethod
    def unpack(stream: Any) -> Subject:
        knowledge = _load(*pickle.load(stream))
        (how, value), (args, kwargs) = pickle.load(stream)
        if how == "module":
            value = importlib.import_module(value)
        elif how == "knowledge":
            value = as_written(type(knowledge), "creator")
        return Subject(value, args, kwargs, knowledge)


def _creator(subject: Subject) -> tuple[str, Any]:
    if isinstance(subject.creator, ModuleType):
        return "module", subject.creator.__name__
    if subject.creator is as_written(type(subject.knowledge), "creator"):
        return "knowledge", None
    return "value", subject.creator


def _load(module: str, file: str | None, name: str) -> Knowledge:
    found: Any = _module(module, file)
    for part in name.split("."):
        found = getattr(found, part)
    return found()  # type: ignore[no-any-return]


def _module(name: str, file: str | None) -> ModuleType:
    """The module, by its name if that leads to the same file, else by the file: the path of a test
    module is often known to its runner alone."""
    if name != "__main__":
        with suppress(ImportError):
            found = importlib.import_module(name)
            if getattr(found, "__file__", None) == file:
                return found
    spec = importlib.util.spec_from_file_location("contract" if name == "__main__" else name, file)
    if spec is None or spec.loader is None:
        raise Broken(f"module {name!r} cannot be loaded from {file}")
    found = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = found
    spec.loader.exec_module(found)
    return found


def main(stream: io.BufferedReader) -> None:
    """The program: read what to do, do it, and tell on the standard error what is broken."""
    _loading.append(True)
    subject = Luggage.unpack(stream)
    scenario = _SCENARIOS[pickle.load(stream)]
    try:
        with subject.trial() as trial:
            scenario(trial)
    except Exception as exc:
        print(subject.redacted(f"{type(exc).__name__}: {exc}"), file=sys.stderr)
        sys.stderr.flush()
        os._exit(1)


# -- scenarios ------------------------------------------------------------------------------------


def fork(trial: Trial, act: Callable[[], object]) -> int:
    """Fork; the child does `act()` and ends as programs do. Its process number."""
    child = os.fork()
    if child == 0:
        signal.alarm(PATIENCE)
        trial.leave_to_the_parent()
        try:
            act()
        except BaseException as exc:
            print(f"in the child: {type(exc).__name__}: {exc}", file=sys.stderr)
            sys.stderr.flush()
            os._exit(1)
        sys.exit(0)
    return child


def wait(child: int) -> None:
    """`Broken` unless the child ended well."""
    _, status = os.waitpid(child, 0)
    require(status == 0, f"the child ended with status {status}")


def child_starts_empty(trial: Trial) -> None:
    """See `checks/forks.py`."""
    pool = trial.pool(max_size=2)
    held = pool.borrow()
    cursor = held.cursor()
    parents = len(pool.connections)

    def child() -> None:
        stats = pool.pool.stats()
        same((stats.size, stats.in_use), (0, 0), "connections open, and lent")
        raises(ConnectionReturned, held.cursor, "conn.cursor() of the parent's")
        raises(ConnectionReturned, held.commit, "conn.commit() of the parent's")
        raises(Exception, lambda: cursor.execute(trial.know.one), "execute on the parent's cursor")
        with pool.borrow() as one, pool.borrow() as two:
            same(run(one, trial.know.one)[0][0], 1, "what is read")
            same(run(two, trial.know.one)[0][0], 1, "what is read on another")
        same(len(pool.connections), parents + 2, "connections ever opened")

    wait(fork(trial, child))
    same(run(held, trial.know.one)[0][0], 1, "what the parent reads")
    held.close()


def both_sides_work(trial: Trial) -> None:
    """See `checks/forks.py`."""
    pool = trial.pool(max_size=2)
    with pool.borrow(), pool.borrow():
        pass
    held = pool.borrow()

    def work() -> None:
        end = time.monotonic() + AT_ONCE
        while time.monotonic() < end:
            with pool.borrow() as conn:
                same(run(conn, trial.know.one)[0][0], 1, "what is read")

    def child() -> None:
        held.close()
        work()

    children = [fork(trial, child), fork(trial, work)]
    work()
    same(run(held, trial.know.one)[0][0], 1, "what the parent reads on its old connection")
    for one in children:
        wait(one)
    work()
    held.close()
    same(len(pool.connections), 2, "connections that the parent opened")


class Parent:
    """A parent with a transaction in flight and an idle connection, both to be there afterwards."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.pool: Watched = trial.pool(max_size=2)
        self.table: Table = trial.table()
        with self.pool.borrow(), self.pool.borrow():
            pass
        self.held = [self.pool.borrow()]
        self.table.insert(self.held[0], 1)
        self.cursors = [self.held[0].cursor()]

    def outlives(self, act: Callable[[], object]) -> None:
        """`Broken` if what the child does hurts the parent."""
        wait(fork(self.trial, act))
        [held] = self.held
        self.table.insert(held, 2)
        held.commit()
        same(self.table.seen(), [1, 2], "rows that the parent has committed")
        with self.pool.borrow() as other:
            same(self.table.ids(other), [1, 2], "rows read on the idle connection")
        held.close()
        same(len(self.pool.connections), 2, "connections that the parent opened")


def child_exits(trial: Trial) -> None:
    """See `checks/forks.py`."""
    Parent(trial).outlives(lambda: None)


def child_forgets(trial: Trial) -> None:
    """See `checks/forks.py`."""
    parent = Parent(trial)

    def child() -> None:
        parent.held.clear()
        parent.cursors.clear()
        parent.pool.connections.clear()
        del parent.pool
        gc.collect()

    parent.outlives(child)


def child_closes(trial: Trial) -> None:
    """See `checks/forks.py`."""
    parent = Parent(trial)

    def child() -> None:
        parent.cursors[0].close()
        parent.held[0].close()
        parent.held[0].invalidate()
        with suppress(PoolError):  # of a database in memory
            parent.pool.pool.drain()
        parent.pool.pool.close()
        gc.collect()

    parent.outlives(child)


_SCENARIOS: dict[str, Callable[[Trial], None]] = {
    scenario.__name__: scenario
    for scenario in (child_starts_empty, both_sides_work, child_exits, child_forgets, child_closes)
}
