"""`dbapi-pool doctor`: its rules without a server, and the whole command on real databases."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import sqlite3
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import bouncers
import pytest
import servers
from click.testing import CliRunner, Result

import dbapi_pool
from dbapi_pool import Options
from dbapi_pool.cli.access import hint_for
from dbapi_pool.cli.app import app
from dbapi_pool.cli.doctor import advice as rules
from dbapi_pool.cli.doctor import costs, report
from dbapi_pool.cli.doctor.abilities import abilities, lacks
from dbapi_pool.cli.doctor.costs import median
from dbapi_pool.cli.doctor.findings import Ability, Advice, Checked, Costs, Findings, Plan
from dbapi_pool.cli.target import BadTarget, Target, file_of, from_creator, from_url
from dbapi_pool.cli.words import duration
from dbapi_pool.drivers.base import Driver
from dbapi_pool.drivers.facts import Server
from dbapi_pool.testing.contract import ABILITIES, read_only_checks

ROOT = Path(__file__).parents[1]
SECRET = "s3cret/w%rd"
FINE = Findings(
    driver="psycopg2",
    module="psycopg2 2.9",
    plugin=True,
    local=False,
    server=Server(
        product="PostgreSQL",
        address="127.0.0.1:5432",
        tls="",
        read_only=False,
        max_connections=100,
        reserved_connections=3,
        user_connections=0,
        connections=1,
        idle_timeout=0.0,
        idle_in_transaction_timeout=0.0,
        statement_timeout=30.0,
        lock_timeout=0.0,
    ),
    abilities=(Ability("liveness", "", "yes"), Ability("reset", "", "yes")),
    costs=Costs(connect=0.002, round_trip=0.0001, ping=0.0001),
)
"""What nothing is to be said about."""


def with_server(**facts: Any) -> Findings:
    return replace(FINE, server=replace(FINE.server, **facts))


def invoke(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(app, ["doctor", *arguments], env=environment)


def examined(*arguments: str, **environment: str) -> Any:
    """The JSON document."""
    result = invoke("--json", *arguments, **environment)
    assert result.exit_code in (0, 1), result.output
    return json.loads(result.stdout)


# -- rules ----------------------------------------------------------------------------------------


def test_nothing_is_said_where_everything_is_fine() -> None:
    assert rules.advise(FINE) == []


def test_nothing_is_said_where_nothing_is_known() -> None:
    assert rules.advise(replace(FINE, server=Server(), costs=Costs())) == []


def test_every_rule_in_the_module_is_asked() -> None:
    public = {
        function
        for name, function in vars(rules).items()
        if not name.startswith("_")
        and getattr(function, "__module__", "") == rules.__name__
        and name != "advise"
    }
    assert public == set(rules.RULES)


@pytest.mark.parametrize(
    ("server", "plan", "severity", "settings"),
    [
        ({}, Plan(97), None, {}),
        ({}, Plan(98), "serious", {"max_size": 97}),
        ({}, Plan(25, processes=4), "serious", {"max_size": 24}),
        ({"connections": 51}, Plan(47), None, {}),
        ({"connections": 51}, Plan(48), "advice", {"max_size": 47}),
        ({"user_connections": 5}, Plan(6), "serious", {"max_size": 5}),
        ({"user_connections": 5}, Plan(1, processes=6), "serious", {}),
        ({"connections": 98}, Plan(1), "advice", {}),
        ({"database_connections": 20}, Plan(20), None, {}),
        (
            {"database_connections": 20, "others_in_database": 5},
            Plan(16),
            "advice",
            {"max_size": 15},
        ),
        ({"database_connections": 20}, Plan(7, processes=3), "serious", {"max_size": 6}),
        ({"max_connections": None}, Plan(1000), None, {}),
        ({"connections": None}, Plan(97), None, {}),
        ({"reserved_connections": None}, Plan(100), None, {}),
    ],
)
def test_the_pools_fit_into_what_the_server_allows(
    server: dict[str, Any], plan: Plan, severity: str | None, settings: dict[str, Any]
) -> None:
    said = rules.too_many_connections(replace(with_server(**server), plan=plan))

    assert (said.severity if said else None) == severity
    assert (said.settings if said else {}) == settings
    assert said is None or bool(said.code) == (not settings)


@pytest.mark.parametrize(
    ("theirs", "ours", "keepalive"),
    [(60.0, 48.0, 24.0), (600.0, 480.0, 240.0), (601.0, None, None), (28800.0, None, None)],
)
def test_connections_are_retired_before_the_server_ends_them(
    theirs: float, ours: float | None, keepalive: float | None
) -> None:
    said = rules.server_ends_idle_sessions(with_server(idle_timeout=theirs))

    expected = {"idle_timeout": ours, "keepalive": keepalive} if ours else {}
    assert (said.settings if said else {}) == expected


def test_who_dawdles_in_a_transaction_is_told_of() -> None:
    said = rules.server_ends_idle_transactions(with_server(idle_in_transaction_timeout=30.0))

    assert said is not None
    assert said.settings == {"leak_after": 15.0}


@pytest.mark.parametrize(
    ("product", "setup"),
    [
        ("PostgreSQL", "SET statement_timeout = '30s'"),
        ("MariaDB", "SET SESSION max_statement_time = 30"),
        ("MySQL", "SET SESSION max_execution_time = 30000"),
        ("Other", None),
    ],
)
def test_a_statement_without_a_limit_gets_one(product: str, setup: str | None) -> None:
    said = rules.no_statement_timeout(with_server(product=product, statement_timeout=0.0))

    assert said is not None
    assert said.settings.get("setup") == setup


@pytest.mark.parametrize(
    ("address", "host", "is_name"),
    [
        ("127.0.0.1:5432", "", False),
        ("[::1]:5432", "", False),
        ("::1:5432", "", False),
        ("localhost:3306", "", False),
        ("Localhost via UNIX socket", "", False),
        ("127.0.0.1 via TCP/IP, port 3306", "", False),
        ("/run/postgresql", "", False),
        ("10.0.0.7:5432", "10.0.0.7", False),
        ("[fe80::1]:5432", "fe80::1", False),
        ("fe80::1", "fe80::1", False),
        ("db.example.org:5432", "db.example.org", True),
        ("db.example.org", "db.example.org", True),
        (None, "", False),
    ],
)
def test_what_is_behind_a_network_and_what_is_a_name(
    address: str | None, host: str, is_name: bool
) -> None:
    found = with_server(address=address)

    assert (found.host, found.host_is_name) == (host, is_name)
    assert (rules.not_encrypted(found) is not None) == bool(host)
    assert (rules.name_may_lead_elsewhere(found) is not None) == is_name


def test_the_host_of_a_local_driver_is_none() -> None:
    assert replace(with_server(address="app.db"), local=True).host == ""


def test_an_open_connection_over_a_network_is_serious_and_an_encrypted_one_fine() -> None:
    said = rules.not_encrypted(with_server(address="10.0.0.7:5432"))

    assert said is not None
    assert said.severity == "serious"
    assert "sslmode=verify-full" in said.code
    assert rules.not_encrypted(with_server(address="10.0.0.7:5432", tls="TLSv1.3")) is None
    assert rules.not_encrypted(with_server(address="10.0.0.7:5432", tls=None)) is None


def test_a_pooler_and_a_read_only_server_are_told_of() -> None:
    [pooler] = rules.advise(with_server(pooler="PgBouncer 1.18"))
    [replica] = rules.advise(with_server(read_only=True))

    assert (pooler.rule, pooler.settings) == ("pooler_between", {"reset": "transaction"})
    assert "target_session_attrs=read-write" in replica.code


def test_a_pooler_by_session_must_have_a_session_for_each_connection() -> None:
    found = with_server(pooler="PgBouncer", pooling="session")

    [few], [many] = rules.advise(found), rules.advise(replace(found, plan=Plan(10, 3)))

    assert (few.severity, many.severity) == ("note", "advice")
    assert few.settings == many.settings == {}
    assert "default_pool_size = 30" in many.code


def test_a_pooler_by_transaction_must_clean_by_itself() -> None:
    [said] = rules.advise(with_server(pooler="PgBouncer", pooling="transaction"))

    assert (said.severity, said.settings) == ("advice", {"reset": "transaction"})
    assert "server_reset_query_always = 1" in said.code


def test_a_pooler_by_statement_is_serious() -> None:
    [said] = rules.advise(with_server(pooler="PgBouncer", pooling="statement"))

    assert (said.severity, said.settings) == ("serious", {})
    assert "pool_mode = transaction" in said.code


@pytest.mark.parametrize("pooling", ["session", "transaction", "statement"])
def test_the_limits_of_a_server_are_its_poolers(pooling: str) -> None:
    found = with_server(pooler="PgBouncer", pooling=pooling, idle_timeout=60.0)
    said = [one.rule for one in rules.advise(replace(found, plan=Plan(1000)))]

    own = ["server_ends_idle_sessions"] if pooling == "session" else []
    assert said == ["pooler_between", *own]


def test_what_setup_would_set_belongs_to_the_role_where_sessions_are_shared() -> None:
    found = with_server(pooler="PgBouncer", pooling="transaction", statement_timeout=0.0)
    said = rules.no_statement_timeout(found)

    assert said is not None
    assert said.settings == {}
    assert "ALTER ROLE" in said.code


def test_a_reset_that_another_session_may_get_is_no_ability() -> None:
    class Able(Driver):
        def reset_session(self, conn: Any, snapshot: Any) -> bool:
            return True

    def answer(pooling: str | None) -> str:
        found = abilities(Able(), object(), Costs(reset=0.1), (), pooling)
        return next(one.answer for one in found if one.name == "reset")

    answers = [answer(pooling) for pooling in (None, "session", "transaction", "statement")]
    assert answers == ["yes", "yes", "no", "no"]
    shared = with_server(pooler="PgBouncer", pooling="transaction")
    assert rules.reset_by_replacement(replace(shared, abilities=())) is None


def test_a_slow_ping_is_made_rarer_only_where_dead_connections_are_seen_without() -> None:
    slow = replace(FINE, costs=Costs(ping=0.02, round_trip=0.005))
    blind = replace(slow, abilities=(Ability("reset", "", "yes"),))

    [said], [said_blind] = rules.advise(slow), rules.advise(blind)

    assert said.settings == {"ping_after": 300.0}
    assert "20.0 ms, 4.0 round trips" in said.text
    assert said_blind.settings == {"keepalive": 25.0}


def test_a_slow_connect_asks_for_connections_that_are_kept() -> None:
    found = replace(FINE, costs=Costs(connect=0.2), plan=Plan(20))

    [said] = rules.advise(found)

    assert said.settings == {"min_size": 1}
    assert rules.advise(replace(found, local=True)) == []


def test_a_session_that_cannot_be_reset_in_place_is_a_note_on_setup() -> None:
    [said] = rules.advise(replace(FINE, abilities=(Ability("liveness", "", "yes"),)))

    assert (said.rule, said.severity) == ("reset_by_replacement", "note")


def test_a_driver_without_a_plugin_is_told_so() -> None:
    [said] = rules.advise(replace(FINE, plugin=False))

    assert said.rule == "no_plugin"
    assert "psycopg2 2.9" in said.text


def test_what_is_serious_comes_first() -> None:
    found = replace(
        with_server(address="db.example.org:5432", statement_timeout=0.0), plan=Plan(98, 1)
    )

    assert [one.severity for one in rules.advise(found)] == ["serious", "serious", "note", "note"]


def test_every_setting_that_is_advised_is_one_and_is_accepted() -> None:
    everything = replace(
        with_server(
            address="db.example.org:5432",
            connections=60,
            idle_timeout=60.0,
            idle_in_transaction_timeout=9.0,
            pooler="PgBouncer",
            read_only=True,
            statement_timeout=0.0,
        ),
        costs=Costs(connect=0.2, ping=0.02, round_trip=0.01),
        plan=Plan(60),
        plugin=False,
        refusal="too many",
    )
    said = [*rules.advise(everything), *rules.advise(replace(everything, abilities=()))]

    assert {one.rule for one in said} == {rule.__name__ for rule in rules.RULES}
    for one in said:
        Options(**one.settings)


# -- what is found out ----------------------------------------------------------------------------


def test_a_median_is_taken_of_what_fits_into_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def act() -> None:
        nonlocal now
        taken.append(next(times))
        now += taken[-1]

    monkeypatch.setattr(costs, "time", SimpleNamespace(perf_counter=lambda: now))
    for runs, budget, expected in ((3, 100.0, 3), (100, 10.0, 5), (100, 0.0, 1)):
        times = itertools.cycle([1.0, 4.0, 2.0])
        taken: list[float] = []
        found = median(act, runs, budget)
        assert len(taken) == expected
        assert found == statistics.median(taken)
    assert median(lambda: 1 / 0) is None


def test_abilities_are_the_methods_that_a_driver_overrides() -> None:
    class Able(Driver):
        def is_alive(self, conn: Any) -> bool:
            return True

    def answers(driver: Driver, *checks: Checked) -> dict[str, str]:
        found = abilities(driver, object(), Costs(), checks)
        return {ability.name: ability.answer for ability in found}

    broken = Checked("a_closed_connection_is_not_lent", "alive", "", "broken", "", 0.0)

    assert answers(Driver())["liveness"] == "no"
    assert answers(Able())["liveness"] == "yes"
    assert answers(Able(), broken)["liveness"] == "broken"
    assert answers(Driver(), broken)["liveness"] == "no"
    assert answers(Driver())["fork"] == "partly"


def test_what_a_driver_does_not_claim_is_not_held_against_it() -> None:
    class Able(Driver):
        def is_alive(self, conn: Any) -> bool:
            return True

    assert set(lacks(Driver())) == set(ABILITIES)
    assert set(lacks(Able())) == set(ABILITIES) - {"alive"}


def test_the_checks_that_show_abilities_exist() -> None:
    from dbapi_pool.cli.doctor.abilities import _SHOWN_BY

    assert set(_SHOWN_BY.values()) <= {check.name for check in read_only_checks()}


@pytest.mark.parametrize(
    ("error", "word"),
    [
        ("OperationalError: connection refused", "nobody listens"),
        ("OperationalError: (2003, \"Can't connect to MySQL server on 'h'\")", "nobody listens"),
        ("could not translate host name: Name or service not known", "DNS"),
        ('password authentication failed for user "x"', "user, password"),
        ("(1045, \"Access denied for user 'x'@'h'\")", "user, password"),
        ('database "x" does not exist', "database's name"),
        ("(1049, \"Unknown database 'x'\")", "database's name"),
        ("FATAL: sorry, too many clients already", "no session left"),
        ("SSL error: certificate verify failed", "certificates"),
        ("TimeoutError: no answer within 3 s", "firewalls"),
        ("unable to open database file", "path"),
        ("something else", "arguments"),
    ],
)
def test_an_error_of_connecting_says_what_to_look_at(error: str, word: str) -> None:
    assert word in hint_for(error)


# -- what is asked for ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        Target(f"postgresql://me:{quote(SECRET, safe='')}@host/db"),
        Target("postgresql://me:s3cret-raw@host/db?password=other-secret"),
        Target(None, (f"host=h password='{SECRET}' user=me",)),
        Target(None, (), {"passwd": SECRET, "host": "h"}),
        Target(None, (), {"dsn": f"host=h password={SECRET}"}),
        Target(None, (), {"ssl_key_password": SECRET}),
    ],
)
def test_no_text_shows_a_secret_of_the_target(target: Target) -> None:
    told = target.redacted(f"{SECRET} {quote(SECRET, safe='')} s3cret-raw other-secret, at host h")

    hidden = {SECRET, "s3cret-raw", "other-secret"} if isinstance(target.creator, str) else {SECRET}
    own = [one for one in hidden if one in f"{target.creator}{target.args}{target.kwargs}"]
    assert own or "%2F" in str(target.creator)
    assert not any(one in told for one in own)
    assert told.endswith("at host h")
    assert SECRET not in repr(target)


def test_arguments_are_numbers_truth_values_none_or_text() -> None:
    target = from_creator(
        "sqlite3", ["app.db", "timeout=5", "uri=True", "isolation_level=none", "x=a=b"], [], {}
    )

    assert target.creator is sqlite3
    assert target.args == ("app.db",)
    assert target.kwargs == {"timeout": 5, "uri": True, "isolation_level": None, "x": "a=b"}
    assert target.code == "sqlite3, ..."


def test_a_password_can_come_from_the_environment() -> None:
    target = from_creator("sqlite3:connect", [], ["password=DB_PW"], {"DB_PW": "123"})

    assert target.creator is sqlite3.connect
    assert target.kwargs == {"password": "123"}
    with pytest.raises(BadTarget, match="no 'NOWHERE'"):
        from_creator("sqlite3", [], ["password=NOWHERE"], {})


@pytest.mark.parametrize("name", ["no_such_module_at_all", "sqlite3:no_such_function"])
def test_a_creator_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(BadTarget, match=name.partition(":")[0]):
        from_creator(name, [], [], {})


@pytest.mark.parametrize("url", ["oracle://me:tiger@host/db", "tiger", "me:tiger@host"])
def test_a_url_that_nobody_knows_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(BadTarget) as caught:
        from_url(url, False)

    assert "tiger" not in str(caught.value)


def test_the_code_to_paste_has_no_password() -> None:
    assert from_url("sqlite:///app.db", False).code == '"sqlite:///app.db"'
    for url in ("postgresql://me:tiger@host/db", "sqlite:///app.db"):
        assert from_url(url, True).code == 'os.environ["DATABASE_URL"]'
    assert "tiger" not in from_url("postgresql://me:tiger@host/db", False).code


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("app.db", "app.db"),
        ("file:app.db?mode=ro", "app.db"),
        ("file:///tmp/a%20b.db", "/tmp/a b.db"),
        (":memory:", None),
        (":memory:app", None),
        ("file:shop?mode=memory&cache=shared", None),
        ("", None),
        (None, None),
    ],
)
def test_the_file_that_would_be_made(name: str | None, file: str | None) -> None:
    expected = None if file is None else Path(file)

    assert file_of((name,), {}) == expected
    assert file_of((), {"database": name}) == expected


# -- how it is shown ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (2.5, "2.50 s"),
        (0.0123, "12.3 ms"),
        (0.000123, "123.0 us"),
        (0.0000004, "0.4 us"),
        (float("inf"), "for ever"),
    ],
)
def test_durations_have_the_unit_that_suits_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_code_to_paste_has_every_setting_once_the_most_serious_first() -> None:
    said = [
        Advice("a", "serious", "", "", {"max_size": 5}),
        Advice("b", "note", "", "", {"max_size": 9, "setup": "SET x = 'y'"}),
    ]

    lines = list(report.code("module", report.settings_of(said)))

    assert lines == [
        "pool = Pool(",
        "    module,",
        "    max_size=5,",
        """    setup="SET x = 'y'",""",
        ")",
    ]
    assert list(report.code("module", {})) == []


@pytest.mark.parametrize(
    ("checks", "said", "ok"),
    [
        ((), (), True),
        ((), (Advice("a", "advice", "", ""),), True),
        ((), (Advice("a", "serious", "", ""),), False),
        ((Checked("a", "clean", "", "broken", "", 0.0),), (), False),
        ((Checked("a", "clean", "", "not applicable", "", 0.0),), (), True),
    ],
)
def test_what_is_broken_or_serious_is_not_ok(
    checks: tuple[Checked, ...], said: tuple[Advice, ...], ok: bool
) -> None:
    assert report.Report(Target(None), replace(FINE, checks=checks), said).ok is ok


# -- SQLite ---------------------------------------------------------------------------------------


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("CREATE TABLE t (x)")
        conn.commit()
    return path


def url_of(path: Path) -> str:
    return f"sqlite:///{quote(path.as_posix())}"


def test_a_healthy_database_is_ok_and_not_a_byte_of_it_changes(database: Path) -> None:
    before = hashlib.sha256(database.read_bytes()).digest(), database.stat().st_mtime_ns

    result = invoke(url_of(database))

    assert result.exit_code == 0, result.output
    assert result.stdout.endswith("OK nothing serious\n")
    assert re.search(r"sees dead connections without asking +\| yes", result.stdout)
    assert "broken" not in result.stdout.replace("0 broken", "")
    assert (hashlib.sha256(database.read_bytes()).digest(), database.stat().st_mtime_ns) == before
    assert os.listdir(database.parent) == ["app.db"]


def test_piped_output_has_no_colour_and_its_tables_fit_into_80_columns(database: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dbapi_pool", "doctor", url_of(database)],
        capture_output=True,
        text=True,
        timeout=120,
        env={name: value for name, value in os.environ.items() if name != "COLUMNS"},
    )

    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert done.stderr == ""
    tables = [line for line in done.stdout.splitlines() if line.startswith(("|", "+"))]
    assert len(tables) > 20
    assert max(map(len, tables)) <= 80


def test_json_has_everything_and_is_documented(database: Path) -> None:
    document = examined(url_of(database))

    assert list(document) == ["driver", "server", "abilities", "costs", "checks", "advice", "ok"]
    assert document["ok"] is True
    assert document["driver"]["name"] == "sqlite"
    assert document["driver"]["local"] is document["driver"]["plugin"] is True
    assert set(document["server"]) == {field.name for field in fields(Server)}
    assert set(document["costs"]) == {field.name for field in fields(Costs)}
    assert document["costs"]["round_trip"]["seconds"] > 0
    assert document["costs"]["round_trip"]["round_trips"] == 1
    assert document["costs"]["reset"] is None
    assert [one["name"] for one in document["checks"]] == [one.name for one in read_only_checks()]
    assert all(one["state"] in ("kept", "not applicable") for one in document["checks"])
    text = (ROOT / "docs/doctor.md").read_text("utf-8")
    words = {*document, *document["driver"], *document["costs"], *document["checks"][0]}
    words |= {ability["name"] for ability in document["abilities"]}
    words |= {rule.__name__ for rule in rules.RULES} | {field.name for field in fields(Advice)}
    assert sorted(word for word in words if f"`{word}`" not in text) == []


def test_the_url_may_come_from_the_environment(database: Path) -> None:
    assert examined(DATABASE_URL=url_of(database))["ok"] is True


def test_a_driver_and_its_arguments_may_stand_for_a_url(database: Path) -> None:
    document = examined("--creator", "sqlite3", "--arg", str(database), "--arg", "timeout=1")

    assert document["driver"]["plugin"] is True
    assert document["ok"] is True


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    result = invoke(url_of(tmp_path / "typo.db"))

    assert result.exit_code == 2
    assert result.stderr.startswith("Cannot connect: there is no file ")
    assert os.listdir(tmp_path) == []


def test_a_database_of_one_connection_alone_is_refused_with_the_way_out() -> None:
    result = invoke("sqlite://")

    assert result.exit_code == 2
    assert "every connection would have a database of its own" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ((), "DATABASE_URL"),
        (("oracle://me:tiger@host/db",), "'oracle'"),
        (("sqlite://", "--creator", "sqlite3"), "not both"),
        (("sqlite://", "--arg", "x=1"), "--creator"),
        (("--creator", "no_such_module_at_all"), "no_such_module_at_all"),
        (("sqlite:///app.db?colour=red",), "colour"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(arguments: tuple[str, ...], word: str) -> None:
    result = invoke(*arguments, DATABASE_URL="")

    assert result.exit_code == 2
    assert word in result.output
    assert "tiger" not in result.output


# -- a driver that no plugin knows ----------------------------------------------------------------

# The least that PEP 249 asks for, over SQLite, in classes that no plugin knows.
PLAIN_DRIVER = """
import sqlite3
from sqlite3 import (DatabaseError, DataError, Error, IntegrityError, InterfaceError, InternalError,
                     NotSupportedError, OperationalError, ProgrammingError, Warning)
apilevel, threadsafety, paramstyle = "2.0", 1, "qmark"

class Cursor:
    def __init__(self, cursor):
        self._cursor = cursor
        self.arraysize = 1
    def setinputsizes(self, sizes): pass
    def setoutputsize(self, size, column=None): pass
    def __getattr__(self, name):
        if name in ("execute", "executemany", "fetchone", "fetchmany", "fetchall", "close",
                    "description", "rowcount"):
            return getattr(self._cursor, name)
        raise AttributeError(name)

class Connection:
    def __init__(self, *args):
        self._conn = sqlite3.connect(*args, check_same_thread=False)
    def cursor(self): return Cursor(self._conn.cursor())
    def commit(self): self._conn.commit()
    def rollback(self): self._conn.rollback()
    def close(self): self._conn.close()

def connect(*args):
    return Connection(*args)
"""


@pytest.fixture
def plain_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "plain_driver.py").write_text(PLAIN_DRIVER)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "plain_driver"
    sys.modules.pop("plain_driver", None)


def test_a_driver_without_a_plugin_is_examined_too(plain_driver: str, database: Path) -> None:
    document = examined("--creator", plain_driver, "--arg", str(database))

    assert document["driver"]["plugin"] is False
    assert document["driver"]["module"].startswith("plain_driver")
    answers = {one["name"]: one["answer"] for one in document["abilities"]}
    assert answers["liveness"] == answers["reset"] == answers["interrupt"] == "no"
    assert "no_plugin" in [one["rule"] for one in document["advice"]]
    assert document["costs"]["ping"]["seconds"] > 0
    assert [one["name"] for one in document["checks"] if one["state"] == "broken"] == []


# -- real servers ---------------------------------------------------------------------------------

READER = "doctor_reader"


def url_for(server: servers.Server, driver: str, user: str, password: str) -> str:
    login = f"{quote(user, safe='')}:{quote(password, safe='')}"
    rest = server.url(driver).rpartition("@")[2]
    return f"{server.kind}+{driver}://{login}@{rest}"


@pytest.fixture
def reader(postgresql: servers.Server) -> Iterator[str]:
    """A PostgreSQL user who may only read, and few sessions."""
    for sql in (
        f"CREATE ROLE {READER} LOGIN PASSWORD '{SECRET}' CONNECTION LIMIT 12",
        f"ALTER ROLE {READER} SET default_transaction_read_only = on",
        f"ALTER ROLE {READER} SET idle_session_timeout = '60s'",
        f"ALTER ROLE {READER} SET statement_timeout = '20s'",
    ):
        postgresql.query(sql)
    yield url_for(postgresql, "psycopg2", READER, SECRET)
    postgresql.query(f"DROP ROLE {READER}")


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])
def test_a_postgresql_server_is_described(driver: str, postgresql: servers.Server) -> None:
    servers.driver_module(driver)
    url = postgresql.url(driver)
    before = postgresql.query("SELECT count(*) FROM pg_class")

    document = examined(DATABASE_URL=url)

    assert [one["name"] for one in document["checks"] if one["state"] == "broken"] == []
    assert document["ok"] is True
    assert document["server"]["product"] == "PostgreSQL"
    assert document["server"]["max_connections"] == 60
    assert document["server"]["tls"] == ""
    answers = {one["name"]: one["answer"] for one in document["abilities"]}
    assert set(answers.values()) == {"yes"}
    costs = document["costs"]
    assert costs["connect"]["round_trips"] > 3 * costs["ping"]["round_trips"]
    assert costs["checkout"]["seconds"] < costs["lease"]["seconds"]
    assert 0.05 < costs["ping"]["round_trips"] < 20  # on one machine they differ that much
    assert postgresql.query("SELECT count(*) FROM pg_class") == before


@pytest.mark.parametrize(
    ("driver", "module"),
    [("pymysql", "pymysql"), ("mysqlclient", "MySQLdb"), ("mariadb", "mariadb")],
)
def test_a_mariadb_server_is_described(
    driver: str, module: str, mariadb_server: servers.Server
) -> None:
    servers.driver_module(module)

    document = examined(DATABASE_URL=mariadb_server.url(driver))

    assert document["server"]["product"] == "MariaDB"
    assert document["server"]["max_connections"] == 120
    assert document["server"]["idle_timeout"] == 28800
    assert [one["rule"] for one in document["advice"]] == ["no_statement_timeout"]
    answers = {one["name"]: one["answer"] for one in document["abilities"]}
    assert {answers[name] for name in ("liveness", "reset", "retry")} == {"yes"}
    assert 0.05 < document["costs"]["ping"]["round_trips"] < 20


POOLED = {
    "session": ("note", True, "yes"),
    "transaction": ("advice", True, "no"),
    "statement": ("serious", False, "no"),
}


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])
@pytest.mark.parametrize("mode", POOLED)
def test_a_pgbouncer_is_seen_and_how_it_pools(
    mode: str, driver: str, postgresql: servers.Server
) -> None:
    servers.driver_module(driver)
    with bouncers.bouncing(postgresql, mode) as bouncer:
        document = examined(DATABASE_URL=bouncer.url(driver))

    severity, ok, resets = POOLED[mode]
    assert document["server"]["pooler"] == "PgBouncer, or one like it"
    assert document["server"]["pooling"] == mode
    [said] = [one for one in document["advice"] if one["rule"] == "pooler_between"]
    assert (said["severity"], document["ok"]) == (severity, ok)
    assert [one["name"] for one in document["checks"] if one["state"] == "broken"] == []
    assert bool(document["checks"]) == ok
    answers = {one["name"]: one["answer"] for one in document["abilities"]}
    assert answers["reset"] == resets


def test_a_pgbouncer_with_other_clients_is_seen_too(postgresql: servers.Server) -> None:
    """Sessions go by turns, and others use them meanwhile."""
    servers.driver_module("psycopg2")
    busy = threading.Event()

    def work(arguments: dict[str, Any]) -> None:
        conn = servers.driver_module("psycopg2").connect(**arguments)
        conn.autocommit = True
        while not busy.is_set():
            conn.cursor().execute("SELECT 1")
        conn.close()

    with (
        bouncers.bouncing(postgresql, "transaction", server_round_robin=1) as bouncer,
        ThreadPoolExecutor(3) as threads,
    ):
        done = [threads.submit(work, bouncer.arguments("psycopg2")) for _ in range(3)]
        try:
            document = examined(DATABASE_URL=bouncer.url("psycopg2"))
        finally:
            busy.set()
        for one in done:
            one.result()

    assert document["server"]["pooling"] == "transaction"


def test_a_pgbouncer_without_a_session_left_is_told_so_soon(postgresql: servers.Server) -> None:
    servers.driver_module("psycopg2")
    with bouncers.bouncing(postgresql, "session", default_pool_size=1) as bouncer:
        document = examined("--timeout", "1", DATABASE_URL=bouncer.url("psycopg2"))

    assert document["ok"] is False
    assert document["checks"] == []
    [said] = [one for one in document["advice"] if one["rule"] == "no_second_connection"]
    assert "no answer within 1 s" in said["reason"]


def test_a_user_who_may_only_read_is_enough(reader: str, postgresql: servers.Server) -> None:
    document = examined(DATABASE_URL=reader)

    assert [one["name"] for one in document["checks"] if one["state"] == "broken"] == []
    said = {one["rule"]: one for one in document["advice"]}
    assert document["server"]["user_connections"] == 12
    assert document["server"]["statement_timeout"] == 20
    assert said["server_ends_idle_sessions"]["settings"] == {"idle_timeout": 48, "keepalive": 24}
    assert "no_statement_timeout" not in said


def test_a_user_with_one_session_is_told_so_soon(reader: str, postgresql: servers.Server) -> None:
    postgresql.query(f"ALTER ROLE {READER} CONNECTION LIMIT 1")

    start = time.monotonic()
    document = examined(DATABASE_URL=reader)

    assert time.monotonic() - start < 5
    assert document["ok"] is False
    assert document["checks"] == []
    [said] = [one for one in document["advice"] if one["rule"] == "no_second_connection"]
    assert "too many connections for role" in said["reason"]


def test_a_pool_that_does_not_fit_is_serious(reader: str) -> None:
    result = invoke("--max-size", "9", "--processes", "2", DATABASE_URL=reader)

    assert result.exit_code == 1, result.output
    assert "SERIOUS 2 processes with max_size=9 may open 18 connections" in result.stdout
    assert "    max_size=6," in result.stdout
    assert result.stdout.endswith("NOT OK see above\n")
    assert '    os.environ["DATABASE_URL"],' in result.stdout
    assert SECRET not in result.output


def test_a_mariadb_user_who_may_only_read_sees_what_the_owner_sees(
    mariadb_server: servers.Server,
) -> None:
    servers.driver_module("pymysql")
    mariadb_server.query(f"CREATE USER {READER}@'%' IDENTIFIED BY '{SECRET}'")
    mariadb_server.query(f"GRANT SELECT ON {mariadb_server.database}.* TO {READER}@'%'")
    try:
        documents = [
            examined(DATABASE_URL=url)
            for url in (
                mariadb_server.url("pymysql"),
                url_for(mariadb_server, "pymysql", READER, SECRET),
            )
        ]
    finally:
        mariadb_server.query(f"DROP USER {READER}@'%'")

    owner, reader = ({one["name"]: one["state"] for one in doc["checks"]} for doc in documents)
    assert reader == owner
    assert documents[0]["abilities"] == documents[1]["abilities"]
    assert documents[0]["server"]["version"] == documents[1]["server"]["version"] is not None


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])
def test_a_wrong_password_is_told_in_one_line_and_not_shown(
    driver: str, postgresql: servers.Server
) -> None:
    servers.driver_module(driver)

    result = invoke(DATABASE_URL=url_for(postgresql, driver, postgresql.user, SECRET))

    assert result.exit_code == 2
    told, hint = result.stderr.splitlines()
    assert told.startswith("Cannot connect: OperationalError: ")
    assert "password authentication failed" in told
    assert "user, password" in hint
    assert SECRET not in result.output
    assert quote(SECRET, safe="") not in result.output


def test_a_server_that_is_not_there_is_told_of_at_once(postgresql: servers.Server) -> None:
    url = postgresql.url("psycopg2").replace(f":{postgresql.port}/", f":{servers.free_port()}/")

    start = time.monotonic()
    result = invoke(DATABASE_URL=url)

    assert result.exit_code == 2
    assert "Nobody listens there" in result.stderr
    assert time.monotonic() - start < 5


def test_a_server_that_does_not_answer_is_given_up(own_postgresql: servers.Server) -> None:
    own_postgresql.pause()
    try:
        start = time.monotonic()
        result = invoke("--timeout", "1", DATABASE_URL=own_postgresql.url("psycopg2"))
        took = time.monotonic() - start
    finally:
        own_postgresql.resume()

    assert result.exit_code == 2
    assert "no answer within 1 s" in result.stderr
    assert took < 3


# -- the document ---------------------------------------------------------------------------------


def test_the_document_names_every_option() -> None:
    text = (ROOT / "docs/doctor.md").read_text("utf-8")
    options = [name for option in app.commands["doctor"].params for name in option.opts]

    assert [name for name in options if name.startswith("--") and f"`{name}" not in text] == []
    assert dbapi_pool.__name__ in text
