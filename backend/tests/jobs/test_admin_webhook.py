"""The admin's webhook: told of what an admin must mend, signed, and again until it is heard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import select
from standardwebhooks import Webhook, WebhookVerificationError

from mus.broker.admin_alert import ATTEMPTS, TASK, alert_for
from mus.broker.queues import Queue
from mus.broker.runtime import Runtime
from mus.broker.streaq_broker import broker
from mus.config import Settings, load_settings
from mus.errors import ConfigurationError, ErrorCategory
from mus.jobs.admin_webhook import signature
from mus.ledger.job_rows import Failure, NewJob
from mus.ledger.job_states import TERMINAL_STATES
from mus.persistence.database import Database
from mus.persistence.models import Job, WorkerRow
from mus.worker import load_job_modules, worker_running
from waiting import until

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # an example of standardwebhooks.com


@dataclass
class Receiver:
    """A real HTTP server that answers with the statuses given, the last of them for ever."""

    address: str = ""
    statuses: list[int] = field(default_factory=lambda: [204])
    headers: str = ""
    calls: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def answer(self, reading: asyncio.StreamReader, writing: asyncio.StreamWriter) -> None:
        head = (await reading.readuntil(b"\r\n\r\n")).decode()
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head.split("\r\n"))}
        body = await reading.readexactly(int(headers["content-length"]))
        self.calls.append((headers, body))
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        writing.write(
            f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n{self.headers}\r\n".encode()
        )
        await writing.drain()
        writing.close()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    server = await asyncio.start_server(receiver.answer, "127.0.0.1", 0)
    receiver.address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    async with server:
        yield receiver


@pytest.fixture
def settings(settings: Settings, receiver: Receiver) -> Settings:
    return settings.model_copy(
        update={
            "admin_webhook_url": receiver.address,
            "admin_webhook_secret": load_settings(admin_webhook_secret=SECRET).admin_webhook_secret,
        }
    )


@pytest.fixture
async def runtime(settings: Settings, database: Database, broker_url: str) -> AsyncIterator[Runtime]:
    load_job_modules([], list(Queue))
    alert = alert_for(settings)
    async with broker.connected(database, broker_url, settings.queue_name, alert=alert) as connection:
        async with database.unit_of_work() as work:
            work.session.add(WorkerRow(id="w1", host="here", pid=1, queues=[], state="alive"))
        yield Runtime(settings, database, connection)


async def failed_job(runtime: Runtime, category: ErrorCategory, message: str = "It broke", **values: Any) -> str:
    ledger = runtime.connection.ledger
    async with runtime.database.unit_of_work():
        (job_id,) = await ledger.add([NewJob(**{"task": "some_task", "queue": "low_priority", **values})])
    started = await ledger.start(f"{job_id}.1.1", "w1")
    assert started is not None
    await ledger.fail(started, Failure(category, message, {"recovery_actions": ["Mend it"]}))
    return job_id


async def calls_enqueued(runtime: Runtime) -> list[Job]:
    async with runtime.database.reading() as session:
        return list((await session.scalars(select(Job).where(Job.task == TASK).order_by(Job.id))).all())


@asynccontextmanager
async def working(runtime: Runtime) -> AsyncIterator[Callable[[], Any]]:
    """A real worker on the queue of the calls; what it yields waits for the ends of all of them."""

    async def all_ended() -> list[Job]:
        found = await calls_enqueued(runtime)
        return found if found and all(job.state in TERMINAL_STATES for job in found) else []

    async with worker_running(runtime, [Queue.MEDIUM]):
        yield lambda: until(all_ended, what="the end of the calls")


async def test_a_failure_that_needs_an_admin_is_told_with_a_signature_that_others_verify(
    runtime: Runtime, receiver: Receiver
) -> None:
    job_id = await failed_job(runtime, ErrorCategory.ADMIN_REQUIRED)
    async with working(runtime) as ended:
        [call] = await ended()
    assert (call.state, call.result) == ("succeeded", {"status": 204})
    [(headers, body)] = receiver.calls
    told = Webhook(SECRET).verify(body, headers)
    assert told["type"] == "job.failed"
    assert told["data"]["job_id"] == job_id
    assert told["data"]["message"] == "It broke"
    assert told["data"]["recovery_actions"] == ["Mend it"]
    assert headers["webhook-id"] == call.id
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(body + b" ", headers)


async def test_other_failures_and_those_of_parts_are_not_told(runtime: Runtime, receiver: Receiver) -> None:
    async with runtime.database.unit_of_work():
        (parent,) = await runtime.connection.ledger.add([NewJob(task="t", queue="low_priority")])
    await failed_job(runtime, ErrorCategory.USER_FIXABLE)
    await failed_job(runtime, ErrorCategory.ADMIN_REQUIRED, parent_id=parent)
    # A failing call of the webhook itself would call for ever.
    await failed_job(runtime, ErrorCategory.ADMIN_REQUIRED, task=TASK, arguments={"job_id": parent})
    assert [job.state for job in await calls_enqueued(runtime)] == ["failed"]


async def test_failures_for_one_reason_are_one_call_while_it_waits(runtime: Runtime) -> None:
    for number in range(5):
        await failed_job(
            runtime, ErrorCategory.ADMIN_REQUIRED, f"{number} of 7 tracks are gone from '/mnt/{number}'"
        )
    await failed_job(runtime, ErrorCategory.ADMIN_REQUIRED, "Something else")
    assert len(await calls_enqueued(runtime)) == 2


async def test_a_receiver_in_trouble_is_called_again_with_the_same_id(
    runtime: Runtime, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mus.broker.streaq_broker.backoff_seconds", lambda attempt, **_: 0.01)
    receiver.statuses = [500, 429, 302, 200]
    await failed_job(runtime, ErrorCategory.ADMIN_REQUIRED)
    async with working(runtime) as ended:
        [call] = await ended()
    # 302 is no answer: the secret signs for this address only.
    assert (call.state, call.attempt, call.max_attempts) == ("failed", 3, ATTEMPTS)
    assert call.error_message == "The admin webhook answered 302"
    assert {headers["webhook-id"] for headers, _ in receiver.calls} == {call.id}
    assert len(receiver.calls) == 3


async def test_a_receiver_that_asks_for_a_pause_gets_it_and_no_attempt_is_used(
    runtime: Runtime, receiver: Receiver
) -> None:
    receiver.statuses, receiver.headers = [503, 200], "Retry-After: 0\r\n"
    await failed_job(runtime, ErrorCategory.ADMIN_REQUIRED)
    async with working(runtime) as ended:
        [call] = await ended()
    assert (call.state, call.attempt) == ("succeeded", 1)


async def test_a_receiver_that_is_not_there_is_tried_later(runtime: Runtime, receiver: Receiver) -> None:
    unreachable = runtime.settings.model_copy(update={"admin_webhook_url": "http://127.0.0.1:9/"})
    await failed_job(runtime, ErrorCategory.ADMIN_REQUIRED)

    async def waits() -> Job | None:
        [call] = await calls_enqueued(runtime)
        return call if call.state == "retrying" else None

    async with worker_running(Runtime(unreachable, runtime.database, runtime.connection), [Queue.MEDIUM]):
        call = await until(waits, what="the next attempt")
    assert call.error_message is not None
    assert call.error_message.startswith("The admin webhook cannot be reached")
    assert call.delay_seconds is not None
    assert 7 <= call.delay_seconds <= 13


def test_any_text_is_a_secret_and_an_address_without_one_is_refused() -> None:
    assert signature("anything", "1", 2, b"body").startswith("v1,")
    with pytest.raises(ConfigurationError, match="MUS_ADMIN_WEBHOOK_SECRET"):
        load_settings(admin_webhook_url="https://example.org/hook")
    with pytest.raises(ConfigurationError, match="MUS_ADMIN_WEBHOOK_URL"):
        load_settings(admin_webhook_url="ftp://example.org/", admin_webhook_secret="x")
