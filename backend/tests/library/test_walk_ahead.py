"""A walk that a child has begun gives what one of this process would, once, or is not taken."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from library import walk_ahead_alone


@pytest.mark.parametrize("check", walk_ahead_alone.CHECKS)
def test_in_a_process_of_one_thread(check: str, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", walk_ahead_alone.__file__, check, tmp_path / "music"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
