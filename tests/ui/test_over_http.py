"""The dashboard over real sockets: who is led to it, who never notices it, and that streams open with a ticket."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import httpx
import pytest
from websockets.exceptions import InvalidMessage, InvalidStatus
from websockets.sync.client import connect

from bunqueue_trio.protocol.routes import ROUTES
from tests.patience import PATIENCE_S
from tests.wire import raw
from tests.wire.conftest import start_server  # noqa: F401 - a fixture
from tests.wire.server import Server, StartServer

# Each has a real server; the pages themselves are in all others.
pytestmark = pytest.mark.thorough

HTML = "Accept: text/html,application/xhtml+xml,*/*;q=0.8"
LIMIT_BYTES = 100 * 1024


@pytest.fixture(scope="module", params=["true", "false"], ids=["express", "hypercorn"])
def lane(request: pytest.FixtureRequest, start_server: StartServer) -> Server:  # noqa: F811
    return start_server({"EXPRESS": request.param})


@pytest.fixture(scope="module")
def locked(start_server: StartServer) -> Server:  # noqa: F811
    return start_server({"AUTH_TOKENS": "secret-token-1"})


@pytest.fixture
def browser(lane: Server) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=lane.url, headers={"Accept": "text/html"}, trust_env=False, timeout=PATIENCE_S
    ) as client:
        yield client


def test_a_browser_is_led_from_the_root_to_the_dashboard(lane: Server) -> None:
    response = raw.request(lane.address, "GET", "/", b"", HTML)
    assert (response.status_code, response.headers["location"], response.content) == (303, "ui", b"")
    assert raw.request(lane.address, "HEAD", "/", b"", HTML).status_code == 303


@pytest.mark.parametrize("accept", [[], ["Accept: */*"], ["Accept: application/json"]])
def test_a_program_finds_at_the_root_what_it_always_found(lane: Server, accept: list[str]) -> None:
    response = raw.request(lane.address, "GET", "/", b"", *accept)
    assert (response.status_code, response.content) == (404, b'{"ok":false,"error":"Not found"}')
    assert set(response.headers) == {"content-length", "content-type", "access-control-allow-origin", "date"}
    assert raw.request(lane.address, "POST", "/", b"{}", HTML).status_code == 404


def test_pages_come_with_headers_that_let_nothing_in(browser: httpx.Client) -> None:
    response = browser.get("/ui")
    assert response.status_code == 200
    headers = response.headers
    assert headers["content-type"] == "text/html; charset=utf-8"
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "*" not in policy
    assert "access-control-allow-origin" not in headers
    assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-store")
    assert browser.head("/ui").content == b""
    assert browser.put("/ui").status_code == 405
    assert browser.get("/ui/queues/").status_code == 200
    assert browser.get("/uix").json() == {"ok": False, "error": "Not found"}


def test_a_connection_that_showed_a_page_serves_the_api(browser: httpx.Client) -> None:
    for _ in range(3):
        assert browser.get("/ui").status_code == 200
        assert browser.post("/queues/q/jobs", json={"data": 1}).json()["ok"] is True
        assert browser.get("/queues/q/jobs").json()["job"]["data"] == 1


def test_a_page_and_all_that_it_needs_is_small(browser: httpx.Client) -> None:
    page = browser.get("/ui")
    files = [part.split('"')[0] for part in page.text.split('"/ui/static/')[1:]]
    sizes = [len(browser.get(f"/ui/static/{name}").content) for name in dict.fromkeys(files)]
    assert len(sizes) == 3
    assert len(page.content) + sum(sizes) < LIMIT_BYTES
    assert all("immutable" in browser.get(f"/ui/static/{name}").headers["cache-control"] for name in files)


def test_an_action_works_over_the_wire(browser: httpx.Client, lane: Server) -> None:
    browser.post("/queues/wired/jobs", json={"data": 1})
    page = browser.get("/ui/act/pause?queue=wired")
    csrf = page.text.split('name="csrf" value="')[1].split('"')[0]
    done = browser.post("/ui/act/pause", data={"queue": "wired", "csrf": csrf, "reason": "ü", "until": ""})
    assert done.status_code == 303
    assert "wired is paused." in browser.get(done.headers["location"]).text
    assert browser.get("/queues/wired/paused").json()["reason"] == "ü"
    large = browser.post("/ui/act/pause", content=b"x" * 70_000)
    assert large.status_code == 413


def test_findings_are_there_for_programs(lane: Server) -> None:
    with httpx.Client(base_url=lane.url, trust_env=False, timeout=PATIENCE_S) as client:
        client.post("/queues/paused-q/pause", json={"reason": "because"})
        client.post("/queues/paused-q/jobs", json={"data": 1})
        found = None
        deadline = time.monotonic() + PATIENCE_S
        while found is None:  # a look at the queues is for all who ask within a second
            assert time.monotonic() < deadline
            answer = client.get("/findings").json()
            assert answer["ok"] is True
            found = next((each for each in answer["findings"] if each["queue"] == "paused-q"), None)
    assert (found["code"], found["severity"], found["numbers"]["waiting"]) == ("paused", "notice", 1)


def test_without_it_nothing_is_there(start_server: StartServer) -> None:  # noqa: F811
    server = start_server({"UI": "off"})
    for path in ("/ui", "/ui/queues", "/ui/static/app.css", "/"):
        response = raw.request(server.address, "GET", path, b"", HTML)
        assert (response.status_code, response.content) == (404, b'{"ok":false,"error":"Not found"}')
    assert raw.request(server.address, "GET", "/stats").status_code == 200


def test_it_hides_no_route_of_the_api() -> None:
    assert not [route.path for route in ROUTES if route.path == "/" or route.path.startswith("/ui")]


def listen(url: str, browser: httpx.Client) -> tuple[httpx.Response, Iterator[bytes]]:
    """Open the stream of a page; return the response, of whose parts the first has come."""
    request = browser.build_request("GET", f"{url}/ui/news?of=now&queue=&mark=0")
    response = browser.send(request, stream=True)
    parts = response.iter_raw()
    assert next(parts).startswith(b"event: hello"), response.status_code
    return response, parts


def test_a_page_hears_over_the_wire_and_leaves_its_connection_as_it_was(lane: Server, browser: httpx.Client) -> None:
    response, parts = listen(lane.url, browser)
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert (response.headers["cache-control"], response.headers["x-accel-buffering"]) == ("no-cache", "no")
    assert "default-src 'none'" in response.headers["content-security-policy"]
    with httpx.Client(base_url=lane.url, trust_env=False, timeout=PATIENCE_S) as api:
        api.post("/queues/heard/jobs", json={"data": 1})
    assert next(parts) == b"event: news\ndata:\n\n"
    response.close()
    # The fifth of a browser, of which the others have gone, would be refused if any was still counted.
    for _ in range(9):
        listen(lane.url, browser)[0].close()
        eventually_heard(lane, browser)


def eventually_heard(server: Server, browser: httpx.Client) -> None:
    """Wait until a stream can be opened: the server hears of the end of another one a little later."""
    deadline = time.monotonic() + PATIENCE_S
    while browser.head("/ui").status_code != 200:
        assert time.monotonic() < deadline


def test_pages_that_listen_hold_no_stop_up(start_server: StartServer) -> None:  # noqa: F811
    for express in ("true", "false"):
        server = start_server({"EXPRESS": express, "SHUTDOWN_GRACE_MS": "30000"})
        with httpx.Client(base_url=server.url, trust_env=False, timeout=PATIENCE_S) as browser:
            browser.get("/ui")
            opened = [listen(server.url, browser) for _ in range(4)]
            assert server.terminate() == 0
            assert "the grace is over" not in server.log
            for response, parts in opened:
                with suppress(httpx.RemoteProtocolError):
                    assert b"event: hello" not in b"".join(parts)
                response.close()


def test_who_has_jobs_to_do_takes_the_place_of_a_page_that_listens(start_server: StartServer) -> None:  # noqa: F811
    server = start_server({"CONNECTIONS_MAX": "5"})
    with httpx.Client(base_url=server.url, trust_env=False, timeout=PATIENCE_S) as browser, ExitStack() as workers:
        browser.get("/ui")
        opened = [listen(server.url, browser)[0] for _ in range(3)]
        # The connection over which the page came is idle, and makes room first.
        done, deadline = 0, time.monotonic() + PATIENCE_S
        while done < 4:
            assert time.monotonic() < deadline
            with suppress(InvalidStatus, InvalidMessage):
                workers.enter_context(connect(f"ws://127.0.0.1:{server.port}/ws", open_timeout=PATIENCE_S))
                done += 1
        for response in opened:
            response.close()


def ticket(server: Server) -> str:
    response = raw.request(server.address, "POST", "/ticket", b"", "Authorization: Bearer secret-token-1")
    assert response.headers["cache-control"] == "no-store"
    answer = response.json()
    assert answer["ok"] is True
    assert answer["expiresIn"] == 30_000
    return str(answer["ticket"])


def test_a_ticket_opens_one_websocket(locked: Server) -> None:
    url = f"ws://127.0.0.1:{locked.port}/ws?ticket={ticket(locked)}"
    with connect(url, open_timeout=PATIENCE_S) as socket:
        socket.send(json.dumps({"cmd": "PUSH", "queue": "q", "data": 1, "reqId": "1"}))
        assert json.loads(socket.recv())["ok"] is True
    with pytest.raises(InvalidStatus, match="401"), connect(url, open_timeout=PATIENCE_S):
        pass


def test_a_ticket_opens_one_event_stream(locked: Server) -> None:
    path = f"/events?ticket={ticket(locked)}"
    with httpx.stream("GET", locked.url + path, timeout=PATIENCE_S, trust_env=False) as stream:
        assert stream.status_code == 200
        assert "data: " in next(stream.iter_text())
    assert httpx.get(locked.url + path, trust_env=False, timeout=PATIENCE_S).status_code == 401


def test_who_has_signed_in_sees_pages_and_the_api_stays_shut(locked: Server) -> None:
    with httpx.Client(base_url=locked.url, trust_env=False, timeout=PATIENCE_S) as browser:
        assert browser.get("/ui").status_code == 303
        assert browser.post("/ui/login", data={"token": "wrong"}).status_code == 401
        done = browser.post("/ui/login", data={"token": "secret-token-1", "next": "/ui/queues"})
        assert (done.status_code, done.headers["location"]) == (303, "/ui/queues")
        assert browser.get("/ui/queues").status_code == 200
        assert browser.get("/stats").status_code == 401
