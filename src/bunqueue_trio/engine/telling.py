"""What is said of jobs: events, collected in the order in which things happen, and encoded when the changes are taken."""

from bunqueue_trio.engine.chores import Chores
from bunqueue_trio.engine.job import Job
from bunqueue_trio.engine.workers import Worker
from bunqueue_trio.protocol.events import Event, EventType, NamedType


class Telling(Chores):
    """Events since the last :meth:`Engine.take`. What is filled in later than in the same step is never seen."""

    __slots__ = ("events",)

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Event] = []

    def emit(self, kind: EventType, job: Job, now: int) -> Event:
        """Collect an event of ``job``; the caller may fill in its optional fields, in this very step: it is encoded when a batch is taken."""
        event = Event(kind, job.queue, job.id, now)
        self.events.append(event)
        return event

    def tell(self, kind: NamedType, now: int, queue: str = "", job_id: str = "") -> Event:
        """Collect an event that only those hear who name its type."""
        event = Event(kind, queue, job_id, now)
        self.events.append(event)
        return event

    def _tell_of_worker(self, kind: NamedType, worker: Worker, now: int) -> None:
        event = self.tell(kind, now)
        event.worker, event.name = worker.id, worker.name
