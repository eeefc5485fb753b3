"""Clients over TLS and Unix sockets, for real, and what they say of a certificate that they do not trust."""

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
import trustme

from bunqueue_trio import Client, Refused, ServerUnavailable, Worker
from bunqueue_trio.sync import SyncClient
from tests.client.loops import on_both
from tests.operations.processes import Running, bunqueue, serving
from tests.operations.test_binds import short
from tests.patience import PATIENCE_S
from tests.wire.server import Server

__all__ = ["short"]

AUTHORITY = trustme.CA()


def files(directory: Path, *names: str) -> dict[str, str]:
    issued = AUTHORITY.issue_cert(*names)
    cert, key = directory / "cert.pem", directory / "key.pem"
    cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    return {"TLS_CERT_FILE": str(cert), "TLS_KEY_FILE": str(key)}


def listens(running: Running) -> bool:
    return "listening" in running.log


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("tls")
    with serving(directory, env=files(directory, "localhost"), ready=listens) as running:
        yield running


@pytest.fixture(scope="module")
def tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return context


@pytest.mark.slow
@on_both
async def test_client_and_worker_over_tls(encrypted: Running, tls: ssl.SSLContext):
    url = f"wss://localhost:{encrypted.port}"
    worker = Worker("tls", url, tls=tls)
    worker.handler(lambda job: len(job.data))
    async with anyio.create_task_group() as nursery, Client(url, tls=tls) as client:
        nursery.start_soon(worker.run)
        assert await client.wait(await client.push("tls", "x" * 200_000), PATIENCE_S) == 200_000
        worker.stop()


@pytest.mark.slow
@on_both
async def test_an_address_without_a_scheme_is_one_for_every_client(tmp_path: Path):
    with serving(tmp_path, ready=listens) as running:
        url = f"localhost:{running.port}"
        async with Client(url) as client:
            assert await client.push("q", 1, job_id="a") == "a"
        with SyncClient(url) as sync:
            assert sync.get("a")["id"] == "a"


@pytest.mark.slow
def test_sync_client_over_tls(encrypted: Running, tls: ssl.SSLContext):
    with SyncClient(f"https://localhost:{encrypted.port}", tls=tls) as client:
        job_id = client.push("sync", {"a": 1})
        job = client.pull("sync", timeout=1)
        assert job is not None
        assert (job.attempt, job.fence < 2**63) == (1, True)
        job.ack("done")
        assert client.result(job_id) == "done"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("host", "trusted", "said"),
    [
        ("localhost", False, "self-signed certificate|unable to get local issuer"),
        ("127.0.0.1", True, "IP address mismatch"),
    ],
    ids=["unknown authority", "another name"],
)
@on_both
async def test_certificate_that_is_not_trusted(
    encrypted: Running, tls: ssl.SSLContext, host: str, trusted: bool, said: str
):
    """Said at once, and not waited for: it will be refused again."""
    context = tls if trusted else None
    async with Client(f"wss://{host}:{encrypted.port}", tls=context) as client:
        with pytest.raises(Refused, match=f"wss://{host}.*({said}).*certificate is not trusted"):
            await client.ping()
    with (
        SyncClient(f"https://{host}:{encrypted.port}", tls=context) as client,
        pytest.raises(Refused, match=f"https://{host}.*({said}).*certificate is not trusted"),
    ):
        await anyio.to_thread.run_sync(client.stats)
    worker = Worker("q", f"wss://{host}:{encrypted.port}", tls=context)
    worker.handler(lambda job: None)
    with pytest.raises(Refused, match="certificate is not trusted"):
        await worker.run()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["HTTPS", "Wss"])
def test_certificate_counts_however_the_scheme_is_written(encrypted: Running, scheme: str):
    with (
        SyncClient(f"{scheme}://localhost:{encrypted.port}") as client,
        pytest.raises(Refused, match="certificate is not trusted"),
    ):
        client.stats()
    done = bunqueue("stats", "--url", f"{scheme}://localhost:{encrypted.port}")
    assert (done.code, "CERTIFICATE_VERIFY_FAILED" in done.err) == (1, True)


@pytest.mark.long  # the plain server waits 30 s for the end of what is no head
@on_both
async def test_tls_on_one_side_only(encrypted: Running, tmp_path: Path, tls: ssl.SSLContext):
    async with Client(f"ws://localhost:{encrypted.port}", patience=0.5) as client:
        with pytest.raises(ServerUnavailable, match="ws://localhost"):
            await client.ping()
    with serving(tmp_path, env={}, ready=listens) as plain:
        async with Client(f"wss://localhost:{plain.port}", tls=tls, patience=0.5) as client:
            with pytest.raises(ServerUnavailable, match="wss://localhost"):
                await client.ping()
        url = f"https://localhost:{plain.port}"
        with SyncClient(url, tls=tls, timeout=0.5) as client, pytest.raises(ServerUnavailable):
            await anyio.to_thread.run_sync(client.stats)


@pytest.mark.slow
@on_both
async def test_the_address_of_http_is_the_server_too(tmp_path: Path, encrypted: Running, tls: ssl.SSLContext):
    with serving(tmp_path, env={}, ready=listens) as plain:
        async with Client(f"http://localhost:{plain.port}") as client:
            await client.ping()
    async with Client(f"https://localhost:{encrypted.port}", tls=tls) as client:
        await client.ping()


@pytest.mark.slow
@on_both
async def test_unix_socket(tmp_path: Path, short: Path):
    path = short / "q.sock"
    worker = Worker("q", f"unix:{path}")
    worker.handler(lambda job: job.data)
    async with Client(f"unix:{path}", patience=0.2) as client:
        with pytest.raises(ServerUnavailable, match=r"unix:.*No such file"):
            await client.ping()
    with serving(tmp_path, env={"BIND": f"unix:{path}"}, ready=listens):
        async with anyio.create_task_group() as nursery, Client(f"unix:{path}") as client:
            nursery.start_soon(worker.run)
            assert await client.wait(await client.push("q", 7), PATIENCE_S) == 7
            worker.stop()
        with SyncClient(f"unix:{path}") as client:
            assert (
                await anyio.to_thread.run_sync(client.result, await anyio.to_thread.run_sync(client.push, "other"))
                is None
            )
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(short / "s.sock"))
        async with Client(f"unix:{short / 's.sock'}", patience=0.2) as client:
            with pytest.raises(ServerUnavailable, match="refused"):
                await client.ping()


@on_both
async def test_address_that_is_silent_holds_up_no_other(monkeypatch: pytest.MonkeyPatch, server: Server, loop: str):
    """A host has two addresses; at the first one nobody answers, not even with a refusal."""
    with socket.socket() as deaf, socket.socket() as first, socket.socket() as second:
        deaf.bind(("127.0.0.2", server.port))
        deaf.listen(0)
        for filler in (first, second):  # there is room for one that nobody has accepted, and one on its way
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.2", server.port))
        found = [
            (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, server.port))
            for address in ("127.0.0.2", "127.0.0.1")
        ]
        look_up = socket.getaddrinfo

        def both(host: object, *rest: object, **options: object) -> object:
            return found if host in ("two.example", b"two.example") else look_up(host, *rest, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(socket, "getaddrinfo", both)
        # Who waits for the first address waits longer than this test.
        monkeypatch.setattr(f"bunqueue_trio.client.socket_{loop}.CONNECT_S", 10 * PATIENCE_S)
        with anyio.fail_after(PATIENCE_S):
            async with Client(f"ws://two.example:{server.port}") as client:
                await client.ping()
