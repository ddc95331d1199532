"""The settings of a command, from its options and the environment, and how wrong ones are told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mus.cli.wrong_usage import WrongUsageError, check_music_dir
from mus.errors import ConfigurationError

if TYPE_CHECKING:
    from mus.config import Settings

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
