"""Send a file that is being transcoded, as it comes."""

from __future__ import annotations

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mus.api.file_response import CHUNK_BYTES, stop_when_gone
from mus.api.live import HangUp
from mus.api.transcoder import Source, Transcoder
from mus.errors import MusError
from mus.library.transcoding import ENCODINGS


class TranscodedResponse(Response):
    """All of it, in pieces: how long it will be is not known, so there are no ranges of it yet."""

    def __init__(
        self, transcoder: Transcoder, source: Source, hang_up: HangUp, *, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(media_type=ENCODINGS[source.format].media_type, headers=headers)
        del self.headers["content-length"]
        self.headers["accept-ranges"] = "none"
        self.headers["cache-control"] = "no-store"
        self._transcoder, self._source, self._hang_up = transcoder, source, hang_up

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises a MusError where nothing comes of it; broken off later, the connection is."""
        if scope["method"] == "HEAD":
            await self._start(send)
            await send({"type": "http.response.body", "body": b""})
            return
        error: MusError | None = None
        async with self._transcoder.listening(self._source) as transcoding, anyio.create_task_group() as tasks:
            tasks.start_soon(stop_when_gone, receive, tasks.cancel_scope)
            position = 0
            try:
                while piece := await transcoding.read(position, CHUNK_BYTES):
                    if position == 0:
                        await self._start(send)
                    position += len(piece)
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            except MusError as broken_off:
                if position == 0:
                    error = broken_off
                else:
                    # A last piece would say that this was all.
                    self._hang_up(scope)
            if error is None:
                await send({"type": "http.response.body", "body": b""})
            tasks.cancel_scope.cancel()
        if error is not None:
            raise error

    async def _start(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
