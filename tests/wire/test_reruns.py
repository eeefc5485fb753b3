"""A rerun of a server that is killed: it goes on after each start, and retries nothing twice."""

import httpx
import pytest

from tests.wire.client import eventually
from tests.wire.server import NO_TLS, Server

pytestmark = pytest.mark.slow


def test_a_rerun_goes_on_over_kills_and_retries_nothing_twice(fresh: Server):
    with httpx.Client(base_url=fresh.url, trust_env=False, verify=NO_TLS, timeout=60) as api:
        ids = api.post("/queues/q/jobs/bulk", json={"jobs": [{"data": n, "maxAttempts": 1} for n in range(40)]}).json()[
            "ids"
        ]
        taken = api.post("/queues/q/jobs/pull-batch", json={"count": 40}).json()["jobs"]
        assert len(taken) == 40
        for job_id in ids:
            api.post(f"/jobs/{job_id}/fail", json={"error": "late"})
        asked = {"filter": {"queue": "q"}, "count": 5, "rate": 20, "force": True}
        rerun = api.post("/dead/rerun", json=asked).json()["rerun"]["id"]
    done: list[str] = []

    def work() -> dict[str, object]:
        """Do what is there, and return how far the rerun is."""
        with httpx.Client(base_url=fresh.url, trust_env=False, verify=NO_TLS, timeout=60) as api:
            pulled = api.post("/queues/q/jobs/pull-batch", json={"count": 7}).json()
            for job, token in zip(pulled["jobs"], pulled["tokens"], strict=True):
                assert api.post(f"/jobs/{job['id']}/ack", json={"token": token}).status_code == 200
                done.append(job["id"])
            (told,) = api.get("/dead/reruns").json()["reruns"]
            assert told["id"] == rerun
            return dict(told)

    for _ in range(3):
        before = len(done)
        eventually(lambda before=before: bool(work()) and len(done) > before, True)
        fresh.kill()
        fresh.start()
    eventually(lambda: work()["state"], "done")
    assert sorted(done) == sorted(ids)
    assert (work()["retried"], work()["died"]) == (40, 0)
