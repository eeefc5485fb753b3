"""Where the server listens: several places, Unix sockets, TLS; and what stops it from listening."""

import errno
import os
import socket
import ssl
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import trio
import trustme

from bunqueue_trio.config import Settings
from bunqueue_trio.doors.waiting_room import Waiting
from bunqueue_trio.errors import StartupError
from bunqueue_trio.run import _open
from bunqueue_trio.storage.store import Store
from bunqueue_trio.transports.sockets import Opened, open_listeners
from tests.operations.processes import Running, bunqueue, serving
from tests.patience import PATIENCE_S
from tests.wire.server import free_port


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def certificate(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    directory = tmp_path_factory.mktemp("tls")
    issued = authority.issue_cert("localhost", "127.0.0.1")
    files = {"TLS_CERT_FILE": directory / "cert.pem", "TLS_KEY_FILE": directory / "key.pem"}
    files["TLS_CERT_FILE"].write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    files["TLS_KEY_FILE"].write_bytes(issued.private_key_pem.bytes())
    return {name: str(path) for name, path in files.items()}


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A path that is short enough for a socket, wherever the tests' directory is."""
    directory = Path(os.path.relpath(tmp_path_factory.mktemp("s")))
    yield directory.absolute() if len(str(directory.absolute())) < 90 else directory
    assert directory.is_dir()


@pytest.mark.slow
def test_several_places_serve_the_same_queue(tmp_path: Path, short: Path):
    path, port = short / "http.sock", free_port()

    def is_ready(running: Running) -> bool:
        return "listening" in running.log

    binds = f"127.0.0.1:{port},unix:{path}"
    with serving(tmp_path, env={"BIND": binds}, ready=is_ready) as running:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        with httpx.Client(
            transport=httpx.HTTPTransport(uds=str(path)), base_url="http://localhost", timeout=PATIENCE_S
        ) as client:
            pushed = client.post("/queues/q/jobs", json={"data": 1}).json()["id"]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as client:
            assert client.get("/queues/q/jobs").json()["job"]["id"] == pushed
        done = bunqueue("stats", "--url", f"unix:{path}", "--json")
        assert (done.code, '"totalPulled":1' in done.out) == (0, True)
        assert running.stop() == 0
        assert not path.exists(), "the socket's file goes with the server"


@pytest.mark.slow
def test_tls_serves_requests_waiting_pulls_and_events(
    tmp_path: Path, authority: trustme.CA, certificate: dict[str, str]
):
    context = ssl.create_default_context()
    authority.configure_trust(context)

    def client(running: Running) -> httpx.Client:
        url = f"https://localhost:{running.port}"
        return httpx.Client(base_url=url, verify=context, trust_env=False, timeout=60)

    def is_ready(running: Running) -> bool:
        return "https://127.0.0.1" in running.log

    with serving(tmp_path, env=certificate, ready=is_ready) as running, client(running) as one:
        with one.stream("GET", "/events") as events:
            lines = events.iter_lines()
            assert any("connected" in next(lines) for _ in range(3))
            with client(running) as other:
                pushed = other.post("/queues/q/jobs", json={"data": "x" * 100_000}).json()["id"]
            assert any(pushed in next(lines) for _ in range(5))
        assert one.get("/queues/q/jobs?timeout=1000").json()["job"]["id"] == pushed
        assert one.get("/queues/q/jobs?timeout=100").json()["job"] is None
        with socket.create_connection(("127.0.0.1", running.port)) as plain:
            plain.sendall(b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n")
            plain.settimeout(PATIENCE_S)
            assert not plain.recv(100).startswith(b"HTTP/1.1 200")
        assert one.get("/ready").status_code == 200
        assert running.stop() == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"TLS_CERT_FILE": "/no/such.pem"}, "TLS_CERT_FILE='/no/such.pem': cannot be read: No such file or directory"),
        ({"TLS_KEY_FILE": "CERT"}, "are no certificate with its key"),
    ],
)
def test_unusable_tls_files_stop_the_start(
    tmp_path: Path, certificate: dict[str, str], changed: dict[str, str], complaint: str
):
    changed = {name: certificate["TLS_CERT_FILE"] if value == "CERT" else value for name, value in changed.items()}
    env = certificate | changed | {"DATA_PATH": str(tmp_path / "q.db"), "HTTP_PORT": "0"}
    done = bunqueue("serve", env=env)
    assert done.code == 2
    assert complaint in done.err.splitlines()[-1]
    assert "Traceback" not in done.err


@pytest.mark.slow
def test_an_address_in_use_stops_the_start_with_one_line(tmp_path: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = bunqueue("serve", "--bind", address, env={"DATA_PATH": str(tmp_path / "q.db")})
        assert (done.code, done.err) == (2, f"bunqueue-trio: {address}: cannot listen: Address already in use\n")
        assert list(tmp_path.iterdir()) == [], "no file is made for a queue that nobody serves"
        (tmp_path / "q.db").touch()
        assert bunqueue("serve", "--bind", address, env={"DATA_PATH": str(tmp_path / "q.db")}).err == done.err


async def listen(*binds: str) -> list[str]:
    opened = await open_listeners(Settings(bind=binds))
    await opened.close()
    return opened.addresses


async def test_what_a_dead_server_left_makes_room(short: Path):
    path = short / "x.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.exists()
    assert await listen(f"unix:{path}") == [f"unix:{path}"]
    assert not path.exists()


async def test_a_living_server_or_a_file_keeps_its_place(short: Path):
    path, file = short / "x.sock", short / "file"
    file.write_text("mine")
    with socket.socket(socket.AF_UNIX) as living:
        living.bind(str(path))
        living.listen()
        with pytest.raises(StartupError, match=r"cannot listen: Address already in use$"):
            await listen(f"unix:{path}")
    with pytest.raises(StartupError, match="cannot listen"):
        await listen(f"unix:{file}")
    assert file.read_text() == "mine"


async def test_a_port_that_the_link_of_a_neighbour_may_have_is_reported(short: Path):
    """Nobody has set that port anywhere."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(StartupError, match="need ports that are two apart"):
            await open_listeners(Settings(bind=(address,), store="postgres:///queue"))
        with pytest.raises(StartupError, match=r"Address already in use$"):
            await open_listeners(Settings(bind=(address,)))


async def test_a_successor_keeps_its_socket(short: Path):
    path = short / "x.sock"
    (first, *_), *_ = await open_listeners(Settings(bind=(f"unix:{path}",)))
    path.unlink()
    (second, *_), *_ = await open_listeners(Settings(bind=(f"unix:{path}",)))
    await first.aclose()
    assert path.exists()
    await second.aclose()
    assert not path.exists()


async def test_when_one_place_fails_the_others_are_given_up(short: Path):
    path = short / "x.sock"
    with pytest.raises(StartupError, match=r"no\.\.such:1: cannot listen"):
        await listen(f"unix:{path}", "no..such:1")
    assert not path.exists()
    with trio.move_on_after(1):
        assert await listen(f"unix:{path}")


# --- before a file is made ------------------------------------------------------------------------

UNUSABLE: dict[str, str] = {
    "taken": "127.0.0.1:{taken}",
    "taken by somebody at one address": "0.0.0.0:{taken}",
    "taken by somebody of the other family": "[::]:{taken}",
    "the second one taken": "127.0.0.1:{free},127.0.0.1:{taken}",
    "twice": "127.0.0.1:{free},127.0.0.1:{free}",
    "twice, once among all": "127.0.0.1:{free},0.0.0.0:{free}",
    "a socket of a server that lives": "unix:{living}",
    "a socket nowhere": "unix:{living}/nowhere",
    "a socket twice": "unix:{short}/x.sock,unix:{short}/x.sock",
    "no address of this machine": "192.0.2.1:{free}",
}


def files_in(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


async def begin(settings: Settings) -> tuple[Store, Opened | None]:
    """Do what a start does before it loads anything."""
    waiting, nothing = Waiting(settings), cast("Any", None)
    store = await _open(settings, nothing, nothing, waiting, nothing)
    assert store is not None
    return store, waiting.kept


@pytest.mark.thorough
@pytest.mark.parametrize("doors", [0, 2])
@pytest.mark.parametrize("places", UNUSABLE.values(), ids=UNUSABLE)
async def test_a_start_that_cannot_listen_makes_no_file(tmp_path: Path, short: Path, places: str, doors: int):
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.socket(socket.AF_UNIX) as living:
        living.bind(str(short / "living.sock"))
        living.listen()
        names = {"taken": taken.getsockname()[1], "free": free_port(), "living": short / "living.sock", "short": short}
        binds = tuple(places.format(**names).split(","))
        with pytest.raises(StartupError, match="cannot listen"):
            await begin(Settings(data_path=str(tmp_path / "q.db"), bind=binds, doors=doors))
    assert files_in(tmp_path) == []
    assert files_in(short) == ["living.sock"]


async def test_what_is_listened_on_before_a_file_is_made_is_what_serves(tmp_path: Path, short: Path):
    """Nobody else gets it meanwhile, and who connects waits."""
    settings = Settings(data_path=str(tmp_path / "q.db"), bind=("127.0.0.1:0", f"unix:{short / 'x.sock'}"))
    store, opened = await begin(settings)
    store.close()
    assert opened is not None
    async with await trio.open_unix_socket(str(short / "x.sock")):
        assert len(opened.listeners) == len(opened.addresses) == 2
    await opened.close()
    # Where the file is there a server may end just now, which holds both.
    store, opened = await begin(settings)
    store.close()
    assert opened is None


async def test_a_start_without_a_file_leaves_no_socket(tmp_path: Path, short: Path):
    (tmp_path / "q.db-wal").write_bytes(b"the log of another one")
    with pytest.raises(StartupError, match=r"q\.db"):
        await begin(Settings(data_path=str(tmp_path / "q.db"), bind=(f"unix:{short / 'x.sock'}",)))
    assert files_in(short) == []


class OfOneFamily(trio.abc.HostnameResolver):
    """Names that have an address of each family, twice."""

    async def getaddrinfo(self, host: Any, port: Any, *_: Any, **__: Any) -> Any:
        v6 = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0))
        v4 = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))
        return [v6, v4, v6, v4]

    async def getnameinfo(self, *_: Any) -> Any:
        raise AssertionError


class LacksIPv6(socket.socket):
    """Of a kernel that has none."""

    def __init__(self, family: int = -1, kind: int = -1, proto: int = -1, fileno: int | None = None) -> None:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        super().__init__(family, kind, proto, fileno)


class WithoutIPv6(socket.socket):
    """Of one where it is switched off."""

    def bind(self, place: Any) -> None:
        if self.family == socket.AF_INET6 and place[0] != "::":
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        super().bind(place)


@pytest.mark.parametrize("kernel", [LacksIPv6, WithoutIPv6])
async def test_addresses_of_a_name_that_the_kernel_does_not_have_are_left_out(
    monkeypatch: pytest.MonkeyPatch, kernel: type[socket.socket]
):
    """A machine without IPv6 whose /etc/hosts has `::1 localhost`."""
    trio.socket.set_custom_hostname_resolver(OfOneFamily())
    port = free_port()
    assert await listen(f"localhost:{port}") == [f"http://[::1]:{port}", f"http://127.0.0.1:{port}"]
    monkeypatch.setattr(socket, "socket", kernel)
    assert await listen(f"localhost:{port}") == [f"http://127.0.0.1:{port}"]
    [everywhere] = await listen(f"[::]:{port}")
    assert everywhere == (f"http://0.0.0.0:{port}" if kernel is LacksIPv6 else f"http://[::]:{port}")
    with pytest.raises(StartupError, match="cannot listen"):
        await listen(f"[::1]:{port}")


async def test_an_address_that_is_not_of_this_machine_is_not_left_out(monkeypatch: pytest.MonkeyPatch):
    class Elsewhere(OfOneFamily):
        async def getaddrinfo(self, host: Any, port: Any, *_: Any, **__: Any) -> Any:
            found = await super().getaddrinfo(host, port)
            return [*found, (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", port))]

    trio.socket.set_custom_hostname_resolver(Elsewhere())
    with pytest.raises(StartupError, match="cannot listen"):
        await listen(f"name:{free_port()}")
