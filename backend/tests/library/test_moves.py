"""Moves to another disk inside a library: the old name goes only when what it names is on the other disk."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mus.library import moves
from mus.library.file_reading import FileStat
from other_disks import bound


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A library with another disk at `Disk`."""
    (tmp_path / "Disk").mkdir()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as disk, bound(Path(disk), tmp_path / "Disk"):
        yield tmp_path


def version(file: Path) -> FileStat:
    return FileStat.of(file.stat())


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_file_is_moved_to_another_disk_with_its_times(root: Path) -> None:
    (root / "1.mp3").write_bytes(b"music")
    os.utime(root / "1.mp3", ns=(10**18, 10**18))
    placed = moves.move(bytes(root), b"1.mp3", b"Disk/A/1.mp3", version(root / "1.mp3"))
    assert files(root) == {"Disk/A/1.mp3": b"music"}
    assert placed == version(root / "Disk/A/1.mp3")
    assert placed.mtime_ns == 10**18


@pytest.mark.parametrize("moment", ["keep_attributes", "names_to_disk"])
def test_a_file_that_is_changed_while_it_is_copied_keeps_its_place_and_its_change(
    root: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    (root / "1.mp3").write_bytes(b"music")
    was = version(root / "1.mp3")
    real = getattr(moves, moment)

    def be_overtaken(*descriptors: int) -> None:
        real(*descriptors)
        (root / "1.mp3").write_bytes(b"music and more")

    monkeypatch.setattr(moves, moment, be_overtaken)
    with pytest.raises(moves.ChangedMeanwhileError):
        moves.move(bytes(root), b"1.mp3", b"Disk/A/1.mp3", was)
    assert files(root) == {"1.mp3": b"music and more"}
    assert not (root / "Disk/A").exists()


def test_the_new_name_is_on_its_disk_before_the_old_one_goes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "1.mp3").write_bytes(b"music")
    real, synced = os.fsync, list[tuple[int, bool]]()

    def look(descriptor: int) -> None:
        real(descriptor)
        synced.append((os.fstat(descriptor).st_ino, (root / "1.mp3").exists()))

    monkeypatch.setattr(os, "fsync", look)
    moves.move(bytes(root), b"1.mp3", b"Disk/1.mp3", version(root / "1.mp3"))
    file, folder = (root / "Disk/1.mp3").stat().st_ino, (root / "Disk").stat().st_ino
    assert synced[:2] == [(file, True), (folder, True)]
