"""The filter of the page Jobs: its fields, what it finds, and what can be done with all of that."""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode

import trio

from bunqueue_trio.errors import Refused
from bunqueue_trio.pages.words import Given, done_to, line
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.replies import ListedJob
from bunqueue_trio.protocol.request import segment_of
from bunqueue_trio.ui.action import Action, Does, Done, Field, Form, Looks, Preview
from bunqueue_trio.ui.ask import Ask, Wrong
from bunqueue_trio.ui.commands import make
from bunqueue_trio.ui.doing import ACT_MAX, BY_CURL, EXAMPLES_MAX, duration, why_not
from bunqueue_trio.ui.errands import begin_if_large

# On a page.
SHOWN = 50
# At the engine, for one page: each is about 4 ms.
LOOKS = 40


class Part(NamedTuple):
    """One field of the filter: what the API, the page and the command line call it."""

    name: str
    label: str
    option: str
    kind: str = "text"
    """text, time, number, or choice."""
    hint: str = ""


PARTS = (
    Part("queue", "Queue", "--queue"),
    Part("state", "State", "--state", "choice"),
    Part("tag", "Tag", "--tag"),
    Part("groupId", "Group", "--group-id"),
    Part("idPrefix", "Id begins with", "--id-prefix"),
    Part("error", "Error has", "--error", hint="in the last error"),
    Part("text", "Payload has", "--text", hint="as it was sent"),
    Part("older", "Older than", "--older", "time", "10m or 7d"),
    Part("newer", "Newer than", "--newer", "time", "10m or 7d"),
    Part("attempts", "Failed at least", "--attempts", "number", "times"),
    Part("owner", "Worker", "--owner", hint="its id or name"),
    Part("fingerprint", "Group of errors", "--group", hint="of the page Errors"),
)
NAMES = tuple(part.name for part in PARTS)


def said(given: Mapping[str, str]) -> dict[str, str]:
    """Return the parts of the filter that somebody has filled in."""
    texts = {name: given.get(name, "").strip()[:256] for name in NAMES}
    return {name: text for name, text in texts.items() if text}


def address(form: Form) -> str:
    """Return the page that shows what is found; of a queue and a state alone there is a list."""
    parts = said(form)
    if parts.keys() == {"queue", "state"}:
        return f"/ui/queues/{segment_of(parts['queue'])}/jobs?{urlencode({'state': parts['state']})}"
    return f"/ui/jobs?{urlencode(parts)}"


def wanted(form: Form) -> dict[str, Any]:
    """Return the filter as the API has it.

    Raises:
        Wrong: a part of it is no value.
    """
    found: dict[str, Any] = {}
    for part in PARTS:
        if not (text := form.get(part.name, "").strip()):
            continue
        if part.kind == "time":
            found[part.name] = duration(text)
        elif part.kind == "number":
            if re.fullmatch(r"[0-9]{1,9}", text) is None:
                raise Wrong(f"{part.label}: a whole number is wanted, not {text[:50]!r}")
            found[part.name] = int(text)
        else:
            found[part.name] = text
    return found


def options(form: Form, leave: tuple[str, ...] = ()) -> tuple[object, ...]:
    """Return the filter as the command line has it."""
    return tuple(
        word
        for part in PARTS
        if form.get(part.name) and part.name not in leave
        for word in (part.option, Given(form[part.name]))
    )


def listing(form: Form) -> str:
    """Return the command line that writes down what is found, a job a line, as JSON."""
    return line("export", *options(form))


class Found(NamedTuple):
    """What the filter finds: the first ones, how many, of how many looked at, and where to go on; None: these are all."""

    jobs: list[ListedJob]
    total: int
    scanned: int
    after: str | None
    """Behind the last one shown."""
    is_all: bool
    """Whether all were looked at, so that ``total`` is exact."""


async def find(ask: Ask, form: Form, after: str | None) -> Found:
    """Look for the jobs of a filter behind a place; lets others run between the looks.

    Raises:
        Wrong: nothing can be found by it.
    """
    fields = wanted(form)
    jobs: list[ListedJob] = []
    total = scanned = 0
    place, behind = after, None
    for _ in range(LOOKS):
        # Those behind the last one that is shown are only counted.
        is_full = len(jobs) == SHOWN
        how: dict[str, Any] = {"count": True} if is_full else {"limit": SHOWN - len(jobs)}
        if place is not None:
            how["after"] = place
        try:
            told: Any = await ask.look(make(c.FindJobs, fields | how))
        except Refused as refused:
            raise Wrong(str(refused), refused.status) from None
        await trio.lowlevel.checkpoint()
        total, scanned, place = total + (told.count if is_full else len(told.jobs)), scanned + told.scanned, told.next
        if not is_full:
            jobs += told.jobs
            behind = place
        if place is None:
            break
    return Found(jobs, total, scanned, behind, place is None)


def which(form: Form) -> str:
    """Return the filter in words: ``failed jobs of emails, error has “timeout”``."""
    state, queue = form.get("state", ""), form.get("queue", "")
    words = f"{state} jobs" if state else "jobs"
    words += f" of {queue}" if queue else " of all queues"
    rest = [f"{part.label[0].lower()}{part.label[1:]} “{form[part.name]}”" for part in PARTS[2:] if form.get(part.name)]
    return ", ".join([words, *rest])


def _fields(act: str, more: Callable[[Form], dict[str, Any]]) -> Callable[[Form, int], dict[str, Any]]:
    return lambda form, now: {"filter": wanted(form), "action": act, "limit": ACT_MAX} | more(form)


def _before(act: str, more: Callable[[Form], dict[str, Any]], would: str) -> Looks:
    async def look(ask: Ask, form: Form) -> Preview:
        # Before somebody has said where to, it tells how many could go to any queue.
        said = {**form, "to": form["to"] or "-"} if "to" in form else form
        fields = _fields(act, more)(said, ask.now) | {"dryRun": True}
        reply: Any = await ask.server.core.execute(make(c.ActOnJobs, fields), by=ask.by)
        says = f"{done_to(reply.count, reply.ending, would, would=True, or_more=reply.next is not None)}{why_not(reply.refused)}"
        examples = tuple(job.id for job in reply.examples[:EXAMPLES_MAX])
        return Preview(f"{says}.", examples, not reply.count)

    return look


def _done(done: str) -> Does:
    async def do(ask: Ask, action: Action, form: Form) -> Done:
        command: Any = make(action.command, action.fields_of(form, ask.now))
        large = await begin_if_large(ask, command, action.title(form), done)
        if large is not None:
            return large
        reply: Any = await ask.server.core.execute(command, by=ask.by)
        more = "" if reply.next is None else " There may be more: do it again."
        return Done(f"{done_to(reply.count, reply.ending, done)}{why_not(reply.refused)}.{more}")

    return do


def _nothing(form: Form) -> dict[str, Any]:
    return {}


def kept(form: Form) -> dict[str, Any]:
    """Return why and how a job is cancelled: from here a record of it is kept always, so that it can be taken back."""
    reason = {"reason": form["reason"]} if form["reason"] else {}
    return reason | {"grace": duration(form["grace"]) if form["grace"] else 0}


def kept_words(form: Form) -> tuple[object, ...]:
    """Return the same as the command line has it."""
    reason = ("--reason", form["reason"]) if form["reason"] else ()
    return (*reason, "--grace", form["grace"] or "0s")


WHY_CANCELLED = (
    Field("reason", "Reason", "everybody who looks at the job will read it"),
    Field("grace", "Time for the worker of an active job to end it", "such as 30s; empty: none"),
)
_FORCE = Field("force", "Active ones, too", kind="choice", default="no", choices=("no", "yes"))


def _force(form: Form) -> dict[str, Any]:
    return {"force": True} if form.get("force") == "yes" else {}


def _row(
    act: str, label: str, done: str, cli: Callable[[Form], tuple[object, ...]], *,
    more: Callable[[Form], dict[str, Any]] = _nothing, **how: Any,
) -> Action:  # fmt: skip
    return Action(
        f"{act}-found", label, lambda f: f"{label}: {which(f)}", c.ActOnJobs, _fields(act, more), cli, _before(act, more, done),
        _done(done), about=NAMES, may_lack=NAMES, goes_back="found", by_curl=BY_CURL, **how,
    )  # fmt: skip


def _dead(verb: str) -> Callable[[Form], tuple[object, ...]]:
    return lambda f: (verb, f["queue"], *options(f, ("queue", "state")))


ROWS = (
    _row(
        "cancel", "Cancel all", "cancelled", lambda f: ("cancel", *options(f), *kept_words(f), *(("--force",) if _force(f) else ())),
        more=lambda f: kept(f) | _force(f), fields=(*WHY_CANCELLED, _FORCE), is_grave=True,
        note="A record of each is kept among the dead letters, from where it can be retried.",
    ),
    _row("promote", "Run all now", "ready", lambda f: ("promote", *options(f))),
    _row(
        "priority", "Change their priority", "changed", lambda f: ("change", *options(f), "--priority", f["priority"]),
        more=lambda f: {"priority": _whole(f)},
        fields=(Field("priority", "Priority", "higher is sooner", "number", "0", is_needed=True),),
    ),
    _row(
        "move", "Move to another queue", "moved", lambda f: ("change", *options(f), "--move-to", Given(f["to"])),
        more=lambda f: {"to": f["to"]}, fields=(Field("to", "Queue", is_needed=True),),
        note="They stand there behind those that wait at their priority, and keep all else: ids, payloads, delays and attempts.",
    ),
    _row(
        "discard", "Discard all", "made dead letters", lambda f: ("discard", *options(f), *(("--force",) if _force(f) else ())),
        more=_force, fields=(_FORCE,), note="They are kept, and not tried again unless they are retried.",
    ),
    _row("retry", "Retry all", "retried", _dead("retry"), note="They wait again under their ids; attempts start anew."),
    _row("purge", "Delete all", "deleted", _dead("purge"), is_grave=True),
)  # fmt: skip


def _whole(form: Form) -> int:
    if re.fullmatch(r"-?[0-9]{1,18}", form["priority"]) is None:
        raise Wrong(f"priority: a whole number is wanted, not {form['priority'][:50]!r}")
    return int(form["priority"])


_UNFINISHED = ("waiting", "delayed", "waiting-children", "active")


def fitting(form: Form) -> list[str]:
    """Return the actions that make sense for a filter; dead letters are retried and deleted queue by queue."""
    state = form.get("state", "")
    return [
        *(("promote-found",) if state in ("", "delayed") else ()),
        *(("priority-found",) if state in ("", "waiting", "delayed", "waiting-children") else ()),
        *(("move-found",) if state in ("", "waiting", "delayed", "waiting-children") else ()),
        *(("discard-found", "cancel-found") if not state or state in _UNFINISHED else ()),
        *(("retry-found", "purge-found") if state == "failed" and form.get("queue") else ()),
    ]
