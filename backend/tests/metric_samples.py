"""Reading the page of `GET /metrics` in tests."""

from __future__ import annotations

import httpx
from prometheus_client.parser import text_string_to_metric_families

from mus.broker.runtime import Runtime
from mus.metrics import TALLY


class Samples:
    """A page, parsed by prometheus_client's own parser."""

    def __init__(self, page: str) -> None:
        self.families = {family.name: family for family in text_string_to_metric_families(page)}
        self._values = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families.values()
            for sample in family.samples
        }

    @property
    def names(self) -> set[str]:
        """Of all samples, with `_total`, `_bucket`, `_sum`, `_count`."""
        return {name for name, _ in self._values}

    def get(self, name: str, **labels: str) -> float | None:
        return self._values.get((name, frozenset(labels.items())))

    def labels_of(self, name: str) -> list[dict[str, str]]:
        return [dict(labels) for found, labels in self._values if found == name]


async def scrape(client: httpx.AsyncClient) -> Samples:
    answer = await client.get("http://127.0.0.1/metrics")
    assert answer.status_code == 200, answer.text
    return Samples(answer.text)


def forget_counts() -> None:
    """Drop what earlier tests of this process counted."""
    while (batch := TALLY.batch()) is not None:
        TALLY.confirm(batch)


def key_of(runtime: Runtime) -> str:
    return f"mus:{runtime.connection.queue_name}:metrics"
