"""Commands that ask a running server over HTTP: its address and token, and what can go wrong with it."""

import json
import re
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import click
import httpx
import msgspec
from click.core import ParameterSource
from msgspec import Raw
from rich.console import Console
from rich.table import Table

from bunqueue_trio.cli.place import Url
from bunqueue_trio.config import parse_typed_ms
from bunqueue_trio.errors import STORAGE_DAMAGED, STORAGE_DOWN, STORAGE_FULL, WRONG_TOKEN, reason_of
from bunqueue_trio.logs.printable import printable, printable_json
from bunqueue_trio.pages.words import count, span
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.address import http_url
from bunqueue_trio.protocol.catalog import SPECS
from bunqueue_trio.protocol.commands import Command
from bunqueue_trio.protocol.numbers import integer
from bunqueue_trio.protocol.replies import DataReply, Reply
from bunqueue_trio.protocol.request import Request, request_of
from bunqueue_trio.protocol.routes import path_of_page
from bunqueue_trio.protocol.surrogates import read
from bunqueue_trio.protocol.trail_replies import LogsReply

R = TypeVar("R", bound=Reply)


class Ask(Protocol):
    """Takes a command and its fields, by their names in JSON, and returns the answer."""

    def __call__(self, kind: type[Command[R]], /, **fields: object) -> R:
        """Ask a server."""
        ...


@runtime_checkable
class Paged(Protocol):
    """A page, and behind which place the next one begins."""

    @property
    def next(self) -> str | None:
        """That place; None: this is the last page."""
        ...


DEFAULT_URL = "http://127.0.0.1:6790"
TIMEOUT_S = 10.0
# What was probably meant as a string.
_WORDS = re.compile(r"[\w .,:;!?@/-]+")
_ERRNO = re.compile(r"^\[Errno -?\d+\] ")
_WHERE = "; is the server running, and there? --url or BUNQUEUE_URL says where it is"
_HINTS = {
    "CERTIFICATE_VERIFY_FAILED": "; SSL_CERT_FILE may name the certificate of an authority of your own",
    "WRONG_VERSION_NUMBER": "; that port takes no TLS: say http://",
    "Connection refused": _WHERE, "No such file": _WHERE, "Name or service not known": _WHERE, "No route to host": _WHERE,
}  # fmt: skip
"""What an error says → what probably helps."""
CALLED = {
    "queued": "waiting", "processing": "active", "dlq": "dead letters", "failed": "dead letters",
    "totalPushed": "pushed since the start", "totalPulled": "delivered since the start", "totalCompleted": "completed since the start",
    "totalFailed": "died since the start", "pushPerSec": "pushed a second", "pullPerSec": "delivered a second", "uptime": "runs for",
    "heapUsed": "memory in use", "heapTotal": "memory held", "external": "outside Python's own", "rss": "memory resident",
}  # fmt: skip
"""Fields of the API reference → what all commands call it."""
_HELPS = {
    STORAGE_DOWN.message: "; see `bunqueue-trio storage`, which says why",
    STORAGE_DAMAGED.message: "; see `bunqueue-trio findings`, which says what to do",
    STORAGE_FULL.message: "; make room on its disk, see `bunqueue-trio storage`",
}
"""What a server says → what helps whoever meets it at a command line."""
_ABSENT = {
    "Job not found (404)": (
        "id",
        "`bunqueue-trio jobs` lists those that there are, and of a job that was removed nothing is kept",
    ),
    "Rerun not found (404)": ("rerun", "`bunqueue-trio reruns` lists those that there are"),
}
"""What a server says of what is not there → the field that names it, and what helps."""
# How often a server is asked whether its audit is done.
_POLL_S = 0.5


def with_server(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --url and --token; what cannot be sent is wrong usage."""

    @wraps(command)
    def checked(**values: Any) -> Any:
        try:
            # Before anything is asked.
            for value in values.values():
                for word in value if isinstance(value, tuple) else (value,):
                    _ = word.encode() if isinstance(word, str) else word
            return command(**values)
        except UnicodeEncodeError as error:
            raise click.UsageError(f"{error.object!r:.100} is no UTF-8") from None

    with_token = click.option(
        "--token",
        envvar="BUNQUEUE_TOKEN",
        metavar="TOKEN",
        help="Bearer token. Better set the variable: other users of this machine can see a flag.  [env BUNQUEUE_TOKEN]",
    )(checked)
    return click.option(
        "--url", envvar="BUNQUEUE_URL", default=DEFAULT_URL, metavar="URL", type=Url(),
        help=f"The server, host:port, http(s)://host:port, ws(s)://host:port or unix:/path.  [env BUNQUEUE_URL; default {DEFAULT_URL}]",
    )(with_token)  # fmt: skip


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")


def with_server_of_group(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--url` and `--token` to a command of a group that has them, too; what is not said behind the command is as before it.

    The command gets both as ``server``, in front of all else.
    """

    @wraps(command)
    def asked(url: str, token: str | None, **values: Any) -> Any:
        ctx = click.get_current_context()
        of_group: tuple[str, str | None] = ctx.obj
        said = [ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE for name in ("url", "token")]
        return command((url if said[0] else of_group[0], token if said[1] else of_group[1]), **values)

    return with_server(asked)


def say(text: str, reply: Any, *, as_json: bool) -> None:
    """Print what came of it: in words, or as a program reads it."""
    click.echo(json_of(reply) if as_json else printable(text))


def json_of(reply: Any) -> str:
    """Return what a server has answered, or a part of it, as a line of JSON."""
    return printable_json(msgspec.json.encode(reply).decode())


def fields_of(reply: msgspec.Struct) -> dict[str, Any]:
    """Return the fields of an answer by their names in JSON, each as the server wrote it."""
    return msgspec.json.decode(msgspec.json.encode(reply), type=dict[str, Raw])


def plain(reply: Any) -> Any:
    """Return an answer, or a part of it, by the names of its fields in JSON."""
    return json.loads(msgspec.json.encode(reply), parse_int=integer)


def of_list_alone(ctx: click.Context, *names: str) -> None:
    """Refuse flags of a group's own list that stand before a command of the group, which would not hear of them.

    Raises:
        UsageError: there is one.
    """
    for name in names:
        if ctx.invoked_subcommand is not None and ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            flag = "json" if name == "as_json" else name
            raise click.UsageError(f"say --{flag} behind {ctx.invoked_subcommand}, if it takes it")


def connect(url: str, token: str | None, timeout_s: float | None = TIMEOUT_S) -> httpx.Client:
    """Return a client of the server at ``url``.

    Raises:
        BadParameter: the token is none; it is not shown.
    """
    url = http_url(url)
    token = (token or "").strip()
    if not token.isascii() or not (token.isprintable()):
        raise click.BadParameter("has a character that a token cannot have", param_hint="--token or BUNQUEUE_TOKEN")
    headers = {} if not token else {"Authorization": f"Bearer {token}"}
    if url.startswith("unix:"):
        transport = httpx.HTTPTransport(uds=url.removeprefix("unix:"), verify=False)
        return httpx.Client(base_url="http://localhost", headers=headers, transport=transport, timeout=timeout_s)
    # Reading the certificates of the system takes longer than a request. SSL_CERT_FILE is heard, as by the clients.
    verify = False if url.startswith("http:") else ssl.create_default_context()
    return httpx.Client(base_url=url, headers=headers, timeout=timeout_s, trust_env=False, verify=verify)


class Refusal(click.ClickException):
    """What the server refused, in its own words, with its status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status: int = status


@contextmanager
def connection(url: str, token: str | None) -> Iterator[Ask]:
    """Return what asks a server for many things, over one connection; it raises as :func:`answer`."""
    with connect(url, token) as client:

        def ask(kind: type[Command[R]], /, **fields: object) -> R:
            known = {field.encode_name for field in msgspec.structs.fields(kind)}
            assert fields.keys() <= known, f"{kind.__name__} has no {', '.join(fields.keys() - known)}"
            try:
                content = _sent(client, url, request_of(kind, fields))
            except Refusal as refusal:
                raise _naming(refusal, fields) from None
            try:
                return cast("R", read(content, SPECS[kind].reply))
            except (ValueError, RecursionError) as error:
                raise click.ClickException(
                    printable(
                        f"{url}: its answer to {SPECS[kind].tag} cannot be read: {error}; is it of another version?"
                    )
                ) from None

        yield ask


def _naming(refusal: Refusal, fields: dict[str, object]) -> Refusal:
    """Return a refusal that names what was asked for and is not there, and where to look for it."""
    for said, (field, helps) in _ABSENT.items():
        if said in refusal.message and fields.get(field) is not None:
            return Refusal(printable(f"{refusal.message}: {fields[field]}; {helps}"), refusal.status)
    return refusal


def _sent(client: httpx.Client, url: str, request: Request) -> bytes:
    method, target, body = request
    try:
        response = client.request(method, target, content=body)
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        raise unreachable(url, error) from None
    accepted(url, response, response.content)
    return response.content


def answer(url: str, token: str | None, kind: type[Command[R]], /, **fields: object) -> R:
    """Return what the server answers to one command with these fields, by their names in JSON.

    Raises:
        ClickException: in one line, that it cannot be reached, or what it refused.
    """
    with connection(url, token) as ask:
        return ask(kind, **fields)


def page_of(url: str, token: str | None, name: str) -> Any:
    """Return a page of the server about itself; raises as :func:`answer`."""
    with connect(url, token) as client:
        return json.loads(_sent(client, url, Request("GET", path_of_page(name), None)), parse_int=integer)


def pages(url: str, token: str | None, kind: type[Command[R]], /, **fields: object) -> Iterator[R]:
    """Yield the answers to a command, page by page."""
    while True:
        page = answer(url, token, kind, **fields)
        yield page
        part = page.data if isinstance(page, LogsReply) else page
        assert isinstance(part, Paged), kind
        if part.next is None:
            return
        fields["after"] = part.next


def facts_of(reply: DataReply) -> dict[str, Any]:
    """Return what an answer says that has no names of its own."""
    return reply.data if isinstance(reply.data, dict) else {}


def now_ms(url: str, token: str | None) -> int:
    """Return what time it is at the server: only its clock counts."""
    return int(facts_of(answer(url, token, c.Ping))["time"])


def at(ms: int) -> str:
    """Return an epoch time as it is on the clock here."""
    try:
        return datetime.fromtimestamp(ms / 1000).astimezone().isoformat(" ", "seconds")
    except (ValueError, OverflowError, OSError):
        # Later than any calendar.
        return f"{ms} ms"


def unreachable(url: str, error: Exception) -> click.ClickException:
    """Return the exception that says that ``url`` does not answer."""
    said = (str(error) or type(error).__name__).removesuffix(".")
    hint = next((hint for part, hint in _HINTS.items() if part in said), "")
    if isinstance(error, httpx.RemoteProtocolError) and http_url(url).startswith("http:"):
        hint = "; if that port takes TLS, say https://"
    return click.ClickException(f"{url}: {_ERRNO.sub('', said)}{hint}")


def accepted(url: str, response: httpx.Response, content: bytes) -> Any:
    """Return the content of a response with status 200.

    Raises:
        Refusal: a server of this kind has said no.
        ClickException: it is none, or something stands in between.
    """
    status = response.status_code
    try:
        reply = json.loads(content, parse_int=integer)
    except ValueError:
        reply = None
    if isinstance(reply, dict) and reply.get("ok") is True and status == 200:
        return reply
    said = reply.get("error") if isinstance(reply, dict) else None
    if said:
        after = response.headers.get("retry-after", "")
        again = f"; it passes in {span(1000 * int(after))}" if status == 429 and after.isdecimal() else ""
        hint = WRONG_TOKEN if status == 401 else _HELPS.get(said, again)
        raise Refusal(f"{url}: {said} ({status}){hint}", status)
    raise click.ClickException(f"{url}: is no bunqueue server ({status})")


def refuse_other(url: str, response: httpx.Response, kind: str) -> None:
    """Raise as :func:`accepted` when a response is no stream of ``kind``: a proxy may answer 200 and a page to sign in."""
    if response.status_code != 200:
        accepted(url, response, response.read())
    if not response.headers.get("content-type", "").startswith(kind):
        raise click.ClickException(f"{url}: is no bunqueue server ({response.status_code})")


def live_audit(url: str, token: str | None, *, wait: bool) -> list[str]:
    """Return what the self-audit of a running server found, after saying what it looked at.

    Waits until one pass is done; with ``wait``, for one that has not begun yet.

    Raises:
        ClickException: there is no audit in that server, or as :func:`answer`.
    """
    audit = page_of(url, token, "audit")["audit"]
    if not audit["jobsPerSecond"]:
        raise click.ClickException(f"{url}: the self-audit is off (AUDIT_JOBS_PER_SECOND is 0)")
    wanted = audit["passesBegun"] + 1 if wait else 1
    while audit["passesDone"] < wanted:
        time.sleep(_POLL_S)
        audit = page_of(url, token, "audit")["audit"]
    click.echo(
        f"{url}: {count(audit['checked'], 'job or entry', 'jobs and entries')} looked at in {count(audit['passesDone'], 'pass', 'passes')}; "
        f"the last took {span(audit['lastMs'])}"
    )
    return [
        printable(f"{each['kind']}: {each['what']} (met {count(each['times'], 'time')})") for each in audit["findings"]
    ]


@click.command()
@with_server
@json_option
def stats(url: str, token: str | None, *, as_json: bool) -> None:
    """Show how many jobs a running server has in each state, and has had since its start."""
    reply = answer(url, token, c.Stats)
    if as_json:
        click.echo(json_of(reply))
        return
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    for name, value in reply.stats.items():
        table.add_row(printable(CALLED.get(name, name)), span(value * 1000) if name == "uptime" else f"{value:,}")
    # A server in Python has none.
    reply.memory.pop("arrayBuffers", None)
    for name, value in reply.memory.items():
        table.add_row(printable(CALLED.get(name, name)), f"{value:,} MB")
    Console(file=sys.stdout, highlight=False, width=10_000, height=100).print(table)


class Duration(click.ParamType[int]):
    """A time as in the settings, with a unit."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the milliseconds."""
        if isinstance(value, int):
            return value
        try:
            # A negative one is for the server to refuse, in its own words.
            return int(value) if value[:1] == "-" and value[1:].isdigit() else parse_typed_ms(value)
        except ValueError as error:
            self.fail(f"{value!r} {error}", param, ctx)


DURATION = Duration()


def refuse_without(is_there: bool, needed: str, *names: str) -> None:  # noqa: FBT001 - what is needed stands beside it
    """Refuse flags that say nothing without another one, which is ``needed``, instead of passing over them.

    Raises:
        UsageError: one of ``names`` was given.
    """
    ctx = click.get_current_context()
    for name in () if is_there else names:
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            flag = next(max(param.opts, key=len) for param in ctx.command.params if param.name == name)
            raise click.UsageError(f"{flag} needs {needed}")


def refuse_zero(**times: object) -> None:
    """Refuse a time of 0, by the names of the flags: the API takes it as none at all, and nobody says it for that.

    Raises:
        UsageError: there is one.
    """
    for name, ms in times.items():
        if ms == 0:
            raise click.UsageError(f"--{name.replace('_', '-')} must be at least 1 ms; leave it out for its default")


def json_argument(data: str) -> bytes:
    """Return the JSON that an argument is or names: `-` is standard input, `@FILE` a file.

    Raises:
        BadParameter: it is none, or cannot be read.
    """
    payload = _payload(data)
    try:
        msgspec.json.decode(payload, type=Raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        hint = ""
        if data[:1] not in {"-", "@"} and _WORDS.fullmatch(data):
            hint = f"; a string needs quotes: '\"{data}\"'"
        raise click.BadParameter(f"is no JSON: {error}{hint}", param_hint="JSON") from None
    return payload


def _payload(data: str) -> bytes:
    if not data.startswith("@"):
        return (sys.stdin.read() if data == "-" else data).encode("utf-8", "surrogateescape")
    try:
        return Path(data[1:]).read_bytes()
    except (OSError, ValueError) as error:
        raise click.BadParameter(f"{data[1:]!r} cannot be read: {reason_of(error)}", param_hint="JSON") from None
