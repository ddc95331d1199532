"""The beginning and the end of every command."""

from __future__ import annotations

import gc
import sys
from typing import NoReturn

from mus.cli.exit_status import leave, status_of
from mus.cli.scan_call import Unanswered, plain_scan, scan_by_worker


def main() -> NoReturn:
    """The entry point; the exit status is that of `exit_status.status_of`."""
    # Imports make no garbage worth looking for, and they are half the time of a short command.
    gc.disable()
    leave(status_of(_run))


def _run() -> int:
    if sys.argv[1:2] == ["scan"] and (plain := plain_scan(sys.argv[2:])) is not None:
        try:
            return scan_by_worker(plain)
        except Unanswered as unanswered:
            asked = unanswered.asked
        from mus.cli.scan_alone import scan_alone

        return scan_alone(plain.request(), music=plain.music, data=plain.data, as_json=plain.as_json, asked=asked)
    # With its parser, which takes as long to import as asking a worker for a scan.
    from mus.cli.commands import run

    return run()
