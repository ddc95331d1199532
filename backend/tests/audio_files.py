"""Small real audio files of every format, for tests.

A sound is encoded once per format and length in a session, then copied and tagged. FFmpeg has no encoder for
Monkey's Audio, Musepack and DSD: DSF is written whole (DSD is a plain stream of bits), the other two are a
valid header over silence, which is what tag readers look at.
"""

from __future__ import annotations

import atexit
import base64
import shutil
import struct
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import av
import mutagen.aiff
import mutagen.apev2
import mutagen.asf
import mutagen.dsf
import mutagen.flac
import mutagen.id3
import mutagen.mp3
import mutagen.mp4
import mutagen.oggflac
import mutagen.oggopus
import mutagen.oggspeex
import mutagen.oggvorbis
import mutagen.wave
import numpy as np

#: Suffix: FFmpeg's container, encoder, sample format.
_ENCODERS = {
    ".mp3": ("mp3", "libmp3lame", "s16p"),
    ".flac": ("flac", "flac", "s16"),
    ".m4a": ("ipod", "aac", "fltp"),
    ".mp4": ("mp4", "aac", "fltp"),
    ".alac.m4a": ("ipod", "alac", "s16p"),
    ".aac": ("adts", "aac", "fltp"),
    ".ogg": ("ogg", "vorbis", "fltp"),
    ".oga": ("ogg", "flac", "s16"),
    ".opus": ("opus", "libopus", "flt"),
    ".wav": ("wav", "pcm_s16le", "s16"),
    ".aiff": ("aiff", "pcm_s16be", "s16"),
    ".aif": ("aiff", "pcm_s16be", "s16"),
    ".wma": ("asf", "wmav2", "fltp"),
    ".wv": ("wv", "wavpack", "s16p"),
}
RATE = 48_000
SUFFIXES = (*_ENCODERS, ".ape", ".mpc", ".dsf")

Tags = Mapping[str, Any]


def make_audio(
    path: Path,
    *,
    seconds: float = 1.0,
    tags: Tags | None = None,
    picture: bytes | None = None,
    pitch: float = 1.0,
) -> Path:
    """Make a stereo file of the format that `path` ends with (`.alac.m4a` for ALAC), and its folders.

    Sounds of another `pitch` differ, but in `.ape`, `.mpc` and `.dsf`, which are silent.

    `tags` by Vorbis comment's lower-case names (title, artist, albumartist, tracknumber, musicbrainz_trackid,
    replaygain_track_gain, …), with a list for several values; `picture` is embedded as the front cover.
    """
    suffix = next((long for long in (".alac.m4a",) if path.name.endswith(long)), path.suffix.lower())
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(_sound(suffix, seconds, pitch), path)
    if tags or picture is not None:
        texts = {name: _texts(value) for name, value in (tags or {}).items() if value is not None}
        _TAGGERS[path.suffix.lower()](path, texts, picture)
    return path


def write_samples(
    path: Path,
    samples: Any,
    *,
    rate: int = RATE,
    layout: str = "stereo",
    codec: str = "pcm_f32le",
    bits: str = "flt",
    strict: str = "normal",
) -> Path:
    """Encode samples, one row a channel with 1.0 as full scale, in the container of `path`'s suffix.

    `bits` is the encoder's sample format, as `s16` or `s32` for FLAC of 16 and 24 bits.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=rate, layout=layout, format=bits, options={"strict": strict})
        for start in range(0, samples.shape[1], 4096):
            part = np.ascontiguousarray(samples[:, start : start + 4096], dtype=np.float32)
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout=layout)
            frame.sample_rate, frame.pts = rate, start
            for packet in stream.encode(frame):
                output.mux(packet)
        for packet in stream.encode(None):
            output.mux(packet)
    return path


def empty_mp4(path: Path) -> None:
    """Write zeros over the sound, as a download does that reserved its place and broke off: all headers stay."""
    data = path.read_bytes()
    start = data.index(b"mdat") + 4
    length = int.from_bytes(data[start - 8 : start - 4], "big") - 8
    path.write_bytes(data[:start] + bytes(length) + data[start + length :])


def write_library(root: Path, files: Mapping[str, Tags | None]) -> Path:
    """Make `{"Artist/Album/01.mp3": {"title": …}}` below `root`. None instead of tags writes no tags."""
    for name, tags in files.items():
        make_audio(root / name, seconds=0.2, tags=tags)
    return root


def _texts(value: Any) -> list[str]:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [str(each) for each in value]
    return [str(value)]


@cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="mus-test-audio-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def _sound(suffix: str, seconds: float, pitch: float) -> Path:
    path = _folder() / f"{seconds} {pitch}{suffix}"
    if suffix == ".ape":
        path.write_bytes(_ape(seconds))
    elif suffix == ".mpc":
        path.write_bytes(_musepack(seconds))
    elif suffix == ".dsf":
        path.write_bytes(_dsf(seconds))
    else:
        _encode(path, *_ENCODERS[suffix], seconds=seconds, pitch=pitch)
    return path


def _encode(path: Path, container: str, codec: str, sample_format: str, *, seconds: float, pitch: float) -> None:
    time = np.arange(round(RATE * seconds)) / RATE
    wave = np.stack([np.sin(time * 2 * np.pi * hertz) for hertz in (330 * pitch, 440 * pitch)]) * 0.4
    with av.open(str(path), "w", format=container) as output:
        # FFmpeg's own Vorbis encoder is marked experimental; it is the one in PyAV's wheels.
        options = {"strict": "experimental"} if codec == "vorbis" else {}
        stream = output.add_stream(codec, rate=RATE, layout="stereo", format=sample_format, options=options)
        stream.bit_rate = 128_000
        chunk = 960 if codec == "libopus" else 4096
        for start in range(0, wave.shape[1], chunk):
            part = np.ascontiguousarray(wave[:, start : start + chunk], dtype=np.float32)
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = RATE, start
            for packet in stream.encode(frame):
                output.mux(packet)
        for packet in stream.encode(None):
            output.mux(packet)


def _ape(seconds: float) -> bytes:
    samples, per_frame = round(RATE * seconds), 73_728 * 4
    descriptor = struct.pack("<4sHHIIIIIII16s", b"MAC ", 3990, 0, 52, 24, 4, 0, 4000, 0, 0, b"\0" * 16)
    frames = -(-samples // per_frame)
    header = struct.pack("<HHIIIHHI", 2000, 0, per_frame, samples - (frames - 1) * per_frame, frames, 16, 2, RATE)
    return descriptor + header + struct.pack("<I", 76 + 4) + b"\0" * 4000


def _musepack(seconds: float) -> bytes:
    frames, rate_48000 = round((RATE * seconds + 576) / 1152), 1
    return b"MP+\x07" + struct.pack("<II", frames, rate_48000 << 16) + b"\0" * 4016


def _dsf(seconds: float) -> bytes:
    rate, block = 2_822_400, 4096
    samples = round(rate * seconds)
    blocks = -(-samples // (block * 8))
    sound = b"\x69" * (blocks * block * 2)  # an even mix of ones and zeros is silence
    fmt = struct.pack("<4sQIIIIIIQII", b"fmt ", 52, 1, 0, 2, 2, rate, 1, samples, block, 0)
    data = struct.pack("<4sQ", b"data", 12 + len(sound)) + sound
    return struct.pack("<4sQQQ", b"DSD ", 28, 28 + len(fmt) + len(data), 0) + fmt + data


_ID3_TEXT = {
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
}
_PICARD_NAMES = {
    "musicbrainz_trackid": "MusicBrainz Track Id",
    "musicbrainz_releasetrackid": "MusicBrainz Release Track Id",
    "musicbrainz_albumid": "MusicBrainz Album Id",
    "musicbrainz_releasegroupid": "MusicBrainz Release Group Id",
    "musicbrainz_artistid": "MusicBrainz Artist Id",
    "musicbrainz_albumartistid": "MusicBrainz Album Artist Id",
}


def id3_frames(tags: Mapping[str, list[str]], picture: bytes | None, *, add: Any) -> None:
    """Add the tags as Picard writes them to ID3v2.4; `add` takes a frame."""
    for name, values in _with_totals(tags).items():
        if frame := _ID3_TEXT.get(name):
            add(getattr(mutagen.id3, frame)(encoding=3, text=values))
        elif name == "comment":
            add(mutagen.id3.COMM(encoding=3, lang="eng", desc="", text=values))
        elif name == "lyrics":
            add(mutagen.id3.USLT(encoding=3, lang="eng", desc="", text=values[0]))
        elif name == "musicbrainz_trackid":
            add(mutagen.id3.UFID(owner="http://musicbrainz.org", data=values[0].encode()))
        else:
            label = _PICARD_NAMES.get(name, name.upper())
            add(mutagen.id3.TXXX(encoding=3, desc=label, text=values))
    if picture is not None:
        add(mutagen.id3.APIC(encoding=3, mime="image/png", type=3, desc="", data=picture))


def _with_totals(tags: Mapping[str, list[str]]) -> dict[str, list[str]]:
    merged = dict(tags)
    for field in ("track", "disc"):
        if total := merged.pop(f"{field}total", None):
            merged[f"{field}number"] = [f"{merged.get(f'{field}number', ['0'])[0]}/{total[0]}"]
    return merged


def _tag_id3(path: Path, tags: Mapping[str, list[str]], picture: bytes | None) -> None:
    kinds = {
        ".mp3": mutagen.mp3.MP3,
        ".wav": mutagen.wave.WAVE,
        ".aiff": mutagen.aiff.AIFF,
        ".aif": mutagen.aiff.AIFF,
        ".dsf": mutagen.dsf.DSF,
    }
    audio = kinds[path.suffix.lower()](path)
    if audio.tags is None:
        audio.add_tags()
    id3_frames(tags, picture, add=audio.tags.add)
    audio.save()


def _tag_aac(path: Path, tags: Mapping[str, list[str]], picture: bytes | None) -> None:
    id3 = mutagen.id3.ID3()
    id3_frames(tags, picture, add=id3.add)
    id3.save(path)


def flac_picture(data: bytes) -> mutagen.flac.Picture:
    picture = mutagen.flac.Picture()
    picture.type, picture.mime, picture.data = 3, "image/png", data
    return picture


def _tag_vorbis(path: Path, tags: Mapping[str, list[str]], picture: bytes | None) -> None:
    kinds = {
        ".flac": mutagen.flac.FLAC,
        ".ogg": mutagen.oggvorbis.OggVorbis,
        ".oga": mutagen.oggflac.OggFLAC,
        ".opus": mutagen.oggopus.OggOpus,
    }
    audio = kinds[path.suffix.lower()](path)
    if audio.tags is None:
        audio.add_tags()
    audio.update({name: list(values) for name, values in tags.items()})
    if picture is not None and path.suffix.lower() == ".flac":
        audio.add_picture(flac_picture(picture))
    elif picture is not None:
        audio["metadata_block_picture"] = [base64.b64encode(flac_picture(picture).write()).decode()]
    audio.save()


def _tag_mp4(path: Path, tags: Mapping[str, list[str]], picture: bytes | None) -> None:
    atoms = {
        "title": "\xa9nam",
        "artist": "\xa9ART",
        "albumartist": "aART",
        "album": "\xa9alb",
        "date": "\xa9day",
        "genre": "\xa9gen",
        "composer": "\xa9wrt",
        "comment": "\xa9cmt",
        "lyrics": "\xa9lyr",
    }
    audio = mutagen.mp4.MP4(path)
    for name, values in tags.items():
        if name in atoms:
            audio[atoms[name]] = list(values)
        elif name == "compilation":
            audio["cpil"] = values[0] == "1"
        elif name not in {"tracknumber", "tracktotal", "discnumber", "disctotal"}:
            label = _PICARD_NAMES.get(name, name.upper())
            audio[f"----:com.apple.iTunes:{label}"] = [value.encode() for value in values]
    for field, atom in (("track", "trkn"), ("disc", "disk")):
        pair = tuple(int(tags.get(field + part, ["0"])[0]) for part in ("number", "total"))
        if any(pair):
            audio[atom] = [pair]
    if picture is not None:
        audio["covr"] = [mutagen.mp4.MP4Cover(picture, imageformat=mutagen.mp4.MP4Cover.FORMAT_PNG)]
    audio.save()


def tag_apev2(path: Path, tags: Mapping[str, list[str]], picture: bytes | None) -> None:
    """Write an APEv2 tag at the end of any file."""
    names = {
        "tracknumber": "Track",
        "discnumber": "Disc",
        "date": "Year",
        "albumartist": "Album Artist",
    }
    ape = mutagen.apev2.APEv2()
    for name, values in _with_totals(tags).items():
        ape[names.get(name, name.title() if "_" not in name else name.upper())] = list(values)
    if picture is not None:
        cover = b"cover.png\0" + picture
        ape["Cover Art (Front)"] = mutagen.apev2.APEValue(cover, mutagen.apev2.BINARY)
    ape.save(path)


def _tag_asf(path: Path, tags: Mapping[str, list[str]], picture: bytes | None) -> None:
    names = {
        "title": "Title",
        "artist": "Author",
        "albumartist": "WM/AlbumArtist",
        "album": "WM/AlbumTitle",
        "tracknumber": "WM/TrackNumber",
        "discnumber": "WM/PartOfSet",
        "date": "WM/Year",
        "genre": "WM/Genre",
        "composer": "WM/Composer",
        "comment": "Description",
        "compilation": "WM/IsCompilation",
        "lyrics": "WM/Lyrics",
        "artists": "WM/ARTISTS",
    }
    audio = mutagen.asf.ASF(path)
    for name, values in _with_totals(tags).items():
        picard = _PICARD_NAMES.get(name, name).replace("MusicBrainz ", "MusicBrainz/")
        audio[names.get(name, picard)] = list(values)
    if picture is not None:
        head = struct.pack("<BI", 3, len(picture)) + "image/png\0".encode("utf-16-le") + b"\0\0"
        audio["WM/Picture"] = [mutagen.asf.ASFByteArrayAttribute(head + picture)]
    audio.save()


_TAGGERS: dict[str, Any] = {
    **dict.fromkeys((".mp3", ".wav", ".aiff", ".aif", ".dsf"), _tag_id3),
    **dict.fromkeys((".flac", ".ogg", ".oga", ".opus"), _tag_vorbis),
    **dict.fromkeys((".m4a", ".mp4"), _tag_mp4),
    **dict.fromkeys((".ape", ".mpc", ".wv"), tag_apev2),
    ".aac": _tag_aac,
    ".wma": _tag_asf,
}
