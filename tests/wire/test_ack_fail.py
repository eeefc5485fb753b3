"""Who may end an attempt, what a failure costs, and where a job goes that has no attempts left."""

import time

import pytest

from tests.wire.client import (
    DEAD_TOKEN,
    LOST_TOKEN,
    NOT_ACTIVE,
    Client,
    done,
    eventually,
    now_ms,
    ok,
    refused,
)

HOUR_MS = 60 * 60 * 1000
CLOCK_SLACK_MS = 2000

both_ends = pytest.mark.parametrize("end", ["ack", "fail"])


@both_ends
def test_an_active_job_is_ended_without_a_token(client: Client, queue: str, end: str) -> None:
    job_id = client.push(queue)
    client.take(queue)
    done(client.post(f"/jobs/{job_id}/{end}", {}))
    assert client.state(job_id) != "active"


@both_ends
def test_an_empty_body_ends_an_active_job(client: Client, queue: str, end: str) -> None:
    job_id = client.push(queue)
    client.take(queue)
    done(client.post_empty(f"/jobs/{job_id}/{end}"))
    assert client.state(job_id) != "active"


@both_ends
def test_the_current_token_ends_the_job(client: Client, queue: str, end: str) -> None:
    job_id = client.push(queue)
    token = client.take(queue).token
    done(client.post(f"/jobs/{job_id}/{end}", {"token": token}))
    assert client.state(job_id) != "active"


@both_ends
@pytest.mark.parametrize("token", [DEAD_TOKEN, "x", "ä", "0" * 36])
def test_a_wrong_token_is_refused_and_the_job_stays_with_its_holder(
    client: Client, queue: str, end: str, token: str
) -> None:
    job_id = client.push(queue)
    delivery = client.take(queue)
    refused(client.post(f"/jobs/{job_id}/{end}", {"token": token}), 400, LOST_TOKEN)
    assert client.state(job_id) == "active"
    assert client.job(job_id)["attempts"] == 0
    done(client.ack(job_id, token=delivery.token))


@both_ends
def test_the_token_of_another_job_is_refused(client: Client, queue: str, end: str) -> None:
    job_id, _ = client.push(queue), client.push(queue)
    client.take(queue)
    other = client.take(queue)
    refused(client.post(f"/jobs/{job_id}/{end}", {"token": other.token}), 400, LOST_TOKEN)


@both_ends
@pytest.mark.parametrize("token", [5, True, [], {}, ["x"]])
def test_a_token_that_is_no_text_is_refused(client: Client, queue: str, end: str, token: object) -> None:
    job_id = client.push(queue)
    client.take(queue)
    assert "token" in refused(client.post(f"/jobs/{job_id}/{end}", {"token": token}))
    assert client.state(job_id) == "active"


@both_ends
def test_a_null_token_is_none(client: Client, queue: str, end: str) -> None:
    job_id = client.push(queue)
    client.take(queue)
    done(client.post(f"/jobs/{job_id}/{end}", {"token": None}))


@both_ends
def test_a_job_that_was_never_pulled_is_not_active(client: Client, queue: str, end: str) -> None:
    child = client.push("children-" + queue)
    ids = [client.push(queue), client.push(queue, delay=60_000), client.push(queue, dependsOn=[child])]
    for job_id in [*ids, "no-such-job", DEAD_TOKEN]:
        refused(client.post(f"/jobs/{job_id}/{end}", {}), 400, NOT_ACTIVE)
    assert [client.state(job_id) for job_id in ids] == ["waiting", "delayed", "waiting-children"]


@both_ends
def test_an_ended_job_is_not_active(client: Client, queue: str, end: str) -> None:
    completed = client.push(queue)
    client.complete(queue, completed)
    dead = client.push(queue, maxAttempts=1)
    client.bury(queue, dead)
    in_backoff = client.push(queue, backoff=60_000)
    client.take(queue)
    done(client.fail(in_backoff))
    cancelled = client.push(queue)
    done(client.cancel(cancelled))
    for job_id in (completed, dead, in_backoff, cancelled):
        refused(client.post(f"/jobs/{job_id}/{end}", {}), 400, NOT_ACTIVE)
    states = [client.state(job_id) for job_id in (completed, dead, in_backoff)]
    assert states == ["completed", "failed", "delayed"]


@both_ends
def test_the_token_of_an_earlier_attempt_is_refused(client: Client, queue: str, end: str) -> None:
    job_id = client.push(queue, backoff=0)
    old = client.take(queue)
    done(client.fail(job_id, token=old.token))
    new = client.take(queue)
    assert new.token != old.token
    refused(client.post(f"/jobs/{job_id}/{end}", {"token": old.token}), 400, LOST_TOKEN)
    done(client.ack(job_id, token=new.token))


@both_ends
def test_a_used_token_ends_nothing_again(client: Client, queue: str, end: str) -> None:
    job_id = client.push(queue)
    token = client.take(queue).token
    done(client.ack(job_id, token=token))
    assert refused(client.post(f"/jobs/{job_id}/{end}", {"token": token})) in {NOT_ACTIVE, LOST_TOKEN}
    assert client.state(job_id) == "completed"


@pytest.mark.parametrize(("error", "text"), [(5, "5"), (True, "true"), ([], "[]"), ({}, "{}")])
def test_an_error_that_is_no_text_becomes_its_json_text(client: Client, queue: str, error: object, text: str) -> None:
    job_id = client.push(queue, maxAttempts=1)
    client.take(queue)
    ok(client.fail(job_id, error=error))
    assert ok(client.get(f"/jobs/{job_id}/state"))["error"] == text
    assert client.state(job_id) == "failed"


def test_the_example_of_an_ack_is_accepted(client: Client, queue: str) -> None:
    job_id = client.push(queue)
    client.take(queue)
    done(client.ack(job_id, result={"sent": True, "messageId": "abc-123"}))
    assert ok(client.get(f"/jobs/{job_id}/result"))["result"] == {"sent": True, "messageId": "abc-123"}


@pytest.mark.parametrize("error", ["SMTP connection refused", "", "ä" * 1000, 'quote " and \n line'])
def test_a_failure_is_reported_with_the_text_given(client: Client, queue: str, error: str) -> None:
    job_id = client.push(queue)
    client.take(queue)
    with client.events(queue) as wait:
        done(client.fail(job_id, error=error))
        assert wait("failed", job_id)["error"] == error


# -- retries -------------------------------------------------------------------


def test_a_failure_charges_one_attempt(client: Client, queue: str) -> None:
    job_id = client.push(queue, backoff=0, maxAttempts=3)
    for failures in range(3):
        delivery = client.take(queue)
        assert (delivery.job["attempts"], client.job(job_id)["attempts"]) == (failures, failures)
        done(client.fail(job_id))
    assert client.job(job_id)["attempts"] == 3
    assert client.state(job_id) == "failed"


def test_a_success_charges_no_attempt(client: Client, queue: str) -> None:
    job_id = client.push(queue, backoff=0)
    done(client.fail(client.take(queue).id))
    client.complete(queue, job_id)
    assert client.job(job_id)["attempts"] == 1


def test_a_failed_attempt_waits_out_its_backoff_as_delayed(client: Client, queue: str) -> None:
    job_id = client.push(queue, backoff=30_000)
    client.take(queue)
    before = now_ms()
    done(client.fail(job_id))
    assert client.state(job_id) == "delayed"
    assert client.pull(queue) is None
    wait = client.job(job_id)["runAt"] - before
    assert 30_000 - CLOCK_SLACK_MS <= wait <= 30_000 + CLOCK_SLACK_MS


@pytest.mark.slow
def test_the_backoff_doubles_with_each_failure(client: Client, queue: str) -> None:
    job_id = client.push(queue, backoff=60, maxAttempts=5)
    client.take(queue)
    with client.events(queue) as wait:
        for expected_ms in (60, 120, 240, 480):
            done(client.fail(job_id))
            due_at = wait("failed", job_id)["timestamp"] + expected_ms
            assert client.job(job_id)["runAt"] == due_at
            assert client.take(queue).id == job_id
            assert wait("pulled", job_id)["timestamp"] >= due_at


def test_a_backoff_of_more_than_an_hour_is_kept_and_not_doubled(client: Client, queue: str) -> None:
    """That doubling ends at an hour is for the engine's tests: nobody waits for an hour here."""
    job_id = client.push(queue, backoff=24 * HOUR_MS)
    client.take(queue)
    before = now_ms()
    done(client.fail(job_id))
    wait = client.job(job_id)["runAt"] - before
    assert 24 * HOUR_MS - CLOCK_SLACK_MS <= wait <= 24 * HOUR_MS + CLOCK_SLACK_MS


def test_a_thousand_attempts_do_not_overflow_the_backoff(client: Client, queue: str) -> None:
    job_id = client.push(queue, backoff=0, maxAttempts=1000)
    for _ in range(80):
        done(client.fail(client.take(queue).id))
    assert client.job(job_id)["attempts"] == 80


@pytest.mark.slow
def test_no_backoff_means_no_wait(client: Client, queue: str) -> None:
    job_id = client.push(queue, backoff=0)
    client.take(queue)
    done(client.fail(job_id))
    eventually(lambda: client.state(job_id), "waiting")


def test_the_last_failure_goes_to_the_dead_letters(client: Client, queue: str) -> None:
    job_id = client.push(queue, {"n": 1}, maxAttempts=1)
    client.bury(queue, job_id)
    assert client.state(job_id) == "failed"
    job = client.job(job_id)
    assert (job["attempts"], job["maxAttempts"], job["data"]) == (1, 1, {"n": 1})
    assert client.pull(queue) is None


# -- timeouts ------------------------------------------------------------------


@pytest.mark.slow
def test_a_timeout_is_a_failed_attempt(client: Client, queue: str) -> None:
    job_id = client.push(queue, timeout=150, backoff=60_000)
    with client.events(queue) as wait:
        delivery = client.take(queue)
        assert wait("failed", job_id)["error"] == "Job timed out after 150 ms"
    eventually(lambda: client.state(job_id), "delayed")
    assert client.job(job_id)["attempts"] == 1
    refused(client.ack(job_id), 400, NOT_ACTIVE)
    refused(client.ack(job_id, token=delivery.token))


@pytest.mark.slow
def test_a_timeout_on_the_last_attempt_goes_to_the_dead_letters(client: Client, queue: str) -> None:
    job_id = client.push(queue, timeout=100, maxAttempts=1)
    client.take(queue)
    eventually(lambda: client.state(job_id), "failed")
    assert client.job(job_id)["attempts"] == 1


@pytest.mark.slow
def test_a_timeout_counts_from_the_delivery(client: Client, queue: str) -> None:
    job_id = client.push(queue, timeout=400)
    time.sleep(0.5)
    assert client.state(job_id) == "waiting"
    with client.events(queue) as wait:
        client.take(queue)
        delivered_at = wait("pulled", job_id)["timestamp"]
        assert wait("failed", job_id)["timestamp"] >= delivered_at + 400


@pytest.mark.slow
def test_every_attempt_has_the_whole_timeout(client: Client, queue: str) -> None:
    job_id = client.push(queue, timeout=400, backoff=0)
    with client.events(queue) as wait:
        for attempts in (1, 2):
            client.take(queue)
            delivered_at = wait("pulled", job_id)["timestamp"]
            assert wait("failed", job_id)["timestamp"] >= delivered_at + 400
            eventually(lambda: client.job(job_id)["attempts"], attempts)


@pytest.mark.slow
def test_a_job_done_in_time_is_done(client: Client, queue: str) -> None:
    job_id = client.push(queue, timeout=1000)
    client.complete(queue, job_id)
    time.sleep(1.1)
    assert client.state(job_id) == "completed"
    assert client.job(job_id)["attempts"] == 0
