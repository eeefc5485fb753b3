"""What was found in a store, in lines for people, whatever the store is."""

import sys
from typing import TYPE_CHECKING

import click

from bunqueue_trio.logs.printable import printable

if TYPE_CHECKING:
    from bunqueue_trio.storage.postgres.inspect import DatabaseReport
    from bunqueue_trio.storage.sqlite.inspect import Report


def tell_report(report: "Report | DatabaseReport") -> None:
    """Print what is in a store, and what is wrong with it; exit with 1 when something is."""
    for title, counts in (("unfinished", report.unfinished), ("finished", report.finished)):
        shown = ", ".join(f"{n:,} {state}" for state, n in counts.items()) or "none"
        click.echo(f"{title}: {shown}")
    click.echo(f"events kept: {report.events:,}")
    if report.facts:
        click.echo(f"facts: {', '.join(f'{n:,} {kind}' for kind, n in report.facts.items())}")
    if report.trails:
        click.echo(f"lines: {', '.join(f'{n:,} of {kind}' for kind, n in report.trails.items())}")
    tell_findings(report.findings)


def tell_findings(findings: list[str]) -> None:
    """Print what is wrong, if anything is; exit with 1 then."""
    for finding in findings:
        click.echo(printable(f"PROBLEM: {finding}"))
    if findings:
        sys.exit(1)
    click.echo("no problem found")
