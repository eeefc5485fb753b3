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
    made: int = 0
    """When this run was made."""


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
    well: tuple[int, str] | None


class Run(Protocol):
    """A job of a schedule."""

    id: str
    created_at: int


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


def after_death(course: Course, run: Run, now: int) -> bool:
    """Note that a run dies, if none that was made later has died or completed; return whether anything is to be kept."""
    before, made = course.died, _made(run)
    if run.created_at < course.created or _is_older(made, course.well, now):
        # That of a deleted schedule of this name says nothing of this one.
        return False
    if before is None:
        course.died = Died(run.id, now, now, made=run.created_at)
    elif _is_older(made, (before.made, before.job), now):
        return False
    else:
        course.died = Died(run.id, before.since, now, before.runs + (run.id != before.job), run.created_at)
    return True


def after_end(course: Course, run: Run, now: int, *, completed: bool, is_last: bool) -> bool:
    """Note that a run has ended, with no other unfinished if it ``is_last``; return whether anything is to be kept."""
    before, made = (course.died, course.blocked, course.well), _made(run)
    if completed and course.died is not None and not _is_older(made, (course.died.made, course.died.job), now):
        course.died = None
    if course.blocked is not None and course.blocked.job == run.id:
        course.blocked = None
    if is_last:
        # Nothing is left that was made before it and may die.
        course.well = None
    elif completed and not _is_older(made, course.well, now):
        course.well = made
    return before != (course.died, course.blocked, course.well)


def note_blocked(course: Course, job_id: str, slot: int) -> None:
    """Note that ``slot`` is left out, since a job has not ended; it is to be kept."""
    if course.blocked is None or course.blocked.job != job_id:
        course.blocked = Blocked(job_id, slot)


def _made(run: Run) -> tuple[int, str]:
    """Return where a run stands among those of its schedule: those of one moment are in the order of their slots."""
    return run.created_at, run.id


def _is_older(made: tuple[int, str], other: tuple[int, str] | None, now: int) -> bool:
    """Return whether a run was made before another one; a clock that was set back behind the other does not tell."""
    return other is not None and made < other and other[0] <= now
