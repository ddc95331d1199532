"""Counters of many processes in one hash at a broker that comes and goes."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from redis.exceptions import WatchError

from broker_rules import NO_FUNCTIONS
from metric_samples import key_of
from mus.broker.embedded_server import embedded_server
from mus.broker.metrics_hash import flush, read_sums
from mus.broker.runtime import Runtime
from mus.broker.streaq_broker import broker
from mus.metrics import JOB_WAIT, SCANS, Tally
from mus.persistence.database import Database

SCAN = ("mus_scans_total", "succeeded", "quick")


async def test_what_two_processes_counted_adds_up(runtime: Runtime) -> None:
    one, two = Tally(), Tally()
    one.count(SCANS, "succeeded", "quick", amount=2)
    two.count(SCANS, "succeeded", "quick", amount=3)
    two.observe(JOB_WAIT, "low_priority", "read_files", value=0.75)
    assert await flush(runtime.connection, one, process="one")
    assert await flush(runtime.connection, two, process="two")
    one.count(SCANS, "succeeded", "quick")
    assert await flush(runtime.connection, one, process="one")
    assert await read_sums(runtime.connection) == {
        SCAN: 6,
        ("mus_job_wait_seconds", "1.0", "low_priority", "read_files"): 1,
        ("mus_job_wait_seconds", "sum", "low_priority", "read_files"): 0.75,
    }


async def test_nothing_counted_asks_nothing_of_the_broker(runtime: Runtime) -> None:
    assert await flush(runtime.connection, Tally())
    assert not await runtime.connection.redis.exists(key_of(runtime))


async def test_a_batch_whose_answer_was_lost_is_not_added_again(runtime: Runtime) -> None:
    tally = Tally()
    tally.count(SCANS, "succeeded", "quick")
    first = tally.batch()
    assert await flush(runtime.connection, tally, process="p")
    # As if its answer had never come: the process still has the batch.
    forgetful = Tally()
    forgetful.count(SCANS, "succeeded", "quick")
    assert forgetful.batch() == first
    forgetful.count(SCANS, "succeeded", "quick", amount=10)
    assert await flush(runtime.connection, forgetful, process="p")
    assert (await read_sums(runtime.connection))[SCAN] == 11


async def test_a_try_that_arrives_late_changes_nothing_once_a_later_one_came(runtime: Runtime) -> None:
    redis, mark = runtime.connection.redis, f"{key_of(runtime)}:p"
    tally = Tally()
    tally.count(SCANS, "succeeded", "quick")
    async with redis.pipeline(transaction=True) as late:
        await late.watch(mark)
        late.multi()
        late.hincrbyfloat(key_of(runtime), "never", 1)
        assert await flush(runtime.connection, tally, process="p")
        with pytest.raises(WatchError):
            await late.execute()
    assert await read_sums(runtime.connection) == {SCAN: 1}


async def test_counts_wait_while_the_broker_is_down_and_are_added_once_it_is_back(
    tmp_path: Path, database: Database, queue_name: str
) -> None:
    async with embedded_server(tmp_path, extra_arguments=NO_FUNCTIONS) as server:
        await server.ready()
        url = server.url
        async with broker.connected(database, url, queue_name) as connection:
            tally = Tally()
            tally.count(SCANS, "succeeded", "quick")
            assert await flush(connection, tally)
    async with broker.connected(database, url, queue_name) as connection:
        tally.count(SCANS, "succeeded", "quick", amount=2)
        assert not await flush(connection, tally)
        tally.count(SCANS, "succeeded", "quick", amount=4)
        assert not await flush(connection, tally)
        async with embedded_server(tmp_path, extra_arguments=NO_FUNCTIONS) as server:
            await server.ready()
            assert await flush(connection, tally)
            assert (await read_sums(connection))[SCAN] == 7


async def test_a_broker_that_stands_still_delays_counts_and_doubles_none(
    tmp_path: Path, database: Database, queue_name: str
) -> None:
    async with embedded_server(tmp_path, extra_arguments=NO_FUNCTIONS) as server:
        await server.ready()
        async with broker.connected(database, server.url, queue_name) as connection:
            tally = Tally()
            assert server.process_id is not None
            for _ in range(2):
                tally.count(SCANS, "succeeded", "quick")
                os.kill(server.process_id, signal.SIGSTOP)
                try:
                    assert not await flush(connection, tally)
                finally:
                    os.kill(server.process_id, signal.SIGCONT)
                assert await flush(connection, tally)
            assert (await read_sums(connection))[SCAN] == 2


async def test_a_broker_that_lost_its_memory_counts_from_zero(runtime: Runtime) -> None:
    tally = Tally()
    tally.count(SCANS, "succeeded", "quick", amount=5)
    assert await flush(runtime.connection, tally, process="p")
    async for key in runtime.connection.redis.scan_iter(f"mus:{runtime.connection.queue_name}:*"):
        await runtime.connection.redis.delete(key)
    assert await read_sums(runtime.connection) == {}
    tally.count(SCANS, "succeeded", "quick")
    assert await flush(runtime.connection, tally, process="p")
    assert (await read_sums(runtime.connection))[SCAN] == 1


async def test_fields_that_are_not_ours_are_left_out(runtime: Runtime) -> None:
    junk = {
        "": "1",
        "mus_scans_total": "1",
        "[": "1",
        "[" * 5000: "1",
        "{}": "1",
        "[]": "1",
        "[1]": "1",
        '["mus_scans_total"]': "1",
        '["mus_scans_total", "succeeded", "quick", "more"]': "1",
        '["mus_scans_total", "succeeded", 3]': "1",
        '["mus_scans_total", "a\\nb", "quick"]': "1",
        '["mus_scans_total", "\\ud800", "quick"]': "1",
        f'["mus_scans_total", "{"x" * 101}", "quick"]': "1",
        '["mus_unheard_of_total"]': "1",
        '["mus_job_wait_seconds"]': "1",
        '["mus_job_wait_seconds", "0.007", "q", "t"]': "1",
        '["mus_job_wait_seconds", "sum", "q"]': "1",
        '["mus_scans_total", "failed", "quick"]': "many",
        '["mus_scans_total", "failed", "full"]': "nan",
        '["mus_scans_total", "cancelled", "full"]': "-1",
        '["mus_scans_total", "cancelled", "quick"]': "inf",
    }
    await runtime.connection.redis.hset(key_of(runtime), mapping=junk)  # type: ignore[misc]
    tally = Tally()
    tally.count(SCANS, "succeeded", "quick")
    # One of its fields cannot be added to; the others are, and it is not tried for ever.
    tally.count(SCANS, "failed", "quick")
    assert await flush(runtime.connection, tally)
    assert tally.batch() is None
    assert await read_sums(runtime.connection) == {SCAN: 1}


async def test_a_hash_that_is_none_loses_the_counts_and_ends_nothing(runtime: Runtime) -> None:
    await runtime.connection.redis.set(key_of(runtime), "not a hash")
    tally = Tally()
    tally.count(SCANS, "succeeded", "quick")
    assert await flush(runtime.connection, tally)
