"""The history of edits: intents, pictures, and what was written into files.

As in `batch_operations`, every function works in the session of a unit of work, or of a reading, and never commits.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

from sqlalchemy import CursorResult, delete, exists, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from mus.errors import ConflictError, NotFoundError
from mus.library.edit_order import Picture, picture_digest
from mus.library.file_reading import FileReading, FileStat
from mus.library.paths import shown
from mus.library.states import TrackState
from mus.library.walk import FoundFile
from mus.persistence.known_tracks import LOOKUP_BATCH
from mus.persistence.models import Edit, EditPicture, EditPictureUse, Track, utc_now
from mus.persistence.stored_readings import store_readings, tags_of

DONE = "done"
#: How long after a rename of mus's own the vanishing of the old name is known for its doing.
_LATELY = timedelta(minutes=10)
#: How long a picture that no edit names yet waits for its job.
_PICTURE_WAITS = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class EditPage:
    edits: Sequence[Edit]
    #: Id before which the next page begins; None on the last.
    next_before: int | None


async def edit_named(session: AsyncSession, edit_id: int) -> Edit:
    """Raises NotFoundError, also for one that is still under way."""
    edit = await session.get(Edit, edit_id)
    if edit is None or edit.state != DONE:
        raise NotFoundError(f"There is no edit {edit_id}")
    return edit


async def edits_of(session: AsyncSession, track_id: int, *, before: int | None, limit: int) -> EditPage:
    """A track's edits that are done, the newest first."""
    query = select(Edit).where(Edit.track_id == track_id, Edit.state == DONE).order_by(Edit.id.desc())
    if before is not None:
        query = query.where(Edit.id < before)
    edits = (await session.scalars(query.limit(limit + 1))).all()
    return EditPage(edits[:limit], edits[limit - 1].id if len(edits) > limit else None)


async def edits_to_undo(session: AsyncSession, job_id: str) -> list[int]:
    """Ids of what a job did and nobody took back, the last first."""
    query = select(Edit.id).where(Edit.job_id == job_id, Edit.state == DONE, Edit.undone_by.is_(None))
    return list((await session.scalars(query.order_by(Edit.id.desc()))).all())


async def refuse_undo(session: AsyncSession, edit: Edit) -> None:
    """Raises ConflictError when the edit was taken back already, or a later one changed the same."""
    if edit.undone_by is not None:
        raise ConflictError(f"Edit {edit.id} was undone already", details={"undone_by": edit.undone_by})
    later = await session.scalars(
        select(Edit)
        .where(Edit.track_id == edit.track_id, Edit.id > edit.id, Edit.kind == edit.kind, Edit.state == DONE)
        .where(Edit.undone_by.is_(None))
        .order_by(Edit.id)
    )
    for other in later:
        if other.undoes is not None and other.undoes > edit.id:
            continue  # it took a later one back, and is nothing together with that
        if edit.kind == "rename" or not _changed(edit).isdisjoint(_changed(other)):
            raise ConflictError(
                f"Edit {other.id} changed the same later: undo that one first", details={"edit": other.id}
            )


def _changed(edit: Edit) -> set[str]:
    """Raw names of the tags that an edit changed, and `pictures`."""
    before = edit.before or {}
    pictures = {"pictures"} if before.get("pictures") is not None else set()
    return {*before.get("tags", {}), *pictures}


async def open_edits(session: AsyncSession, track_ids: Collection[int]) -> list[Edit]:
    """Those of the tracks that are under way, or were broken off."""
    found: list[Edit] = []
    ids = list(track_ids)
    for start in range(0, len(ids), LOOKUP_BATCH):
        query = select(Edit).where(Edit.track_id.in_(ids[start : start + LOOKUP_BATCH]), Edit.state != DONE)
        found += (await session.scalars(query.order_by(Edit.id))).all()
    return found


async def all_open_edits(session: AsyncSession) -> list[Edit]:
    return list((await session.scalars(select(Edit).where(Edit.state != DONE).order_by(Edit.id))).all())


async def forget_edit(session: AsyncSession, edit_id: int) -> None:
    """Of an edit that came to nothing."""
    await session.execute(delete(Edit).where(Edit.id == edit_id, Edit.state != DONE))


async def finish_edit(session: AsyncSession, edit: Edit) -> None:
    """The file is in place; what an undo took back says so."""
    await session.execute(
        update(Edit).where(Edit.id == edit.id).values(state=DONE, finished_at=utc_now(), part=None)
    )
    if edit.undoes is None:
        return
    undone = await session.get(Edit, edit.undoes)
    if undone is not None:
        await session.execute(update(Edit).where(Edit.id == undone.id).values(undone_by=edit.id))
        if undone.undoes is not None:
            # An undo that was undone: what it had taken back is there again.
            await session.execute(update(Edit).where(Edit.id == undone.undoes).values(undone_by=None))


async def retag_track(
    session: AsyncSession,
    track: Track,
    reading: FileReading,
    stat: FileStat,
    cover: Mapping[str, str | None],
    *,
    keeps_sound: bool,
) -> bool:
    """Give a track the tags and the numbers of its edited file; `cover` is empty where no picture changed.

    What is known of the sound stays with `keeps_sound`; else it is that of another file, and the track is as after
    any change of its file. False, and nothing happens, when the track is somewhere else by now, or missing.
    """
    dialect = session.get_bind().dialect.name
    values = tags_of(reading, is_sqlite=dialect == "sqlite") | dict(cover)
    result = cast(
        "CursorResult[Any]",
        await session.execute(
            update(Track)
            .where(Track.id == track.id, Track.library_id == track.library_id, Track.path == track.path)
            .where(Track.status != TrackState.MISSING)
            .values(
                **values,
                size=stat.size,
                mtime_ns=stat.mtime_ns,
                ctime_ns=stat.ctime_ns,
                inode=stat.inode,
                device=stat.device,
                updated_at=utc_now(),
            )
        ),
    )
    if result.rowcount == 1 and not keeps_sound:
        await store_readings(session, track.library_id, [reading._replace(path=track.path, stat=stat)])
    return result.rowcount == 1


# ------------------------------------------------------------------------------------------------- pictures


async def keep_picture(session: AsyncSession, data: bytes) -> str:
    """Store a picture, if it is not there; returns its digest."""
    digest = picture_digest(data)
    if (await session.execute(select(EditPicture.digest).where(EditPicture.digest == digest))).first() is None:
        await session.execute(insert(EditPicture).values(digest=digest, data=data, created_at=utc_now()))
    else:
        # Once more it waits for its job.
        await session.execute(update(EditPicture).where(EditPicture.digest == digest).values(created_at=utc_now()))
    return digest


async def has_picture(session: AsyncSession, digest: str) -> bool:
    return (
        await session.execute(select(EditPicture.digest).where(EditPicture.digest == digest))
    ).first() is not None


async def picture_data(session: AsyncSession, digest: str) -> bytes:
    """Raises NotFoundError."""
    data = (await session.execute(select(EditPicture.data).where(EditPicture.digest == digest))).scalar()
    if data is None:
        raise NotFoundError(f"There is no picture {digest}")
    return data


async def keep_pictures(session: AsyncSession, edit_id: int, pictures: Iterable[Picture]) -> None:
    """Store the pictures that an edit names, and that it does."""
    for digest, data in {picture.digest: picture.data for picture in pictures}.items():
        await keep_picture(session, data)
        await session.execute(insert(EditPictureUse).values(edit_id=edit_id, digest=digest))


async def forget_unused_pictures(session: AsyncSession) -> int:
    """Delete pictures that no edit names, and none will; returns how many."""
    is_used = exists().where(EditPictureUse.digest == EditPicture.digest)
    gone = await session.execute(
        delete(EditPicture)
        .where(~is_used, EditPicture.created_at < utc_now() - _PICTURE_WAITS)
        .returning(EditPicture.digest)
    )
    return len(gone.all())


# ----------------------------------------------------------------------------------------- mus's own writes


@dataclass(frozen=True, slots=True)
class OwnWrites:
    """Changes on the disk that are mus's own, though the tracks do not tell yet, or any more."""

    #: Versions of edited copies and of files under way to another name: size, mtime, inode, device.
    versions: frozenset[tuple[int, int, int, int]]
    #: Paths that a rename empties just now, and those that one emptied lately: what is there by now is another's.
    leaving: frozenset[bytes]
    emptied: frozenset[bytes]

    def wrote(self, file: FoundFile) -> bool:
        return (file.size, file.mtime_ns, file.inode, file.device) in self.versions


async def own_writes(session: AsyncSession, library_id: int) -> OwnWrites:
    """What edits of a library do in this moment, and which names they took away lately."""
    under_way = await session.execute(
        select(Edit.versions, Edit.path, Edit.kind)
        .join(Track, Track.id == Edit.track_id)
        .where(Track.library_id == library_id, Edit.state == "writing")
    )
    versions: set[tuple[int, int, int, int]] = set()
    leaving: set[bytes] = set()
    for row in under_way:
        numbers = (row.versions or {}).get("source" if row.kind == "rename" else "copy")
        if numbers:
            stat = FileStat(*numbers)
            versions.add((stat.size, stat.mtime_ns, stat.inode, stat.device))
        if row.kind == "rename":
            leaving.add(row.path)
    lately = await session.scalars(
        select(Edit.path)
        .join(Track, Track.id == Edit.track_id)
        .where(Track.library_id == library_id, Edit.kind == "rename", Edit.finished_at > utc_now() - _LATELY)
    )
    return OwnWrites(frozenset(versions), frozenset(leaving), frozenset(lately))


def described(path: bytes | None) -> str | None:
    return None if path is None else shown(path)
