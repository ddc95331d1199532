"""The API keeps what its OpenAPI document says, whatever it is sent."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

import pytest

from api.rows import add, add_tracks, track
from mus.api.server import serving
from mus.broker.runtime import Runtime
from mus.ledger.deliveries import new_id
from mus.ledger.job_states import JobState
from mus.library.states import TrackState
from mus.persistence.models import Job, Library, WorkerRow, utc_now

SEED = 20
EXAMPLES = 12
#: Checks that do not hold here, and need not.
NOT_MEANT = (
    # A value may fit the schema and mean nothing: a crontab, a folder of the library, a cursor.
    "positive_data_acceptance",
    # DELETE of a job cancels it; it stays to be looked at.
    "use_after_free",
)


async def _fill(runtime: Runtime, library: Library) -> None:
    now = utc_now()
    for state in JobState:
        failed = state is JobState.FAILED
        await add(
            runtime,
            Job(
                id=new_id(), task="purge_trash", queue="low_priority", arguments={}, state=state, created_at=now,
                finished_at=now if failed else None, error_category="temporary" if failed else None,
                error_message="It broke" if failed else None, error_reason="It broke" if failed else None,
            ),
        )  # fmt: skip
    await add_tracks(
        runtime,
        *(
            track(library, f"{status}.mp3", status=status, artist="Somebody", album="Something", error_message="no")
            for status in TrackState
        ),
    )
    await add(runtime, WorkerRow(id="w", host="h", pid=1, queues=["low_priority"], state="alive"))


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_no_request_brings_a_5xx_or_what_the_document_does_not_name(
    runtime: Runtime, library: Library, tmp_path: Path
) -> None:
    await _fill(runtime, library)
    async with serving(runtime.settings, runtime) as address:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{address}/openapi.json"),
            # A stream without an end; `test_live.py` is about it.
            *("--exclude-path", "/api/v1/events"),
            *("--exclude-checks", ",".join(NOT_MEANT)),
            *("--seed", str(SEED), "--generation-deterministic", "--max-examples", str(EXAMPLES)),
            *("--continue-on-failure", "--no-color", "--warnings", "off"),
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent), "SCHEMATHESIS_HOOKS": "contract_hooks"},
            stdout=PIPE,
            stderr=STDOUT,
        )
        said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    assert "No issues found" in said.decode()
