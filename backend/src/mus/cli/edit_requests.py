"""Edits from the command line: what was typed, checked and enqueued; and the history as a table."""

from __future__ import annotations

import importlib
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.markup import escape
from rich.table import Table

from mus.api.edit_views import edit_item, rename_item
from mus.api.field_messages import message_of
from mus.api.security import MOST_PICTURE_BYTES
from mus.broker.queues import Queue
from mus.broker.runtime import Runtime, opened
from mus.broker.streaq_broker import Options, broker
from mus.cli.existing_database import existing_database, require_database, whole_id
from mus.cli.options import is_text
from mus.cli.terminal import local_time, table_console
from mus.cli.wrong_usage import WrongUsageError
from mus.config import Settings
from mus.errors import ConflictError
from mus.jobs import JOB_MODULES
from mus.jobs.edits import refuse_unreadable
from mus.jobs.rename_preview import preview_names
from mus.library.file_names import NamePattern
from mus.library.reader_pool import ReaderPool
from mus.library.tag_changes import TagChanges
from mus.persistence.edit_repository import edit_named, edits_of, edits_to_undo, keep_picture, refuse_undo
from mus.persistence.track_repository import track_named

_PICTURE_SECONDS = 30.0
_PARTS = {"musicbrainz", "replaygain"}
_LISTS = frozenset({"artists", "album_artists", "genres"})
_PART_LISTS = frozenset({"artist", "album_artist"})
_MOST_NAMES = 100_000


def changes_of(sets: Sequence[str], removes: Sequence[str]) -> TagChanges:
    """What `--set FIELD=VALUE` and `--remove FIELD` come to. Raises WrongUsageError."""
    given: dict[str, Any] = {}
    for text in sets:
        field, equals, value = text.partition("=")
        if not equals or not is_text(text):
            raise WrongUsageError(f"--set takes FIELD=VALUE, not {text!a}")
        target, name = _place(given, field)
        _put(target, name, value, is_part=target is not given)
    for field in removes:
        if not is_text(field):
            raise WrongUsageError(f"--remove takes a field, not {field!a}")
        target, name = _place(given, field)
        target[name] = None
    try:
        return TagChanges.model_validate(given)
    except ValidationError as invalid:
        first = invalid.errors()[0]
        field = ".".join(str(each) for each in first["loc"] if isinstance(each, str))
        raise WrongUsageError(
            f"{field or 'the changes'}: {message_of({**first, 'loc': ('body', field)})}"
        ) from None


def _place(given: dict[str, Any], field: str) -> tuple[dict[str, Any], str]:
    part, dot, inner = field.partition(".")
    return (given.setdefault(part, {}), inner) if dot and part in _PARTS else (given, field)


def _put(target: dict[str, Any], name: str, value: str, *, is_part: bool) -> None:
    if name in _LISTS or (is_part and name in _PART_LISTS):
        target[name] = [*target.get(name, []), value]
    elif name in {"track_number", "track_total", "disc_number", "disc_total", "year"} and value.isdecimal():
        target[name] = int(value)
    else:
        target[name] = value


def picture_in(file: Path) -> bytes:
    """Raises WrongUsageError."""
    try:
        if file.stat().st_size > MOST_PICTURE_BYTES:
            raise WrongUsageError(f"{str(file)!a} is larger than {MOST_PICTURE_BYTES} bytes")
        return file.read_bytes()
    except OSError as error:
        raise WrongUsageError(f"the picture {str(file)!a} cannot be read: {error.strerror}") from None


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[Runtime]:
    require_database(settings)
    for module in JOB_MODULES:
        importlib.import_module(module)
    async with opened(settings) as runtime:
        yield runtime


async def edited(
    settings: Settings, track_ids: Sequence[int], changes: TagChanges, picture: bytes | None, pattern: str | None
) -> str:
    """The job's id. Raises NotFoundError, ConflictError, and BadRequestError for a pattern that cannot be read."""
    if pattern is not None:
        NamePattern(pattern)
    said = changes.as_json()
    async with _opened(settings) as runtime:
        async with runtime.database.reading() as session:
            for track_id in track_ids:
                refuse_unreadable(await track_named(session, track_id))
        if picture is not None:
            said["cover"] = await _kept(runtime, picture)
        one = len(set(track_ids)) == 1
        which: dict[str, Any] = {"track_id": track_ids[0]} if one else {"track_ids": sorted(set(track_ids))}
        options = Options(requested_by="mus edit", exclusive_key=f"edit:{track_ids[0]}" if one else None)
        queue, task = (Queue.HIGH, "edit_track") if one else (Queue.MEDIUM, "edit_tracks")
        async with runtime.database.unit_of_work():
            return await broker.enqueue(queue, task, options, **which, changes=said, rename_pattern=pattern)


async def _kept(runtime: Runtime, picture: bytes) -> str:
    async with ReaderPool(1) as readers:
        usable = await readers.usable_picture(picture, timeout_seconds=_PICTURE_SECONDS)
    if usable.error_message is not None:
        raise WrongUsageError(f"this picture cannot be used: {usable.error_message}")
    async with runtime.database.unit_of_work() as work:
        return await keep_picture(work.session, usable.data)


async def undone(settings: Settings, edit_id: int | None, job: str | None) -> str:
    """The job's id. Raises NotFoundError and ConflictError."""
    async with _opened(settings) as runtime:
        if edit_id is not None:
            async with runtime.database.reading() as session:
                edit = await edit_named(session, edit_id)
                await refuse_undo(session, edit)
            queue, edit_ids = Queue.HIGH, [edit_id]
            options = Options(
                requested_by="mus undo", dedupe_key=f"undo:{edit_id}", exclusive_key=f"edit:{edit.track_id}"
            )
        else:
            job_id = await whole_id(runtime.database, job or "")
            async with runtime.database.reading() as session:
                edit_ids = await edits_to_undo(session, job_id)
            if not edit_ids:
                raise ConflictError("There is nothing of this job to take back")
            queue, options = Queue.MEDIUM, Options(requested_by="mus undo", dedupe_key=f"undo:{job_id}")
        async with runtime.database.unit_of_work():
            return await broker.enqueue(queue, "undo_edits", options, edit_ids=edit_ids)


async def previewed(settings: Settings, track_ids: Sequence[int], pattern: str) -> list[dict[str, Any]]:
    """Raises BadRequestError for a pattern that cannot be read."""
    async with existing_database(settings) as database:
        found = await preview_names(
            database, settings.roots, sorted(set(track_ids)), NamePattern(pattern), after_id=0, limit=_MOST_NAMES
        )
    return [rename_item(one, found.libraries[one.library_id]).model_dump(mode="json") for one in found.names]


async def listed(settings: Settings, track_id: int, limit: int) -> list[dict[str, Any]]:
    """Raises NotFoundError."""
    async with existing_database(settings) as database, database.reading() as session:
        await track_named(session, track_id)
        page = await edits_of(session, track_id, before=None, limit=limit)
        return [edit_item(edit).model_dump(mode="json") for edit in page.edits]


def print_names(items: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"items": list(items)}))
        return
    for item in items:
        if item["state"] == "moves":
            print(f"{item['path']}\n  -> {item['new_path']}")
        elif item["state"] == "conflict":
            print(f"{item['path']}\n  stays: {item['problem']}")
    same = sum(item["state"] == "same" for item in items)
    if same:
        print(f"{same} have their names already")


def print_edits(items: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"items": list(items)}))
        return
    if not items:
        print("Nothing was changed")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("edit", "when", "by", "changed", "from", "to"):
        table.add_column(name, no_wrap=name in {"edit", "when"}, justify="right" if name == "edit" else "left")
    for item in items:
        first = [
            f"{item['id']}{' (undone)' if item['undone_by'] else ''}",
            local_time(item["at"]),
            item["requested_by"],
        ]
        for name, before, after in _changed(item):
            table.add_row(*(escape(str(cell)) for cell in (*first, name, before, after)))
            first = ["", "", ""]
    table_console().print(table)


def _changed(item: dict[str, Any]) -> list[tuple[str, str, str]]:
    before, after = item["before"], item["after"]
    rows = [
        (name, "; ".join(values), "; ".join(after["tags"].get(name, [])))
        for name, values in before["tags"].items()
        if values != after["tags"].get(name)
    ]
    if before["pictures"] is not None:
        rows.append(("pictures", str(len(before["pictures"])), str(len(after["pictures"] or []))))
    if before["path"] is not None:
        rows.append(("path", before["path"], after["path"]))
    return rows
