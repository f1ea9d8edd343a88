"""The private servers that the other tests rely on: quick to start, plain and TLS, killable."""

from __future__ import annotations

import time
from typing import Any

import pytest
import servers

DRIVERS = [
    ("postgresql", "psycopg2"),
    ("postgresql", "psycopg"),
    ("mariadb_server", "pymysql"),
    ("mariadb_server", "MySQLdb"),
    ("mariadb_server", "mysql.connector"),
    ("mariadb_server", "mariadb"),
]
TLS_IN_USE = {
    "postgresql": "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
    "mariadb_server": "SHOW SESSION STATUS LIKE 'Ssl_version'",
}


def connect(server: servers.Server, module: str, **how: Any) -> Any:
    return servers.driver_module(module).connect(**server.arguments(module, **how))


def one(conn: Any, sql: str) -> Any:
    cursor = conn.cursor()
    cursor.execute(sql)
    row = cursor.fetchone()
    cursor.close()
    return row[-1]


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize(("fixture", "module"), DRIVERS)
def test_every_driver_connects_plain_and_over_tls(
    request: pytest.FixtureRequest, fixture: str, module: str, tls: bool
) -> None:
    conn = connect(request.getfixturevalue(fixture), module, tls=tls)
    assert bool(one(conn, TLS_IN_USE[fixture])) is tls
    conn.close()


@pytest.mark.parametrize(("fixture", "module"), [DRIVERS[0], DRIVERS[2]])
def test_sessions_are_counted_and_killed(
    request: pytest.FixtureRequest, fixture: str, module: str
) -> None:
    server = request.getfixturevalue(fixture)
    before = server.sessions()
    conn = connect(server, module)
    assert server.sessions() == before + 1
    server.kill_sessions()
    assert server.sessions() == 0
    with pytest.raises(servers.driver_module(module).OperationalError):
        one(conn, "SELECT 1")


@pytest.mark.parametrize("kind", [servers.PostgreSQL, servers.MariaDB])
def test_a_server_starts_in_seconds_and_can_be_restarted_killed_and_frozen(
    kind: type[servers.Server],
) -> None:
    begun = time.monotonic()
    with servers.running(kind, own=True) as server:
        assert time.monotonic() - begun < 20  # one to four where nothing else runs
        module = "psycopg2" if kind is servers.PostgreSQL else "pymysql"
        server.restart()
        server.kill9()
        with pytest.raises(servers.driver_module(module).OperationalError):
            connect(server, module)
        server.start()
        server.pause()
        server.resume()
        assert one(connect(server, module), "SELECT 1") == 1
