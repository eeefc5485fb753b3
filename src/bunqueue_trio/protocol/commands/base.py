"""What every command is made of: the base struct, and the types of fields with their ranges.

A struct is what arrives: over HTTP its fields come from path, query and body, over WebSocket from one JSON object with
``cmd``. ``queue`` and ``id`` default to "" only because HTTP sets them from the path; the WebSocket decoder insists on
them. Payloads stay the bytes that came in. Types are the validation: nothing else checks a field.

A command that does something to many jobs unless a field says otherwise is declared with ``forbid_unknown_fields``: one
letter wrong must not make it mean all of them, nor a schedule run in another zone. The others ignore what they do not know, as the contract does.
"""

from typing import TYPE_CHECKING, Annotated, Any, Generic

from msgspec import Meta, Raw, Struct

from bunqueue_trio.config import DAY_MS
from bunqueue_trio.protocol.replies import Reply

if TYPE_CHECKING:
    # A default for it is of Python 3.13; type checkers bring this with them.
    from typing_extensions import TypeVar

    ReplyT_co = TypeVar("ReplyT_co", bound=Reply, covariant=True, default=Any)
else:
    from typing import TypeVar

    ReplyT_co = TypeVar("ReplyT_co", covariant=True)

EMPTY = Raw(b"")
"""Stands for "not given" where null is a legal value."""

# The ranges are the documented ones; they keep every sum of two of them far inside 64 bits.
Priority = Annotated[int, Meta(ge=-1_000_000, le=1_000_000)]
MS = {"read": "ms"}
"""Marks a time: a fraction of a ms is rounded up, since clients subtract and divide what they send."""
EPOCH_MS = MS | {"since": "1970"}
"""Marks one on the clock."""
YearMs = Annotated[int, Meta(ge=0, le=365 * DAY_MS, extra=MS, extra_json_schema=MS)]
EveryMs = Annotated[int, Meta(ge=1, le=365 * DAY_MS, extra=MS, extra_json_schema=MS)]
DayMs = Annotated[int, Meta(ge=0, le=DAY_MS, extra=MS, extra_json_schema=MS)]
LockMs = Annotated[int, Meta(ge=1, le=DAY_MS, extra=MS, extra_json_schema=MS)]
# A connection is not held longer for nothing.
PollMs = Annotated[int, Meta(ge=0, le=60_000, extra=MS, extra_json_schema=MS)]
# A job may take longer than a pull waits for one.
WaitMs = Annotated[int, Meta(ge=0, le=600_000, extra=MS, extra_json_schema=MS)]
# 1 stays 1.
Share = Annotated[int, Meta(ge=0, le=1)] | Annotated[float, Meta(ge=0, le=1)]
# As far as every JSON peer can count.
EpochMs = Annotated[int, Meta(ge=0, le=2**53, extra=EPOCH_MS, extra_json_schema=MS)]
Attempts = Annotated[int, Meta(ge=1, le=1000)]
# The integers that every JSON peer can count.
Runs = Annotated[int, Meta(ge=1, le=2**53)]
Key = Annotated[str, Meta(min_length=1, max_length=256)]
TEXT_MAX = 65_536
"""Characters of an error text or a progress message: a traceback, not a log."""
ANY = {"read": "any"}
"""Marks a text that is made of whatever was sent: a failure that cannot be reported is worse than an ugly text."""
Text = Annotated[str, Meta(max_length=TEXT_MAX, extra=ANY, extra_json_schema=ANY)]
# From any JSON client: a number as a tag is a label; as a state it is unknown.
Name = Annotated[str, Meta(max_length=1024)]
Names = Annotated[list[Name], Meta(max_length=100)]
Dependencies = Annotated[list[Key], Meta(max_length=1000)]
Count = Annotated[int, Meta(ge=1, le=1000)]
# 50 stays 50.
Percent = Annotated[int, Meta(ge=0, le=100)] | Annotated[float, Meta(ge=0, le=100)]
# A bulk push or ack takes several steps of the engine, and commits wait for the last: 10,000 jobs are 0.1 s.
BATCH_MAX = 10_000
JobIds = Annotated[list[Key], Meta(max_length=BATCH_MAX)]
Tokens = Annotated[list[Name], Meta(max_length=BATCH_MAX)]
Results = Annotated[list[Raw], Meta(max_length=BATCH_MAX)]


class Command(Struct, Generic[ReplyT_co], kw_only=True, rename="camel", tag_field="cmd", omit_defaults=True, gc=False):
    """Base of all commands; ``Command[PushReply]`` is one that a success answers with a ``PushReply``.

    ``req_id`` is echoed as it came and means nothing else.
    """

    req_id: Raw = EMPTY
