"""A page that shows the pools of this process as they are now: `app()` for a web application that
there is, `serve()` for a process that has none. See docs/dashboard.md.

Nothing here may use more of the package than its public face, nor let a browser ask another server.
"""

from __future__ import annotations

from .application import app
from .server import Server, serve

__all__ = ["Server", "app", "serve"]
