"""Web servers and workers, as docs/web.md and docs/workers.md show them: real ones, on a real database.

Who uses which session is not what they say, but what the sockets of their processes are.
"""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import documents
import psutil
import pytest
import servers

PATIENCE = 60.0
SESSIONS_BY_PORT = "SELECT client_port, pid FROM pg_stat_activity WHERE client_port > 0"

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no os.fork")

Start = Callable[..., "Program"]


class Program:
    """A command of a page, at work in a folder with the files of that page."""

    def __init__(
        self, server: servers.Server, folder: Path, page: str, command: str, module: str
    ) -> None:
        self.server = server
        self.folder = folder
        self.before = set(server.session_ids())
        self.log = folder / "log"
        self.environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        for name, text in documents.files(page).items():
            (folder / name).write_text(text)
        self.environment.update(documents.environment(server, module))
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                documents.command_line(command), cwd=folder, env=self.environment, stdout=log,
                stderr=log,
            )  # fmt: skip

    def wait_for(self, holds: Callable[[], bool]) -> None:
        """Raises with what the program has said if it ends, or takes too long."""

        def check() -> bool:
            assert self.process.poll() is None, self.said()
            return holds()

        servers.wait_for(check, PATIENCE, self.said)

    def said(self) -> str:
        return self.log.read_text()[-3000:]

    def workers(self) -> set[int]:
        """The ids of its children that do the work."""
        return {child.pid for child in psutil.Process(self.process.pid).children()}

    def sessions_of(self, process: int) -> set[int]:
        """The sessions of the server at the other end of a process' sockets."""
        sessions = dict(self.server.query(SESSIONS_BY_PORT))
        connections = psutil.Process(process).net_connections("tcp")
        return {sessions[c.laddr.port] for c in connections if c.laddr.port in sessions}

    def has_left_nothing(self) -> bool:
        return set(self.server.session_ids()) <= self.before

    def end(self) -> None:
        """By TERM; all of its sessions must be gone then."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE)
        servers.wait_for(self.has_left_nothing, PATIENCE, self.said)


@pytest.fixture
def start(postgresql: servers.Server, tmp_path: Path) -> Iterator[Start]:
    """`start(page, word)` runs the command with that word in it; `changes` are made to its text."""
    started: list[Program] = []

    def start(
        page: str, word: str, changes: dict[str, str] | None = None, module: str = "psycopg2"
    ) -> Program:
        [command] = [line for line in documents.commands(page) if word in line.split()]
        for old, new in (changes or {}).items():
            assert old in command
            command = command.replace(old, new)
        started.append(Program(postgresql, tmp_path, page, command, module))
        return started[-1]

    yield start
    for program in started:
        processes = [program.process.pid, *_children(program.process.pid)]
        for process in processes:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                pass
        program.process.wait()


def _children(process: int) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(process).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def get(port: int, path: str) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE) as answer:
        return json.load(answer)


def answers(port: int, path: str = "/health") -> bool:
    try:
        get(port, path)
    except OSError:
        return False
    return True


def get_many(port: int, path: str, threads: int = 8, each: int = 10) -> list[Any]:
    found: list[Any] = []
    failures: list[BaseException] = []

    def ask() -> None:
        try:
            for _ in range(each):
                found.append(get(port, path))
        except BaseException as exc:
            failures.append(exc)

    asking = [threading.Thread(target=ask) for _ in range(threads)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert failures == []
    return found


def test_gunicorns_workers_have_sessions_of_their_own(start):
    documents.require("flask")
    documents.require("gunicorn")
    port = servers.free_port()
    program = start("web.md", "gunicorn", {"127.0.0.1:8000": f"127.0.0.1:{port}"})
    program.wait_for(lambda: answers(port))
    program.wait_for(lambda: len(program.workers()) == 3)
    parent = program.process.pid

    found = get_many(port, "/")
    used: dict[int, set[int]] = {}
    for answer in found:
        used.setdefault(answer["worker"], set()).add(answer["session"])

    assert len(found) == 80
    assert len(used) > 1
    assert set(used) <= program.workers()
    for worker, sessions in used.items():
        assert sessions <= program.sessions_of(worker)  # each its own
        assert len(sessions) <= 4
    [parents] = program.sessions_of(parent)  # opened before the fork, and still there
    assert all(parents not in program.sessions_of(worker) for worker in program.workers())

    old = program.workers()
    theirs = set().union(*map(program.sessions_of, old))
    program.process.send_signal(signal.SIGHUP)
    program.wait_for(lambda: not old & program.workers() and len(program.workers()) == 3)
    program.wait_for(lambda: not theirs & set(program.server.session_ids()))
    assert {answer["worker"] for answer in get_many(port, "/")} <= program.workers()
    assert program.sessions_of(parent) == {parents}

    program.end()


@pytest.mark.parametrize("more", ["", " --lazy-apps", " --single-interpreter"])
def test_uwsgis_workers_have_sessions_of_their_own(start, more):
    """It forks without telling Python."""
    documents.require("flask")
    documents.require("uwsgidecorators")
    port = servers.free_port()
    changes = {"127.0.0.1:8003": f"127.0.0.1:{port}", " --callable app": f" --callable app{more}"}
    program = start("web.md", "uwsgi", changes)
    program.wait_for(lambda: answers(port))
    program.wait_for(lambda: len(program.workers()) == 2)
    used: dict[int, set[int]] = {}

    def both_worked() -> bool:
        for answer in get_many(port, "/"):
            used.setdefault(answer["worker"], set()).add(answer["session"])
        return len(used) == 2

    program.wait_for(both_worked)
    one, other = used.values()
    assert not one & other
    for worker, sessions in used.items():
        assert sessions <= program.sessions_of(worker)
        assert len(sessions) <= 4
    program.end()


def test_a_gunicorn_worker_that_is_killed_leaves_nothing(start):
    documents.require("flask")
    documents.require("gunicorn")
    port = servers.free_port()
    program = start("web.md", "gunicorn", {"127.0.0.1:8000": f"127.0.0.1:{port}"})
    program.wait_for(lambda: answers(port))
    worker = get(port, "/")["worker"]
    theirs = program.sessions_of(worker)

    os.kill(worker, signal.SIGKILL)
    program.wait_for(lambda: worker not in program.workers() and len(program.workers()) == 3)
    program.wait_for(lambda: not theirs & set(program.server.session_ids()))
    assert len(get_many(port, "/", each=3)) == 24
    program.end()


def test_fastapis_threads_share_the_pool(start):
    documents.require("fastapi")
    documents.require("uvicorn")
    servers.driver_module("psycopg")
    port = servers.free_port()
    program = start("web.md", "uvicorn", {"8001": str(port)}, "psycopg")
    program.wait_for(lambda: answers(port))

    assert set(get_many(port, "/sum/40/2")) == {42}
    health = get(port, "/health")
    assert (health["in_use"], health["timeouts"]) == (0, 0)
    assert 1 <= health["opened"] <= 4
    program.end()


def test_fastapis_coroutines_share_the_pool(start):
    documents.require("fastapi")
    documents.require("uvicorn")
    servers.driver_module("psycopg2")
    port = servers.free_port()
    program = start("asyncio.md", "uvicorn", {"8002": str(port)}, "psycopg2")
    program.wait_for(lambda: answers(port))

    assert set(get_many(port, "/sum/40/2", threads=32)) == {42}
    health = get(port, "/health")
    assert (health["in_use"], health["timeouts"]) == (0, 0)
    assert 1 <= health["opened"] <= 4
    program.end()


SEND = """
from tasks import where
sent = [where.delay() for _ in range(20)]
print([result.get(timeout=50) for result in sent])
"""


def test_celerys_children_have_sessions_of_their_own(start):
    documents.require("celery")
    program = start("workers.md", "celery")
    program.wait_for(lambda: len(program.workers()) == 2)
    parent = program.process.pid

    sent = subprocess.run(
        [sys.executable, "-c", SEND], cwd=program.folder, env=program.environment,
        capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert sent.returncode == 0, f"{sent.stderr}\n{program.said()}"
    used: dict[int, set[int]] = {}
    for worker, session in ast.literal_eval(sent.stdout):
        used.setdefault(worker, set()).add(session)

    assert set(used) <= program.workers()
    for worker, sessions in used.items():
        assert sessions <= program.sessions_of(worker)
    parents = program.sessions_of(parent)
    assert len(parents) == 1  # opened before the fork, and still there
    assert all(not parents & program.sessions_of(worker) for worker in program.workers())
    program.end()
