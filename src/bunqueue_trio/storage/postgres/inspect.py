"""Looking at a store in a database, beside the server that leads there or without one: in one snapshot, and only reading."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from bunqueue_trio.config.spans import span
from bunqueue_trio.engine.audit import Stored
from bunqueue_trio.engine.job import State
from bunqueue_trio.errors import StoreError
from bunqueue_trio.storage.cluster import OLDEST_S, Table, is_bloated
from bunqueue_trio.storage.postgres.arrays import with_nul
from bunqueue_trio.storage.postgres.cluster import OLDEST
from bunqueue_trio.storage.postgres.link import DatabaseLink, Query, Row
from bunqueue_trio.storage.postgres.place import Place
from bunqueue_trio.storage.postgres.reads import SIZE, Reads
from bunqueue_trio.storage.postgres.schema import check_schema
from bunqueue_trio.storage.readable import unreadable_facts, unreadable_lines

# Of the rows that a check finds; the count says how many there are.
_EXAMPLES = 3
_PAGE = 500
"""Jobs or lines that are in memory at once: some tens of MB at most."""

CHECKS: tuple[tuple[str, str], ...] = (
    ("unfinished jobs share an id", "SELECT id FROM bq.job GROUP BY id HAVING count(*) > 1"),
    ("jobs are unfinished and finished at once", "SELECT id FROM bq.job JOIN bq.finished USING (id)"),
    (
        "unfinished jobs are in no state that there is",
        "SELECT id FROM bq.job WHERE state NOT IN ('waiting', 'delayed', 'waiting-children', 'active')",
    ),
    (
        "finished jobs are in no state that there is",
        "SELECT id FROM bq.finished WHERE state NOT IN ('completed', 'failed', 'removed')",
    ),
    (
        "active jobs have no lease",
        "SELECT id FROM bq.job WHERE state = 'active' AND (lease IS NULL OR started_at IS NULL)",
    ),
    ("jobs have a lease and are not active", "SELECT id FROM bq.job WHERE state <> 'active' AND lease IS NOT NULL"),
    ("ready jobs have no place", "SELECT id FROM bq.job WHERE state = 'waiting' AND place = 0"),
    (
        "ready jobs share a place",
        "SELECT min(id) FROM bq.job WHERE state = 'waiting' AND place <> 0 GROUP BY place HAVING count(*) > 1",
    ),
    (
        "keys are where no next one is left",
        f"SELECT id FROM bq.job WHERE seq NOT BETWEEN 1 AND {2**53} OR abs(place) > {2**53} "  # noqa: S608 - numbers
        f"UNION ALL SELECT id FROM bq.finished WHERE fin NOT BETWEEN 1 AND {2**53}",
    ),
    (
        "events overlap",
        "SELECT last_id::text FROM (SELECT last_id, count, lag(last_id, 1, 0::bigint) OVER (ORDER BY last_id) AS before "
        "FROM bq.event_batch) AS each WHERE count < 1 OR last_id - count < before",
    ),
    (
        "trails are of no job",
        "SELECT key FROM bq.trail WHERE key <> '' AND NOT EXISTS (SELECT FROM bq.job WHERE id = key) "
        "AND NOT EXISTS (SELECT FROM bq.finished WHERE id = key)",
    ),
    (
        "trails do not add up",
        "SELECT key || ' ' || kind FROM bq.trail LEFT JOIN bq.trail_line ON trail = id GROUP BY id HAVING count(n) <> next - first "
        "OR coalesce(sum(octet_length(body)), 0) <> size OR min(n) <> first OR max(n) <> next - 1",
    ),
    (
        "dead letters are of no error, or other jobs of one",
        "SELECT id FROM bq.finished WHERE (state = 'failed') <> (fingerprint IS NOT NULL)",
    ),
    ("nobody can lead", "SELECT 'the row of the leader is gone' WHERE NOT EXISTS (SELECT FROM bq.leader)"),
    (
        "nobody can follow the leader for longer than its lease",
        "SELECT holder FROM bq.leader WHERE beat > clock_timestamp() + interval '1 minute'",
    ),
    ("terms are still to come", "SELECT term::text FROM bq.term WHERE term > (SELECT term FROM bq.leader)"),
    (
        "servers cannot know each other",
        "SELECT 'the secret of the link is gone' WHERE NOT EXISTS (SELECT FROM bq.link WHERE octet_length(key) >= 32)",
    ),
)
"""What must not be, and the query that finds it: one row for each offence, naming the job or event."""

_LEADER = (
    "SELECT term, batch, holder, beat > '-infinity' AND beat + lease >= clock_timestamp(), "
    "extract(epoch FROM clock_timestamp() - CASE WHEN beat > '-infinity' THEN beat END)::float8 FROM bq.leader"
)
_OPEN = f"SELECT seconds FROM ({OLDEST.format('seconds')}) AS oldest WHERE seconds > $1::bigint"  # noqa: S608 - ours
_LINES = (
    "SELECT trail, n, kind, key, body FROM bq.trail_line JOIN bq.trail ON id = trail "
    "WHERE (trail, n) > ($1::bigint, $2::bigint) ORDER BY trail, n LIMIT $3::bigint"
)
_DEAD = "SELECT relname::text, n_dead_tup, n_live_tup FROM pg_stat_user_tables WHERE schemaname = $1 ORDER BY 1"


class DatabaseReport(NamedTuple):
    """What was found: how much there is, who leads, and what is wrong (nothing, if all is well)."""

    schema: int
    size: int
    leader: str
    unfinished: dict[str, int]
    finished: dict[str, int]
    events: int
    facts: dict[str, int]
    trails: dict[str, int]
    findings: list[str]


def examine(place: Place, on_check: Callable[[str], None]) -> DatabaseReport:
    """Check the store at ``place``; ``on_check`` gets the name of what is looked at next.

    Raises:
        StartupError: there is no store of ours, or it is of another version.
        StoreError: it cannot be read.
    """
    link = DatabaseLink(place.conninfo)

    def ask(text: str, *values: str | int) -> list[Row]:
        return link.ask(Query(place.qualified(text), values), wait_s=3600)

    def counts(text: str) -> dict[str, int]:
        return {with_nul(str(name)): int(n) for name, n in ask(text)}

    try:
        version = check_schema(link, place)
        ask("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        on_check("every job")
        findings = list(_jobs(Reads(place.qualified), ask))
        for claim, text in CHECKS:
            on_check(claim)
            found = [with_nul(str(name)) for (name,) in ask(text)]
            findings += _offence(claim, found)
        on_check("facts, and lines of trails")
        facts = ask("SELECT kind, key, value FROM bq.fact")
        findings += _offence("facts cannot be read", [with_nul(name) for name in unreadable_facts(facts)])
        lines = [with_nul(name) for name in unreadable_lines(_lines(ask))]
        findings += _offence("lines of trails cannot be read", lines)
        on_check("the counts")
        for table, dead, live in ask(_DEAD, place.schema):
            if is_bloated(Table(table, 0, live, dead)):
                findings.append(
                    f"the table {table} holds {dead:,} dead rows beside {live:,}: autovacuum does not keep up"
                )
        for (seconds,) in ask(_OPEN, OLDEST_S):
            findings.append(
                f"a transaction is open for {span(seconds * 1000)}: what was deleted since stays in the way, also of autovacuum"
            )
        [(size,)] = ask(SIZE, place.schema)
        return DatabaseReport(
            schema=version,
            size=size,
            leader=_leader(ask(_LEADER)),
            unfinished=counts("SELECT state, count(*) FROM bq.job GROUP BY 1 ORDER BY 1"),
            finished=counts("SELECT state, count(*) FROM bq.finished GROUP BY 1 ORDER BY 1"),
            events=sum(counts("SELECT '', coalesce(sum(count), 0)::bigint FROM bq.event_batch").values()),
            facts=counts("SELECT kind, count(*) FROM bq.fact GROUP BY 1 ORDER BY 1"),
            trails=counts("SELECT kind, sum(next - first)::bigint FROM bq.trail GROUP BY 1 ORDER BY 1"),
            findings=findings,
        )
    except AssertionError as error:
        raise StoreError(f"{place}: {error}") from None
    finally:
        link.close()


def _leader(rows: list[Row]) -> str:
    if not rows:
        return "nobody can: the row of the leader is gone"
    [(term, batch, holder, is_alive, age)] = rows
    who = (
        "nobody"
        if age is None
        else f"{holder}, heard of {span(age * 1000)} ago" + ("" if is_alive else ", which is too long")
    )
    return f"{who}; term {term}, batch {batch:,}"


def _jobs(reads: Reads, ask: Callable[..., list[Row]]) -> Iterator[str]:
    """Yield what is wrong with unfinished jobs that only whoever reads their rows can tell."""
    unreadable: list[str] = []
    for_nobody: list[str] = []
    ids: set[str] = set()
    waits: list[tuple[str, str]] = []
    keys: dict[tuple[str, str], list[str]] = {}
    after, rows = 0, _PAGE
    while rows == _PAGE:
        read = reads.stored(after, 2**63 - 1, _PAGE)
        page: list[Stored] = read.answer(ask(read.query.text, *read.query.values))
        rows = len(page)
        for seq, job in page:
            after = seq
            if job is None:
                unreadable.append(str(seq))
                continue
            ids.add(job.id)
            if job.state == State.WAITING_CHILDREN and not (job.note and job.note.waiting_on):
                for_nobody.append(job.id)
            waits += [(job.id, other) for other in (job.note and job.note.waiting_on) or ()]
            if job.options.unique_key is not None:
                keys.setdefault((job.queue, job.options.unique_key), []).append(job.id)
    yield from _offence("rows of unfinished jobs cannot be read", unreadable)
    yield from _offence("jobs wait for dependencies and name none", for_nobody)
    yield from _offence("jobs wait for a job that is not there", [job for job, other in waits if other not in ids])
    yield from _offence(
        "unfinished jobs hold the same unique key", [jobs[0] for jobs in keys.values() if len(jobs) > 1]
    )


def _lines(ask: Callable[..., list[Row]]) -> Iterator[Row]:
    """Yield the lines of all trails, each with its kind and its key."""
    place = 0, 0
    while page := ask(_LINES, *place, _PAGE):
        for trail, n, *line in page:
            place = trail, n
            yield tuple(line)


def _offence(claim: str, found: list[str]) -> list[str]:
    if not found:
        return []
    examples = ", ".join(found[:_EXAMPLES]) + (", …" if len(found) > _EXAMPLES else "")
    return [f"{claim}: {len(found)} ({examples})"]
