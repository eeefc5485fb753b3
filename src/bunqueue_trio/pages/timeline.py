"""What happened to a job, as people read it."""

from collections.abc import Mapping

from msgspec import UNSET

from bunqueue_trio.pages import acts
from bunqueue_trio.pages.acts import At
from bunqueue_trio.protocol.lines import Action, Moment

_WORDS: Mapping[str, str] = {
    "pulled": "a worker has it", "retried": "waits again", "delayed": "waits", "waiting-children": "waits for other jobs", "removed": "gone",
    "promoted": "ready before its time", "updated": "changed", "duplicated": "pushed once more, which changed nothing",
    "cancelling": "cancelled, its worker gets the word", "died": "dead",
}  # fmt: skip
"""What people say of what they would not guess; the others are said as they are."""

_USUAL = "explicit_fail"
"""Its worker has said that an attempt failed, and there is another one: it need not be said."""


def why_failed(reason: str) -> str:
    """Return the ``reason`` of a failed attempt as people read it: nothing where it is the usual one."""
    return "" if reason == _USUAL else reason


def line_of(entry: Moment, at: At) -> str:
    """Return what happened, as people read it; ``at`` says a moment in the words of the place where it stands."""
    if entry.what == "act":
        act = Action(
            at=entry.at, who=entry.by or "", address="", command=entry.command or "", fields=entry.fields or {}, count=1
        )  # fmt: skip
        how = acts.how(act, at)
        return f"{act.who}: {acts.what(act)}{f' ({how})' if how else ''}"
    said = _WORDS.get(entry.what, entry.what)
    if entry.what == "failed" and entry.attempt:
        said = f"attempt {entry.attempt} failed"
    if entry.progress is not UNSET:
        said += f" {entry.progress}"
    if entry.by:
        said += f" by {entry.by}" if entry.what != "pulled" else f": {entry.by}"
    if entry.until:
        said += f"{', and has' if entry.what == 'cancelling' else ''} until {at(entry.until)}"
    if why := why_failed(entry.reason or ""):
        said += f" ({why})"
    told = entry.error or entry.message
    return f"{said}: {told}" if told else said
