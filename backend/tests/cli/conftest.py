from __future__ import annotations

import pytest


@pytest.fixture
def database_settings(database_url: str | None) -> dict[str, str]:
    """For commands that shall use the test's database."""
    return {} if database_url is None else {"database_url": database_url}
