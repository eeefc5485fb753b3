"""Jobs are found by what they are, in any queue, and something is done to all of them; one job shows all that it went through."""

import re
from html import unescape
from typing import Any

import pytest
import trio
from msgspec import Raw

from bunqueue_trio.protocol import commands as c
from bunqueue_trio.testing.server import Bunqueue
from bunqueue_trio.ui.filters import LOOKS, SHOWN
from tests.looks import look
from tests.ui.night import fail, push, take, work
from tests.ui.site import Page, Site


def ids(page: Page) -> list[str]:
    return re.findall(r'<th scope="row" class="id"><a href="/ui/jobs/([^"]+)">', page.html)


def state(bunqueue: Bunqueue, job_id: str) -> str:
    return look(bunqueue.server.core, c.GetState(id=job_id)).state


async def some(bunqueue: Bunqueue) -> None:
    """Jobs of two queues, with tags, errors and payloads."""
    for n in range(4):
        await push(bunqueue, "emails", f'{{"to": "ana-{n}"}}', job_id=f"e-{n}", tags=["nightly"])
        await push(bunqueue, "bills", f'{{"to": "bob-{n}"}}', job_id=f"b-{n}", tags=["nightly"] if n else ["daily"])
    await push(bunqueue, "bills", job_id="later", delay=3_600_000)


async def test_jobs_are_found_by_what_they_are_in_any_queue(site: Site, bunqueue: Bunqueue) -> None:
    await some(bunqueue)
    await fail(bunqueue, "emails", 2, "SMTP <b>refused</b>")
    page = await site.get("/ui/jobs?tag=nightly")
    assert sorted(ids(page)) == ["b-1", "b-2", "b-3", "e-0", "e-1", "e-2", "e-3"]
    assert page.said("Jobs of all queues, tag “nightly” 7 jobs")
    assert ids(await site.get("/ui/jobs?text=bob-3&queue=bills")) == ["b-3"]
    page = await site.get("/ui/jobs?error=SMTP")
    assert sorted(ids(page)) == ["e-0", "e-1"]
    assert "SMTP &lt;b&gt;refused" in page.html
    assert "<b>refused" not in page.html
    page = await site.get("/ui/jobs?idPrefix=nobody")
    assert page.said("No job is so.")
    assert "/ui/act/" not in page.html


async def test_of_a_queue_and_a_state_there_is_the_list(site: Site, bunqueue: Bunqueue) -> None:
    page = await site.get("/ui/jobs?id=&queue=emails&state=failed&tag=")
    assert page.headers["location"] == "/ui/queues/emails/jobs?state=failed"


async def test_many_are_counted_and_shown_by_pages(site: Site, bunqueue: Bunqueue) -> None:
    number = 10 * SHOWN + 20
    jobs = [c.JobSpec(data=Raw(b"1"), job_id=f"j-{n:03}", tags=["t"]) for n in range(number)]
    await bunqueue.server.core.execute(c.PushBatch(queue="q", jobs=jobs))
    page = await site.get("/ui/jobs?tag=t")
    assert page.said(f"Jobs of all queues, tag “t” {number} jobs")
    seen = ids(page)
    assert len(seen) == SHOWN
    while more := re.search(r'href="([^"]+)" rel="next"', page.html):
        page = await site.get(unescape(more[1]))
        assert page.status == 200, page.text
        seen += ids(page)
    assert seen == [f"j-{n:03}" for n in range(number)], "each once, in their order"


async def test_what_is_too_much_to_be_counted_says_how_far_it_was(
    site: Site, bunqueue: Bunqueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bunqueue_trio.engine.find.LOOKS", 30)
    jobs = [c.JobSpec(data=Raw(b"1"), tags=["t"]) for _ in range(40 * LOOKS)]
    await bunqueue.server.core.execute(c.PushBatch(queue="q", jobs=jobs))
    page = await site.get("/ui/jobs?tag=t")
    found = re.search(r"([0-9]+) or more, of ([0-9]+) looked at", page.text)
    assert found
    assert SHOWN <= int(found[1]) < 40 * LOOKS


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("older=soon", "soon"), ("attempts=many", "a whole number is wanted"), ("state=dead", "state"), ("queue=a%20b", "queue"),
        ("tag=t&after=nowhere", ""),
    ],
)  # fmt: skip
async def test_what_is_no_filter_is_refused_in_words(site: Site, bunqueue: Bunqueue, query: str, says: str) -> None:
    page = await site.get(f"/ui/jobs?{query}")
    assert page.status == 400
    assert says in page.text


async def test_all_that_are_found_are_changed_and_no_others(site: Site, bunqueue: Bunqueue) -> None:
    await some(bunqueue)
    first = await site.get("/ui/act/priority-found?tag=daily&priority=7")
    assert first.said("1 job would be changed.")
    page = await site.do("priority-found", tag="daily", priority="7")
    assert page.said("1 job changed.")
    assert {n: bunqueue.server.engine.jobs[f"b-{n}"].priority for n in range(4)} == {0: 7, 1: 0, 2: 0, 3: 0}
    assert (await site.do("promote-found", queue="bills", state="delayed")).said("1 job ready.")
    assert state(bunqueue, "later") == "waiting"
    assert (await site.do("discard-found", queue="bills", idPrefix="b-")).said("4 jobs made dead letters.")
    assert [state(bunqueue, name) for name in ("b-0", "b-3", "later", "e-0")] == [
        "failed",
        "failed",
        "waiting",
        "waiting",
    ]
    about = {"queue": "bills", "state": "failed"}
    assert (await site.do("retry-found", **about, tag="daily")).said("1 job retried.")
    assert (await site.do("purge-found", **about)).said("3 jobs deleted.")
    assert [state(bunqueue, name) for name in ("b-0", "later")] == ["waiting", "waiting"]
    assert "b-1" not in bunqueue.server.engine.jobs
    assert (await site.get("/ui/actions")).said("priority")


async def test_active_ones_are_cancelled_only_where_that_is_said(site: Site, bunqueue: Bunqueue) -> None:
    await some(bunqueue)
    [(active, _)] = await take(bunqueue, "emails", 1)
    page = await site.do("cancel-found", queue="emails", reason="wrong month")
    assert page.said("3 jobs cancelled (not 1 that are active).")
    assert state(bunqueue, active) == "active"
    page = await site.do("cancel-found", queue="emails", state="active", force="yes", reason="wrong month")
    assert page.said("1 job cancelled.")
    why: Any = look(bunqueue.server.core, c.Why(id=active))
    assert why.code == "cancelled"
    assert "wrong month" in why.why


async def test_a_job_cancelled_from_its_page_is_still_there_and_comes_back(site: Site, bunqueue: Bunqueue) -> None:
    job = await push(bunqueue, "q")
    page = await site.do("cancel", queue="q", id=job, reason="not this one")
    assert page.said(f"{job} is cancelled.")
    assert page.said("not this one")
    undo = re.search(r'href="(/ui/act/retry[^"]*)"', (await site.get("/ui/actions")).html)
    assert undo
    assert (await site.do("retry", queue="q", id=job)).said(f"{job} waits again.")
    assert state(bunqueue, job) == "waiting"


async def test_a_job_shows_each_failed_attempt_with_its_stack(site: Site, bunqueue: Bunqueue) -> None:
    job = await push(bunqueue, "q", max_attempts=5)
    await bunqueue.server.core.execute(c.RegisterWorker(name="mail-3", worker_id="w1", queues=["q"]))
    for n in range(2):
        reply: Any = await bunqueue.server.core.execute(c.PullBatch(queue="q", count=1, owner="w1"))
        await trio.sleep(3)
        failed = c.Fail(id=job, token=reply.tokens[0], error=f"no <i>answer</i> {n}", stack=f"File mail.py, line {n}")
        await bunqueue.server.core.execute(failed)
        await trio.sleep(120)
    page = await site.get(f"/ui/jobs/{job}")
    assert page.said("Failed attempts the newest first")
    newest, oldest = page.text.index("Attempt 2"), page.text.index("Attempt 1")
    assert newest < oldest
    assert page.said("after 3 s, by mail-3")
    assert page.said("File mail.py, line 0")
    assert "<i>answer" not in page.html
    past = page.text[page.text.index("What happened to it") :]
    order = [
        past.index(each)
        for each in ("pushed", "a worker has it: mail-3", "attempt 1 failed by mail-3", "attempt 2 failed")
    ]
    assert order == sorted(order)


async def test_what_is_cut_on_the_page_of_a_job_is_whole_on_another(site: Site, bunqueue: Bunqueue) -> None:
    job = await push(bunqueue, "q", max_attempts=1)
    await fail(bunqueue, "q", 1, "no" * 4000 + " END OF ERROR")
    page = await site.get(f"/ui/jobs/{job}")
    assert not page.said("END OF ERROR"), "cut, also among its attempts"
    assert f'href="/ui/jobs/{job}/data?of=error"' in page.html
    assert (await site.get(f"/ui/jobs/{job}/data?of=error")).said("END OF ERROR")
    job = await push(bunqueue, "q")
    [(_, token)] = await take(bunqueue, "q", 1)
    result = Raw(b'{"text": "' + b"a" * 5000 + b'", "last": "END OF RESULT"}')
    await bunqueue.server.core.execute(c.Ack(id=job, token=token, result=result))
    page = await site.get(f"/ui/jobs/{job}")
    assert not page.said("END OF RESULT")
    assert f'href="/ui/jobs/{job}/data?of=result"' in page.html
    assert (await site.get(f"/ui/jobs/{job}/data?of=result")).said("END OF RESULT")
    assert (await site.get(f"/ui/jobs/{job}/data?of=secrets")).status == 404


async def test_who_only_looks_finds_jobs_and_changes_none(site: Site, bunqueue: Bunqueue) -> None:
    await some(bunqueue)
    await work(bunqueue, "emails", 1)
    page = await site.get("/ui/jobs?queue=emails")
    assert page.said("4 jobs")
    listed = re.search(r"<code>(bunqueue-trio export [^<]*)</code>", page.html)
    assert listed
    assert unescape(listed[1]) == "bunqueue-trio export --queue emails > jobs.jsonl"
