"""Where the server is and how to get in, when nobody has said so: BUNQUEUE_URL and BUNQUEUE_TOKEN."""

import os
from importlib.metadata import PackageNotFoundError, version
from platform import node
from typing import Any
from urllib.parse import urlsplit

from bunqueue_trio.errors import Refused


def given_url(url: str | None, default: str) -> str:
    """Return ``url``, or the one of the environment."""
    return url or os.environ.get("BUNQUEUE_URL") or default


def given_token(token: str | None) -> str | None:
    """Return ``token``, or the one of the environment; None when that is missing or empty."""
    return (token if token is not None else os.environ.get("BUNQUEUE_TOKEN")) or None


def http_url(url: str) -> str:
    """Return the address for HTTP: ``ws(s)://host:port/ws`` is the same server, and so is ``host:port`` alone."""
    scheme, separator, rest = url.partition("://")
    url = scheme.lower() + separator + rest if separator else url
    if url.startswith(("ws://", "wss://")):
        url = f"http{url.removeprefix('ws').rstrip('/').removesuffix('/ws')}"
    return url if "://" in url or url.startswith("unix:") else f"http://{url}"


def check_url(url: str) -> None:
    """Refuse what is no address of a server.

    Raises:
        Refused: it is not ``host:port``, ``ws(s)://host:port``, ``http(s)://host:port`` or ``unix:/path``.
    """
    try:
        parts = urlsplit(http_url(url))
        # A port that is none raises, too.
        is_place = parts.scheme in ("http", "https") and parts.hostname is not None and parts.port != 0
    except ValueError:
        is_place = False
    if not is_place and not url.startswith("unix:"):
        raise Refused(400, f"{masked(url)!r} is not host:port, ws(s)://host:port, http(s)://host:port or unix:/path")


def masked(url: str) -> str:
    """Return ``url`` without a user's password in it, for people to see."""
    scheme, separator, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    return f"{scheme}{separator}…@{place.rpartition('@')[2]}{slash}{path}" if "@" in place else url


def this_process() -> dict[str, Any]:
    """Return what a worker tells the server of the program that it is in."""
    try:
        release = version("bunqueue-trio")
    except PackageNotFoundError:
        # It runs from a directory of sources.
        release = "unknown"
    return {"hostname": node() or "unknown", "pid": os.getpid(), "version": f"bunqueue-trio {release}"}
