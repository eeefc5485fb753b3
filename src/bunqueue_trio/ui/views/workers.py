"""Workers: who works, who is quiet or lost, and what each has in its hands for how long."""

from typing import Any, NamedTuple
from urllib.parse import urlencode

import trio

from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.request import segment_of
from bunqueue_trio.protocol.worker_replies import WorkerView
from bunqueue_trio.ui.actions import bind
from bunqueue_trio.ui.ask import Ask, Screen, Wrong
from bunqueue_trio.ui.doing import worker_of

PAGE = 50
JOBS_SHOWN = 100


class Row(NamedTuple):
    """A worker, as the list shows it."""

    each: WorkerView
    href: str
    longest: int | None
    """Since when it has had the job that it has had for longest."""


async def index(ask: Ask) -> Screen:
    """Return a page of all workers."""
    after = ask.query.get("after", "")
    told = ask.look(c.ListWorkers(limit=PAGE, after=after[:256] or None)).data
    await trio.lowlevel.checkpoint()
    more = None if told.next is None else f"/ui/workers?{urlencode({'after': told.next})}"
    return Screen(
        "workers.html", "Workers", "workers",
        {"rows": [_row(each) for each in told.workers], "stats": told.stats, "more": more, "begins": not after},
        live_s=3,
    )  # fmt: skip


def _row(each: WorkerView) -> Row:
    longest = min((job.since for job in each.jobs if job.since is not None), default=None)
    return Row(each, f"/ui/workers/{segment_of(each.id)}", longest)


async def one(ask: Ask) -> Screen:
    """Return the page of one worker."""
    worker_id = ask.values["id"]
    each = await worker_of(ask, worker_id)
    if each is None:
        raise Wrong(f"No worker {worker_id[:256]} is known. Who is not heard of is forgotten after a while.", 404)
    await trio.lowlevel.checkpoint()
    acts: list[Any] = [bind(ask, "quiet" if each.quiet_since is None else "unquiet", id=worker_id)]
    acts += [bind(ask, "release", id=worker_id)] if each.active_jobs else []
    if each.status == "lost" and not each.active_jobs and each.quiet_since is None:
        acts.append(bind(ask, "forget", id=worker_id))
    return Screen(
        "worker.html", each.name or worker_id, "workers",
        {"each": each, "actions": acts, "hidden": max(0, each.active_jobs - len(each.jobs))},
        live_s=3,
    )  # fmt: skip
