"""Edits of many tracks in one job: its progress, its failures, and where a later attempt goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mus.broker.job_runner import RunningJob
from mus.errors import ConflictError, UserFixableError
from mus.jobs.edits import BusyFileError, EditOutcome, WantedTags, done_by, edit_tags, pictures_of
from mus.jobs.renames import NameTakenError, rename_track
from mus.jobs.retention import give_way_to_shutdown
from mus.jobs.services import services
from mus.library.file_names import NamePattern
from mus.library.paths import shown
from mus.library.tag_changes import TagChanges
from mus.persistence.edit_repository import edit_named, picture_data, refuse_undo
from mus.persistence.models import Edit, Track
from mus.persistence.track_repository import track_named
from mus.persistence.track_sounds import TrackLoudness, loudness_of
from mus.to_the_end import to_the_end

#: Failures that the result tells one by one; the rest is counted.
_TOLD = 100


class _Batch:
    """One attempt at it. `_do` does one of the items; what earlier attempts did is in the job's checkpoint."""

    stage = "editing"

    def __init__(self, job: RunningJob, items: Sequence[int]) -> None:
        self._job = job
        self._items = list(items)
        found = job.checkpoint or {}
        self._next: int = found.get("next", 0)
        #: Items that were in the way of each other, or busy: their turn comes again at the end.
        self._later: list[int] = found.get("later", [])
        self._counts: dict[str, int] = found.get("counts", {})
        self._failures: list[dict[str, Any]] = found.get("failures", [])

    async def run_one(self) -> dict[str, Any]:
        """The only item. Raises what went wrong with it."""
        await self._ready()
        await to_the_end(self._do(self._items[0]))
        return dict(self._counts)

    async def run(self) -> dict[str, Any]:
        """Returns counts by outcome and the first failures. Raises ConflictError when nothing could be done."""
        await self._ready()
        while self._next < len(self._items):
            item = self._items[self._next]
            again = await self._tried(item, is_last_try=False)
            self._next += 1
            if again:
                self._later.append(item)
            await self._note()
        await self._run_later()
        if self._failures and not self._counts.keys() - {"failed"}:
            first = self._failures[0]["message"]
            raise ConflictError(
                f"Nothing was changed: {len(self._items)} of {len(self._items)} failed; the first: {first}",
                details=self._result,
            )
        return self._result

    async def _run_later(self) -> None:
        """As long as one of them gets out of another's way; then each fails for what is in its own."""
        is_last_try = False
        while self._later:
            waiting, moved_on = list(self._later), False
            for item in waiting:
                if not await self._tried(item, is_last_try=is_last_try):
                    self._later.remove(item)
                    moved_on = True
                    await self._note()
            is_last_try = not moved_on

    async def _tried(self, item: int, *, is_last_try: bool) -> bool:
        """Whether it shall be tried again later."""
        give_way_to_shutdown(self._job)
        try:
            await to_the_end(self._do(item))
        except (BusyFileError, NameTakenError) as error:
            if not is_last_try:
                return True
            await self._fail(item, error.user_message)
        except UserFixableError as error:
            await self._fail(item, error.user_message)
        return False

    async def _fail(self, item: int, message: str) -> None:
        self._count("failed")
        if len(self._failures) < _TOLD:
            self._failures.append({**await self._named(item), "message": message})

    def _count(self, outcome: str) -> None:
        self._counts[outcome] = self._counts.get(outcome, 0) + 1

    @property
    def _result(self) -> dict[str, Any]:
        return {**self._counts, "failures": self._failures}

    async def _note(self) -> None:
        done = self._next - len(self._later)
        async with self._job.effect(stage=self.stage, units_done=done, units_total=len(self._items)) as work:
            kept = {"next": self._next, "later": self._later, "counts": self._counts, "failures": self._failures}
            await self._job.keep(work, kept)

    async def _ready(self) -> None:
        """What has to be known before the first item."""

    async def _do(self, item: int) -> None:
        raise NotImplementedError

    async def _named(self, item: int) -> dict[str, Any]:
        raise NotImplementedError


class EditBatch(_Batch):
    """The same changes to many tracks, and their names by a pattern."""

    def __init__(
        self, job: RunningJob, track_ids: Sequence[int], changes: dict[str, Any], rename_pattern: str | None
    ) -> None:
        super().__init__(job, track_ids)
        self._changes = TagChanges(**changes)
        self._pattern = None if rename_pattern is None else NamePattern(rename_pattern)
        self._wanted = WantedTags()

    async def _ready(self) -> None:
        front: bytes | None = None
        if self._changes.cover is not None:
            async with services().database.reading() as session:
                front = await picture_data(session, self._changes.cover)
        takes_all = "cover" in self._changes.model_fields_set and front is None
        self._wanted = WantedTags(tags=self._changes.raw(), front=front, pictures=[] if takes_all else None)

    async def _do(self, item: int) -> None:
        outcomes: dict[str, EditOutcome] = {}
        if not self._changes.is_empty:
            outcomes["edited"] = await edit_tags(self._job, item, await self._wanted_of(item))
        if self._pattern is not None:
            outcomes["renamed"] = await rename_track(self._job, item, pattern=self._pattern)
        for name, outcome in outcomes.items():
            if outcome.edit_id is not None:
                self._count(name)
            if outcome.other_names:
                self._count("hard_links_kept_old")
        if all(outcome.edit_id is None for outcome in outcomes.values()):
            self._count("unchanged")

    async def _wanted_of(self, track_id: int) -> WantedTags:
        """Raises UserFixableError while the track's loudness is to be written and is not known."""
        if not self._changes.wants_measured:
            return self._wanted
        async with services().database.reading() as session:
            track = await track_named(session, track_id)
            found = await loudness_of(session, track)
        values = _replaygain(found)
        if "track_gain" not in values:
            raise UserFixableError(f"The loudness of {shown(track.path)} is not known, or not yet")
        return replace(self._wanted, tags=self._changes.with_replaygain(values).raw())

    async def _fail(self, item: int, message: str) -> None:
        if await done_by(self._job, item, "tags", None) is not None:
            self._count("edited")  # it is the name that failed
        await super()._fail(item, message)

    async def _named(self, item: int) -> dict[str, Any]:
        async with services().database.reading() as session:
            track = await session.get(Track, item)
        return {"track_id": item, "path": None if track is None else shown(track.path)}


def _replaygain(found: TrackLoudness) -> dict[str, float]:
    """What is known of it; of an album that is not known whole, nothing."""
    values = {
        f"{whose}_{what}": value
        for whose, loudness in (("track", found.track), ("album", found.album))
        if loudness is not None and loudness.gain_db is not None
        for what, value in (("gain", loudness.gain_db), ("peak", loudness.true_peak))
    }
    return {name: value for name, value in values.items() if value is not None}


class UndoBatch(_Batch):
    """Edits taken back. An undo is an edit itself."""

    stage = "undoing"

    async def _do(self, item: int) -> None:
        async with services().database.reading() as session:
            edit = await edit_named(session, item)
            if await self._was_done_here(edit):
                self._count("undone")
                return
            await refuse_undo(session, edit)
            before, after = edit.before or {}, edit.after or {}
            pictures, expected = await pictures_of(session, before), after.get("pictures")
        if edit.kind == "rename":
            await rename_track(self._job, edit.track_id, target=edit.path, expected=edit.new_path, undoes=edit.id)
        else:
            wanted = WantedTags(
                tags=before["tags"],
                pictures=pictures,
                expected=after["tags"],
                expected_pictures=None if expected is None else [one["picture"] for one in expected],
                undoes=edit.id,
            )
            await edit_tags(self._job, edit.track_id, wanted)
        self._count("undone")

    async def _was_done_here(self, edit: Edit) -> bool:
        """By an earlier attempt of this job."""
        if edit.undone_by is None:
            return False
        async with services().database.reading() as session:
            return (await edit_named(session, edit.undone_by)).job_id == self._job.id

    async def _named(self, item: int) -> dict[str, Any]:
        async with services().database.reading() as session:
            edit = await session.get(Edit, item)
            track = None if edit is None else await session.get(Track, edit.track_id)
        return {
            "edit_id": item,
            "track_id": None if edit is None else edit.track_id,
            "path": None if track is None else shown(track.path),
        }
