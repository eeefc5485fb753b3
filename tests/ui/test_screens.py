"""Each screen shows what it is for: an incident is planted in a simulated server, and the sentence stands on the page."""

import re
from html import unescape

import pytest
import trio
from msgspec import Raw

from bunqueue_trio import __version__
from bunqueue_trio.config import QUEUES_A_TURN
from bunqueue_trio.engine.fingerprint import fingerprint
from bunqueue_trio.engine.planner import LATE, Notice
from bunqueue_trio.errors import StoreError
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.testing.server import Bunqueue
from bunqueue_trio.ui.table import NAVIGATION, VIEWS
from tests.ui.night import fail, night, push, take, work
from tests.ui.site import Page, Site, minutes


def links(page: Page, within: str) -> list[str]:
    return [unescape(href) for href in re.findall(r'href="([^"]+)"', page.html) if within in href]


async def test_while_the_disk_refuses_reading_works_and_buttons_say_why_they_do_not(
    site: Site, bunqueue: Bunqueue
) -> None:
    await push(bunqueue, "emails")
    for queue in ("done", "done-too"):
        await push(bunqueue, queue)
        await work(bunqueue, queue, 1)
    await bunqueue.server.core.execute(c.RegisterWorker(name="mail", worker_id="w1", queues=["emails"]))
    await bunqueue.server.core.execute(c.PutSchedule(name="nightly", queue="other", every=86_400_000))
    refused = refuse_commits(bunqueue)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(push_and_be_refused, bunqueue)
        await trio.sleep(30)
        page = await site.get("/ui")
        assert page.said("The disk refuses changes")
        assert page.said("database or disk is full")
        job_id = next(iter(bunqueue.server.engine.jobs))
        there = {
            "/ui/jobs/:id": job_id, "/ui/jobs/:id/data": job_id, "/ui/workers/:id": "w1", "/ui/schedules/:name": "nightly",
            "/ui/errors/:queue": "emails?fingerprint=0123456789ab",
        }  # fmt: skip
        for view in VIEWS:
            path = re.sub(":(id|name|queue)", there.get(view, "emails"), view)
            page = await site.get(path)
            assert page.status == 200, (path, page.text)
        page = await site.get("/ui/storage")
        assert page.said("done-too")
        assert page.text.count("Reading goes on; buttons work again") == 1, "not beside each queue"
        page = await site.get("/ui/queues/emails")
        assert page.said("The disk refuses changes. Reading goes on")
        bunqueue.server.journal.is_damaged = True
        damaged = await site.get("/ui/queues/emails")
        assert damaged.said("The file is damaged, and changes are refused until it is restored. Reading goes on.")
        assert not damaged.said("The disk refuses changes. Reading goes on")
        bunqueue.server.journal.is_damaged = False
        assert "/ui/act/" not in page.html
        first = await site.get("/ui/act/pause?queue=emails")
        done = await site.post("/ui/act/pause", {"queue": "emails", "csrf": first.csrf})
        assert done.said("The disk refuses changes.")
        assert not bunqueue.server.engine.gates
        refused.clear()
        await trio.sleep(5)
    assert not (await site.get("/ui")).said("The disk refuses changes")


def refuse_commits(bunqueue: Bunqueue) -> list[bool]:
    """Let the disk refuse every commit until the list is emptied."""
    refuses = [True]
    store = bunqueue.server.store
    commit = store.commit

    def refuse(batch: object) -> None:
        if refuses:
            raise StoreError("database or disk is full")
        commit(batch)  # type: ignore[arg-type]

    store.commit = refuse  # type: ignore[method-assign]
    return refuses


async def push_and_be_refused(bunqueue: Bunqueue) -> None:
    with pytest.raises(Exception, match="Storage unavailable"):
        await push(bunqueue, "emails")


async def test_the_night_is_on_every_screen(site: Site, bunqueue: Bunqueue) -> None:
    """All screens of one night; every link on them leads somewhere."""
    await night(bunqueue, 30)
    now = await site.get("/ui")
    order = [now.html.index(words) for words in ("orders:", "invoices:", "newsletter: paused")]
    assert order == sorted(order)
    queues = await site.get("/ui/queues")
    assert queues.said("7 queues")
    queue = await site.get("/ui/queues/invoices")
    assert queue.said("nobody asks")
    assert len(re.findall("<svg class=.chart", queue.html)) == 6
    errors = await site.get("/ui/errors")
    assert errors.said("PaymentError: card service answered … for order …")
    group = await site.get(links(errors, "/ui/errors/orders?")[0])
    assert group.said("tenant “acme”".replace("“", '"').replace("”", '"'))
    assert group.said("tag checkout")
    assert "hunter2" not in group.html
    job = await site.get(links(group, "/ui/jobs/0")[0])
    assert job.said("It is a dead letter (unrecoverable, attempt 1 of 1)")
    assert '"password": "•••"' in unescape(job.html)
    waiting = await site.get("/ui/queues/newsletter/jobs?state=waiting")
    job = await site.get(links(waiting, "/ui/jobs/0")[0])
    assert job.said("The queue is paused (template is being corrected). It is the next of its queue.")
    storage = await site.get("/ui/storage")
    assert storage.said("RETENTION_COMPLETED_MAX")
    server = await site.get("/ui/server")
    assert server.said("persistence flusher")
    seen = set()
    for page in (now, queues, queue, errors, group, job, storage, server):
        for href in links(page, "/ui"):
            if href.startswith(("/ui/static", "/ui/export")) or href in seen:
                continue
            seen.add(href)
            found = await site.get(href)
            assert found.status in {200, 303}, (href, found.text)


async def test_every_screen_has_its_landmarks(site: Site, bunqueue: Bunqueue) -> None:
    await push(bunqueue, "q")
    job_id = await push(bunqueue, "q", '"x"')
    core = bunqueue.server.core
    await core.execute(c.RegisterWorker(worker_id="w"))
    await core.execute(c.PutSchedule(name="s", queue="q", every=1000))
    await push(bunqueue, "dead")
    await fail(bunqueue, "dead", 1, "boom")
    group = f"errors/dead?fingerprint={fingerprint('boom').key}"
    for view in VIEWS:
        path = (
            view.replace("workers/:id", "workers/w").replace("errors/:queue", group).replace(":queue", "q")
            .replace(":id", job_id).replace(":name", "s")
        )  # fmt: skip
        page = await site.get(path)
        assert page.status == 200, (path, page.text)
        for part in ('<html lang="en">', '<main id="main"', "<nav ", 'name="viewport"', "<h1", "Skip to content"):
            assert page.html.count(part) >= 1, (path, part)
        assert page.html.count("<h1") == 1, path
        assert f"<small>{__version__}</small>" in page.html, path
        assert re.search(r'data-news="/ui/news\?of=\w+&amp;queue=\w*" data-mark="\d+"', page.html) or path.endswith(
            "/data"
        )
        assert [" defer" in script for script in re.findall("<script[^>]*>", page.html)] == [True], (
            "it is painted before"
        )
        assert page.headers["cache-control"] == "no-store"
        assert "unsafe" not in page.headers["content-security-policy"]
        assert not re.search(r"<[^>]* (style|on\w+)=", page.html), path
        # Every field has a label.
        for name in re.findall(r'<(?:input|select)[^>]* id="([^"]+)"', page.html):
            assert f'for="{name}"' in page.html, (path, name)


async def test_navigation_marks_where_one_is(site: Site) -> None:
    assert NAVIGATION[-1].name == "cluster", "which is there where there is one"
    for entry in NAVIGATION[:-1]:
        page = await site.get(entry.href)
        marked = re.findall(r'<a href="([^"]+)" accesskey="\d" data-key="\d" aria-current="page"', page.html)
        assert marked == [entry.href]


async def test_a_part_of_a_page_is_its_main_part(site: Site, bunqueue: Bunqueue) -> None:
    """What the script asks for; nothing when nothing has changed."""
    part = await site.get("/ui/jobs", {"x-part": "main"})
    assert part.html.lstrip().startswith('<div id="part"')
    assert "<nav " not in part.html.replace('<nav class="pages"', "")
    again = await site.get("/ui/jobs", {"x-part": "main", "if-none-match": part.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
    await push(bunqueue, "q")
    await trio.sleep(2.1)
    assert (await site.get("/ui/jobs", {"x-part": "main", "if-none-match": part.headers["etag"]})).status == 200


async def test_queues_come_by_pages_and_by_a_part_of_their_name(site: Site, bunqueue: Bunqueue) -> None:
    for n in range(120):
        await push(bunqueue, f"queue-{n:03}")
    names: list[str] = []
    page = await site.get("/ui/queues")
    while True:
        names += re.findall(r'scope="row"><a href="/ui/queues/[^"]*">([^<]*)<', page.html)
        more = links(page, "after=")
        if not more:
            break
        page = await site.get(more[0])
    assert names == [f"queue-{n:03}" for n in range(120)]
    page = await site.get("/ui/queues?q=e-07")
    assert page.said("10 with “e-07”")
    await push(bunqueue, "queue-050")
    await trio.sleep(2.1)
    page = await site.get("/ui/queues?by=fullest")
    assert re.findall(r'scope="row"><a href="/ui/queues/[^"]*">([^<]*)<', page.html)[0] == "queue-050"


async def test_jobs_come_by_pages(site: Site, bunqueue: Bunqueue) -> None:
    ids = [await push(bunqueue, "q", str(n)) for n in range(120)]
    found: list[str] = []
    page = await site.get("/ui/queues/q/jobs?state=waiting")
    while True:
        found += re.findall(r'class="id"><a href="/ui/jobs/([^"]*)"', page.html)
        more = links(page, "after=")
        if not more:
            break
        page = await site.get(more[0])
    assert found == ids


async def test_what_is_not_there_is_said(site: Site) -> None:
    for path, status, words in (
        ("/ui/jobs/nobody", 404, "There is no job nobody."),
        ("/ui/queues/a%20b", 404, "cannot be the name of a queue"),
        ("/ui/queues/q/jobs?state=asleep", 400, "state must be waiting"),
        ("/ui/queues/q/jobs?state=waiting&after=x", 400, "after must be the next of an earlier page"),
        ("/ui/act/explode?queue=q", 404, "There is no such action"),
        ("/ui/act/pause", 400, "It is not said what this is to be done to"),
        ("/ui/nothing", 404, "Not found"),
        ("/ui/static/app.py", 404, "Not found"),
        ("/ui/static/..%2Fdashboard.py", 404, "Not found"),
        ("/ui/%ff", 400, "Invalid percent-encoding in path"),
        ("/ui?" + "&".join(f"a{n}=1" for n in range(80)), 400, "Too many fields"),
    ):
        page = await site.get(path)
        assert (page.status, page.said(words)) == (status, True), (path, page.status, page.text)


async def test_a_job_is_found_by_its_id(site: Site, bunqueue: Bunqueue) -> None:
    await push(bunqueue, "q", job_id="order/7 ü")
    page = await site.follow(await site.get("/ui/jobs?id=order/7+%C3%BC"))
    assert page.said("order/7 ü waiting")
    page = await site.follow(await site.get("/ui/jobs?queue=q&state=waiting"))
    assert page.said("order/7 ü")


async def test_every_kind_of_job_has_its_page(site: Site, bunqueue: Bunqueue) -> None:
    core = bunqueue.server.core
    parent = await push(
        bunqueue, "q", "[1]", delay=60_000, unique_key="k", tags=["a"], group_id="g", ttl=10**7, timeout=5000, lifo=True
    )
    child = await push(bunqueue, "q", "2", depends_on=[parent])
    series = await push(bunqueue, "q", "3", repeat=c.Repeat(every=60_000, limit=3))
    (active,) = await take(bunqueue, "q", 1)
    await core.execute(c.Progress(id=series, progress=40, message="half way", token=active[1]))
    page = await site.get(f"/ui/jobs/{series}")
    assert page.said("40 % half way")
    assert page.said("Series")
    await core.execute(c.Ack(id=series, token=active[1], result=Raw(b'{"token":"x","n":1}')))
    page = await site.get(f"/ui/jobs/{series}")
    assert page.said("It completed")
    assert page.said('"n": 1')
    assert (await site.get(f"/ui/jobs/{child}")).said(f"It waits for {parent} to complete.")
    page = await site.get(f"/ui/jobs/{parent}")
    for words in ("Unique key k", "Group g", "Tags a", "Time to live 10000 s", "Timeout 5 s", "last in, first out"):
        assert page.said(words), words


class Steps(trio.abc.Instrument):
    """Counts the turns that tasks get."""

    def __init__(self) -> None:
        self.n = 0

    def before_task_step(self, task: object) -> None:
        self.n += 1


@pytest.mark.parametrize("path", ["/ui", "/ui/queues", "/ui/jobs", "/ui/errors", "/ui/storage"])
@pytest.mark.thorough
async def test_a_thousand_queues_are_looked_at_in_pieces(site: Site, bunqueue: Bunqueue, path: str) -> None:
    """Others are served in between: for each 250 queues that are looked at, and that the rules look at."""
    engine = bunqueue.server.engine
    for n in range(1000):
        await push(bunqueue, f"queue-{n:04}")
    assert len(engine.queues) == 1000
    await bunqueue.server.note_minute()
    await trio.sleep(3)
    steps = Steps()
    trio.lowlevel.add_instrument(steps)
    page = await site.get(path)
    trio.lowlevel.remove_instrument(steps)
    assert page.status == 200
    assert steps.n >= 2 * (1000 // QUEUES_A_TURN)
    steps.n = 0
    trio.lowlevel.add_instrument(steps)
    await bunqueue.server.note_minute()
    trio.lowlevel.remove_instrument(steps)
    assert steps.n >= 1000 // QUEUES_A_TURN


async def test_a_queue_shows_its_last_week_by_the_hour(site: Site, bunqueue: Bunqueue) -> None:
    for hour in range(5):
        for _ in range(0 if hour == 2 else hour + 1):
            await push(bunqueue, "q")
        await minutes(bunqueue, 60 if hour < 4 else 2)
        await work(bunqueue, "q", 2)
    page = await site.get("/ui/queues/q")
    assert page.said("The last week")
    assert page.said("Oldest waiting")
    week = re.findall('aria-label="(In, last [0-9]+ [^"]+)"', page.html)
    week = [each for each in week if "hours" in each]
    assert len(week) == 1
    assert re.match("In, last [3-5] whole hours; [0-9]+ in the last whole hour", week[0]), (
        "the hour that goes on would look like a fall"
    )
    assert re.search('aria-label="Waiting, last [0-9]+ hours; [0-9]+ jobs now"', page.html)


async def test_what_is_within_the_hour_has_the_minute_that_goes_on(site: Site, bunqueue: Bunqueue) -> None:
    await push(bunqueue, "q")
    await fail(bunqueue, "q", 1, "boom")
    assert (await site.get("/ui/queues/q")).said("Died within the hour 1")
    await minutes(bunqueue, 2)
    await push(bunqueue, "q")
    await fail(bunqueue, "q", 1, "boom")
    await push(bunqueue, "q")
    page = await site.get("/ui/queues/q")
    assert page.said("Died within the hour 2")
    # What is counted by the minute says of which it is, and what there is, is of now.
    assert page.said("In 0 in the last whole minute")
    assert page.said("Waiting 1 job now")
    await minutes(bunqueue, 59)
    assert (await site.get("/ui/queues/q")).said("Died within the hour 1")
    await minutes(bunqueue, 2)
    assert not (await site.get("/ui/queues/q")).said("Died within the hour")
    await fail(bunqueue, "q", 1, "boom")
    await minutes(bunqueue)
    # As over a machine that sleeps: no minute is noted.
    await trio.sleep(3700)
    assert not (await site.get("/ui/queues/q")).said("Died within the hour")


async def test_many_findings_of_one_kind_are_one_card(site: Site, bunqueue: Bunqueue) -> None:
    for n in range(30):
        for _ in range(n + 1):
            await push(bunqueue, f"jobs-{n:02}")
    await minutes(bunqueue, 3)
    page = await site.get("/ui")
    assert page.html.count('class="finding warning"') == 1
    assert page.said("30 queues: jobs wait, and nobody asks")
    assert page.said("jobs-29 30 jobs wait, the oldest for 3 min")
    assert 'data-urgent="1"' in page.html, "as many as there are cards"
    assert page.said("15 more"), "folded"
    assert page.said("And 10 queues besides")
    assert "<code>bunqueue-trio workers</code> shows" in page.html


async def test_what_is_over_has_an_end_and_commands_stand_apart(site: Site, bunqueue: Bunqueue) -> None:
    await bunqueue.server.core.execute(c.PutSchedule(name="nightly", queue="q", every=3_600_000, misfire="once"))
    await bunqueue.stop()
    await trio.sleep(7000)
    await bunqueue.recover()
    site = Site(bunqueue)
    page = await site.get("/ui")
    assert page.said("Schedules missed their time")
    assert re.search(r'class="since"><time [^>]*>[0-9\s a-z]+ ago</time>', page.html)
    assert "`" not in page.text
    assert "<code>bunqueue-trio schedules show nightly</code>" in page.html


async def test_the_page_of_an_error_says_how_many_it_shows(site: Site, bunqueue: Bunqueue) -> None:
    for n in range(36):
        await push(bunqueue, "q", str(n), max_attempts=1)
    await fail(bunqueue, "q", 36, "PaymentError: order {}")
    errors = await site.get("/ui/errors")
    address = unescape(re.findall(r'href="(/ui/errors/q\?[^"]+)"', errors.html)[0])
    page = await site.get(address)
    assert page.said("The newest 20 of 36")
    more = unescape(re.findall(r'href="([^"]+show=more)"', page.html)[0])
    page = await site.get(more)
    assert page.said("All of them, newest first")
    assert page.html.count('scope="row"') == 36


async def test_storage_says_what_a_shorter_retention_would_free(site: Site, bunqueue: Bunqueue) -> None:
    for _ in range(30):
        await push(bunqueue, "q", '"x"')
    await work(bunqueue, "q", 30)
    assert (await site.get("/ui/storage")).said("Nothing yet: no ended job is older than an hour")
    await trio.sleep(2 * 3600)
    await bunqueue.server.sampler.step()
    page = await site.get("/ui/storage")
    assert page.said("What a shorter retention would free")
    assert page.said("1 h 30")
    assert not page.said("6 h 30"), "nothing is that old"


async def test_a_worker_without_a_job_is_idle(site: Site, bunqueue: Bunqueue) -> None:
    core = bunqueue.server.core
    await core.execute(c.RegisterWorker(name="mail", worker_id="w1", queues=["q"]))
    for path in ("/ui/workers", "/ui/workers/w1"):
        assert (await site.get(path)).said("idle"), path
    await push(bunqueue, "q")
    await core.execute(c.PullBatch(queue="q", count=1, owner="w1"))
    for path in ("/ui/workers", "/ui/workers/w1"):
        page = await site.get(path)
        assert page.said("active"), path
        assert not page.said("idle"), path


async def test_a_job_that_takes_longer_than_is_usual_is_marked(site: Site, bunqueue: Bunqueue) -> None:
    core = bunqueue.server.core
    await core.execute(c.RegisterWorker(worker_id="w", queues=["q"]))
    for _ in range(20):
        await push(bunqueue, "q")
        pulled = await core.execute(c.Pull(queue="q", owner="w"))
        await trio.sleep(2)
        await core.execute(c.Ack(id=pulled.job.id))  # type: ignore[attr-defined]
    await bunqueue.server.note_minute()
    await push(bunqueue, "q")
    await core.execute(c.Pull(queue="q", owner="w", lock_ttl=10**6))
    await trio.sleep(4)
    for page in ("/ui/workers/w", "/ui/workers"):
        assert "usual" not in (await site.get(page)).text
    await trio.sleep(14.4)
    for page, said in (("/ui/workers/w", "9 × longer than usual"), ("/ui/workers", "9 × usual")):
        assert (await site.get(page)).said(said)


async def test_a_schedule_that_was_late_leads_to_what_became_of_its_slots(site: Site, bunqueue: Bunqueue) -> None:
    await bunqueue.server.core.execute(c.PutSchedule(name="nightly", queue="q", every=3_600_000))
    now = bunqueue.server.clock.now()
    bunqueue.server.engine.planner.note_late(Notice("nightly", LATE, now - 7_200_000, now - 3_600_000, 1))
    page = await site.get("/ui")
    assert page.said("nightly last")
    assert "/ui/schedules/nightly" in links(page, "/ui/schedules")
    assert (await site.get("/ui/schedules/nightly")).status == 200


@pytest.mark.parametrize("path", ["/ui/actions?what=purg", "/ui/events?type=pusht"])
async def test_a_word_that_there_is_not_finds_no_empty_list(site: Site, path: str) -> None:
    assert (await site.get(path)).status == 404
    assert (await site.get(path.replace("purg", "purge").replace("pusht", "pushed"))).status == 200
