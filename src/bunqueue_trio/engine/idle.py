"""Which queues have settings of their own and nothing else, and since when; after as long as ended jobs are kept the settings go, too.

What was said of a queue would be kept for ever otherwise, also of one whose name was a slip. A pause or a limit stays: somebody has
said that jobs must wait, and jobs that come after a year have to. So do the settings of a queue to which a schedule brings jobs.
"""

from itertools import islice

from bunqueue_trio.engine.configs import IDLE
from bunqueue_trio.engine.engine import Engine

# Looked at in one step, 1 µs each.
_SLICE = 500


def forget_idle(engine: Engine, after: str, now: int, age: float) -> tuple[str, list[str]]:
    """Look at some of the queues with settings behind ``after``, by name; return where to go on, and which were forgotten."""
    names, gone = list(islice(engine.configs.names.after(after), _SLICE)), list[str]()
    brought = {plan.queue for plan in engine.planner.plans.values()} if names else set[str]()
    facts = engine.facts
    for name in names:
        since = facts.get(IDLE, name)
        if name in brought or _is_used(engine, name):
            if since is not None:
                facts.delete(IDLE, name)
        elif since is None:
            facts.set(IDLE, name, b"%d" % now)
        elif int(since) <= now - age:
            engine.configs.drop(name)
            engine.auto_retries.turn(name, None)
            gone.append(name)
    return (names[-1] if len(names) == _SLICE else ""), gone


def _is_used(engine: Engine, name: str) -> bool:
    queue = engine.queues.get(name)
    if queue is not None and any(queue.counts.values()):
        return True
    return any(engine.archive.kept_of(name)) or name in engine.gates or bool(engine.pulls_waiting.get(name))
