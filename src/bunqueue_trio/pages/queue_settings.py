"""How a queue treats its jobs, for people: what each setting is called, how its value is written and read, and who has said it."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from bunqueue_trio.config import parse_bool, parse_typed_ms, parse_whole
from bunqueue_trio.pages.words import typed_ms, whole
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.commands import Command

USUAL, USUAL_BEFORE = "none", "default"
"""What is written to let a setting be as everywhere; and what was, which still counts."""


class Group(NamedTuple):
    """Settings that are said together."""

    label: str
    reply: str
    """The field of the answer that has them."""
    command: str
    """What says them."""
    looks: type[Command]
    clears: type[Command]


GROUPS: Mapping[str, Group] = {
    "defaults": Group("Jobs whose push does not say it", "defaults", "SetDefaults", c.GetDefaults, c.ClearDefaults),
    "stalls": Group("Jobs whose worker is silent", "config", "SetStallConfig", c.GetStallConfig, c.ClearStallConfig),
    "dead": Group("Dead letters", "config", "SetDlqConfig", c.GetDlqConfig, c.ClearDlqConfig),
}


class QueueSetting(NamedTuple):
    """One of them; its name is that of the API."""

    name: str
    group: str
    label: str
    kind: str
    """time, number or switch."""


SETTINGS: tuple[QueueSetting, ...] = (
    QueueSetting("maxAttempts", "defaults", "Attempts", "number"),
    QueueSetting("backoff", "defaults", "Wait before the second attempt", "time"),
    QueueSetting("timeout", "defaults", "An attempt may take", "time"),
    QueueSetting("ttl", "defaults", "Dropped when not taken within", "time"),
    QueueSetting("removeOnComplete", "defaults", "Keep nothing of completed ones", "switch"),
    QueueSetting("removeOnFail", "defaults", "Keep nothing of dead ones", "switch"),
    QueueSetting("stallInterval", "stalls", "Stalled after", "time"),
    QueueSetting("gracePeriod", "stalls", "And this grace", "time"),
    QueueSetting("maxStalls", "stalls", "Dead after more stalls than", "number"),
    QueueSetting("enabled", "stalls", "Too many stalls make dead letters", "switch"),
    QueueSetting("autoRetry", "dead", "Retried by the server", "switch"),
    QueueSetting("autoRetryInterval", "dead", "Time from a death to its retry", "time"),
    QueueSetting("maxAutoRetries", "dead", "Retries of each at most", "number"),
    QueueSetting("maxAge", "dead", "Kept for at most", "time"),
    QueueSetting("maxEntries", "dead", "Kept at most", "number"),
)

LIMITS: tuple[tuple[QueueSetting, str], ...] = (
    (QueueSetting("concurrency", "limits", "Active at once", "number"), "SetConcurrency"),
    (QueueSetting("rateLimit", "limits", "Delivered in a time", "rate"), "RateLimit"),
)
"""What else is said of a queue, by commands of its own, and which."""

NAMED: Mapping[str, QueueSetting] = {each.name: each for each in SETTINGS}


def parse(each: QueueSetting, text: str) -> int | bool | None:
    """Return the value that a person means, None for that which holds everywhere.

    Raises:
        ValueError: it is none.
    """
    if text in (USUAL, USUAL_BEFORE):
        return None
    try:
        return {"time": parse_typed_ms, "number": parse_whole, "switch": parse_bool}[each.kind](text)
    except ValueError as error:
        raise ValueError(f"{each.name}={text[:50]}: {error}") from None


def typed(each: QueueSetting, value: Any) -> str | None:
    """Return how a value is written so that :func:`parse` takes it, None if it cannot be."""
    if value is None:
        return USUAL
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return None
    return typed_ms(value) if each.kind == "time" else str(value)


class Told(NamedTuple):
    """A setting as it is."""

    setting: QueueSetting
    value: str
    is_set: bool
    """It was said of this queue; else it is as everywhere."""
    who: str | None
    """Who has said it, where that is known, and when."""
    at: int | None


def tell(replies: Mapping[str, Mapping[str, Any]], queue: str, acts: Iterable[Mapping[str, Any]]) -> list[Told]:
    """Return all settings of a queue, of the answers by group; ``acts``: the newest that are known, newest first."""
    newest: dict[tuple[str, str], Mapping[str, Any]] = {}
    for act in acts:
        if act["queue"] == queue:
            for name in {**act["fields"], **(act["fields"].get("config") or {})}:
                newest.setdefault((act["command"], name), act)
    told = []
    for each in SETTINGS:
        group, reply = GROUPS[each.group], replies[each.group]
        is_set = each.name in reply["set"]
        by = newest.get((group.command, each.name)) if is_set else None
        value = written(each, reply[group.reply].get(each.name))
        told.append(Told(each, value, is_set, *((None, None) if by is None else (by["who"], by["at"]))))
    return told


def tell_limits(view: Mapping[str, Any], queue: str, acts: Iterable[Mapping[str, Any]]) -> list[Told]:
    """Return the limits of a queue in the same way; ``view`` is the queue as the API has it."""
    newest: dict[str, Mapping[str, Any]] = {}
    for act in acts:
        if act["queue"] == queue:
            newest.setdefault(act["command"], act)
    told = []
    for each, command in LIMITS:
        value = view[each.name]
        by = None if value is None else newest.get(command)
        told.append(
            Told(each, _limit(value), value is not None, *((None, None) if by is None else (by["who"], by["at"])))
        )
    return told


def _limit(value: Any) -> str:
    if value is None:
        return "no limit"
    return f"{value['limit']:,} in {whole(value['duration'])}" if isinstance(value, Mapping) else f"{value:,}"


def written(each: QueueSetting, value: Any) -> str:
    """Return a value as people read it."""
    if value is None:
        return (
            "as long as the server does"
            if each.name == "maxAge"
            else "as many as the server"
            if each.name == "maxEntries"
            else "no limit"
        )
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join([str(value["type"]), whole(value["delay"]), *_more(value)])
    return whole(value) if each.kind == "time" else f"{value:,}"


def _more(backoff: Mapping[str, Any]) -> Iterable[str]:
    if backoff.get("maxDelay") is not None:
        yield f"at most {whole(backoff['maxDelay'])}"
    if backoff.get("jitter"):
        yield f"up to {100 * backoff['jitter']:g} % shorter"
