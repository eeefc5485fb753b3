"""Commands on the store: looking whether it is sound, in its file or in a server, copying it, putting a copy back and shrinking the file."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from rich.console import Console
from rich.progress import Progress

from bunqueue_trio.cli.remote import live_audit, with_server
from bunqueue_trio.cli.reporting import tell_findings, tell_report
from bunqueue_trio.config import SHRINK_SLACK_BYTES
from bunqueue_trio.errors import StartupError, reaching_files
from bunqueue_trio.storage.sqlite.inspect import CHECKS, TRAIL_CHECKS, copy, examine
from bunqueue_trio.storage.sqlite.restore import restore as put_back
from bunqueue_trio.storage.sqlite.shrink import shrink as write_anew


class _File(click.Path):
    """A store in a file; somebody who has one in a database learns what that takes."""

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        """Return the path."""
        if isinstance(value, str) and value.startswith(("postgres://", "postgresql://")):
            command = context.command.name if context is not None else None
            instead = (
                "`doctor --store URL` checks it"
                if command == "doctor"
                else "`copy --from URL --to FILE` makes one of it"
            )
            self.fail(f"a queue in a database is no file: {instead}")
        return super().convert(value, parameter, context)


_FILE = _File(path_type=Path)


@click.command()
@click.argument("file", type=_FILE, required=False)
@click.option(
    "--store",
    envvar="STORE",
    metavar="URL",
    help="Check a queue in a PostgreSQL database, as for `serve`.  [env STORE]",
)
@click.option("--live", is_flag=True, help="Ask a running server what it found when it checked itself.")
@click.option("--wait", is_flag=True, help="With --live: wait until it has checked everything once more.")
@with_server
def doctor(file: Path | None, store: str | None, url: str, token: str | None, *, live: bool, wait: bool) -> None:
    """Check the store in FILE, or in a database: its structure, and that what it says of the jobs agrees.

    Only reads, and works beside a running server. With --live instead of FILE: tell what a running server
    found in its own memory, and between that and its disk, since its start. Exit code 0: it is sound; 1: it
    is not, or cannot be read. Each finding is one line.
    """
    if click.get_current_context().get_parameter_source("store") is ParameterSource.ENVIRONMENT and (live or file):
        # Whoever says something else means that.
        store = None
    if live + (file is not None) + (store is not None) != 1:
        raise click.UsageError("give either FILE, --store or --live")
    if wait and not live:
        raise click.UsageError("--wait goes with --live")
    if store is not None:
        from bunqueue_trio.cli.database import examine_database

        examine_database(store)
    elif file is None:
        tell_findings(live_audit(url, token, wait=wait))
    else:
        _examine(file)


def _examine(file: Path) -> None:
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("", total=len(CHECKS) + len(TRAIL_CHECKS) + 3)

        def on_check(what: str) -> None:
            progress.update(task, advance=1, description=what)

        try:
            with reaching_files():
                report = examine(file, on_check)
        except StartupError as error:
            # Here the file is what was asked about, not how it was asked.
            raise click.ClickException(str(error)) from None
    click.echo(f"{file}: schema {report.schema}, {report.size:,} bytes")
    if report.free >= SHRINK_SLACK_BYTES:
        click.echo(f"free: {report.free:,} of these bytes, which a server gives back in time, and `shrink` at once")
    tell_report(report)


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show how far ``what`` is, to people; what stands in its way is an error of the command."""
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(what, total=None)
        try:
            with reaching_files():
                yield lambda done, total: progress.update(task, completed=done, total=total)
        except StartupError as error:
            raise click.ClickException(str(error)) from None


@click.command()
@click.argument("file", type=_FILE)
@click.argument("to", type=_FILE)
@click.option("--force", is_flag=True, help="Replace TO if it exists.")
def backup(file: Path, to: Path, *, force: bool) -> None:
    """Copy the store in FILE to TO: one consistent state, checked and fsynced, also while the server runs.

    TO gets its name when the copy is complete; what was there stays until then. `restore` puts it back.
    """
    with _progress(f"copying {file}") as on_progress:
        size = copy(file, to, on_progress, overwrite=force)
    click.echo(f"{to}: {size:,} bytes")


@click.command()
@click.argument("copy_", metavar="COPY", type=_FILE)
@click.argument("file", type=_FILE)
@click.option("--force", is_flag=True, help="Replace FILE if it exists: what came after the copy is lost.")
def restore(copy_: Path, file: Path, *, force: bool) -> None:
    """Put COPY, which `backup` has made, into the place of FILE, with no server at it.

    COPY stays. It is checked before FILE is touched, and whatever interrupts it, the old FILE or the new one is there, whole.
    """
    with _progress(f"restoring {file}") as on_progress:
        size = put_back(copy_, file, on_progress, overwrite=force)
    click.echo(f"{file}: {size:,} bytes")


@click.command()
@click.argument("file", type=_FILE)
def shrink(file: Path) -> None:
    """Make FILE as small as what is in it, with no server at it.

    A server gives back by itself what a peak took; but not in a file that an early version made, before this was
    done to it. Needs as much room beside FILE as the new file takes. Whatever interrupts it, FILE is whole.
    """
    with _progress(f"shrinking {file}") as on_progress:
        before, after = write_anew(file, on_progress)
    click.echo(f"{file}: {before:,} bytes before, {after:,} now")
