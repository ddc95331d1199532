"""Log lines on stderr, as text or as JSON (`MUS_LOG_FORMAT`). Below `mus up` the parent puts the part's name before
each line of text.

Names of files and tags are other people's text and get into messages. Neither form lets them write a line of their
own, or reach the terminal: a line break or escape sequence is shown, not done.
"""

from __future__ import annotations

import logging
import re
import sys

from mus.log_context import JobFields

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
#: Control characters, what else breaks or reorders lines on a terminal, and halves of surrogate pairs.
_UNSHOWABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def log_to_stderr(level: str, log_format: str, *, part: str, at_least: int = logging.DEBUG) -> None:
    """Begin logging as `part`; `at_least` keeps a command quiet that talks to people itself."""
    wanted = logging.getLevelNamesMapping()[level.upper()]
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(JobFields())
    if log_format == "json":
        from mus.cli.json_logs import JsonLines

        handler.setFormatter(JsonLines(part))
        logging.captureWarnings(True)
    else:
        handler.setFormatter(ConsoleLines())
    logging.basicConfig(
        level=max(wanted, at_least if wanted > logging.DEBUG else wanted), handlers=[handler], force=True
    )
    if wanted > logging.DEBUG:
        for name in _TALKATIVE:
            logging.getLogger(name).setLevel(logging.WARNING)


def one_line(text: str) -> str:
    """`text` with everything spelt out that would end the line or move the cursor."""
    return _UNSHOWABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class ConsoleLines(logging.Formatter):
    """Lines for people: time, level, logger, the job it is about, message.

    What an exception says may have several lines; they are indented, so that none can pass for a log line.
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s%(about)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        record.message = one_line(record.message)
        record.about = _about(record)
        return super().formatMessage(record)

    def formatException(self, ei: logging._SysExcInfoType) -> str:  # noqa: N802
        return _indented(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802
        return _indented(stack_info)


def _about(record: logging.LogRecord) -> str:
    """` [read_files 0198…c4f1.1.1]`: ids of one day begin alike, so both ends are shown."""
    task, delivery = getattr(record, "task", None), getattr(record, "delivery", None)
    if not task or not delivery:
        return ""
    job, _, rest = str(delivery).partition(".")
    return f" [{task} {job[:4]}…{job[-4:]}.{rest}]"


def _indented(text: str) -> str:
    return "\n".join("    " + one_line(line) for line in text.split("\n"))
