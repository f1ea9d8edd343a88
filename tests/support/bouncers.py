"""A private PgBouncer in front of a private PostgreSQL, in any pool mode; killed without regret.

The program is found on PATH, or where Debian puts it. Must never touch a PgBouncer that it did not
start, nor know a pool.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from servers import PostgreSQL, Server, driver_module, give_to, missing, program, unprivileged_user

MODES = ("session", "transaction")
"""Those that the pool works behind. The third, "statement", refuses transactions."""


class PgBouncer(Server):
    """https://www.pgbouncer.org/config.html. Its users and databases are those of the server behind.

    `query` goes to its own console: https://www.pgbouncer.org/usage.html#admin-console.
    """

    kind = "pgbouncer"
    alive_query = "SHOW VERSION"
    admin_password = "console"

    def __init__(self, folder: Path, behind: Server, settings: Mapping[str, Any]) -> None:
        """`behind`: the PostgreSQL. `settings`: of the section [pgbouncer]."""
        self.behind = behind
        self.settings = dict(settings)
        super().__init__(folder)

    @staticmethod
    def installed() -> str | None:
        """Where the program is."""
        return program("pgbouncer", "/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin")

    @classmethod
    def version(cls) -> tuple[int, ...]:
        """Of the program: `(1, 21)`."""
        told = subprocess.run(
            [str(cls.installed()), "--version"], check=True, capture_output=True, text=True
        ).stdout
        return tuple(map(int, re.findall(r"\d+", told)[:2]))

    def run_as(self) -> str | None:
        # It refuses to run as root.
        return unprivileged_user() if os.geteuid() == 0 else None

    def initialise(self) -> None:
        (self.folder / "userlist.txt").write_text(
            f'"{self.user}" "{self.password}"\n"{self.admin_user}" "{self.admin_password}"\n'
        )
        self.configure()
        if user := self.run_as():
            give_to(user, self.folder)
        (self.folder / "server.key").chmod(0o600)

    def configure(self, **settings: Any) -> None:
        """Write its configuration, with these settings changed: for a `start`, or `RELOAD`."""
        self.settings.update(settings)
        behind = f"host={self.behind.host} port={self.behind.port}"
        lines = [
            "[databases]",
            *(f"{name} = {behind}" for name in (self.behind.database, self.behind.other_database)),
            "[pgbouncer]",
            *(f"{name} = {value}" for name, value in (self._basis() | self.settings).items()),
        ]
        (self.folder / "pgbouncer.ini").write_text("\n".join(lines) + "\n")

    def _basis(self) -> dict[str, Any]:
        return {
            "listen_addr": self.host,
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "scram-sha-256",
            "auth_file": self.folder / "userlist.txt",
            "admin_users": self.admin_user,
            "client_tls_sslmode": "allow",
            "client_tls_key_file": self.folder / "server.key",
            "client_tls_cert_file": self.folder / "server.pem",
        }

    def command(self) -> list[str]:
        return [str(self.installed()), str(self.folder / "pgbouncer.ini")]

    def stop_signal(self) -> signal.Signals:
        # At once in every version: new ones wait for their clients after SIGTERM.
        return signal.SIGQUIT

    def create_users(self) -> None:
        """Nothing: they are in the list that `initialise` wrote, or the server's."""

    def connect_admin(self) -> Any:
        connection = driver_module("psycopg2").connect(
            host=self.host, port=self.port, user=self.admin_user, password=self.admin_password,
            dbname="pgbouncer",
        )  # fmt: skip
        connection.autocommit = True
        return connection

    def shown(self, what: str) -> list[dict[str, Any]]:
        """The rows of `SHOW what`, by the names of the columns."""
        if self._admin is None:
            self._admin = self.connect_admin()
        cursor = self._admin.cursor()
        cursor.execute(f"SHOW {what}")
        names = [column.name for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def pools(self) -> dict[str, Any]:
        """The line of `SHOW POOLS` for the tests' user and database."""
        rows = (row for row in self.shown("POOLS") if row["database"] == self.database)
        return next(rows, {})

    def scheme(self) -> str:
        return "postgresql"

    def arguments(self, module: str, tls: bool = False, admin: bool = False) -> dict[str, Any]:
        ssl = {"sslmode": "verify-full", "sslrootcert": self.ca_file}
        return {
            "host": self.host, "port": self.port, "user": self.user, "password": self.password,
            "dbname": self.database, **(ssl if tls else {"sslmode": "disable"}),
        }  # fmt: skip

    def url_query(self, driver: str | None, tls: bool) -> str:
        return PostgreSQL.url_query(self, driver, tls)  # type: ignore[arg-type]


@contextmanager
def bouncing(behind: Server, mode: str, **settings: Any) -> Iterator[PgBouncer]:
    """For fixtures: a private PgBouncer in this mode; skips or fails if there is none to start."""
    if behind.given:
        pytest.skip("the PostgreSQL server was given by URL: who may log in there is not known")
    if PgBouncer.installed() is None:
        missing("pgbouncer", "no program pgbouncer was found")
    # Not pytest's own folder: the user that it runs as may not enter that.
    folder = Path(tempfile.mkdtemp(prefix="dbapi_pool_pgbouncer_"))
    folder.chmod(0o755)
    bouncer = None
    try:
        bouncer = PgBouncer(folder, behind, {"pool_mode": mode, **settings})
        yield bouncer
    finally:
        if bouncer is not None:
            bouncer.close()
        shutil.rmtree(folder, ignore_errors=True)
