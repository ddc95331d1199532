"""Who may talk to the API: the token or a session of it, and what keeps foreign web pages out.

A pure ASGI layer around everything, so that nothing of a request is looked at before it may pass.

Programs send the token with each request, which no web page can make a browser do. A browser sends its session's
cookie by itself, whichever page asks. So an unsafe request (any method but GET, HEAD, OPTIONS and TRACE, or a
WebSocket) that a cookie alone lets in must be known to come from a page of mus': by its `Origin`, which every
browser sends with it, or where a proxy took that away by `Sec-Fetch-Site`, `same-origin` or `none`. With neither it
is refused. An `Origin` of another host, or another `Sec-Fetch-Site`, is refused always, token or none.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mus.api.problems import HARMLESS, problem_response
from mus.api.sessions import Sessions, WrongTokens
from mus.api.slow_callers import PatientReceive
from mus.config import Settings

API_PREFIX = "/api/v1"
HEALTH_PATH = f"{API_PREFIX}/health"
#: Where browsers sign in and out, and ask whether they must.
SESSION_PATH = f"{API_PREFIX}/session"
#: Where Prometheus looks unless it is told otherwise.
METRICS_PATH = "/metrics"
#: The OpenAPI names of the token and of a session of it.
BEARER_SCHEME, SESSION_SCHEME = "token", "session"

MOST_BODY_BYTES = 1024 * 1024
#: Of a request that is a picture.
MOST_PICTURE_BYTES = 16 * 1024 * 1024
_UPLOAD_PATH = re.compile(rf"{API_PREFIX}/(tracks/upload|uploads/[^/]+)")
_PICTURE_PATH = re.compile(rf"{API_PREFIX}/(pictures|tracks/\d+/cover)")
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
#: Answered without a token, or with a wrong one.
_OPEN_PATHS = frozenset({HEALTH_PATH, SESSION_PATH})
#: What a request with a good token or session carries in its scope.
_AUTHORIZED = "mus.authorized"
#: What one with a session that is to be renewed carries.
_IS_DUE = "mus.session_is_due"
_HARMLESS = tuple((name.lower().encode(), value.encode()) for name, value in HARMLESS.items())


def is_authorized(scope: Scope) -> bool:
    """Whether the request came with a valid token or session, or no token is set."""
    return bool(scope.get(_AUTHORIZED))


class Gatekeeper:
    """Lets a request through, or answers it."""

    def __init__(self, app: ASGIApp, settings: Settings, sessions: Sessions, wrong_tokens: WrongTokens) -> None:
        self._app = app
        self._sessions, self._wrong_tokens = sessions, wrong_tokens
        self._most_upload_bytes = settings.max_upload_mb * 1_000_000
        # Without a token, whoever reaches the address is let in. A web page could reach it under a name of its
        # own that resolves to this machine (DNS rebinding): answer to our own names only.
        self._hosts = (
            None if sessions.needs_token else frozenset({"localhost", "127.0.0.1", "::1", settings.host.lower()})
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is None:
            if scope["type"] == "http" and scope["method"] not in _SAFE_METHODS:
                receive = PatientReceive(receive, _length(Headers(scope=scope)))
            send = _with_headers(send, receive)
            await self._app(scope, receive, self._renewing(scope, send) if scope.get(_IS_DUE) else send)
            return
        if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
            # Before it was accepted, a close is an answer with status 403.
            await send({"type": "websocket.close", "code": 1008, "reason": refusal[1]})
            return
        status, detail, headers = refusal
        response = problem_response(scope["path"], status, detail, headers=headers)
        await response(scope, receive, _with_headers(send, receive))

    def _refusal(self, scope: Scope) -> tuple[int, str, dict[str, str]] | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._hosts is not None and _host_name(host) not in self._hosts:
            return 403, "This is not one of mus' own host names", {}
        # A browser names the page that sends an unsafe request; programs send no Origin.
        origin = headers.get("origin")
        unsafe = scope["type"] == "websocket" or scope["method"] not in _SAFE_METHODS
        if unsafe and origin is not None and not _same_host(origin, host):
            return 403, "Requests of other sites' pages are refused", {}
        site = headers.get("sec-fetch-site", "none")
        if unsafe and origin is None and site not in {"same-origin", "none"}:
            return 403, "Requests of other sites' pages are refused", {}
        if scope["type"] == "http" and scope["method"] not in _SAFE_METHODS:
            # Few requests of this API need more, and a body of unknown length could fill memory or disk.
            if "transfer-encoding" in headers:
                return 411, "Say how long the body is, with Content-Length", {}
            most = self._longest_body(scope["path"])
            if not 0 <= _length(headers) <= most:
                return 413, f"A request's body may have {most} bytes", {}
        is_open = scope["path"] in _OPEN_PATHS or not scope["path"].startswith((API_PREFIX, METRICS_PATH))
        if not self._sessions.needs_token or self._has_token(scope, headers):
            scope[_AUTHORIZED] = True
            return None
        until = self._sessions.signed_until(headers)
        if until is not None:
            if unsafe and origin is None and "sec-fetch-site" not in headers:
                return 403, "A session's request must say which page it comes from: programs send the token", {}
            scope[_AUTHORIZED] = True
            scope[_IS_DUE] = self._sessions.is_due(until)
            return None
        if is_open:
            return None
        wait = self._wrong_tokens.seconds_to_wait(caller_of(scope)) if "authorization" in headers else None
        if wait is not None:
            return 429, f"Too many wrong tokens: try again in {wait} s", {"Retry-After": str(wait)}
        return 401, "A valid token is needed", {"WWW-Authenticate": 'Bearer realm="mus"'}

    def _longest_body(self, path: str) -> int:
        if _UPLOAD_PATH.fullmatch(path):
            return self._most_upload_bytes
        return MOST_PICTURE_BYTES if _PICTURE_PATH.fullmatch(path) else MOST_BODY_BYTES

    def _has_token(self, scope: Scope, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or self._wrong_tokens.seconds_to_wait(caller_of(scope)) is not None:
            return False
        digest = self._sessions.digest_of(given.strip().encode("latin-1"))
        if self._sessions.is_token(digest):
            return True
        self._wrong_tokens.add(caller_of(scope), digest)
        return False

    def _renewing(self, scope: Scope, send: Send) -> Send:
        """Gives a session in use a new end, unless the answer itself begins or ends one."""

        async def send_renewing(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message.get("headers", ())
                if not any(name == b"set-cookie" for name, _ in headers):
                    cookie = self._sessions.cookie(is_https=is_https(scope)).encode()
                    message = {**message, "headers": [*headers, (b"set-cookie", cookie)]}
            await send(message)

        return send_renewing


def caller_of(scope: Scope) -> str:
    """The address that a request came from, or that a trusted proxy says it came from."""
    client = scope.get("client")
    return client[0] if client else "unknown"


def is_https(scope: Scope) -> bool:
    """Whether the caller spoke TLS: with this server, or as a trusted proxy says."""
    return scope["scheme"] in {"https", "wss"}


def _host_name(host: str) -> str:
    """The name in a Host header, without port and brackets; empty for nonsense."""
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name


def _same_host(origin: str, host: str) -> bool:
    # Not the scheme: behind a proxy that ends TLS the page is https and we see http.
    try:
        return urlsplit(origin).netloc.lower() == host.lower() != ""
    except ValueError:
        return False


def _length(headers: Headers) -> int:
    """Of the body; -1 for nonsense."""
    length = headers.get("content-length", "0")
    return int(length) if length.isascii() and length.isdecimal() and len(length) < 20 else -1


def _with_headers(send: Send, receive: Receive) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            given = {name for name, _ in headers}
            headers += [(name, value) for name, value in _HARMLESS if name not in given]
            if isinstance(receive, PatientReceive) and receive.gave_up:
                headers.append((b"connection", b"close"))
            message = {**message, "headers": headers}
        await send(message)

    return send_with_headers
