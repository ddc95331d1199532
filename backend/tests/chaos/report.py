"""What a run did and came to, for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from chaos.plan import Plan
from chaos.run import Outcome


def lines(plan: Plan, outcome: Outcome) -> Iterator[str]:
    yield ""
    yield f"seed {plan.seed}"
    yield from _counts("faults", outcome.faults)
    yield from _counts("faults that were not possible", outcome.faults_not_possible)
    yield from _counts("files", outcome.files)
    yield from _counts("answers", outcome.answers)
    yield from _counts("jobs by state", outcome.jobs)
    for name, figure in outcome.figures.items():
        yield f"{name}: {figure:g}"
    if not outcome.violations:
        yield "everything holds"
        return
    yield f"\n{len(outcome.violations)} things do not hold (repeat with --seed {plan.seed}):"
    yield from (f"  - {violation}" for violation in outcome.violations)
    yield f"the data folder and the logs are kept: {outcome.folder}"


def _counts(title: str, counts: Mapping[str, int]) -> Iterator[str]:
    if counts:
        yield f"{title}: " + ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
