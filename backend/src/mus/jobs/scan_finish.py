"""A scan's last part: settle what moved and what is gone, and add up."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from mus.broker.job_runner import RunningJob
from mus.errors import AdminRequiredError, LibraryOfflineError
from mus.jobs.mount_guard import check_losses, mark_offline, mark_online
from mus.jobs.scan_read import look_again_later, read
from mus.jobs.scan_walk import CHUNK
from mus.jobs.services import find_library, services
from mus.jobs.slow_phase import renew_looks, request_analysis
from mus.ledger.job_states import JobState
from mus.library.paths import unescaped
from mus.library.scan_plan import KnownTrack, Move
from mus.library.second_look import SecondLook
from mus.library.walk import FoundFile
from mus.persistence.batch_operations import (
    error_count,
    mark_missing,
    move_tracks,
    paths_of,
    renumber_devices,
    store_readings,
    tracks_with_ids,
)
from mus.persistence.models import Job, Library, utc_now

#: Moves of one write transaction, unless more of them hang together.
_MOVES = 500


@dataclass(frozen=True, slots=True)
class _Walked:
    """What the walk left in the scan's checkpoint."""

    path: bytes
    confirmed: bool
    found: int
    moves: list[Move]
    missing: list[int]
    after_moves: list[bytes]
    renumbered: dict[int, int]
    same_devices: dict[int, set[int]]
    skipped: dict[str, int]
    unlisted: dict[str, str]

    @classmethod
    def of(cls, checkpoint: Mapping[str, Any]) -> _Walked:
        same_devices: dict[int, set[int]] = {}
        for old, new in checkpoint["same_devices"]:
            same_devices.setdefault(old, set()).add(new)
        return cls(
            path=unescaped(checkpoint["path"]),
            confirmed=checkpoint["confirm"],
            found=checkpoint["found"],
            moves=[
                Move(track_id, FoundFile(unescaped(path), *numbers))
                for track_id, path, *numbers in checkpoint["moves"]
            ],
            missing=checkpoint["missing"],
            after_moves=[unescaped(path) for path in checkpoint["after_moves"]],
            renumbered=dict(checkpoint["renumbered"]),
            same_devices=same_devices,
            skipped=checkpoint["skipped"],
            unlisted=checkpoint["unlisted"],
        )


@dataclass(frozen=True, slots=True)
class _Chunks:
    """What the scan's chunks came to."""

    added: int
    updated: int
    vanished: int
    gone: list[int]
    #: Of chunks that did not succeed, and of how many.
    failures: list[str]
    count: int


async def finish(job: RunningJob) -> dict[str, Any]:
    """Moves, guard, missing, totals. Returns the scan's result.

    `found` files are added, updated, moved or unchanged, each once; what else the walk met was skipped. Raises
    LibraryOfflineError when too much is gone at once (nothing is marked missing then), and AdminRequiredError
    when a chunk failed.
    """
    if job.checkpoint is not None and "counts" in job.checkpoint:
        return _result(job.checkpoint)
    scan = await _scan_of(job)
    library = await find_library(scan.arguments["library_id"])
    walked = _Walked.of(scan.checkpoint or {})
    chunks = await _chunks(scan.id)
    moved, links = await apply_moves(job, library, walked.moves)
    late = await _read_late(job, library, [*walked.after_moves, *links])
    async with job.effect(stage="finishing") as work:
        await renumber_devices(work.session, library.id, walked.renumbered)
        await renew_looks(work.session, library.id)
    looked_at = utc_now()
    gone = await _still_gone(library, walked, [*walked.missing, *chunks.gone])
    try:
        async with job.effect() as work:
            await check_losses(work.session, library.id, len(gone), confirmed=walked.confirmed)
            missing = await mark_missing(work.session, gone, seen_before=looked_at)
            if not walked.path:
                await mark_online(work.session, library)
            outcome = {
                "counts": _counts(walked, chunks, late, moved, missing)
                | {"failed": await error_count(work.session, library.id, walked.path)},
                "failures": chunks.failures,
                "chunks": chunks.count,
            }
            await request_analysis(work.session, with_outdated=True)
            await job.keep(work, outcome)
    except LibraryOfflineError as error:
        async with job.effect() as work:
            await request_analysis(work.session, with_outdated=True)
        await mark_offline(job, library.id, error)
        raise
    return _result(outcome)


def _result(outcome: Mapping[str, Any]) -> dict[str, Any]:
    counts: dict[str, Any] = outcome["counts"]
    if failures := outcome["failures"]:
        raise AdminRequiredError(
            f"{len(failures)} of {outcome['chunks']} parts of the scan failed; the first: {failures[0]}",
            details={"counts": counts},
            recovery_actions=("Put that right and scan again",),
        )
    return counts


def _counts(walked: _Walked, chunks: _Chunks, late: Mapping[str, int], moved: int, missing: int) -> dict[str, Any]:
    vanished = chunks.vanished + late["vanished"]
    skipped = walked.skipped | ({"vanished during the scan": vanished} if vanished else {})
    found = walked.found - vanished
    # A moved file may have been read as well, in a full scan: it counts as moved.
    read_again = len(walked.after_moves) - late["vanished"] if moved else 0
    added, updated = chunks.added + late["added"], chunks.updated + late["updated"]
    return {
        "found": found,
        "added": added,
        "updated": updated,
        "moved": moved,
        "missing": missing,
        "unchanged": max(0, found - added - updated - moved),
        "skipped": sum(skipped.values()),
        "skipped_reasons": skipped,
        "unlisted_folders": walked.unlisted,
    }
