from __future__ import annotations

import pytest


@pytest.fixture(params=["the broker", "DragonflyDB's rules"])
def broker_url(request: pytest.FixtureRequest) -> str:
    """Each test here runs on the suite's broker, and again on a Valkey with DragonflyDB's rules."""
    return str(request.getfixturevalue("broker_url" if request.param == "the broker" else "judged_url"))
