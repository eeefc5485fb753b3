"""Commands on a queue in a PostgreSQL database."""

import json
import sys
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress

from bunqueue_trio.cli.files import tell_report
from bunqueue_trio.cli.remote import json_option
from bunqueue_trio.config import parse_store
from bunqueue_trio.errors import StartupError
from bunqueue_trio.logs.printable import printable
from bunqueue_trio.pages.words import size


@click.command()
@click.option("--store", envvar="STORE", required=True, metavar="URL", help="As for `serve`.  [env STORE]")
def migrate(store: str) -> None:
    """Make the tables of a queue in a PostgreSQL database, or bring them to this version.

    Nothing is ever dropped, and of two that do it at once one waits. Run it once before the first `serve --store`, and
    after an upgrade whose `serve` asks for it.
    """
    url = _checked(store)
    modules = _modules()
    at = modules.place.parse_place(url)
    before, after = modules.schema.migrate(at)
    what = "nothing to do" if before == after else f"was {before}" if before else "made"
    click.echo(printable(f"{at}: schema {after}, {what}"))


@click.command()
@click.option("--store", envvar="STORE", required=True, metavar="URL", help="As for `serve`.  [env STORE]")
@json_option
def cluster(store: str, *, as_json: bool) -> None:
    """Show which server leads a queue in a PostgreSQL database, where the others reach it, and how large its tables are.

    Asks the database, so it works while no server runs. Exit code 0: somebody leads; 1: nobody does, or the database cannot be asked.
    """
    url = _checked(store)
    modules = _modules()
    at = modules.place.parse_place(url)
    try:
        led = modules.inspect.look_who_leads(at)
    except StartupError as error:  # here the database is what was asked about, not how it was asked
        raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(json.dumps(led._asdict()))
    else:
        for name, value in _cluster_rows(led):
            click.echo(printable(f"{name:<7} {value}"))
    if not led.is_alive:
        sys.exit(1)


def _cluster_rows(led: Any) -> list[tuple[str, str]]:
    who = led.holder if led.is_alive else "nobody" if led.age_s is None else f"nobody; {led.holder} did last"
    heard = "never heard of" if led.age_s is None else f"heard of {led.age_s:.1f} s ago"
    sizes = ", ".join(f"{name} {size(each)}" for name, each in led.tables.items())
    return [
        ("leader", who),
        ("link", led.link or "none: servers that wait cannot pass on requests"),
        ("lease", f"{led.lease_s:g} s, {heard}"),
        ("term", f"{led.term:,}"),
        ("tables", sizes),
    ]


def examine_database(store: str) -> None:
    """Check a queue in a database, and print what is in it; exit with 1 when something is wrong."""
    url = _checked(store)
    modules = _modules()
    at = modules.place.parse_place(url)
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("", total=len(modules.inspect.CHECKS) + 2)

        def on_check(what: str) -> None:
            progress.update(task, advance=1, description=what)

        try:
            report = modules.inspect.examine(at, on_check)
        except StartupError as error:  # here the database is what was asked about, not how it was asked
            raise click.ClickException(str(error)) from None
    click.echo(printable(f"{at}: schema {report.schema}, {report.size:,} bytes"))
    click.echo(printable(f"leader: {report.leader}"))
    tell_report(report)


def _checked(store: str) -> str:
    """Return the URL of a database; what is none is refused as by ``serve``."""
    try:
        return parse_store(store)
    except ValueError as error:
        raise StartupError(f"--store=…: {error}") from None


def _modules() -> Any:
    try:
        from bunqueue_trio.storage import postgres
        from bunqueue_trio.storage.postgres import inspect, place, schema  # noqa: F401 - parts of it
    except ImportError as error:
        raise StartupError(f'STORE: needs psycopg: pip install ".[postgres]" in the checkout ({error})') from None
    return postgres
