"""The load of the crash test, and the books: what every client asked for, and what it was answered."""

import math
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import trio

from bunqueue_trio.protocol.events import ALL_TYPES
from bunqueue_trio.testing.client import Body, Cut, EventStream, Peer, event_stream, http_peer, ws_peer
from bunqueue_trio.testing.crash.operating import Acts, Deed, operate
from bunqueue_trio.testing.crash.rerunning import Retried, retry

Client: TypeAlias = "Callable[[Peer, Books, random.Random], Coroutine[Any, Any, None]]"

# Jobs that a worker forgets come back within the round.
LEASE_MS = 500
POLL_MS = 100
BULK = 10
SERIES_EVERY_MS = 20
SLOT_EVERY_MS = 250
# After a restart; those of 6 s.
SLOTS_MADE_UP = 25
# Of each kind; a WebSocket carries more with less.
HTTP_CLIENTS = 2
WS_CLIENTS = 4
# Three faults, of which two have more than one text.
ERRORS = ("no", "no row {}", "TimeoutError: {} s")
# An id that is missing would be an event that was lost: so also those that come to nobody who does not name them.
HEARD = sorted(ALL_TYPES)


@dataclass(eq=False)
class Op:
    """One change that a client asked for: when, and when it knew that it had happened (never: infinity)."""

    sent: float
    answered: float = math.inf
    final: bool = True
    """Of a failed attempt: whether it was the last."""
    unrecoverable: bool = False
    """And whether that is because it said so."""
    text: str | None = None
    """What was written into the log of a job; of a cancellation the reason, with which it leaves a record."""


@dataclass(eq=False)
class BookedJob:
    """A job, known by its payload, which is unique: its id may never have reached anybody."""

    payload: str
    push: Op
    durable: bool
    max_attempts: int
    job_id: str | None = None
    acks: list[Op] = field(default_factory=list)
    fails: list[Op] = field(default_factory=list)
    cancels: list[Op] = field(default_factory=list)
    logs: list[Op] = field(default_factory=list)
    moves: list[Op] = field(default_factory=list)
    """Into the other queue."""
    pulled: bool = False
    """Whether a worker got it."""

    @property
    def ends(self) -> list[Op]:
        """What may have ended it."""
        return [*self.acks, *self.cancels, *(op for op in self.fails if op.final)]


@dataclass
class Books:
    """All that the clients of one round know."""

    queue: str
    durable_share: float
    jobs: dict[str, BookedJob] = field(default_factory=dict)
    by_id: dict[str, BookedJob] = field(default_factory=dict)
    series: Op | None = None
    schedule: Op | None = None
    begun_at: int = 0
    """The id of the event with which the round begins; what came before it is safe."""
    heard: list[tuple[int, str]] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)
    """What no server should have said."""
    durable_answer: trio.Event = field(default_factory=trio.Event)
    """Set when a durable push is answered."""
    acts: Acts = field(init=False)
    """What an operator does meanwhile."""
    retried: Retried = field(init=False)
    """Dead letters that the server retries meanwhile."""

    def __post_init__(self) -> None:
        """Give the operator and the rerun queues of their own."""
        self.acts = Acts(f"{self.queue}-operated", self.queue)
        self.retried = Retried(f"{self.queue}-retried")

    @property
    def queues(self) -> tuple[str, str]:
        """The queue that all work on, and the one that some jobs are moved into."""
        return self.queue, f"{self.queue}-moved"

    @property
    def series_queue(self) -> str:
        """The queue in which one repeating job runs."""
        return f"{self.queue}-series"

    @property
    def slot_queue(self) -> str:
        """The queue of the jobs of a schedule, and its name."""
        return f"{self.queue}-slots"

    def name(self, job: BookedJob, job_id: str) -> None:
        """Note the id of a job; it never changes, and belongs to no other."""
        if job.job_id not in {None, job_id} or self.by_id.get(job_id, job) is not job:
            self.strange.append(f"{job_id} is an id of two jobs")
        job.job_id = job_id
        self.by_id[job_id] = job

    @property
    def answered(self) -> int:
        """How many changes were answered."""
        ops: list[Op | Deed] = [*self.acts.deeds, *self.retried.deeds]
        for job in self.jobs.values():
            ops += (job.push, *job.acks, *job.fails, *job.cancels, *job.logs, *job.moves)
        return sum(op.answered < math.inf for op in ops)


async def change(
    ops: list[Op], call: Awaitable[Body], *, final: bool = True, unrecoverable: bool = False, text: str | None = None
) -> Body:  # fmt: skip
    """Ask for a change and keep book of it; one that was refused has not happened."""
    op = Op(time.monotonic(), final=final, unrecoverable=unrecoverable, text=text)
    ops.append(op)
    answer = await call
    if answer["ok"]:
        op.answered = time.monotonic()
    else:
        ops.remove(op)
    return answer


async def produce(peer: Peer, books: Books, rng: random.Random) -> None:
    """Push jobs of all kinds, one by one and in bulk, and cancel some."""
    mine: list[BookedJob] = []
    while True:
        count = BULK if rng.random() < 0.1 else 1
        durable = rng.random() < books.durable_share
        specs = [_spec(rng, durable=durable) for _ in range(count)]
        op = Op(time.monotonic())
        jobs = [BookedJob(spec["data"], op, durable, spec["maxAttempts"]) for spec in specs]
        books.jobs |= {job.payload: job for job in jobs}
        for job, spec in zip(jobs, specs, strict=True):
            if "jobId" in spec:
                books.name(job, spec["jobId"])
        if count == 1:
            answer = await peer.call("PUSH", queue=books.queue, **specs[0])
            ids = [answer["id"]] if answer["ok"] else []
        else:
            answer = await peer.call("PUSHB", queue=books.queue, jobs=specs)
            ids = answer.get("ids", [])
        if not answer["ok"]:
            books.strange.append(f"a push was refused: {answer}")
            return
        op.answered = time.monotonic()
        if durable:
            books.durable_answer.set()
        for job, job_id in zip(jobs, ids, strict=True):
            books.name(job, job_id)
        mine += jobs
        if rng.random() < 0.1:
            victim = mine.pop(rng.randrange(len(mine)))
            why: Body = {"reason": "not wanted"} if rng.random() < 0.5 else {}
            await change(victim.cancels, peer.call("Cancel", id=victim.job_id, **why), text=why.get("reason"))
        if mine and rng.random() < 0.2:
            # The newest: others have mostly been taken.
            await _move(peer, books, mine.pop())


async def _move(peer: Peer, books: Books, job: BookedJob) -> None:
    """Move a job into the other queue, if it waits or is delayed."""
    here, there = books.queues
    op = Op(time.monotonic())
    job.moves.append(op)
    answer = await peer.call("ActOnJobs", filter={"queue": [here], "idPrefix": job.job_id}, action="move", to=there)
    if answer["ok"] and answer["count"]:
        op.answered = time.monotonic()
    else:
        job.moves.remove(op)


def _spec(rng: random.Random, *, durable: bool) -> Body:
    spec: Body = {
        "data": f"{rng.getrandbits(96):024x}" + "x" * rng.choice((0, 0, 100, 5000)),
        "maxAttempts": rng.choice((1, 2)),
        "backoff": rng.choice((10, {"type": "fixed", "delay": 10, "jitter": 0.5})),
        "priority": rng.randrange(3),
        "lifo": rng.random() < 0.1,
        "durable": durable,
    }
    if rng.random() < 0.2:
        spec["jobId"] = f"named-{rng.getrandbits(64):x}"
    if rng.random() < 0.1:
        spec["delay"] = rng.randint(1, 80)
    return spec


async def work(peer: Peer, books: Books, rng: random.Random) -> None:
    """Pull jobs and complete them, fail them, report of them, or forget them until their lease runs out."""
    while True:
        deliveries = await _pull(peer, books, rng.choices(books.queues, (4, 1))[0], rng.randint(1, BULK))
        if rng.random() < 0.05:
            # Forgotten.
            continue
        if rng.random() < 0.2:
            await _ack_all(peer, books, deliveries)
            continue
        for delivered, token in deliveries:
            job = books.by_id[delivered["id"]]
            lease = {"id": job.job_id, "token": token}
            chance = rng.random()
            if chance < 0.1:
                await peer.call("JobHeartbeat", **lease)
            elif chance < 0.2:
                await peer.call("Progress", progress=rng.randrange(101), **lease)
            elif chance < 0.3:
                text = f"line {rng.getrandbits(64):x}"
                await change(job.logs, peer.call("AddLog", id=job.job_id, message=text), text=text)
            if rng.random() < 0.2:
                how: Body = rng.choice(({}, {"unrecoverable": True}, {"retryIn": rng.randrange(50)}))
                last = "unrecoverable" in how
                final = last or delivered["attempts"] + 1 >= job.max_attempts
                error = rng.choice(ERRORS).format(rng.randrange(1000))
                call = peer.call("FAIL", error=error, **how, **lease)
                await change(job.fails, call, final=final, unrecoverable=last)
            else:
                await change(job.acks, peer.call("ACK", result=job.payload, **lease))


async def _pull(peer: Peer, books: Books, queue: str, count: int) -> list[tuple[Body, str]]:
    sent = time.monotonic()
    answer = await peer.call("PULLB", queue=queue, count=count, timeout=POLL_MS, lockTtl=LEASE_MS)
    deliveries = list(zip(answer["jobs"], answer["tokens"], strict=True))
    for delivered, _ in deliveries:
        note_delivery(books, delivered, sent)
    return deliveries


def note_delivery(books: Books, delivered: Body, sent: float) -> None:
    """Keep book of a job that was delivered: nobody made it up, and it had not ended when the pull was `sent`."""
    if delivered["queue"] in (books.series_queue, books.slot_queue):
        return
    job = books.jobs.get(delivered["data"])
    if job is None:
        books.strange.append(f"delivered and never pushed: {delivered['id']}")
        job = books.jobs[delivered["data"]] = BookedJob(delivered["data"], Op(0), durable=False, max_attempts=1)
    books.name(job, delivered["id"])
    job.pulled = True
    if any(op.answered < sent for op in job.ends):
        books.strange.append(f"delivered after its end: {job.job_id}")


async def _ack_all(peer: Peer, books: Books, deliveries: list[tuple[Body, str]]) -> None:
    if not deliveries:
        return
    op = Op(time.monotonic())
    jobs = [books.by_id[delivered["id"]] for delivered, _ in deliveries]
    for job in jobs:
        job.acks.append(op)
    ids, results, tokens = [job.job_id for job in jobs], [job.payload for job in jobs], [t for _, t in deliveries]
    answer = await peer.call("ACKB", ids=ids, tokens=tokens, results=results)
    op.answered = time.monotonic()
    for job_id in answer.get("data", {}).get("ignoredIds", ()):
        books.by_id[job_id].acks.remove(op)


async def repeat(peer: Peer, books: Books, rng: random.Random) -> None:
    """Start a series and do its runs, one after the other."""
    books.series = Op(time.monotonic())
    spec: Body = {"data": 0, "durable": True, "maxAttempts": 1, "repeat": {"every": SERIES_EVERY_MS}}
    answer = await peer.call("PUSH", queue=books.series_queue, **spec)
    assert answer["ok"], answer
    books.series.answered = time.monotonic()
    while True:
        for delivered, token in await _pull(peer, books, books.series_queue, 1):
            cmd, fields = ("ACK", {}) if rng.random() < 0.8 else ("FAIL", {"error": "no"})
            await peer.call(cmd, id=delivered["id"], token=token, **fields)


async def schedule(peer: Peer, books: Books, rng: random.Random) -> None:
    """Make a schedule that is to miss nothing, and do its jobs."""
    books.schedule = Op(time.monotonic())
    fields: Body = {
        "every": SLOT_EVERY_MS,
        "overlap": "allow",
        "misfire": "all",
        "misfireMax": SLOTS_MADE_UP,
        "data": 0,
    }
    answer = await peer.call("PutSchedule", name=books.slot_queue, queue=books.slot_queue, **fields)
    assert answer["ok"], answer
    books.schedule.answered = time.monotonic()
    while True:
        for delivered, token in await _pull(peer, books, books.slot_queue, 1):
            await peer.call("ACK", id=delivered["id"], token=token)


async def _operate(peer: Peer, books: Books, rng: random.Random) -> None:
    await operate(peer, books.acts, rng)


async def _retry(peer: Peer, books: Books, rng: random.Random) -> None:
    await retry(peer, books.retried, rng)


async def load(url: str, books: Books, rng: random.Random, kill: Callable[[], None], seconds: float) -> None:
    """Let all clients work until the server is gone: `kill` ends it after `seconds`.

    Every other time it waits a little longer, for the very moment in which a durable push is answered.
    """
    async with trio.open_nursery() as nursery:
        await nursery.start(watch, url, books)
        crowds: list[tuple[Any, list[Client]]] = [(http_peer, [produce]), (http_peer, [work])] * HTTP_CLIENTS
        crowds += [
            (http_peer, [repeat]),
            (http_peer, [schedule]),
            (http_peer, [_operate]),
            (http_peer, [_retry]),
            (ws_peer, [produce, work] * WS_CLIENTS),
        ]
        for connect, clients in crowds:
            nursery.start_soon(_until_cut, connect, url, clients, books, random.Random(rng.getrandbits(32)))
        await trio.sleep(seconds)
        if rng.random() < 0.5:
            books.durable_answer = trio.Event()
            with trio.move_on_after(seconds):
                await books.durable_answer.wait()
        kill()
        # Every client has noticed long before.
        nursery.cancel_scope.deadline = trio.current_time() + 10


async def _until_cut(connect: Any, url: str, clients: list[Client], books: Books, rng: random.Random) -> None:
    """Let clients work over one connection until it is cut."""
    try:
        async with connect(url) as peer, trio.open_nursery() as nursery:
            for client in clients:
                nursery.start_soon(client, peer, books, random.Random(rng.getrandbits(32)))
    except* Cut:
        # The kill.
        pass


async def watch(url: str, books: Books, *, task_status: trio.TaskStatus[None]) -> None:
    """Hear all events until the cut; started when the mark that begins the round has been heard."""
    try:
        async with event_stream(url, None, HEARD) as events, http_peer(url) as peer:
            # The greeting: from here on nothing is missed.
            await events.next()
            books.begun_at, _ = await hear_mark(peer, events)
            task_status.started()
            while True:
                books.heard.append(await events.next())
    except Cut:
        # The kill.
        pass


async def hear_mark(peer: Peer, events: EventStream) -> tuple[int, list[tuple[int, str]]]:
    """Push a durable job, and hear all events up to its own: all before it is safe. Return its id, and the others."""
    answer = await peer.call("PUSH", queue="marks", data=0, durable=True)
    assert answer["ok"], answer
    before: list[tuple[int, str]] = []
    while True:
        event_id, text = await events.next()
        if f'"jobId":"{answer["id"]}"' in text:
            await peer.call("Cancel", id=answer["id"])
            return event_id, before
        before.append((event_id, text))
