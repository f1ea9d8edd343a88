"""The contract kit itself: every planted bug is found, by the check that it breaks; a sound driver
passes; what is read-only writes nothing; pytest is needed for the test class alone."""

from __future__ import annotations

import functools
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dbapi_pool import Pool
from dbapi_pool.drivers import Driver
from dbapi_pool.testing.contract import (
    ABILITIES,
    PROMISES,
    Check,
    Dirt,
    DriverContract,
    Knowledge,
    Outcome,
    Subject,
    all_checks,
    checks_for,
    examine,
    read_only_checks,
    run_contract,
)
from dbapi_pool_sqlite import SQLiteDriver

TEMPORARY = Dirt(
    "a temporary table",
    act=lambda conn: conn.execute("CREATE TEMP TABLE mine (x)"),
    look=lambda conn: conn.execute("SELECT count(*) FROM temp.sqlite_master").fetchone(),
    replaced=True,
)


class Sound(Knowledge):
    """sqlite3 with its plugin, as it is."""

    slow = (
        "WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 40000000)"
        " SELECT max(x) FROM c"
    )
    setup = "PRAGMA cache_size = 77"
    setup_seen = "PRAGMA cache_size"
    attributes = {"row_factory": sqlite3.Row}
    refused = ({"database": "/no/such/folder/app.db"},)
    dirt: Any = (TEMPORARY,)

    def driver(self) -> Driver:
        """As the plugin gives it."""
        return SQLiteDriver(creator=sqlite3)

    def set_autocommit(self, conn: Any, on: bool) -> None:
        """As before Python 3.12."""
        conn.isolation_level = None if on else ""


def broken_by(kind: Callable[[], Driver]) -> Knowledge:
    """What knows of a driver that is broken."""

    class Broken(Sound):
        def driver(self) -> Driver:
            return kind()

    return Broken()


def outcome(name: str, knowledge: Knowledge, folder: Path) -> Outcome:
    """What comes of one check."""
    arguments = {"database": str(folder / "contract.db"), "timeout": 0.2}
    subject = Subject(sqlite3, (), arguments, knowledge)
    [check] = [check for check in checks_for(subject) if check.name == name]
    return check.run(subject)


# -- planted bugs ---------------------------------------------------------------------------------


class RollsNothingBack(SQLiteDriver):
    def rollback(self, conn: Any) -> None:
        pass


class KnowsNoTransaction(SQLiteDriver):
    def in_transaction(self, conn: Any) -> bool:
        return False


class CommitsInsteadOfRollingBack(SQLiteDriver):
    def rollback(self, conn: Any) -> None:
        conn.commit()


class CommitsNothing(SQLiteDriver):
    def commit(self, conn: Any) -> None:
        pass


class ForgetsToRestore(SQLiteDriver):
    def restore(self, conn: Any, snapshot: Any) -> None:
        pass


class RestoresFactoriesOnly(SQLiteDriver):
    def restore(self, conn: Any, snapshot: Any) -> None:
        conn.row_factory = snapshot.row_factory


class RestoresTooMuch(SQLiteDriver):
    def restore(self, conn: Any, snapshot: Any) -> None:
        super().restore(conn, snapshot)
        conn.row_factory = sqlite3.Row


class ResetsInWordsOnly(SQLiteDriver):
    def reset_session(self, conn: Any, snapshot: Any) -> bool:
        return True


class FindsEverythingHarmless(SQLiteDriver):
    def may_change_session(self, sql: Any) -> bool:
        return False


class FindsEverythingHarmful(SQLiteDriver):
    def may_change_session(self, sql: Any) -> bool:
        return True


class RunsNoSetup(SQLiteDriver):
    def run_setup(self, conn: Any, statements: Any) -> None:
        pass


class BelievesInLife(SQLiteDriver):
    def is_alive(self, conn: Any) -> bool:
        return True


class CriesWolf(SQLiteDriver):
    looks = 0

    def is_alive(self, conn: Any) -> bool:
        self.looks += 1
        return self.looks % 90 != 0 and super().is_alive(conn)


class PingsWithATransaction(SQLiteDriver):
    def ping(self, conn: Any) -> None:
        sqlite3.Cursor(conn).execute("BEGIN")


class PingsNobody(SQLiteDriver):
    def ping(self, conn: Any) -> None:
        pass


class FailsEveryPing(SQLiteDriver):
    def ping(self, conn: Any) -> None:
        raise sqlite3.OperationalError("no answer")


class TakesEveryErrorForALoss(SQLiteDriver):
    def is_disconnect(self, exc: BaseException, conn: Any) -> bool:
        return True


class TakesNoErrorForALoss(SQLiteDriver):
    def is_disconnect(self, exc: BaseException, conn: Any) -> bool:
        return False


class TakesEveryErrorForAFailover(SQLiteDriver):
    def is_failover(self, exc: BaseException, conn: Any) -> bool:
        return True


class TakesEveryErrorForAnEnd(SQLiteDriver):
    def is_server_wide(self, exc: BaseException) -> bool:
        return True


class TriesEverythingAgain(SQLiteDriver):
    def is_retryable(self, exc: BaseException) -> bool:
        return True


class TriesNothingAgain(SQLiteDriver):
    def is_retryable(self, exc: BaseException) -> bool:
        return False


class ConnectsForEver(SQLiteDriver):
    def is_transient(self, exc: BaseException) -> bool:
        return True


class Unfenced(sqlite3.Cursor):
    """A cursor that outlives its lease."""

    _of_driver = True
    _handle: Any
    _work: Any


class FencesNoCursor(SQLiteDriver):
    def open_cursor(self, conn: Any, pooled: Any, args: Any, kwargs: Any) -> Any:
        return conn.cursor(Unfenced)


class IgnoresReadOnly(SQLiteDriver):
    def begin(self, conn: Any, isolation: Any, readonly: Any, options: Any) -> None:
        super().begin(conn, isolation, None, options)


class IgnoresEveryWish(SQLiteDriver):
    def begin(self, conn: Any, isolation: Any, readonly: Any, options: Any) -> None:
        super().begin(conn, None, None, {})


class BeginsNothing(SQLiteDriver):
    def begin(self, conn: Any, isolation: Any, readonly: Any, options: Any) -> None:
        pass


class StaysReadOnly(SQLiteDriver):
    def begin(self, conn: Any, isolation: Any, readonly: Any, options: Any) -> None:
        if readonly:
            conn.execute("PRAGMA query_only = 1")
        super().begin(conn, isolation, None, options)


class LeavesAnAttribute(SQLiteDriver):
    def begin(self, conn: Any, isolation: Any, readonly: Any, options: Any) -> None:
        super().begin(conn, isolation, readonly, options)
        conn.row_factory = sqlite3.Row

    def restore(self, conn: Any, snapshot: Any) -> None:
        pass


class InterruptsInWordsOnly(SQLiteDriver):
    def interrupt(self, conn: Any) -> bool:
        return True


class CannotInterrupt(SQLiteDriver):
    def interrupt(self, conn: Any) -> bool:
        return False


class ClosesNothing(SQLiteDriver):
    def close(self, conn: Any) -> None:
        pass


class ReadsLatin(SQLiteDriver):
    def connected(self, conn: Any) -> None:
        super().connected(conn)
        conn.text_factory = lambda text: text.decode("latin-1")


class Shouts(SQLiteDriver):
    def __repr__(self) -> str:
        return "<driver with password=open-sesame>"


PLANTED = [
    (RollsNothingBack, "an_open_transaction_is_rolled_back"),
    (RollsNothingBack, "a_transaction_begun_by_hand_is_rolled_back"),
    (RollsNothingBack, "a_failed_transaction_begun_by_hand_is_rolled_back"),
    (RollsNothingBack, "a_transaction_rolls_back_on_an_exception"),
    (RollsNothingBack, "what_was_committed_stays"),
    (RollsNothingBack, "a_failed_statement_leaves_nothing"),
    (KnowsNoTransaction, "an_open_transaction_is_rolled_back"),
    (CommitsInsteadOfRollingBack, "an_open_transaction_is_rolled_back"),
    (CommitsInsteadOfRollingBack, "autocommit_is_put_back"),
    (CommitsInsteadOfRollingBack, "commit_and_rollback_do_so"),
    (CommitsInsteadOfRollingBack, "a_commit_typed_by_hand_confuses_nobody"),
    (CommitsInsteadOfRollingBack, "a_with_block_commits_or_rolls_back"),
    (CommitsNothing, "a_transaction_commits"),
    (CommitsNothing, "commit_and_rollback_do_so"),
    (CommitsNothing, "many_rows_are_written_at_once"),
    (ForgetsToRestore, "attributes_are_put_back"),
    (ForgetsToRestore, "restoring_is_idempotent"),
    (RestoresFactoriesOnly, "autocommit_is_put_back"),
    (RestoresTooMuch, "restoring_is_idempotent"),
    (ResetsInWordsOnly, "dirt:a temporary table"),
    (FindsEverythingHarmless, "dirt:a temporary table"),
    (FindsEverythingHarmful, "plain_work_keeps_the_connection_and_leaves_no_trace"),
    (FindsEverythingHarmful, "open_cursors_are_closed"),
    (RunsNoSetup, "setup_is_in_force_for_every_borrower"),
    (BelievesInLife, "a_closed_connection_is_not_lent"),
    (CriesWolf, "there_is_no_false_alarm"),
    (PingsWithATransaction, "a_ping_leaves_no_transaction"),
    (PingsNobody, "a_ping_of_a_closed_connection_fails"),
    (FailsEveryPing, "pings_are_answered"),
    (TakesEveryErrorForALoss, "a_wrong_statement_loses_no_connection"),
    (TakesEveryErrorForALoss, "a_broken_constraint_loses_no_connection"),
    (TakesNoErrorForALoss, "a_closed_connection_counts_as_lost"),
    (TakesEveryErrorForAFailover, "a_wrong_statement_loses_no_connection"),
    (TakesEveryErrorForAFailover, "a_read_only_error_is_no_failover"),
    (TakesEveryErrorForAnEnd, "a_broken_constraint_loses_no_connection"),
    (TriesEverythingAgain, "run_does_not_try_again_after_other_errors"),
    (TriesNothingAgain, "run_tries_again_after_a_conflict"),
    (ConnectsForEver, "a_connect_refused_for_good_is_told_at_once"),
    (FencesNoCursor, "a_kept_cursor_is_dead"),
    (FencesNoCursor, "a_kept_bound_method_is_dead"),
    (FencesNoCursor, "the_cursors_connection_is_the_borrowed_one"),
    (FencesNoCursor, "nothing_kept_reaches_the_next_borrowers_session"),
    (IgnoresReadOnly, "a_read_only_transaction_refuses_to_write"),
    (IgnoresEveryWish, "what_no_driver_knows_is_refused"),
    (BeginsNothing, "a_stable_isolation_level_reads_the_same_twice"),
    (StaysReadOnly, "a_read_only_transaction_refuses_to_write"),
    (LeavesAnAttribute, "a_transaction_leaves_nothing_to_the_next"),
    (InterruptsInWordsOnly, "a_blocked_call_can_be_cut"),
    (CannotInterrupt, "a_blocked_call_can_be_cut"),
    (ClosesNothing, "a_closed_pool_has_no_connection_open"),
    (ReadsLatin, "values_come_back_as_they_went"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "name"), PLANTED, ids=[f"{kind.__name__}-{name}" for kind, name in PLANTED]
)
def test_a_planted_bug_is_found(kind: type[Driver], name: str, tmp_path: Path) -> None:
    found = outcome(name, broken_by(kind), tmp_path)

    assert found.state == "broken"
    assert found.detail != ""


@pytest.mark.parametrize("name", sorted({name for _, name in PLANTED}))
def test_a_check_that_finds_bugs_finds_none_in_a_sound_driver(name: str, tmp_path: Path) -> None:
    assert outcome(name, Sound(), tmp_path).state == "kept"


# What goes wrong without a mistake of the driver's: the pool, or the connection class.


class Leaky(Pool):
    """A pool that gets the basics wrong."""

    def connection(self, timeout: float | None = None) -> Any:
        return self._source.open().conn


class Hoarding(Pool):
    """A pool that keeps what it lends."""

    def connection(self, timeout: float | None = None) -> Any:
        hoard.append(super().connection(timeout))
        return hoard[-1]


hoard: list[Any] = []


class Shared(Pool):
    """A pool that gives everybody the same connection."""

    def connection(self, timeout: float | None = None) -> Any:
        if not hasattr(self, "_only"):
            self._only = super().connection(timeout)
        return self._only


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Leaky, "there_are_never_more_sessions_than_max_size"),
        (Leaky, "a_kept_connection_is_dead"),
        (Leaky, "closing_twice_returns_once"),
        (Leaky, "a_full_pool_refuses_in_time"),
        (Leaky, "a_timeout_tells_who_holds_the_connections"),
        (Leaky, "an_exception_in_a_with_block_returns_the_connection"),
        (Leaky, "a_closed_pool_has_no_connection_open"),
        (Leaky, "the_driver_connection_can_be_had"),
        (Shared, "a_connection_has_one_borrower_at_a_time"),
        (Hoarding, "a_dropped_connection_comes_back"),
        (Hoarding, "a_thread_that_ended_leaves_its_place"),
    ],
)
def test_a_pool_with_a_bug_is_found(
    kind: type[Pool], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbapi_pool.testing.contract.trial.Pool", kind)
    monkeypatch.setattr("dbapi_pool.testing.contract.trial.PATIENCE", 1.0)

    assert outcome(name, Sound(), tmp_path).state == "broken"


class ClosesInTheChild(SQLiteDriver):
    def abandon_after_fork(self, conn: Any) -> None:
        conn.close()


class KnowsOfAChildThatCloses(Sound):
    """Where a fresh process finds it."""

    def driver(self) -> Driver:
        """One that is broken."""
        return ClosesInTheChild(creator=sqlite3)


FORKS = [check.name for check in all_checks() if check.promise == "fork"]


@pytest.mark.parametrize("name", FORKS[2:])
def test_a_child_that_hurts_its_parent_is_found(name: str, tmp_path: Path) -> None:
    assert outcome(name, KnowsOfAChildThatCloses(), tmp_path).state == "broken"


@pytest.mark.parametrize("name", FORKS)
def test_a_fork_of_a_sound_driver_keeps_its_promise(name: str, tmp_path: Path) -> None:
    assert outcome(name, Sound(), tmp_path).state == "kept"


def test_what_another_process_cannot_find_is_not_applicable(tmp_path: Path) -> None:
    found = outcome(FORKS[0], broken_by(SQLiteDriver), tmp_path)

    assert found.state == "not applicable"
    assert "cannot be found by another process" in found.detail


def test_a_script_without_a_guard_does_not_start_itself_for_ever(tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(
        "import sqlite3\n"
        "from dbapi_pool.testing.contract import Knowledge, Subject, all_checks\n"
        "class Mine(Knowledge): pass\n"
        f"subject = Subject(sqlite3, (), {{'database': {str(tmp_path / 'app.db')!r}}}, Mine())\n"
        f"check = [check for check in all_checks() if check.name == {FORKS[0]!r}][0]\n"
        "print(check.run(subject).state)\n"
    )

    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.stdout.split()[-1] in ("kept", "broken")
    assert done.returncode == 0


# -- dirt -----------------------------------------------------------------------------------------


def with_dirt(dirt: Dirt) -> Knowledge:
    """What knows of one dirt."""

    class Dirty(Sound):
        pass

    Dirty.dirt = (dirt,)
    return Dirty()


def test_dirt_that_shows_nothing_is_found(tmp_path: Path) -> None:
    nothing = Dirt("nothing", lambda conn: None, lambda conn: conn.in_transaction)

    found = outcome("dirt:nothing", with_dirt(nothing), tmp_path)

    assert found.state == "broken"
    assert "shows nothing" in found.detail


def test_dirt_that_costs_the_connection_without_leave_is_found(tmp_path: Path) -> None:
    costly = Dirt("costly", TEMPORARY.act, TEMPORARY.look, replaced=False)

    found = outcome("dirt:costly", with_dirt(costly), tmp_path)

    assert found.state == "broken"
    assert "session changed" in found.detail


def test_dirt_is_frozen_and_named_in_reports() -> None:
    assert str(TEMPORARY) == "a temporary table"
    with pytest.raises(AttributeError):
        TEMPORARY.name = "another"  # type: ignore[misc]


# -- what the driver lacks ------------------------------------------------------------------------


class Lacking(Sound):
    lacks: Any = {"interrupt": "it has no such thing", "a_read_view_is_given_up": "it keeps them"}


def test_what_a_driver_lacks_is_not_applicable_and_says_why(tmp_path: Path) -> None:
    ability = outcome("a_blocked_call_can_be_cut", Lacking(), tmp_path)
    check = outcome("a_read_view_is_given_up", Lacking(), tmp_path)

    assert ability.state == check.state == "not applicable"
    assert "it has no such thing" in ability.detail
    assert "it keeps them" in check.detail


def test_a_plain_set_says_what_the_ability_is(tmp_path: Path) -> None:
    class Plain(Sound):
        lacks = frozenset({"interrupt"})

    found = outcome("a_blocked_call_can_be_cut", Plain(), tmp_path)

    assert ABILITIES["interrupt"] in found.detail


def test_lacking_what_does_not_exist_is_an_error(tmp_path: Path) -> None:
    class Typing(Sound):
        lacks = ("interupt",)

    found = outcome("a_blocked_call_can_be_cut", Typing(), tmp_path)

    assert found.state == "broken"
    assert "interupt" in found.detail


@pytest.mark.parametrize(
    ("name", "attribute"),
    [
        ("a_blocked_call_can_be_cut", "slow"),
        ("setup_is_in_force_for_every_borrower", "setup"),
        ("a_transaction_begun_by_hand_is_rolled_back", "begin"),
        ("a_connect_refused_for_good_is_told_at_once", "refused"),
        ("a_connection_killed_while_idle_is_not_lent", "session"),
    ],
)
def test_what_is_not_given_is_not_applicable(name: str, attribute: str, tmp_path: Path) -> None:
    class Silent(Sound):
        pass

    setattr(Silent, attribute, "")

    found = outcome(name, Silent(), tmp_path)

    assert found.state == "not applicable"
    assert f"no `{attribute}` is given" in found.detail


# -- read-only ------------------------------------------------------------------------------------


@pytest.fixture
def database(tmp_path: Path) -> Path:
    file = tmp_path / "users.db"
    with closing(sqlite3.connect(file)) as conn:
        conn.execute("CREATE TABLE precious (x)")
        conn.execute("INSERT INTO precious VALUES (1)")
        conn.commit()
    return file


def test_a_database_is_examined_without_writing_to_it(database: Path) -> None:
    before = database.read_bytes()

    report = examine(f"sqlite:///{database}?mode=ro")

    assert report.broken == []
    assert len(report.kept) > 30
    assert database.read_bytes() == before
    assert sorted(path.name for path in database.parent.iterdir()) == ["users.db"]


def test_what_examines_is_said_to_be_read_only_and_nothing_else_is_run(database: Path) -> None:
    report = examine(sqlite3, str(database))

    assert list(report.outcomes) == list(read_only_checks())
    assert all(check.read_only for check in report.outcomes)


def test_no_statement_of_a_read_only_check_is_more_than_a_question(database: Path) -> None:
    seen: list[str] = []

    class Listening(sqlite3.Connection):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.set_trace_callback(seen.append)

    def connect(**arguments: Any) -> sqlite3.Connection:
        return sqlite3.connect(factory=Listening, **arguments)

    examine(connect, database=str(database), check_same_thread=False)

    verbs = {sql.split()[0].upper() for sql in seen if not sql.startswith("--")}
    assert "SELECT" in verbs
    assert verbs <= {"SELECT", "PRAGMA", "BEGIN", "ROLLBACK", "COMMIT"}


# -- reports --------------------------------------------------------------------------------------


def test_a_report_has_one_line_for_each_check(tmp_path: Path) -> None:
    subject = Subject(sqlite3, (), {"database": str(tmp_path / "app.db")}, Sound())
    chosen = list(read_only_checks())[:5]

    report = run_contract(subject, chosen)

    assert len(str(report).splitlines()) == 5
    assert [check.name for check in chosen] == report.kept
    assert all(one.seconds >= 0 for one in report.outcomes.values())


def test_everything_is_run_if_nothing_is_chosen(tmp_path: Path) -> None:
    subject = Subject(sqlite3, (), {"database": str(tmp_path / "app.db")}, Sound())

    names = [check.name for check in checks_for(subject)]

    assert names == [*(check.name for check in all_checks()), "dirt:a temporary table"]


PASSWORD = "open-sesame"


def refusing(**arguments: Any) -> None:
    """A driver that tells too much."""
    raise sqlite3.OperationalError(f"no entry with {arguments['password']}")


def refusing_all(dsn: str, **arguments: Any) -> None:
    """The same, of another kind."""
    raise sqlite3.OperationalError(f"no entry with {dsn}")


@pytest.mark.parametrize(
    "subject",
    [
        Subject(refusing, (), {"password": PASSWORD}, Sound()),
        Subject(refusing_all, (f"acme://me:{PASSWORD}@host/db",), {}, Sound()),
        Subject(refusing_all, (f"host=x password={PASSWORD}",), {}, Sound()),
        Subject(functools.partial(refusing, password=PASSWORD), (), {}, Sound()),
    ],
    ids=["keyword", "URL", "connection string", "partial"],
)
def test_no_outcome_shows_a_password(subject: Subject) -> None:
    for check in list(read_only_checks())[:3]:
        found = check.run(subject)

        assert found.state == "broken"
        assert "***" in found.detail
        assert PASSWORD not in found.detail


def test_a_driver_whose_repr_shows_the_password_is_found(tmp_path: Path) -> None:
    class Telling(Sound):
        def driver(self) -> Driver:
            return Shouts(creator=connect)

    def connect(database: str, password: str, check_same_thread: bool = False) -> Any:
        return sqlite3.connect(database, check_same_thread=check_same_thread)

    arguments = {"database": str(tmp_path / "app.db"), "password": PASSWORD}
    subject = Subject(connect, (), arguments, Telling())
    [check] = [check for check in all_checks() if check.name == "nothing_shows_a_password"]

    found = check.run(subject)

    assert found.state == "broken"
    assert PASSWORD not in found.detail


# -- creators -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["module", "function", "lambda", "partial", "URL", "class"])
def test_any_creator_will_do(how: str, tmp_path: Path) -> None:
    path = str(tmp_path / "app.db")
    creators: Mapping[str, Subject] = {
        "module": Subject.of(sqlite3, path),
        "function": Subject.of(sqlite3.connect, database=path),
        "lambda": Subject.of(lambda: sqlite3.connect(path, check_same_thread=False)),
        "partial": Subject.of(functools.partial(sqlite3.connect, path), timeout=1.0),
        "URL": Subject.of(f"sqlite:///{path}"),
        "class": Subject.of(sqlite3.Connection, path),
    }

    report = run_contract(creators[how], read_only_checks())

    assert report.broken == []
    assert creators[how].driver().name == "sqlite"


def test_an_unknown_url_tells_what_is_wrong() -> None:
    report = examine("acme://host/database")

    assert report.kept == []
    assert {one.state for one in report.outcomes.values()} == {"broken"}


# -- the kit's own form ---------------------------------------------------------------------------


@pytest.mark.parametrize("check", all_checks(), ids=lambda check: check.name)
def test_every_check_says_its_promise_in_one_line(check: Check) -> None:
    assert check.promise in PROMISES
    assert check.text.endswith(".")
    assert len(check.text) < 100
    assert set(check.needs) <= set(ABILITIES)


def test_every_check_is_a_test_with_its_promise_in_the_name() -> None:
    tests = {name for name in dir(DriverContract) if name.startswith("test_")}

    assert tests == {f"test_{check.promise}_{check.name}" for check in all_checks()} | {
        "test_clean_dirt"
    }


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.strip()


def test_pytest_is_needed_for_the_test_class_alone() -> None:
    code = (
        "import sys; sys.modules['pytest'] = None;"
        "from dbapi_pool.testing import contract;"
        "print(len(contract.read_only_checks()), contract.examine('sqlite://').broken)"
    )

    number, _, _ = python(code).partition(" ")

    assert int(number) == len(read_only_checks())


def test_the_kit_is_not_imported_with_the_fakes() -> None:
    code = "import sys, dbapi_pool.testing; print('dbapi_pool.testing.contract' in sys.modules)"

    assert python(code) == "False"


SUITE = """
import sqlite3
import pytest
from dbapi_pool.testing.contract import Dirt, DriverContract

class TestMine(DriverContract):
    creator = sqlite3
    lacks = {"interrupt": "for a reason", "fork": "for another"}
    dirt = (
        Dirt("a transaction", lambda conn: conn.execute("BEGIN"), lambda conn: conn.in_transaction),
    )

    @pytest.fixture
    def arguments(self, tmp_path):
        return {"database": str(tmp_path / "mine.db"), "timeout": 0.2}

class TestBroken(TestMine):
    dirt = (Dirt("nothing", lambda conn: None, lambda conn: None),)
"""


def test_an_author_sees_each_promise_as_a_test_and_each_skip_with_its_reason(
    tmp_path: Path,
) -> None:
    suite = tmp_path / "test_mine.py"
    suite.write_text(SUITE)
    command = [sys.executable, "-m", "pytest", "-vrs", "-p", "no:cacheprovider", str(suite)]
    chosen = ["-k", "interrupt or dirt or cut or open_transaction or child_starts"]

    done = subprocess.run(
        [*command, *chosen], capture_output=True, text=True, timeout=120, cwd=tmp_path, check=False
    )

    assert "TestMine::test_clean_dirt[a transaction] PASSED" in done.stdout
    assert "TestMine::test_clean_an_open_transaction_is_rolled_back PASSED" in done.stdout
    assert "TestBroken::test_clean_dirt[nothing] FAILED" in done.stdout
    assert "lacks 'interrupt': for a reason" in done.stdout
    assert "lacks 'fork': for another" in done.stdout
    assert done.returncode == 1
