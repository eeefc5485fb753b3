"""Replies about how a queue treats its jobs where neither a push nor a pull says it."""

from msgspec import Struct

from bunqueue_trio.protocol.replies import BackoffView, Reply


class DefaultsView(Struct, kw_only=True, rename="camel"):
    """What holds for a job whose push does not say it; times in ms."""

    max_attempts: int
    backoff: int | BackoffView
    ttl: int | None
    timeout: int | None
    remove_on_complete: bool
    remove_on_fail: bool


class DefaultsReply(Reply, kw_only=True):
    """What holds for the jobs of a queue."""

    defaults: DefaultsView
    set: list[str]
    """Which of them were said of this queue; the others are as everywhere."""


class StallConfigView(Struct, kw_only=True, rename="camel"):
    """After how long without a word a job stalls, and how often it may."""

    enabled: bool
    stall_interval: int
    max_stalls: int
    grace_period: int


class StallConfigReply(Reply, kw_only=True):
    """When the jobs of a queue stall."""

    config: StallConfigView
    set: list[str]
    """Which of them were said of this queue."""


class DlqConfigView(Struct, kw_only=True, rename="camel"):
    """Which dead letters of a queue are kept, of those that the server keeps; null: all of them. Whether they are retried by themselves."""

    auto_retry: bool
    auto_retry_interval: int
    max_auto_retries: int
    max_age: int | None
    max_entries: int | None


class DlqConfigReply(Reply, kw_only=True):
    """Which dead letters of a queue are kept, and whether they are retried by themselves."""

    config: DlqConfigView
    set: list[str]
    """Which of them were said of this queue."""
