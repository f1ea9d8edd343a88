"""The examples on the pages for those who come from a pool that needs a server: run on a real one.

Blocks of `py` are for here, those of `python` are run without a server too (see the other conftest.py).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import servers

from dbapi_pool.dropin import mysql_connector_pooling

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"^```(py|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run(page: str, names: dict[str, Any]) -> None:
    """Execute the blocks in their order, with errors that show the line of the page."""
    text = (DOCS / page).read_text("utf-8")
    blocks = list(BLOCK.finditer(text))
    assert len(blocks) >= 4
    for block in blocks:
        above = "\n" * text[: block.start(2)].count("\n")
        exec(compile(above + block[2], str(DOCS / page), "exec"), names)


def test_what_the_page_for_psycopg2_pool_shows_is_so(
    postgresql: servers.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extensions = pytest.importorskip("psycopg2.extensions")
    dsn = extensions.make_dsn(**postgresql.arguments("psycopg2"))
    monkeypatch.chdir(tmp_path)
    run("psycopg2-pool.md", {"dsn": dsn})


def test_what_the_page_for_mysql_connector_pooling_shows_is_so(
    mariadb_server: servers.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers.driver_module("mysql.connector")
    mariadb_server.query(f"DROP TABLE IF EXISTS {mariadb_server.database}.item")
    pools: dict[str, Any] = {}
    monkeypatch.setattr(mysql_connector_pooling, "_pools", pools)
    run("mysql-connector-pooling.md", {"config": mariadb_server.arguments("mysql.connector")})
    for pool in pools.values():
        pool.close()
