"""Somebody sets the clock of the machine while a real server runs: what is due goes on evenly, and the next start sees the difference.

A process of its own, whose `time.time` reads from a file how far it is off; time that goes on evenly stays as it is. (Of the tools that
do this to any program, libfaketime makes Python's waits with a timeout hang or fail.)
"""

import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bunqueue_trio.commands import GetJobs, GetScheduleRuns, Pull, PutSchedule
from bunqueue_trio.errors import Refused
from bunqueue_trio.sync import SyncClient
from tests.operations.processes import Running, serving, until
from tests.wire.server import SOURCE

SECOND, HOUR, DAY = 1000, 3_600_000, 86_400_000
LATE, BEHIND = "a schedule missed its time", "the clock is behind the last run of a schedule"
SET = "the system clock was set"

OFF = """
import os, time
true_time, path = time.time, {path!r}
def set_time():
    with open(path) as file:
        return true_time() + int(file.read())
time.time = set_time
"""
"""What a server is started with."""

pytestmark = pytest.mark.slow


class Clock:
    """The clock of the machine, as one program sees it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.set(0)

    def set(self, offset_s: int) -> None:
        fresh = self._path.with_suffix(".new")
        fresh.write_text(f"{offset_s:+d}\n")
        fresh.replace(self._path)
        self.offset_s = offset_s

    def now(self) -> int:
        return round((time.time() + self.offset_s) * 1000)


def lines(running: Running, event: str, since: int = 0) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in running.log.splitlines()[since:] if line.startswith("{")]
    return [line for line in found if line["event"].startswith(event)]


def slots_of(client: SyncClient, name: str) -> list[int]:
    """The slots of a schedule that have brought a job, from what its queue has."""
    ids, after = list[str](), None
    while True:
        page = client.run(GetJobs(queue=name, state="waiting", limit=1000, after=after))
        ids += [job.id for job in page.jobs]
        after = page.next
        if after is None:
            return [int(job_id.split("@")[1]) for job_id in ids]


def grows(client: SyncClient, name: str, by: int) -> Callable[[], bool]:
    most = len(slots_of(client, name)) + by
    return lambda: len(slots_of(client, name)) >= most


def quiet() -> str:
    return "it does not happen"


def begin(client: SyncClient, clock: Clock) -> None:
    """Put what time matters to: two schedules, delays, an ended job that is kept for half a day, one that is due in half a day."""
    client.run(PutSchedule(name="often", queue="often", every=SECOND, overlap="allow", misfire="once"))
    anchor = (clock.now() + 12 * HOUR) % DAY
    client.run(PutSchedule(name="daily", queue="daily", every=DAY, anchor=anchor, overlap="allow", misfire="once"))
    client.push("later", job_id="in-half-a-day", delay="12h")
    client.push("done", job_id="ended")
    ended = client.pull("done")
    assert ended is not None
    ended.ack("kept")


@pytest.mark.parametrize("step_s", [86_400, pytest.param(-3600, marks=pytest.mark.long), -86_400])
def test_the_clock_is_set_while_a_server_runs(tmp_path: Path, step_s: int):  # noqa: PLR0915 - one life of a server
    clock = Clock(tmp_path / "offset")
    (tmp_path / "sitecustomize.py").write_text(OFF.format(path=str(tmp_path / "offset")))
    env = {"PYTHONPATH": f"{tmp_path}:{SOURCE}", "RETENTION_AGE_MS": str(DAY // 2), "LOG_FORMAT": "json"}
    with serving(tmp_path, env=env) as running, SyncClient(running.url) as client:
        begin(client, clock)
        until(grows(client, "often", 2), 60, quiet)
        clock.set(step_s)
        client.push("soon", job_id="soon", delay="2s")
        client.push("held")
        held = client.run(Pull(queue="held", lock_ttl=2000))
        assert held.job is not None
        running.wait_logged(SET)
        # All goes on evenly: nothing is early, nothing is late, nothing is deleted.
        until(lambda: client.state("soon") == "waiting", 60, quiet)
        until(lambda: client.state(held.job.id) == "waiting", 60, quiet)  # type: ignore[union-attr]
        until(grows(client, "often", 2), 60, quiet)
        assert client.state("in-half-a-day") == "delayed"
        assert client.result("ended") == "kept"
        assert slots_of(client, "daily") == []
        assert (lines(running, LATE), lines(running, BEHIND)) == ([], [])
        assert len(lines(running, SET)) == 1
        before = slots_of(client, "often")
        assert Counter(before).most_common(1)[0][1] == 1
        assert sorted(before) == list(range(min(before), max(before) + 1, SECOND)), "each slot once, and none left out"

        seen = len(running.log.splitlines())
        assert running.stop() == 0
        running.start()
        after = slots_of(client, "often")
        assert set(before) <= set(after)
        assert Counter(after).most_common(1)[0][1] == 1
        assert {client.state("soon"), client.state(held.job.id)} == {"waiting"}
        if step_s > 0:
            until(lambda: client.state("in-half-a-day") == "waiting", 60, quiet)
            until(lambda: len(slots_of(client, "daily")) == 1, 60, quiet)
            until(grows(client, "often", 2), 60, quiet)
            told = lines(running, LATE, seen)
            assert sorted((line["schedule"], line["jobs"]) for line in told) == [("daily", 1), ("often", 0)]
            assert lines(running, BEHIND, seen) == []
            until(lambda: not is_there(client, "ended"), 60, quiet)
        else:
            told = lines(running, BEHIND, seen)
            # Of an hour before there is no slot of the other one.
            assert sorted(line["schedule"] for line in told) == (["often"] if step_s == -3600 else ["daily", "often"])
            assert lines(running, LATE, seen) == []
            assert client.state("in-half-a-day") == "delayed"
            assert client.result("ended") == "kept"
            assert client.run(GetScheduleRuns(name="often", next=1)).upcoming[0].slot > max(before)

        # When the clock is right again, all goes on, and no slot has run twice.
        clock.set(max(step_s, 0))
        assert running.stop() == 0
        running.start()
        until(grows(client, "often", 2), 60, quiet)
        after = slots_of(client, "often")
        assert set(before) <= set(after)
        assert Counter(after).most_common(1)[0][1] == 1


def is_there(client: SyncClient, job_id: str) -> bool:
    try:
        client.state(job_id)
    except Refused:
        return False
    return True
