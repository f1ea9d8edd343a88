"""SQLite's `Dialect`: which statements cannot change a SQLite session.

Lexical rules as in SQLite's tokenizer (`tokenize.c`); it must never know a connection. Two things are
not seen, and so documented: what application-defined functions do (they are the application's own
Python code), and changes to temporary objects that the pool's `setup` made.
"""

from __future__ import annotations

import re

from dbapi_pool.drivers.sql import Dialect, Rule, harmless

__all__ = ["SQLITE"]

# Functions with an effect beyond their result. load_extension:
# https://www.sqlite.org/lang_corefunc.html#load_extension; fts3_tokenizer registers a tokenizer:
# https://www.sqlite.org/fts3.html#custom_application_defined_tokenizers; icu_load_collation makes a
# collation and eval runs SQL (ext/icu, ext/misc/eval.c); geopoly_debug sets a flag.
_DENIED = frozenset({
    "LOAD_EXTENSION", "FTS3_TOKENIZER", "ICU_LOAD_COLLATION", "EVAL", "GEOPOLY_DEBUG",
})  # fmt: skip

# https://www.sqlite.org/pragma.html: without a value these report and change nothing.
_READING = frozenset({
    "ANALYSIS_LIMIT", "APPLICATION_ID", "AUTO_VACUUM", "AUTOMATIC_INDEX", "BUSY_TIMEOUT", "CACHE_SIZE",
    "CACHE_SPILL", "CELL_SIZE_CHECK", "CHECKPOINT_FULLFSYNC", "COLLATION_LIST", "COMPILE_OPTIONS",
    "DATA_VERSION", "DATABASE_LIST", "DEFER_FOREIGN_KEYS", "ENCODING", "FOREIGN_KEYS",
    "FREELIST_COUNT", "FULLFSYNC", "FUNCTION_LIST", "IGNORE_CHECK_CONSTRAINTS", "JOURNAL_MODE",
    "JOURNAL_SIZE_LIMIT", "LEGACY_ALTER_TABLE", "LOCKING_MODE", "MAX_PAGE_COUNT", "MMAP_SIZE",
    "MODULE_LIST", "PAGE_COUNT", "PAGE_SIZE", "PRAGMA_LIST", "QUERY_ONLY", "READ_UNCOMMITTED",
    "RECURSIVE_TRIGGERS", "REVERSE_UNORDERED_SELECTS", "SCHEMA_VERSION", "SECURE_DELETE",
    "SYNCHRONOUS", "TEMP_STORE", "THREADS", "TRUSTED_SCHEMA", "USER_VERSION", "WAL_AUTOCHECKPOINT",
    "WRITABLE_SCHEMA",
})  # fmt: skip

# These report, or work on the file, whether an argument is given or not (a checkpoint moves pages from
# the WAL to the file: https://www.sqlite.org/pragma.html#pragma_wal_checkpoint).
_WITH_ARGUMENT = frozenset({
    "FOREIGN_KEY_CHECK", "FOREIGN_KEY_LIST", "INDEX_INFO", "INDEX_LIST", "INDEX_XINFO",
    "INTEGRITY_CHECK", "QUICK_CHECK", "TABLE_INFO", "TABLE_LIST", "TABLE_XINFO", "WAL_CHECKPOINT",
})  # fmt: skip

# With a value these write an integer into the header of the database file, at offset 68 or 60, for
# applications to use: https://www.sqlite.org/fileformat2.html#the_database_header
_IN_FILE_HEADER = frozenset({"APPLICATION_ID", "USER_VERSION"})

# Literals count as names here: SQLite takes 'temp' for a name where only a name can stand
# (https://www.sqlite.org/quirks.html).
_TEMPORARY = re.compile(r"\bTEMP(?:ORARY)?\b").search
# Not CREATE VIRTUAL TABLE: the module behind the table is an extension's code.
_CREATE = re.compile(r"\s*CREATE\s+(?:TABLE|(?:UNIQUE\s+)?INDEX|VIEW|TRIGGER)\b").match
_PRAGMA = re.compile(r"\s*PRAGMA\s+(?:'?\w+'?\s*\.\s*)?'?(\w+)'?\s*(.*)", re.DOTALL).match
_EXPLAIN = re.compile(r"\s*EXPLAIN\b(?:\s+QUERY\s+PLAN\b)?")


def _names_temporary(bare: str) -> bool:
    return _TEMPORARY(bare) is not None


def _create(bare: str) -> bool:
    return _CREATE(bare) is None or _names_temporary(bare)


def _pragma(bare: str) -> bool:
    found = _PRAGMA(bare)
    if found is None:
        return True
    name, argument = found.groups()
    if name in _WITH_ARGUMENT:
        return False
    if not argument:
        return name not in _READING
    return name not in _IN_FILE_HEADER or _names_temporary(bare)


def _explain(bare: str) -> bool:
    # EXPLAIN runs nothing, but some pragmas do their work while they are compiled
    # (https://www.sqlite.org/pragma.html, introduction). So the statement behind it decides.
    return SQLITE.judge(_EXPLAIN.sub("", bare, count=1))


def _rules() -> dict[str, Rule]:
    rows = ("SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "VALUES", "WITH")
    # A transaction left open is no matter: the pool rolls back before anything else.
    transaction = ("BEGIN", "COMMIT", "END", "ROLLBACK", "SAVEPOINT", "RELEASE")
    schema = ("DROP", "ALTER", "ANALYZE", "REINDEX", "VACUUM")
    return {
        **dict.fromkeys(rows + transaction, harmless),
        **dict.fromkeys(schema, _names_temporary),
        "CREATE": _create,
        "PRAGMA": _pragma,
        "EXPLAIN": _explain,
    }


SQLITE = Dialect(
    rules=_rules(),
    denied=_DENIED,
    # Parameters (`:id`, `@id`, `$id`) are fine, but one with parentheses or colons, as Tcl has them,
    # may hold quotes that are none: https://www.sqlite.org/lang_expr.html#parameters
    plain=rf"{Dialect.plain}|[:@$](?!:|[\w$]+\()",
    name=r'"[^"]*(?:""[^"]*)*"|`[^`]*(?:``[^`]*)*`|\[[^\]]*\]',
)
"""The dialect of every SQLite 3. See https://www.sqlite.org/lang.html."""
