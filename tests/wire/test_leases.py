"""A lease: what keeps it, what it costs to lose it, and what the old token is worth then."""

import time
from typing import Any

import pytest

from tests.wire.client import DEAD_TOKEN, LOST_TOKEN, NOT_ACTIVE, Client, done, eventually, ok, refused

SHORT_MS = 150


@pytest.mark.slow
def test_an_expired_lease_gives_the_job_back_uncharged(client: Client, queue: str) -> None:
    job_id = client.push(queue)
    with client.events(queue) as wait:
        leased = client.lease(queue, SHORT_MS)
        assert client.state(job_id) == "active"
        assert wait("stalled", job_id)["queue"] == queue
    eventually(lambda: client.state(job_id), "waiting")
    again = client.take(queue)
    assert (again.id, again.job["attempts"]) == (job_id, 0)
    assert again.token != leased.token


@pytest.mark.slow
def test_ack_of_a_lost_lease_is_refused(client: Client, queue: str) -> None:
    job_id = client.push(queue)
    lost = client.lease(queue, SHORT_MS)
    eventually(lambda: client.state(job_id), "waiting")
    for end in (client.ack, client.fail):
        assert refused(end(job_id, token=lost.token)) in {NOT_ACTIVE, LOST_TOKEN}
        refused(end(job_id), 400, NOT_ACTIVE)
    holder = client.take(queue)
    for end in (client.ack, client.fail):
        refused(end(job_id, token=lost.token), 400, LOST_TOKEN)
    done(client.ack(job_id, token=holder.token))


@pytest.mark.slow
def test_the_fourth_stall_goes_to_the_dead_letters(client: Client, queue: str) -> None:
    job_id = client.push(queue)
    for _ in range(3):
        client.lease(queue, 100)
        eventually(lambda: client.state(job_id), "waiting")
    client.lease(queue, 100)
    eventually(lambda: client.state(job_id), "failed")
    assert client.job(job_id)["attempts"] == 0
    assert client.pull(queue) is None


@pytest.mark.slow
def test_a_job_under_its_own_timeout_is_governed_by_that_alone(client: Client, queue: str) -> None:
    job_id = client.push(queue, timeout=10_000)
    leased = client.lease(queue, 100)
    time.sleep(0.5)
    assert client.state(job_id) == "active"
    done(client.ack(job_id, token=leased.token))


@pytest.mark.slow
def test_a_plain_pull_has_a_long_lease(client: Client, queue: str) -> None:
    job_id = client.push(queue)
    delivery = client.take(queue)
    time.sleep(1.2)
    assert client.state(job_id) == "active"
    done(client.ack(job_id, token=delivery.token))


@pytest.mark.slow
def test_heartbeats_keep_a_lease(client: Client, queue: str) -> None:
    job_id = client.push(queue)
    leased = client.lease(queue, 2000)
    for _ in range(6):
        time.sleep(0.4)
        assert ok(client.heartbeat(job_id, token=leased.token))["data"]["ok"] is True
    assert client.state(job_id) == "active"
    done(client.ack(job_id, token=leased.token))


@pytest.mark.slow
def test_a_lease_ends_when_the_heartbeats_do(client: Client, queue: str) -> None:
    job_id = client.push(queue)
    leased = client.lease(queue, 1000)
    ok(client.heartbeat(job_id, token=leased.token))
    eventually(lambda: client.state(job_id), "waiting")


@pytest.mark.slow
def test_a_heartbeat_may_ask_for_a_duration(client: Client, queue: str) -> None:
    job_id = client.push(queue)
    leased = client.lease(queue, 1000)
    ok(client.heartbeat(job_id, token=leased.token, duration=30_000))
    time.sleep(1.2)
    assert client.state(job_id) == "active"


def test_a_heartbeat_needs_no_token(client: Client, queue: str) -> None:
    job_id = client.push(queue)
    client.take(queue)
    assert ok(client.heartbeat(job_id))["data"]["ok"] is True
    assert ok(client.post_empty(f"/jobs/{job_id}/heartbeat"))["data"]["ok"] is True


def test_a_heartbeat_for_a_lost_lease_is_refused(client: Client, queue: str) -> None:
    job_id = client.push(queue)
    refused(client.heartbeat(job_id))
    delivery = client.take(queue)
    refused(client.heartbeat(job_id, token=DEAD_TOKEN), 400, LOST_TOKEN)
    done(client.ack(job_id))
    refused(client.heartbeat(job_id, token=delivery.token))
    refused(client.heartbeat("no-such-job", token=delivery.token))


def test_a_heartbeat_for_a_cancelled_job_is_refused(client: Client, queue: str) -> None:
    job_id = client.push(queue)
    delivery = client.take(queue)
    done(client.cancel(job_id))
    refused(client.heartbeat(job_id, token=delivery.token))
    refused(client.heartbeat(job_id))
    refused(client.ack(job_id, token=delivery.token))


@pytest.mark.slow
def test_extend_lock_keeps_a_lease_for_its_duration(client: Client, queue: str) -> None:
    job_id = client.push(queue)
    leased = client.lease(queue, 1000)
    done(client.extend_lock(job_id, token=leased.token, duration=30_000))
    time.sleep(1.2)
    assert client.state(job_id) == "active"
    done(client.ack(job_id, token=leased.token))


def test_extend_lock_with_another_token_is_refused(client: Client, queue: str) -> None:
    job_id = client.push(queue)
    client.take(queue)
    refused(client.extend_lock(job_id, token=DEAD_TOKEN, duration=1000), 400, LOST_TOKEN)


def test_extend_lock_of_a_job_that_is_not_active_is_refused(client: Client, queue: str) -> None:
    job_id = client.push(queue)
    refused(client.extend_lock(job_id, token=DEAD_TOKEN, duration=1000))
    assert client.state(job_id) == "waiting"


def test_extend_lock_needs_its_token_and_its_duration(client: Client, queue: str) -> None:
    job_id = client.push(queue)
    token = client.take(queue).token
    assert "token" in refused(client.extend_lock(job_id, duration=1000))
    assert "duration" in refused(client.extend_lock(job_id, token=token))
    wrong: tuple[object, ...] = ("1000", True, [], -1)
    for duration in wrong:
        assert "duration" in refused(client.extend_lock(job_id, token=token, duration=duration))


def test_a_released_job_is_back_in_its_place_as_if_never_delivered(client: Client, queue: str) -> None:
    ids = [client.push(queue, n) for n in range(3)]
    token = client.take(queue).token
    with client.events(queue) as wait:
        done(client.release(ids[0], token=token))
        assert wait("retried", ids[0])["prev"] == "active"
    state = ok(client.get(f"/jobs/{ids[0]}/state"))
    assert (state["state"], state["stalls"], client.job(ids[0])["attempts"]) == ("waiting", 0, 0)
    refused(client.release(ids[0], token=token), 400, NOT_ACTIVE)
    assert client.drain(queue) == ids
    refused(client.ack(ids[0], token=token), 400, LOST_TOKEN)


def test_a_release_with_a_token_is_of_that_lease_only(client: Client, queue: str) -> None:
    job_id = client.push(queue)
    client.take(queue)
    refused(client.release(job_id, token=DEAD_TOKEN), 400, LOST_TOKEN)
    refused(client.release("no-such-job", token=DEAD_TOKEN), 400, NOT_ACTIVE)
    assert client.state(job_id) == "active"


@pytest.mark.parametrize("fields", [{}, {"token": None}])
def test_a_release_without_a_token_is_of_the_lease_there_is(client: Client, queue: str, fields: dict[str, Any]) -> None:
    job_id = client.push(queue)
    client.take(queue)
    ok(client.release(job_id, **fields))
    assert client.state(job_id) == "waiting"
    refused(client.release(job_id, **fields), 400, NOT_ACTIVE)


@pytest.mark.slow
def test_a_progress_report_keeps_a_lease(client: Client, queue: str) -> None:
    job_id = client.push(queue)
    leased = client.lease(queue, 2000)
    for percent in range(6):
        time.sleep(0.4)
        done(client.progress(job_id, progress=percent, token=leased.token))
    assert client.state(job_id) == "active"


@pytest.mark.slow
def test_a_lease_lost_by_one_job_of_a_batch_is_not_lost_by_the_others(client: Client, queue: str) -> None:
    client.push_bulk(queue, [{"data": n} for n in range(3)])
    batch = client.pull_batch(queue, count=3, lockTtl=300)
    kept, *lost = batch
    ok(client.heartbeat(kept.id, token=kept.token, duration=30_000))
    eventually(lambda: [client.state(d.id) for d in lost], ["waiting", "waiting"])
    assert client.state(kept.id) == "active"


# -- cancelling ----------------------------------------------------------------


def test_a_job_is_cancelled_in_every_unfinished_state(client: Client, queue: str) -> None:
    active = client.push(queue)
    client.take(queue)
    child = client.push("children-" + queue)
    ids = [
        active,
        client.push(queue),
        client.push(queue, delay=60_000),
        client.push(queue, dependsOn=[child]),
    ]
    states = [client.state(job_id) for job_id in ids]
    assert states == ["active", "waiting", "delayed", "waiting-children"]
    with client.events(queue) as wait:
        for job_id, state in zip(ids, states, strict=True):
            done(client.cancel(job_id))
            assert wait("removed", job_id)["prev"] == state
            assert not client.is_known(job_id)
    assert client.pull(queue) is None


def test_a_job_in_backoff_is_cancelled(client: Client, queue: str) -> None:
    job_id = client.push(queue, backoff=100)
    done(client.fail(client.take(queue).id))
    done(client.cancel(job_id))
    assert not client.is_known(job_id)
    assert client.pull(queue, 200) is None


def test_a_finished_or_unknown_job_cannot_be_cancelled(client: Client, queue: str) -> None:
    completed = client.push(queue)
    client.complete(queue, completed)
    dead = client.push(queue, maxAttempts=1)
    client.bury(queue, dead)
    cancelled = client.push(queue)
    done(client.cancel(cancelled))
    for job_id in (completed, dead, cancelled, "no-such-job"):
        refused(client.cancel(job_id), 404, "Job not found")
    assert (client.state(completed), client.state(dead)) == ("completed", "failed")
