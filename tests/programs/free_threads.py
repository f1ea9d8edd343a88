"""Many threads do at once what threads may do to one pool; then it is asked whether all adds up.

`free_threads.py <scene> <rounds> remote|local [<bug>]` prints what it did as JSON, or raises. A process
of its own: without the GIL, what goes wrong may be a crash. Threads are set off by a flag that they
spin on, since any lock would put them in order; the judge of who uses a connection takes no lock
either. `<bug>` is one of `BUGS`, put into this process's copy of the core.
"""

from __future__ import annotations

import gc
import json
import random
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dbapi_pool import Pool, handles
from dbapi_pool import ledger as ledger_module
from dbapi_pool import pool as pool_module
from dbapi_pool.errors import ConnectionReturned, PoolTimeout
from dbapi_pool.ledger import OPENING, Ledger, Place
from dbapi_pool.testing import FakeDriver

SIZE = 4
LONG = 60.0  # seconds; more than anybody waits on a busy machine, unless something is lost


class Judge:
    """Notes who has what. Plain stores and looks: a lock would keep apart whom it has to catch."""

    def __init__(self) -> None:
        self.complaints: list[str] = []
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()  # of `counts`
        self._holder: dict[int, object] = {}

    def holds(self, raw: object) -> None:
        """The calling thread believes that `raw` is its own."""
        me = object()
        if self._holder.get(id(raw)) is not None:
            self.complaints.append("two hold one connection")
        self._holder[id(raw)] = me
        for _ in range(3):
            if self._holder.get(id(raw)) is not me:
                self.complaints.append("another came while it was held")
        self._holder[id(raw)] = None  # type: ignore[assignment]

    def count(self, what: str, number: int = 1) -> None:
        with self._lock:
            self.counts[what] += number


class Line(deque[Any]):
    """The line of waiters, which notes who is served while another was there before."""

    def __init__(self, judge: Judge) -> None:
        super().__init__()
        self.judge = judge

    def remove(self, waiter: Any) -> None:
        if waiter.lease is not None and waiter in self:
            self.judge.counts["served in line"] += 1  # under the ledger's lock
            if self[0] is not waiter:
                self.judge.complaints.append("served out of turn")
        super().remove(waiter)


failed: list[None] = []  # a thread has raised, so that nobody need wait for it


def at_once(bodies: list[Callable[[], None]]) -> None:
    """Run each on a thread of its own, and raise what any of them raised."""
    ready: list[None] = []
    go: list[None] = []
    errors: list[BaseException] = []

    def run(body: Callable[[], None]) -> None:
        ready.append(None)
        while not go:
            pass
        try:
            body()
        except BaseException as exc:
            errors.append(exc)
            failed.append(None)

    threads = [threading.Thread(target=run, args=(body,), daemon=True) for body in bodies]
    for thread in threads:
        thread.start()
    while len(ready) < len(threads):
        time.sleep(0)
    go.append(None)
    for thread in threads:
        thread.join(3 * LONG)
        assert not thread.is_alive(), "a thread hangs"
    if errors:
        raise errors[0]


def fake_pool(judge: Judge, local: bool = False, **settings: Any) -> tuple[Pool, FakeDriver]:
    fake = FakeDriver()
    settings = {"max_size": SIZE, "checkout_timeout": LONG, **settings}
    pool = Pool(fake, driver=fake.driver(local=local), **settings)
    pool._ledger.waiters = Line(judge)
    return pool, fake


def whole(pool: Pool, judge: Judge) -> None:
    """Its whole capacity can be borrowed at once, and every connection once."""
    gc.collect()
    handles = [pool.connection(timeout=LONG) for _ in range(pool.max_size)]
    raws = {id(handle.driver_connection) for handle in handles}
    assert len(raws) == len(handles), "one connection was lent twice at the same time"
    for handle in handles:
        handle.close()
    assert not judge.complaints, Counter(judge.complaints)


def at_end(pool: Pool, fake: FakeDriver | None, judge: Judge) -> None:
    whole(pool, judge)
    assert pool.close(LONG), repr(pool)
    if fake is not None:
        assert fake.peak <= SIZE, f"{fake.peak} connections at once"
        fake.assert_no_leak()


# -- the scenes -----------------------------------------------------------------------------------


def borrowers(rounds: int, judge: Judge, local: bool) -> None:
    """Borrow, use, return: three times as many threads as connections."""
    pool, fake = fake_pool(judge, local)

    def body() -> None:
        chance = random.Random()
        for _ in range(rounds):
            with pool.connection() as conn:
                judge.holds(conn.driver_connection)
                if chance.random() < 0.3:
                    conn.execute("INSERT")
        judge.count("borrowed", rounds)

    at_once([body] * (3 * SIZE))
    at_end(pool, fake, judge)


def quick(rounds: int, judge: Judge, local: bool) -> None:
    """As many threads as connections, so that nobody waits: the path without a lock, and nothing
    else, while others take pictures."""
    pool, fake = fake_pool(judge, local)
    over: list[None] = []

    def body() -> None:
        for _ in range(rounds):
            conn = pool.connection()
            judge.holds(conn._lease.member)
            conn.close()
        judge.count("borrowed", rounds)
        over.append(None)

    def look() -> None:
        while len(over) < SIZE and not failed:
            stats = pool.stats()
            assert 0 <= stats.idle <= SIZE, stats
            assert stats.size <= SIZE, stats
            judge.count("pictures")

    at_once([*[body] * SIZE, look, look])
    at_end(pool, fake, judge)


def closers(rounds: int, judge: Judge, local: bool) -> None:
    """Four threads close one handle in the same instant, while others borrow."""
    pool, fake = fake_pool(judge, local)
    crew = 4
    handles = [pool.connection()]
    turns = [0] * crew
    over: list[None] = []

    def close(me: int) -> Callable[[], None]:
        def body() -> None:
            for turn in range(rounds):
                turns[me] = turn
                _meet(turns, turn)
                handle = handles[turn]
                way = random.random() if me == 1 else 1.0
                if way < 0.05:
                    handle.invalidate()
                else:
                    handle.close()
                if me == 0:
                    handles.append(pool.connection())
            turns[me] = rounds
            over.append(None)

        return body

    def borrow() -> None:
        while len(over) < crew and not failed:
            with pool.connection() as conn:
                judge.holds(conn.driver_connection)
                judge.count("borrowed")

    at_once([*[close(me) for me in range(crew)], borrow, borrow, borrow])
    handles[-1].close()
    judge.count("closed by four at once", rounds)
    at_end(pool, fake, judge)


def _meet(turns: list[int], turn: int) -> None:
    """Wait until all are at `turn`, as closely together as threads can be."""
    looks = 0
    while min(turns) < turn:
        assert not failed, "another thread has failed"
        looks += 1
        if looks % 200 == 0:
            time.sleep(0)


def sharers(rounds: int, judge: Judge, local: bool) -> None:
    """Three threads use one handle while a fourth returns it: what they send must reach their own
    connection or nobody's."""
    pool, fake = fake_pool(judge, local)
    numbers = iter(range(1_000_000_000))

    def use(conn: Any, number: int) -> None:
        try:
            for _ in range(20):
                conn.execute(f"INSERT {number}")
                cursor = conn.cursor()
                cursor.execute(f"UPDATE {number}")
                conn.rollback()
        except (ConnectionReturned, FakeDriver.InterfaceError):
            judge.count("refused")

    def family() -> None:
        conn = pool.connection()
        number = next(numbers)
        conn.execute(f"INSERT own {number}")

        def close() -> None:
            for _ in range(random.randrange(300)):
                pass
            conn.close()

        at_once([lambda: use(conn, number)] * 3 + [close])

    def single() -> None:
        for _ in range(3 * rounds):
            with pool.connection() as conn:
                number = next(numbers)
                conn.execute(f"INSERT own {number}")
                conn.execute(f"UPDATE {number}")
                raw = conn.driver_connection
                assert raw.in_transaction, "somebody else ended the transaction"

    for _ in range(rounds):
        at_once([family, family, single])
        judge.count("shared", 2)
    _check_owners(fake, judge)
    at_end(pool, fake, judge)


def _check_owners(fake: FakeDriver, judge: Judge) -> None:
    """Every statement bears the number of the lease that the connection was in."""
    owner: dict[int, str] = {}
    for conn, sql in fake.executed:
        words = sql.split()
        if words[1] == "own":
            owner[conn] = words[2]
        elif words[1] != owner[conn]:
            judge.complaints.append("a statement of one lease ran in the next")
        judge.counts["statements"] += 1
    _blame_the_pool_only(fake, judge)


def _blame_the_pool_only(fake: FakeDriver, judge: Judge) -> None:
    """That threads who share a connection meet in it is the scene's own doing."""
    judge.complaints += [text for text in fake.violations if "was inside" not in text]
    fake.violations.clear()


def cursors(rounds: int, judge: Judge, local: bool) -> None:
    """Many cursors on one handle, from several threads: all of them end with the lease."""
    pool, fake = fake_pool(judge, local)
    for _ in range(rounds):
        conn = pool.connection()
        made: list[Any] = []

        def open_many(conn: Any = conn, made: list[Any] = made) -> None:
            try:
                for _ in range(100):
                    made.append(conn.cursor())
                    conn.cursor()
            except ConnectionReturned:
                pass

        def close(conn: Any = conn) -> None:
            for _ in range(random.randrange(20_000)):
                pass
            conn.close()

        at_once([open_many, open_many, open_many, close])
        for cursor in made:
            try:
                cursor.execute("INSERT")
            except FakeDriver.InterfaceError:
                continue
            raise AssertionError("a cursor has outlived its lease")
        judge.count("cursors", len(made))
    _blame_the_pool_only(fake, judge)
    at_end(pool, fake, judge)


def everything(rounds: int, judge: Judge, local: bool) -> None:
    """Borrowers, some of whom drop what they have or give up waiting, while the pool is resized,
    drained, suspended, and looked at."""
    pool, fake = fake_pool(judge, local, min_size=1, max_idle=3, ping_after=0.001)
    over: list[None] = []

    def borrow() -> None:
        for _ in range(rounds):
            _borrow_somehow(pool, judge)
        over.append(None)

    def stop_and_go() -> None:
        pool.suspend()
        pool.resume()

    def order(act: Callable[[], object]) -> Callable[[], None]:
        def body() -> None:
            while len(over) < 3 * SIZE and not failed:
                act()
                judge.count("orders")
                time.sleep(random.random() / 100)

        return body

    orders: list[Callable[[], object]] = [
        lambda: pool.resize(max_size=random.randint(1, SIZE), min_size=random.randint(0, 1)),
        pool.drain,
        stop_and_go,
        lambda: (pool.stats(), repr(pool)),
        gc.collect,
    ]
    at_once([*[borrow] * (3 * SIZE), *map(order, orders)])
    pool.resize(max_size=SIZE, min_size=0)
    at_end(pool, fake, judge)


def _borrow_somehow(pool: Pool, judge: Judge) -> None:
    """Wait long or not; return it, throw it away, or forget it."""
    try:
        conn = pool.connection(timeout=random.choice([0.001, 0.01, LONG]))
    except PoolTimeout:
        judge.count("timed out")
        return
    judge.count("borrowed")
    judge.holds(conn.driver_connection)
    what = random.random()
    if what < 0.6:
        conn.execute("INSERT")
        conn.commit()
        conn.close()
    elif what < 0.75:
        conn.invalidate()
    elif what < 0.9:
        conn.close()
    else:
        judge.count("leaked")


def sqlite(rounds: int, judge: Judge, local: bool) -> None:
    """Real SQLite: what was committed is there, and what was not, is not."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "db"
        with sqlite3.connect(path) as setup:
            setup.execute("PRAGMA journal_mode=WAL")
            setup.execute("CREATE TABLE t (n INTEGER)")
        setup.close()
        pool = Pool(sqlite3, path, timeout=LONG, max_size=SIZE, checkout_timeout=LONG)

        def body() -> None:
            chance = random.Random()
            for _ in range(rounds):
                with pool.connection() as conn:
                    judge.holds(conn._lease.member)
                    assert not conn.in_transaction
                    conn.execute("SELECT count(*) FROM t").fetchone()
                    if chance.random() < 0.1:
                        conn.execute("INSERT INTO t VALUES (1)")
                        if chance.random() < 0.5:
                            conn.rollback()
                        else:
                            judge.count("inserted")
            judge.count("borrowed", rounds)

        def close_twice() -> None:
            for _ in range(rounds):
                conn = pool.connection()
                at_once([conn.close, conn.close])

        at_once([*[body] * (2 * SIZE), close_twice])
        with pool.connection() as conn:
            found = conn.execute("SELECT count(*) FROM t").fetchone()[0]
        assert found == judge.counts["inserted"], (found, judge.counts)
        at_end(pool, None, judge)


SCENES = {f.__name__: f for f in (borrowers, quick, closers, sharers, cursors, everything, sqlite)}


# -- known bugs, for the scenes to find -----------------------------------------------------------


class Endless(list[Any]):
    """A tether that everybody may take the lease off, for a moment."""

    def pop(self, index: Any = -1) -> Any:
        lease = self[index]
        time.sleep(1e-5)
        self.clear()
        return lease


class Late:
    """A lock that lets all in."""

    def __enter__(self) -> None:
        time.sleep(0)

    def __exit__(self, *error: object) -> None:
        time.sleep(0)


def returned_twice() -> None:
    """Who finds the handle full returns it; emptying it is not one step."""

    def lend(lease: Any, native: Any = handles.lend) -> Any:
        handle = native(lease)
        handles._tie(handle, Endless([lease]))
        return handle

    pool_module.lend = lend  # type: ignore[attr-defined]


def check_then_act() -> None:
    """Whether there is room is asked, and a place taken a moment later, without the lock."""

    class Unlocked(Ledger):
        def __init__(self, lock: Any, *args: Any) -> None:
            super().__init__(Late(), *args)

        def _vacancy(self) -> Any:
            if sum(place.ref() is not None for place in self.places[:]) >= self.max_size:
                return None
            time.sleep(0.2)
            self.places.append(Place())
            return self._lease(self.places[-1], OPENING)

    pool_module.Ledger = Unlocked  # type: ignore[misc]


def one_look() -> None:
    """Whether the handle was returned is asked before a cursor is made, and not after."""
    handles._too_late = lambda handle, cursor: cursor


def not_found_again() -> None:
    """What was dropped stays lost."""
    global LONG
    LONG = 3.0
    Ledger.adopt = lambda self: []  # type: ignore[method-assign]


def many_steps() -> None:
    """A walk through a deque is taken for one step."""
    ledger_module.snapshot = list  # type: ignore[assignment]


BUGS = {
    f.__name__: f for f in (returned_twice, check_then_act, one_look, not_found_again, many_steps)
}


def main(scene: str, rounds: int, place: str, *bugs: str) -> None:
    sys.setswitchinterval(1e-6)
    for bug in bugs:
        BUGS[bug]()
    judge = Judge()
    SCENES[scene](rounds, judge, place == "local")
    assert not judge.complaints, Counter(judge.complaints)
    print(json.dumps(dict(judge.counts)))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
