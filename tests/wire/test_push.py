"""What a push may say, what each field defaults to, and what each one does."""

import time

import pytest

from tests.wire.client import PROMPT_S, UUID7, Client, Delivery, done, eventually, now_ms, ok, refused

DAY_MS = 24 * 60 * 60 * 1000
CLOCK_SLACK_MS = 2000  # the server anchors its clock once; this is one machine


def test_push_answers_with_a_uuid7(client: Client, queue: str) -> None:
    job_id = client.push(queue, {"to": "user@test.com"})
    assert UUID7.fullmatch(job_id)


def test_a_new_job_has_the_documented_defaults(client: Client, queue: str) -> None:
    before = now_ms()
    job_id = client.push(queue, {"to": "user@test.com"})
    after = now_ms()
    job = client.job(job_id)
    created = job.pop("createdAt")
    assert type(created) is int
    assert before - CLOCK_SLACK_MS <= created <= after + CLOCK_SLACK_MS
    assert job == {
        "id": job_id,
        "queue": queue,
        "data": {"to": "user@test.com"},
        "priority": 0,
        "runAt": created,
        "startedAt": None,
        "completedAt": None,
        "attempts": 0,
        "maxAttempts": 3,
        "backoff": 1000,
        "progress": 0,
        "tags": [],
        "lifo": False,
        "removeOnComplete": False,
        "removeOnFail": False,
    }


def test_a_pulled_job_shows_the_documented_eight_fields(client: Client, queue: str) -> None:
    job_id = client.push(queue, {"to": "user@test.com"}, priority=10)
    delivery = client.take(queue)
    assert UUID7.fullmatch(delivery.token)
    created = client.job(job_id)["createdAt"]
    assert delivery.job == {
        "id": job_id,
        "queue": queue,
        "data": {"to": "user@test.com"},
        "priority": 10,
        "createdAt": created,
        "attempts": 0,
        "maxAttempts": 3,
        "progress": 0,
    }


def test_the_documented_example_is_accepted_whole(client: Client, queue: str) -> None:
    first, second = client.push("other-" + queue), client.push("other-" + queue)
    job_id = client.push(
        queue,
        {"to": "user@test.com", "subject": "Welcome"},
        priority=10,
        delay=5000,
        maxAttempts=5,
        backoff=2000,
        ttl=86400000,
        timeout=30000,
        uniqueKey="email-user-123",
        jobId="custom-" + queue,
        tags=["email", "onboarding"],
        groupId="batch-1",
        lifo=False,
        removeOnComplete=False,
        removeOnFail=False,
        durable=False,
        dependsOn=[first, second],
        repeat={"every": 60000, "limit": 10},
    )
    assert job_id == "custom-" + queue
    job = client.job(job_id)
    assert job["priority"] == 10
    assert job["runAt"] == job["createdAt"] + 5000
    assert (job["maxAttempts"], job["backoff"]) == (5, 2000)
    assert job["tags"] == ["email", "onboarding"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("priority", 1_000_000),
        ("priority", -1_000_000),
        ("maxAttempts", 1),
        ("maxAttempts", 1000),
        ("backoff", 0),
        ("backoff", DAY_MS),
        ("tags", []),
        ("tags", ["email", "", "onboarding", "email"]),
        ("tags", [f"tag-{n}" for n in range(100)]),
        ("lifo", True),
        ("lifo", False),
        ("removeOnComplete", True),
        ("removeOnFail", True),
    ],
)
def test_a_job_shows_the_field_it_was_pushed_with(client: Client, queue: str, field: str, value: object) -> None:
    job_id = client.push(queue, **{field: value})
    assert client.job(job_id)[field] == value


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("delay", 0),
        ("delay", 365 * DAY_MS),
        ("ttl", 365 * DAY_MS),
        ("timeout", 0),
        ("timeout", 1),
        ("timeout", DAY_MS),
        ("groupId", "g"),
        ("groupId", "g" * 256),
        ("uniqueKey", "k"),
        ("uniqueKey", "k" * 256),
        ("durable", True),
        ("durable", False),
        ("dependsOn", []),
        ("repeat", {"every": 365 * DAY_MS}),
        ("repeat", {"every": DAY_MS, "limit": 1}),
    ],
)
def test_a_field_that_is_not_shown_is_taken_to_its_limits(
    client: Client, queue: str, field: str, value: object
) -> None:
    assert client.is_known(client.push(queue, **{field: value}))


@pytest.mark.parametrize(
    "field",
    [
        *("priority", "delay", "maxAttempts", "backoff", "ttl", "timeout", "uniqueKey", "jobId", "tags"),
        *("groupId", "lifo", "removeOnComplete", "removeOnFail", "durable", "dependsOn", "repeat"),
    ],
)
def test_null_means_the_default_of_a_field(client: Client, queue: str, field: str) -> None:
    plain = client.job(client.push(queue))
    nulled = client.job(client.push(queue, **{field: None}))
    for job in (plain, nulled):
        assert UUID7.fullmatch(job.pop("id"))
        assert job.pop("runAt") == job.pop("createdAt")
    assert nulled == plain


def test_null_for_the_limit_of_a_repeat_means_none(client: Client, queue: str) -> None:
    assert client.is_known(client.push(queue, repeat={"every": DAY_MS, "limit": None}))


@pytest.mark.parametrize("data", [None, True, False, 0, -1.5, "", "text", [], {}, [None], {"a": {"b": [1]}}])
def test_any_json_value_is_data(client: Client, queue: str, data: object) -> None:
    job_id = client.push(queue, data)
    assert client.job(job_id)["data"] == data
    assert client.take(queue).job["data"] == data


def test_a_job_id_given_is_the_id(client: Client, queue: str) -> None:
    job_id = client.push(queue, jobId="mine-" + queue)
    assert job_id == "mine-" + queue
    assert client.take(queue).id == job_id


def test_remove_on_complete_forgets_the_job_at_its_ack(client: Client, queue: str) -> None:
    job_id = client.push(queue, removeOnComplete=True)
    client.complete(queue, job_id)
    refused(client.get(f"/jobs/{job_id}"), 404, "Job not found")


def test_a_completed_job_is_kept_by_default(client: Client, queue: str) -> None:
    job_id = client.push(queue, {"kept": 1})
    client.complete(queue, job_id)
    job = client.job(job_id)
    assert job["data"] == {"kept": 1}
    assert type(job["startedAt"]) is int
    assert type(job["completedAt"]) is int
    assert job["createdAt"] <= job["startedAt"] <= job["completedAt"]
    assert client.state(job_id) == "completed"


def test_remove_on_fail_forgets_the_job_at_its_last_failure(client: Client, queue: str) -> None:
    job_id = client.push(queue, removeOnFail=True, maxAttempts=2, backoff=0)
    done(client.fail(client.take(queue).id))
    assert client.is_known(job_id)
    client.bury(queue, job_id)
    refused(client.get(f"/jobs/{job_id}"), 404, "Job not found")


def test_a_failed_job_is_kept_by_default(client: Client, queue: str) -> None:
    job_id = client.push(queue, {"kept": 1}, maxAttempts=1)
    client.bury(queue, job_id)
    assert client.job(job_id)["data"] == {"kept": 1}
    assert client.state(job_id) == "failed"


def test_started_at_is_null_unless_active_or_finished(client: Client, queue: str) -> None:
    job_id = client.push(queue, backoff=60_000)
    assert client.job(job_id)["startedAt"] is None
    client.take(queue)
    active = client.job(job_id)
    assert type(active["startedAt"]) is int
    assert active["completedAt"] is None
    done(client.fail(job_id))
    waiting_for_retry = client.job(job_id)
    assert waiting_for_retry["startedAt"] is None
    assert waiting_for_retry["completedAt"] is None


def test_a_delayed_job_is_due_at_creation_plus_delay(client: Client, queue: str) -> None:
    job_id = client.push(queue, delay=60_000)
    job = client.job(job_id)
    assert job["runAt"] == job["createdAt"] + 60_000
    assert client.state(job_id) == "delayed"
    assert client.pull(queue) is None


@pytest.mark.slow
def test_a_delayed_job_is_delivered_when_it_is_due_and_not_before(client: Client, queue: str) -> None:
    started = time.monotonic()
    job_id = client.push(queue, delay=1000)
    assert client.pull(queue) is None
    assert client.take(queue).id == job_id
    assert 0.99 <= time.monotonic() - started < PROMPT_S


@pytest.mark.slow
def test_an_unstarted_job_that_outlives_its_ttl_is_removed_unasked(client: Client, queue: str) -> None:
    job_id = client.push(queue, ttl=1000, uniqueKey="k")
    assert client.is_known(job_id)
    eventually(lambda: client.is_known(job_id), wanted=False)
    assert client.pull(queue) is None
    assert client.push(queue, uniqueKey="k") != job_id


@pytest.mark.slow
def test_ttl_also_ends_a_job_that_is_not_ready(client: Client, queue: str) -> None:
    delayed = client.push(queue, ttl=1000, delay=60_000)
    child = client.push("other-" + queue)
    blocked = client.push(queue, ttl=1000, dependsOn=[child])
    assert client.state(blocked) == "waiting-children"
    eventually(lambda: client.is_known(delayed), wanted=False)
    eventually(lambda: client.is_known(blocked), wanted=False)


@pytest.mark.slow
def test_a_started_job_outlives_its_ttl(client: Client, queue: str) -> None:
    job_id = client.push(queue, ttl=1000)
    delivery = client.take(queue)
    time.sleep(1.2)
    assert client.state(job_id) == "active"
    done(client.ack(job_id, token=delivery.token))


def test_a_job_within_its_ttl_is_delivered(client: Client, queue: str) -> None:
    job_id = client.push(queue, ttl=60_000)
    assert client.take(queue).id == job_id


def test_a_durable_push_is_delivered_like_any_other(client: Client, queue: str) -> None:
    job_id = client.push(queue, {"n": 1}, durable=True)
    delivery = client.take(queue)
    assert isinstance(delivery, Delivery)
    assert (delivery.id, delivery.job["data"]) == (job_id, {"n": 1})


def test_content_type_is_not_enforced(client: Client, queue: str) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "nonsense"):
        response = client.http.post(f"/queues/{queue}/jobs", content=b'{"data":1}', headers={"Content-Type": kind})
        ok(response)
    assert len(client.drain(queue)) == 4
