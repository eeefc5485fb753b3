"""The command line: one file for each group of commands, put together here. It decides how errors are printed.

An error is one line on stderr. Exit codes: 0 done; 1 it did not work, and the line says why; 2 wrong usage
or settings; 130 interrupted.
"""

import errno
import gc
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, cast

import click

from bunqueue_trio import __version__
from bunqueue_trio.errors import ONE_LINE, StartupError, leaves
from bunqueue_trio.logs.printable import printable

NAME = "bunqueue-trio"
FAILED, MISUSED, INTERRUPTED = 1, 2, 130
_UNWRITABLE = frozenset({errno.EPIPE, errno.ENOSPC, errno.EIO, errno.EBADF, errno.EAGAIN, errno.EDQUOT})

COMMANDS = {
    "serve": "serve", "worker": "worker", "config": "serve", "findings": "findings", "stats": "remote", "storage": "storage", "health": "storage", "push": "push",
    "queues": "queues", "queue": "queue", "pause": "queues", "resume": "queues", "limit": "queues",
    "jobs": "jobs", "job": "jobs", "logs": "jobs", "why": "jobs", "cancel": "jobs", "promote": "jobs", "discard": "jobs", "change": "jobs", "export": "downloads",
    "errors": "failing", "dead": "dead", "retry": "dead", "rerun": "reruns", "reruns": "reruns", "mark": "dead", "purge": "clear", "drain": "clear", "clean": "clear", "obliterate": "clear",
    "actions": "actions", "workers": "workers",
    "schedules": "schedules",
    "watch": "watch", "events": "downloads", "doctor": "files", "backup": "files", "restore": "files", "shrink": "files", "copy": "copy", "crashtest": "crashtest", "migrate": "database", "cluster": "database",
}  # fmt: skip
"""Each command and the file it is in, which is read when it is asked for: the server starts without a client."""


ALIASES = {"start": "serve"}
"""What the original calls the same."""


class CommandLine(click.Group):
    """The group of all commands; what they raise becomes a line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order that the help shows, the usual ones first."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command, from its file."""
        cmd_name = ALIASES.get(cmd_name, cmd_name)
        if cmd_name not in COMMANDS:
            return None
        file = f"{__name__}.{COMMANDS[cmd_name]}"
        if file not in sys.modules:
            with reading():
                import_module(file)
        return cast("click.Command", getattr(sys.modules[file], cmd_name))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that is asked for, or name those that are called nearly so."""
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as error:
            raise click.exceptions.NoSuchCommand(error.command_name, possibilities=COMMANDS, ctx=ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each command with the whole first sentence of its help."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.get_short_help_str(1000)) for name, command in commands if command])

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line and exit."""
        _open_streams()
        try:
            code = self._run(*args, **{"prog_name": NAME} | kwargs | {"standalone_mode": False})
        except (*ONE_LINE, ExceptionGroup) as error:
            found = leaves(error)
            if not all(isinstance(leaf, ONE_LINE) for leaf in found):
                raise
            # Several parts of a server may end for one reason, each in its own time.
            for line in dict.fromkeys(map(str, found)):
                _tell(f"{NAME}: {line}")
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
        except click.Abort:
            # Ctrl-C
            return INTERRUPTED
        except OSError as error:
            if error.errno not in _UNWRITABLE:
                raise
            _give_up(sys.stdout)
            # A reader that has seen enough is no fault to speak of.
            if error.errno != errno.EPIPE:
                _tell(f"{NAME}: cannot write the output: {error.strerror}")
            return FAILED
        return code if isinstance(code, int) else 0


@click.group(cls=CommandLine, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name=NAME)
def main() -> None:
    """A job-queue server that people trust with work they cannot lose.

    Exit codes: 0 done; 1 it did not work, and one line on stderr says why; 2 wrong usage or settings.
    """


@contextmanager
def reading() -> Iterator[None]:
    """Read modules in the block: many objects and no garbage, through which the collector need not look again and again."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _tell(line: str) -> None:
    try:
        click.echo(printable(" ".join(re.split(r"[ \t]*\n[ \t]*|\t", line))), err=True)
    except OSError:
        # Nobody hears it; the exit code still says it.
        _give_up(sys.stderr)


def _give_up(stream: Any) -> None:
    """Let what is still in ``stream`` go nowhere: Python would complain at its end once more, and change the code."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _open_streams() -> None:
    """Open what was closed for us (`2>&-`): else the next file or socket would be taken for standard error."""
    for fd, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(fd)
        except OSError:
            # The lowest free number is this one.
            setattr(sys, name, open(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))  # noqa: SIM115, PTH123
