"""Commands about how a queue treats its jobs where neither a push nor a pull says it."""

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from bunqueue_trio import errors
from bunqueue_trio.errors import Fault
from bunqueue_trio.protocol import config_replies as cr
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.commands.base import Attempts, Command, DayMs, EveryMs, LockMs, YearMs
from bunqueue_trio.protocol.commands.push import Backoff
from bunqueue_trio.protocol.commands.spec import EXAMPLE_OK, Again, Does, Example, Path, Role, Spec

Entries = Annotated[int, Meta(ge=0, le=10_000_000)]
Stalls = Annotated[int, Meta(ge=0, le=1000)]


class SetDefaults(Command[r.DataReply], kw_only=True, tag="SetDefaults", forbid_unknown_fields=True):
    """Say what holds for the jobs of a queue whose push does not say it; what is left out stays as it was, null is as everywhere.

    Jobs that are there already stay as they are, and schedules say for themselves.
    """

    queue: str = ""
    max_attempts: Attempts | UnsetType | None = UNSET
    backoff: DayMs | Backoff | UnsetType | None = UNSET
    ttl: YearMs | UnsetType | None = UNSET
    timeout: DayMs | UnsetType | None = UNSET
    remove_on_complete: bool | UnsetType | None = UNSET
    remove_on_fail: bool | UnsetType | None = UNSET


class ClearDefaults(Command[r.DataReply], kw_only=True, tag="ClearDefaults"):
    """Let the defaults of the server hold for a queue again."""

    queue: str = ""


class GetDefaults(Command[cr.DefaultsReply], kw_only=True, tag="GetDefaults"):
    """Read what holds for the jobs of a queue whose push does not say it."""

    queue: str = ""


class StallConfig(Struct, kw_only=True, rename="camel", frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """After how long without a word a job of a queue stalls, and how often it may; see ``SetStallConfig``."""

    enabled: bool | UnsetType | None = UNSET
    stall_interval: LockMs | UnsetType | None = UNSET
    max_stalls: Stalls | UnsetType | None = UNSET
    grace_period: DayMs | UnsetType | None = UNSET


class SetStallConfig(Command[r.DataReply], kw_only=True, tag="SetStallConfig", forbid_unknown_fields=True):
    """Say when jobs of a queue stall: those delivered from now on for ``stallInterval`` and ``gracePeriod`` ms without a word of their worker.

    A pull with a ``lockTtl``, a ``timeout`` and a connection say for themselves. ``maxStalls`` is how often a job may; with ``enabled`` false it comes
    back however often. The fields may stand in ``config``. What is left out stays as it was, null is as everywhere.
    """

    queue: str = ""
    enabled: bool | UnsetType | None = UNSET
    stall_interval: LockMs | UnsetType | None = UNSET
    max_stalls: Stalls | UnsetType | None = UNSET
    grace_period: DayMs | UnsetType | None = UNSET
    config: StallConfig | None = None


class ClearStallConfig(Command[r.DataReply], kw_only=True, tag="ClearStallConfig"):
    """Let jobs of a queue stall as everywhere again."""

    queue: str = ""


class GetStallConfig(Command[cr.StallConfigReply], kw_only=True, tag="GetStallConfig"):
    """Read when jobs of a queue stall, and how often they may."""

    queue: str = ""


class DlqConfig(Struct, kw_only=True, rename="camel", frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Which dead letters of a queue are kept and retried; see ``SetDlqConfig``."""

    auto_retry: bool | UnsetType | None = UNSET
    auto_retry_interval: YearMs | UnsetType | None = UNSET
    max_auto_retries: Stalls | UnsetType | None = UNSET
    max_age: EveryMs | UnsetType | None = UNSET
    max_entries: Entries | UnsetType | None = UNSET


class SetDlqConfig(Command[r.DataReply], kw_only=True, tag="SetDlqConfig", forbid_unknown_fields=True):
    """Say which dead letters of a queue are kept: none older than ``maxAge`` ms, and the newest ``maxEntries``, of those that the server keeps.

    With ``autoRetry`` those that die from now on wait again ``autoRetryInterval`` ms after their death, each at most ``maxAutoRetries`` times. The
    fields may stand in ``config``. What is left out stays as it was, null is as everywhere.
    """

    queue: str = ""
    auto_retry: bool | UnsetType | None = UNSET
    auto_retry_interval: YearMs | UnsetType | None = UNSET
    max_auto_retries: Stalls | UnsetType | None = UNSET
    max_age: EveryMs | UnsetType | None = UNSET
    max_entries: Entries | UnsetType | None = UNSET
    config: DlqConfig | None = None


class ClearDlqConfig(Command[r.DataReply], kw_only=True, tag="ClearDlqConfig"):
    """Let the dead letters of a queue be kept as everywhere again, and none be retried by itself."""

    queue: str = ""


class GetDlqConfig(Command[cr.DlqConfigReply], kw_only=True, tag="GetDlqConfig"):
    """Read which dead letters of a queue are kept, and whether they are retried by themselves."""

    queue: str = ""


TOO_MANY_CONFIGS = Fault(
    409,
    "More than {} queues would have settings of their own: obliterate those that are not needed",
    "too-many-configs",
)

_DEFAULTS: dict[str, Any] = {
    "maxAttempts": 5, "backoff": {"type": "fixed", "delay": 2000}, "ttl": None, "timeout": 30000, "removeOnComplete": True,
    "removeOnFail": False,
}  # fmt: skip
_DEAD = {"autoRetry": True, "autoRetryInterval": 60000, "maxAutoRetries": 3, "maxAge": None, "maxEntries": 1000}
_STALLS = {"enabled": True, "stallInterval": 15000, "maxStalls": 5, "gracePeriod": 0}

SPECS: tuple[Spec, ...] = (
    Spec(
        SetDefaults, Does.CHANGES, Path("PUT", "/queues/:queue/defaults"), refuses=(errors.INVALID_QUEUE, TOO_MANY_CONFIGS),
        again=Again.FREELY, role=Role.ADMIN, acts="queue --set", example=Example({"maxAttempts": 5, "timeout": 30000}, EXAMPLE_OK),
    ),
    Spec(
        ClearDefaults, Does.CHANGES, Path("DELETE", "/queues/:queue/defaults", optional_body=True), again=Again.FREELY,
        refuses=(errors.INVALID_QUEUE,), role=Role.ADMIN, acts="queue --reset defaults", example=Example(None, EXAMPLE_OK),
    ),
    Spec(
        GetDefaults, Does.READS, Path("GET", "/queues/:queue/defaults"), refuses=(errors.INVALID_QUEUE,), again=Again.FREELY,
        role=Role.READ, settled_by="everything", example=Example(None, {"ok": True, "defaults": _DEFAULTS, "set": ["maxAttempts", "backoff", "timeout", "removeOnComplete"]}),
    ),
    Spec(
        SetStallConfig, Does.CHANGES, Path("PUT", "/queues/:queue/stall-config"), refuses=(errors.INVALID_QUEUE, TOO_MANY_CONFIGS),
        again=Again.FREELY, role=Role.ADMIN, acts="queue --set", example=Example({"stallInterval": 15000, "maxStalls": 5}, EXAMPLE_OK),
    ),
    Spec(
        ClearStallConfig, Does.CHANGES, Path("DELETE", "/queues/:queue/stall-config", optional_body=True), again=Again.FREELY,
        refuses=(errors.INVALID_QUEUE,), role=Role.ADMIN, acts="queue --reset stalls", example=Example(None, EXAMPLE_OK),
    ),
    Spec(
        GetStallConfig, Does.READS, Path("GET", "/queues/:queue/stall-config"), refuses=(errors.INVALID_QUEUE,), again=Again.FREELY,
        role=Role.READ, settled_by="everything", example=Example(None, {"ok": True, "config": _STALLS, "set": ["stallInterval", "maxStalls"]}),
    ),
    Spec(
        SetDlqConfig, Does.CHANGES, Path("PUT", "/queues/:queue/dlq-config"),
        refuses=(errors.INVALID_QUEUE, TOO_MANY_CONFIGS), again=Again.FREELY, role=Role.ADMIN, acts="queue --set",
        example=Example({"autoRetry": True, "autoRetryInterval": 60000, "maxEntries": 1000}, EXAMPLE_OK),
    ),
    Spec(
        ClearDlqConfig, Does.CHANGES, Path("DELETE", "/queues/:queue/dlq-config", optional_body=True), again=Again.FREELY,
        refuses=(errors.INVALID_QUEUE,), role=Role.ADMIN, acts="queue --reset dead", example=Example(None, EXAMPLE_OK),
    ),
    Spec(
        GetDlqConfig, Does.READS, Path("GET", "/queues/:queue/dlq-config"), refuses=(errors.INVALID_QUEUE,), again=Again.FREELY,
        role=Role.READ, settled_by="everything",
        example=Example(None, {"ok": True, "config": _DEAD, "set": ["autoRetry", "autoRetryInterval", "maxEntries"]}),
    ),
)  # fmt: skip
