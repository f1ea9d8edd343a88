"""`Target`: what is to be examined, from a URL or from a creator's name with arguments.

Knows which of its parts are secrets, and takes them out of any text. Must never connect.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from ..drivers import registry

_SECRET = re.compile(r"pass|pwd|secret|token", re.IGNORECASE)
_IN_DSN = re.compile(
    r"(?:password|passwd|pwd)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|([^\s;]+))", re.IGNORECASE
)
_WORDS = {"true": True, "false": False, "none": None}
_SHORT = 3
"""Secrets of so few characters would be found in any text."""


class BadTarget(ValueError):
    """What was asked for cannot be examined; the text is for people, and names no secret."""


@dataclass(frozen=True)
class Target:
    """As for `Pool`, without settings."""

    creator: Any = field(repr=False)
    args: tuple[Any, ...] = field(default=(), repr=False)
    kwargs: Mapping[str, Any] = field(default_factory=dict, repr=False)
    code: str = "..."
    """How it is written in a program, without a secret."""

    def redacted(self, text: str) -> str:
        """`text` with every secret replaced."""
        for secret in sorted(set(self._secrets()), key=len, reverse=True):
            text = text.replace(secret, "***")
        return text

    def _secrets(self) -> Iterator[str]:
        for text in filter(lambda one: isinstance(one, str), (self.creator, *self.args)):
            yield from _secrets_in(text)
        for name, value in self.kwargs.items():
            if _SECRET.search(name) and len(str(value)) > _SHORT:
                yield str(value)
            elif isinstance(value, str):
                yield from _secrets_in(value)


def _secrets_in(text: str) -> Iterator[str]:
    """Passwords in a URL or a DSN."""
    found = [quoted or plain for quoted, plain in _IN_DSN.findall(text)]
    authority = text.partition("://")[2].partition("?")[0]
    login = authority.rpartition("@")[0]
    found.append(login.partition(":")[2])
    query = text.partition("?")[2]
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        if _SECRET.search(unquote(name)):
            found += [value, *(plain for _, plain in parse_qsl(pair))]
    for secret in found:
        yield from (one for one in (secret, unquote(secret)) if len(one) > _SHORT)


def from_url(url: str, from_environment: bool) -> Target:
    """Raises `BadTarget` if no plugin knows its scheme."""
    scheme, separator, _ = url.partition("://")
    if not separator or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
        raise BadTarget("this is no database URL: it must begin like sqlite:///app.db")
    if registry.find(url) is None:
        raise BadTarget(
            f"no installed plugin knows URLs with the scheme {scheme!r} (see `dbapi-pool plugins`);"
            " for any other driver use --creator MODULE and --arg NAME=VALUE"
        )
    hidden = from_environment or "@" in url or _SECRET.search(url.partition("?")[2])
    code = 'os.environ["DATABASE_URL"]' if hidden else repr(url)
    return Target(url, code=code.replace("'", '"'))


def from_creator(
    name: str, arguments: Sequence[str], secret: Sequence[str], environment: Mapping[str, str]
) -> Target:
    """`name`: `module` or `module:function`. `arguments`: `name=value`, or a value alone for one by
    position. `secret`: `name=VARIABLE` of the environment."""
    args = tuple(_value(text) for text in arguments if "=" not in text)
    kwargs = {
        key: _value(text)
        for key, separator, text in (one.partition("=") for one in arguments)
        if separator
    }
    for one in secret:
        key, _, variable = one.partition("=")
        if variable not in environment:
            raise BadTarget(f"--arg-env {key}: the environment has no {variable or key!r}")
        kwargs[key] = environment[variable]
    return Target(_creator(name), args, kwargs, ", ".join([name.replace(":", "."), "..."]))


def _creator(name: str) -> Any:
    module, _, attribute = name.partition(":")
    try:
        found = importlib.import_module(module)
        return getattr(found, attribute) if attribute else found
    except (ImportError, AttributeError) as exc:
        raise BadTarget(f"--creator {name}: {type(exc).__name__}: {exc}") from exc


def _value(text: str) -> Any:
    """A number, a truth value or None where it looks like one; else the text."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    return int(text) if re.fullmatch(r"-?\d+", text) else text


def file_of(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Path | None:
    """The file that a local driver would open, and make if there is none; None: none is named."""
    name = args[0] if args else kwargs.get("database")
    if not isinstance(name, str):
        return None
    if name.startswith("file:"):
        parts = urlsplit(name)
        options = dict(parse_qsl(parts.query))
        if options.get("mode") == "memory" or options.get("vfs") == "memdb":
            return None
        name = unquote(parts.path)
    return Path(name) if name and not name.startswith(":memory:") else None
