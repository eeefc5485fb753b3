"""Commands on a queue in a PostgreSQL database."""

import json
import sys
from collections.abc import Iterator
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress

from bunqueue_trio.cli.files import tell_report
from bunqueue_trio.cli.remote import at, json_option
from bunqueue_trio.config import parse_store
from bunqueue_trio.errors import StartupError
from bunqueue_trio.logs.printable import printable
from bunqueue_trio.pages.words import count, size, span

_TERMS_SHOWN = 3
"""Before this one; `--json` has all that are kept."""


@click.command()
@click.option("--store", envvar="STORE", required=True, metavar="URL", help="As for `serve`.  [env STORE]")
def migrate(store: str) -> None:
    """Make the tables of a queue in a PostgreSQL database, or bring them to this version.

    Nothing is ever dropped, and of two that do it at once one waits. Run it once before the first `serve --store`, and
    after an upgrade whose `serve` asks for it.
    """
    url = _checked(store)
    modules = _modules()
    place = modules.place.parse_place(url)
    before, after = modules.schema.migrate(place)
    what = "nothing to do" if before == after else f"was {before}" if before else "made"
    click.echo(printable(f"{place}: schema {after}, {what}"))


@click.command()
@click.option("--store", envvar="STORE", required=True, metavar="URL", help="As for `serve`.  [env STORE]")
@json_option
def cluster(store: str, *, as_json: bool) -> None:
    """Show which server leads a queue in a PostgreSQL database, since when, and what would happen without it.

    Also: where the others reach it, its lease, the terms before, the servers that wait, with their versions, how long a failover
    would take, how far replicas of the database are behind, and how large the tables are. Asks the database, so it works while no server runs. Exit code 0: somebody leads; 1: nobody does, or the database cannot be asked.
    """
    url = _checked(store)
    modules = _modules()
    place = modules.place.parse_place(url)
    try:
        led = modules.cluster.look_at_cluster(place)
    except StartupError as error:  # here the database is what was asked about, not how it was asked
        raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(json.dumps(_plain(led)))
    else:
        for name, value in _cluster_rows(led):
            click.echo(printable(f"{name:<8} {value}"))
    if not led.is_alive:
        sys.exit(1)


def _plain(told: Any) -> Any:
    """Return what was told with names in it, as JSON has them."""
    if isinstance(told, list):
        return [_plain(each) for each in told]
    return {name: _plain(each) for name, each in told._asdict().items()} if hasattr(told, "_asdict") else told


def _cluster_rows(led: Any) -> Iterator[tuple[str, str]]:
    if not led.is_alive:
        yield "leader", "nobody" if led.age_s is None else f"nobody; {led.holder} did last"
    else:
        version = f", version {led.version}" if led.version else ""
        yield "leader", led.holder + ("" if led.since is None else f", since {at(led.since)}") + version
    yield "link", led.link or "none: servers that wait cannot pass on requests"
    heard = "never heard of" if led.age_s is None else f"heard of {led.age_s:.1f} s ago"
    yield "lease", f"{led.lease_s:g} s, {heard}"
    before = ", ".join(
        f"{each.term:,} {each.holder} since {at(each.since)}" for each in led.terms[1 : _TERMS_SHOWN + 1]
    )
    yield "term", f"{led.term:,}" + (f"; before: {before}" if before else "")
    for each in led.waiting:
        yield (
            "waits",
            f"{each.holder}, since {at(each.since)}, version {each.version}, heard of {each.seen_s:.1f} s ago",
        )
    if not led.waiting:
        yield "waits", "nobody: no other server would take over"
    took = "as its last start" if led.failover.measured else "as is usual"
    yield (
        "failover",
        (
            f"about {span(led.failover.start_s * 1000)} to read {count(led.failover.jobs, 'unfinished job')} ({took}) after a stop, "
            f"{span(led.failover.killed_s * 1000)} after a kill"
        ),
    )
    for each in led.replicas:
        behind = "" if each.behind is None else f", {size(each.behind)} behind"
        lag = "" if each.lag_s is None else f", {each.lag_s:.1f} s"
        yield (
            "replica",
            f"{each.name}, {each.state or 'of which this user may see nothing'}, {each.sync or 'unknown'}{behind}{lag}",
        )
    if not led.replicas:
        yield "replica", "none that this database knows of"
    yield "tables", ", ".join(f"{name} {size(each)}" for name, each in led.tables.items())


def examine_database(store: str) -> None:
    """Check a queue in a database, and print what is in it; exit with 1 when something is wrong."""
    url = _checked(store)
    modules = _modules()
    place = modules.place.parse_place(url)
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("", total=len(modules.inspect.CHECKS) + 2)

        def on_check(what: str) -> None:
            progress.update(task, advance=1, description=what)

        try:
            report = modules.inspect.examine(place, on_check)
        except StartupError as error:  # here the database is what was asked about, not how it was asked
            raise click.ClickException(str(error)) from None
    click.echo(printable(f"{place}: schema {report.schema}, {report.size:,} bytes"))
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
        from bunqueue_trio.storage.postgres import cluster, inspect, place, schema  # noqa: F401 - parts of it
    except ImportError as error:
        raise StartupError(f'STORE: needs psycopg: pip install ".[postgres]" in the checkout ({error})') from None
    return postgres
