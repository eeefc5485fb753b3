"""What any bytes may do to the server: be answered as documented, or end their connection. Nothing else.

Each call makes a whole server on a store in memory, in virtual time, gives it the bytes on a stream in
memory, and judges what came back, what the server holds then, and whether another client still gets his
answers. The same functions serve the tests (hypothesis) and ``scripts/fuzz.py`` (coverage-guided).
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import trio
from msgspec import Raw
from trio.testing import MockClock, memory_stream_pair

from bunqueue_trio.api.access import UNKNOWN
from bunqueue_trio.api.gateway import Gateway
from bunqueue_trio.api.session import Session
from bunqueue_trio.config import Settings
from bunqueue_trio.engine.audit import Pass
from bunqueue_trio.errors import INTERNAL_ERROR, Refused
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.catalog import COMMANDS
from bunqueue_trio.protocol.codec import BadMessage, decode, decode_message, encode
from bunqueue_trio.protocol.faults import FAULTS
from bunqueue_trio.protocol.replies import ErrorReply
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.runtime.supervisor import supervise
from bunqueue_trio.storage.memory import MemoryStore
from bunqueue_trio.transports.express import ExpressConnection, ExpressShared
from bunqueue_trio.transports.heads import Handover

DOCUMENTED = {101, 200, 204, 400, 401, 404, 405, 408, 413, 426, 429, 503}
START_MS = 1_700_000_000_000
HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
_HEAD = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n((?:[^\r\n]+\r\n)*)\r\n")


def digest(server: Server) -> dict[str, Any]:
    """What a refused request must leave as it was."""
    engine = server.engine
    return {
        "jobs": {job.id: (job.state, job.attempts, job.progress, job.lease and job.lease.token) for job in engine.jobs.values()},
        "counts": dict(engine.counts),
        "pushed": engine.totals.pushed,
        "events": server.hub.last_event_id,
        "finished": dict(server.store.finished_counts),
    }  # fmt: skip


async def good_client(server: Server) -> None:
    """A client that wants something sensible, and must get it."""
    done = await server.core.execute(c.Push(queue="good", data=Raw(b"1")))
    taken: Any = await server.core.execute(c.Pull(queue="good"))
    assert (taken.job.id, bytes(taken.job.data)) == (done.id, b"1")  # type: ignore[union-attr]
    await server.core.execute(c.Ack(id=done.id, token=taken.token))  # type: ignore[union-attr]


def answers(sent: bytes, *, heads: bool = False) -> list[tuple[int, bytes]]:
    """The responses in ``sent``, each judged; with ``heads``, they may be to HEAD and have no body."""
    found: list[tuple[int, bytes]] = []
    while sent:
        head = _HEAD.match(sent)
        assert head is not None, sent[:200]
        status, fields = int(head[1]), head[2].lower()
        assert status in DOCUMENTED, sent[:200]
        sent = sent[head.end() :]
        length = re.search(rb"content-length: (\d+)\r\n", fields)
        body = sent[: int(length[1])] if length else b""
        if heads and (not sent or sent.startswith(b"HTTP/1.1 ")):
            body = b""
        elif status >= 400:
            check_error(body)
        sent = sent[len(body) :]
        found.append((status, body))
        if status == 101:
            return found
    return found


def check_error(body: bytes) -> None:
    """The documented form of a refusal."""
    said = json.loads(body)
    said.pop("reqId", None)
    assert set(said) - {"code"} == {"ok", "error"}, said
    assert said.get("code", "not-found") in FAULTS
    assert said.get("code") != INTERNAL_ERROR.code, "a step of the engine has raised what none may"
    assert said["ok"] is False
    assert isinstance(said["error"], str)
    assert said["error"]


def http(pieces: Sequence[bytes]) -> list[tuple[int, bytes]]:
    """Send ``pieces`` on one connection, with a good client between them; return the responses."""
    return trio.run(_http, pieces, clock=MockClock(autojump_threshold=0))


async def _http(pieces: Sequence[bytes]) -> list[tuple[int, bytes]]:
    server = Server(Settings(shutdown_grace_ms=0), MemoryStore(), Clock(START_MS))
    received = b""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervise, server.flusher)
        await good_client(server)
        before = digest(server)
        ours, theirs = memory_stream_pair()

        async def serve() -> None:
            try:
                await ExpressConnection(ExpressShared(server, Gateway(server), nursery), theirs, UNKNOWN).run()
            except Handover:
                pass  # Hypercorn's; the tests of both lanes have it
            await theirs.aclose()

        async def send() -> None:
            try:
                for piece in pieces:
                    await ours.send_all(piece)
                await ours.send_eof()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # it was ended: the server's right

        nursery.start_soon(serve)
        nursery.start_soon(send)
        with trio.move_on_after(3600):  # virtual
            try:
                while piece := await ours.receive_some(65536):
                    received += piece
            except trio.BrokenResourceError:
                pass
        found = answers(received, heads=b"HEAD " in b"".join(pieces))
        if all(status >= 400 for status, _ in found):
            after = digest(server)
            assert after == before, (before, after)
        await good_client(server)
        check_server(server)
        nursery.cancel_scope.cancel()
    return found


def check_server(server: Server) -> None:
    """Whatever happened, the server's own audit has nothing to say."""
    audit = Pass(server.engine, server.owners)
    rows = server.store.stored(0, audit.last_seq, 10**6)
    audit.rows(rows, audit.last_seq, {job.seq for job in (*server.engine.changed, *server.journal.writing)})
    for _ in audit.structures(lambda: server.journal.pending):
        pass
    audit.close()
    assert audit.faults == [], audit.faults


def websocket(data: bytes, cut: int = 0) -> bytes:
    """Send ``data`` after a handshake, in two pieces if ``cut``; return what came after it."""
    pieces = [HANDSHAKE, data[:cut], data[cut:]] if cut else [HANDSHAKE + data]
    [(status, _)] = http(pieces)
    assert status == 101
    return b""


def messages(texts: Sequence[bytes]) -> list[bytes]:
    """Give a session ``texts``, one message each; return its replies (no events), each judged."""
    return trio.run(_messages, texts, clock=MockClock(autojump_threshold=0))


async def _messages(texts: Sequence[bytes]) -> list[bytes]:
    server = Server(Settings(shutdown_grace_ms=0), MemoryStore(), Clock(START_MS))
    replies: list[bytes] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervise, server.flusher)
        with Session(server, Gateway(server), None, vouched=True) as session:
            for text in texts:
                await good_client(server)
                session.outgoing()
                before, seen = digest(server), len(replies)
                session.receive(text, nursery)
                await trio.testing.wait_all_tasks_blocked()
                while out := session.outgoing():
                    replies += [message for message in out if b'"eventType"' not in message]
                said = [json.loads(reply) for reply in replies[seen:]]
                for reply, told in zip(replies[seen:], said, strict=True):
                    if told["ok"] is False:
                        check_error(reply)
                if all(told["ok"] is False for told in said) and not session._polls:
                    assert digest(server) == before
            await good_client(server)
            check_server(server)
        nursery.cancel_scope.cancel()
    return replies


def codec(data: bytes, kinds: Iterable[type[c.Command]] = tuple(COMMANDS.values())) -> None:
    """Decode ``data`` as a message and as these commands: a command, or a refusal that can be sent."""
    try:
        decode_message(data)
    except BadMessage as bad:
        text = encode(ErrorReply(error=str(bad)))
        if bytes(bad.req_id):
            text = b'%s,"reqId":%s}' % (text[:-1], bytes(bad.req_id))
        check_error(text)
    for kind in kinds:
        try:
            decode(kind, data)
        except Refused as refused:
            check_error(encode(ErrorReply(error=str(refused))))


def http_bytes(data: bytes) -> None:
    """Any bytes at the express lane; a zero byte cuts them into pieces."""
    http([piece for piece in data.split(b"\0") if piece] or [b"\r\n"])


def websocket_bytes(data: bytes) -> None:
    """Any bytes after a handshake."""
    websocket(data)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "codec": codec, "http": http_bytes, "websocket": websocket_bytes,
}  # fmt: skip
"""What ``scripts/fuzz.py`` can be let loose on."""
