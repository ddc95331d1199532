"""Signing in: a browser hands the token in once, and has a cookie from then on; and how wrong tokens are counted.

The cookie is not the token, and nothing is stored: it says until when it is good, signed with a key that is made of
the token. So every process of the API takes every other's cookies, and another token makes all of them void.
Signing out takes the cookie from that browser; a copy of it is good until it ends.

`HttpOnly` keeps it from scripts, `SameSite=Strict` from what other sites' pages ask for, and `Secure`, where the
browser came by https, from the wire. A page on another port of the same host is of the same site all the same, so
`security.Gatekeeper` also wants to know which page an unsafe request comes from.
"""

from __future__ import annotations

import base64
import hmac
import ipaddress
import math
import time
from collections.abc import Callable

from starlette.datastructures import Headers

COOKIE = "mus_session"
LIFETIME_SECONDS = 30 * 86_400
#: A cookie that is older is renewed by the next request, so that one in use does not end.
_RENEWED_AFTER_SECONDS = 86_400
#: Different wrong tokens within `WINDOW_SECONDS`: of one address, and of all together. Each process counts its own.
MOST_WRONG, MOST_WRONG_TOGETHER = 10, 100
WINDOW_SECONDS = 300
#: Callers that are remembered, the latest.
_MOST_CALLERS = 1000
#: Of one address: an IPv6 network is one caller's to choose from.
_IPV6_PREFIX = 64


class Sessions:
    """Makes and reads the cookies of one token."""

    def __init__(self, token: str, *, now: Callable[[], float] = time.time) -> None:
        """`token` is empty where none is set: then there are no sessions."""
        self._now = now
        self.needs_token = bool(token)
        self._key = hmac.digest(token.encode(), b"mus session", "sha256")
        self._token_digest = self.digest_of(token.encode())

    def digest_of(self, given: bytes) -> bytes:
        """What a token is compared and counted by: of one length, and not the token."""
        return hmac.digest(self._key, b"token\0" + given, "sha256")

    def is_token(self, digest: bytes) -> bool:
        """Whether this is the token's digest, in constant time."""
        return self.needs_token and hmac.compare_digest(digest, self._token_digest)

    def signed_until(self, headers: Headers) -> float | None:
        """When the request's session ends, in seconds since the epoch; None for none, or one that has ended."""
        if not self.needs_token:
            return None
        # A page of a neighbouring host name can add cookies of this name: any good one counts.
        found = [until for value in _cookies(headers) if (until := self._read(value)) is not None]
        return max(found, default=None)

    def is_due(self, until: float) -> bool:
        """Whether a session that ends then is to be renewed."""
        return until - self._now() < LIFETIME_SECONDS - _RENEWED_AFTER_SECONDS

    def cookie(self, *, is_https: bool) -> str:
        """The `Set-Cookie` that begins a session, or renews one."""
        until = f"{math.ceil(self._now()) + LIFETIME_SECONDS}"
        return _set_cookie(f"{until}.{self._signature(until)}", LIFETIME_SECONDS, is_https=is_https)

    def _read(self, value: str) -> float | None:
        until, _, signature = value.partition(".")
        if not until.isascii() or not until.isdecimal() or len(until) > 15:
            return None
        if not hmac.compare_digest(signature.encode("utf-8", "replace"), self._signature(until).encode()):
            return None
        return float(until) if float(until) > self._now() else None

    def _signature(self, until: str) -> str:
        mac = hmac.digest(self._key, b"until\0" + until.encode(), "sha256")
        return base64.urlsafe_b64encode(mac).rstrip(b"=").decode()


def forgotten_cookie(*, is_https: bool) -> str:
    """The `Set-Cookie` that ends a session in that browser."""
    return _set_cookie("", 0, is_https=is_https)


def _set_cookie(value: str, seconds: int, *, is_https: bool) -> str:
    secure = "; Secure" if is_https else ""
    return f"{COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"


def _cookies(headers: Headers) -> list[str]:
    pairs = (pair.strip().partition("=") for header in headers.getlist("cookie") for pair in header.split(";"))
    return [value for name, _, value in pairs if name == COOKIE][:10]


class WrongTokens:
    """Who has guessed how often lately. The same wrong token again is no new guess: a program that was left with an
    old one locks nobody out."""

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        #: When each was tried, by its digest; callers in the order in which they tried first.
        self._by_caller: dict[str, dict[bytes, float]] = {}
        self._together: dict[bytes, float] = {}

    def add(self, caller: str, digest: bytes) -> None:
        """Count a wrong token."""
        name = _counted_as(caller)
        if name not in self._by_caller and len(self._by_caller) >= _MOST_CALLERS:
            del self._by_caller[next(iter(self._by_caller))]
        for tried, most in (
            (self._by_caller.setdefault(name, {}), MOST_WRONG),
            (self._together, MOST_WRONG_TOGETHER),
        ):
            self._forget_old(tried)
            if len(tried) < most:
                tried.setdefault(digest, self._now())

    def seconds_to_wait(self, caller: str, *, together: bool = False) -> int | None:
        """For how long nothing this caller tries is looked at; None while it may try.

        `together` counts everyone's: for signing in, which many can try from many addresses; not for programs,
        which would all stand still for what others do.
        """
        waits = [self._wait(self._by_caller.get(_counted_as(caller), {}), MOST_WRONG)] if self._by_caller else []
        if together:
            waits.append(self._wait(self._together, MOST_WRONG_TOGETHER))
        return max((wait for wait in waits if wait is not None), default=None)

    def _wait(self, tried: dict[bytes, float], most: int) -> int | None:
        self._forget_old(tried)
        if len(tried) < most:
            return None
        return max(1, math.ceil(min(tried.values()) + WINDOW_SECONDS - self._now()))

    def _forget_old(self, tried: dict[bytes, float]) -> None:
        oldest = self._now() - WINDOW_SECONDS
        for digest in [digest for digest, at in tried.items() if at <= oldest]:
            del tried[digest]


def _counted_as(caller: str) -> str:
    try:
        address = ipaddress.ip_address(caller)
    except ValueError:
        return caller
    if address.version == 4:
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, _IPV6_PREFIX), strict=False))
