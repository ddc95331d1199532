"""streaQ's functions as scripts, on a real server that refuses Redis Functions."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.resources
from typing import Any

import pytest
import redis.asyncio
from coredis import Redis
from coredis.exceptions import AuthorizationError, NoScriptError, ResponseError, UnknownCommandError
from coredis.patterns.pipeline import Pipeline
from coredis.response._callbacks import NoopCallback

from broker_rules import NAMED_BROKER
from mus.broker import script_texts, server_scripts
from mus.broker.server_scripts import ScriptClient, ScriptLibrary
from mus.errors import ConfigurationError
from waiting import until

server_scripts.install()

import streaq.task  # noqa: E402 - after install()
import streaq.types  # noqa: E402
import streaq.worker  # noqa: E402

LIBRARY_TEXT = importlib.resources.files("streaq").joinpath("lua/streaq.lua").read_text()


#: What a command gets that an ACL denies, or that is not there.
REFUSED = (AuthorizationError, UnknownCommandError)


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
