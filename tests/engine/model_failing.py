"""What the model knows of schedules that need somebody: the newest run died, or slots are left out for a job that has not ended."""

from typing import Any


def moment(job_id: str) -> int:
    return int(job_id[job_id.index("@") + 1 :].split("+")[0])


def comes_before(job_id: str, other: str, now: int) -> bool:
    # One of a time to come is of a clock that was set back since, or of a client: it is behind nobody.
    return moment(other) <= now and (moment(job_id), job_id) < (moment(other), other)


class Failing:
    """Schedules, and what is wrong with each; before those whose steps it looks at."""

    totals: Any
    schedules: Any
    open_jobs: Any

    def schedule_of(self, job_id: str) -> Any:
        name = job_id.partition("@")[0]
        # An unfinished job is one of a schedule by its id alone.
        return self.schedules.get(name) if job_id in self.open_jobs(name) else None

    def end(self, job: Any, state: str, now: int) -> None:
        schedule = self.schedule_of(job.id)
        super().end(job, state, now)  # type: ignore[misc]
        if schedule is None:
            return
        troubles = dict(schedule.troubles)
        if "blocked" in troubles and troubles["blocked"]["job"] == job.id:
            del troubles["blocked"]
        if state == "completed":
            if "died" in troubles and not comes_before(job.id, troubles["died"]["job"], now):
                del troubles["died"]
            if "well" not in troubles or not comes_before(job.id, troubles["well"], now):
                troubles["well"] = job.id
        schedule.troubles = troubles

    def bury_one(self, job: Any, error: str, now: int, *, wanted: bool) -> None:
        died, schedule = self.totals["died"], self.schedule_of(job.id)
        super().bury_one(job, error, now, wanted=wanted)  # type: ignore[misc]
        if schedule is None or self.totals["died"] == died or moment(job.id) < schedule.created:
            return
        troubles = schedule.troubles
        rivals = [troubles["died"]["job"]] if "died" in troubles else []
        rivals += [troubles["well"]] if "well" in troubles else []
        if any(comes_before(job.id, rival, now) for rival in rivals):
            return
        before = troubles.get("died", {"job": None, "since": now, "runs": 0})
        runs = before["runs"] + (before["job"] != job.id)
        schedule.troubles = troubles | {"died": {"job": job.id, "since": before["since"], "at": now, "runs": runs}}

    def keep(self, name: str, slot: int, now: int) -> None:
        schedule, oldest = self.schedules[name], next(iter(self.open_jobs(name)), None)
        super().keep(name, slot, now)  # type: ignore[misc]
        left_out = schedule.skips and schedule.skips[-1][1:] == (slot, f"job {oldest} had not ended")
        if left_out and schedule.troubles.get("blocked", {}).get("job") != oldest:
            schedule.troubles = schedule.troubles | {"blocked": {"job": oldest, "since": slot}}
