"""The chaos trial in small: a round of each kind on real processes; and its books notice what is lost or doubled."""

import random
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from tests.programs import run_to_its_end
from trials.lib.postgres import why_not

pytest.importorskip("psycopg", reason="psycopg is not installed")

from trials.chaos.clients import Books, Crowd
from trials.chaos.command import SHARES, kinds_of, summary
from trials.chaos.rounds import Round, Trial

SCRIPT = Path(__file__).parents[1] / "scripts" / "chaos.py"
JOB, ENDED, UNKNOWN = ("one", b"1"), ("two", b"2", "completed"), ("three", b"3")


@pytest.mark.slow
@pytest.mark.timeout(900)  # 40 s on a quiet machine
def test_whatever_becomes_of_servers_and_their_database_nothing_answered_is_lost_or_done_twice(tmp_path: Path):
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    command = [sys.executable, SCRIPT, "--rounds", str(len(SHARES)), "--clients", "6", "--jobs", "1000"]
    done = run_to_its_end(command, within_s=890, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(f"| {kind} | 1 |" in done.stdout for kind in SHARES), done.stdout


def breaches(waiting: list[Any], ended: list[Any], **changes: Any) -> list[str]:
    """Return what is found where two pushes and an ack were answered, and the database holds these rows."""

    async def check() -> list[str]:
        books = Books("q", pushed={"one": 1, "two": 2}, acked={"two": "t"})
        books.tokens["two"].add("t")
        crowd = Crowd([1], 2, random.Random(1))
        crowd.heard.update(["one", "two", "three"])
        for name, change in changes.items():
            change(books if hasattr(books, name) else crowd)
        trial = Trial(SimpleNamespace(ask=lambda text: waiting if "bq.job" in text else ended), crowd, random.Random(1))  # type: ignore[arg-type]
        return await trial._check(books)

    return trio.run(check)


def test_what_is_as_it_was_said_is_no_breach():
    assert breaches([JOB], [ENDED]) == []
    assert breaches([JOB, UNKNOWN], [ENDED]) == [], "a push whose answer was lost may be there"


@pytest.mark.parametrize(
    ("said", "waiting", "ended", "changes"),
    [
        ("one was pushed, and is lost", [], [ENDED], {}),
        ("two was acknowledged, and has not ended", [JOB, ENDED[:2]], [], {}),
        ("push 1 has made 2 jobs", [JOB, ("three", b"1")], [ENDED], {}),
        ("two had the tokens", [JOB], [ENDED], {"tokens": lambda books: books.tokens["two"].add("u")}),
        ("one was heard of 2 times", [JOB], [ENDED], {"heard": lambda crowd: crowd.heard.update(["one"])}),
        ("refused", [JOB], [ENDED], {"acked": lambda books: books.strange.append("refused")}),
    ],
)
def test_what_is_lost_or_doubled_is_found(said: str, waiting: list[Any], ended: list[Any], changes: dict[str, Any]):
    [found] = breaches(waiting, ended, **changes)
    assert found.startswith(said)


def test_each_kind_of_round_comes_once_and_then_by_chance():
    kinds = kinds_of(30, random.Random(1), [])
    assert (len(kinds), set(kinds[: len(SHARES)])) == (30, set(SHARES))
    assert kinds_of(3, random.Random(1), ["kill"]) == ["kill"] * 3
    rounds = [Round(n, "kill", 10, 1, float(n), 1, ["lost"] if n == 3 else []) for n in range(1, 4)]
    assert summary(rounds) == [["kill", "3", "30", "3", "2.0", "3.0", "3.0", "3", "1"]]


def test_books_know_what_was_not_answered_and_for_how_long():
    async def main() -> None:
        books = Books("q")
        books.told.update({"push 200": 3, "push 503": 2, "ack Lost": 1})
        assert books.failed == 3
        books.last -= 5
        books.note_push("a", 1)
        assert 5 <= books.longest_s < 6

    trio.run(main)
