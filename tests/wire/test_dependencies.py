"""`dependsOn`: a job waits for what can still come, and for nothing else."""

import pytest

from tests.wire.client import Client, done, eventually, refused


@pytest.fixture
def children(queue: str) -> str:
    """The queue of the jobs that are waited for."""
    return "children-" + queue


def test_a_job_waits_for_its_dependency(client: Client, queue: str, children: str) -> None:
    child = client.push(children)
    parent = client.push(queue, dependsOn=[child])
    assert client.state(parent) == "waiting-children"
    assert client.pull(queue) is None
    client.complete(children, child)
    assert client.state(parent) == "waiting"
    assert client.take(queue).id == parent


def test_a_job_waits_for_all_of_its_dependencies(client: Client, queue: str, children: str) -> None:
    first, second, third = (client.push(children) for _ in range(3))
    parent = client.push(queue, dependsOn=[first, second, third])
    client.complete(children, first)
    client.complete(children, second)
    assert client.state(parent) == "waiting-children"
    assert client.pull(queue) is None
    client.complete(children, third)
    assert client.take(queue).id == parent


def test_a_dependency_completed_before_counts(client: Client, queue: str, children: str) -> None:
    child = client.push(children)
    client.complete(children, child)
    parent = client.push(queue, dependsOn=[child])
    assert client.state(parent) == "waiting"
    assert client.take(queue).id == parent


def test_a_dependency_removed_on_completion_counts(client: Client, queue: str, children: str) -> None:
    child = client.push(children, removeOnComplete=True)
    client.complete(children, child)
    assert not client.is_known(child)
    parent = client.push(queue, dependsOn=[child])
    assert client.take(queue).id == parent


def test_a_dependency_removed_on_completion_releases_who_waits(client: Client, queue: str, children: str) -> None:
    child = client.push(children, removeOnComplete=True)
    parent = client.push(queue, dependsOn=[child])
    client.complete(children, child)
    assert client.take(queue).id == parent


def test_one_open_dependency_is_enough_to_wait(client: Client, queue: str, children: str) -> None:
    closed, open_ = client.push(children), client.push(children)
    client.complete(children, closed)
    parent = client.push(queue, dependsOn=[closed, open_])
    assert client.state(parent) == "waiting-children"
    client.complete(children, open_)
    assert client.take(queue).id == parent


def test_the_same_dependency_named_twice_is_one(client: Client, queue: str, children: str) -> None:
    child = client.push(children)
    parent = client.push(queue, dependsOn=[child, child])
    client.complete(children, child)
    assert client.take(queue).id == parent


def test_one_job_releases_all_that_wait_for_it(client: Client, queue: str, children: str) -> None:
    child = client.push(children)
    parents = [client.push(queue, dependsOn=[child]) for _ in range(5)]
    assert client.pull(queue) is None
    client.complete(children, child)
    assert sorted(client.drain(queue)) == sorted(parents)


def test_a_chain_is_worked_in_order(client: Client, queue: str) -> None:
    first = client.push(queue, priority=0)
    second = client.push(queue, priority=5, dependsOn=[first])
    third = client.push(queue, priority=9, dependsOn=[second])
    for job_id in (first, second, third):
        client.complete(queue, job_id)
    assert client.pull(queue) is None


def test_a_retry_of_the_dependency_is_waited_for(client: Client, queue: str, children: str) -> None:
    child = client.push(children, backoff=0)
    parent = client.push(queue, dependsOn=[child])
    done(client.fail(client.take(children).id))
    assert client.state(parent) == "waiting-children"
    client.complete(children, child)
    assert client.take(queue).id == parent


def test_an_unknown_dependency_is_refused(client: Client, queue: str) -> None:
    unknown = "no-such-" + queue
    refused(client.try_push(queue, data=1, dependsOn=[unknown]), 400, f"Dependency job not found: {unknown}")
    assert client.pull(queue) is None


def test_an_unknown_dependency_beside_a_known_one_is_refused(client: Client, queue: str, children: str) -> None:
    child, unknown = client.push(children), "no-such-" + queue
    response = client.try_push(queue, data=1, jobId="parent-" + queue, dependsOn=[child, unknown])
    refused(response, 400, f"Dependency job not found: {unknown}")
    assert not client.is_known("parent-" + queue)


def test_earlier_jobs_of_a_bulk_push_count_as_known(client: Client, queue: str) -> None:
    ids = client.push_bulk(
        queue,
        [
            {"data": 1, "jobId": "first-" + queue},
            {"data": 2, "dependsOn": ["first-" + queue]},
        ],
    )
    assert client.state(ids[1]) == "waiting-children"
    client.complete(queue, ids[0])
    assert client.take(queue).id == ids[1]


def test_later_jobs_of_a_bulk_push_are_unknown(client: Client, queue: str) -> None:
    jobs = [{"data": 1, "dependsOn": ["later-" + queue]}, {"data": 2, "jobId": "later-" + queue}]
    error = refused(client.post(f"/queues/{queue}/jobs/bulk", {"jobs": jobs}))
    assert f"Dependency job not found: later-{queue}" in error
    assert not client.is_known("later-" + queue)
    assert client.pull(queue) is None


def test_a_dead_dependency_sends_the_dependent_to_the_dead_letters(client: Client, queue: str, children: str) -> None:
    child = client.push(children, maxAttempts=1)
    parent = client.push(queue, dependsOn=[child])
    with client.events(queue) as wait:
        client.bury(children, child)
        assert client.state(parent) == "failed"
        assert wait("failed", parent)["error"] == f"Dependency {child} failed"
    assert client.pull(queue) is None


def test_a_cancelled_dependency_sends_the_dependent_to_the_dead_letters(
    client: Client, queue: str, children: str
) -> None:
    child, other = client.push(children), client.push(children)
    parent = client.push(queue, dependsOn=[child, other])
    done(client.cancel(child))
    assert client.state(parent) == "failed"
    client.complete(children, other)
    assert client.state(parent) == "failed"
    assert client.pull(queue) is None


@pytest.mark.slow
def test_an_expired_dependency_sends_the_dependent_to_the_dead_letters(
    client: Client, queue: str, children: str
) -> None:
    child = client.push(children, ttl=150)
    parent = client.push(queue, dependsOn=[child])
    assert client.state(parent) == "waiting-children"
    eventually(lambda: client.state(parent), "failed")


def test_a_failure_goes_up_a_chain_at_once(client: Client, queue: str, children: str) -> None:
    child = client.push(children, maxAttempts=1)
    parent = client.push(queue, dependsOn=[child])
    grandparent = client.push(queue, dependsOn=[parent])
    client.bury(children, child)
    assert [client.state(parent), client.state(grandparent)] == ["failed", "failed"]


def test_a_dead_dependent_frees_its_unique_key(client: Client, queue: str, children: str) -> None:
    child = client.push(children, maxAttempts=1)
    parent = client.push(queue, dependsOn=[child], uniqueKey="k")
    client.bury(children, child)
    assert client.push(queue, uniqueKey="k") != parent


def test_a_dependent_can_be_cancelled(client: Client, queue: str, children: str) -> None:
    child = client.push(children)
    parent = client.push(queue, dependsOn=[child])
    done(client.cancel(parent))
    client.complete(children, child)
    assert not client.is_known(parent)
    assert client.pull(queue) is None
