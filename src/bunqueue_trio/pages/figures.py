"""The server's pages about itself: probes, statistics, memory, tasks. Their fields are the contract's.

Every page is made without stopping the server for long: counts are kept, never counted, and what has to
look at many objects does so in pieces (``runtime/memory.py``). What the pages show of memory, in MB:

- ``heapUsed``, ``heapTotal``: in use and held, by Python's allocator and the C heap together; ``rss``: resident.
- ``external``: of that, in use outside Python's allocator: large payloads, SQLite's caches, C libraries.
- ``arrayBuffers``, ``protectedCount``, ``globalCount``: always 0, this runtime has nothing of the kind.
- ``objectCount``: what Python calls objects: blocks in use in its allocator.
"""

import sys
from collections.abc import Awaitable, Callable

from bunqueue_trio import __version__
from bunqueue_trio.config import MIB
from bunqueue_trio.pages.docs import docs, docs_bundle, docs_start, docs_style
from bunqueue_trio.pages.openapi import openapi
from bunqueue_trio.protocol.codec import encode
from bunqueue_trio.runtime.server import Server

JSON = "application/json"
TEXT = "text/plain"
TYPES_SHOWN = 20  # the contract's number

Page = tuple[str, bytes, int]
"""Content type, body, status."""


def _json(content: object, status: int = 200) -> Page:
    return JSON, encode(content), status


def _live(server: Server) -> Page:
    return TEXT, b"OK", 200


def _ready(server: Server) -> Page:
    return _json({"ok": server.ready, "ready": server.ready}, 200 if server.ready else 503)


def _ping(server: Server) -> Page:
    return _json({"ok": True, "data": {"pong": True, "time": server.clock.now()}})


def _health(server: Server) -> Page:
    counts, connections = server.counts(), server.connections
    return _json(
        {
            "ok": True,
            "status": "healthy" if server.ready else "degraded",
            "uptime": _uptime(server),
            "version": __version__,
            "queues": {
                "waiting": counts["waiting"],
                "active": counts["active"],
                "delayed": counts["delayed"],
                "completed": counts["completed"],
                "dlq": counts["failed"],
            },
            "connections": {"tcp": connections.tcp, "ws": connections.ws, "sse": connections.sse},
            "memory": server.memory.read().heap(),
        }
    )


def _stats(server: Server) -> Page:
    counts, totals = server.counts(), server.engine.totals
    pushes, pulls = server.rates.per_second()
    memory = server.memory.read()
    return _json(
        {
            "ok": True,
            "stats": {
                "queued": counts["waiting"],
                "processing": counts["active"],
                "delayed": counts["delayed"],
                "dlq": counts["failed"],
                "completed": counts["completed"],
                "uptime": _uptime(server),
                "pushPerSec": pushes,
                "pullPerSec": pulls,
                "totalPushed": totals.pushed,
                "totalPulled": totals.pulled,
                "totalCompleted": totals.completed,
                "totalFailed": totals.failed,
            },
            "memory": memory.heap() | {"external": memory.c_used // MIB, "arrayBuffers": 0},
            "collections": _collections(server),
        }
    )


def _metrics(server: Server) -> Page:
    totals = server.engine.totals
    return _json(
        {
            "ok": True,
            "metrics": {
                "totalPushed": totals.pushed,
                "totalPulled": totals.pulled,
                "totalCompleted": totals.completed,
                "totalFailed": totals.failed,
            },
        }
    )


def _tasks(server: Server) -> Page:
    return _json(
        {
            "ok": True,
            "tasks": [
                {"name": task.name, "state": task.state, "restarts": task.restarts, "lastError": task.last_error}
                for task in server.tasks
            ],
        }
    )


async def _prometheus(server: Server) -> Page:
    from bunqueue_trio.pages.prometheus import prometheus  # its library takes a tenth of a start, and not all ask

    return await server.scrape.get(lambda: prometheus(server))


def _audit(server: Server) -> Page:
    audit = server.audit
    return _json(
        {
            "ok": True,
            "audit": {
                "jobsPerSecond": audit.per_second,
                "checked": audit.checked,
                "passesBegun": audit.begun,
                "passesDone": audit.done,
                "lastDoneAt": audit.last_done_at,
                "lastMs": audit.last_ms,
                "faults": dict(audit.faults),
                "findings": list(audit.findings.values()),
            },
        }
    )


async def _gc(server: Server) -> Page:
    before, after = await server.memory.collect()
    return _json({"ok": True, "before": before.heap(), "after": after.heap()})


async def _heapstats(server: Server) -> Page:
    census = await server.memory.census()
    # Jobs hold no cycles and are hidden from the garbage collector: they are counted where they are kept.
    types = sorted([*census.types, ("Job", len(server.engine.jobs))], key=lambda entry: -entry[1])
    return _json(
        {
            "ok": True,
            "memory": server.memory.read().heap(),
            "heap": {
                "objectCount": max(sys.getallocatedblocks(), census.objects + len(server.engine.jobs)),
                "protectedCount": 0,
                "globalCount": 0,
            },
            "collections": _collections(server),
            "topObjectTypes": [{"type": name, "count": n} for name, n in types[:TYPES_SHOWN] if n],
        }
    )


def _uptime(server: Server) -> int:
    return (server.clock.now() - server.started_at) // 1000


def _collections(server: Server) -> dict[str, int]:
    counts = server.counts()
    return {
        "jobIndex": len(server.engine.jobs),
        "completedJobs": counts["completed"],
        "processingTotal": counts["active"],
        "queuedTotal": counts["waiting"],
        "temporalIndexTotal": len(server.engine.schedule),
    }


INSTANT: dict[str, Callable[[Server], Page]] = {
    "live": _live,
    "ready": _ready,
    "ping": _ping,
    "health": _health,
    "stats": _stats,
    "metrics": _metrics,
    "tasks": _tasks,
    "audit": _audit,
    "openapi": openapi,
    "docs": docs,
    "docs-style": docs_style,
    "docs-bundle": docs_bundle,
    "docs-start": docs_start,
}
"""Name in ``ROUTES`` → page that is made in one step."""

LENGTHY: dict[str, Callable[[Server], Awaitable[Page]]] = {
    "prometheus": _prometheus,
    "gc": _gc,
    "heapstats": _heapstats,
}
"""Name in ``ROUTES`` → page that lets others run while it is made."""


async def make_page(name: str, server: Server) -> Page:
    """Return the page ``name`` of ``server``."""
    instant = INSTANT.get(name)
    return await LENGTHY[name](server) if instant is None else instant(server)
