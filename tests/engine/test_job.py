"""What is known of one job alone: legal moves, backoff, slots, deadlines."""

import pytest

from bunqueue_trio.config import BACKOFF_MAX_MS, DAY_MS
from bunqueue_trio.engine.job import (
    TRANSITIONS,
    UNFINISHED,
    Lease,
    Options,
    Series,
    Shape,
    State,
    backoff_ms,
    deadline,
    expiry,
    next_run,
    next_slot,
    wait_ms,
)
from tests.engine.make import T0, Bench, make_job


def test_every_state_has_a_row_and_every_row_leads_to_states():
    assert set(TRANSITIONS) == set(State)
    assert all(target in State for targets in TRANSITIONS.values() for target in targets)


def test_every_state_is_reachable_and_only_birth_has_no_way_in():
    reached = {target for targets in TRANSITIONS.values() for target in targets}
    assert set(State) - reached == {State.NEW}


def test_only_removed_has_no_way_out():
    assert [state for state, targets in TRANSITIONS.items() if not targets] == [State.REMOVED]


def test_what_is_finished_never_comes_back():
    for state in set(State) - set(UNFINISHED) - {State.NEW}:
        assert not TRANSITIONS[state] & set(UNFINISHED)


@pytest.mark.parametrize("before", [state for state in State if state is not State.NEW])
@pytest.mark.parametrize("after", list(State))
def test_the_engine_makes_exactly_the_moves_of_the_table(before: State, after: State):
    bench = Bench()
    job = make_job(state=before)
    queue = bench.engine.queues.open("q")
    if before in UNFINISHED:
        for counts in (bench.engine.counts, queue.counts):
            counts[before] += 1
        if before is not State.WAITING:
            queue.enter(job, before)
    if after in TRANSITIONS[before]:
        bench.engine._move(job, after)
        expected = {state: int(state is after) for state in UNFINISHED}
        assert (job.state, bench.engine.counts) == (after, expected)
        assert job in bench.engine.changed
    else:
        with pytest.raises(AssertionError):
            bench.engine._move(job, after)
        assert job.state is before


@pytest.mark.parametrize(
    ("base", "attempts", "wait"),
    [
        (1000, 1, 1000),
        (1000, 2, 2000),
        (1000, 3, 4000),
        (1, 22, 2_097_152),
        (1, 23, BACKOFF_MAX_MS),
        (1, 1000, BACKOFF_MAX_MS),
        (0, 1, 0),
        (0, 1000, 0),
        (BACKOFF_MAX_MS, 1, BACKOFF_MAX_MS),
        (BACKOFF_MAX_MS - 1, 1, BACKOFF_MAX_MS - 1),
        (DAY_MS, 1, DAY_MS),
        (DAY_MS, 2, DAY_MS),
    ],
)
def test_backoff_doubles_up_to_an_hour(base: int, attempts: int, wait: int):
    assert backoff_ms(base, attempts) == wait


@pytest.mark.parametrize(
    ("shape", "waits"),
    [
        (None, [1000, 2000, 4000, 8000]),
        (Shape(), [1000, 2000, 4000, 8000]),
        (Shape(max_delay=3000), [1000, 2000, 3000, 3000]),
        (Shape(max_delay=500), [500, 500, 500, 500]),
        (Shape(max_delay=0), [0, 0, 0, 0]),
        (Shape(fixed=True), [1000, 1000, 1000, 1000]),
        (Shape(fixed=True, max_delay=700, jitter=0), [700, 700, 700, 700]),
    ],
)
def test_a_backoff_is_fixed_or_doubles_up_to_its_limit(shape: Shape | None, waits: list[int]):
    options = Options(backoff=1000, shape=shape)
    assert [wait_ms(make_job(options=options, attempts=attempts)) for attempts in (1, 2, 3, 4)] == waits


def test_a_doubling_backoff_without_a_limit_of_its_own_ends_at_an_hour():
    job = make_job(options=Options(backoff=1, shape=Shape()), attempts=1000)
    assert wait_ms(job) == BACKOFF_MAX_MS


def test_a_limit_of_its_own_may_be_longer_than_an_hour():
    job = make_job(options=Options(backoff=1, shape=Shape(max_delay=DAY_MS)), attempts=1000)
    assert wait_ms(job) == DAY_MS
    job.attempts = 24
    assert wait_ms(job) == 2**23


@pytest.mark.parametrize(("jitter", "least"), [(0.2, 800), (1, 0), (1.0, 0)])
def test_jitter_spreads_the_waits_of_jobs_and_attempts_evenly_and_always_alike(jitter: float, least: int):
    options = Options(backoff=1000, shape=Shape(fixed=True, jitter=jitter))
    for waits in (
        [wait_ms(make_job(seq, options=options, attempts=1)) for seq in range(1000)],
        [wait_ms(make_job(options=options, attempts=attempts)) for attempts in range(1000)],
    ):
        spread = 1000 - least
        assert least <= min(waits) <= least + spread // 50
        assert 1000 - spread // 50 <= max(waits) <= 1000
        for tenth in range(10):
            low = least + spread * tenth / 10
            assert 50 <= sum(low < wait <= low + spread / 10 for wait in waits) <= 150
    assert wait_ms(make_job(5, options=Options(backoff=1000, shape=Shape(jitter=0.5)), attempts=3)) == 3997


def test_jobs_that_come_back_together_do_not_do_so_after_each_attempt():
    options = Options(backoff=1000, shape=Shape(fixed=True, jitter=1))
    tenths = [[wait_ms(make_job(seq, options=options, attempts=n)) // 100 for n in (1, 2)] for seq in range(1000)]
    together = [other[1] for other in tenths[1:] if other[0] == tenths[0][0]]
    assert len(set(together)) > 5


def test_jitter_keeps_to_the_limit():
    shape = Shape(max_delay=3000, jitter=0.1)
    waits = [wait_ms(make_job(seq, options=Options(backoff=1000, shape=shape), attempts=9)) for seq in range(100)]
    assert 2700 <= min(waits) <= max(waits) <= 3000


@pytest.mark.parametrize(
    ("now", "slot"),
    [(0, 1100), (1000, 1100), (1001, 1100), (1100, 1100), (1101, 1200), (1200, 1200), (1201, 1300), (10**9, 10**9)],
)
def test_the_next_slot_is_never_past_and_never_the_same(now: int, slot: int):
    assert next_slot(Series(every=100, limit=None, run=1, due=1000), now) == slot


def test_slots_a_year_apart_are_skipped_without_counting_through_them():
    assert next_slot(Series(every=1, limit=None, run=1, due=0), 365 * DAY_MS) == 365 * DAY_MS


def test_a_job_without_repeat_has_no_next_run():
    assert next_run(Options(), T0) is None


@pytest.mark.parametrize(("run", "goes_on"), [(1, True), (2, True), (3, False), (4, False)])
def test_a_limit_counts_all_runs(run: int, goes_on: bool):
    options = Options(series=Series(every=100, limit=3, run=run, due=T0))
    assert (next_run(options, T0) is not None) is goes_on


def test_the_next_run_keeps_all_options_but_those_of_the_first():
    options = Options(
        max_attempts=7, backoff=5, ttl=9, timeout=8, tags=("t",), group_id="g", lifo=True, remove_on_complete=True,
        remove_on_fail=True, unique_key="k", depends_on=("d",), name="n", series=Series(every=100, limit=None, run=4, due=T0),
    )  # fmt: skip
    assert next_run(options, T0 + 1) == Options(
        max_attempts=7, backoff=5, ttl=9, timeout=8, tags=("t",), group_id="g", lifo=True, remove_on_complete=True,
        remove_on_fail=True, name="n", series=Series(every=100, limit=None, run=5, due=T0 + 100),
    )  # fmt: skip


def test_only_an_unstarted_job_expires():
    options = Options(ttl=50)
    assert expiry(make_job()) is None
    assert expiry(make_job(options=options)) == T0 + 50
    assert expiry(make_job(options=options, attempts=1)) is None
    assert expiry(make_job(options=options, stalls=1)) is None


def test_a_ttl_of_zero_is_a_ttl():
    assert expiry(make_job(options=Options(ttl=0))) == T0


@pytest.mark.parametrize(("run", "expected"), [(1, T0 + 50), (2, T0 + 1050)])
def test_the_ttl_of_a_later_run_counts_from_its_slot(run: int, expected: int):
    series = Series(every=1000, limit=None, run=run, due=T0 + 1000)
    assert expiry(make_job(options=Options(ttl=50, series=series))) == expected


@pytest.mark.parametrize(
    ("until", "timeout_at", "expected"),
    [(None, None, None), (5, None, 5), (None, 7, 7), (5, 7, 5), (7, 5, 5), (6, 6, 6)],
)
def test_an_active_job_ends_by_lease_or_timeout(until: int | None, timeout_at: int | None, expected: int | None):
    lease = Lease("token", ttl=1, until=until, timeout_at=timeout_at)
    assert deadline(make_job(state=State.ACTIVE, lease=lease, options=Options(ttl=0))) == expected


@pytest.mark.parametrize(
    ("run_at", "ttl", "expected"),
    [(T0 + 9, None, T0 + 9), (T0 + 9, 8, T0 + 8), (T0 + 9, 9, T0 + 9), (T0 + 9, 10, T0 + 9)],
)
def test_a_delayed_job_gets_ready_or_expires(run_at: int, ttl: int | None, expected: int):
    assert deadline(make_job(state=State.DELAYED, run_at=run_at, options=Options(ttl=ttl))) == expected


def test_a_waiting_job_without_ttl_has_no_deadline():
    assert deadline(make_job(run_at=T0 + 9)) is None
