"""Run public test suites of drivers through a pooled `connect`: exactly the listed tests may fail.

    python tests/suites/run.py [SUITE...] [--fresh] [--shared] [--fork] [--bare]

Each suite is run with the driver alone, and then in each of the modes; without any, in all three. The
suites come from the package registry and are kept in a folder outside of the repository (`--cache`).
Ends with 1 if a test fails that is not listed in `listed.toml`, or one passes that is; with 2 if a
suite is not to be had and `--require` says that it must.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from suite_catalogue import SUITES, Suite
from suite_lists import MODES, deviations, lost
from suite_page import PAGE, keep, renewed
from suite_runs import BARE, Run, Servers, run, running_servers
from suite_sources import Unavailable

CACHE = Path(
    os.environ.get("DBAPI_POOL_TEST_SUITES")
    or Path(tempfile.gettempdir()) / f"dbapi_pool_suites-{os.getuid()}"
)
"""Where the suites are kept, unless `--cache` says otherwise."""


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=", ".join(SUITES))
    for mode in MODES:
        parser.add_argument(f"--{mode}", dest="modes", action="append_const", const=mode)
    parser.add_argument("--bare", action="store_true", help="with the driver alone, nothing else")
    parser.add_argument("--part", action="store_true", help="what every run of the tests includes")
    parser.add_argument("--only", default="", metavar="TEST", help="tests whose name begins so")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where suites are kept")
    parser.add_argument("--results", type=Path, help="a folder to keep the figures in")
    parser.add_argument("--write", action="store_true", help=f"renew {PAGE.name} from --results")
    parser.add_argument("--require", action="store_true", help="fail where a suite cannot be had")
    found = parser.parse_args(arguments)
    unknown = set(found.suites) - SUITES.keys()
    if unknown:
        parser.error(f"no suite {', '.join(sorted(unknown))}; there are {', '.join(SUITES)}")
    if found.write and (found.results is None or found.part or found.only):
        parser.error("--write needs --results, and whole suites")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs them; the exit code."""
    asked = options(arguments)
    code = 0
    with running_servers() as servers:
        for name in asked.suites or SUITES:
            try:
                good = examine(SUITES[name], asked, servers)
            except Unavailable as exc:
                print(f"{name}: SKIPPED: {exc}", flush=True)
                code = max(code, 2 if asked.require else 0)
            else:
                code = max(code, 0 if good else 1)
    if asked.write and not code:
        PAGE.write_text(renewed(PAGE.read_text("utf-8"), asked.results), encoding="utf-8")
    return code


def examine(suite: Suite, asked: argparse.Namespace, servers: Servers) -> bool:
    """One suite, in all modes asked for; whether all was as listed."""
    bare = _timed(suite, BARE, asked, servers)
    if asked.bare:
        return True
    good, figures = True, {"bare": len(bare.having("pass")), "driver": bare.driver_version}
    passes: dict[str, int] = {}
    for mode in asked.modes or MODES:
        pooled = _timed(suite, mode, asked, servers)
        whole = not (asked.part or asked.only)
        passes[mode] = figures["bare"] - len(lost(bare.outcomes, pooled.outcomes))
        if mode == "shared":
            figures.update(pooled.pooling)
        for deviation in deviations(suite, mode, bare.outcomes, pooled.outcomes, whole):
            good = False
            name = deviation.partition(":")[0]
            print(f"  {mode}: {deviation}\n{_indented(pooled.stories.get(name, ''))}", flush=True)
    if asked.results is not None:
        keep(asked.results, suite.name, {**figures, "modes": passes})
    return good


def _timed(suite: Suite, mode: str, asked: argparse.Namespace, servers: Servers) -> Run:
    start = time.monotonic()
    found = run(suite, mode, asked.cache, servers, asked.part, asked.only)
    counts = Counter(found.outcomes.values())
    told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
    print(f"{suite.name}, {mode}: {told} ({time.monotonic() - start:.0f} s)", flush=True)
    if asked.bare:
        for name in sorted(found.having("fail", "crash")):
            print(f"  {name}\n{_indented(found.stories.get(name, ''))}")
    return found


def _indented(story: str) -> str:
    return "\n".join(f"    {line}" for line in story.strip().splitlines()[-12:])


if __name__ == "__main__":
    sys.exit(main())
