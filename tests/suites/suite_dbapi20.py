"""dbapi20's class for the driver at hand, which `suite_child` imports as if it were a suite of its own.

Where the driver and the arguments come from is the environment. Must never know a pool.
"""

from __future__ import annotations

import importlib
import json
import os
from typing import Any

dbapi20: Any = importlib.import_module("dbapi20")


class DBAPI20(dbapi20.DatabaseAPI20Test):  # type: ignore[misc]
    """As its own instructions say: a driver, and what to connect with."""

    driver = importlib.import_module(os.environ["SUITE_DRIVER"])
    connect_kw_args = json.loads(os.environ["SUITE_ARGUMENTS"])

    def test_nextset(self) -> None:
        """Has to be written for each driver."""
        self.skipTest("depends on the driver")

    def test_setoutputsize(self) -> None:
        """Has to be written for each driver."""
        self.skipTest("depends on the driver")


del dbapi20  # or its class would be taken for a suite too
