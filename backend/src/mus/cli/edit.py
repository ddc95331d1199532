"""`mus edit`, `mus edits`, `mus undo`: change tags and names of files, look at what was changed, take it back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mus.cli.options import DataOption, JsonOption, is_text, read_settings
from mus.cli.wrong_usage import WrongUsageError

if TYPE_CHECKING:
    from mus.config import Settings


def edit(
    track_ids: Annotated[list[int], typer.Argument(metavar="ID…", min=1, help="Tracks.")],
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="A tag to be set; again for more, or for a list."),
    ] = None,
    removes: Annotated[
        list[str] | None, typer.Option("--remove", metavar="FIELD", help="A tag to be removed; again for more.")
    ] = None,
    cover: Annotated[
        Path | None, typer.Option("--cover", metavar="FILE", help="A picture to be the front cover.")
    ] = None,
    pattern: Annotated[
        str | None, typer.Option("--rename", metavar="PATTERN", help="Name the files by their tags.")
    ] = None,
    preview: Annotated[
        bool, typer.Option("--preview", help="Show the names that --rename gives; change nothing.")
    ] = False,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change the tags, the cover or the names of tracks' files.

    \b
    Examples:
      mus edit 23 --set title=Sinnerman --set year=1965 --remove comment
      mus edit 23 24 --set genres=Soul --set genres=Jazz --cover front.jpg
      mus edit 23 24 --rename "{album_artist}/{album}[ ({year})]/{track:02} - {title}" --preview

    Fields are those of PATCH /api/v1/tracks; `--remove cover` takes the pictures
    out. Prints the job that does it: `mus jobs watch JOB` follows it.
    """
    settings = read_settings(data_dir=data)
    from mus.cli import edit_requests

    if preview:
        if pattern is None or sets or removes or cover is not None:
            raise WrongUsageError("--preview goes with --rename alone")
        edit_requests.print_names(
            _run(settings, edit_requests.previewed(settings, track_ids, pattern)), as_json=as_json
        )
        return
    changes = edit_requests.changes_of(sets or (), removes or ())
    picture = None if cover is None else edit_requests.picture_in(cover)
    if changes.is_empty and picture is None and pattern is None:
        raise WrongUsageError("say what to change: --set, --remove, --cover or --rename")
    job_id = _run(settings, edit_requests.edited(settings, track_ids, changes, picture, pattern))
    _tell(job_id, as_json=as_json)


def edits(
    track_id: Annotated[int, typer.Argument(metavar="ID", min=1, help="A track.")],
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="At most so many, the newest first.")] = 20,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what was changed in a track's file.

    \b
    Example:
      mus edits 23
    """
    settings = read_settings(data_dir=data)
    from mus.cli import edit_requests

    edit_requests.print_edits(_run(settings, edit_requests.listed(settings, track_id, limit)), as_json=as_json)


def undo(
    edit_id: Annotated[
        int | None, typer.Argument(metavar="[EDIT]", min=1, help="An edit, from `mus edits`.")
    ] = None,
    job: Annotated[str | None, typer.Option("--job", metavar="JOB", help="All that a job has edited.")] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take an edit back, or all that a job has edited.

    \b
    Examples:
      mus undo 7
      mus undo --job 01a20034a58c
    """
    if (edit_id is None) == (job is None):
        raise WrongUsageError("name an edit, or a job with --job")
    if job is not None and not is_text(job):
        raise WrongUsageError("--job is no text")
    settings = read_settings(data_dir=data)
    from mus.cli import edit_requests

    _tell(_run(settings, edit_requests.undone(settings, edit_id, job)), as_json=as_json)


def _run(settings: Settings, work: Any) -> Any:
    import logging

    from mus.cli.console_logs import log_to_stderr
    from mus.cli.event_loop import run

    log_to_stderr(settings.log_level, settings.log_format, part="edit", at_least=logging.WARNING)
    return run(work)


def _tell(job_id: str, *, as_json: bool) -> None:
    import json

    print(json.dumps({"id": job_id, "state": "queued"}) if as_json else f"Job {job_id} is queued")
