"""The server's pages about itself: probes, statistics, memory. Their fields are the contract's."""

import gc
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path

from bunqueue_trio.protocol.codec import encode
from bunqueue_trio.runtime.tree import Server

JSON = "application/json"
TEXT = "text/plain"
VERSION = version("bunqueue-trio")
MIB = 1024 * 1024

Page = tuple[str, bytes, int]
"""Content type, body, status."""


def _json(content: object, status: int = 200) -> Page:
    return JSON, encode(content), status


async def _live(server: Server) -> Page:
    return TEXT, b"OK", 200


async def _ready(server: Server) -> Page:
    return _json({"ok": server.ready, "ready": server.ready}, 200 if server.ready else 503)


async def _ping(server: Server) -> Page:
    return _json({"ok": True, "data": {"pong": True, "time": server.clock.now()}})


async def _health(server: Server) -> Page:
    counts = server.counts()
    return _json(
        {
            "ok": True,
            "status": "healthy" if server.ready else "degraded",
            "uptime": _uptime(server),
            "version": VERSION,
            "queues": {
                "waiting": counts["waiting"],
                "active": counts["active"],
                "delayed": counts["delayed"],
                "completed": counts["completed"],
                "dlq": counts["failed"],
            },
            "connections": {"tcp": 0, "ws": 0, "sse": 0},
            "memory": _memory(),
        }
    )


async def _stats(server: Server) -> Page:
    counts, totals = server.counts(), server.engine.totals
    pushes, pulls = server.rates.per_second()
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
            "memory": _memory() | {"external": 0, "arrayBuffers": 0},
            "collections": _collections(server),
        }
    )


async def _metrics(server: Server) -> Page:
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


async def _gc(server: Server) -> Page:
    before = _memory()
    gc.collect()
    return _json({"ok": True, "before": before, "after": _memory()})


async def _heapstats(server: Server) -> Page:
    objects = gc.get_objects()
    types = Counter(type(o).__name__ for o in objects).most_common(20)
    return _json(
        {
            "ok": True,
            "memory": _memory(),
            "heap": {"objectCount": len(objects), "protectedCount": 0, "globalCount": 0},
            "collections": _collections(server),
            "topObjectTypes": [{"type": name, "count": n} for name, n in types],
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


def _memory() -> dict[str, int]:
    """Return MB: what the heap holds, what it has reserved, what of the process is resident."""
    page = os.sysconf("SC_PAGE_SIZE")
    fields = Path("/proc/self/statm").read_text(encoding="ascii").split()
    _, resident, shared, _, _, data, _ = (int(field) * page for field in fields)
    return {
        "heapUsed": (resident - shared) // MIB,
        "heapTotal": data // MIB,
        "rss": resident // MIB,
    }


PAGES: dict[str, Callable[[Server], Awaitable[Page]]] = {
    "live": _live,
    "ready": _ready,
    "ping": _ping,
    "health": _health,
    "stats": _stats,
    "metrics": _metrics,
    "gc": _gc,
    "heapstats": _heapstats,
}
"""Name in ``ROUTES`` → page."""
