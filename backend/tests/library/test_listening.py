"""Listening: loudness and true peaks as the EBU's test signals ask, and damage noted without false alarms."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from audio_files import RATE, SUFFIXES, empty_mp4, make_audio, write_samples
from mus.errors import ErrorCategory
from mus.library.integrity import Integrity
from mus.library.listening import Aspect, Listening, listen
from mus.library.loudness import Loudness, LoudnessBlocks
from mus.library.sound_meters import WaveformMeter
from mus.library.waveform import PIECES, peaks_of

Samples = NDArray[np.float64]


def run(path: Path, *aspects: Aspect) -> Listening:
    found = listen(os.fsencode(path.parent), os.fsencode(path.name), aspects or tuple(Aspect))
    assert Listening.from_json(found.path, found.as_json()) == found
    return found


def sine(*steps: tuple[float, float], hertz: float = 1000.0, rate: int = RATE) -> Samples:
    """One channel: seconds and dBFS, one after the other."""
    level = np.concatenate([np.full(round(seconds * rate), 10 ** (dbfs / 20)) for seconds, dbfs in steps])
    return level * np.sin(2 * np.pi * hertz * np.arange(len(level)) / rate)


def stereo(*steps: tuple[float, float], rate: int = RATE) -> Samples:
    return np.stack([sine(*steps, rate=rate)] * 2)


_LOUD = {
    1: [(20.0, -23.0)],
    2: [(20.0, -33.0)],
    3: [(10.0, -36.0), (60.0, -23.0), (10.0, -36.0)],
    4: [(10.0, -72.0), (10.0, -36.0), (60.0, -23.0), (10.0, -36.0), (10.0, -72.0)],
    5: [(20.0, -26.0), (20.1, -20.0), (20.0, -26.0)],
}


@pytest.mark.parametrize("case", _LOUD)
def test_loudness_of_the_ebus_test_signals(tmp_path: Path, case: int) -> None:
    found = run(
        write_samples(tmp_path / "ebu.wav", stereo(*_LOUD[case], rate=16_000), rate=16_000), Aspect.LOUDNESS
    )

    assert found.integrated_lufs == pytest.approx(-33.0 if case == 2 else -23.0, abs=0.1)


def test_surround_channels_weigh_more_and_their_order_is_the_layouts(tmp_path: Path) -> None:
    samples = np.stack([sine((20, dbfs)) for dbfs in (-28, -28, -24, -30, -30)])

    found = run(write_samples(tmp_path / "ebu6.wav", samples, layout="5.0"), Aspect.LOUDNESS)

    assert found.integrated_lufs == pytest.approx(-23.0, abs=0.1)


@pytest.mark.parametrize(
    ("divisor", "amplitude", "degrees", "dbtp"),
    [(4, 0.5, 0, -6.0), (4, 0.5, 45, -6.0), (6, 0.5, 60, -6.0), (8, 0.5, 67.5, -6.0), (4, 1.41, 45, 3.0)],
)
def test_true_peaks_of_the_ebus_test_signals(
    tmp_path: Path, divisor: int, amplitude: float, degrees: float, dbtp: float
) -> None:
    wave = amplitude * np.sin(2 * np.pi * np.arange(2 * RATE) / divisor + np.radians(degrees))
    # Tapered, as the EBU's own: a wave that sets in at once has a higher peak there.
    wave *= np.minimum(1, np.minimum(np.arange(len(wave)), np.arange(len(wave))[::-1]) / (RATE / 10))

    found = run(write_samples(tmp_path / "peak.wav", np.stack([wave, wave])), Aspect.LOUDNESS)

    found_dbtp = Loudness(None, found.true_peak).true_peak_dbtp
    assert found_dbtp is not None
    assert dbtp - 0.4 <= found_dbtp <= dbtp + 0.2


@pytest.mark.parametrize("rate", [8000, 44_100, 192_000])
@pytest.mark.parametrize("layout", ["mono", "5.1"])
def test_any_rate_and_layout_is_measured(tmp_path: Path, rate: int, layout: str) -> None:
    channels = 1 if layout == "mono" else 6
    # 100 Hz: the low-pass of no rate reaches down to it. The sixth of 5.1 counts for nothing: it is the deep one.
    samples = np.zeros((channels, rate * 5))
    samples[0] = sine((5, -20.0), hertz=100.0, rate=rate)

    found = run(write_samples(tmp_path / "any.wav", samples, rate=rate, layout=layout))

    assert found.integrated_lufs == pytest.approx(-24.8, abs=0.2)
    assert found.true_peak == pytest.approx(0.1, abs=0.001)
    assert found.integrity is Integrity.SOUND


def test_silence_and_a_moment_have_no_loudness_but_a_peak(tmp_path: Path) -> None:
    silence = run(write_samples(tmp_path / "silence.wav", np.zeros((2, RATE * 2))))
    moment = run(write_samples(tmp_path / "moment.wav", stereo((0.3, -20.0))))

    assert (silence.integrated_lufs, silence.true_peak) == (None, 0.0)
    assert Loudness(silence.integrated_lufs, silence.true_peak).true_peak_dbtp is None
    assert moment.integrated_lufs is None
    assert moment.true_peak == pytest.approx(0.1, rel=0.02)
    assert set(peaks_of(silence.waveform or b"")) == {0.0}


def test_an_albums_loudness_is_that_of_its_tracks_played_as_one(tmp_path: Path) -> None:
    rate = 16_000
    noise = np.random.default_rng(1).normal(size=(2, rate * 60)) * np.linspace(0.02, 0.2, rate * 60)
    # The tracks end in silence: no block lies across two of them.
    parts = [noise[:, : rate * 20].copy(), noise[:, rate * 20 :].copy()]
    parts[0][:, -rate:] = parts[1][:, -rate:] = 0
    tracks = [run(write_samples(tmp_path / f"{number}.wav", part, rate=rate)) for number, part in enumerate(parts)]
    whole = run(write_samples(tmp_path / "whole.wav", np.concatenate(parts, axis=1), rate=rate))

    blocks = LoudnessBlocks.together(LoudnessBlocks.from_bytes(track.loudness_blocks or b"") for track in tracks)

    assert blocks.integrated_lufs == pytest.approx(whole.integrated_lufs, abs=0.02)
    assert max(track.integrated_lufs or -99 for track in tracks) != pytest.approx(blocks.integrated_lufs, abs=0.2)
    assert Loudness(-10.0, 1.0).gain_db == -8.0


def test_blocks_are_gated_twice() -> None:
    blocks = LoudnessBlocks()
    for lufs, count in ((-71.0, 5000), (float("nan"), 9), (float("-inf"), 9), (-40.0, 600), (-20.0, 100)):
        for _ in range(count):
            blocks.add(lufs)

    assert LoudnessBlocks.from_bytes(blocks.as_bytes()).integrated_lufs == blocks.integrated_lufs
    assert blocks.integrated_lufs == pytest.approx(-20.0, abs=0.01)
    assert len(blocks.as_bytes()) < 100
    assert LoudnessBlocks.from_bytes(LoudnessBlocks().as_bytes()).integrated_lufs is None


# ---------------------------------------------------------------------------------------------------- waveform


def test_the_waveform_has_the_lowest_and_highest_of_each_piece(tmp_path: Path) -> None:
    samples = np.zeros((2, RATE * 10))
    samples[0, RATE * 2 : RATE * 4] = 0.5
    samples[1, RATE * 6 : RATE * 8] = -1.5  # beyond full scale, as a decoder gives it

    peaks = peaks_of(run(write_samples(tmp_path / "steps.wav", samples), Aspect.WAVEFORM).waveform or b"")

    assert len(peaks) == 2 * PIECES
    low, high = np.array(peaks[::2]), np.array(peaks[1::2])
    assert set(low) == {0.0, -1.0}
    assert set(high) == {0.0, 0.504}  # the nearest of 127 steps
    assert list(np.flatnonzero(high)[[0, -1]]) == pytest.approx([200, 400], abs=2)
    assert list(np.flatnonzero(low)[[0, -1]]) == pytest.approx([600, 800], abs=2)


def test_a_waveforms_memory_does_not_grow_with_the_sounds_length() -> None:
    meter = WaveformMeter()
    silence = np.zeros((1_000_000, 2))
    spike = silence.copy()
    spike[0, 0] = 1.0
    for step in range(200):
        meter.add(spike if step == 100 else silence)

    assert sum(part.nbytes for part in meter._fine) + meter._rest.nbytes < 1_000_000
    peaks = peaks_of(meter.as_bytes())
    assert [index for index, value in enumerate(peaks) if value] == [PIECES + 1]


def test_the_shortest_sounds_have_fewer_pieces(tmp_path: Path) -> None:
    found = run(write_samples(tmp_path / "blip.wav", stereo((0.01, -6.0))))

    assert 0 < len(peaks_of(found.waveform or b"")) < 2 * PIECES


# --------------------------------------------------------------------------------------------------- integrity


#: Silence in the shell of a format that FFmpeg cannot encode: no decoder takes it for sound.
_SHELLS = {".ape", ".mpc"}


@pytest.mark.parametrize("suffix", [suffix for suffix in SUFFIXES if suffix not in _SHELLS])
def test_a_good_file_of_any_format_is_sound(tmp_path: Path, suffix: str) -> None:
    found = run(make_audio(tmp_path / f"song{suffix}", seconds=2.0, tags={"title": "T"}))

    assert (found.integrity, found.notes, found.error_message) == (Integrity.SOUND, [], None)
    assert found.audio_hash is not None
    assert len(found.waveform or b"") == 2 * PIECES
    if suffix != ".dsf":  # it is silent
        assert found.integrated_lufs == pytest.approx(-8.6, abs=0.1 if suffix != ".mp3" else 0.6)


def junk(count: int) -> bytes:
    return bytes(np.random.default_rng(count).integers(0, 256, count, dtype=np.uint8))


@pytest.mark.parametrize("suffix", [".mp3", ".aac"])
def test_what_lies_around_a_bare_stream_is_no_damage(tmp_path: Path, suffix: str) -> None:
    path = make_audio(tmp_path / f"song{suffix}", seconds=4.0)
    sound = path.read_bytes()
    id3v1 = b"TAG" + bytes(125)
    around = [b"", bytes(5000), id3v1, junk(40_000), junk(40_000) + id3v1]

    for number, behind in enumerate(around):
        path = tmp_path / f"{number}{suffix}"
        path.write_bytes(sound + behind)
        assert run(path, Aspect.INTEGRITY).notes == []


def test_an_mp3_cut_out_of_a_longer_one_is_no_damage(tmp_path: Path) -> None:
    path = make_audio(tmp_path / "song.mp3", seconds=8.0)
    path.write_bytes(path.read_bytes()[30_077:90_000])

    assert run(path, Aspect.INTEGRITY).notes == []


@pytest.mark.parametrize("suffix", [".ogg", ".opus", ".mp3", ".flac", ".oga"])
def test_sounds_in_a_row_are_whole(tmp_path: Path, suffix: str) -> None:
    first, second = (make_audio(tmp_path / f"{pitch}{suffix}", seconds=2.0, pitch=pitch) for pitch in (1.0, 1.5))
    path = tmp_path / f"row{suffix}"
    path.write_bytes(first.read_bytes() + second.read_bytes())

    assert run(path, Aspect.INTEGRITY).integrity is Integrity.SOUND


def test_what_ffmpeg_cannot_do_is_no_damage(tmp_path: Path) -> None:
    first = make_audio(tmp_path / "1.ogg", seconds=2.0).read_bytes()
    second = write_samples(
        tmp_path / "2.ogg", stereo((2, -9.0)), rate=32_000, codec="vorbis", bits="fltp", strict="experimental"
    ).read_bytes()
    path = tmp_path / "row.ogg"
    path.write_bytes(first + second)

    found = run(path)

    assert found.unchecked == "The sound cannot be decoded: FFmpeg does not know what comes at 0:02"
    assert (found.integrity, found.integrated_lufs) == (None, None)


@pytest.mark.parametrize("bits", ["s16", "s32"])
@pytest.mark.parametrize("layout", ["mono", "stereo"])
def test_a_flacs_md5_tells_that_its_samples_are_as_they_were(tmp_path: Path, bits: str, layout: str) -> None:
    samples = np.stack([sine((3, -12.0))] * (1 if layout == "mono" else 2))
    path = write_samples(tmp_path / "song.flac", samples, layout=layout, codec="flac", bits=bits)
    assert run(path, Aspect.INTEGRITY).notes == []
    data = bytearray(path.read_bytes())
    assert any(data[26:42]), "it has an MD5"

    data[30] ^= 1
    path.write_bytes(data)
    found = run(path, Aspect.INTEGRITY)
    assert found.integrity is Integrity.DAMAGED
    assert found.notes == ["The sound is not what was encoded: its MD5 is another one than the file says"]

    data[26:42] = bytes(16)
    path.write_bytes(data)
    assert run(path, Aspect.INTEGRITY).notes == [], "no MD5 is no damage"


@pytest.mark.parametrize("suffix", [".mp3", ".flac", ".m4a", ".ogg", ".oga", ".opus", ".wv"])
def test_damage_inside_the_sound_is_noted_and_the_rest_is_heard(tmp_path: Path, suffix: str) -> None:
    path = make_audio(tmp_path / f"song{suffix}", seconds=8.0)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = junk(3000)
    path.write_bytes(data)

    found = run(path)

    assert found.error_message is None
    assert found.integrity is Integrity.DAMAGED
    assert found.notes[0].split(" the sound ")[0] in {f"{count} of" for count in ("One piece", *_COUNTS)}
    assert found.integrated_lufs is not None
    assert len(found.waveform or b"") == 2 * PIECES


_COUNTS = [f"{count} pieces" for count in range(2, 20)]


@pytest.mark.parametrize(
    ("suffix", "note"),
    [
        (".mp3", "The end is missing: 0:28 of 0:30 are there"),
        (".flac", "The end is missing: 0:28 of 0:30 are there"),
        (".ogg", "The end is missing: the last Ogg page is cut"),
        (".opus", "The end is missing: the last Ogg page is cut"),
    ],
)
def test_an_end_that_is_missing_is_noted(tmp_path: Path, suffix: str, note: str) -> None:
    path = make_audio(tmp_path / f"song{suffix}", seconds=30.0)
    os.truncate(path, round(path.stat().st_size * 0.95))

    assert note in run(path, Aspect.INTEGRITY).notes


def test_sound_of_which_nothing_can_be_decoded_is_an_error(tmp_path: Path) -> None:
    path = make_audio(tmp_path / "song.m4a", seconds=2.0)
    empty_mp4(path)

    found = run(path)

    assert found.is_undecodable
    assert found.error_category is ErrorCategory.USER_FIXABLE
    assert found.error_message == "Nothing of the sound can be decoded: the file is damaged"


def test_what_is_off_is_not_computed(tmp_path: Path) -> None:
    path = make_audio(tmp_path / "song.flac")
    whole = run(path)

    loudness, waveform = run(path, Aspect.LOUDNESS), run(path, Aspect.WAVEFORM)

    assert (loudness.integrity, loudness.waveform) == (None, None)
    assert loudness.integrated_lufs == whole.integrated_lufs
    assert (waveform.integrity, waveform.true_peak, waveform.waveform) == (None, None, whole.waveform)


@pytest.mark.parametrize("suffix", [".mp3", ".flac", ".m4a", ".ogg", ".opus", ".wav", ".wma"])
@settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)
@given(data=st.data())
def test_no_damage_raises(tmp_path: Path, suffix: str, data: st.DataObject) -> None:
    path = tmp_path / f"fuzz{suffix}"
    damaged = bytearray(make_audio(path, seconds=0.2).read_bytes()[:60_000])
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        piece = data.draw(st.binary(min_size=1, max_size=8))
        damaged[at : at + len(piece)] = piece
    path.write_bytes(damaged[: data.draw(st.integers(1, len(damaged)))])

    found = run(path)

    assert (found.integrity is None) == (found.error_message is not None or found.unchecked is not None)
