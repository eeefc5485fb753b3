"""Real servers behind a real PgBouncer that gives each transaction to whichever session is free: all goes on as without."""

from pathlib import Path

import pytest

from tests.operations.processes import bunqueue, until
from tests.wire.test_postgres import Load, ask, call, server
from trials.lib.postgres import Bouncer, Cluster

pytest.importorskip("psycopg", reason="psycopg is not installed")

from bunqueue_trio.storage.postgres.place import parse_place

pytestmark = pytest.mark.slow


@pytest.fixture
def pooled(postgres: Cluster, bouncer: Bouncer) -> tuple[str, str]:
    """A store without its tables: as it is reached through the pooler, and directly."""
    url = postgres.new_url()
    return bouncer.url(parse_place(url).schema), url


def test_the_commands_leave_nothing_in_a_session_that_others_get(pooled: tuple[str, str], tmp_path: Path):
    url, direct = pooled
    for said in ("schema 4, made", "schema 4, nothing to do"):
        done = bunqueue("migrate", "--store", url)
        assert (done.code, said in done.out) == (0, True), done.err
    locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
    # One that is left stays; a test before this one may have a server whose backend is just ending.
    until(
        lambda: ask(direct, locks) == [(0,)],
        60,
        lambda: "the next migration would wait for a session that the pooler keeps",
    )
    with server(tmp_path, url) as running:
        call(running.port, "POST", "/queues/q/jobs", {"data": 1, "jobId": "one"})
    assert "no problem found" in bunqueue("doctor", "--store", url).out
    until(lambda: bunqueue("cluster", "--store", url).code == 1, 60, lambda: "the lease does not end")
    copied = bunqueue("copy", "--from", url, "--to", str(tmp_path / "copied.db"))
    assert (copied.code, copied.err) == (0, ""), copied.err


def test_servers_behind_it_lose_nothing_and_take_over(pooled: tuple[str, str], bouncer: Bouncer, tmp_path: Path):
    url, direct = pooled
    assert bunqueue("migrate", "--store", url).code == 0
    waits = {"ready": lambda running: "serving through the leader" in running.log}
    with server(tmp_path, url) as leader, server(tmp_path, url, **waits) as standby, Load(standby.port) as load:
        load.wait()
        schema = parse_place(url).schema
        ask(
            direct,
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%{schema}.%' AND pid <> pg_backend_pid()",
        )
        load.wait()
        bouncer.stop()
        until(lambda: not leader.is_ready(), 60, lambda: leader.log)
        bouncer.start()
        load.wait()
        leader.kill()
        until(lambda: "this server leads now" in standby.log, 60, lambda: standby.log)
        load.wait()
        assert "does not exist" not in leader.log, "a statement that is not prepared there costs no commit"
    load.check(direct)


def test_an_option_that_it_does_not_pass_on_is_refused_with_one_line(pooled: tuple[str, str]):
    done = bunqueue("migrate", "--store", f"{pooled[0]}&options=-csynchronous_commit%3Doff")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "unsupported startup parameter" in done.err
