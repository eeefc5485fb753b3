"""Real servers on a real PostgreSQL: whatever dies, pauses or breaks, nothing answered is lost, and one server writes."""

import contextlib
import http.client
import json
import re
import signal
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
import trustme

from bunqueue_trio.testing.process import free_port
from tests.operations.processes import Running, bunqueue, serving, until
from tests.patience import PATIENCE_S
from trials.lib.postgres import Cluster, Cutting, Server, why_not

pytest.importorskip("psycopg", reason="psycopg is not installed")

from bunqueue_trio.storage.postgres.link import DatabaseLink, Query
from bunqueue_trio.storage.postgres.place import parse_place
from bunqueue_trio.storage.postgres.schema import migrate

pytestmark = pytest.mark.slow

CLIENTS = 8
ENOUGH = 200
"""Answered pushes before, and after, whatever is done to the server."""


@pytest.fixture
def made(postgres: Cluster) -> str:
    """A store with its tables."""
    url = postgres.new_url()
    migrate(parse_place(url))
    return url


def ask(url: str, text: str) -> Any:
    place = parse_place(url)
    link = DatabaseLink(place.conninfo)
    try:
        return link.ask(Query(place.qualified(text)))
    finally:
        link.close()


def call(port: int, method: str, path: str, body: Any = None, within_s: float = PATIENCE_S) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=within_s)
    try:
        connection.request(method, path, None if body is None else json.dumps(body))
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


class Load:
    """Clients that push all the time, and note what they were answered."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.answered: set[str] = set()
        self.told: Counter[str] = Counter()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._push, daemon=True) for _ in range(CLIENTS)]

    def _push(self) -> None:
        while not self._stop.is_set():
            try:
                status, reply = call(self.port, "POST", "/queues/load/jobs", {"data": 1})
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.told[type(error).__name__] += 1
                time.sleep(0.05)
                continue
            self.told[str(status)] += 1
            if status == 200:
                self.answered.add(reply["id"])
            else:
                time.sleep(0.05)

    def wait(self, more: int = ENOUGH) -> None:
        """Wait until this many more pushes were answered."""
        begin = len(self.answered)
        until(lambda: len(self.answered) >= begin + more, 60, lambda: f"{self.told}")

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)

    def check(self, url: str) -> None:
        """Whether all that was answered is there, and nothing is there twice."""
        stored = Counter(row[0] for row in ask(url, "SELECT id FROM bq.job WHERE queue = 'load'"))
        assert self.answered <= set(stored), f"{len(self.answered - set(stored))} are lost: {self.told}"
        assert max(stored.values()) == 1


@contextlib.contextmanager
def server(directory: Path, url: str, lease_ms: int = 1000, **options: Any) -> Iterator[Running]:
    env = {"STORE": url, "STORE_LEASE_MS": str(lease_ms), "LINK_BIND": "127.0.0.1:0"}
    env |= {name: options.pop(name) for name in list(options) if name.isupper()}
    with serving(directory, env=env, **options) as running:
        yield running


def test_a_queue_in_a_database_does_what_one_in_a_file_does(postgres: Cluster, tmp_path: Path):
    url = postgres.new_url()
    env = {"STORE": url}
    refused = bunqueue("serve", env=env)
    assert (refused.code, "run `bunqueue-trio migrate` once" in refused.err, refused.err.count("\n")) == (2, True, 1)
    done = bunqueue("migrate", env=env)
    assert (done.code, "schema 4, made" in done.out) == (0, True)
    with server(tmp_path, url, lease_ms=60_000) as running:
        port = running.port
        _, pushed = call(port, "POST", "/queues/q/jobs", {"data": {"n": 1}, "jobId": "one"})
        assert pushed["id"] == "one"
        call(port, "POST", "/queues/q/jobs", {"data": 2, "jobId": "two", "dependsOn": ["one"]})
        _, pulled = call(port, "GET", "/queues/q/jobs")
        assert pulled["job"]["id"] == "one"
        assert call(port, "POST", "/jobs/one/ack", {"result": [1.0], "token": pulled["token"]})[0] == 200
        assert call(port, "GET", "/jobs/one/state")[1]["state"] == "completed"
        assert call(port, "GET", "/jobs/one/result")[1]["result"] == [1.0]
        _, pulled = call(port, "GET", "/queues/q/jobs?timeout=5000")
        assert pulled["job"]["id"] == "two"
        with running.client() as client, client.stream("GET", "/events", headers={"Last-Event-ID": "0"}) as stream:
            names = []
            for line in stream.iter_lines():
                names += re.findall(r'"eventType":"(\w+)"', line)
                if len(names) == 6:
                    break
        assert names[:3] == ["pushed", "pushed", "pulled"]
        assert running.stop() == 0
        running.start()
        assert call(port, "GET", "/jobs/two/state")[1]["state"] == "active"


def test_a_killed_server_loses_nothing_that_it_answered(made: str, tmp_path: Path):
    with server(tmp_path, made) as running, Load(running.port) as load:
        load.wait()
        running.kill()
        running.start()  # behind the lease of the killed one
        load.wait()
    load.check(made)


def test_a_standby_goes_on_where_the_leader_was_killed_and_a_stop_lets_it_lead_at_once(made: str, tmp_path: Path):
    with server(tmp_path, made, lease_ms=4000) as leader, Load(leader.port) as load:
        load.wait()
        with server(
            tmp_path, made, lease_ms=600_000, ready=lambda running: "serving through the leader" in running.log
        ) as standby:
            for path in ("/healthz", "/ready"):
                assert httpx.get(standby.url + path, timeout=60).status_code == 200
            pushed = call(standby.port, "POST", "/queues/q/jobs", {"data": "x" * 100_000})[1]["id"]
            assert call(leader.port, "GET", f"/jobs/{pushed}/state")[1]["state"] == "waiting"
            with Load(standby.port) as through, ThreadPoolExecutor() as threads:
                through.wait()
                held = threads.submit(call, standby.port, "GET", "/queues/held/jobs?timeout=60000", None, 100)
                polls = "bunqueue_pollers 1\n"
                until(
                    lambda: polls in httpx.get(leader.url + "/prometheus", timeout=PATIENCE_S).text,
                    PATIENCE_S,
                    lambda: leader.log,
                )
                leader.kill()
                until(standby.is_ready, 60, lambda: standby.log)
                waited = call(standby.port, "POST", "/queues/held/jobs", {"data": 1})[1]["id"]
                assert held.result()[1]["job"]["id"] == waited, (
                    "it was asked of the next leader, which is the door itself"
                )
                load.port = standby.port
                load.wait()
                through.wait()
            through.check(made)
            assert set(through.told) <= {"200", "503"}, "no connection through it has ended without an answer"
            with server(tmp_path, made, ready=lambda running: "another server leads" in running.log) as third:
                assert standby.stop() == 0
                until(third.is_ready, 60, lambda: third.log)
                load.port = third.port
                load.wait()
    load.check(made)


def test_a_leader_that_stops_is_no_error_to_who_comes_through_a_standby(made: str, tmp_path: Path):
    """So servers are upgraded one after the other, the leader last: the one that takes over is a door up to then, and nobody is refused."""
    ready = {"ready": lambda running: "serving through the leader" in running.log}
    with (
        server(tmp_path, made) as leader,
        server(tmp_path, made, **ready) as standby,
        Load(standby.port) as load,
    ):
        load.wait()
        assert leader.stop() == 0
        until(lambda: "this server leads now" in standby.log, 60, lambda: standby.log)
        load.wait()
    assert set(load.told) == {"200"}, load.told
    load.check(made)


def test_servers_whose_link_is_encrypted_serve_through_each_other(made: str, tmp_path: Path):
    certificate = trustme.CA().issue_cert("elsewhere.example")
    names = {"LINK_TLS_CERT_FILE": certificate.cert_chain_pems[0], "LINK_TLS_KEY_FILE": certificate.private_key_pem}
    env = {name: str(tmp_path / name) for name in names}
    for name, blob in names.items():
        blob.write_to_path(env[name])
    ready = {"ready": lambda running: "serving through the leader" in running.log}
    with (
        server(tmp_path, made, **env) as leader,
        server(tmp_path, made, **env, **ready) as standby,
        Load(standby.port) as load,
    ):
        load.wait()
        assert ask(made, "SELECT link LIKE 'tls://127.0.0.1:%' FROM bq.leader") == [(True,)]
        assert '"tls": true' in standby.log
        assert call(standby.port, "POST", "/queues/q/jobs", {"data": "x" * 100_000})[0] == 200
        assert leader.stop() == 0
        until(lambda: "this server leads now" in standby.log, 60, lambda: standby.log)
        load.wait()
    assert set(load.told) == {"200"}, load.told
    load.check(made)


@pytest.mark.parametrize(
    "what", ["the certificate of its link", "the address of its link", "the certificate of its doors"]
)
def test_what_breaks_while_a_server_waits_does_not_end_it_when_it_leads(made: str, tmp_path: Path, what: str):
    authority = trustme.CA()
    issued, trust = authority.issue_cert("127.0.0.1"), ssl.create_default_context()
    authority.configure_trust(trust)
    cert, key, port = tmp_path / "cert.pem", tmp_path / "key.pem", free_port()
    issued.cert_chain_pems[0].write_to_path(str(cert))
    issued.private_key_pem.write_to_path(str(key))
    env = {
        "the certificate of its link": {"LINK_TLS_CERT_FILE": str(cert), "LINK_TLS_KEY_FILE": str(key)},
        "the address of its link": {"LINK_BIND": f"127.0.0.1:{port}"},
        "the certificate of its doors": {"TLS_CERT_FILE": str(cert), "TLS_KEY_FILE": str(key), "DOORS": "1"},
    }[what]
    ready = {"ready": lambda running: "serving through the leader" in running.log}
    with server(tmp_path, made) as leader, server(tmp_path, made, **env, **ready) as standby:
        url = f"http{'s' * ('doors' in what)}://127.0.0.1:{standby.port}"

        def pushes() -> bool:
            with httpx.Client(base_url=url, verify=trust, trust_env=False, timeout=60) as client:
                try:
                    return client.post("/queues/q/jobs", json={"data": 1}).status_code == 200
                except httpx.TransportError:
                    return False

        until(pushes, 60, lambda: standby.log)
        whole = cert.read_bytes()
        with contextlib.ExitStack() as stack:
            if "address" in what:
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
            else:
                cert.write_text("broken")
            leader.kill()
            until(lambda: "this server leads now" in standby.log, 60, lambda: standby.log)
            if "doors" in what:
                until(lambda: "a door cannot be started" in standby.log, 60, lambda: standby.log)
                cert.write_bytes(whole)
            until(pushes, 60, lambda: standby.log)
        is_tls = ask(made, "SELECT link LIKE 'tls://127.0.0.1:%' FROM bq.leader")
        assert is_tls == [("link" in what and "certificate" in what,)]
        assert standby.stop() == 0


def test_a_standby_that_is_stopped_while_it_waits_ends_well(made: str, tmp_path: Path):
    with (
        server(tmp_path, made),
        server(tmp_path, made, ready=lambda running: "another server leads" in running.log) as standby,
    ):
        assert standby.stop() == 0


def test_a_server_that_slept_through_its_lease_gives_nothing_out_and_ends(made: str, tmp_path: Path):
    with server(tmp_path, made) as first:
        push = ("POST", "/queues/q/jobs", {"data": 1, "jobId": "one"})
        until(lambda: call(first.port, *push)[0] == 200, 60, lambda: first.log)
        first.process.send_signal(signal.SIGSTOP)
        with server(tmp_path, made, lease_ms=60_000) as second:  # which waits for the lease of the first
            _, pulled = call(second.port, "GET", "/queues/q/jobs")
            assert pulled["job"]["id"] == "one"
            # It is asked before it knows, and would have the job in its memory.
            asked = socket.create_connection(first.address)
            asked.sendall(b"GET /queues/q/jobs HTTP/1.1\r\nHost: x\r\n\r\n")
            first.process.send_signal(signal.SIGCONT)
            assert first.process.wait(PATIENCE_S) == 1
            with contextlib.suppress(ConnectionResetError):
                assert b'"one"' not in asked.recv(65536), "two servers gave the same job out"
            asked.close()
            # Its self-audit may have found out first, and warned.
            said = [line for line in first.log.splitlines() if "taken over" in line or '"level": "error"' in line]
            assert len(said) == 1
            assert "Traceback" not in first.log
            assert re.search(r"another server has taken over \(\S+ process \d+\), this one ends$", said[0])
            assert call(second.port, "POST", "/jobs/one/ack", {"token": pulled["token"]})[0] == 200


def test_connections_that_the_database_ends_cost_no_answer(made: str, tmp_path: Path):
    schema = parse_place(made).schema
    with server(tmp_path, made, lease_ms=10_000) as running, Load(running.port) as load:
        for _ in range(8):
            load.wait(50)
            ask(
                made,
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%{schema}.commit_1%' AND pid <> pg_backend_pid()",
            )
        load.wait()
    load.check(made)
    assert "task failed" not in running.log


def test_an_answer_to_a_commit_that_is_cut_off_costs_nothing(postgres: Cluster, made: str, tmp_path: Path):
    with contextlib.closing(Cutting(postgres)) as cutting:
        through = cutting.url(parse_place(made).schema)
        with server(tmp_path, through, lease_ms=10_000) as running, Load(running.port) as load:
            for _ in range(10):
                load.wait(20)
                cutting.left = 1
                until(lambda: not cutting.left, PATIENCE_S, lambda: "nothing was written")
            load.wait()
        load.check(made)
        assert cutting.cuts == 10
        stored = {row[0] for row in ask(made, "SELECT id FROM bq.job WHERE queue = 'load'")}
        events = [row[0] for row in ask(made, "SELECT sum(count)::bigint FROM bq.event_batch")]
        assert events == [len(stored)], "each push was heard of once"
        assert load.told["200"] == len(stored), "nobody was refused, and everything that was answered is there"


@pytest.mark.parametrize("commits", ["on", "off"])
def test_a_database_that_crashes_is_waited_for_and_gets_again_what_it_has_lost(tmp_path: Path, commits: str):
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with contextlib.closing(Server(autovacuum="off", bgwriter_lru_maxpages="0")) as cluster:
        cluster.write_no_more()
        url = f"{cluster.new_url()}&options=-csynchronous_commit%3D{commits}"
        migrate(parse_place(url))
        with server(tmp_path, url, lease_ms=30_000) as running, Load(running.port) as load:
            load.wait()
            reached = ask(url, "SELECT link FROM bq.leader")
            cluster.stop()
            until(lambda: not running.is_ready(), 60, lambda: running.log)
            assert call(running.port, "POST", "/queues/q/jobs", {"data": 1})[0] == 503
            cluster.start()
            load.wait()
            assert ask(url, "SELECT link FROM bq.leader") == reached != [(None,)]
            assert running.is_ready()
            assert ("the database has lost its newest batches" in running.log) is (commits == "off")
        load.check(url)
