"""The WebSocket: handshake, every command, events, who owns what, and peers that do not behave."""

import json
import threading
import time
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from bunqueue_trio.protocol.events import ALL_TYPES
from tests.stream.quiet_peer import ws as ws
from tests.stream.ws import BINARY, CLOSE, TEXT, Peer, bare, frame, peer
from tests.wire import raw
from tests.wire.client import DEAD_TOKEN, DELIVERY_FIELDS, JOB_FIELDS, UUID7, Client, done, eventually, refused
from tests.wire.server import Server, StartServer


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
    with Server(tmp_path / "q.db", {"SHUTDOWN_GRACE_MS": "40000"}) as fresh, peer(fresh) as idle:
        idle.done("Ping")
        assert fresh.terminate() == 0
        assert "the grace is over" not in fresh.log
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
