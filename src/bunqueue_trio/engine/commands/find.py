"""Handlers of the commands about whatever jobs a filter describes."""

from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.find import select, states_of, tally
from bunqueue_trio.engine.handler import Handlers, Owner
from bunqueue_trio.engine.job import Job
from bunqueue_trio.engine.lookup import listed
from bunqueue_trio.engine.many import act
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r

_EXAMPLES = 3


def _find(engine: Engine, command: c.FindJobs, now: int, owner: Owner) -> r.Reply:
    states = states_of(command.state)
    if command.count:
        told = tally(engine, command, states, command.after, now)
        return r.FoundReply(jobs=[], count=told.number, scanned=told.scanned, complete=told.is_full, next=told.after)
    found = select(engine, command, states, after=command.after, limit=command.limit, now=now)
    return r.FoundReply(
        jobs=[listed(job) for job in found.jobs], scanned=found.scanned, complete=found.is_full, next=found.after
    )


def _act(engine: Engine, command: c.ActOnJobs, now: int, owner: Owner) -> r.Reply:
    # "" and 0 mean all, too.
    if not any(getattr(command.filter, name) for name in command.filter.__struct_fields__):
        raise c.EMPTY_FILTER.refuse()
    if command.action == "priority" and command.priority is None:
        raise c.NO_PRIORITY.refuse()
    says_why = (command.reason, command.by, command.grace) != (None, None, None)
    if says_why and command.action != "cancel":
        raise c.ONLY_CANCELLED.refuse()
    if (command.to is None) == (command.action == "move"):
        raise (c.NO_TARGET if command.to is None else c.ONLY_MOVED).refuse()
    if command.to is not None:
        engine.queues.check(command.to)
    examples: list[r.ListedJob] = []

    def show(job: Job) -> None:
        if len(examples) < _EXAMPLES:
            examples.append(listed(job))

    done = act(engine, command, now, show)
    engine.acted = done.done > 0 and not command.dry_run
    return r.ActReply(
        count=done.done, ending=done.ending, refused=done.refused, scanned=done.selection.scanned, examples=examples, next=done.selection.after
    )  # fmt: skip


HANDLERS: Handlers = {c.FindJobs: _find, c.ActOnJobs: _act}
"""What of them the engine does in one step; the runtime makes slices of what is large."""
