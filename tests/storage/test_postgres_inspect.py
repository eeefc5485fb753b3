"""What doctor finds in a database."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bunqueue_trio.engine.job import Lease, Note, Options, State
from bunqueue_trio.engine.trails import LOG, Line
from bunqueue_trio.errors import StartupError, StoreError
from tests.storage.ledger import NOW, Ledger, ended, event, make_job

pytest.importorskip("psycopg", reason="psycopg is not installed")

from bunqueue_trio import __version__
from bunqueue_trio.storage.cluster import DoorFigures
from bunqueue_trio.storage.postgres import announcer as announcing
from bunqueue_trio.storage.postgres import cluster, inspect
from bunqueue_trio.storage.postgres.announcer import Announcer
from bunqueue_trio.storage.postgres.cluster import Watcher, look_at_cluster
from bunqueue_trio.storage.postgres.inspect import CHECKS, DatabaseReport, examine
from bunqueue_trio.storage.postgres.link import DatabaseLink, Query, Row
from bunqueue_trio.storage.postgres.place import Place, parse_place
from bunqueue_trio.storage.postgres.standby import Silence
from bunqueue_trio.storage.postgres.store import PostgresStore
from bunqueue_trio.storage.postgres.terms import own_name


@pytest.fixture
def place(url: str) -> Iterator[Place]:
    """A store with something of everything."""
    place = parse_place(url)
    store = PostgresStore(place)
    assert store.take() is None
    ledger = Ledger(store)
    keyed = Options(unique_key="k")
    jobs = [
        make_job(1, options=keyed), make_job(2, queue="other", options=keyed), make_job(3, state=State.DELAYED, order=0), make_job(4, "a\0b"),
        make_job(5, state=State.ACTIVE, order=0, lease=Lease("t", 1), started_at=NOW),
        make_job(6, state=State.WAITING_CHILDREN, order=0, note=Note(waiting_on={"job-1"})),
    ]  # fmt: skip
    ledger.write(jobs, events=[event(job) for job in jobs], facts=[("pause", "q", b"{}")])
    ledger.write([ended(make_job(7)), ended(make_job(8), State.FAILED)], trails=[Line(LOG, "job-7", NOW, LINE, True)])
    ledger.tell(2)
    yield place
    store.close()


def ask(place: Place, text: str) -> Any:
    link = DatabaseLink(place.conninfo)
    try:
        return link.ask(Query(place.qualified(text)))
    finally:
        link.close()


LINE = b'{"timestamp":1,"level":"info","message":"half way"}'


def look(place: Place) -> DatabaseReport:
    return examine(place, lambda _: None)


def test_a_sound_store_has_no_findings_and_true_counts(place: Place):
    told: list[str] = []
    report = examine(place, told.append)
    assert report.findings == []
    assert report.unfinished == {"active": 1, "delayed": 1, "waiting": 3, "waiting-children": 1}
    assert report.finished == {"completed": 1, "failed": 1}
    assert (report.events, report.facts, report.trails) == (8, {"pause": 1}, {LOG: 1})
    assert report.size > 100_000
    assert "process" in report.leader
    assert re.search(r"heard of \d[\d.]* m?s ago; term 1, batch 3$", report.leader)
    assert told == ["every job", *(claim for claim, _ in CHECKS), "facts, and lines of trails", "the counts"]


FAULTS = {
    "unfinished jobs share an id": "UPDATE bq.job SET id = 'job-1' WHERE seq = 3",
    "jobs are unfinished and finished at once": "UPDATE bq.finished SET id = 'job-3' WHERE fin = 2",
    "unfinished jobs are in no state that there is": "UPDATE bq.job SET state = 'completed' WHERE seq = 3",
    "finished jobs are in no state that there is": "UPDATE bq.finished SET state = 'waiting' WHERE fin = 1",
    "active jobs have no lease": "UPDATE bq.job SET lease = NULL WHERE seq = 5",
    "jobs have a lease and are not active": "UPDATE bq.job SET state = 'delayed' WHERE seq = 5",
    "ready jobs have no place": "UPDATE bq.job SET place = 0 WHERE seq = 4",
    "ready jobs share a place": "UPDATE bq.job SET place = 2 WHERE seq = 4",
    "jobs wait for dependencies and name none": "UPDATE bq.job SET note = '{\"waiting_on\":[]}' WHERE seq = 6",
    "keys are where no next one is left": "UPDATE bq.job SET place = 9007199254740993 WHERE seq = 1",
    "nobody can lead": "DELETE FROM bq.leader",
    "nobody can follow the leader for longer than its lease": "UPDATE bq.leader SET beat = clock_timestamp() + interval '1 h'",
    "terms are still to come": "INSERT INTO bq.term VALUES (7, 'x', '1', clock_timestamp())",
    "servers cannot know each other": "UPDATE bq.link SET key = 'short'",
    "events overlap": "UPDATE bq.event_batch SET count = 5 WHERE last_id = 8",
    "trails are of no job": "UPDATE bq.trail SET key = 'nobody'",
    "trails do not add up": "UPDATE bq.trail SET size = 7",
    "dead letters are of no error, or other jobs of one": "UPDATE bq.finished SET fingerprint = NULL",
    "rows of unfinished jobs cannot be read": "UPDATE bq.job SET options = 'x' WHERE seq = 1",
    "jobs wait for a job that is not there": "DELETE FROM bq.job WHERE seq = 1",
    "facts cannot be read": "UPDATE bq.fact SET kind = 'paused'",
    "lines of trails cannot be read": "UPDATE bq.trail_line SET body = decode(repeat('00', octet_length(body)), 'hex')",
    "unfinished jobs hold the same unique key": "UPDATE bq.job SET queue = 'q' WHERE seq = 2",
}


@pytest.mark.parametrize("claim", FAULTS)
def test_each_fault_is_found(place: Place, claim: str):
    ask(place, FAULTS[claim])
    try:
        assert claim in [finding.split(": ")[0] for finding in look(place).findings]
    finally:
        ask(place, "UPDATE bq.link SET key = sha256('1')")  # which no other test makes


def test_each_page_of_jobs_and_lines_is_looked_at(place: Place, monkeypatch: pytest.MonkeyPatch):
    """And none is larger than a page: a queue may have gigabytes of logs."""
    sizes: list[int] = []
    of_link = DatabaseLink.ask

    def noting(link: DatabaseLink, query: Query, wait_s: float = 10) -> list[Row]:
        rows = of_link(link, query, wait_s)
        if "trail_line JOIN" in query.text:
            sizes.append(len(rows))
        return rows

    monkeypatch.setattr(inspect, "_PAGE", 2)
    monkeypatch.setattr(DatabaseLink, "ask", noting)
    assert look(place).findings == []
    ask(
        place,
        "INSERT INTO bq.trail_line SELECT trail, n + more, at, body FROM bq.trail_line, generate_series(1, 4) AS more",
    )
    sizes.clear()
    assert [finding.split(":")[0] for finding in look(place).findings] == ["trails do not add up"]
    assert sizes == [2, 2, 1, 0]
    ask(place, "DELETE FROM bq.trail_line WHERE n > 1")
    ask(place, FAULTS["jobs wait for dependencies and name none"])
    assert look(place).findings == ["jobs wait for dependencies and name none: 1 (job-6)"]


def test_every_check_has_a_fault():
    assert {claim for claim, _ in CHECKS} <= set(FAULTS)


def test_many_offences_are_one_line(place: Place):
    ask(place, "UPDATE bq.job SET state = 'odd', lease = NULL")
    assert "unfinished jobs are in no state that there is: 6 (job-1, job-2, job-3, …)" in look(place).findings


def test_who_leads_is_shown(place: Place):
    ask(place, "UPDATE bq.leader SET beat = clock_timestamp() - interval '1 h'")
    assert re.fullmatch(r".* process \d+, heard of 1 h ago, which is too long; term 1, batch 3", look(place).leader)
    ask(place, "UPDATE bq.leader SET beat = '-infinity'")
    assert look(place).leader == "nobody; term 1, batch 3"
    ask(place, "DELETE FROM bq.leader")
    assert look(place).leader == "nobody can: the row of the leader is gone"


def test_a_table_of_dead_rows_is_found(place: Place, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(inspect, "_DEAD", "SELECT 'job', 100001::bigint, 5::bigint WHERE $1 <> ''")
    monkeypatch.setattr(inspect, "OLDEST_S", 10**9)
    assert look(place).findings == ["the table job holds 100,001 dead rows beside 5: autovacuum does not keep up"]


def test_what_cannot_be_looked_at_is_reported(place: Place):
    with pytest.raises(StartupError, match="has no tables of ours yet"):
        look(place._replace(schema="nothing_there"))
    ask(place, "ALTER TABLE bq.fact RENAME TO fiction")
    try:
        with pytest.raises(StoreError, match=r"bq\.|fact"):
            look(place)
    finally:
        ask(place, "ALTER TABLE bq.fiction RENAME TO fact")


def test_who_leads_and_who_has_led_and_what_a_failover_would_take(place: Place, url: str):
    led = look_at_cluster(place)
    assert led.is_alive
    assert (led.term, led.link, led.version) == (1, None, __version__)
    assert led.age_s is not None
    assert {table.name: table.bytes > 0 for table in led.tables}["job"]
    assert led.round_trip_ms > 0
    assert [term[:4] for term in led.terms] == [(1, led.holder, __version__, led.since)]
    assert led.failover == (6, pytest.approx(60e-6), pytest.approx(10 + 60e-6), False), (
        "of what is usual: none was read yet"
    )
    ask(place, "UPDATE bq.leader SET beat = '-infinity'")
    second = PostgresStore(place, lease_s=20)
    assert second.take() is None
    assert len(list(second.load())) == 6
    [(jobs, seconds)] = ask(place, "SELECT start_jobs, start_s FROM bq.leader")
    assert (jobs, seconds > 0) == (6, True)
    ask(place, "UPDATE bq.leader SET start_jobs = 1000, start_s = 2")
    led = look_at_cluster(place)
    assert led.failover == (6, pytest.approx(0.012), pytest.approx(20.012), True)
    assert [(term.term, term.ended) for term in led.terms] == [(2, None), (1, "stopped")]
    second.close()
    [now, _] = look_at_cluster(place).terms
    assert (now.ended, (now.until or 0) >= now.since) == ("stopped", True), "it has said when it let go"
    assert second.take() is None
    ask(place, "UPDATE bq.leader SET beat = clock_timestamp() - interval '1 hour'")
    assert second.take() is None
    third = look_at_cluster(place).terms[1]
    assert (third.term, third.ended, (third.until or 0) < third.since) == (3, "silent", True), "until it was heard of"
    ask(place, "DELETE FROM bq.term")
    ask(place, "UPDATE bq.leader SET beat = '-infinity', term = 2")
    for _ in range(25):
        ask(place, "UPDATE bq.leader SET beat = '-infinity'")
        assert second.take() is None
    second.close()
    assert [term.term for term in look_at_cluster(place).terms] == list(range(27, 7, -1))
    ask(place, "DELETE FROM bq.leader")
    with pytest.raises(StartupError, match="nobody can lead there"):
        look_at_cluster(place)


def test_what_cannot_be_asked_about_a_cluster_is_reported(place: Place):
    ask(place, "ALTER TABLE bq.waiting RENAME TO other")
    try:
        with pytest.raises(StoreError, match="waiting"):
            look_at_cluster(place)
    finally:
        ask(place, "ALTER TABLE bq.other RENAME TO waiting")


def test_who_waits_is_seen_until_it_does_so_no_more(place: Place, monkeypatch: pytest.MonkeyPatch):
    assert look_at_cluster(place).waiting == []
    ask(place, "INSERT INTO bq.waiting VALUES ('old', '0', clock_timestamp(), clock_timestamp() - interval '25 hours')")
    waits = Announcer(place)
    first = waits.wait(DoorFigures(True, 3, 2))
    [each] = look_at_cluster(place).waiting
    assert each[4:] == ("127.0.0.1", True, 3, 2)
    assert (each.holder, each.version, each.seen_s < 60) == (own_name(), __version__, True)
    assert [name for (name,) in ask(place, "SELECT holder FROM bq.waiting")] == [own_name()]
    ask(place, "UPDATE bq.waiting SET seen = seen - interval '30 s'")
    assert waits.wait() == first
    assert look_at_cluster(place).waiting[0].seen_s > 30, "it has said so lately"
    monkeypatch.setattr(announcing, "WAITING_SAID_S", 0)
    assert waits.wait() == first
    [again] = look_at_cluster(place).waiting
    assert (again.seen_s < 30, again.since) == (True, each.since)
    ask(place, "UPDATE bq.waiting SET seen = seen - interval '30 minutes'")
    away = look_at_cluster(place)
    assert (away.waiting, [each.holder for each in away.missing]) == ([], [own_name()])
    waits.wait()
    assert look_at_cluster(place).waiting[0].since > each.since, "it was away"
    waits.close()
    assert look_at_cluster(place).waiting == []
    waits.close()


def test_who_cannot_say_that_it_waits_no_more_is_forgotten_in_time(place: Place):
    waits = Announcer(place)
    waits.wait()
    ask(
        place,
        # Those of other tests go on.
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%bq.waiting%' AND pid <> pg_backend_pid()",
    )
    waits.close()
    assert [each.holder for each in look_at_cluster(place).waiting] == [own_name()]
    ask(place, "DELETE FROM bq.waiting")


def test_a_transaction_that_stays_open_is_found(place: Place, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(inspect, "_OPEN", "SELECT 7200.5::float8 WHERE $1::bigint > 0")
    assert look(place).findings == [
        "a transaction is open for 2 h: what was deleted since stays in the way, also of autovacuum"
    ]


async def test_who_looks_at_a_cluster_again_and_again_says_what_is_wrong_with_a_look(
    place: Place, monkeypatch: pytest.MonkeyPatch
):
    watcher = Watcher(place)
    try:
        assert [(await watcher.look(7)).term for _ in range(2)] == [1, 1]
        ask(place, "DELETE FROM bq.leader")
        with pytest.raises(StoreError, match="the row of the leader is gone"):
            await watcher.look(7)

        async def refuse(*_: object) -> list[Row]:
            raise AssertionError("no right to look")

        monkeypatch.setattr(watcher._link, "ask_soon", refuse)
        with pytest.raises(StoreError, match="no right to look"):
            await watcher.look(7)
    finally:
        watcher.close()


def test_nobody_follows_a_leader_who_was_not_looked_at():
    assert not Silence().may_follow(0)


@pytest.mark.parametrize(("module", "name", "looks"), [(cluster, "_JOBS", look_at_cluster), (inspect, "_LEADER", look)])
def test_words_that_the_database_does_not_know_are_one_line(
    place: Place, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, looks: Callable[[Place], object]
):
    monkeypatch.setattr(module, name, "SELECT FROM WHERE")
    with pytest.raises(StoreError, match="the store contradicts the engine: "):
        looks(place)
