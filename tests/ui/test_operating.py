"""Schedules, workers and the log of acts: an incident is planted in a simulated server, and the page says it."""

import pytest
import trio
from trio.testing import MockClock

from bunqueue_trio.api.access import ANYBODY, Grant
from bunqueue_trio.config import Settings
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.caller import By
from bunqueue_trio.protocol.commands.spec import Role
from bunqueue_trio.testing.server import Bunqueue
from tests.looks import look
from tests.ui.night import fail, push, take, work
from tests.ui.site import Page, Site, minutes
from tests.ui.test_screens import links

ANA = By("ana", "10.0.0.7")


async def follow(site: Site, page: Page, within: str) -> Page:
    """Follow the one link of a page that has ``within`` in it."""
    (href,) = set(links(page, within))
    return await site.get(href)


# --- schedules ------------------------------------------------------------------------------------


async def test_a_schedule_says_when_it_runs_next_and_what_is_special(site: Site, bunqueue: Bunqueue) -> None:
    nightly = c.PutSchedule(
        name="nightly", queue="reports", cron="30 2 30 3 *", timezone="Europe/Berlin", jitter=60_000
    )
    await bunqueue.server.core.execute(nightly)
    page = await site.get("/ui/schedules")
    assert page.said("nightly active in")
    assert page.said("30 2 30 3 * Europe/Berlin reports 0")
    page = await site.get("/ui/schedules/nightly")
    assert page.said("2025-03-30 03:00:00+02:00")
    assert page.said("later, to be spread. 02:30 does not exist on this day: runs at 03:00")
    assert page.said("No slot of it is over.")
    assert page.said("bunqueue-trio schedules run nightly")
    assert page.said("curl -X DELETE http://queue.example:6790/schedules/nightly")


async def test_a_schedule_whose_jobs_do_not_end_says_which_slots_were_left_out_and_why(
    site: Site, bunqueue: Bunqueue
) -> None:
    await bunqueue.server.core.execute(c.PutSchedule(name="cleanup", queue="q", every=60_000))
    await minutes(bunqueue, 4)
    page = await site.get("/ui/schedules/cleanup")
    assert page.said("had not ended")
    assert page.said("waiting cleanup@")
    await fail(bunqueue, "q", 1, "PermissionError: /var/tmp/{}")
    page = await site.get("/ui/schedules/cleanup")
    assert page.said("failed cleanup@")
    assert page.said("PermissionError: /var/tmp/1000")


async def test_past_slots_come_in_pages(site: Site, bunqueue: Bunqueue) -> None:
    await bunqueue.server.core.execute(c.PutSchedule(name="s", queue="q", every=1000, overlap="allow"))
    for _ in range(30):
        await trio.sleep(1)
        await work(bunqueue, "q", 1)
    first = await site.get("/ui/schedules/s")
    assert first.text.count("completed s@") == 20
    second = await follow(site, first, "before=")
    assert 5 < second.text.count("completed s@") < 15
    assert "First page" in second.text
    assert (await site.get("/ui/schedules/s?before=x")).status == 400


async def test_schedules_come_in_pages_and_behind_them_what_repeats(site: Site, bunqueue: Bunqueue) -> None:
    for n in range(26):
        await bunqueue.server.core.execute(c.PutSchedule(name=f"s{n:02}", queue="q", cron="@yearly"))
    await push(bunqueue, "mail", repeat=c.Repeat(every=5000, limit=9, name="poll inbox"))
    first = await site.get("/ui/schedules")
    assert "s24" in first.text
    assert "s25" not in first.text
    second = await follow(site, first, "/ui/schedules?after")
    assert second.said("s25 active")
    assert second.said("poll inbox waiting now 5 s mail 1 of 9")


async def test_a_schedule_is_paused_resumed_run_and_deleted(site: Site, bunqueue: Bunqueue) -> None:
    core = bunqueue.server.core
    await core.execute(c.PutSchedule(name="s", queue="q", cron="@yearly"))
    assert (await site.get("/ui/act/pause-schedule?name=s")).said("Its next run would be in")
    page = await site.do("pause-schedule", name="s")
    assert page.said("s is paused.")
    assert page.said("Paused now: its slots until it is resumed are left out.")
    assert (await site.get("/ui/act/delete-schedule?name=s")).said("It is paused. It has brought 0 jobs.")
    assert (await site.do("resume-schedule", name="s")).said("s goes on.")
    page = await site.do("run-schedule", name="s")
    ((job_id, _),) = await take(bunqueue, "q", 1)
    assert page.said(f"The job {job_id} is there.")
    assert (await site.get("/ui/act/run-schedule?name=s")).said(f"Its last job: For example: {job_id}")
    page = await site.do("delete-schedule", name="s")
    assert page.said("s is deleted.")
    assert page.said("There is no schedule yet.")
    assert (await site.get("/ui/schedules/s")).said("s: Schedule not found")
    assert (await site.get("/ui/act/run-schedule?name=s")).status == 400
    acts = look(core, c.Actions()).actions
    assert [act.command for act in acts] == [
        "DeleteSchedule",
        "RunSchedule",
        "ResumeSchedule",
        "PauseSchedule",
        "PutSchedule",
    ]


# --- workers --------------------------------------------------------------------------------------


async def hire(bunqueue: Bunqueue, worker_id: str = "w-3") -> None:
    await bunqueue.server.core.execute(
        c.RegisterWorker(
            worker_id=worker_id, name="mailer", queues=["emails"], concurrency=5, hostname="web-1", pid=4711
        )
    )


async def test_a_stuck_worker_is_found_with_what_it_has_for_how_long_and_its_jobs_are_taken_back(
    site: Site, bunqueue: Bunqueue
) -> None:
    core = bunqueue.server.core
    await hire(bunqueue)
    for _ in range(2):
        await push(bunqueue, "emails")
    (job, _) = (await core.execute(c.PullBatch(queue="emails", count=2, owner="w-3", lock_ttl=3_600_000))).jobs  # type: ignore[attr-defined]
    await core.execute(c.Progress(id=job.id, progress=40, message="sent 400 of 1,000"))
    await minutes(bunqueue, 40)
    page = await site.get("/ui/workers")
    assert page.said("mailer active web-1 4711 emails 2 of 5 0 0 40 min ago 40 min")
    page = await follow(site, page, "/ui/workers/")
    assert page.said(f"{job.id} emails 40 min 40 % sent 400 of 1,000 in 20 min")
    assert page.said("bunqueue-trio workers release w-3")
    assert (await site.get("/ui/act/quiet?id=w-3")).said("It has 2 jobs, which it keeps.")
    page = await site.do("quiet", id="w-3")
    assert page.said("w-3 is quiet.")
    assert page.said("Quiet now: it gets no more jobs.")
    assert (await site.get("/ui/act/release?id=w-3")).said(
        f"2 jobs would go back to where they stood in line. For example: {job.id}"
    )
    page = await site.do("release", id="w-3")
    assert page.said("w-3: 2 jobs taken back.")
    assert page.said("It has no job in its hands.")
    assert "/ui/act/release" not in page.html
    assert (await site.do("unquiet", id="w-3")).said("w-3 gets jobs.")


async def test_a_worker_that_nobody_knows_is_not_there(site: Site, bunqueue: Bunqueue) -> None:
    assert (await site.get("/ui/workers")).said("Nobody works for this server, or nobody has said who it is.")
    await hire(bunqueue)
    assert (await site.do("forget", id="w-3")).said("w-3 is forgotten.")
    for gone in ("w-3", "w", "w-33"):
        assert (await site.get(f"/ui/workers/{gone}")).status == 404
    assert (await site.get("/ui/act/release?id=w-3")).said("No worker w-3 is known")


async def test_each_of_many_workers_has_its_page(site: Site, bunqueue: Bunqueue) -> None:
    for n in range(60):
        await hire(bunqueue, f"w-{n}")
    page = await follow(site, await site.get("/ui/workers"), "after=")
    assert page.text.count("mailer idle") == 10
    for n in (1, 10, 59):
        assert (await site.get(f"/ui/workers/w-{n}")).said(f"mailer idle w-{n}")


async def test_a_slip_in_the_address_of_a_queue_is_noticed(site: Site, bunqueue: Bunqueue) -> None:
    await push(bunqueue, "emails")
    page = await site.get("/ui/queues/emials")
    assert page.said("There is no such queue yet. Do you mean emails?")
    assert (await site.get("/ui/queues/zzz")).said("There is no such queue yet.")
    await bunqueue.server.core.execute(c.SetDefaults(queue="emials", ttl=5))
    for queue in ("emails", "emials"):
        assert not (await site.get(f"/ui/queues/{queue}")).said("There is no such queue yet")


# --- the log of acts ------------------------------------------------------------------------------


async def test_the_log_of_acts_says_who_did_what_and_is_filtered(site: Site, bunqueue: Bunqueue) -> None:
    core = bunqueue.server.core
    await core.execute(c.Pause(queue="bills", reason="card service is down"), by=ANA)
    await core.execute(c.SetConcurrency(queue="thumbs", concurrency=4), by=By("deploy", "10.1.0.2"))
    page = await site.get("/ui/actions")
    assert page.said("ana 10.0.0.7 pause bills reason card service is down 1 Undo…")
    assert page.said("deploy 10.1.0.2 limit thumbs at once 4 (was none) 1 Undo…")
    for query in ("who=ana", "what=pause", "what=Pause", "of=bills"):
        page = await site.get(f"/ui/actions?{query}")
        assert page.said("1 of 2 looked at; 2 acts kept")
        assert "thumbs" not in page.text
    assert (await site.get("/ui/actions?who=bob")).said("None of the 2 looked at is like that.")


async def test_acts_come_in_pages_and_what_is_looked_for_is_found_behind_many(site: Site, bunqueue: Bunqueue) -> None:
    core = bunqueue.server.core
    await core.execute(c.Pause(queue="first"), by=ANA)
    for n in range(120):
        await core.execute(c.SetConcurrency(queue="q", concurrency=n + 1))
    page, seen = await site.get("/ui/actions"), 0
    while True:
        seen += page.html.count("<tr><td")
        if "after=" not in page.html:
            break
        page = await follow(site, page, "after=")
    assert seen == 121
    assert (await site.get("/ui/actions?of=first")).said("pause first")
    assert (await site.get("/ui/actions?after=x")).status == 400


async def test_what_can_be_taken_back_is_until_somebody_has(site: Site, bunqueue: Bunqueue) -> None:
    core = bunqueue.server.core
    await core.execute(c.Pause(queue="bills"), by=ANA)
    await core.execute(c.PutSchedule(name="s", queue="q", every=1000), by=ANA)
    await core.execute(c.PauseSchedule(name="s"), by=ANA)
    page = await site.get("/ui/actions")
    assert links(page, "/ui/act/") == [
        "/ui/act/resume-schedule?name=s", "/ui/act/delete-schedule?name=s", "/ui/act/resume?queue=bills",
    ]  # fmt: skip
    await site.do("resume", queue="bills")
    page = await site.get("/ui/actions")
    # What was taken back can be so itself.
    assert links(page, "/ui/act/")[0] == "/ui/act/pause?queue=bills&reason=&until="
    assert "/ui/act/resume?queue=bills" not in page.html
    assert page.said("resume bills")


async def test_a_reader_sees_all_of_it_and_no_buttons(autojump_clock: MockClock) -> None:
    async with Bunqueue(Settings(auth_tokens=("secret-1",))) as bunqueue:
        await hire(bunqueue)
        await bunqueue.server.core.execute(c.PutSchedule(name="s", queue="q", every=1000), by=ANA)
        await bunqueue.server.core.execute(c.PauseSchedule(name="s"), by=ANA)
        for grant, can in ((Grant(Role.READ, "reader"), False), (ANYBODY, True)):
            site = Site(bunqueue)
            value = site.gateway.logins.sign_in(grant, bunqueue.server.clock.now())
            site.cookie = f"{site.gateway.cookie}={value}"
            for path in ("/ui/schedules/s", "/ui/workers/w-3", "/ui/actions"):
                page = await site.get(path)
                assert page.status == 200
                assert ("/ui/act/" in page.html) is can
                assert page.said("You may look, and not change anything.") is not can
            if not can:
                page = await site.post("/ui/act/delete-schedule", {"name": "s", "csrf": page.csrf})
                assert page.said("You may look, and not change anything.")


# --- a first retry --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("again", "said"),
    [
        (0, "3 of 3 did not die again: the others can be retried."),
        (1, "1 of 3 died again: leave the others where they are"),
        (None, "3 of 3 have not ended yet: wait for them"),
    ],
)
async def test_the_fate_of_those_that_were_retried_first_says_what_to_do_with_the_others(
    site: Site, bunqueue: Bunqueue, again: int | None, said: str
) -> None:
    for _ in range(5):
        await push(bunqueue, "q")
    await fail(bunqueue, "q", 5, "DiskError: no space on {}")
    page = await follow(site, await site.get("/ui/errors"), "/ui/errors/q?")
    assert page.said("--limit 10")
    (href,) = set(links(page, "/ui/act/retry-group"))
    first = await site.get(href)
    fields = {"queue": "q", "fingerprint": href.rpartition("=")[2], "number": "3", "csrf": first.csrf}
    done = await site.post("/ui/act/retry-group", fields)
    if again is not None:
        await fail(bunqueue, "q", again, "DiskError: no space on {}")
        for job_id, token in await take(bunqueue, "q", 3):
            await bunqueue.server.core.execute(c.Ack(id=job_id, token=token))
    assert (await site.follow(done)).said(said)


async def test_what_was_cancelled_is_no_error_that_is_new_and_none_to_retry(site: Site, bunqueue: Bunqueue) -> None:
    for n in range(12):
        job_id = await push(bunqueue, "q")
        await bunqueue.server.core.execute(c.Cancel(id=job_id, reason=f"wrong customer {n}"))
    await push(bunqueue, "q")
    await fail(bunqueue, "q", 1, "DiskError: no space on {}")
    page = await site.get("/ui/errors")
    assert page.said("1 DiskError: no space on … q")
    assert page.said("12 Cancelled q · cancelled · last")
    assert page.text.index("DiskError") < page.text.index("Cancelled")
    assert page.text.count("new") == 1
    page = await follow(site, page, "fingerprint=cancelled")
    assert page.said("All of them have") or page.said("The newest")
    assert set(links(page, "/ui/act/purge-group"))
    assert not set(links(page, "/ui/act/retry-group"))


async def test_a_rerun_is_begun_from_a_page_and_stops_by_itself(site: Site, bunqueue: Bunqueue) -> None:
    for _ in range(5):
        await push(bunqueue, "q")
    await fail(bunqueue, "q", 5, "DiskError: no space on {}")
    page = await follow(site, await site.get("/ui/errors"), "/ui/errors/q?")
    (href,) = set(links(page, "/ui/act/rerun-group"))
    fields = {"queue": "q", "fingerprint": href.rpartition("=")[2], "count": "2", "rate": "1", "part": "50"}
    assert page.said("bunqueue-trio rerun q --group")
    await bunqueue.server.core.execute(c.Pause(queue="q"))
    assert (await site.get(href)).said("5 dead letters with this error. The queue is paused: resume it first.")
    await bunqueue.server.core.execute(c.Resume(queue="q"))
    first = await site.get(href)
    refused = await site.post("/ui/act/rerun-group", fields | {"csrf": first.csrf})
    assert refused.said("Nobody asks for jobs of queue q: start a worker first")
    await bunqueue.server.core.execute(c.RegisterWorker(worker_id="w", queues=["q"]))
    done = await site.follow(await site.post("/ui/act/rerun-group", fields | {"csrf": first.csrf}))
    assert done.said("The rerun is under way")
    assert done.said("the first 1 retried, 1 not ended, 0 died again Stop")
    await trio.sleep(3)
    await fail(bunqueue, "q", 2, "DiskError: no space on {}")
    page = await site.get("/ui/errors")
    assert page.said("stopped 2 retried, 0 not ended, 2 died again: by then 2 of 2 had died again, more than 50 %")
    assert not set(links(page, "/ui/act/stop-rerun"))


async def test_a_rerun_is_stopped_from_a_page(site: Site, bunqueue: Bunqueue) -> None:
    await push(bunqueue, "q")
    await fail(bunqueue, "q", 1, "DiskError")
    await bunqueue.server.core.execute(c.RerunDlq(filter=c.Filter(error="Disk"), force=True))
    await trio.sleep(2)
    page = await site.get("/ui/errors")
    assert page.said("error Disk, begun")
    (href,) = set(links(page, "/ui/act/stop-rerun"))
    assert (await site.get(href)).said("It has retried 1; 1 of them have not ended, 0 died again.")
    page = await site.do("stop-rerun", rerun=href.rpartition("=")[2])
    assert page.said("The rerun has stopped.")
    assert page.said("somebody stopped it")
    assert (await site.get("/ui/act/stop-rerun?rerun=nobody")).said("No rerun nobody is known")


async def test_an_error_is_marked_as_fixed_and_a_finding_says_when_it_is_back(site: Site, bunqueue: Bunqueue) -> None:
    for _ in range(4):
        await push(bunqueue, "q")
    await fail(bunqueue, "q", 2, "DiskError: no space on {}")
    page = await follow(site, await site.get("/ui/errors"), "/ui/errors/q?")
    (href,) = set(links(page, "/ui/act/fix-group"))
    assert (await site.get(href)).said("2 dead letters of q with this error stay.")
    page = await site.do("fix-group", queue="q", fingerprint=href.rpartition("=")[2])
    assert page.said("It is marked as fixed.")
    assert page.said("Marked as fixed")
    assert not set(links(page, "/ui/act/mute-group"))
    await fail(bunqueue, "q", 1, "DiskError: no space on {}")
    await trio.sleep(3)
    assert (await site.get("/ui")).said("q: an error that was fixed is back: DiskError: no space on …")
    page = await follow(site, await site.get("/ui/errors"), "/ui/errors/q?")
    assert page.said("ago, and it is back.")
    assert set(links(page, "/ui/act/fix-group"))
    page = await site.do("unmark-group", queue="q", fingerprint=href.rpartition("=")[2])
    assert page.said("Nothing is said of it any more.")
    await trio.sleep(3)
    assert not (await site.get("/ui")).said("is back")


async def test_no_finding_speaks_of_an_error_that_is_muted(site: Site, bunqueue: Bunqueue) -> None:
    await push(bunqueue, "q")
    await fail(bunqueue, "q", 1, "DiskError: no space on {}")
    await trio.sleep(3)
    assert (await site.get("/ui")).said("1 dead letter in q waits for a decision")
    key = (await site.get("/ui/errors")).html.partition("fingerprint=")[2][:12]
    page = await site.do("mute-group", queue="q", fingerprint=key)
    assert page.said("no finding speaks of it.")
    await trio.sleep(3)
    assert not (await site.get("/ui")).said("waits for a decision")
    assert (await site.get("/ui/errors")).said("muted")
