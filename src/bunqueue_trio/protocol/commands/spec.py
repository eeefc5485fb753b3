"""What is declared of a command beside its struct: one row, from which everything else is derived.

Routes, decoders, the OpenAPI description, the clients' calls and the lists of the tests come from the rows; see
``catalog.py``, which puts them together.
"""

from enum import Enum, IntEnum
from typing import Any, Literal, NamedTuple, get_args, get_origin

from bunqueue_trio.errors import Fault
from bunqueue_trio.protocol.commands.base import Command
from bunqueue_trio.protocol.replies import Reply


class Does(Enum):
    """What a command is to the server."""

    CHANGES = "it changes jobs and is answered when that is committed"
    READS = "it changes nothing and is answered even while the disk is down"
    NOTES = "it says something that the server keeps in memory only, and is answered even while the disk is down"
    TAKES = "it gives jobs away, and can wait for them"
    SESSION = "the runtime or the connection answers it, without the engine"


class Again(Enum):
    """What may be done with a command that was sent and not answered."""

    FREELY = "it changes nothing, or the same once more"
    GUARDED = "it takes effect at most once, but a refusal then, or an id that is ignored, may mean that it already has"
    NEVER = "it would take effect twice"


class Role(IntEnum):
    """Who needs a command: what a token may be limited to. Each may do all that those before it may."""

    READ = 1
    """Looks at jobs."""
    WORK = 2
    """Produces jobs, or works on them."""
    ADMIN = 3
    """Looks after the server."""


class Path(NamedTuple):
    """Where a command is over HTTP. ``:names`` are fields; the others come from the query of a GET, else from the body.

    ``optional_body``: an empty one will do.
    """

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    optional_body: bool = False


class Example(NamedTuple):
    """The documented request body and answer of a command."""

    request: Any
    answer: Any


class Spec(NamedTuple):
    """The row of a command."""

    command: type[Command]
    does: Does
    http: Path | None = None
    """Without one it is for connections, and says something about the connection itself."""
    refuses: tuple[Fault, ...] = ()
    """What the state of jobs may forbid; what is wrong with a field is refused everywhere."""
    again: Again = Again.NEVER
    again_with_token: Again | None = None
    """The same for one that carries the lock token of its job, if that makes a difference."""
    role: Role = Role.WORK
    revives_role: Role | None = None
    """Who needs it where its job is a dead letter, which it lets wait again; None: whoever may do it."""
    example: Example | None = None
    fills: bool = False
    """It brings new work: under overload it is refused before those that empty the queues."""
    sliced: bool = False
    """It is done to many jobs, some in each step, and others are served in between; its answer says what is left."""
    waits: bool = False
    """With a ``timeout`` it waits for the end of its job."""
    settled_by: Literal["job", "everything", "nothing"] = "job"
    """What a READS command must see committed before it is answered: its job, all that has changed while the disk takes commits, or nothing."""
    contract: bool = False
    """The HTTP API reference has it: what it shows of refusals, it shows of those to this command, and they carry no ``code``."""
    acts: str | None = None
    """An operator does it: what it has done is written down, and called so, as by the command line. With the lock token of its job
    it is that job's worker."""
    timed: Literal["push", "pull", "ack"] | None = None
    """The histogram that its answers are counted in."""

    @property
    def tag(self) -> str:
        """Its name in ``cmd``."""
        return str(self.command.__struct_config__.tag)

    @property
    def reply(self) -> type[Reply]:
        """What a success answers: the ``R`` of its base ``Command[R]``."""
        bases: tuple[Any, ...] = self.command.__orig_bases__  # type: ignore[attr-defined]
        found: type[Reply] = next(get_args(base)[0] for base in bases if get_origin(base) is Command)
        return found

    def repeatable(self, *, with_token: bool) -> Again:
        """Return whether it may be repeated when its answer is lost."""
        return self.again_with_token if with_token and self.again_with_token is not None else self.again


EXAMPLE_ID = "01924f5a-7b3c-7def-8a12-3456789abcde"
EXAMPLE_TOKEN = "01924f5a-9c4d-7abc-b123-456789abcdef"  # noqa: S105 - the documentation's own
EXAMPLE_OK = {"ok": True}
EXAMPLE_JOB: dict[str, Any] = {
    "id": EXAMPLE_ID, "queue": "emails", "data": {"to": "user@test.com"}, "priority": 0,
    "createdAt": 1700000000000, "runAt": 1700000000000, "startedAt": None, "completedAt": None,
    "attempts": 0, "maxAttempts": 3, "backoff": 1000, "progress": 0, "tags": [], "lifo": False,
    "removeOnComplete": False, "removeOnFail": False,
}  # fmt: skip
EXAMPLE_DEAD_JOB: dict[str, Any] = EXAMPLE_JOB | {
    "startedAt": 1700000000500,
    "completedAt": 1700000001000,
    "attempts": 3,
}
