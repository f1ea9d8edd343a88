"""Which creators and URLs the PostgreSQL plugin serves, and what it refuses. Needs no server."""

from __future__ import annotations

import functools
import subprocess
import sys
from typing import Any

import pytest
import servers

import dbapi_pool_postgresql as plugin
from dbapi_pool import Pool, PoolSettingError
from dbapi_pool.drivers import registry

MODULES = ("psycopg2", "psycopg")
modules = pytest.mark.parametrize("module", MODULES)


def connection_class(module: str) -> Any:
    driver = servers.driver_module(module)
    return driver.extensions.connection if module == "psycopg2" else driver.Connection


def test_importing_the_plugin_imports_no_driver() -> None:
    code = (
        "import sys, dbapi_pool_postgresql as p;"
        " from dbapi_pool.drivers import registry; import sqlite3; registry.find(sqlite3);"
        " registry.find('mysql://h'); registry.find(dict);"
        " sys.exit(any(name in sys.modules for name in p.serves))"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "creator",
    [
        lambda driver: driver,
        lambda driver: driver.connect,
        lambda driver: functools.partial(driver.connect, "dbname=x"),
        lambda driver: connection_class(driver.__name__),
        lambda driver: type("Mine", (connection_class(driver.__name__),), {"__module__": "app"}),
        lambda driver: f"postgresql+{driver.__name__}://h/d",
        lambda driver: f"postgres+{driver.__name__}://h/d",
        lambda driver: f"PostgreSQL+{driver.__name__}://h/d",
    ],
    ids=["module", "function", "partial", "class", "subclass", "URL", "postgres", "capitals"],
)
@modules
def test_creators_of_both_drivers_are_known(module: str, creator: Any) -> None:
    driver = servers.driver_module(module)

    found = registry.find(creator(driver))

    assert found is not None
    assert found.name == module
    assert found.module is driver


@pytest.mark.parametrize(
    ("creator", "root"),
    [
        (object(), "sqlite3"),
        (object(), "postgresql"),  # py-postgresql's module, not a URL
        (dict, "builtins"),
        ("mysql://h", "mysql"),
        ("postgresql+asyncpg://h", "postgresql+asyncpg"),
        ("postgresqlx://h", "postgresqlx"),
    ],
)
def test_others_are_left_alone(creator: object, root: str) -> None:
    assert plugin.dbapi_pool_driver(creator=creator, root=root) is None


# -- URLs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
def test_a_bare_url_takes_the_first_driver_that_is_installed(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in MODULES:
        servers.driver_module(module)
    found = registry.find(f"{scheme}://h/d")
    assert found is not None
    assert found.name == "psycopg2"

    _forbid(monkeypatch, "psycopg2")

    found = registry.find(f"{scheme}://h/d")
    assert found is not None
    assert found.name == "psycopg"


def _forbid(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Make importing these fail, as if they were not installed."""
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)
        home = f"dbapi_pool_postgresql.{name}_driver"
        monkeypatch.delitem(sys.modules, home, raising=False)
        monkeypatch.delattr(plugin, f"{name}_driver", raising=False)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://joe:secret@h/d", r"install psycopg2-binary, or psycopg\[binary\]"),
        ("postgresql+psycopg://joe:secret@h/d", r"psycopg, which .* install psycopg\[binary\]"),
        ("postgres+psycopg2://joe:secret@h/d", "psycopg2, which .* install psycopg2-binary"),
    ],
)
def test_without_a_driver_the_error_names_what_to_install(
    url: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _forbid(monkeypatch, *MODULES)

    with pytest.raises(PoolSettingError, match=message) as caught:
        Pool(url)

    assert isinstance(caught.value, ValueError)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "passed_on"),
    [
        ("postgresql://joe:s%40@h:1/d", "postgresql://joe:s%40@h:1/d"),
        ("postgresql+{}://joe@h/d?sslmode=require", "postgresql://joe@h/d?sslmode=require"),
        ("postgres+{}://h1:1,h2:2/d", "postgres://h1:1,h2:2/d"),
        (
            "postgresql+{}://h1,[::1]:5433/d?target_session_attrs=read-write",
            "postgresql://h1,[::1]:5433/d?target_session_attrs=read-write",
        ),
        ("postgresql:///d?host=/run/pg&port=1", "postgresql:///d?host=/run/pg&port=1"),
        ("postgresql://?service=shop", "postgresql://?service=shop"),
        (
            "postgresql+{}://joe@%2Frun%2Fpg/d?options=-c%20work_mem%3D1MB",
            "postgresql://joe@%2Frun%2Fpg/d?options=-c%20work_mem%3D1MB",
        ),
        ("postgresql+{}://joe:a@b:c@h/d", "postgresql://joe:a%40b:c@h/d"),
        ("PostgreSQL+{}://joe@h/d", "postgresql://joe@h/d"),
    ],
)
@modules
def test_urls_are_passed_on_to_libpq(module: str, url: str, passed_on: str) -> None:
    url = url.format(module) if "{}" in url else url
    driver: Any = registry.find(url if "+" in url else f"postgresql+{module}://h")

    connect, args, kwargs = driver.parse_url(url)

    assert connect == servers.driver_module(module).connect
    assert (args, kwargs) == ((passed_on,), {})


@pytest.mark.parametrize(
    "url",
    ["postgresql://joe:1/hidden@h/d", "postgresql://joe:1?hidden@h/d", "postgresql://joe:1#/@h"],
)
def test_a_password_that_libpq_would_misread_is_refused_and_not_shown(url: str) -> None:
    servers.driver_module("psycopg2")

    with pytest.raises(PoolSettingError, match="%2F") as caught:
        Pool(url)

    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://joe:hidden%zz@h/d",
        "postgresql://joe@h/d?password=hidden%",
        "postgresql://joe:hidden@[::1/d",
        "postgresql://joe:hidden/d",
        "postgresql://joe:1@hidden@h/d",
        "postgresql://joe:1/hidden@h/d",
        "host=h password=not hidden",
        "host=h password='hidden",
    ],
)
@modules
def test_libpq_never_quotes_a_password_from_a_connection_string(module: str, text: str) -> None:
    driver = servers.driver_module(module)
    name = {"psycopg2": "dsn", "psycopg": "conninfo"}[module]

    for creator in (driver, driver.connect):
        for args, kwargs in (((text,), {}), ((), {name: text})):
            with pytest.raises(PoolSettingError) as caught:
                Pool(creator, *args, **kwargs)
            assert "hidden" not in str(caught.value)
            cause = caught.value.__cause__
            assert cause is not None
            assert "hidden" not in str(cause)
            assert cause.__context__ is None  # libpq's error, which quotes it


@modules
def test_a_url_that_libpq_cannot_read_is_not_shown(module: str) -> None:
    servers.driver_module(module)

    for bad in ("joe:hidden%zz@h", "joe:hidden", "joe:hidden@[::1"):
        with pytest.raises(PoolSettingError, match="connection string") as caught:
            Pool(f"postgresql+{module}://{bad}/d")
        assert "hidden" not in str(caught.value)


@modules
def test_connection_strings_that_are_good_are_taken(module: str) -> None:
    driver = servers.driver_module(module)
    for text in (
        "", "host=h,h2 port=1,2 password='a b@c'", "host=@/abstract", "host=/run/pg port=5433",
        "service=shop", "postgresql://[::1]:5433,h2/d", "postgresql://%2Frun%2Fpg/d", "dbname=x",
    ):  # fmt: skip
        assert Pool(driver, text).close()


@modules
def test_the_arguments_of_other_creators_are_their_own(module: str) -> None:
    connect = servers.driver_module(module).connect

    def creator(nickname: str) -> Any:
        return connect(host="h")

    assert Pool(creator, "it's mine").close()
    driver: Any = type(registry.find(connect))
    assert Pool(creator, "it's mine", driver=driver()).close()


# -- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["async", "async_"])
def test_asynchronous_psycopg2_connections_are_refused(name: str) -> None:
    arguments: dict[str, Any] = {"dsn": "", name: True}

    with pytest.raises(PoolSettingError, match=f"{name}=True"):
        Pool(servers.driver_module("psycopg2"), **arguments)


def test_asynchronous_psycopg_connections_are_refused() -> None:
    psycopg = servers.driver_module("psycopg")

    for creator in (psycopg.AsyncConnection, psycopg.AsyncConnection.connect):
        with pytest.raises(PoolSettingError, match="AsyncConnection"):
            Pool(creator, "")


@modules
def test_no_argument_is_added_but_an_end_of_connecting(module: str) -> None:
    driver: Any = registry.find(servers.driver_module(module))

    assert driver.connect_arguments(("dbname=x",), {"user": "joe"}) == (
        ("dbname=x",),
        {"user": "joe", "connect_timeout": 10},
    )


@modules
@pytest.mark.parametrize("dsn", ["dbname=x connect_timeout=3", "service=x", "dbname='x"])
def test_no_argument_is_added_where_an_end_is_set_or_nothing_is_known(
    module: str, dsn: str
) -> None:
    driver: Any = registry.find(servers.driver_module(module))

    assert driver.connect_arguments((dsn,), {"user": "joe"}) == ((dsn,), {"user": "joe"})


@modules
def test_no_argument_is_added_for_a_function_of_the_users(module: str) -> None:
    def connect(dsn: str) -> Any:
        raise AssertionError

    driver: Any = type(registry.find(servers.driver_module(module)))(creator=connect)

    assert driver.connect_arguments(("dbname=x",), {}) == (("dbname=x",), {})
