"""Server-sent events, byte by byte: what a reader gets, in what order, and what it gets again."""

import itertools
import json
import re
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.patience import PATIENCE_S
from tests.stream.sse import EventReader, Message, events, request
from tests.wire.client import UUID7, Client, done, eventually, now_ms
from tests.wire.server import Server, StartServer


@pytest.fixture
def reader(server: Server, queue: str) -> Iterator[EventReader]:
    """A reader of the test's own queue."""
    with events(server, f"/events/queues/{queue}") as opened:
        yield opened


def bare(message: Message) -> dict[str, Any]:
    """Return an event without what every event has and no test can foretell."""
    event = message.data
    assert isinstance(event.pop("timestamp"), int)
    return event


# --- the connection -------------------------------------------------------------------------------


def test_the_stream_begins_with_the_connection_message(server: Server) -> None:
    with request(server, "/events") as reader:
        assert reader.response.status == 200
        hello = next(reader)
        assert list(hello.data) == ["connected", "clientId"]
        assert re.fullmatch(rb'\{"connected":true,"clientId":"%s"\}' % UUID7.pattern.encode(), hello.text)


def test_two_readers_have_two_client_ids(server: Server) -> None:
    with request(server, "/events") as one, request(server, "/events") as two:
        assert next(one).data["clientId"] != next(two).data["clientId"]


def test_the_headers_are_those_of_an_event_stream_that_nobody_may_hold_back(reader: EventReader) -> None:
    headers = reader.response.headers
    assert headers["content-type"].split(";")[0] == "text/event-stream"
    assert headers["cache-control"] == "no-cache"
    assert headers["access-control-allow-origin"] == "*"
    assert headers["content-length"] is None


@pytest.mark.parametrize("name", ["a%20b", "%C3%A4", "x" * 257, "a%2Fb"])
def test_an_impossible_queue_is_refused(server: Server, name: str) -> None:
    with request(server, f"/events/queues/{name}") as reader:
        assert reader.response.status == 400
        body = json.loads(reader.response.read())
        assert body == {"ok": False, "error": "Queue name contains invalid characters", "code": "invalid-queue"}


@pytest.mark.slow
def test_with_tokens_a_reader_needs_one(start_server: StartServer) -> None:
    server = start_server({"AUTH_TOKENS": "secret"})
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "secret"}):
        for path in ("/events", "/events/queues/q"):
            with request(server, path, headers) as reader:
                assert reader.response.status == 401
                assert reader.response.headers["www-authenticate"] == "Bearer"
                assert reader.response.headers["access-control-allow-origin"] == "*"
                assert json.loads(reader.response.read()) == {"ok": False, "error": "Unauthorized"}
    with events(server, "/events", Authorization="Bearer secret"):
        pass


@pytest.mark.slow
def test_cors_of_a_stream_follows_the_configured_origins(start_server: StartServer) -> None:
    server = start_server({"CORS_ALLOW_ORIGIN": "https://a.example,https://b.example"})
    with events(server, Origin="https://b.example") as reader:
        assert reader.response.headers["access-control-allow-origin"] == "https://b.example"
        assert "Origin" in reader.response.headers["vary"]
    answer = httpx.get(f"{server.url}/events", headers={"Origin": "https://c.example"}, timeout=PATIENCE_S)
    assert (answer.status_code, answer.json()["error"]) == (403, "Origin is not allowed")
    assert "access-control-allow-origin" not in answer.headers


def test_head_and_post_open_no_stream(client: Client) -> None:
    assert client.http.head("/events").status_code == 405
    assert client.http.post("/events").status_code == 405


@pytest.mark.slow
def test_readers_are_counted_while_they_read(fresh: Server, fresh_client: Client) -> None:
    def count() -> int:
        number: int = fresh_client.get("/health").json()["connections"]["sse"]
        return number

    with events(fresh), events(fresh):
        assert count() == 2
    eventually(count, 0)


# --- the twelve events ----------------------------------------------------------------------------


def test_pushed_carries_the_data_as_it_was_sent(client: Client, reader: EventReader, queue: str) -> None:
    before = now_ms()
    payload = '{"z": 1.50, "a":[1e2,"\\u00e9 \u00e9"], "n":12345678901234567890}'
    response = client.push_text(queue, f'{{"data":{payload}}}')
    job_id = response.json()["id"]
    message = next(reader)
    event = message.data
    assert list(event)[:4] == ["eventType", "queue", "jobId", "timestamp"]
    assert before - 1000 <= event["timestamp"] <= now_ms() + 1000  # the system's clock may be drawn aside meanwhile
    assert bare(message) == {"eventType": "pushed", "queue": queue, "jobId": job_id, "data": json.loads(payload)}
    assert f'"data":{payload}'.encode() in message.text


def test_data_with_line_breaks_stays_one_message(client: Client, reader: EventReader, queue: str) -> None:
    response = client.push_text(queue, '{"data":{\n"a":\r\n1,\r"b":"\\n"}}')
    assert response.status_code == 200, response.text
    (message,) = reader.take(1)
    assert message.data["data"] == {"a": 1, "b": "\n"}
    job_id = client.push(queue)
    assert next(reader).data["jobId"] == job_id


def test_pulled_drained_progress_completed(client: Client, reader: EventReader, queue: str) -> None:
    job_id = client.push(queue)
    delivery = client.take(queue)
    done(client.progress(job_id, progress=50))
    done(client.progress(job_id, progress=62.5, message="more than half"))
    done(client.ack(job_id, token=delivery.token, result={"sent": True}))
    plain = {"queue": queue, "jobId": job_id}
    assert list(map(bare, reader.take(6))) == [
        {"eventType": "pushed", **plain, "data": None},
        {"eventType": "pulled", **plain},
        {"eventType": "drained", **plain},
        {"eventType": "progress", **plain, "progress": 50},
        {"eventType": "progress", **plain, "progress": 62.5},
        {"eventType": "completed", **plain},
    ]


def test_only_the_pull_of_the_last_ready_job_drains(client: Client, reader: EventReader, queue: str) -> None:
    client.push_bulk(queue, [{"data": 1}, {"data": 2}])
    client.drain(queue)
    kinds = [message.data["eventType"] for message in reader.take(5)]
    assert kinds == ["pushed", "pushed", "pulled", "pulled", "drained"]


def test_failed_retried_delayed(client: Client, reader: EventReader, queue: str) -> None:
    job_id = client.push(queue, maxAttempts=2, backoff=60_000)
    delivery = client.take(queue)
    done(client.fail(job_id, token=delivery.token, error="SMTP “refused”"))
    plain = {"queue": queue, "jobId": job_id}
    assert list(map(bare, reader.take(6)))[3:] == [
        {"eventType": "failed", **plain, "error": "SMTP “refused”"},
        {"eventType": "retried", **plain, "prev": "active"},
        {"eventType": "delayed", **plain, "delay": 60_000},
    ]


def test_the_last_failure_is_not_retried(client: Client, reader: EventReader, queue: str) -> None:
    job_id = client.push(queue, maxAttempts=1)
    client.bury(queue, job_id, "no use")
    after = client.push(queue)
    assert [(m.data["eventType"], m.data["jobId"]) for m in reader.take(5)][3:] == [
        ("failed", job_id),
        ("pushed", after),
    ]


def test_delayed_at_a_push_and_removed_at_a_cancel(client: Client, reader: EventReader, queue: str) -> None:
    job_id = client.push(queue, delay=5000)
    done(client.cancel(job_id))
    plain = {"queue": queue, "jobId": job_id}
    assert list(map(bare, reader.take(3))) == [
        {"eventType": "pushed", **plain, "data": None},
        {"eventType": "delayed", **plain, "delay": 5000},
        {"eventType": "removed", **plain, "prev": "delayed"},
    ]


def test_duplicated(client: Client, reader: EventReader, queue: str) -> None:
    job_id = client.push(queue, uniqueKey="only")
    assert client.push(queue, uniqueKey="only") == job_id
    assert client.push(queue, jobId=job_id) == job_id
    plain = {"queue": queue, "jobId": job_id}
    assert list(map(bare, reader.take(3)))[1:] == [{"eventType": "duplicated", **plain}] * 2


def test_waiting_children(client: Client, reader: EventReader, queue: str) -> None:
    child = client.push(queue)
    parent = client.push(queue, dependsOn=[child])
    done(client.cancel(parent))
    plain = {"queue": queue, "jobId": parent}
    assert list(map(bare, reader.take(4)))[1:] == [
        {"eventType": "pushed", **plain, "data": None},
        {"eventType": "waiting-children", **plain},
        {"eventType": "removed", **plain, "prev": "waiting-children"},
    ]


def test_stalled(client: Client, reader: EventReader, queue: str) -> None:
    job_id = client.push(queue)
    client.lease(queue, 20)
    assert list(map(bare, reader.take(4)))[-1] == {"eventType": "stalled", "queue": queue, "jobId": job_id}


def test_removed_when_the_ttl_is_over(client: Client, reader: EventReader, queue: str) -> None:
    job_id = client.push(queue, ttl=20)
    assert bare(reader.take(2)[1]) == {"eventType": "removed", "queue": queue, "jobId": job_id, "prev": "waiting"}


# --- filter and ids -------------------------------------------------------------------------------


def test_a_filtered_stream_has_the_events_of_its_queue_with_the_same_ids(fresh: Server, fresh_client: Client) -> None:
    with events(fresh) as everything, events(fresh, "/events/queues/a") as filtered:
        for name in "abbaabab":
            fresh_client.push(name)
        seen = everything.take(8)
        assert [m.id for m in seen] == list(range(1, 9))
        assert filtered.take(4) == [m for m in seen if m.data["queue"] == "a"]


def test_an_encoded_name_is_the_same_queue(server: Server, client: Client, queue: str) -> None:
    with events(server, f"/events/queues/{queue[0]}%2d{queue[2:]}") as reader:
        job_id = client.push(queue)
        assert next(reader).data["jobId"] == job_id


# --- coming back ----------------------------------------------------------------------------------


def test_a_reader_that_comes_back_gets_what_it_missed(fresh: Server, fresh_client: Client) -> None:
    with events(fresh) as reader:
        fresh_client.push("q")
        (first,) = reader.take(1)
    missed = [fresh_client.push("q") for _ in range(5)]
    with events(fresh, after=first.id) as reader:
        assert [m.data["jobId"] for m in reader.take(5)] == missed
        now = fresh_client.push("q")
        (live,) = reader.take(1)
        assert (live.id, live.data["jobId"]) == (7, now)


@pytest.mark.slow
def test_half_a_surrogate_pair_is_in_nobodys_way(fresh: Server, fresh_client: Client) -> None:
    """A payload may hold one: it is delivered live, so it is replayed, and what stands beside it is, too."""
    with events(fresh) as reader:
        fresh_client.push("b")
        (first,) = reader.take(1)
    assert fresh_client.post_bytes("/queues/a/jobs", b'{"data":"\\ud800"}').status_code == 200
    last = fresh_client.push("b")
    with events(fresh, after=first.id) as reader:
        assert [m.data["queue"] for m in reader.take(2)] == ["a", "b"]
    with events(fresh, "/events/queues/b", after=first.id) as reader:
        assert next(reader).data["jobId"] == last


def test_the_id_of_the_connection_message_is_where_a_reader_stands(fresh: Server, fresh_client: Client) -> None:
    for _ in range(3):
        fresh_client.push("q")
    with request(fresh, "/events") as reader:
        hello = next(reader)
    missed = fresh_client.push("q")  # the browser never saw an event, only the connection message
    with events(fresh, after=hello.id) as reader:
        assert next(reader).data["jobId"] == missed


def test_a_replay_is_filtered_too(fresh: Server, fresh_client: Client) -> None:
    for name in "abab":
        fresh_client.push(name)
    with events(fresh, "/events/queues/b", after=1) as reader:
        assert [(m.id, m.data["queue"]) for m in reader.take(2)] == [(2, "b"), (4, "b")]


@pytest.mark.slow
@pytest.mark.parametrize("text", ["x", "-1", "1.5", "٣", "9" * 30, ""])
def test_a_last_event_id_that_is_not_ours_replays_nothing(fresh: Server, fresh_client: Client, text: str) -> None:
    fresh_client.push("q")
    with request(fresh, "/events", {"Last-Event-ID": text.encode().decode("latin-1")}) as reader:
        assert next(reader).data["connected"] is True
        live = fresh_client.push("q")
        assert next(reader).data["jobId"] == live


def test_an_id_from_the_future_is_reported(fresh: Server, fresh_client: Client) -> None:
    fresh_client.push("q")
    with events(fresh, after=1000) as reader:
        gap, first = reader.take(2)
        assert gap.data == {"gap": True, "after": 1000, "oldest": 1, "newest": 1}
        assert (first.id, first.data["eventType"]) == (1, "pushed")


@pytest.mark.slow
def test_replay_while_events_keep_coming_has_no_gap_and_no_double(fresh: Server) -> None:
    """The reader hangs up every few hundred events, at any point of the replay."""
    stop = threading.Event()
    pushed: list[str] = []

    def produce() -> None:
        with Client(fresh.url) as producer:
            while not stop.is_set():
                pushed.extend(producer.push_bulk("q", [{"data": n} for n in range(50)]))

    producer = threading.Thread(target=produce)
    producer.start()
    seen: list[Message] = []
    try:
        for count in (0, 1, 777, 499, 500, 501, 3, 1200):
            with events(fresh, after=seen[-1].id if seen else 0) as reader:
                seen += reader.take(count)
    finally:
        stop.set()
        producer.join()
    with events(fresh, after=seen[-1].id) as reader:
        seen += reader.take(len(pushed) - len(seen))
    assert [m.id for m in seen] == list(range(1, len(pushed) + 1))
    assert [m.data["jobId"] for m in seen] == pushed


def push_on(server: Server, stop: threading.Event, answered: set[str]) -> None:
    """Push, and note what was answered, whatever happens to the server."""
    while not stop.is_set():
        with Client(server.url) as producer:
            try:
                while not stop.is_set():
                    job_id = uuid.uuid4().hex
                    producer.push("q", jobId=job_id)
                    answered.add(job_id)
            except httpx.TransportError:
                time.sleep(0.02)  # killed: nothing is known about that one


@pytest.mark.slow
def test_replay_across_a_killed_server(fresh: Server) -> None:
    """Every answered push is an event, once, in one unbroken count, whatever was killed in between."""
    answered: set[str] = set()
    stop = threading.Event()
    producers = [threading.Thread(target=push_on, args=(fresh, stop, answered)) for _ in range(4)]
    for thread in producers:
        thread.start()
    seen: list[Message] = []
    try:
        for round_ in range(4):
            with events(fresh, after=seen[-1].id if seen else 0) as reader:
                seen += reader.take(150)
                if round_ % 2:
                    fresh.kill()
                    try:
                        seen += list(reader)  # what was on its way counts
                    except (OSError, AssertionError, ValueError):
                        pass  # a message cut short does not
            if round_ % 2:
                fresh.start()
    finally:
        stop.set()
        for thread in producers:
            thread.join()
    with Client(fresh.url) as last:
        end = last.push("q")
    with events(fresh, after=seen[-1].id) as reader:
        seen += reader.until("pushed", end)
    ids = [m.id for m in seen]
    assert ids == list(range(1, len(ids) + 1))
    jobs = [m.data["jobId"] for m in seen]
    assert len(jobs) == len(set(jobs))
    assert answered <= set(jobs)


@pytest.mark.slow
def test_a_gap_is_reported_when_what_was_missed_is_not_kept(start_server: StartServer) -> None:
    server = start_server({"RETENTION_EVENTS_MAX": "10"})
    with Client(server.url) as client:
        for n in range(100):
            client.push("q", n)

        def oldest() -> int:
            with events(server, after=1) as reader:
                first = next(reader).data
            return first.get("oldest", 2)

        eventually(oldest, wanted=91)
        with events(server, after=1) as reader:
            gap = next(reader)
            assert gap.data == {"gap": True, "after": 1, "oldest": 91, "newest": 100}
            assert gap.id == 90  # who comes back from here has missed nothing more
            assert [m.id for m in reader.take(10)] == list(range(91, 101))
            live = client.push("q")
            assert (m := next(reader)).id == 101
            assert m.data["jobId"] == live
        with events(server, after=90) as reader:
            assert next(reader).id == 91  # the very oldest that is kept: no gap


# --- many readers, the end -----------------------------------------------------------------------


@pytest.mark.slow
def test_a_reader_that_never_reads_holds_up_nobody(fresh: Server) -> None:
    payload = "x" * 100_000
    with events(fresh) as stuck, events(fresh) as awake, Client(fresh.url) as client:
        jobs = []
        for _ in range(200):  # 20 MB: more than all buffers on the way to the stuck reader
            jobs.append(client.push("q", payload))
            assert next(awake).data["jobId"] == jobs[-1]
        seen = list(stuck)  # it wakes up: gets what was buffered, then the end, and comes back
        assert [m.id for m in seen] == list(range(1, len(seen) + 1))
        assert len(seen) < 200
        with events(fresh, after=seen[-1].id) as again:
            seen += again.take(200 - len(seen))
    assert [m.data["jobId"] for m in seen] == jobs


@pytest.mark.slow
def test_concurrent_readers_see_the_same(fresh: Server, fresh_client: Client) -> None:
    names = [f"r{n}" for n in range(4)]
    with events(fresh) as one, events(fresh) as two:
        for name in itertools.islice(itertools.cycle(names), 200):
            fresh_client.push(name)
        assert one.take(200) == two.take(200)


@pytest.mark.slow
def test_a_stream_ends_whole_at_sigterm(tmp_path: Path) -> None:
    grace = {"SHUTDOWN_GRACE_MS": "600000"}  # longer than `terminate` waits: it is not for streams
    with (
        Server(tmp_path / "q.db", grace) as server,
        Client(server.url) as client,
        events(server) as reader,
    ):
        job_id = client.push("q")
        assert server.terminate() == 0
        assert [m.data["jobId"] for m in reader] == [job_id]  # and the last chunk says that it is the last
