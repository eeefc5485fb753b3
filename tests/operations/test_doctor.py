"""What doctor finds in a file, and that it leaves no trace there."""

import shutil
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from bunqueue_trio.errors import StartupError, StoreError
from bunqueue_trio.storage.sqlite import inspect
from bunqueue_trio.storage.sqlite.inspect import CHECKS, TRAIL_CHECKS, Report, copy, examine
from tests.operations.processes import bunqueue, serving
from tests.operations.stores import Writer, make_store, spoil


def look(path: Path) -> Report:
    return examine(path, lambda _: None)


def test_a_sound_store_has_no_findings_and_true_counts(file: Path):
    told: list[str] = []
    report = examine(file, told.append)
    assert report.findings == []
    assert report.unfinished == {"active": 1, "delayed": 1, "waiting": 2, "waiting-children": 1}
    assert report.finished == {"completed": 1, "failed": 1, "removed": 1}
    assert report.events > 10
    assert report.size == file.stat().st_size
    assert [claim for claim, _ in CHECKS + TRAIL_CHECKS] == told[2:-2]


def test_an_empty_store_is_sound(tmp_path: Path):
    Writer(tmp_path / "q.db").store.close()
    report = look(tmp_path / "q.db")
    assert (report.findings, report.unfinished, report.finished, report.events) == ([], {}, {}, 0)


COPY = "INSERT INTO finished SELECT {fin}, {id}, queue, 'completed', 1, data, NULL, 0, 1, 1, 0, 0, 0, NULL, NULL, NULL, NULL FROM job LIMIT 1"
FAULTS = {
    "unfinished jobs share an id": "UPDATE job SET id = 'twin' WHERE state IN ('waiting', 'delayed')",
    "jobs are unfinished and finished at once": COPY.format(fin=99, id="id"),
    "unfinished jobs are in no state that there is": "UPDATE job SET state = 'completed' WHERE state = 'delayed'",
    "finished jobs are in no state that there is": "UPDATE finished SET state = 'waiting'",
    "active jobs have no lease": "UPDATE job SET lease = NULL WHERE state = 'active'",
    "jobs have a lease and are not active": 'UPDATE job SET lease = \'{"token":"t","ttl":1}\' WHERE state = \'waiting\'',
    "jobs wait for dependencies and name none": "UPDATE job SET note = NULL WHERE state = 'waiting-children'",
    "jobs wait for a job that is not there": "DELETE FROM job WHERE state = 'waiting'",
    "ready jobs have no place": "UPDATE job SET place = 0 WHERE state = 'waiting'",
    "ready jobs share a place": "UPDATE job SET place = 7 WHERE state = 'waiting'",
    "unfinished jobs hold the same unique key": (
        "UPDATE job SET options = '{\"unique_key\":\"k\"}' WHERE state IN ('active', 'waiting')"
    ),
    "keys are where no next one is left": f"UPDATE job SET seq = {2**60} WHERE state = 'delayed'",
    "events overlap": "UPDATE event_batch SET count = count + 5",
}


@pytest.mark.parametrize("claim", [claim for claim, _ in CHECKS])
def test_each_broken_invariant_is_found_and_named(file: Path, claim: str):
    spoil(file, FAULTS[claim])
    findings = look(file).findings
    assert [finding for finding in findings if finding.startswith(claim)], findings


def test_a_job_that_the_server_could_not_read_is_found(file: Path):
    spoil(file, "UPDATE job SET lease = '{' WHERE state = 'active'")
    assert any(finding.startswith("jobs in job cannot be read: 1 (row") for finding in look(file).findings)


@pytest.mark.parametrize(
    ("kind", "value"), [("paused", b"{}"), ("concurrency", b"many"), ("rate-limit", b"[]"), ("error-mark", b"1"), ("plan", b"{")]
)  # fmt: skip
def test_a_fact_that_the_server_could_not_read_is_found(file: Path, kind: str, value: bytes):
    spoil(file, f"INSERT INTO fact VALUES ('{kind}', 'x', x'{value.hex()}')")
    assert look(file).findings == [f"facts cannot be read: 1 ({kind} of x)"]


def test_a_line_of_a_trail_that_cannot_be_read_is_found(file: Path):
    """Of as many bytes, so that the trail adds up."""
    spoil(file, "UPDATE trail_line SET body = zeroblob(length(body))")
    [finding] = look(file).findings
    assert finding.startswith("lines of trails cannot be read: ")


def test_a_dead_letter_in_no_group_is_found(file: Path):
    spoil(file, "UPDATE finished SET fingerprint = NULL WHERE state = 'failed'")
    [finding] = look(file).findings
    assert finding.startswith("dead letters are in no group of errors, or others are: 1 (")
    spoil(file, "UPDATE finished SET fingerprint = 'x'")
    [finding] = look(file).findings
    assert finding.startswith("dead letters are in no group of errors, or others are: ")


def test_a_payload_that_is_no_json_is_found(file: Path):
    spoil(file, "UPDATE finished SET data = CAST('{' AS BLOB) WHERE state = 'failed'", "UPDATE job SET data = x'7b'")
    findings = look(file).findings
    assert any(finding.startswith("jobs in finished cannot be read: 1 (row") for finding in findings)
    assert any(finding.startswith("jobs in job cannot be read: 5 (row") and ", …)" in finding for finding in findings)


def test_a_result_that_is_no_json_is_found(file: Path):
    spoil(file, "UPDATE finished SET result = CAST('{' AS BLOB) WHERE state = 'completed'")
    assert any(finding.startswith("jobs in finished cannot be read: 1 (row") for finding in look(file).findings)


def test_half_a_surrogate_pair_in_a_payload_is_no_damage(file: Path):
    """Its JSON is passed on as it came."""
    payload = r"""CAST('["\ud800", {"a": "\udfff\\"}]' AS BLOB)"""
    spoil(file, f"UPDATE job SET data = {payload}", f"UPDATE finished SET data = {payload}, result = {payload}")
    assert look(file).findings == []


def test_a_question_that_cannot_be_asked_is_a_finding(file: Path):
    spoil(file, "UPDATE job SET note = '{' WHERE state = 'waiting-children'")
    assert any("cannot be checked: malformed JSON" in finding for finding in look(file).findings)


def test_a_damaged_page_is_found_and_does_not_end_the_look(tmp_path: Path):
    path = tmp_path / "q.db"
    writer = Writer(path)
    for _ in range(300):
        writer.push()
    writer.store.close()
    content = bytearray(path.read_bytes())
    content[2 * 4096 :] = b"\xff" * (len(content) - 2 * 4096)  # all that the root of the jobs points to
    path.write_bytes(content)
    findings = look(path).findings
    assert any(finding.startswith("the file is damaged") for finding in findings)
    assert any("cannot be read" in finding for finding in findings)


def test_a_file_that_cannot_be_looked_at_at_all_is_a_finding(tmp_path: Path):
    connection = apsw.Connection(str(tmp_path / "q.db"))
    connection.close()
    [found] = inspect._damage(connection)
    assert found.startswith("the file is damaged: ")


def test_counts_of_a_damaged_table_are_left_out(tmp_path: Path):
    """Every page but the schema's is gone: even counting fails, and is not the news."""
    path = tmp_path / "q.db"
    make_store(path)
    size = path.stat().st_size
    content = path.read_bytes()[:4096] + b"\xff" * (size - 4096)
    path.write_bytes(content)
    report = look(path)
    assert report.unfinished == {}
    assert report.findings


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(None, "there is no such file"), (b"", "is empty"), (b"x" * 5000, "file is not a database")],
)
def test_what_is_no_store_is_said_in_one_line(tmp_path: Path, content: bytes | None, complaint: str):
    path = tmp_path / "q.db"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StoreError, match=complaint):
        look(path)


def test_another_programs_database_is_refused(tmp_path: Path):
    spoil(tmp_path / "q.db", "CREATE TABLE t (x)")
    with pytest.raises(StartupError, match="another program's database"):
        look(tmp_path / "q.db")


def test_no_trace_is_left_beside_a_file_that_nobody_has_open(file: Path):
    """A log made by root would lock the server out of its own store."""
    before, content = sorted(file.parent.iterdir()), file.read_bytes()
    look(file)
    assert sorted(file.parent.iterdir()) == before
    assert file.read_bytes() == content


def test_a_server_that_starts_meanwhile_makes_the_look_void(file: Path):
    started: list[Writer] = []

    def start(_: str) -> None:
        if not started:
            started.append(Writer(file))

    with pytest.raises(StoreError, match="run this again"):
        examine(file, start)
    started[0].store.close()


@pytest.mark.slow
def test_a_file_whose_change_was_cut_short_is_for_a_start_to_heal(file: Path, tmp_path: Path):
    """As one is left by a kill while a start changes how the file keeps its log."""
    cut = tmp_path / "cut.db"
    with closing(apsw.Connection(str(file))) as writer:
        writer.execute("PRAGMA journal_mode=DELETE").fetchall()
        # So that some of it is in the file before it is committed.
        writer.execute("PRAGMA cache_size=1")
        writer.execute("BEGIN")
        writer.execute("UPDATE job SET data = zeroblob(100000)")
        for end in ("", "-journal"):
            shutil.copy(f"{file}{end}", f"{cut}{end}")
        writer.execute("ROLLBACK")
    heal = r"cut\.db-journal beside it tells how to undo that: start a server on it once"
    with pytest.raises(StoreError, match=heal):
        look(cut)
    with pytest.raises(StoreError, match=heal):
        copy(cut, tmp_path / "backup.db", lambda *_: None, overwrite=False)
    Writer(cut).store.close()
    assert look(cut) == look(file)


def test_doctor_works_beside_a_running_server(tmp_path: Path):
    with serving(tmp_path) as running, running.client() as client:
        client.post("/queues/q/jobs", json={"data": 1})
        done = bunqueue("doctor", str(running.data_path))
        assert (done.code, done.err) == (0, "")
        assert "unfinished: 1 waiting" in done.out
        assert done.out.endswith("no problem found\n")
        client.post("/queues/q/jobs", json={"data": 1}).raise_for_status()


@pytest.mark.slow
def test_doctor_ends_with_1_for_a_store_that_is_not_sound(file: Path, tmp_path: Path):
    spoil(file, FAULTS["ready jobs share a place"])
    done = bunqueue("doctor", str(file))
    assert (done.code, done.err) == (1, "")
    assert "PROBLEM: ready jobs share a place: 1 (" in done.out
    missing = bunqueue("doctor", str(tmp_path / "none"))
    assert (missing.code, missing.err) == (1, f"bunqueue-trio: {tmp_path / 'none'}: there is no such file\n")
    spoil(tmp_path / "other.db", "CREATE TABLE t (x)")
    other = bunqueue("doctor", str(tmp_path / "other.db"))
    assert (other.code, other.err) == (1, f"bunqueue-trio: {tmp_path / 'other.db'}: is another program's database\n")
