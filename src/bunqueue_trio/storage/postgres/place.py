"""Where a store is: a database, and the schema in it."""

import re
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

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
    # As libpq has it, to which # means nothing.
    parts = urlsplit(url.replace("#", "%23"))
    words = dict(parse_qsl(parts.query, keep_blank_values=True))
    schema = words.pop("schema", SCHEMA)
    if not _NAME.fullmatch(schema) or schema.startswith("pg_"):
        raise StartupError(f"STORE: schema={schema!r} must be lower-case letters, digits and _, at most 41 of them")
    conninfo = f"postgresql://{parts.netloc}{parts.path}{'?' if words else ''}{urlencode(words, quote_via=quote)}"
    return Place(conninfo, schema, without_password(url))
