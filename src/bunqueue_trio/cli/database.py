"""Commands on a queue in a PostgreSQL database."""

import json
import sys
from collections.abc import Iterator
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress

from bunqueue_trio.cli.remote import at, json_option
from bunqueue_trio.cli.reporting import tell_report
from bunqueue_trio.config import parse_store
from bunqueue_trio.errors import StartupError
from bunqueue_trio.logs.printable import printable
from bunqueue_trio.pages.cluster import failover_row, how_ended, leader_row, lease_row, plain, start_row, waits_row
from bunqueue_trio.pages.words import count, size, span
from bunqueue_trio.runtime.cluster import is_bloated

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

    Also: where the others reach it, its lease, the terms before and how each has ended, the servers that wait, with their versions, and
    those that did and are missing, how long a failover would take, how far replicas of the database are behind, how quickly that answers,
    and how large the tables are and how many dead rows they hold. Asks the database, so it works while no server runs. Exit code 0: somebody leads; 1: nobody does, or the database cannot be asked.
    """
    url = _checked(store)
    modules = _modules()
    place = modules.place.parse_place(url)
    try:
        led = modules.cluster.look_at_cluster(place)
    except StartupError as error:
        # Here the database is what was asked about, not how it was asked.
        raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(json.dumps(plain(led)))
    else:
        for name, value in _cluster_rows(led):
            click.echo(printable(f"{name:<8} {value}"))
    if not led.is_alive:
        sys.exit(1)


def _cluster_rows(known: Any) -> Iterator[tuple[str, str]]:
    yield "leader", leader_row(known, at)
    yield "link", known.link or "none: servers that wait cannot pass on requests"
    yield "lease", lease_row(known)
    yield "term", f"{known.term:,}"
    for each in [each for each in known.terms if each.term != known.term][:_TERMS_SHOWN]:
        yield "before", f"{each.term:,} {each.holder}, since {at(each.since)}{_comma(how_ended(each, at))}"
    for each in known.waiting:
        yield "waits", waits_row(each, at)
    for each in known.missing:
        yield "missing", f"{each.holder} has waited, and was not heard of for {span(each.seen_s * 1000)}"
    if not known.waiting:
        yield "waits", "nobody: no other server would take over"
    yield "failover", failover_row(known.failover, known.lease_s) if known.is_alive else start_row(known)
    for each in known.replicas:
        behind = "" if each.behind is None else f", {size(each.behind)} behind"
        lag = "" if each.lag_s is None else f", {span(each.lag_s * 1000)}"
        yield (
            "replica",
            f"{each.name}, {each.state or 'of which this user may see nothing'}, {each.sync or 'unknown'}{behind}{lag}",
        )
    if not known.replicas:
        yield "replica", "none that this database knows of"
    yield "database", f"answers in {span(known.round_trip_ms)}{_comma(_oldest(known.oldest_s))}"
    for each in known.tables:
        bloat = ": autovacuum does not keep up" if is_bloated(each) else ""
        rows = f"about {count(each.live, 'row')} and {each.dead:,} dead"
        yield "table", f"{each.name} {size(each.bytes)}, {rows}{bloat}"


def _oldest(seconds: float | None) -> str:
    return "" if seconds is None else f"the oldest transaction is open for {span(seconds * 1000)}"


def _comma(text: str) -> str:
    return text and f", {text}"


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
        except StartupError as error:
            # Here the database is what was asked about, not how it was asked.
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
