"""The command: `python -m benchmarks`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from . import losses, measures, plot, report, targets  # noqa: F401  (`measures` registers them)
from .measuring import MEASURES, Result, Run

PICTURE = "performance.svg"


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    names = ", ".join(MEASURES)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Compare connection pools."
    )
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds; noisier")
    parser.add_argument("--tiny", action="store_true", help="only whether it works at all")
    parser.add_argument("--only", metavar="A,B", default="", help=f"of: {names}")
    parser.add_argument(
        "--pools", metavar="A,B", default="", help="pools with these in their names"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all figures there")
    parser.add_argument(
        "--from",
        metavar="FILE",
        type=Path,
        dest="source",
        help="do not measure: take what --json wrote",
    )
    parser.add_argument(
        "--write",
        metavar="FILE",
        type=Path,
        help="renew the generated parts of this document, and the picture beside it",
    )
    chosen = parser.parse_args(arguments)
    chosen.only = [name.strip() for name in chosen.only.split(",") if name.strip()]
    unknown = set(chosen.only) - set(MEASURES)
    if unknown:
        parser.error(f"--only: no such measure: {', '.join(sorted(unknown))}; there are: {names}")
    return chosen  # fmt: skip


def _measure(chosen: argparse.Namespace) -> dict[str, Result]:
    depth = "tiny" if chosen.tiny else "quick" if chosen.quick else "full"
    pools = [name.strip() for name in chosen.pools.split(",") if name.strip()]
    run = Run(depth, pools)
    results = {}
    for name, one in MEASURES.items():
        if not chosen.only or name in chosen.only:
            results[name] = result = one.run(run)
            print(
                f"## {result.title} [{name}, {result.seconds:.0f} s]\n\n{report.section(result)}",
                flush=True,
            )
    return results  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and show or write what was found."""
    chosen = _arguments(arguments)
    if chosen.source:
        facts, results = report.from_json(chosen.source.read_text("utf-8"))
    else:
        facts = report.conditions("tiny" if chosen.tiny else "quick" if chosen.quick else "full")
        results = _measure(chosen)
    print(f"## Targets\n\n{report.table(targets.table(results))}")
    print(f"## Where another pool is better\n\n{report.table(losses.table(results))}")
    if chosen.json:
        chosen.json.write_text(report.as_json(facts, results), "utf-8")
    if chosen.write:
        _write(chosen.write, report.parts(facts, results), results)
    return 0


def _write(path: Path, made: dict[str, str], results: dict[str, Result]) -> None:
    path.write_text(report.written(path.read_text("utf-8"), made), "utf-8")
    if all(panel[0] in results for panel in plot.PANELS):
        plot.draw(results, path.with_name(PICTURE))


if __name__ == "__main__":
    sys.exit(main())
