"""What every store does with lists that grow at their end."""

import pytest

from bunqueue_trio.config import ATTEMPTS_KEPT, LOG_BYTES_KEPT, LOG_LINES_KEPT, PRUNE_ROWS, REPLAY_BYTES
from bunqueue_trio.engine.job import State
from bunqueue_trio.engine.trails import Cut, Line, TrailChange
from bunqueue_trio.storage.store import Store
from tests.storage.ledger import NOW, Ledger, ended, keep, make_job
from tests.storage.retention_contract import prune_all
from tests.storage.store_contract import Place, StoreSuite


def act(n: int, at: int = NOW) -> Line:
    return Line("actions", "", at, b"%d" % n)


def attempt(key: str, n: int, kind: str = "attempts", *, of_record: bool = False) -> Line:
    return Line(kind, key, NOW, b"%d" % n, of_record)


def bodies(store: Store, kind: str, key: str = "") -> list[bytes]:
    """Every line of a trail, oldest first."""
    return [body for _, body in store.trail(kind, key, None, 10**6, newest=False).lines]


class TrailContract(StoreSuite):
    """Every line that was committed is there after a restart, as long as its bound, its job and retention let it."""

    def test_a_new_store_has_none(self, store: Store):
        assert store.trail("actions", "", None, 10, newest=True) == ([], 0, None)

    def test_lines_come_back_in_pages_from_either_end(self, place: Place, ledger: Ledger):
        ledger.write(trails=[act(1), act(2)])
        ledger.write(trails=[act(3), act(4), act(5)])
        store = place.open()
        assert store.trail("actions", "", None, 2, newest=False) == ([(1, b"1"), (2, b"2")], 5, 2)
        assert store.trail("actions", "", 2, 2, newest=False) == ([(3, b"3"), (4, b"4")], 5, 4)
        assert store.trail("actions", "", 4, 2, newest=False) == ([(5, b"5")], 5, None)
        assert store.trail("actions", "", None, 2, newest=True) == ([(5, b"5"), (4, b"4")], 5, 4)
        assert store.trail("actions", "", 4, 3, newest=True) == ([(3, b"3"), (2, b"2"), (1, b"1")], 5, None)

    def test_a_line_that_is_larger_than_a_trail_may_be_stays_alone(self, ledger: Ledger, store: Store):
        large = b"x" * (LOG_BYTES_KEPT + 1)
        ledger.write(trails=[Line("log", "j", NOW, large)])
        assert bodies(store, "log", "j") == [large]

    def test_a_page_of_large_lines_ends_early(self, ledger: Ledger, store: Store):
        large = b"x" * (REPLAY_BYTES // 2)
        ledger.write(trails=[Line("actions", "", NOW, large)] * 5)
        for newest in (False, True):
            assert len(store.trail("actions", "", None, 9, newest=newest).lines) == 2

    def test_a_line_is_written_with_the_job_of_its_batch(self, place: Place, ledger: Ledger):
        batch = ledger.write([make_job(1, "a")], trails=[attempt("a", 1), attempt("a", 22, "log")])
        assert (batch.rows(), batch.bytes()) == (3, 3)
        store = place.open()
        assert (bodies(store, "attempts", "a"), bodies(store, "log", "a")) == ([b"1"], [b"22"])

    def test_trails_that_begin_and_trails_that_go_on_are_written_together(self, place: Place, ledger: Ledger):
        ledger.write([make_job(n, name) for n, name in enumerate("abc", 1)], trails=[attempt("a", 1), attempt("b", 1)])
        ledger.write(
            trails=[attempt("c", 1), attempt("a", 2), attempt("c", 2), attempt("b", 2, "log"), attempt("b", 2)]
        )
        ledger.write(trails=[Cut("a"), attempt("b", 3), attempt("a", 3), attempt("c", 1, "log"), attempt("b", 4)])
        store = place.open()
        found = {(key, kind): bodies(store, kind, key) for key in "abc" for kind in ("attempts", "log")}
        assert found == {
            ("a", "attempts"): [b"3"], ("a", "log"): [],
            ("b", "attempts"): [b"1", b"2", b"3", b"4"], ("b", "log"): [b"2"],
            ("c", "attempts"): [b"1", b"2"], ("c", "log"): [b"1"],
        }  # fmt: skip
        pages = [store.trail("attempts", key, None, 9, newest=True) for key in "abc"]
        assert [(page.total, page.lines[0][0]) for page in pages] == [(1, 1), (4, 4), (2, 2)]

    def test_the_last_attempts_are_kept(self, place: Place, ledger: Ledger):
        ledger.write([make_job(1, "a")], trails=[attempt("a", n) for n in range(ATTEMPTS_KEPT + 3)])
        assert len(bodies(place.open(), "attempts", "a")) == ATTEMPTS_KEPT
        ledger = Ledger(place.open())
        ledger.write(trails=[attempt("a", 99)])
        page = ledger.store.trail("attempts", "a", None, 99, newest=True)
        assert (page.total, page.lines[0], page.lines[-1]) == (ATTEMPTS_KEPT, (ATTEMPTS_KEPT + 4, b"99"), (5, b"4"))

    def test_a_log_keeps_a_bounded_number_of_lines(self, place: Place, ledger: Ledger):
        ledger.write([make_job(1, "a")], trails=[attempt("a", n, "log") for n in range(LOG_LINES_KEPT + 2)])
        found = bodies(place.open(), "log", "a")
        assert (len(found), found[0]) == (LOG_LINES_KEPT, b"2")

    def test_a_log_keeps_a_bounded_number_of_bytes_and_always_the_newest_line(self, ledger: Ledger, store: Store):
        half = b"x" * (LOG_BYTES_KEPT // 2)
        lines: list[TrailChange] = [Line("log", "a", NOW, body) for body in (b"1", half, half)]
        ledger.write([make_job(1, "a")], trails=lines)
        assert bodies(store, "log", "a") == [half, half]
        ledger.write(trails=[attempt("a", 1, "log")])
        assert bodies(store, "log", "a") == [half, b"1"]
        whole = half * 3
        ledger.write(trails=[Line("log", "a", NOW, whole)])
        assert bodies(store, "log", "a") == [whole]

    def test_changes_take_effect_in_their_order(self, ledger: Ledger, store: Store):
        ledger.write([make_job(1, "a")], trails=[attempt("a", 1), Cut("a"), attempt("a", 2), attempt("a", 3, "log")])
        assert (bodies(store, "attempts", "a"), bodies(store, "log", "a")) == ([b"2"], [b"3"])
        ledger.write(trails=[Cut("a", "log"), Cut("nobody"), Cut("nobody", "log")])
        assert (bodies(store, "attempts", "a"), bodies(store, "log", "a")) == ([b"2"], [])
        ledger.write(trails=[attempt("a", 4, "log"), Cut("a")])
        assert (bodies(store, "attempts", "a"), bodies(store, "log", "a")) == ([], [])

    def test_a_record_takes_a_line_while_it_is_there(self, ledger: Ledger, store: Store):
        ledger.finish(ended(make_job(1, "a")))
        late = [attempt("a", 1, "log", of_record=True), attempt("gone", 1, "log", of_record=True)]
        ledger.write(trails=late)
        assert (bodies(store, "log", "a"), bodies(store, "log", "gone")) == ([b"1"], [])

    def test_what_is_kept_of_a_job_goes_with_its_record(self, place: Place, ledger: Ledger):
        jobs = [ended(make_job(n, f"job-{n}"), State.FAILED, at=NOW + n) for n in range(1, 4)]
        ledger.write(jobs, trails=[attempt(job.id, 1, kind) for job in jobs for kind in ("attempts", "log")])
        assert prune_all(ledger.store, keep(dead=2)) == 1
        ledger.write([make_job(9, "job-2")], reused=["job-2"], trails=[attempt("job-2", 7)])
        store = place.open()
        assert (bodies(store, "attempts", "job-1"), bodies(store, "log", "job-1")) == ([], [])
        assert (bodies(store, "attempts", "job-2"), bodies(store, "log", "job-2")) == ([b"7"], [])
        assert (bodies(store, "attempts", "job-3"), bodies(store, "log", "job-3")) == ([b"1"], [b"1"])

    def test_retention_keeps_the_newest_acts(self, place: Place, ledger: Ledger):
        ledger.write(trails=[act(n) for n in range(PRUNE_ROWS + 20)])
        assert ledger.store.prune(keep(actions=5)) == PRUNE_ROWS
        assert prune_all(ledger.store, keep(actions=5)) == 15
        ledger.write(trails=[act(-1)])
        store = place.open()
        assert bodies(store, "actions")[-2:] == [b"%d" % (PRUNE_ROWS + 19), b"-1"]
        assert prune_all(store, keep(actions=0)) == 6
        assert store.trail("actions", "", None, 9, newest=True) == ([], 0, None)
        Ledger(store).write(trails=[act(8)])
        assert store.trail("actions", "", None, 9, newest=True) == ([(PRUNE_ROWS + 22, b"8")], 1, None)

    @pytest.mark.parametrize(("since", "left"), [(NOW, 4), (NOW + 1, 3), (NOW + 2, 1), (NOW + 3, 1), (NOW + 4, 0)])
    def test_retention_takes_old_acts_from_the_front(self, ledger: Ledger, store: Store, since: int, left: int):
        """What stands before an old one is older still, whatever the clock said."""
        ledger.write(trails=[act(n, NOW + at) for n, at in enumerate((0, 2, 1, 3))])
        prune_all(store, keep(actions_since=since))
        assert len(bodies(store, "actions")) == left
