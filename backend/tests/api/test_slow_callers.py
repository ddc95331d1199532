"""Callers who never come to the end of what they say."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from mus.api import slow_callers
from mus.persistence.models import Library
from waiting import until

Client = httpx.AsyncClient


@pytest.fixture
def database_kind() -> str:
    """Nothing of this is asked of a database."""
    return "sqlite"


async def said(client: Client, *pieces: bytes) -> bytes:
    """All that comes until the server closes a connection on which these pieces are sent, and then nothing."""
    parts = urlsplit(str(client.base_url))
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        async with asyncio.timeout(20):
            return await reader.read()
    finally:
        writer.close()


async def test_a_connection_on_which_no_request_comes_is_closed(
    served: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slow_callers, "HEAD_SECONDS", 0.2)
    head = b"GET /api/v1/session HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    assert await said(served) == b""
    assert await said(served, head) == b""
    # The second request of a connection, too.
    assert (await said(served, head + b"\r\n", b"GET /")).startswith(b"HTTP/1.1 200")


async def test_an_upload_that_stands_still_is_broken_off_and_leaves_nothing(
    served: Client, library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slow_callers, "SILENT_SECONDS", 0.5)
    hidden = tmp_path / "music" / ".mus-uploads"
    head = b"POST /api/v1/tracks/upload?path=a.mp3 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5000\r\n\r\n"
    upload = asyncio.create_task(said(served, head, b"ID3"))

    async def has_begun() -> bool:
        return hidden.exists() and any(hidden.iterdir())

    await until(has_begun, what="the upload's own file")
    answer = await upload
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"broken off" in answer
    assert b"connection: close" in answer
    assert list(hidden.iterdir()) == []


async def test_a_body_that_comes_too_slowly_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_callers, "SILENT_SECONDS", 0.05)

    async def dribble() -> dict[str, object]:
        await asyncio.sleep(0)  # it never stands still
        return {"type": "http.request", "body": b"x", "more_body": True}

    receive = slow_callers.PatientReceive(dribble, 1)
    async with asyncio.timeout(20):
        while (await receive())["type"] == "http.request":
            pass
    assert receive.gave_up
