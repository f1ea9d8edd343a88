"""The page: one file of HTML with its own style and script in it, and what it is allowed to do.

Nothing of a pool is ever written into it: the script asks for that, and shows it as text.
"""

from __future__ import annotations

import functools
from importlib import resources

_STATIC = resources.files(__package__) / "static"


def text(nonce: str, orders: bool) -> str:
    """The page; `nonce`: what lets its own style and script run; `orders`: with buttons."""
    values = {"NONCE": nonce, "ORDERS": "yes" if orders else "no"}
    page = _template()
    for name, value in values.items():
        page = page.replace(f"[[{name}]]", value)
    return page


@functools.cache
def _template() -> str:
    parts = {"STYLE": _read("dashboard.css"), "SCRIPT": _read("dashboard.js")}
    page = _read("dashboard.html")
    for name, part in parts.items():
        page = page.replace(f"[[{name}]]", part)
    return page


def _read(name: str) -> str:
    return (_STATIC / name).read_text("utf-8")


def policy(nonce: str) -> str:
    """The Content-Security-Policy: its own style and script, its own server, and nothing else."""
    return (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}';"
        " connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'"
    )
