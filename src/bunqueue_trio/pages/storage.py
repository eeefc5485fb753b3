"""The page about the disk: what is on it, how fast it fills, and whether it takes changes."""

from bunqueue_trio.pages.findings import full_in_ms, growth_an_hour
from bunqueue_trio.protocol.codec import encode
from bunqueue_trio.protocol.server_replies import RetentionView, ShorterView, StorageReply, StorageView
from bunqueue_trio.runtime.statistics import Page, Reporter, Statistics

_STATES = ("waiting", "delayed", "waiting-children", "active", "completed", "failed")
_HOUR_MS = 3600_000
_AGES = tuple(n * _HOUR_MS for n in (1, 6, 24, 3 * 24, 7 * 24, 14 * 24, 30 * 24, 90 * 24))
# About the bytes that a job takes in the file beside its payload.
_ROW_BYTES = 200


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


def storage(server: Reporter) -> Page:
    """Return what the disk holds, and how it does."""
    told, past = server.statistics(), server.past()
    figures, space = told.storage, told.storage.space
    full_in = full_in_ms(past, told.now, space.disk_free) if space.disk else None
    since = [moment for moment in (figures.full_since, figures.failing_since) if moment is not None]
    view = StorageView(
        disk_full=figures.full_since is not None,
        error=figures.trouble,
        since=min(since, default=None),
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
    )
    return "application/json", encode(StorageReply(data=view)), 200
