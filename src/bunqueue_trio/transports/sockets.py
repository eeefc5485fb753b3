"""Where the server listens: TCP and Unix sockets, with or without TLS. It opens them and serves nobody."""

import errno
import os
import resource
import socket
import ssl
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import trio

from bunqueue_trio.config import BACKLOG, DESCRIPTORS_KEPT, DOORS_END_S, Bind, Settings, check_data_path
from bunqueue_trio.errors import StartupError
from bunqueue_trio.transports.brisk import BriskListener
from bunqueue_trio.transports.newcomers import Eager
from bunqueue_trio.transports.tls import TlsListener, TlsStream, Turns, handshake_turns
from bunqueue_trio.transports.wire import make_buffer

Listener: TypeAlias = "trio.abc.Listener[trio.SocketStream] | trio.abc.Listener[TlsStream]"

# A proxy in the server's group gets in, nobody else.
_SOCKET_MODE = 0o660
# What `[::]` means where there is no IPv6.
_ALL = "0.0.0.0"  # noqa: S104 - said by whoever starts it
# A kernel without IPv6, and one where it is switched off, whose hosts may have an address all the same: `::1 localhost`.
_NOT_HERE = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})


class UnixListener(trio.abc.Listener[trio.SocketStream]):
    """Accepts on a Unix socket whose file goes away with it."""

    def __init__(self, sock: trio.socket.SocketType, path: str) -> None:
        self._listener = Eager(trio.SocketListener(sock))
        self._path = path
        self._inode = Path(path).stat().st_ino

    async def accept(self) -> trio.SocketStream:
        """Return the next connection."""
        return await self._listener.accept()

    async def aclose(self) -> None:
        """Stop listening and remove the file, unless another server has put its own there."""
        _remove(self._path, self._inode)
        await self._listener.aclose()


def _remove(path: str, inode: int) -> None:
    # Somebody removed it already.
    with suppress(OSError):
        if Path(path).stat().st_ino == inode:
            Path(path).unlink()


def connections_that_fit(settings: Settings, descriptors: int = 1) -> int:
    """Return how many connections may be open: the setting, or as many as this process has descriptors for.

    Each takes this many ``descriptors``.

    The process takes what it is allowed to for it: the usual soft limit of 1024 is for programs that use ``select``.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = settings.connections_max * descriptors + DESCRIPTORS_KEPT
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return settings.connections_max
    return max(1, (soft - DESCRIPTORS_KEPT) // descriptors)


def check_startable(settings: Settings) -> None:
    """Refuse settings with which the server cannot start whatever else is the case: certificates, names of hosts, too few descriptors.

    Raises:
        StartupError: as the start would.
    """
    if not settings.store:
        check_data_path(settings.data_path)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < DESCRIPTORS_KEPT:
        # Its first clients would take those that it needs to go on starting.
        raise StartupError(
            f"ulimit -n is {most}: a server needs {DESCRIPTORS_KEPT} files for itself, and one for each connection"
        )
    tls_context(settings)
    context_of(settings, "link_tls_cert_file", "link_tls_key_file")
    if settings.doors and all(bind.path is not None for bind in settings.binds):
        raise StartupError(
            f"DOORS={settings.doors}: BIND has no TCP address, and a Unix socket stays with the server itself"
        )
    for bind in settings.binds:
        if bind.path is None:
            try:
                socket.getaddrinfo(bind.host, bind.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            except (OSError, UnicodeError) as error:
                raise StartupError(f"{bind}: cannot listen: {getattr(error, 'strerror', None) or error}") from None


_LINK = "; the link of a server on the port before would take it, too: two servers of a queue on one machine need ports that are two apart"


class Opened(NamedTuple):
    """What a server listens on."""

    listeners: Sequence[Listener]
    addresses: list[str]
    """As URLs."""
    dealt: list[list[socket.socket]]
    """The sockets of each door."""

    @property
    def tcp(self) -> list[trio.socket.SocketType]:
        """The sockets of the listeners at TCP addresses."""
        return [listener.socket for listener in self.listeners if isinstance(listener, Eager | TlsListener)]

    async def close(self) -> None:
        """Listen no more."""
        for listener in self.listeners:
            await trio.aclose_forcefully(listener)
        for sockets in self.dealt:
            close_all(sockets)


async def open_first(settings: Settings) -> Opened | None:
    """Open the listeners of a server whose file is not there yet: an address that others have is found before a file is made that nobody would need.

    None: the file is there. It may be held by a server that ends just now, and its addresses as well.

    Raises:
        StartupError: as :func:`open_listeners`.
    """
    return None if _is_there(settings.data_path) else await open_listeners(settings, settings.doors)


def _is_there(path: str) -> bool:
    return os.path.lexists(path)


async def open_listeners(settings: Settings, doors: int = 0) -> Opened:
    """Return the listeners for the settings, or for each of the ``doors`` a socket at every TCP address instead: the kernel deals connections out to them.

    Raises:
        StartupError: naming the address that cannot be listened on, or the file that is no certificate or key; of doors they say so themselves.
    """
    # A door reads it for itself, again and again where it is away or broken by now.
    context = None if doors else tls_context(settings)
    scheme = "http" if settings.tls_cert_file is None else "https"
    turns = handshake_turns()
    listeners: list[Listener] = []
    opened = Opened(listeners, [], [[] for _ in range(doors)])
    for bind in settings.binds:
        try:
            if bind.path is not None:
                listeners.append(_open_unix(bind.path))
                opened.addresses.append(f"unix:{bind.path}")
                continue
            for tcp in await (_open_soon(bind) if doors else open_tcp(bind)):
                host, port = tcp.socket.getsockname()[:2]
                opened.addresses.append(f"{scheme}://{Bind(host, port)}")
                if doors:
                    _deal(tcp, opened.dealt)
                else:
                    listeners.append(wrapped(tcp, context, turns))
        except (OSError, UnicodeError) as error:
            # UnicodeError: a host name that cannot be one.
            with trio.move_on_after(1, shield=True):
                await opened.close()
            reason = getattr(error, "strerror", None) or error
            # The neighbour's link, as like as not: nobody has set that port anywhere.
            is_taken = bind.path is None and getattr(error, "errno", None) == errno.EADDRINUSE
            link = _LINK if settings.store and is_taken else ""
            raise StartupError(f"{bind}: cannot listen: {reason}{link}") from None
    return opened


def deal_out(opened: Opened, doors: int) -> Opened:
    """Return what ``opened`` is when each of the ``doors`` has a socket at its TCP addresses; who waits in one of the old ones is the first door's.

    Nobody else can take an address meanwhile.

    Raises:
        OSError: there is nothing to be had for it now, such as descriptors; nothing has changed.
    """
    dealt: list[list[socket.socket]] = [[] for _ in range(doors)]
    try:
        for tcp in opened.tcp:
            dealt[0].append(socket.fromfd(tcp.fileno(), tcp.family, tcp.type))
            _bind_beside(dealt[0][-1], dealt[1:])
    except OSError:
        for sockets in dealt:
            close_all(sockets)
        raise
    for tcp in opened.tcp:
        tcp.close()
    return Opened([each for each in opened.listeners if isinstance(each, UnixListener)], opened.addresses, dealt)


def wrapped(listener: trio.SocketListener, context: ssl.SSLContext | None, turns: Turns) -> Listener:
    """Return the listener for TLS, where there is a ``context``; ``turns`` are its handshakes'."""
    eager = Eager(listener)
    if context is None:
        return eager
    return TlsListener(BriskListener(eager, make_buffer()), context, turns)


def close_all(sockets: list[socket.socket]) -> None:
    """Close ``sockets`` here; who has inherited one keeps it."""
    while sockets:
        sockets.pop().close()


def listen_no_more(sockets: Sequence[socket.socket]) -> None:
    """Let nobody connect to ``sockets`` until :func:`listen_again`, and keep their addresses; where the kernel can, as Linux does."""
    for sock in sockets:
        # The kernel may not be able to.
        with suppress(OSError):
            # One that does not listen would be deaf for good: whatever is accepted later is at its end before anything is read.
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                sock.shutdown(socket.SHUT_RD)


def listen_again(sock: socket.socket) -> socket.socket:
    """Return ``sock``, which listens, whether it did or not.

    Raises:
        OSError: it cannot.
    """
    sock.listen(BACKLOG)
    return sock


def _deal(first: trio.SocketListener, doors: Sequence[list[socket.socket]]) -> None:
    """Give each door a socket of its own at the address of ``first``, which is closed.

    That one was bound alone, so that an address that somebody else has is an error, also where they would share it. And it may be at a port that
    the kernel has chosen: such a one would get another when it listens again.
    """
    with first.socket:
        _bind_beside(first.socket, doors)


def _bind_beside(sock: "socket.socket | trio.socket.SocketType", doors: Sequence[list[socket.socket]]) -> None:
    """Give each door a socket at the address of ``sock``."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    for sockets in doors:
        other = socket.socket(sock.family, socket.SOCK_STREAM)
        sockets.append(other)
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
            other.setsockopt(socket.SOL_SOCKET, option, 1)
        if sock.family == socket.AF_INET6:
            both = sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
            other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, both)
        other.bind(sock.getsockname())
        other.listen(BACKLOG)


async def _open_soon(bind: Bind) -> list[trio.SocketListener]:
    """Do as :func:`open_tcp`, and try again for a moment: doors of a server that was killed have the address until they notice."""
    with trio.move_on_after(DOORS_END_S):
        while True:
            try:
                return await open_tcp(bind)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            await trio.sleep(DOORS_END_S / 20)
    return await open_tcp(bind)


async def open_tcp(bind: Bind) -> list[trio.SocketListener]:
    """Listen at every address of a host; where it has others, those of IPv6 may be none of this machine.

    Raises:
        OSError: another address cannot be listened on, or there is none.
        UnicodeError: the host is no name.
    """
    found = await trio.socket.getaddrinfo(bind.host, bind.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    # Every address of this machine, of both families: what other servers do with it.
    takes_both = bind.host == "::"
    listeners: list[trio.SocketListener] = []
    missing: OSError | None = None
    # A name may have the same one twice.
    for family, place in dict.fromkeys((family, place) for family, _, _, _, place in found):
        try:
            listeners.append(_listen(family, place, takes_both=takes_both))
        except OSError as error:
            if family == socket.AF_INET6 and error.errno in _NOT_HERE:
                missing = error
                continue
            for listener in listeners:
                listener.socket.close()
            raise
    if missing is not None and not listeners:
        if takes_both:
            return [_listen(socket.AF_INET, (_ALL, bind.port))]
        raise missing
    return listeners


def _listen(family: int, place: tuple[Any, ...], *, takes_both: bool = False) -> trio.SocketListener:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not takes_both)
        sock.bind(place)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return trio.SocketListener(trio.socket.from_stdlib_socket(sock))


def _open_unix(path: str) -> UnixListener:
    """Listen at ``path``; a file that a dead server left there makes room."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _make_room(path)
        # Not afterwards: nobody else may get in meanwhile. No other task runs here, and no thread makes files yet.
        others = os.umask(0o777 & ~_SOCKET_MODE)
        try:
            sock.bind(path)
        finally:
            os.umask(others)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return UnixListener(trio.socket.from_stdlib_socket(sock), path)


def _make_room(path: str) -> None:
    """Remove ``path`` if it is a socket that nobody listens on."""
    if not Path(path).exists() or not stat.S_ISSOCK(Path(path).stat().st_mode):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """Return the context for TLS on TCP connections; None: there is no TLS.

    Only HTTP/1.1 is offered: every connection is then served by the same code as one without TLS.

    Raises:
        StartupError: naming the file and what is wrong with it.
    """
    context = context_of(settings, "tls_cert_file", "tls_key_file")
    if context is not None:
        context.set_alpn_protocols(["http/1.1"])
    return context


def context_of(settings: Settings, cert: str, key: str) -> ssl.SSLContext | None:
    """Return a server's context with the files of two settings, None where there are none; raises as :func:`tls_context`."""
    files: list[str | None] = [getattr(settings, name) for name in (cert, key)]
    cert_file, key_file = files
    if cert_file is None or key_file is None:
        return None
    for name, file in ((cert, cert_file), (key, key_file)):
        try:
            Path(file).read_bytes()
        except OSError as error:
            raise StartupError(f"{name.upper()}={file!r}: cannot be read: {error.strerror}") from None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # Without an answer to it, a key with a passphrase would stop the start at a prompt.
        context.load_cert_chain(cert_file, key_file, password=lambda: "")
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or str(error)
        raise StartupError(
            f"{cert.upper()}={cert_file!r}, {key.upper()}={key_file!r}: are no certificate with its key: {reason}"
        ) from None
    return context
