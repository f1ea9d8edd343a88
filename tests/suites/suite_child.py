"""The process in which a suite runs: loads its tests, runs each, writes down what came of it.

    python suite_child.py TASK.json REPORT.jsonl

The task is made by `suite_runs`. A line of the report says that a test begins, or how it ended;
whatever kills this process cannot take that away. With `forks` each test has a process of its own,
forked from this one. Knows a pool only by `suite_pooling`.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import pkgutil
import sys
import traceback
import unittest
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


class Report:
    """The lines that are written. Each reaches the file at once, whole."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def write(self, test: str, outcome: str, story: str = "") -> None:
        """One line."""
        line = json.dumps({"test": test, "outcome": outcome, "story": story[-2000:]})
        os.write(self._file, f"{line}\n".encode())


class Result(unittest.TestResult):
    """What came of one test, with all its parts."""

    def __init__(self) -> None:
        super().__init__()
        self.skip = ""

    def addSkip(self, test: Any, reason: str) -> None:
        """A test that is skipped says nothing about a driver."""
        self.skip = reason or "skipped"

    def outcome(self) -> tuple[str, str]:
        """In a word, and how it came."""
        bad = [*self.failures, *self.errors]
        if bad:
            return "fail", "\n".join(text for _, text in bad)
        if self.unexpectedSuccesses:
            return "fail", "an unexpected success"
        return ("skip", self.skip) if self.skip else ("pass", "")


# -- the tests ------------------------------------------------------------------------------------


def modules_of(names: list[str]) -> Iterator[Any]:
    """The modules with tests: those named, and all that are in those which are packages."""
    for name in names:
        module = importlib.import_module(name)
        if not hasattr(module, "__path__"):
            yield module
            continue
        for found in pkgutil.walk_packages(module.__path__, f"{name}."):
            if found.name.rpartition(".")[2].startswith("test_") and not found.ispkg:
                yield importlib.import_module(found.name)


def tests_of(module: Any) -> Iterator[unittest.TestCase]:
    """Its tests, one by one; not those of another module that it has imported."""
    pending: list[Any] = [unittest.TestLoader().loadTestsFromModule(module)]
    while pending:
        one = pending.pop(0)
        if isinstance(one, unittest.TestSuite):
            pending[:0] = list(one)
        elif type(one).__module__ == module.__name__ or module.__name__ == "suite_dbapi20":
            yield one


def chosen(task: dict[str, Any]) -> list[unittest.TestCase]:
    """The tests of the task, in their order."""
    found: dict[str, unittest.TestCase] = {}
    for module in modules_of(task["modules"]):
        for test in tests_of(module):
            found.setdefault(test.id(), test)
    part, done = tuple(task["part"]), {*task["done"], *task["left_out"]}
    return [
        test
        for name, test in found.items()
        if name not in done and (not part or name.startswith(part))
    ]


# -- running them ---------------------------------------------------------------------------------


def run(test: unittest.TestCase, report: Report, patience: float) -> None:
    """Run one test here. One that takes too long ends the process."""
    report.write(test.id(), "begin")
    faulthandler.dump_traceback_later(patience, exit=True)
    result = Result()
    try:
        # As a suite of one, which sets up and tears down its class too.
        unittest.TestSuite([test]).run(result)
    except BaseException:  # a test that exits, or is interrupted
        report.write(test.id(), "fail", traceback.format_exc())
    else:
        report.write(test.id(), *result.outcome())
    faulthandler.cancel_dump_traceback_later()


def run_forked(test: unittest.TestCase, report: Report, patience: float) -> None:
    """Run one test in a process of its own."""
    pid = os.fork()
    if not pid:
        try:
            run(test, report, patience)
            os._exit(0)  # nothing of this process's end is the test's business
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    if status:
        print(f"{test.id()} ended its process: status {status}", flush=True)


def warm(module: Any, arguments: dict[str, Any] | None) -> None:
    """Have a pool with an idle connection before the first fork, which the children must not use."""
    if arguments is not None:
        module.connect(**arguments).close()


def main(task_file: str, report_file: str) -> None:
    task = json.loads(Path(task_file).read_text("utf-8"))
    sys.path[:0] = task["path"]
    report = Report(report_file)
    faulthandler.enable()
    driver = importlib.import_module(task["driver"])
    for folder in task["more_of_driver"]:
        driver.__path__.append(folder)
    told: Callable[[], str] = str
    if task["pooled"]:
        from suite_pooling import pool

        told = pool(driver, task["fresh"])
    tests = chosen(task)
    if task["ignores_warnings"]:
        warnings.simplefilter("ignore")
    if task["forks"] and task["pooled"] and not task["fresh"]:
        warm(driver, task["arguments"])
    for test in tests:
        (run_forked if task["forks"] else run)(test, report, task["patience"])
    report.write("", "end", told())
    sys.stdout.flush()
    os._exit(0)  # what the tests left behind may take its time


if __name__ == "__main__":
    main(*sys.argv[1:])
