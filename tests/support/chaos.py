"""Chaos on a real server, and a ledger that must add up.

Borrowers write tokens, a token a transaction, in every way in which the pool lets them; meanwhile
sessions are killed, the wire is cut and held up, and the server is stopped and killed. What was
acknowledged must be there once, what was not at most once, and what was never committed not at all.
The server's own list of sessions is the judge of the bound. The pool must not be asked about itself.
"""

from __future__ import annotations

import gc
import itertools
import random
import threading
import time
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import servers
from relay import Relay

from dbapi_pool import Pool, PoolError

PAUSE = 0.2
"""Seconds between two faults."""
OUTAGE = 0.5
"""Seconds for which the server is stopped, or the wire held up."""
RESTART_EVERY = 20.0
SETTLING = 1.0
"""Seconds within which there is a commit again after a fault."""
LOST_ANSWERS = 0.002
"""Of so many COMMITs the answer is lost on the wire."""
ABANDONED = 10**12
"""Tokens from here on are never committed."""
SPAN = 10**8
"""How many tokens one borrower has."""

TABLES = {
    "postgresql": "",
    "mysql": " ENGINE=InnoDB",
}


class Fault:
    """One of the things that happened: from when until when."""

    def __init__(self, name: str, begin: float, end: float) -> None:
        self.name, self.begin, self.end = name, begin, end

    @property
    def is_outage(self) -> bool:
        """Whether nothing can be committed meanwhile."""
        return self.end - self.begin > PAUSE / 2


class Borrower:
    """One thread that writes tokens, and what it was told of each."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self.tokens = itertools.count(number * SPAN)
        self.acknowledged = array("q")
        self.doubtful = array("q")
        self.commits = array("d")
        self.errors: Counter[str] = Counter()
        self.unexpected: list[BaseException] = []

    def work(self) -> None:
        """Until the world ends."""
        ways = (
            self.by_run,
            self.by_transaction,
            self.by_block,
            self.by_hand,
            self.abandon,
            self.read,
        )
        for way in itertools.cycle(ways):
            if self.world.over.is_set():
                return
            self._try(way)

    def _try(self, way: Callable[[int], bool]) -> None:
        token = next(self.tokens)
        try:
            wrote = way(token)
        except (PoolError, self.world.module.Error) as exc:
            self.errors[type(exc).__name__] += 1
            self.doubtful.append(token)
        except BaseException as exc:
            self.unexpected.append(exc)
            self.doubtful.append(token)
        else:
            if wrote:
                self.acknowledged.append(token)
                self.commits.append(time.monotonic())

    def _write(self, conn: Any, token: int) -> None:
        cursor = conn.cursor()
        cursor.execute("INSERT INTO token VALUES (%s)", (token,))
        cursor.execute("UPDATE account SET total = total + 1 WHERE id = %s", (self.number,))
        cursor.close()

    def by_run(self, token: int) -> bool:
        self.world.pool.run(lambda conn: self._write(conn, token), retries=5)
        return True

    def by_transaction(self, token: int) -> bool:
        with self.world.pool.transaction() as conn:
            self._write(conn, token)
        return True

    def by_block(self, token: int) -> bool:
        with self.world.pool.connection() as conn:
            self._write(conn, token)
        return True

    def by_hand(self, token: int) -> bool:
        conn = self.world.pool.connection()
        try:
            self._write(conn, token)
            conn.commit()
        finally:
            conn.close()
        return True

    def abandon(self, token: int) -> bool:
        conn = self.world.pool.connection()
        try:
            self._write(conn, ABANDONED + token)
        finally:
            conn.close()
        return False

    def read(self, token: int) -> bool:
        conn = self.world.pool.connection()
        try:
            cursor = conn.cursor()
            cursor.execute("SELECT total FROM account WHERE id = %s", (self.number,))
            cursor.fetchone()
        finally:
            conn.close()
        return False


class World:
    """A pool over a relay over a server, borrowers, and faults."""

    def __init__(
        self, server: servers.Server, module: str, relay: Relay, seed: int, **settings: Any
    ) -> None:
        self.server, self.relay = server, relay
        self.module = servers.driver_module(module)
        self.random = random.Random(seed)
        self.over = threading.Event()
        self.faults: list[Fault] = []
        self.complaints: list[str] = []
        self._before: set[int] = set()
        self._restarted = time.monotonic()
        arguments = {**server.arguments(module), "host": relay.host, "port": relay.port}
        self.pool = Pool(self.module, **arguments, **settings)
        self.bound = self.pool.max_size
        relay.cut_when = self._loses_answer

    # -- the tables ---------------------------------------------------------------------------------

    def make_tables(self, borrowers: int) -> None:
        """Anew."""
        how = TABLES[self.server.kind]
        conn = self.module.connect(**self.server.arguments(self.module.__name__))
        cursor = conn.cursor()
        for table in ("token", "account"):
            cursor.execute(f"DROP TABLE IF EXISTS {table}")
        # Without a key, so that what was written twice is there twice.
        cursor.execute(f"CREATE TABLE token (id BIGINT NOT NULL){how}")
        cursor.execute(f"CREATE TABLE account (id INT PRIMARY KEY, total BIGINT NOT NULL){how}")
        cursor.executemany("INSERT INTO account VALUES (%s, 0)", [(n,) for n in range(borrowers)])
        conn.commit()
        conn.close()

    def written(self) -> tuple[Counter[int], int]:
        """How often each token is there, and the sum of the accounts."""
        conn = self.module.connect(**self.server.arguments(self.module.__name__))
        cursor = conn.cursor()
        cursor.execute("SELECT id FROM token")
        tokens = Counter(number for (number,) in cursor.fetchall())
        cursor.execute("SELECT SUM(total) FROM account")
        total = int(cursor.fetchone()[0])
        conn.close()
        return tokens, total

    def _loses_answer(self, data: bytes) -> bool:
        return b"COMMIT" in data and self.random.random() < LOST_ANSWERS

    # -- faults -------------------------------------------------------------------------------------

    def torment(self, seconds: float, at_third: Callable[[], object]) -> None:
        """A fault every `PAUSE` seconds, for so long."""
        begin = time.monotonic()
        third = begin + seconds / 3
        while (now := time.monotonic()) < begin + seconds:
            if third is not None and now >= third:
                third = float("inf")
                at_third()
            self._count_sessions()
            self._do_one()
            self.over.wait(PAUSE)
        self.over.wait(SETTLING)

    def _do_one(self) -> None:
        if time.monotonic() - self._restarted > RESTART_EVERY:
            self._note("server killed and started", self._restart)
            self._restarted = time.monotonic()
            return
        kind = self.random.choices(
            (
                "one session killed",
                "all sessions killed",
                "wire reset",
                "wire held up",
                "server frozen",
            ),
            (12, 3, 3, 1, 1),
        )[0]
        self._note(kind, {
            "one session killed": self._kill_one,
            "all sessions killed": self._kill_all,
            "wire reset": self.relay.reset_all,
            "wire held up": self._hold_up,
            "server frozen": self._freeze,
        }[kind])  # fmt: skip

    def _note(self, name: str, act: Callable[[], object]) -> None:
        begin = time.monotonic()
        act()
        self.faults.append(Fault(name, begin, time.monotonic()))

    def _kill(self, sessions: list[int]) -> None:
        for session in sessions:
            try:
                self.server.query(self.server.kill_query(session))
            except Exception:  # it is gone already
                pass

    def _kill_one(self) -> None:
        sessions = self.server.session_ids()
        self._kill(self.random.sample(sessions, min(1, len(sessions))))

    def _kill_all(self) -> None:
        self._kill(self.server.session_ids())

    def _hold_up(self) -> None:
        self.relay.hold_up(OUTAGE)
        time.sleep(OUTAGE)

    def _freeze(self) -> None:
        self.server.pause()
        time.sleep(OUTAGE)
        self.server.resume()

    def _restart(self) -> None:
        self.server.kill9()
        self.server.start()

    # -- what must hold -----------------------------------------------------------------------------

    def _count_sessions(self) -> None:
        """Sessions that were there at the last look, too, were there all the time between."""
        now = set(self.server.session_ids())
        stayed = now & self._before
        if len(stayed) > self.bound:
            self.complaints.append(f"{len(stayed)} sessions at once")
        self._before = now

    def judge(self, borrowers: list[Borrower]) -> list[str]:
        """What is wrong."""
        tokens, total = self.written()
        acknowledged = [t for one in borrowers for t in one.acknowledged]
        doubtful = {t for one in borrowers for t in one.doubtful}
        lost = [t for t in acknowledged if t not in tokens]
        twice = [t for t, times in tokens.items() if times > 1]
        unknown = tokens.keys() - set(acknowledged) - doubtful
        wrong = [f"{len(lost)} acknowledged and lost: {lost[:3]}"] if lost else []
        wrong += [f"{len(twice)} written twice: {twice[:3]}"] if twice else []
        wrong += [f"{len(unknown)} that nobody committed: {sorted(unknown)[:3]}"] if unknown else []
        wrong += (
            [f"{len(tokens)} tokens, but {total} in the accounts"] if len(tokens) != total else []
        )
        wrong += [f"raised: {exc!r}" for one in borrowers for exc in one.unexpected[:3]]
        return [*self.complaints, *wrong, *self._not_recovered(borrowers)]

    def recoveries(self, borrowers: list[Borrower]) -> Iterator[tuple[Fault, float]]:
        """For each fault, the seconds until the next commit; not where an outage follows first."""
        commits = sorted(moment for one in borrowers for moment in one.commits)
        outages = [fault.begin for fault in self.faults if fault.is_outage]
        for fault in self.faults:
            index = bisect_left(commits, fault.end)
            found = commits[index] - fault.end if index < len(commits) else float("inf")
            follows = bisect_left(outages, fault.end)
            if follows == len(outages) or outages[follows] > fault.end + SETTLING:
                yield fault, found

    def _not_recovered(self, borrowers: list[Borrower]) -> list[str]:
        return [
            f"no commit for {seconds:.2f} s after: {fault.name}"
            for fault, seconds in self.recoveries(borrowers)
            if seconds > SETTLING
        ]


@contextmanager
def world(
    server: servers.Server, module: str, seed: int, borrowers: int, **settings: Any
) -> Iterator[World]:
    """A world with tables for so many borrowers."""
    with Relay(server.host, server.port) as relay:
        made = World(server, module, relay, seed, **settings)
        made.make_tables(borrowers)
        yield made


class Memory:
    """What this process takes, and how many objects it has."""

    def __init__(self) -> None:
        gc.collect()
        self.objects = len(gc.get_objects())
        self.bytes = psutil.Process().memory_info().rss
