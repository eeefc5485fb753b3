"""What a server needs to lead may have broken while it waited: it has the certificate of its start, and another port for its link."""

import errno
import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog.testing
import trio
import trio.testing
import trustme

from bunqueue_trio.config import BEATS_A_LEASE, DOOR_STARTS_S, Settings
from bunqueue_trio.doors import leading
from bunqueue_trio.doors.remote import RemoteDoors, newest_certificate, open_link
from bunqueue_trio.doors.waiting_room import Waiting
from bunqueue_trio.errors import StartupError
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.storage.awaited import GONE_BEATS, sure_s
from bunqueue_trio.storage.memory import MemoryStore
from bunqueue_trio.testing.process import free_port
from bunqueue_trio.transports.listener import Http
from bunqueue_trio.transports.sockets import deal_out, open_listeners


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


@pytest.mark.parametrize("is_safe", [False, True])
async def test_doors_get_the_addresses_of_a_server_that_has_waited_and_nobody_else_could_meanwhile(
    nursery: trio.Nursery, tmp_path: Path, *, is_safe: bool
):
    port, files = free_port(), (tmp_path / "cert.pem", tmp_path / "key.pem")
    if is_safe:
        write(*files)
    certificate, key = (str(each) if is_safe else None for each in files)
    binds = (f"127.0.0.1:{port}", f"unix:{tmp_path}/s")
    waiting = Waiting(Settings(bind=binds, doors=2, tls_cert_file=certificate, tls_key_file=key))
    await nursery.start(waiting.run)
    await waiting.leave()
    assert waiting.kept is not None
    with socket.socket() as thief, pytest.raises(OSError, match="in use"):
        thief.bind(("127.0.0.1", port))
    early = await trio.open_tcp_stream("127.0.0.1", port)
    dealt = deal_out(waiting.kept, 2)
    with socket.socket() as thief, pytest.raises(OSError, match="in use"):
        thief.bind(("127.0.0.1", port))
    assert [len(sockets) for sockets in dealt.dealt] == [1, 1]
    assert dealt.addresses == waiting.kept.addresses
    [unix] = dealt.listeners
    newcomer = await trio.open_unix_socket(f"{tmp_path}/s")
    accepted = await unix.accept()
    [[first], [second]] = dealt.dealt
    first.setblocking(False)
    with first.accept()[0] as met:
        assert met.getpeername() == early.socket.getsockname(), "who has come meanwhile is served"
    ends = [socket.create_connection(("127.0.0.1", port)) for _ in range(40)]
    second.setblocking(False)
    second.accept()[0].close()
    first.accept()[0].close()
    for end in ends:
        end.close()
    for stream in (early, newcomer, accepted):
        await stream.aclose()
    await dealt.close()
    nursery.cancel_scope.cancel()


async def test_where_doors_cannot_get_them_it_is_tried_again(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
):
    """Such as where there are no more descriptors: a server that leads goes on, with its link."""
    waiting = Waiting(Settings(bind=("127.0.0.1:0",), doors=1))
    await nursery.start(waiting.run)
    await waiting.leave()
    assert waiting.kept is not None
    failures = iter(range(7))

    def fromfd(*args: Any) -> socket.socket:
        if next(failures, None) is not None:
            raise OSError(errno.EMFILE, "Too many open files")
        return socket.socket(args[1], args[2], fileno=os.dup(args[0]))

    monkeypatch.setattr(socket, "fromfd", fromfd)
    with structlog.testing.capture_logs() as logs:
        dealt = await leading._deal_out(waiting.kept, 1)
    assert [line["error"] for line in logs] == ["Too many open files"] * 7
    assert trio.current_time() > sum(DOOR_STARTS_S)
    await dealt.close()
    nursery.cancel_scope.cancel()
