"""A child that reads files for its parent, one after another, and that can be killed at any time.

`python -m mus.library.reader_process PARENT_PID NICE MEMORY_LIMIT_BYTES`, started by `reader_pool`. Over
stdin and stdout go frames: 4 bytes of length (big-endian), then JSON. Paths are text, `surrogateescape`d.

    request   {"operation": "read" | "hear" | "analyse" | "listen" | "transcode" | "write" | "picture", "root",
               "paths", "orders", "acknowledge_each", "rules", "thumbnails_dir", "aspects"}
    answers   {"started": true}            once what the operation needs is imported
              {"results": [...]}           in the order of `paths`; as many as are done. None: a file takes long,
                                           but the reader gets on with it
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from mus.json_text import decoded, encoded

#: Results are sent when they take so many bytes, or so much time has passed, whichever is first. With 25 of a
#: thousand bytes in each message a first scan took a twentieth longer.
BATCH_BYTES = 1024 * 1024
BATCH_SECONDS = 0.1
#: How often a reader that is busy with one file tells that it gets on.
_TELL_SECONDS = 1.0

MEMORY_LIMIT_BYTES = 2 * 1024**3
#: The process that stores what they read is what a scan waits for where cores are few: a twentieth of a first scan.
NICENESS = 5

_PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, nice, memory_limit_bytes = (int(argument) for argument in sys.argv[1:4])
    settle_in(parent, nice=nice, memory_limit_bytes=memory_limit_bytes)
    requests, answers = sys.stdin.buffer, _private_stdout()
    while (request := _receive(requests)) is not None:
        _serve(request, answers)


def encode_frame(message: dict[str, Any]) -> bytes:
    return _frame(encoded(message))


def _frame(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


def decode_frame(body: bytes) -> Any:
    """Raises ValueError."""
    return decoded(body)


def settle_in(parent: int, *, nice: int = NICENESS, memory_limit_bytes: int = MEMORY_LIMIT_BYTES) -> None:
    """Make this process one that its parent can do without, that ends with it, and that takes no more memory."""
    # A terminal's Ctrl-C goes to the whole group; the parent decides when its readers end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before that call
        os._exit(0)
    if nice:
        os.nice(nice)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = memory_limit_bytes if hard == resource.RLIM_INFINITY else min(memory_limit_bytes, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _private_stdout() -> BinaryIO:
    """The answers' stream; whatever a library prints to stdout goes nowhere."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    return answers


def _receive(stream: BinaryIO) -> dict[str, Any] | None:
    header = stream.read(4)
    if len(header) < 4:
        return None  # the parent closed the pipe, or died
    length = struct.unpack(">I", header)[0]
    body = stream.read(length)
    received: dict[str, Any] | None = decode_frame(body) if len(body) == length else None
    return received


def _send(stream: BinaryIO, body: bytes) -> None:
    frame = memoryview(_frame(body))
    while frame:
        frame = frame[stream.write(frame) :]


def _send_results(stream: BinaryIO, results: list[bytes]) -> None:
    _send(stream, b'{"results":[' + b",".join(results) + b"]}")


def _serve(request: dict[str, Any], answers: BinaryIO) -> None:
    root = os.fsencode(request["root"])
    read = _operation(request, root, _Progress(answers).tell)
    _send(answers, b'{"started":true}')
    most = 0 if request["acknowledge_each"] else BATCH_BYTES
    results: list[bytes] = []
    size, sent = 0, time.monotonic()
    orders = request.get("orders") or [None] * len(request["paths"])
    for path, order in zip(request["paths"], orders, strict=True):
        results.append(encoded(read(os.fsencode(path), order)))
        size += len(results[-1])
        if size >= most or time.monotonic() - sent >= BATCH_SECONDS:
            _send_results(answers, results)
            results, size, sent = [], 0, time.monotonic()
    if results:
        _send_results(answers, results)


class _Progress:
    """Tells the parent that a file gets on."""

    def __init__(self, answers: BinaryIO) -> None:
        self._answers = answers
        self._told = time.monotonic()

    def tell(self) -> None:
        now = time.monotonic()
        if now - self._told >= _TELL_SECONDS:
            self._told = now
            _send_results(self._answers, [])


def _operation(request: dict[str, Any], root: bytes, report: Callable[[], None]) -> Callable[[bytes, Any], Any]:
    """What to do with each path. Imports only what the operation needs: an analyser takes 24 MB more, a listener
    30 MB."""
    operation = request["operation"]
    if operation == "read":
        from mus.library.reading_rules import ReadingRules
        from mus.library.tag_reader import read_tags

        rules = ReadingRules(**request["rules"])
        return lambda path, _: read_tags(root, path, rules).as_json()
    if operation == "hear":
        from mus.library.sound import hear

        return lambda path, _: hear(root, path).as_json()
    if operation == "listen":
        from mus.library import sound_meters  # noqa: F401 - before the first file, whose time it would take
        from mus.library.listening import Aspect, listen

        aspects = frozenset(Aspect(name) for name in request["aspects"])
        return lambda path, _: listen(root, path, aspects, report=report).as_json()
    if operation == "transcode":
        import av  # noqa: F401 - before the first file, whose time it would take

        from mus.library.transcoding import TranscodeOrder, transcode

        return lambda path, order: transcode(root, path, TranscodeOrder.from_json(order), report=report).as_json()
    thumbnails = Path(request["thumbnails_dir"] or "")
    if operation == "write":
        from mus.library.edit_order import EditOrder
        from mus.library.reading_rules import ReadingRules
        from mus.library.tag_writer import write_copy

        rules = ReadingRules(**request["rules"])
        return lambda path, order: write_copy(root, path, EditOrder.from_json(order), thumbnails, rules).as_json()
    if operation == "picture":
        from mus.library.cover_thumbnails import usable_picture

        return lambda _, order: usable_picture(order)
    from mus.library.analysis import analyse

    return lambda path, _: analyse(root, path, thumbnails).as_json()


if __name__ == "__main__":
    main()
