"""Another payload for one job, or for a copy of it: where all of it fits into a form, and nothing of it is hidden."""

import json
from collections.abc import Collection, Mapping
from typing import Any

import msgspec
from msgspec import Raw

from bunqueue_trio.errors import Refused
from bunqueue_trio.pages.words import Given, typed_ms
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.request import segment_of
from bunqueue_trio.ui.action import Action, Done, Form
from bunqueue_trio.ui.ask import Ask, Wrong
from bunqueue_trio.ui.commands import json_object, make
from bunqueue_trio.ui.payload import show

# Of a payload that is offered; it also stands in the two lines for a shell.
EDITED_CHARS = 2000


def editable(data: Raw, mask: Collection[str]) -> str:
    """Return a payload as a form has it; empty where it is too long, or a part of it is hidden."""
    shown = show(data, mask, EDITED_CHARS)
    is_whole = not (shown.is_cut or shown.is_too_large) and shown.text == show(data, (), EDITED_CHARS).text
    return shown.text if is_whole else ""


async def fill(ask: Ask, form: Form) -> dict[str, str]:
    """Return the payload as it is, for who has not said another one.

    Raises:
        Wrong: there is no such job.
    """
    try:
        job = (await ask.look(c.GetJob(id=form["id"]))).job
    except Refused as refused:
        raise Wrong(f"{form['id'][:256]}: {refused}", refused.status) from None
    return {"data": editable(job.data, ask.mask)}


async def fill_copy(ask: Ask, form: Form) -> dict[str, str]:
    """Return the payload, and the options of a job that a copy of it has, too: not its keys, what it waits for, or when it repeats.

    Raises:
        Wrong: there is no such job.
    """
    filled, job, state = (
        await fill(ask, form),
        (await ask.look(c.GetJob(id=form["id"]))).job,
        await ask.look(c.GetState(id=form["id"])),
    )
    backoff = msgspec.to_builtins(job.backoff)
    options = {
        "name": job.name or None, "priority": job.priority, "maxAttempts": job.max_attempts, "backoff": backoff, "ttl": state.ttl,
        "timeout": state.timeout, "tags": job.tags, "groupId": state.group_id, "lifo": job.lifo,
    }  # fmt: skip
    return filled | {"as": json.dumps({name: value for name, value in options.items() if value})}


def copy(form: Form, now: int) -> dict[str, Any]:
    """Return the fields of the push of a copy."""
    return _options(form) | {"queue": form["queue"], "data": payload(form)}


_COPIED = frozenset({"name", "priority", "maxAttempts", "backoff", "ttl", "timeout", "tags", "groupId", "lifo"})


def _options(form: Form) -> dict[str, Any]:
    options = json_object(form["as"] or "{}")
    if options is None or not options.keys() <= _COPIED:
        raise Wrong("It is not said what the copy is like")
    try:
        make(c.Push, options | {"queue": str(form["queue"]), "data": Raw(b"null")})
    except Refused as refused:
        raise Wrong(f"What the copy is like: {refused}", refused.status) from None
    return options


_FLAGS = {
    "name": "--name", "priority": "--priority", "maxAttempts": "--max-attempts", "ttl": "--ttl", "timeout": "--timeout",
    "groupId": "--group-id", "type": "--backoff-type", "delay": "--backoff", "maxDelay": "--backoff-max", "jitter": "--backoff-jitter",
}  # fmt: skip
_SPANS = frozenset({"ttl", "timeout", "delay", "maxDelay"})


def copy_words(form: Form) -> tuple[object, ...]:
    """Return the words of the command line that push it."""
    options = _options(form)
    backoff = options.get("backoff")
    shape = dict(backoff) if isinstance(backoff, Mapping) else {} if backoff is None else {"delay": backoff}
    said: list[object] = ["push", Given(form["queue"]), Given(text(form))]
    for name, value in (options | shape).items():
        if name in _FLAGS and value is not None:
            said += [_FLAGS[name], typed_ms(value) if name in _SPANS else Given(value)]
    for tag in options.get("tags", []):
        said += ["--tag", Given(tag)]
    return (*said, "--lifo") if options.get("lifo") else tuple(said)


async def push_copy(ask: Ask, action: Action, form: Form) -> Done:
    """Push it, and lead to it."""
    reply: Any = await ask.server.core.execute(
        make(action.command, action.fields_of(form, ask.now)), by=ask.by._replace(by_hand=True)
    )
    return Done(f"This copy of {form['id']} is there.", where=f"/ui/jobs/{segment_of(reply.id)}")


def payload(form: Form) -> Raw:
    """Return what somebody has written, on one line.

    Raises:
        Wrong: it is no JSON.
    """
    try:
        return Raw(msgspec.json.format(form["data"].encode("utf-8", "replace"), indent=-1))
    except (msgspec.DecodeError, RecursionError) as error:
        raise Wrong(f"This payload is no JSON: {error}") from None


def text(form: Form) -> str:
    """Return the same for a shell."""
    return bytes(payload(form)).decode()


def change(form: Form, now: int) -> dict[str, Any]:
    """Return the fields of the command that changes it."""
    return {"id": form["id"], "data": payload(form)}


def retry(form: Form, now: int) -> dict[str, Any]:
    """Return those of the one that lets a dead letter wait again with it."""
    return {"queue": form["queue"], "jobId": form["id"], "data": payload(form)}
