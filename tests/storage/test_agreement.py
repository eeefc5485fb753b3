"""Both stores, fed with the same batches of a real engine at work, always hold the same, also where one is made in several steps."""

import random

import pytest
from msgspec import Raw

from bunqueue_trio.engine.commands import apply
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.job import UNFINISHED, State
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.storage.making import Filling, Making, begin_batch, make_batch
from bunqueue_trio.storage.memory import MemoryStore
from bunqueue_trio.storage.sqlite import SqliteStore
from bunqueue_trio.storage.store import Store
from tests.storage.ledger import NOW, facts, keep, loaded

IDS = [f"mine-{i}" for i in range(12)]


ROWS = ("new", "changed", "rewritten", "ended", "finished")


class World:
    """An engine, its two stores, and a seed that decides what happens."""

    def __init__(self, seed: int, place) -> None:
        self.rng = random.Random(seed)
        self.place = place
        self.memory = MemoryStore()
        self.now = NOW
        self.made = 0
        self.seen: set[str] = set()
        self.start()

    def start(self) -> None:
        """Begin a new life on what the stores have."""
        self.making = Making()
        self.sqlite = SqliteStore(self.place / "queue.db")
        self.engine = Engine(self.new_id, self.rng.choice((self.sqlite, self.memory)))
        self.engine.facts.load(self.rng.choice((self.sqlite, self.memory)).load_facts())
        self.engine.load(self.rng.choice((self.sqlite, self.memory)).load(), self.now)

    def new_id(self, now: int) -> str:
        self.made += 1
        return f"made-{self.made}"

    @property
    def stores(self) -> tuple[Store, Store]:
        return self.sqlite, self.memory

    def act(self) -> None:
        rng = self.rng
        active = [job.id for job in self.engine.jobs.values() if job.lease is not None]
        target = rng.choice(active) if active and rng.random() < 0.9 else rng.choice(IDS)
        command = rng.choice(
            (
                self.a_push, self.a_push, self.a_push,
                lambda: c.PullBatch(queue=rng.choice("ab"), count=rng.randrange(1, 4)),
                lambda: c.Ack(id=target, result=Raw(rng.choice((b"", b'{"r":\n1}')))),
                lambda: c.Fail(id=target, error=rng.choice((None, "no\x1e"))),
                lambda: c.Progress(id=target, progress=rng.choice((0, 50, 99.5)), message="m"),
                lambda: c.Cancel(id=rng.choice(IDS)),
                lambda: c.Discard(id=rng.choice(IDS)),
                lambda: c.ChangePriority(id=rng.choice(IDS), priority=rng.choice((0, 1)), lifo=rng.choice((None, True))),
                lambda: c.Update(id=rng.choice(IDS), data=Raw(b'"%s"' % (b"y" * rng.randrange(5000)))),
            )
        )()  # fmt: skip
        try:
            apply(self.engine, command, self.now)
        except Refused:
            pass
        if rng.random() < 0.2:
            self.note()
        if rng.random() < 0.3:
            self.tell()
        if rng.random() < 0.5:
            self.making.make_some(self.engine, 0)
        self.seen |= set(self.engine.jobs)
        self.now += rng.choice((0, 1, 1000, 400_000))

    def tell(self) -> None:
        """Add to a trail, or cut one."""
        key = self.rng.choice([job.id for job in self.engine.jobs.values() if job.state in UNFINISHED] or [""])
        kind = self.rng.choice(("attempts", "log", "log"))
        if self.rng.random() < 0.2:
            self.engine.trails.cut(key, self.rng.choice((None, kind)))
        elif key:
            self.engine.trails.add(kind, key, self.now, b"x" * self.rng.choice((0, 9, 100_000)))
            job = self.engine.jobs[key]
            job.noted().logged = True
            self.engine.changed[job] = None
        self.engine.trails.add("log", self.rng.choice(IDS), self.now, b"late", of_record=True)

    def lines(self, store: Store, kind: str, key: str, *, newest: bool) -> list[tuple[int, bytes]]:
        """Every line of a trail, page by page."""
        limit, place, found = self.rng.randrange(1, 9), None, []
        while True:
            page = store.trail(kind, key, place, limit, newest=newest)
            found += page.lines
            place = page.next
            if place is None:
                assert len(found) == page.total
                return found

    def note(self) -> None:
        """Change a fact, as a handler may in the step of any command."""
        kind, key = self.rng.choice(("pause", "limit")), self.rng.choice("ab")
        if self.rng.random() < 0.3:
            self.engine.facts.delete(kind, key)
        else:
            self.engine.facts.set(kind, key, b"%d" % self.rng.randrange(3))

    def facts(self) -> list[tuple[str, str, bytes]]:
        """Every fact that the engine knows of."""
        known = self.engine.facts
        return [(kind, key, value) for kind in ("limit", "pause") for key, value in sorted(known.of(kind).items())]

    def listed(self, store: Store, queue: str, state: State) -> list[str]:
        """Every record of a list, page by page."""
        limit, before, found = self.rng.randrange(1, 9), None, []
        while True:
            page = store.records(queue, state, before, limit)
            found += [job.id for job in page.jobs]
            before = page.before
            if before is None:
                return found

    def a_push(self) -> c.Push:
        rng = self.rng
        return c.Push(
            queue=rng.choice("ab"), data=Raw(rng.choice((b"1", b'{\n"a":\t[]}', b'"%s"' % (b"x" * 3000)))),
            job_id=rng.choice((None, *IDS)), delay=rng.choice((0, 0, 500)), ttl=rng.choice((None, None, 100)),
            max_attempts=rng.choice((1, 3)), unique_key=rng.choice((None, None, "k")), lifo=rng.random() < 0.3,
            remove_on_complete=rng.random() < 0.3, remove_on_fail=rng.random() < 0.3,
            depends_on=rng.sample(IDS, rng.choice((0, 0, 1, 2))),
            repeat=c.Repeat(every=1000, limit=3) if rng.random() < 0.1 else None,
        )  # fmt: skip

    def commit(self) -> None:
        changes = self.engine.take()
        self.making.durable = self.rng.random() < 0.2
        made = self.making.take()
        ready = make_batch(changes, self.now, last_event_id=self.memory.last_event_id, **made)
        rows, changes.jobs = changes.jobs, dict.fromkeys(changes.jobs)
        last = self.sqlite.last_event_id
        fresh = make_batch(changes, self.now, last_event_id=last, durable=made["durable"])
        # Field by field: whatever a batch may hold one day.
        assert {name: getattr(ready, name) for name in ready.__struct_fields__ if name != "jobs"} == {
            name: getattr(fresh, name) for name in fresh.__struct_fields__ if name != "jobs"
        }
        changes.jobs = dict(rows)
        filled = begin_batch(changes, self.now, last_event_id=last, durable=made["durable"])
        filling = Filling(filled, changes)
        while not filling.fill_some():
            pass
        assert filled.weight == fresh.bytes() + fresh.data_bytes()
        assert [getattr(filled, name) for name in ROWS] == [getattr(fresh, name) for name in ROWS]
        self.memory.commit(ready)
        self.sqlite.commit(fresh)
        self.engine.forget(changes.jobs)

    def prune(self) -> None:
        rng = self.rng
        retention = keep(
            rng.choice((3, 10**9)), rng.choice((2, 10**9)), rng.choice((0, self.now - 2_000_000)),
            rng.choice((20, 10**9)), rng.choice((0, self.now - 1_000_000)),
            rng.choice((5, 10**9)), rng.choice((0, self.now - 1_000_000)),
        )  # fmt: skip
        for store in self.stores:
            while store.prune(retention):
                pass

    def compare(self) -> None:
        one, other = self.stores
        assert loaded(one) == loaded(other)
        for job_id in self.seen:
            assert (one.find(job_id) is None) == (other.find(job_id) is None), job_id
            if one.find(job_id) is not None:
                assert facts(one.find(job_id)) == facts(other.find(job_id))
        for kind, key in [("actions", ""), *((kind, key) for key in self.seen for kind in ("attempts", "log"))]:
            lines = self.lines(one, kind, key, newest=False)
            assert lines == self.lines(other, kind, key, newest=True)[::-1], (kind, key)
            if key and lines:
                assert one.find(key) is not None or key in self.engine.jobs
        assert one.finished_counts == other.finished_counts
        assert list(one.load_facts()) == list(other.load_facts()) == self.facts()
        for queue, state in ((q, s) for q in "ab" for s in (State.COMPLETED, State.FAILED)):
            pages = [self.listed(store, queue, state) for store in (one, other)]
            assert pages[0] == pages[1]
            assert len(pages[0]) == one.finished_counts[queue, state.value]
        for store in (one, other):
            for queue in "abc":
                counts = store.finished_counts
                assert store.kept_of(queue) == (counts[queue, "completed"], counts[queue, "failed"])
            for after, limit in (("", 10), ("", 1), ("a", 10), ("b", 10)):
                behind = sorted({queue for queue, _ in store.finished_counts if queue > after})
                assert store.queues_after(after, limit) == behind[:limit]
            for state in ("completed", "failed", "removed"):
                kept = sum(n for (_, s), n in store.finished_counts.items() if s == state)
                assert store.finished_totals[state] == kept
        assert (one.first_event_id(), one.last_event_id) == (other.first_event_id(), other.last_event_id)
        after = self.rng.randrange(one.last_event_id + 1)
        assert one.events_after(after, 10) == other.events_after(after, 10)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_both_stores_hold_the_same_whatever_happens(tmp_path, seed: int):
    world = World(seed, tmp_path)
    for round_ in range(40):
        for _ in range(world.rng.randrange(1, 12)):
            world.act()
        world.commit()
        if world.rng.random() < 0.2:
            world.prune()
        if round_ % 10 == 9:
            world.sqlite.close()
            world.start()
        world.compare()
    world.sqlite.close()
