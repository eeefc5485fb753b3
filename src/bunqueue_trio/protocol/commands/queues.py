"""Commands about a queue as a whole."""

from bunqueue_trio import errors
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.commands.base import Command, EpochMs, Name
from bunqueue_trio.protocol.commands.spec import EXAMPLE_OK, Again, Does, Example, Path, Role, Spec


class Pause(Command[r.DataReply], kw_only=True, tag="Pause"):
    """Hand out no jobs of a queue, before the epoch ms ``until`` if it is given; said again, the last counts."""

    queue: str = ""
    reason: Name | None = None
    until: EpochMs | None = None


class Resume(Command[r.DataReply], kw_only=True, tag="Resume"):
    """Hand out the jobs of a queue again."""

    queue: str = ""


class IsPaused(Command[r.PausedReply], kw_only=True, tag="IsPaused"):
    """Ask whether a queue is paused: why, since when, until when."""

    queue: str = ""


SPECS: tuple[Spec, ...] = (
    Spec(
        Pause, Does.CHANGES, Path("POST", "/queues/:queue/pause", optional_body=True),
        refuses=(errors.TOO_MANY_GATES,), again=Again.FREELY, role=Role.ADMIN,
        example=Example({"reason": "the mail server is down", "until": 1893456000000}, EXAMPLE_OK),
    ),
    Spec(
        Resume, Does.CHANGES, Path("POST", "/queues/:queue/resume", optional_body=True), again=Again.FREELY,
        role=Role.ADMIN, example=Example(None, EXAMPLE_OK),
    ),
    Spec(
        IsPaused, Does.READS, Path("GET", "/queues/:queue/paused"), again=Again.FREELY, role=Role.READ,
        settled_by="everything",
        example=Example(
            None,
            {
                "ok": True, "paused": True, "reason": "the mail server is down", "since": 1700000000000,
                "until": 1893456000000,
            },
        ),
    ),
)  # fmt: skip
