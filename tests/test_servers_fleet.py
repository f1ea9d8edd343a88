"""Many processes, as docs/fleet.md has them: in front of a pooler, and frozen between two requests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import servers
from beside import load

MODULES = ["psycopg", "psycopg2", "pymysql", "MySQLdb"]
PATIENCE = 60.0
wires = load("benchmarks.faults.wire")

# Reads how many requests to serve, serves them, says which sessions served them, and for how long.
FUNCTION = """
import importlib, json, sys, time
from dbapi_pool import Pool

module, arguments, settings, sql = json.loads(sys.argv[1])
pool = Pool(importlib.import_module(module), **arguments, **settings)


def handler():
    with pool.connection() as conn:
        cursor = conn.cursor()
        cursor.execute(sql)
        return cursor.fetchone()[0]


for line in sys.stdin:
    begin = time.monotonic()
    found = [handler() for _ in range(int(line))]
    print(json.dumps([found, time.monotonic() - begin]), flush=True)
pool.close()
"""
FUNCTIONS_SETTINGS = {
    "max_size": 1, "ping_after": 0, "ping_timeout": 1.0, "checkout_timeout": 10.0,
}  # fmt: skip
OWN_SESSION = {"postgresql": "SELECT pg_backend_pid()", "mysql": "SELECT connection_id()"}


class Function:
    """A process with a pool, which may be frozen."""

    def __init__(self, *given: Any) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", FUNCTION, json.dumps(given)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def ask(self, count: int = 1) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()

    def answer(self) -> tuple[list[int], float]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"it ended with {self.process.wait(PATIENCE)}"
        found, seconds = json.loads(line)
        return found, seconds

    def served(self, count: int = 1) -> tuple[list[int], float]:
        self.ask(count)
        return self.answer()

    def freeze(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)

    def wake_up(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def end(self) -> None:
        self.wake_up()
        self.process.communicate(timeout=PATIENCE)


@pytest.fixture(params=MODULES)
def module(request: pytest.FixtureRequest) -> str:
    servers.driver_module(request.param)
    return str(request.param)


@pytest.fixture
def server(request: pytest.FixtureRequest, module: str) -> servers.Server:
    found: servers.Server = request.getfixturevalue(servers.FIXTURE_OF[module])
    return found


@pytest.fixture
def functions() -> Iterator[list[Function]]:
    started: list[Function] = []
    yield started
    for one in started:
        if one.process.poll() is None:
            one.wake_up()
            one.process.kill()
        one.process.communicate()


def test_a_frozen_process_whose_session_was_ended_serves_the_next_request(
    server: servers.Server, module: str, functions: list[Function]
) -> None:
    sql = OWN_SESSION[servers.PLUGIN_OF[module]]
    function = Function(module, server.arguments(module), FUNCTIONS_SETTINGS, sql)
    functions.append(function)
    [session], _ = function.served()
    function.freeze()
    server.kill_session(session)
    function.wake_up()
    [another], seconds = function.served()
    assert another != session
    assert seconds < 1.0
    assert function.served()[0] == [another]
    function.end()
    servers.wait_for(lambda: server.sessions() == 0, PATIENCE)


def test_a_frozen_process_whose_way_was_forgotten_serves_the_next_request(
    server: servers.Server, module: str, functions: list[Function]
) -> None:
    """By a router that swallows what it does not know, and says nothing."""
    sql = OWN_SESSION[servers.PLUGIN_OF[module]]
    with wires.Wire(server.host, server.port) as wire:
        there = {**server.arguments(module), "host": wire.host, "port": wire.port}
        function = Function(module, there, FUNCTIONS_SETTINGS, sql)
        functions.append(function)
        [session], _ = function.served()
        function.freeze()
        wire.swallow()
        wire.heal()  # for new clients
        function.wake_up()
        [another], seconds = function.served()
        assert another != session
        assert seconds < 5.0
        function.end()


@pytest.mark.parametrize("module", ["psycopg", "psycopg2"])
def test_many_processes_share_the_few_sessions_of_a_pooler(
    request: pytest.FixtureRequest,
    postgresql: servers.Server,
    module: str,
    functions: list[Function],
) -> None:
    """Twelve clients of PgBouncer, and never more sessions than it is to have."""
    import bouncers

    with bouncers.bouncing(postgresql, "transaction", default_pool_size=2) as bouncer:
        before = postgresql.sessions()
        sql = "SELECT pg_backend_pid() FROM pg_sleep(0.005)"
        settings = {"max_size": 3, "reset": "transaction"}
        for _ in range(4):
            functions.append(Function(module, bouncer.arguments(module), settings, sql))
        for function in functions:
            function.ask(50)
        most = 0
        for function in functions:
            most = max(most, postgresql.sessions() - before)
            found, _ = function.answer()
            assert len(found) == 50
        assert 1 <= most <= 2
        for function in functions:
            function.end()
