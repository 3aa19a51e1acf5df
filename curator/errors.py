"""Errors that a person can act on. The text is a full sentence: what happened, what to do."""

from __future__ import annotations

import errno

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what a system says when nothing more can be written


class CuratorError(Exception):
    """Something a person can act on; `status` is the HTTP answer.

    The sentence is kept apart from its values, `Invalid("%(name)s is empty.", name=…)`, so that the edge can
    translate it; `str()` gives the English.
    """

    status = 400

    def __init__(self, message: str, **values: object) -> None:
        super().__init__(message % values if values else message)
        self.message = message
        self.values = values


class NotFound(CuratorError):
    """What was asked for is not there, or not theirs to see."""

    status = 404


class Invalid(CuratorError):
    """The input cannot be used as it is."""

    status = 422


class Conflict(CuratorError):
    """Somebody else was faster."""

    status = 409


class Forbidden(CuratorError):
    """The person may not do this."""

    status = 403


class Unavailable(CuratorError):
    """Something that is needed does not answer just now."""

    status = 503


class TooMany(CuratorError):
    """Too many tries in too short a time."""

    status = 429
