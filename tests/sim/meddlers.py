"""Who acts on queues and jobs from outside: a meddler that cancels, and an operator."""

from typing import Any

from tests.sim.actors import Actor, Stage
from tests.sim.peer import HttpPeer, Peer


class Meddler(Actor):
    """Reads, changes and cancels other people's jobs, acks without a token, looks at pages."""

    @property
    def done(self) -> bool:
        return self.calm

    async def act(self, peer: Peer) -> None:
        while not self.calm:
            await self.nap(self.rng.expovariate(1 / 40))
            ids = sorted(self.stage.ledger.pushed)
            job_id = self.rng.choice(ids[-20:]) if ids else "nobody"
            cmd = self.rng.choice(
                (
                    "GetJob", "GetState", "GetResult", "Cancel", "ACK", "FAIL", "JobHeartbeat", "Discard", "ChangePriority",
                    "ChangeDelay", "MoveToDelayed", "PurgeDlq", "Why",
                )
            )  # fmt: skip
            answer = await self.ask(peer, cmd, id=job_id, **self.changes(cmd))
            if answer.get("state") == "completed" and not self.stage.platter.completed.get(job_id):
                self.stage.fail(f"{job_id} is shown completed, and that is not committed")
            if cmd == "Cancel" and answer["ok"] and "data" not in answer:
                self.stage.ledger.end_answered("the cancellation", job_id)
            if cmd == "Discard" and answer["ok"]:
                self.stage.ledger.end_answered("the discarding", job_id)
            if isinstance(peer, HttpPeer) and self.rng.random() < 0.3:
                await peer.request("GET", self.rng.choice(("/health", "/stats", "/prometheus", "/tasks", "/ready")))

    def changes(self, cmd: str) -> dict[str, Any]:
        if cmd == "ChangePriority":
            return {"priority": self.rng.randint(-1, 2), "lifo": self.rng.choice((None, True, False))}
        if cmd == "PurgeDlq":
            return {"queue": self.rng.choice(self.stage.queues), "jobId": "nobody"}
        if cmd == "Cancel":
            return self.rng.choice(({}, {"reason": "why", "by": self.name}, {"grace": 1000}, {"grace": 60_000}))
        return {"delay": self.rng.choice((1, 500, 20_000))} if cmd in ("ChangeDelay", "MoveToDelayed") else {}


class Operator(Actor):
    """Pauses queues for a while, resumes some of them early, limits them, and asks how they are."""

    def __init__(self, stage: Stage, name: str) -> None:
        super().__init__(stage, name)
        self.tidied_up = False

    @property
    def done(self) -> bool:
        return self.tidied_up

    async def act(self, peer: Peer) -> None:
        rng = self.rng
        if not self.calm:
            await self.settle(peer)
        while not self.calm:
            await self.nap(rng.expovariate(1 / 60))
            queue = rng.choice(self.stage.queues)
            if rng.random() < 0.5:
                pong = await self.ask(peer, "Ping")
                until = pong["data"]["time"] + rng.choice((1, 1000, 60_000)) if pong["ok"] else 0
                await self.ask(peer, "Pause", queue=queue, until=until, reason=self.name)
            elif rng.random() < 0.1:
                await self.ask(peer, "Drain", queue=queue, delayed=rng.random() < 0.5, limit=rng.randint(1, 5))
            elif rng.random() < 0.1:
                state, grace = rng.choice(("waiting", "delayed", "waiting-children")), rng.choice((0, 5000))
                await self.ask(peer, "Clean", queue=queue, state=state, grace=grace)
            elif rng.random() < 0.2:
                await self.settle(peer)
            elif rng.random() < 0.2:
                cmds = ("QuietWorker", "UnquietWorker", "ReleaseWorker", "UnregisterWorker", "Heartbeat")
                await self.ask(peer, rng.choice(cmds), id=f"worker-{rng.randint(0, 3)}")
            elif rng.random() < 0.3:
                if rng.random() < 0.5:
                    await self.ask(peer, "SetConcurrency", queue=queue, concurrency=rng.randint(1, 3))
                else:
                    duration, ttl = rng.choice((1, 1000, 30_000)), rng.choice((None, 20_000))
                    await self.ask(
                        peer, "RateLimit", queue=queue, limit=rng.choice((1, 3, 150)), duration=duration, ttl=ttl
                    )
            else:
                await self.ask(
                    peer,
                    rng.choice(
                        (
                            "Resume",
                            "Resume",
                            "IsPaused",
                            "GetJobCounts",
                            "Count",
                            "ClearConcurrency",
                            "GetConcurrency",
                            "RateLimitClear",
                            "GetRateLimit",
                        )
                    ),
                    queue=queue,
                )
        await self.tidy_up(peer)

    async def settle(self, peer: Peer) -> None:
        """Let jobs of most queues die soon, and come back by themselves."""
        rng = self.rng
        for queue in self.stage.queues:
            how = {"autoRetryInterval": rng.choice((0, 1000, 60_000)), "maxAutoRetries": rng.choice((None, 1, 2))}
            await self.ask(peer, "SetDlqConfig", queue=queue, autoRetry=rng.random() < 0.8, **how)
            await self.ask(peer, "SetDefaults", queue=queue, maxAttempts=1)

    async def tidy_up(self, peer: Peer) -> None:
        for queue in self.stage.queues:  # a pause ends by itself, a limit stays for ever
            for cmd in ("ClearConcurrency", "RateLimitClear", "ClearDlqConfig", "ClearDefaults"):
                while not (await self.ask(peer, cmd, queue=queue))["ok"]:
                    await self.nap(1)
        for i in range(4):  # so does a worker that is quiet
            while not (answer := await self.ask(peer, "UnquietWorker", id=f"worker-{i}"))["ok"]:
                if answer.get("code") == "worker-not-found":
                    break
                await self.nap(1)
        self.tidied_up = True
