"""Asking for a scan: one form for the API, the command line, the watcher and the schedules."""

from __future__ import annotations

import hashlib

from mus.broker.queues import Queue
from mus.broker.streaq_broker import Options, broker
from mus.ledger.job_rows import NewJob
from mus.library.paths import escaped

TASK = "scan_library"


def scan_job(
    library_id: int,
    *,
    requested_by: str,
    queue: Queue = Queue.HIGH,
    mode: str = "quick",
    path: bytes = b"",
    confirm_missing: bool = False,
) -> NewJob:
    """A scan to be enqueued, of the whole library or of a folder in it.

    While it waits, an equal one on the same queue answers with its id. It waits while another scan of the library
    runs.
    """
    folder = hashlib.sha256(path).hexdigest()[:32] if path else ""
    return broker.job(
        queue,
        TASK,
        Options(
            dedupe_key=f"scan:{library_id}:{queue}:{mode}:{int(confirm_missing)}:{folder}",
            exclusive_key=f"library:{library_id}",
            requested_by=requested_by,
        ),
        library_id=library_id,
        mode=mode,
        path=escaped(path),
        confirm_missing=confirm_missing,
    )
