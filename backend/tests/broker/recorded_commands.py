"""Every command that a server is sent, those of scripts too, by MONITOR."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LINE = re.compile(rb'^\+\d+\.\d+ \[\d+ (?P<client>[^\]]*)\] (?P<arguments>".*")\r\n$')
_ARGUMENT = re.compile(rb'"((?:[^"\\]|\\.)*)"')


class Recording:
    """What was sent so far, in order: the client's address (`lua` for a script), and the arguments."""

    def __init__(self, address: Path) -> None:
        self.commands: list[tuple[str, list[str]]] = []
        #: Lines of another form; a test that compares what is sent must not overlook any.
        self.unread: list[bytes] = []
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(address))
        self._socket.sendall(b"MONITOR\r\n")
        assert self._socket.recv(5) == b"+OK\r\n"
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        with self._socket.makefile("rb") as lines:
            for line in lines:
                found = _LINE.match(line)
                if found is None:
                    self.unread.append(line)
                    continue
                arguments = [part.decode(errors="replace") for part in _ARGUMENT.findall(found["arguments"])]
                self.commands.append((found["client"].decode(), arguments))

    def names(self) -> set[str]:
        """The first word of each command so far."""
        return {arguments[0].upper() for _, arguments in self.commands}

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()


@contextmanager
def recorded(address: Path) -> Iterator[Recording]:
    """Record what the server at a unix socket is sent during the block, and until it has all been read."""
    recording = Recording(address)
    try:
        yield recording
    finally:
        recording.close()
