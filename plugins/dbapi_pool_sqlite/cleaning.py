"""Cleaning a session in place, for databases in memory: closing the connection would lose the data.

For a file the pool closes the connection instead, which is quick and complete. This is neither, but
the best that SQLite's interface allows, and it says what it could not do. It must never know the pool.

Not undone, and not noticed: a built-in collation that was replaced, `last_insert_rowid()`, `changes()`,
and the heap limits, which are the whole process's.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from .session import has_active_statement, is_manual, rows, run, silence

# The settings of a session (https://www.sqlite.org/pragma.html) that can be read back. Not those
# which are stored in the database, and not those of the whole process.
_PRAGMAS = (
    "analysis_limit", "automatic_index", "busy_timeout", "cache_size", "cache_spill",
    "cell_size_check", "checkpoint_fullfsync", "count_changes", "empty_result_callbacks",
    "foreign_keys", "full_column_names", "fullfsync", "ignore_check_constraints", "journal_mode",
    "journal_size_limit", "legacy_alter_table", "locking_mode", "max_page_count", "mmap_size",
    "query_only", "read_uncommitted", "recursive_triggers", "reverse_unordered_selects",
    "secure_delete", "short_column_names", "synchronous", "temp_store", "threads", "trusted_schema",
    "wal_autocheckpoint", "writable_schema",
)  # fmt: skip

Function = tuple[str, int]
"""Name and number of arguments."""


@dataclass(frozen=True)
class Baseline:
    """What a session was like when it was connected."""

    pragmas: dict[str, Any]
    like_folds_case: bool
    functions: dict[Function, bool]
    """And whether it is built in."""
    collations: frozenset[str]
    limits: dict[int, int]
    switches: dict[int, bool]

    @classmethod
    def of(cls, conn: Any) -> Baseline:
        """Look at a new connection. Takes a few hundred microseconds."""
        return cls(
            pragmas=_pragmas(conn),
            like_folds_case=_like_folds_case(conn),
            functions=_functions(conn),
            collations=_collations(conn),
            limits={number: conn.getlimit(number) for number in _constants("SQLITE_LIMIT_")},
            switches=_switches(conn),
        )

    def restore(self, conn: Any) -> list[str]:
        """Bring the session back to this, ending any transaction; what could not be undone, in words.

        Raises what sqlite3 raises if not even the first steps succeed.
        """
        silence(conn)
        if conn.in_transaction:
            run(conn, "ROLLBACK")
        problems = []
        if has_active_statement(conn):
            problems.append("a cursor that the pool cannot see is half-read")
        for step in _STEPS:
            try:
                problems += step(self, conn)
            except sqlite3.Error as exc:
                problems.append(f"{step.__name__.strip('_').replace('_', ' ')}: {exc}")
        if is_manual(conn):
            run(conn, "BEGIN")
        return problems


def _pragmas(conn: Any) -> dict[str, Any]:
    found = {name: rows(conn, f"PRAGMA {name}") for name in _PRAGMAS}
    return {name: answer[0][0] for name, answer in found.items() if answer}


def _like_folds_case(conn: Any) -> bool:
    return rows(conn, "SELECT 'a' LIKE 'A'") == [(1,)]


def _functions(conn: Any) -> dict[Function, bool]:
    # Not `FROM pragma_function_list`: after `deserialize` SQLite would follow that table's pointer to a
    # schema that was freed.
    found = rows(conn, "PRAGMA function_list")
    return {(name, count): bool(builtin) for name, builtin, _, _, count, _ in found}


def _collations(conn: Any) -> frozenset[str]:
    return frozenset(name.upper() for _, name in rows(conn, "PRAGMA collation_list"))


def _constants(prefix: str) -> list[int]:
    """New in Python 3.11 (limits) and 3.12 (switches); before, they cannot be changed either."""
    return [getattr(sqlite3, name) for name in dir(sqlite3) if name.startswith(prefix)]


def _switches(conn: Any) -> dict[int, bool]:
    found: dict[int, bool] = {}
    for number in _constants("SQLITE_DBCONFIG_"):
        try:
            found[number] = bool(conn.getconfig(number))
        except sqlite3.Error:  # this SQLite does not have it
            pass
    return found


# -- the steps ------------------------------------------------------------------------------------


def _switches_and_limits(baseline: Baseline, conn: Any) -> list[str]:
    for number, value in baseline.switches.items():
        if conn.getconfig(number) != value:
            conn.setconfig(number, value)
    for number, limit in baseline.limits.items():
        conn.setlimit(number, limit)
    if sys.version_info < (3, 12) and hasattr(conn, "enable_load_extension"):
        conn.enable_load_extension(False)
    return []


def _attached_databases(baseline: Baseline, conn: Any) -> list[str]:
    for _, name, _ in rows(conn, "PRAGMA database_list"):
        if name not in ("main", "temp"):
            quoted = name.replace('"', '""')
            run(conn, f'DETACH "{quoted}"')
    return []


def _temporary_objects(baseline: Baseline, conn: Any) -> list[str]:
    # A change of this setting deletes them all: https://www.sqlite.org/pragma.html#pragma_temp_store
    for store in (1, 2):
        run(conn, f"PRAGMA temp_store = {store}")
    return []


def _functions_added(baseline: Baseline, conn: Any) -> list[str]:
    problems = []
    for (name, count), builtin in _functions(conn).items():
        before = baseline.functions.get((name, count))
        if builtin or before is False or name in ("like", "glob"):  # see _settings
            continue
        if before or sys.version_info < (3, 11):
            problems.append(f"function {name}/{count} stays: sqlite3 cannot remove it")
        else:
            # The one call that removes a function of any kind; create_function(..., None) makes one
            # that calls None.
            conn.create_window_function(name, count, None)
    return problems


def _collations_added(baseline: Baseline, conn: Any) -> list[str]:
    for name in _collations(conn) - baseline.collations:
        # SQLite lists a collation after its removal, which Python 3.10 refuses the second time.
        with suppress(KeyError):
            conn.create_collation(name, None)
    return []


def _settings(baseline: Baseline, conn: Any) -> list[str]:
    # Has no value to read. It redefines the functions like and glob, whoever defined them last.
    run(conn, f"PRAGMA case_sensitive_like = {int(not baseline.like_folds_case)}")
    changed = _changed(baseline, conn)
    for name in changed:
        run(conn, f"PRAGMA {name} = {baseline.pragmas[name]}")
    return [f"PRAGMA {name} stays changed" for name in (changed and _changed(baseline, conn))]


def _changed(baseline: Baseline, conn: Any) -> list[str]:
    now = _pragmas(conn)
    return [name for name, value in baseline.pragmas.items() if now.get(name) != value]


# Foreign keys and other checks may be off or on in any of them: none touches rows.
_STEPS: tuple[Callable[[Baseline, Any], list[str]], ...] = (
    _switches_and_limits,
    _attached_databases,
    _temporary_objects,
    _functions_added,
    _collations_added,
    _settings,
)
