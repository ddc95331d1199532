"""`mus scan` asks the worker that runs on the data folder, at its `scan_desk`, and shows what it says.

A worker has everything at hand that a scan takes. To import and open it all takes a command longer than a scan that
finds no change: so this module needs nothing beyond Python's own library. Where no worker answers, or it cannot do
what is asked, the command goes the long way, and follows there what the worker has enqueued so far.

Lines of JSON go both ways. The request, from the command: `version`, `settings` (what of the environment decides
which mus is meant), `music_dir`, `request` (a ScanRequest); a line "stop" is Ctrl-C. The answers:

    {"asked": [[job id, whether it is ours], ...], "libraries": [name, ...]}    the first; the jobs' rows stand
    {"show": [stage, done, total]}                                              at least each second
    {"say": "the scan waits, ..."}
    {"ends": [...]}                                                             the last; each a ScanEnd
    {"wrong_usage": message}  {"error": message}                                the last, instead
    {"elsewhere": true}                                                         go the long way
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import mus
from mus.cli.options import WrongUsageError, check_music_dir
from mus.cli.scan_terms import AskedScan, ScanEnd, ScanRequest
from mus.data_folder import absolute, default_data_dir
from mus.errors import MusError

#: The worker writes a row before its first word: while the database is busy the long way would be no shorter.
_FIRST_WORD_SECONDS = 2.0
#: Far more than it lets pass between two words. One that was stopped or is stuck is waited for no longer.
SILENCE_SECONDS = 5.0
#: Settings that decide which database, broker and folders are meant.
DECIDING = ("database_url", "dragonfly_url", "queue_name", "root_map")
_LONGEST_SOCKET_PATH_BYTES = 103 if sys.platform == "darwin" else 107


def desk_socket(data_dir: Path) -> Path | None:
    """Where the worker of a data folder listens, in a folder that only its user can enter; None where the path is
    too long for a socket."""
    path = data_dir / "desk" / "scan.sock"
    return path if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH_BYTES else None


class Unanswered(Exception):  # noqa: N818 - no error: the long way is there
    """Nobody answered to the end. `asked` are the scans that the worker enqueued before."""

    def __init__(self, asked: list[AskedScan]) -> None:
        super().__init__("no worker answered")
        self.asked = asked


def call_worker(request: ScanRequest, *, music: Path | None, data: Path | None, on_terminal: bool) -> list[ScanEnd]:
    """Let the worker do it. `music` and `data` are the command's options.

    Raises Unanswered, WrongUsageError, and MusError for what the worker says went wrong.
    """
    asked: list[AskedScan] = []
    environment = {name.upper(): value for name, value in os.environ.items()}
    folder = data or environment.get("MUS_DATA_DIR") or default_data_dir()
    path = desk_socket(absolute(Path(folder)))
    # What `path` means depends on where the command stands.
    if path is None or request.path is not None or not request.wait or not path.exists():
        raise Unanswered(asked)
    music = music or (Path(named) if (named := environment.get("MUS_MUSIC_DIR")) else None)
    settings = {name: environment.get(f"MUS_{name.upper()}") or None for name in DECIDING}
    if music is not None and settings["root_map"] is None:
        music = absolute(music)
        check_music_dir(music)
    call = {
        "version": mus.__version__,
        "settings": settings,
        "music_dir": None if music is None else os.fsencode(music).hex(),
        "request": asdict(request),
    }
    try:
        with socket.socket(socket.AF_UNIX) as connection, ExitStack() as stack:
            connection.settimeout(_FIRST_WORD_SECONDS)
            connection.connect(str(path))
            connection.sendall(json.dumps(call).encode() + b"\n")
            stack.enter_context(_sigterm_is_ctrl_c())
            bar = None
            for answer in _answers(connection):
                if "asked" in answer:
                    asked += [AskedScan(*scan) for scan in answer["asked"]]
                    if on_terminal:
                        from mus.cli.progress_bar import StageBar

                        bar = stack.enter_context(StageBar(f"Scanning {', '.join(answer['libraries'])}"))
                elif "show" in answer:
                    if bar is not None:
                        bar.show(*answer["show"])
                elif "say" in answer:
                    if bar is None:
                        print(f"mus: {answer['say']}", file=sys.stderr, flush=True)
                elif "ends" in answer:
                    return [ScanEnd(**end) for end in answer["ends"]]
                elif "wrong_usage" in answer:
                    raise WrongUsageError(answer["wrong_usage"])
                elif "error" in answer:
                    raise MusError(answer["error"])
                else:
                    break
    except (OSError, ValueError):  # it is gone, stands still, or speaks another language
        pass
    raise Unanswered(asked)


def _answers(connection: socket.socket) -> Iterator[dict[str, Any]]:
    """Until the worker closes. The first Ctrl-C is told to the worker, which answers; the second is one."""
    waiting = b""
    is_stopped = False
    while True:
        try:
            received = connection.recv(65536)
        except KeyboardInterrupt:
            if is_stopped:
                raise
            is_stopped = True
            connection.sendall(b"stop\n")
            continue
        if not received:
            return
        *lines, waiting = (waiting + received).split(b"\n")
        for line in lines:
            connection.settimeout(SILENCE_SECONDS)
            yield json.loads(line)


@contextmanager
def _sigterm_is_ctrl_c() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError, TypeError):
            signal.signal(signal.SIGTERM, before)
