"""Which path leads to which screen, and what stands in the navigation. A new screen is a row in each."""

from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from bunqueue_trio.protocol.routes import Route
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.ui.ask import Ask, Leads, Saves, Screen
from bunqueue_trio.ui.views import cluster, dead, events, house, jobs, log, now, queues, schedules, workers

View = Callable[[Ask], Awaitable[Screen | Leads]]

VIEWS: Mapping[str, View] = {
    "/ui": now.show,
    "/ui/queues": queues.index,
    "/ui/queues/:queue": queues.one,
    "/ui/queues/:queue/jobs": jobs.listed,
    "/ui/jobs": jobs.index,
    "/ui/jobs/:id": jobs.one,
    "/ui/jobs/:id/data": jobs.data,
    "/ui/errors": dead.index,
    "/ui/errors/:queue": dead.one,
    "/ui/workers": workers.index,
    "/ui/workers/:id": workers.one,
    "/ui/events": events.show,
    "/ui/storage": house.storage,
    "/ui/schedules": schedules.index,
    "/ui/schedules/:name": schedules.one,
    "/ui/actions": log.show,
    "/ui/server": house.server,
    "/ui/cluster": cluster.show,
}
"""Path → what makes its page."""

FILES: Mapping[str, Callable[[Ask], Awaitable[Saves]]] = {
    "/ui/export/events": events.export,
    "/ui/export/jobs": jobs.export,
}
"""Path → what makes a file to be saved."""

ROUTES = (
    *(Route("GET", path, path) for path in (*VIEWS, *FILES)),
    Route("GET", "/ui/login", "login"),
    Route("POST", "/ui/login", "login"),
    Route("POST", "/ui/logout", "logout"),
    Route("GET", "/ui/act/:action", "act"),
    Route("POST", "/ui/act/:action", "act"),
    Route("GET", "/ui/acts/:number", "errand"),
    Route("POST", "/ui/acts/:number", "stop"),
    Route("GET", "/ui/news", "news"),
    Route("GET", "/ui/static/:file", "static"),
)


class Entry(NamedTuple):
    """An entry of the navigation; its place is its key on the keyboard, too, of the first ten."""

    name: str
    label: str
    href: str
    icon: str
    """A path of SVG, 20 units wide."""


NAVIGATION = (
    Entry("now", "Now", "/ui", "M10 2v4M10 14v4M2 10h4M14 10h4M10 7.5a2.5 2.5 0 1 0 0 5 2.5 2.5 0 0 0 0-5"),
    Entry("queues", "Queues", "/ui/queues", "M3 5h14M3 10h14M3 15h9"),
    Entry("jobs", "Jobs", "/ui/jobs", "M4 4h12v12H4zM7.5 10l2 2 3.5-4"),
    Entry("errors", "Errors", "/ui/errors", "M10 3l8 14H2zM10 8.5v3.5M10 14.3v.2"),
    Entry("workers", "Workers", "/ui/workers", "M10 3a3 3 0 1 0 0 6 3 3 0 0 0 0-6M4 17c0-3.2 2.6-5.5 6-5.5s6 2.3 6 5.5"),
    Entry("events", "Events", "/ui/events", "M10 3a7 7 0 1 0 0 14 7 7 0 0 0 0-14M10 6v4l3 2"),
    Entry("storage", "Storage", "/ui/storage", "M3 5c0-1.2 3-2 7-2s7 .8 7 2-3 2-7 2-7-.8-7-2v10c0 1.2 3 2 7 2s7-.8 7-2V5M3 10c0 1.2 3 2 7 2s7-.8 7-2"),
    Entry("schedules", "Schedules", "/ui/schedules", "M3 5h14v12H3zM3 9h14M7 3v4M13 3v4M10 11v3h2.5"),
    Entry("actions", "Actions", "/ui/actions", "M4 3h9l3 3v11H4zM7 8h6M7 11h6M7 14h3"),
    Entry("server", "Server", "/ui/server", "M3 4h14v5H3zM3 11h14v5H3zM6 6.5h.1M6 13.5h.1"),
    Entry("cluster", "Cluster", "/ui/cluster", "M10 3.5a2 2 0 1 0 0 4 2 2 0 0 0 0-4M5 12.5a2 2 0 1 0 0 4 2 2 0 0 0 0-4M15 12.5a2 2 0 1 0 0 4 2 2 0 0 0 0-4M9 7.3l-3 5.4M11 7.3l3 5.4M7 14.5h6"),
)  # fmt: skip


def navigation(server: Server) -> tuple[Entry, ...]:
    """Return the entries that say something of this server: the cluster is there where there is one."""
    return NAVIGATION if cluster.has_cluster(server) else NAVIGATION[:-1]
