"""Live answers by a real server: the stream of events, and a job's WebSocket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from api.rows import add
from mus.api.server import serving
from mus.broker.queues import Queue
from mus.broker.runtime import Runtime
from mus.broker.streaq_broker import Options, broker
from mus.config import Settings
from mus.events.watch import MOST_WAITING
from mus.ledger.job_rows import NewJob
from mus.persistence.models import Job, WorkerRow
from waiting import until

Client = httpx.AsyncClient


@pytest.fixture
async def job_id(runtime: Runtime, served: Client) -> str:
    await add(runtime, WorkerRow(id="w", host="h", pid=1, queues=[], state="alive"))
    async with runtime.database.unit_of_work():
        return await broker.enqueue(Queue.LOW, "forget_workers", Options(requested_by="test"))


async def started(runtime: Runtime, job_id: str) -> Any:
    async with runtime.database.reading() as session:
        job = await session.get_one(Job, job_id)
    found = await runtime.connection.ledger.start(f"{job_id}.{job.attempt}.{job.delivery}", "w")
    assert found is not None
    return found


async def finish(runtime: Runtime, job_id: str) -> None:
    await runtime.connection.ledger.finish(await started(runtime, job_id), result={"forgotten": 0})


async def frames(answer: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    """The events of a stream: `event`, `id` and `data`, the last as JSON."""
    frame: dict[str, Any] = {}
    async for line in answer.aiter_lines():
        if not line:
            if "data" in frame:
                yield frame
            frame = {}
            continue
        name, _, value = line.partition(": ")
        if name in {"event", "id", "data"}:
            frame[name] = json.loads(value) if name == "data" else value


def progress_address(served: Client, job_id: str) -> str:
    parts = urlsplit(str(served.base_url))
    return f"ws://{parts.netloc}/api/v1/jobs/{job_id}/progress"


async def test_the_stream_begins_with_how_things_stand_and_tells_what_follows(
    served: Client, runtime: Runtime, job_id: str
) -> None:
    async with served.stream("GET", "/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        stream = frames(answer)
        first = await anext(stream)
        assert (first["event"], [job["job_id"] for job in first["data"]["jobs"]]) == ("snapshot", [job_id])
        await finish(runtime, job_id)
        async for frame in stream:
            if frame["event"] == "completed":
                break
        assert frame["data"]["job_id"] == job_id
        assert frame["data"]["result"] == {"forgotten": 0}
        assert set(frame["data"]) >= {
            "type", "job_id", "task", "parent_id", "timestamp", "state", "progress", "stage", "details", "result",
            "error_category", "user_message", "recovery_actions",
        }  # fmt: skip


async def test_a_stream_of_some_jobs_ends_with_them(served: Client, runtime: Runtime, job_id: str) -> None:
    async with served.stream("GET", "/events", params={"job": job_id}) as answer:
        stream = frames(answer)
        await anext(stream)
        await finish(runtime, job_id)
        *_, last = [frame async for frame in stream]
    assert last["event"] == "completed"


async def test_whoever_comes_again_gets_a_reset_with_what_ended_meanwhile(
    served: Client, runtime: Runtime, job_id: str
) -> None:
    async with served.stream("GET", "/events") as answer:
        seen = (await anext(frames(answer)))["id"]
    await finish(runtime, job_id)
    async with served.stream("GET", "/events", headers={"Last-Event-ID": seen}) as answer:
        again = await anext(frames(answer))
    [job] = again["data"]["jobs"]
    assert (again["event"], job["job_id"], job["type"]) == ("reset", job_id, "completed")
    for nonsense in ("", "x", "9" * 90, "-1", "1e9"):
        async with served.stream("GET", "/events", headers={"Last-Event-ID": nonsense}) as answer:
            assert (await anext(frames(answer)))["event"] == "reset"


async def test_a_stream_of_a_job_that_is_not_there_is_404(served: Client) -> None:
    answer = await served.get("/events", params={"job": "nobody"})
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    assert (await served.get("/events", params={"jobs": "x"})).status_code == 422


async def test_a_websocket_tells_the_state_the_changes_and_the_end_and_closes(
    served: Client, runtime: Runtime, job_id: str
) -> None:
    async with connect(progress_address(served, job_id), proxy=None) as socket:
        assert json.loads(await socket.recv())["state"] == "queued"
        job = await started(runtime, job_id)
        assert json.loads(await socket.recv())["state"] == "running"
        await runtime.connection.ledger.finish(job, result=None)
        assert json.loads(await socket.recv())["type"] == "completed"
        with pytest.raises(ConnectionClosed):
            await socket.recv()
    assert socket.close_code == 1000
    # It has ended: who comes now is told so at once.
    async with connect(progress_address(served, job_id), proxy=None) as socket:
        assert [json.loads(message)["state"] async for message in socket] == ["succeeded"]


async def test_a_websocket_to_a_job_that_is_not_there_is_refused_as_404(served: Client) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await connect(progress_address(served, "nobody"), proxy=None)
    assert refused.value.response.status_code == 404
    assert json.loads(refused.value.response.body)["detail"] == "There is no job nobody"


async def test_a_websocket_of_another_sites_page_is_refused(served: Client, job_id: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await connect(progress_address(served, job_id), proxy=None, origin="http://evil.example")  # type: ignore[arg-type]
    assert refused.value.response.status_code == 403


async def test_live_answers_need_the_token_where_one_is_set(runtime: Runtime) -> None:
    settings = Settings(data_dir=runtime.settings.data_dir, api_token="secret", port=0)
    async with (
        serving(settings, runtime) as address,
        Client(base_url=f"{address}/api/v1", trust_env=False) as client,
    ):
        assert (await client.get("/events")).status_code == 401
        with pytest.raises(InvalidStatus) as refused:
            await connect(progress_address(client, "x"), proxy=None)
        assert refused.value.response.status_code == 401
        client.headers["Authorization"] = "Bearer secret"
        async with client.stream("GET", "/events") as answer:
            assert answer.status_code == 200


async def test_a_listener_that_does_not_read_is_hung_up_on_and_the_others_are_served(
    served: Client, runtime: Runtime, job_id: str
) -> None:
    parts = urlsplit(str(served.base_url))
    reading, writing = await asyncio.open_connection(parts.hostname, parts.port, limit=1024)
    writing.write(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await reading.readuntil(b"snapshot")

    # Nothing is read from here on. Messages of 100 kB fill the buffers of both sides soon.
    async def is_alone() -> bool:
        [(_, count)] = await runtime.connection.redis.pubsub_numsub(f"mus:{runtime.connection.queue_name}:events")
        return count == 0

    async with served.stream("GET", "/events", params={"job": job_id}) as answer:
        stream = frames(answer)
        await anext(stream)
        for _ in range(MOST_WAITING + 200):
            async with runtime.database.unit_of_work():
                (big,) = await runtime.connection.ledger.add([NewJob(task="big", queue="low_priority")])
            await runtime.connection.ledger.finish(await started(runtime, big), result={"much": "x" * 100_000})
        await finish(runtime, job_id)
        *_, last = [frame async for frame in stream]
        assert last["event"] == "completed"
    await until(is_alone, what="the slow listener to be hung up on")
    writing.close()


async def test_a_server_that_stops_ends_its_streams_at_once(
    runtime: Runtime, settings: Settings, job_id: str
) -> None:
    loop = asyncio.get_running_loop()
    async with Client(trust_env=False) as client:
        async with serving(settings, runtime) as address:
            client.base_url = httpx.URL(f"{address}/api/v1/")
            answer = await client.send(client.build_request("GET", "/events"), stream=True)
            stream = frames(answer)
            await anext(stream)
            socket = await connect(progress_address(client, job_id), proxy=None)
            await socket.recv()
            began = loop.time()
        # Far from the five seconds that open requests get.
        assert loop.time() - began < 3
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert [frame async for frame in stream] == []
        await answer.aclose()
