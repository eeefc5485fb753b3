"""Does the simulation find anything? Bugs that somebody could really write are planted one by one; each must be found.

Where a bug is only in the way of one in some seeds, the test says how many it may take.
"""

from typing import Any

import pytest

from tests.sim import planted_bugs as bugs
from tests.sim import planted_operating as operating
from tests.sim.planted_bugs import Plant
from tests.sim.sim_world import simulate

HOURS = 0.05
SEEDS = 50

PLANTED: list[Plant] = [
    bugs.answers_before_the_commit, bugs.publishes_before_the_commit, bugs.takes_a_refusal_for_a_commit, bugs.makes_a_new_batch_after_a_refusal,
    bugs.forgets_the_timer_of_a_lease, bugs.keeps_a_completed_job_on_the_disk, bugs.misses_the_wake_up_of_a_poll,
    bugs.turns_the_order_around_at_a_start, bugs.ignores_priority_below_zero, bugs.leaks_the_waiters, bugs.leaks_subscriptions,
    bugs.checks_no_token, bugs.delivers_what_is_not_committed, bugs.keeps_the_jobs_of_a_lost_connection, bugs.takes_every_end_for_a_goodbye,
    bugs.takes_a_goodbye_for_a_drop, bugs.gives_back_at_a_stop, bugs.leaves_a_stopped_poll_in_line,
    bugs.skips_an_event_after_a_replay, bugs.tells_events_twice, bugs.forgets_to_wake_a_session, bugs.tells_of_no_gap,
    bugs.loses_replies_when_events_come, bugs.keeps_a_record_that_nobody_wants, bugs.ignores_a_whole_batch_for_one_token,
    bugs.forgets_to_sync_durable_pushes, bugs.serves_the_last_poll_first, bugs.ends_polls_early, bugs.serves_polls_that_have_gone,
    bugs.never_deletes, bugs.takes_seconds_for_milliseconds, bugs.deletes_beside_a_commit, bugs.leaves_a_failed_task_dead,
    bugs.counts_one_queue_for_all, bugs.audits_what_is_being_written, bugs.replays_the_events_of_all_queues,
    bugs.renews_the_lease_of_anybody, bugs.leaves_a_job_with_a_dead_connection, bugs.forgets_why_a_job_is_dead, bugs.begins_schedules_anew_at_a_start, bugs.makes_the_job_of_a_slot_twice,
    bugs.commits_half_of_a_bulk_push,
    bugs.waits_for_the_disk_between_two_steps,
    operating.writes_facts_after_their_commit, operating.forgets_limits_at_a_start, operating.forgets_pauses_at_a_start,
    operating.forgets_quiet_workers_at_a_start, operating.forgets_marks_at_a_start, operating.writes_one_act_of_a_batch,
    operating.writes_one_line_of_a_batch, operating.loses_attempts_at_a_start,
    operating.keeps_the_trails_of_a_job_that_is_pushed_again,
]  # fmt: skip

FOUND = {
    "tells_of_no_gap": (114,), "gives_back_at_a_stop": (17, 33, 42), "never_deletes": (9,), "writes_one_act_of_a_batch": (25, 14, 4),
    "writes_one_line_of_a_batch": (0, 21, 83), "audits_what_is_being_written": (0, 15, 25),
    "delivers_what_is_not_committed": (10, 30, 41), "begins_schedules_anew_at_a_start": (9, 12, 25), "renews_the_lease_of_anybody": (8, 10, 4),
    "leaves_a_stopped_poll_in_line": (3, 5, 15), "makes_the_job_of_a_slot_twice": (4, 6, 8),
    "ignores_a_whole_batch_for_one_token": (10, 4, 3), "serves_polls_that_have_gone": (2, 1, 3), "forgets_the_timer_of_a_lease": (9, 7, 12), "ignores_priority_below_zero": (9, 8, 6),
    "leaves_a_failed_task_dead": (2, 1, 3),
}  # fmt: skip
"""Seeds that lately found those for which the first ones do not; they are tried first, since that takes a second."""


def in_each_check() -> list[Any]:
    """Every fourth in each full check, all in a long one: the simulation itself changes seldom."""
    return [plant if n % 4 == 0 else pytest.param(plant, marks=pytest.mark.long) for n, plant in enumerate(PLANTED)]


@pytest.mark.slow
@pytest.mark.parametrize("plant", in_each_check(), ids=lambda plant: plant.__name__)
def test_a_planted_bug_is_found(plant: Plant, monkeypatch: pytest.MonkeyPatch):
    plant(monkeypatch)
    for seed in dict.fromkeys((*FOUND.get(plant.__name__, ()), *range(SEEDS))):
        result = simulate(seed, HOURS)
        if result.failure is not None:
            assert "TypeError" not in f"{result.failure}", "the bug does not fit the code any more"
            return
    pytest.fail(f"not found by {SEEDS} seeds")
