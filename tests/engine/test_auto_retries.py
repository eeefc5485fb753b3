"""Dead letters that wait again by themselves: each at its time, so often, over crashes, and those that nobody wants back never."""

from typing import Any

import pytest

from bunqueue_trio.config import AUTO_RETRY_SLICE
from bunqueue_trio.engine import auto_retries
from bunqueue_trio.engine.auto_retries import AUTO_RETRY
from bunqueue_trio.engine.auto_retrying import auto_slice
from bunqueue_trio.engine.trails import ATTEMPTS
from bunqueue_trio.errors import StoreError
from bunqueue_trio.protocol import commands as c
from tests.engine.make import Bench


def begin(bench: Bench, queue: str = "q", **how: Any) -> None:
    said = {"auto_retry": True, "auto_retry_interval": 1000, "max_auto_retries": 2} | how
    bench.do(c.SetDlqConfig(queue=queue, **said))


def die(bench: Bench, queue: str = "q", error: str = "boom", **how: Any) -> str:
    """Let the next job of a queue die, and be a record."""
    job_id = bench.pull_id(queue)
    assert job_id is not None
    bench.do(c.Fail(id=job_id, error=error, **how))
    bench.commit()
    return job_id


def dead(bench: Bench, queue: str = "q", **options: Any) -> str:
    job_id = bench.push(queue, max_attempts=1, **options)
    assert die(bench, queue) == job_id
    return job_id


def go_on(bench: Bench, ms: int = 0) -> list[str]:
    """What the runtime does in this time; return which jobs were retried."""
    bench.sleep(ms)
    bench.events()
    while (name := bench.engine.auto_retries.pop_due(bench.now)) is not None:
        auto_slice(bench.engine, name, bench.now)
    retried = [event.removeprefix("pushed ") for event in bench.events() if event.startswith("pushed ")]
    bench.commit()
    return retried


def why(bench: Bench, job_id: str) -> tuple[str, int | None]:
    told = bench.do(c.Why(id=job_id))
    return told.why, told.until


def test_the_list_says_how_often_and_when_a_dead_letter_is_retried(bench: Bench):
    def listed() -> tuple[int, int | None]:
        (entry,) = bench.do(c.Dlq(queue="q")).entries
        return entry.retry_count, entry.next_retry_at

    dead(bench)
    assert listed() == (0, None)
    bench.do(c.PurgeDlq(queue="q"))
    begin(bench)
    dead(bench)
    assert listed() == (0, bench.now + 1000)
    go_on(bench, 1000)
    die(bench)
    assert listed() == (1, bench.now + 1000)
    go_on(bench, 1000)
    die(bench)
    assert listed() == (2, None)


def test_a_dead_letter_waits_again_at_its_time_and_so_often(bench: Bench):
    begin(bench)
    assert go_on(bench) == []
    job_id = dead(bench)
    died = bench.now
    assert bench.engine.auto_retries.due == died + 1000
    assert go_on(bench, 999) == []
    assert why(bench, job_id) == (
        "It is a dead letter (max_attempts_exceeded, attempt 1 of 1) for 999 ms, which the server retries by itself (1 of 2) in 1 ms: boom",
        died + 1000,
    )
    assert go_on(bench, 1) == [job_id]
    assert bench.state(job_id).state == "waiting"
    assert die(bench, error="again\nand a stack") == job_id
    assert go_on(bench, 1000) == [job_id]
    [line] = bench.do(c.GetLogs(id=job_id)).data.logs
    assert (line.timestamp, line.message) == (bench.now, "Retried by the server, 2 of 2, after: again")
    assert die(bench) == job_id
    assert bench.engine.auto_retries.due == bench.now + 1000
    assert go_on(bench, 10**7) == []
    assert bench.engine.auto_retries.due is None
    assert why(bench, job_id) == (
        "It is a dead letter (max_attempts_exceeded, attempt 1 of 1) for 2 h 46 min, after 2 of 2 retries by the server: boom",
        None,
    )
    assert bench.engine.totals.auto_retried == 2


def test_who_retries_it_by_hand_gives_it_all_of_them_again(bench: Bench):
    begin(bench, max_auto_retries=1)
    job_id = dead(bench)
    assert go_on(bench, 1000) == [job_id]
    die(bench)
    assert go_on(bench, 1000) == []
    bench.do(c.RetryDlq(queue="q", job_id=job_id))
    bench.commit()
    die(bench)
    assert go_on(bench, 1000) == [job_id]


def test_no_crash_retries_one_twice_or_forgets_one(bench: Bench):
    """A crash before each commit, and one after it."""
    begin(bench)
    bench.commit()
    job_id = dead(bench)
    bench.restart()
    bench.sleep(1000)
    assert bench.engine.auto_retries.pop_due(bench.now) == "q"
    auto_slice(bench.engine, "q", bench.now)
    bench.restart()
    assert bench.state(job_id).state == "failed"
    assert go_on(bench) == [job_id]
    bench.restart()
    assert go_on(bench, 5000) == []
    die(bench)
    bench.restart()
    assert go_on(bench) == []
    assert go_on(bench, 1000) == [job_id]
    die(bench)
    bench.restart()
    assert go_on(bench, 10**6) == []
    assert bench.state(job_id).state == "failed"


def test_a_place_that_a_start_gives_anew_hides_nobody(bench: Bench):
    """The newest record is passed and goes; after a restart the next one to die has its place, over two restarts."""
    begin(bench, max_auto_retries=1)
    first = dead(bench)
    assert go_on(bench, 1000) == [first]
    die(bench)
    assert go_on(bench, 1000) == []
    bench.do(c.PurgeDlq(queue="q", job_id=first))
    bench.commit()
    bench.restart()
    second = dead(bench)
    bench.restart()
    assert go_on(bench, 1000) == [second]


def test_those_that_died_before_are_none_of_it(bench: Bench):
    old = dead(bench)
    bench.sleep(1)
    begin(bench)
    assert go_on(bench, 10**6) == []
    assert why(bench, old)[0].endswith("for 16 min: boom")
    new = dead(bench)
    assert go_on(bench, 1000) == [new]
    uncommitted = bench.push(max_attempts=1)
    assert bench.pull_id() == new
    assert bench.pull_id() == uncommitted
    bench.fail(uncommitted)
    bench.sleep(1)
    bench.do(c.ClearDlqConfig(queue="q"))
    begin(bench)
    bench.commit()
    assert go_on(bench, 10**6) == []


def test_the_rule_that_holds_is_that_of_the_moment(bench: Bench):
    begin(bench, auto_retry_interval=10**6)
    job_id = dead(bench)
    assert go_on(bench, 1000) == []
    begin(bench, auto_retry_interval=2000)
    assert bench.engine.auto_retries.due == 0
    assert go_on(bench) == []
    assert bench.engine.auto_retries.due == bench.now + 1000
    bench.do(c.SetDlqConfig(queue="q", auto_retry=False))
    assert go_on(bench, 10**6) == []
    assert why(bench, job_id)[0].endswith("for 16 min: boom")
    assert not bench.engine.facts.of(AUTO_RETRY)


def test_what_nobody_wants_back_stays_dead(bench: Bench):
    begin(bench)
    cancelled, discarded, given_up = (bench.push() for _ in range(3))
    bench.do(c.Cancel(id=cancelled, reason="no"))
    bench.do(c.Discard(id=discarded))
    die(bench, unrecoverable=True)
    gone = bench.push(max_attempts=1, remove_on_fail=True)
    die(bench)
    assert go_on(bench, 10**6) == []
    assert [bench.state(job_id).state for job_id in (cancelled, discarded, given_up)] == ["failed"] * 3
    assert bench.do(c.GetDlqConfig(queue="q")).config.auto_retry
    assert gone not in bench.engine.jobs


def test_what_stands_in_the_way_when_its_time_comes_leaves_it_dead(bench: Bench):
    begin(bench)
    job_id = dead(bench, unique_key="k")
    other = bench.push(unique_key="k")
    assert go_on(bench, 1000) == []
    bench.do(c.Cancel(id=other))
    bench.commit()
    assert go_on(bench, 10**6) == []
    told, until = why(bench, job_id)
    assert "for 16 min, and something stood in the way of the next when it was due: boom" in told
    assert until is None


def test_one_that_depends_on_another_waits_again_behind_it(bench: Bench):
    begin(bench)
    needed = bench.push(max_attempts=1)
    needs = bench.push(max_attempts=1, depends_on=[needed])
    die(bench)
    assert go_on(bench, 1000) == [needed, needs]
    assert bench.state(needs).state == "waiting-children"


def test_muted_and_fixed_errors_are_retried_like_others(bench: Bench):
    begin(bench)
    job_id = dead(bench)
    [group] = bench.do(c.DlqGroups(queue="q")).groups
    bench.do(c.MarkGroup(fingerprint=group.fingerprint, mark="muted"))
    assert go_on(bench, 1000) == [job_id]


def test_it_goes_through_many_a_few_at_a_time_and_in_their_order(bench: Bench):
    begin(bench)
    ids = [bench.push(max_attempts=1) for _ in range(3 * AUTO_RETRY_SLICE)]
    for _ in ids:
        bench.fail(bench.pull_id() or "")
    bench.commit()
    bench.sleep(1000)
    assert bench.engine.auto_retries.pop_due(bench.now) == "q"
    auto_slice(bench.engine, "q", bench.now)
    assert bench.engine.totals.auto_retried == AUTO_RETRY_SLICE
    assert bench.engine.auto_retries.due == bench.now
    bench.commit()
    go_on(bench)
    assert [bench.pull_id() for _ in ids] == ids


def test_a_record_that_waits_to_go_holds_up_nobody(bench: Bench):
    begin(bench)
    ids = [dead(bench) for _ in range(AUTO_RETRY_SLICE + 1)]
    for job_id in ids[:-1]:
        bench.do(c.PurgeDlq(queue="q", job_id=job_id))
    assert go_on(bench, 1000) == [ids[-1]]


def test_one_that_dies_later_in_the_same_batch_is_kept_behind(bench: Bench):
    """What a batch writes stands in the order of the first changes; the order of the ends counts."""
    begin(bench)
    first, second = (bench.push(max_attempts=1) for _ in range(2))
    bench.commit()
    assert [bench.pull_id(), bench.pull_id()] == [first, second]
    bench.fail(second)
    bench.sleep(500)
    bench.fail(first)
    bench.commit()
    assert go_on(bench, 500) == [second]
    assert bench.engine.auto_retries.due == bench.now + 500
    assert go_on(bench, 500) == [first]


def test_queues_come_one_after_the_other(bench: Bench):
    begin(bench, "q")
    begin(bench, "r", auto_retry_interval=500)
    jobs = [dead(bench, "q"), dead(bench, "r")]
    stays = dead(bench, "s")
    autos = bench.engine.auto_retries
    go_on(bench)
    assert autos.due == bench.now + 500
    assert go_on(bench, 500) == jobs[1:]
    autos.rests_until = bench.now + 700
    assert autos.due == bench.now + 700
    assert go_on(bench, 699) == []
    assert go_on(bench, 1) == jobs[:1]
    assert bench.state(stays).state == "failed"


def test_many_changes_of_a_rule_leave_nothing_behind(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(auto_retries, "_SWEEP_MIN", 4)
    begin(bench)
    dead(bench)
    for n in range(100):
        begin(bench, auto_retry_interval=1000 - n)
        go_on(bench)
    assert len(bench.engine.auto_retries._looks) <= 10
    bench.do(c.Obliterate(queue="q"))
    bench.do(c.Obliterate(queue="q"))
    assert (bench.engine.auto_retries, bench.engine.auto_retries.due) == ({}, None)


def test_a_queue_whose_retries_are_switched_off_meanwhile_retries_nothing(bench: Bench):
    begin(bench)
    job_id = dead(bench)
    bench.do(c.ClearDlqConfig(queue="q"))
    bench.sleep(1000)
    auto_slice(bench.engine, "q", bench.now)
    assert bench.state(job_id).state == "failed"


def test_nothing_is_changed_where_the_records_cannot_be_read(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: Any, **__: Any) -> None:
        raise StoreError("unreadable")

    bench.commit()
    monkeypatch.setattr(bench.disk, "records", refuse)
    with pytest.raises(StoreError):
        begin(bench)
    assert not bench.engine.has_changes
    assert not bench.do(c.GetDlqConfig(queue="q")).config.auto_retry


def test_its_attempts_begin_anew_with_each_retry(bench: Bench):
    begin(bench)
    job_id = dead(bench)
    go_on(bench, 1000)
    assert bench.engine.trail(ATTEMPTS, job_id, None, 9, newest=False).total == 0
    die(bench)
    assert bench.engine.trail(ATTEMPTS, job_id, None, 9, newest=False).total == 1


def test_it_says_when_one_is_about_to_be_retried(bench: Bench):
    begin(bench)
    job_id = dead(bench)
    bench.sleep(1500)
    assert "for 1.5 s, which the server is about to retry (1 of 2): boom" in why(bench, job_id)[0]


def test_a_clock_that_is_set_back_costs_nobody_its_retry(bench: Bench):
    """Who died before has its time behind those that died since; it is waited for, and not passed."""
    begin(bench)
    bench.now += 600_000
    first = dead(bench)
    bench.now -= 300_000
    second = dead(bench)
    assert go_on(bench, 1000) == []
    assert go_on(bench, 300_000) == [first, second]
