"""A slip in a request that deletes much: it is refused, and nothing is changed."""

import httpx

from bunqueue_trio import commands as c
from tests.commands.carriers import Api
from tests.patience import PATIENCE_S
from tests.stream.ws import peer
from tests.wire.server import NO_TLS, Server


async def test_a_slip_deletes_nothing(api: Api, server: Server, slow_lane: Server, queue: str):
    ids = [await api.push(queue, max_attempts=1) for _ in range(2)]
    for job_id in ids:
        await api.run(c.Discard(id=job_id))
    where = f"/queues/{queue}/dlq/purge"
    for running in (server, slow_lane):
        async with httpx.AsyncClient(
            base_url=running.url, trust_env=False, timeout=PATIENCE_S, verify=NO_TLS
        ) as client:
            said = await client.post(where, json={"jobID": ids[0]})
            assert (said.status_code, said.json()) == (
                400, {"ok": False, "error": "unknown field: jobID", "code": "unknown-field"},
            )  # fmt: skip
            said = await client.post(f"{where}?jobId={ids[0]}")
            assert (said.status_code, said.json()["code"]) == (400, "unknown-field")
            assert said.json()["error"] == "unknown field: jobId (in the query: fields belong in the body)"
    with peer(server, quiet=True) as connected:
        told = connected.ask("PurgeDlq", queue=queue, jobID=ids[0])
        assert (told["error"], told["code"]) == ("unknown field: jobID", "unknown-field")
    assert (await api.run(c.Dlq(queue=queue))).total == 2
    assert (await api.run(c.PurgeDlq(queue=queue, job_id=ids[0]))).count == 1
