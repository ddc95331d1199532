"""Whether a track's file is gone, or only out of sight."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from mus.jobs.mount_guard import device_of
from mus.jobs.services import services
from mus.library.scan_plan import KnownTrack
from mus.library.second_look import SecondLook
from mus.library.states import LIVE_STATES
from mus.persistence.known_tracks import other_tracks_on
from mus.persistence.libraries import LocalLibrary


async def provably_gone(
    library: LocalLibrary,
    tracks: Sequence[KnownTrack],
    *,
    same_devices: Iterable[tuple[int, int]] = (),
    any_device: bool = False,
) -> list[int]:
    """Ids of the live tracks that a fresh look does not find, and whose folder lies where it lay.

    A track's device may be another machine's number: other tracks that have it, and are in their place, tell what
    it is called here, beside the pairs of numbers in `same_devices`. With `any_device` it does not matter.
    """
    live = [track for track in tracks if track.status in LIVE_STATES]
    if not live:
        return []
    here = await asyncio.to_thread(device_of, library)
    elsewhere = {track.device for track in live} - {here}
    witnesses: list[KnownTrack] = []
    if elsewhere and not any_device:
        async with services().database.reading() as session:
            besides = [track.id for track in live]
            witnesses = await other_tracks_on(session, library.id, elsewhere, besides)

    def look_at_all() -> list[int]:
        look = SecondLook(library.root)
        names: dict[int, set[int]] = {}
        for known, found in {*same_devices, *look.same_devices(witnesses)}:
            names.setdefault(known, set()).add(found)
        return [
            track.id
            for track in live
            if look.is_gone(track.path, None if any_device else {track.device, *names.get(track.device, ())})
        ]

    return await asyncio.to_thread(look_at_all)


async def disk_is_away(library: LocalLibrary, track: KnownTrack) -> bool:
    """Whether the disk on which a file lay, inside the library but not the root's, is not there just now.

    Then whatever is written to `track.path` goes onto the root's disk, and is hidden when the other is back.
    Numbers of devices change with a restart, and are others on another machine: other tracks with this one's tell.
    The disk is away where none of them is in its place; without any it is not known to be.
    """
    here = await asyncio.to_thread(device_of, library)
    if here is None or track.device == here:
        return False
    async with services().database.reading() as session:
        witnesses = await other_tracks_on(session, library.id, {track.device}, [track.id])

    def none_is_there() -> bool:
        look = SecondLook(library.root)
        try:
            if look.device_above(track.path) != here:
                return False
            return all(look.at(witness.path) is None for witness in witnesses)
        except OSError:
            return False

    return bool(witnesses) and await asyncio.to_thread(none_is_there)
