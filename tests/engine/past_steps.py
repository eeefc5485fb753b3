"""Steps of a random life that look at what has become of jobs, or write something down: lists, logs, marks, and the end of a whole queue."""

import random
from typing import Any

from bunqueue_trio.engine.fingerprint import fingerprint
from bunqueue_trio.protocol import commands as c
from tests.engine.engine_world import World

QUEUES = ["a", "b", "c:1"]
# Errors that jobs die of here, and what is none.
GROUPS = [*(fingerprint(text).key for text in ("boom", "Unknown error", "Job stalled 4 times")), "cancelled", "no good"]
STATES = ["waiting", "delayed", "waiting-children", "active", "completed", "completed", "failed", "failed"]


class PastSteps:
    """Operations of a `Life`."""

    rng: random.Random
    world: World

    def known_job(self) -> str:
        """The id of a job that is there, or was."""
        model = self.world.model
        ids = [job.id for job in (*model.jobs, *model.ended)]
        return self.rng.choice(ids) if ids and self.rng.random() < 0.97 else "nobody"

    def write(self) -> None:
        """Write a line into a log, or clear one."""
        job_id = self.known_job()
        line = c.AddLog(id=job_id, message=f"line {self.rng.randrange(100)}", level=self.rng.choice(["info", "warn"]))
        self.world.do(line if self.rng.random() < 0.8 else c.ClearLogs(id=job_id))

    def mark(self) -> None:
        """Say something of an error."""
        mark: Any = self.rng.choice(["fixed", "fixed", "muted", "none"])
        self.world.do(c.MarkGroup(fingerprint=self.rng.choice(GROUPS), mark=mark))

    def look_back(self) -> None:
        """Read a list of what is past, or of who works."""
        rng = self.rng
        again = rng.random() < 0.6
        queue, limit, job_id = rng.choice([*QUEUES * 9, "no good"]), rng.choice([1, 3, 100]), self.known_job()
        commands: list[c.Command] = [
            c.GetLogs(id=job_id, limit=limit), c.GetAttempts(id=job_id), c.Actions(limit=limit),
            c.Dlq(queue=queue, limit=limit), c.DlqGroups(queue=queue, limit=limit, retrying=again), c.DeadGroups(limit=limit, retrying=again),
            c.GetJobs(queue=queue, state=rng.choice([*STATES, "paused"]), limit=limit),
            c.ListWorkers(limit=limit, after=rng.choice([None, "@", "w1"])),
        ]  # fmt: skip
        self.world.do(rng.choice(commands))

    def obliterate(self) -> None:
        """Remove all of a queue: seldom, since little is left then."""
        if self.rng.random() < 0.2:
            self.world.do(c.Obliterate(queue=self.rng.choice([*QUEUES, "no good"]), force=self.rng.random() < 0.7))
