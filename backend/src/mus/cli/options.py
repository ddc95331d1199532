"""Options that several commands take, and how wrong ones are told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mus.cli.wrong_usage import WrongUsageError, check_music_dir
from mus.errors import BadRequestError, ConfigurationError

if TYPE_CHECKING:
    from mus.broker.queues import Queue
    from mus.config import Settings

MusicOption = Annotated[
    Path | None,
    typer.Option("--music", metavar="DIR", help="The folder with the music (else MUS_MUSIC_DIR)."),
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="Where mus keeps its database and covers (else MUS_DATA_DIR, else ~/.local/share/mus).",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def read_settings(**overrides: Any) -> Settings:
    """Settings from the options (those that are not None) and the environment.

    Raises WrongUsageError for a value that cannot be, a music folder that cannot be read among them.
    """
    from mus.config import load_settings

    try:
        settings = load_settings(**overrides)
    except ConfigurationError as error:
        raise WrongUsageError(error.user_message) from None
    if settings.log_level.upper() not in LOG_LEVELS:
        raise WrongUsageError(f"MUS_LOG_LEVEL: {settings.log_level!r} is none of {', '.join(LOG_LEVELS)}")
    if settings.music_dir is not None:
        check_music_dir(Path(os.fsdecode(settings.roots.here(os.fsencode(settings.music_dir)))))
    if settings.data_dir.exists() and not settings.data_dir.is_dir():
        raise WrongUsageError(f"the data folder {str(settings.data_dir)!r} is a file, not a folder")
    return settings


NO_MUSIC = "say where the music is: --music DIR, or MUS_MUSIC_DIR"


def require_music(settings: Settings) -> None:
    """Raises WrongUsageError, before anything is made, when neither settings nor data folder know of music."""
    known = settings.database_url is not None or (settings.data_dir / "mus.db").exists()
    if settings.music_dir is None and not known:
        raise WrongUsageError(NO_MUSIC)


def is_text(argument: str) -> bool:
    """Whether what was typed has a form in UTF-8: an argument may be any bytes, a value in the database may not."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        return False
    return True


def queue_of(name: str) -> Queue:
    """Raises WrongUsageError, with the names there are, for any other."""
    from mus.broker.queues import queue_named

    try:
        return queue_named(name)
    except BadRequestError as error:
        raise WrongUsageError(error.user_message) from None
