"""Requests as bytes on a socket, for what no well-behaved client would send."""

import http.client
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import BinaryIO, TypeAlias

import httpx

from tests.patience import PATIENCE_S

Address: TypeAlias = tuple[str, int]


@contextmanager
def connected(address: Address) -> Iterator[socket.socket]:
    with closing(socket.create_connection(address, PATIENCE_S)) as sock:
        yield sock


def request_bytes(
    method: str,
    target: str,
    body: bytes = b"",
    *headers: str,
    length: int | None = None,
) -> bytes:
    """Write one HTTP/1.1 request as bytes, with nothing checked or escaped."""
    size = len(body) if length is None else length
    lines = [f"{method} {target} HTTP/1.1", "Host: x", *headers]
    lines.append(f"Content-Length: {size}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def read_response(sock: socket.socket, method: str = "GET") -> httpx.Response:
    """Read one response; the socket stays open."""
    with closing(http.client.HTTPResponse(sock, method=method)) as raw:
        raw.begin()
        return httpx.Response(raw.status, headers=raw.getheaders(), content=raw.read())


def next_response(stream: BinaryIO) -> httpx.Response:
    """Read the next of several responses that stand behind each other."""
    status = int(stream.readline().split(b" ")[1])
    headers = http.client.parse_headers(stream)
    body = stream.read(int(headers["Content-Length"]))
    return httpx.Response(status, headers=headers.items(), content=body)


def send(address: Address, request: bytes, method: str = "GET") -> httpx.Response:
    """Send one request on a connection of its own."""
    with connected(address) as sock:
        sock.sendall(request)
        return read_response(sock, method)


def request(address: Address, method: str, target: str, body: bytes = b"", *headers: str) -> httpx.Response:
    return send(address, request_bytes(method, target, body, *headers), method)


def send_while_reading(address: Address, write: Callable[[socket.socket], None]) -> httpx.Response:
    """Read the answer while a body too long for it is still being written."""
    with connected(address) as sock:
        writer = threading.Thread(target=_write_until_refused, args=(sock, write))
        writer.start()
        try:
            return read_response(sock)
        finally:
            writer.join(PATIENCE_S)


def _write_until_refused(sock: socket.socket, write: Callable[[socket.socket], None]) -> None:
    try:
        write(sock)
    except OSError:
        return  # the server has answered and closed: its right


def what_comes_back(address: Address, sent: bytes, *, half_close: bool) -> bytes:
    """Send bytes and return all that is answered before the server closes.

    Without `half_close` a server may rightly wait for more; then what came
    before a short silence is returned.
    """
    with connected(address) as sock:
        sock.settimeout(PATIENCE_S if half_close else 0.3)
        received = b""
        try:
            sock.sendall(sent)
            if half_close:
                sock.shutdown(socket.SHUT_WR)
            while piece := sock.recv(65536):
                received += piece
        except OSError:  # a reset or a silence is an answer too
            return received
        return received
