"""Where the server is and how to get in, when nobody has said so: BUNQUEUE_URL and BUNQUEUE_TOKEN."""

import os


def given_url(url: str | None, default: str) -> str:
    """Return ``url``; without one, that of the environment."""
    return url or os.environ.get("BUNQUEUE_URL") or default


def given_token(token: str | None) -> str | None:
    """Return ``token``, or that of the environment; None for none, which an empty one says too."""
    return (token if token is not None else os.environ.get("BUNQUEUE_TOKEN")) or None


def http_url(url: str) -> str:
    """Return the address for HTTP: ``ws(s)://host:port`` is the same server."""
    return f"http{url.removeprefix('ws')}" if url.startswith(("ws://", "wss://")) else url
