"""A night with incidents, for tests and pictures: five queues, one of which dies of an error, one of which nobody serves."""

import time
from pathlib import Path

import trio
import trio.testing
from msgspec import Raw

from bunqueue_trio.config import Settings
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.caller import By
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.runtime.tree import serve
from bunqueue_trio.storage.sqlite import SqliteStore
from bunqueue_trio.testing.server import Bunqueue
from tests.ui.site import minutes

TENANTS = ("acme", "globex", "initech")


async def push(bunqueue: Bunqueue, queue: str, data: str = "{}", **options: object) -> str:
    reply = await bunqueue.server.core.execute(c.Push(queue=queue, data=Raw(data.encode()), **options))  # type: ignore[arg-type]
    assert isinstance(reply, r.PushReply)
    return reply.id


async def hold(bunqueue: Bunqueue, queue: str, number: int) -> None:
    """Let that many minutes pass in which workers keep the jobs that they have."""
    for _ in range(number):
        await minutes(bunqueue)
        for job in list(bunqueue.server.engine.queues[queue].active):
            assert job.lease is not None
            await bunqueue.server.core.execute(c.Heartbeat(id=job.id, token=job.lease.token))


async def take(bunqueue: Bunqueue, queue: str, most: int) -> list[tuple[str, str]]:
    """Take some jobs; return their ids and tokens."""
    reply = await bunqueue.server.core.execute(c.PullBatch(queue=queue, count=most))
    assert isinstance(reply, r.PullBatchReply)
    return [(job.id, token) for job, token in zip(reply.jobs, reply.tokens, strict=True)]


async def work(bunqueue: Bunqueue, queue: str, most: int) -> int:
    """Complete some jobs."""
    taken = await take(bunqueue, queue, most)
    for job_id, token in taken:
        await bunqueue.server.core.execute(c.Ack(id=job_id, token=token, result=Raw(b'{"sent":true}')))
    return len(taken)


async def fail(bunqueue: Bunqueue, queue: str, most: int, error: str) -> list[str]:
    """Fail some jobs for good."""
    taken = await take(bunqueue, queue, most)
    for i, (job_id, token) in enumerate(taken):
        said = error.format(i * 7919 % 90_000 + 1000)
        await bunqueue.server.core.execute(c.Fail(id=job_id, token=token, error=said, unrecoverable=True))
    return [job_id for job_id, _ in taken]


async def fail_once(bunqueue: Bunqueue, queue: str, number: int, error: str) -> None:
    """Let new jobs fail, none of which is tried again within an hour."""
    for _ in range(number):
        await push(bunqueue, queue, backoff=3_600_000)
    await minutes(bunqueue)
    for job_id, token in await take(bunqueue, queue, number):
        await bunqueue.server.core.execute(c.Fail(id=job_id, token=token, error=error))
    await minutes(bunqueue)


async def ordinary_minute(bunqueue: Bunqueue, i: int) -> None:
    """What happens in every minute."""
    for n in range(14 + (i * 5) % 9):
        await push(
            bunqueue, "emails", f'{{"to":"user{n}@example.com","template":"welcome","tenant":"{TENANTS[n % 3]}"}}'
        )
    await work(bunqueue, "emails", 40)
    for n in range(8 + i % 4):
        await push(bunqueue, "thumbnails", f'{{"image":"s3://media/{i:03}/{n}.jpg","width":640}}', tags=["media"])
    await work(bunqueue, "thumbnails", 7)
    for n in range(5 + i % 3):
        await push(
            bunqueue, "webhooks", f'{{"url":"https://hooks.example/{n}","event":"invoice.paid","token":"t0p-s3cret"}}'
        )
    await work(bunqueue, "webhooks", 12)


async def night(bunqueue: Bunqueue, length: int = 60) -> None:
    """Let ``length`` minutes pass, of which the last third goes wrong."""
    core = bunqueue.server.core
    await core.execute(c.SetConcurrency(queue="thumbnails", concurrency=4))
    await core.execute(c.Pause(queue="newsletter", reason="template is being corrected"), by=By("ana", "10.0.0.7"))
    for n in range(120):
        await push(bunqueue, "newsletter", f'{{"issue":48,"to":{n}}}')
    for n in range(12):
        await push(bunqueue, "reports", f'{{"report":"daily","day":{n}}}', delay=3_600_000 * (n + 1))
    await minutes(bunqueue)
    for i in range(length):
        await ordinary_minute(bunqueue, i)
        if i > length * 2 // 3:
            # Of one customer's orders each fails, and nobody asks for invoices any more.
            for n in range(9 + i % 5):
                await push(
                    bunqueue, "orders", f'{{"tenant":"acme","order":{i * 100 + n},"password":"hunter2"}}',
                    tags=["checkout"], max_attempts=1,
                )  # fmt: skip
            await fail(bunqueue, "orders", 20, "PaymentError: card service answered 503 for order {}")
            if i % 4 == 0:
                await push(bunqueue, "orders", f'{{"tenant":"globex","order":{i}}}', max_attempts=1)
                await fail(bunqueue, "orders", 1, "TimeoutError: no answer from db-2 within {} ms")
            for n in range(30 + 2 * i):
                await push(bunqueue, "invoices", f'{{"invoice":"2026-{i:02}-{n}"}}')
        await minutes(bunqueue)
    for n in range(3):
        await push(bunqueue, "thumbnails", f'{{"image":"s3://media/last/{n}.jpg"}}', priority=5)
    await take(bunqueue, "thumbnails", 4)
    await trio.sleep(12)


PAST_S = 15 * 60
HANGING = 3


def leave_a_past(path: Path, queue: str, worker: str) -> None:
    """Write the file of a server that lived a quarter of an hour ago: many jobs of a queue took no time, and those of a worker have not ended since."""
    begun = round(time.time() * 1000) - PAST_S * 1000
    # Its time stands still.
    trio.run(_live_then, path, queue, worker, begun, clock=trio.testing.MockClock())


async def _live_then(path: Path, queue: str, worker: str, begun: int) -> None:
    server = Server(Settings(data_path=path), SqliteStore(path), Clock(begun))
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, server, [])
        run = server.core.execute
        for count, owner in ((120, None), (HANGING, worker)):
            await run(c.PushBatch(queue=queue, jobs=[c.JobSpec(data=Raw(b"{}")) for _ in range(count)]))
            reply = await run(c.PullBatch(queue=queue, count=count, owner=owner, lock_ttl=24 * 3_600_000))
            assert isinstance(reply, r.PullBatchReply)
            if owner is None:
                await run(c.AckBatch(ids=[job.id for job in reply.jobs]))
                await server.note_minute()
        server.stop.set()
