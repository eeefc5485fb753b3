"""Jobs and batches for the tests of stores, made as the engine makes them."""

from collections.abc import Sequence
from typing import Any

from msgspec import Raw
from msgspec.structs import asdict, replace

from bunqueue_trio.engine.engine import Changes
from bunqueue_trio.engine.facts import Fact
from bunqueue_trio.engine.job import Job, Note, Options, State
from bunqueue_trio.engine.trails import TrailChange
from bunqueue_trio.protocol.events import Event
from bunqueue_trio.storage.making import make_batch
from bunqueue_trio.storage.store import Batch, Retention, Store

NOW = 1_700_000_000_000


def make_job(seq: int, job_id: str | None = None, *, data: bytes = b"{}", **fields: Any) -> Job:
    """A waiting job of queue ``q``; ``fields`` are those of ``Job``."""
    values = {
        "queue": "q", "options": Options(), "priority": 0, "created_at": NOW, "run_at": NOW, "order": seq,
        "state": State.WAITING,
    }  # fmt: skip
    return Job(id=job_id or f"job-{seq}", seq=seq, data=data, **(values | fields))


def ended(job: Job, state: State = State.COMPLETED, *, at: int = NOW, result: bytes | None = None) -> Job:
    """The same job at its end, as the engine leaves it."""
    job.state = state
    job.lease = None
    note = job.noted()
    note.finished_at, note.result = at, result
    return job


def event(job: Job, kind: str = "pushed", at: int = NOW, **fields: Any) -> Event:
    """An event of ``job``; a ``pushed`` one carries its data."""
    made = Event(kind, job.queue, job.id, at, **fields)  # type: ignore[arg-type]  # a test names a legal one
    if kind == "pushed":
        made.data = Raw(job.data)
    return made


def facts(job: Job | None) -> dict[str, Any]:
    """Everything about a job that has to survive; not what the engine makes anew."""
    assert job is not None
    note = job.note and replace(job.note, fingerprint=None)  # that is made of the error
    return {n: v for n, v in asdict(job).items() if n not in {"epoch", "due", "armed"}} | {"note": note}


def keep(
    completed: int = 10**9,
    dead: int = 10**9,
    since: int = 0,
    events: int = 10**9,
    events_since: int = 0,
    actions: int = 10**9,
    actions_since: int = 0,
) -> Retention:
    """A retention that keeps everything but what the test says."""
    return Retention(completed, dead, since, events, events_since, actions, actions_since)


class Ledger:
    """Writes to a store what the engine would; every call is one batch."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.epoch = 0
        self.seq = 0

    def batch(
        self, new: Sequence[Job] = (), changed: Sequence[Job] = (), *, rewritten: Sequence[Job] = (), events: Sequence[Event] = (),
        reused: Sequence[str] = (), facts: Sequence[Fact] = (), trails: Sequence[TrailChange] = (),
        durable: bool = False, at: int = NOW,
    ) -> Batch:  # fmt: skip
        """The batch that brings ``new`` jobs and writes the ``changed`` ones, ended ones too; ``rewritten`` ones whole."""
        self.epoch += 1
        for job in (*new, *rewritten):
            job.epoch = self.epoch
        jobs = dict.fromkeys([*new, *changed, *rewritten])
        whole = dict.fromkeys(rewritten)
        changes = Changes(self.epoch, jobs, list(events), list(reused), set(), list(facts), whole, list(trails))
        return make_batch(changes, at, durable=durable, last_event_id=self.store.last_event_id)

    def write(self, new: Sequence[Job] = (), changed: Sequence[Job] = (), **rest: Any) -> Batch:
        """Commit :meth:`batch`, and return it."""
        batch = self.batch(new, changed, **rest)
        self.store.commit(batch)
        return batch

    def finish(self, *jobs: Job) -> None:
        """Commit jobs that come and end within one batch."""
        self.write(new=jobs)

    def completed(self, n: int, state: State = State.COMPLETED, *, at: int = NOW, queue: str = "q") -> list[str]:
        """Commit ``n`` ended jobs in one batch; return their ids, oldest end first."""
        jobs = []
        for _ in range(n):
            self.seq += 1
            job = make_job(self.seq, f"{state.value}-{self.seq}", queue=queue)
            jobs.append(ended(job, state, at=at))
        self.write(new=jobs)
        return [job.id for job in jobs]

    def tell(self, n: int, at: int = NOW) -> None:
        """Commit ``n`` events in one batch, and nothing else."""
        job = make_job(1)
        self.write(events=[event(job, "drained", at) for _ in range(n)], at=at)


def loaded(store: Store) -> dict[str, dict[str, Any]]:
    """The facts of everything unfinished, by id."""
    return {job.id: facts(job) for job in store.load()}


def kept(store: Store, ids: Sequence[str]) -> list[str]:
    """Which of ``ids`` the store still finds."""
    return [job_id for job_id in ids if store.find(job_id) is not None]


__all__ = ["NOW", "Ledger", "Note", "Options", "State", "ended", "event", "facts", "keep", "kept", "loaded", "make_job"]
