"""Doors as an operator and clients see them: real processes, all of the API through them, and whatever dies."""

import contextlib
import json
import os
import resource
import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from websockets.exceptions import ConnectionClosed

from scripts import leftovers
from tests.operations.processes import Running, bunqueue, serving, until
from tests.stream.sse import events
from tests.stream.ws import peer

pytestmark = pytest.mark.slow

FOR_EVER_MS = "600000"  # a stop that waits for its end is given up by the test, which waits a minute
MANY = 12
"""Connections, of which each door has some: that all go to one of two happens once in 2,048 runs, and does no harm."""


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with serving(tmp_path, "--doors", "2", env={"SHUTDOWN_GRACE_MS": FOR_EVER_MS}) as server:
        until(lambda: len(doors(server)) == 2, 60, lambda: server.log)
        yield server


def doors(server: Running) -> list[int]:
    return leftovers.below(server.process.pid)


def figures(server: Running) -> Any:
    with server.client() as client:
        return client.get("/tasks").json()["doors"]


def test_everything_works_through_doors_and_a_stop_leaves_nothing(running: Running):
    answers: list[Any] = []

    def wait(queue: str) -> None:
        with running.client() as client:
            answers.append(client.get(f"/queues/{queue}/jobs?timeout=60000").json()["job"]["data"])

    polls = [threading.Thread(target=wait, args=(f"q{n}",)) for n in range(MANY)]
    for thread in polls:
        thread.start()
    with running.client() as client:
        until(lambda: f"bunqueue_pollers {MANY}\n" in client.get("/prometheus").text, 60, lambda: running.log)
        told = figures(running)
        assert (sum(told.pop("queues").values()), told.pop("hung"), told.pop("died")) == (MANY, 0, 0), "of each door"
        assert told == {"wanted": 2, "connected": 2, "connections": 2, "requests": MANY}
    for n in range(MANY):
        with running.client() as client:
            assert client.post(f"/queues/q{n}/jobs", json={"data": n}).json()["ok"]
    for thread in polls:
        thread.join()
    assert sorted(answers) == list(range(MANY)), "a push through one door wakes who waits at another"

    with running.client() as client:
        workers = client.get("/workers").json()["data"]["workers"]
        assert [worker["id"] for worker in workers] == ["@127.0.0.1"], "the leader knows the client's own address"
        assert client.get("/ui").headers["content-type"].startswith("text/html")
        assert client.post("/queues/q/jobs", content=iter([b'{"data"', b":1}"])).json()["ok"], "a chunked body"
        assert client.post("/queues/large/jobs", json={"data": "x" * 5_000_000}).json()["ok"]
        assert len(client.get("/queues/large/jobs").json()["job"]["data"]) == 5_000_000
        tasks = {task["name"]: task["state"] for task in client.get("/tasks").json()["tasks"]}
        assert (tasks["door 1"], tasks["door 2"]) == ("running", "running")
        assert "bunqueue_doors 2\n" in client.get("/prometheus").text
        with events(running, "/events/queues/watched") as reader, peer(running, quiet=True) as worker:
            pushed = client.post("/queues/watched/jobs", json={"data": 1}).json()["id"]
            pulled = worker.done("PULL", queue="watched", timeout=1000)
            assert pulled["job"]["id"] == pushed
            assert worker.done("ACK", id=pushed, token=pulled["token"]) == {}
            assert reader.until("completed", pushed)[0].data["eventType"] == "pushed"
    before = doors(running)
    assert len(before) == 2
    assert running.stop() == 0
    assert [pid for pid in before if Path(f"/proc/{pid}/cmdline").exists()] == []
    assert {path.suffix for path in running.data_path.parent.iterdir()} == {".db", ".lock", ".log"}, "as without doors"
    assert "error" not in running.log


def test_a_job_of_a_websocket_returns_when_its_door_dies_and_another_takes_its_place(running: Running):
    with running.client() as client:
        pushed = client.post("/queues/q/jobs", json={"data": 1}).json()["id"]
    with ExitStack() as stack:
        worker = stack.enter_context(peer(running, quiet=True))
        assert worker.done("PULL", queue="q", timeout=1000)["job"]["id"] == pushed
        first = doors(running)
        for pid in first:
            os.kill(pid, signal.SIGKILL)
        until(lambda: len(doors(running)) == 2 and not set(first) & set(doors(running)), 60, lambda: running.log)
        with pytest.raises(ConnectionClosed):
            worker.ask("PING")
    with running.client() as client:
        assert client.get("/queues/q/jobs?timeout=60000").json()["job"]["id"] == pushed
        until(lambda: figures(running)["connected"] == 2, 60, lambda: running.log)
        told = figures(running)
        assert (told["died"], told["hung"]) == (2, 0)
        [finding] = [each for each in client.get("/findings").json()["findings"] if each["code"] == "doors-fail"]
        assert "was ended by SIGKILL" in finding["evidence"]
    assert "its process was ended by SIGKILL" in running.log
    assert running.stop() == 0


def test_nothing_that_was_answered_is_lost_or_given_out_twice_when_doors_die(tmp_path: Path):
    pushed, pulled = set[str](), list[str]()
    over = threading.Event()

    def work(server: Running, n: int) -> None:
        while not over.is_set():
            with server.client() as client, contextlib.suppress(httpx.TransportError):
                while not over.is_set():
                    if n % 2:
                        pushed.add(client.post("/queues/q/jobs", json={"data": 1}).json()["id"])
                    elif job := client.get("/queues/q/jobs?timeout=200").json()["job"]:
                        pulled.append(job["id"])

    with serving(tmp_path, "--doors", "2") as server:
        threads = [threading.Thread(target=work, args=(server, n)) for n in range(8)]
        for thread in threads:
            thread.start()
        for _ in range(4):
            done = len(pushed) + len(pulled)
            until(lambda done=done: len(pushed) + len(pulled) >= done + 200, 60, lambda: server.log)  # type: ignore[misc]
            os.kill(doors(server)[0], signal.SIGKILL)
        over.set()
        for thread in threads:
            thread.join()
        with server.client() as client:
            lost = [id_ for id_ in pushed if client.get(f"/jobs/{id_}").status_code != 200]
        assert lost == []
        assert len(pulled) == len(set(pulled))


def test_what_waits_in_the_socket_of_a_dead_door_is_served_by_the_next(running: Running):
    for pid in doors(running):
        os.kill(pid, signal.SIGSTOP)
    stopped = doors(running)
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(running.address)) for _ in range(MANY)]
        for client in clients:
            client.settimeout(60)
            client.sendall(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
        for pid in stopped:
            os.kill(pid, signal.SIGKILL)
        for client in clients:
            assert client.recv(1000).startswith(b"HTTP/1.1 200")


def test_no_door_outlives_its_leader_and_the_next_one_has_all_that_was_answered(running: Running):
    with running.client() as client:
        pushed = client.post("/queues/q/jobs", json={"data": 1}).json()["id"]
        before = doors(running)
        running.kill()
        running.start()  # at once: the address is free in a moment
        until(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in before), 60, lambda: running.log)
    with running.client() as client:
        assert client.get("/queues/q/jobs").json()["job"]["id"] == pushed


def test_a_door_that_dies_again_and_again_ends_the_server_with_a_line(tmp_path: Path):
    with serving(tmp_path, env={"DOORS": "1"}) as server:

        def ended() -> bool:
            for pid in doors(server):
                os.kill(pid, signal.SIGKILL)
            return server.process.poll() is not None

        until(ended, 60, lambda: server.log)
        assert server.process.returncode == 1
        assert server.log.splitlines()[-1] == (
            "bunqueue-trio: door 1: its process was ended by SIGKILL, and so did those before it; the server ends"
        )


def test_a_door_that_is_asked_to_end_finishes_what_it_has_and_another_takes_its_place(running: Running):
    answers: list[Any] = []
    with running.client() as client, running.client() as other:
        waiting = threading.Thread(target=lambda: answers.append(client.get("/queues/q/jobs?timeout=60000").json()))
        waiting.start()
        until(lambda: "bunqueue_pollers 1\n" in other.get("/prometheus").text, 60, lambda: running.log)
        first = doors(running)
        for pid in first:
            os.kill(pid, signal.SIGTERM)
        # One has the waiting pull, and stays for it; of the other nothing is left but its place.
        until(lambda: len(set(doors(running)) - set(first)) > 0, 60, lambda: running.log)
        with running.client() as another:
            pushed = another.post("/queues/q/jobs", json={"data": 1}).json()["id"]
        waiting.join()
        assert answers[0]["job"]["id"] == pushed
    until(lambda: not set(doors(running)) & set(first), 60, lambda: running.log)
    until(lambda: figures(running)["connected"] == 2, 60, lambda: running.log)
    assert figures(running)["died"] == 0, "that was wanted"


def test_an_address_that_somebody_has_is_one_clear_line(running: Running, tmp_path: Path):
    env = {"HOST": "127.0.0.1", "HTTP_PORT": str(running.port), "DATA_PATH": str(tmp_path / "other.db")}
    for flags in ((), ("--doors", "2")):
        refused = bunqueue("serve", *flags, env=env)
        assert refused.code == 2
        assert refused.err.splitlines()[-1].startswith(f"bunqueue-trio: 127.0.0.1:{running.port}: cannot listen: ")


class Tls:
    """A certificate in files, and who trusts it."""

    def __init__(self, place: Path) -> None:
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1")
        self.cert, self.key = place / "cert.pem", place / "key.pem"
        self.cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        self.key.write_bytes(issued.private_key_pem.bytes())
        self.trust = ssl.create_default_context()
        authority.configure_trust(self.trust)
        self.env = {"TLS_CERT_FILE": str(self.cert), "TLS_KEY_FILE": str(self.key)}

    def client(self, server: Running) -> httpx.Client:
        url = f"https://127.0.0.1:{server.port}"
        return httpx.Client(base_url=url, verify=self.trust, trust_env=False, timeout=60)


def is_listening(server: Running) -> bool:
    return "listening" in server.log


@pytest.mark.parametrize("what", ["certificate", "descriptors"])
def test_a_door_that_cannot_be_started_is_tried_again_and_the_others_go_on(tmp_path: Path, what: str):
    tls = Tls(tmp_path)
    with serving(tmp_path, "--doors", "2", env=tls.env | {"LOG_LEVEL": "debug"}, ready=is_listening) as server:
        until(lambda: len(doors(server)) == 2, 60, lambda: server.log)

        def told() -> Any:
            with tls.client(server) as client:
                return client.get("/tasks").json()

        def of_doors(what: str) -> list[Any]:
            # Who waits for a door that cannot be started is let go once.
            with contextlib.suppress(httpx.TransportError):
                return sorted(task[what] for task in told()["tasks"] if task["name"].startswith("door"))
            return [0]

        # Who is connected may still have to read its certificate.
        until(lambda: server.log.count("door is open") == 2, 60, lambda: server.log)
        until(lambda: told()["doors"]["connected"] == 2, 60, lambda: server.log)
        limits = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
        whole = tls.cert.read_bytes()
        if what == "certificate":
            tls.cert.write_text("broken")
        else:
            there = len([*Path(f"/proc/{server.process.pid}/fd").iterdir()])
            resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (there, limits[1]))
        os.kill(doors(server)[0], signal.SIGKILL)
        until(lambda: of_doors("restarts")[-1] > 3, 60, lambda: server.log)
        for n in range(MANY):
            with tls.client(server) as client:
                assert client.post("/queues/q/jobs", json={"data": n}).json()["ok"], "of each connection"
        until(lambda: of_doors("state") == ["restarting", "running"], 60, lambda: server.log)
        with tls.client(server) as client:
            [finding] = [each for each in client.get("/findings").json()["findings"] if each["code"] == "doors-fail"]
        assert "tried again until" in finding["evidence"]
        assert server.log.count("a door cannot be started, trying again") == 1, "within a minute"

        if what == "certificate":
            for pid in doors(server):
                os.kill(pid, signal.SIGKILL)
            until(lambda: is_refused(server), 60, lambda: server.log)
            tls.cert.write_bytes(whole)
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, limits)
        until(lambda: len(doors(server)) == 2 and not is_refused(server), 60, lambda: server.log)
        until(lambda: told()["doors"]["connected"] == 2, 60, lambda: server.log)
        for n in range(MANY):
            with tls.client(server) as client:
                assert client.post("/queues/q/jobs", json={"data": n}).json()["ok"], (
                    "of each connection, to either door"
                )
        assert server.stop() == 0


def is_refused(server: Running) -> bool:
    try:
        socket.create_connection(server.address).close()
    except ConnectionRefusedError:
        return True
    return False


def test_tls_ends_at_the_door(tmp_path: Path):
    tls = Tls(tmp_path)
    with serving(tmp_path, "--doors", "1", env=tls.env, ready=is_listening) as server, tls.client(server) as client:
        assert client.post("/queues/q/jobs", json={"data": 1}).json()["ok"]
        assert client.post("/queues/q/jobs", content=b"x" * 11_000_000).status_code == 413
        assert client.get("/queues/q/jobs").json()["job"]["data"] == 1
        with closing(socket.create_connection(server.address)) as plain:
            plain.settimeout(60)
            plain.sendall(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"200" not in plain.recv(1000), "who speaks no TLS gets nothing"
        assert server.stop() == 0
    assert "error" not in server.log


def test_lines_of_doors_say_so(tmp_path: Path):
    with serving(tmp_path, "--doors", "2", "--log-level", "debug") as server:

        def told() -> list[int]:
            return sorted(json.loads(line)["door"] for line in server.log.splitlines() if "door is open" in line)

        until(lambda: told() == [1, 2], 60, lambda: server.log)
