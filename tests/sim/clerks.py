"""Who writes down, looks back and acts on many: a clerk, with a log line here, a mark there, and all lists that there are."""

from typing import Any

from bunqueue_trio.engine.fingerprint import fingerprint
from tests.sim.actors import Actor, Stage
from tests.sim.peer import Peer

# What jobs die of here.
GROUPS = [
    *(fingerprint(text).key for text in ("no luck", "Job timed out after 100 ms", "Job stalled 1 time")),
    "cancelled",
]
STILL, GHOST = "still", "ghost"
STATES = ["waiting", "delayed", "waiting-children", "active", "completed", "failed"]


class Clerk(Actor):
    """Keeps the books of the operators; takes its marks back when the calm begins."""

    def __init__(self, stage: Stage, name: str) -> None:
        super().__init__(stage, name)
        self.lines = 0
        self.tidied_up = False
        self.habits = [
            self.write,
            self.write,
            self.mark,
            self.act_on_many,
            self.retry,
            self.rerun,
            self.look,
            self.look,
            self.look,
        ]

    @property
    def done(self) -> bool:
        return self.tidied_up

    async def act(self, peer: Peer) -> None:
        if not self.calm:
            await self.settle(peer)
        while not self.calm:
            await self.nap(self.rng.expovariate(1 / 20))
            await self.rng.choice(self.habits)(peer)
        said: list[tuple[str, dict[str, Any]]] = [("MarkGroup", {"fingerprint": key, "mark": "none"}) for key in GROUPS]
        said += [("Resume", {"queue": STILL}), ("UnquietWorker", {"id": GHOST})]
        said += [("ClearConcurrency", {"queue": queue}) for queue in self.stage.queues]
        for cmd, fields in said:
            while (
                not (answer := await self.ask(peer, cmd, **fields))["ok"] and answer.get("code") != "worker-not-found"
            ):
                await self.nap(1)
        self.tidied_up = True

    async def settle(self, peer: Peer) -> None:
        """Say what hinders nobody and holds for long: whenever a server starts, it has to know it."""
        await self.ask(peer, "Pause", queue=STILL, reason=self.name)
        await self.ask(peer, "RegisterWorker", workerId=GHOST)
        await self.ask(peer, "QuietWorker", id=GHOST)
        await self.ask(peer, "SetConcurrency", queue=self.queue(), concurrency=50)
        await self.ask(peer, "MarkGroup", fingerprint=self.rng.choice(GROUPS), mark="fixed")

    def job(self) -> str:
        """The id of a job that was pushed lately."""
        ids = sorted(self.stage.ledger.pushed)
        return self.rng.choice(ids[-20:]) if ids else "nobody"

    def queue(self) -> str:
        return self.rng.choice(self.stage.queues)

    async def write(self, peer: Peer) -> None:
        """Write a line that no other is like."""
        job_id = self.job()
        if self.rng.random() < 0.1:
            await self.ask(peer, "ClearLogs", id=job_id)
            return
        self.lines += 1
        message = f"{self.name} {self.lines}"
        answer = await self.ask(peer, "AddLog", id=job_id, message=message)
        if answer["ok"]:
            self.stage.ledger.line_answered(job_id, message)

    async def mark(self, peer: Peer) -> None:
        await self.ask(
            peer, "MarkGroup", fingerprint=self.rng.choice(GROUPS), mark=self.rng.choice(("fixed", "muted", "none"))
        )

    async def act_on_many(self, peer: Peer) -> None:
        rng = self.rng
        action = rng.choice(("promote", "priority", "discard", "cancel", "move", "move"))
        said: dict[str, dict[str, Any]] = {
            "priority": {"priority": rng.randint(-1, 2)}, "cancel": {"reason": "why"}, "move": {"to": self.queue()},
        }  # fmt: skip
        how = said.get(action, {})
        wanted = {"queue": self.queue(), "tag": "t"}
        await self.ask(
            peer, "ActOnJobs", filter=wanted, action=action, limit=rng.randint(1, 5), dryRun=rng.random() < 0.3, **how
        )

    async def retry(self, peer: Peer) -> None:
        """Let a dead letter wait again, or delete it, or remove all of a queue."""
        rng, queue = self.rng, self.queue()
        if rng.random() < 0.1:
            await self.ask(peer, "Obliterate", queue=queue, force=rng.random() < 0.5)
            return
        found = await self.ask(peer, "Dlq", queue=queue, limit=3)
        for entry in found.get("entries", [])[:1]:
            # Who has heard that a job failed for good does not expect it again.
            cmd = "PurgeDlq" if entry["reason"] == "unrecoverable" else rng.choice(("RetryDlq", "RetryDlq", "PurgeDlq"))
            await self.ask(peer, cmd, queue=queue, jobId=entry["job"]["id"])

    async def rerun(self, peer: Peer) -> None:
        """Let the server retry those of whom nobody has heard that they failed for good, a few first; or stop it."""
        rng = self.rng
        reruns = (await self.ask(peer, "ListReruns")).get("reruns", [])
        if reruns and rng.random() < 0.3:
            await self.ask(peer, "StopRerun", rerun=rng.choice(reruns)["id"])
            return
        how = {
            "count": rng.choice((1, 3)),
            "rate": rng.choice((1, 100)),
            "stopAt": rng.choice((0, 50, 100)),
            "force": True,
        }
        await self.ask(peer, "RerunDlq", filter={"queue": self.queue(), "fingerprint": rng.choice(GROUPS[:3])}, **how)

    async def look(self, peer: Peer) -> None:
        """Read any list; the model knows what is in it."""
        queue, limit = self.queue(), self.rng.choice((1, 5, 100))
        cmd, fields = self.rng.choice(
            (
                ("GetLogs", {"id": self.job(), "limit": limit}), ("GetAttempts", {"id": self.job()}), ("Actions", {"limit": limit}),
                ("DlqGroups", {"queue": queue, "limit": limit}), ("DeadGroups", {"limit": limit, "retrying": True}), ("ListWorkers", {"limit": limit}),
                ("GetJobs", {"queue": queue, "state": self.rng.choice(STATES), "limit": limit}),
                ("FindJobs", {"queue": queue, "state": STATES[:4], "limit": limit}),
            )
        )  # fmt: skip
        await self.ask(peer, cmd, **fields)
