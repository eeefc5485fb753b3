"""How a command that is done in slices goes on: the command of the next slice, and the one answer to all of them."""

from msgspec.structs import replace

from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r

LOOKED_MAX = 200_000
"""Jobs looked at for one call: about a second beside other work; whoever wants more asks again."""

REST, REST_MAX_S = 4, 0.25
"""The next slice waits for 4 times as long as one and its commit took, so that pushes beside it keep four fifths of their rate.

Not longer than 0.25 s: a slower commit says something of the disk, and nothing of others who wait.
"""

TOLD_S = 5.0
"""After that a call is answered, however far it has come: its client waits, and asks again."""


def brings(command: c.Command) -> bool:
    """Return whether what is done in slices brings jobs, as a retry does: under overload that is refused first."""
    assert isinstance(command, c.ActOnJobs)
    return command.action == "retry"


def next_slice(command: c.Command, reply: r.Reply) -> "c.ActOnJobs | None":
    """Return the command that goes on where the slice of ``command`` that ``reply`` answers has ended; None: it is done."""
    assert isinstance(command, c.ActOnJobs)
    assert isinstance(reply, r.ActReply)
    left = command.limit - reply.count - sum(reply.refused.values())
    if reply.next is None or left <= 0:
        return None
    return replace(command, after=reply.next, limit=left)


def pause_after(command: c.Command, reply: r.Reply) -> float:
    """Return the seconds until the next slice of ``command`` may be done, by its rate."""
    assert isinstance(command, c.ActOnJobs)
    assert isinstance(reply, r.ActReply)
    return 0.0 if command.rate is None else reply.count / command.rate


def joined(one: r.Reply, other: r.Reply) -> r.ActReply:
    """Return the answer to two slices."""
    assert isinstance(one, r.ActReply)
    assert isinstance(other, r.ActReply)
    refused: dict[str, int] = dict(one.refused)
    for code, n in other.refused.items():
        refused[code] = refused.get(code, 0) + n
    return r.ActReply(
        count=one.count + other.count, ending=one.ending + other.ending, refused=refused, scanned=one.scanned + other.scanned,
        examples=(one.examples + other.examples)[:3], next=other.next,
    )  # fmt: skip
