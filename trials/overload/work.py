"""The attacks of `overload.py` that ask for much work, or memory, with few requests: all within the documented limits."""

import json
from collections.abc import Awaitable, Callable, Iterable

import trio

from trials.overload.crowd import (
    HANG_UPS,
    MIB,
    Attack,
    frame,
    open_websocket,
    pipelined,
    random_bytes,
    repeat,
    request_bytes,
    spread,
    told,
)

BATCH = 10_000
"""The most jobs, ids or dependencies of one command."""
TOO_MANY = 60_000
"""More than a command may have."""
PULLED = 1000
"""The most jobs of one pull."""


async def _push(attack: Attack, queue: str, jobs: Iterable[bytes], at_once: int = BATCH) -> None:
    """Push jobs in bulk, again and again where the server is too busy to take them."""
    waiting = list(jobs)
    while waiting:
        body = b'{"jobs":[%s]}' % b",".join(waiting[:at_once])
        status, answer = await attack.request("POST", f"/queues/{queue}/jobs/bulk", body)
        attack.check(status in {200, 503}, f"a bulk push was answered {status} {answer[:200]!r}")
        if status == 200:
            del waiting[:at_once]


async def _pull(attack: Attack, queue: str, count: int, lock_ms: int = 300_000) -> list[str]:
    """Pull up to ``count`` jobs of one queue; return their ids."""
    ids: list[str] = []
    while len(ids) < count:
        body = b'{"count":%d,"lockTtl":%d}' % (min(PULLED, count - len(ids)), lock_ms)
        status, answer = await attack.request("POST", f"/queues/{queue}/jobs/pull-batch", body)
        attack.check(status in {200, 503}, f"a pull was answered {status} {answer[:200]!r}")
        jobs = json.loads(answer)["jobs"] if status == 200 else []
        if status == 200 and not jobs:
            break
        ids += [job["id"] for job in jobs]
    return ids


async def _ack(attack: Attack, ids: list[str], **more: object) -> bytes:
    body = json.dumps({"ids": ids} | more).encode()
    status, answer = await attack.request("POST", "/jobs/ack-batch", body)
    attack.check(status in {200, 503}, f"an ack was answered {status} {answer[:200]!r}")
    return answer


async def _together(attack: Attack, clients: int, seconds: float, work: Callable[[int], Awaitable[None]]) -> int:
    """Let some clients do ``work`` again and again; return how often it was done."""
    end = trio.current_time() + seconds
    done = 0

    async def one(index: int) -> None:
        nonlocal done
        while trio.current_time() < end:
            await work(index)
            done += 1

    async with trio.open_nursery() as nursery:
        for index in range(clients):
            nursery.start_soon(one, index)
    return done


async def _repeat(attack: Attack, requests: list[bytes], clients: int, seconds: float) -> None:
    """Let clients make requests that must be understood; note the answers."""
    statuses, _ = await repeat(attack, requests, clients, seconds)
    attack.notes.append(told(statuses))
    attack.check(500 not in statuses and 400 not in statuses, f"answers: {statuses}")


# --- one command, much work ----------------------------------------------------------------------------------------


async def dependencies(attack: Attack) -> None:
    """20 clients push, in bulk, jobs that name 10,000 others: finished ones, and ones that wait."""
    await _push(attack, "ended", (b'{"data":1,"jobId":"e-%d"}' % n for n in range(BATCH)))
    await _ack(attack, await _pull(attack, "ended", BATCH))
    await _push(attack, "open", (b'{"data":1,"jobId":"o-%d"}' % n for n in range(BATCH)))

    def naming(kind: str) -> bytes:
        named = ([f"{kind}-{n}" for n in range(start, start + 1000)] for start in range(0, BATCH, 1000))
        jobs = [{"data": 1, "ttl": 2000, "dependsOn": names} for names in named]
        return request_bytes("POST", "/queues/attack/jobs/bulk", json.dumps({"jobs": jobs}).encode())

    await _repeat(attack, [naming("e"), naming("o")], attack.size(20, 6), attack.size(15, 2))


async def dependents(attack: Attack) -> None:
    """A job that 100,000 wait for is acked, and another is cancelled."""
    count = attack.size(100_000, 10_000)
    for name in (b"good", b"bad"):
        await _push(attack, "first", [b'{"data":1,"jobId":"%s"}' % name])
        await _push(attack, "attack", [b'{"data":1,"removeOnFail":true,"dependsOn":["%s"]}' % name] * count, 1000)
    begun = trio.current_time()
    status, _ = await attack.request("GET", "/queues/first/jobs")
    attack.check(status == 200, f"the pull was answered {status}")
    await _ack(attack, ["good"])
    status, _ = await attack.request("DELETE", "/jobs/bad")
    attack.check(status == 200, f"the cancel was answered {status}")
    waiting = -1
    with trio.move_on_after(60):
        while waiting != count:
            _, answer = await attack.request("GET", "/stats")
            stats = json.loads(answer)["stats"]
            waiting = stats["queued"] // 100 * 100  # the good client has some, too
            await trio.sleep(0.1)
    attack.check(waiting == count, f"{waiting} of {count} dependents were released")
    attack.notes.append(f"2 × {count:,} dependents told in {trio.current_time() - begun:.1f} s")


async def priorities(attack: Attack) -> None:
    """40,000 jobs, each of a priority of its own, come and are cancelled, behind one of the highest."""
    count = attack.size(40_000, 4000)
    await _push(attack, "attack", [b'{"data":1,"priority":1000000}'])
    begun = trio.current_time()
    for start in range(0, count, 1000):
        numbers = range(start, start + 1000)
        await _push(attack, "attack", [b'{"data":1,"jobId":"p-%d","priority":%d}' % (n, n) for n in numbers])
        await pipelined(attack, [request_bytes("DELETE", f"/jobs/p-{n}") for n in numbers])
    attack.notes.append(f"{count:,} pushed and cancelled in {trio.current_time() - begun:.1f} s")


async def probes(attack: Attack) -> None:
    """40 clients without a token ask for the pages of a server with 30,000 queues."""
    count = attack.size(30_000, 3000)
    for start in range(0, count, 1000):
        await pipelined(attack, [
            request_bytes("POST", f"/queues/q-{n}/jobs", b'{"data":1}') for n in range(start, start + 1000)
        ])  # fmt: skip
    # Of each queue a job that has ended, too: the pages count those.
    for start in range(0, count, 1000):
        await pipelined(attack, [request_bytes("GET", f"/queues/q-{n}/jobs") for n in range(start, start + 1000)])
    pages = ["/stats", "/health", "/prometheus", "/metrics", "/heapstats"]
    await _repeat(attack, [request_bytes("GET", page) for page in pages], 40, attack.size(15, 2))


async def ack_batches(attack: Attack) -> None:
    """10 clients ack 10,000 ids a command: jobs with results, ids that nobody knows, heartbeats."""
    unknown = [f"u-{n}" for n in range(BATCH)]
    for_nobody = [
        request_bytes("POST", path, json.dumps({"ids": unknown} | more).encode())
        for path, more in (
            ("/jobs/ack-batch", {}),
            ("/jobs/ack-batch", {"tokens": ["t"] * BATCH}),
            ("/jobs/heartbeat-batch", {}),
        )
    ]
    acked = 0

    async def cycle(index: int) -> None:
        nonlocal acked
        queue = f"attack-{index}"
        await _push(attack, queue, [b'{"data":1,"removeOnComplete":true}'] * BATCH)
        ids = await _pull(attack, queue, BATCH)
        await attack.request("POST", "/jobs/heartbeat-batch", json.dumps({"ids": ids}).encode())
        await _ack(attack, ids, results=[index] * len(ids))
        acked += len(ids)

    seconds = attack.size(15, 2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_repeat, attack, for_nobody, attack.size(6, 3), seconds)
        nursery.start_soon(_together, attack, attack.size(4, 1), seconds, cycle)
    attack.notes.append(f"{acked:,} jobs acked")


async def too_many(attack: Attack) -> None:
    """20 clients send batches of 60,000, and bodies of 10 MiB that name as many as fit: all of it is refused."""
    ids = [f"i-{n}" for n in range(TOO_MANY)]
    names = [f"{n:08}" for n in range(attack.size(800_000, 80_000))]
    bodies: list[tuple[str, dict[str, object]]] = [
        ("/jobs/ack-batch", {"ids": ids, "tokens": ids}),
        ("/jobs/fail-batch", {"failures": [{"id": each} for each in ids]}),
        ("/queues/attack/jobs/bulk", {"jobs": [{"data": 1}] * TOO_MANY}),
        ("/jobs/ack-batch", {"ids": names}),
        ("/queues/attack/jobs/bulk", {"jobs": [{"data": 1, "dependsOn": names}]}),
    ]
    asked = [request_bytes("POST", path, json.dumps(body).encode()) for path, body in bodies]
    statuses, _ = await repeat(attack, asked, attack.size(20, 6), attack.size(15, 2))
    attack.notes.append(told(statuses))
    attack.check(set(statuses) <= {400, 503}, f"answers: {statuses}")


async def push_batches(attack: Attack) -> None:
    """30 clients push 10,000 jobs a request."""
    jobs = b",".join([b'{"data":{"to":"user@test.com"},"ttl":1000}'] * BATCH)
    asked = request_bytes("POST", "/queues/attack/jobs/bulk", b'{"jobs":[%s]}' % jobs)
    await _repeat(attack, [asked], attack.size(30, 6), attack.size(15, 2))


async def release(attack: Attack) -> None:
    """WebSockets with 20,000 jobs close in order, or just drop."""
    count = attack.size(20_000, 3000)
    await _push(attack, "attack", [b'{"data":1}'] * count, 1000)
    rounds = attack.size(6, 3)  # no more than a job may stall
    for turn in range(rounds):
        stream = await open_websocket(attack)
        await stream.send_all(frame(b'{"cmd":"Unsubscribe"}'))
        asked = frame(b'{"cmd":"PULLB","queue":"attack","count":%d,"timeout":30000}' % PULLED)
        held = 0
        with trio.move_on_after(40):
            while held < count:
                await stream.send_all(asked)
                got = b""
                while not got.endswith(b"]}"):
                    piece = bytes(await stream.receive_some(MIB))
                    attack.check(piece, "the server hung up")
                    got += piece
                held += got.count(b'"maxAttempts"')
        attack.check(held == count, f"{held} of {count} jobs came, in turn {turn}")
        if turn % 2:
            await stream.send_all(frame(b"\x03\xe8", opcode=8))  # in order
            await trio.sleep(0.1)
        stream.socket.close()
    attack.notes.append(f"{rounds} × {count:,} jobs given back")


# --- few requests, much memory -------------------------------------------------------------------------------------


async def replays(attack: Attack) -> None:
    """100 readers ask for all events again, 300 of them of 1 MiB, and read nothing."""
    large = b'{"data":"%s"}' % (b"a" * MIB)
    for _ in range(attack.size(300, 60)):
        await attack.request("POST", "/queues/large/jobs", large)
    asked = b"GET /events HTTP/1.1\r\nHost: x\r\nLast-Event-ID: 0\r\n\r\n"
    async with attack.crowd(attack.size(100, 20), asked) as streams:
        await trio.sleep(attack.size(10, 2))
        attack.notes.append(f"{len(streams)} readers")


async def retention(attack: Attack) -> None:
    """4 clients push and complete jobs of 1 MB with results as large, of which 100 are kept."""
    large = b'{"data":"%s"}' % (b"a" * 1_000_000)

    async def cycle(index: int) -> None:
        queue = f"attack-{index}"
        await attack.request("POST", f"/queues/{queue}/jobs", large)
        for job_id in await _pull(attack, queue, 1):
            await attack.request("POST", f"/jobs/{job_id}/ack", b'{"result":"%s"}' % (b"a" * 1_000_000))

    done = await _together(attack, 4, attack.size(20, 4), cycle)
    attack.notes.append(f"{done} jobs of 1 MB")


async def large_pulls(attack: Attack) -> None:
    """20 clients pull, in batches of up to 1,000, jobs of 1 MiB, again and again."""
    large = b'{"data":"%s"}' % (b"a" * MIB)
    for _ in range(attack.size(150, 40)):
        await attack.request("POST", "/queues/large/jobs", large)
    asked = request_bytes("POST", "/queues/large/jobs/pull-batch", b'{"count":1000,"lockTtl":200}')
    await _repeat(attack, [asked], attack.size(20, 6), attack.size(15, 2))


async def log_flood(attack: Attack) -> None:
    """Broken requests, commands and frames of every kind come as fast as they can; the log must not grow with them."""
    broken = [
        random_bytes(200) + b"\r\n\r\n",
        b"GET /\r\n\r\n",
        request_bytes("POST", "/queues/attack/jobs", b'{"data":'),
        request_bytes("POST", "/queues/a%zz/jobs", b"{}"),
        request_bytes("GET", "/nowhere"),
        request_bytes("BREW", "/queues/attack/jobs"),
        b"POST /queues/attack/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /queues/attack/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\nx",
        b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 9\r\n\r\n",
    ]
    frames = [frame(b"\xff"), frame(b"x", opcode=3), frame(b"{}"), frame(b"\xff" * 10, opcode=8), b"\x81\x05hello"]
    end = trio.current_time() + attack.size(15, 2)
    count = 0

    async def one(index: int) -> None:
        nonlocal count
        while trio.current_time() < end:
            try:
                if index % 3:
                    stream = await attack.connect()
                    sent = broken[count % len(broken)]
                else:
                    stream = await open_websocket(attack)
                    sent = frames[count % len(frames)]
                async with stream:
                    count += 1
                    await stream.send_all(sent)
                    with trio.move_on_after(0.05):
                        await stream.receive_some(65536)
            except HANG_UPS:
                await trio.sleep(0.01)

    await spread(range(attack.size(100, 50)), one)
    size = len(attack.target.log)
    attack.notes.append(f"{count:,} broken requests, {size:,} bytes of log")
    attack.check(size < 10_000, f"the log has {size:,} bytes: {attack.target.log[-500:]}")
