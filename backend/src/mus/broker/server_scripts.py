"""streaQ's server-side functions, run as Lua scripts on every broker alike (DESIGN §3).

streaQ 7 runs its atomic steps as Redis Functions, which DragonflyDB does not have (its issue 1020).
`install()` takes the functions out of the `streaq.lua` that the installed streaQ ships, mends what a
DragonflyDB trips over, and puts three stand-ins in place:

    ScriptLibrary    for streaq.types.Streaq    each function by EVALSHA, every key that can be known declared
    ScriptClient     for streaq.worker.Redis    a script that the broker forgot is loaded and called again
    ScriptPipeline   what ScriptClient.pipeline() gives: the same, for the commands of a pipeline

Names, keys and arguments are streaQ's own: the named keys keep their positions, the declared ones come
after them.
"""

from __future__ import annotations

import importlib
import importlib.resources
import weakref
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from typing import Any, Self, cast

from coredis import ConnectionPool, Redis
from coredis.client import Client
from coredis.commands import CommandRequest
from coredis.commands.constants import CommandName
from coredis.connection import BaseConnection
from coredis.exceptions import NoScriptError
from coredis.patterns.pipeline import Pipeline, PipelineCommandRequest
from coredis.typing import AnyStr, R
from streaq.types import ReadStreamsCallback

from mus import broker_address
from mus.broker.script_texts import RELOADS, shipped_scripts, texts_by_sha
from mus.errors import ConfigurationError

#: Where streaQ holds the two names that `install` replaces.
LIBRARY_HOLDERS = ("streaq.types", "streaq.worker", "streaq.task")
CLIENT_HOLDER = "streaq.worker"


def install() -> None:
    """Put the stand-ins in place of streaQ's own, in this process. Calling it again changes nothing.

    Must run before the first `streaq.Worker` is made. Raises ConfigurationError if streaQ or coredis changed
    shape.
    """
    _ = shipped_scripts()
    _check_coredis()
    for holder in LIBRARY_HOLDERS:
        _replace(holder, "Streaq", ScriptLibrary)
    _replace(CLIENT_HOLDER, "Redis", ScriptClient)


def _replace(module_name: str, name: str, replacement: type) -> None:
    module = importlib.import_module(module_name)
    if not hasattr(module, name):
        raise ConfigurationError(f"streaQ has changed shape ({module_name}.{name} is gone): pin streaq==7.2.0")
    setattr(module, name, replacement)


def _check_coredis() -> None:
    needed = {
        Pipeline: ("_execute_transaction", "_execute_pipeline", "_raise_first_error"),
        ConnectionPool: ("release",),
    }
    gone = [
        f"{owner.__name__}.{name}" for owner, names in needed.items() for name in names if name not in vars(owner)
    ]
    if gone:
        raise ConfigurationError(f"coredis has changed shape ({', '.join(gone)}): pin coredis==6.9.0")


class ScriptLibrary:
    """`streaq.types.Streaq` by EVALSHA: the same constructor, the same methods, no Redis Functions.

    Awaiting it loads the scripts; calling one does not need that, since ScriptClient loads what is missing.
    """

    def __init__(
        self,
        client: Client[Any],
        name: str | None = None,
        code: str | None = None,
        replace: bool = False,  # noqa: FBT001, FBT002 - the signature of coredis' Library
    ) -> None:
        # A weak reference as in coredis' Library: the worker holds its client and its library.
        self._client = weakref.ref(client)
        # The code given is streaQ's own file, which `install` has read and checked already.
        del name, code, replace

    @property
    def client(self) -> Client[Any]:
        client = self._client()
        assert client is not None
        return client

    def __await__(self) -> Generator[Any, None, Self]:
        return self._load().__await__()

    async def _load(self) -> Self:
        client = self.client.client if isinstance(self.client, Pipeline) else self.client
        for script in shipped_scripts().values():
            await client.script_load(script.text)
        return self

    def create_groups(self, stream_key: str, group_name: str, *priorities: str) -> CommandRequest[Any]:
        streams = [stream_key + priority for priority in priorities]
        return self._call("create_groups", [stream_key, *streams], [group_name, *priorities])

    def fail_dependents(
        self, dependents_key: str, dependencies_key: str, task_id: str, skip_id: str
    ) -> CommandRequest[Any]:
        keys = [dependents_key, dependencies_key, dependents_key + task_id]
        return self._call("fail_dependents", keys, [task_id, skip_id])

    def publish_delayed_tasks(self, queue_key: str, stream_key: str, current_time: int) -> CommandRequest[Any]:
        return self._call("publish_delayed_tasks", [queue_key, stream_key], [current_time])

    def publish_task(
        self,
        stream_key: str,
        queue_key: str,
        task_key: str,
        dependents_key: str,
        dependencies_key: str,
        results_key: str,
        task_id: str,
        task_data: Any,
        score: int,
        expire: int,
        current_time: int,
        *dependencies: str,
    ) -> CommandRequest[Any]:
        keys = [stream_key, queue_key, task_key, dependents_key, dependencies_key, results_key]
        if dependencies:
            keys.append(dependencies_key + task_id)
        for dependency in dependencies:
            keys += (results_key + dependency, dependents_key + dependency)
        arguments = [task_id, task_data, score, expire, current_time, *dependencies]
        return self._call("publish_task", keys, arguments)

    def read_streams(
        self, stream_key: str, group_name: str, consumer_name: str, count: int, idle: int, *priorities: str
    ) -> CommandRequest[Any]:
        streams = [stream_key + priority for priority in priorities]
        arguments = [group_name, consumer_name, count, idle, *priorities]
        return self._call("read_streams", [stream_key, *streams], arguments).transform(ReadStreamsCallback())

    def update_dependents(self, dependents_key: str, dependencies_key: str, task_id: str) -> CommandRequest[Any]:
        keys = [dependents_key, dependencies_key, dependents_key + task_id, dependencies_key + task_id]
        return self._call("update_dependents", keys, [task_id])

    def refresh_timeout(
        self,
        stream_key: str,
        running_set: str,
        group_name: str,
        consumer: str,
        message_id: str,
        task_id: str,
    ) -> CommandRequest[Any]:
        keys = [stream_key, running_set]
        return self._call("refresh_timeout", keys, [group_name, consumer, message_id, task_id])

    def schedule_cron_job(
        self,
        cron_key: str,
        queue_key: str,
        data_key: str,
        task_key: str,
        task_id: str,
        score: int,
        member: str,
    ) -> CommandRequest[Any]:
        keys = [cron_key, queue_key, data_key, task_key]
        return self._call("schedule_cron_job", keys, [task_id, score, member])

    def _call(self, name: str, keys: Sequence[str], arguments: Sequence[Any]) -> CommandRequest[Any]:
        script = shipped_scripts()[name]
        client = self.client
        if script.follows_graph and isinstance(client, ScriptPipeline) and client.in_transaction:
            # On DragonflyDB a script with undeclared keys may run in a MULTI only if the transaction is
            # global, and a SCRIPT command makes it so; without it: "Multi mode conflict when running eval in
            # multi transaction", with the transaction's other commands applied.
            client.script_exists([script.sha])
        return client.evalsha(script.sha, keys, arguments)


class SlotKeepingPool(ConnectionPool[Any]):
    """coredis' connection pool, without its leak.

    coredis 6.9 never gives back the place of a connection that died, or whose command was cancelled, while
    it was lent out: after 64 of those (its default size) every command waits for ever. A worker loses one at
    each cancelled blocking read, and several at each death of the broker.
    """

    def release(self, connection: Any) -> None:
        super().release(connection)
        if not connection.usable and not self._available_connections.full():
            self._available_connections.append_nowait(None)


class ScriptClient(Redis[AnyStr]):
    """coredis' client for one server, on which our scripts survive SCRIPT FLUSH and a restarted broker."""

    @classmethod
    def from_url(
        cls, url: str, db: int | None = None, *, decode_responses: bool = False, **options: Any
    ) -> ScriptClient[Any]:
        own = {
            name: options.pop(name)
            for name in ("verify_version", "retry_policy", "type_adapter")
            if name in options
        }
        # Left alone, coredis would neither decode the password nor check whose certificate it is shown.
        options.setdefault("ssl_context", broker_address.tls_context(url))
        options = broker_address.lasting_options(url) | options
        pool = SlotKeepingPool.from_url(
            url, decode_components=True, db=db, decode_responses=decode_responses, **options
        )
        return cast(
            "ScriptClient[Any]",
            cls(
                connection_pool=pool,
                decode_responses=decode_responses,
                noreply=bool(options.get("noreply", False)),
                **own,
            ),
        )

    async def execute_command(self, command: CommandRequest[R]) -> R:
        for _ in range(RELOADS):
            try:
                return await super().execute_command(command)
            except NoScriptError:
                text = _script_called_by(command)
                if text is None:
                    raise
                await self.script_load(text)
        return await super().execute_command(command)

    def pipeline(
        self,
        transaction: bool = True,  # noqa: FBT001, FBT002 - the signature of coredis' client
        *,
        raise_on_error: bool = True,
        timeout: float | None = None,
    ) -> ScriptPipeline[AnyStr]:
        return ScriptPipeline[AnyStr](self, transaction, raise_on_error, timeout)


class ScriptPipeline(Pipeline[AnyStr]):
    """coredis' pipeline, MULTI or not: a script that the broker forgot is loaded, that one command repeated.

    The rest of the pipeline is never sent twice: its commands have taken effect. A repeated command of a
    MULTI runs alone after it, which streaQ's graph functions bear: they act on what the transaction left.
    """

    @property
    def in_transaction(self) -> bool:
        return bool(self._transaction)

    async def _execute_transaction(
        self, connection: BaseConnection, commands: list[PipelineCommandRequest[Any]]
    ) -> None:
        await self._run_and_repeat(super()._execute_transaction, connection, commands)

    async def _execute_pipeline(
        self, connection: BaseConnection, commands: list[PipelineCommandRequest[Any]]
    ) -> None:
        await self._run_and_repeat(super()._execute_pipeline, connection, commands)

    async def _run_and_repeat(
        self,
        run: Callable[[BaseConnection, list[PipelineCommandRequest[Any]]], Awaitable[None]],
        connection: BaseConnection,
        commands: list[PipelineCommandRequest[Any]],
    ) -> None:
        raise_on_error, self._raise_on_error = self._raise_on_error, False
        try:
            await run(connection, commands)
            results = self._taken_results()
            for _ in range(RELOADS):
                missing = _calls_of_unknown_scripts(commands, results)
                if not missing:
                    break
                for text in dict.fromkeys(missing.values()):
                    await connection.create_request(CommandName.SCRIPT_LOAD, text)
                # Only these, on the same connection, without MULTI: their own order is kept.
                await super()._execute_pipeline(connection, [commands[position] for position in missing])
                for position, result in zip(missing, self._taken_results(), strict=True):
                    results[position] = result
            self._results = cast("Any", tuple(results))
        finally:
            self._raise_on_error = raise_on_error
        if raise_on_error:
            self._raise_first_error(commands, results)

    def _taken_results(self) -> list[Any]:
        return list(cast("Iterable[Any]", self._results))


def _script_called_by(command: CommandRequest[Any]) -> str | None:
    """The text of the script that an EVALSHA calls, if it is one of ours."""
    if command.name != CommandName.EVALSHA:
        return None
    return texts_by_sha().get(str(command.serialized_arguments[0]))


def _calls_of_unknown_scripts(
    commands: Sequence[PipelineCommandRequest[Any]], results: Sequence[Any]
) -> dict[int, str]:
    """Positions of the commands that failed with NOSCRIPT, each with the text of its script."""
    return {
        position: text
        for position, (command, result) in enumerate(zip(commands, results, strict=True))
        if isinstance(result, NoScriptError) and (text := _script_called_by(command)) is not None
    }
