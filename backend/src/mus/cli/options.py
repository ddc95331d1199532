"""Options that several commands take, and how wrong ones are told."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mus.cli.given_settings import NO_MUSIC as NO_MUSIC
from mus.cli.given_settings import read_settings as read_settings
from mus.cli.given_settings import require_music as require_music
from mus.cli.wrong_usage import WrongUsageError
from mus.errors import BadRequestError

if TYPE_CHECKING:
    from mus.broker.queues import Queue

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
