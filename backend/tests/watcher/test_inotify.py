"""What the kernel's events come to, on real folders."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mus.watcher.filter import Noticed
from mus.watcher.inotify import EventsLostError, InotifyTree


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "music/A/deep").mkdir(parents=True)
    (tmp_path / "music/B").mkdir()
    (tmp_path / "outside").mkdir()
    return tmp_path / "music"


@pytest.fixture
def tree(root: Path) -> Iterator[InotifyTree]:
    tree = InotifyTree(os.fsencode(root))
    yield tree
    tree.close()


def read(tree: InotifyTree) -> Noticed:
    """What has happened by now: the kernel queues an event before the call that made it returns."""
    assert tree.wait(10)
    return tree.read()


def read_all(tree: InotifyTree) -> None:
    while tree.wait(0):
        tree.read()


def test_a_file_is_finished_when_its_writer_closes_it(root: Path, tree: InotifyTree) -> None:
    with (root / "A/1.mp3").open("wb") as file:
        file.write(b"music")
        noticed = read(tree)
        assert (noticed.paths, noticed.finished) == ({b"A/1.mp3"}, set())
    assert read(tree).finished == {b"A/1.mp3"}


def test_a_rename_tells_both_paths_whatever_their_folders(root: Path, tree: InotifyTree) -> None:
    (root / "A/1.mp3").touch()
    read(tree)
    (root / "A/1.mp3").rename(root / "B/2.mp3")
    noticed = read(tree)
    assert (noticed.paths, noticed.renamed) == ({b"A/1.mp3", b"B/2.mp3"}, {b"B/2.mp3"})


def test_what_is_in_a_renamed_folder_is_told_by_its_new_path(root: Path, tree: InotifyTree) -> None:
    (root / "A").rename(root / "B/C")
    assert read(tree).renamed == {b"B/C"}
    (root / "B").rename(root / "D")
    assert read(tree).paths == {b"B", b"D"}
    (root / "D/C/deep/1.mp3").touch()
    assert read(tree).paths == {b"D/C/deep/1.mp3"}
    assert len(tree) == 4


def test_a_folder_that_leaves_is_watched_no_more_and_one_that_comes_is_with_all_below(
    root: Path, tree: InotifyTree
) -> None:
    outside = root.parent / "outside"
    (root / "A").rename(outside / "A")
    noticed = read(tree)
    assert (noticed.paths, noticed.renamed) == ({b"A"}, set())
    assert len(tree) == 2
    (outside / "A/deep/1.mp3").touch()
    (outside / "A").rename(root / "B/back")
    assert read(tree).paths == {b"B/back"}
    (root / "B/back/deep/2.mp3").touch()
    assert read(tree).paths == {b"B/back/deep/2.mp3"}
    # Into the trash, which is passed over: gone as well.
    (root / ".mus-trash").mkdir()
    (root / "B/back").rename(root / ".mus-trash/back")
    assert read(tree).paths == {b"B/back"}
    assert len(tree) == 2


def test_a_folder_replaced_by_a_rename_and_one_made_again_are_the_new_ones(root: Path, tree: InotifyTree) -> None:
    (root / "A/deep").rmdir()
    (root / "B").rename(root / "A")  # an empty folder may be replaced
    (root / "B").mkdir()
    read(tree)
    (root / "A/1.mp3").touch()
    (root / "B/2.mp3").touch()
    assert read(tree).paths == {b"A/1.mp3", b"B/2.mp3"}
    assert len(tree) == 3


def test_links_are_not_followed(root: Path, tree: InotifyTree) -> None:
    (root / "loop").symlink_to(root)
    (root / "out").symlink_to(root.parent / "outside")
    read(tree)
    assert len(tree) == 4
    with InotifyTreeOf(root) as again:
        assert len(again) == 4


class InotifyTreeOf:
    """A tree for a block."""

    def __init__(self, root: Path) -> None:
        self._tree = InotifyTree(os.fsencode(root))

    def __enter__(self) -> InotifyTree:
        return self._tree

    def __exit__(self, *_: object) -> None:
        self._tree.close()


@pytest.mark.parametrize("how", ["removed", "moved"])
def test_a_root_that_goes_is_lost(root: Path, tree: InotifyTree, how: str) -> None:
    if how == "moved":
        root.rename(root.parent / "elsewhere")
    else:
        subprocess.run(["rm", "-r", str(root)], check=True)
    assert read(tree).is_root_lost


def test_events_beyond_the_kernels_queue_are_known_to_be_lost(root: Path, tree: InotifyTree) -> None:
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    for number in range(most // 2 + 1):
        # Of two files in turns: the kernel makes one of equal events that follow each other.
        os.utime(root / ("A" if number % 2 else "B"))
        os.utime(root / ("A/deep" if number % 2 else "A"))
    with pytest.raises(EventsLostError):
        read_all(tree)


UNREADABLE = """
import os, sys
from mus.watcher.inotify import InotifyTree

root = os.fsencode(sys.argv[1])
os.setgid(65534); os.setuid(65534)
os.makedirs(root + b"/mine/closed/below")
os.chmod(root + b"/mine/closed", 0)
tree = InotifyTree(root)
print(len(tree))
open(root + b"/mine/1.mp3", "w").close()
print(sorted(tree.read().paths))
os.chmod(root + b"/mine/closed", 0o755)
print(sorted(tree.read().paths), len(tree))
open(root + b"/mine/closed/below/2.mp3", "w").close()
print(sorted(tree.read().paths))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_folder_that_may_not_be_read_is_left_out_until_it_may() -> None:
    # Not in pytest's own folder, which is root's alone.
    with tempfile.TemporaryDirectory() as root:
        Path(root).chmod(0o777)
        ended = subprocess.run(
            [sys.executable, "-c", UNREADABLE, root], capture_output=True, text=True, check=False
        )
    assert ended.stdout.splitlines() == [
        "2",
        "[b'mine/1.mp3']",
        "[b'mine/closed'] 4",
        "[b'mine/closed/below/2.mp3']",
    ], ended.stderr
