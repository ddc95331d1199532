"""What a pattern would call the files of tracks, before anything is renamed."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import load_only

from mus.errors import ConflictError
from mus.jobs.edits import refuse_unreadable
from mus.jobs.renames import NAMING_TAGS, name_by
from mus.library.file_names import NamePattern
from mus.library.moves import name_in_the_way
from mus.library.paths import shown
from mus.library.reading_rules import DEFAULT_RULES, ReadingRules
from mus.library.rename_plan import PlannedName, with_conflicts
from mus.library.tag_changes import TagChanges
from mus.library.tag_values import tag_fields
from mus.persistence.database import Database
from mus.persistence.known_tracks import LOOKUP_BATCH
from mus.persistence.libraries import all_libraries, on_this_machine
from mus.persistence.models import Track
from mus.root_map import RootMap

#: What the names are made of, and nothing of lyrics and comments: there may be 100,000 tracks.
_NAMED = load_only(
    Track.id, Track.library_id, Track.path, Track.status, Track.error_message,
    *(getattr(Track, name) for name in NAMING_TAGS),
    raiseload=True,
)  # fmt: skip


#: By raw names of tags; the others name no files.
_COLUMNS: dict[str, tuple[str, ...]] = {
    "title": ("title",), "album": ("album",), "composer": ("composer",), "genre": ("genre",),
    "artist": ("artist",), "artists": ("artist",), "albumartist": ("album_artist",),
    "albumartists": ("album_artist",), "tracknumber": ("track_number",), "tracktotal": ("track_total",),
    "discnumber": ("disc_number",), "disctotal": ("disc_total",), "date": ("date", "year"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class RenamePreview:
    """In the order in which the job goes. `more`: there are tracks behind the last."""

    names: list[PlannedName]
    libraries: dict[int, str]
    more: bool


async def preview_names(
    database: Database,
    roots: RootMap,
    track_ids: Sequence[int],
    pattern: NamePattern,
    *,
    after_id: int,
    limit: int,
    changes: TagChanges | None = None,
    rules: ReadingRules = DEFAULT_RULES,
) -> RenamePreview:
    """The names of the tracks with higher ids than `after_id`; conflicts among all of them count.

    With `changes` they are the names once those are done; `rules` are those by which tags are read then.
    """
    changed = {} if changes is None else _changed_columns(changes, rules)
    tracks: list[Track] = []
    async with database.reading() as session:
        for start in range(0, len(track_ids), LOOKUP_BATCH):
            batch = track_ids[start : start + LOOKUP_BATCH]
            query = select(Track).options(_NAMED).where(Track.id.in_(batch)).order_by(Track.id)
            tracks += (await session.scalars(query)).all()
        libraries = [on_this_machine(library, roots) for library in await all_libraries(session)]
    # In a thread: of 100,000 tracks it takes seconds.
    plan = await asyncio.to_thread(_plan, tracks, pattern, changed)
    page = [one for one in plan if one.track_id > after_id][: limit + 1]
    leaving: dict[int, set[bytes]] = defaultdict(set)
    for one in plan:
        if one.moves:
            leaving[one.library_id].add(one.path)
    folders = {library.id: library.root for library in libraries}
    names = await asyncio.to_thread(_looked_at, page[:limit], folders, leaving)
    return RenamePreview(names, {library.id: library.name for library in libraries}, len(page) > limit)


def _changed_columns(changes: TagChanges, rules: ReadingRules) -> dict[str, Any]:
    """Of `NAMING_TAGS`, those that the changes reach, as they will be read."""
    raw = changes.raw()
    fields = tag_fields(raw, rules)
    return {column: fields.get(column) for name in raw for column in _COLUMNS.get(name, ())}


def _plan(tracks: Sequence[Track], pattern: NamePattern, changed: Mapping[str, Any]) -> list[PlannedName]:
    return with_conflicts([_planned(track, pattern, changed) for track in tracks], shown)


def _planned(track: Track, pattern: NamePattern, changed: Mapping[str, Any]) -> PlannedName:
    target: bytes | None = None
    problem: str | None = None
    try:
        refuse_unreadable(track)
        target = name_by(pattern, track, changed)
    except ConflictError as error:
        problem = error.user_message
    return PlannedName(track.id, track.library_id, track.path, target, problem)


def _looked_at(
    page: Sequence[PlannedName], roots: Mapping[int, bytes], leaving: Mapping[int, Collection[bytes]]
) -> list[PlannedName]:
    """With what the disk has in the way, but for files that move away themselves."""
    looked: list[PlannedName] = []
    for one in page:
        if one.moves and one.target is not None:
            # Its own path is among those that are left.
            taken = name_in_the_way(roots[one.library_id], one.target, besides=leaving[one.library_id])
            if taken is not None:
                one = replace(one, problem=f"There is another file at {shown(taken)}")
        looked.append(one)
    return looked
