"""The schema of the database: whether it is ours and of this version, and how it comes to that."""

import re
from importlib.resources import files

from bunqueue_trio.errors import StartupError, StoreError
from bunqueue_trio.storage.postgres.link import DatabaseLink, Query
from bunqueue_trio.storage.postgres.place import Place
from bunqueue_trio.storage.postgres.terms import DURABLE

# Of PostgreSQL: nothing older was ever tried.
_OLDEST = 150000
# "BQTR": of two that migrate at once one waits.
_LOCK = 0x42515452
_ABOUT = (
    "SELECT current_setting('server_version_num')::bigint, current_setting('server_version'), "
    "current_setting('server_encoding'), to_regclass($1) IS NOT NULL, "
    "(SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace($2))"
)
_VERSION = "SELECT version FROM bq.meta"
_NOTE = "INSERT INTO bq.meta (version) VALUES ($1::integer) ON CONFLICT (one) DO UPDATE SET version = excluded.version"


def migrations() -> list[tuple[int, str]]:
    """Return the schema's steps as (version, SQL), in order, from ``ddl/NNNN_name.sql``."""
    entries = files("bunqueue_trio.storage.postgres").joinpath("ddl").iterdir()
    return sorted(
        (int(match[1]), entry.read_text(encoding="utf-8"))
        for entry in entries
        if (match := re.fullmatch(r"(\d{4})_\w+\.sql", entry.name))
    )


class Incomplete(StartupError):
    """What is ours in the database is not all there: nobody has made it yet, or somebody makes it anew just now."""


def version_of(link: DatabaseLink, place: Place) -> int:
    """Return the version of the schema, 0 where there is none yet.

    Raises:
        StartupError: the database or the schema cannot be used, or is of a newer version.
    """
    [(number, text, encoding, is_ours, tables)] = link.ask(Query(_ABOUT, (f"{place.quoted}.meta", place.schema)))
    if number < _OLDEST:
        raise StartupError(f"{place}: PostgreSQL 15 or newer is needed, this is {text}")
    if encoding != "UTF8":
        raise StartupError(f"{place}: a database with the encoding UTF8 is needed, this one has {encoding}")
    if not is_ours:
        if tables:
            raise Incomplete(f"{place}: the schema {place.schema} holds something else; name another with ?schema=")
        return 0
    versions = link.ask(Query(place.qualified(_VERSION)))
    if not versions:
        raise Incomplete(f"{place}: the version of the schema is gone")
    [(have,)] = versions
    known = migrations()[-1][0]
    if have > known:
        raise StartupError(f"{place}: was written by a newer version (schema {have}, this one knows {known})")
    return int(have)


def check_schema(link: DatabaseLink, place: Place) -> int:
    """Return the version of the schema, which is this one's.

    Raises:
        StartupError: it is of another.
    """
    have, known = version_of(link, place), migrations()[-1][0]
    if have < known:
        what = f"its schema is of version {have}, this one needs {known}" if have else "has no tables of ours yet"
        raise Incomplete(f"{place}: {what}; run `bunqueue-trio migrate` once")
    return have


def migrate(place: Place) -> tuple[int, int]:
    """Bring the schema to the newest version, all of it or nothing; return the versions before and after.

    Nothing is ever dropped.

    Raises:
        StartupError: as :func:`version_of`.
        StoreError: the database cannot be reached, or refused it.
    """
    link = DatabaseLink(place.conninfo)
    try:
        # The lock is the transaction's: a pooler would keep the session, and with it one that is the session's.
        link.ask(Query("BEGIN ISOLATION LEVEL READ COMMITTED"))
        link.ask(Query(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        before = version_of(link, place)
        for version, text in migrations():
            if version > before:
                if version == 1:
                    link.run_script(f"CREATE SCHEMA IF NOT EXISTS {place.quoted}")
                link.run_script(place.qualified(f"{text};\n{_NOTE.replace('$1', str(version))}"))
        link.ask(Query(DURABLE))
        link.ask(Query("COMMIT"))
        return before, migrations()[-1][0]
    except (StoreError, AssertionError) as error:
        raise StoreError(f"{place}: {error}") from None
    finally:
        link.close()
