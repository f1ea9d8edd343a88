"""Where `top` looks: the `data.json` of a dashboard, over HTTP. What it tells is not trusted."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit, urlunsplit

PATIENCE = 5.0
"""Seconds that an answer may take."""
MOST = 16 * 2**20
"""Bytes of an answer."""
_NOTHING_NEWER = "since=1e300"  # samples are for charts, which are not drawn here


class Gone(Exception):
    """Nothing that can be shown came from there, and why."""


class Source:
    """A dashboard's address. Raises `ValueError` for what is none."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url if "//" in url else f"//{url}", scheme="http")
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise ValueError("must be like http://127.0.0.1:8000/")
        path = parts.path.removesuffix("data.json").rstrip("/") + "/"
        self.page = urlunsplit((parts.scheme, parts.netloc, path, "", ""))
        # No proxy: what the environment names for other hosts does not know this process.
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open

    def look(self) -> dict[str, Any]:
        """What it tells now. Raises `Gone`."""
        try:
            with self._open(f"{self.page}data.json?{_NOTHING_NEWER}", timeout=PATIENCE) as answer:
                told = json.loads(answer.read(MOST))
        except urllib.error.HTTPError as exc:
            exc.close()
            raise Gone(f"{self.page} answers {exc.code}: is that a dashboard?") from exc
        except (OSError, http.client.HTTPException) as exc:
            reason = getattr(exc, "reason", None) or exc
            raise Gone(f"{self.page} does not answer ({reason}): has it ended?") from exc
        except ValueError as exc:
            raise Gone(f"{self.page} tells no JSON: is that a dashboard?") from exc
        if not isinstance(told, dict) or "pools" not in told:
            raise Gone(f"{self.page} tells of no pools: is that a dashboard?")
        return told
