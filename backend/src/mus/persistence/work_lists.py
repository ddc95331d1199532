"""The slow phase's and the listening's work lists, which are the tracks themselves."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sqlalchemy import ColumnElement, and_, or_

from mus.library.analysis import ANALYSIS_VERSION
from mus.library.listening import ASPECT_VERSIONS, Aspect
from mus.library.states import TrackState
from mus.persistence.models import Track, TrackSound

#: Tracks are dealt out over so many parts, by id.
PARTS = 4
#: Looks at one version of a file, or at one sound, that brought nothing: it vanished, it changed meanwhile, the
#: disk was full. A scan grants as many again.
MAX_LOOKS = 3
_VERSIONS = {
    Aspect.LOUDNESS: TrackSound.loudness_version,
    Aspect.INTEGRITY: TrackSound.integrity_version,
    Aspect.WAVEFORM: TrackSound.waveform_version,
}


def is_new() -> ColumnElement[bool]:
    """Tracks that were never analysed as they are now.

    An ERROR comes from reading or from analysis itself: it changes when the file does, or by a retry.
    """
    return and_(Track.status == TrackState.PENDING, Track.analysis_attempts < MAX_LOOKS)


def is_outdated() -> ColumnElement[bool]:
    """Tracks that an older version of the analysis analysed."""
    return and_(
        Track.status == TrackState.COMPLETE,
        Track.analysis_version < ANALYSIS_VERSION,
        Track.analysis_attempts < MAX_LOOKS,
    )


def is_unheard(aspects: Collection[Aspect]) -> ColumnElement[bool]:
    """Tracks to be listened to, of a query that outer-joins `track_sounds.OWN_SOUND`: one of the aspects lacks, or
    is of an older version."""
    outdated = [_VERSIONS[aspect] < ASPECT_VERSIONS[aspect] for aspect in aspects]
    return and_(
        Track.status == TrackState.COMPLETE,
        Track.analysis_version > 0,
        Track.audio_hash.is_not(None),
        or_(TrackSound.track_id.is_(None), and_(TrackSound.attempts < MAX_LOOKS, or_(*outdated))),
    )


def lacking(versions: Mapping[Aspect, int | None], aspects: Collection[Aspect]) -> frozenset[Aspect]:
    """Those of the aspects that are to be found out, by the versions of what there is."""
    return frozenset(aspect for aspect in aspects if (versions[aspect] or 0) < ASPECT_VERSIONS[aspect])
