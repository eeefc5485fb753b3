"""A restart changes nothing: every job is there once, in its state and its place."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.wire import raw
from tests.wire.client import DEAD_TOKEN, LOST_TOKEN, NOT_ACTIVE, Body, Client, Delivery, done, eventually, ok, refused
from tests.wire.server import Server

pytestmark = pytest.mark.slow

SOON_MS = 2500  # later than the restart, soon enough to wait for
NEVER_MS = 600_000
PAYLOAD = r'{"z":1.0,"a":[1e999,-0,"\ud800","ä"],"m":"' + "7" * 5000 + '"}'


@dataclass
class Before:
    """What was known about the jobs when the server ended."""

    ids: dict[str, list[str]] = field(default_factory=dict)
    held: dict[str, Delivery] = field(default_factory=dict)
    jobs: dict[str, Body] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)

    def id(self, name: str) -> str:
        (job_id,) = self.ids[name]
        return job_id


def _push_waiting(client: Client, before: Before) -> None:
    kinds: list[Body] = [{}, {"lifo": True}, {"priority": 5}, {"lifo": True}, {"priority": -5}, {}]
    old, stack_1, high, stack_2, low, new = (client.push("order", **kind) for kind in kinds)
    before.ids["order"] = [high, stack_2, stack_1, old, new, low]
    before.ids["later"] = [client.push("later", delay=NEVER_MS)]
    before.ids["soon"] = [client.push("soon", delay=SOON_MS)]
    before.ids["expiring"] = [client.push("expiring", ttl=SOON_MS)]
    before.ids["named"] = [client.push("named", jobId="named-job", tags=["a", "b"])]
    before.ids["unique"] = [client.push("unique", uniqueKey="k")]
    before.ids["payload"] = [ok(client.push_text("payload", f'{{"data":{PAYLOAD}}}'))["id"]]
    before.ids["durable"] = [client.push("durable", durable=True)]


def _push_active(client: Client, before: Before) -> None:
    for name in ("held", "failing", "cancelled-active", "progressing", "unique-active"):
        before.ids[name] = [client.push(name, uniqueKey="k", backoff=NEVER_MS)]
        before.held[name] = client.take(name)
    done(client.progress(before.id("progressing"), progress=30))
    before.ids["leased"] = [client.push("leased")]
    before.held["leased"] = client.lease("leased", SOON_MS)
    before.ids["timed"] = [client.push("timed", timeout=SOON_MS, backoff=NEVER_MS)]
    before.held["timed"] = client.take("timed")
    before.ids["stalled"] = [client.push("stalled"), client.push("stalled")]
    for _ in range(3):
        client.lease("stalled", 50)
        eventually(lambda: client.state(before.ids["stalled"][0]), "waiting")


def _push_failed(client: Client, before: Before) -> None:
    for name, backoff in (("retry", NEVER_MS), ("retry-soon", SOON_MS)):
        before.ids[name] = [client.push(name, backoff=backoff)]
        done(client.fail(client.take(name).id, error="once"))
    before.ids["retry-when-told"] = [
        client.push("retry-when-told", backoff={"type": "fixed", "delay": 0, "jitter": 0.5})
    ]
    done(client.fail(client.take("retry-when-told").id, retryIn=NEVER_MS))
    before.ids["given-up"] = [client.push("given-up", maxAttempts=9, uniqueKey="k")]
    done(client.fail(client.take("given-up").id, unrecoverable=True))
    before.ids["dead"] = [client.push("dead", maxAttempts=1, uniqueKey="k")]
    client.bury("dead", before.id("dead"))


def _push_ended(client: Client, before: Before) -> None:
    before.ids["done"] = [client.push("done", {"n": 1}, uniqueKey="k")]
    client.take("done")
    done(client.post_bytes(f"/jobs/{before.id('done')}/ack", f'{{"result":{PAYLOAD}}}'.encode()))
    before.ids["forgotten"] = [client.push("forgotten", removeOnComplete=True)]
    client.complete("forgotten", before.id("forgotten"))
    before.ids["cancelled"] = [client.push("cancelled", uniqueKey="k")]
    done(client.cancel(before.id("cancelled")))


def _push_related(client: Client, before: Before) -> None:
    for name in ("child", "dying-child"):
        before.ids[name] = [client.push(name, maxAttempts=1)]
        before.ids[f"parent-of-{name}"] = [client.push(f"parent-of-{name}", dependsOn=before.ids[name])]
    half = [client.push("half"), client.push("half")]
    before.ids["half"] = half
    before.ids["parent-of-half"] = [client.push("parent-of-half", dependsOn=half)]
    client.complete("half", half[0])
    before.ids["series"] = [client.push("series", repeat={"every": SOON_MS, "limit": 2})]
    client.complete("series", before.id("series"))
    before.ids["series-active"] = [client.push("series-active", repeat={"every": 100, "limit": 2})]
    before.held["series-active"] = client.take("series-active")


STABLE = (
    *("order", "later", "named", "unique", "payload", "durable", "held", "progressing", "retry"),
    *("dead", "done", "parent-of-child", "half", "parent-of-half", "given-up", "retry-when-told"),
)


@dataclass
class Life:
    """A server's second life, and what is known of its first."""

    client: Client
    before: Before


@pytest.fixture(scope="module", params=[signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def life(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    """A server that was full of jobs of every kind, and was ended and started again."""
    before = Before()
    with Server(tmp_path_factory.mktemp("restart") / "q.db") as server:
        with Client(server.url) as client:
            _push_active(client, before)
            _push_related(client, before)
            _push_failed(client, before)
            _push_ended(client, before)
            _push_waiting(client, before)
            for job_id in (job_id for name in STABLE for job_id in before.ids[name]):
                before.jobs[job_id] = client.job(job_id)
                before.states[job_id] = client.state(job_id)
            client.push("last")  # a pull is on disk with the next commit: this one
        if request.param == signal.SIGTERM:
            assert server.terminate() == 0
        server.kill()
        server.start()
        with Client(server.url) as client:
            after = {job_id: client.job(job_id) for job_id in before.jobs if client.is_known(job_id)}
            assert after == before.jobs
            assert {job_id: client.state(job_id) for job_id in before.states} == before.states
            yield Life(client, before)


def test_waiting_jobs_come_once_and_in_order(life: Life) -> None:
    assert life.client.drain("order") == life.before.ids["order"]


@pytest.mark.parametrize("name", ["soon", "retry-soon"])
def test_a_delay_goes_on(life: Life, name: str) -> None:
    assert life.client.take(name).id == life.before.id(name)
    assert life.client.pull(name) is None


def test_why_a_job_is_dead_is_known(life: Life) -> None:
    reasons = {
        name: [entry["reason"] for entry in ok(life.client.get(f"/queues/{name}/dlq"))["entries"]]
        for name in ("given-up", "dead")
    }
    assert reasons == {"given-up": ["unrecoverable"], "dead": ["max_attempts_exceeded"]}


@pytest.mark.parametrize("name", ["later", "retry", "retry-when-told"])
def test_a_job_that_is_not_due_is_not_delivered(life: Life, name: str) -> None:
    assert life.client.pull(name) is None


def test_a_ttl_goes_on(life: Life) -> None:
    eventually(lambda: life.client.is_known(life.before.id("expiring")), wanted=False)
    assert life.client.pull("expiring") is None


def test_an_active_job_stays_with_its_holder(life: Life) -> None:
    held = life.before.held["held"]
    assert life.client.pull("held") is None
    refused(life.client.ack(held.id, token=DEAD_TOKEN), 400, LOST_TOKEN)
    ok(life.client.heartbeat(held.id, token=held.token))
    done(life.client.ack(held.id, token=held.token, result="late"))
    assert life.client.state(held.id) == "completed"
    refused(life.client.ack(held.id), 400, NOT_ACTIVE)


def test_an_active_job_can_be_failed(life: Life) -> None:
    held = life.before.held["failing"]
    done(life.client.fail(held.id, token=held.token))
    assert life.client.state(held.id) == "delayed"
    assert life.client.job(held.id)["attempts"] == 1


def test_an_active_job_can_be_cancelled(life: Life) -> None:
    held = life.before.held["cancelled-active"]
    done(life.client.cancel(held.id))
    refused(life.client.ack(held.id, token=held.token))


def test_a_lease_runs_out(life: Life) -> None:
    job_id = life.before.id("leased")
    again = life.client.take("leased")
    assert (again.id, again.job["attempts"]) == (job_id, 0)
    refused(life.client.ack(job_id, token=life.before.held["leased"].token), 400, LOST_TOKEN)


def test_a_timeout_runs_out(life: Life) -> None:
    job_id = life.before.id("timed")
    eventually(lambda: life.client.state(job_id), "delayed")
    assert life.client.job(job_id)["attempts"] == 1


def test_stalls_were_counted(life: Life) -> None:
    first, second = life.before.ids["stalled"]
    assert life.client.lease("stalled", 50).id == first
    eventually(lambda: life.client.state(first), "failed")
    assert life.client.take("stalled").id == second


def test_a_unique_key_is_still_held(life: Life) -> None:
    for name in ("unique", "unique-active"):
        assert life.client.push(name, uniqueKey="k") == life.before.id(name)
    assert life.client.drain("unique") == life.before.ids["unique"]
    assert life.client.pull("unique-active") is None


@pytest.mark.parametrize("name", ["done", "dead", "cancelled"])
def test_a_unique_key_that_was_free_still_is(life: Life, name: str) -> None:
    assert life.client.push(name, uniqueKey="k") != life.before.id(name)


def test_a_job_id_is_still_in_use(life: Life) -> None:
    assert life.client.push("named", "again", jobId="named-job") == "named-job"
    refused(life.client.try_push("other", data=1, jobId="named-job"))
    assert life.client.drain("named") == ["named-job"]


def test_what_is_gone_stays_gone(life: Life) -> None:
    for name in ("cancelled", "forgotten"):
        assert not life.client.is_known(life.before.id(name))


def test_a_payload_and_a_result_are_the_same_to_the_byte(life: Life) -> None:
    assert f":{PAYLOAD}" in life.client.try_pull("payload").text.replace('"data": ', '"data":')
    answer = life.client.get(f"/jobs/{life.before.id('done')}/result")
    assert PAYLOAD in answer.text


def test_a_dependent_is_released_by_what_ends_after_the_restart(life: Life) -> None:
    parent = life.before.id("parent-of-child")
    life.client.complete("child", life.before.id("child"))
    assert life.client.take("parent-of-child").id == parent


def test_a_dependent_fails_with_what_fails_after_the_restart(life: Life) -> None:
    life.client.bury("dying-child", life.before.id("dying-child"))
    assert life.client.state(life.before.id("parent-of-dying-child")) == "failed"


def test_a_dependency_that_ended_before_the_restart_counts(life: Life) -> None:
    life.client.complete("half", life.before.ids["half"][1])
    assert life.client.take("parent-of-half").id == life.before.id("parent-of-half")


def test_completed_jobs_are_remembered_as_dependencies(life: Life) -> None:
    for name in ("done", "forgotten"):
        parent = life.client.push(f"after-{name}", dependsOn=[life.before.id(name)])
        assert life.client.take(f"after-{name}").id == parent


def test_the_next_run_of_a_series_comes_once(life: Life) -> None:
    second = life.client.take("series")
    assert second.id != life.before.id("series")
    done(life.client.ack(second.id, token=second.token))
    assert life.client.pull("series", 200) is None


def test_a_run_that_was_active_is_followed_by_one_run(life: Life) -> None:
    held = life.before.held["series-active"]
    assert life.client.pull("series-active") is None
    done(life.client.ack(held.id, token=held.token))
    second = life.client.take("series-active")
    assert second.id != held.id
    done(life.client.ack(second.id))
    assert life.client.pull("series-active", 300) is None


def test_new_jobs_come_after_old_ones(tmp_path_factory: pytest.TempPathFactory) -> None:
    with Server(tmp_path_factory.mktemp("order") / "q.db") as server:
        ids = []
        for _ in range(3):
            with Client(server.url) as client:
                ids.append(client.push("q"))
            assert server.terminate() == 0
            server.start()
        with Client(server.url) as client:
            assert client.drain("q") == ids


# -- how a server ends -----------------------------------------------------------


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_with_zero(fresh: Server, signum: signal.Signals) -> None:
    assert fresh.terminate(signum) == 0


def test_waiting_pulls_and_streams_do_not_hold_up_the_end(tmp_path: Path) -> None:
    """A stop that waited for them would take longer than `terminate` waits."""
    with (
        Server(tmp_path / "q.db", {"SHUTDOWN_GRACE_MS": "600000"}) as server,
        raw.connected(server.address) as poller,
        Client(server.url) as client,
        client.events("q"),
    ):
        poller.sendall(raw.request_bytes("GET", "/queues/q/jobs?timeout=60000"))
        time.sleep(0.2)
        assert server.terminate() == 0


def test_a_push_answered_just_before_the_end_is_kept(fresh: Server) -> None:
    ids: list[str] = []

    def push_until_the_end() -> None:
        with Client(fresh.url) as client, contextlib.suppress(httpx.TransportError):
            while (response := client.try_push("q", data=1)).status_code == 200:
                ids.append(ok(response)["id"])

    pusher = threading.Thread(target=push_until_the_end)
    pusher.start()
    time.sleep(0.3)
    assert fresh.terminate() == 0
    pusher.join(60)
    fresh.start()
    with Client(fresh.url) as client:
        kept = client.drain("q")
    assert ids
    assert kept[: len(ids)] == ids
    assert len(kept) <= len(ids) + 1


def test_a_file_that_is_no_database_stops_the_start_and_is_not_touched(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.mktemp("broken") / "q.db"
    content = b"this is not a database\n" * 1000
    path.write_bytes(content)
    server = Server(path)
    with pytest.raises(RuntimeError, match=r"the server ended with [1-9]"):
        server.start()
    assert path.read_bytes() == content
    assert "Traceback" not in server.log
