"""Files on their way into the trash and back: never over another file, and done twice is done once. Blocking."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

from mus.library.beside import make_folders, opened_folder, stat_at
from mus.library.file_reading import FileStat
from mus.library.moves import lies_at, move_between, names_to_disk, take_away
from mus.library.second_look import SecondLook
from mus.library.walk import TRASH_FOLDER

#: Most file systems' limit, and a little less.
_NAME_BYTES = 250
#: File systems round times; FAT to two seconds.
_SAME_TIME_NS = 2_000_000_000


def place_in_trash(root: bytes, path: bytes, track_id: int, data_trash: Path) -> bytes:
    """A free absolute path in `<root>/.mus-trash`, or in `data_trash` where the root takes no new folder.

    Nothing is moved yet. Raises OSError: the file is not there, or must not be taken away from its folder.
    """
    if SecondLook(root).at(path) is None:
        raise _os_error(errno.ENOENT, path)
    if not os.access(os.path.dirname(os.path.join(root, path)), os.W_OK | os.X_OK):
        raise _os_error(errno.EACCES, path)
    folder = os.path.join(root, TRASH_FOLDER)
    with suppress(OSError):
        os.makedirs(folder, mode=0o700, exist_ok=True)
    if not _is_own_folder(folder):
        folder = os.fsencode(data_trash)
        os.makedirs(folder, mode=0o700, exist_ok=True)
    return _free_name(folder, track_id, os.path.basename(path))


def _is_own_folder(folder: bytes) -> bool:
    try:
        is_folder = stat.S_ISDIR(os.lstat(folder).st_mode)  # a link might lead anywhere
    except OSError:
        return False
    return is_folder and os.access(folder, os.W_OK | os.X_OK)


def _free_name(folder: bytes, track_id: int, basename: bytes) -> bytes:
    stem, suffix = os.path.splitext(basename)
    number = 0
    while True:
        prefix = b"%d-" % track_id if not number else b"%d-%d-" % (track_id, number)
        name = prefix + stem[: _NAME_BYTES - len(prefix) - len(suffix)] + suffix
        if not os.path.lexists(os.path.join(folder, name)):
            return os.path.join(folder, name)
        number += 1


def free_name(root: bytes, path: bytes) -> bytes:
    """`path`, relative to the root, or `… (2)` and so on before its suffix where something is there."""
    folder, basename = os.path.split(path)
    stem, suffix = os.path.splitext(basename)
    number = 1
    while os.path.lexists(os.path.join(root, path)):
        number += 1
        more = b" (%d)" % number + suffix
        # Whole characters: half of one is no UTF-8.
        short = stem[: _NAME_BYTES - len(more)].decode("utf-8", "ignore") if len(stem) > 200 else None
        path = os.path.join(folder, (stem if short is None else short.encode()) + more)
    return path


def move_into_trash(root: bytes, path: bytes, trash_path: bytes, job_id: str) -> None:
    """`trash_path` is a name of this deletion's own: what lies there was moved by an earlier attempt.

    What an earlier attempt of the job left of a copy goes. Raises ChangedMeanwhileError and OSError; `is_in_trash`
    tells what came of it.
    """
    old, (folder, new) = os.path.basename(path), os.path.split(trash_path)
    with (
        opened_folder(folder, b"") as to_folder,
        opened_folder(root, os.path.dirname(path)) as from_folder,
    ):
        if not lies_at(to_folder, new):
            move_between(from_folder, to_folder, old, new, owner=job_id)
        elif _is_one_file(stat_at(from_folder, old), stat_at(to_folder, new)):
            names_to_disk(to_folder)
            take_away(from_folder, old, now_also=(to_folder, new))
        # Whatever else is at the source by now is somebody's new file.


def move_back(root: bytes, path: bytes, trash_path: bytes, job_id: str) -> None:
    """From the trash to `path`, which may be where an earlier attempt has brought it; folders on the way are made.

    Raises FileExistsError, ChangedMeanwhileError and OSError; `is_restored` tells what came of it.
    """
    new, (folder, old) = os.path.basename(path), os.path.split(trash_path)
    with opened_folder(folder, b"") as from_folder:
        if not lies_at(from_folder, old):
            if not os.path.lexists(os.path.join(root, path)):
                raise _os_error(errno.ENOENT, trash_path)
            return
        made = make_folders(root, os.path.dirname(path))
        try:
            with opened_folder(root, os.path.dirname(path)) as to_folder:
                if _is_one_file(stat_at(from_folder, old), stat_at(to_folder, new)):
                    names_to_disk(to_folder)
                    take_away(from_folder, old, now_also=(to_folder, new))
                else:
                    move_between(from_folder, to_folder, old, new, owner=job_id)
        except BaseException:
            for each in reversed(made):
                with suppress(OSError):
                    os.rmdir(os.path.join(root, each))
            raise


def is_in_trash(source: bytes, trash_path: bytes) -> bool | None:
    """Where a fresh look finds a file that was to be deleted. False: in its place, and not in the trash.

    None where that cannot be told: it has both names, or none that can be seen from here.
    """
    try:
        # In this order: what is moved in between is seen in the trash.
        outside, inside = _seen(source), _seen(trash_path)
    except OSError:
        return None
    if inside is None:
        return False if outside is not None and os.path.isdir(os.path.dirname(trash_path)) else None
    return None if _is_one_file(outside, inside) else True


def is_restored(trash_path: bytes, target: bytes) -> bool | None:
    """Where a fresh look finds a file that was to be restored. False: in the trash, and not at the target.

    None where that cannot be told, as in `is_in_trash`.
    """
    try:
        inside, outside = _seen(trash_path), _seen(target)
    except OSError:
        return None
    if inside is None:
        return True if outside is not None and os.path.isdir(os.path.dirname(trash_path)) else None
    return None if _is_one_file(outside, inside) else False


def is_nowhere(first: bytes, second: bytes) -> bool:
    """Whether nothing has either name, looked at in this order. False where that cannot be told."""
    try:
        return _seen(first) is None and _seen(second) is None
    except OSError:
        return False


def is_there(path: bytes) -> bool:
    """Raises OSError where that cannot be told."""
    return _seen(path) is not None


def has_both_names(one: bytes, other: bytes) -> bool:
    """Whether a move was broken off between the new name and the end of the old one. False where that cannot be
    told."""
    try:
        return _is_one_file(_seen(one), _seen(other))
    except OSError:
        return False


def _seen(path: bytes) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _is_one_file(one: os.stat_result | None, other: os.stat_result | None) -> bool:
    """Whether both are the same file, linked or copied across file systems: an earlier attempt died half-way."""
    if one is None or other is None:
        return False
    if one.st_dev == other.st_dev:
        return os.path.samestat(one, other)
    return one.st_size == other.st_size and abs(one.st_mtime_ns - other.st_mtime_ns) < _SAME_TIME_NS


def stat_of(path: bytes) -> FileStat:
    """Raises OSError."""
    return FileStat.of(os.lstat(path))


def remove_for_good(path: bytes) -> bool:
    """Unlink a trashed file. False where its whole trash folder is away, as with its disk. Raises OSError."""
    if not os.path.isdir(os.path.dirname(path)):
        return False
    with suppress(FileNotFoundError):
        os.unlink(path)
    return True


def _os_error(number: int, path: bytes) -> OSError:
    return OSError(number, os.strerror(number), path)
