"""The command line: what it prints, what it refuses, and how it ends."""

from __future__ import annotations

import functools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest
from click.testing import CliRunner

from dbapi_pool.cli.app import app
from dbapi_pool.cli.demo.audit import audit
from dbapi_pool.cli.demo.database import Database, Style, UnknownDatabase
from dbapi_pool.cli.demo.report import Report
from dbapi_pool.cli.demo.runner import Rush
from dbapi_pool.cli.demo.workload import Order, OutOfStock, Product, Shop, plan

SMALL = ["demo", "--orders", "200", "--workers", "4", "--max-size", "2"]
COMMAND = [sys.executable, "-m", "dbapi_pool"]


def invoke(*arguments):
    return CliRunner().invoke(app, arguments)


def run(*arguments, **environment):
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )


@pytest.fixture
def conn():
    with closing(sqlite3.connect(":memory:")) as conn:
        yield conn


@pytest.fixture
def shop(conn):
    """A shop with two products that has handled three orders, one of them in vain."""
    shop = Shop(Style("qmark"))
    shop.open(conn, [Product(1, 250, 10), Product(2, 399, 3)])
    shop.process(conn, Order(1, ((1, 2), (2, 1))))
    shop.process(conn, Order(2, ((1, 1),)))
    conn.commit()
    with pytest.raises(OutOfStock):
        shop.process(conn, Order(3, ((1, 1), (2, 3))))
    conn.rollback()
    return shop


def wrong(conn, shop, orders=3, accepted=2, rejected=1):
    return [check.name for check in audit(conn, shop, orders, accepted, rejected) if not check.ok]


# -- the demo -------------------------------------------------------------------------------------


def test_the_demo_tells_that_every_order_is_accounted_for_with_both_contenders():
    result = invoke(*SMALL)

    assert result.exit_code == 0, result.output
    assert "OK one pool: all orders, stock and money accounted for" in result.stdout
    assert "OK connection per order: all orders" in result.stdout


def test_the_demo_s_json_is_one_document_with_what_was_measured():
    result = invoke(*SMALL, "--json")

    document = json.loads(result.stdout)
    pool, other = document["results"]
    assert document["ok"] is True
    assert (pool["name"], other["name"]) == ("one pool", "connection per order")
    assert 1 <= pool["connections_opened"] <= 2
    assert other["connections_opened"] == 200
    assert pool["accepted"] + pool["rejected"] == 200
    assert pool["orders_per_second"] > 0
    assert 0 <= pool["wait_p50_ms"] <= pool["wait_p99_ms"]
    assert 0 < other["wait_p50_ms"] <= other["wait_p99_ms"]
    assert other["wait_p50_ms"] < other["order_p50_ms"] <= other["order_p99_ms"]


def test_where_there_is_no_terminal_the_demo_prints_plain_text_and_no_bar():
    done = run(*SMALL, PYTHONIOENCODING="ascii")

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    assert done.stdout.isascii()
    assert all(len(line) <= 80 for line in done.stdout.splitlines())


def test_json_is_the_only_thing_on_standard_output():
    done = run(*SMALL, "--json")

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["orders"] == 200


def test_the_demo_leaves_no_table_in_a_database_that_is_not_its_own(tmp_path):
    file = tmp_path / "shop.db"

    result = invoke(*SMALL, "--url", f"sqlite:///{file.as_posix()}")

    assert result.exit_code == 0, result.output
    with closing(sqlite3.connect(file)) as conn:
        assert conn.execute("SELECT name FROM sqlite_master").fetchall() == []


def test_the_demo_leaves_no_temporary_folder(tmp_path):
    run(*SMALL, TMPDIR=str(tmp_path))

    assert list(tmp_path.iterdir()) == []


def test_a_lost_write_ends_the_demo_with_1_and_names_what_is_wrong(monkeypatch):
    honest = Shop.process

    def forgetful(self, conn, order):
        honest(self, conn, order)
        if order.id == 7:
            conn.cursor().execute(self.text("DELETE FROM {ledger} WHERE order_id = 7"))

    monkeypatch.setattr(Shop, "process", forgetful)

    result = invoke(*SMALL)

    assert result.exit_code == 1
    assert "WRONG one pool: entries in the ledger = orders accepted: expected" in result.stdout
    assert "WRONG connection per order: entries in the ledger" in result.stdout


def test_a_driver_s_error_in_a_worker_ends_the_demo_with_1_and_its_message(monkeypatch):
    def broken(self, conn, order):
        raise sqlite3.IntegrityError("no such thing")

    monkeypatch.setattr(Shop, "process", broken)

    result = invoke(*SMALL)

    assert result.exit_code == 1
    assert "Error: IntegrityError: no such thing" in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to a single process there")
def test_an_interrupt_ends_the_demo_with_130_a_word_and_no_folder_left(tmp_path):
    demo = subprocess.Popen(
        [*COMMAND, "demo", "--orders", "100000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        # A shell that runs the tests in the background has it ignored.
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    wait_for_orders(tmp_path, demo)

    demo.send_signal(signal.SIGINT)
    out, err = demo.communicate(timeout=30)

    assert demo.returncode == 130, err
    assert err == "Interrupted: stopped and cleaned up.\n"
    assert out == ""
    assert list(tmp_path.iterdir()) == []


def wait_for_orders(folder, demo):
    """Until the demo's database has been written to."""
    deadline = time.monotonic() + 30
    while not any(file.stat().st_size for file in folder.glob("*/*.db-wal")):
        assert demo.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers", "0"], "Invalid value for '--workers': 0 is not in the range x>=1."),
        (["--orders", "-1"], "Invalid value for '--orders': -1 is not in the range x>=1."),
        (["--max-size", "many"], "Invalid value for '--max-size': 'many' is not a valid integer"),
        (["--url", "oracle://u:secret@h/d"], "no plugin knows the scheme 'oracle'; installed:"),
        (["--url", "shop.db"], "it has no scheme; a URL starts like sqlite:///"),
    ],
)
def test_the_demo_refuses_bad_input_with_its_name_and_2(arguments, message):
    result = invoke("demo", *arguments)

    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert "secret" not in result.output


@pytest.mark.parametrize("size", ["1", "8"])
def test_a_database_in_memory_is_refused(size):
    result = invoke("demo", "--url", "sqlite:///:memory:", "--max-size", size)

    assert result.exit_code == 2, result.output
    assert "a database that is lost when a connection is closed" in result.stderr


# -- its parts ------------------------------------------------------------------------------------


def test_the_auditor_finds_nothing_wrong_with_honest_books(conn, shop):
    assert wrong(conn, shop) == []


@pytest.mark.parametrize(
    ("tampering", "finding"),
    [
        ("UPDATE {products} SET stock = stock - 1 WHERE id = 1", "units sold + units left"),
        ("UPDATE {products} SET stock = stock + 3 - 2 * id", "products of which that is not so"),
        ("UPDATE {items} SET quantity = quantity + 1", "units sold + units left"),
        ("UPDATE {items} SET price = price + 1", "order totals = price * quantity"),
        ("DELETE FROM {items} WHERE order_id = 2", "order totals = price * quantity"),
        ("DELETE FROM {orders} WHERE id = 2", "orders stored = orders accepted"),
        ("INSERT INTO {orders} VALUES (3, 0)", "orders stored = orders accepted"),
        ("UPDATE {ledger} SET amount = amount - 1", "money in the ledger = order totals"),
        ("UPDATE {ledger} SET amount = amount + 3 - 2 * order_id", "orders that differ from"),
        ("DELETE FROM {ledger} WHERE order_id = 1", "entries in the ledger"),
    ],
)
def test_the_auditor_finds_tampered_books(conn, shop, tampering, finding):
    conn.execute(shop.text(tampering))

    assert any(name.startswith(finding) for name in wrong(conn, shop))


def test_the_auditor_finds_an_order_that_nobody_handled(conn, shop):
    assert wrong(conn, shop, orders=4) == ["orders accepted + rejected = orders placed"]


def test_the_auditor_finds_an_order_that_was_said_to_be_accepted_and_is_not_there(conn, shop):
    assert "orders stored = orders accepted" in wrong(conn, shop, accepted=3, rejected=0)


def test_an_oversold_product_is_found_even_if_its_sum_is_right(conn, shop):
    conn.execute(shop.text("UPDATE {products} SET stock = -1, initial = 0 WHERE id = 2"))

    assert "products of which that is not so, or that are oversold" in wrong(conn, shop)


def test_the_same_number_of_orders_is_the_same_rush():
    assert plan(50) == plan(50)


def test_a_rush_wants_somewhat_more_than_there_is_in_stock():
    products, rush = plan(2000)

    wanted = sum(quantity for order in rush for _, quantity in order.lines)
    assert 0.9 * wanted < sum(product.stock for product in products) < wanted
    assert all(1 <= len(order.lines) <= 4 for order in rush)


@pytest.mark.parametrize(
    ("paramstyle", "text", "values"),
    [
        ("qmark", "a = ? AND b = ?", (1, 2)),
        ("numeric", "a = :1 AND b = :2", (1, 2)),
        ("named", "a = :p1 AND b = :p2", {"p1": 1, "p2": 2}),
        ("format", "a = %s AND b = %s", (1, 2)),
        ("pyformat", "a = %(p1)s AND b = %(p2)s", {"p1": 1, "p2": 2}),
    ],
)
def test_statements_are_written_in_each_of_the_five_parameter_styles(paramstyle, text, values):
    style = Style(paramstyle)

    assert style.text("a = ? AND b = ?") == text
    assert style.values((1, 2)) == values


def test_a_url_without_a_plugin_names_the_scheme_but_never_the_password():
    with pytest.raises(UnknownDatabase, match="'oracle'") as caught:
        Database.at("oracle://scott:tiger@host/db")

    assert "tiger" not in str(caught.value)


class Failing:
    """A contender whose third order fails."""

    name = "failing"

    def handle(self, order):
        if order.id == 3:
            raise RuntimeError("third")
        raise OutOfStock(order.id)

    def opened(self):
        return 0


def test_a_rush_raises_the_first_error_of_a_worker():
    with pytest.raises(OutOfStock):
        Rush(Failing(), [Order(1, ())], workers=4).run(lambda done: None)


def test_a_report_is_ok_only_if_both_contenders_books_are():
    class Result:
        def __init__(self, ok):
            self.ok = ok

    good, bad = Result(True), Result(False)

    assert Report("sqlite", 1, 1, 1, (good, good)).ok
    assert not Report("sqlite", 1, 1, 1, (good, bad)).ok


# -- plugins, versions, and what is missing -------------------------------------------------------


def test_plugins_names_the_sqlite_plugin_its_driver_and_the_library_s_version():
    result = invoke("plugins")

    assert result.exit_code == 0, result.output
    for word in "sqlite", "dbapi-pool", "sqlite3", f"SQLite {sqlite3.sqlite_version}":
        assert word in result.stdout


def test_plugins_json_is_a_list_with_each_plugin_s_drivers():
    [plugin] = [
        plugin for plugin in json.loads(invoke("plugins", "--json").stdout)
        if plugin["name"] == "sqlite"
    ]  # fmt: skip

    assert plugin["distribution"] == "dbapi-pool"
    assert plugin["drivers"] == [
        {"module": "sqlite3", "version": f"SQLite {sqlite3.sqlite_version}"}
    ]


def test_version_is_the_distribution_s():
    result = invoke("--version")

    assert result.exit_code == 0
    assert result.stdout.startswith("dbapi-pool, version ")


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_its_libraries_the_command_says_in_one_line_what_to_install(missing):
    script = (
        f"import sys; sys.modules[{missing!r}] = None; import dbapi_pool.cli as cli; cli.main()"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 2
    assert done.stderr == (
        f'dbapi-pool: the command line needs {missing}: pip install "dbapi-pool[cli]"\n'
    )
    assert done.stdout == ""
