"""What a schedule is to be, as it was said: whether that makes sense, and the plan that it makes."""

import msgspec
from msgspec import UNSET, Raw
from msgspec.structs import replace

from bunqueue_trio import errors
from bunqueue_trio.config import SCHEDULE_DATA_BYTES, SCHEDULES_MAX
from bunqueue_trio.engine import cron, zones
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.options import options_of
from bunqueue_trio.engine.planner import NAME, Plan
from bunqueue_trio.engine.timing import Timing, next_slot
from bunqueue_trio.protocol import commands as c

_WHENS = ("cron", "every", "at")
_NO_SEGMENT = ("preview", ".", "..")
"""What a path has another use for: browsers go to the folder before by ``..``, also where it is written ``%2E%2E``."""


def check_names(engine: Engine, name: str, queue: str) -> None:
    """Raise ``Refused`` when ``name`` cannot be a schedule's, or ``queue`` a queue's."""
    if not NAME.fullmatch(name) or name in _NO_SEGMENT:
        raise c.INVALID_SCHEDULE.refuse()
    engine.queues.check(queue)


def changed(was: "c.PutSchedule", said: "c.ChangeSchedule") -> "c.PutSchedule":
    """Return the command to put a schedule of which some fields change and the rest stays as it ``was``."""
    new = {
        name: value
        for name in said.__struct_fields__
        if name not in ("name", "data", "req_id") and (value := getattr(said, name)) is not UNSET
    }
    plain = c.PutSchedule(name=was.name, queue=was.queue)
    new = {name: getattr(plain, name) if value is None else value for name, value in new.items()}
    if any(name in new for name in _WHENS):
        new = dict.fromkeys(_WHENS) | new
    if bytes(said.data):
        new["data"] = said.data
    return replace(was, **new)


def as_put(name: str, plan: Plan) -> "c.PutSchedule":
    """Return the command that puts a schedule as it is."""
    timing = plan.timing
    return c.PutSchedule(
        name=name, queue=plan.queue, data=plan.data, cron=timing.cron, timezone=timing.timezone, every=timing.every, anchor=timing.anchor,
        at=timing.at, start=timing.start, end=timing.end, limit=plan.limit, jitter=plan.jitter, misfire=plan.misfire,
        misfire_max=plan.misfire_max, window=plan.window, overlap=plan.overlap, source=plan.source,
        options=msgspec.json.decode(plan.shown, type=c.RunOptions),
    )  # fmt: skip


def put(engine: Engine, name: str, plan: Plan, now: int) -> str:
    """Store a schedule; return what came of it, as :meth:`Planner.put` does.

    Raises:
        Refused: it would never run, or there are enough of them.
    """
    check_room(engine, name, plan, now)
    return engine.planner.put(name, plan, now)


def check_room(engine: Engine, name: str, plan: Plan, now: int, ahead: int = 0) -> None:
    """Raise ``Refused`` when a schedule would never run, or there are enough of them, with ``ahead`` new ones before it."""
    planner = engine.planner
    known = planner.plans.get(name)
    if known is None or known.timing != plan.timing:
        if next_slot(plan.timing, now) is None:
            raise c.NEVER_RUNS.refuse(why_never(plan.timing, now))
        if known is None and len(planner.plans) + ahead >= SCHEDULES_MAX:
            raise c.TOO_MANY_SCHEDULES.refuse(SCHEDULES_MAX)


def why_never(timing: Timing, now: int) -> str:
    """Return why a timing has no slot to come."""
    start, end, at = timing.start, timing.end, timing.at
    if start is not None and end is not None and end < start:
        return "its end is before its start"
    if end is not None and end <= now:
        return "its end has passed"
    if at is not None:
        if at <= now:
            return "its time has passed"
        return f"its time is {'after its end' if start is None or start <= at else 'before its start'}"
    # Without an end each has some, but for days that come less than once in 50 years.
    return "no time of it is to come before its end"


def plan_of(command: c.PutSchedule) -> Plan:
    """Return what is to be stored of a schedule.

    Raises:
        Refused: when it runs is not clear, or makes no sense.
    """
    if len(bytes(command.data)) > SCHEDULE_DATA_BYTES:
        raise errors.INVALID_FIELD.refuse("data", f"must be at most {SCHEDULE_DATA_BYTES} bytes in a schedule")
    options = command.options or c.RunOptions()
    as_pushed = c.PushSpec(data=Raw(b"0"), **msgspec.structs.asdict(options))
    return Plan(
        queue=command.queue,
        data=Raw(bytes(command.data) or b"null"),
        timing=timing_of(command),
        options=options_of(as_pushed, 0, {}),
        priority=options.priority,
        limit=command.limit,
        jitter=command.jitter,
        misfire=command.misfire,
        misfire_max=command.misfire_max,
        window=command.window,
        overlap=command.overlap,
        shown=Raw(msgspec.json.encode(_without_defaults(options))),
        source=command.source,
    )


def _without_defaults(options: c.RunOptions) -> c.RunOptions:
    """Return the same with every value that is a default left out, as msgspec does only where it is the very object."""
    plain = c.RunOptions()
    fields = msgspec.structs.asdict(options).items()
    return c.RunOptions(**{name: value for name, value in fields if value != getattr(plain, name)})


def timing_of(command: c.PutSchedule | c.PreviewSchedule) -> Timing:
    """Return when a schedule runs.

    Raises:
        Refused: it is not clear, or makes no sense.
    """
    if sum(each is not None for each in (command.cron, command.every, command.at)) != 1:
        raise c.WHEN_IS_UNCLEAR.refuse()
    if command.timezone not in zones.names():
        near = zones.near(command.timezone)
        raise c.NO_ZONE.refuse(f": do you mean {' or '.join(near)}?" if near else ", such as Europe/Berlin")
    if command.cron is not None:
        try:
            cron.check(command.cron)
        except cron.BadExpression as bad:
            raise c.NO_CRON.refuse(bad) from None
    return Timing(command.cron, command.timezone, command.every, command.anchor, command.at, command.start, command.end)
