"""What a server needs to lead may have broken while it waited: it has the certificate of its start, and another port for its link."""

from dataclasses import replace
from pathlib import Path

import pytest
import structlog.testing
import trio
import trustme

from bunqueue_trio.config import Settings
from bunqueue_trio.doors.remote import newest_certificate, open_link
from bunqueue_trio.doors.waiting_room import Waiting
from bunqueue_trio.errors import StartupError
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
