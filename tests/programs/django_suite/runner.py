"""Runs Django's tests, and writes what became of each, as JSON."""

import gc
import json
import os
from pathlib import Path

from django.test.runner import DiscoverRunner, unittest


class Result(unittest.TextTestResult):
    outcomes = {}

    def addSuccess(self, test):
        self.outcomes[test.id()] = "ok"
        super().addSuccess(test)

    def addSkip(self, test, reason):
        self.outcomes[test.id()] = "skipped"
        super().addSkip(test, reason)

    def addExpectedFailure(self, test, err):
        self.outcomes[test.id()] = "expected failure"
        super().addExpectedFailure(test, err)

    def addUnexpectedSuccess(self, test):
        self.outcomes[test.id()] = "unexpected success"
        super().addUnexpectedSuccess(test)

    def addFailure(self, test, err):
        self._failed(test, err)
        super().addFailure(test, err)

    def addError(self, test, err):
        self._failed(test, err)
        super().addError(test, err)

    def addSubTest(self, test, subtest, err):
        if err is not None:
            self._failed(test, err)
        super().addSubTest(test, subtest, err)

    def _failed(self, test, err):
        self.outcomes[test.id()] = f"failed: {err[0].__name__}: {err[1]}"


class Runner(DiscoverRunner):
    def get_resultclass(self):
        return Result

    def teardown_databases(self, *args, **kwargs):
        # Where a test is refused nothing, it leaves the connection that it got instead.
        gc.collect()
        super().teardown_databases(*args, **kwargs)

    def run_tests(self, *args, **kwargs):
        failures = super().run_tests(*args, **kwargs)
        Path(os.environ["SUITE_RESULTS"]).write_text(json.dumps(Result.outcomes))
        return failures
