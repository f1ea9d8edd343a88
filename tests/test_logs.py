"""What a pool says in its log: where, how loud, and how often."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from dbapi_pool import Pool, PoolTimeout
from dbapi_pool.drivers import hookimpl
from dbapi_pool.logs import EVERY, Log, logger_of
from dbapi_pool.testing import FakeDriver, VirtualClock

MakePool = Callable[..., Pool]


def use(pool: Pool) -> None:
    with pool.connection() as conn:
        conn.cursor().execute("SELECT 1")


def said(caplog: pytest.LogCaptureFixture, level: int, logger: str) -> list[str]:
    """At that level or above, without the pool's name in front."""
    records = [r for r in caplog.records if r.name == logger and r.levelno >= level]
    return [record.getMessage().partition(": ")[2] for record in records]


# -- where ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pool", "logger"),
    [
        ("shop", "dbapi_pool.shop"),
        ("shop.orders", "dbapi_pool.shop_orders"),
        (".", "dbapi_pool._"),
        ("..", "dbapi_pool.__"),
        ("a b/c", "dbapi_pool.a b/c"),
    ],
)
def test_each_pool_has_a_logger_right_below_the_packages(pool: str, logger: str) -> None:
    found = logger_of(pool)

    assert found.name == logger
    assert found.parent is logging.getLogger("dbapi_pool")


def test_one_pool_can_be_made_to_say_more_and_another_less(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    talking, silent = make_pool(name="talking"), make_pool(name="silent")
    with (
        caplog.at_level(logging.CRITICAL, "dbapi_pool.silent"),
        caplog.at_level(logging.DEBUG, "dbapi_pool.talking"),
    ):
        fake.down = True
        for pool in (talking, silent):
            with suppress(PoolTimeout):
                pool.connection(timeout=1.0)
        fake.down = False
        use(talking)
        talking.close()

    assert said(caplog, logging.DEBUG, "dbapi_pool.silent") == []
    lines = said(caplog, logging.DEBUG, "dbapi_pool.talking")
    assert lines[0] == "cannot connect: OperationalError"
    assert lines[1].startswith("connecting succeeds again, after ")
    assert lines[2] == "connection 1 was opened in 0.000 s"
    assert lines[3:5] == ["closed", "connection 1 is closed: closed, after 0.0 s"]
    assert {record.message.partition(": ")[0] for record in caplog.records} == {"talking"}


def test_a_record_names_the_line_that_wrote_it(
    make_pool: MakePool, fake: FakeDriver, caplog: pytest.LogCaptureFixture
) -> None:
    pool = make_pool(name="lines")
    fake.on("connect", error=fake.ProgrammingError("no"), times=1)
    with suppress(fake.ProgrammingError):
        pool.connection()
    pool.drain()
    use(pool)

    warnings = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert {Path(r.pathname).name for r in warnings} == {"keeper.py"}


# -- how loud -------------------------------------------------------------------------------------


def test_a_quiet_life_is_silent(
    make_pool: MakePool, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dbapi_pool")
    with make_pool(
        min_size=2, max_size=4, idle_timeout=60.0, max_lifetime=300.0, max_uses=10, keepalive=20.0,
        leak_after=30.0, fail_fast_after=1.0,
    ) as pool:  # fmt: skip
        for _ in range(60):
            tasks = [clock.start(use, pool) for _ in range(8)]
            clock.advance(30.0)
            for task in tasks:
                task.result()
    assert sum(pool.stats().closed.values()) > 10
    assert caplog.records == []


def test_what_it_was_told_to_do_it_says_at_info(
    make_pool: MakePool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dbapi_pool")
    pool = make_pool(name="told")
    pool.drain()
    pool.resize(max_size=3)
    pool.suspend()
    pool.resume()

    assert said(caplog, logging.INFO, "dbapi_pool.told") == [
        "drained; min_size=0, max_size=10",
        "resized; min_size=0, max_size=3",
        "suspended; min_size=0, max_size=3",
        "resumed; min_size=0, max_size=3",
    ]


def test_a_listener_that_raises_is_blamed_in_the_pools_own_log(
    make_pool: MakePool, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        @hookimpl
        def dbapi_pool_checked_out(self) -> None:
            raise OSError

    pool = make_pool(name="blaming")
    pool.register(Broken())
    use(pool)

    [record] = caplog.records
    assert (record.name, record.levelno) == ("dbapi_pool.blaming", logging.ERROR)


# -- how often ------------------------------------------------------------------------------------


def test_the_same_is_said_once_a_minute_with_how_often_it_was_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 100.0
    log = Log("often", lambda: now)
    spoken = []
    for _ in range(150):
        spoken.append(log.seldom(logging.WARNING, "x", "it fails: %s", "why"))
        now += 1.0
    log.seldom(logging.WARNING, "y", "something else")

    assert said(caplog, logging.WARNING, "dbapi_pool.often") == [
        "it fails: why",
        f"it fails: why (and 59 times more in the last {EVERY:.0f} s)",
        f"it fails: why (and 59 times more in the last {EVERY:.0f} s)",
        "something else",
    ]
    assert [place for place, it in enumerate(spoken) if it] == [0, 60, 120]


def test_an_outage_is_told_once_a_minute_and_so_is_its_end(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    pool = make_pool(name="out")
    fake.down = True
    waiting = clock.start(use, pool)
    with suppress(PoolTimeout):
        clock.start(pool.connection, 150.0).result()
    with suppress(PoolTimeout):
        waiting.result()
    failures = pool.stats().connect_errors
    fake.down = False
    use(pool)

    lines = said(caplog, logging.WARNING, "dbapi_pool.out")
    assert len(lines) == 4
    assert failures > 150
    assert lines[0] == "cannot connect: OperationalError"
    for text in lines[1:3]:
        assert text.startswith("cannot connect: OperationalError (and ")
        assert int(text.split()[4]) > 50
    assert lines[3] == f"connecting succeeds again, after {failures} failures"


def test_a_server_that_comes_and_goes_fills_no_log(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    pool = make_pool(max_size=1, name="flapping")
    for _ in range(100):
        fake.on("connect", error=fake.ProgrammingError("no"), times=1)
        with suppress(fake.ProgrammingError):
            pool.connection()
        fake.calm()
        with pool.connection() as conn:
            conn.invalidate()
        clock.advance(1.0)

    lines = said(caplog, logging.WARNING, "dbapi_pool.flapping")
    assert [text.partition(" (")[0] for text in lines] == [
        "cannot connect: ProgrammingError",
        "connecting succeeds again, after 1 failures",
    ] * 2
    assert "59 times more" in lines[2]


def test_leaks_from_one_line_are_told_once_a_minute_and_from_another_at_once(
    make_pool: MakePool, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    pool = make_pool(max_size=30, leak_after=2.0, name="leaky")
    held = [pool.connection() for _ in range(20)]
    other = pool.connection()
    clock.advance(10.0)
    for conn in (*held, other):
        conn.close()
    clock.advance(10.0)

    lines = said(caplog, logging.WARNING, "dbapi_pool.leaky")
    assert pool.stats().leaked == 21
    assert sum("longer than leak_after" in text for text in lines) == 2
    assert sum("came back after all" in text for text in lines) == 2


def test_after_a_fork_the_child_says_it_again(
    make_pool: MakePool, fake: FakeDriver, caplog: pytest.LogCaptureFixture
) -> None:
    pool = make_pool(name="forked")
    for _ in range(2):
        fake.on("connect", error=fake.ProgrammingError("no"), times=1)
        with suppress(fake.ProgrammingError):
            pool.connection()
        pool._after_fork()  # as in the child

    assert len(said(caplog, logging.WARNING, "dbapi_pool.forked")) == 2


UNCONFIGURED = """
import sqlite3
from dbapi_pool import Pool
pool = Pool(sqlite3, "/nowhere/at/all.db", name="shop")
for _ in range(3):
    try:
        pool.connection()
    except sqlite3.OperationalError:
        pass
"""


def test_where_logging_is_not_configured_a_line_says_which_pool_it_is() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", UNCONFIGURED], capture_output=True, text=True, timeout=60
    )

    assert ran.stderr == "shop: cannot connect: OperationalError\n"
