"""A job that was pulled, as whoever reports it needs it: what its handler may change is not asked."""

from bunqueue_trio.protocol.replies import DeliveredJob


class Held:
    """Which job it is, and how its handler has ended it, if it has."""

    __slots__ = ("attempt", "ended", "id", "max_attempts", "queue", "token")

    def __init__(self, view: DeliveredJob, token: str) -> None:
        self.id: str = view.id
        self.queue: str = view.queue
        self.token: str = token
        self.attempt: int = view.attempts + 1
        self.max_attempts: int = view.max_attempts
        self.ended: str | None = None
