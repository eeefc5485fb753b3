"""What every store does with facts, and with lists of what has ended: one suite for each of them."""

import pytest

from bunqueue_trio.config import REPLAY_BYTES
from bunqueue_trio.engine.fingerprint import fingerprint
from bunqueue_trio.engine.job import Cancelled, Job, Note, Options, State
from bunqueue_trio.engine.ranking import FIRST
from bunqueue_trio.storage.store import Store
from tests.storage.ledger import NOW, Ledger, ended, facts, keep, make_job
from tests.storage.store_contract import Place, StoreSuite


def noted(store: Store) -> dict[tuple[str, str], bytes]:
    """Every fact that a start would find."""
    return {(kind, key): value for kind, key, value in store.load_facts()}


class FactContract(StoreSuite):
    """Every fact that was committed is there after a restart, with the value that it had last."""

    def test_a_new_store_has_none(self, store: Store):
        assert list(store.load_facts()) == []

    def test_the_last_value_stays_and_what_is_deleted_goes(self, place: Place, ledger: Ledger):
        ledger.write(facts=[("pause", "a", b"1"), ("pause", "b", b"2"), ("limit", "a", b"")])
        assert (
            ledger.write(facts=[("pause", "a", b"\x00\xff"), ("pause", "b", None), ("pause", "never", None)]).rows()
            == 3
        )
        assert noted(place.open()) == {("pause", "a"): b"\x00\xff", ("limit", "a"): b""}

    def test_they_come_by_kind_and_key(self, place: Place, ledger: Ledger):
        ledger.write(facts=[("b", "1", b""), ("a", "2", b""), ("a", "10", b"")])
        assert [row[:2] for row in place.open().load_facts()] == [("a", "10"), ("a", "2"), ("b", "1")]

    @pytest.mark.parametrize("text", ["", "ünï🐇", "a\u0000b", "' OR 1=1 --", "x" * 3000])
    def test_any_text_is_a_kind_and_a_key(self, place: Place, ledger: Ledger, text: str):
        ledger.write(facts=[(text, "k", b"1"), ("k", text, b"2")])
        assert noted(place.open()) == {(text, "k"): b"1", ("k", text): b"2"}

    def test_a_fact_is_written_with_the_job_of_its_batch(self, place: Place, ledger: Ledger):
        ledger.write([make_job(1)], facts=[("of", "job-1", b"x")])
        store = place.open()
        assert [job.id for job in store.load()] == ["job-1"]
        assert noted(store) == {("of", "job-1"): b"x"}

    def test_their_bytes_are_those_of_the_batch(self, ledger: Ledger):
        assert ledger.batch(facts=[("k", "a", b"x" * 100), ("k", "b", None)]).bytes() == 100


class RecordContract(StoreSuite):
    """What has ended is listed by queue and state, newest end first, in pages that stay where they are."""

    def pages(self, store: Store, limit: int, state: State = State.COMPLETED, queue: str = "q") -> list[list[str]]:
        found, before = [], None
        while True:
            page = store.records(queue, state, before, limit)
            found.append([job.id for job in page.jobs])
            before = page.before
            if before is None:
                return found

    def test_a_page_is_of_one_queue_and_state_newest_first(self, ledger: Ledger, store: Store):
        one = ledger.completed(2)
        ledger.completed(2, queue="other")
        dead = ledger.completed(1, State.FAILED)
        one += ledger.completed(1)
        assert self.pages(store, 10) == [one[::-1]]
        assert self.pages(store, 10, State.FAILED) == [dead]
        assert self.pages(store, 10, queue="nobody") == [[]]

    def test_a_record_has_all_but_its_result(self, ledger: Ledger, store: Store):
        job = ended(make_job(1, data=b"[1]", options=Options(tags=("a",))), result=b'{"r" : 1}')
        ledger.write([job])
        [found] = store.records("q", State.COMPLETED, None, 1).jobs
        whole = store.find("job-1")
        assert whole is not None
        assert whole.noted().result == b'{"r" : 1}'
        whole.noted().result = None
        assert facts(found) == facts(whole)

    @pytest.mark.parametrize(("limit", "sizes"), [(1, [1] * 5), (2, [2, 2, 1]), (5, [5]), (6, [5])])
    def test_the_last_page_says_that_it_is(self, place: Place, ledger: Ledger, limit: int, sizes: list[int]):
        ids = ledger.completed(5)
        pages = self.pages(place.open(), limit)
        assert [len(page) for page in pages] == sizes
        assert [job_id for page in pages for job_id in page] == ids[::-1]

    @pytest.mark.parametrize(("limit", "sizes"), [(1, [1] * 5), (2, [2, 2, 1]), (5, [5])])
    def test_pages_from_the_oldest_on_are_the_same_the_other_way_round(
        self, ledger: Ledger, store: Store, limit: int, sizes: list[int]
    ):
        ids = ledger.completed(5, State.FAILED)
        ledger.completed(1)
        ledger.completed(1, State.FAILED, queue="other")
        pages, after = [], None
        while True:
            page = store.records("q", State.FAILED, after, limit, oldest=True)
            pages.append([job.id for job in page.jobs])
            assert len(page.places) == len(page.jobs)
            after = page.before
            if after is None:
                break
            assert after == page.places[-1]
        assert [len(page) for page in pages] == sizes
        assert [job_id for page in pages for job_id in page] == ids
        assert store.records("q", State.FAILED, page.places[-1], limit, oldest=True).jobs == []
        newest = store.records("q", State.FAILED, None, 1).places
        assert newest == [page.places[-1]]
        ledger.completed(1, State.FAILED)
        assert len(store.records("q", State.FAILED, newest[0], limit, oldest=True).jobs) == 1

    def test_what_a_batch_ends_is_kept_in_the_order_of_the_ends(self, ledger: Ledger, store: Store):
        jobs = [ended(make_job(seq), State.FAILED) for seq in (1, 2, 3)]
        for job, at in zip(jobs, (NOW + 2, NOW, NOW + 1), strict=True):
            job.noted().finished_at = at
        ledger.write(jobs)
        assert self.pages(store, 10, State.FAILED) == [["job-1", "job-3", "job-2"]]

    def test_a_record_says_how_often_its_queue_has_retried_it(self, ledger: Ledger, store: Store):
        ledger.write([ended(make_job(1, note=Note(auto_retries=2)), State.FAILED), ended(make_job(2), State.FAILED)])
        [second, first] = store.records("q", State.FAILED, None, 2).jobs
        assert (first.noted().auto_retries, second.noted().auto_retries) == (2, 0)

    def test_pages_stay_while_jobs_end_and_records_go(self, ledger: Ledger, store: Store):
        ids = ledger.completed(6)
        first = store.records("q", State.COMPLETED, None, 2)
        ledger.completed(3)
        ledger.write([make_job(100, ids[3])], reused=[ids[3]])
        while store.prune(keep(completed=7)):
            pass
        assert [job.id for job in first.jobs] == [ids[5], ids[4]]
        assert [job.id for job in store.records("q", State.COMPLETED, first.before, 9).jobs] == [ids[2], ids[1]]

    def test_what_wants_no_record_is_in_no_list(self, ledger: Ledger, store: Store):
        ledger.write([ended(make_job(1, options=Options(remove_on_complete=True)))])
        assert self.pages(store, 10) == [[]]

    @pytest.mark.parametrize(
        "large",
        [
            Options(tags=("t" * (REPLAY_BYTES // 4),)),
            Options(depends_on=tuple(str(n) for n in range(REPLAY_BYTES // 2000 + 1))),
            "e" * (REPLAY_BYTES // 4),
        ],
        ids=["tags", "dependencies", "errors"],
    )
    def test_whatever_makes_a_record_large_ends_a_page(self, ledger: Ledger, store: Store, large: Options | str):
        options, error = (large, None) if isinstance(large, Options) else (Options(), large)
        jobs = [make_job(seq, options=options, note=Note(error=error)) for seq in range(1, 11)]
        ledger.write([ended(job, State.FAILED) for job in jobs])
        assert [len(page) for page in self.pages(store, 10, State.FAILED)] == [4, 4, 2]

    def test_a_page_of_large_records_ends_early(self, ledger: Ledger, store: Store):
        half = b'"' + b"x" * (REPLAY_BYTES // 2) + b'"'
        ledger.write(
            [ended(make_job(1, data=half)), ended(make_job(2, data=half), result=half), ended(make_job(3, data=half))]
        )
        assert self.pages(store, 10) == [["job-3", "job-2"], ["job-1"]]

    def test_a_state_that_ended_at_the_same_time_is_in_the_order_of_the_ends(self, ledger: Ledger, store: Store):
        """Whatever the clock said."""
        late, early = ledger.completed(1, at=NOW + 5), ledger.completed(1, at=NOW)
        assert self.pages(store, 10) == [early + late]


def died(seq: int, error: str | None, queue: str = "q", at: int = NOW) -> Job:
    return ended(make_job(seq, queue=queue, note=Note(error=error)), State.FAILED, at=at)


def grouped(store: Store, queue: str | None) -> dict[str, dict[str, int]]:
    """How many dead letters there are by error and queue; the largest groups come first, whatever page they are read by."""
    found = {key: store.dead_groups.where(key, queue) for key in store.dead_groups.sizes(queue)}
    ranks = sorted((-sum(where.values()), key) for key, where in found.items())
    for some in (1, 2, 9):
        assert store.dead_groups.behind(queue, FIRST, some) == ranks[:some]
        assert [store.dead_groups.behind(queue, rank, some) for rank in ranks] == [
            ranks[n + 1 :][:some] for n in range(len(ranks))
        ]
    assert store.dead_groups.count(queue) == len(ranks)
    return found


class GroupContract(StoreSuite):
    """Dead letters are counted by the error that they died of, and found by it."""

    REFUSED, LATE = fingerprint("refused by 10.0.0.1").key, fingerprint("too late").key

    def test_they_are_counted_by_error_and_queue(self, place: Place, ledger: Ledger, store: Store):
        ledger.write([died(1, "refused by 10.0.0.1"), died(2, "refused by 10.0.0.2"), died(3, "too late")])
        ledger.write([died(4, "too late", "other"), ended(make_job(5)), died(6, None, "other")])
        for each in (store, place.open()):
            assert each.is_grouped("q")
            assert each.is_grouped("nobody")
            assert grouped(each, "q") == {self.REFUSED: {"q": 2}, self.LATE: {"q": 1}}
            assert grouped(each, None) == grouped(each, "q") | {
                self.LATE: {"q": 1, "other": 1}, fingerprint("").key: {"other": 1},
            }  # fmt: skip
            assert grouped(each, "nobody") == {}

    def test_a_cancelled_one_is_of_no_error(self, place: Place, ledger: Ledger, store: Store):
        job = died(2, "Cancelled by ann: too late")
        job.noted().cancelled = Cancelled(NOW)
        ledger.write([died(1, "too late"), job])
        for each in (store, place.open()):
            assert grouped(each, "q") == {self.LATE: {"q": 1}, "cancelled": {"q": 1}}
            assert (
                each.dead_groups.sum_of("q", ["cancelled", "x"]),
                each.dead_groups.sum_of("nobody", ["cancelled"]),
                each.is_grouped("q"),
            ) == (1, 0, True)

    def test_what_is_retried_or_deleted_counts_no_more(self, place: Place, ledger: Ledger, store: Store):
        ledger.write([died(n, "too late", at=NOW + n) for n in range(1, 5)])
        ledger.write([make_job(10, "job-1"), died(11, "refused by me")], reused=["job-1"])
        assert grouped(store, "q") == {self.LATE: {"q": 3}, fingerprint("refused by me").key: {"q": 1}}
        while store.prune(keep(dead=2)):
            pass
        left = {self.LATE: {"q": 1}, fingerprint("refused by me").key: {"q": 1}}
        assert grouped(store, None) == left
        store = place.open()
        assert grouped(store, None) == left
        assert store.is_grouped("q")
        while store.prune(keep(dead=0)):
            pass
        assert grouped(store, None) == {}

    def test_those_of_an_error_come_in_pages_of_their_own(self, ledger: Ledger, store: Store):
        ledger.write([died(n, "too late" if n % 2 else f"refused by 10.0.0.{n}") for n in range(1, 8)])
        page = store.records("q", State.FAILED, None, 3, self.LATE)
        assert [job.id for job in page.jobs] == ["job-7", "job-5", "job-3"]
        assert {job.note and job.note.fingerprint for job in page.jobs} == {self.LATE}
        page = store.records("q", State.FAILED, page.before, 3, self.LATE)
        assert ([job.id for job in page.jobs], page.before) == (["job-1"], None)
        assert store.records("other", State.FAILED, None, 3, self.LATE).jobs == []

    def test_the_first_is_the_oldest_that_is_kept(self, ledger: Ledger, store: Store):
        ledger.write([died(n, "too late", at=NOW + n) for n in range(1, 4)])
        assert store.first_seen(("q",), self.LATE) == NOW + 1
        ledger.write([make_job(10, "job-1")], reused=["job-1"])
        assert store.first_seen(("q",), self.LATE) == NOW + 2
        assert store.first_seen(("q",), self.REFUSED) is None
        assert store.first_seen(("other",), self.LATE) is None
        ledger.write(
            [died(n, "too late", queue, at=NOW + at) for n, queue, at in ((20, "a", 9), (21, "b", 0), (22, "c", 5))]
        )
        assert store.first_seen(("q", "a", "c", "other"), self.LATE) == NOW + 2
        assert store.first_seen(("c", "a"), self.LATE) == NOW + 5
        assert store.first_seen(("a", "b"), self.LATE) == NOW

    def test_traces_are_of_a_range_of_ids_by_id_falling(self, place: Place, ledger: Ledger):
        names = ["s@5", "s@6", "s@7+x", "s@9", "t@6", "s"]
        jobs = [make_job(n, name, started_at=NOW + n) for n, name in enumerate(names, 1)]
        jobs[1].options, jobs[3].note = Options(remove_on_complete=True), Note(error="boom")
        ledger.write([ended(job, State.FAILED if job.id == "s@9" else State.COMPLETED) for job in jobs])
        for opened in (ledger.store, None):
            store = opened or place.open()
            found = store.traces("s@", "s@:", 9)
            assert [trace.id for trace in found] == ["s@9", "s@7+x", "s@6", "s@5"]
            assert (found[0].state, found[0].error) == (State.FAILED, "boom")
            assert [trace.state for trace in found[1:]] == [State.COMPLETED] * 3
            assert all(trace.finished_at is not None for trace in found)
            assert found[3].started_at == NOW + 1
            assert [trace.id for trace in store.traces("s@", "s@9", 2)] == ["s@7+x", "s@6"]
            assert store.traces("u", "v", 5) == []
