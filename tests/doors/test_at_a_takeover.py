"""What a server needs to lead may have broken while it waited: it has the certificate of its start, and another port for its link."""

import socket
from dataclasses import replace
from pathlib import Path

import pytest
import structlog.testing
import trio
import trustme

from bunqueue_trio.config import BEATS_A_LEASE, Settings
from bunqueue_trio.doors.remote import RemoteDoors, newest_certificate, open_link
from bunqueue_trio.doors.waiting_room import Waiting
from bunqueue_trio.errors import StartupError
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.storage.awaited import GONE_BEATS, sure_s
from bunqueue_trio.storage.memory import MemoryStore
from bunqueue_trio.transports.listener import Http
from bunqueue_trio.transports.sockets import open_listeners


def write(certificate: Path, key: Path) -> None:
    made = trustme.CA().issue_cert("elsewhere.example")
    certificate.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
    key.write_bytes(made.private_key_pem.bytes())


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    its = tmp_path / "cert.pem", tmp_path / "key.pem"
    write(*its)
    return its


@pytest.fixture
def linked(files: tuple[Path, Path]) -> Settings:
    certificate, key = map(str, files)
    return Settings(bind=("127.0.0.1:0",), link_tls_cert_file=certificate, link_tls_key_file=key)


async def test_the_certificate_of_the_start_is_shown_where_its_files_are_broken(
    linked: Settings, files: tuple[Path, Path]
):
    known = Waiting(linked).certificate
    assert known is not None
    write(*files)
    renewed = newest_certificate(linked, known)
    assert renewed is not None
    assert renewed.fingerprint != known.fingerprint
    files[0].write_text("broken")
    with structlog.testing.capture_logs() as logs:
        assert newest_certificate(linked, known) is known
    [line] = logs
    assert (line["log_level"], "LINK_TLS_CERT_FILE" in line["error"]) == ("error", True)
    files[1].unlink()
    assert newest_certificate(linked, known) is known
    with pytest.raises(StartupError, match="cannot be read"):
        newest_certificate(linked, None)
    with pytest.raises(StartupError, match="cannot be read"):
        Waiting(linked)
    assert newest_certificate(Settings(), None) is None


async def test_the_address_of_the_link_may_be_taken_by_now():
    [taken] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = taken.socket.getsockname()[1]
    settings = Settings(link_bind=f"127.0.0.1:{port}")
    with pytest.raises(StartupError, match=f"LINK_BIND=127.0.0.1:{port}: cannot listen"):
        await open_link(settings)
    with structlog.testing.capture_logs() as logs:
        [elsewhere] = await open_link(settings, has_waited=True)
    assert [line["port"] for line in logs] == [elsewhere.socket.getsockname()[1]]
    for listener in (taken, elsewhere):
        await listener.aclose()


async def test_doors_read_their_certificate_themselves(linked: Settings, files: tuple[Path, Path]):
    settings = replace(linked, tls_cert_file=str(files[0]), tls_key_file=str(files[1]))
    files[0].write_text("broken")
    opened = await open_listeners(settings, doors=2)
    assert [len(sockets) for sockets in opened.dealt] == [1, 1]
    assert opened.addresses[0].startswith("https://127.0.0.1:")
    await opened.close()
    with pytest.raises(StartupError, match="TLS_CERT_FILE"):
        await open_listeners(settings)


async def test_a_leader_knows_before_it_listens_no_more_that_it_is_followed_sooner():
    server = Server(Settings(link_bind="127.0.0.1:0"), MemoryStore(), Clock())
    [listener] = await open_link(server.settings)
    port = listener.socket.getsockname()[1]
    heard: list[bool] = []

    def note() -> None:
        with socket.create_connection(("127.0.0.1", port)):
            heard.append(True)

    doors = RemoteDoors(server, [listener], b"k" * 32, None, note)
    server.stop.set()
    async with trio.open_nursery() as nursery:
        await doors.run(Http(server, nursery, express=True), nursery)
        nursery.cancel_scope.cancel()
    assert heard == [True]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_a_deaf_leader_is_sure_for_less_than_a_beat_and_a_half_and_another_for_nearly_its_lease():
    assert GONE_BEATS / BEATS_A_LEASE * 10 - 0.1 < sure_s(10, is_deaf=True) < GONE_BEATS / BEATS_A_LEASE * 10
    assert 9.8 < sure_s(10, is_deaf=False) < 10
