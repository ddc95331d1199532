"""`/trash`: what lies in it, and out of it for good."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from sqlalchemy import select

from api.rows import add, add_library, add_tracks, track
from mus.broker.runtime import Runtime
from mus.library.paths import parked
from mus.library.states import TrackState
from mus.persistence.models import Job, Library, TrashEntry

Client = httpx.AsyncClient
_DELETED = datetime(2026, 1, 1, tzinfo=UTC)


async def trashed(runtime: Runtime, library: Library, *names: str) -> list[int]:
    """Tracks in the trash, deleted a day after each other."""
    ids = await add_tracks(
        runtime,
        *(
            track(library, parked(name.encode(), 100 + number), title=name, status=TrackState.TRASHED)
            for number, name in enumerate(names)
        ),
    )
    await add(
        runtime,
        *(
            TrashEntry(
                track_id=track_id,
                original_path=name.encode(),
                trash_path=b"/trash/" + name.encode(),
                state="trashed",
                created_at=_DELETED + timedelta(days=number),
            )
            for number, (track_id, name) in enumerate(zip(ids, names, strict=True))
        ),
    )
    return ids


async def test_the_trash_is_listed_page_by_page_the_latest_first(
    client: Client, runtime: Runtime, library: Library, tmp_path: Path
) -> None:
    ids = await trashed(runtime, library, "1.mp3", "2.mp3", "3.mp3")
    first = (await client.get("/trash", params={"limit": 2})).json()
    assert [item["track"]["id"] for item in first["items"]] == [ids[2], ids[1]]
    newest = first["items"][0]
    assert (newest["path"], newest["state"], newest["deleted_at"]) == ("3.mp3", "trashed", "2026-01-03T00:00:00Z")
    second = (await client.get("/trash", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert [item["track"]["id"] for item in second["items"]] == [ids[0]]
    assert second["next_cursor"] is None
    other = await add_library(runtime, "Other", tmp_path)
    assert (await client.get("/trash", params={"library": other.name})).json()["items"] == []


async def test_one_track_or_the_whole_trash_is_deleted_for_good_by_a_job(
    client: Client, runtime: Runtime, library: Library
) -> None:
    [track_id] = await trashed(runtime, library, "1.mp3")
    answers = [
        await client.delete(f"/trash/{track_id}"),
        await client.delete("/trash"),
        await client.delete("/trash", params={"library": library.name}),
    ]
    assert [answer.status_code for answer in answers] == [202, 202, 202]
    async with runtime.database.reading() as session:
        jobs = {job.id: job for job in await session.scalars(select(Job).where(Job.task == "empty_trash"))}
    assert [jobs[answer.json()["job_id"]].arguments for answer in answers] == [
        {"library_id": None, "track_ids": [track_id]},
        {"library_id": None, "track_ids": None},
        {"library_id": library.id, "track_ids": None},
    ]


async def test_what_is_not_in_the_trash_is_not_deleted(client: Client, runtime: Runtime, library: Library) -> None:
    [live] = await add_tracks(runtime, track(library))
    answer = await client.delete(f"/trash/{live}")
    assert (answer.status_code, answer.json()["detail"]) == (409, f"Track {live} is not in the trash")
    assert (await client.delete("/trash/99999")).status_code == 404
    assert (await client.delete("/trash", params={"library": "None such"})).status_code == 404
