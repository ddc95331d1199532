"""What is to be done to one file, and what came of it: the values that cross to a reader process and back."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from mus.errors import ErrorCategory
from mus.library.file_reading import FileReading, FileStat
from mus.library.tag_changes import RawChanges

#: Kinds of pictures by ID3's numbers, which FLAC and ASF have taken over.
OTHER, FRONT = 0, 3


@dataclass(frozen=True, slots=True)
class Picture:
    kind: int
    mime: str
    description: str
    data: bytes

    @property
    def digest(self) -> str:
        """Its name in the history, and as a cover (`cover_thumbnails`)."""
        return picture_digest(self.data)


def picture_digest(data: bytes) -> str:
    return blake2b(data, digest_size=16).hexdigest()


def picture_mime(data: bytes) -> str:
    """By its first bytes; pictures are often said to be what they are not."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return "image/gif" if data.startswith(b"GIF8") else "image/jpeg"


@dataclass(frozen=True, slots=True, kw_only=True)
class EditOrder:
    """What is to be done to one file."""

    #: The copy's name, in the file's own folder.
    part: str
    changes: RawChanges = field(default_factory=dict)
    #: All pictures that the file shall have; None leaves them.
    pictures: list[Picture] | None = None
    #: The front cover that it shall have, beside pictures of other kinds.
    front: bytes | None = None
    #: What the file must say now, by raw names, and the digests of its pictures; None is whatever it says.
    expected: RawChanges | None = None
    expected_pictures: list[str] | None = None
    id3_version: int = 4
    #: The hash of its sound as it is known (`sound.hear`, hex), which saves a pass over the file.
    sound: str | None = None

    @property
    def touches_pictures(self) -> bool:
        return self.pictures is not None or self.front is not None

    def as_json(self) -> dict[str, Any]:
        plain = ("part", "changes", "expected", "expected_pictures", "id3_version", "sound")
        values = {name: getattr(self, name) for name in plain}
        values["pictures"] = None if self.pictures is None else [_picture_json(each) for each in self.pictures]
        values["front"] = None if self.front is None else base64.b64encode(self.front).decode("ascii")
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> EditOrder:
        given = dict(values)
        if given["pictures"] is not None:
            given["pictures"] = [_picture_of(each) for each in given["pictures"]]
        if given["front"] is not None:
            given["front"] = base64.b64decode(given["front"])
        return cls(**given)


def _picture_json(picture: Picture) -> dict[str, Any]:
    data = base64.b64encode(picture.data).decode("ascii")
    return {"kind": picture.kind, "mime": picture.mime, "description": picture.description, "data": data}


def _picture_of(values: Mapping[str, Any]) -> Picture:
    return Picture(values["kind"], values["mime"], values["description"], base64.b64decode(values["data"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class EditedCopy:
    """What came of an order. With `error_message` set, or with `unchanged`, there is no copy."""

    error_category: ErrorCategory | None = None
    error_message: str | None = None
    #: The file says all of it already.
    unchanged: bool = False
    #: Which version of the file was copied, and the copy's own numbers.
    source: FileStat | None = None
    copy: FileStat | None = None
    before: RawChanges = field(default_factory=dict)
    after: RawChanges = field(default_factory=dict)
    pictures_before: list[Picture] = field(default_factory=list)
    pictures_after: list[Picture] = field(default_factory=list)
    reading: FileReading | None = None
    #: The cover's thumbnails, where pictures were changed.
    cover: str | None = None
    #: Names that the file has elsewhere: they keep the old tags.
    hard_links: int = 0

    def as_json(self) -> dict[str, Any]:
        values: dict[str, Any] = {
            name: value
            for name in ("error_category", "error_message", "unchanged", "before", "after", "cover", "hard_links")
            if (value := getattr(self, name))
        }
        for name in ("pictures_before", "pictures_after"):
            values[name] = [_picture_json(picture) for picture in getattr(self, name)]
        for name in ("source", "copy", "reading"):
            if (value := getattr(self, name)) is not None:
                values[name] = value.as_json()
        return values

    @classmethod
    def from_json(cls, path: bytes, values: Mapping[str, Any]) -> EditedCopy:
        given = dict(values)
        if category := given.get("error_category"):
            given["error_category"] = ErrorCategory(category)
        for name in ("pictures_before", "pictures_after"):
            given[name] = [_picture_of(picture) for picture in given.get(name, ())]
        for name in ("source", "copy"):
            if stat := given.get(name):
                given[name] = FileStat(*stat)
        if reading := given.get("reading"):
            given["reading"] = FileReading.from_json(path, reading)
        return cls(**given)
