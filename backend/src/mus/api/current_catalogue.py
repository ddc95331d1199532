"""The catalogue that answers show: made when somebody first asks for it, and again when tracks have changed.

While it is in use, it is looked after in the background, so that no answer waits for a new one: an answer is of a
moment ago, and of the present as soon as nothing changes for as long. A scan changes tracks all the time: there are
pauses in proportion to what a catalogue takes, so that it takes no more than a third of a core, and nothing while
nobody looks.
"""

from __future__ import annotations

import asyncio
import logging
import time

from mus.library.reading_rules import ReadingRules
from mus.persistence.catalogue import Catalogue, built
from mus.persistence.catalogue_rows import version_of
from mus.persistence.database import Database

logger = logging.getLogger(__name__)

#: Seconds between two looks at whether it is still right, and in proportion to what it took to make it.
_PAUSE_SECONDS, _PAUSE_SHARE = 0.5, 2.0
#: So long after it was asked for last nobody looks any more.
_IN_USE_SECONDS = 60.0


class CurrentCatalogue:
    """The catalogue of one API process, for use within its event loop."""

    def __init__(self, database: Database, rules: ReadingRules) -> None:
        self._database = database
        self._articles = rules.sorted_without
        self._lock = asyncio.Lock()
        self._catalogue: Catalogue | None = None
        self._took_seconds = 0.0
        self._asked_at = 0.0
        self._upkeep: asyncio.Task[None] | None = None

    async def get(self) -> Catalogue:
        """The catalogue. The first time, and when it was not in use for a while, this may wait for a new one.

        Raises what reading the database does.
        """
        self._asked_at = time.monotonic()
        if self._catalogue is not None and self._upkeep is not None:
            return self._catalogue
        async with self._lock:
            catalogue = await self._renewed()
            if self._upkeep is None:
                self._upkeep = asyncio.create_task(self._keep(), name="mus-catalogue")
            return catalogue

    async def aclose(self) -> None:
        if self._upkeep is not None:
            self._upkeep.cancel()
            await asyncio.wait({self._upkeep})

    async def _renewed(self) -> Catalogue:
        catalogue = self._catalogue
        async with self._database.reading() as session:
            version = await version_of(session)
        if catalogue is None or catalogue.version != version:
            began = time.monotonic()
            catalogue = await asyncio.to_thread(built, self._database.url, self._articles)
            self._catalogue, self._took_seconds = catalogue, time.monotonic() - began
        return catalogue

    async def _keep(self) -> None:
        try:
            while time.monotonic() - self._asked_at < _IN_USE_SECONDS:
                await asyncio.sleep(max(_PAUSE_SECONDS, _PAUSE_SHARE * self._took_seconds))
                await self._renewed()
        except Exception:
            # Whoever asks next tries again, and gets the reason.
            logger.exception("the catalogue of albums could not be renewed")
        finally:
            self._upkeep = None
