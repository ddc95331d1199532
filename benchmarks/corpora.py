"""Make the libraries that are measured, out of nothing: real sound, real tags, the same files for the same name.

    1000, 20000, 100000, or any number   clips of three to nine seconds, 160 KB each; seven albums of ten have their
                                         cover embedded, two have it beside them
    full-length                          two to four minutes each, as many files of every format that PyAV encodes
    pictures                             2,000 clips, each tenth with a picture of 5 MB
    empty-1000000                        files without content, for the walk alone

Few clips are encoded, then copied and tagged on all cores. A corpus is made beside its place and renamed into it:
one that is there is whole, whoever made it.
"""

from __future__ import annotations

import base64
import multiprocessing
import os
import random
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pyvips
from mutagen.aiff import AIFF
from mutagen.apev2 import APEv2
from mutagen.asf import ASF
from mutagen.flac import FLAC, Picture
from mutagen.id3 import APIC, ID3, TALB, TCON, TDRC, TIT2, TPE1, TPE2, TPOS, TRCK
from mutagen.mp4 import MP4, MP4Cover
from mutagen.oggopus import OggOpus
from mutagen.oggvorbis import OggVorbis
from mutagen.wave import WAVE

RATE = 48_000
#: Shares of formats in per cent.
SHARES = {"mp3": 45, "flac": 33, "m4a": 9, "ogg": 7, "opus": 4, "wav": 2}
#: Format: suffix, FFmpeg's container, encoder, sample format, bits of a second where it can be chosen.
ENCODERS = {
    "mp3": (".mp3", "mp3", "libmp3lame", "s16p", 192_000),
    "flac": (".flac", "flac", "flac", "s16", 0),
    "m4a": (".m4a", "ipod", "aac", "fltp", 160_000),
    "ogg": (".ogg", "ogg", "vorbis", "fltp", 160_000),
    "opus": (".opus", "opus", "libopus", "flt", 96_000),
    "wav": (".wav", "wav", "pcm_s16le", "s16", 0),
    "alac": (".m4a", "ipod", "alac", "s16p", 0),
    "aac": (".aac", "adts", "aac", "fltp", 160_000),
    "aiff": (".aiff", "aiff", "pcm_s16be", "s16", 0),
    "wma": (".wma", "asf", "wmav2", "fltp", 192_000),
    "wv": (".wv", "wv", "wavpack", "s16p", 0),
}
CLIP_SECONDS = (3, 6, 9)
FULL_SECONDS = (120, 180, 240)
FULL_OF_EACH = 20
PICTURE_TRACKS = 2_000
WORDS = (
    *("Amber", "Birch", "Cinder", "Delta", "Ember", "Fjord", "Glass", "Harbor", "Iris", "Juniper", "Kestrel"),
    *("Lumen", "Marble", "North", "Ochre", "Pylon", "Quartz", "River", "Signal", "Tundra", "Umbra", "Violet"),
    *(
        "Willow",
        "Xenon",
        "Yonder",
        "Zephyr",
        "Ночь",
        "Été",
        "夜空",
        "Größe",
        "Señal",
        "Şarkı",
        "Żaba",
        "ひかり",
        "Ελπίδα",
    ),
)
GENRES = ("Rock", "Jazz", "Electronic", "Classical", "Hip-Hop", "Folk", "Ambient", "Metal")


@dataclass(frozen=True, slots=True)
class Track:
    path: str
    sound: Path
    title: str
    artist: str
    album_artist: str
    album: str
    number: int
    of: int
    year: int
    genre: str
    #: A picture's file and the bytes that make this album's copy of it another one.
    cover: tuple[Path, bytes] | None


def corpus(folder: Path, name: str) -> Path:
    """The corpus of that name in `folder`, made if it is missing. Raises ValueError for a name that is none."""
    place = folder / name
    if place.is_dir():
        return place.resolve()
    part = folder / f"{name}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    print(f"  making the corpus {name} in {folder}", file=sys.stderr)
    if name.startswith("empty-"):
        _make_empty(part, int(name.removeprefix("empty-")))
    else:
        _make_tagged(part, name)
    part.rename(place)
    return place


def _make_tagged(root: Path, name: str) -> None:
    templates = root.with_suffix(".templates")
    shutil.rmtree(templates, ignore_errors=True)
    templates.mkdir()
    try:
        tracks = list(_planned(templates, name))
        for track in tracks:
            (root / track.path).parent.mkdir(parents=True, exist_ok=True)
        with multiprocessing.Pool() as pool:
            jobs = pool.imap_unordered(_make, ((root, track) for track in tracks), chunksize=100)
            for done, _ in enumerate(jobs, 1):
                if done % 10_000 == 0:
                    print(f"  made {done:,} of {len(tracks):,} files", file=sys.stderr)
    finally:
        shutil.rmtree(templates)


def _planned(templates: Path, name: str) -> Iterator[Track]:
    if name == "full-length":
        kinds = [kind for kind in ENCODERS for _ in range(FULL_OF_EACH)]
        sounds = _encoded(templates, ENCODERS, FULL_SECONDS)
        yield from _albums(templates, len(kinds), sounds, kinds=kinds)
    elif name == "pictures":
        sounds = _encoded(templates, SHARES, CLIP_SECONDS)
        yield from _albums(templates, PICTURE_TRACKS, sounds, large_picture=_picture(templates, 5_000_000))
    else:
        yield from _albums(templates, int(name), _encoded(templates, SHARES, CLIP_SECONDS))


def _albums(
    templates: Path,
    count: int,
    sounds: dict[str, list[Path]],
    *,
    kinds: list[str] | None = None,
    large_picture: Path | None = None,
) -> Iterator[Track]:
    """So many tracks in albums of 8 to 15. `kinds` names each one's format."""
    rng = random.Random(1)
    cover = _picture(templates, 60_000)
    made = artists = 0
    while made < count:
        artists += 1
        artist = f"{rng.choice(WORDS)} {rng.choice(WORDS)} {artists}"
        for album_number in range(rng.randint(1, 6)):
            album = f"{rng.choice(WORDS)} {rng.choice(WORDS)} {album_number + 1}"
            year, genre = rng.randint(1958, 2026), rng.choice(GENRES)
            kind = rng.choices(list(SHARES), list(SHARES.values()))[0]
            where = rng.choices(("embedded", "beside", "none"), (70, 20, 10))[0]
            of, own = rng.randint(8, 15), rng.randbytes(16)
            folder = f"{artist}/{album} ({year})"
            for number in range(1, min(of, count - made) + 1):
                each = kinds[made] if kinds else kind
                title = f"{rng.choice(WORDS)} {rng.choice(WORDS)} {number}"
                guest = f" feat. {rng.choice(WORDS)}" if rng.random() < 0.1 else ""
                picture = (cover, own) if where == "embedded" and large_picture is None else None
                if large_picture is not None and made % 10 == 0:
                    picture = (large_picture, rng.randbytes(16))
                path = f"{folder}/{number:02} - {title}{ENCODERS[each][0]}"
                sound = rng.choice(sounds[each])
                fields = (title, artist + guest, artist, album, number, of, year, genre)
                yield Track(path, sound, *fields, picture)
                made += 1
            if where == "beside" and large_picture is None and made < count:
                yield Track(f"{folder}/cover.jpg", cover, *fields, (cover, own))
            if made >= count:
                return


def _encoded(folder: Path, kinds: object, lengths: tuple[int, ...]) -> dict[str, list[Path]]:
    """Sounds of each length for each format."""
    names = list(kinds)  # type: ignore[call-overload]
    work = [
        (folder / f"{seconds} {kind}{ENCODERS[kind][0]}", kind, seconds) for kind in names for seconds in lengths
    ]
    with multiprocessing.Pool() as pool:
        pool.starmap(_encode, work, chunksize=1)
    return {kind: [path for path, of, _ in work if of == kind] for kind in names}


def _encode(path: Path, kind: str, seconds: int) -> None:
    _, container, codec, sample_format, bits = ENCODERS[kind]
    times = np.arange(RATE) / RATE
    # Whole periods in a second, so that it can be repeated; a little noise, so that no codec takes it for silence;
    # the same in both channels, so that a library of 100,000 files fits on a disk and into memory.
    tone = sum(np.sin(times * 2 * np.pi * hertz * (1 + seconds)) for hertz in (110, 165)) * 0.2
    tone += np.random.default_rng(seconds).normal(0, 0.00005, tone.shape)
    second = np.stack([tone, tone])
    wave = np.tile(second.astype(np.float32), (1, seconds))
    with av.open(str(path), "w", format=container) as output:
        # FFmpeg's own Vorbis encoder is marked experimental; it is the one in PyAV's wheels.
        options = {"strict": "experimental"} if codec == "vorbis" else {}
        stream = output.add_stream(codec, rate=RATE, layout="stereo", format=sample_format, options=options)
        if bits:
            stream.bit_rate = bits
        chunk = 960 if codec == "libopus" else 4096
        for start in range(0, wave.shape[1], chunk):
            part = np.ascontiguousarray(wave[:, start : start + chunk])
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = RATE, start
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def _picture(folder: Path, size: int) -> Path:
    """A JPEG of about so many bytes: noise over grey, as large as it takes."""
    path = folder / f"picture {size}.jpg"
    side = 600 if size < 1_000_000 else 3_000
    noise = pyvips.Image.gaussnoise(side, side, sigma=20, mean=128, seed=1).cast("uchar")
    for quality in range(95, 5, -5):
        noise.jpegsave(str(path), Q=quality)
        if path.stat().st_size <= size * 1.1:
            break
    return path


def _make(work: tuple[Path, Track]) -> None:
    root, track = work
    path = root / track.path
    # What follows a JPEG's end is passed over by decoders, and makes it another file to whoever compares them.
    picture = track.cover[0].read_bytes() + track.cover[1] if track.cover else None
    if path.suffix == ".jpg":
        path.write_bytes(picture or b"")
        return
    shutil.copyfile(track.sound, path)
    _tag(path, track, picture)


def _tag(path: Path, track: Track, picture: bytes | None) -> None:
    match path.suffix:
        case ".mp3" | ".aac":
            tags = ID3()
            _add_frames(tags, track, picture)
            tags.save(path, v2_version=3 if track.number % 2 else 4)
        case ".wav" | ".aiff":
            audio = WAVE(path) if path.suffix == ".wav" else AIFF(path)
            audio.add_tags()
            _add_frames(audio.tags, track, picture)
            audio.save()
        case ".m4a":
            mp4 = MP4(path)
            mp4["\xa9nam"], mp4["\xa9ART"], mp4["aART"] = track.title, track.artist, track.album_artist
            mp4["\xa9alb"], mp4["\xa9day"], mp4["\xa9gen"] = track.album, str(track.year), track.genre
            mp4["trkn"], mp4["disk"] = [(track.number, track.of)], [(1, 1)]
            if picture:
                mp4["covr"] = [MP4Cover(picture, MP4Cover.FORMAT_JPEG)]
            mp4.save()
        case ".wma":
            asf = ASF(path)
            asf.update({"Title": track.title, "Author": track.artist, "WM/AlbumArtist": track.album_artist})
            asf.update({"WM/AlbumTitle": track.album, "WM/Year": str(track.year), "WM/Genre": track.genre})
            asf["WM/TrackNumber"] = str(track.number)
            asf.save()
        case ".wv":
            ape = APEv2()
            ape.update({"Title": track.title, "Artist": track.artist, "Album Artist": track.album_artist})
            ape.update({"Album": track.album, "Year": str(track.year), "Genre": track.genre})
            ape["Track"] = f"{track.number}/{track.of}"
            ape.save(path)
        case _:
            _tag_vorbis(path, track, picture)


def _add_frames(tags: ID3, track: Track, picture: bytes | None) -> None:
    for frame, text in (
        (TIT2, track.title),
        (TPE1, track.artist),
        (TPE2, track.album_artist),
        (TALB, track.album),
        (TRCK, f"{track.number}/{track.of}"),
        (TPOS, "1/1"),
        (TDRC, str(track.year)),
        (TCON, track.genre),
    ):
        tags.add(frame(encoding=3, text=text))
    if picture:
        tags.add(APIC(encoding=3, mime="image/jpeg", type=3, desc="", data=picture))


def _tag_vorbis(path: Path, track: Track, picture: bytes | None) -> None:
    audio = {".flac": FLAC, ".ogg": OggVorbis, ".opus": OggOpus}[path.suffix](path)
    audio.update(
        title=track.title,
        artist=track.artist,
        albumartist=track.album_artist,
        album=track.album,
        tracknumber=str(track.number),
        tracktotal=str(track.of),
        discnumber="1",
        date=str(track.year),
        genre=track.genre,
    )
    if picture:
        block = Picture()
        block.type, block.mime, block.width, block.height, block.depth = 3, "image/jpeg", 600, 600, 24
        block.data = picture
        if path.suffix == ".flac":
            audio.add_picture(block)
        else:
            audio["metadata_block_picture"] = base64.b64encode(block.write()).decode()
    audio.save()


def _make_empty(root: Path, count: int) -> None:
    """Albums of ten in artists of ten albums."""
    for album in range(-(-count // 10)):
        folder = root / f"Artist {album // 10}" / f"Album {album}"
        folder.mkdir(parents=True)
        for number in range(min(10, count - album * 10)):
            os.close(os.open(f"{folder}/{number:02} - Title.mp3", os.O_CREAT | os.O_WRONLY, 0o644))


def audio_files(root: Path) -> list[Path]:
    """All of a corpus but its pictures, sorted."""
    suffixes = {encoder[0] for encoder in ENCODERS.values()}
    return sorted(path for path in root.rglob("*") if path.suffix in suffixes)


def warm(root: Path) -> None:
    """Read everything once, so that the kernel has it."""
    buffer = bytearray(1 << 20)
    for folder, _, names in os.walk(root):
        for name in names:
            with open(os.path.join(folder, name), "rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass
