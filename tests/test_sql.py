"""The cautious classification: the lexer and its cache, and what SQLite's dialect says."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbapi_pool.drivers.sql import Classifier, Dialect, harmless
from dbapi_pool_sqlite.statements import SQLITE

PLAIN = Dialect(rules={"SELECT": harmless}, denied=frozenset({"EVIL"}))


# -- the lexer ------------------------------------------------------------------------------------


def test_comments_and_white_space_before_the_first_word_are_skipped() -> None:
    assert not PLAIN.may_change_session(" -- one\n/* two\n */\tselect 1")


def test_a_statement_that_begins_with_no_listed_word_may() -> None:
    assert PLAIN.may_change_session("set x = 1")
    assert PLAIN.may_change_session("(select 1)")
    assert PLAIN.may_change_session("'select' 1")


@pytest.mark.parametrize("sql", ["", "  ", "-- nothing", ";", ";select 1"])
def test_a_text_without_a_first_word_may(sql: str) -> None:
    assert PLAIN.may_change_session(sql)


@pytest.mark.parametrize("end", [";", " ; ", ";\n-- done", ";;", "; /* done */ ;"])
def test_one_statement_may_end_with_semicolons_and_comments(end: str) -> None:
    assert not PLAIN.may_change_session("select 1" + end)


def test_two_statements_may() -> None:
    assert PLAIN.may_change_session("select 1; select 2")


def test_a_semicolon_in_quotes_or_comments_ends_nothing() -> None:
    assert not PLAIN.may_change_session("""select ';', ";" /* ; */ -- ;""")


@pytest.mark.parametrize("sql", ["select evil()", "select Evil (1)", 'select "evil"(1)'])
def test_a_denied_word_or_quoted_name_may(sql: str) -> None:
    assert PLAIN.may_change_session(sql)


@pytest.mark.parametrize(
    "sql", ["select 'evil'", "select 'it''s evil'", "select devil, evil_1", "select /* evil */ 1"]
)
def test_a_denied_word_in_a_literal_a_comment_or_a_longer_word_is_nothing(sql: str) -> None:
    assert not PLAIN.may_change_session(sql)


@pytest.mark.parametrize(
    "sql",
    ["select 'open", 'select "open', "select 1 /* open", "select `a`", "select \\", "select @a"],
)
def test_what_the_dialect_does_not_know_may(sql: str) -> None:
    assert PLAIN.may_change_session(sql)


def test_minus_and_slash_are_operators_too() -> None:
    assert not PLAIN.may_change_session("select 5 - 3 / 2 * -1 */**/ 2")


def test_a_comment_ends_a_word() -> None:
    assert PLAIN.may_change_session("select ev/**/il, evil")
    assert not PLAIN.may_change_session("select ev/**/il")


def test_the_bare_text_keeps_words_and_marks_literals() -> None:
    assert PLAIN.bare("select \"A b\", 'c;d' -- e\n;").split() == ["SELECT", "A_B", ",", "'C_D'"]


def test_dialects_to_come_fit() -> None:
    """Dollar quotes, backslash escapes, `#` comments, comments that are run, variables."""
    postgresql = Dialect(
        rules={"SELECT": harmless}, text=r"'[^']*'|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$"
    )
    mysql = Dialect(
        rules={"SELECT": harmless},
        comment=r"(?:#|-- )[^\n]*|/\*(?!!).*?\*/",
        text=r"'(?:[^'\\]|''|\\.)*'",
    )

    assert PLAIN.may_change_session("select $$;$$")
    assert not postgresql.may_change_session("select $x$ ; $$ ' $x$")
    assert not mysql.may_change_session("select 'it\\'s; fine' # ; comment")
    assert mysql.may_change_session("select 1 /*!50000 , @x := 1 */")
    assert mysql.may_change_session("select @x := 1")


# -- the cache ------------------------------------------------------------------------------------


class CountingDialect(Dialect):
    calls = 0

    def may_change_session(self, sql: str) -> bool:
        type(self).calls += 1
        return super().may_change_session(sql)


@pytest.fixture
def counting() -> Dialect:
    CountingDialect.calls = 0
    return CountingDialect(rules={"SELECT": harmless})


@pytest.mark.parametrize("sql", ["select 1", "set x"])
def test_a_text_is_read_once(counting: CountingDialect, sql: str) -> None:
    classifier = Classifier(counting)

    answers = [classifier(sql) for _ in range(3)]

    assert answers == [sql == "set x"] * 3
    assert counting.calls == 1


def test_what_only_reads_and_what_begins_nothing_is_known_too() -> None:
    dialect = Dialect(
        rules={"SELECT": harmless, "UPDATE": harmless},
        reading=lambda bare: bare.startswith("SELECT"),
        inert=lambda bare: "FROM" not in bare,
    )
    classifier = Classifier(dialect, texts=2)
    for sql in ("select 1", "select a from t", "update t", "drop t", "select 'from'; select 2"):
        classifier(sql)
        classifier(sql)
        if sql == "select a from t":
            assert classifier.harmless == {"select 1", "select a from t"}
            assert (classifier.reads, classifier.inert) == ({"select a from t"}, {"select 1"})
    # More were met than are remembered: all were forgotten, so that none is known in one place only.
    assert classifier.harmless == {"update t"}
    assert (classifier.reads, classifier.inert) == (set(), set())


def test_without_a_rule_nothing_is_known_to_read_only() -> None:
    classifier = Classifier(PLAIN)
    assert not classifier("SELECT 1")
    assert (classifier.reads, classifier.inert) == (set(), set())
    assert not PLAIN.only_reads("SELECT 1")
    assert not PLAIN.is_inert("SELECT 1")


def test_harmless_texts_are_known_by_one_lookup() -> None:
    classifier = Classifier(PLAIN)
    known = classifier.harmless

    classifier("select 1")
    classifier("set x")

    assert classifier.harmless is known
    assert known == {"select 1"}


def test_the_cache_is_emptied_when_it_is_full(counting: CountingDialect) -> None:
    classifier = Classifier(counting, texts=3)
    known = classifier.harmless

    for number in range(4):
        classifier(f"select {number}")
        classifier(f"set {number}")

    assert classifier.harmless is known
    assert known == {"select 3"}
    assert not classifier("select 0")
    assert classifier("set 0")


def test_a_long_text_may_unread(counting: CountingDialect) -> None:
    classifier = Classifier(counting, longest=20)

    assert classifier("select " + "1" * 14)
    assert not classifier("select " + "1" * 13)
    assert counting.calls == 1


@pytest.mark.parametrize("sql", [b"select 1", None, 1, ["select 1"], object()])
def test_what_is_no_str_may(sql: object) -> None:
    assert Classifier(PLAIN)(sql)


def test_a_str_subclass_is_judged_by_the_text_that_the_driver_sees() -> None:
    class Liar(str):
        def __str__(self) -> str:
            return "select 1"

        def __hash__(self) -> int:
            return hash("select 1")

        def __eq__(self, other: object) -> bool:
            return True

    classifier = Classifier(PLAIN)
    classifier("select 1")

    assert classifier(Liar("set x"))
    assert not classifier(Liar("select 2"))


# -- SQLite ---------------------------------------------------------------------------------------

HARMLESS = [
    # rows: https://www.sqlite.org/lang_select.html and the like
    "SELECT * FROM t WHERE a = ? AND b = :b AND c = @c AND d = $d AND e = ?5",
    "select a->>'$.x', b || 'c', -1.5e3, x'ab', [a b], `c`, \"d\" from t where e <> 1 or f == 2",
    "select 'attach database'",
    "select temp from weather",
    "INSERT INTO t VALUES ('pragma x=1; drop', 'it''s; fine')",
    "INSERT INTO t(a) VALUES (?) ON CONFLICT DO UPDATE SET a = excluded.a RETURNING a",
    "INSERT OR REPLACE INTO t DEFAULT VALUES",
    "UPDATE t SET a = 1 -- pragma",
    "DELETE FROM t",
    "REPLACE INTO t VALUES (1)",
    "VALUES (1), (2)",
    "WITH RECURSIVE c(x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM c LIMIT 3) SELECT x FROM c",
    # https://www.sqlite.org/pragma.html#pragfunc: only those that return results, without effects
    "select * from pragma_table_info('t')",
    "select * from pragma_foreign_keys",
    # https://www.sqlite.org/lang_transaction.html, lang_savepoint.html
    "BEGIN", "begin immediate", "COMMIT", "END TRANSACTION", "ROLLBACK TO s", "SAVEPOINT s",
    "RELEASE s",
    # the main schema: https://www.sqlite.org/lang_createtable.html and the like
    "CREATE TABLE IF NOT EXISTS u (a INTEGER PRIMARY KEY, b TEXT DEFAULT 'temp file')",
    "CREATE TABLE main.v AS SELECT 1",
    "CREATE UNIQUE INDEX i ON t(a)",
    "CREATE INDEX j ON t(b)",
    "CREATE VIEW w AS SELECT 1",
    "DROP TABLE IF EXISTS main.u",
    "ALTER TABLE t RENAME COLUMN a TO aa",
    "ANALYZE", "ANALYZE main.t", "REINDEX", "VACUUM", "VACUUM INTO '/tmp/x'",
    # reading settings: https://www.sqlite.org/pragma.html
    "PRAGMA foreign_keys", "pragma main . journal_mode ;", "PRAGMA 'cache_size'",
    "PRAGMA table_info(t)", "PRAGMA main.table_xinfo('t')", "PRAGMA index_list = t",
    "PRAGMA integrity_check(10)", "PRAGMA foreign_key_check", "PRAGMA wal_checkpoint(TRUNCATE)",
    "PRAGMA busy_timeout", "PRAGMA table_list",
    # in the file's header: https://www.sqlite.org/fileformat2.html#the_database_header
    "PRAGMA user_version = 3", "PRAGMA main.application_id(7)",
    # https://www.sqlite.org/lang_explain.html
    "EXPLAIN SELECT 1", "EXPLAIN QUERY PLAN UPDATE t SET a = 1", "EXPLAIN PRAGMA foreign_keys",
]  # fmt: skip

HARMFUL = [
    # https://www.sqlite.org/lang_attach.html, lang_detach.html
    "ATTACH ':memory:' AS aux", "attach database 'x' as y", "DETACH y",
    # https://www.sqlite.org/lang_createtable.html: TEMP, or the schema name "temp"
    "CREATE TEMP TABLE x(a)", "create temporary view x as select 1", "CREATE TABLE temp.x(a)",
    "CREATE TABLE 'temp'.x(a)", 'create table "TEMP" . x(a)', "CREATE TABLE [temp].x(a)",
    "CREATE VIEW `temp`.v AS SELECT 1", "CREATE TEMP TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; END",
    "DROP TABLE temp.x", "ALTER TABLE temp.x ADD b", "ANALYZE temp",
    "CREATE VIRTUAL TABLE f USING fts5(a)",
    # settings: https://www.sqlite.org/pragma.html
    "PRAGMA foreign_keys = ON", "pragma foreign_keys(1)", "PRAGMA main.cache_size=-100",
    "PRAGMA 'foreign_keys' = 1", 'pragma "foreign_keys"=1', "PRAGMA/**/query_only/**/=/**/1",
    "PRAGMA journal_mode = WAL", "PRAGMA temp.user_version = 1", "PRAGMA shrink_memory",
    "PRAGMA optimize", "PRAGMA schema_version = 4", "PRAGMA encoding = 'UTF-16'", "PRAGMA",
    "PRAGMA case_sensitive_like = 1", "PRAGMA some_pragma_of_the_future",
    # some pragmas work while they are compiled: https://www.sqlite.org/pragma.html
    "EXPLAIN PRAGMA foreign_keys = 1", "EXPLAIN QUERY PLAN PRAGMA recursive_triggers = 1",
    "EXPLAIN ATTACH ':memory:' AS aux", "EXPLAIN", "EXPLAIN QUERY PLAN",
    # functions: https://www.sqlite.org/lang_corefunc.html#load_extension
    "SELECT load_extension('x')", "select LOAD_EXTENSION ( 'x' )", "SELECT \"load_extension\"('x')",
    "WITH c AS (SELECT [load_extension]('x')) SELECT * FROM c",
    "INSERT INTO t SELECT fts3_tokenizer('a', b)",
    "VALUES (`eval`('pragma x'))", "EXPLAIN SELECT load_extension('x')",
    # a byte order mark is white space to SQLite's tokenizer, and no part of the name
    "select \ufeffload_extension('x')", "\ufeffpragma foreign_keys=1",
    # a Tcl parameter may hold a quote: https://www.sqlite.org/lang_expr.html#parameters
    "select $a('), load_extension(1) --'", "select :a('), load_extension(1) --'",
    "select @a::b('), load_extension(1) --'", "select $$('), load_extension(1) --'",
    # several statements, and what is not understood
    "SELECT 1; PRAGMA foreign_keys=1", "CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; END",
    "select 'open; pragma x", "select 1 /* open", "select #1", "hello", "",
]  # fmt: skip


@pytest.mark.parametrize("sql", HARMLESS)
def test_sqlite_statements_that_cannot_change_the_session(sql: str) -> None:
    assert not SQLITE.may_change_session(sql)


@pytest.mark.parametrize("sql", HARMFUL)
def test_sqlite_statements_that_may_change_the_session(sql: str) -> None:
    assert SQLITE.may_change_session(sql)


# They report on the file, which harmless statements may well change.
OF_THE_FILE = {
    "application_id", "data_version", "freelist_count", "incremental_vacuum", "index_info",
    "integrity_check", "optimize", "page_count", "quick_check", "schema_version", "shrink_memory",
    "table_list", "user_version", "wal_checkpoint", "function_list", "module_list", "pragma_list",
}  # fmt: skip


def fingerprint(conn: sqlite3.Connection) -> dict[str, Any]:
    """What can be read of a session's state."""
    pragmas = [name for (name,) in conn.execute("PRAGMA pragma_list") if name not in OF_THE_FILE]
    state: dict[str, Any] = {name: conn.execute(f"PRAGMA {name}").fetchall() for name in pragmas}
    state["temp"] = conn.execute("SELECT name, sql FROM sqlite_temp_master").fetchall()
    state["databases"] = [
        row[1] for row in conn.execute("PRAGMA database_list") if row[1] != "temp"
    ]
    state.pop("database_list", None)
    state["functions"] = sorted(conn.execute("PRAGMA function_list"))
    return state


@pytest.fixture
def conn(tmp_path: Any) -> Any:
    conn = sqlite3.connect(tmp_path / "app.db")
    with closing(conn):
        conn.execute("CREATE TABLE t(a UNIQUE, b, c, d, e)")
        conn.commit()
        yield conn


def run(conn: sqlite3.Connection, sql: str) -> None:
    try:
        conn.execute(sql, dict.fromkeys("bcd") if ":b" in sql else ()).fetchall()
    except sqlite3.Error:
        pass
    conn.rollback()


@pytest.mark.parametrize("sql", HARMLESS)
def test_sqlite_itself_agrees_that_the_session_did_not_change(
    conn: sqlite3.Connection, sql: str
) -> None:
    before = fingerprint(conn)

    run(conn, sql.replace("/tmp/x", "/nowhere/x"))

    assert fingerprint(conn) == before


def test_every_pragma_that_counts_as_reading_changes_no_other(conn: sqlite3.Connection) -> None:
    names = [name for (name,) in conn.execute("PRAGMA pragma_list")]
    reading = [name for name in names if not SQLITE.may_change_session(f"PRAGMA {name}")]
    before = fingerprint(conn)

    for name in reading:
        run(conn, f"PRAGMA {name}")
        run(conn, f"PRAGMA main.{name}")

    assert len(reading) > 40
    assert fingerprint(conn) == before


@pytest.mark.parametrize(
    "sql",
    [
        "EXPLAIN PRAGMA foreign_keys = 1", "PRAGMA 'foreign_keys' = 1", "CREATE TABLE 'temp'.x(a)",
        "ATTACH ':memory:' AS aux", "PRAGMA temp_store = 2",
    ],
)  # fmt: skip
def test_the_fingerprint_sees_real_changes(conn: sqlite3.Connection, sql: str) -> None:
    before = fingerprint(conn)

    conn.execute(sql).fetchall()

    assert fingerprint(conn) != before
    assert SQLITE.may_change_session(sql)


# -- whatever stands around it --------------------------------------------------------------------

DIRTY = [
    "pragma foreign_keys = 1", "attach 'x' as y", "detach y", "create temp table x(a)",
    "create table temp.x(a)", "select load_extension('x')", "explain pragma query_only = 1",
]  # fmt: skip
CLEAN = ["select 1 from t", "insert into t values (1)", "update t set a = 1", "pragma foreign_keys"]
HIDING = ["pragma x=1", "attach 'x' as y", "load_extension('x')", ";", "temp", "--", "/*", "*/"]

blanks = st.sampled_from([" ", "\t", "\n", "\r\n", "\f", "/**/", "/* 'x */", '-- "x\n', "/* ; */"])
gaps = st.lists(blanks, min_size=1, max_size=3).map("".join)
fillers = st.lists(blanks, max_size=3).map("".join)
ends = st.sampled_from(["", ";", " ;", "; -- x", ";/* y */"])


@st.composite
def cased(draw: st.DrawFn, text: str) -> str:
    """`text` in mixed case, and its blanks replaced by others."""
    pieces = []
    for word in text.split(" "):
        upper = draw(st.lists(st.booleans(), min_size=len(word), max_size=len(word)))
        letters = [c.upper() if up else c for c, up in zip(word, upper, strict=True)]
        pieces.append("".join(letters))
    return "".join(piece + draw(gaps) for piece in pieces)


@given(st.sampled_from(DIRTY).flatmap(cased), fillers, ends)
def test_a_dirtying_statement_is_found_in_any_dress(sql: str, before: str, end: str) -> None:
    assert SQLITE.may_change_session(before + sql + end)


@given(st.sampled_from(DIRTY), st.sampled_from(CLEAN), fillers)
def test_a_dirtying_statement_is_found_behind_another(dirty: str, clean: str, blank: str) -> None:
    assert SQLITE.may_change_session(f"{clean};{blank}{dirty}")


@given(
    fillers, st.sampled_from(["load_extension", '"load_extension"', "[load_extension]"]), fillers
)
def test_a_denied_function_is_found_within_common_table_expressions(
    before: str, name: str, after: str
) -> None:
    sql = f"with c as (select '(', {literal(before)}, {name}{after}('x')) insert into t select * from c"

    assert SQLITE.may_change_session(sql)


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def comment(text: str) -> str:
    return "/*" + text.replace("*/", "") + "*/"


hidden = st.lists(st.sampled_from(HIDING), min_size=1, max_size=3).map(" ".join)


@given(st.sampled_from(CLEAN[:3]).flatmap(cased), hidden.map(literal), hidden.map(comment), ends)
def test_what_literals_and_comments_hide_is_harmless(
    sql: str, text: str, remark: str, end: str
) -> None:
    assert not SQLITE.may_change_session(f"{remark}{sql} {text} {remark}{end}")


@given(st.text(max_size=60))
def test_any_text_gets_an_answer(sql: str) -> None:
    assert SQLITE.may_change_session(sql) in (True, False)


@given(
    st.lists(st.sampled_from([*HIDING, *CLEAN, "'", '"', "[", "]", "`", "$a(", "\n"]), max_size=8)
)
def test_sqlite_never_changes_behind_a_harmless_verdict(parts: list[str]) -> None:
    """Random mixtures of quotes, comments and statements, judged by SQLite's own tokenizer."""
    sql = "select 1, " + " ".join(parts) + " , load_extension('x')"
    called = []
    with closing(sqlite3.connect(":memory:")) as conn:
        conn.create_function("load_extension", -1, lambda *a: called.append(a))
        try:
            conn.execute(sql)
        except (sqlite3.Error, sqlite3.Warning, ValueError):
            pass

    assert SQLITE.may_change_session(sql) or not called
