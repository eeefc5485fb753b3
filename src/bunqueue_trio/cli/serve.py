"""Starting the server, and showing the settings it would start with."""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import click

from bunqueue_trio.cli import reading
from bunqueue_trio.config import GROUPS, NO_LIMIT, Loaded, Settings, instead_of_bind, load
from bunqueue_trio.errors import ONE_LINE, leaves
from bunqueue_trio.logs.lines import configure_logging, flush_logs, get_logger
from bunqueue_trio.logs.printable import printable
from bunqueue_trio.transports.sockets import check_startable

C = TypeVar("C", bound=Callable[..., Any])

_SHORT = {"http_port": ("-p", "--port"), "auth_tokens": ("--auth-token",)}
_NO, _OLD = "no__", "old__"

_EPILOG = """\b
Settings come from flags, then the environment, then the file given with --config; the first that has one wins,
and an empty one is not set. Other users of the machine see flags in the process list: keep secrets out of them.
Times take units (500ms, 10s, 5m, 30d), sizes too (10MB, 10MiB), and Infinity is no limit.
`bunqueue-trio config` shows what is in force and where each value comes from.

\b
Signals: SIGTERM, SIGINT (Ctrl-C) and SIGHUP stop the server (nohup: not SIGHUP): it stops accepting, answers what is under way within
SHUTDOWN_GRACE_MS, ends waiting pulls empty, writes everything down and exits 0. A second signal ends
the grace at once; even then nothing that was answered is lost.

\b
Exit codes: 0 stopped by a signal; 1 it failed, or something could not be written at the end;
2 wrong usage or settings, or the file or address cannot be used. One line on stderr says why.

\b
Examples:
  AUTH_TOKENS=secret DATA_PATH=/var/lib/bunqueue/queue.db bunqueue-trio serve
  bunqueue-trio serve --config /etc/bunqueue.toml --bind 127.0.0.1:6790,unix:/run/bunqueue/http.sock
  bunqueue-trio serve --doors 2
"""


def _with_settings(command: C) -> C:
    """Add --config, and one flag for each setting; their values stay text here and are checked in one place."""
    for f in reversed(fields(Settings)):
        flag = "--" + f.name.replace("_", "-")
        names = [*_SHORT.get(f.name, ()), flag, f.name]
        if f.type is bool:
            # The flag alone means yes; with a value it means what that says.
            command = click.option(
                *names,
                is_flag=False,
                flag_value="true",
                metavar="[true|false]",
                help=_help(f, f"{flag}/--no-{flag[2:]}"),
            )(command)
            command = click.option("--no-" + flag[2:], _NO + f.name, is_flag=True, hidden=True)(command)
        else:
            command = click.option(*names, metavar="VALUE", help=_help(f))(command)
        if f.metadata["old"]:
            old = "--" + f.metadata["old"].replace("_", "-")
            command = click.option(old, _OLD + f.name, metavar="VALUE", hidden=True)(command)
    return click.option(
        "--config", "config_file", type=click.Path(path_type=Path), metavar="FILE",
        help="TOML file with settings, named as the flags with underscores.",
    )(command)  # fmt: skip


def _load(config_file: Path | None, given: Mapping[str, Any]) -> Loaded:
    """Return the settings in force, and refuse what the server could not start with."""
    flags: dict[str, Any] = {}
    for f in fields(Settings):
        value = given.get(f.name)
        if value is None and given.get(_NO + f.name):
            value = "false"
        flags[f.name] = given.get(_OLD + f.name) if value is None else value
    loaded = load(os.environ, file=config_file, flags=flags)
    check_startable(loaded.settings)
    return loaded


class SettingsCommand(click.Command):
    """A command whose help shows the settings in groups."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, those of no group last."""
        groups = {f.name: f.metadata["group"] for f in fields(Settings)}
        rows: dict[str, list[tuple[str, str]]] = {group: [] for group in (*GROUPS, "Options")}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                rows[groups.get(parameter.name or "", "Options")].append(record)
        for group, records in rows.items():
            with formatter.section(group):
                formatter.write_dl(records)


def _help(f: Any, also: str = "") -> str:
    default = ",".join(f.default) if isinstance(f.default, tuple) else f.default
    shown = f.metadata["shown"] or (
        "none" if default in (None, "") else str(default).lower() if isinstance(default, bool) else default
    )
    choices = f" One of {', '.join(f.metadata['choices'])}." if f.metadata["choices"] else ""
    spelled = f" {also}." if also else ""
    return f"{f.metadata['help']}{choices}{spelled}  [env {f.metadata['env']}; default {shown}]"


@click.command(cls=SettingsCommand, epilog=_EPILOG)
@_with_settings
def serve(config_file: Path | None, **flags: Any) -> None:
    """Start the server."""
    # A `--help` need not load the server.
    with reading():
        from bunqueue_trio.run import run

    loaded = _load(config_file, flags)
    settings = loaded.settings
    configure_logging(settings.log_level, settings.log_format)
    log = get_logger()
    for warning in loaded.warnings:
        log.warning(warning)
    if loaded.sources["data_path"] == "default" and not settings.store:
        log.info(
            "DATA_PATH is not set, using a file in the working directory",
            data_path=str(Path(settings.data_path).absolute()),
        )
    try:
        run(settings, loaded.sources)
    except Exception as error:
        if all(isinstance(leaf, ONE_LINE) for leaf in leaves(error)):
            # A line says it all.
            raise
        log.critical("the server has failed", exc_info=error)
        sys.exit(1)
    finally:
        # What it said comes before the line that says why it ended.
        flush_logs()


@click.command(cls=SettingsCommand)
@_with_settings
def config(config_file: Path | None, **flags: Any) -> None:
    """Show the settings that are in force, and where each value comes from.

    Takes the same environment, --config and flags as `serve`; secrets are not shown. The output is TOML
    that --config understands, except for the secrets.
    """
    loaded = _load(config_file, flags)
    for warning in loaded.warnings:
        click.echo(printable(f"warning: {warning}"), err=True)
    lines = []
    settings = loaded.settings
    unused = {"data_path": "STORE"} if settings.store else {}
    unused |= dict.fromkeys(instead_of_bind(settings.bind), "BIND") if settings.bind else {}
    for f in fields(Settings):
        value, source = getattr(settings, f.name), loaded.sources[f.name]
        told = source if source != "default" else _default(f)
        lines.append((_toml(f, value), f"not used: {unused[f.name]} is set; {told}" if f.name in unused else told))
    width = max(len(line) for line, _ in lines)
    for line, source in lines:
        click.echo(f"{line:<{width}}  # {source}")


def _default(f: Any) -> str:
    """Return where a value comes from that nobody has set, and what it means where it does not say that itself."""
    return f"default ({f.metadata['env']}{': ' if f.metadata['shown'] else ''}{f.metadata['shown'] or ''})"


def _toml(f: Any, value: Any) -> str:
    """Return the line that sets ``value``; a setting that is off is a comment, as TOML has no null."""
    if f.metadata["secret"] and value:
        return f"# {f.name} = {'' if isinstance(value, str) else f'{len(value)} '}set, not shown"
    if value is None:
        return f"# {f.name} is off"
    if isinstance(value, bool):
        return f"{f.name} = {str(value).lower()}"
    if isinstance(value, tuple):
        return f"{f.name} = [{', '.join(map(_quoted, value))}]"
    if value == NO_LIMIT:
        return f'{f.name} = "Infinity"'
    return f"{f.name} = {value if isinstance(value, int) else _quoted(value)}"


def _quoted(text: str) -> str:
    # A JSON string is a TOML string.
    import json

    return json.dumps(text, ensure_ascii=False)
