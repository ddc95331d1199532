"""What listening found, by track: what is kept, and what a track's album comes to.

A row counts only while its hash is that of its track (`TrackSound`). Nothing is committed here.
"""

# Paths are bytes here, which pathlib does not take.

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import ColumnElement, Table, and_, delete, exists, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from mus.library.integrity import Integrity
from mus.library.listening import ASPECT_VERSIONS, Aspect, Listening
from mus.library.loudness import Loudness, LoudnessBlocks
from mus.library.states import TrackState
from mus.persistence.conflicts import insert_into
from mus.persistence.models import Track, TrackSound, TrackSoundCurves

#: Tracks that make up an album at most: more are no album, but a heap without names.
_MOST_OF_ALBUM = 1000
_SOUNDS = cast("Table", TrackSound.__table__)
_CURVES = cast("Table", TrackSoundCurves.__table__)
_COLUMNS = {
    Aspect.LOUDNESS: ("loudness_version", "integrated_lufs", "true_peak", "loudness_blocks"),
    Aspect.INTEGRITY: ("integrity_version", "integrity", "integrity_notes"),
    Aspect.WAVEFORM: ("waveform_version", "waveform"),
}
#: A folder for one disc of an album: `CD 1`, `Disc2`, `disk_03 - Live`.
_DISC_FOLDER = re.compile(rb"(?:cd|dis[ck])[ _-]*\d{1,2}\b.*", re.IGNORECASE | re.DOTALL)

#: The sound that a track has, of a query over tracks; none where it was not listened to yet, nor while its file
#: changed and its hash is still the one from before.
OWN_SOUND = and_(
    TrackSound.track_id == Track.id, TrackSound.audio_hash == Track.audio_hash, Track.analysis_version > 0
)


async def keep_listening(
    session: AsyncSession, track_id: int, listening: Listening, aspects: Collection[Aspect]
) -> None:
    """Store what was found of these aspects. What is stored of others stays, unless it is of another sound."""
    assert listening.audio_hash is not None
    values: dict[str, Any] = {f"{aspect}_version": ASPECT_VERSIONS[aspect] for aspect in aspects}
    if Aspect.LOUDNESS in aspects:
        values |= {
            "integrated_lufs": listening.integrated_lufs,
            "true_peak": listening.true_peak,
            "loudness_blocks": listening.loudness_blocks,
        }
    if Aspect.INTEGRITY in aspects:
        values |= {"integrity": listening.integrity, "integrity_notes": listening.notes}
    if Aspect.WAVEFORM in aspects:
        values["waveform"] = listening.waveform
    await _write(session, track_id, bytes.fromhex(listening.audio_hash), values | {"attempts": 0})


async def keep_unchecked(
    session: AsyncSession, track_id: int, audio_hash: bytes, reason: str, aspects: Collection[Aspect]
) -> None:
    """Set a sound aside that cannot be listened to, with the reason. `renew_attempts` brings it back."""
    values: dict[str, Any] = {name: None for aspect in aspects for name in _COLUMNS[aspect]}
    values |= {f"{aspect}_version": ASPECT_VERSIONS[aspect] for aspect in aspects}
    values |= {"integrity": Integrity.UNCHECKED, "integrity_notes": [f"Could not be checked: {reason}"]}
    await _write(session, track_id, audio_hash, values | {"attempts": 0})


async def count_attempt(session: AsyncSession, track_id: int, audio_hash: bytes) -> None:
    """Note that nothing could be found out this time."""
    await _write(session, track_id, audio_hash, {"attempts": TrackSound.attempts + 1}, first={"attempts": 1})


async def _write(
    session: AsyncSession,
    track_id: int,
    audio_hash: bytes,
    values: dict[str, Any],
    *,
    first: dict[str, Any] | None = None,
) -> None:
    await session.execute(
        delete(TrackSound).where(TrackSound.track_id == track_id, TrackSound.audio_hash != audio_hash)
    )
    curves = {name: value for name, value in values.items() if name in _CURVES.c}
    values = {name: value for name, value in values.items() if name not in curves}
    is_sqlite = session.get_bind().dialect.name == "sqlite"
    insert = insert_into(_SOUNDS, is_sqlite=is_sqlite)
    statement = insert.values(track_id=track_id, audio_hash=audio_hash, **(first or values))
    await session.execute(statement.on_conflict_do_update(index_elements=["track_id"], set_=values))
    if curves:
        statement = insert_into(_CURVES, is_sqlite=is_sqlite).values(track_id=track_id, **curves)
        await session.execute(statement.on_conflict_do_update(index_elements=["track_id"], set_=curves))


async def renew_attempts(session: AsyncSession, library_id: int) -> None:
    """Sounds that could not be had get as many tries again: whatever was wrong may be over."""
    await session.execute(
        update(TrackSound)
        .where(
            TrackSound.attempts > 0,
            # For each of those few. With the library's tracks in a list SQLite makes that list first, each time.
            select(Track.id).where(Track.id == TrackSound.track_id, Track.library_id == library_id).exists(),
        )
        .values(attempts=0)
    )


async def has_attempts(session: AsyncSession) -> bool:
    """Whether `renew_attempts` may have anything to do, in any library."""
    return await session.scalar(select(TrackSound.track_id).where(TrackSound.attempts > 0).limit(1)) is not None


async def forget_unchecked(session: AsyncSession, track_ids: Sequence[int]) -> None:
    """These files were read anew: what was set aside of them is tried again."""
    await session.execute(
        delete(TrackSound).where(TrackSound.track_id.in_(track_ids), TrackSound.integrity == Integrity.UNCHECKED)
    )


# ------------------------------------------------------------------------------------------------ what is read


def has_integrity(states: Collection[Integrity]) -> ColumnElement[bool]:
    """Tracks whose sound is in one of these states."""
    return exists().where(OWN_SOUND, TrackSound.integrity.in_(states)).correlate(Track)


async def sound_of(session: AsyncSession, track: Track) -> TrackSound | None:
    """What is known of a track's sound."""
    query = select(TrackSound).join(Track, OWN_SOUND).where(Track.id == track.id)
    return (await session.scalars(query)).one_or_none()


async def integrity_of(session: AsyncSession, track_ids: Collection[int]) -> dict[int, str]:
    """`integrity.Integrity` of those of the tracks whose sound was checked."""
    rows = await session.execute(
        select(Track.id, TrackSound.integrity)
        .join(TrackSound, OWN_SOUND)
        .where(Track.id.in_(track_ids), TrackSound.integrity.is_not(None))
    )
    return {row.id: row.integrity for row in rows}


async def waveform_of(session: AsyncSession, track: Track) -> bytes | None:
    """See `waveform.peaks_of`. None while it is not known."""
    query = (
        select(TrackSoundCurves.waveform)
        .join(TrackSound, TrackSound.track_id == TrackSoundCurves.track_id)
        .join(Track, OWN_SOUND)
        .where(Track.id == track.id)
    )
    return (await session.scalars(query)).one_or_none()


@dataclass(frozen=True, slots=True)
class TrackLoudness:
    """A track's loudness, and that of the album it belongs to; None while it is not known."""

    track: Loudness | None
    album: Loudness | None


async def loudness_of(session: AsyncSession, track: Track) -> TrackLoudness:
    """What a player needs, and what goes into the file when a person asks for that.

    An album is known once all of its tracks are that can be played.
    """
    sound = await sound_of(session, track)
    if sound is None or not sound.loudness_version or sound.true_peak is None:
        return TrackLoudness(None, None)
    own = Loudness(sound.integrated_lufs, sound.true_peak)
    return TrackLoudness(own, await _album_loudness(session, await album_of(session, track)))


async def album_of(session: AsyncSession, track: Track) -> list[int]:
    """The tracks, this one included, whose loudness counts together; none for a track without an album.

    Of one MusicBrainz release; without one, of the same album, album artist and folder, where folders of single
    discs count as the one they lie in.
    """
    if not track.album:
        return []
    rows = await session.execute(
        select(Track.id, Track.path, Track.album_artist, Track.musicbrainz)
        .where(
            Track.library_id == track.library_id,
            Track.album_key == track.album_key,
            Track.status.in_((TrackState.PENDING, TrackState.COMPLETE)),
        )
        .limit(_MOST_OF_ALBUM + 1)
    )
    found = rows.all()
    own = _album_key(track.path, track.album_artist, track.musicbrainz)
    members = [row.id for row in found if _album_key(row.path, row.album_artist, row.musicbrainz) == own]
    return members if len(found) <= _MOST_OF_ALBUM else []


def _album_key(path: bytes, album_artist: str | None, musicbrainz: Mapping[str, Any] | None) -> tuple[Any, ...]:
    if release := (musicbrainz or {}).get("release"):
        return (release,)
    folder, name = os.path.split(os.path.dirname(path))
    return album_artist, folder if _DISC_FOLDER.fullmatch(name) else os.path.join(folder, name)


async def _album_loudness(session: AsyncSession, track_ids: Sequence[int]) -> Loudness | None:
    rows = (
        await session.execute(
            select(TrackSound.true_peak, TrackSoundCurves.loudness_blocks)
            .join(Track, OWN_SOUND)
            .join(TrackSoundCurves, TrackSoundCurves.track_id == TrackSound.track_id)
            .where(Track.id.in_(track_ids), TrackSound.loudness_version > 0)
        )
    ).all()
    if not track_ids or len(rows) < len(track_ids):
        return None
    measured = [(row.true_peak or 0.0, row.loudness_blocks) for row in rows if row.loudness_blocks is not None]
    if not measured:
        return None
    blocks = LoudnessBlocks.together(LoudnessBlocks.from_bytes(data) for _, data in measured)
    return Loudness(blocks.integrated_lufs, max(peak for peak, _ in measured))
