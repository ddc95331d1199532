"""What tables for people, and JSON for programs, have in common."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from rich.console import Console


def table_console() -> Console:
    """Into a pipe or a file: lines as long as they are, nothing cut."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=250)


def local_time(moment: datetime | str | None) -> str:
    """An instant, or its ISO form, in the zone of whoever reads it; nothing for None."""
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S") if moment else ""


def duration(seconds: float | None) -> str:
    """`0.3 s`, `12 s`, `3 min`, `5.2 h`, `4.0 d`; nothing for None."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{seconds:.1f} s"
    for longest, unit_seconds, unit in ((120, 1, "s"), (7200, 60, "min")):
        if seconds < longest:
            return f"{seconds / unit_seconds:.0f} {unit}"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} d"


def plain(value: Any) -> Any:
    """JSON-ready."""
    return value.isoformat() if isinstance(value, datetime) else value
