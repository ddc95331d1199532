"""STATE_MACHINE.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mus.ledger import job_states
from mus.library import states

DOCUMENT = (Path(__file__).parents[2] / "STATE_MACHINE.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return re.split(r"^## ", DOCUMENT, flags=re.MULTILINE)[1 if title == "Tracks" else 2]


def rows_of(title: str, columns: int) -> list[tuple[str, ...]]:
    lines = [line for line in section(title).splitlines() if line.startswith("|") and not line.startswith("|---")]
    cells = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]
    return [row for row in cells if len(row) == columns][1:]


@pytest.mark.parametrize(
    ("title", "transitions", "enum"),
    [
        ("Tracks", states.TRANSITIONS, states.TrackState),
        ("Jobs", job_states.TRANSITIONS, job_states.JobState),
    ],
)
def test_the_document_lists_every_transition_and_every_state_and_no_other(
    title: str, transitions: tuple[states.Transition, ...], enum: type[states.TrackState]
) -> None:
    in_code = [
        (str(row.source or "-"), row.event, str(row.target or "-"), row.set_by, row.tells) for row in transitions
    ]
    assert rows_of(title, 5) == in_code
    assert [name for name, _ in rows_of(title, 2)] == [str(state) for state in enum]
    drawn = {
        tuple("-" if end == "[*]" else end for end in edge)
        for edge in re.findall(r"^ +(\S+) --> (\S+):", section(title), flags=re.MULTILINE)
    }
    assert drawn == {(source, target) for source, _, target, _, _ in in_code}
