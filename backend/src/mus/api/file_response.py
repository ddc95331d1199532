"""Send an open file, whole or one range of it (RFC 9110 §13, §14).

The file is opened, and checked to lie inside its library, before the response begins; what is sent is that open
file, whatever its path names by then.
"""

from __future__ import annotations

import os
import re
from email.utils import formatdate, parsedate_to_datetime

import anyio
import anyio.to_thread
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mus.api.problems import problem_response

CHUNK_BYTES = 256 * 1024
_RANGE = re.compile(r"\s*bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.IGNORECASE)


class UnsatisfiableRangeError(Exception):
    """The range begins past the end of the file."""


def wanted_range(header: str, size: int) -> tuple[int, int] | None:
    """First and last byte (inclusive) of a Range header; None for one to be ignored: odd units, several ranges.

    Raises UnsatisfiableRangeError.
    """
    found = _RANGE.fullmatch(header)
    if found is None or found[1] == found[2] == "":
        return None
    if found[1] == "":
        length = int(found[2])
        if length == 0 or size == 0:
            raise UnsatisfiableRangeError
        return max(0, size - length), size - 1
    first = int(found[1])
    last = int(found[2]) if found[2] else size - 1
    if found[2] and last < first:
        return None
    if first >= size:
        raise UnsatisfiableRangeError
    return first, min(last, size - 1)


class OpenFileResponse(Response):
    """Sends the descriptor's file and closes it, also when the listener goes away."""

    def __init__(
        self, descriptor: int, found: os.stat_result, *, media_type: str, headers: dict[str, str] | None = None
    ) -> None:
        self._descriptor = descriptor
        self._found = found
        self.status_code = 200
        self.media_type = media_type
        self.background = None
        self.body = b""
        self.init_headers(headers)
        self.headers["accept-ranges"] = "bytes"
        self.headers["last-modified"] = formatdate(found.st_mtime, usegmt=True)
        self.headers["etag"] = f'"{found.st_mtime_ns:x}-{found.st_size:x}"'
        self.headers["content-length"] = str(found.st_size)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._respond(scope, receive, send)
        finally:
            os.close(self._descriptor)

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Headers(scope=scope)
        size = self._found.st_size
        first, last = 0, size - 1
        if self._is_fresh(request):
            headers = MutableHeaders(raw=[pair for pair in self.raw_headers if pair[0] != b"content-length"])
            await self._send_start(send, 304, headers)
            await send({"type": "http.response.body", "body": b""})
            return
        status, headers = 200, MutableHeaders(raw=list(self.raw_headers))
        if "range" in request and self._range_applies(request):
            try:
                span = wanted_range(request["range"], size)
            except UnsatisfiableRangeError:
                refusal = problem_response(
                    scope["path"],
                    416,
                    f"The file has {size} bytes",
                    headers={"Content-Range": f"bytes */{size}", "Accept-Ranges": "bytes"},
                )
                await refusal(scope, receive, send)
                return
            if span is not None:
                first, last = span
                status = 206
                headers["content-range"] = f"bytes {first}-{last}/{size}"
                headers["content-length"] = str(last - first + 1)
        await self._send_start(send, status, headers)
        if scope["method"] == "HEAD" or last < first:
            await send({"type": "http.response.body", "body": b""})
            return
        async with anyio.create_task_group() as tasks:
            # The server does not fail a send to a listener who left; without this we would read on to the end.
            tasks.start_soon(stop_when_gone, receive, tasks.cancel_scope)
            await self._send_bytes(send, first, last)
            tasks.cancel_scope.cancel()

    async def _send_start(self, send: Send, status: int, headers: MutableHeaders) -> None:
        await send({"type": "http.response.start", "status": status, "headers": headers.raw})

    async def _send_bytes(self, send: Send, first: int, last: int) -> None:
        position = first
        while position <= last:
            wanted = min(CHUNK_BYTES, last + 1 - position)
            chunk = await anyio.to_thread.run_sync(os.pread, self._descriptor, wanted, position)
            if not chunk:
                # The length is promised already: only a broken connection tells that the rest will not come.
                raise OSError("the file became shorter while it was sent")
            position += len(chunk)
            await send({"type": "http.response.body", "body": chunk, "more_body": position <= last})

    def _is_fresh(self, request: Headers) -> bool:
        if (given := request.get("if-none-match")) is not None:
            tags = {tag.strip().removeprefix("W/") for tag in given.split(",")}
            return "*" in tags or self.headers["etag"] in tags
        since = _date(request.get("if-modified-since"))
        return since is not None and int(self._found.st_mtime) <= since

    def _range_applies(self, request: Headers) -> bool:
        given = request.get("if-range")
        return given is None or given in {self.headers["etag"], self.headers["last-modified"]}


def _date(header: str | None) -> float | None:
    try:
        return parsedate_to_datetime(header).timestamp() if header else None
    except (ValueError, OverflowError):
        return None


async def stop_when_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    """Cancel the scope when the listener goes away."""
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
