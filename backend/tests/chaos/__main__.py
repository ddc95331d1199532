"""`make chaos SEED=n`: a run, told as it goes. Exit status 1 when something does not hold afterwards."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time

from chaos.own_database import KINDS
from chaos.plan import FAULT_KINDS, SERVER_FAULTS, Plan, Sizes, make_plan
from chaos.report import lines
from chaos.run import run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--seed", type=int, help="repeats a run; drawn and printed when it is not given")
    parser.add_argument("--seconds", type=float, default=120.0, help="how long harm is done (%(default)s)")
    parser.add_argument("--jobs", type=int, default=3000, help="without the children of families (%(default)s)")
    parser.add_argument("--workers", type=int, default=3, help="worker processes (%(default)s)")
    parser.add_argument("--files", type=int, default=160, help="music files at the beginning (%(default)s)")
    parser.add_argument("--settle", type=float, default=150.0, help="seconds it may take to settle (%(default)s)")
    parser.add_argument(
        "--without", action="append", default=[], choices=FAULT_KINDS, help="leave these faults out"
    )
    parser.add_argument("--plan", action="store_true", help="print the whole plan and do nothing")
    parser.add_argument("--database", default="sqlite", choices=KINDS, help="(%(default)s)")
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else random.randrange(10**6)
    without = frozenset(given.without) | (SERVER_FAULTS if given.database == "sqlite" else frozenset())
    sizes = Sizes(given.seconds, given.jobs, given.workers, given.files, dead_after_seconds=2.0)
    plan = make_plan(seed, sizes, without=without)
    if given.plan:
        print(*plan.lines(), sep="\n")
        return 0
    _introduce(plan)
    began = time.monotonic()
    outcome = asyncio.run(
        run(
            plan,
            settle_seconds=given.settle,
            database=given.database,
            say=lambda line: print(f"{time.monotonic() - began:6.1f} |{line}", flush=True),
        )
    )
    print(*lines(plan, outcome), sep="\n")
    return 1 if outcome.violations else 0


def _introduce(plan: Plan) -> None:
    print(f"seed {plan.seed}: {len(plan.faults)} faults in {plan.sizes.seconds:g} s, {plan.sizes.jobs} jobs")
    print(f"  in {len(plan.batches)} batches, {len(plan.requests)} requests, {len(plan.files)} files with")
    print(f"  {len(plan.changes)} changes; all of it with --plan")
    print(*(f"  {fault}" for fault in plan.faults), sep="\n", flush=True)


if __name__ == "__main__":
    sys.exit(main())
