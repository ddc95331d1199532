"""The short form of `make chaos`: a few hundred jobs and scans, every kind of fault at least once."""

from __future__ import annotations

import pytest

from chaos.own_database import KINDS
from chaos.plan import FAULT_KINDS, SERVER_FAULTS, Sizes, make_plan
from chaos.run import run

SIZES = Sizes(seconds=22.0, jobs=300, workers=2, files=80, dead_after_seconds=2.0)


def test_a_seed_repeats_the_whole_plan_and_another_seed_does_not() -> None:
    assert make_plan(1, SIZES) == make_plan(1, SIZES)
    assert make_plan(1, SIZES) != make_plan(2, SIZES)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("database_kind", KINDS)
async def test_whatever_dies_freezes_or_forgets_every_promise_holds_afterwards(database_kind: str) -> None:
    without = SERVER_FAULTS if database_kind == "sqlite" else frozenset[str]()
    plan = make_plan(11, SIZES, without=without)
    assert {fault.kind for fault in plan.faults} == set(FAULT_KINDS) - without
    said: list[str] = []
    outcome = await run(plan, settle_seconds=120.0, say=said.append, database=database_kind)
    assert outcome.violations == [], "\n".join([*said, *outcome.violations, f"kept: {outcome.folder}"])
    assert outcome.figures["jobs in all"] >= SIZES.jobs
