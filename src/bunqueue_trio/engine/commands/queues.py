"""Handlers of the commands about a queue as a whole."""

from heapq import nsmallest
from itertools import islice

from msgspec import UNSET

from bunqueue_trio import errors
from bunqueue_trio.config import MINUTE_MS, QUEUE_DETAILS_MAX
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.figures import QueueMinute, part
from bunqueue_trio.engine.handler import Handlers, Owner
from bunqueue_trio.engine.job import UNFINISHED
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import queue_replies as qr
from bunqueue_trio.protocol import replies as r


def _pause(engine: Engine, command: c.Pause, now: int, owner: Owner) -> r.Reply:
    engine.queues.check(command.queue)
    if command.until is not None and command.until <= now:
        raise errors.UNTIL_IS_PAST.refuse()
    engine.acted = engine.gates.pause(command.queue, now, command.reason, command.until, engine.by)
    event = engine.tell("paused", now, command.queue)
    event.reason = UNSET if command.reason is None else command.reason
    event.until = UNSET if command.until is None else command.until
    return r.OK


def _resume(engine: Engine, command: c.Resume, now: int, owner: Owner) -> r.Reply:
    engine.queues.check(command.queue)
    if did := engine.gates.resume(command.queue):
        engine.woken[command.queue] = None
        engine.tell("resumed", now, command.queue)
    engine.acted = did
    return r.OK


def _is_paused(engine: Engine, command: c.IsPaused, now: int, owner: Owner) -> r.Reply:
    engine.queues.check(command.queue)
    gate = engine.gates.get(command.queue)
    pause = None if gate is None else gate.pause
    if pause is None:
        return qr.PausedReply(paused=False)
    return qr.PausedReply(paused=True, reason=pause.reason, since=pause.since, until=pause.until)


def _set_concurrency(engine: Engine, command: c.SetConcurrency, now: int, owner: Owner) -> r.Reply:
    engine.queues.check(command.queue)
    engine.acted = engine.gates.limit(command.queue, command.concurrency)
    engine.woken[command.queue] = None
    return r.OK


def _clear_concurrency(engine: Engine, command: c.ClearConcurrency, now: int, owner: Owner) -> r.Reply:
    engine.queues.check(command.queue)
    if did := engine.gates.unlimit(command.queue):
        engine.woken[command.queue] = None
    engine.acted = did
    return r.OK


def _get_concurrency(engine: Engine, command: c.GetConcurrency, now: int, owner: Owner) -> r.Reply:
    engine.queues.check(command.queue)
    queue, gate = engine.queues.get(command.queue), engine.gates.get(command.queue)
    active = 0 if queue is None else len(queue.active)
    return qr.ConcurrencyReply(concurrency=None if gate is None else gate.concurrency, active=active)


def _set_rate(engine: Engine, command: c.RateLimit, now: int, owner: Owner) -> r.Reply:
    engine.queues.check(command.queue)
    until = None if command.ttl is None else now + command.ttl
    engine.acted = engine.gates.set_rate(
        command.queue, now, limit=command.limit, duration=command.duration, until=until
    )
    engine.woken[command.queue] = None
    return r.OK


def _clear_rate(engine: Engine, command: c.RateLimitClear, now: int, owner: Owner) -> r.Reply:
    engine.queues.check(command.queue)
    if did := engine.gates.clear_rate(command.queue):
        engine.woken[command.queue] = None
    engine.acted = did
    return r.OK


def _get_rate(engine: Engine, command: c.GetRateLimit, now: int, owner: Owner) -> r.Reply:
    engine.queues.check(command.queue)
    gate = engine.gates.get(command.queue)
    if gate is None or gate.rate is None:
        return qr.RateLimitReply(limit=None)
    rate = gate.rate
    return qr.RateLimitReply(
        limit=rate.limit, duration=rate.duration, until=rate.until, used=rate.used(now), opens_at=gate.opens_at
    )


def _list(engine: Engine, command: c.ListQueues, now: int, owner: Owner) -> r.Reply:
    limit, after = command.limit, command.after or ""
    if command.details:
        limit = min(limit, QUEUE_DETAILS_MAX)
    live = (name for name in engine.queues.names.after(after) if not engine.queues[name].is_empty)
    gated = nsmallest(limit + 1, (name for name in engine.gates if name > after))
    said = islice(engine.configs.names.after(after), limit + 1)
    found = sorted({*islice(live, limit + 1), *gated, *said, *engine.archive.queues_after(after, limit + 1)})
    names = found[:limit]
    reply = qr.QueuesReply(queues=names, next=names[-1] if len(found) > limit else None)
    if command.details:
        reply.details = [_view(engine, name, now) for name in names]
    return reply


def _get_queue(engine: Engine, command: c.GetQueue, now: int, owner: Owner) -> r.Reply:
    engine.queues.check(command.queue)
    return qr.QueueReply(queue=_view(engine, command.queue, now))


def _get_figures(engine: Engine, command: c.GetFigures, now: int, owner: Owner) -> r.Reply:
    engine.queues.check(command.queue)
    minutes, hours = engine.figures.of(command.queue)
    usual = engine.figures.usual(command.queue)
    return qr.FiguresReply(
        queue=command.queue, minutes=[*map(_figure, minutes)], hours=[*map(_figure, hours)], usual=usual
    )


def _figure(one: QueueMinute) -> qr.FigureView:
    return qr.FigureView(
        at=one.at, pushed=one.pushed, completed=one.completed, failed=one.failed, stalled=one.stalled, retried=one.retried,
        waiting=one.waiting, dead=one.dead, oldest=one.oldest, run=round(one.run / max(1, sum(one.runs.values()))) if one.runs else None,
        p50=part(one.runs, 0.5), p95=part(one.runs, 0.95),
    )  # fmt: skip


def _view(engine: Engine, name: str, now: int) -> qr.QueueView:
    queue, gate = engine.queues.get(name), engine.gates.get(name)
    pause = None if gate is None else gate.pause
    rate = None if gate is None else gate.rate
    first = None if queue is None else queue.delayed.first()
    return qr.QueueView(
        name=name,
        paused=pause is not None,
        pause=None if pause is None else qr.PauseView(pause.reason, pause.since, pause.until, pause.by),
        counts=_counts(engine, name),
        oldest_ready_at=None if queue is None else queue.ready.ready_since(),
        next_due_at=None if first is None else first.run_at,
        concurrency=None if gate is None else gate.concurrency,
        rate_limit=None if rate is None else qr.RateView(rate.limit, rate.duration),
        opens_at=None if gate is None else gate.opens_at,
        pulls_waiting=len(engine.pulls_waiting.get(name, ())),
        lately=_lately(engine, name, now),
        set=engine.configs.of(name),
    )


def _lately(engine: Engine, name: str, now: int) -> qr.LatelyView | None:
    lately = engine.figures.lately(name)
    if lately is None or lately.last is None:
        return None
    last = lately.last if now - lately.last.at < MINUTE_MS else None
    return qr.LatelyView(
        minute=qr.FlowView(0, 0) if last is None else qr.FlowView(last.pushed, last.completed + last.died),
        hour=qr.FlowView(lately.came, lately.ended), p50=part(lately.runs, 0.5), p95=part(lately.runs, 0.95),
    )  # fmt: skip


def _counts(engine: Engine, name: str) -> dict[str, int]:
    queue = engine.queues.get(name)
    unfinished = dict.fromkeys(UNFINISHED, 0) if queue is None else queue.counts
    counts = {state.value: n for state, n in unfinished.items()}
    completed, failed = engine.archive.kept_of(name)
    return counts | {"completed": completed, "failed": failed}


def _job_counts(engine: Engine, command: c.GetJobCounts, now: int, owner: Owner) -> r.Reply:
    engine.queues.check(command.queue)
    counts, gate = _counts(engine, command.queue), engine.gates.get(command.queue)
    # The original tells jobs with a priority apart; here they are ready ones as all the others, in every answer.
    counts |= {"prioritized": 0, "paused": 0}
    if gate is not None and gate.pause is not None:
        counts["paused"], counts["waiting"] = counts["waiting"], 0
    return qr.CountsReply(counts=counts)


def _count(engine: Engine, command: c.CountJobs, now: int, owner: Owner) -> r.Reply:
    engine.queues.check(command.queue)
    counts = _counts(engine, command.queue)
    return qr.CountReply(count=counts["waiting"] + counts["delayed"])


def _by_priority(engine: Engine, command: c.GetCountsPerPriority, now: int, owner: Owner) -> r.Reply:
    engine.queues.check(command.queue)
    queue = engine.queues.get(command.queue)
    counts = {} if queue is None else queue.ready.by_priority()
    return qr.PriorityCountsReply(queue=command.queue, counts={str(priority): n for priority, n in counts.items()})


HANDLERS: Handlers = {
    c.Pause: _pause,
    c.Resume: _resume,
    c.IsPaused: _is_paused,
    c.SetConcurrency: _set_concurrency,
    c.ClearConcurrency: _clear_concurrency,
    c.GetConcurrency: _get_concurrency,
    c.RateLimit: _set_rate,
    c.RateLimitClear: _clear_rate,
    c.GetRateLimit: _get_rate,
    c.ListQueues: _list,
    c.GetQueue: _get_queue,
    c.GetFigures: _get_figures,
    c.GetJobCounts: _job_counts,
    c.CountJobs: _count,
    c.GetCountsPerPriority: _by_priority,
}
