"""Plain streaQ on a real server that refuses Redis Functions, and forgets its scripts when told to."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import pytest
from anyio import create_task_group

from mus.broker import server_scripts
from mus.broker.server_scripts import ScriptLibrary

server_scripts.install()

from streaq import StreaqRetry, TaskStatus, Worker  # noqa: E402

EVERY_SECOND = "* * * * * * *"


class PlainWorker(Worker[None]):
    """streaQ's own worker, on the one read path that every broker has; it can be run while it is open."""

    _entered = 0

    async def __aenter__(self) -> Self:
        self._entered += 1
        return self if self._entered > 1 else await super().__aenter__()

    async def __aexit__(self, *error: object) -> bool | None:
        self._entered -= 1
        return None if self._entered else await super().__aexit__(*error)  # type: ignore[arg-type]

    async def _check_xreadgroup_compatibility(self) -> None:
        self._supports_max_count = False


WorkerMaker = Callable[..., PlainWorker]


@pytest.fixture
def make_worker(broker_url: str, queue_name: str) -> WorkerMaker:
    def make(**options: Any) -> PlainWorker:
        return PlainWorker(
            redis_url=broker_url,
            queue_name=queue_name,
            handle_signals=False,
            serializer=lambda data: json.dumps(data, default=repr),
            deserializer=json.loads,
            **options,
        )

    return make


@pytest.fixture(params=["a broker that remembers", "a broker that forgets its scripts all the time"])
async def worker(request: pytest.FixtureRequest, make_worker: WorkerMaker) -> AsyncIterator[PlainWorker]:
    """An opened worker that is not running yet; see `running`."""
    worker = make_worker(priorities=["low", "normal", "high"], concurrency=4, idle_timeout=10)
    async with open_with_client(worker):
        if "remembers" in request.param:
            yield worker
        else:
            async with forgetting(worker):
                yield worker


@contextlib.asynccontextmanager
async def open_with_client(worker: PlainWorker) -> AsyncIterator[None]:
    """`async with worker` in a task of its own: pytest may enter and leave a fixture in different ones."""
    opened, done = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async with worker:
            opened.set()
            await done.wait()

    holder = asyncio.create_task(hold())
    await opened.wait()
    try:
        yield
    finally:
        done.set()
        await holder


@contextlib.asynccontextmanager
async def forgetting(worker: PlainWorker) -> AsyncIterator[None]:
    async def forget() -> None:
        while True:
            started = time.monotonic()
            await worker.redis.script_flush()
            # However busy the machine: a script that is loaded can be called before it is forgotten again.
            await asyncio.sleep(max(0.003, 10 * (time.monotonic() - started)))

    forgetter = asyncio.create_task(forget())
    try:
        yield
    finally:
        forgetter.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await forgetter


@contextlib.asynccontextmanager
async def running(worker: PlainWorker) -> AsyncIterator[None]:
    """The worker's loops, until the block ends. Its client stays open if it was."""
    async with create_task_group() as tasks:
        await tasks.start(worker.run_async)
        yield
        tasks.cancel_scope.cancel()


async def until(condition: Callable[[], Awaitable[bool] | bool], *, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while True:
        met = condition()
        if met if isinstance(met, bool) else await met:
            return
        assert time.monotonic() < deadline, "the condition was not met in time"
        await asyncio.sleep(0.005)


async def test_the_most_urgent_priority_goes_first(make_worker: WorkerMaker) -> None:
    worker = make_worker(priorities=["low", "normal", "high"], concurrency=1, prefetch=1)
    order: list[str] = []

    @worker.task(name="note")
    async def note(text: str) -> None:
        order.append(text)

    async with worker:
        for priority in ("low", "normal", "high"):
            tasks = [note.enqueue(f"{priority}{i}").start(priority=priority) for i in range(2)]
            await worker.enqueue_many(tasks)
        async with running(worker):
            await until(lambda: len(order) == 6)
    assert order == ["high0", "high1", "normal0", "normal1", "low0", "low1"]


async def test_a_task_runs_and_its_result_is_read(worker: PlainWorker) -> None:
    @worker.task(name="add")
    async def add(a: int, b: int) -> int:
        return a + b

    @worker.task(name="add_in_a_thread")
    def add_in_a_thread(a: int, b: int) -> int:
        return a + b

    async with running(worker):
        tasks = [await add.enqueue(1, b) for b in range(5)] + [await add_in_a_thread.enqueue(1, b=9)]
        results = [(await task.result(10)).result for task in tasks]
    assert results == [1, 2, 3, 4, 5, 10]


async def test_many_tasks_are_enqueued_at_once_and_an_id_only_once(worker: PlainWorker) -> None:
    seen: list[int] = []

    @worker.task(name="note")
    async def note(number: int) -> None:
        seen.append(number)

    tasks = [note.enqueue(number) for number in range(50)]
    await worker.enqueue_many(tasks)
    await worker.enqueue_many(tasks[:25])
    assert await worker.queue_size() == 50
    async with running(worker):
        await until(lambda: len(seen) >= 50)
        await until(lambda: _is_empty(worker))
    assert sorted(seen) == list(range(50))


async def _is_empty(worker: PlainWorker) -> bool:
    return await worker.queue_size() == 0 and not worker.running()


async def test_delayed_and_scheduled_tasks_run_when_they_are_due(worker: PlainWorker) -> None:
    started: dict[str, float] = {}

    @worker.task(name="note")
    async def note(text: str) -> None:
        started[text] = time.time()

    now = time.time()
    delayed = await note.enqueue("delayed").start(delay=timedelta(milliseconds=300))
    at = datetime.fromtimestamp(now + 0.4, UTC)
    scheduled = await note.enqueue("scheduled").start(schedule=at)
    assert await delayed.status() == await scheduled.status() == TaskStatus.SCHEDULED
    info = await scheduled.info()
    assert info is not None
    assert info.scheduled is not None
    assert abs((info.scheduled - at).total_seconds()) < 0.002
    async with running(worker):
        result = await scheduled.result(10)
        await delayed.result(10)
    assert result.enqueue_time == round(at.timestamp() * 1000)
    assert started["delayed"] - now >= 0.3
    assert started["scheduled"] - now >= 0.4


async def test_dependents_run_after_what_they_wait_for_and_get_its_result(worker: PlainWorker) -> None:
    order: list[str] = []

    @worker.task(name="double")
    async def double(number: int) -> int:
        order.append(f"double {number}")
        return number * 2

    async with running(worker):
        chained = await double.enqueue(3).then(double).then(double)
        assert (await chained.result(10)).result == 24
        first = await double.enqueue(100).start(delay=timedelta(milliseconds=1))
        second = await double.enqueue(200).start(after=first.id)
        assert (await second.result(10)).result == 400
        # What it waits for is done already: it runs at once.
        third = await double.enqueue(300).start(after=[first.id, second.id])
        assert (await third.result(10)).result == 600
    numbers = (3, 6, 12, 100, 200, 300)
    assert order == [f"double {number}" for number in numbers]


async def test_when_a_task_fails_all_that_wait_for_it_fail(worker: PlainWorker) -> None:
    ran: list[str] = []

    @worker.task(name="fail", silent=True)
    async def fail() -> None:
        raise ValueError("broken")

    @worker.task(name="note")
    async def note(text: str = "") -> None:
        ran.append(text)

    first = await fail.enqueue()
    child = await note.enqueue("child").start(after=first.id)
    grandchild = await note.enqueue("grandchild").start(after=child.id)
    assert await child.status() == TaskStatus.SCHEDULED
    async with running(worker):
        failed = await first.result(10)
        results = [await child.result(10), await grandchild.result(10)]
    assert failed.exception == "ValueError('broken')"
    assert [result.success for result in results] == [False, False]
    assert ran == []


@pytest.mark.parametrize("breaks", [True, False])
async def test_a_fallback_runs_only_if_the_task_before_it_failed(worker: PlainWorker, breaks: bool) -> None:
    ran: list[str] = []

    @worker.task(name="first", silent=True)
    async def first(number: int) -> str:
        ran.append("first")
        if breaks:
            raise ValueError(number)
        return "first"

    @worker.task(name="second")
    async def second(number: int) -> str:
        ran.append("second")
        return "second"

    async with running(worker):
        result = await (await first.enqueue(1).otherwise(second)).result(10)
    assert result.success
    assert ran == (["first", "second"] if breaks else ["first"])
    assert result.result == ran[-1]


async def test_a_cron_task_runs_again_and_again(make_worker: WorkerMaker) -> None:
    worker = make_worker(priorities=["low", "high"])
    runs: list[float] = []
    begun = int(time.time())

    @worker.cron(EVERY_SECOND, name="tick")
    async def tick() -> None:
        runs.append(time.time())

    async with worker, forgetting(worker), running(worker):
        await until(lambda: len(runs) >= 2)
        assert await worker.unschedule_by_id("tick")
    # Not one in each second: one that comes late does so in the next one's.
    assert len(runs) <= int(runs[-1]) - begun + 1


async def test_a_crontab_schedule_given_at_enqueueing_repeats(make_worker: WorkerMaker) -> None:
    worker = make_worker()
    runs: list[float] = []

    @worker.task(name="tick")
    async def tick() -> None:
        runs.append(time.time())

    async with worker, forgetting(worker), running(worker):
        await worker.enqueue_many([tick.enqueue().start(schedule=EVERY_SECOND)])
        await until(lambda: len(runs) >= 2)


async def test_queued_delayed_and_running_tasks_can_be_aborted(worker: PlainWorker) -> None:
    started = asyncio.Event()

    @worker.task(name="hang", silent=True)
    async def hang() -> None:
        started.set()
        await asyncio.Event().wait()

    delayed = await hang.enqueue().start(delay=60)
    dependent = await hang.enqueue().start(after=delayed.id)
    queued = await hang.enqueue()
    assert await delayed.abort()
    assert not (await dependent.result(10)).success
    assert not await queued.abort(0)
    async with running(worker):
        assert "prior to run" in str((await queued.result(10)).exception)
        task = await hang.enqueue()
        await started.wait()
        assert not await task.abort(0)
        assert "aborted by user" in str((await task.result(10)).exception)


async def test_a_task_that_asks_for_it_is_tried_again(worker: PlainWorker) -> None:
    @worker.task(name="third_time_lucky", silent=True)
    async def third_time_lucky() -> int:
        tries = third_time_lucky.context.tries
        if tries == 1:
            raise StreaqRetry("at once", delay=timedelta(0))
        if tries == 2:
            raise StreaqRetry("soon", schedule=datetime.now(UTC) + timedelta(milliseconds=50))
        return tries

    async with running(worker):
        result = await (await third_time_lucky.enqueue()).result(10)
    assert (result.result, result.tries) == (3, 3)


async def test_a_task_that_takes_too_long_is_ended(worker: PlainWorker) -> None:
    @worker.task(name="hang", timeout=timedelta(milliseconds=50), silent=True)
    async def hang() -> None:
        await asyncio.Event().wait()

    async with running(worker):
        result = await (await hang.enqueue()).result(10)
    assert "timed out" in str(result.exception)


async def test_a_task_that_waited_too_long_is_not_run(worker: PlainWorker) -> None:
    @worker.task(name="stale", expire=timedelta(milliseconds=20))
    async def stale() -> None:
        raise AssertionError("it ran")

    task = await stale.enqueue()

    async def expired() -> bool:
        return await worker.redis.exists([worker.task_key + task.id]) == 0

    await until(expired)
    async with running(worker):
        result = await task.result(10)
    assert "expired" in str(result.exception)


async def test_a_unique_task_does_not_run_twice_at_the_same_time(worker: PlainWorker) -> None:
    release = asyncio.Event()
    started = asyncio.Event()

    @worker.task(name="alone", unique=True, timeout=30, silent=True)
    async def alone() -> None:
        started.set()
        await release.wait()

    async with running(worker):
        first = await alone.enqueue()
        await started.wait()
        second = await alone.enqueue()
        assert "unique" in str((await second.result(10)).exception)
        release.set()
        assert (await first.result(10)).success


async def test_tasks_are_listed_by_status(worker: PlainWorker) -> None:
    started, release = asyncio.Event(), asyncio.Event()

    @worker.task(name="wait")
    async def wait() -> None:
        started.set()
        await release.wait()

    async def listed(status: TaskStatus) -> list[str]:
        return [task.task_id for task in await worker.get_tasks_by_status(status)]

    # streaQ lists the queued ones of streams that exist only.
    await ScriptLibrary(worker.redis).create_groups(worker.stream_key, "workers", *worker.priorities)
    task = await wait.enqueue()
    later = await wait.enqueue().start(delay=60)
    assert await listed(TaskStatus.QUEUED) == [task.id]
    assert await listed(TaskStatus.SCHEDULED) == [later.id]
    async with running(worker):
        await started.wait()
        assert await listed(TaskStatus.RUNNING) == [task.id]
        assert await task.status() == TaskStatus.RUNNING
        release.set()
        await task.result(10)
        assert await listed(TaskStatus.RUNNING) == []
        assert await listed(TaskStatus.DONE) == [task.id]
        assert await task.status() == TaskStatus.DONE
    assert await later.status() == TaskStatus.SCHEDULED


DYING_WORKER = """
import asyncio, json, sys
from mus.broker import script_texts, server_scripts
server_scripts.install()
from streaq import Worker

class PlainWorker(Worker):
    async def _check_xreadgroup_compatibility(self): pass

worker = PlainWorker(redis_url=sys.argv[1], queue_name=sys.argv[2], idle_timeout=0.5,
                     serializer=json.dumps, deserializer=json.loads)

@worker.task(name="work")
async def work():
    print("started", flush=True)
    await asyncio.Event().wait()

worker.run_sync()
"""


async def test_a_killed_workers_task_is_taken_over(
    make_worker: WorkerMaker, broker_url: str, queue_name: str
) -> None:
    worker = make_worker(idle_timeout=0.5)

    @worker.task(name="work")
    async def work() -> int:
        return work.context.tries

    async with worker:
        task = await work.enqueue()
        process = subprocess.Popen(
            [sys.executable, "-c", DYING_WORKER, broker_url, queue_name], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        with process, process.stdout:
            assert await asyncio.to_thread(process.stdout.readline) == "started\n"
            os.kill(process.pid, signal.SIGKILL)
        async with running(worker):
            result = await task.result(10)
    assert result.result == 2
    assert result.worker_id == worker.id
