"""What must hold when everything is well again. Read past mus' own code, by plain SQL and from the disk."""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from chaos.load import Load
from chaos.music import MusicFolder
from chaos.music_plan import BIN
from chaos.own_database import OwnDatabase, Row
from chaos.tasks import STEPS

TERMINAL = ("succeeded", "failed", "cancelled")
LIVE = ("PENDING", "COMPLETE", "ERROR")
#: A job has at most so many lines in a list of what is wrong.
_SHOWN = 12


def open_jobs(database: OwnDatabase) -> Sequence[Row]:
    return database.rows(f"SELECT * FROM jobs WHERE state NOT IN {TERMINAL} ORDER BY id")


def described(database: OwnDatabase, jobs: Sequence[Row]) -> Iterator[str]:
    """Jobs that have not ended, each with its times against the clock and the last of its history."""
    now = time.time() * 1e6
    for job in jobs[:_SHOWN]:
        times = ", ".join(
            f"{name} {(job[name] - now) / 1e6:+.1f} s"
            for name in ("created_at", "run_after", "published_at", "started_at", "cancel_requested_at")
            if job[name] is not None
        )
        history = database.rows(
            "SELECT event, attempt FROM job_events WHERE job_id = ? ORDER BY id DESC LIMIT 6",
            job["id"],
        )
        events = " ← ".join(f"{line['event']} ({line['attempt']})" for line in history)
        yield (
            f"{job['task']} {job['id']}.{job['attempt']}.{job['delivery']} is {job['state']}, "
            f"children open {job['children_open']}, worker {job['worker_id']}, parent {job['parent_id']}; "
            f"{times}; {events}"
        )
    if len(jobs) > _SHOWN:
        yield f"… and {len(jobs) - _SHOWN} more"


class Verification:
    """Gathers what does not hold, in words."""

    def __init__(
        self, database: OwnDatabase, load: Load, music: MusicFolder, ids_before: Mapping[str, int]
    ) -> None:
        self._database = database
        self._load = load
        self._music = music
        #: Ids by path of the files that must keep theirs, as of before the chaos, by where those files are now.
        self._ids_to_keep = ids_before
        self.violations: list[str] = []

    def all(self) -> list[str]:
        self._jobs = {row["id"]: row for row in self._database.rows("SELECT * FROM jobs")}
        self._children: dict[str, list[Row]] = defaultdict(list)
        for job in self._jobs.values():
            if job["parent_id"]:
                self._children[job["parent_id"]].append(job)
        for check in (
            self._every_job_has_ended,
            self._no_job_is_lost,
            self._every_effect_is_there_once,
            self._families_agree,
            self._histories_agree,
            self._paused_queues_rested,
            self._answers_were_right,
            self._library_equals_disk,
            self._ids_were_kept,
            self._trash_agrees,
            self._database_is_sound,
        ):
            check()
        return self.violations

    def _check(self, holds: object, what: str) -> None:
        if not holds:
            self.violations.append(what)

    # ------------------------------------------------------------------- jobs

    def _every_job_has_ended(self) -> None:
        self.violations += described(
            self._database, [job for job in self._jobs.values() if job["state"] not in TERMINAL]
        )
        for job in self._jobs.values():
            self._check(job["children_open"] == 0, f"{_name(job)} has {job['children_open']} children open")
            self._check(job["finished_at"] or job["state"] not in TERMINAL, f"{_name(job)} has no time of its end")

    def _no_job_is_lost(self) -> None:
        for job_id in self._load.acknowledged:
            self._check(job_id in self._jobs, f"job {job_id} was acknowledged and is not in the ledger")

    def _every_effect_is_there_once(self) -> None:
        found: dict[str, Counter[str]] = defaultdict(Counter)
        for row in self._database.rows("SELECT job, name FROM effects"):
            found[row["job"]][row["name"]] += 1
        for job in self._jobs.values():
            effects, wanted = found.pop(job["id"], Counter()), _effects_of(job)
            if job["state"] == "succeeded":
                self._check(effects == wanted, f"{_name(job)} left {dict(effects)}, not {dict(wanted)}")
            else:
                # It may have been stopped before its end, but not have done anything twice.
                self._check(effects <= wanted, f"{_name(job)} left {dict(effects)}, of {dict(wanted)}")
        self._check(not found, f"effects of jobs that nobody knows: {dict(found)}")

    def _families_agree(self) -> None:
        for parent in self._jobs.values():
            children = self._children[parent["id"]]
            if parent["continuation"] is None:
                continue
            last = [child for child in children if child["task"] == parent["continuation"]]
            self._check(len(last) <= 1, f"{_name(parent)} was continued {len(last)} times")
            if parent["continuation_id"] == parent["id"]:
                # It has found nothing to hand on, and done its last part itself.
                self._check(not children, f"{_name(parent)} ended by itself, beside {len(children)} parts")
            elif parent["state"] == "succeeded":
                self._check(
                    [child["id"] for child in last] == [parent["continuation_id"]],
                    f"{_name(parent)} succeeded, continued by {[child['id'] for child in last]}",
                )
                self._check(
                    all(child["state"] == "succeeded" for child in last),
                    f"{_name(parent)} succeeded, its last part is {[child['state'] for child in last]}",
                )
            for child in last:
                if child["state"] == "failed":
                    self._check(parent["state"] == "failed", f"{_name(parent)}: its last part failed, it did not")
            if parent["task"] == "chaos_family" and parent["state"] == "succeeded":
                arguments = _arguments(parent)
                wanted = arguments["children"] + bool(arguments.get("endless_child"))
                others = len(children) - len(last)
                self._check(others == wanted, f"{_name(parent)} has {others} children, not {wanted}")

    def _histories_agree(self) -> None:
        events: dict[str, list[str]] = defaultdict(list)
        for row in self._database.rows("SELECT job_id, event FROM job_events ORDER BY id"):
            events[row["job_id"]].append(row["event"])
        for job in self._jobs.values():
            history = events.pop(job["id"], [])
            ends = [event for event in history if event in TERMINAL]
            wanted = [job["state"]] if job["state"] in TERMINAL else []
            self._check(ends == wanted, f"{_name(job)}: its history ends with {ends}")
            self._check(history[:1] == ["enqueued"], f"{_name(job)}: its history begins with {history[:1]}")
            self._check(history.count("enqueued") == 1, f"{_name(job)} was enqueued more than once: {history}")
            if wanted:
                # Only that a person had it run again, as another job, may be noted after its end.
                last = [event for event in history if event != "retried by hand"][-1:]
                self._check(last == ends, f"{_name(job)}: after its end came {history}")
            # Who ran it: one attempt at a time, each begun after the one before was taken away.
            starts = history.count("started")
            self._check(starts or job["state"] != "succeeded", f"{_name(job)} succeeded and never started")
        self._check(not events, f"histories of jobs that nobody knows: {list(events)[:5]}")

    def _paused_queues_rested(self) -> None:
        for queue, since, until in self._load.pauses:
            started = self._database.rows(
                "SELECT j.id FROM job_events e JOIN jobs j ON j.id = e.job_id "
                "WHERE e.event = 'started' AND j.queue = ? AND e.id > ? AND e.id <= ?",
                queue, since, until,
            )  # fmt: skip
            self._check(not started, f"{len(started)} jobs of {queue} started while it was paused")

    def _answers_were_right(self) -> None:
        self.violations += self._load.wrong_answers[:_SHOWN]

    # ---------------------------------------------------------------- library

    def _library_equals_disk(self) -> None:
        disk = self._music.read()
        live = {
            row["path"].decode(): row for row in self._database.rows(f"SELECT * FROM tracks WHERE status IN {LIVE}")
        }
        for path in sorted(disk.keys() - live.keys()):
            self.violations.append(f"{path} is on the disk and not in the library")
        for path in sorted(live.keys() - disk.keys()):
            self.violations.append(f"{path} is {live[path]['status']} in the library and not on the disk")
        for path in sorted(disk.keys() & live.keys()):
            track, file = live[path], disk[path]
            has = (track["title"], track["size"], track["mtime_ns"], track["status"])
            wants = (file.title, file.size, file.mtime_ns, "COMPLETE")
            self._check(has == wants, f"{path} is {has} in the library, {wants} on the disk")

    def _ids_were_kept(self) -> None:
        now = {
            row["path"].decode(errors="replace"): row["id"]
            for row in self._database.rows("SELECT path, id FROM tracks")
        }
        for path, track_id in self._ids_to_keep.items():
            self._check(now.get(path) == track_id, f"{path} was track {track_id} and is {now.get(path)}")

    def _trash_agrees(self) -> None:
        entries = self._database.rows(
            "SELECT e.*, t.status FROM trash_entries e JOIN tracks t ON t.id = e.track_id"
        )
        for entry in entries:
            there = Path(entry["trash_path"].decode()).exists()
            self._check(
                entry["state"] == "trashed" and entry["status"] == "TRASHED" and there,
                f"trash: {entry['original_path']!r} is {entry['state']}, {entry['status']}, file there: {there}",
            )
        trashed = self._database.rows("SELECT count(*) AS n FROM tracks WHERE status = 'TRASHED'")[0]["n"]
        self._check(
            trashed == len(entries), f"{trashed} tracks are trashed, {len(entries)} entries are in the trash"
        )
        for row in self._database.rows("SELECT path, status FROM tracks WHERE status = 'MISSING'"):
            path = row["path"].decode(errors="replace")
            self._check(not path.startswith(f"{BIN}/"), f"{path!r} is missing: only requests take files of {BIN}/")

    def _database_is_sound(self) -> None:
        self.violations += self._database.faults_found()


def _arguments(job: Row) -> dict[str, Any]:
    arguments: dict[str, Any] = json.loads(job["arguments"])
    return arguments


def _effects_of(job: Row) -> Counter[str]:
    """What the job must have left, each once."""
    name = _arguments(job).get("name", "")
    return {
        "chaos_leaf": Counter([name]),
        "chaos_failing": Counter([name]),
        "chaos_reunion": Counter(["reunion"]),
        "chaos_steps": Counter(f"{name}/step {step}" for step in range(STEPS)),
    }.get(job["task"], Counter())


def _name(job: Row) -> str:
    return f"{job['task']} {_arguments(job).get('name', '')} {job['id']} ({job['state']})"
