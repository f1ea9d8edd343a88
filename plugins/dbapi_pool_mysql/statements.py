"""MySQL's and MariaDB's `Dialect`: which statements cannot change a session there.

Lexical rules as in https://dev.mysql.com/doc/refman/8.4/en/language-structure.html and
https://mariadb.com/kb/en/sql-language-structure/; where `sql_mode` gives a text two meanings
(NO_BACKSLASH_ESCAPES, ANSI_QUOTES), it must be harmless in both. A call of a function that is not
listed here may change the session. It must never know a connection. Not seen, and so documented:

* what a stored function of the application's own does behind a view, trigger or default, or under
  the name of a listed one;
* what every statement leaves: `LAST_INSERT_ID()`, `FOUND_ROWS()`, `ROW_COUNT()`, warnings, the state
  of `RAND()`;
* changes to temporary tables that the pool's `setup` made;
* anything in `sql_mode=ORACLE`, whose grammar is another.
"""

from __future__ import annotations

import re

from dbapi_pool.drivers.sql import Dialect, Rule, called, harmless

__all__ = ["MYSQL"]

# https://dev.mysql.com/doc/refman/8.4/en/built-in-function-reference.html and
# https://mariadb.com/kb/en/built-in-functions/. Left out on purpose: GET_LOCK, RELEASE_LOCK,
# RELEASE_ALL_LOCKS, NEXTVAL, SETVAL, LAST_INSERT_ID(n), LOAD_FILE, and what waits for replicas.
_FUNCTIONS = """
abs acos adddate addtime add_months aes_decrypt aes_encrypt any_value ascii asin atan atan2 avg
benchmark bin bin_to_uuid bit_and bit_count bit_length bit_or bit_xor ceil ceiling character_length
charset char_length chr coalesce coercibility collation column_add column_check column_create
column_delete column_exists column_get column_json column_list compress concat concat_ws connection_id
conv convert_tz cos cot count crc32 crc32c cume_dist curdate current_role curtime datediff date_add
date_format date_sub day dayname dayofmonth dayofweek dayofyear decode_histogram degrees dense_rank elt
exp export_set extract extractvalue field find_in_set first_value floor format format_bytes
format_pico_time found_rows from_base64 from_days from_unixtime get_format greatest grouping
group_concat gtid_subset gtid_subtract hex hour icu_version ifnull inet6_aton inet6_ntoa inet_aton
inet_ntoa instr isnull is_free_lock is_ipv4 is_ipv4_compat is_ipv4_mapped is_ipv6 is_used_lock is_uuid
json_array json_arrayagg json_array_append json_array_insert json_array_intersect json_compact
json_contains json_contains_path json_depth json_detailed json_equals json_exists json_extract
json_insert json_keys json_key_value json_length json_loose json_merge json_merge_patch
json_merge_preserve json_normalize json_object json_objectagg json_object_filter_keys
json_object_to_array json_overlaps json_pretty json_query json_quote json_remove json_replace
json_schema_valid json_schema_validation_report json_search json_set json_storage_free
json_storage_size json_table json_type json_unquote json_valid json_value kdf lag lastval last_day
last_value lcase lead least length lengthb ln locate log log10 log2 lower lpad ltrim makedate maketime
make_set max md5 median microsecond mid min minute month monthname months_between name_const
natural_sort_key now nth_value ntile nullif nvl nvl2 oct octet_length ord percentile_cont
percentile_disc percent_rank period_add period_diff pi position pow power ps_current_thread_id
ps_thread_id quarter quote radians rand random_bytes rank regexp_instr regexp_like regexp_replace
regexp_substr reverse round row_count row_number rpad rtrim schema second sec_to_time session_user
sformat sha sha1 sha2 sign sin sleep soundex space sqrt statement_digest statement_digest_text std
stddev stddev_pop stddev_samp strcmp str_to_date subdate substr substring substring_index subtime sum
sysdate system_user sys_guid tan timediff timestampadd timestampdiff time_format time_to_sec to_base64
to_char to_date to_days to_number to_seconds trim ucase uncompress uncompressed_length unhex
unix_timestamp updatexml upper user utc_date utc_time utc_timestamp uuid uuid_short uuid_to_bin
uuid_v4 uuid_v7 validate_password_strength variance var_pop var_samp vec_distance
vec_distance_cosine vec_distance_euclidean vec_fromtext vec_totext version week weekday weekofyear
weight_string year yearweek
"""

# https://dev.mysql.com/doc/refman/8.4/en/spatial-function-reference.html and
# https://mariadb.com/kb/en/geographic-functions/
_SPATIAL = """
geometrycollection linestring mbrcontains mbrcoveredby mbrcovers mbrdisjoint mbrequals mbrintersects
mbroverlaps mbrtouches mbrwithin multilinestring multipoint multipolygon point polygon st_area
st_asbinary st_asgeojson st_astext st_aswkb st_aswkt st_boundary st_buffer st_buffer_strategy
st_centroid st_collect st_contains st_convexhull st_crosses st_difference st_dimension st_disjoint
st_distance st_distance_sphere st_endpoint st_envelope st_equals st_exteriorring st_frechetdistance
st_geohash st_geomcollfromtext st_geomcollfromwkb st_geometryfromtext st_geometryfromwkb st_geometryn
st_geometrytype st_geomfromgeojson st_geomfromtext st_geomfromwkb st_hausdorffdistance
st_interiorringn st_intersection st_intersects st_isclosed st_isempty st_isring st_issimple st_isvalid
st_latfromgeohash st_latitude st_length st_lineinterpolatepoint st_linefromtext st_linefromwkb
st_longfromgeohash st_longitude st_makeenvelope st_mlinefromtext st_mpointfromtext st_mpolyfromtext
st_numgeometries st_numinteriorrings st_numpoints st_overlaps st_pointatdistance st_pointfromgeohash
st_pointfromtext st_pointfromwkb st_pointn st_pointonsurface st_polyfromtext st_polyfromwkb st_relate
st_simplify st_srid st_startpoint st_swapxy st_symdifference st_touches st_transform st_union
st_validate st_within st_x st_y
"""

# https://dev.mysql.com/doc/refman/8.4/en/data-types.html: the reserved ones, as types
# with a length, and those that are functions.
_TYPES = """
bigint binary blob char character date dec decimal double float int integer mediumint numeric real
smallint time timestamp tinyint varbinary varchar
"""

# https://dev.mysql.com/doc/refman/8.4/en/keywords.html: words of the grammar that stand in front of
# parentheses, and are reserved or have no function's name.
_GRAMMAR = """
all and any as between by case cast check convert cross current_date current_time current_timestamp
current_user database default distinct distinctrow div else except exists for force from fulltext
having if in index insert intersect interval join key lateral left like limit localtime
localtimestamp match mod not on or outer over partition primary regexp repeat replace right rlike row
select set straight_join then truncate union unique use using values when where with xor
"""

# Words that are both: of the grammar only behind these.
_PHRASES = frozenset({
    "< SOME", "= SOME", "> SOME", "MEMBER OF", "BY HASH", "BY LIST", "BY RANGE",
})  # fmt: skip

_KNOWN = frozenset(f"{_FUNCTIONS} {_SPATIAL} {_TYPES} {_GRAMMAR}".upper().split())

# Behind these a name with parentheses is a table with columns, or an index.
_INTRODUCING = frozenset({"IGNORE", "INDEX", "INSERT", "KEY", "REPLACE"})
_INSERTED_INTO = re.compile(
    r"\b(?:INSERT|REPLACE)\s+(?:(?:DELAYED|HIGH_PRIORITY|LOW_PRIORITY)\s+)?(?:IGNORE\s+)?INTO\b"
)
# A number with a point or an exponent needs no blank behind it.
_INTO = re.compile(r"(?<![\w'\"])(?:\d\w*)?INTO(?![\w'\"])").search
# Without an argument it only reads:
# https://dev.mysql.com/doc/refman/8.4/en/information-functions.html#function_last-insert-id
_LAST_INSERT_ID = re.compile(r"(?<![\w.'\"@])LAST_INSERT_ID\s*\(\s*\)")
# https://mariadb.com/kb/en/next-value-for-sequence_name/
_NEXT_VALUE = re.compile(r"\bNEXT\s+VALUE\b").search


def _rows(bare: str) -> bool:
    """For all that reads and writes rows: INTO sets variables, functions may do anything."""
    text = _LAST_INSERT_ID.sub(" 0 ", bare)
    if _NEXT_VALUE(text) or _INTO(_INSERTED_INTO.sub(" ", text)):
        return True
    return not all(
        before in _INTRODUCING or name in _KNOWN or f"{before} {name}" in _PHRASES
        for before, name in called(text)
    )


_READS = re.compile(r"[\s(]*(?:SELECT|TABLE|VALUES|WITH)\b").match
# FOR UPDATE and FOR SHARE, LOCK IN SHARE MODE, and what a WITH may begin. Any doubt is a lock.
_LOCKS = re.compile(
    r"(?<![\w'\"])(?:\d\w*)?(?:DELETE|FOR|INSERT|INTO|LOCK|REPLACE|UPDATE)(?![\w'\"])"
).search


# Functions that open no table, and words that stand like them. LASTVAL opens a sequence, CONVERT_TZ
# the server's time zones, spatial ones its reference systems.
_COMPUTING = frozenset(
    """
    AND AS CAST COALESCE CONCAT CONNECTION_ID CURDATE CURRENT_DATE CURRENT_ROLE CURRENT_TIME
    CURRENT_TIMESTAMP CURRENT_USER CURTIME DATABASE FOUND_ROWS IF IN LAST_INSERT_ID LOCALTIME
    LOCALTIMESTAMP NOW OR PI RAND ROW_COUNT SCHEMA SELECT SESSION_USER SLEEP SYSDATE SYSTEM_USER
    UNIX_TIMESTAMP USER UTC_DATE UTC_TIME UTC_TIMESTAMP UUID VERSION
    """.split()
)
_OPENS = re.compile(r"(?<![\w'\"])(?:\d\w*)?(?:FROM|JOIN|TABLE|VALUES|WITH)(?![\w'\"])").search


def _only_reads(bare: str) -> bool:
    return _READS(bare) is not None and not _LOCKS(bare)


def _is_inert(bare: str) -> bool:
    # Where no table is opened, no transaction begins: `SELECT 1`, `SELECT NOW(), @@version`.
    return not _OPENS(bare) and all(name in _COMPUTING for _, name in called(bare))


_EXPLAIN = re.compile(
    r"\s*(?:EXPLAIN|DESCRIBE|DESC|ANALYZE)\b"
    r"(?:\s+(?:ANALYZE|EXTENDED|PARTITIONS|FORMAT\s*=\s*(?:\w+|'\w+'|\"\w+\")))*"
)
_TABLE_AND_COLUMN = re.compile(
    r"""\s*(?:\w+|"\w+")(?:\s*\.\s*(?:\w+|"\w+"))?(?:\s+['"]?\w+['"]?)?\s*$"""
).match
_ROWS = ("SELECT", "INSERT", "REPLACE", "UPDATE", "DELETE", "WITH", "VALUES", "TABLE", "DO")
_FIRST = re.compile(r"[\s(]*(\w+)").match

_TRANSACTION = re.compile(
    r"\s*(?:BEGIN(?:\s+WORK)?|START\s+TRANSACTION\b[\w\s,]*$"
    r"|(?:COMMIT|ROLLBACK)(?:\s+WORK)?(?:\s+AND\s+NO\s+CHAIN)?(?:\s+NO\s+RELEASE)?"
    r"|ROLLBACK(?:\s+WORK)?\s+TO\s.*|RELEASE\s+SAVEPOINT\s.*)\s*$",
    re.DOTALL,
).match
_CREATE = re.compile(
    r"\s*CREATE\s+(?:(?:OR\s+REPLACE\s+)?TABLE\b"
    r"|(?:OR\s+REPLACE\s+)?(?:(?:UNIQUE|FULLTEXT|SPATIAL)\s+)?INDEX\b[^(]*(?=\())"
)
_OF_TABLES = re.compile(
    r"\s*(?:ALTER(?:\s+(?:ONLINE|IGNORE))?|DROP|RENAME|CHECK|CHECKSUM|OPTIMIZE|REPAIR|ANALYZE)"
    r"(?:\s+(?:NO_WRITE_TO_BINLOG|LOCAL))?\s+TABLE\b|\s*DROP\s+(?:VIEW|INDEX)\b"
).match


def _explain(bare: str) -> bool:
    # EXPLAIN ANALYZE and MariaDB's ANALYZE run the statement, and any may evaluate constants of it.
    if _OF_TABLES(bare):
        return _rows(bare)
    rest = _EXPLAIN.sub("", bare, count=1)
    first = _FIRST(rest)
    if first and first[1] in _ROWS:
        return _rows(rest)
    return not _TABLE_AND_COLUMN(rest)


def _transaction(bare: str) -> bool:
    # Not with CHAIN or RELEASE, nor the compound statement BEGIN NOT ATOMIC:
    # https://dev.mysql.com/doc/refman/8.4/en/commit.html,
    # https://mariadb.com/kb/en/using-compound-statements-outside-of-stored-programs/
    return not _TRANSACTION(bare)


def _create(bare: str) -> bool:
    found = _CREATE.match(bare)
    if found is None:
        return True
    rest = bare[found.end() :]
    return _rows(f"TABLE {rest}" if found[0].endswith("TABLE") else rest)


def _of_tables(bare: str) -> bool:
    return not _OF_TABLES(bare) or _rows(bare)


def _rules() -> dict[str, Rule]:
    # Not ALTER, CREATE or DROP DATABASE: they change the current one, or its character set.
    return {
        **dict.fromkeys((*_ROWS, "SHOW"), _rows),
        **dict.fromkeys(("BEGIN", "START", "COMMIT", "ROLLBACK", "RELEASE"), _transaction),
        **dict.fromkeys(("SAVEPOINT", "TRUNCATE"), harmless),
        **dict.fromkeys(("EXPLAIN", "DESCRIBE", "DESC", "ANALYZE"), _explain),
        **dict.fromkeys(
            ("ALTER", "DROP", "RENAME", "CHECK", "CHECKSUM", "OPTIMIZE", "REPAIR"), _of_tables
        ),
        "CREATE": _create,
    }


MYSQL = Dialect(
    rules=_rules(),
    reading=_only_reads,
    inert=_is_inert,
    # A sequence is read like a column in sql_mode=ORACLE.
    denied=frozenset({"NEXTVAL"}),
    # Not `:=`, `{`, `$` in names, `\N`, nor `--` without a blank.
    plain=r"[\w \t\n\f\r(),.<>=!|&~+*;?@^]+|:(?!=)|-(?!-)|/(?!\*)|%%|%(?![(s])",
    parameter=r"%(?:\([\w.]+\))?s",
    # Comments end at a NUL too; /*! and /*M! are executed; a hint may hold quoted names.
    comment=(
        r"#[^\n\0]*|--(?=[ \t\n\f\r]|\Z)[^\n\0]*"
        r"|/\*(?!\+|[Mm]?!)[^*/\0]*(?:(?:\*(?!/)|/(?!\*))[^*/\0]*)*\*/|/\*\+[^*/\"'`\0]*\*/"
    ),
    # With backslashes, if they escape no quote in either mode.
    text=r"'[^'\\]*(?:(?:''|\\[^'])[^'\\]*)*'",
    # "..." may be a text as well.
    name=r'`[^`]*(?:``[^`]*)*`|"[^"\\]*(?:(?:""|\\[^"])[^"\\]*)*"',
    mark='"',
    head=r"[\s(]*(\w+)",
)
"""The dialect of every MySQL and MariaDB. See https://dev.mysql.com/doc/refman/8.4/en/sql-statements.html
and https://mariadb.com/kb/en/sql-statements/."""
