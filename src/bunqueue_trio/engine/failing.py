"""Which schedules need somebody: the newest run has died, or slots are left out for a job that does not end.

It is part of what is kept of how far a schedule has come, so that it stands over restarts, until one of its runs completes.
"""

from typing import Protocol

from msgspec import Struct


class Died(Struct, frozen=True):
    """The newest run of a schedule that has ended, which died; with those that died before it in a row."""

    job: str
    since: int
    """When the first of them did."""
    at: int
    runs: int = 1


class Blocked(Struct, frozen=True):
    """The job that has not ended, for which slots are left out, and the first of these slots."""

    job: str
    since: int


class Course(Protocol):
    """How far a schedule has come, as far as it matters here."""

    created: int
    paused: int | None
    died: Died | None
    blocked: Blocked | None
    well: str | None


class Failing:
    """Those of all schedules that need somebody, by name; none that is paused, since of these somebody knows."""

    def __init__(self) -> None:
        self.died: dict[str, Died] = {}
        """Which of them have a newest run that died, whichever died last at the end."""
        self.blocked: dict[str, Blocked] = {}
        """Which of them leave slots out for a job that has not ended; none that has no slots to come."""

    def note(self, name: str, course: Course, *, has_slots: bool) -> None:
        """Know how far a schedule has come by now."""
        died = course.died if course.paused is None else None
        if self.died.get(name) != died:
            self.died.pop(name, None)
            if died is not None:
                self.died[name] = died
        if course.blocked is None or not has_slots:
            self.blocked.pop(name, None)
        else:
            self.blocked[name] = course.blocked

    def forget(self, name: str) -> None:
        """Know of a schedule no more."""
        self.died.pop(name, None)
        self.blocked.pop(name, None)


def after_death(course: Course, job_id: str, now: int) -> bool:
    """Note that a run dies, if none that came later has died or completed; return whether anything is to be kept."""
    before = course.died
    # A run of a deleted schedule of this name says nothing of this one.
    if _slot(job_id) < course.created or _is_older(job_id, course.well, now):
        return False
    if before is None:
        course.died = Died(job_id, now, now)
    elif _is_older(job_id, before.job, now):
        return False
    else:
        course.died = Died(job_id, before.since, now, before.runs + (job_id != before.job))
    return True


def after_end(course: Course, job_id: str, now: int, *, completed: bool) -> bool:
    """Note that a run has ended; return whether anything is to be kept."""
    before = (course.died, course.blocked, course.well)
    if completed and course.died is not None and not _is_older(job_id, course.died.job, now):
        course.died = None
    if course.blocked is not None and course.blocked.job == job_id:
        course.blocked = None
    if completed and not _is_older(job_id, course.well, now):
        course.well = job_id
    return before != (course.died, course.blocked, course.well)


def note_blocked(course: Course, job_id: str, slot: int) -> None:
    """Note that ``slot`` is left out, since a job has not ended; it is to be kept."""
    if course.blocked is None or course.blocked.job != job_id:
        course.blocked = Blocked(job_id, slot)


def _slot(job_id: str) -> int:
    """Return the slot of a run, or when somebody let it run: that of a retried one is what it was."""
    return int(job_id.partition("@")[2].partition("+")[0])


def _is_older(job_id: str, other: str | None, now: int) -> bool:
    """Return whether a run comes before another one; nothing does before one of a time to come: a clock was set back, or a client chose the id."""
    return other is not None and _slot(other) <= now and (_slot(job_id), job_id) < (_slot(other), other)
