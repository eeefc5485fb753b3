"""The rules about single queues: what waits too long, what fails, what was forgotten. As ``findings.py``, pure functions."""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from heapq import nlargest
from typing import Any, NamedTuple

from bunqueue_trio.pages.words import count, rate, span
from bunqueue_trio.runtime.history import MINUTE_MS, Past, QueueMinute, part
from bunqueue_trio.runtime.picture import QueueLook
from bunqueue_trio.runtime.statistics import Statistics

WAITS_MS = 10 * MINUTE_MS  # as the alert has it
NOBODY_ASKS_MS = MINUTE_MS  # without a worker nothing gets better by itself
FORGOTTEN_MS = 12 * 3600_000
LATELY_MS = 15 * MINUTE_MS
DIED_MIN = 10  # as the alert has it
FAILS_MIN = 10  # attempts, and at least half of all
OVER_MS = 3 * MINUTE_MS  # without another one: what went on is over
GROWS_MIN, GROWS_MINUTES = 100, 5
STUCK_MS, STUCK_TIMES = 10 * MINUTE_MS, 10  # of activity, and as a multiple of what others take
STUCK_MIN = 10  # others, within an hour: fewer do not tell what is usual
EACH_MAX = 20  # queues told of by one rule; the rest is a number

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
            died = queue.died - lately[0].dead if lately else 0
            if died >= DIED_MIN:
                _weigh(self.dies, 10**7 + died, queue, lately)
            elif lately and (queue.delayed or queue.died):
                _weigh(self.fails, _fails_weight(lately), queue, lately)
            if queue.active_since is not None and now - queue.active_since >= STUCK_MS:
                hour = past.of(queue.name, now - 60 * MINUTE_MS)
                _weigh(self.stuck, _stuck_weight(queue, hour, now), queue, hour)

    def tell(self, told: Statistics, queues: Sequence[QueueLook], past: Past) -> Iterator[Fields]:
        """Yield the fields of the findings about all queues that were looked at."""
        rules = (
            (self.waits, _waits),
            (self.dies, _dies),
            (self.fails, _fails),
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
        "title": f"{count(len(rest), 'more queue')} of the same kind", "cause": "What is told above holds for them, too.",
        "evidence": ", ".join(rest[:10]) + (" …" if len(rest) > 10 else ""),
        "numbers": {"queues": len(rest)},
    }  # fmt: skip


def _per_minute(lately: Sequence[QueueMinute], name: str) -> float:
    return sum(getattr(minute, name) for minute in lately) / len(lately) if lately else 0


def _nobody_asks(queue: QueueLook) -> bool:
    return not queue.active and not queue.pulls_waiting and queue.opens_at is None


def _waits_weight(queue: QueueLook, lately: Sequence[QueueMinute], now: int) -> int:
    age, nobody = now - (queue.oldest_ready_at or now), _nobody_asks(queue)
    if age < (NOBODY_ASKS_MS if nobody else WAITS_MS) and not _growth(lately):
        return 0
    return min(queue.waiting, 10**6) + (10**6 if nobody else 0)


def _waits(queue: QueueLook, lately: Sequence[QueueMinute], now: int) -> Fields:
    age, nobody, growth = now - (queue.oldest_ready_at or now), _nobody_asks(queue), _growth(lately)
    comes, goes = _per_minute(lately, "pushed"), _per_minute(lately, "completed")
    flow = f"{rate(comes)} come, {rate(goes)} are done. " if lately else ""
    title = f"{queue.name}: {count(queue.waiting, 'job waits', 'jobs wait')}, the oldest for {span(age)}"
    if nobody:
        title += ", and nobody asks"
        cause = "No worker asks for jobs of this queue: none runs, or they ask under another name."
    elif queue.opens_at is not None:
        cause = f"Its rate limit lets none through for {span(queue.opens_at - now)}."
    elif queue.concurrency is not None and queue.active >= queue.concurrency:
        cause = f"No more than {count(queue.concurrency, 'job')} of it may be active, and as many are."
    elif queue.active:
        cause = "More comes than its workers can do, or those that they have are stuck."
    else:
        cause = "Workers ask, and get them now: it has just begun to move."
    if age < WAITS_MS and not nobody:
        title = f"{queue.name}: grows by {rate(growth)}, {count(queue.waiting, 'job waits', 'jobs wait')}"
    return {
        "code": "nobody-asks" if nobody else "queue-waits" if age >= WAITS_MS else "queue-grows",
        "severity": "warning", "queue": queue.name, "title": title, "cause": cause,
        "remedy": _ASK.format(queue.name) if nobody else "",
        "alert": "BunqueueJobsWaitTooLong" if age >= WAITS_MS else None, "since": queue.oldest_ready_at,
        "evidence": f"{flow}{count(queue.active, 'job is', 'jobs are')} active, {count(queue.pulls_waiting, 'pull waits', 'pulls wait')}.",
        "numbers": {"waiting": queue.waiting, "oldestMs": age, "active": queue.active, "pullsWaiting": queue.pulls_waiting},
    }  # fmt: skip


_ASK = (
    "Start a worker for {0}: `bunqueue-trio worker MODULE:NAME`. If one runs, `bunqueue-trio workers` shows which queues it asks for, "
    "to which server it is connected, and whether somebody has told it to take no more jobs."
)


def _growth(lately: Sequence[QueueMinute]) -> float:
    """Return by how many jobs a minute a queue grows, if it does so steadily; else 0."""
    if len(lately) < GROWS_MINUTES:
        return 0
    steps = [after.waiting - before.waiting for before, after in itertools.pairwise(lately)]
    grown = lately[-1].waiting - lately[0].waiting
    steady = sum(step > 0 for step in steps) >= 0.8 * len(steps)
    return grown / len(steps) if steady and grown >= GROWS_MIN else 0


def _dies(queue: QueueLook, lately: Sequence[QueueMinute], now: int) -> Fields:
    died = queue.died - lately[0].dead
    since = next((m.at for before, m in itertools.pairwise(lately) if m.dead > before.dead), now)
    until = _over([after.at for before, after in itertools.pairwise(lately) if after.dead > before.dead], now)
    if queue.died > lately[-1].dead:
        until = None
    failed, completed = _per_minute(lately, "failed"), _per_minute(lately, "completed")
    fail, succeed = ("fail", "succeed") if until is None else ("failed", "succeeded")
    return {
        "code": "jobs-die", "severity": "warning", "queue": queue.name, "alert": "BunqueueJobsDie", "since": since, "until": until,
        "title": f"{queue.name}: {count(died, 'job')} died within {span(now - lately[0].at)}",
        "cause": f"What they ask for {'fails' if until is None else 'failed'} each time: look at what their errors have in common.",
        "evidence": f"{rate(failed)} of the attempts {fail}, {rate(completed)} {succeed}; {count(queue.died, 'dead letter')} in all.",
        "numbers": {"died": died, "dead": queue.died},
    }  # fmt: skip


def _over(moments: Sequence[int], now: int) -> int | None:
    """Return the last of some moments if nothing has come after it for a while, and it is over; else None."""
    last = max(moments, default=now)
    return last if now - last >= OVER_MS else None


def _fails_weight(lately: Sequence[QueueMinute]) -> int:
    failed = sum(m.failed for m in lately)
    return 10**5 + failed if failed >= FAILS_MIN and failed >= sum(m.completed for m in lately) else 0


def _fails(queue: QueueLook, lately: Sequence[QueueMinute], now: int) -> Fields:
    failed, completed = sum(m.failed for m in lately), sum(m.completed for m in lately)
    until = _over([m.at for m in lately if m.failed], now)
    return {
        "code": "attempts-fail", "severity": "warning", "queue": queue.name, "until": until,
        "title": f"{queue.name}: most attempts {'fail' if until is None else 'failed'}, {rate(failed / len(lately))}",
        "since": next(m.at for m in lately if m.failed),
        "cause": "What the jobs need is down, or the workers are of a new version. They are tried again until they die."
        if until is None
        else "What the jobs need was down, or the workers were of another version. No attempt has failed since.",
        "evidence": f"{count(failed, 'attempt')} failed and {count(completed, 'job')} completed; {count(queue.delayed, 'job waits', 'jobs wait')} for another try.",
        "numbers": {"failed": failed, "completed": completed, "delayed": queue.delayed},
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
        "numbers": {"waiting": queue.waiting, "pausedMs": now - pause.since},
    }  # fmt: skip


def _usual(hour: Sequence[QueueMinute]) -> int | None:
    """Return in how many ms 99 of 100 jobs have completed; None: that were too few."""
    runs: Counter[int] = Counter()
    for minute in hour:
        runs.update(minute.runs)
    return part(runs, 0.99) if runs.total() >= STUCK_MIN else None


def _stuck_weight(queue: QueueLook, hour: Sequence[QueueMinute], now: int) -> int:
    usual, age = _usual(hour), now - (queue.active_since or now)
    return 10**5 + age // 1000 if usual is not None and age >= STUCK_TIMES * usual else 0


def _stuck(queue: QueueLook, hour: Sequence[QueueMinute], now: int) -> Fields:
    usual, age = _usual(hour) or 0, now - (queue.active_since or now)
    return {
        "code": "job-stuck", "severity": "warning", "queue": queue.name, "since": queue.active_since,
        "title": f"{queue.name}: a job has been active for {span(age)}, others take {span(usual)} at most",
        "cause": "Its handler hangs, or it has far more to do than others. Its worker says that it lives, so nobody else gets the job.",
        "evidence": f"`bunqueue-trio jobs {queue.name} active` shows it first, `bunqueue-trio why ID` names its worker, and `bunqueue-trio cancel ID` ends it.",
        "numbers": {"activeMs": age, "usualMs": usual},
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
    yield {
        "code": "workers-vanish", "severity": "warning", "alert": "BunqueueWorkersVanish",
        "queue": worst if named else None,
        "until": until,
        "title": f"Workers {take} not heard of again: {count(stalled, 'job')} stalled within 15 minutes",
        "cause": "Workers that are killed or hang: too little memory, a deployment that does not wait, a handler that blocks.",
        "evidence": f"{count(lost, 'job')} died of it within an hour.{named}",
        "numbers": {"stalled": stalled, "lost": lost}, "weight": 5 * 10**6 + lost,
    }  # fmt: skip


def _lie_around(queues: Sequence[QueueLook], told: set[str]) -> Iterator[Fields]:
    dead = sorted((each for each in queues if each.died and each.name not in told), key=lambda each: -each.died)
    if not dead:
        return
    total = sum(each.died for each in dead)
    one = dead[0].name if len(dead) == 1 else None
    yield {
        "code": "dead-letters", "severity": "notice", "queue": one, "weight": 5,
        "title": f"{count(total, 'dead letter')} in {one or count(len(dead), 'queue')} wait for a decision"
        if total != 1 else f"1 dead letter in {one} waits for a decision",
        "cause": "Jobs that failed for good are kept until somebody retries or deletes them, or retention does.",
        "evidence": ", ".join(f"{each.name}: {each.died:,}" for each in dead[:5]) + (" …" if len(dead) > 5 else ""),
        "numbers": {"dead": total, "queues": len(dead)},
    }  # fmt: skip
