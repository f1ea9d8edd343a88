"""The contract of sqlite3 with its plugin: a file, and a database in memory that connections share."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from native_contract import LACKS

from dbapi_pool.testing.contract import Dirt, DriverContract, Subject

SLOW = (
    "WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 40000000)"
    " SELECT max(x) FROM c"
)


def value(conn: Any, sql: str) -> Any:
    """The first column of the first row."""
    return conn.execute(sql).fetchone()[0]


def nothing(*args: Any) -> None:
    """A factory, function, hook."""


class SQLiteContract(DriverContract):
    """What both have in common."""

    creator = sqlite3
    slow = SLOW
    setup = "PRAGMA cache_size = 77"
    setup_seen = "PRAGMA cache_size"
    attributes = {"row_factory": sqlite3.Row, "text_factory": bytes, "isolation_level": "IMMEDIATE"}

    def set_autocommit(self, conn: Any, on: bool) -> None:
        """Before Python 3.12, and as a rule still, this is what autocommit is called here."""
        conn.isolation_level = None if on else ""


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


class TestFile(SQLiteContract):
    """A file: what is more than rows costs the connection, which is quicker than cleaning it."""

    refused = ({"database": "/no/such/folder/app.db"},)
    lacks = {
        **NO_SERVER,
        "read_committed_sees_what_others_commit": "SQLite's transactions are all SERIALIZABLE",
    }
    dirt = (
        Dirt(
            "setting",
            lambda conn: conn.execute("PRAGMA cache_size = 10"),
            lambda conn: value(conn, "PRAGMA cache_size"),
            replaced=True,
        ),
        Dirt(
            "temporary table",
            lambda conn: conn.execute("CREATE TEMP TABLE mine (x)"),
            lambda conn: value(conn, "SELECT count(*) FROM temp.sqlite_master"),
            replaced=True,
        ),
        Dirt(
            "attached database",
            lambda conn: conn.execute("ATTACH ':memory:' AS other"),
            lambda conn: len(conn.execute("PRAGMA database_list").fetchall()),
            replaced=True,
        ),
        Dirt(
            "function",
            lambda conn: conn.create_function("mine", 0, nothing),
            lambda conn: value(
                conn, "SELECT count(*) FROM pragma_function_list WHERE name = 'mine'"
            ),
            replaced=True,
        ),
        Dirt(
            "row factory",
            lambda conn: setattr(conn, "row_factory", sqlite3.Row),
            lambda conn: type(conn.execute("SELECT 1").fetchone()),
        ),
        Dirt(
            "open transaction",
            lambda conn: conn.execute("BEGIN IMMEDIATE"),
            lambda conn: conn.in_transaction,
        ),
    )

    @pytest.fixture
    def arguments(self, tmp_path: Path) -> dict[str, Any]:
        """A file of each test's own, and no patience with locks."""
        return {"database": str(tmp_path / "contract.db"), "timeout": 0.2}


class TestURL(TestFile):
    """The same, by a URL."""

    dirt = ()
    refused = ()

    @pytest.fixture
    def subject(self, tmp_path: Path) -> Subject:
        """A file of each test's own."""
        return Subject(f"sqlite:///{tmp_path}/contract.db?timeout=0.2", knowledge=self)


# https://www.sqlite.org/sharedcache.html, section 2.2
SHARED_CACHE = "with a shared cache nobody can read a table that another has written to"


class TestMemory(SQLiteContract):
    """In memory, shared: closing a connection would lose the data, so it is cleaned in place."""

    lacks = {
        **NO_SERVER,
        "read_committed_sees_what_others_commit": "SQLite's transactions are all SERIALIZABLE",
        "a_commit_typed_by_hand_confuses_nobody": SHARED_CACHE,
        "a_transaction_commits": SHARED_CACHE,
        "nothing_kept_reaches_the_next_borrowers_session": SHARED_CACHE,
    }

    @pytest.fixture
    def arguments(self, tmp_path: Path) -> dict[str, Any]:
        """A database of each test's own."""
        name = f"file:{tmp_path.name}?mode=memory&cache=shared"
        return {"database": name, "uri": True, "timeout": 0.2}


class TestFileNative(TestFile):
    """The driver's own connections are lent."""

    settings = {"native": True}
    lacks = {**TestFile.lacks, **LACKS}


class TestFileNativeOwnClass(TestFileNative):
    """And these are of a class of the user's, from the package of the borrowers."""

    @pytest.fixture
    def arguments(self, tmp_path: Path) -> dict[str, Any]:
        """As ever, with a class of one's own."""
        file = str(tmp_path / "contract.db")
        return {"database": file, "timeout": 0.2, "factory": type("Own", (sqlite3.Connection,), {})}
