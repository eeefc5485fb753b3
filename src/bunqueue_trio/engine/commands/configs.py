"""Handlers of the commands about how a queue treats its jobs where neither a push nor a pull says it."""

from bunqueue_trio.engine.configs import STANDARD, DeadRule, Defaults, StallRule
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.handler import Handlers, Owner
from bunqueue_trio.engine.lookup import backoff_view
from bunqueue_trio.engine.options import backoff_of
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import config_replies as cr
from bunqueue_trio.protocol import replies as r


def _set_defaults(engine: Engine, command: c.SetDefaults, now: int, owner: Owner) -> r.Reply:
    engine.queues.check(command.queue)
    backoff, shape = (STANDARD.backoff, None) if command.backoff is None else backoff_of(command.backoff)
    defaults = Defaults(
        max_attempts=STANDARD.max_attempts if command.max_attempts is None else command.max_attempts,
        backoff=backoff, shape=shape, ttl=command.ttl, timeout=command.timeout or None,
        remove_on_complete=bool(command.remove_on_complete), remove_on_fail=bool(command.remove_on_fail),
    )  # fmt: skip
    engine.acted = engine.configs.set_defaults(command.queue, defaults)
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
    return cr.DefaultsReply(defaults=view)


def _set_stalls(engine: Engine, command: c.SetStallConfig, now: int, owner: Owner) -> r.Reply:
    engine.queues.check(command.queue)
    said = command.config or command
    rule = StallRule(said.enabled is not False, said.stall_interval, said.max_stalls, said.grace_period or 0)
    engine.acted = engine.configs.set_stalls(command.queue, rule)
    return r.OK


def _get_stalls(engine: Engine, command: c.GetStallConfig, now: int, owner: Owner) -> r.Reply:
    engine.queues.check(command.queue)
    rule, rules = engine.configs.stalls.get(command.queue, StallRule()), engine.rules
    view = cr.StallConfigView(
        enabled=rule.enabled, stall_interval=rules.lease if rule.interval is None else rule.interval,
        max_stalls=rules.stalls_max if rule.most is None else rule.most, grace_period=rule.grace,
    )  # fmt: skip
    return cr.StallConfigReply(config=view)


def _set_dead(engine: Engine, command: c.SetDlqConfig, now: int, owner: Owner) -> r.Reply:
    engine.queues.check(command.queue)
    said = command.config or command
    if said.auto_retry:
        raise c.NO_AUTO_RETRY.refuse()
    engine.acted = engine.configs.set_dead(command.queue, DeadRule(said.max_age, said.max_entries))
    return r.OK


def _get_dead(engine: Engine, command: c.GetDlqConfig, now: int, owner: Owner) -> r.Reply:
    engine.queues.check(command.queue)
    rule = engine.configs.dead.get(command.queue, DeadRule())
    return cr.DlqConfigReply(config=cr.DlqConfigView(max_age=rule.max_age, max_entries=rule.max_entries))


HANDLERS: Handlers = {
    c.SetDlqConfig: _set_dead,
    c.GetDlqConfig: _get_dead,
    c.SetDefaults: _set_defaults,
    c.ClearDefaults: _clear_defaults,
    c.GetDefaults: _get_defaults,
    c.SetStallConfig: _set_stalls,
    c.GetStallConfig: _get_stalls,
}
