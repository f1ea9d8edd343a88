"""What can be seen of a pool: pictures with histograms, events, leaks and misuse, health."""

from __future__ import annotations

import logging
import sqlite3
import threading
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dbapi_pool
from dbapi_pool import Histogram, Pool, PoolFull, PoolSettingError, PoolTimeout, process
from dbapi_pool.drivers import hookimpl, hookspecs, listen, unlisten
from dbapi_pool.tally import BOUNDS, Tally
from dbapi_pool.testing import FakeDriver, VirtualClock

MakePool = Callable[..., Pool]

HOOKS = sorted(
    name
    for name in vars(hookspecs)
    if name.startswith("dbapi_pool_") and name != "dbapi_pool_driver"
)


def line(marker: str) -> str:
    """`file:line` of the one line of this file that ends with the marker."""
    with open(__file__, encoding="utf-8") as source:
        numbers = [n for n, text in enumerate(source, 1) if text.rstrip().endswith(f"# {marker}")]
    return f"{__file__}:{numbers[0]}"


def use(pool: Pool) -> None:
    with pool.connection() as conn:
        conn.cursor().execute("SELECT 1")


# -- histograms -----------------------------------------------------------------------------------

seconds = st.floats(0, 200, allow_nan=False)


@given(st.lists(seconds, max_size=50), st.floats(0, 1))
def test_a_quantile_is_the_bound_of_the_bucket_in_which_the_true_one_falls(
    values: list[float], share: float
) -> None:
    tally = Tally()
    for value in values:
        tally.add(value)
    seen = Histogram.of([tally])

    assert seen.count == len(values)
    assert seen.total == pytest.approx(sum(values))
    if not values:
        assert seen.quantile(share) is seen.mean is None
        return
    rank = min(int(-(-share * len(values) // 1)), len(values))  # rounded up
    true = sorted(values)[max(rank - 1, 0)]
    found = seen.quantile(share)
    assert found is not None
    assert found >= true
    assert found == min((bound for bound in BOUNDS if bound >= true), default=float("inf"))


@given(st.lists(seconds, max_size=20), st.lists(seconds, max_size=20))
def test_the_difference_of_two_is_what_happened_in_between(
    first: list[float], then: list[float]
) -> None:
    tally, between = Tally(), Tally()
    for value in first:
        tally.add(value)
    before = Histogram.of([tally])
    for value in then:
        tally.add(value)
        between.add(value)

    difference = Histogram.of([tally]) - before

    assert difference.counts == tuple(between.counts)
    assert difference.total == pytest.approx(between.total, abs=1e-9)


def test_a_share_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"share=1\.5"):
        Histogram().quantile(1.5)


def test_what_waiting_connecting_and_holding_took_is_in_histograms(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=1)
    fake.on("connect", delay=0.3)
    conn = pool.connection()
    conn.cursor().execute("SELECT 1")
    waiting = clock.start(use, pool)
    clock.advance(4.0)
    conn.close()
    waiting.result()

    stats = pool.stats()
    assert stats.connect.total == pytest.approx(0.3)
    assert stats.connect.quantile(1) == 0.5
    assert (stats.wait.count, stats.waits) == (2, 2)
    assert stats.wait.total == stats.wait_time == pytest.approx(4.3)
    assert stats.hold.count == 2
    assert stats.hold.quantile(1) == 5.0


def test_what_connections_counted_that_have_left_stays(make_pool: MakePool) -> None:
    pool = make_pool(max_size=1, max_uses=1)
    for _ in range(5):
        use(pool)
    with pool.connection() as conn:
        conn.cursor().execute("SELECT 1")
        conn.detach().close()

    stats = pool.stats()
    assert stats.hold.count == 5
    assert (stats.checkouts, stats.opened) == (6, 6)
    assert stats.closed == {"uses": 5, "detached": 1}


def test_checkouts_without_a_connection_are_counted_by_error(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=1, max_waiting=0)
    fake.on("connect", error=fake.ProgrammingError("no such database"), times=1)
    with suppress(fake.ProgrammingError):
        pool.connection()
    held = pool.connection()
    with suppress(PoolFull):
        pool.connection(timeout=1.0)
    with suppress(PoolTimeout):
        pool.connection(timeout=0)
    held.close()
    pool.close()
    with suppress(dbapi_pool.PoolClosed):
        pool.connection()

    stats = pool.stats()
    assert stats.refused == {"Error": 1, "PoolFull": 1, "PoolTimeout": 1, "PoolClosed": 1}
    assert stats.as_dict()["refused"] == dict(stats.refused)


# -- events ---------------------------------------------------------------------------------------


class Recorder:
    """Hears everything, but for `others`: pools of other tests, which may live still."""

    def __init__(self, others: Collection[Pool] = ()) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.others = others

    def names(self) -> list[str]:
        return [name for name, _ in self.told]

    def facts(self, event: str) -> list[dict[str, Any]]:
        return [facts for name, facts in self.told if name == event]


def _hook(name: str) -> Any:
    """A method with the arguments that the event has."""
    spec = getattr(hookspecs, name)
    wanted = spec.__code__.co_varnames[: spec.__code__.co_argcount]
    facts = ", ".join(f"{fact!r}: {fact}" for fact in wanted if fact not in ("pool", "connection"))
    event = name.removeprefix("dbapi_pool_")
    scope: dict[str, Any] = {}
    told = f"self.told.append(({event!r}, {{{facts}}}))"
    exec(
        f"def {name}(self, {', '.join(wanted)}):\n    if pool not in self.others: {told}",
        scope,
    )
    return hookimpl(scope[name])


for _name in HOOKS:
    setattr(Recorder, _name, _hook(_name))


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """Listens to every pool that is made from now on."""
    recorder = Recorder(process.watched())
    listen(recorder)
    yield recorder
    unlisten(recorder)


def test_every_event_of_a_connections_life_is_told_with_its_number_and_its_time(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock, recorder: Recorder
) -> None:
    for operation, took in (("connect", 0.5), ("rollback", 0.25), ("ping", 2.0), ("close", 1.0)):
        fake.on(operation, delay=took)
    pool = make_pool(max_size=1, ping_after=10.0)
    with pool.connection() as conn:
        conn.cursor().execute("INSERT 1")
        conn.rollback()
        conn.cursor().execute("INSERT 1")
        clock.advance(3.0)
        conn.cursor().execute("INSERT 2")
        conn.close()
    clock.advance(20.0)
    pool.connection().close()
    pool.close()

    assert recorder.told == [
        ("started", {}),
        ("connected", {"connection_id": 1, "seconds": 0.5}),
        ("checked_out", {"connection_id": 1, "waited": 0.5}),
        ("cleaned", {"connection_id": 1, "seconds": 0.25, "reason": None}),
        ("checked_in", {"connection_id": 1, "seconds": 3.5}),
        ("pinged", {"connection_id": 1, "seconds": 2.0, "good": True}),
        ("checked_out", {"connection_id": 1, "waited": 2.0}),
        ("checked_in", {"connection_id": 1, "seconds": 0.0}),
        ("ended", {}),
        ("retired", {"connection_id": 1, "reason": "closed", "age": 25.5}),
        ("closed", {"connection_id": 1, "seconds": 1.0}),
    ]


def test_what_fails_is_told(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock, recorder: Recorder
) -> None:
    pool = make_pool(max_size=1, ping_after=0)
    fake.on("connect", delay=0.1, error=fake.ProgrammingError("secret"), times=1)
    with suppress(fake.ProgrammingError):
        pool.connection()
    fake.calm()
    held = pool.connection()
    with suppress(PoolTimeout):
        clock.start(pool.connection, 2.0).result()
    held.invalidate()
    use(pool)
    clock.advance(5.0)
    fake.on("ping", error=fake.OperationalError("gone"))
    use(pool)

    [failed] = recorder.facts("connect_failed")
    assert failed == {"error": "ProgrammingError", "seconds": pytest.approx(0.1)}
    refused = [(facts["error"], facts["seconds"]) for facts in recorder.facts("refused")]
    assert refused == [("Error", pytest.approx(0.1)), ("PoolTimeout", pytest.approx(2.0))]
    assert recorder.facts("timed_out") == [{"seconds": pytest.approx(2.0)}]
    reasons = {facts["connection_id"]: facts["reason"] for facts in recorder.facts("retired")}
    assert reasons == {1: "invalidated", 2: "failed ping"}
    assert [facts["good"] for facts in recorder.facts("pinged")] == [False]
    assert len(recorder.facts("checked_out")) == len(recorder.facts("checked_in"))


def test_changes_of_the_pool_are_told(make_pool: MakePool, recorder: Recorder) -> None:
    pool = make_pool()
    pool.drain()
    pool.resize(max_size=3)
    pool.suspend()
    pool.resume()
    pool.close()
    pool.close()

    what = [facts.get("what", name) for name, facts in recorder.told]
    assert what == ["started", "drained", "resized", "suspended", "resumed", "ended"]


def test_a_listener_of_one_pool_hears_nothing_of_another(make_pool: MakePool) -> None:
    here, other, recorder = make_pool(), make_pool(), Recorder()
    here.register(recorder)

    use(other)
    assert recorder.told == []
    use(here)
    heard = recorder.names()
    assert heard == ["connected", "checked_out", "cleaned", "checked_in"]

    here.unregister(recorder)
    use(here)
    assert recorder.names() == heard


def test_a_pool_that_was_there_before_the_listener_is_heard_too(make_pool: MakePool) -> None:
    pool, recorder = make_pool(), Recorder()
    use(pool)
    listen(recorder)
    try:
        use(pool)
    finally:
        unlisten(recorder)
    use(pool)

    assert recorder.names() == ["checked_out", "cleaned", "checked_in"]


class Broken:
    @hookimpl
    def dbapi_pool_checked_out(self, pool: Any) -> None:
        raise OSError("no space left")


def test_a_listener_that_raises_is_logged_once_and_harms_nobody(
    make_pool: MakePool, caplog: pytest.LogCaptureFixture
) -> None:
    pool = make_pool()
    before, after = Recorder(), Recorder()
    for listener in (before, Broken(), after):
        pool.register(listener)

    for _ in range(5):
        use(pool)

    complaints = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(complaints) == 1
    assert "Broken" in complaints[0].getMessage()
    assert before.names().count("checked_out") == after.names().count("checked_out") == 5


def test_objects_that_cannot_listen_are_refused(make_pool: MakePool) -> None:
    class Deaf:
        pass

    class Mistaken:
        @hookimpl
        def dbapi_pool_conected(self) -> None: ...

    class Greedy:
        @hookimpl
        def dbapi_pool_connected(self, colour: str) -> None: ...

    pool, recorder = make_pool(), Recorder()
    for listener, why in (
        (Deaf(), "no event hook"),
        (Mistaken(), "conected"),
        (Greedy(), "colour"),
    ):
        with pytest.raises(ValueError, match=why):
            pool.register(listener)
        with pytest.raises(ValueError, match=why):
            listen(listener)
    pool.register(recorder)
    with pytest.raises(ValueError, match="already"):
        pool.register(recorder)
    pool.unregister(recorder)
    with pytest.raises(ValueError, match="does not listen"):
        pool.unregister(recorder)
    with pytest.raises(ValueError, match="does not listen"):
        unlisten(recorder)
    use(pool)
    assert recorder.told == []


def test_a_listener_stays_after_a_fork(make_pool: MakePool) -> None:
    pool, recorder = make_pool(), Recorder()
    pool.register(recorder)
    pool._after_fork()  # as in the child

    use(pool)

    assert "checked_out" in recorder.names()


def test_pools_lists_those_that_are_open_and_default_names_are_unique(make_pool: MakePool) -> None:
    first, second = make_pool(), make_pool()
    third = make_pool(name="mine")

    found = [pool for pool in dbapi_pool.pools() if pool in (first, second, third)]
    assert found == sorted([first, second, third], key=lambda pool: pool.name)
    assert second.name == f"{first.name}-2"
    second.close()
    assert second not in dbapi_pool.pools()
    assert make_pool().name == second.name


# -- leaks and misuse -----------------------------------------------------------------------------


def test_one_that_is_held_too_long_is_reported_and_so_is_its_return(
    make_pool: MakePool, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    pool, recorder = make_pool(max_size=2, leak_after=10.0), Recorder()
    pool.register(recorder)
    held = pool.connection()  # held
    me = clock.get_ident()
    clock.advance(60.0)
    assert pool.stats().leaked == 1
    held.close()
    clock.advance(60.0)
    use(pool)  # somebody else
    clock.advance(5.0)

    site = line("held")
    [suspected] = recorder.facts("leak_suspected")
    assert suspected["site"] == site
    assert suspected["thread"] == me
    assert 10.0 <= suspected["seconds"] <= 15.0
    assert suspected["stack"] == ""
    late = {"connection_id": 1, "site": site, "seconds": 60.0}
    assert recorder.facts("returned_late") == [late]
    first, second = (r.getMessage() for r in caplog.records if r.levelno == logging.WARNING)
    assert site in first
    assert f"thread {me}" in first
    assert site in second
    assert "came back after all, after 60.0 s" in second


def test_with_leak_stack_the_report_shows_who_called(
    make_pool: MakePool, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    pool = make_pool(leak_after=10.0, leak_stack=True)

    def inner() -> Any:
        return pool.connection()  # innermost

    def outer() -> Any:
        return inner()  # outer

    held = outer()
    clock.advance(60.0)
    held.close()

    text = next(
        r.getMessage() for r in caplog.records if "longer than leak_after" in r.getMessage()
    )
    assert f"{line('innermost')} in inner" in text
    assert f"{line('outer')} in outer" in text
    assert text.index("in outer") < text.index("in inner")
    assert "pool.py" not in text.partition("by way of")[2]


@pytest.mark.parametrize("by", ["transaction", "run"])
def test_the_stack_ends_where_the_package_was_called(
    make_pool: MakePool, clock: VirtualClock, by: str
) -> None:
    pool, recorder = make_pool(leak_after=1.0, leak_stack=True), Recorder()
    pool.register(recorder)
    if by == "run":
        pool.run(lambda conn: clock.advance(9.0))  # run
    else:
        with pool.transaction():  # transaction
            clock.advance(9.0)

    [suspected] = recorder.facts("leak_suspected")
    assert suspected["stack"].splitlines()[-1].split()[0] == line(by) == suspected["site"]


def test_one_that_is_dropped_warns_with_the_place_where_it_was_borrowed(
    make_pool: MakePool, clock: VirtualClock
) -> None:
    pool, recorder = make_pool(), Recorder()
    pool.register(recorder)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pool.connection()  # dropped
        clock.run()
        clock.advance(60.0)

    site = line("dropped")
    [warning] = [one for one in caught if one.category is ResourceWarning]
    assert f"{warning.filename}:{warning.lineno}" == site
    assert site in str(warning.message)
    assert recorder.facts("dropped") == [{"connection_id": 1, "site": site}]
    assert pool.stats().closed == {"leaked": 1}


def test_a_warning_that_a_filter_makes_an_error_goes_to_the_log(
    make_pool: MakePool, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    pool = make_pool()
    pool.connection()  # dropped too
    clock.advance(60.0)
    use(pool)

    texts = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(texts) == 1
    assert line("dropped too") in texts[0]


class Reported:
    """Lets the test go on."""

    def __init__(self, event: threading.Event) -> None:
        self.event = event

    @hookimpl
    def dbapi_pool_shared(self) -> None:
        self.event.set()


def test_two_threads_inside_one_connection_are_named(caplog: pytest.LogCaptureFixture) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def dwell(text: str) -> str:
        inside.set()
        assert go_on.wait(60)
        return text

    recorder = Recorder()
    with Pool(sqlite3, ":memory:", max_size=1, detect_sharing=True) as pool:
        pool.register(recorder)
        conn = pool.connection()  # shared
        conn.create_function("dwell", 1, dwell)

        def first() -> None:
            conn.execute("SELECT dwell('a')").fetchall()  # first inside

        thread = threading.Thread(target=first)
        thread.start()
        assert inside.wait(60)
        reported = threading.Event()
        pool.register(Reported(reported))
        second = threading.Thread(target=lambda: conn.execute("SELECT 2"))  # second inside
        second.start()
        assert reported.wait(60)
        go_on.set()
        for one in (thread, second):
            one.join()
        conn.close()

    [shared] = recorder.facts("shared")
    assert shared["site"] == line("shared")
    assert shared["threads"] == (thread.ident, second.ident)
    [text] = [r.getMessage() for r in caplog.records if "two threads" in r.getMessage()]
    for marker in ("shared", "first inside", "second inside"):
        assert line(marker) in text


def test_threads_that_take_turns_are_no_misuse(make_pool: MakePool, clock: VirtualClock) -> None:
    pool, recorder = make_pool(detect_sharing=True), Recorder()
    pool.register(recorder)
    with pool.connection() as conn:
        for _ in range(3):
            clock.start(lambda: conn.cursor().execute("SELECT 1")).result()

    assert recorder.facts("shared") == []


@pytest.mark.parametrize("name", ["leak_stack", "detect_sharing"])
def test_flags_are_true_or_false(fake: FakeDriver, name: str) -> None:
    with pytest.raises(PoolSettingError, match=f"{name}='yes': must be True or False"):
        Pool(fake, **{name: "yes"})


# -- health ---------------------------------------------------------------------------------------


def test_a_pool_that_does_well_is_ok(make_pool: MakePool, clock: VirtualClock) -> None:
    pool = make_pool()
    assert pool.health() == dbapi_pool.Health("ok")
    for _ in range(100):
        use(pool)
        clock.advance(0.1)
    assert pool.health().as_dict() == {"level": "ok", "reasons": []}


def test_timeouts_are_critical_and_forgotten_after_a_minute(
    make_pool: MakePool, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=1)
    with pool.connection(), pytest.raises(PoolTimeout):
        clock.start(pool.connection, 2.0).result()

    health = pool.health()
    assert health.level == "critical"
    assert "1 of 2 checkouts timed out" in health.reasons[0]
    assert "raise max_size=1" in health.reasons[0]
    for _ in range(20):
        clock.advance(5.0)
        last = pool.health()
    assert last.level == "ok"


def test_a_server_that_is_down_is_critical_with_the_errors_name(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool()
    fake.on("connect", error=fake.OperationalError("password=secret"))
    with suppress(fake.OperationalError):
        clock.start(pool.connection, 2.0).result()

    health = pool.health()
    assert health.level == "critical"
    assert "connecting fails with OperationalError" in health.reasons[0]
    assert "secret" not in str(health)


def test_waiting_for_long_is_a_warning(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=1, checkout_timeout=30.0)

    def work() -> None:
        with pool.connection() as conn:
            conn.cursor().execute("SELECT 1")
            clock.sleep(0.2)

    for task in [clock.start(work) for _ in range(20)]:
        task.result()

    health = pool.health()
    assert health.level == "warning"
    assert "one checkout in a hundred waits for up to 5 s" in health.reasons[0]


def test_leaks_and_a_suspended_pool_have_their_reasons(
    make_pool: MakePool, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=4, leak_after=5.0)
    held = pool.connection()
    clock.advance(20.0)
    pool.suspend()

    health = pool.health()
    assert health.level == "warning"
    assert any("1 of max_size=4 connections are lent for longer" in text for text in health.reasons)
    assert any("call resume()" in text for text in health.reasons)
    pool.resume()
    held.close()
    assert pool.health().level == "ok"


def test_an_alert_comes_at_once_and_its_end_only_when_it_is_calm(
    make_pool: MakePool, clock: VirtualClock
) -> None:
    pool, recorder = make_pool(max_size=1), Recorder()
    pool.register(recorder)
    held = pool.connection()
    with suppress(PoolTimeout):
        clock.start(pool.connection, 1.0).result()
    clock.advance(6.0)
    [alert] = recorder.facts("alert")
    assert (alert["before"], alert["level"]) == ("ok", "critical")
    assert "timed out" in alert["reasons"][0]

    clock.advance(100.0)
    held.close()
    levels = [facts["level"] for facts in recorder.facts("alert")]
    assert levels == ["critical", "ok"]
