"""A scan's last part: settle what moved and what is gone, and add up."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select

from mus.broker.job_runner import RunningJob
from mus.broker.queues import Queue
from mus.errors import AdminRequiredError, LibraryOfflineError
from mus.jobs.gone_files import provably_gone
from mus.jobs.listening_phase import request_listening
from mus.jobs.lost_tracks import moves_among, reunite
from mus.jobs.mount_guard import check_losses, device_of, mark_offline, mark_online
from mus.jobs.moved_tracks import Moved, apply_moves
from mus.jobs.scan_read import by_path, compare_again, look_again_later, overtaken_by_others, read
from mus.jobs.scan_walk import CHUNK, Unchanged
from mus.jobs.services import InStep, find_library, services
from mus.jobs.slow_phase import renew_looks, request_analysis
from mus.jobs.telling import DELETED, tell_stored, tell_tracks
from mus.ledger.job_states import JobState
from mus.library.paths import escaped, is_parked, unescaped
from mus.library.scan_plan import Changed, Move
from mus.library.states import LIVE_STATES
from mus.library.walk import FoundFile
from mus.persistence.batch_operations import hold_tracks, mark_missing, renumber_devices
from mus.persistence.known_tracks import error_count, last_writes, tracks_with_ids
from mus.persistence.libraries import LocalLibrary
from mus.persistence.models import Job
from mus.persistence.stored_readings import store_readings
from mus.persistence.track_identity import newest_id
from mus.persistence.unit_of_work import UnitOfWork

_VANISHED = "vanished during the scan"
_NOTHING_LATE = {"read": 0, "added": 0, "updated": 0, "vanished": 0}


@dataclass(frozen=True, slots=True)
class _Walked:
    """What the walk left in the scan's checkpoint."""

    path: bytes
    confirmed: bool
    found: int
    newest: int
    moves: list[Move]
    doubtful: list[Changed]
    missing: list[int]
    after_moves: list[bytes]
    renumbered: dict[int, int]
    same_devices: list[tuple[int, int]]
    renews_looks: bool
    skipped: dict[str, int]
    unlisted: dict[str, str]

    @classmethod
    def of(cls, checkpoint: Mapping[str, Any]) -> _Walked:
        return cls(
            path=unescaped(checkpoint["path"]),
            confirmed=checkpoint["confirm"],
            found=checkpoint["found"],
            newest=checkpoint["newest"],
            moves=_moves(checkpoint["moves"]),
            doubtful=[
                Changed(found, track_id, is_suspect=True) for track_id, found in _moves(checkpoint["doubtful"])
            ],
            missing=checkpoint["missing"],
            after_moves=[unescaped(path) for path in checkpoint["after_moves"]],
            renumbered=dict(checkpoint["renumbered"]),
            same_devices=[(old, new) for old, new in checkpoint["same_devices"]],
            # A scan that began before an upgrade may not say.
            renews_looks=checkpoint.get("renews_looks", True),
            skipped=checkpoint["skipped"],
            unlisted=checkpoint["unlisted"],
        )


def _moves(rows: Iterable[Sequence[Any]]) -> list[Move]:
    return [Move(track_id, FoundFile(unescaped(path), *numbers)) for track_id, path, *numbers in rows]


@dataclass(slots=True)
class _Chunks:
    """What the scan's chunks came to."""

    added: int = 0
    updated: int = 0
    vanished: int = 0
    gone: list[int] = field(default_factory=list)
    #: Why chunks did not succeed, and of how many.
    failures: list[str] = field(default_factory=list)
    count: int = 0


async def finish(job: RunningJob) -> dict[str, Any]:
    """Moves, guard, missing, totals. Returns the scan's result.

    `found` files are added, updated, moved or unchanged, each once; what else the walk met was skipped. Raises
    LibraryOfflineError when too much is gone at once (nothing is marked missing then), and AdminRequiredError
    when a chunk failed.
    """
    if (result := earlier_result(job)) is not None:
        return result
    scan = await _scan_of(job)
    library = await find_library(scan.arguments["library_id"])
    walked = _Walked.of(scan.checkpoint or {})
    chunks = await _chunks(scan.id)
    left = dict(job.checkpoint or {})
    walked.moves.extend(await _recognised_moves(job, library, walked, left))
    moved = await apply_moves(job, library, walked.moves)
    late = await _read_late(job, library, walked, moved, left)
    async with job.effect(stage="finishing") as work:
        await hold_tracks(work.session, library.id)
        await renumber_devices(work.session, library.id, walked.renumbered)
        if walked.renews_looks:
            await renew_looks(work.session, library.id)
    device = await asyncio.to_thread(device_of, library)
    unmet = [*walked.missing, *chunks.gone, *(change.track_id for change in walked.doubtful)]
    async with services().database.reading() as session:
        last_written = await last_writes(session, unmet)
    gone, overwritten = await _still_gone(library, walked, unmet)
    reunited = await _reunite(job, library, walked, gone, left)
    gone = [track_id for track_id in gone if track_id not in reunited]
    try:
        async with job.effect() as work:
            await hold_tracks(work.session, library.id)
            await check_losses(work.session, library.id, len(gone), confirmed=walked.confirmed)
            missing = overwritten + await mark_missing(work.session, gone, last_written=last_written)
            tell_tracks(work, DELETED, library.id, missing - overwritten, gone)
            if not walked.path:
                await mark_online(work, library, device=device)
            outcome = {
                "counts": _counts(walked, chunks, late, moved, missing, left),
                "failures": chunks.failures,
                "chunks": chunks.count,
            }
            await _close(job, work, library, walked, outcome)
    except LibraryOfflineError as error:
        async with job.effect() as work:
            await request_analysis(work.session)
        await mark_offline(job, library.id, error)
        raise
    return _result(outcome)


async def finish_at_once(job: RunningJob, library_id: int, unchanged: Unchanged) -> dict[str, Any] | None:
    """End a scan in its own job, where the walk left nothing to be read, moved or judged.

    Returns the scan's result, or None when it takes a last part all the same.
    """
    library = await find_library(library_id)
    walked = _Walked.of(unchanged.checkpoint)
    device = await asyncio.to_thread(device_of, library)
    counts = _counts(walked, _Chunks(), _NOTHING_LATE, Moved(), 0, {})
    try:
        async with job.last_effect(counts) as work:
            _remember(work, library.id, unchanged.in_step, await hold_tracks(work.session, library.id))
            if await newest_id(work.session) > walked.newest:
                raise _MetNewTracks
            if walked.renews_looks:
                await renew_looks(work.session, library.id)
            if not walked.path:
                await mark_online(work, library, device=device)
            counts["failed"] = await _errors_and_work(job, work, library, walked)
            await job.needs_no_continuation(work)
    except _MetNewTracks:
        async with job.effect(stage="finishing") as work:
            await job.keep(work, unchanged.checkpoint)
        return None
    return counts


def _remember(work: UnitOfWork, library_id: int, in_step: InStep | None, track_changes: int) -> None:
    """For the next scan, once this transaction is committed; unless others wrote to the tracks since they were
    compared."""

    async def remember() -> None:
        if in_step is not None and track_changes == in_step.track_changes + 1:
            services().in_step[library_id] = in_step._replace(track_changes=track_changes)

    work.after_commit(remember)


class _MetNewTracks(Exception):  # noqa: N818 - no error: the scan takes a last part
    """Others stored new tracks meanwhile. One may be a lost one, and to find out takes reading."""


async def _close(
    job: RunningJob, work: UnitOfWork, library: LocalLibrary, walked: _Walked, outcome: dict[str, Any]
) -> None:
    """The last transaction's last part: what is in ERROR by now, work for the slow phase, the outcome."""
    outcome["counts"]["failed"] = await _errors_and_work(job, work, library, walked)
    await job.keep(work, outcome)


async def _errors_and_work(job: RunningJob, work: UnitOfWork, library: LocalLibrary, walked: _Walked) -> int:
    """Enqueue what there is for the slow phase. Returns how many tracks are in ERROR by now."""
    # Nobody waits for a scan that came by itself: it takes the time for what concerns no change.
    is_unhurried = job.started.queue == Queue.LOW
    await request_analysis(work.session, with_outdated=is_unhurried)
    if is_unhurried:
        await request_listening(work.session)
    return await error_count(work.session, library.id, walked.path)


def earlier_result(job: RunningJob) -> dict[str, Any] | None:
    """The result of an earlier attempt that came to its end, but could not say so. Raises as `finish` does."""
    return _result(job.checkpoint) if job.checkpoint is not None and "counts" in job.checkpoint else None


def _result(outcome: Mapping[str, Any]) -> dict[str, Any]:
    counts: dict[str, Any] = outcome["counts"]
    if failures := outcome["failures"]:
        raise AdminRequiredError(
            f"{len(failures)} of {outcome['chunks']} parts of the scan failed; the first: {failures[0]}",
            details={"counts": counts},
            recovery_actions=("Put that right and scan again",),
        )
    return counts


def _counts(
    walked: _Walked,
    chunks: _Chunks,
    late: Mapping[str, int],
    moved: Moved,
    missing: int,
    left: Mapping[str, Any],
) -> dict[str, Any]:
    vanished = chunks.vanished + late["vanished"] + moved.lost
    skipped = walked.skipped | ({_VANISHED: vanished} if vanished else {})
    found = walked.found - vanished
    # A lost track that was found among the new ones has moved.
    added = max(0, chunks.added + late["added"] - left.get("reunited_new", 0))
    updated = chunks.updated + late["updated"]
    followed = len(moved.confirmed) + left.get("reunited", 0)
    return {
        "found": found,
        "added": added,
        "updated": updated,
        "moved": followed,
        "missing": missing,
        # What is left over: an earlier attempt of the walk may have seen some of the others as well.
        "unchanged": max(0, found - added - updated - followed),
        "skipped": sum(skipped.values()),
        "skipped_reasons": skipped,
        "unlisted_folders": walked.unlisted,
    }


async def _scan_of(job: RunningJob) -> Job:
    async with services().database.reading() as session:
        return (await session.execute(select(Job).where(Job.id == job.parent_id))).scalar_one()


async def _chunks(scan_id: str) -> _Chunks:
    chunks = _Chunks()
    async with services().database.reading() as session:
        rows = await session.execute(
            select(Job.state, Job.result, Job.error_message).where(
                Job.parent_id == scan_id, Job.task == "read_files"
            )
        )
    for state, result, message in rows:
        chunks.count += 1
        if state != JobState.SUCCEEDED or result is None:
            chunks.failures.append(message or f"it was {state}")
            continue
        chunks.added += result["added"]
        chunks.updated += result["updated"]
        chunks.vanished += result["vanished"]
        chunks.gone += result["gone"]
    return chunks


async def _recognised_moves(
    job: RunningJob, library: LocalLibrary, walked: _Walked, left: dict[str, Any]
) -> list[Move]:
    """Moves among the doubtful files, from an earlier attempt if it came so far."""
    if walked.doubtful and "recognised" not in left:
        moves = await moves_among(
            library, walked.doubtful, walked.missing, settled_ids=[move.track_id for move in walked.moves]
        )
        left["recognised"] = [[move.track_id, escaped(move.found.path), *move.found[1:]] for move in moves]
        async with job.effect(stage="recognising") as work:
            await job.keep(work, left)
    return _moves(left.get("recognised", ()))


async def _reunite(
    job: RunningJob, library: LocalLibrary, walked: _Walked, gone: Sequence[int], left: dict[str, Any]
) -> dict[int, int]:
    """Look for what is gone, and what has been missing, among the scan's new tracks."""

    async def noted(work: UnitOfWork, merged: Mapping[int, int]) -> None:
        left["reunited"] = left.get("reunited", 0) + len(merged)
        new = sum(track_id > walked.newest for track_id in merged.values())
        left["reunited_new"] = left.get("reunited_new", 0) + new
        await job.keep(work, left)

    return await reunite(job, library, gone, newer_than=walked.newest, noted=noted)


async def _read_late(
    job: RunningJob, library: LocalLibrary, walked: _Walked, moved: Moved, left: dict[str, Any]
) -> dict[str, int]:
    """Read the files whose place another track had until the moves were done, or might have, and hard links.
    Returns counts.

    Those of moved tracks are not counted again. An earlier attempt that died in between left how far it came.
    """
    targets = {move.found.path for move in moved.confirmed}
    waiting = [*walked.after_moves, *(change.file.path for change in walked.doubtful)]
    again = [path for path in waiting if path in targets]
    others = [path for path in waiting if path not in targets]
    others += [link.path for link in moved.links if link.path not in others]
    late: dict[str, int] = dict(_NOTHING_LATE)
    late |= left.get("late", {})
    paths = [*again, *others]
    while late["read"] < len(paths):
        counted = late["read"] >= len(again)
        part = paths[late["read"] : min(late["read"] + CHUNK, len(paths) if counted else len(again))]
        async with services().database.reading() as session:
            before = await by_path(session, library.id, part)
        readings = await read(library, part)
        async with job.effect() as work:
            await hold_tracks(work.session, library.id)
            now = await by_path(work.session, library.id, part)
            overtaken = overtaken_by_others([r for r in readings if not r.vanished], before, now)
            fresh = [reading for reading in readings if reading.path not in overtaken]
            stored = await store_readings(work.session, library.id, fresh, at_paths=now)
            tell_stored(work, library.id, stored)
            await compare_again(library.id, overtaken)
            await look_again_later(library.id, readings, or_if_temporary=True)
            late["read"] += len(part)
            if counted:
                late["added"] += stored.added
                late["updated"] += stored.updated
                late["vanished"] += len(fresh) - stored.added - stored.updated
            left["late"] = late
            await job.keep(work, left)
    return late


async def _still_gone(library: LocalLibrary, walked: _Walked, track_ids: Sequence[int]) -> tuple[list[int], int]:
    """Of tracks that were not met, the ids of those that a fresh look does not find either, and how many others
    are missing already because a moved file took their place."""
    async with services().database.reading() as session:
        tracks = await tracks_with_ids(session, library.id, track_ids)
    overwritten = sum(track.status not in LIVE_STATES and is_parked(track.path) for track in tracks)
    gone = await provably_gone(library, tracks, same_devices=walked.same_devices, any_device=walked.confirmed)
    return gone, overwritten
