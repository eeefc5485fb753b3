"""Leases, timeouts, connections and deadlines of the engine, in time that is an argument."""

from collections import deque
from contextlib import suppress
from functools import partial

import pytest

from bunqueue_trio.config import ADVANCE_MAX, RESTART_GRACE_MS
from bunqueue_trio.engine.engine import Rules
from bunqueue_trio.engine.job import State
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from tests.engine.make import T0, Bench

LEASE = Rules().lease


def test_a_lease_lasts_to_its_last_millisecond(bench: Bench):
    job_id = bench.push()
    bench.pull(lock_ttl=100)
    bench.sleep(99)
    assert bench.state(job_id).state == "active"
    bench.sleep(1)
    state = bench.state(job_id)
    assert (state.state, state.stalls, bench.do(c.GetJob(id=job_id)).job.attempts) == ("waiting", 1, 0)


def test_a_heartbeat_renews_by_what_was_first_given(bench: Bench):
    job_id = bench.push()
    bench.pull(lock_ttl=100)
    bench.sleep(60)
    bench.do(c.Heartbeat(id=job_id))
    assert bench.state(job_id).lease_until == bench.now + 100
    bench.do(c.Heartbeat(id=job_id, duration=7))
    assert bench.state(job_id).lease_until == bench.now + 7
    bench.do(c.Progress(id=job_id, progress=1))
    assert bench.state(job_id).lease_until == bench.now + 100


def test_the_fourth_stall_is_the_last(bench: Bench):
    job_id = bench.push()
    for stalls in range(1, 5):
        bench.pull()
        bench.sleep(LEASE)
        assert bench.state(job_id).stalls == stalls
        assert bench.state(job_id).state == ("waiting" if stalls < 4 else "failed")
    assert bench.state(job_id).error == "Job stalled 4 times"
    assert (bench.engine.totals.stalled, bench.engine.totals.lost_to_stalls) == (4, 1)


def test_a_timeout_alone_governs_its_job(bench: Bench):
    job_id = bench.push(timeout=2 * LEASE, max_attempts=1)
    bench.pull(lock_ttl=1)
    bench.sleep(2 * LEASE - 1)
    bench.do(c.Heartbeat(id=job_id, duration=1))
    assert bench.state(job_id).state == "active"
    bench.sleep(1)
    assert bench.state(job_id).error == f"Job timed out after {2 * LEASE} ms"


def test_what_a_connection_pulled_is_leased_as_long_as_it_lives(bench: Bench):
    job_id = bench.push()
    bench.pull(owner="socket")
    bench.sleep(100 * LEASE)
    assert bench.state(job_id).state == "active"
    bench.events()
    bench.engine.release_owner("socket", bench.now, dropped=False)
    assert bench.events() == [f"retried {job_id}"]
    assert (bench.state(job_id).state, bench.engine._owned) == ("waiting", {})
    bench.engine.release_owner("socket", bench.now, dropped=False)
    assert bench.events() == []


def test_a_connection_gives_back_in_the_old_order(bench: Bench):
    ids = [bench.push() for _ in range(4)]
    bench.do(c.PullBatch(queue="q", count=2), "socket")
    bench.engine.release_owner("socket", bench.now, dropped=False)
    assert [bench.pull_id() for _ in ids] == ids


def test_a_connection_that_drops_costs_each_of_its_jobs_a_stall(bench: Bench):
    ids = [bench.push(), bench.push(timeout=5 * LEASE), bench.push(), bench.push()]
    bench.do(c.PullBatch(queue="q", count=2), "socket")
    bench.do(c.PullBatch(queue="q", count=1, lock_ttl=50), "socket")
    bench.pull(owner="another")
    bench.events()
    bench.engine.release_owner("socket", bench.now, dropped=True)
    assert bench.events() == [f"stalled {job_id}" for job_id in ids[:3]]
    assert [(bench.state(job_id).state, bench.state(job_id).stalls) for job_id in ids] == [
        *[("waiting", 1)] * 3, ("active", 0),
    ]  # fmt: skip
    assert [bench.pull_id() for _ in ids[:3]] == ids[:3]


def test_a_job_that_ends_every_connection_is_dead_after_its_last_stall(bench: Bench):
    job_id = bench.push()
    for _ in range(3):
        bench.pull(owner="socket")
        bench.engine.release_owner("socket", bench.now, dropped=True)
        assert bench.state(job_id).state == "waiting"
    bench.pull(owner="socket")
    bench.engine.release_owner("socket", bench.now, dropped=True)
    state = bench.state(job_id)
    assert (state.state, state.stalls, state.error) == ("failed", 4, "Job stalled 4 times")
    assert (bench.engine._owned, bench.engine.totals.lost_to_stalls) == ({}, 1)


def test_a_released_job_is_back_in_its_place_as_if_never_delivered(bench: Bench):
    ids = [bench.push() for _ in range(2)]
    token = bench.pull(owner="socket").token
    bench.events()
    bench.do(c.Release(id=ids[0], token=token))
    assert bench.events() == [f"retried {ids[0]}"]
    assert (bench.state(ids[0]).stalls, bench.engine._owned) == (0, {})
    assert [bench.pull_id() for _ in ids] == ids


def test_a_bulk_pull_of_large_jobs_takes_fewer(bench: Bench):
    ids = [bench.push(data=b'"%s"' % (b"x" * 3_000_000)) for _ in range(4)] + [bench.push() for _ in range(3)]
    taken = bench.do(c.PullBatch(queue="q", count=10)).jobs
    assert [job.id for job in taken] == ids[:3]  # the third is the one that is over 8 MiB
    assert [job.id for job in bench.do(c.PullBatch(queue="q", count=10)).jobs] == ids[3:]


def test_a_job_given_back_needs_its_token(bench: Bench):
    job_id = bench.push()
    token = bench.pull().token
    for name, key in ((job_id, "x"), ("nobody", token)):
        bench.engine.give_back(name, key, bench.now)
        assert bench.state(job_id).state == "active"
    bench.engine.give_back(job_id, token, bench.now)
    assert bench.state(job_id).state == "waiting"
    bench.engine.give_back(job_id, token, bench.now)
    assert bench.engine.counts[State.WAITING] == 1


def test_a_deadline_that_has_passed_comes_before_giving_back(bench: Bench):
    job_id = bench.push(timeout=5, max_attempts=1)
    token = bench.pull(owner="socket").token
    bench.now += 5
    bench.engine.give_back(job_id, token, bench.now)
    assert bench.state(job_id).state == "failed"
    job_id = bench.push(timeout=5, max_attempts=1)
    bench.pull(owner="socket")
    bench.now += 5
    bench.engine.release_owner("socket", bench.now, dropped=False)
    assert bench.state(job_id).state == "failed"


def test_a_claimed_job_with_a_timeout_has_no_lease(bench: Bench):
    job_id = bench.push(timeout=2 * RESTART_GRACE_MS)
    bench.pull(owner="socket")
    bench.commit()
    bench.restart()
    bench.do(c.Heartbeat(id=job_id))
    bench.sleep(2 * RESTART_GRACE_MS - 1)
    assert (bench.state(job_id).state, bench.state(job_id).stalls) == ("active", 0)


def test_a_tie_of_grace_and_timeout_is_a_timeout(bench: Bench):
    job_id = bench.push(timeout=RESTART_GRACE_MS, backoff=7)
    bench.pull(owner="socket")
    bench.commit()
    bench.restart()
    bench.sleep(RESTART_GRACE_MS)
    assert bench.state(job_id).error == f"Job timed out after {RESTART_GRACE_MS} ms"


def test_an_avalanche_of_deadlines_is_worked_off_in_steps(bench: Bench):
    for _ in range(ADVANCE_MAX + 10):
        bench.push(delay=5)
    bench.sleep(5)
    assert bench.engine.counts[State.WAITING] == ADVANCE_MAX
    assert bench.engine.next_due() == T0 + 5
    bench.engine.advance(bench.now)
    assert bench.engine.counts[State.WAITING] == ADVANCE_MAX + 10
    assert bench.engine.next_due() is None


def test_deadlines_take_effect_in_their_order_however_late(bench: Bench):
    late, early = bench.push(delay=20), bench.push(delay=10)
    bench.sleep(1000)
    assert [bench.pull_id(), bench.pull_id()] == [early, late]


def test_the_earlier_of_both_kinds_of_deadlines_is_next(bench: Bench):
    assert bench.engine.next_due() is None
    bench.push(delay=50)
    assert bench.engine.next_due() == T0 + 50
    bench.push("other")
    bench.pull("other", lock_ttl=20)
    assert bench.engine.next_due() == T0 + 20
    bench.sleep(20)
    assert bench.engine.next_due() == T0 + 50
    bench.pull("other", lock_ttl=100)
    assert bench.engine.next_due() == T0 + 50


def test_a_job_that_was_delivered_does_not_expire(bench: Bench):
    job_id = bench.push(ttl=50)
    bench.pull(owner="socket")
    bench.engine.release_owner("socket", bench.now, dropped=False)
    assert bench.do(c.GetJob(id=job_id)).job.started_at is None, "it is not shown while it waits"
    bench.commit()
    bench.restart()
    bench.sleep(1000)
    assert bench.pull_id() == job_id


def test_a_job_whose_connection_drops_again_and_again_ends(bench: Bench):
    job_id = bench.push()
    for stalls in range(1, 5):
        bench.pull(owner="socket")
        bench.events()
        bench.engine.release_owner("socket", bench.now, dropped=True)
        assert bench.state(job_id).stalls == stalls
        assert bench.events()[0] == f"stalled {job_id}"
    assert (bench.state(job_id).state, bench.state(job_id).error) == ("failed", "Job stalled 4 times")


BEATS = {
    "heartbeat": lambda job_id, token: c.Heartbeat(id=job_id, token=token),
    "heartbeats": lambda job_id, token: c.HeartbeatBatch(ids=[job_id], tokens=None if token is None else [token]),
    "progress": lambda job_id, token: c.Progress(id=job_id, token=token, progress=1),
    "extend-lock": lambda job_id, token: c.ExtendLock(id=job_id, token=token, duration=5),
}


@pytest.mark.parametrize("beat", BEATS)
@pytest.mark.parametrize("dropped", [False, True])
def test_a_job_comes_over_to_another_connection_of_its_worker(bench: Bench, beat: str, dropped: bool):
    """The old one hangs, and nobody knows it: when it ends, whatever way, the job is not its own any more."""
    job_id = bench.push()
    bench.do(c.RegisterWorker(worker_id="w"), "old")
    token = bench.pull(owner="old").token
    bench.do(c.RegisterWorker(worker_id="w"), "new")
    bench.sleep(10)
    bench.do(BEATS[beat](job_id, token), "new")
    bench.events()
    bench.engine.release_owner("old", bench.now, dropped=dropped)
    assert (bench.events(), bench.state(job_id).state, bench.state(job_id).stalls) == ([], "active", 0)
    [worker] = bench.do(c.ListWorkers()).data.workers
    assert ([job.id for job in worker.jobs], worker.last_seen) == ([job_id], bench.now)
    bench.engine.release_owner("new", bench.now, dropped=dropped)
    assert (bench.state(job_id).state, bench.engine._owned) == ("waiting", {})


@pytest.mark.parametrize("beat", BEATS)
def test_what_comes_late_from_a_connection_that_was_left_behind_takes_no_job_back(bench: Bench, beat: str):
    """Its network is there again for a moment: with the last heartbeats, and its end behind them."""
    job_id = bench.push()
    bench.do(c.RegisterWorker(worker_id="w"), "old")
    token = bench.pull(owner="old").token
    bench.do(c.RegisterWorker(worker_id="w"), "new")
    bench.do(BEATS[beat](job_id, token), "new")
    bench.do(BEATS[beat](job_id, token), "old")
    bench.engine.release_owner("old", bench.now, dropped=True)
    assert (bench.state(job_id).state, bench.state(job_id).stalls) == ("active", 0)
    assert bench.engine.workers.left_behind == set()
    bench.do(c.RegisterWorker(worker_id="w"), "next")
    bench.do(BEATS[beat](job_id, token), "next")
    bench.engine.release_owner("new", bench.now, dropped=True)
    assert bench.state(job_id).state == "active"


@pytest.mark.parametrize("beat", BEATS)
@pytest.mark.parametrize("who", ["another worker", "nobody", "no connection", "no token", "the wrong token"])
def test_a_job_stays_with_its_connection_whoever_else_speaks_for_it(bench: Bench, beat: str, who: str):
    """A program that only reports how far a job is may come and go."""
    if beat == "extend-lock" and who == "no token":
        return
    job_id = bench.push()
    bench.do(c.RegisterWorker(worker_id="w"), "old")
    token = bench.pull(owner="old").token
    if who != "nobody":
        bench.do(c.RegisterWorker(worker_id="v" if who == "another worker" else "w"), "new")
    said = {"no token": None, "the wrong token": "x"}.get(who, token)
    with suppress(Refused):
        bench.do(BEATS[beat](job_id, said), None if who == "no connection" else "new")
    bench.engine.release_owner("new", bench.now, dropped=True)
    assert bench.state(job_id).state == "active"
    bench.engine.release_owner("old", bench.now, dropped=True)
    assert (bench.state(job_id).state, bench.engine._owned) == ("waiting", {})


@pytest.mark.parametrize("beat", ["heartbeat", "progress"])
@pytest.mark.parametrize("thief", ["another worker", "a connection", "no connection"])
def test_after_a_restart_whoever_has_the_token_gets_the_job_back_from_whoever_claimed_it_without(
    bench: Bench, beat: str, thief: str
):
    job_id = bench.push()
    bench.do(c.RegisterWorker(worker_id="w"), "old")
    token = bench.pull(owner="old").token
    bench.commit()
    bench.restart()
    if thief == "another worker":
        bench.do(c.RegisterWorker(worker_id="v"), "thief")
    bench.do(BEATS[beat](job_id, None), None if thief == "no connection" else "thief")
    bench.do(c.RegisterWorker(worker_id="w"), "new")
    bench.do(BEATS[beat](job_id, token), "new")
    bench.do(BEATS[beat](job_id, None), "thief")
    bench.engine.release_owner("thief", bench.now, dropped=True)
    assert (bench.state(job_id).state, bench.state(job_id).stalls) == ("active", 0)
    [worker] = [each for each in bench.do(c.ListWorkers()).data.workers if each.jobs]
    assert (worker.id, [job.id for job in worker.jobs]) == ("w", [job_id])
    bench.engine.release_owner("new", bench.now, dropped=True)
    assert (bench.state(job_id).state, bench.engine._owned) == ("waiting", {})


@pytest.mark.parametrize("beat", BEATS)
def test_after_a_restart_the_token_gets_the_job_back_over_http_too(bench: Bench, beat: str):
    job_id = bench.push()
    token = bench.pull(owner="old").token
    bench.commit()
    bench.restart()
    bench.do(c.Heartbeat(id=job_id), "thief")
    bench.do(BEATS[beat](job_id, token), None)
    bench.engine.release_owner("thief", bench.now, dropped=True)
    assert (bench.state(job_id).state, bench.state(job_id).stalls) == ("active", 0)
    assert not [each for each in bench.do(c.ListWorkers()).data.workers if each.jobs]
    bench.do(c.Ack(id=job_id, token=token), None)
    assert bench.state(job_id).state == "completed"


def test_a_worker_without_tokens_claims_its_jobs_after_a_restart(bench: Bench):
    job_id = bench.push()
    bench.pull(owner="old")
    bench.commit()
    bench.restart()
    bench.do(c.Heartbeat(id=job_id), "new")
    bench.sleep(LEASE)
    assert bench.state(job_id).state == "active"
    bench.engine.release_owner("new", bench.now, dropped=False)
    assert bench.state(job_id).state == "waiting"


def test_a_job_that_comes_over_keeps_the_lease_that_it_had(bench: Bench):
    ids = [bench.push(), bench.push(), bench.push(timeout=LEASE)]
    bench.do(c.RegisterWorker(worker_id="w"), "old")
    tokens = [bench.pull(owner="old", lock_ttl=ttl).token for ttl in (None, 100, None)]
    bench.do(c.RegisterWorker(worker_id="w"), "new")
    bench.sleep(60)
    bench.do(c.HeartbeatBatch(ids=ids, tokens=tokens), "new")
    assert [bench.state(job_id).lease_until for job_id in ids] == [None, bench.now + 100, None]
    bench.sleep(100)
    assert [bench.state(job_id).state for job_id in ids] == ["active", "waiting", "active"]
    bench.sleep(LEASE)
    assert bench.state(ids[2]).error == f"Job timed out after {LEASE} ms"


def test_a_job_comes_over_while_its_connection_is_being_given_up(bench: Bench):
    """Of one that holds very many, not all go back in the same step."""
    ids = [bench.push() for _ in range(3)]
    bench.do(c.RegisterWorker(worker_id="w"), "old")
    taken = bench.do(c.PullBatch(queue="q", count=3), "old")
    bench.do(c.RegisterWorker(worker_id="w"), "new")
    bench.engine.left = 1
    bench.engine._losses.append((partial(bench.engine._lose_owner, "old", True), deque(bench.engine._owned["old"])))
    bench.engine._work_off(bench.now)
    bench.engine.left = 0
    last = taken.jobs[-1].id
    bench.engine.renew(bench.engine.jobs[last], bench.now, None, "new", proven=True)
    bench.sleep(1)
    assert [bench.state(job_id).state for job_id in ids] == ["waiting", "waiting", "active"]


def test_after_a_restart_the_job_that_is_active_for_longest_comes_first(bench: Bench):
    bench.push()
    last = bench.push(priority=5)
    assert bench.pull().job.id == last
    bench.sleep(10)
    bench.pull()
    bench.commit()
    bench.restart()
    assert next(iter(bench.engine.queues["q"].active)).id == last


def test_who_has_a_job_may_be_known_to_nobody(bench: Bench):
    job_id = bench.push()
    bench.pull()
    job = bench.engine.jobs[job_id]
    bench.engine.workers.let_go(job)
    assert job.lease is not None
    assert job.lease.worker is None
