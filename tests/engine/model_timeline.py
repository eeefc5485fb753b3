"""What happened to a job, by the naive queue: every event of it, what its attempts and its end say, and what operators did; each once."""

from typing import Any

Moments = set[tuple[int, str]]

ENDS = {"cancelled": "cancelled", "discarded": "discarded"}


def timeline(self: Any, job_id: str) -> Moments:
    """All moments of a job, which may be gone; everything is committed."""
    moments = {
        (event["timestamp"], event["eventType"])
        for event in self.heard
        if event.get("jobId") == job_id and event["eventType"] != "drained"
    }
    moments |= {(act["at"], "act") for act in self.acts if act["job"] == job_id}
    own = [event for event in self.heard if event.get("jobId") == job_id and event["eventType"] != "drained"]
    deaths = [
        event["timestamp"]
        for event, then in zip(own, [*own[1:], {"eventType": "nothing"}], strict=False)
        if event["eventType"] == "failed" and then["eventType"] != "retried"
    ]
    job = next((job for job in (*self.jobs, *self.ended) if job.id == job_id), None)
    if job is not None and job.state == "failed":
        # The last one has a word of its own.
        deaths = deaths[:-1] if job.cause != "cancelled" else deaths
    moments |= {(at, "died") for at in deaths}
    if job is None:
        return moments
    if job.state == "failed":
        # How it ended is said once, in a word of its own.
        moments -= {(job.finished, "failed"), (job.finished, "removed")}
        moments.add((job.finished, ENDS.get(job.cause, "died")))
    for tried in job.failures:
        moments.add((tried["startedAt"], "pulled"))
        moments.add((tried["failedAt"], "stalled" if tried["reason"] == "stalled" else "failed"))
    if job.started is not None and job.state in ("active", "completed", "failed"):
        moments.add((job.started, "pulled"))
    return moments
