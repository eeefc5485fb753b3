"""Puts faults into copies of the source, one at a time, and fails when the tests let one live: tests of the tests.

`python3 scripts/mutants.py` runs them all, `… WORD` those whose file or reason has the word in it. A new part of the
code adds its rows to MUTANTS and its tests to TESTS. The source itself is never touched.
"""

import argparse
import importlib
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import bootstrap
from leftovers import nothing_left

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path("src") / "bunqueue_trio"
TIMEOUT_S = 60  # a fault may be an endless loop; that is noticed too

# Without test_model.py: it finds nothing that the seeds do not, and would shrink what it finds.
# The slow ones last: most faults are found before.
ENGINE = (
    "timers", "ready", "listing", "jobs", "dead", "job", "handlers", "engine", "facts", "gates", "edits", "clear", "why",
    "line", "bounds", "rates", "seeded",
)  # fmt: skip

TESTS = {
    "engine": [f"tests/engine/test_{name}.py" for name in ENGINE],
    "protocol": ["tests/protocol"],
    "runtime": [
        f"tests/runtime/test_{name}.py"
        for name in (
            "budget",
            "statistics",
            "pressure",
        )
    ],
    "api": ["tests/stream/test_virtual.py"],
    "transports": ["tests/stream/test_virtual.py"],
    "client": ["tests/client/test_taken_back.py"],
}
"""Which tests must notice a fault, by the directory it is in."""

PLAIN = {"engine", "protocol"}
"""Directories whose tests need no pytest plugin and no setting of pyproject.toml; loading those costs a second a run."""

FORKS = multiprocessing.get_context("forkserver")
PRELOADED = ["pytest", "msgspec", "apsw", "trio.testing", "structlog"]
"""What each run begins with; never the package itself, of which every run has another copy."""


class Mutant(NamedTuple):
    """One fault: `old`, which is in the file exactly once, becomes `new`."""

    file: str
    old: str
    new: str
    why: str


MUTANTS = [
    Mutant("engine/moves.py", "attempts >= job.options.max", "attempts > job.options.max", "one attempt too many"),
    Mutant("engine/moves.py", "job.stalls > self.rules", "job.stalls >= self.rules", "one stall too few"),
    Mutant("engine/engine.py", "if due is None or due > now:", "if due is None or due >= now:", "a deadline a ms late"),
    Mutant("engine/moves.py", "if job.run_at > now:", "if job.run_at >= now:", "no delay is a delay"),
    Mutant("engine/moves.py", "timeout_at <= lease.until", "timeout_at < lease.until", "a tie is a stall, not a timeout"),
    Mutant("engine/moves.py", "expires <= job.run_at", "expires < job.run_at", "a tie of ttl and delay runs the job"),
    Mutant("engine/engine.py", "(b is not None and b < a)", "(b is not None and b > a)", "the later deadline comes first"),
    Mutant(
        "engine/engine.py",
        "self.schedule.pop_due(due) or self.leases.pop_due(due)",
        "self.leases.pop_due(due) or self.schedule.pop_due(due)",
        "equal deadlines of both kinds in another order",
    ),
    Mutant(
        "engine/moves.py",
        "        self.schedule.disarm(job)\n        self._move(job, ACTIVE)",
        "        self._move(job, ACTIVE)",
        "a ttl goes on while the job is active",
    ),
    Mutant("engine/moves.py", "        self.leases.disarm(job)\n", "", "the old lease stays armed"),
    Mutant(
        "engine/moves.py",
        "        self._leave_active(job)\n        self._enter(job, WAITING)\n        self.emit",
        "        self._leave_active(job)\n        job.order = 0\n        self._enter(job, WAITING)\n        self.emit",
        "a released job goes to the end of the line",
    ),
    Mutant(
        "engine/moves.py",
        "        job.order = 0\n        if job.run_at",
        "        if job.run_at",
        "a retried job takes its old place",
    ),
    Mutant("engine/moves.py", "-self._seq if job.options.lifo else", "self._seq if job.options.lifo else", "no lifo"),
    Mutant("engine/engine.py", "                newest = job.seq\n", "                pass\n", "numbers given twice after a restart"),
    Mutant("engine/engine.py", "max(newest, self.queues.fill(lines))", "max(newest, 0 * self.queues.fill(lines))", "places given twice"),
    Mutant("engine/engine.py", "        self._seq = max(self._seq, abs(job.order))\n", "", "the place of an active job given twice"),
    Mutant("engine/queue.py", "        self.counts[state] = len(jobs)\n", "", "only waiting jobs are counted at a start"),
    Mutant("engine/engine.py", 'sorted(special, key=attrgetter("seq"))', "special", "dependents in the order of the disk"),
    Mutant("engine/engine.py", "job.queue is not name or job.priority != priority", "job.queue is not name", "priorities are mixed at a start"),
    Mutant("engine/engine.py", "now + self.rules.restart_grace", "now", "no grace after a restart"),
    Mutant("engine/moves.py", "elif lease.held and lease.owner is None:", "elif False:", "a lost connection is a stall"),
    Mutant(
        "engine/moves.py",
        "                lease.until = None\n        if",
        "                pass\n        if",
        "a claimed job keeps its grace",
    ),
    Mutant("engine/moves.py", "lease.until = None  # its timeout", "pass  # its timeout", "a timeout job gets a lease"),
    Mutant("engine/moves.py", "lease.until = now + lease.ttl", "lease.until += lease.ttl", "leases add up"),
    Mutant(
        "engine/moves.py",
        "timeout is not None or (owner is not None and lock_ttl is None)",
        "owner is not None and lock_ttl is None",
        "a job with timeout is leased as well",
    ),
    Mutant("engine/moves.py", ", owner is not None)", ", False)", "a restart forgets who was connected"),
    Mutant("engine/moves.py", "            if not owned:\n                del self._owned[lease.owner]\n", "", "owners leak"),
    Mutant("engine/moves.py", "            del queue.keys[job.options.unique_key]", "            pass", "a key is never free"),
    Mutant("engine/moves.py", "            queue.ready.take(job)\n", "            pass\n", "a cancelled job is counted as ready"),
    Mutant("engine/moves.py", "            self.counts[before] -= 1\n", "", "counts only grow"),
    Mutant("engine/moves.py", "            self._dependents.remove(job)\n", "            pass\n", "a dead dependent is awaited"),
    Mutant(
        "engine/moves.py",
        "        self._to_dead_letters(job, error, now)\n        self._tell(job.id, completed=False)\n",
        "        self._to_dead_letters(job, error, now)\n",
        "dependents of a dead job wait for ever",
    ),
    Mutant("engine/moves.py", "            self.fail_dependent(job, dependency, now)\n            self._tell(job.id, completed=False)\n", "            self.fail_dependent(job, dependency, now)\n", "dependents of dependents wait for ever"),
    Mutant("engine/moves.py", "len(job.noted().waiting_on or ()) // 16", "0", "dependencies are left for nothing"),
    Mutant("engine/moves.py", "                self.left -= 1\n", "", "a step does all chores"),
    Mutant("engine/engine.py", "            if dropped:\n", "            if False:\n", "a job that kills its workers never ends"),
    Mutant("engine/moves.py", "            return  # a chore has made others: they are in line\n", "            pass\n", "chores within chores"),
    Mutant("engine/moves.py", "            self._next_run(job, now, expired=True)\n", "", "a series ends with an expired run"),
    Mutant("engine/moves.py", "        self._removed.add(job.id)\n", "", "a removal is told before its commit"),
    Mutant("engine/engine.py", "        self._take_up_outcomes()\n", "", "a crash between two steps leaves dependents behind"),
    Mutant("engine/engine.py", "outcomes.get(dependency) is COMPLETED", "True", "a dependency that was cancelled counts as completed"),
    Mutant("engine/commands/deliver.py", "    while (job := queue.ready.peek()) is not None and job.due is not None and job.due <= now:", "    while (job := queue.ready.peek()) is not None and False:", "what has expired is delivered"),
    Mutant("engine/lookup.py", "    if job is not None and job.due is not None and job.due <= now:", "    if False and job is not None:", "a lease that is over is acked"),
    Mutant("engine/commands/report.py", "            ignored.pop(job_id, None)\n", "", "an acked job called ignored"),
    Mutant("engine/commands/report.py", "            lost.pop(job_id, None)\n", "", "a held job called lost"),
    Mutant("engine/job.py", "if untaken >= UNTAKEN_RUNS else 0", "if False else 0", "a series without end of its own"),
    Mutant("engine/job.py", "series.untaken + 1 if expired else 0", "series.untaken + 1", "a taken series keeps its pause"),
    Mutant("engine/commands/deliver.py", "    if gate is not None and not gate.is_open(queue.counts[State.ACTIVE]):", "    if False:", "a paused queue delivers"),
    Mutant("engine/commands/queues.py", "command.until <= now", "command.until < now", "a pause of no time"),
    Mutant("engine/commands/queues.py", "    if engine.gates.resume(command.queue):\n", "    if engine.gates.resume(command.queue) and False:\n", "who waits is not told that a queue is resumed"),
    Mutant("engine/commands/queues.py", "    if engine.gates.unlimit(command.queue):\n", "    if engine.gates.unlimit(command.queue) and False:\n", "who waits is not told that a limit is gone"),
    Mutant("engine/engine.py", "                self.woken[name] = None\n", "", "who waits is not told that a pause has ended"),
    Mutant("engine/engine.py", "        self.gates.load(now)\n", "", "a restart resumes every queue"),
    Mutant("engine/engine.py", "(due is None or opens < due)", "due is None", "a pause ends with the next delay"),
    Mutant("engine/gates.py", "        self._facts.delete(PAUSED, name)\n", "", "a queue that was resumed is paused after a restart"),
    Mutant("engine/gates.py", "gate.pause is None else gate.pause.since", "True else gate.pause.since", "a pause begins anew when more is said of it"),
    Mutant("engine/gates.py", "if name not in self and len(self) >= GATES_MAX", "if False", "gates without end"),
    Mutant("engine/gates.py", "gate is not None and time in gate.times()", "gate is not None", "a pause ends when it was to end at first"),
    Mutant("engine/gates.py", "if len(self._ends) > _SWEEP_MIN + 4 * len(self):", "if False:", "ends that are not so any more pile up"),
    Mutant("engine/commands/queues.py", "names[-1] if len(found) > limit else None", "names[-1] if names else None", "a page after the last"),
    Mutant("engine/commands/queues.py", "        limit = min(limit, QUEUE_DETAILS_MAX)\n", "        pass\n", "details without end"),
    Mutant("engine/commands/queues.py", "if any(engine.queues[name].counts.values())", "if True", "a queue without a job is listed"),
    Mutant("engine/queue.py", "        self.names.remove(name)\n", "", "a name that is gone is listed"),
    Mutant("engine/gates.py", "active < self.concurrency", "active <= self.concurrency", "one more at once"),
    Mutant("engine/gates.py", "        self._facts.delete(CONCURRENCY, name)\n", "", "a limit that was taken away is back after a restart"),
    Mutant("engine/gates.py", "        if gate.pause is None and gate.concurrency is None and gate.rate is None:\n", "        if True:\n", "a pause that ends takes the limit along"),
    Mutant("engine/gates.py", "len(self._facts.of(PAUSED))", "len(self)", "a limit is counted as a pause"),
    Mutant("engine/gates.py", "len(self._facts.of(CONCURRENCY))", "len(self)", "a pause is counted as a limit"),
    Mutant("engine/moves.py", "        if self.gates and self.gates.is_limited(job.queue):\n", "        if False:\n", "who waits at a limit is not told of room"),
    Mutant("engine/rates.py", "if used < self.limit:\n            return None", "if used <= self.limit:\n            return None", "one delivery too many in a window"),
    Mutant("engine/rates.py", "(used := used - count) < self.limit", "(used := used - count) <= self.limit", "a gate opens before there is room"),
    Mutant("engine/rates.py", "if time + self.duration > now)", "if time + self.duration >= now)", "a delivery counts a ms longer"),
    Mutant("engine/rates.py", "times[0][0] + self.duration <= now:", "times[0][0] + self.duration < now - self.duration:", "deliveries are remembered for ever"),
    Mutant("engine/rates.py", "shift = now - self.times[-1][0]", "shift = 0", "a clock that was set lets more through"),
    Mutant("engine/rates.py", "times.append((now, count))", "times.append((now - now % grain, count))", "a delivery counts shorter than the window"),
    Mutant("engine/rates.py", "(times[1][0], times[0]", "(times[0][0], times[0]", "two times that become one count shorter"),
    Mutant("engine/gates.py", "self.pause is None and self.opens_at is None and (", "self.pause is None and (", "a full gate is open"),
    Mutant("engine/gates.py", "        self._facts.delete(RATE, name)\n", "", "a rate that was cleared is back after a restart"),
    Mutant("engine/gates.py", "        gate.rate.note(now)\n        self._facts.set(RATE, name, rates.encode(gate.rate))\n", "        gate.rate.note(now)\n", "a crash forgets deliveries"),
    Mutant("engine/gates.py", "        self._fill(name, now)\n        return True", "        self._fill(name, now)\n        return False", "a delivery that counts is told before it is committed"),
    Mutant("engine/gates.py", "[] if gate.rate is None else gate.rate.times)", "[])", "a new limit forgets what was delivered"),
    Mutant("engine/gates.py", "            rate.resume(now)\n", "", "a clock that was set back shuts a gate for long"),
    Mutant("engine/commands/queues.py", "    if engine.gates.clear_rate(command.queue):\n", "    if engine.gates.clear_rate(command.queue) and False:\n", "who waits is not told that a rate is gone"),
    Mutant("engine/edits.py", "            ready.take(job)\n        job.priority = priority\n", "            ready.take(job)\n            job.order = self._seq\n        job.priority = priority\n", "a changed priority queues from now"),
    Mutant("engine/edits.py", "            job.order = -job.order\n", "", "a job that is LIFO now stands where it was"),
    Mutant("engine/edits.py", "            job.epoch = self.epoch\n", "            pass\n", "a change is delivered that a crash takes back"),
    Mutant("engine/edits.py", "            self.rewritten[job] = None\n", "", "what is changed is not written"),
    Mutant("engine/edits.py", "        if job.epoch != self.epoch:\n", "        if True:\n", "a new row is written over one that is not there"),
    Mutant("engine/edits.py", "        if job.state is WAITING_CHILDREN:\n            return\n", "", "a dependent is ready without the others"),
    Mutant("engine/edits.py", "            queue.enter(job, DELAYED)\n            self._arm(job)\n", "            queue.enter(job, DELAYED)\n", "a changed delay ends at the old time"),
    Mutant("engine/edits.py", "            self._leave_active(job)\n", "            self._leave_active(job)\n            job.attempts += 1\n", "to be put off is an attempt"),
    Mutant("engine/edits.py", '"Discarded", now, DISCARDED)', '"Discarded", now)', "a discarded job is dead of something else"),
    Mutant("engine/edits.py", "        self.added_bytes += len(data)\n", "", "a changed payload weighs nothing"),
    Mutant("engine/commands/manage.py", "    if job.state is State.ACTIVE:\n        raise c.IS_ACTIVE", "    if False:\n        raise c.IS_ACTIVE", "the payload of an active job is changed"),
    Mutant("engine/commands/manage.py", "    if job.state is State.WAITING_CHILDREN:\n        raise", "    if False:\n        raise", "a job that waits for others is put off"),
    Mutant("engine/engine.py", " or bool(self._reused_ids)\n", "\n", "records that are deleted stay on the disk"),
    Mutant("engine/commands/clear.py", "        if job.state in UNFINISHED:\n", "        if True:\n", "a job that has ended is removed"),
    Mutant("engine/commands/clear.py", "job.created_at <= before", "job.created_at < before", "what is just old enough stays"),
    Mutant("engine/commands/clear.py", "not (jobs or records or has_more)", "not (jobs or has_more)", "a queue is called done before its last records are there"),
    Mutant("engine/commands/clear.py", "if queue.active and not command.force:", "if False:", "active jobs are taken without force"),
    Mutant("engine/commands/clear.py", "if is_done and engine.gates.drop(command.queue):", "if engine.gates.drop(command.queue):", "a queue that is half removed runs again"),
    Mutant("engine/commands/clear.py", "queue.delayed if command.delayed else ())", "queue.delayed)", "delayed jobs are drained without being asked for"),
    Mutant("engine/commands/dead.py", "        engine.replace(job.id, job.queue)\n    return r.Purge", "        pass\n    return r.Purge", "a deleted dead letter is there"),
    Mutant("engine/line.py", "sum(map(len, self.blocks[:at])) + bisect", "bisect", "a rank within its block"),
    Mutant("engine/ready.py", "min(above, _COUNTED)", "above", "priorities counted without end"),
    Mutant("engine/why.py", "elif not told.active and not told.pulls_waiting:", "elif not told.pulls_waiting:", "nobody asks though all are busy"),
    Mutant("engine/why.py", "if gate is not None and not gate.is_open(told.active):", "if gate is not None and gate.pause is not None:", "a gate that is full is not told of"),
    Mutant("engine/why.py", '"next" if told.position == 1', '"next" if told.higher == 0', "many jobs are the next"),
    Mutant("engine/why.py", "    if job.attempts:\n", "    if False:\n", "a backoff is told as a delay"),
    Mutant("engine/commands/push.py", "    if named > DEPENDENCIES_MAX:", "    if False:", "dependencies without end"),
    Mutant("engine/commands/deliver.py", " and size < engine.rules.pull_bytes", "", "a pull of any size"),
    Mutant("engine/job.py", "job.started_at is not None or ", "", "a delivered job expires"),
    Mutant("engine/job.py", "max(base, BACKOFF_MAX_MS)", "BACKOFF_MAX_MS", "a backoff of a day is an hour"),
    Mutant("engine/engine.py", "job.state in UNFINISHED or job in self.changed", "job.state in UNFINISHED", "forgotten early"),
    Mutant("engine/engine.py", "            if self.jobs.get(job.id) is job:\n", "            if job.id in self.jobs:\n", "forgets another job"),
    Mutant("engine/engine.py", "        self.epoch += 1\n", "", "the epoch stands still"),
    Mutant("engine/moves.py", "        job.epoch = self.epoch\n", "", "a new job is written as a changed one"),
    Mutant("engine/engine.py", " or job_id in self._reused_in_flight", "", "a replaced record shows again"),
    Mutant("engine/moves.py", "        self._reused_ids.setdefault(job_id, retried_in)\n", "", "an old record is not replaced"),
    Mutant("engine/moves.py", "        self._reused_ids.setdefault(job_id, retried_in)\n", "        self._reused_ids[job_id] = retried_in\n", "a dead letter that was cancelled again is left"),
    Mutant("engine/moves.py", "            if old in self.changed:\n", "            if True:\n", "a dead letter that was retried during its commit is left"),
    Mutant("engine/moves.py", "                retried_in = old.queue\n", "                pass\n", "a dead letter that was pushed anew during its commit is left"),
    Mutant("engine/moves.py", "                retried_in = None  # its end", "                pass  # its end", "a death that is in no batch is taken from those on the disk"),
    Mutant("engine/moves.py", "            self.changed[job] = None\n            if job.noted().waiting_on is None:\n", "            if job.noted().waiting_on is None:\n", "a dependency done is not written"),
    Mutant("engine/moves.py", "            self.woken[job.queue] = None\n        self._arm(job)\n", "        self._arm(job)\n", "nobody is woken"),
    Mutant("engine/moves.py", "        if job.epoch > self.handed:", "        if job.epoch < self.handed:", "an uncommitted job is delivered"),
    Mutant("engine/engine.py", "job.state is COMPLETED and job.options.remove_on_complete", "False", "a removed record is shown"),
    Mutant("engine/lookup.py", "job is None or job.lease is None", "job is None", "a job that is not active is acked"),
    Mutant("engine/lookup.py", "token is not None and token != job", "token and token != job", "an empty token counts"),
    Mutant("engine/commands/__init__.py", "if due is not None and due <= now:", "if due is not None and due < now:", "commands before deadlines"),
    Mutant("engine/commands/push.py", "holder = None if spec.job_id is None else engine.standing(spec.job_id)", "holder = None if spec.job_id is None else engine.jobs.get(spec.job_id)", "an ended job is a twin"),
    Mutant("engine/commands/push.py", "        holder = engine.standing(spec.job_id)\n", "        holder = engine.jobs.get(spec.job_id)\n", "an id is never free elsewhere"),
    Mutant("engine/commands/push.py", "state is None or state is State.FAILED", "state is State.FAILED", "runs after a vanished dependency"),
    Mutant("engine/commands/push.py", "actual.get(dependency, dependency)", "dependency", "waits for an id that does not exist"),
    Mutant("engine/commands/deliver.py", "    if not queue.ready:\n", "    if queue.ready:\n", "drained at the wrong time"),
    Mutant("engine/commands/report.py", "command.error is None", "not command.error", "an empty error is replaced"),
    Mutant("engine/commands/push.py", "1, now + spec.delay)", "1, now)", "a series begins before its delay"),
    Mutant("engine/moves.py", "return job if job is not None and job.state in UNFINISHED else None", "return job", "a finished job is cancelled"),
    Mutant("engine/moves.py", "        job.run_at = now  # not before: it stands among the delayed ones by it\n", "", "a promoted job keeps the time of its delay"),
    Mutant("engine/moves.py", "        self._enter(job, WAITING)\n        job.run_at = now  # not", "        job.run_at = now\n        self._enter(job, WAITING)  # not", "a promoted job has left its place before it leaves its line"),
    Mutant("engine/commands/manage.py", "job is None or job.state is not State.DELAYED", "job is None", "any job is promoted"),
    Mutant("engine/commands/push.py", "spec.timeout or None", "spec.timeout", "a timeout of 0 ends the job at once"),
    Mutant("engine/job.py", "base << min(attempts - 1, 32)", "base << min(attempts, 32)", "backoff twice as long"),
    Mutant("engine/job.py", "        most = max(base, BACKOFF_MAX_MS)\n", "        most = 10**18\n", "backoff without end"),
    Mutant("engine/job.py", "series.run >= series.limit", "series.run > series.limit", "one run too many"),
    Mutant("engine/job.py", "max(1, missed)", "max(1, missed - 1)", "a slot that has passed is made up"),
    Mutant("engine/job.py", "run=series.run + 1", "run=series.run", "runs are not counted"),
    Mutant("engine/job.py", "unique_key=None, depends_on=()", "depends_on=()", "the next run takes the key"),
    Mutant("engine/job.py", "or job.attempts or job.stalls", "or job.attempts", "a stalled job expires"),
    Mutant("engine/job.py", "options.series.run > 1", "options.series.run > 2", "the second run expires at its birth"),
    Mutant("engine/ready.py", "-turn[0])", "turn[0])", "a page goes on in another priority"),
    Mutant("engine/ready.py", "Line(neg)", "Line(int)", "lowest first"),
    Mutant("engine/ready.py", "            del self._lines[job.priority]\n            self._priorities.remove(job.priority)\n", "            pass\n", "empty lines linger"),
    Mutant("engine/ready.py", "lifo.order < 0", "lifo.order > 0", "the age of a line is that of its newest job"),
    Mutant("engine/line.py", "if self.place(block[-1]) < place:", "if True:", "a line out of order"),
    Mutant("engine/line.py", "        many.sort(key=self.place)\n", "", "the order of the disk is the order of the jobs"),
    Mutant("engine/line.py", "        if not block:\n            del blocks[at]\n", "", "empty blocks stay"),
    Mutant("engine/line.py", "            del block[half:]\n", "", "half a block stands twice"),
    Mutant("engine/line.py", "if block[i] == one:", "if block[i] is one:", "equal numbers are two"),
    Mutant("engine/line.py", "chain.from_iterable(blocks[at + 1 :])", "()", "a page ends with its block"),
    Mutant("engine/line.py", "start = bisect_right(blocks[at], place", "start = bisect_left(blocks[at], place", "the last of a page is the first of the next"),
    Mutant("engine/ready.py", "        self._size += len(jobs)\n", "", "a start counts no ready jobs"),
    Mutant("engine/timers.py", "armed is None or due < armed", "armed is None", "an earlier deadline is missed"),
    Mutant("engine/timers.py", "elif job.due != when:", "elif False:", "a renewed lease ends at its first time"),
    Mutant("engine/timers.py", "job.armed == when and ", "", "stale timers fire"),
    Mutant("engine/timers.py", " and (job.state is State.ACTIVE) is self._active", "", "timers of the other side fire"),
    Mutant("engine/timers.py", "self._invalid > _SWEEP_MIN and", "False and", "left entries pile up"),
    Mutant("engine/dependents.py", "                del self._waiting[dependency]\n", "                pass\n", "dependencies leak"),
    Mutant("engine/cursors.py", "place[0] if place else None, limit", "None, limit", "each page of ended is the first"),
    Mutant("engine/cursors.py", "(place[0], place[1]) if place else None", "None", "each page is the first page"),
    Mutant("engine/cursors.py", "engine.queues.check(queue)", "pass", "a name that no queue has has no ended jobs"),
    Mutant("engine/cursors.py", "engine.queues.check(name)", "pass", "a name that no queue has has no jobs"),
    Mutant("engine/commands/dead.py", "engine.queues.check(queue)", "pass", "a name that no queue has has no such letter"),
    Mutant("engine/commands/dead.py", " or job.state is not State.FAILED", "", "what has not failed is retried"),
    Mutant("engine/commands/dead.py", " or job.queue != queue", "", "a dead letter of another queue is retried"),
    Mutant("engine/commands/dead.py", "        for job in reversed(jobs)\n", "        for job in jobs\n", "dead letters queue in the order of a list"),
    Mutant("engine/commands/dead.py", "if not (_key_is_held(engine, job) or ", "if not (", "two jobs of a key"),
    Mutant("engine/commands/dead.py", " or _waits_for_a_dead_one(engine, job, outcomes))", ")", "who depends on a dead one is retried before it"),
    Mutant("engine/commands/dead.py", "if options.series is not None:", "if False:", "a retried run makes a second series"),
    Mutant("engine/commands/dead.py", " if engine.standing(job_id) is not None}", "}", "a retried job waits for what has ended"),
    Mutant("engine/commands/dead.py", "replace(dead.id, dead.queue)", "replace(dead.id)", "retried ones are left, too"),
    Mutant("engine/engine.py", "replaced = (self._reused_ids, self._reused_in_flight)", "replaced = (self._reused_ids,)", "what is being committed is left, too"),
    Mutant("engine/engine.py", " if not self._is_replaced(job.id)]", "]", "a job whose id was taken anew is listed twice"),
    Mutant("engine/listing.py", "size += weight(job)", "size += len(job.data)", "a page of large tags, errors or dependencies without bound"),
    Mutant("engine/listing.py", "            return i + 1", "            continue", "a page without bound"),
    Mutant("engine/listing.py", "jobs = line if after is None else", "jobs = line if True else", "each page is the first"),
    Mutant("engine/listing.py", "if len(found) <= most:", "if len(found) < most:", "a full page is the last"),
    Mutant("engine/listing.py", "if by_delivery(job) > after]", "]", "active jobs are told twice"),
    Mutant("engine/listing.py", "nsmallest(limit + 1, behind, key=by_delivery)", "list(behind)[: limit + 1]", "active jobs as they came"),
    Mutant("engine/queue.py", "            del self.active[job]\n", "            pass\n", "an active job stays listed"),
    Mutant("engine/engine.py", "            self.queues[queue].fill(state, jobs_there)\n", "            self.queues[queue].counts[state] = len(jobs_there)\n", "a start lists waiting jobs only"),
    Mutant("engine/facts.py", "if values.get(key) != value:", "if not values.get(key):", "a new value is not noted"),
    Mutant("engine/facts.py", "            del self._kinds[kind]\n        self.changed", "            del self._kinds[kind]\n            self.changed", "a deletion is not noted"),
    Mutant("engine/facts.py", "changed, self.changed = self.changed, {}", "changed = self.changed", "facts are written again and again"),
    Mutant("engine/engine.py", "            changes.facts = self.facts.take()\n", "            self.facts.take()\n", "facts are forgotten"),
    Mutant("engine/queue.py", "_.:-]{1,256}", "_.:-]{1,255}", "a name of 256 characters"),
    Mutant("engine/moves.py", "        self._bury(job, error, now, UNRECOVERABLE)", "        self._bury(job, error, now)", "who gave up is called out of attempts"),
    Mutant("engine/moves.py", "        job.attempts += 1\n        self._bury", "        self._bury", "the attempt at which a job is given up is not counted"),
    Mutant("engine/moves.py", "if retry_in is None else retry_in", "if not retry_in else retry_in", "a retry at once waits out its backoff"),
    Mutant("engine/moves.py", ' ms", now, reason=TIMEOUT)', ' ms", now)', "nobody is told that a job was too slow"),
    Mutant("engine/moves.py", "        if reason is not None:\n            job.noted().reason = reason\n", "", "a job does not keep why it is dead"),
    Mutant("engine/moves.py", "            self._bury(job, error, now, reason)\n            return\n", "            self._bury(job, error, now, reason or UNRECOVERABLE)\n            return\n", "who has no attempts left is called given up"),
    Mutant("engine/commands/report.py", "command.retry_in is not None:", "command.retry_in:", "the last attempt, and a next one at once"),
    Mutant("engine/commands/report.py", "now, retry_in=command.retry_in)", "now)", "when the next attempt is does not matter"),
    Mutant("engine/commands/report.py", "    if command.unrecoverable:\n", "    if False:\n", "who gives up is retried"),
    Mutant("engine/lookup.py", "(reason := job.noted().reason) is not None", "(reason := job.noted().reason) is not None and False", "every dead letter tells what its counters tell"),
    Mutant("engine/commands/push.py", "        shape=shape,\n", "", "a backoff is a number"),
    Mutant("engine/commands/push.py", 'backoff.type == "fixed"', 'backoff.type != "fixed"', "fixed backoffs double"),
    Mutant("engine/job.py", "1 if shape.fixed else job.attempts", "job.attempts", "no backoff is fixed"),
    Mutant("engine/job.py", "    if most is None:\n", "    if not most:\n", "a longest wait of nothing is none"),
    Mutant("engine/job.py", "job.attempts, shape.max_delay)", "job.attempts)", "there is no longest wait"),
    Mutant("engine/job.py", "wait * shape.jitter * drawn", "wait * drawn", "jitter is all or nothing"),
    Mutant("engine/job.py", 'f"{job.id}:{job.attempts}"', 'f"{job.id}"', "each attempt of a job has the same jitter"),
    Mutant("engine/job.py", 'f"{job.id}:{job.attempts}"', 'f"{job.attempts}"', "each job has the same jitter"),
    Mutant("engine/lookup.py", "UNSET if shape.jitter is None", "UNSET if not shape.jitter", "a jitter of 0 is not shown"),
    Mutant("protocol/bounds.py", 'raw.count(b",") < most', 'raw.count(b",") <= most', "a list with one item too many is read whole"),
    Mutant("protocol/bounds.py", "if not names and max(map(len, items), default=0) <= LARGE_BYTES:", "if not names:", "a large job of a bulk is read whole"),
    Mutant("protocol/bounds.py", "if named > DEPENDENCIES_MAX:", "if named > DEPENDENCIES_MAX + 1000:", "more dependencies are read than are taken"),
    Mutant("protocol/codec.py", "if depth + max(", "if max(", "brackets that were taken off do not count"),
    Mutant("protocol/codec.py", "            return structs[0]\n", "            pass\n", "a backoff that needs a second look is no object"),
    Mutant("protocol/codec.py", " or text not in shape.values", "", "any word is a kind of backoff"),
    Mutant("engine/why.py", 'partition("\\n")[0][:_ERROR_MAX]', "strip()", "a sentence is a traceback"),
    Mutant("protocol/codec.py", "        if name not in known:", "        if False:", "a slip deletes all, at the second look"),
    Mutant("protocol/commands/dead.py", 'tag="PurgeDlq", forbid_unknown_fields=True', 'tag="PurgeDlq"', "a slip deletes all"),
    Mutant("protocol/routes.py", "    if query and kind.__struct_config__.forbid_unknown_fields:", "    if False:", "a query is passed over"),
    Mutant("protocol/codec.py", "default=0) > DEPTH_MAX", "default=0) >= DEPTH_MAX", "499 is too deep"),
    Mutant("protocol/codec.py", "split(b'\"')[::2]", "split(b'\"')", "brackets in texts count"),
    Mutant("protocol/codec.py", '_LONE_HIGH.sub(b"\\xffu", body)', "body", "a surrogate in a payload is refused"),
    Mutant("protocol/codec.py", 'body.replace(rb"\\\\", b"\\xfe")', "body", "an escaped backslash begins a surrogate"),
    Mutant("protocol/codec.py", "value < low", "value <= low", "the least number is refused"),
    Mutant("protocol/codec.py", "    if isinstance(shape, types.IntType):", "    if False:", "a fraction is an integer"),
    Mutant("protocol/codec.py", "length > shape.max_length", "length >= shape.max_length", "the longest text is refused"),
    Mutant("runtime/budget.py", "        self.add(-self.size)\n", "        self.size = 0\n", "bytes are held for ever"),
    Mutant("runtime/budget.py", "        self.release()\n", "        pass\n", "a request that fails keeps its bytes"),
    Mutant("runtime/budget.py", "(size if size > RECEIVE_BYTES else 0) - self.size", "size - self.size", "little is counted, too"),
    Mutant("runtime/budget.py", "if more > 0 and not", "if not", "a full budget keeps what shrinks"),
    Mutant("api/gateway.py", "        self._reply = None\n", "        pass\n", "a job that was sent comes back"),
    Mutant("api/gateway.py", "            self._core.give_back(reply)\n\n\nclass Response", "            pass\n\n\nclass Response", "what is not sent is lost"),
    Mutant("api/gateway.py", "            self._core.give_back(reply)\n            raise", "            raise", "a job that cannot be told is lost"),
    Mutant("api/gateway.py", "        except (Refused, MemoryError):", "        except Refused:", "a job for whose answer there is no memory is lost"),
    Mutant("api/gateway.py", "                response.delivery.end()\n", "                pass\n", "a job whose answer does not fit any more is lost"),
    Mutant("api/session.py", "            self._hold.add(-len(message))  # it will not be sent\n", "            pass\n", "a reply that is given up holds its bytes"),
    Mutant("transports/express.py", "                delivery.sent()\n", "                pass\n", "a job that the express lane has sent comes back"),
    Mutant("transports/express.py", "                delivery.end()\n", "                pass\n", "what the express lane does not send is lost"),
    Mutant("transports/express.py", "        try:\n            data = self._shared.heads.render(response, len(body), keep=keep)\n", "        data = self._shared.heads.render(response, len(body), keep=keep)\n        try:\n", "a response that cannot be made loses its job"),
    Mutant("transports/quart_app.py", "                    delivery.end()\n", "                    pass\n", "what Quart does not send is lost"),
    Mutant("runtime/core.py", "note_size(max(size, self._engine.added_bytes - added))", "note_size(size)", "payloads that are retried gather without bound"),
    Mutant("runtime/server.py", "totals=replace(self.engine.totals)", "totals=self.engine.totals", "statistics that go on changing"),
    Mutant("client/backend.py", "return anyio.current_effective_deadline() == -math.inf or (task is not None and task.cancelling() > 0)", "return True", "a handler's own CancelledError ends its worker"),
    Mutant("client/handlers.py", "if not thread.ended and not thread.begins():", "if not thread.ended:", "a thread that never began keeps its slot"),
    Mutant("client/link.py", "            if returns:\n                self._take_back(question)\n", "", "a pull that is cancelled stays at the server"),
    Mutant("client/socket_asyncio.py", "        await socket.close()\n", "        pass\n", "a client on asyncio leaves without a goodbye"),
]  # fmt: skip


def rot(mutants: list[Mutant]) -> list[str]:
    """Tell which rows do not fit the source any more."""
    found = []
    for mutant in mutants:
        times = (ROOT / PACKAGE / mutant.file).read_text().count(mutant.old)
        if times != 1:
            found.append(f"{mutant.file}: {mutant.old!r} is there {times} times, not once")
    return found


def run(mutant: Mutant | None) -> tuple[bool, str]:
    """Run the tests on a copy with the fault in it; return whether they passed, and what they said."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as name:
        copy = Path(name) / "src"
        # What is compiled comes along: only the changed file is compiled anew.
        shutil.copytree(ROOT / "src", copy)
        areas = set(TESTS)
        if mutant is not None:
            target = copy / PACKAGE.name / mutant.file
            target.write_text(target.read_text().replace(mutant.old, mutant.new))
            areas = {mutant.file.split("/")[0]}
        tests = [*dict.fromkeys(path for area in sorted(areas) for path in TESTS[area])]
        command = ["-x", "-q", "-m", "not slow and not long and not bench", "-p", "no:cacheprovider", *tests]
        if areas <= PLAIN:
            command += ["-c", os.devnull, "--rootdir", str(ROOT), "--import-mode=importlib", "-o", f"pythonpath={ROOT}"]
        said = Path(name) / "said"
        process = FORKS.Process(target=judge, args=(copy, command, said), kwargs={"plain": areas <= PLAIN})
        process.start()
        process.join(TIMEOUT_S if mutant is not None else 10 * TIMEOUT_S)
        if process.exitcode is None:
            process.kill()
            process.join()
            return False, "timeout"
        text = said.read_text(errors="replace")
        if process.exitcode not in (0, 1):  # 2 and more: the tests did not get to judge
            return False, f"pytest ended with {process.exitcode}:\n{text}"
        return process.exitcode == 0, text


def judge(source: Path, command: list[str], said: Path, *, plain: bool) -> None:
    """Run pytest on the package in ``source``, in a process of its own; its exit code is pytest's."""
    with said.open("w") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    sys.path.insert(0, str(source))
    sys.dont_write_bytecode = True
    # For the programs that tests start.
    os.environ |= {"PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"}
    os.environ.pop("COVERAGE_FILE", None)
    if plain:
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    os.chdir(ROOT)
    pytest = importlib.import_module("pytest")
    code = pytest.main(command)
    loaded = sys.modules.get("bunqueue_trio")
    if loaded is None or not str(loaded.__file__).startswith(str(source)):
        print("it is not the copy that was tested")
        code = 3
    sys.exit(int(code))


def main() -> int:
    """Run the chosen mutants; return 0 when the tests noticed each of them."""
    parser = argparse.ArgumentParser(description="Check that the tests notice faults put into the code on purpose.")
    parser.add_argument("words", nargs="*", help="only mutants with one of these words in file or reason")
    words = parser.parse_args().words
    bootstrap.reexec()

    FORKS.set_forkserver_preload(PRELOADED)
    begun = time.monotonic()
    chosen = [m for m in MUTANTS if not words or any(word in m.file or word in m.why for word in words)]
    if problems := rot(chosen):
        print("\n".join(problems))
        return 1
    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        unharmed, *judged = pool.map(run, [None, *chosen])
        passed, said = unharmed
        if not passed:
            print(f"the tests fail without any fault:\n{said}")
            return 1
        survivors = []
        for mutant, (survived, said) in zip(chosen, judged, strict=True):
            if survived or said.startswith("pytest ended"):
                survivors.append(mutant)
                print(f"SURVIVED {mutant.file}: {mutant.why} ({mutant.old!r} -> {mutant.new!r})", flush=True)
                print(said if said.startswith("pytest ended") else "", end="", flush=True)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} mutants killed in {time.monotonic() - begun:.0f} s")
    return 1 if survivors else 0


if __name__ == "__main__":
    with nothing_left():
        raise SystemExit(main())
