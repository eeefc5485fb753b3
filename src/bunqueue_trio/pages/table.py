"""Which pages there are, by their names in ``ROUTES`` and by the commands that ask for one."""

from collections.abc import Awaitable, Callable

from bunqueue_trio.pages import figures
from bunqueue_trio.pages.docs import docs, docs_bundle, docs_start, docs_style
from bunqueue_trio.pages.findings import findings
from bunqueue_trio.pages.openapi import openapi
from bunqueue_trio.pages.storage import storage
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.runtime.statistics import Page, Reporter

Target = str | type[c.Command]
"""What a row of ``ROUTES`` leads to."""


async def _prometheus(server: Reporter) -> Page:
    # Its library takes a tenth of a start, and not all ask.
    from bunqueue_trio.pages.prometheus import prometheus

    return await server.scrape.get(lambda: prometheus(server))


DOCS: dict[Target, Callable[[Reporter], Page]] = {
    "docs": docs,
    "docs-style": docs_style,
    "docs-bundle": docs_bundle,
    "docs-start": docs_start,
}
"""Name in ``ROUTES`` → what makes it: the page that shows the description of the API, and its files."""

ANSWERS: dict[Target, Callable[[Reporter], Page]] = {
    c.Ping: figures.ping,
    c.Stats: figures.stats,
    c.StorageStatus: storage,
}
"""Command → page that answers it, whatever carried the command."""

INSTANT: dict[Target, Callable[[Reporter], Page]] = {
    "live": figures.live,
    "ready": figures.ready,
    "health": figures.health,
    "metrics": figures.metrics,
    "tasks": figures.tasks,
    "audit": figures.audit,
    **DOCS,
    **ANSWERS,
}
"""Target in ``ROUTES`` → what makes the page in one step."""

LENGTHY: dict[Target, Callable[[Reporter], Awaitable[Page]]] = {
    "openapi": openapi,
    "prometheus": _prometheus,
    "gc": figures.gc,
    "heapstats": figures.heapstats,
    "findings": findings,
}
"""Name in ``ROUTES`` → what makes the page and lets others run meanwhile."""


async def make_page(target: Target, server: Reporter) -> Page:
    """Return the page of ``server`` that ``target`` is in ``ROUTES``."""
    instant = INSTANT.get(target)
    return await LENGTHY[target](server) if instant is None else instant(server)
