"""The singleton broker: tasks are registered with it, jobs are enqueued through it.

    @broker.task("read_files", timeout_seconds=3600)
    async def read_files(*, library_id: int, paths: list[str]) -> dict[str, Any]: ...

    async with database.unit_of_work():
        job_id = await broker.enqueue(Queue.MEDIUM, read_files, library_id=1, paths=paths)

The row is written in the current unit of work and published to streaQ after its commit (DESIGN §4).
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import typing
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Generic, ParamSpec

import redis.asyncio
from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from redis.exceptions import RedisError as RedisPackageError
from redis.exceptions import ResponseError

from mus import broker_address
from mus.broker.publisher import GROUP, PUBLISH_ERRORS, Publisher
from mus.broker.queues import DELAYED_LOOK_SECONDS, consumer_name, follow_up_queue, queue_named
from mus.errors import BadRequestError, BrokerUnavailableError
from mus.events.feed import EventFeed
from mus.json_text import encoded
from mus.ledger.deliveries import Delivery
from mus.ledger.job_rows import MAX_ATTEMPTS, NewJob
from mus.ledger.ledger import Alert, Ledger
from mus.ledger.postponed import backoff_seconds
from mus.persistence.database import Database
from mus.persistence.models import utc_now

logger = logging.getLogger(__name__)

P = ParamSpec("P")
JobFunction = Callable[P, Coroutine[Any, Any, dict[str, Any] | None]]

#: How long publishing may keep a caller waiting. The row stands either way, and reconcile publishes it later.
PUBLISH_TIMEOUT_SECONDS = 2.0
#: Far more than a lane has slots, and than it takes.
MOST_TAKEN = 1_000
#: A lane has looked for delayed messages once more by then, however long one took to come to the broker.
_DELAYED_LOOK = timedelta(seconds=DELAYED_LOOK_SECONDS + PUBLISH_TIMEOUT_SECONDS)


@dataclass(frozen=True, slots=True)
class Task(Generic[P]):
    """A registered job function: its stable name, its limits, and the shape of its arguments."""

    name: str
    function: JobFunction[P]
    timeout_seconds: float
    continuation: str | None
    arguments: type[BaseModel]
    attempts: int = MAX_ATTEMPTS
    #: Before the second attempt; later pauses grow from it (`backoff_seconds`).
    first_backoff_seconds: float = 2.0

    def wait_seconds(self, attempt: int) -> float:
        """The pause after this attempt failed for now."""
        return backoff_seconds(attempt, first_seconds=self.first_backoff_seconds)

    def checked(self, given: dict[str, Any]) -> dict[str, Any]:
        """JSON-ready arguments. Raises BadRequestError naming the first that does not fit."""
        try:
            return self.arguments.model_validate(given).model_dump(mode="json")
        except ValidationError as invalid:
            raise self._unfit(invalid) from None

    def called_with(self, stored: dict[str, Any]) -> dict[str, Any]:
        """What the function is called with, from the arguments in a job's row, which another version of mus may
        have written. Raises BadRequestError naming the first that does not fit."""
        try:
            # As JSON: strict, but a text still stands for a path or an instant.
            arguments = self.arguments.model_validate_json(encoded(stored))
        except ValidationError as invalid:
            raise self._unfit(invalid) from None
        return {name: getattr(arguments, name) for name in self.arguments.model_fields}

    def _unfit(self, invalid: ValidationError) -> BadRequestError:
        first = invalid.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return BadRequestError(f"{self.name}: argument {where!r}: {first['msg']}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is said about a job besides its task's arguments; the fields are those of `NewJob`."""

    parent_id: str | None = None
    dedupe_key: str | None = None
    exclusive_key: str | None = None
    delay_until: Any = None
    requested_by: str | None = None


@dataclass
class Connection:
    """An open way to the broker: a publisher onto streaQ's queues, and a client for all else."""

    url: str = field(repr=False)
    queue_name: str
    ledger: Ledger
    redis: redis.asyncio.Redis
    feed: EventFeed
    _publisher: Publisher
    _hearers: list[Callable[[Collection[str]], None]] = field(default_factory=list)

    @property
    def control_channel(self) -> str:
        """Where workers hear `cancel <job id>`, `queues` (one was paused or resumed), `delayed` (due soon)."""
        return f"mus:{self.queue_name}:control"

    def _unavailable(self, error: BaseException) -> BrokerUnavailableError:
        return BrokerUnavailableError(
            f"The broker at {broker_address.shown(self.url)} does not answer: {error or type(error).__name__}",
            recovery_actions=("Start it, or correct MUS_DRAGONFLY_URL",),
        )

    async def publish(self, deliveries: list[Delivery]) -> None:
        # Before they go: one that falls due on its way is on the delayed set all the same.
        delayed = any(map(_is_soon, deliveries))
        try:
            async with asyncio.timeout(PUBLISH_TIMEOUT_SECONDS + len(deliveries) / 1000):
                await self._publisher.publish(deliveries)
        except PUBLISH_ERRORS as error:
            raise self._unavailable(error) from error
        if delayed:
            await self._announce("delayed")

    async def missing(self, delivery_ids: list[str]) -> set[str]:
        try:
            async with asyncio.timeout(PUBLISH_TIMEOUT_SECONDS):
                return await self._publisher.missing(delivery_ids)
        except PUBLISH_ERRORS as error:
            raise self._unavailable(error) from error

    async def waiting(self, queue: str) -> set[str] | None:
        try:
            async with asyncio.timeout(PUBLISH_TIMEOUT_SECONDS):
                return await self._publisher.waiting(queue)
        except PUBLISH_ERRORS as error:
            raise self._unavailable(error) from error

    async def taken_by(self, worker_id: str, queues: Sequence[str]) -> list[str]:
        try:
            async with asyncio.timeout(PUBLISH_TIMEOUT_SECONDS):
                return [
                    delivery_id
                    for queue in queues
                    for delivery_id in await self._taken_by(consumer_name(worker_id, queue), queue)
                ]
        except (RedisPackageError, OSError, TimeoutError) as error:
            raise self._unavailable(error) from error

    async def _taken_by(self, consumer: str, queue: str) -> list[str]:
        stream = self._publisher.stream_key + queue
        try:
            pending = await self.redis.xpending_range(
                stream, GROUP, min="-", max="+", count=MOST_TAKEN, consumername=consumer
            )
        except ResponseError as error:
            if "NOGROUP" in str(error):
                return []  # the broker came back empty
            raise
        found: list[str] = []
        for message in pending:
            entries: Any = await self.redis.xrange(stream, message["message_id"], message["message_id"])
            found += [fields["task_id"] for _, fields in entries]
        return found

    async def announce_cancel(self, job_id: str) -> None:
        await self._announce(f"cancel {job_id}")

    async def announce_queues(self) -> None:
        await self._announce("queues")

    async def _announce(self, what: str) -> None:
        try:
            async with asyncio.timeout(PUBLISH_TIMEOUT_SECONDS):
                await self.redis.publish(self.control_channel, what)
        except (RedisPackageError, OSError, TimeoutError) as error:
            logger.warning("%r was not announced, reconcile will see it: %s", what, error)

    def jobs_changed(self, job_ids: Iterable[str]) -> None:
        changed = frozenset(job_ids)
        self.feed.jobs_changed(changed)
        for heard in list(self._hearers):
            heard(changed)

    @contextmanager
    def hearing(self, heard: Callable[[Collection[str]], None]) -> Iterator[None]:
        """For the block `heard` is called with the ids of jobs whose rows this process has changed."""
        self._hearers.append(heard)
        try:
            yield
        finally:
            self._hearers.remove(heard)


class Broker:
    """Tasks by name, and the connection through which their jobs go out."""

    def __init__(self) -> None:
        self.tasks: dict[str, Task[Any]] = {}
        self._connection: Connection | None = None

    def task(
        self,
        name: str,
        *,
        timeout_seconds: float = 3600.0,
        continuation: str | None = None,
        attempts: int = MAX_ATTEMPTS,
        first_backoff_seconds: float = 2.0,
    ) -> Callable[[JobFunction[P]], Task[P]]:
        """Register an async function as the task `name`; renaming the function orphans no waiting job.

        `timeout_seconds` ends an attempt (as `temporary`). `continuation` names the task that runs as the last
        child once the others have ended. What fails for now is tried `attempts` times in all, with growing pauses.

        Jobs of an older mus may wait while a newer one starts, so a signature only ever grows: a new argument has
        a default, one that is no longer used stays, and one with another name keeps the old one as well:
        `files: Annotated[list[str], Field(validation_alias="paths")]`. What does not fit all the same ends its job
        as failed, and no other's.
        """

        def register(function: JobFunction[P]) -> Task[P]:
            if name in self.tasks:
                raise ValueError(f"a task named {name} is registered already")
            task = Task(
                name,
                function,
                timeout_seconds,
                continuation,
                _argument_model(name, function),
                attempts,
                first_backoff_seconds,
            )
            self.tasks[name] = task
            return task

        return register

    @property
    def connection(self) -> Connection:
        if self._connection is None:
            raise RuntimeError("the broker is not connected")
        return self._connection

    @property
    def ledger(self) -> Ledger:
        return self.connection.ledger

    async def enqueue(
        self, queue: str, task: Task[Any] | str, options: Options | None = None, /, **arguments: Any
    ) -> str:
        """Write a job in the current unit of work; returns its id (a waiting one's for an equal dedupe key).

        Raises BadRequestError for an unknown queue or task and for arguments that the task does not take, and
        RuntimeError outside a unit of work.
        """
        return (await self.enqueue_many([self.job(queue, task, options, **arguments)]))[0]

    def job(self, queue: str, task: Task[Any] | str, options: Options | None = None, /, **arguments: Any) -> NewJob:
        """A job to be enqueued together with others by `enqueue_many`."""
        name = task if isinstance(task, str) else task.name
        registered = self.tasks.get(name)
        if registered is None:
            raise BadRequestError(f"There is no task {name!r}", details={"tasks": sorted(self.tasks)})
        options = options or Options()
        target = queue_named(queue)
        return NewJob(
            task=name,
            queue=target,
            arguments=registered.checked(arguments),
            continuation=registered.continuation,
            continuation_queue=follow_up_queue(target),
            parent_id=options.parent_id,
            dedupe_key=options.dedupe_key,
            exclusive_key=options.exclusive_key,
            run_after=options.delay_until,
            requested_by=options.requested_by,
            max_attempts=registered.attempts,
        )

    async def enqueue_many(self, jobs: list[NewJob]) -> list[str]:
        """Write many jobs at once; see `enqueue`."""
        return await self.ledger.add(jobs)

    @asynccontextmanager
    async def connected(
        self, database: Database, url: str, queue_name: str, *, alert: Alert | None = None
    ) -> AsyncIterator[Connection]:
        """Open the connection for the block. The broker need not answer: jobs then wait in their rows.

        `alert` makes the job that tells an admin of one that failed.
        """
        if self._connection is not None:
            raise RuntimeError("the broker is connected already")
        client = redis.asyncio.from_url(url, **broker_address.CLIENT_OPTIONS, **broker_address.lasting_options(url))
        publisher = Publisher(url, queue_name)
        feed = EventFeed(database, client, queue_name)
        connection = Connection(url, queue_name, None, client, feed, publisher)  # type: ignore[arg-type]
        connection.ledger = Ledger(database, connection, alert)
        self._connection = connection
        try:
            async with publisher.opened(), feed.telling():
                try:
                    yield connection
                finally:
                    await connection.ledger.publish_rest()
        finally:
            self._connection = None
            await client.aclose()


def _is_soon(delivery: Delivery) -> bool:
    """Whether a message is delayed, and due before every lane has looked for such once more."""
    now = utc_now()
    return delivery.run_after is not None and now < delivery.run_after < now + _DELAYED_LOOK


def _argument_model(name: str, function: JobFunction[Any]) -> type[BaseModel]:
    hints = typing.get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            raise TypeError(f"task {name}: arguments are passed by name, so declare {parameter.name!r} after a `*`")
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        fields[parameter.name] = (hints[parameter.name], default)
    # Not the texts of arguments: no path comes twice, and the last 16,000 would be kept, strewn over 10 MiB.
    config = ConfigDict(
        extra="forbid", strict=True, validate_by_name=True, validate_by_alias=True, cache_strings="keys"
    )
    return create_model(f"{name}_arguments", __config__=config, **fields)


broker = Broker()
