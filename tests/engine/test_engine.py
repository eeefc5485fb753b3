"""Time, leases, connections, restarts and commits: the runtime's side of the engine."""

import random
import sys

import pytest
from msgspec import Raw

from bunqueue_trio.config import RESTART_GRACE_MS
from bunqueue_trio.engine import moves as module
from bunqueue_trio.engine.engine import Rules
from bunqueue_trio.protocol import commands as c
from tests.engine.make import Bench, make_job

LEASE = Rules().lease


def test_a_restart_keeps_leases_timeouts_and_tokens(bench: Bench):
    ids = [bench.push(), bench.push(timeout=70)]
    token = bench.do(c.PullBatch(queue="q", count=2, lock_ttl=50)).tokens[0]
    bench.commit()
    bench.now += 20
    bench.restart()
    bench.sleep(29)
    bench.do(c.Heartbeat(id=ids[0], token=token))
    bench.sleep(21)
    assert [bench.state(job_id).state for job_id in ids] == ["active", "delayed"]


def test_a_job_of_a_connection_has_a_grace_after_a_restart(bench: Bench):
    for how in ("claimed", "left", "claimed over HTTP"):
        bench.push(job_id=how)
    bench.do(c.PullBatch(queue="q", count=3), "socket")
    bench.commit()
    bench.restart()
    assert bench.engine._owned == {}
    bench.sleep(RESTART_GRACE_MS - 1)
    bench.do(c.Heartbeat(id="claimed"), "new socket")
    bench.do(c.Heartbeat(id="claimed over HTTP"))
    bench.events()
    bench.sleep(1)
    assert bench.events() == ["retried left"]
    assert bench.state("left").stalls == 0
    assert bench.state("claimed").lease_until is None
    assert bench.state("claimed over HTTP").lease_until == bench.now - 1 + LEASE
    bench.engine.release_owner("new socket", bench.now, dropped=False)
    assert bench.state("claimed").state == "waiting"


def test_a_dependency_that_is_done_is_written_though_its_record_is_gone(bench: Bench):
    first, second = bench.push(), bench.push(delay=1000)
    last = bench.push(depends_on=[first, second])
    bench.commit()
    bench.pull()
    bench.ack(first)
    bench.commit()
    del bench.disk.finished[first]
    bench.restart()
    bench.sleep(0)
    assert bench.state(last).state == "waiting-children"


def test_a_job_that_keeps_no_record_is_known_to_be_gone_until_that_is_taken(bench: Bench):
    """A read may be answered with it only when it is committed."""
    cancelled, dead = bench.push("other"), bench.push(remove_on_fail=True, max_attempts=1)
    bench.commit()
    bench.do(c.Cancel(id=cancelled))
    bench.pull()
    bench.fail(dead)
    assert [bench.engine.is_removed(job_id) for job_id in (cancelled, dead, "another")] == [True, True, False]
    bench.commit()
    assert not bench.engine.is_removed(dead)


@pytest.mark.parametrize("options", [{}, {"max_attempts": 9}], ids=["no options", "options"])
def test_a_new_job_comes_after_jobs_that_were_retried_before_a_restart(bench: Bench, options: dict[str, int]):
    first, second = bench.push(**options), bench.push(**options)
    for _ in range(4):
        bench.fail(bench.pull_id())
        bench.sleep(2000)
    bench.commit()
    bench.restart()
    order = [first, second, bench.push()]
    assert [bench.pull_id() for _ in order] == order


def test_a_new_job_comes_after_a_retried_one_that_was_active_at_a_restart(bench: Bench):
    old = bench.push()
    for _ in range(2):
        bench.fail(bench.pull_id())
        bench.sleep(2000)
    bench.pull(owner="socket")
    bench.commit()
    bench.restart()
    order = [old, bench.push()]
    bench.sleep(RESTART_GRACE_MS)
    assert [bench.pull_id() for _ in order] == order


def test_a_restart_keeps_all_of_a_mixed_backlog_in_its_order(bench: Bench):
    """Queues and priorities in turns, newest first and oldest first, and some that were tried before."""
    rng = random.Random(1)
    for _ in range(200):
        bench.push(rng.choice("ab"), priority=rng.choice((-1, 0, 7)), lifo=rng.random() < 0.3)
    for name in "abab":
        bench.do(c.PullBatch(queue=name, count=9), "socket")
        bench.engine.release_owner("socket", bench.now, dropped=False)
        bench.fail(bench.pull_id(name))
    bench.sleep(1000)
    bench.commit()
    pulled = []
    for restarted in (False, True):
        if restarted:
            bench.restart()
        pulled.append([[bench.pull_id(name) for _ in range(120)] for name in "ab"])
    assert pulled[0] == pulled[1]
    assert sum(job is not None for ids in pulled[1] for job in ids) == 200


def test_a_restart_keeps_order_keys_and_dependents(bench: Bench):
    ids = [bench.push(lifo=n == 3, unique_key=f"k{n}") for n in range(5)]
    children = [bench.push(depends_on=[ids[3]]) for _ in range(5)]
    bench.commit()
    bench.restart()
    assert bench.push(unique_key="k2") == ids[2]
    new = bench.push()
    assert bench.pull_id() == ids[3]
    bench.ack(ids[3])
    order = [ids[0], ids[1], ids[2], ids[4], new, *children]
    assert [bench.pull_id() for _ in order] == order


def test_what_was_not_committed_is_gone_after_a_restart(bench: Bench):
    kept = bench.push()
    bench.commit()
    bench.push()
    bench.pull()
    bench.restart()
    assert list(bench.engine.jobs) == [kept]
    assert bench.state(kept).state == "waiting"


def test_a_take_begins_a_new_epoch(bench: Bench):
    job_id = bench.push()
    changes = bench.engine.take()
    assert (changes.epoch, [job.id for job in changes.jobs], len(changes.events)) == (1, [job_id], 1)
    assert bench.engine.jobs[job_id].epoch == 1
    empty = bench.engine.take()
    assert (empty.epoch, list(empty.jobs), empty.events, empty.reused_ids) == (2, [], [], [])
    assert bench.engine.epoch == 3


def test_a_pull_tells_the_newest_epoch_it_gave_from(bench: Bench):
    for _ in range(3):
        bench.push()
        bench.commit()
    bench.engine.handed = 0
    bench.do(c.PullBatch(queue="q", count=2))
    assert bench.engine.handed == 2
    bench.pull()
    assert bench.engine.handed == 3
    bench.commit()
    bench.restart()
    bench.engine.release_owner("nobody", bench.now, dropped=False)
    assert bench.engine.handed == 0


def test_where_another_server_may_take_over_every_delivery_waits_for_its_own_commit():
    bench = Bench(Rules(fenced=True))
    bench.push()
    bench.commit()
    bench.engine.handed = 0
    assert bench.pull() is not None
    assert bench.engine.handed == bench.engine.epoch


def test_each_way_to_become_ready_wakes_the_queue(bench: Bench):
    woken = bench.engine.woken

    def leave(owner: str, *, dropped: bool) -> None:
        bench.engine.release_owner(owner, bench.now, dropped=dropped)

    steps = {
        "pushed": lambda: bench.push("a"),
        "given back": lambda: (bench.pull("a", owner="s"), woken.clear(), leave("s", dropped=False)),
        "dropped": lambda: (bench.pull("a", owner="s"), woken.clear(), leave("s", dropped=True)),
        "stalled": lambda: (bench.pull("a"), woken.clear(), bench.sleep(LEASE)),
        "retried": lambda: (bench.fail(bench.pull_id("a")), woken.clear(), bench.sleep(1000)),
    }
    for step in steps.values():
        woken.clear()
        step()
        assert woken == {"a": None}
    woken.clear()
    bench.push("b", depends_on=[bench.pull_id("a")])
    assert woken == {}
    bench.ack(next(iter(bench.engine.jobs)))
    assert woken == {"b": None}


def test_a_finished_job_stays_in_memory_until_its_end_is_committed(bench: Bench):
    job_id = bench.push()
    bench.pull()
    bench.commit()
    bench.ack(job_id)
    assert job_id in bench.engine.jobs
    bench.commit()
    assert bench.engine.jobs == {}
    assert bench.state(job_id).state == "completed"


def test_a_job_that_ends_while_its_batch_is_written_is_not_forgotten_with_it(bench: Bench):
    """Else it would be unknown to everybody until the batch that holds its end is committed."""
    job_id = bench.push(data=Raw(b"[1]"))
    bench.pull()
    changes = bench.engine.take()
    bench.ack(job_id)
    bench.engine.forget(changes.jobs)
    assert bench.state(job_id).state == "completed"
    assert bytes(bench.do(c.GetJob(id=job_id)).job.data) == b"[1]"


def test_a_job_cancelled_while_its_batch_is_written_is_gone(bench: Bench):
    job_id = bench.push()
    changes = bench.engine.take()
    bench.do(c.Cancel(id=job_id))
    bench.engine.forget(changes.jobs)
    assert [job.id for job in bench.engine.take().jobs] == [job_id]
    assert bench.engine.jobs == {}


def test_a_replaced_record_is_not_seen_again_before_its_replacement_is_committed(bench: Bench):
    bench.push(job_id="mine")
    bench.pull()
    bench.ack("mine")
    bench.commit()
    bench.push(job_id="mine")
    bench.do(c.Cancel(id="mine"))
    assert bench.engine.find("mine") is None
    changes = bench.engine.take()
    archived = bench.engine.archived_outcomes(["mine"])
    assert (bench.engine.find("mine"), bench.engine.outcome("mine", archived)) == (None, None)
    bench.disk.finished.clear()
    bench.engine.forget(changes.jobs)
    assert (changes.reused_ids, bench.engine._reused_in_flight) == (["mine"], {})


def test_a_payload_does_not_outlive_its_job(bench: Bench):
    """Entries that are left in a heap are swept late; they must not keep megabytes until then."""
    job_id = bench.push(data=Raw(b"[" + b"0," * 1000 + b"0]"))
    job = bench.engine.jobs[job_id]
    bench.pull()
    bench.ack(job_id)
    bench.commit()
    assert (job.data, job.note) == (b"", None)


def test_idle_queues_are_kept_up_to_a_number(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "QUEUES_IDLE_MAX", 3)
    for n in range(10):
        bench.do(c.Cancel(id=bench.push(f"q{n}")))
    assert len(bench.engine.queues) == 3
    ids = [bench.push(f"busy{n}") for n in range(10)]
    assert len(bench.engine.queues) == 13
    for job_id in ids:
        bench.do(c.Cancel(id=job_id))
    assert len(bench.engine.queues) == 3


def test_two_engines_with_the_same_calls_are_the_same():
    def life() -> list[str]:
        bench = Bench()
        for n in range(50):
            bench.push(priority=n % 3, delay=n % 4)
            bench.sleep(1)
            bench.pull(lock_ttl=3)
        return bench.events()

    assert life() == life()


def test_a_waiting_job_is_small():
    """Memory follows the backlog: a million waiting jobs of 50 bytes must fit in half a gigabyte."""
    job = make_job()
    assert sys.getsizeof(job) <= 200
    assert (job.lease, job.note) == (None, None)


def test_all_attributes_are_in_slots_where_any_number_is_quick_to_reach(bench: Bench):
    assert vars(bench.engine) == {}
