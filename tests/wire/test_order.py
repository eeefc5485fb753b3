"""Which job a pull takes: priority, then the newest LIFO, then the oldest of the others."""

import time

import pytest

from tests.wire.client import Client, done, eventually


def test_jobs_of_one_priority_come_oldest_first(client: Client, queue: str) -> None:
    ids = [client.push(queue, n) for n in range(10)]
    assert client.drain(queue) == ids


def test_higher_priority_comes_first(client: Client, queue: str) -> None:
    by_priority = {p: client.push(queue, priority=p) for p in (0, -5, 10, 1_000_000, -1_000_000, 3)}
    assert client.drain(queue) == [by_priority[p] for p in sorted(by_priority, reverse=True)]


def test_lifo_jobs_come_newest_first_and_before_the_others(client: Client, queue: str) -> None:
    old, stack_1, new, stack_2 = (client.push(queue, lifo=lifo) for lifo in (False, True, False, True))
    assert client.drain(queue) == [stack_2, stack_1, old, new]


def test_priority_goes_before_lifo(client: Client, queue: str) -> None:
    stacked = client.push(queue, lifo=True)
    urgent = client.push(queue, priority=1)
    urgent_stacked = client.push(queue, priority=1, lifo=True)
    assert client.drain(queue) == [urgent_stacked, urgent, stacked]


def test_a_bulk_push_keeps_its_order(client: Client, queue: str) -> None:
    ids = client.push_bulk(queue, [{"data": n} for n in range(50)])
    assert client.drain(queue) == ids


def test_a_batch_is_pulled_in_the_order_of_single_pulls(client: Client, queue: str) -> None:
    low = client.push(queue, priority=-1)
    first, second = client.push(queue), client.push(queue)
    high = client.push(queue, priority=1)
    batch = client.pull_batch(queue, count=10)
    assert [delivery.id for delivery in batch] == [high, first, second, low]


def test_queues_do_not_mix(client: Client, queue: str) -> None:
    here, there = client.push(queue, priority=0), client.push(queue + ".b", priority=9)
    assert client.drain(queue) == [here]
    assert client.drain(queue + ".b") == [there]


@pytest.mark.slow
def test_a_delayed_job_queues_by_the_time_it_became_ready(client: Client, queue: str) -> None:
    delayed = client.push(queue, delay=200)
    before = client.push(queue)
    eventually(lambda: client.state(delayed), "waiting")
    after = client.push(queue)
    assert client.drain(queue) == [before, delayed, after]


@pytest.mark.slow
def test_a_retry_queues_by_the_time_it_became_ready(client: Client, queue: str) -> None:
    failing = client.push(queue, backoff=200)
    before = client.push(queue)
    assert client.take(queue).id == failing
    done(client.fail(failing))
    eventually(lambda: client.state(failing), "waiting")
    after = client.push(queue)
    assert client.drain(queue) == [before, failing, after]


@pytest.mark.slow
def test_delayed_jobs_become_ready_in_the_order_they_are_due(client: Client, queue: str) -> None:
    later, sooner = client.push(queue, delay=1500), client.push(queue, delay=200)
    time.sleep(1.6)
    eventually(lambda: (client.state(sooner), client.state(later)), ("waiting", "waiting"))
    assert client.drain(queue) == [sooner, later]


@pytest.mark.slow
def test_a_stalled_job_takes_its_previous_position(client: Client, queue: str) -> None:
    ids = [client.push(queue, n) for n in range(3)]
    leased = client.lease(queue, 150)
    assert leased.id == ids[0]
    eventually(lambda: client.state(ids[0]), "waiting")
    assert client.drain(queue) == ids


@pytest.mark.slow
def test_a_stalled_lifo_job_takes_its_previous_position(client: Client, queue: str) -> None:
    ids = [client.push(queue, n, lifo=True) for n in range(2)]
    assert client.lease(queue, 150).id == ids[1]
    ids.append(client.push(queue, 2, lifo=True))
    eventually(lambda: client.state(ids[1]), "waiting")
    assert client.drain(queue) == ids[::-1]
