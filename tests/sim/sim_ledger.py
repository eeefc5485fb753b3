"""What clients were answered, held against what is on the disk: the view from outside, which knows no engine.

Each method is called by a peer in the moment it learns something, and fails the run when that is not a fact.
"""

import json
from collections.abc import Callable
from typing import NamedTuple

from bunqueue_trio.storage.store import Batch
from tests.sim.peer import Answer
from tests.sim.sim_disk import Platter


class Delivery(NamedTuple):
    """A job in the hands of a worker; ``nonce`` tells pushes of one id apart."""

    id: str
    nonce: int
    token: str


class Ledger:
    """All answers that bind the server."""

    def __init__(self, platter: Platter, fail: Callable[[str], None]) -> None:
        self._platter = platter
        self._fail = fail
        self.pushed: set[str] = set()
        self._acked: dict[tuple[str, int], str] = {}
        """The token that each acked push was acked with; tokens rise."""
        self._given_up: dict[tuple[str, int], str] = {}
        """The same of those that were failed for good."""
        self._bulks: dict[int, set[int]] = {}
        """By its nonce, each job of a bulk push that is not on the disk: the nonces of all jobs of that push."""
        self.answers = 0
        self.deliveries = 0
        platter.on_batch.append(self._note)

    @property
    def acked(self) -> int:
        return len(self._acked)

    def heard(self, cmd: str, answer: Answer) -> None:
        """Any answer at all: it is one of those that are documented."""
        self.answers += 1
        status = answer.get("status", 200 if answer.get("ok") else 400)  # over WebSocket there is none
        if status not in (200, 400, 404, 409, 429, 503) or answer.get("ok") is not (status == 200):
            self._fail(f"{cmd} is answered {answer}")

    def bulk_asked(self, nonces: set[int]) -> None:
        """A bulk push is under way, with jobs of these nonces for which no other can stand."""
        self._bulks |= dict.fromkeys(nonces, nonces)

    def _note(self, batch: Batch) -> None:
        """Hear of a commit: it has all jobs of a bulk push, or none."""
        bodies = (body for body, event in zip(batch.events, batch.heard, strict=True) if event.event_type == "pushed")
        here = {data["n"] for body in bodies if (data := json.loads(body)["data"]) and "n" in data}
        for nonce in here & self._bulks.keys():
            missing = self._bulks.pop(nonce) - here
            if missing:
                self._fail(f"{nonce} and {missing} are of one bulk push, and not in one commit")

    def push_answered(self, job_id: str, *, durable: bool) -> None:
        self.pushed.add(job_id)
        if job_id not in self._platter.pushed:
            self._fail(f"the push of {job_id} is answered, and not committed")
        elif durable and job_id not in self._platter.synced:
            self._fail(f"the durable push of {job_id} is answered, and not fsynced")

    def delivered(self, delivery: Delivery) -> None:
        self.deliveries += 1
        if delivery.id not in self._platter.pushed:
            self._fail(f"{delivery.id} is delivered, and its push not committed")
        # A slow reader may hear late of a lease that ended before the one that was acked began.
        if delivery.token > self._acked.get(delivery[:2], delivery.token):
            self._fail(f"{delivery.id} is delivered again, though its ack was answered")
        if delivery.token > self._given_up.get(delivery[:2], delivery.token):
            self._fail(f"{delivery.id} is delivered again, though its failure for good was answered")

    def ack_answered(self, delivery: Delivery) -> None:
        if delivery[:2] in self._acked:
            self._fail(f"a second ack of {delivery.id} is answered well")
        self._acked[delivery[:2]] = delivery.token
        if not self._platter.completed.get(delivery.id):
            self._fail(f"the ack of {delivery.id} is answered, and not committed")

    def failure_for_good_answered(self, delivery: Delivery) -> None:
        self._given_up[delivery[:2]] = delivery.token

    def lie_answered(self, what: str, answer: Answer) -> None:
        """An ack that no honest worker would send was answered."""
        if answer["ok"]:
            self._fail(f"{what} is accepted: {answer}")

    def end_answered(self, what: str, job_id: str) -> None:
        """A cancellation was answered well."""
        if job_id not in self._platter.ended:
            self._fail(f"{what} of {job_id} is answered, and not committed")

    def line_answered(self, job_id: str, message: str) -> None:
        """A line in the log of a job was answered well."""
        if message not in self._platter.written:
            self._fail(f"the line {message!r} in the log of {job_id} is answered, and not committed")

    def check_start(self, known: set[str]) -> None:
        """A process has loaded the jobs ``known``: with those that have ended, that is all there ever was."""
        lost = sorted(self.pushed - known - set(self._platter.ended))
        if lost:
            self._fail(f"answered pushes are missing after a start: {lost}")
