"""Screens that show a part say of how much, and where the rest is."""

import re
from html import unescape

import pytest
import trio

from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.caller import By
from bunqueue_trio.testing.server import Bunqueue
from bunqueue_trio.ui.views import dead
from tests.ui.night import fail, push
from tests.ui.site import Site

ANA = By("ana", "10.0.0.7")


async def test_the_steps_of_one_act_are_one_row_and_the_number_of_both_is_said(site: Site, bunqueue: Bunqueue) -> None:
    for n in range(5):
        await push(bunqueue, "q", job_id=f"j{n}")
    after = None
    for _ in range(3):
        step = c.ActOnJobs(filter=c.Filter(queue=["q"]), action="cancel", limit=2, after=after)
        after = (await bunqueue.server.core.execute(step, by=ANA)).next  # type: ignore[attr-defined]
    page = await site.get("/ui/actions")
    assert page.said("3 acts kept, each slice counted")
    assert page.html.count("<tr>") == 2


async def test_the_steps_of_a_drain_are_one_row_and_two_drains_are_two(site: Site, bunqueue: Bunqueue) -> None:
    """A drain goes on by being sent again, without a cursor."""
    for pause_s in (1, 9, 11, 1):
        for _ in range(2):
            await push(bunqueue, "q")
        await bunqueue.server.core.execute(c.Drain(queue="q", limit=1), by=ANA)
        await trio.sleep(pause_s)
    await push(bunqueue, "r")
    await bunqueue.server.core.execute(c.Drain(queue="r", limit=1), by=ANA)
    page = await site.get("/ui/actions")
    assert page.said("5 acts kept, each slice counted")
    assert page.html.count("<tr>") == 4


async def test_an_error_is_counted_whole_as_in_the_list_of_errors(
    site: Site, bunqueue: Bunqueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only its newest letters are read."""
    monkeypatch.setattr(dead, "GROUP_LOOKED", 3)
    for n in range(7):
        await push(bunqueue, "q", str(n))
    await fail(bunqueue, "q", 7, "PaymentError: order {}")
    errors = await site.get("/ui/errors")
    found = re.search(r'href="(/ui/errors/q\?[^"]*)"', errors.html)
    assert found is not None
    page = await site.get(unescape(found[1]))
    assert page.said("Dead letters 7 First")
    assert page.said("The newest 3 of 7")
    assert "or more" not in page.text


async def test_errors_that_are_not_shown_are_described(
    site: Site, bunqueue: Bunqueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead, "ROWS_SHOWN", 1)
    for n in range(3):
        await push(bunqueue, "q", str(n), job_id=f"j{n}")
    await fail(bunqueue, "q", 2, "PaymentError: order {}")
    await bunqueue.server.core.execute(c.Cancel(id="j2", reason="wrong"), by=ANA)
    page = await site.get("/ui/errors")
    assert page.said(
        "The errors of 2 of 3 dead letters are shown. The others died of errors that are too rare to be listed, or were cancelled or discarded"
    )
    assert page.said("bunqueue-trio dead QUEUE shows them, too")


async def test_a_job_shows_its_newest_lines_and_the_command_that_has_all(site: Site, bunqueue: Bunqueue) -> None:
    core = bunqueue.server.core
    job_id = await push(bunqueue, "q", job_id="-7")
    assert "Log " not in (await site.get(f"/ui/jobs/{job_id}")).text
    for n in range(60):
        await core.execute(c.AddLog(id=job_id, message=f"line {n}\x1b[31m", level="warn"))
    page = await site.get(f"/ui/jobs/{job_id}")
    assert page.said("Log the newest 50 of 60 lines")
    assert page.said("warn line 10")
    assert page.said("warn line 59")
    assert not page.said("warn line 9 ")
    assert "\x1b" not in page.html
    assert page.said("bunqueue-trio logs -- -7 shows all")


async def test_what_is_kept_of_acts_stands_with_all_else_that_is_kept(site: Site) -> None:
    assert (await site.get("/ui/storage")).said(
        "Acts of operators – at most 100,000, at most 365 d RETENTION_ACTIONS_MAX"
    )
