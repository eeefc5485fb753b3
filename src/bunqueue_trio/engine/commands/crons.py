"""Handlers of the original's commands about what runs by the clock, on the same schedules."""

from msgspec.structs import replace

from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.firing import run_now
from bunqueue_trio.engine.handler import Handlers, Owner
from bunqueue_trio.engine.putting import check_names, plan_of, put
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r


def _cron(engine: Engine, command: c.Cron, now: int, owner: Owner) -> r.Reply:
    if (command.schedule is None) is (command.repeat_every is None):
        raise c.CRON_IS_UNCLEAR.refuse()
    check_names(engine, command.name, command.queue)
    known = engine.planner.plans.get(command.name)
    # As in the original it counts from now; put once more it goes on as it was.
    anchor = 0 if command.repeat_every is None else now
    if known is not None and command.repeat_every is not None and known.timing.every == command.repeat_every:
        anchor = known.timing.anchor
    options = command.job_options or c.RunOptions()
    name = options.name if command.job_name == c.UNNAMED else command.job_name
    plan = plan_of(
        c.PutSchedule(
            name=command.name,
            queue=command.queue,
            data=command.data,
            cron=command.schedule,
            timezone=command.timezone or "UTC",
            every=command.repeat_every,
            anchor=anchor,
            limit=command.max_limit,
            misfire="skip" if command.skip_missed_on_restart else "once",
            overlap="skip" if command.prevent_overlap else "allow",
            options=replace(options, priority=command.priority or options.priority, name=name),
        )
    )
    outcome = put(engine, command.name, plan, now)
    engine.acted = outcome != "unchanged"
    if command.immediately and outcome == "created":
        run_now(engine, command.name, now)
    return c.CronReply(cron=_view(engine, command.name))


def _check(engine: Engine, name: str) -> None:
    if name not in engine.planner.plans:
        raise c.CRON_NOT_FOUND.refuse()


def _get(engine: Engine, command: c.CronGet, now: int, owner: Owner) -> r.Reply:
    _check(engine, command.name)
    return c.CronReply(cron=_view(engine, command.name))


def _list(engine: Engine, command: c.CronList, now: int, owner: Owner) -> r.Reply:
    after, limit = command.after or "", command.limit
    found = engine.planner.names_after(after, limit + 1)
    names = found[:limit]
    return c.CronsReply(crons=[_view(engine, name) for name in names], next=names[-1] if len(found) > limit else None)


def _delete(engine: Engine, command: c.CronDelete, now: int, owner: Owner) -> r.Reply:
    _check(engine, command.name)
    engine.planner.delete(command.name)
    return r.OK


def _view(engine: Engine, name: str) -> c.CronView:
    planner = engine.planner
    plan = planner.plans[name]
    timing = plan.timing
    return c.CronView(
        name=name,
        job_name=plan.options.name or c.UNNAMED,
        queue=plan.queue,
        schedule=timing.cron,
        repeat_every=timing.every,
        next_run=planner.run_at(name),
        executions=planner.progress[name].runs,
        max_limit=plan.limit,
        timezone=None if timing.timezone == "UTC" else timing.timezone,
        priority=plan.priority,
    )


HANDLERS: Handlers = {c.Cron: _cron, c.CronGet: _get, c.CronList: _list, c.CronDelete: _delete}
