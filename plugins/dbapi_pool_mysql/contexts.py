"""One SSL context for all the connections of a PyMySQL pool.

PyMySQL builds a context for every connection, and by default loads the system's CA bundle into it, some
20 ms each time. Here PyMySQL builds it once, from exactly the user's arguments, and every connection
gets that. This module must never decide about verification itself, nor know a pool.
"""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Mapping
from typing import Any

_TLS = frozenset({
    "ssl", "ssl_ca", "ssl_cert", "ssl_disabled", "ssl_key", "ssl_key_password", "ssl_verify_cert",
    "ssl_verify_identity",
})  # fmt: skip
_FROM_FILE = ("read_default_file", "read_default_group")  # may name certificates, unseen here
_SSL_FLAG = 0x800  # CLIENT_SSL


def can_share(kwargs: Mapping[str, Any]) -> bool:
    """Whether these arguments of `pymysql.connect` lead to a context that can be shared."""
    if kwargs.get("ssl_disabled") or kwargs.get("defer_connect"):
        return False
    if any(kwargs.get(name) for name in _FROM_FILE):
        return False
    return not isinstance(kwargs.get("ssl"), ssl.SSLContext)


class SharedContext:
    """Opens connections that share one context; made anew when one of its files has changed."""

    def __init__(self, connection_class: Any, kwargs: Mapping[str, Any]) -> None:
        """`kwargs`: the arguments of `connection_class`, of which only those on TLS are kept."""
        self._class = connection_class
        self._arguments = {name: kwargs[name] for name in _TLS & set(kwargs)}
        # Stands in for the context until `open`; with it, nothing would be trusted.
        self._placeholder = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # Guards the making of the model, which takes 20 ms: who comes meanwhile waits for it.
        self._making = threading.Lock()
        self._model: Any = None
        self._stamp: object = None

    def arguments(self, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """What to call `connection_class` with: gives a connection that `open` has to open."""
        plain = {name: value for name, value in kwargs.items() if name not in _TLS}
        return {**plain, "ssl": self._placeholder, "defer_connect": True}

    def open(self, conn: Any) -> None:
        """Give a connection its context, and connect. Does nothing to one that was not made so."""
        if getattr(conn, "ctx", None) is not self._placeholder:
            if not conn.open:
                conn.connect()
            return
        model = self._current()
        conn.ssl = model.ssl
        conn.ctx = getattr(model, "ctx", None)
        # PyMySQL 1.2 prefers TLS by default, without asking for it in its flags.
        conn.client_flag = (conn.client_flag & ~_SSL_FLAG) | (model.client_flag & _SSL_FLAG)
        if hasattr(model, "_ssl_required"):
            conn._ssl_required = model._ssl_required
        conn.connect()

    def _current(self) -> Any:
        stamp = tuple(map(_stamp, self._files()))
        with self._making:
            if self._model is None or stamp != self._stamp:
                arguments = dict(self._arguments)
                if isinstance(arguments.get("ssl"), dict):
                    arguments["ssl"] = dict(arguments["ssl"])  # PyMySQL may write to it
                self._model = self._class(defer_connect=True, **arguments)
                self._stamp = stamp
            return self._model

    def _files(self) -> list[Any]:
        """Everything that a context is made from."""
        in_ssl = self._arguments.get("ssl")
        asked = {**self._arguments, **(in_ssl if isinstance(in_ssl, Mapping) else {})}
        files = [asked.get(name) for name in ("ssl_ca", "ssl_cert", "ssl_key")]
        files += [asked.get(name) for name in ("ca", "capath", "cert", "key")]
        default = ssl.get_default_verify_paths()
        return [
            file
            for file in (*files, default.cafile, default.capath)
            if isinstance(file, (str, os.PathLike))
        ]


def _stamp(path: Any) -> tuple[Any, int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None  # building the context will say so
    return path, found.st_ino, found.st_size, found.st_mtime_ns
