"""Faults planted in what an operator sees and does."""

from planted.row import Mutant

HANDS = [
    Mutant("engine/commands/workers.py", "engine.acted = owner is None or owner not in worker.connections", "engine.acted = True", "a worker that leaves is an act of an operator"),
    Mutant("engine/actions.py", '        sent["name"] = worker\n', "        pass\n", "of a worker that was forgotten only the id is known"),
    Mutant("engine/figures.py", "                self._count(_minutes_of(at, self._facts.of(MINUTE)[str(at)]), -1)\n", "", "the last hour of a queue never ends"),
    Mutant("engine/figures.py", "        for at, minutes in self.minutes():\n            self._count(minutes, 1)\n", "        for at, minutes in self.minutes():\n", "a restart forgets the last hour of a queue"),
    Mutant("engine/commands/queues.py", "if now - lately.last.at < _MINUTE_MS else None", "if True else None", "what a queue did an hour ago is of the last minute"),
    Mutant("engine/firing.py", '    engine.tell("scheduled", now, plan.queue, job_id).name = name\n', "", "nobody hears that a schedule has brought a job"),
    Mutant("runtime/hub.py", "            return low if low <= self._skipped else 0\n", "            return low\n", "a reader of the past does not hear what is missing"),
    Mutant("runtime/hub.py", "if await self._time_after(middle, since) < since:", "if await self._time_after(middle, since) <= since:", "of the past the first ms is missing"),
    Mutant("runtime/hub.py", " and event.timestamp >= since", "", "a reader of the past gets what is older"),
    Mutant("api/event_stream.py", "since if last_event_id is None else None", "since", "a reader that comes back gets all of the past again"),
    Mutant("engine/commands/dead.py", "requeue(engine, job, now, bytes(command.data) or None)", "requeue(engine, job, now)", "a dead letter that was corrected comes back as it was"),
    Mutant("engine/commands/dead.py", "        raise c.DATA_OF_ONE.refuse()\n", "        pass\n", "a payload for many is lost without a word"),
    Mutant("engine/moves.py", "if not wanted and (not self.marks", "if (not self.marks", "what somebody discards has died"),
    Mutant("engine/moves.py", "self._tell(job.id, completed=False, wanted=wanted)\n        self._work_off(now)\n\n    def drop", "self._tell(job.id, completed=False)\n        self._work_off(now)\n\n    def drop", "what waits for a cancelled job has died"),
    Mutant("engine/moves.py", "        if not wanted:\n            self.figures.note_failure", "        if True:\n            self.figures.note_failure", "a discard is an attempt that failed"),
    Mutant("pages/queue_findings.py", "    if 2 * untried > died:", "    if False:", "jobs that were never tried have asked for what fails"),
    Mutant("engine/edits.py", "said.reason, said.by, self.by)", "said.reason, said.by)", "nobody knows who has cancelled a job without saying"),
    Mutant("engine/job.py", "return self.by if self.by is not None else self.sender", "return self.sender", "who cancels a job for another one is named instead"),
    Mutant("storage/rows.py", "auto_retries=retries, discarded_by=discarded_by", "auto_retries=retries", "a record forgets who has discarded the job"),
    Mutant("engine/workers.py", "return worker.name if worker.is_named or worker.name == worker.id else", "return worker.id if worker.is_named or worker.name == worker.id else", "an attempt has an id that says nothing to people"),
    Mutant("engine/timeline.py", "_SAFE = 0.98", "_SAFE = 9.0", "what happened to a job just after its push is missed"),
    Mutant("engine/timeline.py", "event.timestamp < began or ", "", "nobody learns of a job of the same id before"),
    Mutant("engine/timeline.py", "(event.event_type, event.timestamp) not in kept.told", "True", "a timeline tells things twice"),
    Mutant("engine/timeline.py", "(event := _read(body)).job_id == job_id and ", "(event := _read(body)) and ", "what stands in a payload has happened to another job"),
    Mutant("engine/timeline.py", " or (ended is not None and _time(events[-1][1]) > ended)", "", "all that happened since is looked through for a job that has ended"),
    Mutant("engine/timeline.py", "return int(job_id[:8] + job_id[9:13], 16) if _UUID7.fullmatch(job_id) else 0", "return 0", "all that happened before is looked through for a job"),
    Mutant("engine/timeline.py", "    if begins >= since:\n        return low, low > 0\n", "    if begins >= since:\n        return low, False\n", "a timeline does not say that something is missing"),
    Mutant("engine/timeline.py", 'moment.what != "act")', 'moment.what == "act")', "what came of an act stands before it"),
]  # fmt: skip
