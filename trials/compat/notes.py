"""Why each route of the original differs here, in a sentence of ours; what differs is computed, and stands beside it on the page.

A difference without its sentence fails the comparison, and so does a sentence about what nobody asks for. A sentence may
tell more than answers can show.
"""

_DOCUMENTED = "as the API of 2.1 documents it"
_NO_WEBHOOKS = "there are no webhooks: follow the events"
_AS_SCHEDULE = "see [schedules.md](schedules.md); `/schedules` has more"

WHY = {
    # The API of 2.1.
    "POST /queues/:queue/jobs": "a push without `data` is refused, as documented; nothing is made of what is no object",
    "GET /queues/:queue/jobs": f"the eight fields of a job, and its lock token, {_DOCUMENTED}; a wrong `timeout` is refused with its status",
    "GET /jobs/:id": f"the sixteen fields of a job, {_DOCUMENTED}; `GET /jobs/:id/state` has more. `name` only of a job that was pushed with one. A dead letter has the time of its end",
    "DELETE /jobs/:id": "a refusal has its status, as documented",
    "POST /jobs/:id/fail": "`stack` is a text, and whatever else it is becomes one; `retryIn` beside it; the reason of an unrecoverable failure is `unrecoverable`",
    "GET /stats": f"the names {_DOCUMENTED}; over a WebSocket the same",
    "GET /prometheus": "metrics in ms, with the names of 2.1, and more of them: [operations.md](operations.md) has all",
    "GET /heapstats": f"the collections {_DOCUMENTED}",
    "GET /events": f"messages without names, with `eventType` in them, {_DOCUMENTED}; `format=named` has names. See [Events](#events)",
    "GET /events/queues/:queue": "the same; no events of other queues",
    # What came after.
    "POST /queues/:queue/jobs/bulk": "the id of a job is `jobId`, as in a single push; `customId`, as the original calls it here, means the same; a body without `jobs` is a slip",
    "POST /queues/:queue/jobs/pull-batch": "tokens always come, with an `owner` or without",
    "GET /jobs/custom/:customId": "an id is an id here: `GET /jobs/:id`",
    "GET /jobs/:id/state": "what the job has not that is documented; a job that is not there is refused, not `unknown`; one with a priority is `waiting`, not `prioritized`",
    "GET /jobs/:id/result": "`result` is null when there is none; `timeout` waits for the end, and is answered with `state` and `error`, too",
    "GET /jobs/:id/progress": "of a job in any state, and `at` says when its worker last said it",
    "POST /jobs/:id/progress": "`progress` is at most 100, and at least 0; a wrong `token` is refused",
    "PUT /jobs/:id/data": "the worker of an active job has its payload already",
    "PUT /jobs/:id/priority": "an active job is in no queue",
    "PUT /jobs/:id/delay": "an active job is in no queue; `POST /jobs/:id/move-to-delayed` is for its worker",
    "POST /jobs/:id/move-to-delayed": "of a job that waits for others it is refused (409)",
    "POST /jobs/:id/move-to-wait": "an active job takes its previous place, and no attempt is counted; a job that waits for others is refused (409)",
    "POST /jobs/:id/discard": "whoever has no such job hears that it is not there",
    "GET /jobs/:id/logs": "durable, and bounded per job; pages go on by `after`",
    "POST /jobs/:id/logs": "a line without a text says nothing",
    "GET /jobs/:id/children": "there are no parents and children, but `dependsOn`: ask for the `result` of each",
    "POST /jobs/:id/heartbeat": "tells the worker of a cancellation, too, as `cancelledIds`",
    "POST /jobs/heartbeat-batch": "says which leases are lost, and which jobs are cancelled, as `cancelledIds`",
    "POST /jobs/extend-locks": "`POST /jobs/heartbeat-batch` renews many leases",
    "POST /jobs/ack-batch": "what is not active any more is named in `ignoredIds`, and the others are completed",
    "POST /jobs/:id/wait": "it ends however the job ends, also by failure or removal, and says how",
    "GET /queues": "by pages, and with `details`",
    "GET /queues/summary": "`GET /queues?details=true`; this path is that of a queue called `summary` here, and is answered with zeros",
    "GET /queues/:queue/counts": "`prioritized` is always 0",
    "GET /queues/:queue/priority-counts": "the 1,000 highest priorities",
    "GET /queues/:queue/paused": "a pause may have a reason and an end",
    "POST /queues/:queue/pause": "takes a `reason` and an `until`",
    "POST /queues/:queue/drain": "1,000 jobs a call; `left` says how many there still are; delayed ones only if it is said",
    "POST /queues/:queue/obliterate": "refused (409) while jobs are active, unless by `force`; 1,000 jobs a call, until `done`",
    "POST /queues/:queue/clean": "`state` must be said; pages go on by `after`",
    "POST /queues/:queue/promote-jobs": "1,000 jobs a call unless `count` says fewer; takes the role `admin`",
    "POST /queues/:queue/retry-completed": "push the job again",
    "GET /queues/:queue/jobs/list": "`state` is one state and must be said; pages go on by `after` and `next`, not by `offset`; the waiting come in the order of their delivery, the ended newest first",
    "GET /queues/:queue/workers": "`GET /workers` has all, each with its queues",
    "GET /queues/:queue/dlq": "pages go on by `after`; the attempts of each are at `GET /jobs/:id/attempts`; when it expires depends on the settings of retention, too",
    "GET /queues/:queue/dlq/stats": "`GET /queues/:queue/dlq/groups`",
    "POST /queues/:queue/dlq/retry": "1,000 a call, or those of one error; one that is not there is no success",
    "POST /queues/:queue/dlq/purge": "the same",
    "PUT /queues/:queue/rate-limit": "there is a GET, too; exact over restarts",
    "PUT /queues/:queue/concurrency": "the field is `concurrency` over a WebSocket, too, where the original has `limit`; there is a GET, too",
    "GET /queues/:queue/stall-config": "where nothing is said `stallInterval` is `LEASE_MS`, `maxStalls` is `STALLS_MAX` and `gracePeriod` 0; `set` names what was said of this queue",
    "PUT /queues/:queue/stall-config": "what is left out stays as it was, null is as everywhere; there is a DELETE, too, that lets everything be as everywhere; a job stalls `stallInterval` and `gracePeriod` after the last word of its worker; a field that is not known is refused (400)",
    "GET /queues/:queue/dlq-config": "`maxAge` and `maxEntries` are null where only `RETENTION_AGE_MS` and `RETENTION_DEAD_MAX` hold; `set` names what was said of this queue",
    "PUT /queues/:queue/dlq-config": "what is left out stays as it was, null is as everywhere; there is a DELETE, too; with `autoRetry` each waits again `autoRetryInterval` after its last death, which does not grow with each retry",
    "GET /crons": _AS_SCHEDULE,
    "POST /crons": _AS_SCHEDULE,
    "GET /webhooks": _NO_WEBHOOKS,
    "POST /webhooks": _NO_WEBHOOKS,
    "DELETE /webhooks/:id": _NO_WEBHOOKS,
    "PUT /webhooks/:id/enabled": _NO_WEBHOOKS,
    "GET /workers": "each with its jobs; pages go on by `after`",
    "POST /workers": "each with its jobs; a name is given to who has none",
    "DELETE /workers/:id": "refused (409) while it is connected, quiet or has jobs",
    "POST /workers/:id/heartbeat": "a refusal has its status; who hears it introduces the worker again",
    "GET /dashboard": "`GET /stats`, `GET /prometheus`, `GET /findings`, and a page for people at `/ui`",
    "GET /dashboard/queues": "`GET /queues?details=true`",
    "GET /dashboard/queues/:queue": "`GET /queues/:queue`",
    "GET /storage": "what the disk holds, and when it will be full",
    # Of a connection alone.
    "Auth": "where no tokens are set, any will do",
    "Subscribe": "to the types of [Events](#events), or `*`; there are no patterns such as `job:*`: see [websocket.md](websocket.md)",
    "Unsubscribe": "the same",
}
"""By route, or by command where there is none."""

REFUSALS = {"code"}
"""What a refusal has here and there not."""

EVENTS = {
    "pushed": _DOCUMENTED,
    "completed": "`GET /jobs/:id/result` has it",
    "failed": "`GET /jobs/:id` has the payload",
    "progress": "the message is at `GET /jobs/:id/progress`",
    "waiting": "a `retried` says that a job waits again",
    "paused": "`GET /queues/:queue/paused` says it, and the list of acts",
    "resumed": "the same",
    "drained": _DOCUMENTED,
    "waiting-children": _DOCUMENTED,
}
"""By type."""

MISSING = {
    "there are no limits of groups, but of [queues](operations.md): `groupId` is kept and shown": (
        "GetGroupActiveCount", "GetGroupConcurrency", "GetGroupJobsCount", "GetGroupRateLimit", "GetGroupRateLimitTtl",
        "GetGroupsJobsCount", "IsGroupPaused", "PauseGroup", "RateLimitGroup", "RemoveGroupConcurrency",
        "RemoveGroupRateLimit", "ResumeGroup", "SetGroupConcurrency", "SetGroupRateLimit",
    ),
    "there are no parents and children, but `dependsOn`": (
        "GetChildrenValues", "GetFailedChildrenValues", "GetIgnoredChildrenFailures", "MoveToWaitingChildren", "PUSHF",
        "RemoveChildDependency", "RemoveUnprocessedChildren", "UpdateParent",
    ),
    _NO_WEBHOOKS: ("AddWebhook", "ListWebhooks", "RemoveWebhook", "SetWebhookEnabled"),
    "a `uniqueKey` is free when its job ends": (
        "GetDeduplicationJobId", "RemoveDeduplicationKey", "RemoveJobDeduplicationKey",
    ),
    "`ListQueues` with `details`, `GetQueue`, `Stats`": ("DashboardOverview", "DashboardQueue", "DashboardQueues"),
    "an id is an id here: `GetJob`": ("GetJobByCustomId",),
    "`GetConcurrency`, `GetRateLimit`": ("GetQueueLimits",),
    "`DlqGroups`": ("GetDlqStats",),
    "`PurgeDlq` with its `jobId`": ("RemoveDlqJob",),
    "push the job again": ("RetryCompleted",),
    "`JobHeartbeatB`": ("ExtendLocks",),
    "`GET /metrics`, `GET /prometheus`, `POST /gc`": ("Metrics", "Prometheus", "CompactMemory"),
    "`RETENTION_EVENTS_MAX`": ("TrimEvents",),
    "nothing is agreed upon; `GET /health` has the version": ("Hello",),
}  # fmt: skip
"""What there is instead → commands of the original that are not here."""
