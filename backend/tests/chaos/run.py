"""A whole run: everything is started, harmed by the plan, made well again, and looked at."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import text

import chaos.tasks
from chaos import fleet, verification
from chaos.faults import Faults
from chaos.fleet import MARKER, Member
from chaos.load import Load, in_time
from chaos.music import MusicFolder
from chaos.music_plan import STEADY, WANDER, Change
from chaos.own_broker import OwnBroker
from chaos.own_database import own_database
from chaos.plan import APIS, WATCHER, Plan
from mus.broker.streaq_broker import broker
from mus.cli.prepared_library import prepared
from mus.config import Settings, load_settings
from mus.ledger import steering
from mus.persistence.database import Database

_TESTS = Path(__file__).parent.parent
_UP_SECONDS = 60.0
_STOP_SECONDS = 30.0
_FAREWELL_SECONDS = 10.0

Say = Callable[[str], None]


@dataclass
class Outcome:
    """What a run came to. `violations` is empty when all is as it must be."""

    violations: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    faults_not_possible: Counter[str] = field(default_factory=Counter)
    files: dict[str, int] = field(default_factory=dict)
    answers: Counter[str] = field(default_factory=Counter)
    jobs: Counter[str] = field(default_factory=Counter)
    figures: dict[str, float] = field(default_factory=dict)
    folder: Path = Path()


async def run(plan: Plan, *, settle_seconds: float, say: Say, database: str = "sqlite") -> Outcome:
    """Run the plan on a kind of database (`KINDS`). The data folder is kept when something does not hold."""
    folder = Path(tempfile.mkdtemp(prefix="mus-chaos-"))
    token = secrets.token_hex(8)
    outcome = Outcome(folder=folder)
    try:
        async with _Stage.set_up(plan, folder, token, say, database) as stage:
            await stage.play(outcome, settle_seconds)
    finally:
        outcome.violations += await _left_behind(token)
    if not outcome.violations:
        shutil.rmtree(folder)
    return outcome


async def _left_behind(token: str) -> list[str]:
    deadline = time.monotonic() + _FAREWELL_SECONDS
    while (left := fleet.left_behind(token)) and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
    fleet.end(left)
    return [f"a process was left behind: {process}" for process in left]


class _Stage:
    """All that a run consists of, open."""

    def __init__(self, plan: Plan, folder: Path, token: str, say: Say, database: str) -> None:
        self.plan, self.say = plan, say
        self.settings = _settings(plan, folder)
        self.own_database = own_database(database, self.settings.data_dir)
        self.settings = self.settings.model_copy(update={"database_url": self.own_database.url})
        self.environment = _environment(self.settings, token)
        self.broker = OwnBroker(folder / "broker", self.environment)
        self.settings = self.settings.model_copy(update={"dragonfly_url": self.broker.url})
        self.environment = _environment(self.settings, token)
        self.database = Database(self.settings.sqlalchemy_url)
        assert self.settings.music_dir is not None
        self.music = MusicFolder(self.settings.music_dir, folder / "workshop")
        roles = dict.fromkeys(plan.workers, "worker") | dict.fromkeys(APIS, "serve") | {WATCHER: "watch"}
        self.members = {name: Member(name, role, folder, self.environment) for name, role in roles.items()}

    @classmethod
    @asynccontextmanager
    async def set_up(cls, plan: Plan, folder: Path, token: str, say: Say, database: str) -> AsyncIterator[_Stage]:
        stage = cls(plan, folder, token, say, database)
        async with AsyncExitStack() as stack:
            stack.callback(stage.own_database.close)
            stack.push_async_callback(stage.database.close)
            stack.callback(stage.broker.stop)
            stage.broker.start()
            await asyncio.to_thread(stage.music.write_all, plan.files)
            await prepared(stage.settings)
            async with stage.database.unit_of_work() as work:
                await work.session.execute(text(chaos.tasks.CREATE_EFFECTS))
            await stage.broker.ready()
            await stack.enter_async_context(
                broker.connected(stage.database, stage.broker.url, stage.settings.queue_name)
            )
            stage.load = Load(
                stage.database,
                stage.own_database,
                {name: stage.members[name] for name in APIS},
                await stack.enter_async_context(httpx.AsyncClient()),
            )
            stack.push_async_callback(stage.end_processes)
            for member in stage.members.values():
                member.start()
            await stage.all_up()
            yield stage

    # -------------------------------------------------------------- the play

    async def play(self, outcome: Outcome, settle_seconds: float) -> None:
        began = time.monotonic()
        await self.load.learn_what_is_offered()
        await self._scan(settle_seconds)
        before = self._ids_by_path()
        self.load.track_ids = before
        self.say(f"{len(before)} tracks are known; it begins")
        faults = Faults(self.members, self.broker, self.settings.queue_name, self.own_database, self.say)
        await self._chaos(faults)
        self.say("it is over; all is made well")
        calm = time.monotonic()
        await self._make_well()
        outcome.violations += await self._settled(settle_seconds)
        outcome.figures["seconds until every job had ended"] = round(time.monotonic() - calm, 1)
        try:
            await self._scan(settle_seconds)
        except (httpx.HTTPError, RuntimeError) as error:
            outcome.violations.append(f"the last scan: {error!r}")
        outcome.violations += await self._settled(settle_seconds)
        check = verification.Verification(self.own_database, self.load, self.music, self._ids_to_keep(before))
        outcome.violations += dict.fromkeys(await asyncio.to_thread(check.all))
        await self.end_processes()
        outcome.violations += [death for member in self.members.values() for death in member.deaths]
        outcome.figures["seconds in all"] = round(time.monotonic() - began, 1)
        self._add_figures(outcome, faults)

    async def _chaos(self, faults: Faults) -> None:
        began = time.monotonic()
        async with asyncio.TaskGroup() as parts:
            parts.create_task(in_time(self.plan.faults, began, faults.do))
            parts.create_task(in_time(self.plan.batches, began, self.load.enqueue))
            parts.create_task(in_time(self.plan.requests, began, self.load.request))
            parts.create_task(self._change_files(began))

    async def _change_files(self, began: float) -> None:
        """One after another: later changes build on earlier ones."""
        for change in self.plan.changes:
            await asyncio.sleep(max(0.0, began + change.at - time.monotonic()))
            await asyncio.to_thread(self.music.change, change)

    async def _make_well(self) -> None:
        for member in self.members.values():
            member.control.set("clock_offset_seconds", 0.0)
            member.control.set("runs_twice", 0.0)
            await member.revive()
        await self.all_up()
        if self.load.queues_can_be_paused:
            for queue in ("high_priority", "medium_priority", "low_priority"):
                await self.load.ask("POST", f"/queues/{queue}/resume")

    async def all_up(self) -> None:
        """Every API answers, and as many workers as there are beat. Raises TimeoutError."""
        async with asyncio.timeout(_UP_SECONDS):
            for name in APIS:
                while not await self._answers(self.members[name]):
                    await asyncio.sleep(0.1)
            while self._living_workers() < self.plan.sizes.workers:
                await asyncio.sleep(0.1)

    async def _answers(self, member: Member) -> bool:
        try:
            answer = await self.load.client.get(f"{member.address}/api/v1/health", timeout=2)
        except httpx.HTTPError:
            return False
        return answer.status_code == 200

    def _living_workers(self) -> int:
        return len(self.own_database.rows("SELECT id FROM workers WHERE state = 'alive'"))

    async def _settled(self, seconds: float) -> list[str]:
        """Wait until every job has ended; what has not is described. Whatever runs for ever is cancelled."""
        deadline = time.monotonic() + seconds
        while left := verification.open_jobs(self.own_database):
            if time.monotonic() > deadline:
                return [
                    f"not ended after {seconds:.0f} s: {job}"
                    for job in verification.described(self.own_database, left)
                ]
            for job in left:
                if job["task"] == "chaos_endless" and job["cancel_requested_at"] is None:
                    async with self.database.unit_of_work():
                        await steering.cancel(broker.ledger, job["id"])
            await asyncio.sleep(0.2)
        return []

    async def _scan(self, seconds: float) -> None:
        """A scan that must succeed. Raises RuntimeError when it does not, or takes too long."""
        job_id = (await self.load.ask("POST", "/scans", {"mode": "quick"})).json()["job_id"]
        deadline = time.monotonic() + seconds
        while True:
            scan = (await self.load.ask("GET", f"/scans/{job_id}")).json()
            if scan["state"] == "succeeded":
                return
            if scan["state"] in verification.TERMINAL or time.monotonic() > deadline:
                raise RuntimeError(f"a scan while all was well: {scan}")
            await asyncio.sleep(0.1)

    # --------------------------------------------------------------- identity

    def _ids_by_path(self) -> dict[str, int]:
        found = self.own_database.rows(f"SELECT path, id FROM tracks WHERE status IN {verification.LIVE}")
        return {row["path"].decode(): row["id"] for row in found}

    def _ids_to_keep(self, before: dict[str, int]) -> dict[str, int]:
        """The ids of before by where their files are now: those that were only renamed, or never left."""
        ids = {path: id_ for path, id_ in before.items() if path.startswith((f"{WANDER}/", f"{STEADY}/"))}
        for change in self.plan.changes:
            if change.kind in {"rename", "swap"}:
                ids = {_followed(path, change): track_id for path, track_id in ids.items()}
        return ids

    # ---------------------------------------------------------------- the end

    async def end_processes(self) -> None:
        await asyncio.gather(*(member.stop(_STOP_SECONDS) for member in self.members.values()))

    def _add_figures(self, outcome: Outcome, faults: Faults) -> None:
        outcome.faults, outcome.faults_not_possible = faults.done, faults.not_possible
        outcome.files = self.music.done
        outcome.answers = self.load.answers
        jobs = self.own_database.rows("SELECT task, state, attempt FROM jobs")
        outcome.jobs = Counter(job["state"] for job in jobs)
        events = Counter(row["event"] for row in self.own_database.rows("SELECT event FROM job_events"))
        logs = "".join(member.log_path.read_text(errors="replace") for member in self.members.values())
        controls = [member.control for member in self.members.values()]
        outcome.figures |= {
            "jobs in all": len(jobs),
            "of them scans": sum(job["task"] == "scan_library" for job in jobs),
            "attempts": sum(job["attempt"] for job in jobs),
            "most attempts of a job": max(job["attempt"] for job in jobs),
            "starts": sum(control.get("started") for control in controls),
            "repeats dropped": sum(control.get("repeats") for control in controls),
            "published again": sum(
                int(line.split("publishing ")[1].split()[0]) for line in logs.splitlines() if "publishing " in line
            ),
            "taken over from dead workers": events["its worker died"],
            "handed back": events["handed back at shutdown"],
            "jobs whose enqueueing got no answer": self.load.unanswered,
        }


def _followed(path: str, change: Change) -> str:
    if change.kind == "swap":
        return {change.path: change.target, change.target: change.path}.get(path, path)
    if path == change.path or path.startswith(f"{change.path}/"):
        return change.target + path[len(change.path) :]
    return path


def _settings(plan: Plan, folder: Path) -> Settings:
    return load_settings(
        data_dir=folder / "data",
        music_dir=folder / "music",
        queue_name="{chaos}",
        beat_seconds=0.2,
        dead_after_seconds=plan.sizes.dead_after_seconds,
        reconcile_seconds=0.2,
        drain_seconds=1.0,
        reader_processes=1,
        trusted_proxies="127.0.0.1",  # each request claims to be of a caller of its own: nobody is limited
        scan_schedule="*/10 * * * *",
    )


def _environment(settings: Settings, token: str) -> dict[str, Any]:
    given = {name: value for name, value in settings.model_dump().items() if value is not None}
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("MUS_")},
        "PYTHONPATH": str(_TESTS),
        MARKER: token,
        **{f"MUS_{name.upper()}": str(value) for name, value in given.items()},
    }
