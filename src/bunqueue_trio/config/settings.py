"""Every number that limits something, and the settings that a deployment may change.

Constants here are rules of the contract or bounds that nobody needs to tune; each has its reason
beside it. Each setting is one field of :class:`Settings`, with its bounds and help in one place; its variable
is the field's name in capitals, its flag the name with hyphens. How values are written is in ``spelling.py``, where
they come from in ``loading.py``.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bunqueue_trio.config.spelling import (
    DEFAULT_PORT,
    NO_LIMIT,
    Bind,
    parse_bind,
    parse_host,
    parse_origin,
    parse_token,
)  # fmt: skip

SECOND_MS = 1000
HOUR_MS = 3600 * SECOND_MS
DAY_MS = 24 * HOUR_MS
MIB = 1024 * 1024

# --- the engine --------------------------------------------------------------------------------
LEASE_MS = 300 * SECOND_MS  # the HTTP contract has no heartbeat and honest long jobs exist
STALLS_MAX = 3  # a job that kills its worker four times will kill the next one
RESTART_GRACE_MS = 30 * SECOND_MS  # a worker that reconnects does so within seconds
BACKOFF_MAX_MS = HOUR_MS  # exponential growth past an hour is giving up in disguise
ADVANCE_MAX = 1000  # deadlines in one step: about 5 ms in which nobody else is served
QUEUES_IDLE_MAX = 1024  # queues kept without a job in them; a million names must not stay for ever

# --- the journal and the store -----------------------------------------------------------------
INLINE_ROWS_MAX = 128  # a commit of so many rows (1 ms) costs less than two thread hops and GIL fights
INLINE_BYTES_MAX = 256 * 1024  # and of so many bytes of payloads: also about 1 ms of the event loop
INLINE_S_MAX = 0.01  # a disk that took longer the last time gets a thread: it must not stop the event loop
COMMITS_JUDGED = 4  # commits by the best of which the disk is judged: one that stumbles refuses nobody
GATHER_S = 0.02  # large requests wait for the next batch when the disk needs so long for this one; an answer takes two
GATHER_UNKNOWN = 0.02  # what part of the settings' limits may gather while nothing is known of the disk
GATHER_JOBS_MIN = 100  # jobs that may always gather; smaller commits say nothing of how fast large ones are
GATHER_JOBS_MAX = 4000  # and on the fastest disk: 20 ms of the event loop for taking, writing and publishing them
GATHER_BYTES_MIN = MIB  # and bytes of requests
PENDING_S = 0.1  # all new work is refused when the disk needs so long for what gathers already
PENDING_UNKNOWN = 0.1  # the part that may wait while nothing is known
PENDING_JOBS_MIN = 2000  # and not below so many jobs
TURN_S = 2  # how long a large request waits in line for a batch before it is refused
COMMITS_IN_A_ROW_MAX = 32  # by one task without letting others run: about 1 ms
COMMIT_RETRY_MIN_MS = 50  # a full disk rarely heals sooner; the first retry is nearly free
COMMIT_RETRY_MAX_MS = 2 * SECOND_MS  # how long after the disk is back the server may lag
CHECKPOINT_MS = 200  # how often the size of the write-ahead log is looked at; one connection fills 70 MB a second
CHECKPOINT_BYTES = 4 * MIB  # the log is copied back from here on; SQLite's own default is 4 MB
CHECKPOINT_FINISH_BYTES = 16 * MIB  # from here on with commits waiting for its end
PRUNE_MS = 2 * SECOND_MS  # how often the retention limits are enforced
PRUNE_ROWS = 500  # rows deleted in one transaction, which commits wait for: 0.7 ms measured
LOOP_LAG_MS = SECOND_MS  # how often the event loop's lateness is sampled: 60 values a minute cost nothing
HEAP_LOOK_MS = SECOND_MS  # anybody may ask for a collection or a census of the heap; one a second is made
RESTARTS_WINDOW_MS = 60 * SECOND_MS  # the time in which a supervised task may use its budget

# --- the self-audit ------------------------------------------------------------------------------
AUDIT_SLICE = 100  # jobs looked at in one go: half a ms in which nobody else is served
AUDIT_PAUSE_MS = 10 * SECOND_MS  # between two passes: a small queue need not be looked at all the time
AUDIT_DATA_BYTES = 64 * 1024  # of each payload that are read back and compared; the next row is not far then
AUDIT_FINDINGS_MAX = 100  # kept for whoever asks; a broken structure could fill any list

# --- readers of events --------------------------------------------------------------------------
READER_EVENTS_MAX = 10_000  # events a reader may lag behind: about a second of a busy server
READER_BYTES_MAX = 4 * MIB  # and their size; 1,000 stuck readers of large payloads are 4 GiB, not more
REPLAY_EVENTS = 500  # events read from the store at once for a reader that came back: about 1 ms
SESSION_REPLIES_MAX = 1000  # replies in line before a WebSocket is not read any more
SESSION_BYTES_MAX = 8 * MIB  # and their size; one more, however large, always fits
SESSION_POLLS_MAX = 1000  # waiting pulls of one WebSocket; each is a task
SSE_COMMENT_S = 15  # an idle stream says something; proxies cut silence after 30 to 60 s

# --- the process --------------------------------------------------------------------------------
# A full collection looks at every container, of which a growing backlog has large ones; measured at 28 to
# 190 ms with the defaults of 700, 10, 10. Plain requests leave no cycles behind, so it can be rare;
# Hypercorn's connections leave little: slow_lane.py takes them apart. WebSockets leave some: it must not be never.
GC_THRESHOLDS = (10_000, 20, 20)

# --- the transports ----------------------------------------------------------------------------
RATE_CLIENTS_MAX = 100_000  # clients remembered by the rate limiter; the idlest one makes room
CLIENT_KEY_MAX = 128  # longest client address taken from a header: IPv6 with zone fits many times
HEADER_BYTES_MAX = 64 * 1024  # request line and headers: what the strictest proxies in use allow
KEEP_ALIVE_S = 75  # idle keep-alive; longer than the 60 s after which common proxies give up first
HEADER_TIMEOUT_S = 30  # a request's headers must be in by then (slow loris)
BODY_TIMEOUT_S = 60  # and its body
WRITE_TIMEOUT_S = 60  # a client that takes none of its answer for so long is gone
RECEIVE_BYTES = 64 * 1024  # read and written at once: what a socket buffer holds
PING_S = 20  # a WebSocket that says nothing is pinged so often
PINGS_MISSED_MAX = 2  # and may leave so many unanswered before it is gone
LINGER_S = 2  # how long what a refused client still sends is read, so that it sees its answer
LINGERING_MAX = 1000  # connections that are read so, 10 KiB each; above it they are closed at once
DRAIN_S = 0.05  # at a stop connections are still accepted: those in the kernel's line would be reset, not closed
CLOSE_S = 2  # how long the other side may take to agree to the end of a WebSocket
SMALL_BODY_BYTES = 4096  # a job, or some: it never waits in line
LARGE_BODY_BYTES = 32 * 1024  # a bulk push of 500 jobs: 3 ms of the event loop, one at a time
HEADS_KEPT = 512  # parsed heads of requests: what the clients of a server send again and again
KEPT_HEAD_BYTES = 1024  # and no longer ones: half a MiB of keys at most
MESSAGES_A_TURN = 16  # of one WebSocket before others are served: 0.3 ms, and there may be hundreds
FEED_BYTES = 4096  # of a WebSocket parsed in one step; the smallest frames are 6 bytes, and 10 µs each
SIP_BYTES = 1024  # the same in the slow lane, which takes 20 µs and gives nobody a turn in between
FRAMES_UNSENT_MAX = 64  # pongs of a client that reads none of them, before it is not read any more
ROOM_IDLE_S = 2  # a connection idle for so long makes room for a new one when there are too many
ROOM_CONNECTIONS = 32  # and so many of them at once, since looking for them costs a ms
DESCRIPTORS_KEPT = 64  # for the store, its log, threads and listeners; the rest may be connections
KEEPER_S = 1  # how often late, silent and idle connections are looked for
BACKLOG = 1024  # connections waiting to be accepted; Linux caps it at somaxconn (4096)


# --- the settings ------------------------------------------------------------------------------
LISTENING, SECURITY, DELIVERY = "Listening", "Security", "Delivery"
RETENTION, LIMITS, OPERATION = "Retention", "Limits", "Operation and logs"
GROUPS = (LISTENING, SECURITY, DELIVERY, RETENTION, LIMITS, OPERATION)
"""The order of the groups in which settings are shown."""


def _setting(
    default: Any, env: str, group: str, about: str, *,
    low: int | None = None, high: int | None = None, breaks: str = "",
    unlimited: int | None = None, zero_is_unlimited: bool = False,
    secret: bool = False, choices: tuple[str, ...] = (), old: str | None = None,
    each: Callable[[str], object] | None = None,
) -> Any:  # fmt: skip
    """Return a field. ``breaks`` says what does beyond the bounds; ``unlimited`` is the value of no limit."""
    return field(
        default=default,
        metadata={
            "env": env, "help": about, "group": group, "low": low, "high": high, "breaks": breaks,
            "unlimited": unlimited, "zero_is_unlimited": zero_is_unlimited, "secret": secret, "choices": choices,
            "each": each, "old": old,
        },
    )  # fmt: skip


_FOREVER = "the job of a worker that has gone would never come back"
_MEMORY = "it keeps clients from filling the memory"
_ROW = "a row in SQLite holds no more"
_CONNECTIONS = 1_000_000  # what one process gets descriptors for


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a deployment decides. Times in the unit their name ends with; NO_LIMIT is none."""

    host: str = _setting(
        "0.0.0.0", "HOST", LISTENING, "Address to listen on.", each=parse_host  # noqa: S104 - as the original
    )  # fmt: skip
    http_port: int = _setting(
        DEFAULT_PORT, "HTTP_PORT", LISTENING, "Port to listen on; 0 takes a free one.",
        low=0, high=65535, breaks="TCP has no other ports",
    )  # fmt: skip
    bind: tuple[str, ...] = _setting(
        (), "BIND", LISTENING, "Comma-separated host:port, :port and unix:/path to listen on, instead of HOST and HTTP_PORT.",
        each=parse_bind,
    )  # fmt: skip
    tls_cert_file: str | None = _setting(
        None, "TLS_CERT_FILE", LISTENING, "PEM file with the certificate and its chain; TCP is served over TLS then."
    )
    tls_key_file: str | None = _setting(
        None, "TLS_KEY_FILE", LISTENING, "PEM file with the private key of TLS_CERT_FILE."
    )
    data_path: str = _setting("bunqueue.db", "DATA_PATH", OPERATION, "SQLite file that holds the queue.")
    auth_tokens: tuple[str, ...] = _setting(
        (), "AUTH_TOKENS", SECURITY, "Comma-separated bearer tokens; none: no authentication. Other users see a flag, not a variable.",
        secret=True, each=parse_token,
    )  # fmt: skip
    auth_tokens_file: str | None = _setting(
        None, "AUTH_TOKENS_FILE", SECURITY, "File with bearer tokens, one a line; # begins a comment."
    )
    cors_allow_origin: tuple[str, ...] = _setting(
        ("*",), "CORS_ALLOW_ORIGIN", SECURITY, "Comma-separated origins that browsers may call from.", each=parse_origin
    )
    metrics_auth: bool = _setting(
        default=False, env="METRICS_AUTH", group=SECURITY, about="Ask for a token at /prometheus too."
    )
    metrics_queues_max: int = _setting(
        100, "METRICS_QUEUES_MAX", OPERATION, "Queues with series of their own at /prometheus, the fullest ones.",
        low=0, unlimited=NO_LIMIT,
    )  # fmt: skip
    rate_limit_window_ms: int = _setting(
        60_000, "RATE_LIMIT_WINDOW_MS", LIMITS, "Sliding window of the rate limit.", low=1
    )
    rate_limit_max_requests: int | None = _setting(
        None, "RATE_LIMIT_MAX_REQUESTS", LIMITS, "Requests per window and client; Infinity or 0: no limit.",
        low=1, zero_is_unlimited=True,
    )  # fmt: skip
    rate_limit_cleanup_ms: int = _setting(
        60_000, "RATE_LIMIT_CLEANUP_MS", LIMITS, "How often idle clients are forgotten.", low=1
    )
    lease_ms: int = _setting(
        LEASE_MS, "LEASE_MS", DELIVERY, "How long a pulled job is the worker's without a heartbeat.",
        low=1, high=365 * DAY_MS, breaks=_FOREVER,
    )  # fmt: skip
    stalls_max: int = _setting(
        STALLS_MAX,
        "STALLS_MAX",
        DELIVERY,
        "Expired leases a job survives before it is dead.",
        low=0,
        unlimited=NO_LIMIT,
    )
    retention_completed_max: int = _setting(
        100_000, "RETENTION_COMPLETED_MAX", RETENTION, "Completed jobs kept for reading; 0 keeps none.",
        low=0, unlimited=NO_LIMIT, old="completed_max",
    )  # fmt: skip
    retention_dead_max: int = _setting(
        100_000, "RETENTION_DEAD_MAX", RETENTION, "Dead jobs kept for reading; 0 keeps none.",
        low=0, unlimited=NO_LIMIT, old="dead_max",
    )  # fmt: skip
    retention_age_ms: int = _setting(
        30 * DAY_MS, "RETENTION_AGE_MS", RETENTION, "How long finished jobs are kept at most.",
        low=1, breaks="0 could mean nothing or everything: Infinity keeps them", unlimited=NO_LIMIT, old="finished_age_ms",
    )  # fmt: skip
    retention_events_max: int = _setting(
        100_000, "RETENTION_EVENTS_MAX", RETENTION, "Events kept for readers that reconnect; 0 keeps none.",
        low=0, unlimited=NO_LIMIT, old="events_max",
    )  # fmt: skip
    retention_events_age_ms: int = _setting(
        HOUR_MS, "RETENTION_EVENTS_AGE_MS", RETENTION, "How long events are kept at most.",
        low=1, breaks="0 could mean nothing or everything: Infinity keeps them", unlimited=NO_LIMIT, old="events_age_ms",
    )  # fmt: skip
    body_max_bytes: int = _setting(
        10 * MIB, "BODY_MAX_BYTES", LIMITS, "Largest request body or WebSocket message.",
        low=1024, high=900 * 10**6, breaks=_ROW,
    )  # fmt: skip
    pending_max: int = _setting(
        50_000, "PENDING_MAX", LIMITS, "Changed jobs that may wait for the disk before new work gets 503.",
        low=1, high=10**7, breaks=_MEMORY,
    )  # fmt: skip
    pending_max_bytes: int = _setting(
        64 * MIB, "PENDING_MAX_BYTES", LIMITS, "Bytes of requests that may wait for the disk before new work gets 503.",
        low=MIB, high=1024 * 1024 * MIB, breaks=_MEMORY,
    )  # fmt: skip
    buffers_max_bytes: int = _setting(
        256 * MIB, "BUFFERS_MAX_BYTES", LIMITS,
        "Bytes of large requests and answers held for all clients together before new ones get 503.",
        low=MIB, high=1024 * 1024 * MIB, breaks=_MEMORY,
    )  # fmt: skip
    pollers_max: int = _setting(
        20_000, "POLLERS_MAX", LIMITS, "Long polls that may wait at once.", low=1, unlimited=NO_LIMIT
    )
    connections_max: int = _setting(
        20_000, "CONNECTIONS_MAX", LIMITS, "Connections that may be open at once.",
        low=1, high=_CONNECTIONS, breaks="a process has no more descriptors", unlimited=_CONNECTIONS,
    )  # fmt: skip
    shutdown_grace_ms: int = _setting(
        10_000, "SHUTDOWN_GRACE_MS", OPERATION, "Time that open requests get at a stop.",
        low=0, unlimited=NO_LIMIT, old="grace_ms",
    )  # fmt: skip
    audit_jobs_per_second: int = _setting(
        2000, "AUDIT_JOBS_PER_SECOND", OPERATION, "How many jobs the self-audit looks at; 0: none, there is no audit.",
        low=0, high=10**9, breaks="more take all of the time",
    )  # fmt: skip
    express: bool = _setting(
        default=True, env="EXPRESS", group=OPERATION,
        about="Serve plain requests without a framework; false: Hypercorn alone.",
    )  # fmt: skip
    log_level: str = _setting(
        "info", "LOG_LEVEL", OPERATION, "Least severity that is logged.",
        choices=("debug", "info", "warning", "error", "critical"),
    )  # fmt: skip
    log_format: str = _setting(
        "auto", "LOG_FORMAT", OPERATION, "auto: for people on a terminal, JSON otherwise.",
        choices=("auto", "human", "json"),
    )  # fmt: skip

    @property
    def binds(self) -> tuple[Bind, ...]:
        """Where to listen."""
        return tuple(parse_bind(each, self.http_port) for each in self.bind) or (Bind(self.host, self.http_port),)
