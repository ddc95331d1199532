"""One error tree. Each error knows its category; what the category means for a job is in DESIGN §6.

    MusError                        category, user_message, details, recovery_actions
      UserFixableError              the person who asked can put it right
        BadRequestError             an argument that means nothing here
        NotFoundError               no such track, job, library, folder
          LibraryGoneError          the library was removed, or is about to be
        ConflictError               the state forbids it now
        UndecodableError            a file whose sound cannot be decoded
      AdminRequiredError            someone who runs the machine must act
        ConfigurationError          a setting, address or folder that cannot work
        LibraryOfflineError         a root is empty, gone, or lost half its tracks at once
        StorageFullError            there is no room on a disk, or in a quota
      TemporaryError                worth another attempt by itself
        BrokerUnavailableError      the broker did not answer

Two more are signals between a job and the ledger rather than faults: `Snooze` and `SupersededError`.
HTTP statuses are chosen in `mus.api`, not here.
"""

from __future__ import annotations

import errno
from enum import StrEnum
from typing import Any


class ErrorCategory(StrEnum):
    """Who can do something about it, and so what the job does next."""

    USER_FIXABLE = "user_fixable"
    ADMIN_REQUIRED = "admin_required"
    TEMPORARY = "temporary"


class MusError(Exception):
    """An error with a category and one sentence for people.

    `details` is JSON-ready and technical; `recovery_actions` are short imperatives shown beside the message.
    """

    category: ErrorCategory = ErrorCategory.ADMIN_REQUIRED

    def __init__(
        self,
        user_message: str,
        *,
        details: dict[str, Any] | None = None,
        recovery_actions: tuple[str, ...] = (),
    ) -> None:
        super().__init__(user_message)
        self.user_message = user_message
        self.details = details or {}
        self.recovery_actions = recovery_actions


class UserFixableError(MusError):
    category = ErrorCategory.USER_FIXABLE


class BadRequestError(UserFixableError):
    pass


class NotFoundError(UserFixableError):
    pass


class LibraryGoneError(NotFoundError):
    pass


class ConflictError(UserFixableError):
    pass


class UndecodableError(UserFixableError):
    pass


class AdminRequiredError(MusError):
    category = ErrorCategory.ADMIN_REQUIRED


class ConfigurationError(AdminRequiredError):
    pass


class LibraryOfflineError(AdminRequiredError):
    pass


class StorageFullError(AdminRequiredError):
    pass


class TemporaryError(MusError):
    category = ErrorCategory.TEMPORARY


class BrokerUnavailableError(TemporaryError):
    pass


class Snooze(Exception):  # noqa: N818 - a request to the ledger, not an error
    """Run this job again in `seconds`, without using up an attempt."""

    def __init__(self, seconds: float, reason: str) -> None:
        super().__init__(reason)
        self.seconds = seconds
        self.reason = reason


class SupersededError(Exception):
    """This delivery no longer owns its job: the ledger moved on while the worker was taken for dead.

    Raised by every fenced write. The job stops where it is and changes nothing more.
    """


def not_written(name: str, error: OSError) -> AdminRequiredError:
    """That a file could not be written, and why."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        message = f"{name} could not be written: the disk, or a quota on it, is full"
        return StorageFullError(message, recovery_actions=("Free some disk space",))
    return AdminRequiredError(f"{name} could not be written: {error.strerror or error}")
