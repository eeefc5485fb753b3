"""A long random life of an engine beside the naive model, all of it from one seed."""

import random
from typing import Any

import msgspec
from msgspec import Raw

from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.catalog import CATALOG
from bunqueue_trio.protocol.commands.spec import Does
from tests.engine.engine_world import LEASE_MS, World
from tests.engine.model_commands import ANSWERS
from tests.engine.past_steps import PastSteps

QUEUES = ["a", "b", "c:1"]

OWNERS = [None, None, "socket-1", "socket-2"]

WORKERS = ["w1", "@1.2.3.4"]

CHOSEN_IDS = ["j1", "j2", "j3"]

BY_ID = [spec for spec in CATALOG if set(spec.command.__struct_fields__) == {"req_id", "id"}]

CHANGES_BY_ID: list[Any] = [spec.command for spec in BY_ID if spec.does is Does.CHANGES]

READS_BY_ID: list[Any] = [spec.command for spec in BY_ID if spec.does is Does.READS and spec.command in ANSWERS]
"""Commands that say nothing but the id of a job: new ones take part by being there."""


class Life(PastSteps):
    """Draws one operation after the other."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.world = World()
        # Swarm: each seed emphasises different operations; some are switched off.
        self.operations = [
            self.push, self.push_batch, self.pull, self.pull_batch, self.ack, self.fail, self.ack_batch, self.fail_batch,
            self.heartbeat, self.heartbeat_batch, self.extend, self.release, self.progress, self.manage, self.cancel, self.read,
            self.gate, self.count, self.edit, self.retry, self.clear, self.staff, self.schedule, self.find, self.act, self.disconnect,
            self.give_back, self.auto_retry, self.write, self.mark, self.look_back, self.obliterate, self.rerun, self.keep, self.take, self.commit, self.crash,
        ]  # fmt: skip
        self.weights = [self.rng.choice((0, 1, 1, 4)) for _ in self.operations]
        self.about_active = self.operations[4:13]
        self.weights[:3] = 6, 1, 4
        self.weights[-1] = min(self.weights[-1], 1)
        self.patience = self.rng.choice((0.1, 0.2, 0.4))
        # ... and different options.
        self.likes = {name: self.rng.choice((0, 0.1, 0.5)) for name in OPTIONS}
        if self.rng.random() < 0.3:  # many die, and come back
            for operation in (self.fail, self.fail_batch, self.auto_retry, self.rerun):
                self.weights[self.operations.index(operation)] = 6
            self.likes |= {"max_attempts": 0.9, "unique_key": 0.3, "remove_on_fail": 0}
            for queue in QUEUES:
                interval = self.rng.choice([0, 50, 5000])
                self.world.do(c.SetDlqConfig(queue=queue, auto_retry=True, auto_retry_interval=interval))

    def step(self) -> None:
        if self.rng.random() < self.patience:
            self.sleep()
        elif len(self.world.model.jobs) > 40:
            self.world.do(c.Cancel(id=self.job()))
        else:
            operation = self.rng.choices(self.operations, self.weights)[0]
            idle = operation in self.about_active and not self.world.model.counts()["active"]
            (self.pull if idle and self.rng.random() < 0.9 else operation)()

    def sleep(self) -> None:
        due = self.world.engine.next_due()
        if due is not None and self.rng.random() < 0.7:
            self.world.go_to(due - self.rng.randint(0, 1))
        else:
            self.world.go_to(self.world.now + self.rng.choices((0, 1, 50, 1000, LEASE_MS), (4, 4, 4, 4, 1))[0])

    # --- picks ----------------------------------------------------------------------------------

    def job(self, state: str | None = None) -> str:
        """The id of some job, most often of a live one, in ``state``."""
        model, chance = self.world.model, self.rng.random()
        live = [job.id for job in model.jobs if state is None or job.state == state]
        if chance < 0.9 and live:
            return self.rng.choice(live)
        anything = [job.id for job in model.jobs + model.ended]
        return self.rng.choice(anything) if chance < 0.97 and anything else "nobody"

    def active(self) -> tuple[str, str | None]:
        """Most often an active job, and often its token."""
        job_id = self.job("active")
        job = self.world.model.unfinished(job_id)
        return job_id, self.rng.choice([None] + [job and job.token] * 5 + ["wrong"])

    def spec(self) -> dict:
        given = {
            name: self.rng.choice(values) for name, values in OPTIONS.items() if self.rng.random() < self.likes[name]
        }
        if self.rng.random() < self.likes["repeat"]:
            limit = self.rng.choice([None, 1, 2, 3])
            given["repeat"] = c.Repeat(
                every=self.rng.choice([50, 1000, 60_000]), limit=limit, name=self.rng.choice([None, "n"])
            )
        if self.rng.random() < self.likes["priority"]:
            given["depends_on"] = [self.job() for _ in range(self.rng.choice([1, 1, 2, 3]))]
        return {"data": Raw(b"%d" % self.rng.randrange(100)), **given}

    # --- operations -----------------------------------------------------------------------------

    def push(self) -> None:
        self.world.do(c.Push(queue=self.rng.choice([*QUEUES * 9, "no good"]), **self.spec()))

    def push_batch(self) -> None:
        jobs = [c.JobSpec(**self.spec()) for _ in range(self.rng.randint(0, 4))]
        for i, job in enumerate(jobs):  # some wait for an earlier one of the same command
            earlier = [other.job_id for other in jobs[:i] if other.job_id]
            if earlier and self.rng.random() < 0.5:
                job.depends_on = [self.rng.choice(earlier)]
        self.world.do(c.PushBatch(queue=self.rng.choice(QUEUES), jobs=jobs))

    def pull(self) -> None:
        ttl = self.rng.choice([None, None, None, 1, 5000])
        full = [queue for queue in QUEUES if self.world.model.line(queue)] * 9
        named = self.rng.choice([None, None, *WORKERS])
        self.world.do(c.Pull(queue=self.rng.choice(full + QUEUES), lock_ttl=ttl, owner=named), self.rng.choice(OWNERS))

    def pull_batch(self) -> None:
        named = self.rng.choice([None, None, *WORKERS])
        command = c.PullBatch(queue=self.rng.choice(QUEUES), count=self.rng.randint(1, 4), owner=named)
        self.world.do(command, self.rng.choice(OWNERS))

    def ack(self) -> None:
        job_id, token = self.active()
        self.world.do(c.Ack(id=job_id, token=token, result=Raw(self.rng.choice([b"", b"null", b'{"n":1}']))))

    def fail(self) -> None:
        job_id, token = self.active()
        how = self.rng.choice([{}, {}, *HOW])
        self.world.do(c.Fail(id=job_id, token=token, error=self.rng.choice([None, "", "boom"]), **how))

    def ack_batch(self) -> None:
        picks = [self.active() for _ in range(self.rng.randint(0, 3))]
        tokens = self.rng.choice([None, [token or "" for _, token in picks], ["one"]])
        results = self.rng.choice([None, [Raw(b"1") for _ in picks]])
        self.world.do(c.AckBatch(ids=[job_id for job_id, _ in picks], tokens=tokens, results=results))

    def fail_batch(self) -> None:
        picks = [self.active() for _ in range(self.rng.randint(0, 3))]
        failures = [
            c.Failure(
                id=job_id, token=token, error=self.rng.choice([None, "", "boom"]), **self.rng.choice([{}, {}, *HOW])
            )
            for job_id, token in picks
        ]
        self.world.do(c.FailBatch(failures=failures))

    def heartbeat(self) -> None:
        job_id, token = self.active()
        duration = self.rng.choice([None, 1, 60_000])
        self.world.do(c.Heartbeat(id=job_id, token=token, duration=duration), self.rng.choice(OWNERS))

    def heartbeat_batch(self) -> None:
        picks = [self.active() for _ in range(self.rng.randint(0, 3))]
        tokens = self.rng.choice([None, [token or "" for _, token in picks]])
        self.world.do(c.HeartbeatBatch(ids=[job_id for job_id, _ in picks], tokens=tokens), self.rng.choice(OWNERS))

    def extend(self) -> None:
        job_id, token = self.active()
        self.world.do(c.ExtendLock(id=job_id, token=token or "", duration=self.rng.choice([1, 400_000])))

    def release(self) -> None:
        job_id, token = self.active()
        self.world.do(c.Release(id=job_id, token=token or ""))

    def progress(self) -> None:
        job_id, token = self.active()
        amount, message = self.rng.choice([0, 12.5, 100]), self.rng.choice([None, "", "half"])
        command = c.Progress(id=job_id, progress=amount, message=message, token=token)
        self.world.do(command, self.rng.choice(OWNERS))
        ended = [job.id for job in self.world.model.ended]
        self.world.do(c.AddLog(id=self.rng.choice([job_id, self.job(None), *CHOSEN_IDS, *ended]), message="x"))

    def manage(self) -> None:
        """Do something to a job that needs no field but its id."""
        kind, state = self.rng.choice(CHANGES_BY_ID), self.rng.choice([None, None, "delayed"])
        self.world.do(kind(id=self.job(state)))

    def cancel(self) -> None:
        """Cancel a job, often an active one, with a word or a grace or neither."""
        job_id = self.job(self.rng.choice(["active", "active", None]))
        reason, by = self.rng.choice([None, "wrong data"]), self.rng.choice([None, None, "ann"])
        self.world.do(c.Cancel(id=job_id, reason=reason, by=by, grace=self.rng.choice([None, 0, 1, 50, 5000])))

    def edit(self) -> None:
        """Change when the turn of a job is, or what it carries."""
        state = self.rng.choice(["waiting", "waiting", "delayed", "waiting-children", None])
        job_id, delay = self.job(state), self.rng.choice([0, 1, 50, 1000])
        token = self.rng.choice([None, None, self.active()[1]])
        commands: list[Any] = [
            c.ChangePriority(id=job_id, priority=self.rng.randint(-1, 2), lifo=self.rng.choice([None, True, False])),
            c.ChangeDelay(id=job_id, delay=delay),
            c.MoveToWait(id=self.rng.choice([job_id, self.job("active")]), token=token),
            c.MoveToDelayed(id=self.rng.choice([job_id, self.job("active")]), delay=max(1, delay), token=token),
            c.Update(id=job_id, data=Raw(self.rng.choice([b"", b"null", b"[1,2]"]))),
        ]
        self.world.do(self.rng.choice(commands))

    def retry(self) -> None:
        dead = [job for job in self.world.model.ended if job.state == "failed"]
        job = self.rng.choice(dead) if dead and self.rng.random() < 0.9 else None
        queue = self.rng.choice(QUEUES) if job is None or self.rng.random() < 0.1 else job.queue
        kind = self.rng.choice([c.RetryDlq, c.RetryDlq, c.PurgeDlq])
        job_id = self.job() if job is None else job.id
        changed = {"data": Raw(b'"mended"')} if kind is c.RetryDlq and self.rng.random() < 0.3 else {}
        self.world.do(
            c.MoveToWait(id=job_id) if self.rng.random() < 0.2 else kind(queue=queue, job_id=job_id, **changed)
        )

    def clear(self) -> None:
        """Remove many at once."""
        queue, limit = self.rng.choice([*QUEUES * 9, "no good"]), self.rng.choice([1, 3, 1000])
        grace = self.rng.choice([0, 1, 50, 5000, 100_000])
        as_of = self.world.now - grace if limit == 3 else None
        commands: list[Any] = [
            c.Drain(queue=queue, delayed=self.rng.random() < 0.5, limit=limit, as_of=as_of),
            c.PromoteJobs(queue=queue, count=limit, as_of=as_of),
        ]
        commands += [
            c.Clean(queue=queue, state=state, grace=grace) for state in ("waiting", "delayed", "waiting-children")
        ]
        self.world.do(self.rng.choice([*commands, c.Clean(queue="a", state="active")]))

    def read(self) -> None:
        kind = self.rng.choice(READS_BY_ID)
        model = self.world.model
        ids = [job.id for job in model.jobs + model.ended] + CHOSEN_IDS
        self.world.do(kind(id=self.rng.choice(ids)))

    def gate(self) -> None:
        """Shut the gate of a queue, open it, or ask."""
        queue, now = self.rng.choice([*QUEUES * 9, "no good"]), self.world.now
        until = self.rng.choice([None, now, now + 1, now + 50, now + 1000])
        kinds: list[Any] = [
            c.Pause(queue=queue, reason=self.rng.choice([None, "why"]), until=until),
            c.IsPaused(queue=queue),
        ]
        kinds += [c.SetConcurrency(queue=queue, concurrency=self.rng.randint(1, 3)), c.ClearConcurrency(queue=queue)]
        limit, duration = self.rng.choice([1, 2, 3, 200]), self.rng.choice([1, 50, 1000, 5000])
        kinds += [
            c.RateLimit(queue=queue, limit=limit, duration=duration, ttl=self.rng.choice([None, 1, 3000])),
            c.RateLimitClear(queue=queue),
            c.GetRateLimit(queue=queue),
        ]
        kinds += self.configs(queue)
        self.world.do(self.rng.choice([*kinds, c.GetConcurrency(queue=queue), *[c.Resume(queue=queue)] * 3]))

    def configs(self, queue: str) -> list[Any]:
        """Say how a queue treats its jobs where nobody says it, or ask."""
        rng = self.rng
        said: dict[str, Any] = {
            "max_attempts": rng.choice([None, 1, 2]), "backoff": rng.choice([None, 0, 50, c.Backoff(type="fixed", delay=70)]),
            "ttl": rng.choice([None, None, 400]), "timeout": rng.choice([None, 0, 300]),
            "remove_on_complete": rng.choice([None, True, False]), "remove_on_fail": rng.choice([None, True]),
        }  # fmt: skip
        stalls: dict[str, Any] = {
            "enabled": rng.choice([None, True, False]), "stall_interval": rng.choice([None, 40]),
            "max_stalls": rng.choice([None, 0, 2]), "grace_period": rng.choice([None, 0, 30]),
        }  # fmt: skip

        def some(fields: dict[str, Any]) -> dict[str, Any]:
            return {name: value for name, value in fields.items() if rng.random() < 0.5}

        stalls = some(stalls)
        config = c.SetStallConfig(queue=queue, config=c.StallConfig(**stalls))
        return [
            c.SetDefaults(queue=queue, **some(said)), c.ClearDefaults(queue=queue), c.ClearStallConfig(queue=queue), c.GetDefaults(queue=queue),
            rng.choice([config, c.SetStallConfig(queue=queue, **stalls)]), c.GetStallConfig(queue=queue),
            rng.choice([c.ClearDlqConfig(queue=queue), c.GetDlqConfig(queue=queue), c.GetDlqConfig(queue=queue)]),
        ]  # fmt: skip

    def count(self) -> None:
        """Look at a queue, or at all of them."""
        kind = self.rng.choice([c.GetQueue, c.GetJobCounts, c.CountJobs, c.GetCountsPerPriority, None])
        if kind is not None:
            self.world.do(kind(queue=self.rng.choice([*QUEUES * 9, "no good"])))
            return
        after, limit = self.rng.choice(["", "a", "b"]), self.rng.randint(1, 4)
        self.world.do(c.ListQueues(after=after, limit=limit, details=self.rng.random() < 0.5))

    def schedule(self) -> None:
        """Put a schedule, do something to one, or ask."""
        name, now = self.rng.choice(["s", "t", "u:1"]), self.world.now
        when = self.rng.choice(WHEN)
        if self.rng.random() < 0.2:
            when = {"at": now + self.rng.choice([-1, 0, 1, 500, 100_000])}
        how = {field: self.rng.choice(values) for field, values in HOW_SCHEDULED.items() if self.rng.random() < 0.3}
        how |= {
            f: now + self.rng.choice([-1000, 0, 5000, 200_000]) for f in ("start", "end") if self.rng.random() < 0.1
        }
        queue = self.rng.choice([*QUEUES * 9, "no good"])
        put: list[Any] = [c.PutSchedule(name=name, queue=queue, data=Raw(b"7"), **when, **how)] * 3
        if name in self.world.model.schedules:
            put.append(msgspec.structs.replace(self.world.model.schedules[name].said))
        changed = {f: None if value is None or self.rng.random() < 0.3 else value for f, value in (how | when).items()}
        changed |= {f: when[f] for f in ("cron", "every", "at") if f in when}
        put += [c.ChangeSchedule(name=name, **changed), c.ChangeSchedule(name=name, data=Raw(b"9"))]
        kinds = [c.GetSchedule, c.PauseSchedule, c.ResumeSchedule, c.ResumeSchedule, c.RunSchedule, c.DeleteSchedule]
        commands = [kind(name=name) for kind in kinds]
        commands += [c.GetScheduleRuns(name=name, limit=limit, next=self.rng.choice([1, 5])) for limit in (3, 100)]
        commands += [c.ListSchedules(after=self.rng.choice([None, "s"]), limit=self.rng.randint(1, 3))]
        commands += [
            c.PreviewSchedule(**when),
            c.PutSchedule(name=self.rng.choice(["preview", "no/good", ".."]), queue="a"),
        ]
        schedule, every = self.rng.choice([("*/5 * * * *", None), (None, 1000), (None, 1000), (None, None)])
        crons: list[Any] = [
            c.Cron(
                name=name, queue=queue, data=Raw(b"8"), schedule=schedule, repeat_every=every, priority=self.rng.choice([0, 1]),
                immediately=self.rng.random() < 0.5, prevent_overlap=self.rng.random() < 0.5,
                skip_missed_on_restart=self.rng.random() < 0.5, job_name=self.rng.choice(["default", "welcome"]),
            ),
            self.rng.choice([c.CronGet(name=name), c.CronList(limit=2), c.CronDelete(name=name)]),
        ]  # fmt: skip
        self.world.do(self.rng.choice([*put, *commands, *crons]))

    def wanted(self) -> dict[str, Any]:
        """Some fields of a filter."""
        said: dict[str, list] = {
            "queue": ["a", ["b", "a"], ["c:1", "none"]], "state": ["waiting", ["delayed", "active"], ["waiting-children", "waiting"]],
            "tag": ["t"], "id_prefix": ["id-1", "j"], "error": ["boom", "o"], "text": ["1"], "older": [0, 50, 5000],
            "newer": [0, 50, 5000], "attempts": [0, 1], "owner": ["socket-1"], "group_id": ["g"],
        }  # fmt: skip
        names = self.rng.sample(sorted(said), self.rng.choice([0, 1, 1, 2, 3]))
        return {name: self.rng.choice(said[name]) for name in names}

    def find(self) -> None:
        wanted = {"state": ["waiting", "delayed", "waiting-children", "active"]} | self.wanted()
        self.world.do(c.FindJobs(**wanted, limit=self.rng.choice([1, 3, 1000]), count=self.rng.random() < 0.3))

    def act(self) -> None:
        """Do something to many; mostly to few."""
        action = self.rng.choice(["cancel", "promote", "promote", "discard", "priority", "priority", "move", "move"])
        how: dict[str, Any] = {
            "dry_run": self.rng.random() < 0.3,
            "force": self.rng.random() < 0.3,
            "priority": self.rng.choice([-1, 0, 2]),
        }
        if self.rng.random() < (0.5 if action == "cancel" else 0.1):
            how |= {"reason": self.rng.choice([None, "why"]), "grace": self.rng.choice([None, 0, 300])}
        if self.rng.random() < (0.95 if action == "move" else 0.02):
            how["to"] = self.rng.choice(["a", "b", "c:1"])
        limit = self.rng.choice([1, 2, 100])
        self.world.do(c.ActOnJobs(filter=c.Filter(**self.wanted()), action=action, limit=limit, **how))

    def staff(self) -> None:
        """Say who works, or do something to one of them."""
        name = self.rng.choice([*WORKERS, *self.world.model.hands])
        commands: list[Any] = [
            c.RegisterWorker(worker_id=self.rng.choice([None, name]), name=self.rng.choice([None, "me"]), concurrency=3),
            c.WorkerHeartbeat(id=name), c.QuietWorker(id=name), c.UnquietWorker(id=name), c.UnregisterWorker(id=name),
            c.ReleaseWorker(id=name),
        ]  # fmt: skip
        if self.rng.random() < 0.2:
            self.world.sweep()
        else:
            self.world.do(self.rng.choice(commands), self.rng.choice(OWNERS))

    def disconnect(self) -> None:
        self.world.disconnect(self.rng.choice(["socket-1", "socket-2", "socket-3"]), dropped=self.rng.random() < 0.3)

    def give_back(self) -> None:
        job_id, token = self.active()
        self.world.give_back(job_id, token or "")

    def auto_retry(self) -> None:
        """Let dead letters wait again by themselves, often those whose time comes next; or say of which queues."""
        rng, autos = self.rng, self.world.engine.auto_retries
        if rng.random() < (0.1 if autos else 0.6):
            dead: dict[str, Any] = {
                "auto_retry": rng.choice([True, True, True, True, None, False]), "auto_retry_interval": rng.choice([0, 50, 5000, None]),
                "max_auto_retries": rng.choice([None, 0, 1, 2]), "max_age": rng.choice([None, 1]),
            }  # fmt: skip
            dead = {name: value for name, value in dead.items() if rng.random() < 0.8}
            how = {"config": c.DlqConfig(**dead)} if rng.random() < 0.3 else dead
            self.world.do(c.SetDlqConfig(queue=rng.choice([*QUEUES * 9, "no good"]), **how))
            return
        self.world.commit()
        self.world.commit()
        due = autos.due
        if due is not None and rng.random() < 0.7:
            self.world.go_to(due - rng.choice([0, 0, 1]))
        self.world.auto_retry()

    def take(self) -> None:
        self.world.take()

    def commit(self) -> None:
        self.world.commit()

    def crash(self) -> None:
        self.world.crash(self.rng)


HOW: list[dict[str, Any]] = [
    {"unrecoverable": True}, {"retry_in": 0}, {"retry_in": 1}, {"retry_in": 5000}, {"unrecoverable": True, "retry_in": 0},
]  # fmt: skip
"""What a failure may say of the next attempt."""

BACKOFFS = [
    c.Backoff(type="fixed", delay=50), c.Backoff(type="exponential", delay=1, max_delay=3, jitter=0),
    c.Backoff(type="exponential", delay=1000, jitter=0.5), c.Backoff(type="fixed", delay=1000, max_delay=0),
    c.Backoff(type="exponential", delay=3_000_000, jitter=1),
]  # fmt: skip

WHEN: list[dict[str, Any]] = [
    {"every": 50}, {"every": 1000, "anchor": 300}, {"every": 60_000}, {"every": 400_000}, {"cron": "*/5 * * * *"},
    {"cron": "7,9 * * * *"}, {"cron": "* * * * *", "every": 5}, {},
]  # fmt: skip

HOW_SCHEDULED: dict[str, list] = {
    "misfire": ["skip", "once", "all", "all"],
    "misfire_max": [1, 2, 25],
    "window": [0, 1000, 100_000],
    "jitter": [700, 20_000, 200_000],
    "overlap": ["allow", "skip", "queue", "queue", "cancel"],
    "limit": [1, 2, 5],
    "source": ["app"],
    "options": [
        c.RunOptions(),
        c.RunOptions(priority=1, ttl=60, backoff=BACKOFFS[0]),
        c.RunOptions(timeout=100, lifo=True, name="welcome"),
    ],
}

OPTIONS: dict[str, list] = {
    "priority": [-1, 0, 1, 2],
    "delay": [0, 1, 50, 1000],
    "max_attempts": [1, 2, 3],
    "backoff": [0, 1, 100, 3_000_000, *BACKOFFS],
    "ttl": [0, 1, 60, 5000],
    "timeout": [0, 1, 100, LEASE_MS, 400_000],
    "unique_key": ["k1", "k2"],
    "job_id": CHOSEN_IDS,
    "tags": [["t"], ["t", "u"]],
    "lifo": [True],
    "remove_on_complete": [True],
    "remove_on_fail": [True],
    "repeat": [None],
    "name": ["welcome", "bye"],
}
