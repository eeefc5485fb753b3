"""Which pages there are, by their names in ``ROUTES`` and by the commands that ask for one."""

from collections.abc import Awaitable, Callable

from bunqueue_trio.pages import figures
from bunqueue_trio.pages.docs import docs, docs_bundle, docs_start, docs_style
from bunqueue_trio.pages.findings import findings
from bunqueue_trio.pages.openapi import openapi
from bunqueue_trio.pages.storage import storage
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.runtime.statistics import Page, Reporter


async def _prometheus(server: Reporter) -> Page:
    # Its library takes a tenth of a start, and not all ask.
    from bunqueue_trio.pages.prometheus import prometheus

    return await server.scrape.get(lambda: prometheus(server))


DOCS: dict[str, Callable[[Reporter], Page]] = {
    "docs": docs,
    "docs-style": docs_style,
    "docs-bundle": docs_bundle,
    "docs-start": docs_start,
}
"""Name in ``ROUTES`` → what makes it: the page that shows the description of the API, and its files."""

INSTANT: dict[str, Callable[[Reporter], Page]] = {
    "live": figures.live,
    "ready": figures.ready,
    "ping": figures.ping,
    "health": figures.health,
    "stats": figures.stats,
    "storagestatus": storage,
    "metrics": figures.metrics,
    "tasks": figures.tasks,
    "audit": figures.audit,
    "openapi": openapi,
    **DOCS,
}
"""Name of a page, in ``ROUTES`` or of its command → what makes it in one step."""

LENGTHY: dict[str, Callable[[Reporter], Awaitable[Page]]] = {
    "prometheus": _prometheus,
    "gc": figures.gc,
    "heapstats": figures.heapstats,
    "findings": findings,
}
"""Name in ``ROUTES`` → what makes the page and lets others run meanwhile."""


ANSWERS: dict[type[c.Command], Callable[[Reporter], Page]] = {
    c.Ping: figures.ping,
    c.Stats: figures.stats,
    c.StorageStatus: storage,
}
"""Command → page that answers it, whatever carried the command."""


async def make_page(name: str, server: Reporter) -> Page:
    """Return the page ``name`` of ``server``."""
    instant = INSTANT.get(name)
    return await LENGTHY[name](server) if instant is None else instant(server)
