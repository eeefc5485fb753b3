"""What can go wrong with a server that is asked, beside a refusal that is the caller's fault.

``Refused`` (in :mod:`bunqueue_trio.errors`) is the caller's: the same command will be refused again.
"""

from bunqueue_trio import errors


class ServerUnavailable(Exception):
    """The server's fault, and a passing one: nothing was changed, and the same command may succeed later."""


class ConnectionLost(Exception):
    """Nobody's fault: the connection broke after the command was sent, and whether it took effect is unknown."""


class JobFailed(Exception):
    """The job that was waited for ended without a result; ``str(error)`` is its last error."""

    def __init__(self, job_id: str, error: str) -> None:
        super().__init__(error)
        self.job_id = job_id


_PASSING = {fault.message for fault in (errors.STORAGE_DOWN, errors.OVERLOADED, errors.SHUTTING_DOWN)}
_STATUS = {fault.message: fault.status for fault in vars(errors).values() if isinstance(fault, errors.Fault)}


def refusal(text: str) -> Exception:
    """Return the exception for an error text of the server, which over WebSocket carries no status."""
    if text in _PASSING:
        return ServerUnavailable(text)
    return errors.Refused(_STATUS.get(text, 400), text)
