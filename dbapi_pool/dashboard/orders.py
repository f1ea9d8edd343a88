"""What a browser may order: drain, resize, suspend, resume. Who may, and what comes of it.

An order needs the token, in a header: no form and no image of another site can send one, and a script
of another site is not allowed to. It must never show the token, nor an error's cause.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from hmac import compare_digest
from typing import Any
from urllib.parse import urlsplit

from .. import Pool, PoolError, PoolSettingError

HEADER = "HTTP_X_DBAPI_POOL_TOKEN"
"""WSGI's name of the header `X-Dbapi-Pool-Token`."""
SHORTEST = 16
"""Characters of a token: what can be guessed in a day is none."""
MOST_BODY = 1024  # bytes

Environ = Mapping[str, Any]


class Refused(Exception):
    """An order that is not carried out: the HTTP status, and why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


def check_token(token: str | None) -> None:
    """Raises `PoolSettingError` for one that protects nothing, or that no header can carry."""
    if token is None:
        return
    good = len(token) >= SHORTEST and token.isascii() and token.isprintable()
    if not good or token != token.strip():
        raise PoolSettingError(
            f"token: must be None, or {SHORTEST} or more printable ASCII characters"
            " (secrets.token_urlsafe() makes one)"
        )


def check_sender(environ: Environ, token: str) -> None:
    """Raises `Refused` unless the order comes from this page, and with the token."""
    origin = environ.get("HTTP_ORIGIN")
    if origin is not None and _place(origin) != environ.get("HTTP_HOST", "").lower():
        raise Refused(403, "the order comes from a page of another origin")
    if environ.get("HTTP_SEC_FETCH_SITE", "same-origin") not in ("same-origin", "none"):
        raise Refused(403, "the order comes from a page of another site")
    given = str(environ.get(HEADER, "")).encode("utf-8", "replace")
    if not compare_digest(given, token.encode()):
        raise Refused(403, "the token is missing or wrong: send it as X-Dbapi-Pool-Token")


def _place(origin: str) -> str:
    """Host and port, without the scheme: behind a proxy that speaks TLS it is another here."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def carry_out(order: str, pool: Pool, environ: Environ) -> None:
    """Raises `Refused` for what cannot be."""
    try:
        ORDERS[order](pool, _body(environ))
    except PoolSettingError as exc:
        raise Refused(400, str(exc)) from exc
    except PoolError as exc:
        raise Refused(409, str(exc)) from exc


def _body(environ: Environ) -> dict[str, Any]:
    text = environ.get("CONTENT_LENGTH") or "0"
    if not (text.isascii() and text.isdigit()):
        raise Refused(400, "Content-Length: must be a number")
    if int(text) > MOST_BODY:
        raise Refused(413, f"the body is longer than {MOST_BODY} bytes")
    try:
        body = json.loads(environ["wsgi.input"].read(int(text)) or "{}")
    except (ValueError, RecursionError) as exc:
        raise Refused(400, "the body is no JSON") from exc
    if not isinstance(body, dict):
        raise Refused(400, "the body must be a JSON object")
    return body


def _resize(pool: Pool, sizes: dict[str, Any]) -> None:
    given = {name: size for name, size in sizes.items() if size is not None}
    if not given or not given.keys() <= {"max_size", "min_size"}:
        raise Refused(400, 'resize needs {"max_size": ...}, {"min_size": ...} or both')
    pool.resize(**given)


ORDERS: dict[str, Callable[[Pool, dict[str, Any]], None]] = {
    "drain": lambda pool, body: pool.drain(),
    "resize": _resize,
    "suspend": lambda pool, body: pool.suspend(),
    "resume": lambda pool, body: pool.resume(),
}
