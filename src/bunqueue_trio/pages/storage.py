"""The page about the disk: what is on it, how fast it fills, and whether it takes changes."""

from bunqueue_trio.pages.findings import full_in_ms, growth_an_hour
from bunqueue_trio.protocol.codec import encode
from bunqueue_trio.protocol.server_replies import RetentionView, StorageReply, StorageView
from bunqueue_trio.runtime.statistics import Page, Reporter

_STATES = ("waiting", "delayed", "waiting-children", "active", "completed", "failed")


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
    )
    return "application/json", encode(StorageReply(data=view)), 200
