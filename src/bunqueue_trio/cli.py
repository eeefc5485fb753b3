"""The command line. Errors are one line on stderr; exit codes: 0 ok, 1 failed, 2 wrong usage or settings."""

import os
import sys
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import structlog
import trio

from bunqueue_trio import __version__
from bunqueue_trio.config import Settings, load
from bunqueue_trio.errors import StartupError, StoreError
from bunqueue_trio.logs import configure_logging


def _setting_options(command: Any) -> Any:
    """Add one flag for each setting; its value stays text here and is checked in one place."""
    for f in reversed(fields(Settings)):
        default = ",".join(f.default) if isinstance(f.default, tuple) else f.default
        shown = f"  [env {f.metadata['env']}; default {'none' if default in (None, '') else default}]"
        names = ["--" + f.name.replace("_", "-"), f.name]
        if f.name == "http_port":
            names.insert(0, "--port")
        command = click.option(*names, metavar="VALUE", help=f.metadata["help"] + shown)(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="bunqueue-trio")
def cli() -> None:
    """A job-queue server that people trust with work they cannot lose."""


@cli.command()
@click.option(
    "--config", "config_file", type=click.Path(path_type=Path), metavar="FILE",
    help="TOML file with settings, named as the flags with underscores.",
)  # fmt: skip
@_setting_options
def serve(config_file: Path | None, **flags: str | None) -> None:
    """Start the server. It stops on SIGTERM or SIGINT, after a grace period for open requests."""
    from bunqueue_trio.server import run  # a `--help` need not load the server

    loaded = load(os.environ, file=config_file, flags=flags)
    configure_logging(loaded.settings.log_level, loaded.settings.log_format)
    if loaded.sources["data_path"] == "default":
        structlog.get_logger().info(
            "DATA_PATH is not set, using a file in the working directory",
            data_path=str(Path(loaded.settings.data_path).absolute()),
        )
    trio.run(run, loaded.settings)


def main() -> None:
    """Run the command line and exit."""
    try:
        cli(prog_name="bunqueue-trio", standalone_mode=True)
    except* StartupError as group:
        _exit(_leaves(group), 2)
    except* StoreError as group:
        _exit(_leaves(group), 1)


def _exit(errors: Iterable[BaseException], code: int) -> None:
    for error in errors:
        click.echo(f"bunqueue-trio: {error}", err=True)
    sys.exit(code)


def _leaves(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    return [
        leaf
        for error in group.exceptions
        for leaf in (_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    ]
