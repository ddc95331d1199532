"""Files that arrive from somebody: hidden until they are whole and checked. Blocking."""

# Paths are bytes here, which pathlib does not take.

from __future__ import annotations

import os
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


def refuse_odd_name(path: bytes) -> str | None:
    """Why a library would not list a file of this path; None if it would."""
    *folders, name = path.split(b"/")
    if not is_audio_name(name):
        known = ", ".join(sorted(suffix.decode() for suffix in AUDIO_SUFFIXES))
        return f"Must end with the suffix of a sound file: {known}"
    reasons = [skip_reason(folder, is_dir=True) for folder in folders] + [skip_reason(name, is_dir=False)]
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
        return cls(root, part, descriptor, os.path.splitext(place)[1].lower())

    @property
    def path(self) -> bytes:
        """Relative to the root."""
        return os.path.join(UPLOAD_FOLDER, self.part)

    def write(self, piece: bytes) -> None:
        """Raises OSError."""
        view = memoryview(piece)
        while view:
            view = view[os.write(self.descriptor, view) :]

    def complete(self) -> None:
        """Bring it to the disk. Raises OSError."""
        os.fsync(self.descriptor)

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
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(part, flags, 0o666, dir_fd=folder)
