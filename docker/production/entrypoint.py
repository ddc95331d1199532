"""What the container starts, and `make production`: without arguments all of mus under supervisord, else a command.

As root in the container (where PUID is set) it gives the data folder to PUID and PGID and goes on as they are; with
`docker run --user` it stays who it is. `mus` and `streaq` on the container's PATH come through here as well:
`docker exec CONTAINER mus scan` is to leave no files of root's behind.
"""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from mus.config import Settings

#: DragonflyDB's socket in the container; the image's MUS_DRAGONFLY_URL and supervisord.conf name it too.
_INNER_DRAGONFLY_URL = "unix:///run/mus/dragonfly.sock"
#: Where all of these are set, this is the container.
_OF_THE_IMAGE = {"PUID", "PGID", "MUS_DATA_DIR", "SUPERVISOR_SOCKET"}
_HERE = Path(__file__).parent
_MUS = (sys.executable, "-P", "-m", "mus")
_COMMANDS = {"mus": _MUS, "streaq": (sys.executable, "-P", str(_HERE / "streaq_command.py"))}


def main(arguments: list[str]) -> NoReturn:
    try:
        if os.environ.keys() >= _OF_THE_IMAGE and os.geteuid() == 0:
            _drop_privileges()
        if not arguments:
            _start_all()
        _start(arguments)
    except OSError as error:
        _refuse(f"{error.filename or 'the container'}: {error.strerror}")


def _refuse(reason: str) -> NoReturn:
    print(f"mus: {reason}", file=sys.stderr)
    sys.exit(1)


# ------------------------------------------------------------ who it runs as


def _drop_privileges() -> None:
    user, group = _id_of("PUID"), _id_of("PGID")
    from mus.config import load_settings

    # Checked before anything is given away: no data folder may hold the music, as `/` does. Whether the music can
    # be read is not for root to tell (NFS lets root in least).
    data, sockets = _settings(load_settings).data_dir, Path(os.environ["SUPERVISOR_SOCKET"]).parent
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        if data.stat().st_uid != user:
            _give(data, user, group)
        sockets.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chown(sockets, user, group)
    except OSError as error:
        _refuse(f"{error.filename} cannot be given to user {user} (PUID): {error.strerror}")
    for stream in (1, 2):
        # supervisord opens the container's output anew (/dev/fd/1), which belongs to root.
        if stat.S_ISFIFO(os.fstat(stream).st_mode) or os.isatty(stream):
            with contextlib.suppress(OSError):
                os.fchown(stream, user, group)
    # Groups of `docker run --group-add` stay: they may be what lets the music be read.
    try:
        os.setgroups(sorted({group, *os.getgroups()} - {0}))
        os.setgid(group)
        os.setuid(user)
    except OSError as error:
        _refuse(f"cannot become user {user} (PUID): {error.strerror}; `docker run --user` needs no such right")
    os.environ["HOME"] = str(data)


def _id_of(name: str) -> int:
    text = os.environ.get(name, "")
    if not text.isdecimal() or not 0 < int(text) < 2**32 - 1:
        _refuse(f"{name}: {text!r} is no id to run as, which is a number from 1: `id -u` and `id -g` tell yours")
    return int(text)


def _give(folder: Path, user: int, group: int) -> None:
    """Give a folder and all in it away; links are not followed."""
    for _, folders, files, descriptor in os.fwalk(folder):
        for name in [*folders, *files]:
            # Another container of mus may be done with this, and at work.
            with contextlib.suppress(FileNotFoundError):
                os.chown(name, user, group, dir_fd=descriptor, follow_symlinks=False)
    # Last: whoever is stopped half-way begins again.
    os.chown(folder, user, group)


# ------------------------------------------------------------ one command


def _start(arguments: list[str]) -> NoReturn:
    name, *rest = arguments
    if name == "mus" and rest[:1] == ["serve"]:
        _prepare()
    elif name in _COMMANDS:
        # None of these listens, so none needs a token for the container's address.
        os.environ.pop("MUS_HOST", None)
    command = [*_COMMANDS.get(name, (name,)), *rest]
    try:
        os.execvp(command[0], command)
    except OSError as error:
        _refuse(f"{name!r} cannot be run: {error.strerror}")


# ------------------------------------------------------------ all of mus


def _start_all() -> NoReturn:
    if stat.S_ISSOCK(os.fstat(1).st_mode):
        _refuse(
            "stdout is a socket, which supervisord cannot open: let it be a pipe, as in `make production | cat`"
        )
    from mus.broker.socket_place import agreed_socket_path
    from mus.cli.options import require_music
    from mus.errors import MusError

    settings = _prepare()
    data = settings.data_dir
    try:
        require_music(settings)
        broker = _broker(settings)
        if "SUPERVISOR_SOCKET" not in os.environ:
            folder = data / "supervisor"
            folder.mkdir(mode=0o700, exist_ok=True)
            os.environ["SUPERVISOR_SOCKET"] = str(agreed_socket_path(folder))
    except MusError as error:
        _refuse(error.user_message)
    if settings.music_dir is not None and not any(settings.music_dir.iterdir()):
        print(f"mus: the music folder {str(settings.music_dir)!r} is empty: is it mounted?", flush=True)
    # Under a lock, since several may start at once; it says itself what is wrong.
    if subprocess.run([*_MUS, "migrate"], check=False).returncode != 0:
        sys.exit(1)
    os.environ |= {
        **broker,
        "MUS_DATA_DIR": str(data),
        "WORKER_STOP_SECONDS": str(math.ceil(settings.drain_seconds) + 10),
    }
    supervisord = str(Path(sys.executable).with_name("supervisord"))
    os.execv(supervisord, [supervisord, "-c", str(_HERE / "supervisord.conf")])


def _broker(settings: Settings) -> dict[str, str]:
    """Which broker supervisord starts, and where the programs find it. Raises ConfigurationError where none can."""
    is_inner = settings.dragonfly_url == _INNER_DRAGONFLY_URL
    if is_inner:
        (settings.data_dir / "dragonfly").mkdir(mode=0o700, exist_ok=True)
    if settings.dragonfly_url is not None:
        return {"START_DRAGONFLY": str(is_inner).lower(), "START_EMBEDDED_VALKEY": "false"}
    from mus.broker.embedded_server import EmbeddedServer

    url = EmbeddedServer(settings.data_dir).url
    return {"MUS_DRAGONFLY_URL": url, "START_DRAGONFLY": "false", "START_EMBEDDED_VALKEY": "true"}


# ------------------------------------------------------------ what the API needs


def _prepare() -> Settings:
    """The settings, with a data folder that can be used, and a token where other machines can reach the API."""
    from mus.cli.options import read_settings

    settings = _settings(read_settings)
    data = settings.data_dir
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not os.access(data, os.W_OK | os.X_OK):
        _refuse(f"the data folder {str(data)!r} is not writable for user {os.geteuid()}: change its owner, or PUID")
    if not os.environ.get("MUS_API_TOKEN") and not settings.is_loopback:
        os.environ["MUS_API_TOKEN"] = _token_in(data)
    return settings


def _settings(read: Callable[..., Settings]) -> Settings:
    from mus.errors import MusError

    try:
        # Any token will do: one that is missing is made as soon as the data folder is known.
        return read(api_token=os.environ.get("MUS_API_TOKEN") or "to be made")
    except MusError as error:
        _refuse(error.user_message)


def _token_in(folder: Path) -> str:
    """The token kept in the data folder; where there is none it is made, and shown that once."""
    path, fresh = folder / "api-token", secrets.token_urlsafe(32)
    with contextlib.suppress(FileExistsError):
        with open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="ascii") as file:
            file.write(fresh + "\n")
        print(f"mus: no MUS_API_TOKEN is set; the API's token is {fresh}", flush=True)
    print(f"mus: the API's token is kept in {path}", flush=True)
    token = path.read_text(encoding="utf-8").strip()
    if not token:
        _refuse(f"{str(path)!r} is empty: delete it for a new token, or set MUS_API_TOKEN")
    return token


if __name__ == "__main__":
    main(sys.argv[1:])
