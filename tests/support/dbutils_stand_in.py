"""A pytest plugin for the process of DBUtils' own tests: there `dbutils` is ours.

Never import this into a process that runs other tests.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from dbutils_stand_in_names import PROBES, RESULTS

OURS = "dbapi_pool.dropin.dbutils"
MODULES = ("pooled_db", "persistent_db", "steady_db", "simple_pooled_db")

outcomes: dict[str, str] = {}


def substitute() -> None:
    """Put our modules where the tests import DBUtils' from."""
    sys.modules["dbutils"] = importlib.import_module(OURS)
    for name in MODULES:
        sys.modules[f"dbutils.{name}"] = importlib.import_module(f"{OURS}.{name}")
    # A class for the list of shared connections, of which there are none here. One test file imports it
    # before anything else.
    pooled_db: Any = sys.modules["dbutils.pooled_db"]
    pooled_db.SharedDBConnection = None
    if PROBES in os.environ:
        probes: ModuleType = importlib.import_module("dbutils_probes")
        probes.install()


substitute()


def pytest_runtest_logreport(report: Any) -> None:
    """Remember how each test ended: one that errs in its set-up or afterwards has failed."""
    name = report.nodeid.rpartition("/")[2]
    if report.outcome != "passed" or report.when == "call":
        if outcomes.get(name) != "failed":
            outcomes[name] = report.outcome


def pytest_unconfigure() -> None:
    """Write them down, and go: a failed test may have left a thread that waits for ever."""
    Path(os.environ[RESULTS]).write_text(json.dumps(outcomes), "utf-8")
    sys.stdout.flush()
    os._exit(0)
