"""The page about the disk: what is on it, how fast it fills, and whether it takes changes."""

from bunqueue_trio.pages.findings import full_in_ms, growth_an_hour
from bunqueue_trio.protocol.codec import encode
from bunqueue_trio.protocol.server_replies import (
    HeapView,
    KindView,
    RetentionView,
    ShorterView,
    StorageReply,
    StorageView,
)
from bunqueue_trio.runtime.statistics import Page, Reporter, Statistics

_STATES = ("waiting", "delayed", "waiting-children", "active", "completed", "failed")
_HOUR_MS = 3600_000
_AGES = tuple(n * _HOUR_MS for n in (1, 6, 24, 3 * 24, 7 * 24, 14 * 24, 30 * 24, 90 * 24))
# About the bytes that a job takes in the file beside its payload.
_ROW_BYTES = 200
_QUEUES_SHOWN = 20


def shorter(told: Statistics) -> list[ShorterView] | None:
    """Return what a shorter retention would free, by how old some of the ended jobs are; None: that is not known yet."""
    sampled, keeps = told.storage.sampled, told.storage.retention.age_ms
    if sampled is None:
        return None
    found, each = [], (told.jobs["completed"] + told.jobs["failed"]) / max(1, len(sampled))
    for age in _AGES:
        old = [one.size for one in sampled if one.finished_at < told.now - age]
        if old and (keeps is None or age < keeps):
            jobs = round(len(old) * each)
            found.append(ShorterView(age=age, jobs=jobs, bytes=round(sum(old) * each) + jobs * _ROW_BYTES))
    return found


def kinds(told: Statistics) -> list[KindView] | None:
    """Return about what each kind takes of the file, by some of all; None: that is not known yet."""
    sampled, jobs = told.storage.sampled, told.jobs
    if sampled is None:
        return None
    unfinished = told.unfinished
    heaps = told.storage.heaps
    # Of queues that are not looked at the jobs are as large as those of the others.
    known = sum(heap.jobs for heap in heaps)
    payloads = sum(heap.bytes for heap in heaps) * unfinished // known if known else 0
    found = [KindView(kind="unfinished", jobs=unfinished, bytes=payloads + unfinished * _ROW_BYTES)]
    for state in ("completed", "failed"):
        some = [each.size for each in sampled if (each.state == "failed") == (state == "failed")]
        each = sum(some) / len(some) if some else 0
        found.append(KindView(kind=state, jobs=jobs[state], bytes=round(jobs[state] * (each + _ROW_BYTES))))
    return [*found, KindView(kind="events", jobs=None, bytes=told.storage.events)]


def heaviest(told: Statistics) -> list[HeapView] | None:
    """Return the queues that take most of the file, by some of all jobs; None: that is not known yet."""
    sampled = told.storage.sampled
    if sampled is None:
        return None
    each = (told.jobs["completed"] + told.jobs["failed"]) / max(1, len(sampled))
    ended: dict[str, float] = {}
    for one in sampled:
        ended[one.queue] = ended.get(one.queue, 0) + each * (one.size + _ROW_BYTES)
    unfinished = {heap.queue: heap.bytes + heap.jobs * _ROW_BYTES for heap in told.storage.heaps}
    found = [
        HeapView(queue=name, unfinished=unfinished.get(name, 0), ended=round(ended.get(name, 0)))
        for name in unfinished.keys() | ended.keys() if name
    ]  # fmt: skip
    return sorted(found, key=lambda heap: (-heap.unfinished - heap.ended, heap.queue))[:_QUEUES_SHOWN]


def storage(server: Reporter) -> Page:
    """Return what the disk holds, and how it does."""
    told, past = server.statistics(), server.past()
    figures, space = told.storage, told.storage.space
    full_in = full_in_ms(past, told.now, space.disk_free) if space.disk else None
    damage = figures.damage
    moments = (figures.full_since, figures.failing_since, damage and damage.since)
    view = StorageView(
        disk_full=figures.full_since is not None,
        error=figures.trouble,
        since=min((moment for moment in moments if moment is not None), default=None),
        damage=damage and damage.what,
        file=space.file,
        free=space.free,
        log=figures.log_bytes,
        disk_free=space.disk_free,
        disk=space.disk,
        growth=growth_an_hour(past, told.now, space.file),
        full_in=None if full_in is None else int(full_in),
        pending=figures.pending,
        jobs={state: told.jobs[state] for state in _STATES},
        retention=RetentionView(*figures.retention),
        shorter=shorter(told),
        kinds=kinds(told),
        queues=heaviest(told),
        backups=figures.backups,
        upkeep=list(figures.upkeep),
    )
    return "application/json", encode(StorageReply(data=view)), 200
