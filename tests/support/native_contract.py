"""What the contract kit cannot ask of connections that are lent themselves (`native=True`), and why.

tests/test_native.py asks the same in another way where there is one. It must never know a driver.
"""

from __future__ import annotations

_SAME = "the next borrower gets the same object: see docs/native.md"
_KEPT = "the kit keeps every connection that it has seen, and so does not drop it"
_RAW = "the kit looks at a connection that nobody has borrowed, which is refused"

LACKS = {
    "a_kept_connection_is_dead": _SAME,
    "a_kept_bound_method_is_dead": _SAME,
    "a_kept_context_manager_is_dead": _SAME,
    "nothing_kept_reaches_the_next_borrowers_session": _SAME,
    "closing_twice_returns_once": _SAME,
    "a_dropped_connection_comes_back": _KEPT,
    "a_thread_that_ended_leaves_its_place": _KEPT,
    "a_transaction_leaves_nothing_to_the_next": _RAW,
    "a_closed_connection_is_not_lent": _RAW,
    "a_connection_killed_while_idle_is_not_lent": _RAW,
    "the_server_sees_no_transaction_after_a_ping": _RAW,
    "dirt:pipeline() not left": "a context manager of the driver's own is not ended on the return",
    "dirt:register_type()": "psycopg2's C code changes the connection, and nobody sees it",
    "a_closed_connection_counts_as_lost": "close() gives it back, also the driver's own",
}
