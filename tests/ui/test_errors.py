"""The page Errors: one row an error, over all queues; what jobs are tried again after stands among what they died of."""

import re

import pytest
import trio

from bunqueue_trio.protocol import commands as c
from bunqueue_trio.testing.server import Bunqueue
from tests.ui.night import fail, push, take
from tests.ui.site import Page, Site
from tests.ui.test_screens import links

SHAPE = "DiskError: no space on …"


async def die(bunqueue: Bunqueue, queue: str, n: int, error: str = "DiskError: no space on {}") -> None:
    for _ in range(n):
        await push(bunqueue, queue)
    await fail(bunqueue, queue, n, error)


async def stumble(bunqueue: Bunqueue, queue: str, n: int, error: str = "DiskError: no space on 7") -> None:
    """Let jobs fail that have other attempts, after a minute."""
    for _ in range(n):
        await push(bunqueue, queue, max_attempts=3, backoff=60_000)
    for job_id, token in await take(bunqueue, queue, n):
        await bunqueue.server.core.execute(c.Fail(id=job_id, token=token, error=error))


async def errors(site: Site, query: str = "") -> Page:
    return await site.get(f"/ui/errors{query}")


async def test_an_error_of_several_queues_is_one_row_that_leads_to_them(site: Site, bunqueue: Bunqueue) -> None:
    for n, queue in enumerate(("mails", "bills", "thumbs", "orders"), 2):
        await die(bunqueue, queue, n)
    page = await errors(site)
    assert page.html.count('class="groups-n') == 1
    assert page.said(f"14 {SHAPE} orders, thumbs and 2 other queues · unrecoverable · last")
    (href,) = links(page, "/ui/errors?fingerprint=")
    page = await site.get(href)
    assert page.said(f"{SHAPE} 14 dead letters in 4 queues")
    assert [link.partition("?")[0] for link in links(page, "/ui/errors/")] == [
        f"/ui/errors/{queue}" for queue in ("orders", "thumbs", "bills", "mails")
    ]
    assert page.said("5 orders unrecoverable")
    # Of one queue it is its own.
    page = await errors(site, "?queue=bills")
    assert page.said(f"3 {SHAPE} bills")
    assert links(page, "/ui/errors/bills?")


async def test_what_jobs_are_tried_again_after_is_there_before_any_has_died_of_it(
    site: Site, bunqueue: Bunqueue
) -> None:
    await die(bunqueue, "mails", 2)
    await stumble(bunqueue, "mails", 3)
    await stumble(bunqueue, "bills", 1)
    await stumble(bunqueue, "bills", 5, "TimeoutError: no answer")
    page = await errors(site)
    assert page.said("2 dead letters, 9 jobs tried again")
    assert page.said(f"2 {SHAPE} mails, bills · unrecoverable · last now · 4 tried again, the first in 1 min")
    assert page.said("5 TimeoutError: no answer bills · tried again after it, the first in 1 min")
    # What has died stands before what may do well yet.
    assert page.text.index("DiskError") < page.text.index("TimeoutError")
    (href,) = links(page, "/ui/errors/bills?")
    page = await site.get(href)
    assert page.said(
        "5 jobs have failed with it and are tried again, the first in 1 min: delayed or waiting jobs of bills."
    )
    assert page.said("No dead letter with this error is left.")
    page = await errors(site, "?queue=bills")
    assert page.said("0 dead letters of bills, 6 jobs tried again")
    assert page.said(f"1 {SHAPE} bills · tried again after it")
    await trio.sleep(60)
    await take(bunqueue, "bills", 9)
    assert not (await errors(site)).said("TimeoutError")


async def test_of_no_error_at_all_it_says_so(site: Site, bunqueue: Bunqueue) -> None:
    for query in ("", "?queue=nobody", "?queue=no%20good", "?fingerprint=0123456789ab"):
        assert (await errors(site, query)).said("No job has failed for good")


async def test_a_page_of_many_errors_is_light_and_reads_few_letters(
    site: Site, bunqueue: Bunqueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worst that fits: long texts, and deaths in every minute, so that no chart is flat."""
    kinds = [
        f"{a}{b} {'refused the order of the day ' * 5}"
        for a in "KLMNPQRS"
        for b in ("ash", "edger", "ail", "inder", "ish", "end", "oard")
    ]
    for turn in range(30):
        for n in range(24):
            for i in range(1 + (turn + n) % 2):
                await push(bunqueue, f"orders-{n}", f'{{"n":{i}}}')
            await fail(bunqueue, f"orders-{n}", 2, kinds[(turn * 24 + n) % len(kinds)])
        await trio.sleep(60)
    await bunqueue.server.note_minute()
    looked = [0]
    peek = bunqueue.server.core.peek

    async def counted(command: c.Command, *more: object) -> object:
        reply = await peek(command, *more)  # type: ignore[arg-type]
        looked[0] += len(reply.entries) if isinstance(command, c.Dlq) else 0  # type: ignore[attr-defined]
        return reply

    monkeypatch.setattr(bunqueue.server.core, "peek", counted)
    page = await site.get("/ui/errors")
    assert page.said("The errors of")
    assert page.html.count("<svg") > 50
    assert looked[0] <= 1000
    whole = len(page.body) + sum(
        [len((await site.get(path)).body) for path in re.findall(r'(?:href|src)="(/ui/static/[^"]+)"', page.html)]
    )
    assert whole <= 100_000, whole
