"""A program with steady and persistent connections that forks: `steady_forked.py MODULE ARGUMENTS`.

Writes 1 to 6 into the table `dbutils_test`: odd numbers in the parent, even ones in the child.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any

from dbapi_pool.dropin.dbutils import LostTransactionError, PersistentDB, PooledDB, connect


def insert(con: Any, number: int) -> None:
    con.cursor().execute(f"INSERT INTO dbutils_test VALUES ({number})")
    con.commit()


def main(module: Any, arguments: dict[str, Any]) -> None:
    steady = connect(module, **arguments)
    begun = connect(module, **arguments)
    persistent = PersistentDB(module, **arguments)
    pooled = PooledDB(module, 1, **arguments)
    persistent.connection()
    begun.cursor().execute("INSERT INTO dbutils_test VALUES (1)")
    pid = os.fork()
    if not pid:
        code = 1
        try:
            in_child(steady, begun, persistent, pooled)
            code = 0
        finally:
            sys.stderr.flush()
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    begun.commit()
    insert(steady, 3)
    insert(persistent.connection(), 5)
    with pooled.connection() as con:
        con.cursor().execute("SELECT 1")
    pooled.close()


def in_child(steady: Any, begun: Any, persistent: Any, pooled: Any) -> None:
    """Everything anew, but the parent's transaction, which is lost here."""
    insert(steady, 2)
    insert(persistent.connection(), 4)
    with pooled.connection() as con:
        con.cursor().execute("INSERT INTO dbutils_test VALUES (6)")
    try:
        begun.cursor().execute("INSERT INTO dbutils_test VALUES (8)")
    except LostTransactionError:
        return
    raise AssertionError("the child went on with the parent's transaction")


if __name__ == "__main__":
    main(importlib.import_module(sys.argv[1]), json.loads(sys.argv[2]))
    print("both sides worked")
