"""The failed attempts of a job: a line for each, written with the failure."""

import msgspec

from bunqueue_trio.engine.job import Job
from bunqueue_trio.engine.trails import ATTEMPTS, Trails
from bunqueue_trio.engine.workers import Workers
from bunqueue_trio.protocol.lines import Attempt

EXPLICIT, EXCEEDED, STALLED = "explicit_fail", "max_attempts_exceeded", "stalled"
"""How an attempt has ended, beside the reasons for which a job is dead."""

_encode = msgspec.json.Encoder().encode


def note_attempt(
    trails: Trails, workers: Workers, job: Job, now: int, *, reason: str | None, error: str, stack: str | None = None
) -> None:  # fmt: skip
    """Write down how the attempt of ``job``, which is active still, has ended; without a reason its holder said so."""
    assert job.lease is not None
    assert job.started_at is not None
    if reason is None:
        reason = EXCEEDED if job.attempts >= job.options.max_attempts else EXPLICIT
    attempt = Attempt(
        attempt=job.attempts + (reason is STALLED), started_at=job.started_at, failed_at=now,
        duration=now - job.started_at, reason=reason, by=workers.name_of(job.lease), error=error, stack=stack,
    )  # fmt: skip
    trails.add(ATTEMPTS, job.id, now, _encode(attempt))
