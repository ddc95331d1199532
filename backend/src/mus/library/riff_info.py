"""The INFO list of a WAV file, which older programs read and write instead of ID3v2. Part of `tag_writer`."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any, BinaryIO

from mutagen._riff import RiffFile

from mus.library.tag_formats import Tags

_NAMES = {
    "title": (b"INAM", b"TITL"),
    "artist": (b"IART",),
    "album": (b"IPRD",),
    "comment": (b"ICMT",),
    "composer": (b"IMUS",),
    "date": (b"ICRD", b"YEAR"),
    "genre": (b"IGNR",),
    "tracknumber": (b"ITRK", b"IPRT", b"TRCK"),
}


class RiffInfo(Tags):
    """What it says is changed where it says something; it is never made."""

    def __init__(self, file: BinaryIO) -> None:
        self._entries: list[tuple[bytes, bytes]] = []
        self._is_changed = False
        for chunk in _info_chunks(file):
            file.seek(chunk.data_offset + 4)
            self._entries += _parsed(file.read(chunk.data_size - 4))

    def has(self, name: str) -> bool:
        keys = _NAMES.get("tracknumber" if name == "tracktotal" else name, ())
        return any(key in keys for key, _ in self._entries)

    def _values(self, name: str) -> Iterable[Any]:
        return [_text(value) for key, value in self._entries if key in _NAMES.get(name, ())]

    def _pair(self, field: str) -> tuple[str, str]:
        found = list(self._values(f"{field}number"))
        return (str(found[0]) if found else ""), ""

    def _put_pair(self, field: str, number: str, total: str) -> None:
        self._put(f"{field}number", [number] if number else [])

    def _put(self, name: str, values: list[str]) -> None:
        keys = _NAMES.get(name, ())
        place = next((at for at, (key, _) in enumerate(self._entries) if key in keys), None)
        if place is None:
            return
        kept = self._entries[place][0]
        self._entries = [entry for entry in self._entries if entry[0] not in keys]
        if values:
            self._entries.insert(place, (kept, "; ".join(values).encode() + b"\0"))
        self._is_changed = True

    def save(self, file: BinaryIO) -> None:
        if not self._is_changed:
            return
        while len(chunks := _info_chunks(file)) > 1:
            chunks[-1].delete()  # all of it goes into the first
        (chunk,) = chunks
        content = b"INFO" + b"".join(
            key + struct.pack("<I", len(value)) + value + b"\0" * (len(value) % 2) for key, value in self._entries
        )
        chunk.resize(len(content))
        file.seek(chunk.data_offset)
        file.write(content)


def _info_chunks(file: BinaryIO) -> list[Any]:
    file.seek(0)
    return [chunk for chunk in RiffFile(file).root.subchunks() if chunk.id == "LIST" and chunk.name == "INFO"]


def _parsed(content: bytes) -> list[tuple[bytes, bytes]]:
    entries: list[tuple[bytes, bytes]] = []
    at = 0
    while at + 8 <= len(content):
        length = int.from_bytes(content[at + 4 : at + 8], "little")
        entries.append((content[at : at + 4], content[at + 8 : at + 8 + length]))
        at += 8 + length + length % 2
    return entries


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode("utf-8", "replace")
