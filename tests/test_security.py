"""Security: no password in any text, no port opened, nothing read from the environment, SQL quotes."""

from __future__ import annotations

import ast
import functools
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import servers
from canary import CORE, PASSWORD, Watch
from click.testing import CliRunner

import dbapi_pool
from dbapi_pool import Pool, PoolError, PoolSettingError
from dbapi_pool.cli.app import app
from dbapi_pool.drivers.urls import parse
from dbapi_pool.dropin.dbutils import PooledDB
from dbapi_pool.testing import FakeDriver, VirtualClock

MODULES = sorted(servers.FIXTURE_OF)
PACKAGES = [
    Path(dbapi_pool.__file__).parent,
    *(
        Path(__import__(f"dbapi_pool_{name}").__file__ or "").parent
        for name in ("mysql", "postgresql", "sqlite")
    ),
]


@pytest.fixture
def watch():
    with Watch() as made:
        yield made
    assert made.seen == []


def look_at(watch: Watch, pool: Any) -> None:
    """Everything that a pool shows of itself."""
    stats = pool.stats()
    watch.show(pool, pool._options, pool._source, pool.driver, pool._keeper, pool._ledger)
    watch.show(stats, stats.as_dict(), pool.name, pool._source._connect)
    watch.text(repr(vars(pool._ledger)))


def error_of(act: Callable[[], object]) -> Exception:
    """What it raises, of whatever class."""
    try:
        act()
    except Exception as exc:
        return exc
    pytest.fail("it raised nothing")


def provoke(watch: Watch, make: Callable[..., Pool], **settings: Any) -> None:
    """Have a pool fail in every call that connects."""
    settings = {"checkout_timeout": 0.3, "max_size": 1, **settings}
    watch.error(error_of(lambda: make(**{**settings, "min_size": 1})))
    try:
        pool = make(**settings)
    except PoolSettingError as exc:  # it need not connect to know
        watch.error(exc)
        return
    with pool:
        watch.error(error_of(pool.warm_up))
        watch.error(error_of(lambda: pool.run(print)))
        watch.error(error_of(lambda: pool.transaction().__enter__()))
        watch.error(error_of(pool.connection))
        look_at(watch, pool)


# -- drivers that cannot connect --------------------------------------------------------------------


class Mute:
    """Takes connections and never answers."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]

    def close(self) -> None:
        self._listener.close()


def arguments(module: str, port: int, **others: Any) -> dict[str, Any]:
    """Those of `connect`, with the canary."""
    made: dict[str, Any] = {"host": "127.0.0.1", "port": port, "user": "joe", "password": PASSWORD}
    if module == "mysql.connector":
        made["use_pure"] = True
    return {**made, **others}


@pytest.mark.parametrize("form", ["arguments", "partial", "lambda"])
@pytest.mark.parametrize("module", MODULES)
def test_a_server_that_refuses_is_told_without_the_password(watch, module, form):
    driver = servers.driver_module(module)
    given = arguments(module, servers.free_port())
    makers = {
        "arguments": lambda **settings: Pool(driver, **given, **settings),
        "partial": lambda **settings: Pool(functools.partial(driver.connect, **given), **settings),
        "lambda": lambda **settings: Pool(lambda: driver.connect(**given), **settings),
    }

    provoke(watch, makers[form])


@pytest.mark.parametrize("module", MODULES)
def test_a_host_that_does_not_exist_is_told_without_the_password(watch, module):
    driver = servers.driver_module(module)
    given = arguments(module, 1, host="no-such-host.invalid")

    provoke(watch, lambda **settings: Pool(driver, **given, **settings), checkout_timeout=5.0)


@pytest.mark.parametrize("module", MODULES)
def test_a_server_that_never_answers_is_told_without_the_password(watch, module):
    driver = servers.driver_module(module)
    mute = Mute()
    try:
        given = arguments(module, mute.port)
        provoke(watch, lambda **settings: Pool(driver, **given, **settings))
    finally:
        mute.close()


@pytest.mark.parametrize("module", MODULES)
def test_an_argument_that_does_not_exist_is_told_without_the_password(watch, module):
    driver = servers.driver_module(module)
    given = arguments(module, servers.free_port(), no_such_argument=PASSWORD)

    provoke(watch, lambda **settings: Pool(driver, **given, **settings))


@pytest.mark.parametrize("module", MODULES)
def test_a_url_of_a_server_that_refuses_is_told_without_the_password(watch, module):
    servers.driver_module(module)
    names = {"psycopg2": "postgresql+psycopg2", "psycopg": "postgresql+psycopg"}
    scheme = names.get(module, f"mysql+{module.lower().replace('.', '')}")
    if module == "mariadb":
        scheme = "mysql+mariadb"
    url = f"{scheme}://joe:{quote(PASSWORD, safe='')}@127.0.0.1:{servers.free_port()}/shop"

    provoke(watch, lambda **settings: Pool(url, **settings))


def test_the_watch_would_hear_a_password(caplog):
    with Watch() as watch:
        watch.show({"password": PASSWORD})
        watch.error(ValueError(quote(PASSWORD, safe="")))
        __import__("logging").getLogger("any").debug("with %s", PASSWORD)

    assert len(watch.seen) >= 3


# -- creators that tell their arguments -------------------------------------------------------------


class Telling(FakeDriver.OperationalError):
    """What a careless creator raises."""


def telling(password: str) -> Any:
    raise Telling(f"no entry with {password}")


def test_what_a_creator_tells_of_itself_is_in_its_own_error_alone(watch):
    """The pool passes on a creator's error as it is, and adds nothing of it to its own texts."""
    pool = Pool(telling, PASSWORD, max_size=1, checkout_timeout=0.3)
    with pytest.raises(Telling), pool:
        pool.connection()
    look_at(watch, pool)


def test_a_timeout_names_the_class_of_what_a_creator_told_and_not_its_text(
    watch, clock: VirtualClock, fake: FakeDriver
):
    fake.on("connect", error=ConnectionRefusedError(f"nobody at {PASSWORD}"))
    pool = Pool(fake, driver=fake.driver(), clock=clock, max_size=1, checkout_timeout=1.0)
    with pytest.raises(PoolError) as caught:
        pool.connection()

    watch.show(caught.value)
    assert "connecting fails with ConnectionRefusedError" in str(caught.value)
    assert PASSWORD in str(caught.value.__cause__)
    look_at(watch, pool)
    pool.close()


def test_a_creator_that_raises_no_exception_is_told_by_its_class(watch):
    def leaving(password: str) -> Any:
        raise SystemExit(f"no entry with {password}")

    pool = Pool(leaving, PASSWORD, max_size=1, checkout_timeout=5.0)
    with pytest.raises(PoolError) as caught, pool:
        pool.connection()

    watch.show(caught.value)
    assert "SystemExit" in str(caught.value)
    look_at(watch, pool)


def test_a_driver_that_tells_its_arguments_when_it_closes_is_logged_by_its_class(
    watch, clock: VirtualClock, fake: FakeDriver
):
    pool = Pool(fake, driver=fake.driver(), clock=clock, max_size=1, checkout_timeout=1.0)
    fake.on("close", error=SystemExit(PASSWORD), times=1)
    with pool.connection() as conn:
        conn.invalidate()
    clock.run()
    fake.on("close", error=RuntimeError(PASSWORD), times=1)
    with pool.connection() as conn:
        conn.invalidate()
    clock.run()
    fake.on("ping", error=SystemExit(PASSWORD), times=1)
    clock.advance(60)
    pool.connection().close()
    clock.advance(60)
    pool.connection().close()
    look_at(watch, pool)
    pool.close()
    assert any("SystemExit" in text for text in watch.texts)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Pool(PASSWORD),
        lambda: Pool(f"joe:{PASSWORD}@host/db"),
        lambda: Pool(object(), PASSWORD),
        lambda: Pool(functools.partial(object(), password=PASSWORD)),  # type: ignore[arg-type]
        lambda: Pool(telling, PASSWORD, setup=7),  # type: ignore[arg-type]
        lambda: PooledDB(PASSWORD),
        lambda: PooledDB(f"postgresql://joe:{quote(PASSWORD, safe='')}@host/db", ping=PASSWORD),
        lambda: PooledDB(telling, password=PASSWORD, mincached=1),
    ],
)
def test_what_is_no_creator_is_refused_without_being_shown(watch, make):
    error = error_of(lambda: make().connection())
    if not isinstance(error, Telling):
        watch.error(error)


# -- URLs and connection strings --------------------------------------------------------------------

SCHEMES = [
    "postgresql", "postgresql+psycopg", "postgres", "mysql", "mysql+pymysql",
    "mysql+mysqlconnector", "mariadb", "oracle", "postgresql+nobody", "sqlite",
]  # fmt: skip
URLS = [
    "{s}://u:{p}@h:port/db", "{s}://u:a/{p}@h/db", "{s}://u:a?{p}@h/db", "{s}://u:a#{p}@h/db",
    "{s}://u:a@b?{p}@h/db", "{s}://u:a@b/{p}@h/db", "{s}://u:a@b?x={p}@h/db",
    "{s}://u:a@b?{p}=x@h/db", "{s}://u:{p}%zz@h/db", "{s}://u:a%{p}@h/db", "{s}://u:a b{p}@h/db",
    "{s}://u:{p}@h:{p}/db", "{s}://u@h:{p}/db", "{s}://u:{p}", "{s}://u:{p}/db",
    "{s}://h/db?password={p}&port=x", "{s}://h/db?user=u&password={p}&password={p}",
    "{s}://h/db?{p}", "{s}://h/db?connect_timeout={p}", "{s}://h/db?nonsense={p}",
    "{s}://h/db?passfile=/none/{p}&port=x", "{s}://[{p}/db", "{s}://u:[{p}@h/db", "{s}:u:{p}@h/db",
    "{s}//u:{p}@h", "{s}:/u:{p}@h/db", "u:{p}@h/db", "{p}", "{s}://{p}@h:x/db",
    "{s}://u:{p}@h,h2:x/db", "{s}://u:%00{p}@h/db",
]  # fmt: skip


def urls() -> list[str]:
    return sorted({url.format(s=scheme, p=CORE) for scheme in SCHEMES for url in URLS})


def shown(url: str) -> str:
    """For a test's name."""
    return url.replace(CORE, "PASSWORD")


@pytest.mark.parametrize("url", urls(), ids=shown)
def test_a_url_that_is_refused_is_not_shown(watch, url):
    try:
        pool = Pool(url, checkout_timeout=0)
    except Exception as exc:
        watch.error(exc)
    else:  # nobody can know that this is wrong; it does not connect
        look_at(watch, pool)
        pool.close()


@pytest.mark.parametrize("way", ["argument", "environment"])
@pytest.mark.parametrize("url", [url for url in urls() if "://u" in url and "port" not in url][::3])
def test_the_command_line_does_not_show_it_either(watch, url, way, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", url)
    for command in (["doctor", "--timeout", "0.2"], ["demo", "--orders", "1", "--url", url]):
        given = [url] if way == "argument" and command[0] == "doctor" else []
        result = CliRunner().invoke(app, [*command, *given])
        # click's usage errors quote what was typed on the command line, and nothing else does.
        watch.text(result.output)
        if result.exception is not None:
            watch.error(result.exception)


DSNS = [
    "host=h password={p} x", "host=h password='{p}", "host=h password='{p}' port=x", "{p}",
    "password={p} nonsense=1", "host=h passfile=/none/{p} port=x", "host={p}@h port=x",
    "postgresql://u:a/{p}@h/db", "postgresql://u:{p}@h:x/db", "postgresql://h/db?nonsense={p}",
    "postgresql://u:%zz{p}@h/db", "host='{p}",
]  # fmt: skip


@pytest.mark.parametrize("dsn", [dsn.format(p=CORE) for dsn in DSNS], ids=shown)
@pytest.mark.parametrize("module", ["psycopg2", "psycopg"])
def test_a_connection_string_that_is_refused_is_not_shown(watch, module, dsn):
    driver = servers.driver_module(module)
    named = {"psycopg2": "dsn", "psycopg": "conninfo"}[module]
    for make in (
        lambda: Pool(driver, dsn),
        lambda: Pool(driver.connect, dsn),
        lambda: Pool(driver, **{named: dsn}),
        lambda: Pool(functools.partial(driver.connect, dsn)),
        lambda: Pool(functools.partial(driver.connect, **{named: dsn})),
        lambda: PooledDB(driver, **{named: dsn}),
    ):
        watch.error(error_of(lambda made=make: made().connection()))


def test_a_parsed_url_does_not_show_its_password(watch):
    watch.show(parse(f"mysql://joe:{quote(PASSWORD, safe='')}@h/db?key={CORE}", {"key": str}))


# -- with a server ----------------------------------------------------------------------------------


@pytest.fixture
def own_user(request, module):
    """A server, and a user of it with the canary."""
    servers.driver_module(module)
    server = request.getfixturevalue(servers.FIXTURE_OF[module])
    word = PASSWORD.replace("'", "''")
    if server.kind == "postgresql":
        server.query("DROP ROLE IF EXISTS canary")
        server.query(f"CREATE ROLE canary LOGIN PASSWORD '{word}'")
    else:
        server.query("DROP USER IF EXISTS canary")
        server.query(f"CREATE USER canary@'%' IDENTIFIED BY '{word}'")
        server.query(f"GRANT ALL ON {server.database}.* TO canary@'%'")
    return server


def as_canary(server: servers.Server, module: str, **others: Any) -> dict[str, Any]:
    return {**server.arguments(module), "user": "canary", "password": PASSWORD, **others}


@pytest.mark.servers
@pytest.mark.parametrize("module", MODULES)
def test_whatever_a_working_pool_shows_is_without_the_password(watch, own_user, module):
    driver = servers.driver_module(module)
    with Pool(driver, **as_canary(own_user, module), max_size=2) as pool:
        with pool.connection() as conn:
            cursor = conn.cursor()
            cursor.execute("SELECT 1")
            watch.show(conn, cursor, conn.close, cursor.fetchone, conn._lease, conn._lease.member)
            with pytest.raises(driver.Error) as caught:
                cursor.execute("SELECT FROM nonsense nonsense")
            watch.error(caught.value)
            conn.rollback()
        with pytest.raises(driver.Error) as returned:
            cursor.execute("SELECT 1")
        watch.error(returned.value)
        watch.show(conn, cursor)
        lent = [pool.connection(), pool.connection()]
        with pytest.raises(PoolError) as full:
            pool.connection(timeout=0.05)
        watch.error(full.value)
        own_user.kill_sessions()
        with pytest.raises(driver.Error) as killed:
            lent[0].cursor().execute("SELECT 1")
        watch.error(killed.value)
        for one in lent:
            one.close()
        look_at(watch, pool)


@pytest.mark.servers
@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("wrong", ["password", "database", "setup", "setup function"])
def test_whatever_a_server_refuses_is_told_without_the_password(watch, own_user, module, wrong):
    driver = servers.driver_module(module)
    given = as_canary(own_user, module)
    settings: dict[str, Any] = {}
    if wrong == "password":
        given["password"] = f"{PASSWORD}x"
    elif wrong == "database":
        [name] = {"dbname", "database", "db"} & set(given)
        given[name] = "no_such_database"
    elif wrong == "setup":
        settings["setup"] = ["SELECT FROM nonsense nonsense"]
    else:
        settings["setup"] = lambda conn: conn.cursor().execute("SELECT FROM nonsense nonsense")

    provoke(watch, lambda **more: Pool(driver, **given, **settings, **more), checkout_timeout=5.0)


@pytest.mark.servers
@pytest.mark.parametrize("module", ["psycopg2", "pymysql"])
def test_doctor_shows_no_password_of_a_server_that_works(watch, own_user, module, monkeypatch):
    word = quote(PASSWORD, safe="")
    place = f"{own_user.host}:{own_user.port}/{own_user.database}"
    by_query = f"postgresql://{place}?user=canary&password={word}&sslmode=disable"
    usual = f"{own_user.kind}://canary:{word}@{place}"
    for url in [usual] + ([by_query] if module == "psycopg2" else []):
        for style in ([], ["--json"]):
            result = CliRunner().invoke(app, ["doctor", url, *style])
            assert result.exit_code in (0, 1), result.output
            watch.text(result.output)


# -- nothing is read from the environment ------------------------------------------------------------


class Recording(dict[str, str]):
    """An environment that notes what is asked of it."""

    def __init__(self, content: Any) -> None:
        super().__init__(content)
        self.asked: list[str] = []

    def __getitem__(self, name: str) -> str:
        self.asked.append(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.append(name)
        return super().get(name, default)

    def __contains__(self, name: object) -> bool:
        self.asked.append(str(name))
        return super().__contains__(name)


def test_variables_of_the_environment_change_no_pool(monkeypatch, tmp_path):
    names = [*Pool.__init__.__kwdefaults__, "url", "password", "dsn", "debug", "reset"]
    for name in names:
        monkeypatch.setenv(f"DBAPI_POOL_{name.upper()}", "1")
    with Pool("sqlite:///" + str(tmp_path / "a.db")) as with_them, with_them.connection() as conn:
        conn.cursor().execute("SELECT 1")
        assert with_them._options == dbapi_pool.Options()
        assert with_them.name == "pool-sqlite"


def test_the_library_asks_the_environment_for_nothing_of_its_own(monkeypatch, tmp_path):
    environment = Recording(os.environ)
    monkeypatch.setattr(os, "environ", environment)
    with Pool("sqlite:///" + str(tmp_path / "a.db"), min_size=1) as pool:
        pool.connection().close()
        repr(pool)
        pool.resize(max_size=5)

    assert "DBAPI_POOL_ANY" not in environment  # it does hear
    assert [name for name in environment.asked if name != "DBAPI_POOL_ANY" and "POOL" in name] == []


READS_ENVIRONMENT = {
    "cli/database.py": "DATABASE_URL, and what `--arg-env` names",
    "cli/target.py": "only writes the word, in code to paste",
    "dropin/keys.py": "the variables that the driver reads when it connects",
}


def test_no_other_module_reads_the_environment():
    found = set()
    for package in PACKAGES:
        for file in package.rglob("*.py"):
            # Not the `environ` of a WSGI application, which is a request.
            if re.search(r"\bos\.environ\b|\bgetenv\b|import environ", file.read_text("utf-8")):
                found.add(str(file.relative_to(package)))

    assert found - set(KNOWN_LIBRARIES) == set(READS_ENVIRONMENT)


KNOWN_LIBRARIES = {"driver.py": "whether PGCONNECT_TIMEOUT or PGSERVICE is set"}
"""Modules that look at what a driver's own library reads, to leave that alone."""


# -- no port is opened -------------------------------------------------------------------------------

GUARD = """
import sys
def look(event, args):
    if event in ("socket.bind", "socket.listen"):
        sys.stderr.write(f"OPENED {event} {args[1:]}")
sys.addaudithook(look)
"""
WITHOUT_PORTS = {
    "demo": "from dbapi_pool.cli.app import app; app(['demo', '--orders', '50', '--workers', '4'])",
    "doctor": "from dbapi_pool.cli.app import app; app(['doctor', 'sqlite:///app.db'])",
    "plugins": "from dbapi_pool.cli.app import app; app(['plugins'])",
    "library": "import dbapi_pool; p = dbapi_pool.Pool('sqlite:///app.db'); p.connection().close()",
}


def run_guarded(code: str, folder: Path) -> str:
    (folder / "app.db").touch()
    done = subprocess.run(
        [sys.executable, "-c", GUARD + code],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("name", WITHOUT_PORTS)
def test_no_tool_opens_a_port(name, tmp_path):
    output = run_guarded(WITHOUT_PORTS[name], tmp_path)

    assert "OPENED" not in output
    assert "Traceback" not in output


def test_a_port_that_is_opened_would_be_seen(tmp_path):
    code = "import socket; socket.create_server(('127.0.0.1', 0)).close()"

    assert "OPENED socket.bind" in run_guarded(code, tmp_path)


# -- credentials do not mix, TLS settings arrive -----------------------------------------------------

WHO = {"postgresql": "SELECT current_user", "mysql": "SELECT CURRENT_USER()"}


def who(conn: Any, kind: str) -> str:
    cursor = conn.cursor()
    cursor.execute(WHO[kind])
    return str(cursor.fetchone()[0]).partition("@")[0]


@pytest.mark.servers
@pytest.mark.parametrize("module", MODULES)
def test_two_pools_of_one_driver_do_not_mix_their_users(own_user, module):
    driver = servers.driver_module(module)
    kind = own_user.kind
    with (
        Pool(driver, **own_user.arguments(module), max_size=3) as ours,
        Pool(driver, **as_canary(own_user, module), max_size=3) as theirs,
    ):
        for _ in range(4):
            for pool, name in ((ours, own_user.user), (theirs, "canary")):
                lent = [pool.connection() for _ in range(3)]
                assert {who(conn, kind) for conn in lent} == {name}
                for conn in lent:
                    conn.cursor().execute("SET @x = 1" if kind == "mysql" else "SET x.y = '1'")
                    conn.close()
            own_user.kill_sessions()


@pytest.mark.servers
@pytest.mark.parametrize("module", MODULES)
def test_a_server_that_another_authority_vouches_for_is_refused(request, tmp_path, module):
    trustme = pytest.importorskip("trustme")
    driver = servers.driver_module(module)
    server = request.getfixturevalue(servers.FIXTURE_OF[module])
    stranger = tmp_path / "stranger.pem"
    trustme.CA().cert_pem.write_to_path(str(stranger))
    good = server.arguments(module, tls=True)
    bad = {name: _replaced(value, server.ca_file, str(stranger)) for name, value in good.items()}
    assert bad != good

    with Pool(driver, **good, max_size=1) as trusting, trusting.connection() as conn:
        assert trusting.driver.server(conn.driver_connection).tls
        # Beside the trusting one: what that shares among its connections is its own.
        with Pool(driver, **bad, max_size=1, checkout_timeout=3.0) as wary:
            with pytest.raises(driver.Error):
                wary.connection()


def _replaced(value: Any, old: str, new: str) -> Any:
    if isinstance(value, dict):
        return {name: _replaced(one, old, new) for name, one in value.items()}
    return new if value == old else value


@pytest.mark.servers
@pytest.mark.parametrize("module", ["psycopg2", "psycopg"])
def test_another_host_name_is_refused(postgresql, module):
    driver = servers.driver_module(module)
    given = {**postgresql.arguments(module, tls=True), "host": "elsewhere.example"}

    with Pool(driver, **given, hostaddr="127.0.0.1", max_size=1, checkout_timeout=3.0) as pool:
        with pytest.raises(driver.Error, match="elsewhere.example"):
            pool.connection()


@pytest.fixture
def with_certificate(mariadb_server):
    """A user who must show a certificate, and arguments with one."""
    mariadb_server.query("DROP USER IF EXISTS certified")
    mariadb_server.query("CREATE USER certified@'%' IDENTIFIED BY 'word' REQUIRE X509")
    folder = Path(mariadb_server.ca_file).parent
    return {
        "host": mariadb_server.host,
        "port": mariadb_server.port,
        "user": "certified",
        "password": "word",
        "ssl_ca": mariadb_server.ca_file,
        "ssl_cert": str(folder / "server.pem"),
        "ssl_key": str(folder / "server.key"),
    }


@pytest.mark.servers
def test_a_certificate_of_one_pymysql_pool_is_not_shown_by_another(with_certificate):
    pymysql = servers.driver_module("pymysql")
    without = {
        name: value
        for name, value in with_certificate.items()
        if name not in ("ssl_cert", "ssl_key")
    }
    with (
        Pool(pymysql, **with_certificate, max_size=2) as certified,
        Pool(pymysql, **without, max_size=2, checkout_timeout=3.0) as bare,
    ):
        with certified.connection() as one, certified.connection() as other:
            assert who(one, "mysql") == who(other, "mysql") == "certified"
            assert one.driver_connection.ctx is other.driver_connection.ctx
            with pytest.raises(pymysql.err.OperationalError, match="Access denied"):
                bare.connection()


@pytest.mark.servers
def test_a_context_that_the_user_brings_is_used_as_it_is(mariadb_server):
    import ssl

    pymysql = servers.driver_module("pymysql")
    context = ssl.create_default_context(cafile=mariadb_server.ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    given = {**mariadb_server.arguments("pymysql"), "ssl": context}
    del given["ssl_disabled"]

    with Pool(pymysql, **given, max_size=1) as pool, pool.connection() as conn:
        assert conn.driver_connection.ctx is context
        assert "TLSv1.3" in (pool.driver.server(conn.driver_connection).tls or "")


# -- SQL ---------------------------------------------------------------------------------------------

NAMES = ["we`ird", 'we"ird', "we'ird", "back\\slash", "dé日本", "a b;-- c", "`; DROP TABLE x; -- "]


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


@pytest.mark.servers
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("module", ["pymysql", "mysql.connector"])
def test_a_database_and_a_role_of_any_name_are_gone_back_to(mariadb_server, module, name):
    driver = servers.driver_module(module)
    name = name.strip()
    quoted = _quoted(name)
    mariadb_server.query(f"CREATE DATABASE IF NOT EXISTS {quoted}")
    mariadb_server.query("DROP USER IF EXISTS named")
    mariadb_server.query(f"CREATE OR REPLACE ROLE {quoted}")
    mariadb_server.query("CREATE USER named@'%' IDENTIFIED BY 'word'")
    mariadb_server.query("GRANT ALL ON *.* TO named@'%'")
    mariadb_server.query(f"GRANT {quoted} TO named@'%'")
    mariadb_server.query(f"SET DEFAULT ROLE {quoted} FOR named@'%'")
    given = {**mariadb_server.arguments(module), "user": "named", "password": "word"}
    given["database"] = name
    try:
        with Pool(driver, **given, max_size=1) as pool:
            with pool.connection() as conn:
                session = conn.driver_connection
                cursor = conn.cursor()
                cursor.execute("SELECT DATABASE(), CURRENT_ROLE()")
                assert cursor.fetchone() == (name, name)
                cursor.execute(f"USE {mariadb_server.other_database}")
                cursor.execute("SET ROLE NONE")
            with pool.connection() as conn:
                assert conn.driver_connection is session  # cleaned, not replaced
                cursor = conn.cursor()
                cursor.execute("SELECT DATABASE(), CURRENT_ROLE()")
                assert cursor.fetchone() == (name, name)
    finally:
        mariadb_server.query(f"DROP DATABASE {quoted}")
        mariadb_server.query(f"DROP ROLE {quoted}")
        mariadb_server.query("DROP USER named")


def test_sqlite_detaches_a_database_of_any_name(tmp_path):
    import sqlite3

    with Pool(sqlite3, ":memory:", max_size=1) as pool:
        for name in NAMES:
            with pool.connection() as conn:
                quoted = name.replace('"', '""')
                conn.execute(f'ATTACH ":memory:" AS "{quoted}"')
            with pool.connection() as conn:
                names = [row[1] for row in conn.execute("PRAGMA database_list")]
                assert name not in names


_KEYWORDS = re.compile(
    r"\b(SELECT|INSERT|UPDATE|DELETE|SET|USE|CREATE|DROP|ALTER|START|BEGIN|COMMIT|ROLLBACK|PRAGMA"
    r"|ATTACH|DETACH|SAVEPOINT|RELEASE|KILL|NAMES|COLLATE|autocommit|DISCARD|LISTEN|CALL|GRANT|LOCK)\b"
)

BUILT = {
    "cleaning.py: DETACH \"{}\"": "quoted",
    "cleaning.py: PRAGMA case_sensitive_like = {}": "a number",
    "cleaning.py: PRAGMA temp_store = {}": "1 or 2",
    "cleaning.py: PRAGMA {} = {}": "our names, and values that SQLite gave",
    "cleaning.py: PRAGMA {} stays changed": "no SQL",
    "cleaning.py: PRAGMA {}": "our names",
    "clean.py: no autocommit: {}": "no SQL",
    "driver.py: BEGIN {}": "one of three words",
    "fake.py: CALL {}": "the fake driver's",
    "fake.py: not of the form SET name = value: {}": "no SQL",
    "pooler.py: SET mysql-max_connections = {};": "to paste: a number",
    "pooler.py: UPDATE mysql_servers SET max_connections = {} WHERE {};": "to paste: quoted",
    "profile.py: PRAGMA busy_timeout = {}": "a number",
    "profile.py: PRAGMA foreign_keys = {}": "a number",
    "profile.py: PRAGMA synchronous = {}": "one of our words",
    "session.py:  COLLATE {}": "letters, digits and underscores",
    "session.py: NAMES {}": "letters, digits and underscores",
    "session.py: SET ROLE {}": "quoted",
    "session.py: SET TRANSACTION ISOLATION LEVEL {}": "one of four levels",
    "session.py: SET {}": "of the parts in this file",
    "session.py: USE {}": "quoted",
    "driver.py: KILL {}": "a number",
    "session.py: autocommit = {}": "a number",
    "statement.py: {} is no SELECT; {}": "no SQL",
    "statement.py: {} is not understood as one SELECT; {}": "no SQL",
    "workload.py: DROP TABLE IF EXISTS {}": "the demo's own names",
}  # fmt: skip
"""All the SQL that is put together from parts, and why the parts are safe."""


def built(source: str) -> list[str]:
    """Every text that is put together and looks like SQL."""
    found = []
    for node in ast.walk(ast.parse(source)):
        text = ""
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(getattr(one, "value", "")) if isinstance(one, ast.Constant) else "{}"
                           for one in node.values)  # fmt: skip
        elif isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Mod, ast.Add)):
            text = f"{_constant(node.left)}{{}}" if _constant(node.left) else ""
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "format":
            text = f"{_constant(getattr(node.func, 'value', None))}{{}}"
        if _KEYWORDS.search(text):
            found.append(text)
    return found


def _constant(node: Any) -> str:
    value = getattr(node, "value", None) if isinstance(node, ast.Constant) else None
    return value if isinstance(value, str) else ""


def test_every_sql_that_is_put_together_was_looked_at():
    found = {
        f"{file.name}: {text}"
        for package in PACKAGES
        for file in package.rglob("*.py")
        for text in built(file.read_text("utf-8"))
    }

    assert found == set(BUILT)


def test_sql_that_is_put_together_would_be_found():
    assert built('run(f"SET ROLE {role}")') == ["SET ROLE {}"]
    assert built('run("USE " + name)') == ["USE {}"]
    assert built('run("DROP TABLE %s" % name)') == ["DROP TABLE %s{}"]
    assert built('run("KILL {}".format(name))') == ["KILL {}{}"]


def test_what_cannot_be_quoted_is_refused():
    from dbapi_pool_mysql import session

    with pytest.raises(ValueError, match="no name of a character set"):
        session.settings("utf8mb4; DROP TABLE x", None, None, {})
    with pytest.raises(ValueError, match="no name of a character set"):
        session.settings("utf8mb4", "x' OR 1", None, {})
    with pytest.raises(ValueError, match="backslash"):
        session.settings(None, None, None, {"sql_mode": "a\\' OR 1"})
    assert session.settings(None, None, None, {"sql_mode": "it's"}) == "SET sql_mode = 'it''s'"
    for hostile in ("SERIALIZABLE; DROP TABLE x", "x"):
        with pytest.raises(ValueError, match="must be one of"):
            session.beginning(True, hostile, None, {})


def test_an_isolation_level_is_one_of_those_there_are():
    for url in ("sqlite:///:memory:",):
        with Pool(url, max_size=1) as pool, pytest.raises(PoolSettingError):
            pool.transaction(isolation="SERIALIZABLE; DROP TABLE x").__enter__()
