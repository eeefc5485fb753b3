"""Jobs found by a filter: which, in what order, in pages that are bounded and stay where they are."""

from typing import Any

import pytest
from msgspec import Raw

from bunqueue_trio.engine import find
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from tests.engine.make import Bench


def ask(bench: Bench, **wanted: Any) -> r.FoundReply:
    reply: r.FoundReply = bench.do(c.FindJobs(**wanted))
    return reply


def ids(bench: Bench, **wanted: Any) -> list[str]:
    """All that are found, by pages."""
    found, after = [], None
    while True:
        page = ask(bench, **wanted, after=after)
        found += [job.id for job in page.jobs]
        after = page.next
        if after is None:
            return found


def fail(bench: Bench, error: str, queue: str = "q", **options: Any) -> str:
    job_id = bench.push(queue, **({"max_attempts": 1} | options))
    assert bench.pull_id(queue) == job_id
    bench.fail(job_id, error)
    return job_id


def done(bench: Bench, queue: str = "q", **options: Any) -> str:
    job_id = bench.push(queue, **options)
    assert bench.pull_id(queue) == job_id
    bench.ack(job_id)
    return job_id


@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
def test_they_come_by_state_then_by_queue_then_in_their_order(bench: Bench, limit: int):
    completed = [done(bench), done(bench)][::-1]
    dead = [fail(bench, "x", "b"), fail(bench, "x", "a"), fail(bench, "x", "a")][::-1]
    active = bench.push("z")
    assert bench.pull_id("z") == active
    low, high = bench.push("b"), bench.push("b", priority=1)
    first = bench.push("a")
    delayed = bench.push("a", delay=50)
    waits = bench.push("a", depends_on=[first])
    bench.commit()
    everything = [active, first, high, low, delayed, waits, *dead, *completed]
    assert ids(bench, limit=limit) == everything
    assert ids(bench, limit=limit, state=["completed", "waiting"]) == [first, high, low, *completed]
    assert ids(bench, limit=limit, state="failed", queue="b") == [dead[2]]
    assert ids(bench, limit=limit, queue=["z", "b", "z", "nobody"]) == [active, high, low, dead[2]]
    assert ids(bench, limit=limit, queue="nobody") == []


@pytest.mark.parametrize("limit", [1, 2, 1000])
def test_a_filter_is_all_that_it_says(bench: Bench, limit: int):
    one = bench.push(tags=["a", "b"], group_id="g", data=Raw(b'{"to": "ann"}'))
    other = bench.push("p", tags=["b"], job_id="mine-1", data=Raw(b'{"to": "bob"}'))
    dead = fail(bench, "refused by 10.0.0.1", "r", tags=["b"], data=Raw(b'{"to": "ann"}'))
    bench.commit()

    def found(**wanted: Any) -> list[str]:
        return ids(bench, limit=limit, **wanted)

    assert found(tag="a") == [one]
    assert found(tag="b") == [other, one, dead]
    assert found(tag="x") == []
    assert found(group_id="g") == [one]
    assert found(id_prefix="mine") == [other]
    assert found(text='"ann"') == [one, dead]
    assert found(text='"ann"', tag="a") == [one]
    assert found(error="refused") == [dead]
    assert found(error="late") == []
    assert found(attempts=1) == [dead]
    assert found(attempts=0) == [other, one, dead]


def test_age_counts_from_the_push_or_the_end(bench: Bench):
    dead, waiting = fail(bench, "x"), bench.push()
    bench.now += 100
    late = bench.push()
    bench.commit()
    assert ids(bench, older=100) == [waiting, dead]
    assert ids(bench, older=101) == []
    assert ids(bench, newer=99) == [late]
    assert ids(bench, newer=100) == [waiting, late, dead]


def test_the_holder_of_an_active_job_is_a_connection(bench: Bench):
    job_id, other = bench.push(), bench.push()
    bench.pull(owner="socket")
    bench.pull()
    assert ids(bench, owner="socket") == [job_id]
    bench.ack(job_id)
    bench.commit()
    assert ids(bench, owner="socket") == []
    assert ids(bench, state="active") == [other]


def test_the_jobs_of_a_worker_are_found_by_its_id_and_by_its_name(bench: Bench):
    job_id, other = bench.push(), bench.push()
    bench.do(c.RegisterWorker(worker_id="w-1", name="mailer"))
    bench.do(c.Pull(queue="q", owner="w-1"))
    bench.pull()
    assert ids(bench, owner="w-1") == ids(bench, owner="mailer") == [job_id]
    assert ids(bench, owner="nobody") == []
    assert (
        bench.do(c.Why(id=job_id)).why
        == "Worker mailer has had it for 0 ms; what is usual in its queue is not known yet."
    )
    assert bench.do(c.Why(id=other)).why == "A worker has had it for 0 ms; what is usual in its queue is not known yet."


def test_those_of_an_error_are_found_dead_or_on_their_way(bench: Bench):
    retried = fail(bench, "refused by 10.0.0.1", max_attempts=2, backoff=1000)
    ends = [fail(bench, f"refused by 10.0.0.{n}", "r") for n in (2, 3)]
    fail(bench, "late")
    bench.push()
    done(bench, "s")
    bench.commit()
    key = bench.do(c.DlqGroups(queue="r")).groups[0].fingerprint
    page = ask(bench, fingerprint=key)
    assert [job.id for job in page.jobs] == [retried, *ends[::-1]]
    # Of the dead ones only those of the group are read.
    assert page.scanned == 4
    assert ids(bench, fingerprint=key, state="completed") == []


def test_what_is_completed_after_all_is_not_of_the_error_it_had(bench: Bench):
    job_id = fail(bench, "refused", max_attempts=2, backoff=0)
    dead = fail(bench, "refused", "r")
    bench.commit()
    key = bench.do(c.DlqGroups(queue="r")).groups[0].fingerprint
    assert bench.pull_id("q") == job_id
    bench.ack(job_id)
    bench.commit()
    assert ids(bench, fingerprint=key) == [dead]


def test_what_waits_again_is_not_dead_any_more(bench: Bench):
    dead = [fail(bench, "x") for _ in range(3)]
    bench.commit()
    bench.do(c.RetryDlq(queue="q", job_id=dead[1]))
    assert ids(bench, state="failed", limit=1) == [dead[2], dead[0]]
    assert ids(bench, state="waiting") == [dead[1]]


def test_pages_stay_while_jobs_move(bench: Bench):
    jobs = [bench.push() for _ in range(6)]
    page = ask(bench, limit=2, state="waiting")
    assert (bench.pull_id(), bench.pull_id(), bench.pull_id()) == tuple(jobs[:3])
    bench.push("a")
    last = bench.push()
    rest, after = [], page.next
    while after is not None:
        page = ask(bench, limit=2, state="waiting", after=after)
        rest += [job.id for job in page.jobs]
        after = page.next
    assert rest == [*jobs[3:], last]


def test_a_page_goes_on_where_its_queue_is_gone(bench: Bench):
    bench.push("b")
    other = bench.push("c")
    page = ask(bench, limit=1)
    assert page.next == "waiting|c|"
    bench.engine.queues["c"].ready.take(bench.engine.jobs[other])
    bench.engine.queues.drop("c")
    later = bench.push("d")
    assert [job.id for job in ask(bench, after=page.next).jobs] == [later]


@pytest.mark.parametrize("state", ["waiting", "delayed", "active", "failed", "completed"])
def test_a_page_ends_after_enough_looks_and_loses_nothing(bench: Bench, state: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(find, "LOOKS", 30)
    monkeypatch.setattr(find, "_RECORDS", 2)
    wanted = []
    for n in range(60):
        queue, options = f"q{n % 3}", {"tags": ["x"] if n % 7 == 0 else [], "max_attempts": 1}
        job_id = bench.push(queue, **options, delay=5 if state == "delayed" else 0)
        if options["tags"]:
            wanted.append(job_id)
        if state in ("active", "failed", "completed"):
            bench.pull_id(queue)
        if state == "failed":
            bench.fail(job_id)
        if state == "completed":
            bench.ack(job_id)
    bench.commit()
    found: list[str] = []
    pages, after, scanned = 0, None, 0
    while True:
        page = ask(bench, tag="x", state=state, after=after)
        found, pages, after, scanned = (
            found + [job.id for job in page.jobs],
            pages + 1,
            page.next,
            scanned + page.scanned,
        )
        assert page.complete is (page.next is None)
        if after is None:
            break
    assert sorted(found) == sorted(wanted)
    assert pages > 3
    assert scanned == 60


@pytest.mark.parametrize("state", ["waiting", "failed"])
def test_a_page_of_large_jobs_ends_early(bench: Bench, state: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(find, "REPLAY_BYTES", 1000)
    monkeypatch.setattr(find, "_RECORDS", 1)
    for _ in range(3):
        if state == "failed":
            fail(bench, "x", data=Raw(b'"%s"' % (b"x" * 600)))
        else:
            bench.push(data=Raw(b'"%s"' % (b"x" * 600)))
    bench.commit()
    page = ask(bench, state=state)
    assert (len(page.jobs), page.complete) == (2, False)
    assert len(ids(bench, state=state)) == 3


def test_many_queues_without_a_job_in_them_end_a_page_too(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(find, "LOOKS", 4)
    for n in range(9):
        fail(bench, "x", f"q{n}")
    bench.commit()
    page = ask(bench, state="completed")
    assert (page.jobs, page.scanned, page.complete, page.next) == ([], 0, False, "completed|q1|")
    monkeypatch.setattr(find, "_RECORD", 0)
    monkeypatch.setattr(find, "_RECORDS", 2)
    assert len(ids(bench, state="failed")) == 9


@pytest.mark.parametrize(
    "after", ["", "7", "waiting|q|1", "failed|q|1,2", "waiting|q", "nothing|q|1,1", "waiting|no good|1,1", "waiting||1,1", "delayed|q|1,1", f"waiting|q|{'1' * 19},1"]
)  # fmt: skip
def test_what_is_no_cursor_is_refused(bench: Bench, after: str):
    with pytest.raises(Refused, match="after must be"):
        ask(bench, state=["waiting", "failed"], after=after)


def test_what_cannot_be_is_refused(bench: Bench):
    with pytest.raises(Refused, match="state must be"):
        ask(bench, state="weird")
    with pytest.raises(Refused, match="state must be"):
        ask(bench, state=["waiting", "removed"])
    with pytest.raises(Refused, match="name"):
        ask(bench, queue=["q", "no good"])


def test_the_age_of_an_ended_job_counts_from_its_end(bench: Bench):
    bench.push(max_attempts=1, job_id="a")
    bench.now += 10_000
    assert bench.pull_id() == "a"
    bench.fail("a", "no")
    bench.commit()
    bench.now += 2000
    assert ids(bench, state="failed", older=5000) == []
    assert ids(bench, state="failed", newer=5000) == ["a"]


def test_queues_without_such_a_job_cost_a_look_each(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(find, "LOOKS", 50)
    for n in range(120):
        bench.push(f"q{n:03}", delay=1000)
    page, pages = ask(bench, state="waiting"), 1
    assert (page.jobs, page.complete) == ([], False)
    while page.next is not None:
        page, pages = ask(bench, state="waiting", after=page.next), pages + 1
        assert pages < 10
    assert (page.jobs, page.complete, pages) == ([], True, 3)


def test_records_that_wait_again_hold_up_no_search(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """They are records until the retry is committed, and no dead letters any more."""
    monkeypatch.setattr(find, "_RECORDS", 1)
    dead = [fail(bench, "no") for _ in range(4)]
    bench.commit()
    for job_id in dead[2:]:
        bench.do(c.RetryDlq(queue="q", job_id=job_id))
    page = ask(bench, state="failed")
    assert ([job.id for job in page.jobs], page.complete, page.scanned) == (dead[1::-1], True, 2)


def test_a_dead_letter_says_of_what_kind_its_end_was(bench: Bench):
    bench.push(job_id="off")
    bench.push(job_id="there")
    bench.do(c.Cancel(id="off", reason="wrong"))
    bench.commit()
    bench.restart()
    assert [job.reason for job in bench.do(c.GetJobs(queue="q", state="failed")).jobs] == ["cancelled"]
    assert {job.id: job.reason for job in bench.do(c.FindJobs(queue="q")).jobs} == {"there": None, "off": "cancelled"}


def test_a_count_is_how_many_are_found(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(find, "LOOKS", 20)
    for _ in range(4):
        fail(bench, "boom")
    for n in range(30):
        bench.push("qr"[n % 2], tags=["x"] if n % 3 else [], data=Raw(b'"%d"' % n), delay=n % 5)
    bench.commit()
    dead = bench.do(c.FindJobs(queue="q", state="failed")).jobs[0].id
    bench.do(c.RetryDlq(queue="q", job_id=dead))
    for wanted in (
        {},
        {"queue": "q"},
        {"queue": ["q", "r"], "state": ["waiting", "failed"]},
        {"tag": "x"},
        {"text": "1"},
        {"state": "failed"},
        {"error": "boom"},
    ):
        pages = [bench.do(c.FindJobs(**wanted, count=True))]
        while pages[-1].next is not None:
            pages.append(bench.do(c.FindJobs(**wanted, count=True, after=pages[-1].next)))
        assert all(page.jobs == [] for page in pages)
        assert sum(page.count for page in pages) == len(ids(bench, limit=1000, **wanted))
        assert (sum(page.scanned for page in pages) == 0) == (not wanted.keys() - {"queue", "state"})
        assert all(page.complete == (page.next is None) for page in pages)


@pytest.mark.parametrize(("wanted", "most"), [({"error": "zz"}, 120), ({"fingerprint": "0123456789ab"}, 8)])
def test_to_look_through_long_errors_ends_a_page_early(bench: Bench, wanted: dict[str, str], most: int):
    """An error may have 65,536 characters, and to tell what it is may take 3 ms."""
    for _ in range(130):
        bench.push(backoff=100_000)
        bench.fail(bench.pull_id() or "", "e" * 65_536)
    found = bench.do(c.FindJobs(queue="q", **wanted))
    assert 0 < found.scanned <= most
    assert not found.complete


@pytest.mark.parametrize(("has_ended", "pages"), [(False, [[0, 1], [2, 3], [4, 5]]), (True, [[5, 4, 3], [2, 1, 0]])])
def test_a_payload_of_megabytes_is_looked_through_in_a_step_of_its_own(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, has_ended: bool, pages: list[list[int]]
):
    """With little before it, and nothing that is as large."""
    monkeypatch.setattr(find, "_LARGE_BYTES", 90_000)
    sizes = (60_000, 60_000, 100_000, 10, 100_000, 10)
    made = [(done if has_ended else Bench.push)(bench, data=Raw(b'"%s."' % (b"x" * size))) for size in sizes]
    bench.commit()
    found, after = list[list[int]](), None
    while not found or after is not None:
        page = ask(bench, text="xx.", after=after)
        found.append([made.index(job.id) for job in page.jobs])
        after = page.next
    assert found == pages
    monkeypatch.setattr(find, "_BEGUN", 0)
    assert len(ask(bench).jobs) == len(sizes), "where nothing is looked through it does not matter"
