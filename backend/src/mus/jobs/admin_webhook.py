"""Calls the admin's webhook, signed as https://www.standardwebhooks.com describes.

Headers `webhook-id` (the job's, the same for every attempt, so a receiver can drop repeats), `webhook-timestamp`
(seconds) and `webhook-signature` (`v1,` and base64 of HMAC-SHA256 over `id.timestamp.body`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from typing import Any

from mus.broker.job_runner import RunningJob
from mus.errors import AdminRequiredError, NotFoundError, Snooze, TemporaryError
from mus.jobs.services import services
from mus.ledger.queries import job_named
from mus.persistence.models import Job

_TIMEOUT_SECONDS = 15.0
_LONGEST_SNOOZE_SECONDS = 3600.0
_SECRET_PREFIX = "whsec_"  # noqa: S105 - the standard's prefix, no secret
#: Statuses after which another attempt may help; others of the 4xx will not change by themselves.
_WORTH_ANOTHER = frozenset({408, 409, 425, 429})


async def call_webhook(job: RunningJob, failed_job_id: str) -> dict[str, Any] | None:
    """Tell of a failed job. Returns the status; nothing where no webhook is set any more, or the job is gone.

    Raises TemporaryError when the receiver cannot be reached or is in trouble, Snooze when it asks for a pause, and
    AdminRequiredError when it refuses.
    """
    settings = services().settings
    if settings.admin_webhook_url is None or settings.admin_webhook_secret is None:
        return {"skipped": "no webhook is set"}
    async with services().database.reading() as session:
        try:
            failed = await job_named(session, failed_job_id)
        except NotFoundError:
            return {"skipped": "the job is gone"}
    body = json.dumps(_content(failed), ensure_ascii=False).encode()
    now = int(time.time())
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "mus",
        "webhook-id": job.id,
        "webhook-timestamp": str(now),
        "webhook-signature": signature(settings.admin_webhook_secret.get_secret_value(), job.id, now, body),
    }
    return {"status": await _post(settings.admin_webhook_url, body, headers)}


def _content(failed: Job) -> dict[str, Any]:
    return {
        "type": "job.failed",
        "timestamp": failed.finished_at.isoformat() if failed.finished_at else None,
        "data": {
            "job_id": failed.id,
            "task": failed.task,
            "queue": failed.queue,
            "error_category": failed.error_category,
            "message": failed.error_message,
            "recovery_actions": list((failed.error_details or {}).get("recovery_actions", [])),
            "attempt": failed.attempt,
            "requested_by": failed.requested_by,
        },
    }


def signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """The `webhook-signature` header. `whsec_` and base64 as the secret stands for those bytes."""
    key = secret.encode()
    if secret.startswith(_SECRET_PREFIX):
        try:
            key = base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
        except binascii.Error:
            raise AdminRequiredError(
                "MUS_ADMIN_WEBHOOK_SECRET begins with whsec_ but goes on with what is no base64"
            ) from None
    signed = b".".join((message_id.encode(), str(timestamp).encode(), body))
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


async def _post(url: str, body: bytes, headers: dict[str, str]) -> int:
    import httpx  # a worker that never calls does without

    try:
        # No redirects: the secret signs for this address, and whoever moves it says so in the settings.
        async with httpx.AsyncClient(timeout=_TIMEOUT_SECONDS, follow_redirects=False) as client:
            answer = await client.post(url, content=body, headers=headers)
    except (httpx.TransportError, httpx.InvalidURL, OSError) as error:
        raise TemporaryError(f"The admin webhook cannot be reached: {error or type(error).__name__}") from error
    if answer.is_success:
        return answer.status_code
    message = f"The admin webhook answered {answer.status_code}"
    wait = answer.headers.get("retry-after", "")
    if wait.isdecimal() and answer.status_code in {429, 503}:
        raise Snooze(min(float(wait), _LONGEST_SNOOZE_SECONDS), message)
    if answer.status_code >= 500 or answer.status_code in _WORTH_ANOTHER:
        raise TemporaryError(message)
    raise AdminRequiredError(message, recovery_actions=("Look at MUS_ADMIN_WEBHOOK_URL and its receiver",))
