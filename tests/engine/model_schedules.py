"""Schedules of the naive queue: all slots of a time are listed, and each is looked at."""

import functools
import hashlib
import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import takewhile
from typing import Any

import msgspec
from msgspec import Raw

from bunqueue_trio.protocol import commands as c
from tests.engine import minutes
from tests.engine.model import HOUR, No, Record, Reply, Snapshot
from tests.engine.model_configs import filled
from tests.engine.model_queues import Queues

AT_ONCE = 25
IN_TIME = 60_000


@dataclass
class Schedule:
    """All that is true of one schedule."""

    said: c.PutSchedule
    settled: int
    created: int
    updated: int
    runs: int = 0
    jobs: list[str] = field(default_factory=list)
    waiting: int | None = None
    paused: int | None = None
    skips: list[tuple[int, int, str]] = field(default_factory=list)
    troubles: dict[str, dict[str, Any]] = field(default_factory=dict)
    cancelled: dict[str, int] = field(default_factory=dict)
    """Its jobs that a later slot has cancelled, and which."""
    longest: int = 0
    """The longest jitter that a slot from before ``updated`` may have come with."""

    def slots(self, after: int, upto: int) -> list[int]:
        """Every slot of a time."""
        said = self.said
        low, high = max(after + 1, said.start or 0), min(upto, upto if said.end is None else said.end)
        if said.at is not None:
            found = [said.at]
        elif said.every is not None:
            first = low + (said.anchor - low) % said.every
            found = list(range(first, high + 1, said.every))
        else:
            hours = range(low // HOUR, high // HOUR + 1)
            found = [slot for hour in hours for slot in of_hour(said.cron or "", hour)]
        return [slot for slot in found if low <= slot <= high]

    def next(self) -> int | None:
        """The next slot."""
        if self.paused is not None:
            return None
        if self.is_spent():
            return None
        horizon = self.said.at or max(self.settled, self.said.start or 0) + (self.said.every or HOUR)
        return next(iter(self.slots(self.settled, horizon)), None)

    def runs_at(self, slot: int) -> int:
        """When a slot runs: its jitter is a share of the most that there may be, drawn from its name and time."""
        drawn = int(hashlib.sha256(f"{self.said.name}:{slot}".encode()).hexdigest()[:16], 16)
        return slot + drawn * self.said.jitter // 2**64

    def next_run(self) -> int | None:
        slot = self.next()
        return None if slot is None else self.runs_at(slot)

    def may_wait(self, slot: int) -> int:
        """How long a slot waits at most, by any jitter that was said since it came."""
        return max(self.said.jitter, self.longest) if slot <= self.updated else self.said.jitter

    def is_spent(self) -> bool:
        return self.said.limit is not None and self.runs + (self.waiting is not None) >= self.said.limit

    def leave_behind(self, now: int) -> None:
        """What is not dealt with never runs; what would have run is noted."""
        slots = [] if self.is_spent() else self.slots(self.settled, now)
        if slots:
            why = "another time or overlap was put before it ran" if self.paused is None else "paused"
            self.skip(slots[0], now, why)
        self.settled = max(self.settled, now)

    def become(self, said: c.PutSchedule, is_new_time: bool, now: int) -> None:
        """Another is put under this name."""
        kept, why = self.waiting, None
        if is_new_time or self.said.overlap != said.overlap:
            why = "another time or overlap was put before it ran"
            self.troubles = {name: what for name, what in self.troubles.items() if name != "blocked"}
        elif said.limit is not None and self.runs + 1 > said.limit:
            why = "a lower limit was put before it ran"
        if why is not None and kept is not None:
            self.skip(kept, kept, why)
            kept = None
        if is_new_time or self.is_spent():
            self.leave_behind(now)
        undone = self.slots(self.settled, now)
        self.longest = self.may_wait(undone[0]) if undone else 0
        self.said, self.updated, self.waiting = said, now, kept

    def skip(self, first: int, last: int, why: str) -> None:
        kept = self.skips
        if kept and kept[-1][2] == why and kept[-1][1] == self.settled:
            first, kept = kept[-1][0], kept[:-1]
        self.skips = [*kept, (first, last, why)][-20:]


@functools.cache
def of_hour(text: str, hour: int) -> list[int]:
    """The slots of an expression in one hour of UTC."""
    walked = list(minutes.clocks("UTC", hour * 3600, hour * 3600 + 3600))
    return [slot * 1000 for slot in minutes.slots(text, walked)]


def options(said: c.PutSchedule) -> c.RunOptions:
    return said.options or c.RunOptions()


class Schedules(Queues):
    """Queues, and what brings jobs by itself."""

    def __init__(self, *args: Any, **how: Any) -> None:
        super().__init__(*args, **how)
        self.schedules: dict[str, Schedule] = {}

    # --- what the world does to it ------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        return super().snapshot()._replace(schedules={name: replace(each) for name, each in self.schedules.items()})

    def restart(self, snapshot: Snapshot, now: int) -> None:
        super().restart(snapshot, now)
        self.schedules = {name: replace(each) for name, each in snapshot.schedules.items()}

    def open_jobs(self, name: str) -> list[str]:
        """The ids of all jobs of a schedule that have not ended, the oldest slot first."""
        of_it = re.compile(re.escape(name) + "@[0-9]{1,15}([+][0-9A-Za-z-]{1,40})?")
        return sorted(job.id for job in self.jobs if of_it.fullmatch(job.id))

    def due_of(self, schedule: Schedule) -> int | None:
        if schedule.paused is None and schedule.waiting is not None and not self.open_jobs(schedule.said.name):
            return 0
        return schedule.next_run()

    def next_due(self) -> int | None:
        dues = [super().next_due(), *map(self.due_of, self.schedules.values())]
        return min((due for due in dues if due is not None), default=None)

    def advance(self, now: int) -> None:
        while True:
            super().advance(now)
            due = [(time, name) for name, each in self.schedules.items() if (time := self.due_of(each)) is not None]
            if not due or min(due)[0] > now:
                return
            self.run_due(min(due)[1], now)

    def run_due(self, name: str, now: int) -> None:
        schedule = self.schedules[name]
        said = schedule.said
        if schedule.waiting is not None and not self.open_jobs(name):
            slot, schedule.waiting = schedule.waiting, None
            self.bring(name, slot, now)
        if (schedule.next_run() or now + 1) > now:
            return
        slots = schedule.slots(schedule.settled, now)
        late = [slot for slot in slots if now - slot > IN_TIME + schedule.may_wait(slots[0])]
        is_one_in_time = late != slots
        in_time = list(takewhile(lambda slot: schedule.runs_at(slot) <= now, slots[len(late) :]))[:AT_ONCE]
        slots = late + in_time
        wanted = late[-said.misfire_max :] if said.misfire == "all" else late[-1:]
        if said.misfire == "skip" or (said.misfire == "once" and is_one_in_time):
            wanted = []
        if said.window is not None:
            wanted = [slot for slot in wanted if now - slot <= said.window]
        wanted += in_time
        before = [slot for slot in slots if not wanted or slot < wanted[0]]
        if before:
            schedule.skip(before[0], before[-1], "missed: the server was not there, or too busy, when it was due")
            schedule.settled = before[-1]
        for slot in wanted:
            if not schedule.is_spent():
                self.keep(name, slot, now)
                schedule.settled = slot

    def keep(self, name: str, slot: int, now: int) -> None:
        schedule = self.schedules[name]
        open_jobs = self.open_jobs(name)
        how = schedule.said.overlap
        if not open_jobs or how == "allow":
            self.bring(name, slot, now)
        elif how == "cancel":
            for job_id in open_jobs:
                schedule.cancelled = schedule.cancelled | {job_id: slot}
                self.drop(next(job for job in self.jobs if job.id == job_id), now)
            self.bring(name, slot, now)
        elif how == "queue" and schedule.waiting is None:
            schedule.waiting = slot
        else:
            schedule.skip(slot, slot, f"job {open_jobs[0]} had not ended")

    def bring(self, name: str, slot: int, now: int) -> None:
        self.schedules[name].runs += 1
        self.make(name, f"{name}@{slot:013}", now)

    def make(self, name: str, job_id: str, now: int) -> Record:
        schedule = self.schedules[name]
        how = {f: getattr(options(schedule.said), f) for f in c.RunOptions.__struct_fields__}
        spec = filled(c.JobSpec(data=Raw(bytes(schedule.said.data) or b"null"), **how), {})
        schedule.jobs = [*schedule.jobs, job_id][-10:]
        job = self.add(job_id, schedule.said.queue, spec, None, (), 1, now, now, frozenset(), now)
        self.tell("scheduled", now, queue=schedule.said.queue, jobId=job_id, name=name)
        return job

    # --- the commands -------------------------------------------------------------------------------

    def known_schedule(self, name: str) -> Schedule:
        if name not in self.schedules:
            raise No(404, "Schedule not found")
        return self.schedules[name]

    def put_schedule(self, command: c.PutSchedule, now: int, owner: str | None) -> Reply:
        if not re.fullmatch("[A-Za-z0-9_.:-]{1,200}", command.name) or command.name in ("preview", ".", ".."):
            raise No(400, "Schedule name must be 1 to 200 letters, digits or _.:- and not preview, . or ..")
        self.check_queue(command.queue)
        if [command.cron, command.every, command.at].count(None) != 2:
            raise No(400, "Exactly one of cron, every and at must be given")
        old = self.schedules.get(command.name)

        def when(said: c.PutSchedule) -> tuple[object, ...]:
            return said.cron, said.timezone, said.every, said.anchor, said.at, said.start, said.end

        is_new_time = old is None or when(old.said) != when(command)
        if is_new_time and Schedule(replace_limit(command), now, now, now).next() is None:
            raise never(command, now)
        outcome = "created"
        if command.dry_run:
            return self.would_put(command, old, now, owner)
        if old is None:
            self.schedules[command.name] = Schedule(command, now, now, now)
        elif essence(old.said) == essence(command):
            outcome = "unchanged"
        else:
            outcome = "changed"
            old.become(command, is_new_time, now)
        return {"schedule": self.view_schedule(command.name), "outcome": outcome}

    def would_put(self, command: c.PutSchedule, old: Schedule | None, now: int, owner: str | None) -> Reply:
        """What would come of it: it is done, and undone."""
        before = self.schedules
        self.schedules = {} if old is None else {command.name: replace(old)}
        reply = self.put_schedule(msgspec.structs.replace(command, dry_run=False), now, owner)
        self.schedules = before
        return reply

    def view_schedule(self, name: str) -> Reply:
        schedule = self.schedules[name]
        said, due = schedule.said, schedule.next_run()
        state = "active" if due is not None or schedule.waiting is not None else "ended"
        return {
            "name": name, "queue": said.queue, "data": msgspec.json.decode(bytes(said.data) or b"null"), "cron": said.cron,
            "timezone": said.timezone, "every": said.every, "anchor": said.anchor, "at": said.at, "start": said.start,
            "end": said.end, "limit": said.limit, "jitter": said.jitter, "misfire": said.misfire, "misfireMax": said.misfire_max,
            "source": said.source, "window": said.window, "overlap": said.overlap, "options": msgspec.to_builtins(options(said)),
            "state": "paused" if schedule.paused is not None else state, "createdAt": schedule.created,
            "updatedAt": schedule.updated, "pausedAt": schedule.paused, "nextRun": due, "runs": schedule.runs,
            "lastJob": schedule.jobs[-1] if schedule.jobs else None, "waitingSlot": schedule.waiting,
        }  # fmt: skip

    def get_schedule(self, command: c.GetSchedule, now: int, owner: str | None) -> Reply:
        self.known_schedule(command.name)
        return {"schedule": self.view_schedule(command.name), "outcome": "read"}

    def list_schedules(self, command: c.ListSchedules, now: int, owner: str | None) -> Reply:
        behind = [name for name in sorted(self.schedules) if name > (command.after or "")]
        page = behind[: command.limit]
        repeats = sorted((job for job in self.jobs if job.spec.repeat), key=lambda job: job.id)
        repeats = [job for job in repeats if f"~{job.id}" > (command.after or "")]
        room = command.limit - len(page) if page == behind else 0
        rest = "~" + "".join(job.id for job in repeats[:room][-1:])
        following = page[-1] if page != behind else rest if repeats[room:] else None
        return {
            "schedules": [self.view_schedule(name) for name in page], "repeats": [view_repeat(job) for job in repeats[:room]],
            "next": following,
        }  # fmt: skip

    def delete_schedule(self, command: c.DeleteSchedule, now: int, owner: str | None) -> Reply:
        self.known_schedule(command.name)
        del self.schedules[command.name]
        return {}

    def pause_schedule(self, command: c.PauseSchedule, now: int, owner: str | None) -> Reply:
        schedule = self.known_schedule(command.name)
        schedule.paused = now if schedule.paused is None else schedule.paused
        return {}

    def resume_schedule(self, command: c.ResumeSchedule, now: int, owner: str | None) -> Reply:
        schedule = self.known_schedule(command.name)
        if schedule.paused is not None:
            waits = [slot for slot in schedule.slots(schedule.settled, now) if schedule.runs_at(slot) > now]
            schedule.leave_behind(waits[0] - 1 if waits else now)
            schedule.paused = None
        return {}

    def run_schedule(self, command: c.RunSchedule, now: int, owner: str | None) -> Reply:
        self.known_schedule(command.name)
        return {"id": self.make(command.name, f"{command.name}@{now:013}+{self.new_id(now)}", now).id}

    def preview_schedule(self, command: c.PreviewSchedule, now: int, owner: str | None) -> Reply:
        if [command.cron, command.every, command.at].count(None) != 2:
            raise No(400, "Exactly one of cron, every and at must be given")
        said = c.PutSchedule(
            name="", queue="", cron=command.cron, every=command.every, at=command.at, anchor=command.anchor,
            start=command.start, end=command.end,
        )  # fmt: skip
        schedule = Schedule(said, now, now, now)
        found: list[Reply] = []
        while len(found) < command.next and (slot := schedule.next()) is not None:
            moment = datetime.fromtimestamp(slot / 1000, UTC)
            local = moment.isoformat(timespec="milliseconds" if slot % 1000 else "seconds")
            found.append({"slot": slot, "runAt": slot, "local": local, "remarks": []})
            schedule.settled = slot
        if not found:
            raise never(command, now)
        return {"upcoming": found, "rules": "2026f"}


def never(said: c.PutSchedule | c.PreviewSchedule, now: int) -> No:
    """What is answered where no time is to come."""
    begin, end = said.start or 0, said.end or 10**15
    whys = {
        "its end is before its start": end < begin,
        "its end has passed": end <= now,
        "its time has passed": (said.at or 10**15) <= now,
        "its time is before its start": said.at is not None and said.at < begin,
        "its time is after its end": said.at is not None,
        "no time of it is to come before its end": True,
    }
    return No(400, f"This schedule would never run: {next(why for why in whys if whys[why])}")


def essence(said: c.PutSchedule) -> bytes:
    """What a schedule is, however that was said."""
    return msgspec.json.encode(
        msgspec.structs.replace(said, options=options(said), data=Raw(bytes(said.data) or b"null"), dry_run=False)
    )


def replace_limit(command: c.PutSchedule) -> c.PutSchedule:
    return msgspec.structs.replace(command, limit=None)


def cron(self: Schedules, command: c.Cron, now: int, owner: str | None) -> Reply:
    """The original's words for a schedule."""
    if [command.schedule, command.repeat_every].count(None) != 1:
        raise No(400, "Cron job must have either schedule or repeatEvery")
    old = self.schedules.get(command.name)
    goes_on = old is not None and command.repeat_every is not None and old.said.every == command.repeat_every
    anchor = old.said.anchor if goes_on and old else now if command.repeat_every else 0
    how = command.job_options or c.RunOptions()
    said = c.PutSchedule(
        name=command.name, queue=command.queue, data=command.data, cron=command.schedule, every=command.repeat_every,
        timezone=command.timezone or "UTC", anchor=anchor, limit=command.max_limit,
        misfire="skip" if command.skip_missed_on_restart else "once",
        overlap="skip" if command.prevent_overlap else "allow",
        options=msgspec.structs.replace(
            how,
            priority=command.priority or how.priority,
            name=how.name if command.job_name == "default" else command.job_name,
        ),
    )  # fmt: skip
    if self.put_schedule(said, now, owner)["outcome"] == "created" and command.immediately:
        self.run_schedule(c.RunSchedule(name=command.name), now, owner)
    return {"cron": view_cron(self, command.name)}


def view_repeat(job: Record) -> Reply:
    said = job.spec.repeat
    return {
        "name": said and said.name, "job": job.id, "queue": job.queue, "state": job.state, "every": said and said.every,
        "limit": said and said.limit, "run": job.run, "due": job.slot,
    }  # fmt: skip


def view_cron(self: Schedules, name: str) -> Reply:
    schedule = self.schedules[name]
    said = schedule.said
    return {
        "name": name, "jobName": options(said).name or "default", "queue": said.queue, "schedule": said.cron, "repeatEvery": said.every,
        "nextRun": schedule.next_run(), "executions": schedule.runs, "maxLimit": said.limit,
        "timezone": None if said.timezone == "UTC" else said.timezone, "priority": options(said).priority,
    }  # fmt: skip


def known_cron(self: Schedules, name: str) -> None:
    if name not in self.schedules:
        raise No(404, "Cron job not found")


def get_cron(self: Schedules, command: c.CronGet, now: int, owner: str | None) -> Reply:
    known_cron(self, command.name)
    return {"cron": view_cron(self, command.name)}


def list_crons(self: Schedules, command: c.CronList, now: int, owner: str | None) -> Reply:
    behind = [name for name in sorted(self.schedules) if name > (command.after or "")]
    page = behind[: command.limit]
    return {"crons": [view_cron(self, name) for name in page], "next": page[-1] if page != behind else None}


def delete_cron(self: Schedules, command: c.CronDelete, now: int, owner: str | None) -> Reply:
    known_cron(self, command.name)
    return self.delete_schedule(c.DeleteSchedule(name=command.name), now, owner)


def change(self: Schedules, command: c.ChangeSchedule, now: int, owner: str | None) -> Reply:
    # By way of JSON, which alone knows what a payload is.
    said = msgspec.json.decode(msgspec.json.encode(command))
    was = msgspec.json.decode(msgspec.json.encode(self.known_schedule(command.name).said)) | {"cmd": "PutSchedule"}
    if {"cron", "every", "at"} & said.keys():
        was = {key: value for key, value in was.items() if key not in ("cron", "every", "at")}
    new = was | {key: value for key, value in said.items() if key not in ("cmd", "data")}
    new = {key: value for key, value in new.items() if value is not None and key != "data"} | {
        "dryRun": command.dry_run
    }
    put = msgspec.convert(new, c.PutSchedule)
    data = command.data if bytes(command.data) else self.schedules[command.name].said.data
    return self.put_schedule(msgspec.structs.replace(put, data=data), now, owner)


ANSWERS: dict[type[c.Command], Any] = {
    c.ChangeSchedule: change,
    c.PutSchedule: Schedules.put_schedule,
    c.GetSchedule: Schedules.get_schedule,
    c.ListSchedules: Schedules.list_schedules,
    c.DeleteSchedule: Schedules.delete_schedule,
    c.PauseSchedule: Schedules.pause_schedule,
    c.ResumeSchedule: Schedules.resume_schedule,
    c.RunSchedule: Schedules.run_schedule,
    c.PreviewSchedule: Schedules.preview_schedule,
    c.Cron: cron,
    c.CronGet: get_cron,
    c.CronList: list_crons,
    c.CronDelete: delete_cron,
}
