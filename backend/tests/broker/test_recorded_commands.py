"""What a whole mus sends to its broker, held against what DragonflyDB 1.40.1 parses."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis
from full_run import live_through_everything
from recorded_commands import recorded

from broker_rules import NO_FUNCTIONS
from dragonfly_rules.supported import Commands, supported
from mus.broker.embedded_server import EmbeddedServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

#: What must be among it, or the run below was no full one: streams, delayed jobs, cancels, events, metrics, limits.
#: XCLAIM comes too where a job runs at the moment at which its lane renews its messages: in most runs, not in all.
EXPECTED = {
    *("XADD", "XACK", "XDEL", "XREADGROUP", "XAUTOCLAIM", "XPENDING", "XGROUP CREATE"),
    *("EVALSHA", "SCRIPT LOAD", "MULTI", "EXEC", "ZADD", "ZRANGE", "ZREMRANGEBYSCORE", "EXISTS"),
    *(
        "PUBLISH",
        "SUBSCRIBE",
        "PUBSUB NUMSUB",
        "HINCRBYFLOAT",
        "HGETALL",
        "WATCH",
        "TIME",
        "EXPIRE",
        "INFO",
        "PING",
    ),
    *("HELLO", "CLIENT SETINFO"),
}


def test_a_full_run_sends_only_what_dragonfly_parses_and_keeps_its_keys_in_one_slot(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path / "broker", extra_arguments=NO_FUNCTIONS)
    server.start()
    try:
        server.wait_until_ready()
        with redis.Redis(unix_socket_path=str(server.socket_path), protocol=2, decode_responses=True) as client:
            client.response_callbacks.clear()
            commands = Commands.read(client)
            counted_before = counts(client)
            with recorded(server.socket_path) as recording:
                live_through_everything(tmp_path, server.url, lambda: "EXISTS" in recording.names())
                counted = counts(client)
            assert recording.unread == []
            ours = [arguments for _, arguments in recording.commands]
            sent: dict[str, set[str]] = {}
            for arguments in ours:
                name, options = commands.used(arguments)
                sent.setdefault(name, set()).update(options)
            objections = {objection for arguments in ours if (objection := commands.objection(arguments))}
            assert objections == set()
            # Each was looked up in DragonflyDB's source, with its options.
            assert set(sent) - set(supported()["used"]) == set()
            assert EXPECTED - set(sent) == set()
            assert {client for client, _ in recording.commands} > {"lua"}
            # MONITOR hides what is for admins; the server's own statistics do not.
            unseen = {name for name, calls in counted.items() if calls > counted_before.get(name, 0)}
            assert unseen - set(sent) == {"MONITOR"}
            keys = {key for arguments in ours for key in keys_of(client, arguments)}
            assert keys
            assert {key for key in keys if "{mus}" not in key} == set()
    finally:
        server.stop()


def counts(client: redis.Redis) -> dict[str, int]:
    """How often each command was called, so far."""
    lines = client.execute_command("INFO", "commandstats").splitlines()[1:]
    pairs = [line.removeprefix("cmdstat_").partition(":calls=") for line in lines if line]
    return {name.upper().replace("|", " "): int(rest.partition(",")[0]) for name, _, rest in pairs}


def keys_of(client: redis.Redis, arguments: list[str]) -> list[str]:
    try:
        return list(client.execute_command("COMMAND", "GETKEYS", *arguments))
    except redis.ResponseError as error:
        if "no key arguments" not in str(error):
            raise
        return []


@pytest.mark.parametrize("broker", ["judged_url", "cluster_url"])
def test_a_full_run_goes_well_with_dragonflys_rules_and_in_a_cluster_of_one(
    request: pytest.FixtureRequest, tmp_path: Path, broker: str
) -> None:
    live_through_everything(tmp_path, request.getfixturevalue(broker))
