"""What can go wrong, by whose fault it is, and the table of refusals with HTTP status and contract text.

The clients raise a :class:`BunqueueError`: ``Refused`` is the caller's fault, ``ServerUnavailable`` the
server's, ``ConnectionLost`` nobody's, ``JobFailed`` the job's. The server itself raises ``Refused`` only:
a refusal, for good or for now, has changed nothing, but for ``NOT_COMMITTED``, whose change waits for the disk. A broken invariant of its own is ``InvariantBroken``.
"""

from typing import NamedTuple


class Fault(NamedTuple):
    """One kind of refusal: HTTP status and message (``{}`` is filled in by :meth:`refuse`)."""

    status: int
    message: str

    def refuse(self, *details: object) -> "Refused":
        """Return the exception for this fault, with ``details`` put into the message."""
        return Refused(self.status, self.message.format(*details) if details else self.message)


class BunqueueError(Exception):
    """Anything that a client of a server raises about what was asked."""


class Refused(BunqueueError):
    """The caller's fault: the request cannot be honoured, and would be refused again. Nothing was changed.

    ``status`` is the HTTP status and ``str(error)`` the text for the client. Inside the server it is a
    passing refusal too, and ``retry_after`` the seconds after which a repeat may succeed.
    """

    def __init__(self, status: int, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class ServerUnavailable(BunqueueError):
    """The server's fault, and a passing one: the same may succeed later.

    Nothing was changed, unless it says that the change is not committed: that may still be, so look before you repeat it.

    ``retry_after``: in so many seconds, where the server says so.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ConnectionLost(BunqueueError):
    """Nobody's fault: the connection broke after something was sent, and whether it took effect is unknown."""


class JobFailed(BunqueueError):
    """The fault of the job that was waited for: it ended without a result; ``str(error)`` is its last error."""

    def __init__(self, job_id: str, error: str) -> None:
        super().__init__(error)
        self.job_id = job_id


class JobRemoved(JobFailed):
    """The job that was waited for was cancelled, or its time to live was over before it began."""


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
MALFORMED_REQUEST = Fault(400, "Malformed HTTP request")
HEADERS_TOO_LARGE = Fault(431, "Request headers too large")
UNKNOWN_TRANSFER_CODING = Fault(501, "Unknown transfer coding")
AMBIGUOUS_LENGTH = Fault(400, "Content-Length and Transfer-Encoding exclude each other")
BODY_TOO_SLOW = Fault(408, "Request body did not arrive in time")
UNKNOWN_CONTENT_CODING = Fault(415, "Content-Encoding is not supported: send the body as it is")
FOREIGN_ORIGIN = Fault(403, "Origin is not allowed")
BODY_TOO_LARGE = Fault(413, "Request body too large")
BAD_HANDSHAKE = Fault(400, "Invalid WebSocket handshake: {}")
HANDSHAKE_WITH_BODY = Fault(400, "A WebSocket handshake has no body")
UPGRADE_REQUIRED = Fault(426, "Upgrade to WebSocket required")
RATE_LIMITED = Fault(429, "Rate limit exceeded")
NOT_ACTIVE = Fault(400, "Job not found or not active")
LOST_LOCK = Fault(400, "Invalid or expired lock token")
UNKNOWN_DEPENDENCY = Fault(400, "Dependency job not found: {}")
FOREIGN_JOB_ID = Fault(400, "Job ID is in use by a job of another queue: {}")
STORAGE_DOWN = Fault(503, "Storage unavailable: changes are refused until the disk is back")
STORAGE_FULL = Fault(503, "Storage is nearly full: new jobs are refused, all else goes on")
NOT_COMMITTED = Fault(
    503,
    "Storage unavailable: this change is not committed, and may still be when the disk is back; look before repeating it",
)
OVERLOADED = Fault(503, "Server is overloaded: more changes are waiting than can be committed")
BUFFERS_FULL = Fault(503, "Server is overloaded: too many large requests and answers at once")
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


class InvariantBroken(AssertionError):
    """The engine or the journal is not as it must be: the process ends, and the next start recovers from the disk."""


class StartupError(Exception):
    """The server cannot start; the message is one line for the person who started it."""


class StoreError(Exception):
    """The disk refused a transaction; nothing of it was written and it may be tried again."""
