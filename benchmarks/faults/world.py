"""Private servers, which may be broken in more ways than the tests' own, and their contenders."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..adapters import _is_installed
from ..measures.real import _support

MODULES = {
    "postgresql": ("psycopg2", "psycopg"),
    "mysql": ("pymysql",),
    "sqlite": ("sqlite3",),
}
"""The drivers of each kind of server."""

_TABLE = "CREATE TABLE IF NOT EXISTS faults_seen (tag VARCHAR(80), step INTEGER)"


class _PostgreSQL:
    """Mixed into the tests' server: room for all pools, a beginning that can be drawn out, and a
    life as a standby.
    """

    def command(self) -> list[str]:
        return [*super().command(), "-c", "max_connections=150"]  # type: ignore[misc]

    def begin_to_start(self: Any) -> None:
        """Restart it as a standby that lets nobody in."""
        self.stop()
        self._signal_file("standby.signal")
        self._launch("-c", "hot_standby=off")
        _support("servers").wait_for(lambda: "database system" in self._refusal(), 30)

    def finish_start(self: Any) -> None:
        """Promote it: https://www.postgresql.org/docs/current/app-pg-ctl.html."""
        self._signal_file("promote")
        self._process.send_signal(signal.SIGUSR1)
        _support("servers").wait_for(lambda: self._serves() and not self.is_read_only(), 30)

    become_writable = finish_start

    def become_read_only(self: Any) -> None:
        """Restart it as a standby that answers questions."""
        self.stop()
        self._signal_file("standby.signal")
        self.start()

    def is_read_only(self: Any) -> bool:
        """Whether it is a standby."""
        return bool(self.query("SELECT pg_is_in_recovery()")[0][0])

    def _signal_file(self: Any, name: str) -> None:
        file = self.folder / "data" / name
        file.touch()
        if user := self.run_as():
            shutil.chown(file, user)

    def _launch(self: Any, *options: str) -> None:
        servers, user = _support("servers"), self.run_as()
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self.command(), *options], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                user=user, cwd=self.folder, start_new_session=True,
                extra_groups=[] if user else None,
                preexec_fn=servers._die_with_parent if servers._may_die_with_parent() else None,
            )  # fmt: skip

    def _refusal(self: Any) -> str:
        try:
            self.connect_admin().close()
        except Exception as exc:
            return str(exc)
        return ""


class _MariaDB:
    """Mixed into the tests' server: one that can be demoted."""

    def become_read_only(self: Any) -> None:
        """As a primary that is one no longer: its sessions stay."""
        self.query("SET GLOBAL read_only = 1")

    def become_writable(self: Any) -> None:
        """Undo that."""
        self.query("SET GLOBAL read_only = 0")

    def is_read_only(self: Any) -> bool:
        """Whether it is."""
        return bool(self.query("SELECT @@read_only")[0][0])


def _kinds_of_servers() -> dict[str, type[Any]]:
    servers = _support("servers")
    return {
        "postgresql": type("PostgreSQL", (_PostgreSQL, servers.PostgreSQL), {}),
        "mysql": type("MariaDB", (_MariaDB, servers.MariaDB), {}),
    }


class File:
    """SQLite's "server": a file in a folder that can be missing."""

    kind = "sqlite"

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "there"
        self._folder.mkdir()
        self._numbers = itertools.count()

    def arguments(self, module: str) -> dict[str, Any]:
        """Those of `connect`: a file of its own each time."""
        file = self._folder / f"{next(self._numbers)}.db"
        return {"database": str(file), "check_same_thread": False}

    def hide(self) -> None:
        """The folder is gone."""
        self._folder.rename(self._folder.with_name("away"))

    def show(self) -> None:
        """And back."""
        self._folder.with_name("away").rename(self._folder)


class World:
    """The servers of one run, started when first asked for."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._kinds = _kinds_of_servers()
        self._servers: dict[str, Any] = {}
        self._seconds: dict[str, Any] = {}
        self.others: list[Any] = []
        """Connections that are in the way."""
        self.skipped: dict[str, str] = {}

    def __enter__(self) -> World:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close_others()
        self._stack.close()

    def modules(self, kinds: tuple[str, ...], wanted: list[str]) -> Iterator[tuple[str, str]]:
        """Kind and driver of what can be had."""
        for kind in kinds:
            for module in MODULES[kind]:
                if wanted and module not in wanted:
                    continue
                if not _is_installed(module):
                    self.skipped[module] = f"not installed: {module}"
                elif self.server(kind) is not None:
                    yield kind, module

    def server(self, kind: str) -> Any:
        """The server of a kind; None if there is none here."""
        if kind not in self._servers:
            self._servers[kind] = self._start(kind)
        return self._servers[kind]

    def second(self, kind: str) -> Any:
        """Another one."""
        if kind not in self._seconds:
            self._seconds[kind] = self._start(kind)
        return self._seconds[kind]

    def _start(self, kind: str) -> Any:
        if kind == "sqlite":
            folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="dbapi_pool_"))
            return File(Path(folder))
        import pytest  # the tests' servers skip by it

        try:
            if not self._kinds[kind].is_installed():
                self.skipped[kind] = f"no {kind} server program was found"
                return None
            server = self._stack.enter_context(_support("servers").private(self._kinds[kind]))
        except pytest.skip.Exception as exc:
            self.skipped[kind] = str(exc)
            return None
        conn = self.connect(server)
        conn.cursor().execute(_TABLE)
        conn.commit()
        conn.close()
        return server

    def connect(self, server: Any) -> Any:
        """A connection beside all pools."""
        module = MODULES[server.kind][0]
        return importlib.import_module(module).connect(**server.arguments(module))

    def rows(self, server: Any, sql: str) -> list[Any]:
        """What the database shows to somebody new."""
        conn = self.connect(server)
        try:
            cursor = conn.cursor()
            cursor.execute(sql)
            return list(cursor.fetchall())
        finally:
            conn.close()

    def servers_of(self, contenders: list[Any]) -> list[Any]:
        """The servers of some contenders, each once."""
        return list({id(one.server): one.server for one in contenders}.values())

    def repair(self) -> None:
        """Whatever a fault left: nobody is in the way, and every server may be written to."""
        self.close_others()
        for kind, server in self._servers.items():
            if kind != "sqlite" and server is not None and server.is_read_only():
                server.become_writable()

    def close_others(self) -> None:
        """Nobody is in the way any more."""
        while self.others:
            with contextlib.suppress(Exception):
                self.others.pop().close()
