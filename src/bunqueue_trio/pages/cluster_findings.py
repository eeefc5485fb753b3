"""What is wrong with a cluster: rules over the leader's last look at it, and over its doors. Pure functions; they look nowhere else.

What counts as trouble, and since when, is known to ``runtime/cluster.py``; here it becomes sentences.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from bunqueue_trio.pages.words import count, size, span
from bunqueue_trio.runtime.cluster import Cluster, is_bloated, max_lag_s, who_is_missed
from bunqueue_trio.runtime.statistics import Statistics

HOUR_MS = 3600_000
# Of the leader within an hour: more is no upgrade.
CHANGES_MAX = 2
# Of the lease that is left: it is said five times within one, so two of them were missed.
LEASE_PART_MIN = 0.4
DOORS_MS = 15 * 60_000
# A door refuses at 50,000.
DOOR_QUEUE_MAX = 10_000

Fields = dict[str, Any]


def cluster_findings(told: Statistics) -> Iterator[Fields]:
    """Yield the fields of each finding."""
    yield from _doors(told)
    known = told.cluster.known
    if known is None:
        if told.cluster.error is not None and not told.storage.is_failing:
            yield {
                "code": "cluster-unseen", "severity": "notice", "weight": 10, "title": "The database does not say how the cluster is",
                "cause": f"It says: {told.cluster.error[:300]}", "evidence": "Who waits, replicas and tables are not known; jobs are not concerned.",
            }  # fmt: skip
        return
    yield from _changes(told, known)
    yield from _lease(told)
    for code, since in told.cluster.since.items():
        yield {"code": code, "severity": "warning", "since": since, "alert": _ALERTS[code]} | _RULES[code](told, known)


def _changes(told: Statistics, known: Cluster) -> Iterator[Fields]:
    lately = [term for term in known.terms if term.since > told.now - HOUR_MS and term.term > 1]
    if len(lately) <= CHANGES_MAX:
        return
    over = [term for term in known.terms if term.ended and (term.until or 0) > told.now - HOUR_MS]
    silent = sum(term.ended == "silent" for term in over)
    yield {
        "code": "leader-changes", "severity": "warning", "alert": "BunqueueLeaderChanges", "since": lately[-1].since, "weight": 650 * 10**5,
        "title": f"The leader has changed {count(len(lately), 'time')} within an hour",
        "cause": "Leaders were killed, ran out of memory, stood still, or did not reach the database for their lease."
        if silent
        else "Servers were stopped again and again: by hand, by an upgrade, or by what supervises them.",
        "evidence": ". ".join(f"Term {term.term:,}, {term.holder}: {_end(term.ended)}" for term in over[:3]) + ".",
        "remedy": "The log of each server says why it has ended; `bunqueue-trio cluster` shows the last terms.",
        "numbers": {"changes": len(lately), "silent": silent},
    }  # fmt: skip


def _end(ended: str | None) -> str:
    return "stopped" if ended == "stopped" else "not heard of for its lease"


def _lease(told: Statistics) -> Iterator[Fields]:
    led = told.leading
    if told.storage.is_failing or not told.is_sure or led.lease_left_s >= LEASE_PART_MIN * led.lease_s:
        return
    silent_ms = round((led.lease_s - led.lease_left_s) * 1000)
    yield {
        "code": "lease-short", "severity": "warning", "alert": "BunqueueLeaseShort", "since": told.now - silent_ms, "weight": 640 * 10**5,
        "title": f"This server could not say for {span(silent_ms)} that it leads",
        "cause": "The database answers slowly, a commit takes long, or this machine stood still.",
        "evidence": f"Another server leads in {span(led.lease_left_s * 1000)}, unless that is said before.",
        "remedy": "A longer `STORE_LEASE_MS` bears a slow database, and makes each failover longer.",
        "numbers": {"leaseLeftMs": round(led.lease_left_s * 1000), "leaseMs": round(led.lease_s * 1000)},
    }  # fmt: skip


def _missing(told: Statistics, known: Cluster) -> Fields:
    gone = [f"{each.holder} was heard of {span(each.seen_s * 1000)} ago" for each in known.missing[:3]]
    return {
        "weight": 600 * 10**5, "title": "No other server would take over",
        "cause": f"{who_is_missed(known, told.now) or 'The last one'} is gone: killed, out of memory, cut off from the database, or not started again.",
        "evidence": ". ".join([*gone, "Until one waits again, a death of this server is a standstill"]) + ".",
        "remedy": "Start `bunqueue-trio serve` there with the same `STORE`. A server that is not wanted any more is forgotten within a day.",
        "numbers": {"missing": len(known.missing)},
    }  # fmt: skip


def _replica(told: Statistics, known: Cluster) -> Fields:
    last = max(known.replicas, key=lambda each: each.lag_s or 0)
    return {
        "weight": 450 * 10**5, "title": f"The replica {last.name} is {span(max_lag_s(known) * 1000)} behind",
        "cause": "Its disk or network is slower than what is written, or something on it holds replay up, such as a long query.",
        "evidence": f"{size(last.behind or 0)} are not replayed there; it is {last.sync or 'unknown'}. A failover of the database would wait for that, or lose it.",
        "numbers": {"lagMs": round(max_lag_s(known) * 1000), "bytes": last.behind or 0},
    }  # fmt: skip


def _memory(told: Statistics, known: Cluster) -> Fields:
    led = told.leading
    return {
        "weight": 550 * 10**5, "title": "A failover of the database could lose what this server does not remember",
        "cause": "The replica is so far behind, or so much is written, that the newest batches which are kept do not reach back to what it has.",
        "evidence": f"{count(led.batches, 'batch is', 'batches are')} remembered ({size(led.remembered)}), of {span((led.remembers_s or 0) * 1000)}; the replica is {span(max_lag_s(known) * 1000)} behind.",
        "remedy": "Let the replica catch up, or make it a synchronous one.",
        "numbers": {"rememberedMs": round((led.remembers_s or 0) * 1000), "lagMs": round(max_lag_s(known) * 1000)},
    }  # fmt: skip


def _bloat(told: Statistics, known: Cluster) -> Fields:
    worst = max((table for table in known.tables if is_bloated(table)), key=lambda table: table.dead)
    oldest = f"the oldest transaction that this user sees is open for {span((known.oldest_s or 0) * 1000)}"
    return {
        "weight": 420 * 10**5, "title": f"The table {worst.name} holds {count(worst.dead, 'dead row')} beside {worst.live:,}",
        "cause": "Autovacuum does not keep up: it is off, too rare, or something old keeps it from clearing away.",
        "evidence": f"It takes {size(worst.bytes)}, and the next leader reads past all of it. In the database {oldest}.",
        "remedy": "`autovacuum_naptime=10s` suits a busy queue. End what is open for long, also prepared transactions and unused replication slots.",
        "numbers": {"dead": worst.dead, "live": worst.live, "bytes": worst.bytes},
    }  # fmt: skip


def _transaction(told: Statistics, known: Cluster) -> Fields:
    return {
        "weight": 410 * 10**5, "title": f"A transaction in the database is open for {span((known.oldest_s or 0) * 1000)}",
        "cause": "A program or a person has begun one and does not end it, or one was prepared and forgotten.",
        "evidence": "Rows that have been deleted since cannot be cleared away, so the tables grow with every job.",
        "remedy": "`pg_stat_activity` and `pg_prepared_xacts` show whose it is; `idle_in_transaction_session_timeout` ends such by itself.",
        "numbers": {"openMs": round((known.oldest_s or 0) * 1000)},
    }  # fmt: skip


def _far(told: Statistics, known: Cluster) -> Fields:
    return {
        "weight": 390 * 10**5, "title": f"The database answers in {span(known.round_trip_ms)} at best",
        "cause": "It is far away, reached through something slow, or busy.",
        "evidence": f"Every commit takes that at least: who waits for each answer gets at most {1000 / known.round_trip_ms:,.0f} a second.",
        "remedy": "The leader should be near its database: `bunqueue-trio cluster` on another machine shows whether that is nearer.",
        "numbers": {"roundTripMs": round(known.round_trip_ms)},
    }  # fmt: skip


_RULES: Mapping[str, Callable[[Statistics, Cluster], Fields]] = {
    "standby-missing": _missing, "replica-behind": _replica, "memory-short": _memory, "table-bloated": _bloat,
    "transaction-old": _transaction, "database-far": _far,
}  # fmt: skip
_ALERTS = {
    "standby-missing": "BunqueueStandbyMissing", "replica-behind": "BunqueueReplicaBehind", "memory-short": "BunqueueMemoryShort",
    "table-bloated": "BunqueueTableBloated", "transaction-old": "BunqueueTransactionOld", "database-far": "BunqueueDatabaseFar",
}  # fmt: skip


def _doors(told: Statistics) -> Iterator[Fields]:
    lately = [each for each in told.doors.lately if each.at > told.now - DOORS_MS]
    if lately:
        last, hung = lately[-1], sum("did not answer" in each.how for each in lately)
        cause = (
            "It hung: the machine had no processor for it, or somebody stopped it."
            if hung
            else "It was killed, or ran out of memory."
        )
        then = "Another one was started; its clients had to connect again."
        if not last.was_open:
            cause = "Something that it needs is away or broken: files of the program, or of the certificate, or the machine has no more processes, files or memory."
            then = "It is tried again until that is there; meanwhile the other doors get its clients, if there are any."
        yield {
            "code": "doors-fail", "severity": "warning", "alert": "BunqueueDoorsFail", "since": lately[0].at, "until": last.at, "weight": 430 * 10**5,
            "title": f"{count(len(lately), 'door has ended by itself', 'doors have ended by themselves')} within 15 minutes",
            "cause": cause,
            "evidence": f"Door {last.door} {last.how}, {span(told.now - last.at)} ago. {then}",
            "numbers": {"ended": len(lately), "hung": hung},
        }  # fmt: skip
    fullest = max(told.doors.by_door().items(), key=lambda each: each[1], default=("", 0))
    if fullest[1] > DOOR_QUEUE_MAX:
        yield {
            "code": "door-queue", "severity": "warning", "alert": "BunqueueDoorQueue", "weight": 440 * 10**5,
            "title": f"{fullest[1]:,} requests wait at door {fullest[0]}",
            "cause": "More is asked than this server answers, or its store is slow.",
            "evidence": f"{count(told.pushes_per_s, 'push', 'pushes')} and {count(told.pulls_per_s, 'pull')} a second. A door refuses more than 50,000 requests.",
            "remedy": "More doors do not help: all of them wait for this server. Push in bulk, or divide the queues.",
            "numbers": {"requests": fullest[1]},
        }  # fmt: skip
