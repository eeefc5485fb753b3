"""What operators did, as people read it: in the words of the commands, with dates and units."""

from collections.abc import Callable, Mapping
from typing import Any

from msgspec import NODEFAULT, UNSET, structs

from bunqueue_trio.pages.queue_settings import NAMED, written
from bunqueue_trio.pages.words import whole
from bunqueue_trio.protocol.catalog import CATALOG
from bunqueue_trio.protocol.lines import Action

At = Callable[[int], str]
"""Returns a moment as people read it."""

WORDS: Mapping[str, str] = {spec.tag: spec.acts for spec in CATALOG if spec.acts is not None} | {"Push": "push"}
"""The command → what the command line calls it. ``ActOnJobs`` is called as its action; a push is an act by hand only."""
_UNSAID = frozenset({"there", "paused", "queue", "data", "source"})
KINDS = tuple(sorted({*WORDS.values()} - {WORDS["ActOnJobs"]}))
"""What an act may be called."""

_STEPS = frozenset({"after", "action", "asOf", "dryRun", "queue"})
"""Fields that say how a program has gone about it, or that stand elsewhere."""


def _with(field: str, default: type) -> frozenset[str]:
    """Return the acts that have this field, with a default of this type."""
    shapes = {spec.tag: structs.fields(spec.command) for spec in CATALOG if spec.acts is not None}
    return frozenset(
        t for t, shape in shapes.items() if any(f.name == field and isinstance(f.default, default) for f in shape)
    )


_IN_STEPS = _with("limit", int)
"""Acts whose ``limit`` is how large a step is: a number even where nobody says one."""
_OF_SCHEDULES = _with("name", object)
"""Acts that name a schedule."""
_MOMENTS = frozenset({"anchor", "at", "end", "start", "until"})
_SPANS = frozenset({
    "delay", "duration", "every", "grace", "jitter", "maxDelay", "newer", "older", "repeatEvery", "timeout", "ttl", "window",
})  # fmt: skip
_UNITS = {"rate": " a second", "stopAt": " %"}
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    spec.tag: {f.encode_name: f.default for f in structs.fields(spec.command) if f.default is not NODEFAULT}
    for spec in CATALOG if spec.acts is not None
}  # fmt: skip
"""Act → what each of its fields is that nobody said."""
_MEANT = {"RerunDlq": ("count", "rate", "stopAt")}
"""Act → what of that is worth a word."""
_TIMINGS = frozenset({"cron", "every", "at"})
"""Of these one takes the place of the others."""
_CRON = {"schedule": "cron", "repeatEvery": "every", "maxLimit": "limit"}
"""Fields of ``Cron``, which are those of any schedule."""
_RATES = frozenset({"RateLimit", "RateLimitClear"})
CALLED: Mapping[str, str] = {
    "fingerprint": "group", "groupId": "group-id", "idPrefix": "id-prefix", "stopAt": "stop-at", "concurrency": "at once",
}  # fmt: skip
"""Fields that the command line calls otherwise."""


def what(act: Action) -> str:
    """Return what the command line calls it."""
    if act.command == "ActOnJobs":
        action = str(act.fields.get("action", WORDS[act.command]))
        return {"priority": "change --priority", "move": "change --move-to"}.get(action, action)
    return WORDS.get(act.command, act.command)


def schedule_of(act: Action) -> str:
    """Return the schedule that the act changed; empty if it changed none."""
    return str(act.fields.get("name", "")) if act.command in _OF_SCHEDULES else ""


def worker_of(act: Action) -> str:
    """Return the worker that the act was about, by name where one is kept; empty if there was none."""
    return str(act.fields.get("name") or act.worker) if act.worker else ""


def queue_of(act: Action) -> str:
    """Return the one queue that the act was about; empty if there was none, or several."""
    queue = act.queue or _flat(act.fields).get("queue")
    if isinstance(queue, list) and len(queue) == 1:
        (queue,) = queue
    return queue if isinstance(queue, str) else ""


def of(act: Action) -> str:
    """Return what it was done to; empty if that was many jobs of any queue."""
    several = _flat(act.fields).get("queue")
    queues = ", ".join(map(str, several)) if isinstance(several, list) else ""
    return schedule_of(act) or act.job or worker_of(act) or queue_of(act) or queues


def how(act: Action, at: At) -> str:
    """Return the rest of the act: what was given, and what was there before."""
    was, fields = _completed(act, _flat(act.fields))
    said = []
    for name, value in fields.items():
        if name not in _left_out(act) and (
            value not in (None, {}, []) or (value is None and was.get(name) is not None)
        ):
            former = f" (was {_told(name, was[name], at)})" if name in was and was[name] != value else ""
            said.append(f"{_called(act, name)} {_told(name, value, at)}{former}")
    # What was taken back shows in what it was.
    said += [
        f"{_called(act, name)} was {_told(name, value, at)}"
        for name, value in was.items()
        if name not in fields and name not in _UNSAID and value is not None
    ]
    if act.worker and act.worker != worker_of(act):
        said.append(f"id {act.worker}")
    if act.queue and act.queue != of(act):
        said.append(f"queue {act.queue}")
    return "; ".join(said)


def _completed(act: Action, fields: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what was before an act, and its fields with what it did not say and means: both as people compare them."""
    was, shape = dict(before(act)), _DEFAULTS.get(act.command, {})
    # That it is another one now is among the fields.
    was.pop("data", None)
    if act.command == "Cron":
        fields = {_CRON.get(name, name): value for name, value in fields.items()}
        was = {name: value for name, value in was.items() if name in fields or name in _TIMINGS}
    fields |= {name: shape[name] for name in _MEANT.get(act.command, ()) if name not in fields}
    if "cron" in fields and "timezone" in shape:
        fields.setdefault("timezone", shape["timezone"])
    for name in [name for name in was if name in shape and name not in fields and name not in _UNSAID]:
        if shape[name] is not UNSET:
            fields[name] = shape[name]
        elif not (name in _TIMINGS and _TIMINGS & fields.keys()):
            # It stays as it is.
            del was[name]
    if act.command in _RATES:
        was, fields = _with_rate(was, shape), _with_rate(fields, shape)
    return was, fields


def _with_rate(values: dict[str, Any], shape: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields with the limit and its time as one."""
    rest = {name: value for name, value in values.items() if name not in ("limit", "duration")}
    if "limit" not in values:
        return rest
    limit, duration = values["limit"], values["duration"] if "duration" in values else shape["duration"]
    return {"rate": None if limit is None else f"{limit:,} in {whole(duration)}"} | rest


def before(act: Action) -> Mapping[str, Any]:
    """Return what was before it, as far as that is kept."""
    return {} if act.before is UNSET else act.before


def _left_out(act: Action) -> frozenset[str]:
    more = (
        {"limit"}
        if act.command in _IN_STEPS
        else {"name"}
        if act.command in _OF_SCHEDULES or act.worker
        else set[str]()
    )
    return _STEPS | more


def _called(act: Action, name: str) -> str:
    """Return what the command line calls a field of an act."""
    return "older" if (act.command, name) == ("Clean", "grace") else CALLED.get(name, name)


def _flat(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields with those of the filter, or of a configuration, in its place."""
    found: dict[str, Any] = {}
    for name, value in fields.items():
        found |= value if name in ("filter", "config") and isinstance(value, dict) else {name: value}
    return found


def which(wanted: Mapping[str, Any], at: At) -> str:
    """Return what a filter describes."""
    return ", ".join(f"{CALLED.get(name, name)} {_told(name, value, at)}" for name, value in wanted.items())


def _told(name: str, value: Any, at: At) -> str:
    if value is None:
        return "none"
    if name in NAMED and not isinstance(value, str):
        return written(NAMED[name], value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name in _UNITS and type(value) in (int, float):
        return f"{value:,}{_UNITS[name]}"
    if type(value) is int and name in _MOMENTS:
        return at(value)
    if type(value) is int and name in _SPANS:
        return whole(value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {_told(key, each, at)}" for key, each in value.items() if each is not None)
    if isinstance(value, list):
        return ", ".join(_told(name, each, at) for each in value)
    return f"{value:,}" if type(value) is int else str(value)


def is_kind(kind: str) -> bool:
    """Return whether an act may be called so, by the command line or the API."""
    return kind in KINDS or kind in WORDS


def is_wanted(act: Action, who: str, kind: str, about: str) -> bool:
    """Return whether an act matches: who did it, what it is (as the command line or the API calls it), and what it was about; empty: any."""
    if kind and kind not in (what(act), act.command):
        return False
    if who and who not in (act.who, act.address):
        return False
    return not about or about in (act.queue, act.job, act.worker, *map(str, _flat(act.fields).values()))
