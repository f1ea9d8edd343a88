"""The dashboard as a WSGI application (PEP 3333): which addresses there are, and how each is answered.

Must never start a thread, nor open a socket.
"""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote

from .. import PoolSettingError
from .. import pools as all_pools
from . import page
from .orders import ORDERS, Refused, carry_out, check_sender, check_token
from .picture import Pools, Recorder

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
WSGIApplication = Callable[[Environ, StartResponse], Iterable[bytes]]
"""As PEP 3333 has it. (`wsgiref.types` came with Python 3.11.)"""

# What no answer of ours is: stored, sniffed, framed, or told where somebody came from.
_ALWAYS = (
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)
_NO_CONTENT = "default-src 'none'; frame-ancestors 'none'"
_READ = ("GET", "HEAD")


class Answer(NamedTuple):
    """One HTTP answer."""

    status: int
    kind: str
    body: str
    headers: tuple[tuple[str, str], ...] = ()
    policy: str = _NO_CONTENT


def app(token: str | None = None, pools: Pools = all_pools, prefix: str = "") -> WSGIApplication:
    """A WSGI application that shows pools: `GET /` is a page, `GET /data.json` what it shows.

    `token`: whoever sends it may drain, resize, suspend and resume pools (`POST /pools/NAME/drain`);
    None: nobody may. `pools`: gives the pools to show; by default all of this process that are not
    closed. `prefix`: the path at which the application is, such as "/pools", where what it is mounted
    in does not take that off `PATH_INFO` itself.

    Whoever can reach it, can read it: where that is not only you, mount it behind your log-in. Raises
    `PoolSettingError` for a token of fewer than 16 characters, and for a prefix that is no path.
    """
    check_token(token)
    if prefix and (not prefix.startswith("/") or prefix.endswith("/")):
        raise PoolSettingError(f"prefix={prefix!r}: must be empty, or begin with / and not end so")
    return _Dashboard(token, Recorder(pools), prefix)


class _Dashboard:
    def __init__(self, token: str | None, recorder: Recorder, prefix: str) -> None:
        self._token = token
        self._recorder = recorder
        self._prefix = prefix

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        try:
            answer = self._answer(environ)
        except Refused as exc:
            answer = _json(exc.status, {"error": str(exc)})
        return _send(answer, environ, start_response)

    def _answer(self, environ: Environ) -> Answer:
        path = self._path(environ)
        if path == "":
            return _move(environ)
        pages: dict[str, Callable[[Environ], Answer]] = {
            "/": self._page,
            "/data.json": self._data,
        }
        show = pages.get(path)
        if show is None:
            return self._ordered(path, environ)
        if environ["REQUEST_METHOD"] not in _READ:
            return _not_allowed("GET, HEAD")
        return show(environ)

    def _path(self, environ: Environ) -> str:
        """Below the prefix, as text: WSGI gives bytes that look like Latin-1."""
        path = str(environ.get("PATH_INFO", "")).encode("latin-1").decode("utf-8", "replace")
        if not self._prefix:
            return path
        below = path.removeprefix(self._prefix)
        if below == path or below[:1] not in ("", "/"):
            raise Refused(404, "there is nothing here")
        return below

    def _page(self, environ: Environ) -> Answer:
        nonce = secrets.token_urlsafe(16)
        text = page.text(nonce, orders=self._token is not None)
        return Answer(200, "text/html", text, policy=page.policy(nonce))

    def _data(self, environ: Environ) -> Answer:
        picture = self._recorder.picture(_since(environ))
        return _json(200, {**picture, "orders": self._token is not None})

    def _ordered(self, path: str, environ: Environ) -> Answer:
        name, _, order = path.removeprefix("/pools/").rpartition("/")
        if self._token is None or not path.startswith("/pools/") or order not in ORDERS:
            raise Refused(404, "there is nothing here")
        if environ["REQUEST_METHOD"] != "POST":
            return _not_allowed("POST")
        check_sender(environ, self._token)
        found = self._recorder.named(name)
        if not found:
            raise Refused(404, "there is no pool of that name")
        if len(found) > 1:
            raise Refused(409, f"{len(found)} pools have that name: give each a name of its own")
        carry_out(order, found[0], environ)
        return _json(200, {"pool": name, "done": order})


def _since(environ: Environ) -> float:
    [text] = parse_qs(str(environ.get("QUERY_STRING", ""))).get("since", ["-inf"])[-1:]
    try:
        since = float(text)
    except ValueError as exc:
        raise Refused(400, "since: must be a number") from exc
    return -math.inf if math.isnan(since) else since


def _json(status: int, value: Any) -> Answer:
    # Escaped, in case that anything ever takes it for HTML.
    text = json.dumps(value, allow_nan=False).replace("<", "\\u003c")
    return Answer(status, "application/json", text)


def _not_allowed(methods: str) -> Answer:
    answer = _json(405, {"error": f"only {methods}"})
    return answer._replace(headers=(("Allow", methods),))


def _move(environ: Environ) -> Answer:
    """To the address with a slash, from which the page's own addresses are reckoned."""
    path = str(environ.get("SCRIPT_NAME", "")) + str(environ.get("PATH_INFO", ""))
    # One slash first: two would name another host.
    where = quote("/" + path.encode("latin-1").decode("utf-8", "replace").strip("/"))
    where = where.rstrip("/") + "/"
    return Answer(308, "text/plain", "", headers=(("Location", where),))


def _send(answer: Answer, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    body = answer.body.encode()
    headers = [
        ("Content-Type", f"{answer.kind}; charset=utf-8"),
        ("Content-Length", str(len(body))),
        ("Content-Security-Policy", answer.policy),
        *_ALWAYS,
        *answer.headers,
    ]
    start_response(f"{answer.status} {HTTPStatus(answer.status).phrase}", headers)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]
