"""What browsers and proxies say of who asks, and what is made of it."""

import pytest

from bunqueue_trio.api.access import client_key
from tests.wire import raw
from tests.wire.server import StartServer

MINE = "https://app.example"


def test_a_reader_that_comes_back_gets_its_headers(start_server: StartServer) -> None:
    """The library that the reference recommends sends Last-Event-ID; who does not ask sees the documented two."""
    server = start_server({})
    asked = "Access-Control-Request-Headers: authorization, Last-Event-ID,cache-control,x-other"
    response = raw.request(server.address, "OPTIONS", "/events", b"", f"Origin: {MINE}", asked)
    allowed = response.headers["access-control-allow-headers"]
    assert allowed == "Content-Type, Authorization, Last-Event-ID, Cache-Control"


@pytest.mark.slow
def test_pages_of_others_are_refused(start_server: StartServer) -> None:
    """A form, an image or a WebSocket needs no leave of CORS."""
    server = start_server({"CORS_ALLOW_ORIGIN": MINE})
    upgrade = (
        "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    )  # fmt: skip
    foreign = ["Origin: https://evil.example", "Origin: null", "Sec-Fetch-Site: cross-site"]
    for header in foreign:
        assert raw.request(server.address, "POST", "/queues/q/jobs", b'{"data":1}', header).status_code == 403
        assert raw.request(server.address, "GET", "/queues/q/jobs", b"", header).status_code == 403
        assert raw.request(server.address, "GET", "/ws", b"", header, *upgrade).status_code == 403
        assert raw.request(server.address, "GET", "/live", b"", header).status_code == 200
    for header in ("X: y", f"Origin: {MINE}", "Origin: http://x", "Sec-Fetch-Site: same-origin"):
        assert raw.request(server.address, "POST", "/queues/q/jobs", b'{"data":1}', header).status_code == 200
    assert raw.request(server.address, "GET", "/docs", b"", "Sec-Fetch-Site: cross-site").status_code == 200


def test_a_coded_body_is_refused_in_words(start_server: StartServer) -> None:
    """It would be no JSON."""
    server = start_server({})
    response = raw.request(server.address, "POST", "/queues/q/jobs", b"\x1f\x8b", "Content-Encoding: gzip")
    assert response.status_code == 415
    assert response.json()["ok"] is False
    plain = raw.request(server.address, "POST", "/queues/q/jobs", b'{"data":1}', "Content-Encoding: identity")
    assert plain.status_code == 200


@pytest.mark.slow
def test_the_documentation_is_in_nobodys_frame(start_server: StartServer) -> None:
    """A page cannot say that of itself."""
    response = raw.request(start_server({}).address, "GET", "/docs")
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["content-security-policy"] == "frame-ancestors 'none'"


@pytest.mark.parametrize(
    ("sent", "key"),
    [
        ("192.0.2.1", "192.0.2.1"), ("192.0.2.1:8080", "192.0.2.1"), ("::ffff:192.0.2.1", "192.0.2.1"),
        ("[::FFFF:192.0.2.1]:80", "192.0.2.1"), ('for="[2001:DB8::1]:80"', "2001:db8::1"),
        ("2001:db8:0:0::1", "2001:db8::1"), ("For=192.0.2.1;proto=http", "192.0.2.1"), ("Nonsense", "nonsense"),
        (":80", "unknown"), ("x" * 1000, "x" * 128),
    ],
)  # fmt: skip
def test_an_address_has_one_spelling(sent: str, key: str) -> None:
    """Each proxy writes it in its own way, and a port is new with each connection."""
    assert client_key({"x-forwarded-for": f"{sent}, 10.0.0.1"}) == key
    assert client_key({"x-real-ip": sent}) == key
