"""What stands on a page and in the lists of the command line has one form and one name."""

import re
from typing import Any

import pytest
from msgspec import Raw
from rich.table import Table

from bunqueue_trio.cli.listing import Listing
from bunqueue_trio.config import Settings
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.testing.server import Bunqueue
from bunqueue_trio.ui.table import VIEWS
from bunqueue_trio.ui.views import house
from tests.operations.test_sisters import Shell
from tests.ui.night import fail, push, take
from tests.ui.site import Site, minutes

# In a line for a shell it is quoted.
MOMENT = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d[^\s']*")
FORM = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d")


async def plant(bunqueue: Bunqueue) -> str:
    """Let everything be there that has a time; return a job that has logs."""
    execute = bunqueue.server.core.execute
    now = bunqueue.server.clock.now()
    for state in ("failed", "completed"):
        await push(bunqueue, "q", max_attempts=1)
        if state == "failed":
            await fail(bunqueue, "q", 1, "no")
        else:
            ((job_id, token),) = await take(bunqueue, "q", 1)
            await execute(c.Ack(id=job_id, token=token, result=Raw(b"1")))
    await push(bunqueue, "q", delay=3_600_000)
    await push(bunqueue, "q")
    await execute(c.RegisterWorker(name="w", worker_id="w", queues=["q"]))
    reply = await execute(c.PullBatch(queue="q", count=1, owner="w"))
    job_id = reply.jobs[0].id  # type: ignore[attr-defined]
    await execute(c.AddLog(id=job_id, message="begun"))
    blocker = await push(bunqueue, "q")
    await push(bunqueue, "q", depends_on=[blocker])
    await execute(c.Pause(queue="other", reason="x", until=now + 7_200_000))
    await push(bunqueue, "other")
    await execute(
        c.PutSchedule(name="s", queue="q", cron="* * * * *", timezone="Europe/Berlin", start=now, end=now + 10**9)
    )
    await execute(c.PutSchedule(name="once", queue="q", at=now + 3_600_000, timezone="America/New_York"))
    await execute(c.RerunDlq(filter=c.Filter(queue=["q"]), force=True))
    await minutes(bunqueue, 3)
    return str(job_id)


async def screens(site: Site, job_id: str) -> dict[str, str]:
    """Return the text of each screen."""
    found = {}
    for view in VIEWS:
        path = view.replace("workers/:id", "workers/w").replace(":queue", "q").replace(":id", job_id)
        for name in ("s", "once") if ":name" in path else ("",):
            page = await site.get(path.replace(":name", name))
            assert page.status == 200, path
            # What hovers is read, too.
            found[path.replace(":name", name)] = page.text + " ".join(re.findall(r' title="([^"]+)"', page.html))
    return found


async def test_every_moment_has_one_form(site: Site, bunqueue: Bunqueue, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = await plant(bunqueue)
    seen = {path: MOMENT.findall(text) for path, text in (await screens(site, job_id)).items()}
    shell = Shell(bunqueue, monkeypatch)
    for words in ("jobs q", "dead q", "reruns", "schedules list", "schedules show s", "schedules show once", "actions", f"job {job_id}", f"logs {job_id}", "findings", "queues", "queues other", "workers"):  # fmt: skip
        seen[words] = MOMENT.findall((await shell(*words.split())).stdout)
    assert {where for where, moments in seen.items() if moments} >= {"/ui/schedules/s", "/ui/actions", "schedules show s", "actions"}  # fmt: skip
    odd = {where: [each for each in moments if not FORM.fullmatch(each[:11] + each[11:].rstrip(".,;:)"))] for where, moments in seen.items()}  # fmt: skip
    assert not {where: each for where, each in odd.items() if each}


async def test_the_times_of_a_schedule_are_of_its_zone(site: Site, bunqueue: Bunqueue) -> None:
    await plant(bunqueue)
    page = await site.get("/ui/schedules/s")
    moments = FORM.findall(page.text)
    assert len(moments) > 5
    assert {each[-6:] for each in moments} == {"+01:00"}


PAIRS = {
    "queues": ("/ui/queues?by=fullest", "Queues"), "jobs q waiting": ("/ui/queues/q/jobs?state=waiting", "Jobs"), "jobs q failed": ("/ui/queues/q/jobs?state=failed", "Jobs"),
    "jobs q delayed": ("/ui/queues/q/jobs?state=delayed", "Jobs"), "jobs q active": ("/ui/queues/q/jobs?state=active", "Jobs"),
    "jobs q completed": ("/ui/queues/q/jobs?state=completed", "Jobs"), "schedules list": ("/ui/schedules", "Schedules"),
    "workers": ("/ui/workers", "Workers"), "actions": ("/ui/actions", "Actions"),
}  # fmt: skip
"""A list of the command line, and the table of a page that has the same rows."""
ROWS = {"queue": "queue", "job": "id", "schedule": "name", "worker": "name", "when": "when"}
"""The column that leads on: on a page it is called as what it leads to."""
LEADS = {"queues": "queue", "jobs": "job", "schedules": "schedule", "workers": "worker", "actions": "when"}
ONLY_PAGE = {
    "queues": {"last hour", "gate"}, "jobs": {"payload", "priority", "error"}, "schedules": {"state", "last job"}, "workers": {"host"}, "actions": {"undo"},
}  # fmt: skip
ONLY_SHELL = {
    "queues": {"completed", "at once", "rate", "paused"}, "jobs": {"name", "error"}, "schedules": set(), "workers": {"id", "at once"}, "actions": set(),
}  # fmt: skip


def heads(html: str, label: str) -> set[str]:
    table = html.partition(f'aria-label="{label}"')[2].partition("</thead>")[0]
    return {re.sub(r"<[^>]+>", "", each).lower() for each in re.findall(r"<th [^>]*>(.*?)</th>", table)}


async def test_columns_have_one_name(site: Site, bunqueue: Bunqueue, monkeypatch: pytest.MonkeyPatch) -> None:
    await plant(bunqueue)
    await push(bunqueue, "q", max_attempts=1, priority=99)
    await fail(bunqueue, "q", 1, "no")
    await push(bunqueue, "q")
    shell, heard = Shell(bunqueue, monkeypatch), list[str]()
    add_column = Table.add_column

    def heard_too(table: Table, header: str = "", **how: Any) -> None:
        heard.append(str(header))
        add_column(table, header, **how)

    begins = Listing.__init__

    def begins_too(listing: Listing, *heads: str, as_json: bool) -> None:
        heard.extend(heads)
        begins(listing, *heads, as_json=as_json)

    monkeypatch.setattr(Table, "add_column", heard_too)
    monkeypatch.setattr(Listing, "__init__", begins_too)
    for words, (path, label) in PAIRS.items():
        heard.clear()
        await shell(*words.split())
        typed, shown = set(heard), heads((await site.get(path)).html, label)
        kind, (lead,) = words.split()[0], shown & {LEADS[words.split()[0]]}
        shown = shown - {lead} | {ROWS[lead]}
        assert shown - typed <= ONLY_PAGE[kind], (words, shown, typed)
        assert typed - shown <= ONLY_SHELL[kind], (words, shown, typed)


def test_no_setting_is_shown_as_nothing():
    shown = {variable: value for _, rows in house._settings(Settings(), {}) for variable, value, *_ in rows}
    assert (shown["STORE"], shown["LINK_BIND"]) == ("none", "next to the API, on its port + 1")
    assert all(value.strip() for value in shown.values())
