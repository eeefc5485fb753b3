"""What is said of errors: fixed until one comes back, muted, or nothing; over crashes, and no more than is to be kept."""

from typing import Any

import pytest

from bunqueue_trio.engine import marks
from bunqueue_trio.engine.fingerprint import fingerprint
from bunqueue_trio.engine.marks import MARK
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from tests.engine.make import Bench
from tests.engine.test_groups import die

LATE = fingerprint("late 1").key


def mark(bench: Bench, what: Any, key: str = LATE) -> None:
    bench.do(c.MarkGroup(fingerprint=key, mark=what))


def told(bench: Bench) -> list[tuple[str | None, int | None]]:
    return [(group.mark, group.marked_at) for group in bench.do(c.DlqGroups(queue="q")).groups]


def test_an_error_that_is_fixed_is_reported_when_it_is_back(bench: Bench):
    die(bench, "late 1")
    assert told(bench) == [(None, None)]
    mark(bench, "fixed")
    at = bench.now
    assert told(bench) == [("fixed", at)]
    die(bench, "other")
    assert bench.engine.marks.back() == []
    die(bench, "late 2", "r")
    since = bench.now
    die(bench, "late 3")
    assert told(bench)[0] == ("back", at)
    [(key, back)] = bench.engine.marks.back()
    assert (key, back.queue, back.shape, back.back_at, back.times) == (LATE, "q", "late …", since, 2)
    assert back.last_at == bench.now
    bench.restart()
    assert bench.engine.marks.back() == [(key, back)]
    mark(bench, "fixed")
    assert (told(bench)[0], bench.engine.marks.back()) == (("fixed", bench.now), [])


def test_a_death_by_the_servers_own_word_brings_one_back(bench: Bench):
    job_id = bench.push(max_attempts=1, timeout=50)
    mark(bench, "fixed", fingerprint("Job timed out after 50 ms").key)
    bench.pull()
    bench.sleep(50)
    assert bench.state(job_id).state == "failed"
    assert [back.times for _, back in bench.engine.marks.back()] == [1]


@pytest.mark.parametrize("what", ["muted", "none"])
def test_one_that_is_muted_or_not_marked_any_more_does_not_come_back(bench: Bench, what: str):
    mark(bench, "fixed")
    mark(bench, "fixed", "000000000000")
    mark(bench, what)
    die(bench, "late 1")
    assert bench.engine.marks.back() == []
    assert [mark for mark, _ in told(bench)] == [None if what == "none" else "muted"]
    assert bench.engine.marks.muted == ({LATE} if what == "muted" else set())


def test_what_is_said_twice_changes_nothing(bench: Bench):
    mark(bench, "none")
    mark(bench, "muted")
    at = bench.now
    bench.commit()
    bench.now += 5
    mark(bench, "muted")
    assert not bench.engine.facts.changed
    assert bench.engine.marks[LATE].at == at
    mark(bench, "none")
    bench.commit()
    assert not bench.engine.facts.of(MARK)
    bench.restart()
    assert bench.engine.marks == {}


def test_the_oldest_marks_make_room(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(marks, "MARKS_MAX", 2)
    for n in (3, 2, 1):
        bench.now += 1
        mark(bench, "muted", f"{n:012}")
    assert list(bench.engine.marks) == [f"{n:012}" for n in (2, 1)]
    bench.commit()
    bench.restart()
    assert list(bench.engine.marks) == [f"{n:012}" for n in (2, 1)]
    with pytest.raises(Refused, match="fingerprint must be"):
        mark(bench, "muted", "nothing")
