"""One library's watching: it notices, settles and hands on, and heals itself."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from contextlib import suppress
from typing import NamedTuple

from sqlalchemy import update
from sqlalchemy.exc import SQLAlchemyError

from mus.broker.runtime import Runtime
from mus.errors import MusError
from mus.ledger.lease import Lease
from mus.library.file_systems import MountTable, eventless_mount
from mus.library.paths import shown
from mus.library.walk import WalkReport, walk
from mus.persistence.models import Library
from mus.turns import until_turn
from mus.watcher.enqueue import MOST_CHANGES, MOST_FOLDERS, Enqueuer
from mus.watcher.filter import EventFilter, Noticed
from mus.watcher.notice import NoEventsError, Polling, Source, events_of
from mus.watcher.settle import Look, Settled, Settler, look_at

logger = logging.getLogger(__name__)

_ROOT_SECONDS = 1.0
_MODE_PAUSE_SECONDS = 2.0
#: After too many changes at once: a scan when it has been quiet for so long, and every so often while it is not.
_FLOOD_QUIET_SECONDS = 1.0
_FLOOD_SCAN_SECONDS = 10.0
#: Watching that lived for so long is not said to keep dying.
_HEALTHY_SECONDS = 60.0
_LONGEST_POLLING_AFTER_DEATH_SECONDS = 60.0
#: Where events cannot be had for now (a limit, an unreadable folder), they are asked for again so often.
_TRY_EVENTS_SECONDS = 600.0
#: Another machine's writes show late in size and mtime: NFS keeps attributes for 3 s.
_REMOTE_SETTLE_SECONDS = 3.0


class WatchedLibrary(NamedTuple):
    """A library's row, as far as watching goes."""

    id: int
    #: Its folder on this machine.
    root: bytes
    #: How a person wants it watched: `auto`, `events`, `polling` or `off`.
    watch: str


class LibraryWatcher:
    """Watches one root until it is cancelled."""

    def __init__(self, runtime: Runtime, lease: Lease, library: WatchedLibrary) -> None:
        self.library_id = library.id
        self.root = library.root
        self._wanted = library.watch
        self._runtime = runtime
        self._lease = lease
        self._filter = EventFilter(library.root)
        self._settler = Settler(runtime.settings.settle_seconds)
        self._enqueuer = Enqueuer(runtime.database, library.id, lease)
        self._noticed = Noticed()
        self._wake = asyncio.Event()
        self._identity: tuple[int, int] | None = None
        self._is_remote = False
        #: What was renamed and is to be looked at: of folders, all that is in them was.
        self._renamed_folders: set[bytes] = set()
        #: Whether what was noticed is of a root that is not there any more.
        self._is_root_lost = False
        self._flood_since: float | None = None
        self._noticed_at = 0.0
        self._deaths = 0
        self._try_events = True
        self._mode = ("polling", "starting")
        self._mode_changed = asyncio.Event()

    async def run(self) -> None:
        """Notice, settle and enqueue; heals itself."""
        if self._wanted == "off":
            self._set_mode("off", "as set: scans find what changes")
            await self._keep_telling_mode()
        async with asyncio.TaskGroup() as loops:
            loops.create_task(self._keep_noticing(), name=f"mus-notice {self.library_id}")
            loops.create_task(self._keep_handing_on(), name=f"mus-settle {self.library_id}")
            loops.create_task(self._keep_telling_mode(), name=f"mus-watch-mode {self.library_id}")

    def ask_for_scan(self, reason: str) -> None:
        """Something may have been missed: scan."""
        self._enqueuer.add_scan(reason)
        self._wake.set()

    # ------------------------------------------------------------ notice

    async def _keep_noticing(self) -> None:
        reason = "the watcher starts"
        while True:
            await self._root_present(reason)
            # Before anything is watched: what is mounted from now on will be noticed.
            mounts = MountTable(self.root)
            try:
                source, try_again_seconds = await self._opened_source()
                self.ask_for_scan(reason)
                reason = await self._follow(source, mounts, try_again_seconds)
            finally:
                mounts.close()

    async def _root_present(self, reason: str) -> None:
        """Wait until the root is a folder."""
        self._identity = await asyncio.to_thread(identity, self.root)
        if self._identity is not None:
            return
        logger.warning("the music folder %s is not there; waiting for it", shown(self.root))
        self._set_mode("polling", "the folder is not there")
        self.ask_for_scan(reason)  # it will find the library offline, and say so
        while self._identity is None:
            await asyncio.sleep(_ROOT_SECONDS)
            self._identity = await asyncio.to_thread(identity, self.root)
        logger.info("the music folder %s is there", shown(self.root))

    async def _opened_source(self) -> tuple[Source, float | None]:
        """A source that runs, and the time after which events are to be tried (again)."""
        eventless = await asyncio.to_thread(eventless_mount, self.root)
        self._is_remote = eventless is not None
        settle_seconds = self._runtime.settings.settle_seconds
        self._settler.quiet_seconds = (
            max(settle_seconds, _REMOTE_SETTLE_SECONDS) if self._is_remote else settle_seconds
        )
        if self._wanted == "polling":
            return await self._polling("as set"), None
        if eventless is not None and self._wanted != "events":
            reason = f"{eventless.type} at {shown(eventless.point)} does not tell of changes made elsewhere"
            return await self._polling(reason), None
        if self._deaths > 1 and not self._try_events:
            return await self._polling("the file system's events keep failing"), self._pause_after_death()
        self._try_events = False
        events = events_of(self.root)
        try:
            await events.open()
        except NoEventsError as error:
            events.close()
            if error.is_lasting:
                return await self._polling(error.reason), _TRY_EVENTS_SECONDS
            self._deaths += 1
            return await self._polling(error.reason), self._pause_after_death()
        except BaseException:
            events.close()
            raise
        self._set_mode("events", "as set" if self._wanted == "events" else "the file system tells of changes")
        return events, None

    async def _polling(self, reason: str) -> Polling:
        level = logging.INFO if self._wanted == "polling" else logging.WARNING
        logger.log(level, "looking for changes in %s again and again: %s", shown(self.root), reason)
        polling = Polling(self.root)
        await polling.open()
        self._set_mode("polling", reason)
        return polling

    async def _follow(self, source: Source, mounts: MountTable, try_again_seconds: float | None) -> str:
        """Deliver what the source notices. Returns why it is over."""
        started = time.monotonic()
        reading = asyncio.create_task(source.read(self._deliver))
        guarding = asyncio.create_task(self._until_root_changes(mounts))
        try:
            done, _ = await asyncio.wait(
                {reading, guarding}, timeout=try_again_seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if guarding in done:
                self._lose_root()
                return guarding.result()
            if reading not in done:
                self._try_events = True
                return "the file system's events are tried again"
            try:
                reading.result()
            except NoEventsError as error:
                lived_long = time.monotonic() - started > _HEALTHY_SECONDS
                self._deaths = 1 if lived_long else self._deaths + 1
                logger.warning("watching %s failed, starting again: %s", shown(self.root), error.reason)
                return f"watching failed: {error.reason}"
            self._lose_root()
            return "the music folder was moved or deleted"
        finally:
            source.close()
            reading.cancel()
            guarding.cancel()
            await asyncio.gather(reading, guarding, return_exceptions=True)

    def _pause_after_death(self) -> float:
        return min(2.0 ** min(self._deaths, 10), _LONGEST_POLLING_AFTER_DEATH_SECONDS)

    def _lose_root(self) -> None:
        self._is_root_lost = True
        self._noticed = Noticed()

    async def _until_root_changes(self, mounts: MountTable) -> str:
        while True:
            await asyncio.sleep(until_turn(_ROOT_SECONDS))
            now = await asyncio.to_thread(identity, self.root)
            if now != self._identity:
                # Unmounted, renamed, or another one in its place: nothing noticed so far holds for it.
                return "the music folder vanished" if now is None else "the music folder is another one now"
            if mounts.has_changed():
                # At once or in between: who watches what is under a mount does not see what is in it.
                return "a disk was mounted or unmounted at the music folder or in it"

    def _deliver(self, noticed: Noticed) -> None:
        if noticed.scan_reason is not None:
            self._enqueuer.add_scan(noticed.scan_reason)
        self._noticed_at = time.monotonic()
        if self._flood_since is None:
            self._noticed.paths |= noticed.paths
            self._noticed.finished |= noticed.finished
            self._noticed.renamed |= noticed.renamed
            if len(self._noticed.paths) + len(self._settler) + len(self._enqueuer) > MOST_CHANGES:
                self._flood()
        self._wake.set()

    def _flood(self) -> None:
        """So many changes that a scan is cheaper, and their paths too many to keep."""
        self._flood_since = time.monotonic()
        self._noticed = Noticed()
        logger.info("more than %d changes at once in %s: a scan will find them", MOST_CHANGES, shown(self.root))

    # ------------------------------------------------------------ settle and enqueue

    async def _keep_handing_on(self) -> None:
        while True:
            self._wake.clear()
            now = time.monotonic()
            if self._is_root_lost:
                self._is_root_lost = False
                self._settler.clear()
                self._enqueuer.drop_gone()
            if self._flood_since is not None:
                self._end_flood(now)
            noticed, self._noticed = self._noticed, Noticed()
            self._renamed_folders |= noticed.renamed
            self._settler.notice(noticed.paths, now, finished=noticed.finished, renamed=noticed.renamed)
            due = self._settler.next_due
            if due is not None and due <= now:
                await self._settle(now)
            await self._enqueuer.flush(time.monotonic())
            await self._sleep_until_needed()

    async def _sleep_until_needed(self) -> None:
        dues = [due for due in (self._settler.next_due, self._enqueuer.next_due) if due is not None]
        if self._flood_since is not None:
            dues.append(time.monotonic() + _FLOOD_QUIET_SECONDS / 2)
        timeout = max(0.0, min(dues) - time.monotonic()) if dues else None
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._wake.wait()

    def _end_flood(self, now: float) -> None:
        assert self._flood_since is not None
        self._settler.clear()
        if now - self._noticed_at >= _FLOOD_QUIET_SECONDS:
            self._flood_since = None
            self._enqueuer.add_scan("many files changed at once")
        elif now - self._flood_since >= _FLOOD_SCAN_SECONDS:
            self._flood_since = now
            self._enqueuer.add_scan("many files change")

    async def _settle(self, now: float) -> None:
        settled, root_now = await asyncio.to_thread(self._look_and_settle, now)
        folders = [path for path, look in settled if look is not None and look.is_folder]
        if len(folders) > MOST_FOLDERS:
            self._enqueuer.add_scan(f"{len(folders)} folders appeared")
        elif folders:
            settled += await self._list(folders)
        self._renamed_folders.clear()
        self._enqueuer.add(settled)
        if root_now is None or root_now != self._identity or self._is_root_lost:
            self._enqueuer.drop_gone()

    async def _list(self, folders: list[bytes]) -> list[Settled]:
        """Notice the files in folders; of renamed ones they are looked at at once; returns what that settled.

        So they meet their old paths before these are taken for deleted.
        """
        files = await asyncio.to_thread(self._files_below, folders)
        if len(files) > MOST_CHANGES:
            self._flood()
            return []
        renamed_folders = [folder + b"/" for folder in folders if folder in self._renamed_folders]
        renamed = {file for file in files if file.startswith(tuple(renamed_folders))}
        now = time.monotonic()
        self._settler.notice(files, now, renamed=renamed)
        return (await asyncio.to_thread(self._look_and_settle, now))[0] if renamed else []

    def _look_and_settle(self, now: float) -> tuple[list[Settled], tuple[int, int] | None]:
        walked: dict[bytes, bool] = {}

        def look(path: bytes) -> Look | None:
            if not self._filter.is_walked(path, walked):
                return Look(None)
            return look_at(self.root, path, ask_for_writers=not self._is_remote)

        return self._settler.settle(now, look), identity(self.root)

    def _files_below(self, folders: list[bytes]) -> set[bytes]:
        found: set[bytes] = set()
        for folder in folders:
            for files in walk(self.root, folder, WalkReport()):
                found.update(files.paths)
                if len(found) > MOST_CHANGES:
                    return found
        return found

    # ------------------------------------------------------------ tell

    def _set_mode(self, mode: str, reason: str) -> None:
        self._mode = (mode, reason)
        self._mode_changed.set()

    async def _keep_telling_mode(self) -> None:
        while True:
            self._mode_changed.clear()
            mode, reason = self._mode
            try:
                async with self._lease.unit_of_work() as work:
                    await work.session.execute(
                        update(Library)
                        .where(Library.id == self.library_id)
                        .values(watch_mode=mode, watch_reason=reason)
                    )
            except (MusError, SQLAlchemyError, OSError) as error:
                logger.debug("how library %d is watched cannot be written now: %s", self.library_id, error)
                await asyncio.sleep(_MODE_PAUSE_SECONDS)
                continue
            await self._mode_changed.wait()


def identity(root: bytes) -> tuple[int, int] | None:
    """Which folder the root is now; None when it is none."""
    try:
        found = os.stat(os.path.join(root, b"."))
    except OSError:
        return None
    return found.st_dev, found.st_ino
