"""The SQL of a driver that nobody knows: what cannot change a session in any database.

A `Dialect` for `Driver`'s default. Narrow on purpose: whatever one known database gives another
meaning (backslashes in literals, `#`, `@`, `/*! */`) is not understood, and so may change the
session. It must never know a database.
"""

from __future__ import annotations

import re

from .sql import Dialect, harmless

# Functions of the SQL standard, and others that only compute in every database that has them. In
# front of a parenthesis also stand these words of the grammar.
_PURE = frozenset({
    "ABS", "AVG", "CAST", "CEIL", "CEILING", "CHAR_LENGTH", "COALESCE", "CONCAT", "COUNT", "DATE",
    "DENSE_RANK", "EXTRACT", "FIRST_VALUE", "FLOOR", "GREATEST", "IFNULL", "LAG", "LAST_VALUE",
    "LEAD", "LEAST", "LEFT", "LENGTH", "LN", "LOWER", "LTRIM", "MAX", "MIN", "MOD", "NOW", "NULLIF",
    "NVL", "OCTET_LENGTH", "POSITION", "POWER", "RANK", "REPLACE", "RIGHT", "ROUND", "ROW_NUMBER",
    "RTRIM", "SIGN", "SQRT", "SUBSTR", "SUBSTRING", "SUM", "TRIM", "UPPER",
    "ALL", "AND", "ANY", "AS", "BETWEEN", "BY", "CASE", "DISTINCT", "ELSE", "EXCEPT", "EXISTS",
    "FILTER", "FROM", "HAVING", "IN", "INTERSECT", "JOIN", "LIKE", "LIMIT", "NOT", "OFFSET", "ON",
    "OR", "OVER", "RETURNING", "SELECT", "SET", "THEN", "UNION", "USING", "VALUES", "WHEN", "WHERE",
})  # fmt: skip

_CALLED = re.compile(r"(\w+)\s*\(").findall
_INSERTS_INTO = re.compile(r"(\bINSERT\s+INTO\s+)[\w.\s]+?(\()")
# SELECT ... INTO makes tables and variables. Sequences and the like are read like columns.
_DENIED = re.compile(
    r"\b(?:SELECT\b.*\bINTO|NEXTVAL|CURRVAL|NEXT\s+VALUE|OUTFILE|DUMPFILE)\b", re.S
)


def _changes_more_than_rows(bare: str) -> bool:
    calls = _CALLED(_INSERTS_INTO.sub(r"\1VALUES \2", bare))
    if not _PURE.issuperset(calls):
        return True
    return _DENIED.search(_INSERTS_INTO.sub("INSERT (", bare)) is not None


PORTABLE = Dialect(
    rules={
        **dict.fromkeys(
            ("SELECT", "INSERT", "UPDATE", "DELETE", "VALUES", "WITH"), _changes_more_than_rows
        ),
        **dict.fromkeys(("COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE"), harmless),
    },
    plain=r"[\w \t\n\f\r(),.<>=!|&~+%*;?:]+|-(?!-)|/(?!\*)",
    comment=r"--[ \t][^\n]*|/\*[^!+M].*?\*/",
    text=r"'[^'\\]*(?:''[^'\\]*)*'",
    name=r'"[^"\\]*(?:""[^"\\]*)*"',
)
"""Harmless everywhere: rows read and written, with functions known to be pure; ends of transactions."""
