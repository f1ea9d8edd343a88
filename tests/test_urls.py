"""Database URLs are taken apart, typed, and never show a password."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbapi_pool.drivers.urls import DatabaseURL, boolean, parse

TYPES = {"timeout": float, "port_count": int, "ssl": bool, "name": str}


def test_a_full_url_is_taken_apart() -> None:
    url = parse("mysql+pymysql://joe:secret@db.example:3307/shop?timeout=2.5&ssl=on", TYPES)

    assert url == DatabaseURL(
        scheme="mysql",
        driver="pymysql",
        user="joe",
        password="secret",
        hosts=(("db.example", 3307),),
        database="shop",
        query={"timeout": 2.5, "ssl": True},
    )
    assert (url.host, url.port) == ("db.example", 3307)


def test_what_is_missing_is_none_or_empty() -> None:
    url = parse("postgresql://", {})

    assert url == DatabaseURL(scheme="postgresql")
    assert (url.host, url.port) == (None, None)


def test_the_scheme_is_in_lower_case() -> None:
    assert parse("MySQL://h", {}).scheme == "mysql"


@pytest.mark.parametrize(
    ("text", "database"),
    [
        ("sqlite:///rel.db", "rel.db"),
        ("sqlite:////var/abs.db", "/var/abs.db"),
        ("sqlite://", ""),
        ("sqlite:///a%20b%3F.db", "a b?.db"),
        ("sqlite:///user@host.db", "user@host.db"),
    ],
)
def test_the_database_follows_one_slash(text: str, database: str) -> None:
    assert parse(text, {}).database == database


def test_a_password_may_hold_a_raw_at_sign_and_a_colon() -> None:
    url = parse("mysql://joe:p@ss:w@h/db", {})

    assert (url.user, url.password, url.hosts) == ("joe", "p@ss:w", (("h", None),))


def test_user_password_host_and_database_are_percent_decoded() -> None:
    url = parse("postgresql://j%40e:%2F%3F%23%25@%2Frun%2Fpg/my%2Fdb", {})

    assert (url.user, url.password, url.host) == ("j@e", "/?#%", "/run/pg")
    assert url.database == "my/db"


def test_a_plus_is_a_plus_outside_the_query() -> None:
    assert parse("mysql://a+b:c+d@h/e+f", {}).password == "c+d"


def test_a_raw_hash_in_a_password_is_kept() -> None:
    assert parse("mysql://joe:a#b@h/db", {}).password == "a#b"


def test_several_hosts_are_kept_in_order() -> None:
    url = parse("postgresql://joe@h1:1,h2,[::1]:5433,[fe80::2]/db", {})

    assert url.hosts == (("h1", 1), ("h2", None), ("::1", 5433), ("fe80::2", None))


@pytest.mark.parametrize(
    ("text", "value"),
    [("TRUE", True), ("yes", True), ("on", True), ("1", True), ("false", False), ("0", False)],
)
def test_booleans_are_words_or_digits(text: str, value: bool) -> None:
    assert boolean(text) is value
    assert parse(f"x://?ssl={text}", TYPES).query == {"ssl": value}


def test_an_unknown_key_is_named_with_those_that_are_known() -> None:
    with pytest.raises(ValueError, match=r"unknown key 'timout' .*known: name, port_count, ssl"):
        parse("mysql://h/db?timout=3", TYPES)


def test_without_keys_any_key_is_unknown() -> None:
    with pytest.raises(ValueError, match="unknown key 'a' .*known: none"):
        parse("mysql://h/db?a=1", {})


def test_a_key_given_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="'name' is given twice"):
        parse("x://?name=a&name=b", TYPES)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("timeout=hidden", "'timeout' in the database URL is not a valid float"),
        ("port_count=1.5", "'port_count' in the database URL is not a valid int"),
        ("ssl=maybe", "'ssl' in the database URL is not a valid bool"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_without_being_shown(query: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse(f"mysql://h/db?{query}", TYPES)

    assert query.partition("=")[2] not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("text", ["", "app.db", "C:\\app.db", "://x", "1x://", "sqlite:/app.db"])
def test_what_is_no_url_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must begin with a scheme"):
        parse(text, {})


def test_the_repr_shows_neither_password_nor_query() -> None:
    url = parse("mysql://joe:hidden@h/db?name=alsohidden", TYPES)

    assert "hidden" not in repr(url)
    assert "joe" in repr(url)


@pytest.mark.parametrize(
    "text",
    [
        "mysql://joe:hidden",
        "mysql://joe:1?hidden@h/db",
        "mysql://joe:1/hidden@h/db",
        "mysql://joe:1?hidden=hidden@h/db",
        "mysql://joe:p@1/hidden@h/db",
        "mysql://joe:hidden@h:port/db",
    ],
)
def test_an_error_never_shows_a_password(text: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (whatever the text, it must not show)
        parse(text, TYPES)

    assert "hidden" not in str(caught.value)


texts = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF), min_size=1, max_size=12)


@given(user=texts, password=texts, database=texts)
def test_quoted_parts_come_back_as_they_were(user: str, password: str, database: str) -> None:
    login = f"{quote(user, safe='')}:{quote(password, safe='')}"

    url = parse(f"mysql://{login}@h:1/{quote(database, safe='')}", {})

    assert (url.user, url.password, url.database) == (user, password, database)
