"""The command line: one file for each group of commands, put together here. It decides how errors are told.

An error is one line on stderr. Exit codes: 0 done; 1 it did not work, and the line says why; 2 wrong usage
or settings; 130 interrupted.
"""

import os
import sys
from importlib import import_module
from typing import Any, cast

import click

from bunqueue_trio import __version__
from bunqueue_trio.errors import StartupError, StoreError, leaves

NAME = "bunqueue-trio"
FAILED, MISUSED, INTERRUPTED = 1, 2, 130

COMMANDS = {
    "serve": "serve", "config": "serve", "stats": "remote", "push": "remote", "watch": "watch",
    "doctor": "files", "backup": "files", "shrink": "files", "worker": "worker",
}  # fmt: skip
"""Each command and the file it is in, which is read when it is asked for: the server starts without a client."""


class CommandLine(click.Group):
    """The group of all commands; what they raise becomes a line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order that the help shows, the usual ones first."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command, from its file."""
        if cmd_name not in COMMANDS:
            return None
        return cast("click.Command", getattr(import_module(f"{__name__}.{COMMANDS[cmd_name]}"), cmd_name))

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line and exit."""
        try:
            code = self._run(*args, **{"prog_name": NAME} | kwargs | {"standalone_mode": False})
        except (StartupError, StoreError, ExceptionGroup) as error:
            found = leaves(error)
            if not all(isinstance(leaf, StartupError | StoreError) for leaf in found):
                raise
            for leaf in found:
                _tell(f"{NAME}: {leaf}")
            code = MISUSED if any(isinstance(leaf, StartupError) for leaf in found) else FAILED
        sys.exit(code)

    def _run(self, *args: Any, **kwargs: Any) -> int:
        try:
            code = super().main(*args, **kwargs)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            return error.exit_code
        except click.UsageError as error:
            place = error.ctx.command_path if error.ctx is not None else NAME
            _tell(f"{place}: {error.format_message()} (see --help)")
            return error.exit_code
        except click.ClickException as error:
            _tell(f"{NAME}: {error.format_message()}")
            return error.exit_code
        except click.Abort:  # Ctrl-C
            return INTERRUPTED
        except BrokenPipeError:  # the reader has seen enough; Python would complain at its end once more
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return FAILED
        return code if isinstance(code, int) else 0


@click.group(cls=CommandLine, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name=NAME)
def main() -> None:
    """A job-queue server that people trust with work they cannot lose.

    Exit codes: 0 done; 1 it did not work, and one line on stderr says why; 2 wrong usage or settings.
    """


def _tell(line: str) -> None:
    click.echo(" ".join(line.split("\n")), err=True)
