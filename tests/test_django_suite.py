"""Django's own tests of connections and transactions, through its backend and through ours.

They come from its source distribution, which is fetched by pip (or named by
`DBAPI_POOL_TEST_DJANGO_SDIST`) and kept in pytest's cache. What passes there must pass here; what
does not is listed, with the reason. By default, a part of them; all with `DBAPI_POOL_TEST_DEPTH=deep`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import servers
from documents import require

VERSION = "5.2.19"
"""The current long-term release, and the newest for Python 3.10 and 3.11."""

PATIENCE = 900.0
DEEP = os.environ.get("DBAPI_POOL_TEST_DEPTH") == "deep"
PROGRAMS = Path(__file__).parent / "programs" / "django_suite"
LABELS = (
    "backends", "basic", "bulk_create", "get_or_create", "select_for_update", "transaction_hooks",
    "transactions",
)  # fmt: skip
"""Those which exercise connections."""
# The rest of them wait for the server's disk more than for anything else.
QUICK = ("backends", "select_for_update")


class Case(NamedTuple):
    backend: str
    driver: str
    quick: bool
    labels: tuple[str, ...]


CASES = (
    Case("sqlite3", "sqlite3", True, LABELS),
    Case("mysql", "MySQLdb", True, QUICK),
    Case("mysql", "pymysql", False, LABELS),
    Case("postgresql", "psycopg", True, QUICK),
    Case("postgresql", "psycopg2", False, LABELS),
)

_POOL_OF_PSYCOPG = "looks into psycopg_pool's pool, which Django would use for the option"
DIFFERENT = {
    ("mysql", "backends.mysql.tests.IsolationLevelTests.test_auto_is_null_auto_config"): (
        "calls init_connection_state() and looks for its SQL; here the pool's connections are"
        " prepared when they are opened"
    ),
    ("postgresql", "backends.postgresql.tests.Tests.test_connect_pool"): _POOL_OF_PSYCOPG,
    ("postgresql", "backends.postgresql.tests.Tests.test_connect_pool_set_to_true"): (
        _POOL_OF_PSYCOPG
    ),
    ("postgresql", "backends.postgresql.tests.Tests.test_pooling_health_checks"): (
        _POOL_OF_PSYCOPG
    ),
    (
        "postgresql",
        "backends.postgresql.tests.Tests.test_pooling_not_support_persistent_connections",
    ): "expects Django's words for what is refused here too, in others",
    (
        "postgresql",
        "backends.postgresql.tests.Tests.test_connect_pool_setting_ignored_for_psycopg2",
    ): "expects that pools are refused with psycopg2, for which there are some here",
    ("postgresql", "backends.postgresql.tests.Tests.test_connect_server_side_binding"): (
        "compares the cursor's class with Django's; here it is derived from that"
    ),
}
"""Tests that pass with Django's own backend and not with ours, and why."""


FAILS_ANYWAY = {
    ("pymysql", "backends.mysql.test_schema.SchemaEditorTests.test_quote_value"): (
        "PyMySQL's quoting gives text where mysqlclient's gives bytes"
    ),
}
"""Tests that fail with Django's own backend, on that driver."""


# -- where the suite comes from ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def suite(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of Django's source distribution."""
    require("django")
    given = os.environ.get("DBAPI_POOL_TEST_DJANGO_SDIST")
    cache = Path(request.config.cache.mkdir("django-sdist"))  # type: ignore[union-attr]
    archive = Path(given) if given else cache / f"django-{VERSION}.tar.gz"
    if not given and not archive.exists():
        _download(cache)
    folder = tmp_path_factory.mktemp("django")
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    [root] = folder.iterdir()
    return root


def _download(folder: Path) -> None:
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "django",
        "--dest", str(folder), f"django=={VERSION}",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    if done.returncode:
        servers.missing("django", f"no source distribution of Django: {done.stderr[-300:]}")


# -- running it --------------------------------------------------------------------------------------


def databases(case: Case, server: Any, engine: str, mark: str, folder: Path) -> dict[str, Any]:
    """Django's setting of that name. Whoever creates databases is an administrator."""
    if server is None:
        return {
            alias: {
                "ENGINE": engine,
                "NAME": str(folder / f"{mark}-{alias}.db"),
                # Not in memory, where connections are not pooled.
                "TEST": {"NAME": str(folder / f"test-{mark}-{alias}.db")},
            }
            for alias in ("default", "other")
        }
    given = server.arguments(case.driver, admin=True)
    login = {
        "ENGINE": engine, "HOST": server.host, "PORT": server.port, "USER": given["user"],
        "PASSWORD": given.get("password", ""),
    }  # fmt: skip
    charset = {"CHARSET": "utf8mb4"} if case.backend == "mysql" else {}
    quiet = {"MySQLdb": {"ssl_mode": "DISABLED"}, "pymysql": {"ssl_disabled": True}}
    return {
        alias: {
            **login,
            "NAME": server.database,
            "OPTIONS": quiet.get(case.driver, {}),
            "TEST": {**charset, "NAME": f"suite_{case.driver.lower()}_{mark}_{alias}"},
        }
        for alias in ("default", "other")
    }


def start(
    case: Case, suite: Path, settings: dict[str, Any], results: Path
) -> subprocess.Popen[str]:
    labels = LABELS if DEEP else case.labels
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(PROGRAMS), str(suite), *filter(None, sys.path)]),
        "SUITE_DATABASES": json.dumps(settings),
        "SUITE_DRIVER": case.driver,
        "SUITE_RESULTS": str(results),
    }
    return subprocess.Popen(
        [sys.executable, "runtests.py", "--settings=settings", "--parallel=1", "--noinput", *labels],
        cwd=suite / "tests", env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip


def outcomes(process: subprocess.Popen[str], results: Path) -> dict[str, str]:
    said, _ = process.communicate(timeout=PATIENCE)
    assert results.exists(), said[-5000:]
    found: dict[str, str] = json.loads(results.read_text())
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.backend}-{case.driver}")
def test_what_passes_with_djangos_backend_passes_with_ours(request, suite, tmp_path, case):
    if not case.quick and not DEEP:
        pytest.skip("only with DBAPI_POOL_TEST_DEPTH=deep")
    servers.driver_module(case.driver)
    fixture = servers.FIXTURE_OF.get(case.driver)
    server = request.getfixturevalue(fixture) if fixture else None
    engines = {
        "own": f"django.db.backends.{case.backend}",
        "ours": f"dbapi_pool.django.{case.backend}",
    }
    results = {mark: tmp_path / f"{mark}.json" for mark in engines}
    running = {
        mark: start(case, suite, databases(case, server, engine, mark, tmp_path), results[mark])
        for mark, engine in engines.items()
    }
    try:
        found = {mark: outcomes(process, results[mark]) for mark, process in running.items()}
    finally:
        for process in running.values():
            process.kill()
            process.communicate()

    assert len(found["own"]) > 100
    failed = {test: outcome for test, outcome in found["own"].items() if is_failure(outcome)}
    assert failed.keys() == {test for driver, test in FAILS_ANYWAY if driver == case.driver}, failed
    different = {
        test: found["ours"].get(test, "not run")
        for test, outcome in found["own"].items()
        if kind(found["ours"].get(test, "not run")) != kind(outcome)
    }
    known = {test for backend, test in DIFFERENT if backend == case.backend}
    # Some are for one of two drivers, or not in this part.
    assert different.keys() == {test for test in known if found["own"].get(test) == "ok"}, different
    assert found["ours"].keys() == found["own"].keys()


def kind(outcome: str) -> str:
    return outcome.partition(":")[0]


def is_failure(outcome: str) -> bool:
    return kind(outcome) in ("failed", "unexpected success")
