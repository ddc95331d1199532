"""Who is told when a job fails and an admin must act: the webhook of the settings, by a job of its own.

That job is written in the transaction in which the other one fails, so no failure goes untold, whatever dies; it
has attempts of its own, and holds up nothing else.
"""

from __future__ import annotations

import hashlib

from mus.broker.queues import Queue
from mus.config import Settings
from mus.ledger.job_rows import NewJob
from mus.ledger.ledger import Alert

TASK = "call_admin_webhook"
#: The first pause and the number of attempts: over some two hours a receiver that was down is back.
FIRST_BACKOFF_SECONDS, ATTEMPTS = 10.0, 8


def alert_for(settings: Settings) -> Alert | None:
    """What the ledger enqueues for a job that failed as `admin_required`; None where no webhook is set."""
    return _alert if settings.admin_webhook_url else None


def _alert(job_id: str, task: str, reason: str) -> NewJob | None:
    if task == TASK:
        return None
    # While one call waits, more failures for the same reason are the same news.
    same = hashlib.sha256(f"{task}\0{reason}".encode()).hexdigest()[:32]
    return NewJob(
        task=TASK,
        queue=Queue.MEDIUM,
        arguments={"job_id": job_id},
        dedupe_key=f"webhook:{same}",
        requested_by="mus",
        max_attempts=ATTEMPTS,
    )
