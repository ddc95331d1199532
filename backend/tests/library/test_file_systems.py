"""Whether a folder can be written in, asked without writing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mus.library.file_systems import read_only_reason
from refusing_folders import read_only

_TELL = """import os, sys
from mus.library.file_systems import read_only_reason
print(read_only_reason(os.fsencode(sys.argv[1])))"""


def test_a_folder_of_ones_own_can_be_changed(tmp_path: Path) -> None:
    assert read_only_reason(os.fsencode(tmp_path)) is None
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_mounted_read_only_says_so_to_root_too(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    with read_only(tmp_path):
        for folder in (tmp_path, tmp_path / "below"):
            assert read_only_reason(os.fsencode(folder)) == "it is mounted read-only"
    assert read_only_reason(os.fsencode(tmp_path)) is None


def test_a_folder_of_somebody_who_forbids_writing_says_so(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    # Root may write anywhere, until it gives its privileges away.
    unprivileged = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    try:
        told = subprocess.run(
            [*unprivileged, sys.executable, "-c", _TELL, tmp_path], capture_output=True, text=True, check=False
        )
    finally:
        tmp_path.chmod(0o755)
    if unprivileged and told.stderr.startswith("setpriv"):
        pytest.skip(told.stderr.strip())
    assert told.stdout == "this user may not write in it\n", told.stderr


def test_a_folder_that_is_not_there_is_not_called_read_only(tmp_path: Path) -> None:
    assert read_only_reason(os.fsencode(tmp_path / "away")) is None
