"""Jobs about files: scans, watched changes, deletion. Each is a thin shell around a plain function."""

from __future__ import annotations

from typing import Any

from mus.broker.job_runner import current_job
from mus.broker.streaq_broker import broker
from mus.errors import BadRequestError
from mus.jobs.library_jobs import follow_move, remove
from mus.jobs.scan_finish import earlier_result, finish, finish_at_once
from mus.jobs.scan_read import read_and_store
from mus.jobs.scan_walk import walk_and_enqueue
from mus.jobs.trash import delete_track, restore_track
from mus.jobs.trash_purge import purge_chosen
from mus.jobs.watched_changes import apply_changes
from mus.library.paths import unescaped

_HOUR = 3600.0


@broker.task("scan_library", timeout_seconds=6 * _HOUR, continuation="finish_scan")
async def scan_library(
    *, library_id: int, mode: str = "quick", path: str = "", confirm_missing: bool = False
) -> dict[str, Any] | None:
    """Bring a library in step with the disk. `path` limits it to a folder; `mode` full reads every file again."""
    if mode not in {"quick", "full"}:
        raise BadRequestError(f"A scan is quick or full, not {mode!r}")
    job = current_job()
    if (result := earlier_result(job)) is not None:
        return result  # of an attempt of an older mus, which ended its jobs apart
    walked = await walk_and_enqueue(
        job, library_id, mode=mode, path=unescaped(path).strip(b"/"), confirm=confirm_missing
    )
    return None if walked is None else await finish_at_once(job, library_id, walked)


@broker.task("read_files", timeout_seconds=_HOUR)
async def read_files(*, library_id: int, paths: list[str], full: bool = False) -> dict[str, Any]:
    """Read a chunk of a scan's files and store their tags."""
    return await read_and_store(current_job(), library_id, [unescaped(path) for path in paths], full=full)


@broker.task("finish_scan", timeout_seconds=_HOUR)
async def finish_scan() -> dict[str, Any]:
    """The scan's last part: moves, guard, missing, totals."""
    return await finish(current_job())


@broker.task("process_file_created", timeout_seconds=_HOUR)
async def process_file_created(*, library_id: int, paths: list[str]) -> dict[str, Any]:
    """Files that appeared."""
    return await apply_changes(current_job(), library_id, [unescaped(path) for path in paths])


@broker.task("process_file_modified", timeout_seconds=_HOUR)
async def process_file_modified(*, library_id: int, paths: list[str]) -> dict[str, Any]:
    """Known files that changed."""
    return await apply_changes(current_job(), library_id, [unescaped(path) for path in paths])


@broker.task("process_file_move", timeout_seconds=_HOUR)
async def process_file_move(*, library_id: int, paths: list[str]) -> dict[str, Any]:
    """Files that moved: both their old and their new paths."""
    return await apply_changes(current_job(), library_id, [unescaped(path) for path in paths])


@broker.task("process_file_deletion", timeout_seconds=_HOUR)
async def process_file_deletion(*, library_id: int, paths: list[str]) -> dict[str, Any]:
    """Files and folders that are gone."""
    return await apply_changes(current_job(), library_id, [unescaped(path) for path in paths])


@broker.task("delete_track_by_id", timeout_seconds=_HOUR)
async def delete_track_by_id(*, track_id: int) -> dict[str, Any]:
    """Move a track's file to the trash."""
    return await delete_track(current_job(), track_id)


@broker.task("restore_track_by_id", timeout_seconds=_HOUR)
async def restore_track_by_id(*, track_id: int) -> dict[str, Any]:
    """Bring a trashed track back."""
    return await restore_track(current_job(), track_id)


@broker.task("empty_trash", timeout_seconds=6 * _HOUR)
async def empty_trash(*, library_id: int | None = None, track_ids: list[int] | None = None) -> dict[str, Any]:
    """Delete for good what is in the trash: all of it, or a library's, or these tracks'."""
    return await purge_chosen(current_job(), library_id=library_id, track_ids=track_ids)


@broker.task("remove_library", timeout_seconds=_HOUR)
async def remove_library(*, library_id: int) -> dict[str, Any]:
    """Forget a library and its tracks; its files stay."""
    return await remove(current_job(), library_id)


@broker.task("follow_moved_library", timeout_seconds=_HOUR)
async def follow_moved_library(*, library_id: int) -> dict[str, Any]:
    """After a library got another folder: know the files there again, then scan."""
    return await follow_move(current_job(), library_id)
