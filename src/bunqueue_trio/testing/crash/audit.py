"""The audit of the crash test: what a server that was killed and started again says, against the books.

`cut` is the moment up to which everything that was answered must be there: for ever after a mere kill. After a power
cut it is the latest moment at which something was sent that is there, since what survives is a prefix of what was
committed: then everything that had been answered by that moment has to be there as well.
"""

import json
import math
import re
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import trio

from bunqueue_trio.config import ATTEMPTS_KEPT
from bunqueue_trio.pages.words import count
from bunqueue_trio.storage.sqlite.inspect import examine
from bunqueue_trio.testing.client import Body, Peer, event_stream, http_peer, ws_peer
from bunqueue_trio.testing.crash import rerunning
from bunqueue_trio.testing.crash.load import (
    HEARD,
    LEASE_MS,
    SERIES_EVERY_MS,
    SLOT_EVERY_MS,
    SLOTS_MADE_UP,
    BookedJob,
    Books,
    Op,
    hear_mark,
    note_delivery,
)
from bunqueue_trio.testing.crash.operating import ActsFound, Deed, judge, look

# Questions under way at once.
ASKING = 16
# Breaches of one kind that are shown.
SHOWN = 5
FINISHED = {"completed", "failed"}
GONE = "gone"
HOLD_MS = 60_000


@dataclass
class Found:
    """What the server says."""

    states: dict[BookedJob, str] = field(default_factory=dict)
    attempts: dict[BookedJob, int] = field(default_factory=dict)
    results: dict[BookedJob, object] = field(default_factory=dict)
    logs: dict[BookedJob, list[str]] = field(default_factory=dict)
    moved: set[BookedJob] = field(default_factory=set)
    """Those in the queue that some are moved into."""
    acts: ActsFound = field(default_factory=ActsFound)
    retried: rerunning.RetriedFound = field(default_factory=rerunning.RetriedFound)
    reasons: dict[str, str] = field(default_factory=dict)
    """Of dead jobs, by their ids."""
    drained: list[BookedJob] = field(default_factory=list)
    events: list[tuple[int, str]] = field(default_factory=list)
    """All since the round began."""
    series_runs: int = 0
    has_schedule: bool = False


@dataclass
class Verdict:
    """What came of one round."""

    breaches: list[str]
    answered: int
    durable: int
    lost: int = 0
    """Answered changes that a power cut was allowed to take: none was durable, and nothing newer survived."""
    lost_ms: float = 0.0
    """How long before the cut the oldest of them was answered."""


async def audit(url: str, books: Books, data: Path, *, power_cut: bool, ended_at: float) -> Verdict:
    """Ask a server that has come back about everything, compare it with the books, and tidy up."""
    found = Found()
    with trio.move_on_after(60) as patience:
        async with ws_peer(url) as peer:
            # A watcher that was not there for the cut goes on where it was; what a power cut took may have been heard.
            after = books.begun_at if power_cut or not books.heard else books.heard[-1][0]
            async with event_stream(url, after, HEARD) as events, http_peer(url) as marker:
                await events.next()
                _, resumed = await hear_mark(marker, events)
            found.events = resumed if after == books.begun_at else books.heard + resumed
            await _ask(peer, books, found)
            await _ask_why(peer, books, found)
            found.acts = await look(peer, books.acts)
            found.retried = await rerunning.look(peer, books.retried)
            await _drain(peer, books, found)
            await _series(peer, books, found)
            await _schedule(peer, books, found)
        report = await trio.to_thread.run_sync(examine, data, lambda _: None)
    if patience.cancelled_caught:
        return Verdict(["the server did not answer for 60 s"], 0, 0)
    verdict = compare(books, found, power_cut=power_cut, ended_at=ended_at)
    verdict.breaches += [f"doctor: {finding}" for finding in report.findings]
    return verdict


async def _ask(peer: Peer, books: Books, found: Found) -> None:
    """Ask for the state, the attempts and the result of every job whose id somebody knows."""
    todo = [job for job in books.jobs.values() if job.job_id is not None]

    async def ask() -> None:
        while todo:
            job = todo.pop()
            answer = await peer.call("GetState", id=job.job_id)
            found.states[job] = answer["state"] if answer["ok"] else GONE
            if not answer["ok"]:
                continue
            view: Body = (await peer.call("GetJob", id=job.job_id))["job"]
            found.attempts[job] = view["attempts"]
            if view["queue"] != books.queue:
                found.moved.add(job)
            told = (await peer.call("GetAttempts", id=job.job_id))["attempts"]
            failed = [each for each in told if each["reason"] != "stalled"]
            if len(told) < ATTEMPTS_KEPT and len(failed) != view["attempts"]:
                books.strange.append(f"{job.job_id} has failed {view['attempts']} times, and tells of {len(failed)}")
            if view["data"] != job.payload:
                books.strange.append(f"{job.job_id} has another payload")
            if job.logs:
                lines = (await peer.call("GetLogs", id=job.job_id, limit=1000))["data"]["logs"]
                found.logs[job] = [line["message"] for line in lines]
            if answer["state"] == "completed":
                found.results[job] = (await peer.call("GetResult", id=job.job_id))["result"]

    async with trio.open_nursery() as nursery:
        for _ in range(ASKING):
            nursery.start_soon(ask)


async def _ask_why(peer: Peer, books: Books, found: Found) -> None:
    """Ask of every dead job why it is, and whether lists, counts and groups say the same of those that have ended."""
    told_counts: Counter[str] = Counter()
    for queue in books.queues:
        dead: Counter[str] = Counter()
        page: Body = {"next": None}
        while True:
            after = {} if page["next"] is None else {"after": page["next"]}
            page = await peer.call("Dlq", queue=queue, limit=1000, **after)
            found.reasons |= {entry["job"]["id"]: entry["reason"] for entry in page["entries"]}
            dead.update(_shape(entry["reason"], entry["error"]) for entry in page["entries"])
            if page["next"] is None:
                break
        groups = (await peer.call("DlqGroups", queue=queue, limit=100))["groups"]
        told = [(_shape(each["example"]["reason"], each["example"]["error"]), each["count"]) for each in groups]
        if sorted(told) != sorted(dead.items()):
            books.strange.append(f"the dead letters are {sorted(dead.items())}, and their groups {sorted(told)}")
        counts = (await peer.call("GetJobCounts", queue=queue))["counts"]
        told_counts.update({state: counts[state] for state in FINISHED})
    ended = Counter(state for state in found.states.values() if state in FINISHED)
    if told_counts != ended:
        books.strange.append(f"counted are {dict(told_counts)}, and asked one by one {dict(ended)}")


def _shape(reason: str, error: str) -> str:
    """Return what makes errors the same fault, as this test makes them."""
    return "cancelled" if reason == "cancelled" else re.sub("[0-9]+", "…", error)


async def _drain(peer: Peer, books: Books, found: Found) -> None:
    """Take all that is ready, and remove everything that is left for the next round."""
    for queue in books.queues:
        while jobs := (await peer.call("PULLB", queue=queue, count=100, lockTtl=HOLD_MS))["jobs"]:
            for delivered in jobs:
                note_delivery(books, delivered, 0)
                found.drained.append(books.by_id[delivered["id"]])
    for job in books.by_id.values():
        if found.states.get(job) not in {*FINISHED, GONE}:
            await peer.call("Cancel", id=job.job_id)


async def _series(peer: Peer, books: Books, found: Found) -> None:
    """Count the pending runs of the repeating job: there is always exactly one."""
    if books.series is None or books.series.answered == math.inf:
        return
    # Who held the run has a lease, whose end takes it back.
    waits = [LEASE_MS + 1000, SERIES_EVERY_MS * 3]
    for wait in waits:
        pull = {"queue": books.series_queue, "count": 10, "timeout": wait, "lockTtl": HOLD_MS}
        for delivered in (await peer.call("PULLB", **pull))["jobs"]:
            found.series_runs += 1
            await peer.call("Cancel", id=delivered["id"])
        if not found.series_runs:
            return


async def _schedule(peer: Peer, books: Books, found: Found) -> None:
    """See whether the schedule is there, and take it away."""
    found.has_schedule = (await peer.call("DeleteSchedule", name=books.slot_queue))["ok"]
    await peer.call("Obliterate", queue=books.slot_queue, force=True)


def compare(books: Books, found: Found, *, power_cut: bool, ended_at: float) -> Verdict:
    """Return the breaches of the promise that the answers are facts."""
    durable = [job.push for job in books.jobs.values() if job.durable and job.push.answered < math.inf]
    breaches = list(books.strange)
    cut = math.inf
    if power_cut:
        there = [op for job in books.jobs.values() for op in _there(job, found)]
        done = [*books.acts.deeds[: len(found.acts.log)], *rerunning.there(books.retried, found.retried)]
        cut = max([*(op.sent for op in (*durable, *there)), *(deed.sent for deed in done)], default=0)
    promised = set(durable)
    wrong, undone = judge(books.acts, found.acts, cut)
    breaches += wrong
    wrong, lacking = rerunning.judge(books.retried, found.retried, cut)
    breaches += wrong
    lost: list[Op | Deed] = [*undone, *lacking]
    for job in books.jobs.values():
        sure = {
            op
            for op in (job.push, *job.acks, *job.fails, *job.cancels, *job.logs, *job.moves)
            if op.answered < cut or op in promised
        }
        problem, missing = _judge(job, found, sure)
        breaches += [f"{problem}: {job.job_id}"] if problem else []
        lost += [op for op in missing if op not in sure]
    if books.series is not None and books.series.answered < math.inf and found.series_runs != 1:
        breaches.append(f"a repeating job has {found.series_runs} pending runs")
    if books.schedule is not None and books.schedule.answered < cut and not found.has_schedule:
        breaches.append("a schedule is lost that was put with an answer")
    waiting = {job for job, state in found.states.items() if state == "waiting"}
    breaches += [f"waiting and not delivered: {job.job_id}" for job in waiting - set(found.drained)]
    twice = Counter(found.drained)
    breaches += [f"delivered {n} times at once: {job.job_id}" for job, n in twice.items() if n > 1]
    breaches += _judge_events(books, found, power_cut=power_cut)
    first = min((op.answered for op in lost), default=ended_at)
    return Verdict(breaches, books.answered, len(durable), len(set(lost)), (ended_at - first) * 1000)


def _there(job: BookedJob, found: Found) -> list[Op]:
    """Return what certainly has happened, if only one of several can have brought a job to where it is: the first."""
    state = found.states.get(job, GONE)
    dead = [op for op in job.fails if op.final] + [op for op in job.cancels if op.text is not None]
    first = {"completed": job.acks, "failed": dead}.get(state, [])
    written = [op for op in job.logs if op.text in found.logs.get(job, ())]
    written += job.moves if job in found.moved else []
    return [*([job.push] if state != GONE else []), *([min(first, key=lambda op: op.sent)] if first else []), *written]


def _judge(job: BookedJob, found: Found, sure: set[Op]) -> tuple[str | None, list[Op]]:
    """Return what is wrong with a job, if anything, and which answered changes are not there, whether sure or not."""
    state = found.states.get(job)
    # Nobody knows its id: the push was not answered, and nobody got it.
    if state is None:
        return None, []
    if state == GONE and any(op.text is None for op in job.cancels):
        # Cancelled, or lost with its push: the events tell.
        return None, []
    attempts = found.attempts.get(job, 0)
    answered = [op for op in _missing(job, found, state, attempts) if op.answered < math.inf]
    if any(op in sure for op in answered):
        return f"{_deed(job, sure & set(answered))}, and now {state} after {attempts} attempts", answered
    return _judge_end(job, found, state) or _judge_past(job, found, attempts), answered


def _missing(job: BookedJob, found: Found, state: str, attempts: int) -> list[Op]:
    """Return what was asked for and is not there."""
    if state == GONE:
        return [job.push, *job.acks, *job.fails, *job.cancels, *job.logs, *job.moves]
    missing = [op for op in job.acks if state != "completed"] + [
        op for op in job.logs if op.text not in found.logs[job]
    ]
    missing += [op for op in job.moves if job not in found.moved]
    missing += [op for op in job.fails if op.final and state != "failed"]
    missing += [op for op in job.cancels if op.text is None or state != "failed"]
    return missing + sorted(job.fails, key=lambda op: op.answered)[attempts:]


def _judge_end(job: BookedJob, found: Found, state: str) -> str | None:
    if state == "completed":
        return (
            "completed by nobody"
            if not job.acks
            else "the result is lost"
            if found.results[job] != job.payload
            else None
        )
    return _judge_death(job, found) if state == "failed" else None


def _judge_past(job: BookedJob, found: Found, attempts: int) -> str | None:
    """Return what is wrong with the past of a job: each line of its log was written, once, and after the one before it was begun."""
    if attempts > len(job.fails):
        return f"{attempts} attempts, and {len(job.fails)} were asked for"
    if job in found.moved and not job.moves:
        return "moved by nobody"
    lines, by_text = found.logs.get(job, []), {op.text: op for op in job.logs}
    if not by_text.keys() >= set(lines) or len(set(lines)) < len(lines):
        return "its log has a line that nobody has written, or one twice"
    ops = [by_text[line] for line in lines]
    return "its log is out of order" if any(b.answered < a.sent for a, b in pairwise(ops)) else None


def _judge_death(job: BookedJob, found: Found) -> str | None:
    final, kept = [op for op in job.fails if op.final], [op for op in job.cancels if op.text is not None]
    if not final and not kept:
        return "failed for good by nobody"
    reasons = {"unrecoverable" if op.unrecoverable else "max_attempts_exceeded" for op in final}
    reasons |= {"cancelled" for _ in kept}
    reason = found.reasons.get(job.job_id or "")
    return None if reason in reasons else f"dead for {reason}, which nobody gave"


def _deed(job: BookedJob, ops: set[Op]) -> str:
    deeds = {
        "pushed": [job.push],
        "acked": job.acks,
        "failed": job.fails,
        "cancelled": job.cancels,
        "logged": job.logs,
        "moved": job.moves,
    }
    for name, done in deeds.items():
        if ops & set(done):
            return f"{name} with an answer"
    raise AssertionError("a deed of nobody")


def _judge_events(books: Books, found: Found, *, power_cut: bool) -> list[str]:
    """Return what is wrong with the events: each once, in order, the same for all, and of nothing but facts."""
    breaches = []
    ids = [event_id for event_id, _ in found.events]
    if ids != list(range(books.begun_at + 1, books.begun_at + 1 + len(ids))):
        gaps = [(a, b) for a, b in zip([books.begun_at, *ids], ids, strict=False) if b != a + 1]
        breaches.append(f"events missed or told twice: {gaps[:SHOWN]}")
    breaches += _judge_heard(books.heard, found.events, power_cut=power_cut)
    all_events = [json.loads(text) for _, text in found.events]
    events = [event for event in all_events if "gap" not in event]
    if len(events) < len(all_events):
        breaches.append("the events since the round began cannot be read any more")
    told = Counter((event["eventType"], event.get("jobId")) for event in events)
    runs = Counter(event["eventType"] for event in events if event.get("queue") == books.series_queue)
    if runs["pushed"] and runs["pushed"] != 1 + runs["completed"] + runs["failed"]:
        breaches.append(
            f"{runs['pushed']} runs of a repeating job, and {runs['completed'] + runs['failed']} have ended"
        )
    prefix = f"{books.slot_queue}@"
    pushed_ids = [event["jobId"] for event in events if event["eventType"] == "pushed"]
    breaches += judge_slots([int(each.removeprefix(prefix)) for each in pushed_ids if each.startswith(prefix)])
    for job, state in found.states.items():
        pushed, removed = told["pushed", job.job_id], told["removed", job.job_id]
        there = state != GONE or removed > 0
        if pushed != there:
            breaches.append(f"{pushed} events tell of the push of a job that is {state}: {job.job_id}")
        if told["completed", job.job_id] != (state == "completed"):
            breaches.append(f"{told['completed', job.job_id]} events complete a job that is {state}: {job.job_id}")
        if there and state != GONE and told["failed", job.job_id] != found.attempts[job]:
            breaches.append(f"{told['failed', job.job_id]} events for {found.attempts[job]} failures: {job.job_id}")
        if removed > (state == GONE or found.reasons.get(job.job_id or "") == "cancelled"):
            breaches.append(f"removed {removed} times and now {state}: {job.job_id}")
    return breaches


def judge_slots(slots: list[int]) -> list[str]:
    """Return what is wrong with the slots that brought a job, in their order: each must do so once, and none may be left out.

    After a long time without a server only the last of them are made up.
    """
    breaches = []
    for i, slot in enumerate(slots[1:], 1):
        made_up = slots[i + SLOTS_MADE_UP - 1 : i + SLOTS_MADE_UP]
        if slot <= slots[i - 1]:
            breaches.append(f"slot {slot} brings a job after that of {slots[i - 1]}")
        elif slot - slots[i - 1] != SLOT_EVERY_MS and made_up != [slot + (SLOTS_MADE_UP - 1) * SLOT_EVERY_MS]:
            breaches.append(f"slots between {slots[i - 1]} and {slot} bring no job")
    return breaches[:SHOWN]


def _judge_heard(heard: list[tuple[int, str]], told: list[tuple[int, str]], *, power_cut: bool) -> list[str]:
    """Return what is wrong with the events that the watcher heard before the end, which come again after it."""
    kept = next(
        (i for i, pair in enumerate(zip(heard, told, strict=False)) if pair[0] != pair[1]), min(len(heard), len(told))
    )
    breaches = []
    if not power_cut and kept < len(heard):
        breaches.append(
            f"{count(len(heard) - kept, 'event that was heard is', 'events that were heard are')} not there any more, from {heard[kept][0]} on"
        )
    if again := set(heard[kept:]) & set(told):
        breaches.append(f"{count(len(again), 'event')} survived and others before them did not")
    return breaches
