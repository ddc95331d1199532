"""Tracks that are there more than once."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from mus.api.cursor import decoded, encoded, scope_of
from mus.api.dependencies import CursorParam, LibraryParam, LimitParam, RuntimeDep
from mus.api.problems import problems
from mus.api.schemas import DuplicateGroup, Page
from mus.api.views import duplicate_track
from mus.errors import BadRequestError
from mus.persistence.duplicates import DuplicateKind, duplicate_groups
from mus.persistence.libraries import library_named, library_names
from mus.persistence.track_sounds import integrity_of

router = APIRouter(prefix="/duplicates", tags=["tracks"])

#: Between the parts of a key in a cursor; no sort key holds white space but single blanks.
_BETWEEN = "\x1f"


@router.get("", responses=problems(400, 404), summary="Tracks that are there more than once, in groups")
async def list_duplicates(
    runtime: RuntimeDep,
    kind: Annotated[
        DuplicateKind,
        Query(
            description="`sound`: the same audio, whatever the tags say, once it was analysed. `tags`: the same "
            "title, artist and album, within a second as long, and not of one sound"
        ),
    ] = DuplicateKind.SOUND,
    library: LibraryParam = None,
    cursor: CursorParam = None,
    limit: LimitParam = 100,
) -> Page[DuplicateGroup]:
    async with runtime.database.reading() as session:
        library_id = None if library is None else (await library_named(session, library)).id
        scope = scope_of("duplicates", kind, library_id)
        after = _key(kind, *decoded(cursor, scope, str)) if cursor is not None else None
        groups, last = await duplicate_groups(session, kind, library_id=library_id, after=after, limit=limit)
        names = await library_names(session)
        integrity = await integrity_of(session, [track.id for group in groups for track in group])
    return Page(
        items=[
            DuplicateGroup(
                kind=kind, tracks=[duplicate_track(track, names, integrity.get(track.id)) for track in group]
            )
            for group in groups
        ],
        next_cursor=encoded(scope, _text(last), len(last)) if last else None,
    )


def _text(key: tuple[Any, ...]) -> str:
    return _BETWEEN.join(part.hex() if isinstance(part, bytes) else part for part in key)


def _key(kind: DuplicateKind, text: str | None, length: int) -> tuple[Any, ...]:
    parts = (text or "").split(_BETWEEN)
    try:
        if len(parts) != length or length != (1 if kind is DuplicateKind.SOUND else 3):
            raise ValueError(parts)
        return (bytes.fromhex(parts[0]),) if kind is DuplicateKind.SOUND else tuple(parts)
    except ValueError:
        raise BadRequestError("The cursor is not one of ours") from None
