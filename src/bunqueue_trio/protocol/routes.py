"""The table of routes: method and path → command or page, and the matching of a request to a row."""

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Literal, NamedTuple
from urllib.parse import unquote_to_bytes

from msgspec import inspect as types
from msgspec.structs import fields

from bunqueue_trio import errors
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.catalog import CATALOG
from bunqueue_trio.protocol.codec import encode
from bunqueue_trio.protocol.commands.spec import Does, Role
from bunqueue_trio.protocol.request import target_of

_BAD_ESCAPE = re.compile(r"%(?![0-9a-fA-F]{2})")


class Route(NamedTuple):
    """One row. ``target`` is the command, or the name of a page of the server itself.

    ``open`` routes skip rate limit and authentication. A command's fields come from the ``:names`` of
    the path, and from the query for GET, else from the body (which may be empty if ``optional_body``).
    ``auth`` says when a route that is not open asks for one: ``metrics`` with METRICS_AUTH only. ``role`` is what the
    token must have then.
    """

    method: str
    path: str
    target: type[c.Command] | str
    open: bool = False
    optional_body: bool = False
    auth: Literal["always", "metrics", "never"] = "always"
    role: Role = Role.READ

    def asks_for_token(self, *, metrics_auth: bool) -> bool:
        """Return whether a request needs a token where tokens are configured."""
        return self.auth == "always" or (self.auth == "metrics" and metrics_auth)


def _place(route: Route) -> tuple[bool, int, bool]:
    """Return the key that orders the commands for readers: those of queues, then those of jobs; short paths first, names last."""
    segments = route.path.split("/")[1:]
    return segments[0] != "queues", len(segments), segments[-1].startswith(":")


def _routes(*, session: bool) -> list[Route]:
    """Return the rows of the catalogue that have a path, of the engine's commands or of the others."""
    rows = [(spec, spec.http) for spec in CATALOG if (spec.does is Does.SESSION) is session]
    routes = [
        Route(http.method, http.path, spec.command, optional_body=http.optional_body, role=spec.role)
        for spec, http in rows
        if http
    ]
    return sorted(routes, key=_place)


ROUTES = (
    *_routes(session=False),
    Route("GET", "/events", "events"),
    Route("GET", "/events/queues/:queue", "events"),
    Route("GET", "/events/log", "event-log"),
    Route("GET", "/export/jobs", "export"),
    Route("GET", "/ws", "websocket"),
    Route("GET", "/ws/queues/:queue", "websocket"),
    *_routes(session=True),
    Route("GET", "/metrics", "metrics"),
    Route("GET", "/prometheus", "prometheus", auth="metrics"),
    Route("GET", "/tasks", "tasks"),
    Route("GET", "/audit", "audit"),
    Route("GET", "/findings", "findings"),
    Route("POST", "/ticket", "ticket", optional_body=True),
    Route("GET", "/health", "health", open=True),
    Route("GET", "/healthz", "live", open=True),
    Route("GET", "/live", "live", open=True),
    Route("GET", "/ready", "ready", open=True),
    Route("POST", "/gc", "gc", open=True),
    Route("GET", "/heapstats", "heapstats", open=True),
    Route("GET", "/openapi.json", "openapi", auth="never"),
    Route("GET", "/docs", "docs", auth="never"),
    Route("GET", "/docs/swagger-ui.css", "docs-style", auth="never"),
    Route("GET", "/docs/swagger-ui-bundle.js", "docs-bundle", auth="never"),
    Route("GET", "/docs/start.js", "docs-start", auth="never"),
)
"""Every route of the server."""


NOT_EXPORTED = ("count", "limit", "after")
"""The fields of the filter of jobs that are not for a download, which is all of them."""


class _Node:
    """A place in the tree of paths: what stands literally next, a name for anything, and an end."""

    def __init__(self, name: str = "") -> None:
        self.literal: dict[str, _Node] = {}
        self.any: _Node | None = None
        self.name = name
        self.methods: dict[str, Route] = {}


class Match(NamedTuple):
    """Where a path leads: the routes by method, and the values of its names."""

    methods: Mapping[str, Route]
    values: dict[str, str]


class Router:
    """Finds the row of a path. A literal segment beats a name, but hides none of the methods that only the name has.

    Raises:
        ValueError: two names are in one place, or a row is there twice.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self._root = _Node()
        for route in routes:
            node = self._root
            for segment in route.path.split("/")[1:]:
                if segment.startswith(":"):
                    node.any = node.any or _Node(segment[1:])
                    node = node.any
                    if node.name != segment[1:]:
                        raise ValueError(f"{route.path}: {segment} stands where :{node.name} does")
                else:
                    node = node.literal.setdefault(segment, _Node())
            if route.method in node.methods:
                raise ValueError(f"{route.method} {route.path} is there twice")
            node.methods[route.method] = route

    def match(self, path: str, method: str = "GET") -> Match | None:
        """Return where the raw ``path`` (still percent-encoded) leads, or None; the values are those for ``method``.

        Raises:
            Refused: the path has a broken percent-escape or is not UTF-8.
        """
        node = self._root
        values: dict[str, str] = {}
        for raw in path.split("/")[1:]:
            segment = decode_segment(raw) if "%" in raw or not raw.isascii() else raw
            following = node.literal.get(segment)
            if following is None:
                following = node.any
                if following is None:
                    return None
                values[following.name] = segment
            elif node.any is not None:
                return self._match_hidden(path, method)
            node = following
        if path.endswith("/") and method not in node.methods:
            # A name that is empty is no reason to say which methods there are.
            return None
        return Match(node.methods, values) if node.methods else None

    def _match_hidden(self, path: str, method: str) -> Match | None:
        """Do the same for a path with a literal where a name could stand too, such as a job of the id ``ack-batch``."""
        matches = list(_matches(self._root, [decode_segment(raw) for raw in path.split("/")[1:]], {}))
        methods = {name: route for match in reversed(matches) for name, route in match.methods.items()}
        for match in matches:
            if method in match.methods:
                return Match(methods, match.values)
        return Match(methods, matches[0].values) if matches else None


def _matches(node: _Node, segments: list[str], values: dict[str, str]) -> Iterator[Match]:
    """Yield all places that ``segments`` lead to from ``node``, literal ones first."""
    if not segments:
        if node.methods:
            yield Match(node.methods, values)
        return
    segment, *rest = segments
    if segment in node.literal:
        yield from _matches(node.literal[segment], rest, values)
    if node.any is not None:
        yield from _matches(node.any, rest, values | {node.any.name: segment})


def decode_segment(raw: str) -> str:
    """Return a path segment or query part (latin-1 text of its bytes), percent-decoded.

    Raises:
        Refused: it has a broken escape or is not UTF-8.
    """
    if _BAD_ESCAPE.search(raw):
        raise errors.INVALID_PATH.refuse()
    try:
        return unquote_to_bytes(raw.encode("latin-1")).decode()
    except UnicodeDecodeError:
        raise errors.INVALID_PATH.refuse() from None


def path_of_page(name: str, **given: str) -> str:
    """Return where a page of the server itself is, with the ``:names`` that are ``given`` filled in."""
    paths = (route.path for route in ROUTES if route.target == name)
    path = next(path for path in paths if {part[1:] for part in path.split("/") if part[:1] == ":"} == given.keys())
    return target_of(path, dict(given))


def query_object(query: str, kind: type[c.Command]) -> bytes:
    """Return the JSON object that says the same as a query string, each value as the field of ``kind`` wants it.

    A name that comes more than once is a list where the field is one; else the last counts, as in JSON.

    Raises:
        Refused: it has a broken escape or is not UTF-8.
    """
    # Pollers ask the same again and again.
    return _known_object(query, kind) if len(query) <= _SHORT else _object(query, kind)


def refuse_query(query: str, kind: type[c.Command]) -> None:
    """Refuse a query with a field that nobody reads, where ``kind`` knows all its fields.

    Raises:
        Refused: there is a parameter; or it has a broken escape or is not UTF-8.
    """
    if query and kind.__struct_config__.forbid_unknown_fields:
        for pair in query.split("&"):
            if pair:
                name = _plain(pair.partition("=")[0])
                raise errors.UNKNOWN_FIELD.refuse(f"{name[:100]} (in the query: fields belong in the body)")


_SHORT = 64
"""Characters of a query that is kept with what it says."""


def _object(query: str, kind: type[c.Command]) -> bytes:
    found: dict[str, list[str]] = {}
    for pair in query.split("&"):
        if pair:
            name, _, value = pair.partition("=")
            found.setdefault(_plain(name), []).append(_plain(value))
    readers, parts = _readers(kind), []
    for name, texts in found.items():
        reader = readers.get(name)
        if reader is None:
            if kind.__struct_config__.forbid_unknown_fields:
                raise errors.UNKNOWN_FIELD.refuse(name[:100])
        else:
            parts.append(b"%s:%s" % (encode(name), reader(texts)))
    return b"{" + b",".join(parts) + b"}"


_known_object = functools.lru_cache(maxsize=1024)(_object)

_LITERAL = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false")
"""Numbers and truths in JSON."""

_Reader = Callable[[list[str]], bytes]


@functools.cache
def _readers(kind: type[c.Command]) -> dict[str, _Reader]:
    """Return how the values of each field of a command are read."""
    return {f.encode_name: _reader(types.type_info(f.type)) for f in fields(kind)}


def _reader(shape: types.Type) -> _Reader:
    options = shape.types if isinstance(shape, types.UnionType) else (shape,)
    lists = [option for option in options if isinstance(option, types.ListType)]
    if lists:
        one = _text if isinstance(lists[0].item_type, types.StrType) else _literal
        return lambda texts: b"[%s]" % b",".join(map(one, texts))
    one = _text if any(isinstance(option, types.StrType) for option in options) else _literal
    return lambda texts: one(texts[-1])


def _literal(text: str) -> bytes:
    """Return a number or a truth; what is neither becomes a text, which the decoder complains of."""
    return text.encode() if _LITERAL.fullmatch(text) else encode(text)


def _text(text: str) -> bytes:
    return encode(text)


def _plain(raw: str) -> str:
    return decode_segment(raw.replace("+", " "))
