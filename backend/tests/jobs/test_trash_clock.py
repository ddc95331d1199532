"""A clock that jumps deletes nothing for good."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from music_library import MusicLibrary, result_of, worker_of
from old_trash import make_old
from sqlalchemy import update

from mus.broker.queues import Queue
from mus.persistence.models import TrashEntry, utc_now


@pytest.fixture
async def library(music: MusicLibrary) -> AsyncIterator[MusicLibrary]:
    """With one file in its trash."""
    async with worker_of(music.runtime, [*Queue]):
        music.write("1.mp3")
        await music.scan()
        result_of(await music.run("delete_track_by_id", track_id=(await music.track("1.mp3")).id))
        yield music


def in_trash(library: MusicLibrary) -> list[Path]:
    return list((library.root / ".mus-trash").iterdir())


@pytest.mark.parametrize("days_since_purge", [40.0, 4.0, -365.0])
async def test_a_purge_that_follows_a_gap_leaves_what_is_old_to_the_next(
    library: MusicLibrary, days_since_purge: float
) -> None:
    await make_old(library, days=31, days_since_purge=days_since_purge)
    purge = await library.run("purge_trash", Queue.LOW)
    assert result_of(purge) == {"purged": 0, "left_for_the_next_run": 1}
    assert len(in_trash(library)) == 1
    assert result_of(await library.run("purge_trash", Queue.LOW)) == {"purged": 1}
    assert in_trash(library) == []


async def test_when_the_clock_is_right_again_the_trash_is_as_young_as_before(library: MusicLibrary) -> None:
    await make_old(library, days=400, days_since_purge=400)
    result_of(await library.run("purge_trash", Queue.LOW))
    async with library.runtime.database.unit_of_work() as work:
        await work.session.execute(update(TrashEntry).values(created_at=utc_now() - timedelta(days=2)))
    assert result_of(await library.run("purge_trash", Queue.LOW)) == {"purged": 0}
    assert len(in_trash(library)) == 1
