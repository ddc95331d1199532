"""Lost tracks are looked for among new and changed files: whatever is done to a file, its track stays the same.

By inode a file is followed before (`scan_plan`); here by its sound, and where that was never heard by its tags.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress

from mus.broker.job_runner import RunningJob
from mus.jobs.scan_read import read
from mus.jobs.services import services
from mus.jobs.telling import ADDED, DELETED, UPDATED, tell_tracks
from mus.library.file_reading import FileReading
from mus.library.recognition import (
    Recognised,
    Sketch,
    by_sound,
    by_tags,
    left_over,
    sounds_of,
    to_be_hashed,
    twins,
)
from mus.library.scan_plan import Changed, Move
from mus.library.second_look import SecondLook
from mus.library.states import LIVE_STATES, TrackState
from mus.library.walk import FoundFile
from mus.persistence.batch_operations import hold_tracks
from mus.persistence.known_tracks import tracks_at
from mus.persistence.libraries import LocalLibrary
from mus.persistence.track_identity import (
    common_sounds,
    merge_tracks,
    missing_sketches,
    missing_with_sounds_of,
    newcomers,
    sketches_of,
    young_copies,
)
from mus.persistence.unit_of_work import UnitOfWork

#: Files that one reader reads or hears at a time.
_PART = 50
#: Merges of one write transaction.
_MERGES = 200


async def moves_among(
    library: LocalLibrary, changed: Sequence[Changed], lost_ids: Collection[int], *, settled_ids: Collection[int]
) -> list[Move]:
    """Of changed files in the places of known tracks, those that are other tracks' files: as moves.

    A track may be among the lost, be missing since before, or lie in the place of another changed file. Those in
    `settled_ids` are known to be elsewhere.
    """
    own = {change.track_id for change in changed}
    async with services().database.reading() as session:
        lost = await sketches_of(session, [*own, *lost_ids])
        known = {track.id for track in lost} | set(settled_ids)
        lost += [track for track in await missing_sketches(session, library.id) if track.id not in known]
    readings = await _in_parts(library, [change.file.path for change in changed])
    found = [
        _sketch_of(reading)
        for reading in readings
        if reading.stat is not None and not reading.vanished and reading.error_message is None
    ]
    at_path = {change.file.path: change for change in changed}
    moves: list[Move] = []
    for track, file in await _recognised(library, lost, found):
        if at_path[file.path].track_id != track.id:
            moves.append(Move(track.id, FoundFile(*file[1:7])))
    return moves


def _sketch_of(reading: FileReading) -> Sketch:
    stat = reading.stat
    assert stat is not None
    return Sketch(
        id=0,
        path=reading.path,
        size=stat.size,
        mtime_ns=stat.mtime_ns,
        ctime_ns=stat.ctime_ns,
        inode=stat.inode,
        device=stat.device,
        format=reading.format,
        sample_rate_hz=reading.sample_rate_hz,
        channels=reading.channels,
        duration_seconds=reading.duration_seconds,
        title=reading.title,
        artist=reading.artist,
        album=reading.album,
        disc_number=reading.disc_number,
        track_number=reading.track_number,
        audio_hash=None,
        analysis_version=0,
    )


async def reunite(
    job: RunningJob,
    library: LocalLibrary,
    gone_ids: Sequence[int],
    *,
    newer_than: int,
    noted: Callable[[UnitOfWork, Mapping[int, int]], Awaitable[None]] | None = None,
) -> dict[int, int]:
    """Merge new tracks into the lost ones that they turn out to be. Returns the ids of those, each with the id
    that the new one had.

    New are tracks with ids above `newer_than`; copies that were made of what is gone, before it went; and tracks in
    the gone ones' places by another spelling. `noted` is told of each part in the transaction that merges it.
    """
    async with services().database.reading() as session:
        gone = await sketches_of(session, gone_ids)
        lost = {track.id: track for track in [*await missing_sketches(session, library.id), *gone]}
        if not lost:
            return {}  # before the new ones are looked at: in a first scan they are the whole library
        new = await newcomers(session, library.id, after_id=newer_than)
        copies = await young_copies(session, library.id, gone) if gone else []
    found = {track.id: track for track in [*new, *copies] if track.id not in lost}
    pairs = await _recognised(library, list(lost.values()), list(found.values())) if found else []
    if gone:
        pairs += await _respelled(library, left_over(gone, [], pairs)[0])
    merged: dict[int, int] = {}
    for start in range(0, len(pairs), _MERGES):
        async with job.effect() as work:
            await hold_tracks(work.session, library.id)
            part = await _merge(work, library.id, pairs[start : start + _MERGES])
            if noted is not None:
                await noted(work, part)
        merged |= part
    return merged


async def _respelled(library: LocalLibrary, gone: Sequence[Sketch]) -> list[Recognised]:
    """Of these, tracks whose file a younger one has by now under another spelling of its name, where case is
    ignored. Whoever saw the new name first had nothing to tell it by: the old one still found the file."""
    places = await asyncio.to_thread(_other_spellings, library.root, [track.path for track in gone])
    if not places:
        return []
    async with services().database.reading() as session:
        tracks = await tracks_at(session, library.id, list(places.values()))
        found = await sketches_of(session, [track.id for track in tracks if track.status in LIVE_STATES])
    pairs = await _recognised(library, [track for track in gone if track.path in places], found)
    return [pair for pair in pairs if places[pair.lost.path] == pair.found.path and pair.lost.id < pair.found.id]


def _other_spellings(root: bytes, paths: Sequence[bytes]) -> dict[bytes, bytes]:
    """Those of the paths at which a file is found that lies under another name."""
    look = SecondLook(root)
    found: dict[bytes, bytes] = {}
    for path in paths:
        with suppress(OSError):
            if look.at(path) is not None and (place := look.as_listed(path)) != path:
                found[path] = place
    return found


async def reunite_heard(work: UnitOfWork, library_id: int, track_ids: Sequence[int]) -> None:
    """Merge tracks whose sound was just heard for the first time into missing ones of that sound, in a unit of work
    that holds the library's tracks."""
    lost: dict[int, Sketch] = {}
    found: dict[int, Sketch] = {}
    for old, new in await missing_with_sounds_of(work.session, track_ids):
        lost[old.id], found[new.id] = old, new
    # The found ones have their hashes in the table already: one more than the sound's other tracks.
    common = await common_sounds(work.session, library_id, sounds_of(found.values(), {}), besides=found)
    await _merge(work, library_id, by_sound(lost.values(), found.values(), {}, common=common))


async def _merge(work: UnitOfWork, library_id: int, pairs: Sequence[Recognised]) -> dict[int, int]:
    merged: dict[int, int] = {}
    back: list[int] = []
    for pair in pairs:
        was = await merge_tracks(work.session, pair.lost, pair.found)
        if was is not None:
            merged[pair.lost.id] = pair.found.id
        if was == TrackState.MISSING:
            back.append(pair.lost.id)
    tell_tracks(work, DELETED, library_id, len(merged), merged.values())
    tell_tracks(work, ADDED, library_id, len(back), back)
    moved = [track_id for track_id in merged if track_id not in back]
    tell_tracks(work, UPDATED, library_id, len(moved), moved)
    return merged


async def _recognised(library: LocalLibrary, lost: Sequence[Sketch], found: Sequence[Sketch]) -> list[Recognised]:
    pairs = twins(lost, found)
    lost, found = left_over(lost, found, pairs)
    hashes = await _heard(library, to_be_hashed(lost, found))
    async with services().database.reading() as session:
        besides = [file.id for file in found]
        common = await common_sounds(session, library.id, sounds_of(found, hashes), besides=besides)
    heard = by_sound(lost, found, hashes, common=common)
    lost, found = left_over(lost, found, heard)
    return pairs + heard + by_tags(lost, found, hashes)


async def _heard(library: LocalLibrary, files: Sequence[Sketch]) -> Mapping[bytes, bytes | None]:
    """Hashes of the files' sounds by path; None where the file is another version by now."""
    versions = {file.path: (file.size, file.mtime_ns) for file in files}
    parts = await asyncio.gather(
        *(
            services().readers.run(
                "hear",
                library.root,
                [file.path for file in files[start : start + _PART]],
                file_timeout_seconds=services().settings.file_timeout_seconds,
            )
            for start in range(0, len(files), _PART)
        )
    )
    return {
        sound.path: sound.audio_hash
        for part in parts
        for sound in part
        if sound.stat is not None and (sound.stat.size, sound.stat.mtime_ns) == versions[sound.path]
    }


async def _in_parts(library: LocalLibrary, paths: Sequence[bytes]) -> list[FileReading]:
    parts = [paths[start : start + _PART] for start in range(0, len(paths), _PART)]
    return [reading for part in await asyncio.gather(*(read(library, part) for part in parts)) for reading in part]
