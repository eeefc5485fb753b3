"""Which queues have settings of their own and nothing else, and since when; after as long as ended jobs are kept the settings go, too.

What was said of a queue would be kept for ever otherwise, also of one whose name was a slip. A pause or a limit stays: somebody has
said that jobs must wait, and jobs that come after a year have to. So do the settings of a queue to which a schedule brings jobs, or whose name
a worker has given that is there. A job that comes, and whatever is said of the queue, is noted at once and in the same commit (``Configs.note_use``):
it may be gone before the next look.
"""

from itertools import islice

import msgspec

from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.workers import is_there

# Looked at in one step, 1 µs each.
_SLICE = 500
_names = msgspec.json.Decoder(list[str]).decode


def forget_idle(engine: Engine, after: str, now: int, age: float) -> tuple[str, list[str]]:
    """Look at some of the queues with settings behind ``after``, by name; return where to go on, and which were forgotten."""
    configs = engine.configs
    names, old = list(islice(configs.names.after(after), _SLICE)), list[str]()
    brought = {plan.queue for plan in engine.planner.plans.values()} if names else set[str]()
    for name in names:
        since = configs.idle.get(name)
        if name in brought or _is_used(engine, name):
            configs.note_use(name)
        elif since is None:
            configs.note_idle(name, now)
        elif since <= now - age:
            old.append(name)
    asked = _asked(engine, now) if old else set[str]()
    for name in asked.intersection(old):
        configs.note_use(name)
    gone = [name for name in old if name not in asked]
    for name in gone:
        configs.drop(name)
        engine.auto_retries.turn(name, None)
    return (names[-1] if len(names) == _SLICE else ""), gone


def _is_used(engine: Engine, name: str) -> bool:
    queue = engine.queues.get(name)
    if queue is not None and not queue.is_empty:
        return True
    return any(engine.archive.kept_of(name)) or name in engine.gates or bool(engine.pulls_waiting.get(name))


def _asked(engine: Engine, now: int) -> set[str]:
    """Return the queues that workers have named that are there: 5 ms for ten thousand of them, and looked at only where settings would go."""
    there = [worker for worker in engine.workers.values() if is_there(worker, now)]
    return {name for worker in there for name in (worker.asked, *_names(worker.queues))}
