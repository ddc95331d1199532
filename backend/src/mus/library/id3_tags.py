"""ID3v2 by raw names. Part of `tag_writer`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, BinaryIO

import mutagen.id3

from mus.library.tag_formats import LABELS, UNDERSCORED, Tags, names_alike
from mus.library.tag_values import raw_name

_MUSICBRAINZ_OWNER = "http://musicbrainz.org"
_FRAMES = {
    "title": "TIT2",
    "artist": "TPE1",
    "albumartist": "TPE2",
    "album": "TALB",
    "tracknumber": "TRCK",
    "discnumber": "TPOS",
    "date": "TDRC",
    "genre": "TCON",
    "composer": "TCOM",
    "compilation": "TCMP",
    "titlesort": "TSOT",
    "artistsort": "TSOP",
    "albumartistsort": "TSO2",
    "albumsort": "TSOA",
}
#: Frames of 2.4 that 2.3 does not have, but that programs read there all the same: kept rather than lost.
_OFF_SPEC = ("EQU2", "RVA2", "TDEN", "TDRL", "TDTG", "TMOO", "TPRO", "TSOA", "TSOP", "TSOT", "TSST")
_UTF8 = 3


class Id3Tags(Tags):
    """ID3v2, written as version 2.3 or 2.4. `audio` saves it in its container, if it has one."""

    def __init__(self, tags: Any, *, version: int, audio: Any = None, has_v1: bool = False) -> None:
        self._tags = tags
        self._version = version
        self._audio = audio
        self._has_v1 = has_v1

    def _values(self, name: str) -> Iterable[Any]:
        if name == "comment":
            return self._comments() or [text for frame in self._of("COMM:ID3v1 Comment") for text in frame.text]
        if name == "lyrics":
            return [frame.text for frame in self._of("USLT")]
        if name == "musicbrainztrackid" and (recording := self._recording()):
            return [recording]
        if name == "genre" and "TCON" in self._tags:
            return list(self._tags["TCON"].genres)
        if name in _FRAMES and (frame := self._tags.get(_FRAMES[name])):
            return [str(text) for text in frame.text]
        found = [text for frame in self._labelled(name) for text in frame.text]
        return found or self._old_gain(name)

    def _of(self, key: str) -> list[Any]:
        return list(self._tags.getall(key))

    def _labelled(self, name: str) -> list[Any]:
        return [frame for frame in self._of("TXXX") if raw_name(frame.desc) in names_alike(name)]

    def _comments(self) -> list[str]:
        return ["\n".join(frame.text) for frame in self._of("COMM") if frame.desc == ""]

    def _recording(self) -> str:
        frame = self._tags.get(f"UFID:{_MUSICBRAINZ_OWNER}")
        return "" if frame is None else frame.data.decode("ascii", "replace")

    def _old_gain(self, name: str) -> list[str]:
        """From ID3's own frame for relative volume, as the reader takes it."""
        for frame in self._of("RVA2"):
            kind = frame.desc.lower()
            if frame.channel == 1 and name == f"replaygain{kind}gain":
                return [f"{frame.gain:.4f}"]
            if frame.channel == 1 and name == f"replaygain{kind}peak":
                return [f"{frame.peak:.6f}"]
        return []

    def _put(self, name: str, values: list[str]) -> None:
        if self._version == 3 and name not in {"comment", "lyrics"} and len(values) > 1:
            values = ["; ".join(values)]  # 2.3 has one value a frame
        if name.startswith("replaygain"):
            self._convert_old_gains()
        for frame in self._labelled(name):
            del self._tags[frame.HashKey]
        if name == "comment":
            self._put_comment(values)
        elif name == "lyrics":
            self._put_lyrics(values)
        elif name == "musicbrainztrackid":
            self._tags.delall(f"UFID:{_MUSICBRAINZ_OWNER}")
            for value in values[:1]:
                self._tags.add(mutagen.id3.UFID(owner=_MUSICBRAINZ_OWNER, data=value.encode("ascii", "replace")))
        elif name in _FRAMES:
            self._tags.delall(_FRAMES[name])
            if values:
                self._tags.add(getattr(mutagen.id3, _FRAMES[name])(encoding=_UTF8, text=values))
        elif values:
            label = LABELS.get(name) or UNDERSCORED.get(name) or name.upper()
            self._tags.add(mutagen.id3.TXXX(encoding=_UTF8, desc=label, text=values))

    def _convert_old_gains(self) -> None:
        """RVA2 holds gain and peak in one frame: what is not replaced of it stays, in the newer form."""
        found = {name: self._values(name) for name in UNDERSCORED if name.startswith("replaygain")}
        for frame in self._of("RVA2"):
            if frame.channel == 1 and frame.desc.lower() in {"track", "album"}:
                del self._tags[frame.HashKey]
        for name, values in found.items():
            if values and not self._labelled(name):
                self._tags.add(mutagen.id3.TXXX(encoding=_UTF8, desc=UNDERSCORED[name], text=list(values)))

    def _put_comment(self, values: list[str]) -> None:
        old = [frame for frame in self._of("COMM") if frame.desc in {"", "ID3v1 Comment"}]
        language = next((frame.lang for frame in old if frame.desc == ""), "eng")
        for frame in old:
            del self._tags[frame.HashKey]
        if values:
            self._tags.add(mutagen.id3.COMM(encoding=_UTF8, lang=language, desc="", text=values))

    def _put_lyrics(self, values: list[str]) -> None:
        language = next((frame.lang for frame in self._of("USLT")), "eng")
        self._tags.delall("USLT")
        for number, value in enumerate(values):
            desc = str(number) if number else ""
            self._tags.add(mutagen.id3.USLT(encoding=_UTF8, lang=language, desc=desc, text=value))

    def save(self, file: BinaryIO) -> None:
        self._carry_unknown_frames()
        if self._version == 3:
            kept = {key: self._tags[key] for key in list(self._tags) if key.partition(":")[0] in _OFF_SPEC}
            self._tags.update_to_v23()
            self._tags.update(kept)
        # Values that somebody else put apart with NUL, in 2.3 too, stay apart.
        saver = self._tags if self._audio is None else self._audio
        # An ID3v1 tag is kept in step; none is made.
        options = {"v1": mutagen.id3.ID3v1SaveOptions.CREATE} if self._has_v1 else {}
        saver.save(file, v2_version=self._version, v23_sep=None, **options)

    def _carry_unknown_frames(self) -> None:
        """mutagen drops frames that it does not know when it changes a tag's version."""
        old = self._tags._unknown_v2_version
        if old == self._version or old not in {3, 4} or not self._tags.unknown_frames:
            return
        carried = [frame for data in self._tags.unknown_frames if (frame := _as_version(data, self._version))]
        self._tags.unknown_frames, self._tags._unknown_v2_version = carried, self._version


def _as_version(frame: bytes, version: int) -> bytes | None:
    """A frame without flags with its size in the other version's form."""
    if len(frame) <= 10 or frame[8:10] != b"\0\0":
        return None
    size = len(frame) - 10
    if version == 3:
        return frame[:4] + size.to_bytes(4, "big") + frame[8:]
    return frame[:4] + bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0)) + frame[8:]
