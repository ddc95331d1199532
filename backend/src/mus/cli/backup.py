"""`mus backup` and `mus restore`: the database in a file, and back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mus.cli.options import DataOption, JsonOption, MusicOption, is_text, read_settings
from mus.cli.wrong_usage import WrongUsageError

if TYPE_CHECKING:
    from mus.cli.restoration import Restored
    from mus.config import Settings

_MIB = 1 << 20


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The backup to be written.")],
    data: DataOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it is there already.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write the database to FILE: tracks, jobs and their history, schedules. Everything may go on running.

    \b
    Examples:
      mus backup ~/mus-backup.db
      mus backup --data /srv/mus --force /mnt/backup/mus.db

    FILE is whole and checked, or not there. Not in it: the music and its trash, settings and token, and the
    thumbnails, which mus makes again.
    """
    settings = read_settings(data_dir=data)
    database = _sqlite_file(settings, "pg_dump")
    from mus.cli.event_loop import run
    from mus.cli.existing_database import require_database
    from mus.cli.restoration import require_known_schema
    from mus.persistence.sqlite_copies import in_mib, write_copy

    file = _absolute(file)
    require_database(settings)
    run(require_known_schema(settings))
    if file.exists() and file.samefile(database):
        raise WrongUsageError(f"{str(file)!r} is the database itself: name another file")
    began = time.monotonic()
    with _shown_progress("Backup", as_json=as_json) as tell:
        contents = write_copy(database, file, tell=tell, overwrite=force)
    seconds, size = time.monotonic() - began, file.stat().st_size
    if as_json:
        _print_json(
            file=str(file), bytes=size, schema=contents.schema, version=contents.version, made_at=contents.made_at,
            tracks=contents.tracks, jobs=contents.jobs, seconds=round(seconds, 3),
        )  # fmt: skip
    else:
        print(
            f"Backed up {contents.tracks:,} tracks and {contents.jobs:,} jobs to {file} "
            f"({in_mib(size)}, {seconds:.1f} s)"
        )


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `mus backup` wrote.")],
    music: MusicOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the database what it was when FILE was written. Everything may go on running.

    \b
    Examples:
      mus restore ~/mus-backup.db
      mus restore mus.db --data /srv/mus --music /srv/music    (on another machine)

    The database that was there is kept in the data folder, below backups. Jobs that were open when FILE was
    written begin anew, and a quick scan finds what has changed on the disk since.
    """
    settings = read_settings(music_dir=music, data_dir=data)
    _sqlite_file(settings, "pg_restore")
    from mus.cli.console_logs import log_to_stderr
    from mus.cli.event_loop import run
    from mus.cli.restoration import restored

    log_to_stderr(settings.log_level, settings.log_format, part="restore")
    began = time.monotonic()
    file = _absolute(file)
    with _shown_progress("Restore", as_json=as_json) as tell:
        done = run(restored(settings, file, tell))
    seconds = time.monotonic() - began
    if as_json:
        _print_json(
            file=str(file), made_at=done.contents.made_at, version=done.contents.version,
            schema=done.contents.schema, tracks=done.contents.tracks, jobs=done.contents.jobs,
            jobs_begun_anew=done.jobs_begun_anew, music=done.libraries[0].music if done.libraries else None,
            music_is_there=bool(done.libraries) and all(library.is_there for library in done.libraries),
            libraries=[asdict(library) for library in done.libraries],
            files_adopted=done.files_adopted, covers_to_make=done.covers_to_make,
            kept=str(done.kept) if done.kept else None, seconds=round(seconds, 3),
        )  # fmt: skip
    else:
        _tell(done, file, seconds)


def _tell(done: Restored, file: Path, seconds: float) -> None:
    from mus.cli.terminal import local_time

    contents = done.contents
    made = f", made {local_time(contents.made_at)} by mus {contents.version}" if contents.made_at else ""
    print(f"Restored {contents.tracks:,} tracks and {contents.jobs:,} jobs from {file}{made} ({seconds:.1f} s)")
    if done.kept:
        print(f"  what was there is kept: {done.kept}")
    if done.jobs_begun_anew:
        print(f"  {done.jobs_begun_anew:,} open jobs begin anew")
    if done.covers_to_make:
        print(f"  {done.covers_to_make:,} covers get their thumbnails with the next quick scan")
    several = len(done.libraries) > 1
    for library in done.libraries:
        if library.is_there:
            print(f"  music: {library.music}")
        elif several:
            moved = f"mus libraries set {library.name!r} --root DIR"
            print(f"  the music of {library.name}, {library.music}, is not here: mount it, or {moved}")
        else:
            print(f"  its music {library.music} is not here: mount it, or restore with --music DIR")


def _sqlite_file(settings: Settings, instead: str) -> Path:
    """Raises WrongUsageError for a database that is no file."""
    url = settings.sqlalchemy_url
    if url.get_backend_name() != "sqlite":
        raise WrongUsageError(f"the database is a PostgreSQL server: use its own {instead}")
    if not url.database or url.database == ":memory:":
        raise WrongUsageError("the database is in memory: there is no file of it")
    return Path(url.database)


def _absolute(file: Path) -> Path:
    """Raises WrongUsageError for a name that could not be shown."""
    if not is_text(str(file)):
        raise WrongUsageError("the name of FILE is not UTF-8")
    return Path.cwd() / file.expanduser()


@contextmanager
def _shown_progress(title: str, *, as_json: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Takes a stage and bytes, and shows MiB."""
    import sys

    if as_json or not sys.stderr.isatty():
        yield lambda _stage, _done, _total: None
        return
    from mus.cli.progress_bar import StageBar

    with StageBar(f"{title} (MiB)") as bar:
        yield lambda stage, done, total: bar.show(stage, done // _MIB, -(-total // _MIB))


def _print_json(**values: Any) -> None:
    import json

    print(json.dumps({name: v.isoformat() if isinstance(v, datetime) else v for name, v in values.items()}))
