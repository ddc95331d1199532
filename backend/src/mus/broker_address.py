"""The broker's address, `MUS_DRAGONFLY_URL`: checked once, read alike by both clients, shown without its password.

Two packages read it: `redis` for our own traffic and coredis for streaQ. They differ where it is dangerous: coredis
6.9 does not decode `%40` in a password unless told to, does not compare a certificate with the host's name, and
passes silently over options that it does not know, `ssl_ca_certs` of a plain connection among them.
"""

from __future__ import annotations

import re
import socket
import ssl
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

#: For every client of redis-py that lives on. Its own time-out of a command is `asyncio.wait_for`, which on Python
#: 3.11 swallows a cancel that comes when the command has just gone out: whoever was cancelled went on for ever. So
#: each caller has a time-out around what it asks; and a command takes no task of its own. And each connection would
#: tell the broker redis-py's version, for which it reads the installed package's files: 3 ms.
CLIENT_OPTIONS: dict[str, Any] = {"decode_responses": True, "socket_timeout": None, "driver_info": None}
#: For that of who connects: a broker that stands still takes connections and answers none.
CONNECT_SECONDS = 5.0
#: A host that loses its power says no word of it: a read that waits for a message would wait for ever. Seconds
#: until it is first asked, and between questions; how often; milliseconds that what was sent may stay unconfirmed.
_PROBES = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 30_000}
#: By the system's numbers; macOS lacks some of them.
TCP_PROBES: dict[int, int | bytes] = {
    getattr(socket, name): value for name, value in _PROBES.items() if hasattr(socket, name)
}
_TLS_OPTIONS = {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname"}
_DATABASE = re.compile(r"/?[0-9]*")


def lasting_options(url: str) -> dict[str, Any]:
    """What lets a connection notice that the other end is gone; both clients call it so. Sockets of this machine
    need none of it."""
    if urlsplit(url).scheme == "unix":
        return {}
    return {"socket_keepalive": True, "socket_keepalive_options": TCP_PROBES}


def check(url: str) -> None:
    """Raises ValueError, with what is wrong and never with the password, for an address that cannot work."""
    try:
        parts = urlsplit(url)
    except ValueError:  # its message has the password in it
        raise ValueError("is no address like redis://user:password@host:6379/0") from None
    if parts.scheme not in {"redis", "rediss", "unix"}:
        raise ValueError("must start with redis://, rediss:// or unix://")
    try:
        _ = parts.port
    except ValueError:
        raise ValueError(
            "has a port that is not a number from 0 to 65535 "
            "(write a sign like / or # in the password as %2F or %23)"
        ) from None
    if parts.fragment:
        raise ValueError("has a #, which must be written as %23")
    if parts.scheme == "unix":
        if not parts.path or parts.hostname:
            raise ValueError("must name a socket: unix:///run/broker.sock, or unix://:password@/run/broker.sock")
    elif not parts.hostname:
        raise ValueError(f"must name a host: {parts.scheme}://user:password@host:6379/0")
    elif not _DATABASE.fullmatch(parts.path):
        raise ValueError("must end in the number of a database, as in redis://host:6379/0")
    try:
        given = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise ValueError("has something behind its ? that is not of the form name=value") from None
    known = {"db"} | (_TLS_OPTIONS if parts.scheme == "rediss" else set())
    if strange := sorted(set(given) - known):
        if strange[0] in _TLS_OPTIONS:
            raise ValueError(f"takes {strange[0]} with rediss:// only")
        raise ValueError(f"knows no ?{strange[0]}=, only {', '.join(sorted(known))}")
    if "db" in given and not given["db"][0].isdecimal():
        raise ValueError("has a ?db= that is not the number of a database")
    if given.get("ssl_cert_reqs", ["required"])[0] not in {"required", "none"}:
        raise ValueError("takes required or none for ssl_cert_reqs")
    try:
        tls_context(url)
    except (OSError, ValueError) as error:
        raise ValueError(f"names certificates that cannot be used: {error}") from None


def tls_context(url: str) -> ssl.SSLContext | None:
    """How the `redis` package would verify the server, for coredis as well; None for an address without TLS.

    The system's certificates count, and those of `ssl_ca_certs`; the certificate must be for this host's name.
    Raises OSError or ValueError for files that cannot be used.
    """
    if urlsplit(url).scheme != "rediss":
        return None
    from redis.asyncio.connection import SSLConnection, parse_url

    options: dict[str, Any] = {name: value for name, value in parse_url(url).items() if name in _TLS_OPTIONS}
    return SSLConnection(**options).ssl_context.get()


def shown(url: str) -> str:
    """Host and port, or the socket's path, for messages."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return unquote(parts.path)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{host}:{parts.port or 6379}"
