"""When pages are out of date though nothing was committed: a finding is another one, a minute has ended, what they show gets older."""

import math
from collections.abc import Sequence

from bunqueue_trio.api.page_news import Pulse
from bunqueue_trio.config import HOUR_MS, MINUTE_MS
from bunqueue_trio.pages.findings import Finding, Picture
from bunqueue_trio.runtime.server import Server

# For all who listen.
PULSE_MS = 10_000
BUSY_S, WAITING_S = 15.0, 60.0
"""How often pages look where jobs are active, acts go on or workers are known; and where jobs only wait, whose times are shown by the minute."""
OF_THE_MACHINE = frozenset({"storage", "server", "cluster"})
"""Screens of what changes without any job: connections, tasks, the disk, other servers."""


def pulse(server: Server, picture: Picture, found: Sequence[Finding]) -> Pulse:
    """Return it, of a picture of the server and what is wrong."""
    told = picture.told
    is_busy = told.jobs["active"] or server.workers_known or server.errands.go_on
    every = BUSY_S if is_busy else WAITING_S if told.unfinished else math.inf
    mark = hash((
        *((each.code, each.title, each.until is None) for each in found), _last_minute(picture), told.is_sure, told.is_ready,
        told.pulls_waiting, told.connections.ws, told.connections.sse,
    ))  # fmt: skip
    return Pulse(mark, every)


def _last_minute(picture: Picture) -> int:
    """Return when the last minute ended that the charts of the last hour have, if anything is on them."""
    told, minutes = picture.told, picture.past.minutes
    if not minutes:
        return 0
    before = picture.past.since(told.now - HOUR_MS - MINUTE_MS) if told.started_at < told.now - HOUR_MS else None
    then = (0, 0, 0) if before is None else (before.pushed, before.completed, before.failed)
    totals = told.totals
    return minutes[-1].at if (totals.pushed, totals.completed, totals.failed) != then else 0
