"""`docs/plugins.md` against what it quotes: the example's files, and the `Driver` it describes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dbapi_pool.drivers import Driver

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs/plugins.md").read_text("utf-8")
EXAMPLE = [
    path.read_text("utf-8")
    for pattern in ("*.toml", "dbapi_pool_duckdb/*.py", "tests/*.py")
    for path in (ROOT / "plugins/example").glob(pattern)
]
QUOTED = re.findall(r"^```(?:py|toml)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
ROWS = re.findall(r"^\| (\**`.+?`\**) \| .+ \| .+ \|$", TEXT, re.MULTILINE)


def test_there_is_something_to_compare() -> None:
    assert len(EXAMPLE) >= 6
    assert len(QUOTED) >= 10


@pytest.mark.parametrize("part", QUOTED, ids=lambda part: part.strip().partition("\n")[0])
def test_every_quoted_part_is_in_the_example(part: str) -> None:
    assert any(part in text for text in EXAMPLE)


def test_the_table_has_every_method_of_a_driver_with_its_parameters() -> None:
    described = {
        name: parameters.replace(" ", "").split(",")
        for row in ROWS
        for name, parameters in re.findall(r"`(\w+)\(([^)]*)\)`", row)
        if not name.startswith("dbapi_pool_")
    }
    expected = {
        name: [*function.__code__.co_varnames[1 : function.__code__.co_argcount]]
        for name, function in vars(Driver).items()
        if not name.startswith("_") and callable(function)
    }

    assert described == expected


def test_the_example_has_a_whole_wheel_s_files() -> None:
    folder = ROOT / "plugins/example"

    for name in ("pyproject.toml", "README.md", "dbapi_pool_duckdb/py.typed"):
        assert (folder / name).is_file(), name
