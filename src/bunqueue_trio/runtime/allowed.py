"""Who may do something to a job as it stands: what is known of that only in the step that does it."""

from bunqueue_trio import errors
from bunqueue_trio.engine.commands import run
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.job import State
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.caller import By
from bunqueue_trio.protocol.catalog import REVIVES
from bunqueue_trio.protocol.commands.spec import Role


def missing_role(role: Role, has: Role) -> Refused:
    """Return the refusal of a command that takes ``role``, to whoever ``has`` another one."""
    return errors.MISSING_ROLE.refuse(role.name.lower(), has.name.lower())


def run_allowed(
    engine: Engine, command: c.Command, now: int, owner: str | None, by: By, said: c.Command | None = None,
) -> r.Reply:  # fmt: skip
    """Run ``command`` as ``run`` does, unless it would let a dead letter wait again, and ``by`` may not do that.

    Raises:
        Refused: as ``run``; or it is such a job.
    """
    if by.role < (wanted := REVIVES[type(command)]):
        job = engine.find(command.id)  # type: ignore[attr-defined]
        if job is not None and job.state is State.FAILED:
            raise missing_role(wanted, by.role)
    return run(engine, command, now, owner, by, said)
