"""Many rows at once: what scans and watched changes do to the tracks table.

Every function works in the session of a unit of work and never commits. Batches are at most 500 rows, so that a
write transaction stays short (DESIGN §4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from sqlalchemy import Table, bindparam, case, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from mus.errors import LibraryGoneError
from mus.library.paths import parked
from mus.library.scan_plan import Move
from mus.library.states import LIVE_STATES, TrackState
from mus.library.walk import FoundFile
from mus.persistence.known_tracks import LOOKUP_BATCH, paths_of, tracks_at
from mus.persistence.models import Library, Track, utc_now

#: Tracks of one transaction that get another machine's numbers replaced.
ADOPTED_BATCH = 500

#: What PostgreSQL's advisory locks on tracks have in common; the other number is the library's.
_TRACKS_LOCK = 770002


async def hold_tracks(session: AsyncSession, library_id: int) -> int:
    """Be the only one to write this library's tracks until the transaction ends; first thing in every transaction
    that does.

    On SQLite whoever writes is alone anyway, and much rests on it: that a place still has the track it had when it
    was compared, that tracks swap their paths unseen. On PostgreSQL two jobs would also wait for each other's rows
    in a circle. Whoever keeps something made of all tracks sees by `Library.track_changes`, which is returned as it
    stands after this transaction, that they may have changed. Raises LibraryGoneError for a library that was
    removed, or is being removed.
    """
    library = await hold_tracks_of_removed(session, library_id)
    if library is None:
        raise LibraryGoneError(f"There is no library {library_id}")
    if library.removing_since is not None:
        raise LibraryGoneError(f"The library {library.name} is being removed")
    changes: int = library.track_changes
    return changes


async def hold_tracks_of_removed(session: AsyncSession, library_id: int) -> Any:
    """As `hold_tracks`, for who removes the library. Returns `name`, `removing_since` and `track_changes` of its
    row, None without one."""
    if session.get_bind().dialect.name != "sqlite":
        await session.execute(select(func.pg_advisory_xact_lock(_TRACKS_LOCK, library_id)))
    held = await session.execute(_HOLD, {"held": library_id})
    return held.one_or_none()


_LIBRARIES = cast("Table", Library.__table__)
_HOLD = (
    update(_LIBRARIES)
    .where(_LIBRARIES.c.id == bindparam("held"))
    .values(track_changes=_LIBRARIES.c.track_changes + 1)
    .returning(_LIBRARIES.c.name, _LIBRARIES.c.removing_since, _LIBRARIES.c.track_changes)
)


async def mark_missing(
    session: AsyncSession, track_ids: Sequence[int], *, last_written: Mapping[int, datetime]
) -> int:
    """Live tracks whose file is gone. Everything known of them is kept. Returns how many changed.

    `last_written` is from `known_tracks.last_writes`, before the look at the tracks' places: one that was written
    since has come back meanwhile. The times are compared with themselves, never with a clock: a clock that was set
    back made every track look as if it had just come back, and nothing went missing until it had caught up.
    """
    changed = 0
    for start in range(0, len(track_ids), LOOKUP_BATCH):
        batch = track_ids[start : start + LOOKUP_BATCH]
        rows = await session.execute(select(Track.id, Track.updated_at).where(Track.id.in_(batch)))
        unwritten = [row.id for row in rows if row.updated_at == last_written.get(row.id)]
        result = await session.execute(
            update(Track)
            .where(Track.id.in_(unwritten), Track.status.in_(LIVE_STATES))
            .values(status=TrackState.MISSING, updated_at=utc_now())
            .returning(Track.id)
        )
        changed += len(result.all())
    return changed


async def move_tracks(
    session: AsyncSession, library_id: int, moves: Sequence[Move], origins: Mapping[int, bytes]
) -> int:
    """Give tracks their files' new paths, in one transaction: swaps and chains included. Returns how many.

    `origins` are their paths when the disk was looked at: a track that has another one by now stays. A track
    that has a new path's place and does not itself move was overwritten: it is missing, and parked
    (`paths.parked`).
    """
    now_at = await paths_of(session, [move.track_id for move in moves])
    moves = [
        move for move in moves if move.track_id in now_at and now_at[move.track_id] == origins.get(move.track_id)
    ]
    if not moves:
        return 0
    now = utc_now()
    moving = {move.track_id for move in moves}
    overwritten = [
        track
        for track in await tracks_at(session, library_id, [move.found.path for move in moves])
        if track.id not in moving
    ]
    by_id = update(Track).where(Track.id == bindparam("track"))
    connection = await session.connection()
    await connection.execute(
        by_id.values(path=bindparam("parked")),
        [{"track": track.id, "parked": parked(track.path, track.id)} for track in overwritten]
        + [{"track": id_, "parked": parked(now_at[id_], id_)} for id_ in moving],
    )
    await connection.execute(
        by_id.values(
            path=bindparam("new_path"), ctime_ns=bindparam("new_ctime"), inode=bindparam("new_inode"),
            device=bindparam("new_device"), updated_at=now,
        ),
        [
            {
                "track": move.track_id, "new_path": move.found.path, "new_ctime": move.found.ctime_ns,
                "new_inode": move.found.inode, "new_device": move.found.device,
            }
            for move in moves
        ],
    )  # fmt: skip
    for start in range(0, len(moves), LOOKUP_BATCH):
        # A track that was missing is back: its tags are as they were, its analysis is done once more.
        await session.execute(
            update(Track)
            .where(
                Track.id.in_([move.track_id for move in moves[start : start + LOOKUP_BATCH]]),
                Track.status == TrackState.MISSING,
            )
            .values(
                status=case((Track.error_message.is_(None), TrackState.PENDING), else_=TrackState.ERROR),
                analysis_attempts=0,
            )
        )
    for start in range(0, len(overwritten), LOOKUP_BATCH):
        await session.execute(
            update(Track)
            .where(
                Track.id.in_([track.id for track in overwritten[start : start + LOOKUP_BATCH]]),
                Track.status.in_(LIVE_STATES),
            )
            .values(status=TrackState.MISSING, updated_at=now)
        )
    return len(moves)


async def renumber_devices(session: AsyncSession, library_id: int, renumbered: Mapping[int, int]) -> None:
    """The same file systems have other device numbers since they were mounted again: all at once, as two may
    have swapped theirs."""
    if renumbered:
        await session.execute(
            update(Track)
            .where(Track.library_id == library_id, Track.device.in_(renumbered))
            .values(device=case(dict(renumbered), value=Track.device))
        )


async def adopt_numbers(session: AsyncSession, files: Sequence[tuple[int, FoundFile]]) -> None:
    """Tracks, by id, whose unchanged files have these inodes, devices and ctimes on this machine; at most
    `ADOPTED_BATCH`. One whose file was read in another version meanwhile is left alone."""
    same_version = update(Track).where(
        Track.id == bindparam("track"),
        Track.size == bindparam("seen_size"),
        Track.mtime_ns == bindparam("seen_mtime"),
    )
    connection = await session.connection()
    await connection.execute(
        same_version.values(
            ctime_ns=bindparam("new_ctime"), inode=bindparam("new_inode"), device=bindparam("new_device")
        ),
        [
            {
                "track": track_id, "seen_size": file.size, "seen_mtime": file.mtime_ns,
                "new_ctime": file.ctime_ns, "new_inode": file.inode, "new_device": file.device,
            }
            for track_id, file in files
        ],
    )  # fmt: skip
