"""Does together what many coroutines ask for at the same time: one transaction, one round trip for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Generic, TypeVar

Order = TypeVar("Order")
Result = TypeVar("Result")


class Gathering(Generic[Order, Result]):
    """A group is what came while the one before was under way: an idle one keeps nobody waiting, a busy one makes
    its groups larger by itself."""

    def __init__(
        self,
        do: Callable[[Sequence[Order]], Awaitable[Sequence[Result | BaseException]]],
        *,
        apart_seconds: float = 0.0,
    ) -> None:
        """`do` answers each order of a group, in their order, by a result or by what is to be raised for it; what
        it raises itself is raised for all of them. Groups begin at least so far apart."""
        self._do = do
        self._apart_seconds = apart_seconds
        self._next_begin = 0.0
        self._waiting: list[tuple[Order, asyncio.Future[Result]]] = []
        self._working: asyncio.Task[None] | None = None

    def __call__(self, order: Order) -> asyncio.Future[Result]:
        """Have it done with others. A caller that is cancelled while it awaits the answer takes its order back,
        unless it is under way."""
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((order, answer))
        if self._working is None:
            # It begins when this turn of the loop is over: whoever is ready in the same turn is in the same group.
            # In a context of its own, as what is done for many belongs to none of them.
            self._working = asyncio.create_task(self._work(), name="mus-gathering", context=Context())
        return answer

    async def idle(self) -> None:
        """Wait until all that was asked for is done."""
        while self._working is not None:
            await asyncio.wait({self._working})

    async def _work(self) -> None:
        group: list[tuple[Order, asyncio.Future[Result]]] = []
        try:
            while self._waiting:
                await self._moment()
                group = [(order, answer) for order, answer in self._waiting if not answer.done()]
                self._waiting = []
                if not group:
                    break
                try:
                    results = await self._do([order for order, _ in group])
                except Exception as error:  # noqa: BLE001 - it is raised where they wait for it
                    results = [error] * len(group)
                for (_, answer), result in zip(group, results, strict=True):
                    if answer.done():
                        continue  # its caller was cancelled
                    if isinstance(result, BaseException):
                        answer.set_exception(result)
                    else:
                        answer.set_result(result)
        finally:
            # Cancelled with the whole loop: nobody shall wait for what never comes.
            for _, answer in [*group, *self._waiting]:
                answer.cancel()
            self._waiting = []
            self._working = None

    async def _moment(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() < self._next_begin:
            await asyncio.sleep(self._next_begin - loop.time())
        self._next_begin = loop.time() + self._apart_seconds
