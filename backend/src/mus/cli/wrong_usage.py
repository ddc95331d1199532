"""What a person asked for wrongly; needed before a command has time for its parser."""

from __future__ import annotations

import os

from mus.errors import UserFixableError


class WrongUsageError(UserFixableError):
    """The command line or a setting asks for what cannot be: exit status 2."""


def check_music_dir(folder: str | os.PathLike[str]) -> None:
    """Raises WrongUsageError for a folder that cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            next(entries, None)
    except FileNotFoundError:
        raise WrongUsageError(f"the music folder {str(folder)!r} does not exist") from None
    except NotADirectoryError:
        raise WrongUsageError(f"the music folder {str(folder)!r} is a file, not a folder") from None
    except OSError as error:
        raise WrongUsageError(f"the music folder {str(folder)!r} cannot be read: {error.strerror}") from None
