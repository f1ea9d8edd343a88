"""`VirtualClock`: a machine on which time is a number and threads take turns, for tests.

One thread runs at a time, and hands over only where it waits, so that a test of concurrent code is
as repeatable as one of arithmetic, and a timeout of 30 seconds takes microseconds.
This module must never know what a pool is.
"""

from __future__ import annotations

import _thread
import contextlib
import heapq
import itertools
import os
import random
import sys
import threading
from collections import deque
from collections.abc import Callable, Set
from contextlib import AbstractContextManager
from types import FrameType, TracebackType
from typing import Any

from ..system import Signal, System, variables

_JOIN = 5.0  # real seconds that a thread gets to end in close()
_MANY = 100  # finished threads, or past timers, that are kept before they are swept
_STUBBORN = 100  # a task that swallows its end that often will not end


class AllBlocked(AssertionError):
    """Nobody can ever go on: every task waits, and no deadline will wake one.

    Raised in the test. The message names each task and where it waits.
    """


class _Ended(BaseException):
    """Unwinds a task whose clock was closed."""


class _Wait:
    """One stop of one task. It is over when the task was chosen to go on."""

    __slots__ = ("error", "over", "signal", "task")

    def __init__(self, task: Task, signal: VirtualSignal | None = None) -> None:
        self.task = task
        self.signal = signal
        self.over = False
        self.error: BaseException | None = None

    @property
    def blocked(self) -> bool:
        signal = self.signal
        return self.error is None and not (signal is not None and signal._flag)


class VirtualSignal(Signal):
    """`Signal` on a virtual clock: same meaning, no real waiting."""

    __slots__ = ("_clock", "_flag", "_wait")

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._flag = False
        self._wait: _Wait | None = None

    def set(self) -> None:
        """Wake the waiting task, or the next one to wait. It runs when its turn comes."""
        # May run in a finalizer, in the middle of anything: it only appends. An entry too many
        # does no harm, since the scheduler skips waits that are over.
        self._flag = True
        wait = self._wait
        if wait is not None:
            self._clock._ready.append(wait)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until set; False after `timeout` virtual seconds (None: no limit)."""
        clock = self._clock
        if clock._closing:
            return clock._wait_after_end(self, timeout)
        if self._wait is not None:
            raise clock._misuse(f"two tasks wait for one signal; {self._wait.task!r} was first")
        # Announced before the flag is read, so that a `set` from a finalizer in between is seen.
        self._wait = wait = _Wait(clock._running_task(), self)
        try:
            if not self._flag:
                clock._block(wait, clock._deadline(timeout))
        finally:
            self._wait = None
        return self._consume()

    def _consume(self) -> bool:
        flag, self._flag = self._flag, False
        return flag


class Task:
    """One thread of a `VirtualClock`. Made by `VirtualClock.start`."""

    def __init__(
        self, clock: VirtualClock, number: int, name: str, body: Callable[[], Any] | None
    ) -> None:
        self.number = number
        """What `VirtualClock.get_ident` says inside it; the test is 1, others count from there."""
        self.name = name
        """For people: in messages, and the real thread's name."""
        self.done = False
        """Whether it returned or raised."""
        self.exception: BaseException | None = None
        """What it raised."""
        self.background = False
        """Whether `VirtualClock.spawn` made it."""
        self._clock = clock
        self._body = body
        self._value: Any = None
        self._watchers: list[Signal] = []
        self._held: list[_Lock] = []
        self._wait: _Wait | None = None
        self._thread: threading.Thread | None = None
        self._ends = 0
        self._baton = _thread.allocate_lock()
        self._baton.acquire()

    def __repr__(self) -> str:
        return f"<Task {self.number} {self.name!r} {self._state()}>"

    @property
    def blocked(self) -> bool:
        """True while it waits in a signal or a sleep, and nothing has woken it yet."""
        wait = self._wait
        return wait is not None and wait.blocked

    def result(self) -> Any:
        """Let others run until it ends; what it returned.

        Raises what it raised, `AllBlocked` if it can never end, and `RuntimeError` if the clock
        was closed before it ended.
        """
        while not self.done:
            signal = self._clock.signal()
            self._watchers.append(signal)
            signal.wait()
        if self.exception is not None:
            self._clock._forget_failure(self.exception)
            raise self.exception
        return self._value

    def throw(self, error: BaseException) -> None:
        """Raise `error` where the task waits, when its turn comes: an interrupt, a cancellation.

        A signal that is set at the same instant stays set. Raises `RuntimeError` if the task does
        not wait.
        """
        wait = self._wait
        if wait is None or wait.over:
            raise RuntimeError(f"{self!r} does not wait")
        wait.error = error
        self._clock._ready.append(wait)

    def _state(self) -> str:
        if self.done:
            return "ended"
        if self._body is not None and self._thread is None:
            return "not started"
        return "blocked" if self.blocked else "ready"

    def _resume(self) -> None:
        if self._thread is None and self._body is not None:
            self._clock._launch(self)
        self._baton.release()

    def _park(self) -> None:
        try:
            self._baton.acquire()
        except BaseException:
            # Only the main thread's: Ctrl-C. Two would run now, so nobody is resumed any more.
            self._clock._closing = True
            raise
        if self._clock._closing:
            self._end()

    def _end(self) -> None:
        """Raise `_Ended`, or stop for good a task that does not let it pass."""
        self._ends += 1
        while self._ends > _STUBBORN:
            self._baton.acquire()
        raise _Ended

    def _run(self) -> None:
        body, self._body = self._body, None
        assert body is not None
        try:
            self._value = body()
            self.done = True
        except _Ended:
            pass
        except BaseException as exc:
            if not self._clock._closing:
                self.exception = exc
                self.done = True

    def _wake_watchers(self) -> None:
        for signal in self._watchers:
            signal.set()

    def _stop(self) -> bool:
        """Unwind it, from `close`; False if it does not end."""
        thread = self._thread
        if thread is None:
            self._body = None
            return True
        with contextlib.suppress(RuntimeError):  # it runs: the test left its wait by Ctrl-C
            self._baton.release()
        thread.join(_JOIN)
        return not thread.is_alive()


class _Lock:
    """A re-entrant lock that knows its holder, to catch who waits while holding it."""

    __slots__ = ("_clock", "_lock", "site")

    def __init__(self, clock: VirtualClock, site: str) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self.site = site

    def __enter__(self) -> _Lock:
        task = self._clock._this_task()
        self._lock.acquire()
        if task is not None:
            task._held.append(self)
        return self

    def __exit__(self, *exc: object) -> None:
        self._lock.release()
        task = self._clock._this_task()
        if task is not None and self in task._held:
            task._held.remove(self)


class VirtualClock(System):
    """A deterministic stand-in for `System`. The thread that makes it is its first task: the test.

    Control passes from one task to another only in `Signal.wait`, `sleep`, `run`, `advance`,
    `yield_`, `Task.result`, and where a task ends; then the next ready task runs, first come, first
    served. When none is ready, time jumps to the earliest deadline. A wait of no seconds lets
    everybody who is ready run, too.

    Close it, or use it in a `with` statement: its threads end then, and not before.
    """

    def __init__(self, seed: int = 0, start: float = 1000.0, patience: int = 1_000_000) -> None:
        """`start`: the time at first, in seconds. `seed`: of `random`.

        `patience`: after that many switches between tasks without a turn for the test it gets
        `AllBlocked`: the others are busy with each other for ever.
        """
        self._now = float(start)
        self._random = random.Random(seed)
        self._patience = patience
        self._switches = 0
        self._closing = False
        self._ready: deque[_Wait] = deque()
        self._timers: list[tuple[float, int, int, _Wait]] = []
        self._order = itertools.count()
        self._numbers = itertools.count(1)
        self._alive: dict[int, Task] = {}
        self._by_thread: dict[int, Task] = {}
        self._threads: list[threading.Thread] = []
        self._failures: list[BaseException] = []
        self.spawn_error: BaseException | None = None
        """If set, `spawn` raises it, as a machine does that is out of threads."""
        self._test = self._add_task("test", None)
        self._by_thread[_thread.get_ident()] = self._test

    # -- the machine: what System offers ----------------------------------------------------------

    def monotonic(self) -> float:
        """The virtual time, in seconds."""
        return self._now

    def get_ident(self) -> int:
        """The calling task's number: 1 is the test. Threads that are no task get negative ones."""
        task = self._this_task()
        return task.number if task is not None else -_thread.get_ident()

    def in_reach_of_others(self, idents: Set[int]) -> list[Any] | None:
        """What the tasks other than these, and than those made by `spawn`, have at hand: also those
        that have not had their first turn."""
        if not idents <= self._alive.keys():
            return None
        frames = sys._current_frames()
        me = _thread.get_ident()
        threads = {
            task: frames.get(real) for real, task in list(self._by_thread.items()) if real != me
        }
        # This call's own frame is in it: a cycle, which would keep what the calls that led here hold.
        frames.clear()
        others = [
            task
            for task in list(self._alive.values())
            if task.number not in idents and not task.background
        ]
        return [*others, *(thing for task in others for thing in variables(threads.get(task)))]

    def lock(self) -> AbstractContextManager[object]:
        """A re-entrant lock. To wait while holding it raises `AssertionError`."""
        return _Lock(self, _site(sys._getframe(1)))

    def holds_lock(self) -> bool:
        """Whether the calling task holds a lock made by `lock`."""
        task = self._this_task()
        return task is not None and bool(task._held)

    def signal(self) -> Signal:
        """A new, unset `Signal`."""
        return VirtualSignal(self)

    def spawn(self, target: Callable[[], object], name: str) -> None:
        """Run `target` as a task. What it raises comes out of `run`, `advance` or `check`."""
        if self.spawn_error is not None:
            raise self.spawn_error
        if not self._closing:
            self._start(self._guarded(target, name), name).background = True

    def sleep(self, seconds: float) -> None:
        """Wait that long, in virtual time."""
        if self._closing:
            self._sleep_after_end()
        else:
            self._sleep_until(self._deadline(seconds), last=False)

    def random(self) -> float:
        """A number from 0.0 up to, but not including, 1.0: the same ones for the same seed."""
        return self._random.random()

    # -- the test's side --------------------------------------------------------------------------

    def start(self, fn: Callable[..., Any], *args: Any, name: str | None = None) -> Task:
        """Run `fn(*args)` as a task, from the next time that the caller waits."""
        if self._closing:
            raise RuntimeError("the clock is closed")
        label = name if name is not None else getattr(fn, "__name__", "task")
        return self._start(lambda: fn(*args), str(label))

    def run(self) -> None:
        """Let all others run until each has ended or waits, without moving the time.

        Raises what went wrong in the background: see `check`.
        """
        self.advance(0.0)

    def advance(self, seconds: float) -> None:
        """Move the time on by `seconds`; whoever's deadline comes wakes in order of deadlines.

        Returns when all have had their turn. Raises what went wrong in the background: see `check`.
        """
        if not seconds >= 0.0:
            raise ValueError(f"advance({seconds!r}): time does not go back")
        if self._closing:
            raise RuntimeError("the clock is closed")
        self._sleep_until(self._now + seconds, last=True)
        self.check()

    def yield_(self) -> None:
        """Go to the end of the line of ready tasks."""
        if self._closing:
            return self._sleep_after_end()
        wait = _Wait(self._running_task())
        self._ready.append(wait)
        self._block(wait, None)

    def check(self) -> None:
        """Raise what a task made by `spawn` raised, or a misuse of a lock: each once."""
        if self._failures:
            error = self._failures.pop(0)
            if isinstance(error, Exception):
                raise error
            raise AssertionError(f"a background task died of {error!r}") from error

    @property
    def tasks(self) -> list[Task]:
        """The tasks that have not ended, without the test."""
        return [task for task in self._alive.values() if task is not self._test]

    def close(self) -> None:
        """End every task, by an exception where it waits, and its real thread.

        Then nothing blocks any more: signals and locks work without effect, for finalizers.
        Raises `AssertionError` if a task does not end. Closing twice is fine.
        """
        if self._this_task() not in (self._test, None):
            raise RuntimeError("only the test may close the clock")
        self._closing = True
        stubborn = [repr(task) for task in self.tasks if not task._stop()]
        self._alive.clear()
        self._ready.clear()
        self._timers.clear()
        if stubborn:
            raise AssertionError("these tasks swallow their end: " + ", ".join(stubborn))
        for thread in self._threads:
            thread.join(_JOIN)
        self._threads.clear()

    def __enter__(self) -> VirtualClock:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
        if error is None:
            self.check()

    # -- tasks ------------------------------------------------------------------------------------

    def _add_task(self, name: str, body: Callable[[], Any] | None) -> Task:
        task = Task(self, next(self._numbers), name, body)
        self._alive[task.number] = task
        return task

    def _start(self, body: Callable[[], Any], name: str) -> Task:
        # The real thread is made at its first turn: spawn may be called in a finalizer.
        task = self._add_task(name, body)
        self._ready.append(_Wait(task))
        return task

    def _guarded(self, target: Callable[[], object], name: str) -> Callable[[], Any]:
        def body() -> None:
            try:
                target()
            except _Ended:
                raise
            except BaseException as exc:
                if not self._closing:
                    self._failures.append(exc)

        return body

    def _launch(self, task: Task) -> None:
        thread = threading.Thread(target=self._live, args=([task],), name=task.name, daemon=True)
        task._thread = thread
        if len(self._threads) > _MANY + 2 * len(self._alive):
            self._threads = [old for old in self._threads if old.is_alive()]
        self._threads.append(thread)
        thread.start()

    def _live(self, box: list[Task]) -> None:
        # No reference to the task stays behind in this thread: what it leaves is freed in its turn.
        self._do_task(box.pop())
        if not self._closing:
            self._next()._resume()

    def _do_task(self, task: Task) -> None:
        task._baton.acquire()
        me = _thread.get_ident()
        self._by_thread[me] = task
        if not self._closing:
            task._run()
        if not self._closing:
            del self._alive[task.number]
            task._wake_watchers()
        del self._by_thread[me]

    def _this_task(self) -> Task | None:
        return self._by_thread.get(_thread.get_ident())

    def _running_task(self) -> Task:
        task = self._this_task()
        if task is None:
            name = threading.current_thread().name
            raise RuntimeError(
                f"thread {name!r} is no task of this clock: begin it with clock.start()"
            )
        return task

    def _misuse(self, text: str) -> AssertionError:
        # Kept as well: code that logs and goes on must not hide it from the test.
        error = AssertionError(text)
        self._failures.append(error)
        return error

    def _forget_failure(self, error: BaseException) -> None:
        self._failures = [one for one in self._failures if one is not error]

    # -- waiting ----------------------------------------------------------------------------------

    def _deadline(self, seconds: float | None) -> float | None:
        if seconds is None or seconds == float("inf"):
            return None
        return self._now + max(seconds, 0.0)

    def _sleep_until(self, deadline: float | None, *, last: bool) -> None:
        self._block(_Wait(self._running_task()), deadline, last)

    def _block(self, wait: _Wait, deadline: float | None, last: bool = False) -> None:
        """Hand over until `wait` is chosen. `last`: after all others with the same deadline."""
        task = wait.task
        if task._held:
            raise self._misuse(
                f"task {task.name!r} waits while holding the lock made at {task._held[-1].site}"
            )
        if deadline is not None:
            self._add_timer((deadline, int(last), next(self._order), wait))
        task._wait = wait
        try:
            self._hand_over(task)
        finally:
            wait.over = True
            task._wait = None
        if wait.error is not None:
            raise wait.error

    def _hand_over(self, task: Task) -> None:
        following = self._next()
        if following is not task:
            following._resume()
            task._park()

    def _add_timer(self, timer: tuple[float, int, int, _Wait]) -> None:
        if len(self._timers) > _MANY + 4 * len(self._alive):
            self._timers = [one for one in self._timers if not one[3].over]
            heapq.heapify(self._timers)
        heapq.heappush(self._timers, timer)

    def _next(self) -> Task:
        """Choose who runs now."""
        wait = self._impatient() or self._first_ready() or self._first_timer() or self._deadlock()
        wait.over = True
        self._switches = 0 if wait.task is self._test else self._switches + 1
        return wait.task

    def _first_ready(self) -> _Wait | None:
        while self._ready:
            wait = self._ready.popleft()
            if not wait.over:
                return wait
        return None

    def _first_timer(self) -> _Wait | None:
        while self._timers:
            deadline, _, _, wait = heapq.heappop(self._timers)
            if not wait.over:
                self._now = max(self._now, deadline)
                return wait
        return None

    def _impatient(self) -> _Wait | None:
        if self._switches < self._patience:
            return None
        return self._fail_test(f"{self._switches} switches without a turn for the test")

    def _deadlock(self) -> _Wait:
        return self._fail_test("every task waits, and nobody has a deadline")

    def _fail_test(self, why: str) -> _Wait:
        wait = self._test._wait
        assert wait is not None, "the test waits, or it would be its turn"
        wait.error = AllBlocked(f"{why}, at {self._now:.6g} s:\n{self._describe_tasks()}")
        if self._failures:
            wait.error.__cause__ = self._failures.pop(0)
        return wait

    def _describe_tasks(self) -> str:
        frames = sys._current_frames()
        threads = {task: ident for ident, task in list(self._by_thread.items())}
        lines = []
        for task in list(self._alive.values()):
            frame = frames.get(threads.get(task, 0))
            lines.append(f"  {task.number} {task.name!r} {task._state()}: {_stack(frame)}")
        return "\n".join(lines)

    # -- after the end ----------------------------------------------------------------------------

    def _wait_after_end(self, signal: VirtualSignal, timeout: float | None) -> bool:
        self._sleep_after_end()
        if not signal._flag and timeout is None:
            raise RuntimeError("the clock is closed: nobody will set this signal")
        return signal._consume()

    def _sleep_after_end(self) -> None:
        task = self._this_task()
        if task is not None and task is not self._test:
            task._end()


def _site(frame: FrameType) -> str:
    return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"


def _stack(frame: FrameType | None, depth: int = 4) -> str:
    """The innermost frames outside this module: `file.py:12 in f < file.py:34 in g`."""
    places: list[str] = []
    while frame is not None and len(places) < depth:
        if frame.f_code.co_filename != __file__:
            places.append(f"{_site(frame)} in {frame.f_code.co_name}")
        frame = frame.f_back
    return " < ".join(places) or "-"
