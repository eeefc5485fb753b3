"""A real streaming replica takes the place of the primary: what is lost then, and what a leader that lives writes again."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.operations.processes import Running, until
from tests.wire.test_postgres import Load, call, server
from trials.lib.postgres import Replica, Server, why_not

pytest.importorskip("psycopg", reason="psycopg is not installed")

from bunqueue_trio.storage.postgres.place import parse_place
from bunqueue_trio.storage.postgres.schema import migrate

pytestmark = pytest.mark.slow

SCHEMA = "replicated"
LOST = "the database has lost its newest batches"


@pytest.fixture
def primary() -> Iterator[Server]:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with contextlib.closing(Server()) as running:
        yield running


@pytest.fixture
def replica(primary: Server) -> Iterator[Replica]:
    with contextlib.closing(Replica(primary)) as running:
        yield running


def fail_over(primary: Server, replica: Replica) -> None:
    """The machine of the primary is gone."""
    primary.stop()
    replica.promote()


def lag(primary: Server) -> int:
    """Return the bytes that the replica has not written yet."""
    [(behind,)] = primary.ask(
        "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint FROM pg_stat_replication"
    )
    return int(behind)


def wait_caught_up(primary: Server, running: Running) -> None:
    until(lambda: lag(primary) == 0, 60, lambda: running.log)


def test_a_synchronous_replica_has_all_that_was_answered(primary: Server, replica: Replica, tmp_path: Path):
    """Also when the leader dies with the primary."""
    primary.ask("ALTER SYSTEM SET synchronous_standby_names = '*'")
    primary.ask("SELECT pg_reload_conf()")
    until(
        lambda: primary.ask("SELECT sync_state FROM pg_stat_replication") == [("sync",)],
        60,
        lambda: "it is not synchronous",
    )
    url = replica.url_of_both(SCHEMA)
    migrate(parse_place(url))
    with server(tmp_path, url) as leader, Load(leader.port) as load:
        load.wait()
        leader.kill()
        fail_over(primary, replica)
        with server(tmp_path, url) as second:
            load.port = second.port
            load.wait()
    load.check(replica.url(SCHEMA))


def test_what_an_asynchronous_replica_had_not_got_is_written_again(primary: Server, replica: Replica, tmp_path: Path):
    url = replica.url_of_both(SCHEMA)
    migrate(parse_place(url))
    waits = {"ready": lambda running: "serving through the leader" in running.log}
    with (
        server(tmp_path, url, lease_ms=30_000) as leader,
        server(tmp_path, url, **waits) as standby,
        Load(leader.port) as load,
    ):
        load.wait()
        wait_caught_up(primary, leader)
        primary.send_no_more()
        load.wait()
        first = call(leader.port, "POST", "/queues/load/jobs", {"data": 1, "jobId": "not-replicated"})
        assert first[0] == 200
        load.answered.add("not-replicated")
        fail_over(primary, replica)
        load.wait()
        assert LOST in leader.log
        assert call(leader.port, "GET", "/jobs/not-replicated/state")[1]["state"] == "waiting"
        assert "this server leads now" not in standby.log, "it gives the leader the time to write again"
    load.check(replica.url(SCHEMA))


def test_what_nobody_lives_to_write_again_is_lost_and_event_ids_go_on_behind_it(
    primary: Server, replica: Replica, tmp_path: Path
):
    url = replica.url_of_both(SCHEMA)
    migrate(parse_place(url))
    with server(tmp_path, url) as leader, Load(leader.port) as load:
        load.wait()
        call(leader.port, "POST", "/queues/q/jobs", {"data": 1, "jobId": "replicated"})
        wait_caught_up(primary, leader)
        primary.send_no_more()
        call(leader.port, "POST", "/queues/q/jobs", {"data": 1, "jobId": "lost"})
        [(heard,)] = primary.ask(f"SELECT max(last_id) FROM {SCHEMA}.event_batch")
        leader.kill()
        fail_over(primary, replica)
        with server(tmp_path, url) as second:
            assert call(second.port, "GET", "/jobs/replicated/state")[1]["state"] == "waiting"
            assert call(second.port, "GET", "/jobs/lost/state")[0] == 404
            call(second.port, "POST", "/queues/q/jobs", {"data": 1, "jobId": "next"})
            [(first,)] = replica.ask(f"SELECT max(last_id) FROM {SCHEMA}.event_batch")
            assert first > heard, "no id of an event means two things"


def test_a_leader_that_has_just_taken_over_writes_again_that_it_has(primary: Server, replica: Replica, tmp_path: Path):
    """Its takeover is among what the replica has not got."""
    url = replica.url_of_both(SCHEMA)
    migrate(parse_place(url))
    with server(tmp_path, url) as first:
        call(first.port, "POST", "/queues/load/jobs", {"data": 1, "jobId": "before"})
        assert first.stop() == 0
        wait_caught_up(primary, first)
    primary.send_no_more()
    with server(tmp_path, url, lease_ms=30_000) as leader, Load(leader.port) as load:
        load.wait()
        fail_over(primary, replica)
        load.wait()
        assert LOST in leader.log
        load.answered.add("before")
    load.check(replica.url(SCHEMA))
