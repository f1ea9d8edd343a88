"""`Pool.holders` and `Pool.options`: who has what since when, and how the pool is set."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from threading import get_ident
from typing import Any

import pytest

from dbapi_pool import Holder, Pool
from dbapi_pool.testing import VirtualClock

MakePool = Callable[..., Pool]


def line(marker: str) -> str:
    """`file:line` of the one line of this file that ends with the marker."""
    with open(__file__, encoding="utf-8") as source:
        [number] = [n for n, text in enumerate(source, 1) if text.rstrip().endswith(f"# {marker}")]
    return f"{__file__}:{number}"


def test_the_longest_holder_comes_first_with_line_and_age(
    make_pool: MakePool, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=3)
    assert pool.holders() == []
    first = pool.connection()  # first
    clock.advance(7.0)
    second = pool.connection()  # second
    clock.advance(1.0)

    found = pool.holders()

    assert [holder.site for holder in found] == [line("first"), line("second")]
    assert [holder.seconds for holder in found] == [pytest.approx(8.0), pytest.approx(1.0)]
    assert [holder.connection_id for holder in found] == [1, 2]
    assert [holder.uses for holder in found] == [1, 1]
    assert {holder.thread for holder in found} == {clock.get_ident()}
    first.close()
    assert [holder.site for holder in pool.holders()] == [line("second")]
    second.close()
    assert pool.holders() == []


def test_another_borrowing_of_a_connection_counts_as_another_use(make_pool: MakePool) -> None:
    pool = make_pool(max_size=1)
    for uses in (1, 2, 3):
        with pool.connection():
            [holder] = pool.holders()
        assert (holder.connection_id, holder.uses) == (1, uses)


def test_the_thread_is_the_one_to_whom_it_was_passed_on(
    make_pool: MakePool, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=1)
    conn = pool.connection()
    mine = pool.holders()[0].thread

    def use() -> int:
        conn.cursor().execute("SELECT 1")
        return clock.get_ident()

    other = clock.start(use).result()

    assert [holder.thread for holder in pool.holders()] == [other]
    assert other != mine
    conn.close()


def test_who_waits_holds_nothing(make_pool: MakePool, clock: VirtualClock) -> None:
    pool = make_pool(max_size=1)
    conn = pool.connection()
    other = clock.start(pool.connection, 60.0)
    clock.advance(1.0)

    assert len(pool.holders()) == 1
    conn.close()
    other.result().close()


def test_a_dropped_handle_is_no_holder_and_asking_keeps_none(make_pool: MakePool) -> None:
    pool = make_pool(max_size=1)
    conn: Any = pool.connection()
    found = pool.holders()
    handle = weakref.ref(conn)

    del conn
    gc.collect()

    assert handle() is None
    assert len(found) == 1
    assert pool.holders() == []


def test_a_holder_is_frozen_and_makes_plain_values() -> None:
    holder = Holder(1, get_ident(), "app.py:7", 1.5, 2)

    assert holder.as_dict() == {
        "connection_id": 1, "thread": get_ident(), "site": "app.py:7", "seconds": 1.5, "uses": 2,
    }  # fmt: skip
    with pytest.raises(FrozenInstanceError):
        holder.uses = 3  # type: ignore[misc]


def test_options_are_the_settings_as_they_are_now(make_pool: MakePool) -> None:
    pool = make_pool(max_size=3, ping_after=7.0)
    assert (pool.options.max_size, pool.options.ping_after) == (3, 7.0)

    pool.resize(max_size=5)

    assert pool.options.max_size == 5
    with pytest.raises(FrozenInstanceError):
        pool.options.max_size = 6  # type: ignore[misc]
