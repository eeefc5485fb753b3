"""A file of an older version comes to this one's schema, whole or not at all, and loses nothing on the way."""

import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from bunqueue_trio.engine.fingerprint import fingerprint
from bunqueue_trio.engine.job import State
from bunqueue_trio.engine.trails import Line
from bunqueue_trio.protocol.lines import Action, Attempt, LogLine
from bunqueue_trio.storage.sqlite import SqliteStore
from bunqueue_trio.storage.sqlite.inspect import copy, examine
from bunqueue_trio.storage.sqlite.opening import closing, migrations
from tests.storage.ledger import Ledger, ended, loaded, make_job

FILES = Path(__file__).parent / "files"
ROOT = Path(__file__).parent.parent.parent
NEWEST = migrations()[-1][0]
OLD = [(version, FILES / f"schema{version}.store") for version in (2, 3, 4)]
"""Files that were written by the last version of their schema (`old_file.py`). The one of schema 4 has facts and trails, too."""


TABLES = {"job": 16, "finished": 16, "event_batch": 5, "fact": 3, "trail": 6, "trail_line": 4}
"""Table → its columns that were there in each schema."""


def rows(path: Path) -> dict[str, list[Any]]:
    """Everything that is in the file; a table that it has not is an empty one."""
    with closing(apsw.Connection(str(path))) as connection:
        there = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        return {
            table: [row[:columns] for row in connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2")]
            if table in there
            else []
            for table, columns in TABLES.items()
        }


def kinds(path: Path) -> tuple[dict[str, int], dict[str, int]]:
    """Return how many facts and lines of trails there are of each kind."""
    there = rows(path)
    facts = Counter(kind for kind, *_ in there["fact"])
    of = {number: kind for number, _, kind, *_ in there["trail"]}
    return dict(sorted(facts.items())), dict(sorted(Counter(of[trail] for trail, *_ in there["trail_line"]).items()))


def schema(path: Path) -> int:
    with closing(apsw.Connection(str(path))) as connection:
        return connection.pragma("user_version")


@pytest.fixture(params=OLD, ids=lambda old: f"schema{old[0]}")
def old(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[int, Path]:
    version, file = request.param
    path = tmp_path / "q.db"
    shutil.copy(file, path)
    return version, path


def test_everything_is_there_after_the_step_and_the_lists_too(old: tuple[int, Path]):
    version, path = old
    before = rows(path)
    assert schema(path) == version
    assert [name for name, found in before.items() if not found] == (
        [] if version >= 4 else ["fact", "trail", "trail_line"]
    )
    store = SqliteStore(path)
    assert set(loaded(store)) == {row[1] for row in before["job"]}
    assert [(fact.kind, fact.key, fact.value) for fact in store.load_facts()] == before["fact"]
    for state in ("completed", "failed"):
        ids = [row[1] for row in before["finished"] if (row[2], row[3]) == ("q", state)]
        assert [job.id for job in store.records("q", State(state), None, 10).jobs] == ids[::-1] != []
        assert store.finished_counts["q", state] == len(ids)
    assert store.dead_groups.sizes("q") == {fingerprint("Unknown error").key: 1}
    if version >= 4:
        assert store.dead_groups.sizes("third") == {fingerprint("no answer").key: 1}
    store.close()
    assert (schema(path), rows(path)) == (NEWEST, before)
    assert examine(path, lambda _: None).findings == []


def test_a_log_that_an_older_version_left_is_taken_along(old: tuple[int, Path], tmp_path: Path):
    """It was killed, and the newer version was started at once."""
    _, path = old
    writer = apsw.Connection(str(path))
    writer.execute("PRAGMA journal_mode=WAL").fetchall()
    writer.execute("INSERT INTO event_batch VALUES (1000, 1, 7, x'7b7d', 7)").fetchall()
    killed = tmp_path / "killed.db"
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", f"{killed}{suffix}")
    writer.close()
    store = SqliteStore(killed)
    assert (store.last_event_id, len(list(store.load()))) == (1000, len(rows(path)["job"]))
    store.close()
    assert schema(killed) == NEWEST


def test_doctor_and_backup_work_on_both(old: tuple[int, Path], tmp_path: Path):
    version, path = old
    for wanted in (version, NEWEST):
        report = examine(path, lambda _: None)
        assert (report.schema, report.findings, report.facts, report.trails) == (wanted, [], *kinds(path))
        target = tmp_path / f"copy-{wanted}.db"
        copy(path, target, lambda *_: None, overwrite=False)
        assert (schema(target), rows(target)) == (wanted, rows(path))
        SqliteStore(path).close()


def test_doctor_counts_the_facts_of_each_kind(tmp_path: Path):
    store = SqliteStore(tmp_path / "q.db")
    ledger = Ledger(store)
    ledger.write([ended(make_job(1))], facts=[("pause", "a", b"1"), ("pause", "b", b"2"), ("limit", "a", b"3")])
    store.close()
    assert examine(tmp_path / "q.db", lambda _: None).facts == {"limit": 1, "pause": 2}


def test_doctor_counts_the_lines_of_trails_and_knows_what_is_wrong_with_them(tmp_path: Path):
    path = tmp_path / "q.db"
    store = SqliteStore(path)
    ledger = Ledger(store)
    failed = Attempt(
        attempt=1, started_at=1, failed_at=2, duration=1, reason="stalled", by=None, error="no", stack=None
    )
    bodies = {
        "attempts": failed, "actions": Action(at=1, who="ann", address="::1", command="Pause", count=1),
        "log": LogLine(timestamp=1, level="info", message="half way"),
    }  # fmt: skip
    lines = [
        Line(kind, "" if kind == "actions" else "a", 1, msgspec.json.encode(it)) for kind, it in bodies.items()
    ] * 2
    ledger.write([make_job(1, "a")], trails=lines)
    store.close()
    report = examine(path, lambda _: None)
    assert (report.trails, report.findings) == ({"actions": 2, "attempts": 2, "log": 2}, [])
    for spoiled, said in (
        ("UPDATE trail SET key = 'b' WHERE kind = 'log'", "trails are of no job: 1 (b)"),
        ("UPDATE trail SET size = 5 WHERE kind = 'log'", "trails do not add up: 1 (a log)"),
        ("UPDATE trail SET next = 4 WHERE kind = 'log'", "trails do not add up: 1 (a log)"),
        (
            "UPDATE trail_line SET n = 7 WHERE n = 2 AND trail = (SELECT id FROM trail WHERE kind = 'log')",
            "trails do not add up: 1 (a log)",
        ),
        ("INSERT INTO trail_line VALUES (9, 1, 1, x'')", "lines are of no trail: 1 (9)"),
    ):
        spoilt = tmp_path / "spoilt.db"
        shutil.copy(path, spoilt)
        with closing(apsw.Connection(str(spoilt))) as connection:
            connection.execute(spoiled).fetchall()
        assert examine(spoilt, lambda _: None).findings == [said]


KILLED = """
import os, shutil, signal, sys, traceback
from pathlib import Path
from bunqueue_trio.storage.sqlite import SqliteStore, opening, store

migrate = opening.migrate

def counted():
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return False

def killed(connection):
    connection.set_progress_handler(counted, 4)  # of the steps of SQLite's machine
    migrate(connection)

store.migrate = killed
for left in range(0, 1000, 20):  # to the end, which is long before
    path = shutil.copy(sys.argv[1], Path(sys.argv[2]) / f"{left}.db")
    if not (child := os.fork()):
        try:
            SqliteStore(path)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(left, ended)
    if not ended:
        break
"""
"""A process for each moment, forked from one that has loaded all: to start each would take a second of a core for four."""


@pytest.mark.slow
@pytest.mark.parametrize(("version", "file"), OLD)
def test_a_kill_at_any_moment_leaves_the_old_schema_or_the_new(tmp_path: Path, version: int, file: Path):
    before, found = rows(Path(shutil.copy(file, tmp_path / "old.db"))), []
    done = subprocess.run(
        [sys.executable, "-c", KILLED, file, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    moments = [(int(left), int(ended)) for left, ended in map(str.split, done.stdout.splitlines())]
    assert {ended for _, ended in moments[:-1]} == {-signal.SIGKILL}
    assert moments[-1][1] == 0
    for moment, _ in moments:
        path = tmp_path / f"{moment}.db"
        with closing(apsw.Connection(str(path))) as connection:  # as the next start finds it, with the log
            found.append(connection.pragma("user_version"))
            tables = connection.execute(
                "SELECT count(*) FROM sqlite_schema WHERE name = 'finished_by_fingerprint'"
            ).fetchall()
            assert tables == [(found[-1] == NEWEST,)]
        assert examine(path, lambda _: None).findings == []
        store = SqliteStore(path)
        assert set(loaded(store)) == {row[1] for row in before["job"]}
        store.close()
        assert (schema(path), rows(path)) == (NEWEST, before)
    assert len(found) > 3, "nothing was cut"
    assert found == sorted(found)
    assert (found[0], found[-1]) == (version, NEWEST)
