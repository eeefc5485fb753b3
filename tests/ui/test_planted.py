"""Each screen says what it is for: an incident is planted, the page is read, and the sentence is there with a way on."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

import pytest
import trio
from msgspec import Raw

from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.caller import By
from bunqueue_trio.runtime.audit import Finding
from bunqueue_trio.storage.store import Sampled, Space
from bunqueue_trio.testing.server import Bunqueue
from tests.ui.night import fail, hold, push, take, work
from tests.ui.site import Site, minutes

GIB = 1024**3


async def disk_fills(bunqueue: Bunqueue) -> None:
    for n in range(20):
        grown = n * GIB // 10
        bunqueue.server.shrinker.space = Space(GIB + grown, 0, 10 * GIB - grown, 20 * GIB)
        await minutes(bunqueue)


async def disk_is_nearly_full(bunqueue: Bunqueue) -> None:
    bunqueue.server.shrinker.space = Space(GIB, 0, 1024 * 1024, 20 * GIB)
    bunqueue.server.journal.nearly_full_since = bunqueue.server.clock.now()
    await minutes(bunqueue)


async def much_is_kept(bunqueue: Bunqueue) -> None:
    for n in range(40):
        await push(bunqueue, "mail", f'"{n:0500}"')
    await work(bunqueue, "mail", 30)
    await fail(bunqueue, "mail", 10, "no")
    old = bunqueue.server.clock.now()
    bunqueue.server.sampler.sampled = (
        *[Sampled(old, 600, "mail", "completed")] * 30,
        *[Sampled(old, 600, "mail", "failed")] * 10,
    )
    await trio.sleep(7 * 3600)


async def a_task_fails(bunqueue: Bunqueue) -> None:
    await minutes(bunqueue)
    child = bunqueue.server.tasks[1]
    child.restarts, child.last_error, child.state = 3, "OSError: bad file", "restarting"
    await minutes(bunqueue)


async def the_audit_finds_a_fault(bunqueue: Bunqueue) -> None:
    audit, now = bunqueue.server.audit, bunqueue.server.clock.now()
    await minutes(bunqueue)
    audit.faults["counts"] = 2
    audit.findings["x"] = Finding("counts", "emails has 3 waiting jobs, and counts 4", now, now, 2)
    await minutes(bunqueue)


async def a_pause_is_forgotten(bunqueue: Bunqueue) -> None:
    await bunqueue.server.core.execute(c.Pause(queue="mail", reason="disk is full"), by=By("ana", "10.0.0.7"))
    await push(bunqueue, "mail")
    await trio.sleep(13 * 3600)


async def nobody_asks(bunqueue: Bunqueue) -> None:
    for _ in range(19):
        await push(bunqueue, "mail")
    await minutes(bunqueue, 41)


async def a_limit_holds_jobs_up(bunqueue: Bunqueue) -> None:
    await bunqueue.server.core.execute(c.SetConcurrency(queue="mail", concurrency=1))
    for _ in range(3):
        await push(bunqueue, "mail")
    await take(bunqueue, "mail", 1)
    await hold(bunqueue, "mail", 11)


async def one_tenant_fails(bunqueue: Bunqueue) -> None:
    for n in range(12):
        await push(bunqueue, "mail", f'{{"tenant":"{"acme" if n % 2 else "globex"}","n":{n}}}', tags=["checkout"])
    await fail(bunqueue, "mail", 12, "card service answered 503 for order {}")
    await minutes(bunqueue)


async def a_job_has_a_wrong_payload(bunqueue: Bunqueue) -> None:
    await bunqueue.server.core.execute(c.Push(queue="mail", data=Raw(b'{"to":null}'), job_id="odd", delay=3_600_000))
    for _ in range(5):
        await push(bunqueue, "mail", '{"to":"ana"}', delay=3_600_000)


async def jobs_are_discarded_by_mistake(bunqueue: Bunqueue) -> None:
    for _ in range(5):
        await push(bunqueue, "mail")
    act = c.ActOnJobs(filter=c.Filter(queue="mail"), action="discard")
    await bunqueue.server.core.execute(act, by=By("ben", "10.0.0.9"))
    await minutes(bunqueue)


async def a_worker_hangs(bunqueue: Bunqueue) -> None:
    await bunqueue.server.core.execute(c.RegisterWorker(name="mail-3", worker_id="w3", queues=["mail"]))
    for _ in range(12):
        await push(bunqueue, "mail")
        ((job_id, token),) = await take(bunqueue, "mail", 1)
        await trio.sleep(2)
        await bunqueue.server.core.execute(c.Ack(id=job_id, token=token))
    await push(bunqueue, "mail")
    reply = await bunqueue.server.core.execute(c.PullBatch(queue="mail", count=1, owner="w3"))
    for _ in range(11):
        await minutes(bunqueue)
        job, token = reply.jobs[0], reply.tokens[0]  # type: ignore[attr-defined]
        await bunqueue.server.core.execute(c.Heartbeat(id=job.id, token=token))


class Incident(NamedTuple):
    """What is planted, and what is read on which page."""

    plant: Callable[[Bunqueue], Awaitable[None]]
    path: str
    says: tuple[str, ...]
    leads: str = ""
    """An address that the page has."""


INCIDENTS = (
    Incident(disk_fills, "/ui/storage", ("At the rate of the last hour it is full in", "an hour")),
    Incident(disk_is_nearly_full, "/ui/storage", ("what brings jobs or data is refused until there is room",)),
    Incident(much_is_kept, "/ui/storage", ("What a shorter retention would free", "completed jobs, 30: about 23.4 KiB", "failed jobs, 10: about 7.8 KiB", "mail 31.2 KiB 30 10", "bunqueue-trio backup bunqueue.db COPY"), "/ui/act/clean?queue=mail"),
    Incident(a_task_fails, "/ui/server", ("restarting 3 OSError: bad file",)),
    Incident(the_audit_finds_a_fault, "/ui/server", ("counts emails has 3 waiting jobs, and counts 4 (2×)",)),
    Incident(a_pause_is_forgotten, "/ui/queues", ("mail 1 13 h 0 0 0 0 paused",), "/ui/queues/mail"),
    Incident(a_pause_is_forgotten, "/ui/queues/mail", ("Paused 13 h ago by ana: “disk is full”", "forgotten?"), "/ui/act/resume?queue=mail"),
    Incident(nobody_asks, "/ui/queues/mail", ("19 jobs wait, the oldest for 41 min, and nobody asks", "0 nobody asks")),
    Incident(a_limit_holds_jobs_up, "/ui/queues/mail", ("No more than 1 job of it may be active", "at most 1"), "/ui/act/unlimit?queue=mail"),
    Incident(one_tenant_fails, "/ui/jobs?tag=checkout&error=503&text=acme", ("6 jobs", "card service answered 503")),
    Incident(one_tenant_fails, "/ui/jobs?queue=mail&state=failed&text=acme", ("6 jobs",), "/ui/act/retry-found?queue=mail"),
    Incident(a_job_has_a_wrong_payload, "/ui/jobs?text=null", ("1 job",), "/ui/jobs/odd"),
    Incident(a_worker_hangs, "/ui/jobs?owner=mail-3", ("1 job", "active"), "/ui/act/cancel-found"),
    Incident(a_worker_hangs, "/ui/workers/w3", ("longer than",)),
    Incident(one_tenant_fails, "/ui/events?type=failed", ("Attempts failed 12", "card service answered 503"), "/ui/queues/mail"),
    Incident(jobs_are_discarded_by_mistake, "/ui/events", ("discard", "by ben"), "/ui/export/events?"),
    Incident(a_pause_is_forgotten, "/ui/events?since=14h&type=act", ("pause mail by ana",), "/ui/queues/mail"),
)  # fmt: skip


@pytest.mark.parametrize("case", INCIDENTS, ids=lambda case: f"{case.plant.__name__} {case.path}")
async def test_a_planted_incident_is_read_on_its_screen(site: Site, bunqueue: Bunqueue, case: Incident) -> None:
    await case.plant(bunqueue)
    page = await site.get(case.path)
    assert page.status == 200, page.text
    for sentence in case.says:
        assert page.said(sentence), (sentence, page.text)
    assert case.leads.replace("&", "&amp;") in page.html, case.leads


@pytest.mark.parametrize("path", sorted({case.path for case in INCIDENTS if "?" not in case.path}))
async def test_without_an_incident_no_screen_says_so(site: Site, bunqueue: Bunqueue, path: str) -> None:
    await bunqueue.server.core.execute(c.RegisterWorker(name="mail-3", worker_id="w3", queues=["mail"]))
    await push(bunqueue, "mail")
    await minutes(bunqueue)
    page = await site.get(path)
    assert page.status == 200
    for case in INCIDENTS:
        if case.path == path and case.plant is not much_is_kept:
            assert not all(map(page.said, case.says)), case.says
