"""How a process of mus ends: its status, and one line for people where something went wrong."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from mus.cli.wrong_usage import WrongUsageError
from mus.errors import BadRequestError, MusError


def status_of(command: Callable[[], object]) -> int:
    """Run it: what it returns where that is a number, else 0; 1 for what went wrong, 2 for wrong usage, 130 after
    Ctrl-C."""
    _write_whole_lines()
    try:
        status = command()
    except (WrongUsageError, BadRequestError) as error:
        complain(error.user_message)
        return 2
    except MusError as error:
        complain(error.user_message)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 1  # whoever read us has had enough (`mus jobs | head`)
    return status if isinstance(status, int) else 0


def _write_whole_lines() -> None:
    """Unbuffered (PYTHONUNBUFFERED, as in the container), `print` writes a line and its end in two pieces, and what
    another process of mus says on the same terminal comes between them."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.write_through:
            stream.reconfigure(line_buffering=True, write_through=False)


def complain(message: str) -> None:
    print("mus:", " ".join(message.split()), file=sys.stderr)


def leave(status: int) -> NoReturn:
    """End this process, without taking its modules apart: that would cost as much as a scan without changes."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        status = status or 1
    if (logging := sys.modules.get("logging")) is not None:
        logging.shutdown()
    os._exit(status)
