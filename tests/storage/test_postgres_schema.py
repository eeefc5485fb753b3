"""The tables of a store in PostgreSQL: made once, never in the way of anything else, and not used by who does not know them."""

import contextlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bunqueue_trio.config import Settings, without_password
from bunqueue_trio.errors import StartupError, StoreError
from bunqueue_trio.storage.memory import MemoryStore
from bunqueue_trio.storage.opening import open_store
from bunqueue_trio.storage.sqlite import SqliteStore
from tests.storage.ledger import Ledger, loaded, make_job
from trials.lib.postgres import Cluster, Server, why_not

pytest.importorskip("psycopg", reason="psycopg is not installed")

from bunqueue_trio.storage.postgres import schema, standby
from bunqueue_trio.storage.postgres.arrays import number, numbers, with_nul, without_nul
from bunqueue_trio.storage.postgres.link import DatabaseLink, Query
from bunqueue_trio.storage.postgres.place import Place, parse_place
from bunqueue_trio.storage.postgres.store import PostgresStore


@pytest.fixture
def fresh(postgres: Cluster) -> Iterator[Place]:
    """A place where nothing is."""
    place = parse_place(postgres.new_url())
    yield place
    ask(place, f"DROP SCHEMA IF EXISTS {place.schema} CASCADE")


def ask(place: Place, text: str) -> Any:
    link = DatabaseLink(place.conninfo)
    try:
        return link.ask(Query(place.qualified(text)))
    finally:
        link.close()


def opened(place: Place) -> PostgresStore:
    store = PostgresStore(place)
    try:
        assert store.take() is None
    except BaseException:
        store.close()
        raise
    return store


def test_the_tables_are_made_once(fresh: Place):
    with pytest.raises(StartupError, match="has no tables of ours yet; run `bunqueue-trio migrate` once"):
        opened(fresh)
    newest = schema.migrations()[-1][0]
    assert schema.migrate(fresh) == (0, newest)
    Ledger(store := opened(fresh)).write([make_job(1)])
    assert schema.migrate(fresh) == (newest, newest), "beside a server, too"
    assert list(loaded(store)) == ["job-1"]
    store.close()


@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
@pytest.mark.thorough
async def test_who_leads_and_where_is_known_after_a_crash_whatever_is_not_waited_for_otherwise():
    with contextlib.closing(Server(autovacuum="off", bgwriter_lru_maxpages="0")) as cluster:
        place = parse_place(f"{cluster.new_url()}&options=-csynchronous_commit%3Doff")

        def crash() -> None:
            cluster.stop()
            cluster.start()
            cluster.write_no_more()

        cluster.write_no_more()
        schema.migrate(place)
        crash()
        store = opened(place)
        crash()
        assert ask(place, "SELECT term FROM bq.leader") == [(store.term,)]
        announcer = store.announcer()
        await announcer.tell("here")
        crash()
        assert ask(place, "SELECT link FROM bq.leader") == [("here",)]
        announcer.close()
        store.close()


def test_two_in_one_database_do_not_disturb_each_other(fresh: Place, url: str):
    schema.migrate(fresh)
    one, other = opened(fresh), opened(parse_place(url))
    Ledger(one).write([make_job(1)])
    Ledger(other).write([make_job(2)])
    assert (list(loaded(one)), list(loaded(other))) == (["job-1"], ["job-2"])
    one.close()
    other.close()


def test_a_newer_schema_stops_an_older_server_and_an_older_one_a_newer(fresh: Place):
    schema.migrate(fresh)
    ask(fresh, "UPDATE bq.meta SET version = version + 1")
    for attempt in (opened, schema.migrate):
        with pytest.raises(StartupError, match=r"was written by a newer version \(schema \d+, this one knows \d+\)"):
            attempt(fresh)
    ask(fresh, "UPDATE bq.meta SET version = 0")
    with pytest.raises(StartupError, match="has no tables of ours yet"):
        opened(fresh)


def test_a_step_that_fails_leaves_nothing_behind(fresh: Place, monkeypatch: pytest.MonkeyPatch):
    schema.migrate(fresh)
    known = schema.migrations()
    more = [*known, (known[-1][0] + 1, "CREATE TABLE bq.more (n int); SELECT nothing FROM nowhere;")]
    monkeypatch.setattr(schema, "migrations", lambda: more)
    with pytest.raises(StoreError, match='relation "nowhere" does not exist'):
        schema.migrate(fresh)
    assert ask(fresh, "SELECT to_regclass('bq.more') IS NULL, (SELECT version FROM bq.meta)") == [(True, known[-1][0])]
    with pytest.raises(
        StartupError, match=f"its schema is of version {known[-1][0]}, this one needs {known[-1][0] + 1}"
    ):
        opened(fresh)


def test_nothing_is_dropped_by_a_migration(fresh: Place, monkeypatch: pytest.MonkeyPatch):
    """A server of the version before may still lead: a step only adds."""
    known = schema.migrations()
    for version, text in known[1:]:
        bare = "\n".join(line.partition("--")[0] for line in text.splitlines())
        found = re.findall(r"\b(?:DROP|TRUNCATE|DELETE|RENAME|ALTER COLUMN)\b", bare, re.IGNORECASE)
        assert found == [], f"step {version}"
    monkeypatch.setattr(schema, "migrations", lambda: known[:1])
    schema.migrate(fresh)
    for text in (
        "INSERT INTO bq.job VALUES (1, 'a', 'q', '1', NULL, 0, 1, 1, 'waiting', 1, 0, 0, '0')",
        "INSERT INTO bq.finished VALUES (1, 'b', 'q', 'completed', 1, '1', NULL, 0, 1, 1, 0, 0, '0')",
        "INSERT INTO bq.event_batch VALUES (1, 1, 1, '{}', 1)",
        "INSERT INTO bq.fact VALUES ('pause', 'q', '1')",
        "INSERT INTO bq.trail (key, kind, first, next, size) VALUES ('b', 'log', 1, 2, 1)",
        "INSERT INTO bq.trail_line SELECT id, 1, 1, '1' FROM bq.trail",
    ):
        ask(fresh, text)
    tables = ("job", "finished", "event_batch", "fact", "trail", "trail_line")
    before = [ask(fresh, f"SELECT * FROM bq.{table} ORDER BY 1") for table in tables]
    assert [len(rows) for rows in before] == [1] * len(tables)
    monkeypatch.undo()
    assert schema.migrate(fresh) == (1, known[-1][0])
    assert [ask(fresh, f"SELECT * FROM bq.{table} ORDER BY 1") for table in tables] == before


def test_a_migration_leaves_no_lock_in_its_session(fresh: Place, monkeypatch: pytest.MonkeyPatch):
    """A pooler would keep the session."""
    held: list[int] = []

    class Looked(schema.DatabaseLink):
        def close(self) -> None:
            if self.is_open:
                text = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
                held.append(self.ask(schema.Query(text))[0][0])
            super().close()

    monkeypatch.setattr(schema, "DatabaseLink", Looked)
    schema.migrate(fresh)
    assert held == [0]


def test_what_is_not_ours_is_left_alone(fresh: Place):
    ask(fresh, f"CREATE SCHEMA {fresh.schema}")
    ask(fresh, "CREATE TABLE bq.accounts (n int)")
    with pytest.raises(StartupError, match="holds something else"):
        schema.migrate(fresh)


def test_a_database_that_cannot_hold_it_is_refused(fresh: Place, postgres: Cluster, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(schema, "_OLDEST", 999_999)
    with pytest.raises(StartupError, match="PostgreSQL 15 or newer is needed"):
        schema.migrate(fresh)
    monkeypatch.undo()
    ask(fresh, "CREATE DATABASE odd ENCODING 'SQL_ASCII' TEMPLATE template0")
    try:
        with pytest.raises(StartupError, match="the encoding UTF8 is needed, this one has SQL_ASCII"):
            schema.migrate(parse_place(postgres.new_url().replace("/postgres?", "/odd?")))
    finally:
        ask(fresh, "DROP DATABASE odd WITH (FORCE)")
    with pytest.raises(StoreError, match="does not exist"):
        schema.migrate(parse_place(postgres.new_url().replace("/postgres?", "/nowhere?")))
    with pytest.raises(StoreError, match="does not exist"):
        opened(parse_place(postgres.new_url().replace("/postgres?", "/nowhere?")))


def test_the_place_is_a_url_with_a_schema():
    place = parse_place("postgres://me:pw@host:5433/queue?sslmode=require&schema=other")
    assert place.conninfo == "postgresql://me:pw@host:5433/queue?sslmode=require"
    assert (place.schema, str(place)) == ("other", "postgres://me@host:5433/queue?sslmode=require&schema=other")
    assert place.qualified("SELECT bq.x FROM bq.y, abq.z") == 'SELECT "other".x FROM "other".y, abq.z'
    assert parse_place("postgresql:///queue")[:2] == ("postgresql:///queue", "bunqueue")
    assert without_password("postgres:///queue?user=me&password=pw") == "postgres:///queue?user=me"
    for secret in ("se/cret", "se?cret", "se#cret", "se@cret", "se:cret"):
        assert (
            without_password(f"postgres://me:{secret}@host/queue?sslmode=require")
            == "postgres://me@host/queue?sslmode=require"
        )
    assert without_password("postgres:///queue?pass%77ord=pw&user=me") == "postgres:///queue?user=me"
    assert (
        without_password("postgres://host/queue?application_name=a@b") == "postgres://host/queue?application_name=a@b"
    )
    for name in ("", "Other", "a b", "pg_mine", "x" * 50, "a;b"):
        with pytest.raises(StartupError, match="schema="):
            parse_place(f"postgres:///queue?schema={name}")


def test_words_of_the_url_are_passed_on_as_they_are():
    place = parse_place(
        "postgres://me:p%23w#x@host/queue?options=-c%20statement_timeout%3D5s&sslrootcert=/a%20b/ca.pem"
    )
    assert place.conninfo == (
        "postgresql://me:p%23w%23x@host/queue?options=-c%20statement_timeout%3D5s&sslrootcert=%2Fa%20b%2Fca.pem"
    )


@pytest.mark.parametrize("word", ["full", "user", "order", "table"])
def test_the_schema_may_be_a_word_of_sql(postgres: Cluster, word: str):
    place = parse_place(re.sub("schema=[^&]*", f"schema={word}", postgres.new_url()))
    schema.migrate(place)
    opened(place).close()


def test_words_that_no_database_understands_are_named():
    with pytest.raises(StartupError, match=r"^STORE: .*nonsense"):
        PostgresStore(parse_place("postgres:///queue?nonsense=1"))


async def test_without_psycopg_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(sys.modules, "bunqueue_trio.storage.postgres.standby", raising=False)
    monkeypatch.delitem(sys.modules, "bunqueue_trio.storage.postgres.store", raising=False)
    monkeypatch.delitem(sys.modules, "bunqueue_trio.storage.postgres.link", raising=False)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StartupError, match=r"needs psycopg: pip install \"\.\[postgres\]\" in the checkout"):
        await open_store(Settings(store="postgres:///queue"))


def test_texts_keep_their_order_and_stay_apart_without_nul():
    texts = ["", "\0", "\0\0", "\0\1", "\0\2", "\1", "\1\0", "\1\1", "\1\2", "\2", "a", "a\0", "a\0b", "a\1", "b"]
    written = [without_nul(text) for text in texts]
    assert [with_nul(text) for text in written] == texts
    assert sorted(written) == [without_nul(text) for text in sorted(texts)]
    assert not any("\0" in text for text in written)


def test_numbers_come_back_as_what_they_were():
    for value in (0, 50, 50.0, -3, 1e-300, 99.5):
        written = numbers([value])[24:].decode()
        assert repr(number(written)) == repr(value)


async def test_settings_name_a_file_or_a_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = await open_store(Settings(data_path=str(tmp_path / "queue.db")))
    assert isinstance(file, SqliteStore)
    file.close()
    named: list[Any] = []

    async def take_over(*where: Any) -> MemoryStore:
        named.extend(where)
        return MemoryStore()

    monkeypatch.setattr(standby, "take_over", take_over)
    assert isinstance(await open_store(Settings(store="postgres:///queue", store_lease_ms=5000)), MemoryStore)
    assert named[:2] == ["postgres:///queue", 5]
