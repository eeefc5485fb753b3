"""A schedule as it was before an act: whether it can be put again by a button and in a shell, and how."""

import json
from collections.abc import Collection, Mapping
from typing import Any

import msgspec
from msgspec import Raw

from bunqueue_trio.errors import Refused
from bunqueue_trio.pages.words import Given, typed_ms
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.ui.action import Form, Preview
from bunqueue_trio.ui.ask import Ask, Wrong
from bunqueue_trio.ui.commands import json_object, make
from bunqueue_trio.ui.payload import show
from bunqueue_trio.ui.render import clock_time

# It stands in an address.
CHARS_MAX = 2000
_FLAGS = {
    "cron": "--cron", "timezone": "--timezone", "every": "--every", "at": "--at", "start": "--start", "end": "--end", "limit": "--limit",
    "jitter": "--jitter", "misfire": "--misfire", "misfireMax": "--misfire-max", "window": "--window", "overlap": "--overlap",
}  # fmt: skip
_OPTIONS = {
    "name": "--job-name", "priority": "--priority", "maxAttempts": "--max-attempts", "backoff": "--backoff", "ttl": "--ttl",
    "timeout": "--timeout", "tags": "--tag",
}  # fmt: skip
_SPANS = frozenset({"every", "jitter", "window", "backoff", "ttl", "timeout"})


def can_be_said(put: Mapping[str, Any], mask: Collection[str]) -> bool:
    """Return whether the flags of `schedules put` can express all of a schedule, with nothing to hide; its source is left to the server."""
    options, data = put.get("options", {}), put["data"].encode()
    return (
        put.keys() <= {*_FLAGS, "queue", "data", "options", "source"}
        and options.keys() <= _OPTIONS.keys()
        and not isinstance(options.get("backoff"), Mapping)
        and len(json.dumps(put)) <= CHARS_MAX
        and show(data, mask, None).text == show(data, (), None).text
    )


def fields(form: Form, now: int) -> dict[str, Any]:
    """Return the fields of the command that puts it.

    Raises:
        Wrong: the address is none that a page has made.
    """
    put = _put(form)
    return put | {"name": form["name"], "data": Raw(put["data"].encode())}


def words(form: Form) -> tuple[object, ...]:
    """Return the words of the command line that do so."""
    put = _put(form)
    said: list[object] = ["schedules", "put", Given(form["name"]), Given(put["queue"]), Given(put["data"])]
    for name, flag in _FLAGS.items():
        if put.get(name) is not None:
            said += [flag, _text(name, put[name])]
    for name, flag in _OPTIONS.items():
        value = put.get("options", {}).get(name)
        for each in value if isinstance(value, list) else [] if value is None else [value]:
            said += [flag, _text(name, each)]
    return tuple(said)


def _text(name: str, value: Any) -> str:
    return typed_ms(value) if name in _SPANS else str(value)


def _put(form: Form) -> dict[str, Any]:
    put = json_object(form["as"])
    if put is None or not (isinstance(put.get("data"), str) and isinstance(put.get("queue"), str)):
        raise Wrong("It is not said how the schedule was")
    if not (isinstance(put.get("options", {}), dict) and can_be_said(put, ())):
        raise Wrong("It is not said how the schedule was")
    data = put["data"].encode()
    try:
        # Else it could say more than a payload.
        msgspec.json.decode(data, type=Raw)
        make(c.PutSchedule, put | {"name": str(form["name"]), "data": Raw(data)})
    except (Refused, msgspec.DecodeError, RecursionError) as error:
        raise Wrong(f"How the schedule was: {error}") from None
    return put


async def preview(ask: Ask, form: Form) -> Preview:
    """Say what the schedule would be then."""
    told: Any = await ask.server.core.execute(make(c.PutSchedule, fields(form, ask.now) | {"dryRun": True}), by=ask.by)
    if told.outcome == "unchanged":
        return Preview("It is so already.", is_nothing=True)
    following = told.schedule.next_run
    then = "no slot is to come" if following is None else f"its next run would be at {clock_time(following)}"
    return Preview(
        f"It would be {told.outcome}: {then}. Its payload: {show(bytes(told.schedule.data), ask.mask, 200).text}"
    )
