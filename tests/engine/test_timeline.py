"""The timeline of a job has each thing once, whatever of it is kept where, and however much happened between."""

import pytest
from msgspec import Raw

from bunqueue_trio.engine import timeline
from bunqueue_trio.engine.commands import apply
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import trail_replies as tr
from bunqueue_trio.protocol.caller import By
from tests.engine.make import T0, Bench

ANN = By("ann", "10.0.0.7")


def asked(bench: Bench, job_id: str) -> list[tr.TimelineReply]:
    """All pages."""
    bench.commit()
    pages, after = [], None
    while True:
        page: tr.TimelineReply = bench.do(c.GetTimeline(id=job_id, after=after))
        pages.append(page)
        after = page.next
        assert page.complete == (after is None)
        if after is None:
            return pages


def told(bench: Bench, job_id: str) -> list[tuple[int, str]]:
    entries = [entry for page in asked(bench, job_id) for entry in page.entries]
    return sorted((entry.at - T0, entry.what) for entry in entries)


def life(bench: Bench, job_id: str) -> None:
    """Delayed, promoted, stalled, failed, retried, completed: 7 ms from one to the next."""
    bench.push(job_id=job_id, delay=1000, backoff=7, max_attempts=2)
    bench.now += 7
    apply(bench.engine, c.Promote(id=job_id), bench.now, by=ANN)
    bench.commit()
    bench.now += 7
    bench.do(c.RegisterWorker(worker_id="w", name="mail"))
    bench.do(c.Pull(queue="q", owner="w"))
    bench.now += 7
    bench.do(c.Progress(id=job_id, progress=50, message="half"))
    bench.now += 7
    bench.fail(job_id)
    bench.sleep(7)
    bench.do(c.Pull(queue="q", owner="w"))
    bench.now += 7


LIFE = [
    (0, "delayed"),
    (0, "pushed"),
    (7, "act"),
    (7, "promoted"),
    (14, "pulled"),
    (21, "progress"),
    (28, "delayed"),
    (28, "failed"),
    (28, "retried"),
    (35, "pulled"),
]


@pytest.mark.parametrize("events", [True, False], ids=["all are kept", "none is kept"])
def test_each_thing_that_happened_is_there_once_and_in_order(bench: Bench, *, events: bool):
    life(bench, "a")
    bench.ack("a")
    bench.commit()
    if not events:
        bench.disk.events.clear()
    expected = [*LIFE, (42, "completed")]
    # What only events tell, and what the record does not tell of any attempt but the last.
    lost = {(0, "delayed"), (7, "promoted"), (28, "delayed"), (28, "retried")}
    assert told(bench, "a") == (expected if events else [each for each in expected if each not in lost])
    (page,) = asked(bench, "a")
    seen = {entry.what: entry for entry in page.entries}
    assert (seen["failed"].by, seen["failed"].error, seen["failed"].attempt) == ("mail", "boom", 1)
    assert (seen["act"].by, seen["act"].command) == ("ann", "Promote")
    assert (seen["progress"].progress, seen["progress"].message) == (50, "half")
    assert [entry.at for entry in page.entries] == sorted(entry.at for entry in page.entries)
    if events:
        assert [entry.until for entry in page.entries if entry.what == "delayed"] == [T0 + 1000, T0 + 35]


@pytest.mark.parametrize("events", [True, False], ids=["all are kept", "none is kept"])
def test_a_job_that_waits_for_its_time_says_until_when(bench: Bench, *, events: bool):
    bench.push(job_id="a", delay=1000)
    bench.commit()
    if not events:
        bench.disk.events.clear()
    assert told(bench, "a") == [(0, "delayed"), (0, "pushed")]
    assert [entry.until for entry in asked(bench, "a")[0].entries if entry.what == "delayed"] == [T0 + 1000]


def test_who_has_it_now_and_how_it_ended_by_whom(bench: Bench):
    life(bench, "a")
    assert told(bench, "a") == LIFE
    assert asked(bench, "a")[0].entries[-1].by == "mail"
    apply(bench.engine, c.Cancel(id="a", reason="no", grace=100), bench.now, by=ANN)
    at = bench.now
    assert told(bench, "a")[-2:] == [(at - T0, "act"), (at - T0, "cancelling")]
    bench.sleep(100)
    last = asked(bench, "a")[0].entries[-1]
    assert (last.at, last.what, last.by, last.error) == (at + 100, "cancelled", "ann", "Cancelled: no")
    for job_id, by in (("b", ANN), ("c", None)):
        bench.push(job_id=job_id, max_attempts=1)
        if by is None:
            bench.pull()
            bench.fail(job_id)
        else:
            apply(bench.engine, c.Discard(id=job_id), bench.now, by=by)
    assert [(each[1]) for each in told(bench, "b")] == ["act", "discarded", "pushed"]
    assert [(each[1]) for each in told(bench, "c")] == ["died", "failed", "pulled", "pushed"]


def test_a_job_that_was_another_one_before_or_is_gone(bench: Bench):
    bench.push(job_id="a", max_attempts=1)
    bench.pull()
    bench.fail("a")
    bench.now += 5
    bench.commit()
    bench.do(c.RetryDlq(queue="q", job_id="a"))
    bench.now += 5
    order = [entry.what for page in asked(bench, "a") for entry in page.entries]
    assert order == ["pushed", "pulled", "failed", "died", "act", "pushed"]
    bench.do(c.Cancel(id="a"))
    (page,) = asked(bench, "a")
    assert (page.state, page.entries[-1].what) == (None, "removed")
    (nothing,) = asked(bench, "nobody")
    assert (nothing.state, nothing.entries, nothing.gap) == (None, [], False)
    with pytest.raises(Refused, match="after must be"):
        bench.do(c.GetTimeline(id="a", after="x"))


def server_id(at: int, n: int) -> str:
    return f"{at:012x}"[:8] + "-" + f"{at:012x}"[8:] + f"-7000-8000-{n:012x}"


@pytest.mark.parametrize("begins", [0, 30, 59])
def test_a_long_past_is_looked_at_from_the_push_on_and_page_by_page(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, begins: int
):
    """However much happened between, and also before: nothing is missed, and little else is looked at."""
    monkeypatch.setattr(timeline, "EVENTS_LOOKED", 20)
    wanted = ""
    for minute in range(60):
        bench.now += 60_000
        if minute == begins:
            wanted = server_id(bench.now, 7)
            bench.push("mine", job_id=wanted, data=Raw(b'"\\"jobId\\":\\"x\\""'))
        for _ in range(10):
            bench.push("other", lifo=True)
        if minute == begins + 20:
            bench.do(c.Pull(queue="mine", lock_ttl=3_600_000))
        bench.commit()
    pages = asked(bench, wanted)
    expected = ["pushed", "pulled"] if begins + 20 < 60 else ["pushed"]
    assert [entry.what for page in pages for entry in page.entries if entry.what != "act"] == expected
    looked = sum(page.scanned for page in pages)
    assert looked <= (60 - begins) * 10 + 60
    assert all(page.scanned <= 20 for page in pages)


def test_it_ends_with_the_job(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(timeline, "EVENTS_LOOKED", 20)
    bench.push(job_id="a")
    bench.pull()
    bench.ack("a")
    for _ in range(100):
        bench.now += 1
        bench.push()
    bench.commit()
    assert len(asked(bench, "a")) == 1


def test_what_is_not_kept_is_said_to_be_missing(bench: Bench):
    for n in range(9):
        bench.now += 1
        bench.push(job_id="abcdefghi"[n])
    bench.commit()
    del bench.disk.events[:5]
    assert asked(bench, "h")[0].gap
    assert not asked(bench, server_id(bench.now - 1, 1))[0].gap


def test_what_stands_in_a_payload_is_no_event_of_it(bench: Bench):
    body = b'{"x":"\\ud800","jobId":"a"}'
    bench.push(job_id="b", data=Raw(body))
    assert told(bench, "a") == []
    assert [what for _, what in told(bench, "b")] == ["pushed"]


@pytest.mark.parametrize("job_id", ['a"b', "a\\b", "a\x1fb", "a/b", "\u00e4", "ffffffff-ffff-7fff-8fff-ffffffffffff"])
def test_whatever_a_job_is_called_nothing_of_it_is_missing(bench: Bench, monkeypatch: pytest.MonkeyPatch, job_id: str):
    """Its id may stand in another form in what is kept, or have the form of a time."""
    monkeypatch.setattr(timeline, "EVENTS_LOOKED", 20)
    for _ in range(30):
        bench.now += 1
        bench.push()
    bench.push("mine", job_id=job_id)
    for command in (c.ChangePriority(id=job_id, priority=3), c.Update(id=job_id, data=Raw(b"2"))):
        apply(bench.engine, command, bench.now, by=ANN)
    bench.do(c.Pull(queue="mine"))
    for _ in range(30):
        bench.now += 1
        bench.push()
    found = [entry for page in asked(bench, job_id) for entry in page.entries]
    assert [entry.command for entry in found if entry.what == "act"] == ["ChangePriority", "Update"]
    assert sorted(entry.what for entry in found if entry.what != "act") == ["pulled", "pushed", "updated", "updated"]


def test_an_id_with_a_time_to_come_of_a_job_that_is_gone_is_looked_for_from_the_first_event_on(bench: Bench):
    job_id = server_id(bench.now + 120_000, 1)
    bench.push(job_id=job_id)
    bench.do(c.Cancel(id=job_id))
    assert [what for _, what in told(bench, job_id)] == ["act", "pushed", "removed"]


def test_what_makes_a_job_ready_stands_before_its_delivery_of_the_same_ms(bench: Bench):
    bench.push(job_id="j", delay=60_000)
    bench.sleep(1000)
    bench.do(c.Promote(id="j"))
    bench.do(c.Pull(queue="q"))
    order = [entry.what for page in asked(bench, "j") for entry in page.entries]
    assert [what for what in order if what != "delayed"] == ["pushed", "act", "promoted", "pulled"]


def test_what_happens_within_one_ms_stands_in_its_order(bench: Bench):
    bench.push(job_id="j", backoff=0, max_attempts=2)
    bench.do(c.Pull(queue="q"))
    bench.do(c.Progress(id="j", progress=10))
    bench.fail("j")
    bench.do(c.Pull(queue="q"))
    bench.do(c.Progress(id="j", progress=50))
    bench.do(c.Ack(id="j"))
    assert in_order(bench, "j") == [
        "pushed", "pulled", "progress", "failed", "retried", "pulled", "progress", "completed",
    ]  # fmt: skip
    assert [entry.progress for entry in asked(bench, "j")[0].entries if entry.what == "progress"] == [10, 50]


@pytest.mark.parametrize("events", [True, False], ids=["all are kept", "none is kept"])
def test_a_job_that_told_its_progress_before_it_died_failed_once_and_is_dead(bench: Bench, *, events: bool):
    bench.push(job_id="j", max_attempts=1)
    bench.now += 1
    bench.pull()
    bench.do(c.Progress(id="j", progress=50))
    bench.now += 1
    bench.fail("j")
    bench.commit()
    if not events:
        bench.disk.events.clear()
    assert in_order(bench, "j") == ["pushed", "pulled", "progress", "failed", "died"]


def test_acts_of_one_ms_stand_before_what_came_of_them(bench: Bench):
    bench.push(job_id="j", max_attempts=1)
    bench.pull()
    bench.fail("j")
    bench.do(c.RetryDlq(queue="q", job_id="j"))
    bench.do(c.ChangePriority(id="j", priority=2))
    bench.do(c.MoveToDelayed(id="j", delay=50))
    bench.do(c.Promote(id="j"))
    bench.do(c.Cancel(id="j", reason="enough"))
    assert in_order(bench, "j") == [
        "pushed", "pulled", "failed", "died", "act", "pushed", "act", "updated", "act", "delayed", "act", "promoted", "act", "cancelled",
    ]  # fmt: skip


def test_what_no_event_tells_stands_behind_what_was_before_it(bench: Bench):
    """That a cancelled job failed in its grace is no event."""
    bench.push(job_id="j")
    bench.pull()
    bench.do(c.Cancel(id="j", reason="enough", grace=100))
    bench.fail("j")
    order = [what for what in in_order(bench, "j") if what in ("pushed", "pulled", "failed", "cancelled")]
    assert order == ["pushed", "pulled", "failed", "cancelled"]


def test_of_two_acts_of_one_ms_each_stands_before_what_came_of_it(bench: Bench):
    bench.push(job_id="j")
    bench.do(c.ChangePriority(id="j", priority=2))
    bench.do(c.Update(id="j", data=Raw(b"2")))
    entries = asked(bench, "j")[0].entries
    assert [entry.what for entry in entries] == ["pushed", "act", "updated", "act", "updated"]
    assert [entry.command for entry in entries if entry.what == "act"] == ["ChangePriority", "Update"]


@pytest.mark.parametrize("together", [True, False], ids=["on one page", "on a page each"])
def test_a_job_that_died_and_waits_again_was_dead(bench: Bench, monkeypatch: pytest.MonkeyPatch, *, together: bool):
    """Its record is gone by then; a failure after which it was tried again was no death."""
    if not together:
        monkeypatch.setattr(timeline, "EVENTS_LOOKED", 1)
    bench.push(job_id="j", backoff=0, max_attempts=2)
    for _ in range(2):
        bench.now += 1
        bench.pull()
        bench.fail("j")
        bench.push(queue="other")
    bench.now += 1
    bench.do(c.RetryDlq(queue="q", job_id="j"))
    expected = [(0, "pushed"), (1, "failed"), (1, "pulled"), (1, "retried"), (2, "died"), (2, "failed"), (2, "pulled")]
    assert told(bench, "j") == [*expected, (3, "act"), (3, "pushed")]
    bench.now += 1
    bench.do(c.Cancel(id="j"))
    assert told(bench, "j") == [*expected, (3, "act"), (3, "pushed"), (4, "act"), (4, "removed")]


@pytest.mark.parametrize("events", [True, False], ids=["all are kept", "none is kept"])
def test_a_job_that_waits_for_others_is_not_said_to_be_delayed_before_it_is(bench: Bench, *, events: bool):
    bench.push(job_id="a")
    bench.push(job_id="j", delay=1000, depends_on=["a"])
    bench.commit()
    if not events:
        bench.disk.events.clear()
    assert told(bench, "j") == ([(0, "pushed"), (0, "waiting-children")] if events else [(0, "pushed")])


def test_a_job_that_is_put_off_later_was_not_delayed_from_its_push_on(bench: Bench):
    bench.push(job_id="j")
    bench.now += 5
    bench.do(c.MoveToDelayed(id="j", delay=1000))
    assert told(bench, "j") == [(0, "pushed"), (5, "act"), (5, "delayed")]


def in_order(bench: Bench, job_id: str) -> list[str]:
    return [entry.what for page in asked(bench, job_id) for entry in page.entries]


def test_a_large_event_is_read_once_and_what_is_behind_it_is_on_the_next_page(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    """Its payload is in it: to read one of 9 MiB takes 8 ms."""
    monkeypatch.setattr(timeline, "REPLAY_BYTES", 1000)
    bench.push(job_id="large", data=Raw(b'"%s"' % (b"x" * 2000)))
    bench.commit()
    bench.do(c.ChangePriority(id="large", priority=5))
    bench.do(c.Cancel(id="large"))
    bench.commit()
    read: list[int] = []
    events_after = bench.disk.events_after

    def counted(event_id: int, limit: int) -> list[tuple[int, bytes]]:
        found = events_after(event_id, limit)
        read.extend(at for at, _ in found)
        return found

    bench.disk.events_after = counted  # type: ignore[method-assign]
    page = bench.do(c.GetTimeline(id="large"))
    assert ([moment.what for moment in page.entries], read) == (["pushed", "act", "act"], [1])
    rest = bench.do(c.GetTimeline(id="large", after=page.next))
    assert ([moment.what for moment in rest.entries], rest.next) == (["updated", "removed"], None)
