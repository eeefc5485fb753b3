"""The tables of docs/operations.md, docs/websocket.md and docs/cluster.md as the code has them; `python -m tests.operations.tables` writes them."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import msgspec
import trio
from msgspec import Raw
from msgspec import inspect as types
from prometheus_client.parser import text_string_to_metric_families

from bunqueue_trio import errors
from bunqueue_trio.config import Settings
from bunqueue_trio.pages.openapi import EXAMPLES, REPLIES
from bunqueue_trio.pages.openapi_words import PAGE_ANSWERS
from bunqueue_trio.pages.prometheus import prometheus
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.catalog import CATALOG, COMMANDS, SPECS
from bunqueue_trio.protocol.commands.spec import Again, Role
from bunqueue_trio.protocol.events import EVENT_TYPES, EXTRA, NAMED, Event
from bunqueue_trio.protocol.faults import FAULTS
from bunqueue_trio.protocol.routes import ROUTES
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.storage.memory import MemoryStore

DOCS = Path(__file__).parents[2] / "docs"


def settings_table() -> list[str]:
    """Return one row for each setting."""
    rows = ["| variable | flag and key in the file | default | range | what it is |", "| --- | --- | --- | --- | --- |"]
    for f in fields(Settings):
        flag = "--" + f.name.replace("_", "-")
        what = f.metadata["help"].replace("|", "\\|")
        rows.append(f"| `{f.metadata['env']}` | `{flag}`, `{f.name}` | {_default(f)} | {_range(f.metadata)} | {what} |")
    return rows


def _default(f: Any) -> str:
    if f.metadata["shown"]:
        return str(f.metadata["shown"])
    if f.default in (None, (), ""):
        return "none"
    if isinstance(f.default, tuple):
        return f"`{','.join(f.default)}`"
    return f"`{str(f.default).lower() if isinstance(f.default, bool) else f.default}`"


def _range(meta: Any) -> str:
    if meta["choices"]:
        return ", ".join(f"`{choice}`" for choice in meta["choices"])
    if meta["low"] is None:
        return ""
    unlimited = meta["unlimited"] is not None or meta["zero_is_unlimited"]
    if meta["high"] is None:
        return f"{meta['low']} …" + (" Infinity" if unlimited else "")
    return f"{meta['low']} … {meta['high']}" + (", Infinity" if unlimited else "")


def metric_families() -> dict[str, tuple[str, str]]:
    """Return the metrics of a server by name, as type and help."""

    async def scrape() -> str:
        server = Server(Settings(), MemoryStore(), Clock())
        return (await prometheus(server))[1].decode()

    return {
        family.name + ("_total" if family.type == "counter" else ""): (family.type, family.documentation)
        for family in text_string_to_metric_families(trio.run(scrape))
    }


def task_names() -> list[str]:
    """Return the names of the tasks that a server supervises."""

    async def names() -> list[str]:
        return [task.name for task in Server(Settings(), MemoryStore(), Clock()).tasks]

    return trio.run(names)


def metrics_table() -> list[str]:
    """Return one row for each metric."""
    rows = ["| metric | type | what it says |", "| --- | --- | --- |"]
    rows += [f"| `{name}` | {kind} | {text} |" for name, (kind, text) in metric_families().items()]
    return rows


def commands_table() -> list[str]:
    """Return one row for each command that a WebSocket takes."""
    rows = ["| `cmd` | what it does | fields | reply, beside `ok` |", "| --- | --- | --- | --- |"]
    for name, kind in COMMANDS.items():
        what = (kind.__doc__ or "").split("\n")[0].replace("``", "`")
        names = ["the job", "`queue`"] if kind is c.Push else [_named(kind, f) for f in _fields(kind)]
        rows.append(f"| `{name}` | {what} | {', '.join(names)} | {', '.join(f'`{f}`' for f in _reply(kind))} |")
    return rows


def roles_table() -> list[str]:
    """Return one row for each role of a token."""
    rows = ["| role | commands | pages |", "| --- | --- | --- |"]
    for role in Role:
        tags = [f"`{spec.tag}`" for spec in CATALOG if spec.role is role]
        guarded = [route for route in ROUTES if isinstance(route.target, str) and not route.open]
        pages = [f"`{route.path}`" for route in guarded if route.auth != "never" and route.role is role]
        rows.append(f"| `{role.name.lower()}` | {', '.join(tags)} | {', '.join(pages)} |")
    return rows


def names_table() -> list[str]:
    """Return one row for each command whose class has another name."""
    rows = ["| `cmd` | in Python |", "| --- | --- |"]
    return rows + [f"| `{tag}` | `{kind.__name__}` |" for tag, kind in COMMANDS.items() if kind.__name__ != tag]


def fields_table() -> list[str]:
    """Return one row for each field of the commands that has a type, a range and a default of its own."""
    rows = ["| field | value | default | of |", "| --- | --- | --- | --- |"]
    for (name, value, default), owners in _owners([k for k in COMMANDS.values() if k is not c.Push]).items():
        rows.append(f"| `{name}` | {value} | {default} | {', '.join(f'`{owner}`' for owner in owners)} |")
    return rows


def job_table() -> list[str]:
    """Return one row for each field of a job that is pushed."""
    rows = ["| field | value | default |", "| --- | --- | --- |"]
    return rows + [
        f"| `{f.encode_name}` | {_value(f.type)} | {_default_of(c.JobSpec, f)} |" for f in _fields(c.JobSpec)
    ]


def events_table() -> list[str]:
    """Return one row for each type of event, without its explanation."""
    return [f"| `{kind}` | {f'`{EXTRA[kind]}`' if kind in EXTRA else ''} |" for kind in sorted(EVENT_TYPES)]  # type: ignore[index]


def named_events_table() -> list[str]:
    """Return one row for each type of event that has a name, without its explanation."""
    encoded = {f.name: f.encode_name for f in msgspec.structs.fields(Event)}
    return [
        f"| `{kind}` | {', '.join(f'`{encoded[name]}`' for name in names)} |" for kind, names in sorted(NAMED.items())
    ]


def passing_refusals() -> str:
    """Return the codes of the refusals of commands that may be repeated."""
    faults = [fault for fault in vars(errors).values() if isinstance(fault, errors.Fault) and fault.status == 503]
    passing = [
        fault for fault in faults if fault not in (errors.TOO_MANY_CONNECTIONS, errors.STANDBY, errors.STORAGE_DAMAGED)
    ]
    return ", ".join(f"`{fault.code}`" for fault in passing)


def codes_table() -> list[str]:
    """Return one row for each kind of refusal."""
    rows = ["| `code` | status over HTTP | text |", "| --- | --- | --- |"]
    return rows + [f"| `{fault.code}` | {fault.status} | {_text(fault)} |" for fault in FAULTS.values()]


def _text(fault: errors.Fault) -> str:
    return "names the field" if fault is errors.INVALID_FIELD else f"`{fault.message.replace('{}', '…')}`"


def without_code() -> str:
    """Return the texts that come without their code."""
    return ", ".join(f"`{text}`" for text in errors.LITERAL)


def _fields(kind: type[msgspec.Struct]) -> list[Any]:
    return [f for f in msgspec.structs.fields(kind) if f.name != "req_id"]


def _is_required(kind: type[msgspec.Struct], f: Any) -> bool:
    """Return whether a field must be there. A payload has no type that would say so: its handler does."""
    return bool(f.required or f.default == "" or (f.name == "data" and kind in (c.JobSpec, c.Update)))


def _named(kind: type[msgspec.Struct], f: Any) -> str:
    return f"`{f.encode_name}`" + ("" if _is_required(kind, f) else "?")


def _owners(kinds: list[type[c.Command]]) -> dict[tuple[str, str, str], list[str]]:
    found: dict[tuple[str, str, str], list[str]] = {}
    for kind in kinds:
        for f in _fields(kind):
            found.setdefault((f.encode_name, _value(f.type), _default_of(kind, f)), []).append(
                str(kind.__struct_config__.tag)
            )
    return found


def _default_of(kind: type[msgspec.Struct], f: Any) -> str:
    if _is_required(kind, f):
        return "required"
    if isinstance(f.default, Raw) or f.default is None:
        return ""
    if f.default is msgspec.UNSET and not issubclass(kind, c.JobSpec):
        return "as it was"
    if f.default_factory is not msgspec.NODEFAULT:
        return "`[]`"
    default = c.PUSH_DEFAULTS[f.name] if f.default is msgspec.UNSET else f.default
    return f"`{msgspec.json.encode(default).decode()}`"


def _value(shape: Any) -> str:
    return _words(types.type_info(shape))


def _words(shape: Any) -> str:  # noqa: C901 - one flat case for each kind of type
    """Return how a value of this type is called, with its range."""
    match shape:
        case types.Metadata(type=marked, extra={"read": "any"}):
            return f"anything, made a text of {marked.max_length} characters at most"
        case types.Metadata(type=marked, extra=mark):
            return f"ms{' since 1970' if mark and 'since' in mark else ''}, {marked.ge} … {marked.le}"
        case types.UnionType(types=options):
            is_number = any(isinstance(option, types.FloatType) for option in options)
            skipped = (types.NoneType, types.IntType) if is_number else types.NoneType  # a number may be whole
            return " or ".join(_words(option) for option in options if not isinstance(option, skipped))
        case types.IntType() | types.FloatType():
            what = "integer" if isinstance(shape, types.IntType) else "number"
            return what if shape.ge is None else f"{what}, {int(shape.ge)} … {int(shape.le)}"
        case types.StrType(min_length=low, max_length=high):
            return "text" if high is None else f"text, {f'{low} …' if low else 'at most'} {high} characters"
        case types.BoolType():
            return "boolean"
        case types.LiteralType(values=words):
            return " or ".join(f"`{word}`" for word in words)
        case types.RawType():
            return "any JSON"
        case types.ListType(item_type=item, max_length=high):
            return f"list of {_words(item)}" + ("" if high is None else f"; at most {high}")
        case types.StructType(cls=c.JobSpec):
            return "jobs, as below"
        case types.StructType(cls=kind):
            return f"an object ({'; '.join(f'`{f.encode_name}`: {_value(f.type)}' for f in _fields(kind))})"
    raise AssertionError(shape)


def _reply(kind: type[c.Command]) -> list[str]:
    """Return the names of what a reply to ``kind`` holds; what stands in ``data`` with its dot."""
    if SPECS[kind].http is None:
        return [f.encode_name for f in msgspec.structs.fields(SPECS[kind].reply) if f.name not in ("ok", "data")]
    page = PAGE_ANSWERS.get(kind)
    if page is not None:
        return _flat(page[200][2]["properties"], lambda schema: schema.get("properties", {}))
    if kind in EXAMPLES:
        return _flat(EXAMPLES[kind].answer, lambda value: value)
    return [f.encode_name for f in msgspec.structs.fields(REPLIES[kind]) if f.name != "ok"] if kind in REPLIES else []


def _flat(fields: Any, inside: Any) -> list[str]:
    names = []
    for name, value in fields.items():
        if name != "ok":
            names += [f"data.{inner}" for inner in inside(value)] if name == "data" else [name]
    return names


_AFTERWARDS = (
    (Again.FREELY, "asked of the next leader; its answer is the answer"),
    (
        Again.GUARDED,
        "asked of the next leader; a success is the answer; after a refusal, or where ids are ignored, nobody knows: 503 `not-committed`",
    ),
    (Again.NEVER, "503 `not-committed`: it may have happened"),
)


def again_table() -> list[str]:
    """Return what becomes of commands that were on their way to a leader that died."""
    specs = [spec for spec in CATALOG if spec.http]
    rows = ["| when the leader dies meanwhile | commands |", "| --- | --- |"]
    for again, what in _AFTERWARDS:
        names = [f"`{spec.tag}`" for spec in specs if spec.repeatable(with_token=False) is again]
        names += [
            f"`{spec.tag}` with its lock token"
            for spec in specs
            if spec.repeatable(with_token=True) is again is not spec.repeatable(with_token=False)
        ]
        rows.append(f"| {what} | {', '.join(names)} |")
    return rows


TABLES = {
    "cluster.md": (again_table,),
    "operations.md": (settings_table, metrics_table),
    "websocket.md": (names_table, commands_table, fields_table, job_table, codes_table, roles_table),
}
"""Which document has which tables, whole."""


def write() -> None:
    """Put the tables into the documents, in the place of those with the same head."""
    for name, tables in TABLES.items():
        path = DOCS / name
        text = path.read_text(encoding="utf-8")
        for table in tables:
            rows = table()
            before, head, rest = text.partition(rows[0] + "\n" + rows[1] + "\n")
            assert head, f"{name} has no table with the head {rows[0]}"
            text = before + "\n".join(rows) + "\n\n" + rest.partition("\n\n")[2]
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
