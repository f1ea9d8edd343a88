"""`Subject`: what is examined, a creator with its arguments and what its author knows.

It opens nothing before a `trial`. Knows the package's public face only.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import unquote

from ...drivers import registry
from ...drivers.base import Driver, Target
from .check import ABILITIES, NotApplicable, all_checks
from .knowledge import Knowledge
from .trial import Trial

__all__ = ["Subject"]

# In URLs and in connection strings.
_IN_TEXT = re.compile(r"(?:://[^:/@]*:|\bpassword=)([^@\s]+)").findall
_SECRETS = ("password", "passwd", "pwd", "passphrase", "token")


class Subject:
    """A driver on a database of its own."""

    def __init__(
        self,
        creator: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        knowledge: Knowledge | None = None,
    ) -> None:
        """`creator`, `args` and `kwargs`: as for `Pool`."""
        kwargs = dict(kwargs or {})
        while isinstance(creator, functools.partial):
            args, kwargs = (*creator.args, *args), {**creator.keywords, **kwargs}
            creator = creator.func
        self.creator = creator
        self.args = args
        self.kwargs = kwargs
        self.knowledge = knowledge or Knowledge()

    @classmethod
    def of(cls, creator: Any, *args: Any, **kwargs: Any) -> Subject:
        """As `Pool(creator, *args, **kwargs)`, but without settings."""
        return cls(creator, args, kwargs)

    def __repr__(self) -> str:
        return f"<Subject {self.driver().name!r}>"

    def trial(self) -> Trial:
        """For one check: a context manager that takes away whatever the check has made."""
        return Trial(self)

    def driver(self) -> Driver:
        """A new driver, as a pool would find it."""
        driver = self.knowledge.driver() or registry.find(self.creator)
        if driver is None:
            driver = Driver() if isinstance(self.creator, str) else self._driver_by_connecting()
        if driver.module is None:
            driver.module = registry.dbapi_module(self.creator)
        return driver

    def _driver_by_connecting(self) -> Driver:
        kind = self._kind_of_connection
        driver = registry.find(kind) or Driver()
        driver.module = driver.module or registry.dbapi_module(kind)
        check_settings = driver.check_settings

        def check_settings_only(settings: Any, args: Any, kwargs: Any) -> None:
            check_settings(settings, (), {})

        # As in a pool: a driver that was not known before meets no arguments of the creator's.
        setattr(driver, "connect_arguments", lambda args, kwargs: (args, kwargs))  # noqa: B010
        setattr(driver, "check_settings", check_settings_only)  # noqa: B010
        return driver

    @functools.cached_property
    def _kind_of_connection(self) -> type:
        connect, args, kwargs = self.target(Driver())
        conn = connect(*args, **kwargs)
        try:
            return type(conn)
        finally:
            conn.close()

    def target(self, driver: Driver, changed: Mapping[str, Any] | None = None) -> Target:
        """What connects, with which arguments; `changed` ones on top."""
        connect: Callable[..., Any]
        args, kwargs = self.args, {**self.kwargs, **(changed or {})}
        if isinstance(self.creator, str):
            connect, first, named = driver.parse_url(self.creator)
            return connect, (*first, *args), {**named, **kwargs}
        connect = self.creator
        if not isinstance(connect, type):
            connect = getattr(connect, "connect", connect)
        return connect, args, kwargs

    # -- what it lacks, what nobody may see -------------------------------------------------------

    def refuse_what_it_lacks(self, names: Iterable[str]) -> None:
        """Raises `NotApplicable` if it lacks one of `names`, `ValueError` if it lacks what there is
        not."""
        lacks = self.knowledge.lacks
        known = {*ABILITIES, *(check.name for check in all_checks())}
        for name in lacks:
            if name not in known and not name.startswith("dirt:"):
                raise ValueError(f"lacks={name!r}: no such ability, check or dirt")
        for name in names:
            if name in lacks:
                reason = lacks[name] if isinstance(lacks, Mapping) else ABILITIES.get(name)
                raise NotApplicable(f"lacks {name!r}" + (f": {reason}" if reason else ""))

    def secrets(self, driver: Driver | None = None) -> set[str]:
        """The passwords among the arguments."""
        _, args, kwargs = self.target(driver or self.driver())
        found = {str(kwargs[name]) for name in _SECRETS if kwargs.get(name)}
        for text in (self.creator, *args, *kwargs.values()):
            if isinstance(text, str):
                found.update(_IN_TEXT(text))
        found |= {unquote(secret) for secret in found}
        return {secret for secret in found if len(secret) > 3}  # shorter ones are in any text

    def redacted(self, text: str) -> str:
        """`text` without the passwords among the arguments."""
        try:
            secrets = self.secrets()
        except Exception:
            return "(not shown: the arguments could not be read, so it may hold a password)"
        for secret in secrets:
            text = text.replace(secret, "***")
        return text
