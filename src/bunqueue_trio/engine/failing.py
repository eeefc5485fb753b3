"""Which schedules need somebody: the newest run has died, or slots are left out for a job that does not end.

It is part of what is kept of how far a schedule has come, so that it stands over restarts, until one of its runs completes.
"""

from collections.abc import Collection, Mapping
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

    jobs: list[str]
    paused: int | None
    died: Died | None
    blocked: Blocked | None


class Failing:
    """Those of all schedules that need somebody, by name; none that is paused, since of these somebody knows."""

    def __init__(self) -> None:
        self.died: dict[str, Died] = {}
        """Which of them have a newest run that died, whichever died last at the end."""
        self.blocked: dict[str, Blocked] = {}
        """Which of them leave slots out for a job that has not ended."""

    def load(self, courses: Mapping[str, Course]) -> None:
        """Take up those of a start."""
        for name, course in sorted(courses.items(), key=lambda each: 0 if each[1].died is None else each[1].died.at):
            self.note(name, course)

    def note(self, name: str, course: Course) -> None:
        """Know how far a schedule has come by now."""
        died, blocked = (None, None) if course.paused is not None else (course.died, course.blocked)
        if self.died.get(name) != died:
            self.died.pop(name, None)
            if died is not None:
                self.died[name] = died
        if blocked is None:
            self.blocked.pop(name, None)
        else:
            self.blocked[name] = blocked

    def forget(self, name: str) -> None:
        """Know of a schedule no more."""
        self.died.pop(name, None)
        self.blocked.pop(name, None)


def after_death(course: Course, job_id: str, unfinished_behind: Collection[str], now: int) -> bool:
    """Note that a run dies, if it is the newest that has ended; return whether anything is to be kept."""
    if any(each > job_id and each not in unfinished_behind for each in course.jobs):
        return False
    before = course.died
    if before is None:
        course.died = Died(job_id, now, now)
    else:
        course.died = Died(job_id, before.since, now, before.runs + (job_id != before.job))
    return True


def after_end(course: Course, job_id: str, *, completed: bool) -> bool:
    """Note that a job has ended; return whether anything is to be kept."""
    is_well = completed and course.died is not None and job_id >= course.died.job
    is_free = course.blocked is not None and course.blocked.job == job_id
    if is_well:
        course.died = None
    if is_free:
        course.blocked = None
    return is_well or is_free


def note_blocked(course: Course, job_id: str, slot: int) -> None:
    """Note that ``slot`` is left out, since a job has not ended; it is to be kept."""
    if course.blocked is None or course.blocked.job != job_id:
        course.blocked = Blocked(job_id, slot)
