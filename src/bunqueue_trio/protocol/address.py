"""Where the server is, in each spelling that people have for it, and how to get in: BUNQUEUE_URL and BUNQUEUE_TOKEN where nobody says so."""

import os
import re
from importlib.metadata import PackageNotFoundError, version
from ipaddress import IPv6Address
from platform import node
from typing import Any

_FORMS = "host:port, ws(s)://host:port, http(s)://host:port or unix:/path"
# None of these is in a host, and some libraries leave them out without a word.
_ODD = re.compile(r"[\s\x00-\x1f\x7f-\xa0\u2028\u2029]")
_HOST = re.compile(r"[A-Za-z0-9._-]+")
_PORT = re.compile(r"[0-9]{1,5}")
_ZONE = re.compile(r"[A-Za-z0-9._~-]+")
# A user and a password, or the values of a query.
_SECRET = re.compile(r".*(?=@)|(?<=[?#]).+", re.DOTALL)
PORT_MAX = 65_535
# Of the path of a socket, which the kernel ends with a zero.
SOCKET_MAX = 107


def given_url(url: str | None, default: str) -> str:
    """Return ``url``, or the one of the environment.

    Raises:
        ValueError: it is no address of a server; see :func:`http_url`.
    """
    if url is not None and url != "":
        http_url(url)
        return url
    said = os.environ.get("BUNQUEUE_URL")
    if not said:
        return default
    try:
        http_url(said)
    except ValueError as error:
        raise ValueError(f"BUNQUEUE_URL: {error}") from None
    return said


def given_token(token: str | None) -> str | None:
    """Return ``token``, or the one of the environment; None when that is missing or empty."""
    return (token if token is not None else os.environ.get("BUNQUEUE_TOKEN")) or None


def http_url(url: str) -> str:
    """Return the address for HTTP, in one spelling: ``http(s)://host``, with a port if it has one, or ``unix:/path``.

    ``ws(s)://host:port/ws`` is the same server, and so is ``host:port`` alone; a host in letters that names in the network
    do not have is in those that stand for them.

    Raises:
        ValueError: it is none, and why; no password is shown.
    """
    if not isinstance(url, str):
        raise ValueError(f"{url!r:.100} is no text, and so no address of a server")
    if url[:5].lower() == "unix:":
        return f"unix:{_socket(url)}"
    scheme, separator, rest = url.partition("://")
    scheme, rest = (scheme.lower(), rest) if separator else ("http", url)
    if _ODD.search(url):
        raise _wrong(url, "has a space or a control character in it")
    if scheme not in ("http", "https", "ws", "wss"):
        raise _wrong(url, f"is not {_FORMS}")
    if "@" in rest:
        raise _wrong(
            url, "has a user or a password in it: who asks is said by the token, in token=, --token or BUNQUEUE_TOKEN"
        )
    place, _, path = rest.partition("/")
    if "?" in rest or "#" in rest:
        raise _wrong(url, "has a query or a fragment, and is to end with the port")
    if path.strip("/") not in ("", "ws"):
        raise _wrong(url, "has a path, and is to end with the port: a server is at the root of its address")
    return f"{'https' if scheme in ('https', 'wss') else 'http'}://{_host_and_port(url, place)}"


def _socket(url: str) -> str:
    """Return the path of a socket; ``unix:///path`` is written, too."""
    path = url[5:]
    if path.startswith("//"):
        path = f"/{path.lstrip('/')}"
    if not path.strip("/"):
        raise _wrong(url, "names no socket: unix:/path is wanted")
    if not path.isprintable():
        raise _wrong(url, "has a control character in it")
    if len(os.fsencode(path)) > SOCKET_MAX:
        raise _wrong(url, f"has a path that is longer than the {SOCKET_MAX} bytes that one of a socket can have")
    return path


def _host_and_port(url: str, place: str) -> str:
    if place.startswith("["):
        host, _, port = place[1:].partition("]")
        colon, port = port[:1], port[1:]
        address, percent, zone = host.partition("%")
        # As it stands in addresses of pages.
        zone = zone.removeprefix("25") if zone != "25" else zone
        if "]" not in place or colon not in ("", ":") or bool(percent) != bool(_ZONE.fullmatch(zone)):
            raise _wrong(url, "is to have an IPv6 address, and no more, in its brackets: [::1]:6790")
        try:
            # Of several Pythons some write the last part of it as an IPv4 address.
            known = IPv6Address(address)
            spelled = f"::ffff:{known.ipv4_mapped}" if known.ipv4_mapped else str(known)
            host = f"[{spelled}{percent}{zone}]"
        except ValueError:
            raise _wrong(url, "has no IPv6 address in its brackets") from None
    elif place.count(":") > 1:
        raise _wrong(url, "has more than one colon: an IPv6 address stands in brackets, as in [::1]:6790")
    else:
        host, colon, port = place.partition(":")
        host = _name(url, host)
    if colon and not (_PORT.fullmatch(port) and 0 < int(port) <= PORT_MAX):
        raise _wrong(url, f"has no port from 1 to {PORT_MAX} behind its colon")
    return f"{host}:{int(port)}" if colon else host


def _name(url: str, host: str) -> str:
    """Return the name of a host, as the network knows it."""
    try:
        name = host.encode("idna").decode()
    except UnicodeError:
        name = ""
    if not host or not _HOST.fullmatch(name) or not name.strip(".-"):
        raise _wrong(url, f"names no host: {_FORMS} is wanted")
    return name


def _wrong(url: str, why: str) -> ValueError:
    """Return the error of an address, without what might be a password in it, or a token."""
    begin, separator, rest = url.rpartition("://")
    shown = begin + separator + _SECRET.sub("…", rest)
    return ValueError(f"{shown!r:.200} {why}")


def this_process() -> dict[str, Any]:
    """Return what a worker tells the server of the program that it is in."""
    try:
        release = version("bunqueue-trio")
    except PackageNotFoundError:
        # It runs from a directory of sources.
        release = "unknown"
    return {"hostname": node() or "unknown", "pid": os.getpid(), "version": f"bunqueue-trio {release}"}
