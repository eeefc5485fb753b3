"""What the OpenAPI description says that no type holds: summaries, errors, examples, and the server's own pages."""

from typing import Any, NamedTuple

from bunqueue_trio import errors
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.commands.spec import EXAMPLE_ID

_Schema = dict[str, Any]


class Words(NamedTuple):
    """An error: what it means, refusals that it comes with, and the header it carries."""

    description: str
    examples: dict[str, Refused]
    header: tuple[str, _Schema] | None = None


ABOUT = (
    "Jobs wait in queues until a worker pulls them, and are held under a lease until it reports. A success answer "
    "means that the change is committed. Every limit of a value is in its schema; fields that are not known are "
    "ignored, but by what does something to many jobs or changes settings, which refuses them; null for an optional field means its default. Payloads come back byte for byte as they were sent."
)

ERRORS: dict[int, Words] = {
    400: Words(
        "The request cannot be honoured as it is; nothing was changed.",
        {
            "body": errors.INVALID_JSON_BODY.refuse(),
            "field": errors.INVALID_FIELD.refuse("priority", "must be a number"),
            "queue": errors.INVALID_QUEUE.refuse(),
            "state": c.UNKNOWN_STATE.refuse(),
            "page": c.NOT_A_PLACE.refuse(),
            "not active": errors.NOT_ACTIVE.refuse(),
            "lost lease": errors.LOST_LOCK.refuse(),
            "key": c.KEY_IS_HELD.refuse(),
            "dependency": errors.UNKNOWN_DEPENDENCY.refuse(EXAMPLE_ID),
        },
    ),
    401: Words(
        "The token is missing or wrong.", {"token": errors.UNAUTHORIZED.refuse()},
        ("WWW-Authenticate", {"type": "string", "const": "Bearer"}),
    ),
    403: Words(
        "The token has not the role that this takes; nothing was changed.",
        {"role": errors.MISSING_ROLE.refuse("admin", "read")},
    ),
    404: Words("There is no such job.", {"job": errors.JOB_NOT_FOUND.refuse(), "dead": c.NOT_DEAD.refuse()}),
    409: Words(
        "What is there stands in the way; nothing was changed.",
        {"gates": errors.TOO_MANY_GATES.refuse(10000)},
    ),
    413: Words("The body is larger than BODY_MAX_BYTES.", {"size": errors.BODY_TOO_LARGE.refuse()}),
    426: Words(
        "This path is for WebSockets.", {"upgrade": errors.UPGRADE_REQUIRED.refuse()},
        ("Upgrade", {"type": "string", "const": "websocket"}),
    ),
    429: Words(
        "Too many requests of this client in the window.", {"limit": errors.RATE_LIMITED.refuse()},
        ("Retry-After", {"type": "string", "pattern": "^[0-9]+$"}),
    ),
    503: Words(
        "Not now: disk or database refuses changes, too many wait for it, or the server is stopping. Nothing was changed.",
        {"disk": errors.STORAGE_DOWN.refuse(), "load": errors.OVERLOADED.refuse()},
    ),
}  # fmt: skip

SUMMARIES = {
    "/events": "Follow what happens to all jobs, as server-sent events.",
    "/events/queues/:queue": "Follow what happens to the jobs of one queue, as server-sent events.",
    "/ws": "Open a WebSocket: commands, and the events of all queues.",
    "/ws/queues/:queue": "Open a WebSocket: commands, and the events of one queue.",
    "/metrics": "Read the totals.",
    "/prometheus": "Read all metrics in the Prometheus text format.",
    "/tasks": "Read how the server's own tasks are doing.",
    "/audit": "Read what the server found when it checked itself.",
    "/events/log": "Download the events of some time, oldest first; the times are epoch ms.",
    "/export/jobs": "Download all jobs that a filter describes, however many there are.",
    "/findings": "Read what is wrong, worst first, each with its likely cause.",
    "/ticket": "Get a ticket that lets a browser open one event stream or WebSocket.",
    "/health": "Read how the server is doing.",
    "/healthz": "Ask whether the process is alive.",
    "/live": "Ask whether the process is alive.",
    "/ready": "Ask whether new work is welcome.",
    "/gc": "Collect garbage and give free memory back.",
    "/heapstats": "Read what the memory holds.",
    "/openapi.json": "Read this description.",
    "/docs": "Read this description as a page.",
    "/docs/swagger-ui.css": "Read a part of the page.",
    "/docs/swagger-ui-bundle.js": "Read a part of the page.",
    "/docs/start.js": "Read a part of the page.",
}

DESCRIPTIONS = {
    "/events": (
        "Each message is one JSON object, as the schema `Event` says; the first says `connected`. Send the last `id` as "
        "`Last-Event-ID` to get what was missed."
    ),
    "/ticket": (
        "For `EventSource` and `WebSocket` in browsers, which cannot send a token: append `?ticket=…` to the address of an "
        "event stream or a WebSocket. It counts once, and for `expiresIn` ms."
    ),
    "/prometheus": "Asks for a token only with METRICS_AUTH=true. A queue has series of its own while it is among the "
    "METRICS_QUEUES_MAX fullest.",
    "/gc": "Looks at new objects only, at most once a second and for a twentieth of the time; in between only the figures are read.",
}


def _to(operation: str, pointer: str, body: dict[str, str] | None = None) -> _Schema:
    link: _Schema = {"operationId": operation, "parameters": {"id": f"$response.body#{pointer}"}}
    return link | ({"requestBody": body} if body else {})


LINKS: dict[type[c.Command], _Schema] = {
    c.Push: {name: _to(name, "/id") for name in ("getJob", "getState", "getResult", "cancel")},
    c.Pull: {
        "ack": _to("ack", "/job/id", {"token": "$response.body#/token"}),
        "fail": _to("fail", "/job/id", {"token": "$response.body#/token"}),
        "heartbeat": _to("heartbeat", "/job/id", {"token": "$response.body#/token"}),
        "release": _to("release", "/job/id", {"token": "$response.body#/token"}),
    },
}
"""What can be done next with an answer."""

# --- the server's own pages: status → description, media type, schema -----------------------------

_JSON, _TEXT = "application/json", "text/plain"
_COUNT: _Schema = {"type": "integer", "minimum": 0}
_COUNT_OR_NULL: _Schema = {"type": ["integer", "null"], "minimum": 0}
_STRING: _Schema = {"type": "string"}
_STRING_OR_NULL: _Schema = {"type": ["string", "null"]}
_STRINGS: _Schema = {"type": "array", "items": _STRING}
_BOOL: _Schema = {"type": "boolean"}


def _of(**fields: _Schema) -> _Schema:
    """Return the schema of an object with exactly these fields."""
    return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}


def _sure(schema: _Schema) -> _Schema:
    """Return the schema of a page that says so while another server may lead."""
    return schema | {"properties": schema["properties"] | {"sure": {"const": False}}}


def _counts(*names: str) -> _Schema:
    return _of(**dict.fromkeys(names, _COUNT))


_TRUE: _Schema = {"const": True}
_MEMORY = _counts("heapUsed", "heapTotal", "rss")
_TOTALS = ("totalPushed", "totalPulled", "totalCompleted", "totalFailed")
_COLLECTIONS = _counts("jobIndex", "completedJobs", "processingTotal", "queuedTotal", "temporalIndexTotal")
_READY = _of(ok=_BOOL, ready=_BOOL)
_UPGRADE = (ERRORS[426].description, _JSON, {"$ref": "#/components/schemas/ErrorReply"})

_UPKEEP = _of(
    kind={"enum": ["backup", "check", "shrink"]}, state={"enum": ["planned", "running", "done", "failed"]}, bytes=_COUNT, done=_COUNT, total=_COUNT,
    file=_STRING_OR_NULL, room=_COUNT_OR_NULL, drops=_STRINGS, who=_STRING_OR_NULL, startedAt=_COUNT_OR_NULL, endedAt=_COUNT_OR_NULL,
    error=_STRING_OR_NULL, findings=_STRINGS,
)  # fmt: skip
_BACKUPS = _of(
    directory=_STRING_OR_NULL, kept=_COUNT, copies=_COUNT, lastAt=_COUNT_OR_NULL, lastBytes=_COUNT_OR_NULL, error=_STRING_OR_NULL,
)  # fmt: skip

PAGE_ANSWERS: dict[str | type[c.Command], dict[int, tuple[str, str, _Schema]]] = {
    "live": {200: ("It is.", _TEXT, {"type": "string", "const": "OK"})},
    "ready": {
        200: ("It is.", _JSON, _READY),
        503: ("It is not: disk or database refuses changes, or the server is stopping.", _JSON, _READY),
    },
    c.Ping: {200: ("It does.", _JSON, _of(ok=_TRUE, data=_of(pong=_TRUE, time=_COUNT)))},
    "health": {
        200: (
            "Memory in MB, uptime in seconds.",
            _JSON,
            _of(
                ok=_TRUE,
                status={"enum": ["healthy", "degraded"]},
                uptime=_COUNT,
                version=_STRING,
                queues=_counts("waiting", "active", "delayed", "completed", "dlq"),
                connections=_counts("tcp", "ws", "sse"),
                memory=_MEMORY,
            ),
        )
    },
    c.Stats: {
        200: (
            "Memory in MB, uptime in seconds.",
            _JSON,
            _of(
                ok=_TRUE,
                stats=_counts(
                    "queued",
                    "processing",
                    "delayed",
                    "dlq",
                    "completed",
                    "uptime",
                    "pushPerSec",
                    "pullPerSec",
                    *_TOTALS,
                ),
                memory=_counts("heapUsed", "heapTotal", "rss", "external", "arrayBuffers"),
                collections=_COLLECTIONS,
            ),
        )
    },
    c.StorageStatus: {
        200: (
            "Sizes in bytes, growth in bytes an hour; times in ms, `since` in epoch ms.",
            _JSON,
            _of(
                ok=_TRUE,
                data=_of(
                    diskFull=_BOOL,
                    error={"type": ["string", "null"]},
                    since=_COUNT_OR_NULL,
                    file=_COUNT,
                    free=_COUNT,
                    log=_COUNT,
                    diskFree=_COUNT,
                    disk=_COUNT,
                    growth={"type": ["integer", "null"]},
                    fullIn=_COUNT_OR_NULL,
                    pending=_COUNT,
                    jobs=_counts("waiting", "delayed", "waiting-children", "active", "completed", "failed"),
                    retention=_of(
                        **dict.fromkeys(
                            ("completedMax", "deadMax", "age", "eventsMax", "eventsAge", "actionsMax", "actionsAge"),
                            _COUNT_OR_NULL,
                        )
                    ),
                    shorter={"type": ["array", "null"], "items": _of(age=_COUNT, jobs=_COUNT, bytes=_COUNT)},
                    kinds={"type": ["array", "null"], "items": _of(kind=_STRING, jobs=_COUNT_OR_NULL, bytes=_COUNT)},
                    queues={"type": ["array", "null"], "items": _of(queue=_STRING, unfinished=_COUNT, ended=_COUNT)},
                    damage={"type": ["string", "null"]},
                    backups=_BACKUPS | {"type": ["object", "null"]},
                    upkeep={"type": "array", "items": _UPKEEP},
                ),
            ),
        )
    },
    "metrics": {200: ("The totals since the start.", _JSON, _of(ok=_TRUE, metrics=_counts(*_TOTALS)))},
    "prometheus": {200: ("The metrics.", _TEXT, _STRING)},
    "tasks": {
        200: (
            "Which server answers: its host, process and addresses, since when it leads, and of a queue in a database its term and where servers that wait reach it; "
            "every supervised task; and of doors how many are wanted and connected, open connections that they pass on as they are, requests of others, "
            "in all and by door, and doors that hung or died. `cluster` is what `bunqueue-trio cluster --json` tells, and null without a database.",
            _JSON,
            _of(
                ok=_TRUE,
                tasks={
                    "type": "array",
                    "items": _of(
                        name=_STRING,
                        state={"enum": ["starting", "running", "restarting", "failed", "finished"]},
                        restarts=_COUNT,
                        lastError={"type": ["string", "null"]},
                    ),
                },
                server=_of(
                    host=_STRING,
                    process=_COUNT,
                    addresses={"type": "array", "items": _STRING},
                    since=_COUNT,
                    term=_COUNT_OR_NULL,
                    link={"type": ["string", "null"]},
                    leads=_BOOL,
                ),
                doors=_of(
                    **dict.fromkeys(("wanted", "connected", "connections", "requests", "hung", "died"), _COUNT),
                    queues={"type": "object", "additionalProperties": _COUNT},
                ),
                cluster={"type": ["object", "null"]},
            ),
        )
    },
    "audit": {
        200: (
            "The account of the self-audit.",
            _JSON,
            _of(
                ok=_TRUE,
                audit=_of(
                    jobsPerSecond=_COUNT,
                    checked=_COUNT,
                    passesBegun=_COUNT,
                    passesDone=_COUNT,
                    lastDoneAt={"type": ["integer", "null"]},
                    lastMs=_COUNT,
                    faults={"type": "object", "additionalProperties": _COUNT},
                    findings={
                        "type": "array",
                        "items": _of(kind=_STRING, what=_STRING, firstAt=_COUNT, lastAt=_COUNT, times=_COUNT),
                    },
                ),
            ),
        )
    },
    "findings": {
        200: (
            "What is wrong, worst first; times in epoch ms. `sure` is there while another server may lead.",
            _JSON,
            _sure(
                _of(
                    ok=_TRUE,
                    now=_COUNT,
                    findings={
                        "type": "array",
                        "items": _of(
                            code=_STRING,
                            severity={"enum": ["critical", "warning", "notice"]},
                            title=_STRING,
                            cause=_STRING,
                            evidence=_STRING,
                            remedy=_STRING,
                            commands={"type": "array", "items": _STRING},
                            queue={"type": ["string", "null"]},
                            job={"type": ["string", "null"]},
                            schedule={"type": ["string", "null"]},
                            worker={"type": ["string", "null"], "description": "Its id."},
                            error={"type": ["string", "null"], "description": "The fingerprint of its group."},
                            since={"type": ["integer", "null"]},
                            until={"type": ["integer", "null"]},
                            numbers={"type": "object", "additionalProperties": {"type": "integer"}},
                            alert={"type": ["string", "null"]},
                            weight=_COUNT,
                        ),
                    },
                )
            ),
        )
    },
    "ticket": {
        200: ("The ticket, and for how many ms it is good.", _JSON, _of(ok=_TRUE, ticket=_STRING, expiresIn=_COUNT))
    },
    "gc": {200: ("Memory in MB, before and after.", _JSON, _of(ok=_TRUE, before=_MEMORY, after=_MEMORY))},
    "heapstats": {
        200: (
            "Memory in MB, and the most frequent types: of all objects, or where they are very many of jobs and of what was made lately.",
            _JSON,
            _of(
                ok=_TRUE,
                memory=_MEMORY,
                heap=_counts("objectCount", "protectedCount", "globalCount"),
                collections=_COLLECTIONS,
                topObjectTypes={"type": "array", "maxItems": 20, "items": _of(type=_STRING, count=_COUNT)},
            ),
        )
    },
    "events": {200: ("The stream, without end.", "text/event-stream", _STRING)},
    "event-log": {200: ("An event a line, oldest first, as far as they are kept.", "application/x-ndjson", _STRING)},
    "export": {200: ("A job a line, as `GET /jobs` lists them.", "application/x-ndjson", _STRING)},
    "websocket": {426: _UPGRADE},
    "openapi": {200: ("The description.", _JSON, {"type": "object"})},
    "docs": {200: ("The page.", "text/html", _STRING)},
    "docs-style": {200: ("Part of the page.", "text/css", _STRING)},
    "docs-bundle": {200: ("Part of the page.", "text/javascript", _STRING)},
    "docs-start": {200: ("Part of the page.", "text/javascript", _STRING)},
}
"""Page, or command that a page answers → what it answers."""
