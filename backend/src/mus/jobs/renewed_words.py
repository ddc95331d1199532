"""Keys and words of all tracks, made again: after an upgrade that makes others, or when an article was added."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Table, bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from mus.broker.job_runner import RunningJob
from mus.broker.queues import Queue
from mus.broker.streaq_broker import Options, broker
from mus.jobs.services import services
from mus.library.reading_rules import ReadingRules
from mus.library.track_words import SOURCES, WORDS_VERSION, derived
from mus.persistence.batch_operations import hold_tracks
from mus.persistence.database import Database
from mus.persistence.models import Fact, Library, Track
from mus.persistence.search import indexed

_TASK = "renew_words"
_FACT = "words"
_BATCH = 500


def _made_by(rules: ReadingRules) -> str:
    return f"{WORDS_VERSION}: {' '.join(rules.sorted_without)}"


async def request_renewal(database: Database, rules: ReadingRules) -> None:
    """Enqueue the renewal unless the tracks' words are made by these rules. For each worker's start."""
    async with database.reading() as session:
        if await _fact(session) == _made_by(rules):
            return
        has_tracks = (await session.execute(select(Track.id).limit(1))).first() is not None
    async with database.unit_of_work() as work:
        if has_tracks:
            await broker.enqueue(
                Queue.MEDIUM, _TASK, Options(dedupe_key=_TASK, exclusive_key=_TASK, requested_by="mus")
            )
        else:
            await work.session.merge(Fact(name=_FACT, value=_made_by(rules)))


async def _fact(session: AsyncSession) -> str | None:
    return (await session.execute(select(Fact.value).where(Fact.name == _FACT))).scalar()


async def renew_words_of_all(job: RunningJob) -> dict[str, Any]:
    """Make keys and words of every track anew, a few hundred at a time. Goes on where an earlier attempt died."""
    settings = services().settings
    rules = ReadingRules.of(settings.tag_separators, settings.sort_articles)
    done = {"library": 0, "track": 0, "renewed": 0} | (job.checkpoint or {})
    async with services().database.reading() as session:
        library_ids = (await session.scalars(select(Library.id).order_by(Library.id))).all()
    for library_id in library_ids:
        if library_id < done["library"]:
            continue
        if library_id > done["library"]:
            done |= {"library": library_id, "track": 0}
        while await _renew_some(job, rules, done):
            pass
    async with job.effect() as work:
        await work.session.merge(Fact(name=_FACT, value=_made_by(rules)))
    return {"renewed": done["renewed"]}


async def _renew_some(job: RunningJob, rules: ReadingRules, done: dict[str, int]) -> bool:
    """False when the library has no more."""
    async with job.effect(stage="renewing") as work:
        session = work.session
        await hold_tracks(session, done["library"])
        rows = (
            await session.execute(
                select(Track.id, *(getattr(Track, name) for name in SOURCES))
                .where(Track.library_id == done["library"], Track.id > done["track"])
                .order_by(Track.id)
                .limit(_BATCH)
            )
        ).all()
        if not rows:
            return False
        is_sqlite = session.get_bind().dialect.name == "sqlite"
        await (await session.connection()).execute(
            _STORE, [_values(row.id, row._mapping, rules, is_sqlite=is_sqlite) for row in rows]
        )
        done["track"] = rows[-1].id
        done["renewed"] += len(rows)
        await job.keep(work, dict(done))
    return True


_TRACKS: Table = Track.__table__  # type: ignore[assignment]
_STORE = (
    update(_TRACKS)
    .where(_TRACKS.c.id == bindparam("track"))
    .values({name: bindparam(f"new_{name}") for name in ("title_key", "artist_key", "album_key", "words")})
)


def _values(track_id: int, fields: Any, rules: ReadingRules, *, is_sqlite: bool) -> dict[str, Any]:
    made = derived(fields, rules.sorted_without)
    words = made.words if is_sqlite else indexed(made.words)
    return {
        "track": track_id, "new_title_key": made.title_key, "new_artist_key": made.artist_key,
        "new_album_key": made.album_key, "new_words": words,
    }  # fmt: skip
