"""The music folder itself: real files that the plan's changes are done to, and a reading of what is there."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import mutagen

from audio_files import make_audio
from chaos.music_plan import Change, InitialFile

_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class OnDisk:
    """What a file says of itself, read by other means than mus has."""

    title: str
    size: int
    mtime_ns: int


class MusicFolder:
    def __init__(self, root: Path, workshop: Path) -> None:
        """New files are made in `workshop`, on the same file system."""
        self.root, self._workshop = root, workshop
        workshop.mkdir(parents=True)
        self.done: dict[str, int] = {}

    def write_all(self, files: tuple[InitialFile, ...]) -> None:
        for file in files:
            make_audio(self.root / file.path, seconds=_SECONDS, tags={"title": file.title, "artist": "Somebody"})

    def change(self, change: Change) -> None:
        """Do one change. Blocking."""
        path, target = self.root / change.path, self.root / change.target
        if change.kind == "rename":
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
        elif change.kind == "swap":
            # By way of a hidden name, which mus passes over.
            between = path.with_name(f".between{path.suffix}")
            path.rename(between)
            target.rename(path)
            between.rename(target)
        elif change.kind == "retag":
            audio = mutagen.File(path, easy=True)
            audio["title"] = change.title
            audio.save()
        elif change.kind == "remove":
            path.unlink()
        else:
            new = self._made(path, change.title)
            path.parent.mkdir(parents=True, exist_ok=True)
            if change.kind == "write slowly":
                self._write_slowly(new, path)
            else:
                new.rename(path)
        self.done[change.kind] = self.done.get(change.kind, 0) + 1

    def _made(self, path: Path, title: str) -> Path:
        new = self._workshop / f"new{path.suffix}"
        return make_audio(new, seconds=_SECONDS, tags={"title": title, "artist": "Somebody"})

    @staticmethod
    def _write_slowly(source: Path, path: Path) -> None:
        """Half a file for a moment, as while it is being copied or downloaded."""
        content = source.read_bytes()
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
            file.flush()
            time.sleep(0.15)
            file.write(content[len(content) // 2 :])

    def read(self) -> dict[str, OnDisk]:
        """Every audio file by its path; hidden folders, and so the trash, left out."""
        found: dict[str, OnDisk] = {}
        for folder, folders, names in os.walk(self.root):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in names:
                path = Path(folder, name)
                status = path.stat()
                title = (mutagen.File(path, easy=True) or {}).get("title", [""])[0]
                found[str(path.relative_to(self.root))] = OnDisk(title, status.st_size, status.st_mtime_ns)
        return found

    def remove(self) -> None:
        shutil.rmtree(self._workshop, ignore_errors=True)
