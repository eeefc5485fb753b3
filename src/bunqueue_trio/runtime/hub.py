"""Event fan-out: every committed event, once and in order, to each reader that wants it.

A reader has a bounded buffer. Publishing never waits: what does not fit is missed, counted, and the
reader is told by its transport (an SSE stream ends and is replayed, a WebSocket gets a notice).
"""

from typing import Any, NamedTuple, cast

import msgspec
from msgspec import Struct

from bunqueue_trio.config import READER_BYTES_MAX, READER_EVENTS_MAX, REPLAY_EVENTS
from bunqueue_trio.protocol.events import EVENT_TYPES, REPORTED, Event
from bunqueue_trio.protocol.surrogates import masked
from bunqueue_trio.runtime.bell import Bell
from bunqueue_trio.storage.awaited import AwaitedStore, Question
from bunqueue_trio.storage.store import Batch, Store


class Published(NamedTuple):
    """One event as all readers get it."""

    id: int
    body: bytes


class Reporting:
    """The jobs whose end a reader is reporting, some in each step: ``done`` grows meanwhile."""

    __slots__ = ("_done", "_told")

    def __init__(self, done: set[str]) -> None:
        self._done = done
        self._told: set[str] = set()

    @property
    def untold(self) -> set[str]:
        """Those of which no event has come yet."""
        return self._done - self._told

    def take(self, job_id: str) -> bool:
        """Return whether the event of a job is one of these, of which each has one."""
        is_its = job_id in self._done and job_id not in self._told
        if is_its:
            self._told.add(job_id)
        return is_its


class Subscription:
    """What one reader wants, and what waits for it. ``bell`` rings when something does."""

    def __init__(self, queue: str | None, bell: Bell) -> None:
        self.queue = queue
        self.bell = bell
        self.types: frozenset[str] = EVENT_TYPES
        """The event types it wants."""
        self.missed: int = 0
        """Events that did not fit since the reader last asked."""
        self.reported: dict[int, set[str]] = {}
        """Epoch → jobs whose end in it the reader has reported itself, and does not want to hear of."""
        self.reporting: Reporting | None = None
        """What the reader is reporting now, of which some is committed before the rest is done."""
        self._waiting: list[Published] = []
        self._bytes = 0

    def __bool__(self) -> bool:
        return bool(self._waiting) or self.missed > 0

    def is_reported(self, event: Event) -> bool:
        """Return whether it is what the reader has reported itself, of which it misses one."""
        if event.event_type in REPORTED:
            if self.reporting is not None and self.reporting.take(event.job_id):
                return True
            for jobs in self.reported.values():
                if event.job_id in jobs:
                    jobs.remove(event.job_id)
                    return True
        return False

    def offer(self, event: Published) -> bool:
        """Put ``event`` into the buffer; return whether it is there, or is missed."""
        # After a gap nothing is added until the reader knows of it.
        fits = not self.missed and len(self._waiting) < READER_EVENTS_MAX and self._bytes < READER_BYTES_MAX
        if fits:
            self._waiting.append(event)
            self._bytes += len(event.body)
        else:
            self.missed += 1
        self.bell.ring()
        return fits

    def take(self, limit: int | None = None) -> tuple[list[Published], int]:
        """Return what waits, of about ``limit`` bytes at most; and how many events were missed after all."""
        if limit is not None and self._bytes > limit:
            return self._take_some(limit), 0
        taken, missed = self._waiting, self.missed
        self._waiting, self._bytes, self.missed = [], 0, 0
        return taken, missed

    def _take_some(self, limit: int) -> list[Published]:
        size = count = 0
        while size < limit and count < len(self._waiting):
            size += len(self._waiting[count].body)
            count += 1
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        self._bytes -= size
        return taken


class _Where(Struct, rename="camel"):
    """The fields of a stored event that replay filters by."""

    event_type: str
    queue: str = ""


_WHERE = msgspec.json.Decoder(_Where)


def _where(body: bytes) -> _Where:
    try:
        return _WHERE.decode(body)
    except ValueError:  # half a surrogate pair in a payload, which the quick parser takes for no JSON
        return _WHERE.decode(masked(body))


def _wants(event: _Where, queue: str | None, types: frozenset[str]) -> bool:
    return event.event_type in types and queue in (None, event.queue)


class Hub:
    """Publishes what each batch did. Readers of one queue cost nothing for events of the others."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.last_event_id: int = store.last_event_id
        """The id of the newest published event; the store may be ahead while a thread commits."""
        self.began_at: int = self.last_event_id
        """The same when this server began."""
        self._skipped = 0 if store.at_once else cast("AwaitedStore", store).ids_skipped
        self._readers: dict[str | None, dict[Subscription, None]] = {}
        self.dropped: int = 0
        """Events that some reader missed."""
        self.closed: bool = False
        """Set at shutdown: streams end."""

    def before_newest(self, events: int) -> int:
        """Return the id behind which are as many of the newest ones, or more."""
        place = self.last_event_id - events
        return place if place >= self.began_at else place - self._skipped

    def __len__(self) -> int:
        return sum(map(len, self._readers.values()))

    def subscribe(self, queue: str | None, bell: Bell) -> Subscription:
        """Return a new subscription to the events of ``queue``, or of all queues."""
        subscription = Subscription(queue, bell)
        self._readers.setdefault(queue, {})[subscription] = None
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription; ending it twice is fine."""
        readers = self._readers.get(subscription.queue, {})
        readers.pop(subscription, None)
        if not readers:
            self._readers.pop(subscription.queue, None)

    def close(self) -> None:
        """End the streams of all readers, politely: each is told, and stops by itself."""
        self.closed = True
        for readers in self._readers.values():
            for reader in readers:
                reader.bell.ring()

    def publish(self, batch: Batch, seconds: float) -> None:
        """Offer the events of a batch that was just committed to their readers."""
        self.last_event_id = batch.last_event_id
        if not self._readers:
            return
        everything = self._readers.get(None, {})
        event_id = batch.last_event_id - len(batch.events)
        for event, body in zip(batch.heard, batch.events, strict=True):
            event_id += 1
            published = Published(event_id, body)  # one for all: a thousand slow readers hold it once
            for readers in (everything, self._readers.get(event.queue, {})):
                for reader in readers:
                    if event.event_type in reader.types and not (
                        (reader.reported or reader.reporting) and reader.is_reported(event)
                    ):
                        self.dropped += not reader.offer(published)

    async def first_kept_id(self) -> int:
        """Return the id of the oldest event that can be replayed.

        Raises:
            StoreError: the disk cannot be read.
        """
        return int(await self._ask(Question("first_event_id", ())))

    async def replay(
        self, after: int, until: int, queue: str | None, types: frozenset[str] = EVENT_TYPES
    ) -> tuple[list[Published], int]:
        """Return some kept events of ``types`` with ids in ``after < id <= until``, and where to go on.

        Going on at ``until`` means that there are no more. Reads the store, for about 1 ms; at most as
        many events and bytes as a reader may hold.

        Raises:
            StoreError: the disk cannot be read.
        """
        kept = await self._ask(Question("events_after", (after, REPLAY_EVENTS)))
        found = [e for e in kept if e.id <= until]
        reached = found[-1].id if found else until
        return [Published(*e) for e in found if _wants(_where(e.body), queue, types)], reached

    async def _ask(self, question: Question) -> Any:
        """Return what the store answers, at once where it is near."""
        if self._store.at_once:
            return question.ask(self._store)
        return await cast("AwaitedStore", self._store).look_up(question)
