"""The walk sees every file once, and says why it passes over the others; a second look sees the same."""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mus.library import walk as walk_module
from mus.library.audio_formats import AUDIO_SUFFIXES
from mus.library.file_reading import FileStat
from mus.library.listing import Listing, listed, plainly_listed, version_numbers, version_of
from mus.library.second_look import SecondLook
from mus.library.walk import Digested, FoundFiles, WalkReport, skip_reason, walk
from names_without_case import case_ignored


def touch(root: Path, *names: str | bytes) -> None:
    for name in names:
        path = os.path.join(os.fsencode(root), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(b"x")


def walked(root: Path, start: bytes = b"") -> tuple[set[bytes], WalkReport]:
    report = WalkReport()
    files = [file for folder in walk(os.fsencode(root), start, report) for file in folder]
    paths = {file.path for file in files}
    assert len(paths) == len(files), "no file twice"
    return paths, report


def test_audio_files_are_found_in_every_folder_with_their_version(tmp_path: Path) -> None:
    touch(tmp_path, "1.mp3", "A/2.FLAC", "A/B/3.opus")
    report = WalkReport()
    files = {file.path: file for folder in walk(os.fsencode(tmp_path), b"", report) for file in folder}
    assert set(files) == {b"1.mp3", b"A/2.FLAC", b"A/B/3.opus"}
    stat = (tmp_path / "1.mp3").stat()
    assert files[b"1.mp3"][1:] == (1, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, stat.st_dev)
    assert set(report.folder_devices) == {b"", b"A", b"A/B"}
    assert not report.skipped
    assert not report.unlisted


def test_what_is_no_music_is_passed_over_with_a_reason(tmp_path: Path) -> None:
    touch(
        tmp_path, "a.mp3", "cover.jpg", ".hidden.mp3", ".git/x.mp3", "@eaDir/a.mp3", "#recycle/b.mp3", "c.mp3.part",
        "d.flac.crdownload", "e.mp3~", ".mus-trash/1-f.mp3", "lost+found/g.mp3",
    )  # fmt: skip
    paths, report = walked(tmp_path)
    assert paths == {b"a.mp3"}
    assert report.skipped == {
        "not audio": 1,
        "hidden": 2,  # the trash is mus's own
        "system folder": 3,
        "partial download": 3,
    }


def test_a_folder_with_a_nomedia_file_is_passed_over_with_all_below_it(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp3", "Private/.nomedia", "Private/b.mp3", "Private/Deep/c.mp3")
    paths, report = walked(tmp_path)
    assert paths == {b"a.mp3"}
    assert report.skipped == {".nomedia folder": 1}


def test_names_that_are_no_text_are_names_all_the_same(tmp_path: Path) -> None:
    names = [b"line\nbreak.mp3", b"latin-\xe9.mp3", b"n" * 251 + b".mp3", b"\xc3\xa9.mp3", b"e\xcc\x81.mp3"]
    touch(tmp_path, *names)
    paths, _ = walked(tmp_path)
    assert paths == set(names)
    assert len(paths) == 5


def test_links_are_not_followed_so_no_loop_and_no_way_out(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    touch(root, "A/1.mp3")
    touch(outside, "2.mp3")
    (root / "A" / "loop").symlink_to(root)
    (root / "out").symlink_to(outside)
    (root / "file.mp3").symlink_to(root / "A/1.mp3")
    (root / "itself.mp3").symlink_to(root / "itself.mp3")
    paths, report = walked(root)
    assert paths == {b"A/1.mp3"}
    assert report.skipped == {"link": 4}


def test_pipes_and_folders_with_the_name_of_a_file_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp3")
    touch(tmp_path, "folder.mp3/1.mp3")
    paths, report = walked(tmp_path)
    assert paths == {b"folder.mp3/1.mp3"}
    assert report.skipped == {"not a regular file": 1}


def test_a_walk_from_a_folder_stays_below_it(tmp_path: Path) -> None:
    touch(tmp_path, "A/1.mp3", "AB/2.mp3", "A/C/3.mp3")
    assert walked(tmp_path, b"A")[0] == {b"A/1.mp3", b"A/C/3.mp3"}


def test_a_stopped_walk_ends_after_the_folders_it_is_in(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{number}/x.mp3" for number in range(1000)))
    answers = iter([False, False, False, True])
    seen = list(walk(os.fsencode(tmp_path), b"", WalkReport(), stopped=lambda: next(answers)))
    assert 0 < len(seen) < 1000


def deep_folder(root: Path, bytes_needed: int) -> bytes:
    """A folder chain whose relative path has at least so many bytes, made step by step."""
    relative = b""
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    while len(relative) < bytes_needed:
        os.mkdir(b"d" * 250, dir_fd=descriptor)
        deeper = os.open(b"d" * 250, os.O_RDONLY | os.O_DIRECTORY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor, relative = deeper, os.path.join(relative, b"d" * 250)
    os.close(os.open("x.mp3", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor))
    os.close(descriptor)
    return relative


@pytest.fixture
def deep_root(tmp_path: Path) -> Iterator[Path]:
    root = tmp_path / "deep"
    root.mkdir()
    yield root
    subprocess.run(["rm", "-rf", str(root)], check=True)  # pytest's own cleaning trips over the length


def test_a_path_too_long_for_the_index_is_passed_over_with_a_reason(deep_root: Path) -> None:
    deep_folder(deep_root, walk_module.MAX_PATH_BYTES)
    touch(deep_root, "a.mp3")
    paths, report = walked(deep_root)
    assert paths == {b"a.mp3"}
    assert report.skipped == {"path too long": 1}


def test_a_folder_too_deep_to_be_named_is_unlisted_and_the_rest_is_found(deep_root: Path) -> None:
    deep_folder(deep_root, 4200)
    touch(deep_root, "a.mp3")
    paths, report = walked(deep_root)
    assert paths == {b"a.mp3"}
    [(folder, reason)] = report.unlisted.items()
    assert reason == "File name too long"
    assert folder not in report.folder_devices


WALK_AS_NOBODY = """
import json, os, sys
from mus.library.second_look import SecondLook
from mus.library.walk import WalkReport, walk
os.setgroups([]), os.setgid(65534), os.setuid(65534)
root = os.fsencode(sys.argv[1])
report = WalkReport()
found = sorted(file.path.decode() for folder in walk(root, b"", report) for file in folder)
gone = SecondLook(root).is_gone(b"closed/1.mp3", None)
print(json.dumps([found, {folder.decode(): why for folder, why in report.unlisted.items()}, gone]))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
def test_a_folder_that_may_not_be_listed_hides_its_files_and_proves_nothing(tmp_path: Path) -> None:
    touch(tmp_path, "open/2.mp3", "closed/1.mp3", "names only/3.mp3", "names only/4.jpg")
    (tmp_path / "closed").chmod(0)
    (tmp_path / "names only").chmod(0o444)
    for folder in (tmp_path, *tmp_path.parents):  # pytest's own are for nobody but us
        if folder.stat().st_mode & 0o055 != 0o055:
            folder.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", WALK_AS_NOBODY, str(tmp_path)], capture_output=True, text=True, check=True
    )
    found, unlisted, gone = json.loads(done.stdout)
    assert found == ["open/2.mp3"]
    assert unlisted == {"closed": "Permission denied", "names only/3.mp3": "Permission denied"}
    assert gone is False


@pytest.mark.parametrize("name", [b"a.mp3", b"B.FLAC", b".mp3.ogg"[1:], b"x.m4a"])
def test_names_of_music_have_no_reason_to_be_passed_over(name: bytes) -> None:
    assert skip_reason(name, is_dir=False) is None


# ------------------------------------------------- the two ways to list a folder

COMPILED = pytest.mark.skipif(listed is plainly_listed, reason="mus was installed without a C compiler")


@pytest.fixture(
    params=[pytest.param(listed, marks=COMPILED, id="compiled"), pytest.param(plainly_listed, id="plain")]
)
def listing(request: pytest.FixtureRequest) -> Callable[..., list[Listing | int]]:
    function: Callable[..., list[Listing | int]] = request.param
    return function


def ordered(listings: list[Listing | int]) -> list[Any]:
    """The same whatever the order in which a folder gives its names."""
    return [
        each
        if isinstance(each, int)
        else (each[0], sorted(zip(each[1], each[2], strict=True)), sorted(each[3]), sorted(each[4]))
        for each in listings
    ]


def listed_by(listing: Callable[..., Any], root: Path, *prefixes: bytes, most: int = 2600) -> list[Any]:
    return ordered(listing(os.fsencode(root), list(prefixes), tuple(AUDIO_SUFFIXES), most))


def test_a_listing_tells_kinds_and_the_versions_of_music(
    tmp_path: Path, listing: Callable[..., list[Listing | int]]
) -> None:
    touch(tmp_path, "A/1.mp3", "A/2.FlAc", "A/.3.mp3", "A/cover.jpg", "A/mp3", "A/4.mp3.part", "A/B/5.mp3")
    touch(tmp_path, b"A/\xff\n.ogg", b"A/" + b"n" * 251 + b".mp3")
    (tmp_path / "A/link.mp3").symlink_to(tmp_path / "A/1.mp3")
    (tmp_path / "A/folder.mp3").mkdir()
    os.mkfifo(tmp_path / "A/pipe.mp3")
    ((device, music, others, unreadable),) = listed_by(listing, tmp_path, b"A/")
    assert device == tmp_path.stat().st_dev
    for path, version in music:
        stat = os.stat(os.path.join(os.fsencode(tmp_path), path))
        assert version_numbers(version) == FileStat.of(stat)
        assert version_of(FileStat.of(stat)) == version
    assert [path for path, _ in music] == [b"A/1.mp3", b"A/2.FlAc", b"A/" + b"n" * 251 + b".mp3", b"A/\xff\n.ogg"]
    assert others == [
        (b"A/.3.mp3", "f"), (b"A/4.mp3.part", "f"), (b"A/B", "d"), (b"A/cover.jpg", "f"), (b"A/folder.mp3", "d"),
        (b"A/link.mp3", "l"), (b"A/mp3", "f"), (b"A/pipe.mp3", "o"),
    ]  # fmt: skip
    assert unreadable == []


def test_a_folder_that_cannot_be_listed_is_told_by_its_errno_and_the_others_are_listed(
    tmp_path: Path, listing: Callable[..., list[Listing | int]]
) -> None:
    touch(tmp_path, "1.mp3", "A/2.mp3")
    nowhere, of_a_file, deep, root, folder = listed_by(
        listing, tmp_path, b"nowhere/", b"1.mp3/", b"d/" * 3000, b"", b"A/"
    )
    assert (nowhere, of_a_file, deep) == (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
    assert [path for path, _ in root[1]] == [b"1.mp3"]
    assert [path for path, _ in folder[1]] == [b"A/2.mp3"]


def test_a_path_that_is_too_long_is_no_music(tmp_path: Path, listing: Callable[..., list[Listing | int]]) -> None:
    touch(tmp_path, "A/1.mp3", "A/22.mp3")
    ((_, music, others, _),) = listed_by(listing, tmp_path, b"A/", most=len("A/1.mp3"))
    assert [path for path, _ in music] == [b"A/1.mp3"]
    assert others == [(b"A/22.mp3", "f")]


MOST_NS = 2**63 - 1


@pytest.mark.parametrize("seconds", [-(2**31), -1, 0, 2**33, 9_223_372_036, 9_223_372_037, 15_032_385_535])
def test_times_far_from_today_are_told_to_the_nanosecond(
    tmp_path: Path, listing: Callable[..., list[Listing | int]], seconds: int
) -> None:
    touch(tmp_path, "1.mp3")
    os.utime(tmp_path / "1.mp3", ns=(0, seconds * 10**9 + 123_456_789))
    told = (tmp_path / "1.mp3").stat().st_mtime_ns  # a file system may keep less
    (((_, version),),) = [each[1] for each in listed_by(listing, tmp_path, b"")]
    assert version_numbers(version).mtime_ns == min(told, MOST_NS)


@pytest.mark.parametrize(
    "wrong",
    [
        (b"r\0", [b""], (b".mp3",), 9),
        ("r", [b""], (b".mp3",), 9),
        (b"r", ["A/"], (b".mp3",), 9),
        (b"r", [b"A\0/"], (b".mp3",), 9),
        (b"r", 5, (b".mp3",), 9),
        (b"r", [b""], (b".far-too-long",), 9),
        (b"r", [b""], (7,), 9),
        (b"r", [b""], (b".mp3",), 2**80),
    ],
)
@COMPILED
def test_the_compiled_listing_refuses_what_is_no_path(wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError, OverflowError)):
        listed(*wrong)


@COMPILED
def test_both_ways_tell_the_same_of_a_big_odd_tree(tmp_path: Path) -> None:
    made = random.Random(7)
    folders = [b""]
    for number in range(60):
        folder = made.choice(folders) + made.choice([b"A", b"\xe9", b"\xe6\x97\xa5", b"@eaDir", b".h", b"x.mp3"])
        folders.append(folder + b"%d/" % number)
        touch(
            tmp_path, *(folders[-1] + b"%d%s" % (file, made.choice(ENDINGS)) for file in range(made.randrange(40)))
        )
        os.makedirs(os.path.join(os.fsencode(tmp_path), folders[-1]), exist_ok=True)
    assert listed_by(listed, tmp_path, *folders) == listed_by(plainly_listed, tmp_path, *folders)


ENDINGS = [b".mp3", b".FLAC", b".m4a", b"", b".", b".mp3~", b".MP3.jpg", b".aiff", b".aif", b".dsf", b".wv"]


# ------------------------------------------------------------- the second look


def test_a_second_look_sees_what_the_walk_sees(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    touch(root, "A/1.mp3", "B/.nomedia", "B/2.mp3", ".C/3.mp3", "D/4.txt", "A/5.mp3.part")
    touch(outside, "6.mp3")
    (root / "E").symlink_to(outside)
    (root / "F").symlink_to(root / "A")
    os.mkfifo(root / "G.mp3")
    look = SecondLook(os.fsencode(root))
    everything = [
        os.path.relpath(os.path.join(folder, name), os.fsencode(root))
        for folder, _, names in os.walk(os.fsencode(root), followlinks=True)
        for name in names
    ]
    assert {path for path in everything if look.at(path) is not None} == walked(root)[0] == {b"A/1.mp3"}
    assert look.at(b"A/1.mp3") == next(iter(next(walk(os.fsencode(root), b"A", WalkReport()))))


@pytest.mark.parametrize("path", [b"../outside/1.mp3", b"A/../A/1.mp3", b"./A/1.mp3", b"A//1.mp3", b"A/1.mp3\x007"])
def test_a_second_look_takes_no_path_that_the_walk_would_not_give(tmp_path: Path, path: bytes) -> None:
    touch(tmp_path, "root/A/1.mp3", "outside/1.mp3")
    assert SecondLook(os.fsencode(tmp_path / "root")).at(path) is None


def test_a_file_is_gone_when_it_its_folder_or_a_folder_above_is(tmp_path: Path) -> None:
    touch(tmp_path, "A/1.mp3")
    device = {tmp_path.stat().st_dev}
    look = SecondLook(os.fsencode(tmp_path))
    assert not look.is_gone(b"A/1.mp3", device)
    assert look.is_gone(b"A/2.mp3", device)
    assert look.is_gone(b"A/B/C/3.mp3", device)
    assert look.is_gone(b"A/1.mp3\x0012", device), "a parked path is nobody's"


def test_a_file_is_not_gone_when_its_folder_lies_on_another_device_now(tmp_path: Path) -> None:
    touch(tmp_path, "A/1.mp3")
    look = SecondLook(os.fsencode(tmp_path))
    elsewhere = {tmp_path.stat().st_dev + 1}
    assert not look.is_gone(b"A/2.mp3", elsewhere)
    assert look.is_gone(b"A/2.mp3", None), "a person confirmed it"


def test_a_file_is_not_gone_when_the_root_is(tmp_path: Path) -> None:
    assert not SecondLook(os.fsencode(tmp_path / "unmounted")).is_gone(b"A/1.mp3", None)


def test_a_name_is_listed_only_in_its_own_spelling(tmp_path: Path) -> None:
    touch(tmp_path, "Artist/Song.mp3")
    look = SecondLook(os.fsencode(tmp_path))
    assert look.is_listed(b"Artist/Song.mp3")
    assert not look.is_listed(b"Artist/song.mp3")
    assert not look.is_listed(b"artist/Song.mp3")


@pytest.mark.parametrize(
    "renamed",
    [b"Artist/Album/song.mp3", b"Artist/ALBUM/Song.mp3", b"artist/Album/Song.mp3", b"artist/album/SONG.MP3"],
)
def test_a_file_found_by_its_old_name_only_because_case_is_ignored_is_gone(tmp_path: Path, renamed: bytes) -> None:
    touch(tmp_path, renamed, "2.mp3")
    device = {tmp_path.stat().st_dev}
    with case_ignored(tmp_path):
        look = SecondLook(os.fsencode(tmp_path))
        assert look.at(b"Artist/Album/Song.mp3") is not None, "as the disk finds it"
        assert look.as_listed(b"Artist/Album/Song.mp3") == renamed
        assert look.is_gone(b"Artist/Album/Song.mp3", device)
        assert look.as_listed(renamed) == renamed
        assert not look.is_gone(renamed, device)


def test_names_whose_letters_have_no_case_or_another_alphabets_are_told_apart(tmp_path: Path) -> None:
    touch(tmp_path, "кино/1.mp3", "1984/1.mp3", "日本/1.mp3", "Ä/1.mp3", b"\xff\xc4.mp3")
    with case_ignored(tmp_path):
        look = SecondLook(os.fsencode(tmp_path))
        for path in walked(tmp_path)[0]:
            assert look.as_listed(path) == path
        for spelling in ("Кино/1.mp3", "ä/1.mp3", "1984/1.MP3"):
            assert SecondLook(os.fsencode(tmp_path)).is_gone(os.fsencode(spelling), None)


def test_where_case_counts_two_spellings_are_two_files_and_no_folder_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "Artist/Song.mp3", "1984/1.mp3")
    with monkeypatch.context() as patched:
        patched.setattr(os, "listdir", lambda _: pytest.fail("a folder was listed"))
        look = SecondLook(os.fsencode(tmp_path))
        assert look.as_listed(b"Artist/Song.mp3") == b"Artist/Song.mp3"
        assert look.as_listed(b"1984/1.mp3") == b"1984/1.mp3"
    touch(tmp_path, "artist/Song.mp3", "Artist/song.mp3")
    look = SecondLook(os.fsencode(tmp_path))
    for path in (b"Artist/Song.mp3", b"artist/Song.mp3", b"Artist/song.mp3"):
        assert look.as_listed(path) == path
        assert not look.is_gone(path, None)


def test_a_file_that_came_after_its_folder_was_listed_is_there(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp3", "A.mp3")
    look = SecondLook(os.fsencode(tmp_path))
    assert look.as_listed(b"a.mp3") == b"a.mp3"
    touch(tmp_path, "b.mp3")
    assert not look.is_gone(b"b.mp3", None)


def test_where_a_folder_cannot_be_listed_nothing_is_gone_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "song.mp3")

    def broken(_: bytes) -> list[bytes]:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with case_ignored(tmp_path):
        monkeypatch.setattr(os, "listdir", broken)
        assert not SecondLook(os.fsencode(tmp_path)).is_gone(b"Song.mp3", None)


def test_a_listing_is_told_from_another_as_soon_as_they_differ() -> None:
    first = FoundFiles([b"A/1.mp3", b"A/2.mp3"], [b"1,1,1,1,1", b"2,2,2,2,2"])
    second = FoundFiles([b"B/3.mp3"], [b"3,3,3,3,3"])
    whole = Digested([first, second])
    assert [len(files) for files in whole] == [2, 1]
    assert whole.digest().files == 3

    again = Digested([first, second])
    for _ in again:
        assert again.begins(whole.digest())
    assert again.digest() == whole.digest()

    shorter = Digested([first])
    assert [shorter.begins(whole.digest()) for _ in shorter] == [True]
    assert shorter.digest() != whole.digest()

    for other in (
        FoundFiles([b"A/1.mp3", b"A/2.mp3"], [b"1,1,1,1,1", b"2,2,2,2,3"]),
        FoundFiles([b"A/1.mp3"], [b"1,1,1,1,1"]),
        FoundFiles([b"A/2.mp3", b"A/1.mp3"], [b"2,2,2,2,2", b"1,1,1,1,1"]),
        FoundFiles([b"A/1.mp3", b"A/2.mp3", b"A/3.mp3"], [b"1,1,1,1,1", b"2,2,2,2,2", b"3,3,3,3,3"]),
    ):
        digested = Digested([other, second])
        assert [digested.begins(whole.digest()) for _ in digested] == [False, False]
