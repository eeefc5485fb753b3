"""The link over a network: to the leader of a database, from those that wait to lead there."""

import hashlib
import math
import socket
import ssl
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias
from weakref import WeakSet

import structlog
import trio

from bunqueue_trio.config import (
    LINK_HANDSHAKE_S,
    LINK_HANDSHAKES_MAX,
    LINK_LOOK_S,
    LINK_SILENT_S,
    Bind,
    Settings,
    parse_bind,
)
from bunqueue_trio.doors.handshake import Distrusted, admit_door, prove_door
from bunqueue_trio.doors.link import LinkLost
from bunqueue_trio.doors.opened import serve_opened
from bunqueue_trio.errors import StartupError
from bunqueue_trio.runtime.bell import Bell
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.transports.listener import Http
from bunqueue_trio.transports.sockets import context_of, open_tcp
from bunqueue_trio.transports.tls import TlsStream, handshake_turns
from bunqueue_trio.transports.wire import address_of, untie

_log = structlog.get_logger()

_GONE = (trio.BrokenResourceError, trio.ClosedResourceError)
# As often as a stop looks after connections.
_LOOK_S = 0.05
# How many looks at a leader that cannot be reached any more come sooner, and how soon.
_SOON, _SOON_S = 5, 0.1
_TLS = "tls://"
"""How the address of a leader begins whose link is encrypted."""
_PROBE = "link"
"""The address of nobody: who opens a connection with it only looks whether that is possible."""


Opened: TypeAlias = trio.SocketStream | TlsStream


class Certificate(NamedTuple):
    """What a leader shows, and what the proofs cover of it."""

    context: ssl.SSLContext
    fingerprint: bytes


class Where(NamedTuple):
    """Where a leader is reached, how, and the key."""

    bind: Bind
    is_tls: bool
    key: bytes


class RemoteLink:
    """A door's end. Whoever watches the database says where the leader is; :meth:`watch` finds out whether it can be reached."""

    def __init__(self) -> None:
        self._leader: Where | None = None
        self._last: Where | None = None
        """The last leader that there was, and what is open to it."""
        self._open_sockets: WeakSet[trio.socket.SocketType] = WeakSet()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_3
        # Nobody has signed it: the proofs cover it.
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE
        self._silent_since = math.inf
        self._reached: Where | None = None
        """The leader that could be reached last."""
        self.is_gone: bool = False
        """Whether that one could be, and its machine says now that nobody is there: its process has ended."""
        self._up = trio.Event()
        self._is_own = False
        self._news = Bell()
        """Rung when there may be something to see before the next look is due."""

    @property
    def is_up(self) -> bool:
        """Whether the leader could be reached, the last time that somebody tried."""
        return self._up.is_set()

    def note_leader(self, where: str | None, key: bytes, *, is_own: bool = False) -> None:
        """Note where the leader's link is, and the key; None: nobody leads. ``is_own``: this server leads now."""
        self._is_own = is_own
        is_tls = where is not None and where.startswith(_TLS)
        self._leader = None if where is None else Where(parse_bind(where.removeprefix(_TLS)), is_tls, key)
        if where is None:
            # Another one leads by now, maybe at the same address, and nobody knows that it has ended.
            self.is_gone, self._reached = False, None
        if self._leader is not None and self._leader != self._last:
            # The one before may only hang, and answer when nobody may believe it.
            self._let_go()
            self._last, self.is_gone = self._leader, False
            self._news.ring()

    def _note_down(self) -> None:
        # Whoever waits then waits for the connection that there is.
        if self.is_up:
            self._up = trio.Event()

    def _let_go(self) -> None:
        """End all that is open to the leader."""
        self._note_down()
        self._silent_since = math.inf
        while self._open_sockets:
            self._open_sockets.pop().close()

    async def open(self, address: str) -> Opened:
        """Return a connection to the leader's API; see :class:`bunqueue_trio.doors.link.Link`."""
        if not self.is_up:
            raise LinkLost("it could not be reached")
        leader = self._last
        try:
            stream = await self._open(address)
        except LinkLost:
            if self.is_up:
                self._note_down()
                self._news.ring()
            raise
        if self._last != leader:
            await trio.aclose_forcefully(stream)
            raise LinkLost("another one leads now")
        self._open_sockets.add(_socket_of(stream))
        return stream

    async def wait_up(self, seconds: float) -> bool:
        """Return whether the leader can be reached, now or within ``seconds``."""
        with trio.move_on_after(seconds):
            await self._up.wait()
        return self.is_up

    async def watch(self) -> None:
        """See whether the leader can be reached, again and again."""
        told: str | None = None
        failures = 0
        while True:
            leader = self._leader
            try:
                await trio.aclose_forcefully(await self._open(_PROBE))
            except LinkLost as lost:
                failures += 1
                self._note_down()
                self.is_gone = lost.is_refused and leader is not None and leader == self._leader == self._reached
                self._silent_since = min(self._silent_since, trio.current_time())
                if trio.current_time() - self._silent_since >= LINK_SILENT_S:
                    # It hangs: the kernel alone would hold on to it.
                    self._let_go()
                if self._leader is not None and told != str(lost):
                    told = str(lost)
                    _log.warning("the leader cannot be reached", leader=str(self._leader.bind), error=told)
            else:
                # Else it was another one that has answered.
                if leader is not None and leader == self._leader:
                    if not (self.is_up or self._is_own):
                        _log.info("serving through the leader", leader=str(leader.bind), tls=leader.is_tls)
                    self._up.set()
                    self._reached = leader
                self.is_gone = False
                told, self._silent_since, failures = None, math.inf, 0
            # A machine whose server is about to end does not say at once that nobody is there.
            with trio.move_on_after(_SOON_S if 0 < failures <= _SOON else LINK_LOOK_S):
                await self._news.wait()

    async def _open(self, address: str) -> Opened:
        if self._leader is None:
            raise LinkLost("nobody says where it is")
        bind, is_tls, key = self._leader
        stream: Opened | None = None
        shown = b""
        try:
            with trio.fail_after(LINK_HANDSHAKE_S):
                stream = bare = await trio.open_tcp_stream(bind.host, bind.port)
                _notice_death(bare)
                if is_tls:
                    stream = TlsStream(bare, self._context)
                    await stream.do_handshake()
                    shown = fingerprint(stream.certificate())
                await prove_door(stream, key, address, shown)
        except BaseException as error:
            if stream is not None:
                await trio.aclose_forcefully(stream)
                untie(stream)
            if isinstance(error, (OSError, trio.TooSlowError, Distrusted, *_GONE)):
                why = str(error) or "it does not answer"
                raise LinkLost(why, is_refused=_is_refused(error)) from None  # noqa: ASYNC104 - it was no Cancelled
            raise
        return stream


class RemoteDoors:
    """The leader's end: it serves what servers that wait hand over; see :class:`bunqueue_trio.transports.listener.Doors`."""

    def __init__(
        self, server: Server, listeners: list[trio.SocketListener], key: bytes, certificate: Certificate | None = None,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self._server = server
        self._on_close = on_close
        self._listeners = listeners
        self._key = key
        self._certificate = certificate
        self._turns = handshake_turns()
        self._greeting: dict[trio.CancelScope, None] = {}
        """Of connections that have not shown yet that they are doors'."""

    async def run(self, http: Http, connections: trio.Nursery) -> None:
        """Accept until the server stops."""
        async with trio.open_nursery() as accepting:
            admit = partial(self._admit, http)
            accepting.start_soon(partial(trio.serve_listeners, admit, self._listeners, handler_nursery=connections))
            await self._server.stop.wait()
            self._on_close()
            accepting.cancel_scope.cancel()
        for listener in self._listeners:
            await listener.aclose()

    async def wait_closed(self) -> None:
        """Return: what they have accepted is here, or nowhere."""
        await trio.lowlevel.checkpoint()

    async def wait_ended(self) -> None:
        """Wait until what they have asked is answered; they themselves go on."""
        while self._server.doors.requests:  # noqa: ASYNC110 - a stop looks, nobody tells
            await trio.sleep(_LOOK_S)

    async def _admit(self, http: Http, bare: trio.SocketStream) -> None:
        _notice_death(bare)
        stream: Opened = bare
        if self._certificate is not None:
            stream = TlsStream(bare, self._certificate.context, server_side=True, turns=self._turns)
        try:
            address = await self.greet(stream)
            if address is not None:
                door = address_of(stream)
                await serve_opened(self._server, http, stream, address, door, name=door, looks=True)
        finally:
            untie(stream)

    async def greet(self, stream: trio.abc.Stream) -> str | None:
        """Return the address that a door says; None: it is no door, or says nothing in time, and the stream is closed."""
        if len(self._greeting) >= LINK_HANDSHAKES_MAX:
            # Each is a descriptor. A door sends its word at once: the one that has been here longest is no door.
            oldest = next(iter(self._greeting))
            del self._greeting[oldest]
            oldest.cancel()
        scope = trio.CancelScope(deadline=trio.current_time() + LINK_HANDSHAKE_S)
        self._greeting[scope] = None
        try:
            with scope:
                return await admit_door(stream, self._key, self._certificate.fingerprint if self._certificate else b"")
        except (Distrusted, *_GONE) as error:
            if isinstance(error, Distrusted):
                _log.warning("no door of this leader", address=address_of(stream), error=str(error))
        finally:
            self._greeting.pop(scope, None)
        await trio.aclose_forcefully(stream)
        return None


def _is_refused(error: BaseException) -> bool:
    """Return whether nobody listens at any address of a machine."""
    cause = error.__cause__ or error
    causes = cause.exceptions if isinstance(cause, BaseExceptionGroup) else [cause]
    return all(isinstance(each, ConnectionRefusedError) for each in causes)


def _notice_death(stream: trio.SocketStream) -> None:
    """Let the kernel end ``stream`` when the other machine is gone without a word."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in ((socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3)):
        stream.setsockopt(socket.IPPROTO_TCP, option, value)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, LINK_SILENT_S * 1000)


def link_bind(settings: Settings) -> Bind | None:
    """Return where the link is to listen: next to the API, unless the settings say where; None: nowhere."""
    if settings.link_bind:
        return None if settings.link_bind == "none" else parse_bind(settings.link_bind)
    api = next((bind for bind in settings.binds if bind.path is None), None)
    if api is None:
        return None
    return Bind(api.host, api.port + 1 if 0 < api.port < 65535 else 0)


async def open_link(settings: Settings, *, has_waited: bool = False) -> list[trio.SocketListener]:
    """Return the listeners of the link, at another port where its usual one is taken; none where the link is switched off, or has no place.

    Raises:
        StartupError: the address that the settings name cannot be listened on; for who ``has_waited`` to lead, and goes on all the same, it is as usual.
    """
    bind = link_bind(settings)
    if bind is None:
        return []
    try:
        return await open_tcp(bind)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        if settings.link_bind and not has_waited:
            raise StartupError(f"LINK_BIND={settings.link_bind}: cannot listen: {reason}") from None
        return await _open_elsewhere(bind, str(reason))


async def _open_elsewhere(bind: Bind, reason: str) -> list[trio.SocketListener]:
    """Listen at any port: others read in the database where the link is."""
    try:
        listeners = await open_tcp(bind._replace(port=0))
    except (OSError, UnicodeError) as error:
        _log.warning(
            "no link: servers that wait cannot pass on requests; set LINK_BIND", address=str(bind), error=str(error)
        )
        return []
    _log.warning(
        "the address of the link is taken, so it has another port; set LINK_BIND where others cannot reach that",
        address=str(bind), error=reason, port=listeners[0].socket.getsockname()[1],
    )  # fmt: skip
    return listeners


def link_certificate(settings: Settings) -> Certificate | None:
    """Return what a leader shows, None where its link is not encrypted; raises as :func:`tls_context`."""
    context = context_of(settings, "link_tls_cert_file", "link_tls_key_file")
    if context is None:
        return None
    assert settings.link_tls_cert_file is not None
    _, begin, rest = (
        Path(settings.link_tls_cert_file).read_text(encoding="ascii", errors="replace").partition(ssl.PEM_HEADER)
    )
    # Behind it are those that have signed it.
    first, end, _ = rest.partition(ssl.PEM_FOOTER)
    return Certificate(context, fingerprint(ssl.PEM_cert_to_DER_cert(begin + first + end)))


def newest_certificate(settings: Settings, known: Certificate | None) -> Certificate | None:
    """Return what a leader shows that has ``known`` one since its start, by the files as they are now; that one where they are away or broken by now.

    Raises:
        StartupError: they are, and it has none.
    """
    try:
        return link_certificate(settings)
    except StartupError as error:
        if known is None:
            raise
        _log.error("the certificate of the link cannot be read, going on with that of the start", error=str(error))
        return known


def fingerprint(certificate: bytes) -> bytes:
    """Return what is compared of a certificate."""
    return hashlib.sha256(certificate).digest()


def _socket_of(stream: Opened) -> trio.socket.SocketType:
    bare: Any = stream.transport_stream if isinstance(stream, TlsStream) else stream
    return bare.socket  # type: ignore[no-any-return]


def announced(listeners: list[trio.SocketListener], own_host: str, *, is_tls: bool = False) -> str:
    """Return the address that others reach the link at; ``own_host`` where it listens on all addresses of this machine."""
    host, port = listeners[0].socket.getsockname()[:2]
    return (_TLS if is_tls else "") + str(Bind(own_host if host in ("0.0.0.0", "::") else host, port))  # noqa: S104 - it is not listened on here
