"""`mus scan` asks the worker that runs on the data folder, at its `scan_desk`, and shows what it says.

A worker has everything at hand that a scan takes. To import and open it all takes a command longer than a scan that
finds no change: so this module needs nothing beyond Python's own library, and takes the plain forms of the command
line alone. Where no worker answers, or it cannot do
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

import json
import os
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import mus
from mus.cli.scan_terms import AskedScan, ScanEnd, ScanRequest, tell
from mus.cli.wrong_usage import WrongUsageError, check_music_dir
from mus.data_folder import absolute, default_data_dir, environment
from mus.errors import MusError

#: The worker writes a row before its first word: while the database is busy the long way would be no shorter.
_FIRST_WORD_SECONDS = 2.0
#: Far more than it lets pass between two words. One that was stopped or is stuck is waited for no longer.
SILENCE_SECONDS = 5.0
#: Settings that decide which database, broker and folders are meant.
DECIDING = ("database_url", "dragonfly_url", "queue_name", "root_map")
_LONGEST_SOCKET_PATH_BYTES = 103 if sys.platform == "darwin" else 107


def desk_socket(data_dir: str | os.PathLike[str]) -> str | None:
    """Where the worker of a data folder listens, in a folder that only its user can enter; None where the path is
    too long for a socket."""
    path = os.path.join(data_dir, "desk", "scan.sock")
    return path if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH_BYTES else None


class Unanswered(Exception):  # noqa: N818 - no error: the long way is there
    """Nobody answered to the end. `asked` are the scans that the worker enqueued before."""

    def __init__(self, asked: list[AskedScan]) -> None:
        super().__init__("no worker answered")
        self.asked = asked


class PlainScan(NamedTuple):
    """What was typed after `mus scan`, where it is nothing but these; as the command's own options have it."""

    music: str | None = None
    data: str | None = None
    library: str | None = None
    path: str | None = None
    full: bool = False
    confirm_missing: bool = False
    as_json: bool = False
    wait: bool = True

    def request(self) -> ScanRequest:
        return ScanRequest(
            library=self.library,
            only_set=self.music is not None,
            path=self.path,
            full=self.full,
            confirm_missing=self.confirm_missing,
            wait=self.wait,
        )


#: A test compares them with the command's.
WITH_VALUE = {"--music": "music", "--data": "data", "--library": "library", "--path": "path"}
FLAGS = {"--full": "full", "--confirm-missing": "confirm_missing", "--json": "as_json", "--wait": "wait"}
_NO_WAIT = "--no-wait"


def plain_scan(arguments: Sequence[str]) -> PlainScan | None:
    """None for anything that the command's parser has to look at: to import that takes as long as a scan."""
    options: dict[str, Any] = {}
    waiting = iter(arguments)
    for argument in waiting:
        name, _, value = argument.partition("=")
        if name in WITH_VALUE:
            value = value or next(waiting, "-")
            if value.startswith("-"):
                return None
            options[WITH_VALUE[name]] = value
        elif argument in FLAGS:
            options[FLAGS[argument]] = True
        elif argument == _NO_WAIT:
            options["wait"] = False
        else:
            return None
    if {"library", "music"} <= options.keys() or not _is_found_from_anywhere(options.get("path", "")):
        return None
    return PlainScan(**options)


def _is_found_from_anywhere(path: str) -> bool:
    """Not where it may lead out of the library's folder: then it is meant from the folder of the command."""
    return os.path.isabs(path) or ".." not in path.split("/")


def scan_by_worker(plain: PlainScan) -> int:
    """Let the worker do it, and tell how it ended. Returns the exit status.

    Raises Unanswered, WrongUsageError, and MusError for what the worker says went wrong.
    """
    on_terminal = sys.stderr.isatty() and not plain.as_json
    return tell(
        _call(plain.request(), music=plain.music, data=plain.data, on_terminal=on_terminal), as_json=plain.as_json
    )


def _call(request: ScanRequest, *, music: str | None, data: str | None, on_terminal: bool) -> list[ScanEnd]:
    asked: list[AskedScan] = []
    given = environment()
    path = desk_socket(absolute(data or given.get("MUS_DATA_DIR", default_data_dir())))
    if path is None:
        raise Unanswered(asked)
    if music is None and "MUS_MUSIC_DIR" in given:
        music = given["MUS_MUSIC_DIR"]
    settings = {name: given.get(f"MUS_{name.upper()}") or None for name in DECIDING}
    if music is not None:
        music = absolute(music)
        if settings["root_map"] is None:
            check_music_dir(music)
    call = {
        "version": mus.__version__,
        "settings": settings,
        "music_dir": None if music is None else os.fsencode(music).hex(),
        "request": request._asdict(),
    }
    try:
        with socket.socket(socket.AF_UNIX) as connection, ExitStack() as stack:
            connection.settimeout(_FIRST_WORD_SECONDS)
            connection.connect(path)
            connection.sendall(json.dumps(call).encode() + b"\n")
            stack.enter_context(_ctrl_c_told(connection))
            bar = None
            for answer in _answers(connection):
                if "asked" in answer:
                    asked += [AskedScan(*scan) for scan in answer["asked"]]
                    if on_terminal and request.wait:
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
    """Until the worker closes."""
    waiting = b""
    while received := connection.recv(65536):
        connection.settimeout(SILENCE_SECONDS)
        *lines, waiting = (waiting + received).split(b"\n")
        yield from map(json.loads, lines)


@contextmanager
def _ctrl_c_told(connection: socket.socket) -> Iterator[None]:
    """The first Ctrl-C is told to the worker, which cancels the scan and answers; the second ends the command.

    SIGTERM is as good; and in the background of a shell's script, where Python ignores Ctrl-C, that too.
    """
    is_told = False

    def stop(*_: object) -> None:
        nonlocal is_told
        if is_told:
            raise KeyboardInterrupt
        is_told = True
        connection.sendall(b"stop\n")

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
