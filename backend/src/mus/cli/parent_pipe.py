"""A part started by `mus up` or supervisord ends with it, even when that is killed.

`mus up` holds the writing end of a pipe and writes nothing; its death, however it comes, is the end of the
file. Linux says so as well (PR_SET_PDEATHSIG), which covers the moment before the pipe is watched, and is all there
is below supervisord.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time

VARIABLE = "MUS_PARENT_PIPE"
#: supervisord sets it for what it starts.
SUPERVISED = "SUPERVISOR_ENABLED"
_PR_SET_PDEATHSIG = 1
#: What a part may take beyond its draining before it ends itself the hard way.
_GRACE_SECONDS = 5.0


def stop_with_parent(drain_seconds: float) -> None:
    """Stop in good order, as on SIGTERM, when the parent is gone: `mus up` or supervisord. Else does nothing."""
    number = os.environ.pop(VARIABLE, "")
    has_pipe = number.isdigit()
    if sys.platform == "linux" and (has_pipe or SUPERVISED in os.environ):
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if has_pipe:
        stop_with_pipe(int(number), drain_seconds)


def stop_with_pipe(pipe: int, drain_seconds: float) -> None:
    """Stop when the other end of `pipe` is closed. Watched from a thread: a blocked event loop does not keep an
    orphan alive."""
    os.set_inheritable(pipe, False)
    threading.Thread(
        target=_watch, args=(pipe, drain_seconds + _GRACE_SECONDS), name="mus-parent-pipe", daemon=True
    ).start()


def _watch(pipe: int, patience_seconds: float) -> None:
    with contextlib.suppress(OSError):
        os.read(pipe, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(patience_seconds)
    # The whole group: a part leads its own, and its readers are in it.
    os.killpg(os.getpgid(0), signal.SIGKILL)
