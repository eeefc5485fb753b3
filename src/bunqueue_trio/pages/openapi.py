"""The OpenAPI description of the HTTP interface, made from ``ROUTES`` and the types of commands and replies.

Routes, fields, answers, refusals and examples come from the catalogue of commands and their types; words that no type
holds, and the pages of the server about itself, are in ``openapi_words.py``.
"""

import functools
import inspect
import operator
import re
from collections.abc import Mapping
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec
import trio
from msgspec import Raw, Struct

from bunqueue_trio import __version__
from bunqueue_trio.pages.openapi_words import (
    ABOUT,
    DESCRIPTIONS,
    ERRORS,
    LINKS,
    PAGE_ANSWERS,
    SUMMARIES,
    Words,
)
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.catalog import CATALOG, SESSION, SPECS
from bunqueue_trio.protocol.codec import encode
from bunqueue_trio.protocol.commands.spec import Does, Example, Role
from bunqueue_trio.protocol.events import ALL_TYPES, EVENT_TYPES, EXTRA, NAMED, Event, EventType
from bunqueue_trio.protocol.faults import FAULTS, error_reply
from bunqueue_trio.protocol.routes import NOT_EXPORTED, ROUTES, Route
from bunqueue_trio.runtime.statistics import Page, Reporter

REPLIES: dict[type[c.Command], type[r.Reply]] = {
    spec.command: spec.reply for spec in CATALOG if spec.does is not Does.SESSION
}
"""Command → what its route answers with status 200; the others are answered like pages."""

EXAMPLES: dict[type[c.Command], Example] = {spec.command: spec.example for spec in CATALOG if spec.example is not None}

_REF = "#/components/schemas/{name}"
_QUEUE = {"type": "string", "pattern": "^[A-Za-z0-9_.:-]{1,256}$"}
_ANY_ID = {"type": "string", "minLength": 1}
_Schema = dict[str, Any]


async def openapi(server: Reporter) -> Page:
    """Return the page. It is made once, in many steps."""
    if not _encoded.cache_info().currsize:
        for shape in _shapes():
            _schemas(shape)
            await trio.lowlevel.checkpoint()
        for route in ROUTES:
            _operation(route)
            await trio.lowlevel.checkpoint()
    return "application/json", _encoded(), 200


@functools.cache
def _encoded() -> bytes:
    return encode(document())


@functools.cache
def _shapes() -> list[Any]:
    """Return the types of all bodies and answers."""
    return [*dict.fromkeys(_shape(route) for route in ROUTES if _has_body(route)), *_reply_types()]


@functools.cache
def _schemas(shape: Any) -> _Schema:
    """Return the schemas of a type and of all in it, by their names; those of all types take 20 to 40 ms."""
    _, components = msgspec.json.schema_components([shape], ref_template=_REF, schema_hook=_any)
    for schema in components.values():
        _close(schema)
        _widen(schema)
    return components


def document() -> _Schema:
    """Return the whole description."""
    components: _Schema = {}
    for shape in _shapes():
        components |= _schemas(shape)
    # No enum: a newer server may have more of them.
    refusal: _Schema = components["ErrorReply"]["properties"]
    refused = refusal | {"code": refusal["code"] | {"examples": sorted(FAULTS)}}
    components["ErrorReply"] = components["ErrorReply"] | {"properties": refused}
    paths: dict[str, _Schema] = {}
    for route in ROUTES:
        path = re.sub(r":(\w+)", r"{\1}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "bunqueue-trio", "version": __version__, "description": ABOUT, "license": {"name": "MIT"}},
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": components | {"Event": _event()},
            "securitySchemes": {
                "token": {
                    "type": "http", "scheme": "bearer",
                    "description": (
                        "One of AUTH_TOKENS, or of AUTH_TOKENS_FILE with the role of the operation, or a higher one: read, "
                        "work, admin. Not needed where none are configured."
                    ),
                }
            },
            "responses": {str(status): _error(status, words) for status, words in ERRORS.items()},
        },
    }  # fmt: skip


def _event() -> _Schema:
    """Return the schema of what streams and WebSockets tell: one shape for each type of event."""
    types = {f.name: f.type for f in msgspec.structs.fields(Event)}
    encoded = {f.name: f.encode_name for f in msgspec.structs.fields(Event)}
    shapes = []
    fields = {kind: ("queue", "job_id") + ((EXTRA[kind],) if kind in EXTRA else ()) for kind in EventType.__args__}  # type: ignore[attr-defined]
    for kind, names in sorted((fields | NAMED).items()):
        properties = {encoded[name]: _plain(types[name]) for name in (*names, "timestamp")}
        required = [name for name in properties if kind in EVENT_TYPES or name not in ("reason", "until", "name")]
        shapes.append(
            {
                "type": "object",
                "properties": {"eventType": {"const": kind}} | properties,
                "required": ["eventType", *required],
                "additionalProperties": False,
            }
        )
    return {"description": "What happened; times in epoch ms.", "oneOf": shapes}


def _plain(shape: Any) -> _Schema:
    """Return the schema of a field that is there; a payload may be any value."""
    present = [_in_json(part) for part in get_args(shape) or (shape,) if part is not msgspec.UnsetType]
    return msgspec.json.schema(functools.reduce(operator.or_, present))


def _widen(schema: Any) -> Any:
    """Describe what the types do not say: times are rounded up, and some texts are made of anything. Changes ``schema``."""
    if isinstance(schema, list):
        for part in schema:
            _widen(part)
    elif isinstance(schema, dict):
        read = schema.pop("read", None)
        if read == "ms":
            schema |= {"type": "number", "exclusiveMinimum": schema.pop("minimum") - 1}
        elif read == "any":
            schema.pop("type")
            schema.pop("maxLength")
        for part in schema.values():
            _widen(part)
    return schema


def _any(kind: type) -> _Schema:
    """Return the schema of ``object``, which may be anything."""
    assert kind is object, kind
    return {"description": "any value"}


def operation_id(route: Route) -> str:
    """Return the name of a route's operation: of its command or page, told apart by the path."""
    name = route.target if isinstance(route.target, str) else route.target.__name__
    name = name[0].lower() + name[1:]
    return {
        "/healthz": "healthz",
        "/events/queues/:queue": "eventsOfQueue",
        "/ws/queues/:queue": "websocketOfQueue",
    }.get(route.path, name)


@functools.cache
def _operation(route: Route) -> _Schema:
    kind = route.target if isinstance(route.target, type) else None
    summary, _, more = (
        inspect.cleandoc(kind.__doc__ or "").partition("\n") if kind else (SUMMARIES.get(route.path), "", "")
    )
    assert summary, f"no words for {route.path}"
    operation: _Schema = {
        "operationId": operation_id(route),
        "summary": summary.replace("``", "`"),
        "tags": [_tag(route)],
        "responses": _responses(route),
    }
    if description := DESCRIPTIONS.get(route.path) or " ".join(more.split()).replace("``", "`"):
        operation["description"] = description
    if parameters := _parameters(route):
        operation["parameters"] = parameters
    if _has_body(route):
        body: _Schema = {"$ref": _REF.format(name=_shape(route).__name__)}
        content: _Schema = {"schema": {"anyOf": [body, {"type": "null"}]} if route.optional_body else body}
        assert kind is not None
        if kind in EXAMPLES:
            content["examples"] = {"documented": {"value": EXAMPLES[kind].request}}
        operation["requestBody"] = {"required": not route.optional_body, "content": {"application/json": content}}
    if route.open or route.auth == "never":
        operation["security"] = []
    else:
        needs: list[_Schema] = [{"token": [route.role.name.lower()]}]
        operation["security"] = [{}, *needs] if route.auth == "metrics" else needs
    return operation


def _tag(route: Route) -> str:
    if isinstance(route.target, str) or route.target in SESSION:
        return {"events": "events", "event-log": "events", "websocket": "events", "export": "jobs"}.get(
            str(route.target), "server"
        )
    first = route.path.split("/")[1]
    if first == "dead" or "/dlq" in route.path:
        return "dead letters"
    if first == "queues" and "/jobs" not in route.path:
        return "queues"
    return {
        "workers": "workers",
        "schedules": "schedules",
        "crons": "schedules",
        "actions": "server",
        "storage": "server",
    }.get(first, "jobs")


_DOWNLOADS = ("event-log", "export")


def _responses(route: Route) -> _Schema:
    kind = route.target
    responses = _answers(route)
    refusals = []
    if not route.open:
        refusals += [429] if route.auth == "never" else [401, 429]
        if route.role is not Role.READ:
            refusals.append(403)
    if ":queue" in route.path or (isinstance(kind, type) and kind in REPLIES) or kind in _DOWNLOADS:
        refusals.append(400)
    if isinstance(kind, type):
        refusals += {fault.status for fault in SPECS[kind].refuses} - {400}
    if _has_body(route) or route.optional_body:
        refusals.append(413)
    responses |= {str(status): {"$ref": f"#/components/responses/{status}"} for status in refusals}
    return dict(sorted(responses.items()))


def _answers(route: Route) -> _Schema:
    """Return the responses that are no refusals, and 503, with which a command may meet a full disk."""
    kind = route.target
    if not isinstance(kind, type) or kind not in REPLIES:
        return {
            str(status): {"description": description, "content": {media: {"schema": schema}}}
            for status, (description, media, schema) in PAGE_ANSWERS[kind].items()
        }
    content: _Schema = {"schema": {"$ref": _REF.format(name=REPLIES[kind].__name__)}}
    if kind in EXAMPLES:
        content["examples"] = {"documented": {"value": EXAMPLES[kind].answer}}
    answer: _Schema = {"description": "Done, and committed.", "content": {"application/json": content}}
    if kind in LINKS:
        answer["links"] = LINKS[kind]
    return {"200": answer, "503": {"$ref": "#/components/responses/503"}}


def _error(status: int, words: Words) -> _Schema:
    response: _Schema = {
        "description": words.description,
        "content": {
            "application/json": {
                "schema": {"$ref": _REF.format(name="ErrorReply")},
                "examples": {
                    name: {"value": msgspec.to_builtins(error_reply(refused))}
                    for name, refused in words.examples.items()
                },
            }
        },
    }
    if words.header is not None:
        name, schema = words.header
        response["headers"] = {name: {"schema": schema}}
    return response


def _parameters(route: Route) -> list[_Schema]:
    """Return the names in the path, and for GET the other fields of the command as the query."""
    names = re.findall(r":(\w+)", route.path)
    parameters: list[_Schema] = [
        {"name": name, "in": "path", "required": True, "schema": _QUEUE if name == "queue" else _ANY_ID}
        for name in names
    ]
    asked = c.FindJobs if route.target == "export" else route.target
    if route.method == "GET" and isinstance(asked, type):
        for f in msgspec.structs.fields(asked):
            if f.name == "req_id" or f.name in names or (route.target == "export" and f.name in NOT_EXPORTED):
                continue
            schema = _widen(msgspec.json.schema(_without_null(f.type)))
            if f.default is not msgspec.NODEFAULT and f.default is not None:
                schema["default"] = f.default
            parameters.append({"name": f.encode_name, "in": "query", "required": f.required, "schema": schema})
    schema = {"type": "integer", "minimum": 0}
    if route.target == "events":
        parameters.append({"name": "Last-Event-ID", "in": "header", "required": False, "schema": schema})
        parameters.append({"name": "since", "in": "query", "required": False, "schema": schema})
    if route.target == "event-log":
        for name, kind in (("from", schema), ("to", schema), ("queue", _QUEUE), ("jobId", _ANY_ID)):
            parameters.append({"name": name, "in": "query", "required": False, "schema": kind})
    if route.target in ("events", "event-log"):
        listed = {"type": "array", "items": {"enum": ["*", *sorted(ALL_TYPES)]}}
        parameters.append({"name": "types", "in": "query", "required": False, "explode": False, "schema": listed})
    return parameters


def _has_body(route: Route) -> bool:
    """Return whether a request says more than its path does, and not in its query."""
    if route.method == "GET" or not isinstance(route.target, type):
        return False
    return bool({f.name for f in msgspec.structs.fields(route.target)} - {"req_id", *re.findall(r":(\w+)", route.path)})


@functools.cache
def _shape(route: Route) -> type[Struct]:
    """Return the struct of a route's body: its command without what the path gives."""
    assert isinstance(route.target, type)
    return _twin(route.target, frozenset(re.findall(r":(\w+)", route.path)))


@functools.cache
def _twin(kind: type[Struct], without: frozenset[str] = frozenset()) -> type[Struct]:
    """Return a struct that says the same as a command's, in words that JSON Schema has.

    A payload is any value; what is optional may be null; ``cmd`` and ``reqId`` are not of HTTP.
    """
    fields: list[Any] = []
    for f in msgspec.structs.fields(kind):
        if f.name == "req_id" or f.name in without:
            continue
        shape = _in_json(f.type)
        # Raw has no "required" of its own.
        if f.required or (kind in (c.Push, c.JobSpec, c.Update) and f.name == "data"):
            fields.append((f.encode_name, shape))
        elif isinstance(f.default, Raw):
            fields.append((f.encode_name, shape, None))
        elif f.default_factory is not msgspec.NODEFAULT:
            fields.append((f.encode_name, shape | None, msgspec.field(default_factory=f.default_factory)))
        else:
            # What knows whether it was said has the contract's default all the same.
            knows = f.default is msgspec.UNSET and issubclass(kind, c.PushSpec)
            default = c.PUSH_DEFAULTS[f.name] if knows else f.default
            fields.append((f.encode_name, shape | None, default))
    is_strict = kind.__struct_config__.forbid_unknown_fields
    twin = msgspec.defstruct(kind.__name__, fields, kw_only=True, forbid_unknown_fields=is_strict)
    twin.__doc__ = kind.__doc__
    return twin


def _in_json(shape: Any) -> Any:
    """Return the type with every struct in it replaced by its twin and every payload by any value."""
    if shape is Raw:
        return Any
    if isinstance(shape, type) and issubclass(shape, Struct):
        return _twin(shape)
    origin, arguments = get_origin(shape), get_args(shape)
    if origin is Annotated:
        return Annotated[(_in_json(arguments[0]), *arguments[1:])]
    if origin is list:
        return list[_in_json(arguments[0])]  # type: ignore[misc]
    if origin in (Union, UnionType):
        return functools.reduce(operator.or_, (_in_json(each) for each in arguments if each is not msgspec.UnsetType))
    return shape


def _without_null(shape: Any) -> Any:
    """Return the type without None: a query has no null."""
    if get_origin(shape) in (Union, UnionType):
        return functools.reduce(operator.or_, (a for a in get_args(shape) if a is not type(None)))
    return shape


def _reply_types() -> list[type[Struct]]:
    return [*dict.fromkeys(REPLIES.values()), r.ErrorReply]


def _close(schema: _Schema) -> None:
    """Make the schema of a reply say exactly what comes: every field, and what ``ok`` is."""
    properties: Mapping[str, _Schema] = schema.get("properties", {})
    if "ok" in properties:
        schema["required"] = sorted(
            name for name, fields in properties.items() if "default" in fields or name in schema.get("required", ())
        )
        schema["additionalProperties"] = False
        ok = properties["ok"].get("default") is True
        schema["properties"] = {**properties, "ok": {"const": ok}}
