"""Doing harm: each kind of fault of the plan, from its begin to its end."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import redis.asyncio
from redis.exceptions import RedisError
from streaq.constants import REDIS_GROUP, REDIS_PREFIX, REDIS_STREAM

from chaos.fleet import Member
from chaos.own_broker import OwnBroker
from chaos.own_database import OwnDatabase
from chaos.plan import Fault
from mus.broker.queues import Queue

#: How long a worker may take to drain, handing back included.
_STOP_SECONDS = 20.0


class Faults:
    """What can be done to the processes, the broker, the database and the clocks. Faults on one of them wait for
    each other."""

    def __init__(
        self,
        members: dict[str, Member],
        broker: OwnBroker,
        queue_name: str,
        database: OwnDatabase,
        say: Callable[[str], None],
    ) -> None:
        self._members = members
        self._broker = broker
        self._broker_lock = asyncio.Lock()
        self._database_lock = asyncio.Lock()
        self._stream_key = f"{REDIS_PREFIX}{queue_name}{REDIS_STREAM}"
        self._database = database
        self._say = say
        self.done: Counter[str] = Counter()
        self.not_possible: Counter[str] = Counter()
        self._kinds: dict[str, Callable[[Fault], Coroutine[Any, Any, None]]] = {
            "worker killed": self._kill,
            "api killed": self._kill,
            "watcher killed": self._kill,
            "worker frozen": self._freeze,
            "api frozen": self._freeze,
            "watcher frozen": self._freeze,
            "worker stopped": self._stop,
            "all workers killed": self._kill_all_workers,
            "broker killed": self._kill_broker,
            "broker emptied": self._kill_broker,
            "broker rolled back": self._kill_broker,
            "broker frozen": self._freeze_broker,
            "scripts forgotten": self._forget_scripts,
            "database locked": self._lock_database,
            "database killed": self._kill_database,
            "clock of one": self._shift_clocks,
            "clock of all": self._shift_clocks,
            "messages run twice": self._run_twice,
            "messages copied": self._copy_messages,
            "messages held back": self._hold_messages_back,
            "messages swallowed": self._swallow_messages,
        }

    async def do(self, fault: Fault) -> None:
        self._say(str(fault))
        try:
            await self._kinds[fault.kind](fault)
            self.done[fault.kind] += 1
        except (RedisError, OSError) as error:
            # A message cannot be doubled while the broker is down.
            self.not_possible[fault.kind] += 1
            self._say(f"           {fault.kind}: not possible just now: {error!r}")

    # -------------------------------------------------------------- processes

    async def _kill(self, fault: Fault) -> None:
        member = self._members[fault.who]
        async with member.lock:
            await member.kill()
            await asyncio.sleep(fault.seconds)
            await member.revive()

    async def _kill_all_workers(self, fault: Fault) -> None:
        workers = [member for member in self._members.values() if member.role == "worker"]
        await asyncio.gather(
            *(self._kill(Fault(fault.at, fault.kind, member.name, fault.seconds)) for member in workers)
        )

    async def _freeze(self, fault: Fault) -> None:
        member = self._members[fault.who]
        async with member.lock:
            member.send(signal.SIGSTOP)
            await asyncio.sleep(fault.seconds)
            member.send(signal.SIGCONT)

    async def _stop(self, fault: Fault) -> None:
        member = self._members[fault.who]
        async with member.lock:
            await member.stop(_STOP_SECONDS)
            await asyncio.sleep(fault.seconds)
            await member.revive()

    async def _shift_clocks(self, fault: Fault) -> None:
        """The clocks are wrong for a while, then right again: a jump there, a jump back."""
        members = [self._members[fault.who]] if fault.who in self._members else list(self._members.values())
        for member in members:
            member.control.set("clock_offset_seconds", fault.amount)
        await asyncio.sleep(fault.seconds)
        for member in members:
            member.control.set("clock_offset_seconds", 0.0)

    # ----------------------------------------------------------------- broker

    async def _kill_broker(self, fault: Fault) -> None:
        async with self._broker_lock:
            self._broker.kill()
            if fault.kind == "broker emptied":
                self._broker.forget_everything()
            elif fault.kind == "broker rolled back":
                self._broker.forget_the_end(fault.amount)
            await asyncio.sleep(fault.seconds)
            self._broker.start()
            await self._broker.ready()

    async def _freeze_broker(self, fault: Fault) -> None:
        async with self._broker_lock:
            self._broker.freeze()
            await asyncio.sleep(fault.seconds)
            self._broker.thaw()

    async def _forget_scripts(self, fault: Fault) -> None:
        async with self._broker_lock, self._client() as client:
            await client.script_flush()

    # --------------------------------------------------------------- messages

    def _client(self) -> redis.asyncio.Redis:
        return redis.asyncio.from_url(self._broker.url, decode_responses=True, socket_timeout=5)

    async def _run_twice(self, fault: Fault) -> None:
        control = self._members[fault.who].control
        control.set("runs_twice", 1.0)
        await asyncio.sleep(fault.seconds)
        control.set("runs_twice", 0.0)

    async def _copy_messages(self, fault: Fault) -> None:
        """What waits is put in once more, and so is what runs just now."""
        running = await asyncio.to_thread(self._running_deliveries)
        async with self._broker_lock, self._client() as client:
            for queue in Queue:
                for _, message in await client.xrange(self._stream_key + queue, count=int(fault.amount)):
                    await client.xadd(self._stream_key + queue, message)
            for queue, delivery_id in running:
                await client.xadd(self._stream_key + queue, {"task_id": delivery_id, "enqueue_time": 0})

    def _running_deliveries(self) -> list[tuple[str, str]]:
        found = self._database.rows("SELECT queue, id, attempt, delivery FROM jobs WHERE state = 'running'")
        return [(job["queue"], f"{job['id']}.{job['attempt']}.{job['delivery']}") for job in found]

    async def _taken(
        self, client: redis.asyncio.Redis, consumer: str, count: int
    ) -> list[tuple[str, str, dict[str, str]]]:
        """Messages that a consumer of our own has taken: stream, message id, message."""
        taken: list[tuple[str, str, dict[str, str]]] = []
        for queue in Queue:
            stream = self._stream_key + queue
            for _, messages in await client.xreadgroup(REDIS_GROUP, consumer, {stream: ">"}, count=count):
                taken += [(stream, message_id, message) for message_id, message in messages]
        return taken

    async def _hold_messages_back(self, fault: Fault) -> None:
        """Messages are taken out and put in again later, as by a slow network."""
        async with self._broker_lock, self._client() as client:
            held = await self._taken(client, "holder", int(fault.amount))
            for stream, message_id, _ in held:
                await client.xack(stream, REDIS_GROUP, message_id)
                await client.xdel(stream, message_id)
        await asyncio.sleep(fault.seconds)
        async with self._broker_lock, self._client() as client:
            for stream, _, message in held:
                await client.xadd(stream, message)

    async def _swallow_messages(self, fault: Fault) -> None:
        """A consumer that takes messages, and is never heard of again."""
        async with self._broker_lock, self._client() as client:
            await self._taken(client, "phantom", int(fault.amount))

    # --------------------------------------------------------------- database

    async def _lock_database(self, fault: Fault) -> None:
        async with self._database_lock:
            await asyncio.to_thread(self._database.hold, fault.seconds)

    async def _kill_database(self, fault: Fault) -> None:
        async with self._database_lock:
            await asyncio.to_thread(self._database.kill, fault.seconds)
