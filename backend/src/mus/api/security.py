"""Who may talk to the API: the token, and what keeps foreign web pages out.

A pure ASGI layer around everything, so that nothing of a request is looked at before it may pass.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mus.api.problems import problem_response
from mus.config import Settings

API_PREFIX = "/api/v1"
HEALTH_PATH = f"{API_PREFIX}/health"
#: Where Prometheus looks unless it is told otherwise.
METRICS_PATH = "/metrics"
#: The OpenAPI name of the token.
BEARER_SCHEME = "token"

MOST_BODY_BYTES = 1024 * 1024
#: Of a request that is a picture.
MOST_PICTURE_BYTES = 16 * 1024 * 1024
UPLOAD_PATH = f"{API_PREFIX}/tracks/upload"
_PICTURE_PATH = re.compile(rf"{API_PREFIX}/(pictures|tracks/\d+/cover)")
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
#: What a request with a good token carries in its scope.
_AUTHORIZED = "mus.authorized"
_HEADERS = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"same-origin"))


def is_authorized(scope: Scope) -> bool:
    """Whether the request came with a valid token, or none is set."""
    return bool(scope.get(_AUTHORIZED))


class Gatekeeper:
    """Lets a request through, or answers it."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        token = settings.api_token.get_secret_value() if settings.api_token else ""
        self._token = token.encode()
        self._most_upload_bytes = settings.max_upload_mb * 1_000_000
        # Without a token, whoever reaches the address is let in. A web page could reach it under a name of its
        # own that resolves to this machine (DNS rebinding): answer to our own names only.
        self._hosts = None if token else frozenset({"localhost", "127.0.0.1", "::1", settings.host.lower()})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, _with_headers(send))
            return
        if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
            # Before it was accepted, a close is an answer with status 403.
            await send({"type": "websocket.close", "code": 1008, "reason": refusal[1]})
            return
        status, detail, headers = refusal
        response = problem_response(scope["path"], status, detail, headers=headers)
        await response(scope, receive, _with_headers(send))

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
        if scope["type"] == "http" and scope["method"] not in _SAFE_METHODS:
            # Few requests of this API need more, and a body of unknown length could fill memory or disk.
            if "transfer-encoding" in headers:
                return 411, "Say how long the body is, with Content-Length", {}
            length = headers.get("content-length", "0")
            most = self._longest_body(scope["path"])
            if not length.isdecimal() or int(length) > most:
                return 413, f"A request's body may have {most} bytes", {}
        scope[_AUTHORIZED] = self._has_token(headers)
        path = scope["path"]
        is_open = path == HEALTH_PATH or not path.startswith((API_PREFIX, METRICS_PATH))
        if scope[_AUTHORIZED] or is_open:
            return None
        return 401, "A valid token is needed", {"WWW-Authenticate": 'Bearer realm="mus"'}

    def _longest_body(self, path: str) -> int:
        if path == UPLOAD_PATH:
            return self._most_upload_bytes
        return MOST_PICTURE_BYTES if _PICTURE_PATH.fullmatch(path) else MOST_BODY_BYTES

    def _has_token(self, headers: Headers) -> bool:
        if not self._token:
            return True
        scheme, _, given = headers.get("authorization", "").partition(" ")
        matches = hmac.compare_digest(given.strip().encode("latin-1"), self._token)
        return matches and scheme.lower() == "bearer"


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


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *_HEADERS]}
        await send(message)

    return send_with_headers
