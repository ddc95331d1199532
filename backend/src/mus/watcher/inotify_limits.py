"""How many folders the system lets a user watch, and how to raise that for good."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

_SYSTEM = Path("/proc/sys/fs/inotify")
#: Of this user namespace, as a container may have one: the lower one holds.
_NAMESPACE = Path("/proc/sys/user")
_ENOUGH = {"watches": 524_288, "instances": 1024}
_CANNOT = {
    "watches": "the system watches no more folders",
    "instances": "the system allows no more watchers",
}

Limit = Literal["watches", "instances"]


def present_limit(limit: Limit) -> tuple[str, int] | None:
    """The setting that holds, and its value; None where there is no inotify."""
    found = [
        (f"{name}.max_{suffix}", value)
        for name, suffix, file in (
            ("fs.inotify", f"user_{limit}", _SYSTEM / f"max_user_{limit}"),
            ("user", f"inotify_{limit}", _NAMESPACE / f"max_inotify_{limit}"),
        )
        if (value := _number_in(file)) is not None
    ]
    return min(found, key=lambda named: named[1], default=None)


def limit_reason(limit: Limit) -> str:
    """That the limit is reached, what it is, and the command that raises it."""
    return f"{_CANNOT[limit]}: {advice(limit)}"


def advice(limit: Limit, *, at_least: int = 0) -> str:
    """The present limit, and the command that raises it for good."""
    present = present_limit(limit)
    if present is None:
        return "its limit is not to be seen"
    name, value = present
    wanted = max(_ENOUGH[limit], 2 * value, at_least)
    command = f"echo {name}={wanted} | sudo tee /etc/sysctl.d/60-mus.conf && sudo sysctl --system"
    return f"{name} is {value}; raise it for good, on the machine itself if this is a container, with `{command}`"


def _number_in(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None
