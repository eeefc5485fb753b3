"""Every number that limits something, and the settings that a deployment may change.

Constants here are rules of the contract or bounds that nobody needs to tune; each has its reason
beside it. Settings come from the environment, then a TOML file, then flags; each is one field of
:class:`Settings`, with its variable, bounds and help in one place.
"""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from bunqueue_trio.errors import StartupError

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
DEPENDENCIES_MAX = 10_000  # jobs named in dependsOn by one command: about 10 ms to look them up
PULL_BATCH_BYTES = 8 * MIB  # of payloads; a pull of many jobs ends here, and takes one job at least
QUEUES_IDLE_MAX = 1024  # queues kept without a job in them; a million names must not stay for ever

# --- the journal and the store -----------------------------------------------------------------
INLINE_ROWS_MAX = 128  # a commit of so many rows (1 ms) costs less than two thread hops and GIL fights
INLINE_BYTES_MAX = 256 * 1024  # and of so many bytes of payloads: also about 1 ms of the event loop
INLINE_S_MAX = 0.01  # a disk that took longer the last time gets a thread: it must not stop the event loop
COMMITS_JUDGED = 4  # commits by the best of which the disk is judged: one that stumbles refuses nobody
GATHER_S = 0.02  # large requests wait for the next batch when the disk needs so long for this one; an answer takes two
GATHER_UNKNOWN = 0.02  # fraction of the limits allowed before the first commit has shown how fast the disk is
GATHER_JOBS_MIN = 100  # jobs that may always gather; smaller commits say nothing of how fast large ones are
GATHER_JOBS_MAX = 4000  # and on the fastest disk: 20 ms of the event loop for taking, writing and publishing them
GATHER_BYTES_MIN = MIB  # and bytes of requests
PENDING_S = 0.1  # all new work is refused when the disk needs so long for what gathers already
PENDING_UNKNOWN = 0.1  # the part that may wait while nothing is known
PENDING_JOBS_MIN = 2000  # and not below so many jobs
TURN_S = 2  # how long a large request waits in line for a batch before it is refused
COMMITS_IN_A_ROW_MAX = 32  # by one task without letting others run: about 1 ms
COMMIT_RETRY_MIN_MS = 50  # a full disk rarely heals sooner; the first retry is nearly free
COMMIT_RETRY_MAX_MS = 500  # how long after the disk is back the server may lag
GIVE_UP_S = 5  # how long a request waits for a disk that refuses its commit, before it is told so
CHECKPOINT_MS = 200  # how often the size of the write-ahead log is looked at; one connection fills 70 MB a second
CHECKPOINT_BYTES = 4 * MIB  # the log is copied back from here on; SQLite's own default is 4 MB
CHECKPOINT_FINISH_BYTES = 16 * MIB  # from here on with commits waiting for its end
PRUNE_MS = 2 * SECOND_MS  # how often the retention limits are enforced
PRUNE_ROWS = 500  # rows deleted in one transaction, which commits wait for: 0.7 ms measured
LOOP_LAG_MS = SECOND_MS  # how often the event loop's lateness is sampled: 60 values a minute cost nothing
HEAP_LOOK_MS = SECOND_MS  # anybody may ask for a collection or a census of the heap; one a second is made
CLOCK_LOOK_S = 10  # how often the system clock is compared with the server's: soon enough for who reads the log
CLOCK_OFF_MS = 3 * SECOND_MS  # so far apart is worth a warning; slewing by NTP moves 0.5 ms a second
PICTURE_MS = SECOND_MS  # the same for the page of metrics, which looks at every queue: 60 ms at 30,000
UNIX_PATH_MAX = 107  # bytes of a socket's path: the kernel's sun_path without its end
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
REPLAY_BYTES = MIB  # and their size, but for the last row: a reader that takes nothing holds so much
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
FINAL_SEND_S = 0.5  # how long the end of an answer may still take when its request has been cancelled
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


def _parse_bool(text: str) -> bool:
    lowered = text.strip().lower()
    if lowered in {"1", "true", "yes", "on"}:
        return True
    if lowered in {"0", "false", "no", "off", ""}:
        return False
    raise ValueError("must be true or false")


def _parse_list(text: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(",") if item.strip())


class Bind(NamedTuple):
    """One place to listen: a TCP host and port, or the path of a Unix socket."""

    host: str = ""
    port: int = 0
    path: str | None = None

    def __str__(self) -> str:
        """Return it as it is written in BIND."""
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it."""
        return self.path is not None or self.host == "::1" or self.host == "localhost" or self.host.startswith("127.")


def parse_bind(text: str) -> Bind:
    """Return the place that ``host:port``, ``[v6]:port`` or ``unix:/path`` names.

    Raises:
        ValueError: saying what is wrong with it.
    """
    if text.startswith("unix:"):
        path = text[len("unix:") :]
        if not path.startswith("/") or len(path.encode()) > UNIX_PATH_MAX or "\0" in path:
            raise ValueError(f"{text!r} needs an absolute path of at most {UNIX_PATH_MAX} bytes")
        return Bind(path=path)
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r} needs brackets around an IPv6 address")
    if not host or not port.isascii() or not port.isdigit() or int(port[:6]) > 65535:
        raise ValueError(f"{text!r} is not host:port with a port up to 65535, nor unix:/path")
    return Bind(host, int(port))


def _setting(
    default: Any,
    env: str,
    about: str,
    *,
    low: int | None = None,
    high: int | None = None,
    secret: bool = False,
    choices: tuple[str, ...] = (),
    each: Callable[[str], object] | None = None,
) -> Any:
    return field(
        default=default,
        metadata={
            "env": env, "help": about, "low": low, "high": high, "secret": secret, "choices": choices,
            "each": each,
        },
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a deployment decides. Times in the unit their name ends with."""

    host: str = _setting("0.0.0.0", "HOST", "Address to listen on.")  # noqa: S104 - as the original
    http_port: int = _setting(6790, "HTTP_PORT", "Port to listen on; 0 takes a free one.", low=0, high=65535)
    bind: tuple[str, ...] = _setting(
        (), "BIND", "Comma-separated host:port and unix:/path to listen on, instead of HOST and HTTP_PORT.",
        each=parse_bind,
    )  # fmt: skip
    tls_cert_file: str | None = _setting(
        None, "TLS_CERT_FILE", "PEM file with the certificate and its chain; TCP is served over TLS then."
    )
    tls_key_file: str | None = _setting(None, "TLS_KEY_FILE", "PEM file with the private key of TLS_CERT_FILE.")
    data_path: str = _setting("bunqueue.db", "DATA_PATH", "SQLite file that holds the queue.")
    auth_tokens: tuple[str, ...] = _setting(
        (), "AUTH_TOKENS", "Comma-separated bearer tokens; none: no authentication.", secret=True
    )
    cors_allow_origin: tuple[str, ...] = _setting(
        ("*",), "CORS_ALLOW_ORIGIN", "Comma-separated origins that browsers may call from."
    )
    metrics_auth: bool = _setting(default=False, env="METRICS_AUTH", about="Ask for a token at /prometheus too.")
    metrics_queues_max: int = _setting(
        100, "METRICS_QUEUES_MAX", "Queues with series of their own at /prometheus, the fullest ones.",
        low=0, high=10_000,
    )  # fmt: skip
    rate_limit_window_ms: int = _setting(
        60_000, "RATE_LIMIT_WINDOW_MS", "Sliding window of the rate limit.", low=1, high=DAY_MS
    )
    rate_limit_max_requests: int | None = _setting(
        None, "RATE_LIMIT_MAX_REQUESTS", "Requests per window and client; Infinity: no limit.",
        low=1, high=1_000_000,
    )  # fmt: skip
    rate_limit_cleanup_ms: int = _setting(
        60_000, "RATE_LIMIT_CLEANUP_MS", "How often idle clients are forgotten.", low=1, high=DAY_MS
    )
    lease_ms: int = _setting(
        LEASE_MS, "LEASE_MS", "How long a pulled job is the worker's without a heartbeat.",
        low=1, high=DAY_MS,
    )  # fmt: skip
    stalls_max: int = _setting(
        STALLS_MAX, "STALLS_MAX", "Expired leases a job survives before it is dead.", low=0, high=1000
    )
    completed_max: int = _setting(
        100_000, "RETENTION_COMPLETED_MAX", "Completed jobs kept for reading.", low=0, high=10**9
    )
    dead_max: int = _setting(100_000, "RETENTION_DEAD_MAX", "Dead jobs kept for reading.", low=0, high=10**9)
    finished_age_ms: int = _setting(
        30 * DAY_MS, "RETENTION_AGE_MS", "How long finished jobs are kept at most.",
        low=1, high=3650 * DAY_MS,
    )  # fmt: skip
    events_max: int = _setting(
        100_000, "RETENTION_EVENTS_MAX", "Events kept for readers that reconnect.", low=0, high=10**9
    )
    events_age_ms: int = _setting(
        HOUR_MS, "RETENTION_EVENTS_AGE_MS", "How long events are kept at most.", low=1, high=365 * DAY_MS
    )
    body_max_bytes: int = _setting(
        10 * MIB, "BODY_MAX_BYTES", "Largest request body or WebSocket message.", low=1024, high=256 * MIB
    )
    pending_max: int = _setting(
        50_000, "PENDING_MAX", "Changed jobs that may wait for the disk before new work gets 503.",
        low=1, high=10**7,
    )  # fmt: skip
    pending_max_bytes: int = _setting(
        64 * MIB, "PENDING_MAX_BYTES", "Bytes of requests that may wait for the disk before new work gets 503.",
        low=MIB, high=64 * 1024 * MIB,
    )  # fmt: skip
    buffers_max_bytes: int = _setting(
        256 * MIB, "BUFFERS_MAX_BYTES",
        "Bytes of large requests and answers held for all clients together before new ones get 503.",
        low=MIB, high=64 * 1024 * MIB,
    )  # fmt: skip
    pollers_max: int = _setting(20_000, "POLLERS_MAX", "Long polls that may wait at once.", low=1, high=10**6)
    connections_max: int = _setting(
        20_000, "CONNECTIONS_MAX", "Connections that may be open at once.", low=1, high=10**6
    )
    grace_ms: int = _setting(10_000, "SHUTDOWN_GRACE_MS", "Time that open requests get at a stop.", low=0, high=HOUR_MS)
    audit_jobs_per_second: int = _setting(
        2000, "AUDIT_JOBS_PER_SECOND", "How many jobs the self-audit looks at; 0: none, there is no audit.",
        low=0, high=10**6,
    )  # fmt: skip
    express: bool = _setting(
        default=True, env="EXPRESS", about="Serve plain requests without a framework; false: Hypercorn alone."
    )
    log_level: str = _setting(
        "info", "LOG_LEVEL", "Least severity that is logged.",
        choices=("debug", "info", "warning", "error"),
    )  # fmt: skip
    log_format: str = _setting(
        "auto", "LOG_FORMAT", "auto: for people on a terminal, JSON otherwise.",
        choices=("auto", "human", "json"),
    )  # fmt: skip

    @property
    def binds(self) -> tuple[Bind, ...]:
        """Where to listen."""
        return tuple(map(parse_bind, self.bind)) or (Bind(self.host, self.http_port),)


@dataclass(frozen=True)
class Loaded:
    """Settings with the place each value comes from: ``default``, ``NAME``, a file, or ``--flag``."""

    settings: Settings
    sources: Mapping[str, str]


def load(environ: Mapping[str, str], *, file: Path | None = None, flags: Mapping[str, Any] | None = None) -> Loaded:
    """Return the settings in force; flags override the file, the file the environment.

    Raises:
        StartupError: naming the setting and its value, or what is wrong with the file.
    """
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    from_file = _read_file(file) if file is not None else {}
    for f in fields(Settings):
        name, env, flag = f.name, f.metadata["env"], "--" + f.name.replace("_", "-")
        candidates = (
            ((flags or {}).get(name), flag), (from_file.pop(name, None), f"{name} in {file}"),
            (environ.get(env), env),
        )  # fmt: skip
        sources[name] = "default"
        for raw, source in candidates:
            if raw is not None:
                values[name], sources[name] = _parse(f, raw, source), source
                break
    if from_file:
        raise StartupError(f"{file}: unknown setting {min(from_file)!r}")
    settings = Settings(**values)
    if (settings.tls_cert_file is None) != (settings.tls_key_file is None):
        given, missing = (
            ("tls_cert_file", "TLS_KEY_FILE") if settings.tls_cert_file else ("tls_key_file", "TLS_CERT_FILE")
        )
        raise StartupError(f"{sources[given]}={getattr(settings, given)!r}: {missing} is needed as well")
    return Loaded(settings, sources)


def _read_file(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StartupError(f"{file}: cannot be read: {error}") from None


def _parse(f: Any, raw: Any, source: str) -> Any:
    """Return the value of setting ``f`` written as ``raw`` (text, or a typed value from TOML)."""
    meta, kind = f.metadata, f.type
    try:
        if kind is bool:
            return raw if isinstance(raw, bool) else _parse_bool(str(raw))
        if kind == tuple[str, ...]:
            return _parse_items(raw, meta)
        if kind is str:
            return _parse_text(raw, meta)
        if kind == str | None:
            return _parse_text(raw, meta) if raw != "" else None
        if kind == int | None and str(raw).strip().lower() in {"infinity", "inf", "none", ""}:
            return None
        return _parse_int(raw, meta)
    except ValueError as error:
        raise StartupError(f"{source}={'…' if meta['secret'] else repr(raw)}: {error}") from None


def _parse_items(raw: Any, meta: Mapping[str, Any]) -> tuple[str, ...]:
    items = tuple(map(str, raw)) if isinstance(raw, list) else _parse_list(str(raw))
    if meta["each"] is not None:
        for item in items:
            meta["each"](item)
    return items


def _parse_text(raw: Any, meta: Mapping[str, Any]) -> str:
    if not isinstance(raw, str):
        raise ValueError("must be a string")
    if not raw or "\0" in raw:
        raise ValueError("must not be empty")
    if meta["choices"] and raw not in meta["choices"]:
        raise ValueError("must be one of " + ", ".join(meta["choices"]))
    return raw


def _parse_int(raw: Any, meta: Mapping[str, Any]) -> int:
    text = str(raw).strip()
    if isinstance(raw, (bool, float)) or not text.isascii() or not text.removeprefix("-").isdigit() or len(text) > 20:
        raise ValueError("must be an integer")
    value = int(text)
    if not meta["low"] <= value <= meta["high"]:
        raise ValueError(f"must be between {meta['low']} and {meta['high']}")
    return value
