"""AUTH_TOKENS: who is let in, and what is open to everybody."""

import re
from collections.abc import Iterator

import pytest

from bunqueue_trio.protocol.routes import ROUTES
from tests.wire import raw
from tests.wire.client import Client, ok, refused
from tests.wire.server import Server, StartServer

PUSH = b'{"data":1}'

OPEN = [
    ("GET", "/health"),
    ("GET", "/healthz"),
    ("GET", "/live"),
    ("GET", "/ready"),
    ("POST", "/gc"),
    ("GET", "/heapstats"),
]
PUBLIC = [
    ("GET", "/prometheus"),
    ("GET", "/openapi.json"),
    ("GET", "/docs"),
    ("GET", "/docs/swagger-ui.css"),
    ("GET", "/docs/swagger-ui-bundle.js"),
    ("GET", "/docs/start.js"),
]
"""What needs no token by default, and is limited in rate all the same."""

EVERY = [(route.method, re.sub(r":\w+", "x", route.path)) for route in ROUTES if route.target != "websocket"]
PROTECTED = [each for each in EVERY if each not in OPEN + PUBLIC]
"""Everything else, whatever is added to the table of routes."""


@pytest.fixture(scope="module")
def locked(start_server: StartServer) -> Server:
    return start_server({"AUTH_TOKENS": " secret-token-1 , ,secret-token-2,, "})


@pytest.fixture
def client(locked: Server) -> Iterator[Client]:
    """A client that may come in."""
    with Client(locked.url, {"Authorization": "Bearer secret-token-1"}) as connected:
        yield connected


def unauthorized(server: Server, method: str, path: str, *headers: str) -> None:
    response = raw.request(server.address, method, path, PUSH if method == "POST" else b"", *headers)
    refused(response, 401, "Unauthorized")
    assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(("method", "path"), PROTECTED)
def test_nobody_comes_in_without_a_token(locked: Server, method: str, path: str) -> None:
    unauthorized(locked, method, path)


@pytest.mark.parametrize(
    "value",
    [
        "Bearer wrong",
        "Bearer secret-token-",
        "Bearer secret-token-11",
        "Bearer Secret-Token-1",
        "Bearer secret-token-1,secret-token-2",
        "Bearer",
        "Bearer ",
        "Bearer  ",
        "Bearer ,",
        "Bearer null",
        "Basic secret-token-1",
        "Token secret-token-1",
        "secret-token-1",
        "Bearersecret-token-1",
        "",
        "Bearer \xe4\xf6\xfc\xff",
        "Bearer " + "x" * 5000,
    ],
)
@pytest.mark.parametrize(("method", "path"), [("POST", "/queues/q/jobs"), ("GET", "/stats")])
def test_nothing_but_a_configured_token_lets_in(locked: Server, method: str, path: str, value: str) -> None:
    unauthorized(locked, method, path, f"Authorization: {value}")


def test_a_token_elsewhere_does_not_count(locked: Server) -> None:
    unauthorized(locked, "GET", "/stats?token=secret-token-1")
    unauthorized(locked, "GET", "/stats", "X-Authorization: Bearer secret-token-1")


@pytest.mark.parametrize("token", ["secret-token-1", "secret-token-2"])
def test_every_configured_token_lets_in(locked: Server, queue: str, token: str) -> None:
    with Client(locked.url, {"Authorization": f"Bearer {token}"}) as client:
        job_id = client.push(queue)
        client.complete(queue, job_id)
        ok(client.get("/stats"))
        ok(client.get("/metrics"))


def test_a_refused_push_creates_nothing(locked: Server, client: Client, queue: str) -> None:
    unauthorized(locked, "POST", f"/queues/{queue}/jobs")
    assert client.pull(queue) is None


def test_a_refused_pull_takes_nothing(locked: Server, client: Client, queue: str) -> None:
    job_id = client.push(queue)
    unauthorized(locked, "GET", f"/queues/{queue}/jobs?timeout=1000")
    unauthorized(locked, "POST", f"/queues/{queue}/jobs/pull-batch")
    unauthorized(locked, "DELETE", f"/jobs/{job_id}")
    assert client.state(job_id) == "waiting"


@pytest.mark.parametrize(("method", "path"), OPEN)
def test_probes_and_debug_endpoints_are_open(locked: Server, method: str, path: str) -> None:
    for headers in ([], ["Authorization: Bearer wrong"]):
        assert raw.request(locked.address, method, path, b"", *headers).status_code == 200


@pytest.mark.parametrize("path", ["/queues/q/jobs", "/stats", "/no/such/path", "/jobs/x/ack"])
def test_preflight_is_open(locked: Server, path: str) -> None:
    assert raw.request(locked.address, "OPTIONS", path).status_code == 204


def test_authentication_comes_before_the_route_and_the_body(locked: Server, client: Client) -> None:
    unauthorized(locked, "GET", "/no/such/path")
    unauthorized(locked, "PUT", "/stats")
    unauthorized(locked, "POST", "/queues/a%20b/jobs")
    unauthorized(locked, "GET", "/queues/q/jobs?timeout=abc")
    refused(client.get("/no/such/path"), 404)
    refused(client.http.put("/stats"), 405)


def test_metrics_for_scraping_are_open_by_default(locked: Server) -> None:
    assert raw.request(locked.address, "GET", "/prometheus").status_code == 200


def test_a_websocket_without_a_token_is_refused(locked: Server) -> None:
    upgrade = (
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )
    for path in ("/ws", "/ws/queues/q"):
        for extra in ((), ("Authorization: Bearer wrong",)):
            response = raw.request(locked.address, "GET", path, b"", *upgrade, *extra)
            assert response.status_code == 401


@pytest.mark.slow
def test_no_tokens_configure_no_authentication(start_server: StartServer, queue: str) -> None:
    server = start_server({"AUTH_TOKENS": ""})
    with Client(server.url) as anybody:
        anybody.push(queue)
    server.kill()


def test_a_token_is_not_needed_where_none_is_configured(server: Server, queue: str) -> None:
    with Client(server.url, {"Authorization": "Bearer whatever"}) as somebody:
        somebody.push(queue)
