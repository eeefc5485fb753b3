"""`jobId` and `uniqueKey`: what is the same job, and for how long."""

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.wire.client import Client, done, eventually, ok, refused


@pytest.fixture
def job_id() -> str:
    return f"job-{uuid.uuid4().hex}"


def test_a_job_id_in_use_creates_nothing_and_answers_the_same_id(client: Client, queue: str, job_id: str) -> None:
    assert client.push(queue, "first", jobId=job_id) == job_id
    assert client.push(queue, "second", jobId=job_id, priority=9) == job_id
    assert client.job(job_id)["data"] == "first"
    assert client.job(job_id)["priority"] == 0
    assert client.drain(queue) == [job_id]


def test_a_generated_id_counts_like_a_given_one(client: Client, queue: str) -> None:
    generated = client.push(queue, "first")
    assert client.push(queue, "second", jobId=generated) == generated
    assert client.job(generated)["data"] == "first"
    assert client.drain(queue) == [generated]


def test_the_id_of_a_job_of_a_bulk_push_has_two_names(client: Client, queue: str, job_id: str) -> None:
    """The original calls it `customId` there; of both, `jobId` counts. In a single push nobody knows that word."""
    jobs = [{"data": 1, "customId": job_id}, {"data": 2, "jobId": f"{job_id}-2", "customId": f"{job_id}-3"}]
    for _ in range(2):
        assert client.push_bulk(queue, jobs) == [job_id, f"{job_id}-2"]
    assert client.push(queue, "third", jobId=job_id) == job_id
    assert client.push(queue, "fourth", customId=job_id) != job_id
    assert client.job(job_id)["data"] == 1
    wrong = refused(client.post(f"/queues/{queue}/jobs/bulk", {"jobs": [{"data": 1, "customId": 5}]}), 400)
    assert "jobs[0]: customId" in str(wrong)


def test_a_job_id_is_in_use_while_its_job_is_delayed(client: Client, queue: str, job_id: str) -> None:
    client.push(queue, jobId=job_id, delay=60_000)
    assert client.push(queue, jobId=job_id) == job_id
    assert client.state(job_id) == "delayed"


def test_a_job_id_is_in_use_while_its_job_is_active_or_in_backoff(client: Client, queue: str, job_id: str) -> None:
    client.push(queue, "first", jobId=job_id, backoff=60_000)
    client.take(queue)
    assert client.push(queue, "second", jobId=job_id) == job_id
    assert client.pull(queue) is None
    done(client.fail(job_id))
    assert client.push(queue, "third", jobId=job_id) == job_id
    assert client.pull(queue) is None
    assert client.job(job_id)["data"] == "first"


def test_a_job_id_is_in_use_while_its_job_waits_for_children(client: Client, queue: str, job_id: str) -> None:
    child = client.push("other-" + queue)
    client.push(queue, jobId=job_id, dependsOn=[child])
    assert client.push(queue, jobId=job_id) == job_id
    assert client.state(job_id) == "waiting-children"


def test_a_job_id_is_free_again_once_its_job_completed(client: Client, queue: str, job_id: str) -> None:
    client.push(queue, "first", jobId=job_id)
    client.complete(queue, job_id, result="old")
    assert client.push(queue, "second", jobId=job_id) == job_id
    job = client.job(job_id)
    assert (job["data"], job["completedAt"], job["attempts"]) == ("second", None, 0)
    assert client.state(job_id) == "waiting"
    assert client.drain(queue) == [job_id]


def test_a_job_id_is_free_again_once_its_job_is_dead(client: Client, queue: str, job_id: str) -> None:
    client.push(queue, "first", jobId=job_id, maxAttempts=1)
    client.bury(queue, job_id)
    assert client.push(queue, "second", jobId=job_id) == job_id
    job = client.job(job_id)
    assert (job["data"], job["attempts"], job["maxAttempts"]) == ("second", 0, 3)
    assert client.take(queue).id == job_id


def test_a_job_id_is_free_again_once_its_job_was_cancelled(client: Client, queue: str, job_id: str) -> None:
    client.push(queue, "first", jobId=job_id)
    done(client.cancel(job_id))
    assert client.push(queue, "second", jobId=job_id) == job_id
    assert client.take(queue).job["data"] == "second"


def test_a_free_job_id_may_be_used_in_another_queue(client: Client, queue: str, job_id: str) -> None:
    client.push(queue, jobId=job_id)
    client.complete(queue, job_id)
    client.push("other-" + queue, jobId=job_id)
    assert client.job(job_id)["queue"] == "other-" + queue


def test_a_job_id_in_use_by_another_queue_is_refused(client: Client, queue: str, job_id: str) -> None:
    client.push(queue, "first", jobId=job_id)
    refused(client.try_push("other-" + queue, data="second", jobId=job_id), 400)
    assert client.pull("other-" + queue) is None
    assert client.job(job_id)["queue"] == queue


def test_an_old_token_does_not_fit_a_new_job_of_the_same_id(client: Client, queue: str, job_id: str) -> None:
    client.push(queue, jobId=job_id)
    old = client.take(queue)
    done(client.ack(job_id, token=old.token))
    client.push(queue, jobId=job_id)
    new = client.take(queue)
    refused(client.ack(job_id, token=old.token), 400, "Invalid or expired lock token")
    done(client.ack(job_id, token=new.token))


@pytest.mark.parametrize(
    "odd",
    ["a b", "ä-ö-ü", "日本語", "%41", "a?b", "a#b", "a&b=c", '"quoted"', "..", "-", "a\tb", "+", "😀"],
)
def test_any_text_may_be_a_job_id(client: Client, queue: str, odd: str, job_id: str) -> None:
    wanted = odd + job_id
    assert client.push(queue, jobId=wanted) == wanted
    assert client.job(wanted)["id"] == wanted
    client.complete(queue, wanted)
    assert client.state(wanted) == "completed"


def test_a_job_id_with_a_slash_is_found_by_its_escaped_path(client: Client, queue: str, job_id: str) -> None:
    wanted = f"a/{job_id}/ack"
    client.push(queue, jobId=wanted)
    assert client.job(wanted)["id"] == wanted
    client.complete(queue, wanted)


def test_a_job_id_may_have_256_characters(client: Client, queue: str, job_id: str) -> None:
    wanted = job_id.ljust(256, "x")
    client.push(queue, jobId=wanted)
    client.complete(queue, wanted)


def test_job_ids_of_256_wide_characters_work_in_a_path(client: Client, queue: str, job_id: str) -> None:
    wanted = job_id.ljust(256, "日")
    client.push(queue, jobId=wanted)
    assert client.job(wanted)["id"] == wanted


def test_concurrent_pushes_of_one_job_id_create_one_job(client: Client, queue: str, job_id: str) -> None:
    gate = threading.Barrier(8)

    def push(number: int) -> str:
        gate.wait(60)
        return client.push(queue, number, jobId=job_id)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(push, range(8))) == {job_id}
    assert client.drain(queue) == [job_id]


# -- uniqueKey -----------------------------------------------------------------


def test_a_held_unique_key_answers_the_id_of_its_holder(client: Client, queue: str) -> None:
    holder = client.push(queue, "first", uniqueKey="k")
    assert client.push(queue, "second", uniqueKey="k") == holder
    assert client.job(holder)["data"] == "first"
    assert client.drain(queue) == [holder]


def test_a_unique_key_belongs_to_its_queue(client: Client, queue: str) -> None:
    here = client.push(queue, uniqueKey="k")
    there = client.push("other-" + queue, uniqueKey="k")
    assert here != there
    assert client.drain("other-" + queue) == [there]


def test_different_unique_keys_do_not_meet(client: Client, queue: str) -> None:
    ids = [client.push(queue, uniqueKey=key) for key in ("k", "K", "k ", "k1")]
    assert client.drain(queue) == ids


def test_a_unique_key_is_held_through_activity_and_backoff(client: Client, queue: str) -> None:
    holder = client.push(queue, uniqueKey="k", backoff=60_000)
    client.take(queue)
    assert client.push(queue, uniqueKey="k") == holder
    done(client.fail(holder))
    assert client.push(queue, uniqueKey="k") == holder
    assert client.pull(queue) is None


def test_a_unique_key_is_held_by_a_delayed_job(client: Client, queue: str) -> None:
    holder = client.push(queue, uniqueKey="k", delay=60_000)
    assert client.push(queue, uniqueKey="k") == holder


def test_a_unique_key_is_free_once_its_job_completed(client: Client, queue: str) -> None:
    holder = client.push(queue, uniqueKey="k")
    client.complete(queue, holder)
    successor = client.push(queue, uniqueKey="k")
    assert successor != holder
    assert client.push(queue, uniqueKey="k") == successor


def test_a_unique_key_is_free_once_its_job_is_dead(client: Client, queue: str) -> None:
    holder = client.push(queue, uniqueKey="k", maxAttempts=1)
    client.bury(queue, holder)
    assert client.push(queue, uniqueKey="k") != holder


def test_a_unique_key_is_free_once_its_job_was_cancelled(client: Client, queue: str) -> None:
    holder = client.push(queue, uniqueKey="k")
    done(client.cancel(holder))
    assert client.push(queue, uniqueKey="k") != holder


def test_a_duplicate_of_a_unique_key_creates_no_job_of_its_own_id(client: Client, queue: str) -> None:
    holder = client.push(queue, uniqueKey="k")
    assert client.push(queue, uniqueKey="k", jobId="mine-" + queue) == holder
    assert not client.is_known("mine-" + queue)


@pytest.mark.thorough
def test_very_many_unique_keys_are_all_held(client: Client, queue: str) -> None:
    jobs = [{"data": n, "uniqueKey": f"key-{n}"} for n in range(4000)]
    thousands = [jobs[start : start + 1000] for start in range(0, 4000, 1000)]
    first = [client.push_bulk(queue, part) for part in thousands]
    assert len({job_id for ids in first for job_id in ids}) == 4000
    assert [client.push_bulk(queue, part) for part in thousands] == first


def test_both_kinds_of_duplicate_are_sent_to_listeners(client: Client, queue: str, job_id: str) -> None:
    with client.events(queue) as wait:
        client.push(queue, jobId=job_id)
        client.push(queue, jobId=job_id)
        assert wait("duplicated", job_id)["queue"] == queue
        holder = client.push(queue, uniqueKey="k")
        client.push(queue, uniqueKey="k")
        assert wait("duplicated", holder)["queue"] == queue


def test_a_duplicate_counts_as_no_push(fresh_client: Client, queue: str) -> None:
    fresh_client.push(queue, uniqueKey="k", jobId="one")
    fresh_client.push(queue, uniqueKey="k")
    fresh_client.push(queue, jobId="one")
    assert ok(fresh_client.get("/metrics"))["metrics"]["totalPushed"] == 1
    eventually(lambda: ok(fresh_client.get("/stats"))["stats"]["queued"], 1)
