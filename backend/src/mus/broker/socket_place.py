"""Where the embedded server's socket lies: a socket's path must be short, and mean itself in a URL."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import sys
import threading
from pathlib import Path

from mus.errors import ConfigurationError

#: sun_path with its closing NUL: 108 bytes on Linux, 104 on macOS.
LONGEST_SOCKET_PATH_BYTES = 103 if sys.platform == "darwin" else 107
_PLAIN_PATH = re.compile(r"[\w./+=@, ~-]+", re.ASCII)


def agreed_socket_path(folder: Path) -> Path:
    """Where the server of this folder listens: in the folder, if its path is short enough for a socket and means
    itself in a URL (one with `#`, `?` or `%` does not).

    Else in a runtime folder, whose place depends on the environment of who asks; so the first one's choice is
    written down for the others.
    """
    path = folder / "server.sock"
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH_BYTES and _PLAIN_PATH.fullmatch(str(path)):
        return path
    note = folder / "socket-path"
    with contextlib.suppress(FileNotFoundError):
        agreed = Path(os.fsdecode(note.read_bytes()))
        if agreed.parent.parent.is_dir():
            _make_private(agreed.parent)
            return agreed
        note.unlink(missing_ok=True)
    # Few need them, and `mus up` would have them, with OpenSSL, for as long as it runs: 5 MiB.
    import hashlib
    import tempfile

    runtime = os.environ.get("XDG_RUNTIME_DIR")
    base = Path(runtime) / "mus" if runtime and os.access(runtime, os.W_OK) else None
    private = base or Path(tempfile.gettempdir()) / f"mus-{os.geteuid()}"
    _make_private(private)
    name = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]
    chosen = private / f"{name}.sock"
    draft = folder / f"socket-path.{os.getpid()}.{threading.get_ident()}"
    draft.write_bytes(os.fsencode(chosen))
    try:
        os.link(draft, note)  # atomic, with its content; fails if somebody was first
    except FileExistsError:
        return Path(os.fsdecode(note.read_bytes()))
    finally:
        draft.unlink()
    return chosen


def _make_private(folder: Path) -> None:
    """Make a folder that only this user can enter, or make sure that it is one."""
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise ConfigurationError(
            f"{str(folder)!r} must be a folder that belongs to this user alone (mode 0700): the broker's "
            "socket is to be in it, because the path of the data folder is too long for a socket",
            recovery_actions=(f"Remove {folder}, or use a data folder with a shorter path",),
        )
