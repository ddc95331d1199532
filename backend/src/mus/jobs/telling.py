"""Tells whoever watches what a transaction did to tracks and libraries, once it stands."""

from __future__ import annotations

from collections.abc import Iterable

from mus.broker.streaq_broker import broker
from mus.events.messages import LibraryMessageType
from mus.persistence.stored_readings import Stored
from mus.persistence.unit_of_work import UnitOfWork

ADDED = LibraryMessageType.TRACK_ADDED
UPDATED = LibraryMessageType.TRACK_UPDATED
DELETED = LibraryMessageType.TRACK_DELETED


def tell_tracks(
    work: UnitOfWork,
    kind: LibraryMessageType,
    library_id: int,
    count: int,
    track_ids: Iterable[int] | None = None,
) -> None:
    """`count` tracks of the library were added, updated or deleted; `track_ids` None: it is not known which."""
    ids = None if track_ids is None else list(track_ids)

    async def told() -> None:
        broker.connection.feed.tracks_changed(kind, library_id, count, ids)

    if count:
        work.after_commit(told)


def tell_stored(work: UnitOfWork, library_id: int, stored: Stored) -> None:
    """What `store_readings` did."""
    tell_tracks(work, ADDED, library_id, stored.appeared, stored.appeared_ids)
    changed = stored.added + stored.updated - stored.appeared
    tell_tracks(work, UPDATED, library_id, changed, stored.changed_ids)


def tell_library(work: UnitOfWork, library_id: int, *, offline_reason: str | None) -> None:
    """A library went offline, for that reason, or came back."""

    async def told() -> None:
        broker.connection.feed.library_changed(library_id, offline_reason=offline_reason)

    work.after_commit(told)


def tell_library_change(work: UnitOfWork, library_id: int, *, added: bool = False, removed: bool = False) -> None:
    """A library was added, changed or removed."""
    kind = (
        LibraryMessageType.LIBRARY_ADDED
        if added
        else LibraryMessageType.LIBRARY_REMOVED
        if removed
        else LibraryMessageType.LIBRARY_UPDATED
    )

    async def told() -> None:
        broker.connection.feed.library_told(kind, library_id)

    work.after_commit(told)
