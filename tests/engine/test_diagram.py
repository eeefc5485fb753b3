"""docs/state-machine.md shows the table of moves; after a change `python -m tests.engine.test_diagram` writes it anew."""

from pathlib import Path

from bunqueue_trio.engine.job import TRANSITIONS, State

PAGE = Path(__file__).resolve().parents[2] / "docs" / "state-machine.md"

WHY = {
    (State.NEW, State.WAITING): "push",
    (State.NEW, State.DELAYED): "push with delay, next run of a series",
    (State.NEW, State.WAITING_CHILDREN): "push with open dependsOn",
    (State.WAITING, State.ACTIVE): "pull",
    (State.WAITING, State.REMOVED): "cancel, ttl",
    (State.DELAYED, State.WAITING): "delay or backoff over, promote",
    (State.DELAYED, State.REMOVED): "cancel, ttl",
    (State.WAITING_CHILDREN, State.WAITING): "all dependencies completed",
    (State.WAITING_CHILDREN, State.DELAYED): "all completed before the delay is over",
    (State.WAITING_CHILDREN, State.FAILED): "a dependency cannot complete",
    (State.WAITING_CHILDREN, State.REMOVED): "cancel, ttl",
    (State.ACTIVE, State.WAITING): "stall, connection closed, retry without backoff",
    (State.ACTIVE, State.DELAYED): "fail or timeout, attempts left",
    (State.ACTIVE, State.COMPLETED): "ack",
    (State.ACTIVE, State.FAILED): "no attempts left, given up, one stall too many",
    (State.ACTIVE, State.REMOVED): "cancel",
    (State.COMPLETED, State.REMOVED): "retention, id pushed again",
    (State.FAILED, State.REMOVED): "removeOnFail, retention, id pushed again, retried (a new push)",
}

HEAD = """# The states of a job

Every move a job can make; the table is `TRANSITIONS` in `src/bunqueue_trio/engine/job.py`, and `Moves._move` makes
no other. `failed` is the dead-letter queue. `removed` is no state that anybody sees: the job is gone.

This page is generated from the table (`python -m tests.engine.test_diagram`); a test compares the two.

```mermaid
stateDiagram-v2
"""


def name(state: State) -> str:
    return state.value.replace("-", "_")


def page() -> str:
    lines = [f'    state "{state.value}" as {name(state)}' for state in State if "-" in state.value]
    for before in State:
        for after in State:
            if after in TRANSITIONS[before]:
                start = "[*]" if before is State.NEW else name(before)
                end = "[*]" if after is State.REMOVED else name(after)
                lines.append(f"    {start} --> {end}: {WHY[before, after]}")
    return HEAD + "\n".join(lines) + "\n```\n"


def test_the_diagram_shows_exactly_the_legal_moves():
    assert PAGE.read_text() == page(), "the table has changed: write the page anew"


def test_every_move_has_a_reason_and_every_reason_a_move():
    assert set(WHY) == {(before, after) for before, targets in TRANSITIONS.items() for after in targets}


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page())
