"""How a client asks for a command: its fields as JSON, and its request over HTTP."""

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import msgspec
from msgspec import Raw

from bunqueue_trio.errors import INVALID_FIELD
from bunqueue_trio.protocol.catalog import SPECS
from bunqueue_trio.protocol.commands import Command
from bunqueue_trio.protocol.commands.spec import Path

MESSAGE_MAX_HEADER = "X-Message-Max"
"""In the answer to the handshake of a WebSocket: the bytes of the longest message that the server takes."""

_FOR_PEOPLE = ("error", "stack", "message", "reason", "by")
"""Fields for texts that only people read, which may hold what is no text, such as the name of a file."""


class _Told(msgspec.Struct):
    """Of a failure only this is read: its texts are long."""

    token: str | None = None


_TOKENS = msgspec.json.Decoder(list[_Told])
_FIELDS = msgspec.json.Decoder(dict[str, Raw])
_encode = msgspec.json.Encoder().encode


def fields_of(command: Command) -> dict[str, Any]:
    """Return what ``command`` says, by the names of its fields in JSON; defaults are left out.

    Raises:
        TypeError: it is no command; it is for connections, and says something about the connection itself; or a field
            has no JSON.
        msgspec.DecodeError: a payload is no JSON.
    """
    if type(command) not in SPECS:
        raise TypeError(f"a command, such as Pause(queue=…), is wanted, not {command!r:.100}")
    if path_of(type(command)) is None:
        raise TypeError(f"{type(command).__name__} is about a connection, which a client keeps to itself")
    try:
        encoded = _encode(command)
    except UnicodeEncodeError:
        texts = {name: getattr(command, name) for name in _FOR_PEOPLE if hasattr(command, name)}
        encoded = _encode(msgspec.structs.replace(command, **_written_out(texts)))
    fields: dict[str, Any] = dict(_FIELDS.decode(encoded))
    del fields["cmd"]
    fields.pop("reqId", None)
    return fields


def json_of(fields: dict[str, Any]) -> bytes:
    """Return the JSON of the fields of a command; what is no text in a text for people is written out.

    Raises:
        UnicodeEncodeError: it is in anything else.
    """
    try:
        return _encode(fields)
    except UnicodeEncodeError:
        return _encode(_written_out(fields))


def has_tokens(fields: Mapping[str, Any]) -> bool:
    """Return whether these fields of a command name their jobs with lock tokens, each of several."""
    if (failures := fields.get("failures")) is not None:
        if isinstance(failures, Raw):
            return all(failure.token is not None for failure in _TOKENS.decode(failures))
        return all(failure.get("token") is not None for failure in failures)
    return fields.get("token") is not None or fields.get("tokens") is not None


def path_of(kind: type[Command]) -> Path | None:
    """Return where commands of this kind are over HTTP, or None."""
    return SPECS[kind].http


def target_of(path: str, fields: dict[str, Any]) -> str:
    """Return the path with its ``:names`` filled in; these are taken out of ``fields``.

    Raises:
        Refused: one of them is missing.
    """

    def taken(name: str) -> str:
        if name not in fields:
            raise INVALID_FIELD.refuse(name, "is required")
        return segment_of(_plain(fields.pop(name)))

    return "/".join(taken(part[1:]) if part[:1] == ":" else part for part in path.split("/"))


def segment_of(name: str) -> str:
    """Return ``name`` as one segment of a path; one of dots alone, too, which on its way would be taken for a folder."""
    return quote(name, safe="") if name.strip(".") else name.replace(".", "%2E")


class Request(NamedTuple):
    """A request over HTTP; ``target`` is path and query."""

    method: str
    target: str
    body: bytes | None


def request_of(kind: type[Command], fields: dict[str, Any]) -> Request:
    """Return the request for a command with ``fields``, by their names in JSON.

    Raises:
        UnicodeEncodeError: as :func:`json_of`.
    """
    http = path_of(kind)
    assert http is not None, kind
    rest = dict(fields)
    target = target_of(http.path, rest)
    if http.method == "GET":
        query = {name: _in_query(value) for name, value in query_of(rest).items()}
        return Request("GET", f"{target}?{urlencode(query, doseq=True)}" if query else target, None)
    return Request(http.method, target, json_of(rest) if rest or not http.optional_body else None)


def _in_query(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


def query_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields as the parameters of a query: a list is a name that comes more than once.

    What is null is left out, as what was not said: a query has no word for it.
    """
    said = {name: msgspec.json.decode(value) if isinstance(value, Raw) else value for name, value in fields.items()}
    return {name: value for name, value in said.items() if value is not None}


def _written_out(fields: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(fields)
    for name in _FOR_PEOPLE:
        if isinstance(text := found.get(name), str):
            found[name] = text.encode("utf-8", "backslashreplace").decode()
    if isinstance(failures := found.get("failures"), list):
        found["failures"] = [_written_out(failure) if isinstance(failure, dict) else failure for failure in failures]
    return found


def _plain(value: Any) -> str:
    return str(msgspec.json.decode(value) if isinstance(value, Raw) else value)
