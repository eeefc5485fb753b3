"""Clients that send, or read, too slowly or too much: attacks on connections and buffers."""

import zlib

import trio

from trials.overload.crowd import (
    HANDSHAKE,
    HANG_UPS,
    MIB,
    Attack,
    feed,
    frame,
    open_websocket,
    random_bytes,
    read_answer,
    request_bytes,
    send_now,
    spread,
    told,
)

LARGE = 10 * MIB - 100
"""Bytes of the largest body that is taken, with room for what is around its payload."""


# --- slow clients -------------------------------------------------------------------------------------------------


async def slow_headers(attack: Attack) -> None:
    """2,000 clients send a header, a byte a second."""
    async with attack.crowd(attack.size(2000, 300), b"POST /queues/attack/jobs HTTP/1.1\r\nHost: x\r\nX: ") as streams:
        ended = await feed(streams, attack.size(40, 1), b"a")
        attack.notes.append(f"{ended} of {len(streams)} were cut")


async def slow_bodies(attack: Attack) -> None:
    """2,000 clients send a body, a byte a second."""
    head = request_bytes("POST", "/queues/attack/jobs", b'{"data":"', length=1_000_000)
    async with attack.crowd(attack.size(2000, 300), head) as streams:
        ended = await feed(streams, attack.size(70, 1), b"a")
        attack.notes.append(f"{ended} of {len(streams)} were cut")


async def idle(attack: Attack) -> None:
    """5,000 clients keep their connection after one request."""
    async with attack.crowd(attack.size(5000, 400), request_bytes("GET", "/ping")) as streams:
        await trio.sleep(attack.size(10, 1))
        attack.notes.append(f"{len(streams)} held, {attack.target.look().descriptors} descriptors in use")


async def descriptors(attack: Attack) -> None:
    """More clients than the process has descriptors for come, and stay."""
    async with attack.crowd(400, request_bytes("GET", "/ping")) as streams:
        before = attack.target.look().cpu_s
        seconds = attack.size(10, 2)
        await trio.sleep(seconds)
        attack.notes.append(f"{len(streams)} came, {attack.target.look().descriptors} descriptors in use")
        attack.check(attack.target.look().cpu_s - before < 0.5 * seconds, "the server spins while it cannot accept")


# --- floods -------------------------------------------------------------------------------------------------------


async def _flood(attack: Attack, sent: bytes, *, waits: bool) -> None:
    end = trio.current_time() + attack.size(15, 2)
    count = 0

    async def one() -> None:
        nonlocal count
        while trio.current_time() < end:
            try:
                stream = await attack.connect()
                async with stream:
                    if sent:
                        await stream.send_all(sent)
                    if waits:
                        with trio.move_on_after(5):
                            while await stream.receive_some(65536):
                                pass
            except HANG_UPS:
                await trio.sleep(0.01)  # refused, or out of local ports
            count += 1

    begun = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(attack.size(200, 50)):
            nursery.start_soon(one)
    attack.notes.append(f"{count / (trio.current_time() - begun):,.0f} connects a second")


async def flood_connect(attack: Attack) -> None:
    """Clients connect and hang up, as fast as they can."""
    await _flood(attack, b"", waits=False)


async def flood_requests(attack: Attack) -> None:
    """Clients connect, make one request and hang up, as fast as they can."""
    await _flood(attack, request_bytes("GET", "/ping", close=True), waits=True)


async def flood_garbage(attack: Attack) -> None:
    """Clients connect and send noise, as fast as they can."""
    await _flood(attack, b"\xff" + random_bytes(200) + b"\r\n\r\n", waits=True)


async def flood_tls(attack: Attack) -> None:
    """Clients of a TLS port begin with what is no handshake, as fast as they can."""
    # A whole record, which is refused at once: with a length by chance most wait for more, and it is no flood.
    await _flood(attack, b"\x16\x03\x01\x00\xc8\xff" + random_bytes(199), waits=True)


async def _ask_ahead(attack: Attack, asked: list[bytes]) -> None:
    """Come with all of ``asked`` at once, read nothing, hang up, and come again."""
    end, crowds = trio.current_time() + attack.size(15, 2), 0
    while trio.current_time() < end:
        for sent in asked:
            async with attack.crowd(attack.size(400, 60), sent):
                await trio.sleep(0.5)
            crowds += 1
    attack.notes.append(f"{crowds} crowds")


async def asked_ahead(attack: Attack) -> None:
    """400 clients come at once with 40 requests each, for pages, commands and what is not there."""
    paths = ("/health", "/jobs/none", "/nowhere")
    await _ask_ahead(attack, [request_bytes("GET", path) * 40 for path in paths])


async def asked_ahead_slowly(attack: Attack) -> None:
    """The same for the other lane: the login, and jobs in chunks; and statistics by WebSocket."""
    chunked = b'POST /queues/attack/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\na\r\n{"data":1}\r\n0\r\n\r\n'
    await _ask_ahead(
        attack,
        [
            request_bytes("GET", "/ui/login") * 40,
            chunked * 20,
            HANDSHAKE % (b"/ws", b"") + frame(b'{"cmd":"Stats"}') * 40,
        ],
    )


# --- clients that do not read --------------------------------------------------------------------------------------


async def _large_job(attack: Attack) -> str:
    status, answer = await attack.request("POST", "/queues/large/jobs", b'{"data":"%s"}' % (b"a" * LARGE))
    attack.check(status == 200, f"a body below the limit is refused: {status} {answer[:200]!r}")
    return answer.split(b'"id":"')[1].split(b'"')[0].decode()


async def unread_answers(attack: Attack) -> None:
    """1,000 clients ask for a job of 10 MiB, again and again, and read nothing."""
    job_id = await _large_job(attack)
    asked = request_bytes("GET", f"/jobs/{job_id}") * 10
    async with attack.crowd(attack.size(1000, 100), asked) as streams:
        await trio.sleep(attack.size(10, 2))
        attack.notes.append(f"{len(streams)} clients")


async def unread_websockets(attack: Attack) -> None:
    """500 WebSockets ask for jobs of 10 MiB, ping, and read nothing."""
    job_id = await _large_job(attack)
    asked = frame(b'{"cmd":"GetJob","id":"%s"}' % job_id.encode()) * 5
    streams: list[trio.SocketStream] = []

    async def one(_: int) -> None:
        stream = await open_websocket(attack)
        streams.append(stream)
        await stream.send_all(asked)

    await spread(range(attack.size(500, 50)), one, 20)
    pings = frame(b"p" * 100, opcode=9) * 600
    for _ in range(attack.size(100, 10)):
        for stream in streams:
            send_now(stream, pings)
        await trio.sleep(0.1)
    for stream in streams:
        stream.socket.close()
    attack.notes.append(f"{len(streams)} WebSockets")


async def unread_events(attack: Attack) -> None:
    """500 SSE and 500 WebSocket subscribers read nothing while others push."""
    count = attack.size(500, 50)
    async with (
        attack.crowd(count, b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n") as streams,
        attack.crowd(count, HANDSHAKE % (b"/ws", b"")) as websockets,
    ):
        body = b'{"jobs":[%s]}' % b",".join([b'{"data":"%s","removeOnComplete":true}' % (b"a" * 10_000)] * 100)
        pushes = attack.size(100, 10)
        for _ in range(pushes):
            await attack.request("POST", "/queues/attack/jobs/bulk", body)
        await trio.sleep(attack.size(5, 1))
        attack.notes.append(f"{len(streams) + len(websockets)} readers, {pushes} MB of events")


# --- large things -------------------------------------------------------------------------------------------------


async def large_bodies(attack: Attack) -> None:
    """500 clients send all but the end of a body of 10 MiB, and stay."""
    held = b"a" * LARGE
    head = request_bytes("POST", "/queues/attack/jobs", b'{"data":"', length=len(held) + 11)
    refused = 0

    async def one(index: int) -> None:
        nonlocal refused
        stream = streams[index]
        with trio.move_on_after(20):
            await stream.send_all(held)
            with trio.move_on_after(2):
                status, _ = await read_answer(stream)
                refused += status == 503
            return
        refused += 1

    async with attack.crowd(attack.size(500, 60), head) as streams:
        await spread(streams, one, 50)
        await trio.sleep(attack.size(10, 1))
        attack.notes.append(f"{refused} of {len(streams)} were answered with 503")


async def too_large(attack: Attack) -> None:
    """Bodies and heads above the limits come in all forms, 50 at once."""
    chunked = b"POST /queues/attack/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    forms = [
        request_bytes("POST", "/queues/attack/jobs", b"a" * (11 * MIB)),
        chunked + b"1\r\na\r\n" * (2 * MIB) + b"zzz\r\n",
        chunked + (b"10000\r\n%s\r\n" % (b"a" * 65536)) * 200,
        chunked.replace(b"POST", b"GET").replace(b"/jobs", b"/jobs?timeout=3000")
        + (b"10000\r\n%s\r\n" % (b"a" * 65536)) * 1600,
        b"GET /ping HTTP/1.1\r\nHost: x\r\n" + b"X: a\r\n" * 200_000,
        b"GET /" + b"a" * MIB + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /ping HTTP/1.1\r\nHost: x\r\nX: " + b"a" * (8 * MIB),
    ]
    count = attack.size(350, 28)
    statuses: dict[int, int] = {}

    async def one(index: int) -> None:
        stream = await attack.connect()
        status = 0
        async with stream, trio.open_nursery() as nursery:

            async def send() -> None:
                try:
                    await stream.send_all(forms[index % len(forms)])
                except HANG_UPS:
                    pass  # it was answered, and cut

            nursery.start_soon(send)
            with trio.move_on_after(15):
                try:
                    status, _ = await read_answer(stream)
                except HANG_UPS:
                    # Whoever has hung up gave no answer: the status stays what it was.
                    pass
            nursery.cancel_scope.cancel()
        statuses[status] = statuses.get(status, 0) + 1

    await spread(range(count), one, 50)
    attack.notes.append("answers: " + told(statuses))
    endless_polls = len(range(3, count, len(forms)))  # a poll's body means nothing, so it is answered
    attack.check(500 not in statuses and statuses.get(200, 0) <= endless_polls, f"one was taken: {statuses}")


async def large_frames(attack: Attack) -> None:
    """WebSocket messages at the limit that never end, above it, in a million fragments, and compressed bombs."""
    zeros = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = zeros.compress(b"\0" * (64 * MIB)) + zeros.flush(zlib.Z_SYNC_FLUSH)
    forms = [
        frame(b"a" * LARGE, length=LARGE + 50),
        frame(b"a" * (11 * MIB)),
        frame(b"", fin=False) + frame(b"a" * 7, opcode=0, fin=False) * 400_000,
        frame(bomb[:-4], bits=0x40),
    ]

    async def one(index: int) -> None:
        stream = await open_websocket(attack, extra=b"Sec-WebSocket-Extensions: permessage-deflate\r\n")
        streams.append(stream)
        with trio.move_on_after(20):
            await stream.send_all(forms[index % len(forms)])

    streams: list[trio.SocketStream] = []
    await spread(range(attack.size(400, 40)), one, 50)
    await trio.sleep(attack.size(10, 1))
    for stream in streams:
        stream.socket.close()
    attack.notes.append(f"{len(streams)} WebSockets")
