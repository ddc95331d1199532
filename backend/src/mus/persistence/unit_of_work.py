"""The unit of work: one transaction and what must happen after its commit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

_current: ContextVar[UnitOfWork | None] = ContextVar("mus_unit_of_work", default=None)


class UnitOfWork:
    """A write transaction under way. Code inside it never commits; only the edge that opened it does."""

    __slots__ = ("_after_commit", "changed_jobs", "outbox", "session")

    def __init__(self, session: AsyncSession) -> None:
        self.session = session
        #: Messages gathered in this transaction, for one `after_commit` action to send together.
        self.outbox: list[Any] = []
        #: Jobs whose rows this transaction changed, each once.
        self.changed_jobs: dict[str, None] = {}
        self._after_commit: list[Callable[[], Awaitable[None]]] = []

    def after_commit(self, action: Callable[[], Awaitable[None]]) -> None:
        """Run `action` once the transaction stands; it is dropped on rollback.

        It may be lost if the process dies in between, so it must be something that reconcile makes good.
        """
        self._after_commit.append(action)

    async def committed(self) -> None:
        for action in self._after_commit:
            await action()


def current_unit_of_work() -> UnitOfWork:
    """The unit of work this code runs in. Raises RuntimeError when there is none: that is a bug."""
    work = _current.get()
    if work is None:
        raise RuntimeError("this writes to the database, so it must run inside `database.unit_of_work()`")
    return work


@contextmanager
def entered(work: UnitOfWork) -> Iterator[UnitOfWork]:
    """Make `work` the current one for the block."""
    if _current.get() is not None:
        raise RuntimeError("a unit of work is open already; the outer one would never see this one's commit")
    token = _current.set(work)
    try:
        yield work
    finally:
        _current.reset(token)
