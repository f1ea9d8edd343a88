"""P1, P2, P3, P5, P8, P10 under chaos: what was acknowledged is there once, whatever happened.

A minute for each database; `DBAPI_POOL_TEST_DEPTH=deep`: half an hour for each driver.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import chaos
import pytest
import servers
from chaos import Borrower, Memory, World, world
from evidence import DEEP, depth, record

from dbapi_pool import CommitOutcomeUnknown, Pool
from dbapi_pool.cleaning import Cleaner
from dbapi_pool_postgresql.psycopg2_driver import Psycopg2Driver

SIZE = 8
CROWD = 32
SECONDS = float(os.environ.get("DBAPI_POOL_TEST_CHAOS_SECONDS", depth(60, 1800)))
MODULES = ["psycopg2", "pymysql", *(["psycopg", "mysqlclient"] if DEEP else [])]
MODULES = [{"mysqlclient": "MySQLdb"}.get(module, module) for module in MODULES]


def live(it: World, seconds: float, at_third: Callable[[], object]) -> list[Borrower]:
    """So many seconds of chaos, with everybody in it."""
    borrowers = [Borrower(it, number) for number in range(CROWD)]
    threads = [threading.Thread(target=one.work) for one in borrowers]
    for thread in threads:
        thread.start()
    try:
        it.torment(seconds, at_third)
    finally:
        it.over.set()
        for thread in threads:
            thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    return borrowers


@pytest.mark.parametrize("module", MODULES)
def test_the_ledger_adds_up(request: pytest.FixtureRequest, module: str) -> None:
    servers.driver_module(module)
    server: servers.Server = request.getfixturevalue(servers.OWN_FIXTURE_OF[module])
    memory: list[Memory] = []
    with world(server, module, seed=1, borrowers=CROWD, max_size=SIZE, checkout_timeout=10.0) as it:
        borrowers = live(it, SECONDS, lambda: memory.append(Memory()))
        memory.append(Memory())
        errors = sum((one.errors for one in borrowers), Counter())
        commits = sum(len(one.acknowledged) for one in borrowers)
        worst = max(seconds for _, seconds in it.recoveries(borrowers))
        faults = Counter(fault.name for fault in it.faults)
        print(f"{commits} commits; {dict(errors)}; {dict(faults)}; worst recovery {worst:.3f} s")
        assert it.judge(borrowers) == []
        assert it.pool.close(10.0)
        servers.wait_for(lambda: server.sessions() == 0, 5)
    assert memory[1].objects - memory[0].objects < 10_000
    assert memory[1].bytes - memory[0].bytes < 32 << 20
    record("chaos", module, seconds=round(SECONDS), commits=commits, faults=sum(faults.values()),
           errors=sum(errors.values()), lost=0, twice=0,
           slowest_recovery_ms=round(worst * 1000))  # fmt: skip


# -- and can fail --------------------------------------------------------------------------------------


def without_rollback(patch: pytest.MonkeyPatch, it: World) -> None:
    patch.setattr(Cleaner, "_roll_back", lambda self, conn, work: None)
    patch.setattr(Psycopg2Driver, "is_alive", lambda self, conn: not conn.closed)


def with_a_second_commit(patch: pytest.MonkeyPatch, it: World) -> None:
    right = Pool.run

    def run(self: Pool, fn: Any, **options: Any) -> Any:
        try:
            return right(self, fn, **options)
        except CommitOutcomeUnknown:
            return right(self, fn, **options)

    patch.setattr(Pool, "run", run)
    patch.setattr(chaos, "LOST_ANSWERS", 0.2)


def with_too_many(patch: pytest.MonkeyPatch, it: World) -> None:
    it.bound = SIZE - 2


def with_lies(patch: pytest.MonkeyPatch, it: World) -> None:
    patch.setattr(Borrower, "abandon", lambda self, token: bool(self.by_block(0 - token)) or True)


@pytest.mark.parametrize(
    ("bug", "complaint"),
    [
        (without_rollback, "that nobody committed"),
        (with_a_second_commit, "written twice"),
        (with_too_many, "sessions at once"),
        (with_lies, "acknowledged and lost"),
    ],
)
def test_a_planted_bug_is_found(
    own_postgresql: servers.Server, monkeypatch: pytest.MonkeyPatch, bug: Any, complaint: str
) -> None:
    settings = {"max_size": SIZE, "checkout_timeout": 10.0}
    with world(own_postgresql, "psycopg2", seed=1, borrowers=CROWD, **settings) as it, it.pool:
        bug(monkeypatch, it)
        borrowers = live(it, 3.0, lambda: None)
        assert complaint in "; ".join(it.judge(borrowers))
