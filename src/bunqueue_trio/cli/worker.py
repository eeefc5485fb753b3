"""Running a worker that somebody has written, until a signal stops it."""

import importlib
import sys
from pathlib import Path
from traceback import format_exception
from typing import Any, NoReturn

import click
import structlog
import trio

from bunqueue_trio.cli import reload
from bunqueue_trio.client.worker import Worker
from bunqueue_trio.errors import Refused, leaves
from bunqueue_trio.logs import configure_logging, flush_logs, printable

_log = structlog.get_logger()

_EPILOG = """\b
Signals: SIGTERM and SIGINT stop the worker: it takes no more jobs, and handlers get --grace seconds to
finish; jobs of those that do not go back to the queue at once, at no attempt. A second signal ends the grace.

\b
Exit codes: 0 stopped by a signal; 1 the server will never give it jobs (the token); 2 wrong usage.

\b
Example, with a file tasks.py in which `mail = Worker("emails")` has a handler:
  bunqueue-trio worker tasks:mail --url ws://queue:6790 --concurrency 20
"""


@click.command(epilog=_EPILOG)
@click.argument("target", metavar="MODULE:WORKER")
@click.option(
    "--url", metavar="URL",
    help="The server, host:port, ws(s)://host:port, http(s)://host:port or unix:/path; default: the worker's own."
    "  [env BUNQUEUE_URL, for a worker that names none]",
)  # fmt: skip
@click.option("--token", metavar="TOKEN", help="Bearer token; default: the worker's own.  [env BUNQUEUE_TOKEN]")
@click.option("--concurrency", type=click.IntRange(min=1), metavar="N", help="Jobs at once.")
@click.option("--grace", type=click.FloatRange(min=0), metavar="S", help="Seconds for handlers at a stop.")
@click.option(
    "--log-format",
    type=click.Choice(["auto", "human", "json"], case_sensitive=False),
    default="auto",
    show_default=True,
)
@click.option(
    "--reload", "reloads", is_flag=True,
    help="For development: start anew when a Python file of the worker changes. Its jobs go back at no attempt.",
)  # fmt: skip
def worker(
    target: str, url: str | None, token: str | None, concurrency: int | None, grace: float | None, log_format: str,
    *, reloads: bool,
) -> None:  # fmt: skip
    """Run the worker that MODULE:WORKER names; modules are looked for in this directory first."""
    configure_logging("info", log_format, limited=False)
    if reloads:
        reload.begin()
    before = reload.watched()
    try:
        found = _find(target)
    except Exception as error:
        if not reloads:
            raise
        _wait_for_mending(error, before)
    if url is not None:
        found.url = url
    found.token = token if token is not None else found.token
    found.grace = grace if grace is not None else found.grace
    if concurrency is not None:
        found.set_concurrency(concurrency)
    try:
        stale = trio.run(_run, found, reload.watched(before) if reloads else None)
    except (Refused, ExceptionGroup) as error:
        refusals = leaves(error)
        if not all(isinstance(leaf, Refused) for leaf in refusals):
            raise
        raise click.ClickException("; ".join(str(leaf) for leaf in refusals)) from None
    finally:
        flush_logs()
    if stale is not None:
        _log.info("starting anew", changed=stale)
        reload.start_anew()


def _wait_for_mending(error: Exception, before: reload.Snapshot) -> NoReturn:
    """Show what is wrong with the worker's code, and start anew when it has changed."""
    told = error.format_message() if isinstance(error, click.ClickException) else "".join(format_exception(error))
    click.echo(f"{printable(told.rstrip(), keep=chr(10))}\nwaiting for a change", err=True)
    reload.wait_changed_blocking(reload.watched(before))
    reload.start_anew()


def _find(target: str) -> Worker:
    module_name, _, name = target.partition(":")
    if not module_name or not name:
        raise click.BadParameter(f"{target!r} is not MODULE:WORKER", param_hint="MODULE:WORKER")
    sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # a module that the worker's own needs
        raise click.BadParameter(f"there is no module {module_name!r}", param_hint="MODULE:WORKER") from None
    for part in name.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, Worker):
        raise click.BadParameter(f"{name!r} in {module_name!r} is no Worker", param_hint="MODULE:WORKER")
    return found


async def _run(found: Worker, files: reload.Snapshot | None) -> str | None:
    """Run the worker until a signal stops it, or one of ``files`` changes; return which."""
    stale: list[str] = []
    async with trio.open_nursery() as nursery:
        if files is not None:
            nursery.start_soon(_stop_on_change, files, stale, nursery.cancel_scope)
        await found.run_until_signal()
        nursery.cancel_scope.cancel()
    return stale[0] if stale else None


async def _stop_on_change(files: reload.Snapshot, stale: list[str], scope: trio.CancelScope) -> None:
    stale.append(await reload.wait_changed(files))
    scope.cancel()  # no grace: whoever has just changed the code does not wait for what it was
