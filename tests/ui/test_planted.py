"""Each screen says what it is for: an incident is planted, the page is read, and the sentence is there with a way on."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

import pytest
import trio
from msgspec import Raw

from bunqueue_trio.engine.fingerprint import fingerprint
from bunqueue_trio.engine.planner import LATE, Notice
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.caller import By
from bunqueue_trio.runtime.audit import Finding
from bunqueue_trio.runtime.limiter import RateLimiter
from bunqueue_trio.storage.store import Sampled, Space
from bunqueue_trio.testing.server import Bunqueue
from tests.ui.night import fail, fail_once, hold, push, take, work
from tests.ui.site import Site, minutes

GIB = 1024**3


async def disk_fills(bunqueue: Bunqueue) -> None:
    for n in range(20):
        grown = n * GIB // 10
        bunqueue.server.shrinker.space = Space(GIB + grown, 0, 10 * GIB - grown, 20 * GIB)
        await minutes(bunqueue)


async def disk_fills_with_what_is_done(bunqueue: Bunqueue) -> None:
    for _ in range(40):
        await push(bunqueue, "mail")
    await work(bunqueue, "mail", 40)
    await disk_fills(bunqueue)


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


async def a_worker_of_many_jobs_hangs(bunqueue: Bunqueue) -> None:
    """None of its three jobs ends, though it says that it lives."""
    execute = bunqueue.server.core.execute
    await execute(c.RegisterWorker(name="mail-3", worker_id="w3", queues=["mail"], hostname="web-1", pid=4711))
    for _ in range(12):
        await push(bunqueue, "mail")
        ((job_id, token),) = await take(bunqueue, "mail", 1)
        await trio.sleep(2)
        await execute(c.Ack(id=job_id, token=token))
    for _ in range(3):
        await push(bunqueue, "mail")
    await execute(c.PullBatch(queue="mail", count=3, owner="w3"))
    await hold(bunqueue, "mail", 11)


async def an_error_is_new(bunqueue: Bunqueue) -> None:
    """Three of each of five queues die of it: too few for a finding about one of them."""
    await minutes(bunqueue, 3)
    for n in range(15):
        await push(bunqueue, f"shop-{n % 5}", max_attempts=1)
    for n in range(5):
        await fail(bunqueue, f"shop-{n}", 3, "TLSError: certificate of db-2 has expired, {}")
    await minutes(bunqueue)


async def attempts_fail(bunqueue: Bunqueue) -> None:
    await fail_once(bunqueue, "mail", 15, "SMTP said 450")


async def a_schedule_is_late(bunqueue: Bunqueue) -> None:
    await bunqueue.server.core.execute(c.PutSchedule(name="nightly", queue="mail", every=3_600_000))
    await minutes(bunqueue, 2)
    now = bunqueue.server.clock.now()
    bunqueue.server.engine.planner.note_late(Notice("nightly", LATE, now - 7_200_000, now - 60_000, 1))


async def a_schedule_skips(bunqueue: Bunqueue) -> None:
    """Its job does not end, so that its next slots are left out."""
    await bunqueue.server.core.execute(c.PutSchedule(name="nightly", queue="mail", every=60_000, overlap="skip"))
    await trio.sleep(61)
    await take(bunqueue, "mail", 1)
    await hold(bunqueue, "mail", 4)


async def a_schedule_is_paused(bunqueue: Bunqueue) -> None:
    await bunqueue.server.core.execute(c.PutSchedule(name="nightly", queue="mail", every=3_600_000))
    await bunqueue.server.core.execute(c.PauseSchedule(name="nightly"), by=By("ana", "10.0.0.7"))
    await trio.sleep(7200)


async def the_loop_is_late(bunqueue: Bunqueue) -> None:
    await minutes(bunqueue)
    for _ in range(200):
        bunqueue.server.core.meters.loop_lag.observe(400)
    await trio.sleep(3)


async def jobs_stall(bunqueue: Bunqueue) -> None:
    for _ in range(120):
        await push(bunqueue, "mail", max_attempts=1)
    await minutes(bunqueue)
    for _ in range(4):
        await take(bunqueue, "mail", 120)
        await minutes(bunqueue, 6)


async def a_client_asks_too_often(bunqueue: Bunqueue) -> None:
    bunqueue.server.limiter = RateLimiter(60_000, 50)
    for _ in range(57):
        bunqueue.server.limiter.retry_after_ms("10.0.0.66", bunqueue.server.clock.now())
    await trio.sleep(5)


async def one_address_has_many_connections(bunqueue: Bunqueue) -> None:
    connections = bunqueue.server.connections
    for n in range(14):
        connections.begin(f"10.0.1.{n}")
    for _ in range(40):
        connections.begin("10.0.0.66")
    connections.end("10.0.0.66")
    connections.end("10.0.1.13")


async def one_job_waits_for_another(bunqueue: Bunqueue) -> None:
    await push(bunqueue, "mail", job_id="parent", delay=3_600_000)
    await push(bunqueue, "mail", job_id="odd", depends_on=["parent"])


async def one_job_fails_again_and_again(bunqueue: Bunqueue) -> None:
    await push(bunqueue, "mail", job_id="odd", backoff=1000)
    for _ in range(2):
        ((job_id, token),) = await take(bunqueue, "mail", 1)
        said = c.Fail(id=job_id, token=token, error="SMTP said 450", stack="at send (mail.py:12)")
        await bunqueue.server.core.execute(said)
        await trio.sleep(3)
    await bunqueue.server.core.execute(c.Pause(queue="mail", reason="host is down"), by=By("ana", "10.0.0.7"))


async def a_job_hangs(bunqueue: Bunqueue) -> None:
    await push(bunqueue, "mail", job_id="odd", timeout=3_600_000)
    await bunqueue.server.core.execute(c.RegisterWorker(name="mail-3", worker_id="w3", queues=["mail"]))
    await bunqueue.server.core.execute(c.PullBatch(queue="mail", count=1, owner="w3"))
    await hold(bunqueue, "mail", 40)


async def a_queue_is_drained_by_mistake(bunqueue: Bunqueue) -> None:
    for _ in range(5):
        await push(bunqueue, "mail")
    await bunqueue.server.core.execute(c.Drain(queue="mail"), by=By("ben", "10.0.0.9"))
    await bunqueue.server.core.execute(c.SetConcurrency(queue="mail", concurrency=1), by=By("ben", "10.0.0.9"))


async def a_new_version_fails(bunqueue: Bunqueue) -> None:
    for version in ("2.4.0", "2.4.1"):
        for n in range(60):
            hired = c.RegisterWorker(name="mail", worker_id=f"{version}-{n}", queues=["mail"], version=version)
            await bunqueue.server.core.execute(hired)
        await minutes(bunqueue, 3)
    await one_tenant_fails(bunqueue)


async def an_error_is_back(bunqueue: Bunqueue) -> None:
    await one_tenant_fails(bunqueue)
    key = fingerprint("card service answered 503 for order 7").key
    await bunqueue.server.core.execute(c.MarkGroup(fingerprint=key, mark="fixed"))
    await minutes(bunqueue, 20)
    await push(bunqueue, "mail", '{"tenant":"acme"}')
    await fail(bunqueue, "mail", 1, "card service answered 503 for order {}")
    await minutes(bunqueue)


class Incident(NamedTuple):
    """What is planted, and what is read on which page."""

    plant: Callable[[Bunqueue], Awaitable[None]]
    path: str
    says: tuple[str, ...]
    leads: str = ""
    """An address that the page has."""


GROUP = fingerprint("card service answered 503 for order 7").key
INCIDENTS = (
    # Now
    Incident(a_worker_of_many_jobs_hangs, "/ui", ("Worker mail-3: none of its 3 jobs ends, the newest has been active for 11 min", "95 of 100 others of mail take 2 s at most", "Open the worker"), "/ui/act/release?id=w3"),
    Incident(an_error_is_new, "/ui", ("5 queues: an error that is new for", "TLSError: certificate of db-… has expired", "15 jobs died of it"), "/ui/errors?fingerprint="),
    Incident(an_error_is_back, "/ui", ("mail: an error that was fixed is back: card service answered … for order …",), f"/ui/errors/mail?fingerprint={GROUP}"),
    Incident(attempts_fail, "/ui", ("mail: most attempts fail", "15 jobs are delayed"), "/ui/errors?queue=mail"),
    Incident(disk_fills, "/ui", ("The disk will be full in about",), "/ui/storage"),
    Incident(disk_fills_with_what_is_done, "/ui", ("The disk will be full in about", "40 completed in mail"), "/ui/act/clean?queue=mail"),
    Incident(the_audit_finds_a_fault, "/ui", ("The server found 2 faults in itself",), "/ui/server"),
    Incident(a_task_fails, "/ui", ("fails again and again",), "/ui/server"),
    Incident(the_loop_is_late, "/ui", ("The server is late: its event loop lags",), "/ui/server"),
    Incident(jobs_stall, "/ui", ("Workers take jobs and are not heard of again", "Most of them in mail."), "/ui/queues/mail"),
    Incident(a_schedule_is_late, "/ui", ("Schedules missed their time 1 time within an hour, nightly last",), "/ui/schedules/nightly"),
    Incident(a_queue_is_drained_by_mistake, "/ui", ("Done within the hour", "ben drain mail"), "/ui/actions"),
    # Job
    Incident(one_job_waits_for_another, "/ui/jobs/odd", ("It waits for parent to complete.",), "/ui/jobs/parent"),
    Incident(one_job_fails_again_and_again, "/ui/jobs/odd", ("The queue is paused (host is down)", "Attempt 2", "at send (mail.py:12)", "SMTP said 450"), "/ui/act/cancel?queue=mail&id=odd"),
    Incident(a_job_hangs, "/ui/jobs/odd", ("Worker mail-3 has had it for 40 min", "Timeout 1 h"), "/ui/act/cancel?queue=mail&id=odd"),
    # Errors
    Incident(one_tenant_fails, "/ui/errors", ("12 card service answered … for order …", "new"), f"/ui/errors/mail?fingerprint={GROUP}"),
    Incident(one_tenant_fails, f"/ui/errors/mail?fingerprint={GROUP}", ("Dead letters 12", "tag checkout", "attempts 1"), "/ui/act/rerun-group?queue=mail"),
    Incident(attempts_fail, "/ui/errors", ("15 SMTP said …", "15 jobs tried again", "tried again after it"), "/ui/errors/mail?fingerprint="),
    Incident(an_error_is_back, f"/ui/errors/mail?fingerprint={GROUP}", ("Marked as fixed", "and it is back"), "/ui/act/fix-group?queue=mail"),
    Incident(a_new_version_fails, f"/ui/errors/mail?fingerprint={GROUP}", ("Version of its workers 2.4.1 came 3 min before the first",)),
    # Workers
    Incident(a_worker_of_many_jobs_hangs, "/ui/workers", ("mail-3 active web-1 4711 mail 3 of",), "/ui/workers/w3"),
    Incident(a_worker_of_many_jobs_hangs, "/ui/workers/w3", ("× longer than usual", "11 min"), "/ui/act/release?id=w3"),
    Incident(a_job_hangs, "/ui/workers/w3", ("odd mail 40 min", "bunqueue-trio cancel odd"), "/ui/act/cancel?queue=mail&id=odd"),
    # Schedules
    Incident(a_schedule_is_paused, "/ui/schedules", ("nightly paused",), "/ui/schedules/nightly"),
    Incident(a_schedule_is_paused, "/ui/schedules/nightly", ("Paused 2 h ago: its slots until it is resumed are left out.",), "/ui/act/resume-schedule?name=nightly"),
    Incident(a_schedule_skips, "/ui/schedules/nightly", ("skipped",), "/ui/act/pause-schedule?name=nightly"),
    # Actions
    Incident(a_queue_is_drained_by_mistake, "/ui/actions", ("ben 10.0.0.9 drain mail", "5"), "/ui/act/unlimit?queue=mail"),
    Incident(a_pause_is_forgotten, "/ui/actions", ("ana 10.0.0.7 pause mail reason disk is full",), "/ui/act/resume?queue=mail"),
    # Server
    Incident(a_client_asks_too_often, "/ui/server", ("Asked too often 7 last 10.0.0.66, 5 s ago",)),
    Incident(one_address_has_many_connections, "/ui/server", ("Connections 52 open", "Who is connected 10.0.0.66 39 10.0.1.0 1", "And from 4 other addresses.")),
    Incident(the_loop_is_late, "/ui/server", ("The server is late: its event loop lags", "Late by at most")),
    # Storage, queues, jobs, what happened
    Incident(disk_fills, "/ui/storage", ("At the rate of the last hour it is full in", "an hour")),
    Incident(disk_is_nearly_full, "/ui/storage", ("what brings jobs or data is refused until there is room",)),
    Incident(much_is_kept, "/ui/storage", ("What a shorter retention would free", "completed jobs, 30: about 23.4 KiB", "failed jobs, 10: about 7.8 KiB", "mail 31.2 KiB 30 10", "Back up The queue is in memory: there is no file"), "/ui/act/clean?queue=mail"),
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
    Incident(one_tenant_fails, "/ui/queues/mail", ("Died within the hour 12",), "/ui/act/retry-all?queue=mail"),
    Incident(nobody_asks, "/ui/queues?by=oldest", ("mail 19",), "/ui/queues/mail"),

    Incident(one_tenant_fails, "/ui/events", ("Attempts failed 12", "From there on as a stream: curl -N 'http://queue.example:6790/events?since=900000'",)),
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
    await push(bunqueue, "mail", job_id="odd")
    await bunqueue.server.core.execute(c.PutSchedule(name="nightly", queue="mail", every=86_400_000))
    await minutes(bunqueue)
    page = await site.get(path)
    assert page.status == 200
    for case in INCIDENTS:
        if case.path == path and case.plant is not much_is_kept:
            assert not all(map(page.said, case.says)), case.says
