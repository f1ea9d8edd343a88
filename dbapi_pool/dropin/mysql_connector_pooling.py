"""`MySQLConnectionPool` and `connect` of `mysql.connector.pooling`, on a `Pool`.

    from dbapi_pool.dropin.mysql_connector_pooling import MySQLConnectionPool
    # was: from mysql.connector.pooling import MySQLConnectionPool

What differs, and why, is in `docs/mysql-connector-pooling.md`. Here are names, sizes and
configurations. This module must never reach behind `Pool`.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from types import TracebackType
from typing import Any, ClassVar, NoReturn

from .. import errors
from ..errors import PoolClosed, PoolDeadlock, PoolSettingError, PoolTimeout
from ..pool import Pool
from . import lending

try:
    from mysql.connector.errors import PoolError as _TheirError
except ImportError:  # whoever has another `creator` does not need it
    _TheirError = Exception  # type: ignore[misc, assignment]

__all__ = [
    "CNX_POOL_MAXNAMESIZE",
    "CNX_POOL_MAXSIZE",
    "MySQLConnectionPool",
    "PoolArgumentError",
    "PoolDeadlockError",
    "PoolError",
    "PoolExhaustedError",
    "PooledMySQLConnection",
    "connect",
    "generate_pool_name",
]

CNX_POOL_MAXSIZE = 32
"""A `pool_size` above this is refused. A program may set it, as it may mysql.connector's."""
CNX_POOL_MAXNAMESIZE = 64
"""A `pool_name` longer than this is refused."""

_FORBIDDEN = re.compile(r"[^A-Za-z0-9._:*$#-]")
_POOL_ARGUMENTS = ("pool_name", "pool_size", "pool_reset_session")
_NAMED_AFTER = ("host", "port", "user", "database")
_WORDS = (
    "here max_size and min_size are pool_size; checkout_timeout and the others are in pool_settings,"
    " for a subclass to set"
)


class PoolError(errors.PoolError, _TheirError):
    """Base of the errors of these pools: the one of `mysql.connector.errors`."""

    dbapi_base = "Error"


class PoolExhaustedError(PoolError, PoolTimeout):
    """`pool_size` are lent; or, for a pool that waits, no connection in time."""


class PoolDeadlockError(PoolExhaustedError, PoolDeadlock):
    """`pool_size` are lent, and all to threads that wait for one more, this one included."""


class PoolArgumentError(PoolSettingError, AttributeError):
    """An argument was refused. An `AttributeError`, as with mysql.connector."""


class PooledMySQLConnection(lending.LoanedConnection):
    """A `PooledConnection` that ends as mysql.connector's does: `close()` gives it back, and so does
    leaving a `with` block, which commits nothing."""

    __slots__ = ()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if lending.loan_of(self) is None:
            super().__exit__(kind, exc, trace)
        else:
            self.close()

    @staticmethod
    def config(**kwargs: Any) -> NoReturn:
        """Raises `PoolError`: that is the pool's, see `MySQLConnectionPool.set_config`."""
        raise PoolError(
            "a connection of a pool is configured by the pool: use set_config() of the pool"
        )

    @property
    def pool_name(self) -> str:
        """The name of the pool that it was borrowed from."""
        return self._lease.pool.name  # type: ignore[no-any-return]


class MySQLConnectionPool:
    """A pool of mysql.connector's connections.

    pool_size: connections opened at once, kept open, and open at most; up to `CNX_POOL_MAXSIZE`
    pool_name: None: made from host, port, user and database
    pool_reset_session: True: a connection comes back as if new; False: it is only rolled back
    kwargs: are passed to `mysql.connector.connect`; without any, `set_config` must follow
    """

    pool_settings: ClassVar[Mapping[str, Any]] = {}
    """For subclasses: settings of `Pool` that win over those made from the parameters."""

    creator: ClassVar[Any] = None
    """For subclasses: what connects, a DB-API module or a function; None: mysql.connector."""

    _opens_at_once: ClassVar[bool] = True

    def __init__(
        self,
        pool_size: int = 5,
        pool_name: str | None = None,
        pool_reset_session: bool = True,
        **kwargs: Any,
    ) -> None:
        """Raises `PoolArgumentError` for a size or a name that cannot be, `PoolError` for connect
        arguments that cannot be, and the driver's own error if it cannot connect."""
        self._pool_size = _size(pool_size)
        self._pool_name = _name(pool_name or generate_pool_name(**kwargs))
        self._reset_session = pool_reset_session
        self._kept = self._least() if kwargs and self._opens_at_once else 0
        self._config = self._checked(kwargs) if kwargs else {}
        # The present pool under the one key None; another configuration has another dict. Not a
        # lock: `setdefault` is atomic too, and a fork cannot copy it half done.
        self._present: dict[None, Pool] = {}
        if kwargs:
            self._present[None] = self._make_pool(self._kept)

    @property
    def pool_name(self) -> str:
        """Its name."""
        return self._pool_name

    @property
    def pool_size(self) -> int:
        """Connections open at most."""
        return self._pool_size

    @property
    def reset_session(self) -> bool:
        """Whether a connection comes back as if new."""
        return self._reset_session

    @property
    def pool(self) -> Pool:
        """The `Pool` behind it, for `stats()` and the like; after `set_config()` it is another one.

        Raises `PoolError` if there is no configuration.
        """
        if not self._config:
            raise self._error("no connection configuration is available; call set_config()")
        present = self._present
        return present.get(None) or present.setdefault(None, self._make_pool(0))

    def set_config(self, **kwargs: Any) -> None:
        """Connect with these arguments from now on; nothing happens without any.

        Idle connections are closed now, and those of before that are lent when they come back; until
        then they do not count. Raises `PoolError` for arguments that cannot be.
        """
        if not kwargs:
            return
        self._config = self._checked(kwargs)
        self._replace({None: self._make_pool(0)})
        if self._kept:
            self.pool.resize(min_size=self._kept)  # opened in the background

    def _least(self) -> int:
        return int(self.pool_settings.get("min_size", self._pool_size))

    def _keep_open(self) -> None:
        """From now on as many connections as one that opens them at once."""
        if not self._kept:
            self._kept = self._least()
            self.pool.resize(min_size=self._kept)

    def get_connection(self) -> Any:
        """Borrow a connection; its `close()` gives it back.

        Raises `PoolError` if all are lent, or the driver's own error if it cannot connect.
        """
        if not self._config:
            raise self._error(
                f"{_EXHAUSTED}: it has no connection configuration, call set_config()"
            )
        while True:
            pool = self.pool
            try:
                return lending.lend(pool, True)
            except PoolClosed:
                self._forget(pool)
            except errors.PoolError as exc:
                raise _refusal(exc, pool, _EXHAUSTED) from exc.__cause__

    def add_connection(self, cnx: Any = None) -> None:
        """Open one more connection, if fewer than `pool_size` are open.

        `cnx`: one of mysql.connector's in place of which one of this pool's configuration is opened.
        Raises `PoolError` if there are enough, or no configuration.
        """
        pool = self.pool
        if cnx is not None and not self._may_be_given(cnx):
            raise self._error(
                f"only a connection of mysql.connector can be added, not {_kind(cnx)}"
            )
        stats = pool.stats()
        size = stats.size + stats.opening + stats.closing
        if size >= self._pool_size:
            raise self._error(
                f"Failed adding connection; queue is full: {size} are open, with those that are lent,"
                f" and pool_size={self._pool_size}"
            )
        if cnx is not None:
            cnx.close()
        try:
            pool.warm_up(size + 1)
        except errors.PoolError as exc:
            raise _refusal(exc, pool, "Failed adding connection") from exc.__cause__

    def close(self) -> None:
        """Close all connections: idle ones now, lent ones when they come back.

        Waits up to 5 seconds for those of other threads. `get_connection()` then opens new ones, when
        they are needed. (mysql.connector has no such method.)
        """
        self._kept = 0
        self._replace({}, timeout=5.0)

    def _remove_connections(self) -> int:
        """As `close()`; how many were idle. This is what programs call to close mysql.connector's."""
        pool = self._present.get(None)
        idle = 0 if pool is None else pool.stats().idle
        self.close()
        return idle

    # -- the pool behind it -----------------------------------------------------------------------

    def _make_pool(self, min_size: int) -> Pool:
        settings = {
            "name": self._pool_name,
            "max_size": self._pool_size,
            "checkout_timeout": 0.0,
            "reset": "auto" if self._reset_session else "transaction",
            **self._ping_after(),
            **self.pool_settings,
            "min_size": min_size,
        }
        creator = self._creator()
        if creator is None:
            creator = _connector()
        return lending.make_pool(creator, (), self._config, settings, PooledMySQLConnection, _WORDS)

    def _replace(self, present: dict[None, Pool], timeout: float = 0) -> None:
        before, self._present = self._present, present
        for pool in tuple(before.values()):
            pool.close(timeout)

    def _forget(self, pool: Pool) -> None:
        if self._present.get(None) is pool:
            self._present = {}
        pool.close()

    @classmethod
    def _creator(cls) -> Any:
        return cls.creator  # of the class: a function would become a method of an instance

    def _ping_after(self) -> dict[str, float]:
        """As mysql.connector does, at every checkout, where nothing else can tell that it is dead."""
        if self._creator() is None and not self._config.get("use_pure"):
            if getattr(_connector(), "HAVE_CEXT", False):
                return {"ping_after": 0.0}
        return {}

    def _checked(self, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The configuration that these arguments mean. Raises `PoolError`."""
        if self._creator() is not None:
            return dict(kwargs)
        try:
            config = _resolved(kwargs)
            # Without arguments this connects nothing.
            _connector().connect().config(**{k: v for k, v in config.items() if k != "failover"})
        except AttributeError as exc:
            raise self._error(f"Connection configuration not valid: {exc}") from exc
        return config

    def _may_be_given(self, cnx: Any) -> bool:
        if self._creator() is not None:
            return hasattr(cnx, "close")
        kind = importlib.import_module("mysql.connector.abstracts").MySQLConnectionAbstract
        return issubclass(type(cnx), kind)

    def _error(self, text: str) -> PoolError:
        return PoolError(f"{text} (pool {self._pool_name})")


_EXHAUSTED = "Failed getting connection; pool exhausted"


class _NamedPool(MySQLConnectionPool):
    """One that `connect` makes. Two threads may make one of that name at once, so it opens nothing
    before it is known whose is used."""

    _opens_at_once = False


_pools: dict[str, MySQLConnectionPool] = {}


def connect(**kwargs: Any) -> Any:
    """As `mysql.connector.connect`: with `pool_name`, `pool_size` or `pool_reset_session` a connection
    from the pool of that name, which is made if there is none; else a connection without a pool.

    Raises `PoolError` for another `pool_size` than that of the pool, and whatever
    `MySQLConnectionPool` and its `get_connection` raise.
    """
    kwargs = _resolved(kwargs)
    if not any(name in kwargs for name in _POOL_ARGUMENTS):
        return _connector().connect(**kwargs)
    name = kwargs.get("pool_name") or generate_pool_name(**kwargs)
    pool = _pools.get(name)
    if pool is None:
        pool = _pools.setdefault(name, _NamedPool(**kwargs))
    asked = kwargs.get("pool_size", pool.pool_size)
    if asked != pool.pool_size:
        raise PoolError(
            f"Size can not be changed for active pools: {name} has pool_size={pool.pool_size}, and"
            f" {asked!r} was asked for"
        )
    try:
        cnx = pool.get_connection()
        pool._keep_open()
        return cnx
    except Exception:
        if not pool.pool.stats().opened and _pools.get(name) is pool:
            # With other arguments it may work.
            _pools.pop(name, None)
            pool.close()
        raise


def generate_pool_name(**kwargs: Any) -> str:
    """The name of a pool with these connect arguments. Raises `PoolError` if it has none of host,
    port, user and database."""
    parts = [str(kwargs[name]) for name in _NAMED_AFTER if name in kwargs]
    if not parts:
        raise PoolError(
            "Failed generating pool name; specify pool_name, or one of host, port, user, database"
        )
    return "_".join(parts)


def _connector() -> Any:
    return importlib.import_module("mysql.connector")


def _resolved(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """With what is in the option files that they name, in which there may be a `pool_name` too."""
    config = dict(kwargs)
    if "read_default_file" in config:
        config["option_files"] = config.pop("read_default_file")
    if "option_files" not in config:
        return config
    files = importlib.import_module("mysql.connector.optionfiles")
    return dict(files.read_option_files(**config))


def _refusal(exc: errors.PoolError, pool: Pool, text: str) -> errors.PoolError:
    kind = PoolDeadlockError if isinstance(exc, PoolDeadlock) else PoolExhaustedError
    return lending.refusal(exc, kind, text, _WORDS, pool)


def _size(pool_size: Any) -> int:
    if not isinstance(pool_size, int) or not 0 < pool_size <= CNX_POOL_MAXSIZE:
        raise PoolArgumentError(
            f"pool_size={pool_size!r}: must be a whole number from 1 to {CNX_POOL_MAXSIZE}, which is"
            f" {__name__}.CNX_POOL_MAXSIZE, for the program to change"
        )
    return pool_size


def _name(pool_name: Any) -> str:
    if not isinstance(pool_name, str) or _FORBIDDEN.search(pool_name):
        raise PoolArgumentError(
            f"pool_name={pool_name!r}: must be of letters, digits, and . _ : * $ # -"
        )
    if len(pool_name) > CNX_POOL_MAXNAMESIZE:
        raise PoolArgumentError(
            f"pool_name={pool_name!r}: must not be longer than {CNX_POOL_MAXNAMESIZE} characters"
        )
    return pool_name


def _kind(thing: object) -> str:
    return f"an object of type {type(thing).__name__}"
