"""The application under plain Hypercorn, as its documentation says."""

import json
import os
import signal
from pathlib import Path

import pytest
import trio
from websockets.sync.client import connect

from bunqueue_trio.asgi import App
from tests.operations.processes import bunqueue, serving
from tests.patience import PATIENCE_S
from tests.stream.ws import HANDSHAKE, TEXT, frame
from tests.wire.raw import connected

pytestmark = pytest.mark.slow

HYPERCORN = ("--worker-class", "trio", "--bind", "127.0.0.1:{port}", "bunqueue_trio.asgi:app")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_hypercorn_serves_the_same_queue_and_a_stop_keeps_it(tmp_path: Path, signum: signal.Signals):
    tokens = {"AUTH_TOKENS": "t"}
    header = {"Authorization": "Bearer t"}
    with serving(tmp_path, env=tokens, module="hypercorn", command=HYPERCORN) as running:
        with running.client() as client:
            assert client.get("/stats").status_code == 401
            ids = [
                client.post("/queues/q/jobs", json={"data": n}, headers=header).json()["id"] for n in range(20)
            ]  # fmt: skip
            pulled = client.get("/queues/q/jobs?timeout=1000", headers=header).json()
            assert pulled["job"]["id"] == ids[0]
            with client.stream("GET", "/events", headers=header) as events:
                assert b"connected" in next(events.iter_raw())
        assert bunqueue("doctor", str(running.data_path)).code == 0
        assert running.stop(signum) == 0
        assert "Traceback" not in running.log
    assert not Path(f"{running.data_path}-wal").exists(), "the store was closed"
    with (
        serving(tmp_path, env=tokens | {"DATA_PATH": str(running.data_path)}) as again,
        again.client(headers=header) as client,
    ):
        assert [client.get(f"/jobs/{job}").json()["job"]["data"] for job in ids] == list(range(20))
        client.post(f"/jobs/{ids[0]}/ack", json={"token": pulled["token"]}).raise_for_status()


def test_a_stop_of_hypercorn_takes_no_job_from_a_websocket(tmp_path: Path):
    hosted = (*HYPERCORN[:-1], "--graceful-timeout", "1", HYPERCORN[-1])
    with serving(tmp_path, module="hypercorn", command=hosted) as running, running.client() as client:
        ids = [client.post("/queues/q/jobs", json={"data": n}).json()["id"] for n in range(2)]
        with connect(f"ws://127.0.0.1:{running.port}/ws", proxy=None, open_timeout=PATIENCE_S) as holder:
            for n in range(2):
                holder.send(json.dumps({"cmd": "PULL", "queue": "q", "reqId": n}))
            while "reqId" not in (answer := json.loads(holder.recv(10))) or answer["reqId"] != 1:
                pass
            assert running.stop() == 0
        assert "Traceback" not in running.log
    with serving(tmp_path, env={"DATA_PATH": str(running.data_path)}) as again, again.client() as client:
        states = [client.get(f"/jobs/{job}/state").json() for job in ids]
        assert [(state["state"], state["stalls"]) for state in states] == [("active", 0)] * 2
        client.post(f"/jobs/{ids[1]}/ack", json={"token": answer["token"]}).raise_for_status()


def test_a_client_that_breaks_its_connection_breaks_no_other(tmp_path: Path):
    early = HANDSHAKE.format(path="/ws").encode() + frame(TEXT, b'{"cmd":"Ping"}')  # it had to wait for the answer
    with (
        serving(tmp_path, module="hypercorn", command=HYPERCORN) as running,
        running.client() as client,
        connected(("127.0.0.1", running.port)) as hostile,
    ):
        hostile.sendall(early)
        while hostile.recv(4096):
            pass
        assert client.get("/ping").status_code == 200
        assert running.stop() == 0  # a thread writes the log: now it has
        assert "Traceback" not in running.log


def test_a_store_that_cannot_be_opened_stops_hypercorn_with_the_reason(tmp_path: Path):
    with serving(tmp_path) as first:
        other = {"DATA_PATH": str(first.data_path)}
        with (
            pytest.raises(RuntimeError, match="is in use by a server"),
            serving(tmp_path, env=other, module="hypercorn", command=HYPERCORN),
        ):
            pass  # it does not get here


async def test_a_host_without_lifespan_gets_a_sentence():
    async def nothing(*_: object) -> dict[str, object]:
        return {}

    with pytest.raises(RuntimeError, match="lifespan"):
        await App()({"type": "http"}, nothing, nothing)  # type: ignore[arg-type]


async def test_an_answer_that_hypercorn_has_no_way_for_is_no_fault(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, nursery: trio.Nursery
):
    """It ends the connection of a broken request at once, and the answer meets that."""
    monkeypatch.setitem(os.environ, "DATA_PATH", str(tmp_path / "q.db"))
    app = App()
    lifespan, life = trio.open_memory_channel[dict[str, object]](1)
    started = trio.Event()

    async def starting(_: object) -> None:
        started.set()

    nursery.start_soon(app, {"type": "lifespan"}, life.receive, starting)
    await lifespan.send({"type": "lifespan.startup"})
    await started.wait()
    scope = {"type": "http", "http_version": "1.1", "method": "GET", "scheme": "http", "path": "/ping"}
    scope |= {"raw_path": b"/ping", "query_string": b"", "headers": [(b"host", b"x")]}
    tried = []
    requests, request = trio.open_memory_channel[dict[str, object]](1)
    await requests.send({"type": "http.request", "body": b"", "more_body": False})

    async def send(message: dict[str, object]) -> None:
        tried.append(message["type"])
        raise trio.BusyResourceError("another task is currently sending data on this SocketStream")

    await app(scope, request.receive, send)  # type: ignore[arg-type]
    assert tried == ["http.response.start"]
    await lifespan.send({"type": "lifespan.shutdown"})


async def test_bad_settings_fail_the_startup_with_the_reason(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(os.environ, "HTTP_PORT", "many")
    sent: list[dict[str, object]] = []

    async def receive() -> dict[str, object]:
        return {"type": "lifespan.startup"}

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    await App()({"type": "lifespan"}, receive, send)  # type: ignore[arg-type]
    assert sent == [{"type": "lifespan.startup.failed", "message": "HTTP_PORT='many': must be an integer"}]
