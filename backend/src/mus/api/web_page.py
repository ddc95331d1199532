"""The web page: its files, and the one document that every address of it answers with.

The page is plain modules; nothing is built. Each file has the version of all of them in its address, so that a
browser keeps it for good, and takes no file of another version after an update.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from anyio import to_thread
from fastapi import FastAPI, Request
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

HERE = Path(__file__).parent.parent / "web"
#: First parts of the page's own addresses, which `web/routes.js` shows. Others are not found, as the page says to
#: who looks at it.
VIEWS = (
    "albums",
    "artists",
    "tracks",
    "recent",
    "search",
    "more",
    "queue",
    "jobs",
    "failures",
    "workers",
    "libraries",
    "upload",
    "edit",
    "trash",
    "duplicates",
    "settings",
)
_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}
#: Whole lines of our scripts that are comments: a seventh of what browsers would load, and read by nobody there.
_COMMENT = re.compile(rb"^[ \t]*(?://[^\n]*|/\*\*(?:(?!\*/).)*\*/[ \t]*)$", re.MULTILINE | re.DOTALL)
_INLINE_SCRIPT = re.compile(r"<script type=\"importmap\">(.*?)</script>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class WebFile:
    """A file of the page, as it is sent."""

    media_type: str
    content: bytes
    compressed: bytes | None


@dataclass(frozen=True, slots=True)
class WebPage:
    """The page in memory: about half a megabyte."""

    #: By their path below the folder; what is not named here is not served.
    files: dict[str, WebFile]
    #: Names the content of all files, the document's too.
    version: str
    #: index.html, with every file's address, and each module to be fetched at once.
    document: WebFile
    #: Content-Security-Policy: what is not the page's own does not run, load, or frame it. Trusted types make the
    #: browser refuse a text that would become markup, wherever it came from.
    policy: str

    @classmethod
    def read(cls, folder: Path = HERE) -> Self:
        """Read all of it."""
        files = {
            path.relative_to(folder).as_posix(): _web_file(_MEDIA_TYPES[path.suffix], _content(path))
            for path in sorted(folder.rglob("*"))
            if path.suffix in _MEDIA_TYPES
        }
        text = (folder / "index.html").read_text()
        digest = hashlib.sha256(text.encode())
        for name, file in files.items():
            digest.update(name.encode() + b"\0" + file.content)
        version = digest.hexdigest()[:16]
        preloads = "\n".join(
            f'<link rel="modulepreload" href="/web/{version}/{name}">'
            # What all others need comes first: it asks who is there while they are on their way.
            for name in sorted(files, key=lambda name: (not name.startswith(("vendor/", "text/")), "/" in name))
            if name.endswith((".js", ".mjs"))
        )
        text = text.replace("<!-- modules -->", preloads).replace("{version}", version)
        hashes = " ".join(
            f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
            for script in _INLINE_SCRIPT.findall(text)
        )
        policy = (
            f"default-src 'none'; script-src 'self' {hashes}; style-src 'self'; img-src 'self' blob:; "
            "media-src 'self'; connect-src 'self'; font-src 'self'; manifest-src 'self'; base-uri 'none'; "
            "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
        )
        return cls(files, version, _web_file("text/html; charset=utf-8", text.encode()), policy)


def _content(path: Path) -> bytes:
    """What is sent of a file: our scripts without their comments, each line in its place."""
    content = path.read_bytes()
    if path.suffix != ".js":
        return content
    return _COMMENT.sub(lambda found: b"\n" * found[0].count(b"\n"), content)


def _web_file(media_type: str, content: bytes) -> WebFile:
    compressed = None if media_type.startswith("image/png") else gzip.compress(content, mtime=0)
    return WebFile(media_type, content, compressed)


def install_web_page(app: FastAPI) -> None:
    """Serve the page at `/` and at the addresses of its views, its files below `/web`. A browser that was led to an
    address of nothing gets the page too, with status 404."""
    page: WebPage | None = None

    async def the_page() -> WebPage:
        nonlocal page
        if page is None:
            page = await to_thread.run_sync(WebPage.read)
        return page

    def headers_of(found: WebPage) -> dict[str, str]:
        return {
            "Cache-Control": "no-cache",
            "Content-Security-Policy": found.policy,
            "Cross-Origin-Opener-Policy": "same-origin",
        }

    async def document(request: Request) -> Response:
        found = await the_page()
        headers = {"ETag": f'"{found.version}"', **headers_of(found)}
        if headers["ETag"] in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return _response(request, found.document, headers)

    async def file(request: Request, version: str, name: str) -> Response:
        found = await the_page()
        if version != found.version or name not in found.files:
            raise HTTPException(404)
        # An address is of one content for good.
        return _response(request, found.files[name], {"Cache-Control": "public, max-age=31536000, immutable"})

    methods = ["GET", "HEAD"]
    for path in ("/", *(f"/{view}" for view in VIEWS), *(f"/{view}/{{rest:path}}" for view in VIEWS)):
        app.add_api_route(path, document, methods=methods, include_in_schema=False)
    app.add_api_route("/web/{version}/{name:path}", file, methods=methods, include_in_schema=False)

    nothing_there = app.router.default

    async def not_found(scope: Scope, receive: Receive, send: Send) -> None:
        if not _asks_for_a_page(scope):
            await nothing_there(scope, receive, send)
            return
        found = await the_page()
        response = _response(Request(scope), found.document, headers_of(found), status=404)
        await response(scope, receive, send)

    app.router.default = not_found


def _asks_for_a_page(scope: Scope) -> bool:
    """Whether a person waits for it: programs, and what a page asks for by itself, do not name HTML."""
    if scope["type"] != "http" or scope["method"] not in {"GET", "HEAD"} or scope["path"].startswith("/api/"):
        return False
    return "text/html" in Headers(scope=scope).get("accept", "")


def _response(request: Request, file: WebFile, headers: dict[str, str], *, status: int = 200) -> Response:
    headers["Vary"] = "Accept-Encoding"
    content = file.content
    if file.compressed is not None and "gzip" in request.headers.get("accept-encoding", ""):
        content, headers["Content-Encoding"] = file.compressed, "gzip"
    return Response(content, status, media_type=file.media_type, headers=headers)
