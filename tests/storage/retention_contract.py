"""What every store does with events and with what is not to be kept: one suite for each of them."""

import pytest

from bunqueue_trio.config import PRUNE_ROWS, QUEUES_PRUNED, REPLAY_BYTES
from bunqueue_trio.engine.job import Options, State
from bunqueue_trio.storage.store import Retention, Store, StoredEvent
from tests.storage.ledger import NOW, Ledger, ended, event, keep, kept, loaded, make_job
from tests.storage.store_contract import Place, StoreSuite


def prune_all(store: Store, retention: Retention) -> int:
    """Prune until nothing is left to do; return the rows."""
    total = 0
    while rows := store.prune(retention):
        total += rows
    return total


class EventContract(StoreSuite):
    """Every event that was committed is replayed once, in order, until retention takes it."""

    def test_events_are_numbered_from_one_without_a_gap(self, place: Place, ledger: Ledger):
        for n in (3, 1, 2):
            ledger.tell(n)
        store = place.open()
        assert [e.id for e in store.events_after(0, 100)] == [1, 2, 3, 4, 5, 6]
        assert (store.first_event_id(), store.last_event_id) == (1, 6)

    def test_numbers_go_on_after_a_restart(self, place: Place, ledger: Ledger):
        ledger.tell(2)
        store = place.open()
        Ledger(store).tell(1)
        assert store.last_event_id == 3

    @pytest.mark.parametrize("after", range(7))
    def test_events_after_any_id_are_those_with_greater_ids(self, ledger: Ledger, store: Store, after: int):
        for n in (3, 1, 2):
            ledger.tell(n)
        assert [e.id for e in store.events_after(after, 100)] == list(range(after + 1, 7))

    def test_an_event_comes_back_to_the_byte(self, place: Place, ledger: Ledger):
        """Whatever white space a payload has: it is JSON, and may have line ends."""
        job = make_job(1, data=b'{\n\n"a":\r\n 1.10,\t"b": "\xf0\x9f\x90\x87"}')
        batch = ledger.write([job], events=[event(job), event(job, "failed", error="a\nb"), event(job)])
        assert len(batch.events) == 3
        found = place.open().events_after(0, 100)
        assert found == [StoredEvent(i, body) for i, body in enumerate(batch.events, 1)]
        assert job.data in found[0].body

    def test_a_replay_is_cut_at_its_limit_wherever_that_is_in_a_batch(self, ledger: Ledger, store: Store):
        """A batch may have ten thousand."""
        for _ in range(4):
            ledger.tell(3)
        for after, limit, found in [(0, 1, [1]), (1, 3, [2, 3, 4]), (0, 4, [1, 2, 3, 4]), (2, 12, list(range(3, 13)))]:
            told = store.events_after(after, limit)
            assert [each.id for each in told] == found
            assert not [each for each in told if b"\x1e" in each.body]
        assert store.events_after(12, 5) == []

    def test_a_replay_is_cut_by_its_bytes_too(self, ledger: Ledger, store: Store):
        """And a row larger than that is not lost."""
        for seq in range(1, 6):
            job = make_job(seq, data=b'"%s"' % (b"x" * (REPLAY_BYTES // 2)))
            ledger.write([job], events=[event(job)])
        huge = make_job(6, data=b'"%s"' % (b"x" * (3 * REPLAY_BYTES)))
        ledger.write([huge], events=[event(huge)])
        assert [e.id for e in store.events_after(0, 500)] == [1, 2]
        assert [e.id for e in store.events_after(4, 500)] == [5, 6]
        assert [e.id for e in store.events_after(5, 500)] == [6]

    def test_events_too_many_for_one_row_are_kept_in_several(
        self, place: Place, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr("bunqueue_trio.storage.store.EVENT_ROW_BYTES", 250)
        jobs = [make_job(seq, data=b'"%d"' % seq * 1) for seq in range(1, 12)]
        ledger.tell(2)
        batch = ledger.write(jobs, events=[event(job) for job in jobs])
        store = place.open()
        assert [e.body for e in store.events_after(2, 100)] == batch.events
        assert [e.id for e in store.events_after(5, 2)] == [6, 7]
        assert prune_all(store, keep(events=0)) > 1  # all rows but the last
        assert 2 < store.first_event_id() <= store.last_event_id == 13


class PruneContract(StoreSuite):
    """Retention keeps what it says, to the record, and takes the oldest first."""

    @pytest.mark.parametrize(("limit", "left"), [(0, 0), (1, 1), (4, 4), (5, 5), (6, 5)])
    def test_a_bounded_number_of_completed_jobs_is_kept(self, place: Place, ledger: Ledger, limit: int, left: int):
        ids, dead = ledger.completed(5), ledger.completed(2, State.FAILED)
        rows = prune_all(ledger.store, keep(completed=limit))
        store = place.open()
        assert (rows, kept(store, ids)) == (5 - left, ids[5 - left :])
        assert kept(store, dead) == dead
        assert store.finished_counts[("q", "completed")] == left

    @pytest.mark.parametrize(("limit", "left"), [(0, 0), (4, 4), (5, 5), (6, 5)])
    def test_a_bounded_number_of_dead_letters_is_kept(self, place: Place, ledger: Ledger, limit: int, left: int):
        done, ids = ledger.completed(2), ledger.completed(5, State.FAILED)
        prune_all(ledger.store, keep(dead=limit))
        store = place.open()
        assert kept(store, ids) == ids[5 - left :]
        assert kept(store, done) == done

    def test_jobs_removed_on_completion_are_remembered_as_long_as_completed_ones(self, ledger: Ledger, store: Store):
        hidden = Options(remove_on_complete=True)
        ledger.write([ended(make_job(seq, options=hidden)) for seq in (1, 2, 3)])
        prune_all(store, keep(completed=2))
        assert kept(store, ["job-1", "job-2", "job-3"]) == ["job-2", "job-3"]

    @pytest.mark.parametrize(("since", "left"), [(NOW - 1, 3), (NOW, 3), (NOW + 1, 2), (NOW + 2, 1), (NOW + 3, 0)])
    def test_finished_jobs_are_kept_from_a_time_on(self, place: Place, ledger: Ledger, since: int, left: int):
        ids = [
            ledger.completed(1, state, at=NOW + i)[0]
            for i, state in enumerate([State.COMPLETED, State.FAILED, State.COMPLETED])
        ]
        rows = prune_all(ledger.store, keep(since=since))
        store = place.open()
        assert (rows, kept(store, ids)) == (3 - left, ids[3 - left :])
        assert sum(store.finished_counts.values()) == left

    def test_a_queue_may_keep_fewer_of_its_dead_letters(self, place: Place, ledger: Ledger, store: Store):
        def dead(seq: int, queue: str, at: int) -> None:
            ledger.write([ended(make_job(seq, queue=queue), State.FAILED, at=at)])

        for n in range(1, 6):
            dead(n, "many", NOW + n)
            dead(10 + n, "old", NOW + n)
            dead(20 + n, "other", NOW + n)
        ledger.write([ended(make_job(30, queue="many"), at=NOW)])
        retention = keep()._replace(dead_of={"many": (2, 0), "old": (10**9, NOW + 3), "nobody": (0, NOW)})
        assert prune_all(store, retention) == 5
        left = [f"job-{n}" for n in (4, 5, 13, 14, 15, 21, 22, 23, 24, 25, 30)]
        assert kept(store, [f"job-{n}" for n in range(1, 31)]) == left
        assert store.is_grouped("many")
        assert kept(place.open(), [f"job-{n}" for n in range(1, 31)]) == left

    def test_many_queues_with_bounds_have_each_its_turn(self, ledger: Ledger, store: Store):
        n = 2 * QUEUES_PRUNED + 5
        for i in range(n):
            ledger.write([ended(make_job(2 * i + 1 + j, queue=f"q{i}"), State.FAILED, at=NOW + j) for j in range(2)])
        few, age = ({f"q{i}": bound for i in range(n)} for bound in ((1, 0), (10**9, NOW + 10**6)))
        assert prune_all(store, keep()._replace(dead_of=few)) == n
        assert prune_all(store, keep()._replace(dead_of=age)) == n
        ledger.write([ended(make_job(1000, queue="q0"), State.FAILED, at=NOW)])
        turns = [store.prune(keep()._replace(dead_of=age)) for _ in range(3)]
        assert sum(turns) == 1, "each has its turn again"

    def test_many_dead_letters_of_a_queue_are_pruned_in_several_steps(self, ledger: Ledger, store: Store):
        ledger.write([ended(make_job(n), State.FAILED, at=NOW + n) for n in range(1, PRUNE_ROWS + 11)])
        assert store.prune(keep()._replace(dead_of={"q": (5, 0)})) <= PRUNE_ROWS
        assert prune_all(store, keep()._replace(dead_of={"q": (5, 0)})) > 0
        assert store.kept_of("q") == (0, 5)

    def test_the_limit_is_over_all_queues(self, ledger: Ledger, store: Store):
        first, second = ledger.completed(2, queue="a"), ledger.completed(2, queue="b")
        prune_all(store, keep(completed=3))
        assert kept(store, first + second) == first[1:] + second
        assert dict(store.finished_counts) == {("a", "completed"): 1, ("b", "completed"): 2}

    def test_after_everything_was_pruned_the_limit_still_holds(self, ledger: Ledger, store: Store):
        for _ in range(3):
            ids = ledger.completed(3)
            assert prune_all(store, keep(completed=0)) == 3
            assert kept(store, ids) == []
            assert store.finished_counts == {}

    def test_a_clock_that_went_back_does_not_keep_the_count_from_holding(self, ledger: Ledger, store: Store):
        future = ledger.completed(1, at=NOW + 1000)
        past = ledger.completed(1, at=NOW - 1000)
        now = ledger.completed(1)
        prune_all(store, keep(since=NOW))
        assert kept(store, future + past + now) == future + now
        prune_all(store, keep(completed=1))
        assert kept(store, future + past + now) == now

    def test_what_was_deleted_leaves_room_that_can_be_given_back(self, ledger: Ledger, store: Store):
        """Of a store without a file there is none; both say so in the same way."""
        ledger.completed(5)
        prune_all(store, keep(completed=0))
        while store.shrink(4096):
            pass
        assert store.space().free == 0

    def test_records_of_a_clock_that_was_ahead_do_not_keep_old_ones_behind_them(self, ledger: Ledger, store: Store):
        """However many they are: each look at the oldest would find only them."""
        future = ledger.completed(PRUNE_ROWS * 2 + 1, at=NOW + 1000)
        past = ledger.completed(2, at=NOW - 1000)
        for _ in range(5):
            store.prune(keep(since=NOW))
        assert kept(store, future + past) == future
        ledger.completed(1)
        assert prune_all(store, keep(since=NOW)) == 0

    def test_a_reused_newest_id_does_not_confuse_the_order(self, ledger: Ledger, store: Store):
        ledger.completed(3)
        prune_all(store, keep(completed=1))
        ledger.write([ended(make_job(50, "completed-3"))], reused=["completed-3"])
        newer = ledger.completed(1)
        assert prune_all(store, keep(completed=1)) == 1
        assert kept(store, ["completed-3", *newer]) == newer

    def test_much_is_pruned_in_several_steps(self, ledger: Ledger, store: Store):
        ids = ledger.completed(PRUNE_ROWS * 2 + 5)
        assert store.prune(keep(completed=3)) <= PRUNE_ROWS
        assert kept(store, ids[-3:]) == ids[-3:]
        assert store.finished_counts[("q", "completed")] >= PRUNE_ROWS
        prune_all(store, keep(completed=3))
        assert kept(store, ids) == ids[-3:]

    def test_much_is_pruned_by_age_in_several_steps(self, ledger: Ledger, store: Store):
        ids = ledger.completed(PRUNE_ROWS + 5)
        assert store.prune(keep(since=NOW + 1)) == PRUNE_ROWS
        assert store.prune(keep(since=NOW + 1)) == 5
        assert kept(store, ids) == []

    def test_records_of_a_clock_that_was_ahead_do_not_keep_the_others(self, ledger: Ledger, store: Store):
        future = ledger.completed(PRUNE_ROWS * 2, at=NOW * 2)
        old = ledger.completed(5)
        for _ in range(5):
            store.prune(keep(since=NOW + 1))
        assert kept(store, old) == []
        assert kept(store, future) == future

    def test_pruning_leaves_unfinished_jobs_alone(self, place: Place, ledger: Ledger):
        ledger.write([make_job(1, created_at=0, run_at=0)])
        prune_all(ledger.store, keep(0, 0, NOW * 2, 0, NOW * 2))
        assert list(loaded(place.open())) == ["job-1"]

    def test_some_of_the_ended_jobs_tell_how_old_all_are(self, ledger: Ledger, store: Store):
        assert store.sample(10) == []
        for seq in range(1, 101):
            ledger.completed(1, at=NOW + 1000 * seq)
        few = store.sample(5)
        assert [each.finished_at for each in few] == [NOW + 1000 * seq for seq in (1, 25, 50, 75, 100)]
        assert all(each.size > 0 for each in few)
        assert {(each.queue, each.state) for each in few} == {("q", "completed")}
        assert len(store.sample(1)) == 1
        # Of few none is left out, and none comes twice.
        assert [each.finished_at for each in store.sample(1000)] == [NOW + 1000 * seq for seq in range(1, 101)]

    def test_nothing_to_prune_is_said(self, ledger: Ledger, store: Store):
        assert store.prune(keep(0, 0, NOW * 2, 0, NOW * 2)) == 0
        ledger.completed(2)
        ledger.tell(1)
        assert store.prune(keep(completed=2, events=1)) == 0

    # --- events -------------------------------------------------------------------------------------

    @pytest.mark.parametrize(("limit", "first"), [(0, 6), (1, 6), (2, 5), (3, 3), (4, 3), (5, 1), (6, 1), (7, 1)])
    def test_a_bounded_number_of_events_is_kept(self, place: Place, ledger: Ledger, limit: int, first: int):
        """A batch is kept or goes as a whole, and is kept while any of its events is to be."""
        for n in (2, 2, 1, 1):
            ledger.tell(n)
        prune_all(ledger.store, keep(events=limit))
        store = place.open()
        assert (store.first_event_id(), store.last_event_id) == (first, 6)
        assert [e.id for e in store.events_after(0, 100)] == list(range(first, 7))

    @pytest.mark.parametrize(("since", "first"), [(NOW, 1), (NOW + 1, 2), (NOW + 2, 3), (NOW + 3, 3), (NOW * 2, 3)])
    def test_events_are_kept_from_a_time_on_and_the_last_always(
        self, place: Place, ledger: Ledger, since: int, first: int
    ):
        for i in range(3):
            ledger.tell(1, at=NOW + i)
        prune_all(ledger.store, keep(events_since=since))
        assert place.open().first_event_id() == first

    def test_events_of_a_clock_that_was_ahead_go_with_later_ones(self, ledger: Ledger, store: Store):
        """And what is kept has no hole."""
        for _ in range(PRUNE_ROWS + 5):
            ledger.tell(1, at=NOW * 2)
        ledger.tell(1, at=NOW)
        ledger.tell(2, at=NOW + 9)
        for _ in range(6):
            store.prune(keep(events_since=NOW + 1))
        assert store.first_event_id() == PRUNE_ROWS + 7

    def test_the_age_of_events_is_by_the_clock_and_the_newest_id_is_remembered_too(self, place: Place, ledger: Ledger):
        job = make_job(1)
        for at in (NOW, NOW + 1, NOW + 2):
            batch = ledger.batch(events=[event(job, "drained")], at=at)
            batch.stamp = NOW * 2  # a life before had a clock that was ahead
            ledger.store.commit(batch)
        prune_all(ledger.store, keep(events_since=NOW + 2))
        store = place.open()
        assert (store.first_event_id(), store.last_event_at()) == (3, NOW * 2)

    def test_after_pruning_all_events_numbers_still_go_on(self, place: Place, ledger: Ledger):
        for _ in range(3):
            ledger.tell(2)
        prune_all(ledger.store, keep(events=0))
        store = place.open()
        assert store.last_event_id == 6
        Ledger(store).tell(1)
        assert [e.id for e in store.events_after(6, 10)] == [7]

    def test_a_batch_without_events_does_not_let_the_last_ones_go(self, ledger: Ledger, store: Store):
        ledger.tell(2)
        ledger.write([make_job(1)])
        prune_all(store, keep(events=0, events_since=NOW * 2))
        assert [e.id for e in store.events_after(0, 10)] == [1, 2]
