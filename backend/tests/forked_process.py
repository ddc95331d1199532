"""Processes of mus without the time that their imports take, about 0.9 s of CPU: forked off one that has done them.

They are processes like any other to whoever started them, who may stop, kill and wait for them, and differ from
those of a command in what is imported already, and in the environment that /proc shows.
"""

from __future__ import annotations

import atexit
import ctypes
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, AnyStr

_PR_SET_CHILD_SUBREAPER = 36
_PROGRAM = Path(__file__).with_name("forking_process.py")


class _Template:
    """The process that the others are forked off."""

    def __init__(self) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(_PROGRAM), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                # Nothing of whoever runs the tests.
                env={name: value for name, value in os.environ.items() if not name.startswith("MUS_")},
            )
        atexit.register(self._end)

    def fork(self, descriptors: list[int], **wanted: Any) -> int:
        """The id of a process that is a child of this one."""
        # It becomes one as the orphan of a process in between.
        _adopt_orphans(wanted=True)
        try:
            socket.send_fds(self._channel, [json.dumps(wanted).encode()], descriptors)
            process = int(self._channel.recv(100))
            assert self._channel.recv(100) == b"adopted"
        finally:
            _adopt_orphans(wanted=False)
        return process

    def _end(self) -> None:
        self._channel.close()
        self._process.wait()


_lock = threading.Lock()
_template: _Template | None = None


def _adopt_orphans(*, wanted: bool) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(wanted), 0, 0, 0)


class ForkedProcess(subprocess.Popen[AnyStr]):
    """A `Popen` of [sys.executable, "-P", "-m", MODULE, …] or [sys.executable, FILE, …]."""

    def _execute_child(  # type: ignore[override]
        self, args: list[Any], executable: Any, preexec_fn: Any, close_fds: bool, pass_fds: Any, cwd: Any, env: Any,
        startupinfo: Any, creationflags: Any, shell: Any,
        p2cread: int, p2cwrite: int, c2pread: int, c2pwrite: int, errread: int, errwrite: int, *rest: Any,
    ) -> None:  # fmt: skip
        global _template
        python, *words = map(str, args)
        assert python == sys.executable
        assert not pass_fds
        standard = [own if given == -1 else given for own, given in enumerate((p2cread, c2pwrite, errwrite))]
        with _lock:
            _template = _template or _Template()
            self.pid = _template.fork(
                standard,
                words=words[1:] if words[0] == "-P" else words,
                environment=dict(os.environ if env is None else env),
                cwd=None if cwd is None else str(cwd),
                new_session=bool(rest[5]),
            )
        self._child_created = True
        self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)


if sys.platform != "linux":
    ForkedProcess = subprocess.Popen  # type: ignore[misc, assignment]


def run_forked(command: list[Any], *, timeout: float, **options: Any) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run`, with its output captured as text."""
    pipe = subprocess.PIPE
    with ForkedProcess(command, stdout=pipe, stderr=pipe, text=True, **options) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)
