"""An incident is planted in a simulated server, and the first screen says what is wrong, with numbers and a way on."""

import re

import pytest
import trio
from trio.testing import MockClock

from bunqueue_trio.api.access import ANYBODY
from bunqueue_trio.config import Settings
from bunqueue_trio.errors import StoreError
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.caller import By
from bunqueue_trio.testing.server import Bunqueue
from tests.ui.night import fail, hold, push, take, work
from tests.ui.site import Site, minutes


async def test_a_quiet_night_says_so(site: Site, bunqueue: Bunqueue) -> None:
    bunqueue.server.settings = Settings(auth_tokens=())
    page = await Site(bunqueue).get("/ui")
    assert page.status == 200
    # Nobody has set tokens in this server, which it says.
    assert page.said("Whoever reaches this address can push, take and delete jobs")


async def test_with_tokens_a_quiet_night_needs_nobody(autojump_clock: MockClock) -> None:
    async with Bunqueue(Settings(auth_tokens=("secret-1",))) as bunqueue:
        site = Site(bunqueue)
        site.cookie = f"{site.gateway.cookie}={site.gateway.logins.sign_in(ANYBODY, bunqueue.server.clock.now())}"
        assert (await site.get("/ui")).said("Nothing needs you")


async def test_a_queue_that_nobody_asks_for_is_reported_with_its_numbers(site: Site, bunqueue: Bunqueue) -> None:
    for _ in range(19):
        await push(bunqueue, "bills")
    await minutes(bunqueue, 41)
    page = await site.get("/ui")
    assert page.said("bills: 19 jobs wait, the oldest for 41 min, and nobody asks")
    assert page.said("No worker asks for jobs of this queue")
    assert "/ui/queues/bills" in page.html
    assert page.said("bunqueue-trio workers")
    assert not page.said("bunqueue-trio pause bills"), "it helps nobody where nobody asks"


async def test_jobs_that_become_dead_letters_are_reported_with_the_way_to_their_errors(
    site: Site, bunqueue: Bunqueue
) -> None:
    await push(bunqueue, "emails")
    await minutes(bunqueue, 2)
    for _ in range(12):
        await push(bunqueue, "emails")
    await fail(bunqueue, "emails", 13, "SMTP said 450 at {}")
    await minutes(bunqueue, 3)
    page = await site.get("/ui")
    assert page.said("emails: 13 jobs died within")
    assert "/ui/errors?queue=emails" in page.html


async def test_what_somebody_discards_is_no_incident(site: Site, bunqueue: Bunqueue) -> None:
    parent = await push(bunqueue, "emails")
    for _ in range(30):
        await push(bunqueue, "emails")
        await push(bunqueue, "sums", depends_on=[parent])
    await bunqueue.server.core.execute(c.ActOnJobs(filter=c.Filter(queue="emails"), action="discard"))
    await minutes(bunqueue, 3)
    page = await site.get("/ui")
    assert page.said("61 dead letters in 2 queues wait for a decision")
    assert not page.said("died within")
    assert not page.said("most attempts fail")


async def test_attempts_that_fail_are_reported_before_anything_is_dead(site: Site, bunqueue: Bunqueue) -> None:
    for _ in range(15):
        await push(bunqueue, "emails", backoff=3_600_000)
    await minutes(bunqueue)
    for job_id, token in await take(bunqueue, "emails", 15):
        await bunqueue.server.core.execute(c.Fail(id=job_id, token=token, error="no"))
    await minutes(bunqueue)
    page = await site.get("/ui")
    assert page.said(": most attempts fail, ")
    assert page.said("15 jobs are delayed")


async def test_a_job_whose_worker_hangs_is_reported(site: Site, bunqueue: Bunqueue) -> None:
    execute = bunqueue.server.core.execute
    for _ in range(12):
        await push(bunqueue, "emails")
        ((job_id, token),) = await take(bunqueue, "emails", 1)
        await trio.sleep(2)
        await execute(c.Ack(id=job_id, token=token))
    await push(bunqueue, "emails")
    ((job_id, token),) = await take(bunqueue, "emails", 1)
    for _ in range(11):
        await minutes(bunqueue, 1)
        await execute(c.Heartbeat(id=job_id, token=token))
    assert (await site.get("/ui")).said("emails: a job has been active for 11 min, 99 of 100 others take 2 s at most")


async def test_a_pause_of_yesterday_is_asked_about(site: Site, bunqueue: Bunqueue) -> None:
    await bunqueue.server.core.execute(c.Pause(queue="thumbs", reason="ana: disk is full"))
    await push(bunqueue, "thumbs")
    page = await site.get("/ui")
    assert page.said("thumbs: paused for")
    assert not page.said("forgotten?")
    await trio.sleep(13 * 3600)
    page = await site.get("/ui")
    assert page.said("thumbs: paused for 13 h: forgotten?")
    assert page.said("ana: disk is full")
    assert "/ui/act/resume?queue=thumbs" in page.html


async def test_a_limit_that_holds_jobs_up_is_the_cause(site: Site, bunqueue: Bunqueue) -> None:
    await bunqueue.server.core.execute(c.SetConcurrency(queue="thumbs", concurrency=1))
    await push(bunqueue, "thumbs")
    await push(bunqueue, "thumbs")
    await take(bunqueue, "thumbs", 1)
    await hold(bunqueue, "thumbs", 11)
    page = await site.get("/ui")
    assert page.said("No more than 1 job of it may be active, and as many are.")


async def test_a_queue_that_grows_is_reported_before_it_waits_long(site: Site, bunqueue: Bunqueue) -> None:
    for _ in range(8):
        for _ in range(40):
            await push(bunqueue, "mail")
        await work(bunqueue, "mail", 5)
        await take(bunqueue, "mail", 1)
        await minutes(bunqueue)
    page = await site.get("/ui")
    assert page.said("mail: grows by 35 a minute")
    assert page.said("More comes than its workers can do")


async def test_workers_that_vanish_are_reported_with_their_queue(site: Site, bunqueue: Bunqueue) -> None:
    for n in range(120):
        await push(bunqueue, "video", max_attempts=1, job_id=f"clip-{n}")
    await minutes(bunqueue)
    for _ in range(3):
        await take(bunqueue, "video", 120)
        await minutes(bunqueue, 6)
    page = await site.get("/ui")
    assert page.said("Workers take jobs and are not heard of again")
    assert not page.said("--error"), "none has died of it"
    await take(bunqueue, "video", 120)
    await minutes(bunqueue, 6)
    page = await site.get("/ui")
    last = re.search("120 jobs died of it within an hour, (clip-[0-9]+) of video last", page.text)
    assert last
    assert f'href="/ui/jobs/{last[1]}"' in page.html
    assert page.said("bunqueue-trio jobs --state failed --error 'Job stalled'")
    assert page.said("Workers take jobs and are not heard of again")
    assert page.said("Most of them in video.")


async def test_what_others_have_done_within_the_hour_is_seen(site: Site, bunqueue: Bunqueue) -> None:
    assert not (await site.get("/ui")).said("Done within the hour")
    await bunqueue.server.core.execute(c.Pause(queue="mail"), by=By("ana", "10.0.0.7"))
    for _ in range(3):
        await trio.sleep(60)
        await bunqueue.server.core.execute(c.SetConcurrency(queue="sms", concurrency=2), by=By("ben", "10.0.0.9"))
        await bunqueue.server.core.execute(c.ClearConcurrency(queue="sms"), by=By("ben", "10.0.0.9"))
    page = await site.get("/ui")
    assert page.text.count("ben limit sms") == 3
    assert not page.said("ana pause mail"), "three are enough"
    await trio.sleep(3600)
    assert not (await site.get("/ui")).said("Done within the hour")


async def test_what_is_wrong_is_to_be_seen_while_the_disk_cannot_be_read(
    site: Site, bunqueue: Bunqueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bunqueue.server.core.execute(c.Pause(queue="mail"), by=By("ana", "10.0.0.7"))
    await push(bunqueue, "mail")

    def broken(command: c.Command, *_: object) -> None:
        raise StoreError("disk I/O error")

    monkeypatch.setattr(bunqueue.server.core, "peek", broken)
    page = await site.get("/ui")
    assert (page.status, page.said("mail: paused for")) == (200, True)
    assert not page.said("Done within the hour")
    assert (await site.get("/ui/actions")).status == 503
