"""The rules about a cluster: what they say of a picture of it, and that they say nothing of a good one."""

from typing import Any

import pytest
import trio
import trio.testing
from msgspec.structs import replace

from bunqueue_trio.pages.cluster_findings import CHANGES_MAX, DOOR_QUEUE_MAX
from bunqueue_trio.pages.findings import Finding, Picture, find
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.cluster import ClusterFigures, ClusterWatch, troubles, who_is_missed
from bunqueue_trio.runtime.history import Past
from bunqueue_trio.runtime.statistics import DoorQueue, Doors, Statistics
from bunqueue_trio.storage.awaited import Leading
from bunqueue_trio.storage.cluster import Cluster, Replica, Table, Term, Waiting, failover
from bunqueue_trio.storage.memory import MemoryStore
from tests.storage.distant import DistantStore, Watching
from tests.ui.test_findings import GOOD, MINUTE, NOW

LED = Leading(7, 9.0, 1234, 10.0, 3)
TERMS = [
    Term(7, "b process 3", "2", NOW - 10 * MINUTE),
    Term(6, "a process 2", "2", NOW - 300 * MINUTE, NOW - 10 * MINUTE - 9000, "silent"),
]
WAITS = Waiting("c process 9", "2", NOW - 400 * MINUTE, 1.5, "10.0.0.3", True, 12, 3)
WELL = Cluster(
    7, "b process 3", "2", "10.0.0.2:6791", True, 0.4, 10.0, NOW - 10 * MINUTE, TERMS, [WAITS], [],
    [Replica("east", "streaming", "async", 4096, 0.2)], failover(5000, 10.0, 5000, 0.5),
    [Table("job", 1 << 20, 5000, 90_000)], 3.0, 0.8,
)  # fmt: skip


def told(known: Cluster | None = WELL, led: Leading = LED, **fields: Any) -> Statistics:
    since = {} if known is None else dict.fromkeys(troubles(known, led, NOW), NOW - 3 * MINUTE)
    return replace(GOOD, **{"leading": led, "cluster": ClusterFigures(known, NOW, since), "is_sure": True} | fields)


def found(statistics: Statistics) -> list[Finding]:
    return find(Picture(statistics, [], Past()))


def the(statistics: Statistics, code: str, alert: str | None) -> Finding:
    (finding,) = found(statistics)
    assert (finding.code, finding.alert) == (code, alert)
    return finding


def test_nothing_is_said_of_a_good_cluster_nor_where_there_is_none():
    assert found(told()) == []
    assert found(told(None)) == []
    assert found(GOOD) == []


def test_a_leader_that_changes_again_and_again():
    terms = [
        Term(9 - n, f"b process {n}", "2", NOW - n * MINUTE, NOW - n * MINUTE + 9, "silent" if n else None)
        for n in range(3)
    ]
    finding = the(told(WELL._replace(terms=terms)), "leader-changes", "BunqueueLeaderChanges")
    assert finding.title == "The leader has changed 3 times within an hour"
    assert (finding.since, finding.numbers) == (NOW - 2 * MINUTE, {"changes": 3, "silent": 2})
    assert "ran out of memory" in finding.cause
    assert finding.evidence == (
        "Term 8, b process 1: not heard of for its lease. Term 7, b process 2: not heard of for its lease."
    )
    stopped = [term._replace(ended=term.ended and "stopped") for term in terms]
    assert (
        "stopped again and again"
        in the(told(WELL._replace(terms=stopped)), "leader-changes", "BunqueueLeaderChanges").cause
    )
    assert found(told(WELL._replace(terms=terms[:CHANGES_MAX]))) == [], "an upgrade"
    first = [terms[0]._replace(term=3), terms[1]._replace(term=2), terms[2]._replace(term=1)]
    assert found(told(WELL._replace(terms=first))) == [], "the first one followed nobody"


def test_a_lease_that_is_hardly_kept():
    finding = the(told(led=LED._replace(lease_left_s=3.9)), "lease-short", "BunqueueLeaseShort")
    assert (finding.since, finding.numbers) == (NOW - 6100, {"leaseLeftMs": 3900, "leaseMs": 10_000})
    assert finding.title == "This server could not say for 6.1 s that it leads"
    assert "Another server leads in 3.9 s" in finding.evidence
    assert found(told(led=LED._replace(lease_left_s=4.0))) == []
    lost = told(led=LED._replace(lease_left_s=0), is_sure=False)
    assert [each.code for each in found(lost)] == ["not-sure"], "which says more"


def test_a_standby_that_is_missing():
    alone = WELL._replace(waiting=[])
    finding = the(told(alone), "standby-missing", "BunqueueStandbyMissing")
    assert (finding.title, finding.since) == ("No other server would take over", NOW - 3 * MINUTE)
    assert finding.cause.startswith("a process 2 is gone"), "it has led before"
    gone = alone._replace(missing=[WAITS._replace(seen_s=400)], terms=TERMS[:1])
    finding = the(told(gone), "standby-missing", "BunqueueStandbyMissing")
    assert (finding.numbers, "c process 9 was heard of 6 min ago." in finding.evidence) == ({"missing": 1}, True)


def test_who_runs_alone_misses_nobody():
    alone = WELL._replace(waiting=[])
    assert who_is_missed(alone, NOW) == "a process 2"
    for terms in (
        TERMS[:1],  # the first term
        [TERMS[0], TERMS[1]._replace(ended="stopped")],  # somebody wanted that
        [TERMS[0], TERMS[1]._replace(holder="b process 1")],  # started again on the same machine
        [TERMS[0], TERMS[1]._replace(until=NOW - 25 * 60 * MINUTE)],
        [TERMS[0], TERMS[1]._replace(until=None)],
    ):
        assert who_is_missed(alone._replace(terms=terms), NOW) is None
        assert found(told(alone._replace(terms=terms))) == []


def test_a_replica_that_is_behind():
    behind = WELL._replace(replicas=[*WELL.replicas, Replica("west", "streaming", "sync", 5 << 20, 31.0)])
    finding = the(told(behind), "replica-behind", "BunqueueReplicaBehind")
    assert finding.title == "The replica west is 31 s behind"
    assert "5.0 MiB are not replayed there; it is sync." in finding.evidence
    assert (finding.since, finding.numbers) == (NOW - 3 * MINUTE, {"lagMs": 31_000, "bytes": 5 << 20})


def test_a_memory_that_does_not_reach_back_to_the_replica():
    lag = WELL._replace(replicas=[Replica("west", "streaming", "async", None, 6.0)])
    finding = the(told(lag, LED._replace(remembers_s=11.0)), "memory-short", "BunqueueMemoryShort")
    assert "3 batches are remembered (1.2 KiB), of 11 s; the replica is 6 s behind." in finding.evidence
    assert finding.numbers == {"rememberedMs": 11_000, "lagMs": 6000}
    assert found(told(lag, LED._replace(remembers_s=12.0))) == []
    assert found(told(lag)) == [], "it remembers all since it began"


def test_a_table_of_dead_rows():
    bloated = WELL._replace(tables=[*WELL.tables, Table("event_batch", 3 << 30, 9000, 180_001)])
    finding = the(told(bloated), "table-bloated", "BunqueueTableBloated")
    assert finding.title == "The table event_batch holds 180,001 dead rows beside 9,000"
    assert "It takes 3.0 GiB" in finding.evidence
    assert "open for 3 s" in finding.evidence
    few = WELL._replace(tables=[Table("leader", 8192, 1, 100_000)])
    assert found(told(few)) == [], "a small one is soon read"


def test_a_transaction_that_nobody_ends():
    finding = the(told(WELL._replace(oldest_s=700.0)), "transaction-old", "BunqueueTransactionOld")
    assert finding.title == "A transaction in the database is open for 11 min"
    assert found(told(WELL._replace(oldest_s=None))) == []


def test_a_database_that_is_far():
    finding = the(told(WELL._replace(round_trip_ms=40.0)), "database-far", "BunqueueDatabaseFar")
    assert finding.title == "The database answers in 40 ms at best"
    assert "at most 25 a second" in finding.evidence


def test_doors_that_hang_or_die():
    doors = Doors(2)
    doors.note_end(NOW - 20 * MINUTE, "1", "was ended by SIGKILL", hung=False)
    assert found(told(doors=doors)) == [], "long ago"
    doors.note_end(NOW - 9 * MINUTE, "2", "was ended by SIGKILL", hung=False)
    finding = the(told(None, doors=doors), "doors-fail", "BunqueueDoorsFail")
    assert (finding.since, finding.until, finding.numbers) == (
        NOW - 9 * MINUTE,
        NOW - 9 * MINUTE,
        {"ended": 1, "hung": 0},
    )
    assert "was killed" in finding.cause
    doors.note_end(NOW - 2 * MINUTE, "1", "did not answer any more, and was ended", hung=True)
    finding = the(told(doors=doors), "doors-fail", "BunqueueDoorsFail")
    assert finding.title == "2 doors have ended by themselves within 15 minutes"
    assert finding.evidence.startswith("Door 1 did not answer any more, and was ended, 2 min ago.")
    assert (doors.hung, doors.died) == (1, 2)
    for _ in range(100):
        doors.note_end(NOW, "1", "x", hung=False)
    assert len(doors.lately) == 20


def test_a_door_with_a_long_queue():
    doors = Doors(2, queues=[DoorQueue("1", 6000), DoorQueue("10.0.0.3", 7), DoorQueue("1", DOOR_QUEUE_MAX - 5999)])
    finding = the(told(doors=doors), "door-queue", "BunqueueDoorQueue")
    assert finding.title == "10,001 requests wait at door 1"
    assert found(told(doors=Doors(queues=[DoorQueue("1", DOOR_QUEUE_MAX)]))) == []


def test_a_cluster_that_cannot_be_seen_is_a_notice_unless_the_database_is_down():
    blind = told(None, cluster=ClusterFigures(error="permission denied"))
    assert "permission denied" in the(blind, "cluster-unseen", None).cause
    failing = replace(blind, storage=GOOD.storage._replace(is_failing=True))
    assert [each.code for each in found(failing)] == ["storage-failing"]


@pytest.fixture
def store() -> DistantStore:
    return DistantStore(MemoryStore())


async def test_a_leader_looks_again_and_again_and_knows_since_when(
    store: DistantStore, autojump_clock: trio.testing.MockClock
):
    watch, seen = ClusterWatch(store, Clock(NOW), lambda: 7), Watching(store)
    await watch.look(seen)
    assert (watch.figures.known, watch.figures.error) == (None, "nothing can be seen")
    store.seen = WELL._replace(oldest_s=700.0, round_trip_ms=30.0)
    await watch.look(seen)
    first = watch.figures
    assert set(first.since) == {"transaction-old", "database-far"}
    store.seen = WELL._replace(oldest_s=760.0)
    await trio.sleep(60)
    await watch.look(seen)
    assert watch.figures.since == {"transaction-old": first.since["transaction-old"]}, "the quickest answer counts"
    assert watch.figures.at > first.at
    store.seen = None
    await watch.look(seen)
    assert watch.figures.known is not None, "the last one stays"
    assert watch.figures.error == "nothing can be seen"


async def test_it_looks_for_as_long_as_it_runs(store: DistantStore, autojump_clock: trio.testing.MockClock):
    store.seen, watch = WELL, ClusterWatch(store, Clock(NOW), lambda: 7)
    with trio.move_on_after(20):
        await watch.run()
    assert watch.figures.known == WELL
    assert watch.figures.error is None
