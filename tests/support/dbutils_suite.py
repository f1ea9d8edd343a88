"""DBUtils' own tests: where they come from, how they are run against ours, and what is known of each.

Its tests are not ours to keep: they come from its source distribution, which pip downloads, or from a
folder or file that `DBAPI_POOL_TEST_DBUTILS` names. They run in a process of their own
(`dbutils_stand_in`). This module must never import DBUtils, nor what stands in for it.
"""

from __future__ import annotations

import configparser
import json
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import dbutils_stand_in_names as names
from servers import missing

VERSION = "3.2.0"
FILES = (
    "test_pooled_db.py",
    "test_persistent_db.py",
    "test_steady_db.py",
    "test_simple_pooled_db.py",
    "test_threading_local.py",
)
GIVEN = "DBAPI_POOL_TEST_DBUTILS"
HERE = Path(__file__).parent
LIST = HERE / "dbutils_suite.ini"
LOOKS = "looks"
"""The category of the tests that pass once their looks at private attributes are answered."""

PATIENCE = 300  # seconds; a run takes ten, but the machine may be busy
RUNS = 3  # of a test that did not end as listed: some give a thread a tenth of a second

Outcomes = dict[str, str]


# -- the list --------------------------------------------------------------------------------------


def listed() -> dict[str, frozenset[str]]:
    """The tests that do not pass, by category."""
    parser = configparser.ConfigParser(
        allow_no_value=True, delimiters=("=",), comment_prefixes=("#",), interpolation=None
    )
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(LIST.read_text("utf-8"))
    for category in parser.sections():
        if not parser[category].get("reason"):
            raise ValueError(f"{LIST.name}: [{category}] has no reason")
    return {category: frozenset(parser[category]) - {"reason"} for category in parser.sections()}


# -- the tests -------------------------------------------------------------------------------------


def fetch(folder: Path) -> Path:
    """The folder `tests` of the source distribution, copied into `folder`, which is empty. Skips, or
    fails where `DBAPI_POOL_TEST_REQUIRE` names dbutils, if it cannot be had."""
    given = os.environ.get(GIVEN)
    source = Path(given) if given else _download(folder / "download")
    if source.is_dir() and not (source / "tests").is_dir():
        source = next(source.glob(f"[dD][bB][uU]tils-{VERSION}.tar.gz"), source)
    if source.is_file():
        source = _unpack(source, folder / "unpacked")
    about = source / "PKG-INFO"
    if not about.is_file() or f"\nVersion: {VERSION}\n" not in about.read_text("utf-8"):
        missing("dbutils", f"{source} is not the source distribution of DBUtils {VERSION}")
    # Without the package itself beside them, lest they find that.
    return Path(shutil.copytree(source / "tests", folder / "suite" / "tests"))


def _download(folder: Path) -> Path:
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
        "--no-binary=:all:", "--dest", str(folder), f"DBUtils=={VERSION}",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]
        missing("dbutils", f"DBUtils {VERSION} cannot be downloaded ({last}); {GIVEN} may name it")
    return folder


def _unpack(archive: Path, folder: Path) -> Path:
    with tarfile.open(archive) as tar:
        # Which refuses what leads out of the folder; not in every Python 3.10 and 3.11.
        tar.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)
        tar.extractall(folder)
    [only] = folder.iterdir()
    return only


# -- running them ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Suite:
    """DBUtils' tests in a folder."""

    tests: Path

    def run(self, probes: bool, *chosen: str) -> Outcomes:
        """`file::test` to how it ended, of all or of the chosen ones. `probes`: looks at private
        attributes are answered."""
        results = self.tests.parent / "results.json"
        results.unlink(missing_ok=True)
        (self.tests.parent / "pytest.ini").write_text("[pytest]\n", "utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "dbutils_stand_in", "-c", "pytest.ini", "-q",
             "-p", "no:cacheprovider", *(f"tests/{name}" for name in chosen or FILES)],
            cwd=self.tests.parent, env=_environment(results, probes), timeout=PATIENCE,
            capture_output=True, text=True,
        )  # fmt: skip
        if not results.exists():
            raise RuntimeError(
                f"the run ended too early: {done.stdout[-2000:]}{done.stderr[-2000:]}"
            )
        found: Outcomes = json.loads(results.read_text("utf-8"))
        return found

    def surprises(self, probes: bool) -> tuple[Outcomes, Outcomes]:
        """How all ended, and those of them that are not as listed, however often they are run."""
        allowed = {
            test
            for category, tests in listed().items()
            if not (probes and category == LOOKS)
            for test in tests
        }
        outcomes = self.run(probes)
        outcomes.update(dict.fromkeys(allowed - outcomes.keys(), "missing"))
        odd = _odd(outcomes, allowed)
        for _ in range(RUNS - 1):
            again = [test for test in odd if odd[test] != "missing"]
            if again:
                outcomes.update(self.run(probes, *again))
            odd = _odd(outcomes, allowed)
        return outcomes, odd


def _odd(outcomes: Outcomes, allowed: set[str]) -> Outcomes:
    return {
        test: outcome
        for test, outcome in outcomes.items()
        if (outcome == "passed") == (test in allowed) or outcome == "missing"
    }


def _environment(results: Path, probes: bool) -> dict[str, str]:
    path = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))
    unwanted = ("PYTEST_", "DBUTILS_SUITE_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    env.update({"PYTHONPATH": path, names.RESULTS: str(results)})
    if probes:
        env[names.PROBES] = "1"
    return env
