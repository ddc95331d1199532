"""Jobs and requests as the plan has them, and what was answered.

A request that got no answer is not repeated: whether it took effect is not known, and must not matter.
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol

import httpx

from chaos.fleet import Member
from chaos.own_database import OwnDatabase
from chaos.plan import Batch, Request
from chaos.process import JOBS_PATH
from mus.broker.streaq_broker import Options, broker
from mus.errors import MusError
from mus.persistence.database import Database
from mus.persistence.models import utc_now

_TIMEOUT_SECONDS = 3.0
_API = "/api/v1"
_NO_ANSWER = (httpx.HTTPError, OSError)


class Timed(Protocol):
    @property
    def at(self) -> float: ...


async def in_time(steps: Iterable[Timed], began: float, do: Callable[[Any], Awaitable[None]]) -> None:
    """Do each step at its time, whether or not those before it have ended."""
    async with asyncio.TaskGroup() as running:
        for step in steps:
            await asyncio.sleep(max(0.0, began + step.at - time.monotonic()))
            running.create_task(do(step))


@dataclass
class Load:
    """Puts jobs and requests in, and remembers what it was told."""

    database: Database
    own_database: OwnDatabase
    apis: dict[str, Member]
    client: httpx.AsyncClient
    #: Ids by the names of jobs whose enqueueing was acknowledged.
    ids: dict[str, str] = field(default_factory=dict)
    #: Every id that a caller was given.
    acknowledged: set[str] = field(default_factory=set)
    #: Jobs whose enqueueing got no answer.
    unanswered: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    #: Answers that must never be given, word for word.
    wrong_answers: list[str] = field(default_factory=list)
    #: (queue, last event when the pause stood, last event before the resume was asked for)
    pauses: list[tuple[str, int, int]] = field(default_factory=list)
    _paused_since: dict[str, int] = field(default_factory=dict)
    _resumes: Counter[str] = field(default_factory=Counter)
    #: Queues with a resume that got no answer.
    _resumes_under_way: set[str] = field(default_factory=set)
    queues_can_be_paused: bool = False

    # ------------------------------------------------------------------- jobs

    async def enqueue(self, batch: Batch) -> None:
        try:
            ids = await (self._enqueue_directly(batch) if batch.via == "direct" else self._enqueue_by_http(batch))
        except (MusError, *_NO_ANSWER) as error:
            self.unanswered += len(batch.jobs)
            self.answers[f"jobs: {type(error).__name__}"] += 1
            return
        if ids is not None:
            self.ids.update(zip((job.name for job in batch.jobs), ids, strict=True))
            self.acknowledged.update(ids)

    async def _enqueue_directly(self, batch: Batch) -> list[str]:
        async with self.database.unit_of_work():
            return await broker.enqueue_many(
                [
                    broker.job(
                        job.queue,
                        job.task,
                        Options(
                            exclusive_key=job.exclusive_key,
                            delay_until=(
                                utc_now() + timedelta(seconds=job.delay_seconds) if job.delay_seconds else None
                            ),
                        ),
                        **job.arguments,
                    )
                    for job in batch.jobs
                ]
            )

    async def _enqueue_by_http(self, batch: Batch) -> list[str] | None:
        wanted = [
            {"queue": job.queue, "task": job.task, "arguments": job.arguments, "exclusive_key": job.exclusive_key}
            for job in batch.jobs
        ]
        answer = await self._send(batch.via, "POST", JOBS_PATH, json=wanted)
        self._note("jobs", answer)
        if answer.status_code != 202:
            self.unanswered += len(batch.jobs)
            return None
        ids: list[str] = answer.json()
        return ids

    # --------------------------------------------------------------- requests

    async def request(self, request: Request) -> None:
        method, path, body = self._translated(request)
        if not path:
            self.answers[f"{request.kind}: nothing to ask for"] += 1
            return
        if request.kind == "resume":
            self._resumes[request.what] += 1
            if request.what in self._paused_since:
                self.pauses.append((request.what, self._paused_since.pop(request.what), self._last_event()))
        resumes = self._resumes[request.what]
        try:
            answer = await self._send(request.first, method, path, json=body)
        except _NO_ANSWER as error:
            self.answers[f"{request.kind}: {type(error).__name__}"] += 1
            if request.kind == "resume":
                self._resumes_under_way.add(request.what)
            return
        self._note(request.kind, answer)
        # A resume asked for meanwhile, or one that a frozen API has still before it, may come after this pause.
        stands = resumes == self._resumes[request.what] and request.what not in self._resumes_under_way
        if request.kind == "pause" and answer.is_success and stands:
            self._paused_since.setdefault(request.what, self._last_event())
        if answer.status_code == 202:
            self.acknowledged.add(answer.json()["job_id"])

    def _translated(self, request: Request) -> tuple[str, str, Any]:
        """Method, path and body; an empty path when there is nothing that could be asked for."""
        kind, what = request.kind, request.what
        if kind == "scan":
            return "POST", f"{_API}/scans", {"mode": what}
        if kind in {"cancel", "retry"}:
            job_id = self.ids.get(what)
            return (
                "DELETE" if kind == "cancel" else "POST",
                "" if job_id is None else f"{_API}/jobs/{job_id}" + ("/retry" if kind == "retry" else ""),
                None,
            )
        if kind in {"delete", "restore"}:
            track_id = self.track_ids.get(what)
            return (
                "DELETE" if kind == "delete" else "POST",
                "" if track_id is None else f"{_API}/tracks/{track_id}" + ("/restore" if kind == "restore" else ""),
                None,
            )
        if kind in {"pause", "resume"}:
            return "POST", f"{_API}/queues/{what}/{kind}" if self.queues_can_be_paused else "", None
        return "GET", f"{_API}/{what}", None

    async def _send(self, first: str, method: str, path: str, json: Any = None) -> httpx.Response:
        """Ask the API that is named, or the other one where nobody listens at the first."""
        others = [name for name in self.apis if name != first]
        for name in (first, *others):
            try:
                return await self.client.request(
                    method,
                    self.apis[name].address + path,
                    json=json,
                    timeout=_TIMEOUT_SECONDS,
                    # A caller of its own for every request: nobody is limited here.
                    headers={"X-Forwarded-For": str(ipaddress.IPv4Address(random.randrange(2**32)))},
                )
            except httpx.ConnectError:
                if name == others[-1]:
                    raise
        raise AssertionError("unreachable")

    def _note(self, kind: str, answer: httpx.Response) -> None:
        self.answers[f"{kind}: {answer.status_code}"] += 1
        # 503 is an answer too: the database was locked for too long.
        if answer.status_code >= 500 and answer.status_code != 503:
            self.wrong_answers.append(f"{answer.request.method} {answer.request.url.path}: {answer.text[:300]}")

    def _last_event(self) -> int:
        return int(self.own_database.rows("SELECT coalesce(max(id), 0) AS last FROM job_events")[0]["last"])

    # ------------------------------------------------------------- well again

    track_ids: dict[str, int] = field(default_factory=dict)

    async def ask(self, method: str, path: str, json: Any = None) -> httpx.Response:
        """A request while everything is well: it must be answered."""
        answer = await self._send("api-1", method, _API + path, json)
        answer.raise_for_status()
        return answer

    async def learn_what_is_offered(self) -> None:
        paths = (await self._send("api-1", "GET", "/openapi.json")).json()["paths"]
        self.queues_can_be_paused = any(path.endswith("/pause") for path in paths)
