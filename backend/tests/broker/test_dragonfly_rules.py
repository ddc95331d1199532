"""The table of the design, row by row: what DragonflyDB does, as the judge does it, and that it harms nothing.

Each test first shows that the judge is strict: what streaQ ships, or what a careless change would make of it, fails
there as it would on DragonflyDB. Rows that need a running worker are elsewhere: all of streaQ's features in
`scripts/test_plain_streaq.py`, on this judge too; a broker that forgets its scripts, its memory, or all after a
snapshot, in `ledger/test_faults.py`; commands that are not there, and keys in one hash slot, in
`test_recorded_commands.py`.
"""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import redis.asyncio
from coredis.exceptions import ClusterCrossSlotError, ResponseError
from redis.exceptions import ResponseError as RefusedError
from redis.exceptions import WatchError

from mus.broker import script_texts
from mus.broker.server_scripts import ScriptClient, ScriptLibrary

LIBRARY_TEXT = importlib.resources.files("streaq").joinpath("lua/streaq.lua").read_text()
HEAD = "local keys, argv = KEYS, ARGV\nlocal unpack = table.unpack or unpack\n"
SCRIPTS = script_texts.read_scripts(LIBRARY_TEXT)


def as_shipped(name: str) -> str:
    """A function of streaQ as a script, with nothing mended."""
    found = re.search(rf"'{name}', function\(keys, argv\)\n(.*?)^end\)$", LIBRARY_TEXT, re.MULTILINE | re.DOTALL)
    assert found is not None
    return HEAD + found[1]


@pytest.fixture
async def judge(judged_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    async with redis.asyncio.from_url(judged_url, decode_responses=True) as client:
        yield client


async def evaluated(client: redis.asyncio.Redis, text: str, keys: Sequence[str], *arguments: Any) -> Any:
    return await client.eval(text, len(keys), *keys, *arguments)  # type: ignore[misc]


# ------------------------------------------------------------ EVALSHA of a flagged script inside MULTI


async def test_a_flagged_script_in_a_transaction_conflicts_and_the_other_commands_are_applied(
    judge: redis.asyncio.Redis, queue_name: str
) -> None:
    script = SCRIPTS["update_dependents"]
    sha = await judge.script_load(script.text)
    keys = [f"{queue_name}:up:", f"{queue_name}:down:"]
    async with judge.pipeline(transaction=True) as pipe:
        pipe.evalsha(sha, 2, *keys, "1")
        pipe.incr(f"{queue_name}:n")
        conflict, count = await pipe.execute(raise_on_error=False)
    assert "Multi mode conflict when running eval in multi transaction" in str(conflict)
    assert count == 1


async def test_beside_a_script_exists_it_runs(judged_url: str, queue_name: str) -> None:
    async with ScriptClient.from_url(judged_url, decode_responses=True) as client:
        await client.sadd(f"{queue_name}:up:1", ["2"])
        await client.sadd(f"{queue_name}:down:2", ["1"])
        async with client.pipeline(transaction=True) as pipe:
            library = ScriptLibrary(pipe)
            freed = library.update_dependents(f"{queue_name}:up:", f"{queue_name}:down:", "1")
            failed = library.fail_dependents(f"{queue_name}:up:", f"{queue_name}:down:", "1", "")
        assert (await freed, await failed) == (["2"], [])


# ------------------------------------------------------------ an empty XREADGROUP is {}


async def test_an_empty_read_breaks_streaqs_own_script_and_not_ours(
    judge: redis.asyncio.Redis, judged_url: str, queue_name: str
) -> None:
    prefix = f"{queue_name}:"
    keys, arguments = [prefix, f"{prefix}a"], ["workers", "me", 5, 60_000, "a"]
    async with ScriptClient.from_url(judged_url, decode_responses=True) as client:
        library = ScriptLibrary(client)
        await library.create_groups(prefix, "workers", "a")
        with pytest.raises(RefusedError, match="attempt to index a nil value"):
            await evaluated(judge, as_shipped("read_streams"), keys, *arguments)
        assert await library.read_streams(prefix, "workers", "me", 5, 60_000, "a") is None
        await client.xadd(f"{prefix}a", {"task_id": "1"})
        assert await library.read_streams(prefix, "workers", "me", 5, 60_000, "a") is not None


# ------------------------------------------------------------ XINFO inside a script


async def test_groups_are_made_without_xinfo(judge: redis.asyncio.Redis, judged_url: str, queue_name: str) -> None:
    with pytest.raises(RefusedError, match="XINFO"):
        await evaluated(judge, "return redis.call('xinfo', 'groups', KEYS[1])", [f"{queue_name}:a"])
    async with ScriptClient.from_url(judged_url, decode_responses=True) as client:
        for _ in range(2):
            await ScriptLibrary(client).create_groups(f"{queue_name}:", "workers", "a", "b")
        assert [group["name"] for group in await client.xinfo_groups(f"{queue_name}:b")] == ["workers"]


async def test_a_group_that_cannot_be_made_says_why_without_a_second_minus(
    judged_url: str, queue_name: str
) -> None:
    async with ScriptClient.from_url(judged_url, decode_responses=True) as client:
        await client.set(f"{queue_name}:text", "not a stream")
        with pytest.raises(ResponseError, match=r"^(WRONGTYPE )?Operation against a key holding the wrong kind"):
            await ScriptLibrary(client).create_groups(f"{queue_name}:", "workers", "text")


# ------------------------------------------------------------ keys that were not declared


@pytest.mark.parametrize(
    ("name", "keys", "arguments"),
    [
        ("create_groups", [":"], ["g", "a"]),
        ("read_streams", [":"], ["g", "me", 5, 1, "a"]),
        ("publish_task", [":s", ":q", ":t", ":up:", ":down:", ":r:"], ["7", "{}", 0, 0, 1, "5"]),
        ("update_dependents", [":up:", ":down:"], ["7"]),
        ("fail_dependents", [":up:", ":down:"], ["7", ""]),
    ],
)
async def test_a_key_that_streaq_does_not_declare_is_refused(
    judge: redis.asyncio.Redis, queue_name: str, name: str, keys: list[str], arguments: list[Any]
) -> None:
    with pytest.raises(RefusedError, match="script tried accessing undeclared key, key: " + re.escape(queue_name)):
        await evaluated(judge, as_shipped(name), [queue_name + key for key in keys], *arguments)


async def test_without_their_flag_the_two_that_follow_the_graph_would_be_refused(
    judge: redis.asyncio.Redis, queue_name: str
) -> None:
    up, down = f"{queue_name}:up:", f"{queue_name}:down:"
    await judge.sadd(f"{up}7", "8")  # type: ignore[misc]
    for name, arguments in (("update_dependents", ["7"]), ("fail_dependents", ["7", ""])):
        flag, _, unflagged = SCRIPTS[name].text.partition("\n")
        assert flag == "--!df flags=allow-undeclared-keys"
        with pytest.raises(RefusedError, match=f"undeclared key, key: {re.escape(down)}8"):
            await evaluated(judge, unflagged, [up, down, f"{up}7", f"{down}7"], *arguments)


# ------------------------------------------------------------ Lua 5.4, and no `#!lua`


async def test_the_library_as_it_is_no_script(judge: redis.asyncio.Redis) -> None:
    with pytest.raises(RefusedError, match="unexpected symbol near '#'"):
        await judge.script_load(LIBRARY_TEXT)
    for script in SCRIPTS.values():
        assert await judge.script_load(script.text) == script.sha


async def test_what_lua_5_4_has_not_is_an_error_there(judge: redis.asyncio.Redis) -> None:
    for text in ("redis.setresp(3)", "return setfenv", "return debug"):
        with pytest.raises(RefusedError):
            await evaluated(judge, text, [])


async def everything(url: str, queue: str) -> list[Any]:
    """What the scripts answer and leave behind on both their branches, without ids that the clock makes."""
    async with ScriptClient.from_url(url, decode_responses=True) as client:
        library = ScriptLibrary(client)
        stream, delayed, task = f"{queue}:s:", f"{queue}:delayed", f"{queue}:task:"
        up, down, results = f"{queue}:up:", f"{queue}:down:", f"{queue}:results:"
        answers: list[Any] = [await library.create_groups(stream, "g", "low", "high") for _ in range(2)]

        async def publish(id_: str, score: int, expire: int, *after: str) -> Any:
            named = (f"{stream}low", delayed, f"{task}{id_}", up, down, results)
            answer = await library.publish_task(*named, id_, "{}", score, expire, 1_795_298_404_452, *after)
            return answer if isinstance(answer, int) else "an entry"

        answers += [await publish("1", 0, 0), await publish("1", 0, 0), await publish("2", 5, 60_000)]
        answers += [await publish("3", 0, 0, "1", "2"), await publish("4", 0, 0, "3")]
        answers += [await library.publish_delayed_tasks(delayed, f"{stream}low", 1_795_298_404_452)]
        answers += [await client.zadd(delayed, {"5": 1_795_298_404_451})]
        answers += [await library.publish_delayed_tasks(delayed, f"{stream}low", 1_795_298_404_452)]
        read = await library.read_streams(stream, "g", "me", 2, 60_000, "high", "low")
        ids = [entry.identifier for entry in read[f"{stream}low"]]
        answers += [[dict(entry.field_values) for entry in read[f"{stream}low"]]]
        for id_ in (*ids, "1-1"):
            answers += [await library.refresh_timeout(f"{stream}low", f"{queue}:running", "g", "me", id_, "1")]
        taken = await library.read_streams(stream, "g", "you", 9, 0, "high", "low")
        answers += [[dict(entry.field_values) for entry in taken[f"{stream}low"]]]
        answers += [await library.read_streams(stream, "g", "you", 9, 60_000, "high", "low")]
        answers += [await library.update_dependents(up, down, "1"), await library.update_dependents(up, down, "2")]
        answers += [
            await library.fail_dependents(up, down, "3", ""),
            await library.fail_dependents(up, down, "9", ""),
        ]
        for _ in range(2):
            cron = (f"{queue}:cron", delayed, f"{task}1", f"{task}6")
            answers += [await library.schedule_cron_job(*cron, "6", 1_795_298_404_999, "tick")]
        names = sorted([key async for key in client.scan_iter(match=f"*{queue}*")])
        answers += [
            [name.removeprefix(queue) for name in names],
            await client.zrange(delayed, 0, -1, withscores=True),
        ]
        return answers


async def test_every_script_answers_and_does_the_same_in_lua_5_1_and_5_4(
    broker_url: str, judged_url: str, queue_name: str
) -> None:
    assert await everything(judged_url, queue_name) == await everything(broker_url, queue_name)


# ------------------------------------------------------------ XREADGROUP over several streams


async def test_a_read_of_several_streams_names_the_empty_ones_too_and_is_understood(
    judge: redis.asyncio.Redis, judged_url: str, queue_name: str
) -> None:
    names = [f"{queue_name}:{name}" for name in ("a", "b")]
    async with ScriptClient.from_url(judged_url, decode_responses=True) as client:
        await ScriptLibrary(client).create_groups(f"{queue_name}:", "workers", "a", "b")
        await client.xadd(names[1], {"task_id": "1"})
        read = await client.xreadgroup("workers", "me", dict.fromkeys(names, ">"))
    assert read is not None
    assert {name: len(entries) for name, entries in read.items()} == {names[0]: 0, names[1]: 1}


# ------------------------------------------------------------ a cluster of one: keys in one hash slot


async def test_every_script_keeps_to_the_one_slot_of_its_queue(
    cluster_url: str, broker_url: str, queue_name: str
) -> None:
    assert await everything(cluster_url, queue_name) == await everything(broker_url, queue_name)
    apart = queue_name.strip("{}")
    async with ScriptClient.from_url(cluster_url, decode_responses=True) as client:
        with pytest.raises(ClusterCrossSlotError):
            await ScriptLibrary(client).create_groups(f"{apart}:", "workers", "a", "b")


# ------------------------------------------------------------ commands and options that are not there


@pytest.mark.parametrize(
    "command",
    [
        "XNACK s g SILENT IDS 1 1-1",
        "XACKDEL s g IDS 1 1-1",
        "XREADGROUP GROUP g me CLAIM 1 STREAMS s >",
        "XREADGROUP GROUP g me MAXCOUNT 1 STREAMS s >",
        "OBJECT ENCODING s",
        "FCALL create_groups 0",
        "FCALL_RO create_groups 0",
        "FUNCTION LIST",
        "CLIENT NO-TOUCH ON",
        "SET s v IFEQ w",
    ],
)
async def test_what_dragonfly_does_not_parse_is_refused(judge: redis.asyncio.Redis, command: str) -> None:
    with pytest.raises(RefusedError, match=r"(?i)unknown|syntax"):
        await judge.execute_command(*command.split())


async def test_one_such_command_refuses_its_whole_transaction(judge: redis.asyncio.Redis, queue_name: str) -> None:
    async with judge.pipeline(transaction=True) as pipe:
        pipe.incr(f"{queue_name}:n")
        pipe.execute_command("XNACK", f"{queue_name}:s", "g")
        with pytest.raises(RefusedError, match="unknown command"):
            await pipe.execute()
    assert await judge.exists(f"{queue_name}:n") == 0


async def test_a_transaction_whose_watched_key_changed_is_not_run(
    judge: redis.asyncio.Redis, queue_name: str
) -> None:
    async with judge.pipeline(transaction=True) as pipe:
        await pipe.watch(f"{queue_name}:n")
        await judge.incr(f"{queue_name}:n")
        pipe.multi()  # type: ignore[no-untyped-call]
        pipe.incr(f"{queue_name}:n")
        with pytest.raises(WatchError):
            await pipe.execute()
    assert await judge.get(f"{queue_name}:n") == "1"
