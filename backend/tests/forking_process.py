"""`python forking_process.py DESCRIPTOR`: imports mus once, and forks processes that run programs with it.

The other side is `forked_process`. Over the socket DESCRIPTOR come requests, each with the three standard
descriptors of the new process; back go its process id, and a word once it has become a child of the asking one.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import signal
import socket
import sys
import time
from typing import Any

#: What commands and workers import; anything else they import themselves.
_MODULES = (
    "mus.api.server",
    "mus.cli.commands",
    "mus.cli.console_logs",
    "mus.cli.edit",
    "mus.cli.event_loop",
    "mus.cli.job_watch",
    "mus.cli.jobs",
    "mus.cli.libraries",
    "mus.cli.part_runs",
    "mus.cli.queues",
    "mus.cli.restoration",
    "mus.cli.scan",
    "mus.cli.schedules",
    "mus.cli.trash",
    "mus.jobs.edit_jobs",
    "mus.jobs.file_system_jobs",
    "mus.jobs.maintenance_jobs",
    "mus.jobs.metadata_jobs",
    "mus.persistence.database",
    "mus.watcher.watcher",
    "mus.worker",
    "aiosqlite",
    "asyncpg",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "sqlalchemy.dialects.sqlite.aiosqlite",
    "uvloop",
    "anyio._backends._asyncio",
)


def request(channel: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """In a new process, what it shall be; None where nobody is left to ask for one."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(channel, 1 << 20, 3)
        if not message:
            return None
        middle = os.fork()
        if middle == 0:
            middle = os.getpid()
            process = os.fork()
            if process == 0:
                # Not before it has its parent: it may ask who that is.
                while os.getppid() == middle:
                    time.sleep(0.0005)
                channel.close()
                return json.loads(message), descriptors
            channel.send(str(process).encode())
            os._exit(0)
        os.waitpid(middle, 0)
        for descriptor in descriptors:
            os.close(descriptor)
        channel.send(b"adopted")


def become(wanted: dict[str, Any], descriptors: list[int]) -> None:
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    os.closerange(3, 1024)
    if wanted["new_session"]:
        os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if wanted["cwd"] is not None:
        os.chdir(wanted["cwd"])
    os.environ.clear()
    os.environ.update(wanted["environment"])
    sys.path[:0] = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    words = wanted["words"]
    gc.enable()
    if words[0] == "-m":
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    # Ctrl-C is for who runs the tests, and ends this process by the end of the socket.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.disable()
    for _name in _MODULES:
        importlib.import_module(_name)
    gc.collect()
    gc.freeze()
    assert len(os.listdir("/proc/self/task")) == 1, "a process with threads cannot be forked safely"
    _request = request(socket.socket(fileno=int(sys.argv[1])))
    if _request is not None:
        become(*_request)
