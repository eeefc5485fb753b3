"""Event fan-out: every committed event, once and in order, to each reader that wants it.

A reader has a bounded buffer. Publishing never waits: what does not fit is missed, counted, and the
reader learns of it from its transport (an SSE stream ends and is replayed, a WebSocket gets a notice).
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from itertools import accumulate, pairwise
from operator import attrgetter
from typing import Any, NamedTuple, cast

import msgspec
import trio
from msgspec import Struct

from bunqueue_trio.config import READER_BYTES_MAX, READER_EVENTS_MAX, REPLAY_EVENTS
from bunqueue_trio.engine.facts import Facts
from bunqueue_trio.errors import StoreError
from bunqueue_trio.protocol.events import EVENT_TYPES, REPORTED, without_data
from bunqueue_trio.protocol.surrogates import masked
from bunqueue_trio.runtime.bell import Bell
from bunqueue_trio.storage.awaited import AwaitedStore, Question
from bunqueue_trio.storage.store import Batch, Store

# Events that say how large all are: a look of 0.1 ms.
WEIGHED = 100
_MADE = 500
"""Events that are made for readers at a time."""
_QUEUE = attrgetter("queue")


class Published(NamedTuple):
    """One event as all readers get it."""

    id: int
    body: bytes


class Share:
    """Those of a batch's events that some readers want, all the same ones; each reader holds a part.

    They are made as readers take them: a batch of 10,000 must not be a long step for who only publishes it.
    """

    def __init__(self, batch: Batch, places: Sequence[int]) -> None:
        self.count: int = len(places)
        self.made: list[Published] = []
        """The first of them, as readers get them; :meth:`make_some` makes the next ones."""
        # Not the batch: its rows must not wait for slow readers.
        self._heard, self._all, self._places = batch.heard, batch.events, places
        self._begin = batch.last_event_id - len(batch.events) + 1
        self.size: int = sum(map(len, self._bodies()))
        self._sizes: list[int] | None = None
        self._ends: dict[str, list[int]] | None = None

    def make_some(self) -> None:
        """Make some more of them: one for all, so that a thousand slow readers hold it once."""
        begin, bodies, some = self._begin, self._all, len(self.made)
        self.made += [Published(begin + at, bodies[at]) for at in self._places[some : some + _MADE]]

    def event(self, place: int) -> Published:
        """Return one of them."""
        at = self._places[place]
        return Published(self._begin + at, self._all[at])

    @property
    def sizes(self) -> list[int]:
        """The bytes of the events up to each, and with it; made for readers that have no room for all of them."""
        if self._sizes is None:
            self._sizes = list(accumulate(map(len, self._bodies())))
        return self._sizes

    @property
    def ends(self) -> dict[str, list[int]]:
        """The places of the events that tell of the end of a job's attempt."""
        if self._ends is None:
            self._ends = {}
            for place, at in enumerate(self._places):
                event = self._heard[at]
                if event.event_type in REPORTED:
                    self._ends.setdefault(event.job_id, []).append(place)
        return self._ends

    def _bodies(self) -> list[bytes]:
        return [self._all[at] for at in self._places]


class Report:
    """The reports of a reader itself, whose events it does not want once it has its answer: one event for each job.

    Of a bulk command ``jobs`` grows with each of its steps, of which some are committed before the rest is done.
    """

    __slots__ = ("_jobs", "_told", "kept")

    def __init__(self, jobs: set[str]) -> None:
        self._jobs = jobs
        self._told: set[str] = set()
        self.kept: list[Published] = []
        """The events that were kept from the reader."""

    def keep(self, share: Share, places: set[int]) -> None:
        """Add to ``places`` those of the events that are to be kept from the reader."""
        ends = share.ends
        # A worker that fails a job pays for this.
        for job_id in (ends.keys() & self._jobs) - self._told:
            for place in ends[job_id]:
                if place not in places:
                    places.add(place)
                    self._told.add(job_id)
                    self.kept.append(share.event(place))
                    break


class Subscription:
    """The wishes of one reader, and the events that wait for it. ``bell`` rings when there are some."""

    def __init__(self, queue: str | None, bell: Bell) -> None:
        self.queue = queue
        self.bell = bell
        self.types: frozenset[str] = EVENT_TYPES
        """The event types it wants."""
        self.missed: int = 0
        """Events that did not fit since the reader last asked."""
        self.reports: dict[Report, None] = {}
        """The reports of the reader that have no answer yet."""
        self._waiting: deque[tuple[Share | None, list[Published], int, int, Collection[int]]] = deque()
        """Events, shared with other readers, and which part of them waits: from one place up to another, without some."""
        self._count = 0
        self._bytes = 0

    def __bool__(self) -> bool:
        return self._count > 0 or self.missed > 0

    def offer(self, share: Share) -> int:
        """Put as much of ``share`` into the buffer as fits; return how many events are missed."""
        fits = wanted = share.count
        without: Collection[int] = ()
        if self.reports:
            without = self._reported(share)
            if len(without) == wanted:
                return 0
        size = share.size
        # After a gap nothing is added until the reader knows of it.
        if self.missed or self._count + wanted > READER_EVENTS_MAX or self._bytes + size > READER_BYTES_MAX:
            fits, size = self._fitting(share)
        if fits:
            self._waiting.append((share, share.made, 0, fits, without))
            self._count += fits
            self._bytes += size
        self.bell.ring()
        if fits == wanted:
            return 0
        missed = wanted - fits - sum(place >= fits for place in without)
        self.missed += missed
        return missed

    def _fitting(self, share: Share) -> tuple[int, int]:
        """Return how many of the events fit, as long as there is room for one more, and their bytes."""
        room = READER_BYTES_MAX - self._bytes
        if self.missed or room <= 0:
            return 0, 0
        sizes = share.sizes
        fits = min(share.count, READER_EVENTS_MAX - self._count, bisect_left(sizes, room) + 1)
        return fits, sizes[fits - 1] if fits else 0

    def _reported(self, share: Share) -> set[int]:
        places: set[int] = set()
        for report in self.reports:
            report.keep(share, places)
        return places

    def withdraw(self, report: Report) -> None:
        """Send the reader the events of its own report after all: it has heard that the report failed, or may never be committed."""
        if report not in self.reports:
            return
        del self.reports[report]
        if report.kept:
            self._waiting.append((None, report.kept, 0, len(report.kept), ()))
            self._count += len(report.kept)
            self._bytes += sum(len(event.body) for event in report.kept)
            self.bell.ring()

    def take(self, limit: int | None = None) -> tuple[list[Published], int]:
        """Return what waits, of about ``limit`` bytes at most; and how many events were missed after all."""
        taken: list[Published] = []
        size, waiting = 0, self._waiting
        while waiting and (limit is None or size < limit):
            share, events, place, end, without = waiting.popleft()
            begin = place
            while place < end and (limit is None or size < limit):
                if share is not None and place >= len(events):
                    share.make_some()
                event = events[place]
                if place not in without:
                    taken.append(event)
                size += len(event.body)
                place += 1
            self._count -= place - begin
            if place < end:
                waiting.appendleft((share, events, place, end, without))
        self._bytes -= size
        missed = 0
        if not waiting:
            missed, self.missed = self.missed, 0
        return taken, missed


class _Where(Struct, rename="camel"):
    """The fields of a stored event that replay filters by."""

    event_type: str
    queue: str = ""
    timestamp: int = 0


_WHERE = msgspec.json.Decoder(_Where)


def _where(body: bytes) -> _Where:
    body = without_data(body)
    try:
        return _WHERE.decode(body)
    except ValueError:
        # Half a surrogate pair in a payload, which the quick parser refuses as JSON.
        return _WHERE.decode(masked(body))


def _wants(event: _Where, queue: str | None, types: frozenset[str], since: int, before: int | None) -> bool:
    is_in_time = event.timestamp >= since and (before is None or event.timestamp < before)
    return is_in_time and event.event_type in types and queue in (None, event.queue)


BACK, BACKS_KEPT = "clock-back", 20
"""The kind of facts whose keys are :attr:`Hub.backs`, and how many are kept: the newest."""


class Hub:
    """Publishes what each batch did. Readers of one queue cost nothing for events of the others."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.last_event_id: int = store.last_event_id
        """The id of the newest published event; the store may be ahead while a thread commits."""
        self.began_at: int = self.last_event_id
        """The same when this server began."""
        self.backs: Sequence[int] = ()
        """The ids behind which a server began whose clock was behind the events there were: between two of them times rise with the ids."""
        self._skipped = 0 if store.at_once else cast("AwaitedStore", store).ids_skipped
        self._readers: dict[str | None, dict[Subscription, None]] = {}
        self.dropped: int = 0
        """Events that some reader missed."""
        self.closed: bool = False
        """Set at shutdown: streams end."""

    def begin(self, facts: Facts, now: int) -> None:
        """Take up where the times of events go back, and note whether they do so with this start."""
        if now < self._store.last_event_at():
            facts.set(BACK, str(self.last_event_id), b"true")
        backs = sorted(map(int, facts.of(BACK)))
        for back in backs[:-BACKS_KEPT]:
            facts.delete(BACK, str(back))
        self.backs = backs[-BACKS_KEPT:]

    def before(self, event_id: int, events: int) -> int:
        """Return the id behind which are that many of the events up to ``event_id``, or more."""
        place = event_id - events
        return place - self._skipped if place < self.began_at <= event_id else place

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
        """End the streams of all readers, politely: each hears of it, and stops by itself."""
        self.closed = True
        for readers in self._readers.values():
            for reader in readers:
                reader.bell.ring()

    def publish(self, batch: Batch, seconds: float) -> None:
        """Offer the events of a batch that was just committed to their readers."""
        self.last_event_id = batch.last_event_id
        if not self._readers:
            return
        places = range(len(batch.events))
        if everything := self._readers.get(None):
            self._offer(everything, batch, places)
        if len(self._readers) > bool(everything):
            for queue, some in self._by_queue(batch).items():
                self._offer(self._readers[queue], batch, some)

    def _by_queue(self, batch: Batch) -> dict[str, Sequence[int]]:
        """Return where the events of each queue are that has readers of its own."""
        names = list(map(_QUEUE, batch.heard))
        if len(there := set(names)) == 1:
            return {name: range(len(names)) for name in there if name in self._readers}
        found: dict[str, list[int]] = {name: [] for name in there if name in self._readers}
        if found:
            for at, name in enumerate(names):
                if name in found:
                    found[name].append(at)
        return dict(found)

    def _offer(self, readers: Iterable[Subscription], batch: Batch, places: Sequence[int]) -> None:
        """Offer events to their readers. A further reader costs little, however many events there are: what many want is made once."""
        heard = batch.heard
        there = {heard[at].event_type for at in places}
        shares: dict[frozenset[str], Share] = {}
        for reader in readers:
            share = shares.get(reader.types)
            if share is None:
                types = reader.types & there
                share = shares.get(types)
                if share is None:
                    wanted = places if types == there else [at for at in places if heard[at].event_type in types]
                    share = shares[types] = Share(batch, wanted)
                shares[reader.types] = share
            if share.count:
                self.dropped += reader.offer(share)

    async def first_kept_id(self) -> int:
        """Return the id of the oldest event that can be replayed.

        Raises:
            StoreError: the disk cannot be read.
        """
        return int(await self._ask(Question("first_event_id", ())))

    async def place_of(self, since: int) -> int:
        """Return the id of an event behind which are all that are kept of ``since`` and later; 0 where some may be kept no more.

        Looks at about twenty of them, and lets others run in between.

        Raises:
            StoreError: the disk cannot be read.
        """
        low, high = await self.first_kept_id() - 1, self.last_event_id
        if await self._time_after(low, since) >= since:
            return low if low <= self._skipped else 0
        for end in self._parts(low, high)[1:]:
            if end == high or await self._time_after(end - 1, since) >= since:
                return await self._search(low, end, since)
            low = end
        return low

    async def _search(self, low: int, high: int, moment: int) -> int:
        """Return an id up to which all are from before a moment, and at most REPLAY_EVENTS others behind it; the times between the two rise."""
        while high - low > REPLAY_EVENTS:
            await trio.lowlevel.checkpoint()
            middle = (low + high) // 2
            if await self._time_after(middle, moment) < moment:
                low = middle
            else:
                high = middle
        return low

    def _parts(self, low: int, high: int) -> list[int]:
        """Return the ends of the parts of some events within which times rise, and the start of the first."""
        return [low, *(back for back in self.backs if low < back < high), high]

    async def end_of(self, until: int) -> int:
        """Return the id of an event up to which are all that are kept from before ``until``.

        Raises:
            StoreError: the disk cannot be read.
        """
        first = await self.first_kept_id() - 1
        ends = self._parts(first, self.last_event_id)
        for begin, end in reversed([*pairwise(ends)]):
            if await self._time_after(end - 1, 0) < until:
                return end
            if await self._time_after(begin, until) < until:
                return min(end, await self._search(begin, end, until) + REPLAY_EVENTS)
        return first

    async def kept_since(self) -> int | None:
        """Return when the oldest event happened that is kept; None: none is.

        Raises:
            StoreError: the disk cannot be read.
        """
        first = await self.first_kept_id()
        return None if first > self.last_event_id else await self._time_after(first - 1, 0)

    async def weigh(self) -> int:
        """Return about how many bytes the kept events take, by the newest of them; 0 where that cannot be read now."""
        try:
            first = await self.first_kept_id()
            newest = await self._ask(
                Question("events_after", (max(first - 1, self.before(self.last_event_id, WEIGHED)), WEIGHED))
            )
        except StoreError:
            return 0
        kept = self.last_event_id - first + 1
        return sum(len(event.body) for event in newest) * kept // len(newest) if newest else 0

    async def _time_after(self, event_id: int, otherwise: int) -> int:
        found = await self._ask(Question("events_after", (event_id, 1)))
        return _where(found[0].body).timestamp if found else otherwise

    async def replay(
        self, *, after: int, until: int, queue: str | None, types: frozenset[str] = EVENT_TYPES, since: int = 0,
        before: int | None = None, most: int | None = None,
    ) -> tuple[list[Published], int]:  # fmt: skip
        """Return some kept events of ``types`` with ids in ``after < id <= until``, of ``since`` or later, and ``before`` a moment; and where to go on.

        Going on at ``until`` means that there are no more. Reads the store, for about 1 ms; at most as
        many events and bytes as a reader may hold, or ``most`` events.

        Raises:
            StoreError: the disk cannot be read.
        """
        kept = await self._ask(Question("events_after", (after, REPLAY_EVENTS if most is None else most)))
        # What is read may be of many megabytes, and is looked at, and sent, in a step of its own.
        await trio.lowlevel.checkpoint()
        found = [e for e in kept if e.id <= until]
        reached = found[-1].id if found else until
        return [Published(*e) for e in found if _wants(_where(e.body), queue, types, since, before)], reached

    async def _ask(self, question: Question) -> Any:
        """Return what the store answers, at once where it is near."""
        if self._store.at_once:
            return question.ask(self._store)
        return await cast("AwaitedStore", self._store).look_up(question)
