"""The settings that a deployment may change.

Each setting is one field of :class:`Settings`, with its bounds and help in one place; its variable
is the field's name in capitals, its flag the name with hyphens. How values are written is in ``spelling.py``, where
they come from in ``loading.py``.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bunqueue_trio.config.limits import DAY_MS, DISK_RESERVE_BYTES, HOUR_MS, LEASE_MS, MIB, STALLS_MAX
from bunqueue_trio.config.spelling import (
    DEFAULT_PORT,
    NO_LIMIT,
    Bind,
    parse_bind,
    parse_directory,
    parse_host,
    parse_link,
    parse_origin,
    parse_store,
    parse_token,
    without_password,
)

LISTENING, SECURITY, DELIVERY = "Listening", "Security", "Delivery"
RETENTION, LIMITS, OPERATION = "Retention", "Limits", "Operation and logs"
GROUPS = (LISTENING, SECURITY, DELIVERY, RETENTION, LIMITS, OPERATION)
"""The order of the groups in which settings are shown."""


def _setting(
    default: Any, env: str, group: str, about: str, *,
    low: int | None = None, high: int | None = None, breaks: str = "",
    unlimited: int | None = None, zero_is_unlimited: bool = False,
    secret: bool = False, choices: tuple[str, ...] = (), old: str | None = None,
    each: Callable[[str], object] | None = None, shown: str | None = None,
) -> Any:  # fmt: skip
    """Return a field.

    ``breaks`` says what breaks beyond the bounds; ``unlimited`` is the value that means no limit; ``shown`` is what people read of a default that is a rule and no value.
    """
    return field(
        default=default,
        metadata={
            "env": env, "help": about, "group": group, "low": low, "high": high, "breaks": breaks,
            "unlimited": unlimited, "zero_is_unlimited": zero_is_unlimited, "secret": secret, "choices": choices,
            "each": each, "old": old, "shown": shown,
        },
    )  # fmt: skip


_FOREVER = "the job of a worker that has gone would never come back"
_MEMORY = "it keeps clients from filling the memory"
_ROW = "a row in SQLite holds no more"
# What one process gets descriptors for.
_CONNECTIONS = 1_000_000


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
    doors: int = _setting(
        0, "DOORS", LISTENING, "Processes that accept the TCP connections for the one that does the work; 0: it accepts them itself.",
        low=0, high=1000, breaks="no machine has the cores for more",
    )  # fmt: skip
    data_path: str = _setting("bunqueue.db", "DATA_PATH", OPERATION, "SQLite file that holds the queue.")
    backup_dir: str | None = _setting(
        None, "BACKUP_DIR", OPERATION, "Directory for the copies of DATA_PATH that `storage backup` and the dashboard make; none: no copies.",
        each=parse_directory,
    )  # fmt: skip
    backups_kept: int = _setting(
        7, "BACKUPS_KEPT", OPERATION, "Copies kept in BACKUP_DIR: the oldest goes when the next one is whole.",
        low=1, high=10_000, breaks="0 would keep not even the newest",
    )  # fmt: skip
    store: str = _setting(
        "", "STORE", OPERATION, "postgres:// URL of a database that holds the queue, instead of DATA_PATH; ?schema= names a schema in it.",
        secret=True, each=parse_store,
    )  # fmt: skip
    store_lease_ms: int = _setting(
        6_000, "STORE_LEASE_MS", OPERATION, "How long a server that is not heard of keeps others from taking its STORE over.",
        low=1, high=365 * DAY_MS, breaks="nobody would ever take over",
    )  # fmt: skip
    link_bind: str = _setting(
        "", "LINK_BIND", LISTENING,
        "host:port where a server with a STORE is reached by those that wait; none: nowhere.",
        shown="next to the API, on its port + 1", each=parse_link,
    )  # fmt: skip
    link_tls_cert_file: str | None = _setting(
        None, "LINK_TLS_CERT_FILE", LISTENING,
        "PEM file with any certificate, one signed by itself included: where this server leads, the others reach it over TLS then.",
    )  # fmt: skip
    link_tls_key_file: str | None = _setting(
        None, "LINK_TLS_KEY_FILE", LISTENING, "PEM file with the private key of LINK_TLS_CERT_FILE."
    )
    auth_tokens: tuple[str, ...] = _setting(
        (), "AUTH_TOKENS", SECURITY, "Comma-separated bearer tokens; none: no authentication. Other users see a flag, not a variable.",
        secret=True, each=parse_token,
    )  # fmt: skip
    auth_tokens_file: str | None = _setting(
        None,
        "AUTH_TOKENS_FILE",
        SECURITY,
        "File with bearer tokens, one a line, bare or as `name role token`; # begins a comment.",
    )
    cors_allow_origin: tuple[str, ...] = _setting(
        ("*",), "CORS_ALLOW_ORIGIN", SECURITY, "Comma-separated origins that browsers may call from.", each=parse_origin
    )
    metrics_auth: bool = _setting(
        default=False, env="METRICS_AUTH", group=SECURITY, about="Ask for a token at /prometheus too."
    )
    ui: bool = _setting(
        default=True, env="UI", group=OPERATION, about="Serve the dashboard at /ui; off: there is none."
    )
    ui_mask: tuple[str, ...] = _setting(
        ("password", "passwd", "secret", "token", "authorization", "apikey", "api_key"), "UI_MASK", SECURITY,
        "Comma-separated keys of payloads whose values the dashboard does not show, however deep; case does not matter.",
    )  # fmt: skip
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
        "Expired leases and dropped WebSockets a job survives before it is dead.",
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
    retention_actions_max: int = _setting(
        100_000, "RETENTION_ACTIONS_MAX", RETENTION, "Acts of operators kept for reading; 0 keeps none.",
        low=0, unlimited=NO_LIMIT,
    )  # fmt: skip
    retention_actions_age_ms: int = _setting(
        365 * DAY_MS, "RETENTION_ACTIONS_AGE_MS", RETENTION, "How long acts of operators are kept at most.",
        low=1, breaks="0 could mean nothing or everything: Infinity keeps them", unlimited=NO_LIMIT,
    )  # fmt: skip
    body_max_bytes: int = _setting(
        10 * MIB, "BODY_MAX_BYTES", LIMITS, "Largest request body or WebSocket message.",
        low=1024, high=900 * 10**6, breaks=_ROW,
    )  # fmt: skip
    pending_max: int = _setting(
        50_000, "PENDING_MAX", LIMITS, "Changed jobs that may wait to be written before new work gets 503.",
        low=1, high=10**7, breaks=_MEMORY,
    )  # fmt: skip
    pending_max_bytes: int = _setting(
        64 * MIB, "PENDING_MAX_BYTES", LIMITS, "Bytes of requests that may wait to be written before new work gets 503.",
        low=MIB, high=1024 * 1024 * MIB, breaks=_MEMORY,
    )  # fmt: skip
    buffers_max_bytes: int = _setting(
        256 * MIB, "BUFFERS_MAX_BYTES", LIMITS,
        "Bytes of large requests and answers held for all clients together before new ones get 503.",
        low=MIB, high=1024 * 1024 * MIB, breaks=_MEMORY,
    )  # fmt: skip
    disk_reserve_bytes: int = _setting(
        DISK_RESERVE_BYTES, "DISK_RESERVE_BYTES", LIMITS,
        "Room on the disk of DATA_PATH that is kept for acks: pushes are refused first. Unless it is set, less of a disk under 320 MiB: a twentieth, at least 8 MiB.",
        low=0, high=1024 * 1024 * MIB, breaks="no disk has more",
    )  # fmt: skip
    pollers_max: int = _setting(
        20_000,
        "POLLERS_MAX",
        LIMITS,
        "Waiting pulls, and waits for the end of a job, that may be there at once.",
        low=1,
        unlimited=NO_LIMIT,
    )
    connections_max: int = _setting(
        20_000, "CONNECTIONS_MAX", LIMITS, "Connections that may be open at once.",
        low=1, high=_CONNECTIONS, breaks="a process has no more descriptors", unlimited=_CONNECTIONS,
    )  # fmt: skip
    keep_alive_ms: int = _setting(
        75_000, "KEEP_ALIVE_MS", LISTENING,
        "How long an idle connection is kept; longer than a proxy in front of it keeps its own.",
        low=1, unlimited=NO_LIMIT,
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
    def where(self) -> str:
        """Where the queue is, without a password."""
        return without_password(self.store) if self.store else self.data_path

    @property
    def store_kind(self) -> str:
        """What the queue is on, as people call it."""
        return "database" if self.store else "disk"

    @property
    def binds(self) -> tuple[Bind, ...]:
        """Where to listen."""
        return tuple(parse_bind(each, self.http_port) for each in self.bind) or (Bind(self.host, self.http_port),)
