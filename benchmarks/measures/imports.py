"""What importing costs."""

from __future__ import annotations

import os
import subprocess
import sys

from ..adapters import _is_installed
from ..measuring import Row, Run, measure

STATEMENTS = {
    "import dbapi_pool": "dbapi_pool",
    "from dbapi_pool import Pool": "dbapi_pool",
    "from dbapi_pool.dropin.dbutils import PooledDB": "dbapi_pool",
    "import dbutils.pooled_db": "dbutils",
    "import sqlalchemy.pool": "sqlalchemy",
    "import psycopg2.pool": "psycopg2",
    "import psycopg_pool": "psycopg_pool",
    "import mysql.connector.pooling": "mysql.connector",
    "import playhouse.pool": "playhouse",
}

_PROGRAM = """
import sys, time
begin, before = time.perf_counter(), len(sys.modules)
{statement}
print((time.perf_counter() - begin) * 1e3, len(sys.modules) - before)
"""


def import_cost(statement: str) -> tuple[float, int]:
    """Milliseconds and modules of a statement in a fresh interpreter."""
    program = [sys.executable, "-c", _PROGRAM.format(statement=statement)]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(program, capture_output=True, text=True, check=True, timeout=60, env=env)
    milliseconds, modules = done.stdout.split()
    return float(milliseconds), int(modules)


@measure("imports", "Import")
def imports(run: Run) -> list[Row]:
    """Milliseconds of wall time that the statement takes in a fresh interpreter, and the modules
    that it imports; the best of 11 by turns, since everything else that a machine does can only
    add. `Pool` is imported when it is first named, so both lines count. Ideal: few.
    """
    there = {}
    for statement, package in STATEMENTS.items():
        if _is_installed(package):
            there[statement] = import_cost(statement)  # also compiles what was not
        else:
            run.skipped[statement] = f"not installed: {package}"
    for _ in range(run.scale(11, 5, 1)):
        for statement, best in there.items():
            there[statement] = min(best, import_cost(statement))
    return [
        {"statement": statement, "ms": round(milliseconds, 1), "modules": modules}
        for statement, (milliseconds, modules) in there.items()
    ]
