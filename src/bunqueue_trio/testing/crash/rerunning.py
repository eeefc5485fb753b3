"""The rerun of the crash test: dead letters of a queue of its own that are retried a few first, and what must be there of it.

What a rerun says of itself has to agree with its jobs, whenever the server was killed: how many it has retried, how many of those
have not ended, and how many died again.
"""

import math
import random
import time
from dataclasses import dataclass, field

from bunqueue_trio.testing.client import Body, Peer
from bunqueue_trio.testing.crash.operating import Deed

DEAD = 12
FIRST = 4
"""Those that are retried at first."""
RATE = 100
TAKEN = 3
POLL_MS = 100
LEASE_MS = 60_000
BEFORE, AGAIN = "before", "again"
"""What the jobs die of, before the rerun and in it."""
GONE = "gone"
_UNFINISHED = ("waiting", "active")


@dataclass
class Retried:
    """All that is known of the rerun of a round."""

    queue: str
    ids: list[str] = field(default_factory=list)
    died: Deed | None = None
    """The report of their first failures."""
    begun: Deed | None = None
    ends: list[Deed] = field(default_factory=list)
    """Of the jobs that it has retried, by their ids as values."""
    strange: list[str] = field(default_factory=list)
    """What no server should have said."""

    @property
    def deeds(self) -> list[Deed]:
        """All of them."""
        return [*([self.died] if self.died else []), *([self.begun] if self.begun else []), *self.ends]


@dataclass
class RetriedFound:
    """What a server that came back says of it."""

    view: "Body | None" = None
    """The rerun, which was stopped before it was looked at."""
    states: dict[str, str] = field(default_factory=dict)
    errors: dict[str, str | None] = field(default_factory=dict)


async def retry(peer: Peer, book: Retried, rng: random.Random) -> None:
    """Let jobs die, let the server retry them, and work on those."""
    await peer.call("PUSHB", queue=book.queue, jobs=[{"data": n, "maxAttempts": 1} for n in range(DEAD)])
    taken = await peer.call("PULLB", queue=book.queue, count=DEAD, lockTtl=LEASE_MS)
    book.ids = [job["id"] for job in taken["jobs"]]
    failures = [
        {"id": job_id, "token": token, "error": BEFORE} for job_id, token in zip(book.ids, taken["tokens"], strict=True)
    ]
    book.died = Deed("rerun", "FAILB", None, time.monotonic())
    _done(book, book.died, await peer.call("FAILB", failures=failures))
    book.begun = Deed("rerun", "RerunDlq", None, time.monotonic())
    how = {"count": FIRST, "rate": RATE, "stopAt": rng.choice((0, 50, 100)), "force": True}
    _done(book, book.begun, await peer.call("RerunDlq", filter={"queue": book.queue}, **how))
    while True:
        taken = await peer.call("PULLB", queue=book.queue, count=TAKEN, timeout=POLL_MS, lockTtl=LEASE_MS)
        for job, token in zip(taken["jobs"], taken["tokens"], strict=True):
            command, more = ("FAIL", {"error": AGAIN}) if rng.random() < 0.1 else ("ACK", {})
            deed = Deed("rerun", command, job["id"], time.monotonic())
            book.ends.append(deed)
            _done(book, deed, await peer.call(command, id=job["id"], token=token, **more))


def _done(book: Retried, deed: Deed, answer: Body) -> None:
    if answer["ok"]:
        deed.answered = time.monotonic()
    else:
        book.strange.append(f"{deed.command} is refused: {answer}")


async def look(peer: Peer, book: Retried) -> RetriedFound:
    """Stop the rerun, and ask for it and all of its jobs; then remove these."""
    found = RetriedFound()
    for view in (await peer.call("ListReruns"))["reruns"]:
        if view["filter"].get("queue") == book.queue:
            # Else it would go on while it is looked at.
            found.view = (await peer.call("StopRerun", rerun=view["id"]))["rerun"]
    for job_id in book.ids:
        answer = await peer.call("GetState", id=job_id)
        found.states[job_id] = answer["state"] if answer["ok"] else GONE
        found.errors[job_id] = answer["error"] if answer["ok"] else None
    await peer.call("Obliterate", queue=book.queue, force=True)
    return found


def _is_there(deed: Deed, book: Retried, found: RetriedFound) -> bool:
    """Return whether what was done can be seen."""
    if deed is book.died:
        return all(found.states[job_id] != GONE and found.errors[job_id] is not None for job_id in book.ids) or (
            found.view is not None
        )
    if deed is book.begun:
        return found.view is not None
    job_id = str(deed.value)
    if deed.command == "ACK":
        return found.states[job_id] == "completed"
    return found.states[job_id] == "failed" and found.errors[job_id] == AGAIN


def there(book: Retried, found: RetriedFound) -> list[Deed]:
    """Return what certainly has happened."""
    return [deed for deed in book.deeds if _is_there(deed, book, found)]


def judge(book: Retried, found: RetriedFound, sure: float) -> tuple[list[str], list[Deed]]:
    """Return what is wrong with the rerun, of which all that was answered before `sure` must be there, and what is not."""
    missing = [deed for deed in book.deeds if deed.answered < math.inf and not _is_there(deed, book, found)]
    breaches = [f"{deed.command} of a rerun was answered, and is not there" for deed in missing if deed.answered < sure]
    unfinished = [job_id for job_id, state in found.states.items() if state in _UNFINISHED]
    again = [job_id for job_id, error in found.errors.items() if found.states[job_id] == "failed" and error == AGAIN]
    completed = [job_id for job_id, state in found.states.items() if state == "completed"]
    view = found.view
    if view is None:
        breaches += [f"retried by nobody: {job_id}" for job_id in (*again, *completed)]
        return [*book.strange, *breaches], missing
    said = {"retried": view["retried"], "open": view["open"], "died": view["died"]}
    seen = {"retried": len(unfinished) + len(again) + len(completed), "open": len(unfinished), "died": len(again)}
    if said != seen:
        breaches.append(f"a rerun says {said} of itself, and its jobs {seen}")
    if view["stopAt"] == 0 and again and not (view["why"] or "").startswith("by then"):
        breaches.append(f"a rerun has not stopped, though {len(again)} of its jobs died again: {view['why']}")
    if view["stopAt"] == 0 and again and not completed and view["retried"] > FIRST:
        breaches.append(f"a rerun has retried {view['retried']}, though the first died again")
    return [*book.strange, *breaches], missing
