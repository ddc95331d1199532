"""A trash that has lain for days, in a mus that has run all the while."""

from __future__ import annotations

from datetime import timedelta

from music_library import MusicLibrary
from sqlalchemy import delete, update

from mus.ledger.deliveries import new_id
from mus.persistence.models import Job, TrashEntry, utc_now


async def make_old(library: MusicLibrary, *, days: int, days_since_purge: float = 1) -> None:
    """Let all that is in the trash have been deleted so many days ago, and the trash looked through once since."""
    now = utc_now()
    ran = now - timedelta(days=days_since_purge)
    async with library.runtime.database.unit_of_work() as work:
        await work.session.execute(update(TrashEntry).values(created_at=now - timedelta(days=days)))
        await work.session.execute(delete(Job).where(Job.task == "purge_trash"))
        work.session.add(
            Job(
                id=new_id(), task="purge_trash", queue="low_priority", arguments={}, state="succeeded",
                created_at=ran, finished_at=ran, result={"purged": 0},
            )
        )  # fmt: skip
