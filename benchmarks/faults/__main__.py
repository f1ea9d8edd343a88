"""The command: `python -m benchmarks.faults`."""

from __future__ import annotations

import argparse
import faulthandler
import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .. import report
from . import judge, pools
from .catalogue import FAULTS, NAMES, Fault
from .running import FULL, QUICK, Pace, Round, counted
from .trial import CROWD, IDLE, SIZE, TIMEOUT, Seen
from .world import World

_DEADLINE = 900  # seconds after which a run is ended, whatever it does


class Cell(NamedTuple):
    """One pool with one driver under one fault."""

    fault: str
    module: str
    pool: str
    seen: Seen


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.faults", description="Pools under faults."
    )
    parser.add_argument("--quick", action="store_true", help="shorter faults, less patience")
    parser.add_argument("--only", metavar="A,B", default="", help=f"of: {', '.join(NAMES)}")
    parser.add_argument("--drivers", metavar="A,B", default="", help="of: psycopg2, psycopg, ...")
    parser.add_argument(
        "--pools", metavar="A,B", default="", help="pools with these in their names"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all that was seen there")
    parser.add_argument(
        "--from",
        metavar="FILE",
        type=Path,
        dest="source",
        help="do not run: take what --json wrote",
    )
    parser.add_argument(
        "--write", metavar="FILE", type=Path, help="renew the generated parts of this document"
    )
    chosen = parser.parse_args(arguments)
    for name in ("only", "drivers", "pools"):
        words = [word.strip() for word in getattr(chosen, name).split(",")]
        setattr(chosen, name, [word for word in words if word])
    unknown = set(chosen.only) - set(NAMES)
    if unknown:
        parser.error(f"--only: no such fault: {', '.join(sorted(unknown))}")
    return chosen


# -- running ---------------------------------------------------------------------------------------


def run(chosen: argparse.Namespace, pace: Pace) -> tuple[dict[str, str], list[Cell]]:
    """Conditions, and what was seen."""
    logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)
    logging.getLogger("sqlalchemy").setLevel(logging.CRITICAL)
    begin, cells = time.monotonic(), list[Cell]()
    facts = {k: v for k, v in report.conditions("faults").items() if k != "garbage collector"}
    with World() as world:
        faults = [fault for fault in FAULTS if not chosen.only or fault.name in chosen.only]
        kinds = tuple(dict.fromkeys(kind for fault in faults for kind in fault.kinds))
        with counted(world, kinds) as attempts:
            for fault in faults:
                cells += _one(world, fault, attempts, pace, chosen)
        skipped = "; ".join(f"{name} ({why})" for name, why in sorted(world.skipped.items()))
    facts["run"] = f"{time.monotonic() - begin:.0f} s, {time.strftime('%Y-%m-%d', time.gmtime())}"
    facts["checkout timeout"] = f"{TIMEOUT:g} s"
    facts["pools of"] = f"{SIZE} connections, {IDLE} of them idle, {CROWD} borrowers"
    late = max((cell.seen.machine_late for cell in cells), default=0.0)
    facts["latest wake-up of a thread that slept for 10 ms"] = f"{late * 1000:.0f} ms"
    if skipped:
        facts["not there"] = skipped
    return facts, cells


def _one(
    world: World, fault: Fault, attempts: pools.Attempts, pace: Pace, chosen: argparse.Namespace
) -> list[Cell]:
    begin = time.monotonic()
    contenders = Round(world, fault, attempts, pace).run(chosen.drivers, chosen.pools)
    cells = [Cell(fault.name, one.module, one.kind.name, one.seen) for one in contenders]
    print(f"## {fault.name} [{time.monotonic() - begin:.0f} s]")
    for cell in cells:
        print(f"{cell.module:9} {cell.pool:28} {judge.cell(fault, cell.seen)}", flush=True)
    return cells


# -- the document ----------------------------------------------------------------------------------


def parts(facts: dict[str, str], cells: list[Cell]) -> dict[str, str]:
    """The generated parts, by name."""
    return {
        "conditions": report.table({"": name, "this run": value} for name, value in facts.items()),
        "kept": report.table(kept(cells)),
        "losses": report.table(losses(cells)),
        "faults": "\n".join(_chapters(cells)),
    }


def kept(cells: Iterable[Cell]) -> list[dict[str, Any]]:
    """How many cells of each pool are good."""
    seen, good = Counter[str](), Counter[str]()
    for cell in cells:
        seen[cell.pool] += 1
        good[cell.pool] += not judge.broken(judge.BY_NAME[cell.fault], cell.seen)
    rows = [
        {"pool": _bold(name), "faults x drivers": seen[name], "all promises kept": good[name]}
        for name in seen
    ]
    return sorted(rows, key=lambda row: -row["all promises kept"] / row["faults x drivers"])


def losses(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Where another pool does better than ours with its defaults."""
    ours = {(c.fault, c.module): c.seen for c in cells if c.pool == pools.OURS}
    rows = []
    for cell in cells:
        mine = ours.get((cell.fault, cell.module))
        if mine is None or cell.pool == pools.OURS:
            continue
        words = judge.better(mine, cell.seen, judge.BY_NAME[cell.fault])
        if cell.pool.startswith(pools.OURS):  # a setting's figures are told by the chapters
            words = [word for word in words if word.startswith("ours:")]
        if words:
            rows.append(
                {
                    "fault": cell.fault,
                    "driver": cell.module,
                    "pool": cell.pool,
                    "better": "; ".join(words),
                }
            )
    return rows


def _chapters(cells: Sequence[Cell]) -> Iterable[str]:
    for fault in FAULTS:
        mine = [cell for cell in cells if cell.fault == fault.name]
        if mine:
            text = fault.text[0].upper() + fault.text[1:]
            yield f"### {fault.name[0].upper()}{fault.name[1:]}\n\n{text}.\n"
            yield report.table(_rows(fault, mine))


def _rows(fault: Fault, cells: Sequence[Cell]) -> list[dict[str, str]]:
    modules = list(dict.fromkeys(cell.module for cell in cells))
    names = list(dict.fromkeys(cell.pool for cell in cells))
    found = {(cell.pool, cell.module): judge.cell(fault, cell.seen) for cell in cells}
    return [
        {"pool": _bold(name), **{module: found.get((name, module), "") for module in modules}}
        for name in names
    ]


def _bold(name: str) -> str:
    return f"**{name}**" if name == pools.OURS else name


def as_json(facts: dict[str, str], cells: list[Cell]) -> str:
    """Everything, for programs."""
    seen = [{**cell._asdict(), "seen": judge.as_dict(cell.seen)} for cell in cells]
    return json.dumps({"conditions": facts, "cells": seen}, indent=1) + "\n"


def from_json(text: str) -> tuple[dict[str, str], list[Cell]]:
    """What `as_json` wrote."""
    whole = json.loads(text)
    cells = []
    for one in whole["cells"]:
        fields = {**one["seen"], "ends": Counter(one["seen"]["ends"]),
                  "errors": Counter(one["seen"]["errors"])}  # fmt: skip
        cells.append(Cell(one["fault"], one["module"], one["pool"], Seen(**fields)))
    return whole["conditions"], cells


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, and show or write what was seen."""
    chosen = _arguments(arguments)
    if chosen.source:
        facts, cells = from_json(chosen.source.read_text("utf-8"))
    else:
        facts, cells = run(chosen, QUICK if chosen.quick else FULL)
    made = parts(facts, cells)
    print(
        f"## Promises kept\n\n{made['kept']}\n## Where another pool is better\n\n{made['losses']}"
    )
    if chosen.json:
        chosen.json.write_text(as_json(facts, cells), "utf-8")
    if chosen.write:
        document = chosen.write.read_text("utf-8")
        chosen.write.write_text(report.written(document, made), "utf-8")
    return 0


if __name__ == "__main__":
    faulthandler.dump_traceback_later(_DEADLINE, exit=True)
    sys.exit(main())
