"""A machine on which the order of the threads is chosen.

Its threads run one at a time. Another may go on at each of `points`, and where a lock is taken or a
signal waited for; a plan says which. Time is a number. It must never know what a pool is.
"""

from __future__ import annotations

import _thread
import sys
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import FrameType
from typing import Any, Protocol

import points

from dbapi_pool.system import Signal, System

STEPS = 50_000  # points after which a run is taken for endless
STUBBORN = 100  # a task that swallows its end that often is left where it is
PATIENCE = 120.0  # real seconds for one run: only code that blocks behind our back takes as long


class PlanLike(Protocol):
    """What chooses; see `interleave.Plan`."""

    step: int
    look_at: float
    trail: list[str]

    def choose(self, costs: tuple[int, ...]) -> int: ...


class Wrong(AssertionError):
    """A schedule under which a promise is broken."""


class _Stop(BaseException):
    """Unwinds the tasks of a run that has failed."""


@dataclass(slots=True, eq=False)
class Task:
    """One thread of a machine."""

    number: int
    name: str
    body: Callable[[], object] | None
    baton: Any
    ready: Callable[[], bool] | None = None  # None: it can go on
    deadline: float | None = None
    fired: bool = False  # its deadline came
    done: bool = False
    last: bool = False  # runs only when no other can
    stops: int = 0

    def can_run(self) -> bool:
        return not self.done and (self.ready is None or self.ready())


Option = tuple[Task, bool]
"""Who may go on, and whether by its deadline."""


class Carrier:
    """A real thread that runs task after task."""

    spare: list[Carrier] = []

    def __init__(self) -> None:
        self._go = _thread.allocate_lock()
        self._go.acquire()
        self._job: Callable[[], None] | None = None
        _thread.start_new_thread(self._live, ())

    @classmethod
    def start(cls, job: Callable[[], None]) -> None:
        carrier = cls.spare.pop() if cls.spare else cls()
        carrier._job = job
        carrier._go.release()

    def _live(self) -> None:
        while True:
            self._go.acquire()
            job, self._job = self._job, None
            assert job is not None
            job()
            del job
            self.spare.append(self)


class Machine(System):
    """Threads, locks, signals and time, in the order of a plan.

    `early`: the names of the threads whose deadlines may come at any time; those of others come when
    nobody can run.
    """

    def __init__(self, plan: PlanLike, early: frozenset[str] = frozenset()) -> None:
        self.now = 1000.0
        self.saved: list[str] = []  # whose deadlines came because nobody could run
        self._plan = plan
        self._early = early
        self._tasks: list[Task] = []
        self._current: Task | None = None
        self._exploring = False
        self._awaited: set[str] = set()
        self._errors: list[str] = []
        self._stopped = False
        self._over = _thread.allocate_lock()
        self._over.acquire()

    # -- what System offers -----------------------------------------------------------------------

    def monotonic(self) -> float:
        return self.now

    def get_ident(self) -> int:
        return self._current.number if self._current is not None else 0

    def lock(self) -> AbstractContextManager[object]:
        return _Lock(self)

    def signal(self) -> Signal:
        return _Signal(self)

    def spawn(self, target: Callable[[], object], name: str) -> None:
        if not self._stopped:  # or a housekeeper that is stopped would be followed by the next
            self._add(name.rpartition(" ")[2], target)

    def sleep(self, seconds: float) -> None:
        self.block(lambda: False, seconds)

    def collect_garbage(self) -> None:
        """Nothing: what runs in a finalizer shall run by count of references only."""

    def random(self) -> float:
        return 0.5

    # -- for bodies -------------------------------------------------------------------------------

    @property
    def alive(self) -> list[str]:
        """The names of the threads that have not ended, without the first."""
        return [task.name for task in self._tasks[1:] if not task.done]

    def start(self, name: str, body: Callable[[], object]) -> None:
        """Run `body` as a thread, in the plain order, until it and all else have come to rest."""
        self._add(name, body)
        self._awaited.add(name)
        self.rest()

    def rest(self) -> None:
        """Let all others run, in the plain order, until none can."""
        self._let_others_run(lambda: True)

    def together(self, workers: dict[str, Callable[[], object]]) -> None:
        """Run these as threads, in the order of the plan, until they and those that `start` began have
        ended, and all else has come to rest."""
        for name, body in workers.items():
            self._add(name, body)
        self._awaited.update(workers)
        self._exploring = True
        try:
            self._let_others_run(lambda: self._awaited.isdisjoint(self.alive))
        finally:
            self._exploring = False

    def _let_others_run(self, until: Callable[[], bool]) -> None:
        me = self._current
        assert me is not None
        me.last = True
        try:
            self.block(until, None)
        finally:
            me.last = False

    def point(self, *_: object) -> None:
        """Another thread may go on here."""
        task = self._current
        if task is None or not self._exploring:
            return
        plan = self._plan
        plan.step += 1
        if plan.step >= plan.look_at and not self._stopped:
            self._switch(task)
        elif plan.step > STEPS:
            self._fail("this never ends")
            raise _Stop

    def block(self, ready: Callable[[], bool], timeout: float | None) -> bool:
        """Let others run until `ready()`; False if `timeout` came first."""
        task = self._current
        assert task is not None, "only threads of the machine may wait"
        task.ready, task.fired = ready, False
        task.deadline = None if timeout is None else self.now + max(timeout, 0.0)
        self._plan.step += self._exploring
        self._switch(task)
        if self._stopped:
            self._stop(task)
        return not task.fired

    # -- running ----------------------------------------------------------------------------------

    def run(self, body: Callable[[], object]) -> None:
        """Run `body` as the first thread. Raises `Wrong` if it, or any other thread, failed."""
        self._current = self._add("judge", body)
        points.listener = self.point
        self._current.baton.release()
        in_time = self._over.acquire(timeout=PATIENCE)
        points.listener = self._current = None
        if not in_time:
            raise RuntimeError(f"a thread blocks behind the machine's back; {self._plan}")
        if self._errors:
            raise Wrong("\n".join([*self._errors, *self._plan.trail, f"schedule: {self._plan}"]))

    def _add(self, name: str, body: Callable[[], object]) -> Task:
        baton = _thread.allocate_lock()
        baton.acquire()
        task = Task(len(self._tasks), name, body, baton)
        self._tasks.append(task)
        Carrier.start(lambda: self._live(task))
        return task

    def _live(self, task: Task) -> None:
        task.baton.acquire()
        body, task.body = task.body, None
        try:
            if body is not None and not self._stopped:
                # The first thread's own steps are not explored.
                with points.traced() if task.number else nullcontext():
                    body()
        except _Stop:
            pass
        except BaseException as exc:
            self._fail(f"{task.name}: {_story(exc)}")
        del body
        task.done = True
        following = self._following(task)
        if following is None:
            self._over.release()
        else:
            self._current = following
            following.baton.release()

    def _following(self, ended: Task) -> Task | None:
        """Who runs when a task has ended. None: nobody is left."""
        if not self._stopped:
            self._plan.step += self._exploring
            following = self._choose(ended)
            if following is not None:
                return following
            if any(not task.done for task in self._tasks):
                self._fail(self._deadlock())
        return next((task for task in self._tasks if not task.done), None)

    def _switch(self, task: Task) -> None:
        if self._stopped:
            return
        following = self._choose(task)
        if following is None:
            self._fail(self._deadlock())
        elif following is not task:
            self._current = following
            following.baton.release()
            task.baton.acquire()

    def _stop(self, task: Task) -> None:
        task.stops += 1
        while task.stops > STUBBORN:
            task.baton.acquire()
        raise _Stop

    def _fail(self, text: str) -> None:
        if not self._stopped:
            self._errors.append(text)
        self._stopped = True

    def _deadlock(self) -> str:
        waiting = ", ".join(task.name for task in self._tasks if not task.done)
        return f"nobody can ever go on: {waiting}"

    # -- choosing ---------------------------------------------------------------------------------

    def _choose(self, task: Task) -> Task | None:
        options = self._options(task)
        if not options:
            return None
        choice = 0
        if self._exploring and len(options) > 1:
            stays = options[0][0] is task
            costs = (0, *(int(stays or early) for _, early in options[1:]))
            choice = self._plan.choose(costs)
            if choice >= len(options):
                self._fail("not the same run again: something outside the machine decides")
                return None
            if choice:
                self._note(task, options[choice])
        chosen, by_deadline = options[choice]
        if by_deadline:
            self._let_time_pass(chosen)
        chosen.ready = chosen.deadline = None
        return chosen

    def _options(self, task: Task) -> list[Option]:
        """Who may go on; the plain choice first."""
        ready = [(other, False) for other in self._tasks if not other.last and other.can_run()]
        if task.can_run() and not task.last:
            ready.remove((task, False))
            ready.insert(0, (task, False))
        if not ready:
            ready = [(other, False) for other in self._tasks if other.can_run()]
        sleeping = [
            other for other in self._tasks if other.deadline is not None and not other.can_run()
        ]
        if not ready and sleeping:
            first = min(sleeping, key=lambda other: other.deadline or 0.0)
            self.saved.append(first.name)
            return [(first, True)]
        if not self._exploring:
            return ready[:1]
        return ready + [(other, True) for other in sleeping if other.name in self._early]

    def _let_time_pass(self, task: Task) -> None:
        task.fired = True
        self.now = max(self.now, task.deadline or 0.0)

    def _note(self, task: Task, option: Option) -> None:
        what = "whose time has come" if option[1] else "goes on"
        self._plan.trail.append(f"  {task.name} at {_where(task)}: {option[0].name} {what}")


class _Lock:
    """A re-entrant lock."""

    __slots__ = ("_count", "_machine", "_owner")

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._owner: Task | None = None
        self._count = 0

    def __enter__(self) -> _Lock:
        machine = self._machine
        machine.point()
        me = machine._current
        if self._owner is not None and self._owner is not me:
            machine.block(lambda: self._owner is None, None)
        self._owner = me
        self._count += 1
        return self

    def __exit__(self, *exc: object) -> None:
        self._count -= 1
        if self._count == 0:
            self._owner = None


class _Signal(Signal):
    """As `system.Signal`."""

    __slots__ = ("_flag", "_machine")

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._flag = False

    def set(self) -> None:
        self._flag = True

    def wait(self, timeout: float | None = None) -> bool:
        self._machine.block(lambda: self._flag, timeout)
        flag, self._flag = self._flag, False
        return flag


def _where(task: Task) -> str:
    """Where the running thread is, outside these modules."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code.co_filename in (__file__, points.__file__):
        frame = frame.f_back
    if frame is None or task.done:
        return "its end"
    code = frame.f_code
    return f"{code.co_filename.rpartition('/')[2]}:{frame.f_lineno} {code.co_name}"


def _story(exc: BaseException) -> str:
    lines = traceback.format_exception(type(exc), exc, exc.__traceback__)
    return "".join(lines[-4:]).strip()
