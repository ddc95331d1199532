"""What PostgreSQL is spared, and what comes of it."""

from __future__ import annotations

import pytest
from sqlalchemy import select, text

from mus.library.track_words import derived
from mus.persistence.database import Database
from mus.persistence.models import Job, JobEvent, Library
from mus.persistence.search import indexed


@pytest.fixture
def database_kind() -> str:
    return "postgresql"


async def test_text_that_it_cannot_hold_is_stored_without_and_found_nowhere(database: Database) -> None:
    async with database.unit_of_work() as work:
        work.session.add_all(
            Library(name=f"{sign}{number}", root=b"/\0") for number, sign in enumerate("\0\ud800é")
        )
    async with database.reading() as session:
        names = await session.scalars(select(Library.name).order_by(Library.id))
        assert names.all() == ["\ufffd0", "\ufffd1", "é2"]
        for name in ("\0", "\udfff", "0\0"):
            assert (await session.scalars(select(Library).where(Library.name == name))).all() == []


async def test_json_keeps_every_character(database: Database) -> None:
    details = {"a\0b": ["\0", "\ud800", "\udc00\ud800", "é", "🎵"]}
    async with database.unit_of_work() as work:
        work.session.add(JobEvent(job_id="j", event="e", attempt=1, details=details))
    async with database.reading() as session:
        assert await session.scalar(select(JobEvent.details)) == details


async def test_who_reads_sees_one_moment_and_cannot_write(database: Database) -> None:
    async with database.reading() as session:
        assert (await session.scalars(select(Library.name))).all() == []
        async with database.unit_of_work() as work:
            work.session.add(Library(name="new", root=b"/"))
        assert (await session.scalars(select(Library.name))).all() == []
        with pytest.raises(Exception, match="read-only transaction"):
            await session.execute(text("DELETE FROM libraries"))


async def test_names_are_sorted_byte_by_byte_whatever_the_servers_language(database: Database) -> None:
    keys = text(
        "SELECT attname, collname FROM pg_attribute JOIN pg_collation ON pg_collation.oid = attcollation "
        "WHERE attrelid = 'tracks'::regclass AND attname LIKE '%\\_key'"
    )
    async with database.reading() as session:
        assert {tuple(row) for row in await session.execute(keys)} == {
            ("title_key", "C"),
            ("artist_key", "C"),
            ("album_key", "C"),
        }


async def test_ids_that_begin_alike_are_looked_for_without_a_sign_of_syntax(database: Database) -> None:
    async with database.unit_of_work() as work:
        work.session.add(Job(id="ab%", task="t", queue="q", arguments={}, state="queued"))
    async with database.reading() as session:
        for beginning, found in (("ab", 1), ("ab%", 1), ("a%", 0), ("_", 0)):
            ids = await session.scalars(select(Job.id).where(Job.id.startswith(beginning, autoescape=True)))
            assert len(ids.all()) == found, beginning


def test_words_are_numbered_and_none_follows_on_one_of_another_column() -> None:
    words = derived({"title": "AC/DC", "artist": "Ünder Straße", "album": "", "genre": "it's"}, ()).words
    assert indexed(words).startswith("'ac':1 'dc':2 'under':4 'strasse':5 'its':7 'acdc':9 ")
    # Signs that stand alone are one word.
    assert indexed(derived({"title": "!!!"}, ()).words).count(":") == 1
    assert indexed(derived({"title": ""}, ()).words) == ""
    assert indexed("x " * 20_000).endswith(":16383")
