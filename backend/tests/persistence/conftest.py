from __future__ import annotations

import pytest


@pytest.fixture(params=["sqlite", "postgresql"])
def database_kind(request: pytest.FixtureRequest) -> str:
    """These tests run on both databases."""
    kind: str = request.param
    return kind
