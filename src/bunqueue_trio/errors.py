"""The error table: one row per refusal, with its HTTP status and contract text.

A refusal is the caller's fault or a passing condition of the server, and has changed nothing.
A broken invariant is an ``AssertionError`` and never appears here.
"""

from typing import NamedTuple


class Fault(NamedTuple):
    """One kind of refusal: HTTP status and message (``{}`` is filled in by :meth:`refuse`)."""

    status: int
    message: str

    def refuse(self, *details: object) -> "Refused":
        """Return the exception for this fault, with ``details`` put into the message."""
        return Refused(self.status, self.message.format(*details) if details else self.message)


class Refused(Exception):
    """The request cannot be honoured; nothing was changed.

    ``status`` is the HTTP status, ``str(error)`` the text for the client, and
    ``retry_after`` the seconds after which a repeat may succeed, or None.
    """

    def __init__(self, status: int, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


INVALID_JSON_BODY = Fault(400, "Invalid JSON body")
INVALID_JSON = Fault(400, "Invalid JSON")
INVALID_COMMAND = Fault(400, "Invalid command")
UNKNOWN_COMMAND = Fault(400, "Unknown command: {}")
INVALID_FIELD = Fault(400, "{} {}")
INVALID_QUEUE = Fault(400, "Queue name contains invalid characters")
INVALID_PATH = Fault(400, "Invalid percent-encoding in path")
UNAUTHORIZED = Fault(401, "Unauthorized")
INVALID_TOKEN = Fault(401, "Invalid token")
NOT_FOUND = Fault(404, "Not found")
JOB_NOT_FOUND = Fault(404, "Job not found")
METHOD_NOT_ALLOWED = Fault(405, "Method not allowed")
UNKNOWN_HTTP_VERSION = Fault(400, "Unknown HTTP version")
AMBIGUOUS_LENGTH = Fault(400, "Content-Length and Transfer-Encoding exclude each other")
BODY_TOO_SLOW = Fault(408, "Request body did not arrive in time")
BODY_TOO_LARGE = Fault(413, "Request body too large")
UPGRADE_REQUIRED = Fault(426, "Upgrade to WebSocket required")
RATE_LIMITED = Fault(429, "Rate limit exceeded")
NOT_ACTIVE = Fault(400, "Job not found or not active")
LOST_LOCK = Fault(400, "Invalid or expired lock token")
UNKNOWN_DEPENDENCY = Fault(400, "Dependency job not found: {}")
FOREIGN_JOB_ID = Fault(400, "Job ID is in use by a job of another queue: {}")
STORAGE_DOWN = Fault(503, "Storage unavailable: changes are refused until the disk is back")
OVERLOADED = Fault(503, "Server is overloaded: more changes are waiting than can be committed")
SHUTTING_DOWN = Fault(503, "Server is shutting down")
TOO_MANY_CONNECTIONS = Fault(503, "Too many connections")


def leaves(error: BaseException) -> list[BaseException]:
    """Return the exceptions in a group, however deep, or the one exception itself.

    ``except*`` is not used where a clause raises or exits: what that becomes differs between releases of
    Python 3.11.
    """
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for member in error.exceptions for leaf in leaves(member)]


class StartupError(Exception):
    """The server cannot start; the message is one line for the person who started it."""


class StoreError(Exception):
    """The disk refused a transaction; nothing of it was written and it may be tried again."""
