"""One run of one suite: prepares folder and server, starts `suite_child`, reads its report.

Must never know a pool: which `connect` is used is the child's business.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from suite_catalogue import Suite
from suite_sources import Unavailable, unpacked

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.append(str(HERE.parent / "support"))

BARE = "bare"
_MOST_RESTARTS = 20


@dataclass
class Run:
    """What came of the tests of a suite."""

    suite: str
    mode: str
    outcomes: dict[str, str] = field(default_factory=dict)
    """By test: `pass`, `fail`, `skip`, `crash`: it ended its process, or took too long."""
    stories: dict[str, str] = field(default_factory=dict)
    driver_version: str = ""
    pooling: dict[str, int] = field(default_factory=dict)
    """In `shared` mode: the `connects`, how many of them were `unpooled`, and what was `opened`."""

    def having(self, *outcomes: str) -> set[str]:
        """The tests with one of these."""
        return {test for test, outcome in self.outcomes.items() if outcome in outcomes}


# -- servers --------------------------------------------------------------------------------------


class Servers:
    """The private servers of this process, started when first asked for."""

    def __init__(self) -> None:
        self._open: list[Any] = []
        self._running: dict[str, Any] = {}

    def get(self, kind: str) -> Any:
        """The server of a kind. Raises `Unavailable` if no program of it is installed."""
        if kind not in self._running:
            servers = importlib.import_module("servers")
            cls = {"postgresql": servers.PostgreSQL, "mysql": servers.MariaDB}[kind]
            if not cls.is_installed():
                raise Unavailable(f"no {kind} server program was found")
            context = servers.private(cls)
            self._running[kind] = context.__enter__()
            self._open.append(context)
        return self._running[kind]

    def close(self) -> None:
        """Stop them."""
        while self._open:
            self._open.pop().__exit__(None, None, None)


@contextmanager
def running_servers() -> Iterator[Servers]:
    """Servers for as long as this lasts."""
    servers = Servers()
    try:
        yield servers
    finally:
        servers.close()


# -- what each suite needs ------------------------------------------------------------------------


def _prepare(suite: Suite, server: Any, folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """What the task and the environment of the child say of this suite alone. `folder`: a copy of the
    suite, of which anything may be changed."""
    if suite.name.startswith("dbapi20-"):
        arguments = _arguments(suite.driver, server, folder)
        environment = {"SUITE_DRIVER": suite.driver, "SUITE_ARGUMENTS": json.dumps(arguments)}
        return {"path": [str(HERE), str(folder)], "arguments": arguments}, environment
    return _OWN[suite.name](server, folder)


def _arguments(driver: str, server: Any, folder: Path) -> dict[str, Any]:
    if server is None:
        return {"database": str(folder / "dbapi20.db")}
    arguments: dict[str, Any] = server.arguments(driver)
    return arguments


def _prepare_sqlite3(server: Any, folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    return {"arguments": {"database": str(folder / "first.db")}}, {}


def _prepare_pymysql(server: Any, folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    for name in ("test1", "test2"):
        server.query(f"DROP DATABASE IF EXISTS {name}")
        server.query(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
    login = {
        "host": server.host, "port": server.port, "user": server.admin_user,
        "password": server.admin_password,
    }  # fmt: skip
    databases = [
        {**login, "db": "test1", "use_unicode": True, "local_infile": True},
        {**login, "db": "test2"},
    ]
    inside = folder / "pymysql"
    (inside / "tests" / "databases.json").write_text(json.dumps(databases), encoding="utf-8")
    # Its tests are a part of the driver's package; the driver is the one that is installed.
    return {"more_of_driver": [str(inside)], "arguments": databases[0]}, {}


def _prepare_psycopg2(server: Any, folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    server.query("DROP DATABASE IF EXISTS psycopg2_test")
    server.query("CREATE DATABASE psycopg2_test")
    with suppress(Exception):  # hstore is a package of its own in some distributions
        _with_hstore(server)
    environment = {
        "PSYCOPG2_TESTDB_HOST": server.host,
        "PSYCOPG2_TESTDB_PORT": str(server.port),
        "PSYCOPG2_TESTDB_USER": server.admin_user,
    }
    dsn = f"dbname=psycopg2_test host={server.host} port={server.port} user={server.admin_user}"
    return {"path": [str(folder)], "arguments": {"dsn": dsn}}, environment


def _with_hstore(server: Any) -> None:
    psycopg2: Any = importlib.import_module("psycopg2")
    conn = psycopg2.connect(
        dbname="psycopg2_test", host=server.host, port=server.port, user=server.admin_user
    )
    conn.cursor().execute("CREATE EXTENSION hstore")
    conn.commit()
    conn.close()


_OWN = {
    "sqlite3": _prepare_sqlite3,
    "pymysql": _prepare_pymysql,
    "psycopg2": _prepare_psycopg2,
}


# -- a run ----------------------------------------------------------------------------------------


def run(
    suite: Suite, mode: str, cache: Path, servers: Servers, part: bool = False, only: str = ""
) -> Run:
    """Run it, `bare` or pooled in a mode. `part`: only what every run of the tests includes; `only`:
    tests whose name begins so. Raises `Unavailable`."""
    try:
        driver: Any = importlib.import_module(suite.driver)
    except ImportError as exc:
        raise Unavailable(f"{suite.driver} is not installed ({exc})") from exc
    source = unpacked(suite, cache)
    server = servers.get(suite.server) if suite.server else None
    with tempfile.TemporaryDirectory(prefix="dbapi_pool_suites_") as work:
        folder = Path(work) / "suite"
        if source is None:
            folder.mkdir()
        else:
            shutil.copytree(source, folder)
        own, environment = _prepare(suite, server, folder)
        task = task_of(suite, mode, [only] if only else suite.part if part else [])
        task["left_out"] = suite.left_out if part else ()
        found = Run(suite.name, mode, driver_version=_version(driver))
        carry_out({**task, **own}, {**suite.environment, **environment}, Path(work), found)
    if mode == "shared" and not only:
        check_pooled(found)
    return found


def check_pooled(found: Run) -> None:
    """Raises `RuntimeError` if no `connect` was served by a pool: then it has shown nothing."""
    if found.pooling["connects"] == found.pooling["unpooled"]:
        raise RuntimeError(f"{found.suite}: nothing was pooled")


def task_of(suite: Suite, mode: str, part: Sequence[str]) -> dict[str, Any]:
    """What the child is told, but for what `_prepare` adds."""
    return {
        "driver": suite.driver,
        "modules": suite.modules,
        "patience": suite.patience,
        "ignores_warnings": suite.ignores_warnings,
        "part": list(part),
        "left_out": [],
        "pooled": mode != BARE,
        "fresh": mode == "fresh",
        "forks": mode in ("fresh", "fork"),
        "path": [],
        "more_of_driver": [],
        "arguments": None,
        "done": [],
    }


def carry_out(task: dict[str, Any], environment: Mapping[str, str], work: Path, found: Run) -> None:
    """Start the child; and again, after a test that ended it, for those behind that."""
    report, task_file = work / "report.jsonl", work / "task.json"
    report.touch()
    done: set[str] = set()
    for _ in range(_MOST_RESTARTS):
        task_file.write_text(json.dumps({**task, "done": sorted(done)}), encoding="utf-8")
        story = _start(task_file, report, environment, work)
        ended = _read(report, found, story)
        if ended:
            return
        if done == set(found.outcomes):
            raise RuntimeError(f"{found.suite} did not run: {story[-3000:]}")
        done = set(found.outcomes)
    raise RuntimeError(f"{found.suite} was ended {_MOST_RESTARTS} times by its tests")


def _start(task_file: Path, report: Path, environment: Mapping[str, str], work: Path) -> str:
    inside = work / "inside"
    shutil.rmtree(inside, ignore_errors=True)
    inside.mkdir()
    with (work / "output").open("wb") as output:
        subprocess.run(
            [sys.executable, str(HERE / "suite_child.py"), str(task_file), str(report)],
            cwd=inside, env={**os.environ, **environment}, stdin=subprocess.DEVNULL,
            stdout=output, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
    return (work / "output").read_text("utf-8", "replace")


def _read(report: Path, found: Run, story: str) -> bool:
    """Take in a report; whether it came to its end."""
    ended = False
    for line in report.read_text("utf-8").splitlines():
        with suppress(ValueError):
            entry = json.loads(line)
            test, outcome = entry["test"], entry["outcome"]
            ended = outcome == "end"
            if ended and entry["story"]:
                found.pooling = json.loads(entry["story"])
            if outcome == "begin":
                found.outcomes.setdefault(test, "crash")
            elif not ended:
                found.outcomes[test] = outcome
                found.stories[test] = entry["story"]
    for test in found.having("crash"):
        found.stories[test] = story[-2000:]
    return ended


def _version(driver: Any) -> str:
    """What is installed of it. (PyMySQL's own attribute has MySQLdb's version.)"""
    if hasattr(driver, "sqlite_version"):
        return str(driver.sqlite_version)
    for name in (driver.__name__, *_DISTRIBUTIONS.get(driver.__name__, ())):
        with suppress(metadata.PackageNotFoundError):
            return metadata.version(name)
    return ""


_DISTRIBUTIONS = {
    "psycopg2": ("psycopg2-binary",),
    "MySQLdb": ("mysqlclient",),
    "mysql.connector": ("mysql-connector-python",),
}
