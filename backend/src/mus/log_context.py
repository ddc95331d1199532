"""Which job a log line belongs to: every line logged while a job runs carries it, libraries' lines included."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

#: What a line says of its job.
FIELDS = ("job", "task", "delivery")

# A ContextVar follows the job into its tasks and `asyncio.to_thread`, and keeps jobs that run side by side apart.
_fields: ContextVar[Mapping[str, str] | None] = ContextVar("mus_log_fields", default=None)


@contextmanager
def logged_as(fields: Mapping[str, str]) -> Iterator[None]:
    """Put `fields` on every line that is logged in the block, and in what the block starts."""
    token = _fields.set(fields)
    try:
        yield
    finally:
        _fields.reset(token)


class JobFields(logging.Filter):
    """Gives each record the attributes `FIELDS`: the running job's, or None.

    A filter of the handler, not of a logger: those see only the lines of their own logger.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        fields = _fields.get() or {}
        for name in FIELDS:
            if not hasattr(record, name):
                setattr(record, name, fields.get(name))
        return True
