"""The beginning and the end of every command."""

from __future__ import annotations

import gc
import os
import sys
from typing import NoReturn

from mus.cli.scan_call import Unanswered, plain_scan, scan_by_worker
from mus.cli.wrong_usage import WrongUsageError
from mus.errors import BadRequestError, MusError


def main() -> NoReturn:
    """The entry point: exit status 0, 1 for what went wrong, 2 for wrong usage, 130 after Ctrl-C."""
    # Imports make no garbage worth looking for, and they are half the time of a short command.
    gc.disable()
    status = _status()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        status = status or 1
    if (logging := sys.modules.get("logging")) is not None:
        logging.shutdown()
    # Nothing is left to be done: taking the modules apart would cost as much as a scan without changes.
    os._exit(status)


def _status() -> int:
    try:
        return _run()
    except (WrongUsageError, BadRequestError) as error:
        _complain(error.user_message)
        return 2
    except MusError as error:
        _complain(error.user_message)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 1  # whoever read us has had enough (`mus jobs | head`)


def _run() -> int:
    asked = []
    if sys.argv[1:2] == ["scan"] and (plain := plain_scan(sys.argv[2:])) is not None:
        try:
            return scan_by_worker(plain)
        except Unanswered as unanswered:
            asked = unanswered.asked
    # With its parser, which takes as long to import as asking a worker for a scan.
    from mus.cli.commands import run

    return run(asked)


def _complain(message: str) -> None:
    print("mus:", " ".join(message.split()), file=sys.stderr)
