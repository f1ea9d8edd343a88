"""The contract of psycopg2 and psycopg with their plugin, on a PostgreSQL server."""

from __future__ import annotations

import importlib.util
from typing import Any

import dirt_postgresql
import pytest
import servers
from native_contract import LACKS

from dbapi_pool.testing.contract import Dirt, DriverContract, Subject


def dirt_of(module: str) -> tuple[Dirt, ...]:
    """What can be left behind with this driver; nothing if it is not installed."""
    return dirt_postgresql.dirt_of(module) if importlib.util.find_spec(module) else ()


class PostgreSQLContract(DriverContract):
    """What both drivers have in common."""

    module = ""
    server = "postgresql"
    """The fixture with the server, or with what stands before it."""
    binary = "BYTEA"
    session = "SELECT pg_backend_pid()"
    kill = "SELECT pg_terminate_backend({session})"
    in_transaction = (
        "SELECT state LIKE 'idle in transaction%' FROM pg_stat_activity WHERE pid = {session}"
    )
    slow = "SELECT pg_sleep(30)"
    setup = "SET application_name TO 'contract'"
    setup_seen = "SHOW application_name"
    refused = ({"password": "another password"}, {"dbname": "no_such_database"})
    unreachable = ({"port": 1},)

    @pytest.fixture
    def subject(self, request: pytest.FixtureRequest) -> Subject:
        """The tests' server."""
        creator = servers.driver_module(self.module)
        server = request.getfixturevalue(self.server)
        return Subject(creator, (), server.arguments(self.module), self)


class TestPsycopg2(PostgreSQLContract):
    module = "psycopg2"
    attributes = {"autocommit": True, "isolation_level": 2, "readonly": True, "deferrable": True}
    dirt = dirt_of("psycopg2")


class TestPsycopg(PostgreSQLContract):
    module = "psycopg"
    attributes = {"autocommit": True, "read_only": True, "deferrable": True, "prepare_threshold": 1}
    dirt = dirt_of("psycopg")


class TestPsycopg2OverTLS(PostgreSQLContract):
    module = "psycopg2"

    @pytest.fixture
    def subject(self, postgresql: Any) -> Subject:
        """The same, encrypted."""
        creator = servers.driver_module(self.module)
        return Subject(creator, (), postgresql.arguments(self.module, tls=True), self)


class TestURL(PostgreSQLContract):
    refused = unreachable = ()

    @pytest.fixture
    def subject(self, postgresql: Any) -> Subject:
        """The same, by a URL."""
        servers.driver_module("psycopg2")
        return Subject(postgresql.url("psycopg2"), knowledge=self)


# -- through PgBouncer ----------------------------------------------------------------------------


class TestPsycopg2BySession(TestPsycopg2):
    """Everything holds."""

    server = "pgbouncer_by_session"


class TestPsycopgBySession(TestPsycopg):
    """Everything holds."""

    server = "pgbouncer_by_session"


_NOBODYS = "between two transactions a session is nobody's, and "
BY_TRANSACTION = {
    "restoring_nothing_asks_the_server_nothing": _NOBODYS + "the killer gets the one to be killed",
    "a_connection_killed_while_idle_is_not_lent": _NOBODYS + "the connection outlives it",
    "a_ping_does_not_connect_again": _NOBODYS + "PgBouncer gives the ping another one",
    "a_connection_killed_in_use_is_replaced": _NOBODYS + "the killer gets the one to be killed",
    "idle_ones_are_replaced_when_all_were_killed": _NOBODYS + "the connections outlive them",
}
"""What the kit cannot ask there, and why; tests/test_pgbouncer.py asks the same in another way.

What borrowers leave in their sessions is cleaned here only since PgBouncer has no other clients: see
there, too.
"""


class TestPsycopg2ByTransaction(TestPsycopg2):
    server = "pgbouncer_by_transaction"
    lacks = BY_TRANSACTION


class TestPsycopgByTransaction(TestPsycopg):
    server = "pgbouncer_by_transaction"
    lacks = BY_TRANSACTION


# -- the driver's own connections are lent ----------------------------------------------------------


class TestPsycopg2Native(TestPsycopg2):
    settings = {"native": True}
    lacks = LACKS


class TestPsycopgNative(TestPsycopg):
    settings = {"native": True}
    lacks = LACKS
