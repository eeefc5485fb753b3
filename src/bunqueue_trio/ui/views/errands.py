"""An act on many jobs while it goes on: how far it is; it can be left, found again, and stopped."""

from bunqueue_trio.protocol import commands as c
from bunqueue_trio.runtime.errands import Errand
from bunqueue_trio.ui.ask import Ask, Leads, Screen, Wrong
from bunqueue_trio.ui.doing import why_not
from bunqueue_trio.ui.errands import says


async def show(ask: Ask) -> Screen:  # noqa: ASYNC124 - a page is awaited
    """Return the page of one."""
    errand = _of(ask)
    return Screen(
        "errand.html", errand.title, "actions",
        {"errand": errand, "says": says(errand, why_not(errand.refused))}, live_s=1 if errand.ended_at is None else 0,
    )  # fmt: skip


def stop(ask: Ask) -> Leads:
    """Stop one, and return the page that shows it."""
    errand = _of(ask)
    if ask.cannot or not ask.may(c.ActOnJobs):
        raise Wrong(ask.cannot or "Your token may work, and not do this.", 403)
    errand.is_stopped = True
    return Leads(f"/ui/acts/{errand.number}")


def _of(ask: Ask) -> Errand:
    errand = ask.server.errands.find(ask.values["number"])
    if errand is None:
        raise Wrong("Nothing is known of this any more; the page Actions has what was done", 404)
    return errand
