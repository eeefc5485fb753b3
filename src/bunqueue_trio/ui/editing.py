"""Another payload for one job: where all of it fits into a form, and nothing of it is hidden."""

from collections.abc import Collection
from typing import Any

import msgspec
from msgspec import Raw

from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.ui.action import Form
from bunqueue_trio.ui.ask import Ask, Wrong
from bunqueue_trio.ui.payload import show

# Of a payload that is offered; it also stands in the two lines for a shell.
EDITED_CHARS = 2000


def editable(data: Raw, mask: Collection[str]) -> str:
    """Return a payload as a form has it; empty where it is too long, or a part of it is hidden."""
    shown = show(data, mask, EDITED_CHARS)
    is_whole = not (shown.is_cut or shown.is_too_large) and shown.text == show(data, (), EDITED_CHARS).text
    return shown.text if is_whole else ""


def fill(ask: Ask, form: Form) -> dict[str, str]:
    """Return the payload as it is, for who has not said another one.

    Raises:
        Wrong: there is no such job.
    """
    try:
        job = ask.look(c.GetJob(id=form["id"])).job
    except Refused as refused:
        raise Wrong(f"{form['id'][:256]}: {refused}", refused.status) from None
    return {"data": editable(job.data, ask.mask)}


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
