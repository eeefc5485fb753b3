"""What can go wrong, by whose fault it is, and the table of refusals with HTTP status and contract text.

The clients raise a :class:`BunqueueError`: ``Refused`` is the caller's fault, ``ServerUnavailable`` the
server's, ``ConnectionLost`` nobody's, ``JobFailed`` the job's. The server itself raises ``Refused`` only:
a refusal, for good or for now, has changed nothing, but for ``NOT_COMMITTED``, whose change waits for the disk. A broken invariant of its own is ``InvariantBroken``.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from copyreg import __newobj__  # type: ignore[attr-defined]
from typing import Any, NamedTuple


class Fault(NamedTuple):
    """One kind of refusal: HTTP status, message (``{}`` is filled in by :meth:`refuse`), and code.

    The message is for people and may be worded anew; the code is for programs, and never changes. Where the message is
    ``literal``, the HTTP API reference shows it, and an answer that says nothing else: it stays as it is, and to a command of the reference
    it is sent without the code.
    """

    status: int
    message: str
    code: str
    literal: bool = False

    def refuse(self, *details: object, retry_after: int | None = None) -> "Refused":
        """Return the exception for this fault, with ``details`` put into the message."""
        message = self.message.format(*details) if details else self.message
        return Refused(self.status, message, self.code, retry_after=retry_after)


class BunqueueError(Exception):
    """Anything that a client of a server raises about what was asked."""

    def __reduce__(self) -> tuple[Any, ...]:
        # A pool of processes makes it of this again, without `__init__`, whose arguments are others.
        return __newobj__, (type(self), *self.args), self.__dict__


class Refused(BunqueueError):
    """The caller's fault: the request cannot be honoured, and would be refused again. Nothing was changed.

    ``status`` is the HTTP status, ``code`` what kind of refusal it is ("" where that is not known), and ``str(error)``
    the text for people. Inside the server it is a passing refusal too, and ``retry_after`` the seconds after which a
    repeat may succeed.
    """

    def __init__(self, status: int, message: str, code: str = "", *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after = retry_after


class ServerUnavailable(BunqueueError):
    """The server's fault, and a passing one: the same may succeed later.

    Nothing was changed, unless it says that the change is not committed: that may still be, so look before you repeat it.

    ``retry_after``: in how many seconds, where the server says it. ``code``: why, "" where there was no answer.
    """

    def __init__(self, message: str, retry_after: float | None = None, *, code: str = "") -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.code = code


class ConnectionLost(BunqueueError):
    """Nobody's fault: the connection broke after something was sent, and whether it took effect is unknown."""


class JobFailed(BunqueueError):
    """The fault of the job that was waited for: it ended without a result; ``str(error)`` is its last error."""

    def __init__(self, job_id: str, error: str) -> None:
        super().__init__(error)
        self.job_id = job_id


class JobRemoved(JobFailed):
    """The job that was waited for was cancelled, or its time to live was over before it began."""


INVALID_JSON_BODY = Fault(400, "Invalid JSON body", "invalid-json-body", literal=True)
INVALID_JSON = Fault(400, "Invalid JSON", "invalid-json")
INVALID_COMMAND = Fault(400, "Invalid command", "invalid-command")
UNKNOWN_COMMAND = Fault(400, "Unknown command: {}", "unknown-command")
INVALID_FIELD = Fault(400, "{} {}", "invalid-field")
UNKNOWN_FIELD = Fault(400, "unknown field: {}", "unknown-field")
INVALID_QUEUE = Fault(400, "Queue name contains invalid characters", "invalid-queue")
INVALID_PATH = Fault(400, "Invalid percent-encoding in path", "invalid-path")
UNAUTHORIZED = Fault(401, "Unauthorized", "unauthorized", literal=True)
WRONG_TOKEN = ": the token in BUNQUEUE_TOKEN or --token is missing or wrong"  # noqa: S105 - a sentence
"""What helps whoever meets it at a command line."""
INVALID_TOKEN = Fault(401, "Invalid token", "invalid-token", literal=True)
NOT_FOUND = Fault(404, "Not found", "not-found", literal=True)
JOB_NOT_FOUND = Fault(404, "Job not found", "job-not-found", literal=True)
METHOD_NOT_ALLOWED = Fault(405, "Method not allowed", "method-not-allowed")
INTERNAL_ERROR = Fault(500, "Internal server error", "internal-error")
UNKNOWN_HTTP_VERSION = Fault(400, "Unknown HTTP version", "unknown-http-version")
MALFORMED_REQUEST = Fault(400, "Malformed HTTP request", "malformed-request")
HEADERS_TOO_LARGE = Fault(431, "Request headers too large", "headers-too-large")
UNKNOWN_TRANSFER_CODING = Fault(501, "Unknown transfer coding", "unknown-transfer-coding")
AMBIGUOUS_LENGTH = Fault(400, "Content-Length and Transfer-Encoding exclude each other", "ambiguous-length")
BODY_TOO_SLOW = Fault(408, "Request body did not arrive in time", "body-too-slow")
UNKNOWN_CONTENT_CODING = Fault(
    415, "Content-Encoding is not supported: send the body as it is", "unknown-content-coding"
)
MISSING_ROLE = Fault(403, "Token may not do this: it takes the role {}, and has {}", "missing-role")
FOREIGN_ORIGIN = Fault(403, "Origin is not allowed", "foreign-origin")
BODY_TOO_LARGE = Fault(413, "Request body too large", "body-too-large")
BAD_HANDSHAKE = Fault(400, "Invalid WebSocket handshake: {}", "bad-handshake")
HANDSHAKE_WITH_BODY = Fault(400, "A WebSocket handshake has no body", "handshake-with-body")
UPGRADE_REQUIRED = Fault(426, "Upgrade to WebSocket required", "upgrade-required")
RATE_LIMITED = Fault(429, "Rate limit exceeded", "rate-limited", literal=True)
NOT_ACTIVE = Fault(400, "Job not found or not active", "not-active", literal=True)
LOST_LOCK = Fault(400, "Invalid or expired lock token", "lost-lock")
UNKNOWN_DEPENDENCY = Fault(400, "Dependency job not found: {}", "unknown-dependency")
FOREIGN_JOB_ID = Fault(400, "Job ID is in use by a job of another queue: {}", "foreign-job-id")
UNTIL_IS_PAST = Fault(400, "until must be later than now", "until-is-past")
TOO_MANY_GATES = Fault(
    409, "More than {} queues would be paused or limited: obliterate those that are not needed", "too-many-gates"
)
STORAGE_DOWN = Fault(
    503, "Storage unavailable: changes are refused until it is back; nothing was changed", "storage-down"
)
STORAGE_DAMAGED = Fault(503, "Storage is damaged: what this needs cannot be read or written", "storage-damaged")
STORAGE_FULL = Fault(
    503, "Storage is nearly full: what brings jobs or data is refused, all else goes on", "storage-full"
)
NOT_COMMITTED = Fault(
    503,
    "Storage unavailable: this change is not committed, and may still be when it is back; look before repeating it",
    "not-committed",
)
OVERLOADED = Fault(503, "Server is overloaded: more changes are waiting than can be committed", "overloaded")
TOO_MANY_WAITS = Fault(503, "Server is overloaded: too many pulls and waits for jobs at once", "too-many-waits")
STANDBY = Fault(503, "This server waits to take over: another one leads", "standby")
BUFFERS_FULL = Fault(503, "Server is overloaded: too many large requests and answers at once", "buffers-full")
TOO_MANY_CONNECTIONS = Fault(503, "Too many connections", "too-many-connections")

LITERAL = {fault.message: fault for fault in tuple(globals().values()) if isinstance(fault, Fault) and fault.literal}
"""Text → refusal, of those that the reference shows whole; a text that is not here comes with its code."""


def unread(error: "StoreError") -> Refused:
    """Return the refusal of what needs something that could not be read."""
    return (STORAGE_DAMAGED if isinstance(error, StoreDamaged) else STORAGE_DOWN).refuse()


def reason_of(error: Exception) -> str:
    """Return what an error says without the number and the name that people know already: ``No such file or directory``."""
    return getattr(error, "strerror", None) or str(error)


@contextmanager
def reaching_files(name: str | None = None) -> Iterator[None]:
    """Say in one line why a file cannot be reached in the block: a directory on the way may not be entered, or no file can have such a name.

    ``name`` is what the line is about; by default the file.

    Raises:
        StartupError: the line.
    """
    try:
        yield
    except OSError as error:
        # That of a stream has none.
        if error.filename is None:
            raise
        raise StartupError(f"{name or error.filename}: {error.strerror}") from None


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
    """The disk refused a transaction. Nothing of it was written, and it may be tried again."""


class StoreBusy(StoreError):
    """Another process writes to the file now. Whoever may wait for it, and is not in the event loop, does so."""


class StoreDamaged(StoreError):
    """The rows lie on a page of the file that is damaged. Trying again does not help."""


class StoreGone(StoreError):
    """The file was moved, deleted or replaced while it was open. Where it comes back, it may be tried again."""


class TakenOver(Exception):
    """Another server leads the store now, or what it consists of is not there: this one may write nothing any more, and ends without an answer to anybody."""


class DoorLost(Exception):
    """A process that accepts connections for this one has ended before anybody asked it to."""


ONE_LINE = (StartupError, StoreError, TakenOver, DoorLost)
"""Why a server ends, where the message says it all."""
