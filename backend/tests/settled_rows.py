"""What a scan compares first, made of rows: as `known_tracks.settled_tracks` has the database make it."""

from __future__ import annotations

from collections.abc import Sequence

from mus.library.file_reading import FileStat
from mus.library.listing import version_of
from mus.library.scan_plan import KnownRow, Settled, is_settled
from mus.library.states import LIVE_STATES


def settled_of(known: Sequence[KnownRow]) -> Settled:
    texts = [row[1] + b"//" + version_of(FileStat(*row[2:7])) for row in known if is_settled(row)]
    return Settled(texts, sum(row[7] in LIVE_STATES for row in known))
