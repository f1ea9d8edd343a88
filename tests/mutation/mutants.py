"""Mutation testing: each small change of the core must make some test fail.

    python tests/mutation/mutants.py [-j 2] [--only ledger.py] [--match TEXT] [--kills FILE] [tests]

It changes a copy of the checkout, one mutant at a time, and runs the tests of `JUDGES` on it. A
mutant that no test notices fails the run, unless `equivalent.toml` tells why nobody can notice it;
an entry there that fits no surviving mutant is reported too. What a mutant is says `operators.py`.
`--kills` keeps in a file which test killed what, so that a run that was cut short goes on where it
was, and after tests were added only survivors are judged again.
It must never change the checkout itself.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import hashlib
import json
import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis.stateful  # noqa: F401  (imported once here, and by no child again)
import pytest
from operators import Mutant, mutants_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LIST = HERE / "equivalent.toml"

MODULES = ("ledger.py", "handles.py", "member.py")

# The sharp and fast ones first: most mutants die there.
JUDGES = (
    "tests/test_ledger.py",
    "tests/test_member.py",
    "tests/test_shared_handles.py",
    "tests/test_checkout.py",
    "tests/test_handles.py",
    "tests/test_life_cycle.py",
    "tests/test_cleaning.py",
    "tests/test_nothing_leaks.py",
    "tests/test_alive.py",
    "tests/test_tells.py",
    "tests/test_sqlite_clean.py",
    "tests/proof/test_deadlock.py -k 'not random and not real_machine'",
    "tests/test_hostile.py",
    "tests/test_state_machine.py",
    "tests/test_fork.py",
)
STUCK = 40  # seconds that one test gets: more means that the mutant hangs
PATIENCE = 300.0  # seconds that all of them get together
CPU = 60  # seconds of computing that they get, whoever else computes on the machine

SILENT = ("-W", "ignore::pytest.PytestAssertRewriteWarning")

KILLED, SURVIVED, HUNG = "killed", "survived", "hung"


@dataclass
class Bench:
    """A copy of the checkout, and the child that judges a mutant in it."""

    folder: Path
    mutant: Mutant | None = None
    child: int = 0
    began: float = 0.0
    number: int = 0

    @property
    def notes(self) -> Path:
        """Where the child says which test failed."""
        return self.folder / "killer"

    def put(self, module: str, source: str) -> None:
        """Write a module of the core. Its time is never one that a compiled file knows."""
        path = self.folder / "dbapi_pool" / module
        path.write_text(source, encoding="utf-8")
        self.number += 1
        os.utime(path, (self.number * 10, self.number * 10))

    def start(self, mutant: Mutant, judges: list[str]) -> None:
        """Begin to judge."""
        self.put(mutant.module, mutant.source)
        self.notes.write_text("")
        self.mutant, self.began = mutant, time.monotonic()
        sys.stdout.flush()
        self.child = os.fork()
        if self.child == 0:
            _judge(self, judges)

    def poll(self) -> str | None:
        """The verdict, if there is one."""
        pid, status = os.waitpid(self.child, os.WNOHANG)
        if pid == 0:
            if time.monotonic() - self.began < PATIENCE:
                return None
            self.stop()
            return HUNG
        self._kill_group()  # what a dead child has left behind
        if os.WIFSIGNALED(status):
            return HUNG if os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL) else KILLED
        return SURVIVED if os.waitstatus_to_exitcode(status) == pytest.ExitCode.OK else KILLED

    def stop(self) -> None:
        """End the child and all that it started."""
        self._kill_group()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.child, 0)

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.child, signal.SIGKILL)


def _judge(bench: Bench, judges: list[str]) -> None:
    """The child: run the tests, and end."""
    import resource

    code = 99
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CPU, (CPU, CPU + 5))
        os.chdir(bench.folder)
        path = os.pathsep.join([str(bench.folder), str(bench.folder / "plugins")])
        os.environ["PYTHONPATH"] = path
        # With a number of its own the state machine draws other examples each time. What fails then
        # by chance would count as a kill, so all mutants get the same ones as the original. And what
        # the tests find out about a mutant is no evidence.
        for name in ("EXAMPLES", "DEPTH", "EVIDENCE"):
            os.environ.pop(f"DBAPI_POOL_TEST_{name}", None)
        sys.path[:0] = path.split(os.pathsep)
        log = os.open(bench.folder / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        code = _first_failure(judges, _Notes(bench.notes))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _first_failure(judges: list[str], notes: _Notes) -> int:
    """Run them one by one, since most mutants need not have the others collected."""
    options = ["-x", "-q", "-p", "no:cacheprovider", "--tb=short"]
    options += ["-o", f"faulthandler_timeout={STUCK}", "-o", "faulthandler_exit_on_timeout=true"]
    options += SILENT
    for judge in judges:
        code = int(pytest.main([*options, *shlex.split(judge)], plugins=[notes]))
        if code != pytest.ExitCode.OK:
            return code
        gc.collect()  # what one file left is not another's
    return 0


class _Notes:
    """Writes down the first test that failed."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and not self._file.read_text():
            self._file.write_text(report.nodeid)

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed and not self._file.read_text():
            self._file.write_text(report.nodeid)


class Kills:
    """What was killed in earlier runs, and by what: kept in a file, a line each, unless None.

    A mutant is known again by its whole source, so that a changed module is judged anew.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        lines = file.read_text().splitlines() if file is not None and file.exists() else []
        self._known = {json.loads(line)["source"] for line in lines}

    def __contains__(self, mutant: Mutant) -> bool:
        return self._digest(mutant) in self._known

    def add(self, mutant: Mutant, killer: str) -> None:
        if self._file is None:
            return
        entry = {"source": self._digest(mutant), "mutant": str(mutant), "killer": killer}
        with self._file.open("a") as file:
            file.write(json.dumps(entry) + "\n")

    @staticmethod
    def _digest(mutant: Mutant) -> str:
        return hashlib.sha256(mutant.source.encode()).hexdigest()


@dataclass
class Run:
    """Judging many mutants, on as many benches as there are workers."""

    mutants: list[Mutant]
    benches: list[Bench]
    originals: dict[str, str]
    verdicts: dict[Mutant, str] = field(default_factory=dict)
    killers: dict[str, str] = field(default_factory=dict)  # by function: the file that killed last
    judges: tuple[str, ...] = JUDGES
    verbose: bool = False
    kills: Kills = field(default_factory=lambda: Kills(None))
    waiting: list[Mutant] = field(default_factory=list)
    doubted: set[Mutant] = field(default_factory=set)

    def all(self) -> None:
        """Judge them all."""
        for mutant in reversed(self.mutants):
            if mutant in self.kills:
                self.verdicts[mutant] = KILLED
            else:
                self.waiting.append(mutant)
        busy: list[Bench] = []
        try:
            while self.waiting or busy:
                for bench in self.benches:
                    if bench not in busy and self.waiting:
                        mutant = self.waiting.pop()
                        bench.start(mutant, self._order(mutant))
                        busy.append(bench)
                time.sleep(0.02)
                busy = [bench for bench in busy if not self._is_done(bench)]
        finally:
            for bench in busy:
                bench.stop()

    def _order(self, mutant: Mutant) -> list[str]:
        killer = self.killers.get(mutant.function)
        return sorted(self.judges, key=lambda judge: judge.partition(" ")[0] != killer)

    def _is_done(self, bench: Bench) -> bool:
        verdict = bench.poll()
        if verdict is None:
            return False
        mutant = bench.mutant
        assert mutant is not None
        killer = bench.notes.read_text()
        bench.put(mutant.module, self.originals[mutant.module])
        if verdict != SURVIVED and not killer:
            verdict = HUNG  # or the machine was busy, and a test too slow: once may be chance
            if mutant not in self.doubted:
                self.doubted.add(mutant)
                self.waiting.append(mutant)
                print(f"a test did not end; judged once more: {mutant}", flush=True)
                return True
        self.verdicts[mutant] = verdict
        if killer:
            self.killers[mutant.function] = killer.partition("::")[0]
        if verdict != SURVIVED:
            self.kills.add(mutant, killer or verdict)
        seconds = time.monotonic() - bench.began
        if self.verbose or verdict != KILLED:
            print(f"{verdict} in {seconds:.1f} s: {mutant} {killer}", flush=True)
        return True


def known() -> dict[tuple[str, str, str, str], str]:
    """The mutants that nobody can tell from the original, and why."""
    entries = tomllib.loads(LIST.read_text(encoding="utf-8")).get("mutant", [])
    keys = ("module", "function", "line", "becomes")
    return {tuple(entry[key] for key in keys): entry["reason"] for entry in entries}  # type: ignore[misc]


@contextlib.contextmanager
def benches(count: int) -> Iterator[list[Bench]]:
    """Copies of the checkout."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as root:
        made = []
        for number in range(count):
            folder = Path(root) / str(number)
            skip = shutil.ignore_patterns("__pycache__", ".*")
            for name in ("dbapi_pool", "plugins", "tests"):
                shutil.copytree(ROOT / name, folder / name, ignore=skip)
            for name in ("pyproject.toml", "conftest.py"):
                shutil.copy(ROOT / name, folder)
            made.append(Bench(folder))
        yield made


def warm_up(bench: Bench, judges: list[str]) -> None:
    """Import here, once, what the tests import, so that no child has to; nothing of ours, though."""
    files = [shlex.split(judge)[0] for judge in judges]
    command = ["-q", "--collect-only", "-p", "no:cacheprovider", *SILENT]
    known, path, here = set(sys.modules), list(sys.path), os.getcwd()
    sys.path[:0] = [str(bench.folder), str(bench.folder / "plugins")]
    os.chdir(bench.folder)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        pytest.main([*command, *files])
    os.chdir(here)
    sys.path[:] = path
    for name in set(sys.modules) - known:
        origin = getattr(sys.modules[name], "__file__", None) or ""
        if not origin or origin.startswith(str(bench.folder)):
            del sys.modules[name]
    gc.collect()


def check_original(bench: Bench, judges: list[str]) -> None:
    """The tests must pass without a mutation, or nothing is shown by their failing."""
    bench.start(Mutant(MODULES[0], "-", "-", "-", _source(MODULES[0])), judges)
    while (verdict := bench.poll()) is None:
        time.sleep(0.05)
    if verdict != SURVIVED:
        sys.exit(f"the tests fail on the original:\n{(bench.folder / 'log').read_text()}")
    print(f"the original passes in {time.monotonic() - bench.began:.1f} s", flush=True)


def report(run: Run, whole: bool) -> bool:
    """Tell what survived; whether all is well."""
    reasons = known()
    lived = [mutant for mutant, verdict in run.verdicts.items() if verdict == SURVIVED]
    new = [mutant for mutant in lived if mutant.key not in reasons]
    for mutant in new:
        print(f"\nnobody noticed:\n{mutant.as_toml()}")
    stale = set(reasons) - {mutant.key for mutant in lived}
    stale = {key for key in stale if whole and key[0] in run.originals}
    for key in sorted(stale):
        print(f"\nlisted as equivalent, but killed or no more: {key}")
    for module in run.originals if whole else ():
        _record(module, run, reasons)
    return not new and not stale


def _record(module: str, run: Run, reasons: dict[tuple[str, str, str, str], str]) -> None:
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    from evidence import record

    mine = {m: verdict for m, verdict in run.verdicts.items() if m.module == module}
    counts = Counter(mine.values())
    figures = {
        "mutants": len(mine),
        "killed": counts[KILLED] + counts[HUNG],
        "equivalent": sum(
            verdict == SURVIVED and mutant.key in reasons for mutant, verdict in mine.items()
        ),
    }
    print(f"{module}: {figures} (of those killed, {counts[HUNG]} did not end)")
    record("mutants", module, **figures)


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the tests on mutants of the core.")
    parser.add_argument("-j", "--jobs", type=int, default=1, help="mutants at a time")
    parser.add_argument("--only", action="append", help="a module of dbapi_pool")
    parser.add_argument("--match", default="", help="only mutants with this in their description")
    parser.add_argument("--unlisted", action="store_true", help="not those listed as equivalent")
    parser.add_argument("--list", action="store_true", help="show the mutants, judge none")
    parser.add_argument("--kills", type=Path, help="a file: what was killed is judged once")
    parser.add_argument("-v", "--verbose", action="store_true", help="name who killed each")
    parser.add_argument("judges", nargs="*", help="tests to run instead of all that are sharp")
    options = parser.parse_args()
    judges = tuple(options.judges or JUDGES)
    modules = options.only or MODULES
    originals = {module: _source(module) for module in modules}
    mutants = [m for name, source in originals.items() for m in mutants_of(name, source)]
    chosen = [m for m in mutants if options.match in str(m)]
    if options.unlisted:
        reasons = known()
        chosen = [m for m in chosen if m.key not in reasons]
    if options.list:
        print(*chosen, f"{len(chosen)} mutants", sep="\n")
        return 0
    sys.dont_write_bytecode = False  # of the tests, compiled once: they are half of the work
    with benches(options.jobs) as copies:
        warm_up(copies[0], list(judges))
        check_original(copies[0], list(judges))
        run = Run(chosen, copies, originals, judges=judges, verbose=options.verbose)
        run.kills = Kills(options.kills)
        run.all()
    whole = len(chosen) == len(mutants) and judges == JUDGES
    return 0 if report(run, whole) else 1


def _source(module: str) -> str:
    return (ROOT / "dbapi_pool" / module).read_text(encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
