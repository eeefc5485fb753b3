"""A head is read alike, whether its header fields are known from another request or not; and that of a response says its own length and second."""

from itertools import product
from typing import Any, cast

import pytest
import trio

from bunqueue_trio.api.call import Response
from bunqueue_trio.api.gateway import Gateway
from bunqueue_trio.config import KEPT_HEAD_BYTES, Settings
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.storage.memory import MemoryStore
from bunqueue_trio.transports import heads
from bunqueue_trio.transports.heads import Handover, Plain, RequestHeads, Upgrade
from bunqueue_trio.transports.response_heads import ResponseHeads

LINES = [
    b"GET /queues/q/jobs HTTP/1.1", b"GET /queues/q/jobs?timeout=5 HTTP/1.1", b"POST /queues/q/jobs HTTP/1.1",
    b"GET /queues/q/jobs/list?state=failed HTTP/1.1", b"POST /queues/q/dlq/retry HTTP/1.1", b"GET /queues/q HTTP/1.1", b"GET /queues/q/ HTTP/1.1", b"GET /queues/q/nowhere HTTP/1.1",
    b"POST /jobs/one/ack HTTP/1.1", b"POST /jobs/ack-batch HTTP/1.1", b"PUT /jobs/one/priority HTTP/1.1",
    b"DELETE /jobs/one HTTP/1.1", b"GET /jobs/%6fne HTTP/1.1", b"GET /jobs/%zz HTTP/1.1", b"GET /jobs/\xc3\xa9 HTTP/1.1",
    b"GET /ping HTTP/1.1", b"GET /nowhere HTTP/1.1", b"PUT /ping HTTP/1.1", b"POST /jobs/one/ack/ HTTP/1.1",
    b"GET http://x/jobs/one HTTP/1.1", b"GET /%65vents HTTP/1.1", b"GET /events HTTP/1.1", b"GET /ws HTTP/1.1",
    b"GET /ui HTTP/1.1", b"GET / HTTP/1.1", b"GET //jobs/one HTTP/1.1", b"GET /jobs/one?a=b&c;d HTTP/1.1",
    b"GET /jobs/one#x HTTP/1.1", b"GET /jobs/a b HTTP/1.1", b"GET /jobs/one  HTTP/1.1", b" GET /jobs/one HTTP/1.1",
    b"get /jobs/one HTTP/1.1", b"GET /jobs/one HTTP/1.0", b"GET /jobs/one HTTP/2.0", b"GET /jobs/one http/1.1",
    b"GET /jobs/one HTTP/1.1 ", b"GET\t/jobs/one HTTP/1.1", b"GET /jobs/\x0bone HTTP/1.1", b"GET /jobs/one\nX: y HTTP/1.1",
    b"HEAD /jobs/one HTTP/1.1", b"OPTIONS /jobs/one HTTP/1.1", b"OPTIONS * HTTP/1.1", b"CONNECT x:1 HTTP/1.1",
    b"PATCH /jobs/one HTTP/1.1", b"GARBAGE", b"",
]  # fmt: skip
IDS = b"0196f0a1-7c3e-7001-8a5b-0123456789ab", b"0196f0a1-7c3e-7002-8a5b-0123456789ab"
FIELDS = [
    b"Host: x", b"Host: x\r\nContent-Length: 0", b"Host: x\r\nContent-Length: 12", b"Host: x\r\nContent-Length: 99999999",
    b"Host: x\r\nConnection: close", b"Host: x\r\nExpect: 100-continue\r\nContent-Length: 3",
    b"Host: x\r\nAuthorization: Bearer work-token", b"Host: x\r\nAuthorization: Bearer wrong",
    b"Host: x\r\nOrigin: https://foreign.example", b"Host: x\r\nX-Forwarded-For: 10.0.0.7",
    b"Host: x\r\nContent-Encoding: gzip\r\nContent-Length: 2", b"Host: x\r\nAccept: text/html",
    b"Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    b"Host: x\r\nContent-Length: 1\r\nContent-Length: 2", b"Host: x\r\nHost: y", b"X: y", b"Host: x\r\nTransfer-Encoding: chunked",
]  # fmt: skip


def reader(*, guarded: bool) -> RequestHeads:
    settings = (
        Settings(auth_tokens=("work-token",), cors_allow_origin=("https://ours.example",)) if guarded else Settings()
    )
    server = Server(settings, MemoryStore(), Clock())
    return RequestHeads(server, Gateway(server))


def read(requests: RequestHeads, line: bytes, fields: bytes) -> object:
    head = line + b"\r\n" + fields + b"\r\n\r\n"
    try:
        found = requests.parse(head, len(head))
    except Handover as handover:
        return handover.unread
    if isinstance(found, Plain):
        # It does what `Gateway.begin` does for the call (`tests/doors/test_by_number.py`).
        found = found._replace(begin=None)
    # Two refusals are alike when they say the same.
    return found._replace(call=found.call._replace(match=cast("Any", repr(found.call.match))))


@pytest.mark.parametrize("guarded", [False, True], ids=["open", "guarded"])
async def test_known_fields_change_nothing(guarded: bool) -> None:
    experienced = reader(guarded=guarded)
    for fields in FIELDS:
        read(experienced, b"POST /queues/q/jobs HTTP/1.1", fields)
    for line, fields in product(LINES, FIELDS):
        fresh = read(reader_of(experienced), line, fields)
        assert read(experienced, line, fields) == fresh, (line, fields)


def reader_of(other: RequestHeads) -> RequestHeads:
    """One that has read nothing yet, for the same server."""
    return RequestHeads(other._server, other._gateway)


@pytest.mark.parametrize("guarded", [False, True], ids=["open", "guarded"])
async def test_an_id_of_this_server_is_read_as_if_no_other_had_come(guarded: bool) -> None:
    experienced = reader(guarded=guarded)
    for line, fields in product((line for line in LINES if b"one" in line), FIELDS):
        read(experienced, line.replace(b"one", IDS[0]), fields)
        mine = line.replace(b"one", IDS[1])
        assert read(experienced, mine, fields) == read(reader_of(experienced), mine, fields), (mine, fields)


@pytest.mark.parametrize("guarded", [False, True], ids=["open", "guarded"])
async def test_a_queue_is_read_as_if_no_other_had_come(guarded: bool) -> None:
    experienced = reader(guarded=guarded)
    lines = [line for line in LINES if b"/queues/q" in line]
    for line, fields, name in product(lines, FIELDS, (b"another", b"a.b:c-d_e", b"%71", b"..", b"jobs")):
        read(experienced, line, fields)
        mine = line.replace(b"/queues/q", b"/queues/" + name)
        for _ in range(2):
            assert read(experienced, mine, fields) == read(reader_of(experienced), mine, fields), (mine, fields)


async def test_what_differs_in_the_id_of_a_job_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = reader(guarded=False)
    first = read(requests, b"POST /jobs/%b/ack HTTP/1.1" % IDS[0], b"Host: x\r\nContent-Length: 2")
    monkeypatch.setattr(requests, "_gateway", None)
    second = read(requests, b"POST /jobs/%b/ack HTTP/1.1" % IDS[1], b"Host: x\r\nContent-Length: 2")
    assert isinstance(first, Plain)
    assert str(first.call.match).replace(IDS[0].decode(), IDS[1].decode()) == str(cast("Plain", second).call.match)


async def test_what_differs_in_the_name_of_a_queue_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = reader(guarded=False)
    fields = b"Host: x\r\nContent-Length: 2"
    first = read(requests, b"POST /queues/one/jobs HTTP/1.1", fields)
    monkeypatch.setattr(requests, "_gateway", None)
    second = read(requests, b"POST /queues/two/jobs HTTP/1.1", fields)
    assert isinstance(first, Plain)
    assert str(first.call.match).replace("'one'", "'two'") == str(cast("Plain", second).call.match)


async def test_what_another_has_sent_behind_an_empty_line_makes_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = reader(guarded=False)
    two_lines = b"GET /jobs/x/state HTTP/1.1", b"POST /ping HTTP/1.1\r\nHost: x"
    alone = read(requests, *two_lines)
    read(requests, b"", two_lines[1])  # "\r\nPOST /ping …"
    assert read(requests, *two_lines) == alone
    assert isinstance(alone, bytes), "it is handed over, as it is no HTTP"


async def test_fields_are_read_once_for_many_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = reader(guarded=False)
    first = read(requests, b"POST /jobs/a/ack HTTP/1.1", b"Host: x\r\nContent-Length: 2")
    monkeypatch.setattr("bunqueue_trio.transports.heads.httptools.HttpRequestParser", None)
    second = read(requests, b"POST /jobs/b/ack HTTP/1.1", b"Host: x\r\nContent-Length: 2")
    assert isinstance(first, Plain)
    assert isinstance(second, Plain)
    assert (second.length, second.at_once, "'b'" in str(second.call.match)) == (2, True, True)


async def test_whole_heads_are_kept_until_others_have_come_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """To keep those of more queues than fit would cost each of their pushes, and none would come again in time."""
    monkeypatch.setattr(heads, "WHOLE_HEADS_KEPT", 3)
    monkeypatch.setattr(heads, "WHOLE_HEADS_MISSED", 5)
    requests = reader(guarded=False)
    kept = [0, 1, 2]
    for n in range(20):
        assert isinstance(read(requests, b"POST /queues/%d/jobs HTTP/1.1" % n, b"Host: x\r\nContent-Length: 2"), Plain)
        if n in (7, 14):
            kept = [n]
        elif n in (8, 9, 15, 16):
            kept.append(n)
        numbers = [int(head.split(b"/")[2]) for head in requests._known]
        assert numbers == [each for each in kept if each <= n]


async def test_a_long_name_of_a_queue_is_not_kept() -> None:
    """Whoever asks, a token or not: thousands of them would be a hundred MiB."""
    requests = reader(guarded=True)
    for n in range(20):
        line = b"GET /queues/%d%b/count HTTP/1.1" % (n, b"n" * (n * KEPT_HEAD_BYTES // 10))
        assert isinstance(read(requests, line, b"Host: x"), Plain)
    assert 5 < len(requests._known) < 15
    assert max(map(len, [*requests._known, *requests._known_but_for_one])) <= KEPT_HEAD_BYTES


async def test_what_is_known_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "HEADS_KEPT", 3)
    requests = reader(guarded=False)
    for n in range(20):
        assert isinstance(read(requests, b"POST /jobs/%d/ack HTTP/1.1" % n, b"Host: x\r\nX: %d" % n), Plain)
        read(requests, b"POST /jobs/%b/ack HTTP/1.1" % IDS[0], b"Host: x\r\nX: %d" % n)
        assert len(requests._known_fields) <= 3
        assert len(requests._known_but_for_one) <= 3
    assert isinstance(read(requests, b"GET /ws HTTP/1.1", FIELDS[12]), Upgrade)


@pytest.mark.usefixtures("autojump_clock")
async def test_the_head_of_a_response_says_its_length_and_its_second() -> None:
    made, response = ResponseHeads(Clock(epoch_ms=0)), Response(200, (("X", "y"),), b"")
    for second in range(3):
        # Who comes first in a second is another one.
        made.render(Response(404, (), b""), 7, keep=True)
        for length in (2, 345):
            head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nx: y\r\ndate: Thu, 01 Jan 1970 00:00:0%d GMT\r\n" % (
                length,
                second,
            )
            assert made.render(response, length, keep=True) == head + b"\r\n"
            assert made.render(response, length, keep=False) == head + b"Connection: close\r\n\r\n"
        await trio.sleep(1)
    for _ in range(2):
        assert b"content-length" not in made.render(Response(204, (), b""), 0, keep=True)
