"""The dashboard: what it tells, who may order what, and which browsers it does not answer."""

from __future__ import annotations

import gc
import http.client
import importlib.util
import io
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
import servers
from programs import PATIENCE

import dbapi_pool
from dbapi_pool import Pool, PoolSettingError
from dbapi_pool.adaptive import Adaptive
from dbapi_pool.dashboard import app, serve
from dbapi_pool.dashboard.picture import KEPT, MOST_HOLDERS, MOST_POOLS, SAMPLED, STEP, Recorder

TOKEN = "a-token-of-some-length"
HEADER = {"X-Dbapi-Pool-Token": TOKEN}
COMMAND = (sys.executable, "-m", "dbapi_pool")


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    with Pool(sqlite3, tmp_path / "app.db", max_size=2, name="shop") as pool:
        yield pool


class Answer:
    def __init__(self, status: str, headers: list[tuple[str, str]], body: bytes) -> None:
        self.status = int(status.split()[0])
        self.headers = {name.lower(): value for name, value in headers}
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def call(
    application: Any,
    path: str = "/",
    method: str = "GET",
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    query: str = "",
    script: str = "",
) -> Answer:
    """One request, with both sides watched by `wsgiref.validate`."""
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method, "PATH_INFO": path.encode().decode("latin-1"),
        "SCRIPT_NAME": script, "QUERY_STRING": query, "HTTP_HOST": "127.0.0.1:8000",
        "wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body)),
    }  # fmt: skip
    for name, value in (headers or {}).items():
        environ["HTTP_" + name.upper().replace("-", "_")] = value
    setup_testing_defaults(environ)
    seen: list[Any] = []

    def start_response(status: str, headers: list[Any], exc_info: Any = None) -> Any:
        seen.extend([status, headers])
        return lambda data: None

    parts = validator(application)(environ, start_response)
    try:
        text = b"".join(parts)
    finally:
        parts.close()
    return Answer(seen[0], seen[1], text)


def order(
    application: Any, what: str, name: str = "shop", body: Any = None, **headers: str
) -> Answer:
    sent = {**HEADER, **{key.replace("_", "-"): value for key, value in headers.items()}}
    text = b"" if body is None else json.dumps(body).encode()
    path = f"/pools/{name}/{what}"
    return call(application, path, "POST", text, {k: v for k, v in sent.items() if v})


# -- what it tells ---------------------------------------------------------------------------------


def test_the_data_are_those_of_the_pool(pool: Pool) -> None:
    with pool.connection() as conn:
        conn.execute("SELECT 1")
        told = call(app(pools=lambda: [pool]), "/data.json").json
        [holder] = pool.holders()

    [shown] = told["pools"]
    assert shown["name"] == "shop"
    assert shown["stats"]["in_use"] == 1
    assert shown["stats"]["checkouts"] == 1
    assert shown["health"] == {"level": "ok", "reasons": []}
    [seen] = shown["holders"]
    assert seen["site"] == holder.site
    assert seen["thread"] == threading.get_ident()
    assert seen["thread_name"] == threading.current_thread().name
    assert shown["settings"]["max_size"] == 2
    assert told["sampled"] == list(SAMPLED)
    assert told["orders"] is False
    assert told["process"] == os.getpid()


def test_by_default_all_pools_of_the_process_are_shown(pool: Pool) -> None:
    told = call(app(), "/data.json").json

    assert [one["name"] for one in told["pools"]] == [one.name for one in dbapi_pool.pools()]
    assert "shop" in [one["name"] for one in told["pools"]]


def test_sizes_after_a_resize_to_nothing_are_told(pool: Pool) -> None:
    pool.resize(max_size=0)

    [shown] = call(app(pools=lambda: [pool]), "/data.json").json["pools"]

    assert shown["settings"]["max_size"] == 0


def test_how_a_pool_is_sized_is_told(tmp_path: Path) -> None:
    with Pool(sqlite3, tmp_path / "app.db", max_size=9, sizing=Adaptive(wait=0.5)) as pool:
        [shown] = call(app(pools=lambda: [pool]), "/data.json").json["pools"]

    assert shown["settings"]["max_size"] == 1
    assert shown["settings"]["sizing"].startswith("Adaptive(wait=0.5, ")
    assert shown["settings"]["sizing"].endswith("up to 9")


def test_no_password_is_told_anywhere(tmp_path: Path) -> None:
    secret = "hunter2hunter2"

    def connect(password: str) -> sqlite3.Connection:
        if broken:
            raise sqlite3.OperationalError(f"cannot log in with {password}")
        return sqlite3.connect(tmp_path / "app.db", check_same_thread=False)

    broken = False
    with Pool(connect, password=secret, setup=f"SELECT '{secret}'", name="shop") as pool:
        dashboard = app(pools=lambda: [pool], token=TOKEN)
        with pool.connection():
            pass
        broken = True
        pool.drain()
        with pytest.raises(sqlite3.OperationalError):
            pool.connection(timeout=0.2)
        answers = [call(dashboard, path).body for path in ("/", "/data.json")]
        answers.append(order(dashboard, "resize", body={"max_size": -1}).body)

    [shown] = json.loads(answers[1])["pools"]
    assert shown["stats"]["connect_errors"] >= 1  # it has something to be silent about
    assert shown["settings"]["setup"] == "(given)"
    for text in answers:
        assert secret.encode() not in text
        assert TOKEN.encode() not in text


def test_everything_is_bounded(tmp_path: Path) -> None:
    pools = [Pool(sqlite3, tmp_path / "app.db", max_size=200) for _ in range(MOST_POOLS + 3)]
    borrowed = [pools[0].connection() for _ in range(MOST_HOLDERS + 2)]

    told = call(app(pools=lambda: pools), "/data.json").json

    assert (len(told["pools"]), told["left_off"]) == (MOST_POOLS, 3)
    assert len(told["pools"][0]["holders"]) == MOST_HOLDERS
    assert told["pools"][0]["holders_left_off"] == 2
    for conn in borrowed:
        conn.close()
    for pool in pools:
        pool.close()


def test_the_past_is_sampled_once_a_step_and_forgotten_in_time(pool: Pool) -> None:
    now = 1000.0
    recorder = Recorder(lambda: [pool], clock=lambda: now)
    for _ in range(1500):
        recorder.picture()
        now += STEP / 4
    told = recorder.picture()

    times = [sample[0] for sample in told["pools"][0]["samples"]]
    assert times[-1] - times[0] == pytest.approx(KEPT, abs=2 * STEP)
    assert all(after - before >= STEP for before, after in zip(times, times[1:], strict=False))
    newer = recorder.picture(since=times[-3])["pools"][0]["samples"]
    assert [sample[0] for sample in newer] == times[-2:]
    assert told["pools"][0]["last_minute"]["seconds"] == pytest.approx(60.0, abs=6.0)


def test_the_past_of_a_pool_does_not_keep_it(tmp_path: Path) -> None:
    living: list[Pool] = [Pool(sqlite3, tmp_path / "app.db")]
    recorder = Recorder(lambda: living)
    recorder.picture()

    living.pop().close()
    gc.collect()

    assert len(recorder._past) == 0


@pytest.mark.parametrize("since", ["nan", "inf", "-inf", "1e300", "5"])
def test_since_may_be_any_number(pool: Pool, since: str) -> None:
    assert call(app(pools=lambda: [pool]), "/data.json", query=f"since={since}").status == 200


def test_since_that_is_none_is_refused(pool: Pool) -> None:
    answer = call(app(pools=lambda: [pool]), "/data.json", query="since=<b>")
    assert answer.status == 400
    assert b"<b>" not in answer.body


# -- the page --------------------------------------------------------------------------------------


def test_the_page_may_use_nothing_but_itself(pool: Pool) -> None:
    dashboard = app(pools=lambda: [pool])
    first, second = call(dashboard), call(dashboard)

    policy = first.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'nonce-")
    assert "unsafe" not in policy
    assert policy != second.headers["content-security-policy"]  # a nonce is used once
    text = first.body.decode()
    nonce = policy.partition("script-src 'nonce-")[2].partition("'")[0]
    assert text.count(f'nonce="{nonce}"') == 2
    assert not re.search(r"\[\[[A-Z]+\]\]", text)  # everything was filled in
    outside = text.replace("http://www.w3.org/2000/svg", "")  # a name, which nobody looks up
    assert "http:" not in outside
    assert "https:" not in outside
    assert first.headers["x-frame-options"] == "DENY"
    assert first.headers["cache-control"] == "no-store"


def test_a_pools_name_is_never_part_of_a_page(tmp_path: Path) -> None:
    name = "</script><img src=x onerror=alert(1)>"
    with Pool(sqlite3, tmp_path / "app.db", name=name) as pool:
        dashboard = app(pools=lambda: [pool], token=TOKEN)
        answers = [call(dashboard, path) for path in ("/", "/data.json", f"/{name}")]
        answers.append(order(dashboard, "drain", name))

    assert [answer.status for answer in answers] == [200, 200, 404, 200]
    for answer in answers:
        assert b"<img" not in answer.body
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert answers[1].json["pools"][0]["name"] == name


def test_head_has_no_body(pool: Pool) -> None:
    answer = call(app(pools=lambda: [pool]), method="HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.headers["content-length"]) > 1000


def test_without_a_slash_it_moves_to_where_its_addresses_are_right(pool: Pool) -> None:
    answer = call(app(pools=lambda: [pool]), "", script="/admin/pools")
    assert (answer.status, answer.headers["location"]) == (308, "/admin/pools/")
    evil = call(app(pools=lambda: [pool]), "", script="//evil.example")
    assert evil.headers["location"] == "/evil.example/"


def test_a_prefix_is_taken_off(pool: Pool) -> None:
    dashboard = app(pools=lambda: [pool], prefix="/pools")

    assert call(dashboard, "/pools/").status == 200
    assert call(dashboard, "/pools/data.json").status == 200
    assert call(dashboard, "/pools").headers["location"] == "/pools/"
    assert call(dashboard, "/poolsdata.json").status == 404
    assert call(dashboard, "/data.json").status == 404


@pytest.mark.parametrize("prefix", ["pools", "/pools/", "/"])
def test_a_prefix_that_is_no_path_is_refused(prefix: str) -> None:
    with pytest.raises(PoolSettingError, match="prefix="):
        app(prefix=prefix)


# -- orders ----------------------------------------------------------------------------------------


def test_with_the_token_all_orders_are_carried_out(pool: Pool) -> None:
    dashboard = app(TOKEN, lambda: [pool])
    with pool.connection():
        pass

    assert order(dashboard, "drain").json == {"pool": "shop", "done": "drain"}
    assert pool.stats().closed == {"drained": 1}
    assert order(dashboard, "suspend").status == 200
    assert pool.stats().state == "suspended"
    assert order(dashboard, "resume").status == 200
    assert pool.stats().state == "open"
    assert order(dashboard, "resize", body={"max_size": 7, "min_size": None}).status == 200
    assert pool.max_size == 7


ORDERS = ["drain", "resize", "suspend", "resume"]


@pytest.mark.parametrize("what", ORDERS)
def test_without_a_token_there_are_no_orders(pool: Pool, what: str) -> None:
    dashboard = app(pools=lambda: [pool])

    assert order(dashboard, what, body={"max_size": 7}).status == 404
    assert b'data-orders="no"' in call(dashboard).body
    assert (pool.stats().state, pool.max_size) == ("open", 2)


@pytest.mark.parametrize(
    "headers",
    [
        {"X_Dbapi_Pool_Token": ""},
        {"X_Dbapi_Pool_Token": TOKEN[:-1]},
        {"X_Dbapi_Pool_Token": TOKEN + "x"},
        {"X_Dbapi_Pool_Token": "\u00fc" * 20},
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:8001"},
        {"Origin": "null"},
        {"Origin": "http://[bad"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
@pytest.mark.parametrize("what", ORDERS)
def test_what_does_not_come_from_the_page_with_the_token_is_forbidden(
    pool: Pool, what: str, headers: dict[str, str]
) -> None:
    answer = order(app(TOKEN, lambda: [pool]), what, body={"max_size": 7}, **headers)

    assert answer.status == 403
    assert TOKEN.encode() not in answer.body
    assert (pool.stats().state, pool.max_size) == ("open", 2)


def test_the_token_counts_in_no_other_place(pool: Pool) -> None:
    dashboard = app(TOKEN, lambda: [pool])
    answer = call(
        dashboard, "/pools/shop/suspend", "POST", TOKEN.encode(), query=f"token={TOKEN}",
        headers={"Cookie": f"token={TOKEN}", "Authorization": f"Bearer {TOKEN}"},
    )  # fmt: skip
    assert answer.status == 403


def test_the_page_itself_may_order(pool: Pool) -> None:
    headers = {"Origin": "http://127.0.0.1:8000", "Sec_Fetch_Site": "same-origin"}
    assert order(app(TOKEN, lambda: [pool]), "drain", **headers).status == 200
    headers["Origin"] = "https://127.0.0.1:8000"  # a proxy that speaks TLS
    assert order(app(TOKEN, lambda: [pool]), "drain", **headers).status == 200


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"max_size": -1}, "max_size=-1"),
        ({"max_size": "7"}, "max_size='7'"),
        ({"max_size": True}, "max_size=True"),
        ({"min_size": 3}, "min_size=3"),
        ({"ceiling": 7}, "resize needs"),
        ({}, "resize needs"),
        ([7], "a JSON object"),
    ],
)
def test_sizes_that_cannot_be_are_refused(pool: Pool, body: Any, said: str) -> None:
    answer = order(app(TOKEN, lambda: [pool]), "resize", body=body)

    assert answer.status == 400
    assert said in answer.json["error"]
    assert pool.max_size == 2


def test_other_bodies_are_refused(pool: Pool) -> None:
    dashboard = app(TOKEN, lambda: [pool])
    path = "/pools/shop/resize"

    assert call(dashboard, path, "POST", b"{", HEADER).status == 400
    assert call(dashboard, path, "POST", b"\xff", HEADER).status == 400
    assert call(dashboard, path, "POST", b"[" * 1000, HEADER).status == 400
    assert call(dashboard, path, "POST", b" " * 2000, HEADER).status == 413


def test_what_the_pool_refuses_is_told(pool: Pool) -> None:
    with Pool(sqlite3, ":memory:", max_size=1, name="memory") as memory:
        dashboard = app(TOKEN, lambda: [memory, pool])
        answer = order(dashboard, "drain", "memory")
    assert answer.status == 409
    assert "would lose the data" in answer.json["error"]
    assert order(dashboard, "suspend", "memory").status == 409  # it is closed


def test_names_lead_to_one_pool_or_to_none(pool: Pool, tmp_path: Path) -> None:
    strange = "über/shop drain?"
    with (
        Pool(sqlite3, tmp_path / "app.db", name="shop") as twin,
        Pool(sqlite3, tmp_path / "app.db", name=strange) as other,
    ):
        dashboard = app(TOKEN, lambda: [pool, twin, other])
        assert order(dashboard, "suspend").status == 409
        assert order(dashboard, "suspend", "nobody").status == 404
        assert order(dashboard, "suspend", strange).status == 200
        assert [one.stats().state for one in (pool, twin, other)] == ["open", "open", "suspended"]


def test_methods_and_paths_that_there_are_not(pool: Pool) -> None:
    dashboard = app(TOKEN, lambda: [pool])

    assert call(dashboard, "/pools/shop/drain").status == 405
    assert call(dashboard, "/pools/shop/drain").headers["allow"] == "POST"
    assert call(dashboard, "/data.json", "POST").status == 405
    assert call(dashboard, "/pools/shop/close", "POST", headers=HEADER).status == 404
    assert call(dashboard, "/drain", "POST", headers=HEADER).status == 404
    assert call(dashboard, "/../etc/passwd").status == 404


@pytest.mark.parametrize("token", ["", "short", "ü" * 20, "a" * 20 + "\n", " " + "a" * 20])
def test_a_token_that_protects_nothing_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(PoolSettingError, match="16 or more") as caught:
        app(token)
    assert not token.strip() or token not in str(caught.value)


# -- served ----------------------------------------------------------------------------------------


def fetch(port: int, path: str = "/data.json", method: str = "GET", **headers: str) -> Any:
    conn = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        conn.request(method, path, headers=sent)
        answer = conn.getresponse()
        return answer.status, answer.read()
    finally:
        conn.close()


def test_it_is_served_until_it_is_closed(pool: Pool, capfd: pytest.CaptureFixture[str]) -> None:
    with serve(pools=lambda: [pool]) as server:
        assert server.url == f"http://127.0.0.1:{server.port}/"
        status, body = fetch(server.port)
        threads = [thread for thread in threading.enumerate() if "dashboard" in thread.name]
        assert [thread.daemon for thread in threads] == [True]
    server.close()

    assert status == 200
    assert json.loads(body)["pools"][0]["name"] == "shop"
    with pytest.raises(ConnectionRefusedError):
        fetch(server.port)
    assert capfd.readouterr().err == f"dbapi_pool: dashboard at {server.url}\n"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200), ("127.0.0.1:80", 200), ("localhost:8000", 200), ("LOCALHOST", 200),
        ("[::1]:8000", 200), ("192.0.2.7", 200),
        ("evil.example", 403), ("evil.example:8000", 403), ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403), ("", 403), ("[evil]", 403),
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/", "/data.json"])
def test_it_does_not_answer_to_foreign_names(pool: Pool, host: str, status: int, path: str) -> None:
    with serve(pools=lambda: [pool], quiet=True) as server:
        seen, body = fetch(server.port, path, Host=host)

    assert seen == status
    assert (b"shop" in body) == (status == 200 and path == "/data.json")


def test_orders_by_a_foreign_name_are_not_heard(pool: Pool) -> None:
    with serve(token=TOKEN, pools=lambda: [pool], quiet=True) as server:
        headers = {**HEADER, "Content-Length": "0"}
        path = "/pools/shop/suspend"
        foreign = fetch(server.port, path, "POST", Host="evil.example", **headers)
        assert (foreign[0], pool.stats().state) == (403, "open")
        assert fetch(server.port, path, "POST", **headers)[0] == 200
        assert pool.stats().state == "suspended"


def test_names_come_through_the_server(tmp_path: Path) -> None:
    name = "über/shop drain?"
    with (
        Pool(sqlite3, tmp_path / "app.db", name=name) as pool,
        serve(token=TOKEN, pools=lambda: [pool], quiet=True) as server,
    ):
        path = f"/pools/{quote(name, safe='')}/suspend"
        assert fetch(server.port, path, "POST", **HEADER)[0] == 200
        assert pool.stats().state == "suspended"


def test_a_taken_address_is_the_callers_error(pool: Pool) -> None:
    with serve(quiet=True) as server, pytest.raises(OSError, match="in use"):
        serve(port=server.port)


def test_rubbish_and_silence_disturb_nobody(pool: Pool, capfd: pytest.CaptureFixture[str]) -> None:
    with serve(pools=lambda: [pool], quiet=True) as server:
        silent = socket.create_connection(("127.0.0.1", server.port))
        with socket.create_connection(("127.0.0.1", server.port)) as rude:
            rude.sendall(b"\x16\x03\x01 rubbish\r\n\r\n")
            rude.recv(100)
        assert fetch(server.port)[0] == 200
    silent.close()
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_does_not_keep_the_address(pool: Pool) -> None:
    program = """
import os, sys, warnings
warnings.simplefilter("ignore")
from dbapi_pool.dashboard import app, serve
dashboard = app()
server = serve(quiet=True)
ready, go = os.pipe()
if os.fork() == 0:
    os.read(ready, 1)  # until the parent has closed its own
    serve(port=server.port, quiet=True).close()
    seen = []
    parts = dashboard({"REQUEST_METHOD": "GET", "PATH_INFO": "/data.json"},
                      lambda status, headers: seen.append(status))
    print("taken over", seen, str(os.getpid()).encode() in b"".join(parts))
    os._exit(sys.stdout.flush() or 0)
server.close()
os.write(go, b".")
os.wait()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE
    )
    assert (done.stdout, done.stderr) == ("taken over ['200 OK'] True\n", "")


# -- the command line ------------------------------------------------------------------------------

PROGRAM = """
import sqlite3, sys
from dbapi_pool import Pool
pool = Pool(sqlite3, sys.argv[1], max_size=2, name="of the [red]program[/]\\x1b[31m")
conn = pool.connection()
print("ready", sys.argv[2:], __name__, flush=True)
sys.stdin.readline()
conn.close()
pool.close()
sys.exit(7)
"""


class Shown:
    """A program with `dbapi-pool dashboard` beside it."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "dashboard", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stderr is not None
        self.told = self.process.stderr.readline()
        self.url = self.told.split()[-1]

    def __enter__(self) -> Shown:
        return self

    def __exit__(self, *what: object) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def shown(tmp_path: Path) -> Iterator[Shown]:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, "utf-8")
    with Shown("--port", "0", str(program), str(tmp_path / "app.db"), "--port", "x") as shown:
        assert shown.process.stdout is not None
        assert shown.process.stdout.readline() == "ready ['--port', 'x'] __main__\n"
        yield shown


def top(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "top", *arguments], capture_output=True, text=True, timeout=PATIENCE,
        env={**os.environ, "COLUMNS": "150", "http_proxy": "http://127.0.0.1:9"},
    )  # fmt: skip


def test_a_program_is_shown_and_ends_as_it_would(shown: Shown, tmp_path: Path) -> None:
    assert shown.told.startswith("dbapi-pool: dashboard at http://127.0.0.1:")
    told = json.loads(top("--json", shown.url).stdout)

    [pool] = told["pools"]
    assert pool["holders"][0]["site"] == f"{tmp_path / 'program.py'}:5"
    out, err = shown.process.communicate("\n", PATIENCE)
    assert (shown.process.returncode, out, err) == (7, "", "")


def test_top_prints_one_picture_and_commands_no_terminal(shown: Shown) -> None:
    done = top("--once", shown.url)

    assert (done.returncode, done.stderr) == (0, "")
    assert "of the [red]program[/]\ufffd[31m" in done.stdout
    assert "program.py:5" in done.stdout
    assert "MainThread" in done.stdout
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 150


def test_top_goes_on_until_the_process_is_gone(shown: Shown) -> None:
    watching = subprocess.Popen(
        [*COMMAND, "top", "--every", "0.1", shown.url], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert watching.stdout is not None
        assert "process" in watching.stdout.readline()
        shown.process.communicate("\n", PATIENCE)
        _, err = watching.communicate(timeout=PATIENCE)
    finally:
        watching.kill()
    assert watching.returncode == 1
    assert "does not answer" in err
    assert "Traceback" not in err


def test_top_ends_at_ctrl_c(shown: Shown) -> None:
    watching = subprocess.Popen(
        [*COMMAND, "top", "--every", "0.1", shown.url], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert watching.stdout is not None
        assert "process" in watching.stdout.readline()
        watching.send_signal(signal.SIGINT)
        _, err = watching.communicate(timeout=PATIENCE)
    finally:
        watching.kill()
    assert (watching.returncode, err) == (0, "")


@pytest.mark.parametrize("url", ["ftp://host/", "http://", "http://user:pass@host/", "file:///x"])
def test_top_refuses_what_is_no_address(url: str) -> None:
    done = top("--once", url)
    assert done.returncode == 2
    assert "http://127.0.0.1:8000/" in done.stderr


@pytest.mark.parametrize(
    ("body", "said"),
    [(b"rubbish", "no JSON"), (b"[]", "no pools"), (b'{"pools": [3]}', "in another way")],
)
def test_top_of_something_else_says_so(body: bytes, said: str) -> None:
    from wsgiref.simple_server import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    def something(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [body]

    with make_server("127.0.0.1", 0, something, handler_class=Quiet) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        done = top("--once", f"127.0.0.1:{server.server_port}")
        thread.join()

    assert done.returncode == 1
    assert said in " ".join(done.stderr.split())


def test_the_demonstration_is_a_shop_at_work_that_takes_orders() -> None:
    with Shown("--demo", "--orders") as shown:
        url, _, token = shown.url.partition("#token=")
        port = int(url.rstrip("/").rpartition(":")[2])
        names = [pool["name"] for pool in json.loads(top("--json", url).stdout)["pools"]]
        answer = fetch(port, "/pools/shop/drain", "POST", X_Dbapi_Pool_Token=token)
        shown.process.send_signal(signal.SIGINT)
        out, err = shown.process.communicate(timeout=PATIENCE)

    assert {"shop", "reports"} >= set(names)
    assert answer[0] == 200
    assert shown.process.returncode == 130
    assert err == "Interrupted: stopped and cleaned up.\n"


def test_a_program_without_a_pool_gets_some(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import sqlite3, sys\n"
        "conn = sqlite3.connect(sys.argv[1])\n"
        "conn.execute('SELECT 1')\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
    )
    with Shown("--pooled", str(program), str(tmp_path / "app.db")) as shown:
        assert shown.process.stdout is not None
        assert shown.process.stdout.readline() == "ready\n"
        [pool] = json.loads(top("--json", shown.url).stdout)["pools"]
        out, err = shown.process.communicate("\n", PATIENCE)

    assert pool["holders"][0]["site"] == f"{program}:2"
    assert (shown.process.returncode, err) == (0, "")


@pytest.mark.parametrize(
    "arguments", [[], ["--demo", "program.py"], ["--demo", "--pooled"], ["--port", "70000", "x"]]
)
def test_arguments_that_mean_nothing_are_refused(arguments: list[str]) -> None:
    done = subprocess.run(
        [*COMMAND, "dashboard", *arguments], capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 2


# -- in a web framework ----------------------------------------------------------------------------


def test_the_example_for_flask_works(pool: Pool) -> None:
    if importlib.util.find_spec("flask") is None:
        servers.missing("frameworks", "Flask is not installed")
    document = (Path(__file__).parents[1] / "docs" / "dashboard.md").read_text("utf-8")
    [example] = re.findall(r"```py\n(.*?)```", document, re.DOTALL)
    names: dict[str, Any] = {"__name__": "site"}

    exec(example, names)

    site = names["site"].test_client()
    page = site.get("/pools/")
    assert page.status_code == 200
    assert "script-src 'nonce-" in page.headers["Content-Security-Policy"]
    assert "shop" in [one["name"] for one in site.get("/pools/data.json").json["pools"]]
    assert site.get("/pools").headers["Location"] == "/pools/"
    assert site.post("/pools/pools/shop/suspend").status_code == 404
    assert site.get("/elsewhere").status_code == 404
