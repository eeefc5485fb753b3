"""Why a job is not running, or what has become of it: a code, a sentence, and the numbers of this moment.

The answer is what stands in its way now; when that is gone, the next reason is the answer.
"""

from itertools import islice

from bunqueue_trio.config.spans import span
from bunqueue_trio.engine.auto_retrying import outlook
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.gates import Gate
from bunqueue_trio.engine.job import Job, State, deadline, expiry
from bunqueue_trio.engine.lookup import reason_of
from bunqueue_trio.engine.moves import CANCELLED
from bunqueue_trio.engine.queue import Queue
from bunqueue_trio.engine.workers import Worker
from bunqueue_trio.protocol import replies as r

_MAY_EXPIRE = frozenset({State.WAITING, State.DELAYED, State.WAITING_CHILDREN})
# Active jobs that are looked at: whether somebody has one who may ask for more.
_HELD_MAX = 100
# Dependencies told by their ids: a sentence, not a list.
_NAMED_MAX = 20
# Times what is usual: from then on it is worth a word.
_LONG = 3
# Characters of the error of a dead one: the whole is among the dead letters.
_ERROR_MAX = 200


def why(engine: Engine, job: Job, now: int) -> r.WhyReply:
    """Return what a job that can be shown waits for, or how it ended."""
    told = r.WhyReply(id=job.id, queue=job.queue, state=job.state.value, code="", why="", attempts=job.attempts)
    match job.state:
        case State.WAITING:
            _waiting(engine, job, told, now)
        case State.DELAYED:
            _delayed(job, told, now)
        case State.WAITING_CHILDREN:
            _depends(job, told)
        case State.ACTIVE:
            _active(engine, job, told, now)
        case _:
            told.code = job.state.value if job.noted().cancelled is None else CANCELLED
            told.since = job.noted().finished_at
            ago = span(now - (told.since or now))
            told.why = f"It completed {ago} ago." if job.state is State.COMPLETED else _dead(engine, job, told, now)
    if job.state in _MAY_EXPIRE and (expires := expiry(job)) is not None:
        told.expires_at = expires
        told.why += f" Its TTL ends in {span(expires - now)}: it is removed then, if nobody has got it."
    return told


def _dead(engine: Engine, job: Job, told: r.WhyReply, now: int) -> str:
    ago = span(now - (told.since or now))
    if (cancelled := job.noted().cancelled) is not None:
        who = cancelled.sender if cancelled.by is None else None
        return f"It was cancelled {ago} ago{f' by {who}' if who else ''}: {_line(job)}."
    error, who = _line(job), job.noted().discarded_by
    by = f" by {who}" if who else ""
    tries = f"attempt {job.attempts} of {job.options.max_attempts}"
    then, told.until = outlook(engine, job, now)
    soon = f" in {span(told.until - now)}" if told.until is not None and told.until > now else ""
    return f"It is a dead letter ({reason_of(job)}{by}, {tries}) for {ago}{then}{soon}{f': {error}' if error else '.'}"


def _line(job: Job) -> str:
    """Return the first line of the error of a job."""
    return (job.noted().error or "").strip().partition("\n")[0][:_ERROR_MAX].strip()


def _delayed(job: Job, told: r.WhyReply, now: int) -> None:
    told.until = job.run_at
    if job.attempts:
        told.code = "backs-off"
        told.why = f"It has failed {_times(job.attempts)}, and is ready again in {span(job.run_at - now)}."
    else:
        told.code = "delayed"
        told.why = f"It is delayed, and ready in {span(job.run_at - now)}."


def _depends(job: Job, told: r.WhyReply) -> None:
    waiting_on = job.noted().waiting_on or ()
    told.code, told.waits_for_count, told.waits_for = "waits-for-jobs", len(waiting_on), sorted(waiting_on)[:_NAMED_MAX]
    more = len(waiting_on) - len(told.waits_for)
    told.why = f"It waits for {', '.join(told.waits_for)}{f' and {more} more' if more else ''} to complete."


def _active(engine: Engine, job: Job, told: r.WhyReply, now: int) -> None:
    assert job.lease is not None
    worker = engine.workers.of(job.lease)
    who = "A worker" if worker is None else f"Worker {worker.name}"
    ends = [time for time in (job.lease.until, job.lease.timeout_at) if time is not None]
    told.code, told.since, told.until = "active", job.started_at, min(ends, default=None)
    told.usual, age = engine.figures.usual(job.queue), now - (job.started_at or now)
    told.why = f"{who} has had it for {span(age)}; {_compared(age, told.usual)}."
    if (cancelled := job.lease.cancelled) is not None:
        told.code, told.until = "cancelling", deadline(job)
        told.why += f" It is cancelled, and may go on for {span((told.until or now) - now)}: {cancelled.words()}."


def _compared(age: int, usual: int | None) -> str:
    """Say what is usual in its queue, and how that compares."""
    if usual is None:
        return "what is usual in its queue is not known yet"
    # What takes no time is not ten times as long after a second.
    is_long = age // max(usual, 1000) >= _LONG
    return f"95 of 100 of its queue take {span(usual)} at most{f', so it is {age // max(usual, 1):,} times as long' if is_long else ''}"


def _waiting(engine: Engine, job: Job, told: r.WhyReply, now: int) -> None:
    queue, gate = engine.queues[job.queue], engine.gates.get(job.queue)
    higher, before, told.exact = queue.ready.ahead(job)
    told.position, told.higher = higher + before + 1, higher
    told.active, told.pulls_waiting = len(queue.active), len(engine.pulls_waiting.get(job.queue, ()))
    if gate is not None and not gate.is_open(told.active):
        _gated(gate, told, now)
    elif not told.pulls_waiting and (holders := _only_quiet(engine, queue)) is not None:
        names = sorted({each.name for each in engine.workers.quieted() if each in holders or each.works_on(job.queue)})
        if names:
            told.code = "workers-quiet"
            told.why = f"Those who work on this queue are quiet, and get no jobs: {', '.join(names[:_NAMED_MAX])}. {_place(told)}"
            return
        told.code = "nobody-asks"
        told.why = f"Nobody asks for jobs of this queue, and none is active. {_place(told)}"
    else:
        told.code = "next" if told.position == 1 else "in-line"
        told.why = f"{_place(told)} {_active_now(told)}."


def _only_quiet(engine: Engine, queue: Queue) -> set[Worker] | None:
    """Return those who have active jobs of a queue, if each of them is quiet; None: somebody may ask for more."""
    holders = set[Worker]()
    for job in islice(queue.active, _HELD_MAX):
        worker = None if job.lease is None else engine.workers.of(job.lease)
        if worker is None or worker.quiet_since is None:
            return None
        holders.add(worker)
    return holders


def _gated(gate: Gate, told: r.WhyReply, now: int) -> None:
    if gate.pause is not None:
        told.code, told.since, told.until = "paused", gate.pause.since, gate.pause.until
        reason = f" ({gate.pause.reason})" if gate.pause.reason else ""
        ends = "" if gate.pause.until is None else f", for {span(gate.pause.until - now)} more"
        told.why = f"The queue is paused{reason}{ends}. {_place(told)}"
    elif gate.opens_at is not None:
        assert gate.rate is not None
        told.code, told.limit = "rate-limit", gate.rate.limit
        told.until = gate.opens_at if gate.rate.until is None else min(gate.opens_at, gate.rate.until)
        then = "the next is possible" if told.until == gate.opens_at else "that limit ends"
        told.why = (
            f"The queue delivers at most {gate.rate.limit} in {span(gate.rate.duration)}: {then} in "
            f"{span(told.until - now)}. {_place(told)}"
        )
    else:
        told.code, told.limit = "concurrency", gate.concurrency
        told.why = f"{_active_now(told)}, and no more than {gate.concurrency} may be. {_place(told)}"


def _place(told: r.WhyReply) -> str:
    if told.position == 1:
        return "It is the next of its queue."
    least = "" if told.exact else "at least "
    behind = f", behind {least}{told.higher} of higher priority" if told.higher else ""
    return f"It is number {least}{told.position} in line{behind}."


def _active_now(told: r.WhyReply) -> str:
    return "1 job of the queue is active" if told.active == 1 else f"{told.active} jobs of the queue are active"


def _times(n: int) -> str:
    return "once" if n == 1 else f"{n} times"
