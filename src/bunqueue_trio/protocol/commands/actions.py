"""Commands about what operators have done."""

from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.commands.base import Command, Count, Name
from bunqueue_trio.protocol.commands.jobs import NOT_A_PLACE
from bunqueue_trio.protocol.commands.spec import Again, Does, Example, Path, Role, Spec


class Actions(Command[r.ActionsReply], kw_only=True, tag="Actions"):
    """List what operators have done, newest first; ``next`` is the ``after`` of the next page, null after the last.

    What was done in slices, each with a line of its own, is one act, with the ``count`` of all and how many ``slices`` there were. ``total`` is how many
    lines are kept.
    """

    limit: Count = 100
    after: Name | None = None


SPECS: tuple[Spec, ...] = (
    Spec(
        Actions, Does.READS, Path("GET", "/actions"), refuses=(NOT_A_PLACE,), again=Again.FREELY, role=Role.READ,
        settled_by="everything",
        example=Example(
            None,
            {
                "ok": True,
                "actions": [
                    {
                        "at": 1700000000000, "who": "ann", "address": "10.0.0.7", "command": "Clean", "queue": "emails",
                        "job": None, "fields": {"state": "completed", "grace": 86400000}, "count": 40,
                    },
                ],
                "total": 1234,
                "next": "1133",
            },
        ),
    ),
)  # fmt: skip
