"""For each bad request a precise status, and a sentence that says what is wrong."""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.rows import add, add_tracks, track
from mus.broker.runtime import Runtime
from mus.ledger.deliveries import new_id
from mus.library.states import TrackState
from mus.persistence.models import Job, Library, utc_now

#: Stand for ids that a test's rows have.
ENDED, RUNNING, CANCELLED, PART = "{ended}", "{running}", "{cancelled}", "{part}"
LIVE, TRASHED, MISSING = "{live}", "{trashed}", "{missing}"
#: Stands for a cursor of the list of all jobs.
FOREIGN = "{foreign}"
LONG = "x" * 300
QUEUES = "high_priority, medium_priority, low_priority"

#: What a body says it is, where it is not JSON.
OTHER_TYPE = "text/plain"

CASES: list[tuple[str, str, Any, int, str]] = [
    # edits
    ("PATCH", f"/tracks/{LIVE}", {}, 422, "changes: Name a tag to be changed, or give a rename_pattern"),
    ("PATCH", f"/tracks/{LIVE}", {"titel": "x"}, 422, "titel: There is no such field"),
    ("PATCH", f"/tracks/{LIVE}", {"title": ""}, 422, "title: Must not be empty: null removes it"),
    ("PATCH", f"/tracks/{LIVE}", {"title": "a\nb"}, 422, "title: Must be one line, without control characters"),
    ("PATCH", f"/tracks/{LIVE}", {"title": "a\0"}, 422, "title: Must be one line, without control characters"),
    ("PATCH", f"/tracks/{LIVE}", {"title": "x" * 4097}, 422, "title: Must have 4096 characters at most"),
    ("PATCH", f"/tracks/{LIVE}", {"track_number": "3"}, 422, "track_number: Must be a whole number"),
    ("PATCH", f"/tracks/{LIVE}", {"track_number": -1}, 422, "track_number: Must be 0 or more"),
    ("PATCH", f"/tracks/{LIVE}", {"date": "1999-13"}, 422, "date: Must be a year, 1999-05 or 1999-05-31"),
    ("PATCH", f"/tracks/{LIVE}", {"date": "1999", "year": 1999}, 422, "body: Give date or year, not both"),
    ("PATCH", f"/tracks/{LIVE}", {"cover": "0" * 32}, 422, "cover: There is no such picture: hand it in with POST"),
    ("PATCH", f"/tracks/{LIVE}", {"rename_pattern": "{x}"}, 422, "rename_pattern: {x} is no field; there are"),
    ("PATCH", f"/tracks/{LIVE}", {"rename_pattern": "a"}, 422, "rename_pattern: A pattern needs a field"),
    ("PATCH", "/tracks/99", {"title": "x"}, 404, "There is no track 99"),
    ("PATCH", f"/tracks/{TRASHED}", {"title": "x"}, 409, "Track "),
    ("PATCH", f"/tracks/{MISSING}", {"title": "x"}, 409, "Track "),
    ("PATCH", "/tracks", {"changes": {"title": "x"}}, 422, "body: Give ids or filter"),
    ("PATCH", "/tracks", {"ids": [1], "filter": {"q": "x"}, "changes": {"title": "x"}}, 422, "body: Give ids"),
    ("PATCH", "/tracks", {"filter": {}, "changes": {"title": "x"}}, 422, "filter: Needs q, library"),
    ("PATCH", "/tracks", {"ids": [1]}, 422, "changes: Name a tag to be changed, or give a rename_pattern"),
    ("PATCH", "/tracks", {"filter": {"album": "nowhere"}, "changes": {"title": "x"}}, 409, "No track fits this"),
    ("PATCH", "/tracks", {"filter": {"library": "no"}, "changes": {"title": "x"}}, 404, "There is no library 'no'"),
    ("POST", "/tracks/rename/preview", {"ids": [1], "rename_pattern": "{"}, 422, "rename_pattern: A { stands"),
    ("PUT", f"/tracks/{LIVE}/cover", "no picture", 400, "This picture cannot be used: it is no JPEG, PNG, WebP or"),
    ("PUT", "/tracks/99/cover", "no picture", 404, "There is no track 99"),
    ("DELETE", "/tracks/99/cover", None, 404, "There is no track 99"),
    ("DELETE", f"/tracks/{MISSING}/cover", None, 409, "Track "),
    ("POST", "/pictures", "no picture", 400, "This picture cannot be used: it is no JPEG, PNG, WebP or GIF"),
    ("GET", "/tracks/99/edits", None, 404, "There is no track 99"),
    ("GET", f"/tracks/{LIVE}/edits?cursor=!", None, 400, "The cursor is not one of ours"),
    ("POST", "/edits/99/undo", None, 404, "There is no edit 99"),
    ("POST", "/jobs/nobody/undo", None, 404, "There is no job nobody"),
    ("POST", f"/jobs/{ENDED}/undo", None, 409, "There is nothing of this job to take back"),
    # uploads
    ("POST", "/tracks/upload", "x", 422, "path: Is missing"),
    ("POST", "/tracks/upload?path=a.txt", "x", 422, "path: Must end with the suffix of a sound file: .aac, .aif, "),
    ("POST", "/tracks/upload?path=../a.mp3", "x", 422, "path: Must be a path inside the library: '..' is no name"),
    ("POST", "/tracks/upload?path=%2Fa.mp3", "x", 422, "path: Must be a path inside the library: '' is no name"),
    ("POST", "/tracks/upload?path=a.mp3&library=no", "x", 404, "There is no library 'no'"),
    ("POST", "/tracks/upload?path=a.mp3", "x", 400, "This file cannot be taken: This is not an mp3 file"),
    ("POST", "/uploads/0123abcd", "x", 422, "path: Is missing"),
    ("POST", "/uploads/0123abcd?path=a.exe", "x", 422, "path: Must end with the suffix of a sound file"),
    ("POST", "/uploads/0123abcd?path=a.mp3", "x", 400, "This file cannot be taken: This is not an mp3 file"),
    ("POST", "/uploads/short?path=a.mp3", "x", 422, "batch: "),
    ("GET", "/uploads/0123abcd?library=no", None, 404, "There is no library 'no'"),
    ("POST", "/uploads/0123abcd/place", None, 404, "Nothing waits of this batch"),
    ("DELETE", "/uploads/0123abcd?path=a.mp3", None, 404, "No file for a.mp3 waits in this batch"),
    ("DELETE", "/uploads/0123abcd?library=no", None, 404, "There is no library 'no'"),
    # signing in
    ("POST", "/session", {"token": "x"}, 409, "There is nothing to sign in with: no token is set"),
    ("POST", "/session", {}, 422, "token: Is missing"),
    ("POST", "/session", {"token": ""}, 422, "token: String should have at least 1 character"),
    ("GET", "/session?token=x", None, 422, "token: There is no such parameter"),
    ("DELETE", "/session?all=1", None, 422, "all: There is no such parameter"),
    ("POST", "/session", {"token": "x" * 5000}, 422, "token: Must have 4096 characters at most"),
    ("POST", "/session", {"token": "x", "name": "y"}, 422, "name: There is no such field"),
    # libraries
    ("GET", "/libraries/no", None, 404, "There is no library 'no'"),
    ("GET", "/libraries/no/folders", None, 404, "There is no library 'no'"),
    ("GET", "/libraries/Music/folders?path=nowhere", None, 404, "There is no folder 'nowhere' in the library"),
    ("GET", "/libraries/Music/folders?path=../..", None, 400, "'../..' lies outside the library"),
    ("GET", "/libraries/Music/folders?path=a%00", None, 422, "path: a path has no NUL in it"),
    ("POST", "/libraries", {"name": "New"}, 422, "root: Is missing"),
    ("PATCH", "/libraries/no", {"name": "New"}, 404, "There is no library 'no'"),
    ("DELETE", "/libraries/no", None, 404, "There is no library 'no'"),
    ("GET", "/tracks/99/waveform", None, 404, "There is no track 99"),
    # duplicates and the trash
    ("GET", "/duplicates?kind=title", None, 422, "kind: Must be 'sound' or 'tags'"),
    ("GET", "/duplicates?cursor=!", None, 400, "The cursor is not one of ours"),
    ("GET", "/duplicates?library=no", None, 404, "There is no library 'no'"),
    ("GET", "/trash?cursor=!", None, 400, "The cursor is not one of ours"),
    ("GET", "/trash?library=no", None, 404, "There is no library 'no'"),
    ("DELETE", "/trash?library=no", None, 404, "There is no library 'no'"),
    ("DELETE", "/trash/99999", None, 404, "There is no track 99999"),
    ("DELETE", f"/trash/{LIVE}", None, 409, "Track {live} is not in the trash"),
    # jobs: unknown, in the wrong state, not to be meant
    ("GET", "/jobs/nobody", None, 404, "There is no job nobody"),
    ("GET", "/jobs/nobody/events", None, 404, "There is no job nobody"),
    ("GET", "/jobs/%00", None, 404, "There is no job \0"),
    ("GET", "/jobs/%ED%A0%80", None, 404, "There is no job \ufffd"),
    ("GET", f"/jobs/{LONG}", None, 422, "job_id: Must have 200 characters at most"),
    ("GET", f"/jobs/{LONG}/events", None, 422, "job_id: Must have 200 characters at most"),
    ("DELETE", "/jobs/nobody", None, 404, "There is no job nobody"),
    ("DELETE", f"/jobs/{ENDED}", None, 409, "The job has succeeded already"),
    ("DELETE", f"/jobs/{PART}", None, 409, "The job has failed already"),
    ("DELETE", f"/jobs/{CANCELLED}", None, 409, "The job was cancelled already"),
    ("DELETE", f"/jobs/{RUNNING}?force=yes", None, 422, "force: There is no such parameter"),
    ("POST", "/jobs/nobody/retry", None, 404, "There is no job nobody"),
    ("POST", f"/jobs/{ENDED}/retry", None, 409, "Only a failed or cancelled job can be retried; this one is succ"),
    ("POST", f"/jobs/{RUNNING}/retry", None, 409, "Only a failed or cancelled job can be retried; this one is run"),
    ("POST", f"/jobs/{PART}/retry", None, 409, "This job is the last part of another: retry that one"),
    ("POST", "/jobs/nobody/move", {"queue": "low_priority"}, 404, "There is no job nobody"),
    ("POST", f"/jobs/{RUNNING}/move", {"queue": "low_priority"}, 409, "Only a queued or retrying job can be moved"),
    ("POST", f"/jobs/{ENDED}/move", {"queue": "high_priority"}, 409, "Only a queued or retrying job can be moved"),
    ("POST", f"/jobs/{CANCELLED}/move", {"queue": "low_priority"}, 409, "Only a queued or retrying job can be"),
    ("POST", f"/jobs/{ENDED}/move", {"queue": "urgent"}, 422, "queue: Must be 'high_priority', 'medium_priority' "),
    ("POST", f"/jobs/{ENDED}/move", {"queue": 1}, 422, "queue: Must be 'high_priority', 'medium_priority' or 'l"),
    ("POST", f"/jobs/{ENDED}/move", {"queue": "low_priority", "now": 1}, 422, "now: There is no such field"),
    ("POST", f"/jobs/{ENDED}/move", {}, 422, "queue: Is missing"),
    ("POST", f"/jobs/{ENDED}/move", "low_priority", 422, "body: Must be a JSON object"),
    ("POST", f"/jobs/{ENDED}/move", None, 422, "body: Is missing"),
    ("GET", "/jobs?state=lost", None, 422, "state: Must be of queued, running, waiting, retrying, succeeded, f"),
    ("GET", "/jobs?state=queued,", None, 422, "state: Must be of queued, running"),
    ("GET", "/jobs?" + "state=failed&" * 21, None, 422, "state: May be given 20 times at most"),
    ("GET", "/jobs?queue=urgent", None, 422, "queue: Must be 'high_priority', 'medium_priority' or 'low_pri"),
    ("GET", "/jobs?limit=0", None, 422, "limit: Must be 1 or more"),
    ("GET", "/jobs?limit=501", None, 422, "limit: Must be 500 or less"),
    ("GET", "/jobs?limit=many", None, 422, "limit: Must be a whole number"),
    ("GET", f"/jobs?limit={'9' * 5000}", None, 422, "limit: Must be a whole number"),
    ("GET", "/jobs?limit=", None, 422, "limit: Must be a whole number"),
    ("GET", "/jobs?cleared=perhaps", None, 422, "cleared: Must be true or false"),
    ("GET", "/jobs?stat=failed", None, 422, "stat: There is no such parameter"),
    ("GET", "/jobs?%FF=failed", None, 422, "\ufffd: There is no such parameter"),
    ("GET", "/jobs?limit=0&state=lost", None, 422, "state: Must be of queued, running, waiting, retrying, succ"),
    ("GET", "/jobs?cursor=", None, 400, "The cursor is not one of ours"),
    ("GET", "/jobs?cursor=!", None, 400, "The cursor is not one of ours"),
    ("GET", "/jobs?cursor=W10", None, 400, "The cursor is not one of ours"),
    ("GET", f"/jobs?cursor={'a' * 32_001}", None, 422, "cursor: Must have 32000 characters at most"),
    ("GET", f"/jobs?cursor={FOREIGN}&task=read_files", None, 400, "The cursor belongs to another list, or to one"),
    ("GET", f"/jobs/{ENDED}/events?cursor={FOREIGN}", None, 400, "The cursor belongs to another list, or to one"),
    ("GET", f"/jobs/{ENDED}/events?limit=501", None, 422, "limit: Must be 500 or less"),
    ("GET", f"/jobs?task={LONG}", None, 422, "task: Must have 100 characters at most"),
    ("GET", f"/jobs?parent={LONG}", None, 422, "parent: Must have 200 characters at most"),
    ("GET", f"/jobs?reason={LONG}", None, 422, "reason: Must have 200 characters at most"),
    ("GET", "/errors/reasons?library=no", None, 404, "There is no library 'no'"),
    ("GET", "/errors?reason=" + "x" * 301, None, 422, "reason: Must have 300 characters at most"),
    ("GET", "/jobs?parts=some", None, 422, "parts: Must be true or false"),
    ("GET", "/queues/history?minutes=0", None, 422, "minutes: Must be 1 or more"),
    ("GET", "/queues/history?step=0", None, 422, "step: Must be 1 or more"),
    ("GET", "/queues/history?minutes=1441", None, 422, "step: Must be 61 or more for 1441 minutes: 1440 steps at"),
    ("GET", "/failures?queue=urgent", None, 422, "queue: Must be 'high_priority', 'medium_priority' or 'low_pri"),
    ("GET", "/failures?limit=501", None, 422, "limit: Must be 500 or less"),
    ("GET", "/failures?state=failed", None, 422, "state: There is no such parameter"),
    # queues and workers
    ("POST", "/queues/urgent/pause", None, 404, f"There is no queue 'urgent': there are {QUEUES}"),
    ("POST", "/queues/urgent/resume", None, 404, f"There is no queue 'urgent': there are {QUEUES}"),
    ("DELETE", "/queues/urgent/failed", None, 404, f"There is no queue 'urgent': there are {QUEUES}"),
    ("POST", "/queues/LOW_PRIORITY/pause", None, 404, f"There is no queue 'LOW_PRIORITY': there are {QUEUES}"),
    ("DELETE", "/queues/%00/failed", None, 404, "There is no queue '\\x00': there are "),
    ("POST", f"/queues/{LONG}/pause", None, 422, "name: Must have 100 characters at most"),
    ("POST", "/queues/low_priority/pause?for=ever", None, 422, "for: There is no such parameter"),
    ("GET", "/queues/low_priority/failed", None, 405, "GET is not possible here"),
    ("GET", "/queues?name=low_priority", None, 422, "name: There is no such parameter"),
    ("GET", "/workers?limit=1", None, 422, "limit: There is no such parameter"),
    # scans
    ("POST", "/scans", {"library": "nowhere"}, 404, "There is no library 'nowhere'"),
    ("POST", "/scans", {"library": "\0"}, 404, "There is no library '\\x00'"),
    ("POST", "/scans", {"library": LONG}, 422, "library: Must have 200 characters at most"),
    ("POST", "/scans", {"mode": "slow"}, 422, "mode: Must be 'quick' or 'full'"),
    ("POST", "/scans", {"mode": None}, 422, "mode: Must be 'quick' or 'full'"),
    ("POST", "/scans", {"path": "../.."}, 400, "'../..' lies outside the library"),
    ("POST", "/scans", {"path": "a\0b"}, 422, "path: a path has no NUL in it"),
    ("POST", "/scans", {"path": "nowhere"}, 404, "There is no folder 'nowhere' in the library Music"),
    ("POST", "/scans", {"path": 1}, 422, "path: Must be a text"),
    ("POST", "/scans", {"path": LONG * 20}, 422, "path: Must have 4096 characters at most"),
    ("POST", "/scans", {"path": "a", "album": "b"}, 422, "path: give either a path, or an artist or album"),
    ("POST", "/scans", {"artist": "nobody"}, 404, "There are no such tracks"),
    ("POST", "/scans", {"artist": "\0"}, 404, "There are no such tracks"),
    ("POST", "/scans", {"deep": True}, 422, "deep: There is no such field"),
    ("POST", "/scans", {"confirm_missing": "maybe"}, 422, "confirm_missing: Must be true or false"),
    ("POST", "/scans", [], 422, "body: Must be a JSON object"),
    ("POST", "/scans", b"null", 422, "body: Must be a JSON object"),
    ("POST", "/scans", b"{", 422, "body: This is not JSON"),
    ("POST", "/scans", b"\xff\xfe", 422, "body: This is not JSON"),
    ("POST", "/scans", b"9" * 5000, 422, "body: This is not JSON"),
    ("POST", "/scans", b"[" * 100_000, 422, "body: This is not JSON"),
    ("POST", "/scans", b'"\\ud800"', 422, "body: Must be a JSON object"),
    ("POST", "/scans", b'{"artist": "\\ud800"}', 422, "artist: Must be a text that has a form in UTF-8"),
    ("POST", "/scans", b'{"\\ud800": 1}', 422, "body: Must be a text that has a form in UTF-8"),
    ("POST", "/scans", OTHER_TYPE, 415, "Send JSON, with Content-Type: application/json"),
    ("POST", f"/jobs/{ENDED}/move", OTHER_TYPE, 415, "Send JSON, with Content-Type: application/json"),
    ("PATCH", "/schedules/trash", OTHER_TYPE, 415, "Send JSON, with Content-Type: application/json"),
    ("POST", "/scans", b" " * (1024 * 1024 + 1), 413, "A request's body may have 1048576 bytes"),
    ("DELETE", f"/jobs/{ENDED}", b" " * (1024 * 1024 + 1), 413, "A request's body may have 1048576 bytes"),
    ("GET", "/scans/nobody", None, 404, "There is no job nobody"),
    ("GET", f"/scans/{ENDED}", None, 404, "There is no scan "),
    ("GET", "/scans?cursor=x", None, 400, "The cursor is not one of ours"),
    ("GET", f"/scans?cursor={FOREIGN}", None, 400, "The cursor belongs to another list, or to one"),
    ("GET", "/scans?limit=0", None, 422, "limit: Must be 1 or more"),
    ("GET", "/scans?state=failed", None, 422, "state: There is no such parameter"),
    # tracks, what they sound and look like, errors
    ("GET", "/tracks/0", None, 422, "track_id: Must be 1 or more"),
    ("GET", "/tracks/99999", None, 404, "There is no track 99999"),
    ("GET", "/tracks/one", None, 422, "track_id: Must be a whole number"),
    ("GET", "/tracks/1.5", None, 422, "track_id: Must be a whole number"),
    ("GET", "/tracks/9223372036854775808", None, 422, "track_id: Must be 9223372036854775807 or less"),
    ("GET", "/tracks/99999/cover", None, 404, "There is no track 99999"),
    ("GET", f"/tracks/{LIVE}/cover", None, 404, "Track {live} has no cover"),
    ("GET", f"/tracks/{LIVE}/cover?size=0", None, 422, "size: Must be 1 or more"),
    ("GET", f"/tracks/{LIVE}/cover?size=10001", None, 422, "size: Must be 10000 or less"),
    ("GET", f"/tracks/{LIVE}/stream", None, 404, "The file is gone"),
    ("GET", f"/tracks/{LIVE}/stream?format=opus", None, 404, "The file is gone"),
    ("GET", f"/tracks/{LIVE}/stream?format=flac", None, 422, "format: Must be 'opus' or 'mp3'"),
    ("GET", f"/tracks/{LIVE}/stream?start=3", None, 422, "start: Needs a format: the file itself has ranges"),
    ("GET", f"/tracks/{LIVE}/stream?format=mp3&start=-1", None, 422, "start: Must be 0.0 or more"),
    ("GET", f"/tracks/{LIVE}/stream?format=mp3&start=nan", None, 422, "start: Input should be a finite number"),
    ("GET", f"/tracks/{MISSING}/stream", None, 409, "Track {missing} has no file to play"),
    ("GET", f"/tracks/{TRASHED}/stream", None, 409, "Track {trashed} has no file to play"),
    ("DELETE", "/tracks/99999", None, 404, "There is no track 99999"),
    ("DELETE", f"/tracks/{TRASHED}", None, 409, "Track {trashed} is in the trash already"),
    ("DELETE", f"/tracks/{MISSING}", None, 409, "Track {missing} has no file any more"),
    ("POST", f"/tracks/{LIVE}/restore", None, 409, "Track {live} is not in the trash"),
    ("POST", "/tracks/99999/restore", None, 404, "There is no track 99999"),
    ("GET", "/tracks?sort=beauty", None, 422, "sort: Must be one of title, "),
    ("GET", "/tracks?status=GONE", None, 422, "status: Must be of PENDING, COMPLETE, ERROR, MISSING, TRASHED, "),
    ("GET", "/tracks?library=nowhere", None, 404, "There is no library 'nowhere'"),
    ("GET", f"/tracks?cursor={FOREIGN}", None, 400, "The cursor belongs to another list, or to one"),
    ("GET", "/tracks?limit=501", None, 422, "limit: Must be 500 or less"),
    ("GET", f"/tracks?q={LONG * 2}", None, 422, "q: Must have 500 characters at most"),
    ("GET", "/tracks?genres=Jazz", None, 422, "genres: There is no such parameter"),
    ("GET", "/tracks?year=1999&year_to=2000", None, 422, "year: Give year, or year_from and year_to"),
    ("GET", "/tracks?year_from=x", None, 422, "year_from: Must be a whole number"),
    ("GET", f"/tracks?format={LONG}", None, 422, "format: Must have 16 characters at most"),
    ("GET", "/tracks?offset=-1", None, 422, "offset: Must be 0 or more"),
    ("GET", "/tracks?offset=1&cursor=x", None, 422, "offset: Give cursor or offset, not both"),
    ("GET", "/tracks/count?sort=title", None, 422, "sort: There is no such parameter"),
    ("PATCH", "/tracks/count?year=x", None, 405, "PATCH is not possible here"),
    ("GET", "/tracks/tags", None, 422, "id: Is missing"),
    ("GET", "/tracks/tags?id=x", None, 422, "id: Must be a whole number"),
    ("GET", "/tracks/tags?" + "&id=1" * 501, None, 422, "id: "),
    ("DELETE", "/tracks/tags?id=1", None, 405, "DELETE is not possible here"),
    ("GET", "/tracks/count?library=nowhere", None, 404, "There is no library 'nowhere'"),
    # albums, artists and what filters offer
    ("GET", "/albums?sort=beauty", None, 422, "sort: Must be one of title, album_artist, year, added_at, with -"),
    ("GET", "/albums?library=nowhere", None, 404, "There is no library 'nowhere'"),
    ("GET", "/albums?cursor=!", None, 400, "The cursor is not one of ours"),
    ("GET", f"/albums?cursor={FOREIGN}", None, 400, "The cursor belongs to another list, or to one"),
    ("GET", "/albums?offset=1&cursor=x", None, 422, "offset: Give cursor or offset, not both"),
    ("GET", "/artists?offset=1&cursor=x", None, 422, "offset: Give cursor or offset, not both"),
    ("GET", "/albums?year=soon", None, 422, "year: Must be a whole number"),
    ("GET", "/albums?album=x", None, 422, "album: There is no such parameter"),
    ("GET", "/albums/nothing", None, 404, "There is no album nothing"),
    ("GET", f"/albums/{LONG}", None, 422, "album_id: Must have 100 characters at most"),
    ("GET", "/albums/%00", None, 404, "There is no album \0"),
    ("GET", "/artists?sort=title", None, 422, "sort: Must be one of name, with - before it for descending"),
    ("GET", "/artists?library=nowhere", None, 404, "There is no library 'nowhere'"),
    ("GET", f"/artists?cursor={FOREIGN}", None, 400, "The cursor belongs to another list, or to one"),
    ("GET", "/artists/nobody", None, 404, "There is no artist nobody"),
    ("GET", "/genres?library=nowhere", None, 404, "There is no library 'nowhere'"),
    ("GET", "/facets?library=nowhere", None, 404, "There is no library 'nowhere'"),
    ("GET", "/facets?genre=Jazz", None, 422, "genre: There is no such parameter"),
    ("POST", f"/errors/{LIVE}/retry", None, 409, "Track {live} is not in ERROR"),
    ("POST", "/errors/99999/retry", None, 404, "There is no track 99999"),
    ("POST", "/errors/0/retry", None, 422, "track_id: Must be 1 or more"),
    ("POST", "/errors/retry?library=nowhere", None, 404, "There is no library 'nowhere'"),
    ("POST", "/errors/retry?category=mine", None, 422, "category: Must be 'user_fixable', 'admin_required' or 't"),
    ("GET", "/errors?category=mine", None, 422, "category: Must be 'user_fixable', 'admin_required' or 'tempor"),
    ("GET", f"/errors?cursor={FOREIGN}", None, 400, "The cursor belongs to another list, or to one"),
    ("GET", "/errors?limit=none", None, 422, "limit: Must be a whole number"),
    ("GET", "/libraries?name=Music", None, 422, "name: There is no such parameter"),
    # schedules
    ("GET", "/schedules?enabled=true", None, 422, "enabled: There is no such parameter"),
    ("GET", "/schedules/nightly", None, 404, "There is no schedule 'nightly'"),
    ("GET", f"/schedules/{LONG}", None, 422, "name: Must have 100 characters at most"),
    ("PATCH", "/schedules/nightly", {}, 404, "There is no schedule 'nightly'"),
    ("PATCH", "/schedules/trash", None, 422, "body: Is missing"),
    ("PATCH", "/schedules/trash", [], 422, "body: Must be a JSON object"),
    ("PATCH", "/schedules/trash", {"crontab": "sometimes"}, 422, "crontab: A crontab has five fields"),
    ("PATCH", "/schedules/trash", {"enabled": "perhaps"}, 422, "enabled: Must be true or false"),
    ("PATCH", "/schedules/trash", {"when": "now"}, 422, "when: There is no such field"),
    ("PATCH", "/schedules/trash", {"arguments": []}, 422, "arguments: Must be a JSON object"),
    ("PATCH", "/schedules/trash", {"arguments": {"days": -1}}, 422, "arguments.days: "),
    ("PATCH", "/schedules/trash", {"arguments": {"x": 1}}, 422, "arguments.x: There is no such argument"),
    ("POST", "/schedules/nightly/reset", None, 404, "There is no schedule 'nightly'"),
    ("POST", "/schedules/nightly/run", None, 404, "There is no schedule 'nightly'"),
    # live, and nothing at all
    ("GET", "/events?job=nobody", None, 404, "There is no job nobody"),
    ("GET", "/events?job=%00", None, 404, "There is no job \0"),
    ("GET", f"/events?job={LONG}", None, 422, "job: Must have 200 characters at most"),
    ("GET", "/events?" + "job=x&" * 21, None, 422, "job: May be given 20 times at most"),
    ("GET", "/events?jobs=x", None, 422, "jobs: There is no such parameter"),
    ("POST", "/events", None, 405, "POST is not possible here"),
    ("GET", "/health?verbose=1", None, 422, "verbose: There is no such parameter"),
    ("GET", "/nothing", None, 404, "There is nothing at /api/v1/nothing"),
    ("GET", "/jobs/", None, 404, "There is nothing at /api/v1/jobs/"),
    ("POST", "/queues//pause", None, 404, "There is nothing at /api/v1/queues//pause"),
    ("PUT", "/jobs", None, 405, "PUT is not possible here"),
]  # fmt: skip


@pytest.fixture
async def ids(runtime: Runtime, library: Library, client: httpx.AsyncClient) -> dict[str, Any]:
    """Rows to be wrong about."""
    # An empty folder of a library with tracks is taken for an unmounted disk.
    Path(os.fsdecode(library.root), "notes.txt").write_text("here")
    parent, part = new_id(), new_id()
    given = {"task": "purge_trash", "queue": "low_priority", "arguments": {}, "created_at": utc_now()}
    ended, running, cancelled = (
        Job(id=new_id(), state=state, **given) for state in ("succeeded", "running", "cancelled")
    )
    await add(
        runtime,
        ended,
        running,
        cancelled,
        Job(id=parent, state="failed", continuation_id=part, **given),
        Job(id=part, state="failed", parent_id=parent, **given),
    )
    live, trashed, missing = await add_tracks(
        runtime,
        track(library),
        track(library, status=TrackState.TRASHED),
        track(library, status=TrackState.MISSING),
    )
    foreign = (await client.get("/jobs", params={"limit": 1})).json()["next_cursor"]
    return {
        "ended": ended.id, "running": running.id, "cancelled": cancelled.id, "part": part,
        "live": live, "trashed": trashed, "missing": missing, "foreign": foreign,
    }  # fmt: skip


def _filled(text: str, ids: dict[str, Any]) -> str:
    for name, value in ids.items():
        text = text.replace(f"{{{name}}}", str(value))
    return text


def _sent(body: Any) -> dict[str, Any]:
    if body is None:
        return {}
    if body == OTHER_TYPE:
        return {"content": b'{"mode": "full"}', "headers": {"Content-Type": OTHER_TYPE}}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return {"content": content, "headers": {"Content-Type": "application/json"}}


async def test_each_bad_request_is_told_precisely_what_is_wrong(
    client: httpx.AsyncClient, ids: dict[str, Any]
) -> None:
    wrong: list[str] = []
    for method, address, body, status, detail in CASES:
        answer = await client.request(method, _filled(address, ids), **_sent(body))
        problem = answer.json()
        as_expected = (
            answer.status_code == problem["status"] == status
            and answer.headers["content-type"] == "application/problem+json"
            and problem["detail"].startswith(_filled(detail, ids))
        )
        if not as_expected:
            wrong.append(
                f"{method} {address[:60]} {str(body)[:40]}: {answer.status_code} {problem['detail'][:150]}"
            )
    assert wrong == []


async def test_the_openapi_document_names_every_refusal(client: httpx.AsyncClient) -> None:
    document = (await client.get("http://127.0.0.1/openapi.json")).json()
    addresses = [
        (re.compile("/api/v1" + re.sub(r"\{\w+\}", "[^/]+", path.removeprefix("/api/v1"))), operations)
        for path, operations in sorted(document["paths"].items())  # `/errors/retry` before `/errors/{track_id}`
    ]
    named, unnamed = set(), []
    for method, address, _, status, _ in CASES:
        path = f"/api/v1{address.partition('?')[0]}"
        operations = next((given for pattern, given in addresses if pattern.fullmatch(path)), {})
        operation = operations.get(method.lower())
        if operation is None:
            assert status in {404, 405}, (method, address)
        elif str(status) in operation["responses"]:
            named.add((operation["operationId"], status))
        else:
            unnamed.append((method, address, status))
    assert unnamed == []
    every_operation = {
        operation["operationId"] for operations in document["paths"].values() for operation in operations.values()
    }
    # The first is at an address of its own; the others are answered like the GETs above, without a body.
    assert every_operation - {operation for operation, _ in named} == {
        "get_metrics", "stream_track_head", "track_cover_head"
    }  # fmt: skip


async def test_what_is_wrong_with_a_field_is_told_for_that_field_too(client: httpx.AsyncClient) -> None:
    problem = (await client.get("/jobs", params={"limit": 0, "state": "lost"})).json()
    assert {(error["location"], error["field"]) for error in problem["errors"]} == {
        ("query", "limit"),
        ("query", "state"),
    }
    assert problem["category"] == "user_fixable"


async def test_a_body_that_does_not_say_how_long_it_is_is_refused(client: httpx.AsyncClient) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"{}"

    answer = await client.post("/scans", content=body())
    assert (answer.status_code, answer.json()["detail"]) == (411, "Say how long the body is, with Content-Length")


async def test_what_is_not_possible_here_says_what_is(client: httpx.AsyncClient) -> None:
    answer = await client.post("/events")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
    answer = await client.put("/jobs/x")
    assert (answer.status_code, answer.headers["allow"]) == (405, "DELETE, GET")
