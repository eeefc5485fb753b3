"""What is asked of both servers, in this order: calls, each of a route of the original; knows nothing of answers but what later calls need.

Nothing in it becomes due while it runs, however long that takes: delays and backoffs are hours.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

SENT = {"sent": 1}
"""The payload of every job and the result of every ack: it is not looked into."""
HOUR_MS = 3_600_000


class Call(NamedTuple):
    """One call. ``~name`` is a name of this run's own; ``$name`` is what an earlier answer had."""

    route: str
    """As the original has it, with ``:names``; a command alone for what only a WebSocket has."""
    title: str
    """Which case it is, in a reader's words."""
    names: Mapping[str, Any] = {}
    fields: Mapping[str, Any] | str = {}
    """The body, or the query of a GET; a text is sent as it stands, which only HTTP can."""
    ws: Mapping[str, Any] = {}
    """What the command is given beside that, where one of both has another name for a field."""
    keep: Mapping[str, str] = {}
    """Name → where in the answer it stands."""


_JOB = {"id": "$job"}
_DONE = {"id": "$done"}
_DEAD = {"id": "$dead"}
_NONE = {"id": "nobody"}
_A = {"queue": "~a"}
_B = {"queue": "~b"}
_LATER = {"queue": "~later"}
_GONE = "a job that is not there"


def _push(queue: str, keep: str, title: str = "a job", **fields: Any) -> Call:
    return Call("POST /queues/:queue/jobs", title, {"queue": queue}, {"data": SENT, **fields}, keep={keep: "id"})


def _take(queue: str, job: str, token: str) -> Call:
    """Take one job and its lock token, which the original gives over HTTP for several only."""
    return Call(
        "POST /queues/:queue/jobs/pull-batch", "with an owner", {"queue": queue},
        {"count": 1, "owner": "w", "lockTtl": HOUR_MS}, keep={job: "jobs.0.id", token: "tokens.0"},
    )  # fmt: skip


PUSHING = (
    Call(
        "POST /queues/:queue/jobs", "with every option", _A,
        {
            "data": SENT, "priority": 10, "delay": 0, "maxAttempts": 5, "backoff": HOUR_MS, "ttl": 24 * HOUR_MS,
            "timeout": HOUR_MS, "uniqueKey": "~key", "jobId": "~own", "tags": ["t"], "groupId": "g", "lifo": False,
            "removeOnComplete": False, "removeOnFail": False, "durable": True,
        }, keep={"job": "id"},
    ),
    Call("POST /queues/:queue/jobs", "the same `jobId` again", _A, {"data": SENT, "jobId": "~own"}),
    Call("POST /queues/:queue/jobs", "the same `uniqueKey` again", _A, {"data": SENT, "uniqueKey": "~key"}),
    Call("POST /queues/:queue/jobs", "with `repeat`", {"queue": "~series"}, {"data": SENT, "repeat": {"every": HOUR_MS, "limit": 2}}),
    Call("POST /queues/:queue/jobs", "one that waits for another", _B, {"data": SENT, "dependsOn": ["$job"]}, keep={"child": "id"}),
    Call("POST /queues/:queue/jobs", "one that waits for a job that is not there", _A, {"data": SENT, "dependsOn": ["nobody"]}),
    # In a queue of their own: the original takes some of them, and what it gives then is no job.
    Call("POST /queues/:queue/jobs", "without `data`", {"queue": "~odd"}, {}),
    Call("POST /queues/:queue/jobs", "a list as body", {"queue": "~odd"}, "[1]"),
    Call("POST /queues/:queue/jobs", "no JSON", {"queue": "~odd"}, "{"),
    Call("POST /queues/:queue/jobs", "a wrong `priority`", {"queue": "~odd"}, {"data": SENT, "priority": "high"}),
    Call("POST /queues/:queue/jobs", "a wrong name of a queue", {"queue": "a b!"}, {"data": SENT}),
    Call(
        "POST /queues/:queue/jobs/bulk", "jobs", {"queue": "~bulk"},
        {"jobs": [{"data": SENT}, {"data": SENT, "name": "n", "priority": 5}, {"data": SENT, "delay": HOUR_MS}]},
    ),
    Call("POST /queues/:queue/jobs/bulk", "one wrong job", {"queue": "~bulk"}, {"jobs": [{"data": SENT, "priority": "x"}]}),
    Call("POST /queues/:queue/jobs/bulk", "without `jobs`", {"queue": "~bulk"}, {}),
)  # fmt: skip

LOOKING = (
    Call("GET /jobs/:id", "one that waits", _JOB),
    Call("GET /jobs/:id", _GONE, _NONE),
    Call("GET /jobs/custom/:customId", "one that is there", {"customId": "~own"}),
    Call("GET /jobs/:id/state", "one that waits", _JOB),
    Call("GET /jobs/:id/state", _GONE, _NONE),
    Call("GET /jobs/:id/result", "no result yet", _JOB),
    Call("GET /jobs/:id/result", _GONE, _NONE),
    Call("GET /jobs/:id/progress", "one that is not active", _JOB),
    Call("GET /jobs/:id/progress", _GONE, _NONE),
    Call("GET /jobs/:id/children", "none", _JOB),
    Call("GET /queues/:queue/jobs/list", "one state", _A, {"state": "waiting", "limit": 5}),
    Call("GET /queues/:queue/jobs/list", "jobs with a `name`", {"queue": "~bulk"}, {"state": "waiting", "limit": 5}),
    Call("GET /queues/:queue/jobs/list", "the delayed", {"queue": "~bulk"}, {"state": "delayed", "limit": 5}),
    Call("GET /queues/:queue/jobs/list", "no state", _A),
    Call("GET /queues/:queue/jobs/list", "an unknown state", _A, {"state": "weird"}),
    Call("GET /queues", "all"),
    Call("GET /queues/summary", "all"),
    Call("GET /queues/:queue/counts", "a queue", _A),
    Call("GET /queues/:queue/counts", "a queue that nobody used", {"queue": "~never"}),
    Call("GET /queues/:queue/count", "a queue", _A),
    Call("GET /queues/:queue/priority-counts", "a queue", {"queue": "~bulk"}),
    Call("POST /jobs/:id/logs", "a line", _JOB, {"message": "hello", "level": "warn"}),
    Call("POST /jobs/:id/logs", "without `message`", _JOB, {}),
    Call("POST /jobs/:id/logs", _GONE, _NONE, {"message": "hello"}),
    Call("GET /jobs/:id/logs", "a line", _JOB),
    Call("GET /jobs/:id/logs", _GONE, _NONE),
    Call("DELETE /jobs/:id/logs", "a line", _JOB),
    Call("POST /jobs/:id/wait", "not in time", _JOB, {"timeout": 1}),
    Call("POST /jobs/:id/wait", "a wrong `timeout`", _JOB, {"timeout": 700_000}),
    Call("POST /jobs/:id/wait", _GONE, _NONE, {"timeout": 1}),
)

WORKING = (
    Call("GET /queues/:queue/jobs", "nothing there", {"queue": "~never"}),
    Call("GET /queues/:queue/jobs", "a wrong `timeout`", {"queue": "~never"}, {"timeout": 70_000}),
    Call("GET /queues/:queue/jobs", "no number as `timeout`", {"queue": "~never"}, {"timeout": "abc"}),
    Call("GET /queues/:queue/jobs", "a job", _A, keep={"done": "job.id"}),
    Call("POST /jobs/:id/progress", "an active job", _DONE, {"progress": 50, "message": "half"}),
    Call("POST /jobs/:id/progress", "more than 100", _DONE, {"progress": 150}),
    Call("POST /jobs/:id/progress", _GONE, _NONE, {"progress": 5}),
    Call("GET /jobs/:id/progress", "an active job", _DONE),
    Call("GET /jobs/:id", "an active one", _DONE),
    Call("GET /jobs/:id/state", "an active one", _DONE),
    Call("POST /jobs/:id/promote", "one that is not delayed", _DONE, {}),
    Call("POST /jobs/:id/ack", "with a result", _DONE, {"result": SENT}),
    Call("POST /jobs/:id/ack", "one that is not active", _DONE, {}),
    Call("GET /jobs/:id", "a completed one", _DONE),
    Call("GET /jobs/:id/state", "a completed one", _DONE),
    Call("GET /jobs/:id/result", "a result", _DONE),
    Call("POST /jobs/:id/wait", "one that has ended", _DONE, {"timeout": 1000}),
    Call("GET /queues/:queue/jobs/list", "the completed", _A, {"state": "completed", "limit": 5}),
    _push("~busy", "busy", "one with a `name`", name="welcome"),
    Call("GET /jobs/:id", "one with a `name`", {"id": "$busy"}),
    Call("GET /queues/:queue/jobs", "one with a `name`", {"queue": "~busy"}),
    Call("PUT /jobs/:id/data", "an active job", {"id": "$busy"}, {"data": SENT}),
    Call("PUT /jobs/:id/priority", "an active job", {"id": "$busy"}, {"priority": 3}),
    Call("PUT /jobs/:id/delay", "an active job", {"id": "$busy"}, {"delay": HOUR_MS}),
    _push("~c", "again", backoff=HOUR_MS),
    Call("GET /queues/:queue/jobs", "a job", {"queue": "~c"}),
    Call("POST /jobs/:id/fail", "with attempts left", {"id": "$again"}, {"error": "temporary"}),
    Call("POST /jobs/:id/fail", "one that is not active", {"id": "$again"}, {"error": "temporary"}),
    Call("GET /jobs/:id", "one that is tried again", {"id": "$again"}),
    Call("GET /jobs/:id/state", "one that is tried again", {"id": "$again"}),
    _push("~dead", "dead", maxAttempts=1, name="n"),
    Call("GET /queues/:queue/jobs", "a job", {"queue": "~dead"}),
    Call("POST /jobs/:id/fail", "the last attempt", _DEAD, {"error": "boom", "stack": ["at f", "at g"]}),
    Call("GET /jobs/:id", "a dead letter", _DEAD),
    Call("GET /jobs/:id/state", "a dead letter", _DEAD),
    Call("GET /queues/:queue/jobs/list", "dead letters", {"queue": "~dead"}, {"state": "failed", "limit": 5}),
    _push("~dead", "poison"),
    Call("GET /queues/:queue/jobs", "a job", {"queue": "~dead"}),
    Call("POST /jobs/:id/fail", "for good", {"id": "$poison"}, {"error": "poison", "unrecoverable": True}),
    _push("~batch", "x", name="n"),
    _push("~batch", "x"),
    _push("~batch", "x"),
    _push("~batch", "x"),
    Call("POST /queues/:queue/jobs/pull-batch", "without an owner", {"queue": "~batch"}, {"count": 1}, keep={"bare": "jobs.0.id"}),
    _take("~batch", "one", "one-token"),
    _take("~batch", "two", "two-token"),
    _take("~batch", "three", "three-token"),
    Call("POST /queues/:queue/jobs/pull-batch", "nothing there", {"queue": "~never"}, {"count": 1, "owner": "w"}),
    Call("POST /queues/:queue/jobs/pull-batch", "a wrong `count`", {"queue": "~batch"}, {"count": 2000}),
    Call("POST /jobs/:id/heartbeat", "with its `token`", {"id": "$one"}, {"token": "$one-token", "duration": HOUR_MS}),
    Call("POST /jobs/:id/heartbeat", "a wrong `token`", {"id": "$one"}, {"token": "wrong"}),
    Call("POST /jobs/:id/ack", "a wrong `token`", {"id": "$one"}, {"token": "wrong"}),
    Call("POST /jobs/:id/fail", "a wrong `token`", {"id": "$one"}, {"token": "wrong", "error": "late"}),
    Call("POST /jobs/heartbeat-batch", "two jobs", {}, {"ids": ["$one", "$two"], "tokens": ["$one-token", "$two-token"]}),
    Call("POST /jobs/heartbeat-batch", "one job that is lost", {}, {"ids": ["$one", "nobody"], "tokens": ["$one-token", "x"]}),
    Call("POST /jobs/:id/extend-lock", "with its `token`", {"id": "$one"}, {"token": "$one-token", "duration": HOUR_MS}),
    Call("POST /jobs/:id/extend-lock", "a wrong `token`", {"id": "$one"}, {"token": "wrong", "duration": HOUR_MS}),
    Call(
        "POST /jobs/extend-locks", "two jobs", {},
        {"ids": ["$one", "$two"], "tokens": ["$one-token", "$two-token"], "durations": [HOUR_MS, HOUR_MS]},
    ),
    Call("POST /jobs/ack-batch", "as many tokens as jobs are wanted", {}, {"ids": ["$one", "$two"], "tokens": ["$one-token"]}),
    Call(
        "POST /jobs/ack-batch", "two jobs", {},
        {"ids": ["$one", "$two"], "tokens": ["$one-token", "$two-token"], "results": [SENT, SENT]},
    ),
    Call("POST /jobs/ack-batch", "one that is not active any more", {}, {"ids": ["$one", "$three"], "tokens": ["$one-token", "$three-token"]}),
    Call("POST /jobs/ack-batch", "only jobs that are not active", {}, {"ids": ["$one"], "tokens": ["$one-token"]}),
    Call("POST /jobs/:id/move-to-wait", "an active job", {"id": "$bare"}, {}),
)  # fmt: skip

MANAGING = (
    _push("~later", "delayed", delay=HOUR_MS),
    _push("~later", "other", delay=HOUR_MS),
    Call("PUT /jobs/:id/data", "a job", {"id": "$delayed"}, {"data": SENT}),
    Call("PUT /jobs/:id/data", _GONE, _NONE, {"data": SENT}),
    Call("PUT /jobs/:id/priority", "a job", {"id": "$delayed"}, {"priority": 7}),
    Call("PUT /jobs/:id/priority", _GONE, _NONE, {"priority": 7}),
    Call("PUT /jobs/:id/delay", "a job", {"id": "$delayed"}, {"delay": HOUR_MS}),
    Call("PUT /jobs/:id/delay", _GONE, _NONE, {"delay": HOUR_MS}),
    Call("POST /jobs/:id/promote", "a job", {"id": "$delayed"}, {}),
    Call("POST /jobs/:id/promote", _GONE, _NONE, {}),
    Call("POST /jobs/:id/move-to-delayed", "a job that waits", {"id": "$delayed"}, {"delay": HOUR_MS}),
    Call("POST /jobs/:id/move-to-delayed", _GONE, _NONE, {"delay": HOUR_MS}),
    Call("POST /jobs/:id/move-to-wait", "a delayed job", {"id": "$delayed"}, {}),
    Call("POST /jobs/:id/move-to-wait", _GONE, _NONE, {}),
    Call("POST /jobs/:id/discard", "a job", {"id": "$delayed"}, {}),
    Call("POST /jobs/:id/discard", _GONE, _NONE, {}),
    Call("POST /queues/:queue/promote-jobs", "a delayed job", _LATER, {"count": 10}),
    Call("DELETE /jobs/:id", "a job", {"id": "$other"}),
    Call("DELETE /jobs/:id", _GONE, _NONE),
    Call("POST /queues/:queue/pause", "a queue", _LATER, {}),
    Call("GET /queues/:queue/paused", "a paused queue", _LATER),
    Call("GET /queues/:queue/counts", "a paused queue", _LATER),
    Call("GET /queues/:queue/jobs", "a paused queue", _LATER),
    Call("POST /queues/:queue/resume", "a queue", _LATER, {}),
    Call("GET /queues/:queue/paused", "a queue", _LATER),
    Call("POST /queues/:queue/retry-completed", "a queue", _A, {}),
    Call("PUT /queues/:queue/rate-limit", "a limit", _LATER, {"limit": 100, "duration": 1000}),
    Call("PUT /queues/:queue/rate-limit", "a wrong `limit`", _LATER, {"limit": "x"}),
    Call("DELETE /queues/:queue/rate-limit", "a limit", _LATER),
    Call("PUT /queues/:queue/concurrency", "a limit", _LATER, {"concurrency": 5}, ws={"limit": 5}),
    Call("PUT /queues/:queue/concurrency", "only a `limit`", _LATER, {"limit": 5}),
    Call("DELETE /queues/:queue/concurrency", "a limit", _LATER),
    Call("GET /queues/:queue/stall-config", "nothing is set", _LATER),
    Call("PUT /queues/:queue/stall-config", "its fields", _LATER, {"stallInterval": 15_000, "maxStalls": 5}, ws={"config": {"maxStalls": 5}}),
    Call("PUT /queues/:queue/stall-config", "in `config`", _LATER, {"config": {"enabled": True}}),
    Call("GET /queues/:queue/stall-config", "something is set", _LATER),
    Call("GET /queues/:queue/dlq-config", "nothing is set", _LATER),
    Call("PUT /queues/:queue/dlq-config", "its fields", _LATER, {"autoRetryInterval": HOUR_MS}, ws={"config": {"autoRetryInterval": HOUR_MS}}),
    Call("PUT /queues/:queue/dlq-config", "in `config`", _LATER, {"config": {"maxAge": HOUR_MS, "maxEntries": 9}}),
    Call("GET /queues/:queue/dlq-config", "something is set", _LATER),
    Call("GET /queues/:queue/dlq", "dead letters", {"queue": "~dead"}),
    Call("GET /queues/:queue/dlq/stats", "dead letters", {"queue": "~dead"}),
    Call("GET /dashboard/queues/:queue", "a queue", _A, {"includeJobs": True}),
    Call("POST /queues/:queue/dlq/retry", "one", {"queue": "~dead"}, {"jobId": "$dead"}),
    Call("POST /queues/:queue/dlq/retry", "one that is not there", {"queue": "~dead"}, {"jobId": "nobody"}),
    Call("POST /queues/:queue/dlq/retry", "all", {"queue": "~dead"}, {}),
    Call("POST /queues/:queue/dlq/purge", "all", _LATER, {}),
    Call("POST /queues/:queue/clean", "the completed", {"queue": "~batch"}, {"grace": 0, "state": "completed", "limit": 10}),
    Call("POST /queues/:queue/clean", "no arguments", {"queue": "~bulk"}, {}),
    Call("POST /queues/:queue/drain", "a queue", {"queue": "~bulk"}, {}),
    Call("POST /queues/:queue/obliterate", "a queue", {"queue": "~bulk"}, {}),
)  # fmt: skip

_WORKER = {
    "name": "w1",
    "queues": ["~a"],
    "concurrency": 5,
    "workerId": "~w",
    "hostname": "h",
    "pid": 1,
    "startedAt": 1_700_000_000_000,
}

SERVER = (
    Call("POST /workers", "a worker", {}, _WORKER),
    Call("POST /workers", "an empty body", {}, {}, keep={"nameless": "data.workerId"}),
    Call("POST /workers/:id/heartbeat", "a worker", {"id": "~w"}, {"activeJobs": 0, "processed": 10, "failed": 1}),
    Call("POST /workers/:id/heartbeat", "a worker that is not there", _NONE, {}),
    Call("GET /workers", "workers"),
    Call("GET /queues/:queue/workers", "workers", _A),
    Call("DELETE /workers/:id", "a worker", {"id": "~w"}, ws={"workerId": "~w"}),
    Call("DELETE /workers/:id", "a worker that is not there", {"id": "~w"}, ws={"workerId": "~w"}),
    Call("POST /crons", "by the calendar", {}, {"name": "~daily", "queue": "~t", "data": SENT, "schedule": "0 9 * * *", "timezone": "Europe/Rome", "jobName": "report"}),
    Call("POST /crons", "by an interval", {}, {"name": "~tick", "queue": "~t", "data": SENT, "repeatEvery": HOUR_MS, "maxLimit": 3}),
    Call("POST /crons", "a wrong `schedule`", {}, {"name": "~bad", "queue": "~t", "data": SENT, "schedule": "not a cron"}),
    Call("POST /crons", "no times", {}, {"name": "~bad", "queue": "~t", "data": SENT}),
    Call("GET /crons", "crons"),
    Call("GET /crons/:name", "a cron", {"name": "~daily"}),
    Call("GET /crons/:name", "a cron that is not there", {"name": "~none"}),
    Call("DELETE /crons/:name", "a cron", {"name": "~daily"}),
    Call("DELETE /crons/:name", "a cron that is not there", {"name": "~daily"}),
    Call("POST /webhooks", "an address", {}, {"url": "https://example.com/hook", "events": ["job.completed"]}, keep={"hook": "data.webhookId"}),
    Call("GET /webhooks", "webhooks"),
    Call("PUT /webhooks/:id/enabled", "a webhook", {"id": "$hook"}, {"enabled": False}),
    Call("DELETE /webhooks/:id", "a webhook", {"id": "$hook"}),
    Call("GET /dashboard", "the server"),
    Call("GET /dashboard/queues", "queues"),
    Call("GET /ping", "a word"),
    Call("GET /storage", "the disk"),
    Call("GET /stats", "the server"),
    Call("GET /metrics", "the server"),
    Call("GET /prometheus", "the server"),
    Call("GET /health", "the server"),
    Call("GET /healthz", "the server"),
    Call("GET /live", "the server"),
    Call("GET /ready", "the server"),
    Call("POST /gc", "the server", {}, {}),
    Call("GET /heapstats", "the server"),
    Call("Auth", "a wrong token", {}, {"token": "wrong"}),
    Call("Subscribe", "all events", {}, {"events": ["*"]}, ws={"events": ["*"]}),
    Call("Subscribe", "an event that there is not", {}, {"events": ["bogus"]}),
    Call("Unsubscribe", "from all", {}, {}),
)  # fmt: skip

SCENARIO = (*PUSHING, *LOOKING, *WORKING, *MANAGING, *SERVER)

CONTRACT = (
    "POST /queues/:queue/jobs", "GET /queues/:queue/jobs", "GET /jobs/:id", "DELETE /jobs/:id", "POST /jobs/:id/ack",
    "POST /jobs/:id/fail", "GET /health", "GET /healthz", "GET /live", "GET /ready", "GET /stats", "GET /metrics",
    "GET /prometheus", "POST /gc", "GET /heapstats", "GET /events", "GET /events/queues/:queue",
)  # fmt: skip
"""The routes that the API reference of 2.1 documents, WebSockets apart."""

STREAMS = ("GET /events", "GET /events/queues/:queue")
"""They are listened to, not called."""
