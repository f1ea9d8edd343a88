"""P11 tells: errors say why, to whom it concerns, in the driver's own classes, and keep secrets."""

from __future__ import annotations

import pickle
import sqlite3
import subprocess
import sys
from collections.abc import Callable

import pytest

from dbapi_pool import (
    Pool,
    PoolClosed,
    PoolDeadlock,
    PooledConnection,
    PoolError,
    PoolFull,
    PoolSettingError,
    PoolTimeout,
    PoolUnavailable,
)
from dbapi_pool.errors import for_driver
from dbapi_pool.testing import FakeDriver, VirtualClock

MakePool = Callable[..., Pool]


def line(marker: str) -> str:
    """`file:line` of the one line of this file that ends with the marker."""
    with open(__file__, encoding="utf-8") as source:
        numbers = [n for n, text in enumerate(source, 1) if text.rstrip().endswith(f"# {marker}")]
    return f"{__file__}:{numbers[0]}"


def test_a_timeout_names_sizes_waiters_the_longest_holder_and_the_setting(
    make_pool: MakePool, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=2, name="orders")
    first = pool.connection()  # first
    clock.advance(7.0)
    second = pool.connection()
    other = clock.start(pool.connection, 60.0)

    waiting = clock.start(pool.connection, 3.0)
    with pytest.raises(PoolTimeout) as caught:
        waiting.result()

    text = str(caught.value)
    assert "orders" in text
    assert "after 3.00 s" in text
    assert "2 of max_size=2 lent" in text
    assert "1 waiting" in text
    assert "held for 10.00 s" in text
    assert line("first") in text
    assert "raise max_size" in text
    for handle in (first, second):
        handle.close()
    other.result().close()


def test_a_timeout_carries_the_last_connect_error_as_its_cause(
    make_pool: MakePool, fake: FakeDriver
) -> None:
    pool = make_pool(max_size=1)
    fake.down = True
    with pytest.raises(PoolTimeout, match="OperationalError") as caught:
        pool.connection(timeout=2.0)
    assert isinstance(caught.value.__cause__, fake.OperationalError)
    assert "checkout_timeout" in str(caught.value)


def test_a_timeout_while_connects_are_merely_slow_says_so(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=1)
    fake.on("connect", delay=10.0, times=1)
    with pytest.raises(PoolTimeout, match=r"1 opening.*connecting takes long"):
        pool.connection(timeout=2.0)
    clock.advance(10.0)


@pytest.mark.parametrize(
    ("error", "base"),
    [
        (PoolTimeout, "OperationalError"),
        (PoolUnavailable, "OperationalError"),
        (PoolFull, "OperationalError"),
        (PoolDeadlock, "OperationalError"),
        (PoolClosed, "InterfaceError"),
    ],
)
def test_a_pool_error_is_also_the_drivers_own(error: type[PoolError], base: str) -> None:
    made = for_driver(error, sqlite3)
    assert issubclass(made, error)
    assert issubclass(made, getattr(sqlite3, base))
    assert for_driver(error, sqlite3) is made
    assert for_driver(error, None) is error
    copy = pickle.loads(pickle.dumps(made("why")))
    assert type(copy) is made
    assert str(copy) == "why"


def test_an_error_whose_driver_makes_something_else_of_its_arguments_is_copied_whole() -> None:
    made = for_driver(PoolTimeout, _Elaborate)
    told = made("why")
    there = pickle.loads(pickle.dumps(told))
    assert (str(told), told.number) == ("why", -1)
    assert (type(there), str(there), there.number) == (made, "why", -1)


class _Elaborate:
    """The errors of a driver such as mysql-connector's."""

    class OperationalError(Exception):
        def __init__(self, text: str = "", number: int = -1) -> None:
            super().__init__(number, text)
            self.text, self.number = text, number

        def __str__(self) -> str:
            return self.text


def test_an_error_whose_driver_has_no_such_class_is_the_portable_one() -> None:
    class Odd:
        OperationalError = "not a class"

    assert for_driver(PoolTimeout, Odd) is PoolTimeout
    assert for_driver(PoolClosed, Odd) is PoolClosed


@pytest.mark.parametrize("local", [True, False])
def test_a_thread_that_waits_for_itself_is_told_at_once(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock, local: bool
) -> None:
    pool = make_pool(max_size=1, local=local)
    with pool.connection():  # outer
        start = clock.monotonic()
        with pytest.raises(PoolDeadlock) as caught:
            pool.connection()  # inner
    assert clock.monotonic() - start <= 0.501
    assert line("outer") in str(caught.value)
    assert line("inner") in str(caught.value)
    assert isinstance(caught.value, fake.OperationalError)


def test_a_ring_of_threads_that_wait_for_each_other_is_told_at_once(
    make_pool: MakePool, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=3)

    def borrow_two() -> str:
        with pool.connection():
            clock.sleep(0.1)
            try:
                with pool.connection(timeout=60.0):
                    return "served"
            except PoolDeadlock:
                return "deadlock"

    start = clock.monotonic()
    results = [task.result() for task in [clock.start(borrow_two) for _ in range(3)]]

    assert sorted(results) == ["deadlock", "served", "served"]
    assert clock.monotonic() - start < 1.0


def test_a_connection_passed_on_to_another_thread_is_no_deadlock(
    make_pool: MakePool, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=2)

    def work(conn: PooledConnection) -> None:
        conn.execute("SELECT 1")
        clock.sleep(10.0)
        conn.close()

    workers = [clock.start(work, pool.connection()) for _ in range(2)]
    pool.connection(timeout=60.0).close()
    for worker in workers:
        worker.result()


def test_a_deadlock_is_told_also_if_the_function_that_borrowed_has_returned(
    make_pool: MakePool, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=1)

    def borrow() -> PooledConnection:
        return pool.connection()

    held = borrow()
    start = clock.monotonic()
    with pytest.raises(PoolDeadlock):
        borrow()
    assert clock.monotonic() - start <= 1.001
    held.close()


def test_who_does_not_want_to_wait_is_in_no_deadlock(make_pool: MakePool) -> None:
    pool = make_pool(max_size=1, checkout_timeout=0)
    with pool.connection(), pytest.raises(PoolTimeout):
        pool.connection()


def test_waiting_while_somebody_else_will_return_is_no_deadlock(
    make_pool: MakePool, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=2)

    def work() -> None:
        with pool.connection():
            clock.sleep(1.0)

    worker = clock.start(work)
    clock.run()
    with pool.connection(), pool.connection(timeout=5.0):
        pass
    worker.result()


def test_a_second_connection_that_is_still_being_opened_is_no_deadlock(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=2)
    with pool.connection():
        fake.on("connect", delay=1.0)
        other = clock.start(pool.connection, 10.0)
        clock.run()
        waiting = clock.start(pool.connection, 10.0)
        clock.run()
        with pytest.raises(PoolTimeout):
            pool.connection(timeout=0.5)
    other.result().close()
    waiting.result().close()


def test_what_a_borrower_returned_is_not_held_against_it(
    make_pool: MakePool, clock: VirtualClock
) -> None:
    """A member that changes hands is nobody's until its new borrower has it."""
    pool = make_pool(max_size=1)

    def work() -> None:
        for _ in range(50):
            with pool.connection(timeout=60.0):
                clock.yield_()

    for task in [clock.start(work) for _ in range(4)]:
        task.result()


def test_a_lease_longer_than_leak_after_is_reported_once_with_its_site(
    make_pool: MakePool, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    pool = make_pool(max_size=2, leak_after=10.0)
    held = pool.connection()  # forgotten
    clock.advance(60.0)
    held.close()

    texts = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(texts) == 1
    assert line("forgotten") in texts[0]


SHOWN_AT_THE_END = """
import sys
from dbapi_pool import Pool
from dbapi_pool.testing import FakeDriver

class Last:
    def __init__(self):
        self.itself = self
        self.pool = Pool(FakeDriver(), name="late")

    def __del__(self, write=sys.stdout.write):
        write(f"{self.pool!r} {self.pool.stats().in_use}")

last = Last()
"""


def test_a_pool_tells_even_when_the_interpreter_ends_and_nothing_can_be_imported() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SHOWN_AT_THE_END], capture_output=True, text=True, timeout=60
    )

    assert ended.stderr == ""
    assert ended.stdout.startswith("<Pool 'late' open: 0 of 10 open")
    assert ended.stdout.endswith("> 0")


def test_no_password_is_in_any_text(
    make_pool: MakePool,
    fake: FakeDriver,
    clock: VirtualClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    pool = make_pool(fake, "dbname=x password=canary", password="canary", max_size=1)
    texts = [repr(pool), str(pool.stats())]
    with pool.connection() as conn:
        texts.append(repr(conn))
        waiting = clock.start(pool.connection, 1.0)
        with pytest.raises(PoolTimeout) as caught:
            waiting.result()
    texts.append(str(caught.value))
    fake.on("connect", error=fake.OperationalError("no entry for canary"), times=1)
    pool.drain()
    clock.run()
    with pytest.raises(fake.OperationalError):
        pool.connection()
    texts += [record.getMessage() for record in caplog.records]

    assert not [text for text in texts if "canary" in text]


def test_repr_shows_the_counts(make_pool: MakePool, clock: VirtualClock) -> None:
    pool = make_pool(max_size=2, name="orders")
    with pool.connection():
        assert repr(pool) == (
            "<Pool 'orders' open: 1 of 2 open, 1 in use, 0 idle, 0 opening, 0 waiting>"
        )
    pool.close()
    assert "closed" in repr(pool)


@pytest.mark.parametrize(
    ("setting", "value", "allowed"),
    [
        ("min_size", -1, "0 or more"),
        ("min_size", True, "whole number"),
        ("max_size", 0, "1 or more"),
        ("max_size", 2.5, "whole number"),
        ("max_size", None, "whole number"),
        ("max_idle", -1, "or None"),
        ("checkout_timeout", -0.1, "0 or more"),
        ("checkout_timeout", float("inf"), "finite"),
        ("max_waiting", "many", "whole number"),
        ("max_lifetime", 0, "more than 0"),
        ("idle_timeout", float("nan"), "finite"),
        ("max_uses", 0, "1 or more"),
        ("ping_after", -1, "0 or more"),
        ("ping_timeout", None, "more than 0"),
        ("keepalive", 0, "more than 0"),
        ("reset", "sometimes", "'auto'"),
        ("setup", 7, "callable"),
        ("setup", [1], "SQL"),
        ("fail_fast_after", -1, "0 or more"),
        ("leak_after", "soon", "seconds"),
        ("driver", "sqlite", "Driver"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_name_its_value_and_what_is_allowed(
    fake: FakeDriver, setting: str, value: object, allowed: str
) -> None:
    with pytest.raises(PoolSettingError) as caught:
        Pool(fake, **{setting: value})  # type: ignore[arg-type]
    text = str(caught.value)
    assert f"{setting}={value!r}" in text
    assert allowed in text
    assert isinstance(caught.value, ValueError)


def test_settings_that_contradict_each_other_are_refused(fake: FakeDriver) -> None:
    with pytest.raises(PoolSettingError, match=r"min_size=5 is more than max_size=2"):
        Pool(fake, min_size=5, max_size=2)
    with pytest.raises(PoolSettingError, match=r"max_idle=1 is less than min_size=2"):
        Pool(fake, min_size=2, max_idle=1)


def test_a_creator_that_cannot_connect_is_refused() -> None:
    with pytest.raises(PoolSettingError, match="creator: of type int cannot connect"):
        Pool(7)
    with pytest.raises(PoolSettingError) as caught:
        Pool("canary")
    assert "canary" not in str(caught.value)
    with pytest.raises(PoolSettingError, match="'nosuchdb'"):
        Pool("nosuchdb://user:canary@host/x")
