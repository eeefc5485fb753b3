"""The operator of the crash test: what it says of a queue, a worker and an error, one act after the other, and what must be there of it.

Every act changes something, so it leaves one line in the log of acts. What a kill leaves of them is a beginning: the log has the first
acts and no others, and each fact is what the last of those has made of it.
"""

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from bunqueue_trio.testing.client import Body, Peer

WORKER = "crash-worker"
# Far away, and another each time.
LATER_MS = 4_000_000_000_000
# A pause of the queue that all work on: over before a server is up again.
BREATH_MS = 60
# Acts are few beside jobs.
PACE_S = 0.01
PAGE = 1000


@dataclass(frozen=True)
class Knob:
    """Something that an operator sets, each time to another value, and clears."""

    name: str
    sets: str
    says: Callable[[int], Body]
    clears: str
    reads: str
    value: Callable[[Body], object]
    """What was set, in an answer to `reads`; None: nothing is."""
    means: Callable[[Body], object]
    """The same, in what was said."""


def _said(name: str, view: str) -> Callable[[Body], object]:
    return lambda answer: answer[view][name] if name in answer["set"] else None


KNOBS = (
    Knob(
        "pause", "Pause", lambda n: {"reason": f"reason {n}"} | ({"until": LATER_MS + n} if n % 2 else {}), "Resume",
        "IsPaused", lambda a: (a["reason"], a["until"]) if a["paused"] else None,
        lambda said: (said["reason"], said.get("until")),
    ),
    Knob(
        "concurrency", "SetConcurrency", lambda n: {"concurrency": n}, "ClearConcurrency",
        "GetConcurrency", lambda a: a["concurrency"], lambda said: said["concurrency"],
    ),
    Knob(
        "rate limit", "RateLimit", lambda n: {"limit": n, "duration": 60_000}, "RateLimitClear",
        "GetRateLimit", lambda a: a["limit"], lambda said: said["limit"],
    ),
    Knob(
        "defaults", "SetDefaults", lambda n: {"timeout": n}, "ClearDefaults",
        "GetDefaults", _said("timeout", "defaults"), lambda said: said["timeout"],
    ),
    Knob(
        "stall rule", "SetStallConfig", lambda n: {"gracePeriod": n}, "ClearStallConfig",
        "GetStallConfig", _said("gracePeriod", "config"), lambda said: said["gracePeriod"],
    ),
    Knob(
        "rule for dead letters", "SetDlqConfig", lambda n: {"maxEntries": 1000 + n}, "ClearDlqConfig",
        "GetDlqConfig", _said("maxEntries", "config"), lambda said: said["maxEntries"],
    ),
)  # fmt: skip
QUIET, MARK, BREATH = "quiet worker", "mark", "pause of all"
MARKS = ("fixed", "muted")


@dataclass(eq=False)
class Deed:
    """One act: what it sets to which value, None for nothing; when it was sent, and when known to have happened."""

    knob: str
    command: str
    value: object
    sent: float
    answered: float = math.inf


@dataclass
class Acts:
    """All that the operator of a round knows."""

    queue: str
    busy: str
    """The queue that all work on."""
    deeds: list[Deed] = field(default_factory=list)
    fingerprint: str = ""
    """Of the error that it marks."""
    strange: list[str] = field(default_factory=list)
    """What no server should have said."""
    first: str = ""
    """The job that was discarded before all of them: its line is where the round begins in the log."""

    def after(self, count: int) -> dict[str, object]:
        """Return the facts that the first deeds leave; those that are not set are left out."""
        facts = {deed.knob: deed.value for deed in self.deeds[:count]}
        return {knob: value for knob, value in facts.items() if value is not None and knob != BREATH}


@dataclass
class ActsFound:
    """What a server that came back says of them."""

    log: list[str] = field(default_factory=list)
    """The commands of the acts in the log, in their order."""
    facts: dict[str, object] = field(default_factory=dict)
    leaks: list[str] = field(default_factory=list)
    """What was delivered though something forbids it."""


async def operate(peer: Peer, acts: Acts, rng: random.Random) -> None:
    """Say one thing after the other of a queue of its own, a worker and an error; all work on another queue, which it stops for moments."""
    facts: dict[str, object] = {}
    await peer.call("RegisterWorker", workerId=WORKER, queues=[acts.queue])
    acts.first, group = await _discard(peer, acts.queue)
    acts.fingerprint = group["fingerprint"]
    number = 0
    while True:
        number += 1
        name = rng.choice([*(knob.name for knob in KNOBS), QUIET, MARK, BREATH])
        command, value, fields = _draw(acts, name, facts.get(name), number)
        deed = Deed(name, command, value, time.monotonic())
        acts.deeds.append(deed)
        answer = await peer.call(command, **fields)
        if answer["ok"]:
            deed.answered = time.monotonic()
            facts[name] = value
        else:
            acts.deeds.remove(deed)
            if answer.get("code") != "until-is-past":
                acts.strange.append(f"{command} is refused: {answer}")
        await trio.sleep(rng.random() * PACE_S)


def _draw(acts: Acts, name: str, was: object, number: int) -> tuple[str, object, Body]:
    """Return a command that changes something, what is so after it, and its fields."""
    if name == BREATH:
        # A second one has another end, which is a change.
        return "Pause", number, {"queue": acts.busy, "until": int(time.time() * 1000) + BREATH_MS + number}
    if name == QUIET:
        return ("QuietWorker", True, {"id": WORKER}) if was is None else ("UnquietWorker", None, {"id": WORKER})
    if name == MARK:
        mark = None if was is not None and number % 3 == 0 else MARKS[was == MARKS[0]]
        return "MarkGroup", mark, {"fingerprint": acts.fingerprint, "mark": mark or "none"}
    knob = next(knob for knob in KNOBS if knob.name == name)
    if was is not None and number % 3 == 0:
        return knob.clears, None, {"queue": acts.queue}
    said = knob.says(number)
    return knob.sets, knob.means(said), {"queue": acts.queue, **said}


async def _discard(peer: Peer, queue: str) -> tuple[str, Body]:
    """Discard a job; return its id, and the group of dead letters in which it is then."""
    pushed = await peer.call("PUSH", queue=queue, data=0)
    await peer.call("Discard", id=pushed["id"])
    groups: list[Body] = (await peer.call("DlqGroups", queue=queue))["groups"]
    return pushed["id"], groups[0]


async def look(peer: Peer, acts: Acts) -> ActsFound:
    """Ask a server that has come back for all acts and facts of the round, and take back what outlives its queue."""
    found = ActsFound()
    if not acts.deeds:
        return found
    found.log = [entry["command"] for entry in reversed(await _lines(peer, acts))]
    for knob in KNOBS:
        value = knob.value(await peer.call(knob.reads, queue=acts.queue))
        found.facts |= {} if value is None else {knob.name: value}
    workers = (await peer.call("ListWorkers", limit=PAGE))["data"]["workers"]
    if any(worker["id"] == WORKER and worker["quietSince"] is not None for worker in workers):
        found.facts[QUIET] = True
    _, group = await _discard(peer, acts.queue)
    if group["mark"] is not None:
        found.facts[MARK] = group["mark"]
    await peer.call("PUSH", queue=acts.queue, data=0)
    for owner, facts in ((WORKER, {"pause", QUIET}), ("anybody", {"pause"})):
        forbidden = facts & found.facts.keys()
        if (await peer.call("PULL", queue=acts.queue, owner=owner))["job"] is not None and forbidden:
            found.leaks.append(f"a job is delivered to {owner} in spite of {' and '.join(sorted(forbidden))}")
    await peer.call("Obliterate", queue=acts.queue, force=True)
    await peer.call("UnquietWorker", id=WORKER)
    await peer.call("MarkGroup", fingerprint=acts.fingerprint, mark="none")
    return found


async def _lines(peer: Peer, acts: Acts) -> list[Body]:
    """Return what the log of acts has of the round, newest first; nothing if not even its first line is there."""
    mine: list[Body] = []
    page: Body = {"next": None}
    while True:
        after = {} if page["next"] is None else {"after": page["next"]}
        page = await peer.call("Actions", limit=PAGE, **after)
        for entry in page["actions"]:
            if entry["job"] == acts.first:
                return mine
            is_mine = entry["queue"] in (acts.queue, acts.busy) or entry["worker"] == WORKER
            if is_mine or entry["fields"].get("fingerprint") == acts.fingerprint:
                mine.append(entry)
        if page["next"] is None:
            return []


def judge(acts: Acts, found: ActsFound, sure: float) -> tuple[list[str], list[Deed]]:
    """Return what is wrong with the acts, of which all that were answered before `sure` must be there, and which are not."""
    count, breaches = len(found.log), found.leaks + acts.strange
    asked = [deed.command for deed in acts.deeds]
    if found.log != asked[:count]:
        at = next((i for i, pair in enumerate(zip(found.log, asked, strict=False)) if pair[0] != pair[1]), len(asked))
        breaches.append(
            f"act {at + 1} of the log is {found.log[at]}, and was {'none' if at >= len(asked) else asked[at]}"
        )
    missing = [deed for deed in acts.deeds[count:] if deed.answered < math.inf]
    breaches += [
        f"{deed.command} was answered, and is not in the log of acts" for deed in missing if deed.answered < sure
    ]
    expected = acts.after(count)
    for name in sorted(expected.keys() | found.facts.keys()):
        if found.facts.get(name) != expected.get(name):
            breaches.append(
                f"the {name} is {found.facts.get(name)}, and {expected.get(name)} after the last of {count} acts in the log"
            )
    return breaches, missing
