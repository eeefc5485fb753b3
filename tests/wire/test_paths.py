"""Which paths and methods there are, what a queue may be called, and how the rest is refused."""

import json
import re
import string

import pytest

from bunqueue_trio.protocol.routes import ROUTES
from tests.wire import raw
from tests.wire.client import BAD_QUEUE, Client, ok, refused
from tests.wire.server import Server

PUSH = b'{"data":1}'
EXAMPLES = [(route.method, re.sub(r":\w+", "x", route.path)) for route in ROUTES]
"""Of each route a request."""
ALLOWED = string.ascii_letters + string.digits + "_.:-"


def allow(server: Server, method: str, path: str) -> set[str]:
    """Expect a 405 and return the methods it says are allowed."""
    response = raw.request(server.address, method, path)
    refused(response, 405)
    return {name.strip() for name in response.headers["allow"].split(",")}


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/nothing",
        "/queue",
        "/queues/q/nothing",
        "/queues/q/jobs/nothing",
        "/job",
        "/jobs/x/nothing",
        "/jobs/x/ack/more",
        "/Health",
        "/stats/more",
        "/events/queues",
        "/favicon.ico",
        "//health",
        "/health/../health",
        "/%F0%9F%98%80",
    ],
)
def test_an_unknown_path_is_not_found(server: Server, path: str) -> None:
    refused(raw.request(server.address, "GET", path), 404)


@pytest.mark.thorough
@pytest.mark.parametrize(("method", "path"), EXAMPLES)
def test_a_trailing_slash_is_not_found(server: Server, method: str, path: str) -> None:
    body = PUSH if method == "POST" else b""
    response = raw.request(server.address, method, f"{path}/", body)
    if path == "/queues":  # a queue without a name
        refused(response, 400, "Queue name contains invalid characters")
    else:
        refused(response, 404)


@pytest.mark.thorough
@pytest.mark.parametrize("path", sorted({path for _, path in EXAMPLES}))
def test_a_wrong_method_is_answered_with_the_right_ones(server: Server, path: str) -> None:
    allowed = {route.method for route in ROUTES if re.fullmatch(re.sub(r":\w+", "[^/]+", route.path), path)}
    said = allow(server, "BREW", path)
    assert allowed <= said
    assert said <= allowed | {"OPTIONS", "HEAD"}
    assert allow(server, "PATCH", path) == said


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/queues/q/jobs"),
        ("POST", "/jobs/x"),
        ("GET", "/jobs/x/ack"),
        ("GET", "/queues/q/jobs/bulk"),
        ("POST", "/stats"),
        ("POST", "/health"),
        ("GET", "/gc"),
        ("DELETE", "/events"),
        ("BREW", "/stats"),
    ],
)
def test_other_methods_are_refused_alike(server: Server, method: str, path: str) -> None:
    assert method not in allow(server, method, path)


def test_head_never_pulls(server: Server, client: Client, queue: str) -> None:
    job_id = client.push(queue)
    for query in ("", "?timeout=0", "?timeout=100"):
        response = client.http.head(f"/queues/{queue}/jobs{query}")
        assert response.content == b""
        assert response.status_code < 500
    assert client.state(job_id) == "waiting"
    assert client.take(queue).id == job_id


def test_head_leaves_the_connection_usable(server: Server) -> None:
    with raw.connected(server.address) as sock:
        sock.sendall(raw.request_bytes("HEAD", "/queues/q/jobs"))
        raw.read_response(sock, "HEAD")
        sock.sendall(raw.request_bytes("GET", "/ready"))
        assert ok(raw.read_response(sock)) == {"ok": True, "ready": True}


# -- queue names ---------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.parametrize("character", [*ALLOWED])
def test_a_queue_may_be_called_by_any_allowed_character(client: Client, queue: str, character: str) -> None:
    name = f"{character}{queue}{character}"
    job_id = client.push(name)
    delivery = client.take(name)
    assert (delivery.id, delivery.job["queue"]) == (job_id, name)


@pytest.mark.parametrize("name", [".", "..", "-", ":", "_", "0", "a..b", "jobs", "queues", "bulk"])
def test_a_short_or_odd_queue_name_is_a_name(server: Server, client: Client, name: str) -> None:
    job_id = ok(raw.request(server.address, "POST", f"/queues/{name}/jobs", PUSH))["id"]
    assert client.job(job_id)["queue"] == name
    answer = ok(raw.request(server.address, "GET", f"/queues/{name}/jobs"))
    assert answer["job"]["id"] == job_id


def test_a_queue_name_may_have_256_characters(client: Client, queue: str) -> None:
    name = queue.ljust(256, "n")
    job_id = client.push(name)
    assert client.take(name).id == job_id


def test_an_escaped_queue_name_is_the_name_itself(server: Server, client: Client, queue: str) -> None:
    escaped = "".join(f"%{byte:02x}" for byte in queue.encode())
    job_id = ok(raw.request(server.address, "POST", f"/queues/{escaped}/jobs", PUSH))["id"]
    assert client.job(job_id)["queue"] == queue
    assert client.take(queue).id == job_id


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "name",
    [
        *("a%20b", "%20", "a%2Fb", "a%00b", "%C3%A4", "%F0%9F%98%80", "a%25b", "a+b", "a@b", "a,b", "a;b"),
        *("a!b", "a*b", "a'b", "(a)", "a=b", "a&b", "a~b", "a%0Ab", "a%7Cb", "a%23b", "a%3Fb", "%2541"),
        "n" * 257,
        "n" * 5000,
        "%61" * 257,
    ],
)
def test_any_other_queue_name_is_refused(server: Server, method: str, name: str) -> None:
    body = PUSH if method == "POST" else b""
    refused(raw.request(server.address, method, f"/queues/{name}/jobs", body), 400, BAD_QUEUE)


@pytest.mark.parametrize("command", ["bulk", "pull-batch"])
def test_a_bad_queue_name_is_refused_by_the_batches_too(server: Server, command: str) -> None:
    body = b'{"jobs":[{"data":1}],"count":1}'
    response = raw.request(server.address, "POST", f"/queues/a%20b/jobs/{command}", body)
    refused(response, 400, BAD_QUEUE)


def test_a_bad_queue_name_of_an_event_stream_is_refused(server: Server) -> None:
    refused(raw.request(server.address, "GET", "/events/queues/a%20b"), 400, BAD_QUEUE)


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("escape", ["%", "%4", "%zz", "%4g", "a%", "a%zzb", "%%", "%u0041", "%-1", "% 1", "%ff"])
def test_a_broken_escape_in_a_queue_name_is_refused(server: Server, method: str, escape: str) -> None:
    body = PUSH if method == "POST" else b""
    target = f"/queues/{escape.replace(' ', '+')}/jobs"
    refused(raw.request(server.address, method, target, body), 400)


@pytest.mark.parametrize("escape", ["%", "%4", "%zz", "a%", "%%"])
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/jobs/{}"), ("DELETE", "/jobs/{}"), ("POST", "/jobs/{}/ack"), ("POST", "/jobs/{}/fail")],
)
def test_a_broken_escape_in_a_job_id_is_refused(server: Server, method: str, path: str, escape: str) -> None:
    refused(raw.request(server.address, method, path.format(escape)), 400)


@pytest.mark.parametrize("escape", ["%ff", "%ed%a0%80", "%c0%af", "%80x"])
def test_an_escape_that_is_no_text_names_no_job(server: Server, escape: str) -> None:
    response = raw.request(server.address, "GET", f"/jobs/{escape}")
    assert response.status_code in {400, 404}
    refused(response, response.status_code)


def test_an_empty_queue_name_is_refused(server: Server) -> None:
    response = raw.request(server.address, "POST", "/queues//jobs", PUSH)
    refused(response, response.status_code)
    assert response.status_code in {400, 404}


@pytest.mark.parametrize("job_id", ["x", "x" * 256, "x" * 300, "01924f5a-7b3c-7def-8a12-3456789abcde", "%00"])
def test_a_job_nobody_knows_is_not_found(server: Server, job_id: str) -> None:
    refused(raw.request(server.address, "GET", f"/jobs/{job_id}"), 404, "Job not found")
    refused(raw.request(server.address, "DELETE", f"/jobs/{job_id}"), 404, "Job not found")


def test_a_query_nobody_reads_is_ignored(client: Client, queue: str) -> None:
    job_id = ok(client.http.post(f"/queues/{queue}/jobs?x=1&timeout=abc", json={"data": 1}))["id"]
    assert ok(client.get(f"/queues/{queue}/jobs?y=1&z"))["job"]["id"] == job_id
    assert ok(client.get(f"/jobs/{job_id}?a=b"))["job"]["id"] == job_id


@pytest.mark.parametrize("name", [".", ".."])
def test_a_queue_and_a_job_may_be_called_like_a_folder(server: Server, name: str) -> None:
    segment, body = name.replace(".", "%2E"), json.dumps({"data": 1, "jobId": name}).encode()
    assert ok(raw.request(server.address, "POST", f"/queues/{segment}/jobs", body))["id"] == name
    assert ok(raw.request(server.address, "GET", f"/jobs/{segment}"))["job"]["queue"] == name
    assert ok(raw.request(server.address, "DELETE", f"/jobs/{segment}"))
