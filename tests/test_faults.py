"""The fault table's program works, and its judge can fail. What pools do is not looked at here."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import Counter

import pytest
from beside import ROOT, load

program = load("benchmarks.faults.__main__")
catalogue = load("benchmarks.faults.catalogue")
judge = load("benchmarks.faults.judge")
running = load("benchmarks.faults.running")
trial = load("benchmarks.faults.trial")
wire = load("benchmarks.faults.wire")
report = load("benchmarks.report")

DOCUMENT = (ROOT / "docs/reliability.md").read_text("utf-8")
OURS = "dbapi_pool Pool"


def fault(name):
    return judge.BY_NAME[name]


def seen(**facts):
    made = {"healed": 0.1, "longest": 0.2, **facts}
    return trial.Seen(**{**made, "ends": Counter(made.get("ends", {}))})


# -- a run ------------------------------------------------------------------------------------------


def test_a_fault_that_needs_no_server_is_seen_judged_and_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(program, "QUICK", running.Pace(0.3, 1.0))
    figures, document = tmp_path / "seen.json", tmp_path / "reliability.md"
    document.write_text(DOCUMENT, "utf-8")

    program.main(["--quick", "--only", "folder missing", "--json", str(figures)])
    program.main(["--from", str(figures), "--write", str(document)])

    shown = document.read_text("utf-8").partition("<!-- generated: faults -->")[2]
    assert "| **dbapi_pool Pool** | ✓ OperationalError" in shown
    assert "back in" in shown
    assert "## folder missing" in capsys.readouterr().out


@pytest.mark.servers
def test_faults_on_servers_and_wires_are_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(program, "QUICK", running.Pace(0.3, 2.0))
    figures = tmp_path / "seen.json"
    names = "sessions killed while idle,session killed in use,wrong password"

    program.main(["--quick", "--only", names, "--pools", "dbapi_pool,DB", "--json", str(figures)])

    _, cells = program.from_json(figures.read_text("utf-8"))
    if not cells:
        pytest.skip("no server is installed")
    ours = [one for one in cells if one.pool == OURS]
    assert {one.fault for one in ours} == set(names.split(","))
    assert all(not judge.broken(fault(one.fault), one.seen) for one in ours), ours


def test_a_fault_that_does_not_exist_is_refused(capsys):
    with pytest.raises(SystemExit):
        program.main(["--only", "no such"])

    assert "no such fault: no such" in capsys.readouterr().err


def test_the_document_has_every_generated_part():
    assert report.written(DOCUMENT, program.parts({}, []))


def test_the_document_shows_every_fault():
    for one in catalogue.FAULTS:
        assert f"### {one.name[0].upper()}{one.name[1:]}\n" in DOCUMENT


# -- the judge --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "facts", "word"),
    [
        ("restart", {"ends": {trial.FAILED: 1}}, "errors"),
        ("restart", {"longest": 1.06}, "late"),
        ("restart", {"longest": 1.09, "machine_late": 0.03}, "late"),
        ("restart", {"longest": 1.16, "machine_late": 5.0}, "late"),
        ("restart", {"ends": {trial.HANGS_AT_CHECKOUT: 1}}, "late"),
        ("restart", {"healed": 1.1}, "does not heal"),
        ("restart", {"healed": None}, "does not heal"),
        ("idle ones forgotten", {"ends": {trial.HANGS_IN_USE: 1}}, "hangs"),
        ("connection refused", {"connects_per_second": 11.0}, "storm"),
        ("wrong password", {"first_told": None}, "silent"),
        ("wrong password", {"first_told": 0.9}, "silent"),
        ("kill -9 in use", {"held": None}, "not told"),
        ("kill -9 in use", {"held": "hangs"}, "not told"),
        ("failover to a new primary", {"ends": {trial.FAILED: 5}}, "errors"),
    ],
)
def test_what_is_not_kept_is_named(name, facts, word):
    assert judge.broken(fault(name), seen(**facts)) == [word]
    assert f"({word})" in judge.cell(fault(name), seen(**facts))


@pytest.mark.parametrize("name", catalogue.NAMES)
def test_what_is_kept_is_good(name):
    facts = {"held": "OperationalError at the next statement", "first_told": 0.1}

    assert judge.broken(fault(name), seen(**facts, connects_per_second=4.0)) == []
    assert judge.cell(fault(name), seen(**facts)).startswith("✓ ")


def test_a_lie_is_a_lie_whatever_else_was_good():
    lie = seen(held="commit reported success", wrong="the first row is lost")

    assert "lies" in judge.broken(fault("session killed in use"), lie)
    assert "**the first row is lost**" in judge.cell(fault("session killed in use"), lie)


def test_who_is_better_is_named_and_who_got_it_by_breaking_a_promise_is_not():
    ours, quick = seen(healed=0.9), seen(healed=0.1)
    late = seen(healed=0.1, longest=3.0)

    assert judge.better(ours, quick, fault("restart")) == ["back after 0.10 s instead of 0.90 s"]
    assert judge.better(ours, late, fault("restart")) == []
    assert judge.better(quick, ours, fault("restart")) == []


def test_a_promise_that_another_pool_kept_and_ours_did_not_is_a_loss():
    cells = [
        program.Cell("restart", "psycopg2", OURS, seen(ends={trial.FAILED: 2})),
        program.Cell("restart", "psycopg2", "other", seen()),
        program.Cell("restart", "psycopg2", "worse", seen(ends={trial.FAILED: 4})),
    ]

    [loss] = program.losses(cells)

    assert (loss["pool"], loss["better"]) == (
        "other",
        "ours: errors; 0 failed statements instead of 2",
    )


def test_lies_are_read_off_the_database():
    def look(held, rows, kind=trial.Holder):
        contender = trial.Contender(
            "m", object, None, None, None, "tag", None, "", lambda sql: [(row,) for row in rows]
        )
        contender.seen.held = held
        # Without its thread: only what it makes of the rows.
        kind.look_for_lies(type("Told", (kind,), {"__init__": _keep})(contender))
        return contender.seen.wrong

    def _keep(self, contender):
        self._contender = contender

    committed, failed = "commit reported success", "OperationalError at the next statement"
    assert look(committed, [1, 2]) is None
    assert look(failed, []) is None
    assert look(committed, [2]) == "the first row is lost, and commit reported success"
    assert look(committed, [1, 2, 2]) == "a row was written 2 times"
    assert look(failed, [1]) == "an error was raised, and a part was committed"
    assert look(failed, [2], trial.Writer) is None
    assert look(failed, [2, 2], trial.Writer) == "the row was written 2 times"


# -- the relay --------------------------------------------------------------------------------------


@pytest.fixture
def echo():
    """A server that sends back what it gets, and a relay before it."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(conn):
        with conn, contextlib.suppress(OSError):  # the relay may cut it
            while data := conn.recv(100):
                conn.sendall(data)

    def accept():
        while True:
            try:
                conn, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(conn,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    with wire.Wire(*listener.getsockname()) as made:
        yield made
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def client(relay):
    made = socket.create_connection((relay.host, relay.port), timeout=5)
    return made


def answers(conn, patience=5.0):
    """What comes back; None: nothing in time."""
    conn.settimeout(patience)
    conn.sendall(b"hello")
    try:
        return conn.recv(100)
    except TimeoutError:
        return None


def _speak(conn):
    for _ in range(5):
        conn.sendall(b"hello")
        conn.recv(100)
        time.sleep(0.05)


def test_a_relay_swallows_and_heals_but_what_was_dead_stays_dead(echo):
    with client(echo) as old:
        assert answers(old) == b"hello"
        echo.swallow()
        assert answers(old, 0.2) is None
        with client(echo) as during:
            assert answers(during, 0.2) is None
        echo.heal()
        assert answers(old, 0.2) is None
    with client(echo) as new:
        assert answers(new) == b"hello"


def test_a_relay_resets_and_half_closes(echo):
    with client(echo) as one, client(echo) as other:
        assert answers(one) == answers(other) == b"hello"
        echo.half_close()
        assert other.recv(100) == b""
        other.sendall(b"still taken")
        echo.reset()
        one.settimeout(5)
        assert one.recv(100) == b""  # of before
        with pytest.raises(ConnectionError):
            _speak(one)


def test_a_relay_refuses_and_vanishes_and_is_found_at_the_same_port_again(echo):
    echo.refuse()
    with pytest.raises(ConnectionRefusedError):
        client(echo)
    echo.heal()
    with client(echo) as conn:
        assert answers(conn) == b"hello"
    echo.vanish()
    with pytest.raises(TimeoutError):
        socket.create_connection((echo.host, echo.port), timeout=0.3)
    echo.heal()
    with client(echo) as conn:
        assert answers(conn) == b"hello"


def test_a_relay_is_slow_and_cuts_before_the_answer(echo):
    with client(echo) as conn:
        assert answers(conn) == b"hello"
        echo.delay = 0.3
        assert answers(conn, 0.1) is None
        conn.settimeout(5)
        assert conn.recv(100) == b"hello"
        echo.delay = 0.0
        echo.cut_when = lambda data: b"hello" in data
        assert answers(conn) == b""
    with client(echo) as conn:
        assert answers(conn) == b"hello"
