"""What becomes of sounds in formats that browsers do not know, decoded again: lengths, rates, tags, damage."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import av
import numpy as np
import pytest

from audio_files import RATE, make_audio, write_samples
from mus.errors import ErrorCategory
from mus.library.file_reading import FileStat
from mus.library.transcoded_files import TranscodedFiles, transcoded_name
from mus.library.transcoding import TargetFormat, Transcoded, TranscodeOrder, transcode

OPUS, MP3 = TargetFormat.OPUS, TargetFormat.MP3
PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(2000)


def _transcoded(
    source: Path, target: Path, to: TargetFormat, *, start_seconds: float = 0.0, most_bytes: int = 10**9
) -> Transcoded:
    target.touch()
    order = TranscodeOrder(to, str(target), FileStat.of(source.stat()), most_bytes, start_seconds)
    again = TranscodeOrder.from_json(order.as_json())
    return Transcoded.from_json(transcode(bytes(source.parent), source.name.encode(), again).as_json())


def _samples(path: Path) -> tuple[int, int, int]:
    """How many there are when it is decoded, their rate, and the channels."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        return (
            sum(frame.samples for frame in container.decode(stream)), stream.rate, stream.codec_context.channels
        )  # fmt: skip


@pytest.mark.parametrize("to", TargetFormat)
def test_odd_formats_come_out_as_long_as_they_were_and_without_their_tags(tmp_path: Path, to: TargetFormat) -> None:
    for suffix in (".wv", ".dsf", ".aiff", ".wma", ".alac.m4a", ".opus", ".mp3", ".flac"):
        source = make_audio(
            tmp_path / f"a{suffix}",
            seconds=1.3,
            tags={"title": "Secret"},
            picture=PICTURE if suffix == ".mp3" else None,
        )
        target = tmp_path / f"{suffix}.{to}"
        done = _transcoded(source, target, to)
        assert done.error_message is None, suffix
        was, was_rate, _ = _samples(source)
        samples, rate, channels = _samples(target)
        # To the sample, but for one that comes of another rate.
        assert abs(samples / rate - was / was_rate) <= 1 / rate, suffix
        assert done.seconds == samples / rate
        assert (rate, channels) == (48_000 if to is OPUS or was_rate % 11_025 else 44_100, 2)
        assert b"Secret" not in target.read_bytes()
        with av.open(str(target)) as container:
            assert [stream.type for stream in container.streams] == ["audio"]


def test_the_sound_is_where_it_was_and_as_loud(tmp_path: Path) -> None:
    time = np.arange(RATE) / RATE
    sound = np.where(time < 0.5, 0, np.sin(time * 2 * np.pi * 440) * 0.5)[np.newaxis]
    source = write_samples(tmp_path / "a.wav", sound, layout="mono")
    for to in TargetFormat:
        _transcoded(source, tmp_path / to, to)
        with av.open(str(tmp_path / to)) as container:
            heard = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
        assert _samples(tmp_path / to)[2] == 1
        loud = np.abs(heard) > 0.1
        assert abs(np.argmax(loud) - RATE // 2) < 0.003 * RATE
        assert 0.48 < np.abs(heard[30_000:]).max() < 0.52


def test_surround_and_high_rates_become_what_browsers_play(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).uniform(-0.1, 0.1, (6, 96_000))
    source = write_samples(tmp_path / "a.flac", noise, rate=96_000, layout="5.1", codec="flac", bits="s32")
    for to in TargetFormat:
        assert _transcoded(source, tmp_path / to, to).seconds == 1.0
        assert _samples(tmp_path / to) == (48_000, 48_000, 2)


@pytest.mark.parametrize("to", TargetFormat)
def test_the_same_file_gives_the_same_bytes(tmp_path: Path, to: TargetFormat) -> None:
    source = make_audio(tmp_path / "a.wv", seconds=1.3)
    assert _transcoded(source, tmp_path / "1", to) == _transcoded(source, tmp_path / "2", to)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_a_part_begins_where_it_was_asked_to(tmp_path: Path) -> None:
    for suffix in (".wv", ".wma", ".aiff", ".alac.m4a", ".mp3"):
        source = make_audio(tmp_path / f"a{suffix}", seconds=5.0)
        whole, rate, _ = _samples(source)
        done = _transcoded(source, tmp_path / f"part{suffix}", OPUS, start_seconds=3.0)
        assert abs(done.seconds - (whole / rate - 3.0)) < 0.1, suffix
        past = _transcoded(source, tmp_path / f"past{suffix}", OPUS, start_seconds=9.0)
        assert past.error_message == "The sound ends before this place"


def test_damage_is_passed_over_and_what_is_no_sound_is_refused(tmp_path: Path) -> None:
    damaged = make_audio(tmp_path / "a.flac", seconds=3.0)
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 2000] = os.urandom(2000)
    damaged.write_bytes(data)
    done = _transcoded(damaged, tmp_path / "1", OPUS)
    assert (done.error_message, 1.5 < done.seconds <= 3.1) == (None, True)
    nothing = tmp_path / "b.mp3"
    nothing.write_bytes(b"no music at all" * 1000)
    refused = _transcoded(nothing, tmp_path / "2", OPUS)
    assert refused.error_category is ErrorCategory.USER_FIXABLE
    too_long = _transcoded(make_audio(tmp_path / "c.wav", seconds=3.0), tmp_path / "3", MP3, most_bytes=10_000)
    assert too_long.error_message == "This sound is too long to be transcoded"


def test_a_file_that_is_not_the_one_meant_is_left_for_later(tmp_path: Path) -> None:
    source = make_audio(tmp_path / "a.wv")
    meant = FileStat.of(source.stat())
    os.utime(source, ns=(1, 1))
    (tmp_path / "1").touch()
    order = TranscodeOrder(OPUS, str(tmp_path / "1"), meant, 10**9)
    done = transcode(bytes(tmp_path), b"a.wv", order)
    assert (done.error_category, done.error_message) == (ErrorCategory.TEMPORARY, "The file was changed meanwhile")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_no_fault_of_the_file(tmp_path: Path) -> None:
    source = make_audio(tmp_path / "a.wv", seconds=1.3)
    done = _transcoded(source, Path("/dev/full"), OPUS)
    assert (done.error_category, done.error_message) == (
        ErrorCategory.TEMPORARY, "The transcoded file cannot be written: No space left on device",
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------- the folder


def _kept(files: TranscodedFiles, name: str, size: int) -> None:
    part = files.begun()
    os.write(part.descriptor, bytes(size))
    files.keep(part, name)
    part.close()


def test_what_was_not_heard_for_longest_goes_first(tmp_path: Path) -> None:
    files = TranscodedFiles(tmp_path, 1000)
    names = [transcoded_name(number, b"a", FileStat(1, 1, 1, 1, 1), OPUS) for number in range(4)]
    for age, name in enumerate(names[:3]):
        _kept(files, name, 300)
        os.utime(tmp_path / name, ns=(age, 1))
    opened = files.opened(names[0])
    assert opened is not None
    os.close(opened[0])
    _kept(files, names[3], 300)
    assert set(os.listdir(tmp_path)) == {names[0], names[2], names[3]}
    # Being heard is no new version.
    assert (tmp_path / names[0]).stat().st_mtime_ns == 1
    assert files.opened(names[1]) is None
    files.make_room(900)
    assert len(os.listdir(tmp_path)) == 0


def test_parts_that_a_killed_process_left_are_swept_and_those_under_way_are_not(tmp_path: Path) -> None:
    files = TranscodedFiles(tmp_path, 1000)
    left = tmp_path / f".{'0' * 32}.part"
    left.write_bytes(b"x")
    (tmp_path / "somebody's").write_bytes(bytes(5000))
    part = files.begun()
    files.make_room(0)
    assert not left.exists()
    assert part.path.exists()
    assert (tmp_path / "somebody's").exists()
    with pytest.raises(BlockingIOError), part.path.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    part.close()
    files.make_room(0)
    assert not part.path.exists()


def test_another_version_of_a_file_has_another_name() -> None:
    seen = FileStat(1, 2, 3, 4, 5)
    names = {
        transcoded_name(1, b"a", seen, OPUS),
        transcoded_name(1, b"a", seen, MP3),
        transcoded_name(2, b"a", seen, OPUS),
        transcoded_name(1, b"b", seen, OPUS),
        transcoded_name(1, b"a", FileStat(2, 2, 3, 4, 5), OPUS),
        transcoded_name(1, b"a", FileStat(1, 3, 3, 4, 5), OPUS),
    }
    assert len(names) == 6
