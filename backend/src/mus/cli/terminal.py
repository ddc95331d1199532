"""What tables for people have in common."""

from __future__ import annotations

from datetime import datetime

from rich.console import Console


def table_console() -> Console:
    """Into a pipe or a file: lines as long as they are, nothing cut."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=250)


def local_time(moment: datetime | None) -> str:
    """In the zone of whoever reads it; nothing for None."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S") if moment else ""
