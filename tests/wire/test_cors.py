"""CORS: every answer may be read by the origins that are configured, and by no other."""

import pytest

from tests.wire import raw
from tests.wire.server import Server, StartServer

PUSH = b'{"data":1}'
ANSWERS = [
    ("GET", "/ready", b"", 200),
    ("GET", "/stats", b"", 200),
    ("POST", "/queues/cors/jobs", PUSH, 200),
    ("GET", "/queues/cors/jobs", b"", 200),
    ("POST", "/queues/cors/jobs", b"{", 400),
    ("GET", "/queues/a%20b/jobs", b"", 400),
    ("GET", "/queues/%zz/jobs", b"", 400),
    ("POST", "/jobs/x/ack", b"", 400),
    ("GET", "/jobs/no-such-job", b"", 404),
    ("GET", "/no/such/path", b"", 404),
    ("PUT", "/stats", b"", 405),
]
FIRST, SECOND, FOREIGN = "https://a.example", "https://b.example:8443", "https://evil.example"


def preflight(server: Server, path: str, *headers: str) -> dict[str, str]:
    response = raw.request(server.address, "OPTIONS", path, b"", *headers)
    assert response.status_code == 204
    assert response.content == b""
    return dict(response.headers)


def origin_of(server: Server, method: str, path: str, body: bytes, *headers: str) -> str | None:
    response = raw.request(server.address, method, path, body, *headers)
    allowed: str | None = response.headers.get("access-control-allow-origin")
    return allowed


@pytest.mark.parametrize(
    "path",
    ["/queues/q/jobs", "/jobs/x", "/jobs/x/ack", "/stats", "/health", "/gc", "/events", "/", "/no/such/path"],
)
def test_preflight_of_any_path_has_the_documented_headers(server: Server, path: str) -> None:
    headers = preflight(server, path)
    assert headers["access-control-allow-origin"] == "*"
    assert headers["access-control-allow-methods"] == "GET, POST, PUT, DELETE, OPTIONS"
    assert headers["access-control-allow-headers"] == "Content-Type, Authorization"
    assert headers["access-control-max-age"] == "86400"


def test_preflight_of_a_browser_is_answered(server: Server) -> None:
    headers = preflight(
        server,
        "/queues/q/jobs",
        f"Origin: {FOREIGN}",
        "Access-Control-Request-Method: POST",
        "Access-Control-Request-Headers: content-type",
    )
    assert headers["access-control-allow-origin"] == "*"


def test_preflight_leaves_the_connection_usable(server: Server) -> None:
    with raw.connected(server.address) as sock:
        for method, status in [("OPTIONS", 204), ("GET", 200), ("OPTIONS", 204), ("GET", 200)]:
            sock.sendall(raw.request_bytes(method, "/ready"))
            assert raw.read_response(sock, method).status_code == status


@pytest.mark.parametrize(("method", "path", "body", "status"), ANSWERS)
def test_every_json_answer_is_open_to_all_by_default(
    server: Server, method: str, path: str, body: bytes, status: int
) -> None:
    for headers in ((), (f"Origin: {FOREIGN}",)):
        response = raw.request(server.address, method, path, body, *headers)
        assert response.status_code == status
        assert response.headers["access-control-allow-origin"] == "*"


@pytest.fixture(scope="module")
def picky(start_server: StartServer) -> Server:
    return start_server({"CORS_ALLOW_ORIGIN": f"{FIRST}, {SECOND}", "AUTH_TOKENS": "t"})


AS_USER = "Authorization: Bearer t"


@pytest.mark.parametrize("origin", [FIRST, SECOND])
@pytest.mark.parametrize(("method", "path", "body", "status"), ANSWERS)
def test_the_matching_origin_of_several_is_echoed(
    picky: Server, method: str, path: str, body: bytes, status: int, origin: str
) -> None:
    response = raw.request(picky.address, method, path, body, AS_USER, f"Origin: {origin}")
    assert response.status_code == status
    assert response.headers["access-control-allow-origin"] == origin
    assert "Origin" in response.headers["vary"]


@pytest.mark.parametrize(
    "origin", [FOREIGN, FIRST + ".evil.example", "https://a.exampl", "http://a.example", "null", FIRST + "/"]
)
def test_another_origin_is_never_echoed(picky: Server, origin: str) -> None:
    for method, path, body, _ in ANSWERS:
        allowed = origin_of(picky, method, path, body, AS_USER, f"Origin: {origin}")
        assert allowed not in {origin, "*"}


def test_a_refusal_to_let_in_can_be_read_by_the_matching_origin(picky: Server) -> None:
    response = raw.request(picky.address, "GET", "/stats", b"", f"Origin: {SECOND}")
    assert response.status_code == 401
    assert response.headers["access-control-allow-origin"] == SECOND


def test_preflight_echoes_the_matching_origin(picky: Server) -> None:
    headers = preflight(picky, "/queues/q/jobs", f"Origin: {SECOND}")
    assert headers["access-control-allow-origin"] == SECOND
    assert headers["access-control-allow-methods"] == "GET, POST, PUT, DELETE, OPTIONS"
    assert preflight(picky, "/", f"Origin: {FOREIGN}").get("access-control-allow-origin") != FOREIGN


@pytest.mark.slow
def test_a_single_configured_origin_is_the_one_allowed(start_server: StartServer) -> None:
    server = start_server({"CORS_ALLOW_ORIGIN": FIRST})
    assert origin_of(server, "GET", "/ready", b"", f"Origin: {FIRST}") == FIRST
    assert origin_of(server, "GET", "/ready", b"", f"Origin: {FOREIGN}") not in {FOREIGN, "*"}
    server.kill()
