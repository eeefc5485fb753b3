"""Handlers of the commands about schedules."""

from itertools import islice

from bunqueue_trio.config import REPLAY_BYTES, UPCOMING_MS
from bunqueue_trio.engine import zones
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.firing import run_now
from bunqueue_trio.engine.handler import Handlers, Owner
from bunqueue_trio.engine.job import Job, Trace
from bunqueue_trio.engine.lookup import begun_at
from bunqueue_trio.engine.planner import RUN, Planner, Skip, job_id_of, place_of
from bunqueue_trio.engine.putting import as_put, changed, check_names, check_room, plan_of, put, timing_of, why_never
from bunqueue_trio.engine.timing import Timing, jitter_ms, next_slot, remarks
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol import scheduled as s

_REPEATS = "~"
"""What stands before the id of a job in the cursor of a page: it comes behind the names of all schedules."""
# Characters of an error in a list.
_ERROR_SHOWN = 1000


def _put(engine: Engine, command: c.PutSchedule, now: int, owner: Owner) -> r.Reply:
    check_names(engine, command.name, command.queue)
    plan = plan_of(command)
    if command.dry_run:
        check_room(engine, command.name, plan, now, command.ahead)
        engine.acted = False
        would = engine.planner.alone(command.name, now)
        outcome = would.put(command.name, plan, now)
        return s.ScheduleReply(schedule=_view(would, command.name), outcome=outcome)
    outcome = put(engine, command.name, plan, now)
    engine.acted = outcome != "unchanged"
    return s.ScheduleReply(schedule=_view(engine.planner, command.name), outcome=outcome)


def _change(engine: Engine, command: c.ChangeSchedule, now: int, owner: Owner) -> r.Reply:
    _check(engine, command.name)
    return _put(engine, changed(as_put(command.name, engine.planner.plans[command.name]), command), now, owner)


def _check(engine: Engine, name: str) -> None:
    if name not in engine.planner.plans:
        raise c.SCHEDULE_NOT_FOUND.refuse()


def _get(engine: Engine, command: c.GetSchedule, now: int, owner: Owner) -> r.Reply:
    _check(engine, command.name)
    return s.ScheduleReply(schedule=_view(engine.planner, command.name), outcome="read")


def _list(engine: Engine, command: c.ListSchedules, now: int, owner: Owner) -> r.Reply:
    after, limit = command.after or "", command.limit
    found = engine.planner.names_after(after, limit + 1)
    names, size = list[str](), 0
    for name in found[:limit]:
        names.append(name)
        size += len(bytes(engine.planner.plans[name].data))
        # A page of large payloads ends early.
        if size >= REPLAY_BYTES:
            break
    following = names[-1] if len(found) > len(names) else None
    repeats: list[s.RepeatView] = []
    if following is None and len(names) < limit:
        some = list(
            islice(
                engine.repeating.after(after.removeprefix(_REPEATS) if after > _REPEATS else ""), limit - len(names) + 1
            )
        )
        repeats = [_repeat(job) for job in some[: limit - len(names)]]
        following = _REPEATS + repeats[-1].job if len(some) > len(repeats) else None
    elif following is None and engine.repeating:
        following = _REPEATS
    return s.SchedulesReply(schedules=[_view(engine.planner, name) for name in names], repeats=repeats, next=following)


def _repeat(job: Job) -> s.RepeatView:
    series = job.options.series
    assert series is not None
    return s.RepeatView(
        name=series.name, job=job.id, queue=job.queue, state=job.state.value, every=series.every, limit=series.limit,
        run=series.run, due=series.due,
    )  # fmt: skip


def _view(planner: Planner, name: str) -> s.ScheduleView:
    plan, progress = planner.plans[name], planner.progress[name]
    is_over = planner.slots[name] is None and progress.waiting is None
    timing = plan.timing
    return s.ScheduleView(
        name=name,
        queue=plan.queue,
        data=plan.data,
        cron=timing.cron,
        timezone=timing.timezone,
        every=timing.every,
        anchor=timing.anchor,
        at=timing.at,
        start=timing.start,
        end=timing.end,
        limit=plan.limit,
        jitter=plan.jitter,
        misfire=plan.misfire,
        misfire_max=plan.misfire_max,
        window=plan.window,
        overlap=plan.overlap,
        options=plan.shown,
        source=plan.source,
        state="paused" if progress.paused is not None else "ended" if is_over else "active",
        created_at=progress.created,
        updated_at=progress.updated,
        paused_at=progress.paused,
        next_run=planner.run_at(name),
        runs=progress.runs,
        last_job=progress.jobs[-1] if progress.jobs else None,
        waiting_slot=progress.waiting,
    )


def _delete(engine: Engine, command: c.DeleteSchedule, now: int, owner: Owner) -> r.Reply:
    _check(engine, command.name)
    engine.planner.delete(command.name)
    return r.OK


def _pause(engine: Engine, command: c.PauseSchedule, now: int, owner: Owner) -> r.Reply:
    _check(engine, command.name)
    progress = engine.planner.progress[command.name]
    engine.acted = progress.paused is None
    if engine.acted:
        progress.paused = now
        engine.planner.keep(command.name)
        engine.planner.arm(command.name, None)
    return r.OK


def _resume(engine: Engine, command: c.ResumeSchedule, now: int, owner: Owner) -> r.Reply:
    _check(engine, command.name)
    engine.acted = engine.planner.progress[command.name].paused is not None
    if engine.acted:
        engine.planner.resume(command.name, now)
    return r.OK


def _run(engine: Engine, command: c.RunSchedule, now: int, owner: Owner) -> r.Reply:
    _check(engine, command.name)
    return r.PushReply(id=run_now(engine, command.name, now))


def _preview(engine: Engine, command: c.PreviewSchedule, now: int, owner: Owner) -> r.Reply:
    timing = timing_of(command)
    first = next_slot(timing, now)
    if first is None:
        raise c.NEVER_RUNS.refuse(why_never(timing, now))
    return s.SchedulePreview(upcoming=_upcoming("", timing, 0, first, command.next), rules=zones.version())


def _upcoming(name: str, timing: Timing, jitter: int, first: int | None, limit: int) -> list[s.Upcoming]:
    found: list[s.Upcoming] = []
    slot, end, run_at = first, (first or 0) + UPCOMING_MS, 0
    while slot is not None and slot <= end and len(found) < limit:
        # Each in its turn, also behind one with a longer jitter.
        local, run_at = zones.local_text(timing.timezone, slot), max(run_at, slot + jitter_ms(name, slot, jitter))
        found.append(s.Upcoming(slot=slot, run_at=run_at, local=local, remarks=remarks(timing, slot)))
        slot = next_slot(timing, slot)
    return found


def _runs(engine: Engine, command: c.GetScheduleRuns, now: int, owner: Owner) -> r.Reply:
    name = command.name
    _check(engine, name)
    plan = engine.planner.plans[name]
    upcoming = _upcoming(name, plan.timing, plan.jitter, engine.planner.slots[name], command.next)
    if plan.limit is not None:
        upcoming = upcoming[: plan.limit - engine.planner.taken(name)]
    past, before = _past(engine, name, command.before, command.limit)
    return s.ScheduleRuns(upcoming=upcoming, past=past, next=before, rules=zones.version())


def _past(engine: Engine, name: str, before: str | None, limit: int) -> tuple[list[s.Past], str | None]:
    """Return what became of the slots before the cursor ``before``, newest first, and the cursor of the next page.

    Raises:
        Refused: no page has such a cursor.
    """
    # A colon comes after all digits.
    first, end = f"{name}@", f"{name}@:"
    if before is not None:
        cursor = RUN.fullmatch(before)
        if cursor is None:
            raise c.NOT_A_SLOT.refuse()
        end = job_id_of(name, int(cursor[1]), cursor[2] or "")
    found: dict[tuple[int, str], s.Past] = {}
    for skip in engine.planner.skips(name):
        found[skip.first, ""] = _skipped(skip)
    for job_id in engine.planner.progress[name].jobs:
        found[_place(name, job_id)] = _gone(name, job_id, engine.planner.progress[name].cancelled.get(job_id))
    for trace in engine.archive.traces(first, end, limit + 1):
        if RUN.fullmatch(trace.id.removeprefix(first)):
            found[_place(name, trace.id)] = _ended(name, trace)
    # Whose end is not committed yet.
    ended = (engine.jobs.find(job_id) for job_id in engine.planner.progress[name].jobs)
    for job in (*islice(engine.planner.unfinished_before(name, end), limit + 1), *ended):
        if job is not None:
            found[_place(name, job.id)] = _present(name, job)
    upto = None if before is None else _place(name, end)
    places = sorted((place for place in found if upto is None or place < upto), reverse=True)
    page = places[:limit]
    return [found[place] for place in page], place_of(*page[-1]) if len(places) > limit else None


def _place(name: str, job_id: str) -> tuple[int, str]:
    """Return where a job stands among the slots of its schedule: by its slot, or by when somebody let it run."""
    found = RUN.fullmatch(job_id.removeprefix(f"{name}@"))
    assert found is not None
    return int(found[1]), found[2] or ""


def _skipped(skip: Skip) -> s.Past:
    return s.Past(slot=skip.first, until=skip.last, outcome="skipped", why=skip.why)


def _gone(name: str, job_id: str, cancelled_by: int | None) -> s.Past:
    slot = _place(name, job_id)[0]
    if cancelled_by is not None:
        why = f"overlap cancel: it had not ended when the slot of {job_id_of(name, cancelled_by)} came"
        return s.Past(slot=slot, until=slot, outcome="cancelled", job=job_id, why=why)
    why = "no record is left: it was cancelled, has expired, keeps none, or that was deleted"
    return s.Past(slot=slot, until=slot, outcome="gone", job=job_id, why=why)


def _ended(name: str, trace: Trace) -> s.Past:
    slot, told = _place(name, trace.id)
    took = None if trace.started_at is None or trace.finished_at is None else trace.finished_at - trace.started_at
    return s.Past(
        slot=slot,
        until=slot,
        outcome=trace.state.value,
        why="told to run" if told else None,
        job=trace.id,
        started_at=trace.started_at,
        ended_at=trace.finished_at,
        took=took,
        error=trace.error and trace.error[:_ERROR_SHOWN],
    )


def _present(name: str, job: Job) -> s.Past:
    note = job.note
    error, ended = (None, None) if note is None else (note.error, note.finished_at)
    return _ended(name, Trace(job.id, job.state, begun_at(job), ended, error))


HANDLERS: Handlers = {
    c.PutSchedule: _put,
    c.ChangeSchedule: _change,
    c.GetSchedule: _get,
    c.ListSchedules: _list,
    c.DeleteSchedule: _delete,
    c.PauseSchedule: _pause,
    c.ResumeSchedule: _resume,
    c.RunSchedule: _run,
    c.PreviewSchedule: _preview,
    c.GetScheduleRuns: _runs,
}
