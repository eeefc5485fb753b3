"""The WebSocket: handshake, every command, events, who owns what, and peers that do not behave."""

import json
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from bunqueue_trio.config import CLOSE_S
from bunqueue_trio.protocol.events import ALL_TYPES
from tests.stream.sse import events
from tests.stream.ws import BINARY, CLOSE, PING, PONG, TEXT, Peer, bare, frame, peer
from tests.wire import raw
from tests.wire.client import DEAD_TOKEN, DELIVERY_FIELDS, JOB_FIELDS, UUID7, Client, done, eventually, refused
from tests.wire.server import Server, StartServer


@pytest.fixture
def ws(server: Server) -> Iterator[Peer]:
    """A peer without events."""
    with peer(server, quiet=True) as connected:
        yield connected


def status_of(server: Server, path: str, **headers: str) -> InvalidStatus:
    with pytest.raises(InvalidStatus) as refused_, peer(server, path, **headers):
        pass
    return refused_.value


# --- more than the disk takes at once ----------------------------------------------------------------


@pytest.mark.slow
def test_many_large_messages_at_once_wait_for_each_other(ws: Peer) -> None:
    jobs = [{"data": {"to": "user@test.com"}}] * 1000
    for _ in range(20):
        ws.send("PUSHB", queue="flood", jobs=jobs)
    replies = [ws.reply() for _ in range(20)]
    assert [reply.get("error") for reply in replies] == [None] * 20
    ids = [job_id for reply in replies for job_id in reply["ids"]]
    assert ids == sorted(set(ids))  # in the order they were sent


def test_a_reply_that_waits_for_the_disk_is_not_forgotten_for_one_that_does_not(ws: Peer, queue: str) -> None:
    push = json.dumps({"cmd": "PUSH", "queue": queue, "data": 1, "durable": True})
    for count in range(1, 30):
        frames = b"".join(frame(TEXT, message.encode()) for message in (push, json.dumps({"cmd": "Ping"})))
        ws.connection.socket.sendall(frames)  # so that the server reads both at once
        assert [ws.reply()["ok"], ws.reply()["ok"]] == [True, True], count


# --- handshake ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_with_tokens_the_handshake_needs_one(start_server: StartServer) -> None:
    server = start_server({"AUTH_TOKENS": "secret,other"})
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "secret"}, {"Authorization": "Bearer "}):
        for path in ("/ws", "/ws/queues/q", "/nowhere"):
            response = status_of(server, path, **headers).response
            assert response.status_code == 401
            assert response.headers["WWW-Authenticate"] == "Bearer"
            assert json.loads(response.body or b"") == {"ok": False, "error": "Unauthorized"}
    for token in ("secret", "other"):
        with peer(server, Authorization=f"Bearer {token}") as ws:
            assert ws.ask("Auth", token="secret") == {"ok": True}
            assert ws.refused("Auth", token="wrong") == "Invalid token"
            assert ws.refused("Auth", token="é") == "Invalid token"
            assert ws.refused("Auth") == "token is required"
            ws.done("PUSH", queue="q", data=1)  # a wrong token later takes nothing away


def test_an_unknown_path_is_404_and_a_bad_queue_400(server: Server) -> None:
    response = status_of(server, "/nowhere").response
    assert response.status_code == 404
    assert json.loads(response.body or b"") == {"ok": False, "error": "Not found"}
    for path in ("/ws/", "/ws/queues", "/ws/queues/a/b"):
        assert status_of(server, path).response.status_code == 404, path
    assert status_of(server, "/ws/queues/a%20b").response.status_code == 400


def test_without_upgrade_426(client: Client, queue: str) -> None:
    for path in ("/ws", f"/ws/queues/{queue}"):
        response = client.get(path)
        refused(response, 426)
        assert response.headers["upgrade"] == "websocket"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 12"),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Key: short"),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""),
    ],
)
def test_a_handshake_that_is_none_is_refused(server: Server, old: str, new: str) -> None:
    text = raw_handshake("/ws").replace(old, new)
    response = raw.send(server.address, text.encode())
    assert response.status_code in {400, 426}, response.status_code


def raw_handshake(path: str) -> str:
    return (
        f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )


def test_an_upgrade_to_something_else_is_an_ordinary_request(server: Server) -> None:
    request = raw.request_bytes("GET", "/healthz", b"", "Upgrade: h2c", "Connection: Upgrade")
    assert raw.send(server.address, request).text == "OK"


def test_connections_are_counted(fresh: Server, fresh_client: Client) -> None:
    def count() -> int:
        number: int = fresh_client.get("/health").json()["connections"]["ws"]
        return number

    with peer(fresh), peer(fresh):
        assert count() == 2
    eventually(count, 0)


# --- commands -------------------------------------------------------------------------------------


def test_the_documented_dialogue(ws: Peer, queue: str) -> None:
    ws.send("PUSH", queue=queue, data={"to": "user@test.com"}, reqId="req-1")
    pushed = ws.reply()
    assert list(pushed) == ["ok", "id", "reqId"]
    assert pushed["reqId"] == "req-1"
    assert UUID7.fullmatch(pushed["id"])
    ws.send("PULL", queue=queue, reqId="req-2")
    pulled = ws.reply()
    assert list(pulled) == ["ok", "job", "token", "reqId"]
    assert set(pulled["job"]) == DELIVERY_FIELDS
    assert pulled["job"]["data"] == {"to": "user@test.com"}
    ws.send("ACK", id=pushed["id"], result={"sent": True}, reqId="req-3")
    assert ws.reply() == {"ok": True, "reqId": "req-3"}
    ws.send("FAIL", id=pushed["id"], error="Timeout", reqId="req-4")
    assert ws.reply() == {"ok": False, "error": "Job not found or not active", "reqId": "req-4"}


@pytest.mark.parametrize(
    "req_id",
    ['"r"', '""', "7", "0", "-1", "1.50", "1e3", "12345678901234567890123", '"\\u00e9\\n"', '"é"', "null", '{"a":[1]}'],
)
def test_req_id_is_echoed_to_the_letter(ws: Peer, req_id: str) -> None:
    for command in ('"cmd":"Ping"', '"cmd":"Nope"', '"cmd":"ACK","id":"no"', '"cmd":"PUSH","queue":5', '"x":1'):
        ws.connection.send(f'{{{command},"reqId":{req_id}}}')
        text = ws.connection.recv(10)
        assert isinstance(text, str)
        assert text.endswith(f',"reqId":{req_id}}}'), text


def test_without_req_id_there_is_none_in_the_reply(ws: Peer) -> None:
    ws.send("ACK", id="no")
    assert ws.reply() == {"ok": False, "error": "Job not found or not active"}


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("", "Invalid JSON"),
        ("{", "Invalid JSON"),
        ("PING", "Invalid JSON"),
        ('{"cmd":"Ping"} x', "Invalid JSON"),
        ('{"cmd":"PUSH","data":NaN}', "Invalid JSON"),
        ("[" * 100_000, "Invalid JSON"),
        ("[]", "Invalid command"),
        ("null", "Invalid command"),
        ('"Ping"', "Invalid command"),
        ("{}", "Invalid command"),
        ('{"cmd":null}', "Invalid command"),
        ('{"cmd":7}', "Invalid command"),
        ('{"cmd":"Nope"}', "Unknown command: Nope"),
        ('{"cmd":"ping"}', "Unknown command: ping"),
        ('{"cmd":""}', "Unknown command: "),
        ('{"cmd":"PUSH","data":1}', "queue is required"),
        ('{"cmd":"PUSH","queue":"q"}', "data is required"),
        ('{"cmd":"PUSH","queue":7,"data":1}', "queue must be a string"),
        ('{"cmd":"PUSH","queue":"a b","data":1}', "Queue name contains invalid characters"),
        ('{"cmd":"PUSH","queue":"q","data":1,"priority":"high"}', "priority must be a number"),
        ('{"cmd":"PULL","queue":"q","timeout":60001}', "timeout must be at most 60000"),
        ('{"cmd":"ACK"}', "id is required"),
        ('{"cmd":"GetJob","id":"no"}', "Job not found"),
        ('{"cmd":"Subscribe"}', "events is required"),
        (
            '{"cmd":"Subscribe","events":["nope"]}',
            "events must be event types or *, not 'nope'; there are " + ", ".join(sorted(ALL_TYPES)),
        ),
        ('{"cmd":"Subscribe","events":7}', None),
    ],
)
def test_what_is_no_command_is_answered_and_the_socket_stays_open(ws: Peer, message: str, error: str | None) -> None:
    ws.connection.send(message)
    reply = ws.reply()
    assert set(reply) - {"code"} == {"ok", "error"}
    assert reply["ok"] is False
    assert error in {None, reply["error"]}, reply
    assert ws.ask("Ping")["ok"] is True


def test_every_command(ws: Peer, client: Client, queue: str) -> None:
    ids = ws.done("PUSHB", queue=queue, jobs=[{"data": n} for n in range(6)])["ids"]
    assert len(ids) == 6
    batch = ws.done("PULLB", queue=queue, count=3)
    assert [job["id"] for job in batch["jobs"]] == ids[:3]
    assert len(batch["tokens"]) == 3
    assert all(set(job) == DELIVERY_FIELDS for job in batch["jobs"])
    assert ws.ask("ACKB", ids=ids[:2], tokens=batch["tokens"][:2], results=[{"a": 1}, None]) == {"ok": True}
    assert ws.done("ACKB", ids=[ids[0], ids[2]])["data"] == {"ignoredIds": [ids[0]]}
    assert ws.done("GetResult", id=ids[0])["result"] == {"a": 1}
    one = ws.done("PULL", queue=queue)
    assert one["job"]["id"] == ids[3]
    assert ws.ask("JobHeartbeat", id=ids[3], token=one["token"]) == {"ok": True, "data": {"ok": True, "count": 1}}
    assert ws.refused("JobHeartbeat", id=ids[3], token=DEAD_TOKEN) == "Invalid or expired lock token"
    assert ws.done("JobHeartbeatB", ids=[ids[3], ids[0]])["data"]["count"] == 1
    assert ws.ask("ExtendLock", id=ids[3], token=one["token"], duration=60_000) == {"ok": True}
    assert ws.ask("Progress", id=ids[3], progress=42, message="so far") == {"ok": True}
    job = ws.done("GetJob", id=ids[3])["job"]
    assert set(job) == JOB_FIELDS
    assert job["progress"] == 42
    assert ws.done("GetState", id=ids[3])["state"] == "active"
    assert ws.ask("FAIL", id=ids[3], token=one["token"], error="no") == {"ok": True}
    assert ws.done("GetState", id=ids[3])["state"] == "delayed"
    assert ws.ask("Cancel", id=ids[4]) == {"ok": True}
    assert ws.refused("GetJob", id=ids[4]) == "Job not found"
    assert ws.refused("Cancel", id=ids[4]) == "Job not found"
    assert ws.ask("Ping")["ok"] is True
    assert set(ws.ask("Stats")) == set(client.get("/stats").json())
    pong, over_http = ws.ask("Ping"), client.get("/ping").json()
    assert [pong, pong["data"]["pong"]] == [over_http | {"data": pong["data"]}, True]
    assert ws.ask("Auth", token="any")["ok"] is True  # nothing is asked for here
    assert ws.refused("PUSHB", queue=queue, jobs=[{"data": 1}, {"data": 1, "priority": "x"}]) == (
        "jobs[1]: priority must be a number"
    )
    assert ws.done("PULL", queue=queue)["job"]["id"] == ids[5]
    assert ws.ask("PULL", queue=queue) == {"ok": True, "job": None, "token": None}
    assert ws.ask("PULLB", queue=queue, count=5) == {"ok": True, "jobs": [], "tokens": []}


def test_a_payload_comes_back_to_the_byte(ws: Peer, queue: str) -> None:
    payload = '{"z": 1.50,"a" :[1e2,-0.0,12345678901234567890],"s":"\\u00e9é\\ud83d\\ude00\\/"}'
    ws.connection.send(f'{{"cmd":"PUSH","queue":"{queue}","data":{payload}}}')
    ws.reply()
    ws.send("PULL", queue=queue)
    text = ws.connection.recv(10)
    assert isinstance(text, str)
    assert f'"data":{payload}' in text


def test_binary_messages_are_commands_too(server: Server) -> None:
    with bare(server) as socket_:
        socket_.frame(BINARY, b'{"cmd":"Ping","reqId":1}')
        assert socket_.reply()["reqId"] == 1
        socket_.frame(BINARY, b'{"cmd":"\xff"}')
        assert socket_.reply() == {"ok": False, "error": "Invalid JSON", "code": "invalid-json"}
        socket_.frame(BINARY, b'{"cmd":"Ping","reqId":2}')
        assert socket_.reply()["reqId"] == 2


# --- order and waiting ----------------------------------------------------------------------------


def test_a_waiting_pull_holds_up_nothing(ws: Peer, queue: str) -> None:
    ws.send("PULL", queue=queue, timeout=10_000, reqId="waits")
    for n in range(20):
        ws.send("PUSH", queue=f"{queue}-other", data=n, reqId=n)
    assert [ws.reply()["reqId"] for _ in range(20)] == list(range(20))
    ws.send("PUSH", queue=queue, data=1, reqId="last")
    replies = {reply["reqId"]: reply for reply in (ws.reply(), ws.reply())}
    assert replies["waits"]["job"]["id"] == replies["last"]["id"]


def test_a_waiting_pull_ends_empty_in_its_time(ws: Peer, queue: str) -> None:
    begun = time.monotonic()
    assert ws.ask("PULL", queue=queue, timeout=150) == {"ok": True, "job": None, "token": None}
    assert 0.14 < time.monotonic() - begun < 30
    assert ws.ask("PULLB", queue=queue, count=2, timeout=20) == {"ok": True, "jobs": [], "tokens": []}


def test_a_waiting_pull_dies_with_its_socket(server: Server, client: Client, queue: str) -> None:
    for end in ("close", "reset"):
        with bare(server) as gone:
            gone.frame(TEXT, json.dumps({"cmd": "Unsubscribe"}).encode())
            gone.reply()
            gone.frame(TEXT, json.dumps({"cmd": "PULL", "queue": queue, "timeout": 30_000}).encode())
            gone.frame(TEXT, b'{"cmd":"Ping"}')
            gone.reply()  # so the pull waits by now
            if end == "reset":
                gone.reset()
            else:
                gone.frame(CLOSE, b"\x03\xe8")
                assert gone.close_code() == 1000
        time.sleep(0.05)
        job_id = client.push(queue)
        assert client.take(queue).id == job_id
        done(client.ack(job_id))


def test_waiters_are_served_first_come_first_served(server: Server, client: Client, queue: str) -> None:
    with peer(server, quiet=True) as one, peer(server, quiet=True) as two:
        one.send("PULL", queue=queue, timeout=5000, reqId=1)
        one.done("Ping")
        two.send("PULL", queue=queue, timeout=5000, reqId=2)
        two.done("Ping")
        first, second = client.push(queue), client.push(queue)
        assert one.reply()["job"]["id"] == first
        assert two.reply()["job"]["id"] == second


@pytest.mark.slow
def test_replies_to_ten_thousand_pipelined_commands_come_in_order_in_bounded_memory(
    fresh: Server, fresh_client: Client
) -> None:
    """All are sent before one reply is read."""

    def rss() -> int:
        megabytes: int = fresh_client.get("/health").json()["memory"]["rss"]
        return megabytes

    with peer(fresh, quiet=True) as ws:
        ws.done("Ping")
        before, most = rss(), 0
        payload = "x" * 500

        def send_all() -> None:
            for n in range(10_000):
                if n % 3:
                    ws.send("PUSH", queue="q", data=payload, removeOnComplete=True, reqId=n)
                else:
                    ws.send("GetJob" if n % 2 else "Nope", id="no", reqId=n)

        sender = threading.Thread(target=send_all)
        sender.start()
        for n in range(10_000):
            assert ws.reply()["reqId"] == n
            if n % 1000 == 0:
                most = max(most, rss())
        sender.join()
        assert max(most, rss()) - before <= 64
    assert fresh_client.get("/stats").json()["stats"]["totalPushed"] == 6666


# --- what a connection owns -----------------------------------------------------------------------


def test_what_was_finished_is_not_given_back(server: Server, client: Client, queue: str) -> None:
    ids = [client.push(queue, backoff=60_000) for _ in range(3)]
    with peer(server, quiet=True) as owner:
        for _ in ids:
            owner.done("PULL", queue=queue)
        owner.done("ACK", id=ids[0])
        owner.done("FAIL", id=ids[1])
        owner.done("Cancel", id=ids[2])
    with peer(server, quiet=True) as other:
        assert other.done("PULL", queue=queue)["job"] is None
    assert [client.state(ids[0]), client.state(ids[1]), client.is_known(ids[2])] == ["completed", "delayed", False]


def test_a_dead_connections_token_is_dead(server: Server, client: Client, queue: str) -> None:
    job_id = client.push(queue)
    with peer(server, quiet=True) as owner:
        token = owner.done("PULL", queue=queue)["token"]
    eventually(lambda: client.state(job_id), "waiting")
    refused(client.ack(job_id, token=token), 400)
    current = client.take(queue)
    refused(client.ack(job_id, token=token), 400, "Invalid or expired lock token")
    done(client.ack(job_id, token=current.token))


@pytest.mark.slow
def test_at_sigterm_a_socket_that_owes_nothing_gets_1001(tmp_path: Path) -> None:
    grace_s = 100
    with Server(tmp_path / "q.db", {"SHUTDOWN_GRACE_MS": str(grace_s * 1000)}) as fresh, peer(fresh) as idle:
        idle.done("Ping")
        begun = time.monotonic()
        assert fresh.terminate() == 0
        assert time.monotonic() - begun < grace_s / 2
        with pytest.raises(ConnectionClosed) as closed:
            idle.message()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001


@pytest.mark.slow
def test_at_sigterm_waiting_pulls_are_answered_empty(fresh: Server) -> None:
    with peer(fresh, quiet=True) as waiting:
        waiting.send("PULL", queue="q", timeout=60_000, reqId=1)
        waiting.send("Ping", reqId=2)
        assert waiting.reply()["reqId"] == 2
        assert fresh.terminate() == 0
        assert waiting.reply() == {"ok": True, "job": None, "token": None, "reqId": 1}


# --- events ---------------------------------------------------------------------------------------


def test_events_of_all_queues_and_of_one(server: Server, client: Client, queue: str) -> None:
    other = f"{queue}-other"
    with peer(server, f"/ws/queues/{queue}") as filtered, peer(server) as everything:
        everything.done("Ping")
        filtered.done("Ping")
        first = client.push(other)
        second = client.push(queue, {"a": 1})
        event = filtered.event()
        assert list(event) == ["eventType", "queue", "jobId", "timestamp", "data"]
        assert (event["eventType"], event["jobId"], event["data"]) == ("pushed", second, {"a": 1})
        assert [everything.event()["jobId"] for _ in range(2)] == [first, second]


def test_own_commands_are_broadcast_to_oneself_too(server: Server, queue: str) -> None:
    with peer(server, f"/ws/queues/{queue}") as ws:
        job_id = ws.done("PUSH", queue=queue, data=1)["id"]
        assert ws.event()["jobId"] == job_id


def test_subscribe_and_unsubscribe(server: Server, client: Client, queue: str) -> None:
    with peer(server, f"/ws/queues/{queue}") as ws:

        def heard() -> list[str]:
            """What is heard of the life of one job; the socket itself marks its end."""
            ws.events.clear()
            job_id = client.push(queue)
            client.complete(queue, job_id)
            ws.done("Ping")  # a reply may overtake the events that wait with it
            ws.done("Ping")
            return [event["eventType"] for event in ws.events]

        everything = ["pushed", "pulled", "drained", "completed"]
        assert heard() == everything
        assert ws.ask("Subscribe", events=["completed", "drained"]) == {"ok": True}
        assert heard() == ["drained", "completed"]
        assert ws.ask("Unsubscribe", events=["completed"]) == {"ok": True}
        assert heard() == ["drained"]
        assert ws.ask("Subscribe", events="*") == {"ok": True}
        assert heard() == everything
        assert ws.ask("Unsubscribe", events=["pulled"]) == {"ok": True}
        assert heard() == ["pushed", "drained", "completed"]
        assert ws.ask("Subscribe", events=[]) == {"ok": True}
        assert heard() == []
        assert ws.refused("Subscribe", events=["completed", "nope"])
        assert heard() == []  # a refused command changes nothing
        assert ws.ask("Subscribe", events=["*"]) == {"ok": True}
        assert ws.ask("Unsubscribe") == {"ok": True}
        assert heard() == []


@pytest.mark.slow
def test_events_over_both_ways_are_the_same_each_once_in_the_order_of_their_ids(fresh: Server) -> None:
    """Workers, producers and a canceller at once; four readers."""
    with (
        events(fresh) as stream,
        events(fresh, "/events/queues/a") as filtered_stream,
        peer(fresh) as ws,
        peer(fresh, "/ws/queues/a") as filtered_ws,
    ):
        ws.done("Ping")
        filtered_ws.done("Ping")

        def work(seed: int) -> None:
            with Client(fresh.url) as client, peer(fresh, quiet=True) as worker:
                for n in range(60):
                    name = "ab"[(n + seed) % 2]
                    job_id = client.push(name, {"n": n, "by": seed}, maxAttempts=1)
                    if n % 5 == 0:
                        client.cancel(job_id)
                    elif (job := worker.done("PULL", queue=name)["job"]) is not None:
                        worker.ask("FAIL" if n % 7 == 0 else "ACK", id=job["id"])  # or it was cancelled meanwhile

        workers = [threading.Thread(target=work, args=(seed,)) for seed in range(5)]
        for worker in workers:
            worker.start()
        seen, last = [], None
        for worker in workers:
            worker.join()
        with Client(fresh.url) as client:
            last = client.push("a", "the end")
        seen = stream.until("pushed", last)
        assert [m.id for m in seen] == list(range(1, len(seen) + 1))
        assert len(seen) > 500
        over_ws = [ws.message() for _ in seen]
        assert over_ws == [m.data for m in seen]
        wanted = [m for m in seen if m.data["queue"] == "a"]
        assert filtered_stream.take(len(wanted)) == wanted
        assert [filtered_ws.message() for _ in wanted] == [m.data for m in wanted]


@pytest.mark.slow
def test_a_peer_that_never_reads_hurts_nobody_and_is_told_what_it_missed(fresh: Server) -> None:
    payload = "x" * 100_000
    with bare(fresh) as stuck, peer(fresh) as awake, Client(fresh.url) as client:
        for _ in range(200):  # 20 MB
            job_id = client.push("q", payload)
            assert awake.event()["jobId"] == job_id
        stuck.frame(TEXT, b'{"cmd":"Ping","reqId":"here"}')
        heard, missed, answered = 0, 0, False
        while heard + missed < 200 or not answered:
            message = stuck.reply()
            if "missedEvents" in message:
                missed += message["missedEvents"]
            elif "eventType" in message:
                heard += 1
            else:
                assert message["reqId"] == "here"  # a reply is never missed
                answered = True
        assert heard + missed == 200
        assert missed > 0


@pytest.mark.slow
def test_a_peer_that_sends_and_never_reads_is_not_read_for_ever(fresh: Server, fresh_client: Client) -> None:
    """Its commands pile up on its own side; others are served, and memory stays bounded."""

    def rss() -> int:
        megabytes: int = fresh_client.get("/health").json()["memory"]["rss"]
        return megabytes

    message = frame(TEXT, json.dumps({"cmd": "Nope", "reqId": "x" * 10_000}).encode()) * 20
    with bare(fresh) as rude:
        before = rss()
        rude.sock.settimeout(2.0)
        with pytest.raises(TimeoutError):
            rude.sock.sendall(message * 2000)  # 400 MB, if anybody took them
        fresh_client.push("q")
        assert rss() - before <= 64


@pytest.mark.slow
def test_a_peer_that_asks_for_much_and_reads_nothing_is_bounded_by_bytes(fresh: Server, fresh_client: Client) -> None:
    """300 MB of answers are held back until they are read, and then all of them come."""

    def rss() -> int:
        megabytes: int = fresh_client.get("/health").json()["memory"]["rss"]
        return megabytes

    fresh_client.push("q", "x" * 300_000, jobId="big")
    with bare(fresh) as greedy:
        before = rss()
        for _ in range(1000):
            greedy.frame(TEXT, b'{"cmd":"GetJob","id":"big"}')
        time.sleep(0.5)
        assert rss() - before <= 64
        seen = [greedy.reply() for _ in range(1000)]
    assert all(reply["ok"] for reply in seen)


# --- the protocol ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_message_too_big_is_1009_and_nobody_else_is_disturbed(start_server: StartServer) -> None:
    server = start_server({"BODY_MAX_BYTES": "2000"})
    with peer(server, quiet=True) as other, bare(server) as big:
        fits = json.dumps({"cmd": "Ping", "pad": "x" * 2000})[:1999].encode()
        big.frame(TEXT, fits)
        assert big.reply() == {"ok": False, "error": "Invalid JSON", "code": "invalid-json"}
        big.frame(TEXT, b"x" * 2001)
        assert big.close_code() == 1009
        with bare(server) as pieces:
            for n in range(3):
                pieces.frame(TEXT if n == 0 else 0, b"x" * 900, fin=False)
            assert pieces.close_code() == 1009
        assert other.ask("Ping")["ok"] is True


@pytest.mark.slow
def test_a_message_of_ten_mebibytes_is_fine(server: Server, ws: Peer, queue: str) -> None:
    payload = "x" * (10 * 1024 * 1024 - 200)
    ws.done("PUSH", queue=queue, data=payload, removeOnComplete=True)
    pulled = ws.done("PULL", queue=queue)
    assert pulled["job"]["data"] == payload
    ws.done("ACK", id=pulled["job"]["id"])


def test_fragments_are_one_message(server: Server) -> None:
    message = json.dumps({"cmd": "Nope é", "reqId": "ü"}, ensure_ascii=False).encode()
    with bare(server) as socket_:
        for n in range(len(message)):
            if n == 5:
                socket_.frame(PING, b"between")
            socket_.frame(TEXT if n == 0 else 0, message[n : n + 1], fin=False)
        socket_.frame(0, b"", fin=True)
        assert socket_.read() == (PONG, b"between")
        assert socket_.reply() == {
            "ok": False,
            "error": "Unknown command: Nope é",
            "code": "unknown-command",
            "reqId": "ü",
        }
        socket_.frame(TEXT, b'{"cmd":', fin=False)
        socket_.frame(0, b'"Ping"}')
        assert socket_.reply()["ok"] is True


def test_a_frame_that_comes_with_the_handshake_is_not_lost(server: Server) -> None:
    with bare(server, first=frame(TEXT, b'{"cmd":"Ping","reqId":1}')) as socket_:
        assert socket_.reply()["reqId"] == 1


def test_a_frame_byte_by_byte(server: Server) -> None:
    with bare(server) as socket_:
        for byte in frame(TEXT, b'{"cmd":"Ping"}'):
            socket_.sock.sendall(bytes([byte]))
        assert socket_.reply()["ok"] is True


def test_a_ping_is_answered(server: Server) -> None:
    with bare(server) as socket_:
        socket_.frame(PING, b"hello")
        assert socket_.read() == (PONG, b"hello")


@pytest.mark.parametrize("payload", [b"\xff", b'{"cmd":"\xc3"}', b"\xed\xa0\x80"])
def test_text_that_is_not_utf_8_is_1007(server: Server, payload: bytes) -> None:
    with bare(server) as socket_:
        socket_.frame(TEXT, payload)
        assert socket_.close_code() == 1007


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(TEXT, b'{"cmd":"Ping"}', masked=False), 1002),
        (b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", 1002),
        (b"\xff" * 100, 1002),
        (frame(3, b""), 1002),
        (frame(TEXT, b"{}", reserved=64), 1002),
        (frame(PING, b"x" * 126), 1002),
        (frame(PING, b"x", fin=False), 1002),
        (frame(0, b"x"), 1002),
        (frame(TEXT, b"x", fin=False) + frame(TEXT, b"x"), 1002),
        (frame(CLOSE, b"x"), 1002),
        (frame(CLOSE, b"\x03\xe8"), 1000),
        (frame(CLOSE, b"\x03\xe8bye"), 1000),
        (frame(CLOSE), 1005),
    ],
)
def test_what_breaks_the_protocol_ends_that_socket_alone(server: Server, ws: Peer, sent: bytes, code: int) -> None:
    with bare(server) as broken:
        broken.sock.sendall(sent)
        opcode, payload = broken.read()
        assert opcode == CLOSE
        assert (int.from_bytes(payload[:2]) if payload else 1005) == code
        broken.sock.shutdown(socket.SHUT_WR)
        assert broken.stream.read() == b""
    assert ws.ask("Ping")["ok"] is True


def test_the_server_hangs_up_once_both_have_closed(server: Server) -> None:
    def seconds() -> float:
        begun = time.monotonic()
        with bare(server) as socket_:
            socket_.frame(CLOSE, b"\x03\xe8")
            assert socket_.close_code() == 1000
            assert socket_.stream.read() == b""
        return time.monotonic() - begun

    # One that waits for anything waits each time, whatever else the machine does.
    assert any(seconds() < CLOSE_S / 2 for _ in range(20))


def test_commands_before_a_close_are_carried_out(server: Server, client: Client, queue: str) -> None:
    push = frame(TEXT, json.dumps({"cmd": "PUSH", "queue": queue, "data": 1}).encode())
    with bare(server) as socket_:
        socket_.sock.sendall(push * 3 + frame(CLOSE, b"\x03\xe8"))
        while socket_.read()[0] != CLOSE:
            pass
    assert len(client.drain(queue)) == 3


def test_frames_after_a_close_are_not_carried_out(server: Server, client: Client, queue: str) -> None:
    push = frame(TEXT, json.dumps({"cmd": "PUSH", "queue": queue, "data": 1}).encode())
    with bare(server) as socket_:
        socket_.sock.sendall(frame(CLOSE, b"\x03\xe8") + push)
        while socket_.read()[0] != CLOSE:
            pass
    assert client.drain(queue) == []


@pytest.mark.slow
def test_a_hundred_peers_that_crash_leave_nothing(start_server: StartServer) -> None:
    fresh = start_server({"STALLS_MAX": "1000"})
    with Client(fresh.url) as client:
        a_hundred_crash(fresh, client)


def a_hundred_crash(fresh: Server, fresh_client: Client) -> None:
    for n in range(100):
        with bare(fresh) as crash:
            command: dict[str, Any] = {"cmd": "PULL", "queue": "q", "timeout": 30_000 * (n % 2)}
            fresh_client.push("q", uniqueKey=str(uuid.uuid4()))
            crash.frame(TEXT, json.dumps(command).encode())
            crash.reset()
    eventually(lambda: fresh_client.get("/health").json()["connections"]["ws"], 0)
    eventually(lambda: fresh_client.get("/health").json()["queues"]["active"], 0)
    assert len(fresh_client.drain("q")) == 100
