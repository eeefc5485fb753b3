"""When a job has been active for far longer than others of its queue."""

from collections import Counter
from collections.abc import Sequence

from bunqueue_trio.config import MINUTE_MS, USUAL_MIN
from bunqueue_trio.runtime.history import QueueMinute, part

# How long a job has to be active, and how many times as long as 99 of 100 others take.
STUCK_MS, STUCK_TIMES = 10 * MINUTE_MS, 10
# Where 100 others completed a hang is a finding sooner.
STUCK_SOON_MS, STUCK_SOON_MIN = MINUTE_MS, 100
# Times as long as the slowest of them: where one in a thousand takes long, that is no hang.
STUCK_SOON_TIMES = 2


def runs_of(hour: Sequence[QueueMinute]) -> Counter[int]:
    """Return how many jobs ran for how long, by buckets."""
    runs: Counter[int] = Counter()
    for minute in hour:
        if minute.runs:
            runs.update(minute.runs)
    return runs


def stuck_after(hour: Sequence[QueueMinute]) -> int | None:
    """Return for how many ms a job has to be active to be a finding, by those that completed in these minutes; None: too few did."""
    runs = runs_of(hour)
    usual, slowest, done = part(runs, 0.99), part(runs, 1), runs.total()
    if usual is None or slowest is None or done < USUAL_MIN:
        return None
    late = max(STUCK_MS, STUCK_TIMES * usual)
    soon = max(STUCK_SOON_MS, STUCK_TIMES * usual, STUCK_SOON_TIMES * slowest)
    return min(late, soon) if done >= STUCK_SOON_MIN else late
