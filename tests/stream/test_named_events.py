"""Events beyond the contract's twelve: only who names them hears of them, over each kind of stream."""

import json
import threading

import pytest

from bunqueue_trio.protocol.events import ALL_TYPES, EVENT_TYPES, NAMED_TYPES, chosen
from bunqueue_trio.sync import SyncClient
from tests.stream.sse import events, request
from tests.stream.ws import peer
from tests.wire.client import Client, done, ok
from tests.wire.server import Server


def live(client: Client, queue: str) -> str:
    """Let happen what has events of both kinds; return the id of the job."""
    job_id = client.push(queue, delay=3_600_000)
    done(client.post(f"/queues/{queue}/pause", {"reason": "no", "until": 2**52}))
    done(client.post_empty(f"/queues/{queue}/resume"))
    done(client.post_empty(f"/jobs/{job_id}/promote"))
    done(client.put(f"/jobs/{job_id}/data", {"data": 2}))
    done(client.put(f"/jobs/{job_id}/priority", {"priority": 2}))
    assert client.post_empty(f"/queues/{queue}/drain").status_code == 200
    return job_id


NAMED = ["paused", "resumed", "promoted", "updated", "updated", "cleaned"]


def test_a_reader_who_names_none_hears_the_twelve_only(server: Server, client: Client, queue: str) -> None:
    with events(server, f"/events/queues/{queue}") as reader:
        live(client, queue)
        assert [event.data["eventType"] for event in reader.take(3)] == ["pushed", "delayed", "removed"]


@pytest.mark.parametrize("types", ["types=*,paused", "types=paused&types=*"])
def test_a_star_stands_for_the_twelve(server: Server, client: Client, queue: str, types: str) -> None:
    with events(server, f"/events/queues/{queue}?{types}") as reader:
        live(client, queue)
        heard = [event.data["eventType"] for event in reader.take(4)]
    assert heard == ["pushed", "delayed", "paused", "removed"]


def test_named_events_are_sent_and_replayed_with_their_fields(server: Server, client: Client, queue: str) -> None:
    path = f"/events/queues/{queue}?types={','.join(dict.fromkeys(NAMED))}"
    with events(server, path) as reader:
        job_id = live(client, queue)
        told = reader.take(len(NAMED))
    with events(server, path, after=told[0].id - 1) as again:
        assert again.take(len(NAMED)) == told
    said = [event.data for event in told]
    assert all(isinstance(event.pop("timestamp"), int) for event in said)
    of_queue, of_job = {"queue": queue}, {"queue": queue, "jobId": job_id}
    assert said == [
        {"eventType": "paused", "reason": "no", "until": 2**52} | of_queue,
        {"eventType": "resumed"} | of_queue,
        {"eventType": "promoted"} | of_job,
        {"eventType": "updated"} | of_job,
        {"eventType": "updated"} | of_job,
        {"eventType": "cleaned", "count": 1} | of_queue,
    ]


def test_a_replay_for_who_names_none_has_the_twelve_only(server: Server, client: Client, queue: str) -> None:
    with events(server, f"/events/queues/{queue}") as reader:
        live(client, queue)
        first = next(reader).id
    with events(server, f"/events/queues/{queue}", after=first - 1) as again:
        assert [event.data["eventType"] for event in again.take(3)] == ["pushed", "delayed", "removed"]


def test_a_websocket_hears_them_by_name(server: Server, client: Client, queue: str) -> None:
    with peer(server, f"/ws/queues/{queue}") as ws:

        def heard() -> list[str]:
            ws.events.clear()
            live(client, queue)
            ws.done("Ping")
            ws.done("Ping")
            return [event["eventType"] for event in ws.events]

        assert heard() == ["pushed", "delayed", "removed"]
        assert ws.ask("Subscribe", events=["paused", "*"])["subscribed"] == sorted(EVENT_TYPES | {"paused"})
        assert heard() == ["pushed", "delayed", "paused", "removed"]
        assert "pushed" not in ws.ask("Unsubscribe", events=["pushed"])["subscribed"]
        assert heard() == ["delayed", "paused", "removed"]
        assert ws.ask("Unsubscribe")["subscribed"] == []
        assert heard() == []


def test_a_type_that_there_is_not_is_refused(server: Server) -> None:
    with request(server, "/events?types=pushed,nope") as reader:
        assert reader.response.status == 400
        said = json.loads(reader.response.read())["error"]
    assert said == "types must be event types or *, not 'nope'; there are " + ", ".join(sorted(ALL_TYPES))


def test_the_sync_client_hears_them_by_name(server: Server, client: Client, queue: str) -> None:
    with SyncClient(server.url) as sync, sync.events("paused", "removed", queue=queue) as stream:
        thread = threading.Thread(target=live, args=(client, queue))
        thread.start()
        assert [next(stream).event_type for _ in range(2)] == ["paused", "removed"]
        thread.join(60)
    with SyncClient(server.url) as sync, pytest.raises(ValueError, match="'nope' is no event type"):
        sync.events("nope")


def test_names_are_distinguished_from_each_other():
    assert not EVENT_TYPES & NAMED_TYPES
    assert chosen("*") == EVENT_TYPES
    assert chosen([]) == frozenset()
    assert chosen("paused") == {"paused"}
    with pytest.raises(ValueError, match="nope"):
        chosen(["paused", "nope"])


def test_events_since_a_time_are_replayed(server: Server, client: Client, queue: str) -> None:
    live(client, queue)
    with events(server, f"/events/queues/{queue}?types=paused,pushed&since=60000") as reader:
        assert [event.data["eventType"] for event in reader.take(2)] == ["pushed", "paused"]
    for wrong in ("", "1m", "-1"):
        with request(server, f"/events?since={wrong}") as refused:
            assert refused.response.status == 400


def test_a_schedule_that_brings_a_job_is_heard_by_name(server: Server, client: Client, queue: str) -> None:
    with events(server, f"/events/queues/{queue}?types=scheduled,pushed") as reader:
        ok(client.post("/schedules", {"name": queue, "queue": queue, "data": 1, "every": 3_600_000}))
        ok(client.post_empty(f"/schedules/{queue}/run"))
        first, second = (event.data for event in reader.take(2))
    job_id = first["jobId"]
    assert first["eventType"] == "pushed"
    del second["timestamp"]
    assert second == {"eventType": "scheduled", "queue": queue, "jobId": job_id, "name": queue}
