"""What happens when a schedule is due: which of its slots bring a job, and what is said of those that do not.

A slot brings at most one job: its id is made of the schedule's name and the slot, and the schedule moves past the slot in
the very step that makes the job, so that one transaction writes both.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple

from bunqueue_trio.config import ADVANCE_MAX, LATE_MS, SLOT_CHORES, SLOT_JOBS_KEPT
from bunqueue_trio.engine.failing import note_blocked
from bunqueue_trio.engine.moves import Moves
from bunqueue_trio.engine.planner import LATE, Notice, Plan, Planner, job_id_of
from bunqueue_trio.engine.timing import jitter_ms, last_slots, next_slot
from bunqueue_trio.errors import StoreError

MISSED = "missed: the server was not there, or too busy, when it was due"

# Slots in time that one step deals with.
_IN_A_STEP = 25
# Jobs that one slot cancels in a step.
_CANCELS = 100


class _Turn(NamedTuple):
    """What a schedule is to do with the slots that are due: what is said of them, and of which a job may be made."""

    times: list[int]
    following: int | None
    """The slot to come."""
    chosen: list[int]
    late: int
    """Slots up to this one are late."""


def fire(engine: Moves, names: Sequence[str], upto: int, now: int) -> None:
    """Let schedules deal with the slots that were due by ``upto``, as it was to be done then, for as much work as ``engine.left``; those behind stay due.

    All that is to be known of the archive is asked first: until then nothing is changed.
    """
    turns = {name: _turn(engine.planner, name, upto) for name in names}
    there = _there_already(engine, turns)
    for name, turn in turns.items():
        if engine.left <= 0:
            break
        engine.left -= _fire(engine, name, turn, there, now)


def _turn(planner: Planner, name: str, upto: int) -> _Turn | None:
    """Return what is due of a schedule by ``upto`` but the slot that waits; None: nothing."""
    plan, first = planner.plans[name], planner.slots[name]
    if first is None or first + jitter_ms(name, first, plan.jitter) > upto:
        return None
    late = upto - planner.patience(name, first) - LATE_MS - 1
    times, following = _due_slots(name, plan, upto, first=first, late=late)
    is_another_due = times[-1] > late or (following is not None and following <= upto)
    return _Turn(times, following, _chosen(plan, times, late, upto, is_another_due=is_another_due), late)


def _there_already(engine: Moves, turns: Mapping[str, _Turn | None]) -> Collection[str]:
    """Return which of the jobs that may be made now have ended before; a file that came back from a backup may have them."""
    ids = []
    for name, turn in turns.items():
        waiting = engine.planner.progress[name].waiting
        slots = [*([] if waiting is None else [waiting]), *(() if turn is None else turn.chosen)]
        ids += [job_id for slot in slots if (job_id := job_id_of(name, slot)) not in engine.jobs]
    try:
        return engine.archive.outcomes(ids) if ids else ()
    except StoreError:
        # The schedule's own memory says that there was none, and a disk that cannot be read stops no schedule.
        return ()


def _fire(engine: Moves, name: str, turn: _Turn | None, there: Collection[str], now: int) -> int:
    """Deal with the slots of a schedule that are due; return what it costs, in chores."""
    planner = engine.planner
    plan, progress, first = planner.plans[name], planner.progress[name], planner.slots[name]
    if progress.waiting is not None and _is_way_free(engine, name, plan, progress.waiting, now):
        slot, progress.waiting = progress.waiting, None
        _claim(engine, name, slot, there, now)
        planner.keep(name)
    if planner.is_cancelling(name):
        # Those to come are dealt with in their turn, behind it.
        planner.arm(name, first)
        return ADVANCE_MAX
    if turn is None or first is None:
        planner.arm(name, first)
        return SLOT_CHORES
    times, following, chosen, late = turn
    missed = [slot for slot in times if not chosen or slot < chosen[0]]
    if missed:
        planner.skip(name, first, missed[-1], MISSED)
        planner.settle(name, missed[-1])
    last, made_up = max((slot for slot in times if slot <= late), default=first), 0
    for slot in chosen:
        if planner.is_spent(name):
            # Nobody expects another one.
            break
        before = planner.taken(name)
        _bring(engine, name, plan, slot, there, now)
        made_up += (planner.taken(name) - before) * (slot <= late)
        planner.settle(name, slot)
        if planner.is_cancelling(name):
            last, following = min(last, slot), next_slot(plan.timing, slot)
            break
    planner.keep(name)
    planner.arm(name, following)
    if first <= late:
        planner.note_late(Notice(name, LATE, first, last, made_up))
    return ADVANCE_MAX if planner.is_cancelling(name) else SLOT_CHORES * (1 + len(chosen)) // 2


def run_now(engine: Moves, name: str, now: int) -> str:
    """Bring a job beside the slots; return its id."""
    job_id = job_id_of(name, now, f"+{engine.new_id(now)}")
    _make(engine, name, job_id, now)
    engine.planner.keep(name)
    return job_id


def _due_slots(name: str, plan: Plan, now: int, *, first: int, late: int) -> tuple[list[int], int | None]:
    """Return slots from ``first`` on that are due, and the slot to come; ``first`` is, too.

    Of those that are late, which are those up to ``late``, the last; of those in time as many as one step deals with, for the slot to come may be due as well.
    """
    times, following = [first], next_slot(plan.timing, first)
    if following is not None and following <= late:
        # One slot more than may run, to know up to where slots were missed.
        limit = 1 + (plan.misfire_max if plan.misfire == "all" else 1)
        times = last_slots(plan.timing, first - 1, late, limit).times
        following = next_slot(plan.timing, times[-1])
    most = _IN_A_STEP + (len(times) if first <= late else 0)
    # Each in its turn, also where one has a longer jitter than the next.
    while following is not None and len(times) < most and following + jitter_ms(name, following, plan.jitter) <= now:
        times.append(following)
        following = next_slot(plan.timing, following)
    return times, following


def _chosen(plan: Plan, times: list[int], late: int, now: int, *, is_another_due: bool) -> list[int]:
    """Return which of the due slots bring a job: all that are in time, and of those up to ``late`` the ones that the schedule wants.

    The last late one is not wanted where a slot in time runs now, or only waits for the end of its jitter.
    """
    missed = [slot for slot in times if slot <= late]
    in_time = times[len(missed) :]
    if plan.misfire == "skip" or (is_another_due and plan.misfire == "once"):
        return in_time
    oldest = 0 if plan.window is None else now - plan.window
    wanted = missed[-plan.misfire_max :] if plan.misfire == "all" else missed[-1:]
    return [slot for slot in wanted if slot >= oldest] + in_time


def _bring(engine: Moves, name: str, plan: Plan, slot: int, there: Collection[str], now: int) -> None:
    """Let a slot bring its job; where others stand in the way it waits, or is skipped."""
    planner, progress = engine.planner, engine.planner.progress[name]
    if plan.overlap == "allow" or _is_way_free(engine, name, plan, slot, now):
        _claim(engine, name, slot, there, now)
    elif plan.overlap != "skip" and progress.waiting is None:
        progress.waiting = slot
    else:
        oldest = planner.oldest_of(name)
        assert oldest is not None
        note_blocked(progress, oldest.id, slot)
        planner.skip(name, slot, slot, f"job {oldest.id} had not ended")


def _is_way_free(engine: Moves, name: str, plan: Plan, slot: int, now: int) -> bool:
    """Return whether ``slot`` may have its job, because no job of the schedule is unfinished; cancel some of them if that is wanted."""
    oldest = engine.planner.oldest_of
    if plan.overlap == "cancel":
        for job in islice(iter(partial(oldest, name), None), _CANCELS):
            engine.planner.note_cancelled(name, job.id, slot)
            engine.drop(job, now)
    return oldest(name) is None


def _claim(engine: Moves, name: str, slot: int, there: Collection[str], now: int) -> None:
    """Make the job of a slot, unless there was one."""
    job_id = job_id_of(name, slot)
    engine.planner.progress[name].runs += 1
    if job_id in engine.jobs or job_id in there:
        engine.planner.skip(name, slot, slot, f"job {job_id} was there already")
    else:
        _make(engine, name, job_id, now)


def _make(engine: Moves, name: str, job_id: str, now: int) -> None:
    plan, progress = engine.planner.plans[name], engine.planner.progress[name]
    engine.add(
        job_id, engine.queues.open(plan.queue), bytes(plan.data), plan.options,
        priority=plan.priority, run_at=now, waiting_on=set(), now=now,
    )  # fmt: skip
    engine.tell("scheduled", now, plan.queue, job_id).name = name
    progress.jobs = [*progress.jobs, job_id][-SLOT_JOBS_KEPT:]
