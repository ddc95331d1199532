"""Jobs about what is in the files."""

from __future__ import annotations

from typing import Any

from mus.broker.job_runner import current_job
from mus.broker.streaq_broker import broker
from mus.errors import LibraryGoneError, Snooze
from mus.jobs.listening_phase import listen_to_part
from mus.jobs.slow_phase import analyse_part


@broker.task("process_slow_metadata", timeout_seconds=1800.0)
async def process_slow_metadata(*, part: int, done: int = 0) -> dict[str, Any]:
    """Exact lengths and cover thumbnails for the newest pending tracks of a part; those before it did `done`."""
    try:
        return await analyse_part(current_job(), part, done)
    except LibraryGoneError as error:
        # Of one library; the tracks of the others wait in the same part.
        raise Snooze(1.0, error.user_message) from None


@broker.task("listen_to_tracks", timeout_seconds=6 * 3600.0)
async def listen_to_tracks(*, part: int, done: int = 0) -> dict[str, Any]:
    """Loudness, integrity and waveform of the newest tracks of a part that lack them; those before did `done`."""
    try:
        return await listen_to_part(current_job(), part, done)
    except LibraryGoneError as error:
        raise Snooze(1.0, error.user_message) from None
