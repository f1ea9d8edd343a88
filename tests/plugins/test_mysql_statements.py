"""Which statements may change a MySQL or MariaDB session: tables with sources, and MariaDB's own word.

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
from dbapi_pool_mysql import statements
from dbapi_pool_mysql.statements import MYSQL

may = MYSQL.may_change_session

EXAMPLES = int(os.environ.get("DBAPI_POOL_TEST_EXAMPLES", "100"))
generated = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="DBAPI_POOL_TEST_EXAMPLES" not in os.environ,
)

# Pages without an address are in https://dev.mysql.com/doc/refman/8.4/en/.
KB = "https://mariadb.com/kb/en/"

SCHEMA = [
    "CREATE TABLE t (id int AUTO_INCREMENT PRIMARY KEY, a int UNIQUE, b varchar(100), c decimal(9, 2),"
    " d datetime DEFAULT now(), j json, FULLTEXT KEY words (b)) ENGINE=InnoDB",
    "CREATE TABLE u (id int PRIMARY KEY, t_id int, a int, b text)",
    "CREATE TABLE k (temporary int, `call` int, `into` text, `set` int, `prepare` int, handler int,"
    " `has space` int, Größe int, nextvalue int)",
    "CREATE VIEW v AS SELECT id, a FROM t",
    "CREATE SEQUENCE s",
    "INSERT INTO t (a, b, j) VALUES (1, 'one', '{\"k\": [1, 2]}'), (2, 'two', '{}')",
    "INSERT INTO u VALUES (1, 1, 1, 'one')",
]

# Page of the documentation -> statements that leave the session as it was.
HARMLESS: dict[str, list[str]] = {
    "select.html": [
        "SELECT 1", "select * from t", " \t\r\n\fSELECT 1 ;", "(SELECT 1)", "SELECT 1 FROM DUAL",
        "SELECT t.id, t.a AS x FROM t WHERE t.a = %s AND t.b IN (%s, %s)",
        "SELECT id FROM t WHERE a = %(a)s OR b = %(b)s",
        "SELECT `t`.`id`, `t`.`b` FROM `t` WHERE (`t`.`a` = %s) ORDER BY `t`.`b` ASC LIMIT 21",
        "SELECT t.a, count(*) AS n FROM t LEFT OUTER JOIN u ON (u.t_id = t.id) GROUP BY t.a"
        " HAVING (count(*) > 0)",
        "SELECT DISTINCT (a), b FROM t ORDER BY a DESC LIMIT 5 OFFSET 1",
        "SELECT SQL_CALC_FOUND_ROWS a FROM t LIMIT 1",
        "SELECT STRAIGHT_JOIN * FROM t JOIN u USING (id)",
        "SELECT * FROM t, u AS w WHERE EXISTS (SELECT 1 FROM u WHERE u.t_id = t.id) AND NOT"
        " (t.a = 3)",
        "SELECT * FROM t USE INDEX (a) WHERE a = 1", "SELECT * FROM t FORCE INDEX FOR JOIN (a)",
        "SELECT * FROM t IGNORE KEY (a)", "SELECT HIGH_PRIORITY SQL_NO_CACHE lower(b) FROM t",
        "SELECT a, (SELECT max(b) FROM u) FROM t FOR UPDATE", "SELECT a FROM t LOCK IN SHARE MODE",
        "SELECT a FROM t WHERE id = 1 FOR UPDATE SKIP LOCKED",
        "SELECT a, count(*) FROM t GROUP BY a WITH ROLLUP",
        "SELECT a FROM t WHERE b LIKE 'on%' ESCAPE '!'", "SELECT a FROM t WHERE b LIKE '%smith%'",
        "SELECT a FROM t WHERE b LIKE %s AND b NOT LIKE '%%x%%'",
    ],
    "union.html": [
        "(SELECT a FROM t) UNION ALL (SELECT a FROM u) ORDER BY 1 LIMIT 5",
        "((SELECT a FROM t) EXCEPT (SELECT a FROM u)) INTERSECT (SELECT 1)",
    ],
    "with.html": [
        "WITH x AS (SELECT 1 AS a) SELECT a FROM x",
        "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 3), d (x, y) AS"
        " (SELECT 1, 2) SELECT * FROM c, d",
    ],
    "insert.html": [
        "INSERT INTO t (a, b) VALUES (%s, %s)",
        "INSERT INTO `t` (`a`, `b`) VALUES (11, NULL), (12, DEFAULT)",
        "INSERT t (a) VALUES (13)", "INSERT INTO t(a)VALUES(14)",
        "INSERT IGNORE INTO pool.t (a) VALUES (1)",
        "INSERT LOW_PRIORITY INTO t SET a = 15, b = lower('X')", "INSERT INTO t () VALUES ()",
        "INSERT INTO u (id, b) SELECT id + 50, b FROM t", "INSERT IGNORE t (a) VALUES (1)",
        "INSERT INTO t (a, b) VALUES (1, 'y') ON DUPLICATE KEY UPDATE b = VALUES(b), c = c + 1",
        "INSERT INTO t (a) VALUES (16) RETURNING id, a",
        "INSERT INTO u (id, t_id) VALUES (60, LAST_INSERT_ID())",
    ],
    "replace.html": [
        "REPLACE INTO u (id, b) VALUES (1, 'x')", "REPLACE u (id) VALUES (1)",
        "REPLACE INTO u SET id = 2",
    ],
    "update.html": [
        "UPDATE t SET a = a + 10, b = 'x' WHERE id = %s",
        "UPDATE `t` SET `b` = %s WHERE `t`.`id` = %s",
        "UPDATE IGNORE t SET b = CASE WHEN (a > 1) THEN ('p') ELSE lower('Q') END ORDER BY a"
        " LIMIT 1",
        "UPDATE t JOIN u ON (u.t_id = t.id) SET t.b = u.b",
        "UPDATE t SET j = JSON_SET(j, '$.k[0]', 5)",
    ],
    "delete.html": [
        "DELETE FROM u", "DELETE FROM u WHERE a IN (1, 2) LIMIT 1",
        "DELETE w FROM u AS w JOIN t ON (t.id = w.t_id) WHERE t.a IS NULL",
        "DELETE LOW_PRIORITY QUICK FROM u",
    ],
    "do.html": ["DO 1", "DO sleep(0)"],
    "comments.html": [
        "SELECT 1 # SET x = 1", "SELECT 1 -- get_lock('a', 1)\n, 2", "SELECT 1 --",
        "SELECT /* get_lock('a', 1); */ 1",
        "/* app: shop */ SELECT /**/ 1 /*/ * */",
        "SELECT /*+ MAX_EXECUTION_TIME(1000) NO_MERGE() */ a FROM t",
        "SELECT - -1, 5 - 3 / 2 * -1", "-- x\nSELECT 1", "#\nSELECT 1",
    ],
    "string-literals.html": [
        "SELECT 'it''s; SET x = 1', \"GET_LOCK('a')\" AS x, 'a\\nb', 'a\\\\', \"a \"\"b\"\"\", ''",
        "SELECT 'one' 'two', N'x', _utf8mb4'x', _latin1 'y' COLLATE latin1_bin, 'a\\tb; USE x'",
        r"SELECT '\\', 'C:\\dir\\', '%\_x', 'a' -- '",
        "SELECT b FROM t WHERE b REGEXP '^[a-z]+\\\\.' OR b RLIKE ('x')",
    ],
    "hexadecimal-literals.html": [
        "SELECT x'41', X'41', 0x41, b'101', 0b101, 1e5, .5, 5 % 3, 7 DIV (2), 7 MOD (2)",
    ],
    "identifiers.html": [
        "SELECT `into`, `set`, `call`, `has space`, temporary, `prepare`, handler, nextvalue"
        " FROM k",
        "SELECT k.`into`, Größe AS `größer; SET` FROM k WHERE k.`call` = 1 AND k.temporary < 5",
        "UPDATE k SET temporary = 1, `prepare` = 2, handler = 3",
        "SELECT `x``y` FROM (SELECT 1 AS `x``y`) AS z",
    ],
    "user-variables.html": [
        "SELECT @x, @`a b`, @'c', @\"d\"", "SELECT a FROM t WHERE b = @x", "SELECT @x = 1",
    ],
    "using-system-variables.html": [
        "SELECT @@autocommit, @@session.sql_mode, @@GLOBAL.max_connections",
    ],
    "functions.html": [
        "SELECT count(*), count(DISTINCT a), sum(a), avg(c), min(b), max(d), std(a) FROM t",
        "SELECT coalesce(b, ''), ifnull(b, ''), nullif(a, 1), if(a > 1, 'x', 'y'), greatest(1,"
        " 2) FROM t",
        "SELECT concat(b, 'x'), concat_ws(',', a, b), lower(b), upper(b), char_length(b),"
        " left(b, 2) FROM t",
        "SELECT group_concat(DISTINCT b ORDER BY a DESC SEPARATOR '; ') FROM t",
        "SELECT substring(b, 1, 2), substring(b from 1 for 2), trim(both 'x' from b),"
        " replace(b, 'o', '0') FROM t",
        "SELECT now(), now(6), current_timestamp(3), curdate(), unix_timestamp(),"
        " utc_timestamp(), sysdate()",
        "SELECT date_format(d, '%Y-%m-%d %H:%i:%s') FROM t",
        "SELECT date_format(d, '%%Y-%%m-%%d %%H:%%i:%%s') FROM t WHERE a = %s",
        "SELECT date_add(d, INTERVAL 1 DAY), d + interval (1 + 1) day, datediff(d, now()),"
        " year(d) FROM t",
        "SELECT extract(year from d), timestampdiff(HOUR, d, now()), str_to_date('1', '%d'),"
        " date(d) FROM t",
        "SELECT json_extract(j, '$.k[0]'), JSON_UNQUOTE(j), json_object('a', a),"
        " json_arrayagg(a) FROM t",
        "SELECT row_number() OVER (PARTITION BY b ORDER BY a), lag(a, 1) OVER w, rank() OVER w FROM t"
        " WINDOW w AS (ORDER BY (a))",
        "SELECT sum(a) OVER (ORDER BY a ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM t",
        "SELECT * FROM json_table('[1]', '$[*]' COLUMNS (a int PATH '$')) AS x",
        "SELECT * FROM t WHERE MATCH (b) AGAINST ('one' IN BOOLEAN MODE)",
        "SELECT cast(a AS decimal(10, 2)), cast(b AS char(3)), convert(b USING utf8mb4),"
        " convert(a, char) FROM t",
        "SELECT round(c, 2), abs(-1), ceil(1.5), floor(1.5), mod(5, 2), pow(2, 3), rand(),"
        " truncate(1.5, 0) FROM t",
        "SELECT uuid(), md5('x'), sha2('x', 256), hex('x'), crc32('x'), inet_aton('127.0.0.1'),"
        " bin(5)",
        "SELECT (1, 2) = (1, 2), a <=> NULL, 5 BETWEEN (1) AND (9), a IS NULL, !a, ~a, a ^ 1, a"
        " << 1 FROM t",
        "SELECT field(b, 'x'), elt(1, 'a'), find_in_set('a', 'a,b'), interval(1, 2), a IN (1),"
        " a XOR (1) FROM t",
        "SELECT st_distance(point(1, 2), point(3, 4)), st_astext(point(1, 2))",
        "SELECT a FROM t WHERE a = ANY (SELECT a FROM u) OR a > ALL (SELECT a FROM u) OR a ="
        " SOME (SELECT 1)",
        "SELECT benchmark(1, 1), sleep(0), nvl(a, 1), ord('a'), format(1, 2), soundex(b) FROM t",
        "SELECT CASE (a) WHEN (1) THEN (2) ELSE (3) END FROM t",
    ],
    "information-functions.html": [
        "SELECT LAST_INSERT_ID()", "SELECT last_insert_id ( )",
        "SELECT found_rows(), row_count(), connection_id()",
        "SELECT database(), schema(), user(), current_user(), current_user, version(),"
        " charset('x')",
    ],
    "locking-functions.html": ["SELECT is_free_lock('a'), is_used_lock('a')"],
    KB + "table-value-constructors/": ["VALUES (1, 'a'), (2, 'b')"],
    KB + "previous-value-for-sequence_name/": ["SELECT lastval(s)", "SELECT PREVIOUS VALUE FOR s"],
    "commit.html": [
        "START TRANSACTION", "start transaction read only",
        "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ WRITE",
        "BEGIN", "begin work", "COMMIT", "COMMIT WORK", "COMMIT AND NO CHAIN NO RELEASE",
        "ROLLBACK",
        "rollback work and no chain", "COMMIT NO RELEASE",
    ],
    "savepoint.html": ["SAVEPOINT a"],
    "show.html": [
        "SHOW TABLES", "SHOW FULL COLUMNS FROM t", "SHOW VARIABLES LIKE 'sql_mode'",
        "SHOW WARNINGS", "SHOW COUNT(*) WARNINGS",
        "SHOW CREATE TABLE `t`", "SHOW INDEX FROM t", "SHOW PROCESSLIST",
        "SHOW SESSION STATUS WHERE variable_name = 'x'",
        "SHOW ENGINES", "SHOW GRANTS", "SHOW TABLE STATUS",
    ],
    "explain.html": [
        "EXPLAIN SELECT * FROM t", "EXPLAIN FORMAT=JSON UPDATE t SET a = 1",
        "EXPLAIN EXTENDED SELECT 1", "DESC t",
        "describe `t` `a`", "DESCRIBE pool.t a", "EXPLAIN t 'a%'",
    ],
    KB + "analyze-statement/": [
        "ANALYZE SELECT count(*) FROM t", "ANALYZE FORMAT=JSON DELETE FROM u",
    ],
    "create-table.html": [
        "CREATE TABLE n (id bigint AUTO_INCREMENT PRIMARY KEY, a varchar(10) NOT NULL"
        " DEFAULT 'temporary', b decimal(9, 2)"
        " CHECK (b > 0), c int, KEY k (a), UNIQUE KEY `u` (`b`, c), INDEX (c), FOREIGN KEY (c)"
        " REFERENCES t (id)) ENGINE=InnoDB",
        "CREATE TABLE IF NOT EXISTS `n` (`id` int)", "CREATE TABLE n LIKE t",
        "CREATE OR REPLACE TABLE n (a int)",
        "CREATE TABLE n AS SELECT a, lower(b) AS b FROM t",
    ],
    "create-index.html": [
        "CREATE INDEX i ON t (c)", "CREATE UNIQUE INDEX i USING BTREE ON pool.u (id)",
    ],
    "alter-table.html": [
        "ALTER TABLE t ADD COLUMN n varchar(20) DEFAULT 'x', DROP COLUMN c",
        "ALTER TABLE t RENAME TO tt",
                         "ALTER TABLE u ADD INDEX i (a), ADD CONSTRAINT ck CHECK (a > 0)"],
    "rename-table.html": ["RENAME TABLE t TO tt, u TO uu"],
    "drop-table.html": ["DROP TABLE u", "DROP TABLE IF EXISTS pool.u, k"],
    "drop-index.html": ["DROP INDEX a ON t"],
    "drop-view.html": ["DROP VIEW IF EXISTS v"],
    "truncate-table.html": ["TRUNCATE u", "TRUNCATE TABLE u"],
    "analyze-table.html": ["ANALYZE TABLE t", "ANALYZE LOCAL TABLE t, u"],
    "check-table.html": ["CHECK TABLE t QUICK"],
    "checksum-table.html": ["CHECKSUM TABLE t"],
    "optimize-table.html": ["OPTIMIZE TABLE u"],
    "repair-table.html": ["REPAIR NO_WRITE_TO_BINLOG TABLE u"],
}  # fmt: skip

# As above, for what MariaDB or PyMySQL does not have, or what needs something before it.
HARMLESS_UNRUN: dict[str, list[str]] = {
    "select.html": [
        "SELECT a FROM t WHERE a = ? AND b = :b", "SELECT a FROM t FOR UPDATE OF t NOWAIT",
    ],
    "insert.html": ["INSERT INTO t (a) VALUES (1), (2) AS new (x) ON DUPLICATE KEY UPDATE a = new.x"],
    "values.html": ["VALUES ROW(1, 2), ROW(3, 4) ORDER BY column_0"],
    "table.html": ["TABLE t", "TABLE t ORDER BY a LIMIT 1"],
    "json-search-functions.html": ["SELECT j->'$.k', j->>'$.k' FROM t WHERE 1 MEMBER OF (j->'$.k')"],
    "lateral-derived-tables.html": ["SELECT * FROM t, LATERAL (SELECT t.a) AS x (y)"],
    "explain.html": ["EXPLAIN ANALYZE SELECT 1", "EXPLAIN FORMAT = TREE SELECT 1"],
    "savepoint.html": ["ROLLBACK TO SAVEPOINT a", "ROLLBACK WORK TO a", "RELEASE SAVEPOINT a"],
    "miscellaneous-functions.html": ["SELECT BIN_TO_UUID(UUID_TO_BIN(UUID())), ANY_VALUE(a) FROM t"],
    "analyze-table.html": ["ANALYZE TABLE t UPDATE HISTOGRAM ON a WITH 10 BUCKETS"],
}  # fmt: skip

# Statements that change the session, or might.
MAY: dict[str, list[str]] = {
    "set-variable.html": [
        "SET @x = 1", "SET @x := 1, @y = 2", "SET sql_mode = ''", "SET SESSION wait_timeout = 5",
        "SET @@autocommit = 0",
        "SET GLOBAL max_connections = 5", "SET LOCAL time_zone = '+00:00'", "SET PERSIST x = 1",
        "set autocommit=1",
    ],
    "set-names.html": ["SET NAMES utf8mb4", "SET NAMES 'latin1' COLLATE 'latin1_bin'"],
    "set-character-set.html": ["SET CHARACTER SET utf8mb4", "SET CHARSET x"],
    "set-password.html": ["SET PASSWORD = 'x'"],
    "set-role.html": ["SET ROLE a", "SET DEFAULT ROLE a TO b"],
    "set-transaction.html": [
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "SET SESSION TRANSACTION READ ONLY",
    ],
    "set-resource-group.html": ["SET RESOURCE GROUP rg"],
    KB + "set-statement/": ["SET STATEMENT max_statement_time=1 FOR SELECT 1"],
    "use.html": ["USE other", "use `other`"],
    "user-variables.html": [
        "SELECT @x := 1", "SELECT @x:=@x+1 AS n FROM t", "UPDATE t SET a = (@x := a)",
        "SELECT 1 FROM t WHERE @x:=1",
        "SELECT @`x`/**/:=1", "INSERT INTO t (a) VALUES (@x := 5)",
        "DELETE FROM t WHERE (@x := id)", "SELECT @'x' := 1",
        "SELECT 1 LIMIT 1 -- \n, @x:=1", "SELECT 'a', \"b\", @x := `c` FROM t", "SELECT(@x:=1)",
        "VALUES (@x := 1)",
        "WITH x AS (SELECT @a := 1) SELECT * FROM x", "SELECT 1 # x\n, @x := 1",
        "SHOW VARIABLES WHERE (@x := 1)",
        "EXPLAIN SELECT @x := 1", "DO @x := 1", "TABLE t ORDER BY (@x := 1)", "CALL p(@x)",
    ],
    "select-into.html": [
        "SELECT 1 INTO @x", "SELECT a, b FROM t INTO @x, @y", "SELECT a INTO @x FROM t FOR UPDATE",
        "SELECT a FROM t INTO OUTFILE '/tmp/x'", "SELECT a INTO DUMPFILE '/tmp/x' FROM t",
        "TABLE t INTO @x",
        "SELECT 'a'INTO @x", "SELECT 1.5INTO @x", "SELECT .5INTO @x", "SELECT `a`INTO @x FROM t",
        "SELECT 1/**/INTO/**/@x",
        "SELECT \"a\"INTO @x", "(SELECT 1 INTO @x)", "EXPLAIN INTO @x FORMAT=JSON SELECT 1",
        "EXPLAIN FORMAT=JSON INTO @x SELECT 1",
        "VALUES (1) INTO @x", "WITH x AS (SELECT 1) SELECT * FROM x INTO @y",
    ],
    "locking-functions.html": [
        "SELECT GET_LOCK('a', 1)", "select get_lock ('a', 1)", "SELECT `get_lock`('a', 1)",
        "SELECT RELEASE_LOCK('a')",
        "SELECT RELEASE_ALL_LOCKS()", "DO GET_LOCK('a', 1)",
        "SELECT a FROM t WHERE get_lock('a', 1)",
        "SELECT a FROM t ORDER BY GET_LOCK('a', 1)", "INSERT INTO t (a) VALUES (GET_LOCK('a', 1))",
        "SELECT GET_LOCK/**/('a', 1)",
        "UPDATE t SET a = Get_Lock('a', 1)", "SELECT IF(1, GET_LOCK('a', 1), 0)",
        "SELECT get_lock\n\n('a', 1)",
        "SELECT count(*) FROM (SELECT GET_LOCK('a', 1)) AS x",
        "WITH x (y) AS (SELECT GET_LOCK('a', 1)) SELECT y FROM x",
        "EXPLAIN SELECT GET_LOCK('a', 1)", "EXPLAIN ANALYZE SELECT GET_LOCK('a', 1)",
        "ANALYZE SELECT GET_LOCK('a', 1)",
        "SHOW TABLES WHERE GET_LOCK('a', 1)", "SELECT BENCHMARK(1, GET_LOCK('a', 1))",
        "SELECT \"get_lock\"('a', 1)",
        "SELECT 1 UNION (SELECT GET_LOCK('a', 1))", "SELECT - GET_LOCK('a', 1)",
        "SELECT @x, GET_LOCK('a', 1)",
        "VALUES (GET_LOCK('a', 1))", "INSERT INTO t (a) SELECT GET_LOCK('a', 1)",
        "REPLACE INTO t SET a = GET_LOCK('a', 1)",
        "DELETE FROM t WHERE GET_LOCK('a', 1)",
        "SELECT CASE WHEN a THEN GET_LOCK('a', 1) END FROM t",
        "INSERT INTO t (a) VALUES (1) ON DUPLICATE KEY UPDATE a = GET_LOCK('a', 1)",
        "CREATE TABLE n AS SELECT GET_LOCK('a', 1)",
        "SELECT -- x\nGET_LOCK('a', 1)", "SELECT # x\nGET_LOCK('a', 1)",
        "DESCRIBE SELECT GET_LOCK('a', 1)",
        "SELECT {fn GET_LOCK('a', 1)}", "SELECT g\u00e9t_lock('a', 1)",
        "SELECT \u00a0get_lock('a', 1)", "SELECT\vget_lock('a', 1)",
        "SELECT get_loc\u212a('a', 1)", "SELECT 1 -- x\0, GET_LOCK('a', 1)",
        "SELECT 1 # x\0, GET_LOCK('a', 1)",
    ],
    "comments.html": [
        "SELECT /*! GET_LOCK('a', 1), */ 1", "/*!40101 SET NAMES utf8 */",
        "SELECT 1 /*!50000 , @x := 1 */", "SELECT /*!*/ 1",
        "SELECT 1--GET_LOCK('a', 1)", "SELECT 5--3", "SELECT /* /* */ 1 */",
        "SELECT /*+ INDEX(`*/`) */ 1",
    ],
    KB + "comment-syntax/": [
        "SELECT 1 /*M! , @x := 1 */", "SELECT 1 /*M!100100 , 2 */",
        "/*M!SET x = 1*/",
    ],
    "string-literals.html": [
        r"SELECT 'a\'', GET_LOCK(0, 1) -- '", r'SELECT "a\"", GET_LOCK(0, 1) -- "',
        r"SELECT 'a\\\'', GET_LOCK(0, 1) -- '", r"SELECT 'a\', GET_LOCK(0, 1) -- '",
        r"SELECT 'a\', GET_LOCK('x', 1), '", r"SELECT 'a\' , @x := 1 -- '",
        "SELECT \"a\\\" , GET_LOCK('x', 1), \"", r"SELECT 'it\'s'",
        r"SELECT 'a\\\', @x := 1, '", "SELECT 'a''\\', GET_LOCK('x', 1) , '",
    ],
    "sql-mode.html": [
        "SELECT \"a\\\", GET_LOCK('a', 1), \"", "SELECT '\\\\', GET_LOCK('a', 1)",
        "SELECT \"a\" (1)",
    ],
    "information-functions.html": [
        "SELECT LAST_INSERT_ID(5)", "UPDATE t SET id = LAST_INSERT_ID(id + 1)",
        "SELECT last_insert_id /* */ (a) FROM t",
        "INSERT INTO t (id) VALUES (1) ON DUPLICATE KEY UPDATE id = LAST_INSERT_ID(id)",
        "SELECT app.LAST_INSERT_ID()",
    ],
    KB + "next-value-for-sequence_name/": ["SELECT NEXT VALUE FOR s", "SELECT nextval(s)",
    "INSERT INTO t (a) VALUES (next/**/value for s)",
                                           "SELECT s.nextval", "SELECT setval(s, 5)"],
    "lock-tables.html": ["LOCK TABLES t READ", "LOCK TABLE t WRITE", "UNLOCK TABLES"],
    "lock-instance-for-backup.html": ["LOCK INSTANCE FOR BACKUP", "UNLOCK INSTANCE"],
    KB + "backup-stage/": ["BACKUP STAGE START", "BACKUP LOCK t"],
    "flush.html": ["FLUSH TABLES WITH READ LOCK", "FLUSH TABLES t FOR EXPORT", "FLUSH PRIVILEGES"],
    "handler.html": ["HANDLER t OPEN", "HANDLER t READ FIRST", "HANDLER t CLOSE"],
    "prepare.html": ["PREPARE p FROM 'SELECT 1'", "PREPARE p FROM @x"],
    "execute.html": ["EXECUTE p", "EXECUTE p USING @x"],
    KB + "execute-immediate/": ["EXECUTE IMMEDIATE 'SET @x = 1'"],
    "deallocate-prepare.html": ["DEALLOCATE PREPARE p", "DROP PREPARE p"],
    "call.html": ["CALL p()", "call p"],
    "xa-statements.html": [
        "XA START 'x'", "XA END 'x'", "XA PREPARE 'x'", "XA COMMIT 'x' ONE PHASE", "XA RECOVER",
    ],
    "commit.html": [
        "COMMIT AND CHAIN", "COMMIT RELEASE", "ROLLBACK AND CHAIN", "ROLLBACK RELEASE",
        "COMMIT AND NO CHAIN RELEASE",
        "COMMIT WORK AND CHAIN NO RELEASE",
    ],
    KB + "using-compound-statements-outside-of-stored-programs/": [
        "BEGIN NOT ATOMIC SET @x = 1; END", "BEGIN NOT ATOMIC END", "IF (1) THEN SET @x = 1; END IF",
    ],
    "start-replica.html": ["START REPLICA", "START GROUP_REPLICATION", "STOP REPLICA"],
    "create-temporary-table.html": [
        "CREATE TEMPORARY TABLE x (a int)", "create temporary table if not exists x select 1",
        "CREATE/**/TEMPORARY/**/TABLE x LIKE t",
        "CREATE OR REPLACE TEMPORARY TABLE x (a int)", "DROP TEMPORARY TABLE x",
        "CREATE TABLE x (a int DEFAULT (f()))",
    ],
    "create-database.html": ["CREATE DATABASE x", "CREATE SCHEMA x"],
    "alter-database.html": [
        "ALTER DATABASE pool CHARACTER SET latin1", "ALTER SCHEMA CHARACTER SET latin1",
    ],
    "drop-database.html": ["DROP DATABASE pool", "DROP SCHEMA pool"],
    "create-function.html": ["CREATE FUNCTION f() RETURNS int RETURN 1", "DROP FUNCTION f"],
    "create-procedure.html": ["CREATE PROCEDURE p() SET @x = 1"],
    "create-trigger.html": ["CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW SET @x = 1"],
    "create-event.html": ["CREATE EVENT e ON SCHEDULE AT now() DO SET @x = 1"],
    "create-view.html": ["CREATE VIEW w AS SELECT 1"],
    KB + "create-sequence/": [
        "CREATE TEMPORARY SEQUENCE x", "CREATE SEQUENCE x",
        "ALTER SEQUENCE s RESTART 5",
    ],
    "create-user.html": [
        "CREATE USER a", "ALTER USER a PASSWORD EXPIRE", "DROP USER a", "RENAME USER a TO b",
    ],
    "grant.html": ["GRANT a TO b", "REVOKE a FROM b"],
    "load-data.html": ["LOAD DATA LOCAL INFILE 'x' INTO TABLE t (@a, b) SET c = @a"],
    "load-xml.html": ["LOAD XML INFILE 'x' INTO TABLE t"],
    "import-table.html": ["IMPORT TABLE FROM 'x.sdi'"],
    "get-diagnostics.html": [
        "GET DIAGNOSTICS @n = NUMBER", "GET CURRENT DIAGNOSTICS CONDITION 1 @x = MYSQL_ERRNO",
    ],
    "signal.html": ["SIGNAL SQLSTATE '45000'", "RESIGNAL"],
    "kill.html": ["KILL 5", "KILL QUERY 5"],
    "install-plugin.html": ["INSTALL PLUGIN a SONAME 'b'", "UNINSTALL PLUGIN a"],
    "install-component.html": ["INSTALL COMPONENT 'a' SET x = 1"],
    "binlog.html": ["BINLOG 'x'"],
    "cache-index.html": ["CACHE INDEX t IN hot", "LOAD INDEX INTO CACHE t"],
    "change-replication-source-to.html": [
        "CHANGE REPLICATION SOURCE TO x = 1", "CHANGE MASTER TO x = 1",
    ],
    "purge-binary-logs.html": ["PURGE BINARY LOGS TO 'x'"],
    "reset.html": ["RESET MASTER", "RESET PERSIST"],
    "help.html": ["HELP 'SELECT'"],
    "clone.html": ["CLONE LOCAL DATA DIRECTORY = 'x'"],
    "restart.html": ["RESTART", "SHUTDOWN"],
    "stored-routines.html": [
        "SELECT my_function(1)", "SELECT app.f()", "SELECT `app`.`lower`('A')",
        "SELECT `lower`('A')",
                             "INSERT INTO t SELECT my_udf(a) FROM u",
                             "SELECT value(1), offset(2), returning(3)"],
    "functions.html": [
        "SELECT MASTER_POS_WAIT('a', 1)", "SELECT LOAD_FILE('/etc/passwd')",
        "SELECT 1 PROCEDURE ANALYSE()",
    ],
    "mysql-commands.html": ["DELIMITER //", "\\u other", "source x.sql"],
    "c-api-multiple-queries.html": [
        "SELECT 1; SELECT 2", "SELECT 1; SET @x = 1", ";SELECT 1", "", " ", "--", "# x", "/* */",
        ";", "SELECT 'open", "SELECT `open",
        "SELECT \"open", "SELECT /* open", "hello", "'SELECT' 1", "`SELECT` 1", "\ufeffSELECT 1",
        "SELECT $a", "SELECT \\N",
        "SELECT 1; # x\n ; SET @x = 1",
    ],
    "https://pymysql.readthedocs.io/en/latest/modules/cursors.html": [
        "SELECT '%s'", "SELECT `%s`", "SELECT 1 /* %s */", "SELECT 1 -- %(name)s", "SELECT 1 # %s",
        "SELECT \"%s\"", "SELECT %s(1)",
        "SELECT %(name)s (1)", "SELECT %s get_lock('a', 1)",
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
    tables = (HARMLESS, HARMLESS_UNRUN)
    harmless = {sql for table in tables for sqls in table.values() for sql in sqls}
    harmful = {sql for sqls in MAY.values() for sql in sqls}

    assert len(harmless) >= 120
    assert len(harmful) >= 120
    assert not harmless & harmful


# -- MariaDB's own word ---------------------------------------------------------------------------

# What every statement leaves, or the time of day.
OF_THE_LAST_STATEMENT = {
    "error_count", "identity", "insert_id", "last_gtid", "last_insert_id", "rand_seed1",
    "rand_seed2",
    "timestamp", "warning_count", "gtid_binlog_pos", "gtid_current_pos", "gtid_binlog_state",
}  # fmt: skip


class Session:
    """A connection of PyMySQL, and what can be read of its session."""

    def __init__(self, server: servers.Server) -> None:
        pymysql = servers.driver_module("pymysql")
        self.error: type[Exception] = pymysql.Error
        self.server = server
        self.conn = pymysql.connect(**server.arguments("pymysql"), charset="utf8mb4")
        self.cursor = self.conn.cursor()

    def renew(self) -> None:
        """Give the database its first content, in autocommit mode."""
        self.conn.autocommit(True)
        database = self.server.database
        self.cursor.execute("SET foreign_key_checks = 0")
        self.cursor.execute("SHOW FULL TABLES")
        for name, kind in self.cursor.fetchall():
            what = {"VIEW": "VIEW", "SEQUENCE": "SEQUENCE"}.get(kind, "TABLE")
            self.cursor.execute(f"DROP {what} `{database}`.`{name}`")
        self.cursor.execute("SET foreign_key_checks = 1")
        for sql in SCHEMA:
            self.cursor.execute(sql)

    def run(self, sql: str, *, autocommit: bool) -> bool:
        """Run it, and end the transaction that it ran in; whether it succeeded."""
        self.conn.autocommit(autocommit)
        try:
            self.cursor.execute(sql, arguments(sql))
            self.cursor.fetchall()
            return True
        except self.error:
            return False
        finally:
            self.conn.rollback()

    def ask(self, sql: str) -> Any:
        try:
            self.cursor.execute(sql)
        except self.error as exc:
            return exc.args[0]
        return self.cursor.fetchall()

    def fingerprint(self) -> Any:
        self.conn.autocommit(True)
        variables = {
            name: value
            for name, value in self.ask("SHOW SESSION VARIABLES")
            if name not in OF_THE_LAST_STATEMENT
        }
        return [
            variables,
            self.ask("SELECT variable_name, variable_value FROM information_schema.user_variables"),
            self.ask("SELECT database(), current_role(), is_used_lock('a')"),
            self.ask("SHOW STATUS LIKE 'Prepared_stmt_count'"),
            [self.ask(f"SELECT count(*) < 0 FROM {name}") for name in ("x", "mysql.plugin")],
            self.ask("HANDLER t READ FIRST") == 1109,
        ]


def arguments(sql: str) -> Any:
    """`'7'` for each parameter; none if there are none."""
    if re.search(r"%\(\w+\)s", sql):
        return dict.fromkeys("abcdefgh", "7")
    if "%H" in sql.replace("%%", "") or "%smith" in sql:
        return None
    values = ["7"] * len(re.findall(r"(?<!%)(?:%%)*%s", sql))
    return values if values or "%%" in sql else None


@pytest.fixture(scope="module")
def session(mariadb_server: servers.Server) -> Iterator[Session]:
    session = Session(mariadb_server)
    yield session
    session.conn.close()


@pytest.mark.parametrize("sql", rows(HARMLESS))
def test_mariadb_agrees_that_the_session_did_not_change(session: Session, sql: str) -> None:
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
        "SET @x = 1", "SELECT @x := 1", "SELECT 1 INTO @x", "SELECT 1.5INTO @x",
        "SET wait_timeout = 77",
        "SET NAMES latin1", "SET ROLE pool_role", "USE pool_other", "SELECT GET_LOCK('a', 1)",
        "SELECT gét_lock('a', 1)",
        "SELECT GET_LOCK/**/('a', 1)", "DO GET_LOCK('a', 1)", "LOCK TABLES t READ",
        "HANDLER t OPEN",
        "PREPARE p FROM 'SELECT 1'", "CREATE TEMPORARY TABLE x (a int)",
        "SELECT /*! GET_LOCK('a', 1), */ 1",
        "SELECT 1 /*M! , @x := 1 */", "BEGIN NOT ATOMIC SET @x = 1; END",
        r"SELECT 'a\' , @x := 1 -- '', @y := 2",
        "SHOW VARIABLES WHERE GET_LOCK('a', 1)", "ANALYZE SELECT GET_LOCK('a', 1)",
        "SELECT {fn GET_LOCK('a', 1)}",
        "EXECUTE IMMEDIATE 'SET @x = 1'", "GET DIAGNOSTICS @n = NUMBER", "SELECT @'x' := 1",
    ],
)  # fmt: skip
def test_the_fingerprint_sees_real_changes(mariadb_server: servers.Server, sql: str) -> None:
    session = Session(mariadb_server)
    session.renew()
    before = session.fingerprint()

    ran = session.run(sql, autocommit=True)
    changed = session.fingerprint() != before
    session.conn.close()

    assert may(sql)
    assert changed or not ran
    assert ran or sql.startswith(("SELECT g\u00e9t", "SELECT 'a"))


# Listed above, and not in every version or only in one of the two databases.
NOT_EVERYWHERE = set(
    """
any_value bin_to_uuid format_bytes format_pico_time grouping gtid_subset gtid_subtract icu_version
is_uuid json_array_intersect json_key_value json_object_filter_keys json_object_to_array
json_schema_valid json_schema_validation_report json_storage_free json_storage_size kdf
months_between ps_current_thread_id ps_thread_id regexp_like statement_digest statement_digest_text
to_date to_number uuid_to_bin uuid_v4 uuid_v7 validate_password_strength vec_distance
vec_distance_cosine vec_distance_euclidean vec_fromtext vec_totext geometrycollection linestring
mbrcoveredby mbrcovers multilinestring multipoint multipolygon point polygon st_buffer_strategy
st_collect st_frechetdistance st_geohash st_hausdorffdistance st_isvalid st_latfromgeohash
st_latitude st_lineinterpolatepoint st_longfromgeohash st_longitude st_makeenvelope
st_pointatdistance st_pointfromgeohash st_simplify st_swapxy st_transform st_validate lateral
""".split()
)

UNKNOWN_FUNCTION = 1305  # https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html


def words(text: str) -> set[str]:
    return set(text.split())


def test_every_listed_name_is_built_in_or_of_the_grammar(session: Session) -> None:
    listed = words(
        statements._FUNCTIONS + statements._SPATIAL + statements._TYPES + statements._GRAMMAR
    )
    unknown = {name for name in listed if session.ask(f"SELECT {name}()") == UNKNOWN_FUNCTION}

    assert len(listed) > 350
    assert unknown <= NOT_EVERYWHERE


def test_no_call_of_a_listed_function_leaves_a_trace(session: Session) -> None:
    """Each with no, one, two and three arguments; most of these calls fail."""
    session.renew()
    before = session.fingerprint()
    names = words(statements._FUNCTIONS + statements._SPATIAL) - {"benchmark", "sleep"}
    called = {
        name
        for name in names
        for count in range(4)
        if isinstance(session.ask(f"SELECT {name}({','.join('1' * count)})"), tuple)
    }

    assert len(called) > 180
    assert session.fingerprint() == before


# -- whatever stands around it --------------------------------------------------------------------

DIRTY_CALLS = [
    "get_lock('a', 1)", "release_lock('a')", "release_all_locks()", "last_insert_id(5)",
    "nextval(s)", "setval(s, 1)",
    "`get_lock`('a', 1)", "my_function(1)", "app.f(1)", "load_file('x')", "app.lower('a')",
    "`lower`('a')",
]  # fmt: skip
DIRTY = [
    "set @x = 1", "use x", "call p ( )", "prepare p from 'x'", "execute p", "lock tables t read",
    "handler t open",
    "create temporary table x ( a int )", "drop temporary table x", "select 1 into @x",
    "select a from t into @x , @y",
    "select @x := 1", "update t set a = @x := 1", "xa start 'x'", "flush tables",
    "select next value for s", "get diagnostics @n = number",
    "commit and chain", "rollback release", "begin not atomic end", "execute immediate 'x'",
    "drop database x", "select 1.5into @x",
]  # fmt: skip
CLEAN = [
    "select a , count(*) from t where b = %s group by a",
    "insert into t ( a , b ) values ( %s , 'x' )",
    "update t set a = a + 1 where b in ( 1 , 2 )", "delete from t where id = %(id)s limit 1",
    "with x ( a ) as ( select 1 ) select * from x join t using ( a )",
    "select lower( b ) over ( order by a ) from `t`",
    "replace into t set a = @x , b = \"y\"",
    "insert into t ( a ) values ( 1 ) on duplicate key update a = values( a )",
]  # fmt: skip
HIDING = [
    "set x=1",
    "get_lock('a',1)",
    ";",
    "into @x",
    "--",
    "/*",
    "*/",
    "@x := 1",
    "'",
    '"',
    "`",
    "#",
]

blanks = st.sampled_from(
    [" ", "\t", "\n", "\r\n", "\f", "/**/", "/* 'x */", '-- "x\n', "/* ; */", "--\n", "# `\n"]
)
gaps = st.lists(blanks, min_size=1, max_size=3).map("".join)
fillers = st.lists(blanks, max_size=3).map("".join)
ends = st.sampled_from(["", ";", " ;", "; -- x", ";/* y */", " # z"])


@st.composite
def dressed(draw: st.DrawFn, text: str) -> str:
    """`text` in mixed case, and its blanks replaced by others."""
    pieces = []
    for word in text.split(" "):
        capitals = draw(st.booleans()) and not set(word) & set("%'\"`")
        pieces.append((word.upper() if capitals else word) + draw(gaps))
    return "".join(pieces)


places = st.sampled_from([
    "select {}", "select 1 , {} as x", "select a from t where ( a = {} )",
    "with x ( y ) as ( select {} ) select * from x",
    "with x as ( select 1 ) , y ( z ) as ( select {} ) select 1",
    "insert into t ( a ) values ( {} )", "insert into t select {}",
    "insert into t set a = {}", "replace t ( a ) values ( {} )", "update t set a = {}",
    "values ( {} )", "select ( select {} )",
    "select case when true then {} end", "select lower( {} )", "select a from t order by {}",
    "delete from t where {}",
    "select 1 union select {}", "explain analyze select {}", "( select {} )",
    "create table x as select {}", "do {}", "select if( 1 , {} , 2 )",
    "select group_concat( a separator 'x' ) , {}", "select -{}", "select 1 + {}",
    "select 'x' or {}", "show tables where {}",
    "select 'a' , `b` , \"c\" , {}",
    "insert into t ( a ) values ( 1 ) on duplicate key update a = {}", "select 1 div {}",
    "select sum( a ) over ( order by {} ) from t", "analyze format=json select {}",
    "select binary {}", "select @x , {}", "select a as x , {}",
])  # fmt: skip


@generated
@given(st.sampled_from(DIRTY_CALLS), places, st.data())
def test_a_dirtying_call_is_found_everywhere(call: str, place: str, data: st.DataObject) -> None:
    before, after = (data.draw(dressed(part)) for part in place.split("{}"))
    name, paren, rest = call.partition("(")
    name = data.draw(st.sampled_from([name, name.upper(), name.title()]))
    spaced = name + data.draw(fillers) + paren + rest

    assert may(data.draw(fillers) + before + spaced + after + data.draw(ends))


@generated
@given(st.sampled_from(DIRTY).flatmap(dressed), fillers, ends)
def test_a_dirtying_statement_is_found_in_any_dress(sql: str, before: str, end: str) -> None:
    assert may(before + sql + end)


@generated
@given(st.sampled_from(DIRTY), st.sampled_from(CLEAN), fillers)
def test_a_dirtying_statement_is_found_behind_another(dirty: str, clean: str, blank: str) -> None:
    assert may(f"{clean};{blank}{dirty}")


@generated
@given(
    st.sampled_from([*DIRTY, *CLEAN]),
    st.sampled_from(
        ["/*!{}*/", "/*!50000 {} */", "/*M!{}*/", "/*M!100100 {}*/", "select 1 /*!,{}*/"]
    ),
)
def test_what_the_server_runs_in_comments_may(sql: str, comment: str) -> None:
    assert may(comment.format(sql))
    assert may("select 1 " + comment.format(sql))


def quoted(text: str) -> st.SearchStrategy[str]:
    """`text` as a literal, in a way that means the same in every `sql_mode`."""
    return st.sampled_from(
        ["'" + text.replace("'", "''") + "'", '"' + text.replace('"', '""') + '"']
    )


def comment(text: str) -> str:
    return "/* " + re.sub(r"\*/|/\*", "", text).rstrip("/") + " */"


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
    *HIDING, "select", "(", ")", "\\'", "\\", "/*!", "/*M!", "@", ":=", ".", ",", "%", "%s",
    "%(a)s", "a", "into", "get_lock", "as",
    "with", "\x00", "\u00a0", "1", "{", "}", "$", "\r", "\n", ":", "-", "/",
]  # fmt: skip


@generated
@given(
    st.one_of(st.text(max_size=80), st.lists(st.sampled_from(GARBAGE), max_size=25).map("".join))
)
def test_any_text_gets_an_answer(sql: str) -> None:
    assert may(sql) in (True, False)


# What may open or close something that hides an assignment, or only seem to.
EDGES = [
    "'", '"', "`", "''", '""', "``", "'''", r"'\'", r"'\\'", r'"\"', r'"\\"', "/*", "*/", "/*/",
    "/*!", "/*M!", "/*!*/", "/*! */",
    "--", "-- ", "-- \n", "--\n", "--\t", "#", "#\n", "# '\n", "\n", "\r", "\0", "as '", "as `",
    'as "', "'x' '", "_utf8mb4'", "n'",
    "x'", "%", "- -", "-", ", '", ", 'a' '", "/*+", "/* /*", "*/ */", "-- x\r", "--1", "+ '", "\\",
]  # fmt: skip
EXPRESSIONS = [
    "1",
    "'a'",
    '"\'"',
    "'it''s'",
    "1 /* ' */",
    "2 -- '\n",
    "null",
    '2 # "\n',
    "1 as `x'`",
    "'\"'",
    r"'\\'",
]
MODES = ["", "ANSI_QUOTES", "NO_BACKSLASH_ESCAPES", "ANSI_QUOTES,NO_BACKSLASH_ESCAPES"]


@settings(generated, max_examples=3 * EXAMPLES)
@given(
    st.lists(st.sampled_from(EXPRESSIONS), min_size=1, max_size=2).map(", ".join),
    st.lists(st.sampled_from(EDGES), max_size=2).map(" ".join),
    st.lists(st.sampled_from(EDGES), max_size=3).map("".join),
    st.sampled_from(MODES),
)
def test_mariadb_never_changes_behind_a_harmless_verdict(
    session: Session, first: str, opened: str, closed: str, mode: str
) -> None:
    """An assignment between what may hide it, judged by MariaDB's own lexer, in any `sql_mode`."""
    sql = f"select {first} {opened} , @seen := 1 {closed}"
    session.ask(f"SET sql_mode = '{mode}', @seen = NULL")
    session.ask(sql)
    seen = session.ask("SELECT @seen")
    session.ask("SET sql_mode = DEFAULT")

    assert may(sql) or seen == ((None,),)


# -- time -----------------------------------------------------------------------------------------

PIECES = [
    " ", "\n", "a", "a ", "a.", "a(", "(", ")", "'", "''", "'a", "'\\", "\\", '"', '""', "`", "``",
    "$", "#", "-- ", "--", "-", "/",
    "/*", "*/", "*", "/**/", "/*+", "/*!", ",", ", a (", ",a(b)as(", ", a (b, ", "as ", "with ",
    "insert into ", "select into ", "%", "%%",
    "%s", "%(", "%(a)s", "@", ":", ":=", "replace ", "last_insert_id(", "next ", "format = ",
    "extended ", "on ", "index on ", ";", "; ",
    "1", "1.", "\u00e9", "'%s' ", "as (", "(a", "work ", "and no chain ",
]  # fmt: skip
HEADS = [
    "", "select ", "select '", "explain ", "desc ", "analyze ", "commit ", "rollback to ",
    "start transaction ", "create table ",
    "create index ", "alter table ", "with ", "insert ", "show ",
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
    classify = Classifier(MYSQL)
    texts = [sql for sqls in HARMLESS.values() for sql in sqls]

    assert not any(map(classify, texts))
    assert classify.harmless == set(texts)
