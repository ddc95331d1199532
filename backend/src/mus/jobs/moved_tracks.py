"""Tracks follow their files: look once more, then give them their new paths."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mus.broker.job_runner import RunningJob
from mus.jobs.services import services
from mus.jobs.telling import UPDATED, tell_tracks
from mus.library.scan_plan import Move
from mus.library.second_look import SecondLook
from mus.library.walk import FoundFile
from mus.persistence.batch_operations import hold_tracks, move_tracks
from mus.persistence.known_tracks import paths_of
from mus.persistence.libraries import LocalLibrary

#: Moves of one write transaction, unless more of them hang together.
_MOVES = 500


@dataclass(slots=True)
class Moved:
    """What became of the moves that a comparison suggested."""

    #: How many tracks got new paths.
    count: int = 0
    confirmed: list[Move] = field(default_factory=list)
    #: The old place still holds the file: a hard link, so a file of its own, to be read.
    links: list[FoundFile] = field(default_factory=list)
    #: Files that went on meanwhile; the next scan or the watcher sees where.
    lost: int = 0


async def apply_moves(job: RunningJob, library: LocalLibrary, moves: Sequence[Move]) -> Moved:
    """Confirm the moves on the disk and write them, in transactions of a few hundred. Repeating it is harmless."""
    if not moves:
        return Moved()
    async with services().database.reading() as session:
        origins = await paths_of(session, [move.track_id for move in moves])
    moved = await asyncio.to_thread(_confirm, library.root, origins, moves)
    for batch in in_batches(moved.confirmed, origins):
        async with job.effect() as work:
            await hold_tracks(work.session, library.id)
            count = await move_tracks(work.session, library.id, batch, origins)
            tell_tracks(work, UPDATED, library.id, count, [move.track_id for move in batch])
        moved.count += count
    return moved


def _confirm(root: bytes, origins: Mapping[int, bytes], moves: Sequence[Move]) -> Moved:
    look = SecondLook(root)
    moved = Moved()
    for move in moves:
        try:
            now = look.at(move.found.path)
            if now is None or not _is_same_file(now, move.found) or move.track_id not in origins:
                moved.lost += 1
                continue
            origin = origins[move.track_id]
            old = look.at(origin)
            if (
                old is not None
                and old.inode == now.inode
                and old.device == now.device
                and old.path != now.path
                and look.is_listed(origin)
            ):
                moved.links.append(now)
            else:
                moved.confirmed.append(Move(move.track_id, now))
        except OSError:
            moved.lost += 1  # cannot be told now
    return moved


def _is_same_file(now: FoundFile, found: FoundFile) -> bool:
    """Whether the file at the path is the one that was found: maybe by another machine, with other numbers."""
    if now.device == found.device:
        return now.inode == found.inode
    return (now.size, now.mtime_ns) == (found.size, found.mtime_ns)


def in_batches(moves: Sequence[Move], origins: Mapping[int, bytes]) -> Iterator[list[Move]]:
    """Parts that can be written one after another: moves into each other's places (swaps, chains) stay together."""
    leader = list(range(len(moves)))

    def led_by(index: int) -> int:
        while leader[index] != index:
            leader[index] = leader[leader[index]]
            index = leader[index]
        return index

    at_origin = {origins[move.track_id]: index for index, move in enumerate(moves)}
    for index, move in enumerate(moves):
        if (other := at_origin.get(move.found.path)) is not None:
            leader[led_by(index)] = led_by(other)
    groups: dict[int, list[Move]] = {}
    for index, move in enumerate(moves):
        groups.setdefault(led_by(index), []).append(move)
    batch: list[Move] = []
    for group in groups.values():
        if batch and len(batch) + len(group) > _MOVES:
            yield batch
            batch = []
        batch = batch + group
    if batch:
        yield batch
