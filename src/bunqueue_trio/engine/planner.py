"""All schedules by name: what each brings and when, how far it has come, and which is due next. It makes no jobs.

What a schedule is stands in one fact, how far it has come in another, what it left out in a third; each is written in the
step in which it changes, with the jobs of that step. All slots up to ``settled`` are dealt with, for ever: whatever a
restart, a clock or newer rules of time zones say, no slot is dealt with twice.
"""

import re
from collections.abc import Iterator
from heapq import heappop, heappush, nsmallest
from itertools import takewhile
from operator import attrgetter

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from bunqueue_trio.config import SKIPS_KEPT
from bunqueue_trio.engine import cron
from bunqueue_trio.engine.facts import Facts
from bunqueue_trio.engine.failing import Blocked, Died, Failing, after_death, after_end
from bunqueue_trio.engine.job import DEFAULT_OPTIONS, Job, Options
from bunqueue_trio.engine.line import Line
from bunqueue_trio.engine.timing import Timing, jitter_ms, next_slot
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import surrogates

PLAN, PROGRESS, SKIPS = "schedule", "schedule-progress", "schedule-skips"
"""The kinds of facts that hold what is known of a schedule."""

BEHIND, LATE = "the clock is behind the last run of a schedule", "a schedule missed its time"
"""What the log says."""

ANOTHER = "another time or overlap was put before it ran"
"""Why a slot is left out that waited, or was to run a little later."""
LOWERED = "a lower limit was put before it ran"
"""Why a slot is left out that waited."""

NAME = re.compile(r"[A-Za-z0-9_.:-]{1,200}")
"""What a schedule may be called."""
RUN = re.compile(r"([0-9]{1,15})(\+[0-9A-Za-z-]{1,40})?")
"""What follows the name of a schedule and @ in the id of a job: its slot, or when somebody let it run, and an id."""
_DIGITS = 13
"""Of a slot in an id, at least: as many as those of 2001 to 2286 have, so that ids are in the order of their slots."""
_OF_A_SCHEDULE = re.compile(f"{NAME.pattern}@{RUN.pattern}")

PAUSED = "paused"
"""Why slots of a pause are left out."""

# Fewer entries of the heap than that are not worth a sweep.
_SWEEP_MIN = 64
# Slots whose jitter is looked at when a pause ends: 3 ms.
_WAITING_MAX = 1000
# Names that a finding has room for.
_LATELY_MAX = 5
# Before all times.
_AT_ONCE = 0


class Plan(Struct, frozen=True, omit_defaults=True):
    """What a schedule brings, when, and what happens to slots that cannot be kept."""

    queue: str
    data: Raw
    timing: Timing
    options: Options = DEFAULT_OPTIONS
    priority: int = 0
    limit: int | None = None
    jitter: int = 0
    misfire: c.Misfire = "once"
    misfire_max: int = 10
    window: int | None = None
    overlap: c.Overlap = "skip"
    shown: Raw = Raw(b"{}")
    """The options as they were put."""
    source: str | None = None


class Progress(Struct, omit_defaults=True):
    """How far a schedule has come; times in epoch ms."""

    settled: int
    created: int
    updated: int
    runs: int = 0
    """How many slots have their job."""
    jobs: list[str] = []
    """The last jobs, newest last."""
    waiting: int | None = None
    """The slot whose job is made when no other of the schedule is unfinished: it waits for their end, or cancels them."""
    paused: int | None = None
    cancelled: dict[str, int] = {}
    """Those of ``jobs`` that a slot has cancelled, as ``overlap`` has it, and which slot."""
    patience: int = 0
    """The longest jitter that slots up to ``updated`` may have waited with, before a smaller one was put."""
    died: Died | None = None
    blocked: Blocked | None = None
    well: str | None = None
    """The newest job that has completed."""


class Skip(Struct, frozen=True):
    """Slots in a row that brought no job, for one reason."""

    first: int
    last: int
    why: str


class Notice(Struct, frozen=True):
    """What the log is to say of a schedule: of slots from ``first`` to ``last``, which were missed, and how many of them bring a job now."""

    name: str
    event: str
    first: int
    last: int
    jobs: int


_PROGRESS = msgspec.json.Decoder(Progress)
_SKIPS = msgspec.json.Decoder(list[Skip])


def job_id_of(name: str, slot: int, told: str = "") -> str:
    """Return the id of the job of a slot, or of one that somebody let run then, with what distinguishes it from others."""
    return f"{name}@{place_of(slot, told)}"


def place_of(slot: int, told: str = "") -> str:
    """Return the same without the name and @: where a job stands among those of its schedule, in the order of texts."""
    return f"{slot:0{_DIGITS}}{told}"


def _without_space(data: Raw) -> bytes:
    return msgspec.json.format(surrogates.marked(bytes(data)), indent=-1)


def _is_same_expression(one: str | None, other: str | None) -> bool:
    return one is not None and other is not None and cron.parse(one).meaning == cron.parse(other).meaning


class Planner:
    """Every schedule, and when the next of them has something to do."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self.plans: dict[str, Plan] = {}
        self.progress: dict[str, Progress] = {}
        """Whoever changes one is to :meth:`keep` it."""
        self.slots: dict[str, int | None] = {}
        """The next slot of each; None: there are no more, or the schedule is paused."""
        self.times: dict[str, int | None] = {}
        """When each is due; None: never."""
        self._heap: list[tuple[int, str]] = []
        """The same; an entry whose time is not its schedule's any more is skipped when it surfaces."""
        self.due: int | None = None
        """When the next of them is, or None."""
        self.unfinished: Line[Job] = Line(attrgetter("id"))
        """Every unfinished job whose id is that of a schedule's job, whether or not the schedule still exists."""
        self.notices: list[Notice] = []
        self.late: int = 0
        """How often one of them has missed its time, since the start."""
        self.lately: dict[str, int] = {}
        """Which of them did so last, some, newest last, and the first slot of each that was late."""
        self.left_out: int = 0
        """How often slots in a row were left out in one step, since the start."""
        self.failing: Failing = Failing()
        """Which of them need somebody."""

    def load(self, now: int) -> None:
        """Take up what the facts, just loaded, tell of; the unfinished jobs are known already."""
        for name, value in self._facts.of(PLAN).items():
            plan = self.plans[name] = surrogates.read(value, Plan)
            progress = self.progress[name] = _PROGRESS.decode(self._facts.of(PROGRESS)[name])
            slot = next_slot(plan.timing, now) if progress.settled > now else None
            if slot is not None and slot <= progress.settled:
                self.notices.append(Notice(name, BEHIND, now, progress.settled, 0))
        # Whichever died last is to be the last of those that fail.
        for name, progress in sorted(
            self.progress.items(), key=lambda each: 0 if each[1].died is None else each[1].died.at
        ):
            self.arm(name, next_slot(self.plans[name].timing, progress.settled))

    def names_after(self, name: str, limit: int) -> list[str]:
        """Return the first ``limit`` names behind ``name``."""
        return nsmallest(limit, (each for each in self.plans if each > name))

    def put(self, name: str, plan: Plan, now: int) -> str:
        """Store a schedule; return what came of it: ``created``, ``changed`` or ``unchanged``."""
        old = self.plans.get(name)
        encoded = msgspec.json.encode(self._as_known(name, plan))
        # Decoded from a copy: what is kept must not hold the whole request that it came in.
        plan = surrogates.read(encoded, Plan)
        # Not by what is encoded, which may say a default or leave it out.
        if old == plan:
            return "unchanged"
        if old is None:
            self.progress[name] = Progress(now, now, now)
        else:
            self._replace(name, old, plan, now)
        self.plans[name] = plan
        self._facts.set(PLAN, name, encoded)
        self.keep(name)
        self.arm(name, next_slot(plan.timing, self.progress[name].settled))
        return "created" if old is None else "changed"

    def _as_known(self, name: str, plan: Plan) -> Plan:
        """Return a plan with what is only written in another way as it was put first: whitespace in the payload, the expression."""
        old = self.plans.get(name)
        if old is None:
            return plan
        if _without_space(old.data) == _without_space(plan.data):
            plan = replace(plan, data=old.data)
        if _is_same_expression(old.timing.cron, plan.timing.cron):
            plan = replace(plan, timing=replace(plan.timing, cron=old.timing.cron))
        return plan

    def _replace(self, name: str, old: Plan, plan: Plan, now: int) -> None:
        """Leave out what belongs to the old plan and not to the new one."""
        progress, why = self.progress[name], None
        if (plan.timing, plan.overlap) != (old.timing, old.overlap):
            why, progress.blocked = ANOTHER, None
        elif plan.limit is not None and progress.runs >= plan.limit:
            why = LOWERED
        waiting = progress.waiting if why is None else None
        if why is not None and progress.waiting is not None:
            self.skip(name, progress.waiting, progress.waiting, why)
        # What was over goes on from now.
        if plan.timing != old.timing or self.is_spent(name):
            self.leave_behind(name, now)
        first = next_slot(old.timing, progress.settled)
        progress.patience = self.patience(name, first) if first is not None and first <= now else 0
        progress.waiting, progress.updated = waiting, now

    def alone(self, name: str, now: int) -> "Planner":
        """Return a planner that has a copy of this schedule, if there is one, and no other: to try what would come of a change."""
        facts = Facts()
        for kind in (PLAN, PROGRESS, SKIPS):
            if (value := self._facts.get(kind, name)) is not None:
                facts.set(kind, name, value)
        found = Planner(facts)
        found.load(now)
        return found

    def delete(self, name: str) -> None:
        """Forget a schedule."""
        del self.plans[name], self.progress[name], self.slots[name], self.times[name]
        self.lately.pop(name, None)
        self.failing.forget(name)
        for kind in (PLAN, PROGRESS, SKIPS):
            self._facts.delete(kind, name)
        self._look()

    def keep(self, name: str) -> None:
        """Note how far a schedule has come."""
        self._facts.set(PROGRESS, name, msgspec.json.encode(self.progress[name]))
        self._look_whether_it_fails(name)

    def settle(self, name: str, slot: int) -> None:
        """Leave all slots up to ``slot`` behind."""
        progress = self.progress[name]
        progress.settled = max(progress.settled, slot)

    def leave_behind(self, name: str, upto: int) -> None:
        """Leave all slots up to ``upto`` behind that are not dealt with, and note those that would have run."""
        progress = self.progress[name]
        first = None if self.is_spent(name) else next_slot(self.plans[name].timing, progress.settled)
        if first is not None and first <= upto:
            self.skip(name, first, upto, ANOTHER if progress.paused is None else PAUSED)
        self.settle(name, upto)

    def resume(self, name: str, now: int) -> None:
        """Let a schedule go on. Slots in the pause are left out; a slot that waits for the end of its jitter goes on waiting."""
        timing, jitter, progress = self.plans[name].timing, self.plans[name].jitter, self.progress[name]
        upto, slot = now, next_slot(timing, max(progress.settled, now - jitter))
        for _ in range(_WAITING_MAX):
            if slot is None or slot > now:
                break
            if slot + jitter_ms(name, slot, jitter) > now:
                # Those behind it have their turn behind it.
                upto = slot - 1
                break
            slot = next_slot(timing, slot)
        self.leave_behind(name, upto)
        progress.paused = None
        self.keep(name)
        self.arm(name, next_slot(timing, progress.settled))

    def patience(self, name: str, slot: int) -> int:
        """Return how long ``slot`` may wait for its jitter and be in time: as long as it might when it came."""
        plan, progress = self.plans[name], self.progress[name]
        return max(plan.jitter, progress.patience) if slot <= progress.updated else plan.jitter

    def arm(self, name: str, slot: int | None) -> None:
        """Let a schedule be due at ``slot``, its next, with its jitter; a paused one and one that is over never are."""
        self.slots[name] = None if self.progress[name].paused is not None or self.is_spent(name) else slot
        self._expect(name, _AT_ONCE if self._may_run_the_waiting(name) else self.run_at(name))
        self._look_whether_it_fails(name)

    def _look_whether_it_fails(self, name: str) -> None:
        self.failing.note(name, self.progress[name], has_slots=self.slots.get(name) is not None)

    def note_begin(self, job: Job) -> None:
        """Note a job, new or from the store, if its id is that of a schedule's job; one that a client pushed with such an id counts, too."""
        if _OF_A_SCHEDULE.fullmatch(job.id):
            self.unfinished.add(job)

    def note_end(self, job: Job, now: int, *, completed: bool) -> None:
        """Know of the end of a job; a slot that waits for it runs if it was the last."""
        if not _OF_A_SCHEDULE.fullmatch(job.id):
            return
        self.unfinished.remove(job)
        name = job.id.partition("@")[0]
        if (progress := self.progress.get(name)) is None:
            return
        if after_end(progress, job.id, now, completed=completed):
            self.keep(name)
        if self._may_run_the_waiting(name):
            self._expect(name, _AT_ONCE)

    def note_death(self, job: Job, now: int) -> None:
        """Know that a job, which is about to end, dies."""
        name = job.id.partition("@")[0]
        progress = self.progress.get(name) if _OF_A_SCHEDULE.fullmatch(job.id) else None
        if progress is not None and after_death(progress, job.id, now):
            self.keep(name)

    def note_cancelled(self, name: str, job_id: str, slot: int) -> None:
        """Know which slot has cancelled a job of a schedule, as long as the schedule knows the job."""
        progress = self.progress[name]
        if job_id in progress.jobs:
            progress.cancelled = {
                job: by for job, by in (*progress.cancelled.items(), (job_id, slot)) if job in progress.jobs
            }
            self.keep(name)

    def oldest_of(self, name: str) -> Job | None:
        """Return the job of the oldest slot of a schedule that has not ended, or None."""
        job = next(self.unfinished.after(f"{name}@"), None)
        return job if job is not None and job.id.startswith(f"{name}@") else None

    def unfinished_before(self, name: str, job_id: str) -> Iterator[Job]:
        """Iterate over the jobs of a schedule before ``job_id`` that have not ended, the newest slot first."""
        prefix = f"{name}@"
        return takewhile(lambda job: job.id.startswith(prefix), self.unfinished.before(job_id))

    def taken(self, name: str) -> int:
        """Return how many slots of a schedule have their job, or wait for it."""
        progress = self.progress[name]
        return progress.runs + (progress.waiting is not None)

    def is_spent(self, name: str) -> bool:
        """Return whether a schedule has brought as many jobs as it may."""
        limit = self.plans[name].limit
        return limit is not None and self.taken(name) >= limit

    def is_cancelling(self, name: str) -> bool:
        """Return whether a slot has begun to cancel the jobs before it, and has not run yet."""
        return self.plans[name].overlap == "cancel" and self.progress[name].waiting is not None

    def _may_run_the_waiting(self, name: str) -> bool:
        progress = self.progress[name]
        if progress.waiting is None or progress.paused is not None:
            return False
        return self.is_cancelling(name) or self.oldest_of(name) is None

    def first_due(self, now: int, limit: int) -> list[str]:
        """Return the first ``limit`` schedules that are due at or before ``now``; they stay due until they are armed for another time."""
        heap, found = self._heap, dict[str, int]()
        while heap and heap[0][0] <= now and len(found) < limit:
            time, name = heappop(heap)
            if self.times.get(name) == time:
                found[name] = time
        for name, time in found.items():
            heappush(heap, (time, name))
        return list(found)

    def run_at(self, name: str) -> int | None:
        """Return when a schedule runs its next slot, or None."""
        slot = self.slots[name]
        return None if slot is None else slot + jitter_ms(name, slot, self.plans[name].jitter)

    def skips(self, name: str) -> list[Skip]:
        """Return what a schedule left out lately, oldest first."""
        value = self._facts.get(SKIPS, name)
        return [] if value is None else _SKIPS.decode(value)

    def skip(self, name: str, first: int, last: int, why: str) -> None:
        """Note slots that bring no job, from the next on; those in a row, for one reason, are one entry."""
        self.left_out += 1
        skips = self.skips(name)
        if skips and skips[-1].why == why and skips[-1].last == self.progress[name].settled:
            skips[-1] = replace(skips[-1], last=last)
        else:
            skips.append(Skip(first, last, why))
        self._facts.set(SKIPS, name, msgspec.json.encode(skips[-SKIPS_KEPT:]))

    def note_late(self, notice: Notice) -> None:
        """Let the log say that a schedule has missed its time, and count it."""
        self.late += 1
        self.lately.pop(notice.name, None)
        self.lately[notice.name] = notice.first
        if len(self.lately) > _LATELY_MAX:
            del self.lately[next(iter(self.lately))]
        self.notices.append(notice)

    def take_notices(self) -> list[Notice]:
        """Return what the log is to say since the last call."""
        notices, self.notices = self.notices, []
        return notices

    def _expect(self, name: str, time: int | None) -> None:
        self.times[name] = time
        if time is not None:
            heappush(self._heap, (time, name))
            if len(self._heap) > _SWEEP_MIN + 2 * len(self.plans):
                self._heap = sorted((time, name) for name, time in self.times.items() if time is not None)
        self._look()

    def _look(self) -> None:
        """See what is the next to be due."""
        heap = self._heap
        while heap and self.times.get(heap[0][1]) != heap[0][0]:
            heappop(heap)
        self.due = heap[0][0] if heap else None
