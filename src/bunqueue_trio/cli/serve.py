"""Starting the server, and showing the settings it would start with."""

import os
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import click
import trio

from bunqueue_trio.config import Settings, load
from bunqueue_trio.errors import StartupError, StoreError, leaves
from bunqueue_trio.logs import configure_logging, flush_logs, get_logger

C = TypeVar("C", bound=Callable[..., Any])

_EPILOG = """\b
Settings come from the environment, then the file given with --config, then flags; later ones win.
`bunqueue-trio config` shows what is in force and where each value comes from.

\b
Signals: SIGTERM and SIGINT stop the server: it stops accepting, answers what is under way within
SHUTDOWN_GRACE_MS, ends long polls empty, writes everything down and exits 0. A second signal ends
the grace at once; even then nothing that was answered is lost.

\b
Exit codes: 0 stopped by a signal; 1 it failed, or something could not be written at the end;
2 wrong usage or settings, or the file or address cannot be used. One line on stderr says why.

\b
Examples:
  AUTH_TOKENS=secret DATA_PATH=/var/lib/bunqueue/queue.db bunqueue-trio serve
  bunqueue-trio serve --config /etc/bunqueue.toml --bind 127.0.0.1:6790,unix:/run/bunqueue/http.sock
"""


def _with_settings(command: C) -> C:
    """Add --config, and one flag for each setting; their values stay text here and are checked in one place."""
    for f in reversed(fields(Settings)):
        names = ["--" + f.name.replace("_", "-"), f.name]
        if f.name == "http_port":
            names.insert(0, "--port")
        command = click.option(*names, metavar="VALUE", help=_help(f))(command)
    return click.option(
        "--config", "config_file", type=click.Path(path_type=Path), metavar="FILE",
        help="TOML file with settings, named as the flags with underscores.",
    )(command)  # fmt: skip


def _help(f: Any) -> str:
    default = ",".join(f.default) if isinstance(f.default, tuple) else f.default
    shown = "none" if default in (None, "") else str(default).lower() if isinstance(default, bool) else default
    choices = f" One of {', '.join(f.metadata['choices'])}." if f.metadata["choices"] else ""
    return f"{f.metadata['help']}{choices}  [env {f.metadata['env']}; default {shown}]"


@click.command(epilog=_EPILOG)
@_with_settings
def serve(config_file: Path | None, **flags: str | None) -> None:
    """Start the server."""
    from bunqueue_trio.server import run  # a `--help` need not load the server

    loaded = load(os.environ, file=config_file, flags=flags)
    settings = loaded.settings
    configure_logging(settings.log_level, settings.log_format)
    log = get_logger()
    if loaded.sources["data_path"] == "default":
        log.info(
            "DATA_PATH is not set, using a file in the working directory",
            data_path=str(Path(settings.data_path).absolute()),
        )
    try:
        trio.run(run, settings)
    except Exception as error:
        if all(isinstance(leaf, StartupError | StoreError) for leaf in leaves(error)):
            raise  # a line says it all
        log.critical("the server has failed", exc_info=error)
        sys.exit(1)
    finally:
        flush_logs()  # what it said comes before the line that says why it ended


@click.command()
@_with_settings
def config(config_file: Path | None, **flags: str | None) -> None:
    """Show the settings that are in force, and where each value comes from.

    Takes the same environment, --config and flags as `serve`; secrets are not shown. The output is TOML
    that --config understands, except for the secrets.
    """
    loaded = load(os.environ, file=config_file, flags=flags)
    lines = []
    for f in fields(Settings):
        value, source = getattr(loaded.settings, f.name), loaded.sources[f.name]
        lines.append((_toml(f, value), source if source != "default" else f"default ({f.metadata['env']})"))
    width = max(len(line) for line, _ in lines)
    for line, source in lines:
        click.echo(f"{line:<{width}}  # {source}")


def _toml(f: Any, value: Any) -> str:
    """Return the line that sets ``value``; a setting that is off is a comment, as TOML has no null."""
    if f.metadata["secret"] and value:
        return f"# {f.name} = {len(value)} set, not shown"
    if value is None:
        return f"# {f.name} is off"
    if isinstance(value, bool):
        return f"{f.name} = {str(value).lower()}"
    if isinstance(value, tuple):
        return f"{f.name} = [{', '.join(map(_quoted, value))}]"
    return f"{f.name} = {value if isinstance(value, int) else _quoted(value)}"


def _quoted(text: str) -> str:
    import json  # a JSON string is a TOML string

    return json.dumps(text, ensure_ascii=False)
