"""PostgreSQL's `Dialect`: which statements cannot change a PostgreSQL session.

Lexical rules as in https://www.postgresql.org/docs/current/sql-syntax-lexical.html; where a setting
(`standard_conforming_strings`) gives a text two meanings, it may change the session. A call of a
function that is not listed here may. It must never know a connection. Not seen, and so documented:

* what a function of the application's own does behind a view, trigger, rule, operator, cast,
  default or index, or under the name and beside the arguments of a listed one;
* what a listed function or an INSERT leaves in `currval`, `lastval` and the state of `random`, and a
  sequence's cached numbers (a `serial` column is a plain INSERT);
* changes to temporary objects and cursors that the pool's `setup` made;
* SQL that the application splices in where only a value belongs (psycopg2's `AsIs`).
"""

from __future__ import annotations

import re

from dbapi_pool.drivers.sql import Dialect, Rule, called, harmless

__all__ = ["POSTGRESQL"]

# https://www.postgresql.org/docs/current/functions.html, the immutable and stable ones that people
# call. Left out on purpose: ts_rewrite, ts_stat, query_to_xml and table_to_xml and their kin (they
# run SQL or read what a name says).
_BUILT_IN = """
abs acos acosd acosh age any_value area array_agg array_append array_cat array_dims array_fill
array_length array_lower array_ndims array_position array_positions array_prepend array_remove
array_replace array_reverse array_sample array_shuffle array_sort array_to_json array_to_string
array_to_tsvector array_upper ascii asin asind asinh atan atan2 atan2d atand atanh avg
bit_and bit_count bit_length bit_or bit_xor bool_and bool_or bound_box broadcast btrim
cardinality casefold cbrt ceil ceiling center char_length character_length chr col_description concat
concat_ws convert convert_from convert_to corr cos cosd cosh cot cotd count covar_pop covar_samp
crc32 crc32c cume_dist current_database current_schemas current_setting
date_add date_bin date_part date_subtract date_trunc decode degrees dense_rank diagonal diameter div
encode enum_first enum_last enum_range erf erfc every exp factorial family first_value floor format
format_type gamma gcd generate_series generate_subscripts get_bit get_byte get_current_ts_config
has_any_column_privilege has_column_privilege has_database_privilege has_function_privilege
has_parameter_privilege has_schema_privilege has_sequence_privilege has_table_privilege
has_type_privilege height host hostmask
inet_client_addr inet_client_port inet_merge inet_same_family inet_server_addr inet_server_port
initcap is_normalized isclosed isempty isfinite isopen
json_agg json_agg_strict json_array_elements json_array_elements_text json_array_length
json_build_array json_build_object json_each json_each_text json_extract_path json_extract_path_text
json_object json_object_agg json_object_agg_strict json_object_agg_unique json_object_keys
json_populate_record json_populate_recordset json_strip_nulls json_to_record json_to_recordset
json_to_tsvector json_typeof
jsonb_agg jsonb_agg_strict jsonb_array_elements jsonb_array_elements_text jsonb_array_length
jsonb_build_array jsonb_build_object jsonb_concat jsonb_contains jsonb_each jsonb_each_text
jsonb_exists jsonb_exists_all jsonb_exists_any jsonb_extract_path jsonb_extract_path_text
jsonb_insert jsonb_object jsonb_object_agg jsonb_object_agg_strict jsonb_object_agg_unique
jsonb_object_keys jsonb_path_exists jsonb_path_exists_tz jsonb_path_match jsonb_path_match_tz
jsonb_path_query jsonb_path_query_array jsonb_path_query_array_tz jsonb_path_query_first
jsonb_path_query_first_tz jsonb_path_query_tz jsonb_populate_record jsonb_populate_recordset
jsonb_pretty jsonb_set jsonb_set_lax jsonb_strip_nulls jsonb_to_record jsonb_to_recordset
jsonb_to_tsvector jsonb_typeof
justify_days justify_hours justify_interval lag last_value lcm lead left length lgamma ln log log10
lower lower_inc lower_inf lpad ltrim macaddr8_set7bit make_date make_interval make_time
make_timestamp make_timestamptz masklen max md5 min min_scale mod mode mxid_age
netmask network now npoints nth_value ntile num_nonnulls num_nulls numnode
obj_description octet_length parse_ident pclose percent_rank percentile_cont percentile_disc
pg_backend_pid pg_basetype pg_client_encoding pg_collation_for pg_column_compression pg_column_size
pg_conf_load_time pg_current_snapshot pg_current_xact_id pg_current_xact_id_if_assigned
pg_describe_object pg_encoding_to_char pg_function_is_visible pg_get_constraintdef pg_get_expr
pg_get_function_arguments pg_get_function_identity_arguments pg_get_function_result
pg_get_functiondef pg_get_indexdef pg_get_keywords pg_get_partition_constraintdef pg_get_partkeydef
pg_get_ruledef pg_get_serial_sequence pg_get_statisticsobjdef pg_get_triggerdef pg_get_userbyid
pg_get_viewdef pg_has_role pg_identify_object pg_index_column_has_property pg_index_has_property
pg_indexam_has_property pg_input_error_info pg_input_is_valid pg_is_other_temp_schema
pg_listening_channels pg_my_temp_schema pg_opclass_is_visible pg_options_to_table pg_partition_root
pg_postmaster_start_time pg_relation_filenode pg_relation_filepath pg_relation_is_updatable
pg_sequence_parameters pg_size_bytes pg_size_pretty pg_snapshot_xip pg_snapshot_xmax
pg_snapshot_xmin pg_table_is_visible pg_tablespace_location pg_timezone_abbrevs pg_timezone_names
pg_trigger_depth pg_type_is_visible pg_typeof pg_visible_in_snapshot pg_wal_lsn_diff pg_walfile_name
phraseto_tsquery pi plainto_tsquery popen pow power querytree quote_ident quote_literal
quote_nullable radians radius range_agg range_intersect_agg range_merge rank regexp_count
regexp_instr regexp_like regexp_match regexp_matches regexp_replace regexp_split_to_array
regexp_split_to_table regexp_substr regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope
regr_sxx regr_sxy regr_syy repeat replace reverse right round row_number row_security_active
row_to_json rpad rtrim scale set_bit set_byte set_masklen setweight sha224 sha256 sha384 sha512
shobj_description sign sin sind sinh slope split_part sqrt starts_with statement_timestamp stddev
stddev_pop stddev_samp string_agg string_to_array string_to_table strip strpos substr substring sum
tan tand tanh timezone to_ascii to_bin to_char to_date to_hex to_json to_jsonb to_number to_oct
to_regclass to_regcollation to_regnamespace to_regoper to_regoperator to_regproc to_regprocedure
to_regrole to_regtype to_regtypemod to_timestamp to_tsquery to_tsvector transaction_timestamp
translate trim_array trim_scale trunc ts_debug ts_delete ts_filter ts_headline ts_lexize ts_parse
ts_rank ts_rank_cd ts_token_type tsquery_phrase tsvector_to_array txid_current
txid_current_if_assigned txid_current_snapshot txid_snapshot_xip txid_snapshot_xmax
txid_snapshot_xmin txid_visible_in_snapshot unicode_assigned unicode_version unistr unnest upper
upper_inc upper_inf uuid_extract_timestamp uuid_extract_version var_pop var_samp variance version
websearch_to_tsquery width width_bucket xml_is_well_formed xml_is_well_formed_content
xml_is_well_formed_document xmlagg xmlcomment xmltext xmlvalidate xpath xpath_exists
"""

# The volatile ones that leave nothing in the session: they read, wait, or end with the transaction
# (https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-ADVISORY-LOCKS says so of
# the locks with "xact"). currval and lastval only read.
_VOLATILE = """
clock_timestamp current_query currval gen_random_uuid lastval pg_advisory_xact_lock
pg_advisory_xact_lock_shared pg_blocking_pids pg_current_wal_flush_lsn pg_current_wal_insert_lsn
pg_current_wal_lsn pg_database_size pg_indexes_size pg_is_in_recovery pg_is_wal_replay_paused
pg_last_wal_receive_lsn pg_last_wal_replay_lsn pg_last_xact_replay_timestamp pg_notify
pg_partition_ancestors pg_partition_tree pg_relation_size pg_sleep pg_sleep_for pg_sleep_until
pg_table_size pg_tablespace_size pg_total_relation_size pg_try_advisory_xact_lock
pg_try_advisory_xact_lock_shared pg_xact_status random random_normal timeofday txid_status uuidv4
uuidv7
"""

# https://www.postgresql.org/docs/current/contrib.html: citext, fuzzystrmatch, hstore, pg_trgm (but
# not set_limit), pgcrypto, unaccent, uuid-ossp.
_CONTRIB = """
akeys avals crypt daitch_mokotoff digest difference dmetaphone gen_random_bytes gen_salt hmac hstore
hstore_to_json hstore_to_jsonb levenshtein levenshtein_less_equal metaphone pgp_sym_decrypt
pgp_sym_encrypt show_trgm similarity soundex strict_word_similarity unaccent uuid_generate_v1
uuid_generate_v1mc uuid_generate_v3 uuid_generate_v4 uuid_generate_v5 word_similarity
"""

# https://www.postgresql.org/docs/current/datatype.html: those that are functions (casts) too, and
# those of the grammar that take a length.
_TYPES = """
bit bool box bpchar char character cidr circle date datemultirange daterange dec decimal float float4
float8 int2 int4 int4multirange int4range int8 int8multirange int8range interval lseg line macaddr
money multirange name numeric nummultirange numrange oid path point polygon regclass text time
timestamp timestamptz timetz tsmultirange tsrange tstzmultirange tstzrange varbit varchar xml
"""

# https://www.postgresql.org/docs/current/sql-keywords-appendix.html: words of the grammar that stand
# in front of parentheses, and cannot be, or would hardly be, a function's name.
_GRAMMAR = """
all and any array as between case cast check coalesce current_schema current_time current_timestamp
default distinct else except exists extract fetch for from greatest group grouping having ilike in
intersect is join json_array json_arrayagg json_exists json_objectagg json_query json_scalar
json_serialize json_table json_value lateral least like limit localtime localtimestamp normalize not
nullif offset on only or overlaps overlay position returning row select similar some symmetric then to
treat trim union unique user using values variadic when where window with xmlattributes xmlconcat
xmlelement xmlexists xmlforest xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable
"""

# Words that are both: of the grammar only behind these.
_PHRASES = frozenset({
    "AS MATERIALIZED", "BIT VARYING", "BY CUBE", "BY HASH", "BY LIST", "BY RANGE",
    "BY ROLLUP", "CHAR VARYING", "CHARACTER VARYING", "FOREIGN KEY", "GROUP BY", "GROUPING SETS",
    "NOT MATERIALIZED", "ON CONFLICT", "ORDER BY", "PARTITION BY", "PRIMARY KEY", "TIME ZONE",
})  # fmt: skip

# Stands for what `_SET_LOCALLY` matches: in quotes, so that no function has this name.
_LOCALLY = "'SET_CONFIG'"
_FUNCTIONS = frozenset(f"{_BUILT_IN} {_VOLATILE} {_CONTRIB} {_LOCALLY}".upper().split())
_KNOWN = _FUNCTIONS | frozenset(f"{_TYPES} {_GRAMMAR}".upper().split())
_QUALIFIED = frozenset(f"PG_CATALOG.{name}" for name in _FUNCTIONS)

_INSERTED_INTO = re.compile(r"\b(?:INSERT|MERGE)\s+INTO\b")
# A number needs no blank behind it (before PostgreSQL 15).
_INTO = re.compile(r"(?<![\w'\"])(?:\d\w*)?INTO(?![\w'\"])").search
# MERGE ... THEN INSERT (a) VALUES; UPDATE t SET (a, b) = ...: nothing is called. The bound is for
# texts that repeat UPDATE without end.
_MERGE_COLUMNS = re.compile(r'\bTHEN\s+INSERT\s*(?=\([\w\s,"]*\)\s*(?:OVERRIDING|VALUES)\b)')
_SET_COLUMNS = re.compile(r'\bUPDATE\b[\w\s."*]{0,200}?\bSET\s*(?=\()')
# With `true` it ends with the transaction, as SET LOCAL does:
# https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-ADMIN-SET
_SET_LOCALLY = re.compile(
    r"""(?<![\w"])SET_CONFIG\s*\(\s*'(?!SEED')\w+'\s*,"""
    r"""\s*(?:'[\w?]*'|\$\d+)(?:\s*::\s*\w+)?\s*,\s*(?:TRUE|'TRUE'|'T')\s*\)"""
)


def _rows(bare: str) -> bool:
    """For all that reads and writes rows: SELECT INTO makes a table, functions may do anything."""
    text = _SET_LOCALLY.sub(f"{_LOCALLY} ()", bare).replace("::", " AS ")
    text = _SET_COLUMNS.sub(" = ", _MERGE_COLUMNS.sub(" = ", text))
    if _INTO(_INSERTED_INTO.sub(" ", text)):
        return True
    return not all(
        name in _KNOWN or name in _QUALIFIED or f"{before} {name}" in _PHRASES
        for before, name in called(text)
    )


_EXPLAIN = re.compile(r"\s*EXPLAIN\b(?:\s*\([^()]*\)|(?:\s+(?:ANALY[SZ]E|VERBOSE)\b)*)")
_DECLARE = re.compile(
    r'\s*DECLARE\s+(?:\w+|"\w*")\s+(?:(?:BINARY|ASENSITIVE|INSENSITIVE|NO|SCROLL)\s+)*CURSOR\s+'
    r"(?:WITHOUT\s+HOLD\s+)?FOR\b"
)
# SET LOCAL seed moves the state of random, which no rollback restores.
_SET = re.compile(
    r'\s*SET\s+(?:LOCAL\s+(?!"?SEED\b|SESSION\s+CHARACTERISTICS\b)["\w]'
    r"|TRANSACTION\s+(?:ISOLATION|READ|NOT|DEFERRABLE|SNAPSHOT)\b"
    r'|CONSTRAINTS\s[\w\s.,"]*\b(?:DEFERRED|IMMEDIATE)\s*$)'
).match
_CREATE = re.compile(
    r"\s*CREATE\s+(?:(?:UNLOGGED\s+)?TABLE\b(?!.*\bEXECUTE\b)"
    r"|(?:UNIQUE\s+)?INDEX\b[^(]*(?=\())",
    re.DOTALL,
)
_ALTER = re.compile(r"\s*ALTER\s+TABLE\b").match
_DROP = re.compile(r"\s*DROP\s+(?:INDEX|MATERIALIZED\s+VIEW|TABLE|VIEW)\b").match
# The schema of temporary tables, by its alias or its name.
_TEMPORARY = re.compile(r"PG_(?:TOAST_)?TEMP").search


def _explain(bare: str) -> bool:
    # With ANALYZE it runs the statement: https://www.postgresql.org/docs/current/sql-explain.html
    return POSTGRESQL.judge(_EXPLAIN.sub("", bare, count=1))


def _declare(bare: str) -> bool:
    # Without HOLD it ends with the transaction: https://www.postgresql.org/docs/current/sql-declare.html
    found = _DECLARE.match(bare)
    return found is None or POSTGRESQL.judge(bare[found.end() :])


def _set(bare: str) -> bool:
    # https://www.postgresql.org/docs/current/sql-set.html: LOCAL ends with the transaction, and does
    # nothing outside of one.
    return _SET(bare) is None


def _create(bare: str) -> bool:
    found = _CREATE.match(bare)
    if found is None or _TEMPORARY(bare):
        return True
    rest = bare[found.end() :]
    return _rows(f"TABLE {rest}" if found[0].endswith("TABLE") else rest)


def _alter(bare: str) -> bool:
    return not _ALTER(bare) or _TEMPORARY(bare) is not None or _rows(bare)


def _drop(bare: str) -> bool:
    return not _DROP(bare) or _TEMPORARY(bare) is not None


def _rules() -> dict[str, Rule]:
    # Not COPY: with STDIN or STDOUT it leaves the connection in the middle of a conversation.
    rows = ("SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "VALUES", "WITH", "TABLE")
    # A transaction left open is no matter: the pool rolls back before anything else. What these leave
    # is gone then. Not PREPARE TRANSACTION.
    transaction = (
        "BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "SAVEPOINT", "RELEASE", "LOCK",
        "FETCH", "MOVE", "CLOSE",
    )  # fmt: skip
    others = ("SHOW", "NOTIFY", "TRUNCATE", "ANALYZE", "VACUUM", "REINDEX", "CLUSTER", "REFRESH")
    return {
        **dict.fromkeys(rows, _rows),
        **dict.fromkeys(transaction + others, harmless),
        "EXPLAIN": _explain,
        "DECLARE": _declare,
        "SET": _set,
        "CREATE": _create,
        "ALTER": _alter,
        "DROP": _drop,
    }


POSTGRESQL = Dialect(
    rules=_rules(),
    # Not `$` in names, and no E in front of a quote.
    plain=(
        r"(?:[\w \t\n\f\r(),.<>=!|&~+*;?:@#^\[\]]+(?!(?<=[^\w$][eE])')"
        r"|-(?!-)|/(?!\*)|%%|%(?![(sbt])|(?<![\w$])\$\d+(?![\w$]))"
    ),
    parameter=r"%(?:\([\w.]+\))?[sbt]",
    # Comments nest; those that do are not understood.
    comment=r"--[^\n\r]*|/\*[^*/]*(?:(?:\*(?!/)|/(?!\*))[^*/]*)*\*/",
    # E'...' with backslashes; '...' if they escape no quote in either mode; $tag$...$tag$.
    text=(
        r"(?<![\w$])[eE]'[^'\\]*(?:(?:''|\\.)[^'\\]*)*'"
        r"|'[^'\\]*(?:(?:''|\\[^'])[^'\\]*)*'"
        r"|(?<![\w$])\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?\$(?P=tag)\$"
    ),
    # Not U&"...", whose escapes may spell any name.
    name=r'(?<![uU]&)"[^"]*(?:""[^"]*)*"',
    mark='"',
    head=r"[\s(]*(\w+)",
)
"""The dialect of every PostgreSQL. See https://www.postgresql.org/docs/current/sql-commands.html."""
