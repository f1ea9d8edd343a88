"""The contract of psycopg2 and psycopg with their plugin, on a PostgreSQL server."""

from __future__ import annotations

import importlib.util
from typing import Any

import dirt_postgresql
import pytest
import servers

from dbapi_pool.testing.contract import Dirt, DriverContract, Subject


def dirt_of(module: str) -> tuple[Dirt, ...]:
    """What can be left behind with this driver; nothing if it is not installed."""
    return dirt_postgresql.dirt_of(module) if importlib.util.find_spec(module) else ()


class PostgreSQLContract(DriverContract):
    """What both drivers have in common."""

    module = ""
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
    def subject(self, postgresql: Any) -> Subject:
        """The tests' server."""
        creator = servers.driver_module(self.module)
        return Subject(creator, (), postgresql.arguments(self.module), self)


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
