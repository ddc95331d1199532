"""What is published without streaQ is what streaQ publishes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from streaq.constants import REDIS_GROUP

from mus.broker import script_texts
from mus.broker.lane import Lane
from mus.broker.publisher import GROUP, PUBLISH_ERRORS, Publisher
from mus.broker.queues import Queue
from mus.ledger.deliveries import Delivery


async def _never(delivery_id: str) -> None:
    raise AssertionError(delivery_id)


@pytest.fixture
def publisher(broker_url: str, queue_name: str) -> Publisher:
    return Publisher(broker_url, queue_name)


def test_keys_and_group_are_streaqs(publisher: Publisher, broker_url: str, queue_name: str) -> None:
    lane = Lane(broker_url, queue_name, Queue.LOW, slots=1, worker_id="w", deliver=_never)
    names = [name for name in vars(publisher) if name.endswith("_key")]
    assert len(names) == 6
    assert {name: getattr(publisher, name) for name in names} == {name: getattr(lane, name) for name in names}
    assert GROUP == REDIS_GROUP


async def test_streaq_finds_its_task_in_what_is_published(
    publisher: Publisher, broker_url: str, queue_name: str
) -> None:
    delivery = Delivery("job", 1, 1, "a_task", Queue.LOW)
    lane = Lane(broker_url, queue_name, Queue.LOW, slots=1, worker_id="w", deliver=_never)
    async with publisher.opened(), lane:
        await publisher.publish([delivery])
        assert await publisher.missing([delivery.id, "another"]) == {"another"}
        found = json.loads(await lane.redis.get(lane.task_key + delivery.id) or "")
        assert (found["f"], found["a"], found["k"]) == ("a_task", [], {})
        assert [info.task_id for info in await lane.get_tasks_by_status("queued")] == [delivery.id]


async def test_a_broker_that_forgot_the_script_is_told_it_again_and_gets_each_message_once(
    publisher: Publisher,
) -> None:
    deliveries = [Delivery(f"job{number}", 1, 1, "t", Queue.LOW) for number in range(50)]
    async with publisher.opened():
        await publisher.publish(deliveries[:1])
        await publisher._redis.script_flush()
        await publisher.publish(deliveries[1:])
        assert await publisher._redis.xlen(publisher.stream_key + Queue.LOW) == len(deliveries)


async def test_a_broker_that_is_not_there_is_told_at_once(queue_name: str) -> None:
    gone = Publisher("redis://127.0.0.1:1/0", queue_name)
    async with gone.opened():
        with pytest.raises(PUBLISH_ERRORS):
            await gone.publish([Delivery("job", 1, 1, "t", Queue.LOW)])


def test_nothing_of_streaq_is_imported_to_enqueue() -> None:
    look = (
        "import sys, mus.api.app, mus.cli.main, mus.broker.streaq_broker as b, mus.broker.script_texts as s;"
        "s.shipped_scripts(); print(sorted({name.split('.')[0] for name in sys.modules} & {'streaq', 'coredis'}))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert script_texts.shipped_scripts()["publish_task"].sha
