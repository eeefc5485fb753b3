"""Commands as a person would type them for a shell with ``curl``; those of this project's command line are in ``pages/words.py``."""

import shlex
from collections.abc import Mapping
from typing import Any

import msgspec

from bunqueue_trio.protocol.codec import decode, encode
from bunqueue_trio.protocol.commands import Command
from bunqueue_trio.protocol.request import path_of, target_of


def make(kind: type[Command], fields: Mapping[str, Any]) -> Command:
    """Return the command with these fields, by their names in JSON.

    Raises:
        Refused: one of them is out of its bounds.
    """
    path = path_of(kind)
    assert path is not None
    body = dict(fields)
    given = {part[1:]: str(body.pop(part[1:])) for part in path.path.split("/") if part.startswith(":")}
    return decode(kind, encode(body), **given)


def json_object(text: str) -> dict[str, Any] | None:
    """Return the JSON object that an address has; None where it has none: whoever has written it may have written anything."""
    try:
        found: dict[str, Any] = msgspec.json.decode(text.encode("utf-8", "replace"), type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return None
    return {name: value for name, value in found.items() if value is not None}


def curl(base: str, kind: type[Command], fields: Mapping[str, Any], *, with_token: bool) -> str:
    """Return the line that sends the command."""
    path = path_of(kind)
    assert path is not None
    body = dict(fields)
    url = base + target_of(path.path, body)
    parts = ["curl"] + ([] if path.method == "POST" and body else ["-X", path.method])
    if with_token:
        parts.append('-H "Authorization: Bearer $BUNQUEUE_TOKEN"')
    parts.append(shlex.quote(url))
    # One that changes nothing has a body, too.
    if body or path.method == "PUT":
        parts += ["-d", shlex.quote(encode(body).decode())]
    return " ".join(parts)
