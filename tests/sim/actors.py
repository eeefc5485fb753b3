"""Who uses the server: producers, workers of every character, watchers who count events, and a meddler.

Each draws what it does from a random number generator of its own, so that a change of one does not change
what the others draw. In the second phase, the calm, producers stop and workers are honest.
"""

import json
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol

import trio

from bunqueue_trio.errors import OVERLOADED, RATE_LIMITED
from tests.sim.peer import Answer, HttpPeer, Lost, Peer, Refused, WsPeer
from tests.sim.sim_disk import Platter
from tests.sim.sim_ledger import Delivery, Ledger
from tests.sim.wire import Network

if TYPE_CHECKING:
    from tests.sim.scheduling import SlotBook

HANG_S = 1500  # no answer takes longer: the longest poll, an outage, and a machine that stands still


class Stage(Protocol):
    """What an actor needs of the world."""

    network: Network
    platter: Platter
    ledger: Ledger
    slot_book: "SlotBook"
    queues: Sequence[str]
    token: str | None
    calm: trio.Event
    closing: trio.Event
    next_nonce: int

    def rng(self, name: str) -> random.Random: ...
    def log(self, who: str, what: str) -> None: ...
    def fail(self, text: str) -> None: ...
    def published(self) -> int: ...
    def term(self) -> tuple[int, bool]: ...


class Actor:
    """Base: connects again and again until the world closes."""

    def __init__(self, stage: Stage, name: str) -> None:
        self.stage = stage
        self.name = name
        self.rng = stage.rng(name)
        self.ws = self.rng.random() < 0.5

    def say(self, what: str) -> None:
        self.stage.log(self.name, what)

    @property
    def calm(self) -> bool:
        return self.stage.calm.is_set()

    async def nap(self, seconds: float) -> None:
        """Sleep, but no longer than until the calm begins."""
        if self.calm:
            await trio.sleep(min(seconds, 1.0))
            return
        with trio.move_on_after(seconds):
            await self.stage.calm.wait()

    async def pause(self) -> None:
        """A pause of any length that matters: none, a moment, a while."""
        await self.nap(self.rng.choice((0, 0, 0.001, 0.05, 1, 5, 20)))

    async def run(self) -> None:
        while not self.done:
            try:
                async with self.connected() as peer:
                    await self.act(peer)
            except (Lost, ConnectionRefusedError):
                self.say("has no connection")
                await trio.sleep(self.rng.choice((0.01, 0.5, 3)))
            except Refused as refused:
                self.say(f"is refused: {refused}")
                await trio.sleep(1)
            await trio.sleep(0.01)

    @property
    def done(self) -> bool:
        return self.stage.closing.is_set()

    async def act(self, peer: Peer) -> None:
        raise NotImplementedError

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Peer]:
        """A new connection, over HTTP or WebSocket, cut at the end."""
        end = self.stage.network.connect()
        try:
            if not self.ws:
                yield HttpPeer(end, self.stage.token)
                return
            peer = WsPeer(end, self.stage.token)
            await peer.open("/ws")
            error: BaseException | None = None
            async with trio.open_nursery() as nursery:
                nursery.start_soon(peer.read)
                try:
                    await peer.ask("Unsubscribe")
                    yield peer
                    await peer.say_goodbye()
                except (Lost, Refused) as lost:  # out of the nursery it would be a group
                    error = lost
                nursery.cancel_scope.cancel()
            if error is not None:
                raise error
        finally:
            end.close()

    async def ask(self, peer: Peer, cmd: str, /, **fields: Any) -> Answer:
        """Ask, and check the answer against the documented ones; in the calm again if the server is overloaded.

        Raises:
            Lost: the connection broke before the answer.
        """
        about = ",".join(f"{name}={fields[name]}" for name in ("queue", "id", "timeout") if name in fields)
        with trio.move_on_after(HANG_S):
            try:
                answer = await peer.ask(cmd, **fields)
            except Lost:
                self.say(f"{cmd} {about} → lost")
                raise
            self.say(f"{cmd} {about} → {json.dumps(answer, separators=(',', ':'))[:160]}")
            self.stage.ledger.heard(cmd, answer)
            if self.calm and str(answer.get("error")).startswith((OVERLOADED.message[:20], RATE_LIMITED.message[:20])):
                await trio.sleep(1)  # as any client would; else a job that it holds would not end
                return await self.ask(peer, cmd, **fields)
            return answer
        self.stage.fail(f"{self.name}: {cmd} {about} is not answered within {HANG_S} s")
        raise Lost


class Producer(Actor):
    """Pushes jobs of all kinds; a push of unknown fate is sometimes sent again under the same id."""

    def __init__(self, stage: Stage, name: str) -> None:
        super().__init__(stage, name)
        self.likes = {option: self.rng.choice((0, 0.1, 0.4)) for option in OPTIONS}
        self.likes["durable"] = self.rng.choice((0, 0.2, 0.8))
        self.ids: list[str] = []
        self.bursts = self.rng.choice((1, 1, 5))

    @property
    def done(self) -> bool:
        return self.calm

    async def act(self, peer: Peer) -> None:
        while not self.calm:
            for _ in range(self.rng.randint(1, self.bursts)):
                await self.push(peer)
            await self.pause()
            await self.nap(self.rng.expovariate(1 / 30))

    async def push(self, peer: Peer) -> None:
        queue = self.rng.choice(self.stage.queues)
        if self.rng.random() < 0.2:
            jobs = [self.spec() for _ in range(self.rng.randint(1, 4))]
            self.stage.ledger.bulk_asked({job["data"]["n"] for job in jobs if not job.keys() & {"jobId", "uniqueKey"}})
            answer = await self.ask(peer, "PUSHB", queue=queue, jobs=jobs)
            ids = answer.get("ids", [])
        else:
            jobs = [self.spec()]
            answer = await self.ask(peer, "PUSH", queue=queue, **jobs[0])
            ids = [answer["id"]] if answer["ok"] else []
        for job_id in ids:
            self.stage.ledger.push_answered(job_id, durable=any(spec.get("durable") for spec in jobs))
        self.ids += ids

    def spec(self) -> dict[str, Any]:
        self.stage.next_nonce += 1
        data = {"n": self.stage.next_nonce}
        spec = {
            name: self.rng.choice(values) for name, values in OPTIONS.items() if self.rng.random() < self.likes[name]
        }
        if spec.pop("dependsOn", None) and self.ids:
            spec["dependsOn"] = [self.rng.choice(self.ids[-10:]) for _ in range(self.rng.randint(1, 2))]
        return {"data": data, **spec}


OPTIONS: dict[str, list[Any]] = {
    "priority": [-1, 0, 1, 2],
    "delay": [0, 1, 50, 1000, 60_000],
    "maxAttempts": [1, 2, 3],
    "backoff": [
        0,
        1,
        100,
        20_000,
        {"type": "fixed", "delay": 500},
        {"type": "exponential", "delay": 100, "maxDelay": 300},
        {"type": "exponential", "delay": 5000, "jitter": 0.5},
    ],
    "ttl": [0, 1, 1000, 60_000],
    "timeout": [0, 100, 5000, 60_000],
    "uniqueKey": ["k1", "k2", "k3"],
    "jobId": ["j1", "j2", "j3", "j4"],
    "tags": [["t"], ["t", "u"]],
    "lifo": [True],
    "removeOnComplete": [True],
    "removeOnFail": [True],
    "durable": [True],
    "dependsOn": [True],
    "repeat": [{"every": 1000, "limit": 3}, {"every": 30_000, "limit": 2}],
}


class Worker(Actor):
    """Pulls and works, well or badly; each has habits of its own."""

    def __init__(self, stage: Stage, name: str) -> None:
        super().__init__(stage, name)
        self.habits = [
            self.work, self.dawdle, self.beat, self.fail, self.die, self.lie, self.forget, self.leave, self.give_back,
        ]  # fmt: skip
        self.weights = [self.rng.choice((0, 1, 2)) for _ in self.habits]
        self.weights[0] = 4
        self.names_itself = self.rng.random() < 0.5

    async def act(self, peer: Peer) -> None:
        was_calm = self.calm
        if isinstance(peer, WsPeer):
            peer.mute = not was_calm and self.rng.random() < 0.1
        while not self.stage.closing.is_set() and self.calm == was_calm:
            deliveries = await self.pull(peer)
            if len(deliveries) > 1 and not self.calm and self.rng.random() < 0.5:
                await self.all_at_once(peer, deliveries)
                continue
            for delivery in deliveries:
                habit = self.work if self.calm else self.rng.choices(self.habits, self.weights)[0]
                await habit(peer, delivery)
            if not self.calm:
                await self.pause()

    async def pull(self, peer: Peer) -> list[Delivery]:
        rng, queue = self.rng, self.rng.choice(self.stage.queues)
        fields: dict[str, Any] = {"queue": queue, "timeout": rng.choice((0, 500, 5000, 20_000, 60_000))}
        if self.calm:
            fields["timeout"] = 2000
        elif rng.random() < 0.2:
            fields["lockTtl"] = rng.choice((100, 5000, 60_000))
        if self.names_itself:
            fields["owner"] = self.name
        batch = rng.random() < 0.3
        if batch:
            fields["count"] = rng.randint(1, 4)
        if isinstance(peer, WsPeer) and not self.calm and rng.random() < 0.15:
            return await self.pull_impatiently(peer, "PULLB" if batch else "PULL", fields)
        hang_up = not self.calm and rng.random() < 0.05
        term, begun_at = self.stage.term(), trio.current_time()
        with trio.move_on_after(rng.random() * 5 if hang_up else float("inf")) as patience:
            answer = await self.ask(peer, "PULLB" if batch else "PULL", **fields)
        if patience.cancelled_caught:
            self.say("hangs up")
            raise Lost
        if not answer["ok"]:
            await self.nap(1)
            return []
        deliveries = self.delivered(answer)
        waited_ms = (trio.current_time() - begun_at) * 1000
        if not deliveries and term == self.stage.term() == (term[0], False) and round(waited_ms) < fields["timeout"]:
            self.stage.fail(f"{self.name}: a waiting pull of {fields['timeout']} ms ends empty after {waited_ms} ms")
        return deliveries

    def delivered(self, answer: Answer) -> list[Delivery]:
        """Note what the answer to a pull of either kind brings."""
        batch = "jobs" in answer
        jobs, tokens = (answer["jobs"], answer["tokens"]) if batch else ([answer["job"]], [answer["token"]])
        deliveries = [
            Delivery(job["id"], job["data"]["n"], token) for job, token in zip(jobs, tokens, strict=True) if job
        ]
        for delivery in deliveries:
            self.stage.ledger.delivered(delivery)
        return deliveries

    async def pull_impatiently(self, peer: WsPeer, cmd: str, fields: dict[str, Any]) -> list[Delivery]:
        """Pull, and take the pull back; what comes all the same is worked on."""
        with trio.move_on_after(HANG_S):
            answer, stopped = await peer.pull_impatiently(self.rng.choice((0, 0.5, 5)), cmd, **fields)
            self.say(f"{cmd} and StopPull → {stopped}, {json.dumps(answer, separators=(',', ':'))[:160]}")
            self.stage.ledger.heard(cmd, answer)
            deliveries = self.delivered(answer) if answer["ok"] else []
            if stopped and deliveries:
                self.stage.fail(f"{self.name}: a pull that was taken back brings {deliveries}")
            return deliveries
        self.stage.fail(f"{self.name}: a pull that was taken back is not answered within {HANG_S} s")
        raise Lost

    async def ack(self, peer: Peer, delivery: Delivery, token: str | None) -> bool:
        fields = {} if token is None else {"token": token}
        if self.rng.random() < 0.3:
            fields["result"] = {"by": self.name}  # type: ignore[assignment]
        answer = await self.ask(peer, "ACK", id=delivery.id, **fields)
        if answer["ok"] and token is not None:
            self.stage.ledger.ack_answered(delivery)
        return bool(answer["ok"])

    async def work(self, peer: Peer, delivery: Delivery) -> None:
        await self.nap(self.rng.choice((0, 0.01, 2)))
        if self.rng.random() < 0.2:
            answer = await self.ask(peer, "ACKB", ids=[delivery.id], tokens=[delivery.token])
            if answer["ok"] and delivery.id not in answer.get("data", {}).get("ignoredIds", []):
                self.stage.ledger.ack_answered(delivery)
        else:
            await self.ack(peer, delivery, delivery.token)

    async def all_at_once(self, peer: Peer, deliveries: list[Delivery]) -> None:
        """Speak of several jobs in one breath, and lie about some of them."""
        rng, ids = self.rng, [delivery.id for delivery in deliveries]
        lies = [rng.random() < 0.2 for _ in deliveries]
        tokens = ["nobody's" if lie else delivery.token for lie, delivery in zip(lies, deliveries, strict=True)]
        if rng.random() < 0.5:
            await self.nap(rng.choice((0, 10)))
            await self.ask(peer, "JobHeartbeatB", ids=ids, tokens=tokens)
        await self.nap(rng.choice((0, 0.01, 2, 30)))
        fields: dict[str, Any] = {"results": [{"of": job_id} for job_id in ids]} if rng.random() < 0.7 else {}
        answer = await self.ask(peer, "ACKB", ids=ids, tokens=tokens, **fields)
        ignored = answer.get("data", {}).get("ignoredIds", [])
        for lie, delivery in zip(lies, deliveries, strict=True):
            if answer["ok"] and delivery.id not in ignored:
                if lie:
                    self.stage.fail(f"a wrong token for {delivery.id} is accepted among others")
                self.stage.ledger.ack_answered(delivery)

    async def dawdle(self, peer: Peer, delivery: Delivery) -> None:
        """Take longer than a lease may last, and then answer all the same."""
        await self.nap(self.rng.choice((1, 30, 120)))
        await self.ack(peer, delivery, delivery.token)

    async def beat(self, peer: Peer, delivery: Delivery) -> None:
        for percent in (10, 50):
            await self.nap(self.rng.choice((0.1, 10, 40)))
            cmd = self.rng.choice(("JobHeartbeat", "Progress", "ExtendLock"))
            more = {"Progress": {"progress": percent}, "ExtendLock": {"duration": 30_000}}.get(cmd, {})
            await self.ask(peer, cmd, id=delivery.id, token=delivery.token, **more)
        await self.ack(peer, delivery, delivery.token)

    async def fail(self, peer: Peer, delivery: Delivery) -> None:
        how: dict[str, Any] = self.rng.choice(
            ({}, {}, {"retryIn": 0}, {"retryIn": 5000}, {"unrecoverable": True}, {"unrecoverable": False, "retryIn": 9})
        )
        said = {
            "id": delivery.id,
            "token": delivery.token,
            "error": "no hope" if how.get("unrecoverable") else "no luck",
            **how,
        }
        if self.rng.random() < 0.3:
            answer = await self.ask(peer, "FAILB", failures=[{"id": "nobody"}, said])
            counted = answer["ok"] and answer["data"]["ignoredIds"] == ["nobody"]
        else:
            answer = await self.ask(peer, "FAIL", **said)
            counted = answer["ok"]
        if counted and how.get("unrecoverable"):
            self.stage.ledger.failure_for_good_answered(delivery)

    async def die(self, peer: Peer, delivery: Delivery) -> None:
        self.say(f"dies with {delivery.id}")
        raise Lost

    async def leave(self, peer: Peer, delivery: Delivery) -> None:
        """Go home in good order, with the job in hand."""
        if isinstance(peer, WsPeer):
            self.say(f"leaves with {delivery.id}")
            await peer.say_goodbye()
        raise Lost

    async def give_back(self, peer: Peer, delivery: Delivery) -> None:
        await self.ask(peer, "Release", id=delivery.id, token=delivery.token)

    async def lie(self, peer: Peer, delivery: Delivery) -> None:
        """Speak with a token that is nobody's, then ack well, then once more."""
        cmd = self.rng.choice(("JobHeartbeat", "Progress", "ExtendLock", "FAIL", "Release"))
        more = {"Progress": {"progress": 90}, "ExtendLock": {"duration": 90_000}}.get(cmd, {})
        for lie, fields in ((cmd, more), ("ACK", {})):
            answer = await self.ask(peer, lie, id=delivery.id, token="nobody's", **fields)
            self.stage.ledger.lie_answered(f"{lie} with a wrong token for {delivery.id}", answer)
        answer = await self.ask(peer, "ACKB", ids=[delivery.id], tokens=["nobody's"])
        if answer["ok"] and delivery.id not in answer.get("data", {}).get("ignoredIds", []):
            self.stage.fail(f"a wrong token for {delivery.id} is accepted in a batch")
        if await self.ack(peer, delivery, delivery.token):
            answer = await self.ask(peer, "ACK", id=delivery.id, token=delivery.token)
            self.stage.ledger.lie_answered(f"a double ack of {delivery.id}", answer)

    async def forget(self, peer: Peer, delivery: Delivery) -> None:
        """Never speak of it again."""


class Nomad(Worker):
    """One whose connections hang without its knowing it; it comes back over others under the same name, and goes on."""

    def __init__(self, stage: Stage, name: str) -> None:
        super().__init__(stage, name)
        self.habits, self.weights = [self.work, self.beat, self.move], [1, 1, 4]
        self.names_itself = self.ws = True

    async def move(self, peer: Peer, delivery: Delivery) -> None:
        """Go on with a job over another connection, while the old one answers no pings until the server gives it up."""
        assert isinstance(peer, WsPeer)
        peer.mute = True
        await self.nap(self.rng.choice((0, 30, 70)))
        cmd = self.rng.choice(("JobHeartbeat", "JobHeartbeatB", "Progress", "ExtendLock"))
        which: dict[str, Any] = {"id": delivery.id, "token": delivery.token}
        if cmd == "JobHeartbeatB":
            which = {"ids": [delivery.id], "tokens": [delivery.token]}
        more = {"Progress": {"progress": 20}, "ExtendLock": {"duration": 300_000}}.get(cmd, {})
        with suppress(ConnectionRefusedError):
            async with self.connected() as other:
                await self.ask(other, "RegisterWorker", workerId=self.name)
                await self.ask(other, cmd, **which, **more)
                await self.nap(self.rng.choice((0, 30, 90)))
                await self.ack(other, delivery, delivery.token)
        raise Lost
