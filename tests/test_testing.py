"""The virtual clock: its turns, its time, its end, and what it finds fault with."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator

import pytest

from dbapi_pool.system import REAL, Signal, System
from dbapi_pool.testing import AllBlocked, VirtualClock


@pytest.fixture
def clock() -> Iterator[VirtualClock]:
    with VirtualClock() as made:
        yield made


class Log(list[str]):
    """Notes who got to which point, when."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock

    def note(self, what: str) -> None:
        self.append(f"{what}@{self.clock.monotonic() - 1000:g}")

    def sleeper(self, name: str, seconds: float) -> None:
        self.clock.sleep(seconds)
        self.note(name)


# -- turns ----------------------------------------------------------------------------------------


def test_ready_tasks_run_first_come_first_served(clock: VirtualClock) -> None:
    log = Log(clock)
    for name in "abc":
        clock.start(log.note, name)
    assert log == []
    clock.run()
    assert log == ["a@0", "b@0", "c@0"]


def test_signals_wake_their_waiters_in_the_order_in_which_they_were_set(
    clock: VirtualClock,
) -> None:
    log: list[int] = []
    signals = [clock.signal() for _ in range(3)]

    def wait(number: int) -> None:
        assert signals[number].wait()
        log.append(number)

    for number in range(3):
        clock.start(wait, number)
    clock.run()
    for number in (2, 0, 1):
        signals[number].set()
    assert log == []
    clock.run()
    assert log == [2, 0, 1]


def test_set_does_not_switch_tasks(clock: VirtualClock) -> None:
    log = Log(clock)
    signal = clock.signal()

    def setter() -> None:
        signal.set()
        log.note("setter")

    def waiter() -> None:
        signal.wait()
        log.note("waiter")

    clock.start(waiter)
    clock.start(setter)
    clock.run()
    assert log == ["setter@0", "waiter@0"]


def test_yield_goes_to_the_end_of_the_line(clock: VirtualClock) -> None:
    log = Log(clock)

    def polite(name: str) -> None:
        log.note(name)
        clock.yield_()
        log.note(name)

    clock.start(polite, "a")
    clock.start(polite, "b")
    clock.run()
    assert log == ["a@0", "b@0", "a@0", "b@0"]


def test_the_test_itself_may_wait_for_a_task(clock: VirtualClock) -> None:
    signal = clock.signal()
    clock.start(signal.set)
    assert signal.wait(5.0)
    assert clock.monotonic() == 1000.0


def test_each_task_has_a_stable_number_and_the_test_is_one(clock: VirtualClock) -> None:
    tasks = [clock.start(clock.get_ident) for _ in range(3)]
    assert clock.get_ident() == 1
    assert [task.result() for task in tasks] == [2, 3, 4]
    assert [task.number for task in tasks] == [2, 3, 4]


# -- signals --------------------------------------------------------------------------------------


@pytest.mark.parametrize("system", [REAL, VirtualClock()], ids=["real", "virtual"])
def test_a_signal_set_twice_before_the_wait_is_remembered_once(system: System) -> None:
    signal = system.signal()
    signal.set()
    signal.set()
    assert signal.wait(0.0)
    assert not signal.wait(0.0)


def test_a_signal_set_twice_during_the_wait_wakes_once(clock: VirtualClock) -> None:
    signal = clock.signal()
    task = clock.start(lambda: (signal.wait(), signal.wait(1.0)))
    clock.run()
    signal.set()
    signal.set()
    assert task.result() == (True, False)


def test_a_signal_may_be_set_by_a_weakref_callback(clock: VirtualClock) -> None:
    signal = clock.signal()

    class Dropped:
        pass

    def drop() -> None:
        thing = Dropped()
        thing_ref.append(weakref.ref(thing, lambda _: signal.set()))

    thing_ref: list[object] = []
    task = clock.start(signal.wait)
    clock.start(drop)
    clock.run()
    assert task.result() is True


def test_a_signal_may_be_set_while_a_lock_is_held(clock: VirtualClock) -> None:
    signal = clock.signal()
    task = clock.start(signal.wait)
    clock.run()
    with clock.lock():
        signal.set()
    assert task.result() is True


def test_a_signal_may_be_set_by_a_thread_that_is_no_task(clock: VirtualClock) -> None:
    signal = clock.signal()
    task = clock.start(signal.wait)
    clock.run()
    seen: list[float] = []

    def outsider() -> None:
        signal.set()
        seen.extend([clock.monotonic(), clock.get_ident()])

    thread = threading.Thread(target=outsider)
    thread.start()
    thread.join()
    assert task.result() is True
    assert seen[0] == 1000.0
    assert seen[1] < 0


def test_a_thread_that_is_no_task_is_told_so_when_it_waits(clock: VirtualClock) -> None:
    errors: list[str] = []

    def outsider() -> None:
        for wait in (clock.signal().wait, lambda: clock.sleep(1.0), clock.run):
            with pytest.raises(RuntimeError) as info:
                wait()
            errors.append(str(info.value))

    thread = threading.Thread(target=outsider, name="outsider")
    thread.start()
    thread.join()
    assert errors == ["thread 'outsider' is no task of this clock: begin it with clock.start()"] * 3


def test_two_tasks_that_wait_for_one_signal_are_found_out(clock: VirtualClock) -> None:
    signal = clock.signal()
    clock.start(signal.wait, name="first")
    second = clock.start(signal.wait)
    with pytest.raises(AssertionError, match=r"two tasks wait for one signal; .*'first'"):
        second.result()


# -- time -----------------------------------------------------------------------------------------


def test_time_jumps_to_the_earliest_deadline_when_nobody_is_ready(clock: VirtualClock) -> None:
    log = Log(clock)
    clock.start(log.sleeper, "late", 3600.0)
    clock.start(log.sleeper, "early", 0.5)
    assert clock.signal().wait(7200.0) is False
    assert log == ["early@0.5", "late@3600"]
    assert clock.monotonic() == 1000.0 + 7200.0


def test_equal_deadlines_wake_in_the_order_of_the_waits(clock: VirtualClock) -> None:
    log = Log(clock)
    for name in "abc":
        clock.start(log.sleeper, name, 1.0)
    clock.advance(1.0)
    assert log == ["a@1", "b@1", "c@1"]


def test_run_does_not_move_the_time(clock: VirtualClock) -> None:
    task = clock.start(clock.sleep, 0.001)
    clock.run()
    assert clock.monotonic() == 1000.0
    assert task.blocked
    assert not task.done


def test_advance_stops_at_every_deadline_and_ends_exactly(clock: VirtualClock) -> None:
    log = Log(clock)

    def ticker() -> None:
        while True:
            clock.sleep(1.0)
            log.note("tick")

    clock.spawn(ticker, "ticker")
    clock.start(log.sleeper, "once", 2.5)
    clock.advance(3.25)
    assert log == ["tick@1", "tick@2", "once@2.5", "tick@3"]
    assert clock.monotonic() == 1003.25


def test_advance_runs_what_wakes_at_its_very_end(clock: VirtualClock) -> None:
    log = Log(clock)

    def early_and_late() -> None:
        log.sleeper("first", 2.0)
        clock.start(log.note, "child")

    clock.start(early_and_late)
    clock.advance(2.0)
    assert log == ["first@2", "child@2"]


def test_a_wait_of_no_seconds_lets_the_others_run(clock: VirtualClock) -> None:
    signal = clock.signal()
    clock.start(signal.set)
    assert signal.wait(0.0) is True
    assert signal.wait(-1.0) is False


def test_a_wait_for_infinity_has_no_deadline(clock: VirtualClock) -> None:
    task = clock.start(clock.signal().wait, float("inf"))
    clock.advance(1e9)
    assert task.blocked


def test_time_does_not_go_back(clock: VirtualClock) -> None:
    with pytest.raises(ValueError, match="time does not go back"):
        clock.advance(-1.0)


def test_deadlines_that_are_past_do_not_pile_up(clock: VirtualClock) -> None:
    signal = clock.signal()
    for _ in range(1000):
        clock.start(signal.set)
        assert signal.wait(30.0)
    assert len(clock._timers) < 200


# -- what goes wrong ------------------------------------------------------------------------------


def test_a_deadlock_is_raised_in_the_test_and_names_each_task_and_its_place(
    clock: VirtualClock,
) -> None:
    signal = clock.signal()

    def wait_for_godot() -> None:
        signal.wait()

    clock.start(wait_for_godot, name="vladimir")
    line = wait_for_godot.__code__.co_firstlineno + 1
    with pytest.raises(AllBlocked) as info:
        clock.signal().wait()
    text = str(info.value)
    assert "every task waits, and nobody has a deadline, at 1000 s" in text
    assert f"2 'vladimir' blocked: test_testing.py:{line} in wait_for_godot" in text
    assert "1 'test' blocked: test_testing.py:" in text


def test_after_a_deadlock_the_clock_goes_on(clock: VirtualClock) -> None:
    signal = clock.signal()
    task = clock.start(signal.wait)
    with pytest.raises(AllBlocked):
        task.result()
    signal.set()
    assert task.result() is True


def test_a_test_that_waits_while_others_are_busy_for_ever_is_told(clock: VirtualClock) -> None:
    clock._patience = 50

    def ticker() -> None:
        while True:
            clock.sleep(1.0)

    clock.spawn(ticker, "ticker")
    with pytest.raises(AllBlocked, match="50 switches without a turn for the test"):
        clock.signal().wait()


def test_what_a_task_raises_comes_out_of_its_result(clock: VirtualClock) -> None:
    def fail() -> None:
        raise KeyError("x")

    task = clock.start(fail)
    with pytest.raises(KeyError):
        task.result()
    assert task.done
    assert isinstance(task.exception, KeyError)
    clock.check()


@pytest.mark.parametrize("surface", ["run", "check", "advance"])
def test_what_a_background_task_raises_comes_out_in_the_test_once(surface: str) -> None:
    def fail() -> None:
        raise KeyError("x")

    with VirtualClock() as clock:
        clock.spawn(fail, "worker")
        clock.sleep(1.0)
        with pytest.raises(KeyError):
            clock.advance(1.0) if surface == "advance" else getattr(clock, surface)()
        clock.run()


def test_what_a_background_task_raised_comes_out_of_the_with_statement_at_the_latest() -> None:
    def die() -> None:
        raise KeyboardInterrupt

    def use() -> None:
        with VirtualClock() as clock:
            clock.spawn(die, "worker")
            clock.sleep(1.0)

    with pytest.raises(AssertionError, match="a background task died of KeyboardInterrupt"):
        use()


def test_a_deadlock_has_the_death_of_a_background_task_as_its_cause(clock: VirtualClock) -> None:
    def fail() -> None:
        raise KeyError("x")

    clock.spawn(fail, "worker")
    with pytest.raises(AllBlocked) as info:
        clock.signal().wait()
    assert isinstance(info.value.__cause__, KeyError)


def test_waiting_while_holding_a_lock_is_found_out(clock: VirtualClock) -> None:
    lock = clock.lock()
    for wait in (clock.signal().wait, lambda: clock.sleep(1.0), clock.yield_):
        with pytest.raises(AssertionError, match=r"waits while holding the lock made at test_te"):
            with lock:
                wait()
        with pytest.raises(AssertionError, match="waits while holding"):
            clock.check()


def test_a_misuse_of_a_lock_is_found_out_even_if_the_code_swallows_it(clock: VirtualClock) -> None:
    def careless() -> None:
        try:
            with clock.lock():
                clock.sleep(1.0)
        except AssertionError:
            pass

    clock.spawn(careless, "worker")
    with pytest.raises(AssertionError, match="'worker' waits while holding"):
        clock.run()


def test_a_lock_can_be_taken_again_by_its_holder_and_still_forbids_waiting(
    clock: VirtualClock,
) -> None:
    lock = clock.lock()
    with lock, lock:
        pass
    with lock:
        with lock:
            pass
        with pytest.raises(AssertionError, match="waits while holding"):
            clock.sleep(1.0)
    with pytest.raises(AssertionError, match="waits while holding"):
        clock.check()


def test_a_waiting_task_can_be_interrupted(clock: VirtualClock) -> None:
    signal = clock.signal()
    task = clock.start(signal.wait)
    clock.run()
    task.throw(KeyboardInterrupt())
    signal.set()
    with pytest.raises(KeyboardInterrupt):
        task.result()
    assert signal.wait(0.0), "a signal set at the same instant stays set"


def test_a_task_that_does_not_wait_cannot_be_interrupted(clock: VirtualClock) -> None:
    task = clock.start(int)
    with pytest.raises(RuntimeError, match="does not wait"):
        task.throw(KeyboardInterrupt())


def test_a_machine_out_of_threads_can_be_played(clock: VirtualClock) -> None:
    clock.spawn_error = RuntimeError("can't start new thread")
    with pytest.raises(RuntimeError, match="can't start new thread"):
        clock.spawn(int, "worker")


# -- repeatable -----------------------------------------------------------------------------------


def play(seed: int) -> list[str]:
    with VirtualClock(seed=seed) as clock:
        log = Log(clock)
        signals = [clock.signal() for _ in range(4)]

        def player(number: int) -> None:
            for _ in range(20):
                clock.sleep(clock.random())
                signals[number].set()
                log.note(f"{number} {signals[number - 1].wait(clock.random() / 2)}")

        for number in range(4):
            clock.start(player, number)
        clock.advance(100.0)
        return log


def test_the_same_seed_gives_the_same_course_of_events() -> None:
    first = play(7)
    assert len(first) == 80
    assert first == play(7) != play(8)


# -- the end --------------------------------------------------------------------------------------


def test_close_ends_every_thread_and_runs_its_finally_clauses() -> None:
    before = threading.active_count()
    ended: list[str] = []

    def worker(wait: object) -> None:
        try:
            assert callable(wait)
            wait()
        finally:
            ended.append("worker")

    clock = VirtualClock()
    clock.spawn(lambda: worker(clock.signal().wait), "a")
    clock.spawn(lambda: worker(lambda: clock.sleep(3600.0)), "b")
    clock.start(worker, clock.yield_)
    clock.run()
    clock.start(worker, clock.yield_)
    assert threading.active_count() > before
    clock.close()
    clock.close()
    assert threading.active_count() == before
    assert ended == ["worker"] * 3


def test_what_tasks_do_while_they_are_unwound_is_nobody_s_fault() -> None:
    clock = VirtualClock()

    def clumsy() -> None:
        try:
            clock.sleep(1.0)
        finally:
            clock.spawn(int, "too late")
            raise KeyError("unwound")

    clock.spawn(clumsy, "worker")
    clock.run()
    clock.close()
    clock.check()


def test_a_task_that_swallows_its_end_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dbapi_pool.testing.clock._JOIN", 0.05)
    clock = VirtualClock()

    def stubborn() -> None:
        while True:
            try:
                clock.sleep(1.0)
            except BaseException:
                pass

    clock.spawn(stubborn, "mule")
    clock.run()
    with pytest.raises(AssertionError, match=r"swallow their end: <Task 2 'mule'"):
        clock.close()


def test_after_the_end_nothing_blocks_and_finalizers_do_no_harm() -> None:
    clock = VirtualClock()
    signal: Signal = clock.signal()
    clock.close()
    clock.sleep(10.0)
    clock.spawn(int, "worker")
    with clock.lock():
        assert signal.wait(1.0) is False
        signal.set()
        assert signal.wait() is True
    with pytest.raises(RuntimeError, match="closed"):
        signal.wait()
    for act in (clock.run, lambda: clock.start(int)):
        with pytest.raises(RuntimeError, match="closed"):
            act()
    assert (clock.get_ident(), clock.monotonic()) == (1, 1000.0)


def test_only_the_test_may_close_the_clock(clock: VirtualClock) -> None:
    with pytest.raises(RuntimeError, match="only the test"):
        clock.start(clock.close).result()


def test_a_task_that_was_unwound_has_no_result() -> None:
    clock = VirtualClock()
    task = clock.start(clock.sleep, 1.0)
    clock.run()
    clock.close()
    assert not task.done
    with pytest.raises(RuntimeError, match="closed"):
        task.result()


def test_what_a_task_leaves_behind_is_freed_in_its_turn(clock: VirtualClock) -> None:
    freed: list[int] = []

    class Thing:
        def __del__(self) -> None:
            freed.append(threading.get_ident())

    clock.start(Thing)
    clock.run()
    gc.collect()
    assert len(freed) == 1


def test_a_thousand_clocks_come_and_go() -> None:
    before = threading.active_count()
    for _ in range(1000):
        with VirtualClock() as clock:
            clock.spawn(clock.signal().wait, "idle")
            assert clock.start(clock.sleep, 1.0).result() is None
    assert threading.active_count() == before
