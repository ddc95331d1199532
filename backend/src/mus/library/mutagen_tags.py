"""mutagen's tag objects brought to raw tags, and the pictures in them. Part of `tag_libraries`."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from typing import Any, BinaryIO

import mutagen
import mutagen.aac
import mutagen.aiff
import mutagen.apev2
import mutagen.asf
import mutagen.dsf
import mutagen.flac
import mutagen.id3
import mutagen.monkeysaudio
import mutagen.mp3
import mutagen.mp4
import mutagen.musepack
import mutagen.oggflac
import mutagen.oggopus
import mutagen.oggspeex
import mutagen.oggvorbis
import mutagen.wave
import mutagen.wavpack

from mus.library.reading_rules import ReadingRules
from mus.library.refused_headers import open_refused
from mus.library.tag_layout import Layout
from mus.library.tag_values import (
    ID3_FRAMES,
    MP4_ATOMS,
    MUSICBRAINZ_OWNER,
    RawTags,
    dated,
    raw_name,
    sane_duration,
    sound_fields,
    tag_fields,
)

READERS: dict[str, Any] = {
    "mp3": mutagen.mp3.MP3,
    "flac": mutagen.flac.FLAC,
    "mp4": mutagen.mp4.MP4,
    "aac": mutagen.aac.AAC,
    "vorbis": mutagen.oggvorbis.OggVorbis,
    "opus": mutagen.oggopus.OggOpus,
    "ogg-flac": mutagen.oggflac.OggFLAC,
    "speex": mutagen.oggspeex.OggSpeex,
    "wav": mutagen.wave.WAVE,
    "aiff": mutagen.aiff.AIFF,
    "wma": mutagen.asf.ASF,
    "ape": mutagen.monkeysaudio.MonkeysAudio,
    "wavpack": mutagen.wavpack.WavPack,
    "musepack": mutagen.musepack.Musepack,
    "dsf": mutagen.dsf.DSF,
}
_WITH_ID3 = frozenset({"mp3", "wav", "aiff", "dsf"})
#: mutagen's translation to ID3v2.4 drops a year that is more than a year, and prefers ID3v1's.
_AS_WRITTEN = {"translate": False}
_FRONT_COVER = 3
#: Before the sound of a Musepack file there are five.
_MAX_PACKETS = 1024


def read(file: BinaryIO, layout: Layout, rules: ReadingRules) -> dict[str, Any] | None:
    """A FileReading's fields by mutagen; None if it finds no sound. Raises whatever mutagen raises."""
    kind = layout.kind or "mp3"
    audio = _open(file, kind)
    info = audio.info
    if kind == "mp3" and layout.kind is None and info.sketchy:
        return None
    tags = audio.tags
    if kind == "aac":
        tags = _id3_of(file) if layout.has_id3v2 else None
    raw, has_cover = raw_tags(tags)
    if kind == "flac":
        has_cover = bool(audio.pictures)
    if layout.has_apev2:
        fill_from_apev2(file, raw)
    if kind == "musepack":
        _add_musepack_gains(info, raw)
    sample_rate = getattr(info, "sample_rate", None) or (48_000 if kind == "opus" else None)
    if not sample_rate:
        return None
    fields = tag_fields(raw, rules, is_opus=kind == "opus")
    fields["format"] = _sound_format(kind, info)
    seconds = sane_duration(float(info.length))
    bitrate = getattr(info, "bitrate", 0) or 0
    if not bitrate and seconds:
        bitrate = file.seek(0, 2) * 8 / seconds
    fields |= sound_fields(seconds, bitrate / 1000, sample_rate, getattr(info, "channels", None))
    fields["has_embedded_cover"] = has_cover
    return fields


def cover(file: BinaryIO, kind: str, max_bytes: int) -> bytes | None:
    """The front cover, else the first picture of another type."""
    audio = _open(file, kind)
    tags = _id3_of(file) if kind == "aac" else audio.tags
    found = list(getattr(audio, "pictures", ())) if kind == "flac" else list(_pictures(tags))
    best = next((picture for picture in found if picture.type == _FRONT_COVER), found[0] if found else None)
    if best is None or not 0 < len(best.data) <= max_bytes:
        return None
    return bytes(best.data)


def raw_tags(tags: Any) -> tuple[RawTags, bool]:
    """Raw tags of any of mutagen's tag objects, and whether there is a picture in it."""
    if tags is None:
        return {}, False
    if isinstance(tags, mutagen.id3.ID3Tags):
        return _from_id3(tags)
    if isinstance(tags, mutagen.mp4.MP4Tags):
        return _from_mp4(tags)
    if isinstance(tags, mutagen.apev2.APEv2):
        return _from_apev2(tags), any(name.lower().startswith("cover art") for name in tags)
    raw: RawTags = {}
    has_cover = False
    for name, value in _in_order(tags):
        plain = raw_name(name.removeprefix("WM/"))
        if plain in {"metadatablockpicture", "coverart", "picture"}:
            has_cover |= plain != "picture" or name.startswith("WM/")
        else:
            raw.setdefault(plain, []).append(str(value))
    return raw, has_cover


def _in_order(tags: Any) -> Iterable[tuple[str, Any]]:
    """A Vorbis comment's or an ASF file's tags as they stand in the file.

    mutagen's `as_dict` gives the former in the order of a set, another one in each process: two names for one thing
    (ALBUM ARTIST, ENSEMBLE) would change places from scan to scan.
    """
    return list.__iter__(tags)


def fill_from_apev2(file: BinaryIO, raw: RawTags) -> None:
    """Add what an APEv2 tag at an mp3's end holds and the tags read before do not: often ReplayGain."""
    file.seek(0)
    try:
        tags = mutagen.apev2.APEv2(file)
    except mutagen.MutagenError:
        return
    for name, values in _from_apev2(tags).items():
        raw.setdefault(name, values)


def _open(file: BinaryIO, kind: str) -> Any:
    file.seek(0)
    if kind == "musepack":
        _refuse_endless_packets(file)
    try:
        return READERS[kind](file, **(_AS_WRITTEN if kind in _WITH_ID3 else {}))
    except (mutagen.MutagenError, IndexError):  # the latter for a WavPack file of a rare rate
        if (audio := open_refused(file, kind)) is None:
            raise
        return audio


def _refuse_endless_packets(file: BinaryIO) -> None:
    """A packet of Musepack 8 that says it is shorter than its own header: mutagen 1.48 reads it for ever."""
    if file.read(4) != b"MPCK":
        file.seek(0)
        return
    position = 4
    for _ in range(_MAX_PACKETS):
        file.seek(position)
        packet = file.read(11)
        if len(packet) < 3 or packet.startswith((b"AP", b"SE")):
            break
        size = length = 0
        for byte in packet[2:]:
            size, length = size << 7 | byte & 0x7F, length + 1
            if byte < 0x80:
                break
        if size < 2 + length:
            raise mutagen.MutagenError("a packet that does not end")
        position += size
    else:
        raise mutagen.MutagenError("too many packets before the sound")
    file.seek(0)


def _id3_of(file: BinaryIO) -> Any:
    file.seek(0)
    try:
        return mutagen.id3.ID3(file, **_AS_WRITTEN)
    except mutagen.MutagenError:
        return None


def _sound_format(kind: str, info: Any) -> str:
    if kind == "ogg-flac":
        return "flac"
    if kind != "mp4":
        return kind
    codec = str(info.codec)
    if codec.startswith("mp4a"):
        return "aac"
    return (
        "".join(char for char in codec.lower() if char.isascii() and (char.isalnum() or char in "-._"))[:16]
        or "mp4"
    )


def _from_id3(tags: Any) -> tuple[RawTags, bool]:
    raw: RawTags = {}
    year = day = ""
    comments: list[tuple[bool, str]] = []
    has_cover = False
    for frame in tags.values():
        name = frame.FrameID
        if name == "TDRC":
            # mutagen puts a space where ID3, and tinytag, have a T.
            raw.setdefault("date", []).extend(str(text).replace(" ", "T") for text in frame.text)
        elif name == "TYER":
            year = str(frame.text[0]) if frame.text else ""
        elif name == "TDAT":
            day = str(frame.text[0]) if frame.text else ""
        elif (field := ID3_FRAMES.get(name.encode())) is not None:
            raw.setdefault(field, []).extend(str(text) for text in frame.text)
        elif name == "TCON":
            raw.setdefault("genre", []).extend(frame.genres)
        elif name == "TXXX":
            raw.setdefault(raw_name(frame.desc), []).extend(frame.text)
        elif name == "UFID" and frame.owner.encode() == MUSICBRAINZ_OWNER:
            raw["musicbrainztrackid"] = [frame.data.decode("ascii", "replace")]
        elif name == "COMM":
            comments.append((frame.desc != "", "\n".join(frame.text)))
        elif name == "USLT":
            raw.setdefault("lyrics", []).append(frame.text)
        elif name == "RVA2" and frame.channel == 1 and frame.desc.lower() in {"track", "album"}:
            raw.setdefault(f"replaygain{frame.desc.lower()}gain", [f"{frame.gain:.4f}"])
            raw.setdefault(f"replaygain{frame.desc.lower()}peak", [f"{frame.peak:.6f}"])
        elif name == "APIC":
            has_cover = True
    if year and (tags.version < (2, 4, 0) or "date" not in raw):
        raw["date"] = [dated(year, day), *raw.get("date", ())]
    plain = [text for has_name, text in sorted(comments, key=lambda comment: comment[0]) if not has_name]
    if plain:
        raw["comment"] = plain
    elif v1 := tags.get("COMM:ID3v1 Comment:eng"):
        raw["comment"] = list(v1.text)
    return raw, has_cover


def _from_mp4(tags: Any) -> tuple[RawTags, bool]:
    raw: RawTags = {}
    for atom, values in tags.items():
        if (plain := MP4_ATOMS.get(atom.encode("latin-1", "replace"))) is not None:
            raw.setdefault(plain, []).extend(str(value) for value in values)
        elif atom.startswith("----:"):
            texts = [bytes(value).decode("utf-8", "replace") for value in values]
            raw.setdefault(raw_name(atom.rpartition(":")[2]), []).extend(texts)
        elif atom == "cpil":
            raw["compilation"] = ["1" if values else "0"]
        elif atom in {"trkn", "disk"} and values:
            field = "track" if atom == "trkn" else "disc"
            for part, number in zip(("number", "total"), values[0], strict=False):
                if number:
                    raw[field + part] = [str(number)]
    return raw, "covr" in tags


def _from_apev2(tags: Any) -> RawTags:
    raw: RawTags = {}
    for name, value in tags.items():
        if value.kind == mutagen.apev2.TEXT:
            raw.setdefault(raw_name(name), []).extend(value)
    return raw


def _add_musepack_gains(info: Any, raw: RawTags) -> None:
    """Musepack has ReplayGain in its header; zero there is no value."""
    for attribute, name in (
        ("title_gain", "replaygaintrackgain"),
        ("title_peak", "replaygaintrackpeak"),
        ("album_gain", "replaygainalbumgain"),
        ("album_peak", "replaygainalbumpeak"),
    ):
        if value := getattr(info, attribute, None):
            raw.setdefault(name, [f"{value:.6f}"])


class _Picture:
    """As mutagen's: a type by ID3's numbers, and data."""

    __slots__ = ("data", "type")

    def __init__(self, kind: int, data: bytes) -> None:
        self.type = kind
        self.data = data


def _pictures(tags: Any) -> Iterable[Any]:
    if tags is None:
        return
    if isinstance(tags, mutagen.id3.ID3Tags):
        yield from tags.getall("APIC")
    elif isinstance(tags, mutagen.mp4.MP4Tags):
        yield from (_Picture(_FRONT_COVER, bytes(data)) for data in tags.get("covr", ()))
    elif isinstance(tags, mutagen.apev2.APEv2):
        for name, value in tags.items():
            if name.lower().startswith("cover art") and value.kind == mutagen.apev2.BINARY:
                kind = _FRONT_COVER if "front" in name.lower() else 0
                yield _Picture(kind, bytes(value.value).partition(b"\0")[2])
    else:
        for name, value in _in_order(tags):
            picture = _picture_of(raw_name(name.removeprefix("WM/")), value)
            if picture is not None:
                yield picture


def _picture_of(name: str, value: Any) -> Any | None:
    try:
        if name == "metadatablockpicture":
            return mutagen.flac.Picture(base64.b64decode(value))
        if name == "coverart":
            return _Picture(_FRONT_COVER, base64.b64decode(value))
        if name == "picture":
            return _asf_picture(bytes(value.value))
    except (binascii.Error, mutagen.MutagenError, ValueError, AttributeError, TypeError):
        return None
    return None


def _asf_picture(data: bytes) -> _Picture | None:
    """WM/Picture: type, length, MIME type and description in UTF-16 with two NULs each, data."""
    position = 5
    for _ in range(2):
        while data[position : position + 2] not in {b"\0\0", b""}:
            position += 2
        position += 2
    length = int.from_bytes(data[1:5], "little")
    return _Picture(data[0], data[position : position + length]) if data else None
