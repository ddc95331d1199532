"""Write tags and pictures into a copy of a file, and prove that nothing else has changed.

Runs in a reader process, and never touches the file itself: whoever asked renames the copy over it. Of the modules
that import mutagen, this one and its parts (`tag_formats`, `id3_tags`, `riff_info`, `tag_pictures`) write.
"""

# Paths are bytes here, which pathlib does not take.

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import mutagen
import mutagen.id3
from mutagen.apev2 import APEv2

from mus.errors import ErrorCategory
from mus.library.beside import copy_beside, discard, keep_attributes, opened_folder
from mus.library.cover_thumbnails import PictureError, folder_cover, write_thumbnails
from mus.library.edit_order import EditedCopy, EditOrder, Picture
from mus.library.file_reading import FileReading, FileStat
from mus.library.id3_tags import Id3Tags
from mus.library.mutagen_tags import READERS
from mus.library.reading_rules import DEFAULT_RULES, ReadingRules
from mus.library.riff_info import RiffInfo
from mus.library.safe_open import CUT_SHORT, UnreadableFileError, explain, open_inside
from mus.library.sound import hear
from mus.library.tag_changes import RAW_NAMES, SHOWN_NAMES, RawChanges
from mus.library.tag_formats import (
    ApeTags,
    AsfTags,
    CommentTags,
    Mp4Tags,
    Tags,
    UnfitValueError,
    names_alike,
)
from mus.library.tag_layout import Layout, Window, look
from mus.library.tag_pictures import pictures_in, put_pictures, with_front
from mus.library.tag_reader import read_tags
from mus.library.tag_values import tag_fields

_ID3_KINDS = frozenset({"mp3", "aac", "wav", "aiff", "dsf"})
_COMMENT_KINDS = frozenset({"flac", "vorbis", "opus", "ogg-flac", "speex"})
_APE_KINDS = frozenset({"ape", "wavpack", "musepack"})
#: Pictures of one file, all together; they cross a pipe as base64.
_MAX_PICTURES_BYTES = 96 * 1024 * 1024
_GAIN_TOLERANCE = 0.01
CHANGED_SINCE = "The file was changed by another program since: what it says now would be lost"


def failed_edit(message: str, category: ErrorCategory = ErrorCategory.USER_FIXABLE) -> EditedCopy:
    return EditedCopy(error_category=category, error_message=message)


def write_copy(
    root: bytes, path: bytes, order: EditOrder, thumbnails_dir: Path, rules: ReadingRules = DEFAULT_RULES
) -> EditedCopy:
    """Make the edited copy of the file at `path`, relative to `root`. Never raises for what is in a file."""
    try:
        return _write_copy(root, path, order, thumbnails_dir, rules)
    except UnreadableFileError as error:
        return failed_edit(error.message, error.category)
    except UnfitValueError as error:
        return failed_edit(str(error))
    except OSError as error:
        return _failed_by(error)
    except mutagen.MutagenError as error:
        # The disk's own error is inside.
        causes = (error.__cause__, error.__context__, *error.args)
        inner = next((cause for cause in causes if isinstance(cause, OSError) and cause.errno), None)
        return _failed_by(inner) if inner else failed_edit(f"The tags cannot be written: {error or 'damaged'}")
    except Exception as error:  # noqa: BLE001 - tag libraries raise what their parsing happens to hit
        return failed_edit(
            f"The tags cannot be written: the file is damaged ({type(error).__name__}: {error})"[:500]
        )


def _failed_by(error: OSError) -> EditedCopy:
    explained = explain(error)
    if isinstance(error, PermissionError) or error.errno == 30:  # EROFS
        return failed_edit("mus may not write in this folder")
    return failed_edit(explained.message, explained.category)


def _write_copy(
    root: bytes, path: bytes, order: EditOrder, thumbnails_dir: Path, rules: ReadingRules
) -> EditedCopy:
    folder_path, _, name = path.rpartition(b"/")
    if os.path.islink(os.path.join(root, path)):
        raise UnreadableFileError("This is a link: edit the file that it leads to")
    descriptor, source = open_inside(root, path)
    with open(descriptor, "rb") as original:
        layout = look(Window(descriptor, source.st_size))
        kind = layout.kind or ("mp3" if name.lower().endswith(b".mp3") else "")
        if source.st_size == 0 or kind not in _ID3_KINDS | _COMMENT_KINDS | _APE_KINDS | {"mp4", "wma"}:
            raise UnreadableFileError("Tags cannot be written into a file of this kind")
        if layout.cut_short:
            raise UnreadableFileError(CUT_SHORT)
        found = _TagFile(original, kind, layout, order.id3_version)
        before = {name: found.values(name) for name in order.changes}
        pictures_before = found.pictures() if order.touches_pictures else []
        if sum(len(picture.data) for picture in pictures_before) > _MAX_PICTURES_BYTES:
            raise UnfitValueError("The pictures in this file are too large to be kept for undo")
        _compare(order, before, pictures_before)
        wanted = _wanted_pictures(order, pictures_before)
        if before == order.changes and pictures_before == wanted:
            return EditedCopy(unchanged=True, source=FileStat.of(source))
        with opened_folder(root, folder_path) as folder:
            part = os.fsencode(order.part)
            try:
                copy = _edited(original, folder, part, kind, layout, order, wanted)
                after, pictures_after, reading = _proven(root, path, part, found, order, wanted, kind, rules)
                now = os.fstat(descriptor)
                if (now.st_size, now.st_mtime_ns) != (source.st_size, source.st_mtime_ns):
                    raise UnreadableFileError("The file changed meanwhile", category=ErrorCategory.TEMPORARY)
            except BaseException:
                discard(folder, part)
                raise
    return EditedCopy(
        source=FileStat.of(source),
        copy=copy,
        before=before,
        after=after,
        pictures_before=pictures_before,
        pictures_after=pictures_after,
        reading=reading,
        cover=_cover(root, folder_path, pictures_after, thumbnails_dir) if order.touches_pictures else None,
        hard_links=source.st_nlink - 1,
    )


class _TagFile:
    """All places of a file that tell its tags."""

    def __init__(self, file: BinaryIO, kind: str, layout: Layout, id3_version: int) -> None:
        self._file = file
        self._beside: list[ApeTags | RiffInfo] = []
        file.seek(0)
        if kind == "aac":
            self._audio, self._tags = None, _id3_of(file)
        else:
            self._audio = READERS[kind](file)
            if self._audio.tags is None:
                self._audio.add_tags()
            self._tags = self._audio.tags
        self._main: Tags
        if kind in _ID3_KINDS:
            has_v1 = kind in {"mp3", "aac"} and _ends_with_id3v1(file)
            self._main = Id3Tags(self._tags, version=id3_version, audio=self._audio, has_v1=has_v1)
        elif kind in _COMMENT_KINDS:
            self._main = CommentTags(self._audio, is_opus=kind == "opus")
        elif kind in _APE_KINDS:
            self._main = ApeTags(self._tags)
        elif kind == "mp4":
            self._main = Mp4Tags(self._audio)
        else:
            self._main = AsfTags(self._audio)
        if kind in {"mp3", "aac"} and layout.has_apev2:
            file.seek(0)
            self._beside.append(ApeTags(APEv2(file)))
        elif kind == "wav":
            self._beside.append(RiffInfo(file))

    def values(self, name: str) -> list[str]:
        for tags in (self._main, *self._beside):
            if values := tags.values(name):
                return values
        return []

    def pictures(self) -> list[Picture]:
        return pictures_in(self._audio, self._tags)

    def put(self, changes: RawChanges, pictures: Sequence[Picture] | None) -> None:
        self._main.put(changes)
        for tags in self._beside:
            # A second tag does not get what it did not have, and never says something else.
            tags.put({name: values for name, values in changes.items() if tags.has(name)})
        if pictures is not None:
            put_pictures(self._audio, self._tags, pictures)

    def save(self, file: BinaryIO) -> None:
        # An APEv2 tag first: mutagen takes away an ID3v1 tag behind it, and that is written anew with ID3v2.
        for tags in self._beside:
            tags.save(file)
        file.seek(0)
        self._main.save(file)


def _ends_with_id3v1(file: BinaryIO) -> bool:
    return os.pread(file.fileno(), 3, max(0, os.fstat(file.fileno()).st_size - 128)) == b"TAG"


def _id3_of(file: BinaryIO) -> Any:
    try:
        return mutagen.id3.ID3(file)
    except mutagen.id3.ID3NoHeaderError:
        return mutagen.id3.ID3()


def _compare(order: EditOrder, before: RawChanges, pictures: Sequence[Picture]) -> None:
    if order.expected is not None and any(before[name] != order.expected[name] for name in before):
        raise UnreadableFileError(CHANGED_SINCE)
    digests = [picture.digest for picture in pictures]
    if order.touches_pictures and order.expected_pictures is not None and digests != order.expected_pictures:
        raise UnreadableFileError(CHANGED_SINCE)


def _wanted_pictures(order: EditOrder, before: list[Picture]) -> list[Picture]:
    if order.front is not None:
        return with_front(before, order.front)
    return before if order.pictures is None else order.pictures


def _edited(
    original: BinaryIO,
    folder: int,
    part: bytes,
    kind: str,
    layout: Layout,
    order: EditOrder,
    pictures: Sequence[Picture],
) -> FileStat:
    """Write the copy and bring it to the disk; returns its numbers."""
    descriptor = copy_beside(original.fileno(), folder, part)
    with open(descriptor, "r+b") as file:
        edited = _TagFile(file, kind, layout, order.id3_version)
        edited.put(order.changes, pictures if order.touches_pictures else None)
        edited.save(file)
        file.flush()
        os.fsync(descriptor)
        keep_attributes(original.fileno(), descriptor)
        os.fsync(descriptor)
        return FileStat.of(os.fstat(descriptor))


def _proven(
    root: bytes,
    path: bytes,
    part: bytes,
    original: _TagFile,
    order: EditOrder,
    pictures: Sequence[Picture],
    kind: str,
    rules: ReadingRules,
) -> tuple[RawChanges, list[Picture], FileReading]:
    """Read the copy as any file. Raises UnreadableFileError when it does not say, or sound like, what it should."""
    copy_path = os.path.join(os.path.dirname(path), part)
    descriptor, found = open_inside(root, copy_path)
    with open(descriptor, "rb") as file:
        layout = look(Window(descriptor, found.st_size))
        edited = _TagFile(file, kind, layout, order.id3_version)
        after = {name: edited.values(name) for name in order.changes}
        pictures_after = edited.pictures() if order.touches_pictures else []
        others = RAW_NAMES - set().union(*(names_alike(name) for name in order.changes))
        lost = [name for name in others if edited.values(name) != original.values(name)]
        lost += [
            name for name, values in order.changes.items() if not _is_kept(name, values, after[name], order, kind)
        ]
        if not order.touches_pictures and edited.pictures() != original.pictures():
            lost.append("pictures")
        said = {name: values for name in RAW_NAMES if (values := edited.values(name))}
    reading = read_tags(root, copy_path, rules, called=path)
    if reading.error_message is not None:
        raise UnreadableFileError(f"The edited copy cannot be read: {reading.error_message}")
    lost += _misread(reading, order, tag_fields(said, rules, is_opus=kind == "opus"))
    if [picture.data for picture in pictures_after] != [
        picture.data for picture in pictures if order.touches_pictures
    ]:
        lost.append("pictures")
    if lost:
        names = ", ".join(sorted({SHOWN_NAMES.get(name, name) for name in lost}))
        raise UnreadableFileError(
            f"This file cannot hold what was to be written: {names} would not read back right"
        )
    sound = hear(root, copy_path).audio_hash
    if sound is None or (sound.hex() != order.sound and sound != hear(root, path).audio_hash):
        raise UnreadableFileError(
            "The sound of the edited copy could not be proven to be the same: nothing was changed"
        )
    return after, pictures_after, reading


def _is_kept(name: str, wanted: list[str], got: list[str], order: EditOrder, kind: str) -> bool:
    if wanted == got:
        return True
    if name.startswith("replaygain") and wanted and got:
        return abs(_number(wanted[0]) - _number(got[0])) <= _GAIN_TOLERANCE
    if kind in _ID3_KINDS and order.id3_version == 3:
        # 2.3 has no list of values, and no month without a day.
        return ["; ".join(wanted)] == got or (name == "date" and bool(got) and wanted[0].startswith(got[0][:4]))
    # MP4 has no number 0.
    return kind == "mp4" and name in {"tracknumber", "discnumber"} and wanted == ["0"] and not got


def _number(text: str) -> float:
    with suppress(ValueError):
        return float(text.lower().removesuffix("db").strip())
    return float("nan")


def _misread(reading: FileReading, order: EditOrder, meant: dict[str, Any]) -> list[str]:
    """Raw names of changes that the library's own reader sees otherwise than the tags that were written say."""
    return [
        name
        for name in order.changes
        for attribute in _ATTRIBUTES.get(name, ())
        # A file's name stands in for a title.
        if (attribute != "title" or attribute in meant)
        and (meant.get(attribute) or None) != (getattr(reading, attribute) or None)
    ]


#: What the reader makes of a raw name; ids and gains are compared as tags alone.
_ATTRIBUTES = {
    "title": ("title",),
    "artist": ("artist", "artists"),
    "artists": ("artists",),
    "albumartist": ("album_artist", "album_artists"),
    "albumartists": ("album_artists",),
    "album": ("album",),
    "tracknumber": ("track_number",),
    "tracktotal": ("track_total",),
    "discnumber": ("disc_number",),
    "disctotal": ("disc_total",),
    "date": ("date", "year"),
    "genre": ("genre", "genres"),
    "composer": ("composer",),
    "comment": ("comment",),
    "compilation": ("compilation",),
    "lyrics": ("lyrics",),
    "titlesort": ("title_sort",),
    "artistsort": ("artist_sort",),
    "albumartistsort": ("album_artist_sort",),
    "albumsort": ("album_sort",),
}


def _cover(root: bytes, folder: bytes, pictures: Sequence[Picture], thumbnails_dir: Path) -> str | None:
    """As analysis takes it: the embedded one, else the folder's. None where no picture can be used."""
    front = next((picture for picture in pictures if picture.kind == 3), pictures[0] if pictures else None)
    for data in (front.data if front else None, folder_cover(root, folder)):
        if data is not None:
            with suppress(PictureError):
                return write_thumbnails(data, thumbnails_dir)
    return None
