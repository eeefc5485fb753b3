"""Events over a WebSocket, and peers that do not read."""

import json
import threading
import time

import pytest

from bunqueue_trio.protocol.events import EVENT_TYPES
from tests.stream.quiet_peer import ws as ws
from tests.stream.sse import events
from tests.stream.ws import TEXT, bare, frame, peer
from tests.wire.client import Client
from tests.wire.server import Server

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
        assert ws.ask("Subscribe", events=["drained", "completed"]) == {
            "ok": True,
            "subscribed": ["completed", "drained"],
        }
        assert heard() == ["drained", "completed"]
        assert ws.ask("Unsubscribe", events=["completed"]) == {"ok": True, "subscribed": ["drained"]}
        assert heard() == ["drained"]
        assert ws.ask("Subscribe", events="*") == {"ok": True, "subscribed": sorted(EVENT_TYPES)}
        assert heard() == everything
        assert ws.ask("Unsubscribe", events=["pulled"]) == {"ok": True, "subscribed": sorted(EVENT_TYPES - {"pulled"})}
        assert heard() == ["pushed", "drained", "completed"]
        assert ws.ask("Subscribe", events=[]) == {"ok": True, "subscribed": []}
        assert heard() == []
        assert ws.refused("Subscribe", events=["completed", "nope"])
        assert heard() == []  # a refused command changes nothing
        assert ws.ask("Subscribe", events=["*"])["subscribed"] == sorted(EVENT_TYPES)
        assert ws.ask("Unsubscribe") == {"ok": True, "subscribed": []}
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
def test_a_peer_that_never_reads_hurts_nobody_and_learns_what_it_missed(fresh: Server) -> None:
    payload = "x" * 100_000
    with bare(fresh, "/ws") as stuck, peer(fresh) as awake, Client(fresh.url) as client:
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
    with bare(fresh, "/ws") as rude:
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
    with bare(fresh, "/ws") as greedy:
        before = rss()
        for _ in range(1000):
            greedy.frame(TEXT, b'{"cmd":"GetJob","id":"big"}')
        time.sleep(0.5)
        assert rss() - before <= 64
        seen = [greedy.reply() for _ in range(1000)]
    assert all(reply["ok"] for reply in seen)
