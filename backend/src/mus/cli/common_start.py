"""`python -m mus.cli.common_start ORDERS`: imports once what the parts of `mus up` share, and forks them.

So what they share is in memory once: the modules take 85 MiB, of which each part changes a third. It is a process
of its own, and ends when the parts run, for three reasons. A fork wants one thread and no event loop, and `mus up`
has both. `mus up` stays small, since it imports none of this. And a template that stayed for restarts would cost
20 MiB for good: the pages of which every part has a changed copy. (A part that dies is started anew by itself, see
`children`.) The forks become children of `mus up`, their subreaper: see `started_together`, the other side.

Messages go over stdin and stdout, one JSON object a line:

    to `mus up`    {"settings": {...}}                      which it checks, and starts the broker
    from there     {"environment": {...}}                   for the parts
    to `mus up`    {"prepared": {"root", "scanned"}}        the database is there
                   {"part": NAME, "pid": N}                 from each part itself, once it is on its own
    or instead     {"error": TEXT, "status": 1 or 2}

ORDERS is JSON: `outputs`, the parts and the descriptors of their output, and `stdout`, that of `mus up`, for
what reports the first scan; `outputs` is empty where forking is not safe (macOS), and nothing is forked then.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from mus.cli import parent_pipe
from mus.cli.exit_status import leave, status_of
from mus.cli.given_settings import read_settings, require_music
from mus.cli.wrong_usage import WrongUsageError
from mus.errors import AdminRequiredError, BadRequestError, MusError

if TYPE_CHECKING:
    from fastapi import FastAPI

    from mus.config import Settings

FIRST_SCAN = "first-scan"
#: The parts, by the `mus` commands that run them: for whoever lists processes.
_COMMANDS = {"api": "serve-and-watch", "worker": "worker", FIRST_SCAN: FIRST_SCAN}
#: First those of the database, which is prepared while the others are imported.
_DATABASE_MODULES = ("mus.cli.event_loop", "mus.persistence.libraries", "mus.library.paths")
_PART_MODULES = (
    "mus.broker",
    "mus.worker",
    "mus.jobs.file_system_jobs",
    "mus.jobs.edit_jobs",
    "mus.jobs.metadata_jobs",
    "mus.jobs.maintenance_jobs",
    "mus.watcher.watcher",
    "mus.api.server",
    "mus.cli.part_runs",
    "mus.cli.scan_desk",
    "mus.cli.console_logs",
    "uvloop",
    "anyio._backends._asyncio",
)
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15


def main() -> NoReturn:
    gc.disable()  # what is imported stays
    orders = json.loads(sys.argv[1])
    start = _Start(orders["outputs"], orders["stdout"])
    try:
        start.run()
    except MusError as error:
        start.say(error=error.user_message, status=_status(error))
        leave(1)
    leave(0)


class _Start:
    def __init__(self, outputs: dict[str, int], stdout: int) -> None:
        self._outputs = outputs
        self._stdout = stdout
        self._app: FastAPI | None = None
        self._pipe = int(os.environ.pop(parent_pipe.VARIABLE))
        # Else a part would ask to be ended with its parent, which is this process.
        os.environ.pop(parent_pipe.SUPERVISED, None)
        # What anybody prints is no message.
        self._messages = os.dup(1)
        os.dup2(2, 1)
        if outputs:
            _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    def say(self, **message: Any) -> None:
        # Shorter than PIPE_BUF where several may write: it goes in one piece.
        os.write(self._messages, json.dumps(message).encode() + b"\n")

    def run(self) -> None:
        """Raises MusError."""
        settings = read_settings()
        require_music(settings)
        self.say(settings=_what_up_needs(settings))
        self._import(_DATABASE_MODULES)
        answer = sys.stdin.readline()
        if not answer:
            return  # `mus up` is gone, or was told to stop
        os.environ.update(json.loads(answer)["environment"])
        settings = read_settings()
        if not self._outputs:
            self.say(prepared=_prepared(settings))
            return
        preparing = _Fork(lambda: _prepared(settings))
        self._import(_PART_MODULES)
        prepared = preparing.result()
        self.say(prepared=prepared)
        # What making it changes of the memory that is shared is not changed in the API's copy then: 6 MiB.
        from mus.api.app import create_app
        from mus.rest import trim_heap

        self._app = create_app(settings)
        gc.collect()
        trim_heap()
        gc.freeze()
        for part in self._outputs:
            self._fork(part, settings)
        if not prepared["scanned"]:
            self._fork(FIRST_SCAN, settings)

    def _import(self, modules: tuple[str, ...]) -> None:
        if self._outputs:
            for module in modules:
                importlib.import_module(module)

    def _fork(self, part: str, settings: Settings) -> None:
        if os.fork() == 0:
            # Nothing of this process's own is done on the way out.
            try:
                self._become(part, settings)
            finally:
                os._exit(1)

    def _become(self, part: str, settings: Settings) -> NoReturn:
        os.setsid()
        self.say(part=part, pid=os.getpid())
        nowhere = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nowhere, 0)
        output = self._outputs.get(part)
        os.dup2(self._stdout if output is None else output, 1)
        if output is not None:
            os.dup2(output, 2)
        _close_all_but(0, 1, 2, self._pipe)
        _show_as(_COMMANDS[part])
        sys.stdout.reconfigure(line_buffering=output is None)  # type: ignore[union-attr]
        run = {"api": lambda: _api(settings, self._pipe, self._app), FIRST_SCAN: lambda: _first_scan(self._pipe)}
        leave(status_of(run.get(part, lambda: _worker(settings, self._pipe))))


def _what_up_needs(settings: Settings) -> dict[str, Any]:
    return {
        "data_dir": str(settings.data_dir),
        "music_dir": None if settings.music_dir is None else str(settings.music_dir),
        "host": settings.host,
        "port": settings.port,
        "log_level": settings.log_level,
        "log_format": settings.log_format,
        "drain_seconds": settings.drain_seconds,
        "has_broker": settings.dragonfly_url is not None,
    }


def _status(error: MusError) -> int:
    return 2 if isinstance(error, WrongUsageError | BadRequestError) else 1


def _prepared(settings: Settings) -> dict[str, Any]:
    from mus.cli.event_loop import run
    from mus.cli.prepared_library import prepared

    return run(prepared(settings))


class _Fork:
    """What a function returns that runs in a fork: it may start threads, and import what is needed only once."""

    def __init__(self, function: Callable[[], dict[str, Any]]) -> None:
        self._reading, writing = os.pipe()
        self._process_id = os.fork()
        if self._process_id == 0:
            try:
                _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
                try:
                    answer: dict[str, Any] = {"value": function()}
                except MusError as error:
                    answer = {"error": error.user_message, "status": _status(error)}
                with os.fdopen(writing, "w") as pipe:
                    json.dump(answer, pipe)
                leave(0)
            finally:
                os._exit(1)
        os.close(writing)

    def result(self) -> dict[str, Any]:
        """Raises what the function raised, a WrongUsageError or an AdminRequiredError."""
        with os.fdopen(self._reading) as pipe:
            text = pipe.read()
        os.waitpid(self._process_id, 0)
        answer = json.loads(text or '{"error": "the database cannot be prepared", "status": 1}')
        if "error" in answer:
            kind = WrongUsageError if answer["status"] == 2 else AdminRequiredError
            raise kind(answer["error"])
        value: dict[str, Any] = answer["value"]
        return value


# ------------------------------------------------------------ in a part


def _api(settings: Settings, pipe: int, app: FastAPI | None) -> None:
    from mus.cli.part_runs import serve_and_watch

    _begin(settings, pipe, "api")
    serve_and_watch(settings, app)


def _worker(settings: Settings, pipe: int) -> None:
    from mus.cli.part_runs import work

    _begin(settings, pipe, "worker")
    work(settings)


def _first_scan(pipe: int) -> None:
    from mus.cli.scan import first_scan

    parent_pipe.stop_with_pipe(pipe, 0.0)
    first_scan()


def _begin(settings: Settings, pipe: int, part: str) -> None:
    from mus.cli.console_logs import log_to_stderr

    parent_pipe.stop_with_pipe(pipe, settings.drain_seconds)
    log_to_stderr(settings.log_level, settings.log_format, part=part)


def _close_all_but(*kept: int) -> None:
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in kept:
            try:
                os.close(int(name))
            except OSError:
                continue  # that of the listing


def _show_as(command: str) -> None:
    """Make `ps` show the part as if it had been started by its command."""
    import ctypes

    _prctl(_PR_SET_NAME, f"mus {command}".encode())
    line = b"\0".join(os.fsencode(word) for word in (sys.executable, "-P", "-m", "mus", command)) + b"\0"
    with open("/proc/self/stat", "rb") as file:
        # From the third on (proc(5)); the 48th and 49th are where the arguments begin and end.
        fields = file.read().rpartition(b")")[2].split()
    begin, end = int(fields[45]), int(fields[46])
    if begin and len(line) <= end - begin:
        ctypes.memset(begin, 0, end - begin)
        ctypes.memmove(begin, line, len(line))
    sys.argv = ["mus", command]


def _prctl(option: int, value: int | bytes) -> None:
    import ctypes

    ctypes.CDLL(None).prctl(option, value)


if __name__ == "__main__":
    main()
