"""The states of a track, and every way from one to another.

STATE_MACHINE.md draws this table and a test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class TrackState(StrEnum):
    PENDING = "PENDING"  # tags are read, it can be played; analysis waits
    COMPLETE = "COMPLETE"  # analysed as well
    ERROR = "ERROR"  # could not be read or analysed; category and message say why
    MISSING = "MISSING"  # the file is gone; everything known about it is kept
    TRASHED = "TRASHED"  # deleted by a person; the file lies in the trash and can be restored


#: States whose file is believed to be in its place.
LIVE_STATES = frozenset({TrackState.PENDING, TrackState.COMPLETE, TrackState.ERROR})


@dataclass(frozen=True, slots=True)
class Transition:
    """One row of the table: `source` None is a track that does not exist yet."""

    source: TrackState | None
    event: str
    target: TrackState | None
    set_by: str
    tells: str


_S = TrackState
_READS = "read_files, finish_scan, process_file_*"
#: An edit of a file that another program had replaced since it was read last.
_FOLLOWS = f"{_READS}, edit_*, undo_edits"
_RECOGNISES = "finish_scan, process_file_*, process_slow_metadata"
_FINDS_GONE = "finish_scan, process_file_*"
_OVERWRITES = "finish_scan, process_file_*, restore_track_by_id"
TRANSITIONS: tuple[Transition, ...] = (
    Transition(None, "new file read", _S.PENDING, _READS, "track_added"),
    Transition(None, "new file unreadable", _S.ERROR, _READS, "track_added"),
    Transition(_S.PENDING, "analysed", _S.COMPLETE, "process_slow_metadata", "track_updated"),
    Transition(_S.PENDING, "analysis failed", _S.ERROR, "process_slow_metadata", "track_updated"),
    Transition(_S.PENDING, "file changed", _S.PENDING, _FOLLOWS, "track_updated"),
    Transition(_S.PENDING, "file unreadable", _S.ERROR, _READS, "track_updated"),
    Transition(_S.COMPLETE, "file changed", _S.PENDING, _FOLLOWS, "track_updated"),
    Transition(_S.COMPLETE, "file unreadable", _S.ERROR, _READS, "track_updated"),
    Transition(_S.COMPLETE, "analysed anew, and failed", _S.ERROR, "process_slow_metadata", "track_updated"),
    Transition(_S.COMPLETE, "nothing can be decoded", _S.ERROR, "listen_to_tracks", "track_updated"),
    Transition(_S.ERROR, "file changed or retried", _S.PENDING, _FOLLOWS, "track_updated"),
    Transition(_S.ERROR, "still unreadable", _S.ERROR, _READS, "track_updated"),
    Transition(_S.PENDING, "file gone", _S.MISSING, _FINDS_GONE, "track_deleted"),
    Transition(_S.COMPLETE, "file gone", _S.MISSING, _FINDS_GONE, "track_deleted"),
    Transition(_S.ERROR, "file gone", _S.MISSING, _FINDS_GONE, "track_deleted"),
    Transition(_S.PENDING, "overwritten by another track's file", _S.MISSING, _OVERWRITES, "track_deleted"),
    Transition(_S.COMPLETE, "overwritten by another track's file", _S.MISSING, _OVERWRITES, "track_deleted"),
    Transition(_S.ERROR, "overwritten by another track's file", _S.MISSING, _OVERWRITES, "track_deleted"),
    Transition(_S.MISSING, "file back", _S.PENDING, _READS, "track_added"),
    Transition(_S.MISSING, "file back, unreadable", _S.ERROR, _READS, "track_added"),
    Transition(_S.MISSING, "found under another name", _S.PENDING, _RECOGNISES, "track_added"),
    Transition(_S.MISSING, "found under another name, analysed", _S.COMPLETE, _RECOGNISES, "track_added"),
    Transition(_S.MISSING, "found under another name, unreadable", _S.ERROR, _RECOGNISES, "track_added"),
    Transition(_S.PENDING, "turned out to be another, lost track", None, _RECOGNISES, "track_deleted"),
    Transition(_S.COMPLETE, "turned out to be another, lost track", None, _RECOGNISES, "track_deleted"),
    Transition(_S.ERROR, "turned out to be another, lost track", None, _RECOGNISES, "track_deleted"),
    Transition(_S.PENDING, "deleted by a person", _S.TRASHED, "delete_track_by_id", "track_deleted"),
    Transition(_S.COMPLETE, "deleted by a person", _S.TRASHED, "delete_track_by_id", "track_deleted"),
    Transition(_S.ERROR, "deleted by a person", _S.TRASHED, "delete_track_by_id", "track_deleted"),
    Transition(_S.TRASHED, "restored", _S.PENDING, "restore_track_by_id", "track_added"),
    Transition(_S.TRASHED, "purged", None, "purge_trash, empty_trash", "track_deleted"),
    *(Transition(state, "its library was removed", None, "remove_library", "track_deleted") for state in _S),
)
