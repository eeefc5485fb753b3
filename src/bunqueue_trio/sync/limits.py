"""Time limits over the whole of a command: those of httpx are for each read alone, and a server that drips would be waited for without an end.

Owns until when a thread may wait; refuses to know for what.
"""

import math
import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpcore
import httpx


class Limit(threading.local):
    """Until when the present thread may wait for a server, by the monotonic clock."""

    ends: float = math.inf

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Let the block wait for ``seconds`` in all, and no longer than the block around it may."""
        before = self.ends
        self.ends = min(before, time.monotonic() + seconds)
        try:
            yield
        finally:
            self.ends = before

    def left(self, timeout: float | None, late: type[Exception]) -> float | None:
        """Return how long to wait now, ``timeout`` at most; raise ``late`` when the time is over."""
        if self.ends == math.inf:
            return timeout
        left = self.ends - time.monotonic()
        if left <= 0:
            raise late
        return left if timeout is None else min(timeout, left)


class LimitedTransport(httpx.HTTPTransport):
    """What httpx sends over by itself, but with ``limit`` looked at before each wait for the network."""

    def __init__(self, limit: Limit, tls: ssl.SSLContext | None, path: str | None) -> None:
        super().__init__(verify=False, trust_env=False)
        # As many connections as httpx keeps.
        self._pool: httpcore.ConnectionPool = httpcore.ConnectionPool(
            ssl_context=tls, max_connections=100, max_keepalive_connections=20, keepalive_expiry=5.0, uds=path,
            network_backend=_Network(limit),
        )  # fmt: skip


class _Network(httpcore.NetworkBackend):
    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._network = httpcore.SyncBackend()

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:  # fmt: skip
        left = self._limit.left(timeout, httpcore.ConnectTimeout)
        return _Stream(self._network.connect_tcp(host, port, left, local_address, socket_options), self._limit)

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.NetworkStream:
        left = self._limit.left(timeout, httpcore.ConnectTimeout)
        return _Stream(self._network.connect_unix_socket(path, left, socket_options), self._limit)

    def sleep(self, seconds: float) -> None:
        self._network.sleep(seconds)


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, limit: Limit) -> None:
        self._stream = stream
        self._limit = limit

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._limit.left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._limit.left(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = self._limit.left(timeout, httpcore.ConnectTimeout)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, left), self._limit)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
