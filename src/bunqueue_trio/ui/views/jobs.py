"""Jobs: lists by queue and state, and one job with why it is where it is."""

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode

import trio

from bunqueue_trio import errors
from bunqueue_trio.api.downloads import JobList
from bunqueue_trio.errors import Refused
from bunqueue_trio.pages import words
from bunqueue_trio.pages.timeline import line_of
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.commands import Command
from bunqueue_trio.protocol.lines import Moment
from bunqueue_trio.protocol.request import segment_of
from bunqueue_trio.ui import editing, filters
from bunqueue_trio.ui.actions import bind, bind_filled
from bunqueue_trio.ui.ask import Ask, Leads, Saves, Screen, Wrong
from bunqueue_trio.ui.commands import curl, make
from bunqueue_trio.ui.first import first
from bunqueue_trio.ui.payload import Shown, show
from bunqueue_trio.ui.render import clock_time
from bunqueue_trio.ui.views.queues import STATES, of

PAGE = 50
PREVIEW_CHARS = 160
# All that are kept of a job; the newest of them are shown.
LOG_MAX, LOG_SHOWN = 1000, 50
# Pages of its past, each of some thousand events looked at; and of what was found in them the newest.
PAST_LOOKS, PAST_SHOWN = 4, 100

_ACTS = {
    "waiting": ("cancel", "priority", "delay", "discard"), "delayed": ("promote", "delay", "priority", "discard", "cancel"),
    "waiting-children": ("priority", "discard", "cancel"), "active": ("discard", "cancel"), "failed": ("retry", "purge"),
    "completed": (),
}  # fmt: skip
"""State of a job → what can be done with it."""


async def index(ask: Ask) -> Screen | Leads:
    """Return the page that finds jobs: by id, or by a filter; of a queue and a state alone there is a list."""
    job_id, said = ask.query.get("id", "").strip(), filters.said(ask.query)
    if job_id:
        return Leads(f"/ui/jobs/{segment_of(job_id)}")
    if said.keys() == {"queue", "state"}:
        return Leads(filters.address(said))
    if said:
        return await found(ask, said)
    looks = (await ask.found())[0].queues
    full, total = await first(looks, PAGE, lambda q: q.jobs or q.completed, lambda q: (-q.jobs, q.name))
    return Screen(
        "jobs.html", "Jobs", "jobs",
        {"queues": full, "total": total, "states": STATES, "parts": filters.PARTS, "form": {}}, live_s=5,
    )  # fmt: skip


async def found(ask: Ask, form: dict[str, str]) -> Screen:
    """Return the page of the jobs that a filter describes, and what can be done with all of them."""
    after = ask.query.get("after") or None
    told = await filters.find(ask, form, after)
    rows = [(job, show(job.data, ask.mask, PREVIEW_CHARS)) for job in told.jobs]
    base = f"/ui/jobs?{urlencode(form)}"
    more = None if told.after is None else f"{base}&{urlencode({'after': told.after})}"
    return Screen(
        "found.html", filters.which(form), "jobs",
        {
            "rows": rows, "told": told, "more": more, "begins": after is None, "base": base, "which": filters.which(form),
            "form": form, "parts": filters.PARTS, "states": STATES, "listing": filters.listing(form), "export": f"/ui/export/jobs?{urlencode(form)}",
            "actions": [bind(ask, name, **form) for name in filters.fitting(form)] if told.total else [],
        },
    )  # fmt: skip


async def export(ask: Ask) -> Saves:
    """Return all jobs that a filter describes as a file, a job a line."""
    try:
        wanted: Any = make(c.FindJobs, filters.wanted(filters.said(ask.query)))
        return Saves("jobs.jsonl", await JobList(ask.server, wanted, ask.hides).begun())
    except Refused as refused:
        raise Wrong(str(refused), refused.status) from None


async def listed(ask: Ask) -> Screen:
    """Return a page of the jobs of a queue in a state."""
    await trio.lowlevel.checkpoint()
    view, state, after = await of(ask), ask.query.get("state", "waiting"), ask.query.get("after") or None
    try:
        told = await ask.look(c.GetJobs(queue=view.name, state=state, limit=PAGE, after=after))
    except Refused as refused:
        raise Wrong(str(refused), refused.status) from None
    base = f"/ui/queues/{segment_of(view.name)}/jobs"
    rows = [(job, show(job.data, ask.mask, PREVIEW_CHARS)) for job in told.jobs]
    more = None if told.next is None else f"{base}?{urlencode({'state': state, 'after': told.next})}"
    return Screen(
        "listed.html", f"{view.name}: {state}", "jobs",
        {
            "queue": view, "state": state, "rows": rows, "more": more, "begins": after is None, "base": base,
            "states": [(name, view.counts[name]) for name in STATES], "actions": _many(ask, view.name, state),
        },
        live_s=5 if after is None else 0,
    )  # fmt: skip


def _many(ask: Ask, queue: str, state: str) -> list[Any]:
    if state == "failed":
        return [bind(ask, "retry-all", queue=queue), bind(ask, "purge-all", queue=queue)]
    if state == "waiting":
        return [bind(ask, "drain", queue=queue)]
    return [] if state == "active" else [bind(ask, "clean", queue=queue)]


async def one(ask: Ask) -> Screen:
    """Return the page of a job."""
    await trio.lowlevel.checkpoint()
    with ask.server.core.remembering() as known:
        return await _one(ask._replace(known=known))


async def _one(ask: Ask) -> Screen:
    job_id = ask.values["id"]
    result: Shown | None = None
    try:
        # Each reads all of a job that has ended: its payload and its result, of 10 MiB each.
        job = (await ask.look(c.GetJob(id=job_id))).job
        await trio.lowlevel.checkpoint()
        state = await ask.look(c.GetState(id=job_id))
        await trio.lowlevel.checkpoint()
        why = await ask.look(c.Why(id=job_id))
        await trio.lowlevel.checkpoint()
        logs = (await ask.look(c.GetLogs(id=job_id, limit=LOG_MAX))).data
        await trio.lowlevel.checkpoint()
        attempts = (await ask.look(c.GetAttempts(id=job_id))).attempts
        await trio.lowlevel.checkpoint()
        past = await _past(ask, job_id)
        if state.state == "completed":
            await trio.lowlevel.checkpoint()
            result = show((await ask.look(c.GetResult(id=job_id))).result, ask.mask)
    except Refused as refused:
        if refused.code != errors.JOB_NOT_FOUND.code:
            raise
        raise Wrong(
            f"There is no job {job_id[:256]}. It may have been cancelled, removed on its end, or be older than what is kept.",
            404,
        ) from None
    with_token = bool(ask.server.settings.auth_tokens)
    acts, edit, edit_line = [*_ACTS.get(state.state, ())], *_edit(state.state, job.queue, job_id)
    if editing.editable(job.data, ask.mask):
        acts[1:1] = [edit] if edit else []
        acts.append("copy")
    return Screen(
        "job.html", job_id, "jobs",
        {
            "job": job, "state": state, "why": why, "data": show(job.data, ask.mask), "result": result,
            "past": past, "attempts": attempts[::-1], "logs": logs.logs[-LOG_SHOWN:], "log_count": logs.count, "log_line": words.line("logs", words.Given(job_id)),
            "repeat": None if bytes(state.repeat) == b"null" else show(state.repeat, ask.mask).text,
            "actions": [await bind_filled(ask, name, queue=job.queue, id=job_id) for name in acts], "edit_line": "" if edit in acts else edit_line,
            "curl": curl(ask.base, c.GetJob, {"id": job_id}, with_token=with_token),
        },
        live_s=3,
    )  # fmt: skip


def _edit(state: str, queue: str, job_id: str) -> tuple[str, str]:
    """Return the action that gives a job another payload, and the line that does so from a file; both empty where nothing does."""
    given = words.Given(job_id)
    if state == "failed":
        return "retry-changed", words.line("retry", words.Given(queue), "--id", given, "--data", "@payload.json")
    is_open = state in ("waiting", "delayed", "waiting-children")
    return ("payload", words.line("change", given, "--data", "@payload.json")) if is_open else ("", "")


class Past(NamedTuple):
    """What happened to a job: when, and what, oldest first; and where to read on, if that is not all."""

    lines: list[tuple[int, str]]
    more: str
    has_gap: bool
    """Older events are not kept any more."""


def _cut(text: str) -> str:
    return text if len(text) <= PREVIEW_CHARS else text[:PREVIEW_CHARS] + "…"


async def _past(ask: Ask, job_id: str) -> Past:
    after, moments, has_gap = None, list[Moment](), False
    for _ in range(PAST_LOOKS):
        told = await ask.look(c.GetTimeline(id=job_id, after=after))
        await trio.lowlevel.checkpoint()
        moments += told.entries
        after, has_gap = told.next, has_gap or told.gap
        if after is None:
            break
    # Those of one ms are in order on each page.
    moments.sort(key=lambda moment: moment.at)
    is_all = after is None and len(moments) <= PAST_SHOWN
    more = "" if is_all else words.line("job", words.Given(job_id), "--timeline")
    return Past([(each.at, _cut(line_of(each, clock_time))) for each in moments[-PAST_SHOWN:]], more, has_gap)


_WHOLE: Mapping[str, tuple[str, type[Command]]] = {
    "payload": ("Payload", c.GetJob), "result": ("Result", c.GetResult), "error": ("Last error", c.GetState),
}  # fmt: skip
"""What of a job has a page of its own → its heading, and what reads it."""


async def data(ask: Ask) -> Screen:
    """Return the whole payload, result or last error of a job on a page of its own."""
    await trio.lowlevel.checkpoint()
    job_id, of = ask.values["id"], ask.query.get("of", "payload")
    if of not in _WHOLE:
        raise Wrong(f"{of[:100]!r} is nothing that a job has", 404)
    heading, kind = _WHOLE[of]
    try:
        told: Any = await ask.look(make(kind, {"id": job_id}))
        await trio.lowlevel.checkpoint()
        job = told.job if of == "payload" else (await ask.look(c.GetJob(id=job_id))).job
    except Refused as refused:
        raise Wrong(str(refused), refused.status) from None
    if of == "error":
        shown = Shown(told.error or "", len((told.error or "").encode("utf-8", "replace")), is_cut=False)
    else:
        shown = show(job.data if of == "payload" else told.result, ask.mask, None)
    line = curl(ask.base, kind, {"id": job_id}, with_token=bool(ask.server.settings.auth_tokens))
    return Screen(
        "data.html", f"{heading} of {job_id}", "jobs", {"job": job, "heading": heading, "data": shown, "curl": line}
    )
