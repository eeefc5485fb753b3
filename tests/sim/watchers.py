"""Who watches the server: a reader of its stream, and a WebSocket that counts events."""

import json

import trio

from tests.sim.actors import Actor, Stage
from tests.sim.peer import EventReader, Lost, Refused, WsPeer
from tests.sim.sim_disk import UNTOLD


class StreamWatcher(Actor):
    """Reads server-sent events, comes back where it left, and must have had every event exactly once."""

    def __init__(self, stage: Stage, name: str) -> None:
        super().__init__(stage, name)
        self.queue = self.rng.choice((None, None, stage.queues[0]))
        self.last = 0
        self.seen = 0

    async def run(self) -> None:
        path = "/events" if self.queue is None else f"/events/queues/{self.queue}"
        while not self.done:
            try:
                reader = EventReader(self.stage.network.connect(), self.stage.token, self.name)
                try:
                    messages = reader.read(path, self.last)
                    patience = float("inf") if self.calm else self.rng.expovariate(1 / 300)
                    with trio.move_on_after(patience):
                        async for message in messages:
                            self.take(message.id, message.data)
                            if not self.calm and self.rng.random() < 0.01:
                                await self.nap(self.rng.choice((1, 60)))  # slow: its buffer may overflow
                finally:
                    reader.close()
                    with trio.CancelScope(shield=True):
                        await messages.aclose()  # type: ignore[attr-defined]
                self.say(f"read up to {self.last}")
            except (Lost, Refused, ConnectionRefusedError) as error:
                self.say(f"lost its stream at {self.last}: {type(error).__name__} {error}")
            await trio.sleep(self.rng.choice((0.01, 1)))

    def take(self, number: int, body: bytes) -> None:
        message = json.loads(body)
        if "connected" in message:
            return
        platter = self.stage.platter
        if "gap" in message:
            if platter.first_event_id() <= self.last + 1:
                self.stage.fail(f"{self.name} hears of a gap after {self.last}, and nothing is missing: {message}")
            self.last = number
            return
        if number > len(platter.events) or platter.events[number - 1] != body:
            self.stage.fail(f"{self.name} hears an event {number} that is not committed: {body!r}")
            return
        if not self.wants(number):
            self.stage.fail(f"{self.name} wants the events of {self.queue!r}, and hears {body!r}")
        skipped = range(self.last + 1, number)
        missed = [i for i in skipped if self.wants(i)]
        if number <= self.last or missed:
            self.stage.fail(f"{self.name} hears {number} after {self.last}, without {missed}")
        self.last = number
        self.seen += 1

    def caught_up(self) -> bool:
        platter = self.stage.platter
        return not any(self.wants(i) for i in range(self.last + 1, len(platter.events) + 1))

    def wants(self, number: int) -> bool:
        """Whether it must hear an event: it names no type."""
        queue = self.stage.platter.queue_of[number - 1]
        return queue is not UNTOLD and self.queue in (None, queue)


class SocketWatcher(Actor):
    """Hears events over a WebSocket: while it is connected, each one of them, in order, exactly once."""

    def __init__(self, stage: Stage, name: str) -> None:
        super().__init__(stage, name)
        self.queue = self.rng.choice((None, None, stage.queues[0]))
        self.places: set[int] = set()
        self.seen = 0

    async def run(self) -> None:
        while not self.done:
            try:
                await self.listen()
            except (Lost, Refused, ConnectionRefusedError) as error:
                self.say(f"lost its socket: {type(error).__name__} {error}")
            await trio.sleep(self.rng.choice((0.01, 1)))

    async def listen(self) -> None:
        peer = WsPeer(self.stage.network.connect(), self.stage.token, self.name)
        told = self.stage.platter.queue_of[: self.stage.published()]  # the disk may be ahead of what is sent
        begin = len(told) - told.count(UNTOLD) if self.queue is None else told.count(self.queue)
        try:
            await peer.open("/ws" if self.queue is None else f"/ws/queues/{self.queue}")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(peer.read)
                # How far the server was when it began to listen for this socket, only the server knows.
                self.places = set(range(begin, len(self.events) + 1))
                patience = float("inf") if self.calm else self.rng.expovariate(1 / 300)
                with trio.move_on_after(patience):
                    while not peer.over:
                        await peer.news.wait()
                        peer.news = trio.Event()
                        heard, peer.heard = peer.heard, []
                        for body in heard:
                            self.take(body)
                self.say(f"heard {self.seen}")
                nursery.cancel_scope.cancel()
        finally:
            peer.close()

    @property
    def events(self) -> list[bytes]:
        platter = self.stage.platter
        return platter.told if self.queue is None else platter.of_queue.setdefault(self.queue, [])

    def take(self, body: bytes) -> None:
        message = json.loads(body)
        if (missed := message.get("missedEvents")) is not None:
            self.places = {place + missed for place in self.places}
            return
        events = self.events
        places = {place + 1 for place in self.places if place < len(events) and events[place] == body}
        if not places:
            self.stage.fail(f"{self.name} hears {body!r}, which is not the event at any of {sorted(self.places)[:5]}")
        self.places = places
        self.seen += 1

    def caught_up(self) -> bool:
        return len(self.events) in self.places
