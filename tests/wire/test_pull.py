"""Pulling: at once or as a waiting pull, each job to one puller, in the order they came."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from tests.patience import PATIENCE_S
from tests.wire import raw
from tests.wire.client import PROMPT_S, UUID7, Client, Delivery, done, eventually, ok, refused
from tests.wire.server import Server


class Pollers:
    """Waiting pulls in threads, each on a connection of its own."""

    def __init__(self, server: Server, pool: ThreadPoolExecutor) -> None:
        self._server = server
        self._pool = pool

    def start(self, queue: str, timeout: int = 60_000) -> "Future[Delivery | None]":
        """Send one poll and return when it is waiting at the server, or answered."""

        def poll() -> Delivery | None:
            with Client(self._server.url) as client:
                return client.pull(queue, timeout)

        with Client(self._server.url) as watching:
            before = waiting_pulls(watching, queue)
            future = self._pool.submit(poll)
            eventually(lambda: future.done() or waiting_pulls(watching, queue) > before, wanted=True)
        return future


def waiting_pulls(client: Client, queue: str) -> int:
    count: int = ok(client.get(f"/queues/{queue}"))["queue"]["pullsWaiting"]
    return count


@pytest.fixture
def pollers(server: Server) -> Iterator[Pollers]:
    with ThreadPoolExecutor(20) as pool:
        yield Pollers(server, pool)


def delivered(poll: "Future[Delivery | None]") -> Delivery:
    delivery = poll.result(PATIENCE_S)
    assert delivery is not None
    return delivery


@pytest.mark.parametrize("timeout", [None, 0])
def test_an_empty_queue_answers_null_at_once(client: Client, queue: str, timeout: int | None) -> None:
    started = time.monotonic()
    assert ok(client.try_pull(queue, timeout)) == {"ok": True, "job": None, "token": None}
    assert time.monotonic() - started < PROMPT_S


def test_each_delivery_has_a_token_of_its_own(client: Client, queue: str) -> None:
    for _ in range(5):
        client.push(queue, backoff=0)
    deliveries = [client.take(queue) for _ in range(5)]
    assert all(UUID7.fullmatch(delivery.token) for delivery in deliveries)
    assert len({delivery.token for delivery in deliveries}) == 5
    done(client.fail(deliveries[0].id))
    assert client.take(queue).token not in {delivery.token for delivery in deliveries}


def test_a_delivered_job_is_active_and_not_delivered_again(client: Client, queue: str) -> None:
    job_id = client.push(queue)
    assert client.state(job_id) == "waiting"
    client.take(queue)
    assert client.state(job_id) == "active"
    assert client.pull(queue) is None


@pytest.mark.parametrize(
    "timeout",
    ["abc", "-1", "60001", "1000000000000", "NaN", "Infinity", "1e999", "5s", "0x10", "1_000", "true", "[]"],
)
def test_a_timeout_that_is_none_is_refused(client: Client, queue: str, timeout: str) -> None:
    job_id = client.push(queue)
    assert "timeout" in refused(client.try_pull(queue, timeout))
    assert client.state(job_id) == "waiting"


@pytest.mark.parametrize("timeout", ["%zz", "%", "%ff"])
def test_a_timeout_with_a_broken_escape_is_refused(server: Server, queue: str, timeout: str) -> None:
    refused(raw.request(server.address, "GET", f"/queues/{queue}/jobs?timeout={timeout}"), 400)


@pytest.mark.parametrize("timeout", [1, 5000, 60_000])
def test_a_ready_job_is_delivered_at_once_whatever_the_timeout(client: Client, queue: str, timeout: int) -> None:
    job_id = client.push(queue)
    started = time.monotonic()
    assert client.take(queue, timeout).id == job_id
    assert time.monotonic() - started < PROMPT_S


@pytest.mark.slow
def test_a_waiting_pull_really_waits(client: Client, queue: str) -> None:
    started = time.monotonic()
    assert client.pull(queue, 400) is None
    assert 0.39 <= time.monotonic() - started < PROMPT_S


@pytest.mark.slow
def test_a_waiting_pull_is_not_cut_by_an_idle_timeout(client: Client, queue: str) -> None:
    started = time.monotonic()
    assert client.pull(queue, 5500) is None  # beyond the 5 s after which servers like to hang up
    assert 5.4 <= time.monotonic() - started < PROMPT_S


@pytest.mark.slow
def test_a_waiting_pull_gets_a_job_pushed_later(client: Client, queue: str, pollers: Pollers) -> None:
    poll = pollers.start(queue, 60_000)
    assert not poll.done()
    started = time.monotonic()
    job_id = client.push(queue, {"n": 1})
    delivery = delivered(poll)
    assert time.monotonic() - started < PROMPT_S
    assert (delivery.id, delivery.job["data"]) == (job_id, {"n": 1})
    done(client.ack(job_id, token=delivery.token))


def _push_delayed(client: Client, queue: str) -> str:
    return client.push(queue, delay=400)


def _fail_for_retry(client: Client, queue: str) -> str:
    job_id = client.push(queue, backoff=400)
    client.take(queue)
    done(client.fail(job_id))
    return job_id


def _lose_a_lease(client: Client, queue: str) -> str:
    job_id = client.push(queue)
    client.lease(queue, 400)
    return job_id


def _run_into_a_timeout(client: Client, queue: str) -> str:
    job_id = client.push(queue, timeout=400, backoff=0)
    client.take(queue)
    return job_id


@pytest.mark.slow
@pytest.mark.parametrize(
    "prepare",
    [_push_delayed, _fail_for_retry, _lose_a_lease, _run_into_a_timeout],
    ids=["delay", "retry", "stall", "timeout"],
)
def test_a_waiting_pull_is_woken_when_a_job_becomes_ready_by_itself(
    client: Client, queue: str, pollers: Pollers, prepare: Callable[[Client, str], str]
) -> None:
    job_id = prepare(client, queue)
    assert delivered(pollers.start(queue)).id == job_id


@pytest.mark.slow
def test_a_waiting_pull_is_woken_by_the_next_run_of_a_repeat(client: Client, queue: str, pollers: Pollers) -> None:
    first = client.push(queue, repeat={"every": 400})
    client.complete(queue, first)
    assert delivered(pollers.start(queue)).id != first


@pytest.mark.slow
def test_a_waiting_pull_is_woken_by_a_released_dependent(client: Client, queue: str, pollers: Pollers) -> None:
    child = client.push("children-" + queue)
    parent = client.push(queue, dependsOn=[child])
    poll = pollers.start(queue)
    client.complete("children-" + queue, child)
    assert delivered(poll).id == parent


@pytest.mark.slow
def test_a_bulk_push_wakes_a_waiting_pull_for_each_job(client: Client, queue: str, pollers: Pollers) -> None:
    polls = [pollers.start(queue) for _ in range(3)]
    ids = client.push_bulk(queue, [{"data": n} for n in range(4)])
    assert [delivered(poll).id for poll in polls] == ids[:3]
    assert client.take(queue).id == ids[3]


@pytest.mark.slow
def test_waiting_pulls_are_served_first_come_first_served(client: Client, queue: str, pollers: Pollers) -> None:
    polls = [pollers.start(queue) for _ in range(4)]
    for poll in polls:
        job_id = client.push(queue)
        assert delivered(poll).id == job_id
        assert sum(other.done() for other in polls) == polls.index(poll) + 1


@pytest.mark.slow
def test_waiting_pulls_of_one_queue_are_not_woken_by_another(client: Client, queue: str, pollers: Pollers) -> None:
    poll = pollers.start(queue, 600)
    other = client.push("other-" + queue)
    assert poll.result(PATIENCE_S) is None
    assert client.take("other-" + queue).id == other


@pytest.mark.slow
@pytest.mark.parametrize("gone", [1, 5])
def test_a_waiting_pull_that_has_gone_never_gets_a_job(server: Server, client: Client, queue: str, gone: int) -> None:
    with ExitStack() as stack:
        for _ in range(gone):
            sock = stack.enter_context(raw.connected(server.address))
            sock.sendall(raw.request_bytes("GET", f"/queues/{queue}/jobs?timeout=60000"))
        eventually(lambda: waiting_pulls(client, queue), gone)
    eventually(lambda: waiting_pulls(client, queue), 0)
    job_id = client.push(queue)
    assert client.state(job_id) == "waiting"
    assert client.take(queue).id == job_id


@pytest.mark.slow
def test_a_waiting_pull_that_has_gone_leaves_its_turn_to_the_next(
    server: Server, client: Client, queue: str, pollers: Pollers
) -> None:
    with raw.connected(server.address) as sock:
        sock.sendall(raw.request_bytes("GET", f"/queues/{queue}/jobs?timeout=60000"))
        eventually(lambda: waiting_pulls(client, queue), 1)
        staying = pollers.start(queue)
    eventually(lambda: waiting_pulls(client, queue), 1)
    job_id = client.push(queue)
    assert delivered(staying).id == job_id


@pytest.mark.slow
def test_a_waiting_pull_that_timed_out_takes_no_later_job(client: Client, queue: str, pollers: Pollers) -> None:
    assert pollers.start(queue, 50).result(PATIENCE_S) is None
    job_id = client.push(queue)
    assert client.state(job_id) == "waiting"


@pytest.mark.slow
def test_a_waiting_pull_holds_up_nobody_else(client: Client, queue: str, pollers: Pollers) -> None:
    polls = [pollers.start("other-" + queue, 60_000) for _ in range(5)]
    client.push(queue)
    client.complete(queue, client.push(queue, priority=1))
    assert not any(poll.done() for poll in polls)
    ids = client.push_bulk("other-" + queue, [{"data": n} for n in range(5)])
    assert sorted(delivered(poll).id for poll in polls) == sorted(ids)


@pytest.mark.slow
def test_concurrent_pullers_get_each_job_once(server: Server, client: Client, queue: str) -> None:
    ids = client.push_bulk(queue, [{"data": n} for n in range(200)])
    gate = threading.Barrier(6)

    def drain(_: int) -> list[str]:
        with Client(server.url) as mine:
            gate.wait(PATIENCE_S)
            return mine.drain(queue)

    with ThreadPoolExecutor(6) as pool:
        taken = [job_id for part in pool.map(drain, range(6)) for job_id in part]
    assert sorted(taken) == sorted(ids)
