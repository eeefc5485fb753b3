"""What the original has, read from its own compiled files and asked of it while it runs: nothing that it has is forgotten."""

import json
import re
from pathlib import Path

from trials.compat.scenario import CONTRACT
from trials.lib.servers import Kind, Server

METHODS = ("GET", "POST", "PUT", "DELETE")
NOT_FOUND = {"ok": False, "error": "Not found"}
"""What it says where it has no route; where a job is missing it says more."""

_PATTERN = re.compile(r"/\^((?:\\/[^/\s]+|\\/\(\[\^/\]\+\))+)\$/")
_LITERAL = re.compile(r"path === '(/[^']*)'")
_COMMAND = re.compile(r"case '(\w+)':")
# Not in its tables of commands: its handlers of connections know them.
_OF_CONNECTIONS = {"Auth", "Subscribe", "Unsubscribe"}
# Its probes and pages answer any method, and two are event streams.
_UNASKED = {route.split(" ")[1] for route in CONTRACT if not route.split(" ")[1].startswith(("/queues", "/jobs"))} | {
    "/events",
    "/ws",
}


def commands_of(kind: Kind) -> set[str]:
    """Return the commands that the original understands, as its files have them."""
    return _OF_CONNECTIONS | {
        name for text in _sources(kind, "handler*.js", "handler-routes/*.js") for name in _COMMAND.findall(text)
    }


def paths_of(kind: Kind) -> set[str]:
    """Return the paths that it knows, each name in them as ``:``."""
    found = set()
    for text in _sources(kind, "http*.js", "http-routes/*.js"):
        found |= set(_LITERAL.findall(text))
        found |= {pattern.replace(r"\/", "/").replace("([^/]+)", ":") for pattern in _PATTERN.findall(text)}
    return found


def routes_of(kind: Kind, server: Server) -> set[str]:
    """Return its routes: of each path the methods to which it does not say that there is nothing. Asked last, for some do something."""
    found = set()
    with server.connect() as connection:
        for path in sorted(paths_of(kind) - _UNASKED):
            for method in METHODS:
                body = b'{"timeout": 1}' if method in ("POST", "PUT") else b""
                answer = connection.request(method, path.replace(":", "asked"), body)
                if answer.status != 404 or json.loads(answer.body) != NOT_FOUND:
                    found.add(f"{method} {path}")
    # `GET /jobs/ack-batch` is the job of that id.
    return {route for route in found if not found & {f"{route.rpartition('/')[0]}/:"} - {route}}


def _sources(kind: Kind, *patterns: str) -> list[str]:
    server = Path(kind.command[-1]).parent / "infrastructure" / "server"
    return [path.read_text(encoding="utf-8") for pattern in patterns for path in sorted(server.glob(pattern))]
