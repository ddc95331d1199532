"""The dashboard shows metrics that there are, and all of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from mus.broker.metrics_hash import flush
from mus.broker.runtime import Runtime
from mus.metrics import COUNTED, Counter, Tally

ROOT = Path(__file__).parents[3]
DASHBOARD = json.loads((ROOT / "docs/grafana/mus.json").read_text())
#: Not a name inside another, as of a label.
_NAME = re.compile(r"\bmus_[a-z_]+\b")


def _queries(dashboard: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]


async def _exposed(runtime: Runtime, client: httpx.AsyncClient) -> set[str]:
    """Every name of the page, as queries use it."""
    tally = Tally()
    for metric in COUNTED:
        labels = ["x"] * len(metric.labels)
        if isinstance(metric, Counter):
            tally.count(metric, *labels)
        else:
            tally.observe(metric, *labels, value=1)
    assert await flush(runtime.connection, tally)
    page = (await client.get("http://127.0.0.1/metrics")).text
    described = set(re.findall(r"^# TYPE (\S+)", page, re.MULTILINE))
    return described | set(re.findall(r"^(mus_[a-z_]+)", page, re.MULTILINE))


async def test_the_dashboard_and_the_alerts_name_metrics_that_there_are(
    runtime: Runtime, client: httpx.AsyncClient
) -> None:
    exposed = await _exposed(runtime, client)
    named = {name for query in _queries(DASHBOARD) for name in _NAME.findall(query)}
    assert named <= exposed
    page = (ROOT / "docs/metrics.md").read_text()
    assert set(_NAME.findall(page)) - {"mus_"} <= exposed
    bare = {re.sub(r"_(bucket|sum|count)$", "", name) for name in exposed}
    told = {re.sub(r"_(bucket|sum|count)$", "", name) for name in named}
    assert bare - told == {"mus_build_info"} - told, "metrics that no panel shows"
    assert bare <= set(_NAME.findall(page)), "metrics that docs/metrics.md does not tell of"


def test_the_dashboard_can_be_imported_anywhere() -> None:
    assert DASHBOARD["id"] is None
    assert DASHBOARD["templating"]["list"][0]["type"] == "datasource"
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    for panel in DASHBOARD["panels"]:
        assert panel["type"] == "row" or panel["datasource"]["uid"] == "${datasource}"
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24


@pytest.mark.parametrize("query", _queries(DASHBOARD))
def test_a_counter_is_shown_as_a_rate(query: str) -> None:
    for name in re.findall(r"\bmus_[a-z_]+_(?:total|bucket|sum|count)\b[^)]*", query):
        assert "[" in name, query
