"""What can be done to each of many jobs, what forbids it, and doing it to those that a filter describes."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from bunqueue_trio import errors
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.find import Selection, select, states_of
from bunqueue_trio.engine.job import UNFINISHED, Job, State
from bunqueue_trio.engine.lookup import reason_of
from bunqueue_trio.engine.moves import CANCELLED
from bunqueue_trio.engine.retries import archived_dependencies, key_is_held, requeue, waits_for_a_dead_one
from bunqueue_trio.protocol import commands as c

JOB_CANCELLED = "job-cancelled"
"""Why a dead letter is not retried with others that was cancelled: on purpose; it is retried by its id, or not at all."""

DEPENDENCY_DEAD = "dependency-dead"
"""Why a dead letter is not retried that depends on another one."""

_RESTING = (State.WAITING, State.DELAYED, State.WAITING_CHILDREN)


class Doing(NamedTuple):
    """What is done in one step."""

    engine: Engine
    command: "c.ActOnJobs"
    outcomes: Mapping[str, State]
    """How dependencies of dead letters have ended."""
    now: int


class Action(NamedTuple):
    """What is done to a job."""

    states: tuple[State, ...]
    """The state that the jobs are in, where the filter names none."""
    forbids: Callable[[Doing, Job], str | None]
    """Returns the code of the refusal, or None."""
    act: Callable[[Doing, Job], object]


def _ended(doing: Doing, job: Job) -> str | None:
    """An unfinished job of the selection may have ended with one before it."""
    if job.state not in UNFINISHED:
        return errors.JOB_NOT_FOUND.code
    return c.IS_ACTIVE.code if job.state is State.ACTIVE and not doing.command.force else None


def _not_delayed(doing: Doing, job: Job) -> str | None:
    return None if job.state is State.DELAYED else c.NOT_DELAYED.code


def _not_resting(doing: Doing, job: Job) -> str | None:
    if job.state not in UNFINISHED:
        return errors.JOB_NOT_FOUND.code
    return c.IS_ACTIVE.code if job.state is State.ACTIVE else None


def _not_dead(doing: Doing, job: Job) -> str | None:
    return None if job.state is State.FAILED else c.NOT_DEAD.code


def _not_retried(doing: Doing, job: Job) -> str | None:
    return not_retried(doing.engine, job, doing.outcomes)


def not_retried(engine: Engine, job: Job, outcomes: Mapping[str, State]) -> str | None:
    """Return the code of the refusal to retry ``job`` among others, or None; ``outcomes``: how its dependencies ended."""
    if job.state is not State.FAILED:
        return c.NOT_DEAD.code
    if reason_of(job) == CANCELLED:
        return JOB_CANCELLED
    if key_is_held(engine, job):
        return c.KEY_IS_HELD.code
    return DEPENDENCY_DEAD if waits_for_a_dead_one(engine, job, outcomes) else None


def _reorder(doing: Doing, job: Job) -> None:
    priority = doing.command.priority
    assert priority is not None
    doing.engine.reorder(job, priority, None)
    doing.engine.tell("updated", doing.now, job.queue, job.id)


def _not_moved(doing: Doing, job: Job) -> str | None:
    """The queue that a job comes into may have another one with its key."""
    code, key = _not_resting(doing, job), job.options.unique_key
    if code is not None or key is None:
        return code
    queue = doing.engine.queues.get(doing.command.to or "")
    return c.KEY_IS_HELD.code if queue is not None and key in queue.keys else None


def _move(doing: Doing, job: Job) -> None:
    assert doing.command.to is not None
    doing.engine.put_into(job, doing.command.to, doing.now)


def _is_so(doing: Doing, job: Job) -> bool:
    """Return whether it would change nothing of a job."""
    if doing.command.action == "priority":
        return job.priority == doing.command.priority
    if doing.command.action == "move":
        return job.queue == doing.command.to
    if doing.command.action != "cancel" or not doing.command.force:
        return False
    return doing.engine.is_cancelled_so(job, doing.command, doing.now)


ACTIONS: dict[str, Action] = {
    "cancel": Action(UNFINISHED, _ended, lambda doing, job: doing.engine.cancel_as_said(job, doing.command, doing.now)),
    "promote": Action((State.DELAYED,), _not_delayed, lambda doing, job: doing.engine.promote(job, doing.now)),
    "discard": Action(UNFINISHED, _ended, lambda doing, job: doing.engine.discard(job, doing.now)),
    "retry": Action((State.FAILED,), _not_retried, lambda doing, job: requeue(doing.engine, job, doing.now)),
    "purge": Action((State.FAILED,), _not_dead, lambda doing, job: doing.engine.replace(job.id, job.queue)),
    "priority": Action(_RESTING, _not_resting, _reorder),
    "move": Action(_RESTING, _not_moved, _move),
}


class Acted(NamedTuple):
    """What was selected, how many jobs of it were done, and how many were not, by the code of the refusal."""

    selection: Selection
    done: int
    ending: int
    """Of those that were done: active ones that are cancelled, and whose workers have time to end them."""
    refused: dict[str, int]


def act(engine: Engine, command: "c.ActOnJobs", now: int, show: Callable[[Job], object]) -> Acted:
    """Do ``command`` to as many as its limit says; in a dry run, say what would be done.

    ``show`` is given each job that it is done to, as it is before.

    Raises:
        Refused: as :func:`select`, or there is no such state; nothing was changed.
    """
    action, wanted = ACTIONS[command.action], command.filter
    states = states_of(wanted.state, action.states)
    retries = command.action == "retry"
    # Newest end first is for who looks; they queue in the order in which they died.
    oldest = retries and states == [State.FAILED]
    selection = select(
        engine, wanted, states, after=command.after, limit=command.limit, now=now, as_of=command.as_of, oldest=oldest
    )
    doing = Doing(engine, command, archived_dependencies(engine, selection.jobs) if retries else {}, now)
    count, ending, refused = 0, 0, dict[str, int]()
    for job in selection.jobs:
        if _is_so(doing, job):
            # Also a job that has just got this priority, and stands behind the cursor now.
            continue
        code = action.forbids(doing, job)
        if code is not None:
            refused[code] = refused.get(code, 0) + 1
            continue
        count += 1
        show(job)
        ending += bool(command.grace) and job.state is State.ACTIVE
        if not command.dry_run:
            action.act(doing, job)
    return Acted(selection, count, ending, refused)
