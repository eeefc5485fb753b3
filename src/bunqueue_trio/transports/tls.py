"""TLS on one connection: what OpenSSL does of it in one step is bounded. It knows no HTTP, and no files of certificates.

OpenSSL works off all records without data that it has (changes of keys, alerts, empty ones) before it returns, and
encrypts all that it is given at once. Here it gets some records at a time, and parts of an answer; handshakes take turns.
"""

import socket
import ssl
from collections import deque
from typing import Any

import trio

from bunqueue_trio.config import (
    HANDSHAKES_A_ROUND,
    RECEIVE_BYTES,
    RECORDS_A_STEP,
    RECORDS_WITHOUT_DATA_MAX,
    TLS_SEND_BYTES,
)

_HEADER_BYTES = 5
_IPV4_IN_IPV6 = bytes(10) + b"\xff\xff"


class Turns:
    """Who goes on with a handshake in this round of all tasks. Those of one address stand in line, and addresses take turns.

    So whoever begins thousands at once, for some hundred bytes each, keeps itself waiting, and nobody else.
    """

    def __init__(self, each: int) -> None:
        self.left: int = each
        self._lines: dict[bytes, deque[trio.lowlevel.Task]] = {}
        """By address; the first one is next."""

    async def begin(self, address: bytes) -> None:
        """Wait for a turn; :meth:`end` is to follow."""
        if self.left:
            self.left -= 1
            return
        task = trio.lowlevel.current_task()
        self._lines.setdefault(address, deque()).append(task)

        def leave(_: object) -> trio.lowlevel.Abort:
            self._lines[address].remove(task)
            if not self._lines[address]:
                del self._lines[address]
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(leave)

    def end(self) -> None:
        """Let the next one have it."""
        if not self._lines:
            self.left += 1
            return
        address = next(iter(self._lines))
        line = self._lines.pop(address)
        trio.lowlevel.reschedule(line.popleft())
        if line:
            self._lines[address] = line


def handshake_turns() -> Turns:
    """Return what handshakes that are to take turns share."""
    return Turns(HANDSHAKES_A_ROUND)


def _address_of(bare: trio.abc.Stream) -> bytes:
    """Return from where a connection comes, of IPv6 the network that one client has; b"" where nobody can tell."""
    try:
        host = str(bare.socket.getpeername()[0]).partition("%")[0]  # type: ignore[attr-defined]  # it need not be one
        return (
            socket.inet_pton(socket.AF_INET, host)
            if ":" not in host
            else _network(socket.inet_pton(socket.AF_INET6, host))
        )
    except (AttributeError, IndexError, OSError):
        return b""


def _network(address: bytes) -> bytes:
    return address[-4:] if address.startswith(_IPV4_IN_IPV6) else address[:8]


class _Records(trio.abc.Stream):
    """The bytes below TLS; those that come are passed on some records at a time."""

    def __init__(self, bare: trio.abc.Stream, turns: Turns | None) -> None:
        self._bare = bare
        self.turns = turns
        """None: the handshake is over, or need not wait."""
        self._address = b"" if turns is None else _address_of(bare)
        self.without_data = 0
        """Records that have come for which no data was read yet, those between them included."""
        self._came = b""
        """Read, and not passed on yet."""
        self._header = b""
        self._left = 0
        """Bytes of the present record that are still to come."""

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return what has come, up to the end of some records.

        Raises:
            trio.BrokenResourceError: too many have come without data.
        """
        if self._came:
            await trio.lowlevel.checkpoint()
        else:
            self._came = bytes(await self._bare.receive_some(max_bytes or RECEIVE_BYTES))
        if (turns := self.turns) is not None:
            await turns.begin(self._address)
            try:
                # Whoever has a turn goes on in the next round, and so only that many do.
                await trio.lowlevel.checkpoint()
            finally:
                turns.end()
        place = self._count()
        if self.without_data > RECORDS_WITHOUT_DATA_MAX:
            raise trio.BrokenResourceError("too many TLS records without data")
        some, self._came = self._came[:place], self._came[place:]
        return some

    def _count(self) -> int:
        """Count the records that end in what came, some of them; return where the last one does."""
        came, place, ended = self._came, 0, 0
        while place < len(came) and ended < RECORDS_A_STEP:
            if not self._left:
                missing = _HEADER_BYTES - len(self._header)
                self._header += came[place : place + missing]
                place += missing
                if len(self._header) < _HEADER_BYTES:
                    break
                self._left = int.from_bytes(self._header[3:], "big")
                self._header = b""
            taken = min(self._left, len(came) - place)
            place += taken
            self._left -= taken
            ended += not self._left
        self.without_data += ended
        return place

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of ``data``."""
        await self._bare.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until there may be room for more."""
        await self._bare.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Close the connection."""
        await self._bare.aclose()


class TlsStream(trio.abc.Stream):
    """A connection with TLS on ``transport_stream``; without a goodbye of TLS at its end, as HTTP has it.

    ``turns``: what its handshake shares with others; None lets it wait for nobody.
    """

    def __init__(
        self,
        transport_stream: trio.abc.Stream,
        context: ssl.SSLContext,
        *,
        server_side: bool = False,
        turns: Turns | None = None,
    ) -> None:
        self.transport_stream = transport_stream
        self._records = _Records(transport_stream, turns)
        self._tls = trio.SSLStream(self._records, context, server_side=server_side, https_compatible=True)
        self._is_new = True

    async def do_handshake(self) -> None:
        """Agree on keys, if that is not done yet.

        Raises:
            trio.BrokenResourceError: the other side is gone, or speaks something else.
        """
        await self._tls.do_handshake()
        if self._is_new:
            self._is_new = False
            self._records.turns, self._records.without_data = None, 0

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Return what has come, b"" at the end; as :meth:`do_handshake` raises."""
        if self._is_new:
            await self.do_handshake()
        data = await self._tls.receive_some(max_bytes)
        # One record that brought something makes up for one that did not.
        self._records.without_data = max(0, self._records.without_data - 2)
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of ``data``, encrypted part by part; as :meth:`do_handshake` raises."""
        if self._is_new:
            await self.do_handshake()
        whole = memoryview(data)
        for start in range(0, len(whole) or 1, TLS_SEND_BYTES):
            await self._tls.send_all(whole[start : start + TLS_SEND_BYTES])

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until there may be room for more."""
        await self._tls.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Close the connection."""
        await self._tls.aclose()

    def selected_alpn_protocol(self) -> str | None:
        """Return what was agreed to be spoken, None where nothing was; Hypercorn asks."""
        agreed: str | None = self._tls.selected_alpn_protocol()
        return agreed

    def certificate(self) -> bytes:
        """Return the certificate of the other side, DER; after the handshake."""
        shown: bytes = self._tls.getpeercert(binary_form=True)
        return shown

    def untie(self) -> None:
        """Let go of it, closed: Trio's refers to itself, and OpenSSL's buffers would wait for the collector."""
        vars(self._tls).pop("_handshook", None)


class TlsListener(trio.abc.Listener[TlsStream]):
    """Accepts as ``listener`` does, for TLS."""

    def __init__(self, listener: Any, context: ssl.SSLContext, turns: Turns) -> None:
        self._listener: trio.abc.Listener[Any] = listener
        self.socket: trio.socket.SocketType = listener.socket
        self._context = context
        self._turns = turns

    async def accept(self) -> TlsStream:
        """Return the next connection; its handshake is still to be done."""
        return TlsStream(await self._listener.accept(), self._context, server_side=True, turns=self._turns)

    async def aclose(self) -> None:
        """Stop listening."""
        await self._listener.aclose()
