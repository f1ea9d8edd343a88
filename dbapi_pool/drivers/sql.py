"""Cautious classification of SQL texts: may this statement change the session, or only rows?

Holds a lexer with options (`Dialect`) and a bounded cache over it (`Classifier`). It is no parser, and
must never know a pool, a driver or one database's rules: a plugin brings those as a `Dialect`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

__all__ = ["Classifier", "Dialect", "Rule", "harmless"]

Rule = Callable[[str], bool]
"""Whether a statement, given as `Dialect.bare` makes it, may change the session."""

_HEAD = re.compile(r"\s*(\w+)")
# A literal keeps its first quote, so that it equals no word.
_WORDS = re.compile(r"'?\w+").findall
_NOT_IN_WORD = re.compile(r"\W")


def harmless(bare: str) -> bool:
    """The rule for statements that change rows at most."""
    return False


@dataclass(frozen=True)
class Dialect:
    """One database's lexical rules and its list of harmless statements.

    `plain`, `comment`, `text` and `name` are regular expressions (`.` matches line ends too), tried
    in this order. A statement in which none of them matches somewhere may change the session: so
    leave out whatever could begin something whose end is not known here. Groups must have names.
    """

    rules: Mapping[str, Rule]
    """First word (in capitals) to rule. A statement that begins otherwise may change the session."""

    denied: frozenset[str] = frozenset()
    """Words and quoted names (in capitals) that, anywhere in a statement, may change the session."""

    plain: str = r"[\w \t\n\f\r(),.<>=!|&~+%*;?]+|-(?!-)|/(?!\*)"
    """Words, numbers, operators, parameters, white space."""

    comment: str = r"--[^\n]*|/\*.*?\*/"
    """Comments, but not those that the server executes."""

    text: str = r"'[^']*(?:''[^']*)*'"
    """String literals. Words in them are not held against `denied`."""

    name: str = r'"[^"]*(?:""[^"]*)*"'
    """Quoted identifiers. They may name functions, so they are held against `denied`."""

    @cached_property
    def _scan(self) -> Callable[[str], Iterator[re.Match[str]]]:
        kinds = ("plain", "comment", "text", "name")
        pattern = "|".join(f"(?P<{kind}>{getattr(self, kind)})" for kind in kinds)
        return re.compile(pattern, re.DOTALL).finditer

    def bare(self, sql: str) -> str | None:
        """`sql` in capitals without comments, with every quoted thing turned into one word.

        A quoted name loses its quotes, a literal keeps one on either side, and what is no word
        character in them becomes `_`. None if not all of it is understood, or it holds more than
        one statement.
        """
        pieces = []
        done = 0
        for match in self._scan(sql):
            if match.start() != done:
                return None
            pieces.append(_bare(match))
            done = match.end()
        bare = "".join(pieces).upper().rstrip("; \t\n\f\r")
        return None if done != len(sql) or ";" in bare else bare

    def may_change_session(self, sql: str) -> bool:
        """Whether `sql` may change more than rows. When in doubt, True."""
        bare = self.bare(sql)
        return bare is None or self.judge(bare)

    def judge(self, bare: str) -> bool:
        """As `may_change_session`; for rules that meet a statement within a statement."""
        head = _HEAD.match(bare)
        rule = self.rules.get(head[1]) if head else None
        return rule is None or rule(bare) or not self.denied.isdisjoint(_WORDS(bare))


def _bare(match: re.Match[str]) -> str:
    kind, piece = match.lastgroup, match[0]
    if kind == "plain":
        return piece
    if kind == "comment":
        return " "
    word = _NOT_IN_WORD.sub("_", piece[1:-1])
    return f" '{word}' " if kind == "text" else f" {word} "


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
        known.add(text)
        return may
