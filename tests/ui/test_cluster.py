"""The page of a cluster: an incident is planted in what a leader sees, and the sentence stands on the page."""

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from bunqueue_trio.config import Settings
from bunqueue_trio.pages import figures
from bunqueue_trio.pages.cluster import leader_row
from bunqueue_trio.pages.prometheus import prometheus
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.runtime.statistics import DoorQueue
from bunqueue_trio.storage.cluster import Cluster, Replica, Table, Waiting, failover
from bunqueue_trio.storage.memory import MemoryStore
from bunqueue_trio.testing.server import Bunqueue
from tests.storage.distant import DistantStore, Watching
from tests.ui.site import Page, Site
from tests.ui.test_cluster_findings import LED, NOW, TERMS, WAITS, WELL

MINUTE = 60_000


class LedStore(DistantStore):
    """A store in a database that this server leads in term 7."""

    term = 7


class World:
    """A leader, what it sees, and its dashboard."""

    def __init__(self, **settings: Any) -> None:
        self.store = LedStore(MemoryStore())
        self.store.leads_so = LED
        self.server = Server(
            Settings(store="postgres://bunqueue@db/queue", audit_jobs_per_second=0, **settings), self.store, Clock(NOW)
        )
        self.site = Site(cast("Bunqueue", SimpleNamespace(server=self.server)))

    async def see(self, known: Cluster) -> Page:
        """Let the leader look, and return the page."""
        self.store.seen = known
        assert self.server.cluster is not None
        await self.server.cluster.look(Watching(self.store))
        return await self.site.get("/ui/cluster")


@pytest.fixture
async def world(autojump_clock: MockClock) -> World:
    return World(doors=2)


async def test_a_cluster_that_is_well(world: World, autojump_clock: MockClock):
    world.server.doors.connected, world.server.doors.queues = 2, [DoorQueue("1", 4), DoorQueue("10.0.0.3", 3)]
    page = await world.see(WELL)
    assert page.status == 200
    for words in (
        "leads since 2023-11-14 22:13:20+00:00, 1 server waits to take over",
        "Term 7", "Lease left 9 s of 10 s", "Would take over 1 server", "Database answers in 0.8 ms at best", "Would write again 1.2 KiB 3 batches",
        "That reaches back to its start",
        "c process 9 waits 2 6 h 1.5 s ago 12 3", "door 1 of the leader door – – – – 4", "door 2 of the leader door – – – – 0",
        "The next server would lead in about 500 ms after a stop, in about 3.8 s after a kill, within about 10 s when its machine is silent: 5,000 unfinished jobs to read, as fast as at the last start.",
        "7 b process 3 2 2023-11-14 22:03:20+00:00 10 min goes on", "6 a process 2 2 2023-11-14 17:13:20+00:00 4 h not heard of after 2023-11-14 22:03:11+00:00",
        "Oldest transaction 3 s", "reach the leader at 10.0.0.2:6791", "east streaming async 4.0 KiB 200 ms", "job 1.0 MiB 5,000 90,000",
        'bunqueue-trio cluster --store "$STORE"', "bunqueue-trio health --url http://queue.example:6790",
    ):  # fmt: skip
        assert page.said(words), words
    assert "Critical" not in page.text
    assert 'href="/ui/cluster" aria-current="page"' in " ".join(page.html.split())


@pytest.mark.parametrize(
    ("known", "sentences"),
    [
        (WELL._replace(waiting=[], missing=[WAITS._replace(seen_s=300.0)]), ["No other server would take over", "c process 9 gone 2 6 h 5 min ago – –", "Would take over 0 servers"]),
        (WELL._replace(waiting=[WAITS._replace(reaches=False)]), ["c process 9 does not reach the leader"]),
        (WELL._replace(waiting=[WAITS._replace(version="1.9")]), ["Servers of 2 versions run"]),
        (WELL._replace(waiting=[Waiting("old process 1", "1", NOW - 5 * MINUTE, 2.0)]), ["old process 1 waits 1 5 min 2 s ago – –"]),
        (WELL._replace(replicas=[Replica("12", None, None, None, None)]), ["12 not shown to this user – – –"]),
        (WELL._replace(replicas=[]), ["The database knows of no replica"]),
        (WELL._replace(replicas=[Replica("east", "streaming", "async", 9 << 20, 45.0)]), ["The replica east is 45 s behind", "9.0 MiB 45 s"]),
        (WELL._replace(tables=[Table("job", 9 << 30, 3, 900_000)]), ["The table job holds 900,000 dead rows beside 3", "autovacuum_naptime=10s"]),
        (WELL._replace(oldest_s=4000.0), ["A transaction in the database is open for 1 h 6 min", "Oldest transaction 1 h 6 min"]),
        (WELL._replace(oldest_s=None), ["Oldest transaction none is open"]),
        (WELL._replace(round_trip_ms=80.0), ["The database answers in 80 ms at best"]),
        (WELL._replace(terms=[TERMS[0], TERMS[1]._replace(ended=None, until=None)]), ["+00:00 – not known"]),
        (WELL._replace(terms=[TERMS[0], TERMS[1]._replace(ended="stopped")]), ["4 h stopped"]),
        (WELL._replace(failover=failover(0, 10.0, None, None)), ["lead at once after a stop, in about 3.3 s after a kill, within 10 s when its machine is silent: there is no unfinished job to read"]),
        (WELL._replace(failover=failover(90_000, 10.0, None, None)), ["in about 900 ms after a stop, in about 4.2 s after a kill, within about 10 s when its machine is silent: 90,000 unfinished jobs to read; how fast was not measured yet"]),
        (WELL._replace(link=None), ["reach the leader at no link"]),
    ],
)  # fmt: skip
async def test_an_incident_is_a_sentence(world: World, known: Cluster, sentences: list[str], autojump_clock: MockClock):
    page = await world.see(known)
    assert page.status == 200
    for sentence in sentences:
        assert page.said(sentence), (sentence, page.text)


async def test_a_server_that_is_gone_is_no_upgrade(world: World, autojump_clock: MockClock):
    page = await world.see(WELL._replace(waiting=[], missing=[WAITS._replace(seen_s=300.0)]))
    assert not page.said("Servers of 2 versions run")


async def test_what_now_says_leads_to_the_page(world: World, autojump_clock: MockClock):
    await world.see(WELL._replace(waiting=[]))
    now = await world.site.get("/ui")
    assert now.said("No other server would take over")
    assert now.html.count('href="/ui/cluster"') == 2, "in the navigation, and beside the finding"


async def test_names_that_others_have_chosen_are_only_shown(world: World, autojump_clock: MockClock):
    page = await world.see(
        WELL._replace(
            waiting=[WAITS._replace(holder="<b>x\u202e", version="<i>")],
            replicas=[Replica("<script>", "<u>", "<s>", 1, 1.0)],
            terms=[TERMS[0]._replace(holder="<em>\n")],
        )
    )
    for tag in ("<b>x", "<i>", "<script>", "<u>", "<s>", "<em>", "\u202e"):
        assert tag not in page.html


async def test_before_the_first_look_there_is_little_to_see(world: World, autojump_clock: MockClock):
    page = await world.site.get("/ui/cluster")
    assert (page.status, page.said("Term 7"), page.said("A failover")) == (200, True, False)


async def test_a_server_that_may_not_lead_says_so(world: World, autojump_clock: MockClock):
    await world.see(WELL)
    await trio.sleep(3)  # what was found is kept for two
    world.store.is_led = False
    page = await world.site.get("/ui/cluster")
    assert page.said("may not lead")
    assert page.said("This server may not lead any more")


async def test_doors_of_a_queue_in_a_file_are_there_too(autojump_clock: MockClock):
    async with Bunqueue(Settings(doors=3)) as bunqueue:
        doors = bunqueue.server.doors
        doors.connected = 3
        doors.note_end(bunqueue.server.clock.now(), "2", "did not answer any more, and was ended", hung=True)
        page = await Site(bunqueue).get("/ui/cluster")
        assert page.said("3 of 3 doors connected; the queue is in a file")
        assert page.said("Since the start 1 door has hung and 0 have died; each was replaced.")
        assert page.said("1 door has ended by itself within 15 minutes")
        assert "--store" not in page.html


async def test_one_server_with_a_file_is_no_cluster(bunqueue: Bunqueue):
    site = Site(bunqueue)
    assert "/ui/cluster" not in (await site.get("/ui")).html
    page = await site.get("/ui/cluster")
    assert (page.status, page.said("The queue is in a file, and one process serves it.")) == (200, True)


async def test_the_page_the_metrics_and_the_tasks_have_one_source(world: World, autojump_clock: MockClock):
    world.server.doors.queues = [DoorQueue(str(n), n) for n in range(30)]
    await world.see(
        WELL._replace(
            waiting=[], replicas=[*WELL.replicas, Replica("x", "s", "a", 7, 42.0), Replica("x", "s", "a", 9, None)]
        )
    )
    body = (await prometheus(world.server))[1].decode()
    for line in (
        "bunqueue_standbys 0", "bunqueue_standby_missing 1", "bunqueue_replicas 3", "bunqueue_replica_lag_seconds 42", "bunqueue_replica_lag_bytes 4096",
        'bunqueue_table_dead_rows{table="job"} 90000', 'bunqueue_table_rows{table="job"} 5000', 'bunqueue_table_bytes{table="job"} 1.048576e+06',
        "bunqueue_database_round_trip_ms 0.8", "bunqueue_database_oldest_transaction_seconds 3", "bunqueue_leader_term 7", "bunqueue_lease_ms 10000",
        "bunqueue_lease_left_ms 9000", "bunqueue_remembered_batches 3", 'bunqueue_door_queue{door="29"} 29', 'bunqueue_door_queue{door="others"} 45',
    ):  # fmt: skip
        assert f"\n{line}\n" in body, line
    assert 'door="9"' not in body, "only the fullest have series of their own"
    cluster = json.loads(figures.tasks(world.server)[1])["cluster"]
    assert (cluster["term"], cluster["waiting"], list(cluster["troubles"])) == (
        7,
        [],
        ["standby-missing", "replica-behind"],
    )
    assert cluster["failover"]["jobs"] == 5000


def test_who_leads_or_did_is_said_in_words():
    def said(known: Cluster) -> str:
        return leader_row(known, lambda ms: f"T{(NOW - ms) // MINUTE}")

    assert said(WELL) == "b process 3, since T10, version 2"
    assert (
        said(WELL._replace(is_alive=False, age_s=90.0))
        == "nobody; b process 3 did last, and was heard of 1 min 30 s ago"
    )
    let_go = WELL._replace(is_alive=False, age_s=None)
    assert said(let_go._replace(term=0)) == "nobody yet"
    assert said(let_go) == "nobody; b process 3 did last, and was stopped"
    over = [TERMS[0]._replace(until=NOW - MINUTE, ended="stopped"), TERMS[1]]
    assert said(let_go._replace(terms=over)) == "nobody; b process 3 did last, stopped at T1"
    copied = let_go._replace(term=8, holder="a copy by x", terms=over)
    assert said(copied) == "nobody; b process 3 did last, stopped at T1; since then: a copy by x"
    assert said(copied._replace(terms=TERMS[1:])).startswith("nobody; a process 2 did last, not heard of after T10")
