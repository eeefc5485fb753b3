"""The self-audit finds what is planted, names it, and finds nothing in an engine at work."""

import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from msgspec import Raw

from bunqueue_trio.engine import audit, commands
from bunqueue_trio.engine.audit import AuditFault, Pass, Stored
from bunqueue_trio.engine.commands import apply
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.job import Job, Note, State
from bunqueue_trio.engine.ready import Lower
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.storage.making import make_batch
from bunqueue_trio.storage.memory import MemoryStore

NOW = 1_000_000
LIFO, RANKED, FIRST = "lifo", "ranked", "job-1"


class Life:
    """An engine and its store, and a pass over them that lets things happen between its slices."""

    def __init__(self) -> None:
        self.made = 0
        self.now = NOW
        self.store = MemoryStore()
        self.engine = Engine(self.new_id, self.store)
        self.connected = {"socket"}
        self.unsettled: set[int] = set()

    def new_id(self, now: int) -> str:
        self.made += 1
        return f"job-{self.made}"

    def do(self, command: c.Command, owner: str | None = None) -> None:
        try:
            apply(self.engine, command, self.now, owner)
        except Refused:
            pass
        self.unsettled |= {job.seq for job in self.engine.changed}

    def commit(self) -> None:
        changes = self.engine.take()
        self.store.commit(make_batch(changes, self.now, durable=False, last_event_id=self.store.last_event_id))
        self.engine.forget(changes.jobs)

    def restart(self) -> None:
        self.commit()
        self.engine = Engine(self.new_id, self.store)
        self.engine.load(self.store.load(), self.now)
        self.connected = {"socket"}

    def look(self, between: Callable[[], None] = lambda: None, size: int = 3) -> list[AuditFault]:
        """Every fault of one pass."""
        self.commit()
        one = Pass(self.engine, self.connected)
        after = 0
        while after < one.last_seq:
            self.unsettled = {job.seq for job in self.engine.changed}
            rows = self.store.stored(after, one.last_seq, size)
            between()
            after = rows[-1].seq if len(rows) == size else one.last_seq
            one.rows(rows, after, self.unsettled)
        for looked_at in one.structures(lambda: len(self.engine.changed)):
            assert looked_at >= 0
            between()
        one.close()
        assert self.engine.queues.recount is None
        return one.faults


def push(life: Life, queue: str = "q", **fields: object) -> Job:
    life.do(c.Push(queue=queue, data=Raw(b'{"a":1}'), **fields))  # type: ignore[arg-type]
    return next(reversed(list(life.engine.jobs.values())))


@pytest.fixture
def life() -> Life:
    """One job of each kind: waiting at the end of the line and at its front, delayed, active, waiting for others."""
    life = Life()
    push(life)  # job-1
    push(life, unique_key="k")
    push(life, delay=1000)
    push(life, depends_on=[FIRST])
    for _ in range(3):
        push(life, LIFO, lifo=True)
    for queue, owner in (("leased", None), ("held", "socket")):
        push(life, queue)
        life.do(c.Pull(queue=queue), owner)
    for priority in (1, 2):
        push(life, RANKED, priority=priority)
    return life


def named(life: Life, job_id: str) -> Job:
    return life.engine.jobs[job_id]


def some(life: Life, state: State, queue: str) -> Job:
    return next(job for job in life.engine.jobs.values() if job.state is state and job.queue == queue)


def block(life: Life, queue: str) -> list[Job]:
    """The first jobs in the line of ``queue``."""
    return life.engine.queues[queue].ready._blocks[0]


def lower(life: Life) -> Lower:
    """The lines of a queue behind its first one."""
    return life.engine.queues[RANKED].ready._lower


def drop_timer(timers: audit.Timers, job: Job) -> None:
    timers._heap = [entry for entry in timers._heap if entry[2] is not job]


def rewrite(life: Life, **columns: Any) -> None:
    """Change job-1 on the disk."""
    life.store._jobs[1] = life.store._jobs[1]._replace(**columns)


def extra_row(life: Life) -> None:
    job = named(life, FIRST)
    life.store._jobs[3] = life.store._jobs[job.seq]._replace(seq=3, id="ghost")


def late_extra_row(life: Life) -> None:
    life.store._jobs[life.engine._seq] = life.store._jobs[1]._replace(seq=life.engine._seq, id="ghost")


def forgotten(life: Life, job_id: str) -> None:
    """A job that no structure and no count knows any more."""
    del life.engine.jobs[job_id]


def active(life: Life, queue: str = "leased") -> Job:
    return some(life, State.ACTIVE, queue)


def ungroup(life: Life) -> None:
    life.store._finished = {job_id: row._replace(fingerprint=None) for job_id, row in life.store._finished.items()}
    life.store.finished_counts["q", "failed"] += 1


PLANTED: dict[str, tuple[str, str, Callable[[Life], object]]] = {
    "count of a queue": ("counts", "queue q counts 3 waiting jobs and has 2", lambda it: setattr(it.engine.queues["q"].ready, "_size", 3)),
    "fewer in a list than there are": ("counts", "queue q counts 0 delayed jobs and has 1", lambda it: it.engine.queues["q"].delayed.blocks.clear()),
    "count of all queues": ("counts", "all queues count", lambda it: it.engine.counts.update({State.WAITING: 9})),
    "a queue that is gone": ("index", "in queue q, which is not there", lambda it: it.engine.queues.pop("q")),
    "finished jobs that stay": ("index", "1 finished jobs are kept", lambda it: it.engine.jobs.update(x=Job("x", "q", b"", named(it, FIRST).options, 0, 0, 0, 1, state=State.COMPLETED))),
    "fewer jobs than counted": ("index", "-1 finished jobs", lambda it: forgotten(it, FIRST)),
    "a place beyond the next": ("index", "will be given again", lambda it: setattr(named(it, FIRST), "order", it.engine._seq + 1)),
    "in no line": ("ready", "job-1 is waiting and stands in no line", lambda it: block(it, "q").pop(0)),
    "LIFO, in no line": ("ready", "stands in no line", lambda it: block(it, LIFO).pop()),
    "of a priority without a line": ("ready", "stands in no line", lambda it: lower(it).lines.clear()),
    "a priority that is not known": ("ready", "is empty or unknown", lambda it: lower(it).priorities.remove(1)),
    "a priority too many": ("ready", "lines of other priorities", lambda it: lower(it).priorities.add(0)),
    "an empty line": ("ready", "is empty or unknown", lambda it: it.engine.queues[RANKED].ready._open(0)),
    "an empty first line": ("ready", "the first line of queue ranked is empty", lambda it: it.engine.queues[RANKED].ready._blocks.clear()),
    "a first line below others": ("ready", "lines of other priorities", lambda it: setattr(it.engine.queues[RANKED].ready, "_priority", 0)),
    "without a place": ("ready", "has no place", lambda it: setattr(named(it, FIRST), "order", 0)),
    "twice in the line": ("ready", "out of order", lambda it: block(it, "q").insert(1, named(it, FIRST))),
    "out of order": ("ready", "out of order", lambda it: block(it, LIFO).reverse()),
    "in the line of another queue": ("ready", f"stands in the line of queue {LIFO}", lambda it: block(it, LIFO).append(named(it, FIRST))),
    "delayed and not listed": ("index", "is delayed and not in the list of its queue", lambda it: it.engine.queues["q"].delayed.blocks.clear()),
    "waiting for others and not listed": ("index", "is waiting-children and not in the list", lambda it: it.engine.queues["q"].waiting_children.blocks.clear()),
    "active and not listed": ("index", "is active and not in the list of its queue", lambda it: it.engine.queues["leased"].active.clear()),
    "listed and of another state": ("index", "job job-1, waiting, is among the delayed ones of queue q", lambda it: it.engine.queues["q"].delayed.add(named(it, FIRST))),
    "listed among the active of another queue": ("index", "is among the active ones of queue held", lambda it: it.engine.queues["held"].active.update({active(it): None})),
    "a list out of order": ("index", "the list of delayed jobs of queue q is out of order", lambda it: it.engine.queues["q"].delayed.blocks[0].append(some(it, State.DELAYED, "q"))),
    "in line and not waiting": ("ready", "is active and stands in the line of queue q", lambda it: block(it, "q").append(active(it))),
    "a line of a wrong size": ("ready", "queue q counts 1 waiting jobs, of which 2 are there", lambda it: setattr(it.engine.queues["q"].ready, "_size", 1)),
    "a job in line that is nobody's": ("index", "stands in a line and is not", lambda it: forgotten(it, FIRST)),
    "lease timer missing": ("timers", "is in no timer", lambda it: drop_timer(it.engine.leases, active(it))),
    "delay timer missing": ("timers", "is delayed and its deadline", lambda it: drop_timer(it.engine.schedule, some(it, State.DELAYED, "q"))),
    "a dead letter in no group": ("counts", "the groups of queue q are not all of its dead letters", ungroup),
    "timers counted wrongly": ("timers", "the schedule counts 0 deadlines and has 1", lambda it: setattr(it.engine.schedule, "_invalid", 1)),
    "a wrong deadline": ("timers", "instead of", lambda it: setattr(some(it, State.DELAYED, "q"), "due", 7)),
    "not armed": ("timers", "and armed for None", lambda it: setattr(some(it, State.DELAYED, "q"), "armed", None)),
    "armed too late": ("timers", "and armed for 9999999", lambda it: setattr(some(it, State.DELAYED, "q"), "armed", 9999999)),
    "a deadline of nobody": ("index", "has a deadline and is not", lambda it: forgotten(it, some(it, State.DELAYED, "q").id)),
    "active without a lease": ("leases", "is active and has no lease", lambda it: setattr(active(it), "lease", None)),
    "a lease and not active": ("leases", "is waiting and has a lease", lambda it: setattr(named(it, FIRST), "lease", active(it).lease)),
    "active and never started": ("leases", "is active and has a lease", lambda it: setattr(active(it), "started_at", None)),
    "a lease without an end": ("leases", "that nobody ends", lambda it: setattr(active(it).lease, "until", None)),
    "a connection that is gone": ("leases", "connection socket, which is gone", lambda it: it.connected.clear()),
    "not among its connection's": ("leases", "is not among those of its connection", lambda it: it.engine._owned.clear()),
    "among a stranger's": ("leases", "is among those of connection thief, and is not its", lambda it: it.engine._owned.update(thief={active(it, "held"): None})),
    "key not held": ("keys", "does not hold its key 'k'", lambda it: it.engine.queues["q"].keys.clear()),
    "key dangling": ("keys", "key 'x' of queue q is held by job job-1", lambda it: it.engine.queues["q"].keys.update(x=named(it, FIRST))),
    "key of nobody": ("index", "holds key 'k' and is not", lambda it: forgotten(it, "job-2")),
    "waits and does not say": ("dependents", "is waiting-children and waits for 0", lambda it: setattr(named(it, "job-4"), "note", None)),
    "dependency that does not know": ("dependents", "waits for job-1, which does not know", lambda it: it.engine._dependents._waiting.clear()),
    "dependency that is not there": ("dependents", "waits for job-1, which is not unfinished", lambda it: forgotten(it, FIRST)),
    "dependents dangling": ("dependents", "job-1 is noted to wait for job-2, and does not", lambda it: it.engine._dependents._waiting.update({"job-2": {named(it, FIRST): None}})),
    "dependents of nobody": ("dependents", "jobs wait for gone, which is not unfinished: 1", lambda it: it.engine._dependents._waiting.update(gone={named(it, "job-4"): None})),
    "row missing": ("disk_missing", "job job-1 is in memory and has no row (1)", lambda it: it.store._jobs.pop(1)),
    "row missing, of an active job": ("disk_missing", "is in memory and has no row", lambda it: it.store._jobs.pop(active(it, "held").seq)),
    "extra row": ("disk_extra", "job ghost is stored (row 3)", extra_row),
    "extra row at the end": ("disk_extra", "job ghost is stored", late_extra_row),
    "row without a job": ("disk_extra", "job job-1 is stored (row 1)", lambda it: forgotten(it, FIRST)),
    "row of another state": ("disk_different", "job job-1: state, started_at on the disk differ", lambda it: rewrite(it, state="delayed", started_at=5)),
    "row of another payload": ("disk_different", "job-1: data", lambda it: rewrite(it, data=b"2")),
    "row of another note": ("disk_different", "job-1: note", lambda it: rewrite(it, note='{"error":"x"}')),
    "row of another lease": ("disk_different", "job-1: lease", lambda it: rewrite(it, lease='{"token":"t","ttl":1}')),
    "row unreadable": ("disk_unreadable", "row 1 cannot be read", lambda it: rewrite(it, state="nowhere")),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_found_and_named(life: Life, name: str):
    kind, words, plant = PLANTED[name]
    life.commit()
    plant(life)
    found = life.look()
    assert any(fault.kind == kind and words in fault.what for fault in found), found
    assert {fault.kind for fault in found} <= set(audit.KINDS)


def test_nothing_is_found_where_nothing_is_planted(life: Life):
    assert life.look() == []
    life.restart()
    life.connected.clear()  # as after a restart: nobody is connected yet, and the disk has the old lease
    assert life.look() == []


def test_a_large_heap_is_not_searched_and_still_tells_what_is_overdue(life: Life, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(audit, "HEAP_SEARCHED", 0)
    assert life.look() == []
    for _ in range(3):
        push(life, delay=5000)
    life.commit()
    drop_timer(life.engine.schedule, some(life, State.DELAYED, "q"))
    what = [fault.what for fault in life.look()]
    assert any("is delayed" in each and "no timer" in each for each in what)


def test_nothing_is_found_while_dependents_have_not_heard_yet(life: Life, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(commands, "ADVANCE_MAX", 5)
    for _ in range(15):
        push(life, depends_on=[FIRST])
    life.do(c.Pull(queue="q"))
    life.do(c.Ack(id=FIRST))
    assert life.engine.has_chores
    assert life.look() == []


def test_a_queue_that_makes_room_meanwhile_is_no_fault(monkeypatch: pytest.MonkeyPatch):
    """Everything in the structures goes away while the pass has its lists of them."""
    monkeypatch.setattr(audit, "AUDIT_SLICE", 1)

    for moment in range(25):
        one, steps = _rich(), iter(range(100))
        assert one.look(partial(clear_at, one, moment, steps)) == []


def clear_at(life: Life, moment: int, steps: Iterator[int]) -> None:
    if next(steps) == moment:
        life.do(c.PullBatch(queue="q", count=10), "socket")
        for job in list(life.engine.jobs.values())[::-1]:
            life.do(c.Cancel(id=job.id))
        for name in ("q", LIFO):
            del life.engine.queues[name]


def _rich() -> Life:
    life = Life()
    push(life, unique_key="k")
    push(life, unique_key="l")
    push(life, depends_on=[FIRST])
    push(life, depends_on=["job-2"])
    for _ in range(2):
        push(life, LIFO, lifo=True)
    return life


@pytest.mark.parametrize(
    "seed",
    [
        0,
        *(pytest.param(seed, marks=pytest.mark.thorough) for seed in range(1, 4)),
        *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(4, 40)),
    ],
)
def test_an_engine_at_work_is_never_accused(seed: int, small_limits: None, monkeypatch: pytest.MonkeyPatch):
    """Anything may happen between two slices: the pass is of something that never stands still."""
    rng = random.Random(seed)
    monkeypatch.setattr(audit, "AUDIT_SLICE", rng.choice((1, 2, 5)))
    monkeypatch.setattr(audit, "HEAP_SEARCHED", rng.choice((0, 3, 100)))
    life = Life()

    def act() -> None:
        for _ in range(rng.randrange(4)):
            _act(life, rng)
        if rng.random() < 0.3:
            life.commit()

    for _ in range(30):
        act()
    for _ in range(12):
        assert life.look(act, size=rng.choice((1, 3))) == []
        if rng.random() < 0.2:
            life.restart()
    assert life.made > 20


def _act(life: Life, rng: random.Random) -> None:
    ids = list(life.engine.jobs) or ["nobody"]
    active = [job.id for job in life.engine.jobs.values() if job.lease is not None] or ids
    queue, owner = rng.choice("ab"), rng.choice((None, "socket"))
    choice = rng.randrange(9)
    if choice < 3:
        life.do(
            c.Push(
                queue=queue, data=Raw(b"1"), delay=rng.choice((0, 0, 50)), ttl=rng.choice((None, None, 80)),
                lifo=rng.random() < 0.4, unique_key=rng.choice((None, None, "k", "l")),
                job_id=rng.choice((None, None, "mine")), max_attempts=rng.choice((1, 3)), priority=rng.choice((0, 0, 1)),
                backoff=rng.choice((0, 40)), timeout=rng.choice((None, 60)),
                depends_on=rng.sample(ids, min(len(ids), rng.choice((0, 0, 1, 2)))) if ids != ["nobody"] else [],
                repeat=rng.choice((None, None, None, c.Repeat(every=30, limit=4))),
            )
        )  # fmt: skip
    elif choice == 3:
        life.do(c.PullBatch(queue=queue, count=rng.randrange(1, 4)), owner)
    elif choice == 4:
        life.do(c.Ack(id=rng.choice(active)))
    elif choice == 5:
        life.do(c.Fail(id=rng.choice(active)))
    elif choice == 6:
        life.do(rng.choice((c.Cancel(id=rng.choice(ids)), c.Heartbeat(id=rng.choice(active)))), owner)
    elif choice == 7:
        life.engine.release_owner("socket", life.now, dropped=rng.random() < 0.5)
    else:
        life.do(c.ActOnJobs(filter=c.Filter(queue=queue), action="move", to=rng.choice("ab"), limit=rng.choice((1, 5))))
    life.now += rng.choice((0, 1, 10, 50))
    life.engine.advance(life.now)
    life.unsettled |= {job.seq for job in life.engine.changed}


def test_what_may_be_another_on_the_disk_is_not_compared(life: Life):
    life.commit()
    one = Pass(life.engine, life.connected)
    rows = life.store.stored(0, one.last_seq, 100)
    life.do(c.Progress(id=active(life).id, progress=5))
    life.do(c.Cancel(id="job-2"))
    one.rows(rows, one.last_seq, life.unsettled)
    assert list(one.structures(lambda: 0))[-1] == 1
    assert one.faults == []
    one.close()


def test_a_payload_is_compared_by_its_first_bytes(life: Life):
    life.commit()
    job = named(life, FIRST)
    [stored] = life.store.stored(0, 1, 1)
    assert stored.job is not None
    job.data = b"x" * 100_000
    stored.job.data = job.data[: audit.AUDIT_DATA_BYTES]
    stored.job.note = Note()  # an empty one is none
    one = Pass(life.engine, life.connected)
    one.rows([Stored(1, stored.job)], 1, ())
    assert one.faults == []
    one.close()
