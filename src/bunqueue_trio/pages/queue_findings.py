"""The rules about single queues: what waits too long, what fails, what was forgotten. As ``findings.py``, pure functions."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from heapq import nlargest
from typing import Any, NamedTuple

from bunqueue_trio.config import MINUTE_MS
from bunqueue_trio.pages.new_findings import first_death, new_errors, told_of
from bunqueue_trio.pages.stuck import STUCK_SOON_MS, runs_of, stuck_after
from bunqueue_trio.pages.words import Given, count, line, rate, span
from bunqueue_trio.runtime.history import Past, QueueMinute, part
from bunqueue_trio.runtime.picture import LONGEST, QueueLook
from bunqueue_trio.runtime.statistics import Statistics

# As the alert has it.
WAITS_MS = 10 * MINUTE_MS
# Without a worker nothing gets better by itself.
NOBODY_ASKS_MS = MINUTE_MS
FORGOTTEN_MS = 12 * 3600_000
LATELY_MS = 15 * MINUTE_MS
# As the alert has it.
DIED_MIN = 10
# Failed attempts that make a finding, and at least half of all.
FAILS_MIN = 10
# How long without another one until what went on is over.
OVER_MS = 3 * MINUTE_MS
GROWS_MIN, GROWS_MINUTES = 100, 5
# Queues that one rule names; the rest is a number.
EACH_MAX = 20

Fields = dict[str, Any]


class Candidates:
    """The queues that rules have something to say about: how much it weighs, before a sentence is made of it."""

    def __init__(self) -> None:
        self.waits: list[_Candidate] = []
        self.dies: list[_Candidate] = []
        self.fails: list[_Candidate] = []
        self.paused: list[_Candidate] = []
        self.stuck: list[_Candidate] = []

    def scan(self, told: Statistics, queues: Sequence[QueueLook], past: Past) -> None:
        """Look at some queues: about 10 µs each."""
        now = told.now
        for queue in queues:
            lately = past.of(queue.name, now - LATELY_MS)
            if queue.pause is not None:
                _weigh(self.paused, _paused_weight(queue, now), queue, lately)
            elif queue.waiting:
                _weigh(self.waits, _waits_weight(queue, lately, now), queue, lately)
            died = _died(queue, lately, past.died)
            if died >= DIED_MIN:
                _weigh(self.dies, 10**7 + died, queue, lately)
            elif lately and (queue.delayed or queue.died):
                _weigh(self.fails, _fails_weight(lately), queue, lately)
            if queue.active_since is not None and now - queue.active_since >= STUCK_SOON_MS:
                hour = past.of(queue.name, now - 60 * MINUTE_MS)
                _weigh(self.stuck, _stuck_weight(queue, hour, now), queue, hour)

    def tell(
        self, told: Statistics, queues: Sequence[QueueLook], past: Past, held: Mapping[str, str]
    ) -> Iterator[Fields]:  # fmt: skip
        """Yield the fields of the findings about all queues that were looked at; of jobs that hang at a worker that is ``held`` to, by queue, enough is said."""
        self.stuck = [each for each in self.stuck if held.get(each.queue.name) != (each.queue.active_at or "-")]
        rules = (
            (self.waits, _waits),
            (self.dies, partial(_dies, past, told.started_at)),
            (self.fails, partial(_fails, past, told.started_at)),
            (self.paused, _paused),
            (self.stuck, _stuck),
        )
        for candidates, say in rules:
            worst = nlargest(EACH_MAX, candidates, key=lambda each: each.weight)
            found = [say(each.queue, each.lately, told.now) | {"weight": each.weight} for each in worst]
            yield from found
            if len(candidates) > EACH_MAX:
                yield _more(found, candidates)
        yield from _vanish(told, past)
        yield from new_errors(past, told.now, {each.queue.name for each in self.dies})
        yield from _lie_around(queues, {each.queue.name for each in self.dies})


class _Candidate(NamedTuple):
    weight: int
    queue: QueueLook
    lately: Sequence[QueueMinute]


def _weigh(candidates: list[_Candidate], weight: int, queue: QueueLook, lately: Sequence[QueueMinute]) -> None:
    if weight:
        candidates.append(_Candidate(weight, queue, lately))


def _more(found: list[Fields], candidates: list[_Candidate]) -> Fields:
    told = {fields["queue"] for fields in found}
    rest = [each.queue.name for each in candidates if each.queue.name not in told]
    return {
        "code": found[0]["code"] + "-more", "severity": found[-1]["severity"], "weight": 0,
        "title": f"{count(len(rest), 'more queue')} of the same kind", "cause": "What is said above holds for them, too.",
        "evidence": ", ".join(rest[:10]) + (" …" if len(rest) > 10 else ""),
        "numbers": {"queues": len(rest)}, "commands": (line("queues"),),
    }  # fmt: skip


def _present(lately: Sequence[QueueMinute], now: int) -> list[QueueMinute]:
    """Return the minutes that count as now."""
    return [minute for minute in lately if now - minute.at < OVER_MS]


def _pausing(queue: QueueLook) -> list[str]:
    """Return the line that stops its deliveries, unless somebody has."""
    return [] if queue.pause is not None else [line("pause", Given(queue.name))]


def _per_minute(minutes: Sequence[QueueMinute], name: str) -> float:
    return sum(getattr(minute, name) for minute in minutes) / len(minutes) if minutes else 0


def _begin(minutes: Sequence[QueueMinute], place: int, started_at: int) -> int:
    """Return when one of the minutes of a queue began: what is noted at its end has happened in it, and since the server started."""
    at, before = minutes[place].at, minutes[place - 1].at if place else 0
    return max(at - MINUTE_MS, before, started_at if started_at < at else 0)


def _ended(minutes: Sequence[QueueMinute]) -> str:
    failed, completed = sum(m.failed for m in minutes), sum(m.completed for m in minutes)
    return f"{count(failed, 'attempt')} failed and {count(completed, 'job')} completed"


def _nobody_asks(queue: QueueLook, lately: Sequence[QueueMinute], now: int) -> bool:
    # A worker that asks without waiting is seen by what it has done alone.
    is_served = any(minute.completed or minute.failed for minute in _present(lately, now))
    return not queue.active and not queue.pulls_waiting and queue.opens_at is None and not is_served


def _waits_weight(queue: QueueLook, lately: Sequence[QueueMinute], now: int) -> int:
    age, nobody = now - (queue.oldest_ready_at or now), _nobody_asks(queue, lately, now)
    if age < (NOBODY_ASKS_MS if nobody else WAITS_MS) and not _growth(lately):
        return 0
    return min(queue.waiting, 10**6) + (10**6 if nobody else 0)


def _waits(queue: QueueLook, lately: Sequence[QueueMinute], now: int) -> Fields:
    age, nobody, growth = now - (queue.oldest_ready_at or now), _nobody_asks(queue, lately, now), _growth(lately)
    present = _present(lately, now)
    comes, goes = _per_minute(present, "pushed"), _per_minute(present, "completed")
    flow = f"{rate(comes)} come, {rate(goes)} are done. " if present else ""
    title = f"{queue.name}: {count(queue.waiting, 'job waits', 'jobs wait')}, the oldest for {span(age)}"
    helps: tuple[str, ...] = (line("workers"), line("pause", Given(queue.name)))
    if nobody:
        title += ", and nobody asks"
        # To pause it helps nobody: nobody takes a job of it.
        helps = (line("workers"),)
        cause = "No worker asks for jobs of this queue: none runs, or they ask under another name."
        if queue.quiet:
            cause = f"Those who work on it are quiet, since somebody has told them to take no more jobs: {', '.join(queue.quiet)}."
            helps = (line("workers"), *(line("workers", "unquiet", Given(name)) for name in queue.quiet[:1]))
    elif queue.opens_at is not None:
        cause = f"Its rate limit lets none through for {span(queue.opens_at - now)}."
        helps = (line("limit", Given(queue.name), "--rate", "none"),)
    elif queue.concurrency is not None and queue.active >= queue.concurrency:
        cause = f"No more than {count(queue.concurrency, 'job')} of it may be active, and as many are."
        helps = (line("jobs", Given(queue.name), "active"), line("limit", Given(queue.name), "none"))
    elif queue.active:
        cause = "More comes than its workers can do, or those that they have are stuck."
    else:
        cause = "Workers ask, and get them now: it has just begun to move."
    if age < WAITS_MS and not nobody:
        title = f"{queue.name}: grows by {rate(growth)}, {count(queue.waiting, 'job waits', 'jobs wait')}"
    return {
        "code": "nobody-asks" if nobody else "queue-waits" if age >= WAITS_MS else "queue-grows",
        "severity": "warning", "queue": queue.name, "title": title, "cause": cause,
        "remedy": _ASK.format(queue.name) if nobody and not queue.quiet else "", "commands": helps,
        "alert": "BunqueueJobsWaitTooLong" if age >= WAITS_MS else None, "since": _asked_last(queue, lately) if nobody else queue.oldest_ready_at,
        "evidence": f"{flow}{count(queue.active, 'job is', 'jobs are')} active, {count(queue.pulls_waiting, 'pull waits', 'pulls wait')}.",
        "numbers": {"waiting": queue.waiting, "oldestMs": age, "active": queue.active, "pullsWaiting": queue.pulls_waiting},
    }  # fmt: skip


def _asked_last(queue: QueueLook, lately: Sequence[QueueMinute]) -> int | None:
    """Return since when nobody asks for jobs that wait, by what workers have done."""
    busy = [minute.at for minute in lately if minute.completed or minute.failed or minute.stalled]
    return max(filter(None, (queue.oldest_ready_at, *busy)), default=None)


_ASK = (
    "Start a worker for {0}: `bunqueue-trio worker MODULE:NAME`. If one runs, `workers` shows which queues it asks for, "
    "to which server it is connected, and whether somebody has told it to take no more jobs."
)


def _growth(lately: Sequence[QueueMinute]) -> float:
    """Return by how many jobs a minute a queue grows, if it does so steadily; else 0."""
    if len(lately) < GROWS_MINUTES:
        return 0
    steps = [after.waiting - before.waiting for before, after in itertools.pairwise(lately)]
    grown = lately[-1].waiting - lately[0].waiting
    steady, now = sum(step > 0 for step in steps) >= 0.8 * len(steps), steps[-OVER_MS // MINUTE_MS :]
    return max(0, sum(now) / len(now)) if steady and grown >= GROWS_MIN else 0


def gone(queues: Sequence[QueueLook], past: Past) -> list[QueueLook]:
    """Return the queues of which nothing is left, and in which something has happened: what dies may be kept nowhere."""
    there = {each.name for each in queues}
    names = {name for name, line in past.queues.items() if any(minute.died for minute in line)} | {
        name for name, n in past.died.items() if n >= DIED_MIN
    }
    return [QueueLook(name, 0, 0, 0, 0, 0, 0, 0, None, 0, None, None, None) for name in sorted(names - there)]


def _died(queue: QueueLook, lately: Sequence[QueueMinute], died_now: Mapping[str, int]) -> int:
    """Return how many have died lately; 0 where all that are kept are muted, as they may be since then."""
    is_hushed = queue.dead and not queue.died
    return 0 if is_hushed else died_now.get(queue.name, 0) + sum(minute.died for minute in lately)


def _dies(past: Past, started_at: int, queue: QueueLook, lately: Sequence[QueueMinute], now: int) -> Fields:
    """Tell how many died, by what was counted: what is kept of them, and for how long, is another matter."""
    minutes = past.with_now(queue.name, lately, now)
    fatal = [place for place, minute in enumerate(minutes) if minute.died]
    first, last = fatal[0], fatal[-1]
    died, since, end = _died(queue, lately, past.died), _begin(minutes, first, started_at), minutes[last].at
    since = min(max(since, first_death(past, queue.name, died) or 0), end)
    until = _over([end], now)
    meanwhile, after = minutes[first : last + 1], minutes[last + 1 :]
    evidence = f"{_ended(meanwhile)} in that time"
    if end < now:
        evidence += f"; {_ended(after)} in the {span(now - end)} since"
    # What is said of now is of now.
    present = after or meanwhile[-1:]
    goes_well = sum(minute.completed for minute in present) > sum(minute.failed for minute in present)
    untried = max(0, died - sum(minute.failed for minute in meanwhile))
    cause = f"What they ask for {'fails' if until is None and not goes_well else 'failed'} each time: look at what their errors have in common."
    if untried:
        evidence += f"; {count(untried, 'job')} died without an attempt"
    evidence += told_of(past, queue.name, now)
    if 2 * untried > died:
        cause = "What they waited for failed, or outlived its TTL, so that they can never run: their errors name it."
    kept = f"{count(queue.died, 'dead letter is', 'dead letters are')} kept" if queue.died else "none of them is kept"
    looks = (
        line("dead", Given(queue.name), "--groups")
        if queue.died
        else line("watch", "--queue", Given(queue.name), "--type", "failed")
    )
    return {
        "code": "jobs-die", "severity": "warning", "queue": queue.name, "alert": "BunqueueJobsDie", "since": since, "until": until,
        "title": f"{queue.name}: {count(died, 'job')} died within {span(end - since)}",
        "cause": f"{cause} Most others complete by now." if goes_well else cause,
        "evidence": f"{evidence}; {kept}.",
        "numbers": {"died": died, "dead": queue.died},
        "commands": (looks, *_pausing(queue)),
    }  # fmt: skip


def _over(moments: Sequence[int], now: int) -> int | None:
    """Return the last of the moments if nothing has happened for a while since, so that it is over; else None."""
    last = max(moments, default=now)
    return last if now - last >= OVER_MS else None


def _bad(lately: Sequence[QueueMinute]) -> list[QueueMinute]:
    """Return the minutes in which at least half of the attempts failed."""
    return [minute for minute in lately if minute.failed and minute.failed >= minute.completed]


def _fails_weight(lately: Sequence[QueueMinute]) -> int:
    failed = sum(minute.failed for minute in _bad(lately))
    return 10**5 + failed if failed >= FAILS_MIN else 0


def _fails(past: Past, started_at: int, queue: QueueLook, lately: Sequence[QueueMinute], now: int) -> Fields:
    bad, minutes = _bad(lately), past.with_now(queue.name, lately, now)
    until = _over([minute.at for minute in bad], now)
    # What is said of now is of now: the quarter of an hour before it may have been another matter.
    told = _present(minutes, now) if until is None else bad
    fail, lasted = ("fail", "") if until is None else ("failed", " while that lasted")
    if until is None:
        begin = _begin(minutes, minutes.index(told[0]), started_at)
        often = sum(minute.failed for minute in told) * MINUTE_MS / (now - begin)
        evidence = f"Within {span(now - begin)} {_ended(told)}"
    else:
        often = _per_minute(told, "failed")
        after = [minute for minute in minutes if minute.at > until]
        evidence = f"{_ended(told)} while that lasted; {_ended(after)} in the {span(now - until)} since"
    looks = [line("jobs", Given(queue.name), "delayed")] if queue.delayed else []
    looks += [line("dead", Given(queue.name), "--groups")] if queue.died else []
    waits = (
        "They are tried again until they die." if queue.delayed else "Those that have no attempt left are dead letters."
    )
    return {
        "code": "attempts-fail", "severity": "warning", "queue": queue.name, "until": until,
        "title": f"{queue.name}: most attempts {fail}, {rate(often)}{lasted}",
        "since": _begin(lately, lately.index(bad[0]), started_at),
        "cause": f"What the jobs need is down, or the workers are of a new version. {waits}"
        if until is None
        else "What the jobs need was down, or the workers were of another version.",
        "evidence": f"{evidence}; {count(queue.delayed, 'job is', 'jobs are')} delayed, {count(queue.died, 'dead letter')}.",
        "numbers": {
            "failed": sum(minute.failed for minute in told), "completed": sum(minute.completed for minute in told), "delayed": queue.delayed,
        },
        "commands": (*looks, *_pausing(queue)),
    }  # fmt: skip


def _is_forgotten(queue: QueueLook, now: int) -> bool:
    pause = queue.pause
    return pause is not None and now - pause.since >= FORGOTTEN_MS and pause.until is None


def _paused_weight(queue: QueueLook, now: int) -> int:
    return 10 + min(queue.waiting, 10**6) if queue.waiting or _is_forgotten(queue, now) else 0


def _paused(queue: QueueLook, lately: Sequence[QueueMinute], now: int) -> Fields:
    pause, forgotten = queue.pause, _is_forgotten(queue, now)
    assert pause is not None
    # Without tokens nobody has a name.
    who = "Somebody" if pause.by in (None, "anybody") else pause.by
    reason = f" (“{pause.reason[:200]}”)" if pause.reason else ""
    ends = f"; it ends by itself in {span(pause.until - now)}" if pause.until is not None else ""
    return {
        "code": "paused", "severity": "warning" if forgotten else "notice", "queue": queue.name, "since": pause.since,
        "title": f"{queue.name}: paused for {span(now - pause.since)}{': forgotten?' if forgotten else ''}",
        "cause": f"{who} has paused it{reason}{ends}.",
        "evidence": f"{count(queue.waiting, 'job waits', 'jobs wait')}.",
        "numbers": {"waiting": queue.waiting, "pausedMs": now - pause.since}, "commands": (line("resume", Given(queue.name)),),
    }  # fmt: skip


def _stuck_weight(queue: QueueLook, hour: Sequence[QueueMinute], now: int) -> int:
    after, age = stuck_after(hour), now - (queue.active_since or now)
    return 10**5 + age // 1000 if after is not None and age >= after else 0


def _stuck(queue: QueueLook, hour: Sequence[QueueMinute], now: int) -> Fields:
    runs, age = runs_of(hour), now - (queue.active_since or now)
    usual, slowest = part(runs, 0.99) or 0, part(runs, 1) or 0
    after = stuck_after(hour) or 0
    hang = [job_id for since, job_id in queue.longest if now - since >= after] or [queue.active_id]
    usually = f"99 of 100 others take {span(usual)} at most"
    title, whose = f"a job has been active for {span(age)}, {usually}", "its worker has no name"
    if queue.active_at:
        whose = f"the worker {queue.active_at} has it"
    named = f"It is {hang[0]}, and {whose}."
    if len(hang) > 1:
        # Of more than are looked at nobody knows how many hang.
        many = f"{'at least ' if len(hang) == LONGEST else ''}{count(len(hang), 'job')}"
        title = f"{many} have been active for far longer than others, one for {span(age)}, {usually}"
        named = f"They are {', '.join(hang)}; of the first {whose}."
    return {
        "code": "job-stuck", "severity": "warning", "queue": queue.name, "job": queue.active_id, "since": queue.active_since,
        "alert": "BunqueueJobStuck",
        "title": f"{queue.name}: {title}",
        "cause": "The handler hangs, or has far more to do than with others. The worker says that it lives, so nobody else gets the job.",
        "evidence": f"{named} {count(runs.total(), 'other')} completed within the hour, the slowest in {span(slowest)}.",
        "remedy": "`cancel` ends the job at its worker, and gives it up. `bunqueue-trio workers release NAME` takes all jobs of a worker back, and they run again.",
        "numbers": {"activeMs": age, "usualMs": usual, "slowestMs": slowest, "jobs": len(hang)},
        "commands": (
            line("why", Given(queue.active_id)), line("jobs", Given(queue.name), "active"), line("cancel", *map(Given, hang)),
        ),
    }  # fmt: skip


def _vanish(told: Statistics, past: Past) -> Iterator[Fields]:
    hour, quarter = past.since(told.now - 60 * MINUTE_MS), past.since(told.now - LATELY_MS)
    if hour is None or quarter is None:
        return
    lost = told.totals.lost_to_stalls - hour.lost_to_stalls
    stalled = told.totals.stalled - quarter.stalled
    if lost <= 0 and stalled < 0.1 * LATELY_MS / 1000:
        return
    where = {name: sum(m.stalled for m in line) for name, line in past.queues.items()}
    worst = max(where, key=lambda name: where[name], default=None)
    until = _over([b.at for a, b in itertools.pairwise(past.minutes[-16:]) if b.stalled > a.stalled], told.now)
    if told.totals.stalled > past.minutes[-1].stalled:
        until = None
    take = "take jobs and are" if until is None else "took jobs and were"
    named = f" Most of them in {worst}." if worst is not None and where[worst] else ""
    last, helps = told.lost if lost > 0 else None, [line("workers")]
    died = f"{count(lost, 'job')} died of it within an hour"
    if last is not None:
        died += f", {last.job} of {last.queue} last"
        helps.append(line("jobs", "--state", "failed", "--error", Given("Job stalled")))
    yield {
        "code": "workers-vanish", "severity": "warning", "alert": "BunqueueWorkersVanish",
        "queue": worst if named else None, "job": None if last is None else last.job,
        "until": until,
        "title": f"Workers {take} not heard of again: {count(stalled, 'job')} stalled within 15 minutes",
        "cause": "Workers that are killed or hang: too little memory, a deployment that does not wait, a handler that blocks, or a job that kills whoever takes it.",
        "evidence": f"{died}.{named}",
        "numbers": {"stalled": stalled, "lost": lost}, "weight": 5 * 10**6 + lost, "commands": tuple(helps),
    }  # fmt: skip


def _lie_around(queues: Sequence[QueueLook], told: set[str]) -> Iterator[Fields]:
    dead = sorted((each for each in queues if each.died and each.name not in told), key=lambda each: -each.died)
    if not dead:
        return
    total = sum(each.died for each in dead)
    one = dead[0].name if len(dead) == 1 else None
    yield {
        "code": "dead-letters", "severity": "notice", "queue": one, "weight": 5,
        "title": f"{count(total, 'dead letter')} in {one or count(len(dead), 'queue')} {'waits' if total == 1 else 'wait'} for a decision",
        "cause": "Jobs that failed for good are kept until somebody retries or deletes them, or retention does.",
        "evidence": ", ".join(f"{each.name}: {each.died:,}" for each in dead[:5]) + (" …" if len(dead) > 5 else ""),
        "numbers": {"dead": total, "queues": len(dead)}, "commands": (line("dead", Given(one or ""), "--groups"),),
    }  # fmt: skip
