"""Works in other processes, made in each of Python's ways, on one SQLite file.

    python processes.py METHOD SCENARIO PATH

METHOD is `fork`, `spawn` or `forkserver`. Must never use pytest.
"""

from __future__ import annotations

import multiprocessing
import sqlite3
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from dbapi_pool import Pool

PROCESSES = 3
pool: Pool | None = None


def make(path: str) -> Pool:
    return Pool(sqlite3, path, max_size=2, checkout_timeout=20.0, timeout=20.0)


def start(path: str) -> None:
    """An initializer: a pool of its own in each process."""
    global pool
    pool = make(path)


def insert(number: int, mine: Pool | None = None) -> int:
    used = mine or pool
    assert used is not None
    with used.transaction(mode="IMMEDIATE") as conn:
        conn.execute("INSERT INTO note VALUES (?)", (number,))
    return number


def work(path: str, numbers: range) -> None:
    """In a child: a pool made there, used by threads of it."""
    with make(path) as mine:
        threads = [threading.Thread(target=insert, args=(number, mine)) for number in numbers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert mine.stats().in_use == 0


def inherit(numbers: range) -> None:
    """In a forked child: the parent's pool, which begins anew there."""
    assert pool is not None
    assert (pool.stats().size, pool.stats().waiting) == (0, 0)
    for number in numbers:
        insert(number)


def made_in_the_child(context: Any, path: str) -> int:
    children = [
        context.Process(target=work, args=(path, range(n * 10, n * 10 + 10)))
        for n in range(PROCESSES)
    ]
    return finish(children) * 10


def by_initializer(context: Any, path: str) -> int:
    with ProcessPoolExecutor(PROCESSES, context, start, (path,)) as executor:
        return len(list(executor.map(insert, range(30))))


def by_multiprocessing_pool(context: Any, path: str) -> int:
    with context.Pool(PROCESSES, start, (path,)) as workers:
        return len(workers.map(insert, range(30)))


def as_an_argument(context: Any, path: str) -> int:
    """Inherited by fork, else refused with a word on what to do."""
    mine = make(path)
    try:
        child = context.Process(target=insert, args=(1, mine))
        child.start()
    except TypeError as exc:
        if "let each process make its own" not in str(exc):
            raise
        return insert(1, mine)
    return finish([child])


def inherited_while_busy(context: Any, path: str) -> int:
    """Forked by a thread, while others hold connections and locks, and wait."""
    start(path)
    assert pool is not None
    mine = pool
    held = [mine.connection() for _ in range(2)]
    held[0].execute("INSERT INTO note VALUES (-1)")
    held[0].commit()
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            mine.stats()

    waiting = [threading.Thread(target=lambda: mine.connection().close()) for _ in range(3)]
    busy = [threading.Thread(target=look) for _ in range(2)]
    for thread in waiting + busy:
        thread.start()
    while mine.stats().waiting < 3:
        done.wait(0.001)
    count: list[int] = []

    def fork() -> None:
        ledger, keeper = mine._ledger, mine._keeper
        with ledger._lock, keeper._lock, keeper._crew._lock, mine._counters._lock:
            children = [
                context.Process(target=inherit, args=(range(n * 10, n * 10 + 10),))
                for n in range(PROCESSES)
            ]
            for child in children:
                child.start()
        count.append(finish(children) * 10)

    forking = threading.Thread(target=fork)
    forking.start()
    forking.join()
    held[1].execute("SELECT 1").fetchone()
    for conn in held:
        conn.close()
    done.set()
    for thread in waiting + busy:
        thread.join()
    assert mine.stats().in_use == 0
    return count[0] + 1


def finish(children: list[Any]) -> int:
    for child in children:
        if child.pid is None:
            child.start()
    for child in children:
        child.join(50)
        assert child.exitcode == 0, child
    return len(children)


def main(method: str, scenario: str, path: str) -> None:
    conn = sqlite3.connect(path)
    conn.execute("CREATE TABLE note (number)")
    conn.close()
    count = globals()[scenario](multiprocessing.get_context(method), path)
    conn = sqlite3.connect(path)
    (found,) = conn.execute("SELECT count(*) FROM note").fetchone()
    conn.close()
    assert found == count, (found, count)
    print(f"{count} rows")


if __name__ == "__main__":
    main(*sys.argv[1:])
