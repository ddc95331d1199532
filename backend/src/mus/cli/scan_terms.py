"""What `mus scan` asks for, and what it is told: between the command and whoever does the work.

Named tuples: the import of `dataclasses` is a quarter of a short command's CPU.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

COUNTS = ("found", "added", "updated", "moved", "missing", "unchanged", "skipped", "failed")


class ScanRequest(NamedTuple):
    #: Name or id of the only library to scan.
    library: str | None = None
    #: Only the library whose folder the settings name.
    only_set: bool = False
    path: str | None = None
    full: bool = False
    confirm_missing: bool = False
    wait: bool = True
    requested_by: str = "mus scan"
    #: Follow a scan that is under way instead of asking for another.
    join: bool = False
    #: Work in this process when nobody else does.
    work: bool = True


class AskedScan(NamedTuple):
    job_id: str
    #: It was made for this request rather than found.
    is_ours: bool


class ScanEnd(NamedTuple):
    """How a scan ended, or where it stands when nobody waited. JSON-ready in all its fields."""

    job_id: str
    library: str
    state: str
    seconds: float
    result: dict[str, Any]
    error: dict[str, Any] | None = None
    interrupted: bool = False

    def counts(self) -> dict[str, int]:
        return {name: int(self.result.get(name) or 0) for name in COUNTS}

    def skipped_reasons(self) -> dict[str, int]:
        return dict(self.result.get("skipped_reasons") or {})

    def as_json(self) -> dict[str, Any]:
        answer: dict[str, Any] = {
            **self.counts(),
            "seconds": round(self.seconds, 3),
            "state": self.state,
            "job_id": self.job_id,
            "library": self.library,
            "skipped_reasons": self.skipped_reasons(),
        }
        return answer if self.error is None else answer | {"error": self.error}


def _together(ends: Sequence[ScanEnd]) -> dict[str, Any]:
    """Scans of several libraries, JSON-ready: their sums, and each."""
    states = {end.state for end in ends}
    return {
        **{name: sum(end.counts()[name] for end in ends) for name in COUNTS},
        "seconds": round(max(end.seconds for end in ends), 3),
        # The worst of them.
        "state": next((state for state in ("failed", "cancelled") if state in states), ends[0].state),
        "libraries": [end.as_json() for end in ends],
    }


def tell(ends: Sequence[ScanEnd], *, as_json: bool) -> int:
    """Print how scans ended. Returns the command's exit status."""
    if as_json:
        print(json.dumps(ends[0].as_json() if len(ends) == 1 else _together(ends)), flush=True)
    else:
        for end in ends:
            _tell_one(end, several=len(ends) > 1)
    if any(end.interrupted for end in ends):
        return 130
    return int(any(end.state in {"failed", "cancelled"} for end in ends))


def _tell_one(end: ScanEnd, *, several: bool) -> None:
    what = f"the scan of {end.library}" if several else "the scan"
    counts = end.counts()
    if end.state == "succeeded":
        changes = ", ".join(f"{counts[name]:,} {name}" for name in COUNTS[1:] if counts[name])
        found = f"{counts['found']:,} files found" if counts["found"] else "no music found"
        print(
            f"Scanned {end.library}: {found}{': ' if changes else ''}{changes} ({end.seconds:.1f} s)",
            flush=True,
        )
        for reason, number in sorted(end.skipped_reasons().items()):
            print(f"  skipped {number:,}: {reason}", flush=True)
        if counts["failed"]:
            print(f"  {counts['failed']:,} files could not be read: GET /api/v1/errors says why", flush=True)
    elif end.state == "failed":
        error: dict[str, Any] = end.error or {}
        print(f"mus: {what} failed: {error.get('message')}", file=sys.stderr)
    elif end.state == "cancelled":
        print(f"mus: {what} was cancelled", file=sys.stderr)
    else:
        print(f"T{what[1:]} is {end.state}: job {end.job_id}", flush=True)
