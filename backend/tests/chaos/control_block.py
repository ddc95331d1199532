"""What the harness tells a process while it runs, and what that counts: a file of a few numbers, mapped by both."""

from __future__ import annotations

import mmap
import struct
import time
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

_DOUBLE = struct.Struct("d")
#: Slots of eight bytes, in order.
_SLOTS = ("clock_offset_seconds", "runs_twice", "started", "repeats")


class ControlBlock:
    """`clock_offset_seconds` and `runs_twice` are the harness's to set; the others are counted by the process, and
    stay over its deaths."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(8 * len(_SLOTS)))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 8 * len(_SLOTS))

    def get(self, name: str) -> float:
        return float(_DOUBLE.unpack_from(self._memory, 8 * _SLOTS.index(name))[0])

    def set(self, name: str, value: float) -> None:
        _DOUBLE.pack_into(self._memory, 8 * _SLOTS.index(name), value)

    def count(self, name: str) -> None:
        self.set(name, self.get(name) + 1)


def shift_clock(block: ControlBlock) -> None:
    """Make this process's wall clock wrong by the block's offset, from now on. Monotonic clocks stay right.

    `time` itself is changed, and the name `datetime` where mus and streaQ ask it for the time: the class is
    written in C and does not call `time`. (libfaketime would do the same from outside, where it is installed.)
    """
    true_time, true_time_ns = time.time, time.time_ns

    def shifted_time() -> float:
        return true_time() + block.get("clock_offset_seconds")

    def shifted_time_ns() -> int:
        return true_time_ns() + int(block.get("clock_offset_seconds") * 1e9)

    time.time, time.time_ns = shifted_time, shifted_time_ns

    class ShiftedDatetime(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return datetime.fromtimestamp(shifted_time(), tz)

    import streaq.worker

    import mus.broker.publisher
    import mus.persistence.models

    for module in (mus.persistence.models, mus.broker.publisher, streaq.worker):
        # A module that asks another clock by now would go on with the right time, and nobody would notice.
        assert module.datetime is datetime, module
        module.datetime = ShiftedDatetime
