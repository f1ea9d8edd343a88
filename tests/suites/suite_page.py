"""The generated parts of docs/compatibility.md: what came of the runs, and what is listed.

Figures are kept as one file a suite, so that a run of one does not undo the others. Must never run a
suite, nor know a pool.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from suite_catalogue import SUITES
from suite_lists import MODES, Entry, Reason, read

sys.path.append(str(Path(__file__).resolve().parents[1] / "support"))

from guarantees import replaced

PAGE = Path(__file__).resolve().parents[2] / "docs" / "compatibility.md"


def keep(folder: Path, suite: str, figures: dict[str, Any]) -> None:
    """Remember what a run of a suite has shown."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = {**figures, "python": ".".join(platform.python_version_tuple()[:2])}
    (folder / f"{suite}.json").write_text(json.dumps(figures), encoding="utf-8")


def figures_table(found: dict[str, dict[str, Any]]) -> str:
    """The table of what was run, by suite."""
    lines = [
        "| suite | driver | passes bare | fresh | shared | fork | opened for connects |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, suite in SUITES.items():
        if name in found:
            one = found[name]
            cells = [str(one["modes"].get(mode, "")) for mode in MODES]
            title = suite.title if suite.source else f"{suite.title}, Python {one['python']}"
            opened = _opened(one) if "opened" in one else ""
            row = [title, f"{suite.driver} {one['driver']}", str(one["bare"]), *cells, opened]
            lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def _opened(one: dict[str, Any]) -> str:
    told = f"{one['opened']} for {one['connects'] - one['unpooled']}"
    return f"{told}; {one['unpooled']} not pooled" if one["unpooled"] else told


def listed_tables() -> str:
    """What is listed, and why, as the page shows it."""
    reasons, entries = read()
    return "\n\n".join(_section(reason, entries) for reason in reasons.values())


def _section(reason: Reason, entries: Iterable[Entry]) -> str:
    mine = [one for one in entries if one.reason == reason.name]
    lines = [f"**{reason.text}** {reason.way_out}", ""]
    lines += [f"* {_where(one)}" for one in mine]
    return "\n".join(lines)


def _where(entry: Entry) -> str:
    where = [*(() if entry.modes == MODES else entry.modes)]
    where += [f"from Python {entry.since}"] if entry.since else []
    modes = f" ({', '.join(where)})" if where else ""
    varies = f"; varies: {entry.varies}" if entry.varies else ""
    return f"{entry.suite}: `{entry.test}`{modes}{varies}"


def renewed(document: str, folder: Path | None) -> str:
    """The page with its generated parts made anew; the figures only if there is a folder with all of
    them. Raises `ValueError` if some are missing."""
    if folder is not None:
        found = {file.stem: json.loads(file.read_text("utf-8")) for file in folder.glob("*.json")}
        missing = SUITES.keys() - found.keys()
        if missing:
            raise ValueError(f"no figures of {', '.join(sorted(missing))}")
        document = replaced(document, "suites", figures_table(found))
    return replaced(document, "listed", listed_tables())
