"""Who did it: the name of a token, and an address, on both lanes and over WebSocket; and that it outlives a kill."""

from typing import Any

import pytest

from tests.stream.ws import peer
from tests.wire.client import Client, ok
from tests.wire.server import Server, StartServer


@pytest.fixture(scope="module", params=["express", "hypercorn"])
def named(
    request: pytest.FixtureRequest, start_server: StartServer, tmp_path_factory: pytest.TempPathFactory
) -> Server:
    file = tmp_path_factory.mktemp("tokens") / "tokens"
    file.write_text("ann admin a-1\n")
    settings = {"AUTH_TOKENS": "bare", "AUTH_TOKENS_FILE": str(file)}
    return start_server(settings | ({"EXPRESS": "false"} if request.param == "hypercorn" else {}))


def last(server: Server) -> dict[str, Any]:
    with Client(server.url, {"Authorization": "Bearer bare"}) as client:
        action: dict[str, Any] = ok(client.get("/actions?limit=1"))["actions"][0]
        return action


@pytest.mark.parametrize(
    ("headers", "who", "address"),
    [
        ({"Authorization": "Bearer a-1"}, "ann", "127.0.0.1"),
        ({"Authorization": "Bearer bare"}, "token", "127.0.0.1"),
        ({"Authorization": "Bearer a-1", "X-Forwarded-For": "203.0.113.7"}, "ann", "203.0.113.7 via 127.0.0.1"),
    ],
)
def test_an_act_says_who_did_it(named: Server, queue: str, headers: dict[str, str], who: str, address: str):
    with Client(named.url, headers) as client:
        ok(client.post(f"/queues/{queue}/pause", {}))
    assert (last(named)["queue"], last(named)["who"], last(named)["address"]) == (queue, who, address)
    with peer(named, quiet=True, **headers) as connected:
        connected.done("Resume", queue=queue)
        assert (last(named)["command"], last(named)["who"], last(named)["address"]) == ("Resume", who, address)
        connected.done("Auth", token="a-1")
        connected.done("Pause", queue=queue)
        assert last(named)["who"] == "ann"


@pytest.mark.slow
def test_what_was_done_outlives_a_kill(fresh: Server, queue: str):
    with Client(fresh.url) as client:
        ok(client.post(f"/queues/{queue}/pause", {"reason": "for ever"}))
        before = ok(client.get("/actions"))
    fresh.kill()
    fresh.start()
    with Client(fresh.url) as client:
        assert ok(client.get("/actions")) == before
        assert before["actions"][0]["fields"] == {"reason": "for ever"}


@pytest.mark.slow
def test_attempts_and_logs_outlive_a_kill(fresh: Server, queue: str):
    with Client(fresh.url) as client:
        job_id = client.push(queue, 1, backoff=0)
        token = ok(client.get(f"/queues/{queue}/jobs"))["token"]
        ok(client.post(f"/jobs/{job_id}/logs", {"message": "half way"}))
        ok(client.post(f"/jobs/{job_id}/fail", {"token": token, "error": "boom", "stack": ["line 1", "line 2"]}))
        before = [ok(client.get(f"/jobs/{job_id}/{what}")) for what in ("attempts", "logs")]
    fresh.kill()
    fresh.start()
    with Client(fresh.url) as client:
        assert [ok(client.get(f"/jobs/{job_id}/{what}")) for what in ("attempts", "logs")] == before
        assert before[0]["attempts"][0]["stack"] == '["line 1","line 2"]'
        assert before[1]["data"]["count"] == 1
