"""Files that arrive from somebody: hidden until they are whole and checked. Blocking."""

# Paths are bytes here, which pathlib does not take.

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass

from mus.library.audio_formats import AUDIO_SUFFIXES, is_audio_name
from mus.library.beside import UPLOAD_FOLDER, UPLOAD_PREFIX, hidden_name, make_folders, opened_folder
from mus.library.file_reading import FileReading
from mus.library.walk import skip_reason

#: Suffixes by a reading's format; another one misleads players and people.
_SUFFIXES: dict[str, frozenset[bytes]] = {
    "mp3": frozenset({b".mp3"}),
    "flac": frozenset({b".flac", b".oga", b".ogg"}),
    "aac": frozenset({b".m4a", b".m4b", b".mp4", b".aac"}),
    "alac": frozenset({b".m4a", b".m4b", b".mp4"}),
    "vorbis": frozenset({b".ogg", b".oga"}),
    "opus": frozenset({b".opus", b".ogg", b".oga"}),
    "speex": frozenset({b".spx", b".ogg", b".oga"}),
    "wav": frozenset({b".wav"}),
    "aiff": frozenset({b".aiff", b".aif", b".aifc"}),
    "wma": frozenset({b".wma"}),
    "ape": frozenset({b".ape"}),
    "wavpack": frozenset({b".wv"}),
    "musepack": frozenset({b".mpc"}),
    "dsf": frozenset({b".dsf"}),
}


#: What lies beside the music of an album, by suffix. Scans pass over it; `.jpg` and the like may be its cover.
_PICTURES = frozenset({b".jpg", b".jpeg", b".png", b".webp", b".gif"})
_TEXTS = frozenset({b".cue", b".log", b".lrc", b".m3u", b".m3u8", b".nfo", b".txt"})
_COMPANIONS = _PICTURES | _TEXTS | {b".pdf"}
#: Bytes of the largest that are taken.
_LARGEST_PICTURE, _LARGEST_TEXT = 32_000_000, 1_000_000
_COMPARED_BYTES = 1024 * 1024


def _suffix(path: bytes) -> bytes:
    return os.path.splitext(path)[1].lower()


def refuse_odd_name(path: bytes, *, with_companions: bool = False) -> str | None:
    """Why a library would not list a file of this path, nor, `with_companions`, keep it beside those; None if it
    would."""
    *folders, name = path.split(b"/")
    if with_companions and _suffix(name) in _COMPANIONS:
        reasons = [skip_reason(part, is_dir=True) for part in (*folders, name)]
    elif is_audio_name(name):
        reasons = [skip_reason(folder, is_dir=True) for folder in folders] + [skip_reason(name, is_dir=False)]
    else:
        known = ", ".join(sorted(suffix.decode() for suffix in AUDIO_SUFFIXES))
        return f"Must end with the suffix of a sound file: {known}"
    found = next((reason for reason in reasons if reason is not None), None)
    return None if found is None else f"A library passes over such a path: {found}"


@dataclass(slots=True)
class Arrival:
    """A file under way, in a hidden folder of the library's root."""

    root: bytes
    part: bytes
    descriptor: int
    suffix: bytes

    @classmethod
    def begun(cls, root: bytes, place: bytes) -> Arrival:
        """For a file that is to lie at `place`. Raises OSError."""
        part = hidden_name(UPLOAD_PREFIX, place)
        try:
            descriptor = _created(root, part)
        except FileNotFoundError:
            # Its folder was empty, and went with a batch that left it at this moment (`staged_uploads`).
            descriptor = _created(root, part)
        return cls(root, part, descriptor, _suffix(place))

    @property
    def path(self) -> bytes:
        """Relative to the root."""
        return os.path.join(UPLOAD_FOLDER, self.part)

    @property
    def is_picture(self) -> bool:
        return self.suffix in _PICTURES

    @property
    def is_music(self) -> bool:
        return self.suffix not in _COMPANIONS

    def content(self) -> bytes:
        """All of it. Raises OSError."""
        return os.pread(self.descriptor, os.fstat(self.descriptor).st_size, 0)

    def refuse_other_companion(self) -> str | None:
        """Why a file that is no music is not what its name says, or is too large; None if it is. Of a picture only
        the size is looked at here. Raises OSError."""
        size = os.fstat(self.descriptor).st_size
        largest = _LARGEST_PICTURE if self.is_picture else _LARGEST_TEXT
        if self.suffix == b".pdf":
            return None if os.pread(self.descriptor, 5, 0) == b"%PDF-" else "it is no PDF document"
        if size > largest:
            return f"it has more than {largest // 1_000_000} MB"
        # EAC's logs are UTF-16, whose mark they begin with.
        if not self.is_picture and b"\0" in (text := self.content()) and text[:2] not in {b"\xff\xfe", b"\xfe\xff"}:
            return "it is no text"
        return None

    def write(self, piece: bytes) -> None:
        """Raises OSError."""
        view = memoryview(piece)
        while view:
            view = view[os.write(self.descriptor, view) :]

    def complete(self) -> None:
        """Bring it to the disk. Raises OSError."""
        os.fsync(self.descriptor)

    def is_same_as(self, place: bytes) -> bool:
        """Whether the file at `place` has the same content. Raises OSError."""
        with opened_folder(self.root, os.path.dirname(place)) as folder:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            other = os.open(os.path.basename(place), flags, dir_fd=folder)
        with open(other, "rb") as file:
            if not stat.S_ISREG(os.fstat(other).st_mode):
                return False
            begin = 0
            while piece := file.read(_COMPARED_BYTES):
                if os.pread(self.descriptor, len(piece), begin) != piece:
                    return False
                begin += len(piece)
            return begin == os.fstat(self.descriptor).st_size

    def refuse_other_kind(self, reading: FileReading) -> str | None:
        """Why a file that says this is not of the kind that its name says; None if it is."""
        fitting = _SUFFIXES.get(reading.format or "")
        if fitting is None or self.suffix in fitting:
            return None
        known = " or ".join(sorted(suffix.decode() for suffix in fitting))
        return f"This is a file of the format {reading.format}: its name must end with {known}"

    def end(self) -> None:
        """Forget what has not gone to its place."""
        os.close(self.descriptor)
        with suppress(OSError), opened_folder(self.root, UPLOAD_FOLDER) as folder:
            os.unlink(self.part, dir_fd=folder)


def _created(root: bytes, part: bytes) -> int:
    make_folders(root, UPLOAD_FOLDER)
    with opened_folder(root, UPLOAD_FOLDER) as folder:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(part, flags, 0o666, dir_fd=folder)
