"""`mus trash`: what was deleted; bring it back, or delete it for good."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from mus.cli.options import DataOption, JsonOption, read_settings
from mus.cli.wrong_usage import WrongUsageError

app = typer.Typer(rich_markup_mode=None)

LibraryOption = Annotated[str | None, typer.Option("--library", metavar="NAME", help="Only of this library.")]
TrackIds = Annotated[list[int], typer.Argument(metavar="ID…", help="Tracks, as `mus trash` shows them.")]


@app.callback(invoke_without_command=True)
def trash(
    context: typer.Context, library: LibraryOption = None, data: DataOption = None, as_json: JsonOption = False
) -> None:
    """Show what was deleted; restore it, or delete it for good.

    Deleted files lie in the trash for 30 days (`mus schedules show trash`).

    \b
    Examples:
      mus trash
      mus trash restore 23
      mus trash purge 23 24
      mus trash purge --all
    """
    if context.invoked_subcommand is None:
        list_trash(library, data, as_json)
    elif library is not None or data is not None or as_json:
        name = context.invoked_subcommand
        raise WrongUsageError(f"options come after the subcommand: mus trash {name} … --data DIR")


@app.command("list")
def list_trash(library: LibraryOption = None, data: DataOption = None, as_json: JsonOption = False) -> None:
    """List what lies in the trash, the latest first.

    \b
    Example:
      mus trash list --library Music --json
    """
    settings = read_settings(data_dir=data)
    from mus.cli import trash_tables
    from mus.cli.event_loop import run

    trash_tables.print_list(run(trash_tables.listed(settings, library)), as_json=as_json)


@app.command("restore")
def restore_tracks(track_ids: TrackIds, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Bring files back to where they were, or beside it where something is there again.

    \b
    Example:
      mus trash restore 23
    """
    from mus.cli.trash_tables import restoring

    _enqueue([restoring(track_id) for track_id in track_ids], data, as_json=as_json)


@app.command("purge")
def purge_tracks(
    track_ids: Annotated[list[int] | None, typer.Argument(metavar="[ID…]", help="Tracks in the trash.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that is in the trash.")] = False,
    library: LibraryOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete files for good, now. This cannot be undone.

    \b
    Examples:
      mus trash purge 23 24
      mus trash purge --all --library Music --yes
    """
    if bool(track_ids) is everything:
        raise WrongUsageError("name the tracks, or say --all")
    if library is not None and not everything:
        raise WrongUsageError("--library goes with --all")
    if not yes:
        what = f"{len(track_ids)} files" if track_ids else "everything in the trash"
        typer.confirm(f"Delete {what} for good?", abort=True, err=True)
    from mus.cli.trash_tables import purging

    _enqueue([purging(track_ids or None, library)], data, as_json=as_json)


def _enqueue(requests: list[Any], data: DataOption, *, as_json: bool) -> None:
    settings = read_settings(data_dir=data)
    import logging

    from mus.cli.console_logs import log_to_stderr
    from mus.cli.event_loop import run
    from mus.cli.trash_tables import enqueued

    log_to_stderr(settings.log_level, settings.log_format, part="trash", at_least=logging.WARNING)
    for job_id in run(enqueued(settings, requests)):
        print(json.dumps({"id": job_id, "state": "queued"}) if as_json else f"Job {job_id} is queued")
