"""What follows ``--url``, or stands in BUNQUEUE_URL: an address of a server; owns how a wrong one is refused, and not what one is."""

from typing import Any

import click

from bunqueue_trio.logs.printable import printable
from bunqueue_trio.protocol.address import http_url


class Url(click.ParamType[str]):
    """An address as it was said."""

    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return it."""
        try:
            http_url(value)
        except ValueError as error:
            self.fail(printable(error), param, ctx)
        return str(value)
