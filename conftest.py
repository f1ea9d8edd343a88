"""Runs the examples of the documentation, each document in an empty folder of its own.

Must never hold anything else: fixtures are in `tests/`, how examples are run in
`tests/support/documents.py`.
"""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from documents import PARSERS, stop_servers
from sybil import Sybil


def _enter_folder(namespace: dict[str, Any]) -> None:
    namespace["_folder"] = TemporaryDirectory(ignore_cleanup_errors=True)
    namespace["_before"] = Path.cwd()
    os.chdir(namespace["_folder"].name)


def _leave_folder(namespace: dict[str, Any]) -> None:
    os.chdir(namespace["_before"])
    namespace["_folder"].cleanup()


pytest_collect_file = Sybil(
    parsers=PARSERS,
    patterns=["README.md", "docs/*.md"],
    setup=_enter_folder,
    teardown=_leave_folder,
).pytest()


def pytest_unconfigure() -> None:
    stop_servers()
