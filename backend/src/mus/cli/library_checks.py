"""What `mus doctor` says of the libraries on this machine: whether their folders and covers are what others see."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from mus.cli.check import Check
from mus.config import Settings
from mus.library.cover_thumbnails import THUMBNAIL_SIZES, thumbnail_path
from mus.library.paths import shown
from mus.library.scan_plan import KnownTrack, has_same_content
from mus.library.second_look import SecondLook
from mus.library.states import LIVE_STATES
from mus.persistence.libraries import LocalLibrary
from mus.persistence.models import Track

#: Tracks of a library, and covers, that are looked for.
_SAMPLE = 100


async def library_checks(
    session: AsyncSession, libraries: Sequence[LocalLibrary], settings: Settings
) -> list[Check]:
    """Compare some tracks of each library, and some covers, with what lies on this machine."""
    checks = [
        Check(
            "root map",
            "warn",
            f"MUS_ROOT_MAP names {shown(root)}, which is no library's root; "
            f"there are {', '.join(shown(library.stored_root) for library in libraries) or 'none yet'}",
        )
        for root in sorted(settings.roots.stored_roots - {library.stored_root for library in libraries})
    ]
    checks += [
        await asyncio.to_thread(_same_folder, library, tracks)
        for library in libraries
        if (tracks := await _some_tracks(session, library))
    ]
    if covers := await _some_covers(session):
        checks.append(await asyncio.to_thread(_thumbnails, settings.thumbnails_dir, covers))
    return checks


async def _some_tracks(session: AsyncSession, library: LocalLibrary) -> list[KnownTrack]:
    query = (
        select(*(getattr(Track, name) for name in KnownTrack._fields))
        .where(Track.library_id == library.id, Track.status.in_(LIVE_STATES))
        .order_by(func.random())
        .limit(_SAMPLE)
    )
    return [KnownTrack._make(row) for row in await session.execute(query)]


async def _some_covers(session: AsyncSession) -> list[str]:
    query = (
        select(Track.cover)
        .where(Track.cover.is_not(None), Track.status.in_(LIVE_STATES))
        .order_by(func.random())
        .limit(_SAMPLE)
    )
    return [cover for cover in await session.scalars(query) if cover is not None]


def _same_folder(library: LocalLibrary, tracks: Sequence[KnownTrack]) -> Check:
    look = SecondLook(library.root)
    there = same = 0
    for track in tracks:
        with suppress(OSError):
            if (found := look.at(track.path)) is not None:
                there += 1
                same += has_same_content(track, found)
    folder = shown(library.root)
    if library.root != library.stored_root:
        folder += f", for all machines {shown(library.stored_root)}"
    line = f"{library.name} ({folder}): {same} of {len(tracks)} known tracks are here as known"
    if there == 0:
        return Check("library", "fail", f"{line}: is this the same folder? Mount it, or correct MUS_ROOT_MAP")
    if same < len(tracks) / 2:
        return Check("library", "warn", f"{line}: scan if that is right, else correct the mount or MUS_ROOT_MAP")
    return Check("library", "ok", line)


def _thumbnails(folder: Path, covers: Sequence[str]) -> Check:
    here = sum(thumbnail_path(folder, cover, THUMBNAIL_SIZES[0]).is_file() for cover in covers)
    line = f"{folder}: {here} of {len(covers)} known covers are here"
    if here < len(covers):
        return Check(
            "thumbnails",
            "warn",
            f"{line}: with several machines, share this folder between those that analyse and those that serve; "
            "`mus scan --full` makes the others again",
        )
    return Check("thumbnails", "ok", line)
