"""What supervisord tells of its programs, passed on: `mus supervisor-events`, its event listener.

A program that died is reported to the ledger at once, so that a worker's jobs move on without the time-out that
would find it dead. A program that supervisord has given up (FATAL) ends all of them, for the container to be
started anew: a mus that looks alive and scans nothing would be worse.

supervisord speaks over stdin and stdout (http://supervisord.org/events.html), so nothing else may be printed here.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from mus.cli.options import DataOption, read_settings

if TYPE_CHECKING:
    from mus.config import Settings

logger = logging.getLogger(__name__)


def supervisor_events(data: DataOption = None) -> None:
    """Listen to supervisord, which starts this, until it ends."""
    settings = read_settings(data_dir=data)
    from supervisor.childutils import get_headers, getRPCInterface, listener

    from mus.cli.console_logs import log_to_stderr

    log_to_stderr(settings.log_level, settings.log_format, part="supervisor")
    deaths = _Deaths(settings, getRPCInterface(os.environ).supervisor)
    while True:
        listener.ready()
        line = sys.stdin.readline()
        if not line:
            return  # supervisord is gone
        header = get_headers(line)
        event = get_headers(sys.stdin.read(int(header["len"])))
        try:
            deaths.hear(header["eventname"], event)
        except Exception:
            # The ledger's own time-out is left; a listener that dies would hear of nothing more.
            logger.exception("the ledger does not know of %s of %s", header["eventname"], event.get("processname"))
        listener.ok()


class _Deaths:
    def __init__(self, settings: Settings, supervisord: Any) -> None:
        """`supervisord` is its XML-RPC interface. Raises what that raises."""
        self._settings = settings
        self._supervisord = supervisord
        self._running = self._process_ids() or set()

    def _process_ids(self) -> set[int] | None:
        """None while everything is being stopped, when supervisord answers nothing."""
        from xmlrpc.client import Fault

        from supervisor.xmlrpc import Faults

        try:
            return {info["pid"] for info in self._supervisord.getAllProcessInfo() if info["pid"]}
        except Fault as fault:
            if fault.faultCode == Faults.SHUTDOWN_STATE:
                return None
            raise

    def hear(self, name: str, event: dict[str, str]) -> None:
        """Raises what supervisord's interface raises, and CalledProcessError."""
        if name == "PROCESS_STATE_FATAL":
            logger.error("%s does not start, its last lines say why: everything is stopped", event["processname"])
            os.kill(os.getppid(), signal.SIGTERM)
        elif name == "PROCESS_STATE_EXITED":
            self._report(int(event["pid"]))
        else:
            # Of a program that dies soon after its start (BACKOFF) no process id is told, and events come late,
            # above all when this process has just started itself. So whoever was there and is not now has died.
            now = self._process_ids()
            if now is None:
                return  # the time-out of the ledger is left
            for process_id in self._running - now:
                self._report(process_id)
            self._running |= now

    def _report(self, process_id: int) -> None:
        logger.info("telling the ledger that process %d is gone", process_id)
        # Another process because of what it imports: this one stays small for as long as mus is up.
        command = [sys.executable, "-P", "-m", "mus", "report-dead", str(process_id)]
        subprocess.run(
            [*command, "--data", str(self._settings.data_dir)], stdin=subprocess.DEVNULL, stdout=2, check=True
        )
        self._running.discard(process_id)
