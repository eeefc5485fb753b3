"""Which schedules need somebody: what makes one of them, what ends it, and that it stands over restarts."""

from collections.abc import Iterator

import pytest

from bunqueue_trio.engine.failing import Blocked, Died
from bunqueue_trio.engine.job import Job
from bunqueue_trio.engine.line import Line
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.runtime.statistics import BLOCKED_MS, look_at_schedules
from tests.engine.make import Bench
from tests.engine.schedule_steps import DAY, MINUTE, put

ONE_ATTEMPT = c.RunOptions(max_attempts=1)


def run(bench: Bench, *, dies: bool, name: str = "s") -> str:
    """Let a schedule run beside its slots, and the run end; return its id."""
    bench.sleep(1000)
    job_id: str = bench.do(c.RunSchedule(name=name)).id
    end(bench, job_id, dies=dies)
    return job_id


def end(bench: Bench, job_id: str, *, dies: bool) -> None:
    assert bench.pull_id() == job_id
    if dies:
        bench.fail(job_id)
    else:
        bench.ack(job_id)


def died(bench: Bench) -> dict[str, Died]:
    return bench.engine.planner.failing.died


def blocked(bench: Bench) -> dict[str, Blocked]:
    return bench.engine.planner.failing.blocked


def test_runs_that_die_in_a_row_are_known_until_one_completes(bench: Bench):
    put(bench, every=DAY, options=ONE_ATTEMPT)
    run(bench, dies=False)
    assert not died(bench)
    first = run(bench, dies=True)
    begun = bench.now
    assert died(bench) == {"s": Died(first, begun, begun)}
    second = run(bench, dies=True)
    assert died(bench) == {"s": Died(second, begun, bench.now, 2)}
    bench.commit()
    bench.restart()
    assert died(bench) == {"s": Died(second, begun, begun + 1000, 2)}, "over restarts, too"
    run(bench, dies=False)
    assert not died(bench)
    bench.commit()
    bench.restart()
    assert not died(bench)


def test_a_dead_run_that_is_retried_is_no_second_one_and_may_complete(bench: Bench):
    put(bench, every=DAY, options=ONE_ATTEMPT)
    job_id = run(bench, dies=True)
    bench.commit()
    bench.do(c.RetryDlq(queue="q", job_id=job_id))
    end(bench, job_id, dies=True)
    assert died(bench)["s"].runs == 1
    bench.commit()
    bench.do(c.RetryDlq(queue="q", job_id=job_id))
    end(bench, job_id, dies=False)
    assert not died(bench)


def test_an_older_run_that_dies_after_a_newer_one_is_not_the_newest(bench: Bench):
    put(bench, every=DAY, options=ONE_ATTEMPT)
    bench.sleep(1000)
    older = bench.do(c.RunSchedule(name="s")).id
    assert bench.pull_id() == older
    newer = run(bench, dies=True)
    bench.fail(older)
    assert (died(bench)["s"].job, died(bench)["s"].runs) == (newer, 1)


def test_a_retry_of_an_older_run_is_still_the_older_one(bench: Bench):
    put(bench, every=DAY, options=ONE_ATTEMPT)
    older = run(bench, dies=True)
    newer = run(bench, dies=True)
    bench.commit()
    bench.do(c.RetryDlq(queue="q", job_id=older))
    end(bench, older, dies=False)
    assert died(bench)["s"].job == newer
    again = run(bench, dies=False)
    assert not died(bench)
    bench.commit()
    bench.do(c.RetryDlq(queue="q", job_id=newer))
    end(bench, newer, dies=True)
    assert not died(bench), f"{again} has completed"


def test_an_older_run_that_ends_later_changes_nothing(bench: Bench):
    put(bench, every=DAY, options=ONE_ATTEMPT)
    bench.sleep(1000)
    older = bench.do(c.RunSchedule(name="s")).id
    assert bench.pull_id() == older
    newer = run(bench, dies=True)
    bench.ack(older)
    assert died(bench)["s"].job == newer
    bench.sleep(1000)
    older = bench.do(c.RunSchedule(name="s")).id
    assert bench.pull_id() == older
    run(bench, dies=False)
    bench.fail(older)
    assert not died(bench), "a newer run has completed"


def test_who_is_paused_is_looked_at_and_who_is_deleted_is_no_more(bench: Bench):
    put(bench, every=DAY, options=ONE_ATTEMPT)
    run(bench, dies=True)
    bench.do(c.PauseSchedule(name="s"))
    assert not died(bench)
    bench.do(c.ResumeSchedule(name="s"))
    assert died(bench)
    bench.do(c.DeleteSchedule(name="s"))
    assert not died(bench)


def test_what_somebody_gives_up_is_no_death(bench: Bench):
    put(bench, every=DAY, options=ONE_ATTEMPT)
    for command in (c.Discard, c.Cancel):
        bench.sleep(1000)
        bench.do(command(id=bench.do(c.RunSchedule(name="s")).id))
        assert not died(bench)


def test_slots_that_are_left_out_for_long_are_known_until_the_job_ends(bench: Bench):
    put(bench, every=MINUTE)
    bench.sleep(MINUTE)
    job_id = bench.pull_id()
    bench.sleep(MINUTE)
    begun = blocked(bench)["s"].since
    assert blocked(bench) == {"s": Blocked(str(job_id), begun)}
    bench.commit()
    bench.restart()
    assert blocked(bench) == {"s": Blocked(str(job_id), begun)}, "over restarts, too"
    for _ in range(3):
        bench.sleep(MINUTE)
    planner = bench.engine.planner
    assert blocked(bench)["s"].since == begun
    assert look_at_schedules(planner, begun + BLOCKED_MS - 1).blocking == 0
    assert look_at_schedules(planner, begun + BLOCKED_MS).blocking == 1
    bench.do(c.Cancel(id=str(job_id)))
    assert not blocked(bench)


def test_of_many_the_one_that_died_last_comes_first(bench: Bench):
    for name in ("a", "b", "c"):
        put(bench, name, every=DAY, options=ONE_ATTEMPT)
        run(bench, dies=True, name=name)
    run(bench, dies=True, name="a")
    told = look_at_schedules(bench.engine.planner, bench.now)
    assert ([name for name, _ in told.died], told.dying) == (["a", "c", "b"], 3)
    bench.commit()
    bench.restart()
    assert look_at_schedules(bench.engine.planner, bench.now).died == told.died


def test_a_job_whose_id_looks_as_that_of_a_slot_is_of_no_schedule(bench: Bench):
    bench.push(job_id="nobody@1700000000000", max_attempts=1)
    bench.fail(bench.pull().job.id)
    assert bench.engine.planner.failing.died == {}


def test_a_death_counts_whatever_became_of_newer_runs_that_somebody_gave_up(bench: Bench):
    put(bench, every=DAY, options=ONE_ATTEMPT)
    bench.sleep(1000)
    older = bench.do(c.RunSchedule(name="s")).id
    bench.sleep(1000)
    bench.do(c.Cancel(id=bench.do(c.RunSchedule(name="s")).id))
    end(bench, older, dies=True)
    assert died(bench)["s"].job == older


def test_any_run_that_is_made_behind_a_clock_that_was_ahead_ends_it(bench: Bench):
    bench.sleep(3 * DAY)
    put(bench, every=DAY, options=ONE_ATTEMPT)
    bench.push(job_id="s@9999999999999", max_attempts=1)
    end(bench, "s@9999999999999", dies=True)
    run(bench, dies=False)
    assert not died(bench), "by when it was made, not by what it is called"
    run(bench, dies=True)
    assert died(bench)
    bench.commit()
    bench.now -= 2 * DAY
    bench.restart()
    run(bench, dies=False)
    assert not died(bench)


def test_a_run_of_the_schedule_that_was_deleted_says_nothing_of_the_one_with_its_name(bench: Bench):
    put(bench, every=DAY, options=ONE_ATTEMPT)
    bench.sleep(1000)
    old = bench.do(c.RunSchedule(name="s")).id
    bench.do(c.DeleteSchedule(name="s"))
    bench.sleep(1000)
    put(bench, every=DAY, options=ONE_ATTEMPT)
    end(bench, old, dies=True)
    assert not died(bench)


def test_slots_that_run_again_or_come_no_more_are_not_left_out(bench: Bench):
    put(bench, every=MINUTE)
    bench.sleep(MINUTE)
    bench.sleep(MINUTE)
    assert blocked(bench)
    put(bench, every=MINUTE, overlap="allow")
    assert not blocked(bench)
    bench.sleep(MINUTE)
    assert not blocked(bench)
    put(bench, every=MINUTE)
    bench.sleep(MINUTE)
    assert blocked(bench)
    put(bench, every=MINUTE, limit=1)
    assert not blocked(bench)
    bench.commit()
    bench.restart()
    assert not blocked(bench)


def test_a_death_looks_at_no_other_unfinished_run(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    put(bench, every=DAY, options=ONE_ATTEMPT)
    for number in range(50):
        bench.push(job_id=f"s@{bench.now + number}", max_attempts=1)
    looked, real = [], Line.after

    def watched(line: Line[Job], job_id: str) -> Iterator[Job]:
        for job in real(line, job_id):
            looked.append(job)
            yield job

    monkeypatch.setattr(Line, "after", watched)
    for _ in range(10):
        bench.fail(bench.pull().job.id)
    assert died(bench)["s"].runs == 10
    assert len(looked) < 20
