"""What watchers are told: how jobs stand, what follows, and always their true ends (DESIGN §7)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies
from sqlalchemy import select

from broker_rules import queue_of
from mus.broker.runtime import Runtime
from mus.broker.streaq_broker import broker
from mus.config import load_settings
from mus.errors import ConflictError, ErrorCategory, NotFoundError
from mus.events.hub import EventHub
from mus.events.messages import LibraryMessageType, job_channel
from mus.events.watch import MOST_WAITING, EventKind, Watch
from mus.ledger import steering
from mus.ledger.job_rows import Failure, NewJob
from mus.ledger.job_states import TERMINAL_STATES
from mus.ledger.ledger import Ledger
from mus.persistence.database import Database
from mus.persistence.models import Job, WorkerRow
from sqlite_template import SqliteTemplate
from waiting import until

WORKER = "w1"


def hub_of(runtime: Runtime) -> EventHub:
    connection = runtime.connection
    return EventHub(runtime.database, connection.url, connection.queue_name)


async def enqueue(runtime: Runtime, **values: Any) -> str:
    async with runtime.database.unit_of_work():
        new = NewJob(**{"task": "anything", "queue": "low_priority", **values})
        return (await runtime.connection.ledger.add([new]))[0]


async def start(runtime: Runtime, job_id: str) -> Any:
    async with runtime.database.reading() as session:
        job = await session.get_one(Job, job_id)
    started = await runtime.connection.ledger.start(f"{job.id}.{job.attempt}.{job.delivery}", WORKER)
    assert started is not None
    return started


@pytest.fixture
async def ledger(runtime: Runtime) -> Ledger:
    async with runtime.database.unit_of_work() as work:
        work.session.add(WorkerRow(id=WORKER, host="here", pid=1, queues=[], state="alive"))
    return runtime.connection.ledger


async def all_of(watch: Watch) -> list[str]:
    return [message.state async for event in watch for message in event.jobs]


async def test_a_watcher_is_told_the_state_then_changes_then_the_end_and_no_more(
    runtime: Runtime, ledger: Ledger
) -> None:
    job_id = await enqueue(runtime)
    async with hub_of(runtime).watching([job_id]) as watch:
        first = await anext(watch)
        assert (first.kind, first.jobs[0].state, first.jobs[0].type) == (EventKind.SNAPSHOT, "queued", "progress")
        job = await start(runtime, job_id)
        async with ledger.effect(job, progress=0.5, stage="half way"):
            pass
        second = await anext(watch)
        assert second.jobs[0].state == "running"
        await ledger.finish(job, result={"found": 3})
        *_, last = [message async for event in watch for message in event.jobs]
        assert (last.type, last.state, last.progress, last.result) == ("completed", "succeeded", 1.0, {"found": 3})


async def test_a_job_that_has_ended_is_told_once_and_the_watch_is_over(runtime: Runtime, ledger: Ledger) -> None:
    job_id = await enqueue(runtime)
    failure = Failure(ErrorCategory.USER_FIXABLE, "Your turn", {"recovery_actions": ["do it"]})
    await ledger.fail(await start(runtime, job_id), failure)
    async with hub_of(runtime).watching([job_id]) as watch:
        [(event)] = [event async for event in watch]
    [message] = event.jobs
    assert (message.type, message.error_category, message.user_message, message.recovery_actions) == (
        "error",
        "user_fixable",
        "Your turn",
        ["do it"],
    )


async def test_a_job_that_will_be_tried_again_says_when(runtime: Runtime, ledger: Ledger) -> None:
    job_id = await enqueue(runtime)
    await ledger.fail(await start(runtime, job_id), Failure(ErrorCategory.TEMPORARY, "The disk sulks", {}))
    async with hub_of(runtime).watching([job_id]) as watch:
        [message] = (await anext(watch)).jobs
    assert (message.state, message.user_message) == ("retrying", "Retrying: The disk sulks")
    assert message.details["next_attempt_at"] > message.timestamp


async def test_who_watches_a_job_that_is_not_there_is_told_so(runtime: Runtime) -> None:
    with pytest.raises(NotFoundError):
        async with hub_of(runtime).watching(["nobody"]):
            pass


async def test_a_part_is_heard_by_those_who_watch_it_and_not_by_those_who_watch_all(
    runtime: Runtime, ledger: Ledger
) -> None:
    parent = await enqueue(runtime)
    async with hub_of(runtime).watching() as everything:
        await anext(everything)
        part = await enqueue(runtime, parent_id=parent)
        hub = hub_of(runtime)
        async with hub.watching([part]) as watch:
            await anext(watch)
            await heard(runtime, job_channel(part))
            await ledger.finish(await start(runtime, part), result=None)
            assert (await all_of(watch))[-1] == "succeeded"
        await ledger.finish(await start(runtime, parent), result=None)
        seen: set[str] = set()
        async for event in everything:
            seen.update(message.job_id for message in event.jobs)
            if any(message.is_last for message in event.jobs):
                break
    assert seen == {parent}


async def heard(runtime: Runtime, channel: str) -> None:
    async def subscribed() -> bool:
        [(_, count)] = await runtime.connection.redis.pubsub_numsub(channel)
        return bool(count)

    await until(subscribed, what=f"a listener on {channel}")


async def test_a_watcher_that_is_too_slow_is_dropped_and_the_others_are_not(
    runtime: Runtime, ledger: Ledger
) -> None:
    hub = hub_of(runtime)
    async with hub.watching() as slow, hub.watching() as quick:

        async def count() -> int:
            ended = 0
            async for event in quick:
                ended += sum(message.is_last for message in event.jobs)
                if ended == MOST_WAITING + 200:
                    return ended
            return ended

        counting = asyncio.create_task(count())
        for _ in range(MOST_WAITING + 200):
            await ledger.finish(await start(runtime, await enqueue(runtime)), result=None)
        assert await counting == MOST_WAITING + 200
        assert slow.was_too_slow
        assert [event async for event in slow] == []


async def test_a_busy_job_is_told_of_a_few_times_a_second_however_many_tell_of_it(
    runtime: Runtime, ledger: Ledger
) -> None:
    job_id = await enqueue(runtime)
    job = await start(runtime, job_id)
    async with (
        hub_of(runtime).watching() as watch,
        runtime.connection.redis.pubsub() as raw,
    ):
        await raw.subscribe(job_channel(job_id), f"mus:{runtime.connection.queue_name}:events")
        loop = asyncio.get_running_loop()
        began = loop.time()
        changes = 0
        while loop.time() - began < 2.0:
            async with ledger.effect(job, units_done=changes, units_total=10_000):
                changes += 1
            await asyncio.sleep(0)
        seconds = loop.time() - began
        await ledger.finish(job, result=None)
        told = 0
        async for event in watch:
            told += 1
            if event.jobs and event.jobs[0].is_last:
                break
        published = 0
        while (message := await raw.get_message(ignore_subscribe_messages=True, timeout=1.0)) is not None:
            published += 1
            if message["channel"] == job_channel(job_id) and json.loads(message["data"])["type"] == "completed":
                break
    assert changes > 50
    # Both the stream's own snapshot and end, and what goes over the broker.
    assert told - 2 <= 3 * seconds + 1
    assert published <= 2 * (3 * seconds + 2)


async def test_changes_of_tracks_are_gathered_and_told_with_ids_while_these_are_few(runtime: Runtime) -> None:
    feed = runtime.connection.feed
    async with hub_of(runtime).watching() as watch:
        await anext(watch)
        await heard(runtime, f"mus:{runtime.connection.queue_name}:events")
        feed.tracks_changed(LibraryMessageType.TRACK_ADDED, 1, 2, [7, 8])
        feed.tracks_changed(LibraryMessageType.TRACK_ADDED, 1, 1, [9])
        feed.tracks_changed(LibraryMessageType.TRACK_DELETED, 1, 500)
        feed.library_changed(1, offline_reason="Its disk is away")
        news = {}
        while len(news) < 3:
            event = await anext(watch)
            if event.library is not None:
                news[event.library.type] = event.library
    added, deleted, offline = (news[kind] for kind in ("track_added", "track_deleted", "library_offline"))
    assert (added.count, added.track_ids) == (3, [7, 8, 9])
    assert (deleted.count, deleted.track_ids) == (500, None)
    assert offline.reason == "Its disk is away"


async def test_junk_on_the_channels_harms_nobody(runtime: Runtime, ledger: Ledger) -> None:
    job_id = await enqueue(runtime)
    channel = job_channel(job_id)
    async with hub_of(runtime).watching([job_id]) as watch:
        await heard(runtime, channel)
        for junk in (
            "",
            "{}",
            "[1, null]",
            '{"job_id": 3}',
            '{"type": "completed", "job_id": "x"}',
            "\0",
            "[" * 5000,
        ):
            await runtime.connection.redis.publish(channel, junk)
        await ledger.finish(await start(runtime, job_id), result=None)
        assert (await all_of(watch))[-1] == "succeeded"


async def test_a_message_lost_on_its_way_is_made_good_from_the_rows(
    runtime: Runtime, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await enqueue(runtime)
    job = await start(runtime, job_id)
    # Nobody tells of it.
    monkeypatch.setattr(runtime.connection.feed, "jobs_changed", lambda _ids: None)
    async with hub_of(runtime).watching([job_id]) as watch:
        await anext(watch)
        await ledger.finish(job, result={"late": True})
        async with asyncio.timeout(30):
            assert (await all_of(watch))[-1] == "succeeded"


# ------------------------------------------------------------------------- whoever reconnects, whenever

STEPS = strategies.lists(
    strategies.tuples(
        strategies.sampled_from(["start", "progress", "retry", "finish", "fail", "cancel", "leave", "join", "cut"]),
        strategies.integers(0, 4),
    ),
    min_size=5,
    max_size=40,
)


@dataclass
class _Client:
    """Watches everything, or one job; keeps the last it was told of each."""

    hub: EventHub
    job_ids: list[str] | None
    known: dict[str, str]
    task: asyncio.Task[None] | None = None
    been_here: bool = False

    def join(self) -> None:
        if self.task is None or self.task.done():
            self.task = asyncio.create_task(self._follow())

    async def leave(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait({self.task})

    async def _follow(self) -> None:
        async with self.hub.watching(self.job_ids, again=self.been_here) as watch:
            self.been_here = True
            async for event in watch:
                for message in event.jobs:
                    assert self.known.get(message.job_id, "") not in TERMINAL_STATES or (
                        self.known[message.job_id] == message.state
                    ), "a job that had ended was told to be open again"
                    self.known[message.job_id] = message.state


@pytest.mark.slow
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_a_client_that_reconnects_at_any_moment_ends_with_the_same_final_states(
    steps: list[tuple[str, int]],
    broker_url: str,
    sqlite_template: SqliteTemplate,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    asyncio.run(_scenario(steps, broker_url, sqlite_template, tmp_path_factory.mktemp("scenario")))


async def _scenario(
    steps: list[tuple[str, int]], broker_url: str, sqlite_template: SqliteTemplate, folder: Path
) -> None:
    given = load_settings(data_dir=folder, dragonfly_url=broker_url, queue_name=queue_of(str(folder)))
    database = Database(given.sqlalchemy_url)
    await sqlite_template.copy_to(database.url)
    try:
        async with broker.connected(database, broker_url, given.queue_name) as connection:
            runtime = Runtime(given, database, connection)
            async with database.unit_of_work() as work:
                work.session.add(WorkerRow(id=WORKER, host="here", pid=1, queues=[], state="alive"))
            await _play(runtime, steps)
    finally:
        await database.close()


async def _play(runtime: Runtime, steps: list[tuple[str, int]]) -> None:
    ledger = runtime.connection.ledger
    hub = hub_of(runtime)
    jobs = [await enqueue(runtime) for _ in range(4)]
    jobs.append(await enqueue(runtime, parent_id=jobs[3]))
    everything = _Client(hub, None, {})
    clients = [everything, *(_Client(hub, [job_id], {}) for job_id in jobs)]
    running: dict[str, Any] = {}
    for client in clients:
        client.join()
    for what, number in steps:
        job_id = jobs[number]
        if what in {"leave", "join"}:
            client = clients[number % len(clients)]
            if what == "leave":
                await client.leave()
            else:
                client.join()
        elif what == "cut":
            await runtime.connection.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        elif what == "cancel":
            await _quietly(runtime, lambda job_id=job_id: steering.cancel(ledger, job_id))
            if running.pop(job_id, None) is not None:
                await _stopped(ledger, runtime, job_id)
        elif what == "start" and job_id not in running:
            await _start_if_possible(runtime, running, job_id)
        elif what == "progress" and job_id in running:
            async with ledger.effect(running[job_id], progress=0.3, stage="at it"):
                pass
        elif what == "finish" and job_id in running:
            await ledger.finish(running.pop(job_id), result={"n": number})
        elif what in {"retry", "fail"} and job_id in running:
            category = ErrorCategory.TEMPORARY if what == "retry" else ErrorCategory.USER_FIXABLE
            await ledger.fail(running.pop(job_id), Failure(category, "It failed", {}), wait_seconds=0)
        await asyncio.sleep(0)
    for job_id in jobs:
        await _quietly(runtime, lambda job_id=job_id: steering.cancel(ledger, job_id))
    for job_id in list(running):
        await _stopped(ledger, runtime, job_id)
    for client in clients:
        client.join()
    async with runtime.database.reading() as session:
        truth = {row.id: row.state for row in await session.execute(select(Job.id, Job.state))}
    assert set(truth.values()) <= TERMINAL_STATES

    async def all_know() -> bool:
        return all(
            client.known.get(job_id) == truth[job_id] for client in clients for job_id in client.job_ids or jobs[:4]
        )

    await until(all_know, seconds=20, what="every client's knowledge of every job's end")
    for client in clients:
        await client.leave()


async def _quietly(runtime: Runtime, action: Callable[[], Any]) -> None:
    with suppress(ConflictError):  # it has ended
        async with runtime.database.unit_of_work():
            await action()


async def _start_if_possible(runtime: Runtime, running: dict[str, Any], job_id: str) -> None:
    async with runtime.database.reading() as session:
        job = await session.get_one(Job, job_id)
    started = await runtime.connection.ledger.start(f"{job.id}.{job.attempt}.{job.delivery}", WORKER)
    if started is not None:
        running[job_id] = started


async def _stopped(ledger: Ledger, runtime: Runtime, job_id: str) -> None:
    async with runtime.database.reading() as session:
        job = await session.get_one(Job, job_id)
    if job.state == "running":
        await ledger.take_over(job_id, job.attempt, WORKER)


async def test_a_burst_of_thousands_drops_nobody_who_reads(runtime: Runtime) -> None:
    async with hub_of(runtime).watching() as watch:
        await anext(watch)
        async with runtime.database.unit_of_work():
            ids = await runtime.connection.ledger.add(
                [NewJob(task="anything", queue="low_priority") for _ in range(6 * MOST_WAITING)]
            )
        told: set[str] = set()
        async with asyncio.timeout(60):
            while len(told) < len(ids):
                told.update(message.job_id for message in (await anext(watch)).jobs)
    assert not watch.was_too_slow
