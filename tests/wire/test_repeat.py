"""`repeat`: the next run is made when a run ends, and only then."""

import time

import pytest

from tests.wire.client import UUID7, Client, Delivery, done, eventually

pytestmark = pytest.mark.slow

EVERY_MS = 150


def run(client: Client, queue: str) -> Delivery:
    """Take the run that is due within seconds and complete it."""
    delivery = client.take(queue)
    done(client.ack(delivery.id, token=delivery.token))
    return delivery


def test_runs_come_one_by_one_each_with_a_new_id(client: Client, queue: str) -> None:
    first = client.push(queue, {"n": 1}, repeat={"every": EVERY_MS})
    runs = [run(client, queue) for _ in range(3)]
    assert runs[0].id == first
    assert len({delivery.id for delivery in runs}) == 3
    assert all(UUID7.fullmatch(delivery.id) for delivery in runs)
    assert [delivery.job["data"] for delivery in runs] == [{"n": 1}] * 3


def test_the_next_run_has_the_options_of_the_first(client: Client, queue: str) -> None:
    first = client.push(
        queue,
        repeat={"every": EVERY_MS},
        priority=7,
        maxAttempts=5,
        backoff=70,
        tags=["a", "b"],
        lifo=True,
        removeOnFail=True,
    )
    before = client.job(first)
    run(client, queue)
    second = client.take(queue)
    after = client.job(second.id)
    for field in ("data", "priority", "maxAttempts", "backoff", "tags", "lifo", "removeOnFail"):
        assert after[field] == before[field], field
    assert (after["attempts"], after["progress"]) == (0, 0)


def test_no_next_run_exists_before_the_run_ends(client: Client, queue: str) -> None:
    client.push(queue, repeat={"every": 50})
    client.take(queue)
    time.sleep(0.3)
    assert client.pull(queue) is None


def test_the_next_run_is_due_one_interval_after_the_last(client: Client, queue: str) -> None:
    first = client.push(queue, repeat={"every": 1500})
    due = client.job(first)["runAt"]
    client.complete(queue, first)
    assert client.pull(queue) is None
    second = client.take(queue)
    assert client.job(second.id)["runAt"] == due + 1500


def test_a_delay_moves_the_first_run_and_all_after_it(client: Client, queue: str) -> None:
    first = client.push(queue, delay=100, repeat={"every": 500})
    due = client.job(first)["runAt"]
    client.complete(queue, first)
    assert client.job(client.take(queue).id)["runAt"] == due + 500


def test_slots_that_passed_are_skipped_and_not_made_up(client: Client, queue: str) -> None:
    first = client.push(queue, repeat={"every": 100})
    due = client.job(first)["runAt"]
    delivery = client.take(queue)
    time.sleep(0.45)
    done(client.ack(first, token=delivery.token))
    second = client.take(queue)
    late = client.job(second.id)["runAt"] - due
    assert late % 100 == 0
    assert late >= 450
    assert client.pull(queue) is None


def test_limit_counts_all_runs(client: Client, queue: str) -> None:
    client.push(queue, repeat={"every": 50, "limit": 3})
    for _ in range(3):
        run(client, queue)
    assert client.pull(queue, 300) is None


def test_a_limit_of_one_is_one_run(client: Client, queue: str) -> None:
    client.push(queue, repeat={"every": 50, "limit": 1})
    run(client, queue)
    assert client.pull(queue, 300) is None


def test_a_dead_run_is_followed_by_the_next(client: Client, queue: str) -> None:
    first = client.push(queue, maxAttempts=1, repeat={"every": EVERY_MS})
    client.bury(queue, first)
    second = client.take(queue)
    assert second.id != first
    assert second.job["attempts"] == 0


def test_a_retry_is_no_new_run(client: Client, queue: str) -> None:
    first = client.push(queue, backoff=0, repeat={"every": 50, "limit": 2})
    done(client.fail(client.take(queue).id))
    again = client.take(queue)
    assert again.id == first
    done(client.ack(first))
    assert run(client, queue).id != first
    assert client.pull(queue, 200) is None


def test_cancelling_the_pending_run_ends_the_series(client: Client, queue: str) -> None:
    first = client.push(queue, repeat={"every": 50})
    done(client.cancel(first))
    assert client.pull(queue, 300) is None


def test_the_job_id_is_that_of_the_first_run_only(client: Client, queue: str) -> None:
    first = client.push(queue, jobId="first-" + queue, repeat={"every": 50})
    client.complete(queue, first)
    assert client.take(queue).id != first


def test_the_unique_key_is_held_by_the_first_run_only(client: Client, queue: str) -> None:
    first = client.push(queue, uniqueKey="k", repeat={"every": 50, "limit": 2})
    assert client.push(queue, uniqueKey="k") == first
    client.complete(queue, first)
    assert client.push(queue, uniqueKey="k", delay=60_000) != first
    run(client, queue)


def test_only_the_first_run_waits_for_dependencies(client: Client, queue: str) -> None:
    child = client.push("children-" + queue)
    first = client.push(queue, dependsOn=[child], repeat={"every": 50, "limit": 2})
    assert client.state(first) == "waiting-children"
    client.complete("children-" + queue, child)
    assert run(client, queue).id == first
    assert run(client, queue).id != first


def test_a_pending_run_is_not_delivered_before_it_is_due(client: Client, queue: str) -> None:
    first = client.push(queue, repeat={"every": 60_000})
    client.complete(queue, first)
    assert client.pull(queue, 200) is None


def test_remove_on_complete_does_not_end_a_series(client: Client, queue: str) -> None:
    first = client.push(queue, removeOnComplete=True, repeat={"every": 50})
    client.complete(queue, first)
    second = run(client, queue)
    eventually(lambda: client.is_known(second.id), wanted=False)
    assert client.take(queue).id not in {first, second.id}
