"""Commands on a queue in a database."""

from typing import Any

import click

from bunqueue_trio.errors import StartupError


@click.command()
@click.option("--store", envvar="STORE", required=True, metavar="URL", help="As for `serve`. [env STORE]")
def migrate(store: str) -> None:
    """Make the tables of a queue in a PostgreSQL database, or bring them to this version.

    Nothing is ever dropped, and a server that runs meanwhile goes on. Run it once before the first `serve --store`, and after an
    upgrade that says so.
    """
    place, schema = _modules()
    at = place.parse_place(store)
    before, after = schema.migrate(at)
    if before == after:
        click.echo(f"{at}: schema {after}, nothing to do")
    else:
        click.echo(f"{at}: schema {after}, was {before or 'not there'}")


def _modules() -> tuple[Any, Any]:
    try:
        from bunqueue_trio.storage.postgres import place, schema
    except ImportError as error:
        raise StartupError(f'needs psycopg: pip install "bunqueue-trio[postgres]" ({error})') from None
    return place, schema
