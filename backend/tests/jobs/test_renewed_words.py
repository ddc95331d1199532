"""When the rules change, all tracks are sorted and found by the new ones."""

from __future__ import annotations

from music_library import MusicLibrary, worker_of
from sqlalchemy import delete, text

from audio_files import make_audio
from mus.persistence.models import Fact
from waiting import until


async def sorted_titles(library: MusicLibrary) -> list[str]:
    return [track.title for track in sorted((await library.tracks()).values(), key=lambda track: track.title_key)]


async def test_a_changed_list_of_articles_sorts_the_tracks_that_are_there(music: MusicLibrary) -> None:
    for name in ("The Alpha", "Der Beta", "Gamma"):
        make_audio(music.root / f"{name}.mp3", seconds=0.2, tags={"title": name})
    async with worker_of(music.runtime):
        await music.scan()
    assert await sorted_titles(music) == ["The Alpha", "Der Beta", "Gamma"]
    assert [job.task for job in await music.jobs("renew_words")] == []
    settings = music.runtime.settings.model_copy(update={"sort_articles": "der"})
    runtime = type(music.runtime)(settings, music.runtime.database, music.runtime.connection)
    for _ in range(2):
        async with worker_of(runtime):

            async def done() -> bool:
                return await sorted_titles(music) == ["Der Beta", "Gamma", "The Alpha"]

            await until(done, what="the new order")
            [job] = await music.jobs("renew_words")  # the second worker finds nothing to do
            assert (await music.ended(job.id)).result == {"renewed": 3}


async def test_tracks_from_before_an_upgrade_are_found_again(music: MusicLibrary) -> None:
    make_audio(music.root / "1.mp3", seconds=0.2, tags={"title": "Straße"})
    async with worker_of(music.runtime):
        await music.scan()
    async with music.runtime.database.unit_of_work() as work:
        await work.session.execute(delete(Fact))
    await music.set_tracks(words=None)
    async with worker_of(music.runtime):
        [job] = await music.jobs("renew_words")
        await music.ended(job.id)
    if music.runtime.database.is_sqlite:
        async with music.runtime.database.reading() as session:
            found = await session.execute(text("SELECT rowid FROM tracks_fts WHERE tracks_fts MATCH 'strasse'"))
            assert len(found.all()) == 1
    else:
        async with music.runtime.database.reading() as session:
            found = await session.execute(text("SELECT id FROM tracks WHERE words @@ 'strasse'::tsquery"))
            assert len(found.all()) == 1
