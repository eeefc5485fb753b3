"""What clients of all brokers were answered, held against the truth: answers, deliveries, waiting pulls, event streams."""

import json
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import trio

from tests.cluster.truth import Truth
from tests.sim.actors import Actor, Worker
from tests.sim.peer import Answer, EventReader, Lost, Peer, Refused
from tests.sim.sim_ledger import Delivery, Ledger

if TYPE_CHECKING:
    from tests.cluster.cluster_world import ClusterWorld


class ClusterLedger(Ledger):
    """The answers, where what a database has lost for good is excused, and nothing else."""

    def __init__(self, truth: Truth, fail: Callable[[str], None]) -> None:
        super().__init__(truth.platter, fail)
        truth.platter.on_batch.remove(self._note)
        truth.on_batch.append(self._note)
        self.truth = truth
        self._told: dict[str, set[str]] = {}
        """Every token that somebody got, by the id of its job."""

    def forget_lost(self) -> None:
        """Let go of what was said of jobs of which something is lost."""
        truth = self.truth
        self._platter = truth.platter
        self.pushed -= truth.lost_ids
        self._told = {job_id: told for job_id, told in self._told.items() if job_id not in truth.lost_ids}
        for book in (self._acked, self._given_up):
            for name in [name for name in book if name[1] in truth.lost_nonces]:
                del book[name]
        self._bulks = {nonce: all_ for nonce, all_ in self._bulks.items() if not all_ & truth.lost_nonces}

    def push_answered(self, job_id: str, *, durable: bool) -> None:
        if job_id not in self.truth.lost_ids:
            super().push_answered(job_id, durable=durable)

    def delivered(self, delivery: Delivery) -> None:
        if delivery.nonce in self.truth.lost_nonces:
            return
        # A lease that was over before its own commit is no more in a row; its event is there all the same.
        told = self._told.setdefault(delivery.id, set())
        told.add(delivery.token)
        if delivery.token not in self.truth.tokens and self.truth.pulled[delivery.id] < len(told):
            self._fail(f"{delivery} was answered, and is not committed")
        super().delivered(delivery)

    def ack_answered(self, delivery: Delivery) -> None:
        if delivery.nonce in self.truth.lost_nonces:
            return
        super().ack_answered(delivery)
        tokens = self.truth.tokens_of(delivery.id, delivery.nonce)
        if not tokens or tokens[-1] != delivery.token:
            self._fail(f"an ack counts with a token that is not the last of {tokens}: {delivery}")

    def failure_for_good_answered(self, delivery: Delivery) -> None:
        if delivery.nonce not in self.truth.lost_nonces:
            super().failure_for_good_answered(delivery)

    def end_answered(self, what: str, job_id: str) -> None:
        # Somebody may have retried the dead letter before the answer has come.
        if job_id not in self.truth.lost_ids and not self.truth.has_died(job_id):
            super().end_answered(what, job_id)

    def line_answered(self, job_id: str, message: str) -> None:
        if job_id not in self.truth.lost_ids:
            super().line_answered(job_id, message)


class Poll(NamedTuple):
    """A waiting pull that is over."""

    queue: str
    sent_at: float
    answered_at: float
    undisturbed: int


class Polls:
    """Who came first is served first, at whichever brokers they ask."""

    def __init__(self, fail: Callable[[str], None], slack_s: float) -> None:
        self._fail = fail
        self._slack_s = slack_s
        """Longer than a request or its answer is on its way, where nothing is cut or held."""
        self._served: deque[Poll] = deque(maxlen=50)

    def served(self, poll: Poll) -> None:
        self._served.append(poll)

    def over(self, poll: Poll) -> None:
        """A poll is over, with a job or without: nobody was served long before who came after it."""
        for other in self._served:
            if (
                other.queue == poll.queue
                and other.undisturbed == poll.undisturbed
                and other.sent_at > poll.sent_at + self._slack_s
                and other.answered_at < poll.answered_at - self._slack_s
            ):
                self._fail(f"{other} is served, and {poll}, which was before it, is not")


class ClusterWorker(Worker):
    """One that remembers how long it has waited, and asks what has become of a job when it knows."""

    stage: "ClusterWorld"

    async def ask(self, peer: Peer, cmd: str, /, **fields: Any) -> Answer:
        sent_at, term = self.stage.now(), self.stage.term()
        answer = await super().ask(peer, cmd, **fields)
        timeout_s = fields.get("timeout", 0) / 1000
        if cmd in ("PULL", "PULLB") and answer["ok"] and not self.calm and not term[1] and term == self.stage.term():
            poll = Poll(fields["queue"], sent_at, self.stage.now(), term[0])
            if timeout_s and not (self.names_itself and self.stage.may_quiet_workers):
                self.stage.polls.over(poll)
            if answer.get("job") or answer.get("jobs"):
                self.stage.polls.served(poll)
        return answer

    async def ack(self, peer: Peer, delivery: Delivery, token: str | None) -> bool:
        """Ack, and look at the job through some broker: it has ended, whatever that one believes."""
        is_done = await super().ack(peer, delivery, token)
        if is_done and token is not None and self.rng.random() < 0.5:
            losses, answer = self.stage.truth.losses, {"ok": False}
            with suppress(ConnectionRefusedError):
                async with self.connected() as other:
                    answer = await self.ask(other, "GetState", id=delivery.id)
            newer = [name for name in self.stage.truth.names if name[0] == delivery.id][-1:] != [delivery[:2]]
            is_done_there = answer.get("state") in ("completed", "unknown", None)
            if answer["ok"] and not is_done_there and not newer and losses == self.stage.truth.losses:
                self.stage.fail(f"{delivery} is acked, and said to be {answer} afterwards")
        return is_done


class PatientWorker(ClusterWorker):
    """One that waits long for each job of the same queue, at whichever broker, and does it well."""

    def __init__(self, stage: "ClusterWorld", name: str) -> None:
        super().__init__(stage, name)
        self.habits, self.weights = [self.work], [1]

    async def pull(self, peer: Peer) -> list[Delivery]:
        if self.calm:
            return await super().pull(peer)
        answer = await self.ask(peer, "PULL", queue=self.stage.queues[0], timeout=60_000)
        if not answer["ok"]:
            await self.nap(1)
        return self.delivered(answer) if answer["ok"] else []


class Reader(Actor):
    """Reads server-sent events at one broker after the other, and must have had every event exactly once, in order."""

    stage: "ClusterWorld"

    def __init__(self, stage: "ClusterWorld", name: str) -> None:
        super().__init__(stage, name)
        self.queue = self.rng.choice((None, None, stage.queues[0]))
        self.last = 0
        self.place = 0
        """Where in the truth it is."""
        self.losses = 0
        self.seen = 0

    async def run(self) -> None:
        path = "/events" if self.queue is None else f"/events/queues/{self.queue}"
        while not self.done:
            try:
                reader = EventReader(self.stage.network.connect(), self.stage.token, self.name)
                try:
                    messages = reader.read(path, self.last)
                    patience = 120 if self.calm else self.rng.expovariate(1 / 200)
                    with trio.move_on_after(patience):
                        async for message in messages:
                            self.take(message.id, message.data)
                            if not self.calm and self.rng.random() < 0.01:
                                await self.nap(self.rng.choice((1, 60)))
                finally:
                    reader.close()
                    with trio.CancelScope(shield=True):
                        await messages.aclose()  # type: ignore[attr-defined]
                self.say(f"read up to {self.last}")
            except (Lost, Refused, ConnectionRefusedError) as error:
                self.say(f"lost its stream at {self.last}: {type(error).__name__} {error}")
            await self.nap(self.rng.choice((0.01, 1, 1, 60)))

    def rewind(self, kept: int) -> None:
        """What it has heard behind that is lost."""
        self.losses += 1
        self.place = min(self.place, kept)

    def take(self, number: int, body: bytes) -> None:
        message, truth = json.loads(body), self.stage.truth
        if "connected" in message:
            return
        if "gap" in message:
            # Where none is kept nobody knows what there was: ids begin anew with each leader.
            if not self.losses and 0 < self.stage.database.first_event_id() <= self.last + 1:
                self.stage.fail(f"{self.name} hears of a gap after {self.last}, and nothing is missing: {message}")
            self.last = number
            self.place = next((at for at, told in enumerate(truth.told) if told.id > number), len(truth.told))
            return
        wanted = truth.wanted_after(self.place, self.queue)
        told = None if wanted is None else truth.told[wanted]
        if told is None or (told.id, told.body) != (number, body):
            if (number, body) in truth.lost_told:
                self.last = max(self.last, number)
                return
            self.stage.fail(f"{self.name} hears {number} {body!r} after {self.last}, and should hear {told}")
            return
        self.last, self.place = number, (wanted or 0) + 1
        self.seen += 1

    def caught_up(self) -> bool:
        return self.stage.truth.wanted_after(self.place, self.queue) is None
