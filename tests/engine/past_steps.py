"""Steps of a random life that look at what has become of jobs, or write something down: lists, logs, marks, and the end of a whole queue."""

import random
from typing import Any

from msgspec import Raw

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
        if rng.random() < 0.2:
            self.world.look_at_timeline(job_id)

    def kill_some(self, queue: str, count: int) -> None:
        """Let some jobs die, as far as the queue delivers them."""
        self.world.do(c.PushBatch(queue=queue, jobs=[c.JobSpec(data=Raw(b"1"), priority=9) for _ in range(count)]))
        self.world.do(c.PullBatch(queue=queue, count=max(1, count)))
        held = [job.id for job in self.world.model.jobs if job.queue == queue and job.state == "active"]
        error = self.rng.choice(["boom", "boom", None])
        self.world.do(c.FailBatch(failures=[c.Failure(id=job_id, error=error, unrecoverable=True) for job_id in held]))

    def rerun(self) -> None:
        """Let dead letters be retried a few first, go on with that, or stop it."""
        rng, chance = self.rng, self.rng.random()
        if chance < 0.3:
            self.kill_some(rng.choice(QUEUES), rng.choice([0, 3, 6]))
            wanted: Any = rng.choice(
                [
                    {"queue": rng.choice(QUEUES)},
                    {"queue": ["c:1", "a"]},
                    {"error": "boom"},
                    {"fingerprint": GROUPS[0]},
                    {},
                ]
            )
            self.world.commit()
            self.world.commit()
            how = {
                "count": rng.choice([1, 2, 5]),
                "rate": rng.choice([1, 3, 100]),
                "stop_at": rng.choice([0, 20, 50, 100]),
            }
            self.world.do(c.RerunDlq(filter=c.Filter(**wanted), force=True, **how))
            # What dies from now on is none of it.
            self.world.go_to(self.world.now + 1)
        elif chance < 0.5:
            self.world.do(
                rng.choice(
                    [
                        c.StopRerun(rerun=rng.choice([*self.world.model.reruns, "nobody"])),
                        c.ListReruns(),
                        c.ListReruns(),
                    ]
                )
            )
        else:
            self.world.go_on_with_reruns()
            if chance < 0.6:
                self.kill_some(rng.choice(QUEUES), 0)

    def keep(self) -> None:
        """Let something be done to the file, or let that end."""
        work = self.world.engine.upkeep.under_way
        if work is not None and self.rng.random() < 0.4:
            work.state, self.world.model.at_work = "done", None
            return
        kind: Any = self.rng.choice([c.BackupStorage, c.CheckStorage, c.ShrinkStorage])
        self.world.do(kind(dry_run=self.rng.random() < 0.3))

    def obliterate(self) -> None:
        """Remove all of a queue: seldom, since little is left then."""
        if self.rng.random() < 0.2:
            self.world.do(c.Obliterate(queue=self.rng.choice([*QUEUES, "no good"]), force=self.rng.random() < 0.7))
