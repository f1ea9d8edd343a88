"""Which public suites there are, where they come from, and what each needs in order to run.

Facts only. Must never run a test, nor know a pool.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Distribution:
    """A source distribution on the package registry."""

    package: str
    version: str
    folder: str
    """The folder that it unpacks to."""
    needs: tuple[str, ...] = ()
    """Programs that its own metadata are not to be had without."""

    @property
    def pin(self) -> str:
        """As the package installer wants it."""
        return f"{self.package}=={self.version}"


DBAPI20 = Distribution("dbapi-compliance", "1.15.0", "dbapi-compliance-1.15.0")
# The last one with its suite inside. It is run against the PyMySQL that is installed.
PYMYSQL = Distribution("PyMySQL", "0.10.1", "PyMySQL-0.10.1")
PSYCOPG2 = Distribution("psycopg2", "2.9.13", "psycopg2-2.9.13", needs=("pg_config",))


@dataclass(frozen=True)
class Suite:
    """One suite, run with one driver."""

    name: str
    driver: str
    """The DB-API module whose `connect` is replaced."""
    title: str
    """What the page calls it."""
    source: Distribution | None = None
    """None: it is a part of Python."""
    server: str | None = None
    """What it needs: `"postgresql"`, `"mysql"`, or nothing."""
    modules: tuple[str, ...] = ()
    """What to load, by name; packages are searched."""
    part: tuple[str, ...] = ()
    """The modules, or classes, of the part that every run of the tests includes; none: all of it."""
    left_out: tuple[str, ...] = ()
    """Tests that are not in that part, since they take long."""
    least: int = 1
    """How many tests of the part pass bare, at least: else something is wrong with the run."""
    patience: float = 120.0
    """Seconds that one test may take."""
    ignores_warnings: bool = False
    """Whether it is older than its driver, and would take each new warning for an error."""
    environment: Mapping[str, str] = field(default_factory=dict)


def _dbapi20(driver: str, server: str | None) -> Suite:
    title = f"dbapi20 with {driver}"
    return Suite(f"dbapi20-{driver}", driver, title, DBAPI20, server, ("suite_dbapi20",), least=24)


SUITES: dict[str, Suite] = {
    suite.name: suite
    for suite in (
        _dbapi20("sqlite3", None),
        _dbapi20("psycopg2", "postgresql"),
        _dbapi20("psycopg", "postgresql"),
        _dbapi20("pymysql", "mysql"),
        _dbapi20("MySQLdb", "mysql"),
        _dbapi20("mysql.connector", "mysql"),
        _dbapi20("mariadb", "mysql"),
        Suite(
            "sqlite3",
            "sqlite3",
            "CPython's test_sqlite3",
            modules=("test.test_sqlite3",),
            least=400,
        ),
        Suite(
            "pymysql",
            "pymysql",
            f"PyMySQL's own, of {PYMYSQL.version}",
            PYMYSQL,
            "mysql",
            ("pymysql.tests",),
            left_out=(
                "pymysql.tests.test_connection.TestConnection.test_connection_gone_away",
                "pymysql.tests.test_issues.TestNewIssues.test_issue_35",
            ),
            least=140,
            ignores_warnings=True,
        ),
        Suite(
            "psycopg2",
            "psycopg2",
            f"psycopg2's own, of {PSYCOPG2.version}",
            PSYCOPG2,
            "postgresql",
            ("tests",),
            part=tuple(
                f"tests.test_{name}."
                for name in (
                    "cursor",
                    "errors",
                    "extras_dictcursor",
                    "lobject",
                    "psycopg2_dbapi20",
                    "quote",
                    "sql",
                    "transaction",
                    "types_extras",
                    "with",
                )
            ),
            least=350,
        ),
    )
}
