"""Which files are music: by name for the walk, by their first bytes for the reader. Imports nothing heavy."""

from __future__ import annotations

from functools import lru_cache

#: Lower-case suffixes, with the dot, of every file that a scan looks at. Bytes, as paths are.
AUDIO_SUFFIXES: frozenset[bytes] = frozenset(
    {
        b".mp3",
        b".flac",
        b".m4a",
        b".m4b",
        b".mp4",
        b".aac",
        b".ogg",
        b".oga",
        b".opus",
        b".spx",
        b".wav",
        b".aiff",
        b".aif",
        b".aifc",
        b".wma",
        b".ape",
        b".wv",
        b".mpc",
        b".dsf",
    }
)

_ASF = b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c"

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"fLaC", "flac"),
    (_ASF, "wma"),
    (b"MAC ", "ape"),
    (b"wvpk", "wavpack"),
    (b"MPCK", "musepack"),
    (b"MP+", "musepack"),
    (b"DSD ", "dsf"),
    (b"ADIF", "aac"),
)

#: Of an Ogg stream, by the first bytes of its first packet.
_OGG_CODECS: tuple[tuple[bytes, str], ...] = (
    (b"\x01vorbis", "vorbis"),
    (b"OpusHead", "opus"),
    (b"\x7fFLAC", "ogg-flac"),
    (b"Speex   ", "speex"),
)

#: What people find in the place of music, for the sentence they read.
_OTHER_KINDS: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x1aE\xdf\xa3", "a Matroska video"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a Windows program"),
    (b"<!DOCTYPE", "a web page"),
    (b"<!doctype", "a web page"),
    (b"<html", "a web page"),
    (b"#EXTM3U", "a playlist"),
    (b"\x00\x05\x16\x07", "macOS's side file (AppleDouble), without the music"),
)


def is_audio_name(name: bytes) -> bool:
    """Whether a file of this name is looked at as music."""
    dot = name.rfind(b".")
    return dot > 0 and name[dot:].lower() in AUDIO_SUFFIXES


def sniff(head: bytes) -> str | None:
    """Container or codec that the bytes after any ID3v2 tag begin: mp3, flac, mp4, aac, vorbis, opus, …

    Only what the first bytes prove; None for the rest.
    """
    if len(head) > 3 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        # The layer bits of an MPEG frame are never 00; those of an ADTS frame (12 sync bits) always are.
        if head[1] & 0xF6 == 0xF0:
            return "aac"
        return "mp3" if mpeg_frame_length(head, 0) else None
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if head.startswith(b"OggS"):
        found = [(at, kind) for magic, kind in _OGG_CODECS if (at := head.find(magic)) >= 0]
        return min(found)[1] if found else None
    if head[4:8] == b"ftyp" or head[4:8] in {b"moov", b"mdat", b"wide", b"free", b"skip"}:
        return "mp4"
    if head.startswith((b"RIFF", b"RF64", b"BW64")) and head[8:12] == b"WAVE":
        return "wav"
    if head.startswith(b"FORM") and head[8:12] in {b"AIFF", b"AIFC"}:
        return "aiff"
    return None


def other_kind(head: bytes) -> str | None:
    """What a file that is no music seems to be: "a PNG picture"."""
    for magic, kind in _OTHER_KINDS:
        if head.startswith(magic):
            return kind
    if head.startswith(b"RIFF"):
        return {b"WEBP": "a WebP picture", b"AVI ": "an AVI video"}.get(head[8:12])
    if not head.strip(b"\0"):
        return "a file of zeros, as an interrupted copy leaves it"
    return None


_RATES = (11025, 12000, 8000), (0, 0, 0), (22050, 24000, 16000), (44100, 48000, 32000)
_V1_L3 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_V1_L2 = (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384)
_V1_L1 = tuple(range(0, 449, 32))
_V2_L1 = (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256)
_V2_L23 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)


def mpeg_frame_length(data: bytes, at: int) -> int:
    """Length in bytes of the MPEG audio frame whose header is at `at`; 0 if no valid header is there."""
    if len(data) < at + 4 or data[at] != 0xFF:
        return 0
    return _length_of(data[at + 1], data[at + 2])


@lru_cache(maxsize=1024)  # of a few hundred that there are, a stream has a handful
def _length_of(second: int, third: int) -> int:
    if second & 0xE0 != 0xE0:
        return 0
    version, layer = second >> 3 & 3, 4 - (second >> 1 & 3)
    rate_index, bitrate_index, padding = third >> 2 & 3, third >> 4, third >> 1 & 1
    if version == 1 or layer == 4 or rate_index == 3 or bitrate_index in {0, 15}:
        return 0
    if version == 3:
        bitrate = (_V1_L1, _V1_L2, _V1_L3)[layer - 1][bitrate_index]
    else:
        bitrate = (_V2_L1, _V2_L23, _V2_L23)[layer - 1][bitrate_index]
    rate = _RATES[version][rate_index]
    if layer == 1:
        return (12_000 * bitrate // rate + padding) * 4
    samples = 1152 if layer == 2 or version == 3 else 576
    return samples * 125 * bitrate // rate + padding
