"""What an act takes away for good, as a file to be had first, and the act that leaves a record of each instead."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import urlencode

from bunqueue_trio.ui import filters
from bunqueue_trio.ui.action import Form


class Kept(NamedTuple):
    """Jobs that can be saved, and how."""

    what: str
    href: str
    cli: str


def _of(*states: str) -> Callable[[Form], list[dict[str, str]]]:
    return lambda form: [{"queue": form["queue"], "state": state} for state in states]


def _drained(form: Form) -> list[dict[str, str]]:
    return _of("waiting", *(["delayed"] if form.get("delayed") == "yes" else []))(form)


_GONE: Mapping[str, Callable[[Form], list[dict[str, str]]]] = {
    "drain": _drained,
    # All of that state: of those, the age is that of their end or of their push.
    "clean": lambda form: _of(form["state"])(form),
    "purge-all": _of("failed"),
    "purge-group": lambda form: [*({**each, "fingerprint": form["fingerprint"]} for each in _of("failed")(form))],
    "purge-found": lambda form: [filters.said(form)],
    # Where fewer dead letters would be kept.
    "set-dead": _of("failed"),
}
"""Acts after which jobs are gone, and the filters that have these jobs."""


def kept(action: str, form: Form) -> Sequence[Kept]:
    """Return what can be saved before an act; nothing where nothing goes."""
    wanted = _GONE[action](form) if action in _GONE else []
    return [
        Kept(each.get("state", "found"), f"/ui/export/jobs?{urlencode(each)}", filters.listing(each)) for each in wanted
    ]


def instead(action: str, form: Form) -> str:
    """Return the page of an act that does the like and can be taken back; empty where there is none."""
    if action == "drain" or (action == "clean" and form["state"] in ("waiting", "delayed")):
        state = form["state"] if action == "clean" else "waiting"
        return f"/ui/act/discard-found?{urlencode({'queue': form['queue'], 'state': state})}"
    return ""
