"""A queue that is copied to or from a database: who leads, what fails, and that half a copy is none."""

import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio

from bunqueue_trio.errors import StoreError
from tests.patience import PATIENCE_S
from tests.storage.copies import ask, copy, of, rows, run, served, taken
from tests.storage.copies import database as database
from tests.storage.copies import filled_once as filled_once
from tests.storage.copies import full as full
from tests.storage.full_queue import answers
from tests.storage.ledger import Ledger, make_job


def test_a_copy_that_hangs_is_ended_by_the_database_in_time(database: str):
    from bunqueue_trio.storage.postgres import copying as database_copying
    from bunqueue_trio.storage.postgres.place import parse_place

    with database_copying.filled(parse_place(database)) as target:
        assert target._ask("SHOW idle_in_transaction_session_timeout") == [("5min",)]
    with database_copying.held(parse_place(database)) as source:
        assert source._ask("SHOW idle_in_transaction_session_timeout") == [("0",)], "it is in nobody's way"


def test_there_and_back_is_the_same_and_a_server_there_answers_alike(full: Path, database: str, tmp_path: Path):
    there = run(full, database)
    assert (there.exit_code, there.stderr) == (0, "")
    back = run(database, tmp_path / "back.db")
    assert (back.exit_code, back.stderr) == (0, "")
    assert (
        there.stdout.splitlines()[:-1] == back.stdout.splitlines()[:-1]
    )  # the digests are of what is copied, not of how it is kept
    assert rows(full) == rows(tmp_path / "back.db")
    assert ask(database, "SELECT count(*) FROM bq.term") == [(0,)], "a copy is no term of the cluster"
    assert served(full) == trio.run(answers, taken(database))


def test_what_is_pushed_to_the_copy_goes_on_where_the_original_was(full: Path, database: str):
    assert run(full, database).exit_code == 0
    before = rows(full)
    with closing(taken(database)) as store:
        assert store.last_event_id == before["event_batch"][-1][0]
        from bunqueue_trio.engine.trails import LOG, Line

        Ledger(store).write([make_job(5000, "new")], trails=[Line(LOG, "new", 1, b"{}", False)])
        assert store.trail(LOG, "new", None, 5, newest=True).lines == [(1, b"{}")]


def test_a_database_is_copied_to_another_and_never_to_itself(full: Path, database: str, postgres: Any, tmp_path: Path):
    from bunqueue_trio.storage.postgres.place import parse_place
    from bunqueue_trio.storage.postgres.schema import migrate

    assert run(full, database).exit_code == 0
    other = postgres.new_url()
    assert "has no tables of ours yet; run `bunqueue-trio migrate` once" in run(database, other).stderr
    migrate(parse_place(other))
    assert run(database, other).exit_code == 0
    assert "is what is copied from" in run(database, database).stderr
    refused = run(full, other)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "holds something already: its table job is not empty" in refused.stderr
    assert run(other, tmp_path / "back.db").exit_code == 0
    assert rows(full) == rows(tmp_path / "back.db")


def test_no_server_leads_at_either_end(full: Path, database: str, tmp_path: Path):
    with closing(taken(database)):
        for refused in (run(database, tmp_path / "new.db"), run(full, database)):
            assert refused.exit_code == 1
            assert "a server leads there (" in refused.stderr
    ask(database, "UPDATE bq.leader SET holder = 'host process 7', beat = clock_timestamp(), lease = '1 h'")
    for refused in (run(database, tmp_path / "new.db"), run(full, database)):
        assert "a server leads there (host process 7): end all that serve it" in refused.stderr
    ask(database, "UPDATE bq.leader SET beat = '-infinity'")
    leads: list[str | None] = []

    def look(done: int, total: int) -> None:
        from bunqueue_trio.storage.postgres.place import parse_place
        from bunqueue_trio.storage.postgres.store import PostgresStore

        if not leads:
            with closing(PostgresStore(parse_place(database))) as store:
                leads.append(store.take())

    copy(*of(full, database), look)
    assert leads[0] is not None  # and now it is free at once
    taken(database).close()


@pytest.mark.parametrize("what", ["target", "source"])
def test_a_copy_is_given_up_when_a_server_has_taken_over(full: Path, database: str, tmp_path: Path, what: str):
    if what == "source":
        assert run(full, database).exit_code == 0

    def take(done: int, total: int) -> None:
        ask(database, "UPDATE bq.leader SET term = term + 1, life = gen_random_uuid(), holder = 'other'")
        until_lost.wait(PATIENCE_S)

    until_lost = threading.Event()
    lost = pytest.MonkeyPatch()
    from bunqueue_trio.storage.postgres import copying as database_copying

    lost.setattr(database_copying, "COPY_LEASE_S", 0.5)
    beat = database_copying.Lead._beat

    def noted(self: Any) -> None:
        beat(self)
        until_lost.set()

    lost.setattr(database_copying.Lead, "_beat", noted)
    try:
        with pytest.raises(StoreError, match="a server may lead there again: end all that serve it, and begin anew"):
            copy(*(of(full, database) if what == "target" else of(database, tmp_path / "new.db")), take)
    finally:
        lost.undo()
    assert not (tmp_path / "new.db").exists()
    assert ask(database, "SELECT count(*) FROM bq.job") == [(0 if what == "target" else len(rows(full)["job"]),)]


def test_a_server_that_takes_over_at_the_last_moment_is_noticed_by_the_commit(
    full: Path, database: str, monkeypatch: pytest.MonkeyPatch
):
    from bunqueue_trio.storage.postgres import copying as database_copying

    finish = database_copying.DatabaseTarget.finish

    def late(self: Any) -> None:
        ask(database, "UPDATE bq.leader SET term = term + 1, life = gen_random_uuid(), holder = 'other'")
        finish(self)

    monkeypatch.setattr(database_copying.DatabaseTarget, "finish", late)
    assert "a server may lead there again" in run(full, database).stderr
    assert ask(database, "SELECT count(*) FROM bq.job") == [(0,)]


def test_a_database_that_hiccups_is_still_led(full: Path, database: str, monkeypatch: pytest.MonkeyPatch):
    from bunqueue_trio.storage.postgres import copying as database_copying
    from bunqueue_trio.storage.postgres.store import PostgresStore

    monkeypatch.setattr(database_copying, "BEATS_A_LEASE", 600)
    beat, beaten = PostgresStore.beat_now, threading.Semaphore(0)

    def hiccup(self: Any) -> None:
        beaten.release()
        if not hiccups:
            hiccups.append(1)
            raise StoreError("gone")
        beat(self)

    hiccups: list[int] = []
    monkeypatch.setattr(PostgresStore, "beat_now", hiccup)
    waited: list[bool] = []

    def wait(done: int, total: int) -> None:
        if not waited:
            waited.extend(beaten.acquire(timeout=PATIENCE_S) for _ in range(2))

    copy(*of(full, database), wait)
    assert waited == [True, True]
    assert ask(database, "SELECT count(*) FROM bq.job") == [(len(rows(full)["job"]),)]


def test_what_the_database_refuses_is_reported_with_its_name_and_nothing_is_there(
    full: Path, database: str, monkeypatch: pytest.MonkeyPatch
):
    from bunqueue_trio.storage.postgres import copying as database_copying

    monkeypatch.setitem(database_copying._IN, database_copying.names, str)  # a NUL, which PostgreSQL does not take
    refused = run(full, database)
    assert refused.exit_code == 1
    assert "postgres://" in refused.stderr
    assert ask(database, "SELECT count(*) FROM bq.finished") == [(0,)]
    monkeypatch.undo()
    monkeypatch.setattr(database_copying, "_IDS", "SELECT nothing")
    assert "postgres://" in run(full, database).stderr
    ask(database, "ALTER TABLE bq.meta RENAME TO other")
    try:
        assert "postgres://" in run(full, database).stderr
    finally:
        ask(database, "ALTER TABLE bq.other RENAME TO meta")
    assert "postgres://" in run(full, "postgres://bq@localhost:1/none").stderr
    assert run(full, "postgres://bq@localhost/none?schema=No").exit_code == 2
