"""Which tests may fail when `connect` is pooled, and why: `listed.toml`; and whether a run agrees.

Must never run a suite, nor know a pool.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suite_catalogue import Suite

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = Path(__file__).with_name("listed.toml")

MODES = ("fresh", "shared", "fork")
"""A new pool for each connect, and a process for each test; one pool for each set of arguments, for
the whole suite, in one process; the same pools, but inherited by a process for each test."""


@dataclass(frozen=True)
class Reason:
    """Why tests of a kind cannot pass."""

    name: str
    text: str
    """In a sentence or two, for the page."""
    way_out: str
    """What a program does that needs it."""


@dataclass(frozen=True)
class Entry:
    """One test that passes with the driver alone, and fails when it is pooled."""

    suite: str
    test: str
    reason: str
    modes: tuple[str, ...] = MODES
    since: str = ""
    """The first Python with which it fails; empty: any."""
    varies: str = ""
    """Why it may pass now and then; empty: it never does."""


def read(text: str | None = None) -> tuple[dict[str, Reason], list[Entry]]:
    """The reasons by name, and the tests. Raises `ValueError` for a list that contradicts itself."""
    found = tomllib.loads(FILE.read_text("utf-8") if text is None else text)
    reasons = {name: Reason(name, **one) for name, one in found["reason"].items()}
    entries = [_entry(suite, one) for suite, tests in found["suite"].items() for one in tests]
    names = [(entry.suite, entry.test) for entry in entries]
    wrong = [
        f"{suite}: {test} is listed twice"
        for suite, test in names
        if names.count((suite, test)) > 1
    ]
    wrong += [
        f"{one.test}: no reason {one.reason!r}" for one in entries if one.reason not in reasons
    ]
    wrong += [
        f"{one.test}: no mode {one.modes}" for one in entries if not set(one.modes) <= set(MODES)
    ]
    wrong += [
        f"reason {name!r} is nobody's" for name in reasons.keys() - {one.reason for one in entries}
    ]
    if wrong:
        raise ValueError("; ".join(wrong))
    return reasons, entries


def _entry(suite: str, given: Mapping[str, Any]) -> Entry:
    modes = tuple(given.get("modes", MODES))
    others = {name: given[name] for name in ("since", "varies") if name in given}
    return Entry(suite, given["test"], given["reason"], modes, **others)


def holds(entry: Entry) -> bool:
    """Whether it is for the Python at hand."""
    since = tuple(int(part) for part in entry.since.split(".") if part)
    return sys.version_info >= since


def lost(bare: Mapping[str, str], pooled: Mapping[str, str]) -> set[str]:
    """The tests that pass bare and, for whatever reason, do not pass pooled. Outcomes by test."""
    return {name for name, how in bare.items() if how == "pass" and pooled.get(name) != "pass"}


def deviations(
    suite: Suite, mode: str, bare: Mapping[str, str], pooled: Mapping[str, str], whole: bool = True
) -> Iterator[str]:
    """In what a run in this mode differs from the list. `whole`: whether all tests were run."""
    mine = [one for one in read()[1] if one.suite == suite.name and holds(one)]
    listed = {one.test: one for one in mine if mode in one.modes}
    failed = lost(bare, pooled)
    for name in sorted(failed - listed.keys()):
        yield f"{name}: passes bare, and not pooled ({pooled.get(name, 'not run')})"
    for name in sorted(listed.keys() - failed):
        if bare.get(name) == "pass" and not listed[name].varies:
            yield f"{name}: passes pooled, and is listed"
        # What is a part of Python may have other tests in another version.
        if name not in bare and whole and suite.source is not None:
            yield f"{name}: is listed, and there is no such test"
