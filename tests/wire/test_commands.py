"""The commands beyond the contract's examples: batches, progress, state, result, ping."""

import pytest

from tests.wire.client import DEAD_TOKEN, LOST_TOKEN, Client, done, ok, refused

# -- bulk push -----------------------------------------------------------------


def test_a_bulk_push_answers_an_id_for_each_job(client: Client, queue: str) -> None:
    ids = client.push_bulk(queue, [{"data": 1}, {"data": 2, "jobId": "mine-" + queue}, {"data": 3, "priority": 5}])
    assert ids[1] == "mine-" + queue
    assert len(set(ids)) == 3
    assert [client.job(job_id)["data"] for job_id in ids] == [1, 2, 3]
    assert client.drain(queue) == [ids[2], ids[0], ids[1]]


def test_duplicates_within_a_bulk_push_are_one_job(client: Client, queue: str) -> None:
    jobs = [{"data": n, "uniqueKey": "k"} for n in range(3)]
    ids = client.push_bulk(queue, [*jobs, {"data": 9}])
    assert ids[0] == ids[1] == ids[2] != ids[3]
    assert client.job(ids[0])["data"] == 0
    assert client.drain(queue) == [ids[0], ids[3]]


def test_one_bad_job_refuses_the_whole_bulk_push(client: Client, queue: str) -> None:
    jobs = [{"data": 1, "jobId": "first-" + queue}, {"data": 2, "priority": "high"}, {"data": 3}]
    response = client.post(f"/queues/{queue}/jobs/bulk", {"jobs": jobs})
    refused(response, 400, "jobs[1]: priority must be a number")
    assert not client.is_known("first-" + queue)
    assert client.pull(queue) is None


@pytest.mark.parametrize(
    ("job", "error"),
    [
        ({}, "jobs[2]: data is required"),
        ({"data": 1, "lifo": 1}, "jobs[2]: lifo must be a boolean"),
        ({"data": 1, "tags": "x"}, "jobs[2]: tags must be an array of strings"),
        ({"data": 1, "delay": -1}, "jobs[2]: delay must be at least 0"),
        ({"data": 1, "maxAttempts": 1001}, "jobs[2]: maxAttempts must be at most 1000"),
    ],
)
def test_the_error_of_a_bulk_push_says_which_job(
    client: Client, queue: str, job: dict[str, object], error: str
) -> None:
    response = client.post(f"/queues/{queue}/jobs/bulk", {"jobs": [{"data": 1}, {"data": 2}, job]})
    refused(response, 400, error)
    assert client.pull(queue) is None


def test_a_job_id_of_another_queue_refuses_the_whole_bulk_push(client: Client, queue: str) -> None:
    taken = client.push("other-" + queue)
    jobs = [{"data": 1}, {"data": 2, "jobId": taken}]
    refused(client.post(f"/queues/{queue}/jobs/bulk", {"jobs": jobs}))
    assert client.pull(queue) is None


@pytest.mark.parametrize("body", ["{}", '{"jobs":5}', '{"jobs":{}}', '{"jobs":"x"}', '{"jobs":null}'])
def test_a_bulk_push_needs_its_jobs(client: Client, queue: str, body: str) -> None:
    assert "jobs" in refused(client.post_bytes(f"/queues/{queue}/jobs/bulk", body.encode()))


@pytest.mark.parametrize("job", ["5", '"x"', "[]", "null", "true"])
def test_a_job_of_a_bulk_push_is_an_object(client: Client, queue: str, job: str) -> None:
    body = f'{{"jobs":[{{"data":1}},{job}]}}'
    refused(client.post_bytes(f"/queues/{queue}/jobs/bulk", body.encode()))
    assert client.pull(queue) is None


# -- batch pull ----------------------------------------------------------------


def test_a_batch_pull_takes_at_most_its_count(client: Client, queue: str) -> None:
    ids = client.push_bulk(queue, [{"data": n} for n in range(5)])
    first = client.pull_batch(queue, count=3)
    rest = client.pull_batch(queue, count=1000)
    assert [delivery.id for delivery in first + rest] == ids
    assert len({delivery.token for delivery in first + rest}) == 5
    for delivery in first + rest:
        done(client.ack(delivery.id, token=delivery.token))


def test_a_batch_pull_of_an_empty_queue_is_empty(client: Client, queue: str) -> None:
    response = client.post(f"/queues/{queue}/jobs/pull-batch", {"count": 10})
    assert ok(response) == {"ok": True, "jobs": [], "tokens": []}


def test_a_batch_pull_waits_for_its_first_job(client: Client, queue: str) -> None:
    job_id = client.push(queue, delay=100)
    batch = client.pull_batch(queue, count=10, timeout=5000)
    assert [delivery.id for delivery in batch] == [job_id]


@pytest.mark.parametrize("count", [0, -1, 1001, "5", True, 1.5, [], {}])
def test_a_count_that_is_none_is_refused(client: Client, queue: str, count: object) -> None:
    job_id = client.push(queue)
    assert "count" in refused(client.post(f"/queues/{queue}/jobs/pull-batch", {"count": count}))
    assert client.state(job_id) == "waiting"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("timeout", -1), ("timeout", 60_001), ("timeout", "5"), ("timeout", True), ("timeout", [])],
        *[("lockTtl", -1), ("lockTtl", "5"), ("lockTtl", True), ("lockTtl", [])],
    ],
)
def test_the_times_of_a_batch_pull_are_checked(client: Client, queue: str, field: str, value: object) -> None:
    job_id = client.push(queue)
    body = {"count": 1, field: value}
    assert field in refused(client.post(f"/queues/{queue}/jobs/pull-batch", body))
    assert client.state(job_id) == "waiting"


# -- batch ack -----------------------------------------------------------------


def test_a_batch_ack_completes_every_job(client: Client, queue: str) -> None:
    ids = client.push_bulk(queue, [{"data": n} for n in range(4)])
    batch = client.pull_batch(queue, count=4)
    done(client.post("/jobs/ack-batch", {"ids": ids, "tokens": [delivery.token for delivery in batch]}))
    assert [client.state(job_id) for job_id in ids] == ["completed"] * 4


def test_a_batch_ack_needs_no_tokens(client: Client, queue: str) -> None:
    ids = client.push_bulk(queue, [{"data": n} for n in range(4)])
    client.pull_batch(queue, count=4)
    done(client.post("/jobs/ack-batch", {"ids": ids}))
    assert [client.state(job_id) for job_id in ids] == ["completed"] * 4


def test_a_batch_ack_tells_which_jobs_were_not_active(client: Client, queue: str) -> None:
    active, waiting = client.push_bulk(queue, [{"data": n} for n in range(2)])
    client.take(queue)
    response = client.post("/jobs/ack-batch", {"ids": [waiting, active, "no-such-job"]})
    body = ok(response)
    assert set(body) == {"ok", "data"}
    assert set(body["data"]) == {"ignoredIds"}
    assert sorted(body["data"]["ignoredIds"]) == sorted([waiting, "no-such-job"])
    assert (client.state(active), client.state(waiting)) == ("completed", "waiting")


def test_a_batch_ack_with_a_wrong_token_leaves_that_job_to_its_holder(client: Client, queue: str) -> None:
    client.push_bulk(queue, [{"data": n} for n in range(2)])
    first, second = client.pull_batch(queue, count=2)
    body = {"ids": [first.id, second.id], "tokens": [first.token, DEAD_TOKEN]}
    response = client.post("/jobs/ack-batch", body)
    assert response.status_code < 500
    assert client.state(second.id) == "active"
    done(client.ack(second.id, token=second.token))


@pytest.mark.parametrize("ids", [None, "x", 5, {}, [5], [None]])
def test_a_batch_ack_needs_its_ids(client: Client, ids: object) -> None:
    assert "ids" in refused(client.post("/jobs/ack-batch", {"ids": ids}))


@pytest.mark.parametrize("tokens", ["x", 5, {}, [5]])
def test_the_tokens_of_a_batch_ack_are_texts(client: Client, queue: str, tokens: object) -> None:
    job_id = client.push(queue)
    client.take(queue)
    assert "tokens" in refused(client.post("/jobs/ack-batch", {"ids": [job_id], "tokens": tokens}))
    assert client.state(job_id) == "active"


# -- batch heartbeat -----------------------------------------------------------


def test_a_batch_heartbeat_counts_the_leases_it_renewed(client: Client, queue: str) -> None:
    client.push_bulk(queue, [{"data": n} for n in range(3)])
    batch = client.pull_batch(queue, count=3)
    ids, tokens = [delivery.id for delivery in batch], [delivery.token for delivery in batch]
    for body in ({"ids": ids, "tokens": tokens}, {"ids": ids}):
        answer = ok(client.post("/jobs/heartbeat-batch", body))
        assert answer == {"ok": True, "data": {"ok": True, "count": 3}}


def test_a_batch_heartbeat_needs_its_ids(client: Client) -> None:
    assert "ids" in refused(client.post("/jobs/heartbeat-batch", {"ids": "x"}))


# -- progress ------------------------------------------------------------------


def test_progress_is_shown_and_sent_as_an_event(client: Client, queue: str) -> None:
    job_id = client.push(queue)
    token = client.take(queue).token
    with client.events(queue) as wait:
        done(client.progress(job_id, progress=40, message="halfway", token=token))
        assert wait("progress", job_id)["progress"] == 40
    assert client.job(job_id)["progress"] == 40


@pytest.mark.parametrize("progress", [0, 1, 99, 100])
def test_progress_runs_from_0_to_100(client: Client, queue: str, progress: int) -> None:
    job_id = client.push(queue)
    client.take(queue)
    done(client.progress(job_id, progress=progress))
    assert client.job(job_id)["progress"] == progress


@pytest.mark.parametrize("progress", [-1, 101, "50", True, [], {}, 10**30])
def test_other_progress_is_refused(client: Client, queue: str, progress: object) -> None:
    job_id = client.push(queue)
    client.take(queue)
    assert "progress" in refused(client.progress(job_id, progress=progress))
    assert client.job(job_id)["progress"] == 0


def test_progress_is_required(client: Client, queue: str) -> None:
    job_id = client.push(queue)
    client.take(queue)
    assert "progress" in refused(client.progress(job_id))


def test_progress_of_a_job_that_is_not_active_is_refused(client: Client, queue: str) -> None:
    job_id = client.push(queue)
    refused(client.progress(job_id, progress=5))
    refused(client.progress("no-such-job", progress=5))
    assert client.job(job_id)["progress"] == 0


def test_progress_with_a_wrong_token_is_refused(client: Client, queue: str) -> None:
    job_id = client.push(queue)
    client.take(queue)
    refused(client.progress(job_id, progress=5, token=DEAD_TOKEN), 400, LOST_TOKEN)
    assert client.job(job_id)["progress"] == 0


# -- questions -----------------------------------------------------------------


def test_the_state_of_a_job_follows_its_life(client: Client, queue: str) -> None:
    job_id = client.push(queue, delay=100, backoff=60_000)
    seen = [client.state(job_id)]
    client.take(queue)
    seen.append(client.state(job_id))
    done(client.fail(job_id))
    seen.append(client.state(job_id))
    assert seen == ["delayed", "active", "delayed"]


def test_the_state_and_the_result_are_read_as_often_as_wanted(client: Client, queue: str) -> None:
    job_id = client.push(queue)
    client.complete(queue, job_id, result=[1, 2])
    for _ in range(3):
        assert client.state(job_id) == "completed"
        assert ok(client.get(f"/jobs/{job_id}/result"))["result"] == [1, 2]


def test_ping_is_answered(client: Client) -> None:
    ok(client.get("/ping"))
