"""P9 on real servers: after a fork both sides work, and the parent's sessions survive the child.

Every driver has a process of its own, plain and over TLS, and all run at the same time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import servers

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no os.fork")

PROGRAM = Path(__file__).parent / "programs" / "forked.py"
SECONDS = 10.0
PATIENCE = 120
# Python 3.12 warns of every fork beside threads; the pool's own are such threads.
STRICT = ["-W", "error", "-W", "ignore:This process:DeprecationWarning"]

Key = tuple[str, bool]


@pytest.fixture(scope="module")
def running(request: pytest.FixtureRequest) -> Iterator[dict[Key, subprocess.Popen[str]]]:
    """The programs, all started: the first test to ask waits for the whole time, the others do not."""
    started: dict[Key, subprocess.Popen[str]] = {}
    wanted = {item.callspec.params["module"] for item in request.session.items if _is_mine(item)}
    for module in sorted(wanted):
        try:
            servers.driver_module(module)
            server = request.getfixturevalue(servers.FIXTURE_OF[module])
        except (pytest.skip.Exception, pytest.fail.Exception):
            continue  # said by the test
        for tls in (False, True):
            arguments = json.dumps(server.arguments(module, tls=tls))
            started[module, tls] = subprocess.Popen(
                [sys.executable, *STRICT, PROGRAM, module, arguments, str(SECONDS)],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
    yield started
    for process in started.values():
        process.kill()
        process.communicate()


def _is_mine(item: pytest.Item) -> bool:
    return item.path == Path(__file__)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("module", sorted(servers.FIXTURE_OF))
def test_both_sides_of_a_fork_work_and_the_parents_sessions_survive_the_child(
    request: pytest.FixtureRequest,
    running: dict[Key, subprocess.Popen[str]],
    module: str,
    tls: bool,
) -> None:
    servers.driver_module(module)
    request.getfixturevalue(servers.FIXTURE_OF[module])
    process = running[module, tls]
    out, err = process.communicate(timeout=PATIENCE)
    assert (err, out, process.returncode) == ("", "both sides worked\n", 0)
