"""Log lines as JSON: one object a line, always with the same members."""

from __future__ import annotations

import json
import logging
import time
from datetime import UTC, datetime
from typing import Any

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

from mus.log_context import FIELDS

#: Members of every line. `time` is UTC as ISO 8601; the last four are null where there is nothing to say.
MEMBERS = ("time", "level", "logger", "part", "message", *FIELDS, "exception")


class JsonLines(JsonFormatter):
    """Formats a record as `MEMBERS`, then whatever else was given as `extra`."""

    def __init__(self, part: str) -> None:
        # uvicorn's lines carry their message a second time, coloured.
        super().__init__(reserved_attrs=[*RESERVED_ATTRS, "taskName", "color_message", *FIELDS])
        self._part = part

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        extra: dict[str, Any] = {}
        super().add_fields(extra, record, message_dict)
        log_data.update(
            time=_utc(record.created),
            level=record.levelname,
            logger=record.name,
            # Below `mus up` the watcher is in the API's process.
            part="watcher" if record.name.startswith("mus.watcher") else self._part,
            message=record.message,
            **{name: getattr(record, name, None) for name in FIELDS},
            exception=extra.pop("exc_info", None),
        )
        # No extra may pose as one of the members.
        log_data.update((name, value) for name, value in extra.items() if name not in log_data)


def wrapped(part: str, line: str, level: str) -> str:
    """A line that came as text, as by a native library, in the form of the others."""
    members: dict[str, Any] = dict.fromkeys(MEMBERS)
    members |= {"time": _utc(time.time()), "level": level, "logger": "output", "part": part, "message": line}
    return json.dumps(members)


def parsed(line: str) -> dict[str, Any] | None:
    """The members of a line of `JsonLines`; None for any other text."""
    if not line.startswith("{"):
        return None
    try:
        members = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return members if isinstance(members, dict) and members.keys() >= set(MEMBERS) else None


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
