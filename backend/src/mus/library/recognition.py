"""Which of the files that turned up are those that were lost: by their sound, else by all that is known of them.

Pure. What a sound's hash tells is certain; where a lost track has none yet, only a match that is unique on both
sides counts. Of files with one sound, copies, those go together that are most alike.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

#: Lengths from headers are estimates where a variable bit rate is not declared.
_LENGTH_TOLERANCE_SECONDS, _LENGTH_TOLERANCE = 1.0, 0.03
#: Two readings of one sound, one of them before its tags changed.
_SAME_LENGTH_SECONDS, _SAME_LENGTH = 0.06, 0.002


class Sketch(NamedTuple):
    """What is known of a track, or of a file that was read, as far as others may be told apart from it."""

    #: Of the track; 0 is a file that has none.
    id: int
    path: bytes
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int
    format: str | None
    sample_rate_hz: int | None
    channels: int | None
    duration_seconds: float | None
    title: str
    artist: str | None
    album: str | None
    disc_number: int | None
    track_number: int | None
    audio_hash: bytes | None
    #: 0: there is no hash, or it is from before the file changed last.
    analysis_version: int

    @property
    def tags(self) -> tuple[Hashable, ...]:
        return (self.title, self.artist, self.album, self.disc_number, self.track_number)


class Recognised(NamedTuple):
    """A lost track, and where its file is."""

    lost: Sketch
    found: Sketch


def to_be_hashed(lost: Iterable[Sketch], found: Iterable[Sketch]) -> list[Sketch]:
    """Of the found without a hash of their own, those worth hashing: a lost track with a hash is of the same kind
    of sound and about as long."""
    lengths: dict[Hashable, list[float]] = defaultdict(list)
    for track in lost:
        if track.audio_hash is not None:
            lengths[_kind(track)].append(track.duration_seconds or 0.0)
    for listed in lengths.values():
        listed.sort()

    def is_worth_it(file: Sketch) -> bool:
        about, listed = file.duration_seconds or 0.0, lengths.get(_kind(file), [])
        tolerance = max(_LENGTH_TOLERANCE_SECONDS, _LENGTH_TOLERANCE * about)
        nearest = bisect_left(listed, about - tolerance)
        return nearest < len(listed) and listed[nearest] <= about + tolerance

    return [file for file in found if file.analysis_version == 0 and is_worth_it(file)]


def twins(lost: Collection[Sketch], found: Collection[Sketch]) -> list[Recognised]:
    """Pairs that are equal in size, mtime, length and every tag, and alone in that on both sides.

    So a file that was carried to another disk with its times is known without a look at its sound.
    """
    pairs = _unique_pairs(lost, found, lambda one: (one.size, one.mtime_ns, one.format, one.tags))
    # A lost track may have its exact length already, and the file only an estimate.
    return [pair for pair in pairs if _about_as_long(*pair, _LENGTH_TOLERANCE_SECONDS, _LENGTH_TOLERANCE)]


def by_sound(
    lost: Iterable[Sketch],
    found: Iterable[Sketch],
    hashes: Mapping[bytes, bytes | None],
    *,
    common: Collection[bytes],
) -> list[Recognised]:
    """Pairs of one sound: `hashes` by the found files' paths. Each lost and each found goes at most once.

    Of a `common` sound, which several tracks have, as silence between songs, a name or tags must agree as well.
    """
    sounds: dict[bytes, tuple[list[Sketch], list[Sketch]]] = defaultdict(lambda: ([], []))
    for track in lost:
        if track.audio_hash is not None:
            sounds[track.audio_hash][0].append(track)
    for file in found:
        sound = file.audio_hash if file.analysis_version else hashes.get(file.path)
        if sound is not None and sound in sounds:
            sounds[sound][1].append(file)
    pairs: list[Recognised] = []
    for sound, (tracks, files) in sounds.items():
        alike = _most_alike(tracks, files)
        pairs += [pair for pair in alike if sound not in common or _is_plausible(*pair)]
    return pairs


def sounds_of(found: Iterable[Sketch], hashes: Mapping[bytes, bytes | None]) -> set[bytes]:
    """The hashes of these, as far as they are known."""
    known = (file.audio_hash if file.analysis_version else hashes.get(file.path) for file in found)
    return {sound for sound in known if sound is not None}


def is_copy(one: Sketch, other: Sketch) -> bool:
    """Whether two tracks of about one length have the same tags, and for all that is known one sound."""
    heard = one.audio_hash is not None and other.analysis_version > 0
    return one.tags == other.tags and (one.audio_hash == other.audio_hash if heard else _same_length(one, other))


def _is_plausible(lost: Sketch, found: Sketch) -> bool:
    return (
        os.path.basename(lost.path.partition(b"\0")[0]) == os.path.basename(found.path)
        or lost.title == found.title
        or (
            None not in {lost.album, lost.track_number}
            and (lost.album, lost.disc_number, lost.track_number)
            == (found.album, found.disc_number, found.track_number)
        )
    )


def by_tags(
    lost: Iterable[Sketch], found: Iterable[Sketch], hashes: Mapping[bytes, bytes | None]
) -> list[Recognised]:
    """Pairs of lost tracks whose sound was not heard since they changed, with files of the same length and tags, or
    of the same inode and nearly the same tags; unique on both sides. What two known sounds deny is none."""
    unheard = [track for track in lost if track.analysis_version == 0]
    files = list(found)
    by_inode = _unique_pairs(unheard, files, lambda sketch: (sketch.inode, sketch.device))
    pairs = [pair for pair in by_inode if _is_retagged(*pair) and not _is_denied(pair, hashes)]
    unheard, files = left_over(unheard, files, pairs)
    alike = _unique_pairs(unheard, files, lambda sketch: (sketch.format, sketch.tags))
    return pairs + [
        pair for pair in alike if _is_telling(*pair) and _same_length(*pair) and not _is_denied(pair, hashes)
    ]


def _is_denied(pair: Recognised, hashes: Mapping[bytes, bytes | None]) -> bool:
    heard = pair.found.audio_hash if pair.found.analysis_version else hashes.get(pair.found.path)
    return None not in {heard, pair.lost.audio_hash} and heard != pair.lost.audio_hash


def left_over(
    lost: Iterable[Sketch], found: Iterable[Sketch], pairs: Collection[Recognised]
) -> tuple[list[Sketch], list[Sketch]]:
    """The lost and the found that are in none of the pairs."""
    ids, paths = {pair.lost.id for pair in pairs}, {pair.found.path for pair in pairs}
    return [one for one in lost if one.id not in ids], [one for one in found if one.path not in paths]


def _unique_pairs(
    lost: Iterable[Sketch], found: Iterable[Sketch], key: Callable[[Sketch], Hashable]
) -> list[Recognised]:
    sides: dict[Hashable, tuple[list[Sketch], list[Sketch]]] = defaultdict(lambda: ([], []))
    for track in lost:
        sides[key(track)][0].append(track)
    for file in found:
        sides[key(file)][1].append(file)
    return [Recognised(tracks[0], files[0]) for tracks, files in sides.values() if len(tracks) == len(files) == 1]


def _most_alike(tracks: Sequence[Sketch], files: Sequence[Sketch]) -> list[Recognised]:
    ranked = sorted(
        ((_likeness(track, file), -track.id, file.path, track, file) for track in tracks for file in files),
        key=lambda row: row[:3],
        reverse=True,
    )
    pairs: dict[int, Recognised] = {}
    taken: set[bytes] = set()
    for *_, track, file in ranked:
        if track.id not in pairs and file.path not in taken:
            pairs[track.id] = Recognised(track, file)
            taken.add(file.path)
    return list(pairs.values())


def _likeness(track: Sketch, file: Sketch) -> tuple[int, ...]:
    return (
        track.path == file.path,
        (track.size, track.mtime_ns) == (file.size, file.mtime_ns),
        os.path.basename(track.path.partition(b"\0")[0]) == os.path.basename(file.path),
        sum(mine == others for mine, others in zip(track.tags, file.tags, strict=True)),
        _common_folders(track.path, file.path),
    )


def _common_folders(one: bytes, other: bytes) -> int:
    """How many names two paths share, counted from their ends."""
    count = 0
    for mine, others in zip(reversed(one.split(b"/")), reversed(other.split(b"/")), strict=False):
        if mine != others:
            break
        count += 1
    return count


def _is_retagged(lost: Sketch, found: Sketch) -> bool:
    """The inode alone proves nothing, as file systems use it again at once."""
    if lost.format != found.format or not _same_length(lost, found):
        return False
    numbered = (lost.artist, lost.album, lost.track_number)
    return lost.title == found.title or (
        None not in numbered and numbered == (found.artist, found.album, found.track_number)
    )


def _is_telling(lost: Sketch, found: Sketch) -> bool:
    """A title may be a file's name: alone it tells files apart only if they also have one size."""
    return bool(lost.artist or lost.album or lost.track_number is not None) or lost.size == found.size


def _same_length(lost: Sketch, found: Sketch) -> bool:
    return _about_as_long(lost, found, _SAME_LENGTH_SECONDS, _SAME_LENGTH)


def _about_as_long(lost: Sketch, found: Sketch, seconds: float, fraction: float) -> bool:
    if lost.duration_seconds is None or found.duration_seconds is None:
        return lost.duration_seconds is found.duration_seconds
    return abs(lost.duration_seconds - found.duration_seconds) <= max(seconds, fraction * lost.duration_seconds)


def _kind(sketch: Sketch) -> Hashable:
    return (sketch.format, sketch.sample_rate_hz, sketch.channels)
