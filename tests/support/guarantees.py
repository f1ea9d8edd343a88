"""The tables of docs/guarantees.md: what the tests on real servers assert, as data and as text.

`ROUND_TRIPS` is asserted by tests/test_round_trips.py, the dirt by tests/plugins/. Must never measure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

DRIVERS = ("psycopg2", "psycopg", "pymysql", "MySQLdb", "mysql.connector", "mariadb")


@dataclass(frozen=True)
class Scenario:
    """What one lease does."""

    text: str
    statement: str = "SELECT 1"
    end: str = ""
    """`"commit"`, `"rollback"`; else it is just returned."""
    autocommit: bool = False


INSERT = "INSERT INTO counted VALUES (1)"
CHANGE = "SET SESSION {setting} = 2"  # the setting depends on the server

SCENARIOS = {
    "untouched": Scenario("nothing", ""),
    "autocommit": Scenario("autocommit mode: `SELECT 1`", autocommit=True),
    "committed": Scenario("`SELECT 1`, `commit()`", end="commit"),
    "inserted": Scenario("`INSERT`, `commit()`", INSERT, "commit"),
    "rolled back": Scenario("`INSERT`, `rollback()`", INSERT, "rollback"),
    "left open": Scenario("`SELECT 1`"),
    "changed": Scenario("`SET ...`, `commit()`", CHANGE, "commit"),
    "changed, autocommit": Scenario("autocommit mode: `SET ...`", CHANGE, autocommit=True),
}

ROUND_TRIPS: Mapping[str, Mapping[str, tuple[int, int]]] = {
    name: dict(zip(DRIVERS, numbers, strict=True))
    for name, numbers in {
        "untouched": [(0, 0)] * 6,
        # mysqlclient does not tell whether a transaction is open, so it is rolled back.
        "autocommit": [(1, 0), (1, 0), (1, 0), (2, 1), (1, -1), (1, 0)],
        # mysql-connector pings whenever it makes a cursor: the pool's cursors do without.
        "committed": [(3, 0), (3, 0), (2, 0), (2, 0), (2, -1), (2, 0)],
        "inserted": [(3, 0), (3, 0), (2, 0), (2, 0), (2, -1), (2, 0)],
        "rolled back": [(3, 0), (3, 0), (2, 0), (2, 0), (2, -1), (2, 0)],
        "left open": [(3, 0), (3, 0), (2, 0), (2, 0), (2, -1), (2, 0)],
        "changed": [(4, 1), (4, 1), (6, 4), (7, 5), (7, 4), (6, 4)],
        "changed, autocommit": [(2, 1), (2, 1), (6, 5), (7, 6), (7, 5), (6, 5)],
    }.items()
}
"""By scenario and driver: in all, and how many of them the pool added."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
