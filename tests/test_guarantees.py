"""The documents say what the tests assert: their tables are generated from the same data.

`DBAPI_POOL_TEST_WRITE=1 pytest tests/test_guarantees.py` writes them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import dirt_mysql
import dirt_postgresql
import guarantees
import pytest
import servers

DOCS = Path(__file__).parents[1] / "docs"

PARTS: dict[tuple[str, str], tuple[tuple[str, ...], Callable[[], str]]] = {
    ("guarantees.md", "PostgreSQL"): (
        guarantees.ON_POSTGRESQL,
        lambda: guarantees.dirt_table(guarantees.ON_POSTGRESQL, dirt_postgresql.dirt_of),
    ),
    ("guarantees.md", "MySQL"): (
        guarantees.ON_MYSQL,
        lambda: guarantees.dirt_table(guarantees.ON_MYSQL, dirt_mysql.dirt),
    ),
    ("guarantees.md", "round trips"): ((), guarantees.round_trip_table),
    ("contract.md", "checks"): ((), guarantees.check_table),
}


@pytest.mark.parametrize(("file", "name"), PARTS)
def test_the_documents_say_what_the_tests_assert(file: str, name: str) -> None:
    modules, render = PARTS[file, name]
    for module in modules:
        servers.driver_module(module)
    document = DOCS / file
    text = document.read_text("utf-8")
    anew = guarantees.replaced(text, name, render())
    if os.environ.get("DBAPI_POOL_TEST_WRITE"):
        document.write_text(anew, "utf-8")
    else:
        assert text == anew


@pytest.mark.parametrize(("modules", "dirt", "least"), [
    (guarantees.ON_POSTGRESQL, dirt_postgresql.dirt_of, 35),
    (guarantees.ON_MYSQL, dirt_mysql.dirt, 35),
])  # fmt: skip
def test_every_kind_of_dirt_has_a_name_of_its_own(
    modules: tuple[str, ...], dirt: Callable[[str], list[guarantees.Dirt]], least: int
) -> None:
    for module in modules:
        servers.driver_module(module)
        names = [one.name for one in dirt(module)]
        assert len(names) == len(set(names)) > least
