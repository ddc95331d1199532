"""What the tests' brokers refuse."""

from __future__ import annotations

#: DragonflyDB has no Redis Functions: whoever leans on them shall fail here too (DESIGN §3).
NO_FUNCTIONS = ("--user", "default", "on", "nopass", "~*", "&*", "+@all", "-function", "-fcall", "-fcall_ro")
