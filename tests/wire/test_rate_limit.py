"""Rate limits: a number of requests per client in any window, counted where the contract says."""

import time

import pytest

from tests.wire import raw
from tests.wire.client import ok, refused
from tests.wire.server import Server, StartServer

MOST = 3
WINDOW_MS = 2000  # three requests fit, on a busy machine too; how it slides is for the tests of the limiter
PUSH = b'{"data":1}'


@pytest.fixture(scope="module")
def limited(start_server: StartServer) -> Server:
    """A server whose window outlasts the module; each test has addresses of its own."""
    env = {"RATE_LIMIT_MAX_REQUESTS": str(MOST), "RATE_LIMIT_WINDOW_MS": "600000"}
    return start_server(env)


@pytest.fixture(scope="module")
def sliding(start_server: StartServer) -> Server:
    env = {"RATE_LIMIT_MAX_REQUESTS": "2", "RATE_LIMIT_WINDOW_MS": str(WINDOW_MS)}
    return start_server(env | {"RATE_LIMIT_CLEANUP_MS": "100"})


def ask(server: Server, *headers: str, method: str = "GET", path: str = "/stats") -> int:
    body = PUSH if method == "POST" else b""
    return raw.request(server.address, method, path, body, *headers).status_code


def statuses(server: Server, count: int, *headers: str) -> list[int]:
    return [ask(server, *headers) for _ in range(count)]


def test_requests_beyond_the_rate_limit_are_refused(limited: Server) -> None:
    address = "X-Forwarded-For: 10.0.0.1"
    assert statuses(limited, MOST, address) == [200] * MOST
    response = raw.request(limited.address, "GET", "/stats", b"", address)
    refused(response, 429, "Rate limit exceeded")
    assert 1 <= int(response.headers["retry-after"]) <= 600


def test_clients_are_counted_apart(limited: Server) -> None:
    assert statuses(limited, MOST + 1, "X-Forwarded-For: 10.0.1.1")[-1] == 429
    assert ask(limited, "X-Forwarded-For: 10.0.1.2") == 200


def test_the_first_forwarded_address_is_the_client(limited: Server) -> None:
    for proxies in ("", ", 192.168.0.1", ",192.168.0.2, 192.168.0.3"):
        assert ask(limited, f"X-Forwarded-For: 10.0.2.1{proxies}") == 200
    assert ask(limited, "X-Forwarded-For:   10.0.2.1 , 192.168.0.4") == 429
    assert ask(limited, "X-Forwarded-For: 192.168.0.1") == 200


def test_the_real_ip_counts_where_nothing_was_forwarded(limited: Server) -> None:
    assert statuses(limited, MOST + 1, "X-Real-IP: 10.0.3.1")[-1] == 429
    assert ask(limited, "X-Real-IP: 10.0.3.2") == 200


def test_the_forwarded_address_goes_before_the_real_ip(limited: Server) -> None:
    for number in range(MOST + 1):
        assert ask(limited, f"X-Forwarded-For: 10.0.4.{number}", "X-Real-IP: 10.0.4.99") == 200
    assert ask(limited, "X-Real-IP: 10.0.4.99") == 200


def test_clients_without_an_address_are_one_client(limited: Server) -> None:
    assert statuses(limited, MOST + 1) == [200] * MOST + [429]


def test_every_kind_of_request_counts_for_the_rate_limit(limited: Server) -> None:
    address = "X-Forwarded-For: 10.0.5.1"
    assert ask(limited, address, method="POST", path="/queues/q/jobs") == 200
    assert ask(limited, address, path="/no/such/path") == 404
    assert ask(limited, address, path="/queues/q/jobs") == 200
    assert ask(limited, address, method="POST", path="/queues/q/jobs") == 429
    assert ask(limited, address, path="/no/such/path") == 429
    assert ask(limited, address, path="/jobs/x") == 429


def test_a_push_beyond_the_rate_limit_creates_nothing(limited: Server, queue: str) -> None:
    address = "X-Forwarded-For: 10.0.6.1"
    statuses(limited, MOST, address)
    assert ask(limited, address, method="POST", path=f"/queues/{queue}/jobs") == 429
    other = "X-Forwarded-For: 10.0.6.2"
    answer = raw.request(limited.address, "GET", f"/queues/{queue}/jobs", b"", other)
    assert ok(answer)["job"] is None


def test_probes_have_no_rate_limit(limited: Server) -> None:
    address = "X-Forwarded-For: 10.0.7.1"
    probes = [("GET", "/health"), ("GET", "/healthz"), ("GET", "/live"), ("GET", "/ready")]
    probes += [("POST", "/gc"), ("GET", "/heapstats")]
    for method, path in probes * 2:
        assert ask(limited, address, method=method, path=path) == 200
    assert ask(limited, address, method="OPTIONS", path="/stats") == 204
    assert statuses(limited, MOST + 1, address) == [200] * MOST + [429]
    for method, path in probes:
        assert ask(limited, address, method=method, path=path) == 200
    assert ask(limited, address, method="OPTIONS", path="/stats") == 204


@pytest.mark.parametrize("address", ["x" * 5000, "\xe4\xff", "[::1]:80", "a b c", ",", " , 1.2.3.4"])
def test_an_odd_address_is_no_error(limited: Server, address: str) -> None:
    assert ask(limited, f"X-Forwarded-For: {address}") in {200, 429}


@pytest.mark.slow
def test_a_request_that_left_the_window_makes_room(sliding: Server) -> None:
    address = "X-Forwarded-For: 10.1.0.1"
    assert statuses(sliding, 3, address) == [200, 200, 429]
    time.sleep(WINDOW_MS / 1000 + 0.1)
    assert statuses(sliding, 3, address) == [200, 200, 429]


@pytest.mark.slow
def test_retry_after_is_long_enough(sliding: Server) -> None:
    address = "X-Forwarded-For: 10.1.3.1"
    statuses(sliding, 2, address)
    response = raw.request(sliding.address, "GET", "/stats", b"", address)
    refused(response, 429, "Rate limit exceeded")
    time.sleep(int(response.headers["retry-after"]) + 0.05)
    assert ask(sliding, address) == 200


@pytest.mark.slow
def test_the_rate_limit_comes_before_authentication(start_server: StartServer) -> None:
    server = start_server({"RATE_LIMIT_MAX_REQUESTS": "2", "AUTH_TOKENS": "t"})
    assert statuses(server, 3) == [401, 401, 429]
    server.kill()


@pytest.mark.slow
def test_there_is_no_rate_limit_by_default(server: Server) -> None:
    with raw.connected(server.address) as sock:
        for _ in range(500):
            sock.sendall(raw.request_bytes("GET", "/metrics", b"", "X-Forwarded-For: 10.2.0.1"))
            assert raw.read_response(sock).status_code == 200
