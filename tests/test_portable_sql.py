"""P13: what the portable defaults take for harmless in a database that nobody knows."""

from __future__ import annotations

import pytest

from dbapi_pool.drivers import Driver

may_change_session = Driver().may_change_session


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        "select a, count(*) from t where b in (1, 2) group by a having count(*) > 1",
        "INSERT INTO t (a, b) VALUES (?, ?)",
        "insert into s.t(a, b) values (%s, %s)",
        "insert into t select * from u",
        "UPDATE t SET a = coalesce(:a, 'set role x; drop') WHERE id = :id",
        "DELETE FROM t WHERE a = 'create temporary table'",
        "WITH x AS (SELECT 1 AS a) SELECT a FROM x",
        "SELECT a /* set x */ FROM t -- set y",
        "COMMIT",
        "ROLLBACK TO SAVEPOINT a",
    ],
)
def test_reading_and_writing_rows_is_harmless(sql: str) -> None:
    assert not may_change_session(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "SET search_path TO x",
        "set role admin",
        "CREATE TEMPORARY TABLE t (a int)",
        "USE other",
        "SELECT set_config('a', 'b', false)",
        "SELECT pg_advisory_lock(1)",
        "SELECT GET_LOCK('a', 1)",
        "select nextval('s')",
        "select s.nextval from dual",
        "SELECT a INTO temp t2 FROM t",
        "SELECT 1 INTO @x",
        "SELECT @x := 1",
        "SELECT 1; SET x = 1",
        "CALL p()",
        "DO 1",
        "EXEC p",
        "LISTEN a",
        "PREPARE p AS SELECT 1",
        "/*! SET x = 1 */",
        "SELECT /*!40000 get_lock('a', 1), */ 1",
        "SELECT /*M!100100 get_lock('a', 1), */ 1",
        r"SELECT 'a\' , get_lock('x', 1), '",
        "SELECT 1 # harmless?",
        "select my_function(1)",
        'select "GET_LOCK"(1)',
        "",
        ";",
        "/* unfinished",
    ],
)
def test_when_in_doubt_it_may_change_the_session(sql: str) -> None:
    assert may_change_session(sql)


@pytest.mark.parametrize("sql", [b"SELECT 1", None, 7, ["SELECT 1"], object()])
def test_what_is_no_text_may_change_the_session(sql: object) -> None:
    assert may_change_session(sql)


class Stricter(Driver):
    """A plugin's own judgement, on top of the portable one."""

    def may_change_session(self, sql: object) -> bool:
        return super().may_change_session(sql) or "audit" in str(sql)


def test_what_is_known_to_be_harmless_need_not_be_asked_about() -> None:
    driver = Driver()
    driver.may_change_session("SELECT 1")
    driver.may_change_session("SET x = 1")
    assert driver.known_harmless == {"SELECT 1"}


def test_of_a_driver_that_judges_itself_nothing_is_known() -> None:
    driver = Stricter()
    assert not driver.may_change_session("SELECT 1")
    assert driver.may_change_session("SELECT name FROM audit")
    assert not driver.known_harmless
