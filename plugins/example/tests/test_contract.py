"""Every promise of the pool, kept with DuckDB: on a file, and in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest

from dbapi_pool.testing.contract import Dirt, DriverContract

LACKS = {
    "a_child_starts_with_an_empty_pool": "DuckDB does not survive a fork; the child is told so",
    "both_sides_can_work": "DuckDB does not survive a fork; the child is told so",
}


def reads(sql: str) -> Any:
    """What is seen of something: the rows of a query."""
    return lambda conn: conn.execute(sql).fetchall()


def does(*statements: str) -> Any:
    """A borrower that runs these, and leaves."""
    return lambda conn: [conn.execute(sql) for sql in statements]


def names(kind: str) -> Any:
    return reads(f"SELECT {kind}_name FROM duckdb_{kind}s() WHERE NOT internal")


# A session that may have changed is replaced by a new one, which takes 0.1 ms.
DIRT = [
    Dirt("open transaction", does("CREATE TABLE kept (x INTEGER)"), names("table"), replaced=True),
    Dirt(
        "temporary table", does("CREATE TEMP TABLE kept (x INTEGER)"), names("table"), replaced=True
    ),
    Dirt("temporary view", does("CREATE TEMP VIEW kept AS SELECT 1"), names("view"), replaced=True),
    Dirt(
        "temporary macro", does("CREATE TEMP MACRO kept() AS 1"), names("function"), replaced=True
    ),
    Dirt(
        "schema",
        does("SET schema = 'information_schema'"),
        reads("SELECT current_schema()"),
        replaced=True,
    ),
    Dirt(
        "variable",
        does("SET VARIABLE kept = 1"),
        reads("SELECT getvariable('kept')"),
        replaced=True,
    ),
    Dirt(
        "registered object",
        lambda conn: conn.sql("SELECT 1 AS x").create_view("kept"),
        names("view"),
        replaced=True,
    ),
]


class OnDuckDB(DriverContract):
    creator = duckdb
    lacks = LACKS
    slow = "SELECT count(*) FROM range(100000000) a, range(100000000) b WHERE a.range > b.range"
    setup = "SET VARIABLE set_up = 1"
    setup_seen = "SELECT getvariable('set_up')"
    dirt = DIRT


class TestFile(OnDuckDB):
    refused = ({"database": "/"}, {"database": "/nowhere/at/all.db"})

    @pytest.fixture
    def arguments(self, tmp_path: Path) -> dict[str, Any]:
        return {"database": str(tmp_path / "contract.db")}


class TestMemory(OnDuckDB):
    arguments = {"database": ":memory:contract"}
