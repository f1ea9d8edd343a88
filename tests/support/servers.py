"""Private PostgreSQL and MariaDB servers for the tests: started on free ports, killed without regret.

Programs are found on PATH or where Debian puts them; `DBAPI_POOL_TEST_POSTGRESQL_URL` and
`DBAPI_POOL_TEST_MYSQL_URL` name a server to use instead (an administrator's URL of a server that may
be written to; what breaks a server is then skipped). Must never touch a server that it did not start
or was not given, nor know a pool.
"""

from __future__ import annotations

import ctypes
import getpass
import glob
import importlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn
from urllib.parse import quote, unquote, urlsplit

import psutil
import pytest

try:
    import trustme
except ImportError:  # needs `cryptography`, of which free-threaded Python 3.13 has no wheel
    trustme = None

START_PATIENCE = 60  # seconds; a start takes one or two, but the machine may be busy

PLUGIN_OF = {
    "psycopg2": "postgresql",
    "psycopg": "postgresql",
    "pymysql": "mysql",
    "MySQLdb": "mysql",
    "mysql.connector": "mysql",
    "mariadb": "mysql",
    "sqlite3": "sqlite",
}
"""The plugin (as `DBAPI_POOL_TEST_REQUIRE` names it) that serves a DB-API module."""


FIXTURE_OF = {
    module: {"postgresql": "postgresql", "mysql": "mariadb_server"}[plugin]
    for module, plugin in PLUGIN_OF.items()
    if plugin != "sqlite"
}
"""The pytest fixture with the server for a DB-API module."""

OWN_FIXTURE_OF = {
    module: {"postgresql": "own_postgresql", "mysql": "own_mariadb"}[PLUGIN_OF[module]]
    for module in FIXTURE_OF
}
"""The one with a server for one test, which may break it."""


# -- what may be missing ---------------------------------------------------------------------------


def missing(plugin: str, what: str) -> NoReturn:
    """Skip, or fail where `DBAPI_POOL_TEST_REQUIRE` names the plugin."""
    required = os.environ.get("DBAPI_POOL_TEST_REQUIRE", "").replace(",", " ").split()
    if plugin in required:
        pytest.fail(f"{what}, and DBAPI_POOL_TEST_REQUIRE names {plugin}")
    pytest.skip(what, allow_module_level=True)


def driver_module(name: str) -> ModuleType:
    """Import a driver; skip or fail if it is not installed (see `missing`)."""
    try:
        return importlib.import_module(name)
    except ImportError as exc:
        missing(PLUGIN_OF[name], f"{name} is not installed ({exc})")


def program(name: str, *places: str) -> str | None:
    """Where a program is: on PATH, else in one of these folders (patterns; the last match wins)."""
    found = shutil.which(name)
    for place in places:
        found = found or max(glob.glob(f"{place}/{name}"), default=None)
    return found


# -- any server ------------------------------------------------------------------------------------


class Server:
    """One database server: an owner `user` of `database`, an administrator, and a role.

    `user` may become `role`, and also owns `other_database`.
    """

    kind = ""
    given = False
    """Whether it was named by a URL: it must not be stopped or killed then."""

    user = "pool"
    password = "p@ss/w%rd:1"  # every character that URLs have trouble with
    database = "pool"
    other_database = "pool_other"
    role = "pool_role"
    admin_user = "admin"
    host = "127.0.0.1"
    ca_file = ""
    alive_query = "SELECT 1"
    """What it answers as soon as it serves."""

    def __init__(self, folder: Path) -> None:
        """`folder`: an empty one that whoever runs the server may enter."""
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._admin: Any = None
        self.ca_file = str(folder / "ca.pem")
        self.make_certificates()
        self.initialise()
        self.start()
        self.create_users()

    # -- what each kind does in its own way --------------------------------------------------------

    def initialise(self) -> None:
        """Make the data directory."""
        raise NotImplementedError

    def command(self) -> list[str]:
        """What runs the server in the foreground."""
        raise NotImplementedError

    def create_users(self) -> None:
        """User, role and databases."""
        raise NotImplementedError

    def connect_admin(self) -> Any:
        """An administrator's connection, in autocommit mode."""
        raise NotImplementedError

    def arguments(self, module: str, tls: bool = False, admin: bool = False) -> dict[str, Any]:
        """Keyword arguments for that driver's `connect`."""
        raise NotImplementedError

    def stop_signal(self) -> signal.Signals:
        """What ends it quickly but orderly."""
        return signal.SIGTERM

    def sessions_query(self) -> str:
        """A query for the ids of all client sessions but its own."""
        raise NotImplementedError

    def kill_query(self, session: int) -> str:
        """Ends one session."""
        raise NotImplementedError

    # -- its process -------------------------------------------------------------------------------

    def make_certificates(self) -> None:
        """A certificate authority of its own, and a certificate for localhost."""
        if trustme is None:
            pytest.skip("no server: trustme, which makes its certificates, is not installed")
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.ca_file)
        certificate = authority.issue_cert("localhost", "127.0.0.1")
        certificate.private_key_pem.write_to_path(str(self.folder / "server.key"))
        with (self.folder / "server.pem").open("wb") as file:
            for blob in certificate.cert_chain_pems:
                file.write(blob.bytes())

    def run_as(self) -> str | None:
        """The system user to run it as; None: ours."""
        return None

    def start(self) -> None:
        """Start it, and wait until it serves."""
        log = (self.folder / "server.log").open("ab")
        with log:
            self._process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, user=self.run_as(),
                cwd=self.folder, start_new_session=True, extra_groups=[] if self.run_as() else None,
                preexec_fn=_die_with_parent if _may_die_with_parent() else None,
            )  # fmt: skip
        wait_for(self._serves, START_PATIENCE, self._story)

    def _serves(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"{self.kind} did not start: {self._story()}")
        try:
            self.query(self.alive_query)
        except Exception:
            return False
        return True

    def _story(self) -> str:
        return (self.folder / "server.log").read_text("utf-8", "replace")[-2000:]

    def stop(self) -> None:
        """End it in an orderly way: sessions are cut."""
        self._end(self.stop_signal())

    def restart(self) -> None:
        """`stop` and `start`, on the same port."""
        self.stop()
        self.start()

    def kill9(self) -> None:
        """Kill every process of it, at once."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Freeze every process of it, and wait until it is: a signal takes its time."""
        processes = self._processes()
        for process in processes:
            with suppress(psutil.NoSuchProcess):  # a session may just have ended
                process.send_signal(signal.SIGSTOP)
        wait_for(lambda: all(map(_is_stopped, processes)), START_PATIENCE)

    def resume(self) -> None:
        """Undo `pause`."""
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):  # what goes on may end others
                process.send_signal(signal.SIGCONT)

    def _processes(self) -> list[psutil.Process]:
        self._refuse_if_given()
        assert self._process is not None
        main = psutil.Process(self._process.pid)
        return [main, *main.children(recursive=True)]

    def _end(self, how: signal.Signals) -> None:
        self.forget_admin()
        processes = self._processes()
        for process in processes if how is signal.SIGKILL else processes[:1]:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(how)
        assert self._process is not None
        self._process.wait(START_PATIENCE)
        psutil.wait_procs(processes, START_PATIENCE)

    def _refuse_if_given(self) -> None:
        if self.given:
            pytest.skip(f"the {self.kind} server was given by URL: it is not ours to break")

    def close(self) -> None:
        """Kill it for good."""
        if self._process is not None and self._process.poll() is None:
            self.kill9()

    # -- asking it ---------------------------------------------------------------------------------

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Run a statement as administrator, on a connection of its own; the rows, if any."""
        if self._admin is None:
            self._admin = self.connect_admin()
        try:
            cursor = self._admin.cursor()
            cursor.execute(sql)
            return list(cursor.fetchall()) if cursor.description else []
        except Exception:
            self.forget_admin()
            raise

    def forget_admin(self) -> None:
        """The next query connects anew."""
        admin, self._admin = self._admin, None
        if admin is not None:
            with suppress(Exception):
                admin.close()

    def session_ids(self) -> list[int]:
        """Client sessions open now, without the administrator's own."""
        return [session for (session,) in self.query(self.sessions_query())]

    def sessions(self) -> int:
        """How many those are."""
        return len(self.session_ids())

    def kill_session(self, session: int) -> None:
        """End one session, and wait until it is gone."""
        with suppress(Exception):  # gone already
            self.query(self.kill_query(session))
        wait_for(lambda: session not in self.session_ids(), START_PATIENCE)

    def kill_sessions(self) -> None:
        """End every client session but the administrator's own, and wait until they are gone."""
        for session in (killed := self.session_ids()):
            with suppress(Exception):
                self.query(self.kill_query(session))
        wait_for(lambda: not set(killed) & set(self.session_ids()), START_PATIENCE)

    def url(self, driver: str | None = None, tls: bool = False) -> str:
        """A database URL: `scheme://` or `scheme+driver://`."""
        scheme = self.scheme() + (f"+{driver}" if driver else "")
        login = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}"
        query = self.url_query(driver, tls)
        return f"{scheme}://{login}@{self.host}:{self.port}/{self.database}{query}"

    def scheme(self) -> str:
        """How its URLs begin."""
        return self.kind

    def url_query(self, driver: str | None, tls: bool) -> str:
        """What a URL needs for TLS, or for none."""
        return ""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} on port {self.port}>"


# -- PostgreSQL ------------------------------------------------------------------------------------


class PostgreSQL(Server):
    """https://www.postgresql.org/docs/current/app-initdb.html and app-postgres.html."""

    kind = "postgresql"

    @staticmethod
    def program(name: str) -> str | None:
        """One of its programs."""
        return program(name, "/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/bin")

    @classmethod
    def is_installed(cls) -> bool:
        """Whether there is a server to start, and a driver to ask it."""
        return bool(cls.program("initdb") and cls.program("postgres"))

    def run_as(self) -> str | None:
        # It refuses to run as root.
        return unprivileged_user() if os.geteuid() == 0 else None

    def initialise(self) -> None:
        user = self.run_as()
        if user:
            give_to(user, self.folder)
        (self.folder / "server.key").chmod(0o600)
        subprocess.run(
            [str(self.program("initdb")), "-D", "data", "-U", self.admin_user, "-A", "trust",
             "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"],
            cwd=self.folder, user=user, check=True, stdout=subprocess.DEVNULL,
            extra_groups=[] if user else None,
        )  # fmt: skip
        (self.folder / "data" / "pg_hba.conf").write_text(
            f"host all {self.admin_user} 127.0.0.1/32 trust\n"
            "host all all 127.0.0.1/32 scram-sha-256\n"
        )

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "off",
            "max_connections": 60,
            "max_prepared_transactions": 10,
            "shared_buffers": "16MB",
            "ssl": "on",
            "ssl_cert_file": self.folder / "server.pem",
            "ssl_key_file": self.folder / "server.key",
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [str(self.program("postgres")), "-D", "data", *options]

    def stop_signal(self) -> signal.Signals:
        return signal.SIGINT  # "fast shutdown"

    def connect_admin(self) -> Any:
        connection = driver_module("psycopg2").connect(
            host=self.host, port=self.port, user=self.admin_user, dbname="postgres"
        )
        connection.autocommit = True
        return connection

    def create_users(self) -> None:
        if self.query(f"SELECT FROM pg_roles WHERE rolname = '{self.user}'"):
            return
        self.query(f"CREATE ROLE {self.user} LOGIN PASSWORD '{self.password}'")
        self.query(f"CREATE ROLE {self.role}")
        self.query(f"GRANT {self.role} TO {self.user}")
        for database in (self.database, self.other_database):
            self.query(f"CREATE DATABASE {database} OWNER {self.user}")

    def arguments(self, module: str, tls: bool = False, admin: bool = False) -> dict[str, Any]:
        secret = {} if admin else {"password": self.password}
        user = self.admin_user if admin else self.user
        ssl = {"sslmode": "verify-full", "sslrootcert": self.ca_file}
        return {
            "host": self.host, "port": self.port, "user": user, "dbname": self.database, **secret,
            **(ssl if tls else {"sslmode": "disable"}),
        }  # fmt: skip

    def url_query(self, driver: str | None, tls: bool) -> str:
        if tls:
            return f"?sslmode=verify-full&sslrootcert={quote(self.ca_file, safe='')}"
        return "?sslmode=disable"

    def sessions_query(self) -> str:
        return (
            "SELECT pid FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )

    def kill_query(self, session: int) -> str:
        return f"SELECT pg_terminate_backend({session})"


# -- MariaDB ---------------------------------------------------------------------------------------


class MariaDB(Server):
    """https://mariadb.com/kb/en/mariadb-install-db/ and https://mariadb.com/kb/en/mariadbd-options/."""

    kind = "mysql"
    admin_password = "admin"

    @staticmethod
    def program(*names: str) -> str | None:
        """One of its programs, under whichever name."""
        found = (
            program(name, "/usr/sbin", "/usr/local/bin", "/opt/homebrew/bin") for name in names
        )
        return next(filter(None, found), None)

    @classmethod
    def is_installed(cls) -> bool:
        """Whether there is a server to start."""
        return bool(cls.program("mariadbd") and cls.program("mariadb-install-db"))

    def _system_user(self) -> str:
        return "root" if os.geteuid() == 0 else getpass.getuser()

    def initialise(self) -> None:
        subprocess.run(
            [str(self.program("mariadb-install-db")), "--no-defaults", f"--datadir={self.folder}/data",
             f"--user={self._system_user()}", "--auth-root-authentication-method=normal",
             "--skip-test-db", "--skip-name-resolve"],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        (self.folder / "init.sql").write_text(
            f"CREATE USER IF NOT EXISTS '{self.admin_user}'@'%'"
            f" IDENTIFIED BY '{self.admin_password}';\n"
            f"GRANT ALL ON *.* TO '{self.admin_user}'@'%' WITH GRANT OPTION;\n"
        )

    def command(self) -> list[str]:
        folder = self.folder
        return [
            str(self.program("mariadbd")), "--no-defaults", f"--datadir={folder}/data",
            f"--user={self._system_user()}", f"--port={self.port}", "--bind-address=127.0.0.1",
            f"--socket={folder}/socket", f"--pid-file={folder}/pid", "--skip-name-resolve",
            "--innodb-flush-log-at-trx-commit=2", "--innodb-buffer-pool-size=32M",
            "--innodb-log-file-size=16M", "--max-connections=120",
            # Not /tmp: a server that starts there deletes the temporary tables of all others.
            "--performance-schema=OFF", f"--init-file={folder}/init.sql", f"--tmpdir={folder}",
            "--innodb-fast-shutdown=2", f"--ssl-ca={self.ca_file}",
            f"--ssl-cert={folder}/server.pem", f"--ssl-key={folder}/server.key",
        ]  # fmt: skip

    def connect_admin(self) -> Any:
        return driver_module("pymysql").connect(
            host=self.host, port=self.port, user=self.admin_user, password=self.admin_password,
            autocommit=True, ssl_disabled=True, connect_timeout=START_PATIENCE,
        )  # fmt: skip

    def create_users(self) -> None:
        if self.query(f"SELECT 1 FROM mysql.user WHERE user = '{self.user}'"):
            return
        self.query(f"CREATE USER '{self.user}'@'%' IDENTIFIED BY '{self.password}'")
        self.query(f"CREATE ROLE {self.role}")
        self.query(f"GRANT {self.role} TO '{self.user}'@'%'")
        for database in (self.database, self.other_database):
            self.query(f"CREATE DATABASE {database} CHARACTER SET utf8mb4")
            self.query(f"GRANT ALL ON {database}.* TO '{self.user}'@'%'")

    def arguments(self, module: str, tls: bool = False, admin: bool = False) -> dict[str, Any]:
        database = "database" if module in ("mysql.connector", "mariadb", "pymysql") else "db"
        return {
            "host": self.host,
            "port": self.port,
            "user": self.admin_user if admin else self.user,
            "password": self.admin_password if admin else self.password,
            database: self.database,
            **self._tls_arguments(module, tls),
        }

    def _tls_arguments(self, module: str, tls: bool) -> dict[str, Any]:
        if module == "pymysql":
            verify = {"ssl_ca": self.ca_file, "ssl_verify_cert": True, "ssl_verify_identity": True}
            return verify if tls else {"ssl_disabled": True}
        if module == "MySQLdb":
            return (
                {"ssl": {"ca": self.ca_file}, "ssl_mode": "VERIFY_IDENTITY"}
                if tls
                else {"ssl_mode": "DISABLED"}
            )
        if module == "mariadb":
            return {"ssl_ca": self.ca_file, "ssl_verify_cert": True} if tls else {}
        verify = {"ssl_ca": self.ca_file, "ssl_verify_cert": True}
        return {"use_pure": True, **(verify if tls else {"ssl_disabled": True})}

    def url_query(self, driver: str | None, tls: bool) -> str:
        return f"?ssl_ca={quote(self.ca_file, safe='')}" if tls else ""

    def sessions_query(self) -> str:
        return (
            "SELECT id FROM information_schema.processlist"
            " WHERE id <> CONNECTION_ID() AND user <> 'system user' AND command <> 'Daemon'"
        )

    def kill_query(self, session: int) -> str:
        return f"KILL {session}"


# -- a server that somebody gave ---------------------------------------------------------------------


def given(kind: type[Server]) -> Server | None:
    """The server that the environment names, if any."""
    url = os.environ.get(f"DBAPI_POOL_TEST_{kind.kind.upper()}_URL")
    if not url:
        return None
    parts = urlsplit(url)
    server = kind.__new__(kind)
    server.given = True
    server._process = server._admin = None
    server.host, server.port = parts.hostname or "127.0.0.1", parts.port or 0
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    connect = {"host": server.host, "port": server.port, "user": user, "password": password}
    server.connect_admin = lambda: _connect_given(kind, connect)  # type: ignore[method-assign]
    server.create_users()
    return server


def _connect_given(kind: type[Server], arguments: dict[str, Any]) -> Any:
    if kind is PostgreSQL:
        connection = driver_module("psycopg2").connect(dbname="postgres", **arguments)
        connection.autocommit = True
        return connection
    return driver_module("pymysql").connect(autocommit=True, **arguments)


@contextmanager
def private(kind: type[Server]) -> Iterator[Server]:
    """A server in a folder of its own, gone afterwards."""
    # Not pytest's own folder: the user that the server runs as may not enter that.
    folder = Path(tempfile.mkdtemp(prefix=f"dbapi_pool_{kind.kind}_"))
    folder.chmod(0o755)
    server = None
    try:
        server = kind(folder)
        yield server
    finally:
        if server is not None:
            server.close()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running(kind: type[Server], own: bool = False) -> Iterator[Server]:
    """For fixtures: the given server, or a private one; skips or fails if there is none.

    `own`: one that may be broken.
    """
    driver_module("psycopg2" if kind is PostgreSQL else "pymysql")
    server = given(kind)
    if server is not None:
        if own:
            server._refuse_if_given()
        yield server
    elif not kind.is_installed():  # type: ignore[attr-defined]
        missing(kind.kind, f"no {kind.kind} server program was found")
    else:
        with private(kind) as started:
            yield started


# -- small things ----------------------------------------------------------------------------------


def _may_die_with_parent() -> bool:
    # "Parent" means the thread that starts it, and only the main one lives as long as the run.
    return sys.platform == "linux" and threading.current_thread() is threading.main_thread()


def _die_with_parent() -> None:
    """In the server's process: have the kernel end it when a test run is killed, whose fixtures then
    cannot. See https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def _is_stopped(process: psutil.Process) -> bool:
    try:
        return bool(process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE))
    except psutil.NoSuchProcess:  # one of its children had just ended
        return True


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(
    holds: Callable[[], bool], seconds: float, story: Callable[[], str] = lambda: ""
) -> None:
    """Return when `holds()`; raises `TimeoutError` when that takes longer."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"still not so after {seconds} s; {story()}")
        time.sleep(0.01)


def unprivileged_user() -> str:
    """Somebody who may run a server: the one that Debian's package made, or nobody."""
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise RuntimeError("running as root, and there is no user postgres or nobody")


def give_to(user: str, folder: Path) -> None:
    """Change the owner of a folder and what is in it."""
    for path in (folder, *folder.iterdir()):
        shutil.chown(path, user)
