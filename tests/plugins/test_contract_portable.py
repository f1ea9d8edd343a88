"""The portable defaults: which promises hold for a driver that no plugin knows, and which cannot.

`Driver()` itself, over drivers that have a plugin. What it cannot keep is listed here with the reason,
and so is what there is nothing to check of; the lists are exact.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import servers

from dbapi_pool import Driver
from dbapi_pool.testing.contract import Dirt, Knowledge, Subject, run_contract


def run(conn: Any, sql: str) -> Any:
    """Execute; the first row, if there is one."""
    cursor = conn.cursor()
    cursor.execute(sql)
    row = cursor.fetchone() if cursor.description else None
    cursor.close()
    return row


class Portable(Knowledge):
    """No plugin."""

    def driver(self) -> Driver:
        """The defaults."""
        return Driver()


class OverSQLite(Portable):
    slow = (
        "WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 40000000)"
        " SELECT max(x) FROM c"
    )
    setup = "PRAGMA cache_size = 77"
    setup_seen = "PRAGMA cache_size"
    attributes = {"row_factory": sqlite3.Row}
    refused = ({"database": "/no/such/folder/app.db"},)
    dirt = (
        Dirt(
            "a temporary table",
            lambda conn: run(conn, "CREATE TEMP TABLE mine (x INTEGER)"),
            lambda conn: run(conn, "SELECT count(*) FROM temp.sqlite_master"),
            replaced=True,
        ),
    )

    def set_autocommit(self, conn: Any, on: bool) -> None:
        """As before Python 3.12."""
        conn.isolation_level = None if on else ""


class OverPsycopg2(Portable):
    binary = "BYTEA"
    session = "SELECT pg_backend_pid()"
    kill = "SELECT pg_terminate_backend({session})"
    in_transaction = "SELECT xact_start IS NOT NULL FROM pg_stat_activity WHERE pid = {session}"
    slow = "SELECT pg_sleep(4)"
    setup = "SET application_name TO 'contract'"
    setup_seen = "SHOW application_name"
    attributes = {"autocommit": True, "readonly": True}
    refused = ({"password": "another password"}, {"dbname": "no_such_database"})
    unreachable = ({"port": 1},)
    dirt = (
        Dirt(
            "a setting",
            lambda conn: run(conn, "SET search_path TO elsewhere"),
            lambda conn: run(conn, "SHOW search_path"),
            replaced=True,
        ),
        Dirt(
            "a lock",
            lambda conn: run(conn, "SELECT pg_advisory_lock(77)"),
            lambda conn: run(
                conn,
                "SELECT count(*) FROM pg_locks"
                " WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
            ),
            replaced=True,
        ),
    )


class OverPyMySQL(Portable):
    session = "SELECT CONNECTION_ID()"
    kill = "KILL {session}"
    slow = "SELECT SLEEP(4)"
    setup = "SET SESSION group_concat_max_len = 4321"
    setup_seen = "SELECT @@group_concat_max_len"
    refused = ({"password": "another password"}, {"database": "no_such_database"})
    unreachable = ({"port": 1},)
    dirt = (
        Dirt(
            "a variable",
            lambda conn: run(conn, "SET @mine = 1"),
            lambda conn: run(conn, "SELECT @mine"),
            replaced=True,
        ),
        Dirt(
            "a method that changes an attribute",
            lambda conn: conn.autocommit(True),
            lambda conn: run(conn, "SELECT @@autocommit"),
            replaced=True,
        ),
    )


# -- what cannot be kept without knowing the driver ------------------------------------------------

LIVENESS = "PEP 249 has no way to ask a connection whether it is alive"
INTERRUPT = "PEP 249 has no way to cut a call"
RETRY = "PEP 249 has no word for a conflict between transactions"
REFUSED_CONNECT = "PEP 249 does not tell why connecting failed, so it is not tried again"
ATTRIBUTES = "PEP 249 names no attribute, so changed ones cost the connection"
LOST = "this driver has no `closed`, and PEP 249 has no word for a lost connection"
NO_DESCRIPTOR = "nothing that this driver offers cuts its files off from a child"

EVERYWHERE = {
    "a_closed_connection_is_not_lent": LIVENESS,
    "a_blocked_call_can_be_cut": INTERRUPT,
    "run_tries_again_after_a_conflict": RETRY,
}
ON_SERVERS = {
    **EVERYWHERE,
    "a_connection_killed_while_idle_is_not_lent": LIVENESS,
    "an_unreachable_server_is_waited_for": REFUSED_CONNECT,
}

BROKEN: dict[str, Mapping[str, str]] = {
    "sqlite3": {
        **EVERYWHERE,
        "attributes_cost_no_connection": ATTRIBUTES,
        "a_closed_connection_counts_as_lost": LOST,
        "the_parents_transaction_survives_the_childs_exit": NO_DESCRIPTOR,
        "the_parents_transaction_survives_what_the_child_forgets": NO_DESCRIPTOR,
        "the_parents_transaction_survives_what_the_child_closes": NO_DESCRIPTOR,
    },
    "psycopg2": {**ON_SERVERS, "attributes_cost_no_connection": ATTRIBUTES},
    "pymysql": {
        **ON_SERVERS,
        "a_closed_connection_counts_as_lost": LOST,
        "a_connection_killed_in_use_is_replaced": LOST,
        "idle_ones_are_replaced_when_all_were_killed": LOST,
        "run_tries_again_when_the_connection_is_lost": LOST,
        "a_commit_that_is_lost_is_not_tried_again": LOST,
    },
}

# -- what there is nothing to check of -------------------------------------------------------------

NO_OPTIONS = {
    "a_stable_isolation_level_reads_the_same_twice": "isolation is refused",
    "read_committed_sees_what_others_commit": "isolation is refused",
    "a_read_only_transaction_refuses_to_write": "readonly is refused",
    "a_read_only_error_is_no_failover": "readonly is refused",
    "restoring_is_idempotent": "there is no restore: the connection is closed",
}
NO_SERVER = dict.fromkeys(
    (
        "a_connection_killed_while_idle_is_not_lent",
        "a_connection_killed_in_use_is_replaced",
        "a_ping_does_not_connect_again",
        "a_lost_transaction_raises",
        "idle_ones_are_replaced_when_all_were_killed",
        "restoring_nothing_asks_the_server_nothing",
        "run_tries_again_when_the_connection_is_lost",
        "a_commit_that_is_lost_is_not_tried_again",
        "the_server_sees_no_transaction_after_a_ping",
        "an_unreachable_server_is_waited_for",
    ),
    "there is no server",
)
NO_ATTRIBUTE = dict.fromkeys(
    (
        "attributes_are_put_back",
        "attributes_cost_no_connection",
        "writing_an_attribute_reaches_the_driver",
    ),
    "autocommit is a method; its dirt is among those above",
)

NOT_APPLICABLE: dict[str, Mapping[str, str]] = {
    "sqlite3": {**NO_OPTIONS, **NO_SERVER},
    "psycopg2": NO_OPTIONS,
    "pymysql": {
        **NO_OPTIONS,
        **NO_ATTRIBUTE,
        "the_server_sees_no_transaction_after_a_ping": "asking needs an administrator",
    },
}


def kept_is_all_but_what_is_listed(module: str, subject: Subject) -> None:
    """Run all of it."""
    report = run_contract(subject)

    assert set(report.broken) == set(BROKEN[module]), str(report)
    assert set(report.not_applicable) == set(NOT_APPLICABLE[module]), str(report)


def test_over_sqlite3(tmp_path: Path) -> None:
    arguments = {"database": tmp_path / "app.db", "timeout": 0.2, "check_same_thread": False}

    kept_is_all_but_what_is_listed("sqlite3", Subject(sqlite3, (), arguments, OverSQLite()))


@pytest.mark.parametrize(
    ("module", "fixture", "knowledge"),
    [("psycopg2", "postgresql", OverPsycopg2()), ("pymysql", "mariadb_server", OverPyMySQL())],
    ids=["psycopg2", "pymysql"],
)
def test_over(
    module: str, fixture: str, knowledge: Knowledge, request: pytest.FixtureRequest
) -> None:
    creator = servers.driver_module(module)
    arguments = request.getfixturevalue(fixture).arguments(module)

    kept_is_all_but_what_is_listed(module, Subject(creator, (), arguments, knowledge))
