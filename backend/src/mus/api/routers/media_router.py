"""What a track sounds and looks like: its file, its cover and its waveform."""

from __future__ import annotations

import os
from typing import Annotated, Any
from urllib.parse import quote

import anyio.to_thread
from fastapi import APIRouter, Header, Query, Request, Response

from mus.api.dependencies import RuntimeDep, TrackId
from mus.api.file_response import OpenFileResponse
from mus.api.problems import FieldError, problems
from mus.api.schemas import Waveform
from mus.api.transcoded_response import TranscodedResponse
from mus.api.transcoder import Source, Transcoder
from mus.broker.runtime import Runtime
from mus.errors import (
    ConflictError,
    ErrorCategory,
    LibraryOfflineError,
    NotFoundError,
    TemporaryError,
    UserFixableError,
)
from mus.library.file_reading import FileStat
from mus.library.paths import shown
from mus.library.safe_open import UnreadableFileError, open_inside
from mus.library.states import LIVE_STATES
from mus.library.transcoding import ENCODINGS, TargetFormat
from mus.library.waveform import peaks_of
from mus.persistence.models import Library, Track
from mus.persistence.track_repository import track_named
from mus.persistence.track_sounds import sound_of, waveform_of

router = APIRouter(prefix="/tracks", tags=["tracks"])

#: Sides, in pixels, of the thumbnails that analysis makes.
COVER_SIZES = (300, 1000)
_OGG = "audio/ogg"
#: By the track's format, else by the file's suffix: AAC comes bare and in MP4.
_MEDIA_TYPES = {
    "mp3": "audio/mpeg",
    "alac": "audio/mp4",
    "vorbis": _OGG,
    "opus": _OGG,
    "speex": _OGG,
    "wav": "audio/wav",
    "aiff": "audio/aiff",
    "wma": "audio/x-ms-wma",
    "ape": "audio/x-ape",
    "wavpack": "audio/x-wavpack",
    "musepack": "audio/x-musepack",
    "dsf": "audio/x-dsf",
}
_SUFFIX_TYPES = {
    b"mp3": "audio/mpeg",
    b"flac": "audio/flac",
    b"m4a": "audio/mp4",
    b"m4b": "audio/mp4",
    b"mp4": "audio/mp4",
    b"aac": "audio/aac",
    b"ogg": _OGG,
    b"oga": _OGG,
    b"opus": _OGG,
    b"spx": _OGG,
    b"wav": "audio/wav",
    b"aiff": "audio/aiff",
    b"aif": "audio/aiff",
    b"aifc": "audio/aiff",
    b"wma": "audio/x-ms-wma",
    b"ape": "audio/x-ape",
    b"wv": "audio/x-wavpack",
    b"mpc": "audio/x-musepack",
    b"dsf": "audio/x-dsf",
}


def media_type(track: Track) -> str:
    """The Content-Type of a track's file."""
    by_format = _MEDIA_TYPES.get(track.format or "")
    return by_format or _SUFFIX_TYPES.get(track.path.rpartition(b".")[2].lower(), "application/octet-stream")


_BINARY = {"schema": {"type": "string", "format": "binary"}}
_STREAM_TYPES = sorted(
    {
        *_MEDIA_TYPES.values(),
        *_SUFFIX_TYPES.values(),
        *(encoding.media_type for encoding in ENCODINGS.values()),
        "application/octet-stream",
    }
)
_STREAM_CONTENT: dict[str, Any] = dict.fromkeys(_STREAM_TYPES, _BINARY)
_STREAM_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The whole file", "content": _STREAM_CONTENT},
    206: {"description": "The range asked for", "content": _STREAM_CONTENT},
    304: {"description": "The file is the one you have"},
    **problems(400, 404, 409, 416, 503),
}
_COVER_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The cover", "content": {"image/webp": _BINARY}},
    206: {"description": "The range asked for", "content": {"image/webp": _BINARY}},
    304: {"description": "The cover is the one you have"},
    **problems(404, 416),
}


@router.get(
    "/{track_id}/stream",
    response_class=Response,
    responses=_STREAM_RESPONSES,
    summary="The sound: the file, whole or the range asked for, or in another format",
)
@router.head(
    "/{track_id}/stream",
    operation_id="stream_track_head",
    response_class=Response,
    responses=_STREAM_RESPONSES,
    summary="The file's size and type",
)
async def stream_track(
    runtime: RuntimeDep,
    request: Request,
    track_id: TrackId,
    target: Annotated[
        TargetFormat | None,
        Query(alias="format", description="In this format, whatever the file's is: made while it is sent"),
    ] = None,
    start: Annotated[
        float, Query(ge=0, le=360_000, allow_inf_nan=False, description="With `format`: from this second on")
    ] = 0.0,
) -> Response:
    """With `format`, the first answer comes as it is made, with `Accept-Ranges: none`; once it is whole, it is a
    file like others, with ranges, until another needs its room. A part from `start` on is never kept."""
    if start and target is None:
        raise FieldError("query", "start", "Needs a format: the file itself has ranges")
    async with runtime.database.reading() as session:
        track = await track_named(session, track_id)
        library = await session.get_one(Library, track.library_id)
    root = runtime.settings.roots.here(library.root)
    if track.status not in LIVE_STATES:
        raise ConflictError(f"Track {track_id} has no file to play", details={"status": track.status})
    try:
        descriptor, found = await anyio.to_thread.run_sync(open_inside, root, track.path)
    except UnreadableFileError as error:
        if error.vanished and not await anyio.to_thread.run_sync(os.path.isdir, root):
            raise LibraryOfflineError("The music folder is not there: its disk may be away") from error
        raise _translated(error) from error
    if target is None:
        return OpenFileResponse(descriptor, found, media_type=media_type(track), headers=_file_headers(track.path))
    os.close(descriptor)
    transcoder: Transcoder = request.app.state.transcoder
    source = Source(track_id, root, track.path, FileStat.of(found), track.duration_seconds, target, start)
    headers = _file_headers(os.path.splitext(track.path)[0] + ENCODINGS[target].suffix.encode())
    finished = await transcoder.finished(source)
    if finished is not None:
        return OpenFileResponse(*finished, media_type=ENCODINGS[target].media_type, headers=headers)
    return TranscodedResponse(transcoder, source, request.app.state.hang_up, headers=headers)


def _file_headers(path: bytes) -> dict[str, str]:
    name = quote(shown(path.rpartition(b"/")[2]), safe="")
    return {"Content-Disposition": f"inline; filename*=utf-8''{name}", "Cache-Control": "private, no-cache"}


def _translated(error: UnreadableFileError) -> Exception:
    if error.vanished:
        return NotFoundError(error.message, recovery_actions=("Scan the library",))
    if error.category is ErrorCategory.TEMPORARY:
        return TemporaryError(error.message)
    return UserFixableError(error.message)


@router.get("/{track_id}/cover", response_class=Response, responses=_COVER_RESPONSES, summary="The cover, as WebP")
@router.head(
    "/{track_id}/cover",
    operation_id="track_cover_head",
    response_class=Response,
    responses=_COVER_RESPONSES,
    summary="The cover's size",
)
async def track_cover(
    runtime: RuntimeDep,
    track_id: TrackId,
    size: Annotated[
        int, Query(ge=1, le=10_000, description="Longest side in pixels; the nearest of 300 and 1000 is sent")
    ] = COVER_SIZES[0],
) -> Response:
    async with runtime.database.reading() as session:
        cover = (await track_named(session, track_id)).cover
    nearest = min(COVER_SIZES, key=lambda side: abs(side - size))
    opened = None if cover is None else await anyio.to_thread.run_sync(_open_thumbnail, runtime, cover, nearest)
    if cover is not None and opened is None:
        # Made on another machine, or the data folder was emptied.
        raise NotFoundError(
            f"The cover of track {track_id} is not on this machine",
            recovery_actions=("Share the thumbnails folder between machines", "Scan with mode full"),
        )
    if opened is None:
        raise NotFoundError(f"Track {track_id} has no cover")
    # Asked again each time, answered 304: the address stays the same when the track gets another cover.
    return OpenFileResponse(*opened, media_type="image/webp", headers={"Cache-Control": "private, no-cache"})


def _open_thumbnail(runtime: Runtime, cover: str, size: int) -> tuple[int, Any] | None:
    folder = bytes(runtime.settings.thumbnails_dir)
    try:
        return open_inside(folder, f"{cover[:2]}/{cover}_{size}.webp".encode())
    except UnreadableFileError:
        return None


@router.get(
    "/{track_id}/waveform",
    response_model=Waveform,
    responses={304: {"description": "The waveform is the one you have"}, **problems(404)},
    summary="The waveform, for players to draw",
)
async def track_waveform(
    runtime: RuntimeDep,
    track_id: TrackId,
    response: Response,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Waveform | Response:
    async with runtime.database.reading() as session:
        track = await track_named(session, track_id)
        sound = await sound_of(session, track)
        waveform = None if sound is None else await waveform_of(session, track)
    if sound is None or waveform is None:
        raise NotFoundError(f"Track {track_id} has no waveform, or none yet")
    # Asked again each time, answered 304: the address stays the same when the file gets another sound.
    headers = {
        "ETag": f'"{sound.audio_hash.hex()}-{sound.waveform_version}"',
        "Cache-Control": "private, no-cache",
    }
    known = [tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")]
    if headers["ETag"] in known or "*" in known:
        return Response(status_code=304, headers=headers)
    response.headers.update(headers)
    peaks = peaks_of(waveform)
    return Waveform(duration=track.duration_seconds, pieces=len(peaks) // 2, peaks=peaks)
