"""Log lines on stderr. Below `mus up` the parent puts the part's name before each of them."""

from __future__ import annotations

import logging
import sys

#: They tell every job, query or connection at INFO.
_TALKATIVE = (
    "streaq",
    "coredis",
    "watchfiles",
    "alembic",
    "sqlalchemy",
    "asyncio",
    "httpx",
    "uvicorn",
)


def log_to_stderr(level: str, *, at_least: int = logging.DEBUG) -> None:
    """Begin logging; `at_least` keeps a command quiet that talks to people itself."""
    wanted = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(
        stream=sys.stderr,
        level=max(wanted, at_least if wanted > logging.DEBUG else wanted),
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
        force=True,
    )
    if wanted > logging.DEBUG:
        for name in _TALKATIVE:
            logging.getLogger(name).setLevel(logging.WARNING)
