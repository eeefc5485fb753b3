"""Commands that give jobs to those who work on them."""

from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.commands.base import Command, Count, Key, LockMs, PollMs
from bunqueue_trio.protocol.commands.spec import EXAMPLE_ID, EXAMPLE_TOKEN, Again, Does, Example, Path, Spec


class Pull(Command[r.PullReply], kw_only=True, tag="PULL"):
    """Take the next job of a queue; wait up to ``timeout`` ms for one. ``owner`` is the id of the worker that asks."""

    queue: str = ""
    timeout: PollMs = 0
    lock_ttl: LockMs | None = None
    owner: Key | None = None


class PullBatch(Command[r.PullBatchReply], kw_only=True, tag="PULLB"):
    """Take up to ``count`` jobs, fewer if they are large; wait up to ``timeout`` ms for the first."""

    queue: str = ""
    count: Count
    timeout: PollMs = 0
    lock_ttl: LockMs | None = None
    owner: Key | None = None


_PULLED = {
    "id": EXAMPLE_ID, "queue": "emails", "data": {"to": "user@test.com"}, "priority": 10, "createdAt": 1700000000000,
    "attempts": 0, "maxAttempts": 3, "progress": 0,
}  # fmt: skip

# Who is cut off from its answer gives back what it was given: asking again takes no second job.
SPECS: tuple[Spec, ...] = (
    Spec(
        Pull, Does.TAKES, Path("GET", "/queues/:queue/jobs"), again=Again.FREELY, timed="pull",
        example=Example(None, {"ok": True, "job": _PULLED, "token": EXAMPLE_TOKEN}),
    ),
    Spec(
        PullBatch, Does.TAKES, Path("POST", "/queues/:queue/jobs/pull-batch"), again=Again.FREELY, timed="pull",
        example=Example({"count": 10, "timeout": 0}, {"ok": True, "jobs": [_PULLED], "tokens": [EXAMPLE_TOKEN]}),
    ),
)  # fmt: skip
