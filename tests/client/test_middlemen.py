"""What stands between may answer in the server's place: a worker waits it out, a client learns what it was."""

import anyio
import pytest
import trio

from bunqueue_trio.client import Client, Refused, ServerUnavailable, Worker
from bunqueue_trio.client.connection import rejected
from bunqueue_trio.testing import Bunqueue
from tests.client.loops import on_both
from tests.client.proxy import Proxy
from tests.client.test_real_server import ws
from tests.wire.server import Server


def page(status: str, body: bytes = b"<html>sorry</html>", kind: bytes = b"text/html") -> bytes:
    head = b"HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
    return head % (status.encode(), kind, len(body)) + body


ANSWERS = {
    "502": (page("502 Bad Gateway"), "answered 502"),
    "503": (page("503 Service Unavailable"), "answered 503"),
    "504": (page("504 Gateway Timeout"), "answered 504"),
    "200": (page("200 OK"), "answered 200"),
    "301": (b"HTTP/1.1 301 Moved\r\nLocation: https://x/\r\nContent-Length: 0\r\n\r\n", "answered 301"),
    "401": (page("401 Unauthorized"), "answered 401: not as a bunqueue server does"),
    "401 in JSON": (page("401 Unauthorized", b'{"message":"no"}', b"application/json"), "answered 401"),
    "401 in JSON like ours": (
        page("401 Unauthorized", b'{"ok":false,"error":"Log in","code":"login"}', b"application/json"),
        "answered 401: Log in",
    ),
    "403": (page("403 Forbidden"), "answered 403"),
    "404": (page("404 Not Found", b""), "answered 404: not as a bunqueue server does"),
    "408": (page("408 Request Timeout"), "answered 408"),
    "426": (page("426 Upgrade Required"), "answered 426"),
    "429": (page("429 Too Many Requests"), "answered 429"),
    "ours": (
        page("503 Service Unavailable", b'{"ok":false,"error":"Server is shutting down"}', b"application/json"),
        "answered 503: Server is shutting down",
    ),
    "nothing": (b"", "handshake"),
    "a part": (b"HTTP/1.1 101 Switching Pro", "handshake"),
    "garbage": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "handshake"),
    "another protocol": (b"SSH-2.0-OpenSSH_9.2\r\n", "handshake"),
    "unfounded yes": (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: bm9uc2Vuc2U=\r\n\r\n",
        "handshake",
    ),
    "a page until the end": (b"HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\n\r\n<html>", "502|handshake"),
    "a page without an end": (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 500\r\n\r\n<html>", "handshake"),
}


class Middleman(Proxy):
    """Gives ``answer`` to the first connections, then passes all on."""

    def __init__(self, server: Server, answer: bytes, times: float) -> None:
        super().__init__(server.address)
        self._answer = answer
        self._times = times

    async def serve(self, client: trio.SocketStream) -> None:
        if self._times <= 0:
            await super().serve(client)
            return
        self._times -= 1
        await client.receive_some()
        await client.send_all(self._answer)
        await client.aclose()


@pytest.mark.slow
@pytest.mark.parametrize("name", ANSWERS)
@on_both
async def test_worker_waits_out_whatever_answers(server: Server, queue: str, name: str):
    with Middleman(server, ANSWERS[name][0], times=2) as middleman:
        worker = Worker(queue, middleman.url)
        worker.handler(lambda job: job.data)
        async with Client(ws(server)) as client, anyio.create_task_group() as working:
            working.start_soon(worker.run)
            assert await client.wait(await client.push(queue, "done"), 60) == "done"
            worker.stop()


@pytest.mark.slow
@pytest.mark.parametrize("name", ANSWERS)
@on_both
async def test_client_learns_what_answered(server: Server, name: str):
    answer, told = ANSWERS[name]
    with Middleman(server, answer, times=float("inf")) as middleman:
        async with Client(middleman.url, patience=0.05) as client:
            with anyio.fail_after(60):
                while "not connected yet" in client._upkeep._trouble:
                    await client._upkeep._changed.wait()
            with pytest.raises(ServerUnavailable, match=told):
                await client.ping()


@pytest.mark.parametrize("body", [b"<html>", b"", b'{"message":"no"}', b'{"ok":false,"error":"Log in","code":"login"}'])
def test_foreign_401_is_no_refusal(body: bytes):
    assert isinstance(rejected("ws://x", 401, body), ConnectionError)


@pytest.mark.parametrize("name", ["no such name!", "a/../b", "ä?x#y", "x" * 300])
@on_both
async def test_queue_that_is_none_ends_its_worker(server: Server, name: str):
    worker = Worker(name, ws(server))
    worker.handler(lambda job: None)
    with anyio.fail_after(60), pytest.raises(Refused, match="invalid characters") as caught:
        await worker.run()
    assert caught.value.code == "invalid-queue"


@on_both
async def test_code_of_a_refusal_counts_not_its_words(server: Server):
    """A newer server may word it anew."""
    body = b'{"ok":false,"error":"There can be no such queue","code":"invalid-queue"}'
    with Middleman(server, page("400 Bad Request", body, b"application/json"), times=float("inf")) as middleman:
        worker = Worker("q", middleman.url)
        worker.handler(lambda job: None)
        with anyio.fail_after(60), pytest.raises(Refused, match="no such queue") as caught:
            await worker.run()
        assert caught.value.code == "invalid-queue"


@pytest.mark.parametrize(
    "body", [b'{"ok":false,"error":"Unauthorized"}', b'{"ok":false,"error":"No","code":"unauthorized"}']
)
@on_both
async def test_token_that_the_server_itself_refuses_ends_a_worker(server: Server, body: bytes):
    with Middleman(server, page("401 Unauthorized", body, b"application/json"), times=float("inf")) as middleman:
        worker = Worker("q", middleman.url)
        worker.handler(lambda job: None)
        with anyio.fail_after(60), pytest.raises(Refused, match="Unauthorized") as caught:
            await worker.run()
        assert caught.value.code == "unauthorized"


@pytest.mark.parametrize("code", ["invalid-queue", "unauthorized", "invalid-token"])
async def test_refusal_that_is_for_ever_ends_a_worker_by_its_code(
    bunqueue: Bunqueue, monkeypatch: pytest.MonkeyPatch, code: str
):
    async def refused(client: Client, *args: object, **options: object) -> object:
        raise Refused(400, "worded anew", code)

    monkeypatch.setattr(Client, "pull_many", refused)
    worker = bunqueue.worker("q")
    worker.handler(lambda job: None)
    await bunqueue.client.push("q")
    with anyio.fail_after(60), pytest.raises(Refused, match="worded anew"):
        await worker.run()


@on_both
async def test_refusal_that_may_pass_ends_no_worker(server: Server, queue: str, monkeypatch: pytest.MonkeyPatch):
    """Of a server that is newer, or of something between: only a token or a name that is none is for ever."""
    refusals = [Refused(429, "Rate limit exceeded"), Refused(400, "Unknown command: PULLB"), Refused(404, "Not found")]
    pull_many = Client.pull_many

    async def refused(client: Client, *args: object, **options: object) -> object:
        if refusals:
            raise refusals.pop()
        return await pull_many(client, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Client, "pull_many", refused)
    monkeypatch.setattr("bunqueue_trio.client.worker.RETRY_S", 0.01)
    worker = Worker(queue, ws(server))
    worker.handler(lambda job: job.data)
    async with Client(ws(server)) as client, anyio.create_task_group() as working:
        working.start_soon(worker.run)
        assert await client.wait(await client.push(queue, "done"), 60) == "done"
        worker.stop()
    assert refusals == []
