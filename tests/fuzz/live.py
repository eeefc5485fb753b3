"""A server in the middle of its life, and commands that fit it: what they name is there, or nearly, and each value is at one of its bounds, or odd."""

import json
import random
from contextlib import suppress
from typing import Any

import msgspec
import trio
from msgspec import Raw
from msgspec import inspect as types

from bunqueue_trio.errors import INTERNAL_ERROR, Refused
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.catalog import COMMANDS, SESSION
from bunqueue_trio.protocol.codec import BadMessage, decode_message
from bunqueue_trio.runtime.server import Server

NUMBERS = [0, 1, -1, 2, 5, 100, 1000, 1001, 10_000, 2**31, 2**53, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 0.5, 1e308]
TEXTS = [
    "",
    "x",
    "q",
    "a" * 1024,
    "a" * 1025,
    "é",
    "\x00",
    "\ud800",
    "*",
    "a/b",
    "..",
    "%",
    "1,2",
    "-1",
    "null",
    "none",
    "now",
]
ODD = [None, 0, "", [], {}, [[]], {"a": {"b": 1}}, "\ud800", 10**400, 1e-7, True]
STATES = ["waiting", "delayed", "waiting-children", "active", "completed", "failed", "paused", "removed", "nope"]


class Life:
    """What is there to be named."""

    def __init__(self, server: Server, rng: random.Random) -> None:
        self.server = server
        self.rng = rng
        self.known: dict[str, list[Any]] = {
            "queue": ["q", "other", "dead", "paused", "nobody", "a b"], "to": ["q", "other", "new"], "state": STATES,
            "job_id": ["nobody"], "token": ["wrong"], "after": ["0", "1,1", "waiting|q|", "failed|dead|1", "9,0123456789ab", "zzz"],
            "fingerprint": ["cancelled", "0123456789ab"], "name": ["s-cron", "s-every", "nobody"], "rerun": ["nobody"], "owner": ["w1", "w2", "socket"],
            "timezone": ["Europe/Berlin", "UTC", "Nowhere"], "cron": ["* * * * *", "0 0 30 2 *", "nonsense", "@hourly"], "error": ["late", "boom"],
        }  # fmt: skip
        self.known |= {"id": self.known["job_id"], "ids": self.known["job_id"], "tokens": self.known["token"]}
        self.known |= {
            "depends_on": self.known["job_id"],
            "worker_id": self.known["owner"],
            "schedule": self.known["cron"],
        }

    def learn(self, reply: Any) -> None:
        """Keep what a reply names for later commands."""
        names = {"id": "job_id", "token": "token", "next": "after", "fingerprint": "fingerprint"}

        def walk(value: Any) -> None:
            if isinstance(value, dict):
                for name, each in value.items():
                    if name in names and isinstance(each, str) and len(self.known[names[name]]) < 200:
                        self.known[names[name]].append(each)
                    walk(each)
            elif isinstance(value, list):
                for each in value[:50]:
                    walk(each)

        with suppress(TypeError, msgspec.EncodeError, ValueError):
            walk(json.loads(msgspec.json.encode(reply)))

    def message(self, tag: str) -> bytes:
        """Return some command of this kind as it is sent; most of them are right."""
        kind: Any = COMMANDS[tag]
        fields = {"cmd": tag}
        for field in msgspec.structs.fields(kind):
            if field.name != "req_id" and (field.required or field.name in ("queue", "id") or self.rng.random() < 0.5):
                fields[field.encode_name] = self.value(types.type_info(field.type), field.name)
        return json.dumps(fields).encode()

    def value(self, shape: types.Type, name: str) -> Any:
        """Return something for a field of this type and name."""
        rng = self.rng
        if rng.random() < 0.03:
            return rng.choice([*ODD, *NUMBERS, *TEXTS])
        match shape:
            case types.Metadata(type=marked):
                return self.value(marked, name)
            case types.UnionType(types=options):
                return self.value(rng.choice(options), name)
            case types.IntType() | types.FloatType():
                return self.number(shape.ge, shape.le)
            case types.StrType():
                return rng.choice(self.known[name] if name in self.known and rng.random() < 0.9 else TEXTS)
            case types.BoolType() | types.NoneType():
                return rng.random() < 0.5 if isinstance(shape, types.BoolType) else None
            case types.LiteralType(values=values):
                return rng.choice(values)
            case types.ListType(item_type=item):
                return [self.value(item, name) for _ in range(rng.randrange(4))]
            case types.StructType(cls=kind):
                inner = [field for field in msgspec.structs.fields(kind) if field.required or rng.random() < 0.4]
                return {field.encode_name: self.value(types.type_info(field.type), field.name) for field in inner}
            case _:
                return rng.choice(ODD)

    def number(self, low: float | None, high: float | None) -> float:
        """Return a number near these bounds."""
        near = [bound + n for bound in (low, high) if bound is not None for n in (-1, 0, 1)]
        fair = [n for n in (1, 2, 10, 1000) if (low is None or n >= low) and (high is None or n <= high)]
        return self.rng.choice([*(fair * 3), *near, self.rng.choice(NUMBERS)])

    async def send(self, message: bytes, owner: str | None = None) -> str:
        """Run a message as a connection would; return the code of what was refused, or "".

        Raises:
            Exception: anything that no step may raise.
        """
        try:
            command = decode_message(message)
        except BadMessage:
            return "bad"
        if type(command) in SESSION:
            return "session"
        # Who waits is not what is tried here.
        if getattr(command, "timeout", None) and not isinstance(command, c.Push):
            command.timeout = 1  # type: ignore[attr-defined]
        core, code = self.server.core, ""
        try:
            begun = core.begin(command, owner, sliced=True)  # type: ignore[arg-type]
            with trio.move_on_after(60):
                self.learn(await core.finish(begun))
        except Refused as refused:
            code = refused.code
        assert code != INTERNAL_ERROR.code, message
        assert not core.broken.is_set(), message
        return code


async def begin(life: Life) -> None:
    """Bring jobs into every state, and all else that a server may have."""
    core = life.server.core

    async def do(command: c.Command, owner: str | None = None) -> Any:
        reply = await core.execute(command, owner)
        life.learn(reply)
        return reply

    for n in range(12):
        await do(c.Push(queue="q", data=Raw(b"%d" % n), priority=n % 3, tags=["t"], unique_key="k" if n == 3 else None))
        await do(c.Push(queue="other", data=Raw(b"{}"), delay=n * 1000, max_attempts=2, backoff=1000))
        await do(c.Push(queue="dead", data=Raw(b"[]"), max_attempts=1 + n % 2, backoff=60_000))
    parent = await do(c.Push(queue="q", data=Raw(b"1"), job_id="parent"))
    await do(c.Push(queue="q", data=Raw(b"1"), job_id="child", depends_on=[parent.id]))
    await do(c.Push(queue="q", data=Raw(b"1"), repeat=c.Repeat(every=1000, name="series")))
    for n in range(12):
        taken = await do(c.Pull(queue="dead", owner="w1"), "socket" if n % 2 else None)
        life.known["token"].append(taken.token)
        await do(c.Fail(id=taken.job.id, token=taken.token, error=f"late {n}" if n % 3 else "boom"))
    for n in range(5):
        taken = await do(c.Pull(queue="q", owner="w2"), "socket")
        life.known["token"].append(taken.token)
        if n % 2:
            await do(c.Ack(id=taken.job.id, token=taken.token, result=Raw(b'"done"')))
        else:
            await do(c.AddLog(id=taken.job.id, message="half"))
            await do(c.Progress(id=taken.job.id, progress=50, message="half"))
    await do(c.Cancel(id=taken.job.id, grace=1000, reason="no"))
    await do(c.RegisterWorker(worker_id="w1", queues=["dead"]))
    await do(c.Pause(queue="paused"))
    await do(c.SetConcurrency(queue="other", concurrency=3))
    await do(c.RateLimit(queue="q", limit=1000))
    await do(c.SetDlqConfig(queue="dead", auto_retry=True, auto_retry_interval=60_000))
    await do(c.PutSchedule(name="s-cron", queue="other", cron="* * * * *"))
    await do(c.PutSchedule(name="s-every", queue="q", every=60_000))
    await do(c.DeadGroups(retrying=True))
    await do(c.Dlq(queue="dead", limit=2))
    await do(c.FindJobs(queue="dead", state="failed", limit=2))
    rerun = await do(c.RerunDlq(filter=c.Filter(queue="dead"), count=1, force=True))
    life.known["rerun"].append(rerun.rerun.id)
    # Few of all: what is done to them would be refused nearly always.
    active = [job for job in life.server.engine.jobs.values() if job.lease is not None]
    life.known["token"] += [job.lease.token for job in active if job.lease is not None] * 3
    life.known["job_id"] += [*(job.id for job in active), "w1", "w2"] * 20
