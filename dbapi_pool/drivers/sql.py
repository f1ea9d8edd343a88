"""Cautious classification of SQL texts: may this statement change the session, or only rows?

Holds a lexer with options (`Dialect`) and a bounded cache over it (`Classifier`). It is no parser, and
must never know a pool, a driver or one database's rules: a plugin brings those as a `Dialect`.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

__all__ = ["Classifier", "Dialect", "Rule", "called", "harmless"]

Rule = Callable[[str], bool]
"""Whether a statement, given as `Dialect.bare` makes it, may change the session."""

# A literal keeps its first quote, so that it equals no word.
_WORDS = re.compile(r"'?\w+").findall
_NOT_IN_WORD = re.compile(r"\W")
_TOKENS = re.compile(r"""'[\w?]*'|"\w*"|\w+|[^\w\s]""").findall
# As servers fold keywords; `str.upper` makes an S of a long s, which no server does.
_CAPITALS = str.maketrans(string.ascii_lowercase, string.ascii_uppercase)
_VALUE = " '?' "

# A `%` that stands for a parameter, and one that Python's formatting refuses: a text with the second
# is sent as it is (https://docs.python.org/3/library/stdtypes.html#printf-style-string-formatting).
_SPLICED = re.compile(r"(?<!%)(?:%%)*%(?:s|\()").search
_UNFORMATTED = re.compile(r"(?<!%)(?:%%)*%(?![%(#0\- +*.1-9hlLdiouxXeEfFgGcrsabt])").search

# Behind these words a name with parentheses has columns, or is a type.
_INTRODUCING = frozenset({"AS", "EXISTS", "INTO", "RECURSIVE", "REFERENCES", "TABLE", "WITH"})
# And behind a group, but for these: DISTINCT ON (a) f(b), 1 OPERATOR(pg_catalog.+) f(2).
_GROUP_OF_PREFIX = frozenset({"ON", "OPERATOR"})
# `, x (a, b) AS (SELECT`: the second of several common table expressions.
_FURTHER_TABLE = re.compile(
    r""",\s*(?:\w+|"\w*")\s*(?=\([\w\s,"]*\)\s*AS\b\s*(?:NOT\s+)?(?:MATERIALIZED\b\s*)?"""
    r"""\(\s*(?:SELECT\b|WITH\b|TABLE\b|VALUES\s*\(|INSERT\s+INTO\b|DELETE\s+FROM\b))"""
)


def harmless(bare: str) -> bool:
    """The rule for statements that change rows at most."""
    return False


def called(bare: str) -> Iterator[tuple[str, str]]:
    """What in front of parentheses may be a function: the word before it, and its (dotted) name.

    Yields words of the grammar too (`IN`, `VALUES`), but not tables and aliases with columns, nor
    types behind `AS`. For dialects whose `mark` is a double quote.
    """
    tokens = _TOKENS(_FURTHER_TABLE.sub(", ", bare))
    opened: list[str] = []
    closed = ""
    for place, token in enumerate(tokens):
        if token == ")":
            closed = opened.pop() if opened else ""
        elif token == "(":
            before, name = _in_front(tokens, place)
            opened.append(name)
            if name and not _has_columns(before, closed):
                yield before, name


def _in_front(tokens: list[str], place: int) -> tuple[str, str]:
    start = place - 1
    if start < 0 or not (tokens[start][0].isalnum() or tokens[start][0] in "_'\""):
        return "", ""
    while start > 1 and tokens[start - 1] == ".":
        start -= 2
    return tokens[start - 1] if start else "", "".join(tokens[start:place])


def _has_columns(before: str, closed: str) -> bool:
    if before == ")":
        return closed not in _GROUP_OF_PREFIX
    # Two names in a row: the second is an alias. A quoted one is no keyword.
    return before in _INTRODUCING or (before[-1:] in ("'", '"') and before != _VALUE.strip())


@dataclass(frozen=True)
class Dialect:
    """One database's lexical rules and its list of harmless statements.

    `plain`, `parameter`, `comment`, `text` and `name` are regular expressions (`.` matches line ends
    too), tried in this order. A statement in which none of them matches somewhere may change the
    session: so leave out whatever could begin something whose end is not known here. Groups must
    have names.
    """

    rules: Mapping[str, Rule]
    """First word (in capitals) to rule. A statement that begins otherwise may change the session."""

    reading: Callable[[str], bool] | None = None
    """Whether a harmless statement, as `bare` gives it, only reads, and so that no other session could
    miss a lock of it. None: that is not known of any."""

    inert: Callable[[str], bool] | None = None
    """Whether a statement that only reads does not even begin a transaction. None: not known of any."""

    denied: frozenset[str] = frozenset()
    """Words and quoted names (in capitals) that, anywhere in a statement, may change the session."""

    plain: str = r"[\w \t\n\f\r(),.<>=!|&~+%*;?]+|-(?!-)|/(?!\*)"
    """Words, numbers, operators, parameters, white space."""

    parameter: str = r"(?!)"
    """What the driver replaces by a value, where it must not count as `plain`. Give it if the driver
    puts quoted values into the text, whatever stands around: one in a literal, a quoted name or a
    comment can end that, so that the statement may change the session."""

    comment: str = r"--[^\n]*|/\*.*?\*/"
    """Comments, but not those that the server executes."""

    text: str = r"'[^']*(?:''[^']*)*'"
    """String literals. Words in them are not held against `denied`."""

    name: str = r'"[^"]*(?:""[^"]*)*"'
    """Quoted identifiers. They may name functions, so they are held against `denied`."""

    mark: str = ""
    """What a quoted name keeps on either side, so that rules can tell it from a word."""

    head: str = r"\s*(\w+)"
    """What the first word is."""

    @cached_property
    def _scan(self) -> Callable[[str], Iterator[re.Match[str]]]:
        kinds = ("plain", "parameter", "comment", "text", "name")
        pattern = "|".join(f"(?P<{kind}>{getattr(self, kind)})" for kind in kinds)
        # The last one keeps it from searching on behind what is not understood.
        return re.compile(f"{pattern}|(?P<other>.)", re.DOTALL).finditer

    @cached_property
    def _head(self) -> Callable[[str], re.Match[str] | None]:
        return re.compile(self.head).match

    @cached_property
    def _interpolated(self) -> bool:
        return self.parameter != Dialect.parameter

    def bare(self, sql: str) -> str | None:
        """`sql` in capitals without comments, with every quoted thing turned into one word.

        A quoted name has `mark` for quotes, a literal keeps one on either side, and what is no word
        character in them becomes `_`; a parameter becomes `'?'`. None if not all of it is understood,
        or it holds more than one statement.
        """
        pieces = []
        spliced = False
        for match in self._scan(sql):
            kind, piece = match.lastgroup, match[0]
            if kind == "other":
                return None
            if kind == "plain":
                pieces.append(piece)
                continue
            pieces.append(self._replaced(kind, piece))
            spliced = spliced or (kind != "parameter" and _SPLICED(piece) is not None)
        if spliced and self._interpolated and not _UNFORMATTED(sql):
            return None
        bare = "".join(pieces).translate(_CAPITALS).rstrip("; \t\n\f\r")
        return None if ";" in bare else bare

    def _replaced(self, kind: str | None, piece: str) -> str:
        if kind == "comment":
            return " "
        if kind == "parameter":
            return _VALUE
        quote = self.mark if kind == "name" else "'"
        return f" {quote}{_NOT_IN_WORD.sub('_', piece[1:-1])}{quote} "

    def may_change_session(self, sql: str) -> bool:
        """Whether `sql` may change more than rows. When in doubt, True."""
        bare = self.bare(sql)
        return bare is None or self.judge(bare)

    def only_reads(self, sql: str) -> bool:
        """Whether a harmless `sql` only reads. When in doubt, False."""
        return self._is(self.reading, sql)

    def is_inert(self, sql: str) -> bool:
        """Whether one that only reads does not even begin a transaction. When in doubt, False."""
        return self._is(self.inert, sql)

    def _is(self, rule: Rule | None, sql: str) -> bool:
        bare = self.bare(sql) if rule is not None else None
        return rule is not None and bare is not None and rule(bare)

    def judge(self, bare: str) -> bool:
        """As `may_change_session`; for rules that meet a statement within a statement."""
        head = self._head(bare)
        rule = self.rules.get(head[1]) if head else None
        return rule is None or rule(bare) or not self.denied.isdisjoint(_WORDS(bare))


class Classifier:
    """Answers "may this text change the session?" and remembers the answers.

    Calling it needs no lock: sets change atomically, and a lost or doubled entry only costs time.
    """

    def __init__(self, dialect: Dialect, *, texts: int = 2_000, longest: int = 10_000) -> None:
        """`texts`: answers remembered of each kind; when there are more, all are forgotten.
        `longest`: a text with more characters may change the session, unread."""
        self.dialect = dialect
        self.harmless: set[str] = set()
        """Texts known to be harmless: `sql in classifier.harmless` is the quick question. The set
        stays the same object for ever. Do not add to it."""
        self.reads: set[str] = set()
        """Those of them that `Dialect.reading` says only read; the same object for ever, too."""
        self.inert: set[str] = set()
        """Those of which `Dialect.inert` says so, and which are then not in `reads`; likewise."""
        self._harmful: set[str] = set()
        self._texts = texts
        self._longest = longest

    def __call__(self, sql: object) -> bool:
        """Whether `sql` may change the session. True for anything but a `str` (bytes, composed)."""
        if not isinstance(sql, str):
            return True
        # A subclass may lie about equality or its own text; the driver sends what is stored.
        text = sql if type(sql) is str else str.__str__(sql)
        if text in self.harmless:
            return False
        if len(text) > self._longest or text in self._harmful:
            return True
        return self._learn(text)

    def _learn(self, text: str) -> bool:
        may = self.dialect.may_change_session(text)
        known = self._harmful if may else self.harmless
        if len(known) >= self._texts:
            known.clear()
            if not may:
                self.reads.clear()
                self.inert.clear()
        known.add(text)
        if not may and self.dialect.only_reads(text):
            (self.inert if self.dialect.is_inert(text) else self.reads).add(text)
        return may
