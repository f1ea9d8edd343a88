"""The pools of a process, while other threads make and drop some."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator

import pytest

from dbapi_pool import Pool, pools, process
from dbapi_pool.testing import FakeDriver


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hasty")
def test_the_pools_may_be_asked_for_while_others_are_made(fake: FakeDriver) -> None:
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            for pool in [Pool(fake, name="passing") for _ in range(5)]:
                pool.close()

    threads = [threading.Thread(target=work) for _ in range(2)]
    many = [Pool(fake, name=f"one of {number}") for number in range(200)]
    with contextlib.ExitStack() as closing:
        for pool in many:
            closing.callback(pool.close)
        for thread in threads:
            thread.start()
        try:
            for _ in range(400):
                assert set(many) <= set(pools())
        finally:
            over.set()
            for thread in threads:
                thread.join()
    assert not set(many) & set(pools())


def test_none_is_kept_alive(fake: FakeDriver) -> None:
    known = len(process.watched())
    pool = Pool(fake, name="dropped")
    assert len(process.watched()) == known + 1
    pool.close()
    del pool
    assert len(process.watched()) <= known
