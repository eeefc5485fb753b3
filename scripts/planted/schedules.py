"""Faults planted in schedules."""

from planted.row import Mutant

_TIMING, _FIRING, _PLANNER = "engine/timing.py", "engine/firing.py", "engine/planner.py"
_COMMANDS = "engine/commands/schedules.py"

SCHEDULES = [
    Mutant(_TIMING, "            if expression.names_times:\n                return now\n", "", "a time that does not exist is skipped"),
    Mutant(_TIMING, "if expression.names_times else None", "if False else None", "a time that comes twice runs twice"),
    Mutant(_TIMING, "elif change.behind < change.before and not expression.names_times:", "elif False:", "what goes along with real time stands still for an hour"),
    Mutant(_TIMING, "after = timing.start - 1", "after = timing.start", "a slot at the very start is missed"),
    Mutant(_TIMING, "slot > timing.end)", "slot >= timing.end)", "a slot at the very end is missed"),
    Mutant(_TIMING, "(after - timing.anchor) % timing.every", "after % timing.every", "every counts from no anchor"),
    Mutant(_TIMING, 'f"{name}:{slot}"', 'f"{slot}"', "all schedules have the same jitter"),
    Mutant(_TIMING, "return Slots(times[::-1], more=True)", "return Slots(times[::-1], more=False)", "there are no slots before the last ones"),
    Mutant("engine/cron.py", "not any(part.startswith", "any(part.startswith", "which expressions name times is turned round"),
    Mutant("engine/zones.py", "if after < change.at <= upto", "if after < change.at < upto", "a change at the very slot is not seen"),
    Mutant(_FIRING, "        planner.settle(name, slot)\n", "", "skipped slots in a row are told of one by one"),
    Mutant(_FIRING, "    planner.settle(name, times[-1])", "    planner.settle(name, chosen[-1] if chosen else times[-1])", "a slot beyond the limit comes after a restart"),
    Mutant(_FIRING, "        return in_time\n", "        return in_time or late[-1:]\n", "a slot that nobody wants late runs late"),
    Mutant(_FIRING, "if slot >= oldest] + in_time", "if slot >= oldest] + [slot for slot in in_time if slot >= oldest]", "a slot in time is outside of a short window"),
    Mutant(_FIRING, "late[-plan.misfire_max :]", "late", "more late slots run than may"),
    Mutant(_FIRING, '(in_time and plan.misfire == "once")', "False", "the last late slot runs beside one in time"),
    Mutant(_FIRING, "now - plan.jitter - slot > LATE_MS", "now - slot > 1000", "of slots in time only the last runs"),
    Mutant(_FIRING, "    if _was_there(engine, job_id):\n", "    if False:\n", "a slot makes the job that it made before the backup"),
    Mutant(_FIRING, ' if plan.overlap == "allow" else previous_of(engine, name)', ' if plan.overlap != "skip" else previous_of(engine, name)', "jobs overlap"),
    Mutant(_FIRING, "and planner.progress[name].waiting is None:", "and True:", "a slot that waits makes room for the next"),
    Mutant(_FIRING, "        engine.planner.progress[name].runs += 1\n", "", "no limit is ever reached"),
    Mutant(_PLANNER, "if plan.timing != old.timing or self.slots[name] is None:", "if plan.timing != old.timing:", "a schedule that was over runs at once when it is put anew"),
    Mutant(_PLANNER, "            if plan.timing != old.timing or", "            if", "another time lets slots of the past run"),
    Mutant(_PLANNER, '            return "unchanged"\n', "            pass\n", "what is put once more is changed"),
    Mutant(_PLANNER, "            if progress.settled > now:\n", "            if False:\n", "nobody is told of a clock that is behind"),
    Mutant(_PLANNER, "if progress.waiting is not None and standing(progress.holder):", "if progress.waiting is not None:", "a slot waits for a job that has ended, for ever"),
    Mutant(_PLANNER, "        if self.progress[name].paused is None:\n            self._expect(name, _AT_ONCE)\n", "        self._expect(name, _AT_ONCE)\n", "a paused schedule runs the slot that waits"),
    Mutant(_PLANNER, "progress.settled = max(progress.settled, slot)", "progress.settled = slot", "a clock that is behind runs slots again"),
    Mutant("engine/moves.py", "            self.planner.wake(job.id)\n", "            pass\n", "a slot that waits is forgotten"),
    Mutant("engine/engine.py", "self.planner.load(now, self.standing)", "pass", "schedules end with the process"),
    Mutant(_COMMANDS, "        planner.settle(name, now)\n        progress.paused = None\n", "        progress.paused = None\n", "slots of a pause run when it ends"),
    Mutant("engine/putting.py", "    if known is None or known.timing != plan.timing:\n", "    if True:\n", "what was put for a time that is past cannot be put again"),
    Mutant("runtime/core.py", "                tell(engine.planner.take_notices())\n", "                engine.planner.take_notices()\n", "the log says nothing of schedules"),
]  # fmt: skip
