"""The tables of docs/guarantees.md: what the tests on real servers assert, as data and as text.

`ROUND_TRIPS` is asserted by tests/test_round_trips.py, the dirt by tests/plugins/. Must never measure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from dbapi_pool.testing.contract import Dirt, all_checks

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
    "left open": Scenario("`SELECT n FROM counted`", "SELECT n FROM counted"),
    "no table": Scenario("`SELECT 1`"),
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
        # Where no table is read, MySQL begins no transaction.
        "no table": [(3, 0), (3, 0), (1, -1), (2, 0), (2, -1), (2, 0)],
        "changed": [(4, 1), (4, 1), (6, 4), (7, 5), (7, 4), (6, 4)],
        "changed, autocommit": [(2, 1), (2, 1), (6, 5), (7, 6), (7, 5), (6, 5)],
    }.items()
}
"""By scenario and driver: in all, and how many of them the pool added."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


# -- as text ---------------------------------------------------------------------------------------

ON_POSTGRESQL = ("psycopg2", "psycopg")
ON_MYSQL = ("pymysql", "MySQLdb", "mysql.connector", "mariadb")


def dirt_table(modules: Sequence[str], dirt: Callable[[str], Iterable[Dirt]]) -> str:
    """What each driver's borrowers may leave behind, and what then becomes of the connection."""
    kinds = {module: {one.name: one for one in dirt(module)} for module in modules}
    names = dict.fromkeys(name for known in kinds.values() for name in known)
    rows = [
        [f"`{name}`" if "(" in name or "=" in name else name, *(_cell(kinds[m], name) for m in modules)]
        for name in names
    ]  # fmt: skip
    return table(["left behind", *modules], rows)


def _cell(known: Mapping[str, Dirt], name: str) -> str:
    if name not in known:
        return ""
    return "replaced" if known[name].replaced else "clean"


def round_trip_table() -> str:
    """Round trips of a lease, and those that the pool adds."""
    rows = [
        [scenario.text, *(_trips(*ROUND_TRIPS[name][module]) for module in DRIVERS)]
        for name, scenario in SCENARIOS.items()
    ]
    return table(["the borrower does", *DRIVERS], rows)


def _trips(total: int, added: int) -> str:
    return f"{total} ({added:+d})" if added else str(total)


def check_table() -> str:
    """Every check of the contract kit."""
    rows = [
        [check.promise.replace("_", " "), check.text, "reads" if check.read_only else ""]
        for check in all_checks()
    ]
    return table(["promise", "check", ""], rows)


def marked(name: str, text: str) -> str:
    """A generated part, between the marks that tell where it stands."""
    return f"<!-- generated: {name} -->\n\n{text}\n<!-- end of {name} -->"


def replaced(document: str, name: str, text: str) -> str:
    """`document` with that part made anew. Raises `ValueError` if it has no such part."""
    begin, end = f"<!-- generated: {name} -->", f"<!-- end of {name} -->"
    before, found, rest = document.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"the document has no part {name!r}")
    return before + marked(name, text) + after
