"""Handlers of the commands about how a queue treats its jobs where neither a push nor a pull says it."""

from collections.abc import Mapping
from typing import TypeVar

from msgspec import UNSET, Struct
from msgspec.structs import fields, replace

from bunqueue_trio.engine.configs import ALL, STANDARD, USUAL, DeadRule, Defaults, Rule, StallRule
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.handler import Handlers, Owner
from bunqueue_trio.engine.lookup import backoff_view
from bunqueue_trio.engine.options import backoff_of
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import config_replies as cr
from bunqueue_trio.protocol import replies as r

_OF_DEFAULTS = {
    "max_attempts": "max_attempts", "backoff": "backoff", "ttl": "ttl", "timeout": "timeout", "remove_on_complete": "remove_on_complete",
    "remove_on_fail": "remove_on_fail",
}  # fmt: skip
_OF_STALLS = {"enabled": "enabled", "stall_interval": "interval", "max_stalls": "most", "grace_period": "grace"}
_OF_DEAD = {
    "auto_retry": "auto_retry", "auto_retry_interval": "interval", "max_auto_retries": "most", "max_age": "max_age",
    "max_entries": "max_entries",
}  # fmt: skip
"""Field of the command → that of the rule."""
_IN_JSON = {f.name: f.encode_name for kind in (c.SetDefaults, c.StallConfig, c.DlqConfig) for f in fields(kind)}

_Rule = TypeVar("_Rule", Defaults, StallRule, DeadRule)


def _changed(rule: _Rule, said: Struct, names: Mapping[str, str], usual: _Rule) -> _Rule:
    """Return a rule with what was said; None is as usual, and what was left out stays as it was."""
    given = {field: value for name, field in names.items() if (value := getattr(said, name)) is not UNSET}
    changes = {field: getattr(usual, field) if value is None else value for field, value in given.items()}
    kept = set(rule.said) - given.keys()
    now_said = kept | {field for field, value in given.items() if value is not None}
    return replace(rule, **changes, said=tuple(sorted(now_said)))


def _said(rule: Rule, names: Mapping[str, str], usual: Rule) -> list[str]:
    """Return which fields of a rule were said of its queue, by their names in JSON."""
    # What is not as usual was said, also where an earlier version has not noted it.
    return [
        _IN_JSON[name]
        for name, field in names.items()
        if field in rule.said or getattr(rule, field) != getattr(usual, field)
    ]


def _set_defaults(engine: Engine, command: c.SetDefaults, now: int, owner: Owner) -> r.Reply:
    engine.queues.check(command.queue)
    before = engine.configs.defaults.get(command.queue, STANDARD)
    said = _changed(before, command, _OF_DEFAULTS, STANDARD)
    if command.backoff is not UNSET:
        backoff, shape = (STANDARD.backoff, None) if command.backoff is None else backoff_of(command.backoff)
        said = replace(said, backoff=backoff, shape=shape)
    engine.acted = engine.configs.set_defaults(command.queue, replace(said, timeout=said.timeout or None))
    return r.OK


def _clear_defaults(engine: Engine, command: c.ClearDefaults, now: int, owner: Owner) -> r.Reply:
    engine.queues.check(command.queue)
    engine.acted = engine.configs.set_defaults(command.queue, STANDARD)
    return r.OK


def _get_defaults(engine: Engine, command: c.GetDefaults, now: int, owner: Owner) -> r.Reply:
    engine.queues.check(command.queue)
    said = engine.configs.defaults.get(command.queue, STANDARD)
    backoff = said.backoff if said.shape is None else backoff_view(said.backoff, said.shape)
    view = cr.DefaultsView(
        max_attempts=said.max_attempts, backoff=backoff, ttl=said.ttl, timeout=said.timeout,
        remove_on_complete=said.remove_on_complete, remove_on_fail=said.remove_on_fail,
    )  # fmt: skip
    named = _said(said, _OF_DEFAULTS, STANDARD)
    if said.shape is not None and "backoff" not in named:
        named.append("backoff")
    return cr.DefaultsReply(defaults=view, set=named)


def _set_stalls(engine: Engine, command: c.SetStallConfig, now: int, owner: Owner) -> r.Reply:
    engine.queues.check(command.queue)
    before = engine.configs.stalls.get(command.queue, USUAL)
    rule = _changed(before, command.config or command, _OF_STALLS, USUAL)
    engine.acted = engine.configs.set_stalls(command.queue, rule)
    return r.OK


def _clear_stalls(engine: Engine, command: c.ClearStallConfig, now: int, owner: Owner) -> r.Reply:
    engine.queues.check(command.queue)
    engine.acted = engine.configs.set_stalls(command.queue, USUAL)
    return r.OK


def _get_stalls(engine: Engine, command: c.GetStallConfig, now: int, owner: Owner) -> r.Reply:
    engine.queues.check(command.queue)
    rule, rules = engine.configs.stalls.get(command.queue, USUAL), engine.rules
    view = cr.StallConfigView(
        enabled=rule.enabled, stall_interval=rules.lease if rule.interval is None else rule.interval,
        max_stalls=rules.stalls_max if rule.most is None else rule.most, grace_period=rule.grace,
    )  # fmt: skip
    return cr.StallConfigReply(config=view, set=_said(rule, _OF_STALLS, USUAL))


def _set_dead(engine: Engine, command: c.SetDlqConfig, now: int, owner: Owner) -> r.Reply:
    engine.queues.check(command.queue)
    rule = _changed(engine.configs.dead.get(command.queue, ALL), command.config or command, _OF_DEAD, ALL)
    _say_of_dead(engine, command.queue, rule, now)
    return r.OK


def _say_of_dead(engine: Engine, name: str, rule: DeadRule, now: int) -> None:
    # What is to be read is read before anything is changed.
    begun = engine.auto_retries.begun(engine.archive, name, now) if rule.auto_retry else None
    engine.acted = engine.configs.set_dead(name, rule)
    engine.auto_retries.turn(name, begun)


def _clear_dead(engine: Engine, command: c.ClearDlqConfig, now: int, owner: Owner) -> r.Reply:
    engine.queues.check(command.queue)
    _say_of_dead(engine, command.queue, ALL, now)
    return r.OK


def _get_dead(engine: Engine, command: c.GetDlqConfig, now: int, owner: Owner) -> r.Reply:
    engine.queues.check(command.queue)
    rule = engine.configs.dead.get(command.queue, ALL)
    view = cr.DlqConfigView(
        auto_retry=rule.auto_retry, auto_retry_interval=rule.interval, max_auto_retries=rule.most,
        max_age=rule.max_age, max_entries=rule.max_entries,
    )  # fmt: skip
    return cr.DlqConfigReply(config=view, set=_said(rule, _OF_DEAD, ALL))


HANDLERS: Handlers = {
    c.SetDlqConfig: _set_dead,
    c.ClearDlqConfig: _clear_dead,
    c.GetDlqConfig: _get_dead,
    c.SetDefaults: _set_defaults,
    c.ClearDefaults: _clear_defaults,
    c.GetDefaults: _get_defaults,
    c.SetStallConfig: _set_stalls,
    c.ClearStallConfig: _clear_stalls,
    c.GetStallConfig: _get_stalls,
}
