"""What a run has found, as JSON and as the generated parts of docs/performance.md.

Must never measure.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from importlib import metadata
from typing import Any

from . import losses, targets
from .measuring import Result, Row

PEERS = (
    "DBUtils", "SQLAlchemy", "psycopg2-binary", "psycopg", "psycopg-pool", "mysql-connector-python",
    "peewee", "PyMySQL",
)  # fmt: skip


def conditions(depth: str) -> dict[str, str]:
    """Under which this run was made, as far as figures depend on them."""
    versions = []
    for name in PEERS:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    return {
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "machine": f"{platform.system()}, {platform.machine()}, {os.cpu_count()} CPUs",
        "load before the run": load,
        "GIL": "yes" if getattr(sys, "_is_gil_enabled", lambda: True)() else "no",
        "garbage collector": "off while CPU time is taken, else "
        + ("on" if gc.isenabled() else "off"),
        "run": f"{depth}, {time.strftime('%Y-%m-%d', time.gmtime())}",
        "peers": ", ".join(versions) or "none",
    }


def as_json(facts: Mapping[str, str], results: Mapping[str, Result]) -> str:
    """Everything, for programs."""
    whole = {
        "conditions": facts,
        "targets": targets.table(results),
        "losses": losses.table(results),
        "measures": {name: asdict(result) for name, result in results.items()},
    }
    return json.dumps(whole, indent=1) + "\n"


def from_json(text: str) -> tuple[dict[str, str], dict[str, Result]]:
    """What `as_json` wrote."""
    whole = json.loads(text)
    return whole["conditions"], {name: Result(**one) for name, one in whole["measures"].items()}


# -- Markdown ----------------------------------------------------------------------------------------


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, (int, float)) else str(value)


def table(rows: Iterable[Row]) -> str:
    """A table, with a column for each key."""
    rows = list(rows)
    if not rows:
        return "None.\n"
    head = list(dict.fromkeys(key for row in rows for key in row))
    lines = [head, ["---"] * len(head), *([_cell(row.get(key)) for key in head] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def section(result: Result) -> str:
    """One measure: what it is, its table, and who is missing."""
    parts = [" ".join(paragraph.split()) for paragraph in result.text.split("\n\n")]
    parts.append(table(_bold(result.rows)).rstrip())
    if result.skipped:
        missing = "; ".join(f"{name} ({reason})" for name, reason in sorted(result.skipped.items()))
        parts.append(f"Not measured: {missing}.")
    return "\n\n".join(parts) + "\n"


def _bold(rows: Iterable[Row]) -> Iterable[Row]:
    for row in rows:
        name = row.get("pool")
        yield {**row, "pool": f"**{name}**"} if name == targets.OURS else row


def parts(facts: Mapping[str, str], results: Mapping[str, Result]) -> dict[str, str]:
    """The generated parts of the document, by name."""
    made = {
        "conditions": table({"": name, "this run": value} for name, value in facts.items()),
        "targets": table(targets.table(results)),
        "losses": table(losses.table(results)),
    }
    return made | {name: section(result) for name, result in results.items()}


def written(document: str, made: Mapping[str, str]) -> str:
    """The document with these parts made anew. Raises `ValueError` for one that it does not have."""
    for name, text in made.items():
        begin, end = f"<!-- generated: {name} -->", f"<!-- end of {name} -->"
        before, found, rest = document.partition(begin)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise ValueError(f"the document has no part {name!r}")
        document = f"{before}{begin}\n\n{text}\n{end}{after}"
    return document
