"""What can be done from a page, one row each: its words, its form, the command behind it, and how it looks before it acts.

A new action is a row here; pages name it and say of what. Nothing else knows how an action is shown or done.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode

from bunqueue_trio.pages.queue_settings import GROUPS, SETTINGS, USUAL, QueueSetting, parse
from bunqueue_trio.pages.words import Given, line
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.commands import Command
from bunqueue_trio.protocol.commands.spec import Role
from bunqueue_trio.protocol.request import segment_of
from bunqueue_trio.ui import doing, editing, filters, restoring, upkeep
from bunqueue_trio.ui.action import Action, Field, Form
from bunqueue_trio.ui.ask import Ask, Wrong
from bunqueue_trio.ui.commands import curl
from bunqueue_trio.ui.doing import duration

# Characters of a field, and of one with several lines.
TEXT_MAX, JSON_MAX = 2000, 20_000
STOP_AT = 20
"""Percent of those retried first: if more die again, the others stay dead."""


class Bound(NamedTuple):
    """An action for a page: what its button needs."""

    action: Action
    href: str
    cli: str
    curl: str
    label: str
    is_shown: bool
    """Whether there is a button: not of what the token does not allow, for who may do some of it."""


async def as_said(ask: Ask, action: Action, given: Form) -> dict[str, str]:
    """Return the form with the given values in place of what stands there at first; blanks and the like are left out.

    Raises:
        Wrong: what it is to be done to is not there, where its form depends on that.
    """
    if action.fill is None or all(field.name in given for field in action.fields):
        return _form_of(action, given, {})
    return _form_of(action, given, await action.fill(ask, _form_of(action, given, {})))


def _form_of(action: Action, given: Form, filled: Form) -> dict[str, str]:
    form = defaults(action) | {name: given.get(name, "") for name in action.about} | dict(filled)
    for field in action.fields:
        if field.name in given:
            text = given[field.name][: JSON_MAX if field.kind in ("json", "hidden") else TEXT_MAX].strip()
            form[field.name] = text.replace(",", "") if field.kind == "number" else text
    return form


def bind(ask: Ask, name: str, label: str = "", /, **about: str) -> Bound:
    """Return the action ``name`` for what it is to be done to; one whose form depends on that is for :func:`bind_filled`."""
    assert ACTIONS[name].fill is None, name
    return _bound(ask, name, label, about, _form_of(ACTIONS[name], about, {}))


async def bind_filled(ask: Ask, name: str, **about: str) -> Bound:
    """Return the same of any action; raises ``Wrong`` as :func:`as_said`."""
    return _bound(ask, name, "", about, await as_said(ask, ACTIONS[name], about))


def _bound(ask: Ask, name: str, label: str, about: Form, form: Form) -> Bound:
    action = ACTIONS[name]
    is_shown = ask.viewer.role is Role.READ or ask.may(action.command)
    return Bound(
        action, f"/ui/act/{name}?{urlencode(about)}", *lines(ask, action, form), label or action.label, is_shown
    )


def lines(ask: Ask, action: Action, form: Form) -> tuple[str, str]:
    """Return the command line and the curl that do the same."""
    try:
        fields = action.fields_of(form, ask.now)
    except Wrong:
        fields = action.fields_of({name: form[name] for name in action.about} | defaults(action), ask.now)
    given = {name: Given(text) for name, text in form.items()}
    with_token = bool(ask.server.settings.auth_tokens)
    return line(*action.cli(given)), curl(ask.base, action.command, fields, with_token=with_token)


def defaults(action: Action) -> dict[str, str]:
    """Return the form as it is at first."""
    return {field.name: field.default for field in action.fields}


_PAGES = {"job": ("jobs", "id"), "schedule": ("schedules", "name"), "worker": ("workers", "id")}


def back(action: Action, form: Form) -> str:
    """Return the page to go to when it is done."""
    if action.goes_back.startswith("/"):
        return action.goes_back
    if action.goes_back == "found":
        return filters.address(form)
    if action.goes_back == "group":
        group = urlencode({"fingerprint": form["fingerprint"]})
        return f"/ui/errors/{segment_of(form['queue'])}?{group}" if form["queue"] else "/ui/errors"
    pages, field = _PAGES.get(action.goes_back, ("queues", "queue"))
    return f"/ui/{pages}/{segment_of(form[field])}"


def _queue(form: Form, now: int) -> dict[str, Any]:
    return {"queue": form["queue"]}


def _dead(act: str) -> Callable[[Form, int], dict[str, Any]]:
    """Return what makes the fields of an act on dead letters: all of a queue, or some with one error."""

    def fields(form: Form, now: int) -> dict[str, Any]:
        which = {name: form[name] for name in ("queue", "fingerprint") if name in form}
        return {"filter": which, "action": act, "limit": doing.number(form) if "number" in form else doing.ACT_MAX}

    return fields


def _job(form: Form, now: int) -> dict[str, Any]:
    return {"id": form["id"]}


def _pause(form: Form, now: int) -> dict[str, Any]:
    until = duration(form["until"]) if form["until"] else None
    reason = {"reason": form["reason"]} if form["reason"] else {}
    return {"queue": form["queue"]} | reason | ({"until": now + until} if until is not None else {})


def _whole(form: Form, name: str) -> int:
    text = form[name]
    if re.fullmatch(r"-?[0-9]{1,18}", text) is None:
        raise Wrong(f"{name}: a whole number is wanted, not {text[:50]!r}")
    return int(text)


def _rate(form: Form, now: int) -> dict[str, Any]:
    return {"queue": form["queue"], "limit": _whole(form, "limit"), "duration": duration(form["time"])}


def _clean(form: Form, now: int) -> dict[str, Any]:
    return {"queue": form["queue"], "state": form["state"], "grace": duration(form["older"])}


def _name(form: Form, now: int) -> dict[str, Any]:
    return {"name": form["name"]}


def _has(form: Form, name: str) -> bool:
    return form.get(name) == "yes"


def _rerun(form: Form, now: int) -> dict[str, Any]:
    numbers = {"count": _whole(form, "count"), "rate": _whole(form, "rate"), "stopAt": _whole(form, "part")}
    return {"filter": {"queue": form["queue"], "fingerprint": form["fingerprint"]}} | numbers


def _error(form: Form) -> str:
    """Return what a mark is said of: the error is one and the same in every queue."""
    return f"an error of {form['queue']}" if form["queue"] else f"the error {form['fingerprint']}"


def _mark(mark: str) -> Callable[[Form, int], dict[str, Any]]:
    return lambda form, now: {"fingerprint": form["fingerprint"], "mark": mark}


_RESETS: Mapping[str, type[Command]] = {
    "defaults": c.ClearDefaults,
    "stalls": c.ClearStallConfig,
    "dead": c.ClearDlqConfig,
}
_SETS: Mapping[str, type[Command]] = {"defaults": c.SetDefaults, "stalls": c.SetStallConfig, "dead": c.SetDlqConfig}
_WHAT = {"defaults": "the defaults", "stalls": "when jobs stall", "dead": "which dead letters are kept"}

_THERE = dict.fromkeys(("defaults", "stalls"), "Jobs that are there keep what they have.") | {
    "dead": "Dead letters that are not to be kept any more are deleted at once, for good."
}


def _said(group: str) -> Callable[[Form, int], dict[str, Any]]:
    """Return a function that takes, from a form, the settings of a queue that were filled in."""

    def fields(form: Form, now: int) -> dict[str, Any]:
        try:
            given = {
                each.name: parse(each, form[each.name]) for each in SETTINGS if each.group == group and form[each.name]
            }
        except ValueError as error:
            raise Wrong(str(error)) from None
        return {"queue": form["queue"]} | given

    return fields


def _setting(each: QueueSetting) -> Field:
    if each.kind == "switch":
        return Field(each.name, each.label, "", "choice", "", ("", "yes", "no", USUAL), called=each.name)
    hint = "such as 30s or 7d" if each.kind == "time" else "a number"
    return Field(each.name, each.label, hint, called=each.name)


def _settings(group: str) -> tuple[Action, Action]:
    """Return the actions that change some settings of a queue, and let them be as everywhere."""
    names = [each.name for each in SETTINGS if each.group == group]
    yes = ("--yes",) if group == "dead" else ()
    return (
        Action(
            f"set-{group}", f"Change {_WHAT[group]}", lambda f: f"{f['queue']}: change {_WHAT[group]}", _SETS[group], _said(group),
            lambda f: ("queue", f["queue"], *(word for name in names if f[name] for word in ("--set", f"{name}={f[name]}")), *yes),
            doing.of_settings(group), doing.once("{queue}: it is changed."), fields=tuple(_setting(each) for each in SETTINGS if each.group == group),
            note=f"What is left empty stays as it is; {USUAL}, written out, is as everywhere. " + _THERE[group],
        ),
        Action(
            f"reset-{group}", f"Reset {_WHAT[group]}", lambda f: f"{f['queue']}: reset {_WHAT[group]}", _RESETS[group], _queue,
            lambda f: ("queue", f["queue"], "--reset", group), doing.of_settings(group, is_reset=True),
            doing.once("{queue}: it is as everywhere."),
        ),
    )  # fmt: skip


_YES = ("no", "yes")
_STATES = ("completed", "failed", "waiting", "delayed", "waiting-children")
_PAYLOAD = Field("data", "Payload", "JSON, as its worker will get it", "json", is_needed=True)
_UNTIL = Field("until", "Resume by itself after", "such as 30m or 2h; empty: until somebody resumes it")

_ROWS = (
    Action(
        "pause", "Pause", lambda f: f"Pause {f['queue']}", c.Pause, _pause,
        lambda f: ("pause", f["queue"], *(("--reason", f["reason"]) if f["reason"] else ()), *(("--until", f["until"]) if f["until"] else ())),
        doing.of_queue("waiting", "{} will wait until it is resumed."), doing.once("{queue} is paused."),
        fields=(Field("reason", "Reason", "everybody who looks will read it"), _UNTIL),
        note="Nothing of it is delivered any more. Pushes are accepted, and active jobs go on.",
    ),
    Action(
        "resume", "Resume", lambda f: f"Resume {f['queue']}", c.Resume, _queue, lambda f: ("resume", f["queue"]),
        doing.of_queue("waiting", "{} can be delivered at once."), doing.once("{queue} delivers again."),
    ),
    Action(
        "limit", "Limit active jobs", lambda f: f"Limit the active jobs of {f['queue']}", c.SetConcurrency,
        lambda f, now: {"queue": f["queue"], "concurrency": _whole(f, "number")},
        lambda f: ("limit", f["queue"], f["number"]), doing.of_queue("active", "{} now: a limit takes none from its worker."),
        doing.once("{queue} has at most {number} active at a time."),
        fields=(Field("number", "At most", "jobs at once", "number", "10", is_needed=True),),
    ),
    Action(
        "unlimit", "Remove the limit", lambda f: f"Let any number of jobs of {f['queue']} be active", c.ClearConcurrency,
        _queue, lambda f: ("limit", f["queue"], "none"), doing.of_queue("waiting", "Now: {}."),
        doing.once("{queue} has no limit of active jobs."),
    ),
    Action(
        "rate", "Limit the rate", lambda f: f"Limit the deliveries of {f['queue']}", c.RateLimit, _rate,
        lambda f: ("limit", f["queue"], "--rate", f"{f['limit']}/{f['time']}"), doing.of_queue("waiting", "Now: {}."),
        doing.once("{queue} delivers at most {limit} in {time}."),
        fields=(
            Field("limit", "At most", "jobs", "number", "100", is_needed=True),
            Field("time", "in", "such as 1s or 1m", default="1m", is_needed=True),
        ),
    ),
    Action(
        "unrate", "Remove the rate limit", lambda f: f"Deliver the jobs of {f['queue']} at any rate", c.RateLimitClear,
        _queue, lambda f: ("limit", f["queue"], "--rate", "none"), doing.of_queue("waiting", "Now: {}."),
        doing.once("{queue} delivers at any rate."),
    ),
    Action(
        "drain", "Drain", lambda f: f"Remove the waiting jobs of {f['queue']}", c.Drain,
        lambda f, now: {"queue": f["queue"]} | ({"delayed": True} if _has(f, "delayed") else {}),
        lambda f: ("drain", f["queue"], "--delayed" if _has(f, "delayed") else ""), doing.before_drain, doing.drain,
        fields=(Field("delayed", "Delayed jobs, too", kind="choice", default="no", choices=_YES),), is_grave=True,
        note="Active jobs go on. What is removed is gone.",
        by_curl="One request removes up to 1,000: send it again until its answer has nothing left.",
    ),
    Action(
        "clean", "Clean up", lambda f: f"Remove {f.get('state', '')} jobs of {f['queue']}", c.Clean, _clean,
        lambda f: ("clean", f["queue"], f["state"], "--older", f["older"]), doing.before_clean, doing.clean,
        fields=(
            Field("state", "Those that are", kind="choice", default="completed", choices=_STATES),
            Field("older", "older than", "such as 1h or 7d; 0s: all", default="1d", is_needed=True),
        ),
        by_curl="One request looks at up to 1,000: send it again, with the next of its answer as after, until that is null.",
        is_grave=True, note="The age counts from the end of a finished job, and from the push of others.",
    ),
    Action(
        "retry-all", "Retry all", lambda f: f"Retry the dead letters of {f['queue']}", c.ActOnJobs, _dead("retry"),
        lambda f: ("retry", f["queue"]), doing.before_dead, doing.dead_ones("retried"),
        by_curl=doing.BY_CURL, note="They wait again under their ids; attempts start anew.",
    ),
    Action(
        "purge-all", "Delete all", lambda f: f"Delete the dead letters of {f['queue']}", c.ActOnJobs, _dead("purge"),
        lambda f: ("purge", f["queue"]), doing.before_dead, doing.dead_ones("deleted"), is_grave=True, by_curl=doing.BY_CURL,
    ),
    Action(
        "retry-group", "Retry", lambda f: f"Retry dead letters of {f['queue']} with one error", c.ActOnJobs,
        _dead("retry"), lambda f: ("retry", f["queue"], "--group", f["fingerprint"], "--limit", f["number"]),
        doing.before_retry, doing.dead_ones("retried"),
        about=("queue", "fingerprint"), goes_back="group",
        fields=(Field("number", "How many", "those that died first; begin with 10 and look how they fare", "number", "10", is_needed=True),),
        note="They wait again under their ids; attempts start anew. The others stay dead.",
    ),
    Action(
        "rerun-group", "Rerun, a few first", lambda f: f"Rerun the dead letters of {f['queue']} with one error", c.RerunDlq,
        _rerun, lambda f: ("rerun", f["queue"], "--group", f["fingerprint"], "--count", f["count"], "--rate", f["rate"], "--stop-at", f"{f['part']}%"),
        doing.before_rerun, doing.once("The rerun is under way: its fate is shown here."), about=("queue", "fingerprint"), goes_back="group",
        fields=(
            Field("count", "First", "the newest; the others follow if these do well", "number", "10", is_needed=True),
            Field("rate", "At most", "a second", "number", "10", is_needed=True),
            Field("part", "Stop by itself", "when more than this part of what was retried, in percent, dies again", "number", str(STOP_AT), is_needed=True),
        ),
        note="The server goes on with it, over restarts too. The queue has to be resumed, and somebody to work on it.",
    ),
    Action(
        "stop-rerun", "Stop", lambda f: f"Stop the rerun {f['rerun']}", c.StopRerun, lambda f, now: {"rerun": f["rerun"]},
        lambda f: ("reruns", "stop", f["rerun"]), doing.of_rerun, doing.once("The rerun has stopped."), about=("rerun",),
        goes_back="/ui/errors", note="It retries no more. What it has retried stays so.",
    ),
    Action(
        "fix-group", "Mark as fixed", lambda f: f"Mark {_error(f)} as fixed", c.MarkGroup, _mark("fixed"),
        lambda f: ("mark", f["fingerprint"], "fixed"), doing.before_mark, doing.once("It is marked as fixed."),
        about=("queue", "fingerprint"), may_lack=("queue",), goes_back="group", note="When a job of any queue dies of it again, a finding says so.",
    ),
    Action(
        "mute-group", "Mute", lambda f: f"Mute {_error(f)}", c.MarkGroup, _mark("muted"),
        lambda f: ("mark", f["fingerprint"], "muted"), doing.before_mark, doing.once("It is muted."),
        about=("queue", "fingerprint"), may_lack=("queue",), goes_back="group", note="No finding counts its dead letters any more, in any queue. They stay.",
    ),
    Action(
        "unmark-group", "Unmark", lambda f: f"Take back what was said of {_error(f)}", c.MarkGroup, _mark("none"),
        lambda f: ("mark", f["fingerprint"], "none"), doing.before_mark, doing.once("Nothing is said of it any more."),
        about=("queue", "fingerprint"), may_lack=("queue",), goes_back="group",
    ),
    Action(
        "purge-group", "Delete", lambda f: f"Delete dead letters of {f['queue']} with one error", c.ActOnJobs,
        _dead("purge"), lambda f: ("purge", f["queue"], "--group", f["fingerprint"], "--limit", f["number"]),
        doing.before_group, doing.dead_ones("deleted"),
        about=("queue", "fingerprint"), goes_back="group", is_grave=True,
        fields=(Field("number", "How many", "the newest ones", "number", "10000", is_needed=True),),
    ),
    Action(
        "retry", "Retry", lambda f: f"Retry the dead letter {f['id']}", c.RetryDlq,
        lambda f, now: {"queue": f["queue"], "jobId": f["id"]}, lambda f: ("retry", f["queue"], "--id", f["id"]),
        doing.of_job, doing.once("{id} waits again."), about=("queue", "id"), goes_back="job",
    ),
    Action(
        "retry-changed", "Retry with changes", lambda f: f"Retry the dead letter {f['id']} with another payload", c.RetryDlq,
        editing.retry, lambda f: ("retry", f["queue"], "--id", f["id"], "--data", Given(editing.text(f))),
        doing.of_job, doing.once("{id} waits again, with another payload."), about=("queue", "id"), goes_back="job",
        fields=(_PAYLOAD,), fill=editing.fill,
    ),
    Action(
        "payload", "Change its payload", lambda f: f"Change the payload of the job {f['id']}", c.Update,
        editing.change, lambda f: ("change", f["id"], "--data", Given(editing.text(f))),
        doing.of_job, doing.once("{id} has another payload."), about=("queue", "id"), goes_back="job",
        fields=(_PAYLOAD,), fill=editing.fill, note="It keeps its place in line.",
    ),
    Action(
        "copy", "Push a copy", lambda f: f"Push a copy of the job {f['id']}", c.Push, editing.copy, editing.copy_words,
        doing.of_job, editing.push_copy, about=("queue", "id"), goes_back="job", fields=(_PAYLOAD, Field("as", "", kind="hidden")),
        fill=editing.fill_copy, note="It has an id of its own, and the same options, but for keys, what it waits for, and repeats. The job itself stays as it is.",
    ),
    Action(
        "purge", "Delete", lambda f: f"Delete the dead letter {f['id']}", c.PurgeDlq,
        lambda f, now: {"queue": f["queue"], "jobId": f["id"]}, lambda f: ("purge", f["queue"], "--id", f["id"]),
        doing.of_job, doing.once("{id} is deleted."), about=("queue", "id"), is_grave=True,
    ),
    Action(
        "cancel", "Cancel", lambda f: f"Cancel the job {f['id']}", c.Cancel, lambda f, now: _job(f, now) | filters.kept(f),
        lambda f: ("cancel", f["id"], *filters.kept_words(f)), doing.of_job, doing.once("{id} is cancelled."), about=("queue", "id"),
        goes_back="job", fields=filters.WHY_CANCELLED,
        note="Its record is kept among the dead letters, from where it can be retried. An active one is taken from its worker, which hears of it.",
    ),
    Action(
        "promote", "Run now", lambda f: f"Make the job {f['id']} ready now", c.Promote, _job,
        lambda f: ("promote", f["id"]), doing.of_job, doing.once("{id} is ready."), about=("queue", "id"), goes_back="job",
    ),
    Action(
        "discard", "Discard", lambda f: f"Make a dead letter of the job {f['id']}", c.Discard, _job,
        lambda f: ("discard", f["id"]), doing.of_job, doing.once("{id} is a dead letter."), about=("queue", "id"),
        goes_back="job",
    ),
    Action(
        "priority", "Change its priority", lambda f: f"Change the priority of the job {f['id']}", c.ChangePriority,
        lambda f, now: {"id": f["id"], "priority": _whole(f, "priority")},
        lambda f: ("change", f["id"], "--priority", f["priority"]), doing.of_job,
        doing.once("{id} has priority {priority}."), about=("queue", "id"), goes_back="job",
        fields=(Field("priority", "Priority", "higher is sooner", "number", "0", is_needed=True),),
    ),
    Action(
        "delay", "Change its delay", lambda f: f"Let the job {f['id']} wait", c.ChangeDelay,
        lambda f, now: {"id": f["id"], "delay": duration(f["delay"])},
        lambda f: ("change", f["id"], "--delay", f["delay"]), doing.of_job,
        doing.once("{id} is ready in {delay}."), about=("queue", "id"), goes_back="job",
        fields=(Field("delay", "Ready in", "such as 10m", default="10m", is_needed=True),),
    ),
    Action(
        "run-schedule", "Run now", lambda f: f"Bring a job of {f['name']} now", c.RunSchedule, _name,
        lambda f: ("schedules", "run", f["name"]), doing.of_schedule("{job}"), doing.run_schedule, about=("name",),
        goes_back="schedule", note="It comes beside the slots, also of a schedule that is paused.",
    ),
    Action(
        "pause-schedule", "Pause", lambda f: f"Pause the schedule {f['name']}", c.PauseSchedule, _name,
        lambda f: ("schedules", "pause", f["name"]), doing.of_schedule("{next}"), doing.once("{name} is paused."), about=("name",),
        goes_back="schedule", note="It brings no jobs until it is resumed; its slots until then are left out.",
    ),
    Action(
        "resume-schedule", "Resume", lambda f: f"Resume the schedule {f['name']}", c.ResumeSchedule, _name,
        lambda f: ("schedules", "resume", f["name"]), doing.of_schedule("{job}"), doing.once("{name} goes on."), about=("name",),
        goes_back="schedule", note="It goes on with its next slot; what was to run in the pause is left out.",
    ),
    Action(
        "delete-schedule", "Delete", lambda f: f"Delete the schedule {f['name']}", c.DeleteSchedule, _name,
        lambda f: ("schedules", "delete", f["name"]), doing.of_schedule("{next} {runs}"), doing.once("{name} is deleted."),
        about=("name",), goes_back="/ui/schedules", is_grave=True, note="The jobs that it has brought stay.",
    ),
    Action(
        "restore-schedule", "Put back", lambda f: f"Put the schedule {f['name']} back as it was", c.PutSchedule, restoring.fields,
        restoring.words, restoring.preview, doing.once("{name} is as it was."), about=("name", "as"), goes_back="schedule",
        note="Nothing runs because of this. One that an app declares is its own again; in a shell `schedules sync` does that.",
    ),
    Action(
        "quiet", "Give no more jobs", lambda f: f"Give no more jobs to {f['id']}", c.QuietWorker, _job,
        lambda f: ("workers", "quiet", f["id"]), doing.of_worker("It has {}, which it keeps."), doing.once("{id} is quiet."),
        about=("id",), goes_back="worker", note="Until somebody lets it have jobs again, or it has left.",
    ),
    Action(
        "unquiet", "Give jobs again", lambda f: f"Give jobs to {f['id']} again", c.UnquietWorker, _job,
        lambda f: ("workers", "unquiet", f["id"]), doing.of_worker("It has {}."), doing.once("{id} gets jobs."),
        about=("id",), goes_back="worker",
    ),
    Action(
        "release", "Take its jobs back", lambda f: f"Take the jobs of {f['id']} back", c.ReleaseWorker, _job,
        lambda f: ("workers", "release", f["id"]), doing.of_worker("{} would go back to where they stood in line.", is_nothing=True),
        doing.release, about=("id",), goes_back="worker", is_grave=True,
        note="No attempt is charged. What the worker reports of them later is refused; it may get new ones, unless it is quiet.",
    ),
    Action(
        "forget", "Forget", lambda f: f"Forget the worker {f['id']}", c.UnregisterWorker, _job,
        lambda f: ("workers", "forget", f["id"]), doing.of_worker("It has {}."), doing.once("{id} is forgotten."),
        about=("id",), goes_back="/ui/workers", note="It is known again when it is next heard of.",
    ),
)  # fmt: skip

_OF_GROUPS = (row for group in GROUPS for row in _settings(group))
ACTIONS: Mapping[str, Action] = {row.name: row for row in (*_ROWS, *filters.ROWS, *upkeep.ROWS, *_OF_GROUPS)}
"""By their names in addresses."""
