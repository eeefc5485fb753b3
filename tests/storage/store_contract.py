"""What every store does with jobs: one suite, run for each of them.

A subclass gives the fixture ``place``, whose ``open`` returns the store and, called again, the store
after a restart of the server.
"""

from collections import Counter
from typing import Any, Protocol

import pytest

from bunqueue_trio.config import AUDIT_DATA_BYTES
from bunqueue_trio.engine.job import Cancelled, Job, Lease, Note, Options, Series, Shape, State
from bunqueue_trio.storage.store import Retention, Store
from tests.storage.ledger import NOW, Ledger, ended, event, facts, loaded, make_job


class Place(Protocol):
    """Where a store keeps its things while no server runs."""

    def open(self) -> Store:
        """The store, closing the one that was opened before."""
        ...


ALL_OPTIONS = Options(
    max_attempts=1000, backoff=86_400_000, ttl=365 * 86_400_000, timeout=1, unique_key="k" * 256,
    tags=("a", "", "ü\u2028", "🐇" * 1024), group_id="g", lifo=True, remove_on_fail=True,
    depends_on=("x", "y"), series=Series(every=1, limit=2**53, run=7, due=NOW + 1),
    shape=Shape(fixed=True, max_delay=86_400_000, jitter=0.1), name="ü\u2028",
)  # fmt: skip
LEASE = Lease(token="t", ttl=300_000, until=NOW + 300_000, timeout_at=NOW + 5, owner="socket-1", held=True)
UNFINISHED: dict[str, dict[str, Any]] = {
    "plain": {},
    "priority": {"priority": 1_000_000},
    "low priority, LIFO place": {"priority": -1_000_000, "order": -(2**62)},
    "delayed": {"state": State.DELAYED, "order": 0, "run_at": NOW + 365 * 86_400_000},
    "waiting for others": {
        "state": State.WAITING_CHILDREN, "order": 0, "note": Note(waiting_on={"x", "y"}),
        "options": Options(depends_on=("x", "y")),
    },
    "active": {"state": State.ACTIVE, "lease": LEASE, "started_at": NOW + 1},
    "active, a bare lease": {"state": State.ACTIVE, "lease": Lease(token="t", ttl=1), "started_at": 0},
    "told about": {"note": Note(error="so\nwhat", message="\u0000\u2029", result=b'{"a" : 1.0}', finished_at=1, progressed_at=7)},
    "all options": {"options": ALL_OPTIONS},
    "tried and stalled": {"attempts": 999, "stalls": 1000, "progress": 100},
    "a float of progress": {"progress": 1e-300},
    "a float that is whole": {"progress": 50.0},
    "long ago": {"created_at": 0, "run_at": 1},
    "far ahead": {"created_at": 2**53, "run_at": 2**62},
    "payload of several pages": {"data": b'{"a":"' + b"x" * 3_000_000 + b'"}'},
    "payload with line ends": {"data": b'{\r\n\n\t"a": 1e999 }'},
    "payload of bytes": {"data": b'"\xf0\x9f\x90\x87\\ud800"'},
    "queue": {"queue": "A-Z_a.z:0-9" * 23},
}  # fmt: skip
REMARKS: list[dict[str, Any]] = [
    {"error": "e"}, {"message": "m"}, {"reason": "r"}, {"cancelled": Cancelled(at=5)}, {"progressed_at": 9},
]  # fmt: skip
IDS = ["0", "x" * 256, "ünï🐇", "a\u0000b", "' OR 1=1 --", "\u202e", " ", "%00", "NULL"]


class StoreSuite:
    """A suite about one store, which is opened anew for each test."""

    @pytest.fixture
    def store(self, place: Place) -> Store:
        return place.open()

    @pytest.fixture
    def ledger(self, store: Store) -> Ledger:
        return Ledger(store)


class JobContract(StoreSuite):
    """Every job comes back as it was written."""

    @pytest.mark.parametrize("fields", UNFINISHED.values(), ids=UNFINISHED)
    def test_an_unfinished_job_comes_back_with_every_field(self, place: Place, ledger: Ledger, fields: dict[str, Any]):
        job = make_job(1, **fields)
        ledger.write([job])
        assert loaded(place.open()) == {job.id: facts(job)}

    @pytest.mark.parametrize("fields", UNFINISHED.values(), ids=UNFINISHED)
    def test_a_changed_job_comes_back_as_it_was_last(self, place: Place, ledger: Ledger, fields: dict[str, Any]):
        """Everything but what hardly ever changes: data, options, priority, queue, creation."""
        fixed = {
            name: fields[name] for name in ("data", "options", "priority", "queue", "created_at") if name in fields
        }
        job = make_job(1, **fixed)
        ledger.write([job])
        for name, value in fields.items():
            setattr(job, name, value)
        ledger.write(changed=[job])
        assert loaded(place.open()) == {job.id: facts(job)}

    @pytest.mark.parametrize("fields", UNFINISHED.values(), ids=UNFINISHED)
    def test_a_rewritten_job_comes_back_with_every_field(self, place: Place, ledger: Ledger, fields: dict[str, Any]):
        job, other = make_job(1), make_job(2)
        ledger.write([job, other])
        for name, value in fields.items():
            setattr(job, name, value)
        batch = ledger.write(rewritten=[job])
        assert (batch.rows(), batch.bytes()) == (1, len(job.data))
        assert loaded(place.open()) == {job.id: facts(job), other.id: facts(other)}

    def test_a_rewritten_job_that_ends_in_the_same_batch_has_no_row(self, place: Place, ledger: Ledger):
        job = make_job(1)
        ledger.write([job])
        job.data = b'"new"'
        ledger.write(rewritten=[ended(job, State.FAILED)])
        store = place.open()
        assert loaded(store) == {}
        assert facts(store.find("job-1"))["data"] == b'"new"'

    @pytest.mark.parametrize("job_id", IDS, ids=ascii)
    def test_any_text_is_an_id(self, place: Place, ledger: Ledger, job_id: str):
        ledger.write([make_job(1, job_id), make_job(2, "other")])
        assert [job.id for job in place.open().load()] == [job_id, "other"]
        store = place.open()
        Ledger(store).write(changed=[ended(make_job(1, job_id))])
        assert facts(store.find(job_id))["id"] == job_id
        assert store.find("someone else") is None

    @pytest.mark.parametrize("state", [State.COMPLETED, State.FAILED])
    def test_a_finished_job_is_found_with_all_that_is_shown(self, place: Place, ledger: Ledger, state: State):
        job = make_job(
            7, data=b'{\n"a": 1.10}', options=ALL_OPTIONS, priority=-3, run_at=NOW + 9, attempts=2, stalls=1,
            progress=99.5, started_at=NOW + 10, note=Note(error="e", message="m", reason="r", progressed_at=9),
        )  # fmt: skip
        ledger.write([job])
        ended(job, state, at=NOW + 11, result=b"[ 1 ]")
        ledger.write(changed=[job])
        store = place.open()
        assert loaded(store) == {}
        wanted = facts(job) | {"seq": 0, "order": 0}  # places in an order that it has left
        assert facts(store.find(job.id)) == wanted

    @pytest.mark.parametrize("remark", REMARKS, ids=repr)
    def test_each_remark_on_a_finished_job_is_kept_alone(self, place: Place, ledger: Ledger, remark: dict[str, Any]):
        ledger.write([ended(make_job(1, note=Note(**remark)))])
        assert facts(place.open().find("job-1"))["note"] == Note(finished_at=NOW, **remark)

    def test_a_job_may_come_and_end_within_one_batch(self, place: Place, ledger: Ledger):
        ledger.write([ended(make_job(1), result=b"1")])
        store = place.open()
        assert loaded(store) == {}
        assert facts(store.find("job-1"))["note"] == Note(finished_at=NOW, result=b"1")

    def test_a_cancelled_job_leaves_no_trace(self, place: Place, ledger: Ledger):
        job = make_job(1)
        ledger.write([job])
        ledger.write([ended(make_job(2), State.REMOVED)], [ended(job, State.REMOVED)])
        store = place.open()
        assert loaded(store) == {}
        assert store.find("job-1") is store.find("job-2") is None
        assert store.finished_counts == {}

    def test_of_a_job_removed_on_completion_only_that_is_known(self, place: Place, ledger: Ledger):
        options = Options(remove_on_complete=True, tags=("secret",))
        ledger.write([ended(make_job(1, data=b'"secret"', options=options), result=b'"secret"')])
        store = place.open()
        job = store.find("job-1")
        assert job is not None
        assert (job.state, job.queue, job.options.remove_on_complete) == (State.COMPLETED, "q", True)
        assert "secret" not in repr(job)
        assert store.finished_counts == {("q", "removed"): 1}

    def test_a_job_removed_on_completion_that_failed_is_kept_like_any_other(self, ledger: Ledger, store: Store):
        job = ended(make_job(1, options=Options(remove_on_complete=True)), State.FAILED)
        ledger.write([job])
        assert facts(store.find("job-1"))["state"] is State.FAILED

    def test_nothing_is_found_in_an_empty_store(self, store: Store):
        assert list(store.load()) == []
        assert store.find("job-1") is None
        assert store.finished_counts == {}
        assert (store.last_event_id, store.first_event_id(), store.last_event_at()) == (0, 1, 0)

    def test_an_unfinished_job_is_not_found(self, ledger: Ledger, store: Store):
        """It is the engine's; the store is asked for finished ones."""
        ledger.write([make_job(1)])
        assert store.find("job-1") is None

    def test_jobs_come_back_in_the_order_of_their_pushes(self, place: Place, ledger: Ledger):
        ledger.write([make_job(3), make_job(5)])
        ledger.write([make_job(1), make_job(4)])
        ledger.write(changed=[make_job(3, attempts=1)])
        assert [job.seq for job in place.open().load()] == [1, 3, 4, 5]

    def test_equal_options_and_names_are_held_once(self, place: Place, ledger: Ledger):
        ledger.write(
            [make_job(seq, queue="".join("qq"), options=Options(attempts)) for seq, attempts in enumerate((3, 5, 5), 1)]
        )
        first, second, third = place.open().load()
        assert second.options is third.options
        assert first.options is not second.options
        assert first.queue is third.queue

    def test_options_that_all_differ_are_read_all_the_same(self, place: Place, ledger: Ledger):
        jobs = [make_job(seq, options=Options(backoff=seq)) for seq in range(1, 4200)]
        ledger.write(jobs)
        assert [job.options.backoff for job in place.open().load()] == [job.options.backoff for job in jobs]

    # --- one batch, many changes ----------------------------------------------------------------

    def test_a_batch_writes_new_changed_and_ended_jobs_together(self, place: Place, ledger: Ledger):
        staying, changing, ending = make_job(1), make_job(2), make_job(3)
        ledger.write([staying, changing, ending])
        changing.attempts = 1
        fresh = make_job(4)
        ledger.write([fresh, ended(make_job(5))], [changing, ended(ending, State.FAILED)], events=[event(fresh)])
        store = place.open()
        assert loaded(store) == {job.id: facts(job) for job in (staying, changing, fresh)}
        assert store.finished_counts == {("q", "completed"): 1, ("q", "failed"): 1}
        assert store.last_event_id == 1

    def test_an_empty_batch_changes_nothing(self, place: Place, ledger: Ledger):
        ledger.tell(3)
        ledger.write()
        assert (place.open().last_event_id, loaded(place.open())) == (3, {})

    def test_the_time_of_the_newest_events_is_remembered(self, place: Place, ledger: Ledger):
        ledger.write(events=[event(make_job(1))], at=NOW + 7)
        assert ledger.store.last_event_at() == NOW + 7
        ledger.write([make_job(2)], at=NOW + 9)
        ledger.store.prune(Retention(0, 0, NOW + 100, 0, NOW + 100))
        assert place.open().last_event_at() == NOW + 7

    def test_a_batch_is_a_snapshot(self, place: Place, ledger: Ledger, store: Store):
        """The engine goes on with the same jobs while the batch waits for the disk."""
        job = make_job(1, note=Note(message="then"), lease=Lease("t", 1), state=State.ACTIVE)
        batch = ledger.batch([job])
        then = facts(job) | {"note": Note(message="then"), "lease": Lease("t", 1)}
        job.noted().message, job.state, job.lease.until = "now", State.WAITING, 5  # type: ignore[union-attr]
        store.commit(batch)
        assert loaded(place.open()) == {job.id: then}

    # --- ids that are used again ------------------------------------------------------------------

    def test_a_reused_id_replaces_the_old_record(self, place: Place, ledger: Ledger):
        ledger.write([ended(make_job(1, "mine"), State.FAILED)])
        ledger.write([make_job(2, "mine", data=b"2")], reused=["mine"])
        store = place.open()
        assert store.find("mine") is None
        assert store.finished_counts == {}
        Ledger(store).write(changed=[ended(make_job(2, "mine", data=b"2"))])
        assert facts(place.open().find("mine"))["data"] == b"2"

    def test_an_id_is_reused_and_its_job_ends_within_one_batch(self, place: Place, ledger: Ledger):
        ledger.write([ended(make_job(1, "mine", data=b"1"))])
        again = [ended(make_job(2, "mine", data=b"2"), State.REMOVED), ended(make_job(3, "mine", data=b"3"))]
        ledger.write(again, reused=["mine", "mine"])
        store = place.open()
        assert facts(store.find("mine"))["data"] == b"3"
        assert store.finished_counts == {("q", "completed"): 1}

    def test_reusing_an_id_that_nothing_is_kept_of_is_fine(self, ledger: Ledger, store: Store):
        ledger.write([make_job(1, "mine")], reused=["mine", "never seen"])
        assert list(loaded(store)) == ["mine"]

    # --- counts -------------------------------------------------------------------------------------

    def test_counts_are_exact_after_everything(self, place: Place, ledger: Ledger):
        hidden = Options(remove_on_complete=True)
        ledger.completed(5)
        ledger.completed(3, State.FAILED, queue="other")
        ledger.write([ended(make_job(100, "hidden", options=hidden)), ended(make_job(101, "mine", queue="third"))])
        ledger.write([make_job(102, "mine")], reused=["mine"])
        wanted = Counter({("q", "completed"): 5, ("other", "failed"): 3, ("q", "removed"): 1})
        assert ledger.store.finished_counts == wanted
        assert dict(ledger.store.finished_counts) == dict(wanted)  # nobody is counted as 0
        for store in (ledger.store, place.open()):
            assert store.finished_counts == wanted
            assert [store.kept_of(queue) for queue in ("q", "other", "third")] == [(5, 0), (0, 3), (0, 0)]
            assert store.queues_after("", 9) == ["other", "q"]
            assert store.queues_after("other", 1) == ["q"]

    def test_counts_that_were_given_to_a_caller_do_not_change(self, ledger: Ledger, store: Store):
        """A page may be walking over them while a thread commits."""
        ledger.completed(1)
        before = store.finished_counts
        ledger.completed(1)
        ledger.write([make_job(9, "completed-1")], reused=["completed-1"])
        assert before == {("q", "completed"): 1}

    def test_stored_jobs_come_by_key_as_they_were_written_last(self, ledger: Ledger, store: Store):
        """What the self-audit reads: a part of the unfinished jobs, their payloads cut."""
        jobs = [make_job(seq, data=b'"%s"' % (b"x" * 100_000)) for seq in (5, 1, 9, 3)]
        ledger.write(jobs)
        ledger.write(changed=[ended(jobs[2])])
        jobs[1].attempts = 2
        ledger.write(changed=[jobs[1]])
        rows = store.stored(0, 100, 10)
        assert [seq for seq, _ in rows] == [1, 3, 5]
        assert [row.job and row.job.attempts for row in rows] == [2, 0, 0]
        assert all(row.job is not None and len(row.job.data) == AUDIT_DATA_BYTES for row in rows)
        assert [seq for seq, _ in store.stored(1, 4, 10)] == [3]
        assert [seq for seq, _ in store.stored(0, 100, 2)] == [1, 3]
        assert store.stored(5, 100, 2) == []

    def test_stored_facts_come_by_kind_and_key_a_page_at_a_time(self, ledger: Ledger, store: Store):
        told = [("b", "y", b"1"), ("a", "z", b"{}"), ("b", "x", b"2"), ("a", "\0", b"3")]
        ledger.write(facts=told)
        ledger.write(facts=[("a", "z", None), ("b", "x", b"4")])
        expected = [("a", "\0", b"3"), ("b", "x", b"4"), ("b", "y", b"1")]
        assert [tuple(fact) for fact in store.stored_facts(("", ""), 9)] == expected
        assert [tuple(fact) for fact in store.stored_facts(("a", "\0"), 1)] == expected[1:2]
        assert [tuple(fact) for fact in store.stored_facts(("b", "x"), 9)] == expected[2:]
        assert store.stored_facts(("b", "y"), 9) == []

    def test_the_stored_records_of_a_queue_are_counted_anew(self, ledger: Ledger, store: Store):
        jobs = [ended(make_job(n, f"j{n}"), State.FAILED if n % 2 else State.COMPLETED) for n in range(1, 6)]
        ledger.write([*jobs, ended(make_job(9, "j9", queue="other"), State.FAILED)])
        ledger.write([make_job(10, "j3")], reused=["j3"])
        kept = store.stored_kept("q")
        groups = store.dead_groups.sizes("q")
        assert (kept.completed, kept.failed, dict(kept.groups)) == (*store.kept_of("q"), groups) == (2, 2, groups)
        assert sum(groups.values()) == 2
        assert store.stored_kept("nobody")[:2] == (0, 0)

    # --- restarts -----------------------------------------------------------------------------------

    def test_restarts_change_nothing(self, place: Place, ledger: Ledger):
        jobs: list[Job] = [make_job(seq, **fields) for seq, fields in enumerate(UNFINISHED.values(), 1)]
        ledger.write(jobs, events=[event(job) for job in jobs])
        ledger.completed(3)
        seen = []
        for _ in range(3):
            store = place.open()
            events = store.events_after(0, 1000)
            seen.append((loaded(store), store.finished_counts, store.last_event_id, store.first_event_id(), events))
        assert seen[0] == seen[1] == seen[2]
        assert len(seen[0][0]) == len(UNFINISHED)

    def test_a_closed_store_may_be_closed_again(self, store: Store):
        store.close()
        store.close()

    def test_the_log_is_emptied_by_a_restarting_checkpoint(self, ledger: Ledger, store: Store):
        ledger.completed(10)
        store.checkpoint(restart=False)
        ledger.completed(10)
        store.checkpoint(restart=True)
        assert store.log_bytes() == 0
