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
#: Of each kind of request, and which kinds of examples. The databases differ in statements alone, which a few of
#: them reach; most of what covers the document is refused before.
EXAMPLES = {"sqlite": 50, "postgresql": 15}
PHASES = {"sqlite": "examples,coverage,fuzzing,stateful", "postgresql": "examples,fuzzing,stateful"}
HERE = Path(__file__).parent


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
    runtime: Runtime, library: Library, database_kind: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    await _fill(runtime, library)
    async with serving(runtime.settings, runtime) as address:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(HERE / "schemathesis.toml")),
            *("run", f"{address}/openapi.json"),
            *("--seed", str(SEED), "--generation-deterministic", "--max-examples", str(EXAMPLES[database_kind])),
            *("--phases", PHASES[database_kind]),
            *("--continue-on-failure", "--no-color", "--warnings", "off"),
            # Where it leaves files of its own.
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": str(HERE),
                "SCHEMATHESIS_HOOKS": "contract_hooks",
                # Which characters UTF-8 has is looked up there: to find it out takes a second.
                "HYPOTHESIS_STORAGE_DIRECTORY": str(pytestconfig.rootpath / ".hypothesis"),
            },
            stdout=PIPE,
            stderr=STDOUT,
        )
        said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    assert "No issues found" in said.decode()
