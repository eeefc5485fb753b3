"""What can be taken back from the list of acts is as it was before, whatever that was."""

import html
import re
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import msgspec
import pytest
import trio
from msgspec import Raw

from bunqueue_trio.engine.fingerprint import fingerprint
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.caller import By
from bunqueue_trio.protocol.commands import Command
from bunqueue_trio.testing.server import Bunqueue
from bunqueue_trio.ui import saving
from bunqueue_trio.ui.actions import ACTIONS
from tests.looks import look
from tests.ui.night import fail, push
from tests.ui.site import Page, Site

NIGHTLY = c.PutSchedule(name="nightly", queue="q", data=Raw(b'{"n": 1.0000000000000000001}'), every=3_600_000)
DAILY = c.PutSchedule(
    name="nightly", queue="r", data=Raw(b'"x y"'), cron="0 3 * * *", timezone="Europe/Berlin", jitter=1000, limit=7, overlap="allow",
    misfire="all", misfire_max=3, window=60_000, source="billing",
    options=c.RunOptions(priority=3, max_attempts=5, timeout=30_000, tags=["a", "b"], name="mail", ttl=9000, backoff=7),
)  # fmt: skip
GROUP = "049476a0149e"
PAUSED = c.Pause(queue="q", reason="mail host is down", until=10**15)

UNDONE: tuple[tuple[tuple[Command, ...], Command], ...] = (
    ((), c.Pause(queue="q")),
    ((PAUSED,), c.Pause(queue="q", reason="another")),
    ((PAUSED,), c.Resume(queue="q")),
    ((), c.SetConcurrency(queue="q", concurrency=5)),
    ((c.SetConcurrency(queue="q", concurrency=5),), c.SetConcurrency(queue="q", concurrency=10)),
    ((c.SetConcurrency(queue="q", concurrency=5),), c.ClearConcurrency(queue="q")),
    ((), c.RateLimit(queue="q", limit=5, duration=60_000)),
    ((c.RateLimit(queue="q", limit=5, duration=90_000),), c.RateLimit(queue="q", limit=7)),
    ((c.RateLimit(queue="q", limit=5, duration=1500),), c.RateLimitClear(queue="q")),
    ((), c.SetDefaults(queue="q", timeout=30_000, max_attempts=7, remove_on_fail=True)),
    ((c.SetDefaults(queue="q", timeout=1, max_attempts=4),), c.SetDefaults(queue="q", timeout=9, ttl=5)),
    ((c.SetDefaults(queue="q", timeout=1, remove_on_fail=True),), c.ClearDefaults(queue="q")),
    ((c.SetStallConfig(queue="q", enabled=False, max_stalls=1),), c.SetStallConfig(queue="q", enabled=True)),
    ((c.SetStallConfig(queue="q", grace_period=5000),), c.ClearStallConfig(queue="q")),
    ((), c.SetDlqConfig(queue="q", max_entries=5)),
    ((c.SetDlqConfig(queue="q", max_age=86_400_000, auto_retry=True),), c.ClearDlqConfig(queue="q")),
    ((), c.QuietWorker(id="w1")),
    ((c.QuietWorker(id="w1"),), c.UnquietWorker(id="w1")),
    ((), c.ChangePriority(id="w-0", priority=9)),
    ((), c.PutSchedule(name="new", queue="q", every=1000)),
    ((NIGHTLY,), DAILY),
    ((DAILY,), NIGHTLY),
    ((NIGHTLY,), c.DeleteSchedule(name="nightly")),
    ((DAILY,), c.DeleteSchedule(name="nightly")),
    ((NIGHTLY,), c.PauseSchedule(name="nightly")),
    ((NIGHTLY, c.PauseSchedule(name="nightly")), c.ResumeSchedule(name="nightly")),
    ((), c.MarkGroup(fingerprint=GROUP, mark="fixed")),
    ((), c.MarkGroup(fingerprint=GROUP, mark="muted")),
    ((c.MarkGroup(fingerprint=GROUP, mark="muted"),), c.MarkGroup(fingerprint=GROUP, mark="fixed")),
    ((c.MarkGroup(fingerprint=GROUP, mark="fixed"),), c.MarkGroup(fingerprint=GROUP, mark="none")),
    ((c.MarkGroup(fingerprint=GROUP, mark="muted"),), c.MarkGroup(fingerprint=GROUP, mark="none")),
)


def so(bunqueue: Bunqueue) -> Any:
    """How all of it is, but for when it was said."""
    core = bunqueue.server.core
    queue = look(core, c.GetQueue(queue="q")).queue
    settings = [
        msgspec.to_builtins(look(core, kind(queue="q"))) for kind in (c.GetDefaults, c.GetStallConfig, c.GetDlqConfig)
    ]
    for each in settings:
        each["set"].sort()
    schedules = [
        (each.name, each.queue, bytes(each.data), each.cron, each.timezone, each.every, each.limit, each.jitter, each.misfire, each.misfire_max, each.window, each.overlap, bytes(each.options), each.source, each.state)
        for each in look(core, c.ListSchedules()).schedules
    ]  # fmt: skip
    workers = [(each.id, each.quiet_since is not None) for each in look(core, c.ListWorkers()).data.workers]
    mark = bunqueue.server.engine.marks.get(GROUP)
    pause = queue.pause and (queue.pause.reason, queue.pause.until and queue.pause.until // 60_000)
    rate = queue.rate_limit and (queue.rate_limit.limit, queue.rate_limit.duration)
    return (
        mark and mark.mark,
        pause,
        queue.concurrency,
        rate,
        settings,
        schedules,
        workers,
        look(core, c.GetJob(id="w-0")).job.priority,
    )


async def prepared(bunqueue: Bunqueue, before: tuple[Command, ...]) -> None:
    await bunqueue.server.core.execute(c.RegisterWorker(name="mail", worker_id="w1", queues=["q"]))
    await push(bunqueue, "q", job_id="w-0")
    for command in before:
        await bunqueue.server.core.execute(command)


def undo_of(page: Page) -> tuple[str, dict[str, str]]:
    """The first *Undo* of a page: the action, and its form."""
    [where, *_] = [
        html.unescape(found) for found in re.findall(r'<a class="btn[^"]*" href="([^"]+)">Undo…</a>', page.html)
    ]
    parts = urlsplit(where)
    return parts.path.rpartition("/")[2], dict(parse_qsl(parts.query, keep_blank_values=True))


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("before", "act"), UNDONE, ids=[f"{type(act).__name__} {len(before)} {n}" for n, (before, act) in enumerate(UNDONE)]
)
async def test_what_is_taken_back_is_as_it_was(
    bunqueue: Bunqueue, site: Site, before: tuple[Command, ...], act: Command
) -> None:
    await prepared(bunqueue, before)
    was = so(bunqueue)
    await bunqueue.server.core.execute(act)
    now = so(bunqueue)
    assert now != was
    name, form = undo_of(await site.get("/ui/actions"))
    done = await site.do(name, **form)
    assert done.status == 200, done.text
    assert so(bunqueue) == was
    # And that can be taken back, too.
    name, form = undo_of(await site.get("/ui/actions"))
    await site.do(name, **form)
    assert so(bunqueue) == now


async def test_what_cannot_be_brought_back_has_no_undo(bunqueue: Bunqueue, site: Site) -> None:
    """Because it says more than a form, hides something, is over, was too large for a log, or is gone."""
    core = bunqueue.server.core
    shaped = c.Backoff(type="fixed", delay=5)
    much = Raw(b'"' + b"x" * 3000 + b'"')
    for before, act in (
        ((c.SetDefaults(queue="q", backoff=shaped),), c.SetDefaults(queue="q", backoff=7)),
        ((c.PutSchedule(name="s", queue="q", every=1000, data=Raw(b'{"password": "x"}')),), c.DeleteSchedule(name="s")),
        ((c.PutSchedule(name="s", queue="q", every=1000, data=much),), c.DeleteSchedule(name="s")),
        ((c.PutSchedule(name="s", queue="q", every=1000, options=c.RunOptions(lifo=True)),), c.DeleteSchedule(name="s")),
        ((c.PutSchedule(name="s", queue="q", every=1000, options=c.RunOptions(backoff=shaped)),), c.DeleteSchedule(name="s")),
    ):  # fmt: skip
        for each in (*before, act):
            await core.execute(each)
        first = (await site.get("/ui/actions")).html.partition("<tbody>")[2].partition("</tr>")[0]
        assert "Undo…" not in first, act
    for each in (NIGHTLY, c.PauseSchedule(name="nightly"), c.DeleteSchedule(name="nightly")):
        await core.execute(each)
    assert "Undo…" not in (await site.get("/ui/actions?what=schedules delete")).html, "it would run"
    await core.execute(c.RateLimit(queue="q", limit=10, ttl=5000))
    await core.execute(c.RateLimit(queue="q", limit=20))
    assert "Undo…" not in (await site.get("/ui/actions?what=limit --rate")).html, "it would have no end"
    await trio.sleep(6)
    assert undo_of(await site.get("/ui/actions?what=limit --rate"))[0] == "unrate", "it would have ended by now"
    await core.execute(c.Pause(queue="q", until=bunqueue.server.clock.now() + 5000))
    await core.execute(c.Resume(queue="q"))
    await trio.sleep(6)
    assert "Undo…" not in (await site.get("/ui/actions?what=resume")).html
    await push(bunqueue, "q", job_id="a")
    await core.execute(c.ChangePriority(id="a", priority=3))
    assert "Undo…" in (await site.get("/ui/actions?of=a")).html
    await core.execute(c.ChangePriority(id="a", priority=0, lifo=True))
    assert "Undo…" not in (await site.get("/ui/actions?of=a")).html, "it would stay the first"
    await core.execute(c.ChangePriority(id="a", priority=1, lifo=True))
    assert "Undo…" in (await site.get("/ui/actions?of=a")).html
    await core.execute(c.Cancel(id="a"))
    assert "Undo…" not in (await site.get("/ui/actions?of=a")).html


async def test_a_cancelled_job_whose_record_is_kept_comes_back(bunqueue: Bunqueue, site: Site) -> None:
    await push(bunqueue, "q", job_id="a")
    await bunqueue.server.core.execute(c.Cancel(id="a", reason="wrong month"))
    name, form = undo_of(await site.get("/ui/actions"))
    assert (name, form) == ("retry", {"queue": "q", "id": "a"})
    await site.do(name, **form)
    state: Any = look(bunqueue.server.core, c.GetState(id="a"))
    assert state.state == "waiting"
    assert "Undo…" not in (await site.get("/ui/actions?of=a")).html


async def test_an_act_of_before_that_says_less_is_taken_back_as_then(
    bunqueue: Bunqueue, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file may hold acts of a version that did not keep what was before."""
    from bunqueue_trio.engine import commands

    monkeypatch.setattr(commands, "before", lambda *_: None)
    for act, name in (
        (c.Pause(queue="q"), "resume"), (c.SetConcurrency(queue="q", concurrency=5), "unlimit"), (c.RateLimit(queue="q", limit=5), "unrate"),
    ):  # fmt: skip
        await bunqueue.server.core.execute(act)
        assert undo_of(await site.get("/ui/actions"))[0] == name
    for act in (c.SetDefaults(queue="q", ttl=5), c.PutSchedule(name="s", queue="q", every=1000), c.Resume(queue="q")):
        await bunqueue.server.core.execute(act)
        assert "Undo…" not in (await site.get("/ui/actions")).html.partition("<tbody>")[2].partition("</tr>")[0]


async def test_an_address_that_no_page_has_made_is_refused(site: Site, bunqueue: Bunqueue) -> None:
    for said in ("x", "[]", '{"data": 1, "queue": "q"}', '{"data": "1"}', '{"data": "1", "queue": "q", "options": 1}'):
        page = await site.get(f"/ui/act/restore-schedule?name=s&as={said}")
        assert page.status == 400, said
        assert page.said("It is not said how the schedule was"), said


@pytest.mark.parametrize(
    "said",
    [
        '{"data": "1", "queue": "q", "every": "x"}', '{"data": "1", "queue": "q", "every": 1e999}', f'{{"data": "1", "queue": "q", "every": {10**400}}}',
        '{"data": "1", "queue": "q", "every": 1000, "options": {"tags": 5}}', '{"data": "1", "queue": "q", "every": 1000, "options": {"backoff": {}}}',
        '{"data": "\\ud800", "queue": "q", "every": 1000}', '{"data": "1,\\"queue\\":\\"r\\"", "queue": "q", "every": 1000}', '{"data": "1", "queue": "q", "every": 1000, "x": 1}',
        "[" * 20_000, '{"a":' * 20_000,
    ],
)  # fmt: skip
async def test_an_address_with_what_no_page_says_is_refused(site: Site, bunqueue: Bunqueue, said: str) -> None:
    form = {"name": "s", "as": said}
    page = await site.get(f"/ui/act/restore-schedule?{urlencode(form)}")
    assert (page.status, "schedules put" in page.text) == (400, False)
    assert (await site.post("/ui/act/restore-schedule", form | {"csrf": page.csrf})).status == 400
    assert bunqueue.server.engine.planner.plans == {}


@pytest.mark.parametrize(
    "said",
    [
        "x", "[]", '{"ttl": "x"}', '{"ttl": 1e999}', '{"tags": 5}', '{"tags": [5]}', '{"backoff": "x"}', '{"backoff": {"delay": "x"}}', '{"name": "\\ud800"}',
        f'{{"timeout": {10**400}}}', '{"jobId": "x"}', '{"queue": "r"}', '{"data": 2}', '{"delay": 1}', "[" * 20_000,
    ],
)  # fmt: skip
async def test_so_is_one_of_a_copy(site: Site, bunqueue: Bunqueue, said: str) -> None:
    form = {"queue": "q", "id": await push(bunqueue, "q"), "data": "1", "as": said}
    page = await site.get(f"/ui/act/copy?{urlencode(form)}")
    assert (page.status, "bunqueue-trio push" in page.text) == (400, False)
    assert (await site.post("/ui/act/copy", form | {"csrf": page.csrf})).status == 400
    assert bunqueue.server.counts()["waiting"] == 1


async def test_a_job_that_died_of_something_else_was_not_cancelled(bunqueue: Bunqueue, site: Site) -> None:
    """A cancellation that another end has overtaken is nothing to take back."""
    core = bunqueue.server.core
    job_id = await push(bunqueue, "q")
    await core.execute(c.Pull(queue="q"))
    await core.execute(c.Cancel(id=job_id, reason="no", grace=60_000), by=By("ana", "10.0.0.7"))
    await core.execute(c.Discard(id=job_id))
    assert (await core.execute(c.Why(id=job_id))).code == "failed"  # type: ignore[attr-defined]
    assert "/ui/act/retry" not in (await site.get("/ui/actions")).html


async def test_what_would_come_of_it_is_said_first(site: Site, bunqueue: Bunqueue) -> None:
    await prepared(bunqueue, (NIGHTLY, DAILY))
    _, form = undo_of(await site.get("/ui/actions"))
    page = await site.get(f"/ui/act/restore-schedule?{urlencode(form)}")
    assert page.said("It would be changed: its next run would be at")
    assert "bunqueue-trio schedules put nightly q" in page.text
    await site.do("restore-schedule", **form)
    assert (await site.get(f"/ui/act/restore-schedule?{urlencode(form)}")).said("It is so already.")


async def test_steps_of_one_act_are_one_row(site: Site, bunqueue: Bunqueue) -> None:
    for n in range(3):
        await push(bunqueue, "e", str(n), job_id=f"e-{n}")
    await fail(bunqueue, "e", 3, "PaymentError: order {}")
    after = None
    for _ in range(3):
        which = c.Filter(queue="e")
        reply: Any = await bunqueue.server.core.execute(c.ActOnJobs(filter=which, action="purge", limit=1, after=after))
        after = reply.next
    page = await site.get("/ui/actions")
    assert page.html.count("<tr><td") == 1
    assert page.said("purge e 3")


async def test_a_mark_is_taken_back_where_it_was_made_and_each_by_itself(bunqueue: Bunqueue, site: Site) -> None:
    await prepared(bunqueue, ())
    other = "2a253bca139c"
    await bunqueue.server.core.execute(c.MarkGroup(fingerprint=GROUP, mark="muted"))
    await bunqueue.server.core.execute(c.MarkGroup(fingerprint=other, mark="fixed"))
    page = await site.get("/ui/actions")
    for key in (GROUP, other):
        assert f"/ui/act/unmark-group?fingerprint={key}" in page.html
    first = await site.get(f"/ui/act/unmark-group?fingerprint={GROUP}")
    assert first.said(f"Take back what was said of the error {GROUP}")
    assert first.said(f"bunqueue-trio mark {GROUP} none")
    done = await site.post("/ui/act/unmark-group", {"fingerprint": GROUP, "csrf": first.csrf})
    assert done.headers["location"].startswith("/ui/errors?said=")
    assert [*bunqueue.server.engine.marks] == [other]
    again = await site.get("/ui/actions")
    assert f"/ui/act/mute-group?fingerprint={GROUP}" in again.html


async def test_an_error_that_is_fixed_once_more_has_no_other_state_to_go_back_to(
    bunqueue: Bunqueue, site: Site
) -> None:
    await push(bunqueue, "q")
    await bunqueue.server.core.execute(c.MarkGroup(fingerprint=fingerprint("boom").key, mark="fixed"))
    await fail(bunqueue, "q", 1, "boom")
    await bunqueue.server.core.execute(c.MarkGroup(fingerprint=fingerprint("boom").key, mark="fixed"))
    assert "/ui/act/" not in (await site.get("/ui/actions")).html


async def test_what_nothing_brings_back_can_be_saved_first_or_be_discarded_instead(
    bunqueue: Bunqueue, site: Site
) -> None:
    for n in range(3):
        await push(bunqueue, "emails", f'{{"n":{n}}}')
    await push(bunqueue, "emails", delay=60_000)
    page = await site.get("/ui/act/drain?queue=emails&delayed=yes")
    assert page.said("Nothing brings them back. Save them first: those that are waiting, those that are delayed")
    assert page.said("bunqueue-trio export --queue emails --state waiting")
    for address in re.findall(r'href="(/ui/export/jobs[^"]+)"', page.html):
        assert html.unescape(address) in (
            "/ui/export/jobs?queue=emails&state=waiting",
            "/ui/export/jobs?queue=emails&state=delayed",
        )
    instead = html.unescape(re.findall(r'href="(/ui/act/discard-found[^"]+)"', page.html)[0])
    assert (await site.get(instead)).said("3 jobs would be made dead letters")
    for path in ("clean?queue=emails&state=waiting&older=0s", "clean?queue=emails&state=delayed&older=0s"):
        assert "discard-found" in (await site.get(f"/ui/act/{path}")).html
    await site.do("discard-found", queue="emails", state="waiting")
    await site.do("retry-all", queue="emails")
    assert bunqueue.server.counts()["waiting"] == 3
    # Of what is kept, or where nothing goes, nothing is said.
    for path in ("pause?queue=emails", "purge-all?queue=emails", "drain?queue=other"):
        assert not (await site.get(f"/ui/act/{path}")).said("Nothing brings them back")


async def test_each_act_that_takes_jobs_away_says_how_to_save_them(bunqueue: Bunqueue, site: Site) -> None:
    await push(bunqueue, "q", max_attempts=1)
    await fail(bunqueue, "q", 1, "boom")
    group = (await bunqueue.server.core.execute(c.DlqGroups(queue="q"))).groups[0].fingerprint  # type: ignore[attr-defined]
    for path, address in (
        ("purge-all?queue=q", "/ui/export/jobs?queue=q&state=failed"),
        (f"purge-group?queue=q&fingerprint={group}", f"/ui/export/jobs?queue=q&state=failed&fingerprint={group}"),
        ("purge-found?queue=q&state=failed", "/ui/export/jobs?queue=q&state=failed"),
        ("clean?queue=q&state=failed&older=0s", "/ui/export/jobs?queue=q&state=failed"),
    ):
        page = await site.get(f"/ui/act/{path}")
        assert page.status == 200, page.text
        assert f'href="{address.replace("&", "&amp;")}"' in page.html, page.text
    gone = {
        name
        for name, action in ACTIONS.items()
        if action.is_grave and action.name.partition("-")[0] in ("drain", "clean", "purge")
    }
    # One dead letter has its page.
    assert gone - {"purge"} == set(saving._GONE) - {"set-dead"}


async def test_dead_letters_that_are_not_to_be_kept_any_more_can_be_saved_first(bunqueue: Bunqueue, site: Site) -> None:
    for _ in range(3):
        await push(bunqueue, "q", max_attempts=1)
    await fail(bunqueue, "q", 3, "boom")
    for asked, leaves in (("maxEntries=1", True), ("maxEntries=3", False), ("maxAge=7d", False)):
        page = await site.get(f"/ui/act/set-dead?queue=q&{asked}")
        assert page.said("would be deleted at once and for good") is leaves, page.text
        assert ("/ui/export/jobs?queue=q&amp;state=failed" in page.html) is leaves, page.text
