"""Which statements may change a PostgreSQL session: tables with sources, and PostgreSQL's own word.

Each row of `HARMLESS` is run on a real server, in a transaction and in autocommit mode, and may not
change what can be read of the session.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
import servers
from hypothesis import given, settings
from hypothesis import strategies as st

from dbapi_pool.drivers.sql import Classifier
from dbapi_pool_postgresql import statements
from dbapi_pool_postgresql.statements import POSTGRESQL

may = POSTGRESQL.may_change_session

EXAMPLES = int(os.environ.get("DBAPI_POOL_TEST_EXAMPLES", "100"))
generated = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="DBAPI_POOL_TEST_EXAMPLES" not in os.environ,
)

DOCS = "https://www.postgresql.org/docs/current/"

SCHEMA = """
DROP SCHEMA IF EXISTS public CASCADE; CREATE SCHEMA public;
CREATE TABLE t (id serial PRIMARY KEY, a int UNIQUE, b text, c numeric, d timestamptz DEFAULT now(),
    j jsonb, tags text[]);
CREATE TABLE u (id int PRIMARY KEY, t_id int REFERENCES t (id), a int, b text);
CREATE TABLE k (temp int, call int, "into" text, "set" int, prepare int, listen int, local text,
    "E" text, execute int, "has space" int, "Größe" int);
CREATE TABLE app_user (id int PRIMARY KEY, name text);
CREATE VIEW v AS SELECT id, a FROM t;
CREATE MATERIALIZED VIEW mv AS SELECT count(*) AS n FROM t;
CREATE SEQUENCE s;
INSERT INTO t (a, b, j, tags) VALUES (1, 'one', '{"k": [1, 2]}', '{x,y}'), (2, 'two', '{}', '{}');
INSERT INTO u VALUES (1, 1, 1, 'one');
"""

# Page of the documentation -> statements that leave the session as it was.
HARMLESS: dict[str, list[str]] = {
    "sql-select.html": [
        "SELECT 1", "select * from t", "SELECT;", " \t\r\n\fSELECT 1 ;", "(SELECT 1)",
        "SELECT t.id, t.a AS x FROM t WHERE t.a = %s AND t.b IN (%s, %s)",
        "SELECT id FROM t WHERE a = %(a)s OR b = %(b)s",
        "SELECT id FROM t WHERE id = ANY(%s::int[])",
        'SELECT "t"."id", "t"."b" FROM "public"."t" WHERE ("t"."a" = %s) ORDER BY "t"."b" LIMIT 21',
        "SELECT DISTINCT ON (b) b, lower(b) FROM t ORDER BY b, a DESC NULLS LAST",
        "(SELECT a FROM t) UNION ALL (SELECT a FROM u) ORDER BY 1 LIMIT 5 OFFSET (1)",
        "((SELECT a FROM t) EXCEPT (SELECT a FROM u)) INTERSECT (SELECT 1)",
        "SELECT t.a, count(*) FROM t LEFT OUTER JOIN u ON (u.t_id = t.id) GROUP BY t.a"
        " HAVING (count(*) > 0)",
        "SELECT * FROM t JOIN u USING (id) CROSS JOIN LATERAL (SELECT t.a + 1) AS x (y)",
        "SELECT * FROM t, u AS w WHERE EXISTS (SELECT 1 FROM u WHERE u.t_id = t.id) AND NOT (t.a = 3)",
        "SELECT a, (SELECT max(b) FROM u) FROM t FOR UPDATE OF t SKIP LOCKED",
        "SELECT a FROM t FOR NO KEY UPDATE NOWAIT", "SELECT id FROM t FOR SHARE",
        "SELECT * FROM (VALUES (1, 'a'), (2, 'b')) AS x (n, m)",
        "SELECT * FROM (VALUES (1, 'a'), (2, 'b')) x (n, m)",
        "SELECT a FROM t GROUP BY GROUPING SETS ((a), ())", "SELECT a FROM t GROUP BY (a)",
        "SELECT g.n FROM generate_series(1, 3) g(n)",
        "SELECT * FROM unnest(ARRAY[1, 2]) WITH ORDINALITY AS x(v, i)",
        "SELECT * FROM json_to_recordset('[{\"a\": 1}]') AS x(a int, b text)",
        "SELECT a FROM t FETCH FIRST 1 ROWS ONLY", "SELECT a FROM t WHERE b LIKE 'on%' ESCAPE '!'",
        "SELECT a FROM t WHERE b ILIKE %s AND b NOT LIKE '%%x%%'",
        "SELECT a FROM t WHERE b LIKE '%smith%'",
    ],
    "queries-with.html": [
        "WITH x AS (SELECT 1 AS a) SELECT a FROM x",
        "WITH RECURSIVE c (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM c WHERE n < 3)"
        " SELECT n FROM c",
        "WITH x AS MATERIALIZED (SELECT 1 AS a), y (b, c) AS NOT MATERIALIZED (SELECT 1, 2),"
        " z (d) AS (VALUES (1)) SELECT * FROM x, y, z",
        "WITH gone AS (DELETE FROM u WHERE a = 7 RETURNING *) INSERT INTO u SELECT * FROM gone",
        "WITH x AS (UPDATE t SET a = a RETURNING id), y (n) AS (SELECT 1) SELECT id, n FROM x, y",
        "WITH x AS (INSERT INTO app_user (id, name) VALUES (9, 'n') RETURNING id), "
        "w (i) AS (INSERT INTO app_user (id) VALUES (10) RETURNING id) SELECT * FROM x",
    ],
    "sql-insert.html": [
        "INSERT INTO t (a, b) VALUES (%s, %s) RETURNING t.id",
        'INSERT INTO "t" ("a", "b") VALUES (11, NULL), (12, DEFAULT) RETURNING "t"."id"',
        "INSERT INTO public.t (a) SELECT a + 100 FROM t", "INSERT INTO t DEFAULT VALUES",
        "INSERT INTO t AS x (a, b) VALUES (1, 'y') ON CONFLICT (a) DO UPDATE SET b = excluded.b"
        " WHERE x.b <> excluded.b",
        "INSERT INTO t(a,b) VALUES(1,'y') ON CONFLICT (a) DO UPDATE SET (b, c) = (excluded.b, 1)",
        "INSERT INTO t (a) VALUES (1) ON CONFLICT ON CONSTRAINT t_a_key DO NOTHING",
        "INSERT INTO t (id, a) OVERRIDING SYSTEM VALUE VALUES (77, 77)",
    ],
    "sql-update.html": [
        "UPDATE t SET a = a + 10, b = 'x' WHERE id = %s",
        "UPDATE ONLY t AS x SET (b, c) = ('n', 2)",
        "UPDATE t SET a = u.a FROM u WHERE u.t_id = t.id RETURNING t.*",
        'UPDATE "t" SET "b" = %s, "j" = %s::jsonb WHERE "t"."id" = %s',
        "UPDATE t SET tags[1] = 'z', b = CASE WHEN (a > 1) THEN ('p') ELSE lower('Q') END",
        "UPDATE t SET j = jsonb_set(j, '{k,0}', '5'::jsonb)",
    ],
    "sql-delete.html": [
        "DELETE FROM u", "DELETE FROM u USING t WHERE u.t_id = t.id RETURNING *",
        "delete from only u",
    ],
    "sql-merge.html": [
        "MERGE INTO u USING t ON (t.id = u.id) WHEN MATCHED AND (t.a > 1) THEN UPDATE SET b = t.b"
        " WHEN NOT MATCHED THEN INSERT (id, a) VALUES (t.id, t.a)",
        "MERGE INTO u AS w USING (SELECT 5 AS id) AS q ON w.id = q.id WHEN NOT MATCHED THEN DO NOTHING",
    ],
    "sql-values.html": ["VALUES (1, 'a'), (2, lower('B'))"],
    "sql-select.html#SQL-TABLE": ["TABLE t", "table public.u"],
    "sql-syntax-lexical.html": [
        "SELECT 'it''s; SET x = 1', $$ ; RESET ALL '$$, $a$ $$ LISTEN x $a$",
        r"SELECT E'it\'s', E'\\', 'a\b', e'\'; SET ROLE x; --', U&'d\0061t'",
        "SELECT 'set_config(1)', '/*', '--', 1 -- set_config('a', 'b', false)",
        "SELECT /* pg_advisory_lock(1); */ 1 /* **/ + 2 /*/ x */ - -1",
        "SELECT 'one'\n'two', b'101', x'1F', date'2020-01-01', 1e5, .5, 5 % 3",
        'SELECT "into", "set", "E", "has space", temp, call, prepare, listen, local, execute FROM k',
        'SELECT k."into", "Größe" AS "größer; SET" FROM k WHERE k.call = 1 AND k.temp < 5',
        "UPDATE k SET temp = 1, prepare = 2, listen = 3, local = 'x'",
        r"""SELECT "E" FROM k WHERE "E" = E'\'' AND 'e' = e'\x65'""",
        "SELECT a::text, c::numeric(10, 2), '1'::varchar(3), a::pg_catalog.int8 FROM t",
        "SELECT tags[1], tags[1:2], (ARRAY[1, 2, 3])[2], ARRAY(SELECT 1) FROM t",
    ],
    "functions.html": [
        "SELECT count(*), count(DISTINCT a), sum(a), avg(c), min(b), max(d) FROM t",
        "SELECT coalesce(b, ''), nullif(a, 1), greatest(1, 2), least(1, 2) FROM t",
        "SELECT lower(b), upper(b), length(b), trim(b), trim(both 'x' from b),"
        " substring(b from 1 for 2) FROM t",
        "SELECT concat(b, 'x'), replace(b, 'o', '0'), split_part(b, ',', 1), position('o' in b) FROM t",
        "SELECT string_agg(b, ',' ORDER BY a), array_agg(a) FILTER (WHERE (a > 1)) FROM t",
        "SELECT regexp_replace(b, '\\d+', ''), b ~* 'O', b SIMILAR TO '(o|t)%' FROM t",
        "SELECT now(), current_date, current_timestamp(3), clock_timestamp(), localtime",
        "SELECT extract(epoch FROM d), date_trunc('day', d), to_char(d, 'YYYY-MM-DD'), age(d) FROM t",
        "SELECT d AT TIME ZONE 'UTC', d AT TIME ZONE ('UTC'), d + interval '1 day' FROM t",
        "SELECT j->'k'->>0, j #>> '{k,0}', j @> '{}', j ? 'k', j ?| ARRAY['k'], j - 'k' FROM t",
        "SELECT jsonb_build_object('a', a), to_jsonb(t), row_to_json(t), jsonb_agg(a) OVER () FROM t",
        "SELECT jsonb_path_query(j, '$.k[*] ? (@ > 1)'), j @? '$.k', jsonb_array_length(j->'k') FROM t"
        " WHERE j ? 'k'",
        "SELECT * FROM jsonb_each('{\"a\": 1}'), jsonb_array_elements('[1]') AS e(x)",
        "SELECT row_number() OVER (PARTITION BY b ORDER BY a), lag(a, 1) OVER w, rank() OVER w FROM t"
        " WINDOW w AS (ORDER BY (a))",
        "SELECT sum(a) OVER (ORDER BY a ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM t",
        "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY a), mode() WITHIN GROUP (ORDER BY a)"
        " FROM t",
        "SELECT round(c, 2), abs(-1), ceil(1.5), floor(1.5), mod(5, 2), power(2, 3), random() FROM t",
        "SELECT unnest(tags), array_length(tags, 1), cardinality(tags), array_append(tags, 'z') FROM t",
        "SELECT to_tsvector('english', b) @@ plainto_tsquery('english', 'one'),"
        " ts_rank(to_tsvector(b), to_tsquery('one')) FROM t",
        "SELECT gen_random_uuid(), md5('x'), encode(sha256('x'), 'hex')",
        "SELECT cast(a AS varchar(10)), CAST('1' AS numeric(5, 2)) FROM t",
        "SELECT pg_catalog.lower('A'), pg_catalog . upper ('a')",
        "SELECT int4range(1, 5) && int4range(3, 8), tstzrange(now(), NULL), lower(int4range(1, 5))",
        "SELECT ROW(1, 2) = ROW(1, 2), (1, 2) < (1, 3), 5 BETWEEN (1) AND (9), a IS NULL FROM t",
        "SELECT current_user, session_user, current_schema, current_database(), version()",
        "SELECT xmlelement(name a, xmlattributes(1 AS b), 'c'), xmlforest(1 AS x)",
        "SELECT overlay('abc' placing 'X' from 2), normalize('a')",
        "SELECT pg_backend_pid(), pg_is_in_recovery(), pg_postmaster_start_time(), pg_sleep(0)",
        "SELECT pg_total_relation_size('t'), pg_size_pretty(pg_relation_size('t'::regclass))",
        "SELECT currval(pg_get_serial_sequence('t', 'id')) FROM t WHERE false",
        "SELECT current_setting('search_path'), current_setting('app.x', true)",
        "SELECT pg_get_viewdef('v'::regclass), obj_description('t'::regclass), format_type(23, NULL)",
    ],
    "functions-admin.html": [
        "SELECT set_config('app.user_id', %s, true)", "SELECT set_config('app.user_id', '5', TRUE)",
        "SELECT pg_catalog.set_config('search_path', 'public'::text, 'true')",
        "SELECT pg_advisory_xact_lock(1)", "SELECT pg_try_advisory_xact_lock_shared(1, 2)",
    ],
    "sql-begin.html": ["BEGIN", "BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE"],
    "sql-start-transaction.html": ["START TRANSACTION READ WRITE"],
    "sql-commit.html": ["COMMIT", "COMMIT AND CHAIN", "COMMIT WORK AND NO CHAIN"],
    "sql-end.html": ["END"],
    "sql-rollback.html": ["ROLLBACK", "ROLLBACK AND CHAIN"],
    "sql-abort.html": ["ABORT WORK"],
    "sql-savepoint.html": ["SAVEPOINT a"],
    "sql-set.html": [
        "SET LOCAL statement_timeout = '5s'", "set local search_path to public",
        "SET LOCAL ROLE pool_role",
        'SET LOCAL "app.user" = \'x\'', "SET LOCAL TIME ZONE 'UTC'",
        "SET LOCAL SESSION AUTHORIZATION DEFAULT",
    ],
    "sql-set-transaction.html": [
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "set transaction read only",
        "SET TRANSACTION NOT DEFERRABLE",
    ],
    "sql-set-constraints.html": ["SET CONSTRAINTS ALL DEFERRED"],
    "sql-lock.html": ["LOCK TABLE t IN ACCESS EXCLUSIVE MODE", "LOCK t NOWAIT"],
    "sql-declare.html": [
        "DECLARE c CURSOR FOR SELECT * FROM t",
        "DECLARE \"c 2\" NO SCROLL CURSOR FOR SELECT lower('A')",
        "DECLARE hold BINARY CURSOR WITHOUT HOLD FOR SELECT 1",
    ],
    "sql-show.html": ["SHOW search_path", "SHOW ALL", "SHOW TRANSACTION ISOLATION LEVEL"],
    "sql-explain.html": [
        "EXPLAIN SELECT * FROM t", "EXPLAIN ANALYZE VERBOSE UPDATE t SET b = 'z'",
        "EXPLAIN (ANALYZE, BUFFERS, FORMAT json) SELECT count(*) FROM t",
        "EXPLAIN (COSTS off) DECLARE c CURSOR FOR SELECT 1",
    ],
    "sql-notify.html": ["NOTIFY news", "NOTIFY news, 'payload'", "SELECT pg_notify('news', 'x')"],
    "sql-createtable.html": [
        "CREATE TABLE n (id bigserial PRIMARY KEY, a varchar(10) NOT NULL DEFAULT 'temp',"
        " b numeric(9, 2) CHECK (b > 0), c int REFERENCES t (id), d timestamptz(3) DEFAULT now(),"
        " UNIQUE (a, b), CONSTRAINT f FOREIGN KEY (c) REFERENCES public.t (id))",
        'CREATE TABLE IF NOT EXISTS "public"."n" ("id" int GENERATED ALWAYS AS IDENTITY)',
        "CREATE UNLOGGED TABLE n (a int)", "CREATE TABLE n (LIKE t INCLUDING ALL)",
        "CREATE TABLE n (a int) PARTITION BY RANGE (a)",
    ],
    "sql-createtableas.html": ["CREATE TABLE n AS SELECT a, lower(b) AS b FROM t"],
    "sql-createindex.html": [
        "CREATE INDEX i ON t (a)",
        "CREATE UNIQUE INDEX IF NOT EXISTS i ON t USING btree (lower(b), a)",
        "CREATE INDEX CONCURRENTLY ON ONLY public.t (a) INCLUDE (b) WHERE (a > 1)",
        'CREATE INDEX "i" ON "t" USING gin ("j" jsonb_path_ops) WITH (fastupdate = off)',
    ],
    "sql-altertable.html": [
        "ALTER TABLE t ADD COLUMN n varchar(20) DEFAULT 'x', DROP COLUMN c",
        "ALTER TABLE t RENAME b TO bb", "ALTER TABLE u ADD CONSTRAINT ck CHECK (a > 0)",
        "ALTER TABLE u ALTER a TYPE numeric(10, 1) USING a::numeric(10, 1)",
    ],
    "sql-droptable.html": ["DROP TABLE u", "DROP TABLE IF EXISTS public.u, k CASCADE"],
    "sql-dropindex.html": ["DROP INDEX IF EXISTS nothing"],
    "sql-dropview.html": ["DROP VIEW v"],
    "sql-dropmaterializedview.html": ["DROP MATERIALIZED VIEW mv"],
    "sql-truncate.html": ["TRUNCATE u", "TRUNCATE TABLE t RESTART IDENTITY CASCADE"],
    "sql-analyze.html": ["ANALYZE t"],
    "sql-vacuum.html": ["VACUUM (ANALYZE) t"],
    "sql-reindex.html": ["REINDEX TABLE t"],
    "sql-cluster.html": ["CLUSTER t USING t_pkey"],
    "sql-refreshmaterializedview.html": ["REFRESH MATERIALIZED VIEW mv"],
}  # fmt: skip

# As above, for what psycopg2 does not send, or what needs something before it.
HARMLESS_UNRUN: dict[str, list[str]] = {
    "sql-syntax-lexical.html": [
        "SELECT * FROM t WHERE a = $1 AND b = $2::text", "SELECT a FROM t WHERE a = ? AND b = :b",
        "SELECT %b, %t, %(a)b, %(a.b)t, %s::int[] FROM t",  # psycopg's placeholders
    ],
    "functions-admin.html": ["SELECT set_config('app.user_id', $1, true)"],
    "sql-fetch.html": ["FETCH NEXT FROM c", "FETCH FORWARD 100 FROM \"c\""],
    "sql-move.html": ["MOVE 5 FROM c"],
    "sql-close.html": ["CLOSE c"],
    "sql-release-savepoint.html": ["RELEASE SAVEPOINT a"],
    "sql-rollback-to.html": ["ROLLBACK TO SAVEPOINT a"],
    "sql-commit-prepared.html": ["COMMIT PREPARED 'a'"],
    "sql-set-transaction.html": ["SET TRANSACTION SNAPSHOT '00000003-0000001B-1'"],
    "sql-set-constraints.html": ["SET CONSTRAINTS \"a\", public.b IMMEDIATE"],
    "uuid-ossp.html": ["INSERT INTO t (id) VALUES (uuid_generate_v4())"],
    "pgtrgm.html": ["SELECT similarity(b, 'x') FROM t WHERE b % 'x' ORDER BY b <-> 'x'"],
    "pgcrypto.html": ["SELECT crypt('x', gen_salt('bf'))"],
}  # fmt: skip

# Statements that change the session, or might.
MAY: dict[str, list[str]] = {
    "sql-set.html": [
        "SET search_path TO x", "set statement_timeout = 0", "SET SESSION work_mem = '1MB'",
        "SET TIME ZONE 'UTC'", "SET NAMES 'latin1'", "SET SCHEMA 'x'", "SET SEED TO 0.5",
        "SET app.x = 1",
        "SET LOCAL seed = 0.5", 'SET LOCAL "seed" TO 0.5', "SET  LOCAL  SEED TO 0", "SET local",
        "SET XML OPTION DOCUMENT", "SET \"transaction\" = 1",
        "SET LOCAL SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "SET",
        "SET LOCAL x = 1; SET x = 1",
    ],
    "sql-set-role.html": ["SET ROLE a", "SET SESSION ROLE a", "RESET ROLE", "set role none"],
    "sql-set-session-authorization.html": [
        "SET SESSION AUTHORIZATION a", "RESET SESSION AUTHORIZATION",
    ],
    "sql-set-transaction.html": [
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SET TRANSACTION", "set transaction_read_only = on",
        "SET default_transaction_read_only = on",
    ],
    "sql-set-constraints.html": ["SET CONSTRAINTS", "SET constraints = 1"],
    "sql-reset.html": ["RESET ALL", "RESET search_path"],
    "sql-discard.html": ["DISCARD ALL", "DISCARD PLANS", "discard temp", "DISCARD SEQUENCES"],
    "sql-listen.html": ["LISTEN news", "listen \"News\""],
    "sql-unlisten.html": ["UNLISTEN *"],
    "sql-prepare.html": ["PREPARE p AS SELECT 1", "PREPARE p (int) AS SELECT $1"],
    "sql-execute.html": ["EXECUTE p", "EXECUTE p (1)", "EXPLAIN ANALYZE EXECUTE p",
                         "CREATE TABLE x AS EXECUTE p", "create table x as  execute p (1)"],
    "sql-deallocate.html": ["DEALLOCATE ALL", "DEALLOCATE p"],
    "sql-prepare-transaction.html": ["PREPARE TRANSACTION 'a'"],
    "sql-declare.html": [
        "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
        "declare c scroll cursor with/**/hold for select 1",
        "DECLARE c CURSOR FOR SELECT set_config('a.b', 'c', false)", "DECLARE c CURSOR",
        'DECLARE "c" NO SCROLL CURSOR WITH HOLD FOR TABLE t', "DECLARE c CURSOR FOR EXECUTE p",
        "EXPLAIN DECLARE c CURSOR WITH HOLD FOR SELECT 1",
    ],
    "sql-createtable.html": [
        "CREATE TEMP TABLE x (a int)", "create temporary table x (a int) on commit drop",
        "CREATE LOCAL TEMPORARY TABLE x (a int)", "CREATE GLOBAL TEMP TABLE x ()",
        "CREATE TABLE pg_temp.x (a int)", 'CREATE TABLE "pg_temp".x (a int)',
        "CREATE TABLE pg_temp_3.x ()",
        "CREATE/**/TEMP/**/TABLE x ()", "CREATE TABLE x (a int DEFAULT f())",
    ],
    "sql-createtableas.html": [
        "CREATE TEMP TABLE x AS SELECT 1", "CREATE TABLE x AS SELECT set_config('a.b', 'c', false)",
        "CREATE TABLE x AS SELECT nextval('s')",
    ],
    "sql-selectinto.html": [
        "SELECT a INTO TEMP x FROM t", "SELECT a INTO TEMPORARY TABLE x FROM t",
        "SELECT a INTO pg_temp.x FROM t", "SELECT a INTO x FROM t", "SELECT\nINTO TEMP x",
        "WITH y AS (SELECT 1) SELECT * INTO TEMP x FROM y", "SELECT 'a'INTO TEMP x",
        "(SELECT 1 INTO TEMP x)",
        "EXPLAIN ANALYZE SELECT 1 INTO TEMP x", "SELECT a insert, b INTO x FROM t",
        "SELECT 1INTO TEMP x", "SELECT 1.5INTO TEMP x",
    ],
    "sql-createview.html": [
        "CREATE TEMP VIEW x AS SELECT 1", "CREATE VIEW x AS SELECT * FROM maybe_temp",
    ],
    "sql-createsequence.html": ["CREATE TEMP SEQUENCE x", "CREATE SEQUENCE x"],
    "sql-createindex.html": ["CREATE INDEX i ON pg_temp.t (a)", "CREATE INDEX i ON t (f(a))"],
    "sql-createfunction.html": ["CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
                                "CREATE OR REPLACE FUNCTION f() RETURNS int RETURN 1"],
    "sql-createextension.html": ["CREATE EXTENSION dblink"],
    "sql-altertable.html": [
        "ALTER TABLE pg_temp.x ADD b int", "ALTER TABLE t ADD b int DEFAULT f()",
    ],
    "sql-altersystem.html": ["ALTER SYSTEM SET work_mem = '1MB'"],
    "sql-alterrole.html": ["ALTER ROLE a SET search_path = x", "ALTER USER a RESET ALL"],
    "sql-alterdatabase.html": ["ALTER DATABASE a SET work_mem = '1MB'"],
    "sql-alterdefaultprivileges.html": ["ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO a"],
    "sql-droptable.html": ["DROP TABLE pg_temp.x", 'DROP VIEW "pg_temp".x', "DROP FUNCTION f",
                           "DROP OWNED BY a", "DROP SEQUENCE s"],
    "sql-load.html": ["LOAD 'auto_explain'"],
    "sql-do.html": ["DO $$ BEGIN SET x = 1; END $$", "do language plpgsql 'begin end'"],
    "sql-call.html": ["CALL p()", "call p(1)"],
    "sql-copy.html": ["COPY t FROM STDIN", "COPY t (a) TO STDOUT WITH (FORMAT csv)",
                      "COPY (SELECT 1) TO '/tmp/x'"],
    "sql-security-label.html": ["SECURITY LABEL ON TABLE t IS 'x'"],
    "sql-importforeignschema.html": ["IMPORT FOREIGN SCHEMA a FROM SERVER b INTO c"],
    "sql-reassign-owned.html": ["REASSIGN OWNED BY a TO b"],
    "functions-admin.html#FUNCTIONS-ADMIN-SET": [
        "SELECT set_config('a.b', 'c', false)", "select SET_CONFIG('a.b', 'c', %s)",
        "SELECT pg_catalog.set_config('a.b', 'c', false)",
        'SELECT "set_config"(\'a.b\', \'c\', false)',
        'SELECT "pg_catalog"."set_config"(\'a.b\', \'c\', false)',
        "SELECT set_config /* */ ('a', 'b', false)",
        "SELECT set_config\n(\n'a', 'b', false)", "SELECT set_config-- (\n('a', 'b', false)",
        "SELECT U&\"\\0073et_config\"('a', 'b', false)",
        'SELECT u&"s!0065t_config" UESCAPE \'!\' (1)',
        "SELECT set_config('seed', '0.5', true)",
        "SELECT set_config('a', 'b', true), set_config('a', 'b', $1)",
        "SELECT set_config('a', set_config('c', 'd', false), true)",
        "SELECT set_config('a', 'b', true OR f())",
        "SELECT set_config(new_value => 'b', setting_name => 'a', is_local => false)",
        "SELECT set_config('a', 'b', true IS NULL)", "SELECT * FROM set_config('a', 'b', false)",
        "SELECT * FROM set_config('a', 'b', false) AS x(y)",
        "SELECT * FROM ROWS FROM (set_config('a','b',false))",
        "SELECT DISTINCT ON (a) set_config('a', 'b', false) FROM t",
        "SELECT 1 OPERATOR(pg_catalog.||) set_config('a', 'b', false)",
        "SELECT a FROM t WHERE (a)::text = set_config('a', 'b', false)",
        "INSERT INTO t (b) VALUES (set_config('a', 'b', false))",
        "UPDATE t SET b = set_config('a', 'b', false)",
        "UPDATE t SET (b) = (set_config('a', 'b', false))",
        "DELETE FROM t RETURNING set_config('a', 'b', false)",
        "VALUES (set_config('a', 'b', false))",
        "SELECT CASE WHEN a > 1 THEN set_config('a', 'b', false) END FROM t",
        "WITH x (y) AS (SELECT set_config('a', 'b', false)) SELECT y FROM x",
        "WITH x AS (SELECT 1), set_config (a) AS (SELECT set_config('a', 'b', false)) SELECT 1",
        "SELECT 1 FROM t ORDER BY set_config('a', 'b', false)",
        "SELECT 1 LIMIT length(set_config('a', 'b', false))",
        "SELECT count(*) FILTER (WHERE set_config('a', 'b', false) = '') FROM t",
        "MERGE INTO t USING u ON true WHEN NOT MATCHED THEN INSERT (a)"
        " VALUES (set_config('a', 'b', false))",
        "MERGE INTO t USING u ON true WHEN MATCHED AND set_config('a', 'b', false) = '' THEN DELETE",
        "EXPLAIN ANALYZE SELECT set_config('a', 'b', false)",
        "EXPLAIN (ANALYZE) SELECT set_config('a', 'b', false)",
        r"SELECT E'\'', nextval($$s$$) -- '", r"SELECT '\'', nextval($$s$$) -- '",
        "SELECT 1 /* /* */ ' */ , nextval($$s$$) -- '", r"SELECT '\', nextval($$s$$) -- '",
        "SELECT $a$ $b$ ' $a$, nextval($$s$$) -- '", "SELECT 1 -- '\r, nextval($$s$$) -- '",
        r'CREATE TABLE U&"\0070g_temp".x (a int)', r'SET LOCAL u&"\0073eed" = 1',
        r"SELECT E'\\', set_config('a', 'b', false)", r"SELECT '\', set_config('a', 'b', false), '",
        "SELECT x . set_config('a', 'b', true)",
        "SELECT -- x\rset_config('a', 'b', false)",
        "SELECT /* /* */ set_config('a', 'b', false) /* */ */",
        "SELECT x$$, set_config('a', 'b', false), $$",
        "SELECT 1$a$, set_config('a', 'b', false), $a$ ",
        "SELECT $a$ $A$ $a$, set_config('a', 'b', false)", "SELECT lower$set_config(1)",
        "SELECT \u00a0set_config('a', 'b', false)", "SELECT sum\u00a0(1)", "SELECT \u017fum(1)",
        "SELECT\vset_config('a', 'b', false)", "SELECT set_config\0('a', 'b', false)",
        "SELECT \"LOWER\"('A')", 'SELECT "lower"(\'A\')', "SELECT public.lower('A')",
    ],
    "functions-admin.html#FUNCTIONS-ADVISORY-LOCKS": [
        "SELECT pg_advisory_lock(1)", "SELECT pg_try_advisory_lock(1, 2)",
        "SELECT pg_advisory_lock_shared(1)",
        "SELECT pg_advisory_unlock(1)", "SELECT pg_advisory_unlock_all()",
        "SELECT 1 WHERE pg_try_advisory_lock_shared(1)",
    ],
    "functions-sequence.html": [
        "SELECT nextval('s')", "SELECT setval('s', 1)",
        "INSERT INTO t (id) VALUES (nextval('t_id_seq'))",
        "select pg_catalog.nextval ('s'::regclass)",
    ],
    "functions-math.html": ["SELECT setseed(0.5)", "SELECT * FROM t, setseed(1)"],
    "functions-admin.html": [
        "SELECT pg_reload_conf()", "SELECT pg_terminate_backend(1)", "SELECT pg_cancel_backend(1)",
        "SELECT pg_export_snapshot()", "SELECT pg_replication_origin_session_setup('x')",
    ],
    "functions-xml.html": ["SELECT query_to_xml('SELECT set_config(1)', true, true, '')"],
    "functions-textsearch.html": [
        "SELECT ts_rewrite(q, 'SELECT t, s FROM x') FROM y", "SELECT ts_stat('SELECT 1')",
    ],
    "lo-funcs.html": ["SELECT lo_open(1, 131072)", "SELECT lo_import('/x')", "SELECT loread(0, 1)"],
    "contrib-dblink-function.html": [
        "SELECT dblink_connect('x')", "SELECT * FROM dblink('x', 'y') AS t(a int)",
    ],
    "pgtrgm.html": ["SELECT set_limit(0.5)"],
    "tablefunc.html": ["SELECT * FROM crosstab('SELECT 1') AS x(a int)"],
    "xfunc.html": [
        "SELECT my_function()", "SELECT * FROM app.f(1)", "INSERT INTO t SELECT my_agg(a) FROM u",
        "SELECT a FROM t WHERE first(a) = 1", "SELECT key(a), over(1), filter(a) FROM t",
    ],
    "protocol-flow.html": [
        "SELECT 1; SELECT 2", "SELECT 1; SET x = 1", ";SELECT 1", "", " ", "--", "/* */", ";",
        "\\d", "SELECT 'open",
        "SELECT 1; /* */ ; SET x = 1", "SELECT $$open", 'SELECT "open', "SELECT /* open", "hello",
        "'SELECT' 1",
        "\ufeffSELECT 1", "SELECT `a`",
    ],
    "https://www.psycopg.org/docs/usage.html#passing-parameters-to-sql-queries": [
        "SELECT '%s'", 'SELECT "%s"', "SELECT 1 /* %s */", "SELECT 1 -- %(name)s",
        "SELECT $$ %s $$",
        "SELECT %s(1)", "SELECT %(name)s (1)", "SELECT %s set_config('a', 'b', false)",
    ],
}  # fmt: skip


def rows(table: dict[str, list[str]]) -> list[Any]:
    return [
        pytest.param(sql, id=f"{page}-{sql[:60]!r}") for page, sqls in table.items() for sql in sqls
    ]


@pytest.mark.parametrize("sql", rows(HARMLESS) + rows(HARMLESS_UNRUN))
def test_harmless(sql: str) -> None:
    assert not may(sql)


@pytest.mark.parametrize("sql", rows(MAY))
def test_may_change_the_session(sql: str) -> None:
    assert may(sql)


def test_the_tables_are_long_enough_and_agree() -> None:
    harmless = {
        sql for table in (HARMLESS, HARMLESS_UNRUN) for sqls in table.values() for sql in sqls
    }
    harmful = {sql for sqls in MAY.values() for sql in sqls}

    assert len(harmless) >= 120
    assert len(harmful) >= 120
    assert not harmless & harmful


# -- PostgreSQL's own word ------------------------------------------------------------------------

FINGERPRINT = """
SELECT
    (SELECT json_object_agg(name, setting) FROM pg_settings),
    current_user, session_user, current_schemas(true)::text,
    (SELECT array_agg(name || statement ORDER BY name) FROM pg_prepared_statements),
    (SELECT array_agg(name ORDER BY name) FROM pg_cursors WHERE name <> ''),
    (SELECT array_agg(x) FROM pg_listening_channels() AS x),
    (SELECT array_agg(objid::text || mode) FROM pg_locks
        WHERE pid = pg_backend_pid() AND locktype = 'advisory'),
    (SELECT array_agg(relname::text ORDER BY relname) FROM pg_class
        WHERE relnamespace = pg_my_temp_schema() AND relnamespace <> 0),
    (SELECT array_agg(gid) FROM pg_prepared_xacts),
    coalesce(current_setting('app.x', true), ''), coalesce(current_setting('app.user', true), ''),
    coalesce(current_setting('app.user_id', true), '')
"""


class Session:
    """A connection of psycopg2, and what can be read of its session."""

    def __init__(self, server: servers.Server) -> None:
        psycopg2 = servers.driver_module("psycopg2")
        self.error: type[Exception] = psycopg2.Error
        self.server = server
        self.conn = psycopg2.connect(**server.arguments("psycopg2"))
        self.cursor = self.conn.cursor()

    def renew(self) -> None:
        """Give the database its first content, in autocommit mode."""
        self.conn.autocommit = True
        self.cursor.execute(SCHEMA)

    def run(self, sql: str, *, autocommit: bool) -> bool:
        """Run it, and end the transaction that it ran in; whether it succeeded."""
        self.conn.autocommit = autocommit
        try:
            self.cursor.execute(sql, arguments(sql))
            return True
        except self.error:
            return False
        finally:
            self.conn.rollback()
            if self.conn.info.transaction_status != 0:  # begun by hand
                self.conn.autocommit = True
                self.cursor.execute("ROLLBACK")

    def fingerprint(self) -> Any:
        self.conn.autocommit = True
        self.cursor.execute(FINGERPRINT)
        return self.cursor.fetchone()


def arguments(sql: str) -> Any:
    """`'7'` for each parameter; an array's text where one is expected."""
    if re.search(r"%\(\w+\)s", sql):
        return dict.fromkeys("abcdefgh", "7")
    values = [
        "{7}" if array else "7"
        for array in re.findall(r"%s(::int\[\])?", sql.replace("%smith", ""))
    ]
    return values if values or "%%" in sql else None


@pytest.fixture(scope="module")
def session(postgresql: servers.Server) -> Iterator[Session]:
    # PostgreSQL 15 gives the schema "public" to the database's owner.
    session = Session(postgresql)
    yield session
    session.conn.close()


@pytest.mark.parametrize("sql", rows(HARMLESS))
def test_postgresql_agrees_that_the_session_did_not_change(session: Session, sql: str) -> None:
    session.renew()
    before = session.fingerprint()

    ran = [session.run(sql, autocommit=False)]
    assert session.fingerprint() == before
    ran.append(session.run(sql, autocommit=True))
    assert session.fingerprint() == before

    assert any(ran), "it fails, and so shows nothing"


@pytest.mark.parametrize(
    "sql",
    [
        "SET work_mem = '7MB'", "SET ROLE pool_role", "SET app.x = '1'",
        "SET search_path = pg_catalog",
        "SELECT set_config('app.x', '1', false)", "PREPARE p AS SELECT 1", "LISTEN news",
        "SELECT pg_advisory_lock(7)", "CREATE TEMP TABLE x (a int)",
        "CREATE TABLE pg_temp.x (a int)",
        "SELECT 1 AS a INTO TEMP x", "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
        "SELECT U&\"\\0073et_config\"('app.x', '1', false)",
        "SELECT /* /* */ */ set_config('app.x', '1', false)",
        "SELECT -- x\rset_config('app.x', '1', false)",
        r"SELECT E'\'', set_config('app.x', '1', false)",
        "SELECT DISTINCT ON (a) set_config('app.x', '1', false) FROM t",
        "SELECT '1' OPERATOR(pg_catalog.||) set_config('app.x', '1', false)",
        "EXPLAIN ANALYZE SELECT set_config('app.x', '1', false)",
        "DO $$ BEGIN SET app.x = 1; END $$",
    ],
)  # fmt: skip
def test_the_fingerprint_sees_real_changes(postgresql: servers.Server, sql: str) -> None:
    session = Session(postgresql)
    session.renew()
    before = session.fingerprint()

    assert session.run(sql, autocommit=True)
    changed = session.fingerprint() != before
    session.conn.close()

    assert changed
    assert may(sql)


def in_catalog(server: servers.Server) -> dict[str, set[str]]:
    """The built-in functions, by name, and how volatile they are."""
    found = server.query(
        "SELECT upper(proname), string_agg(DISTINCT provolatile::text, '') FROM pg_catalog.pg_proc"
        " WHERE pronamespace = 'pg_catalog'::regnamespace GROUP BY 1"
    )
    return {name: set(kinds) for name, kinds in found}


# Listed above, and not in every version: the release notes of 16, 17 and 18 name the new ones.
NEW = set(
    """
ANY_VALUE ARRAY_REVERSE ARRAY_SAMPLE ARRAY_SHUFFLE ARRAY_SORT CASEFOLD CRC32 CRC32C DATE_ADD
DATE_SUBTRACT ERF ERFC GAMMA JSONB_AGG_STRICT JSONB_OBJECT_AGG_STRICT JSONB_OBJECT_AGG_UNIQUE
JSON_AGG_STRICT JSON_OBJECT_AGG_STRICT JSON_OBJECT_AGG_UNIQUE LGAMMA PG_BASETYPE PG_INPUT_ERROR_INFO
PG_INPUT_IS_VALID RANDOM_NORMAL TO_BIN TO_OCT TO_REGTYPEMOD UNICODE_ASSIGNED UNICODE_VERSION
UUIDV4 UUIDV7 UUID_EXTRACT_TIMESTAMP UUID_EXTRACT_VERSION XMLTEXT JSON_ARRAY JSON_ARRAYAGG JSON_EXISTS
JSON_OBJECTAGG JSON_QUERY JSON_SCALAR JSON_SERIALIZE JSON_TABLE JSON_VALUE
""".split()
)

# Random order is volatile, and no more than that.
VOLATILE_AND_HARMLESS = {"ARRAY_SAMPLE", "ARRAY_SHUFFLE"}


def words(text: str) -> set[str]:
    return set(text.upper().split())


def test_every_listed_function_is_built_in_and_at_most_reads(postgresql: servers.Server) -> None:
    catalog = in_catalog(postgresql)
    listed = words(statements._BUILT_IN)

    assert listed - set(catalog) <= NEW
    assert {name for name in listed & set(catalog) if "v" in catalog[name]} <= VOLATILE_AND_HARMLESS
    assert words(statements._VOLATILE) - set(catalog) <= NEW


def test_every_other_word_is_of_the_grammar_or_a_cast(postgresql: servers.Server) -> None:
    keywords = {
        word
        for (word,) in postgresql.query(
            "SELECT upper(word) FROM pg_get_keywords() WHERE catcode <> 'U'"
        )
    }
    catalog = set(in_catalog(postgresql))

    assert words(statements._GRAMMAR) - keywords <= NEW | catalog
    assert words(statements._TYPES) - keywords <= catalog


def test_no_other_volatile_function_is_harmless(postgresql: servers.Server) -> None:
    volatile = {name for name, kinds in in_catalog(postgresql).items() if "v" in kinds}
    reviewed = words(statements._VOLATILE) | VOLATILE_AND_HARMLESS

    assert len(volatile) > 150
    assert [name for name in volatile - reviewed if not may(f"SELECT {name.lower()}(1)")] == []
    assert [name for name in volatile - reviewed if not may(f"SELECT pg_catalog.{name}(1)")] == []


# -- whatever stands around it --------------------------------------------------------------------

DIRTY_CALLS = [
    "set_config('a.b', 'c', false)", "pg_advisory_lock(1)", "nextval('s')", "setval('s', 1)",
    "setseed(0.1)",
    '"set_config"(\'a.b\', \'c\', false)', "pg_catalog.set_config('a.b', 'c', false)",
    "my_function(1)",
    "set_config('a', 'b', f(true))", "dblink('x', 'y')", "public.lower('a')",
]  # fmt: skip
DIRTY = [
    "set x = 1", "set local seed = 1", "reset all", "discard all", "listen a",
    "prepare p as select 1", "execute p",
    "create temp table x ( a int )", "create table pg_temp . x ( a int )", "select 1 into temp x",
    "declare c cursor with hold for select 1", "do 'x'", "call p ( )", "load 'x'",
    "explain analyze execute p",
]  # fmt: skip
CLEAN = [
    "select a , count( * ) from t where b = %s group by a",
    "insert into t ( a , b ) values ( %s , 'x' )",
    "update t set a = a + 1 where b in ( 1 , 2 )", "delete from t where id = %(id)s returning *",
    "with x ( a ) as ( select 1 ) select * from x join t using ( a )",
    "select lower( b ) over ( order by a ) from t",
]  # fmt: skip
HIDING = [
    "set x=1",
    "set_config('a','b',false)",
    ";",
    "into temp x",
    "--",
    "/*",
    "*/",
    "$$",
    "'",
    '"',
    "\\",
]

blanks = st.sampled_from(
    [" ", "\t", "\n", "\r\n", "\f", "/**/", "/* 'x */", '-- "x\n', "/* ; */", "--\r", "/*$$*/"]
)
gaps = st.lists(blanks, min_size=1, max_size=3).map("".join)
fillers = st.lists(blanks, max_size=3).map("".join)
ends = st.sampled_from(["", ";", " ;", "; -- x", ";/* y */"])


@st.composite
def dressed(draw: st.DrawFn, text: str) -> str:
    """`text` in mixed case, and its blanks replaced by others."""
    pieces = []
    for word in text.split(" "):
        capitals = draw(st.booleans()) and "%" not in word and "'" not in word and '"' not in word
        pieces.append((word.upper() if capitals else word) + draw(gaps))
    return "".join(pieces)


places = st.sampled_from([
    "select {}", "select 1 , {} as x", "select * from {}", "select * from t , {} as x ( y )",
    "select a from t where ( a = {} )", "with x ( y ) as ( select {} ) select * from x",
    "with x as ( select 1 ) , y ( z ) as ( select {} ) select 1",
    "insert into t ( a ) values ( {} )",
    "insert into t select {}", "update t set a = {}", "update t set ( a , b ) = ( {} , 1 )",
    "values ( {} )",
    "select ( select {} )", "select case when true then {} end",
    "select distinct on ( a ) {} from t",
    "select array[ {} ]", "select lower( {} )", "select a from t order by {}",
    "delete from t returning {}",
    "select 1 union select {}", "explain analyze select {}", "declare c cursor for select {}",
    "( select {} )",
    "create table x as select {}", "select count( * ) filter ( where {} ) over ( ) from t",
    "select ( {} )::text",
    "select -{}", "select 1 + {}", "select 'x' || {}", "select interval '1day' * {}",
    "select 'a' , $$b$$ , {}",
])  # fmt: skip


@generated
@given(st.sampled_from(DIRTY_CALLS), places, st.data())
def test_a_dirtying_call_is_found_everywhere(call: str, place: str, data: st.DataObject) -> None:
    before, after = (data.draw(dressed(part)) for part in place.split("{}"))
    name, paren, rest = call.partition("(")
    spaced = (
        data.draw(st.sampled_from([name, name.upper(), name.title()]))
        + data.draw(fillers)
        + paren
        + rest
    )

    assert may(data.draw(fillers) + before + spaced + after + data.draw(ends))


@generated
@given(st.sampled_from(DIRTY).flatmap(dressed), fillers, ends)
def test_a_dirtying_statement_is_found_in_any_dress(sql: str, before: str, end: str) -> None:
    assert may(before + sql + end)


@generated
@given(st.sampled_from(DIRTY), st.sampled_from(CLEAN), fillers)
def test_a_dirtying_statement_is_found_behind_another(dirty: str, clean: str, blank: str) -> None:
    assert may(f"{clean};{blank}{dirty}")


def quoted(text: str) -> st.SearchStrategy[str]:
    """`text` as a literal, in one of PostgreSQL's ways that fit."""
    doubled = text.replace("'", "''")
    ways = [
        "E'" + doubled.replace("\\", "\\\\") + "'",
        "e'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'",
    ]
    if not text.endswith("\\") and "\\'" not in text:
        ways.append(f"'{doubled}'")
    if not text.endswith("$"):
        ways.append(f"$q${text}$q$")
    return st.sampled_from(ways)


def comment(text: str) -> str:
    return "/*" + re.sub(r"\*/|/\*", "", text).rstrip("/") + " */"


hidden = st.lists(st.sampled_from(HIDING), min_size=1, max_size=3).map(" ".join)


@generated
@given(st.sampled_from(CLEAN).flatmap(dressed), ends)
def test_plain_statements_are_harmless_in_any_dress(sql: str, end: str) -> None:
    assert not may(sql + end)


@generated
@given(hidden.flatmap(quoted), hidden.map(comment), ends)
def test_what_literals_and_comments_hide_is_harmless(text: str, remark: str, end: str) -> None:
    assert not may(f"{remark} select {text} as x {remark} from t where b = {text}{end}")


GARBAGE = [
    *HIDING, "select", "(", ")", "E'", "e\\'", "U&\"", "$a$", "$1", "::", ".", ",", "%", "%s",
    "%(a)s", "a", "into",
    "set_config", "as", "with", "operator", "\x00", "\u00a0", "ſ", "1", "[", "]", "@", "`", "\r",
    "\n", "{", ":",
]  # fmt: skip


@generated
@given(
    st.one_of(st.text(max_size=80), st.lists(st.sampled_from(GARBAGE), max_size=25).map("".join))
)
def test_any_text_gets_an_answer(sql: str) -> None:
    assert may(sql) in (True, False)


# What may open or close something that hides a call, or only seem to.
EDGES = [
    "'", "E'", "e'", "U&'", "b'", "n'", r"'\'", r"E'\'", r"'\\'", r"E'\\'", "''", "'''", "$$",
    "$a$", "$A$",
    "x$a$", "1$$", "/*", "*/", "/*/", "/* /*", "*/ */", "--", "-- \n", "--\r", "\n", "\r", '"',
    '""', 'as "',
    "'x'\n'", "'x' '", "E'x'\n'\\'", "%", "- -", "-", "|| '", ", '", ", 'a' || '", "as x",
]  # fmt: skip
EXPRESSIONS = [
    "1", "'a'", r"E'\''", "$$ ' $$", "'it''s'", "1 /* ' */", "2 -- '\n", "null", "$q$ $$ $q$",
    '1 as "x\'"',
]  # fmt: skip


@settings(generated, max_examples=3 * EXAMPLES)
@given(
    st.lists(st.sampled_from(EXPRESSIONS), min_size=1, max_size=2).map(", ".join),
    st.lists(st.sampled_from(EDGES), max_size=2).map(" ".join),
    st.lists(st.sampled_from(EDGES), max_size=3).map("".join),
    st.sampled_from(["on", "off"]),
)
def test_postgresql_never_changes_behind_a_harmless_verdict(
    session: Session, first: str, opened: str, closed: str, standard: str
) -> None:
    """A call between what may hide it, judged by PostgreSQL's own lexer, with either meaning of
    backslashes in literals."""
    sql = f"select {first} {opened} , set_config('app.x', 'seen', false) {closed}"
    session.conn.autocommit = True
    session.cursor.execute(
        f"SET standard_conforming_strings = {standard}; SET escape_string_warning = off;"
        " SELECT set_config('app.x', '', false)"
    )
    try:
        session.cursor.execute(sql)
    except session.error:
        pass
    session.cursor.execute("SELECT current_setting('app.x')")
    (seen,) = session.cursor.fetchone()
    session.cursor.execute("RESET ALL")

    assert may(sql) or seen == ""


# -- time -----------------------------------------------------------------------------------------

PIECES = [
    " ", "\n", "a", "a ", "a.", "a(", "(", ")", "'", "''", "'a", "E'", "e'\\", "\\", '"', '""',
    "$", "$$", "$a", "$a$",
    "--", "-", "/", "/*", "*/", "*", "/**/", ",", ", a (", ",a(b)as(", ", a (b, ", "as ", "with ",
    "insert into ",
    "select into ", "%", "%%", "%s", "%(", "%(a)s", "@", ":", "::", "update ", "update set (",
    "then insert (", "on ",
    "set_config('a',", "index on ", "immediate ", "e", ";", "; ", "1", "\u00e9", "'%s' ", "as (",
    "not ", "(a",
]  # fmt: skip
HEADS = [
    "", "select ", "select '", "explain ", "explain (", "declare ", "declare c no ", "set local ",
    "set constraints ",
    "create table ", "create index ", "alter table ", "merge into t ", "with ", "update ",
]  # fmt: skip


def slowest(texts: list[str]) -> tuple[float, str]:
    """The longest of the best times, in seconds, and the text that took it."""

    def once(text: str) -> float:
        start = time.thread_time()  # whoever else computes
        may(text)
        return time.thread_time() - start

    return max((min(once(text) for _ in range(3)), text[:40]) for text in texts)


@pytest.mark.parametrize("piece", PIECES)
def test_no_long_text_takes_long(piece: str) -> None:
    many = piece * (10_000 // len(piece))
    took, text = slowest([head + many + end for head in HEADS for end in ("", "(", "'", "!")])

    assert took < 0.05, text


def test_a_text_is_read_once() -> None:
    classify = Classifier(POSTGRESQL)
    texts = [sql for sqls in HARMLESS.values() for sql in sqls]

    assert not any(map(classify, texts))
    assert classify.harmless == set(texts)
