"""The server's pages about itself: probes, statistics, memory, tasks. Their fields are the contract's.

Every page is made without stopping the server for long: counts are kept, never counted, and what has to
look at many objects does so in pieces (``runtime/memory.py``). What the pages show of memory, in MB:

- ``heapUsed``, ``heapTotal``: in use and held, by Python's allocator and the C heap together; ``rss``: resident.
- ``external``: of that, in use outside Python's allocator: large payloads, SQLite's caches, C libraries.
- ``arrayBuffers``, ``protectedCount``, ``globalCount``: always 0, this runtime has nothing of the kind.
- ``objectCount``: what Python calls objects: blocks in use in its allocator.
"""

import sys

from bunqueue_trio import __version__
from bunqueue_trio.config import MIB
from bunqueue_trio.pages.cluster import as_json
from bunqueue_trio.protocol.codec import encode
from bunqueue_trio.runtime.statistics import Page, Reporter, Statistics

JSON = "application/json"
TEXT = "text/plain"
# The contract's number.
TYPES_SHOWN = 20


def _json(content: object, status: int = 200) -> Page:
    return JSON, encode(content), status


def live(server: Reporter) -> Page:
    """Return that the process answers."""
    return TEXT, b"OK", 200


def ready(server: Reporter) -> Page:
    """Return whether new work is welcome."""
    return _json({"ok": server.ready, "ready": server.ready}, 200 if server.ready else 503)


def ping(server: Reporter) -> Page:
    """Return the time."""
    return _json({"ok": True, "data": {"pong": True, "time": server.clock.now()}})


def health(server: Reporter) -> Page:
    """Return how the server is, in short."""
    told = server.statistics()
    counts, connections = told.jobs, told.connections
    return _json(
        {
            "ok": True,
            "status": "healthy" if told.is_ready else "degraded",
            "uptime": _uptime(told),
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


def stats(server: Reporter) -> Page:
    """Return counts, rates and memory."""
    told = server.statistics()
    counts, totals, memory = told.jobs, told.totals, server.memory.read()
    return _json(
        {
            "ok": True,
            "stats": {
                "queued": counts["waiting"],
                "processing": counts["active"],
                "delayed": counts["delayed"],
                "dlq": counts["failed"],
                "completed": counts["completed"],
                "uptime": _uptime(told),
                "pushPerSec": told.pushes_per_s,
                "pullPerSec": told.pulls_per_s,
                "totalPushed": totals.pushed,
                "totalPulled": totals.pulled,
                "totalCompleted": totals.completed,
                "totalFailed": totals.failed,
            },
            "memory": memory.heap() | {"external": memory.c_used // MIB, "arrayBuffers": 0},
            "collections": _collections(told),
        }
    )


def metrics(server: Reporter) -> Page:
    """Return the totals since the start."""
    totals = server.statistics().totals
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


def tasks(server: Reporter) -> Page:
    """Return which server this is, its supervised tasks, the doors, and the servers that would take over."""
    told = server.statistics()
    return _json(
        {
            "ok": True,
            "tasks": [
                {"name": task.name, "state": task.state, "restarts": task.restarts, "lastError": task.last_error}
                for task in told.tasks
            ],
            "server": told.place._asdict() | {"leads": told.is_sure},
            "doors": {
                name: getattr(told.doors, name)
                for name in ("wanted", "connected", "connections", "requests", "hung", "died")
            }
            | {"queues": told.doors.by_door()},
            "cluster": as_json(told.cluster),
        }
    )


def audit(server: Reporter) -> Page:
    """Return how far the self-audit is, and what it has found."""
    audit = server.statistics().audit
    return _json(
        {
            "ok": True,
            "audit": {
                "jobsPerSecond": audit.per_second,
                "checked": audit.checked,
                "passesBegun": audit.passes_begun,
                "passesDone": audit.passes_done,
                "lastDoneAt": audit.last_done_at,
                "lastMs": audit.last_ms,
                "faults": audit.faults,
                "findings": audit.findings,
            },
        }
    )


async def gc(server: Reporter) -> Page:
    """Collect garbage; return the memory before and after."""
    before, after = await server.memory.collect()
    return _json({"ok": True, "before": before.heap(), "after": after.heap()})


async def heapstats(server: Reporter) -> Page:
    """Return what the heap consists of."""
    census = await server.memory.census()
    told = server.statistics()
    # Jobs hold no cycles and are hidden from the garbage collector: they are counted where they are kept.
    types = sorted([*census.types, ("Job", told.unfinished)], key=lambda entry: -entry[1])
    return _json(
        {
            "ok": True,
            "memory": server.memory.read().heap(),
            "heap": {
                "objectCount": max(sys.getallocatedblocks(), census.objects + told.unfinished),
                "protectedCount": 0,
                "globalCount": 0,
            },
            "collections": _collections(told),
            "topObjectTypes": [{"type": name, "count": n} for name, n in types[:TYPES_SHOWN] if n],
        }
    )


def _uptime(told: Statistics) -> int:
    return (told.now - told.started_at) // 1000


def _collections(told: Statistics) -> dict[str, int]:
    return {
        "jobIndex": told.unfinished,
        "completedJobs": told.jobs["completed"],
        "processingTotal": told.jobs["active"],
        "queuedTotal": told.jobs["waiting"],
        "temporalIndexTotal": told.timers,
    }
