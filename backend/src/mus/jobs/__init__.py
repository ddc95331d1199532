"""The job modules, and which queues carry which task."""

from __future__ import annotations

from mus.broker.queues import Queue

JOB_MODULES = (
    "mus.jobs.file_system_jobs",
    "mus.jobs.edit_jobs",
    "mus.jobs.metadata_jobs",
    "mus.jobs.maintenance_jobs",
)

_SCAN_PARTS = frozenset({Queue.MEDIUM, Queue.LOW})

TASK_QUEUES: dict[str, frozenset[Queue]] = {
    "scan_library": frozenset({Queue.HIGH, Queue.LOW}),
    "read_files": _SCAN_PARTS,
    "finish_scan": _SCAN_PARTS,
    "process_file_created": frozenset({Queue.HIGH}),
    "process_file_modified": frozenset({Queue.MEDIUM}),
    "process_file_move": frozenset({Queue.MEDIUM}),
    "process_file_deletion": frozenset({Queue.HIGH}),
    "delete_track_by_id": frozenset({Queue.HIGH}),
    "restore_track_by_id": frozenset({Queue.HIGH}),
    "edit_track": frozenset({Queue.HIGH}),
    "edit_tracks": frozenset({Queue.MEDIUM}),
    "undo_edits": frozenset({Queue.HIGH, Queue.MEDIUM}),
    "add_uploaded_file": frozenset({Queue.HIGH}),
    "place_uploads": frozenset({Queue.HIGH}),
    "edit_upkeep": frozenset({Queue.LOW}),
    "remove_library": frozenset({Queue.HIGH}),
    "follow_moved_library": frozenset({Queue.HIGH}),
    "process_slow_metadata": frozenset({Queue.LOW}),
    "listen_to_tracks": frozenset({Queue.LOW}),
    "purge_trash": frozenset({Queue.LOW}),
    "empty_trash": frozenset({Queue.MEDIUM}),
    "renew_words": frozenset({Queue.MEDIUM}),
    "call_admin_webhook": frozenset({Queue.MEDIUM}),
    "prune_history": frozenset({Queue.LOW}),
    "prune_thumbnails": frozenset({Queue.LOW}),
    "database_upkeep": frozenset({Queue.LOW}),
    "forget_workers": frozenset({Queue.LOW}),
    "scheduled_scans": frozenset({Queue.LOW}),
}
