"""Random things that people and programs do to files, with scans, watched changes and analysis between them: ids,
dates, states and every byte on the disk are compared with a model."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import ClassVar

import mutagen
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from music_library import MusicLibrary, new_library, result_of, worker_of
from sqlalchemy import select

from audio_files import make_audio
from mus.broker.queues import Queue
from mus.broker.runtime import Runtime
from mus.library.states import LIVE_STATES
from mus.persistence.models import Job
from waiting import until


@pytest.fixture
def database_kind() -> str:
    return "sqlite"


@pytest.fixture
async def runtime_at_work(runtime: Runtime) -> AsyncIterator[Runtime]:
    async with worker_of(runtime, list(Queue)):
        yield runtime


@dataclass
class ModelFile:
    """A file, and the track that it is."""

    sound: int
    #: None until mus has seen it.
    track: int | None = None
    #: mus has analysed it in a version with these tags.
    is_heard: bool = False


@dataclass
class Model:
    """What lies on the disk, and which track each file is."""

    root: Path
    files: dict[str, ModelFile] = field(default_factory=dict)
    #: Ids of tracks whose file is gone.
    missing: dict[int, int] = field(default_factory=dict)
    dates: dict[int, datetime] = field(default_factory=dict)
    #: Names where something happened since mus looked last.
    touched: set[str] = field(default_factory=set)
    bytes: dict[str, bytes] = field(default_factory=dict)
    fresh: count[int] = field(default_factory=lambda: count(1))

    SUFFIXES: ClassVar = (".mp3", ".flac", ".m4a", ".ogg")

    # ------------------------------------------------------ what people do

    def add(self, a: int, b: int) -> None:
        sound = next(self.fresh)
        name = f"{'ABC'[a % 3]}/{sound:02}{self.SUFFIXES[b % 4]}"
        tags = {
            "title": f"Song {sound}",
            "artist": "Somebody",
            "album": f"Album {a % 3}",
            "tracknumber": str(sound),
        }
        make_audio(self.root / name, seconds=0.25, tags=tags, pitch=1 + sound / 16)
        self.put(name, ModelFile(sound))

    def rename(self, a: int, b: int) -> None:
        self.move(a, lambda old: f"{os.path.dirname(old)}/renamed {b} {os.path.basename(old)}")

    def change_case(self, a: int, b: int) -> None:
        self.move(a, lambda old: f"{os.path.dirname(old)}/{os.path.basename(old).swapcase()}"[:-4] + old[-4:])

    def move_elsewhere(self, a: int, b: int) -> None:
        self.move(a, lambda old: f"D{b % 3}/{os.path.basename(old)}")

    def move_and_retag(self, a: int, b: int) -> None:
        if name := self.move(a, lambda old: f"D{b % 3}/{b} {os.path.basename(old)}"):
            self.write_tags(name, b)

    def move_over(self, a: int, b: int) -> None:
        names = sorted(self.files)
        if names and (old := names[a % len(names)]) != (new := names[b % len(names)]) and old[-4:] == new[-4:]:
            self.lose(new)
            self.take(old, new)
            os.replace(self.root / old, self.root / new)

    def swap(self, a: int, b: int) -> None:
        names = sorted(self.files)
        if names and (one := names[a % len(names)]) != (two := names[b % len(names)]) and one[-4:] == two[-4:]:
            os.rename(self.root / one, self.root / "swap")
            os.rename(self.root / two, self.root / one)
            os.rename(self.root / "swap", self.root / two)
            self.files[one], self.files[two] = self.files[two], self.files[one]
            self.touched |= {one, two}

    def retag(self, a: int, b: int) -> None:
        if name := self.chosen(a):
            self.write_tags(name, b)

    def retag_by_a_copy(self, a: int, b: int) -> None:
        if name := self.chosen(a):
            copy = self.root / f"copy{name[-5:]}"
            shutil.copyfile(self.root / name, copy)
            os.replace(copy, self.root / name)
            self.write_tags(name, b)

    def carry(self, a: int, b: int) -> None:
        """To another file system and back: all that is left is the content."""
        if (old := self.chosen(a)) and (new := f"E{b % 2}/{os.path.basename(old)}") not in self.files:
            (self.root / new).parent.mkdir(exist_ok=True)
            (shutil.copy2 if b % 2 else shutil.copyfile)(self.root / old, self.root / new)
            (self.root / old).unlink()
            self.take(old, new)

    def rename_folder(self, a: int, b: int) -> None:
        folders = sorted({os.path.dirname(name) for name in self.files})
        if folders and not (self.root / (new := f"F{b}")).exists():
            old = folders[a % len(folders)]
            os.rename(self.root / old, self.root / new)
            for name in [name for name in self.files if os.path.dirname(name) == old]:
                self.take(name, f"{new}/{os.path.basename(name)}")

    def delete(self, a: int, b: int) -> None:
        if name := self.chosen(a):
            (self.root / name).unlink()
            self.lose(name)
            self.files.pop(name)
            self.touched.add(name)

    def delete_and_use_its_inode_again(self, a: int, b: int) -> None:
        self.delete(a, b)
        self.add(a, b)

    ACTIONS: ClassVar = (
        add, rename, change_case, move_elsewhere, move_and_retag, move_over, swap, retag, retag_by_a_copy, carry,
        rename_folder, delete, delete_and_use_its_inode_again,
    )  # fmt: skip

    # --------------------------------------------------------------- parts

    def chosen(self, a: int) -> str | None:
        names = sorted(self.files)
        return names[a % len(names)] if names else None

    def put(self, name: str, file: ModelFile) -> None:
        self.files[name] = file
        self.touched.add(name)

    def take(self, old: str, new: str) -> None:
        self.put(new, self.files.pop(old))
        self.touched.add(old)

    def lose(self, name: str) -> None:
        if (track := self.files[name].track) is not None:
            self.missing[track] = self.files[name].sound

    def move(self, a: int, named: Callable[[str], str]) -> str | None:
        old = self.chosen(a)
        if old is None or (new := named(old)) in self.files:
            return None
        (self.root / new).parent.mkdir(exist_ok=True)
        os.rename(self.root / old, self.root / new)
        self.take(old, new)
        return new

    def write_tags(self, name: str, b: int) -> None:
        """Before its sound was heard a file is known by its title: then that stays."""
        audio = mutagen.File(self.root / name, easy=True)
        audio["genre"] = [f"Genre {b}"]
        if self.files[name].is_heard:
            audio["title"] = [f"Song {self.files[name].sound} take {b}"]
        audio.save()
        self.touched.add(name)

    # --------------------------------------------------------------- judge

    def remember_bytes(self) -> None:
        self.bytes = {name: (self.root / name).read_bytes() for name in self.files}

    async def compare(self, library: MusicLibrary) -> None:
        rows = await library.tracks()
        live = {name: row for name, row in rows.items() if row.status in LIVE_STATES}
        assert live.keys() == self.files.keys()
        for name, file in self.files.items():
            row = live[name]
            if file.track is None:
                assert row.id not in self.dates, f"{name} is new, and took the id of another track"
                file.track, self.dates[row.id] = row.id, row.added_at
            assert row.id == file.track, f"{name} has become another track"
            assert row.added_at == self.dates[row.id]
            assert row.title.startswith(f"Song {file.sound}")
            file.is_heard = row.analysis_version > 0
        missing = {row.id: row.title for row in rows.values() if row.status == "MISSING"}
        assert missing.keys() == self.missing.keys()
        assert all(title.startswith(f"Song {self.missing[id_]}") for id_, title in missing.items())
        assert len(rows) == len(live) + len(missing)
        assert self.bytes == {name: (self.root / name).read_bytes() for name in self.files}, "mus changed a file"
        self.touched.clear()


async def at_rest(library: MusicLibrary) -> None:
    async def look() -> bool:
        async with library.runtime.database.reading() as session:
            open_jobs = select(Job.id).where(
                Job.state.in_(["queued", "running", "waiting"]), Job.run_after.is_(None)
            )
            return (await session.execute(open_jobs.limit(1))).first() is None

    await until(look, what="the end of all jobs")


async def look(library: MusicLibrary, model: Model, how: str) -> None:
    model.remember_bytes()
    if how == "watch" and model.touched:
        result_of(await library.run("process_file_move", library_id=library.id, paths=sorted(model.touched)))
    elif how != "watch":
        await library.scan(mode="full" if how == "full" else "quick")
    if how == "analyse":

        async def analysed() -> bool:
            return all(row.status in {"COMPLETE", "MISSING"} for row in (await library.tracks()).values())

        await until(analysed, what="the analysis")
    await model.compare(library)


_NUMBERS = st.integers(0, 30)
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(Model.ACTIONS), _NUMBERS, _NUMBERS),
        st.tuples(st.sampled_from(["scan", "full", "watch", "analyse"]), st.just(0), st.just(0)),
    ),
    min_size=4,
    max_size=14,
)
_examples = count()


@pytest.mark.slow
@pytest.mark.timeout(600)
@settings(
    max_examples=int(os.environ.get("MUS_TEST_EXAMPLES", "25")),
    derandomize="MUS_TEST_EXAMPLES" not in os.environ,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(steps=_STEPS)
async def test_whatever_happens_to_files_their_tracks_stay_theirs(
    runtime_at_work: Runtime, tmp_path: Path, steps: list[tuple[object, int, int]]
) -> None:
    number = next(_examples)
    library = await new_library(runtime_at_work, tmp_path / f"music{number}", name=f"Music {number}")
    model = Model(library.root)
    for a in range(4):
        model.add(a, a)
    await look(library, model, "scan")
    for action, a, b in [*steps, ("scan", 0, 0)]:
        if isinstance(action, str):
            await look(library, model, action)
        else:
            action(model, a, b)  # type: ignore[operator]
