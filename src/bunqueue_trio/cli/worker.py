"""Running a worker that somebody has written, until a signal stops it."""

import importlib
import os
import sys
from contextlib import suppress
from pathlib import Path
from traceback import StackSummary, TracebackException, format_exception
from typing import Any, NoReturn

import anyio
import click
import structlog

from bunqueue_trio.cli import reload
from bunqueue_trio.cli.place import Url
from bunqueue_trio.client.app import App, chosen
from bunqueue_trio.client.declared import DECLARED_ELSEWHERE, Synced
from bunqueue_trio.client.running import run_until_signal
from bunqueue_trio.client.worker import Worker
from bunqueue_trio.errors import UNAUTHORIZED, WRONG_TOKEN, Refused, leaves
from bunqueue_trio.logs.lines import configure_logging, flush_logs
from bunqueue_trio.logs.printable import printable
from bunqueue_trio.protocol.times import seconds_of

_log = structlog.get_logger()

_EPILOG = """\b
Signals: SIGTERM, SIGINT (Ctrl-C) and SIGHUP stop the worker, as they stop the server: it takes no more jobs, and its
handlers get --grace to finish. Jobs that are not done by then go back to the queue; no try is counted. A second signal ends the grace.

\b
Exit codes: 0 stopped by a signal; 1 the server gives it no jobs (wrong token); 2 wrong usage.

\b
Example, with a file tasks.py in which `mail = Worker("emails")` has a handler:
  bunqueue-trio worker tasks:mail --url ws://queue:6790 --concurrency 20
or, with `app = App()` and a handler for each of some queues:
  bunqueue-trio worker tasks:app --queues emails,images
Handlers written for asyncio: `--asyncio`, or `App(loop="asyncio")` in the file.
"""
_HINT = "MODULE:NAME"
OF_ANOTHER = "; --take-over makes it one of this app; if the two are one, give it one name: App(name=…)"
"""What is to be done about a schedule that another app declares."""
_PACKAGE = str(Path(__file__).parent.parent)


class Grace(click.ParamType[float]):
    """A time as a worker takes it; a number alone is of seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds."""
        with suppress(ValueError):
            value = float(value)
        try:
            return seconds_of("it", value, zero=True)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command(epilog=_EPILOG)
@click.argument("targets", metavar="MODULE:NAME...", nargs=-1, required=True)
@click.option(
    "--url", metavar="URL", type=Url(),
    help="The server, host:port, ws(s)://host:port, http(s)://host:port or unix:/path; default: the worker's own."
    "  [env BUNQUEUE_URL, for a worker that names none]",
)  # fmt: skip
@click.option("--token", metavar="TOKEN", help="Bearer token; default: the worker's own.  [env BUNQUEUE_TOKEN]")
@click.option("--queues", metavar="QUEUE,...", help="Work on these queues only.  [default: all]")
@click.option("--concurrency", type=click.IntRange(min=1), metavar="N", help="Run up to N jobs of each queue at once.")
@click.option(
    "--grace", type=Grace(), metavar="TIME", help="How long handlers may go on at a stop: 30s, 5m, or seconds."
)
@click.option(
    "--log-format",
    type=click.Choice(["auto", "human", "json"], case_sensitive=False),
    default="auto",
    show_default=True,
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning"], case_sensitive=False),
    default="info",
    show_default=True,
    help="debug: also a line for each job that is done.",
)
@click.option(
    "--asyncio", "on_asyncio", is_flag=True,
    help="Run the handlers on asyncio.  [default: on the loop that a worker names, else on Trio]",
)  # fmt: skip
@click.option(
    "--sync", "syncs", is_flag=True,
    help="First run `schedules sync` for the apps.",
)  # fmt: skip
@click.option("--take-over", is_flag=True, help="With --sync: also schedules that an app of another name has declared.")
@click.option(
    "--reload", "reloads", is_flag=True,
    help="For development: restart when a Python file of the worker changes. Its jobs go back; no try is counted.",
)  # fmt: skip
def worker(
    targets: tuple[str, ...], url: str | None, token: str | None, queues: str | None, concurrency: int | None,
    grace: float | None, log_format: str, log_level: str, *, on_asyncio: bool, syncs: bool, take_over: bool,
    reloads: bool,
) -> None:  # fmt: skip
    """Run these workers and apps. Modules are looked for in this directory first."""
    configure_logging(log_level, log_format, limited=False)
    if reloads:
        reload.begin()
    before = reload.watched()
    try:
        named = [imported(target) for target in targets]
        found = _of_queues(
            [worker for target, each in zip(targets, named, strict=True) for worker in _workers(target, each)], queues
        )
    except Exception as error:
        if not reloads:
            raise
        _wait_for_mending(error, before)
    for each in found:
        each.url = each.url if url is None else url
        each.token = each.token if token is None else token
        each.grace = each.grace if grace is None else grace
        if concurrency is not None:
            each.set_concurrency(concurrency)
    apps = _apps(named, url, token) if _is_to_sync(syncs=syncs, take_over=take_over) else []
    loop = "asyncio" if on_asyncio else _loop_of(found)
    try:
        stale = anyio.run(_run, found, apps, take_over, reload.watched(before) if reloads else None, backend=loop)
    except (Refused, ExceptionGroup) as error:
        refusals = leaves(error)
        if not all(isinstance(leaf, Refused) for leaf in refusals):
            raise
        raise click.ClickException("; ".join(f"{leaf}{hint_of(leaf)}" for leaf in refusals)) from None
    finally:
        flush_logs()
    if stale is not None:
        _log.info("starting anew", changed=stale)
        reload.start_anew()
    if any(each.hung for each in found):
        # Python would wait for the threads of asyncio, for ever.
        os._exit(0)


def _wait_for_mending(error: Exception, before: reload.Snapshot) -> NoReturn:
    """Show what is wrong with the worker's code, and start anew when it has changed."""
    told = error.format_message() if isinstance(error, click.ClickException) else "".join(format_exception(error))
    click.echo(f"{printable(told.rstrip(), keep=chr(10))}\nwaiting for a change", err=True)
    reload.wait_changed_blocking(reload.watched(before))
    reload.start_anew()


def imported(target: str) -> Any:
    """Return what is behind ``MODULE:NAME``; None: there is nothing of this name.

    Raises:
        BadParameter: it is none, or there is no such module.
        ClickException: the module cannot be imported; where it goes wrong has been shown.
    """
    module_name, _, name = target.partition(":")
    if not module_name or not name:
        raise click.BadParameter(f"{target!r} is not MODULE:NAME", param_hint=_HINT)
    if module_name.startswith(".") or "/" in module_name:
        hint = "a module is named as in an import: package.module, from the folder in which you are"
        raise click.BadParameter(f"{module_name!r} is a path: {hint}", param_hint=_HINT)
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is not None and f"{module_name}.".startswith(f"{missing}."):
            hint = ": a module is named without .py" if module_name.endswith(".py") else ""
            raise click.BadParameter(f"there is no module {module_name!r}{hint}", param_hint=_HINT) from None
        trouble = TracebackException.from_exception(error)
        trouble.stack = StackSummary.from_list([frame for frame in trouble.stack if not _is_on_the_way(frame.filename)])
        click.echo(printable("".join(trouble.format()).rstrip(), keep="\n"), err=True)
        raise click.ClickException(
            f"{module_name!r} cannot be imported: {str(error) or type(error).__name__}"
        ) from None
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _is_on_the_way(file: str) -> bool:
    """Return whether a frame belongs to the importing machinery, and not to the module that is imported."""
    return file.startswith((_PACKAGE, "<frozen importlib", importlib.__file__))


def _workers(target: str, found: Any) -> list[Worker]:
    """Return the workers behind ``MODULE:NAME``: that one, or all of an app."""
    module_name, _, name = target.partition(":")
    if isinstance(found, Worker):
        if not found.has_handler:
            raise click.BadParameter(f"{name!r} in {module_name!r} has no handler", param_hint=_HINT)
        return [found]
    if not isinstance(found, App):
        raise click.BadParameter(f"{name!r} in {module_name!r} is no Worker and no App", param_hint=_HINT)
    if not found.workers:
        raise click.BadParameter(f"{name!r} in {module_name!r} has no handlers", param_hint=_HINT)
    return list(found.workers.values())


def _is_to_sync(*, syncs: bool, take_over: bool) -> bool:
    if take_over and not syncs:
        raise click.UsageError("--take-over needs --sync")
    return syncs


def _apps(named: list[Any], url: str | None, token: str | None) -> list[App]:
    """Return the apps among what was named, each once, with the server that they are to sync with."""
    apps = list(dict.fromkeys(each for each in named if isinstance(each, App)))
    for app in apps:
        app.use_server(url, token)
    return apps


def _of_queues(workers: list[Worker], queues: str | None) -> list[Worker]:
    try:
        return chosen(workers, None if queues is None else [queue.strip() for queue in queues.split(",")])
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--queues") from None


def _loop_of(workers: list[Worker]) -> str:
    named = sorted({worker.loop for worker in workers if worker.loop is not None})
    if len(named) > 1:
        raise click.BadParameter(
            "some run on Trio and some on asyncio: start them by commands of their own", param_hint=_HINT
        )
    return named[0] if named else "trio"


def told_of(app: App, synced: Synced) -> list[str]:
    """Return a line for each schedule of an app that is another now than it was, and for each that it does not declare any more."""
    lines = [f"{name}: created" for name in synced.created] + [f"{name}: changed" for name in synced.changed]
    for name, owner in synced.taken.items():
        was = "was put by hand" if owner is None else f"was declared by {owner!r}"
        then = "" if owner is None else f"; take it out of {owner!r}, whose next sync is refused otherwise"
        lines.append(f"{name}: {was}, and is {app.name}'s now{then}")
    return lines + [
        f"{name}: {app.name} does not declare it any more; it goes on until `schedules delete {name}`"
        for name in synced.left
    ]


def hint_of(refused: BaseException) -> str:
    """Return what helps: with a wrong token, and where another app has declared a schedule."""
    if isinstance(refused, Refused) and refused.code == UNAUTHORIZED.code:
        return WRONG_TOKEN
    is_of_another = isinstance(refused, Refused) and refused.code == DECLARED_ELSEWHERE
    return OF_ANOTHER if is_of_another else ""


async def _run(found: list[Worker], apps: list[App], take_over: bool, files: reload.Snapshot | None) -> str | None:  # noqa: FBT001 - as anyio gives it
    """Run workers until a signal stops them, or one of ``files`` changes; return which."""
    stale: list[str] = []
    for app in apps:
        for line in told_of(app, await app.sync(take_over=take_over)):
            _log.info(printable(line))
    async with anyio.create_task_group() as group:
        if files is not None:
            group.start_soon(_stop_on_change, files, stale, group.cancel_scope)
        await run_until_signal(found)
        group.cancel_scope.cancel()
    return stale[0] if stale else None


async def _stop_on_change(files: reload.Snapshot, stale: list[str], scope: anyio.CancelScope) -> None:
    stale.append(await reload.wait_changed(files))
    # No grace: whoever has just changed the code does not wait for what it was.
    scope.cancel()
