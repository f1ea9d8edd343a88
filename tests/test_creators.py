"""What a creator may be: the forms of a connect function, and what the driver sees of them."""

from __future__ import annotations

import functools
import gc
import sqlite3
import weakref
from typing import Any

import pytest
from builds import FREE

from dbapi_pool import Pool, PoolSettingError


def test_what_a_partial_holds_is_seen_by_the_driver_as_if_it_were_given_to_the_pool() -> None:
    connect = functools.partial(sqlite3.connect, ":memory:")

    with pytest.raises(PoolSettingError, match="max_size=3 with the private database ':memory:'"):
        Pool(connect, max_size=3)


def test_partials_within_partials_give_their_arguments_in_order() -> None:
    def connect(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        seen.append((args, kwargs))
        return sqlite3.connect(":memory:", check_same_thread=False)

    seen: list[Any] = []
    inner = functools.partial(connect, 1, a=1, b=1)
    outer = functools.partial(inner, 2, b=2, c=2)
    with Pool(outer, 3, c=3, max_size=1) as pool, pool.connection():
        assert seen == [((1, 2, 3), {"a": 1, "b": 2, "c": 3})]


class Connection(sqlite3.Connection):
    """As psycopg has it: the class is made by a class method."""

    @classmethod
    def connect(cls, database: str, **kwargs: Any) -> Connection:
        return sqlite3.connect(database, factory=cls, **kwargs)


def test_a_class_that_connects_by_a_class_method_is_a_creator() -> None:
    with Pool(Connection, ":memory:", max_size=1) as pool, pool.connection() as conn:
        assert type(conn.driver_connection) is Connection


def test_a_class_that_only_happens_to_have_a_connect_is_called_itself() -> None:
    class Plain(sqlite3.Connection):
        def connect(self) -> None:
            """As PyMySQL's has it: it connects again."""

    with Pool(Plain, ":memory:", max_size=1) as pool, pool.connection() as conn:
        assert type(conn.driver_connection) is Plain


@pytest.mark.skipif(FREE, reason="CPython 3.13 never frees a class there once there were threads")
def test_a_creator_may_make_a_class_for_each_connection_without_end() -> None:
    """What was made for classes of connections that are gone is not kept for ever."""
    seen: list[weakref.ref[type]] = []

    def connect() -> sqlite3.Connection:
        made = type("Made", (sqlite3.Connection,), {})
        seen.append(weakref.ref(made))
        conn: sqlite3.Connection = made(":memory:", check_same_thread=False)
        return conn

    with Pool(connect, max_size=1) as pool:
        for _ in range(300):
            with pool.connection() as conn:
                conn.invalidate()
    del conn
    gc.collect()
    assert len(seen) == 300
    assert sum(ref() is not None for ref in seen) < 300
