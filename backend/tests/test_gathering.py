"""Groups of what many ask for at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar

import pytest

from mus.gathering import Gathering


class Kitchen:
    """Cooks one group at a time, and only when it may."""

    def __init__(self, *, apart_seconds: float = 0.0) -> None:
        self.groups: list[list[str]] = []
        self.may_serve = asyncio.Event()
        self.order = Gathering[str, str](self._cook, apart_seconds=apart_seconds)

    async def _cook(self, dishes: Sequence[str]) -> list[str | BaseException]:
        self.groups.append(list(dishes))
        await self.may_serve.wait()
        if "poison" in dishes:
            raise ValueError("nobody eats today")
        return [KeyError(dish) if dish == "unknown" else dish.upper() for dish in dishes]


async def test_what_comes_while_a_group_is_under_way_is_the_next_group() -> None:
    kitchen = Kitchen()
    first = [kitchen.order(dish) for dish in ("soup", "bread")]
    await asyncio.sleep(0)
    later = [kitchen.order(dish) for dish in ("fish", "unknown", "cake")]
    kitchen.may_serve.set()
    answers = await asyncio.gather(*first, *later, return_exceptions=True)
    assert kitchen.groups == [["soup", "bread"], ["fish", "unknown", "cake"]]
    assert [answer for answer in answers if isinstance(answer, str)] == ["SOUP", "BREAD", "FISH", "CAKE"]
    assert isinstance(answers[3], KeyError)


async def test_what_comes_soon_after_a_group_waits_a_moment_for_others() -> None:
    kitchen = Kitchen(apart_seconds=0.2)
    kitchen.may_serve.set()
    assert await kitchen.order("soup") == "SOUP"
    fish = kitchen.order("fish")
    for _ in range(3):
        await asyncio.sleep(0)
    assert await asyncio.gather(fish, kitchen.order("cake")) == ["FISH", "CAKE"]
    assert kitchen.groups == [["soup"], ["fish", "cake"]]


async def test_a_group_that_fails_fails_for_each_of_it_and_for_no_later_one() -> None:
    kitchen = Kitchen()
    kitchen.may_serve.set()
    answers = await asyncio.gather(kitchen.order("soup"), kitchen.order("poison"), return_exceptions=True)
    assert [str(answer) for answer in answers] == ["nobody eats today"] * 2
    assert await kitchen.order("bread") == "BREAD"


async def test_who_is_cancelled_takes_the_order_back_and_keeps_nobody_from_theirs() -> None:
    kitchen = Kitchen()

    async def guest(dish: str) -> str:
        return await kitchen.order(dish)

    eaten = asyncio.create_task(guest("soup"))
    await asyncio.sleep(0)
    waiting = [asyncio.create_task(guest(dish)) for dish in ("fish", "cake")]
    await asyncio.sleep(0)
    eaten.cancel()
    waiting[0].cancel()
    kitchen.may_serve.set()
    assert await waiting[1] == "CAKE"
    await kitchen.order.idle()
    assert kitchen.groups == [["soup"], ["cake"]]


async def test_nobody_waits_for_a_group_whose_loop_ends() -> None:
    kitchen = Kitchen()
    under_way = kitchen.order("soup")
    await asyncio.sleep(0)
    waiting = kitchen.order("bread")
    (working,) = (task for task in asyncio.all_tasks() if task.get_name() == "mus-gathering")
    working.cancel()
    for answer in (under_way, waiting):
        with pytest.raises(asyncio.CancelledError):
            await answer


async def test_what_is_done_for_many_runs_in_the_context_of_none_of_them() -> None:
    whose: ContextVar[str] = ContextVar("whose", default="nobody's")

    async def look(_: Sequence[str]) -> list[str]:
        return [whose.get()]

    whose.set("mine")
    assert await Gathering[str, str](look)("whose?") == "nobody's"
