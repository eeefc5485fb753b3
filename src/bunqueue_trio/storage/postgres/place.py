"""Where a store is: a database, and the schema in it."""

import re
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, urlencode

from bunqueue_trio.config import without_password
from bunqueue_trio.errors import StartupError

SCHEMA = "bunqueue"
"""The schema, where the URL names none."""
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,40}", re.ASCII)
_OURS = re.compile(r"\bbq\.")


class Place(NamedTuple):
    """A database, as libpq takes it, and the schema."""

    conninfo: str
    schema: str
    shown: str
    """The same without its password."""

    def __str__(self) -> str:
        """Return it as it may be logged."""
        return self.shown

    def qualified(self, text: str) -> str:
        """Return a statement with the schema's name in the place of ``bq``."""
        return _OURS.sub(f"{self.quoted}.", text)

    @property
    def quoted(self) -> str:
        """The name of the schema in a statement, where it may also be a word of SQL."""
        return f'"{self.schema}"'


def parse_place(url: str) -> Place:
    """Return the place that ``postgres://user@host/database?schema=name`` names.

    Raises:
        StartupError: it names none.
    """
    base, mark, query = _split(url)
    words = dict(parse_qsl(query, keep_blank_values=True))
    schema = words.pop("schema", SCHEMA)
    if not _NAME.fullmatch(schema) or schema.startswith("pg_"):
        raise StartupError(f"STORE: schema={schema!r} must be lower-case letters, digits and _, at most 41 of them")
    # libpq takes a + as it stands.
    conninfo = f"postgresql://{base}{mark if words else ''}{urlencode(words, quote_via=quote)}"
    return Place(conninfo, schema, without_password(url))


def _split(url: str) -> tuple[str, str, str]:
    """Return what is before the words of a URL, "?", and these; as libpq reads it, which takes any character but / in a password.

    Raises:
        StartupError: it is no such URL, as like as not because of its password.
    """
    rest = url.partition("://")[2]
    user, at, place = rest.partition("@")
    if "/" in user or not at:
        user, at, place = "", "", rest
    base, mark, query = place.partition("?")
    for host in base.partition("/")[0].split(","):
        port = host.rpartition("]")[2].partition(":")[2]
        if port and not port.isdecimal():
            raise StartupError(
                f"STORE={without_password(url)!r}: the port is no number; write / of a password as %2F, and @ as %40"
            )
    return user + at + base, mark, query
