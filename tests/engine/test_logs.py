"""The log of a job: what is written is kept as long as the job, and not longer."""

import json
from typing import Any

import pytest

from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from tests.engine.engine_disk import freeze
from tests.engine.make import T0, Bench


def add(bench: Bench, job_id: str, message: str = "x") -> None:
    bench.do(c.AddLog(id=job_id, message=message))


def messages(bench: Bench, job_id: str) -> list[str]:
    bench.commit()
    return [line.message for line in bench.do(c.GetLogs(id=job_id)).data.logs]


def test_lines_come_in_pages_oldest_first(bench: Bench):
    bench.push(job_id="a")
    for n in range(3):
        bench.now += 1
        add(bench, "a", str(n))
    bench.do(c.AddLog(id="a", message="bad", level="error"))
    bench.commit()
    first = bench.do(c.GetLogs(id="a", limit=3)).data
    assert [(line.timestamp, line.level, line.message) for line in first.logs] == [
        (T0 + n + 1, "info", str(n)) for n in range(3)
    ]
    assert first.count == 4
    rest = bench.do(c.GetLogs(id="a", limit=3, after=first.next)).data
    assert [(line.level, line.message) for line in rest.logs] == [("error", "bad")]
    assert (rest.count, rest.next) == (4, None)
    with pytest.raises(Refused, match="after must be"):
        bench.do(c.GetLogs(id="a", after="x"))


def test_a_line_changes_a_job_once(bench: Bench):
    bench.push(job_id="a")
    bench.commit()
    add(bench, "a")
    assert len(bench.engine.changed) == 1
    bench.commit()
    add(bench, "a")
    assert (len(bench.engine.changed), bench.engine.has_changes) == (0, True)


@pytest.mark.parametrize("command", [c.AddLog(id="no", message="x"), c.GetLogs(id="no"), c.ClearLogs(id="no")])
def test_a_job_that_is_not_there_has_no_log(bench: Bench, command: c.Command):
    with pytest.raises(Refused, match="Job not found"):
        bench.do(command)
    assert not bench.engine.has_changes


@pytest.mark.parametrize("committed", [True, False])
def test_a_log_outlives_the_work(bench: Bench, *, committed: bool):
    bench.push(job_id="a")
    bench.pull()
    add(bench, "a", "while")
    bench.ack("a")
    if committed:
        bench.commit()
    add(bench, "a", "after")
    assert messages(bench, "a") == ["while", "after"]


@pytest.mark.parametrize("restarted", [True, False])
@pytest.mark.parametrize("end", [c.Cancel(id="a"), c.Ack(id="a"), c.Fail(id="a", unrecoverable=True)])
def test_a_job_without_a_record_leaves_no_log(bench: Bench, end: c.Command, *, restarted: bool):
    bench.push(job_id="a", remove_on_complete=True, remove_on_fail=True)
    add(bench, "a")
    bench.pull()
    bench.commit()
    assert len(bench.disk.trails["a"]["log"]) == 1
    if restarted:
        bench.restart()
    bench.do(end)
    bench.commit()
    assert bench.disk.trails.get("a", {}) == {}
    with pytest.raises(Refused):
        add(bench, "a")


@pytest.mark.parametrize("when", ["gathering", "in flight", "committed"])
def test_a_job_of_the_same_id_has_a_log_of_its_own(bench: Bench, when: str):
    bench.push(job_id="a")
    bench.pull()
    add(bench, "a", "old")
    bench.ack("a")
    add(bench, "a", "late")
    changes = bench.engine.take() if when == "in flight" else None
    batch = None if changes is None else freeze(changes)
    if when == "committed":
        bench.commit()
    bench.push(job_id="a")
    add(bench, "a", "new")
    if changes is not None:
        bench.disk.commit(batch)
        bench.engine.forget(changes.jobs)
        assert bench.do(c.GetLogs(id="a")).data.logs == []
    assert messages(bench, "a") == ["new"]


def test_an_ended_job_that_is_replaced_leaves_its_last_line_to_nobody(bench: Bench):
    bench.push(job_id="a")
    bench.pull()
    bench.ack("a")
    bench.commit()
    add(bench, "a", "late")
    bench.push(job_id="a")
    bench.pull()
    bench.ack("a")
    assert messages(bench, "a") == []


def test_a_last_line_of_a_record_that_retention_deletes_meanwhile_is_not_kept(bench: Bench):
    bench.push(job_id="a")
    bench.pull()
    bench.ack("a")
    bench.commit()
    add(bench, "a", "late")
    del bench.disk.finished["a"]
    bench.commit()
    assert bench.disk.trails.get("a", {}) == {}


def test_a_log_is_cleared_and_goes_on(bench: Bench):
    bench.push(job_id="a")
    add(bench, "a", "1")
    bench.do(c.ClearLogs(id="a"))
    bench.do(c.ClearLogs(id="a"))
    add(bench, "a", "2")
    assert messages(bench, "a") == ["2"]
    bench.do(c.ClearLogs(id="a"))
    assert messages(bench, "a") == []
    bench.do(c.ClearLogs(id="a"))
    bench.commit()
    acts: list[Any] = [json.loads(body) for _, body in bench.disk.trails[""]["actions"]]
    assert [(act["command"], act["job"]) for act in acts] == [("ClearLogs", "a")] * 2


def test_the_attempts_are_not_cleared_with_the_log(bench: Bench):
    bench.push(job_id="a")
    bench.pull()
    add(bench, "a")
    bench.fail("a")
    bench.do(c.ClearLogs(id="a"))
    assert messages(bench, "a") == []
    assert len(bench.do(c.GetAttempts(id="a")).attempts) == 1
