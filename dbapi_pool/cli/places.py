"""Where a server is: on this machine, or behind a network, from the address that its driver tells.

Must never look a name up.
"""

from __future__ import annotations

import ipaddress
from typing import Any


def host_of(address: str | None) -> str:
    """The host behind a network; "" for this machine, a socket file, or if it is unknown."""
    # MySQL's own words are "db via TCP/IP" and "Localhost via UNIX socket".
    address = (address or "").partition(" via ")[0]
    if not address or address.startswith(("/", "@")):
        return ""
    host, _, port = address.rpartition(":")
    if not port.isdigit() or (":" in host and _ip(host.strip("[]")) is None):
        host = address  # no port, or the end of an IPv6 address
    host = host.strip("[]")
    return "" if _is_loopback(host) else host


def is_name(host: str) -> bool:
    """Whether it is a name, that can lead elsewhere tomorrow."""
    return bool(host) and _ip(host) is None


def _ip(host: str) -> Any:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_loopback(host: str) -> bool:
    ip = _ip(host)
    return ip.is_loopback if ip is not None else host.lower() in ("", "localhost")
