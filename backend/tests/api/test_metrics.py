"""`GET /metrics`: what it shows, to whom, and that it shows it whatever is down."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import time
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from pydantic import SecretStr
from sqlalchemy import insert, text

import mus
from api.rows import add, add_tracks, calling, track
from broker_rules import NO_FUNCTIONS
from metric_samples import Samples, forget_counts, key_of, scrape
from mus.broker.embedded_server import embedded_server
from mus.broker.metrics_hash import flush
from mus.broker.queues import Queue
from mus.broker.runtime import Runtime
from mus.broker.streaq_broker import broker
from mus.config import Settings
from mus.library.states import TrackState
from mus.metrics import COUNTED, JOB_WAIT, JOBS_FINISHED, Histogram, Tally
from mus.persistence.database import Database
from mus.persistence.models import Job, Library, QueueRow, WorkerRow, utc_now

Client = httpx.AsyncClient
PAGE = "http://127.0.0.1/metrics"
QUEUE = "low_priority"


def job(task: str = "read_files", **values: Any) -> Job:
    number = secrets.token_hex(16)
    return Job(**{"id": number, "task": task, "queue": QUEUE, "arguments": {}, "state": "queued", **values})


# ------------------------------------------------------------------------------------------------------- what


async def test_queues_are_shown_as_they_are(client: Client, runtime: Runtime) -> None:
    now = utc_now()
    await add(
        runtime,
        job(created_at=now - timedelta(seconds=100)),
        job(run_after=now + timedelta(hours=1), created_at=now - timedelta(days=1)),
        job(state="retrying"),
        job(state="running"),
        job("scan_library", state="waiting"),
        job(state="succeeded", finished_at=now),
        job(state="failed", finished_at=now),
        job(state="failed", finished_at=now, cleared_at=now),
        QueueRow(name=QUEUE, paused_at=now),
    )
    page = await scrape(client)
    assert page.get("mus_queue_depth", queue=QUEUE) == 3
    assert page.get("mus_queue_running", queue=QUEUE) == 1
    assert page.get("mus_queue_waiting", queue=QUEUE) == 1
    assert 100 <= (page.get("mus_queue_oldest_wait_seconds", queue=QUEUE) or 0) < 160
    assert page.get("mus_queue_paused", queue=QUEUE) == 1
    assert page.get("mus_queue_failed", queue=QUEUE) == 1
    for name in ("depth", "running", "waiting", "oldest_wait_seconds", "paused", "failed"):
        assert page.get(f"mus_queue_{name}", queue="high_priority") == 0


async def test_parts_and_libraries_are_shown_as_they_are(
    client: Client, runtime: Runtime, library: Library
) -> None:
    long_ago, started = utc_now() - timedelta(hours=1), utc_now() - timedelta(seconds=100)
    scan = {"arguments": {"library_id": library.id}, "queue": "high_priority", "started_at": started}
    await add(
        runtime,
        WorkerRow(id="a", host="h", pid=1, queues=[], state="alive"),
        WorkerRow(id="b", host="h", pid=2, queues=[], state="alive", beat_at=long_ago),
        WorkerRow(id="c", host="h", pid=3, queues=[], state="stopped"),
        Library(name='of "Ann"\n', root=b"/nowhere", online=False),
        # Ids sort by time of creation: the failed one is the newest.
        job("scan_library", id="1", state="succeeded", result={"found": 1}, finished_at=started, **scan),
        job(
            "scan_library",
            id="2",
            state="succeeded",
            result={"found": 500},
            finished_at=started + timedelta(seconds=10),
            **scan,
        ),
        job("scan_library", id="3", state="failed", finished_at=started, **scan),
    )
    await add_tracks(runtime, track(library), track(library), track(library, status=TrackState.ERROR))
    page = await scrape(client)
    states = {labels["state"]: page.get("mus_workers", **labels) for labels in page.labels_of("mus_workers")}
    assert states == {"alive": 1, "dead": 1, "stopped": 1}
    assert page.get("mus_library_online", library="Music") == 1
    assert page.get("mus_library_online", library='of "Ann"\n') == 0
    assert page.get("mus_scan_files_per_second", library="Music") == 50
    assert page.get("mus_tracks", status="COMPLETE") == 2
    assert page.get("mus_tracks", status="ERROR") == 1
    assert page.get("mus_tracks", status="MISSING") == 0
    assert page.get("mus_broker_up") == 1
    assert 0 < (page.get("mus_broker_latency_seconds") or 0) < 1
    assert 0 < (page.get("mus_database_latency_seconds") or 0) < 5
    [build] = page.labels_of("mus_build_info")
    assert build["version"] == mus.__version__


async def test_buckets_are_cumulative_and_every_family_parses(client: Client, runtime: Runtime) -> None:
    tally = Tally()
    for value in (0.001, 0.02, 0.02, 0.3, 1e6):
        tally.observe(JOB_WAIT, QUEUE, "read_files", value=value)
    tally.count(JOBS_FINISHED, QUEUE, "read_files", "succeeded", amount=5)
    assert await flush(runtime.connection, tally)
    page = await scrape(client)

    def below(bound: str) -> float | None:
        return page.get("mus_job_wait_seconds_bucket", queue=QUEUE, task="read_files", le=bound)

    assert [below(bound) for bound in JOB_WAIT.bounds] == [1, 1, 3, 3, 3, 3, *[4] * 11, 5]
    assert page.get("mus_job_wait_seconds_count", queue=QUEUE, task="read_files") == 5
    assert page.get("mus_job_wait_seconds_sum", queue=QUEUE, task="read_files") == pytest.approx(1e6 + 0.341)
    assert page.get("mus_jobs_finished_total", queue=QUEUE, task="read_files", outcome="succeeded") == 5
    for metric in COUNTED:
        family = page.families[metric.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (
            "histogram" if isinstance(metric, Histogram) else "counter",
            metric.help,
        )
    # Each series that can be known is there from the start: else its first increase is not seen.
    assert page.get("mus_deliveries_republished_total") == 0
    assert page.get("mus_scans_total", outcome="failed", mode="full") == 0
    assert page.get("mus_jobs_finished_total", queue=QUEUE, task="scan_library", outcome="failed") == 0
    assert page.get("mus_jobs_finished_total", queue=QUEUE, task="process_file_created", outcome="failed") is None


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "text/plain"),
        ("*/*", "text/plain"),
        ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", "text/plain"),
        ("application/openmetrics-text;version=1.0.0;q=0.6,text/plain;q=0.3", "application/openmetrics-text"),
        ("application/openmetrics-text;version=none", "application/openmetrics-text"),
        ("application/openmetrics-text;version=9.9.9\x7f;escaping=allow-utf-8", "application/openmetrics-text"),
    ],
)
async def test_the_format_is_the_one_that_is_asked_for(client: Client, accept: str, kind: str) -> None:
    answer = await client.get(PAGE, headers={"Accept": accept})
    assert answer.status_code == 200
    assert answer.headers["content-type"].partition(";")[0] == kind
    assert answer.headers["cache-control"] == "no-store"
    if kind == "text/plain":
        assert Samples(answer.text).get("mus_broker_up") == 1
    else:
        names = {family.name for family in parse_openmetrics(answer.text)}
        assert {"mus_jobs_finished", "mus_job_wait_seconds", "mus_queue_depth"} <= names


async def test_junk_in_the_hash_hides_nothing_else(client: Client, runtime: Runtime) -> None:
    tally = Tally()
    tally.count(JOBS_FINISHED, QUEUE, "read_files", "failed")
    assert await flush(runtime.connection, tally)
    junk = {"junk": "x", '["mus_jobs_finished_total", "a", "b", "\\udfff"]': "1"}
    await runtime.connection.redis.hset(key_of(runtime), mapping=junk)  # type: ignore[misc]
    page = await scrape(client)
    assert page.get("mus_jobs_finished_total", queue=QUEUE, task="read_files", outcome="failed") == 1
    assert {"a", "junk"}.isdisjoint(labels["queue"] for labels in page.labels_of("mus_jobs_finished_total"))


async def test_a_job_cancelled_over_the_api_is_counted(client: Client, runtime: Runtime) -> None:
    forget_counts()
    async with runtime.database.unit_of_work():
        job_id = await broker.enqueue(Queue.LOW, "forget_workers")
    assert (await client.delete(f"/jobs/{job_id}")).status_code == 202
    assert await flush(runtime.connection)
    page = await scrape(client)
    assert page.get("mus_jobs_finished_total", queue=QUEUE, task="forget_workers", outcome="cancelled") == 1


# ---------------------------------------------------------------------------------------------------- to whom


async def test_with_a_token_set_the_page_needs_it(runtime: Runtime, settings: Settings) -> None:
    with_token = settings.model_copy(update={"api_token": SecretStr("sesame")})
    async with calling(runtime, with_token) as client:
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            for path in ("/metrics", "/metrics/", "/metrics?x=1"):
                refused = await client.get(f"http://127.0.0.1{path}", headers=headers)
                assert (refused.status_code, refused.headers["content-type"]) == (401, "application/problem+json")
                assert "mus_" not in refused.text
        answer = await client.get(PAGE, headers={"Authorization": "Bearer sesame", "Host": "nas.local:8780"})
    assert answer.status_code == 200


async def test_other_methods_and_parameters_are_problems(client: Client) -> None:
    wrong = await client.post(PAGE)
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET")
    assert (await client.get(f"{PAGE}?name=x")).status_code == 422


# ------------------------------------------------------------------------------------------------ what is down


async def test_without_a_broker_the_ledgers_figures_are_there_all_the_same(
    settings: Settings, tmp_path: Path, queue_name: str
) -> None:
    database = Database(settings.sqlalchemy_url)
    await database.migrate()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(database.close)
        server = await stack.enter_async_context(embedded_server(tmp_path / "b", extra_arguments=NO_FUNCTIONS))
        await server.ready()
        connection = await stack.enter_async_context(broker.connected(database, server.url, queue_name))
        runtime = Runtime(settings, database, connection)
        client = await stack.enter_async_context(calling(runtime))
        await add(runtime, job())
        assert (await scrape(client)).get("mus_deliveries_repeated_total") == 0
        assert server.process_id is not None
        os.kill(server.process_id, signal.SIGSTOP)
        try:
            _without_broker(await scrape(client))
        finally:
            os.kill(server.process_id, signal.SIGCONT)
        assert (await scrape(client)).get("mus_broker_up") == 1
        await asyncio.to_thread(server.stop)
        _without_broker(await scrape(client))


def _without_broker(page: Samples) -> None:
    assert page.get("mus_broker_up") == 0
    assert page.get("mus_broker_latency_seconds") is None
    assert page.get("mus_queue_depth", queue=QUEUE) == 1
    assert not any(name.endswith("_total") for name in page.names)


async def test_without_a_database_it_is_unavailable(client: Client, runtime: Runtime) -> None:
    async with runtime.database.unit_of_work() as work:
        await work.session.execute(text("DROP TABLE workers"))
    answer = await client.get(PAGE)
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    assert answer.headers["retry-after"]


async def test_a_hundred_thousand_ended_jobs_do_not_make_it_slow(client: Client, runtime: Runtime) -> None:
    day = utc_now() - timedelta(days=1)
    tasks = ("read_files", "scan_library", "process_slow_metadata")
    async with runtime.database.unit_of_work() as work:
        for start in range(0, 100_000, 5_000):
            await work.session.execute(
                insert(Job),
                [
                    {
                        "id": f"{number:032x}",
                        "task": tasks[number % 3],
                        "queue": [*Queue][number % 3],
                        "arguments": {"library_id": 1},
                        "state": "succeeded",
                        "created_at": day,
                        "finished_at": day,
                    }
                    for number in range(start, start + 5_000)
                ],
            )
    await scrape(client)
    times: list[float] = []
    for _ in range(5):
        began = time.perf_counter()
        await scrape(client)
        times.append(time.perf_counter() - began)
    # 7 ms on two cores; a look at each ended job would take twenty times that.
    assert min(times) < 0.15
