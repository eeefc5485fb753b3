"""How actions look before they act, and act: in slices, each its own commit, at most :data:`ACT_MAX` jobs at once."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import trio
from msgspec.structs import replace

from bunqueue_trio.config import parse_typed_ms
from bunqueue_trio.errors import Refused
from bunqueue_trio.pages.queue_settings import NAMED, USUAL, Told, parse, tell
from bunqueue_trio.pages.words import count, size, span
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.replies import DeadLetter
from bunqueue_trio.protocol.worker_replies import WorkerView
from bunqueue_trio.runtime.errands import Step
from bunqueue_trio.ui.action import Action, Does, Done, Form, Looks, Preview
from bunqueue_trio.ui.ask import Ask, Wrong
from bunqueue_trio.ui.commands import make
from bunqueue_trio.ui.errands import LARGE, STEP, all_of, begin, begin_if_large

# Jobs in one go; the rest by doing it again.
ACT_MAX = 10_000
BY_CURL = (
    f"One request does up to {ACT_MAX:,}: send it again, with the next of its answer as after, until that is null."
)
# Dead letters of one error that are counted.
LOOKED_MAX = 10_000
EXAMPLES_MAX = 3
# Dead letters read at once: their payloads come from the disk.
PAGE = 50
# Each with up to 100 jobs.
WORKERS_PAGE = 50
# Jobs whose fate is shown after they were retried.
WATCHED_MAX = 20


def duration(text: str) -> int:
    """Return the ms that a person means.

    Raises:
        Wrong: it is no time.
    """
    try:
        return parse_typed_ms(text)
    except ValueError as error:
        raise Wrong(f"{text[:50]!r} {error}") from None


def of_queue(state: str, says: str) -> Looks:
    """Return what looks at how many jobs of a queue are in a state, and says so."""

    async def look(ask: Ask, form: Form) -> Preview:
        await trio.lowlevel.checkpoint()
        n = (await ask.look(c.GetQueue(queue=form["queue"]))).queue.counts[state]
        jobs = (await ask.look(c.GetJobs(queue=form["queue"], state=state, limit=EXAMPLES_MAX))).jobs if n else []
        return Preview(says.format(count(n, f"{state} job")), tuple(job.id for job in jobs))

    return look


async def told_of(ask: Ask, queue: str, acts: Sequence[Mapping[str, Any]] = ()) -> list[Told]:
    """Return how a queue treats its jobs."""
    found = {
        "defaults": c.GetDefaults(queue=queue),
        "stalls": c.GetStallConfig(queue=queue),
        "dead": c.GetDlqConfig(queue=queue),
    }
    replies = {name: msgspec.to_builtins(await ask.look(command)) for name, command in found.items()}
    return tell(replies, queue, acts)


def of_settings(group: str, *, is_reset: bool = False) -> Looks:
    """Return what says how some settings of a queue are, and which of them would change."""

    async def look(ask: Ask, form: Form) -> Preview:
        await trio.lowlevel.checkpoint()
        told = [each for each in await told_of(ask, form["queue"]) if each.setting.group == group]
        now = ", ".join(f"{each.setting.name} {each.value}{'' if each.is_set else ' (default)'}" for each in told)
        changed = [each.setting.name for each in told if (each.is_set if is_reset else form[each.setting.name])]
        would = f"{', '.join(changed)} would change" if changed else "nothing would change"
        leaving = "" if is_reset or group != "dead" else await _leaving(ask, form)
        values = {each.setting.name: each.value for each in told}
        return Preview(f"Now: {now}; {would}.{leaving}", is_nothing=not changed, now=values, is_grave=bool(leaving))

    return look


async def _leaving(ask: Ask, form: Form) -> str:
    """Say how many dead letters would not be kept any more."""
    said, told = {name: form[name] for name in ("maxEntries", "maxAge") if form[name] not in ("", USUAL)}, ""
    try:
        fields: dict[str, Any] = {name: parse(NAMED[name], text) for name, text in said.items()}
    except ValueError as error:
        raise Wrong(str(error)) from None
    if "maxEntries" in fields:
        n = (await ask.look(c.GetQueue(queue=form["queue"]))).queue.counts["failed"] - fields["maxEntries"]
        told += f" {count(n, 'dead letter')} would be deleted at once and for good." if n > 0 else ""
    if "maxAge" in fields:
        clean = {**form, "state": "failed", "older": said["maxAge"]}
        old = await before_clean(ask, clean)
        told += "" if old.is_nothing else f" Of those that are too old, {old.says}"
    return told


async def of_job(ask: Ask, form: Form) -> Preview:
    """Say where the job is."""
    await trio.lowlevel.checkpoint()
    try:
        told = await ask.look(c.Why(id=form["id"]))
    except Refused as refused:
        raise Wrong(f"{form['id']}: {refused}", refused.status) from None
    return Preview(f"It is {told.state}. {told.why}", (form["id"],))


async def _in_line(ask: Ask, form: Form) -> int:
    """Return how many jobs a drain would remove."""
    counts = (await ask.look(c.GetQueue(queue=form["queue"]))).queue.counts
    return counts["waiting"] + (counts["delayed"] if form.get("delayed") == "yes" else 0)


async def before_drain(ask: Ask, form: Form) -> Preview:
    """Say how many would go."""
    await trio.lowlevel.checkpoint()
    n = await _in_line(ask, form)
    jobs = (await ask.look(c.GetJobs(queue=form["queue"], state="waiting", limit=EXAMPLES_MAX))).jobs
    return Preview(f"{count(n, 'job')} would be removed.", tuple(job.id for job in jobs), not n)


class _Old(NamedTuple):
    """Jobs that are old enough to be removed, of how many looked at, and about what they take of the file."""

    found: int
    looked: int
    taken: int
    examples: tuple[str, ...]
    is_more: bool
    """There are more to look at."""


async def _old(ask: Ask, form: Form) -> _Old:
    """Look at up to :data:`LOOKED_MAX` jobs for those that are old enough; lets others run in between."""
    found, looked, taken, examples, after = 0, 0, 0, list[str](), None
    while looked < LOOKED_MAX:
        wanted = c.Clean(
            queue=form["queue"], state=form["state"], grace=duration(form["older"]), after=after, dry_run=True
        )
        page: Any = await ask.server.core.execute(wanted, by=ask.by)
        found, looked, taken, after = found + page.count, looked + page.scanned, taken + page.bytes, page.next
        examples += page.ids[: EXAMPLES_MAX - len(examples)]
        if after is None:
            break
    return _Old(found, looked, taken, tuple(examples), after is not None)


async def before_clean(ask: Ask, form: Form) -> Preview:
    """Say how many are old enough, and about what they take of the file; of very many those that were looked at."""
    old = await _old(ask, form)
    more = f" of the {old.looked:,} looked at" if old.is_more else ""
    says = f"{count(old.found, 'job')}{more}, about {size(old.taken)}, would be removed"
    # What was not looked at may be old enough, too.
    return Preview(f"{says}.", old.examples, not (old.found or old.is_more))


async def before_dead(ask: Ask, form: Form) -> Preview:
    """Say how many dead letters there are."""
    await trio.lowlevel.checkpoint()
    told = await ask.look(c.Dlq(queue=form["queue"], limit=EXAMPLES_MAX))
    return Preview(
        f"{count(told.total, 'dead letter')}.", tuple(each.job.id for each in told.entries), not told.total
    )  # fmt: skip


async def before_group(ask: Ask, form: Form) -> Preview:
    """Say how many of the newest have this error."""
    most = number(form)
    ids = [letter.job.id for letter in await dead_letters(ask, form["queue"], LOOKED_MAX, form["fingerprint"])]
    more = " or more" if len(ids) >= LOOKED_MAX else ""
    says = f"{count(min(len(ids), most), 'dead letter')} of {len(ids):,}{more} with this error."
    return Preview(says, tuple(ids[:EXAMPLES_MAX]), not ids)


def _letters(n: int, more: str) -> str:
    return f"{n:,}{more} dead letters" if more else count(n, "dead letter")


async def before_retry(ask: Ask, form: Form) -> Preview:
    """Say how many have this error, and which are retried first."""
    preview = await before_group(ask, form)
    which = c.Filter(queue=form["queue"], fingerprint=form["fingerprint"])
    first = await _first_of(ask, c.ActOnJobs(filter=which, action="retry", limit=min(number(form), EXAMPLES_MAX)))
    return preview._replace(examples=first)


async def before_rerun(ask: Ask, form: Form) -> Preview:
    """Say how many have this error, and what would forbid it."""
    ids = [letter.job.id for letter in await dead_letters(ask, form["queue"], LOOKED_MAX, form["fingerprint"])]
    queue = (await ask.look(c.GetQueue(queue=form["queue"]))).queue
    more = " or more" if len(ids) >= LOOKED_MAX else ""
    says = f"{_letters(len(ids), more)} with this error."
    if queue.paused:
        return Preview(f"{says} The queue is paused: resume it first.", tuple(ids[:EXAMPLES_MAX]), is_nothing=True)
    return Preview(says, tuple(ids[:EXAMPLES_MAX]), not ids)


async def before_mark(ask: Ask, form: Form) -> Preview:
    """Say how many dead letters of the queue have this error; no queue is named where a mark is taken back."""
    if not form["queue"]:
        await trio.lowlevel.checkpoint()
        return Preview("Its dead letters, in whatever queues, stay.")
    ids = [letter.job.id for letter in await dead_letters(ask, form["queue"], LOOKED_MAX, form["fingerprint"])]
    more = " or more" if len(ids) >= LOOKED_MAX else ""
    return Preview(
        f"{_letters(len(ids), more)} of {form['queue']} with this error stay{'s' if len(ids) == 1 else ''}.",
        tuple(ids[:EXAMPLES_MAX]),
    )


async def of_rerun(ask: Ask, form: Form) -> Preview:
    """Say how far a rerun is."""
    await trio.lowlevel.checkpoint()
    one = next((each for each in (await ask.look(c.ListReruns())).reruns if each.id == form["rerun"]), None)
    if one is None:
        raise Wrong(f"No rerun {form['rerun'][:256]} is known", 404)
    return Preview(f"It has retried {one.retried:,}; {one.open:,} of them have not ended, {one.died:,} died again.")


def of_schedule(says: str) -> Looks:
    """Return what looks at a schedule, and says when it would run next, and which job was its last."""

    async def look(ask: Ask, form: Form) -> Preview:
        await trio.lowlevel.checkpoint()
        try:
            each = (await ask.look(c.GetSchedule(name=form["name"]))).schedule
        except Refused as refused:
            raise Wrong(f"{form['name']}: {refused}", refused.status) from None
        wait = None if each.next_run is None else span(max(0, each.next_run - ask.now))
        following = "It is paused." if each.state == "paused" else "No slot is to come."
        said = {
            "next": following if wait is None else f"Its next run would be in {wait}.",
            "runs": f"It has brought {count(each.runs, 'job')}.",
            "job": "Its last job:" if each.last_job else "It has brought no job yet.",
        }
        return Preview(says.format(**said), (each.last_job,) if each.last_job else ())

    return look


def of_worker(says: str, *, is_nothing: bool = False) -> Looks:
    """Return what looks at the jobs of a worker, and says how many; ``is_nothing``: without any there is nothing to do."""

    async def look(ask: Ask, form: Form) -> Preview:
        each = await worker_of(ask, form["id"])
        if each is None:
            raise Wrong(f"No worker {form['id'][:256]} is known", 404)
        examples = tuple(job.id for job in each.jobs[:EXAMPLES_MAX])
        return Preview(says.format(count(each.active_jobs, "job")), examples, is_nothing and not each.active_jobs)

    return look


async def worker_of(ask: Ask, worker_id: str) -> WorkerView | None:
    """Return a worker, or None; lets others run while it looks for it."""
    # Not far before it.
    after = worker_id[:255][:-1] or None
    while True:
        page = (await ask.look(c.ListWorkers(limit=WORKERS_PAGE, after=after))).data
        await trio.lowlevel.checkpoint()
        found = next((each for each in page.workers if each.id >= worker_id), None)
        if found is not None or page.next is None:
            return found if found is not None and found.id == worker_id else None
        after = page.next


def number(form: Form) -> int:
    """Return how many jobs somebody means.

    Raises:
        Wrong: it is no such number.
    """
    text = form["number"]
    if not (text.isascii() and text.isdigit() and 0 < int(text[:12]) <= ACT_MAX):
        raise Wrong(f"How many: a number from 1 to {ACT_MAX:,} is wanted")
    return int(text)


async def dead_letters(ask: Ask, queue: str, limit: int, fingerprint: str | None = None) -> list[DeadLetter]:
    """Return up to ``limit`` dead letters of a queue, or only of one error, newest first; lets others run in between."""
    after = None
    found: list[DeadLetter] = []
    while len(found) < limit:
        page = c.Dlq(queue=queue, limit=min(PAGE, limit - len(found)), after=after, fingerprint=fingerprint)
        told = await ask.look(page)
        found += told.entries
        after = told.next
        await trio.lowlevel.checkpoint()
        if after is None:
            break
    return found


def once(says: str) -> Does:
    """Return a function that runs the one command of an action, and says what it did."""

    async def do(ask: Ask, action: Action, form: Form) -> Done:
        await ask.server.core.execute(make(action.command, action.fields_of(form, ask.now)), by=ask.by)
        return Done(says.format(**form))

    return do


async def run_schedule(ask: Ask, action: Action, form: Form) -> Done:
    """Bring a job now, and say which."""
    reply: Any = await ask.server.core.execute(make(action.command, action.fields_of(form, ask.now)), by=ask.by)
    return Done(f"The job {reply.id} is there.")


async def release(ask: Ask, action: Action, form: Form) -> Done:
    """Take the jobs of a worker back, and say how many."""
    reply: Any = await ask.server.core.execute(make(action.command, action.fields_of(form, ask.now)), by=ask.by)
    return Done(f"{form['id']}: {count(reply.data['count'], 'job')} taken back.")


async def drain(ask: Ask, action: Action, form: Form) -> Done:
    """Remove waiting jobs, as many as there are now; very many of them go on by themselves."""
    queue, by, core, total, removed, left = form["queue"], ask.by, ask.server.core, await _in_line(ask, form), 0, 0
    command: Any = make(action.command, action.fields_of(form, ask.now))

    async def step() -> Step:
        nonlocal removed, left
        reply: Any = await core.execute(replace(command, limit=max(1, min(STEP, total - removed))), by=by)
        removed, left = removed + reply.count, reply.left
        return Step(reply.count, {}, is_last=removed >= total or not (reply.count and left))

    if total > LARGE:
        return begin(ask, action.title(form), "removed", total, step)
    done = await all_of(step)
    return Done(f"{queue}: {count(done, 'job')} removed, {left:,} left.")


async def clean(ask: Ask, action: Action, form: Form) -> Done:
    """Remove old jobs; very many of them, or of very many, go on by themselves."""
    old, by, core, looked = await _old(ask, form), ask.by, ask.server.core, 0
    # What is pushed meanwhile was not there when somebody wanted that.
    command: Any = make(action.command, action.fields_of(form, ask.now) | {"limit": STEP, "asOf": ask.now})

    async def step() -> Step:
        nonlocal command, looked
        reply: Any = await core.execute(command, by=by)
        looked += reply.scanned
        if reply.next is not None:
            command = replace(command, after=reply.next)
        return Step(reply.count, {}, is_last=reply.next is None)

    if old.found > LARGE or old.is_more:
        return begin(ask, action.title(form), "removed", old.found, step, is_more=old.is_more)
    done = await all_of(step)
    return Done(f"{form['queue']}: {count(done, 'job')} removed of {looked:,} looked at.")


def dead_ones(done: str) -> Does:
    """Return what runs the act of an action on dead letters, and says to how many it was ``done``, and why not to others."""

    async def do(ask: Ask, action: Action, form: Form) -> Done:
        fields = action.fields_of(form, ask.now)
        command: Any = make(action.command, fields)
        is_few = done == "retried" and "fingerprint" in form and command.limit <= WATCHED_MAX
        watch = await _first_of(ask, command) if is_few else ()
        large = None if "number" in form else await begin_if_large(ask, command, action.title(form), done)
        if large is not None:
            return large
        reply: Any = await ask.server.core.execute(command, by=ask.by)
        total = reply.count + sum(reply.refused.values())
        says = f"{form['queue']}: {reply.count:,} of {count(total, 'dead letter')} {done}"
        more = "" if reply.next is None or "number" in form else " There may be more: do it again."
        return Done(f"{says}{why_not(reply.refused)}.{more}", watch)

    return do


async def _first_of(ask: Ask, command: c.ActOnJobs) -> tuple[str, ...]:
    """Return the jobs that an act on a few would be done to: a dry run shows some of them at a time."""
    found: list[str] = []
    left, after = command.limit, None
    while left > 0:
        tried: Any = await ask.server.core.execute(
            replace(command, dry_run=True, limit=min(EXAMPLES_MAX, left), after=after), by=ask.by
        )
        found += [job.id for job in tried.examples]
        left, after = left - EXAMPLES_MAX, tried.next
        if after is None:
            break
    return tuple(found)


_WHY_NOT = {
    "key-held": "whose key another job holds", "dependency-dead": "that depend on a dead job", "not-dead": "not dead any more",
    "job-cancelled": "cancelled on purpose", "is-active": "that are active",
}  # fmt: skip
"""Code → what kept some of them from it."""


def why_not(refused: Mapping[str, int]) -> str:
    """Return what kept an act from some of the jobs, in brackets; empty when nothing did."""
    why = ", ".join(f"{n:,} {_WHY_NOT.get(code, code)}" for code, n in sorted(refused.items()))
    return f" (not {why})" if why else ""
