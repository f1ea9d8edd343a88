"""Worlds in which a pool is struck: a pool over a fake driver and a virtual clock, and the judge.

A world is cheap, since there is one for each injection. `judge` says what is wrong with the pool
after an operation was interrupted. It must never know where the exception came from.
"""

from __future__ import annotations

import _thread
import functools
import gc
import weakref
from collections.abc import Callable
from typing import Any

from builds import FREE
from injector import Injector

from dbapi_pool import Pool, PoolError, PoolTimeout
from dbapi_pool.testing import FakeDriver, VirtualClock
from dbapi_pool.testing.clock import Task, _Wait

CALLER = "caller"
CUT_SHORT = "cut short"
# Seconds in which everybody must have been served. Without the GIL, what one thread made and another
# dropped may be noticed by the housekeeper's search only, which comes every ten seconds (`ledger`).
PATIENCE = 25.0 if FREE else 10.0
_LONG = 60.0  # between two routine looks of the housekeeper: it shall not come to help by chance


class HonestLock(_thread.RLock):
    """As `System.lock`, but a lock that was left held is an error and no standstill."""

    def __enter__(self) -> bool:  # type: ignore[override]
        if not self.acquire(True, 5.0):
            raise AssertionError("a lock was left held, and now somebody needs it")
        return True

    @property
    def held(self) -> bool:
        """Whether any thread holds it."""
        return "unlocked" not in repr(self)


class StruckClock(VirtualClock):
    """Lets the injector into the tasks that shall be struck.

    Real threads cost time, so openers and hands, which hardly ever wait, run on the stack of whoever
    waits for them, and so does a housekeeper that is not to be struck, look by look.
    """

    def __init__(self, injector: Injector | None, victim: str) -> None:
        super().__init__()
        self.locks: list[HonestLock] = []
        self._injector = injector
        self._victim = victim
        self._inline: dict[Task, Callable[[Task], object]] = {}
        self._stacked = 0  # how many of them there are now

    def lock(self) -> Any:
        self.locks.append(HonestLock())
        return self.locks[-1]

    def check(self) -> None:
        """Nothing: `judge` looks at what background tasks died of."""

    def forget_failures(self) -> list[BaseException]:
        """What background tasks died of."""
        failures, self._failures = self._failures, []
        return failures

    def spawn(self, target: Any, name: str) -> None:
        super().spawn(target, name)
        if self._closing:
            return
        task = self.tasks[-1]
        if "housekeeper" not in name:
            self._inline[task] = self._do_inline
        elif self._victim not in name:
            self._inline[task] = functools.partial(self._look, target)

    # -- without a thread -------------------------------------------------------------------------

    def _next(self) -> Task:
        while (run := self._inline.get(task := super()._next())) is not None:
            self._on_this_stack(task, functools.partial(run, task))
        return task

    def _on_this_stack(self, task: Task, run: Callable[[], object]) -> None:
        me = _thread.get_ident()
        mine = self._by_thread.get(me)
        entered = self._injector is not None and self._injector.entered
        if self._injector is not None and entered:
            self._injector.leave()
        self._by_thread[me] = task
        self._stacked += 1
        try:
            run()
        finally:
            self._stacked -= 1
            self._by_thread.pop(me)
            if mine is not None:
                self._by_thread[me] = mine
            if self._injector is not None and entered:
                self._injector.enter()

    def sleep(self, seconds: float) -> None:
        if self._stacked:  # who is below cannot go on meanwhile
            self._now += seconds
        else:
            super().sleep(seconds)

    def _do_inline(self, task: Task) -> None:
        del self._inline[task]
        self._struck_if_victim(task, task._run)
        del self._alive[task.number]

    def _look(self, job: Any, task: Task) -> None:
        """One turn of the loop in `keeper._keep_house`."""
        keeper_ref, signal = job.args
        signal._wait = None
        signal._consume()
        keeper = keeper_ref()
        delay = keeper.look() if keeper is not None else None
        if delay is None:
            del self._inline[task], self._alive[task.number]
            return
        wait = _Wait(task, signal)
        if signal._flag:
            self._ready.append(wait)
        else:
            signal._wait = wait
            self._add_timer((self._now + delay, 0, next(self._order), wait))

    # -- with one ---------------------------------------------------------------------------------

    def _do_task(self, task: Task) -> None:
        self._struck_if_victim(task, functools.partial(super()._do_task, task))

    def _struck_if_victim(self, task: Task, run: Callable[[], object]) -> None:
        injector = self._injector
        if injector is None or self._victim not in task.name:
            run()
            return
        injector.enter()
        try:
            run()
        finally:
            injector.leave()

    def _guarded(self, target: Callable[[], object], name: str) -> Callable[[], Any]:
        def body() -> None:
            try:
                target()
            except BaseException as exc:
                if type(exc).__module__.startswith("dbapi_pool."):  # the clock's own
                    raise
                # Without what its frames hold, as where threads are real.
                self._failures.append(exc.with_traceback(None))

        return body


class HonestFake(FakeDriver):
    """A connection that nobody holds is closed by its own finalizer, as with real drivers."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock)
        self._live: Any = weakref.WeakValueDictionary()

    @property
    def abandoned(self) -> int:
        """How many were left to their finalizers."""
        return self.opened - self.closed - self.open


class World:
    """One pool, and who borrows from it."""

    def __init__(
        self, injector: Injector | None = None, victim: str = CALLER, local: bool = False,
        make: Callable[..., Pool] = Pool, **settings: Any,
    ) -> None:  # fmt: skip
        self.local = local
        self.clock = StruckClock(injector, victim)
        self.fake = HonestFake(self.clock)
        self.bound = settings.setdefault("max_size", 2)
        settings.setdefault("ping_timeout", _LONG)
        settings.setdefault("idle_timeout", 4 * _LONG)
        self.pool = make(
            self.fake, driver=self.fake.driver(local=local), clock=self.clock, **settings
        )
        self.held: list[Any] = []
        self.raw: list[Any] = []
        self.tasks: list[Task] = []

    # -- what scenarios do ------------------------------------------------------------------------

    def take(self, count: int = 1) -> None:
        """Borrow."""
        for _ in range(count):
            self.held.append(self.pool.connection(PATIENCE))

    def take_all(self) -> None:
        """Borrow all, as if for other threads."""
        self.warm()
        self.take(self.pool.max_size)
        for handle in self.held:
            handle._lease.member.thread = 0

    def back(self) -> None:
        """Give everything back."""
        while self.held:
            self.held[-1].close()
            self.held.pop()

    def warm(self) -> None:
        """Have all open and idle; in this thread, since threads cost time."""
        ledger, keeper = self.pool._ledger, self.pool._keeper
        before, ledger.min_size = ledger.min_size, ledger.max_size
        while (lease := keeper._claim()) is not None:
            keeper.open(lease)
            keeper.give(lease)
        ledger.min_size = before

    def wait_in_line(self, count: int = 1) -> None:
        """Others wait for connections, and give them back."""
        for _ in range(count):
            self.tasks.append(self.clock.start(self._borrow, name="other"))
        self.clock.run()

    def _borrow(self) -> None:
        self.pool.connection(PATIENCE).close()

    def later(self, act: Callable[[], object], name: str) -> None:
        """Somebody else does something in a second."""

        def wait() -> None:
            try:
                self.clock.sleep(1.0)
                act()
            except Exception:
                raise
            except BaseException as exc:  # a strike, whose frames nobody shall keep
                if type(exc).__module__.startswith("dbapi_pool."):  # the clock's own
                    raise

        self.tasks.append(self.clock.start(wait, name=name))

    def drop(self) -> None:
        """End the world, whatever state it is in."""
        self.held.clear()
        self.raw.clear()
        # By a planted bug a thread may wait for a lock for ever; when it gives up, long after, nobody
        # shall finalize the pool and complain about that lock in the middle of another test.
        self.pool._finalizer.detach()
        self.clock.close()


def judge(world: World, struck: type[BaseException], thorough: bool = True) -> str | None:
    """What is wrong now; None if all is well. `struck`: what was raised. `thorough`: see also whether
    the housekeeper works, and `close()`, which takes several times as long."""
    try:
        return _judge(world, struck, thorough)
    except (AssertionError, PoolError, ArithmeticError, RuntimeError) as exc:
        return f"{type(exc).__name__}: {exc}"[:300]


def _judge(world: World, struck: type[BaseException], thorough: bool) -> str | None:
    if any(lock.held for lock in world.clock.locks):
        return "a lock is left held"
    for failure in world.clock.forget_failures():
        if not isinstance(failure, struck):
            return f"a background task died of {failure!r}"
    waiting = [task for task in world.clock.tasks if task.name == "other" and not task.done]
    line = [waiter for waiter in world.pool._ledger.waiters if not waiter.answered]
    if len(line) > len(waiting):
        return f"somebody stands in line who waits no more: {world.pool!r}"
    _go_on(world)
    gc.collect()
    world.clock.run()
    for task in world.tasks:
        if not _is_served(task, struck):
            return f"{task!r} was not served: {task.exception!r}"
    if world.pool.closed:
        return _end(world)
    wrong = _capacity(world) or _figures(world) or _house(world, thorough)
    return wrong or (_end(world) if thorough else None)


def _go_on(world: World) -> None:
    """What a correct program does after the interrupt."""
    world.fake.calm()
    while world.held:
        world.held.pop().close()
    while world.raw:
        world.raw.pop().close()
    if world.pool.stats().state == "suspended":
        world.pool.resume()


def _is_served(task: Task, struck: type[BaseException]) -> bool:
    try:
        task.result()
    except struck:
        task.exception = None
    except PoolError as exc:  # unless an opener was struck, and its borrower was told
        return CUT_SHORT in str(exc)
    return True


def _capacity(world: World) -> str | None:
    """All can be borrowed at once, and no more."""
    pool, fake = world.pool, world.fake
    handles: list[Any] = []
    while len(handles) < pool.max_size:
        try:
            handles.append(pool.connection(PATIENCE))
        except PoolError as exc:
            return f"capacity: {len(handles)} of {pool.max_size}: {type(exc).__name__}, {pool!r}"
    for handle in handles:
        handle.execute("SELECT 1")
    if len({handle.number for handle in handles}) < len(handles):
        return "one connection was lent twice"
    try:
        pool.connection(0)
    except PoolTimeout:
        pass
    else:
        return "more than max_size were lent"
    if fake.open + fake.opening != pool.max_size + pool.stats().closing:
        return f"the driver has {fake.open} open, the pool lent {pool.max_size}"
    for handle in handles:
        handle.close()
    return None


def _figures(world: World) -> str | None:
    """Everything adds up, and nothing is left behind."""
    world.clock.run()
    pool, fake = world.pool, world.fake
    stats, ledger, keeper = pool.stats(), pool._ledger, pool._keeper
    if fake.open != stats.size or stats.size != stats.idle or fake.opening:
        return f"the driver has {fake.open} open, {pool!r}"
    if stats.opening + stats.checking + stats.cleaning + stats.closing + stats.waiting:
        return f"something is under way for ever: {stats}"
    wishes = [ref for ref in [*ledger.wishes, *keeper._watchers] if ref() is not None]
    if ledger.waiters or wishes or keeper._crew._jobs:
        return f"left behind: {ledger.waiters}, {wishes}, {keeper._crew._jobs}"
    if fake.peak > world.bound:
        return f"{fake.peak} were open at once"
    # Nobody can know whether a close that was struck had ended: it is tried again.
    violations = [text for text in fake.violations if "closed twice" not in text]
    if violations:
        return f"{violations}"
    return None


def _house(world: World, thorough: bool) -> str | None:
    """Somebody keeps house."""
    if not any("housekeeper" in task.name for task in world.clock.tasks):
        return f"nobody keeps house: {world.pool!r}"
    if not thorough:
        return None
    world.clock.advance(5 * _LONG)
    if world.pool.stats().size != world.pool.min_size:
        return f"nobody keeps house well: {world.pool!r}"
    return _figures(world)


def _end(world: World) -> str | None:
    if not world.pool.close():
        return f"close() leaves something: {world.pool!r}"
    world.clock.run()
    if world.fake.open or world.fake.opening:
        return f"the driver has {world.fake.open} open after close()"
    if world.fake.peak > world.bound:
        return f"{world.fake.peak} were open at once"
    if world.clock.tasks:
        return f"left after close(): {world.clock.tasks}"
    return None
