"""`mus libraries`: the folders with music; add, change, remove them."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mus.cli.options import DataOption, JsonOption, read_settings
from mus.cli.wrong_usage import WrongUsageError

if TYPE_CHECKING:
    from mus.config import Settings
    from mus.jobs.libraries import LibraryChange

app = typer.Typer(rich_markup_mode=None)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The library's name or id, as `mus libraries` lists it.")]
WatchOption = Annotated[
    str | None,
    typer.Option(
        "--watch",
        metavar="MODE",
        help="auto: events where the file system has them, else polling; events; polling; off: scans alone.",
    ),
]
ScanOption = Annotated[
    str | None,
    typer.Option(
        "--scan",
        metavar="CRONTAB",
        help="When a quick scan comes by itself, five fields in UTC; `off`; `common`, with all others.",
    ),
]
GuardMinOption = Annotated[
    str | None,
    typer.Option(
        "--guard-min",
        metavar="N",
        help="Fewer tracks than that gone at once are believed; `common`: MUS_GUARD_MIN_TRACKS.",
    ),
]
GuardFractionOption = Annotated[
    str | None,
    typer.Option(
        "--guard-fraction",
        metavar="F",
        help="More than that part gone at once (0.5 is half) takes it for offline; `common`: MUS_GUARD_FRACTION.",
    ),
]
_COMMON = "common"


@app.callback(invoke_without_command=True)
def libraries(context: typer.Context, data: DataOption = None, as_json: JsonOption = False) -> None:
    """List the libraries; add, change or remove one.

    \b
    Examples:
      mus libraries
      mus libraries add Talks /srv/talks
      mus libraries add NAS /mnt/nas/music --watch polling --scan "0 4 * * *"
      mus libraries set Talks --name Lectures --guard-min 10
      mus libraries set NAS --root /media/nas/music
      mus libraries remove Talks
    """
    if context.invoked_subcommand is None:
        list_libraries(data, as_json)
    elif data is not None or as_json:
        name = context.invoked_subcommand
        raise WrongUsageError(f"options come after the subcommand: mus libraries {name} … --data DIR")


@app.command("list")
def list_libraries(data: DataOption = None, as_json: JsonOption = False) -> None:
    """List the libraries.

    \b
    Example:
      mus libraries list --json
    """
    settings = read_settings(data_dir=data)
    from mus.cli import library_tables
    from mus.cli.event_loop import run

    library_tables.print_list(run(library_tables.listed(settings)), settings, as_json=as_json)


@app.command("add")
def add_library(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is to be called.")],
    folder: Annotated[str, typer.Argument(metavar="DIR", help="The folder with the music.")],
    watch: WatchOption = None,
    scan: ScanOption = None,
    guard_min: GuardMinOption = None,
    guard_fraction: GuardFractionOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add a library, and ask for its first scan. A mus that runs begins to watch it within seconds.

    \b
    Examples:
      mus libraries add Talks /srv/talks
      mus libraries add NAS /mnt/nas/music --watch polling --scan "0 4 * * *"

    Its folder must lie apart from the others', and from the data folder.
    """
    settings = _settings(data)
    change: LibraryChange = {"name": name, "root": _absolute(folder)}
    change |= _change(watch, scan, guard_min, guard_fraction)
    from mus.cli import library_tables
    from mus.cli.event_loop import run

    library_tables.print_added(run(library_tables.added(settings, change)), as_json=as_json)


@app.command("set")
def set_library(
    name: Name,
    new_name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="Another name.")] = None,
    root: Annotated[
        str | None,
        typer.Option("--root", metavar="DIR", help="Where its files are now; tracks keep their ids."),
    ] = None,
    watch: WatchOption = None,
    scan: ScanOption = None,
    guard_min: GuardMinOption = None,
    guard_fraction: GuardFractionOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change a library.

    \b
    Examples:
      mus libraries set Music --scan "*/15 * * * *"
      mus libraries set Music --scan common --guard-min 500
      mus libraries set NAS --root /media/nas/music
    """
    settings = _settings(data)
    change = _change(watch, scan, guard_min, guard_fraction)
    if new_name is not None:
        change["name"] = new_name
    if root is not None:
        change["root"] = _absolute(root)
    if not change:
        raise WrongUsageError("say what to change: --name, --root, --watch, --scan or --guard-…")
    from mus.cli import library_tables
    from mus.cli.event_loop import run

    library_tables.print_changed(run(library_tables.changed(settings, name, change)), settings, as_json=as_json)


@app.command("remove")
def remove_library(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Even with files in its trash, which stay there, or named by MUS_MUSIC_DIR."),
    ] = False,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Forget a library, its tracks, and all that mus knows of them. No file is touched.

    \b
    Examples:
      mus libraries remove Talks
      mus libraries remove Talks --yes
    """
    settings = _settings(data)
    from mus.cli import library_tables
    from mus.cli.event_loop import run

    if not yes:
        found = run(library_tables.found(settings, name))
        typer.confirm(
            f"Forget the library {found.name} ({found.root}) and its {found.tracks:,} tracks? Its files stay.",
            abort=True,
            err=True,
        )
    answer = run(library_tables.removed(settings, name, force=force))
    print(json.dumps(answer) if as_json else f"Job {answer['job_id']} forgets the library {answer['library']}")


def _settings(data: Any) -> Settings:
    settings = read_settings(data_dir=data)
    import logging

    from mus.cli.console_logs import log_to_stderr

    log_to_stderr(settings.log_level, settings.log_format, part="libraries", at_least=logging.WARNING)
    return settings


def _absolute(folder: str) -> str:
    return os.path.abspath(os.path.expanduser(folder))


def _change(
    watch: str | None, scan: str | None, guard_min: str | None, guard_fraction: str | None
) -> LibraryChange:
    change: LibraryChange = {}
    if watch is not None:
        change["watch"] = watch  # type: ignore[typeddict-item]  # it is checked where it is used
    if scan is not None:
        change["scan_crontab"] = None if scan == _COMMON else scan
    if guard_min is not None:
        change["guard_min_tracks"] = None if guard_min == _COMMON else _number(int, guard_min, "--guard-min")
    if guard_fraction is not None:
        fraction = None if guard_fraction == _COMMON else _number(float, guard_fraction, "--guard-fraction")
        change["guard_fraction"] = fraction
    return change


def _number(kind: Any, text: str, option: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise WrongUsageError(f"{option} is a number, or `common`, not {text!a}") from None
