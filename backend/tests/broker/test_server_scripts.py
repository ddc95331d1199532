"""Plain streaQ on a real server that refuses Redis Functions, and forgets its scripts when told to."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.resources
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
import redis.asyncio
from anyio import create_task_group
from coredis import Redis
from coredis.exceptions import AuthorizationError, NoScriptError, ResponseError, UnknownCommandError
from coredis.patterns.pipeline import Pipeline
from coredis.response._callbacks import NoopCallback

from broker_rules import NAMED_BROKER
from mus.broker import script_texts, server_scripts
from mus.broker.server_scripts import ScriptClient, ScriptLibrary
from mus.errors import ConfigurationError

server_scripts.install()

import streaq.task  # noqa: E402 - after install()
import streaq.types  # noqa: E402
import streaq.worker  # noqa: E402
from streaq import StreaqRetry, TaskStatus, Worker  # noqa: E402

LIBRARY_TEXT = importlib.resources.files("streaq").joinpath("lua/streaq.lua").read_text()
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


#: What a command gets that an ACL denies, or that is not there.
REFUSED = (AuthorizationError, UnknownCommandError)
WorkerMaker = Callable[..., PlainWorker]


@pytest.fixture(params=["the broker", "DragonflyDB's rules"])
def broker_url(request: pytest.FixtureRequest) -> str:
    """Each test here runs on the suite's broker, and again on a Valkey with DragonflyDB's rules."""
    return str(request.getfixturevalue("broker_url" if request.param == "the broker" else "judged_url"))


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


# ------------------------------------------------------------ installing


@pytest.mark.skipif(NAMED_BROKER is not None, reason="another broker may have what none of ours leans on")
async def test_the_test_server_denies_redis_functions(broker_url: str) -> None:
    async with Redis.from_url(broker_url, decode_responses=True) as client:
        with pytest.raises(REFUSED):
            await client.function_list()
        with pytest.raises(REFUSED):
            await client.fcall("create_groups", [], [])
        with pytest.raises(REFUSED):
            await client.fcall_ro("create_groups", [], [])


def test_installing_twice_changes_nothing_more() -> None:
    server_scripts.install()
    server_scripts.install()
    assert streaq.types.Streaq is streaq.worker.Streaq is streaq.task.Streaq is ScriptLibrary
    assert streaq.worker.Redis is ScriptClient


def test_the_scripts_are_called_by_the_hash_of_their_text_and_reach_for_no_function_or_xinfo() -> None:
    scripts = script_texts.read_scripts(LIBRARY_TEXT)
    assert set(scripts) == set(script_texts.EXPECTED_SHAPES)
    for script in scripts.values():
        assert "xinfo" not in script.text
        assert "register_function" not in script.text
        flagged = script.text.startswith("--!df flags=allow-undeclared-keys\n")
        assert flagged == script.follows_graph == (script.name in {"fail_dependents", "update_dependents"})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("'publish_task'", "'publish_work'"),
        ("redis.register_function('refresh_timeout'", "redis.register_function{'refresh_timeout'"),
        ("res and res[1][2]", "res and res[2]"),
        ("'xinfo', 'groups'", "'xinfo', 'stream'"),
        ("tids[j + 1])", "tids[j + 1], 'x', 1)"),
        ("local member = argv[3]", "local member = argv[4]"),
        ("local results_key = keys[6]", "local results_key = keys[7]"),
        (
            "redis.register_function('schedule_cron_job'",
            "redis.register_function('extra', function(keys, argv)\nend)\n\n"
            "redis.register_function('schedule_cron_job'",
        ),
    ],
)
def test_a_library_of_another_shape_is_refused_with_a_clear_error(old: str, new: str) -> None:
    assert old in LIBRARY_TEXT
    with pytest.raises(ConfigurationError, match=r"server functions have changed shape .*pin streaq==7\.2\.0"):
        script_texts.read_scripts(LIBRARY_TEXT.replace(old, new))


# ------------------------------------------------------------ keys


def test_every_key_that_can_be_known_is_declared_after_the_named_ones(broker_url: str) -> None:
    pipe = ScriptClient.from_url(broker_url, decode_responses=True).pipeline(transaction=False)
    library = ScriptLibrary(pipe)

    def keys_of(_: object) -> tuple[Any, ...]:
        return pipe.command_stack[-1].keys

    streams = ("q:", "q:high", "q:low")
    assert keys_of(library.create_groups("q:", "g", "high", "low")) == streams
    assert keys_of(library.read_streams("q:", "g", "me", 5, 1000, "high", "low")) == streams
    publishing = ("q:low", "delayed", "data:7", "dependents:", "dependencies:", "results:")
    assert keys_of(library.publish_task(*publishing, "7", "{}", 0, 0, 1)) == publishing
    assert keys_of(library.publish_task(*publishing, "7", "{}", 0, 0, 1, "5", "6")) == (
        *publishing,
        "dependencies:7",
        *("results:5", "dependents:5"),
        *("results:6", "dependents:6"),
    )
    assert keys_of(library.fail_dependents("up:", "down:", "7", "")) == ("up:", "down:", "up:7")
    assert keys_of(library.update_dependents("up:", "down:", "7")) == ("up:", "down:", "up:7", "down:7")
    assert keys_of(library.refresh_timeout("s", "r", "g", "me", "1-0", "7")) == ("s", "r")
    assert keys_of(library.schedule_cron_job("c", "q", "d", "t", "7", 1, "f")) == ("c", "q", "d", "t")
    assert keys_of(library.publish_delayed_tasks("delayed", "q:low", 1)) == ("delayed", "q:low")


@pytest.mark.parametrize("transaction", [True, False])
def test_only_a_graph_function_in_a_transaction_is_preceded_by_script_exists(
    broker_url: str, transaction: bool
) -> None:
    pipe = ScriptClient.from_url(broker_url, decode_responses=True).pipeline(transaction=transaction)
    library = ScriptLibrary(pipe)
    library.refresh_timeout("s", "r", "g", "me", "1-0", "7")
    library.update_dependents("up:", "down:", "7")
    library.fail_dependents("up:", "down:", "7", "")
    names = [command.name for command in pipe.command_stack]
    graph = [b"SCRIPT EXISTS", b"EVALSHA"] if transaction else [b"EVALSHA"]
    assert names == [b"EVALSHA", *graph, *graph]


# ------------------------------------------------------------ the scripts by themselves


async def test_groups_are_created_once_and_other_errors_are_raised(broker_url: str, queue_name: str) -> None:
    async with ScriptClient.from_url(broker_url, decode_responses=True) as client:
        library = await ScriptLibrary(client, code=LIBRARY_TEXT, replace=True)
        for _ in range(2):
            await library.create_groups(f"{queue_name}:", "workers", "a", "b")
        assert [group["name"] for group in await client.xinfo_groups(f"{queue_name}:b")] == ["workers"]
        await client.set(f"{queue_name}:text", "not a stream")
        with pytest.raises(ResponseError, match="wrong kind of value"):
            await library.create_groups(f"{queue_name}:", "workers", "text")


async def test_a_delayed_tasks_time_crosses_the_script_as_whole_milliseconds(
    broker_url: str, queue_name: str
) -> None:
    async with ScriptClient.from_url(broker_url, decode_responses=True) as client:
        library = ScriptLibrary(client)
        due = 1_795_298_404_452
        await client.zadd(f"{queue_name}:delayed", {"late": due})
        await library.publish_delayed_tasks(f"{queue_name}:delayed", f"{queue_name}:stream", due)
        (entry,) = await client.xrange(f"{queue_name}:stream")
        assert dict(entry.field_values) == {"task_id": "late", "enqueue_time": str(due)}


async def test_reading_empty_streams_gives_nothing_and_new_messages_come_by_priority(
    broker_url: str, queue_name: str
) -> None:
    async with ScriptClient.from_url(broker_url, decode_responses=True) as client:
        library = ScriptLibrary(client)
        prefix = f"{queue_name}:"
        await library.create_groups(prefix, "workers", "high", "low")
        assert await library.read_streams(prefix, "workers", "me", 5, 60_000, "high", "low") is None
        for name, task_id in (("low", "1"), ("high", "2"), ("high", "3")):
            await client.xadd(prefix + name, {"task_id": task_id})
        entries = await library.read_streams(prefix, "workers", "me", 2, 60_000, "high", "low")
        read = {stream: [e.field_values["task_id"] for e in messages] for stream, messages in entries.items()}
        assert read == {prefix + "high": ["2", "3"]}


# ------------------------------------------------------------ NOSCRIPT


async def run(pipeline: Pipeline[str]) -> None:
    async with pipeline:
        pass


@pytest.mark.parametrize("transaction", [True, False])
async def test_in_a_pipeline_only_the_forgotten_scripts_commands_are_repeated(
    broker_url: str, queue_name: str, transaction: bool
) -> None:
    async with ScriptClient.from_url(broker_url, decode_responses=True) as client:
        await client.sadd(f"{queue_name}:up:1", ["2"])
        await client.sadd(f"{queue_name}:down:2", ["1"])
        await client.script_flush()
        async with client.pipeline(transaction=transaction) as pipe:
            library = ScriptLibrary(pipe)
            before = pipe.incr(f"{queue_name}:n")
            freed = library.update_dependents(f"{queue_name}:up:", f"{queue_name}:down:", "1")
            none = library.refresh_timeout(f"{queue_name}:s", f"{queue_name}:r", "g", "me", "1-0", "7")
            after = pipe.incr(f"{queue_name}:n")
            pipe.xgroup_create(f"{queue_name}:s", "g", "$", mkstream=True)
        assert (await before, await freed, await after) == (1, ["2"], 2)
        assert not await none
        assert await client.get(f"{queue_name}:n") == "2"


@pytest.mark.parametrize("transaction", [True, False])
async def test_an_error_in_a_pipeline_is_raised_as_coredis_raises_it_after_the_repeats(
    broker_url: str, queue_name: str, transaction: bool
) -> None:
    async def fill(client: Redis[str], *, with_script: bool, raise_on_error: bool) -> tuple[Any, Any]:
        async with client.pipeline(transaction=transaction, raise_on_error=raise_on_error) as pipe:
            pipe.set(f"{queue_name}:text", "x")
            if with_script:
                done = ScriptLibrary(pipe).create_groups(f"{queue_name}:", "workers", "s")
            wrong = pipe.incr(f"{queue_name}:text")
        return wrong, done

    async with ScriptClient.from_url(broker_url, decode_responses=True) as client:
        await client.script_flush()
        with pytest.raises(ResponseError, match=r"Command # 3 \(INCR .* of pipeline caused error: .*integer"):
            await fill(client, with_script=True, raise_on_error=True)
        assert await client.exists([f"{queue_name}:s"]) == 1
        await client.script_flush()
        wrong, done = await fill(client, with_script=True, raise_on_error=False)
        assert await done is None
        with pytest.raises(ResponseError, match="integer"):
            await wrong


@pytest.mark.parametrize("transaction", [True, False])
async def test_a_script_that_is_not_ours_stays_unknown(broker_url: str, transaction: bool) -> None:
    async with ScriptClient.from_url(broker_url, decode_responses=True) as client:
        with pytest.raises(NoScriptError):
            await client.evalsha("0" * 40, [], [])
        pipeline = client.pipeline(transaction=transaction)
        pipeline.evalsha("0" * 40, [], [])
        with pytest.raises(NoScriptError):
            await run(pipeline)


async def test_a_transaction_refused_while_queueing_applies_nothing_and_raises(
    broker_url: str, queue_name: str
) -> None:
    async with ScriptClient.from_url(broker_url, decode_responses=True) as client:
        await client.script_flush()
        pipeline = client.pipeline(transaction=True)
        ScriptLibrary(pipeline).create_groups(f"{queue_name}:", "workers", "s")
        pipeline.create_request(b"NOSUCH", callback=NoopCallback())
        with pytest.raises(UnknownCommandError):
            await run(pipeline)
        assert await client.exists([f"{queue_name}:s"]) == 0


async def test_broken_and_cancelled_commands_do_not_use_up_the_pool(broker_url: str, queue_name: str) -> None:
    async with ScriptClient.from_url(broker_url, decode_responses=True, max_connections=2) as client:
        for _ in range(5):
            blocked = asyncio.create_task(client.blpop([f"{queue_name}:empty"], 60).run())
            await until(lambda: _blocked(broker_url))
            blocked.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await blocked
            await until(lambda: _blocked(broker_url, none=True))
        async with asyncio.timeout(5):
            assert await client.ping()


async def _blocked(broker_url: str, *, none: bool = False) -> bool:
    """Whether some client of the broker waits for a list; or none does."""
    async with redis.asyncio.from_url(broker_url) as watching:
        return none is not any(client["cmd"] == "blpop" for client in await watching.client_list())


# ------------------------------------------------------------ streaQ's features


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
