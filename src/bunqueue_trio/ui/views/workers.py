"""Workers: who works, who is quiet or lost, and what each has in its hands for how long."""

from typing import Any, NamedTuple
from urllib.parse import urlencode

import trio

from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.request import segment_of
from bunqueue_trio.protocol.worker_replies import WorkerJob, WorkerView
from bunqueue_trio.ui.actions import bind
from bunqueue_trio.ui.ask import Ask, Screen, Wrong
from bunqueue_trio.ui.doing import worker_of

PAGE = 50
# Jobs with a button of their own, those that it has had for longest; the others have theirs on their pages.
CANCELS_SHOWN = 10
QUEUES_COMPARED = 10
# Times what 95 % of the jobs of a queue did not exceed.
LONGER = 2


def state_of(each: WorkerView) -> str:
    """Return what a worker does, as people say it: one that is there and has no job is idle."""
    return "idle" if each.status == "active" and not each.active_jobs else each.status


class Row(NamedTuple):
    """A worker, as the list shows it."""

    each: WorkerView
    href: str
    state: str
    longest: int | None
    """Since when it has had the job that it has had for longest."""
    longer: str
    """How that compares to what is usual in its queue, if it is much longer."""


async def index(ask: Ask) -> Screen:
    """Return a page of all workers."""
    after = ask.query.get("after", "")
    told = (await ask.look(c.ListWorkers(limit=PAGE, after=after[:256] or None))).data
    await trio.lowlevel.checkpoint()
    more = None if told.next is None else f"/ui/workers?{urlencode({'after': told.next})}"
    return Screen(
        "workers.html", "Workers", "workers",
        {"rows": [_row(each, ask.now) for each in told.workers], "stats": told.stats, "more": more, "begins": not after},
        live_s=3,
    )  # fmt: skip


def _row(each: WorkerView, now: int) -> Row:
    longest = min((job for job in each.jobs if job.since is not None), key=lambda job: job.since or 0, default=None)
    since, longer = (None, "") if longest is None else (longest.since, _times(longest, longest.usual, now, ""))
    return Row(each, f"/ui/workers/{segment_of(each.id)}", state_of(each), since, longer)


def _times(job: WorkerJob, usual: int | None, now: int, than: str = "longer than ") -> str:
    """Return how a job compares to what is usual in its queue; empty while it is not longer."""
    if usual is None or job.since is None or now - job.since <= usual:
        return ""
    # What takes no time is not ten times as long after a second.
    times = (now - job.since) / max(usual, 1000)
    return f"{times:,.0f} × {than}usual" if times >= LONGER else ""


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
    usual: dict[str, int | None] = {}
    for name in list(dict.fromkeys(job.queue for job in each.jobs))[:QUEUES_COMPARED]:
        usual[name] = (await ask.look(c.GetFigures(queue=name))).usual
        await trio.lowlevel.checkpoint()
    return Screen(
        "worker.html", each.name or worker_id, "workers",
        {"cancels": {job.id: bind(ask, "cancel", queue=job.queue, id=job.id) for job in each.jobs[:CANCELS_SHOWN]}, "each": each, "state_of_it": state_of(each), "longer": {job.id: _times(job, usual.get(job.queue), ask.now) for job in each.jobs}, "actions": acts, "hidden": max(0, each.active_jobs - len(each.jobs))},
        live_s=3,
    )  # fmt: skip
